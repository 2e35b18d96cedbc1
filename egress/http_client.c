/* The HTTP client of http.h: a fixed set of connection slots (http_connection.c), one timer, the addresses.
 *
 * Deadlines: one per slot, and one timer per client set to the earliest. A deadline that moved away leaves the timer as
 * it is: it fires for nothing once, which is cheaper than setting it anew for every request.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/limits.h"
#include "egress/http_connection.h"

#include <stdlib.h>

void http_client_timer_set(struct http_client *client, uint64_t deadline_ns)
{
        if (!client->timer.submitted) {
                client->timer_ns = deadline_ns;
                io_timer(client->options.loop, &client->timer, deadline_ns);
        } else if (deadline_ns < client->timer_ns) {
                client->timer_ns = 0; /* the callback sets it anew */
                io_cancel(client->options.loop, &client->timer);
        }
}

static void http_timer_done(struct io_op *op, int32_t result, bool more)
{
        struct http_client *client = IO_OWNER(op, struct http_client, timer);
        (void)result;
        (void)more;
        uint64_t now = clock_monotonic_ns();
        uint64_t earliest = UINT64_MAX;
        for (uint32_t i = 0; i < client->options.connections_max; i++) {
                struct http_connection *connection = &client->connections[i];
                if (http_connection_is_waiting(connection) && connection->deadline_ns <= now)
                        http_connection_event(connection, HTTP_EVENT_DEADLINE, 0);
        }
        for (uint32_t i = 0; i < client->options.connections_max; i++) {
                const struct http_connection *connection = &client->connections[i];
                if (http_connection_is_waiting(connection) && connection->deadline_ns < earliest)
                        earliest = connection->deadline_ns;
        }
        /* An exchange that a callback above has started may have set the timer already. */
        if (earliest != UINT64_MAX)
                http_client_timer_set(client, earliest);
}

static void http_resolved(struct io_op *op, int32_t result, bool more)
{
        struct http_client *client = IO_OWNER(op, struct http_client, waiter.op);
        (void)result;
        (void)more;
        struct err why = {0};
        client->resolving = false;
        enum err_code code = http_resolve_result(client->resolver_entry, &client->addresses, &why);
        for (uint32_t i = 0; i < client->options.connections_max; i++) {
                struct http_connection *connection = &client->connections[i];
                if (connection->state != HTTP_RESOLVING)
                        continue;
                connection->why = why;
                http_connection_event(connection, HTTP_EVENT_RESOLVED, code == ERR_OK ? 0 : -1);
        }
}

enum err_code http_client_create(const struct http_client_options *options, struct http_client **ret_client,
                                 struct err *reterr)
{
        if (options->connections_max == 0 || options->connections_max > HTTP_CONNECTIONS_MAX)
                return err_set(reterr, ERR_CONFIG, "%s: %u connections, 1 to %u are allowed", options->url.host,
                               options->connections_max, HTTP_CONNECTIONS_MAX);
        if (options->response_body_bytes_max > LIMIT_HTTP_BODY_BYTES_MAX)
                return err_set(reterr, ERR_CONFIG, "%s: answers of %zu bytes, %u are allowed", options->url.host,
                               options->response_body_bytes_max, LIMIT_HTTP_BODY_BYTES_MAX);
        ASSERT((options->tls != NULL) == options->url.tls);
        struct http_client *client =
                calloc(1, sizeof(*client) + options->connections_max * sizeof(client->connections[0]));
        if (client == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for connections to %s", options->url.host);
        client->options = *options;
        client->timer.done = http_timer_done;
        client->waiter.op.done = http_resolved;
        client->waiter.loop = options->loop;
        enum err_code code = ERR_OK;
        for (uint32_t i = 0; i < options->connections_max && code == ERR_OK; i++) {
                if (!http_connection_init(&client->connections[i], client))
                        code = err_set(reterr, ERR_MEMORY, "out of memory for connections to %s", options->url.host);
        }
        if (code == ERR_OK && !http_resolve_literal(options->url.host, options->url.port, &client->addresses))
                code = http_resolve_attach(options->url.host, options->url.port, &client->resolver_entry, reterr);
        if (code != ERR_OK) {
                http_client_free(client);
                return code;
        }
        *ret_client = client;
        return ERR_OK;
}

size_t http_client_memory_bytes(const struct http_client_options *options)
{
        size_t connection = sizeof(struct http_connection) + HTTP_PLAIN_BYTES +
                            http_parser_memory_bytes(LIMIT_HTTP_HEAD_BYTES_MAX, options->response_body_bytes_max);
        if (options->tls != NULL)
                connection += HTTP_TLS_IN_BYTES + 2 * HTTP_TLS_OUT_BYTES;
        return sizeof(struct http_client) + options->connections_max * connection;
}

bool http_client_stop(struct http_client *client)
{
        client->stopping = true;
        for (uint32_t i = 0; i < client->options.connections_max; i++) {
                if (http_connection_is_waiting(&client->connections[i]))
                        http_connection_event(&client->connections[i], HTTP_EVENT_STOP, 0);
        }
        if (client->resolving && http_resolve_cancel(client->resolver_entry, &client->waiter))
                client->resolving = false;
        if (client->timer.submitted && client->timer_ns != 0) {
                client->timer_ns = 0;
                io_cancel(client->options.loop, &client->timer);
        }
        return client->open == 0 && !client->timer.submitted && !client->resolving;
}

void http_client_free(struct http_client *client)
{
        if (client == NULL)
                return;
        ASSERT(client->open == 0);
        ASSERT(client->busy == 0);
        ASSERT(!client->timer.submitted);
        ASSERT(!client->resolving);
        for (uint32_t i = 0; i < client->options.connections_max; i++)
                http_connection_release(&client->connections[i]);
        http_resolve_detach(client->resolver_entry);
        SSL_SESSION_free(client->resume);
        free(client);
}

enum err_code http_client_send(struct http_client *client, struct http_exchange *exchange)
{
        ASSERT(exchange->connection == NULL);
        ASSERT(exchange->done != NULL);
        ASSERT(exchange->head.len > 0);
        if (client->stopping)
                return ERR_BUSY;
        /* The one used last: the others may then grow old and be closed. */
        struct http_connection *idle = NULL, *closed = NULL;
        for (uint32_t i = 0; i < client->options.connections_max; i++) {
                struct http_connection *connection = &client->connections[i];
                if (connection->state == HTTP_IDLE && (idle == NULL || connection->used_ns > idle->used_ns))
                        idle = connection;
                if (connection->state == HTTP_CLOSED && closed == NULL)
                        closed = connection;
        }
        struct http_connection *connection = idle != NULL ? idle : closed;
        if (connection == NULL)
                return ERR_BUSY;
        client->busy++;
        connection->retried = false;
        if (connection == idle) {
                http_connection_reuse(connection, exchange);
                return ERR_OK;
        }
        client->open++;
        http_connection_start(connection, exchange);
        return ERR_OK;
}

uint32_t http_client_busy(const struct http_client *client)
{
        return client->busy;
}

void http_client_get_stats(const struct http_client *client, struct http_client_stats *ret_stats)
{
        *ret_stats = client->stats;
        ret_stats->connections_now = client->open;
}
