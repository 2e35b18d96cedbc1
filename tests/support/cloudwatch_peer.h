/* A CloudWatch endpoint for unit tests of the egress worker, on top of http_peer: PutMetricData in JSON 1.0, answered
 * by a script; counts per value of the first dimension what it took. */
#ifndef SENDRING_TESTS_SUPPORT_CLOUDWATCH_PEER_H
#define SENDRING_TESTS_SUPPORT_CLOUDWATCH_PEER_H

#include "base/clock.h"
#include "tests/support/http_peer.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum cloudwatch_peer_step {
        CLOUDWATCH_PEER_ACCEPT = 0,
        CLOUDWATCH_PEER_500,          /* nothing taken, definitely */
        CLOUDWATCH_PEER_400,          /* InvalidParameterValue */
        CLOUDWATCH_PEER_THROTTLED,    /* 400 Throttling */
        CLOUDWATCH_PEER_RESET,        /* read whole, nothing taken, then RST */
        CLOUDWATCH_PEER_ACCEPT_RESET, /* taken, but the answer never comes */
        CLOUDWATCH_PEER_SILENT,       /* read whole, nothing taken, never answered */
        /* What stands before the service answers. */
        CLOUDWATCH_PEER_ACCEPT_502,  /* taken */
        CLOUDWATCH_PEER_504,         /* nothing taken */
        CLOUDWATCH_PEER_ACCEPT_PAGE, /* taken; 200 with a page */
        CLOUDWATCH_PEER_503_PAGE,    /* nothing taken */
        CLOUDWATCH_PEER_SKEWED,      /* 403 RequestTimeTooSkewed, and what the time is */
};

#define CLOUDWATCH_PEER_SETS     4096u
#define CLOUDWATCH_PEER_REQUESTS 256u

struct cloudwatch_peer {
        struct http_peer http;
        pthread_mutex_t lock;
        enum cloudwatch_peer_step script[CLOUDWATCH_PEER_REQUESTS];
        uint32_t script_count, script_at;
        _Atomic int always; /* a step: when the script is over */
        uint32_t requests, taken;
        uint32_t data[CLOUDWATCH_PEER_REQUESTS];  /* of each request, by arrival */
        char first[CLOUDWATCH_PEER_REQUESTS][64]; /* the first datum's dimension value */
        int64_t arrived_ms[CLOUDWATCH_PEER_REQUESTS];
        uint64_t sums[CLOUDWATCH_PEER_SETS]; /* by set: "set-12" */
        uint64_t sum;                        /* of all */
        int64_t newest_ms;                   /* the last datum's time of the last request that was taken */
        int64_t period_s;                    /* timestamps are multiples of it; 0: any */
        int64_t (*clock_ms)(void); /* its own: what is more than two hours ahead of it is refused; NULL: nothing is */
};

#define CLOUDWATCH_PEER_CHECK(condition)                                                                       \
        do {                                                                                                   \
                if (!(condition)) {                                                                            \
                        (void)fprintf(stderr, "cloudwatch_peer: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
                        abort();                                                                               \
                }                                                                                              \
        } while (0)

/* With the lock. */
static inline void cloudwatch_peer_take(struct cloudwatch_peer *peer, json_t *data)
{
        size_t index;
        json_t *datum;
        peer->taken++;
        json_array_foreach(data, index, datum)
        {
                json_t *dimension = json_array_get(json_object_get(datum, "Dimensions"), 0);
                const char *value = json_string_value(json_object_get(dimension, "Value"));
                json_int_t at = json_integer_value(json_object_get(datum, "Timestamp"));
                json_int_t count = (json_int_t)json_number_value(json_array_get(json_object_get(datum, "Counts"), 0));
                CLOUDWATCH_PEER_CHECK(strcmp(json_string_value(json_object_get(datum, "MetricName")), "Send") == 0);
                CLOUDWATCH_PEER_CHECK(json_number_value(json_array_get(json_object_get(datum, "Values"), 0)) == 1);
                CLOUDWATCH_PEER_CHECK(count > 0);
                CLOUDWATCH_PEER_CHECK(peer->period_s == 0 || at % peer->period_s == 0);
                peer->newest_ms = at * 1000;
                peer->sum += (uint64_t)count;
                if (value == NULL || strncmp(value, "set-", 4) != 0)
                        continue;
                unsigned long set = strtoul(value + 4, NULL, 10);
                CLOUDWATCH_PEER_CHECK(set < CLOUDWATCH_PEER_SETS);
                peer->sums[set] += (uint64_t)count;
        }
}

static inline bool cloudwatch_peer_is_ahead(const struct cloudwatch_peer *peer, json_t *data)
{
        size_t index;
        json_t *datum;
        json_array_foreach(data, index, datum)
        {
                json_int_t at = json_integer_value(json_object_get(datum, "Timestamp"));
                if (peer->clock_ms != NULL && at * 1000 > peer->clock_ms() + 7200000)
                        return true;
        }
        return false;
}

static inline void cloudwatch_peer_answer(struct http_peer_connection *connection, const char *status, const char *body)
{
        char text[512];
        (void)snprintf(text, sizeof(text),
                       "HTTP/1.1 %s\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %zu\r\n\r\n%s",
                       status, strlen(body), body);
        (void)http_peer_write_text(connection, text); /* the client may be gone */
}

/* False: the connection is over. */
static inline bool cloudwatch_peer_request(struct http_peer_connection *connection, const char *body, size_t body_bytes)
{
        struct cloudwatch_peer *peer = connection->peer->argument;
        json_t *root = json_loadb(body, body_bytes, 0, NULL);
        json_t *data = json_object_get(root, "MetricData");
        CLOUDWATCH_PEER_CHECK(json_array_size(data) > 0 && json_array_size(data) <= 1000);
        CLOUDWATCH_PEER_CHECK(strstr(connection->head, "GraniteServiceVersion20100801.PutMetricData") != NULL);
        (void)pthread_mutex_lock(&peer->lock);
        enum cloudwatch_peer_step step = (enum cloudwatch_peer_step)atomic_load(&peer->always);
        if (peer->script_at < peer->script_count)
                step = peer->script[peer->script_at++];
        if (step == CLOUDWATCH_PEER_ACCEPT && cloudwatch_peer_is_ahead(peer, data))
                step = CLOUDWATCH_PEER_400;
        if (peer->requests < CLOUDWATCH_PEER_REQUESTS) {
                json_t *dimension = json_array_get(json_object_get(json_array_get(data, 0), "Dimensions"), 0);
                const char *value = json_string_value(json_object_get(dimension, "Value"));
                peer->data[peer->requests] = (uint32_t)json_array_size(data);
                peer->arrived_ms[peer->requests] = clock_realtime_ms();
                (void)snprintf(peer->first[peer->requests], sizeof(peer->first[0]), "%s", value == NULL ? "" : value);
        }
        peer->requests++;
        if (step == CLOUDWATCH_PEER_ACCEPT || step == CLOUDWATCH_PEER_ACCEPT_RESET ||
            step == CLOUDWATCH_PEER_ACCEPT_502 || step == CLOUDWATCH_PEER_ACCEPT_PAGE)
                cloudwatch_peer_take(peer, data);
        (void)pthread_mutex_unlock(&peer->lock);
        json_decref(root);
        char byte, skewed[128];
        struct tm now;
        time_t now_s;
        switch (step) {
        case CLOUDWATCH_PEER_ACCEPT:
                cloudwatch_peer_answer(connection, "200 OK", "{}");
                return true;
        case CLOUDWATCH_PEER_500:
                cloudwatch_peer_answer(connection, "500 Internal Server Error",
                                       "{\"__type\":\"InternalServiceFault\",\"Message\":\"down\"}");
                return true;
        case CLOUDWATCH_PEER_400:
                cloudwatch_peer_answer(connection, "400 Bad Request",
                                       "{\"__type\":\"InvalidParameterValueException\",\"Message\":\"no\"}");
                return true;
        case CLOUDWATCH_PEER_THROTTLED:
                cloudwatch_peer_answer(connection, "400 Bad Request",
                                       "{\"__type\":\"ThrottlingException\",\"Message\":\"Rate exceeded\"}");
                return true;
        case CLOUDWATCH_PEER_ACCEPT_502:
                cloudwatch_peer_answer(connection, "502 Bad Gateway", "<html>bad gateway</html>");
                return true;
        case CLOUDWATCH_PEER_504:
                cloudwatch_peer_answer(connection, "504 Gateway Timeout", "");
                return true;
        case CLOUDWATCH_PEER_ACCEPT_PAGE:
                cloudwatch_peer_answer(connection, "200 OK", "<html>Welcome to the network</html>");
                return true;
        case CLOUDWATCH_PEER_503_PAGE:
                cloudwatch_peer_answer(connection, "503 Service Unavailable", "<html>upstream reset</html>");
                return true;
        case CLOUDWATCH_PEER_SKEWED:
                now_s = (time_t)(peer->clock_ms() / 1000);
                (void)strftime(skewed, sizeof(skewed), "403 Forbidden\r\nDate: %a, %d %b %Y %H:%M:%S GMT",
                               gmtime_r(&now_s, &now));
                cloudwatch_peer_answer(connection, skewed, "{\"__type\":\"RequestTimeTooSkewed\",\"Message\":\"no\"}");
                return true;
        case CLOUDWATCH_PEER_RESET:
        case CLOUDWATCH_PEER_ACCEPT_RESET:
                http_peer_reset(connection);
                return false;
        case CLOUDWATCH_PEER_SILENT:
                (void)(read(connection->fd, &byte, 1) < 0); /* until the client gives up */
                return false;
        }
        return false;
}

static inline void cloudwatch_peer_serve(struct http_peer_connection *connection)
{
        static const char field[] = "\r\nContent-Length: ";
        bool more = true;
        while (more && http_peer_read_head(connection)) {
                const char *at = strstr(connection->head, field);
                CLOUDWATCH_PEER_CHECK(at != NULL);
                size_t bytes = strtoul(at + sizeof(field) - 1, NULL, 10), got = 0;
                char *body = malloc(bytes);
                CLOUDWATCH_PEER_CHECK(body != NULL);
                while (got < bytes) {
                        ssize_t part = read(connection->fd, body + got, bytes - got); /* plain only */
                        if (part <= 0)
                                break;
                        got += (size_t)part;
                }
                more = got == bytes && cloudwatch_peer_request(connection, body, bytes);
                free(body);
        }
}

static inline void cloudwatch_peer_start(struct cloudwatch_peer *peer)
{
        (void)pthread_mutex_init(&peer->lock, NULL);
        peer->http.serve = cloudwatch_peer_serve;
        peer->http.argument = peer;
        http_peer_start(&peer->http);
}

static inline void cloudwatch_peer_script(struct cloudwatch_peer *peer, enum cloudwatch_peer_step step)
{
        (void)pthread_mutex_lock(&peer->lock);
        CLOUDWATCH_PEER_CHECK(peer->script_count < CLOUDWATCH_PEER_REQUESTS);
        peer->script[peer->script_count++] = step;
        (void)pthread_mutex_unlock(&peer->lock);
}

static inline uint32_t cloudwatch_peer_requests(struct cloudwatch_peer *peer)
{
        (void)pthread_mutex_lock(&peer->lock);
        uint32_t requests = peer->requests;
        (void)pthread_mutex_unlock(&peer->lock);
        return requests;
}

static inline uint64_t cloudwatch_peer_sum(struct cloudwatch_peer *peer)
{
        (void)pthread_mutex_lock(&peer->lock);
        uint64_t sum = peer->sum;
        (void)pthread_mutex_unlock(&peer->lock);
        return sum;
}

static inline void cloudwatch_peer_stop(struct cloudwatch_peer *peer)
{
        http_peer_stop(&peer->http);
        (void)pthread_mutex_destroy(&peer->lock);
}

#endif
