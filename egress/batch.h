/* One batch of a target: events on their way, from the first byte transcoded to the cursor's move. Inside egress/ only.
 *
 * free -> BUILDING -> READY -> SENDING -> SETTLED -> free; SENDING -> READY again when all or some of it must be
 * resent. Batches of a target stand in a queue in journal order; the cursor moves over SETTLED ones at its head.
 *
 * One whose request never ends may be given up: SENDING -> SETTLED -> GIVEN_UP -> free. Its memory is the request's
 * until that ends after all. */
#ifndef SENDRING_EGRESS_BATCH_H
#define SENDRING_EGRESS_BATCH_H

#include "base/limits.h"
#include "egress/firehose.h"
#include "egress/http.h"
#include "journal/journal.h"

#include <stdbool.h>
#include <stdint.h>

enum egress_batch_state {
        EGRESS_BATCH_FREE = 0,
        EGRESS_BATCH_BUILDING,
        EGRESS_BATCH_READY,
        EGRESS_BATCH_SENDING,
        EGRESS_BATCH_SETTLED,
        EGRESS_BATCH_GIVEN_UP, /* in no list */
};

#define EGRESS_BATCH_HEAD_BYTES 8192

/* What a request was sent with goes with it: its answer is about that, and not about what has come since. */
struct egress_sent {
        uint64_t number;      /* by flow_begin() */
        uint64_t credentials; /* number of those that signed it; 0: none did */
        int64_t clock_ms;     /* the clock that signed it, less the monotonic one */
};

struct egress_target;

struct egress_batch {
        struct egress_batch *next; /* in the free list or the queue */
        struct egress_target *target;
        enum egress_batch_state state;
        uint8_t slot;    /* its events are of the logs of this slot */
        uint64_t due_ns; /* when it is finished though it is not full: its linger is over */
        bool full;       /* takes nothing more, and could not be finished yet */
        bool patient;    /* while it is BUILDING, the worker need not wake up for more events */
        uint32_t events; /* on the wire */
        uint32_t attempts;
        struct egress_sent sent; /* its newest request */
        uint64_t sent_ns;        /* when that began */
        bool given_up;           /* that has not ended, and nobody waits for it */
        bool partly_done;        /* some records were accepted: never build it anew */
        uint32_t resending;      /* entries of this attempt that were refused in an earlier one */

        /* What settling it means for the cursors: per shard, where reading stood when it was closed. */
        struct {
                uint64_t begin_position, begin_sequence; /* of the first record */
                uint64_t end_position, end_sequence;
                struct journal_settled settled;
                bool touched;
        } shard[LIMIT_LOGS_MAX];

        /* The body, `len` bytes of it. Firehose: `firehose` describes `bytes`. NULL where the service keeps it. */
        uint8_t *bytes;
        size_t bytes_max;
        size_t len;
        uint64_t paid_records, paid_bytes; /* what the newest request costs of the target's rates */
        struct firehose_body firehose;

        struct http_exchange exchange;
        char head[EGRESS_BATCH_HEAD_BYTES];
};

#endif
