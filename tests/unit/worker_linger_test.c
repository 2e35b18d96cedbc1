/* How long a batch waits for more events: from when its first one can have been published, to the nanosecond; and where
 * nothing waits, nobody is busy meanwhile. */
#include "egress/worker_internal.h"

#include "tests/support/worker_rig.h"

#define LINGER_MS 60000u

/* One event, published `ago_ns` before the worker looks, who is driven by hand. When its batch is due; *ret_since_ns:
 * when it was published. */
static uint64_t due_of_one(uint64_t ago_ns, uint64_t *ret_since_ns)
{
        memset(&rig, 0, sizeof(rig));
        rig_begin();
        rig.settings.egress.linger_ms = LINGER_MS;
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_file(&rig, "a.ndjson", 0);
        /* The first turn takes the target, which lags until the next one. */
        cr_assert(egress_worker_turn(rig.workers[0]));
        cr_assert(egress_worker_turn(rig.workers[0]));
        size_t bytes = egress_rig_encode(0, 100, rig.event, sizeof(rig.event));
        egress_rig_append(&rig, 0, rig.event, bytes, &target, 1, clock_realtime_ms());
        uint64_t end, sequence, since_ns = clock_monotonic_ns() - ago_ns;
        journal_committed(rig.journals[0], &end, &sequence);
        cr_assert(egress_worker_offer(rig.workers[0], 0, rig.begin[0][0], end, sequence, since_ns));
        cr_assert(egress_worker_turn(rig.workers[0]));
        const struct egress_batch *batch = rig.targets[target].target->building[0];
        cr_assert_not_null(batch);
        uint64_t due_ns = batch->due_ns;
        *ret_since_ns = since_ns;
        rig_end();
        return due_ns;
}

Test(worker_linger, begins_when_the_event_was_published, .timeout = 90)
{
        for (uint64_t ago_ns = 300001; ago_ns < 3 * CLOCK_NS_PER_MS; ago_ns += 700001) {
                uint64_t since_ns = 0, due_ns = due_of_one(ago_ns, &since_ns);
                cr_assert_eq(due_ns, since_ns + LINGER_MS * CLOCK_NS_PER_MS, "%llu ns ago: due %lld ns late",
                             (unsigned long long)ago_ns,
                             (long long)(due_ns - since_ns) - (long long)(LINGER_MS * CLOCK_NS_PER_MS));
        }
}

/* Nothing is to be read of an answer that does not come, and no event lingers. */
Test(worker_linger, without_one_a_worker_sleeps_while_a_request_is_on_its_way, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.linger_ms = 0;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        atomic_store(&stream->always, FIREHOSE_PEER_SILENT);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 1, 100, target);
        uint64_t until_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (firehose_peer_requests(&peer, stream) == 0) {
                cr_assert_lt(clock_monotonic_ns(), until_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        uint64_t before = counter(COUNTER_egress_turns);
        clock_sleep_ns(300 * CLOCK_NS_PER_MS);
        uint64_t turns = counter(COUNTER_egress_turns) - before;
        cr_assert_lt(turns, 50, "%llu turns in 300 ms", (unsigned long long)turns); /* a spin is 100,000 and more */
        /* What comes meanwhile is taken. */
        for (uint32_t id = 1; id < 10; id++) {
                publish_many(0, id, id + 1, 100, target);
                clock_sleep_ns(20 * CLOCK_NS_PER_MS);
        }
        while (counter(COUNTER_egress_events) < 10) {
                cr_assert_lt(clock_monotonic_ns(), until_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        egress_rig_stop(&rig, 0);
        rig_end();
}
