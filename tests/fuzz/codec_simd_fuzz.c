/* The same bytes through every implementation that this machine has, beside the portable one, which has no vector
 * instruction at all: JSON strings (escapes, UTF-8), base64 both ways, numbers, times, tags and whole events on the way
 * to the wire and back, what is said of bad ones. All must write the same and accept the same. */
#include "base/assert.h"
#include "codecs/simd.h"
#include "tests/fuzz/codec_simd_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const struct codec_simd_results *scalar, const struct codec_simd_results *vector, int level)
{
        size_t begin = 0, sections = scalar->sections < vector->sections ? scalar->sections : vector->sections;
        for (size_t i = 0; i < sections; i++) {
                size_t end = scalar->ends[i];
                if (vector->ends[i] != end || memcmp(scalar->bytes + begin, vector->bytes + begin, end - begin) != 0) {
                        (void)fprintf(stderr, "level %d differs from the portable code: %s: %.*s | %.*s\n", level,
                                      scalar->names[i], (int)(end - begin), (const char *)scalar->bytes + begin,
                                      (int)(vector->ends[i] - begin), (const char *)vector->bytes + begin);
                        abort();
                }
                begin = end;
        }
        ASSERT(scalar->sections == vector->sections);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct codec_simd_results scalar, vector;
        if (size > CODEC_SIMD_INPUT_BYTES_MAX)
                return 0;
        codec_simd_run_portable(data, size, &scalar);
        for (int level = CODEC_SIMD_NONE; level <= CODEC_SIMD_AVX512; level++) {
                if (codec_simd_limit((enum codec_simd)level) != (enum codec_simd)level)
                        break; /* not on this machine */
                codec_simd_run(data, size, &vector);
                compare(&scalar, &vector, level);
        }
        return 0;
}
