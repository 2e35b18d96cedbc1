/* Writing JSON: the output position is passed in and handed back, the end lies in struct json_out. What does not fit
 * sets `is_short` and moves to the end, where nothing else fits; one look at the end of all is enough. */
#ifndef SENDRING_CODECS_JSON_TEXT_H
#define SENDRING_CODECS_JSON_TEXT_H

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
/* A bit per byte that needs json_text_special(). Signed comparison: bytes above 0x7f are below 0x20, too. */
static inline unsigned json_text_mask(__m128i bytes)
{
        __m128i special = _mm_or_si128(
                _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)),
                _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
        return (unsigned)_mm_movemask_epi8(special);
}
#endif

/* Bytes that json_text_special() handles: 1. */
extern const uint8_t json_text_specials[256];

/* The inside of a JSON string, whatever it holds and however little room there is. `readable` is the end of the memory
 * that may be read (not used), at least the text's. */
uint8_t *json_text_any(struct json_out *out, uint8_t *at, struct slice text, const uint8_t *readable);

#if JSON_TEXT_SSE2
/* The first 16 bytes of a text that ends so close to `readable` that a load would reach beyond it. */
__m128i json_load_end(const uint8_t *text, const uint8_t *readable);

/* 16 bytes, of which those beyond `readable` are zero. */
static inline __m128i json_load(const uint8_t *text, const uint8_t *readable)
{
        if (__builtin_expect(readable - text >= 16, 1))
                return _mm_loadu_si128((const __m128i *)(const void *)text);
        return json_load_end(text, readable);
}
#endif

/* The same, with room for text.len + 16 bytes at least: plain text is copied while it is looked at. */
static inline uint8_t *json_text_roomy(struct json_out *out, uint8_t *at, struct slice text, const uint8_t *readable)
{
#if JSON_TEXT_SSE2
        for (;;) {
                __m128i bytes = json_load(text.ptr, readable);
                unsigned special = json_text_mask(bytes);
                _mm_storeu_si128((__m128i *)(void *)at, bytes);
                if (text.len <= 16) {
                        if (__builtin_expect((special & ((1u << text.len) - 1)) != 0, 0))
                                break;
                        return at + text.len;
                }
                if (__builtin_expect(special != 0, 0))
                        break;
                text = slice_of(text.ptr + 16, text.len - 16);
                at += 16;
        }
#endif
        return json_text_any(out, at, text, readable);
}

static inline uint8_t *json_text(struct json_out *out, uint8_t *at, struct slice text, const uint8_t *readable)
{
        if (__builtin_expect(json_room(out, at) < text.len + 16, 0))
                return json_text_any(out, at, text, readable);
        return json_text_roomy(out, at, text, readable);
}

static inline uint8_t *json_string(struct json_out *out, uint8_t *at, struct slice text, const uint8_t *readable)
{
        if (__builtin_expect(json_room(out, at) < text.len + 18, 0)) {
                at = json_byte(out, at, '"');
                at = json_text_any(out, at, text, readable);
        } else {
                *at = '"';
                at = json_text_roomy(out, at + 1, text, readable);
        }
        return json_byte(out, at, '"');
}

#endif
