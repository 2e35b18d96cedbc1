/* Any bytes as JSON: the pull reader and jansson agree on what is JSON. Where jansson is stricter by design (numbers
 * beyond a double, lone surrogates), laxer (a NUL byte ends its input) or deeper, only the absence of crashes is asked
 * for. */
#include "base/assert.h"
#include "codecs/codec.h"

#include <jansson.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static uint8_t text[1 << 20];
        struct codec_json_reader reader;
        enum codec_json_token token;
        bool too_deep = false, has_surrogate = false;
        codec_json_reader_init(&reader, slice_of(data, size));
        do {
                token = codec_json_next(&reader);
                ASSERT(reader.at <= size);
                if (token == CODEC_JSON_KEY || token == CODEC_JSON_STRING) {
                        ASSERT(reader.value.ptr >= data && reader.value.ptr + reader.value.len < data + size);
                        size_t bytes = codec_json_unescape(reader.value, text, sizeof(text));
                        ASSERT(bytes <= reader.value.len);
                        ASSERT(reader.escaped || bytes == reader.value.len);
                        has_surrogate |= slice_find(reader.value, SLICE("\\ud")) < reader.value.len ||
                                         slice_find(reader.value, SLICE("\\uD")) < reader.value.len;
                }
                too_deep |= reader.depth == 64;
        } while (token != CODEC_JSON_END && token != CODEC_JSON_ERROR);

        json_error_t error;
        json_t *root = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL,
                                  &error);
        bool strict = root != NULL || json_error_code(&error) == json_error_numeric_overflow ||
                      json_error_code(&error) == json_error_null_byte_in_key || has_surrogate;
        if (token == CODEC_JSON_END)
                ASSERT(strict);
        else
                ASSERT(root == NULL || too_deep || memchr(data, 0, size) != NULL);
        json_decref(root);

        codec_json_reader_init(&reader, slice_of(data, size));
        ASSERT((codec_json_skip(&reader) && codec_json_next(&reader) == CODEC_JSON_END) == (token == CODEC_JSON_END));
        return 0;
}
