#include "egress/service.h"

#include "base/assert.h"
#include "base/clock.h"
#include "codecs/redact.h"

#include <inttypes.h>
#include <pthread.h>
#include <rte_ring_elem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Records looked at before the loop turns to the network again. */
#define WORKER_LIVE_RECORDS_PER_TURN 4096u
#define WORKER_LAG_RECORDS_PER_TURN  1024u
#define WORKER_TICK_NS               (CLOCK_NS_PER_S / 2)

/* ---------------------------------------------------------------------------------------------- life */

static struct rte_ring *worker_ring_create(uint32_t elements, uint32_t element_bytes)
{
        ssize_t bytes = rte_ring_get_memsize_elem(element_bytes, elements);
        if (bytes < 0)
                return NULL;
        /* rte_ring wants cache-line alignment; aligned_alloc wants a multiple of it. */
        size_t size_bytes = ((size_t)bytes + 127) / 128 * 128;
        struct rte_ring *ring = aligned_alloc(128, size_bytes);
        if (ring == NULL)
                return NULL;
        memset(ring, 0, size_bytes);
        if (rte_ring_init(ring, "feed", elements, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
                free(ring);
                return NULL;
        }
        return ring;
}

/* Logs of one event type have one slot. */
static uint8_t worker_slot(struct egress_worker *worker, uint8_t type)
{
        uint8_t slot = 0;
        while (slot < worker->slots_count && worker->slot_types[slot] != type)
                slot++;
        ASSERT(slot < EGRESS_SLOTS_MAX);
        if (slot == worker->slots_count)
                worker->slot_types[worker->slots_count++] = type;
        return slot;
}

enum err_code egress_worker_create(const struct egress_worker_options *options, struct egress_worker **ret_worker,
                                   struct err *reterr)
{
        enum err_code code = ERR_OK;
        struct egress_worker *worker = calloc(1, sizeof(*worker));
        if (worker == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for egress worker %u", options->index);
        worker->options = *options;
        worker->slots_count = 1; /* of type 0, which is none */
        random_init(&worker->random, 0);
        worker->json_bytes_max = LIMIT_EVENT_JSON_BYTES_MAX;
        worker->json = malloc(worker->json_bytes_max);
        worker->feeds = calloc(options->shards_count, sizeof(*worker->feeds));
        worker->inbox = worker_ring_create(EGRESS_INBOX_ORDERS, sizeof(struct egress_order));
        if (worker->json == NULL || worker->feeds == NULL || worker->inbox == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory for egress worker %u", options->index);
                goto out;
        }
        struct io_options io_options = {.entries = 1024};
        code = io_loop_create(&io_options, &worker->loop, reterr);
        if (code != ERR_OK)
                goto out;
        struct dead_letters_options letters = {
                .loop = worker->loop,
                .directory = options->dead_letter_directory,
                .worker = options->index,
                .bytes_max =
                        options->settings->egress.dead_letter_bytes_max /
                        (options->settings->egress.workers_count > 0 ? options->settings->egress.workers_count : 1),
        };
        code = dead_letters_create(&letters, &worker->dead_letters, reterr);
        if (code != ERR_OK)
                goto out;
        code = sigv4_signer_create(&worker->signer, reterr);
        if (code != ERR_OK)
                goto out;
        for (uint32_t i = 0; i < options->shards_count; i++) {
                struct egress_shard_feed *feed = &worker->feeds[i];
                feed->journal = options->journals[i];
                feed->ranges = worker_ring_create(EGRESS_FEED_RANGES, sizeof(struct egress_range));
                if (feed->ranges == NULL) {
                        code = err_set(reterr, ERR_MEMORY, "out of memory for egress worker %u", options->index);
                        goto out;
                }
                worker->slots[i] = worker_slot(worker, options->logs != NULL ? options->logs[i].type : 0);
                feed->live_position = journal_committed_position(feed->journal);
                feed->live_sequence = journal_next_sequence(feed->journal);
                atomic_init(&feed->wake_at, UINT64_MAX);
                code = journal_reader_create(feed->journal, &feed->live_reader, reterr);
                if (code == ERR_OK)
                        code = journal_reader_create(feed->journal, &feed->lag_reader, reterr);
                if (code != ERR_OK)
                        goto out;
        }
out:
        if (code != ERR_OK) {
                egress_worker_free(worker);
                return code;
        }
        *ret_worker = worker;
        return ERR_OK;
}

uint64_t egress_worker_budget_bytes(uint32_t shards_count)
{
        uint64_t feed_bytes = sizeof(struct egress_shard_feed) + EGRESS_FEED_RANGES * sizeof(struct egress_range);
        return sizeof(struct egress_worker) + LIMIT_EVENT_JSON_BYTES_MAX + dead_letters_budget_bytes() +
               shards_count * feed_bytes;
}

void egress_worker_free(struct egress_worker *worker)
{
        if (worker == NULL)
                return;
        const bool hangs = egress_worker_hangs(worker);
        for (uint32_t i = 0; worker->feeds != NULL && i < worker->options.shards_count; i++) {
                journal_reader_free(worker->feeds[i].live_reader);
                journal_reader_free(worker->feeds[i].lag_reader);
                if (!hangs)
                        free(worker->feeds[i].ranges);
        }
        if (hangs)
                return;
        /* What was handed over and never taken: the thread ended before, or never ran. */
        struct egress_order order;
        while (worker->inbox != NULL && rte_ring_sc_dequeue_elem(worker->inbox, &order, sizeof(order)) == 0)
                if (order.kind == EGRESS_ORDER_ADD)
                        egress_target_free(order.target);
        for (uint32_t i = 0; i < worker->all_count; i++)
                egress_target_free(worker->all[i]);
        if (worker->loop != NULL)
                io_loop_free(worker->loop);
        if (worker->signer != NULL)
                sigv4_signer_free(worker->signer);
        dead_letters_free(worker->dead_letters);
        file_sink_openings_release(&worker->file_openings);
        free(worker->inbox);
        free(worker->feeds);
        free(worker->json);
        free(worker);
}

/* ---------------------------------------------------------------------------------------------- called by other
 * threads */

bool egress_worker_offer(struct egress_worker *worker, uint32_t shard, uint64_t begin, uint64_t end,
                         uint64_t end_sequence, uint64_t since_ns)
{
        struct egress_shard_feed *feed = &worker->feeds[shard];
        struct egress_range range = {begin, end, end_sequence, since_ns};
        if (rte_ring_sp_enqueue_elem(feed->ranges, &range, sizeof(range)) != 0)
                return false;
        /* W1: both sides read and write the wish in one step, so one comes first: either this one reads the worker's
         * wish, or W2 in worker_sleep() reads what this one wrote and the worker's second look at the ring finds the
         * range. A load would not do: it may be carried out before the range is visible. */
        uint64_t wake_at = atomic_fetch_add_explicit(&feed->wake_at, 0, memory_order_acq_rel);
        if (end >= wake_at) {
                atomic_store_explicit(&feed->wake_at, UINT64_MAX, memory_order_relaxed); /* only saves a second wake */
                io_loop_wake(worker->loop);
        }
        return true;
}

static bool worker_order(struct egress_worker *worker, enum egress_order_kind kind, struct egress_target *target,
                         uint64_t removal)
{
        struct egress_order order = {kind, target, removal};
        if (rte_ring_sp_enqueue_elem(worker->inbox, &order, sizeof(order)) != 0)
                return false;
        io_loop_wake(worker->loop);
        return true;
}

bool egress_worker_add_target(struct egress_worker *worker, struct egress_target *target)
{
        return worker_order(worker, EGRESS_ORDER_ADD, target, 0);
}

bool egress_worker_remove_target(struct egress_worker *worker, struct egress_target *target)
{
        const uint64_t removal = EGRESS_TARGET_REMOVED + target->removals++;
        /* Relaxed, both: the order's ring carries it, and without the order the worker does nothing about it. */
        atomic_store_explicit(&target->life, removal, memory_order_relaxed);
        if (worker_order(worker, EGRESS_ORDER_REMOVE, target, removal))
                return true;
        atomic_store_explicit(&target->life, EGRESS_TARGET_KEPT, memory_order_relaxed);
        return false;
}

void egress_worker_stop(struct egress_worker *worker, uint64_t deadline_monotonic_ns)
{
        /* S1: pairs with S2 in egress_worker_run(). Offers made before are in the ring already. */
        atomic_store_explicit(&worker->stop_deadline_ns, deadline_monotonic_ns == 0 ? 1 : deadline_monotonic_ns,
                              memory_order_release);
        io_loop_wake(worker->loop);
}

/* ---------------------------------------------------------------------------------------------- the thread */

static void worker_take_orders(struct egress_worker *worker)
{
        struct egress_order order;
        while (rte_ring_sc_dequeue_elem(worker->inbox, &order, sizeof(order)) == 0) {
                struct egress_target *target = order.target;
                switch ((enum egress_order_kind)order.kind) {
                case EGRESS_ORDER_ADD:
                        ASSERT(worker->all_count < LIMIT_TARGETS_MAX);
                        worker->all[worker->all_count++] = target;
                        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++)
                                worker->feeds[shard].targets[target->numbers[shard]] = target;
                        egress_worker_shed_anew(worker);
                        egress_target_activate(target);
                        break;
                case EGRESS_ORDER_REMOVE:
                        /* Relaxed: only compared. It was taken back: when there is another one, its order comes. */
                        if (order.removal != atomic_load_explicit(&target->life, memory_order_relaxed))
                                break;
                        target->removal = order.removal;
                        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++)
                                target->remove_at[shard] = journal_committed_position(worker->feeds[shard].journal);
                        target->remove_at_known = true;
                        target->refused = false;
                        target->asked_anew = target->flow.newest;
                        flow_hold_at_most(&target->flow, worker->now_ns); /* does it still say no? */
                        egress_target_activate(target);
                        break;
                }
        }
}

/* A read failed. True: the record is damaged on the disk and must be passed over; what was routed there is lost, and
 * the ledger shows it. */
static bool worker_read_failed(struct egress_worker *worker, uint32_t shard, enum err_code code,
                               const struct journal_record *record)
{
        uint64_t repeats = 0;
        ASSERT(code != ERR_NOT_FOUND); /* places that are read back are held by a cursor */
        if (log_gate_open(&worker->read_gate, worker->now_ns, 10 * CLOCK_NS_PER_S, &repeats))
                log_error("cannot read the journal",
                          "shard=%u error=\"%s\" position=%" PRIu64 " now=\"%s\" repeats=%" PRIu64, shard,
                          err_text(code), code == ERR_CORRUPT ? record->position : 0,
                          code == ERR_CORRUPT ? "this record is lost" : "tries again", repeats);
        return code == ERR_CORRUPT;
}

static bool worker_same_redaction(const struct codec_redaction *a, const struct codec_redaction *b)
{
        return a == b ||
               (a != NULL && b != NULL && memcmp(a->fingerprint, b->fingerprint, sizeof(a->fingerprint)) == 0);
}

static bool worker_same_json(const struct codec_json_options *a, const struct codec_json_options *b)
{
        return slice_equal(a->account_id, b->account_id) && slice_equal(a->region, b->region) &&
               slice_equal(a->partition, b->partition) && slice_equal(a->configuration_set, b->configuration_set) &&
               a->event_id == b->event_id && worker_same_redaction(a->redaction, b->redaction);
}

/* Hands one record of the log to the targets that it is routed to: those of this worker that take live, or only `only`.
 * False: a target had no room; it lags from here. */
static bool worker_dispatch(struct egress_worker *worker, uint32_t shard, const struct journal_record *record,
                            struct egress_target *only)
{
        struct egress_shard_feed *feed = &worker->feeds[shard];
        struct codec_view view;
        struct egress_event event = {.record = record, .shard = shard, .view = &view};
        const struct codec_json_options *encoded_for = NULL;
        bool decoded = false, all_taken = true;
        for (uint32_t i = 0; i < record->entry.routes_count; i++) {
                uint16_t number = record->entry.routes[i];
                struct egress_target *target = number < LIMIT_TARGETS_MAX ? feed->targets[number] : NULL;
                if (target == NULL || (only != NULL ? target != only : target->place[shard].lagging))
                        continue;
                /* From before it came: an earlier target of the same key was shed up to there. */
                if (record->position < target->place[shard].position)
                        continue;
                /* A target may be there several times: it is served at its first place, with that many copies. */
                uint32_t copies = 0;
                bool seen = false;
                for (uint32_t k = 0; k < record->entry.routes_count; k++) {
                        seen |= k < i && record->entry.routes[k] == number;
                        copies += record->entry.routes[k] == number;
                }
                if (seen)
                        continue;
                if (!decoded) {
                        /* The shard validated the event and stored what it found before it committed the record, whose
                         * checksum held. */
                        enum err_code code = ERR_CORRUPT;
                        if (record->payload.len >= CODEC_VIEW_STORED_BYTES)
                                code = codec_view_load(record->payload.ptr,
                                                       slice_from(record->payload, CODEC_VIEW_STORED_BYTES), &view);
                        if (code != ERR_OK) {
                                (void)worker_read_failed(worker, shard, code, record); /* passed over */
                                journal_note_lost(feed->journal, record);
                                return true;
                        }
                        decoded = true;
                }
                if (target->service->takes_json &&
                    (encoded_for == NULL || !worker_same_json(encoded_for, &target->json))) {
                        size_t json_bytes =
                                codec_json_encode(&view, &target->json, worker->json, worker->json_bytes_max);
                        if (target->json.event_id)
                                json_bytes = codec_json_add_event_id(worker->json, json_bytes, worker->json_bytes_max,
                                                                     record->origin.lane_id,
                                                                     record->origin.lane_position, record->sequence);
                        ASSERT(json_bytes > 0);
                        event.json = slice_of(worker->json, json_bytes);
                        encoded_for = &target->json;
                }
                all_taken &= egress_target_take(target, shard, &event, copies);
        }
        return all_taken;
}

/* The log at `begin` was recycled before it was looked at here: what was routed there belonged to targets that are
 * retired now. Where what somebody still holds may begin. */
static uint64_t worker_pass_recycled(const struct egress_worker *worker, uint32_t shard, uint64_t begin, uint64_t end)
{
        for (uint32_t i = 0; i < worker->all_count; i++) {
                const struct egress_place *place = &worker->all[i]->place[shard];
                ASSERT(place->position > begin); /* its cursor is not ahead of it, and would have held the log */
                if (place->position < end)
                        end = place->position;
        }
        return end;
}

/* Walks the live ranges. Returns true when there is more. */
static bool worker_feed_live(struct egress_worker *worker, uint32_t shard)
{
        struct egress_shard_feed *feed = &worker->feeds[shard];
        uint32_t budget = WORKER_LIVE_RECORDS_PER_TURN;
        for (;;) {
                while (feed->range.begin < feed->range.end) {
                        if (budget-- == 0)
                                return true;
                        struct journal_record record;
                        enum err_code code =
                                journal_read(feed->live_reader, feed->range.begin, feed->range.end, &record);
                        if (code == ERR_EMPTY)
                                break;
                        if (code == ERR_NOT_FOUND) {
                                feed->range.begin =
                                        worker_pass_recycled(worker, shard, feed->range.begin, feed->range.end);
                                continue;
                        }
                        if (code != ERR_OK && !worker_read_failed(worker, shard, code, &record))
                                return false; /* tried again by the next turn */
                        worker->live_records++;
                        if (code == ERR_OK)
                                (void)worker_dispatch(worker, shard, &record,
                                                      NULL); /* a full target lags now, and knows from where */
                        feed->range.begin = record.next_position;
                        feed->live_position = record.next_position;
                        if (code == ERR_OK)
                                feed->live_sequence = record.sequence + 1;
                }
                if (feed->range.end > feed->live_position) {
                        feed->live_position = feed->range.end;
                        feed->live_sequence = feed->range.end_sequence;
                }
                struct egress_range range;
                if (rte_ring_sc_dequeue_elem(feed->ranges, &range, sizeof(range)) != 0)
                        return false;
                /* Places from which nothing is to be looked at again: a range may begin behind what was walked. */
                if (range.begin < feed->live_position)
                        range.begin = feed->live_position;
                feed->range = range;
        }
}

/* A lagging target reads the log from its own place. Returns true when it has more to read and room for it. */
static bool worker_feed_lagging(struct egress_worker *worker, struct egress_target *target, uint32_t shard)
{
        struct egress_shard_feed *feed = &worker->feeds[shard];
        struct egress_place *place = &target->place[shard];
        for (uint32_t budget = WORKER_LAG_RECORDS_PER_TURN; budget > 0; budget--) {
                if (place->shedding || !egress_target_has_room(target, shard))
                        return false;
                if (place->position >= feed->live_position) {
                        place->lagging = false;
                        return false;
                }
                struct journal_record record;
                enum err_code code = journal_read(feed->lag_reader, place->position, feed->live_position, &record);
                if (code == ERR_EMPTY) {
                        egress_target_passed(target, shard, feed->live_position, feed->live_sequence);
                        continue;
                }
                if (code != ERR_OK) {
                        if (!worker_read_failed(worker, shard, code, &record))
                                return false; /* tried again by the next turn */
                        egress_target_passed(target, shard, record.next_position, place->sequence);
                        continue;
                }
                counter_add(worker->options.counters, COUNTER_egress_lagging_reads, 1);
                uint64_t before = place->position;
                if (!worker_dispatch(worker, shard, &record, target))
                        return false;
                if (place->position == before) /* not for this target */
                        egress_target_passed(target, shard, record.next_position, record.sequence + 1);
        }
        return true;
}

void egress_worker_shed(struct egress_worker *worker)
{
        io_loop_wake(worker->loop);
}

void egress_worker_probe(struct egress_worker *worker)
{
        atomic_store_explicit(&worker->probe_wanted, true, memory_order_relaxed); /* see worker_tick() */
}

/* The soonest of the targets' wishes. */
static uint64_t worker_targets_turn(struct egress_worker *worker)
{
        uint64_t soonest_ns = UINT64_MAX;
        for (uint32_t i = 0; i < worker->active_count;) {
                struct egress_target *target = worker->active[i];
                bool reading = false;
                for (uint32_t shard = 0; shard < worker->options.shards_count; shard++)
                        if (target->place[shard].lagging)
                                reading |= worker_feed_lagging(worker, target, shard);
                uint64_t wish_ns = reading ? 0 : egress_target_turn(target);
                if (reading)
                        (void)egress_target_turn(target); /* comes again at once anyway */
                if (egress_target_is_idle(target)) {
                        target->active = false;
                        worker->active[i] = worker->active[--worker->active_count];
                        continue;
                }
                soonest_ns = wish_ns < soonest_ns ? wish_ns : soonest_ns;
                i++;
        }
        return soonest_ns;
}

static void worker_tick(struct egress_worker *worker)
{
        /* The segment that a reader is in cannot be recycled, nor any behind it: not for longer than a tick where the
         * reader has stopped reading. One that goes on reading enters it again. */
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                journal_reader_rest(worker->feeds[shard].live_reader);
                journal_reader_rest(worker->feeds[shard].lag_reader);
        }
        /* Relaxed: a hint; what the caller did before is looked at by other means. */
        worker->probing = atomic_exchange_explicit(&worker->probe_wanted, false, memory_order_relaxed);
        for (uint32_t i = 0; i < worker->all_count;) {
                struct egress_target *target = worker->all[i];
                egress_target_tick(target);
                if (target->stopping && egress_target_stop(target)) {
                        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++)
                                worker->feeds[shard].targets[target->numbers[shard]] = NULL;
                        for (uint32_t k = 0; k < worker->active_count; k++)
                                if (worker->active[k] == target)
                                        worker->active[k--] = worker->active[--worker->active_count];
                        worker->all[i] = worker->all[--worker->all_count];
                        /* G1: the control thread frees it after it has seen this (G2). */
                        atomic_store_explicit(&target->gone, true, memory_order_release);
                        continue;
                }
                i++;
        }
}

/* As rte_ring_count(), which reads plainly. */
static uint32_t worker_ranges_waiting(const struct egress_shard_feed *feed)
{
        /* Acquire, for what it says; the order that matters is W2's. Relaxed: this thread is the consumer. */
        return __atomic_load_n(&feed->ranges->prod.tail, __ATOMIC_ACQUIRE) -
               __atomic_load_n(&feed->ranges->cons.tail, __ATOMIC_RELAXED);
}

/* Is anything on its way whose batch may fill, or end, before a new event would have to be noticed? A target that only
 * waits for the end of its period is not, once events have stopped coming. */
static bool worker_is_building(const struct egress_worker *worker)
{
        if (worker->live_records > 0)
                return worker->active_count > 0;
        for (uint32_t i = 0; i < worker->active_count; i++) {
                const struct egress_target *target = worker->active[i];
                const struct egress_batch *building = target->building[0];
                bool waits = building != NULL && building->patient && target->queue_first == building;
                for (uint32_t shard = 0; shard < worker->options.shards_count; shard++)
                        waits &= !target->place[shard].lagging;
                if (!waits)
                        return true;
        }
        return false;
}

/* Sleeps until a completion, an offer that is worth it, or `wake_ns`. */
static void worker_sleep(struct egress_worker *worker, uint64_t wake_ns)
{
        uint64_t now_ns = clock_monotonic_ns();
        if (wake_ns <= now_ns) {
                (void)io_loop_turn(worker->loop, 0);
                return;
        }
        /* With nothing on its way, or where nothing lingers, the next event is worth a wake-up: its linger must begin.
         * Otherwise a batch's worth is, and events that are less wait no longer than they may linger anyway. */
        const struct rules_settings *settings = worker->options.settings;
        uint64_t linger_ns = settings->egress.linger_ms * CLOCK_NS_PER_MS;
        bool building = linger_ns > 0 && worker_is_building(worker);
        uint64_t worth_bytes = building ? settings->egress.batch_bytes_max / 4 : 1;
        if (building && wake_ns - now_ns > linger_ns)
                wake_ns = now_ns + linger_ns;
        bool more = false;
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                struct egress_shard_feed *feed = &worker->feeds[shard];
                /* W2: see W1. */
                (void)atomic_exchange_explicit(&feed->wake_at, feed->live_position + worth_bytes, memory_order_acq_rel);
                more |= worker_ranges_waiting(feed) >= (building ? EGRESS_FEED_RANGES / 2 : 1);
        }
        if (!more && worker->active_count == 0) {
                for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                        journal_reader_rest(
                                worker->feeds[shard].live_reader); /* what an idle reader holds cannot be recycled */
                        journal_reader_rest(worker->feeds[shard].lag_reader);
                }
        }
        (void)io_loop_turn(worker->loop, more ? 0 : wake_ns - now_ns); /* how many ran does not matter */
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++)
                atomic_store_explicit(&worker->feeds[shard].wake_at, UINT64_MAX,
                                      memory_order_relaxed); /* a late wake is harmless */
}

bool egress_worker_turn(struct egress_worker *worker)
{
        worker->now_ns = clock_monotonic_ns();
        worker->turn_ms = clock_realtime_ms();
        counter_add(worker->options.counters, COUNTER_egress_turns, 1);
        worker->live_records = 0;
        worker_take_orders(worker);
        bool more = false;
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++)
                more |= worker_feed_live(worker, shard);
        worker->now_ns = clock_monotonic_ns();
        uint64_t soonest_ns = worker_targets_turn(worker);
        uint64_t shed_ns = worker->slots_count > 1 ? egress_worker_shed_turn(worker) : UINT64_MAX;
        soonest_ns = shed_ns < soonest_ns ? shed_ns : soonest_ns;
        if (worker->now_ns >= worker->tick_ns) {
                worker_tick(worker);
                worker->tick_ns = worker->now_ns + WORKER_TICK_NS;
        }
        /* S2: pairs with S1. */
        uint64_t deadline_ns = atomic_load_explicit(&worker->stop_deadline_ns, memory_order_acquire);
        if (deadline_ns != 0) {
                bool first = !worker->draining;
                worker->draining = true;
                if (first)
                        return true; /* one more look at the ring: the last offers came before the stop */
                if ((!more && worker->active_count == 0) || worker->now_ns >= deadline_ns)
                        return false;
                soonest_ns = soonest_ns < deadline_ns ? soonest_ns : deadline_ns;
        }
        if (soonest_ns > worker->tick_ns)
                soonest_ns = worker->tick_ns;
        worker_sleep(worker, more ? 0 : soonest_ns);
        return true;
}

bool egress_worker_hangs(const struct egress_worker *worker)
{
        return atomic_load_explicit(&worker->hangs, memory_order_acquire); /* H2: see egress_worker_run() */
}

static uint64_t worker_waiting(const struct egress_worker *worker, const struct egress_target *target)
{
        uint64_t waiting = 0;
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                struct journal_target_state state;
                if (journal_target_get(worker->feeds[shard].journal, target->numbers[shard], &state))
                        waiting += state.accepted - state.delivered - state.dead_lettered - state.shed - state.expired;
        }
        return waiting;
}

static bool worker_stop_targets(struct egress_worker *worker, bool tell)
{
        bool stopped = true;
        for (uint32_t i = 0; i < worker->all_count; i++) {
                struct egress_target *target = worker->all[i];
                if (egress_target_stop(target))
                        continue;
                stopped = false;
                if (tell)
                        log_error("a destination hangs: the stop goes on without it",
                                  "target=%s waiting=%" PRIu64
                                  " help=\"its file system does not answer; the journal has what waits\"",
                                  target->log_key, worker_waiting(worker, target));
        }
        return stopped;
}

bool egress_worker_run(struct egress_worker *worker)
{
        char name[16];
        (void)snprintf(name, sizeof(name), "worker-%u", worker->options.index); /* few workers: it fits */
        (void)pthread_setname_np(pthread_self(), name); /* for top(1), benches and slow_disk.py */
        while (egress_worker_turn(worker))
                ;
        for (uint32_t i = 0; i < worker->all_count; i++)
                egress_target_tick(worker->all[i]);
        /* Stop, wait until nothing is submitted, close (by the owner of the worker). */
        uint64_t until_ns = clock_monotonic_ns() + EGRESS_STOP_NS;
        while (!worker_stop_targets(worker, false)) {
                if (clock_monotonic_ns() >= until_ns) {
                        (void)worker_stop_targets(worker, true); /* as before: it has not turned since */
                        atomic_store_explicit(&worker->hangs, true, memory_order_release); /* H1: behind all its work */
                        return false;
                }
                (void)io_loop_turn(worker->loop, 20 * CLOCK_NS_PER_MS); /* how many ran does not matter */
        }
        (void)io_loop_turn(worker->loop, 0); /* what was cancelled last */
        return true;
}
