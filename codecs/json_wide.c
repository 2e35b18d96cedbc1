/* The inside of JSON strings, 64 or 32 bytes a step: copies while looking for what must be escaped, and checks UTF-8 as
 * John Keiser and Daniel Lemire do ("Validating UTF-8 In Less Than One Instruction Per Byte", 2021): each byte is
 * looked up by the two halves of the byte before it and by its own upper half; the kinds of mistake that all three
 * allow are there. Continuations due two and three bytes behind their lead are told apart by comparing. */
#include "codecs/json_text.h"
#include "codecs/simd.h"

#if CODEC_SIMD_X86

/* Kinds of mistake. */
#define TOO_SHORT      0x01 /* a lead, and no continuation behind it */
#define TOO_LONG       0x02 /* a continuation behind ASCII */
#define OVERLONG_3     0x04
#define TOO_LARGE      0x08
#define SURROGATE      0x10
#define OVERLONG_2     0x20
#define TOO_LARGE_1000 0x40 /* from F5 on, and F4 with 90.. */
#define OVERLONG_4     0x40
#define TWO_CONTS      0x80
#define CARRY          (TOO_SHORT | TOO_LONG | TWO_CONTS)
#define LARGE          (CARRY | TOO_LARGE | TOO_LARGE_1000)
#define CONT           (TOO_LONG | OVERLONG_2 | TWO_CONTS)

static const uint8_t wide_first_high[16] = {
        TOO_LONG,
        TOO_LONG,
        TOO_LONG,
        TOO_LONG,
        TOO_LONG,
        TOO_LONG,
        TOO_LONG,
        TOO_LONG,
        TWO_CONTS,
        TWO_CONTS,
        TWO_CONTS,
        TWO_CONTS,
        TOO_SHORT | OVERLONG_2,
        TOO_SHORT,
        TOO_SHORT | OVERLONG_3 | SURROGATE,
        TOO_SHORT | TOO_LARGE | TOO_LARGE_1000, /* and OVERLONG_4: the same bit */
};
static const uint8_t wide_first_low[16] = {
        CARRY | OVERLONG_3 | OVERLONG_2 | OVERLONG_4,
        CARRY | OVERLONG_2,
        CARRY,
        CARRY,
        CARRY | TOO_LARGE,
        LARGE,
        LARGE,
        LARGE,
        LARGE,
        LARGE,
        LARGE,
        LARGE,
        LARGE,
        LARGE | SURROGATE,
        LARGE,
        LARGE,
};
static const uint8_t wide_second_high[16] = {
        TOO_SHORT,
        TOO_SHORT,
        TOO_SHORT,
        TOO_SHORT,
        TOO_SHORT,
        TOO_SHORT,
        TOO_SHORT,
        TOO_SHORT,
        CONT | OVERLONG_3 | TOO_LARGE_1000, /* and OVERLONG_4: the same bit */
        CONT | OVERLONG_3 | TOO_LARGE,
        CONT | SURROGATE | TOO_LARGE,
        CONT | SURROGATE | TOO_LARGE,
        TOO_SHORT,
        TOO_SHORT,
        TOO_SHORT,
        TOO_SHORT,
};

/* What lies before `at` is valid, save that the last sequence may go on behind it: where that begins. */
static size_t wide_boundary(const uint8_t *from, size_t at)
{
        for (size_t back = 1; back <= 3 && back <= at; back++) {
                uint8_t byte = from[at - back];
                if ((byte & 0xc0) == 0x80)
                        continue;
                size_t need = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
                return need > back ? at - back : at;
        }
        return at;
}

/* ---------------------------------------------------------------------------------------------- AVX-512 */

static CODEC_TARGET_AVX512 __m512i wide_table_512(const uint8_t table[16])
{
        return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table));
}

static CODEC_TARGET_AVX512 bool wide_utf8_bad_512(__m512i before, __m512i bytes)
{
        static const uint8_t counting[64] = {
                0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
                44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
        };
        const __m512i low_half = _mm512_set1_epi8(0x0f);
        __m512i count = _mm512_loadu_si512(counting);
        __m512i one = _mm512_permutex2var_epi8(before, _mm512_add_epi8(count, _mm512_set1_epi8(63)), bytes);
        __m512i two = _mm512_permutex2var_epi8(before, _mm512_add_epi8(count, _mm512_set1_epi8(62)), bytes);
        __m512i three = _mm512_permutex2var_epi8(before, _mm512_add_epi8(count, _mm512_set1_epi8(61)), bytes);
        __m512i kinds = _mm512_and_si512(
                _mm512_and_si512(_mm512_shuffle_epi8(wide_table_512(wide_first_high),
                                                     _mm512_and_si512(_mm512_srli_epi16(one, 4), low_half)),
                                 _mm512_shuffle_epi8(wide_table_512(wide_first_low), _mm512_and_si512(one, low_half))),
                _mm512_shuffle_epi8(wide_table_512(wide_second_high),
                                    _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low_half)));
        __m512i due = _mm512_or_si512(_mm512_subs_epu8(two, _mm512_set1_epi8(0xe0 - 0x80)),
                                      _mm512_subs_epu8(three, _mm512_set1_epi8(0xf0 - 0x80)));
        __m512i bad = _mm512_xor_si512(_mm512_and_si512(due, _mm512_set1_epi8((char)0x80)), kinds);
        return _mm512_test_epi8_mask(bad, bad) != 0;
}

static CODEC_TARGET_AVX512 size_t wide_copy_512(const uint8_t *from, size_t len, uint8_t *to)
{
        __m512i before = _mm512_setzero_si512();
        uint64_t open = 0; /* of the three last bytes before, those above 0x7f */
        for (size_t at = 0; at < len;) {
                size_t left = len - at, step = left < 64 ? left : 64;
                uint64_t mask = UINT64_MAX >> (64 - step);
                __m512i bytes = _mm512_maskz_loadu_epi8(mask, from + at);
                _mm512_mask_storeu_epi8(to + at, mask, bytes);
                uint64_t special = _mm512_mask_cmplt_epu8_mask(mask, bytes, _mm512_set1_epi8(0x20)) |
                                   _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('"')) |
                                   _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8('\\'));
                uint64_t high = _mm512_movepi8_mask(bytes);
                if ((high | open) != 0 && wide_utf8_bad_512(before, bytes))
                        return wide_boundary(from, at);
                if (special != 0)
                        return at + (size_t)__builtin_ctzll(special);
                before = bytes;
                open = high >> 61;
                at += step;
        }
        return wide_boundary(from, len);
}

/* ---------------------------------------------------------------------------------------------- AVX2 */

static CODEC_TARGET_AVX2 __m256i wide_table_256(const uint8_t table[16])
{
        return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
}

static CODEC_TARGET_AVX2 bool wide_utf8_bad_256(__m256i before, __m256i bytes)
{
        const __m256i low_half = _mm256_set1_epi8(0x0f);
        __m256i middle = _mm256_permute2x128_si256(before, bytes, 0x21);
        __m256i one = _mm256_alignr_epi8(bytes, middle, 15);
        __m256i two = _mm256_alignr_epi8(bytes, middle, 14);
        __m256i three = _mm256_alignr_epi8(bytes, middle, 13);
        __m256i kinds = _mm256_and_si256(
                _mm256_and_si256(_mm256_shuffle_epi8(wide_table_256(wide_first_high),
                                                     _mm256_and_si256(_mm256_srli_epi16(one, 4), low_half)),
                                 _mm256_shuffle_epi8(wide_table_256(wide_first_low), _mm256_and_si256(one, low_half))),
                _mm256_shuffle_epi8(wide_table_256(wide_second_high),
                                    _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low_half)));
        __m256i due = _mm256_or_si256(_mm256_subs_epu8(two, _mm256_set1_epi8((char)(0xe0 - 0x80))),
                                      _mm256_subs_epu8(three, _mm256_set1_epi8((char)(0xf0 - 0x80))));
        __m256i bad = _mm256_xor_si256(_mm256_and_si256(due, _mm256_set1_epi8((char)0x80)), kinds);
        return !_mm256_testz_si256(bad, bad);
}

/* Whole steps only. */
static CODEC_TARGET_AVX2 size_t wide_copy_256(const uint8_t *from, size_t len, uint8_t *to)
{
        __m256i before = _mm256_setzero_si256();
        uint32_t open = 0;
        size_t at = 0;
        for (; len - at >= 32; at += 32) {
                __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(from + at));
                _mm256_storeu_si256((__m256i *)(void *)(to + at), bytes);
                uint32_t high = (uint32_t)_mm256_movemask_epi8(bytes);
                /* Signed: those above 0x7f are below 0x20 as well. */
                __m256i marks = _mm256_or_si256(_mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), bytes),
                                                _mm256_or_si256(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('"')),
                                                                _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('\\'))));
                uint32_t special = (uint32_t)_mm256_movemask_epi8(marks) & ~high;
                if ((high | open) != 0 && wide_utf8_bad_256(before, bytes))
                        return wide_boundary(from, at);
                if (special != 0)
                        return at + (size_t)__builtin_ctz(special);
                before = bytes;
                open = high >> 29;
        }
        return wide_boundary(from, at);
}

size_t json_text_wide(const uint8_t *from, size_t len, uint8_t *to)
{
        switch (codec_simd()) {
        case CODEC_SIMD_AVX512:
                return wide_copy_512(from, len, to);
        case CODEC_SIMD_AVX2:
                return wide_copy_256(from, len, to);
        case CODEC_SIMD_NONE:
        case CODEC_SIMD_UNKNOWN:
                break;
        }
        return 0;
}

#endif
