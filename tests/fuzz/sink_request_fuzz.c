/* The sink's readers of what comes over the wire: HTTP heads, chunked bodies, Firehose and CloudWatch bodies.
 *
 * Properties: a chunked body is the same however it is cut; a Firehose body that is accepted is JSON to the project's
 * general reader too, and its decoded records lie in the decoder's memory within the limits, those that are gzip files
 * unpacked or refused; a CloudWatch body that is
 * accepted has 1 to 1,000 data, one that is not has an answer. */
#include "base/assert.h"
#include "codecs/codec.h"
#include "tools/sink_cloudwatch.h"
#include "tools/sink_firehose.h"
#include "tools/sink_http.h"
#include "tools/sink_state.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_chunks(struct slice input)
{
        static uint8_t whole[65536], pieces[65536];
        struct sink_http_chunks chunks = {0};
        struct slice rest = input;
        size_t whole_bytes = 0, pieces_bytes = 0;
        enum err_code whole_code = sink_http_chunks_take(&chunks, &rest, whole, sizeof(whole), &whole_bytes);
        ASSERT(whole_bytes <= sizeof(whole) && rest.len <= input.len);
        if (whole_code == ERR_TOO_BIG)
                return;
        chunks = (struct sink_http_chunks){0};
        enum err_code code = ERR_INCOMPLETE;
        for (size_t i = 0; i < input.len && code == ERR_INCOMPLETE; i++) {
                size_t took;
                struct slice one = slice_of(input.ptr + i, 1);
                code = sink_http_chunks_take(&chunks, &one, pieces + pieces_bytes, sizeof(pieces) - pieces_bytes,
                                             &took);
                pieces_bytes += took;
        }
        ASSERT(code == whole_code);
        ASSERT(pieces_bytes == whole_bytes && memcmp(whole, pieces, whole_bytes) == 0);
}

static bool fuzz_is_ascii(struct slice s)
{
        for (size_t i = 0; i < s.len; i++)
                if (s.ptr[i] >= 0x80)
                        return false;
        return true;
}

static void fuzz_body(struct sink_firehose *firehose, enum sink_operation operation, struct slice input)
{
        static uint8_t body[1 << 20];
        struct sink_refusal refusal = {0};
        if (input.len > sizeof(body))
                return;
        if (input.len > 0)
                memcpy(body, input.ptr, input.len); /* escapes are decoded in place */
        if (!sink_firehose_parse(firehose, operation, slice_of(body, input.len), &refusal)) {
                ASSERT(refusal.status >= 400 && refusal.name != NULL);
                return;
        }
        ASSERT(firehose->records_count >= 1 && firehose->records_count <= LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX);
        ASSERT(firehose->stream.len >= 1 && firehose->stream.len <= 64);
        for (uint32_t i = 0; i < firehose->records_count; i++) {
                struct slice record = firehose->data[i];
                ASSERT(record.len <= LIMIT_FIREHOSE_RECORD_BYTES_MAX);
                ASSERT(record.ptr >= firehose->memory && record.len <= input.len);
                unsigned type;
                struct slice id = sink_line_id(record, &type);
                ASSERT(type < SINK_TYPES_COUNT);
                ASSERT(id.len <= record.len);
                if (sink_firehose_is_gzip(record) && sink_firehose_unpack(firehose, record, &record))
                        ASSERT(record.len <= SINK_UNPACKED_BYTES_MAX);
        }
        struct codec_json_reader reader;
        enum codec_json_token token;
        codec_json_reader_init(&reader, input);
        do
                token = codec_json_next(&reader);
        while (token != CODEC_JSON_END && token != CODEC_JSON_ERROR);
        ASSERT(token == CODEC_JSON_END || !fuzz_is_ascii(input));
}

static void fuzz_metrics(struct sink_cloudwatch *cloudwatch, bool cbor, bool gzip, struct slice input)
{
        static uint8_t answer[SINK_ANSWER_BYTES_MAX];
        struct sink_refusal refusal = {0};
        char fields[160];
        uint32_t count = 0;
        json_t *call = sink_cloudwatch_parse(cloudwatch, cbor, gzip, input, INT64_C(1767323045000), &count, &refusal);
        if (call == NULL) {
                ASSERT(refusal.status >= 400 && refusal.name != NULL);
                size_t bytes = sink_cloudwatch_refusal(&refusal, cbor, answer, fields);
                ASSERT(bytes > 0 && bytes <= sizeof(answer));
                return;
        }
        ASSERT(count >= 1 && count <= LIMIT_CLOUDWATCH_DATA_PER_CALL_MAX);
        ASSERT(json_array_size(json_object_get(call, "data")) == count);
        json_decref(call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct sink_cloudwatch *cloudwatch;
        static struct sink_firehose *firehose;
        if (firehose == NULL && sink_firehose_create(&firehose, NULL) != ERR_OK)
                abort();
        if (cloudwatch == NULL && sink_cloudwatch_create(&cloudwatch, NULL) != ERR_OK)
                abort();
        struct slice input = slice_of(data, size);
        struct sink_http_request request;
        if (sink_http_parse(input, &request) == ERR_OK) {
                ASSERT(request.head_bytes <= size && request.headers_count <= SINK_HTTP_HEADERS_MAX);
                input = slice_from(input, request.head_bytes);
        }
        fuzz_chunks(input);
        fuzz_body(firehose, SINK_PUT_RECORD_BATCH, input);
        fuzz_body(firehose, SINK_PUT_RECORD, input);
        for (int i = 0; i < 4; i++)
                fuzz_metrics(cloudwatch, (i & 1) != 0, (i & 2) != 0, input);
        return 0;
}
