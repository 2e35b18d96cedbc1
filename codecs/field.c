/* Values of the published event, read without writing it. json_event.c says what is published; the two are held
 * together by a test that compares them over every member (codec_field_test.c). */
#include "codecs/field.h"
#include "codecs/codec_internal.h"

#include "base/assert.h"
#include "base/limits.h"

_Static_assert(CODEC_FIELD_KEYS_MAX >= CODEC_SCHEMA_KEYS_MAX && CODEC_FIELD_KEYS_MAX >= CODEC_SESSION_KEYS,
               "a reader has a place for every key");

/* One call of codec_field_each(). */
struct field_visit {
        struct codec_field_reader *reader;
        const struct codec_field *field;
        codec_field_visit *visit;
        void *context;
};

void codec_field_reader_init(struct codec_field_reader *reader, const struct codec_view *view,
                             const struct codec_json_options *options)
{
        static const struct codec_json_options no_options;
        reader->view = view;
        reader->options = options != NULL ? options : &no_options;
        reader->exhausted = false;
        reader->mail_known = reader->object_known = reader->session_known = false;
        reader->looks_left = CODEC_FIELD_LOOKS_MAX;
        reader->trail_count = 0;
}

void codec_field_reader_renew(struct codec_field_reader *reader)
{
        reader->exhausted = false;
        reader->looks_left = CODEC_FIELD_LOOKS_MAX;
}

/* ---------------------------------------------------------------------------------------------- what lies where */

/* Values of a known map by key; returns what lies behind them, with how many pairs are left. */
static const uint8_t *field_index(const uint8_t *map, const uint8_t **values, uint32_t *ret_left)
{
        const uint8_t *p = map;
        for (uint32_t i = 0; i < CODEC_FIELD_KEYS_MAX; i++)
                values[i] = NULL;
        uint32_t count = codec_trusted_count(&p);
        for (; count > 0 && *p < CODEC_FIELD_KEYS_MAX; count--) {
                unsigned key = *p++;
                values[key] = p;
                codec_trusted_skip(&p);
        }
        *ret_left = count;
        return p;
}

static void field_know_mail(struct codec_field_reader *reader)
{
        if (reader->mail_known)
                return;
        reader->mail_known = true;
        reader->mail_extra = field_index(reader->view->mail.ptr, reader->mail, &reader->mail_extra_count);
}

static void field_know_object(struct codec_field_reader *reader)
{
        static const uint8_t empty_map[1] = {0x80};
        if (reader->object_known)
                return;
        reader->object_known = true;
        uint32_t left;
        (void)field_index(reader->view->object.len > 0 ? reader->view->object.ptr : empty_map, reader->object,
                          &left); /* nothing lies behind known members there */
}

static struct slice field_domain(struct codec_field_reader *reader)
{
        field_know_mail(reader);
        const uint8_t *source = reader->mail[CODEC_MAIL_SOURCE];
        return source == NULL ? SLICE_EMPTY : codec_domain_of(codec_trusted_text(&source));
}

static void field_know_session(struct codec_field_reader *reader)
{
        if (reader->session_known)
                return;
        reader->session_known = true;
        for (uint32_t i = 0; i < CODEC_FIELD_KEYS_MAX; i++)
                reader->session[i] = SLICE_EMPTY;
        if (reader->view->session.len > 0) {
                const uint8_t *p = reader->view->session.ptr;
                for (uint32_t count = codec_trusted_count(&p); count > 0; count--) {
                        uint8_t key = *p++;
                        reader->session[key] = codec_trusted_text(&p);
                }
        }
        if (reader->session[CODEC_SESSION_FROM_DOMAIN].len > 0)
                return;
        struct slice source_domain = field_domain(reader); /* knows mail then */
        reader->session[CODEC_SESSION_FROM_DOMAIN] = codec_from_domain(
                reader->mail[CODEC_MAIL_HEADERS], reader->mail[CODEC_MAIL_COMMON_HEADERS], source_domain);
}

/* ---------------------------------------------------------------------------------------------- visiting */

/* False: enough was looked at; the search must end. */
static bool field_look(struct codec_field_reader *reader)
{
        if (__builtin_expect(reader->looks_left == 0, 0)) {
                reader->exhausted = true;
                return false;
        }
        reader->looks_left--;
        return true;
}

/* Steps over unknown members, which may be large: they count by their bytes. */
static void field_skip(struct codec_field_reader *reader, const uint8_t **p)
{
        const uint8_t *from = *p;
        codec_trusted_skip(p);
        size_t looks = (size_t)(*p - from) / 32;
        reader->looks_left = looks < reader->looks_left ? reader->looks_left - (uint32_t)looks : 0;
}

static bool field_value(struct field_visit *visit, const struct codec_value *value)
{
        return !field_look(visit->reader) || visit->visit(visit->context, value);
}

static bool field_text(struct field_visit *visit, struct slice text)
{
        struct codec_value value = {.kind = CODEC_VALUE_TEXT, .text = text};
        return field_value(visit, &value);
}

static bool field_constant(struct field_visit *visit, enum codec_value_kind kind)
{
        struct codec_value value = {.kind = kind};
        return field_value(visit, &value);
}

static bool field_uint(struct field_visit *visit, uint64_t number)
{
        struct codec_value value = {.kind = CODEC_VALUE_UINT, .uint = number};
        return field_value(visit, &value);
}

/* The mark of this list, or NULL. */
static const struct codec_field_mark *field_marked(const struct codec_field_reader *reader, const uint8_t *list)
{
        for (uint32_t i = 0; i < reader->trail_count; i++)
                if (reader->trail[i].list == list)
                        return &reader->trail[i];
        return NULL;
}

/* False: the search must end. */
static bool field_mark(struct codec_field_reader *reader, const uint8_t *list, const uint8_t *element, uint32_t index)
{
        if (reader->trail_count == CODEC_FIELD_TRAIL_MAX) {
                reader->exhausted = true;
                return false;
        }
        reader->trail[reader->trail_count++] = (struct codec_field_mark){list, element, index};
        return true;
}

/* What codec_json_encode() writes for a member that is not there. It has nothing below it. */
static bool field_absent(struct field_visit *visit, const struct codec_member *member)
{
        const char *json = member->absent;
        if (json == NULL || (member->kind == CODEC_KIND_TAGS && visit->field->rest.len > 0))
                return false;
        size_t len = strlen(json);
        if (json[0] == '"')
                return field_text(visit, slice_of(json + 1, len - 2));
        if (json[0] == 'n')
                return field_constant(visit, CODEC_VALUE_NULL);
        if (json[0] == 't' || json[0] == 'f')
                return field_constant(visit, json[0] == 't' ? CODEC_VALUE_TRUE : CODEC_VALUE_FALSE);
        return false; /* an empty list */
}

/* ---------------------------------------------------------------------------------------------- known members */

static bool field_member(struct field_visit *visit, const struct codec_member *member, const uint8_t *p, uint32_t step);

/* The member of key `key` in the map at `p`. */
static bool field_in_map(struct field_visit *visit, const struct codec_schema *schema, const uint8_t *p, uint32_t step)
{
        ASSERT_KNOWN(step < CODEC_FIELD_STEPS_MAX);
        unsigned wanted = visit->field->keys[step];
        const struct codec_member *member = &schema->members[wanted];
        for (uint32_t count = codec_trusted_count(&p); count > 0; count--) {
                unsigned key = *p++;
                if (key == wanted)
                        return field_member(visit, member, p, step + 1);
                if (key > wanted)
                        break;
                codec_trusted_skip(&p);
        }
        return field_absent(visit, member);
}

/* `p` is one element: a text, a pair of texts, or a map. */
static bool field_in_element(struct field_visit *visit, const struct codec_member *member, const uint8_t *p,
                             uint32_t step)
{
        if (member->kind == CODEC_KIND_RECIPIENTS)
                return field_in_map(visit, &codec_schema_recipient, p, step);
        if (member->kind != CODEC_KIND_ADDRESSES && visit->field->keys[step] == 1)
                (void)codec_trusted_text(&p); /* stepped over: the second of the pair is wanted */
        return field_text(visit, codec_trusted_text(&p));
}

/* A list that is published as a list of maps, of which `kept` are. */
static bool field_elements(struct field_visit *visit, const struct codec_member *member, const uint8_t *p,
                           uint32_t step, uint32_t kept)
{
        struct codec_field_reader *reader = visit->reader;
        const uint8_t *list = p;
        const struct codec_field_mark *marked = field_marked(reader, list);
        if (marked != NULL)
                return field_in_element(visit, member, marked->element, step);
        uint32_t texts = member->kind == CODEC_KIND_HEADERS || member->kind == CODEC_KIND_TOPICS ? 2 : 1;
        uint32_t count = codec_trusted_count(&p) / texts;
        count = kept < count ? kept : count;
        for (uint32_t i = 0; i < count; i++) {
                if (!field_look(reader) || !field_mark(reader, list, p, i))
                        return true;
                if (field_in_element(visit, member, p, step))
                        return true;
                reader->trail_count--;
                for (uint32_t k = 0; k < texts; k++)
                        codec_trusted_skip(&p);
        }
        return false;
}

static bool field_tags(struct field_visit *visit, const uint8_t *p)
{
        for (uint32_t count = codec_trusted_count(&p); count > 0; count -= 2) {
                struct slice name = codec_trusted_text(&p);
                struct slice value = codec_trusted_text(&p);
                if (slice_equal(name, visit->field->rest) && field_text(visit, value))
                        return true;
        }
        return false;
}

/* The value at `p` of a known member, and what the path says below it. */
static bool field_member(struct field_visit *visit, const struct codec_member *member, const uint8_t *p, uint32_t step)
{
        switch ((enum codec_kind)member->kind) {
        case CODEC_KIND_TEXT:
                return field_text(visit, codec_trusted_text(&p));
        case CODEC_KIND_TIME:
                return field_text(visit, slice_of(visit->reader->room, codec_time_write((int64_t)codec_trusted_uint(&p),
                                                                                        visit->reader->room)));
        case CODEC_KIND_COUNT:
                return field_uint(visit, codec_trusted_uint(&p));
        case CODEC_KIND_FLAG:
                return field_constant(visit, *p == 0xc3 ? CODEC_VALUE_TRUE : CODEC_VALUE_FALSE);
        case CODEC_KIND_TEXTS:
                for (uint32_t count = codec_trusted_count(&p); count > 0; count--)
                        if (field_text(visit, codec_trusted_text(&p)))
                                return true;
                return false;
        case CODEC_KIND_TAGS:
                return field_tags(visit, p);
        case CODEC_KIND_ADDRESSES:
        case CODEC_KIND_HEADERS:
        case CODEC_KIND_TOPICS:
        case CODEC_KIND_RECIPIENTS:
                return field_elements(visit, member, p, step, UINT32_MAX);
        case CODEC_KIND_MAP:
                return field_in_map(visit, member->schema, p, step);
        }
        return false;
}

/* ---------------------------------------------------------------------------------------------- mail */

static bool field_source_arn(struct field_visit *visit)
{
        struct codec_field_reader *reader = visit->reader;
        const struct codec_json_options *options = reader->options;
        struct slice domain = field_domain(reader);
        if (options->account_id.len == 0 || options->region.len == 0 || domain.len == 0)
                return false;
        const struct slice parts[] = {
                SLICE("arn:"),       options->partition.len > 0 ? options->partition : SLICE("aws"),
                SLICE(":ses:"),      options->region,
                SLICE(":"),          options->account_id,
                SLICE(":identity/"), domain,
        };
        size_t used = 0;
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
                if (parts[i].len > sizeof(reader->room) - used)
                        return false; /* no setting is that long */
                memcpy(reader->room + used, parts[i].ptr, parts[i].len);
                used += parts[i].len;
        }
        return field_text(visit, slice_of(reader->room, used));
}

static bool field_mail(struct field_visit *visit)
{
        struct codec_field_reader *reader = visit->reader;
        field_know_mail(reader);
        unsigned key = visit->field->keys[0];
        const uint8_t *p = reader->mail[key];
        if (key == CODEC_MAIL_SOURCE_ARN) {
                if (!codec_types[reader->view->type].source_arn)
                        return false;
                if (p == NULL)
                        return field_source_arn(visit);
        }
        if (key == CODEC_MAIL_HEADERS)
                return p != NULL && field_elements(visit, &codec_schema_mail.members[key], p, 1,
                                                   codec_headers_kept(reader->view, p));
        if (p != NULL)
                return field_member(visit, &codec_schema_mail.members[key], p, 1);
        if (key == CODEC_MAIL_SENDING_ACCOUNT_ID)
                return reader->options->account_id.len > 0 && field_text(visit, reader->options->account_id);
        if (key == CODEC_MAIL_HEADERS_TRUNCATED) {
                const uint8_t *headers = reader->mail[CODEC_MAIL_HEADERS], *count = headers;
                bool cut =
                        headers != NULL && codec_headers_kept(reader->view, headers) < codec_trusted_count(&count) / 2;
                return field_constant(visit, cut ? CODEC_VALUE_TRUE : CODEC_VALUE_FALSE);
        }
        return false;
}

static bool field_common_message_id(struct field_visit *visit)
{
        struct codec_field_reader *reader = visit->reader;
        field_know_mail(reader);
        return (reader->mail[CODEC_MAIL_HEADERS] != NULL || reader->mail[CODEC_MAIL_COMMON_HEADERS] != NULL) &&
               field_text(visit, reader->view->message_id);
}

static bool field_mail_tag(struct field_visit *visit)
{
        struct codec_field_reader *reader = visit->reader;
        const struct codec_view *view = reader->view;
        struct slice name = visit->field->rest;
        if (slice_equal(name, SLICE("ses:configuration-set"))) {
                struct slice set =
                        view->configuration_set.len > 0 ? view->configuration_set : reader->options->configuration_set;
                return set.len > 0 && field_text(visit, set);
        }
        if (codec_types[view->type].short_tags)
                return false;
        unsigned key = visit->field->keys[0];
        if (key != 0) { /* an auto-tag */
                if ((key == CODEC_SESSION_OUTGOING_IP || key == CODEC_SESSION_OUTGOING_TLS_VERSION) &&
                    view->type != SENDRING_DELIVERY)
                        return false;
                field_know_session(reader);
                return reader->session[key].len > 0 && field_text(visit, reader->session[key]);
        }
        return view->tags.len > 0 && field_tags(visit, view->tags.ptr);
}

/* ---------------------------------------------------------------------------------------------- unknown members */

static bool field_extra_value(struct field_visit *visit, const uint8_t **p, struct slice rest, bool has_rest);

/* `count` members at *p; moves over all of them unless the search ends. `rest` is the path from here on. */
static bool field_extra(struct field_visit *visit, const uint8_t **p, uint32_t count, struct slice rest)
{
        for (; count > 0; count--) {
                struct slice name = codec_trusted_text(p);
                bool goes_on = rest.len > name.len && rest.ptr[name.len] == '.' && slice_has_prefix(rest, name);
                if (!goes_on && !slice_equal(rest, name)) {
                        field_skip(visit->reader, p);
                        continue;
                }
                if (field_extra_value(visit, p, goes_on ? slice_from(rest, name.len + 1) : rest, goes_on))
                        return true;
        }
        return false;
}

static bool field_is_list(uint8_t head)
{
        return (head >= 0x90 && head < 0xa0) || head == 0xdc || head == 0xdd;
}

static bool field_is_map(uint8_t head)
{
        return (head >= 0x80 && head < 0x90) || head == 0xde || head == 0xdf;
}

/* Neither map nor list. Moves over it. */
static bool field_extra_scalar(struct field_visit *visit, const uint8_t **p)
{
        uint8_t head = **p;
        if ((head >= 0xa0 && head < 0xc0) || (head >= 0xd9 && head <= 0xdb))
                return field_text(visit, codec_trusted_text(p));
        if (head < 0x80 || (head >= 0xcc && head <= 0xcf))
                return field_uint(visit, codec_trusted_uint(p));
        if (head == 0xca || head == 0xcb) {
                struct codec_value value = {.kind = CODEC_VALUE_FLOAT};
                if (head == 0xca) {
                        uint32_t bits = codec_load_be32(*p + 1);
                        float narrow;
                        memcpy(&narrow, &bits, sizeof(narrow));
                        value.number = (double)narrow;
                } else {
                        uint64_t bits = codec_load_be64(*p + 1);
                        memcpy(&value.number, &bits, sizeof(value.number));
                }
                *p += head == 0xca ? 5 : 9;
                return field_value(visit, &value);
        }
        if (head >= 0xd0 && head <= 0xd3) {
                uint64_t bits = codec_trusted_uint(p); /* zero-extended; the sign is spread here */
                unsigned unused = 64 - (8u << (head - 0xd0));
                struct codec_value value = {.kind = CODEC_VALUE_NEGATIVE,
                                            .negative = (int64_t)(bits << unused) >> unused};
                if (value.negative >= 0)
                        return field_uint(visit, (uint64_t)value.negative);
                return field_value(visit, &value);
        }
        (*p)++;
        if (head >= 0xe0) {
                struct codec_value value = {.kind = CODEC_VALUE_NEGATIVE, .negative = (int64_t)head - 256};
                return field_value(visit, &value);
        }
        return field_constant(visit, head == 0xc0   ? CODEC_VALUE_NULL
                                     : head == 0xc3 ? CODEC_VALUE_TRUE
                                                    : CODEC_VALUE_FALSE);
}

/* Single values of a list are not held to one element: only maps and lists in it leave a mark. */
static bool field_extra_list(struct field_visit *visit, const uint8_t **p, struct slice rest, bool has_rest)
{
        struct codec_field_reader *reader = visit->reader;
        const uint8_t *list = *p;
        const struct codec_field_mark *marked = field_marked(reader, list);
        if (marked != NULL && has_rest) { /* nothing else in it can have the rest of the path */
                const uint8_t *element = marked->element;
                if (field_extra_value(visit, &element, rest, has_rest))
                        return true;
                field_skip(reader, p);
                return false;
        }
        uint32_t count = codec_trusted_count(p);
        for (uint32_t i = 0; i < count; i++) {
                if (!field_is_list(**p) && !field_is_map(**p)) {
                        if (has_rest)
                                field_skip(visit->reader, p);
                        else if (field_extra_scalar(visit, p))
                                return true;
                        continue;
                }
                if (!field_look(reader))
                        return true;
                if (marked != NULL && i != marked->index) {
                        field_skip(visit->reader, p);
                        continue;
                }
                if (marked == NULL && !field_mark(reader, list, *p, i))
                        return true;
                if (field_extra_value(visit, p, rest, has_rest))
                        return true;
                if (marked == NULL)
                        reader->trail_count--;
        }
        return false;
}

/* Recursion is bounded: the validation refused deep values. */
static bool field_extra_value(struct field_visit *visit, const uint8_t **p, struct slice rest, bool has_rest)
{
        if (field_is_list(**p))
                return field_extra_list(visit, p, rest, has_rest);
        if (has_rest && field_is_map(**p)) {
                uint32_t count = codec_trusted_count(p);
                return field_extra(visit, p, count, rest);
        }
        if (has_rest || field_is_map(**p)) {
                field_skip(visit->reader, p);
                return false;
        }
        return field_extra_scalar(visit, p);
}

/* ---------------------------------------------------------------------------------------------- each */

static bool field_known(struct field_visit *visit)
{
        struct codec_field_reader *reader = visit->reader;
        const struct codec_field *field = visit->field;
        const struct codec_type *type = &codec_types[reader->view->type];
        switch ((enum codec_field_place)field->place) {
        case CODEC_FIELD_NOWHERE:
                return false;
        case CODEC_FIELD_EVENT_TYPE:
                return field_text(visit, slice_of_text(type->name));
        case CODEC_FIELD_MAIL:
                return field_mail(visit);
        case CODEC_FIELD_TAG:
                return field_mail_tag(visit);
        case CODEC_FIELD_COMMON_MESSAGE_ID:
                return field_common_message_id(visit);
        case CODEC_FIELD_OBJECT: {
                if ((unsigned)reader->view->type != field->type)
                        return false;
                field_know_object(reader);
                const struct codec_member *member = &type->schema.members[field->keys[0]];
                const uint8_t *p = reader->object[field->keys[0]];
                return p == NULL ? field_absent(visit, member) : field_member(visit, member, p, 1);
        }
        }
        return false;
}

bool codec_field_each(struct codec_field_reader *reader, const struct codec_field *field, codec_field_visit *visit,
                      void *context)
{
        struct field_visit each = {.reader = reader, .field = field, .visit = visit, .context = context};
        uint32_t trail_count = reader->trail_count;
        bool found = reader->exhausted || field_known(&each);
        if (!found && slice_has_prefix(field->path, SLICE("mail."))) {
                field_know_mail(reader);
                const uint8_t *p = reader->mail_extra;
                found = reader->mail_extra_count > 0 &&
                        field_extra(&each, &p, reader->mail_extra_count, slice_from(field->path, 5));
        }
        if (!found && reader->view->extra_count > 0) {
                const uint8_t *p = reader->view->extra.ptr;
                found = field_extra(&each, &p, reader->view->extra_count, field->path);
        }
        reader->trail_count = trail_count;
        return found;
}
