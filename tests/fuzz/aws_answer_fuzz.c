/* Answers of a service that may be anybody: PutRecordBatch answers and error bodies. */
#include "base/assert.h"
#include "egress/firehose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool fuzz_is_clean(const char *text, size_t bytes_max)
{
        size_t len = strnlen(text, bytes_max);
        for (size_t i = 0; i < len; i++)
                if ((uint8_t)text[i] < 0x20)
                        return false;
        return len < bytes_max;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct firehose_answer answer;
        static const uint16_t statuses[] = {200, 301, 400, 403, 404, 408, 413, 429, 500, 503};
        if (size == 0)
                return 0;
        uint32_t records = data[0] == 255 ? LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX : data[0] % 8u;
        struct slice body = slice_of(data + 1, size - 1);

        memset(&answer, 0x5a, sizeof(answer));
        if (firehose_answer_read(body, records, &answer) == ERR_OK) {
                ASSERT(answer.accepted + answer.failed == records);
                uint32_t failed = 0;
                bool throttled = false;
                for (uint32_t i = 0; i < records; i++) {
                        ASSERT(answer.verdicts[i] <= FIREHOSE_RETRY_THROTTLED);
                        failed += answer.verdicts[i] != FIREHOSE_ACCEPTED;
                        throttled = throttled || answer.verdicts[i] == FIREHOSE_RETRY_THROTTLED;
                }
                ASSERT(failed == answer.failed);
                ASSERT(throttled == answer.throttled);
                ASSERT(fuzz_is_clean(answer.first_error, sizeof(answer.first_error)));
        }

        /* The same bytes as an error body; its tail stands in for the headers. */
        struct slice tail = slice_from(body, body.len > 40 ? body.len - 40 : 0);
        struct http_response response = {
                .status = statuses[data[0] % 10u],
                .error_type = (data[0] & 16) != 0 ? tail : SLICE_EMPTY,
                .date = (data[0] & 32) != 0 ? slice_from(tail, tail.len > 29 ? tail.len - 29 : 0) : SLICE_EMPTY,
                .retry_after = slice_head(tail, 29),
                .body = body,
        };
        struct aws_error error;
        memset(&error, 0x5a, sizeof(error));
        aws_error_read(&response, INT64_C(1767323045000), &error);
        enum err_class class_ = err_class(error.code);
        ASSERT(class_ == ERR_CLASS_RETRY || class_ == ERR_CLASS_REFUSED);
        ASSERT(error.wish.after_ms <= AWS_WISH_MS_MAX);
        ASSERT(error.code == ERR_CLOCK_SKEW || error.server_ms == 0);
        ASSERT(fuzz_is_clean(error.name, sizeof(error.name)));
        ASSERT(fuzz_is_clean(error.message, sizeof(error.message)));
        ASSERT(error.message[0] != '\0');
        return 0;
}
