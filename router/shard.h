/* A router shard: one pinned thread that takes events out of its lanes, validates and routes them, and journals them.
 *
 * Per lane visit: for each record, copy it out of the lane straight into the journal, look only at the copy: decode,
 * match against the plan, commit with its routes; then publish the journal, move the lane's tail, and tell the workers
 * the range. An event type that is shed when the journal is full has a log of its own (struct shard_class); the largest
 * lane position in any of a shard's logs is how far a lane was taken. A kill anywhere in between loses nothing: what is
 * committed in the journal carries its lane position, and the next router begins behind it.
 *
 * The payload of a journal record is the stored view of the event (CODEC_VIEW_STORED_BYTES), then the event as the
 * producer wrote it, then the name of the default configuration set when the event names none; events that go nowhere
 * have none. Before all that stands where a replayed event comes from (journal/journal.h, JOURNAL_FLAG_REPLAYED).
 *
 * Idle by stages: spin, short naps (producers pay nothing), then sleep until a producer wakes the bed. The thread
 * neither allocates nor frees, takes no lock, and makes no blocking call but the naps and the sleep.
 */
#ifndef SENDRING_ROUTER_SHARD_H
#define SENDRING_ROUTER_SHARD_H

#include "base/counters.h"
#include "base/err.h"
#include "egress/worker.h"
#include "journal/journal.h"
#include "ring/ring.h"
#include "rules/rules.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A plan and what its target indexes mean to one daemon. Immutable once given to shards. */
struct shard_plan {
        struct rules_plan *plan;
        /* [target index][log] -> number in that log, and [target index] -> worker */
        uint16_t (*numbers)[LIMIT_LOGS_MAX];
        uint8_t *workers;
};

struct shard;

/* The log of an event type that has one of its own: it is shed when the journal is full. */
struct shard_class {
        uint8_t type; /* enum sendring_event_type */
        uint32_t log; /* its index for workers, and in plans */
        struct journal *journal;
        uint16_t target_unmatched, target_rejected;
};

struct shard_options {
        uint32_t index; /* of the shard, and of its log */
        int core;       /* CPU number, -1: not pinned */
        const struct rules_settings *settings;
        struct journal *journal;           /* of all types that have no log of their own */
        const struct shard_class *classes; /* copied */
        uint32_t classes_count;
        struct journal *const *journals; /* all of the router: what lanes held before may be in any of them */
        uint32_t journals_count;
        struct ring_bed *bed;
        struct egress_worker *const *workers;
        uint32_t workers_count;
        struct counters_block *counters;
        uint16_t target_unmatched, target_rejected; /* the journal's own counters for events that go nowhere */
        int control_eventfd; /* written when the control side should look: lanes to close, a segment to prepare */
};

enum err_code shard_create(const struct shard_options *options, const struct shard_plan *plan, struct shard **ret_shard,
                           struct err *reterr);
void shard_free(struct shard *shard);
/* The body of the thread: turns until it is stopped. */
void shard_run(struct shard *shard);
/* One turn: looks at every lane once, without a wait; *ret_events: taken. False: stopped, and everything is drained.
 * For shard_run(), and for who drives a shard by himself (tests/sim). */
bool shard_turn(struct shard *shard, uint32_t *ret_events);
/* Any thread: drain every lane into the journal once more, then end; at the deadline also when the journal has no room,
 * or a producer goes on all the same. Lanes must have been closed to producers before. */
void shard_stop(struct shard *shard, uint64_t deadline_monotonic_ns);

/* ---- control thread */
/* False: the inbox is full, try again. */
bool shard_give_lane(struct shard *shard, struct ring_lane *lane);
/* A lane that the shard is done with (its producer gone and everything taken, too many violations, or a living
 * producer that sends nothing but what is no event); NULL: none. */
struct ring_lane *shard_take_done_lane(struct shard *shard);
/* Swaps the plan. The old one may be freed when shard_plan_seen() returns the new one. */
void shard_set_plan(struct shard *shard, const struct shard_plan *plan);
const struct shard_plan *shard_plan_seen(const struct shard *shard);

#endif
