#include "tests/support/shard_rig.h"

#include "base/file.h"
#include "ring/layout.h"

#include <criterion/criterion.h>

static struct egress_rig rig;
static struct shard_rig shard;

static void begin(uint32_t targets)
{
        log_level_set(LOG_ERROR);
        if (rig.settings.egress.linger_ms == 0)
                egress_rig_defaults(&rig);
        egress_rig_open(&rig);
        for (uint32_t i = 0; i < targets; i++) {
                char name[32];
                (void)snprintf(name, sizeof(name), "%u.ndjson", i);
                (void)egress_rig_add_file(&rig, name, 0);
        }
        shard_rig_open(&shard, &rig);
}

static void end(void)
{
        shard_rig_close(&shard);
        egress_rig_stop(&rig, 2000);
        egress_rig_close(&rig);
        egress_rig_remove(&rig);
}

static uint64_t counter(enum counter which)
{
        return counter_get(shard.counters, which);
}

static bool wait_counter(enum counter which, uint64_t value, uint32_t timeout_ms)
{
        uint64_t deadline_ns = clock_monotonic_ns() + timeout_ms * CLOCK_NS_PER_MS;
        while (counter(which) < value) {
                if (clock_monotonic_ns() > deadline_ns)
                        return false;
                clock_nap_ns(CLOCK_NS_PER_MS / 10);
        }
        return true;
}

static bool wait_word(_Atomic uint64_t *word, uint64_t value, uint32_t timeout_ms)
{
        uint64_t deadline_ns = clock_monotonic_ns() + timeout_ms * CLOCK_NS_PER_MS;
        while (atomic_load(word) != value) {
                if (clock_monotonic_ns() > deadline_ns)
                        return false;
                clock_nap_ns(CLOCK_NS_PER_MS / 10);
        }
        return true;
}

static uint64_t accepted(uint16_t number)
{
        struct journal_target_state state;
        cr_assert(journal_target_get(rig.journals[0], number, &state));
        return state.accepted;
}

static void check_file(uint32_t target, uint32_t count)
{
        uint32_t seen = 0;
        uint32_t *ids = egress_rig_read_file(&rig, target, &seen);
        cr_assert_eq(seen, count, "%u events, not %u", seen, count);
        for (uint32_t i = 0; i < seen; i++)
                cr_assert_eq(ids[i], i, "event %u at place %u", ids[i], i);
        free(ids);
}

Test(shard, malformed_and_unwanted_events_are_counted, .timeout = 90)
{
        begin(1);
        egress_rig_run(&rig);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        for (uint32_t id = 0; id < 100; id++) {
                shard_rig_publish_wait(&producer, 0, id, 100);
                shard_rig_publish_wait(&producer, 7, id, 100); /* no such set */
                uint8_t *payload = NULL;
                cr_assert_eq(ring_reserve(&producer, 64, &payload), ERR_OK);
                memset(payload, 0xc1, 64); /* never used by msgpack */
                cr_assert_eq(ring_commit(&producer, 64), ERR_OK);
        }
        cr_assert(wait_counter(COUNTER_router_events, 300, 5000));
        cr_assert_eq(counter(COUNTER_router_rejected), 100);
        cr_assert_eq(counter(COUNTER_router_unmatched), 100);
        cr_assert_eq(counter(COUNTER_router_unknown_set), 100);
        cr_assert_eq(counter(COUNTER_lanes_violations), 0);
        cr_assert(egress_rig_wait_delivered(&rig, 0, 100, 40000));
        cr_assert_eq(accepted(shard.rejected), 100);
        cr_assert_eq(accepted(shard.unmatched), 100);
        check_file(0, 100);
        ring_producer_detach(&producer);
        end();
}

/* Events that name no set: the one of their domain is taken, published, and stays with them. */
Test(shard, the_default_set_of_the_domain_is_journalled, .timeout = 90)
{
        static struct rules_default_set by_domain = {.domain = "EXAMPLE.com", .set = "set-1"};
        egress_rig_defaults(&rig);
        rig.settings.default_configuration_sets = &by_domain;
        rig.settings.default_configuration_sets_count = 1;
        begin(2);
        egress_rig_run(&rig);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        size_t fixed = egress_rig_encode_to(EGRESS_RIG_NO_SET, 0, 100000, rig.event, sizeof(rig.event)) - 100000;
        shard_rig_publish_wait(&producer, EGRESS_RIG_NO_SET, 0, 100);
        shard_rig_publish_wait(&producer, 1, 1, 0);
        shard_rig_publish_wait(&producer, EGRESS_RIG_NO_SET, 2, LIMIT_EVENT_BYTES_MAX - (uint32_t)fixed);
        shard_rig_publish_wait(&producer, 0, 0, 0);
        cr_assert(egress_rig_wait_delivered(&rig, 1, 3, 40000));
        cr_assert(egress_rig_wait_delivered(&rig, 0, 1, 40000));
        check_file(0, 1);
        check_file(1, 3);
        struct arena arena;
        arena_init(&arena, 0, 0);
        struct slice text = SLICE_EMPTY;
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/1.ndjson", rig.directory);
        cr_assert_eq(file_read(&arena, path, 1 << 22, &text, NULL), ERR_OK);
        for (int i = 0; i < 3; i++) {
                struct slice line = slice_cut(&text, '\n');
                cr_expect_lt(slice_find(line, SLICE("\"ses:configuration-set\":[\"set-1\"]")), line.len, "line %d", i);
        }
        arena_release(&arena);
        ring_producer_detach(&producer);
        end();
}

Test(shard, the_largest_event_passes, .timeout = 90)
{
        begin(1);
        egress_rig_run(&rig);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        size_t fixed = egress_rig_encode_to(0, 0, 100000, rig.event, sizeof(rig.event)) - 100000;
        shard_rig_publish_wait(&producer, 0, 0, 100);
        shard_rig_publish_wait(&producer, 0, 1, LIMIT_EVENT_BYTES_MAX - (uint32_t)fixed);
        shard_rig_publish_wait(&producer, 0, 2, 100);
        cr_assert(egress_rig_wait_delivered(&rig, 0, 3, 40000));
        check_file(0, 3);
        cr_assert_eq(counter(COUNTER_router_journal_full), 0);
        ring_producer_detach(&producer);
        end();
}

Test(shard, plans_swapped_under_load_lose_nothing, .timeout = 90)
{
        begin(2);
        egress_rig_run(&rig);
        struct shard_plan *both = shard.plan, *one = shard_rig_plan(&rig, 1);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        const struct shard_plan *wanted = both;
        uint32_t swaps = 0;
        for (uint32_t id = 0; id < 30000; id++) {
                shard_rig_publish_wait(&producer, 0, id, 200);
                shard_rig_publish_wait(&producer, 1, id, 200);
                if (id % 100 == 0 && shard_plan_seen(shard.shard) == wanted) {
                        wanted = wanted == both ? one : both;
                        shard_set_plan(shard.shard, wanted);
                        swaps++;
                }
        }
        cr_assert_gt(swaps, 20);
        shard_set_plan(shard.shard, both);
        cr_assert(wait_counter(COUNTER_router_events, 60000, 10000));
        cr_assert(egress_rig_wait_delivered(&rig, 0, 30000, 40000));
        uint64_t there = accepted(rig.targets[1].numbers[0]), not_there = counter(COUNTER_router_unmatched);
        cr_assert_eq(there + not_there, 30000);
        cr_assert(there > 0 && not_there > 0);
        cr_assert(egress_rig_wait_delivered(&rig, 1, there, 40000));
        check_file(0, 30000);
        while (shard_plan_seen(shard.shard) != both)
                clock_nap_ns(CLOCK_NS_PER_MS);
        shard_rig_plan_free(one);
        ring_producer_detach(&producer);
        end();
}

Test(shard, a_full_journal_presses_back_and_loses_nothing, .timeout = 90)
{
        egress_rig_defaults(&rig);
        rig.journal_bytes_max = 4 * LIMIT_SEGMENT_BYTES_MIN;
        begin(1);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        uint32_t published = 0;
        uint64_t full_since_ns = 0;
        /* Nobody delivers: until journal and lane have been full for half a second. */
        for (;;) {
                enum err_code code = shard_rig_publish(&producer, 0, published, 600);
                if (code == ERR_OK) {
                        published++;
                        full_since_ns = 0;
                        continue;
                }
                cr_assert_eq(code, ERR_FULL);
                uint64_t now_ns = clock_monotonic_ns();
                if (full_since_ns == 0)
                        full_since_ns = now_ns;
                if (now_ns - full_since_ns > 500 * CLOCK_NS_PER_MS)
                        break;
                clock_nap_ns(CLOCK_NS_PER_MS);
        }
        cr_assert_gt(counter(COUNTER_router_journal_full), 0);
        cr_assert_lt(counter(COUNTER_router_events), published, "the lane holds some");
        egress_rig_run(&rig);
        cr_assert(egress_rig_wait_delivered(&rig, 0, published, 40000));
        check_file(0, published);
        ring_producer_detach(&producer);
        end();
}

Test(shard, lanes_of_dead_producers_are_drained_and_closed, .timeout = 90)
{
        begin(1);
        egress_rig_run(&rig);
        uint32_t id = 0;
        for (uint32_t round = 0; round < 20; round++) {
                struct ring_producer producer;
                shard_rig_attach(&shard, &producer);
                for (uint32_t i = 0; i < 50; i++)
                        shard_rig_publish_wait(&producer, 0, id++, 300);
                ring_producer_detach(&producer); /* at once: most of it lies in the lane */
                cr_assert(wait_word(&shard.server_closed, round + 1, 5000));
        }
        cr_assert(wait_word(&shard.lanes_now, 0, 5000));
        cr_assert(egress_rig_wait_delivered(&rig, 0, 1000, 40000));
        check_file(0, 1000);
        end();
}

Test(shard, a_lane_with_violations_is_closed_and_harms_no_other, .timeout = 90)
{
        begin(1);
        egress_rig_run(&rig);
        struct ring_producer vandal, good;
        shard_rig_attach(&shard, &vandal);
        shard_rig_attach(&shard, &good);
        struct ring_head_page *page = (struct ring_head_page *)(void *)vandal.head_page;
        uint64_t head = 0;
        uint32_t id = 0;
        for (uint32_t i = 0; i < LIMIT_LANE_VIOLATIONS_MAX; i++) {
                /* A record of a length that cannot be. */
                uint64_t nonsense = UINT64_C(0x00000001fffffff0);
                memcpy(vandal.data + head, &nonsense, sizeof(nonsense));
                head += 64;
                atomic_store_explicit(&page->head, head, memory_order_release);
                shard_rig_publish_wait(&good, 0, id++, 100);
                cr_assert(wait_counter(COUNTER_lanes_violations, i + 1, 5000), "%u violations", i);
        }
        cr_assert(wait_word(&shard.server_closed, 1, 5000));
        cr_assert(wait_word(&shard.lanes_now, 1, 5000));
        for (uint32_t i = 0; i < 100; i++)
                shard_rig_publish_wait(&good, 0, id++, 100);
        cr_assert(egress_rig_wait_delivered(&rig, 0, id, 40000));
        check_file(0, id);
        cr_assert_eq(counter(COUNTER_router_rejected), 0);
        ring_producer_detach(&good);
        ring_producer_detach(&vandal);
        end();
}

static void publish_garbage(struct ring_producer *producer, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++) {
                uint8_t *payload = NULL;
                uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
                while (ring_reserve(producer, 8, &payload) == ERR_FULL) {
                        cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                        clock_nap_ns(CLOCK_NS_PER_MS / 10);
                }
                memset(payload, 0xc1, 8); /* what msgpack never uses */
                cr_assert_eq(ring_commit(producer, 8), ERR_OK);
        }
}

Test(shard, a_lane_of_nothing_but_rejected_records_is_closed, .timeout = 90)
{
        begin(1);
        egress_rig_run(&rig);
        struct ring_producer garbage, good;
        shard_rig_attach(&shard, &garbage);
        shard_rig_attach(&shard, &good);
        publish_garbage(&garbage, LIMIT_LANE_REJECTED_MAX - 1);
        shard_rig_publish_wait(&garbage, 0, 0, 100); /* an event: it counts anew */
        publish_garbage(&garbage, LIMIT_LANE_REJECTED_MAX - 1);
        cr_assert(wait_counter(COUNTER_router_rejected, 2 * (LIMIT_LANE_REJECTED_MAX - 1), 20000));
        clock_sleep_ns(20 * CLOCK_NS_PER_MS);
        cr_assert_eq(atomic_load(&shard.lanes_now), 2);
        publish_garbage(&garbage, 1);
        cr_assert(wait_word(&shard.server_closed, 1, 5000));
        cr_assert(wait_word(&shard.lanes_now, 1, 5000));
        cr_assert_eq(counter(COUNTER_lanes_violations), 0);
        shard_rig_publish_wait(&good, 0, 1, 100);
        cr_assert(egress_rig_wait_delivered(&rig, 0, 2, 40000));
        check_file(0, 2);
        ring_producer_detach(&good);
        ring_producer_detach(&garbage);
        end();
}

Test(shard, a_producer_wakes_a_sleeping_shard, .timeout = 90)
{
        begin(1);
        egress_rig_run(&rig);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        uint64_t worst_ns = 0, slow = 0;
        for (uint32_t id = 0; id < 20; id++) {
                uint64_t sleeps = counter(COUNTER_router_sleeps);
                cr_assert(wait_counter(COUNTER_router_sleeps, sleeps + 1, 5000));
                clock_sleep_ns(5 * CLOCK_NS_PER_MS);
                uint64_t begun_ns = clock_monotonic_ns(), wakeups = producer.wakeups;
                shard_rig_publish_wait(&producer, 0, id, 100);
                cr_assert_eq(producer.wakeups, wakeups + 1, "the bell was rung");
                cr_assert(wait_counter(COUNTER_router_events, id + 1, 5000));
                uint64_t took_ns = clock_monotonic_ns() - begun_ns;
                worst_ns = took_ns > worst_ns ? took_ns : worst_ns;
                slow += took_ns > 10 * CLOCK_NS_PER_MS;
        }
        /* A shard that nobody wakes looks around each 500 ms. The machine may be slow at times. */
        cr_assert_leq(slow, 9, "%llu of 20 took more than 10 ms", (unsigned long long)slow);
        cr_assert_lt(worst_ns, 450 * CLOCK_NS_PER_MS, "%llu ms", (unsigned long long)(worst_ns / CLOCK_NS_PER_MS));
        ring_producer_detach(&producer);
        end();
}

Test(shard, a_flush_waits_for_the_disk_with_durability_host, .timeout = 90)
{
        egress_rig_defaults(&rig);
        rig.settings.journal.durability_host = true;
        begin(1);
        egress_rig_run(&rig);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        for (uint32_t id = 0; id < 20; id++) {
                shard_rig_publish_wait(&producer, 0, id, 100);
                cr_assert_eq(ring_producer_wait(&producer, 5000), ERR_OK);
        }
        atomic_store(&shard.sync_paused, true);
        clock_sleep_ns(20 * CLOCK_NS_PER_MS);
        shard_rig_publish_wait(&producer, 0, 20, 100);
        cr_assert_eq(ring_producer_wait(&producer, 300), ERR_TIMEOUT);
        cr_assert_eq(ring_producer_used_bytes(&producer), 0); /* journalled it is */
        atomic_store(&shard.sync_paused, false);
        cr_assert_eq(ring_producer_wait(&producer, 2000), ERR_OK);
        ring_producer_detach(&producer);
        end();
}

static void turn_until_durable(uint32_t log)
{
        const uint64_t deadline_ns = clock_monotonic_ns() + 5 * CLOCK_NS_PER_S;
        uint32_t events = 0;
        while (journal_durable_position(rig.journals[log]) < journal_committed_position(rig.journals[log])) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_nap_ns(CLOCK_NS_PER_MS / 10);
        }
        (void)shard_turn(shard.shard, &events); /* it looks */
        (void)shard_turn(shard.shard, &events);
}

/* What the shard has told the worker, which does not run, of events: the last of it. */
static uint64_t told_since(void)
{
        struct egress_range range = {0}, told = {0};
        while (rte_ring_sc_dequeue_elem(rig.workers[0]->feeds[0].ranges, &range, sizeof(range)) == 0)
                if (range.begin != range.end)
                        told = range;
        return told.since_ns;
}

/* An event was published after the look before, wherever in a nap that was. */
Test(shard, a_linger_begins_with_the_look_before, .timeout = 90)
{
        shard.by_hand = true;
        begin(1);
        struct ring_producer producer;
        uint32_t events = 0;
        shard_rig_attach(&shard, &producer);
        (void)shard_turn(shard.shard, &events);
        uint64_t before_ns = clock_monotonic_ns();
        (void)shard_turn(shard.shard, &events);
        uint64_t look_ns = clock_monotonic_ns();
        clock_sleep_ns(3 * CLOCK_NS_PER_MS);
        shard_rig_publish_wait(&producer, 0, 0, 100);
        while (counter(COUNTER_router_events) == 0)
                (void)shard_turn(shard.shard, &events);
        uint64_t since_ns = told_since();
        cr_assert(since_ns >= before_ns && since_ns <= look_ns, "%lld us behind the look",
                  (long long)(since_ns - look_ns) / 1000);
        ring_producer_detach(&producer);
        end();
}

/* Whoever publishes while it sleeps wakes it: the look before the sleep is long ago, and says nothing. */
Test(shard, a_linger_begins_with_the_end_of_a_sleep, .timeout = 90)
{
        begin(1);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        cr_assert(wait_counter(COUNTER_router_sleeps, 1, 10000));
        uint64_t sleeps = counter(COUNTER_router_sleeps);
        cr_assert(wait_counter(COUNTER_router_sleeps, sleeps + 1, 10000)); /* by itself: the next one has just begun */
        clock_sleep_ns(200 * CLOCK_NS_PER_MS);
        uint64_t published_ns = clock_monotonic_ns();
        shard_rig_publish_wait(&producer, 0, 0, 100);
        cr_assert(wait_counter(COUNTER_router_events, 1, 10000));
        shard_rig_close(&shard);
        uint64_t since_ns = told_since();
        cr_assert_geq(since_ns + 100 * CLOCK_NS_PER_MS, published_ns, "%llu us before",
                      (unsigned long long)(published_ns - since_ns) / 1000);
        ring_producer_detach(&producer);
        egress_rig_run(&rig);
        egress_rig_stop(&rig, 2000);
        egress_rig_close(&rig);
        egress_rig_remove(&rig);
}

/* With other numbers of shards, a lane's events are in another log, whose sync at the start may have failed. And who
 * has a new lane may have had another one, of another shard. */
Test(shard, a_flush_waits_for_all_logs, .timeout = 90)
{
        egress_rig_defaults(&rig);
        rig.settings.journal.durability_host = true;
        rig.shards_count = 2;
        shard.by_hand = true;
        atomic_store(&shard.sync_paused, 3);
        begin(1);
        struct ring_producer producer, fresh;
        uint32_t events = 0;
        shard_rig_attach(&shard, &producer);
        shard_rig_publish_wait(&producer, 0, 0, 100);
        while (counter(COUNTER_router_events) == 0)
                (void)shard_turn(shard.shard, &events);
        egress_rig_publish(&rig, 1, 1, 100, 0);
        shard_rig_replace_shard(&shard);
        (void)shard_turn(shard.shard, &events);
        atomic_store(&shard.sync_paused, 2);
        turn_until_durable(0);
        cr_assert_eq(ring_producer_wait(&producer, 50), ERR_TIMEOUT);
        shard_rig_attach(&shard, &fresh);
        turn_until_durable(0);
        cr_assert_eq(ring_producer_wait(&fresh, 50), ERR_TIMEOUT, "by what it had before");
        egress_rig_publish(&rig, 1, 2, 100, 0);
        atomic_store(&shard.sync_paused, 0);
        turn_until_durable(1);
        cr_assert_eq(ring_producer_wait(&producer, 50), ERR_OK);
        cr_assert_eq(ring_producer_wait(&fresh, 50), ERR_OK);

        /* From now on each is about its own log again. */
        atomic_store(&shard.sync_paused, 2);
        egress_rig_publish(&rig, 1, 3, 100, 0);
        shard_rig_publish_wait(&fresh, 0, 4, 100);
        while (counter(COUNTER_router_events) == 1)
                (void)shard_turn(shard.shard, &events);
        turn_until_durable(0);
        cr_assert_eq(ring_producer_wait(&fresh, 50), ERR_OK);
        ring_producer_detach(&producer);
        ring_producer_detach(&fresh);
        end();
}

Test(shard, a_stop_takes_what_lies_in_the_lanes, .timeout = 90)
{
        begin(1);
        struct ring_producer producers[4];
        for (uint32_t i = 0; i < 4; i++)
                shard_rig_attach(&shard, &producers[i]);
        uint32_t published = 0;
        for (uint32_t round = 0; round < 200; round++)
                for (uint32_t i = 0; i < 4; i++)
                        shard_rig_publish_wait(&producers[i], 0, published++, 500);
        shard_rig_close(&shard);
        cr_assert_eq(accepted(rig.targets[0].numbers[0]), published);
        egress_rig_run(&rig);
        cr_assert(egress_rig_wait_delivered(&rig, 0, published, 40000));
        for (uint32_t i = 0; i < 4; i++)
                ring_producer_detach(&producers[i]);
        egress_rig_stop(&rig, 1000);
        egress_rig_close(&rig);
        egress_rig_remove(&rig);
}

/* ---------------------------------------------------------------------------------------------- replayed events */

static void replay_wait(struct ring_producer *producer, const struct ring_replay *replay, uint32_t set, uint32_t id)
{
        static uint8_t event[LIMIT_EVENT_BYTES_MAX];
        size_t bytes = egress_rig_encode_to(set, id, 100, event, sizeof(event));
        enum err_code code;
        while ((code = ring_publish_replay(producer, replay, slice_of(event, bytes))) == ERR_FULL)
                clock_nap_ns(CLOCK_NS_PER_MS / 10);
        cr_assert_eq(code, ERR_OK);
}

/* What the log says of the last record: its place, and where its event comes from. */
static struct journal_record last_record(void)
{
        struct journal_reader *reader = NULL;
        struct journal_record record = {.next_position = 0}, found = {.next_position = 0};
        cr_assert_eq(journal_reader_create(rig.journals[0], &reader, NULL), ERR_OK);
        while (journal_read(reader, found.next_position, journal_committed_position(rig.journals[0]), &record) ==
               ERR_OK)
                found = record;
        journal_reader_free(reader);
        found.payload = slice_of(NULL, found.payload.len); /* not mapped any more */
        return found;
}

/* Accepted anew where it would go now, or to less: never to more. */
Test(shard, a_replayed_event_keeps_its_origin_and_goes_where_it_is_told, .timeout = 90)
{
        begin(2);
        egress_rig_run(&rig);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        struct ring_replay replay = {.lane_id = 0xabc, .lane_position = 64, .accepted_ms = 1700000000000};
        replay_wait(&producer, &replay, 0, 0);
        cr_assert(wait_counter(COUNTER_router_replayed, 1, 5000));
        cr_assert(egress_rig_wait_delivered(&rig, 0, 1, 40000));
        struct journal_record record = last_record();
        cr_assert_eq(record.entry.flags, JOURNAL_FLAG_REPLAYED);
        cr_assert_eq(record.origin.lane_id, 0xabc);
        cr_assert_eq(record.origin.lane_position, 64);
        cr_assert_eq(record.origin.accepted_ms, 1700000000000);
        cr_assert_neq(record.entry.lane_id, 0xabc, "the hand-over of its lane goes by its own");
        cr_assert_gt(record.entry.accepted_ms, 1700000000000);
        replay.destination = SLICE("file"); /* the name of the destination in every set */
        replay_wait(&producer, &replay, 0, 1);
        replay.destination = SLICE("file 0.ndjson"); /* not the plan's key, which has the whole path */
        replay_wait(&producer, &replay, 0, 99);
        char key[600];
        (void)snprintf(key, sizeof(key), "file %s/0.ndjson", rig.directory);
        replay.destination = slice_of_text(key);
        replay_wait(&producer, &replay, 0, 2);
        replay_wait(&producer, &replay, 1, 99); /* that set's is another */
        replay.destination = SLICE("other");
        replay_wait(&producer, &replay, 0, 99);
        /* The set of the first time, for an event that names none; never instead of its own. */
        replay.destination = SLICE_EMPTY;
        replay.set = SLICE("set-0");
        replay_wait(&producer, &replay, EGRESS_RIG_NO_SET, 3);
        replay_wait(&producer, &replay, 1, 0);
        /* Nothing was accepted in the future. */
        replay.accepted_ms = INT64_MAX;
        replay_wait(&producer, &replay, 0, 4);
        cr_assert(egress_rig_wait_delivered(&rig, 0, 5, 40000));
        cr_assert(egress_rig_wait_delivered(&rig, 1, 1, 40000));
        record = last_record();
        cr_assert_eq(record.origin.accepted_ms, record.entry.accepted_ms);
        cr_assert_eq(counter(COUNTER_router_replayed), 9);
        cr_assert_eq(counter(COUNTER_router_unmatched), 3);
        cr_assert_eq(accepted(rig.targets[0].numbers[0]), 5);
        check_file(0, 5);
        check_file(1, 1);
        ring_producer_detach(&producer);
        end();
}

Test(shard, a_replayed_record_that_is_malformed_is_rejected, .timeout = 90)
{
        begin(1);
        egress_rig_run(&rig);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        static uint8_t event[4096];
        size_t bytes = egress_rig_encode_to(0, 0, 0, event, sizeof(event));
        struct ring_replay replay = {.destination = SLICE("file"), .set = SLICE("set-0")};
        for (unsigned at = 24; at < 32; at++) {
                /* Written while the shard looks elsewhere: before it is published. */
                uint8_t *record = producer.data + (producer.staged & (producer.lane_bytes - 1));
                uint64_t header = (uint64_t)RING_KIND_REPLAY << 32 | (32 + 9 + bytes);
                struct ring_replay_head head = {.destination_bytes = 4, .set_bytes = 5};
                uint8_t *payload = NULL;
                cr_assert_eq(ring_reserve(&producer, 32 + 9 + (uint32_t)bytes, &payload), ERR_OK);
                memcpy(payload, &head, sizeof(head));
                memcpy(payload + 32, "fileset-0", 9);
                memcpy(payload + 41, event, bytes);
                payload[at] = 0xff;
                cr_assert_eq(ring_stage(&producer, 32 + 9 + (uint32_t)bytes), ERR_OK);
                memcpy(record, &header, sizeof(header));
                cr_assert_eq(ring_publish_staged(&producer), ERR_OK);
        }
        replay_wait(&producer, &replay, 0, 0);
        cr_assert(egress_rig_wait_delivered(&rig, 0, 1, 40000));
        cr_assert_eq(counter(COUNTER_router_rejected), 8);
        cr_assert_eq(accepted(shard.rejected), 8);
        cr_assert_eq(counter(COUNTER_lanes_violations), 0);
        check_file(0, 1);
        ring_producer_detach(&producer);
        end();
}

/* ---------------------------------------------------------------------------------------------- several logs */

#define MIXED 60u

/* Of a log as a kill would leave it now: which lane positions its records carry. */
static void note_positions(uint32_t log, bool seen[MIXED + 1], const uint64_t positions[MIXED], uint64_t *largest)
{
        char from[400], image[400];
        struct journal *journal = NULL;
        struct journal_reader *reader;
        (void)snprintf(from, sizeof(from), "%s/%u", rig.directory, log);
        (void)snprintf(image, sizeof(image), "%s/image", rig.directory);
        journal_files_copy(from, image);
        const struct journal_options options = {
                .directory = image,
                .segment_bytes = LIMIT_SEGMENT_BYTES_MIN,
                .size_bytes_max = rig.journal_bytes_max,
                .segments_mapped_max = 8,
        };
        cr_assert_eq(journal_open(&options, &journal, NULL, NULL), ERR_OK);
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        struct journal_record record = {.next_position = journal_oldest_position(journal)};
        uint64_t limit = journal_committed_position(journal);
        while (journal_read(reader, record.next_position, limit, &record) == ERR_OK) {
                *largest = record.entry.lane_position > *largest ? record.entry.lane_position : *largest;
                for (uint32_t i = 0; i < MIXED; i++)
                        seen[i] |= positions[i] == record.entry.lane_position;
        }
        journal_reader_free(reader);
        journal_close(journal);
        journal_files_remove(image);
}

/* A kill between the visit that loses a page of one log and the next visit: where the next router begins, everything
 * before is in one of the logs. Malformed events go to the log of all types, Sends to their own. */
Test(shard, a_page_lost_in_one_of_two_logs_skips_no_event, .timeout = 90)
{
        static const struct egress_log logs[] = {{.id = 0}, {.id = 144, .type = SENDRING_SEND}};
        unsigned refused = 0;
        for (uint32_t cut = 0; cut < 8; cut++) {
                struct ring_producer producer;
                uint64_t positions[MIXED], largest = 0;
                bool seen[MIXED + 1] = {false};
                uint32_t events = 0;
                char path[400];
                rig = (struct egress_rig){0};
                shard = (struct shard_rig){.by_hand = true};
                egress_rig_defaults(&rig);
                rig.shards_count = 2;
                rig.logs = logs;
                begin(1);
                shard_rig_attach(&shard, &producer);
                for (uint32_t i = 0; i < MIXED; i++) {
                        uint8_t *payload = NULL;
                        if (i % 3 != 0) {
                                cr_assert_eq(ring_reserve(&producer, 64, &payload), ERR_OK);
                                memset(payload, 0xc1, 64); /* never used by msgpack */
                                cr_assert_eq(ring_commit(&producer, 64), ERR_OK);
                        } else {
                                cr_assert_eq(shard_rig_publish(&producer, 0, i, 500), ERR_OK);
                        }
                        positions[i] = ring_producer_used_bytes(&producer); /* nothing was taken yet */
                }
                (void)snprintf(path, sizeof(path), "%s/%u/0000000000000000.segment", rig.directory, cut % 2);
                cr_assert_eq(truncate(path, (off_t)(4096 * (1 + cut % 2 + cut / 2))), 0);
                while (events == 0 && counter(COUNTER_journal_segments_given_up) == 0)
                        cr_assert(shard_turn(shard.shard, &events));
                refused += counter(COUNTER_journal_segments_given_up) == 1;
                note_positions(0, seen, positions, &largest);
                note_positions(1, seen, positions, &largest);
                for (uint32_t i = 0; i < MIXED && positions[i] <= largest; i++)
                        cr_assert(seen[i], "cut %u: event %u is behind the position, and in no log", cut, i);
                uint64_t deadline_ns = clock_monotonic_ns() + 10 * CLOCK_NS_PER_S;
                while (counter(COUNTER_router_events) < MIXED) {
                        cr_assert(shard_turn(shard.shard, &events));
                        cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                }
                note_positions(0, seen, positions, &largest);
                note_positions(1, seen, positions, &largest);
                for (uint32_t i = 0; i < MIXED; i++)
                        cr_assert(seen[i], "cut %u: event %u", cut, i);
                ring_producer_detach(&producer);
                end();
        }
        cr_assert_geq(refused, 4, "%u", refused);
}
