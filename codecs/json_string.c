#include "codecs/json_text.h"

#define X16 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1
#define O16 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0

const uint8_t json_text_specials[256] = {
        X16, X16, 0,   0,   1,   0,   0,   0,   0, 0, 0, 0, 0, 0, 0, 0, 0,   0,   O16, O16, /* 0x22 is the quote */
        0,   0,   0,   0,   0,   0,   0,   0,   0, 0, 0, 0, 1, 0, 0, 0, O16, O16,           /* 0x5c the backslash */
        X16, X16, X16, X16, X16, X16, X16, X16,
};

/* The letter of the short escapes; 0: \u00XX. */
static const uint8_t json_escapes[0x5d] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r', ['"'] = '"', ['\\'] = '\\',
};

uint8_t *json_text_special(struct json_out *out, uint8_t *at, const uint8_t **p, const uint8_t *text_end)
{
        const uint8_t *from = *p;
        if (*from < 0x80) {
                uint8_t byte = *from;
                *p = from + 1;
                if (json_escapes[byte] != 0) {
                        uint8_t escape[2] = {'\\', json_escapes[byte]};
                        return json_bytes(out, at, escape, 2);
                }
                uint8_t escape[6] = {
                        '\\', 'u', '0', '0', (uint8_t)('0' + (byte >> 4)), (uint8_t) "0123456789ABCDEF"[byte & 15]};
                return json_bytes(out, at, escape, 6);
        }
        do {
                size_t bad;
                size_t bytes = codec_utf8_sequence(from, text_end, &bad);
                if (bytes > 0) {
                        at = json_bytes(out, at, from, bytes);
                        from += bytes;
                } else {
                        at = JSON_LITERAL(out, at, "\xef\xbf\xbd");
                        from += bad;
                }
        } while (from < text_end && *from >= 0x80);
        *p = from;
        return at;
}

#if JSON_TEXT_SSE2
/* A text of less than 16 bytes with zeros behind it, and nothing beyond it read. */
static __m128i json_load_short(const uint8_t *text, size_t len)
{
        uint64_t low = 0, high = 0;
        if (len >= 8) {
                memcpy(&low, text, 8);
                memcpy(&high, text + len - 8, 8); /* its first bytes are the last of `low` */
                return _mm_set_epi64x((long long)(high >> 1 >> (8 * (16 - len) - 1)), (long long)low);
        }
        if (len >= 4) {
                uint32_t first, last;
                memcpy(&first, text, 4);
                memcpy(&last, text + len - 4, 4);
                low = first | (uint64_t)last << (8 * (len - 4));
        } else if (len > 0) {
                low = text[0] | (uint64_t)text[len / 2] << (8 * (len / 2)) | (uint64_t)text[len - 1] << (8 * (len - 1));
        }
        return _mm_set_epi64x(0, (long long)low);
}
#endif

uint8_t *json_text_any(struct json_out *out, uint8_t *at, struct slice text, const uint8_t *readable)
{
        const uint8_t *p = text.ptr, *text_end = text.ptr + text.len;
        (void)readable;
        ASSERT_KNOWN(p != NULL || text.len == 0);
#if JSON_TEXT_SSE2
        if (text.len < 16 && readable - p < 16 && json_room(out, at) >= 16) {
                __m128i bytes = json_load_short(p, text.len);
                if ((json_text_mask(bytes) & ((1u << text.len) - 1)) == 0) {
                        json_store(at, bytes);
                        return at + text.len;
                }
        }
#endif
#if JSON_TEXT_WIDE
        const uint8_t *wide_from = p; /* not before: there were escapes close together */
#endif
        while (p < text_end) {
                ASSERT_KNOWN(p != NULL);
#if JSON_TEXT_WIDE
                size_t rest = (size_t)(text_end - p);
                if (rest >= JSON_TEXT_WIDE_BYTES_MIN && p >= wide_from && json_room(out, at) >= rest) {
                        size_t copied = json_text_wide(p, rest, at);
                        p += copied;
                        at += copied;
                        wide_from = copied >= 32 ? p : p + 64;
                        continue;
                }
#endif
#if JSON_TEXT_SSE2
                if (readable - p >= 16 && json_room(out, at) >= 16) {
                        size_t left = (size_t)(text_end - p);
                        size_t step = left < 16 ? left : 16;
                        __m128i bytes = json_load(p);
                        json_store(at, bytes);
                        unsigned special = json_text_mask(bytes) & ((1u << step) - 1);
                        if (__builtin_expect(special == 0, 1)) {
                                p += step;
                                at += step;
                                continue;
                        }
                        unsigned plain = (unsigned)__builtin_ctz(special);
                        p += plain;
                        at += plain;
                        at = json_text_special(out, at, &p, text_end);
                        continue;
                }
#endif
                if (json_text_specials[*p]) {
                        at = json_text_special(out, at, &p, text_end);
                } else {
                        at = json_byte(out, at, *p);
                        p++;
                }
        }
        return at;
}

uint8_t *json_string_any(struct json_out *out, uint8_t *at, struct slice text, const uint8_t *readable)
{
        at = json_byte(out, at, '"');
        at = json_text_any(out, at, text, readable);
        return json_byte(out, at, '"');
}

size_t codec_json_string(struct slice text, uint8_t *out, size_t out_bytes)
{
        struct json_out state = {.end = out + out_bytes, .is_short = false};
        uint8_t *at = json_string(&state, out, text, text.ptr + text.len);
        return state.is_short ? 0 : (size_t)(at - out);
}

/* ---------------------------------------------------------------------------------------------- unescape */

static int json_hex_digit(uint8_t byte)
{
        if (byte >= '0' && byte <= '9')
                return byte - '0';
        byte |= 0x20;
        return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The four digits behind "\u"; -1 when they are not there. */
static int32_t json_hex4(const uint8_t *at, const uint8_t *end)
{
        int32_t value = 0;
        if (end - at < 4)
                return -1;
        for (int i = 0; i < 4; i++) {
                int digit = json_hex_digit(at[i]);
                if (digit < 0)
                        return -1;
                value = value << 4 | digit;
        }
        return value;
}

static size_t json_utf8_write(uint32_t point, uint8_t bytes[4])
{
        if (point < 0x80) {
                bytes[0] = (uint8_t)point;
                return 1;
        }
        if (point < 0x800) {
                bytes[0] = (uint8_t)(0xc0 | point >> 6);
                bytes[1] = (uint8_t)(0x80 | (point & 0x3f));
                return 2;
        }
        if (point < 0x10000) {
                bytes[0] = (uint8_t)(0xe0 | point >> 12);
                bytes[1] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
                bytes[2] = (uint8_t)(0x80 | (point & 0x3f));
                return 3;
        }
        bytes[0] = (uint8_t)(0xf0 | point >> 18);
        bytes[1] = (uint8_t)(0x80 | (point >> 12 & 0x3f));
        bytes[2] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        bytes[3] = (uint8_t)(0x80 | (point & 0x3f));
        return 4;
}

/* Reads the escape behind the backslash at `at`[-1]; returns what follows it, or NULL when it is none. */
static const uint8_t *json_escape_read(const uint8_t *at, const uint8_t *end, uint32_t *ret_point)
{
        if (at == end)
                return NULL;
        switch (*at) {
        case '"':
        case '\\':
        case '/':
                *ret_point = *at;
                return at + 1;
        case 'b':
                *ret_point = '\b';
                return at + 1;
        case 'f':
                *ret_point = '\f';
                return at + 1;
        case 'n':
                *ret_point = '\n';
                return at + 1;
        case 'r':
                *ret_point = '\r';
                return at + 1;
        case 't':
                *ret_point = '\t';
                return at + 1;
        case 'u':
                break;
        default:
                return NULL;
        }
        int32_t unit = json_hex4(at + 1, end);
        if (unit < 0)
                return NULL;
        at += 5;
        if (unit < 0xd800 || unit > 0xdfff) {
                *ret_point = (uint32_t)unit;
                return at;
        }
        *ret_point = 0xfffd; /* unless it is the first half of a pair */
        if (unit < 0xdc00 && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
                int32_t low = json_hex4(at + 2, end);
                if (low >= 0xdc00 && low <= 0xdfff) {
                        *ret_point = 0x10000 + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
                        return at + 6;
                }
        }
        return at;
}

size_t codec_json_unescape(struct slice raw, uint8_t *out, size_t out_bytes)
{
        const uint8_t *at = raw.ptr, *end = raw.ptr + raw.len;
        size_t used = 0;
        while (at < end) {
                const uint8_t *backslash = (const uint8_t *)memchr(at, '\\', (size_t)(end - at));
                size_t plain = (size_t)((backslash == NULL ? end : backslash) - at);
                if (plain > out_bytes - used)
                        return SIZE_MAX;
                memmove(out + used, at, plain); /* `out` may be the raw string's own memory */
                used += plain;
                at += plain;
                if (backslash == NULL)
                        break;
                uint32_t point;
                uint8_t bytes[4];
                at = json_escape_read(at + 1, end, &point);
                if (at == NULL)
                        return SIZE_MAX;
                size_t count = json_utf8_write(point, bytes);
                if (count > out_bytes - used)
                        return SIZE_MAX;
                memcpy(out + used, bytes, count);
                used += count;
        }
        return used;
}
