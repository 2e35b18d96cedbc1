/* msgpack event -> JSON as SES publishes it, in one pass over validated bytes. The order of members is the order of the
 * keys (docs/formats/event.md), so the tables of schema.c drive it; `mail` and its tags are written out by hand.
 *
 * Objects and arrays are written with a comma before every member; the first comma is then turned into the bracket. */
#include "codecs/codec.h"
#include "codecs/json_text.h"

#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>

struct json_event {
        struct json_out out;
        const uint8_t *readable; /* end of the event's bytes */
        const struct codec_view *view;
        const struct codec_json_options *options;
        struct slice domain; /* of mail.source, once that has passed */
};

/* ---------------------------------------------------------------------------------------------- pieces */

/* Turns the comma at `start` into `open`, or writes it when nothing was written, and closes. */
static inline uint8_t *json_close(struct json_out *out, uint8_t *start, uint8_t *at, uint8_t open, uint8_t close)
{
        if (__builtin_expect(at == start, 0))
                at = json_byte(out, at, open);
        else if (!out->is_short)
                *start = open;
        return json_byte(out, at, close);
}

static inline uint8_t *json_event_string(struct json_event *event, uint8_t *at, struct slice text)
{
        return json_string(&event->out, at, text, event->readable);
}

static uint8_t *json_time(struct json_out *out, uint8_t *at, int64_t time_ms)
{
        if (json_room(out, at) < 26)
                return json_short(out);
        at[0] = '"';
        (void)codec_time_write(time_ms, at + 1); /* always 24 */
        at[25] = '"';
        return at + 26;
}

static uint8_t *json_u64(struct json_out *out, uint8_t *at, uint64_t value)
{
        uint8_t digits[20];
        return json_bytes(out, at, digits, codec_u64_write(value, digits));
}

static uint8_t *json_texts(struct json_event *event, uint8_t *at, const uint8_t **p)
{
        uint8_t *start = at;
        for (uint32_t count = codec_trusted_count(p); count > 0; count--) {
                at = json_byte(&event->out, at, ',');
                at = json_event_string(event, at, codec_trusted_text(p));
        }
        return json_close(&event->out, start, at, '[', ']');
}

static uint8_t *json_addresses(struct json_event *event, uint8_t *at, const uint8_t **p)
{
        uint8_t *start = at;
        for (uint32_t count = codec_trusted_count(p); count > 0; count--) {
                at = JSON_LITERAL(&event->out, at, ",{\"emailAddress\":");
                at = json_event_string(event, at, codec_trusted_text(p));
                at = json_byte(&event->out, at, '}');
        }
        return json_close(&event->out, start, at, '[', ']');
}

static uint8_t *json_topics(struct json_event *event, uint8_t *at, const uint8_t **p)
{
        uint8_t *start = at;
        for (uint32_t count = codec_trusted_count(p); count > 0; count -= 2) {
                at = JSON_LITERAL(&event->out, at, ",{\"topicName\":");
                at = json_event_string(event, at, codec_trusted_text(p));
                at = JSON_LITERAL(&event->out, at, ",\"subscriptionStatus\":");
                at = json_event_string(event, at, codec_trusted_text(p));
                at = json_byte(&event->out, at, '}');
        }
        return json_close(&event->out, start, at, '[', ']');
}

/* `kept` headers of those at *p; moves over all. */
static uint8_t *json_headers(struct json_event *event, uint8_t *at, const uint8_t **p, uint32_t kept)
{
        uint8_t *start = at;
        uint32_t count = codec_trusted_count(p) / 2;
        for (uint32_t i = 0; i < count; i++) {
                struct slice name = codec_trusted_text(p);
                struct slice value = codec_trusted_text(p);
                if (i >= kept)
                        continue;
                at = JSON_LITERAL(&event->out, at, ",{\"name\":");
                at = json_event_string(event, at, name);
                at = JSON_LITERAL(&event->out, at, ",\"value\":");
                at = json_event_string(event, at, value);
                at = json_byte(&event->out, at, '}');
        }
        return json_close(&event->out, start, at, '[', ']');
}

/* ---------------------------------------------------------------------------------------------- tags */

/* Tags in order, those of one name gathered into the array of the first. */
struct json_tag {
        struct slice name, value;
        uint16_t next; /* of the same name; 0: the last */
        bool gathered; /* belongs to an earlier one */
};

#define JSON_TAGS_FEW 24

/* Names and values hold nothing that must be escaped: they were checked. */
static uint8_t *json_tags_write(struct json_event *event, uint8_t *at, const struct json_tag *tags, uint32_t count)
{
        struct json_out *out = &event->out;
        for (uint32_t i = 0; i < count; i++) {
                const struct json_tag *tag = &tags[i];
                if (tag->gathered)
                        continue;
                at = JSON_LITERAL(out, at, ",\"");
                at = json_bytes(out, at, tag->name.ptr, tag->name.len);
                at = JSON_LITERAL(out, at, "\":[\"");
                at = json_bytes(out, at, tag->value.ptr, tag->value.len);
                for (uint32_t j = tag->next; j != 0; j = tags[j].next) {
                        at = JSON_LITERAL(out, at, "\",\"");
                        at = json_bytes(out, at, tags[j].value.ptr, tags[j].value.len);
                }
                at = JSON_LITERAL(out, at, "\"]");
        }
        return at;
}

static void json_tags_read(const uint8_t **p, struct json_tag *tags, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++) {
                tags[i].name = codec_trusted_text(p);
                tags[i].value = codec_trusted_text(p);
                tags[i].next = 0;
                tags[i].gathered = false;
        }
}

static int json_tag_order(const struct json_tag *a, const struct json_tag *b)
{
        size_t len = a->name.len < b->name.len ? a->name.len : b->name.len;
        int order = memcmp(a->name.ptr, b->name.ptr, len);
        return order != 0 ? order : (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

/* Many tags: a stable merge sort of their numbers brings equal names together in n log n whatever a producer thinks of.
 */
static __attribute__((noinline)) uint8_t *json_tags_many(struct json_event *event, uint8_t *at, const uint8_t **p,
                                                         uint32_t count)
{
        struct json_tag tags[LIMIT_LIST_ITEMS_MAX];
        uint16_t numbers[2][LIMIT_LIST_ITEMS_MAX];
        uint16_t *from = numbers[0], *to = numbers[1];
        json_tags_read(p, tags, count);
        for (uint32_t i = 0; i < count; i++)
                from[i] = (uint16_t)i;
        for (uint32_t width = 1; width < count; width *= 2) {
                for (uint32_t low = 0; low < count; low += 2 * width) {
                        uint32_t middle = low + width < count ? low + width : count;
                        uint32_t high = middle + width < count ? middle + width : count;
                        uint32_t a = low, b = middle;
                        for (uint32_t i = low; i < high; i++) {
                                bool first = a < middle &&
                                             (b >= high || json_tag_order(&tags[from[a]], &tags[from[b]]) <= 0);
                                to[i] = first ? from[a++] : from[b++];
                        }
                }
                uint16_t *swap = from;
                from = to;
                to = swap;
        }
        for (uint32_t i = 1; i < count; i++) {
                if (slice_equal(tags[from[i - 1]].name, tags[from[i]].name)) {
                        tags[from[i - 1]].next = from[i]; /* never 0: a later number than the one before it */
                        tags[from[i]].gathered = true;
                }
        }
        return json_tags_write(event, at, tags, count);
}

/* Names that occur twice are brought together. */
static __attribute__((noinline)) uint8_t *json_tags_few(struct json_event *event, uint8_t *at, const uint8_t **p,
                                                        uint32_t count)
{
        struct json_tag tags[JSON_TAGS_FEW];
        json_tags_read(p, tags, count);
        for (uint32_t i = 0; i < count; i++) {
                for (uint32_t j = i; j-- > 0;) {
                        if (slice_equal(tags[j].name, tags[i].name)) {
                                tags[j].next = (uint16_t)i;
                                tags[i].gathered = true;
                                break;
                        }
                }
        }
        return json_tags_write(event, at, tags, count);
}

#if JSON_TEXT_SSE2
static inline uint8_t *json_tag_copy(uint8_t *at, struct slice text, const uint8_t *readable)
{
        if (__builtin_expect(text.len <= 16 && readable - text.ptr >= 16, 1))
                json_store(at, json_load(text.ptr));
        else
                memcpy(at, text.ptr, text.len);
        return at + text.len;
}

static bool json_tag_is_new(const struct slice *names, uint32_t count, struct slice name)
{
        for (uint32_t i = 0; i < count; i++)
                if (slice_equal(names[i], name))
                        return false;
        return true;
}

/* Few tags, each of another name, as mostly: written while they are read. NULL, and *p where it was, when a name comes
 * again. Names and values hold nothing that must be escaped: they were checked. */
static uint8_t *json_tags_plain(struct json_event *event, uint8_t *at, const uint8_t **p, uint32_t count)
{
        struct slice names[JSON_TAGS_FEW];
        const uint8_t *from = *p, *readable = event->readable;
        uint64_t seen = 0; /* a bit per hash of a name */
        for (uint32_t i = 0; i < count; i++) {
                struct slice name = codec_trusted_text(&from);
                struct slice value = codec_trusted_text(&from);
                uint32_t hash = (uint32_t)name.len * 7u + name.ptr[0] * 3u + name.ptr[name.len - 1] * 5u +
                                name.ptr[name.len / 2];
                uint64_t bit = UINT64_C(1) << (hash & 63);
                if ((seen & bit) != 0 && !json_tag_is_new(names, i, name))
                        return NULL;
                seen |= bit;
                names[i] = name;
                memcpy(at, ",\"", 2);
                at = json_tag_copy(at + 2, name, readable);
                memcpy(at, "\":[\"", 4);
                at = json_tag_copy(at + 4, value, readable);
                memcpy(at, "\"]", 2);
                at += 2;
        }
        *p = from;
        return at;
}
#endif

/* The members of the object, each with a comma before it. */
static uint8_t *json_tags(struct json_event *event, uint8_t *at, const uint8_t **p)
{
        uint32_t count = codec_trusted_count(p) / 2;
        if (count > JSON_TAGS_FEW)
                return json_tags_many(event, at, p, count);
#if JSON_TEXT_SSE2
        /* A tag takes 8 bytes more than its texts; the last store may reach 16 beyond. */
        if (__builtin_expect(json_room(&event->out, at) >= (size_t)(event->readable - *p) + 8 * count + 16, 1)) {
                uint8_t *end = json_tags_plain(event, at, p, count);
                if (__builtin_expect(end != NULL, 1))
                        return end;
        }
#endif
        return json_tags_few(event, at, p, count);
}

/* Names with their punctuation, padded, so that a copy of fixed size serves. */
struct json_auto_name {
        char text[31];
        uint8_t bytes;
};
#define JSON_AUTO_NAME(name)                                     \
        {                                                        \
                ",\"" name "\":[", sizeof(",\"" name "\":[") - 1 \
        }

static const struct json_auto_name json_auto_names[CODEC_SESSION_KEYS] = {
        [CODEC_SESSION_OPERATION] = JSON_AUTO_NAME("ses:operation"),
        [CODEC_SESSION_SOURCE_IP] = JSON_AUTO_NAME("ses:source-ip"),
        [CODEC_SESSION_FROM_DOMAIN] = JSON_AUTO_NAME("ses:from-domain"),
        [CODEC_SESSION_CALLER_IDENTITY] = JSON_AUTO_NAME("ses:caller-identity"),
        [CODEC_SESSION_SOURCE_TLS_VERSION] = JSON_AUTO_NAME("ses:source-tls-version"),
        [CODEC_SESSION_OUTGOING_IP] = JSON_AUTO_NAME("ses:outgoing-ip"),
        [CODEC_SESSION_OUTGOING_TLS_VERSION] = JSON_AUTO_NAME("ses:outgoing-tls-version"),
};

static __attribute__((noinline)) uint8_t *json_auto_tag_any(struct json_event *event, uint8_t *at,
                                                            const struct json_auto_name *name, struct slice text)
{
        at = json_bytes(&event->out, at, name->text, name->bytes);
        at = json_string_any(&event->out, at, text, event->readable);
        return json_byte(&event->out, at, ']');
}

static inline uint8_t *json_auto_tag(struct json_event *event, uint8_t *at, const struct slice *session, unsigned key)
{
        struct slice text = session[key];
        const struct json_auto_name *name = &json_auto_names[key];
        if (text.len == 0)
                return at;
        if (__builtin_expect(json_room(&event->out, at) >= sizeof(*name) + text.len + 16, 1)) {
                memcpy(at, name, sizeof(*name));
                uint8_t *begin = at + name->bytes, *end = json_text_plain(begin + 1, text, event->readable);
                if (__builtin_expect(end != NULL, 1)) {
                        *begin = *end = '"';
                        end[1] = ']';
                        return end + 2;
                }
        }
        return json_auto_tag_any(event, at, name, text);
}

/* mail.tags: auto-tags and message tags in the order of SES's records. */
static uint8_t *json_mail_tags(struct json_event *event, uint8_t *at)
{
        const struct codec_view *view = event->view;
        const struct codec_type *type = &codec_types[view->type];
        struct slice session[CODEC_SESSION_KEYS] = {{NULL, 0}};
        at = JSON_LITERAL(&event->out, at, ",\"tags\":");
        uint8_t *start = at;
        if (view->session.len > 0 && !type->short_tags) {
                const uint8_t *p = view->session.ptr;
                for (uint32_t count = codec_trusted_count(&p); count > 0; count--) {
                        uint8_t key = *p++;
                        session[key] = codec_trusted_text(&p);
                }
        }
        at = json_auto_tag(event, at, session, CODEC_SESSION_OPERATION);
        bool named = view->configuration_set.len > 0;
        struct slice set = named ? view->configuration_set : event->options->configuration_set;
        if (set.len > 0) {
                at = JSON_LITERAL(&event->out, at, ",\"ses:configuration-set\":[");
                at = json_string(&event->out, at, set, named ? event->readable : set.ptr + set.len);
                at = json_byte(&event->out, at, ']');
        }
        if (!type->short_tags) {
                if (session[CODEC_SESSION_FROM_DOMAIN].len == 0)
                        session[CODEC_SESSION_FROM_DOMAIN] = event->domain;
                at = json_auto_tag(event, at, session, CODEC_SESSION_SOURCE_IP);
                at = json_auto_tag(event, at, session, CODEC_SESSION_FROM_DOMAIN);
                at = json_auto_tag(event, at, session, CODEC_SESSION_CALLER_IDENTITY);
                at = json_auto_tag(event, at, session, CODEC_SESSION_SOURCE_TLS_VERSION);
                if (view->tags.len > 0) {
                        const uint8_t *p = view->tags.ptr;
                        at = json_tags(event, at, &p);
                }
                if (view->type == SENDRING_DELIVERY) {
                        at = json_auto_tag(event, at, session, CODEC_SESSION_OUTGOING_IP);
                        at = json_auto_tag(event, at, session, CODEC_SESSION_OUTGOING_TLS_VERSION);
                }
        }
        return json_close(&event->out, start, at, '{', '}');
}

/* ---------------------------------------------------------------------------------------------- unknown members */

static uint8_t *json_extra_value(struct json_event *event, uint8_t *at, const uint8_t **p);

/* The shortest digits that read back as the same number. */
static uint8_t *json_double(struct json_out *out, uint8_t *at, double value, bool narrow)
{
        char text[40];
        int bytes = 0;
        for (int digits = narrow ? 6 : 15; digits <= 17; digits++) {
                bytes = snprintf(text, sizeof(text), "%.*g", digits, value);
                if (narrow ? (double)strtof(text, NULL) == value : strtod(text, NULL) == value)
                        break;
        }
        bool has_mark = false;
        for (int i = 0; i < bytes; i++) {
                if (text[i] == ',')
                        text[i] = '.'; /* a host's locale */
                has_mark |= text[i] == '.' || text[i] == 'e';
        }
        at = json_bytes(out, at, text, (size_t)bytes);
        return has_mark ? at : JSON_LITERAL(out, at, ".0");
}

static uint8_t *json_extra_int(struct json_out *out, uint8_t *at, const uint8_t **p)
{
        uint8_t head = **p;
        int64_t value;
        if (head < 0x80 || (head >= 0xcc && head <= 0xcf))
                return json_u64(out, at, codec_trusted_uint(p));
        if (head >= 0xe0) {
                value = (int64_t)head - 256;
                (*p)++;
        } else {
                uint64_t bits = codec_trusted_uint(p); /* zero-extended; the sign is spread here */
                unsigned unused = 64 - (8u << (head - 0xd0));
                value = (int64_t)(bits << unused) >> unused;
        }
        if (value >= 0)
                return json_u64(out, at, (uint64_t)value);
        at = json_byte(out, at, '-');
        return json_u64(out, at, UINT64_C(0) - (uint64_t)value);
}

/* `count` unknown members, each with a comma before it. */
static uint8_t *json_extra(struct json_event *event, uint8_t *at, const uint8_t **p, uint32_t count)
{
        for (; count > 0; count--) {
                at = json_byte(&event->out, at, ',');
                at = json_event_string(event, at, codec_trusted_text(p));
                at = json_byte(&event->out, at, ':');
                at = json_extra_value(event, at, p);
        }
        return at;
}

/* Recursion is bounded: the validation refused deep values. */
static uint8_t *json_extra_value(struct json_event *event, uint8_t *at, const uint8_t **p)
{
        struct json_out *out = &event->out;
        uint8_t head = **p;
        if (head == 0xc0) {
                (*p)++;
                return JSON_LITERAL(out, at, "null");
        }
        if (head == 0xc2 || head == 0xc3) {
                (*p)++;
                return head == 0xc2 ? JSON_LITERAL(out, at, "false") : JSON_LITERAL(out, at, "true");
        }
        if ((head >= 0xa0 && head < 0xc0) || (head >= 0xd9 && head <= 0xdb))
                return json_event_string(event, at, codec_trusted_text(p));
        if (head == 0xca) {
                uint32_t bits = codec_load_be32(*p + 1);
                float value;
                memcpy(&value, &bits, sizeof(value));
                *p += 5;
                return json_double(out, at, (double)value, true);
        }
        if (head == 0xcb) {
                uint64_t bits = codec_load_be64(*p + 1);
                double value;
                memcpy(&value, &bits, sizeof(value));
                *p += 9;
                return json_double(out, at, value, false);
        }
        uint8_t *start = at;
        if ((head >= 0x80 && head < 0x90) || head == 0xde || head == 0xdf) {
                uint32_t count = codec_trusted_count(p);
                at = json_extra(event, at, p, count);
                return json_close(out, start, at, '{', '}');
        }
        if ((head >= 0x90 && head < 0xa0) || head == 0xdc || head == 0xdd) {
                for (uint32_t count = codec_trusted_count(p); count > 0; count--) {
                        at = json_byte(out, at, ',');
                        at = json_extra_value(event, at, p);
                }
                return json_close(out, start, at, '[', ']');
        }
        return json_extra_int(out, at, p);
}

/* ---------------------------------------------------------------------------------------------- known maps */

static uint8_t *json_map(struct json_event *event, uint8_t *at, const uint8_t **p, const struct codec_schema *schema);

static __attribute__((noinline)) uint8_t *json_member_other(struct json_event *event, uint8_t *at, const uint8_t **p,
                                                            const struct codec_member *member)
{
        struct json_out *out = &event->out;
        uint8_t *start;
        at = json_padded(out, at, member->json, member->json_bytes, sizeof(member->json));
        switch ((enum codec_kind)member->kind) {
        case CODEC_KIND_TEXT:
                return json_event_string(event, at, codec_trusted_text(p));
        case CODEC_KIND_TIME:
                return json_time(out, at, (int64_t)codec_trusted_uint(p));
        case CODEC_KIND_COUNT:
                return json_u64(out, at, codec_trusted_uint(p));
        case CODEC_KIND_FLAG:
                return *(*p)++ == 0xc3 ? JSON_LITERAL(out, at, "true") : JSON_LITERAL(out, at, "false");
        case CODEC_KIND_TEXTS:
                return json_texts(event, at, p);
        case CODEC_KIND_ADDRESSES:
                return json_addresses(event, at, p);
        case CODEC_KIND_HEADERS:
                return json_headers(event, at, p, UINT32_MAX);
        case CODEC_KIND_TAGS:
                start = at;
                at = json_tags(event, at, p);
                return json_close(out, start, at, '{', '}');
        case CODEC_KIND_TOPICS:
                return json_topics(event, at, p);
        case CODEC_KIND_RECIPIENTS:
                start = at;
                for (uint32_t count = codec_trusted_count(p); count > 0; count--) {
                        at = json_byte(out, at, ',');
                        at = json_map(event, at, p, &codec_schema_recipient);
                }
                return json_close(out, start, at, '[', ']');
        case CODEC_KIND_MAP:
                return json_map(event, at, p, member->schema);
        }
        return at;
}

static __attribute__((noinline)) uint8_t *json_member_text_any(struct json_event *event, uint8_t *at,
                                                               const struct codec_member *member, struct slice text)
{
        at = json_bytes(&event->out, at, member->json, member->json_bytes);
        return json_string_any(&event->out, at, text, event->readable);
}

/* Most members are texts: those are written in line. */
static inline uint8_t *json_member(struct json_event *event, uint8_t *at, const uint8_t **p,
                                   const struct codec_member *member)
{
        if (member->kind != CODEC_KIND_TEXT)
                return json_member_other(event, at, p, member);
        struct slice text = codec_trusted_text(p);
        if (__builtin_expect(json_room(&event->out, at) >= sizeof(member->json) + text.len + 18, 1)) {
                memcpy(at, member->json, sizeof(member->json));
                uint8_t *begin = at + member->json_bytes, *end = json_text_plain(begin + 1, text, event->readable);
                if (__builtin_expect(end != NULL, 1)) {
                        *begin = *end = '"';
                        return end + 1;
                }
        }
        return json_member_text_any(event, at, member, text);
}

static uint8_t *json_absent(struct json_event *event, uint8_t *at, const struct codec_schema *schema, unsigned from,
                            unsigned to)
{
        for (unsigned key = from; key < to; key++) {
                const struct codec_member *member = &schema->members[key];
                if (member->absent == NULL)
                        continue;
                at = json_bytes(&event->out, at, member->json, member->json_bytes);
                at = json_bytes(&event->out, at, member->absent, strlen(member->absent));
        }
        return at;
}

static uint8_t *json_map(struct json_event *event, uint8_t *at, const uint8_t **p, const struct codec_schema *schema)
{
        uint8_t *start = at;
        unsigned next = 1;
        for (uint32_t count = codec_trusted_count(p); count > 0; count--) {
                unsigned key = *(*p)++;
                if (key != next)
                        at = json_absent(event, at, schema, next, key);
                at = json_member(event, at, p, &schema->members[key]);
                next = key + 1;
        }
        at = json_absent(event, at, schema, next, schema->keys_end);
        return json_close(&event->out, start, at, '{', '}');
}

/* ---------------------------------------------------------------------------------------------- mail */

uint32_t codec_headers_kept(const struct codec_view *view, const uint8_t *p)
{
        uint32_t count = codec_trusted_count(&p) / 2;
        if (view->event.len <= LIMIT_HEADERS_BYTES_MAX / 2)
                return count; /* a header has 2 bytes of msgpack heads at least, and counts 4 more than its texts */
        size_t left = LIMIT_HEADERS_BYTES_MAX;
        for (uint32_t i = 0; i < count; i++) {
                struct slice name = codec_trusted_text(&p);
                struct slice value = codec_trusted_text(&p);
                size_t bytes = CODEC_HEADER_BYTES(name.len, value.len);
                if (bytes > left)
                        return i;
                left -= bytes;
        }
        return count;
}

static uint8_t *json_source_arn(struct json_event *event, uint8_t *at)
{
        const struct codec_json_options *options = event->options;
        struct slice domain = event->domain;
        if (options->account_id.len == 0 || options->region.len == 0 || domain.len == 0)
                return at;
        struct slice partition = options->partition.len > 0 ? options->partition : SLICE("aws");
        at = JSON_LITERAL(&event->out, at, ",\"sourceArn\":\"arn:");
        at = json_text(&event->out, at, partition, partition.ptr + partition.len);
        at = JSON_LITERAL(&event->out, at, ":ses:");
        at = json_text(&event->out, at, options->region, options->region.ptr + options->region.len);
        at = json_byte(&event->out, at, ':');
        at = json_text(&event->out, at, options->account_id, options->account_id.ptr + options->account_id.len);
        at = JSON_LITERAL(&event->out, at, ":identity/");
        at = json_text(&event->out, at, domain, event->readable);
        return json_byte(&event->out, at, '"');
}

static uint8_t *json_common_headers(struct json_event *event, uint8_t *at, const uint8_t **p)
{
        struct json_out *out = &event->out;
        at = JSON_LITERAL(out, at, ",\"commonHeaders\":");
        uint8_t *start = at;
        bool id_written = false;
        for (uint32_t count = p == NULL ? 0 : codec_trusted_count(p); count > 0; count--) {
                unsigned key = *(*p)++;
                if (key == CODEC_COMMON_SUBJECT) {
                        id_written = true;
                        at = JSON_LITERAL(out, at, ",\"messageId\":");
                        at = json_event_string(event, at, event->view->message_id);
                }
                at = json_member(event, at, p, &codec_schema_common_headers.members[key]);
        }
        if (!id_written) {
                at = JSON_LITERAL(out, at, ",\"messageId\":");
                at = json_event_string(event, at, event->view->message_id);
        }
        return json_close(out, start, at, '{', '}');
}

/* What stands in `mail` although the producer left it out: members `from` to `to` - 1. `p` is the next value. */
static uint8_t *json_mail_absent(struct json_event *event, uint8_t *at, unsigned from, unsigned to, const uint8_t *p,
                                 bool has_headers)
{
        struct json_out *out = &event->out;
        const struct codec_json_options *options = event->options;
        for (unsigned key = from; key < to; key++) {
                if (key == CODEC_MAIL_SOURCE_ARN && codec_types[event->view->type].source_arn) {
                        at = json_source_arn(event, at);
                } else if (key == CODEC_MAIL_SENDING_ACCOUNT_ID && options->account_id.len > 0) {
                        at = JSON_LITERAL(out, at, ",\"sendingAccountId\":");
                        at = json_string(out, at, options->account_id,
                                         options->account_id.ptr + options->account_id.len);
                } else if (key == CODEC_MAIL_HEADERS_TRUNCATED) {
                        const uint8_t *headers = p;
                        bool cut = has_headers && to == CODEC_MAIL_HEADERS &&
                                   codec_headers_kept(event->view, p) < codec_trusted_count(&headers) / 2;
                        at = cut ? JSON_LITERAL(out, at, ",\"headersTruncated\":true")
                                 : JSON_LITERAL(out, at, ",\"headersTruncated\":false");
                }
        }
        return at;
}

static uint8_t *json_mail(struct json_event *event, uint8_t *at)
{
        struct json_out *out = &event->out;
        at = JSON_LITERAL(out, at, ",\"mail\":");
        uint8_t *start = at;
        const uint8_t *p = event->view->mail.ptr;
        unsigned next = CODEC_MAIL_TIMESTAMP;
        bool headers = false, common = false;
        uint32_t count = codec_trusted_count(&p);
        for (; count > 0 && *p < 0x80; count--) {
                unsigned key = *p++;
                if (key != next)
                        at = json_mail_absent(event, at, next, key, p, key == CODEC_MAIL_HEADERS);
                next = key + 1;
                if (key == CODEC_MAIL_SOURCE) {
                        const uint8_t *source = p;
                        event->domain = codec_domain_of(codec_trusted_text(&source));
                } else if (key == CODEC_MAIL_SOURCE_ARN && !codec_types[event->view->type].source_arn) {
                        (void)codec_trusted_text(&p); /* stepped over: not published for this type */
                        continue;
                } else if (key == CODEC_MAIL_HEADERS) {
                        headers = true;
                        at = JSON_LITERAL(out, at, ",\"headers\":");
                        at = json_headers(event, at, &p, codec_headers_kept(event->view, p));
                        continue;
                } else if (key == CODEC_MAIL_COMMON_HEADERS) {
                        common = true;
                        if (!headers)
                                at = JSON_LITERAL(out, at, ",\"headers\":[]");
                        at = json_common_headers(event, at, &p);
                        continue;
                }
                at = json_member(event, at, &p, &codec_schema_mail.members[key]);
        }
        at = json_mail_absent(event, at, next, codec_schema_mail.keys_end, p, false);
        if (headers && !common)
                at = json_common_headers(event, at, NULL);
        at = json_mail_tags(event, at);
        at = json_extra(event, at, &p, count);
        return json_close(out, start, at, '{', '}');
}

/* ---------------------------------------------------------------------------------------------- event */

static uint8_t *json_object(struct json_event *event, uint8_t *at)
{
        static const uint8_t empty_map[1] = {0x80};
        const struct codec_type *type = &codec_types[event->view->type];
        const uint8_t *p = event->view->object.len > 0 ? event->view->object.ptr : empty_map;
        at = json_padded(&event->out, at, type->object, type->object_bytes, sizeof(type->object));
        return json_map(event, at, &p, &type->schema);
}

/* The set's name may lie right behind the event (codec_view_store()). */
static const uint8_t *json_readable(const struct codec_view *view)
{
        const uint8_t *end = view->event.ptr + view->event.len;
        return view->configuration_set.ptr == end ? end + view->configuration_set.len : end;
}

size_t codec_json_encode(const struct codec_view *view, const struct codec_json_options *options, uint8_t *out,
                         size_t out_bytes)
{
        static const struct codec_json_options no_options;
        const struct codec_type *type = &codec_types[view->type];
        struct json_event event = {
                .out = {.end = out + out_bytes, .is_short = false},
                .readable = json_readable(view),
                .view = view,
                .options = options != NULL ? options : &no_options,
        };
        uint8_t *at = json_padded(&event.out, out, type->head, type->head_bytes, sizeof(type->head));
        if (type->object_first) {
                at = json_object(&event, at);
                at = json_mail(&event, at);
        } else {
                at = json_mail(&event, at);
                at = json_object(&event, at);
        }
        const uint8_t *p = view->extra.ptr;
        at = json_extra(&event, at, &p, view->extra_count);
        at = json_byte(&event.out, at, '}');
        return event.out.is_short ? 0 : (size_t)(at - out);
}

/* A byte of msgpack becomes at most 6 of JSON ("\u0000"). What goes beyond: names of members, which the event's few
 * heads do not pay for. The worst lists are 1,024 topics (29 bytes each), 1,024 recipients (11) and headers within 10
 * KB (1,024 * 11); fixed names of any type stay below 4 KiB, a derived domain and the id that is published twice
 * below 8.
 */
#define JSON_EVENT_EXTRA_BYTES (60u * 1024u)

size_t codec_json_size_max(const struct codec_view *view, const struct codec_json_options *options)
{
        size_t bytes = 6 * view->event.len + JSON_EVENT_EXTRA_BYTES;
        if (options != NULL)
                bytes += 12 * options->account_id.len +
                         6 * (options->region.len + options->partition.len + options->configuration_set.len);
        return bytes;
}
