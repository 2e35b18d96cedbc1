/* Paths of the published event, resolved against the schema: cold code, for whoever loads a configuration. */
#include "codecs/codec_internal.h"
#include "codecs/field.h"

static struct slice field_member_name(const struct codec_member *member)
{
        return slice_of(member->json + 2, member->json_bytes - 4u);
}

static void field_hint_name(struct codec_field_hint *hint, struct slice name)
{
        const uint32_t room = sizeof(hint->names) / sizeof(hint->names[0]);
        if (hint->names_count == room || !slice_to_text(name, hint->room[hint->names_count], sizeof(hint->room[0])))
                return;
        hint->names[hint->names_count] = hint->room[hint->names_count];
        hint->names_count++;
}

static void field_hint_schema(struct codec_field_hint *hint, const struct codec_schema *schema)
{
        for (unsigned key = 1; key < schema->keys_end; key++)
                field_hint_name(hint, field_member_name(&schema->members[key]));
}

/* What is known while a path is read from left to right. */
struct field_search {
        struct slice path, rest; /* rest.ptr NULL: the path has ended */
        struct codec_field *field;
        struct codec_field_hint *hint;
        uint32_t steps;
};

/* The next name; what lies before it is known. */
static struct slice field_next(struct field_search *search)
{
        size_t before = (size_t)(search->rest.ptr - search->path.ptr);
        search->hint->parent = slice_head(search->path, before == 0 ? 0 : before - 1);
        search->hint->part = slice_cut(&search->rest, '.');
        return search->hint->part;
}

static enum codec_field_kind field_end(const struct field_search *search)
{
        return search->rest.ptr == NULL ? CODEC_FIELD_IS_VALUE : CODEC_FIELD_IS_BELOW_VALUE;
}

static void field_step(struct field_search *search, unsigned key)
{
        if (search->steps < CODEC_FIELD_STEPS_MAX) /* the schema is not deeper */
                search->field->keys[search->steps] = (uint8_t)key;
        search->steps++;
}

/* The list of maps that ends here is the one whose elements paths may share. */
static void field_list(struct field_search *search)
{
        size_t bytes = search->rest.ptr == NULL ? search->path.len : (size_t)(search->rest.ptr - search->path.ptr) - 1;
        search->field->list_bytes = bytes > UINT8_MAX ? UINT8_MAX : (uint8_t)bytes;
}

/* One of two names, as maps in lists have them that are pairs in the event. */
static enum codec_field_kind field_pair(struct field_search *search, struct slice first, struct slice second)
{
        field_list(search);
        if (search->rest.ptr == NULL) {
                field_hint_name(search->hint, first);
                field_hint_name(search->hint, second);
                return CODEC_FIELD_IS_GROUP;
        }
        struct slice name = field_next(search);
        if (!slice_equal(name, first) && !slice_equal(name, second)) {
                field_hint_name(search->hint, first);
                field_hint_name(search->hint, second);
                return CODEC_FIELD_IS_NO_MEMBER;
        }
        field_step(search, slice_equal(name, first) ? 0 : 1);
        return field_end(search);
}

static enum codec_field_kind field_schema(struct field_search *search, const struct codec_schema *schema);

static enum codec_field_kind field_member(struct field_search *search, const struct codec_member *member)
{
        search->field->is_text = member->kind != CODEC_KIND_COUNT && member->kind != CODEC_KIND_FLAG;
        switch ((enum codec_kind)member->kind) {
        case CODEC_KIND_TEXT:
        case CODEC_KIND_TIME:
        case CODEC_KIND_COUNT:
        case CODEC_KIND_FLAG:
        case CODEC_KIND_TEXTS:
                return field_end(search);
        case CODEC_KIND_TAGS: /* the name of a tag has no dots, but what is searched need not be there */
                if (search->rest.ptr == NULL) /* null, where it is not there: a value */
                        return member->absent == NULL ? CODEC_FIELD_IS_GROUP : CODEC_FIELD_IS_VALUE;
                search->field->rest = search->rest;
                return CODEC_FIELD_IS_VALUE;
        case CODEC_KIND_ADDRESSES:
                return field_pair(search, SLICE("emailAddress"), SLICE("emailAddress"));
        case CODEC_KIND_HEADERS:
                return field_pair(search, SLICE("name"), SLICE("value"));
        case CODEC_KIND_TOPICS:
                return field_pair(search, SLICE("topicName"), SLICE("subscriptionStatus"));
        case CODEC_KIND_RECIPIENTS:
                field_list(search);
                return field_schema(search, &codec_schema_recipient);
        case CODEC_KIND_MAP:
                return field_schema(search, member->schema);
        }
        return CODEC_FIELD_IS_NO_MEMBER;
}

/* The member of `schema` that comes next in the path. */
static enum codec_field_kind field_schema(struct field_search *search, const struct codec_schema *schema)
{
        if (search->rest.ptr == NULL) {
                field_hint_schema(search->hint, schema);
                if (schema == &codec_schema_mail)
                        field_hint_name(search->hint, SLICE("tags"));
                if (schema == &codec_schema_common_headers)
                        field_hint_name(search->hint, SLICE("messageId"));
                return CODEC_FIELD_IS_GROUP;
        }
        struct slice name = field_next(search);
        for (unsigned key = 1; key < schema->keys_end; key++) {
                if (!slice_equal(name, field_member_name(&schema->members[key])))
                        continue;
                field_step(search, key);
                return field_member(search, &schema->members[key]);
        }
        if (schema == &codec_schema_common_headers && slice_equal(name, SLICE("messageId"))) {
                search->field->place = CODEC_FIELD_COMMON_MESSAGE_ID;
                search->field->is_text = true;
                return field_end(search);
        }
        field_hint_schema(search->hint, schema);
        if (schema == &codec_schema_common_headers)
                field_hint_name(search->hint, SLICE("messageId"));
        return CODEC_FIELD_IS_NO_MEMBER;
}

/* mail.tags: any name may be a message tag, save those that begin like auto-tags and are none. */
static enum codec_field_kind field_tag(struct field_search *search)
{
        static const char *const others[] = {"ses:configuration-set", "ses:feedback-id-a", "ses:feedback-id-b"};
        if (search->rest.ptr == NULL) {
                field_hint_schema(search->hint, &codec_schema_session);
                return CODEC_FIELD_IS_GROUP;
        }
        search->field->place = CODEC_FIELD_TAG;
        search->field->is_text = true;
        search->field->rest = search->rest;
        if (!slice_has_prefix(search->rest, SLICE("ses:")))
                return CODEC_FIELD_IS_VALUE;
        search->hint->parent = SLICE("mail.tags");
        search->hint->part = search->rest;
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
                field_hint_name(search->hint, slice_of_text(others[i]));
                if (slice_equal(search->rest, slice_of_text(others[i])))
                        return CODEC_FIELD_IS_VALUE;
        }
        for (unsigned key = 1; key < codec_schema_session.keys_end; key++)
                if (slice_equal(search->rest, field_member_name(&codec_schema_session.members[key]))) {
                        field_step(search, key);
                        return CODEC_FIELD_IS_VALUE;
                }
        field_hint_schema(search->hint, &codec_schema_session);
        return CODEC_FIELD_IS_NO_MEMBER;
}

static enum codec_field_kind field_mail(struct field_search *search)
{
        struct slice rest = search->rest;
        if (rest.ptr != NULL && slice_equal(slice_cut(&rest, '.'), SLICE("tags"))) {
                search->rest = rest;
                return field_tag(search);
        }
        search->field->place = CODEC_FIELD_MAIL;
        enum codec_field_kind kind = field_schema(search, &codec_schema_mail);
        if (kind != CODEC_FIELD_IS_NO_MEMBER || search->steps > 0)
                return kind;
        field_hint_name(search->hint, SLICE("tags"));
        return CODEC_FIELD_IS_UNKNOWN;
}

static enum codec_field_kind field_top(struct field_search *search)
{
        struct slice name = field_next(search);
        if (slice_equal(name, SLICE("eventType"))) {
                search->field->place = CODEC_FIELD_EVENT_TYPE;
                search->field->is_text = true;
                return field_end(search);
        }
        if (slice_equal(name, SLICE("mail")))
                return field_mail(search);
        for (unsigned type = 1; type <= CODEC_EVENT_TYPES_COUNT; type++) {
                const struct codec_type *of = &codec_types[type];
                if (!slice_equal(name, slice_of(of->object + 2, of->object_bytes - 4u)))
                        continue;
                search->field->place = CODEC_FIELD_OBJECT;
                search->field->type = (uint8_t)type;
                return field_schema(search, &of->schema);
        }
        field_hint_name(search->hint, SLICE("eventType"));
        field_hint_name(search->hint, SLICE("mail"));
        for (unsigned type = 1; type <= CODEC_EVENT_TYPES_COUNT; type++)
                field_hint_name(search->hint,
                                slice_of(codec_types[type].object + 2, codec_types[type].object_bytes - 4u));
        return CODEC_FIELD_IS_UNKNOWN;
}

enum codec_field_kind codec_field_find(struct slice path, struct codec_field *ret_field,
                                       struct codec_field_hint *ret_hint)
{
        struct codec_field_hint unused;
        struct field_search search = {.path = path, .rest = path, .field = ret_field};
        search.hint = ret_hint != NULL ? ret_hint : &unused;
        *search.hint = (struct codec_field_hint){.names_count = 0};
        *ret_field = (struct codec_field){.path = path};
        enum codec_field_kind kind = field_top(&search);
        if (kind != CODEC_FIELD_IS_VALUE) {
                ret_field->place = CODEC_FIELD_NOWHERE;
                ret_field->list_bytes = 0;
                ret_field->is_text = false;
        }
        return kind;
}
