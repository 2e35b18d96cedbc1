/* CloudWatch as a service: events are counted into the table of the open period; a closed period is encoded into the
 * outbox, whose chunks go out one after the other as PutMetricData; when the last one is acknowledged, the cursors
 * move.
 *
 *     append: event -> table (egress/metrics.h)
 *     finish: table -> bodies in the outbox (egress/cloudwatch.h, egress/outbox.h), sealed with the cursors' moves
 *     send, done: chunk by chunk, each once, save where no answer came
 *     settled: cursors have moved -> the outbox is empty
 *
 * A batch is a period: it is due at the next boundary of the clock, or when the table is full, when the log that it
 * holds back grows too long, when the target is removed or the worker drains. While the outbox is being sent the next
 * period counts on, beyond its boundary if it must; when its table is full too, the target lags, as any other. */
#include "egress/service.h"
#include "egress/target_cloudwatch_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/file.h"
#include "egress/cloudwatch.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* One period counts, one is being sent, one may hold only what is settled without being sent. */
#define CLOUDWATCH_BATCHES 3u
/* A period is closed early when the log that its cursor holds is longer than this part of what the journal may be. */
#define CLOUDWATCH_LOG_SHARE 4u
/* A kept connection that the peer has just given up makes a request ambiguous: none is kept from one minute to the
 * next.
 */
#define CLOUDWATCH_IDLE_TIMEOUT_MS 5000u
#define CLOUDWATCH_MS_PER_HOUR     INT64_C(3600000)

/* ---------------------------------------------------------------------------------------------- life */

static uint32_t target_cloudwatch_batches_count(const struct rules_settings *settings)
{
        (void)settings; /* one period at a time is sent */
        return CLOUDWATCH_BATCHES;
}

static size_t target_cloudwatch_batch_bytes(const struct rules_settings *settings)
{
        (void)settings; /* bodies lie in the outbox */
        return 0;
}

static uint64_t target_cloudwatch_budget_bytes(const struct rules_settings *settings, const struct rules_target *spec)
{
        return sizeof(struct egress_cloudwatch) + egress_target_http_budget_bytes(settings, 1) +
               metrics_table_bytes(spec->cloudwatch) +
               series_budget_bytes(metrics_table_records_max(spec->cloudwatch)) +
               outbox_budget_bytes(cloudwatch_bodies_bytes_max(spec->cloudwatch)) +
               cloudwatch_gzip_bytes_max(LIMIT_CLOUDWATCH_CALL_BYTES_MAX) +
               (spec->cloudwatch->gzip ? cloudwatch_gzip_memory_bytes() : 0);
}

/* The outbox is open: its lock is for this file as well. */
static enum err_code cloudwatch_keep_series(struct egress_target *target, const struct rules_cloudwatch *rules,
                                            struct err *reterr)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        const char *directory = target->worker->options.outbox_directory, *dropped = NULL;
        char path[PATH_MAX];
        if (!series_path(directory, target->spec.key, path, sizeof(path)))
                return err_set(reterr, ERR_CONFIG, "the path %s is too long", directory);
        struct series_options options = {
                .path = path,
                .key_hash = outbox_key_hash(target->spec.key),
                .records_max = metrics_table_records_max(rules),
                .hour_max = (clock_realtime_ms() + CLOUDWATCH_AHEAD_MS_MAX) / CLOUDWATCH_MS_PER_HOUR,
        };
        enum err_code code = series_open(&options, &own->series, &dropped, reterr);
        if (code != ERR_OK)
                return code;
        if (dropped != NULL)
                log_warning("the budget of a CloudWatch target begins anew",
                            "target=%s reason=\"%s\" now=\"this hour may have more series than SeriesMax\"",
                            target->log_key, dropped);
        metrics_table_keep(own->table, own->series);
        return ERR_OK;
}

/* Relaxed: figures for people. */
static void cloudwatch_tell_series(struct egress_target *target, const struct metrics_stats *stats)
{
        atomic_store_explicit(&target->row->series_hour, stats->hour_series, memory_order_relaxed);
        atomic_store_explicit(&target->row->series_hour_before, stats->hour_before_series, memory_order_relaxed);
        atomic_store_explicit(&target->row->series_hour_number, stats->hour, memory_order_relaxed);
}

static enum err_code target_cloudwatch_create(struct egress_target *target, struct err *reterr)
{
        const struct rules_cloudwatch *rules = target->spec.cloudwatch;
        const struct egress_worker_options *worker = &target->worker->options;
        char path[PATH_MAX];
        struct egress_cloudwatch *own = calloc(1, sizeof(*own));
        if (own == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory");
        target->cloudwatch = own;
        own->target = target;
        target->spec.cloudwatch = NULL; /* the plan's: it may go before the target does */
        own->json = rules->json;
        own->resend_ambiguous = rules->resend_ambiguous;
        own->period_ms = (int64_t)rules->period_s * 1000;
        for (uint32_t shard = 0; shard < worker->shards_count; shard++) {
                struct journal_stats stats;
                journal_get_stats(worker->journals[shard], &stats);
                own->log_bytes_max[shard] = stats.size_bytes_max / CLOUDWATCH_LOG_SHARE;
        }
        enum err_code code = metrics_table_create(rules, &own->table, reterr);
        if (code == ERR_OK && rules->gzip)
                code = cloudwatch_gzip_create(&own->gzip, reterr);
        own->wire_bytes_max = cloudwatch_gzip_bytes_max(LIMIT_CLOUDWATCH_CALL_BYTES_MAX);
        own->wire = malloc(own->wire_bytes_max);
        if (code == ERR_OK && own->wire == NULL)
                code = err_set(reterr, ERR_MEMORY, "out of memory");
        if (code == ERR_OK)
                code = egress_target_http_create(target, "monitoring", worker->settings->egress.cloudwatch.url, 1,
                                                 CLOUDWATCH_IDLE_TIMEOUT_MS, reterr);
        if (code == ERR_OK)
                code = file_make_directory(worker->outbox_directory, reterr);
        if (code != ERR_OK)
                return code;
        if (!outbox_path(worker->outbox_directory, target->spec.key, path, sizeof(path)))
                return err_set(reterr, ERR_CONFIG, "the path %s is too long", worker->outbox_directory);
        uint32_t log_ids[LIMIT_LOGS_MAX];
        for (uint32_t log = 0; log < worker->shards_count; log++)
                log_ids[log] = worker->logs != NULL ? worker->logs[log].id : log;
        struct outbox_options options = {
                .path = path,
                .log_ids = log_ids,
                .key_hash = outbox_key_hash(target->spec.key),
                .shards_count = worker->shards_count,
                .data_bytes_max = cloudwatch_bodies_bytes_max(rules),
        };
        struct outbox_found found;
        code = outbox_open(&options, &own->outbox, &found, reterr);
        if (code != ERR_OK)
                return code;
        code = cloudwatch_keep_series(target, rules, reterr);
        if (code != ERR_OK)
                return code;
        struct metrics_stats stats;
        metrics_table_get_stats(own->table, &stats);
        /* Relaxed: figures for people. */
        atomic_store_explicit(&target->row->series_max, stats.series_max, memory_order_relaxed);
        cloudwatch_tell_series(target, &stats);
        cloudwatch_recover(target, &found);
        return ERR_OK;
}

static void target_cloudwatch_free(struct egress_target *target)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        egress_target_http_free(target);
        if (own == NULL)
                return;
        /* A target that has come to its end leaves nothing; one whose daemon ends goes on where it was. */
        bool gone = egress_target_is_gone(target);
        metrics_table_free(own->table);
        if (own->series != NULL && gone)
                series_remove(own->series);
        else
                series_close(own->series);
        if (own->outbox != NULL && gone) /* last: it has the lock */
                outbox_remove(own->outbox);
        else
                outbox_close(own->outbox);
        cloudwatch_gzip_free(own->gzip);
        free(own->wire);
        free(own);
}

/* ---------------------------------------------------------------------------------------------- counting */

static void target_cloudwatch_begin(struct egress_target *target, struct egress_batch *batch)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        const struct rules_settings *settings = target->worker->options.settings;
        /* The boundary of the clock, and as long as events may take to come here: those of the last moment are then in
         * this request and not a series of their own in the next. */
        int64_t left_ms = own->period_ms - clock_realtime_ms() % own->period_ms;
        batch->due_ns = target->worker->now_ns + ((uint64_t)left_ms + settings->egress.linger_ms) * CLOCK_NS_PER_MS;
        batch->patient = true;
        own->count_again = false;
        for (uint32_t shard = 0; shard < target->worker->options.shards_count; shard++)
                own->first_position[shard] = UINT64_MAX;
}

static enum err_code target_cloudwatch_append(struct egress_target *target, struct egress_batch *batch,
                                              const struct egress_event *event, uint32_t copies)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        const struct journal_record *record = event->record;
        int64_t at_ms, now_ms = target->worker->turn_ms;
        enum err_code code = cloudwatch_time_of(record->origin.accepted_ms, own->period_ms, now_ms, &at_ms);
        if (code != ERR_OK)
                return code;
        metrics_table_forget_after(own->table, (now_ms + CLOUDWATCH_AHEAD_MS_MAX) / CLOUDWATCH_MS_PER_HOUR);
        code = metrics_table_count(own->table, event->view, &target->json, at_ms, copies);
        if (own->first_position[event->shard] == UINT64_MAX)
                own->first_position[event->shard] = record->position;
        if (record->next_position - own->first_position[event->shard] > own->log_bytes_max[event->shard])
                batch->due_ns = 0;
        return code;
}

static const char *cloudwatch_refusal_text(enum metrics_refusal refusal, enum rules_dimension_source source)
{
        switch (refusal) {
        case METRICS_REFUSED_LENGTH:
                return "it is longer than 1024 bytes";
        case METRICS_REFUSED_CHARACTERS:
                return source == RULES_DIMENSION_EMAIL_HEADER ? "it has other characters than A-Za-z0-9_@-."
                                                              : "it has other characters than those of printable ASCII";
        case METRICS_REFUSED_BLANK:
                return "it is blank";
        case METRICS_REFUSALS_COUNT:
                break;
        }
        ASSERT(false); /* no refusal */
        return "";
}
_Static_assert(LIMIT_CLOUDWATCH_VALUE_BYTES_MAX == 1024, "as cloudwatch_refusal_text() says");

/* Once for each dimension and reason: what is silent in SES. */
static void cloudwatch_tell_values(struct egress_target *target, const struct metrics_stats *now)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        const struct rules_cloudwatch *rules = metrics_table_config(own->table);
        uint32_t several = now->several_mask & ~own->several_logged;
        own->several_logged |= several;
        for (uint32_t why = 0; why < METRICS_REFUSALS_COUNT; why++) {
                uint32_t refused = now->refused_why[why] & ~own->refused_logged[why];
                own->refused_logged[why] |= refused;
                for (; refused != 0; refused &= refused - 1) {
                        const struct rules_dimension *dimension = &rules->dimensions[__builtin_ctz(refused)];
                        log_warning("a dimension has a value that is none: no metric, as in SES",
                                    "target=%s dimension=%.*s reason=\"%s\" "
                                    "now=\"counted in cloudwatch_values_refused\"",
                                    target->log_key, SLICE_PRINTF(dimension->name),
                                    cloudwatch_refusal_text((enum metrics_refusal)why, dimension->source));
                }
        }
        for (; several != 0; several &= several - 1)
                log_info("a dimension has several values: the first is taken",
                         "target=%s dimension=%.*s now=\"counted in cloudwatch_several_values\"", target->log_key,
                         SLICE_PRINTF(rules->dimensions[__builtin_ctz(several)].name));
}

/* The chunk is passed over: the events in it count as delivered, and what may be missing is told. */
static void cloudwatch_count_skipped(struct egress_target *target, uint32_t requests, uint64_t counts)
{
        struct counters_block *counters = target->worker->options.counters;
        counter_add(counters, COUNTER_cloudwatch_ambiguous_skipped, requests);
        counter_add(counters, COUNTER_cloudwatch_skipped_counts, counts);
        egress_target_row_add(&target->row->ambiguous_skipped, requests);
        egress_target_row_add(&target->row->skipped_counts, counts);
}

/* What an earlier router had left without an answer. */
static void cloudwatch_tell_found(struct egress_target *target)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        struct counters_block *counters = target->worker->options.counters;
        counter_add(counters, COUNTER_cloudwatch_recounted, own->found_recounted);
        counter_add(counters, COUNTER_cloudwatch_ambiguous_resent, own->found_resent);
        egress_target_row_add(&target->row->ambiguous_resent, own->found_resent);
        cloudwatch_count_skipped(target, own->found_skipped, own->found_skipped_counts);
        own->found_recounted = own->found_resent = own->found_skipped = 0;
        own->found_skipped_counts = 0;
}

/* What the series [from, from + taken) of the sorted table amount to. */
static uint64_t cloudwatch_counts_of(const struct metrics_table *table, uint32_t from, uint32_t taken)
{
        uint64_t counts = 0;
        for (uint32_t i = from; i < from + taken; i++) {
                struct metrics_datum datum;
                metrics_table_get(table, i, &datum);
                counts += datum.count;
        }
        return counts;
}

/* Says what the table has found out since the last time. */
static void cloudwatch_tell(struct egress_target *target)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        struct metrics_stats now;
        uint64_t repeats = 0;
        metrics_table_get_stats(own->table, &now);
        uint64_t overflowed = now.overflowed - own->overflow_told;
        cloudwatch_tell_series(target, &now);
        own->overflow_told = now.overflowed;
        if (overflowed > 0 &&
            log_gate_open(&own->overflow_gate, target->worker->now_ns, CLOUDWATCH_LOG_INTERVAL_NS, &repeats))
                log_warning("a CloudWatch budget is used up",
                            "target=%s series_max=%u now=\"counted under the overflow value until the next hour\" "
                            "events=%" PRIu64 " repeats=%" PRIu64,
                            target->log_key, now.series_max, overflowed, repeats);
        cloudwatch_tell_values(target, &now);
        cloudwatch_tell_found(target);
}

static enum err_code target_cloudwatch_finish(struct egress_target *target, struct egress_batch *batch)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        struct egress_worker *worker = target->worker;
        struct outbox_place places[LIMIT_LOGS_MAX] = {{0}};
        struct metrics_datum oldest;
        if (outbox_is_sealed(own->outbox) || target->queue_first != batch)
                return ERR_BUSY;
        uint32_t series = metrics_table_series(own->table);
        ASSERT(series > 0);
        if (own->count_again)
                return ERR_BUSY;
        metrics_table_sort(own->table);
        metrics_table_get(own->table, 0, &oldest);
        /* It waited through an outage: what is fresh in it must not expire with what is old. */
        own->count_again = cloudwatch_is_older(oldest.time_s * 1000, clock_realtime_ms(), CLOUDWATCH_CLOSE_AGE_MS_MAX);
        if (own->count_again)
                return ERR_BUSY;
        outbox_begin(own->outbox);
        for (uint32_t from = 0; from < series;) {
                size_t room = 0, body_bytes = 0;
                uint32_t taken = 0;
                uint8_t *at = outbox_room(own->outbox, &room);
                enum err_code code = cloudwatch_body_encode(own->table, from, at, room, &body_bytes, &taken);
                ASSERT(code == ERR_OK); /* there is room for the largest table */
                ASSERT(taken > 0);
                metrics_table_get(own->table, from, &oldest); /* by period, first of all */
                outbox_add(own->outbox, body_bytes, taken, cloudwatch_counts_of(own->table, from, taken),
                           oldest.time_s * 1000);
                from += taken;
                batch->len += body_bytes;
        }
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                struct journal_target_state state;
                if (!batch->shard[shard].touched)
                        continue;
                bool known = journal_target_get(worker->feeds[shard].journal, target->numbers[shard], &state);
                ASSERT(known);
                places[shard] = (struct outbox_place){
                        .touched = 1,
                        .begin_position = state.cursor_position,
                        .begin_sequence = state.cursor_sequence,
                        .end_position = batch->shard[shard].end_position,
                        .end_sequence = batch->shard[shard].end_sequence,
                        .settled = batch->shard[shard].settled,
                        .begin_delivered = state.delivered,
                };
        }
        outbox_seal(own->outbox, places, clock_realtime_ms());
        metrics_table_clear(own->table);
        own->closed = cloudwatch_take_events(own);
        counter_add(worker->options.counters, COUNTER_cloudwatch_periods, 1);
        cloudwatch_tell(target);
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- sending */

/* The chunk on the wire is acknowledged, or passed over. True: it was the last one. */
static bool cloudwatch_chunk_done(struct egress_target *target, struct egress_batch *batch)
{
        outbox_acknowledge(target->cloudwatch->outbox);
        return cloudwatch_period_done(target, batch);
}

/* No answer of the service, which may have the request: the setting decides. The failure has been told. */
static void cloudwatch_ambiguous(struct egress_target *target, struct egress_batch *batch)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        struct counters_block *counters = target->worker->options.counters;
        if (own->resend_ambiguous) {
                outbox_not_taken(own->outbox);
                counter_add(counters, COUNTER_cloudwatch_ambiguous_resent, 1);
                egress_target_row_add(&target->row->ambiguous_resent, 1);
                return;
        }
        cloudwatch_count_skipped(target, 1, outbox_next_counts(own->outbox));
        if (cloudwatch_chunk_done(target, batch))
                egress_target_batch_passed_over(target, batch);
}

static void target_cloudwatch_done(struct http_exchange *exchange, enum err_code code,
                                   const struct http_response *response, bool maybe_sent, const struct err *why)
{
        struct egress_batch *batch = exchange->context;
        struct egress_target *target = batch->target;
        struct egress_cloudwatch *own = target->cloudwatch;
        struct aws_error error;
        egress_target_batch_ended(target, batch);
        if (code != ERR_OK && maybe_sent) {
                if (target->stopping)
                        return; /* the next start finds it on the wire */
                egress_target_http_unanswered(target, code, true, why);
                cloudwatch_ambiguous(target, batch);
                return;
        }
        if (code != ERR_OK) {
                outbox_not_taken(own->outbox);
                egress_target_http_unanswered(target, code, false, why);
                return;
        }
        enum cloudwatch_verdict verdict =
                cloudwatch_answer_read(response, own->json, egress_target_http_clock_ms(target), &error);
        if (verdict == CLOUDWATCH_NOT_TAKEN) {
                outbox_not_taken(own->outbox);
                egress_target_http_refused(target, response->status, &error);
                return;
        }
        if (verdict == CLOUDWATCH_AMBIGUOUS) {
                counter_add(target->worker->options.counters, COUNTER_egress_requests_uncertain, 1);
                egress_target_http_refused(target, response->status, &error);
                cloudwatch_ambiguous(target, batch);
                return;
        }
        uint32_t data = 0;
        (void)outbox_next(own->outbox, &data); /* the one that was on the wire */
        counter_add(target->worker->options.counters, COUNTER_cloudwatch_data, data);
        if (cloudwatch_chunk_done(target, batch)) {
                /* Relaxed: a figure for people. */
                atomic_store_explicit(&target->row->last_period_ms, outbox_closed_ms(own->outbox),
                                      memory_order_relaxed);
                egress_target_batch_done(target, batch);
        } else {
                egress_target_batch_partly_done(target);
        }
}

/* The host's clock was so far ahead when the period was counted that CloudWatch would refuse it until that time has
 * come, and hold up all that comes after. When its events were accepted nobody knows any more, so what is too far ahead
 * is sent as of now. The outbox keeps what it has: by what clock a body is sent is decided anew with each try, so that
 * a wrong guess (the service's clock, before it is unlearnt) changes nothing. True: the body to be sent is in `wire`.
 */
static bool cloudwatch_restamp(struct egress_target *target, struct slice *body)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        uint64_t repeats = 0;
        int64_t now_ms = clock_realtime_ms() + target->clock_offset_ms;
        int64_t after_s = (now_ms + CLOUDWATCH_SEND_AHEAD_MS_MAX) / 1000;
        if (now_ms < 0 || body->len > own->wire_bytes_max || !cloudwatch_body_is_ahead(*body, own->json, after_s))
                return false;
        memcpy(own->wire, body->ptr, body->len);
        uint32_t data = cloudwatch_body_restamp(own->wire, body->len, own->json, after_s,
                                                (now_ms - now_ms % own->period_ms) / 1000);
        *body = slice_of(own->wire, body->len);
        if (log_gate_open(&own->restamp_gate, target->worker->now_ns, CLOUDWATCH_LOG_INTERVAL_NS, &repeats))
                log_warning("metrics were counted by a clock that was ahead, and are sent under the time of now",
                            "target=%s data=%" PRIu32 " request=%u of=%u "
                            "help=\"look after this host's clock\" repeats=%" PRIu64,
                            target->log_key, data, outbox_acknowledged(own->outbox) + 1, outbox_chunks(own->outbox),
                            repeats);
        return true;
}

static enum err_code target_cloudwatch_send(struct egress_target *target, struct egress_batch *batch)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        uint32_t data = 0;
        if (!cloudwatch_expire(target, batch))
                return ERR_BUSY; /* nothing was sent */
        struct slice body = outbox_next(own->outbox, &data);
        bool restamped = cloudwatch_restamp(target, &body); /* rare, and sent as it is: `wire` is in use */
        bool compressed = !restamped && own->gzip != NULL && body.len >= CLOUDWATCH_GZIP_BYTES_MIN;
        if (compressed) {
                size_t wire_bytes = cloudwatch_gzip_run(own->gzip, body, own->wire, own->wire_bytes_max);
                ASSERT(wire_bytes > 0); /* there is room for what does not shrink */
                body = slice_of(own->wire, wire_bytes);
        }
        if (!outbox_next_is_whole(own->outbox)) {
                egress_target_batch_failed(target, ERR_CORRUPT,
                                           "pages of the outbox were lost: somebody cut the file, or the disk fails; a "
                                           "restart counts the period again from the journal");
                return ERR_CORRUPT;
        }
        struct cloudwatch_head head = cloudwatch_head_of(own->json, compressed);
        struct egress_request request = {
                .signing_name = SLICE("monitoring"),
                .path = own->json ? slice_of_text(target->url.path) : head.path,
                .content_type = head.content_type,
                .fields = head.fields,
                .amz_target = head.amz_target,
                .body = body,
                .once = true,
                .done = target_cloudwatch_done,
        };
        batch->len = body.len;
        batch->paid_records = data;
        batch->paid_bytes = body.len;
        outbox_sending(own->outbox);
        enum err_code code = egress_target_http_send(target, batch, &request);
        if (code == ERR_OK)
                counter_add(target->worker->options.counters, COUNTER_egress_entries, data);
        else
                outbox_not_taken(own->outbox);
        return code;
}

static bool target_cloudwatch_stop(struct egress_target *target)
{
        return egress_target_http_stop(target) && !target->cloudwatch->sync_op.submitted;
}

static void target_cloudwatch_tick(struct egress_target *target)
{
        if (target->cloudwatch->count_again && target->building[0] != NULL)
                cloudwatch_take_back(target, target->building[0]);
        if (target->queue_first == NULL) { /* of batches with nothing to send */
                const struct cloudwatch_events events = cloudwatch_take_events(target->cloudwatch);
                cloudwatch_count_events(target, &events);
        }
        cloudwatch_tell(target);
}

const struct egress_service egress_service_cloudwatch = {
        .name = "cloudwatch",
        .takes_copies = true, /* a count is one step, so that a crash never counts half of an event's copies */
        .mixes = true,        /* one table */
        .one_at_a_time = true,
        .too_big = "it fits no CloudWatch request",
        .batches_count = target_cloudwatch_batches_count,
        .batch_bytes = target_cloudwatch_batch_bytes,
        .budget_bytes = target_cloudwatch_budget_bytes,
        .create = target_cloudwatch_create,
        .free = target_cloudwatch_free,
        .begin = target_cloudwatch_begin,
        .append = target_cloudwatch_append,
        .finish = target_cloudwatch_finish,
        .send = target_cloudwatch_send,
        .settled = target_cloudwatch_settled,
        .shed = target_cloudwatch_shed,
        .tick = target_cloudwatch_tick,
        .stop = target_cloudwatch_stop,
};
