/* Kinesis Data Firehose PutRecordBatch as pure functions over buffers: build a body record by record, read an answer,
 * classify errors. No I/O, no allocation after create. Shapes:
 * https://docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html */
#ifndef SENDRING_EGRESS_FIREHOSE_H
#define SENDRING_EGRESS_FIREHOSE_H

#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"
#include "codecs/codec.h"
#include "egress/http.h"

#include <stdbool.h>
#include <stdint.h>

/* One request body under construction, then in flight, then perhaps cut down to its refused records and sent again. */
struct firehose_body {
        uint8_t *bytes;   /* body_bytes_max + 64 bytes of slack for SIMD stores; caller's memory */
        size_t bytes_max; /* <= LIMIT_FIREHOSE_CALL_BYTES_MAX */
        size_t len;
        uint32_t records; /* closed ones */
        bool record_open;
        size_t record_raw_bytes; /* of the open record, before base64 */
        uint32_t record_events;
        struct codec_base64 base64;
        struct {
                uint32_t at; /* offset of `{"Data":"` in bytes */
                uint32_t raw_bytes;
                uint32_t events;
        } index[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX + 1];
};

struct firehose_limits {
        uint32_t record_bytes_max;  /* <= LIMIT_FIREHOSE_RECORD_BYTES_MAX */
        uint32_t record_events_max; /* 1: packing none */
        uint32_t records_max;       /* <= LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX */
};

/* Begins a body for the stream (name already validated). */
void firehose_body_begin(struct firehose_body *body, uint8_t *bytes, size_t bytes_max, struct slice stream_name);
/* Appends one newline-ended event (`json` without the newline; the newline is added) to the open record or a new one,
 * within all limits. ERR_FULL: does not fit this body any more: finish it and begin another. ERR_TOO_BIG: fits no
 * record at all. */
enum err_code firehose_body_append(struct firehose_body *body, const struct firehose_limits *limits, struct slice json);
/* Closes record and body: `bytes[0..len)` is the HTTP body. */
void firehose_body_finish(struct firehose_body *body);
bool firehose_body_is_empty(const struct firehose_body *body);
/* Events in closed and open records. */
uint32_t firehose_body_events(const struct firehose_body *body);

/* What became of each record of a finished body. */
enum firehose_verdict { FIREHOSE_ACCEPTED = 0, FIREHOSE_RETRY = 1, FIREHOSE_RETRY_THROTTLED = 2 };
struct firehose_answer {
        uint32_t accepted, failed; /* records */
        bool throttled;            /* a failed entry named throughput */
        uint8_t verdicts[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX];
        char first_error[128]; /* "ServiceUnavailableException: Slow down." of the first failed entry */
};
/* Reads a 200 body. ERR_PROTOCOL when it is not JSON of the right shape or has another number of entries than sent:
 * treat as not accepted. */
enum err_code firehose_answer_read(struct slice response_body, uint32_t records_sent,
                                   struct firehose_answer *ret_answer);
/* Cuts a finished body down to the records whose verdict is not ACCEPTED, in order, in place; it stays a finished,
 * valid body. Returns events kept. */
uint32_t firehose_body_keep_failed(struct firehose_body *body, const struct firehose_answer *answer);

/* ---------------------------------------------------------------------------------------------- any AWS JSON service
 */

struct aws_error {
        char name[128]; /* "ServiceUnavailableException" */
        char message[256];
        enum err_code code;      /* classified: class RETRY (ERR_THROTTLED, ERR_UNAVAILABLE, ERR_CLOCK_SKEW,
                                    ERR_CREDENTIALS_EXPIRED), REFUSED */
        int64_t clock_offset_ms; /* for ERR_CLOCK_SKEW: server time minus ours, from Date */
};
/* Classifies an answer that is not 2xx by name, then by status (aws-facts 5.0, 5.1, 7). */
void aws_error_read(const struct http_response *response, int64_t realtime_ms, struct aws_error *ret_error);

#endif
