/* CloudWatch's side of `sendring sink`: reads the bodies of PutMetricData, in CBOR (smithy-rpc-v2) and JSON 1.0, gzip
 * or plain, with CloudWatch's limits, error names and texts, and writes the answers. What is accepted goes to a file of
 * the sink's state directory:
 *
 *   DIR/metrics.ndjson  one line for each accepted call, written in one go:
 *                       {"namespace":"X","data":[["Send",{"campaign":"april"},1767323040,37.0,37.0], ...]}
 *                       with metric, dimensions, timestamp (s), SampleCount and Sum of each datum. A line that a kill
 * has cut has no newline; the next sink cuts it off, and a report does not read it.
 *
 * Limits: CloudWatch API reference, PutMetricData; the 1 MB of a call are applied to the body before gzip, the
 * strictest reading. Uses the general JSON library, and memory as it needs it. */
#ifndef SENDRING_TOOLS_SINK_CLOUDWATCH_H
#define SENDRING_TOOLS_SINK_CLOUDWATCH_H

#include "base/err.h"
#include "base/slice.h"
#include "tools/sink_firehose.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct sink_cloudwatch; /* one per thread */

enum err_code sink_cloudwatch_create(struct sink_cloudwatch **ret_cloudwatch, struct err *reterr);
void sink_cloudwatch_free(struct sink_cloudwatch *cloudwatch); /* NULL is allowed */

/* Whether a request is PutMetricData, by its path and header fields, and in which protocol. */
bool sink_cloudwatch_is_cbor(struct slice path, struct slice smithy_protocol, struct slice content_type);
bool sink_cloudwatch_is_json(struct slice path, struct slice amz_target, struct slice content_type);

/* Reads and checks a body; `now_ms` is the clock that timestamps are measured by. Returns the line to store, without
 * its newline, as a value of the caller's (json_decref()), and the number of data. NULL: *ret_refusal says what AWS
 * answers.
 */
json_t *sink_cloudwatch_parse(struct sink_cloudwatch *cloudwatch, bool cbor, bool gzip, struct slice body,
                              int64_t now_ms, uint32_t *ret_data, struct sink_refusal *ret_refusal);

/* Writes an error's body and returns its length; *ret_fields is what the head has beside the usual: the protocol, and
 * x-amzn-query-error, which carries the code of CloudWatch's older protocol. `fields` has room for 160 bytes. */
size_t sink_cloudwatch_refusal(const struct sink_refusal *refusal, bool cbor, uint8_t out[SINK_ANSWER_BYTES_MAX],
                               char fields[160]);

/* ---- the file */

struct sink_metrics;
/* Opens DIR/metrics.ndjson for appending; of the one sink that holds the directory's lock. */
enum err_code sink_metrics_open(struct sink_metrics **ret_metrics, const char *directory, struct err *reterr);
void sink_metrics_close(struct sink_metrics *metrics); /* NULL is allowed */
/* From any thread. */
enum err_code sink_metrics_append(struct sink_metrics *metrics, const json_t *call, struct err *reterr);

/* Adds all calls up: an array of {"namespace", "metric", "dimensions", "timestamp", "samples", "sum"}, in the order of
 * their first coming. Also while a sink runs; without a file it is empty. The caller's. */
enum err_code sink_metrics_report(const char *directory, json_t **ret_metrics, struct err *reterr);

#endif
