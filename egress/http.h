/* HTTP/1.1 over TLS or plain TCP, for talking to AWS: keep-alive connections of one worker to one endpoint.
 *
 * One exchange at a time per connection (no pipelining). TLS by OpenSSL with a BIO over fixed buffers of ours,
 * certificate and host name verified, TLS 1.2 at least. Nothing of ours allocates per exchange; OpenSSL 3.0 itself
 * takes three blocks of 40 bytes per TLS record and gives them back within the call. All calls on the worker's thread.
 *
 * An answer is that of the request before it, by nothing but their order. So what comes unasked ends the connection, an
 * answer of success to half a request is an error (ERR_PROTOCOL), and so is one with the request id of the answer
 * before.
 */
#ifndef SENDRING_EGRESS_HTTP_H
#define SENDRING_EGRESS_HTTP_H

#include "base/err.h"
#include "base/slice.h"
#include "io/io.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- response parser (no I/O) */

/* What is absent is empty. The slices point into the parser. Of a field given several times the first counts. */
struct http_response {
        uint16_t status;
        bool keep_alive;
        struct slice request_id;     /* x-amzn-RequestId or x-amz-request-id */
        struct slice error_type;     /* x-amzn-ErrorType, cut at ':' */
        struct slice date;           /* Date */
        struct slice retry_after_ms; /* x-amz-retry-after */
        struct slice retry_after;    /* Retry-After: seconds, or a date */
        struct slice content_type;
        struct slice smithy_protocol; /* smithy-protocol */
        struct slice body;
};

/* Incremental HTTP/1.1 response parser: status line, headers, Content-Length, chunked with trailers, until-close
 * bodies; 1xx answers are skipped. The input is hostile and every size is bounded. However the bytes are cut into
 * pieces, the result is the same. Strict where leniency helps only an attacker: lines end in CR LF, no folded fields,
 * no two ideas of a body's length, no transfer coding but chunked. Answers to HEAD are not understood. */
struct http_parser;
/* `head_bytes_max` (64 at least) bounds status line, fields, chunk extensions and trailers together, `body_bytes_max`
 * the body; both buffers are allocated here and nothing later. ERR_MEMORY. */
enum err_code http_parser_create(size_t head_bytes_max, size_t body_bytes_max, struct http_parser **ret_parser);
void http_parser_free(struct http_parser *parser); /* NULL is fine */
void http_parser_reset(struct http_parser *parser);
/* What http_parser_create() takes from the heap. */
size_t http_parser_memory_bytes(size_t head_bytes_max, size_t body_bytes_max);
/* Feeds bytes. ERR_INCOMPLETE: more are needed, all were used. ERR_OK: the response is whole; *ret_used tells how many
 * bytes were its. ERR_PROTOCOL, ERR_TOO_BIG otherwise, and again for whatever is fed until reset. */
enum err_code http_parser_feed(struct http_parser *parser, struct slice bytes, size_t *ret_used);
/* The peer closed: ERR_OK when that ends the response rightly (until-close body), else ERR_RESET, or the error that
 * feed had returned. */
enum err_code http_parser_end(struct http_parser *parser);
/* Valid after ERR_OK until reset. */
const struct http_response *http_parser_response(const struct http_parser *parser);

/* ---- URLs */

struct http_url {
        char host[256]; /* lower case; without brackets */
        char port[8];   /* decimal, no leading zeros; the scheme's own when none was given */
        char path[256]; /* the request target: "/" at least, with the query if there was one */
        bool tls;
        bool ip_literal;
        bool port_given; /* and not the scheme's own: the Host field must name it */
};
/* "https://host[:port][/path][?query]"; http:// only as the operator wrote it. ERR_CONFIG with a sentence. */
enum err_code http_url_parse(struct slice text, struct http_url *ret_url, struct err *reterr);
/* The value of the Host field: host, in brackets when it is an IPv6 literal, and :port unless it is the scheme's own.
 * 264 bytes are always enough; ASSERTs when `out` is too small. */
void http_url_authority(const struct http_url *url, char *out, size_t out_bytes);

/* ---- client */

/* One OpenSSL context: CA bundle loaded once, shared by the clients of all workers. TLS 1.2 at least; certificate chain
 * and host name (or IP address) are always verified, by subjectAltName only. Any thread. */
struct http_tls;
/* ERR_CONFIG when the bundle cannot be used. `ca_bundle` NULL: the system's certificates. */
enum err_code http_tls_create(const char *ca_bundle, struct http_tls **ret_tls, struct err *reterr);
void http_tls_free(struct http_tls *tls); /* after its clients; NULL is fine */

struct http_client; /* the connections of one worker to one endpoint */

struct http_client_options {
        struct io_loop *loop;
        struct http_url url;
        struct http_tls *tls;        /* NULL for plain; must agree with url.tls */
        uint32_t connections_max;    /* 1..HTTP_CONNECTIONS_MAX */
        uint32_t connect_timeout_ms; /* resolve + TCP (all addresses) + TLS */
        uint32_t request_timeout_ms; /* from the first byte sent to the last received */
        uint32_t idle_timeout_ms;    /* an idle connection is closed after this */
        size_t response_body_bytes_max;
};
#define HTTP_CONNECTIONS_MAX 64u

/* Takes all memory its connections will need, save what OpenSSL takes when one connects. Numeric hosts need no look-up;
 * the first client with a name starts a thread that resolves it. ERR_CONFIG, ERR_MEMORY, ERR_SYSTEM. */
enum err_code http_client_create(const struct http_client_options *options, struct http_client **ret_client,
                                 struct err *reterr);
/* What http_client_create() takes from the heap, for the memory budget. */
size_t http_client_memory_bytes(const struct http_client_options *options);
/* Closes idle connections, cancels the rest: their exchanges end with ERR_RESET from later turns; true when nothing is
 * left (then free). May be called again and again; nothing can be sent after the first call. */
bool http_client_stop(struct http_client *client);
/* After http_client_stop() returned true (asserted); not from within `done`. NULL is fine. */
void http_client_free(struct http_client *client);

/* One request and its answer, embedded in the caller. `head` and `body` must stay untouched until `done`. */
struct http_exchange {
        struct slice head; /* "POST / HTTP/1.1\r\n...\r\n\r\n", complete, with Content-Length */
        struct slice body;
        /* On the loop's thread, exactly once, from io_loop_turn(), never from within http_client_send(). code ERR_OK:
         * `response` (valid during the call) holds any final status, even one that came before all was sent. Else
         * `response` is NULL, the code ERR_TIMEOUT, ERR_CONNECT, ERR_RESET, ERR_RESOLVE, ERR_TLS, ERR_PROTOCOL,
         * ERR_TOO_BIG (the answer) or ERR_LIMIT, ERR_SYSTEM, with a sentence in `why`. `maybe_sent`: the last byte of
         * the request was handed to the kernel, so the peer may have seen it whole. The exchange may be sent again and
         * others started from within. */
        void (*done)(struct http_exchange *exchange, enum err_code code, const struct http_response *response,
                     bool maybe_sent, const struct err *why);
        void *context;
        bool once; /* not replaced by itself once the last byte was handed to the kernel: nothing may be done twice */
        struct http_connection *connection; /* private; zero before the first use */
};

/* Starts it on an idle connection or a new one. ERR_BUSY: connections_max are in use, or the client is stopping. A
 * keep-alive connection that turns out to be dead before any byte of the answer came is replaced once by itself (so
 * the peer may, rarely, see a request twice; not one that says `once`). */
enum err_code http_client_send(struct http_client *client, struct http_exchange *exchange);
/* Exchanges under way. */
uint32_t http_client_busy(const struct http_client *client);

struct http_client_stats {
        uint64_t connects, connect_failures, tls_resumptions, exchanges, bytes_sent, bytes_received, connections_now;
};
/* exchanges: ended with an answer. Bytes are those on the wire, TLS included. */
void http_client_get_stats(const struct http_client *client, struct http_client_stats *ret_stats);

#endif
