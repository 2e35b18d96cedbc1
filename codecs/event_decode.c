/* msgpack event -> struct sendring_event, for tools: validated first, then read by the same tables that make the JSON.
 */
#include "codecs/codec_internal.h"

#include "base/arena.h"

struct event_reader {
        struct arena *arena;
        bool out_of_memory;
};

_Static_assert(sizeof(struct sendring_topic) == sizeof(struct sendring_pair), "both are two texts");
_Static_assert(sizeof(struct sendring_topics) == sizeof(struct sendring_pairs), "both are a list of two texts");

static struct sendring_str event_text(const uint8_t **p)
{
        struct slice text = codec_trusted_text(p);
        return (struct sendring_str){(const char *)text.ptr, text.len};
}

static void *event_list(struct event_reader *reader, size_t count, size_t item_bytes)
{
        void *items = arena_alloc_array(reader->arena, count, item_bytes);
        if (items == NULL)
                reader->out_of_memory = true;
        return items;
}

static void event_map(struct event_reader *reader, const uint8_t **p, const struct codec_schema *schema, uint8_t *base);

static void event_member(struct event_reader *reader, const uint8_t **p, const struct codec_member *member,
                         uint8_t *field)
{
        uint32_t count;
        switch ((enum codec_kind)member->kind) {
        case CODEC_KIND_TEXT: {
                struct sendring_str text = event_text(p);
                memcpy(field, &text, sizeof(text));
                return;
        }
        case CODEC_KIND_TIME:
        case CODEC_KIND_COUNT: {
                int64_t value = (int64_t)codec_trusted_uint(p);
                memcpy(field, &value, sizeof(value));
                return;
        }
        case CODEC_KIND_FLAG: {
                int value = *(*p)++ == 0xc3;
                memcpy(field, &value, sizeof(value));
                return;
        }
        case CODEC_KIND_TEXTS:
        case CODEC_KIND_ADDRESSES: {
                count = codec_trusted_count(p);
                struct sendring_str *items = event_list(reader, count, sizeof(*items));
                if (items == NULL)
                        return;
                for (uint32_t i = 0; i < count; i++)
                        items[i] = event_text(p);
                struct sendring_strs list = {items, count};
                memcpy(field, &list, sizeof(list));
                return;
        }
        case CODEC_KIND_HEADERS:
        case CODEC_KIND_TAGS:
        case CODEC_KIND_TOPICS: {
                count = codec_trusted_count(p) / 2;
                struct sendring_pair *items = event_list(reader, count, sizeof(*items));
                if (items == NULL)
                        return;
                for (uint32_t i = 0; i < count; i++) {
                        items[i].name = event_text(p);
                        items[i].value = event_text(p);
                }
                struct sendring_pairs list = {items, count};
                memcpy(field, &list, sizeof(list));
                return;
        }
        case CODEC_KIND_RECIPIENTS: {
                count = codec_trusted_count(p);
                struct sendring_recipient *items = event_list(reader, count, sizeof(*items));
                if (items == NULL)
                        return;
                for (uint32_t i = 0; i < count; i++)
                        event_map(reader, p, &codec_schema_recipient, (uint8_t *)&items[i]);
                struct sendring_recipients list = {items, count};
                memcpy(field, &list, sizeof(list));
                return;
        }
        case CODEC_KIND_MAP:
                event_map(reader, p, member->schema, field);
                return;
        }
}

/* Stops at the first unknown member, which the struct has no place for, and when memory is out. */
static void event_map(struct event_reader *reader, const uint8_t **p, const struct codec_schema *schema, uint8_t *base)
{
        for (uint32_t count = codec_trusted_count(p); count > 0 && **p < 0x80 && !reader->out_of_memory; count--) {
                const struct codec_member *member = &schema->members[*(*p)++];
                event_member(reader, p, member, base + member->offset);
        }
}

/* Whether the map at `p` has one of the keys of `mask`. */
static bool event_map_has(const uint8_t *p, uint32_t mask)
{
        for (uint32_t count = codec_trusted_count(&p); count > 0 && *p < 0x80; count--) {
                if ((mask >> *p++ & 1) != 0)
                        return true;
                codec_trusted_skip(&p);
        }
        return false;
}

enum err_code codec_event_decode(struct slice event, struct arena *arena, struct sendring_event *ret_event,
                                 struct err *reterr)
{
        struct codec_view view;
        enum err_code code = codec_view_decode(event, &view, reterr);
        if (code != ERR_OK)
                return code;
        struct event_reader reader = {.arena = arena, .out_of_memory = false};
        struct sendring_event result;
        codec_event_init(&result, view.type);
        result.mail.configuration_set =
                (struct sendring_str){(const char *)view.configuration_set.ptr, view.configuration_set.len};
        const uint8_t *p = view.mail.ptr;
        event_map(&reader, &p, &codec_schema_mail, (uint8_t *)&result.mail);
        result.mail.headers_present =
                event_map_has(view.mail.ptr, 1u << CODEC_MAIL_HEADERS | 1u << CODEC_MAIL_COMMON_HEADERS);
        if (view.tags.len > 0) {
                static const struct codec_member tags = {.kind = CODEC_KIND_TAGS};
                p = view.tags.ptr;
                event_member(&reader, &p, &tags, (uint8_t *)&result.mail.tags);
        }
        if (view.session.len > 0) {
                p = view.session.ptr;
                event_map(&reader, &p, &codec_schema_session, (uint8_t *)&result.mail);
        }
        if (view.object.len > 0) {
                p = view.object.ptr;
                /* The union's members all begin where it begins. */
                event_map(&reader, &p, &codec_types[view.type].schema, (uint8_t *)&result.failure);
        }
        if (reader.out_of_memory)
                return err_set(reterr, ERR_MEMORY, "read an event back: out of memory");
        *ret_event = result;
        return ERR_OK;
}
