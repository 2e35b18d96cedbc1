/* The server of `sendring sink`: N threads, each an epoll loop over its share of the connections, HTTP/1.1 with or
 * without TLS. Thread 0 also accepts and deals the connections out in turn. A request is read whole (at most
 * SINK_BODY_BYTES_MAX), checked, counted and answered by the one thread that owns its connection. */
#ifndef SENDRING_TOOLS_SINK_SERVER_H
#define SENDRING_TOOLS_SINK_SERVER_H

#include "base/err.h"
#include "tools/sink_fault.h"
#include "tools/sink_state.h"

#include <stdbool.h>
#include <stdint.h>

#define SINK_THREADS_MAX     64u
#define SINK_CONNECTIONS_MAX 1024u
#define SINK_STREAMS_MAX     64u
/* Above AWS's 4 MiB a call is refused by name; above this it is not even read (413). */
#define SINK_BODY_BYTES_MAX (6u * 1024u * 1024u)

struct sink_options {
        const char *host; /* numeric address */
        uint16_t port;    /* 0: any free one */
        unsigned threads;
        const char *tls_cert, *tls_key; /* PEM files; NULL: plain HTTP */
        const char *access_key, *secret_key;
        bool auth;
        const char *streams[SINK_STREAMS_MAX]; /* those that exist; none given: every valid name does */
        size_t streams_count;
        const char *store; /* directory for <stream>.ndjson; NULL: lines are not kept */
        bool check_json;   /* read every line as JSON; a bad one is counted */
        uint64_t seed;     /* of the faults; 0: from the kernel */
};

struct sink_server;

/* Binds and starts the threads. The options' strings, `state` and `faults` must outlive the server. */
enum err_code sink_server_start(struct sink_server **ret_server, const struct sink_options *options,
                                struct sink_state *state, struct sink_faults *faults, struct err *reterr);
uint16_t sink_server_port(const struct sink_server *server);
/* Makes the threads look at faults->down now. */
void sink_server_wake(struct sink_server *server);
/* Stops accepting, lets answers that are under way go out for at most `grace_ms`, ends the threads. */
void sink_server_stop(struct sink_server *server, unsigned grace_ms);

#endif
