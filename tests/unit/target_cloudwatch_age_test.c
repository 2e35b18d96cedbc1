/* CloudWatch targets in a real worker: events and periods that grow too old to be taken, and periods whose log is given
 * up. */
#include "egress/cloudwatch.h"
#include "egress/outbox.h"
#include "io/io.h"

#include "tests/support/cloudwatch_rig.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <sys/eventfd.h>

/* Of outboxes, since nothing else here is synced through a loop. */
static _Atomic uint32_t syncs;
static _Atomic bool syncs_fail;
static _Atomic int sync_until_fd = -1; /* while there is such a descriptor, a sync takes until it can be read */
void __real_io_fdatasync(struct io_loop *loop, struct io_op *op, int fd);
void __wrap_io_fdatasync(struct io_loop *loop, struct io_op *op, int fd);
void __wrap_io_fdatasync(struct io_loop *loop, struct io_op *op, int fd)
{
        atomic_fetch_add(&syncs, 1);
        if (atomic_load(&sync_until_fd) >= 0) {
                io_poll(loop, op, atomic_load(&sync_until_fd), POLLIN);
                return;
        }
        __real_io_fdatasync(loop, op, atomic_load(&syncs_fail) ? -1 : fd);
}

/* What is logged from now on. */
static FILE *log_file;
static void log_begin(void)
{
        log_level_set(LOG_WARNING);
        log_file = tmpfile();
        cr_assert_not_null(log_file);
        cr_assert_eq(dup2(fileno(log_file), STDERR_FILENO), STDERR_FILENO);
}

static bool log_has(const char *text)
{
        static char log[65536];
        ssize_t bytes = pread(fileno(log_file), log, sizeof(log) - 1, 0);
        cr_assert_geq(bytes, 0);
        log[bytes] = '\0';
        return strstr(log, text) != NULL;
}

/* ---------------------------------------------------------------------------------------------- age */

Test(target_cloudwatch_age, events_that_cloudwatch_would_refuse_for_their_age_expire, .timeout = 90)
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

static void age_rig_open(uint32_t period_s, bool resend)
{
        rig_begin();
        rules.resend_ambiguous = resend;
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
        age_rig_open(3, true);
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

Test(target_cloudwatch_age, a_closed_period_is_sent_up_to_the_limit, .timeout = 90)
{
        a_closed_period_gets_old(0, 0);
}

Test(target_cloudwatch_age, of_a_closed_period_only_what_is_too_old_expires, .timeout = 90)
{
        a_closed_period_gets_old(1, 1);
}

/* The same in the open period, behind one that is not taken. */
static void an_open_period_gets_old(int64_t past_ms, uint64_t expired)
{
        age_rig_open(1, true);
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

Test(target_cloudwatch_age, an_open_period_is_closed_up_to_the_limit, .timeout = 90)
{
        an_open_period_gets_old(0, 0);
}

Test(target_cloudwatch_age, of_an_open_period_only_what_is_too_old_expires, .timeout = 90)
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

Test(target_cloudwatch_age, an_open_period_that_is_counted_again_counts_once, .timeout = 90)
{
        counters_of_what_is_counted_again(false);
}

Test(target_cloudwatch_age, a_closed_period_that_is_counted_again_counts_once, .timeout = 90)
{
        counters_of_what_is_counted_again(true);
}

/* 1,500 old series and 1,000 fresh ones, in three chunks: the first is taken, then the time comes. */
static void a_part_of_a_period_gets_old(int64_t past_ms, bool killed, uint64_t expired)
{
        age_rig_open(3, true);
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

Test(target_cloudwatch_age, the_rest_of_a_period_is_sent_up_to_the_limit, .timeout = 90)
{
        a_part_of_a_period_gets_old(0, false, 0);
}

Test(target_cloudwatch_age, of_a_period_that_was_partly_taken_the_old_chunks_expire, .timeout = 90)
{
        a_part_of_a_period_gets_old(1, false, 1000);
}

Test(target_cloudwatch_age, what_expired_of_a_period_is_known_after_a_kill, .timeout = 90)
{
        a_part_of_a_period_gets_old(1, true, 1000);
}

/* A request without an answer comes first: it may be taken. */
static void a_period_gets_old_behind_an_unanswered_request(bool resend)
{
        age_rig_open(3, resend);
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_ACCEPT_502);
        log_begin();
        int64_t old_ms = old_datum_ms();
        publish_old(0, 1500, old_ms + 1);
        publish_sets(1500, 2500);
        wait_requests(2);
        atomic_store(&stopped_ms, old_ms + CLOUDWATCH_AGE_MS_MAX);
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (counter(resend ? COUNTER_cloudwatch_recounted : COUNTER_cloudwatch_expired_counts) == 0) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        atomic_store(&peer.always, CLOUDWATCH_PEER_ACCEPT);
        wait_settled(published_sum);
        cr_assert(log_has(resend ? "nothing of it is known to be taken" : "were taken, or may have been"));
        cr_assert_not(log_has("doubled_requests=0"));
        cr_assert_eq(egress_rig_state(&rig, 0, target).expired, resend ? 1500 : 1000);
        check_balanced();
        rig_end();
}

Test(target_cloudwatch_age, an_unanswered_request_that_gets_old_may_have_been_taken, .timeout = 90)
{
        a_period_gets_old_behind_an_unanswered_request(true);
}

Test(target_cloudwatch_age, behind_a_skipped_request_what_is_old_is_passed_over, .timeout = 90)
{
        a_period_gets_old_behind_an_unanswered_request(false);
}

/* With a period of an hour, what is sent is up to an hour older than the event. */
Test(target_cloudwatch_age, the_start_of_the_period_decides_about_the_age, .timeout = 90)
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

/* ---------------------------------------------------------------------------------------------- ahead */

#define YEAR_MS (INT64_C(365) * 24 * 3600 * 1000)

/* CloudWatch has the right time, the host does not. */
static void ahead_rig_open(void)
{
        rig_begin();
        rig.settings.egress.retry_max_ms = 50;
        rules.period_s = 3;
        peer.period_s = 3;
        peer.clock_ms = __real_clock_realtime_ms;
        rig_open();
        wait_for_boundary();
}

static void check_nothing_is_missing(void)
{
        wait_settled(published_sum);
        cr_assert_eq(counter(COUNTER_cloudwatch_recounted), 0);
        cr_assert_eq(counter(COUNTER_cloudwatch_expired_counts), 0);
        check_expired(0);
}

static void a_clock_that_was_ahead_is_set_right(int64_t ahead_ms, bool killed)
{
        ahead_rig_open();
        atomic_store(&stopped_ms, clock_realtime_ms() + ahead_ms);
        publish_sets(0, 30);
        wait_requests(2); /* refused, time after time */
        cr_assert_eq(cloudwatch_peer_sum(&peer), 0);
        atomic_store(&stopped_ms, 0);
        if (killed)
                kill_and_restart();
        publish_sets(0, 30);
        check_nothing_is_missing();
}

Test(target_cloudwatch_age, a_clock_that_was_a_year_ahead_is_set_right, .timeout = 90)
{
        a_clock_that_was_ahead_is_set_right(YEAR_MS, false);
}

/* Its seconds have a digit more, and no room in 32 bits. */
Test(target_cloudwatch_age, a_clock_that_was_300_years_ahead_is_set_right, .timeout = 90)
{
        a_clock_that_was_ahead_is_set_right(300 * YEAR_MS, false);
}

Test(target_cloudwatch_age, a_clock_that_was_3_hours_ahead_is_set_right_behind_a_kill, .timeout = 90)
{
        a_clock_that_was_ahead_is_set_right(INT64_C(3) * 3600 * 1000, true);
}

/* 1,500 series before the clock goes wrong and 1,000 behind it, in three chunks: the first is taken. */
Test(target_cloudwatch_age, the_rest_of_a_period_that_was_partly_taken_is_not_lost_to_a_clock_ahead, .timeout = 90)
{
        ahead_rig_open();
        publish_old(0, 1500, clock_realtime_ms());
        atomic_store(&stopped_ms, clock_realtime_ms() + INT64_C(3) * 3600 * 1000);
        publish_sets(1500, 2500);
        wait_requests(3);
        cr_assert_eq(cloudwatch_peer_sum(&peer), 1000, "%llu of %llu", (unsigned long long)cloudwatch_peer_sum(&peer),
                     (unsigned long long)published_sum);
        atomic_store(&stopped_ms, 0);
        check_nothing_is_missing();
}

/* While it stays wrong, the service's own clock is gone by. */
Test(target_cloudwatch_age, a_clock_that_stays_ahead_stops_nothing, .timeout = 90)
{
        ahead_rig_open();
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_SKEWED);
        atomic_store(&stopped_ms, clock_realtime_ms() + YEAR_MS);
        publish_sets(0, 30);
        check_nothing_is_missing();
}

/* What was learnt of a clock that was wrong is wrong once it is set right: until it is unlearnt nothing goes astray. */
Test(target_cloudwatch_age, an_offset_that_is_out_of_date_costs_nothing, .timeout = 90)
{
        ahead_rig_open();
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_SKEWED);
        atomic_store(&stopped_ms, clock_realtime_ms() + YEAR_MS);
        publish_sets(0, 30);
        wait_settled(30);
        atomic_store(&stopped_ms, 0);
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_SKEWED);
        publish_sets(0, 1000);
        check_nothing_is_missing();
        cr_assert_lt(clock_realtime_ms() - peer.newest_ms, 60000, "under the time when they came");
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

Test(target_cloudwatch_age, a_closed_period_outlives_its_log, .timeout = 90)
{
        rig_begin();
        uint64_t shed = give_up_behind_an_outbox();
        uint64_t counted = counter(COUNTER_egress_shed);
        cr_assert_eq(counted, shed);
        check_after(shed);
}

Test(target_cloudwatch_age, a_closed_period_outlives_its_log_and_a_kill, .timeout = 90)
{
        rig_begin();
        uint64_t shed = give_up_behind_an_outbox();
        kill_with_a_request_on_the_wire();
        check_after(shed);
}

/* What is never delivered never was. */
Test(target_cloudwatch_age, a_closed_period_that_is_lost_after_its_log_stays_shed, .timeout = 90)
{
        rig_begin();
        uint64_t shed = give_up_behind_an_outbox();
        damage_outbox(OUTBOX_HEADER_BYTES + 10);
        kill_and_restart();
        check_after(shed + 100);
}

Test(target_cloudwatch_age, a_closed_period_that_gets_too_old_after_its_log_stays_shed, .timeout = 90)
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
Test(target_cloudwatch_age, a_log_waits_for_the_sync_of_the_period_before_it, .timeout = 90)
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

/* Not for longer than a service is waited for. */
Test(target_cloudwatch_age, a_log_does_not_wait_for_a_sync_that_hangs, .timeout = 90)
{
        rig_begin();
        rig.settings.journal.durability_host = true;
        rig.settings.egress.request_timeout_ms = 1500;
        peer.always = CLOUDWATCH_PEER_500;
        rules.period_s = 3;
        peer.period_s = 3;
        atomic_store(&sync_until_fd, eventfd(0, EFD_CLOEXEC));
        shed_rig_open();
        wait_for_boundary();
        publish_sets(0, 200);
        wait_requests(2);
        publish_segment();
        const uint64_t begun_ns = clock_monotonic_ns();
        uint64_t shed = give_up();
        const uint64_t took_ms = (clock_monotonic_ns() - begun_ns) / CLOCK_NS_PER_MS;
        cr_assert(took_ms >= 1000 && took_ms <= 5000, "the timeout is 1.5 s: %llu ms", (unsigned long long)took_ms);
        cr_assert_eq(atomic_load(&syncs), 1);
        cr_assert_eq(egress_rig_state(&rig, SHED_LOG, target).delivered, 0);
        cr_assert_eq(eventfd_write(atomic_exchange(&sync_until_fd, -1), 1), 0);
        check_after(shed - 100);
}

/* Pages that are lost come back by no sync: the log does not wait for them. */
Test(target_cloudwatch_age, a_log_does_not_wait_for_an_outbox_that_was_cut, .timeout = 90)
{
        char path[400];
        rig_begin();
        rig.settings.journal.durability_host = true;
        rig.settings.egress.request_timeout_ms = 60000;
        cloudwatch_peer_script(&peer, CLOUDWATCH_PEER_500); /* a target that fails is not waited for */
        peer.always = CLOUDWATCH_PEER_SILENT;               /* and nobody else touches the body meanwhile */
        rules.period_s = 3;
        peer.period_s = 3;
        shed_rig_open();
        wait_for_boundary();
        publish_sets(0, 200);
        wait_requests(2);
        publish_segment();
        cr_assert(outbox_path(rig.outboxes, slice_of_text(rig.targets[target].key), path, sizeof(path)));
        log_begin(); /* the worker may come to the lost pages before us */
        cr_assert_eq(truncate(path, OUTBOX_HEADER_BYTES), 0);
        cr_assert_gt(give_up(), 1000);
        cr_assert_eq(atomic_load(&syncs), 1);
        /* The loss may be seen, and the log go, before that sync has ended, which tells. */
        for (int i = 0; i < 500 && !log_has("pages of an outbox were lost"); i++)
                clock_sleep_ns(10 * CLOCK_NS_PER_MS);
        cr_assert(log_has("pages of an outbox were lost"));
        cr_assert(log_has("the log that is given up goes;"));
        cr_assert_not(log_has("waits"));
        rig_end();
}

Test(target_cloudwatch_age, an_open_period_is_counted_again_without_the_log_that_is_given_up, .timeout = 90)
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
