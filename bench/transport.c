/* How much CPU does it cost to send bodies of 1 and 4 MiB by the HTTP client over TLS on loopback?
 *
 * Method: the client's thread sends bodies through egress/http.h to an OpenSSL server thread, which decrypts and
 * answers; what counts is the CPU time of the client's thread only. The floor is measured in the same run, in one
 * thread, on the same bytes: AES-128-GCM by EVP in records of 16 KiB, plus send(2) of the same number of bytes to a
 * loopback socket that another thread drains. Rounds of both alternate; the median counts.
 *
 * It does not measure: signing, the network, the server, latency, or how much of the loopback's receive side the kernel
 * books on the sender (the floor pays it as well).
 *
 * usage: transport [--json] [--megabytes N] [--rounds N] [--smoke]
 */
#include "base/clock.h"
#include "bench/figures.h"
#include "egress/http.h"
#include "tests/support/http_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BENCH_ROUNDS_MAX 31
#define BENCH_BODY_MAX   ((size_t)4 << 20)
#define BENCH_RECORD     ((size_t)16384)
#define BENCH_OUT        ((size_t)256 * 1024)

#define REQUIRE(condition)                                                                               \
        do {                                                                                             \
                if (!(condition)) {                                                                      \
                        (void)fprintf(stderr, "transport: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
                        exit(1);                                                                         \
                }                                                                                        \
        } while (0)

static uint8_t bench_body[BENCH_BODY_MAX];

/* ---- the client */

struct bench_call {
        struct http_exchange exchange; /* first: the callback casts */
        struct http_client *client;
        uint64_t left;
};

static void bench_done(struct http_exchange *exchange, enum err_code code, const struct http_response *response,
                       bool maybe_sent, const struct err *why)
{
        struct bench_call *call = (struct bench_call *)exchange;
        (void)maybe_sent;
        if (code != ERR_OK || response->status != 200) {
                (void)fprintf(stderr, "transport: %s\n", code == ERR_OK ? "not 200" : why->text);
                exit(1);
        }
        if (--call->left > 0)
                REQUIRE(http_client_send(call->client, exchange) == ERR_OK);
}

/* Thread CPU of `count` bodies, one after the other. */
static uint64_t bench_client(struct io_loop *loop, struct http_client *client, size_t body_bytes, uint64_t count,
                             uint64_t *ret_wall_ns)
{
        char head[256];
        (void)snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", body_bytes);
        struct bench_call call = {.client = client, .left = count};
        call.exchange.done = bench_done;
        call.exchange.head = slice_of_text(head);
        call.exchange.body = slice_of(bench_body, body_bytes);
        uint64_t cpu = clock_thread_cpu_ns(), wall = clock_monotonic_ns();
        REQUIRE(http_client_send(client, &call.exchange) == ERR_OK);
        while (call.left > 0)
                (void)io_loop_turn(loop, IO_FOREVER);
        *ret_wall_ns = clock_monotonic_ns() - wall;
        return clock_thread_cpu_ns() - cpu;
}

/* Reads whatever comes; the sizes are in the head. */
static void bench_serve(struct http_peer_connection *connection)
{
        static const char field[] = "\r\nContent-Length: ";
        static uint8_t bytes[1u << 20];
        while (http_peer_read_head(connection)) {
                const char *at = strstr(connection->head, field);
                REQUIRE(at != NULL);
                for (size_t left = strtoul(at + sizeof(field) - 1, NULL, 10), got = 0; left > 0; left -= got) {
                        if (connection->ssl != NULL) {
                                if (SSL_read_ex(connection->ssl, bytes, sizeof(bytes), &got) != 1)
                                        return;
                        } else {
                                ssize_t result = read(connection->fd, bytes, sizeof(bytes));
                                if (result <= 0)
                                        return;
                                got = (size_t)result;
                        }
                }
                if (!http_peer_write_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
                        return;
        }
}

/* ---- the floor */

static uint64_t bench_encrypt(uint64_t bytes)
{
        static uint8_t out[BENCH_RECORD + 64];
        static const uint8_t key[16] = {1}, extra[5] = {23, 3, 3, 64, 17};
        uint8_t nonce[12] = {0}, tag[16];
        EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
        REQUIRE(context != NULL && EVP_EncryptInit_ex(context, EVP_aes_128_gcm(), NULL, key, nonce) == 1);
        uint64_t cpu = clock_thread_cpu_ns();
        for (uint64_t done = 0; done < bytes; done += BENCH_RECORD) {
                int len = 0;
                memcpy(nonce, &done, sizeof(done));
                REQUIRE(EVP_EncryptInit_ex(context, NULL, NULL, NULL, nonce) == 1);
                REQUIRE(EVP_EncryptUpdate(context, NULL, &len, extra, sizeof(extra)) == 1);
                REQUIRE(EVP_EncryptUpdate(context, out, &len, bench_body + done % BENCH_BODY_MAX, (int)BENCH_RECORD) ==
                        1);
                REQUIRE(EVP_EncryptFinal_ex(context, out + len, &len) == 1);
                REQUIRE(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, sizeof(tag), tag) == 1);
        }
        cpu = clock_thread_cpu_ns() - cpu;
        EVP_CIPHER_CTX_free(context);
        return cpu;
}

static void *bench_drain(void *argument)
{
        static uint8_t bytes[1u << 20];
        while (read(*(int *)argument, bytes, sizeof(bytes)) > 0)
                ;
        return NULL;
}

static uint64_t bench_send(uint64_t bytes)
{
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
            out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t address_bytes = sizeof(address);
        REQUIRE(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 1) == 0);
        REQUIRE(getsockname(listener, (struct sockaddr *)&address, &address_bytes) == 0);
        REQUIRE(connect(out, (struct sockaddr *)&address, sizeof(address)) == 0);
        int in = accept(listener, NULL, NULL);
        pthread_t thread;
        REQUIRE(in >= 0 && pthread_create(&thread, NULL, bench_drain, &in) == 0);
        uint64_t cpu = clock_thread_cpu_ns();
        for (uint64_t done = 0; done < bytes; done += BENCH_OUT) {
                for (size_t part = 0; part < BENCH_OUT;) {
                        ssize_t sent = send(out, bench_body + part, BENCH_OUT - part, MSG_NOSIGNAL);
                        REQUIRE(sent > 0);
                        part += (size_t)sent;
                }
        }
        cpu = clock_thread_cpu_ns() - cpu;
        (void)close(out);
        REQUIRE(pthread_join(thread, NULL) == 0);
        (void)close(in);
        (void)close(listener);
        return cpu;
}

/* ---- figures */

static void bench_print(bool json, const char *metric, double value, const char *unit, double floor)
{
        if (json && floor > 0)
                (void)printf("{\"bench\":\"transport\",\"metric\":\"%s\",\"value\":%.4f,\"unit\":\"%s\",\"floor\":%.4f,"
                             "\"ratio\":%.3f}\n",
                             metric, value, unit, floor, value / floor);
        else if (json)
                (void)printf("{\"bench\":\"transport\",\"metric\":\"%s\",\"value\":%.4f,\"unit\":\"%s\",\"floor\":null,"
                             "\"ratio\":null}\n",
                             metric, value, unit);
        else if (floor > 0)
                (void)printf("%-24s %8.4f %-10s floor %.4f  ratio %.2f\n", metric, value, unit, floor, value / floor);
        else
                (void)printf("%-24s %8.4f %s\n", metric, value, unit);
}

static void bench_run(bool json, bool tls, size_t body_bytes, uint64_t total_bytes, unsigned rounds)
{
        struct err err;
        struct http_peer_identity authority = http_peer_identity_make(NULL, NULL, 0, 2);
        struct http_peer_identity identity = http_peer_identity_make("IP:127.0.0.1", &authority, 0, 2);
        struct http_peer peer = {.serve = bench_serve, .identity = tls ? &identity : NULL};
        char bundle[] = "/tmp/sendring-bench-XXXXXX", url[64];
        struct io_options io = {.entries = 64};
        struct http_client_options options = {.connections_max = 1,
                                              .connect_timeout_ms = 5000,
                                              .request_timeout_ms = 30000,
                                              .idle_timeout_ms = 30000,
                                              .response_body_bytes_max = 65536};
        struct http_client *client = NULL;
        struct http_tls *context = NULL;
        REQUIRE(close(mkstemp(bundle)) == 0);
        http_peer_identity_write(&authority, bundle);
        http_peer_start(&peer);
        (void)snprintf(url, sizeof(url), "%s://127.0.0.1:%u/", tls ? "https" : "http", (unsigned)peer.port);
        REQUIRE(io_loop_create(&io, &options.loop, &err) == ERR_OK);
        REQUIRE(http_url_parse(slice_of_text(url), &options.url, &err) == ERR_OK);
        if (tls)
                REQUIRE(http_tls_create(bundle, &context, &err) == ERR_OK);
        options.tls = context;
        REQUIRE(http_client_create(&options, &client, &err) == ERR_OK);

        uint64_t count = total_bytes / body_bytes, bytes = count * body_bytes, wall = 0;
        double values[BENCH_ROUNDS_MAX], floors[BENCH_ROUNDS_MAX], rates[BENCH_ROUNDS_MAX];
        (void)bench_client(options.loop, client, body_bytes, 8, &wall); /* warm up */
        for (unsigned i = 0; i < rounds; i++) {
                uint64_t floor = bench_send(bytes) + (tls ? bench_encrypt(bytes) : 0);
                uint64_t cpu = bench_client(options.loop, client, body_bytes, count, &wall);
                values[i] = (double)cpu / (double)bytes; /* ns per byte = s per GB */
                floors[i] = (double)floor / (double)bytes;
                rates[i] = (double)bytes / (double)wall;
        }
        char metric[64];
        (void)snprintf(metric, sizeof(metric), "%s_%zu_mib", tls ? "tls" : "plain", body_bytes >> 20);
        bench_print(json, metric, figures_median(values, rounds), "cpu_s/GB", figures_median(floors, rounds));
        (void)snprintf(metric, sizeof(metric), "%s_%zu_mib_rate", tls ? "tls" : "plain", body_bytes >> 20);
        bench_print(json, metric, figures_median(rates, rounds), "GB/s", 0);

        while (!http_client_stop(client))
                (void)io_loop_turn(options.loop, 100 * CLOCK_NS_PER_MS);
        http_client_free(client);
        http_peer_stop(&peer);
        http_tls_free(context);
        (void)io_loop_turn(options.loop, 0);
        io_loop_free(options.loop);
        http_peer_identity_release(&identity);
        http_peer_identity_release(&authority);
        (void)unlink(bundle);
}

int main(int argc, char **argv)
{
        bool json = false;
        uint64_t megabytes = 256, rounds = 5;
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--json") == 0) {
                        json = true;
                } else if (strcmp(argv[i], "--smoke") == 0) {
                        megabytes = 16;
                        rounds = 1;
                } else if (i + 1 < argc &&
                           ((strcmp(argv[i], "--megabytes") == 0 &&
                             slice_to_u64(slice_of_text(argv[i + 1]), 1u << 20, &megabytes) && megabytes >= 4) ||
                            (strcmp(argv[i], "--rounds") == 0 &&
                             slice_to_u64(slice_of_text(argv[i + 1]), BENCH_ROUNDS_MAX, &rounds) && rounds >= 1))) {
                        i++;
                } else {
                        (void)fprintf(stderr,
                                      "usage: transport [--json] [--megabytes 4..] [--rounds 1..%d] [--smoke]\n",
                                      BENCH_ROUNDS_MAX);
                        return 1;
                }
        }
        for (size_t i = 0; i < sizeof(bench_body); i++)
                bench_body[i] = (uint8_t)(i * 2654435761u >> 20);
        bench_run(json, true, (size_t)1 << 20, megabytes << 20, (unsigned)rounds);
        bench_run(json, true, (size_t)4 << 20, megabytes << 20, (unsigned)rounds);
        bench_run(json, false, (size_t)4 << 20, megabytes << 20, (unsigned)rounds);
        return 0;
}
