/* The server of `sendring sink` in two parts: sink_server.c moves bytes between connections and buffers, sink_call.c
 * decides what a request that has been read is answered. */
#ifndef SENDRING_TOOLS_SINK_SERVER_INTERNAL_H
#define SENDRING_TOOLS_SINK_SERVER_INTERNAL_H

#include "base/limits.h"
#include "base/random.h"
#include "egress/sigv4.h"
#include "tools/sink_cloudwatch.h"
#include "tools/sink_firehose.h"
#include "tools/sink_http.h"
#include "tools/sink_server.h"

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <pthread.h>

/* Head, and room to read chunked bodies through. */
#define SINK_IN_BYTES (LIMIT_HTTP_HEAD_BYTES_MAX + 16u * 1024u)
/* The answer's head is written backwards from here, its body forwards. */
#define SINK_OUT_HEAD_BYTES 1024u
#define SINK_OUT_BYTES      (SINK_OUT_HEAD_BYTES + SINK_ANSWER_BYTES_MAX)

enum sink_conn_state {
        SINK_CONN_HANDSHAKE,
        SINK_CONN_HEAD,
        SINK_CONN_BODY,
        SINK_CONN_DELAY, /* the answer is ready and waits for due_ns */
        SINK_CONN_WRITE,
        SINK_CONN_STALL, /* never answered */
        SINK_CONN_DRAIN, /* answered and shut down for writing: reads what the peer still sends until due_ns */
};

struct sink_conn {
        struct sink_conn *next, *previous; /* of the owning thread; next also in its inbox */
        int fd;
        SSL *ssl; /* NULL: plain */
        enum sink_conn_state state;
        uint32_t interest; /* what epoll was told */
        bool tls_wants_write;
        bool close_after;
        bool slow;        /* a byte of the answer at a time */
        size_t repeat_at; /* an answer without end: goes on from here when all is written; 0: ends */
        uint64_t due_ns;

        uint8_t *in; /* SINK_IN_BYTES; the head stays in place until the request is answered */
        size_t in_bytes;
        struct sink_http_request request;
        struct sink_http_chunks chunks;

        uint8_t *body;
        size_t body_room, body_bytes;
        EVP_MD_CTX *sha;

        uint8_t *out; /* SINK_OUT_BYTES */
        size_t out_at, out_end;
};

struct sink_thread {
        struct sink_server *server;
        pthread_t id;
        unsigned index;
        int epoll_fd, wake_fd;
        struct sink_conn *conns;
        pthread_mutex_t inbox_mutex;
        struct sink_conn *inbox; /* accepted, not yet in the loop */
        struct sink_state_thread counts;
        struct random_state random;
        struct sink_firehose *firehose;
        struct sink_cloudwatch *cloudwatch;
        struct sigv4_signer *signer;
        unsigned timed; /* connections in SINK_CONN_DELAY and SINK_CONN_DRAIN */
        int64_t date_s;
        char date[48];
};

struct sink_store {
        char name[65];
        int fd;
};

struct sink_server {
        struct sink_options options;
        struct sink_state *state;
        struct sink_metrics *metrics;
        struct sink_faults *faults;
        SSL_CTX *tls;
        EVP_MD *sha256;
        int listen_fd;
        bool listening; /* thread 0 */
        uint16_t port;
        unsigned next_thread;         /* thread 0 */
        _Atomic uint32_t connections; /* open ones */
        _Atomic uint64_t stop_ns;     /* 0, or when the threads must end at the latest */
        unsigned started;
        struct sink_thread threads[SINK_THREADS_MAX];
        pthread_mutex_t store_mutex; /* over both below */
        struct sink_store stores[SINK_STREAMS_MAX];
        size_t stores_count;
};

/* ---- sink_call.c */

/* Answers a request that has been read whole, or leaves it unanswered. False: the connection is to be reset. */
bool sink_request(struct sink_thread *thread, struct sink_conn *conn);
/* A refusal of the HTTP itself: no body, and the connection ends, since where the next request begins is unknown. */
void sink_refuse_http(struct sink_thread *thread, struct sink_conn *conn, int status);

#endif
