/* What the unit tests of a worker begin with: one rig, a Firehose peer where it is asked for, and what is asked of
 * both. */
#ifndef SENDRING_TESTS_SUPPORT_WORKER_RIG_H
#define SENDRING_TESTS_SUPPORT_WORKER_RIG_H

#include "tests/support/egress_rig.h"
#include "tests/support/firehose_peer.h"

#include <criterion/criterion.h>

static struct egress_rig rig;
static struct firehose_peer peer;

static inline void rig_begin(void)
{
        log_level_set(LOG_ERROR);
        egress_rig_defaults(&rig);
}

static inline void peer_begin(void)
{
        firehose_peer_start(&peer);
        (void)snprintf(rig.settings.egress.firehose.url, sizeof(rig.settings.egress.firehose.url),
                       "http://127.0.0.1:%u", peer.http.port);
}

/* A worker that runs, with a packed stream "mail". */
static inline uint32_t rig_open_stream(void)
{
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_firehose(&rig, "mail", true, 0);
        egress_rig_run(&rig);
        return target;
}

static inline void rig_end(void)
{
        egress_rig_stop(&rig, 1000);
        egress_rig_close(&rig);
        egress_rig_remove(&rig);
        if (peer.http.port != 0)
                firehose_peer_stop(&peer);
}

static inline uint64_t counter(enum counter which)
{
        return counters_sum(&rig.counters, which);
}

static inline void publish_many(uint32_t shard, uint32_t from, uint32_t to, uint32_t padding, uint32_t target)
{
        for (uint32_t id = from; id < to; id++)
                egress_rig_publish(&rig, shard, id, padding, target);
        /* The last range may have found the ring full. A shard offers it again with its next look; here nobody would.
         */
        for (uint32_t tries = 0; rig.running && rig.begin[shard][rig.targets[target].worker] != UINT64_MAX; tries++) {
                cr_assert_lt(tries, 20000);
                clock_sleep_ns(CLOCK_NS_PER_MS);
                egress_rig_offer(&rig, shard, false);
        }
}

static inline void check_balanced(uint32_t shard, uint32_t target, uint64_t waiting)
{
        uint64_t seen = 0;
        cr_assert(egress_rig_is_balanced(&rig, shard, target, &seen));
        cr_assert_eq(seen, waiting, "%llu wait, not %llu", (unsigned long long)seen, (unsigned long long)waiting);
}

/* ids[] is 0, 1, 2 ... count-1. */
static inline void check_sequence(const uint32_t *ids, uint32_t seen, uint32_t count)
{
        cr_assert_eq(seen, count, "%u events, not %u", seen, count);
        for (uint32_t i = 0; i < seen; i++)
                cr_assert_eq(ids[i], i, "event %u came at place %u", ids[i], i);
}

/* Each id once, in any order. */
static inline void check_set(const uint32_t *ids, uint32_t seen, uint32_t count)
{
        uint8_t *times = calloc(count, 1);
        cr_assert_eq(seen, count, "%u events, not %u", seen, count);
        for (uint32_t i = 0; i < seen; i++) {
                cr_assert_lt(ids[i], count);
                cr_assert_eq(times[ids[i]]++, 0, "event %u came twice", ids[i]);
        }
        free(times);
}

static inline bool wait_until(bool (*condition)(void *context), void *context, uint32_t timeout_ms)
{
        uint64_t deadline_ns = clock_monotonic_ns() + timeout_ms * CLOCK_NS_PER_MS;
        while (!condition(context)) {
                if (clock_monotonic_ns() > deadline_ns)
                        return false;
                clock_sleep_ns(CLOCK_NS_PER_MS / 2);
        }
        return true;
}

static inline bool status_is(void *context)
{
        return atomic_load(&rig.targets[0].row->status) == *(const uint32_t *)context;
}

#endif
