/* What egress/target_cloudwatch.c (counting, closing, sending) and egress/target_cloudwatch_period.c (what else becomes
 * of a period) share. For these two files only; on the worker's thread. */
#ifndef SENDRING_EGRESS_TARGET_CLOUDWATCH_INTERNAL_H
#define SENDRING_EGRESS_TARGET_CLOUDWATCH_INTERNAL_H

#include "base/clock.h"
#include "egress/metrics.h"
#include "egress/outbox.h"
#include "egress/series.h"
#include "egress/worker_internal.h"
#include "io/io.h"

#define CLOUDWATCH_LOG_INTERVAL_NS (300 * CLOCK_NS_PER_S)

/* Events that the table says something of. */
struct cloudwatch_events {
        uint64_t overflowed, several_values, values_refused;
};

struct egress_cloudwatch {
        struct metrics_table *table;
        struct series *series; /* what the table has admitted */
        struct outbox *outbox;
        struct cloudwatch_gzip *gzip; /* NULL: never */
        uint8_t *wire;                /* one body that is sent otherwise than it lies in the outbox */
        size_t wire_bytes_max;
        bool json, resend_ambiguous;
        int64_t period_ms;
        uint64_t log_bytes_max[LIMIT_LOGS_MAX];                /* that the open period may hold */
        uint64_t first_position[LIMIT_LOGS_MAX];               /* of the open period */
        struct cloudwatch_events begun;                        /* the table's totals when the open period began */
        struct cloudwatch_events closed;                       /* of the closed period; counted when it is settled */
        uint64_t overflow_told;                                /* of the table's total, in the log */
        uint32_t found_resent, found_skipped, found_recounted; /* at start; for the worker to count */
        uint64_t found_skipped_counts;
        uint32_t refused_logged[METRICS_REFUSALS_COUNT], several_logged; /* dimensions, by bit */
        bool count_again; /* the open period, with the next tick: some of it is too old by now */
        struct log_gate overflow_gate, sync_gate, restamp_gate;

        /* Durability host: the closed period, before a cursor moves ahead of it. */
        struct egress_target *target;
        struct io_op sync_op;
        bool synced;      /* it is on the disk, as one that cursors move before */
        bool sync_is_old; /* what is being synced is a period of before */
        uint64_t sync_begun_ns, sync_hold_until_ns;
};

/* ---- egress/target_cloudwatch_period.c */

/* Of the open period, so far; another one begins. */
struct cloudwatch_events cloudwatch_take_events(struct egress_cloudwatch *own);
/* When nothing can take them back any more. */
void cloudwatch_count_events(struct egress_target *target, const struct cloudwatch_events *events);

/* After outbox_open(): the period that it found becomes the target's first batch, or is counted again. */
void cloudwatch_recover(struct egress_target *target, const struct outbox_found *found);
/* True when every chunk is done with: the batch then has what the cursors' moves settle. False: there are more. */
bool cloudwatch_period_done(const struct egress_target *target, struct egress_batch *batch);
/* The batch and those behind it are thrown away, and counted again. */
void cloudwatch_take_back(struct egress_target *target, struct egress_batch *first);
/* Before each chunk: passes over what CloudWatch would refuse for its age, or has the period counted again. False: the
 * batch is gone, and nothing is to be sent. */
bool cloudwatch_expire(struct egress_target *target, struct egress_batch *batch);

/* Of struct egress_service. */
void target_cloudwatch_settled(struct egress_target *target, struct egress_batch *batch);
bool target_cloudwatch_shed(struct egress_target *target, uint32_t shard, uint64_t before);

#endif
