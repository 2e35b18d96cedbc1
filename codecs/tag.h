/* Message tags by aws-facts 2.2 and 2.3: which bytes names and values may hold. Shared by producer and router side. */
#ifndef SENDRING_CODECS_TAG_H
#define SENDRING_CODECS_TAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SSE2__) && !defined(CODEC_PORTABLE)
#include <emmintrin.h>
#endif

#define CODEC_TAG_NAME  1u /* A-Z a-z 0-9 _ - */
#define CODEC_TAG_VALUE 2u /* the same, and . @ */

/* Bits above per byte. */
extern const uint8_t codec_tag_bytes[256];

#if defined(__SSE2__) && !defined(CODEC_PORTABLE)
/* 0xff for each byte that a name may hold. Ranges are shifted to the top of the signed bytes: one comparison each. */
static inline __m128i codec_tag_name_mask(__m128i bytes)
{
        __m128i digits = _mm_add_epi8(bytes, _mm_set1_epi8(127 - '9'));
        __m128i letters = _mm_add_epi8(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), _mm_set1_epi8(127 - 'z'));
        __m128i is_digit = _mm_cmpgt_epi8(digits, _mm_set1_epi8(127 - 10));
        __m128i is_letter = _mm_cmpgt_epi8(letters, _mm_set1_epi8(127 - 26));
        __m128i is_mark =
                _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('_')), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')));
        return _mm_or_si128(_mm_or_si128(is_digit, is_letter), is_mark);
}

static inline __m128i codec_tag_value_mask(__m128i bytes)
{
        __m128i is_mark =
                _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('.')), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('@')));
        return _mm_or_si128(codec_tag_name_mask(bytes), is_mark);
}
#endif

/* "ses:feedback-id-a" or "ses:feedback-id-b": the only names that a sender may begin with "ses:". */
bool codec_tag_is_feedback_id(const uint8_t *name, size_t name_bytes);

#endif
