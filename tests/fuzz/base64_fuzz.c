/* Any bytes as base64: the vector and the table code decode the same, encoding in pieces is encoding at once, and what
 * decodes comes back letter by letter. */
#include "base/assert.h"
#include "codecs/codec.h"
#include "tests/support/base64_portable.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static uint8_t one[(1 << 20) * 2], two[(1 << 20) * 2];
        size_t bytes = codec_base64_decode(slice_of(data, size), one, sizeof(one));
        ASSERT(bytes == portable_base64_decode(slice_of(data, size), two, sizeof(two)));
        if (bytes != SIZE_MAX) {
                ASSERT(memcmp(one, two, bytes) == 0);
                ASSERT(codec_base64_decode(slice_of(data, size), two, bytes) == bytes);
                struct codec_base64 state = {.waiting_count = 0};
                size_t written = codec_base64_append(&state, slice_of(one, bytes), two);
                written += codec_base64_finish(&state, two + written);
                ASSERT(slice_equal(slice_of(two, written), slice_of(data, size)));
        }

        size_t cut = size == 0 ? 0 : data[0] % size;
        struct codec_base64 state = {.waiting_count = 0}, portable_state = {.waiting_count = 0};
        size_t written = codec_base64_append(&state, slice_of(data, cut), one);
        written += codec_base64_append(&state, slice_of(data + cut, size - cut), one + written);
        written += codec_base64_finish(&state, one + written);
        size_t portable = portable_base64_append(&portable_state, slice_of(data, size), two);
        portable += portable_base64_finish(&portable_state, two + portable);
        ASSERT(written == portable && written == CODEC_BASE64_SIZE(size));
        ASSERT(memcmp(one, two, written) == 0);
        return 0;
}
