/* Firehose's side of `sendring sink`: reads the bodies of PutRecordBatch and PutRecord with Firehose's limits, error
 * names and texts, and writes the answers. One struct per thread; nothing is allocated after sink_firehose_create().
 *
 * Limits: https://docs.aws.amazon.com/firehose/latest/dev/limits.html. The 4 MiB of a call are applied to the HTTP
 * body, the strictest reading. */
#ifndef SENDRING_TOOLS_SINK_FIREHOSE_H
#define SENDRING_TOOLS_SINK_FIREHOSE_H

#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum sink_operation { SINK_PUT_RECORD_BATCH, SINK_PUT_RECORD };

/* A call refused whole. */
struct sink_refusal {
        int status;       /* HTTP */
        const char *name; /* "ValidationException" */
        char text[384];   /* may be empty */
};

/* One valid call. Slices point into the body (stream, text) and into the decoder's own memory (data). */
struct sink_firehose {
        struct slice stream;
        uint32_t records_count;
        struct slice text[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX]; /* base64 */
        struct slice data[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX]; /* decoded; until the next parse */
        uint8_t *memory;
        struct sink_gunzip *gunzip; /* sink_firehose.c */
        uint64_t record_id_prefix[2], record_id_next;
};

/* What became of an entry. */
enum sink_entry { SINK_ENTRY_STORED = 0, SINK_ENTRY_UNAVAILABLE, SINK_ENTRY_FAILURE };

enum err_code sink_firehose_create(struct sink_firehose **ret_firehose, struct err *reterr);
void sink_firehose_free(struct sink_firehose *firehose);

/* False for a target that Firehose does not know. */
bool sink_firehose_operation(struct slice target, enum sink_operation *ret_operation);

/* Reads, checks and decodes a body. False: *ret_refusal says what AWS answers, and nothing of the call is to be stored.
 */
bool sink_firehose_parse(struct sink_firehose *firehose, enum sink_operation operation, struct slice body,
                         struct sink_refusal *ret_refusal);

/* A record that begins like a gzip file (1f 8b) is gzip files, one behind the other, of lines. */
bool sink_firehose_is_gzip(struct slice record);
/* More than 16,384 usual events. What is larger takes too much memory, here and from whoever reads the stream. */
#define SINK_UNPACKED_BYTES_MAX (64u * 1024u * 1024u)
/* What is in them, until the next call. False: the record is not whole, wrong, has something else behind it, or is
 * larger than SINK_UNPACKED_BYTES_MAX. */
bool sink_firehose_unpack(struct sink_firehose *firehose, struct slice record, struct slice *ret_lines);

/* Room that every answer fits. */
#define SINK_ANSWER_BYTES_MAX (512u * 1024u)
/* Writes the body of a 200 answer for `entries[records_count]` and returns its length. PutRecord has one entry, stored.
 */
size_t sink_firehose_answer(struct sink_firehose *firehose, enum sink_operation operation,
                            const enum sink_entry *entries, uint8_t out[SINK_ANSWER_BYTES_MAX]);
/* Writes {"__type":...,"message":...} and returns its length. */
size_t sink_firehose_refusal(const struct sink_refusal *refusal, uint8_t out[SINK_ANSWER_BYTES_MAX]);

#endif
