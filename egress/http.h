/* HTTP/1.1 over TLS or plain TCP, for talking to AWS: keep-alive connections of one worker to one endpoint.
 *
 * One exchange at a time per connection (no pipelining). TLS by OpenSSL with a BIO over fixed buffers of ours,
 * certificate and host name verified, TLS 1.2 at least. Nothing allocates per exchange. All calls on the worker's
 * thread.
 */
#ifndef SENDRING_EGRESS_HTTP_H
#define SENDRING_EGRESS_HTTP_H

#include "base/err.h"
#include "base/slice.h"
#include "io/io.h"

#include <stdbool.h>
#include <stdint.h>

/* ---------------------------------------------------------------------------------------------- response parser (no
 * I/O) */

/* Incremental HTTP/1.1 response parser: status line, headers, Content-Length, chunked, until-close bodies, 1xx skipped.
 * Hostile input: every size bounded (LIMIT_HTTP_*). The body is gathered in the caller's buffer. */
struct http_response {
        uint16_t status;
        bool keep_alive;
        struct slice request_id;     /* x-amzn-RequestId or x-amz-request-id */
        struct slice error_type;     /* x-amzn-ErrorType, cut at ':' */
        struct slice date;           /* Date */
        struct slice retry_after_ms; /* x-amz-retry-after */
        struct slice retry_after_s;  /* Retry-After, when a number */
        struct slice content_type;
        struct slice body;
};

struct http_parser; /* caller keeps it opaque; sized at create */
enum err_code http_parser_create(size_t head_bytes_max, size_t body_bytes_max, struct http_parser **ret_parser);
void http_parser_free(struct http_parser *parser);
void http_parser_reset(struct http_parser *parser);
/* Feeds bytes. ERR_INCOMPLETE: more are needed. ERR_OK: the response is whole; *ret_used tells how many bytes were its.
 * ERR_PROTOCOL, ERR_TOO_BIG otherwise. */
enum err_code http_parser_feed(struct http_parser *parser, struct slice bytes, size_t *ret_used);
/* The peer closed: ERR_OK when that ends the response rightly (until-close body), else ERR_RESET. */
enum err_code http_parser_end(struct http_parser *parser);
/* Valid after ERR_OK until reset. */
const struct http_response *http_parser_response(const struct http_parser *parser);

/* ---------------------------------------------------------------------------------------------- URLs */

struct http_url {
        char host[256]; /* without brackets */
        char port[8];
        char path[256]; /* "/" at least */
        bool tls;
        bool ip_literal;
};
/* "https://host[:port][/path]"; http:// only as the operator wrote it. ERR_CONFIG with a sentence. */
enum err_code http_url_parse(struct slice text, struct http_url *ret_url, struct err *reterr);

/* ---------------------------------------------------------------------------------------------- client */

struct http_tls; /* one OpenSSL context: CA bundle loaded once, shared by the clients of all workers */
enum err_code http_tls_create(const char *ca_bundle /* NULL: the system's */, struct http_tls **ret_tls,
                              struct err *reterr);
void http_tls_free(struct http_tls *tls);

struct http_client; /* the connections of one worker to one endpoint */

struct http_client_options {
        struct io_loop *loop;
        struct http_url url;
        struct http_tls *tls; /* NULL for plain */
        uint32_t connections_max;
        uint32_t connect_timeout_ms; /* resolve + TCP + TLS */
        uint32_t request_timeout_ms; /* from the first byte sent to the last received */
        uint32_t idle_timeout_ms;
        size_t response_body_bytes_max;
};

enum err_code http_client_create(const struct http_client_options *options, struct http_client **ret_client,
                                 struct err *reterr);
/* Closes idle connections, cancels the rest: their exchanges end with ERR_RESET from later turns; true when nothing is
 * left (then free). */
bool http_client_stop(struct http_client *client);
void http_client_free(struct http_client *client);

/* One request and its answer, embedded in the caller. `head` and `body` must stay untouched until `done`. */
struct http_exchange {
        struct slice head; /* "POST / HTTP/1.1\r\n...\r\n\r\n", complete, with Content-Length */
        struct slice body;
        /* On the loop's thread, exactly once. code ERR_OK: `response` (valid during the call) holds any status. Else
         * ERR_TIMEOUT, ERR_CONNECT, ERR_RESET, ERR_RESOLVE, ERR_TLS, ERR_PROTOCOL with a sentence in `why`;
         * `maybe_sent`: the peer may have seen the whole request. */
        void (*done)(struct http_exchange *exchange, enum err_code code, const struct http_response *response,
                     bool maybe_sent, const struct err *why);
        void *context;
        struct http_connection *connection; /* private */
};

/* Starts it on an idle connection or a new one. ERR_BUSY: connections_max are in use. A keep-alive connection that
 * turns out to be dead before any byte of the answer came, is replaced once by itself. */
enum err_code http_client_send(struct http_client *client, struct http_exchange *exchange);
uint32_t http_client_busy(const struct http_client *client);

struct http_client_stats {
        uint64_t connects, connect_failures, tls_resumptions, exchanges, bytes_sent, bytes_received, connections_now;
};
void http_client_get_stats(const struct http_client *client, struct http_client_stats *ret_stats);

#endif
