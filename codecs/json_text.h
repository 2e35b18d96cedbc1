/* Writing JSON: the output position is passed in and handed back, the end lies in struct json_out. What does not fit
 * sets `is_short` and moves to the end, where nothing else fits; one look at the end of all is enough. */
#ifndef SENDRING_CODECS_JSON_TEXT_H
#define SENDRING_CODECS_JSON_TEXT_H

#include "base/assert.h"
#include "codecs/codec_internal.h"

#if defined(__SSE2__) && !defined(CODEC_PORTABLE)
#include <emmintrin.h>
#define JSON_TEXT_SSE2 1
#else
#define JSON_TEXT_SSE2 0
#endif

struct json_out {
        uint8_t *end;
        bool is_short;
};

static inline size_t json_room(const struct json_out *out, const uint8_t *at)
{
        return (size_t)(out->end - at);
}

static inline uint8_t *json_short(struct json_out *out)
{
        out->is_short = true;
        return out->end;
}

static inline uint8_t *json_byte(struct json_out *out, uint8_t *at, uint8_t byte)
{
        ASSERT_KNOWN(at != NULL);
        if (__builtin_expect(json_room(out, at) < 1, 0))
                return json_short(out);
        *at = byte;
        return at + 1;
}

static inline uint8_t *json_bytes(struct json_out *out, uint8_t *at, const void *bytes, size_t len)
{
        if (__builtin_expect(json_room(out, at) < len, 0))
                return json_short(out);
        if (len > 0)
                memcpy(at, bytes, len);
        return at + len;
}

#define JSON_LITERAL(out, at, literal) json_bytes((out), (at), "" literal, sizeof(literal) - 1)

/* `len` bytes of a field padded to `padded` (a constant), so that the copy has a fixed size. */
static inline __attribute__((always_inline)) uint8_t *json_padded(struct json_out *out, uint8_t *at, const char *text,
                                                                  size_t len, size_t padded)
{
        if (__builtin_expect(json_room(out, at) < padded, 0))
                return json_bytes(out, at, text, len);
        memcpy(at, text, padded);
        return at + len;
}

/* Writes what stands for the bytes at *p that cannot be copied as they are: a control byte, a quote, a backslash, or a
 * run of bytes above 0x7f. Moves *p behind them; `text_end` > *p. */
uint8_t *json_text_special(struct json_out *out, uint8_t *at, const uint8_t **p, const uint8_t *text_end);

#if JSON_TEXT_SSE2
/* 0xff for each byte that needs json_text_special(). Signed comparison: bytes above 0x7f are below 0x20, too. */
static inline __m128i json_text_marks(__m128i bytes)
{
        return _mm_or_si128(
                _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)),
                _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
}

static inline unsigned json_text_mask(__m128i bytes)
{
        return (unsigned)_mm_movemask_epi8(json_text_marks(bytes));
}
#endif

/* Bytes that json_text_special() handles: 1. */
extern const uint8_t json_text_specials[256];

#if JSON_TEXT_SSE2 && defined(__x86_64__)
#define JSON_TEXT_WIDE 1
/* Copies the beginning of a text as far as it is valid UTF-8 without anything to escape, in wide steps; the rest may
 * be anything, and up to `len` bytes of garbage may lie behind what counts in `to`. 0: not one step, or none is there
 * on this machine. Reads and writes nothing beyond `len`. */
size_t json_text_wide(const uint8_t *from, size_t len, uint8_t *to);
#else
#define JSON_TEXT_WIDE 0
#endif
/* Shorter texts are left to the steps of 16 bytes. */
#define JSON_TEXT_WIDE_BYTES_MIN 24

/* The inside of a JSON string, and the string with its quotes, whatever it holds and however little room there is.
 * `readable` is the end of the memory that may be read (not used), at least the text's. */
uint8_t *json_text_any(struct json_out *out, uint8_t *at, struct slice text, const uint8_t *readable);
uint8_t *json_string_any(struct json_out *out, uint8_t *at, struct slice text, const uint8_t *readable);

#if JSON_TEXT_SSE2
static inline __m128i json_load(const uint8_t *at)
{
        return _mm_loadu_si128((const __m128i *)(const void *)at);
}

static inline void json_store(uint8_t *at, __m128i bytes)
{
        _mm_storeu_si128((__m128i *)(void *)at, bytes);
}
#endif

/* Copies a text that needs no escapes while looking at it, with room for text.len + 16 bytes at least. NULL when it
 * needs some, or when 16 bytes cannot be read; `at` may hold anything then. The last 16 bytes of a text overlap those
 * before them, so only short ones read beyond their end. */
static inline uint8_t *json_text_plain(uint8_t *at, struct slice text, const uint8_t *readable)
{
        ASSERT_KNOWN(text.ptr != NULL);
#if JSON_TEXT_SSE2
        if (text.len < 16) {
                if (__builtin_expect(readable - text.ptr < 16, 0))
                        return NULL;
                __m128i bytes = json_load(text.ptr);
                json_store(at, bytes);
                if (__builtin_expect((json_text_mask(bytes) & ((1u << text.len) - 1)) != 0, 0))
                        return NULL;
                return at + text.len;
        }
        size_t last = text.len - 16;
        __m128i bytes = json_load(text.ptr + last);
        json_store(at + last, bytes);
        __m128i marks = json_text_marks(bytes);
        for (size_t i = 0; i < last; i += 16) {
                bytes = json_load(text.ptr + i);
                json_store(at + i, bytes);
                marks = _mm_or_si128(marks, json_text_marks(bytes));
        }
        if (__builtin_expect(_mm_movemask_epi8(marks) != 0, 0))
                return NULL;
        return at + text.len;
#else
        (void)at;
        (void)text;
        (void)readable;
        return NULL;
#endif
}

static inline uint8_t *json_text(struct json_out *out, uint8_t *at, struct slice text, const uint8_t *readable)
{
        if (__builtin_expect(json_room(out, at) >= text.len + 16, 1)) {
                uint8_t *end = json_text_plain(at, text, readable);
                if (__builtin_expect(end != NULL, 1))
                        return end;
        }
        return json_text_any(out, at, text, readable);
}

static inline uint8_t *json_string(struct json_out *out, uint8_t *at, struct slice text, const uint8_t *readable)
{
        if (__builtin_expect(json_room(out, at) >= text.len + 18, 1)) {
                uint8_t *end = json_text_plain(at + 1, text, readable);
                if (__builtin_expect(end != NULL, 1)) {
                        *at = *end = '"';
                        return end + 1;
                }
        }
        return json_string_any(out, at, text, readable);
}

#endif
