/* Message tags by the SES API reference (MessageTag): which bytes names and values may hold. Shared by producer and
 * router side. */
#ifndef SENDRING_CODECS_TAG_H
#define SENDRING_CODECS_TAG_H

#include "base/err.h"
#include "base/slice.h"
#include "codecs/simd.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CODEC_TAG_AVX2 CODEC_SIMD_X86

#define CODEC_TAG_NAME  1u /* A-Z a-z 0-9 _ - */
#define CODEC_TAG_VALUE 2u /* the same, and . @ */

/* Bits above per byte. */
extern const uint8_t codec_tag_bytes[256];

#if CODEC_TAG_AVX2
/* Without it tags go byte by byte. */
static inline bool codec_tag_has_avx2(void)
{
        return codec_simd() >= CODEC_SIMD_AVX2;
}

/* 0xff for each byte that is not allowed: 16 bytes of a name below, 16 of a value above. A byte is looked up by its low
 * and by its high half; it is allowed when both know a common class: '-', digits, letters below 'P', letters from 'P'
 * on, '_', and of values '.' and '@'. Bytes above 0x7f find nothing. */
static inline __attribute__((target("avx2"))) __m256i codec_tag_bad(__m256i name_and_value)
{
        const __m256i low = _mm256_setr_epi8(0x4a, 0x0e, 0x0e, 0x0e, 0x0e, 0x0e, 0x0e, 0x0e, 0x0e, 0x0e, 0x0c, 0x04,
                                             0x04, 0x05, 0x24, 0x14, /* name */
                                             0x4a, 0x0e, 0x0e, 0x0e, 0x0e, 0x0e, 0x0e, 0x0e, 0x0e, 0x0e, 0x0c, 0x04,
                                             0x04, 0x05, 0x24, 0x14);
        const __m256i high =
                _mm256_setr_epi8(0, 0, 0x01, 0x02, 0x04, 0x18, 0x04, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, /* name */
                                 0, 0, 0x21, 0x02, 0x44, 0x18, 0x04, 0x08, 0, 0, 0, 0, 0, 0, 0, 0);
        __m256i halves = _mm256_and_si256(_mm256_srli_epi16(name_and_value, 4), _mm256_set1_epi8(0x0f));
        __m256i classes = _mm256_and_si256(_mm256_shuffle_epi8(low, name_and_value), _mm256_shuffle_epi8(high, halves));
        return _mm256_cmpeq_epi8(classes, _mm256_setzero_si256());
}
#endif

/* All bytes of it are of this kind. */
bool codec_tag_bytes_are(struct slice text, uint8_t kind);
/* "ses:feedback-id-a" or "ses:feedback-id-b": the only names that a sender may begin with "ses:". */
bool codec_tag_is_feedback_id(const uint8_t *name, size_t name_bytes);
/* codec_tag_check() with another limit: LIMIT_TAG_READ_BYTES_MAX for tags that others have set. */
enum err_code codec_tag_check_within(struct slice name, struct slice value, uint32_t bytes_max, struct err *reterr);
/* Tags of links, as SES reads them from a message: by the rules of message tags, save that values hold neither '.' nor
 * '@' and no name begins with "ses:". */
enum err_code codec_link_tag_check(struct slice name, struct slice value, struct err *reterr);

#endif
