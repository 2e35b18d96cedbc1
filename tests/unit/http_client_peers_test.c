/* The HTTP client and peers that are no good: they close, reset, stall, trickle, answer too early or nonsense. */
#include "tests/support/http_client_rig.h"

#include <netinet/in.h>

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

Test(http_client_peers, an_idle_connection_that_the_peer_closed_is_replaced, .timeout = 20)
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

Test(http_client_peers, a_kept_connection_that_dies_before_its_answer_is_replaced_once, .timeout = 20)
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

Test(http_client_peers, an_exchange_that_must_not_be_done_twice_is_not_replaced, .timeout = 20)
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

Test(http_client_peers, a_new_connection_that_is_reset_is_not_retried, .timeout = 20)
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

Test(http_client_peers, a_reset_in_the_middle_of_an_answer_is_reported_not_retried, .timeout = 20)
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

Test(http_client_peers, a_body_until_close_needs_tls_goodbye, .timeout = 20)
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

Test(http_client_peers, a_silent_peer_times_out, .timeout = 20)
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

Test(http_client_peers, bytes_that_trickle_do_not_outlast_the_deadline, .timeout = 20)
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

Test(http_client_peers, answers_without_end_are_given_up_long_before_the_deadline, .timeout = 30)
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

Test(http_client_peers, a_peer_that_does_not_read_times_out_and_has_not_seen_the_whole, .timeout = 20)
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

Test(http_client_peers, a_slow_reader_gets_everything, .timeout = 30)
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

Test(http_client_peers, a_tls_handshake_that_never_ends_times_out, .timeout = 20)
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

Test(http_client_peers, idle_connections_are_closed_after_their_time, .timeout = 20)
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

Test(http_client_peers, an_early_answer_is_read_although_the_peer_stops_reading, .timeout = 30)
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

Test(http_client_peers, success_before_the_end_of_the_request_is_not_believed, .timeout = 30)
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

Test(http_client_peers, answers_of_all_kinds_are_read, .timeout = 30)
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

/* Each answer comes a second time, behind the request that follows: by their order it would be that one's. The third
 * request of a connection has an answer of its own again. */
static void serve_late_double(struct http_peer_connection *connection)
{
        static const char answer[] = "HTTP/1.1 200 OK\r\nx-amzn-RequestId: %s-%u-%u\r\nContent-Length: 1\r\n\r\n%u";
        const char *name = connection->peer->argument;
        char text[200];
        for (unsigned i = 0; http_peer_read_request(connection); i++) {
                (void)snprintf(text, sizeof(text), answer, name, connection->index, i / 2, i / 2);
                (void)http_peer_write_text(connection, text);
        }
}

Test(http_client_peers, an_answer_that_comes_once_more_behind_the_next_request_is_not_its_answer, .timeout = 20)
{
        static char of_aws[] = "7f3c2c1e-5d0a-4b0b-9d53-0123456789ab", made_up[] = "1";
        struct fixture f;
        setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_late_double);
        f.peer.argument = of_aws;
        for (unsigned i = 0; i < 4; i++) {
                struct call call;
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, i % 2 == 0 ? ERR_OK : ERR_PROTOCOL, "%u: %s", i, call.why.text);
                cr_assert(i % 2 == 0 || call.maybe_sent);
                cr_assert(i % 2 == 0 || strstr(call.why.text, "once more") != NULL, "%s", call.why.text);
                call_release(&call);
        }
        cr_assert_eq(atomic_load(&f.peer.connections), 2, "each on a new connection, behind one that failed");
        /* A stand-in's ids tell nothing. */
        f.peer.argument = made_up;
        for (unsigned i = 0; i < 4; i++) {
                struct call call;
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, ERR_OK, "%s", call.why.text);
                call_release(&call);
        }
        teardown(&f);
}

/* A gateway's: one for all answers. */
static void serve_one_id(struct http_peer_connection *connection)
{
        while (http_peer_read_request(connection))
                (void)http_peer_write_text(connection,
                                           "HTTP/1.1 200 OK\r\nx-amzn-RequestId: 00000000-0000-0000-0000-000000000000"
                                           "\r\nContent-Length: 1\r\n\r\n1");
}

Test(http_client_peers, an_endpoint_with_one_id_for_all_fails_once, .timeout = 20)
{
        struct fixture f;
        setup(&f, LOOPBACK_NAMES, "127.0.0.1", serve_one_id);
        for (unsigned i = 0; i < 8; i++) {
                struct call call;
                (void)call_run(&f, &call, 10);
                cr_assert_eq(call.code, i == 1 ? ERR_PROTOCOL : ERR_OK, "%u: %s", i, call.why.text);
                call_release(&call);
        }
        cr_assert_eq(atomic_load(&f.peer.connections), 2);
        teardown(&f);
}

static void serve_garbage(struct http_peer_connection *connection)
{
        if (http_peer_read_request(connection)) {
                (void)http_peer_write_text(connection, "ICY 200 OK\r\n\r\n");
                serve_stall(connection);
        }
}

Test(http_client_peers, garbage_is_a_protocol_error_at_once, .timeout = 20)
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

Test(http_client_peers, an_answer_nobody_asked_for_ends_the_connection, .timeout = 20)
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
