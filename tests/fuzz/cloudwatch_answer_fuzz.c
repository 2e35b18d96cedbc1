/* PutMetricData's answers from anybody, in both protocols, and the CBOR reader by itself. */
#include "base/assert.h"
#include "codecs/codec.h"
#include "egress/cloudwatch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool fuzz_is_clean(const char *text, size_t bytes_max)
{
        size_t len = strnlen(text, bytes_max);
        for (size_t i = 0; i < len; i++)
                if ((uint8_t)text[i] < 0x20)
                        return false;
        return len < bytes_max;
}

/* Every item moves on and stays within the bytes; a value that is skipped ends where reading its items ends. */
static void fuzz_items(struct slice bytes)
{
        struct slice rest = bytes;
        struct codec_cbor_item item;
        while (codec_cbor_next(&rest, &item) != CODEC_CBOR_ERROR) {
                ASSERT(rest.len < bytes.len);
                ASSERT(item.text.len <= bytes.len - rest.len);
                bytes = rest;
        }
        ASSERT(rest.len == bytes.len);
}

static void fuzz_skip(struct slice bytes)
{
        struct slice rest = bytes, one = bytes;
        struct codec_cbor_item item;
        while (codec_cbor_skip(&rest)) {
                enum codec_cbor_kind kind = codec_cbor_next(&one, &item);
                ASSERT(kind != CODEC_CBOR_ERROR && kind != CODEC_CBOR_BREAK);
                ASSERT(rest.len <= one.len);
                one = rest;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const uint16_t statuses[] = {200, 301, 400, 403, 404, 408, 413, 429, 500, 503, 502, 504};
        if (size == 0)
                return 0;
        struct slice body = slice_of(data + 1, size - 1);
        bool json = (data[0] & 16) != 0;
        struct http_response response = {
                .status = statuses[(data[0] & 15) % 12u],
                .smithy_protocol = (data[0] & 32) != 0 ? SLICE_EMPTY : SLICE("rpc-v2-cbor"),
                .error_type = (data[0] & 64) != 0 ? slice_head(body, 20) : SLICE_EMPTY,
                .body = body,
        };
        struct aws_error error;
        memset(&error, 0x5a, sizeof(error));
        enum cloudwatch_verdict verdict = cloudwatch_answer_read(&response, json, INT64_C(1767323045000), &error);
        if (verdict != CLOUDWATCH_TAKEN) {
                enum err_class class_ = err_class(error.code);
                ASSERT(class_ == ERR_CLASS_RETRY || class_ == ERR_CLASS_REFUSED);
                /* Passed over or sent again it may be: it is never parked. */
                ASSERT(verdict == CLOUDWATCH_NOT_TAKEN || class_ == ERR_CLASS_RETRY);
                ASSERT(verdict == CLOUDWATCH_NOT_TAKEN || response.status == 200 || response.status >= 500);
                ASSERT(fuzz_is_clean(error.name, sizeof(error.name)));
                ASSERT(fuzz_is_clean(error.message, sizeof(error.message)));
                ASSERT(error.message[0] != '\0');
        } else {
                ASSERT(response.status == 200);
        }
        fuzz_items(body);
        fuzz_skip(body);
        return 0;
}
