/* CloudWatch targets in a real worker: periods, chunks, answers that never come, kills, and books that balance. The
 * peer counts what it took; every event has one series, that of its configuration set. */
#include "egress/cloudwatch.h"
#include "egress/outbox.h"
#include "egress/series.h"
#include "io/io.h"

#include "tests/support/cloudwatch_peer.h"
#include "tests/support/egress_rig.h"

#include <criterion/criterion.h>

/* The real time: the host's, or one that a test has stopped. */
static _Atomic int64_t stopped_ms;
int64_t __real_clock_realtime_ms(void);
int64_t __wrap_clock_realtime_ms(void);
int64_t __wrap_clock_realtime_ms(void)
{
        int64_t at_ms = atomic_load(&stopped_ms);
        return at_ms != 0 ? at_ms : __real_clock_realtime_ms();
}

/* Of outboxes, since nothing else here is synced through a loop. */
static _Atomic uint32_t syncs;
static _Atomic bool syncs_fail;
void __real_io_fdatasync(struct io_loop *loop, struct io_op *op, int fd);
void __wrap_io_fdatasync(struct io_loop *loop, struct io_op *op, int fd);
void __wrap_io_fdatasync(struct io_loop *loop, struct io_op *op, int fd)
{
        atomic_fetch_add(&syncs, 1);
        __real_io_fdatasync(loop, op, atomic_load(&syncs_fail) ? -1 : fd);
}

static struct egress_rig rig;
static struct cloudwatch_peer peer;
static struct rules_cloudwatch rules;
static uint64_t published[CLOUDWATCH_PEER_SETS], published_sum;
static uint32_t target;

static void rig_begin(void)
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

static void rig_open(void)
{
        egress_rig_open(&rig);
        target = egress_rig_add_cloudwatch(&rig, "a", &rules, 0);
        egress_rig_run(&rig);
}

static void rig_end(void)
{
        egress_rig_stop(&rig, 1000);
        egress_rig_close(&rig);
        egress_rig_remove(&rig);
        cloudwatch_peer_stop(&peer);
}

/* A period begins just now: what is published next is one period's. */
static void wait_for_boundary(void)
{
        int64_t period_ms = (int64_t)rules.period_s * 1000;
        int64_t left_ms = period_ms - clock_realtime_ms() % period_ms;
        clock_sleep_ns(((uint64_t)left_ms + 20) * CLOCK_NS_PER_MS);
}

static void publish(uint32_t shard, uint32_t set, uint32_t copies)
{
        const uint32_t routes[] = {target, target, target};
        size_t bytes = egress_rig_encode_to(set, (uint32_t)published_sum, 0, rig.event, sizeof(rig.event));
        egress_rig_append(&rig, shard, rig.event, bytes, routes, copies, clock_realtime_ms());
        egress_rig_offer(&rig, shard, false);
        published[set] += copies;
        published_sum += copies;
}

static void publish_sets(uint32_t from, uint32_t to)
{
        for (uint32_t set = from; set < to; set++)
                publish(set % rig.shards_count, set, 1);
}

static uint64_t counter(enum counter which)
{
        return counters_sum(&rig.counters, which);
}

static void wait_requests(uint32_t count)
{
        uint64_t deadline_ns = clock_monotonic_ns() + 30 * CLOCK_NS_PER_S;
        while (cloudwatch_peer_requests(&peer) < count) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns, "%u requests, not %u", cloudwatch_peer_requests(&peer),
                             count);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
}

static void check_balanced(void)
{
        for (uint32_t shard = 0; shard < rig.shards_count; shard++) {
                uint64_t waiting = 0;
                cr_assert(egress_rig_is_balanced(&rig, shard, target, &waiting), "shard %u", shard);
        }
}

/* Every series has exactly what was published, save `extra` counts in all (negative: missing). */
static void check_sums(int64_t extra)
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

/* With the series file, which comes and goes with it. */
static bool outbox_file_is_there(void)
{
        char path[400], series[400];
        struct slice key = slice_of_text(rig.targets[target].key);
        cr_assert(outbox_path(rig.outboxes, key, path, sizeof(path)));
        cr_assert(series_path(rig.outboxes, key, series, sizeof(series)));
        cr_assert_eq(access(path, F_OK), access(series, F_OK));
        return access(path, F_OK) == 0;
}

/* ---------------------------------------------------------------------------------------------- periods and chunks */

Test(target_cloudwatch, a_period_goes_out_when_the_clock_says, .timeout = 90)
{
        rig_begin();
        rig.shards_count = 2;
        rig_open();
        wait_for_boundary();
        int64_t begun_ms = clock_realtime_ms();
        for (uint32_t i = 0; i < 1000; i++)
                publish(i % 2, i % 10, 1);
        int64_t done_ms = clock_realtime_ms();
        cr_assert(egress_rig_wait_delivered(&rig, target, 1000, 20000));
        check_sums(0);
        check_balanced();
        cr_assert_eq(peer.data[0], done_ms / 1000 == begun_ms / 1000 ? 10 : peer.data[0]);
        cr_assert_geq(peer.arrived_ms[0], (begun_ms / 1000 + 1) * 1000); /* not before the period's end */
        cr_assert_leq(peer.requests, 3);
        cr_assert_eq(counter(COUNTER_cloudwatch_ambiguous_resent), 0);
        cr_assert_geq(counter(COUNTER_cloudwatch_periods), 1);
        cr_assert_eq(counter(COUNTER_cloudwatch_data), peer.data[0] + peer.data[1] + peer.data[2]);
        cr_assert_gt(atomic_load(&rig.targets[target].row->last_period_ms), begun_ms);
        cr_assert_eq(atomic_load(&rig.targets[target].row->series_max), 5000);
        rig_end();
}

Test(target_cloudwatch, copies_of_an_event_are_counted_in_one_step, .timeout = 90)
{
        rig_begin();
        rig_open();
        for (uint32_t i = 0; i < 300; i++)
                publish(0, i % 7, 1 + i % 3);
        cr_assert(egress_rig_wait_delivered(&rig, target, published_sum, 20000));
        check_sums(0);
        check_balanced();
        rig_end();
}

Test(target_cloudwatch, draining_does_not_wait_for_the_period, .timeout = 90)
{
        rig_begin();
        rules.period_s = 3600;
        peer.period_s = 3600;
        rig_open();
        publish_sets(0, 20);
        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        cr_assert_eq(cloudwatch_peer_requests(&peer), 0);
        egress_rig_stop(&rig, 5000);
        check_sums(0);
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, 20);
        rig_end();
}

Test(target_cloudwatch, a_chunk_that_failed_goes_again_alone, .timeout = 90)
{
        rig_begin();
        rules.period_s = 10; /* the whole of it is published in one */
        peer.period_s = 10;
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_ACCEPT);
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_500);
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_THROTTLED);
        rig_open();
        wait_for_boundary();
        publish_sets(0, 2500);
        egress_rig_stop(&rig, 20000);
        check_sums(0);
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, 2500);
        cr_assert_eq(peer.requests, 5);
        cr_assert_eq(peer.taken, 3);
        cr_assert_eq(peer.data[0], 1000);
        cr_assert_str_eq(peer.first[1], peer.first[2]);
        cr_assert_str_eq(peer.first[1], peer.first[3]);
        cr_assert_str_neq(peer.first[0], peer.first[1]);
        cr_assert_eq(peer.data[4], 500);
        cr_assert_eq(counter(COUNTER_cloudwatch_ambiguous_resent), 0); /* these are answers */
        rig_end();
}

Test(target_cloudwatch, refused_for_good_parks_and_loses_nothing, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_max_ms = 50;
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_400);
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_400);
        log_level_set(LOG_ERROR + 0);
        rig_open();
        publish_sets(0, 10);
        wait_requests(1);
        publish_sets(0, 10);
        cr_assert(egress_rig_wait_delivered(&rig, target, 20, 20000));
        check_sums(0);
        check_balanced();
        rig_end();
}

/* ---------------------------------------------------------------------------------------------- ambiguity */

Test(target_cloudwatch, without_an_answer_resend_may_double, .timeout = 90)
{
        rig_begin();
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_ACCEPT_RESET);
        rig_open();
        publish_sets(0, 10);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 20000));
        cr_assert_eq(counter(COUNTER_cloudwatch_ambiguous_resent), 1);
        cr_assert_eq(atomic_load(&rig.targets[target].row->ambiguous_resent), 1);
        check_sums((int64_t)peer.data[0]); /* the series of the request that was taken twice */
        check_balanced();
        rig_end();
}

Test(target_cloudwatch, without_an_answer_resend_never_loses, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.request_timeout_ms = 200;
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_RESET);
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_SILENT);
        rig_open();
        publish_sets(0, 10);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 20000));
        cr_assert_eq(counter(COUNTER_cloudwatch_ambiguous_resent), 2);
        check_sums(0);
        rig_end();
}

Test(target_cloudwatch, without_an_answer_skip_may_lose_that_request_only, .timeout = 90)
{
        rig_begin();
        rules.resend_ambiguous = false;
        rules.period_s = 10;
        peer.period_s = 10;
        rig.settings.egress.request_timeout_ms = 200;
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_ACCEPT);
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_SILENT);
        rig_open();
        wait_for_boundary();
        publish_sets(0, 2500);
        egress_rig_stop(&rig, 20000);
        cr_assert_eq(peer.requests, 3);
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, 2500);
        cr_assert_eq(counter(COUNTER_cloudwatch_ambiguous_skipped), 1);
        cr_assert_eq(atomic_load(&rig.targets[target].row->ambiguous_skipped), 1);
        cr_assert_eq(counter(COUNTER_cloudwatch_skipped_counts), 1000);
        cr_assert_eq(atomic_load(&rig.targets[target].row->skipped_counts), 1000);
        check_sums(-1000);
        rig_end();
}

Test(target_cloudwatch, a_skipped_last_request_settles_the_period, .timeout = 90)
{
        rig_begin();
        rules.resend_ambiguous = false;
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_RESET);
        rig_open();
        publish_sets(0, 5);
        clock_sleep_ns(1200 * CLOCK_NS_PER_MS);
        publish_sets(0, 5);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 20000));
        cr_assert_eq(counter(COUNTER_cloudwatch_ambiguous_skipped), 1);
        check_sums(-(int64_t)peer.data[0]);
        check_balanced();
        rig_end();
}

/* Nine events of one period, whose first answer comes from something before the service; then it works. */
static void answer_of_a_front_end(enum cloudwatch_peer_step step, bool resend, uint32_t requests, int64_t extra)
{
        rig_begin();
        rules.resend_ambiguous = resend;
        rules.period_s = 3600;
        peer.period_s = 3600;
        rig.settings.egress.retry_max_ms = 50;
        cloudwatch_peer_script(&peer, step);
        rig_open();
        publish_sets(0, 9);
        egress_rig_stop(&rig, 10000);
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, 9);
        cr_assert_eq(peer.requests, requests);
        bool ambiguous = step != CLOUDWATCH_PEER_500 && step != CLOUDWATCH_PEER_THROTTLED;
        uint64_t skipped = ambiguous && !resend ? 1 : 0;
        cr_assert_eq(counter(COUNTER_cloudwatch_ambiguous_resent), ambiguous && resend ? 1 : 0);
        cr_assert_eq(counter(COUNTER_cloudwatch_ambiguous_skipped), skipped);
        cr_assert_eq(counter(COUNTER_cloudwatch_skipped_counts), 9 * skipped);
        cr_assert_eq(counter(COUNTER_egress_requests_uncertain), ambiguous ? 1 : 0);
        cr_assert_eq(counter(COUNTER_egress_requests_failed), 1);
        check_sums(extra);
        check_balanced();
        rig_end();
}

Test(target_cloudwatch, a_502_after_all_was_taken_is_ambiguous, .timeout = 90)
{
        answer_of_a_front_end(CLOUDWATCH_PEER_ACCEPT_502, true, 2, 9);
}

Test(target_cloudwatch, a_502_after_all_was_taken_is_passed_over_with_skip, .timeout = 90)
{
        answer_of_a_front_end(CLOUDWATCH_PEER_ACCEPT_502, false, 1, 0);
}

Test(target_cloudwatch, a_504_is_ambiguous, .timeout = 90)
{
        answer_of_a_front_end(CLOUDWATCH_PEER_504, false, 1, -9);
}

Test(target_cloudwatch, a_success_that_is_a_page_is_ambiguous, .timeout = 90)
{
        answer_of_a_front_end(CLOUDWATCH_PEER_ACCEPT_PAGE, false, 1, 0);
}

Test(target_cloudwatch, a_503_without_an_aws_error_is_ambiguous, .timeout = 90)
{
        answer_of_a_front_end(CLOUDWATCH_PEER_503_PAGE, true, 2, 0);
}

Test(target_cloudwatch, errors_with_a_name_are_sent_again_with_skip_too, .timeout = 90)
{
        answer_of_a_front_end(CLOUDWATCH_PEER_500, false, 2, 0);
}

Test(target_cloudwatch, throttling_is_sent_again_with_skip_too, .timeout = 90)
{
        answer_of_a_front_end(CLOUDWATCH_PEER_THROTTLED, false, 2, 0);
}

/* ---------------------------------------------------------------------------------------------- kills */

/* What a SIGKILL would leave now, as another directory; the rig goes on there as a new process would. */
static void kill_and_restart(void)
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
static void kill_with_a_request_on_the_wire(void)
{
        atomic_store(&peer.always, CLOUDWATCH_PEER_SILENT);
        wait_requests(cloudwatch_peer_requests(&peer) + 1);
        clock_sleep_ns(200 * CLOCK_NS_PER_MS); /* that one may have been answered still */
        kill_and_restart();
}

/* Three chunks: the first is acknowledged, the second on the wire, when the process dies. */
static void kill_in_the_second_chunk(bool resend)
{
        rig_begin();
        rules.resend_ambiguous = resend;
        rules.period_s = 3;
        peer.period_s = 3;
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_ACCEPT);
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_SILENT);
        rig_open();
        wait_for_boundary();
        publish_sets(0, 2500);
        wait_requests(2);
        publish_sets(0, 50); /* these wait in the journal, and in the open period */
        clock_sleep_ns(50 * CLOCK_NS_PER_MS);
        kill_and_restart();
}

Test(target_cloudwatch, after_a_kill_only_the_other_chunks_are_sent, .timeout = 90)
{
        kill_in_the_second_chunk(true);
        check_balanced();
        cr_assert(egress_rig_wait_delivered(&rig, target, 2550, 20000));
        check_sums(0);
        check_balanced();
        cr_assert_eq(peer.data[0], 1000);
        cr_assert_str_eq(peer.first[2], peer.first[1]); /* goes on with the one that had no answer */
        cr_assert_eq(counter(COUNTER_cloudwatch_ambiguous_resent), 1);
        cr_assert_eq(counter(COUNTER_cloudwatch_recounted), 0);
        rig_end();
}

Test(target_cloudwatch, after_a_kill_skip_passes_over_what_was_on_the_wire, .timeout = 90)
{
        kill_in_the_second_chunk(false);
        cr_assert(egress_rig_wait_delivered(&rig, target, 2550, 20000));
        check_sums(-1000);
        check_balanced();
        cr_assert_eq(counter(COUNTER_cloudwatch_ambiguous_skipped), 1);
        cr_assert_eq(counter(COUNTER_cloudwatch_skipped_counts), 1000);
        rig_end();
}

Test(target_cloudwatch, after_a_kill_the_open_period_is_counted_again, .timeout = 90)
{
        rig_begin();
        rig.shards_count = 2;
        rules.period_s = 3600;
        peer.period_s = 3600;
        rig_open();
        publish_sets(0, 200);
        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        kill_and_restart();
        publish_sets(0, 200);
        egress_rig_stop(&rig, 5000);
        check_sums(0);
        check_balanced();
        cr_assert_eq(peer.taken, 1);
        rig_end();
}

/* Whoever was admitted before the kill is admitted after it; nobody else is. */
Test(target_cloudwatch, after_a_kill_the_hours_series_are_the_same, .timeout = 90)
{
        rig_begin();
        rules.series_max = 10;
        int64_t left_ms = 3600000 - clock_realtime_ms() % 3600000;
        if (left_ms < 20000) /* one hour must do */
                clock_sleep_ns((uint64_t)left_ms * CLOCK_NS_PER_MS);
        rig_open();
        publish_sets(0, 15);
        cr_assert(egress_rig_wait_delivered(&rig, target, 15, 20000));
        cr_assert_eq(peer.sum, 15);
        uint64_t overflowed = 15;
        for (uint32_t set = 0; set < 15; set++)
                overflowed -= peer.sums[set];
        cr_assert_eq(overflowed, 5);
        kill_and_restart();
        cr_assert_eq(atomic_load(&rig.targets[target].row->series_hour), 11); /* known at once; the overflow one too */
        for (uint32_t set = 15; set > 0; set--)
                publish(0, set - 1, 1); /* in another order */
        publish_sets(20, 30);
        cr_assert(egress_rig_wait_delivered(&rig, target, 40, 20000));
        cr_assert_eq(peer.sum, 40);
        for (uint32_t set = 0; set < 30; set++)
                cr_assert_eq(peer.sums[set], set < 10 ? 2 : 0, "set %u", set);
        cr_assert_eq(atomic_load(&rig.targets[target].row->series_hour), 11);
        check_balanced();
        rig_end();
}

/* A clock that was wrong for a while does not hold the budget of the hours to come. */
Test(target_cloudwatch, a_clock_that_was_set_back_begins_a_budget, .timeout = 90)
{
        rig_begin();
        rules.series_max = 5;
        rig_open();
        atomic_store(&stopped_ms, clock_realtime_ms() + INT64_C(1001) * 3600000);
        publish_sets(0, 5);
        cr_assert(egress_rig_wait_delivered(&rig, target, 5, 20000));
        cr_assert_eq(atomic_load(&rig.targets[target].row->series_hour), 5);
        atomic_store(&stopped_ms, 0);
        publish_sets(5, 10);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 20000));
        atomic_store(&stopped_ms, clock_realtime_ms() + INT64_C(3600000));
        publish_sets(10, 15); /* an hour on */
        cr_assert(egress_rig_wait_delivered(&rig, target, 15, 20000));
        check_sums(0);
        rig_end();
}

/* Flips a byte of the outbox. */
static void damage_outbox(off_t at)
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

/* `at`: of a byte that is spoiled, while the period waits for its answer. */
static void check_counted_again(off_t at)
{
        rig_begin();
        rig.settings.egress.request_timeout_ms = 60000;
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_SILENT);
        log_level_set(LOG_ERROR);
        rig_open();
        publish_sets(0, 100);
        wait_requests(1);
        damage_outbox(at);
        kill_and_restart();
        cr_assert(egress_rig_wait_delivered(&rig, target, 100, 20000));
        clock_sleep_ns(600 * CLOCK_NS_PER_MS); /* the tick tells */
        cr_assert_eq(counter(COUNTER_cloudwatch_recounted), 1);
        check_sums(0);
        check_balanced();
        rig_end();
}

Test(target_cloudwatch, a_damaged_outbox_is_counted_again, .timeout = 90)
{
        check_counted_again(OUTBOX_HEADER_BYTES + 10);
}

Test(target_cloudwatch, an_outbox_of_another_version_is_counted_again, .timeout = 90)
{
        check_counted_again(8);
}

Test(target_cloudwatch, an_outbox_that_does_not_begin_at_the_cursor_is_counted_again, .timeout = 90)
{
        rig_begin();
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_ACCEPT);
        rig_open();
        publish_sets(0, 10);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 20000));
        /* The period that has been delivered comes back: sealed, nothing acknowledged. */
        char path[400];
        const uint64_t words[2] = {0x000044454c414553, 0};
        cr_assert(outbox_path(rig.outboxes, slice_of_text(rig.targets[target].key), path, sizeof(path)));
        int fd = open(path, O_RDWR);
        cr_assert_eq(pwrite(fd, words, sizeof(words), 64), (ssize_t)sizeof(words));
        (void)close(fd);
        kill_and_restart();
        publish_sets(0, 10);
        cr_assert(egress_rig_wait_delivered(&rig, target, 20, 20000));
        check_sums(0);
        cr_assert_eq(counter(COUNTER_cloudwatch_recounted), 1);
        rig_end();
}

/* ---------------------------------------------------------------------------------------------- backlogs */

Test(target_cloudwatch, an_outage_is_counted_in_full_afterwards, .timeout = 90)
{
        rig_begin();
        rules.series_max = 100;
        atomic_store(&peer.always, CLOUDWATCH_PEER_500);
        rig.settings.egress.retry_max_ms = 50;
        rig_open();
        for (uint32_t second = 0; second < 5; second++) { /* 40 series each: several times what a table has room for */
                publish_sets(0, 40);
                clock_sleep_ns(1000 * CLOCK_NS_PER_MS);
        }
        check_balanced();
        atomic_store(&peer.always, CLOUDWATCH_PEER_ACCEPT);
        cr_assert(egress_rig_wait_delivered(&rig, target, 200, 20000));
        check_sums(0);
        check_balanced();
        rig_end();
}

Test(target_cloudwatch, events_that_cloudwatch_would_refuse_for_their_age_expire, .timeout = 90)
{
        rig_begin();
        rig_open();
        size_t bytes = egress_rig_encode_to(1, 0, 0, rig.event, sizeof(rig.event));
        egress_rig_append(&rig, 0, rig.event, bytes, &target, 1, clock_realtime_ms() - INT64_C(14) * 24 * 3600 * 1000);
        egress_rig_append(&rig, 0, rig.event, bytes, &target, 1, clock_realtime_ms() + INT64_C(14) * 24 * 3600 * 1000);
        egress_rig_offer(&rig, 0, false);
        published[1]++; /* the one from the future: counted now */
        cr_assert(egress_rig_wait_delivered(&rig, target, 1, 20000));
        cr_assert_eq(egress_rig_state(&rig, 0, target).expired, 1);
        check_sums(0);
        check_balanced();
        rig_end();
}

/* Events of `sets` that were accepted at that time, and that are counted. */
static void publish_old(uint32_t from, uint32_t to, int64_t accepted_ms)
{
        uint64_t counted = counter(COUNTER_egress_events), deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        for (uint32_t set = from; set < to; set++) {
                size_t bytes = egress_rig_encode_to(set, set, 0, rig.event, sizeof(rig.event));
                egress_rig_append(&rig, 0, rig.event, bytes, &target, 1, accepted_ms);
                published[set]++;
        }
        published_sum += to - from;
        egress_rig_offer(&rig, 0, false);
        while (counter(COUNTER_egress_events) < counted + to - from) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
}

/* A datum that can still be counted, and gets old from now on. */
static int64_t old_datum_ms(void)
{
        int64_t at_ms = clock_realtime_ms() - CLOUDWATCH_COUNT_AGE_MS_MAX + 120000;
        return at_ms - at_ms % (rules.period_s * 1000);
}

static void wait_settled(uint64_t events)
{
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        struct journal_target_state state = egress_rig_state(&rig, 0, target);
        while (state.delivered + state.expired + state.shed < events) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns, "%llu delivered, %llu expired",
                             (unsigned long long)state.delivered, (unsigned long long)state.expired);
                clock_sleep_ns(CLOCK_NS_PER_MS);
                state = egress_rig_state(&rig, 0, target);
        }
}

static void check_expired(uint64_t expired)
{
        wait_settled(published_sum);
        egress_rig_stop(&rig, 5000);
        cr_assert_eq(egress_rig_state(&rig, 0, target).expired, expired);
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, published_sum - expired);
        cr_assert_eq(counter(COUNTER_egress_expired), expired);
        cr_assert_eq(counter(COUNTER_egress_delivered), published_sum - expired);
        check_sums(-(int64_t)expired);
        check_balanced();
        rig_end();
}

static void age_rig_open(uint32_t period_s)
{
        rig_begin();
        rig.settings.egress.retry_max_ms = 50;
        rules.period_s = period_s;
        peer.period_s = period_s;
        atomic_store(&peer.always, CLOUDWATCH_PEER_500);
        rig_open();
        wait_for_boundary();
}

/* One old event and thirty fresh ones wait in the outbox. */
static void a_closed_period_gets_old(int64_t past_ms, uint64_t expired)
{
        age_rig_open(3);
        int64_t old_ms = old_datum_ms();
        publish_old(1, 2, old_ms + 1);
        publish_sets(0, 30);
        wait_requests(1);
        atomic_store(&stopped_ms,
                     old_ms + cloudwatch_send_age_ms_max(rig.settings.egress.request_timeout_ms) + past_ms);
        if (expired > 0) {
                uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
                while (counter(COUNTER_cloudwatch_recounted) == 0) {
                        cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                        clock_sleep_ns(CLOCK_NS_PER_MS);
                }
        }
        atomic_store(&peer.always, CLOUDWATCH_PEER_ACCEPT);
        wait_settled(31);
        cr_assert_eq(counter(COUNTER_cloudwatch_recounted), expired);
        check_expired(expired);
}

Test(target_cloudwatch, a_closed_period_is_sent_up_to_the_limit, .timeout = 90)
{
        a_closed_period_gets_old(0, 0);
}

Test(target_cloudwatch, of_a_closed_period_only_what_is_too_old_expires, .timeout = 90)
{
        a_closed_period_gets_old(1, 1);
}

/* The same in the open period, behind one that is not taken. */
static void an_open_period_gets_old(int64_t past_ms, uint64_t expired)
{
        age_rig_open(1);
        publish_sets(0, 30);
        wait_requests(2); /* the outbox is busy */
        int64_t old_ms = old_datum_ms();
        publish_old(1, 2, old_ms + 1);
        publish_sets(0, 30);
        wait_requests(cloudwatch_peer_requests(&peer) + 1);
        atomic_store(&stopped_ms, old_ms + CLOUDWATCH_CLOSE_AGE_MS_MAX + past_ms);
        atomic_store(&peer.always, CLOUDWATCH_PEER_ACCEPT);
        check_expired(expired);
}

Test(target_cloudwatch, an_open_period_is_closed_up_to_the_limit, .timeout = 90)
{
        an_open_period_gets_old(0, 0);
}

Test(target_cloudwatch, of_an_open_period_only_what_is_too_old_expires, .timeout = 90)
{
        an_open_period_gets_old(1, 1);
}

/* What is counted again because of its age is counted once in the counters. */
static void counters_of_what_is_counted_again(bool closed)
{
        rig_begin();
        rig.settings.egress.retry_max_ms = 50;
        rules.series_max = 5;
        rules.period_s = 3;
        peer.period_s = 3;
        atomic_store(&peer.always, CLOUDWATCH_PEER_500);
        rig_open();
        wait_for_boundary();
        if (!closed) {
                publish_sets(0, 1);
                wait_requests(2); /* the outbox is busy */
        }
        int64_t old_ms = old_datum_ms();
        publish_old(1, 2, old_ms + 1);
        publish_sets(0, 30);
        wait_requests(cloudwatch_peer_requests(&peer) + 1);
        atomic_store(&stopped_ms, old_ms + (closed ? CLOUDWATCH_AGE_MS_MAX : CLOUDWATCH_CLOSE_AGE_MS_MAX + 1));
        if (closed) {
                uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
                while (counter(COUNTER_cloudwatch_recounted) == 0) {
                        cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                        clock_sleep_ns(CLOCK_NS_PER_MS);
                }
        }
        atomic_store(&peer.always, CLOUDWATCH_PEER_ACCEPT);
        wait_settled(published_sum);
        egress_rig_stop(&rig, 5000);
        cr_assert_eq(egress_rig_state(&rig, 0, target).expired, 1);
        uint64_t overflowed = peer.sum;
        for (uint32_t set = 0; set < CLOUDWATCH_PEER_SETS; set++)
                overflowed -= peer.sums[set];
        cr_assert_geq(overflowed, 25);
        cr_assert_eq(counter(COUNTER_cloudwatch_overflowed), overflowed);
        cr_assert_eq(atomic_load(&rig.targets[target].row->series_overflowed), overflowed);
        cr_assert_eq(counter(COUNTER_egress_expired), 1);
        cr_assert_eq(counter(COUNTER_egress_delivered), published_sum - 1);
        check_balanced();
        rig_end();
}

Test(target_cloudwatch, an_open_period_that_is_counted_again_counts_once, .timeout = 90)
{
        counters_of_what_is_counted_again(false);
}

Test(target_cloudwatch, a_closed_period_that_is_counted_again_counts_once, .timeout = 90)
{
        counters_of_what_is_counted_again(true);
}

/* 1,500 old series and 1,000 fresh ones, in three chunks: the first is taken, then the time comes. */
static void a_part_of_a_period_gets_old(int64_t past_ms, bool killed, uint64_t expired)
{
        age_rig_open(3);
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_ACCEPT);
        int64_t old_ms = old_datum_ms();
        publish_old(0, 1500, old_ms + 1);
        publish_sets(1500, 2500);
        wait_requests(2);
        atomic_store(&stopped_ms,
                     old_ms + cloudwatch_send_age_ms_max(rig.settings.egress.request_timeout_ms) + past_ms);
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (expired > 0 && counter(COUNTER_cloudwatch_expired_counts) == 0) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        cr_assert_eq(counter(COUNTER_cloudwatch_expired_counts), expired);
        check_balanced();
        if (killed)
                kill_with_a_request_on_the_wire();
        atomic_store(&peer.always, CLOUDWATCH_PEER_ACCEPT);
        wait_settled(2500);
        cr_assert_eq(counter(COUNTER_cloudwatch_recounted), 0);
        check_expired(expired);
}

Test(target_cloudwatch, the_rest_of_a_period_is_sent_up_to_the_limit, .timeout = 90)
{
        a_part_of_a_period_gets_old(0, false, 0);
}

Test(target_cloudwatch, of_a_period_that_was_partly_taken_the_old_chunks_expire, .timeout = 90)
{
        a_part_of_a_period_gets_old(1, false, 1000);
}

Test(target_cloudwatch, what_expired_of_a_period_is_known_after_a_kill, .timeout = 90)
{
        a_part_of_a_period_gets_old(1, true, 1000);
}

/* With a period of an hour, what is sent is up to an hour older than the event. */
Test(target_cloudwatch, the_start_of_the_period_decides_about_the_age, .timeout = 90)
{
        rig_begin();
        rules.period_s = 3600;
        peer.period_s = 3600;
        rig_open();
        /* The last millisecond of a period that began too early; then the one after the next, which CloudWatch takes
         * whatever the clock does meanwhile. cloudwatch_test has the boundaries. */
        const int64_t hour_ms = 3600000;
        int64_t too_old_ms = clock_realtime_ms() - CLOUDWATCH_COUNT_AGE_MS_MAX - 1;
        int64_t begun_ms = too_old_ms - too_old_ms % hour_ms;
        size_t bytes = egress_rig_encode_to(1, 0, 0, rig.event, sizeof(rig.event));
        egress_rig_append(&rig, 0, rig.event, bytes, &target, 1, begun_ms + hour_ms - 1);
        egress_rig_append(&rig, 0, rig.event, bytes, &target, 1, begun_ms + 2 * hour_ms);
        egress_rig_offer(&rig, 0, false);
        published[1]++;
        egress_rig_stop(&rig, 5000);
        cr_assert_eq(egress_rig_state(&rig, 0, target).expired, 1);
        check_sums(0);
        rig_end();
}

Test(target_cloudwatch, an_open_period_lets_an_idle_worker_sleep, .timeout = 90)
{
        rig_begin();
        rules.period_s = 3600;
        peer.period_s = 3600;
        rig_open();
        publish_sets(0, 10);
        clock_sleep_ns(1000 * CLOCK_NS_PER_MS);
        uint64_t turns = counter(COUNTER_egress_turns);
        clock_sleep_ns(2000 * CLOCK_NS_PER_MS);
        cr_assert_lt(counter(COUNTER_egress_turns) - turns, 20); /* two ticks a second, not a hundred */
        /* And it does wake up for the next event. */
        uint64_t before = counter(COUNTER_egress_events);
        publish_sets(0, 1);
        clock_sleep_ns(200 * CLOCK_NS_PER_MS);
        cr_assert_eq(counter(COUNTER_egress_events) - before, 1);
        egress_rig_stop(&rig, 5000);
        check_sums(0);
        rig_end();
}

Test(target_cloudwatch, a_removed_target_sends_what_it_has_and_leaves_no_file, .timeout = 90)
{
        rig_begin();
        rules.period_s = 3600;
        peer.period_s = 3600;
        rig_open();
        publish_sets(0, 10);
        clock_sleep_ns(50 * CLOCK_NS_PER_MS);
        cr_assert(outbox_file_is_there());
        cr_assert(egress_worker_remove_target(rig.workers[0], rig.targets[target].target));
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (!egress_target_is_gone(rig.targets[target].target)) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        check_sums(0);
        egress_target_free(rig.targets[target].target);
        cr_assert_not(outbox_file_is_there());
        rig_end();
}

Test(target_cloudwatch, an_outbox_has_room_for_the_largest_configuration)
{
        static char names[RULES_DIMENSIONS_MAX][LIMIT_CLOUDWATCH_NAME_BYTES_MAX];
        struct rules_cloudwatch largest = {
                .namespace = slice_of(names[0], sizeof(names[0])),
                .dimensions_count = RULES_DIMENSIONS_MAX,
                .roll_ups_count = RULES_ROLL_UPS_MAX,
                .series_max = LIMIT_CLOUDWATCH_SERIES_MAX,
                .overflow_value = slice_of(names[0], sizeof(names[0])),
                .period_s = 1,
        };
        for (uint32_t i = 0; i < RULES_DIMENSIONS_MAX; i++) {
                memset(names[i], 'a' + (int)i, sizeof(names[i]));
                largest.dimensions[i].name = slice_of(names[i], sizeof(names[i]));
                largest.dimensions[i].default_value = slice_of(names[i], sizeof(names[i]));
        }
        for (uint32_t i = 0; i < RULES_ROLL_UPS_MAX; i++)
                largest.roll_ups[i] = (uint16_t)(1023u & ~(i << 2));
        for (int json = 0; json < 2; json++) {
                largest.json = json != 0;
                cr_assert_leq(cloudwatch_bodies_max(&largest), OUTBOX_CHUNKS_MAX);
                cr_assert_leq(cloudwatch_bodies_bytes_max(&largest), OUTBOX_DATA_BYTES_MAX);
        }
}

Test(target_cloudwatch, outboxes_that_nobody_wants_are_swept, .timeout = 90)
{
        rig_begin();
        rig_open();
        const struct slice keys[] = {slice_of_text(rig.targets[target].key)};
        char path[400];
        static const char *const names[] = {"0123456789abcdef.outbox", "0123456789abcdef.series", "else"};
        for (int i = 0; i < 3; i++) {
                (void)snprintf(path, sizeof(path), "%s/%s", rig.outboxes, names[i]);
                int fd = open(path, O_WRONLY | O_CREAT, 0600);
                cr_assert_geq(fd, 0);
                (void)close(fd);
        }
        cr_assert_eq(outbox_sweep(rig.outboxes, keys, 1), 2);
        cr_assert(outbox_file_is_there());
        for (int i = 0; i < 3; i++) {
                (void)snprintf(path, sizeof(path), "%s/%s", rig.outboxes, names[i]);
                cr_assert_eq(access(path, F_OK) == 0, i == 2); /* what is not ours stays */
        }
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(outbox_sweep("/nowhere", keys, 1), 0);
        rig_end();
}

/* ---------------------------------------------------------------------------------------------- a log is given up */

#define SHED_LOG 1u

static void shed_rig_open(void)
{
        static const struct egress_log logs[] = {{.id = 0}, {.id = 144, .type = SENDRING_OPEN}};
        rig.shards_count = 2;
        rig.logs = logs;
        rig_open();
}

/* Until the log of the type that is shed has a closed segment. */
static void publish_segment(void)
{
        while (journal_committed_position(rig.journals[SHED_LOG]) < LIMIT_SEGMENT_BYTES_MIN)
                publish(SHED_LOG, (uint32_t)(published_sum % 1000), 1);
        egress_rig_offer(&rig, SHED_LOG, true);
}

/* Gives up the oldest segment; how many events of it count as shed: those in the outbox as well. */
static uint64_t give_up(void)
{
        uint64_t deadline_ns = clock_monotonic_ns() + 30 * CLOCK_NS_PER_S;
        cr_assert_eq(journal_shed_oldest(rig.journals[SHED_LOG]), ERR_OK);
        egress_worker_shed(rig.workers[0]);
        while (journal_shed_pending(rig.journals[SHED_LOG])) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        check_balanced();
        cr_assert_eq(egress_rig_state(&rig, 0, target).shed, 0);
        return egress_rig_state(&rig, SHED_LOG, target).shed;
}

/* What was not given up arrives, once. */
static void check_after(uint64_t shed)
{
        atomic_store(&peer.always, CLOUDWATCH_PEER_ACCEPT);
        uint64_t deadline_ns = clock_monotonic_ns() + 30 * CLOCK_NS_PER_S;
        while (peer.sum < published_sum - shed) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns, "%llu of %llu", (unsigned long long)peer.sum,
                             (unsigned long long)(published_sum - shed));
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        egress_rig_stop(&rig, 5000);
        check_sums(-(int64_t)shed);
        check_balanced();
        cr_assert_eq(egress_rig_state(&rig, SHED_LOG, target).shed, shed);
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered + egress_rig_state(&rig, SHED_LOG, target).delivered,
                     published_sum - shed);
        rig_end();
}

/* A hundred events of each log wait in the outbox when one of the logs is given up. Returns what is shed for good. */
static uint64_t give_up_behind_an_outbox(void)
{
        peer.always = CLOUDWATCH_PEER_500;
        rules.period_s = 3;
        peer.period_s = 3;
        shed_rig_open();
        wait_for_boundary();
        publish_sets(0, 200); /* half of them in each log */
        wait_requests(2);
        publish_segment();
        uint64_t shed = give_up();
        cr_assert_gt(shed, 1000);
        cr_assert_eq(egress_rig_state(&rig, SHED_LOG, target).delivered, 0, "they are in the outbox");
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, 0);
        return shed - 100;
}

Test(target_cloudwatch, a_closed_period_outlives_its_log, .timeout = 90)
{
        rig_begin();
        uint64_t shed = give_up_behind_an_outbox();
        uint64_t counted = counter(COUNTER_egress_shed);
        cr_assert_eq(counted, shed);
        check_after(shed);
}

Test(target_cloudwatch, a_closed_period_outlives_its_log_and_a_kill, .timeout = 90)
{
        rig_begin();
        uint64_t shed = give_up_behind_an_outbox();
        kill_with_a_request_on_the_wire();
        check_after(shed);
}

/* What is never delivered never was. */
Test(target_cloudwatch, a_closed_period_that_is_lost_after_its_log_stays_shed, .timeout = 90)
{
        rig_begin();
        uint64_t shed = give_up_behind_an_outbox();
        damage_outbox(OUTBOX_HEADER_BYTES + 10);
        kill_and_restart();
        check_after(shed + 100);
}

Test(target_cloudwatch, a_closed_period_that_gets_too_old_after_its_log_stays_shed, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_max_ms = 50;
        uint64_t shed = give_up_behind_an_outbox();
        atomic_store(&stopped_ms, clock_realtime_ms() + CLOUDWATCH_AGE_MS_MAX);
        uint64_t deadline_ns = clock_monotonic_ns() + 30 * CLOCK_NS_PER_S;
        while (egress_rig_state(&rig, 0, target).expired < 100) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        cr_assert_eq(counter(COUNTER_cloudwatch_expired_counts), 200);
        check_balanced();
        cr_assert_eq(egress_rig_state(&rig, SHED_LOG, target).delivered, 0);
        cr_assert_eq(egress_rig_state(&rig, SHED_LOG, target).shed, shed + 100);
        rig_end();
}

/* With durability host the period is on the disk before the log goes. */
Test(target_cloudwatch, a_log_waits_for_the_sync_of_the_period_before_it, .timeout = 90)
{
        rig_begin();
        rig.settings.journal.durability_host = true;
        peer.always = CLOUDWATCH_PEER_500;
        rules.period_s = 3;
        peer.period_s = 3;
        atomic_store(&syncs_fail, true);
        shed_rig_open();
        wait_for_boundary();
        publish_sets(0, 200);
        wait_requests(2);
        publish_segment();
        cr_assert_eq(journal_shed_oldest(rig.journals[SHED_LOG]), ERR_OK);
        egress_worker_shed(rig.workers[0]);
        clock_sleep_ns(2500 * CLOCK_NS_PER_MS);
        cr_assert(journal_shed_pending(rig.journals[SHED_LOG]));
        cr_assert_geq(atomic_load(&syncs), 1);
        cr_assert_leq(atomic_load(&syncs), 3); /* one a second */
        atomic_store(&syncs_fail, false);
        uint64_t shed = give_up(); /* goes on with the one that was announced */
        cr_assert_eq(egress_rig_state(&rig, SHED_LOG, target).delivered, 0);
        check_after(shed - 100);
}

Test(target_cloudwatch, an_open_period_is_counted_again_without_the_log_that_is_given_up, .timeout = 90)
{
        rig_begin();
        peer.always = CLOUDWATCH_PEER_SILENT;
        rules.period_s = 3;
        peer.period_s = 3;
        rig.settings.egress.request_timeout_ms = 4500;
        shed_rig_open();
        wait_for_boundary();
        publish_sets(0, 200);
        wait_requests(1);
        publish_sets(0, 300); /* counted while the one before is on the wire */
        publish_segment();
        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        uint64_t deadline_ns = clock_monotonic_ns() + 30 * CLOCK_NS_PER_S;
        while (counter(COUNTER_egress_requests_failed) == 0) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        atomic_store(&peer.always, CLOUDWATCH_PEER_500);
        uint64_t shed = give_up() - 100; /* of the closed one */
        cr_assert_gt(shed, 1000);
        check_after(shed);
}
