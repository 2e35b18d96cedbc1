/* A CloudWatch target in a real worker, for tests: one target, whose peer counts what it took; every event has one
 * series, that of its configuration set. Include in one file of a test program, which is linked with
 * --wrap=clock_realtime_ms. */
#ifndef SENDRING_TESTS_SUPPORT_CLOUDWATCH_RIG_H
#define SENDRING_TESTS_SUPPORT_CLOUDWATCH_RIG_H

#include "egress/outbox.h"
#include "tests/support/cloudwatch_peer.h"
#include "tests/support/egress_rig.h"

#include <criterion/criterion.h>
#include <fcntl.h>

/* The real time: the host's, or one that a test has stopped. */
static _Atomic int64_t stopped_ms;
int64_t __real_clock_realtime_ms(void);
int64_t __wrap_clock_realtime_ms(void);
int64_t __wrap_clock_realtime_ms(void)
{
        int64_t at_ms = atomic_load(&stopped_ms);
        return at_ms != 0 ? at_ms : __real_clock_realtime_ms();
}

static struct egress_rig rig;
static struct cloudwatch_peer peer;
static struct rules_cloudwatch rules;
static uint64_t published[CLOUDWATCH_PEER_SETS], published_sum;
static uint32_t target;

static inline void rig_begin(void)
{
        log_level_set(LOG_ERROR);
        egress_rig_defaults(&rig);
        rig.settings.egress.linger_ms = 5;
        rules = (struct rules_cloudwatch){
                .namespace = SLICE("Sendring/SES"),
                .dimensions = {{SLICE("ses:configuration-set"), SLICE("none"), RULES_DIMENSION_MESSAGE_TAG}},
                .dimensions_count = 1,
                .roll_ups = {1},
                .roll_ups_count = 1,
                .series_max = 5000,
                .overflow_value = SLICE("other"),
                .period_s = 1,
                .json = true,
                .resend_ambiguous = true,
        };
        peer.period_s = 1;
        cloudwatch_peer_start(&peer);
        (void)snprintf(rig.settings.egress.cloudwatch.url, sizeof(rig.settings.egress.cloudwatch.url),
                       "http://127.0.0.1:%u", peer.http.port);
}

static inline void rig_open(void)
{
        egress_rig_open(&rig);
        target = egress_rig_add_cloudwatch(&rig, "a", &rules, 0);
        egress_rig_run(&rig);
}

static inline void rig_end(void)
{
        egress_rig_stop(&rig, 1000);
        egress_rig_close(&rig);
        egress_rig_remove(&rig);
        cloudwatch_peer_stop(&peer);
}

/* A period begins just now: what is published next is one period's. */
static inline void wait_for_boundary(void)
{
        int64_t period_ms = (int64_t)rules.period_s * 1000;
        int64_t left_ms = period_ms - clock_realtime_ms() % period_ms;
        clock_sleep_ns(((uint64_t)left_ms + 20) * CLOCK_NS_PER_MS);
}

static inline void publish(uint32_t shard, uint32_t set, uint32_t copies)
{
        const uint32_t routes[] = {target, target, target};
        size_t bytes = egress_rig_encode_to(set, (uint32_t)published_sum, 0, rig.event, sizeof(rig.event));
        egress_rig_append(&rig, shard, rig.event, bytes, routes, copies, clock_realtime_ms());
        egress_rig_offer(&rig, shard, false);
        published[set] += copies;
        published_sum += copies;
}

static inline void publish_sets(uint32_t from, uint32_t to)
{
        for (uint32_t set = from; set < to; set++)
                publish(set % rig.shards_count, set, 1);
}

static uint64_t counter(enum counter which)
{
        return counters_sum(&rig.counters, which);
}

static inline void wait_requests(uint32_t count)
{
        uint64_t deadline_ns = clock_monotonic_ns() + 30 * CLOCK_NS_PER_S;
        while (cloudwatch_peer_requests(&peer) < count) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns, "%u requests, not %u", cloudwatch_peer_requests(&peer),
                             count);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
}

static inline void check_balanced(void)
{
        for (uint32_t shard = 0; shard < rig.shards_count; shard++) {
                uint64_t waiting = 0;
                cr_assert(egress_rig_is_balanced(&rig, shard, target, &waiting), "shard %u", shard);
        }
}

/* Every series has exactly what was published, save `extra` counts in all (negative: missing). */
static inline void check_sums(int64_t extra)
{
        int64_t difference = 0;
        for (uint32_t set = 0; set < CLOUDWATCH_PEER_SETS; set++) {
                int64_t own = (int64_t)(peer.sums[set] - published[set]);
                cr_assert(extra != 0 || own == 0, "set %u: %lld instead of %lld", set, (long long)peer.sums[set],
                          (long long)published[set]);
                cr_assert(extra <= 0 ? own <= 0 : own >= 0, "set %u: %lld instead of %lld", set,
                          (long long)peer.sums[set], (long long)published[set]);
                difference += own;
        }
        cr_assert_eq(difference, extra, "%lld, not %lld", (long long)difference, (long long)extra);
}

/* ---------------------------------------------------------------------------------------------- kills */

/* What a SIGKILL would leave now, as another directory; the rig goes on there as a new process would. */
static inline void kill_and_restart(void)
{
        char from[400], to[400], old[256], copy[256];
        (void)snprintf(old, sizeof(old), "%s", rig.directory);
        journal_files_make(copy);
        for (uint32_t shard = 0; shard < rig.shards_count; shard++) {
                (void)snprintf(from, sizeof(from), "%s/%u", old, shard);
                (void)snprintf(to, sizeof(to), "%s/%u", copy, shard);
                journal_files_copy(from, to);
        }
        (void)snprintf(to, sizeof(to), "%s/cloudwatch", copy);
        journal_files_copy(rig.outboxes, to);
        /* The old process is gone: what it still does reaches nobody. */
        atomic_store(&peer.always, CLOUDWATCH_PEER_SILENT);
        egress_rig_stop(&rig, 0);
        egress_rig_close(&rig);
        journal_files_remove(old);
        atomic_store(&peer.always, CLOUDWATCH_PEER_ACCEPT);
        (void)snprintf(rig.directory, sizeof(rig.directory), "%s", copy);
        rig_open();
}

/* The next request hangs, read whole and not taken: none is on its way to the peer when the process dies, which would
 * be taken for one of the next. */
static inline void kill_with_a_request_on_the_wire(void)
{
        atomic_store(&peer.always, CLOUDWATCH_PEER_SILENT);
        wait_requests(cloudwatch_peer_requests(&peer) + 1);
        clock_sleep_ns(200 * CLOCK_NS_PER_MS); /* that one may have been answered still */
        kill_and_restart();
}

/* Flips a byte of the outbox. */
static inline void damage_outbox(off_t at)
{
        char path[400];
        uint8_t byte;
        cr_assert(outbox_path(rig.outboxes, slice_of_text(rig.targets[target].key), path, sizeof(path)));
        int fd = open(path, O_RDWR);
        cr_assert_eq(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
        (void)close(fd);
}

#endif
