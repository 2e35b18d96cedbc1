#include "base/clock.h"
#include "egress/http_connection.h"
#include "tests/support/http_peer.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Every allocation of a thread that counts, OpenSSL's and libc's included. The sanitizers bring their own allocator. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAN_COUNT_ALLOCATIONS 0
static bool allocations_counted;
static uint64_t allocations;
static int64_t openssl_live;
static size_t openssl_largest;
#else
#define CAN_COUNT_ALLOCATIONS 1
static _Thread_local bool allocations_counted __attribute__((tls_model("initial-exec")));
static _Thread_local uint64_t allocations __attribute__((tls_model("initial-exec")));

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);

__attribute__((visibility("default"))) void *malloc(size_t bytes)
{
        allocations += allocations_counted;
        return __libc_malloc(bytes);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t bytes)
{
        allocations += allocations_counted;
        return __libc_calloc(count, bytes);
}

__attribute__((visibility("default"))) void *realloc(void *old, size_t bytes)
{
        allocations += allocations_counted;
        return __libc_realloc(old, bytes);
}

/* OpenSSL's own are told apart: how many blocks this thread took more than it gave back, and the largest. */
static _Thread_local int64_t openssl_live __attribute__((tls_model("initial-exec")));
static _Thread_local size_t openssl_largest __attribute__((tls_model("initial-exec")));

static void openssl_note(size_t bytes)
{
        if (!allocations_counted)
                return;
        openssl_live++;
        if (bytes > openssl_largest)
                openssl_largest = bytes;
}

static void *openssl_malloc(size_t bytes, const char *file, int line)
{
        (void)file;
        (void)line;
        openssl_note(bytes);
        return __libc_malloc(bytes);
}

static void *openssl_realloc(void *old, size_t bytes, const char *file, int line)
{
        (void)file;
        (void)line;
        openssl_note(bytes);
        openssl_live -= allocations_counted && old != NULL;
        return __libc_realloc(old, bytes);
}

static void openssl_free(void *old, const char *file, int line)
{
        (void)file;
        (void)line;
        openssl_live -= allocations_counted && old != NULL;
        free(old);
}

__attribute__((constructor)) static void openssl_count(void)
{
        if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1)
                abort();
}
#endif

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

static void client_create(struct fixture *f, const char *host)
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
static void setup_peer(struct fixture *f, const char *names, void (*serve)(struct http_peer_connection *))
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

static void setup(struct fixture *f, const char *names, const char *host, void (*serve)(struct http_peer_connection *))
{
        setup_peer(f, names, serve);
        http_peer_start(&f->peer);
        client_create(f, host);
}

static void client_free(struct fixture *f)
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

static void teardown(struct fixture *f)
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

static void call_done(struct http_exchange *exchange, enum err_code code, const struct http_response *response,
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

static uint64_t call_prepare(struct call *call, const char *method, size_t body_bytes)
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

static enum err_code call_send(struct fixture *f, struct call *call)
{
        in_send = true;
        enum err_code code = http_client_send(f->client, &call->exchange);
        in_send = false;
        return code;
}

static void call_wait(struct fixture *f, struct call *call)
{
        uint64_t end = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (!call->over && clock_monotonic_ns() < end)
                (void)io_loop_turn(f->loop, 200 * CLOCK_NS_PER_MS);
        cr_assert(call->over, "no end of the exchange");
}

static void call_release(struct call *call)
{
        free(call->body);
        free(call->answer);
        *call = (struct call){0};
}

static uint64_t call_run(struct fixture *f, struct call *call, size_t body_bytes)
{
        *call = (struct call){0};
        uint64_t sum = call_prepare(call, "POST", body_bytes);
        cr_assert_eq(call_send(f, call), ERR_OK);
        call_wait(f, call);
        return sum;
}

/* ---- what a good peer does */

static void serve_sums(struct http_peer_connection *connection)
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

static void check_sums(const struct call *call, size_t body_bytes, uint64_t sum)
{
        char expected[64];
        (void)snprintf(expected, sizeof(expected), "%zu %llu", body_bytes, (unsigned long long)sum);
        cr_assert_eq(call->code, ERR_OK, "%s", call->why.text);
        cr_assert_eq(call->status, 200);
        cr_assert_str_eq(call->answer, expected);
        cr_assert_str_eq(call->request_id, "r-1");
}

static const size_t body_sizes[] = {0, 1, 100, 16383, 16384, 16385, 262143, 262144, 300000, 1u << 20, 4u << 20};

static void carry_bodies(struct fixture *f)
{
        struct call call;
        struct http_client_stats stats;
        for (size_t i = 0; i < sizeof(body_sizes) / sizeof(body_sizes[0]); i++) {
                uint64_t sum = call_run(f, &call, body_sizes[i]);
                check_sums(&call, body_sizes[i], sum);
                call_release(&call);
        }
        http_client_get_stats(f->client, &stats);
        cr_assert_eq(stats.connects, 1); /* kept alive */
        cr_assert_eq(stats.exchanges, sizeof(body_sizes) / sizeof(body_sizes[0]));
        cr_assert_eq(stats.connections_now, 1);
        cr_assert_gt(stats.bytes_sent, 5u << 20);
        cr_assert_gt(stats.bytes_received, 100);
        cr_assert_eq(atomic_load(&f->peer.connections), 1);
}

Test(http_client, plain_bodies_of_all_sizes_arrive_on_one_connection, .timeout = 60)
{
        struct fixture f;
        setup(&f, NULL, "127.0.0.1", serve_sums);
        carry_bodies(&f);
        teardown(&f);
}

Test(http_client, tls_bodies_of_all_sizes_arrive_on_one_connection, .timeout = 60)
{
        struct fixture f;
        setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_sums);
        carry_bodies(&f);
        teardown(&f);
}

Test(http_client, tls_works_by_name_through_the_resolver, .timeout = 60)
{
        struct fixture f;
        struct call call;
        setup(&f, "DNS:localhost", "localhost", serve_sums);
        uint64_t sum = call_run(&f, &call, 1000);
        check_sums(&call, 1000, sum);
        call_release(&call);
        teardown(&f);
}

/* ---- who is the peer */

/* Runs one call that must fail in TLS with `words` in its sentence, at a peer with `names` on a certificate valid for
 * the days given. `bundle`: 0 the right one, 1 another authority's, 2 the system's. */
static void check_refused(const char *names, const char *host, int from_days, int to_days, int bundle,
                          const char *words, const char *more_words)
{
        struct fixture f;
        struct call call;
        struct err err;
        setup_peer(&f, names, serve_sums);
        http_peer_identity_release(&f.identity);
        f.identity = http_peer_identity_make(names, &f.authority, from_days, to_days);
        if (bundle > 0) {
                struct http_peer_identity other = http_peer_identity_make(NULL, NULL, 0, 30);
                http_peer_identity_write(&other, f.bundle);
                http_peer_identity_release(&other);
                http_tls_free(f.tls);
                cr_assert_eq(http_tls_create(bundle == 1 ? f.bundle : NULL, &f.tls, &err), ERR_OK);
        }
        http_peer_start(&f.peer);
        client_create(&f, host);
        (void)call_run(&f, &call, 100);
        cr_assert_eq(call.code, ERR_TLS, "%s: %s", host, call.why.text);
        cr_assert_not_null(strstr(call.why.text, words), "%s", call.why.text);
        cr_assert_not_null(strstr(call.why.text, more_words), "%s", call.why.text);
        cr_assert(!call.maybe_sent);
        cr_assert_eq(atomic_load(&f.peer.requests), 0);
        struct http_client_stats stats;
        http_client_get_stats(f.client, &stats);
        cr_assert_eq(stats.connect_failures, 1);
        call_release(&call);
        teardown(&f);
}

Test(http_client, a_certificate_for_another_name_is_refused, .timeout = 20)
{
        check_refused("DNS:example.com", "localhost", 0, 30, 0, "not for localhost", "DNS:example.com");
}

Test(http_client, a_certificate_for_another_address_is_refused, .timeout = 20)
{
        check_refused("IP:127.0.0.2,DNS:127.0.0.1", "127.0.0.1", 0, 30, 0, "not for 127.0.0.1", "127.0.0.2");
}

Test(http_client, a_name_does_not_stand_for_its_address, .timeout = 20)
{
        check_refused("IP:127.0.0.1", "localhost", 0, 30, 0, "not for localhost", "127.0.0.1");
}

Test(http_client, an_unknown_authority_is_refused, .timeout = 20)
{
        check_refused(LOOPBACK_NAMES, "127.0.0.1", 0, 30, 1, "certificate verify failed", "egress.ca_bundle does not");
        check_refused(LOOPBACK_NAMES, "127.0.0.1", 0, 30, 2, "certificate verify failed", "set egress.ca_bundle");
        /* What it says is for a person: which certificate, which setting. */
        check_refused(LOOPBACK_NAMES, "127.0.0.1", 0, 30, 2, "CN = sendring test", "install the ca-certificates");
}

Test(http_client, an_expired_certificate_is_refused, .timeout = 20)
{
        check_refused(LOOPBACK_NAMES, "127.0.0.1", -30, -1, 0, "expired", "it ended on ");
}

Test(http_client, a_certificate_from_the_future_is_refused, .timeout = 20)
{
        check_refused(LOOPBACK_NAMES, "127.0.0.1", 2, 30, 0, "not valid yet", "clock");
}

Test(http_client, an_unusable_bundle_is_a_configuration_error, .timeout = 20)
{
        struct http_tls *tls = NULL;
        struct err err;
        cr_assert_eq(http_tls_create("/nonexistent/ca.pem", &tls, &err), ERR_CONFIG);
        cr_assert_not_null(strstr(err.text, "/nonexistent/ca.pem"));
        cr_assert_eq(http_tls_create("/dev/null", &tls, &err), ERR_CONFIG);
}

static void serve_nothing(struct http_peer_connection *connection)
{
        char byte;
        ssize_t got = read(connection->fd, &byte, 1);
        (void)got;
        (void)http_peer_write_text(connection, "SSH-2.0-OpenSSH_9.2\r\n");
}

Test(http_client, a_peer_without_tls_is_named_as_such, .timeout = 20)
{
        struct fixture f;
        struct call call;
        setup_peer(&f, LOOPBACK_NAMES, serve_nothing);
        f.peer.identity = NULL;
        http_peer_start(&f.peer);
        client_create(&f, "127.0.0.1");
        (void)call_run(&f, &call, 10);
        cr_assert_eq(call.code, ERR_TLS);
        cr_assert_not_null(strstr(call.why.text, "does not speak TLS"), "%s", call.why.text);
        call_release(&call);
        teardown(&f);
}

Test(http_client, tls_1_1_is_refused, .timeout = 20)
{
        struct fixture f;
        struct call call;
        setup_peer(&f, LOOPBACK_NAMES, serve_sums);
        http_peer_start(&f.peer);
        cr_assert_eq(SSL_CTX_set_min_proto_version(f.peer.context, TLS1_VERSION), 1);
        cr_assert_eq(SSL_CTX_set_max_proto_version(f.peer.context, TLS1_1_VERSION), 1);
        client_create(&f, "127.0.0.1");
        (void)call_run(&f, &call, 10);
        cr_assert_eq(call.code, ERR_TLS);
        cr_assert_not_null(strstr(call.why.text, "no TLS 1.2"), "%s", call.why.text);
        call_release(&call);
        teardown(&f);
}

/* ---- sessions */

static void serve_once_and_close(struct http_peer_connection *connection)
{
        if (http_peer_read_request(connection))
                (void)http_peer_write_text(connection,
                                           "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
}

static void check_resumption(int max_version)
{
        struct fixture f;
        setup_peer(&f, LOOPBACK_NAMES, serve_once_and_close);
        http_peer_start(&f.peer);
        cr_assert_eq(SSL_CTX_set_max_proto_version(f.peer.context, max_version), 1);
        client_create(&f, "127.0.0.1");
        for (int i = 0; i < 4; i++) {
                struct call call;
                (void)call_run(&f, &call, 1000);
                cr_assert_eq(call.code, ERR_OK, "%s", call.why.text);
                cr_assert_str_eq(call.answer, "ok");
                call_release(&call);
        }
        struct http_client_stats stats;
        http_client_get_stats(f.client, &stats);
        cr_assert_eq(stats.connects, 4);
        cr_assert_eq(stats.tls_resumptions, 3);
        cr_assert_eq(atomic_load(&f.peer.resumed), 3);
        teardown(&f);
}

Test(http_client, sessions_are_resumed_in_tls_1_3, .timeout = 20)
{
        check_resumption(TLS1_3_VERSION);
}

Test(http_client, sessions_are_resumed_in_tls_1_2, .timeout = 20)
{
        check_resumption(TLS1_2_VERSION);
}

Test(http_client, tls_1_2_carries_large_bodies, .timeout = 20)
{
        struct fixture f;
        setup_peer(&f, LOOPBACK_NAMES, serve_sums);
        http_peer_start(&f.peer);
        cr_assert_eq(SSL_CTX_set_max_proto_version(f.peer.context, TLS1_2_VERSION), 1);
        client_create(&f, "127.0.0.1");
        carry_bodies(&f);
        teardown(&f);
}

/* ---- peers that end connections */

/* Answers two requests on the first connection and closes it; later ones are good. */
static void serve_two_then_close(struct http_peer_connection *connection)
{
        if (connection->index > 0) {
                serve_sums(connection);
                return;
        }
        for (int i = 0; i < 2; i++) {
                if (!http_peer_read_request(connection) ||
                    !http_peer_write_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
                        return;
        }
}

Test(http_client, an_idle_connection_that_the_peer_closed_is_replaced, .timeout = 20)
{
        for (int plain = 0; plain < 2; plain++) {
                struct fixture f;
                struct call call;
                setup(&f, plain ? NULL : LOOPBACK_NAMES, "127.0.0.1", serve_two_then_close);
                for (int i = 0; i < 2; i++) {
                        (void)call_run(&f, &call, 10);
                        cr_assert_eq(call.code, ERR_OK, "%s", call.why.text);
                        call_release(&call);
                }
                /* Seen while idle. */
                struct http_client_stats stats;
                uint64_t end = clock_monotonic_ns() + 2 * CLOCK_NS_PER_S;
                do {
                        (void)io_loop_turn(f.loop, 10 * CLOCK_NS_PER_MS);
                        http_client_get_stats(f.client, &stats);
                } while (stats.connections_now > 0 && clock_monotonic_ns() < end);
                cr_assert_eq(stats.connections_now, 0);
                uint64_t sum = call_run(&f, &call, 10);
                check_sums(&call, 10, sum);
                call_release(&call);
                teardown(&f);
        }
}

/* The first connection answers once, reads the head of the second request and resets. */
static void serve_then_reset(struct http_peer_connection *connection)
{
        if (connection->index > 0) {
                serve_sums(connection);
                return;
        }
        if (http_peer_read_request(connection) &&
            http_peer_write_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") &&
            http_peer_read_head(connection))
                http_peer_reset(connection);
}

Test(http_client, a_kept_connection_that_dies_before_its_answer_is_replaced_once, .timeout = 20)
{
        for (int plain = 0; plain < 2; plain++) {
                struct fixture f;
                struct call call;
                setup(&f, plain ? NULL : LOOPBACK_NAMES, "127.0.0.1", serve_then_reset);
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, ERR_OK);
                call_release(&call);
                uint64_t sum = call_run(&f, &call, 2000000);
                check_sums(&call, 2000000, sum);
                call_release(&call);
                cr_assert_eq(atomic_load(&f.peer.connections), 2);
                teardown(&f);
        }
}

/* The same, but the second request is read whole before the reset: the peer may have acted on it. */
static void serve_then_read_and_reset(struct http_peer_connection *connection)
{
        if (http_peer_read_request(connection) &&
            http_peer_write_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") &&
            http_peer_read_request(connection))
                http_peer_reset(connection);
}

Test(http_client, an_exchange_that_must_not_be_done_twice_is_not_replaced, .timeout = 20)
{
        for (int once = 0; once < 2; once++) {
                struct fixture f;
                struct call call;
                setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_then_read_and_reset);
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, ERR_OK);
                call_release(&call);
                call_once = once != 0;
                (void)call_run(&f, &call, 1000);
                call_once = false;
                cr_assert_eq(call.code, once ? ERR_RESET : ERR_OK, "%s", err_name(call.code));
                cr_assert(call.maybe_sent);
                call_release(&call);
                cr_assert_eq(atomic_load(&f.peer.connections), once ? 1 : 2);
                teardown(&f);
        }
}

static void serve_reset(struct http_peer_connection *connection)
{
        if (http_peer_read_request(connection))
                http_peer_reset(connection);
}

Test(http_client, a_new_connection_that_is_reset_is_not_retried, .timeout = 20)
{
        struct fixture f;
        struct call call;
        setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_reset);
        (void)call_run(&f, &call, 1000);
        cr_assert_eq(call.code, ERR_RESET);
        cr_assert(call.maybe_sent);
        cr_assert_not_null(strstr(call.why.text, "127.0.0.1"));
        call_release(&call);
        cr_assert_eq(atomic_load(&f.peer.connections), 1);
        teardown(&f);
}

/* Answers once, then always resets in the middle of an answer. */
static void serve_half_then_reset(struct http_peer_connection *connection)
{
        for (uint32_t i = connection->index; http_peer_read_request(connection); i++) {
                if (i == 0) {
                        (void)http_peer_write_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                } else {
                        (void)http_peer_write_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nhalf");
                        clock_sleep_ns(20 * CLOCK_NS_PER_MS);
                        http_peer_reset(connection);
                        return;
                }
        }
}

Test(http_client, a_reset_in_the_middle_of_an_answer_is_reported_not_retried, .timeout = 20)
{
        for (int plain = 0; plain < 2; plain++) {
                struct fixture f;
                struct call call;
                setup(&f, plain ? NULL : LOOPBACK_NAMES, "127.0.0.1", serve_half_then_reset);
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, ERR_OK);
                call_release(&call);
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, ERR_RESET);
                cr_assert(call.maybe_sent);
                cr_assert_not_null(strstr(call.why.text, "in the middle of its answer"), "%s", call.why.text);
                call_release(&call);
                cr_assert_eq(atomic_load(&f.peer.connections), 1);
                teardown(&f);
        }
}

/* Ends the TCP stream without saying so in TLS, within a body that ends with the connection. */
static void serve_cut_off(struct http_peer_connection *connection)
{
        if (!http_peer_read_request(connection))
                return;
        (void)http_peer_write_text(connection, "HTTP/1.1 200 OK\r\n\r\nall that the attacker lets through");
        if (connection->peer->argument != NULL && connection->ssl != NULL)
                SSL_set_quiet_shutdown(connection->ssl, 1);
}

Test(http_client, a_body_until_close_needs_tls_goodbye, .timeout = 20)
{
        for (int cut = 0; cut < 2; cut++) {
                struct fixture f;
                struct call call;
                setup_peer(&f, LOOPBACK_NAMES, serve_cut_off);
                f.peer.argument = cut ? &f : NULL;
                http_peer_start(&f.peer);
                client_create(&f, "127.0.0.1");
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, cut ? ERR_RESET : ERR_OK, "%s", call.why.text);
                if (!cut)
                        cr_assert_str_eq(call.answer, "all that the attacker lets through");
                call_release(&call);
                teardown(&f);
        }
}

/* ---- slow and silent peers */

static void serve_silence(struct http_peer_connection *connection)
{
        if (http_peer_read_request(connection)) {
                char byte;
                ssize_t got = read(connection->fd, &byte, 1); /* until the client goes */
                (void)got;
        }
}

Test(http_client, a_silent_peer_times_out, .timeout = 20)
{
        struct fixture f;
        struct call call;
        setup_peer(&f, LOOPBACK_NAMES, serve_silence);
        f.options.request_timeout_ms = 150;
        http_peer_start(&f.peer);
        client_create(&f, "127.0.0.1");
        uint64_t start = clock_monotonic_ns();
        (void)call_run(&f, &call, 1000);
        uint64_t took = clock_monotonic_ns() - start;
        cr_assert_eq(call.code, ERR_TIMEOUT);
        cr_assert(call.maybe_sent);
        cr_assert_geq(took, 150 * CLOCK_NS_PER_MS);
        cr_assert_lt(took, 2 * CLOCK_NS_PER_S);
        call_release(&call);
        teardown(&f);
}

/* A byte of the answer every 20 ms: each is a sign of life, and none moves the deadline. */
static void serve_bytes(struct http_peer_connection *connection)
{
        static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
        if (!http_peer_read_request(connection))
                return;
        for (size_t i = 0; !atomic_load(&connection->peer->stopping); i++) {
                if (!http_peer_write(connection, i < sizeof(answer) - 1 ? &answer[i] : "x", 1))
                        return;
                clock_sleep_ns(20 * CLOCK_NS_PER_MS);
        }
}

Test(http_client, bytes_that_trickle_do_not_outlast_the_deadline, .timeout = 20)
{
        struct fixture f;
        struct call call;
        setup_peer(&f, LOOPBACK_NAMES, serve_bytes);
        f.options.request_timeout_ms = 600;
        http_peer_start(&f.peer);
        client_create(&f, "127.0.0.1");
        uint64_t start = clock_monotonic_ns();
        (void)call_run(&f, &call, 1000);
        uint64_t took = clock_monotonic_ns() - start;
        cr_assert_eq(call.code, ERR_TIMEOUT);
        cr_assert_geq(took, 600 * CLOCK_NS_PER_MS);
        cr_assert_lt(took, 3 * CLOCK_NS_PER_S);
        call_release(&call);
        teardown(&f);
}

/* A head, or a chunked body, for as long as somebody reads. */
static void serve_endless(struct http_peer_connection *connection)
{
        bool head = connection->index % 2 == 0;
        if (!http_peer_read_request(connection) ||
            !http_peer_write_text(connection, head ? "HTTP/1.1 200 OK\r\n"
                                                   : "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
                return;
        while (!atomic_load(&connection->peer->stopping) &&
               http_peer_write_text(connection, head ? "x-more: and more\r\n" : "10\r\n0123456789abcdef\r\n"))
                ;
        atomic_fetch_add((_Atomic uint32_t *)connection->peer->argument, 1);
}

Test(http_client, answers_without_end_are_given_up_long_before_the_deadline, .timeout = 30)
{
        struct fixture f;
        struct call call;
        _Atomic uint32_t ended = 0;
        setup_peer(&f, LOOPBACK_NAMES, serve_endless);
        f.peer.argument = &ended;
        f.options.request_timeout_ms = 20000;
        http_peer_start(&f.peer);
        client_create(&f, "127.0.0.1");
        for (uint32_t i = 0; i < 2; i++) {
                uint64_t start = clock_monotonic_ns();
                (void)call_run(&f, &call, 1000);
                cr_assert_eq(call.code, ERR_TOO_BIG);
                cr_assert_lt(clock_monotonic_ns() - start, 10 * CLOCK_NS_PER_S);
                call_release(&call);
        }
        while (atomic_load(&ended) < 2) /* the peer learns of it */
                clock_sleep_ns(CLOCK_NS_PER_MS);
        teardown(&f);
}

/* Takes the head and then nothing more. */
static void serve_stall(struct http_peer_connection *connection)
{
        if (http_peer_read_head(connection)) {
                while (!atomic_load(&connection->peer->stopping))
                        clock_sleep_ns(10 * CLOCK_NS_PER_MS);
        }
}

Test(http_client, a_peer_that_does_not_read_times_out_and_has_not_seen_the_whole, .timeout = 20)
{
        for (int plain = 0; plain < 2; plain++) {
                struct fixture f;
                struct call call;
                setup_peer(&f, plain ? NULL : LOOPBACK_NAMES, serve_stall);
                f.options.request_timeout_ms = 300;
                f.peer.receive_buffer_bytes = 65536;
                http_peer_start(&f.peer);
                client_create(&f, "127.0.0.1");
                (void)call_run(&f, &call, 16u << 20);
                cr_assert_eq(call.code, ERR_TIMEOUT);
                cr_assert(!call.maybe_sent);
                cr_assert_not_null(strstr(call.why.text, "does not take the request"), "%s", call.why.text);
                call_release(&call);
                teardown(&f);
        }
}

static void serve_slowly(struct http_peer_connection *connection)
{
        uint64_t sum = 0;
        size_t bytes = 2000000;
        if (!http_peer_read_head(connection))
                return;
        for (size_t done = 0; done < bytes;) {
                uint8_t piece[50000];
                size_t got = 0;
                if (SSL_read_ex(connection->ssl, piece, sizeof(piece), &got) != 1)
                        return;
                for (size_t i = 0; i < got; i++)
                        sum += piece[i];
                done += got;
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        char text[256], body[64];
        int len = snprintf(body, sizeof(body), "%zu %llu", bytes, (unsigned long long)sum);
        (void)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nx-amzn-RequestId: r-1\r\nContent-Length: %d\r\n\r\n%s",
                       len, body);
        /* And the answer trickles. */
        for (size_t i = 0; text[i] != '\0'; i++) {
                if (!http_peer_write(connection, text + i, 1))
                        return;
        }
}

Test(http_client, a_slow_reader_gets_everything, .timeout = 30)
{
        struct fixture f;
        struct call call;
        setup_peer(&f, LOOPBACK_NAMES, serve_slowly);
        f.peer.receive_buffer_bytes = 32768;
        http_peer_start(&f.peer);
        client_create(&f, "127.0.0.1");
        uint64_t sum = call_run(&f, &call, 2000000);
        check_sums(&call, 2000000, sum);
        call_release(&call);
        teardown(&f);
}

Test(http_client, a_tls_handshake_that_never_ends_times_out, .timeout = 20)
{
        struct fixture f;
        struct call call;
        setup_peer(&f, LOOPBACK_NAMES, serve_stall);
        f.peer.identity = NULL; /* reads the hello as if it were a request */
        f.options.connect_timeout_ms = 150;
        http_peer_start(&f.peer);
        client_create(&f, "127.0.0.1");
        (void)call_run(&f, &call, 10);
        cr_assert_eq(call.code, ERR_TIMEOUT);
        cr_assert_not_null(strstr(call.why.text, "TLS handshake"), "%s", call.why.text);
        cr_assert(!call.maybe_sent);
        call_release(&call);
        teardown(&f);
}

Test(http_client, idle_connections_are_closed_after_their_time, .timeout = 20)
{
        struct fixture f;
        struct call call;
        struct http_client_stats stats;
        setup_peer(&f, LOOPBACK_NAMES, serve_sums);
        f.options.idle_timeout_ms = 100;
        http_peer_start(&f.peer);
        client_create(&f, "127.0.0.1");
        (void)call_run(&f, &call, 10);
        cr_assert_eq(call.code, ERR_OK);
        call_release(&call);
        uint64_t end = clock_monotonic_ns() + 3 * CLOCK_NS_PER_S;
        do {
                (void)io_loop_turn(f.loop, 20 * CLOCK_NS_PER_MS);
                http_client_get_stats(f.client, &stats);
        } while (stats.connections_now > 0 && clock_monotonic_ns() < end);
        cr_assert_eq(stats.connections_now, 0);
        teardown(&f);
}

/* ---- answers of all kinds */

/* Refuses after the head, then closes with the body unread, which makes the kernel send RST. */
static void serve_early_413(struct http_peer_connection *connection)
{
        if (!http_peer_read_head(connection))
                return;
        (void)http_peer_write_text(connection,
                                   "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big");
        if (connection->peer->argument != NULL)
                serve_stall(connection); /* or keeps the connection and reads nothing */
}

Test(http_client, an_early_answer_is_read_although_the_peer_stops_reading, .timeout = 30)
{
        for (int kind = 0; kind < 4; kind++) {
                struct fixture f;
                struct call call;
                setup_peer(&f, kind % 2 ? NULL : LOOPBACK_NAMES, serve_early_413);
                f.peer.argument = kind / 2 ? &f : NULL;
                f.peer.receive_buffer_bytes = 65536;
                http_peer_start(&f.peer);
                client_create(&f, "127.0.0.1");
                uint64_t start = clock_monotonic_ns();
                (void)call_run(&f, &call, 16u << 20);
                cr_assert_eq(call.code, ERR_OK, "%d: %s", kind, call.why.text);
                cr_assert_eq(call.status, 413);
                cr_assert_str_eq(call.answer, "too big");
                cr_assert_lt(clock_monotonic_ns() - start, 2 * CLOCK_NS_PER_S);
                call_release(&call);
                teardown(&f);
        }
}

static void serve_early_200(struct http_peer_connection *connection)
{
        if (http_peer_read_head(connection)) {
                (void)http_peer_write_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                serve_stall(connection);
        }
}

Test(http_client, success_before_the_end_of_the_request_is_not_believed, .timeout = 30)
{
        struct fixture f;
        struct call call;
        setup_peer(&f, LOOPBACK_NAMES, serve_early_200);
        f.peer.receive_buffer_bytes = 65536;
        http_peer_start(&f.peer);
        client_create(&f, "127.0.0.1");
        (void)call_run(&f, &call, 16u << 20);
        cr_assert_eq(call.code, ERR_PROTOCOL);
        cr_assert(!call.maybe_sent);
        call_release(&call);
        teardown(&f);
}

static void serve_variety(struct http_peer_connection *connection)
{
        static char large[1000000];
        char text[128];
        memset(large, 'L', sizeof(large));
        for (int i = 0; http_peer_read_request(connection); i++) {
                switch (i) {
                case 0:
                        (void)http_peer_write_text(connection, "HTTP/1.1 100 Continue\r\n\r\n");
                        (void)http_peer_write_text(
                                connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
                        (void)http_peer_write_text(connection, "6;x=y\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n");
                        break;
                case 1:
                        (void)http_peer_write_text(connection, "HTTP/1.1 204 No Content\r\n\r\n");
                        break;
                case 2:
                        (void)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
                                       sizeof(large));
                        (void)http_peer_write_text(connection, text);
                        (void)http_peer_write(connection, large, sizeof(large));
                        break;
                case 3:
                        (void)http_peer_write_text(
                                connection, "HTTP/1.1 500 Oops\r\nx-amzn-RequestId: r-5\r\nContent-Length: 0\r\n\r\n");
                        break;
                default:
                        (void)http_peer_write_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n");
                        break;
                }
        }
}

Test(http_client, answers_of_all_kinds_are_read, .timeout = 30)
{
        for (int plain = 0; plain < 2; plain++) {
                struct fixture f;
                struct call call;
                setup(&f, plain ? NULL : LOOPBACK_NAMES, "127.0.0.1", serve_variety);
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, ERR_OK, "%s", call.why.text);
                cr_assert_str_eq(call.answer, "hello world");
                call_release(&call);
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.status, 204);
                call_release(&call);
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, ERR_OK, "%s", call.why.text);
                cr_assert_eq(call.answer_bytes, 1000000);
                cr_assert_eq(strspn(call.answer, "L"), 1000000);
                call_release(&call);
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.status, 500);
                cr_assert_str_eq(call.request_id, "r-5");
                call_release(&call);
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, ERR_TOO_BIG);
                call_release(&call);
                cr_assert_eq(atomic_load(&f.peer.connections), 1);
                teardown(&f);
        }
}

static void serve_garbage(struct http_peer_connection *connection)
{
        if (http_peer_read_request(connection)) {
                (void)http_peer_write_text(connection, "ICY 200 OK\r\n\r\n");
                serve_stall(connection);
        }
}

Test(http_client, garbage_is_a_protocol_error_at_once, .timeout = 20)
{
        struct fixture f;
        struct call call;
        setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_garbage);
        (void)call_run(&f, &call, 10);
        cr_assert_eq(call.code, ERR_PROTOCOL);
        cr_assert(call.maybe_sent);
        call_release(&call);
        teardown(&f);
}

/* A second answer that nobody asked for behind the first. */
static void serve_double(struct http_peer_connection *connection)
{
        while (http_peer_read_request(connection))
                (void)http_peer_write_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"
                                                       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
}

Test(http_client, an_answer_nobody_asked_for_ends_the_connection, .timeout = 20)
{
        struct fixture f;
        setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_double);
        for (int i = 0; i < 3; i++) {
                struct call call;
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, ERR_OK, "%s", call.why.text);
                cr_assert_str_eq(call.answer, "1");
                call_release(&call);
        }
        cr_assert_eq(atomic_load(&f.peer.connections), 3);
        teardown(&f);
}

/* ---- the pool */

Test(http_client, connections_are_bounded_and_used_in_parallel, .timeout = 20)
{
        struct fixture f;
        struct call calls[3] = {0};
        setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_sums);
        uint64_t sums[3];
        for (int i = 0; i < 3; i++)
                sums[i] = call_prepare(&calls[i], "POST", 500000);
        cr_assert_eq(call_send(&f, &calls[0]), ERR_OK);
        cr_assert_eq(call_send(&f, &calls[1]), ERR_OK);
        cr_assert_eq(call_send(&f, &calls[2]), ERR_BUSY);
        cr_assert_eq(http_client_busy(f.client), 2);
        call_wait(&f, &calls[0]);
        call_wait(&f, &calls[1]);
        cr_assert_eq(call_send(&f, &calls[2]), ERR_OK);
        call_wait(&f, &calls[2]);
        for (int i = 0; i < 3; i++) {
                check_sums(&calls[i], 500000, sums[i]);
                call_release(&calls[i]);
        }
        cr_assert_eq(atomic_load(&f.peer.connections), 2);
        teardown(&f);
}

Test(http_client, stop_ends_exchanges_under_way, .timeout = 20)
{
        for (int plain = 0; plain < 2; plain++) {
                struct fixture f;
                struct call call = {0};
                setup(&f, plain ? NULL : LOOPBACK_NAMES, "127.0.0.1", serve_stall);
                (void)call_prepare(&call, "POST", 16u << 20);
                cr_assert_eq(call_send(&f, &call), ERR_OK);
                for (int i = 0; i < 20; i++)
                        (void)io_loop_turn(f.loop, 5 * CLOCK_NS_PER_MS);
                cr_assert(!call.over);
                cr_assert(!http_client_stop(f.client));
                struct call late = {0};
                (void)call_prepare(&late, "POST", 1);
                cr_assert_eq(call_send(&f, &late), ERR_BUSY);
                call_release(&late);
                call_wait(&f, &call);
                cr_assert_eq(call.code, ERR_RESET);
                cr_assert(!call.maybe_sent);
                call_release(&call);
                teardown(&f);
        }
}

Test(http_client, stop_while_resolving_and_connecting, .timeout = 20)
{
        struct fixture f;
        struct call calls[2] = {0};
        setup(&f, LOOPBACK_NAMES, "localhost", serve_sums);
        for (int i = 0; i < 2; i++) {
                (void)call_prepare(&calls[i], "POST", 10);
                cr_assert_eq(call_send(&f, &calls[i]), ERR_OK);
        }
        client_free(&f);
        for (int i = 0; i < 2; i++) {
                cr_assert(calls[i].over);
                cr_assert_eq(calls[i].code, ERR_RESET);
                call_release(&calls[i]);
        }
        client_create(&f, "localhost");
        teardown(&f);
}

Test(http_client, a_refused_connection_says_where, .timeout = 20)
{
        struct fixture f;
        struct call call;
        setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_sums);
        client_free(&f);
        http_peer_stop(&f.peer);
        uint16_t port = f.peer.port;
        client_create(&f, "127.0.0.1");
        (void)call_run(&f, &call, 10);
        char words[64];
        (void)snprintf(words, sizeof(words), "cannot connect to 127.0.0.1 port %u", (unsigned)port);
        cr_assert_eq(call.code, ERR_CONNECT);
        cr_assert_not_null(strstr(call.why.text, words), "%s", call.why.text);
        cr_assert_not_null(strstr(call.why.text, "Connection refused"), "%s", call.why.text);
        call_release(&call);
        f.peer = (struct http_peer){.serve = serve_sums, .identity = &f.identity, .port = port};
        http_peer_start(&f.peer); /* back again, on the same port: the client goes on */
        uint64_t sum = call_run(&f, &call, 10);
        check_sums(&call, 10, sum);
        call_release(&call);
        teardown(&f);
}

/* A listener whose queue is full: a connection to it is neither made nor refused. */
struct deaf {
        int listener, fillers[8];
        struct sockaddr_in address;
};

static void deaf_start(struct deaf *deaf)
{
        socklen_t address_bytes = sizeof(deaf->address);
        deaf->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        deaf->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        cr_assert_eq(bind(deaf->listener, (struct sockaddr *)&deaf->address, sizeof(deaf->address)), 0);
        cr_assert_eq(listen(deaf->listener, 0), 0);
        cr_assert_eq(getsockname(deaf->listener, (struct sockaddr *)&deaf->address, &address_bytes), 0);
        for (int i = 0; i < 8; i++) {
                deaf->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                int result = connect(deaf->fillers[i], (struct sockaddr *)&deaf->address, sizeof(deaf->address));
                (void)result;
        }
}

static void deaf_stop(struct deaf *deaf)
{
        for (int i = 0; i < 8; i++)
                (void)close(deaf->fillers[i]);
        (void)close(deaf->listener);
}

Test(http_client, a_connection_that_is_not_answered_times_out, .timeout = 20)
{
        struct fixture f;
        struct call call;
        struct deaf deaf;
        setup_peer(&f, NULL, serve_sums);
        deaf_start(&deaf);
        f.peer.port = ntohs(deaf.address.sin_port);
        f.options.connect_timeout_ms = 300;
        client_create(&f, "127.0.0.1");
        uint64_t start = clock_monotonic_ns();
        (void)call_run(&f, &call, 10);
        cr_assert_eq(call.code, ERR_TIMEOUT, "%s", call.why.text);
        cr_assert_not_null(strstr(call.why.text, "no answer in time"), "%s", call.why.text);
        cr_assert_lt(clock_monotonic_ns() - start, 2 * CLOCK_NS_PER_S);
        call_release(&call);
        client_free(&f);
        deaf_stop(&deaf);
        io_loop_free(f.loop);
}

/* Of three addresses the first refuses, the second is deaf, the third answers; then the third is tried first. */
Test(http_client, the_addresses_of_a_name_are_tried_in_turn, .timeout = 20)
{
        struct fixture f;
        struct call call;
        struct deaf deaf;
        setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_once_and_close);
        deaf_start(&deaf);
        /* From within, because no name has such addresses everywhere. */
        struct http_addresses *addresses = &f.client->addresses;
        struct sockaddr_in *first = (struct sockaddr_in *)&addresses->storage[0];
        addresses->count = 3;
        memcpy(&addresses->storage[2], first, sizeof(*first));
        memcpy(&addresses->storage[1], &deaf.address, sizeof(deaf.address));
        first->sin_port = htons(1);
        addresses->bytes[1] = addresses->bytes[2] = addresses->bytes[0];
        f.client->options.connect_timeout_ms = 900;
        uint64_t start = clock_monotonic_ns();
        (void)call_run(&f, &call, 10);
        cr_assert_eq(call.code, ERR_OK, "%s", call.why.text);
        cr_assert_geq(clock_monotonic_ns() - start, 250 * CLOCK_NS_PER_MS);
        call_release(&call);
        start = clock_monotonic_ns();
        (void)call_run(&f, &call, 10);
        cr_assert_eq(call.code, ERR_OK, "%s", call.why.text);
        cr_assert_lt(clock_monotonic_ns() - start, 250 * CLOCK_NS_PER_MS);
        call_release(&call);
        deaf_stop(&deaf);
        teardown(&f);
}

/* ---- the next exchange is started from within `done` */

struct chain {
        struct call call;
        struct fixture *fixture;
        int left;
};

static void chain_done(struct http_exchange *exchange, enum err_code code, const struct http_response *response,
                       bool maybe_sent, const struct err *why)
{
        struct chain *chain = exchange->context;
        cr_assert_eq(code, ERR_OK, "%s", why->text);
        cr_assert(maybe_sent);
        cr_assert_eq(response->status, 200);
        if (--chain->left == 0) {
                chain->call.over = true;
                return;
        }
        cr_assert_eq(http_client_send(chain->fixture->client, exchange), ERR_OK);
        /* Still this answer. */
        cr_assert_eq(response->status, 200);
        cr_assert(slice_has_prefix(response->body, SLICE("200000 ")));
}

static void run_chain(struct fixture *f, int count)
{
        struct chain chain = {.fixture = f, .left = count};
        (void)call_prepare(&chain.call, "POST", 200000);
        chain.call.exchange.done = chain_done;
        chain.call.exchange.context = &chain;
        cr_assert_eq(http_client_send(f->client, &chain.call.exchange), ERR_OK);
        call_wait(f, &chain.call);
        call_release(&chain.call);
}

Test(http_client, exchanges_may_be_started_from_done, .timeout = 30)
{
        struct fixture f;
        setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_sums);
        run_chain(&f, 50);
        cr_assert_eq(atomic_load(&f.peer.connections), 1);
        cr_assert_eq(atomic_load(&f.peer.requests), 50);
        teardown(&f);
}

/* ---- memory */

static void check_allocations(const char *names, int version)
{
        struct fixture f;
        setup_peer(&f, names, serve_sums);
        http_peer_start(&f.peer);
        if (names != NULL)
                cr_assert_eq(SSL_CTX_set_max_proto_version(f.peer.context, version), 1);
        client_create(&f, "127.0.0.1");
        run_chain(&f, 5);
        struct chain chain = {.fixture = &f, .left = 100};
        (void)call_prepare(&chain.call, "POST", 200000);
        chain.call.exchange.done = chain_done;
        chain.call.exchange.context = &chain;
        cr_assert_eq(http_client_send(f.client, &chain.call.exchange), ERR_OK);
        allocations = 0;
        openssl_live = 0;
        openssl_largest = 0;
        allocations_counted = true;
        call_wait(&f, &chain.call);
        allocations_counted = false;
        cr_assert_eq(allocations, 0, "%llu allocations in 100 exchanges", (unsigned long long)allocations);
        /* OpenSSL 3.0 takes a block of 40 bytes three times per record (WPACKET) and gives it back at once. */
        cr_assert_eq(openssl_live, 0);
        cr_assert_leq(openssl_largest, 64);
        if (CAN_COUNT_ALLOCATIONS) { /* the counter works */
                allocations_counted = true;
                void *volatile probe = malloc(1);
                allocations_counted = false;
                free(probe);
                cr_assert_eq(allocations, 1);
        }
        call_release(&chain.call);
        cr_assert_eq(atomic_load(&f.peer.connections), 1);
        teardown(&f);
}

Test(http_client, an_exchange_allocates_nothing_but_openssl_s_short_lived_blocks, .timeout = 30)
{
        check_allocations(NULL, 0);
        check_allocations(LOOPBACK_NAMES, TLS1_3_VERSION);
        check_allocations(LOOPBACK_NAMES, TLS1_2_VERSION);
}

/* ---- servers that others wrote */

struct foreign {
        pid_t pid;
        FILE *output;
};

/* Starts `arguments` and reads its output up to a line that holds a port behind `mark`. False: it is not installed. */
static bool foreign_start(struct foreign *foreign, const char *const *arguments, const char *mark, uint16_t *ret_port)
{
        int ends[2];
        char line[512];
        cr_assert_eq(pipe(ends), 0);
        foreign->pid = fork();
        if (foreign->pid == 0) {
                (void)dup2(ends[1], STDOUT_FILENO);
                (void)dup2(ends[1], STDERR_FILENO);
                (void)close(ends[0]);
                (void)close(ends[1]);
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void)execvp(arguments[0], (char *const *)(uintptr_t)arguments);
                _exit(127);
        }
        (void)close(ends[1]);
        foreign->output = fdopen(ends[0], "r");
        while (fgets(line, sizeof(line), foreign->output) != NULL) {
                const char *at = strstr(line, mark);
                if (at == NULL)
                        continue;
                *ret_port = (uint16_t)strtoul(at + strlen(mark), NULL, 10);
                return true;
        }
        int status = 0;
        (void)waitpid(foreign->pid, &status, 0);
        (void)fclose(foreign->output);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 127, "%s ended at once", arguments[0]);
        return false;
}

static void foreign_stop(struct foreign *foreign)
{
        (void)kill(foreign->pid, SIGKILL);
        (void)waitpid(foreign->pid, NULL, 0);
        (void)fclose(foreign->output);
}

static void setup_foreign(struct fixture *f, char *certificate, char *key)
{
        setup_peer(f, LOOPBACK_NAMES, serve_sums);
        (void)strcpy(certificate, "/tmp/sendring-cert-XXXXXX");
        (void)strcpy(key, "/tmp/sendring-key-XXXXXX");
        (void)close(mkstemp(certificate));
        (void)close(mkstemp(key));
        http_peer_identity_write(&f->identity, certificate);
        http_peer_identity_write_key(&f->identity, key);
}

static void teardown_foreign(struct fixture *f, struct foreign *foreign, const char *certificate, const char *key)
{
        foreign_stop(foreign);
        http_peer_start(&f->peer); /* teardown() stops it */
        teardown(f);
        (void)unlink(certificate);
        (void)unlink(key);
}

Test(http_client, python_http_server_agrees, .timeout = 60)
{
        static const char script[] = "import http.server, ssl, sys\n"
                                     "class H(http.server.BaseHTTPRequestHandler):\n"
                                     "    protocol_version = 'HTTP/1.1'\n"
                                     "    def do_POST(self):\n"
                                     "        body = self.rfile.read(int(self.headers['Content-Length']))\n"
                                     "        out = b'%d %d' % (len(body), sum(body))\n"
                                     "        self.send_response(200)\n"
                                     "        self.send_header('x-amzn-RequestId', 'r-1')\n"
                                     "        self.send_header('Content-Length', str(len(out)))\n"
                                     "        self.end_headers()\n"
                                     "        self.wfile.write(out)\n"
                                     "    def log_message(self, *a): pass\n"
                                     "s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
                                     "c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
                                     "c.load_cert_chain(sys.argv[1], sys.argv[2])\n"
                                     "s.socket = c.wrap_socket(s.socket, server_side=True)\n"
                                     "print('port=%d' % s.server_port, flush=True)\n"
                                     "s.serve_forever()\n";
        struct fixture f;
        struct foreign foreign;
        char certificate[64], key[64];
        setup_foreign(&f, certificate, key);
        const char *const arguments[] = {"python3", "-c", script, certificate, key, NULL};
        uint16_t port = 0;
        if (!foreign_start(&foreign, arguments, "port=", &port))
                cr_skip("python3 is not installed");
        f.peer.port = port;
        client_create(&f, "127.0.0.1");
        f.peer.port = 0;
        static const size_t sizes[] = {0, 1, 100000, 4u << 20};
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                struct call call;
                uint64_t sum = call_run(&f, &call, sizes[i]);
                check_sums(&call, sizes[i], sum);
                call_release(&call);
        }
        struct http_client_stats stats;
        http_client_get_stats(f.client, &stats);
        cr_assert_eq(stats.connects, 1);
        teardown_foreign(&f, &foreign, certificate, key);
}

/* Answers in HTTP/1.0 with a page that ends with the connection. */
Test(http_client, openssl_s_server_agrees, .timeout = 60)
{
        struct fixture f;
        struct foreign foreign;
        char certificate[64], key[64];
        setup_foreign(&f, certificate, key);
        const char *const arguments[] = {"openssl", "s_server",  "-www", "-accept", "127.0.0.1:0",
                                         "-cert",   certificate, "-key", key,       NULL};
        uint16_t port = 0;
        if (!foreign_start(&foreign, arguments, "ACCEPT 127.0.0.1:", &port))
                cr_skip("openssl is not installed");
        f.peer.port = port;
        client_create(&f, "127.0.0.1");
        f.peer.port = 0;
        for (int i = 0; i < 3; i++) {
                struct call call = {0};
                (void)call_prepare(&call, "GET", 0);
                cr_assert_eq(call_send(&f, &call), ERR_OK);
                call_wait(&f, &call);
                cr_assert_eq(call.code, ERR_OK, "%s", call.why.text);
                cr_assert_eq(call.status, 200);
                cr_assert_not_null(strstr(call.answer, "TLS_AES_128_GCM_SHA256"));
                cr_assert_not_null(strstr(call.answer, i == 0 ? "New, TLSv1.3" : "Reused, TLSv1.3"), "%s", call.answer);
                call_release(&call);
        }
        teardown_foreign(&f, &foreign, certificate, key);
}
