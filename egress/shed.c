/* Carrying out what a full journal has announced: the oldest events of a log are given up (journal_shed_oldest()).
 *
 * For each target whose cursor stands before the announced position: a target that works and keeps up is left time to
 * take them, up to the request's timeout. Else nothing more is taken from the log; batches of its slot that are not in
 * flight go back to the journal, or, where others behind them are in flight, are dropped, and count as shed what they
 * had not delivered; those in flight are waited for, up to the request's timeout, and what has no answer by then is
 * given up: it may be carried out all the same, later, and its events count as shed; records that no batch has are
 * passed over and counted, in the log itself; then the cursor moves behind them, with the counts, in one step. A kill
 * before that step leaves the cursor before the events: they are still there, and not counted. */
#include "egress/service.h"

#include "base/assert.h"
#include "base/clock.h"

#include <inttypes.h>

/* How often it is looked at while something is to be waited for. */
#define SHED_LOOK_NS (5 * CLOCK_NS_PER_MS)
/* A target that works, and is behind all the same, has so long to come near; one that has shed within SHED_KNOWN_NS is
 * known not to. */
#define SHED_PATIENCE_NS CLOCK_NS_PER_S
#define SHED_KNOWN_NS    (10 * CLOCK_NS_PER_S)
/* Records passed over before the worker turns to the network again. */
#define SHED_RECORDS_PER_TURN 8192u

static const char *shed_type_name(const struct egress_worker *worker, uint32_t slot)
{
        const char *name = codec_event_type_metric((enum sendring_event_type)worker->slot_types[slot]);
        return name != NULL ? name : "";
}

void egress_target_tell_shed(struct egress_target *target)
{
        struct egress_worker *worker = target->worker;
        uint64_t untold = 0, repeats = 0;
        for (uint32_t slot = 1; slot < worker->slots_count; slot++)
                untold += target->shed_untold[slot];
        if (untold == 0 || !log_gate_open(&target->shed_gate, worker->now_ns, EGRESS_LOG_INTERVAL_NS, &repeats))
                return;
        for (uint32_t slot = 1; slot < worker->slots_count; slot++) {
                if (target->shed_untold[slot] == 0)
                        continue;
                log_warning("events are shed",
                            "target=%s type=%s events=%" PRIu64
                            " reason=\"the journal is full, and the target has not taken its oldest ones\" "
                            "help=\"sendring stat says what the target lacks; journal.size_bytes_max is the limit\"",
                            target->log_key, shed_type_name(worker, slot), target->shed_untold[slot]);
                target->shed_untold[slot] = 0;
        }
}

/* In what is the target's own; egress_shed is counted where the cursor moves. */
static void shed_count(struct egress_target *target, uint32_t shard, uint64_t events)
{
        struct egress_worker *worker = target->worker;
        const uint8_t slot = worker->slots[shard], type = worker->slot_types[slot];
        if (events == 0)
                return;
        target->place[shard].shed_ns = worker->now_ns;
        egress_target_row_add(&target->row->shed[type], events);
        target->shed_untold[slot] += events;
        egress_target_tell_shed(target);
}

/* What a batch had not delivered is shed; it is settled without being sent. */
static void shed_batch(struct egress_target *target, struct egress_batch *batch)
{
        struct egress_worker *worker = target->worker;
        /* Of one that was partly delivered only the sum is known, and of it the logs of one type each take a part. */
        uint64_t left = batch->partly_done ? batch->events : UINT64_MAX;
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                struct egress_place *place = &target->place[shard];
                struct journal_settled *settled = &batch->shard[shard].settled;
                if (!batch->shard[shard].touched)
                        continue;
                uint64_t events = settled->delivered < left ? settled->delivered : left;
                settled->delivered -= events;
                settled->shed += events;
                left -= events;
                /* The first copies of a record that was cut between two of them: they are read again, or passed over,
                 * with the others. */
                if (place->copies_done > 0 && batch->shard[shard].end_position == place->position) {
                        place->copies_done = 0;
                        place->copies_settled = (struct journal_settled){0};
                }
                shed_count(target, shard, events);
        }
        if (batch->state == EGRESS_BATCH_BUILDING)
                target->building[batch->slot] = NULL;
        batch->events = 0;
        batch->state = EGRESS_BATCH_SETTLED;
}

static uint64_t shed_timeout_ns(const struct egress_target *target)
{
        return target->worker->options.settings->egress.request_timeout_ms * CLOCK_NS_PER_MS;
}

static bool shed_may_take_back(const struct egress_target *target, const struct egress_batch *batch)
{
        bool may = !batch->partly_done && (batch->state == EGRESS_BATCH_READY || batch->state == EGRESS_BATCH_BUILDING);
        /* What a log that is being given up has passed over is counted already; and who were read again would be dead
         * letters a second time. */
        for (uint32_t shard = 0; shard < target->worker->options.shards_count; shard++)
                may &= !batch->shard[shard].touched ||
                       (!target->place[shard].shedding && batch->shard[shard].settled.dead_lettered == 0 &&
                        target->place[shard].copies_settled.dead_lettered == 0);
        return may;
}

/* Before anything is passed over: when none of the last batches of the slot is in flight or has dead letters, their
 * events go back to the journal, to be read again; so nothing behind `before` is dropped with them. */
static void shed_take_back(struct egress_target *target, uint32_t shard, uint64_t before)
{
        struct egress_worker *worker = target->worker;
        struct egress_batch *first = NULL, *next = NULL;
        bool seen[LIMIT_LOGS_MAX] = {false};
        for (struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next) {
                if (batch->slot != worker->slots[shard])
                        continue;
                bool may = shed_may_take_back(target, batch);
                if (!may && first != NULL)
                        return;
                if (may && batch->shard[shard].touched && batch->shard[shard].begin_position < before && first == NULL)
                        first = batch;
        }
        for (struct egress_batch *batch = first; batch != NULL; batch = next) {
                next = batch->next;
                if (batch->slot != worker->slots[shard])
                        continue;
                for (uint32_t log = 0; log < worker->options.shards_count; log++) {
                        struct egress_place *place = &target->place[log];
                        if (!batch->shard[log].touched || seen[log])
                                continue;
                        egress_target_passed(target, log, batch->shard[log].begin_position,
                                             batch->shard[log].begin_sequence);
                        place->copies_settled = (struct journal_settled){0};
                        place->lagging = true;
                        seen[log] = true;
                }
                egress_target_unqueue(target, batch);
        }
}

/* Drops the batches that hold events of the log before `before`. False: one is in flight. */
static bool shed_batches(struct egress_target *target, uint32_t shard, uint64_t before)
{
        bool through = true;
        for (struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next) {
                if (!batch->shard[shard].touched || batch->shard[shard].begin_position >= before)
                        continue;
                switch (batch->state) {
                case EGRESS_BATCH_BUILDING:
                case EGRESS_BATCH_READY:
                        shed_batch(target, batch);
                        break;
                case EGRESS_BATCH_SENDING:
                        if (!egress_target_batch_hangs(target, batch))
                                break;
                        egress_target_batch_give_up(target, batch,
                                                    "its file system does not answer: events of a log that is full "
                                                    "are not waited for any more");
                        shed_batch(target, batch);
                        break;
                case EGRESS_BATCH_SETTLED:
                case EGRESS_BATCH_FREE:
                case EGRESS_BATCH_GIVEN_UP:
                        break;
                }
        }
        egress_target_settle(target);
        /* One that is settled may stand behind one in flight. */
        for (const struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next)
                through &= !batch->shard[shard].touched || batch->shard[shard].begin_position >= before;
        return through;
}

/* Nothing before `before` is on its way any more: the cursor moves behind it, with what was passed over. */
static void shed_move(struct egress_target *target, uint32_t shard, uint64_t before)
{
        struct egress_worker *worker = target->worker;
        struct journal *journal = worker->feeds[shard].journal;
        struct egress_place *place = &target->place[shard];
        struct journal_target_state state;
        uint64_t position = place->position, sequence = place->sequence;
        bool known = journal_target_get(journal, target->numbers[shard], &state);
        ASSERT(known);
        for (const struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next) {
                if (!batch->shard[shard].touched)
                        continue;
                /* It was kept: its first event is behind `before`, and nothing was passed over. */
                ASSERT(batch->shard[shard].begin_position >= before);
                ASSERT(place->shed_settled.shed == 0);
                position = batch->shard[shard].begin_position;
                sequence = batch->shard[shard].begin_sequence;
                break;
        }
        if (state.cursor_position < position)
                journal_target_advance(journal, target->numbers[shard], position, sequence, &place->shed_settled);
        shed_count(target, shard, place->shed_settled.shed);
        counter_add(worker->options.counters, COUNTER_egress_shed, place->shed_settled.shed);
        counter_add(worker->options.counters, COUNTER_egress_delivered, place->shed_settled.delivered);
        counter_add(worker->options.counters, COUNTER_egress_expired, place->shed_settled.expired);
        place->shed_settled = (struct journal_settled){0};
        place->shedding = false;
}

/* Passes over what no batch has. False: there is more. */
static bool shed_records(struct egress_target *target, uint32_t shard, uint64_t before)
{
        struct egress_shard_feed *feed = &target->worker->feeds[shard];
        struct egress_place *place = &target->place[shard];
        for (uint32_t budget = SHED_RECORDS_PER_TURN; place->position < before; budget--) {
                struct journal_record record = {.next_position = before};
                if (budget == 0)
                        return false;
                enum err_code code = journal_read(feed->lag_reader, place->position, before, &record);
                if (code == ERR_EMPTY) {
                        egress_target_passed(target, shard, before, place->sequence);
                        continue;
                }
                if (code == ERR_CORRUPT) { /* lost, and the ledger shows it */
                        egress_target_passed(target, shard, record.next_position, place->sequence);
                        continue;
                }
                if (code != ERR_OK)
                        return false; /* tried again by the next turn */
                uint64_t copies = 0;
                for (uint32_t i = 0; i < record.entry.routes_count; i++)
                        copies += record.entry.routes[i] == target->numbers[shard];
                if (copies > 0) {
                        struct journal_settled *settled = &place->shed_settled;
                        ASSERT(copies >= place->copies_done);
                        settled->shed += copies - place->copies_done + place->copies_settled.shed;
                        settled->delivered += place->copies_settled.delivered;
                        settled->dead_lettered += place->copies_settled.dead_lettered;
                        settled->expired += place->copies_settled.expired;
                }
                /* It is a dead letter already, and was only not taken yet. */
                if (copies > place->copies_done && place->letter == EGRESS_LETTER_WRITTEN &&
                    place->letter_position == record.position) {
                        place->shed_settled.shed--;
                        place->shed_settled.dead_lettered++;
                        counter_add(target->worker->options.counters, COUNTER_egress_dead_lettered, 1);
                }
                place->copies_settled = (struct journal_settled){0};
                egress_target_passed(target, shard, record.next_position, record.sequence + 1);
        }
        return true;
}

/* Is it worth waiting for the target to take them by itself? Then what it builds is finished now. */
static bool shed_may_wait(struct egress_target *target, uint32_t shard, uint64_t before, uint64_t waited_ns)
{
        const struct egress_worker *worker = target->worker;
        const struct egress_place *place = &target->place[shard];
        const uint64_t timeout_ns = shed_timeout_ns(target);
        if (target->flow.failures > 0 || target->flow.parked || worker->now_ns < target->dead_letter_hold_until_ns)
                return false;
        for (const struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next)
                if (egress_target_batch_hangs(target, batch))
                        return false;
        bool near = place->position >= before;
        bool known = place->shed_ns != 0 && worker->now_ns - place->shed_ns < SHED_KNOWN_NS;
        if (waited_ns >= (near ? timeout_ns : known ? 0 : SHED_PATIENCE_NS))
                return false;
        struct egress_batch *building = target->building[target->service->mixes ? 0 : worker->slots[shard]];
        if (building != NULL && building->shard[shard].touched)
                building->due_ns = 0;
        egress_target_activate(target);
        return true;
}

/* True: the target's cursor does not stand before `before` any more. */
static bool shed_target(struct egress_target *target, uint32_t shard, uint64_t before, uint64_t waited_ns)
{
        struct egress_worker *worker = target->worker;
        struct egress_shard_feed *feed = &worker->feeds[shard];
        struct egress_place *place = &target->place[shard];
        struct journal_target_state state;
        bool known = journal_target_get(feed->journal, target->numbers[shard], &state);
        ASSERT(known);
        if (target->stopping || (state.cursor_position >= before && !place->shedding))
                return true; /* a stopping one sheds what it has left as a whole */
        if (place->letter == EGRESS_LETTER_WRITING && worker->now_ns - place->letter_ns < shed_timeout_ns(target))
                return false; /* on its way, as what is in flight */
        if (place->letter == EGRESS_LETTER_WRITING)
                egress_target_give_up_letter(target, shard);
        if (!place->shedding && shed_may_wait(target, shard, before, waited_ns))
                return false;
        if (!place->shedding && !target->service->mixes)
                shed_take_back(target, shard, before);
        place->shedding = true;
        place->lagging = true;
        egress_target_activate(target);
        bool through = target->service->mixes ? target->service->shed(target, shard, before)
                                              : shed_batches(target, shard, before);
        if (!shed_records(target, shard, before) || !through)
                return false;
        shed_move(target, shard, before);
        return true;
}

void egress_worker_shed_anew(struct egress_worker *worker)
{
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                struct egress_shard_feed *feed = &worker->feeds[shard];
                if (feed->shed_done == feed->shed_before)
                        feed->shed_before = 0; /* it has the same time as the others had */
                feed->shed_done = 0;
        }
}

uint64_t egress_worker_shed_turn(struct egress_worker *worker)
{
        uint64_t wish_ns = UINT64_MAX;
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                struct egress_shard_feed *feed = &worker->feeds[shard];
                if (worker->slots[shard] == 0)
                        continue;
                uint64_t before = journal_shed_before(feed->journal);
                if (before == feed->shed_done)
                        continue;
                if (before != feed->shed_before) {
                        feed->shed_before = before;
                        feed->shed_seen_ns = worker->now_ns;
                }
                bool through = true;
                for (uint32_t i = 0; i < worker->all_count; i++)
                        through &= shed_target(worker->all[i], shard, before, worker->now_ns - feed->shed_seen_ns);
                if (!through) {
                        wish_ns = worker->now_ns + SHED_LOOK_NS;
                        continue;
                }
                feed->shed_done = before;
                /* What they stand in is to be recycled. */
                journal_reader_rest(feed->live_reader);
                journal_reader_rest(feed->lag_reader);
        }
        return wish_ns;
}
