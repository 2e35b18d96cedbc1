/* One connection slot of a client: the machine of http_connection.c, and the client that owns the slots
 * (http_client.c). Not for other rooms. */
#ifndef SENDRING_EGRESS_HTTP_CONNECTION_H
#define SENDRING_EGRESS_HTTP_CONNECTION_H

#include "egress/http_internal.h"

/* Plaintext is decrypted into this before it is parsed; in plain it is the receive buffer. */
#define HTTP_PLAIN_BYTES ((size_t)16 * 1024)

/* Request ids of AWS are different ones; those of stand-ins may be "1" each time. Longer ones are not compared. */
#define HTTP_REQUEST_ID_BYTES_MIN ((size_t)16)
#define HTTP_REQUEST_ID_BYTES_MAX ((size_t)64)

enum http_connection_state {
        HTTP_CLOSED,
        HTTP_RESOLVING,   /* waits for the resolver thread */
        HTTP_CONNECTING,  /* `out` connects */
        HTTP_HANDSHAKING, /* TLS */
        HTTP_IDLE,        /* no exchange */
        HTTP_SENDING,
        HTTP_RECEIVING, /* all is sent, or no more can be */
        HTTP_CLOSING,   /* no more I/O is begun; waits for the operations' ends */
};

enum http_event {
        HTTP_EVENT_RESOLVED,
        HTTP_EVENT_OUT, /* `out` is done */
        HTTP_EVENT_IN,  /* `in` is done */
        HTTP_EVENT_DEADLINE,
        HTTP_EVENT_STOP,
};

struct http_request_id {
        size_t len; /* 0: not known */
        char text[HTTP_REQUEST_ID_BYTES_MAX];
};

struct http_connection {
        struct http_client *client;
        enum http_connection_state state;
        int fd; /* -1 when none */
        struct io_op out, in, drained;
        uint64_t deadline_ns;
        uint64_t used_ns; /* when it went idle */

        /* This connection. */
        uint64_t connect_deadline_ns; /* for all addresses and TLS together */
        uint32_t address_index, addresses_tried;
        bool address_late;                  /* this address's share of the time is over */
        bool established;                   /* TCP, and TLS if wanted, have been set up */
        uint64_t answers;                   /* whole ones on this connection */
        struct http_request_id answered_id; /* of the newest of them */
        size_t out_bytes;                   /* of the send under way */
        size_t out_buffer;                  /* TLS: index of the buffer the kernel sends from */

        /* This exchange. */
        struct http_exchange *exchange;
        struct slice head_left, body_left; /* not yet encrypted, or in plain not yet sent */
        bool retried;                      /* this is the silent second try */
        bool answer_begun;                 /* a byte of an answer came */
        bool answer_whole;
        bool dirty;       /* the connection cannot carry another exchange */
        bool send_failed; /* nothing more can be sent */

        /* What to say at the end of CLOSING. */
        enum err_code outcome; /* ERR_OK: the answer, or nothing when there is no exchange */
        bool retry;
        struct err why;

        struct http_parser *parser;
        struct http_tls_session tls;
        uint8_t *plain; /* TLS: decrypted bytes; plain: the receive buffer */
};

struct http_client {
        struct http_client_options options;
        struct http_addresses addresses;
        uint32_t address_good;                      /* index of the address that worked last */
        struct http_resolver_entry *resolver_entry; /* NULL for a literal address */
        struct http_resolve_waiter waiter;
        bool resolving; /* the waiter is waiting or posted */
        bool stopping;
        struct io_op timer;
        uint64_t timer_ns; /* what the timer is set to; 0 when it is being cancelled */
        uint32_t busy;
        uint32_t open;
        struct http_request_id newest_id; /* of all connections' answers */
        bool ids_repeat;                  /* other connections begin with the same one: it tells nothing here */
        SSL_SESSION *resume;
        struct http_client_stats stats;
        struct http_connection connections[];
};

/* True when it may still do something by itself: it has a deadline, and events reach it. */
static inline bool http_connection_is_waiting(const struct http_connection *connection)
{
        return connection->state != HTTP_CLOSED && connection->state != HTTP_CLOSING;
}

/* Allocates the buffers; false when memory is out (release what there is). The slot is zero before. */
bool http_connection_init(struct http_connection *connection, struct http_client *client);
void http_connection_release(struct http_connection *connection);
/* A closed slot begins a new connection for the exchange. */
void http_connection_start(struct http_connection *connection, struct http_exchange *exchange);
/* An idle slot begins the exchange. */
void http_connection_reuse(struct http_connection *connection, struct http_exchange *exchange);
/* Everything that happens to a slot comes through here. `result` is that of the operation; for RESOLVED it is 0, or -1
 * with connection->why filled. */
void http_connection_event(struct http_connection *connection, enum http_event event, int32_t result);

/* http_client.c: the client's timer fires at this time or earlier. */
void http_client_timer_set(struct http_client *client, uint64_t deadline_ns);

#endif
