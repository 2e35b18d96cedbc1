/* What targets of AWS services share: the endpoint, the head of a request with its signature, what a bad answer means.
 */
#include "egress/service.h"

#include "base/assert.h"
#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>

#define TARGET_NO_KEYS_RETRY_NS CLOCK_NS_PER_S
#define TARGET_CLOCK_LOG_NS     (300 * CLOCK_NS_PER_S)
/* OpenSSL takes some 100 KiB a connection by itself. */
#define TARGET_OPENSSL_BYTES (128u * 1024u)

uint64_t egress_target_http_budget_bytes(const struct rules_settings *settings, uint32_t connections_max)
{
        struct http_client_options client = {
                .url = {.tls = true},
                .connections_max = connections_max > 0 ? connections_max : settings->egress.in_flight_max,
                .response_body_bytes_max = LIMIT_HTTP_BODY_BYTES_MAX,
        };
        return http_client_memory_bytes(&client) + client.connections_max * (uint64_t)TARGET_OPENSSL_BYTES;
}

enum err_code egress_target_http_create(struct egress_target *target, const char *host, const char *endpoint,
                                        uint32_t connections_max, uint32_t idle_timeout_ms_max, struct err *reterr)
{
        const struct rules_settings *settings = target->worker->options.settings;
        char text[512];
        if (target->spec.endpoint.len > 0)
                (void)snprintf(text, sizeof(text), "%.*s", SLICE_PRINTF(target->spec.endpoint)); /* the same size */
        else if (endpoint[0] != '\0')
                (void)snprintf(text, sizeof(text), "%s", endpoint); /* the same size */
        else
                (void)snprintf(text, sizeof(text), "https://%s.%.*s.amazonaws.com%s", host,
                               SLICE_PRINTF(target->spec.region),
                               slice_equal(target->spec.partition, SLICE("aws-cn")) ? ".cn" : "");
        enum err_code code = http_url_parse(slice_of_text(text), &target->url, reterr);
        if (code != ERR_OK)
                return code;
        http_url_authority(&target->url, target->host_header, sizeof(target->host_header));
        struct http_client_options options = {
                .loop = target->worker->loop,
                .url = target->url,
                .tls = target->url.tls ? target->worker->options.tls : NULL,
                .connections_max = connections_max > 0 ? connections_max : settings->egress.in_flight_max,
                .connect_timeout_ms = settings->egress.connect_timeout_ms,
                .request_timeout_ms = settings->egress.request_timeout_ms,
                .idle_timeout_ms = settings->egress.idle_timeout_ms,
                .response_body_bytes_max = LIMIT_HTTP_BODY_BYTES_MAX,
        };
        if (idle_timeout_ms_max > 0 && options.idle_timeout_ms > idle_timeout_ms_max)
                options.idle_timeout_ms = idle_timeout_ms_max;
        return http_client_create(&options, &target->client, reterr);
}

void egress_target_http_free(struct egress_target *target)
{
        if (target->client == NULL)
                return;
        bool stopped = http_client_stop(target->client); /* its worker has stopped it, or it never sent */
        ASSERT(stopped);
        http_client_free(target->client);
}

bool egress_target_http_stop(struct egress_target *target)
{
        return http_client_stop(target->client);
}

int64_t egress_target_http_clock_ms(const struct egress_target *target)
{
        return target->ended.clock_ms + (int64_t)(target->worker->now_ns / CLOCK_NS_PER_MS);
}

static enum err_code target_http_head(struct egress_target *target, struct egress_batch *batch,
                                      const struct egress_request *request, struct err *reterr)
{
        struct egress_worker *worker = target->worker;
        /* C2: the credentials thread release-stores a whole generation (C3). */
        const struct credentials *credentials =
                atomic_load_explicit(&worker->options.credentials->current, memory_order_acquire);
        if (credentials == NULL) {
                atomic_store_explicit(&worker->options.credentials->refresh_wanted, true,
                                      memory_order_relaxed); /* C1 */
                return err_set(reterr, ERR_CREDENTIALS,
                               "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                               "credentials.profile in sendring.yaml");
        }
        uint8_t digest[SIGV4_SHA256_BYTES];
        sigv4_sha256(request->body, digest);
        /* In the order of their names; the last one is not there for every service. */
        const struct sigv4_header headers[] = {
                {SLICE("content-type"), request->content_type},
                {SLICE("host"), slice_of_text(target->host_header)},
                {SLICE("x-amz-target"), request->amz_target},
        };
        bool has_target = request->amz_target.len > 0;
        struct sigv4_request signing = {
                .method = SLICE("POST"),
                .path = request->path,
                .headers = headers,
                .headers_count = has_target ? 3 : 2,
                .body_sha256 = digest,
                .normalize_path = true,
                .double_encode_path = true,
        };
        struct sigv4_credentials keys = {
                slice_of_text(credentials->access_key_id),
                slice_of_text(credentials->secret_access_key),
                slice_of_text(credentials->session_token),
        };
        int64_t now_ms = clock_realtime_ms() + target->clock_offset_ms;
        batch->sent.credentials = credentials->number;
        batch->sent.clock_ms = now_ms - (int64_t)(clock_monotonic_ns() / CLOCK_NS_PER_MS);
        struct sigv4_signature signature;
        enum err_code code = sigv4_sign(worker->signer, &signing, &keys, target->spec.region, request->signing_name,
                                        now_ms, &signature, reterr);
        if (code != ERR_OK)
                return code;
        bool token = keys.session_token.len > 0;
        int used = snprintf(batch->head, sizeof(batch->head),
                            "POST %.*s HTTP/1.1\r\nHost: %s\r\nContent-Type: %.*s\r\n"
                            "%s%.*s%sX-Amz-Date: %s\r\n%s%s%sAuthorization: %s\r\n%.*s"
                            "User-Agent: sendring\r\nContent-Length: %zu\r\n\r\n",
                            SLICE_PRINTF(request->path), target->host_header, SLICE_PRINTF(request->content_type),
                            has_target ? "X-Amz-Target: " : "", SLICE_PRINTF(request->amz_target),
                            has_target ? "\r\n" : "", signature.amz_date, token ? "X-Amz-Security-Token: " : "",
                            token ? credentials->session_token : "", token ? "\r\n" : "", signature.authorization,
                            SLICE_PRINTF(request->fields), request->body.len);
        if (used < 0 || (size_t)used >= sizeof(batch->head))
                return err_set(reterr, ERR_TOO_BIG, "the request head exceeds %zu bytes", sizeof(batch->head));
        batch->exchange.head = slice_of(batch->head, (size_t)used);
        return ERR_OK;
}

enum err_code egress_target_http_send(struct egress_target *target, struct egress_batch *batch,
                                      const struct egress_request *request)
{
        struct err err = {.text = ""};
        enum err_code code = target_http_head(target, batch, request, &err);
        if (code != ERR_OK) {
                egress_target_batch_failed(target, code, err.text);
                /* To look for credentials again costs nothing: no need to wait for the longest interval. */
                if (code == ERR_CREDENTIALS)
                        flow_hold_at_most(&target->flow, target->worker->now_ns + TARGET_NO_KEYS_RETRY_NS);
                return code;
        }
        batch->exchange.body = request->body;
        batch->exchange.done = request->done;
        batch->exchange.context = batch;
        batch->exchange.once = request->once;
        egress_target_batch_sending(target, batch);
        code = http_client_send(target->client, &batch->exchange);
        if (code != ERR_OK) {
                egress_target_batch_not_sent(target, batch);
                if (code != ERR_BUSY)
                        egress_target_batch_failed(target, code, err_text(code));
        }
        return code;
}

void egress_target_http_unanswered(struct egress_target *target, enum err_code code, bool maybe_sent,
                                   const struct err *why)
{
        if (target->stopping)
                return;
        if (maybe_sent)
                counter_add(target->worker->options.counters, COUNTER_egress_requests_uncertain, 1);
        /* What is wrong with an answer, too much of it for example, is no word on the request. */
        if (err_class(code) == ERR_CLASS_INPUT)
                code = ERR_PROTOCOL;
        egress_target_batch_failed(target, code, why != NULL ? why->text : err_text(code));
}

void egress_target_http_error(struct egress_target *target, const struct http_response *response)
{
        struct aws_error error;
        aws_error_read(response, egress_target_http_clock_ms(target), &error);
        egress_target_http_refused(target, response->status, &error);
}

void egress_target_http_refused(struct egress_target *target, uint16_t status, const struct aws_error *error)
{
        uint64_t repeats = 0;
        if (error->code == ERR_CLOCK_SKEW) {
                /* What is learnt is undone the same way, once the host's clock is set right. Without a Date to go by,
                 * that clock is the best there is, unless something was learnt since the request went. */
                if (error->server_ms != 0)
                        target->clock_offset_ms = error->server_ms - clock_realtime_ms();
                else if (flow_is_news(&target->flow, target->ended.number))
                        target->clock_offset_ms = 0;
                if (log_gate_open(&target->clock_gate, target->worker->now_ns, TARGET_CLOCK_LOG_NS, &repeats))
                        log_warning("the service's clock differs from this host's",
                                    "target=%s offset_ms=%" PRId64
                                    " now=\"requests are signed by the service's clock\" "
                                    "help=\"set this host's clock\" repeats=%" PRIu64,
                                    target->log_key, target->clock_offset_ms, repeats);
        }
        char text[ERR_TEXT_BYTES_MAX];
        (void)snprintf(text, sizeof(text), "HTTP %u %s: %s", status, error->name, error->message); /* cut */
        egress_target_batch_failed(target, error->code, text);
        egress_target_http_wish(target, &error->wish);
}

void egress_target_http_wish(struct egress_target *target, const struct aws_wish *wish)
{
        flow_wish(&target->flow, target->worker->now_ns + wish->after_ms * CLOCK_NS_PER_MS,
                  wish->more_ms_max * CLOCK_NS_PER_MS);
}
