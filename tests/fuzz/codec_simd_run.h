/* One input through everything of the codecs that has more than one implementation, written down one behind the other.
 * codec_simd_run.c is compiled twice: against the codecs as they are, and against those without any vector instruction
 * (CODEC_PORTABLE), as a shared library that shows nothing but its run. */
#ifndef SENDRING_TESTS_CODEC_SIMD_RUN_H
#define SENDRING_TESTS_CODEC_SIMD_RUN_H

#include <stddef.h>
#include <stdint.h>

#define CODEC_SIMD_INPUT_BYTES_MAX (1u << 16)
#define CODEC_SIMD_SECTIONS_MAX    64

struct codec_simd_results {
        size_t used, sections;
        const char *names[CODEC_SIMD_SECTIONS_MAX];
        size_t ends[CODEC_SIMD_SECTIONS_MAX];
        uint8_t bytes[2u << 20];
};

void codec_simd_run(const uint8_t *data, size_t size, struct codec_simd_results *ret_results);
__attribute__((visibility("default"))) void codec_simd_run_portable(const uint8_t *data, size_t size,
                                                                    struct codec_simd_results *ret_results);

#endif
