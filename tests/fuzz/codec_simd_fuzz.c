/* The same bytes through every implementation that this machine has: the scalar one, AVX2, AVX-512. Strings (escapes,
 * UTF-8), base64 both ways, numbers: all must write the same and accept the same. */
#include "base/assert.h"
#include "codecs/codec.h"
#include "codecs/simd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROOM (1 << 19)

struct results {
        size_t string_bytes, base64_bytes, decoded_bytes, short_bytes;
        uint8_t string[ROOM], base64[ROOM], decoded[ROOM], numbers[64 * 20];
};

static void run(const uint8_t *data, size_t size, struct results *results)
{
        struct slice input = slice_of(data, size);
        results->string_bytes = codec_json_string(input, results->string, sizeof(results->string));
        ASSERT(results->string_bytes >= 2);
        results->short_bytes = codec_json_string(input, results->decoded, results->string_bytes - 1);
        struct codec_base64 state = {.waiting_count = 0};
        results->base64_bytes = codec_base64_append(&state, input, results->base64);
        results->base64_bytes += codec_base64_finish(&state, results->base64 + results->base64_bytes);
        results->decoded_bytes = codec_base64_decode(input, results->decoded, sizeof(results->decoded));
        memset(results->numbers, 0, sizeof(results->numbers));
        for (size_t i = 0; i < 64 && i + 8 <= size; i++) {
                uint64_t value;
                memcpy(&value, data + i, sizeof(value));
                (void)codec_u64_write(value >> i, results->numbers + i * 20); /* what it wrote is compared */
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct results scalar, other;
        if (size > ROOM / 8)
                return 0;
        codec_simd_limit(CODEC_SIMD_NONE);
        run(data, size, &scalar);
        ASSERT(scalar.short_bytes == 0);
        for (int level = CODEC_SIMD_AVX2; level <= CODEC_SIMD_AVX512; level++) {
                if (codec_simd_limit((enum codec_simd)level) != (enum codec_simd)level)
                        break; /* not on this machine */
                run(data, size, &other);
                ASSERT(other.short_bytes == 0);
                ASSERT(other.string_bytes == scalar.string_bytes);
                ASSERT(memcmp(other.string, scalar.string, scalar.string_bytes) == 0);
                ASSERT(other.base64_bytes == scalar.base64_bytes);
                ASSERT(memcmp(other.base64, scalar.base64, scalar.base64_bytes) == 0);
                ASSERT(other.decoded_bytes == scalar.decoded_bytes);
                if (scalar.decoded_bytes != SIZE_MAX)
                        ASSERT(memcmp(other.decoded, scalar.decoded, scalar.decoded_bytes) == 0);
                ASSERT(memcmp(other.numbers, scalar.numbers, sizeof(scalar.numbers)) == 0);
        }
        /* What was written decodes on every level, too. */
        for (int level = CODEC_SIMD_NONE; level <= CODEC_SIMD_AVX512; level++) {
                codec_simd_limit((enum codec_simd)level);
                ASSERT(codec_base64_decode(slice_of(scalar.base64, scalar.base64_bytes), other.decoded, size) == size);
                ASSERT(size == 0 || memcmp(other.decoded, data, size) == 0);
        }
        return 0;
}
