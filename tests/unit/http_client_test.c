/* The HTTP client: what a good peer gets, who the peer is, sessions, the pool, memory; and servers that others wrote.
 */
#include "tests/support/http_client_rig.h"
#include "tests/support/sanitizers.h"

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
#if SANITIZER_ADDRESS || SANITIZER_THREAD
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

/* ---- what a good peer does */

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
