/* One connection slot of the HTTP client: a small machine driven by completions.
 *
 *      CLOSED --> RESOLVING --> CONNECTING --> HANDSHAKING --> SENDING --> RECEIVING --> IDLE --> SENDING ...
 *        ^            |             |               |             |            |          |
 *        +------------+-------------+---------- CLOSING <---------+------------+----------+
 *
 * A slot leaves CLOSED only for an exchange, and an exchange stays with its slot until `done`. Two operations per slot:
 * `out` (connect, then sends) and `in` (receives). A receive is always under way from the end of the TCP handshake to
 * CLOSING, so that early answers, session tickets and the peer's goodbye are seen when they come. CLOSING waits until
 * the kernel has let go of both operations' memory, then says what came of the exchange.
 */
#include "egress/http_connection.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>

/* How long the end of a send may take after its whole answer has come, before the connection is given up. */
#define HTTP_LINGER_NS (100 * CLOCK_NS_PER_MS)
/* How long to look for an answer after a send has failed: it may lie in the receive buffer already. */
#define HTTP_LAST_WORDS_NS CLOCK_NS_PER_S
/* The least that one of several addresses gets of the connect timeout. */
#define HTTP_ADDRESS_NS_MIN (250 * CLOCK_NS_PER_MS)

static const struct err http_no_error;

static void http_deadline_set(struct http_connection *connection, uint64_t deadline_ns)
{
        connection->deadline_ns = deadline_ns;
        http_client_timer_set(connection->client, deadline_ns);
}

static uint64_t http_after_ms(uint32_t duration_ms)
{
        return clock_monotonic_ns() + duration_ms * CLOCK_NS_PER_MS;
}

/* ---- the end of a connection */

static bool http_request_is_whole(const struct http_connection *connection)
{
        if (connection->head_left.len > 0 || connection->body_left.len > 0)
                return false;
        for (int i = 0; i < 2; i++) {
                if (connection->tls.out[i].len > connection->tls.out[i].sent)
                        return false;
        }
        return true;
}

/* Nothing is the kernel's any more: say what came of it. */
static void http_connection_closed(struct http_connection *connection)
{
        struct http_client *client = connection->client;
        struct http_exchange *exchange = connection->exchange;
        ASSERT(connection->state == HTTP_CLOSING);
        ASSERT(!connection->in.submitted && !connection->out.submitted);
        bool maybe_sent = connection->established && http_request_is_whole(connection);
        if (connection->fd >= 0)
                io_socket_close(connection->fd);
        connection->fd = -1;
        if (client->options.tls != NULL)
                http_tls_session_close(&connection->tls);
        connection->state = HTTP_CLOSED;
        client->open--;
        if (exchange == NULL)
                return;
        if (connection->retry && !client->stopping) {
                client->open++;
                connection->retried = true;
                http_connection_start(connection, exchange);
                return;
        }
        connection->exchange = NULL;
        exchange->connection = NULL;
        client->busy--;
        if (connection->outcome == ERR_OK) {
                client->stats.exchanges++;
                exchange->done(exchange, ERR_OK, http_parser_response(connection->parser), true, &http_no_error);
                return;
        }
        /* A copy: the callback may start another exchange here. */
        struct err why = connection->why;
        exchange->done(exchange, why.code, NULL, maybe_sent, &why);
}

static void http_drained_done(struct io_op *op, int32_t result, bool more)
{
        (void)result;
        (void)more;
        http_connection_closed(IO_OWNER(op, struct http_connection, drained));
}

static void http_connection_close(struct http_connection *connection)
{
        struct io_loop *loop = connection->client->options.loop;
        ASSERT(http_connection_is_waiting(connection));
        connection->state = HTTP_CLOSING;
        /* A cancel that meets a send between two waits for room is lost on it; the shutdown is not. */
        if (connection->fd >= 0)
                io_socket_shutdown(connection->fd);
        io_cancel(loop, &connection->out);
        io_cancel(loop, &connection->in);
        /* Never at once: `done` must not run within http_client_send(). */
        if (!connection->out.submitted && !connection->in.submitted)
                io_post(loop, &connection->drained);
}

/* Ends exchange (if there is one) and connection; connection->why is filled. */
static void http_connection_fail(struct http_connection *connection)
{
        connection->outcome = connection->why.code;
        ASSERT(connection->outcome != ERR_OK);
        if (!connection->established && !connection->client->stopping)
                connection->client->stats.connect_failures++;
        http_connection_close(connection);
}

static bool http_request_id_is(const struct http_request_id *known, struct slice id)
{
        return id.len >= HTTP_REQUEST_ID_BYTES_MIN && slice_equal(id, slice_of(known->text, known->len));
}

static void http_request_id_set(struct http_request_id *known, struct slice id)
{
        known->len = id.len <= HTTP_REQUEST_ID_BYTES_MAX ? id.len : 0;
        if (known->len > 0)
                memcpy(known->text, id.ptr, known->len);
}

/* Whether the answer is that of the request before once more: it came behind this request, and by HTTP's rules it would
 * be its answer. */
static bool http_answer_is_old(const struct http_connection *connection)
{
        return !connection->client->ids_repeat &&
               http_request_id_is(&connection->answered_id, http_parser_response(connection->parser)->request_id);
}

/* A gateway may give all answers one id: then a new connection begins with it, too, and it is no sign of anything. */
static void http_answer_note_id(struct http_connection *connection)
{
        struct http_client *client = connection->client;
        const struct slice id = http_parser_response(connection->parser)->request_id;
        if (connection->answers == 1 && !client->ids_repeat && http_request_id_is(&client->newest_id, id)) {
                client->ids_repeat = true;
                log_info("an endpoint gives several answers one request id", "endpoint=%s:%s", client->options.url.host,
                         client->options.url.port);
        }
        http_request_id_set(&client->newest_id, id);
}

/* Ends the connection and hands its answer out. An answer of success to a request of which the peer cannot have seen
 * the end is none, and neither is one that was another request's. */
static void http_connection_answer_and_close(struct http_connection *connection)
{
        uint16_t status = http_parser_response(connection->parser)->status;
        connection->outcome = ERR_OK;
        connection->why = (struct err){0};
        if (status < 300 && !http_request_is_whole(connection))
                connection->outcome =
                        err_set(&connection->why, ERR_PROTOCOL, "%s answered %u before it had the whole request",
                                connection->client->options.url.host, (unsigned)status);
        else if (http_answer_is_old(connection))
                connection->outcome =
                        err_set(&connection->why, ERR_PROTOCOL, "%s answered the request before once more",
                                connection->client->options.url.host);
        http_connection_close(connection);
}

/* The connection is dead, and connection->why says how. On a kept connection the peer's idle timeout may have crossed
 * our request: try once more on a new one. */
static void http_connection_lost(struct http_connection *connection)
{
        bool twice = connection->exchange != NULL && connection->exchange->once && http_request_is_whole(connection);
        connection->retry = connection->answers > 0 && !connection->answer_begun && !connection->retried && !twice;
        http_connection_fail(connection);
}

/* ---- connecting */

static void http_connection_next_address(struct http_connection *connection);

static void http_connection_resolve(struct http_connection *connection)
{
        struct http_client *client = connection->client;
        if (client->resolver_entry == NULL) {
                http_connection_next_address(connection);
                return;
        }
        enum err_code code = ERR_INCOMPLETE;
        if (!client->resolving) {
                code = http_resolve_get(client->resolver_entry, &client->waiter, &client->addresses);
                client->resolving = code == ERR_INCOMPLETE;
        }
        if (code == ERR_OK)
                http_connection_next_address(connection);
        else
                http_deadline_set(connection, connection->connect_deadline_ns);
}

/* Tries the next address, or fails with what the last one said. */
static void http_connection_next_address(struct http_connection *connection)
{
        struct http_client *client = connection->client;
        ASSERT(!connection->out.submitted);
        ASSERT(client->addresses.count > 0);
        if (connection->fd >= 0)
                io_socket_close(connection->fd);
        connection->fd = -1;
        connection->state = HTTP_CONNECTING;
        uint64_t now = clock_monotonic_ns();
        if (connection->addresses_tried > 0 &&
            (connection->addresses_tried >= client->addresses.count || now >= connection->connect_deadline_ns)) {
                http_connection_fail(connection);
                return;
        }
        uint32_t addresses_left = client->addresses.count - connection->addresses_tried;
        connection->address_index = (client->address_good + connection->addresses_tried) % client->addresses.count;
        connection->addresses_tried++;
        connection->address_late = false;
        const struct sockaddr *address = (const struct sockaddr *)&client->addresses.storage[connection->address_index];
        connection->fd = io_socket(address->sa_family);
        if (connection->fd < 0) {
                enum err_code code = errno == EMFILE || errno == ENFILE ? ERR_LIMIT : ERR_SYSTEM;
                (void)err_set_errno(&connection->why, code, errno, "cannot create a socket for %s",
                                    client->options.url.host);
                /* The host may lack one of the address families. */
                if (errno == EAFNOSUPPORT && addresses_left > 1)
                        http_connection_next_address(connection);
                else
                        http_connection_fail(connection);
                return;
        }
        uint64_t share =
                connection->connect_deadline_ns > now ? (connection->connect_deadline_ns - now) / addresses_left : 0;
        uint64_t deadline = now + (share > HTTP_ADDRESS_NS_MIN ? share : HTTP_ADDRESS_NS_MIN);
        http_deadline_set(connection,
                          deadline < connection->connect_deadline_ns ? deadline : connection->connect_deadline_ns);
        io_connect(client->options.loop, &connection->out, connection->fd, address,
                   client->addresses.bytes[connection->address_index]);
}

static void http_connection_connect_failed(struct http_connection *connection, int32_t result)
{
        const struct http_client *client = connection->client;
        char address[NI_MAXHOST] = "?";
        /* Numeric: no look-up; on failure the question mark stays. */
        (void)getnameinfo((const struct sockaddr *)&client->addresses.storage[connection->address_index],
                          client->addresses.bytes[connection->address_index], address, sizeof(address), NULL, 0,
                          NI_NUMERICHOST);
        if (connection->address_late)
                (void)err_set(&connection->why, ERR_TIMEOUT, "cannot connect to %s port %s (%s): no answer in time",
                              client->options.url.host, client->options.url.port, address);
        else
                (void)err_set_errno(&connection->why, ERR_CONNECT, -result, "cannot connect to %s port %s (%s)",
                                    client->options.url.host, client->options.url.port, address);
        http_connection_next_address(connection);
}

/* ---- sending */

static void http_connection_answered(struct http_connection *connection);

static void http_connection_all_sent(struct http_connection *connection)
{
        connection->state = HTTP_RECEIVING;
        if (connection->answer_whole)
                http_connection_answered(connection);
}

/* Sends the body from where it lies. */
static void http_connection_pump_plain(struct http_connection *connection)
{
        struct slice *left = connection->head_left.len > 0 ? &connection->head_left : &connection->body_left;
        if (connection->out.submitted || connection->send_failed || connection->state != HTTP_SENDING)
                return;
        if (left->len == 0) {
                http_connection_all_sent(connection);
                return;
        }
        connection->out_bytes = left->len;
        io_send(connection->client->options.loop, &connection->out, connection->fd, left->ptr, left->len);
}

static void http_connection_submit_tls(struct http_connection *connection)
{
        struct http_tls_buffer *buffer = &connection->tls.out[connection->out_buffer];
        connection->out_bytes = buffer->len - buffer->sent;
        io_send(connection->client->options.loop, &connection->out, connection->fd, buffer->bytes + buffer->sent,
                connection->out_bytes);
}

/* Keeps the kernel sending from one buffer while the other is filled. */
static void http_connection_pump_tls(struct http_connection *connection)
{
        struct http_tls_session *tls = &connection->tls;
        for (;;) {
                if (connection->send_failed)
                        return;
                if (connection->state == HTTP_SENDING &&
                    (http_tls_session_write(tls, &connection->head_left, &connection->why) != ERR_OK ||
                     (connection->head_left.len == 0 &&
                      http_tls_session_write(tls, &connection->body_left, &connection->why) != ERR_OK))) {
                        http_connection_fail(connection);
                        return;
                }
                struct http_tls_buffer *filled = &tls->out[tls->fill];
                if (connection->out.submitted || filled->len == 0)
                        break;
                connection->out_buffer = tls->fill;
                tls->fill ^= 1;
                ASSERT(tls->out[tls->fill].len == 0);
                http_connection_submit_tls(connection);
        }
        if (connection->state == HTTP_SENDING && !connection->out.submitted && http_request_is_whole(connection))
                http_connection_all_sent(connection);
}

static void http_connection_pump(struct http_connection *connection)
{
        if (connection->client->options.tls != NULL)
                http_connection_pump_tls(connection);
        else
                http_connection_pump_plain(connection);
}

/* Books what the kernel took, also when the send was cut short by a cancel. A connect, which ends with 0 or an error,
 * books nothing. */
static void http_connection_book_sent(struct http_connection *connection, int32_t result)
{
        if (result <= 0)
                return;
        size_t sent = (size_t)result;
        connection->client->stats.bytes_sent += sent;
        ASSERT(sent <= connection->out_bytes);
        if (connection->client->options.tls != NULL) {
                struct http_tls_buffer *buffer = &connection->tls.out[connection->out_buffer];
                buffer->sent += sent;
                if (buffer->sent == buffer->len)
                        buffer->len = buffer->sent = 0;
        } else {
                struct slice *left = connection->head_left.len > 0 ? &connection->head_left : &connection->body_left;
                *left = slice_from(*left, sent);
        }
}

static void http_connection_sent(struct http_connection *connection, int32_t result)
{
        if (result < 0 && result != -EINTR) {
                connection->send_failed = true;
                (void)err_set_errno(&connection->why, ERR_RESET, -result,
                                    "%s closed the connection while the request was being sent",
                                    connection->client->options.url.host);
                if (connection->state == HTTP_IDLE) {
                        http_connection_close(connection);
                } else if (connection->answer_whole) {
                        http_connection_answer_and_close(connection);
                } else if (connection->state == HTTP_SENDING) {
                        /* The reason may be on its way, or here already: the receive ends with it or with the same
                         * error. */
                        connection->state = HTTP_RECEIVING;
                        uint64_t last_words = clock_monotonic_ns() + HTTP_LAST_WORDS_NS;
                        if (last_words < connection->deadline_ns)
                                http_deadline_set(connection, last_words);
                }
                return;
        }
        bool short_of_buffer =
                connection->client->options.tls != NULL && connection->tls.out[connection->out_buffer].len > 0;
        if (short_of_buffer)
                http_connection_submit_tls(connection);
        http_connection_pump(connection);
}

static void http_connection_begin_request(struct http_connection *connection)
{
        connection->established = true;
        connection->state = HTTP_SENDING;
        connection->head_left = connection->exchange->head;
        connection->body_left = connection->exchange->body;
        connection->answer_begun = connection->answer_whole = connection->dirty = false;
        http_deadline_set(connection, http_after_ms(connection->client->options.request_timeout_ms));
        http_connection_pump(connection);
}

/* ---- receiving */

static void http_connection_receive(struct http_connection *connection)
{
        if (connection->client->options.tls != NULL)
                io_recv(connection->client->options.loop, &connection->in, connection->fd, connection->tls.in,
                        HTTP_TLS_IN_BYTES);
        else
                io_recv(connection->client->options.loop, &connection->in, connection->fd, connection->plain,
                        HTTP_PLAIN_BYTES);
}

/* The answer is whole and the request is out of our hands. The receive is under way again. */
static void http_connection_answered(struct http_connection *connection)
{
        struct http_client *client = connection->client;
        const struct http_response *response = http_parser_response(connection->parser);
        ASSERT(connection->state == HTTP_RECEIVING);
        connection->answers++;
        http_answer_note_id(connection);
        if (!response->keep_alive || connection->dirty || connection->send_failed || client->stopping ||
            http_answer_is_old(connection)) {
                http_connection_answer_and_close(connection);
                return;
        }
        http_request_id_set(&connection->answered_id, response->request_id);
        struct http_exchange *exchange = connection->exchange;
        connection->state = HTTP_IDLE;
        connection->used_ns = clock_monotonic_ns();
        http_deadline_set(connection, http_after_ms(client->options.idle_timeout_ms));
        connection->exchange = NULL;
        exchange->connection = NULL;
        client->busy--;
        client->stats.exchanges++;
        /* The slot may be in use again when this returns; its parser is reset by the first byte of the next answer. */
        exchange->done(exchange, ERR_OK, response, true, &http_no_error);
}

/* Bytes of the answer, decrypted. False when the connection was given up. */
static bool http_connection_feed(struct http_connection *connection, struct slice bytes)
{
        if (connection->exchange == NULL || connection->answer_whole) {
                connection->dirty = true; /* nobody asked for it */
                return true;
        }
        if (!connection->answer_begun) {
                http_parser_reset(connection->parser);
                connection->answer_begun = true;
        }
        size_t used = 0;
        enum err_code code = http_parser_feed(connection->parser, bytes, &used);
        if (code == ERR_INCOMPLETE)
                return true;
        if (code == ERR_OK) {
                connection->answer_whole = true;
                connection->dirty = used < bytes.len;
                return true;
        }
        if (code == ERR_TOO_BIG)
                (void)err_set(&connection->why, code, "the answer of %s is larger than %zu bytes",
                              connection->client->options.url.host,
                              connection->client->options.response_body_bytes_max);
        else
                (void)err_set(&connection->why, code, "the answer of %s is not valid HTTP/1.1",
                              connection->client->options.url.host);
        http_connection_fail(connection);
        return false;
}

/* The peer ended the stream; `orderly` when it did so by the book. */
static void http_connection_ended(struct http_connection *connection, bool orderly, int32_t result)
{
        const char *host = connection->client->options.url.host;
        if (connection->state == HTTP_IDLE) {
                http_connection_close(connection);
                return;
        }
        if (connection->state == HTTP_HANDSHAKING) {
                if (result < 0)
                        (void)err_set_errno(&connection->why, ERR_TLS, -result, "TLS handshake with %s failed", host);
                else
                        (void)err_set(&connection->why, ERR_TLS,
                                      "TLS handshake with %s failed: the peer closed the connection; check that port "
                                      "%s speaks TLS",
                                      host, connection->client->options.url.port);
                http_connection_fail(connection);
                return;
        }
        if (!connection->answer_whole && connection->answer_begun && orderly &&
            http_parser_end(connection->parser) == ERR_OK)
                connection->answer_whole = true;
        if (connection->answer_whole) {
                http_connection_answer_and_close(connection);
                return;
        }
        const char *when = connection->answer_begun ? "in the middle of its answer"
                           : connection->state == HTTP_SENDING || connection->send_failed
                                   ? "while the request was being sent"
                                   : "before it answered";
        if (result < 0)
                (void)err_set_errno(&connection->why, ERR_RESET, -result, "connection to %s lost %s", host, when);
        else
                (void)err_set(&connection->why, ERR_RESET, "%s closed the connection %s", host, when);
        http_connection_lost(connection);
}

/* Decrypts and parses what has come. False when the connection was given up or has ended. */
static bool http_connection_read_tls(struct http_connection *connection)
{
        struct http_client *client = connection->client;
        if (connection->state == HTTP_HANDSHAKING) {
                enum err_code code = http_tls_session_handshake(&connection->tls, &connection->why);
                if (code == ERR_OK) {
                        client->stats.connects++;
                        client->stats.tls_resumptions += http_tls_session_resumed(&connection->tls);
                        http_connection_begin_request(connection);
                } else if (code != ERR_INCOMPLETE) {
                        (void)err_wrap(&connection->why, "https://%s:%s", client->options.url.host,
                                       client->options.url.port);
                        http_connection_fail(connection);
                } else {
                        http_connection_pump(connection);
                }
                if (connection->state == HTTP_HANDSHAKING)
                        return true;
        }
        while (http_connection_is_waiting(connection)) {
                size_t len = 0;
                enum err_code code = http_tls_session_read(&connection->tls, connection->plain, HTTP_PLAIN_BYTES, &len,
                                                           &connection->why);
                if (code == ERR_INCOMPLETE)
                        return true;
                if (code == ERR_EMPTY) {
                        http_connection_ended(connection, true, 0);
                        return false;
                }
                if (code != ERR_OK) {
                        (void)err_wrap(&connection->why, "https://%s:%s", client->options.url.host,
                                       client->options.url.port);
                        http_connection_fail(connection);
                        return false;
                }
                if (!http_connection_feed(connection, slice_of(connection->plain, len)))
                        return false;
        }
        return false;
}

static void http_connection_received(struct http_connection *connection, int32_t result)
{
        bool tls = connection->client->options.tls != NULL;
        if (result == -EINTR) {
                http_connection_receive(connection);
                return;
        }
        if (result <= 0) {
                /* Over TLS only close_notify ends a body rightly: anybody can forge the end of a TCP stream. */
                http_connection_ended(connection, result == 0 && !tls, result);
                return;
        }
        connection->client->stats.bytes_received += (uint64_t)result;
        if (tls) {
                connection->tls.in_at = 0;
                connection->tls.in_len = (size_t)result;
                if (!http_connection_read_tls(connection))
                        return;
        } else if (!http_connection_feed(connection, slice_of(connection->plain, (size_t)result))) {
                return;
        }
        http_connection_receive(connection);
        if (connection->state == HTTP_IDLE && connection->dirty) {
                http_connection_close(connection);
        } else if (connection->answer_whole && connection->state == HTTP_RECEIVING) {
                http_connection_answered(connection);
        } else if (connection->answer_whole && connection->state == HTTP_SENDING) {
                /* An answer before the end of the request: an error, or its last send is not booked yet. */
                bool all_submitted =
                        connection->head_left.len == 0 &&
                        (tls ? connection->body_left.len == 0 && connection->tls.out[connection->tls.fill].len == 0
                             : connection->out_bytes == connection->body_left.len);
                if (!all_submitted) {
                        http_connection_answer_and_close(connection);
                        return;
                }
                uint64_t linger = clock_monotonic_ns() + HTTP_LINGER_NS;
                if (linger < connection->deadline_ns)
                        http_deadline_set(connection, linger);
        }
}

/* ---- the machine */

static void http_connection_connected(struct http_connection *connection)
{
        struct http_client *client = connection->client;
        client->address_good = connection->address_index;
        if (client->options.tls == NULL) {
                client->stats.connects++;
                http_connection_receive(connection);
                http_connection_begin_request(connection);
                return;
        }
        if (http_tls_session_open(&connection->tls, &connection->why) != ERR_OK) {
                http_connection_fail(connection);
                return;
        }
        connection->state = HTTP_HANDSHAKING;
        http_deadline_set(connection, connection->connect_deadline_ns);
        http_connection_receive(connection);
        (void)http_connection_read_tls(connection); /* nothing is there to read: this writes the first flight */
}

static void http_connection_deadline(struct http_connection *connection)
{
        const struct http_client_options *options = &connection->client->options;
        const char *host = options->url.host;
        switch (connection->state) {
        case HTTP_RESOLVING:
                (void)err_set(&connection->why, ERR_TIMEOUT, "looking up %s took longer than %u ms", host,
                              options->connect_timeout_ms);
                break;
        case HTTP_CONNECTING:
                connection->address_late = true;
                connection->deadline_ns = UINT64_MAX; /* the cancelled connect goes on from here */
                io_cancel(options->loop, &connection->out);
                return;
        case HTTP_HANDSHAKING:
                (void)err_set(&connection->why, ERR_TIMEOUT, "TLS handshake with %s port %s not finished within %u ms",
                              host, options->url.port, options->connect_timeout_ms);
                break;
        case HTTP_IDLE:
                http_connection_close(connection);
                return;
        case HTTP_SENDING:
        case HTTP_RECEIVING:
                if (connection->answer_whole) {
                        http_connection_answer_and_close(connection);
                        return;
                }
                if (connection->send_failed) {
                        http_connection_lost(connection); /* `why` is the send's */
                        return;
                }
                (void)err_set(&connection->why, ERR_TIMEOUT, "no complete answer from %s within %u ms%s", host,
                              options->request_timeout_ms,
                              connection->state == HTTP_SENDING ? ": it does not take the request" : "");
                break;
        case HTTP_CLOSED:
        case HTTP_CLOSING:
                ASSERT(false); /* not a state with a deadline */
        }
        http_connection_fail(connection);
}

void http_connection_event(struct http_connection *connection, enum http_event event, int32_t result)
{
        if (event == HTTP_EVENT_OUT)
                http_connection_book_sent(connection, result);
        switch (connection->state) {
        case HTTP_RESOLVING:
                ASSERT(event != HTTP_EVENT_OUT && event != HTTP_EVENT_IN);
                if (event == HTTP_EVENT_RESOLVED && result == 0) {
                        http_connection_next_address(connection);
                        return;
                }
                if (event == HTTP_EVENT_RESOLVED) {
                        http_connection_fail(connection);
                        return;
                }
                break;
        case HTTP_CONNECTING:
                ASSERT(event != HTTP_EVENT_RESOLVED && event != HTTP_EVENT_IN);
                if (event == HTTP_EVENT_OUT && result == 0) {
                        http_connection_connected(connection);
                        return;
                }
                if (event == HTTP_EVENT_OUT) {
                        http_connection_connect_failed(connection, result);
                        return;
                }
                break;
        case HTTP_HANDSHAKING:
        case HTTP_IDLE:
        case HTTP_SENDING:
        case HTTP_RECEIVING:
                ASSERT(event != HTTP_EVENT_RESOLVED);
                if (event == HTTP_EVENT_OUT) {
                        http_connection_sent(connection, result);
                        return;
                }
                if (event == HTTP_EVENT_IN) {
                        http_connection_received(connection, result);
                        return;
                }
                break;
        case HTTP_CLOSING:
                ASSERT(event == HTTP_EVENT_OUT || event == HTTP_EVENT_IN);
                if (!connection->out.submitted && !connection->in.submitted)
                        http_connection_closed(connection);
                return;
        case HTTP_CLOSED:
                ASSERT(false); /* nothing happens in a closed slot */
        }
        if (event == HTTP_EVENT_DEADLINE) {
                http_connection_deadline(connection);
                return;
        }
        ASSERT(event == HTTP_EVENT_STOP);
        if (connection->exchange == NULL) {
                http_connection_close(connection);
                return;
        }
        (void)err_set(&connection->why, ERR_RESET, "the exchange with %s was given up: this worker is stopping",
                      connection->client->options.url.host);
        http_connection_fail(connection);
}

static void http_out_done(struct io_op *op, int32_t result, bool more)
{
        (void)more;
        http_connection_event(IO_OWNER(op, struct http_connection, out), HTTP_EVENT_OUT, result);
}

static void http_in_done(struct io_op *op, int32_t result, bool more)
{
        (void)more;
        http_connection_event(IO_OWNER(op, struct http_connection, in), HTTP_EVENT_IN, result);
}

/* A closed slot begins a new connection for the exchange it holds. */
void http_connection_start(struct http_connection *connection, struct http_exchange *exchange)
{
        ASSERT(connection->state == HTTP_CLOSED);
        connection->state = HTTP_RESOLVING;
        connection->exchange = exchange;
        exchange->connection = connection;
        connection->addresses_tried = 0;
        connection->established = connection->retry = false;
        connection->answers = 0;
        connection->answered_id.len = 0;
        connection->answer_begun = connection->answer_whole = connection->dirty = connection->send_failed = false;
        connection->outcome = ERR_OK;
        connection->connect_deadline_ns = http_after_ms(connection->client->options.connect_timeout_ms);
        http_connection_resolve(connection);
}

void http_connection_reuse(struct http_connection *connection, struct http_exchange *exchange)
{
        ASSERT(connection->state == HTTP_IDLE);
        connection->exchange = exchange;
        exchange->connection = connection;
        http_connection_begin_request(connection);
}

bool http_connection_init(struct http_connection *connection, struct http_client *client)
{
        const struct http_client_options *options = &client->options;
        connection->client = client;
        connection->fd = -1;
        connection->out.done = http_out_done;
        connection->in.done = http_in_done;
        connection->drained.done = http_drained_done;
        connection->plain = malloc(HTTP_PLAIN_BYTES);
        return connection->plain != NULL &&
               http_parser_create(LIMIT_HTTP_HEAD_BYTES_MAX, options->response_body_bytes_max, &connection->parser) ==
                       ERR_OK &&
               (options->tls == NULL ||
                http_tls_session_init(&connection->tls, options->tls, &options->url, &client->resume) == ERR_OK);
}

void http_connection_release(struct http_connection *connection)
{
        ASSERT(connection->state == HTTP_CLOSED);
        if (connection->client != NULL && connection->client->options.tls != NULL)
                http_tls_session_release(&connection->tls);
        http_parser_free(connection->parser);
        free(connection->plain);
}
