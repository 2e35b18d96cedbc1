/* msgpack event -> JSON as SES publishes it, in one pass over validated bytes. The order of members is the order of the
 * keys (docs/formats/event.md), so the tables of schema.c drive it; `mail` and its tags are written out by hand.
 *
 * Objects and arrays are written with a comma before every member; the first comma is then turned into the bracket. */
#include "codecs/codec.h"
#include "codecs/json_text.h"
#include "codecs/redact_text.h"

#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>

/* json_event_redacted.c includes this file with 1. The two are compiled apart, so that an event without a policy pays
 * nothing for those that have one: everything below that asks is a constant. */
#ifndef JSON_EVENT_REDACTED
#define JSON_EVENT_REDACTED 0
#endif

struct json_event {
        struct json_out out;
        const uint8_t *readable; /* end of the event's bytes */
        const struct codec_view *view;
        const struct codec_json_options *options;
        struct slice domain;                     /* of mail.source, once that has passed */
        const uint8_t *headers, *common_headers; /* in mail, once they have passed */
        const struct codec_redaction *redaction;
        uint32_t tokens_left;
        bool message_tags; /* those of mail are being written */
};

static inline uint8_t *json_redact(struct json_event *event, uint8_t *at, struct slice text,
                                   enum codec_redact_kind kind)
{
        at = json_byte(&event->out, at, '"');
        at = redact_text(event->redaction, &event->out, at, text, kind, &event->tokens_left, event->readable);
        return json_byte(&event->out, at, '"');
}

/* Members of this map that the policy drops, a bit per key. */
static inline uint32_t json_dropped(const struct json_event *event, const struct codec_schema *schema)
{
        if (!JSON_EVENT_REDACTED)
                return 0;
        const struct codec_redaction *redaction = event->redaction;
        enum sendring_event_type type = event->view->type;
        if (schema == &codec_schema_recipient)
                return redaction->recipient_dropped[type];
        return schema == &codec_types[type].schema ? redaction->object_dropped[type] : 0;
}

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
        if (JSON_EVENT_REDACTED)
                return json_redact(event, at, text, CODEC_REDACT_TEXT);
        return json_string(&event->out, at, text, event->readable);
}

/* Nothing but an address. */
static inline uint8_t *json_event_address(struct json_event *event, uint8_t *at, struct slice text)
{
        return JSON_EVENT_REDACTED ? json_redact(event, at, text, CODEC_REDACT_ADDRESS)
                                   : json_event_string(event, at, text);
}

/* As it is, policy or not. */
static inline uint8_t *json_event_id(struct json_event *event, uint8_t *at, struct slice text)
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
                at = json_event_address(event, at, codec_trusted_text(p));
        }
        return json_close(&event->out, start, at, '[', ']');
}

static uint8_t *json_addresses(struct json_event *event, uint8_t *at, const uint8_t **p)
{
        uint8_t *start = at;
        for (uint32_t count = codec_trusted_count(p); count > 0; count--) {
                at = JSON_LITERAL(&event->out, at, ",{\"emailAddress\":");
                at = json_event_address(event, at, codec_trusted_text(p));
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

/* Whether the policy lets a header through; there are no others in SES's commonHeaders either. */
static inline bool json_header_allowed(const struct json_event *event, struct slice name)
{
        return !JSON_EVENT_REDACTED || !event->redaction->headers_limited ||
               redact_names_have(&event->redaction->headers, name);
}

/* A header that holds addresses, for what they would look like without a domain. */
static bool json_header_is_address(struct slice name)
{
        static const char *const names[] = {"From",   "To",          "Cc",           "Bcc",           "Reply-To",
                                            "Sender", "Return-Path", "Delivered-To", "X-Original-To", "Errors-To"};
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (slice_equal_ignore_case(name, slice_of_text(names[i])))
                        return true;
        return false;
}

/* `kept` headers of those at *p; moves over all. */
static uint8_t *json_headers(struct json_event *event, uint8_t *at, const uint8_t **p, uint32_t kept)
{
        uint8_t *start = at;
        uint32_t count = codec_trusted_count(p) / 2;
        for (uint32_t i = 0; i < count; i++) {
                struct slice name = codec_trusted_text(p);
                struct slice value = codec_trusted_text(p);
                if (i >= kept || !json_header_allowed(event, name))
                        continue;
                at = JSON_LITERAL(&event->out, at, ",{\"name\":");
                at = json_event_string(event, at, name);
                at = JSON_LITERAL(&event->out, at, ",\"value\":");
                at = JSON_EVENT_REDACTED && json_header_is_address(name) ? json_event_address(event, at, value)
                                                                         : json_event_string(event, at, value);
                at = json_byte(&event->out, at, '}');
        }
        return json_close(&event->out, start, at, '[', ']');
}

#include "codecs/json_event_tags.h"

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
                struct slice name = codec_trusted_text(p);
                /* Two names could become one. */
                if (JSON_EVENT_REDACTED && event->redaction->addresses != CODEC_ADDRESSES_KEEP &&
                    redact_has_address(name)) {
                        codec_trusted_skip(p);
                        continue;
                }
                at = json_byte(&event->out, at, ',');
                at = json_event_string(event, at, name);
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
                if ((member->flags & CODEC_MEMBER_ID) != 0)
                        return json_event_id(event, at, codec_trusted_text(p));
                if (JSON_EVENT_REDACTED && (member->flags & CODEC_MEMBER_URL) != 0)
                        return json_redact(event, at, codec_trusted_text(p), CODEC_REDACT_URL);
                return (member->flags & CODEC_MEMBER_ADDRESS) != 0
                               ? json_event_address(event, at, codec_trusted_text(p))
                               : json_event_string(event, at, codec_trusted_text(p));
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
        if (JSON_EVENT_REDACTED || member->kind != CODEC_KIND_TEXT)
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
        uint32_t dropped = json_dropped(event, schema);
        for (unsigned key = from; key < to; key++) {
                const struct codec_member *member = &schema->members[key];
                if (member->absent == NULL || (dropped >> key & 1) != 0)
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
                if ((json_dropped(event, schema) >> key & 1) != 0)
                        codec_trusted_skip(p);
                else
                        at = json_member(event, at, p, &schema->members[key]);
                next = key + 1;
        }
        at = json_absent(event, at, schema, next, schema->keys_end);
        return json_close(&event->out, start, at, '{', '}');
}

/* ---------------------------------------------------------------------------------------------- mail */

#if !JSON_EVENT_REDACTED
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
#endif

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

/* The header that a member of commonHeaders is made from. */
static bool json_common_dropped(const struct json_event *event, unsigned key)
{
        static const char *const headers[] = {[CODEC_COMMON_FROM] = "From",      [CODEC_COMMON_REPLY_TO] = "Reply-To",
                                              [CODEC_COMMON_DATE] = "Date",      [CODEC_COMMON_TO] = "To",
                                              [CODEC_COMMON_CC] = "Cc",          [CODEC_COMMON_BCC] = "Bcc",
                                              [CODEC_COMMON_SUBJECT] = "Subject"};
        return (event->redaction->common_dropped >> key & 1) != 0 ||
               !json_header_allowed(event, slice_of_text(headers[key]));
}

static inline uint8_t *json_common_id(struct json_event *event, uint8_t *at)
{
        if (JSON_EVENT_REDACTED && event->redaction->common_id_dropped)
                return at;
        at = JSON_LITERAL(&event->out, at, ",\"messageId\":");
        return json_event_id(event, at, event->view->message_id);
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
                        at = json_common_id(event, at);
                }
                if (JSON_EVENT_REDACTED && json_common_dropped(event, key))
                        codec_trusted_skip(p);
                else
                        at = json_member(event, at, p, &codec_schema_common_headers.members[key]);
        }
        if (!id_written)
                at = json_common_id(event, at);
        return json_close(out, start, at, '{', '}');
}

static inline bool json_mail_dropped(const struct json_event *event, unsigned key)
{
        return JSON_EVENT_REDACTED && (event->redaction->mail_dropped >> key & 1) != 0;
}

/* What stands in `mail` although the producer left it out: members `from` to `to` - 1. `p` is the next value. */
static uint8_t *json_mail_absent(struct json_event *event, uint8_t *at, unsigned from, unsigned to, const uint8_t *p,
                                 bool has_headers)
{
        struct json_out *out = &event->out;
        const struct codec_json_options *options = event->options;
        for (unsigned key = from; key < to; key++) {
                if (json_mail_dropped(event, key))
                        continue;
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

static inline uint8_t *json_no_headers(struct json_event *event, uint8_t *at)
{
        return json_mail_dropped(event, CODEC_MAIL_HEADERS) ? at : JSON_LITERAL(&event->out, at, ",\"headers\":[]");
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
                }
                if (key == CODEC_MAIL_HEADERS)
                        event->headers = p;
                else if (key == CODEC_MAIL_COMMON_HEADERS)
                        event->common_headers = p;
                if (json_mail_dropped(event, key)) {
                        headers |= key == CODEC_MAIL_HEADERS;
                        common |= key == CODEC_MAIL_COMMON_HEADERS;
                        if (key == CODEC_MAIL_COMMON_HEADERS && !headers)
                                at = json_no_headers(event, at);
                        codec_trusted_skip(&p);
                        continue;
                }
                if (key == CODEC_MAIL_SOURCE_ARN && !codec_types[event->view->type].source_arn) {
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
                                at = json_no_headers(event, at);
                        at = json_common_headers(event, at, &p);
                        continue;
                }
                at = json_member(event, at, &p, &codec_schema_mail.members[key]);
        }
        at = json_mail_absent(event, at, next, codec_schema_mail.keys_end, p, false);
        if (headers && !common && !json_mail_dropped(event, CODEC_MAIL_COMMON_HEADERS))
                at = json_common_headers(event, at, NULL);
        at = json_mail_tags(event, at);
        if (!JSON_EVENT_REDACTED || !event->redaction->unknown_mail_dropped)
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

#if JSON_EVENT_REDACTED
size_t json_encode_redacted(const struct codec_view *view, const struct codec_json_options *options, uint8_t *out,
                            size_t out_bytes)
{
#else
size_t codec_json_encode(const struct codec_view *view, const struct codec_json_options *options, uint8_t *out,
                         size_t out_bytes)
{
        if (options != NULL && options->redaction != NULL)
                return json_encode_redacted(view, options, out, out_bytes);
#endif
        static const struct codec_json_options no_options;
        const struct codec_type *type = &codec_types[view->type];
        struct json_event event = {
                .out = {.end = out + out_bytes, .is_short = false},
                .readable = json_readable(view),
                .view = view,
                .options = options != NULL ? options : &no_options,
                .redaction = options != NULL ? options->redaction : NULL,
                .tokens_left = CODEC_REDACTION_TOKENS_MAX,
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
        if (!JSON_EVENT_REDACTED || !event.redaction->unknown_dropped)
                at = json_extra(&event, at, &p, view->extra_count);
        at = json_byte(&event.out, at, '}');
        return event.out.is_short ? 0 : (size_t)(at - out);
}

#if !JSON_EVENT_REDACTED
/* A byte of msgpack becomes at most 6 of JSON ("\u0000"). What goes beyond: names of members, which the event's few
 * heads do not pay for. The worst lists are 1,024 topics (29 bytes each), or complained (14) or bounced recipients
 * (10), and headers within 10 KB (1,024 * 11); fixed names of any type stay below 4 KiB, a derived domain and the id
 * that is published twice below 8.
 */
#define JSON_EVENT_EXTRA_BYTES (60u * 1024u)
/* Of settings: an account id twice, a region, a partition, a set's name; none is longer than LIMIT_NAME_BYTES_MAX. */
#define JSON_EVENT_OPTIONS_BYTES (6u * 5u * LIMIT_NAME_BYTES_MAX)
/* A token may stand for two bytes ("a@"), of which one counts 12 already. */
#define JSON_EVENT_TOKENS_BYTES (CODEC_REDACTION_TOKENS_MAX * CODEC_REDACTION_TOKEN_BYTES)

_Static_assert(6u * (LIMIT_EVENT_BYTES_MAX + LIMIT_NAME_BYTES_MAX) + JSON_EVENT_EXTRA_BYTES + JSON_EVENT_OPTIONS_BYTES +
                               JSON_EVENT_TOKENS_BYTES + CODEC_JSON_EVENT_ID_BYTES <=
                       LIMIT_EVENT_JSON_BYTES_MAX,
               "codec_json_size_max() and the event's id are no more than the limit");

size_t codec_json_size_max(const struct codec_view *view, const struct codec_json_options *options)
{
        size_t bytes = 6 * (view->event.len + view->configuration_set.len) + JSON_EVENT_EXTRA_BYTES;
        if (options != NULL)
                bytes += 12 * options->account_id.len +
                         6 * (options->region.len + options->partition.len + options->configuration_set.len);
        if (options != NULL && options->redaction != NULL)
                bytes += JSON_EVENT_TOKENS_BYTES;
        return bytes;
}
#endif
