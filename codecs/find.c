/* Texts of an event by their published names: what CloudWatch's dimensions are made of. The lists are walked once each,
 * whatever is wanted of them; lengths are compared before bytes. */
#include "base/assert.h"
#include "codecs/codec_internal.h"

#define FIND_WANTED_MAX 32u

/* Of struct codec_wanted.auto_tag: a key of the session, or one of these. */
enum { FIND_NO_AUTO_TAG = 0, FIND_CONFIGURATION_SET = CODEC_SESSION_KEYS };

/* The published name stands in the schema as `,"ses:operation":`. */
static bool find_is_named(const struct codec_member *member, struct slice name)
{
        return slice_equal(slice_of(member->json + 2, member->json_bytes - 4u), name);
}

void codec_wanted_init(struct codec_wanted *wanted, enum codec_source source, struct slice name)
{
        *wanted = (struct codec_wanted){.name = name, .source = source, .auto_tag = FIND_NO_AUTO_TAG};
        if (source != CODEC_SOURCE_TAG)
                return;
        if (slice_equal(name, SLICE("ses:configuration-set")))
                wanted->auto_tag = FIND_CONFIGURATION_SET;
        for (uint8_t key = 1; key < codec_schema_session.keys_end; key++)
                if (find_is_named(&codec_schema_session.members[key], name))
                        wanted->auto_tag = key;
}

/* The wanted ones of one list, by bit. */
static void find_in_list(const uint8_t *at, const struct codec_wanted *wanted, uint32_t mask, bool ignore_case,
                         struct codec_found *found)
{
        for (uint32_t count = codec_trusted_count(&at) / 2; count > 0; count--) {
                struct slice name = codec_trusted_text(&at);
                struct slice value = codec_trusted_text(&at);
                for (uint32_t left = mask; left != 0; left &= left - 1) {
                        uint32_t i = (uint32_t)__builtin_ctz(left);
                        if (name.len != wanted[i].name.len ||
                            !(ignore_case ? slice_equal_ignore_case(name, wanted[i].name)
                                          : memcmp(name.ptr, wanted[i].name.ptr, name.len) == 0))
                                continue;
                        if (found[i].count++ == 0)
                                found[i].value = value;
                }
        }
}

/* The value of `key` in mail, or NULL. */
static const uint8_t *find_in_mail(const struct codec_view *view, unsigned key)
{
        const uint8_t *at = view->mail.ptr;
        for (uint32_t count = codec_trusted_count(&at); count > 0 && *at <= key; count--) {
                if (*at++ == key)
                        return at;
                codec_trusted_skip(&at);
        }
        return NULL;
}

/* Which of them are published is json_mail_tags()'s to say. */
static struct slice find_auto_tag(const struct codec_view *view, const struct codec_json_options *options, uint8_t key)
{
        const struct codec_type *type = &codec_types[view->type];
        if (key == FIND_CONFIGURATION_SET) {
                if (view->configuration_set.len == 0 && options != NULL)
                        return options->configuration_set;
                return view->configuration_set;
        }
        if (type->short_tags)
                return SLICE_EMPTY;
        if ((key == CODEC_SESSION_OUTGOING_IP || key == CODEC_SESSION_OUTGOING_TLS_VERSION) &&
            view->type != SENDRING_DELIVERY)
                return SLICE_EMPTY;
        struct slice text = SLICE_EMPTY;
        if (view->session.len > 0) {
                const uint8_t *at = view->session.ptr;
                for (uint32_t count = codec_trusted_count(&at); count > 0 && *at <= key; count--) {
                        const uint8_t found = *at++;
                        struct slice value = codec_trusted_text(&at);
                        if (found == key)
                                text = value;
                }
        }
        if (key == CODEC_SESSION_FROM_DOMAIN && text.len == 0)
                return codec_view_from_domain(view);
        return text;
}

static void find_auto_tags(const struct codec_view *view, const struct codec_json_options *options,
                           const struct codec_wanted *wanted, uint32_t mask, struct codec_found *found)
{
        for (; mask != 0; mask &= mask - 1) {
                uint32_t i = (uint32_t)__builtin_ctz(mask);
                struct slice value = find_auto_tag(view, options, wanted[i].auto_tag);
                if (value.len > 0)
                        found[i] = (struct codec_found){.value = value, .count = 1};
        }
}

void codec_view_find(const struct codec_view *view, const struct codec_json_options *options,
                     const struct codec_wanted *wanted, size_t wanted_count, struct codec_found *ret_found)
{
        uint32_t tags = 0, auto_tags = 0, headers = 0, link_tags = 0;
        ASSERT(wanted_count <= FIND_WANTED_MAX);
        for (size_t i = 0; i < wanted_count; i++) {
                uint32_t bit = 1u << i;
                ret_found[i] = (struct codec_found){.value = SLICE_EMPTY, .count = 0};
                if (wanted[i].source == CODEC_SOURCE_HEADER)
                        headers |= bit;
                else if (wanted[i].source == CODEC_SOURCE_LINK_TAG)
                        link_tags |= bit;
                else if (wanted[i].auto_tag != FIND_NO_AUTO_TAG)
                        auto_tags |= bit;
                else
                        tags |= bit;
        }
        if (auto_tags != 0)
                find_auto_tags(view, options, wanted, auto_tags, ret_found);
        if (tags != 0 && view->tags.len > 0 && !codec_types[view->type].short_tags)
                find_in_list(view->tags.ptr, wanted, tags, false, ret_found);
        if (headers != 0) {
                const uint8_t *at = find_in_mail(view, CODEC_MAIL_HEADERS);
                if (at != NULL)
                        find_in_list(at, wanted, headers, true, ret_found);
        }
        if (link_tags != 0 && view->type == SENDRING_CLICK && view->object.len > 0) {
                const uint8_t *at = view->object.ptr;
                for (uint32_t count = codec_trusted_count(&at); count > 0; count--) {
                        if (*at++ == CODEC_CLICK_LINK_TAGS)
                                find_in_list(at, wanted, link_tags, false, ret_found);
                        codec_trusted_skip(&at);
                }
        }
}
