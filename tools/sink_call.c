/* One request of `sendring sink`: which service's, whether it may come in, what the faults make of it, what is stored,
 * what is answered. */
#include "base/assert.h"
#include "base/clock.h"
#include "codecs/codec.h"
#include "tools/sink_server_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SINK_SKEW_MS_MAX (5 * 60 * 1000)

/* ---------------------------------------------------------------------------------------------- answers */

static const char *sink_status_text(int status)
{
        switch (status) {
        case 200:
                return "OK";
        case 400:
                return "Bad Request";
        case 404:
                return "Not Found";
        case 411:
                return "Length Required";
        case 413:
                return "Request Entity Too Large";
        case 417:
                return "Expectation Failed";
        case 431:
                return "Request Header Fields Too Large";
        case 500:
                return "Internal Server Error";
        case 501:
                return "Not Implemented";
        case 502:
                return "Bad Gateway";
        case 503:
                return "Service Unavailable";
        default:
                return "Status";
        }
}

static const char *sink_date(struct sink_thread *thread)
{
        static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        int64_t now_s = clock_realtime_ms() / 1000;
        if (now_s != thread->date_s) {
                struct clock_civil civil;
                clock_civil_from_ms(now_s * 1000, &civil);
                (void)snprintf(thread->date, sizeof(thread->date), "%s, %02u %s %04d %02u:%02u:%02u GMT",
                               days[(now_s / 86400 + 4) % 7], civil.day, months[civil.month - 1], (int)civil.year,
                               civil.hour, civil.minute, civil.second); /* 29 characters */
                thread->date_s = now_s;
        }
        return thread->date;
}

/* The body is at conn->out + SINK_OUT_HEAD_BYTES. `fields` are more header fields, each ended by CR LF;
 * `declared_bytes` is what Content-Length says. */
static void sink_answer(struct sink_thread *thread, struct sink_conn *conn, int status, const char *content_type,
                        const char *fields, size_t body_bytes, size_t declared_bytes)
{
        char head[SINK_OUT_HEAD_BYTES];
        uint64_t id_high = random_u64(&thread->random), id_low = random_u64(&thread->random);
        if (!conn->request.keep_alive)
                conn->close_after = true;
        int head_bytes = snprintf(head, sizeof(head),
                                  "HTTP/1.1 %d %s\r\n"
                                  "x-amzn-RequestId: %08x-%04x-%04x-%04x-%012llx\r\n"
                                  "Content-Type: %s\r\n"
                                  "Content-Length: %zu\r\n"
                                  "Date: %s\r\n"
                                  "%s%s\r\n",
                                  status, sink_status_text(status), (unsigned)(id_high >> 32),
                                  (unsigned)(id_high >> 16 & 0xffff), (unsigned)(id_high & 0xfff) | 0x4000u,
                                  (unsigned)(id_low >> 48 & 0x3fff) | 0x8000u,
                                  (unsigned long long)(id_low & 0xffffffffffff), content_type, declared_bytes,
                                  sink_date(thread), fields, conn->close_after ? "Connection: close\r\n" : "");
        ASSERT(head_bytes > 0 && head_bytes < (int)sizeof(head));
        conn->out_at = SINK_OUT_HEAD_BYTES - (size_t)head_bytes;
        conn->out_end = SINK_OUT_HEAD_BYTES + body_bytes;
        memcpy(conn->out + conn->out_at, head, (size_t)head_bytes);
        uint64_t latency_ns = atomic_load_explicit(&thread->server->faults->latency_ns, memory_order_relaxed);
        conn->state = SINK_CONN_WRITE;
        if (latency_ns != 0) {
                conn->state = SINK_CONN_DELAY;
                conn->due_ns = clock_monotonic_ns() + latency_ns;
                thread->timed++;
        }
}

#define SINK_JSON_TYPE "application/x-amz-json-1.1"

static void sink_refuse_call(struct sink_thread *thread, struct sink_conn *conn, const struct sink_refusal *refusal)
{
        if (refusal->status < 500)
                thread->counts.tally[SINK_COUNT_CALLS_REFUSED]++;
        size_t bytes = sink_firehose_refusal(refusal, conn->out + SINK_OUT_HEAD_BYTES);
        sink_answer(thread, conn, refusal->status, SINK_JSON_TYPE, "", bytes, bytes);
}

static void sink_refuse_named(struct sink_thread *thread, struct sink_conn *conn, int status, const char *name,
                              const char *text)
{
        struct sink_refusal refusal = {.status = status, .name = name};
        (void)snprintf(refusal.text, sizeof(refusal.text), "%.*s", (int)sizeof(refusal.text) - 1,
                       text); /* cut to fit */
        sink_refuse_call(thread, conn, &refusal);
}

void sink_refuse_http(struct sink_thread *thread, struct sink_conn *conn, int status)
{
        conn->close_after = true;
        thread->counts.tally[SINK_COUNT_CALLS_REFUSED]++;
        sink_answer(thread, conn, status, "text/plain", "", 0, 0);
}

/* Begun and never finished: a head of fields, or a body in chunks, that goes on for as long as somebody reads. */
static void sink_answer_endless(struct sink_thread *thread, struct sink_conn *conn)
{
        static const char chunk[] = "10\r\n0123456789abcdef\r\n", field[] = "x-more: and more\r\n";
        bool head = random_below(&thread->random, 2) == 0;
        const char *unit = head ? field : chunk;
        size_t unit_bytes = strlen(unit);
        int begin = snprintf((char *)conn->out, SINK_OUT_BYTES,
                             "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\n%s",
                             head ? "" : "Transfer-Encoding: chunked\r\n\r\n");
        ASSERT(begin > 0);
        conn->out_at = 0;
        conn->out_end = conn->repeat_at = (size_t)begin;
        while (conn->out_end + unit_bytes <= SINK_OUT_BYTES) {
                memcpy(conn->out + conn->out_end, unit, unit_bytes);
                conn->out_end += unit_bytes;
        }
        conn->close_after = true;
        conn->state = SINK_CONN_WRITE;
}

/* Five ways in which a broken peer or front end answers. Nothing was stored: a sender that takes one of them for a
 * success loses events, and the counts show it. */
static void sink_answer_garbage(struct sink_thread *thread, struct sink_conn *conn, enum sink_operation operation)
{
        struct sink_firehose *firehose = thread->firehose;
        uint8_t *body = conn->out + SINK_OUT_HEAD_BYTES;
        static const enum sink_entry stored[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX];
        static const char html[] = "<html><head><title>502 Bad Gateway</title></head><body>502</body></html>\r\n";
        size_t bytes;
        switch (random_below(&thread->random, 5)) {
        case 0: /* not HTTP */
                for (size_t i = 0; i < 256; i++)
                        body[i] = (uint8_t)random_u64(&thread->random);
                conn->close_after = true;
                conn->out_at = SINK_OUT_HEAD_BYTES;
                conn->out_end = SINK_OUT_HEAD_BYTES + 256;
                conn->state = SINK_CONN_WRITE;
                return;
        case 1: /* a front end's page */
                memcpy(body, html, sizeof(html) - 1);
                sink_answer(thread, conn, 502, "text/html", "", sizeof(html) - 1, sizeof(html) - 1);
                return;
        case 2: /* JSON that ends too early */
                bytes = sink_firehose_answer(firehose, operation, stored, body);
                bytes = random_below(&thread->random, bytes);
                sink_answer(thread, conn, 200, SINK_JSON_TYPE, "", bytes, bytes);
                return;
        case 3: /* one entry too few; PutRecord: no RecordId */
                if (operation == SINK_PUT_RECORD || firehose->records_count == 1) {
                        bytes = 2;
                        memcpy(body, "{}", 2);
                } else {
                        firehose->records_count--;
                        bytes = sink_firehose_answer(firehose, operation, stored, body);
                        firehose->records_count++;
                }
                sink_answer(thread, conn, 200, SINK_JSON_TYPE, "", bytes, bytes);
                return;
        default: /* the body is cut by the end of the connection */
                bytes = sink_firehose_answer(firehose, operation, stored, body);
                conn->close_after = true;
                sink_answer(thread, conn, 200, SINK_JSON_TYPE, "", bytes / 2, bytes);
                return;
        }
}

/* ---------------------------------------------------------------------------------------------- one call */

/* Appends accepted data to <stream>.ndjson. */
static enum err_code sink_store_append(struct sink_server *server, struct slice stream, struct slice data,
                                       struct err *reterr)
{
        struct sink_store *store = NULL;
        enum err_code code = ERR_OK;
        (void)pthread_mutex_lock(&server->store_mutex);
        for (size_t i = 0; i < server->stores_count && store == NULL; i++)
                if (slice_equal(stream, slice_of_text(server->stores[i].name)))
                        store = &server->stores[i];
        if (store == NULL && server->stores_count < SINK_STREAMS_MAX) {
                char path[4096];
                store = &server->stores[server->stores_count];
                (void)slice_to_text(stream, store->name, sizeof(store->name)); /* at most 64, checked by the parser */
                int len = snprintf(path, sizeof(path), "%s/%s.ndjson", server->options.store, store->name);
                store->fd = len < (int)sizeof(path) ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
                if (store->fd < 0) {
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "open %s", path);
                        store = NULL;
                } else {
                        server->stores_count++;
                }
        } else if (store == NULL) {
                code = err_set(reterr, ERR_FULL, "more than %u streams", SINK_STREAMS_MAX);
        }
        bool ended = data.len == 0 || data.ptr[data.len - 1] == '\n';
        while (code == ERR_OK && data.len > 0) {
                ssize_t put = write(store->fd, data.ptr, data.len);
                if (put < 0 && errno != EINTR)
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "write %s/%s.ndjson", server->options.store,
                                             store->name);
                else if (put > 0)
                        data = slice_of(data.ptr + put, data.len - (size_t)put);
        }
        if (code == ERR_OK && !ended && write(store->fd, "\n", 1) != 1)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "write %s/%s.ndjson", server->options.store,
                                     store->name);
        (void)pthread_mutex_unlock(&server->store_mutex);
        return code;
}

static bool sink_json_is_valid(struct slice line)
{
        struct codec_json_reader reader;
        codec_json_reader_init(&reader, line);
        enum codec_json_token token;
        do
                token = codec_json_next(&reader);
        while (token != CODEC_JSON_END && token != CODEC_JSON_ERROR);
        return token == CODEC_JSON_END;
}

static void sink_store_entry(struct sink_thread *thread, struct slice data)
{
        struct sink_server *server = thread->server;
        struct slice lines = data;
        if (sink_firehose_is_gzip(data)) {
                bool whole = sink_firehose_unpack(thread->firehose, data, &lines);
                thread->counts.tally[whole ? SINK_COUNT_GZIP_RECORDS : SINK_COUNT_GZIP_BROKEN]++;
                if (!whole)
                        lines = SLICE_EMPTY; /* Firehose takes anything */
        }
        (void)sink_state_store(server->state, &thread->counts, lines, data.len);
        struct slice rest = server->options.check_json ? lines : SLICE_EMPTY;
        while (rest.len > 0) {
                struct slice line = slice_cut(&rest, '\n');
                if (line.len > 0 && !sink_json_is_valid(line))
                        thread->counts.tally[SINK_COUNT_INVALID_JSON]++;
        }
        struct err err;
        if (server->options.store != NULL &&
            sink_store_append(server, thread->firehose->stream, data, &err) != ERR_OK) {
                /* The lines are a test's evidence: an incomplete file would accuse the sender. */
                (void)fprintf(stderr, "sink: %s\n", err.text);
                abort();
        }
}

/* False: *ret_aws_code and *reterr say what AWS answers. */
static bool sink_signature_is_valid(struct sink_thread *thread, struct sink_conn *conn, const char **ret_aws_code,
                                    struct err *reterr)
{
        const struct sink_options *options = &thread->server->options;
        if (!options->auth)
                return true;
        /* A1: pairs with R1 in sink_faults_set_keys(). */
        const struct sink_keys *keys = atomic_load_explicit(&thread->server->faults->keys, memory_order_acquire);
        struct slice secret_key = slice_of_text(keys == NULL ? options->secret_key : keys->secret_key);
        struct slice access_key = slice_of_text(keys == NULL ? options->access_key : keys->access_key);
        struct slice authorization = sink_http_header(&conn->request, SLICE("authorization"));
        uint8_t digest[EVP_MAX_MD_SIZE];
        int hashed = EVP_DigestFinal_ex(conn->sha, digest, NULL);
        ASSERT(hashed == 1); /* nothing in it can fail after a successful init */
        struct sigv4_header headers[SINK_HTTP_HEADERS_MAX];
        for (uint32_t i = 0; i < conn->request.headers_count; i++)
                headers[i] = (struct sigv4_header){conn->request.headers[i].name, conn->request.headers[i].value};
        struct sigv4_request request = {
                .method = conn->request.method,
                .path = conn->request.path,
                .query = conn->request.query,
                .headers = headers,
                .headers_count = conn->request.headers_count,
                .body_sha256 = digest,
                .normalize_path = true,
                .double_encode_path = true,
        };
        if (sigv4_verify(thread->signer, &request, authorization, secret_key, access_key, clock_realtime_ms(),
                         SINK_SKEW_MS_MAX, ret_aws_code, reterr) == ERR_OK)
                return true;
        if (keys != NULL && strcmp(*ret_aws_code, "UnrecognizedClientException") == 0) {
                *ret_aws_code = "ExpiredTokenException";
                (void)err_set(reterr, ERR_CREDENTIALS_EXPIRED, "The security token included in the request is expired");
        }
        return false;
}

static bool sink_check_signature(struct sink_thread *thread, struct sink_conn *conn)
{
        const char *aws_code;
        struct err err;
        if (sink_signature_is_valid(thread, conn, &aws_code, &err))
                return true;
        sink_refuse_named(thread, conn, 400, aws_code, err.text);
        return false;
}

static bool sink_stream_exists(const struct sink_options *options, struct slice stream)
{
        for (size_t i = 0; i < options->streams_count; i++)
                if (slice_equal(stream, slice_of_text(options->streams[i])))
                        return true;
        return options->streams_count == 0;
}

/* Chooses what becomes of each entry. True when at least one is refused. */
static bool sink_draw_entries(struct sink_thread *thread, bool throttled,
                              enum sink_entry entries[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX])
{
        uint32_t count = thread->firehose->records_count;
        uint32_t first_throttled = throttled ? (uint32_t)random_below(&thread->random, count) : count;
        for (uint32_t i = 0; i < count; i++) {
                entries[i] = SINK_ENTRY_STORED;
                if (i >= first_throttled) {
                        entries[i] = SINK_ENTRY_UNAVAILABLE;
                } else if (sink_fault_draw(thread->server->faults, SINK_FAULT_PARTIAL, &thread->random)) {
                        entries[i] =
                                random_below(&thread->random, 2) == 0 ? SINK_ENTRY_UNAVAILABLE : SINK_ENTRY_FAILURE;
                        thread->counts.tally[SINK_COUNT_FAULT_PARTIAL]++;
                }
        }
        for (uint32_t i = 0; i < count; i++)
                if (entries[i] != SINK_ENTRY_STORED)
                        return true;
        return false;
}

/* A valid call: faults, storing, the answer. False: the connection is to be reset. */
static bool sink_call(struct sink_thread *thread, struct sink_conn *conn, enum sink_operation operation)
{
        const struct sink_faults *faults = thread->server->faults;
        struct sink_firehose *firehose = thread->firehose;
        uint64_t *tally = thread->counts.tally;
        uint32_t count = firehose->records_count;
        enum sink_entry entries[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX] = {0};
        if (sink_fault_draw(faults, SINK_FAULT_RESET, &thread->random)) {
                tally[SINK_COUNT_FAULT_RESET]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += count;
                return false;
        }
        if (sink_fault_draw(faults, SINK_FAULT_STALL, &thread->random)) {
                tally[SINK_COUNT_FAULT_STALL]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += count;
                conn->state = SINK_CONN_STALL;
                return true;
        }
        if (sink_fault_draw(faults, SINK_FAULT_STALL_BYTES, &thread->random)) {
                tally[SINK_COUNT_FAULT_STALL_BYTES]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += count;
                conn->slow = true;
                conn->close_after = true;
                size_t slow_bytes = sink_firehose_answer(firehose, operation, entries, conn->out + SINK_OUT_HEAD_BYTES);
                sink_answer(thread, conn, 200, SINK_JSON_TYPE, "", slow_bytes, slow_bytes + 1); /* never whole */
                return true;
        }
        if (sink_fault_draw(faults, SINK_FAULT_ENDLESS, &thread->random)) {
                tally[SINK_COUNT_FAULT_ENDLESS]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += count;
                sink_answer_endless(thread, conn);
                return true;
        }
        if (sink_fault_draw(faults, SINK_FAULT_GARBAGE, &thread->random)) {
                tally[SINK_COUNT_FAULT_GARBAGE]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += count;
                sink_answer_garbage(thread, conn, operation);
                return true;
        }
        if (sink_fault_draw(faults, SINK_FAULT_ERROR500, &thread->random)) {
                tally[SINK_COUNT_FAULT_ERROR500]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += count;
                sink_refuse_named(thread, conn, 500, "InternalFailure", "Internal service failure.");
                return true;
        }
        bool throttled = sink_fault_draw(faults, SINK_FAULT_THROTTLE, &thread->random);
        tally[SINK_COUNT_FAULT_THROTTLE] += throttled;
        bool whole = throttled && random_below(&thread->random, 2) == 0;
        bool refused = !whole && sink_draw_entries(thread, throttled, entries);
        if (whole || (refused && operation == SINK_PUT_RECORD)) {
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += count;
                sink_refuse_named(thread, conn, 503, "ServiceUnavailableException", "Slow down.");
                return true;
        }
        uint32_t stored = 0;
        for (uint32_t i = 0; i < count; i++) {
                if (entries[i] != SINK_ENTRY_STORED)
                        continue;
                sink_store_entry(thread, firehose->data[i]);
                stored++;
        }
        tally[SINK_COUNT_CALLS_STORED] += stored > 0;
        if (sink_fault_draw(faults, SINK_FAULT_RESET_AFTER, &thread->random)) {
                tally[SINK_COUNT_FAULT_RESET_AFTER]++;
                tally[SINK_COUNT_LOST_ANSWER_ENTRIES] += stored;
                return false;
        }
        tally[SINK_COUNT_REFUSED_ENTRIES] += count - stored;
        size_t bytes = sink_firehose_answer(firehose, operation, entries, conn->out + SINK_OUT_HEAD_BYTES);
        sink_answer(thread, conn, 200, SINK_JSON_TYPE, "", bytes, bytes);
        return true;
}

/* ---------------------------------------------------------------------------------------------- CloudWatch */

static void sink_cloudwatch_refuse(struct sink_thread *thread, struct sink_conn *conn, bool cbor,
                                   const struct sink_refusal *refusal)
{
        char fields[160];
        if (refusal->status < 500)
                thread->counts.tally[SINK_COUNT_CALLS_REFUSED]++;
        size_t bytes = sink_cloudwatch_refusal(refusal, cbor, conn->out + SINK_OUT_HEAD_BYTES, fields);
        sink_answer(thread, conn, refusal->status, cbor ? "application/cbor" : "application/x-amz-json-1.0", fields,
                    bytes, bytes);
}

static void sink_cloudwatch_accept(struct sink_thread *thread, struct sink_conn *conn, bool cbor)
{
        size_t bytes = cbor ? 0 : 2;
        memcpy(conn->out + SINK_OUT_HEAD_BYTES, "{}", 2);
        if (cbor)
                sink_answer(thread, conn, 200, "application/cbor", "smithy-protocol: rpc-v2-cbor\r\n", bytes, bytes);
        else
                sink_answer(thread, conn, 200, "application/x-amz-json-1.0", "", bytes, bytes);
}

/* As sink_answer_garbage(); in CBOR a front end's 200 is among them, in JSON nothing would tell it from the service's.
 */
static void sink_cloudwatch_garbage(struct sink_thread *thread, struct sink_conn *conn, bool cbor)
{
        static const char html[] = "<html><head><title>Welcome</title></head><body>Please log in</body></html>\r\n";
        uint8_t *body = conn->out + SINK_OUT_HEAD_BYTES;
        memcpy(body, html, sizeof(html) - 1);
        switch (random_below(&thread->random, cbor ? 4 : 3)) {
        case 0: /* not HTTP */
                for (size_t i = 0; i < 256; i++)
                        body[i] = (uint8_t)random_u64(&thread->random);
                conn->close_after = true;
                conn->out_at = SINK_OUT_HEAD_BYTES;
                conn->out_end = SINK_OUT_HEAD_BYTES + 256;
                conn->state = SINK_CONN_WRITE;
                return;
        case 1: /* a front end's page */
                sink_answer(thread, conn, 502, "text/html", "", sizeof(html) - 1, sizeof(html) - 1);
                return;
        case 2: /* the body is cut by the end of the connection */
                conn->close_after = true;
                sink_answer(thread, conn, 200, "text/html", "", sizeof(html) / 2, sizeof(html) - 1);
                return;
        default:
                sink_answer(thread, conn, 200, "text/html", "", sizeof(html) - 1, sizeof(html) - 1);
                return;
        }
}

/* A valid call: faults, storing, the answer. False: the connection is to be reset. */
static bool sink_cloudwatch_call(struct sink_thread *thread, struct sink_conn *conn, bool cbor, const json_t *call,
                                 uint32_t data)
{
        const struct sink_faults *faults = thread->server->faults;
        uint64_t *tally = thread->counts.tally;
        struct err err;
        if (sink_fault_draw(faults, SINK_FAULT_RESET, &thread->random)) {
                tally[SINK_COUNT_FAULT_RESET]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += data;
                return false;
        }
        if (sink_fault_draw(faults, SINK_FAULT_STALL, &thread->random)) {
                tally[SINK_COUNT_FAULT_STALL]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += data;
                conn->state = SINK_CONN_STALL;
                return true;
        }
        if (sink_fault_draw(faults, SINK_FAULT_STALL_BYTES, &thread->random)) {
                tally[SINK_COUNT_FAULT_STALL_BYTES]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += data;
                conn->slow = true;
                conn->close_after = true;
                sink_answer(thread, conn, 200, "application/cbor", "smithy-protocol: rpc-v2-cbor\r\n", 0,
                            1); /* as above */
                return true;
        }
        if (sink_fault_draw(faults, SINK_FAULT_ENDLESS, &thread->random)) {
                tally[SINK_COUNT_FAULT_ENDLESS]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += data;
                sink_answer_endless(thread, conn);
                return true;
        }
        if (sink_fault_draw(faults, SINK_FAULT_GARBAGE, &thread->random)) {
                tally[SINK_COUNT_FAULT_GARBAGE]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += data;
                sink_cloudwatch_garbage(thread, conn, cbor);
                return true;
        }
        if (sink_fault_draw(faults, SINK_FAULT_ERROR500, &thread->random)) {
                const struct sink_refusal refusal = {
                        .status = 500, .name = "InternalServiceError", .text = "Internal service failure."};
                tally[SINK_COUNT_FAULT_ERROR500]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += data;
                sink_cloudwatch_refuse(thread, conn, cbor, &refusal);
                return true;
        }
        if (sink_fault_draw(faults, SINK_FAULT_THROTTLE, &thread->random)) {
                const struct sink_refusal refusal = {.status = 400, .name = "Throttling", .text = "Rate exceeded"};
                tally[SINK_COUNT_FAULT_THROTTLE]++;
                tally[SINK_COUNT_REFUSED_CALL_ENTRIES] += data;
                sink_cloudwatch_refuse(thread, conn, cbor, &refusal);
                return true;
        }
        if (sink_metrics_append(thread->server->metrics, call, &err) != ERR_OK) {
                /* As with lines: an incomplete file would accuse the sender. */
                (void)fprintf(stderr, "sink: %s\n", err.text);
                abort();
        }
        tally[SINK_COUNT_CALLS_STORED]++;
        tally[SINK_COUNT_METRIC_DATA] += data;
        if (sink_fault_draw(faults, SINK_FAULT_RESET_AFTER, &thread->random)) {
                tally[SINK_COUNT_FAULT_RESET_AFTER]++;
                tally[SINK_COUNT_LOST_ANSWER_ENTRIES] += data;
                return false;
        }
        sink_cloudwatch_accept(thread, conn, cbor);
        return true;
}

static bool sink_cloudwatch_request(struct sink_thread *thread, struct sink_conn *conn, bool cbor)
{
        struct sink_refusal refusal = {.status = 400};
        struct slice encoding = sink_http_header(&conn->request, SLICE("content-encoding"));
        const char *aws_code;
        struct err err;
        uint32_t data;
        if (!sink_signature_is_valid(thread, conn, &aws_code, &err)) {
                refusal.name = aws_code;
                (void)snprintf(refusal.text, sizeof(refusal.text), "%.*s", (int)sizeof(refusal.text) - 1, err.text);
                sink_cloudwatch_refuse(thread, conn, cbor, &refusal);
                return true;
        }
        json_t *call =
                sink_cloudwatch_parse(thread->cloudwatch, cbor, slice_equal_ignore_case(encoding, SLICE("gzip")),
                                      slice_of(conn->body, conn->body_bytes), clock_realtime_ms(), &data, &refusal);
        if (call == NULL) {
                sink_cloudwatch_refuse(thread, conn, cbor, &refusal);
                return true;
        }
        bool kept = sink_cloudwatch_call(thread, conn, cbor, call, data);
        json_decref(call);
        return kept;
}

/* ---------------------------------------------------------------------------------------------- one request */

bool sink_request(struct sink_thread *thread, struct sink_conn *conn)
{
        const struct sink_http_request *request = &conn->request;
        struct sink_refusal refusal;
        enum sink_operation operation;
        thread->counts.tally[SINK_COUNT_REQUESTS]++;
        thread->counts.tally[SINK_COUNT_BODY_BYTES] += conn->body_bytes;
        struct slice type = sink_http_header(request, SLICE("content-type"));
        type = slice_trim(slice_cut(&type, ';'));
        struct slice target = sink_http_header(request, SLICE("x-amz-target"));
        bool is_post = slice_equal(request->method, SLICE("POST"));
        bool cbor = sink_cloudwatch_is_cbor(request->path, sink_http_header(request, SLICE("smithy-protocol")), type);
        if (is_post && (cbor || sink_cloudwatch_is_json(request->path, target, type)))
                return sink_cloudwatch_request(thread, conn, cbor);
        if (!is_post || !slice_equal(request->path, SLICE("/"))) {
                sink_refuse_named(thread, conn, 404, "UnknownOperationException", "");
        } else if (!sink_check_signature(thread, conn)) {
                return true; /* refused there */
        } else if (!sink_firehose_operation(target, &operation) ||
                   !slice_equal_ignore_case(type, SLICE(SINK_JSON_TYPE))) {
                sink_refuse_named(thread, conn, 400, "UnknownOperationException", "");
        } else if (!sink_firehose_parse(thread->firehose, operation, slice_of(conn->body, conn->body_bytes),
                                        &refusal)) {
                sink_refuse_call(thread, conn, &refusal);
        } else if (!sink_stream_exists(&thread->server->options, thread->firehose->stream)) {
                char text[160];
                (void)snprintf(text, sizeof(text), "Firehose %.*s not found under account 123456789012.",
                               SLICE_PRINTF(thread->firehose->stream));
                sink_refuse_named(thread, conn, 400, "ResourceNotFoundException", text);
        } else {
                return sink_call(thread, conn, operation);
        }
        return true;
}
