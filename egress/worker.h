/* Egress workers: each one thread, one io_uring loop, and the delivery targets it owns.
 *
 * A target is what is shared on the wire: one Firehose stream, one file. Per target: batches (events transcoded from
 * the journal straight into the request body), in-flight requests, AIMD concurrency, back-off, and the cursor in the
 * journal. A shard tells each worker by ranges of its log where records for that worker's targets lie (rte_ring, single
 * producer, single consumer); the worker reads the log itself. A target that cannot keep up simply stops taking from
 * the live ranges and later reads back from the log at its own place: there is no queue besides the journal.
 *
 * Order: a target sends its events in journal order; several requests may be in flight. The cursor moves when every
 * older event is settled (delivered, dead-lettered, expired), so a crash repeats at most what was in flight. A refused
 * entry is resent alone; a failed request is tried again with jitter for as long as the journal holds the events.
 *
 * Bulkheads: every target has its own batches, connections and back-off, made on the control thread when the target is.
 * The worker thread neither allocates nor frees.
 */
#ifndef SENDRING_EGRESS_WORKER_H
#define SENDRING_EGRESS_WORKER_H

#include "base/clock.h"
#include "base/counters.h"
#include "base/err.h"
#include "egress/credentials.h"
#include "egress/http.h"
#include "journal/journal.h"
#include "rules/rules.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The credentials of now: a generation that a thread of the router replaces, at most once a second. The one before
 * stays alive until the next change: a worker may keep the pointer for the length of a call, and the number for ever.
 */
struct egress_credentials {
        _Atomic(const struct credentials *) current; /* NULL: none could be loaded; with a `number` of their own */
        _Atomic bool refresh_wanted;                 /* a service refused them, expired or unknown: load again now */
        _Atomic uint64_t loads;                      /* that have ended, whether or not they brought others */
};

struct egress_worker;
struct egress_target;

/* What a log is, beside its index of now. */
struct egress_log {
        uint32_t id;  /* the same in every process */
        uint8_t type; /* enum sendring_event_type, when it holds that alone and is shed; 0: it blocks */
};

struct egress_worker_options {
        uint32_t index;
        uint32_t shards_count; /* logs: one for each shard, at its index; more where event types are shed, and those of
                                * earlier settings, from which nothing is offered */
        struct journal *const *journals;        /* [shards_count], outlive the worker */
        const struct egress_log *logs;          /* [shards_count], outlive the worker; NULL: all block */
        struct counters_block *counters;        /* this worker's own */
        const struct rules_settings *settings;  /* outlives the worker */
        struct egress_credentials *credentials; /* outlives the worker */
        struct http_tls *tls;                   /* outlives the worker */
        const char *dead_letter_directory;      /* made when the first event goes there */
        const char *outbox_directory;           /* of CloudWatch targets; made when the first one is */
};

/* Control thread, before the worker's thread and the shards start: the live feed begins at each journal's committed
 * position. */
enum err_code egress_worker_create(const struct egress_worker_options *options, struct egress_worker **ret_worker,
                                   struct err *reterr);
/* Bytes that one worker may hold besides its targets, for the memory budget. */
uint64_t egress_worker_budget_bytes(uint32_t shards_count);
/* After its thread has ended. Frees its targets too. Of a worker that hangs it only lets go of the journals: the kernel
 * may still read and write what it was given. */
void egress_worker_free(struct egress_worker *worker);
/* How long behind the deadline of a stop the worker waits for disks to answer. */
#define EGRESS_STOP_NS (5 * CLOCK_NS_PER_S)
/* The body of the worker's thread: returns once egress_worker_stop() was carried out. False: it hangs: what a target
 * has asked of its file system did not end within EGRESS_STOP_NS behind the deadline, and the log says which target's.
 * What waits is in the journal, before whose cursor everything is settled. The thread must not end then, but wait for
 * the end of the process: the kernel lets no thread go before what it has asked for has ended. */
bool egress_worker_run(struct egress_worker *worker);
/* Whether egress_worker_run() has returned false: its thread is not to be joined. Any thread. */
bool egress_worker_hangs(const struct egress_worker *worker);
/* One turn: looks at the feeds and the targets, then sleeps in the loop until something comes. False: stopped. For
 * egress_worker_run(), and for who drives a worker by himself (tests/sim). */
bool egress_worker_turn(struct egress_worker *worker);
/* Drains: from now on nothing lingers. The thread ends when everything offered is settled, or at the deadline; what is
 * left stays in the journal. Call after the shards' last offer. Any thread. */
void egress_worker_stop(struct egress_worker *worker, uint64_t deadline_monotonic_ns);

/* A journal has announced that it gives up its oldest events (journal_shed_oldest()). Any thread. */
void egress_worker_shed(struct egress_worker *worker);
/* Somebody has acted: parked targets are probed within half a second. Any thread. */
void egress_worker_probe(struct egress_worker *worker);

/* One shard's thread: records for this worker lie in [begin, end) of its log; `end_sequence` is the sequence behind
 * `end`, and nothing between the last range and `begin` concerns this worker. begin == end only says that. False: the
 * ring is full, nothing was taken: offer a longer range later. Wakes the worker when it waits for as much. `since_ns`
 * (monotonic): the first of the records can have been published then, and not before; its linger begins there. */
bool egress_worker_offer(struct egress_worker *worker, uint32_t shard, uint64_t begin, uint64_t end,
                         uint64_t end_sequence, uint64_t since_ns);

/* ---- targets: control thread */

/* Bytes that the target may hold, for the memory budget: batches, connection buffers. */
uint64_t egress_target_budget_bytes(const struct rules_settings *settings, const struct rules_target *spec);
/* Makes a target: buffers, connections' pool, file. `numbers[shard]` is its number in that shard's journal; `row` its
 * row on the counters page. Then hand it to its worker, which owns it from then on. */
enum err_code egress_target_create(const struct rules_target *spec, const uint16_t *numbers,
                                   struct egress_worker *worker, uint32_t targets_count,
                                   struct counters_target_row *row, struct egress_target **ret_target,
                                   struct err *reterr);
/* What it may send a second; takes effect within half a second. */
void egress_target_set_rates(struct egress_target *target, const struct rules_rates *rates);
/* False: the worker's inbox is full, try again. */
bool egress_worker_add_target(struct egress_worker *worker, struct egress_target *target);
/* No plan names it any more: it delivers what waits up to now, then retires. False as above. */
bool egress_worker_remove_target(struct egress_worker *worker, struct egress_target *target);
/* Takes a removal back: a plan names it again. False: too late, it is about to be gone. Events routed to it from now on
 * are its own. */
bool egress_target_keep(struct egress_target *target);
/* Too late for that: it ends as soon as nothing of it is on its way any more, on a disk that hangs perhaps never. */
bool egress_target_is_ending(const struct egress_target *target);
/* A removed target has settled what it can and its worker let go of it: retire its cursors and free it. */
bool egress_target_is_gone(const struct egress_target *target);
void egress_target_free(struct egress_target *target);

#endif
