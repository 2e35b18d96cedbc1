#include "base/assert.h"
#include "base/clock.h"
#include "base/file.h"
#include "egress/worker_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TARGET_LOG_INTERVAL_NS (30 * CLOCK_NS_PER_S)
/* A parked target is probed at this multiple of the longest back-off. */
#define TARGET_PARKED_HOLDS     6u
#define TARGET_BUSY_RETRY_NS    (5 * CLOCK_NS_PER_MS)
#define TARGET_NO_KEYS_RETRY_NS CLOCK_NS_PER_S
/* A file batch: at least one of the largest events. */
#define TARGET_LINES_BYTES   ((size_t)LIMIT_EVENT_JSON_BYTES_MAX + 1)
#define TARGET_FILE_BATCHES  3u
#define TARGET_OPENSSL_BYTES (128u * 1024u)

_Static_assert(LIMIT_EVENT_JSON_BYTES_MAX > 1024 * 1024, "a file batch is large enough to be worth a write");

/* ---------------------------------------------------------------------------------------------- life */

static uint32_t target_batches_count(const struct rules_settings *settings, enum rules_service service)
{
        /* One builds while the others are in flight; a file takes one write at a time. */
        return service == RULES_SERVICE_FILE ? TARGET_FILE_BATCHES : settings->egress.in_flight_max + 1;
}

static size_t target_batch_bytes(const struct rules_settings *settings, enum rules_service service)
{
        return service == RULES_SERVICE_FILE ? TARGET_LINES_BYTES : settings->egress.batch_bytes_max;
}

uint64_t egress_target_budget_bytes(const struct rules_settings *settings, uint32_t targets_count)
{
        uint64_t batches = target_batches_count(settings, RULES_SERVICE_FIREHOSE);
        uint64_t body_bytes = target_batch_bytes(settings, RULES_SERVICE_FIREHOSE) + sizeof(struct egress_batch);
        uint64_t lines_bytes = TARGET_FILE_BATCHES * (TARGET_LINES_BYTES + sizeof(struct egress_batch));
        struct http_client_options client = {
                .url = {.tls = true},
                .connections_max = settings->egress.in_flight_max,
                .response_body_bytes_max = LIMIT_HTTP_BODY_BYTES_MAX,
        };
        /* OpenSSL takes some 100 KiB a connection by itself. */
        uint64_t firehose_bytes = batches * body_bytes + http_client_memory_bytes(&client) +
                                  settings->egress.in_flight_max * (uint64_t)TARGET_OPENSSL_BYTES;
        return targets_count * (firehose_bytes > lines_bytes ? firehose_bytes : lines_bytes);
}

static enum err_code target_create_batches(struct egress_target *target, struct err *reterr)
{
        const struct rules_settings *settings = target->worker->options.settings;
        target->batches_count = target_batches_count(settings, target->spec.service);
        target->batches = calloc(target->batches_count, sizeof(*target->batches));
        if (target->batches == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for the batches of %s", target->row->key);
        for (uint32_t i = 0; i < target->batches_count; i++) {
                struct egress_batch *batch = &target->batches[i];
                batch->target = target;
                batch->bytes_max = target_batch_bytes(settings, target->spec.service);
                batch->bytes = malloc(batch->bytes_max + FIREHOSE_BODY_SLACK_BYTES);
                if (batch->bytes == NULL)
                        return err_set(reterr, ERR_MEMORY, "out of memory for the batches of %s", target->row->key);
                batch->next = target->free_batches;
                target->free_batches = batch;
        }
        return ERR_OK;
}

static enum err_code target_create_firehose(struct egress_target *target, struct err *reterr)
{
        const struct rules_settings *settings = target->worker->options.settings;
        char text[512];
        if (settings->egress.firehose.url[0] != '\0') {
                (void)snprintf(text, sizeof(text), "%s", settings->egress.firehose.url); /* the same size */
        } else {
                (void)snprintf(text, sizeof(text), "https://firehose.%.*s.amazonaws.com%s",
                               SLICE_PRINTF(target->spec.region),
                               slice_equal(target->spec.partition, SLICE("aws-cn")) ? ".cn" : "");
        }
        enum err_code code = http_url_parse(slice_of_text(text), &target->url, reterr);
        if (code != ERR_OK)
                return code;
        http_url_authority(&target->url, target->host_header, sizeof(target->host_header));
        target->limits = (struct firehose_limits){
                .record_bytes_max = LIMIT_FIREHOSE_RECORD_BYTES_MAX,
                .record_events_max = target->spec.packed ? target->spec.packed_events_max : 1,
                .records_max = LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX,
        };
        struct http_client_options options = {
                .loop = target->worker->loop,
                .url = target->url,
                .tls = target->url.tls ? target->worker->options.tls : NULL,
                .connections_max = settings->egress.in_flight_max,
                .connect_timeout_ms = settings->egress.connect_timeout_ms,
                .request_timeout_ms = settings->egress.request_timeout_ms,
                .idle_timeout_ms = settings->egress.idle_timeout_ms,
                .response_body_bytes_max = LIMIT_HTTP_BODY_BYTES_MAX,
        };
        return http_client_create(&options, &target->client, reterr);
}

static enum err_code target_create_file(struct egress_target *target, struct err *reterr)
{
        struct file_sink_options options = {
                .path = arena_printf(&target->arena, "%.*s", SLICE_PRINTF(target->spec.resource)),
                .rotate_bytes = target->spec.rotate_bytes,
                .rotate_seconds = target->spec.rotate_seconds,
                .sync = target->worker->options.settings->journal.durability_host,
        };
        if (options.path == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory");
        return file_sink_open(target->worker->loop, &options, &target->file, reterr);
}

enum err_code egress_target_create(const struct rules_target *spec, const uint16_t *numbers,
                                   struct egress_worker *worker, uint32_t targets_count,
                                   struct counters_target_row *row, struct egress_target **ret_target,
                                   struct err *reterr)
{
        (void)targets_count; /* every target's memory is its own; the sum is printed as the budget */
        const struct rules_settings *settings = worker->options.settings;
        struct egress_target *target = calloc(1, sizeof(*target));
        if (target == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for target %.*s", SLICE_PRINTF(spec->key));
        arena_init(&target->arena, 4096, 0);
        target->worker = worker;
        target->row = row;
        target->queue_last = &target->queue_first;
        target->in_flight_limit = 1;
        target->spec = *spec;
        target->spec.key = arena_copy(&target->arena, spec->key);
        char key[RULES_TARGET_KEY_BYTES_MAX + 1], quoted[4 * sizeof(key) + 3];
        (void)snprintf(key, sizeof(key), "%.*s", SLICE_PRINTF(spec->key)); /* the same size */
        target->log_key = arena_printf(&target->arena, "%s", log_quote(key, quoted, sizeof(quoted)));
        if (target->log_key == NULL) {
                arena_release(&target->arena);
                free(target);
                return err_set(reterr, ERR_MEMORY, "out of memory for target %.*s", SLICE_PRINTF(spec->key));
        }
        target->spec.resource = arena_copy(&target->arena, spec->resource);
        target->spec.arn = arena_copy(&target->arena, spec->arn);
        target->spec.region = arena_copy(&target->arena, spec->region);
        target->spec.account_id = arena_copy(&target->arena, spec->account_id);
        target->spec.partition = arena_copy(&target->arena, spec->partition);
        /* What producers left out: the sender's own account, not the stream's. */
        target->json = (struct codec_json_options){
                .account_id = slice_of_text(settings->account_id),
                .region = slice_of_text(settings->region),
                .partition = slice_of_text(settings->partition),
                .configuration_set = slice_of_text(settings->default_configuration_set),
        };
        atomic_init(&target->gone, false);
        atomic_init(&target->life, EGRESS_TARGET_KEPT);
        (void)snprintf(row->key, sizeof(row->key), "%.*s", SLICE_PRINTF(spec->key)); /* the same size */
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                struct journal_target_state state;
                target->numbers[shard] = numbers[shard];
                bool known = journal_target_get(worker->options.journals[shard], numbers[shard], &state);
                ASSERT(known);
                target->place[shard] = (struct egress_place){
                        .position = state.cursor_position,
                        .sequence = state.cursor_sequence,
                        .lagging = true, /* until the worker finds that nothing lies between */
                };
        }
        enum err_code code = target_create_batches(target, reterr);
        if (code == ERR_OK && spec->service == RULES_SERVICE_FIREHOSE)
                code = target_create_firehose(target, reterr);
        if (code == ERR_OK && spec->service == RULES_SERVICE_FILE)
                code = target_create_file(target, reterr);
        if (code != ERR_OK) {
                egress_target_free(target);
                return code;
        }
        atomic_store_explicit(&row->target, numbers[0], memory_order_relaxed);
        atomic_store_explicit(&row->status, COUNTERS_TARGET_OK, memory_order_relaxed);
        *ret_target = target;
        return ERR_OK;
}

bool egress_target_keep(struct egress_target *target)
{
        /* Relaxed: the word says everything. */
        int removed = EGRESS_TARGET_REMOVED;
        return atomic_compare_exchange_strong_explicit(&target->life, &removed, EGRESS_TARGET_KEPT,
                                                       memory_order_relaxed, memory_order_relaxed) ||
               removed == EGRESS_TARGET_KEPT;
}

bool egress_target_is_gone(const struct egress_target *target)
{
        /* G2: pairs with G1 in worker_tick(). */
        return atomic_load_explicit(&target->gone, memory_order_acquire);
}

void egress_target_free(struct egress_target *target)
{
        if (target == NULL)
                return;
        if (target->client != NULL) {
                bool stopped = http_client_stop(target->client); /* its worker has stopped it, or it never sent */
                ASSERT(stopped);
                http_client_free(target->client);
        }
        if (target->file != NULL)
                file_sink_close(target->file);
        for (uint32_t i = 0; target->batches != NULL && i < target->batches_count; i++)
                free(target->batches[i].bytes);
        free(target->batches);
        arena_release(&target->arena);
        free(target);
}

void egress_target_activate(struct egress_target *target)
{
        struct egress_worker *worker = target->worker;
        if (target->active)
                return;
        ASSERT(worker->active_count < LIMIT_TARGETS_MAX);
        target->active = true;
        worker->active[worker->active_count++] = target;
}

bool egress_target_is_idle(const struct egress_target *target)
{
        if (target->queue_first != NULL)
                return false;
        for (uint32_t shard = 0; shard < target->worker->options.shards_count; shard++)
                if (target->place[shard].lagging)
                        return false;
        return true;
}

/* ---------------------------------------------------------------------------------------------- building */

bool egress_target_has_room(const struct egress_target *target)
{
        return target->free_batches != NULL || target->building != NULL;
}

/* How long an event that is read live has waited already, at most its linger: the worker may have slept meanwhile. One
 * that is read back is late anyway, and there full batches count. */
static uint64_t target_lingered_ns(const struct egress_target *target, uint32_t shard,
                                   const struct journal_record *record)
{
        uint64_t linger_ms = target->worker->options.settings->egress.linger_ms;
        int64_t age_ms = clock_realtime_ms() - record->entry.accepted_ms;
        if (target->place[shard].lagging || age_ms <= 0)
                return 0;
        return ((uint64_t)age_ms < linger_ms ? (uint64_t)age_ms : linger_ms) * CLOCK_NS_PER_MS;
}

static struct egress_batch *target_begin_batch(struct egress_target *target, uint64_t lingered_ns)
{
        struct egress_batch *batch = target->free_batches;
        if (batch == NULL)
                return NULL;
        target->free_batches = batch->next;
        batch->next = NULL;
        batch->state = EGRESS_BATCH_BUILDING;
        batch->begun_ns = target->worker->now_ns - lingered_ns;
        batch->events = 0;
        batch->attempts = 0;
        batch->partly_done = false;
        batch->resending = 0;
        batch->len = 0;
        memset(batch->shard, 0, target->worker->options.shards_count * sizeof(batch->shard[0]));
        if (target->spec.service == RULES_SERVICE_FIREHOSE)
                firehose_body_begin(&batch->firehose, batch->bytes, batch->bytes_max, target->spec.resource);
        *target->queue_last = batch;
        target->queue_last = &batch->next;
        target->building = batch;
        egress_target_activate(target);
        return batch;
}

static void target_close_batch(struct egress_target *target, struct egress_batch *batch)
{
        ASSERT(batch->state == EGRESS_BATCH_BUILDING);
        ASSERT(batch == target->building);
        target->building = NULL;
        if (target->spec.service == RULES_SERVICE_FIREHOSE && batch->events > 0) {
                firehose_body_finish(&batch->firehose);
                batch->len = batch->firehose.len;
        }
        /* A batch may hold only events that expired or can never be sent: nothing goes on the wire. */
        batch->state = batch->events > 0 ? EGRESS_BATCH_READY : EGRESS_BATCH_SETTLED;
}

static enum err_code target_append(struct egress_target *target, struct egress_batch *batch, struct slice json)
{
        if (target->spec.service == RULES_SERVICE_FIREHOSE)
                return firehose_body_append(&batch->firehose, &target->limits, json);
        if (json.len + 1 > batch->bytes_max)
                return ERR_TOO_BIG;
        if (json.len + 1 > batch->bytes_max - batch->len)
                return ERR_FULL;
        memcpy(batch->bytes + batch->len, json.ptr, json.len);
        batch->bytes[batch->len + json.len] = '\n';
        batch->len += json.len + 1;
        return ERR_OK;
}

/* One event that no request can ever carry goes to the dead-letter file, with its reason, and is synced: it is rare. */
static void target_dead_letter(struct egress_target *target, struct slice json, const char *reason)
{
        struct egress_worker *worker = target->worker;
        uint64_t repeats = 0;
        struct err err = {.text = ""};
        if (worker->dead_letter_fd < 0) {
                (void)file_make_directory(worker->options.dead_letter_directory, &err); /* open() tells it as well */
                worker->dead_letter_fd =
                        open(worker->dead_letter_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        }
        bool written = worker->dead_letter_fd >= 0;
        if (written) {
                uint8_t key[6 * RULES_TARGET_KEY_BYTES_MAX + 2]; /* every byte may grow to six */
                char head[sizeof(key) + 256];
                size_t key_bytes = codec_json_string(target->spec.key, key, sizeof(key));
                int used = snprintf(head, sizeof(head), "{\"target\":%.*s,\"reason\":\"%s\",\"event\":", (int)key_bytes,
                                    (const char *)key, reason);
                written = used > 0 && write(worker->dead_letter_fd, head, (size_t)used) == used &&
                          write(worker->dead_letter_fd, json.ptr, json.len) == (ssize_t)json.len &&
                          write(worker->dead_letter_fd, "}\n", 2) == 2 && fdatasync(worker->dead_letter_fd) == 0;
        }
        counter_add(worker->options.counters, COUNTER_egress_dead_lettered, 1);
        if (log_gate_open(&target->dead_letter_gate, worker->now_ns, TARGET_LOG_INTERVAL_NS, &repeats))
                log_error("an event can never be delivered",
                          "target=%s reason=\"%s\" dead_letter_file=%s written=%s repeats=%" PRIu64, target->log_key,
                          reason, worker->dead_letter_path, written ? "yes" : "no", repeats);
}

static bool target_event_expired(const struct egress_target *target, const struct journal_record *record)
{
        uint64_t age_max_s = target->worker->options.settings->egress.event_age_max_s;
        if (age_max_s == 0)
                return false;
        int64_t age_ms = clock_realtime_ms() - record->entry.accepted_ms;
        return age_ms > 0 && (uint64_t)age_ms / 1000 > age_max_s;
}

bool egress_target_take(struct egress_target *target, uint32_t shard, const struct journal_record *record,
                        struct slice json, uint32_t copies)
{
        struct egress_place *place = &target->place[shard];
        struct counters_block *counters = target->worker->options.counters;
        bool expired = target_event_expired(target, record);
        struct egress_batch *batch = NULL;
        for (uint32_t copy = place->copies_done; copy < copies;) {
                batch = target->building;
                if (batch == NULL)
                        batch = target_begin_batch(target, target_lingered_ns(target, shard, record));
                if (batch == NULL) {
                        place->position = record->position;
                        place->sequence = record->sequence;
                        place->copies_done = (uint8_t)copy;
                        place->lagging = true;
                        egress_target_activate(target);
                        return false;
                }
                enum err_code code = expired ? ERR_OK : target_append(target, batch, json);
                if (code == ERR_FULL) {
                        target_close_batch(target, batch);
                        continue;
                }
                if (expired) {
                        place->copies_settled.expired++;
                        counter_add(counters, COUNTER_egress_expired, 1);
                } else if (code == ERR_OK) {
                        place->copies_settled.delivered++;
                        batch->events++;
                        counter_add(counters, COUNTER_egress_events, 1);
                        counter_add(counters, COUNTER_egress_json_bytes, json.len + 1);
                } else {
                        target_dead_letter(target, json, "larger than a Firehose record (1,000 KiB)");
                        place->copies_settled.dead_lettered++;
                }
                copy++;
                /* Until its last copy is taken, the cursor must not pass this record, and none of its copies count. */
                batch->shard[shard].touched = true;
                batch->shard[shard].end_position = record->position;
                batch->shard[shard].end_sequence = record->sequence;
        }
        if (batch != NULL) {
                struct journal_settled *settled = &batch->shard[shard].settled;
                settled->delivered += place->copies_settled.delivered;
                settled->dead_lettered += place->copies_settled.dead_lettered;
                settled->expired += place->copies_settled.expired;
                batch->shard[shard].end_position = record->next_position;
                batch->shard[shard].end_sequence = record->sequence + 1;
        }
        place->copies_settled = (struct journal_settled){0};
        place->position = record->next_position;
        place->sequence = record->sequence + 1;
        place->copies_done = 0;
        return true;
}

void egress_target_passed(struct egress_target *target, uint32_t shard, uint64_t position, uint64_t sequence)
{
        target->place[shard].position = position;
        target->place[shard].sequence = sequence;
        target->place[shard].copies_done = 0;
}

/* ---------------------------------------------------------------------------------------------- settling */

static void target_settle(struct egress_target *target)
{
        struct egress_worker *worker = target->worker;
        while (target->queue_first != NULL && target->queue_first->state == EGRESS_BATCH_SETTLED) {
                struct egress_batch *batch = target->queue_first;
                target->queue_first = batch->next;
                if (target->queue_first == NULL)
                        target->queue_last = &target->queue_first;
                for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                        if (!batch->shard[shard].touched)
                                continue;
                        journal_target_advance(worker->feeds[shard].journal, target->numbers[shard],
                                               batch->shard[shard].end_position, batch->shard[shard].end_sequence,
                                               &batch->shard[shard].settled);
                        counter_add(worker->options.counters, COUNTER_egress_delivered,
                                    batch->shard[shard].settled.delivered);
                }
                batch->state = EGRESS_BATCH_FREE;
                batch->next = target->free_batches;
                target->free_batches = batch;
        }
}

static void target_row_turn(struct egress_target *target)
{
        struct counters_target_row *row = target->row;
        bool removed = atomic_load_explicit(&target->life, memory_order_relaxed) != EGRESS_TARGET_KEPT;
        uint32_t status = removed                            ? COUNTERS_TARGET_REMOVED
                          : target->parked                   ? COUNTERS_TARGET_PARKED
                          : target->consecutive_failures > 0 ? COUNTERS_TARGET_RETRYING
                                                             : COUNTERS_TARGET_OK;
        /* Relaxed: figures for people; each stands alone. */
        atomic_store_explicit(&row->status, status, memory_order_relaxed);
        atomic_store_explicit(&row->in_flight, target->in_flight, memory_order_relaxed);
        atomic_store_explicit(&row->consecutive_failures, target->consecutive_failures, memory_order_relaxed);
}

static void target_row_add(_Atomic uint64_t *word, uint64_t amount)
{
        /* Relaxed: this thread is the only writer. */
        uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
        atomic_store_explicit(word, now + amount, memory_order_relaxed);
}

/* The target as a whole waits: full jitter, from `base_ms`, doubled with each failure in a row. */
static void target_hold(struct egress_target *target, uint32_t base_ms)
{
        const struct rules_settings *settings = target->worker->options.settings;
        uint32_t doublings = target->consecutive_failures == 0 ? 0 : target->consecutive_failures - 1;
        double delay_ms = base_ms;
        for (uint32_t i = 0; i < doublings && delay_ms < settings->egress.retry_max_ms; i++)
                delay_ms *= 2;
        if (delay_ms > settings->egress.retry_max_ms)
                delay_ms = settings->egress.retry_max_ms;
        delay_ms *= random_unit(&target->worker->random);
        target->hold_until_ns = target->worker->now_ns + (uint64_t)(delay_ms * (double)CLOCK_NS_PER_MS);
}

static void target_succeeded(struct egress_target *target)
{
        if (target->consecutive_failures > 0)
                log_info("target delivers again", "target=%s after_failures=%u", target->log_key,
                         target->consecutive_failures);
        target->consecutive_failures = 0;
        target->parked = false;
        target->hold_until_ns = 0;
        double max = target->worker->options.settings->egress.in_flight_max;
        target->in_flight_limit += 1 / target->in_flight_limit;
        if (target->in_flight_limit > max)
                target->in_flight_limit = max;
        atomic_store_explicit(&target->row->last_success_ms, clock_realtime_ms(), memory_order_relaxed);
}

/* A request, or a write, failed as a whole. The class decides; the events stay where they are. */
static void target_failed(struct egress_target *target, enum err_code code, const char *text)
{
        struct egress_worker *worker = target->worker;
        const struct rules_settings *settings = worker->options.settings;
        uint64_t repeats = 0;
        target->consecutive_failures++;
        counter_add(worker->options.counters, COUNTER_egress_requests_failed, 1);
        target_row_add(&target->row->failures, 1);
        atomic_store_explicit(&target->row->last_failure_ms, clock_realtime_ms(), memory_order_relaxed);
        counters_row_set_error(target->row, text);

        const char *doing = "tries again";
        switch (err_class(code)) {
        case ERR_CLASS_REFUSED:
        case ERR_CLASS_CONFIG:
        case ERR_CLASS_INPUT:
                /* Refused for good: only the operator can help. Nothing is thrown away; a probe now and then notices.
                 */
                target->parked = true;
                target->in_flight_limit = 1;
                target->hold_until_ns = worker->now_ns +
                                        TARGET_PARKED_HOLDS * (uint64_t)settings->egress.retry_max_ms * CLOCK_NS_PER_MS;
                doing = "parked: probes until somebody acts; events wait in the journal";
                break;
        case ERR_CLASS_NONE:
        case ERR_CLASS_AGAIN:
        case ERR_CLASS_RETRY:
        case ERR_CLASS_SYSTEM:
        case ERR_CLASS_CORRUPT:
        case ERR_CLASS_BUG:
                if (code == ERR_THROTTLED) {
                        counter_add(worker->options.counters, COUNTER_egress_requests_throttled, 1);
                        target->in_flight_limit = target->in_flight_limit > 2 ? target->in_flight_limit / 2 : 1;
                        target_hold(target, settings->egress.retry_throttle_base_ms);
                } else if (code == ERR_CREDENTIALS_EXPIRED) {
                        /* C1: relaxed; the helper thread looks once a second. */
                        atomic_store_explicit(&worker->options.credentials->refresh_wanted, true, memory_order_relaxed);
                        target->in_flight_limit = 1;
                        target_hold(target, settings->egress.retry_throttle_base_ms);
                } else if (code == ERR_CLOCK_SKEW && target->consecutive_failures == 1) {
                        target->hold_until_ns = 0; /* signed anew at once, with the offset learnt */
                } else {
                        target->in_flight_limit = 1;
                        target_hold(target, settings->egress.retry_base_ms);
                }
                break;
        }
        if (log_gate_open(&target->failure_gate, worker->now_ns, TARGET_LOG_INTERVAL_NS, &repeats)) {
                char quoted[400];
                log_write(target->parked ? LOG_ERROR : LOG_WARNING, "target failed",
                          "target=%s class=%s error=%s now=\"%s\" in_a_row=%u repeats=%" PRIu64, target->log_key,
                          err_class_name(err_class(code)), log_quote(text, quoted, sizeof(quoted)), doing,
                          target->consecutive_failures, repeats);
        }
}

/* ---------------------------------------------------------------------------------------------- Firehose */

static void target_firehose_done(struct http_exchange *exchange, enum err_code code,
                                 const struct http_response *response, bool maybe_sent, const struct err *why)
{
        struct egress_batch *batch = exchange->context;
        struct egress_target *target = batch->target;
        struct egress_worker *worker = target->worker;
        struct counters_block *counters = worker->options.counters;
        ASSERT(batch->state == EGRESS_BATCH_SENDING);
        ASSERT(target->in_flight > 0);
        target->in_flight--;
        batch->state = EGRESS_BATCH_READY; /* until an answer settles it */
        worker->now_ns = clock_monotonic_ns();
        egress_target_activate(target);

        if (code != ERR_OK) {
                if (target->stopping)
                        return;
                if (maybe_sent)
                        counter_add(counters, COUNTER_egress_requests_uncertain, 1);
                target_failed(target, code, why != NULL ? why->text : err_text(code));
                return;
        }
        if (response->status == 200) {
                struct firehose_answer answer;
                code = firehose_answer_read(response->body, batch->firehose.records, &answer);
                if (code != ERR_OK) {
                        counter_add(counters, COUNTER_egress_requests_uncertain, 1);
                        target_failed(target, ERR_PROTOCOL, "status 200 with a body that is no PutRecordBatch answer");
                        return;
                }
                if (answer.failed == 0) {
                        batch->state = EGRESS_BATCH_SETTLED;
                        target_succeeded(target);
                        target_settle(target);
                        return;
                }
                /* Some records were refused: they alone go again. The endpoint works, so this is no failure in a row;
                 * but it asks for less. */
                counter_add(counters, COUNTER_egress_entries_refused, answer.failed);
                target_row_add(&target->row->entries_refused, answer.failed);
                counters_row_set_error(target->row, answer.first_error);
                if (answer.accepted > 0) {
                        batch->partly_done = true;
                        target->consecutive_failures = 0;
                        target->parked = false;
                } else {
                        target->consecutive_failures++;
                }
                batch->events = firehose_body_keep_failed(&batch->firehose, &answer);
                batch->len = batch->firehose.len;
                batch->resending = answer.failed;
                if (answer.throttled) {
                        target->in_flight_limit = target->in_flight_limit > 2 ? target->in_flight_limit / 2 : 1;
                        counter_add(counters, COUNTER_egress_requests_throttled, 1);
                }
                target_hold(target, answer.throttled ? worker->options.settings->egress.retry_throttle_base_ms
                                                     : worker->options.settings->egress.retry_base_ms);
                return;
        }
        struct aws_error error;
        aws_error_read(response, clock_realtime_ms(), &error);
        if (error.code == ERR_CLOCK_SKEW)
                target->clock_offset_ms = error.clock_offset_ms;
        char text[ERR_TEXT_BYTES_MAX];
        (void)snprintf(text, sizeof(text), "HTTP %u %s: %s", response->status, error.name, error.message); /* cut */
        target_failed(target, error.code, text);
        uint64_t wished_ns = worker->now_ns + (uint64_t)error.retry_after_ms * CLOCK_NS_PER_MS;
        if (error.retry_after_ms > 0 && target->hold_until_ns < wished_ns)
                target->hold_until_ns = wished_ns; /* the service knows better */
}

static enum err_code target_firehose_head(struct egress_target *target, struct egress_batch *batch, struct err *reterr)
{
        struct egress_worker *worker = target->worker;
        /* C2: the helper thread release-stores a whole generation (C3). */
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
        sigv4_sha256(slice_of(batch->bytes, batch->len), digest);
        const struct sigv4_header headers[] = {
                {SLICE("content-type"), SLICE("application/x-amz-json-1.1")},
                {SLICE("host"), slice_of_text(target->host_header)},
                {SLICE("x-amz-target"), SLICE("Firehose_20150804.PutRecordBatch")},
        };
        struct sigv4_request request = {
                .method = SLICE("POST"),
                .path = slice_of_text(target->url.path),
                .headers = headers,
                .headers_count = sizeof(headers) / sizeof(headers[0]),
                .body_sha256 = digest,
                .normalize_path = true,
                .double_encode_path = true,
        };
        struct sigv4_credentials keys = {
                slice_of_text(credentials->access_key_id),
                slice_of_text(credentials->secret_access_key),
                slice_of_text(credentials->session_token),
        };
        struct sigv4_signature signature;
        enum err_code code = sigv4_sign(worker->signer, &request, &keys, target->spec.region, SLICE("firehose"),
                                        clock_realtime_ms() + target->clock_offset_ms, &signature, reterr);
        if (code != ERR_OK)
                return code;
        bool token = keys.session_token.len > 0;
        int used = snprintf(
                batch->head, sizeof(batch->head),
                "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-amz-json-1.1\r\n"
                "X-Amz-Target: Firehose_20150804.PutRecordBatch\r\nX-Amz-Date: %s\r\n%s%s%sAuthorization: %s\r\n"
                "User-Agent: sendring\r\nContent-Length: %zu\r\n\r\n",
                target->url.path, target->host_header, signature.amz_date, token ? "X-Amz-Security-Token: " : "",
                token ? credentials->session_token : "", token ? "\r\n" : "", signature.authorization, batch->len);
        if (used < 0 || (size_t)used >= sizeof(batch->head))
                return err_set(reterr, ERR_TOO_BIG, "the request head exceeds %zu bytes", sizeof(batch->head));
        batch->exchange.head = slice_of(batch->head, (size_t)used);
        return ERR_OK;
}

/* Starts one READY batch. ERR_BUSY: no connection is free. */
static enum err_code target_firehose_send(struct egress_target *target, struct egress_batch *batch)
{
        struct counters_block *counters = target->worker->options.counters;
        struct err err = {.text = ""};
        enum err_code code = target_firehose_head(target, batch, &err);
        if (code != ERR_OK) {
                target_failed(target, code, err.text);
                /* To look for credentials again costs nothing: no need to wait for the longest interval. */
                if (code == ERR_CREDENTIALS && target->hold_until_ns > target->worker->now_ns + TARGET_NO_KEYS_RETRY_NS)
                        target->hold_until_ns = target->worker->now_ns + TARGET_NO_KEYS_RETRY_NS;
                return code;
        }
        batch->exchange.body = slice_of(batch->bytes, batch->len);
        batch->exchange.done = target_firehose_done;
        batch->exchange.context = batch;
        /* The state first: `done` may come before http_client_send() returns. */
        batch->state = EGRESS_BATCH_SENDING;
        target->in_flight++;
        code = http_client_send(target->client, &batch->exchange);
        if (code != ERR_OK) {
                batch->state = EGRESS_BATCH_READY;
                target->in_flight--;
                if (code != ERR_BUSY)
                        target_failed(target, code, err_text(code));
                return code;
        }
        counter_add(counters, COUNTER_egress_entries, batch->firehose.records);
        if (batch->resending > 0) {
                /* Counted once per refusal: a request that failed as a whole meanwhile does not refuse entries. */
                counter_add(counters, COUNTER_egress_entries_resent, batch->resending);
                target_row_add(&target->row->entries_resent, batch->resending);
                batch->resending = 0;
        }
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- file */

static void target_file_done(void *context, enum err_code code, const struct err *why)
{
        struct egress_batch *batch = context;
        struct egress_target *target = batch->target;
        ASSERT(batch->state == EGRESS_BATCH_SENDING);
        target->in_flight--;
        target->worker->now_ns = clock_monotonic_ns();
        egress_target_activate(target);
        if (code != ERR_OK) {
                batch->state = EGRESS_BATCH_READY;
                target_failed(target, code, why != NULL ? why->text : err_text(code));
                return;
        }
        batch->state = EGRESS_BATCH_SETTLED;
        target_succeeded(target);
        target_settle(target);
}

static enum err_code target_file_send(struct egress_target *target, struct egress_batch *batch)
{
        batch->state = EGRESS_BATCH_SENDING;
        target->in_flight++;
        enum err_code code = file_sink_write(target->file, slice_of(batch->bytes, batch->len), target_file_done, batch);
        if (code != ERR_OK) {
                batch->state = EGRESS_BATCH_READY;
                target->in_flight--;
                if (code != ERR_BUSY)
                        target_failed(target, code, err_text(code));
        }
        return code;
}

/* ---------------------------------------------------------------------------------------------- the turn */

static enum err_code target_send(struct egress_target *target, struct egress_batch *batch)
{
        enum err_code code = target->spec.service == RULES_SERVICE_FILE ? target_file_send(target, batch)
                                                                        : target_firehose_send(target, batch);
        if (code == ERR_OK) {
                batch->attempts++;
                counter_add(target->worker->options.counters, COUNTER_egress_requests, 1);
                counter_add(target->worker->options.counters, COUNTER_egress_request_bytes, batch->len);
                target_row_add(&target->row->requests, 1);
        }
        return code;
}

static uint32_t target_in_flight_limit(const struct egress_target *target)
{
        if (target->spec.service == RULES_SERVICE_FILE || target->consecutive_failures > 0)
                return 1; /* one writer; one probe */
        return (uint32_t)target->in_flight_limit;
}

uint64_t egress_target_turn(struct egress_target *target)
{
        struct egress_worker *worker = target->worker;
        uint64_t now_ns = worker->now_ns;
        uint64_t wish_ns = UINT64_MAX;
        struct egress_batch *building = target->building;
        if (building != NULL) {
                uint64_t due_ns =
                        building->begun_ns + (uint64_t)worker->options.settings->egress.linger_ms * CLOCK_NS_PER_MS;
                if (worker->draining || now_ns >= due_ns)
                        target_close_batch(target, building);
                else
                        wish_ns = due_ns;
        }
        target_settle(target);
        for (struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next) {
                if (batch->state != EGRESS_BATCH_READY || target->stopping)
                        continue;
                if (now_ns < target->hold_until_ns) {
                        wish_ns = target->hold_until_ns < wish_ns ? target->hold_until_ns : wish_ns;
                        break;
                }
                if (target->in_flight >= target_in_flight_limit(target))
                        break; /* a completion calls again */
                enum err_code code = target_send(target, batch);
                if (code == ERR_BUSY) {
                        uint64_t again_ns = now_ns + TARGET_BUSY_RETRY_NS;
                        wish_ns = again_ns < wish_ns ? again_ns : wish_ns;
                        break;
                }
                if (code != ERR_OK) {
                        wish_ns = target->hold_until_ns < wish_ns ? target->hold_until_ns : wish_ns;
                        break;
                }
        }
        target_row_turn(target);
        return wish_ns;
}

void egress_target_tick(struct egress_target *target)
{
        struct egress_worker *worker = target->worker;
        const struct journal_settled nothing = {0};
        if (target->file != NULL && !target->stopping)
                file_sink_rotate_if_due(target->file); /* by age, also without an event */
        for (uint32_t shard = 0; shard < worker->options.shards_count && !target->stopping; shard++) {
                struct egress_shard_feed *feed = &worker->feeds[shard];
                struct egress_place *place = &target->place[shard];
                bool on_its_way = false;
                for (const struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next)
                        on_its_way |= batch->shard[shard].touched;
                if (on_its_way)
                        continue;
                /* Nothing of this shard is: everything looked at is settled. A record cut between its copies is not. */
                if (!place->lagging && place->position < feed->live_position)
                        egress_target_passed(target, shard, feed->live_position, feed->live_sequence);
                if (place->copies_done == 0)
                        journal_target_advance(feed->journal, target->numbers[shard], place->position, place->sequence,
                                               &nothing);
        }
        int life = atomic_load_explicit(&target->life, memory_order_relaxed);
        if (life == EGRESS_TARGET_KEPT)
                target->remove_at_known = false;
        if (life != EGRESS_TARGET_REMOVED || !target->remove_at_known || target->stopping)
                return;
        bool through = target->queue_first == NULL || target->parked;
        for (uint32_t shard = 0; shard < worker->options.shards_count && !target->parked; shard++)
                through &= target->place[shard].position >= target->remove_at[shard];
        if (!through || !atomic_compare_exchange_strong_explicit(&target->life, &life, EGRESS_TARGET_ENDING,
                                                                 memory_order_relaxed, memory_order_relaxed))
                return;
        log_info("target removed", "target=%s reason=\"%s\"", target->log_key,
                 target->parked ? "in no configuration set any more, and refused: what waited is shed"
                                : "in no configuration set any more, and all delivered");
        atomic_store_explicit(&target->row->status, COUNTERS_TARGET_UNUSED, memory_order_relaxed);
        target->stopping = true; /* the control thread retires its cursors once it is gone */
}

bool egress_target_stop(struct egress_target *target)
{
        target->stopping = true;
        bool stopped = true;
        if (target->client != NULL)
                stopped &= http_client_stop(target->client);
        if (target->file != NULL)
                stopped &= !file_sink_is_busy(target->file);
        return stopped;
}
