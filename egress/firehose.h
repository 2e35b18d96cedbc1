/* Kinesis Data Firehose PutRecordBatch as pure functions over buffers: build a body record by record, read an answer,
 * keep what was refused. No I/O, no allocation. Shapes:
 * https://docs.aws.amazon.com/firehose/latest/APIReference/API_PutRecordBatch.html
 *
 *   {"DeliveryStreamName":"mail-events","Records":[{"Data":"<base64>"},{"Data":"<base64>"}]}
 *                                                  ^ index[0].at      ^ index[1].at
 *
 * The base64 of a record is that of its events, each followed by a newline; with compression, of one whole gzip file of
 * them, and all limits count the compressed bytes. Records are separated by one comma, nothing else; a finished body
 * ends with "]}". firehose_body_keep_failed() relies on that: it moves records and makes none anew. */
#ifndef SENDRING_EGRESS_FIREHOSE_H
#define SENDRING_EGRESS_FIREHOSE_H

#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"
#include "codecs/codec.h"
#include "egress/aws_error.h"
#include "egress/gzip.h"

#include <stdbool.h>
#include <stdint.h>

#define FIREHOSE_BODY_SLACK_BYTES      64u /* room behind bytes_max for the SIMD stores of base64 */
#define FIREHOSE_STREAM_NAME_BYTES_MAX 64u
/* A body of this size holds the largest record for the longest stream name. */
#define FIREHOSE_BODY_BYTES_MIN (CODEC_BASE64_SIZE(LIMIT_FIREHOSE_RECORD_BYTES_MAX) + 256u)

/* One request body under construction, then in flight, then perhaps cut down to its refused records and sent again.
 * Fields may be read; only the functions below write them. */
struct firehose_body {
        uint8_t *bytes;   /* bytes_max + FIREHOSE_BODY_SLACK_BYTES; caller's memory */
        size_t bytes_max; /* <= LIMIT_FIREHOSE_CALL_BYTES_MAX */
        size_t len;
        struct gzip_writer *gzip; /* NULL: records are not compressed */
        uint32_t records;         /* closed ones */
        bool record_open;
        bool finished;
        uint32_t record_raw_bytes; /* of the open record, before base64; without what waits in `gzip` */
        uint32_t record_events;
        uint64_t raw_bytes; /* of all records, the open one as above: what Firehose's MiB/s quota counts */
        uint32_t events;    /* of all records, the open one included */
        struct codec_base64 base64;
        struct firehose_record {
                uint32_t at; /* offset of `{"Data":"` in bytes */
                uint32_t raw_bytes;
                uint32_t events;
        } index[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX];
};

struct firehose_limits {
        uint32_t record_bytes_max;  /* 1..LIMIT_FIREHOSE_RECORD_BYTES_MAX */
        uint32_t record_events_max; /* 1: packing none; at most LIMIT_FIREHOSE_EVENTS_PER_RECORD_MAX, compressed
                                       LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX */
        uint32_t records_max;       /* 1..LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX */
        uint64_t call_bytes_max;    /* of all records before base64; one event goes always */
};

/* 1-64 of a-zA-Z0-9_.- */
bool firehose_stream_name_is_valid(struct slice stream_name);

/* Begins a body for the stream (name already validated, asserted). `gzip`, NULL for no compression, is this body's
 * until it is finished, or until another one begins with it. */
void firehose_body_begin(struct firehose_body *body, uint8_t *bytes, size_t bytes_max, struct slice stream_name,
                         struct gzip_writer *gzip);
/* Appends one newline-ended event (`json` without the newline; the newline is added) to the open record or a new one,
 * within all limits. The body holds the same events on failure.
 *
 * What waits to be compressed counts with the bytes it can have at most. When it does not fit by that count, it is
 * compressed, and counts with those it has; so records and bodies become full to some 3 % and the bound of one event.
 *
 * ERR_FULL     does not fit this body any more: finish it and begin another;
 * ERR_TOO_BIG  fits no record, or not even an empty body of this size: no later body will take it. Compressed, it must
 *              fit as if it could not be made smaller: GZIP_BYTES_MAX(). */
enum err_code firehose_body_append(struct firehose_body *body, const struct firehose_limits *limits, struct slice json);
/* Closes record and body: `bytes[0..len)` is the HTTP body. Not for an empty body (asserted). */
void firehose_body_finish(struct firehose_body *body);
bool firehose_body_is_empty(const struct firehose_body *body);
/* Events in closed and open records. */
uint32_t firehose_body_events(const struct firehose_body *body);

/* What became of each record of a finished body. */
enum firehose_verdict { FIREHOSE_ACCEPTED = 0, FIREHOSE_RETRY = 1, FIREHOSE_RETRY_THROTTLED = 2 };
struct firehose_answer {
        uint32_t accepted, failed; /* records */
        bool throttled;            /* a failed entry named throughput */
        enum err_code first_code;  /* of the first failed entry; ERR_UNAVAILABLE when nobody knows its name */
        uint8_t verdicts[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX];
        char first_error[128]; /* "ServiceUnavailableException: Slow down." of the first failed entry, no control bytes
                                */
};
/* Reads a 200 body. ERR_PROTOCOL when it is not JSON of the right shape, or has another number of entries than sent, or
 * its FailedPutCount contradicts them: treat as not accepted; *ret_answer is undefined then. */
enum err_code firehose_answer_read(struct slice response_body, uint32_t records_sent,
                                   struct firehose_answer *ret_answer);
/* Cuts a finished body down to the records whose verdict is not ACCEPTED, in order, in place; it stays a finished,
 * valid body, or becomes an empty one (len 0) when all were accepted. Returns events kept. */
uint32_t firehose_body_keep_failed(struct firehose_body *body, const struct firehose_answer *answer);

#endif
