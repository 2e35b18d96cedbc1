/* What egress/worker.c (the thread and its feeds), egress/target.c and target_batches.c (batches, order, cursors)
 * and the services' files share. Inside egress/ only. */
#ifndef SENDRING_EGRESS_WORKER_INTERNAL_H
#define SENDRING_EGRESS_WORKER_INTERNAL_H

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "codecs/codec.h"
#include "codecs/redact.h"
#include "egress/batch.h"
#include "egress/dead_letter.h"
#include "egress/file.h"
#include "egress/flow.h"
#include "egress/sigv4.h"
#include "egress/worker.h"

#include <rte_ring.h>

/* What a shard tells a worker. The size must be a multiple of 4 (rte_ring). */
struct egress_range {
        uint64_t begin, end, end_sequence;
        uint64_t since_ns; /* see egress_worker_offer() */
};
#define EGRESS_FEED_RANGES  4096u /* a power of two; one range a lane visit, merged when the ring is full */
#define EGRESS_INBOX_ORDERS 8192u /* every target added and removed before the worker looks */
/* What goes wrong again and again is told so often of each target. */
#define EGRESS_LOG_INTERVAL_NS (30 * CLOCK_NS_PER_S)

enum egress_order_kind { EGRESS_ORDER_ADD = 1, EGRESS_ORDER_REMOVE = 2 };
struct egress_order {
        uint64_t kind;
        struct egress_target *target;
        uint64_t removal; /* which one: what `life` is then */
};

/* A dead letter of an event that stands at a place, until it counts. */
enum egress_letter {
        EGRESS_LETTER_NONE = 0,
        EGRESS_LETTER_WAITS,   /* another one is being written */
        EGRESS_LETTER_WRITING, /* nothing is taken of this log before it has ended */
        EGRESS_LETTER_WRITTEN, /* it counts when the event is taken, or passed over */
        EGRESS_LETTER_FAILED,  /* it could not be written, and is tried again */
};

/* A place in one shard's log. */
struct egress_place {
        uint64_t position, sequence; /* of the next record to look at */
        bool lagging;                /* reads the log by itself; else fed from the live ranges */
        uint8_t copies_done;         /* of the record at `position`: a destination listed twice, cut by a full batch */
        enum egress_letter letter;
        bool letter_held;    /* it has failed, and is not written since */
        uint8_t letter_copy; /* of which copy */
        uint64_t letter_position;
        uint64_t letter_ns;                    /* when its writing began */
        struct journal_settled copies_settled; /* of those: they count when the last one is taken */
        bool shedding;                         /* the log is being given up: nothing is taken from it */
        struct journal_settled shed_settled;   /* of records passed over for that; counted with the cursor's move */
        uint64_t shed_ns;                      /* when something of it was shed last; 0: never */
};

/* Batches are built for the log of each shed event type apart from those of all others, so that one can be given up
 * without the others: 0 for the others, 1.. for types. */
#define EGRESS_SLOTS_MAX RULES_EVENT_TYPES_END

/* The life of a target. The control thread writes REMOVED (KEPT before) and KEPT (compare-exchange of REMOVED); the
 * worker ENDING (compare-exchange of REMOVED). So either a removal is taken back, or the target ends. REMOVED is all
 * from there on, another number each time: what the worker knows of one removal is not true of the next, which may come
 * before it has seen that the first was taken back. */
enum egress_target_life { EGRESS_TARGET_KEPT = 0, EGRESS_TARGET_ENDING = 1, EGRESS_TARGET_REMOVED = 2 };

struct egress_service; /* egress/service.h */
struct egress_event;

struct egress_target {
        struct egress_worker *worker;
        const struct egress_service *service;
        struct arena arena; /* owns the texts of spec */
        struct rules_target spec;
        const char *log_key; /* spec.key in quotes, escaped */
        uint16_t numbers[LIMIT_LOGS_MAX];
        struct counters_target_row *row;
        bool active; /* in worker->active */
        struct egress_place place[LIMIT_LOGS_MAX];

        struct egress_batch *batches; /* batches_count of them */
        uint32_t batches_count;
        struct egress_batch *free_batches;
        struct egress_batch *queue_first, **queue_last;  /* unsettled, in journal order */
        struct egress_batch *building[EGRESS_SLOTS_MAX]; /* the last of its slot while it is BUILDING, else NULL */

        /* Sending. */
        uint32_t in_flight;
        bool hangs;                         /* one of those has been for too long, and will not end by itself */
        struct flow flow;                   /* when what may go */
        struct egress_sent ended;           /* the request that has ended; number FLOW_NEVER_SENT: none has */
        uint64_t failed_credentials;        /* number of those of the last request that failed */
        bool wants_credentials;             /* it failed since they have expired, or are unknown: others help */
        uint64_t unknown_credentials;       /* number of those refused as unknown to the service; 0: none */
        uint64_t unknown_loads;             /* loads that had ended then */
        uint64_t asked_anew;                /* the newest request when somebody acted: who refused it may not now */
        bool refused;                       /* since it was removed the service itself has refused it for good */
        uint64_t dead_letter_hold_until_ns; /* a dead letter could not be written: nothing is taken before */
        uint32_t held;                      /* places with `letter_held` */
        int64_t clock_offset_ms;            /* the service's clock minus ours */
        struct log_gate failure_gate, clock_gate;
        struct log_gate dead_letter_gate, held_gate, shed_gate;
        uint64_t shed_untold[EGRESS_SLOTS_MAX]; /* events shed since the last line of the log */
        struct codec_json_options json;         /* what producers left out */
        struct codec_redaction redaction;       /* of `json`, where the destination has a policy */

        /* AWS services (target_http.c) */
        struct http_client *client;
        struct http_url url;
        char host_header[280];
        /* each its own */
        struct firehose_limits firehose;
        struct gzip_writer *gzip[EGRESS_SLOTS_MAX]; /* Firehose: of the batch that is building; NULL: not compressed */
        struct file_sink *file;
        uint64_t rotation_failures; /* of the file, counted so far */
        struct log_gate rotation_gate;
        struct egress_cloudwatch *cloudwatch; /* target_cloudwatch.c */

        _Atomic uint64_t life;              /* enum egress_target_life */
        uint64_t removals;                  /* of the control thread: so many were ordered */
        bool remove_at_known;               /* the worker has the order of */
        uint64_t removal;                   /* this one */
        uint64_t remove_at[LIMIT_LOGS_MAX]; /* settle up to here, then retire */
        bool stopping;
        _Atomic bool gone;
};

struct egress_shard_feed {
        struct journal *journal;
        struct journal_reader *live_reader, *lag_reader;
        struct rte_ring *ranges;
        struct egress_range range;             /* being walked: begin is the next record */
        uint64_t live_position, live_sequence; /* everything before was looked at */
        uint64_t shed_before, shed_done;       /* announced by the journal, when it was seen; carried out */
        uint64_t shed_seen_ns;
        _Atomic uint64_t wake_at; /* the shard wakes us when it offers up to here; UINT64_MAX: awake */
        struct egress_target *targets[LIMIT_TARGETS_MAX]; /* by number in this shard's journal */
};

struct egress_worker {
        struct egress_worker_options options;
        struct io_loop *loop;
        struct random_state random;
        struct sigv4_signer *signer;
        uint8_t *json; /* scratch: one event as JSON */
        size_t json_bytes_max;
        struct rte_ring *inbox;
        struct egress_shard_feed *feeds;      /* [shards_count] */
        uint8_t slots[LIMIT_LOGS_MAX];        /* of each log */
        uint8_t slot_types[EGRESS_SLOTS_MAX]; /* event type of each slot */
        uint32_t slots_count;
        struct egress_target *active[LIMIT_TARGETS_MAX]; /* with something to send, to settle or to read back */
        uint32_t active_count;
        struct egress_target *all[LIMIT_TARGETS_MAX];
        uint32_t all_count;
        uint64_t now_ns;
        int64_t turn_ms; /* CLOCK_REALTIME when this turn began: what an event's age is reckoned by */
        uint64_t tick_ns;
        uint64_t live_records;             /* looked at in this turn */
        _Atomic uint64_t stop_deadline_ns; /* 0: run */
        bool draining;
        _Atomic bool hangs; /* this thread does nothing any more, and the kernel may not have done with it */
        bool probing;       /* in this tick parked targets are probed */
        _Atomic bool probe_wanted;
        struct log_gate read_gate;
        struct file_sink_openings file_openings; /* the control thread's */
        struct dead_letters *dead_letters;
        struct egress_target *letter_target; /* whose letter is being written, and at which place; NULL: nobody's */
        uint32_t letter_shard;
        bool letter_given_up; /* nobody waits for it any more */
};

/* ---- target.c, on the worker's thread */

/* Takes one event for the target, `copies` times (a destination may be listed twice). True: taken, and the place is
 * behind it. False: no room now; the target lags from this record. */
bool egress_target_take(struct egress_target *target, uint32_t shard, const struct egress_event *event,
                        uint32_t copies);
/* Says that records up to here were looked at and nothing else of them is this target's. */
void egress_target_passed(struct egress_target *target, uint32_t shard, uint64_t position, uint64_t sequence);
/* Room for at least one more event of this log without waiting? */
bool egress_target_has_room(const struct egress_target *target, uint32_t shard);
/* Finishes lingering batches, sends what may be sent, moves cursors. Returns when it wants to be called again
 * (monotonic ns, UINT64_MAX: on the next event). */
uint64_t egress_target_turn(struct egress_target *target);
/* Nothing building, queued or lagging. */
bool egress_target_is_idle(const struct egress_target *target);
/* Moves idle cursors over what was looked at; retires removed targets that are through. */
void egress_target_tick(struct egress_target *target);
/* Tells what egress_target_batch_hangs() says. With each tick. */
void egress_target_tell_hanging(struct egress_target *target);
/* Closes connections and the file; true when nothing is submitted any more. */
bool egress_target_stop(struct egress_target *target);
void egress_target_activate(struct egress_target *target);
/* The dead letter that is WRITING at this place is not waited for any more: whatever comes of it, its event is settled
 * without it, or has another one written. */
void egress_target_give_up_letter(struct egress_target *target, uint32_t shard);

/* ---- target_batches.c, on the worker's thread */

/* Moves the cursors over settled batches: those before which none is unsettled that has events of the same log. */
void egress_target_settle(struct egress_target *target);
/* The number of the credentials in force; 0: there are none. Addresses would come again. */
uint64_t egress_target_credentials_now(const struct egress_target *target);
/* Takes a batch out of the queue, wherever it stands, and frees it. */
void egress_target_unqueue(struct egress_target *target, struct egress_batch *batch);

/* ---- shed.c: logs that are given up, on the worker's thread */

/* Carries out what the journals have announced. When it wants to go on (monotonic ns; UINT64_MAX: nothing to do). */
uint64_t egress_worker_shed_turn(struct egress_worker *worker);
/* A target was added: its cursors may stand before what the others have carried out. */
void egress_worker_shed_anew(struct egress_worker *worker);
/* Says in the log what was counted since the last time, not more often than is of use. */
void egress_target_tell_shed(struct egress_target *target);

#endif
