/* Base64 (RFC 4648, standard alphabet), by the methods of Wojciech Mula and Daniel Lemire, asked for at run time. With
 * AVX2, 24 bytes to 32 characters a step ("Faster Base64 Encoding and Decoding Using AVX2 Instructions", 2018); with
 * AVX-512 VBMI, 48 bytes to 64 characters ("Base64 encoding and decoding at almost the speed of a memory copy", 2020);
 * else a table. */
#include "codecs/codec.h"
#include "codecs/simd.h"

static const char base64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Value of a character plus one; 0: not in the alphabet. */
static const uint8_t base64_values[256] = {
        ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
        ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
        ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
        ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
        ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
        ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
        ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
        ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};

/* ---------------------------------------------------------------------------------------------- AVX2 */

#if CODEC_SIMD_X86
/* Encodes as many bytes as whole steps take, and returns their number (a multiple of 24). */
static CODEC_TARGET_AVX2 size_t base64_encode_avx2(const uint8_t *in, size_t in_bytes, uint8_t *out)
{
        const __m256i spread = _mm256_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10, /* low lane */
                                                1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
        const __m256i offsets = _mm256_setr_epi8(65, 71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 0, 0, /**/
                                                 65, 71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 0, 0);
        size_t done = 0;
        while (in_bytes - done >= 28) { /* the second load reaches 4 bytes beyond the step */
                __m256i bytes = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(in + done)));
                bytes = _mm256_inserti128_si256(bytes, _mm_loadu_si128((const __m128i *)(const void *)(in + done + 12)),
                                                1);
                bytes = _mm256_shuffle_epi8(bytes, spread);
                __m256i high = _mm256_mulhi_epu16(_mm256_and_si256(bytes, _mm256_set1_epi32(0x0fc0fc00)),
                                                  _mm256_set1_epi32(0x04000040));
                __m256i low = _mm256_mullo_epi16(_mm256_and_si256(bytes, _mm256_set1_epi32(0x003f03f0)),
                                                 _mm256_set1_epi32(0x01000010));
                __m256i indexes = _mm256_or_si256(high, low);
                __m256i ranges = _mm256_subs_epu8(indexes, _mm256_set1_epi8(51));
                ranges = _mm256_sub_epi8(ranges, _mm256_cmpgt_epi8(indexes, _mm256_set1_epi8(25)));
                __m256i text = _mm256_add_epi8(indexes, _mm256_shuffle_epi8(offsets, ranges));
                _mm256_storeu_si256((__m256i *)(void *)out, text);
                out += 32;
                done += 24;
        }
        return done;
}

/* Decodes whole steps of 32 characters while each is valid and 32 bytes of room are left; returns how many characters.
 * The last group, which may be padded, is left to the caller. */
static CODEC_TARGET_AVX2 size_t base64_decode_avx2(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
        const __m256i low_table = _mm256_setr_epi8(0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13,
                                                   0x1a, 0x1b, 0x1b, 0x1b, 0x1a, /* low lane */
                                                   0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13,
                                                   0x1a, 0x1b, 0x1b, 0x1b, 0x1a);
        const __m256i high_table = _mm256_setr_epi8(0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10,
                                                    0x10, 0x10, 0x10, 0x10, 0x10, /* low lane */
                                                    0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10,
                                                    0x10, 0x10, 0x10, 0x10, 0x10);
        const __m256i rolls = _mm256_setr_epi8(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0, /* low lane */
                                               0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
        const __m256i pack = _mm256_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1, /* low lane */
                                              2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
        const __m256i slash = _mm256_set1_epi8(0x2f);
        size_t done = 0, written = 0;
        while (in_bytes - done >= 36 && out_bytes - written >= 32) {
                __m256i text = _mm256_loadu_si256((const __m256i *)(const void *)(in + done));
                __m256i high = _mm256_and_si256(_mm256_srli_epi32(text, 4), slash);
                __m256i low = _mm256_and_si256(text, slash);
                if (!_mm256_testz_si256(_mm256_shuffle_epi8(low_table, low), _mm256_shuffle_epi8(high_table, high)))
                        break;
                __m256i roll = _mm256_shuffle_epi8(rolls, _mm256_add_epi8(_mm256_cmpeq_epi8(text, slash), high));
                __m256i values = _mm256_add_epi8(text, roll);
                __m256i twos = _mm256_maddubs_epi16(values, _mm256_set1_epi32(0x01400140));
                __m256i fours = _mm256_madd_epi16(twos, _mm256_set1_epi32(0x00011000));
                __m256i bytes = _mm256_shuffle_epi8(fours, pack);
                bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, -1, -1));
                _mm256_storeu_si256((__m256i *)(void *)(out + written), bytes);
                done += 32;
                written += 24;
        }
        return done;
}

/* ---------------------------------------------------------------------------------------------- AVX-512 */

#define BASE64_48 UINT64_C(0xffffffffffff)

static CODEC_TARGET_AVX512 __m512i base64_encode_step(__m512i bytes, __m512i alphabet)
{
        const __m512i spread = _mm512_setr_epi32(0x01020001, 0x04050304, 0x07080607, 0x0a0b090a, 0x0d0e0c0d, 0x10110f10,
                                                 0x13141213, 0x16171516, 0x191a1819, 0x1c1d1b1c, 0x1f201e1f, 0x22232122,
                                                 0x25262425, 0x28292728, 0x2b2c2a2b, 0x2e2f2d2e);
        __m512i triples = _mm512_permutexvar_epi8(spread, bytes);
        /* Six bits to each byte; the two above them are not looked at. */
        __m512i indexes = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x3036242a1016040a), triples);
        return _mm512_permutexvar_epi8(indexes, alphabet);
}

/* Encodes all whole groups of three; returns how many bytes. Writes nothing beyond their characters. */
static CODEC_TARGET_AVX512 size_t base64_encode_avx512(const uint8_t *in, size_t in_bytes, uint8_t *out)
{
        const __m512i alphabet = _mm512_loadu_si512(base64_alphabet);
        size_t done = 0;
        for (; in_bytes - done >= 64; done += 48, out += 64)
                _mm512_storeu_si512(out, base64_encode_step(_mm512_loadu_si512(in + done), alphabet));
        for (size_t left; (left = (in_bytes - done) / 3 * 3) > 0;) {
                size_t step = left < 48 ? left : 48;
                __m512i bytes = _mm512_maskz_loadu_epi8(BASE64_48 >> (48 - step), in + done);
                _mm512_mask_storeu_epi8(out, UINT64_MAX >> (64 - step / 3 * 4), base64_encode_step(bytes, alphabet));
                done += step;
                out += step / 3 * 4;
        }
        return done;
}

/* As base64_decode_avx2(), 64 characters a step, and nothing is written beyond their 48 bytes. */
static CODEC_TARGET_AVX512 size_t base64_decode_avx512(const uint8_t *in, size_t in_bytes, uint8_t *out,
                                                       size_t out_bytes)
{
        static const uint8_t pack[64] = {
                2,  1,  0,  6,  5,  4,  10, 9,  8,  14, 13, 12, 18, 17, 16, 22, 21, 20, 26, 25, 24, 30, 29, 28,
                34, 33, 32, 38, 37, 36, 42, 41, 40, 46, 45, 44, 50, 49, 48, 54, 53, 52, 58, 57, 56, 62, 61, 60,
        };
        /* Value of each ASCII character, 0x80 for those that are not in the alphabet: base64_values, less one. */
        __m512i low = _mm512_sub_epi8(_mm512_loadu_si512(base64_values), _mm512_set1_epi8(1));
        __m512i high = _mm512_sub_epi8(_mm512_loadu_si512(base64_values + 64), _mm512_set1_epi8(1));
        size_t done = 0, written = 0;
        while (in_bytes - done >= 68 && out_bytes - written >= 48) {
                __m512i text = _mm512_loadu_si512(in + done);
                __m512i values = _mm512_permutex2var_epi8(low, text, high);
                if (_mm512_movepi8_mask(_mm512_or_si512(text, values)) != 0)
                        break;
                __m512i twos = _mm512_maddubs_epi16(values, _mm512_set1_epi32(0x01400140));
                __m512i fours = _mm512_madd_epi16(twos, _mm512_set1_epi32(0x00011000));
                _mm512_mask_storeu_epi8(out + written, BASE64_48,
                                        _mm512_permutexvar_epi8(_mm512_loadu_si512(pack), fours));
                done += 64;
                written += 48;
        }
        return done;
}
#endif

#if CODEC_SIMD_X86
/* Whole steps by the best there is; returns how many bytes, or characters, of a multiple of three, or four. */
static size_t base64_encode_steps(const uint8_t *in, size_t in_bytes, uint8_t *out)
{
        switch (codec_simd()) {
        case CODEC_SIMD_AVX512:
                return base64_encode_avx512(in, in_bytes, out);
        case CODEC_SIMD_AVX2:
                return base64_encode_avx2(in, in_bytes, out);
        case CODEC_SIMD_NONE:
        case CODEC_SIMD_UNKNOWN:
                break;
        }
        return 0;
}

static size_t base64_decode_steps(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
        switch (codec_simd()) {
        case CODEC_SIMD_AVX512:
                return base64_decode_avx512(in, in_bytes, out, out_bytes);
        case CODEC_SIMD_AVX2:
                return base64_decode_avx2(in, in_bytes, out, out_bytes);
        case CODEC_SIMD_NONE:
        case CODEC_SIMD_UNKNOWN:
                break;
        }
        return 0;
}
#endif

/* ---------------------------------------------------------------------------------------------- encode */

static inline void base64_group(const uint8_t in[3], uint8_t *out)
{
        uint32_t bits = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        out[0] = (uint8_t)base64_alphabet[bits >> 18];
        out[1] = (uint8_t)base64_alphabet[bits >> 12 & 63];
        out[2] = (uint8_t)base64_alphabet[bits >> 6 & 63];
        out[3] = (uint8_t)base64_alphabet[bits & 63];
}

size_t codec_base64_append(struct codec_base64 *state, struct slice bytes, uint8_t *out)
{
        const uint8_t *in = bytes.ptr;
        size_t left = bytes.len, written = 0;
        if (state->waiting_count > 0) {
                while (state->waiting_count < 3 && left > 0) {
                        state->waiting[state->waiting_count++] = *in++;
                        left--;
                }
                if (state->waiting_count < 3)
                        return 0;
                base64_group(state->waiting, out);
                written = 4;
                state->waiting_count = 0;
        }
#if CODEC_SIMD_X86
        if (left >= 28) {
                size_t done = base64_encode_steps(in, left, out + written);
                in += done;
                left -= done;
                written += done / 3 * 4;
        }
#endif
        while (left >= 3) {
                base64_group(in, out + written);
                written += 4;
                in += 3;
                left -= 3;
        }
        while (left > 0) {
                state->waiting[state->waiting_count++] = *in++;
                left--;
        }
        return written;
}

size_t codec_base64_finish(struct codec_base64 *state, uint8_t *out)
{
        if (state->waiting_count == 0)
                return 0;
        for (size_t i = state->waiting_count; i < 3; i++)
                state->waiting[i] = 0;
        base64_group(state->waiting, out);
        if (state->waiting_count == 1)
                out[2] = '=';
        out[3] = '=';
        state->waiting_count = 0;
        return 4;
}

/* ---------------------------------------------------------------------------------------------- decode */

/* One group of four without padding; false when a character is not in the alphabet. */
static inline bool base64_ungroup(const uint8_t in[4], uint32_t *ret_bits)
{
        uint32_t a = base64_values[in[0]], b = base64_values[in[1]], c = base64_values[in[2]], d = base64_values[in[3]];
        *ret_bits = (a - 1) << 18 | (b - 1) << 12 | (c - 1) << 6 | (d - 1);
        return a != 0 && b != 0 && c != 0 && d != 0;
}

/* The last group: "xxxx", "xxx=" or "xx==", the bits that padding leaves over being zero. */
static size_t base64_decode_last(const uint8_t in[4], uint8_t *out, size_t out_bytes)
{
        size_t bytes = in[3] != '=' ? 3 : in[2] != '=' ? 2 : 1;
        uint8_t group[4] = {in[0], in[1], bytes >= 2 ? in[2] : 'A', bytes == 3 ? in[3] : 'A'};
        uint32_t bits;
        if (!base64_ungroup(group, &bits) || bytes > out_bytes)
                return SIZE_MAX;
        if ((bits & ((1u << (8 * (3 - bytes))) - 1)) != 0)
                return SIZE_MAX;
        for (size_t i = 0; i < bytes; i++)
                out[i] = (uint8_t)(bits >> (16 - 8 * i));
        return bytes;
}

size_t codec_base64_decode(struct slice text, uint8_t *out, size_t out_bytes)
{
        const uint8_t *in = text.ptr;
        size_t left = text.len, written = 0;
        if (left % 4 != 0)
                return SIZE_MAX;
        if (left == 0)
                return 0;
#if CODEC_SIMD_X86
        if (left >= 36) {
                size_t done = base64_decode_steps(in, left, out, out_bytes);
                in += done;
                left -= done;
                written = done / 4 * 3;
        }
#endif
        while (left > 4) {
                uint32_t bits;
                if (!base64_ungroup(in, &bits) || out_bytes - written < 3)
                        return SIZE_MAX;
                out[written] = (uint8_t)(bits >> 16);
                out[written + 1] = (uint8_t)(bits >> 8);
                out[written + 2] = (uint8_t)bits;
                written += 3;
                in += 4;
                left -= 4;
        }
        size_t last = base64_decode_last(in, out + written, out_bytes - written);
        return last == SIZE_MAX ? SIZE_MAX : written + last;
}
