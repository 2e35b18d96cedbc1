/* What becomes of a period of CloudWatch besides being sent: found by the next router, counted again, too old, outlived
 * by its log, settled. */
#include "egress/service.h"
#include "egress/target_cloudwatch_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "egress/cloudwatch.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define CLOUDWATCH_SYNC_RETRY_NS CLOCK_NS_PER_S

/* ---------------------------------------------------------------------------------------------- counters */

/* Of the open period, so far; another one begins. */
struct cloudwatch_events cloudwatch_take_events(struct egress_cloudwatch *own)
{
        struct metrics_stats now;
        metrics_table_get_stats(own->table, &now);
        const struct cloudwatch_events events = {
                .overflowed = now.overflowed - own->begun.overflowed,
                .several_values = now.several_values - own->begun.several_values,
                .values_refused = now.values_refused - own->begun.values_refused,
        };
        own->begun = (struct cloudwatch_events){now.overflowed, now.several_values, now.values_refused};
        return events;
}

/* When nothing can take them back any more: an event that is counted again is one event. */
void cloudwatch_count_events(struct egress_target *target, const struct cloudwatch_events *events)
{
        struct counters_block *counters = target->worker->options.counters;
        counter_add(counters, COUNTER_cloudwatch_overflowed, events->overflowed);
        counter_add(counters, COUNTER_cloudwatch_several_values, events->several_values);
        counter_add(counters, COUNTER_cloudwatch_values_refused, events->values_refused);
        egress_target_row_add(&target->row->series_overflowed, events->overflowed);
}

/* ---------------------------------------------------------------------------------------------- at start */

/* A power cut may take records that the period has counted, and others are journalled in their place; a disk may have
 * lost some. */
static bool cloudwatch_counted_these(const struct egress_target *target, uint32_t shard,
                                     const struct outbox_place *place)
{
        struct journal *journal = target->worker->options.journals[shard];
        const struct journal_settled *settled = &place->settled;
        struct journal_target_state state;
        uint64_t count = 0;
        if (journal_target_count_before(journal, target->numbers[shard], place->end_position, &count, NULL, NULL) ==
            ERR_OK)
                return count == settled->delivered + settled->dead_lettered + settled->shed + settled->expired;
        /* Where it cannot be counted now, the period is believed: a kill leaves the log as it was. Not where the
         * journal's books have lost events: those would be delivered as well. */
        return journal_target_get(journal, target->numbers[shard], &state) && state.lost == 0;
}

/* Does the period begin where the cursors stand? *ret_moved: how many of its cursors have moved already. */
static bool cloudwatch_period_fits(const struct egress_target *target, uint32_t *ret_moved)
{
        const struct egress_worker *worker = target->worker;
        const struct outbox_place *places = outbox_places(target->cloudwatch->outbox);
        uint32_t touched = 0, moved = 0;
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                const struct outbox_place *place = &places[shard];
                uint64_t cursor = target->place[shard].position;
                if (place->touched == 0)
                        continue;
                touched++;
                moved += cursor >= place->end_position;
                bool before = outbox_moved_before(target->cloudwatch->outbox) && cursor >= place->end_position;
                if ((cursor != place->begin_position && cursor != place->end_position && !before) ||
                    place->end_position < place->begin_position ||
                    place->end_position > journal_committed_position(worker->options.journals[shard]))
                        return false;
                if (cursor == place->begin_position && !cloudwatch_counted_these(target, shard, place))
                        return false;
        }
        *ret_moved = moved;
        /* Cursors move only when all is acknowledged, save where a log was given up. */
        bool done = outbox_acknowledged(target->cloudwatch->outbox) == outbox_chunks(target->cloudwatch->outbox);
        return touched > 0 && (done || moved == 0 || outbox_moved_before(target->cloudwatch->outbox));
}

/* How many events of the logs before `shard`, and of this one, the chunks that were given up may have had: each count
 * is an event's, and with several roll-ups more than one may be of the same. Which events they are nobody knows; so the
 * first ones are named. */
static uint64_t cloudwatch_given_up_of(const struct egress_target *target, uint32_t shard)
{
        const struct outbox_place *places = outbox_places(target->cloudwatch->outbox);
        uint64_t left = outbox_given_up_counts(target->cloudwatch->outbox);
        for (uint32_t before = 0; before < shard; before++) {
                uint64_t events = places[before].touched != 0 ? places[before].settled.delivered : 0;
                left -= events < left ? events : left;
        }
        return left < places[shard].settled.delivered ? left : places[shard].settled.delivered;
}

/* When every chunk is done with: what the cursors' moves settle. False: there are more. */
bool cloudwatch_period_done(const struct egress_target *target, struct egress_batch *batch)
{
        const struct outbox *outbox = target->cloudwatch->outbox;
        if (outbox_acknowledged(outbox) < outbox_chunks(outbox))
                return false;
        for (uint32_t shard = 0; shard < target->worker->options.shards_count; shard++) {
                struct journal_settled *settled = &batch->shard[shard].settled;
                if (!batch->shard[shard].touched)
                        continue;
                uint64_t given_up = cloudwatch_given_up_of(target, shard);
                settled->delivered -= given_up;
                settled->expired += given_up;
        }
        return true;
}

/* The period that an earlier router had closed becomes the target's first batch. */
static void cloudwatch_restore(struct egress_target *target)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        const struct outbox_place *places = outbox_places(own->outbox);
        struct egress_batch *batch = egress_target_restore_batch(target);
        for (uint32_t shard = 0; shard < target->worker->options.shards_count; shard++) {
                const struct outbox_place *place = &places[shard];
                if (place->touched == 0 || target->place[shard].position >= place->end_position)
                        continue;
                batch->shard[shard].touched = true;
                batch->shard[shard].end_position = place->end_position;
                batch->shard[shard].end_sequence = place->end_sequence;
                batch->shard[shard].settled = place->settled;
                target->place[shard].position = place->end_position;
                target->place[shard].sequence = place->end_sequence;
        }
        batch->events = 1; /* as many as it may have been: something is to be sent */
        if (cloudwatch_period_done(target, batch))
                batch->state = EGRESS_BATCH_SETTLED;
}

void cloudwatch_recover(struct egress_target *target, const struct outbox_found *found)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        uint32_t moved = 0;
        const char *dropped = found->dropped;
        if (dropped == NULL && !outbox_is_sealed(own->outbox))
                return;
        if (dropped == NULL && !cloudwatch_period_fits(target, &moved)) {
                dropped = "it does not begin where the journal's cursors stand";
                outbox_clear(own->outbox);
        }
        if (dropped != NULL) {
                own->found_recounted = 1;
                log_write(found->acknowledged > 0 ? LOG_ERROR : LOG_WARNING,
                          "a closed CloudWatch period is counted again", "target=%s reason=\"%s\" doubled_requests=%u",
                          target->log_key, dropped, found->acknowledged);
                return;
        }
        if (found->in_flight && own->resend_ambiguous) {
                own->found_resent = 1;
                outbox_not_taken(own->outbox);
        } else if (found->in_flight) {
                own->found_skipped = 1;
                own->found_skipped_counts = outbox_next_counts(own->outbox);
                outbox_acknowledge(own->outbox);
        }
        cloudwatch_restore(target);
        log_info("a CloudWatch period goes on", "target=%s requests=%u acknowledged=%u ambiguous=%s cursors_moved=%u",
                 target->log_key, found->chunks, found->acknowledged,
                 !found->in_flight       ? "none"
                 : own->resend_ambiguous ? "resent"
                                         : "skipped",
                 moved);
}

/* ---------------------------------------------------------------------------------------------- counted again */

/* The batch and those behind it are thrown away, and counted again from where those before it end. */
void cloudwatch_take_back(struct egress_target *target, struct egress_batch *first)
{
        struct egress_worker *worker = target->worker;
        struct egress_batch *next = NULL;
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                struct egress_place *place = &target->place[shard];
                struct journal_target_state state;
                bool known = journal_target_get(worker->feeds[shard].journal, target->numbers[shard], &state);
                bool behind = false, touched = false;
                ASSERT(known);
                uint64_t position = state.cursor_position, sequence = state.cursor_sequence;
                for (const struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next) {
                        behind |= batch == first;
                        if (!batch->shard[shard].touched)
                                continue;
                        touched |= behind;
                        position = behind ? position : batch->shard[shard].end_position;
                        sequence = behind ? sequence : batch->shard[shard].end_sequence;
                }
                if (!touched)
                        continue;
                egress_target_passed(target, shard, position, sequence);
                place->copies_settled = (struct journal_settled){0};
                place->shed_settled = (struct journal_settled){0}; /* it was passed over behind them: again, then */
                place->lagging = true;
        }
        for (struct egress_batch *batch = first; batch != NULL; batch = next) {
                next = batch->next;
                egress_target_unqueue(target, batch);
        }
        metrics_table_clear(target->cloudwatch->table);
        (void)cloudwatch_take_events(target->cloudwatch); /* not counted: they come again */
        target->cloudwatch->count_again = false;
        egress_target_activate(target);
}

/* The outbox is empty from now on. */
static void cloudwatch_clear(struct egress_target *target)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        outbox_clear(own->outbox);
        own->closed = (struct cloudwatch_events){0};
        own->synced = false;
        own->sync_is_old = own->sync_op.submitted;
}

/* The closed period is dropped and counted again: nothing of it is known to be taken (a try without an answer that is
 * to be sent again may be, and has been counted as such), and its events are in the journal. */
static void cloudwatch_drop(struct egress_target *target, struct egress_batch *batch, const char *reason)
{
        log_warning("a closed CloudWatch period is counted again", "target=%s reason=\"%s\"", target->log_key, reason);
        counter_add(target->worker->options.counters, COUNTER_cloudwatch_recounted, 1);
        cloudwatch_clear(target);
        cloudwatch_take_back(target, batch);
}

/* The outage was so long that CloudWatch would refuse the next chunk for its oldest datum, time after time, and hold up
 * all that comes after. Where nothing of the period is known to be taken it is counted again, so that only what is too
 * old expires. Else a part of it might be counted twice, or not at all where its log is gone: the chunk is passed over,
 * with what is fresh in it. False: the batch is gone. */
bool cloudwatch_expire(struct egress_target *target, struct egress_batch *batch)
{
        struct outbox *outbox = target->cloudwatch->outbox;
        const struct rules_settings *settings = target->worker->options.settings;
        const int64_t age_ms_max = cloudwatch_send_age_ms_max(settings->egress.request_timeout_ms);
        while (cloudwatch_is_older(outbox_next_oldest_ms(outbox), clock_realtime_ms(), age_ms_max)) {
                if (outbox_acknowledged(outbox) == 0 && !outbox_moved_before(outbox)) {
                        cloudwatch_drop(target, batch,
                                        "it waited until CloudWatch would refuse its oldest data, and "
                                        "nothing of it is known to be taken");
                        return false;
                }
                /* Acknowledged is also what was passed over; under `resend` this chunk may have gone out before. */
                log_error("a CloudWatch request is too old to be sent, and is passed over",
                          "target=%s request=%u of=%u counts=%" PRIu32
                          " reason=\"%s\" now=\"its counts are missing, unless a try without an answer was taken\"",
                          target->log_key, outbox_acknowledged(outbox) + 1, outbox_chunks(outbox),
                          outbox_next_counts(outbox),
                          outbox_moved_before(outbox)
                                  ? "it cannot be counted again: a log of its events has been given up"
                                  : "others of its period were taken, or may have been: counted again they could be "
                                    "twice");
                counter_add(target->worker->options.counters, COUNTER_cloudwatch_expired_counts,
                            outbox_next_counts(outbox));
                outbox_give_up(outbox);
                if (cloudwatch_period_done(target, batch)) {
                        egress_target_batch_passed_over(target, batch);
                        return false;
                }
        }
        return true;
}

/* ---------------------------------------------------------------------------------------------- settled */

/* All chunks are done with, and all cursors have moved: those that moved before, when their logs were given up, have
 * counted as shed what is delivered by now. A kill may come behind this: where the journal says other than when the
 * period was closed, it has been done. The file has no word of which ones moved before, and a kill amid the last moves
 * leaves others at their ends: these have been told apart by what is delivered, and where all of a log was passed over
 * there is nothing to tell them by. The ledger is right; the counters page may then say shed of what it had as expired.
 */
void target_cloudwatch_settled(struct egress_target *target, struct egress_batch *batch)
{
        struct egress_worker *worker = target->worker;
        const struct outbox *outbox = target->cloudwatch->outbox;
        cloudwatch_count_events(target, &target->cloudwatch->closed);
        for (uint32_t shard = 0; outbox_moved_before(outbox) && shard < worker->options.shards_count; shard++) {
                const struct outbox_place *place = &outbox_places(outbox)[shard];
                struct journal_target_state state;
                if (place->touched == 0 || batch->shard[shard].touched)
                        continue;
                bool known = journal_target_get(worker->feeds[shard].journal, target->numbers[shard], &state);
                ASSERT(known);
                uint64_t shed = cloudwatch_given_up_of(target, shard);
                uint64_t delivered = place->settled.delivered - shed;
                if (state.delivered != place->begin_delivered || state.shed < delivered)
                        continue;
                journal_target_shed_delivered(worker->feeds[shard].journal, target->numbers[shard], delivered);
                counter_add(worker->options.counters, COUNTER_egress_delivered, delivered);
                counter_add(worker->options.counters, COUNTER_egress_shed, shed);
        }
        cloudwatch_clear(target);
}

/* ---------------------------------------------------------------------------------------------- a log is given up */

static void cloudwatch_sync_done(struct io_op *op, int32_t result, bool more)
{
        struct egress_cloudwatch *own = IO_OWNER(op, struct egress_cloudwatch, sync_op);
        uint64_t repeats = 0;
        (void)more; /* never */
        enum err_code code = outbox_sync_end(own->outbox, result);
        own->synced = code == ERR_OK && !own->sync_is_old;
        if (code == ERR_OK)
                return;
        own->sync_hold_until_ns = clock_monotonic_ns() + CLOUDWATCH_SYNC_RETRY_NS;
        if (code == ERR_CORRUPT) /* no other sync follows: cloudwatch_is_kept() */
                log_error("pages of an outbox were lost: somebody cut the file, or the disk fails",
                          "target=%s now=\"the log that is given up goes; what the outbox cannot deliver stays shed\"",
                          own->target->log_key);
        else if (log_gate_open(&own->sync_gate, clock_monotonic_ns(), CLOUDWATCH_LOG_INTERVAL_NS, &repeats))
                log_error("cannot sync an outbox",
                          "target=%s error=\"%s\" now=\"tries again; the log that is given up waits\" repeats=%" PRIu64,
                          own->target->log_key, result < 0 ? strerror(-result) : err_text(code), repeats);
}

/* A disk that does not answer is not waited for longer than a service: what a power cut takes of the outbox then stays
 * shed, and a period that it finds without the mark that cursors have moved is counted again, without this log. */
static bool cloudwatch_sync_hangs(struct egress_target *target)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        const struct egress_worker *worker = target->worker;
        uint64_t repeats = 0;
        if (!own->sync_op.submitted ||
            worker->now_ns - own->sync_begun_ns < worker->options.settings->egress.request_timeout_ms * CLOCK_NS_PER_MS)
                return false;
        if (log_gate_open(&own->sync_gate, worker->now_ns, CLOUDWATCH_LOG_INTERVAL_NS, &repeats))
                log_error("cannot sync an outbox",
                          "target=%s error=\"the disk does not answer\" now=\"the log that is given up goes; what a "
                          "power "
                          "cut takes of the outbox stays shed\" repeats=%" PRIu64,
                          target->log_key, repeats);
        return true;
}

/* What the outbox has is kept there, as far as the settings want it: cursors may move ahead of it. False: not yet. */
static bool cloudwatch_is_kept(struct egress_target *target)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        /* Where the file has lost pages no sync puts them back. Its events count as shed until they are delivered. */
        if (!target->worker->options.settings->journal.durability_host || own->synced ||
            outbox_has_lost_pages(own->outbox) || cloudwatch_sync_hangs(target))
                return true;
        if (own->sync_op.submitted || target->worker->now_ns < own->sync_hold_until_ns)
                return false;
        own->sync_is_old = false;
        own->sync_begun_ns = target->worker->now_ns;
        own->sync_op.done = cloudwatch_sync_done;
        int fd = outbox_sync_begin(own->outbox);
        if (fd < 0)
                cloudwatch_sync_done(&own->sync_op, -errno, false);
        else
                io_fdatasync(target->worker->loop, &own->sync_op, fd);
        return false;
}

/* What the open period has counted of the log is shed. What the closed one has lies in the outbox, and is sent from
 * there: its cursor moves now, and only now. Until it is delivered it counts as shed as well, for it would be if the
 * outbox were lost. */
bool target_cloudwatch_shed(struct egress_target *target, uint32_t shard, uint64_t before)
{
        struct egress_cloudwatch *own = target->cloudwatch;
        struct egress_worker *worker = target->worker;
        struct journal_target_state state;
        bool known = journal_target_get(worker->feeds[shard].journal, target->numbers[shard], &state);
        ASSERT(known);
        /* First, for what is passed over lies behind it. */
        struct egress_batch *open = target->building[0];
        if (open != NULL && open->shard[shard].touched && state.cursor_position < before)
                cloudwatch_take_back(target, open);
        for (struct egress_batch *batch = target->queue_first; batch != NULL; batch = batch->next) {
                if (!batch->shard[shard].touched || state.cursor_position >= before)
                        continue;
                if (batch->state == EGRESS_BATCH_SETTLED && batch->events == 0 && !outbox_is_sealed(own->outbox))
                        continue; /* nothing of it was to be sent */
                if (outbox_is_sealed(own->outbox) && !outbox_moved_before(own->outbox))
                        outbox_move_before(own->outbox);
                if (outbox_is_sealed(own->outbox) && !cloudwatch_is_kept(target))
                        return false; /* looked at again */
                struct journal_settled settled = batch->shard[shard].settled;
                counter_add(worker->options.counters, COUNTER_egress_expired, settled.expired);
                counter_add(worker->options.counters, COUNTER_egress_shed, settled.shed);
                settled.shed += settled.delivered;
                settled.delivered = 0;
                journal_target_advance(worker->feeds[shard].journal, target->numbers[shard],
                                       batch->shard[shard].end_position, batch->shard[shard].end_sequence, &settled);
                state.cursor_position = batch->shard[shard].end_position;
                batch->shard[shard].touched = false;
        }
        return true;
}
