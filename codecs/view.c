/* One validating pass over a msgpack event. The bytes come from any program on the host: every length is checked
 * against what is left before it is used, nothing is recursive save unknown values, and those by a bounded depth.
 *
 * Functions take the read position and return the next one, or NULL after decode_fail(). */
#include "codecs/codec.h"
#include "codecs/codec_internal.h"
#include "codecs/tag.h"

#include "base/assert.h"
#include "base/limits.h"

#include <math.h>

struct decoder {
        const uint8_t *start, *end;
        enum err_code code;
        struct err *reterr;
        uint32_t topics;        /* so far */
        uint32_t extra_members; /* so far, all levels */
        struct slice text;      /* the last text read */
};

/* ---------------------------------------------------------------------------------------------- failure */

static __attribute__((noinline, cold)) const uint8_t *decode_fail(struct decoder *decoder, const uint8_t *at,
                                                                  enum err_code code, const char *reason)
{
        if (decoder->code == ERR_OK) {
                decoder->code = code;
                (void)err_set(decoder->reterr, code, "offset %zu: %s", (size_t)(at - decoder->start),
                              reason); /* the code is kept above */
        }
        return NULL;
}

/* Names the member that a value belongs to: innermost first, so the outer ones are put before it. */
static __attribute__((noinline, cold)) const uint8_t *decode_fail_in(struct decoder *decoder,
                                                                     const struct codec_schema *schema, unsigned key)
{
        const struct codec_member *member = &schema->members[key];
        (void)err_wrap(decoder->reterr, "%s.%.*s", schema->name, (int)(member->json_bytes - 4),
                       member->json + 2); /* the code is kept in the decoder */
        return NULL;
}

/* ---------------------------------------------------------------------------------------------- values */

static inline size_t decode_left(const struct decoder *decoder, const uint8_t *at)
{
        return (size_t)(decoder->end - at);
}

static __attribute__((noinline)) const uint8_t *decode_text_other(struct decoder *decoder, const uint8_t *at)
{
        size_t left = decode_left(decoder, at);
        size_t head, len;
        if (left == 0)
                return decode_fail(decoder, at, ERR_SYNTAX, "the event ends where a text must begin");
        if ((at[0] & 0xe0) == 0xa0) {
                head = 1;
                len = at[0] & 0x1f;
        } else if (at[0] == 0xd9 && left >= 2) {
                head = 2;
                len = at[1];
        } else if (at[0] == 0xda && left >= 3) {
                head = 3;
                len = codec_load_be16(at + 1);
        } else if (at[0] == 0xdb && left >= 5) {
                head = 5;
                len = codec_load_be32(at + 1);
        } else if (at[0] >= 0xd9 && at[0] <= 0xdb) {
                return decode_fail(decoder, at, ERR_SYNTAX, "the event ends inside the header of a text");
        } else {
                return decode_fail(decoder, at, ERR_TYPE, "not a text (str)");
        }
        if (len > left - head)
                return decode_fail(decoder, at, ERR_SYNTAX, "the event ends inside a text");
        decoder->text = slice_of(at + head, len);
        return at + head + len;
}

/* The text is left in decoder->text. */
static inline const uint8_t *decode_text(struct decoder *decoder, const uint8_t *at)
{
        size_t left = decode_left(decoder, at);
        if (__builtin_expect(left >= 2 && at[0] == 0xd9 && at[1] <= left - 2, 1)) {
                decoder->text = slice_of(at + 2, at[1]);
                return at + 2 + at[1];
        }
        return decode_text_other(decoder, at);
}

static inline const uint8_t *decode_text_skip(struct decoder *decoder, const uint8_t *at)
{
        size_t left = decode_left(decoder, at);
        if (__builtin_expect(left >= 2 && at[0] == 0xd9 && at[1] <= left - 2, 1))
                return at + 2 + at[1];
        return decode_text_other(decoder, at);
}

/* An integer that is not negative, in any width. */
static __attribute__((noinline)) const uint8_t *decode_uint_other(struct decoder *decoder, const uint8_t *at,
                                                                  uint64_t *ret_value)
{
        size_t left = decode_left(decoder, at);
        if (left == 0)
                return decode_fail(decoder, at, ERR_SYNTAX, "the event ends where a number must begin");
        uint8_t head = at[0];
        if (head < 0x80) {
                *ret_value = head;
                return at + 1;
        }
        if (head >= 0xe0)
                return decode_fail(decoder, at, ERR_RANGE, "negative");
        size_t width;
        if (head >= 0xcc && head <= 0xcf)
                width = (size_t)1 << (head - 0xcc);
        else if (head >= 0xd0 && head <= 0xd3)
                width = (size_t)1 << (head - 0xd0);
        else
                return decode_fail(decoder, at, ERR_TYPE, "not an integer");
        if (left < 1 + width)
                return decode_fail(decoder, at, ERR_SYNTAX, "the event ends inside a number");
        if (head >= 0xd0 && at[1] >= 0x80)
                return decode_fail(decoder, at, ERR_RANGE, "negative");
        uint64_t value = 0;
        for (size_t i = 0; i < width; i++)
                value = value << 8 | at[1 + i];
        *ret_value = value;
        return at + 1 + width;
}

static inline const uint8_t *decode_uint(struct decoder *decoder, const uint8_t *at, uint64_t max, uint64_t *ret_value)
{
        const uint8_t *next;
        if (decode_left(decoder, at) >= 9 && at[0] == 0xcf) {
                *ret_value = codec_load_be64(at + 1);
                next = at + 9;
        } else {
                next = decode_uint_other(decoder, at, ret_value);
        }
        if (next != NULL && *ret_value > max)
                return decode_fail(decoder, at, ERR_RANGE, "number out of range");
        return next;
}

static __attribute__((noinline)) const uint8_t *decode_count_other(struct decoder *decoder, const uint8_t *at,
                                                                   uint8_t fix, uint8_t wide, uint32_t *ret_count)
{
        size_t left = decode_left(decoder, at);
        if (left >= 5 && at[0] == wide + 1) {
                *ret_count = codec_load_be32(at + 1);
                return at + 5;
        }
        if (left == 0 || at[0] == wide || at[0] == wide + 1)
                return decode_fail(decoder, at, ERR_SYNTAX, "the event ends inside the header of a list");
        return decode_fail(decoder, at, ERR_TYPE, fix == 0x90 ? "not an array" : "not a map");
}

/* Header of an array (0x90, 0xdc) or a map (0x80, 0xde). The count is not yet backed by bytes. */
static inline const uint8_t *decode_count(struct decoder *decoder, const uint8_t *at, uint8_t fix, uint8_t wide,
                                          uint32_t *ret_count)
{
        size_t left = decode_left(decoder, at);
        if (left >= 1 && (at[0] & 0xf0) == fix) {
                *ret_count = at[0] & 0x0f;
                return at + 1;
        }
        if (left >= 3 && at[0] == wide) {
                *ret_count = codec_load_be16(at + 1);
                return at + 3;
        }
        return decode_count_other(decoder, at, fix, wide, ret_count);
}

static inline const uint8_t *decode_map_count(struct decoder *decoder, const uint8_t *at, uint32_t *ret_count)
{
        return decode_count(decoder, at, 0x80, 0xde, ret_count);
}

static inline const uint8_t *decode_array_count(struct decoder *decoder, const uint8_t *at, uint32_t count_max,
                                                uint32_t *ret_count)
{
        const uint8_t *next = decode_count(decoder, at, 0x90, 0xdc, ret_count);
        if (next != NULL && *ret_count > count_max)
                return decode_fail(decoder, at, ERR_RANGE, "list too long");
        return next;
}

/* ---------------------------------------------------------------------------------------------- lists */

static const uint8_t *decode_texts(struct decoder *decoder, const uint8_t *at, bool required)
{
        uint32_t count;
        const uint8_t *list = at;
        at = decode_array_count(decoder, at, LIMIT_LIST_ITEMS_MAX, &count);
        if (at == NULL)
                return NULL;
        if (required && count == 0)
                return decode_fail(decoder, list, ERR_MISSING, "at least one element is required");
        for (uint32_t i = 0; i < count && at != NULL; i++)
                at = decode_text_skip(decoder, at);
        return at;
}

/* Array of texts in twos. */
static inline const uint8_t *decode_pairs_count(struct decoder *decoder, const uint8_t *at, uint32_t *ret_count)
{
        const uint8_t *next = decode_array_count(decoder, at, 2 * LIMIT_LIST_ITEMS_MAX, ret_count);
        if (next != NULL && *ret_count % 2 != 0)
                return decode_fail(decoder, at, ERR_SYNTAX, "an odd number of elements in a list of pairs");
        return next;
}

static const uint8_t *decode_headers(struct decoder *decoder, const uint8_t *at)
{
        uint32_t count;
        at = decode_pairs_count(decoder, at, &count);
        for (uint32_t i = 0; i < count && at != NULL; i++)
                at = decode_text_skip(decoder, at);
        return at;
}

static const uint8_t *decode_topics(struct decoder *decoder, const uint8_t *at)
{
        uint32_t count;
        const uint8_t *list = at;
        at = decode_pairs_count(decoder, at, &count);
        if (at == NULL)
                return NULL;
        decoder->topics += count / 2;
        if (decoder->topics > LIMIT_LIST_ITEMS_MAX)
                return decode_fail(decoder, list, ERR_RANGE, "too many topics");
        for (uint32_t i = 0; i < count; i++) {
                const uint8_t *text = at;
                at = decode_text(decoder, at);
                if (at == NULL)
                        return NULL;
                if (decoder->text.len == 0)
                        return decode_fail(decoder, text, ERR_MISSING, "topicName and subscriptionStatus are required");
        }
        return at;
}

static bool tag_text_is_good(struct slice text, uint8_t bit)
{
        for (size_t i = 0; i < text.len; i++)
                if ((codec_tag_bytes[text.ptr[i]] & bit) == 0)
                        return false;
        return true;
}

/* In SES's words. */
static __attribute__((noinline, cold)) const uint8_t *decode_tag_bad(struct decoder *decoder, const uint8_t *at,
                                                                     struct slice text, bool is_value)
{
        struct err why;
        enum err_code code = codec_tag_check_within(is_value ? SLICE("n") : text, is_value ? text : SLICE("v"),
                                                    LIMIT_TAG_READ_BYTES_MAX, &why);
        ASSERT(code != ERR_OK);
        return decode_fail(decoder, at, code, why.text);
}

#if CODEC_TAG_AVX2
/* Two texts of 1 to 16 bytes behind their heads take that many bytes at most. */
#define TAG_PLAIN_BYTES_MAX (2 * (2 + 16))

/* Steps over tags while they are short and good, as nearly all are; the others are looked at one by one. */
static __attribute__((target("avx2,bmi2"))) const uint8_t *decode_tags_plain(const struct decoder *decoder,
                                                                             const uint8_t *at, uint32_t *count)
{
        const uint8_t *end = decoder->end;
        uint32_t left = *count;
        while (left > 0 && end - at >= TAG_PLAIN_BYTES_MAX) {
                uint32_t name_len = at[1];
                if (__builtin_expect(at[0] != 0xd9 || name_len - 1 >= 16, 0))
                        break;
                const uint8_t *value = at + 2 + name_len;
                uint32_t value_len = value[1];
                if (__builtin_expect(value[0] != 0xd9 || value_len - 1 >= 16, 0))
                        break;
                __m128i name_bytes = _mm_loadu_si128((const __m128i *)(const void *)(at + 2));
                __m128i value_bytes = _mm_loadu_si128((const __m128i *)(const void *)(value + 2));
                uint32_t bad = (uint32_t)_mm256_movemask_epi8(codec_tag_bad(_mm256_set_m128i(value_bytes, name_bytes)));
                /* What lies behind each text may be bad. */
                if (__builtin_expect((_bzhi_u32(bad, name_len) | _bzhi_u32(bad >> 16, value_len)) != 0, 0))
                        break;
                at = value + 2 + value_len;
                left -= 2;
        }
        *count = left;
        return at;
}
#endif

static const uint8_t *decode_tags(struct decoder *decoder, const uint8_t *at)
{
        uint32_t count;
        at = decode_pairs_count(decoder, at, &count);
        if (at == NULL)
                return NULL;
        for (; count > 0; count -= 2) {
#if CODEC_TAG_AVX2
                if (codec_tag_has_avx2())
                        at = decode_tags_plain(decoder, at, &count);
                if (count == 0)
                        break;
#endif
                const uint8_t *name_at = at;
                at = decode_text(decoder, at);
                if (at == NULL)
                        return NULL;
                struct slice name = decoder->text;
                if (__builtin_expect(
                            name.len - 1 >= LIMIT_TAG_READ_BYTES_MAX || !tag_text_is_good(name, CODEC_TAG_NAME), 0) &&
                    !codec_tag_is_feedback_id(name.ptr, name.len))
                        return decode_tag_bad(decoder, name_at, name, false);
                const uint8_t *value_at = at;
                at = decode_text(decoder, at);
                if (at == NULL)
                        return NULL;
                struct slice value = decoder->text;
                if (__builtin_expect(
                            value.len - 1 >= LIMIT_TAG_READ_BYTES_MAX || !tag_text_is_good(value, CODEC_TAG_VALUE), 0))
                        return decode_tag_bad(decoder, value_at, value, true);
        }
        return at;
}

/* ---------------------------------------------------------------------------------------------- unknown members */

static const uint8_t *decode_extra_value(struct decoder *decoder, const uint8_t *at, unsigned depth);

/* The name of an unknown member: a text that is valid UTF-8, so that two different names stay different in JSON, and
 * none of the `names_count` before it. */
static const uint8_t *decode_extra_name(struct decoder *decoder, const uint8_t *at, struct slice *names,
                                        uint32_t names_count)
{
        const uint8_t *next = decode_text(decoder, at);
        if (next == NULL)
                return NULL;
        struct slice name = decoder->text;
        if (slice_find_byte(name, 0) < name.len) /* many JSON readers refuse it in names */
                return decode_fail(decoder, at, ERR_NAME, "the name of an unknown member holds a NUL");
        for (size_t i = 0, bad; i < name.len;) {
                size_t bytes = codec_utf8_sequence(name.ptr + i, name.ptr + name.len, &bad);
                if (bytes == 0)
                        return decode_fail(decoder, at, ERR_UTF8, "the name of an unknown member is not valid UTF-8");
                i += bytes;
        }
        for (uint32_t i = 0; i < names_count; i++)
                if (slice_equal(names[i], name))
                        return decode_fail(decoder, at, ERR_DUPLICATE, "this unknown member was given before");
        if (++decoder->extra_members > CODEC_EXTRA_TOTAL_MAX)
                return decode_fail(decoder, at, ERR_RANGE, "too many unknown members");
        names[names_count] = name;
        return next;
}

static const uint8_t *decode_extra_map(struct decoder *decoder, const uint8_t *at, unsigned depth)
{
        struct slice names[CODEC_EXTRA_MEMBERS_MAX];
        uint32_t count = 0;
        const uint8_t *map = at;
        at = decode_map_count(decoder, at, &count);
        if (at == NULL)
                return NULL;
        if (count > CODEC_EXTRA_MEMBERS_MAX)
                return decode_fail(decoder, map, ERR_RANGE, "an unknown map has too many members");
        for (uint32_t i = 0; i < count && at != NULL; i++) {
                at = decode_extra_name(decoder, at, names, i);
                if (at != NULL)
                        at = decode_extra_value(decoder, at, depth + 1);
        }
        return at;
}

static const uint8_t *decode_extra_array(struct decoder *decoder, const uint8_t *at, unsigned depth)
{
        uint32_t count;
        at = decode_array_count(decoder, at, UINT32_MAX, &count);
        for (uint32_t i = 0; i < count && at != NULL; i++) /* ends at the latest with the bytes */
                at = decode_extra_value(decoder, at, depth + 1);
        return at;
}

static const uint8_t *decode_extra_float(struct decoder *decoder, const uint8_t *at)
{
        size_t bytes = at[0] == 0xca ? 5 : 9;
        if (decode_left(decoder, at) < bytes)
                return decode_fail(decoder, at, ERR_SYNTAX, "the event ends inside a number");
        double value;
        if (bytes == 5) {
                uint32_t bits = codec_load_be32(at + 1);
                float narrow;
                memcpy(&narrow, &bits, sizeof(narrow));
                value = (double)narrow;
        } else {
                uint64_t bits = codec_load_be64(at + 1);
                memcpy(&value, &bits, sizeof(value));
        }
        if (!isfinite(value))
                return decode_fail(decoder, at, ERR_RANGE, "JSON has no infinity and no NaN");
        return at + bytes;
}

/* Anything that JSON can say. */
static const uint8_t *decode_extra_value(struct decoder *decoder, const uint8_t *at, unsigned depth)
{
        if (depth > LIMIT_MSGPACK_DEPTH_MAX)
                return decode_fail(decoder, at, ERR_RANGE, "nested too deeply");
        if (decode_left(decoder, at) == 0)
                return decode_fail(decoder, at, ERR_SYNTAX, "the event ends where a value must begin");
        uint8_t head = at[0];
        if (head < 0x80 || head >= 0xe0 || head == 0xc0 || head == 0xc2 || head == 0xc3)
                return at + 1;
        if (head < 0x90 || head == 0xde || head == 0xdf)
                return decode_extra_map(decoder, at, depth);
        if (head < 0xa0 || head == 0xdc || head == 0xdd)
                return decode_extra_array(decoder, at, depth);
        if (head < 0xc0 || (head >= 0xd9 && head <= 0xdb))
                return decode_text(decoder, at);
        if (head == 0xca || head == 0xcb)
                return decode_extra_float(decoder, at);
        if (head >= 0xcc && head <= 0xd3) {
                size_t bytes = 1 + ((size_t)1 << (head >= 0xd0 ? head - 0xd0 : head - 0xcc));
                if (decode_left(decoder, at) < bytes)
                        return decode_fail(decoder, at, ERR_SYNTAX, "the event ends inside a number");
                return at + bytes;
        }
        return decode_fail(decoder, at, ERR_TYPE, "bin, ext and timestamp values have no JSON form");
}

/* The unknown members at the end of a known map; `schema` NULL: the top level. */
static __attribute__((noinline)) const uint8_t *decode_extra(struct decoder *decoder, const uint8_t *at, uint32_t count,
                                                             const struct codec_schema *schema)
{
        struct slice names[CODEC_EXTRA_MEMBERS_MAX];
        if (count > CODEC_EXTRA_MEMBERS_MAX)
                return decode_fail(decoder, at, ERR_RANGE, "too many unknown members");
        for (uint32_t i = 0; i < count; i++) {
                const uint8_t *key = at;
                if (decode_left(decoder, at) > 0 && at[0] < 0x80)
                        return decode_fail(decoder, at, ERR_SYNTAX,
                                           "integer keys come before the others, in ascending order");
                at = decode_extra_name(decoder, at, names, i);
                if (at == NULL)
                        return NULL;
                /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): decode_extra_name() has written it */
                if (codec_name_is_taken(schema, names[i]))
                        return decode_fail(decoder, key, ERR_NAME, "an unknown member has the name of a known one");
                at = decode_extra_value(decoder, at, 1);
                if (at == NULL)
                        return NULL;
        }
        return at;
}

/* ---------------------------------------------------------------------------------------------- known maps */

static const uint8_t *decode_map(struct decoder *decoder, const uint8_t *at, const struct codec_schema *schema);

static const uint8_t *decode_recipients(struct decoder *decoder, const uint8_t *at)
{
        uint32_t count;
        const uint8_t *list = at;
        at = decode_array_count(decoder, at, LIMIT_LIST_ITEMS_MAX, &count);
        if (at == NULL)
                return NULL;
        if (count == 0)
                return decode_fail(decoder, list, ERR_MISSING, "at least one element is required");
        for (uint32_t i = 0; i < count && at != NULL; i++)
                at = decode_map(decoder, at, &codec_schema_recipient);
        return at;
}

static __attribute__((noinline)) const uint8_t *decode_member(struct decoder *decoder, const uint8_t *at,
                                                              const struct codec_member *member)
{
        bool required = (member->flags & CODEC_MEMBER_REQUIRED) != 0;
        uint64_t number;
        switch ((enum codec_kind)member->kind) {
        case CODEC_KIND_TEXT: {
                const uint8_t *text = at;
                at = decode_text(decoder, at);
                if (at != NULL && decoder->text.len == 0 && (member->flags & CODEC_MEMBER_NOT_EMPTY) != 0)
                        return decode_fail(decoder, text, ERR_MISSING, "must not be empty");
                return at;
        }
        case CODEC_KIND_TIME:
                at = decode_uint(decoder, at, (uint64_t)CODEC_TIME_MS_MAX, &number);
                return at;
        case CODEC_KIND_COUNT:
                return decode_uint(decoder, at, INT64_MAX, &number);
        case CODEC_KIND_FLAG:
                if (decode_left(decoder, at) < 1)
                        return decode_fail(decoder, at, ERR_SYNTAX, "the event ends where a bool must begin");
                if (at[0] != 0xc2 && at[0] != 0xc3)
                        return decode_fail(decoder, at, ERR_TYPE, "not a bool");
                return at + 1;
        case CODEC_KIND_TEXTS:
        case CODEC_KIND_ADDRESSES:
                return decode_texts(decoder, at, required);
        case CODEC_KIND_HEADERS:
                return decode_headers(decoder, at);
        case CODEC_KIND_TAGS:
                return decode_tags(decoder, at);
        case CODEC_KIND_TOPICS:
                return decode_topics(decoder, at);
        case CODEC_KIND_RECIPIENTS:
                return decode_recipients(decoder, at);
        case CODEC_KIND_MAP:
                return decode_map(decoder, at, member->schema);
        }
        return decode_fail(decoder, at, ERR_BUG, "a kind of member that does not exist");
}

static __attribute__((noinline, cold)) const uint8_t *decode_fail_missing(struct decoder *decoder, const uint8_t *at,
                                                                          const struct codec_schema *schema,
                                                                          uint32_t missing)
{
        (void)decode_fail(decoder, at, ERR_MISSING, "required"); /* returns NULL, as we do */
        return decode_fail_in(decoder, schema, (unsigned)__builtin_ctz(missing));
}

/* A member of the forms that libsendring writes most, text of 1 to 255 bytes and number of 64 bits: returns what is
 * behind it, or NULL for decode_member() to look at. `at` is at its key, `left` bytes are there. */
static inline const uint8_t *decode_member_plain(const uint8_t *at, size_t left, const struct codec_member *member)
{
        if (__builtin_expect(left < 3, 0))
                return NULL;
        if (member->kind == CODEC_KIND_TEXT) {
                size_t len = at[2];
                /* 0 - 1 is too much as well. */
                return __builtin_expect(at[1] == 0xd9 && len - 1 < left - 3, 1) ? at + 3 + len : NULL;
        }
        if (member->kind == CODEC_KIND_TIME || member->kind == CODEC_KIND_COUNT)
                return at[1] == 0xcf && left >= 10 && codec_load_be64(at + 2) <= (uint64_t)CODEC_TIME_MS_MAX ? at + 10
                                                                                                             : NULL;
        return NULL;
}

/* Not a key that the schema may have now: unknown members, or an error. */
static __attribute__((noinline)) const uint8_t *decode_map_end(struct decoder *decoder, const uint8_t *at,
                                                               const struct codec_schema *schema, uint32_t count,
                                                               unsigned last)
{
        if (decode_left(decoder, at) == 0)
                return decode_fail(decoder, at, ERR_SYNTAX, "the event ends inside a map");
        unsigned key = at[0];
        if (key < 0x80)
                return decode_fail(decoder, at, key == last && last != 0 ? ERR_DUPLICATE : ERR_NAME,
                                   key <= last ? "integer keys must be in ascending order, each once"
                                               : "unknown integer key");
        if (!schema->extra)
                return decode_fail(decoder, at, ERR_NAME, "this map takes only the documented integer keys");
        return decode_extra(decoder, at, count, schema);
}

/* Where `values` is given, values[key] becomes where the value of each member begins. */
static inline __attribute__((always_inline)) const uint8_t *decode_map_values(struct decoder *decoder,
                                                                              const uint8_t *at,
                                                                              const struct codec_schema *schema,
                                                                              const uint8_t **values)
{
        uint32_t count_given = 0, seen = 0;
        const uint8_t *map = at;
        at = decode_map_count(decoder, at, &count_given);
        if (at == NULL)
                return NULL;
        const unsigned keys_end = schema->keys_end;
        unsigned last = 0;
        for (uint32_t count = count_given; count > 0; count--) {
                size_t left = decode_left(decoder, at);
                unsigned key = left > 0 ? at[0] : 0;
                if (__builtin_expect(key <= last || key >= keys_end, 0)) {
                        at = decode_map_end(decoder, at, schema, count, last);
                        if (at == NULL)
                                return NULL;
                        break;
                }
                const struct codec_member *member = &schema->members[key];
                const uint8_t *next = decode_member_plain(at, left, member);
                if (next == NULL) {
                        next = decode_member(decoder, at + 1, member);
                        if (__builtin_expect(next == NULL, 0))
                                return decode_fail_in(decoder, schema, key);
                }
                if (values != NULL)
                        values[key] = at + 1;
                last = key;
                seen |= 1u << key;
                at = next;
        }
        uint32_t missing = schema->required_mask & ~seen;
        if (__builtin_expect(missing != 0, 0))
                return decode_fail_missing(decoder, map, schema, missing);
        return at;
}

static __attribute__((noinline)) const uint8_t *decode_map(struct decoder *decoder, const uint8_t *at,
                                                           const struct codec_schema *schema)
{
        return decode_map_values(decoder, at, schema, NULL);
}

/* ---------------------------------------------------------------------------------------------- event */

/* mail, and what the router needs of it. */
static const uint8_t *decode_mail(struct decoder *decoder, const uint8_t *at, struct codec_view *view)
{
        const uint8_t *values[CODEC_SCHEMA_KEYS_MAX] = {NULL};
        const uint8_t *next = decode_map_values(decoder, at, &codec_schema_mail, values);
        if (next == NULL)
                return NULL;
        /* Both are required. */
        ASSERT(values[CODEC_MAIL_TIMESTAMP] != NULL);
        ASSERT(values[CODEC_MAIL_MESSAGE_ID] != NULL);
        view->timestamp_ms = (int64_t)codec_trusted_uint(&values[CODEC_MAIL_TIMESTAMP]);
        view->message_id = codec_trusted_text(&values[CODEC_MAIL_MESSAGE_ID]);
        if (view->message_id.len > CODEC_MESSAGE_ID_BYTES_MAX)
                return decode_fail(decoder, view->message_id.ptr, ERR_RANGE, "mail.messageId is too long");
        view->mail = slice_of(at, (size_t)(next - at));
        return next;
}

static __attribute__((noinline, cold)) const uint8_t *decode_fail_order(struct decoder *decoder, const uint8_t *at,
                                                                        unsigned next)
{
        return decode_fail(decoder, at, at[0] + 1u == next ? ERR_DUPLICATE : ERR_NAME,
                           "integer keys must be in ascending order, each once, version and type first");
}

static __attribute__((noinline, cold)) const uint8_t *decode_fail_top_missing(struct decoder *decoder,
                                                                              const uint8_t *at)
{
        return decode_fail(decoder, at, ERR_MISSING, "version, type and mail are required");
}

/* Why what begins at `at` is not version and type. */
static __attribute__((noinline, cold)) const uint8_t *decode_fail_head(struct decoder *decoder, const uint8_t *at,
                                                                       uint32_t count)
{
        for (unsigned key = CODEC_TOP_VERSION;; key++, count--) {
                if (count > 0 && decode_left(decoder, at) == 0)
                        return decode_fail(decoder, at, ERR_SYNTAX, "the event ends inside its map");
                if (count == 0 || at[0] >= 0x80)
                        return decode_fail_top_missing(decoder, at);
                if (at[0] != key)
                        return decode_fail_order(decoder, at, key);
                at++;
                if (key == CODEC_TOP_TYPE)
                        return decode_fail(decoder, at, ERR_TYPE, "the event type must be 1 to 10");
                if (decode_left(decoder, at) < 1 || at[0] != CODEC_EVENT_VERSION)
                        return decode_fail(decoder, at, ERR_VERSION, "the format version must be 1");
                at++;
        }
}

/* Version and type, the first two of `count` members. */
static inline const uint8_t *decode_head(struct decoder *decoder, const uint8_t *at, uint32_t count,
                                         struct codec_view *view)
{
        if (__builtin_expect(count < 2 || decode_left(decoder, at) < 4 || at[0] != CODEC_TOP_VERSION ||
                                     at[1] != CODEC_EVENT_VERSION || at[2] != CODEC_TOP_TYPE || at[3] < SENDRING_SEND ||
                                     at[3] > SENDRING_CLICK,
                             0))
                return decode_fail_head(decoder, at, count);
        view->type = (enum sendring_event_type)at[3];
        return at + 4;
}

static const uint8_t *decode_top_member(struct decoder *decoder, const uint8_t *at, unsigned key,
                                        struct codec_view *view)
{
        const uint8_t *value = at;
        switch (key) {
        case CODEC_TOP_CONFIGURATION_SET:
                at = decode_text(decoder, at);
                if (at == NULL)
                        return NULL;
                if (decoder->text.len > LIMIT_NAME_BYTES_MAX)
                        return decode_fail(decoder, value, ERR_RANGE, "the configuration set's name is too long");
                view->configuration_set = decoder->text;
                return at;
        case CODEC_TOP_TAGS:
                at = decode_tags(decoder, at);
                if (at != NULL)
                        view->tags = slice_of(value, (size_t)(at - value));
                return at;
        case CODEC_TOP_SESSION:
                at = decode_map(decoder, at, &codec_schema_session);
                if (at != NULL)
                        view->session = slice_of(value, (size_t)(at - value));
                return at;
        case CODEC_TOP_MAIL:
                return decode_mail(decoder, at, view);
        case CODEC_TOP_OBJECT:
                at = decode_map(decoder, at, &codec_types[view->type].schema);
                if (at != NULL)
                        view->object = slice_of(value, (size_t)(at - value));
                return at;
        default:
                return decode_fail(decoder, at - 1, ERR_NAME, "unknown integer key");
        }
}

enum err_code codec_view_decode(struct slice event, struct codec_view *ret_view, struct err *reterr)
{
        if (event.len > LIMIT_EVENT_BYTES_MAX)
                return err_set(reterr, ERR_TOO_BIG, "%zu bytes, an event has at most %u", event.len,
                               LIMIT_EVENT_BYTES_MAX);
        if (event.len == 0)
                return err_set(reterr, ERR_SYNTAX, "offset 0: the event is empty");
        struct decoder decoder = {
                .start = event.ptr,
                .end = event.ptr + event.len,
                .code = ERR_OK,
                .reterr = reterr,
        };
        struct codec_view view = {.event = event};
        uint32_t count;
        const uint8_t *at = decode_map_count(&decoder, event.ptr, &count);
        if (at == NULL)
                return decoder.code;
        at = decode_head(&decoder, at, count, &view);
        if (at == NULL)
                return decoder.code;
        unsigned next = CODEC_TOP_TYPE + 1;
        for (count -= 2; count > 0; count--) {
                if (decode_left(&decoder, at) == 0) {
                        (void)decode_fail(&decoder, at, ERR_SYNTAX, "the event ends inside its map");
                        return decoder.code;
                }
                unsigned key = at[0];
                if (key >= 0x80)
                        break;
                if (key < next) {
                        (void)decode_fail_order(&decoder, at, next);
                        return decoder.code;
                }
                at = decode_top_member(&decoder, at + 1, key, &view);
                if (at == NULL)
                        return decoder.code;
                next = key + 1;
        }
        if (view.mail.len == 0) {
                (void)decode_fail_top_missing(&decoder, at);
                return decoder.code;
        }
        if (view.object.len == 0) {
                const struct codec_schema *schema = &codec_types[view.type].schema;
                if (schema->required_mask != 0) {
                        (void)decode_fail_missing(&decoder, at, schema, schema->required_mask);
                        return decoder.code;
                }
        }
        if (count > 0) {
                const uint8_t *extra = at;
                at = decode_extra(&decoder, at, count, NULL);
                if (at == NULL)
                        return decoder.code;
                view.extra = slice_of(extra, (size_t)(at - extra));
                view.extra_count = count;
        }
        if (at != decoder.end) {
                (void)decode_fail(&decoder, at, ERR_SYNTAX, "bytes behind the end of the event");
                return decoder.code;
        }
        *ret_view = view;
        return ERR_OK;
}
