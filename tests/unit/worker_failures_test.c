/* Services that fail, refuse, or ask for time, and what a target makes of it. */
#include "egress/worker_internal.h"

#include "tests/support/worker_rig.h"

static const struct {
        enum firehose_peer_step step;
        uint32_t status; /* while it fails */
        bool uncertain;  /* the peer may have taken it */
} whole_failures[] = {
        {FIREHOSE_PEER_503, COUNTERS_TARGET_RETRYING, false},
        {FIREHOSE_PEER_RESET, COUNTERS_TARGET_RETRYING, true},
        {FIREHOSE_PEER_SILENT, COUNTERS_TARGET_RETRYING, true},
        {FIREHOSE_PEER_GARBAGE, COUNTERS_TARGET_RETRYING, true},
        {FIREHOSE_PEER_ENDLESS, COUNTERS_TARGET_RETRYING, true},
        {FIREHOSE_PEER_THROTTLED, COUNTERS_TARGET_RETRYING, false},
        {FIREHOSE_PEER_EXPIRED_TOKEN, COUNTERS_TARGET_RETRYING, false},
        {FIREHOSE_PEER_NOT_FOUND, COUNTERS_TARGET_PARKED, false},
        {FIREHOSE_PEER_UNKNOWN_KEY, COUNTERS_TARGET_RETRYING, false},
        {FIREHOSE_PEER_REFUSE_ALL, COUNTERS_TARGET_RETRYING, false},
        {FIREHOSE_PEER_DENY_ALL, COUNTERS_TARGET_PARKED, false},
};

Test(worker_failures, whole_failures_are_tried_again_until_they_pass, .timeout = 90)
{
        for (size_t i = 0; i < sizeof(whole_failures) / sizeof(whole_failures[0]); i++) {
                memset(&rig, 0, sizeof(rig));
                memset(&peer, 0, sizeof(peer));
                rig_begin();
                rig.settings.egress.request_timeout_ms = whole_failures[i].step == FIREHOSE_PEER_SILENT ? 700 : 20000;
                peer_begin();
                struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
                atomic_store(&stream->always, (int)whole_failures[i].step);
                egress_rig_open(&rig);
                uint32_t target = egress_rig_add_firehose(&rig, "mail", true, 0);
                egress_rig_run(&rig);
                publish_many(0, 0, 100, 100, target);
                uint32_t status = whole_failures[i].status;
                cr_assert(wait_until(status_is, &status, 5000), "step %d", (int)whole_failures[i].step);
                check_balanced(0, target, 100); /* nothing settled, nothing gone */
                cr_assert_gt(counter(COUNTER_egress_requests_failed), 0, "step %d", (int)whole_failures[i].step);
                cr_assert_gt(atomic_load(&rig.targets[target].row->failures), 0);
                cr_assert_gt(atomic_load(&rig.targets[target].row->last_failure_ms), 0);
                cr_assert_eq(egress_rig_state(&rig, 0, target).cursor_sequence, 1);
                char text[192];
                counters_row_get_error(rig.targets[target].row, text, sizeof(text));
                cr_assert_neq(text[0], '\0');
                if (whole_failures[i].step == FIREHOSE_PEER_EXPIRED_TOKEN ||
                    whole_failures[i].step == FIREHOSE_PEER_UNKNOWN_KEY)
                        cr_assert(atomic_load(&rig.credentials.refresh_wanted));
                atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
                cr_assert(egress_rig_wait_delivered(&rig, target, 100, 40000), "step %d", (int)whole_failures[i].step);
                check_set(stream->ids, firehose_peer_count(&peer, stream), 100);
                status = COUNTERS_TARGET_OK;
                cr_assert(wait_until(status_is, &status, 1000));
                cr_assert_eq(counter(COUNTER_egress_requests_uncertain) > 0, whole_failures[i].uncertain, "step %d",
                             (int)whole_failures[i].step);
                check_balanced(0, target, 0);
                rig_end();
        }
}

/* More than its batches hold, and more that comes while it catches up. */
Test(worker_failures, after_an_outage_the_backlog_goes_out_oldest_first, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.in_flight_max = 1;
        rig.settings.egress.batch_bytes_max = 256 * 1024;
        rig.settings.egress.retry_max_ms = 50;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        atomic_store(&stream->always, FIREHOSE_PEER_503);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 2000, 600, target);
        uint32_t status = COUNTERS_TARGET_RETRYING;
        cr_assert(wait_until(status_is, &status, 5000));
        cr_assert_eq(firehose_peer_count(&peer, stream), 0);
        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
        publish_many(0, 2000, 2500, 600, target);
        cr_assert(egress_rig_wait_delivered(&rig, target, 2500, 40000));
        check_sequence(stream->ids, firehose_peer_count(&peer, stream), 2500);
        cr_assert_gt(counter(COUNTER_egress_lagging_reads), 500);
        check_balanced(0, target, 0);
        rig_end();
}

Test(worker_failures, a_skewed_clock_is_learnt_and_the_request_signed_at_once, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_base_ms = 5000;
        rig.settings.egress.retry_max_ms = 5000;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        firehose_peer_script(stream, FIREHOSE_PEER_SKEW);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 10, 100, target);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 40000));
        cr_assert_eq(stream->requests, 2);
        cr_assert_lt(stream->request_ns[1] - stream->request_ns[0], 500 * CLOCK_NS_PER_MS);
        int64_t ahead_ms = stream->last_request_ms - clock_realtime_ms();
        cr_assert(ahead_ms > 3590 * 1000 && ahead_ms < 3610 * 1000, "%lld", (long long)ahead_ms);
        rig_end();
}

Test(worker_failures, a_clock_that_is_set_right_is_unlearnt, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_base_ms = 5000;
        rig.settings.egress.retry_max_ms = 5000;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        firehose_peer_script(stream, FIREHOSE_PEER_SKEW);
        firehose_peer_script(stream, FIREHOSE_PEER_ACCEPT);
        firehose_peer_script(stream, FIREHOSE_PEER_SKEW_GONE);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 10, 100, target);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 40000));
        publish_many(0, 10, 20, 100, target);
        cr_assert(egress_rig_wait_delivered(&rig, target, 20, 40000));
        cr_assert_eq(stream->requests, 4);
        cr_assert_lt(stream->request_ns[3] - stream->request_ns[2], 500 * CLOCK_NS_PER_MS);
        int64_t ahead_ms = stream->last_request_ms - clock_realtime_ms();
        cr_assert(ahead_ms > -10 * 1000 && ahead_ms < 10 * 1000, "%lld", (long long)ahead_ms);
        rig_end();
}

Test(worker_failures, a_partly_accepted_request_ends_parking, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_max_ms = 50;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        firehose_peer_script(stream, FIREHOSE_PEER_NOT_FOUND);
        firehose_peer_script(stream, FIREHOSE_PEER_PARTIAL);
        firehose_peer_script(stream, FIREHOSE_PEER_SILENT);
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_firehose(&rig, "mail", false, 0);
        publish_many(0, 0, 100, 100, target);
        egress_rig_run(&rig);
        uint64_t deadline_ns = clock_monotonic_ns() + 5 * CLOCK_NS_PER_S;
        while (firehose_peer_requests(&peer, stream) < 3 && clock_monotonic_ns() < deadline_ns)
                clock_sleep_ns(CLOCK_NS_PER_MS);
        clock_sleep_ns(50 * CLOCK_NS_PER_MS);
        cr_assert_eq(atomic_load(&rig.targets[target].row->status), COUNTERS_TARGET_OK);
        egress_rig_stop(&rig, 0);
        rig_end();
}

Test(worker_failures, a_parked_target_is_probed_when_somebody_has_acted, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_max_ms = 60000;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        firehose_peer_script(stream, FIREHOSE_PEER_NOT_FOUND);
        firehose_peer_script(stream, FIREHOSE_PEER_NOT_FOUND);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 10, 100, target);
        uint32_t status = COUNTERS_TARGET_PARKED;
        cr_assert(wait_until(status_is, &status, 5000));
        /* Other credentials: probed, and parked again. */
        static struct credentials others;
        others = rig.keys;
        others.number++;
        atomic_store(&rig.credentials.current, &others);
        uint64_t deadline_ns = clock_monotonic_ns() + 5 * CLOCK_NS_PER_S;
        while (firehose_peer_requests(&peer, stream) < 2 && clock_monotonic_ns() < deadline_ns)
                clock_sleep_ns(CLOCK_NS_PER_MS);
        cr_assert_eq(firehose_peer_requests(&peer, stream), 2);
        clock_sleep_ns(700 * CLOCK_NS_PER_MS);
        cr_assert_eq(firehose_peer_requests(&peer, stream), 2, "they are no news any more");
        egress_worker_probe(rig.workers[0]);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 5000));
        rig_end();
}

static bool refresh_is_wanted(void *unused)
{
        (void)unused;
        return atomic_load(&rig.credentials.refresh_wanted);
}

/* stderr becomes a file; returns its path. */
static const char *log_to_file(void)
{
        static char path[sizeof(rig.directory) + 8];
        (void)snprintf(path, sizeof(path), "%s/log", rig.directory);
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        cr_assert_geq(fd, 0);
        cr_assert_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
        (void)close(fd);
        log_level_set(LOG_INFO);
        return path;
}

static uint32_t log_lines(const char *path, const char *part)
{
        char line[2048];
        uint32_t count = 0;
        FILE *file = fopen(path, "r");
        cr_assert_not_null(file);
        while (fgets(line, sizeof(line), file) != NULL)
                count += strstr(line, part) != NULL;
        (void)fclose(file);
        return count;
}

Test(worker_failures, an_answer_that_refuses_every_record_is_told_as_a_failure, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_throttle_base_ms = 100;
        rig.settings.egress.retry_max_ms = 200;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        atomic_store(&stream->always, FIREHOSE_PEER_REFUSE_ALL);
        egress_rig_open(&rig);
        const char *log = log_to_file();
        uint32_t target = egress_rig_add_firehose(&rig, "mail", true, 0);
        egress_rig_run(&rig);
        publish_many(0, 0, 10, 100, target);
        uint64_t deadline_ns = clock_monotonic_ns() + 5 * CLOCK_NS_PER_S;
        while (firehose_peer_requests(&peer, stream) < 4 && clock_monotonic_ns() < deadline_ns)
                clock_sleep_ns(CLOCK_NS_PER_MS);
        cr_assert_eq(log_lines(log, "level=warning msg=\"target failed\""), 1, "once, and then gated");
        cr_assert_eq(log_lines(log, " records refused: ServiceUnavailableException: Slow down."), 1);
        atomic_store(&stream->always, FIREHOSE_PEER_DENY_ALL);
        uint32_t status = COUNTERS_TARGET_PARKED;
        cr_assert(wait_until(status_is, &status, 5000));
        deadline_ns = clock_monotonic_ns() + 5 * CLOCK_NS_PER_S;
        while (log_lines(log, "level=error msg=\"target failed\"") == 0 && clock_monotonic_ns() < deadline_ns)
                clock_sleep_ns(CLOCK_NS_PER_MS);
        cr_assert_eq(log_lines(log, "level=error msg=\"target failed\""), 1);
        cr_assert_eq(log_lines(log, "AccessDeniedException: kms says no"), 1);
        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
        egress_worker_probe(rig.workers[0]);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 40000));
        check_balanced(0, target, 0);
        rig_end();
}

Test(worker_failures, a_key_that_nobody_knows_parks_when_no_other_comes, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_throttle_base_ms = 50;
        rig.settings.egress.retry_max_ms = 100;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        atomic_store(&stream->always, FIREHOSE_PEER_UNKNOWN_KEY);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 10, 100, target);
        uint32_t status = COUNTERS_TARGET_RETRYING;
        cr_assert(wait_until(status_is, &status, 5000));
        clock_sleep_ns(500 * CLOCK_NS_PER_MS);
        cr_assert_eq(atomic_load(&rig.targets[target].row->status), COUNTERS_TARGET_RETRYING, "nobody has looked yet");
        cr_assert(atomic_load(&rig.credentials.refresh_wanted));
        atomic_fetch_add(&rig.credentials.loads, 1); /* somebody has, and found the same */
        status = COUNTERS_TARGET_PARKED;
        cr_assert(wait_until(status_is, &status, 5000));
        atomic_store(&rig.credentials.refresh_wanted, false);
        cr_assert(wait_until(refresh_is_wanted, NULL, 5000), "others are looked for while it is parked");
        static struct credentials others;
        others = rig.keys;
        others.number++;
        atomic_store(&stream->always, FIREHOSE_PEER_ACCEPT);
        atomic_store(&rig.credentials.current, &others);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 40000));
        rig_end();
}

Test(worker_failures, the_wish_of_a_service_is_bounded, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_base_ms = 1;
        rig.settings.egress.retry_throttle_base_ms = 1;
        rig.settings.egress.retry_max_ms = 100;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        firehose_peer_script(stream, FIREHOSE_PEER_REFUSE_LATER);
        firehose_peer_script(stream, FIREHOSE_PEER_HOUR);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 10, 100, target);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 40000));
        uint64_t partly_ns = stream->request_ns[1] - stream->request_ns[0];
        uint64_t hour_ns = stream->request_ns[2] - stream->request_ns[1];
        cr_assert_geq(partly_ns, 990 * CLOCK_NS_PER_MS, "also of an answer that refuses records");
        cr_assert_geq(hour_ns, 4900 * CLOCK_NS_PER_MS);
        cr_assert_leq(hour_ns, 8 * CLOCK_NS_PER_S, "at most 5 s beyond our own delay");
        rig_end();
}

Test(worker_failures, credentials_that_come_late_are_used_within_seconds, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_max_ms = 20000;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        egress_rig_open(&rig);
        atomic_store(&rig.credentials.current, NULL);
        uint32_t target = egress_rig_add_firehose(&rig, "mail", true, 0);
        egress_rig_run(&rig);
        publish_many(0, 0, 10, 100, target);
        uint32_t status = COUNTERS_TARGET_PARKED;
        cr_assert(wait_until(status_is, &status, 5000));
        cr_assert(atomic_load(&rig.credentials.refresh_wanted));
        cr_assert_eq(stream->requests, 0);
        atomic_store(&rig.credentials.current, &rig.keys);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 40000));
        rig_end();
}

Test(worker_failures, credentials_that_are_replaced_are_used_at_once, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.retry_throttle_base_ms = 60000;
        rig.settings.egress.retry_max_ms = 60000;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        firehose_peer_script(stream, FIREHOSE_PEER_EXPIRED_TOKEN);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 10, 100, target);
        uint32_t status = COUNTERS_TARGET_RETRYING;
        cr_assert(wait_until(status_is, &status, 5000));
        cr_assert(atomic_load(&rig.credentials.refresh_wanted));
        atomic_store(&rig.credentials.refresh_wanted, false); /* the helper looked, and found the same */
        cr_assert(wait_until(refresh_is_wanted, NULL, 5000), "it is to look again, though nothing was sent since");
        cr_assert_eq(firehose_peer_requests(&peer, stream), 1);
        static struct credentials others;
        others = rig.keys;
        others.number++;
        atomic_store(&rig.credentials.current, &others);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 5000));
        rig_end();
}

/* While a target cannot send, its batch goes on filling instead of being closed when its linger is over: what waits
 * goes out in few large requests. */
Test(worker_failures, what_gathers_while_a_target_waits_goes_out_together, .timeout = 90)
{
        rig_begin();
        rig.settings.egress.linger_ms = 5;
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        firehose_peer_script(stream, FIREHOSE_PEER_RETRY_AFTER);
        uint32_t target = rig_open_stream();
        for (uint32_t id = 0; id < 40; id++) {
                egress_rig_publish(&rig, 0, id, 100, target);
                clock_sleep_ns(CLOCK_NS_PER_MS); /* all of it is well within the second that is asked for */
        }
        cr_assert(egress_rig_wait_delivered(&rig, target, 40, 40000));
        cr_assert_leq(stream->requests, 4, "%u requests", stream->requests);
        check_set(stream->ids, stream->count, 40);
        rig_end();
}

/* 2,000 events of some 900 bytes at 400 KiB a second take 4.4 s; then the limit is taken away. */
Test(worker_failures, a_target_keeps_its_rate, .timeout = 90)
{
        rig_begin();
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        egress_rig_open(&rig);
        uint32_t target = egress_rig_add_firehose(&rig, "mail", true, 0);
        egress_target_set_rates(rig.targets[target].target, &(struct rules_rates){.bytes = 400 * 1024});
        egress_rig_run(&rig);
        clock_sleep_ns(600 * CLOCK_NS_PER_MS); /* a tick: the rate is taken */
        publish_many(0, 0, 2000, 600, target);
        clock_sleep_ns(600 * CLOCK_NS_PER_MS); /* what was saved up has gone */
        uint64_t begun_ns = clock_monotonic_ns();
        uint64_t bytes = atomic_load(&rig.targets[target].row->bytes), turns = counter(COUNTER_egress_turns);
        clock_sleep_ns(2 * CLOCK_NS_PER_S);
        double seconds = (double)(clock_monotonic_ns() - begun_ns) / 1e9;
        double rate = (double)(atomic_load(&rig.targets[target].row->bytes) - bytes) / seconds / (400 * 1024);
        /* Requests of 100 KiB: one more or less in two seconds is an eighth. */
        cr_assert(rate > 0.87 && rate < 1.13, "%.3f of it", rate);
        cr_assert_lt(counter(COUNTER_egress_turns) - turns, 200, "no busy loop");
        cr_assert_gt(atomic_load(&rig.targets[target].row->paced_ms), 1000);
        cr_assert_lt(egress_rig_state(&rig, 0, target).delivered, 2000);
        egress_target_set_rates(rig.targets[target].target, &(struct rules_rates){0});
        begun_ns = clock_monotonic_ns();
        cr_assert(egress_rig_wait_delivered(&rig, target, 2000, 10000));
        cr_assert_lt(clock_monotonic_ns() - begun_ns, 1500 * CLOCK_NS_PER_MS);
        check_set(stream->ids, stream->count, 2000);
        rig_end();
}

/* Of 400 records a second a quarter may go at once, and once more before it is paid for: 600 take a second, which is
 * longer than it takes to make them on any machine. Of 20 requests a second six go at once. */
Test(worker_failures, records_and_requests_are_paced_as_well, .timeout = 90)
{
        static const struct rules_rates rates[] = {{.records = 400}, {.requests = 20}};
        for (size_t i = 0; i < 2; i++) {
                memset(&rig, 0, sizeof(rig));
                memset(&peer, 0, sizeof(peer));
                rig_begin();
                rig.settings.egress.linger_ms = 1;
                peer_begin();
                struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
                egress_rig_open(&rig);
                uint32_t target = egress_rig_add_firehose(&rig, "mail", false, 0);
                egress_target_set_rates(rig.targets[target].target, &rates[i]);
                flow_set_rates(&rig.targets[target].target->flow, &rates[i]); /* without waiting for a tick */
                const _Atomic uint64_t *paced_ms = &rig.targets[target].row->paced_ms;
                uint32_t events = i == 0 ? 600 : 0;
                publish_many(0, 0, events, 100, target); /* all at once, however long it takes to make them */
                const uint64_t begun_ns = clock_monotonic_ns();
                egress_rig_run(&rig);
                /* As many as it takes until a request has to wait: a slow machine sends less often by itself. */
                for (; i == 1 && (events < 60 || (atomic_load(paced_ms) == 0 && events < 1000)); events++) {
                        publish_many(0, events, events + 1, 100, target);
                        clock_sleep_ns(5 * CLOCK_NS_PER_MS);
                }
                cr_assert(egress_rig_wait_delivered(&rig, target, events, 10000));
                const uint32_t requests = stream->requests;
                cr_assert_leq(requests, FIREHOSE_PEER_SCRIPT);
                const uint64_t took_ns = stream->request_ns[requests - 1] - begun_ns;
                if (i == 0) {
                        cr_assert_geq(requests, 6, "a request takes a quarter of a second's records: %u", requests);
                        cr_assert_geq(took_ns, 980 * CLOCK_NS_PER_MS, "%.3f s", (double)took_ns / 1e9);
                } else {
                        cr_assert_leq(requests, 7 + 20 * took_ns / CLOCK_NS_PER_S, "%u in %.3f s", requests,
                                      (double)took_ns / 1e9);
                        cr_assert_geq(requests, 6);
                }
                cr_assert_gt(atomic_load(paced_ms), 0);
                check_set(stream->ids, stream->count, events);
                rig_end();
        }
}

Test(worker_failures, a_service_that_asks_for_time_gets_it, .timeout = 90)
{
        rig_begin();
        peer_begin();
        struct firehose_peer_stream *stream = firehose_peer_stream(&peer, "mail");
        firehose_peer_script(stream, FIREHOSE_PEER_RETRY_AFTER);
        uint32_t target = rig_open_stream();
        publish_many(0, 0, 10, 100, target);
        cr_assert(egress_rig_wait_delivered(&rig, target, 10, 40000));
        cr_assert_geq(stream->request_ns[1] - stream->request_ns[0], 950 * CLOCK_NS_PER_MS);
        rig_end();
}
