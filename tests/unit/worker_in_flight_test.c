/* Answers that come late: something has changed since their requests went. Each is about what its request was sent
 * with, and not about what there is now. */
#include "egress/worker_internal.h"

#include "tests/support/worker_rig.h"

#define WARM_EVENTS 4u /* one request each: then four may be in flight */

static struct firehose_peer_stream *stream;
static uint32_t warm_requests;

static bool requests_are(void *context)
{
        return firehose_peer_requests(&peer, stream) >= *(const uint32_t *)context;
}

static void wait_requests(uint32_t count)
{
        cr_assert(wait_until(requests_are, &count, 10000), "%u of %u", firehose_peer_requests(&peer, stream), count);
}

static bool in_flight_is(void *context)
{
        return atomic_load(&rig.targets[0].row->in_flight) == *(const uint32_t *)context;
}

static bool is_gone(void *unused)
{
        (void)unused;
        return egress_target_is_gone(rig.targets[0].target);
}

static void begin(void)
{
        memset(&rig, 0, sizeof(rig));
        memset(&peer, 0, sizeof(peer));
        rig_begin();
        rig.settings.egress.in_flight_max = 4;
        peer_begin();
        stream = firehose_peer_stream(&peer, "mail");
}

/* Four requests are with the service, which has read them and will answer `step`, or what its script says; what comes
 * later it takes. */
static void send_four(enum firehose_peer_step step)
{
        cr_assert_eq(rig_open_stream(), 0);
        for (uint32_t id = 0; id < WARM_EVENTS; id++) {
                publish_many(0, id, id + 1, 100, 0);
                cr_assert(egress_rig_wait_delivered(&rig, 0, id + 1, 10000));
        }
        warm_requests = firehose_peer_requests(&peer, stream);
        atomic_store(&stream->gate, warm_requests);
        atomic_store(&stream->always, (int)step);
        for (uint32_t i = 0; i < 4; i++) {
                publish_many(0, WARM_EVENTS + i, WARM_EVENTS + i + 1, 100, 0);
                wait_requests(warm_requests + i + 1);
        }
        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
}

/* The next of them is answered. Returns the target's status then. */
static uint32_t answer_one(void)
{
        uint32_t answered = atomic_fetch_add(&stream->gate, 1) + 1 - warm_requests;
        uint32_t left = 4 - answered;
        if (left == 0)
                return 0; /* others go at once */
        cr_assert(wait_until(in_flight_is, &left, 10000), "%u left", left);
        return atomic_load(&rig.targets[0].row->status);
}

/* All are, and none of them parks. */
static void answer_rest(const char *what)
{
        while (atomic_load(&stream->gate) < warm_requests + 4)
                cr_expect_neq(answer_one(), COUNTERS_TARGET_PARKED, "%s: parked by an answer", what);
        atomic_store(&stream->gate, 0);
}

static void remove_target(void)
{
        uint32_t status = COUNTERS_TARGET_REMOVED;
        cr_assert(egress_worker_remove_target(rig.workers[0], rig.targets[0].target));
        cr_assert(wait_until(status_is, &status, 5000));
        clock_sleep_ns(500 * CLOCK_NS_PER_MS); /* a tick, too */
}

static void replace_credentials(void)
{
        static struct credentials others;
        others = rig.keys;
        others.number++;
        atomic_store(&rig.credentials.current, &others);
        atomic_fetch_add(&rig.credentials.loads, 1);
}

/* How far ahead of this host's clock the last request was signed. */
static int64_t ahead_s(void)
{
        return (stream->last_request_ms - clock_realtime_ms()) / 1000;
}

/* ---------------------------------------------------------------------------------------------- somebody acts */

/* A stream that is not there, and made while the probe is on its way. */
static void probe_one(void)
{
        begin();
        rig.settings.egress.retry_max_ms = 60000;
        atomic_store(&stream->always, FIREHOSE_PEER_NOT_FOUND);
        cr_assert_eq(rig_open_stream(), 0);
        publish_many(0, 0, 100, 100, 0);
        uint32_t status = COUNTERS_TARGET_PARKED;
        cr_assert(wait_until(status_is, &status, 5000));
        atomic_store(&stream->gate, 1);
        egress_worker_probe(rig.workers[0]);
        wait_requests(2);
        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
}

Test(worker_in_flight, a_no_from_before_the_removal_sheds_nothing, .timeout = 90)
{
        probe_one();
        remove_target();
        atomic_store(&stream->gate, 0);
        cr_assert(wait_until(is_gone, NULL, 5000));
        cr_assert_eq(egress_rig_state(&rig, 0, 0).delivered, 100, "%llu of 100",
                     (unsigned long long)egress_rig_state(&rig, 0, 0).delivered);
        cr_assert_eq(firehose_peer_requests(&peer, stream), 3, "asked once more, at once");
        egress_target_free(rig.targets[0].target);
        rig_end();
}

Test(worker_in_flight, a_no_from_before_a_reload_is_asked_again, .timeout = 90)
{
        probe_one();
        egress_worker_probe(rig.workers[0]);
        clock_sleep_ns(700 * CLOCK_NS_PER_MS); /* a tick */
        atomic_store(&stream->gate, 0);
        cr_assert(egress_rig_wait_delivered(&rig, 0, 100, 5000));
        cr_assert_eq(firehose_peer_requests(&peer, stream), 3);
        rig_end();
}

/* ---------------------------------------------------------------------------------------------- the clock */

/* The first request learns that the service is an hour ahead; then the host's clock is set right. */
static void set_clock_right(void)
{
        begin();
        rig.settings.egress.retry_base_ms = 5000;
        rig.settings.egress.retry_max_ms = 60000;
        firehose_peer_script(stream, FIREHOSE_PEER_SKEW);
        send_four(FIREHOSE_PEER_SKEW_GONE);
        cr_assert(ahead_s() > 3590, "%lld", (long long)ahead_s());
}

Test(worker_in_flight, a_clock_that_is_set_right_is_unlearnt_once, .timeout = 90)
{
        set_clock_right();
        uint64_t begun_ns = clock_monotonic_ns();
        answer_rest("set right");
        cr_assert(egress_rig_wait_delivered(&rig, 0, WARM_EVENTS + 4, 10000));
        cr_assert_lt(clock_monotonic_ns() - begun_ns, 2000 * CLOCK_NS_PER_MS, "the next one goes at once");
        cr_assert_eq(counter(COUNTER_egress_requests_failed), 5, "the first one, and those in flight");
        cr_assert(ahead_s() > -10 && ahead_s() < 10, "%lld", (long long)ahead_s());
        rig_end();
}

Test(worker_in_flight, a_clock_that_is_set_right_sheds_nothing_of_a_removed_target, .timeout = 90)
{
        set_clock_right();
        remove_target();
        for (uint32_t i = 0; i < 4; i++)
                (void)answer_one();
        atomic_store(&stream->gate, 0);
        cr_assert(wait_until(is_gone, NULL, 10000));
        cr_assert_eq(egress_rig_state(&rig, 0, 0).delivered, WARM_EVENTS + 4, "%llu of 8",
                     (unsigned long long)egress_rig_state(&rig, 0, 0).delivered);
        egress_target_free(rig.targets[0].target);
        rig_end();
}

Test(worker_in_flight, an_answer_without_a_date_unlearns_nothing_newer, .timeout = 90)
{
        begin();
        for (uint32_t i = 0; i < WARM_EVENTS; i++)
                firehose_peer_script(stream, FIREHOSE_PEER_ACCEPT);
        firehose_peer_script(stream, FIREHOSE_PEER_SKEW);
        send_four(FIREHOSE_PEER_SKEW_UNDATED);
        answer_rest("without a date");
        cr_assert(egress_rig_wait_delivered(&rig, 0, WARM_EVENTS + 4, 10000));
        cr_assert(ahead_s() > 3590, "%lld", (long long)ahead_s());
        cr_assert_eq(counter(COUNTER_egress_requests_failed), 4);
        rig_end();
}

/* ---------------------------------------------------------------------------------------------- keys */

Test(worker_in_flight, an_unknown_key_that_was_replaced_does_not_park, .timeout = 90)
{
        begin();
        rig.settings.egress.retry_throttle_base_ms = 60000;
        rig.settings.egress.retry_max_ms = 60000;
        send_four(FIREHOSE_PEER_UNKNOWN_KEY);
        cr_assert_eq(answer_one(), COUNTERS_TARGET_RETRYING);
        replace_credentials();
        answer_rest("unknown");
        cr_assert(egress_rig_wait_delivered(&rig, 0, WARM_EVENTS + 4, 5000), "the new one is used at once");
        rig_end();
}

Test(worker_in_flight, no_to_a_replaced_key_is_no_word_on_the_new_one, .timeout = 90)
{
        static const enum firehose_peer_step steps[] = {FIREHOSE_PEER_NOT_FOUND, FIREHOSE_PEER_DENY_ALL};
        for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
                begin();
                rig.settings.egress.retry_throttle_base_ms = 60000;
                rig.settings.egress.retry_max_ms = 60000;
                send_four(steps[i]);
                replace_credentials();
                answer_rest(i == 0 ? "not found" : "denied");
                cr_assert(egress_rig_wait_delivered(&rig, 0, WARM_EVENTS + 4, 5000));
                rig_end();
        }
}

/* Memory of a generation that is gone is used for another one. */
static void replace_credentials_thrice(void)
{
        replace_credentials();
        clock_sleep_ns(20 * CLOCK_NS_PER_MS); /* nobody looks at the first ones any more */
        rig.keys.number += 2;
        atomic_store(&rig.credentials.current, &rig.keys);
        atomic_fetch_add(&rig.credentials.loads, 2);
}

Test(worker_in_flight, newer_keys_where_the_old_ones_were_are_others, .timeout = 90)
{
        begin();
        rig.settings.egress.retry_throttle_base_ms = 60000;
        rig.settings.egress.retry_max_ms = 60000;
        send_four(FIREHOSE_PEER_DENY_ALL);
        replace_credentials_thrice();
        answer_rest("denied");
        cr_assert(egress_rig_wait_delivered(&rig, 0, WARM_EVENTS + 4, 5000), "the new one is used at once");
        rig_end();
}

Test(worker_in_flight, an_unknown_key_is_asked_again_after_the_load, .timeout = 90)
{
        begin();
        rig.settings.egress.retry_throttle_base_ms = 1;
        send_four(FIREHOSE_PEER_UNKNOWN_KEY);
        atomic_store(&stream->always, FIREHOSE_PEER_UNKNOWN_KEY);
        cr_assert_eq(answer_one(), COUNTERS_TARGET_RETRYING);
        atomic_fetch_add(&rig.credentials.loads, 1); /* the same key again */
        answer_rest("on its way before the load");
        uint32_t status = COUNTERS_TARGET_PARKED;
        cr_assert(wait_until(status_is, &status, 5000));
        cr_assert_eq(firehose_peer_requests(&peer, stream), warm_requests + 5);
        rig_end();
}

/* ---------------------------------------------------------------------------------------------- wishes */

Test(worker_in_flight, wishes_do_not_add_up, .timeout = 90)
{
        begin();
        rig.settings.egress.retry_base_ms = 1;
        rig.settings.egress.retry_max_ms = 100;
        send_four(FIREHOSE_PEER_HOUR);
        (void)answer_one();
        uint64_t begun_ns = clock_monotonic_ns();
        answer_rest("an hour");
        cr_assert(egress_rig_wait_delivered(&rig, 0, WARM_EVENTS + 4, 40000));
        uint64_t waited_ns = stream->request_ns[warm_requests + 4] - begun_ns;
        cr_assert_geq(waited_ns, 4800 * CLOCK_NS_PER_MS);
        cr_assert_leq(waited_ns, 6 * CLOCK_NS_PER_S, "%.2f s", (double)waited_ns / 1e9);
        rig_end();
}
