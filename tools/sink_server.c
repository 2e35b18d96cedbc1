#include "base/assert.h"
#include "base/clock.h"
#include "base/file.h"
#include "tools/sink_server_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* One read: small enough that its hash finds it in the cache. */
#define SINK_READ_BYTES (128u * 1024u)
/* A stretch of TLS records per read(2), instead of two reads for each record. */
#define SINK_TLS_READ_BYTES (96u * 1024u)
#define SINK_DRAIN_NS       (2 * CLOCK_NS_PER_S)
/* Between two bytes of an answer that stalls. */
#define SINK_SLOW_NS (2 * CLOCK_NS_PER_S)

/* epoll's data for what is not a connection */
static char sink_mark_wake, sink_mark_listen;

/* ---------------------------------------------------------------------------------------------- connections */

static void sink_conn_free(struct sink_conn *conn)
{
        SSL_free(conn->ssl);
        EVP_MD_CTX_free(conn->sha);
        free(conn->in);
        free(conn->body);
        free(conn->out);
        if (conn->fd >= 0)
                (void)close(conn->fd);
        free(conn);
}

static struct sink_conn *sink_conn_create(struct sink_server *server, int fd)
{
        struct sink_conn *conn = calloc(1, sizeof(*conn));
        if (conn == NULL)
                return NULL;
        conn->fd = -1; /* the caller's until we succeed */
        conn->in = malloc(SINK_IN_BYTES);
        conn->out = malloc(SINK_OUT_BYTES);
        conn->sha = EVP_MD_CTX_new();
        conn->state = SINK_CONN_HEAD;
        bool ok = conn->in != NULL && conn->out != NULL && conn->sha != NULL;
        if (ok && server->tls != NULL) {
                conn->ssl = SSL_new(server->tls);
                ok = conn->ssl != NULL && SSL_set_fd(conn->ssl, fd) == 1;
                if (ok)
                        SSL_set_accept_state(conn->ssl);
                conn->state = SINK_CONN_HANDSHAKE;
        }
        if (!ok) {
                sink_conn_free(conn);
                return NULL;
        }
        conn->fd = fd;
        return conn;
}

static void sink_conn_close(struct sink_thread *thread, struct sink_conn *conn)
{
        if (conn->state == SINK_CONN_DELAY || conn->state == SINK_CONN_DRAIN)
                thread->timed--;
        if (conn->previous != NULL)
                conn->previous->next = conn->next;
        else
                thread->conns = conn->next;
        if (conn->next != NULL)
                conn->next->previous = conn->previous;
        (void)atomic_fetch_sub_explicit(&thread->server->connections, 1, memory_order_relaxed);
        sink_conn_free(conn);
}

/* Closing with a reset: the peer sees ECONNRESET, not an orderly end. */
static void sink_conn_reset(struct sink_conn *conn)
{
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)); /* else it is a plain close */
}

static void sink_conn_interest(struct sink_thread *thread, struct sink_conn *conn)
{
        uint32_t interest = 0;
        switch (conn->state) {
        case SINK_CONN_HANDSHAKE:
        case SINK_CONN_HEAD:
        case SINK_CONN_BODY:
                interest = EPOLLIN | (conn->tls_wants_write ? (uint32_t)EPOLLOUT : 0);
                break;
        case SINK_CONN_WRITE:
                interest = conn->ssl == NULL || conn->tls_wants_write ? EPOLLOUT : EPOLLIN;
                break;
        case SINK_CONN_DRAIN:
                interest = EPOLLIN;
                break;
        case SINK_CONN_DELAY:
        case SINK_CONN_STALL:
                interest = EPOLLRDHUP;
                break;
        }
        if (interest == conn->interest)
                return;
        struct epoll_event event = {.events = interest, .data.ptr = conn};
        int result = epoll_ctl(thread->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
        ASSERT(result == 0); /* the descriptor is in the set for as long as the connection lives */
        conn->interest = interest;
}

enum sink_io { SINK_IO_DONE, SINK_IO_WAIT, SINK_IO_CLOSED };

static enum sink_io sink_tls_result(struct sink_conn *conn, int result)
{
        switch (SSL_get_error(conn->ssl, result)) {
        case SSL_ERROR_WANT_READ:
                conn->tls_wants_write = false;
                return SINK_IO_WAIT;
        case SSL_ERROR_WANT_WRITE:
                conn->tls_wants_write = true;
                return SINK_IO_WAIT;
        default:
                return SINK_IO_CLOSED;
        }
}

static enum sink_io sink_conn_read(struct sink_conn *conn, uint8_t *out, size_t out_bytes, size_t *ret_bytes)
{
        if (conn->ssl != NULL) {
                ERR_clear_error();
                int result = SSL_read_ex(conn->ssl, out, out_bytes, ret_bytes);
                return result == 1 ? SINK_IO_DONE : sink_tls_result(conn, result);
        }
        ssize_t got = recv(conn->fd, out, out_bytes, 0);
        if (got > 0) {
                *ret_bytes = (size_t)got;
                return SINK_IO_DONE;
        }
        return got < 0 && (errno == EAGAIN || errno == EINTR) ? SINK_IO_WAIT : SINK_IO_CLOSED;
}

static enum sink_io sink_conn_write(struct sink_conn *conn, const uint8_t *bytes, size_t len, size_t *ret_bytes)
{
        if (conn->ssl != NULL) {
                ERR_clear_error();
                int result = SSL_write_ex(conn->ssl, bytes, len, ret_bytes);
                return result == 1 ? SINK_IO_DONE : sink_tls_result(conn, result);
        }
        ssize_t put = send(conn->fd, bytes, len, MSG_NOSIGNAL);
        if (put >= 0) {
                *ret_bytes = (size_t)put;
                return SINK_IO_DONE;
        }
        return errno == EAGAIN || errno == EINTR ? SINK_IO_WAIT : SINK_IO_CLOSED;
}

/* ---------------------------------------------------------------------------------------------- the state machine */

static bool sink_body_reserve(struct sink_conn *conn, size_t bytes)
{
        if (bytes <= conn->body_room)
                return true;
        uint8_t *grown = realloc(conn->body, bytes);
        if (grown == NULL)
                return false;
        conn->body = grown;
        conn->body_room = bytes;
        return true;
}

static void sink_body_took(struct sink_thread *thread, struct sink_conn *conn, size_t bytes)
{
        if (thread->server->options.auth && bytes > 0) {
                int hashed = EVP_DigestUpdate(conn->sha, conn->body + conn->body_bytes, bytes);
                ASSERT(hashed == 1); /* nothing in it can fail after a successful init */
        }
        conn->body_bytes += bytes;
}

/* The head is complete: decides how the body is read. */
static void sink_conn_begin_body(struct sink_thread *thread, struct sink_conn *conn)
{
        struct sink_http_request *request = &conn->request;
        conn->state = SINK_CONN_BODY;
        conn->body_bytes = 0;
        conn->chunks = (struct sink_http_chunks){0};
        if (request->expects_continue) {
                sink_refuse_http(thread, conn, 417);
                return;
        }
        if (request->content_length > SINK_BODY_BYTES_MAX) {
                sink_refuse_http(thread, conn, 413);
                return;
        }
        if (!request->has_length && !request->chunked && slice_equal(request->method, SLICE("POST"))) {
                sink_refuse_http(thread, conn, 411);
                return;
        }
        size_t room = request->chunked ? SINK_BODY_BYTES_MAX : (size_t)request->content_length;
        if (!sink_body_reserve(conn, room == 0 ? 1 : room) ||
            EVP_DigestInit_ex(conn->sha, thread->server->sha256, NULL) != 1)
                sink_refuse_http(thread, conn, 503);
}

/* Takes body bytes that lie behind the head in `in`, and leaves there what belongs to the next request. True when the
 * body is complete. */
static bool sink_conn_take_body(struct sink_thread *thread, struct sink_conn *conn)
{
        uint8_t *behind = conn->in + conn->request.head_bytes;
        struct slice input = slice_of(behind, conn->in_bytes - conn->request.head_bytes);
        bool complete;
        if (conn->request.chunked) {
                size_t took = 0;
                enum err_code code = sink_http_chunks_take(&conn->chunks, &input, conn->body + conn->body_bytes,
                                                           SINK_BODY_BYTES_MAX - conn->body_bytes, &took);
                sink_body_took(thread, conn, took);
                if (code != ERR_OK && code != ERR_INCOMPLETE) {
                        sink_refuse_http(thread, conn, code == ERR_TOO_BIG ? 413 : 400);
                        return false;
                }
                complete = code == ERR_OK;
        } else {
                size_t left = (size_t)conn->request.content_length - conn->body_bytes;
                size_t take = left < input.len ? left : input.len;
                if (take > 0)
                        memcpy(conn->body + conn->body_bytes, input.ptr, take);
                sink_body_took(thread, conn, take);
                input = slice_of(input.ptr + take, input.len - take);
                complete = take == left;
        }
        if (input.len > 0)
                memmove(behind, input.ptr, input.len);
        conn->in_bytes = conn->request.head_bytes + input.len;
        return complete;
}

/* A plain close() while the peer still sends would reset the connection, and the peer might lose our answer. */
static void sink_conn_begin_drain(struct sink_thread *thread, struct sink_conn *conn)
{
        if (conn->ssl != NULL)
                (void)SSL_shutdown(conn->ssl); /* one-way is enough */
        (void)shutdown(conn->fd, SHUT_WR);     /* fails when the peer has gone: the next read says so */
        conn->state = SINK_CONN_DRAIN;
        conn->due_ns = clock_monotonic_ns() + SINK_DRAIN_NS;
        thread->timed++;
}

static void sink_conn_next_request(struct sink_conn *conn)
{
        size_t left = conn->in_bytes - conn->request.head_bytes;
        memmove(conn->in, conn->in + conn->request.head_bytes, left);
        conn->in_bytes = left;
        conn->state = SINK_CONN_HEAD;
}

/* Goes on with a connection until it must wait. False: it has been closed. */
static bool sink_conn_run(struct sink_thread *thread, struct sink_conn *conn)
{
        enum sink_io io = SINK_IO_DONE;
        while (io == SINK_IO_DONE) {
                size_t moved = 0;
                switch (conn->state) {
                case SINK_CONN_HANDSHAKE: {
                        ERR_clear_error();
                        int result = SSL_do_handshake(conn->ssl);
                        if (result == 1)
                                conn->state = SINK_CONN_HEAD;
                        else if ((io = sink_tls_result(conn, result)) == SINK_IO_CLOSED)
                                thread->counts.tally[SINK_COUNT_TLS_FAILED]++;
                        break;
                }
                case SINK_CONN_HEAD: {
                        enum err_code code = sink_http_parse(slice_of(conn->in, conn->in_bytes), &conn->request);
                        if (code == ERR_OK && conn->request.head_bytes <= LIMIT_HTTP_HEAD_BYTES_MAX) {
                                sink_conn_begin_body(thread, conn);
                                break;
                        }
                        if (code != ERR_INCOMPLETE || conn->in_bytes >= LIMIT_HTTP_HEAD_BYTES_MAX) {
                                conn->request = (struct sink_http_request){0};
                                sink_refuse_http(thread, conn,
                                                 code == ERR_SYNTAX ? 400 : (code == ERR_RANGE ? 501 : 431));
                                break;
                        }
                        io = sink_conn_read(conn, conn->in + conn->in_bytes, LIMIT_HTTP_HEAD_BYTES_MAX - conn->in_bytes,
                                            &moved);
                        conn->in_bytes += moved;
                        break;
                }
                case SINK_CONN_BODY:
                        if (sink_conn_take_body(thread, conn)) {
                                if (!sink_request(thread, conn)) {
                                        sink_conn_reset(conn);
                                        io = SINK_IO_CLOSED;
                                }
                                sink_state_flush(thread->server->state, &thread->counts);
                                break;
                        }
                        if (conn->state != SINK_CONN_BODY)
                                break; /* refused */
                        if (conn->request.chunked) {
                                io = sink_conn_read(conn, conn->in + conn->in_bytes, SINK_IN_BYTES - conn->in_bytes,
                                                    &moved);
                                conn->in_bytes += moved;
                        } else {
                                size_t left = (size_t)conn->request.content_length - conn->body_bytes;
                                io = sink_conn_read(conn, conn->body + conn->body_bytes,
                                                    left < SINK_READ_BYTES ? left : SINK_READ_BYTES, &moved);
                                sink_body_took(thread, conn, moved);
                        }
                        break;
                case SINK_CONN_WRITE:
                        io = sink_conn_write(conn, conn->out + conn->out_at,
                                             conn->slow ? 1 : conn->out_end - conn->out_at, &moved);
                        conn->out_at += moved;
                        if (conn->slow && moved > 0 && conn->out_at < conn->out_end) {
                                conn->state = SINK_CONN_DELAY;
                                conn->due_ns = clock_monotonic_ns() + SINK_SLOW_NS;
                                thread->timed++;
                                break;
                        }
                        if (conn->repeat_at > 0 && conn->out_at == conn->out_end) {
                                conn->out_at = conn->repeat_at;
                                io = SINK_IO_WAIT; /* the others' turn */
                        }
                        if (conn->out_at < conn->out_end)
                                break;
                        conn->slow = false;
                        if (conn->close_after) {
                                sink_conn_begin_drain(thread, conn);
                                break;
                        }
                        sink_conn_next_request(conn);
                        break;
                case SINK_CONN_DRAIN: { /* below TLS: nobody reads these bytes */
                        ssize_t got = recv(conn->fd, conn->in, SINK_IN_BYTES, 0);
                        if (got <= 0)
                                io = got < 0 && (errno == EAGAIN || errno == EINTR) ? SINK_IO_WAIT : SINK_IO_CLOSED;
                        break;
                }
                case SINK_CONN_DELAY:
                case SINK_CONN_STALL:
                        io = SINK_IO_WAIT;
                        break;
                }
        }
        if (io == SINK_IO_CLOSED) {
                sink_conn_close(thread, conn);
                return false;
        }
        sink_conn_interest(thread, conn);
        return true;
}

/* ---------------------------------------------------------------------------------------------- threads */

static void sink_accept(struct sink_thread *thread)
{
        struct sink_server *server = thread->server;
        for (;;) {
                int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd < 0)
                        return; /* none left, or one that went away; out of descriptors: the next turn tries again */
                int on = 1;
                (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* only a delay without it */
                struct sink_conn *conn = NULL;
                if (atomic_load_explicit(&server->connections, memory_order_relaxed) < SINK_CONNECTIONS_MAX)
                        conn = sink_conn_create(server, fd);
                if (conn == NULL) {
                        (void)close(fd);
                        continue;
                }
                (void)atomic_fetch_add_explicit(&server->connections, 1, memory_order_relaxed);
                thread->counts.tally[SINK_COUNT_CONNECTIONS]++;
                struct sink_thread *owner = &server->threads[server->next_thread++ % server->options.threads];
                (void)pthread_mutex_lock(&owner->inbox_mutex);
                conn->next = owner->inbox;
                owner->inbox = conn;
                (void)pthread_mutex_unlock(&owner->inbox_mutex);
                (void)eventfd_write(owner->wake_fd, 1); /* cannot overflow: it is read at every turn */
        }
}

static void sink_take_inbox(struct sink_thread *thread)
{
        (void)pthread_mutex_lock(&thread->inbox_mutex);
        struct sink_conn *conn = thread->inbox;
        thread->inbox = NULL;
        (void)pthread_mutex_unlock(&thread->inbox_mutex);
        while (conn != NULL) {
                struct sink_conn *next = conn->next;
                conn->previous = NULL;
                conn->next = thread->conns;
                if (thread->conns != NULL)
                        thread->conns->previous = conn;
                thread->conns = conn;
                conn->interest = EPOLLIN;
                struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
                if (epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) < 0)
                        sink_conn_close(thread, conn);
                conn = next;
        }
}

/* Thread 0: brings the listening socket to what faults->down and stopping ask for. shutdown() makes a listening socket
 * refuse connections while it keeps its port; listen() makes it listen again. */
static void sink_listen_switch(struct sink_thread *thread, bool want)
{
        struct sink_server *server = thread->server;
        if (want == server->listening)
                return;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &sink_mark_listen};
        if (want) {
                if (listen(server->listen_fd, SOMAXCONN) < 0 ||
                    epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, server->listen_fd, &event) < 0)
                        return; /* the next turn tries again */
        } else {
                (void)epoll_ctl(thread->epoll_fd, EPOLL_CTL_DEL, server->listen_fd, NULL);
                (void)shutdown(server->listen_fd, SHUT_RDWR);
        }
        server->listening = want;
}

/* What a switched-down endpoint looks like from outside: resets. */
static void sink_close_all(struct sink_thread *thread)
{
        while (thread->conns != NULL) {
                sink_conn_reset(thread->conns);
                sink_conn_close(thread, thread->conns);
                thread->counts.tally[SINK_COUNT_FAULT_DOWN]++;
        }
}

/* A black hole: what is open stays open, and that is all. */
static void sink_swallow_all(struct sink_thread *thread)
{
        for (struct sink_conn *conn = thread->conns; conn != NULL; conn = conn->next) {
                if (conn->state == SINK_CONN_STALL)
                        continue;
                if (conn->state == SINK_CONN_DELAY || conn->state == SINK_CONN_DRAIN)
                        thread->timed--;
                conn->state = SINK_CONN_STALL;
                sink_conn_interest(thread, conn);
                thread->counts.tally[SINK_COUNT_FAULT_BLACKHOLE]++;
        }
}

/* Stopping: connections without an answer under way, or all of them. */
static void sink_close_idle(struct sink_thread *thread, bool all)
{
        struct sink_conn *next;
        for (struct sink_conn *conn = thread->conns; conn != NULL; conn = next) {
                next = conn->next;
                if (all || (conn->state != SINK_CONN_DELAY && conn->state != SINK_CONN_WRITE))
                        sink_conn_close(thread, conn);
        }
}

/* Does what is due; returns epoll's timeout in ms until the next, -1 when there is none. */
static int sink_run_timed(struct sink_thread *thread)
{
        if (thread->timed == 0)
                return -1;
        uint64_t now_ns = clock_monotonic_ns(), next_ns = UINT64_MAX;
        struct sink_conn *next;
        for (struct sink_conn *conn = thread->conns; conn != NULL; conn = next) {
                next = conn->next;
                if (conn->state != SINK_CONN_DELAY && conn->state != SINK_CONN_DRAIN)
                        continue;
                if (conn->due_ns > now_ns) {
                        next_ns = conn->due_ns < next_ns ? conn->due_ns : next_ns;
                } else if (conn->state == SINK_CONN_DRAIN) {
                        sink_conn_close(thread, conn);
                } else {
                        thread->timed--;
                        conn->state = SINK_CONN_WRITE;
                        (void)sink_conn_run(thread, conn); /* it may end here: `next` is safe */
                }
        }
        if (next_ns == UINT64_MAX)
                return thread->timed > 0 ? 0 : -1; /* some became timed just now: look again */
        return (int)((next_ns - now_ns + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS);
}

static void *sink_thread_main(void *thread_)
{
        struct sink_thread *thread = thread_;
        struct sink_server *server = thread->server;
        struct epoll_event events[128];
        for (;;) {
                /* Acquire: pairs with the release in sink_server_stop(); nothing else hangs on it. */
                uint64_t stop_ns = atomic_load_explicit(&server->stop_ns, memory_order_acquire);
                bool down = atomic_load_explicit(&server->faults->down, memory_order_relaxed);
                if (thread->index == 0)
                        sink_listen_switch(thread, stop_ns == 0 && !down);
                sink_take_inbox(thread);
                if (down)
                        sink_close_all(thread);
                if (atomic_load_explicit(&server->faults->blackhole, memory_order_relaxed))
                        sink_swallow_all(thread);
                if (stop_ns != 0) {
                        sink_close_idle(thread, false);
                        if (thread->conns == NULL || clock_monotonic_ns() >= stop_ns)
                                break;
                }
                int timeout_ms = sink_run_timed(thread);
                if (stop_ns != 0 && (timeout_ms < 0 || timeout_ms > 10))
                        timeout_ms = 10;
                sink_state_flush(server->state, &thread->counts);
                int count = epoll_wait(thread->epoll_fd, events, (int)(sizeof(events) / sizeof(events[0])), timeout_ms);
                for (int i = 0; i < count; i++) {
                        void *what = events[i].data.ptr;
                        eventfd_t wakes;
                        if (what == &sink_mark_wake) {
                                (void)eventfd_read(thread->wake_fd, &wakes); /* only to make it quiet again */
                        } else if (what == &sink_mark_listen) {
                                sink_accept(thread);
                        } else {
                                struct sink_conn *conn = what;
                                bool gone = (events[i].events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0 &&
                                            (conn->state == SINK_CONN_DELAY || conn->state == SINK_CONN_STALL);
                                if (gone)
                                        sink_conn_close(thread, conn);
                                else
                                        (void)sink_conn_run(thread, conn); /* its end is its own affair */
                        }
                }
        }
        sink_close_idle(thread, true);
        sink_state_flush(server->state, &thread->counts);
        return NULL;
}

/* ---------------------------------------------------------------------------------------------- start and stop */

static enum err_code sink_server_tls(struct sink_server *server, struct err *reterr)
{
        const struct sink_options *options = &server->options;
        if (options->tls_cert == NULL)
                return ERR_OK;
        server->tls = SSL_CTX_new(TLS_server_method());
        if (server->tls == NULL)
                return err_set(reterr, ERR_MEMORY, "TLS context");
        (void)SSL_CTX_set_mode(server->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        /* As AWS's endpoints choose: AES-128 first; it is also the cheapest for both sides. */
        (void)SSL_CTX_set_options(server->tls, SSL_OP_CIPHER_SERVER_PREFERENCE);
        if (SSL_CTX_set_ciphersuites(server->tls, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                                  "TLS_CHACHA20_POLY1305_SHA256") != 1)
                return err_set(reterr, ERR_TLS, "OpenSSL does not know the TLS 1.3 ciphers");
        SSL_CTX_set_read_ahead(server->tls, 1);
        SSL_CTX_set_default_read_buffer_len(server->tls, SINK_TLS_READ_BYTES);
        if (SSL_CTX_set_min_proto_version(server->tls, TLS1_2_VERSION) != 1 ||
            SSL_CTX_use_certificate_chain_file(server->tls, options->tls_cert) != 1)
                return err_set(reterr, ERR_TLS, "read the certificate in %s: %s", options->tls_cert,
                               ERR_reason_error_string(ERR_peek_last_error()));
        if (SSL_CTX_use_PrivateKey_file(server->tls, options->tls_key, SSL_FILETYPE_PEM) != 1 ||
            SSL_CTX_check_private_key(server->tls) != 1)
                return err_set(reterr, ERR_TLS, "read the private key in %s: %s", options->tls_key,
                               ERR_reason_error_string(ERR_peek_last_error()));
        return ERR_OK;
}

/* Any free port is first found, then asked for by number: only so does the socket keep it over shutdown(). */
static enum err_code sink_server_bind(struct sink_server *server, struct err *reterr)
{
        const struct sink_options *options = &server->options;
        union {
                struct sockaddr any;
                struct sockaddr_in v4;
                struct sockaddr_in6 v6;
        } address = {0};
        socklen_t size = sizeof(address.v4);
        uint16_t port = options->port;
        if (inet_pton(AF_INET, options->host, &address.v4.sin_addr) == 1) {
                address.v4.sin_family = AF_INET;
        } else if (inet_pton(AF_INET6, options->host, &address.v6.sin6_addr) == 1) {
                address.v6.sin6_family = AF_INET6;
                size = sizeof(address.v6);
        } else {
                return err_set(reterr, ERR_RANGE, "'%s' is not a numeric address", options->host);
        }
        for (int attempt = 0; attempt < 16; attempt++) {
                int on = 1;
                server->listen_fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                if (server->listen_fd < 0)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "make a socket");
                (void)setsockopt(server->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* else bind says so */
                if (size == sizeof(address.v4))
                        address.v4.sin_port = htons(port);
                else
                        address.v6.sin6_port = htons(port);
                if (bind(server->listen_fd, &address.any, size) == 0) {
                        server->port = port;
                        if (port != 0)
                                return ERR_OK;
                        if (getsockname(server->listen_fd, &address.any, &size) < 0)
                                return err_set_errno(reterr, ERR_SYSTEM, errno, "name of the socket");
                        port = ntohs(size == sizeof(address.v4) ? address.v4.sin_port : address.v6.sin6_port);
                } else if (options->port != 0 || errno != EADDRINUSE) {
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "bind %s:%u", options->host, port);
                } else {
                        port = 0; /* somebody took it in between: find another */
                }
                (void)close(server->listen_fd);
                server->listen_fd = -1;
        }
        return err_set(reterr, ERR_SYSTEM, "no free port on %s", options->host);
}

static enum err_code sink_thread_init(struct sink_thread *thread, struct sink_server *server, unsigned index,
                                      struct err *reterr)
{
        thread->server = server;
        thread->index = index;
        thread->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        (void)pthread_mutex_init(&thread->inbox_mutex, NULL); /* the default kind cannot fail here */
        random_init(&thread->random, server->options.seed == 0 ? 0 : server->options.seed + index);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &sink_mark_wake};
        if (thread->epoll_fd < 0 || thread->wake_fd < 0 ||
            epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, thread->wake_fd, &event) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "make an epoll loop");
        enum err_code code = sink_firehose_create(&thread->firehose, reterr);
        if (code == ERR_OK)
                code = sink_cloudwatch_create(&thread->cloudwatch, reterr);
        return code == ERR_OK ? sigv4_signer_create(&thread->signer, reterr) : code;
}

static void sink_server_free(struct sink_server *server)
{
        for (unsigned i = 0; i < server->options.threads; i++) {
                struct sink_thread *thread = &server->threads[i];
                if (thread->server == NULL)
                        continue;
                for (struct sink_conn *conn = thread->inbox, *next; conn != NULL; conn = next) {
                        next = conn->next;
                        sink_conn_free(conn);
                }
                if (thread->epoll_fd >= 0)
                        (void)close(thread->epoll_fd);
                if (thread->wake_fd >= 0)
                        (void)close(thread->wake_fd);
                (void)pthread_mutex_destroy(&thread->inbox_mutex);
                sink_firehose_free(thread->firehose);
                sink_cloudwatch_free(thread->cloudwatch);
                sigv4_signer_free(thread->signer);
        }
        for (size_t i = 0; i < server->stores_count; i++)
                (void)close(server->stores[i].fd); /* written with write(2): nothing is left to fail */
        sink_metrics_close(server->metrics);
        if (server->listen_fd >= 0)
                (void)close(server->listen_fd);
        SSL_CTX_free(server->tls);
        EVP_MD_free(server->sha256);
        (void)pthread_mutex_destroy(&server->store_mutex);
        free(server);
}

enum err_code sink_server_start(struct sink_server **ret_server, const struct sink_options *options,
                                struct sink_state *state, struct sink_faults *faults, struct err *reterr)
{
        struct sink_server *server = calloc(1, sizeof(*server));
        if (server == NULL)
                return err_set(reterr, ERR_MEMORY, "sink server");
        server->options = *options;
        server->state = state;
        server->faults = faults;
        server->listen_fd = -1;
        (void)pthread_mutex_init(&server->store_mutex, NULL); /* the default kind cannot fail here */
        server->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
        enum err_code code = server->sha256 == NULL ? err_set(reterr, ERR_SYSTEM, "OpenSSL has no SHA-256") : ERR_OK;
        if (code == ERR_OK)
                code = sink_server_tls(server, reterr);
        if (code == ERR_OK && options->store != NULL)
                code = file_make_directory(options->store, reterr);
        if (code == ERR_OK)
                code = sink_metrics_open(&server->metrics, sink_state_directory(state), reterr);
        if (code == ERR_OK)
                code = sink_server_bind(server, reterr);
        if (code == ERR_OK && !atomic_load_explicit(&faults->down, memory_order_relaxed) &&
            listen(server->listen_fd, SOMAXCONN) < 0) /* here for its error; thread 0 takes it over */
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "listen on %s:%u", options->host, server->port);
        for (unsigned i = 0; i < options->threads && code == ERR_OK; i++)
                code = sink_thread_init(&server->threads[i], server, i, reterr);
        while (code == ERR_OK && server->started < options->threads) {
                struct sink_thread *thread = &server->threads[server->started];
                int error = pthread_create(&thread->id, NULL, sink_thread_main, thread);
                if (error != 0)
                        code = err_set_errno(reterr, ERR_SYSTEM, error, "start thread %u", server->started);
                else
                        server->started++;
        }
        if (code != ERR_OK) {
                sink_server_stop(server, 0);
                return code;
        }
        *ret_server = server;
        return ERR_OK;
}

uint16_t sink_server_port(const struct sink_server *server)
{
        return server->port;
}

void sink_server_wake(struct sink_server *server)
{
        for (unsigned i = 0; i < server->started; i++)
                (void)eventfd_write(server->threads[i].wake_fd, 1); /* cannot overflow */
}

void sink_server_stop(struct sink_server *server, unsigned grace_ms)
{
        if (server == NULL)
                return;
        atomic_store_explicit(&server->stop_ns, clock_monotonic_ns() + grace_ms * CLOCK_NS_PER_MS,
                              memory_order_release);
        sink_server_wake(server);
        for (unsigned i = 0; i < server->started; i++)
                (void)pthread_join(server->threads[i].id, NULL); /* fails only for a bug */
        sink_server_free(server);
}
