#include "base/assert.h"
#include "base/clock.h"
#include "egress/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TARGET_BUSY_RETRY_NS (5 * CLOCK_NS_PER_MS)
/* A dead-letter file that could not be written is tried again after this. */
#define TARGET_DEAD_LETTER_RETRY_NS CLOCK_NS_PER_S

/* ---------------------------------------------------------------------------------------------- life */

static const struct egress_service *target_service(enum rules_service service)
{
        switch (service) {
        case RULES_SERVICE_FIREHOSE:
                return &egress_service_firehose;
        case RULES_SERVICE_FILE:
                return &egress_service_file;
        case RULES_SERVICE_CLOUDWATCH:
                return &egress_service_cloudwatch;
        case RULES_SERVICE_SNS:
        case RULES_SERVICE_EVENTBRIDGE:
        case RULES_SERVICE_PINPOINT:
                break;
        }
        ASSERT(false); /* plans do not route to the others */
        return NULL;
}

uint64_t egress_target_budget_bytes(const struct rules_settings *settings, const struct rules_target *spec)
{
        const struct egress_service *service = target_service(spec->service);
        uint64_t batch_bytes = sizeof(struct egress_batch) + service->batch_bytes(settings);
        uint64_t batches =
                service->batches_count(settings) + (service->mixes ? 0 : settings->journal.pressure.shed_count);
        return sizeof(struct egress_target) + batches * batch_bytes + service->budget_bytes(settings, spec);
}

static enum err_code target_create_batches(struct egress_target *target, struct err *reterr)
{
        const struct rules_settings *settings = target->worker->options.settings;
        target->batches_count = target->service->batches_count(settings);
        if (!target->service->mixes)
                target->batches_count += target->worker->slots_count - 1; /* one of each builds */
        target->batches = calloc(target->batches_count, sizeof(*target->batches));
        if (target->batches == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for the batches of %s", target->row->key);
        for (uint32_t i = 0; i < target->batches_count; i++) {
                struct egress_batch *batch = &target->batches[i];
                batch->target = target;
                batch->bytes_max = target->service->batch_bytes(settings);
                if (batch->bytes_max > 0)
                        batch->bytes = malloc(batch->bytes_max + target->service->slack_bytes);
                if (batch->bytes_max > 0 && batch->bytes == NULL)
                        return err_set(reterr, ERR_MEMORY, "out of memory for the batches of %s", target->row->key);
                batch->next = target->free_batches;
                target->free_batches = batch;
        }
        return ERR_OK;
}

void egress_target_set_rates(struct egress_target *target, const struct rules_rates *rates)
{
        /* Relaxed: each number stands alone, and the worker looks again with its next tick. */
        atomic_store_explicit(&target->row->rate_records, rates->records, memory_order_relaxed);
        atomic_store_explicit(&target->row->rate_bytes, rates->bytes, memory_order_relaxed);
        atomic_store_explicit(&target->row->rate_requests, rates->requests, memory_order_relaxed);
}

static void target_take_rates(struct egress_target *target)
{
        const struct rules_rates rates = {
                .records = atomic_load_explicit(&target->row->rate_records, memory_order_relaxed),
                .bytes = atomic_load_explicit(&target->row->rate_bytes, memory_order_relaxed),
                .requests = atomic_load_explicit(&target->row->rate_requests, memory_order_relaxed),
        };
        flow_set_rates(&target->flow, &rates);
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
        target->service = target_service(spec->service);
        target->row = row;
        target->queue_last = &target->queue_first;
        target->ended.number = FLOW_NEVER_SENT;
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
        target->spec.destination = arena_copy(&target->arena, spec->destination);
        target->spec.arn = arena_copy(&target->arena, spec->arn);
        target->spec.region = arena_copy(&target->arena, spec->region);
        target->spec.account_id = arena_copy(&target->arena, spec->account_id);
        target->spec.partition = arena_copy(&target->arena, spec->partition);
        target->spec.endpoint = arena_copy(&target->arena, spec->endpoint);
        /* What producers left out: the sender's own account, not the stream's. */
        target->json = (struct codec_json_options){
                .account_id = slice_of_text(settings->account_id),
                .region = slice_of_text(settings->region),
                .partition = slice_of_text(settings->partition),
                .configuration_set = slice_of_text(settings->default_configuration_set),
                .event_id = spec->event_id,
                .redaction = spec->redaction == NULL ? NULL : &target->redaction,
        };
        if (spec->redaction != NULL)
                target->redaction = *spec->redaction; /* the plan goes before the target does */
        target->spec.redaction = target->json.redaction;
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
        const struct flow_options flow = {
                .in_flight_max = target->service->one_at_a_time ? 1 : settings->egress.in_flight_max,
                .retry_base_ms = settings->egress.retry_base_ms,
                .retry_throttle_base_ms = settings->egress.retry_throttle_base_ms,
                .retry_max_ms = settings->egress.retry_max_ms,
                .retry_budget_percent = settings->egress.retry_budget_percent,
        };
        flow_init(&target->flow, &flow);
        egress_target_set_rates(target, &spec->rates);
        target_take_rates(target);
        egress_target_tell_shed(target);
        enum err_code code = target_create_batches(target, reterr);
        if (code == ERR_OK)
                code = target->service->create(target, reterr);
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
        uint64_t life = atomic_load_explicit(&target->life, memory_order_relaxed);
        return life == EGRESS_TARGET_KEPT ||
               (life >= EGRESS_TARGET_REMOVED &&
                atomic_compare_exchange_strong_explicit(&target->life, &life, EGRESS_TARGET_KEPT, memory_order_relaxed,
                                                        memory_order_relaxed));
}

bool egress_target_is_ending(const struct egress_target *target)
{
        return atomic_load_explicit(&target->life, memory_order_relaxed) == EGRESS_TARGET_ENDING; /* as above */
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
        target->service->free(target);
        for (uint32_t i = 0; target->batches != NULL && i < target->batches_count; i++)
                free(target->batches[i].bytes);
        free(target->batches);
        arena_release(&target->arena);
        codec_redaction_clear(&target->redaction);
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

static uint8_t target_slot(const struct egress_target *target, uint32_t shard)
{
        return target->service->mixes ? 0 : target->worker->slots[shard];
}

/* What is counted ahead of a service that fails has to be counted again when a log is given up: there is no end to it
 * where that is done again and again. */
static bool target_stays_behind(const struct egress_target *target)
{
        return target->service->mixes && target->worker->slots_count > 1 && target->flow.failures > 0 &&
               target->queue_first != NULL; /* else there is nothing to probe with */
}

bool egress_target_has_room(const struct egress_target *target, uint32_t shard)
{
        const struct egress_batch *building = target->building[target_slot(target, shard)];
        const enum egress_letter letter = target->place[shard].letter;
        /* What it cannot go on without is not read again in vain. */
        if (letter == EGRESS_LETTER_WRITING || ((letter == EGRESS_LETTER_WAITS || letter == EGRESS_LETTER_FAILED) &&
                                                dead_letters_is_busy(target->worker->dead_letters)))
                return false;
        if (target->worker->now_ns < target->dead_letter_hold_until_ns || target_stays_behind(target))
                return false;
        return building != NULL ? !building->full : target->free_batches != NULL;
}

/* How long an event that is read live may have waited already, at most its linger: the shard may have napped, and the
 * worker slept. One that is read back is late anyway, and there full batches count. */
static uint64_t target_lingered_ns(const struct egress_target *target, uint32_t shard)
{
        const struct egress_worker *worker = target->worker;
        const uint64_t linger_ns = worker->options.settings->egress.linger_ms * CLOCK_NS_PER_MS;
        const uint64_t since_ns = worker->feeds[shard].range.since_ns;
        if (target->place[shard].lagging || since_ns >= worker->now_ns)
                return 0;
        const uint64_t age_ns = worker->now_ns - since_ns;
        return age_ns < linger_ns ? age_ns : linger_ns;
}

/* A free batch, empty, at the end of the queue; NULL: none is free. */
static struct egress_batch *target_queue_batch(struct egress_target *target, uint8_t slot)
{
        struct egress_batch *batch = target->free_batches;
        if (batch == NULL)
                return NULL;
        target->free_batches = batch->next;
        batch->next = NULL;
        batch->slot = slot;
        batch->full = false;
        batch->patient = false;
        batch->events = 0;
        batch->attempts = 0;
        batch->partly_done = false;
        batch->given_up = false;
        batch->resending = 0;
        batch->len = 0;
        memset(batch->shard, 0, target->worker->options.shards_count * sizeof(batch->shard[0]));
        *target->queue_last = batch;
        target->queue_last = &batch->next;
        return batch;
}

struct egress_batch *egress_target_restore_batch(struct egress_target *target)
{
        struct egress_batch *batch = target_queue_batch(target, 0);
        ASSERT(batch != NULL);
        batch->state = EGRESS_BATCH_READY;
        return batch;
}

static struct egress_batch *target_begin_batch(struct egress_target *target, uint8_t slot, uint64_t lingered_ns)
{
        struct egress_batch *batch = target_queue_batch(target, slot);
        if (batch == NULL)
                return NULL;
        batch->state = EGRESS_BATCH_BUILDING;
        batch->due_ns = target->worker->now_ns - lingered_ns +
                        (uint64_t)target->worker->options.settings->egress.linger_ms * CLOCK_NS_PER_MS;
        target->service->begin(target, batch);
        target->building[slot] = batch;
        egress_target_activate(target);
        return batch;
}

/* False: the service cannot finish it now, and it takes nothing more. */
static bool target_close_batch(struct egress_target *target, struct egress_batch *batch)
{
        ASSERT(batch->state == EGRESS_BATCH_BUILDING);
        ASSERT(batch == target->building[batch->slot]);
        if (batch->events > 0 && target->service->finish(target, batch) == ERR_BUSY)
                return false;
        target->building[batch->slot] = NULL;
        /* A batch may hold only events that expired or can never be sent: nothing goes on the wire. */
        batch->state = batch->events > 0 ? EGRESS_BATCH_READY : EGRESS_BATCH_SETTLED;
        return true;
}

/* ---------------------------------------------------------------------------------------------- dead letters */

static void target_set_letter(struct egress_target *target, struct egress_place *place, enum egress_letter letter)
{
        bool was_held = target->held > 0;
        bool held = letter == EGRESS_LETTER_FAILED ||
                    (place->letter_held && (letter == EGRESS_LETTER_WAITS || letter == EGRESS_LETTER_WRITING));
        target->held -= place->letter_held;
        target->held += held;
        place->letter_held = held;
        place->letter = letter;
        if (was_held && target->held == 0)
                log_info("target goes on", "target=%s reason=\"its dead letter is written, or its event is gone\"",
                         target->log_key);
}

/* Nothing more is taken before it is tried again. That somebody must act is said at once. */
static void target_letter_failed(struct egress_target *target, uint32_t shard, const struct err *err)
{
        struct egress_worker *worker = target->worker;
        char text[ERR_TEXT_BYTES_MAX + 40], quoted[ERR_TEXT_BYTES_MAX + 80] = "";
        uint64_t repeats = 0;
        bool was_held = target->held > 0;
        target_set_letter(target, &target->place[shard], EGRESS_LETTER_FAILED);
        (void)snprintf(text, sizeof(text), "cannot write a dead letter: %s", err->text); /* fits */
        counters_row_set_error(target->row, text);
        target->dead_letter_hold_until_ns = worker->now_ns + TARGET_DEAD_LETTER_RETRY_NS;
        bool tell = log_gate_open(&target->held_gate, worker->now_ns, EGRESS_LOG_INTERVAL_NS, &repeats);
        if (tell || !was_held)
                log_error(
                        "target held",
                        "target=%s dead_letters=%s error=%s now=\"tries again; everything of this target waits behind "
                        "an event that can never be delivered\" repeats=%" PRIu64,
                        target->log_key, dead_letters_directory(worker->dead_letters),
                        log_quote(err->text, quoted, sizeof(quoted)), repeats);
}

static void target_letter_done(void *context, enum err_code code, const struct err *why)
{
        struct egress_worker *worker = context;
        struct egress_target *target = worker->letter_target;
        const uint32_t shard = worker->letter_shard;
        const bool given_up = worker->letter_given_up;
        ASSERT(given_up || target->place[shard].letter == EGRESS_LETTER_WRITING);
        worker->letter_target = NULL;
        worker->letter_given_up = false;
        worker->now_ns = clock_monotonic_ns();
        if (given_up)
                log_info("a dead letter that was given up has ended", "target=%s result=\"%s\"", target->log_key,
                         code == ERR_OK ? "written; its event is counted by what became of it meanwhile"
                                        : "not written");
        else if (code == ERR_OK)
                target_set_letter(target, &target->place[shard], EGRESS_LETTER_WRITTEN);
        else
                target_letter_failed(target, shard, why);
        /* The others are asked first who has one. */
        egress_target_activate(target);
        uint32_t at = 0;
        while (worker->active[at] != target)
                at++;
        for (; at + 1 < worker->active_count; at++)
                worker->active[at] = worker->active[at + 1];
        worker->active[at] = target;
}

void egress_target_give_up_letter(struct egress_target *target, uint32_t shard)
{
        struct egress_worker *worker = target->worker;
        struct egress_place *place = &target->place[shard];
        ASSERT(worker->letter_target == target);
        ASSERT(worker->letter_shard == shard);
        ASSERT(place->letter == EGRESS_LETTER_WRITING);
        worker->letter_given_up = true;
        target_set_letter(target, place, EGRESS_LETTER_NONE);
        log_error(
                "a dead letter is given up",
                "target=%s dead_letters=%s error=\"the disk does not answer\" now=\"a full journal gives its event up, "
                "which counts as shed; other dead letters wait\"",
                target->log_key, dead_letters_directory(worker->dead_letters));
}

/* One event that no request can ever carry becomes a dead letter, with its cause: it is rare. False: it is not written
 * yet, and the event is settled only when it is: asked again with the same event then. */
static bool target_dead_letter(struct egress_target *target, uint32_t shard, const struct egress_event *event,
                               uint32_t copy, const char *cause)
{
        struct egress_worker *worker = target->worker;
        struct egress_place *place = &target->place[shard];
        struct err err = {.text = ""};
        uint64_t repeats = 0;
        if (place->letter == EGRESS_LETTER_WRITING)
                return false;
        if (place->letter == EGRESS_LETTER_WRITTEN && place->letter_position == event->record->position &&
            place->letter_copy == copy) {
                target_set_letter(target, place, EGRESS_LETTER_NONE);
                counter_add(worker->options.counters, COUNTER_egress_dead_lettered, 1);
                if (log_gate_open(&target->dead_letter_gate, worker->now_ns, EGRESS_LOG_INTERVAL_NS, &repeats))
                        log_error("an event can never be delivered",
                                  "target=%s event_id=%016" PRIx64 "-%016" PRIx64
                                  " cause=\"%s\" dead_letters=%s repeats=%" PRIu64,
                                  target->log_key, event->record->origin.lane_id, event->record->origin.lane_position,
                                  cause, dead_letters_directory(worker->dead_letters), repeats);
                return true;
        }
        if (worker->now_ns < target->dead_letter_hold_until_ns)
                return false; /* fed live from another log */
        struct dead_letter letter = {
                .cause = slice_of_text(cause),
                .destination = target->spec.destination,
                .target = target->spec.key,
                .set = event->view->configuration_set,
                .type = event->view->type,
                .lane_id = event->record->origin.lane_id,
                .lane_position = event->record->origin.lane_position,
                .accepted_ms = event->record->origin.accepted_ms,
                .json = event->json,
                .msgpack = event->view->event,
        };
        enum err_code code = dead_letters_write(worker->dead_letters, &letter, target_letter_done, worker, &err);
        place->letter_position = event->record->position;
        place->letter_copy = (uint8_t)copy;
        if (code == ERR_OK) {
                worker->letter_target = target;
                worker->letter_shard = shard;
                place->letter_ns = worker->now_ns;
                target_set_letter(target, place, EGRESS_LETTER_WRITING);
        } else if (code == ERR_BUSY) {
                target_set_letter(target, place, EGRESS_LETTER_WAITS);
        } else {
                target_letter_failed(target, shard, &err);
        }
        return false;
}

static bool target_event_expired(const struct egress_target *target, const struct journal_record *record)
{
        uint64_t age_max_s = target->worker->options.settings->egress.event_age_max_s;
        if (age_max_s == 0)
                return false;
        int64_t age_ms = target->worker->turn_ms - record->entry.accepted_ms;
        return age_ms > 0 && (uint64_t)age_ms / 1000 > age_max_s;
}

bool egress_target_take(struct egress_target *target, uint32_t shard, const struct egress_event *event, uint32_t copies)
{
        const struct journal_record *record = event->record;
        struct egress_place *place = &target->place[shard];
        struct counters_block *counters = target->worker->options.counters;
        const uint8_t slot = target_slot(target, shard);
        bool expired = target_event_expired(target, record);
        struct egress_batch *batch = NULL;
        if (target_stays_behind(target)) {
                place->position = record->position;
                place->sequence = record->sequence;
                place->lagging = true;
                egress_target_activate(target);
                return false;
        }
        for (uint32_t copy = place->copies_done; copy < copies;) {
                uint32_t step = target->service->takes_copies ? copies - copy : 1;
                batch = target->building[slot];
                if (batch == NULL)
                        batch = target_begin_batch(target, slot, target_lingered_ns(target, shard));
                enum err_code code = batch == NULL ? ERR_BUSY : ERR_OK;
                if (code == ERR_OK && !expired)
                        code = target->service->append(target, batch, event, step);
                if (code == ERR_FULL && target_close_batch(target, batch))
                        continue;
                bool never =
                        code != ERR_OK && code != ERR_BUSY && code != ERR_FULL && code != ERR_RANGE && code != ERR_NAME;
                bool held = never && !target_dead_letter(target, shard, event, copy, target->service->too_big);
                if (code == ERR_BUSY || code == ERR_FULL || held) {
                        if (batch != NULL && !held)
                                batch->full = true; /* its turn tries to close it again */
                        place->position = record->position;
                        place->sequence = record->sequence;
                        place->copies_done = (uint8_t)copy;
                        place->lagging = true;
                        egress_target_activate(target);
                        return false;
                }
                if (expired || code == ERR_RANGE) {
                        place->copies_settled.expired += step;
                } else if (code == ERR_NAME) {
                        place->copies_settled.shed += step;
                } else if (code == ERR_OK) {
                        place->copies_settled.delivered += step;
                        batch->events += step;
                        counter_add(counters, COUNTER_egress_events, step);
                        if (target->service->takes_json)
                                counter_add(counters, COUNTER_egress_json_bytes, step * (event->json.len + 1));
                } else {
                        place->copies_settled.dead_lettered += step;
                }
                copy += step;
                /* Until its last copy is taken, the cursor must not pass this record, and none of its copies count. */
                if (!batch->shard[shard].touched) {
                        batch->shard[shard].begin_position = record->position;
                        batch->shard[shard].begin_sequence = record->sequence;
                }
                batch->shard[shard].touched = true;
                batch->shard[shard].end_position = record->position;
                batch->shard[shard].end_sequence = record->sequence;
        }
        if (batch != NULL) {
                struct journal_settled *settled = &batch->shard[shard].settled;
                settled->delivered += place->copies_settled.delivered;
                settled->dead_lettered += place->copies_settled.dead_lettered;
                settled->shed += place->copies_settled.shed;
                settled->expired += place->copies_settled.expired;
                batch->shard[shard].end_position = record->next_position;
                batch->shard[shard].end_sequence = record->sequence + 1;
        }
        place->copies_settled = (struct journal_settled){0};
        egress_target_passed(target, shard, record->next_position, record->sequence + 1);
        return true;
}

void egress_target_passed(struct egress_target *target, uint32_t shard, uint64_t position, uint64_t sequence)
{
        struct egress_place *place = &target->place[shard];
        place->position = position;
        place->sequence = sequence;
        place->copies_done = 0;
        /* Its event was taken after all, is shed, or cannot be read: there is nothing to wait for. */
        if (place->letter != EGRESS_LETTER_NONE && place->letter_position < position)
                target_set_letter(target, place, EGRESS_LETTER_NONE);
}

/* ---------------------------------------------------------------------------------------------- the turn */

static enum err_code target_send(struct egress_target *target, struct egress_batch *batch)
{
        struct counters_block *counters = target->worker->options.counters;
        enum err_code code = target->service->send(target, batch);
        if (code != ERR_OK)
                return code;
        batch->attempts++;
        flow_pay(&target->flow, target->worker->now_ns, batch->paid_records, batch->paid_bytes);
        egress_target_row_add(&target->row->records, batch->paid_records);
        egress_target_row_add(&target->row->bytes, batch->paid_bytes);
        counter_add(counters, COUNTER_egress_requests, 1);
        counter_add(counters, COUNTER_egress_request_bytes, batch->len);
        egress_target_row_add(&target->row->requests, 1);
        if (batch->resending > 0) {
                /* Counted once per refusal: a request that failed as a whole meanwhile does not refuse entries. */
                counter_add(counters, COUNTER_egress_entries_resent, batch->resending);
                egress_target_row_add(&target->row->entries_resent, batch->resending);
                batch->resending = 0;
        }
        return ERR_OK;
}

/* Sends what is ready and may go, the oldest first. When the next may: 0, nothing waits; UINT64_MAX, a completion calls
 * again. */
static uint64_t target_send_ready(struct egress_target *target)
{
        uint64_t now_ns = target->worker->now_ns;
        for (struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next) {
                if (batch->state != EGRESS_BATCH_READY || target->stopping)
                        continue;
                uint64_t may_ns = flow_may_send_ns(&target->flow, target->in_flight, now_ns);
                if (may_ns > now_ns)
                        return may_ns;
                enum err_code code = target_send(target, batch);
                if (code == ERR_BUSY)
                        return now_ns + TARGET_BUSY_RETRY_NS;
                if (code != ERR_OK)
                        return target->flow.hold_until_ns > now_ns ? target->flow.hold_until_ns : now_ns + 1;
        }
        return 0;
}

/* Finishes a batch that is due, or full. `send_ns`: what target_send_ready() said. True: it is finished. False:
 * *ret_wish_ns is when to ask again. */
static bool target_finish_due(struct egress_target *target, struct egress_batch *building, uint64_t send_ns,
                              uint64_t *ret_wish_ns)
{
        uint64_t now_ns = target->worker->now_ns;
        bool due = target->worker->draining || target->remove_at_known || now_ns >= building->due_ns;
        uint64_t may_ns = !due           ? building->due_ns
                          : send_ns != 0 ? send_ns
                                         : flow_may_send_ns(&target->flow, target->in_flight, now_ns);
        /* One that could not go yet, and may take more, is worth more when it goes. A period ends when it ends, and
         * where nothing is to be sent there is nothing to wait for. */
        bool closes = due && (may_ns <= now_ns || building->patient || building->events == 0);
        *ret_wish_ns = closes || building->full ? UINT64_MAX : may_ns;
        return (closes || building->full) && target_close_batch(target, building); /* else when that before has ended */
}

static void target_row_turn(struct egress_target *target)
{
        struct counters_target_row *row = target->row;
        bool removed = atomic_load_explicit(&target->life, memory_order_relaxed) != EGRESS_TARGET_KEPT;
        uint32_t status = removed                                      ? COUNTERS_TARGET_REMOVED
                          : target->flow.parked                        ? COUNTERS_TARGET_PARKED
                          : target->held > 0                           ? COUNTERS_TARGET_HELD
                          : target->hangs || target->flow.failures > 0 ? COUNTERS_TARGET_RETRYING
                                                                       : COUNTERS_TARGET_OK;
        /* Relaxed: figures for people; each stands alone. */
        atomic_store_explicit(&row->status, status, memory_order_relaxed);
        atomic_store_explicit(&row->in_flight, target->in_flight, memory_order_relaxed);
        atomic_store_explicit(&row->consecutive_failures, target->flow.failures, memory_order_relaxed);
        atomic_store_explicit(&row->in_flight_max, (uint32_t)target->flow.limit, memory_order_relaxed);
        atomic_store_explicit(&row->retries_left, (uint32_t)target->flow.budget, memory_order_relaxed);
        atomic_store_explicit(&row->paced_ms, target->flow.paced_ns / CLOCK_NS_PER_MS, memory_order_relaxed);
        atomic_store_explicit(&row->clock_offset_ms, target->clock_offset_ms, memory_order_relaxed);
}

uint64_t egress_target_turn(struct egress_target *target)
{
        struct egress_worker *worker = target->worker;
        uint64_t now_ns = worker->now_ns;
        egress_target_settle(target);
        uint64_t send_ns = target_send_ready(target);
        uint64_t wish_ns = UINT64_MAX;
        for (uint32_t slot = 0; slot < worker->slots_count; slot++) {
                uint64_t own_ns = UINT64_MAX;
                if (target->building[slot] == NULL)
                        continue;
                if (target_finish_due(target, target->building[slot], send_ns, &own_ns)) {
                        egress_target_settle(target);
                        send_ns = target_send_ready(target);
                }
                wish_ns = own_ns < wish_ns ? own_ns : wish_ns;
        }
        if (send_ns != 0 && send_ns < wish_ns)
                wish_ns = send_ns;
        target_row_turn(target);
        if (now_ns < target->dead_letter_hold_until_ns && target->dead_letter_hold_until_ns < wish_ns)
                wish_ns = target->dead_letter_hold_until_ns;
        return wish_ns;
}

void egress_target_tick(struct egress_target *target)
{
        struct egress_worker *worker = target->worker;
        const struct journal_settled nothing = {0};
        target_take_rates(target);
        if (target->service->tick != NULL && !target->stopping)
                target->service->tick(target);
        egress_target_tell_hanging(target);
        /* Somebody has acted, perhaps on this: the next probe is now. */
        bool fresh_credentials = target->failed_credentials != egress_target_credentials_now(target);
        bool wants = target->flow.failures > 0 && target->wants_credentials;
        if (wants) /* C1: until there are others; the helper thread looks once a second */
                atomic_store_explicit(&worker->options.credentials->refresh_wanted, true, memory_order_relaxed);
        if (worker->probing)
                target->asked_anew = target->flow.newest;
        if ((target->flow.parked && worker->probing) || ((target->flow.parked || wants) && fresh_credentials)) {
                flow_hold_at_most(&target->flow, worker->now_ns);
                egress_target_activate(target);
        }
        for (uint32_t shard = 0; shard < worker->options.shards_count && !target->stopping; shard++) {
                struct egress_shard_feed *feed = &worker->feeds[shard];
                struct egress_place *place = &target->place[shard];
                bool on_its_way = false;
                for (const struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next)
                        on_its_way |= batch->shard[shard].touched;
                if (on_its_way || place->shedding)
                        continue;
                /* Nothing of this shard is: everything looked at is settled. A record cut between its copies is not. */
                if (!place->lagging && place->position < feed->live_position)
                        egress_target_passed(target, shard, feed->live_position, feed->live_sequence);
                if (place->copies_done == 0)
                        journal_target_advance(feed->journal, target->numbers[shard], place->position, place->sequence,
                                               &nothing);
        }
        uint64_t life = atomic_load_explicit(&target->life, memory_order_relaxed);
        if (life != target->removal) { /* it was taken back */
                target->remove_at_known = false;
                target->refused = false;
        }
        if (!target->remove_at_known || target->stopping)
                return;
        /* What the service itself refuses for good, asked again since the removal, nobody will ever take: it would hold
         * the log for ever. Whoever only lacks credentials, or cannot be reached, goes on trying. */
        bool hopeless = target->flow.parked && target->refused;
        bool through = target->queue_first == NULL || hopeless;
        for (uint32_t shard = 0; shard < worker->options.shards_count && !hopeless; shard++)
                through &= target->place[shard].position >= target->remove_at[shard];
        if (!through || !atomic_compare_exchange_strong_explicit(&target->life, &life, EGRESS_TARGET_ENDING,
                                                                 memory_order_relaxed, memory_order_relaxed))
                return;
        log_info("target removed", "target=%s reason=\"%s\"", target->log_key,
                 hopeless ? "in no configuration set any more, and refused: what waited is shed"
                          : "in no configuration set any more, and all delivered");
        atomic_store_explicit(&target->row->status, COUNTERS_TARGET_UNUSED, memory_order_relaxed);
        target->stopping = true; /* the control thread retires its cursors once it is gone */
}

bool egress_target_stop(struct egress_target *target)
{
        target->stopping = true;
        return target->service->stop(target) && target->worker->letter_target != target;
}
