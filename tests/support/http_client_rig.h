/* The HTTP client beside a peer of ours, for tests: makes both, sends exchanges, checks what is told of their ends.
 * Include in one file of a test program. */
#ifndef SENDRING_TESTS_SUPPORT_HTTP_CLIENT_RIG_H
#define SENDRING_TESTS_SUPPORT_HTTP_CLIENT_RIG_H

#include "base/clock.h"
#include "egress/http_connection.h"
#include "tests/support/http_peer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOPBACK_NAMES "IP:127.0.0.1,DNS:localhost"

struct fixture {
        struct http_peer_identity authority, identity;
        char bundle[64];
        struct http_peer peer;
        struct io_loop *loop;
        struct http_tls *tls;
        struct http_client *client;
        struct http_client_options options;
};

static inline void client_create(struct fixture *f, const char *host)
{
        struct err err;
        char url[300];
        (void)snprintf(url, sizeof(url), "%s://%s:%u/", f->tls != NULL ? "https" : "http", host,
                       (unsigned)f->peer.port);
        f->options.loop = f->loop;
        f->options.tls = f->tls;
        cr_assert_eq(http_url_parse(slice_of_text(url), &f->options.url, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(http_client_create(&f->options, &f->client, &err), ERR_OK, "%s", err.text);
}

/* `names` NULL: plain. */
static inline void setup_peer(struct fixture *f, const char *names, void (*serve)(struct http_peer_connection *))
{
        struct err err;
        struct io_options io = {.entries = 64};
        *f = (struct fixture){0};
        f->peer.serve = serve;
        cr_assert_eq(io_loop_create(&io, &f->loop, &err), ERR_OK, "%s", err.text);
        f->options.connections_max = 2;
        f->options.connect_timeout_ms = 5000;
        f->options.request_timeout_ms = 5000;
        f->options.idle_timeout_ms = 60000;
        f->options.response_body_bytes_max = 1u << 20;
        if (names == NULL)
                return;
        f->authority = http_peer_identity_make(NULL, NULL, 0, 30);
        f->identity = http_peer_identity_make(names, &f->authority, 0, 30);
        (void)strcpy(f->bundle, "/tmp/sendring-ca-XXXXXX");
        int fd = mkstemp(f->bundle);
        cr_assert_geq(fd, 0);
        (void)close(fd);
        http_peer_identity_write(&f->authority, f->bundle);
        f->peer.identity = &f->identity;
        cr_assert_eq(http_tls_create(f->bundle, &f->tls, &err), ERR_OK, "%s", err.text);
}

static inline void setup(struct fixture *f, const char *names, const char *host,
                         void (*serve)(struct http_peer_connection *))
{
        setup_peer(f, names, serve);
        http_peer_start(&f->peer);
        client_create(f, host);
}

static inline void client_free(struct fixture *f)
{
        uint64_t end = clock_monotonic_ns() + 5 * CLOCK_NS_PER_S;
        while (!http_client_stop(f->client)) {
                cr_assert_lt(clock_monotonic_ns(), end, "the client does not stop");
                (void)io_loop_turn(f->loop, 100 * CLOCK_NS_PER_MS);
        }
        cr_assert_eq(http_client_busy(f->client), 0);
        http_client_free(f->client);
        f->client = NULL;
}

static inline void teardown(struct fixture *f)
{
        client_free(f);
        http_peer_stop(&f->peer);
        http_tls_free(f->tls);
        (void)io_loop_turn(f->loop, 0);
        io_loop_free(f->loop);
        if (f->authority.key != NULL) {
                http_peer_identity_release(&f->authority);
                http_peer_identity_release(&f->identity);
                (void)unlink(f->bundle);
        }
}

struct call {
        struct http_exchange exchange; /* first: the callback casts */
        char head[512];
        uint8_t *body;
        bool over;
        enum err_code code;
        uint16_t status;
        bool maybe_sent;
        char *answer;
        size_t answer_bytes;
        char request_id[64];
        struct err why;
};

static bool in_send; /* `done` must not run within http_client_send() */

static inline void call_done(struct http_exchange *exchange, enum err_code code, const struct http_response *response,
                             bool maybe_sent, const struct err *why)
{
        struct call *call = (struct call *)exchange;
        cr_assert(!in_send);
        cr_assert(!call->over);
        call->over = true;
        call->code = code;
        call->maybe_sent = maybe_sent;
        call->why = *why;
        cr_assert_eq(response != NULL, code == ERR_OK);
        cr_assert(code == ERR_OK || (why->code == code && why->text[0] != '\0'));
        if (response == NULL)
                return;
        call->status = response->status;
        call->answer = malloc(response->body.len + 1);
        memcpy(call->answer, response->body.ptr, response->body.len);
        call->answer[response->body.len] = '\0';
        call->answer_bytes = response->body.len;
        (void)slice_to_text(response->request_id, call->request_id, sizeof(call->request_id));
}

/* A body in which every byte depends on its place; its sum is what the peer must have counted. */
static bool call_once; /* the next exchange says so */

static inline uint64_t call_prepare(struct call *call, const char *method, size_t body_bytes)
{
        uint64_t sum = 0;
        call->exchange.done = call_done;
        call->exchange.once = call_once;
        (void)snprintf(call->head, sizeof(call->head),
                       "%s / HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\nX-Pad: 1\r\n\r\n", method, body_bytes);
        call->body = malloc(body_bytes + 1);
        for (size_t i = 0; i < body_bytes; i++) {
                call->body[i] = (uint8_t)(i * 2654435761u >> 22);
                sum += call->body[i];
        }
        call->exchange.head = slice_of_text(call->head);
        call->exchange.body = slice_of(call->body, body_bytes);
        return sum;
}

static inline enum err_code call_send(struct fixture *f, struct call *call)
{
        in_send = true;
        enum err_code code = http_client_send(f->client, &call->exchange);
        in_send = false;
        return code;
}

static inline void call_wait(struct fixture *f, struct call *call)
{
        uint64_t end = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (!call->over && clock_monotonic_ns() < end)
                (void)io_loop_turn(f->loop, 200 * CLOCK_NS_PER_MS);
        cr_assert(call->over, "no end of the exchange");
}

static inline void call_release(struct call *call)
{
        free(call->body);
        free(call->answer);
        *call = (struct call){0};
}

static inline uint64_t call_run(struct fixture *f, struct call *call, size_t body_bytes)
{
        *call = (struct call){0};
        uint64_t sum = call_prepare(call, "POST", body_bytes);
        cr_assert_eq(call_send(f, call), ERR_OK);
        call_wait(f, call);
        return sum;
}

static inline void serve_sums(struct http_peer_connection *connection)
{
        while (http_peer_read_request(connection)) {
                char body[64], text[256];
                int len = snprintf(body, sizeof(body), "%zu %llu", connection->body_bytes,
                                   (unsigned long long)connection->body_sum);
                (void)snprintf(text, sizeof(text),
                               "HTTP/1.1 200 OK\r\nx-amzn-RequestId: r-1\r\nContent-Length: %d\r\n\r\n%s", len, body);
                if (!http_peer_write_text(connection, text))
                        return;
        }
}

static inline void check_sums(const struct call *call, size_t body_bytes, uint64_t sum)
{
        char expected[64];
        (void)snprintf(expected, sizeof(expected), "%zu %llu", body_bytes, (unsigned long long)sum);
        cr_assert_eq(call->code, ERR_OK, "%s", call->why.text);
        cr_assert_eq(call->status, 200);
        cr_assert_str_eq(call->answer, expected);
        cr_assert_str_eq(call->request_id, "r-1");
}

/* Takes the head and then nothing more. */
static inline void serve_stall(struct http_peer_connection *connection)
{
        if (http_peer_read_head(connection)) {
                while (!atomic_load(&connection->peer->stopping))
                        clock_sleep_ns(10 * CLOCK_NS_PER_MS);
        }
}

#endif
