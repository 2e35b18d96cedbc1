/* A Firehose endpoint for unit tests of the egress worker, on top of http_peer: each stream answers by its own script
 * and writes down which events it accepted, in which order, and when. */
#ifndef SENDRING_TESTS_SUPPORT_FIREHOSE_PEER_H
#define SENDRING_TESTS_SUPPORT_FIREHOSE_PEER_H

#include "base/clock.h"
#include "codecs/codec.h"
#include "tests/support/http_peer.h"

#include <isa-l/igzip_lib.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum firehose_peer_step {
        FIREHOSE_PEER_ACCEPT = 0,
        FIREHOSE_PEER_503,
        FIREHOSE_PEER_RESET,         /* nothing accepted, then RST */
        FIREHOSE_PEER_ACCEPT_RESET,  /* all accepted, but the answer never comes */
        FIREHOSE_PEER_SILENT,        /* read, never answered */
        FIREHOSE_PEER_GARBAGE,       /* 200 with a body that is no answer; nothing accepted */
        FIREHOSE_PEER_ENDLESS,       /* 200 with fields without end; nothing accepted */
        FIREHOSE_PEER_NOT_FOUND,     /* 400 ResourceNotFoundException */
        FIREHOSE_PEER_EXPIRED_TOKEN, /* 400 ExpiredTokenException */
        FIREHOSE_PEER_SKEW,          /* 403 InvalidSignatureException, with a Date one hour ahead */
        FIREHOSE_PEER_SKEW_GONE,     /* the same with a right Date, and a text that says nothing of the clock */
        FIREHOSE_PEER_SKEW_UNDATED,  /* 403 RequestTimeTooSkewed without a Date */
        FIREHOSE_PEER_THROTTLED,     /* 400 ThrottlingException */
        FIREHOSE_PEER_PARTIAL,       /* every third record refused */
        FIREHOSE_PEER_REFUSE_ALL,    /* every record refused */
        FIREHOSE_PEER_RETRY_AFTER,   /* 503 that asks for a second */
        FIREHOSE_PEER_DENY_ALL,      /* 200, every record refused with AccessDeniedException */
        FIREHOSE_PEER_REFUSE_LATER,  /* 200, every record refused, with x-amz-retry-after of a second */
        FIREHOSE_PEER_HOUR,          /* 503 with x-amz-retry-after of an hour */
        FIREHOSE_PEER_UNKNOWN_KEY,   /* 400 UnrecognizedClientException */
};

#define FIREHOSE_PEER_STREAMS 4u
#define FIREHOSE_PEER_EVENTS  200000u
#define FIREHOSE_PEER_SCRIPT  64u

struct firehose_peer_stream {
        char name[65];
        enum firehose_peer_step script[FIREHOSE_PEER_SCRIPT];
        uint32_t script_count, script_at;
        _Atomic int always;        /* a step: when the script is over */
        _Atomic uint32_t delay_ms; /* before each answer */
        _Atomic uint32_t gate;     /* so many requests are answered, the others when it is raised; 0: all are */
        uint32_t *ids;             /* accepted, in order */
        uint32_t count;
        uint64_t *arrived_ns; /* by id; 0: never */
        uint32_t requests, refused;
        uint64_t bytes;          /* of records accepted, before base64 */
        int64_t last_request_ms; /* X-Amz-Date */
        uint64_t request_ns[FIREHOSE_PEER_SCRIPT];
};

struct firehose_peer {
        struct http_peer http;
        pthread_mutex_t lock;
        struct firehose_peer_stream streams[FIREHOSE_PEER_STREAMS];
        uint32_t streams_count;
};

#define FIREHOSE_PEER_CHECK(condition)                                                                       \
        do {                                                                                                 \
                if (!(condition)) {                                                                          \
                        (void)fprintf(stderr, "firehose_peer: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
                        abort();                                                                             \
                }                                                                                            \
        } while (0)

static inline uint32_t firehose_peer_line_id(const char *line)
{
        const char *at = strstr(line, "\"messageId\":\"id-");
        FIREHOSE_PEER_CHECK(at != NULL);
        return (uint32_t)strtoul(at + 16, NULL, 10);
}

/* One gzip file of `lines_bytes` bytes, and nothing behind it. */
static inline void firehose_peer_unpack(const uint8_t *record, size_t record_bytes, char *lines, size_t lines_bytes)
{
        struct inflate_state *inflate = malloc(sizeof(*inflate));
        FIREHOSE_PEER_CHECK(inflate != NULL);
        isal_inflate_init(inflate);
        inflate->crc_flag = ISAL_GZIP;
        inflate->next_in = (uint8_t *)(uintptr_t)record; /* isa-l's parameter is not const; it only reads */
        inflate->avail_in = (uint32_t)record_bytes;
        inflate->next_out = (uint8_t *)lines;
        inflate->avail_out = (uint32_t)lines_bytes;
        FIREHOSE_PEER_CHECK(isal_inflate(inflate) == ISAL_DECOMP_OK && inflate->block_state == ISAL_BLOCK_FINISH &&
                            inflate->avail_in == 0 && inflate->avail_out == 0);
        free(inflate);
}

/* With the lock. */
static inline void firehose_peer_accept(struct firehose_peer_stream *stream, const char *data)
{
        const size_t record_bytes_max = 1100000; /* not thread-local: it would be in the stack of every thread */
        uint8_t *record = malloc(record_bytes_max);
        FIREHOSE_PEER_CHECK(record != NULL);
        size_t record_bytes = codec_base64_decode(slice_of_text(data), record, record_bytes_max);
        FIREHOSE_PEER_CHECK(record_bytes != SIZE_MAX);
        stream->bytes += record_bytes;
        bool gzip = record_bytes >= 18 && record[0] == 0x1f && record[1] == 0x8b;
        uint32_t bytes = (uint32_t)record_bytes;
        if (gzip) /* its last four bytes say how many */
                memcpy(&bytes, record + record_bytes - sizeof(bytes), sizeof(bytes));
        char *lines = malloc((size_t)bytes + 1);
        FIREHOSE_PEER_CHECK(lines != NULL && bytes > 0);
        if (gzip)
                firehose_peer_unpack(record, record_bytes, lines, bytes);
        else
                memcpy(lines, record, bytes);
        free(record);
        FIREHOSE_PEER_CHECK(lines[bytes - 1] == '\n');
        lines[bytes] = '\0';
        for (char *line = lines; *line != '\0';) {
                char *end = strchr(line, '\n');
                *end = '\0';
                uint32_t id = firehose_peer_line_id(line);
                FIREHOSE_PEER_CHECK(id < FIREHOSE_PEER_EVENTS && stream->count < FIREHOSE_PEER_EVENTS);
                stream->ids[stream->count++] = id;
                stream->arrived_ns[id] = clock_monotonic_ns();
                line = end + 1;
        }
        free(lines);
}

static inline void firehose_peer_answer(struct http_peer_connection *connection, const char *status, const char *fields,
                                        const char *body)
{
        char head[512];
        (void)snprintf(head, sizeof(head), "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n", status, strlen(body),
                       fields);
        if (http_peer_write_text(connection, head))
                (void)http_peer_write_text(connection, body); /* the client may be gone */
}

/* False: the connection is over. */
static inline bool firehose_peer_request(struct http_peer_connection *connection, const char *body, size_t body_bytes)
{
        struct firehose_peer *peer = connection->peer->argument;
        struct firehose_peer_stream *stream = NULL;
        json_t *root = json_loadb(body, body_bytes, 0, NULL);
        const char *name = json_string_value(json_object_get(root, "DeliveryStreamName"));
        json_t *records = json_object_get(root, "Records");
        FIREHOSE_PEER_CHECK(name != NULL && json_array_size(records) > 0);
        (void)pthread_mutex_lock(&peer->lock);
        for (uint32_t i = 0; i < peer->streams_count; i++)
                if (strcmp(peer->streams[i].name, name) == 0)
                        stream = &peer->streams[i];
        FIREHOSE_PEER_CHECK(stream != NULL);
        enum firehose_peer_step step = (enum firehose_peer_step)atomic_load(&stream->always);
        if (stream->script_at < stream->script_count)
                step = stream->script[stream->script_at++];
        if (stream->requests < FIREHOSE_PEER_SCRIPT)
                stream->request_ns[stream->requests] = clock_monotonic_ns();
        uint32_t number = ++stream->requests;
        const char *date = strstr(connection->head, "X-Amz-Date: ");
        if (date != NULL) {
                struct tm when = {0};
                FIREHOSE_PEER_CHECK(strptime(date + 12, "%Y%m%dT%H%M%SZ", &when) != NULL);
                stream->last_request_ms = (int64_t)timegm(&when) * 1000;
        }
        size_t records_count = json_array_size(records), failed = 0;
        char *answer = malloc(64 + records_count * 128);
        FIREHOSE_PEER_CHECK(answer != NULL);
        char *at = answer + sprintf(answer, "{\"Encrypted\":false,\"RequestResponses\":[");
        for (size_t i = 0; i < records_count; i++) {
                bool accept = step == FIREHOSE_PEER_ACCEPT || step == FIREHOSE_PEER_ACCEPT_RESET ||
                              (step == FIREHOSE_PEER_PARTIAL && i % 3 != 1);
                if (accept)
                        firehose_peer_accept(stream,
                                             json_string_value(json_object_get(json_array_get(records, i), "Data")));
                failed += !accept;
                at += sprintf(
                        at, "%s%s", i == 0 ? "" : ",",
                        accept ? "{\"RecordId\":\"r\"}"
                        : step == FIREHOSE_PEER_DENY_ALL
                                ? "{\"ErrorCode\":\"AccessDeniedException\",\"ErrorMessage\":\"kms says no\"}"
                                : "{\"ErrorCode\":\"ServiceUnavailableException\",\"ErrorMessage\":\"Slow down.\"}");
        }
        (void)sprintf(at, "],\"FailedPutCount\":%zu}", failed);
        if (step == FIREHOSE_PEER_PARTIAL || step == FIREHOSE_PEER_REFUSE_ALL)
                stream->refused += (uint32_t)failed;
        (void)pthread_mutex_unlock(&peer->lock);
        json_decref(root);
        uint32_t delay_ms = atomic_load(&stream->delay_ms);
        if (delay_ms > 0)
                clock_sleep_ns(delay_ms * CLOCK_NS_PER_MS);
        uint32_t gate;
        while ((gate = atomic_load(&stream->gate)) != 0 && number > gate && !atomic_load(&connection->peer->stopping))
                clock_sleep_ns(CLOCK_NS_PER_MS / 2);

        static const char error_fields[] = "Content-Type: application/x-amz-json-1.1\r\n";
        bool more = true;
        char fields[128];
        time_t ahead = time(NULL) + 3600;
        struct tm when;
        switch (step) {
        case FIREHOSE_PEER_ACCEPT:
        case FIREHOSE_PEER_PARTIAL:
        case FIREHOSE_PEER_REFUSE_ALL:
        case FIREHOSE_PEER_DENY_ALL:
                firehose_peer_answer(connection, "200 OK", error_fields, answer);
                break;
        case FIREHOSE_PEER_REFUSE_LATER:
                firehose_peer_answer(connection, "200 OK", "x-amz-retry-after: 1000\r\n", answer);
                break;
        case FIREHOSE_PEER_HOUR:
                firehose_peer_answer(connection, "503 Service Unavailable", "x-amz-retry-after: 3600000\r\n",
                                     "{\"__type\":\"ServiceUnavailableException\",\"message\":\"down\"}");
                break;
        case FIREHOSE_PEER_UNKNOWN_KEY:
                firehose_peer_answer(connection, "400 Bad Request", error_fields,
                                     "{\"__type\":\"UnrecognizedClientException\",\"message\":\"no such key\"}");
                break;
        case FIREHOSE_PEER_503:
                firehose_peer_answer(connection, "503 Service Unavailable", error_fields,
                                     "{\"__type\":\"ServiceUnavailableException\",\"message\":\"down\"}");
                break;
        case FIREHOSE_PEER_RETRY_AFTER:
                firehose_peer_answer(connection, "503 Service Unavailable", "Retry-After: 1\r\n",
                                     "{\"__type\":\"ServiceUnavailableException\",\"message\":\"down\"}");
                break;
        case FIREHOSE_PEER_RESET:
        case FIREHOSE_PEER_ACCEPT_RESET:
                http_peer_reset(connection);
                more = false;
                break;
        case FIREHOSE_PEER_SILENT: {
                char byte;
                (void)(read(connection->fd, &byte, 1) < 0); /* until the client gives up */
                more = false;
                break;
        }
        case FIREHOSE_PEER_GARBAGE:
                firehose_peer_answer(connection, "200 OK", error_fields, "<html>it works</html>");
                break;
        case FIREHOSE_PEER_ENDLESS:
                more = http_peer_write_text(connection, "HTTP/1.1 200 OK\r\n");
                while (more && !atomic_load(&connection->peer->stopping))
                        more = http_peer_write_text(connection, "x-more: and more\r\n");
                more = false;
                break;
        case FIREHOSE_PEER_NOT_FOUND:
                firehose_peer_answer(connection, "400 Bad Request", error_fields,
                                     "{\"__type\":\"ResourceNotFoundException\",\"message\":\"no such stream\"}");
                break;
        case FIREHOSE_PEER_EXPIRED_TOKEN:
                firehose_peer_answer(connection, "400 Bad Request", error_fields,
                                     "{\"__type\":\"ExpiredTokenException\",\"message\":\"expired\"}");
                break;
        case FIREHOSE_PEER_SKEW:
                (void)gmtime_r(&ahead, &when);
                (void)strftime(fields, sizeof(fields), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &when);
                firehose_peer_answer(connection, "403 Forbidden", fields,
                                     "{\"__type\":\"InvalidSignatureException\",\"message\":\"Signature expired\"}");
                break;
        case FIREHOSE_PEER_SKEW_GONE:
                ahead -= 3600;
                (void)gmtime_r(&ahead, &when);
                (void)strftime(fields, sizeof(fields), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &when);
                firehose_peer_answer(connection, "403 Forbidden", fields,
                                     "{\"__type\":\"InvalidSignatureException\",\"message\":\"does not match\"}");
                break;
        case FIREHOSE_PEER_SKEW_UNDATED:
                firehose_peer_answer(connection, "403 Forbidden", error_fields,
                                     "{\"__type\":\"RequestTimeTooSkewed\",\"message\":\"too skewed\"}");
                break;
        case FIREHOSE_PEER_THROTTLED:
                firehose_peer_answer(connection, "400 Bad Request", error_fields,
                                     "{\"__type\":\"ThrottlingException\",\"message\":\"Rate exceeded\"}");
                break;
        }
        free(answer);
        return more;
}

static inline void firehose_peer_serve(struct http_peer_connection *connection)
{
        static const char field[] = "\r\nContent-Length: ";
        bool more = true;
        while (more && http_peer_read_head(connection)) {
                const char *at = strstr(connection->head, field);
                FIREHOSE_PEER_CHECK(at != NULL);
                size_t bytes = strtoul(at + sizeof(field) - 1, NULL, 10), got = 0;
                char *body = malloc(bytes);
                FIREHOSE_PEER_CHECK(body != NULL);
                while (got < bytes) {
                        ssize_t part = read(connection->fd, body + got, bytes - got); /* plain only */
                        if (part <= 0)
                                break;
                        got += (size_t)part;
                }
                more = got == bytes && firehose_peer_request(connection, body, bytes);
                free(body);
        }
}

static inline void firehose_peer_start(struct firehose_peer *peer)
{
        (void)pthread_mutex_init(&peer->lock, NULL);
        peer->http.serve = firehose_peer_serve;
        peer->http.argument = peer;
        http_peer_start(&peer->http);
}

static inline struct firehose_peer_stream *firehose_peer_stream(struct firehose_peer *peer, const char *name)
{
        (void)pthread_mutex_lock(&peer->lock);
        FIREHOSE_PEER_CHECK(peer->streams_count < FIREHOSE_PEER_STREAMS);
        struct firehose_peer_stream *stream = &peer->streams[peer->streams_count];
        (void)snprintf(stream->name, sizeof(stream->name), "%s", name);
        stream->ids = calloc(FIREHOSE_PEER_EVENTS, sizeof(*stream->ids));
        stream->arrived_ns = calloc(FIREHOSE_PEER_EVENTS, sizeof(*stream->arrived_ns));
        FIREHOSE_PEER_CHECK(stream->ids != NULL && stream->arrived_ns != NULL);
        peer->streams_count++;
        (void)pthread_mutex_unlock(&peer->lock);
        return stream;
}

static inline void firehose_peer_script(struct firehose_peer_stream *stream, enum firehose_peer_step step)
{
        FIREHOSE_PEER_CHECK(stream->script_count < FIREHOSE_PEER_SCRIPT);
        stream->script[stream->script_count++] = step;
}

static inline uint32_t firehose_peer_count(struct firehose_peer *peer, const struct firehose_peer_stream *stream)
{
        (void)pthread_mutex_lock(&peer->lock);
        uint32_t count = stream->count;
        (void)pthread_mutex_unlock(&peer->lock);
        return count;
}

static inline uint32_t firehose_peer_requests(struct firehose_peer *peer, const struct firehose_peer_stream *stream)
{
        (void)pthread_mutex_lock(&peer->lock);
        uint32_t requests = stream->requests;
        (void)pthread_mutex_unlock(&peer->lock);
        return requests;
}

static inline void firehose_peer_stop(struct firehose_peer *peer)
{
        http_peer_stop(&peer->http);
        for (uint32_t i = 0; i < peer->streams_count; i++) {
                free(peer->streams[i].ids);
                free(peer->streams[i].arrived_ns);
        }
        (void)pthread_mutex_destroy(&peer->lock);
}

#endif
