/* What an AWS JSON service means by an answer that is not 2xx. Pure, allocation-free; hostile bodies are fine.
 *
 * The name decides before the status (Firehose API reference, PutRecordBatch and "Common Errors"). It comes from
 * x-amzn-ErrorType, else from the body's
 * "__type" or "code". An HTML page of a front end, an empty body and an unknown name are judged by status alone. */
#ifndef SENDRING_EGRESS_AWS_ERROR_H
#define SENDRING_EGRESS_AWS_ERROR_H

#include "base/err.h"
#include "base/slice.h"
#include "egress/http.h"

#include <stdbool.h>
#include <stdint.h>

/* When the service wants to be asked again: `after_ms` from now (0: it has no wish), but no more than `more_ms_max`
 * later than we would have asked. x-amz-retry-after is bounded like that in the SDKs (reference guide, "Retry
 * behavior"), or a proxy's wrong number would stop a stream; Retry-After is RFC 9110's. */
#define AWS_WISH_MS_MAX      60000u
#define AWS_WISH_MORE_MS_MAX 5000u
struct aws_wish {
        uint32_t after_ms, more_ms_max;
};

struct aws_error {
        char name[128];    /* "ServiceUnavailableException"; "" when the answer names none */
        char message[256]; /* the service's text, or "HTTP 503 without an AWS error name"; no control bytes */
        /* Class RETRY:   ERR_THROTTLED, ERR_UNAVAILABLE, ERR_CLOCK_SKEW (sign again by server_ms),
         *                ERR_CREDENTIALS_EXPIRED (load credentials again, sign again), ERR_CREDENTIALS_UNKNOWN (the
         *                same, but those that are the same then will not do either).
         * Class REFUSED: ERR_ACCESS_DENIED, ERR_NOT_FOUND, ERR_REFUSED: sending the same again cannot help. */
        enum err_code code;
        int64_t server_ms; /* for ERR_CLOCK_SKEW: the service's clock, from Date; 0 when it has none that is to be
                            * believed */
        struct aws_wish wish;
};

/* `realtime_ms` is the clock that the request was signed by, when the answer came. */
void aws_error_read(const struct http_response *response, int64_t realtime_ms, struct aws_error *ret_error);

/* The wish alone, also of a 200 that has refused entries. */
struct aws_wish aws_error_wish(const struct http_response *response, int64_t realtime_ms);

/* The same of an answer whose body is no JSON: `name` ("ns#Name" is cut, too) and `message` are what its reader found
 * there. */
void aws_error_read_named(const struct http_response *response, struct slice name, struct slice message,
                          int64_t realtime_ms, struct aws_error *ret_error);

/* The code that a name stands for: also for names inside 200 answers. ERR_OK: unknown name. `message` decides where one
 * name has two meanings (a wrong signature or a wrong clock). */
enum err_code aws_error_classify(struct slice name, struct slice message);

/* Copies the raw (still escaped) JSON string for a person: escapes decoded, control bytes as spaces, cut at a whole
 * character, NUL-terminated. */
void aws_error_text(struct slice raw, char *out, size_t out_bytes);

/* Reads an HTTP date, "Tue, 18 Aug 2026 11:22:18 GMT". */
bool aws_error_date_parse(struct slice text, int64_t *ret_realtime_ms);

#endif
