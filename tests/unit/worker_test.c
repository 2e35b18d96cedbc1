#include "egress/worker_internal.h"

#include "tests/support/worker_rig.h"

/* ---------------------------------------------------------------------------------------------- file targets */

Test(worker, a_file_gets_every_event_once_in_order, .timeout = 90)
{
        rig_begin();
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_file(&rig, "a.ndjson", 0);
        egress_rig_run(&rig);
        publish_many(0, 0, 5000, 600, target);
        cr_assert(egress_rig_wait_delivered(&rig, target, 5000, 40000));
        uint32_t count = 0;
        uint32_t *ids = egress_rig_read_file(&rig, target, &count);
        check_sequence(ids, count, 5000);
        free(ids);
        check_balanced(0, target, 0);
        cr_assert_eq(counter(COUNTER_egress_delivered), 5000);
        cr_assert_eq(atomic_load(&rig.targets[target].row->status), COUNTERS_TARGET_OK);
        rig_end();
}

/* The name has room for itself, and not for a time behind it. */
Test(worker, a_rotation_that_fails_is_counted, .timeout = 90)
{
        char name[241];
        memset(name, 'x', sizeof(name));
        name[sizeof(name) - 1] = '\0';
        rig_begin();
        egress_rig_open(&rig);
        rig.rotate_bytes = 4096;
        uint32_t target = egress_rig_add_file(&rig, name, 0);
        egress_rig_run(&rig);
        for (uint32_t i = 0; i < 20; i++) {
                publish_many(0, i * 50, (i + 1) * 50, 600, target);
                cr_assert(egress_rig_wait_delivered(&rig, target, (i + 1) * 50, 40000));
        }
        uint64_t until_ns = clock_monotonic_ns() + 10 * CLOCK_NS_PER_S;
        while (counter(COUNTER_egress_rotation_failures) < 19 && clock_monotonic_ns() < until_ns)
                clock_sleep_ns(10 * CLOCK_NS_PER_MS); /* a tick */
        cr_assert_geq(counter(COUNTER_egress_rotation_failures), 19);
        check_balanced(0, target, 0);
        rig_end();
}

Test(worker, a_target_routed_twice_gets_two_copies, .timeout = 90)
{
        rig_begin();
        egress_rig_open(&rig);
        uint32_t twice = egress_rig_add_file(&rig, "twice.ndjson", 0),
                 once = egress_rig_add_file(&rig, "once.ndjson", 0);
        egress_rig_run(&rig);
        const uint32_t routes[] = {twice, once, twice};
        for (uint32_t id = 0; id < 2000; id++) {
                /* Large ones: copies of one event are cut by full batches, and the target lags between them. */
                size_t bytes = egress_rig_encode(id, id % 10 == 0 ? 120000 : 100, rig.event, sizeof(rig.event));
                egress_rig_append(&rig, 0, rig.event, bytes, routes, 3, clock_realtime_ms());
                egress_rig_offer(&rig, 0, false);
        }
        cr_assert(egress_rig_wait_delivered(&rig, twice, 4000, 40000));
        cr_assert(egress_rig_wait_delivered(&rig, once, 2000, 40000));
        uint32_t count = 0;
        uint32_t *ids = egress_rig_read_file(&rig, twice, &count);
        cr_assert_eq(count, 4000);
        for (uint32_t i = 0; i < count; i++)
                cr_assert_eq(ids[i], i / 2);
        free(ids);
        ids = egress_rig_read_file(&rig, once, &count);
        check_sequence(ids, count, 2000);
        free(ids);
        check_balanced(0, twice, 0);
        check_balanced(0, once, 0);
        rig_end();
}

Test(worker, what_was_there_before_the_start_is_delivered, .timeout = 90)
{
        rig_begin();
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_file(&rig, "a.ndjson", 0);
        publish_many(0, 0, 3000, 600, target); /* nobody runs yet: only the journal has them */
        check_balanced(0, target, 3000);
        egress_rig_close(&rig);
        egress_rig_open(&rig);
        target = egress_rig_add_file(&rig, "a.ndjson", 0);
        egress_rig_run(&rig);
        cr_assert(egress_rig_wait_delivered(&rig, target, 3000, 40000));
        publish_many(0, 3000, 4000, 600, target);
        cr_assert(egress_rig_wait_delivered(&rig, target, 4000, 40000));
        uint32_t count = 0;
        uint32_t *ids = egress_rig_read_file(&rig, target, &count);
        check_sequence(ids, count, 4000);
        free(ids);
        rig_end();
}

Test(worker, two_workers_and_two_shards_deliver_each_their_own, .timeout = 90)
{
        rig_begin();
        rig.shards_count = 2;
        rig.workers_count = 2;
        egress_rig_open(&rig);
        /* One journal knows another target from before: the numbers of one target differ. */
        uint16_t other;
        struct err err;
        cr_assert_eq(journal_target_register(rig.journals[1], SLICE("file /gone"), &other, &err), ERR_OK);
        journal_target_retire(rig.journals[1], other);
        uint32_t a = egress_rig_add_file(&rig, "a.ndjson", 0), b = egress_rig_add_file(&rig, "b.ndjson", 1);
        cr_assert_neq(rig.targets[a].numbers[0], rig.targets[a].numbers[1]);
        egress_rig_run(&rig);
        for (uint32_t id = 0; id < 4000; id++)
                egress_rig_publish(&rig, id % 2, id, 300, id % 3 == 0 ? a : b);
        cr_assert(egress_rig_wait_delivered(&rig, a, 1334, 40000));
        cr_assert(egress_rig_wait_delivered(&rig, b, 2666, 40000));
        uint32_t count = 0;
        uint32_t *ids = egress_rig_read_file(&rig, a, &count);
        uint32_t last[2] = {0, 0};
        cr_assert_eq(count, 1334);
        for (uint32_t i = 0; i < count; i++) {
                cr_assert_eq(ids[i] % 3, 0);
                cr_assert_geq(ids[i], last[ids[i] % 2]); /* in order of each shard */
                last[ids[i] % 2] = ids[i];
        }
        free(ids);
        for (uint32_t shard = 0; shard < 2; shard++) {
                check_balanced(shard, a, 0);
                check_balanced(shard, b, 0);
        }
        rig_end();
}

/* ---------------------------------------------------------------------------------------------- Firehose */

Test(worker, firehose_gets_every_event_once_in_order, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.in_flight_max = 1;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 5000, 600, target);
        cr_assert(egress_rig_wait_delivered(&rig, target, 5000, 40000));
        check_sequence(stream->ids, firehose_peer_count(&peer, stream), 5000);
        check_balanced(0, target, 0);
        rig_end();
}

Test(worker, a_lagging_target_catches_up_and_takes_live_again, .timeout = 90)
{
        rig_begin();
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        atomic_store(&stream->delay_ms, 50);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 30000, 600, target); /* 20 MB of bodies: more than five batches hold */
        cr_assert(egress_rig_wait_delivered(&rig, target, 30000, 40000));
        cr_assert_gt(counter(COUNTER_egress_lagging_reads), 1000);
        check_set(stream->ids, firehose_peer_count(&peer, stream), 30000);
        atomic_store(&stream->delay_ms, 0);
        /* Live again: nothing more is read back. */
        clock_sleep_ns(700 * CLOCK_NS_PER_MS);
        uint64_t before = counter(COUNTER_egress_lagging_reads);
        for (uint32_t id = 30000; id < 30050; id++) {
                egress_rig_publish(&rig, 0, id, 600, target);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        cr_assert(egress_rig_wait_delivered(&rig, target, 30050, 40000));
        cr_assert_eq(counter(COUNTER_egress_lagging_reads), before);
        check_set(stream->ids, firehose_peer_count(&peer, stream), 30050);
        check_balanced(0, target, 0);
        rig_end();
}

Test(worker, a_partial_failure_resends_exactly_the_refused_records, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.in_flight_max = 1;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        atomic_store(&stream->always, FIREHOSE_PEER_PARTIAL);
        firehose_peer_script(stream, FIREHOSE_PEER_PARTIAL);
        firehose_peer_script(stream, FIREHOSE_PEER_503); /* a whole failure between: nothing is refused twice by it */
        firehose_peer_script(stream, FIREHOSE_PEER_REFUSE_ALL);
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_firehose(&rig, "mail", false, 0);
        publish_many(0, 0, 1000, 100, target);
        egress_rig_run(&rig);
        clock_sleep_ns(300 * CLOCK_NS_PER_MS);
        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
        cr_assert(egress_rig_wait_delivered(&rig, target, 1000, 40000));
        check_set(stream->ids, firehose_peer_count(&peer, stream), 1000);
        cr_assert_gt(stream->refused, 300);
        cr_assert_eq(counter(COUNTER_egress_entries_refused), stream->refused);
        cr_assert_eq(counter(COUNTER_egress_entries_resent), stream->refused);
        cr_assert_eq(counter(COUNTER_egress_requests_failed), 2, "the 503, and the one of which nothing was taken");
        cr_assert_eq(atomic_load(&rig.targets[target].row->entries_resent), stream->refused);
        /* In order: what was refused of a request stays before what comes later, and keeps its order. */
        uint32_t rises = 0;
        for (uint32_t i = 1; i < stream->count; i++)
                rises += stream->ids[i] > stream->ids[i - 1];
        cr_assert_gt(rises, stream->count - stream->requests - 1);
        check_balanced(0, target, 0);
        rig_end();
}

/* A copy of the journal at any instant, opened again: everything not yet delivered is delivered then, and what was in
 * flight at most comes twice. */
Test(worker, the_cursor_never_passes_an_unsettled_event, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.batch_bytes_max = 1400000;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        atomic_store(&stream->always, FIREHOSE_PEER_PARTIAL);
        atomic_store(&stream->delay_ms, 5);
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_firehose(&rig, "mail", false, 0);
        egress_rig_run(&rig);
        uint8_t *acknowledged = calloc(6000, 1);
        char images[6][300];
        uint32_t counts[6];
        for (uint32_t i = 0; i < 6; i++) {
                publish_many(0, i * 1000, i * 1000 + 1000, 200, target);
                clock_sleep_ns(20 * CLOCK_NS_PER_MS);
                /* First the journal, then what the peer has: whatever the copy holds as delivered, the peer knew. */
                char from[300];
                (void)snprintf(from, sizeof(from), "%s/0", rig.directory);
                (void)snprintf(images[i], sizeof(images[i]), "%s/image-%u", rig.directory, i);
                cr_assert_eq(mkdir(images[i], 0700), 0);
                char to[320];
                (void)snprintf(to, sizeof(to), "%.299s/0", images[i]);
                journal_files_copy(from, to);
                counts[i] = firehose_peer_count(&peer, stream);
        }
        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
        cr_assert(egress_rig_wait_delivered(&rig, target, 6000, 40000));
        uint32_t *first = malloc(6000 * sizeof(*first));
        uint32_t first_count = firehose_peer_count(&peer, stream);
        check_set(stream->ids, first_count, 6000);
        memcpy(first, stream->ids, first_count * sizeof(*first));
        char directory[256];
        memcpy(directory, rig.directory, sizeof(directory));
        egress_rig_stop(&rig, 0);
        egress_rig_close(&rig);

        atomic_store(&stream->delay_ms, 0);
        for (uint32_t i = 0; i < 6; i++) {
                (void)snprintf(rig.directory, sizeof(rig.directory), "%.250s", images[i]);
                egress_rig_open(&rig);
                uint32_t before = firehose_peer_count(&peer, stream);
                target = egress_rig_add_firehose(&rig, "mail", false, 0);
                struct journal_target_state state = egress_rig_state(&rig, 0, target);
                egress_rig_run(&rig);
                cr_assert(egress_rig_wait_delivered(&rig, target, state.accepted, 40000));
                memset(acknowledged, 0, 6000);
                for (uint32_t k = 0; k < counts[i]; k++)
                        acknowledged[first[k]] = 1;
                for (uint32_t k = before; k < firehose_peer_count(&peer, stream); k++)
                        acknowledged[stream->ids[k]] = 1;
                for (uint32_t id = 0; id < i * 1000 + 1000; id++)
                        cr_assert_eq(acknowledged[id], 1, "image %u: event %u is lost", i, id);
                check_balanced(0, target, 0);
                egress_rig_stop(&rig, 1000);
                egress_rig_close(&rig);
        }
        free(first);
        free(acknowledged);
        memcpy(rig.directory, directory, sizeof(directory));
        egress_rig_remove(&rig);
        firehose_peer_stop(&peer);
}

/* ---------------------------------------------------------------------------------------------- what cannot go */

Test(worker, events_above_the_age_limit_expire_and_are_counted, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.event_age_max_s = 60;
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_file(&rig, "a.ndjson", 0);
        egress_rig_run(&rig);
        for (uint32_t id = 0; id < 100; id++) {
                size_t bytes = egress_rig_encode(id, 0, rig.event, sizeof(rig.event));
                egress_rig_append(&rig, 0, rig.event, bytes, &target, 1,
                                  clock_realtime_ms() - (id % 2 == 0 ? 120 * 1000 : 0));
                egress_rig_offer(&rig, 0, false);
        }
        cr_assert(egress_rig_wait_delivered(&rig, target, 50, 40000));
        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        cr_assert_eq(egress_rig_state(&rig, 0, target).expired, 50);
        check_balanced(0, target, 0);
        uint32_t count = 0;
        uint32_t *ids = egress_rig_read_file(&rig, target, &count);
        cr_assert_eq(count, 50);
        for (uint32_t i = 0; i < count; i++)
                cr_assert_eq(ids[i] % 2, 1);
        free(ids);
        rig_end();
}

/* Control characters grow sixfold in JSON: to 720 KB, 960 in base64. */
#define GROWING_BODY_BYTES (512 * 1024)
static size_t encode_growing(uint32_t id, uint8_t *out, size_t out_bytes)
{
        size_t bytes = egress_rig_encode(id, 120000, out, out_bytes);
        for (size_t i = 0; i + 8 < bytes; i++)
                if (memcmp(out + i, "xxxxxxxx", 8) == 0)
                        for (; out[i] == 'x'; i++)
                                out[i] = 1;
        return bytes;
}

/* With settings as they are by default nothing that a lane takes becomes a dead letter for its size. */
Test(worker, the_largest_event_that_grows_most_is_delivered, .timeout = 90)
{
        rig_begin();
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        uint32_t target = rig_open_stream();
        for (uint32_t id = 0; id < 3; id++) {
                size_t bytes = egress_rig_encode(id, 0, rig.event, sizeof(rig.event));
                size_t left = sizeof(rig.event) - bytes - 7;
                rig.event[0]++; /* an unknown member more, a text of all that is left */
                memcpy(rig.event + bytes, "\xa1x\xdb", 3);
                rig.event[bytes + 3] = 0;
                rig.event[bytes + 4] = (uint8_t)(left >> 16);
                rig.event[bytes + 5] = (uint8_t)(left >> 8);
                rig.event[bytes + 6] = (uint8_t)left;
                memset(rig.event + bytes + 7, 1, left);
                egress_rig_append(&rig, 0, rig.event, sizeof(rig.event), &target, 1, clock_realtime_ms());
        }
        egress_rig_offer(&rig, 0, false);
        cr_assert(egress_rig_wait_delivered(&rig, target, 3, 40000));
        cr_assert_eq(firehose_peer_count(&peer, stream), 3);
        cr_assert_eq(counter(COUNTER_egress_dead_lettered), 0);
        cr_assert_gt(counter(COUNTER_egress_json_bytes), UINT64_C(3) * 6 * (LIMIT_EVENT_BYTES_MAX - 1000));
        check_balanced(0, target, 0);
        rig_end();
}

Test(worker, an_event_that_fits_no_request_goes_to_the_dead_letter_file, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.batch_bytes_max = GROWING_BODY_BYTES;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        uint32_t target = rig_open_stream();
        for (uint32_t id = 0; id < 10; id++) {
                size_t bytes = id == 5 ? encode_growing(id, rig.event, sizeof(rig.event))
                                       : egress_rig_encode(id, 100, rig.event, sizeof(rig.event));
                egress_rig_append(&rig, 0, rig.event, bytes, &target, 1, clock_realtime_ms());
        }
        egress_rig_offer(&rig, 0, false);
        cr_assert(egress_rig_wait_delivered(&rig, target, 9, 40000));
        cr_assert_eq(firehose_peer_count(&peer, stream), 9);
        cr_assert_eq(egress_rig_state(&rig, 0, target).dead_lettered, 1);
        cr_assert_eq(counter(COUNTER_egress_dead_lettered), 1);
        check_balanced(0, target, 0);
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/worker-0-1.ndjson", rig.dead_letters);
        json_error_t error;
        json_t *line = json_load_file(path, 0, &error);
        cr_assert_not_null(line, "%s", error.text);
        cr_assert_str_eq(json_string_value(json_object_get(line, "target")), "firehose mail");
        cr_assert_str_eq(json_string_value(
                                 json_object_get(json_object_get(json_object_get(line, "event"), "mail"), "messageId")),
                         "id-00000005");
        json_decref(line);
        rig_end();
}

Test(worker, a_dead_letter_that_cannot_be_written_waits, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.batch_bytes_max = GROWING_BODY_BYTES;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        egress_rig_open(&rig);
        FILE *obstacle = fopen(rig.dead_letters, "w"); /* where the directory should be */
        cr_assert_not_null(obstacle);
        (void)fclose(obstacle);
        uint32_t target = egress_rig_add_firehose(&rig, "mail", true, 0);
        egress_rig_run(&rig);
        for (uint32_t id = 0; id < 10; id++) {
                size_t bytes = id == 5 ? encode_growing(id, rig.event, sizeof(rig.event))
                                       : egress_rig_encode(id, 100, rig.event, sizeof(rig.event));
                egress_rig_append(&rig, 0, rig.event, bytes, &target, 1, clock_realtime_ms());
        }
        egress_rig_offer(&rig, 0, false);
        cr_assert(egress_rig_wait_delivered(&rig, target, 5, 40000), "what came before it");
        uint64_t turns = counter(COUNTER_egress_turns);
        clock_sleep_ns(1200 * CLOCK_NS_PER_MS);
        cr_assert_lt(counter(COUNTER_egress_turns) - turns, 1000, "and the worker does not spin: %u turns",
                     (unsigned)(counter(COUNTER_egress_turns) - turns));
        cr_assert_eq(egress_rig_state(&rig, 0, target).dead_lettered, 0);
        cr_assert_eq(atomic_load(&rig.targets[target].row->status), COUNTERS_TARGET_HELD);
        check_balanced(0, target, 5);
        cr_assert_eq(unlink(rig.dead_letters), 0);
        cr_assert(egress_rig_wait_delivered(&rig, target, 9, 40000));
        cr_assert_eq(firehose_peer_count(&peer, stream), 9);
        cr_assert_eq(egress_rig_state(&rig, 0, target).dead_lettered, 1);
        cr_assert_eq(counter(COUNTER_egress_dead_lettered), 1);
        cr_assert_eq(atomic_load(&rig.targets[target].row->status), COUNTERS_TARGET_OK);
        check_balanced(0, target, 0);
        rig_end();
}

Test(worker, copies_cut_by_a_full_batch_keep_the_ledger_right, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.in_flight_max = 1;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        firehose_peer_script(stream, FIREHOSE_PEER_ACCEPT);
        firehose_peer_script(stream, FIREHOSE_PEER_SILENT);
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_firehose(&rig, "mail", true, 0);
        const uint32_t routes[] = {target, target};
        for (uint32_t id = 0; id < 20; id++) {
                /* Thirteen copies fill a batch: six events and a half. */
                size_t bytes = egress_rig_encode(id, 120000, rig.event, sizeof(rig.event));
                egress_rig_append(&rig, 0, rig.event, bytes, routes, 2, clock_realtime_ms());
        }
        egress_rig_offer(&rig, 0, false);
        egress_rig_run(&rig);
        uint64_t deadline_ns = clock_monotonic_ns() + 5 * CLOCK_NS_PER_S;
        while (firehose_peer_requests(&peer, stream) < 2 && clock_monotonic_ns() < deadline_ns)
                clock_sleep_ns(CLOCK_NS_PER_MS);
        cr_assert_eq(firehose_peer_count(&peer, stream) % 2, 1, "no copies were cut: the sizes are wrong");
        check_balanced(0, target, 40 - firehose_peer_count(&peer, stream) / 2 * 2);
        rig_end();
}

Test(worker, a_stuck_target_holds_only_the_log_of_its_own_shard, .timeout = 90)
{
        rig_begin();
        rig.shards_count = 2;
        rig.journal_bytes_max = 8 * LIMIT_SEGMENT_BYTES_MIN;
        rig.settings.egress.request_timeout_ms = 60000;
        peer_begin();
        struct firehose_peer_stream *hole = firehose_peer_stream(&peer, "hole");
        atomic_store(&hole->always, FIREHOSE_PEER_SILENT);
        egress_rig_open(&rig);
        uint32_t stuck = egress_rig_add_firehose(&rig, "hole", true, 0),
                 good = egress_rig_add_file(&rig, "a.ndjson", 0);
        egress_rig_publish(&rig, 1, 100000, 100, stuck);
        publish_many(0, 0, 1000, 600, good); /* before the start: read back, from the first segment */
        egress_rig_run(&rig);
        publish_many(0, 1000, 40000, 600, good); /* three times what the journal may hold */
        cr_assert(egress_rig_wait_delivered(&rig, good, 40000, 40000));
        egress_rig_stop(&rig, 0);
        check_balanced(0, stuck, 0);
        check_balanced(1, stuck, 1);
        check_balanced(0, good, 0);
        rig_end();
}

Test(worker, what_was_shed_of_an_earlier_target_is_not_delivered, .timeout = 90)
{
        rig_begin();
        egress_rig_open(&rig);
        /* A target by hand, as of an earlier plan; more records than the worker walks in one turn. */
        uint16_t number;
        struct err err;
        cr_assert_eq(journal_target_register(rig.journals[0], SLICE("file a.ndjson"), &number, &err), ERR_OK);
        rig.targets[0].numbers[0] = number;
        publish_many(0, 0, 6000, 100, 0);
        journal_target_retire(rig.journals[0], number);
        uint32_t target = egress_rig_add_file(&rig, "a.ndjson", 0);
        cr_assert_eq(rig.targets[target].numbers[0], number);
        egress_rig_run(&rig);
        publish_many(0, 6000, 6010, 100, target);
        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        egress_rig_offer(&rig, 0, true); /* the ring was full: what was not offered is now */
        bool delivered = egress_rig_wait_delivered(&rig, target, 10, 40000);
        struct journal_target_state state = egress_rig_state(&rig, 0, target);
        cr_assert(delivered, "%llu delivered, %llu shed", (unsigned long long)state.delivered,
                  (unsigned long long)state.shed);
        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, 10);
        cr_assert_eq(egress_rig_state(&rig, 0, target).shed, 6000);
        check_balanced(0, target, 0);
        rig_end();
}

Test(worker, a_log_recycled_under_the_live_feed_is_passed, .timeout = 90)
{
        rig_begin();
        egress_rig_open(&rig);
        uint16_t number;
        struct err err;
        cr_assert_eq(journal_target_register(rig.journals[0], SLICE("file a.ndjson"), &number, &err), ERR_OK);
        rig.targets[0].numbers[0] = number;
        publish_many(0, 0, 12000, 1000, 0);
        journal_target_retire(rig.journals[0], number);
        cr_assert_eq(journal_maintain(rig.journals[0], &err), ERR_OK);
        struct journal_stats stats;
        journal_get_stats(rig.journals[0], &stats);
        cr_assert_leq(stats.segments, 8, "%llu segments are left", (unsigned long long)stats.segments);
        uint32_t target = egress_rig_add_file(&rig, "a.ndjson", 0);
        egress_rig_run(&rig);
        publish_many(0, 12000, 12010, 100, target);
        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        egress_rig_offer(&rig, 0, true);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 40000));
        check_balanced(0, target, 0);
        rig_end();
}

/* ---------------------------------------------------------------------------------------------- stopping */

Test(worker, a_stop_delivers_what_lingers, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.linger_ms = 60000;
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_file(&rig, "a.ndjson", 0);
        egress_rig_run(&rig);
        publish_many(0, 0, 100, 100, target);
        clock_sleep_ns(200 * CLOCK_NS_PER_MS);
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, 0);
        uint64_t begun_ns = clock_monotonic_ns();
        egress_rig_stop(&rig, 5000);
        cr_assert_lt(clock_monotonic_ns() - begun_ns, 2 * CLOCK_NS_PER_S);
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, 100);
        rig_end();
}

Test(worker, the_deadline_of_a_stop_keeps_the_rest, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.request_timeout_ms = 60000;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        atomic_store(&stream->always, FIREHOSE_PEER_SILENT);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 100, 100, target);
        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        uint64_t begun_ns = clock_monotonic_ns();
        egress_rig_stop(&rig, 300);
        uint64_t took_ns = clock_monotonic_ns() - begun_ns;
        cr_assert(took_ns > 250 * CLOCK_NS_PER_MS && took_ns < 2 * CLOCK_NS_PER_S, "%llu", (unsigned long long)took_ns);
        check_balanced(0, target, 100);
        egress_rig_close(&rig);
        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
        egress_rig_open(&rig);
        target = egress_rig_add_firehose(&rig, "mail", true, 0);
        egress_rig_run(&rig);
        cr_assert(egress_rig_wait_delivered(&rig, target, 100, 40000));
        check_set(stream->ids, firehose_peer_count(&peer, stream), 100);
        rig_end();
}

static bool target_is_gone(void *context)
{
        return egress_target_is_gone(rig.targets[*(uint32_t *)context].target);
}

Test(worker, a_removed_target_delivers_what_waits_and_goes, .timeout = 90)
{
        rig_begin();
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_file(&rig, "a.ndjson", 0), other = egress_rig_add_file(&rig, "b.ndjson", 0);
        egress_rig_run(&rig);
        publish_many(0, 0, 1000, 600, target);
        cr_assert(egress_worker_remove_target(rig.workers[0], rig.targets[target].target));
        /* Life goes on for the others, whose ranges also tell this one how far the log is. */
        publish_many(0, 1000, 1100, 600, other);
        cr_assert(wait_until(target_is_gone, &target, 5000));
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, 1000);
        journal_target_retire(rig.journals[0], rig.targets[target].numbers[0]);
        egress_target_free(rig.targets[target].target);
        check_balanced(0, target, 0);
        cr_assert(egress_rig_wait_delivered(&rig, other, 100, 40000));
        rig_end();
}

Test(worker, a_removal_is_taken_back_or_comes_to_its_end, .timeout = 90)
{
        rig_begin();
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        atomic_store(&stream->always, FIREHOSE_PEER_503);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 100, 100, target);
        cr_assert(egress_worker_remove_target(rig.workers[0], rig.targets[target].target));
        uint32_t status = COUNTERS_TARGET_REMOVED;
        cr_assert(wait_until(status_is, &status, 3000));
        cr_assert(egress_target_keep(rig.targets[target].target));
        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
        cr_assert(egress_rig_wait_delivered(&rig, target, 100, 40000));
        clock_sleep_ns(1200 * CLOCK_NS_PER_MS); /* two ticks: it would be gone */
        cr_assert_not(egress_target_is_gone(rig.targets[target].target));
        publish_many(0, 100, 200, 100, target);
        cr_assert(egress_rig_wait_delivered(&rig, target, 200, 40000));
        status = COUNTERS_TARGET_OK;
        cr_assert(wait_until(status_is, &status, 3000));
        cr_assert(egress_worker_remove_target(rig.workers[0], rig.targets[target].target));
        cr_assert(wait_until(target_is_gone, &target, 5000));
        cr_assert_not(egress_target_keep(rig.targets[target].target));
        egress_target_free(rig.targets[target].target);
        check_balanced(0, target, 0);
        rig_end();
}

/* Its worker has the order of the first removal, and the second one's is on its way. One thread is both. */
Test(worker, a_removal_after_one_that_was_taken_back_loses_nothing, .timeout = 90)
{
        struct egress_order order;
        rig_begin();
        egress_rig_open(&rig);
        struct egress_worker *worker = rig.workers[0];
        uint32_t target = egress_rig_add_file(&rig, "a.ndjson", 0);
        struct egress_target *own = rig.targets[target].target;
        publish_many(0, 0, 10, 600, target);
        while (egress_rig_state(&rig, 0, target).delivered < 10)
                cr_assert(egress_worker_turn(worker));
        worker->tick_ns = UINT64_MAX;
        cr_assert(egress_worker_remove_target(worker, own));
        cr_assert(egress_worker_turn(worker));
        cr_assert(own->remove_at_known);
        cr_assert(egress_target_keep(own));
        size_t bytes = egress_rig_encode(10, 600, rig.event, sizeof(rig.event));
        egress_rig_append(&rig, 0, rig.event, bytes, &target, 1, clock_realtime_ms()); /* offered below */
        cr_assert(egress_worker_remove_target(worker, own));
        cr_assert_eq(rte_ring_sc_dequeue_elem(worker->inbox, &order, sizeof(order)), 0);
        worker->tick_ns = 0;
        cr_assert(egress_worker_turn(worker));
        cr_assert_not(egress_target_is_gone(own), "an event waits");
        cr_assert_eq(rte_ring_sp_enqueue_elem(worker->inbox, &order, sizeof(order)), 0);
        egress_rig_offer(&rig, 0, false);
        while (!egress_target_is_gone(own)) {
                worker->tick_ns = 0;
                cr_assert(egress_worker_turn(worker));
        }
        cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, 11);
        egress_target_free(own);
        rig_end();
}

Test(worker, a_removed_target_without_credentials_keeps_what_waits, .timeout = 90)
{
        rig_begin();
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        egress_rig_open(&rig);
        atomic_store(&rig.credentials.current, NULL);
        uint32_t target = egress_rig_add_firehose(&rig, "mail", true, 0);
        egress_rig_run(&rig);
        publish_many(0, 0, 100, 100, target);
        uint32_t status = COUNTERS_TARGET_PARKED;
        cr_assert(wait_until(status_is, &status, 5000));
        cr_assert(egress_worker_remove_target(rig.workers[0], rig.targets[target].target));
        clock_sleep_ns(1700 * CLOCK_NS_PER_MS); /* three ticks */
        cr_assert_not(egress_target_is_gone(rig.targets[target].target));
        check_balanced(0, target, 100);
        atomic_store(&rig.credentials.current, &rig.keys);
        cr_assert(egress_rig_wait_delivered(&rig, target, 100, 10000));
        cr_assert(wait_until(target_is_gone, &target, 5000));
        cr_assert_eq(firehose_peer_count(&peer, stream), 100);
        egress_target_free(rig.targets[target].target);
        rig_end();
}

Test(worker, a_removed_target_is_given_up_only_when_it_is_refused_again, .timeout = 90)
{
        for (uint32_t mended = 0; mended < 2; mended++) {
                memset(&rig, 0, sizeof(rig));
                memset(&peer, 0, sizeof(peer));
                rig_begin();
                rig.settings.egress.retry_max_ms = 60000; /* a parked one is not probed by itself in this test */
                peer_begin();
                struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
                atomic_store(&stream->always, FIREHOSE_PEER_NOT_FOUND);
                egress_rig_open(&rig);
                uint32_t target = egress_rig_add_firehose(&rig, "mail", true, 0);
                egress_rig_run(&rig);
                publish_many(0, 0, 100, 100, target);
                uint32_t status = COUNTERS_TARGET_PARKED;
                cr_assert(wait_until(status_is, &status, 5000));
                if (mended)
                        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
                cr_assert(egress_worker_remove_target(rig.workers[0], rig.targets[target].target));
                cr_assert(wait_until(target_is_gone, &target, 5000));
                cr_assert_eq(firehose_peer_requests(&peer, stream), 2, "asked once more");
                cr_assert_eq(egress_rig_state(&rig, 0, target).delivered, mended ? 100 : 0);
                egress_target_free(rig.targets[target].target);
                rig_end();
        }
}

/* ---------------------------------------------------------------------------------------------- bulkheads */

static int compare_u64(const void *a, const void *b)
{
        uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
        return left < right ? -1 : left > right;
}

/* 20 ms of linger; the rest is this machine, which may be away for a while, but not for nearly as long as a request of
 * the hole's. */
static void check_prompt(uint64_t took_ns[20])
{
        qsort(took_ns, 20, sizeof(took_ns[0]), compare_u64);
        cr_assert_lt(took_ns[14], 120 * CLOCK_NS_PER_MS, "%llu ms",
                     (unsigned long long)(took_ns[14] / CLOCK_NS_PER_MS));
        cr_assert_lt(took_ns[19], CLOCK_NS_PER_S, "%llu ms", (unsigned long long)(took_ns[19] / CLOCK_NS_PER_MS));
}

Test(worker, a_black_hole_does_not_delay_the_others, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.request_timeout_ms = 2000;
        rig.settings.egress.retry_base_ms = 1000;
        rig.settings.egress.retry_max_ms = 20000;
        peer_begin();
        struct firehose_peer_stream *hole = firehose_peer_stream(&peer, "hole");
        struct firehose_peer_stream *good = firehose_peer_stream(&peer, "good");
        atomic_store(&hole->always, FIREHOSE_PEER_SILENT);
        egress_rig_open(&rig);
        uint32_t to_hole = egress_rig_add_firehose(&rig, "hole", true, 0);
        uint32_t to_good = egress_rig_add_firehose(&rig, "good", true, 0);
        egress_rig_run(&rig);
        publish_many(0, 100000, 100010, 600, to_hole);
        clock_sleep_ns(200 * CLOCK_NS_PER_MS); /* the hole's request is on its way; nothing else is */
        uint64_t begun_ns[20], took_ns[20];
        for (uint32_t id = 0; id < 20; id++) {
                begun_ns[id] = clock_monotonic_ns();
                egress_rig_publish(&rig, 0, id, 600, to_good);
                clock_sleep_ns(150 * CLOCK_NS_PER_MS);
        }
        cr_assert(egress_rig_wait_delivered(&rig, to_good, 20, 40000));
        for (uint32_t id = 0; id < 20; id++) {
                took_ns[id] = good->arrived_ns[id] - begun_ns[id];
        }
        check_prompt(took_ns);
        cr_assert_eq(egress_rig_state(&rig, 0, to_hole).delivered, 0);
        /* A hole with a backlog: it lags, with all its batches full. */
        publish_many(0, 100010, 120000, 600, to_hole);
        for (uint32_t id = 20; id < 40; id++) {
                uint64_t now_ns = clock_monotonic_ns();
                egress_rig_publish(&rig, 0, id, 600, to_good);
                cr_assert(egress_rig_wait_delivered(&rig, to_good, id + 1, 40000));
                took_ns[id - 20] = good->arrived_ns[id] - now_ns;
        }
        check_prompt(took_ns);
        egress_rig_stop(&rig, 0);
        check_balanced(0, to_hole, 20000);
        rig_end();
}
