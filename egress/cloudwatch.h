/* CloudWatch PutMetricData as pure functions over buffers: bodies in CBOR (smithy-rpc-v2) and JSON 1.0, their
 * compression, what an answer means. No I/O. Shapes and limits:
 * https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
 *
 *   {"Namespace": "Sendring/SES", "MetricData": [
 *     {"MetricName": "Send", "Dimensions": [{"Name": "campaign", "Value": "april"}], "Timestamp": 1767323040,
 *      "Values": [1], "Counts": [37], "Unit": "Count"}]}
 *
 * Values 1 with a count of n is what n separate events of value 1 would be: Sum and SampleCount are n, percentiles
 * work. In CBOR a timestamp is tag 1 and an integer, numbers are floats of 64 bits, and MetricData's length is written
 * before it. A datum without dimensions has no Dimensions; StorageResolution 1 is there when periods are below a
 * minute. */
#ifndef SENDRING_EGRESS_CLOUDWATCH_H
#define SENDRING_EGRESS_CLOUDWATCH_H

#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"
#include "egress/aws_error.h"
#include "egress/metrics.h"

#include <stdbool.h>
#include <stdint.h>

/* ---------------------------------------------------------------------------------------------- the request's head */

struct cloudwatch_head {
        struct slice path;         /* "/", or "/service/GraniteServiceVersion20100801/operation/PutMetricData" */
        struct slice content_type; /* "application/x-amz-json-1.0", or "application/cbor" */
        struct slice amz_target;   /* JSON: "GraniteServiceVersion20100801.PutMetricData"; else empty */
        struct slice fields; /* further header fields, each ended by CR LF: smithy-protocol, accept, content-encoding */
};
struct cloudwatch_head cloudwatch_head_of(bool json, bool gzip);

/* ---------------------------------------------------------------------------------------------- bodies */

/* The smallest room for a body: whatever the namespace, one datum of any table fits. */
#define CLOUDWATCH_BODY_BYTES_MIN 32768u

struct cloudwatch_body {
        uint8_t *bytes; /* caller's memory */
        size_t bytes_max, len, data_at;
        uint32_t data;
        bool json, high_resolution;
};

/* `bytes_max` at least CLOUDWATCH_BODY_BYTES_MIN; what is over LIMIT_CLOUDWATCH_CALL_BYTES_MAX is not used. */
void cloudwatch_body_begin(struct cloudwatch_body *body, const struct rules_cloudwatch *cloudwatch, uint8_t *bytes,
                           size_t bytes_max);
/* ERR_FULL: 1,000 data are in, or the bytes are used up; the body is as before. Never for the first datum. */
enum err_code cloudwatch_body_add(struct cloudwatch_body *body, const struct metrics_datum *datum);
/* `bytes[0..result)` is the body. Not for one without data (asserted). */
size_t cloudwatch_body_finish(struct cloudwatch_body *body);

/* One body of the series from, from+1 ... of a sorted table, as many as fit. ERR_FULL when not even one does, which
 * cannot be with CLOUDWATCH_BODY_BYTES_MIN. */
enum err_code cloudwatch_body_encode(const struct metrics_table *table, uint32_t from, uint8_t *bytes, size_t bytes_max,
                                     size_t *ret_bytes, uint32_t *ret_taken);

/* Bodies that were finished, by the Timestamp of their data. Is one of them later than `after_s`? */
bool cloudwatch_body_is_ahead(struct slice body, bool json, int64_t after_s);
/* Those that are later than `after_s` become `at_s`, which is not later (asserted): in place, for a body stays as long
 * as it was. Returns how many there were. */
uint32_t cloudwatch_body_restamp(uint8_t *bytes, size_t bytes_count, bool json, int64_t after_s, int64_t at_s);

/* Bounds of a whole table in bodies one behind the other: how many, and their bytes with each rounded up to 64. */
#define CLOUDWATCH_BODIES_MAX 64u
uint32_t cloudwatch_bodies_max(const struct rules_cloudwatch *cloudwatch);
uint64_t cloudwatch_bodies_bytes_max(const struct rules_cloudwatch *cloudwatch);

/* PutMetricData takes timestamps of two weeks at most, and one that is older makes it refuse the whole call. Each step
 * of a datum's way has a limit of its own, later than the one before, so that what has passed one can take its time to
 * the next: what is counted has half an hour until its period is closed, what is closed at least ten minutes until it
 * is sent, and a request as long as it may take. A period closes in time however long it is: it divides an hour, so
 * that the limit for counting is a boundary too, and what may still be counted has its boundary at the limit at the
 * latest, with the linger of at most a quarter of an hour behind it. (In the very millisecond of the limit it is the
 * next boundary: then it is counted again, and expires.) `at_ms` is what would be sent: the start of a period. */
#define CLOUDWATCH_AGE_MS_MAX       (INT64_C(14) * 24 * 3600 * 1000)
#define CLOUDWATCH_COUNT_AGE_MS_MAX (CLOUDWATCH_AGE_MS_MAX - INT64_C(3600) * 1000)
#define CLOUDWATCH_CLOSE_AGE_MS_MAX (CLOUDWATCH_AGE_MS_MAX - INT64_C(1800) * 1000)
#define CLOUDWATCH_SEND_MARGIN_MS   (INT64_C(300) * 1000) /* clocks differ */
#define CLOUDWATCH_TIMEOUT_MS_MAX   (INT64_C(900) * 1000) /* of a request; what is above is taken for this */
_Static_assert(CLOUDWATCH_COUNT_AGE_MS_MAX % (INT64_C(3600) * 1000) == 0, "a boundary of every period");
_Static_assert(CLOUDWATCH_COUNT_AGE_MS_MAX + INT64_C(900) * 1000 < CLOUDWATCH_CLOSE_AGE_MS_MAX,
               "what is counted may be closed, egress.linger_ms behind the boundary");
_Static_assert(CLOUDWATCH_CLOSE_AGE_MS_MAX + INT64_C(600) * 1000 <=
                       CLOUDWATCH_AGE_MS_MAX - CLOUDWATCH_SEND_MARGIN_MS - CLOUDWATCH_TIMEOUT_MS_MAX,
               "what is closed has ten minutes until it is sent");
static inline int64_t cloudwatch_send_age_ms_max(uint32_t request_timeout_ms)
{
        return CLOUDWATCH_AGE_MS_MAX - CLOUDWATCH_SEND_MARGIN_MS -
               (request_timeout_ms < CLOUDWATCH_TIMEOUT_MS_MAX ? request_timeout_ms : CLOUDWATCH_TIMEOUT_MS_MAX);
}
static inline bool cloudwatch_is_older(int64_t at_ms, int64_t now_ms, int64_t age_ms_max)
{
        return at_ms < now_ms - age_ms_max;
}

/* Two hours ahead are taken: one is left for clocks that differ. */
#define CLOUDWATCH_AHEAD_MS_MAX (INT64_C(3600) * 1000)
/* What was counted while the host's clock was further ahead than that is sent under the time of now. Between the two
 * lies what the clock may be set back between counting and sending; above lies half an hour for clocks that differ: of
 * what is signed by a clock that is a quarter of an hour off, CloudWatch takes nothing anyway. */
#define CLOUDWATCH_SEND_AHEAD_MS_MAX (INT64_C(5400) * 1000)
/* The time under which an event is counted: its own, or now when it lies further ahead, since the clock was set back
 * meanwhile. ERR_RANGE: its period began so long ago that it would not be taken. */
enum err_code cloudwatch_time_of(int64_t accepted_ms, int64_t period_ms, int64_t now_ms, int64_t *ret_ms);

/* ---------------------------------------------------------------------------------------------- compression */

/* Smaller bodies are sent as they are, like the SDKs do. */
#define CLOUDWATCH_GZIP_BYTES_MIN 10240u

struct cloudwatch_gzip;                                                                      /* one thread at a time */
enum err_code cloudwatch_gzip_create(struct cloudwatch_gzip **ret_gzip, struct err *reterr); /* ERR_MEMORY */
void cloudwatch_gzip_free(struct cloudwatch_gzip *gzip);                                     /* NULL is allowed */
size_t cloudwatch_gzip_memory_bytes(void);
/* Bytes of the gzip file; 0 when `out` is too small, which cloudwatch_gzip_bytes_max(body.len) is not. Allocates
 * nothing. */
size_t cloudwatch_gzip_run(struct cloudwatch_gzip *gzip, struct slice body, uint8_t *out, size_t out_bytes);
size_t cloudwatch_gzip_bytes_max(size_t bytes);

/* ---------------------------------------------------------------------------------------------- answers */

enum cloudwatch_verdict {
        CLOUDWATCH_TAKEN,     /* every datum */
        CLOUDWATCH_NOT_TAKEN, /* none: CloudWatch takes a whole request or nothing of it, and this is its own answer */
        CLOUDWATCH_AMBIGUOUS, /* something between it and us has answered, and may have passed the request on */
};

/* What an answer says of its request. Save for CLOUDWATCH_TAKEN, ret_error is as aws_error_read() has it: class RETRY,
 * or, not taken only, REFUSED: sending the same again cannot help.
 *
 * Ambiguous are 502 and 504, whatever is in them; a 2xx that is not CloudWatch's (CBOR without `smithy-protocol:
 * rpc-v2-cbor`, a body that is neither empty nor a map, in JSON an object); and every other 5xx that names no AWS
 * error: CloudWatch names its own, and a proxy also says 500 or 503 when its connection broke after it had sent the
 * request on. Of a 5xx with a name, and of all below 500, nothing was taken. Hostile answers are fine. */
enum cloudwatch_verdict cloudwatch_answer_read(const struct http_response *response, bool json, int64_t realtime_ms,
                                               struct aws_error *ret_error);

#endif
