/* Firehose targets that compress, on a worker: batches linger, fail and are sent again as others do. */
#include "egress/gzip.h"
#include "egress/worker_internal.h"

#include "tests/support/worker_rig.h"

#include <signal.h>

TestSuite(worker_gzip, .timeout = 90);

static struct firehose_peer_stream *stream;

static void begin(void)
{
        (void)signal(SIGPIPE, SIG_IGN);
        rig_begin();
        peer_begin();
        stream = firehose_peer_stream(&peer, "mail");
}

static uint32_t open_rig(uint32_t record_events_max)
{
        egress_rig_open(&rig);
        return egress_rig_add_stream(&rig, "mail", record_events_max, true, 0);
}

/* Every event of this log is offered: a shard would look again, here nobody does. */
static void offer_all(uint32_t shard)
{
        for (uint32_t tries = 0; rig.begin[shard][0] != UINT64_MAX; tries++) {
                cr_assert_lt(tries, 20000);
                egress_rig_offer(&rig, shard, false);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
}

static void check_each_once(uint32_t count)
{
        check_set(stream->ids, firehose_peer_count(&peer, stream), count);
}

Test(worker_gzip, every_event_once_in_order_and_compressed_bytes_counted)
{
        begin();
        rig.settings.egress.in_flight_max = 1;
        uint32_t target = open_rig(LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX);
        for (uint32_t id = 0; id < 20000; id++)
                egress_rig_publish(&rig, 0, id, 600, target);
        egress_rig_run(&rig);
        offer_all(0);
        cr_assert(egress_rig_wait_delivered(&rig, target, 20000, 40000));
        cr_assert_eq(firehose_peer_count(&peer, stream), 20000);
        for (uint32_t i = 0; i < 20000; i++)
                cr_assert_eq(stream->ids[i], i);
        check_balanced(0, target, 0);
        /* What rates, rows and Firehose's quota count is what went over the wire; the events were larger. */
        cr_assert_eq(atomic_load(&rig.targets[target].row->bytes), stream->bytes);
        cr_assert_gt(counters_sum(&rig.counters, COUNTER_egress_json_bytes), 4 * stream->bytes);
        rig_end();
}

Test(worker_gzip, a_single_event_lingers_and_goes)
{
        begin();
        uint32_t target = open_rig(LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX);
        egress_rig_run(&rig);
        for (uint32_t id = 0; id < 3; id++) {
                egress_rig_publish(&rig, 0, id, 100, target);
                egress_rig_offer(&rig, 0, true);
                cr_assert(egress_rig_wait_delivered(&rig, target, id + 1, 5000));
        }
        cr_assert_eq(stream->requests, 3);
        check_each_once(3);
        rig_end();
}

Test(worker_gzip, a_partial_failure_resends_exactly_the_refused_records)
{
        begin();
        rig.settings.egress.in_flight_max = 2;
        atomic_store(&stream->always, FIREHOSE_PEER_PARTIAL);
        firehose_peer_script(stream, FIREHOSE_PEER_PARTIAL);
        firehose_peer_script(stream, FIREHOSE_PEER_503);
        firehose_peer_script(stream, FIREHOSE_PEER_REFUSE_ALL);
        uint32_t target = open_rig(7);
        for (uint32_t id = 0; id < 7000; id++)
                egress_rig_publish(&rig, 0, id, 100, target);
        egress_rig_run(&rig);
        offer_all(0);
        clock_sleep_ns(300 * CLOCK_NS_PER_MS);
        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
        cr_assert(egress_rig_wait_delivered(&rig, target, 7000, 40000));
        check_each_once(7000);
        cr_assert_gt(stream->refused, 0);
        cr_assert_eq(counters_sum(&rig.counters, COUNTER_egress_entries_resent), stream->refused);
        check_balanced(0, target, 0);
        rig_end();
}

/* One batch builds for each event type that is shed, and each has its own compression. */
Test(worker_gzip, batches_that_build_side_by_side_do_not_mix)
{
        static const struct egress_log logs[] = {{.id = 0}, {.id = 1, .type = SENDRING_OPEN}};
        begin();
        rig.shards_count = 2;
        rig.logs = logs;
        uint32_t target = open_rig(LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX);
        for (uint32_t id = 0; id < 6000; id++)
                egress_rig_publish(&rig, id % 2, id, 400, target);
        egress_rig_run(&rig);
        for (uint32_t id = 6000; id < 12000; id++) {
                egress_rig_publish(&rig, id / 5 % 2, id, 400, target);
                if (id % 5 == 0)
                        egress_rig_offer(&rig, id / 5 % 2, true);
        }
        offer_all(0);
        offer_all(1);
        for (uint32_t tries = 0; firehose_peer_count(&peer, stream) < 12000 && tries < 20000; tries++)
                clock_sleep_ns(CLOCK_NS_PER_MS);
        check_each_once(12000);
        rig_end();
}

Test(worker_gzip, its_memory_is_in_the_budget)
{
        egress_rig_defaults(&rig);
        struct rules_target spec = {.service = RULES_SERVICE_FIREHOSE, .packed = true};
        for (uint32_t shed = 0; shed < 3; shed++) {
                rig.settings.journal.pressure.shed_count = shed;
                spec.gzip = false;
                uint64_t plain = egress_target_budget_bytes(&rig.settings, &spec);
                spec.gzip = true;
                cr_assert_eq(egress_target_budget_bytes(&rig.settings, &spec) - plain,
                             (1 + shed) * gzip_writer_memory_bytes());
        }
}
