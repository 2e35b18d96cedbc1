/* struct sendring_event -> msgpack, straight into the lane. Compiled into libsendring: libc only, nothing that
 * allocates, logs or aborts.
 *
 * One kind of failure serves all: encode_fail() keeps the first error and every write after it finds no room, because
 * it goes on at `end`. So nothing in between has to look at a result. */
#include "codecs/codec.h"
#include "codecs/codec_internal.h"
#include "codecs/tag.h"

#include "base/limits.h"

#include <stdarg.h>
#include <stdio.h>

_Static_assert(SENDRING_EVENT_BYTES_MAX == LIMIT_EVENT_BYTES_MAX, "the public header mirrors the limit");
_Static_assert(SENDRING_LIST_ITEMS_MAX == LIMIT_LIST_ITEMS_MAX, "the public header mirrors the limit");
_Static_assert(SENDRING_LIST_ITEMS_MAX * 2 <= UINT16_MAX, "array16 holds every list, pairs too");

struct encoder {
        uint8_t *end;
        struct err *reterr;
        enum err_code code;
        uint32_t tag_bytes_max;
};

/* ---------------------------------------------------------------------------------------------- writing */

/* Keeps the first error; the caller goes on at the end, where nothing fits any more. */
static __attribute__((noinline, cold, format(printf, 3, 4))) uint8_t *encode_fail(struct encoder *encoder,
                                                                                  enum err_code code,
                                                                                  const char *format, ...)
{
        if (encoder->code == ERR_OK) {
                encoder->code = code;
                if (encoder->reterr != NULL) {
                        va_list args;
                        va_start(args, format);
                        encoder->reterr->code = code;
                        encoder->reterr->sys_errno = 0;
                        (void)vsnprintf(encoder->reterr->text, sizeof(encoder->reterr->text), format,
                                        args); /* cutting is fine */
                        va_end(args);
                }
        }
        return encoder->end;
}

static __attribute__((noinline, cold)) uint8_t *encode_short(struct encoder *encoder)
{
        return encode_fail(encoder, ERR_TOO_BIG, "the event does not fit into the room given for it");
}

static inline size_t encode_room(const struct encoder *encoder, const uint8_t *at)
{
        return (size_t)(encoder->end - at);
}

static inline uint8_t *put_byte(struct encoder *encoder, uint8_t *at, uint8_t byte)
{
        if (encode_room(encoder, at) < 1)
                return encode_short(encoder);
        *at = byte;
        return at + 1;
}

/* memcpy without a call for short texts: overlapping loads and stores, none beyond either text. */
static inline void encode_copy(uint8_t *to, const void *source, size_t len)
{
        const uint8_t *from = source;
        if (len >= 16) {
                if (len > 64) {
                        memcpy(to, from, len);
                        return;
                }
                memcpy(to, from, 16);
                if (len > 32) {
                        memcpy(to + 16, from + 16, 16);
                        memcpy(to + len - 32, from + len - 32, 16);
                }
                memcpy(to + len - 16, from + len - 16, 16);
        } else if (len >= 8) {
                memcpy(to, from, 8);
                memcpy(to + len - 8, from + len - 8, 8);
        } else if (len >= 4) {
                memcpy(to, from, 4);
                memcpy(to + len - 4, from + len - 4, 4);
        } else if (len > 0) {
                to[0] = from[0];
                to[len / 2] = from[len / 2];
                to[len - 1] = from[len - 1];
        }
}

/* Long texts, and those that do not fit. */
static __attribute__((noinline)) uint8_t *put_text_slow(struct encoder *encoder, uint8_t *at, struct sendring_str text)
{
        uint8_t head[5];
        size_t head_bytes;
        if (text.len <= UINT8_MAX) {
                head[0] = 0xd9;
                head[1] = (uint8_t)text.len;
                head_bytes = 2;
        } else if (text.len <= UINT16_MAX) {
                head[0] = 0xda;
                head[1] = (uint8_t)(text.len >> 8);
                head[2] = (uint8_t)text.len;
                head_bytes = 3;
        } else {
                head[0] = 0xdb;
                head[1] = (uint8_t)(text.len >> 24);
                head[2] = (uint8_t)(text.len >> 16);
                head[3] = (uint8_t)(text.len >> 8);
                head[4] = (uint8_t)text.len;
                head_bytes = 5;
        }
        if (text.len > SENDRING_EVENT_BYTES_MAX || encode_room(encoder, at) < head_bytes + text.len)
                return encode_short(encoder);
        memcpy(at, head, head_bytes);
        if (text.len > 0)
                memcpy(at + head_bytes, text.ptr, text.len);
        return at + head_bytes + text.len;
}

/* str 8 for everything up to 255 bytes: one header form is cheaper than choosing the shortest. */
static inline uint8_t *put_text(struct encoder *encoder, uint8_t *at, struct sendring_str text)
{
        if (__builtin_expect(text.len > UINT8_MAX || encode_room(encoder, at) < text.len + 2, 0))
                return put_text_slow(encoder, at, text);
        at[0] = 0xd9;
        at[1] = (uint8_t)text.len;
        encode_copy(at + 2, text.ptr, text.len);
        return at + 2 + text.len;
}

/* An optional text: nothing when it was not given. */
static inline uint8_t *put_member_text(struct encoder *encoder, uint8_t *at, uint8_t *count, uint8_t key,
                                       struct sendring_str text)
{
        if (text.ptr == NULL)
                return at;
        (*count)++;
        at = put_byte(encoder, at, key);
        return put_text(encoder, at, text);
}

static inline uint8_t *put_member_filled(struct encoder *encoder, uint8_t *at, uint8_t *count, uint8_t key,
                                         struct sendring_str text, const char *name)
{
        if (__builtin_expect(text.ptr == NULL || text.len == 0, 0))
                return encode_fail(encoder, ERR_MISSING, "%s is required", name);
        return put_member_text(encoder, at, count, key, text);
}

static inline uint8_t *put_member_int(struct encoder *encoder, uint8_t *at, uint8_t *count, uint8_t key, int64_t value)
{
        if (encode_room(encoder, at) < 10)
                return encode_short(encoder);
        uint64_t big = __builtin_bswap64((uint64_t)value);
        at[0] = key;
        at[1] = 0xcf;
        memcpy(at + 2, &big, 8);
        (*count)++;
        return at + 10;
}

static inline uint8_t *put_member_time(struct encoder *encoder, uint8_t *at, uint8_t *count, uint8_t key,
                                       int64_t time_ms, const char *name)
{
        if (__builtin_expect(time_ms < 0 || time_ms > CODEC_TIME_MS_MAX, 0)) {
                if (time_ms == SENDRING_NO_TIME)
                        return encode_fail(encoder, ERR_MISSING, "%s is required", name);
                return encode_fail(encoder, ERR_RANGE, "%s: %lld ms is outside the years 1970 to 9999", name,
                                   (long long)time_ms);
        }
        return put_member_int(encoder, at, count, key, time_ms);
}

static inline uint8_t *put_member_time_optional(struct encoder *encoder, uint8_t *at, uint8_t *count, uint8_t key,
                                                int64_t time_ms, const char *name)
{
        return time_ms == SENDRING_NO_TIME ? at : put_member_time(encoder, at, count, key, time_ms, name);
}

/* Key and array header of `elements` elements that stand for the `items_count` at `items`. */
static inline uint8_t *put_member_array(struct encoder *encoder, uint8_t *at, uint8_t *count, uint8_t key,
                                        const void *items, size_t items_count, size_t elements, const char *name)
{
        if (__builtin_expect(items == NULL && items_count > 0, 0))
                return encode_fail(encoder, ERR_MISSING, "%s: %zu items at a NULL pointer", name, items_count);
        if (__builtin_expect(items_count > SENDRING_LIST_ITEMS_MAX, 0))
                return encode_fail(encoder, ERR_RANGE, "%s: %zu items, at most %d are allowed", name, items_count,
                                   SENDRING_LIST_ITEMS_MAX);
        if (encode_room(encoder, at) < 4)
                return encode_short(encoder);
        at[0] = key;
        at[1] = 0xdc;
        at[2] = (uint8_t)(elements >> 8);
        at[3] = (uint8_t)elements;
        (*count)++;
        return at + 4;
}

/* One of a list, which may be empty; {NULL, 0} is. */
static inline uint8_t *put_list_text(struct encoder *encoder, uint8_t *at, struct sendring_str text, const char *name,
                                     size_t index, const char *member)
{
        if (__builtin_expect(text.ptr == NULL && text.len > 0, 0))
                return encode_fail(encoder, ERR_MISSING, "%s[%zu]%s: %zu bytes at a NULL pointer", name, index, member,
                                   text.len);
        return put_text(encoder, at, text);
}

static inline uint8_t *put_member_texts(struct encoder *encoder, uint8_t *at, uint8_t *count, uint8_t key,
                                        struct sendring_strs list, bool required, const char *name)
{
        if (list.count == 0)
                return required ? encode_fail(encoder, ERR_MISSING, "%s: at least one is required", name) : at;
        at = put_member_array(encoder, at, count, key, list.items, list.count, list.count, name);
        for (size_t i = 0; i < list.count && encoder->code == ERR_OK; i++)
                at = put_list_text(encoder, at, list.items[i], name, i, "");
        return at;
}

/* Begins a map whose count is patched in by encode_map_end(); all of ours have at most 15 members. */
static inline uint8_t *encode_map_end(struct encoder *encoder, uint8_t *map, uint8_t *at, uint8_t count)
{
        if (encoder->code == ERR_OK)
                *map = (uint8_t)(0x80 | count);
        return at;
}

/* ---------------------------------------------------------------------------------------------- tags */

/* Looks at every tag again, slowly: some were not plain. Feedback-ID tags are allowed, the rest is named. */
static __attribute__((noinline, cold)) uint8_t *encode_check_tags(struct encoder *encoder, uint8_t *at,
                                                                  struct sendring_pairs tags, const char *name,
                                                                  bool of_link)
{
        for (size_t i = 0; i < tags.count; i++) {
                const struct sendring_pair *tag = &tags.items[i];
                struct err why;
                struct slice tag_name = slice_of(tag->name.ptr, tag->name.ptr == NULL ? 0 : tag->name.len);
                struct slice tag_value = slice_of(tag->value.ptr, tag->value.ptr == NULL ? 0 : tag->value.len);
                enum err_code code =
                        of_link ? codec_link_tag_check(tag_name, tag_value, &why)
                                : codec_tag_check_within(tag_name, tag_value, encoder->tag_bytes_max, &why);
                if (code != ERR_OK)
                        return encode_fail(encoder, code, "%s[%zu]: %s", name, i, why.text);
        }
        return at;
}

static bool tag_text_is_good(struct sendring_str text, uint8_t bit)
{
        const uint8_t *bytes = (const uint8_t *)text.ptr;
        uint8_t good = bit;
        for (size_t i = 0; i < text.len; i++)
                good &= codec_tag_bytes[bytes[i]];
        return good == bit && text.len > 0;
}

/* Writes any text that can be one of a tag; *good turns false when it may not. */
static uint8_t *put_tag_text(struct encoder *encoder, uint8_t *at, struct sendring_str text, uint8_t bit, bool *good)
{
        if (text.len > encoder->tag_bytes_max || text.ptr == NULL) {
                *good = false;
                return at;
        }
        *good &= tag_text_is_good(text, bit);
        return put_text(encoder, at, text);
}

#if CODEC_TAG_AVX2
/* Copies a text of 1 to 16 bytes and hands it back in a register, with nothing beyond it read or written; the rest of
 * the register repeats it. */
static inline __m128i tag_copy(uint8_t *to, const char *from, size_t len)
{
        if (len >= 8) {
                __m128i low = _mm_loadl_epi64((const __m128i *)(const void *)from);
                __m128i high = _mm_loadl_epi64((const __m128i *)(const void *)(from + len - 8));
                _mm_storel_epi64((__m128i *)(void *)to, low);
                _mm_storel_epi64((__m128i *)(void *)(to + len - 8), high);
                return _mm_unpacklo_epi64(low, high);
        }
        uint32_t low, high;
        if (len >= 4) {
                memcpy(&low, from, 4);
                memcpy(&high, from + len - 4, 4);
                memcpy(to, &low, 4);
                memcpy(to + len - 4, &high, 4);
        } else {
                uint8_t first = (uint8_t)from[0], middle = (uint8_t)from[len / 2], last = (uint8_t)from[len - 1];
                to[0] = first;
                to[len / 2] = middle;
                to[len - 1] = last;
                low = high = (uint32_t)first | (uint32_t)middle << 8 | (uint32_t)last << 16 | (uint32_t)last << 24;
        }
        return _mm_set1_epi64x((long long)((uint64_t)high << 32 | low));
}

/* Writes the tags from *next on while name and value have 1 to 16 good bytes and room is left. */
static __attribute__((target("avx2"))) uint8_t *put_tags_plain(const struct encoder *encoder, uint8_t *at,
                                                               struct sendring_pairs tags, size_t *next)
{
        size_t i = *next;
        while (i < tags.count && encode_room(encoder, at) >= 2 * (2 + 16)) {
                const struct sendring_pair *tag = &tags.items[i];
                size_t name_len = tag->name.len, value_len = tag->value.len;
                if (__builtin_expect(name_len - 1 >= 16 || value_len - 1 >= 16 || tag->name.ptr == NULL ||
                                             tag->value.ptr == NULL,
                                     0))
                        break;
                uint8_t *value = at + 2 + name_len;
                at[0] = value[0] = 0xd9;
                at[1] = (uint8_t)name_len;
                value[1] = (uint8_t)value_len;
                __m128i name_bytes = tag_copy(at + 2, tag->name.ptr, name_len);
                __m128i value_bytes = tag_copy(value + 2, tag->value.ptr, value_len);
                __m256i bad = codec_tag_bad(_mm256_set_m128i(value_bytes, name_bytes));
                if (__builtin_expect(!_mm256_testz_si256(bad, bad), 0))
                        break;
                at = value + 2 + value_len;
                i++;
        }
        *next = i;
        return at;
}
#endif

/* `of_link`: by the narrower rules that SES reads the tags of links by; rare, so without vectors. */
static inline uint8_t *put_member_tags(struct encoder *encoder, uint8_t *at, uint8_t *count, uint8_t key,
                                       struct sendring_pairs tags, const char *name, bool of_link)
{
        if (tags.count == 0)
                return at;
        at = put_member_array(encoder, at, count, key, tags.items, tags.count, tags.count * 2, name);
        if (encoder->code != ERR_OK)
                return at;
        bool good = true;
        for (size_t i = 0; i < tags.count; i++) {
#if CODEC_TAG_AVX2
                if (!of_link && codec_tag_has_avx2())
                        at = put_tags_plain(encoder, at, tags, &i);
                if (i == tags.count)
                        break;
#endif
                at = put_tag_text(encoder, at, tags.items[i].name, CODEC_TAG_NAME, &good);
                at = put_tag_text(encoder, at, tags.items[i].value, of_link ? CODEC_TAG_NAME : CODEC_TAG_VALUE, &good);
        }
        return __builtin_expect(good, 1) ? at : encode_check_tags(encoder, at, tags, name, of_link);
}

/* ---------------------------------------------------------------------------------------------- mail */

static uint8_t *put_session(struct encoder *encoder, uint8_t *at, uint8_t *top_count, const struct sendring_mail *mail)
{
        uint8_t count = 0;
        uint8_t *start = at;
        at = put_byte(encoder, at, CODEC_TOP_SESSION);
        uint8_t *map = at;
        at = put_byte(encoder, at, 0x80);
        at = put_member_text(encoder, at, &count, CODEC_SESSION_OPERATION, mail->operation);
        at = put_member_text(encoder, at, &count, CODEC_SESSION_SOURCE_IP, mail->source_ip);
        at = put_member_text(encoder, at, &count, CODEC_SESSION_FROM_DOMAIN, mail->from_domain);
        at = put_member_text(encoder, at, &count, CODEC_SESSION_CALLER_IDENTITY, mail->caller_identity);
        at = put_member_text(encoder, at, &count, CODEC_SESSION_SOURCE_TLS_VERSION, mail->source_tls_version);
        at = put_member_text(encoder, at, &count, CODEC_SESSION_OUTGOING_IP, mail->outgoing_ip);
        at = put_member_text(encoder, at, &count, CODEC_SESSION_OUTGOING_TLS_VERSION, mail->outgoing_tls_version);
        if (count == 0 && encoder->code == ERR_OK)
                return start;
        (*top_count)++;
        return encode_map_end(encoder, map, at, count);
}

static uint8_t *put_common_headers(struct encoder *encoder, uint8_t *at, uint8_t *mail_count,
                                   const struct sendring_common_headers *common)
{
        uint8_t count = 0;
        uint8_t *start = at;
        at = put_byte(encoder, at, CODEC_MAIL_COMMON_HEADERS);
        uint8_t *map = at;
        at = put_byte(encoder, at, 0x80);
        at = put_member_texts(encoder, at, &count, CODEC_COMMON_FROM, common->from, false, "mail.commonHeaders.from");
        at = put_member_texts(encoder, at, &count, CODEC_COMMON_REPLY_TO, common->reply_to, false,
                              "mail.commonHeaders.replyTo");
        at = put_member_text(encoder, at, &count, CODEC_COMMON_DATE, common->date);
        at = put_member_texts(encoder, at, &count, CODEC_COMMON_TO, common->to, false, "mail.commonHeaders.to");
        at = put_member_texts(encoder, at, &count, CODEC_COMMON_CC, common->cc, false, "mail.commonHeaders.cc");
        at = put_member_texts(encoder, at, &count, CODEC_COMMON_BCC, common->bcc, false, "mail.commonHeaders.bcc");
        at = put_member_text(encoder, at, &count, CODEC_COMMON_SUBJECT, common->subject);
        if (count == 0 && encoder->code == ERR_OK)
                return start;
        (*mail_count)++;
        return encode_map_end(encoder, map, at, count);
}

/* How many headers stay within SES's 10 KB. */
static inline size_t encode_headers_kept(struct sendring_pairs headers)
{
        size_t left = LIMIT_HEADERS_BYTES_MAX;
        for (size_t i = 0; i < headers.count; i++) {
                size_t name_bytes = headers.items[i].name.len, value_bytes = headers.items[i].value.len;
                if (name_bytes > left || value_bytes > left || CODEC_HEADER_BYTES(name_bytes, value_bytes) > left)
                        return i;
                left -= CODEC_HEADER_BYTES(name_bytes, value_bytes);
        }
        return headers.count;
}

static uint8_t *put_mail(struct encoder *encoder, uint8_t *at, const struct sendring_mail *mail)
{
        uint8_t count = 0;
        at = put_byte(encoder, at, CODEC_TOP_MAIL);
        uint8_t *map = at;
        at = put_byte(encoder, at, 0x80);
        at = put_member_time(encoder, at, &count, CODEC_MAIL_TIMESTAMP, mail->timestamp_ms, "mail.timestamp");
        if (__builtin_expect(mail->source.ptr == NULL, 0))
                return encode_fail(encoder, ERR_MISSING, "mail.source is required (\"\" for the null sender)");
        at = put_member_text(encoder, at, &count, CODEC_MAIL_SOURCE, mail->source);
        at = put_member_text(encoder, at, &count, CODEC_MAIL_SOURCE_ARN, mail->source_arn);
        at = put_member_text(encoder, at, &count, CODEC_MAIL_SENDING_ACCOUNT_ID, mail->sending_account_id);
        if (__builtin_expect(mail->message_id.len > CODEC_MESSAGE_ID_BYTES_MAX, 0))
                return encode_fail(encoder, ERR_RANGE, "mail.messageId: %zu bytes, at most %u are allowed",
                                   mail->message_id.len, CODEC_MESSAGE_ID_BYTES_MAX);
        at = put_member_filled(encoder, at, &count, CODEC_MAIL_MESSAGE_ID, mail->message_id, "mail.messageId");
        at = put_member_texts(encoder, at, &count, CODEC_MAIL_DESTINATION, mail->destination, true, "mail.destination");
        size_t headers_kept = 0;
        if (mail->headers.items != NULL && mail->headers.count <= SENDRING_LIST_ITEMS_MAX)
                headers_kept = encode_headers_kept(mail->headers);
        if (mail->headers_truncated != 0 || headers_kept < mail->headers.count) {
                at = put_byte(encoder, at, CODEC_MAIL_HEADERS_TRUNCATED);
                at = put_byte(encoder, at, 0xc3);
                count++;
        }
        if (mail->headers.count > 0 || mail->headers_present != 0) {
                at = put_member_array(encoder, at, &count, CODEC_MAIL_HEADERS, mail->headers.items, mail->headers.count,
                                      headers_kept * 2, "mail.headers");
                for (size_t i = 0; i < headers_kept; i++) {
                        const struct sendring_pair *header = &mail->headers.items[i];
                        at = put_list_text(encoder, at, header->name, "mail.headers", i, ".name");
                        at = put_list_text(encoder, at, header->value, "mail.headers", i, ".value");
                }
        }
        at = put_common_headers(encoder, at, &count, &mail->common_headers);
        return encode_map_end(encoder, map, at, count);
}

/* ---------------------------------------------------------------------------------------------- event objects */

static uint8_t *put_recipients(struct encoder *encoder, uint8_t *at, uint8_t *object_count, uint8_t key,
                               struct sendring_recipients list, bool with_action, const char *name)
{
        if (list.count == 0)
                return encode_fail(encoder, ERR_MISSING, "%s: at least one is required", name);
        at = put_member_array(encoder, at, object_count, key, list.items, list.count, list.count, name);
        for (size_t i = 0; i < list.count && encoder->code == ERR_OK; i++) {
                const struct sendring_recipient *recipient = &list.items[i];
                uint8_t count = 0;
                if (recipient->email_address.ptr == NULL || recipient->email_address.len == 0)
                        return encode_fail(encoder, ERR_MISSING, "%s[%zu].emailAddress is required", name, i);
                uint8_t *map = at;
                at = put_byte(encoder, at, 0x80);
                at = put_member_text(encoder, at, &count, 1, recipient->email_address);
                if (with_action)
                        at = put_member_text(encoder, at, &count, 2, recipient->action);
                at = put_member_text(encoder, at, &count, 3, recipient->status);
                at = put_member_text(encoder, at, &count, 4, recipient->diagnostic_code);
                at = encode_map_end(encoder, map, at, count);
        }
        return at;
}

static uint8_t *put_topics(struct encoder *encoder, uint8_t *at, uint8_t *count, uint8_t key,
                           struct sendring_topics list, const char *name)
{
        if (list.count == 0)
                return at;
        at = put_member_array(encoder, at, count, key, list.items, list.count, list.count * 2, name);
        for (size_t i = 0; i < list.count && encoder->code == ERR_OK; i++) {
                const struct sendring_topic *topic = &list.items[i];
                if (topic->topic_name.ptr == NULL || topic->topic_name.len == 0 ||
                    topic->subscription_status.ptr == NULL || topic->subscription_status.len == 0)
                        return encode_fail(encoder, ERR_MISSING,
                                           "%s[%zu]: topicName and subscriptionStatus are required", name, i);
                at = put_text(encoder, at, topic->topic_name);
                at = put_text(encoder, at, topic->subscription_status);
        }
        return at;
}

static uint8_t *put_preferences(struct encoder *encoder, uint8_t *at, uint8_t *object_count, uint8_t key,
                                const struct sendring_topic_preferences *preferences)
{
        uint8_t count = 1;
        at = put_byte(encoder, at, key);
        uint8_t *map = at;
        at = put_byte(encoder, at, 0x80);
        at = put_byte(encoder, at, 1);
        at = put_byte(encoder, at, preferences->unsubscribe_all != 0 ? 0xc3 : 0xc2);
        at = put_topics(encoder, at, &count, 2, preferences->topic_subscription_status,
                        "subscription.topicSubscriptionStatus");
        at = put_topics(encoder, at, &count, 3, preferences->topic_default_subscription_status,
                        "subscription.topicDefaultSubscriptionStatus");
        (*object_count)++;
        return encode_map_end(encoder, map, at, count);
}

static uint8_t *put_delivery(struct encoder *encoder, uint8_t *at, uint8_t *count,
                             const struct sendring_delivery *delivery)
{
        at = put_member_time(encoder, at, count, 1, delivery->timestamp_ms, "delivery.timestamp");
        if (delivery->processing_time_millis >= 0)
                at = put_member_int(encoder, at, count, 2, delivery->processing_time_millis);
        at = put_member_texts(encoder, at, count, 3, delivery->recipients, true, "delivery.recipients");
        at = put_member_text(encoder, at, count, 4, delivery->smtp_response);
        at = put_member_text(encoder, at, count, 5, delivery->remote_mta_ip);
        return put_member_text(encoder, at, count, 6, delivery->reporting_mta);
}

static uint8_t *put_bounce(struct encoder *encoder, uint8_t *at, uint8_t *count, const struct sendring_bounce *bounce)
{
        at = put_member_filled(encoder, at, count, 1, bounce->feedback_id, "bounce.feedbackId");
        at = put_member_filled(encoder, at, count, 2, bounce->bounce_type, "bounce.bounceType");
        at = put_member_filled(encoder, at, count, 3, bounce->bounce_sub_type, "bounce.bounceSubType");
        at = put_recipients(encoder, at, count, 4, bounce->bounced_recipients, true, "bounce.bouncedRecipients");
        at = put_member_time(encoder, at, count, 5, bounce->timestamp_ms, "bounce.timestamp");
        at = put_member_text(encoder, at, count, 6, bounce->remote_mta_ip);
        return put_member_text(encoder, at, count, 7, bounce->reporting_mta);
}

static uint8_t *put_complaint(struct encoder *encoder, uint8_t *at, uint8_t *count,
                              const struct sendring_complaint *complaint)
{
        at = put_member_filled(encoder, at, count, 1, complaint->feedback_id, "complaint.feedbackId");
        at = put_member_text(encoder, at, count, 2, complaint->complaint_sub_type);
        at = put_member_texts(encoder, at, count, 3, complaint->complained_recipients, true,
                              "complaint.complainedRecipients");
        at = put_member_time(encoder, at, count, 4, complaint->timestamp_ms, "complaint.timestamp");
        at = put_member_text(encoder, at, count, 5, complaint->user_agent);
        at = put_member_text(encoder, at, count, 6, complaint->complaint_feedback_type);
        return put_member_time_optional(encoder, at, count, 7, complaint->arrival_date_ms, "complaint.arrivalDate");
}

static uint8_t *put_delivery_delay(struct encoder *encoder, uint8_t *at, uint8_t *count,
                                   const struct sendring_delivery_delay *delay)
{
        at = put_member_time(encoder, at, count, 1, delay->timestamp_ms, "deliveryDelay.timestamp");
        at = put_member_filled(encoder, at, count, 2, delay->delay_type, "deliveryDelay.delayType");
        at = put_member_time_optional(encoder, at, count, 3, delay->expiration_time_ms, "deliveryDelay.expirationTime");
        at = put_member_text(encoder, at, count, 4, delay->reporting_mta);
        return put_recipients(encoder, at, count, 5, delay->delayed_recipients, false,
                              "deliveryDelay.delayedRecipients");
}

static uint8_t *put_subscription(struct encoder *encoder, uint8_t *at, uint8_t *count,
                                 const struct sendring_subscription *subscription)
{
        const struct sendring_topic_preferences *new_ones = &subscription->new_topic_preferences;
        const struct sendring_topic_preferences *old_ones = &subscription->old_topic_preferences;
        /* All four lists together: each topic costs 40 bytes of JSON whatever its length. */
        size_t counts[4] = {
                new_ones->topic_subscription_status.count, new_ones->topic_default_subscription_status.count,
                old_ones->topic_subscription_status.count, old_ones->topic_default_subscription_status.count};
        size_t topics = 0;
        for (size_t i = 0; i < 4; i++) {
                if (counts[i] > SENDRING_LIST_ITEMS_MAX - topics)
                        return encode_fail(encoder, ERR_RANGE, "subscription: more than %d topics",
                                           SENDRING_LIST_ITEMS_MAX);
                topics += counts[i];
        }
        at = put_member_text(encoder, at, count, 1, subscription->contact_list);
        at = put_member_time(encoder, at, count, 2, subscription->timestamp_ms, "subscription.timestamp");
        at = put_member_text(encoder, at, count, 3, subscription->source);
        at = put_preferences(encoder, at, count, 4, new_ones);
        return put_preferences(encoder, at, count, 5, old_ones);
}

static uint8_t *put_click(struct encoder *encoder, uint8_t *at, uint8_t *count, const struct sendring_click *click)
{
        at = put_member_time(encoder, at, count, 1, click->timestamp_ms, "click.timestamp");
        at = put_member_text(encoder, at, count, 2, click->ip_address);
        at = put_member_text(encoder, at, count, 3, click->user_agent);
        at = put_member_filled(encoder, at, count, 4, click->link, "click.link");
        at = put_member_tags(encoder, at, count, 5, click->link_tags, "click.linkTags",
                             encoder->tag_bytes_max == LIMIT_TAG_BYTES_MAX);
        return put_member_text(encoder, at, count, 6, click->is_bot_event);
}

static uint8_t *put_object(struct encoder *encoder, uint8_t *at, const struct sendring_event *event)
{
        uint8_t count = 0;
        at = put_byte(encoder, at, CODEC_TOP_OBJECT);
        uint8_t *map = at;
        at = put_byte(encoder, at, 0x80);
        switch (event->type) {
        case SENDRING_SEND:
                break; /* has none, and is not called */
        case SENDRING_RENDERING_FAILURE:
                at = put_member_text(encoder, at, &count, 1, event->failure.template_name);
                at = put_member_text(encoder, at, &count, 2, event->failure.error_message);
                break;
        case SENDRING_REJECT:
                at = put_member_text(encoder, at, &count, 1, event->reject.reason);
                break;
        case SENDRING_DELIVERY:
                at = put_delivery(encoder, at, &count, &event->delivery);
                break;
        case SENDRING_BOUNCE:
                at = put_bounce(encoder, at, &count, &event->bounce);
                break;
        case SENDRING_COMPLAINT:
                at = put_complaint(encoder, at, &count, &event->complaint);
                break;
        case SENDRING_DELIVERY_DELAY:
                at = put_delivery_delay(encoder, at, &count, &event->delivery_delay);
                break;
        case SENDRING_SUBSCRIPTION:
                at = put_subscription(encoder, at, &count, &event->subscription);
                break;
        case SENDRING_OPEN:
                at = put_member_time(encoder, at, &count, 1, event->open.timestamp_ms, "open.timestamp");
                at = put_member_text(encoder, at, &count, 2, event->open.user_agent);
                at = put_member_text(encoder, at, &count, 3, event->open.ip_address);
                at = put_member_text(encoder, at, &count, 4, event->open.is_bot_event);
                break;
        case SENDRING_CLICK:
                at = put_click(encoder, at, &count, &event->click);
                break;
        }
        return encode_map_end(encoder, map, at, count);
}

/* ---------------------------------------------------------------------------------------------- event */

static enum err_code encode_event(const struct sendring_event *event, uint8_t *out, size_t out_bytes, size_t *ret_bytes,
                                  struct err *reterr, uint32_t tag_bytes_max)
{
        if (event->size < sizeof(*event))
                return err_set(reterr, ERR_VERSION,
                               "event.size is %zu, this library knows events of %zu bytes and more: use "
                               "sendring_event_init()",
                               event->size, sizeof(*event));
        if ((unsigned)event->type < SENDRING_SEND || (unsigned)event->type > SENDRING_CLICK)
                return err_set(reterr, ERR_TYPE, "event.type %d is none of the ten types", (int)event->type);
        if (out_bytes < 8)
                return err_set(reterr, ERR_TOO_BIG, "the event does not fit into the room given for it");
        if (out_bytes > SENDRING_EVENT_BYTES_MAX)
                out_bytes = SENDRING_EVENT_BYTES_MAX;

        const struct sendring_mail *mail = &event->mail;
        struct encoder encoder = {
                .end = out + out_bytes, .reterr = reterr, .code = ERR_OK, .tag_bytes_max = tag_bytes_max};
        uint8_t count = 3; /* version, type, mail */
        uint8_t *at = out;
        at[1] = CODEC_TOP_VERSION;
        at[2] = CODEC_EVENT_VERSION;
        at[3] = CODEC_TOP_TYPE;
        at[4] = (uint8_t)event->type;
        at += 5;
        if (mail->configuration_set.ptr != NULL && mail->configuration_set.len > 0) {
                if (mail->configuration_set.len > LIMIT_NAME_BYTES_MAX)
                        return err_set(reterr, ERR_RANGE, "mail.configurationSet: %zu bytes, at most %u are allowed",
                                       mail->configuration_set.len, LIMIT_NAME_BYTES_MAX);
                at = put_member_text(&encoder, at, &count, CODEC_TOP_CONFIGURATION_SET, mail->configuration_set);
        }
        at = put_member_tags(&encoder, at, &count, CODEC_TOP_TAGS, mail->tags, "mail.tags", false);
        at = put_session(&encoder, at, &count, mail);
        at = put_mail(&encoder, at, mail);
        if (event->type != SENDRING_SEND) {
                at = put_object(&encoder, at, event);
                count++;
        }
        if (encoder.code != ERR_OK)
                return encoder.code;
        out[0] = (uint8_t)(0x80 | count);
        *ret_bytes = (size_t)(at - out);
        return ERR_OK;
}

enum err_code codec_event_encode(const struct sendring_event *event, uint8_t *out, size_t out_bytes, size_t *ret_bytes,
                                 struct err *reterr)
{
        return encode_event(event, out, out_bytes, ret_bytes, reterr, LIMIT_TAG_BYTES_MAX);
}

enum err_code codec_event_encode_read(const struct sendring_event *event, uint8_t *out, size_t out_bytes,
                                      size_t *ret_bytes, struct err *reterr)
{
        return encode_event(event, out, out_bytes, ret_bytes, reterr, LIMIT_TAG_READ_BYTES_MAX);
}
