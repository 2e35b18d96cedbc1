/* CloudWatch targets in a real worker: periods, chunks, answers that never come, kills, and books that balance.
 * target_cloudwatch_age_test has what grows too old, or is given up. */
#include "egress/cloudwatch.h"
#include "egress/outbox.h"
#include "egress/series.h"

#include "tests/support/cloudwatch_rig.h"

#include <criterion/criterion.h>
#include <errno.h>

static _Atomic bool counting_fails;
enum err_code __real_journal_target_count_before(struct journal *journal, uint16_t number, uint64_t position,
                                                 uint64_t *ret_count, uint64_t *ret_sequence, struct err *reterr);
enum err_code __wrap_journal_target_count_before(struct journal *journal, uint16_t number, uint64_t position,
                                                 uint64_t *ret_count, uint64_t *ret_sequence, struct err *reterr);
enum err_code __wrap_journal_target_count_before(struct journal *journal, uint16_t number, uint64_t position,
                                                 uint64_t *ret_count, uint64_t *ret_sequence, struct err *reterr)
{
        if (atomic_load(&counting_fails))
                return err_set_errno(reterr, ERR_SYSTEM, EIO, "cannot read");
        return __real_journal_target_count_before(journal, number, position, ret_count, ret_sequence, reterr);
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

/* What is of one clock hour, a period or a budget, must not be two for want of seconds. */
static void rig_open_within_an_hour(void)
{
        int64_t left_ms = 3600000 - clock_realtime_ms() % 3600000;
        if (left_ms < 20000)
                clock_sleep_ns((uint64_t)left_ms * CLOCK_NS_PER_MS);
        rig_open();
}

Test(target_cloudwatch, draining_does_not_wait_for_the_period, .timeout = 90)
{
        rig_begin();
        rules.period_s = 3600;
        peer.period_s = 3600;
        rig_open_within_an_hour();
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
        rig.settings.egress.request_timeout_ms = 2000;
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
        rig.settings.egress.request_timeout_ms = 2000;
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
        rig_open_within_an_hour();
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
        rig_open_within_an_hour();
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
        rig_open_within_an_hour();
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
        cr_assert_eq(atomic_load(&rig.targets[target].row->series_hour_number), clock_realtime_ms() / 3600000);
        cr_assert_eq(atomic_load(&rig.targets[target].row->series_hour_before), 0);
        atomic_store(&stopped_ms, clock_realtime_ms() + INT64_C(3600000));
        publish_sets(40, 43);
        cr_assert(egress_rig_wait_delivered(&rig, target, 43, 20000));
        cr_assert_eq(atomic_load(&rig.targets[target].row->series_hour), 3);
        cr_assert_eq(atomic_load(&rig.targets[target].row->series_hour_before), 11);
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

/* The tick tells, twice a second: what is told is waited for, and that no more comes. */
static void check_recounted(uint64_t count)
{
        uint64_t deadline_ns = clock_monotonic_ns() + 10 * CLOCK_NS_PER_S;
        while (counter(COUNTER_cloudwatch_recounted) < count && clock_monotonic_ns() < deadline_ns)
                clock_sleep_ns(CLOCK_NS_PER_MS);
        clock_sleep_ns(600 * CLOCK_NS_PER_MS);
        cr_assert_eq(counter(COUNTER_cloudwatch_recounted), count);
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
        check_recounted(1);
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

/* The first record that was published. */
static void damage_record(void)
{
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/0/0000000000000000.segment", rig.directory);
        int fd = open(path, O_WRONLY);
        cr_assert_geq(fd, 0);
        cr_assert_eq(pwrite(fd, "damage", 6, 4096 + 8), 6);
        (void)close(fd);
}

/* A closed period, whose records the next start cannot count. */
static void check_uncounted(bool lost)
{
        rig_begin();
        rig.settings.egress.request_timeout_ms = 60000;
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_SILENT);
        rig_open();
        wait_for_boundary();
        publish_sets(0, 100);
        wait_requests(1);
        if (lost)
                damage_record();
        atomic_store(&counting_fails, true);
        kill_and_restart();
        cr_assert(egress_rig_wait_delivered(&rig, target, lost ? 99 : 100, 20000));
        check_recounted(lost);
        cr_assert_eq(egress_rig_state(&rig, 0, target).lost, lost);
        check_sums(lost ? -1 : 0);
        check_balanced();
        rig_end();
}

Test(target_cloudwatch, a_period_that_cannot_be_compared_with_the_log_is_believed, .timeout = 90)
{
        check_uncounted(false);
}

Test(target_cloudwatch, but_not_where_events_were_lost, .timeout = 90)
{
        check_uncounted(true);
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
        check_recounted(1);
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

Test(target_cloudwatch, an_open_period_lets_an_idle_worker_sleep, .timeout = 90)
{
        rig_begin();
        rules.period_s = 3600;
        peer.period_s = 3600;
        rig_open_within_an_hour();
        publish_sets(0, 10);
        clock_sleep_ns(1000 * CLOCK_NS_PER_MS);
        uint64_t turns = counter(COUNTER_egress_turns);
        clock_sleep_ns(2000 * CLOCK_NS_PER_MS);
        cr_assert_lt(counter(COUNTER_egress_turns) - turns, 20); /* two ticks a second, not a hundred */
        /* And it does wake up for the next event. */
        uint64_t before = counter(COUNTER_egress_events);
        publish_sets(0, 1);
        for (int i = 0; i < 500 && counter(COUNTER_egress_events) == before; i++)
                clock_sleep_ns(20 * CLOCK_NS_PER_MS);
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
        rig_open_within_an_hour();
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
