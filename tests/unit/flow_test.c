/* On a clock that the test moves: nothing here sleeps. */
#include "egress/flow.h"

#include <criterion/criterion.h>

static struct flow flow;
static struct random_state generator;
static uint64_t now_ns;

static void begin(uint32_t in_flight_max)
{
        const struct flow_options options = {.in_flight_max = in_flight_max,
                                             .retry_base_ms = 50,
                                             .retry_throttle_base_ms = 1000,
                                             .retry_max_ms = 5000,
                                             .retry_budget_percent = 20};
        flow_init(&flow, &options);
        random_init(&generator, 4711);
        now_ns = 1000 * CLOCK_NS_PER_S;
}

static bool may_send(uint32_t in_flight)
{
        return flow_may_send_ns(&flow, in_flight, now_ns) <= now_ns;
}

/* How many may be in flight together. */
static uint32_t at_a_time(void)
{
        uint32_t in_flight = 0;
        while (in_flight < 1000 && may_send(in_flight))
                in_flight++;
        return in_flight;
}

static bool fail(uint64_t number, enum flow_failure failure)
{
        return flow_failed(&flow, number, failure, 1, now_ns, &generator);
}

/* As many requests as go at a time are sent and succeed. */
static uint32_t round_succeeds(void)
{
        uint64_t numbers[64];
        uint32_t count = at_a_time();
        cr_assert(count > 0 && count <= 64);
        for (uint32_t i = 0; i < count; i++)
                numbers[i] = flow_begin(&flow);
        for (uint32_t i = 0; i < count; i++)
                flow_succeeded(&flow, numbers[i]);
        return count;
}

/* ---------------------------------------------------------------------------------------------- at a time */

Test(flow, full_concurrency_comes_within_few_rounds)
{
        begin(64);
        uint32_t rounds = 0;
        for (uint32_t expected = 1; at_a_time() < 64; rounds++, expected = expected < 16 ? 16 : expected * 2)
                cr_assert_eq(round_succeeds(), expected);
        cr_assert_eq(rounds, 3);
}

Test(flow, a_failing_target_has_one_prober_whatever_was_in_flight)
{
        begin(64);
        while (at_a_time() < 64)
                (void)round_succeeds();
        uint64_t first = flow.newest + 1;
        for (uint32_t i = 0; i < 64; i++)
                (void)flow_begin(&flow);
        cr_assert(fail(first, FLOW_FAILED));
        now_ns = flow.hold_until_ns;
        cr_assert_not(may_send(63), "the others are still on their way");
        cr_assert_not(may_send(1));
        uint64_t hold_ns = flow.hold_until_ns;
        for (uint32_t i = 1; i < 64; i++)
                cr_assert_not(fail(first + i, FLOW_FAILED), "one cause, one round");
        cr_assert_eq(flow.failures, 1);
        cr_assert_eq(flow.hold_until_ns, hold_ns);
        cr_assert(may_send(0));
        cr_assert_not(may_send(1));
        /* The outage goes on: always one. */
        for (uint32_t i = 2; i < 20; i++) {
                cr_assert(fail(flow_begin(&flow), FLOW_FAILED));
                now_ns = flow.hold_until_ns;
                cr_assert_eq(at_a_time(), 1);
                cr_assert_eq(flow.failures, i);
        }
}

Test(flow, a_throttled_target_has_one_prober_until_something_passes)
{
        begin(64);
        while (at_a_time() < 64)
                (void)round_succeeds();
        (void)fail(flow_begin(&flow), FLOW_THROTTLED);
        now_ns = flow.hold_until_ns;
        cr_assert_eq(at_a_time(), 1);
        flow_succeeded(&flow, flow_begin(&flow));
        cr_assert_eq(at_a_time(), 32, "halved");
}

Test(flow, an_outage_does_not_make_the_way_back_long)
{
        begin(64);
        while (at_a_time() < 64)
                (void)round_succeeds();
        for (uint32_t i = 0; i < 100; i++) {
                (void)fail(flow_begin(&flow), FLOW_FAILED);
                now_ns = flow.hold_until_ns;
        }
        uint32_t rounds = 0;
        for (; at_a_time() < 64; rounds++)
                (void)round_succeeds();
        cr_assert_leq(rounds, 3, "%u", rounds);
        cr_assert_eq(flow.hold_until_ns, 0, "nothing is held back any more");
}

Test(flow, an_answer_from_before_the_trouble_ends_nothing)
{
        begin(4);
        while (at_a_time() < 4)
                (void)round_succeeds();
        uint64_t older = flow_begin(&flow), failing = flow_begin(&flow);
        cr_assert(fail(failing, FLOW_FAILED));
        uint64_t hold_ns = flow.hold_until_ns;
        flow_succeeded(&flow, older);
        cr_assert_eq(flow.failures, 1);
        cr_assert_eq(flow.hold_until_ns, hold_ns);
        flow_succeeded(&flow, flow_begin(&flow));
        cr_assert_eq(flow.failures, 0);
}

Test(flow, throttling_halves_once_a_round_and_grows_back_slowly)
{
        begin(64);
        while (at_a_time() < 64)
                (void)round_succeeds();
        uint64_t first = flow.newest + 1;
        for (uint32_t i = 0; i < 64; i++)
                (void)flow_begin(&flow);
        for (uint32_t i = 0; i < 64; i++)
                (void)flow_failed(&flow, first + i, FLOW_THROTTLED, 0.5, now_ns, &generator);
        cr_assert_leq(flow.hold_until_ns, now_ns + CLOCK_NS_PER_S);
        now_ns = flow.hold_until_ns;
        cr_assert_eq(at_a_time(), 32, "partly accepted: no failure, half as many");
        cr_assert_eq(round_succeeds(), 32);
        cr_assert_leq(at_a_time(), 33);
        uint32_t rounds = 0;
        for (; at_a_time() < 64 && rounds < 100; rounds++)
                (void)round_succeeds();
        cr_assert(rounds >= 25 && rounds <= 40, "%u", rounds);
}

/* ---------------------------------------------------------------------------------------------- again */

Test(flow, delays_have_full_jitter_and_double_to_the_longest)
{
        static const uint32_t highest_ms[] = {50, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
        for (uint32_t i = 0; i < sizeof(highest_ms) / sizeof(highest_ms[0]); i++) {
                double sum_ms = 0, most_ms = 0, least_ms = 1e9;
                for (uint32_t run = 0; run < 1000; run++) {
                        begin(4);
                        random_init(&generator, run + 1);
                        for (uint32_t round = 0; round <= i; round++)
                                (void)fail(flow_begin(&flow), FLOW_FAILED);
                        double ms = (double)(flow.hold_until_ns - now_ns) / 1e6;
                        sum_ms += ms;
                        most_ms = ms > most_ms ? ms : most_ms;
                        least_ms = ms < least_ms ? ms : least_ms;
                }
                cr_assert_leq(most_ms, highest_ms[i]);
                cr_assert_geq(most_ms, 0.98 * highest_ms[i]);
                cr_assert_leq(least_ms, 0.02 * highest_ms[i]);
                cr_assert(sum_ms / 1000 > 0.45 * highest_ms[i] && sum_ms / 1000 < 0.55 * highest_ms[i]);
        }
}

Test(flow, what_is_mended_is_tried_at_once_the_first_time_only)
{
        begin(4);
        (void)fail(flow_begin(&flow), FLOW_MENDED);
        cr_assert(may_send(0));
        (void)fail(flow_begin(&flow), FLOW_MENDED);
        cr_assert_gt(flow.hold_until_ns, now_ns);
}

Test(flow, a_parked_target_is_probed_now_and_then)
{
        begin(4);
        (void)fail(flow_begin(&flow), FLOW_REFUSED);
        cr_assert(flow.parked);
        cr_assert(flow.hold_until_ns >= now_ns + 15 * CLOCK_NS_PER_S &&
                  flow.hold_until_ns <= now_ns + 30 * CLOCK_NS_PER_S);
        flow_hold_at_most(&flow, now_ns);
        cr_assert_eq(at_a_time(), 1);
        /* Refused while something else was the matter: parked all the same. */
        begin(4);
        uint64_t first = flow_begin(&flow), second = flow_begin(&flow);
        (void)fail(second, FLOW_FAILED);
        cr_assert(fail(first, FLOW_REFUSED));
        cr_assert(flow.parked);
        flow_succeeded(&flow, flow_begin(&flow));
        cr_assert_not(flow.parked);
}

Test(flow, the_service_s_wish_is_a_floor)
{
        begin(4);
        (void)fail(flow_begin(&flow), FLOW_FAILED);
        flow_wish(&flow, now_ns + 7 * CLOCK_NS_PER_S, 60 * CLOCK_NS_PER_S);
        now_ns += 6999 * CLOCK_NS_PER_MS;
        cr_assert_not(may_send(0));
        flow_wish(&flow, now_ns, 60 * CLOCK_NS_PER_S);
        cr_assert_not(may_send(0), "a shorter one does not shorten it");
        now_ns += CLOCK_NS_PER_MS;
        cr_assert(may_send(0));
}

Test(flow, wishes_do_not_add_up)
{
        begin(4);
        uint64_t numbers[4];
        for (uint32_t i = 0; i < 4; i++)
                numbers[i] = flow_begin(&flow);
        (void)fail(numbers[0], FLOW_FAILED);
        uint64_t ours_ns = flow.hold_until_ns;
        for (uint32_t i = 0; i < 4; i++) {
                (void)fail(numbers[i], FLOW_FAILED);
                flow_wish(&flow, now_ns + 3600 * CLOCK_NS_PER_S, 5 * CLOCK_NS_PER_S);
                cr_assert_eq(flow.hold_until_ns, ours_ns + 5 * CLOCK_NS_PER_S, "answer %u", i);
        }
        /* The next failure has a pause of its own. */
        now_ns = flow.hold_until_ns;
        (void)fail(flow_begin(&flow), FLOW_FAILED);
        cr_assert_leq(flow.hold_until_ns, now_ns + CLOCK_NS_PER_S);
        /* Who works again is not held back by what is late. */
        flow_succeeded(&flow, flow_begin(&flow));
        flow_wish(&flow, now_ns + 3600 * CLOCK_NS_PER_S, 5 * CLOCK_NS_PER_S);
        cr_assert(may_send(0));
}

/* ---------------------------------------------------------------------------------------------- the budget */

/* A service that fails `percent` of all requests at random and answers in 10 ms. What became of an hour: requests,
 * successes. */
static void brown_out(uint32_t percent, uint64_t *ret_requests, uint64_t *ret_successes)
{
        uint64_t numbers[4], requests = 0, successes = 0;
        begin(4);
        uint64_t end_ns = now_ns + 3600 * CLOCK_NS_PER_S;
        while (now_ns < end_ns) {
                uint32_t in_flight = 0;
                while (in_flight < 4 && may_send(in_flight))
                        numbers[in_flight++] = flow_begin(&flow);
                if (in_flight == 0) {
                        now_ns = flow_may_send_ns(&flow, 0, now_ns);
                        continue;
                }
                now_ns += 10 * CLOCK_NS_PER_MS;
                for (uint32_t i = 0; i < in_flight; i++) {
                        requests++;
                        if (random_below(&generator, 100) < percent) {
                                (void)fail(numbers[i], FLOW_FAILED);
                        } else {
                                successes++;
                                flow_succeeded(&flow, numbers[i]);
                        }
                }
        }
        *ret_requests = requests;
        *ret_successes = successes;
}

Test(flow, a_brown_out_is_not_amplified)
{
        uint64_t requests, successes;
        brown_out(5, &requests, &successes);
        cr_assert_gt(requests, 100000, "a few failures slow nothing down: %llu", (unsigned long long)requests);
        brown_out(60, &requests, &successes);
        /* What failed: a fifth of what succeeded, and one in the longest interval, with the 4 that were in flight. */
        uint64_t failures = requests - successes;
        cr_assert_lt(failures, successes / 5 + 3600 / 2 * 4, "%llu failed, %llu succeeded",
                     (unsigned long long)failures, (unsigned long long)successes);
        cr_assert_lt(requests, 10000, "%llu in an hour", (unsigned long long)requests);
        cr_assert_gt(successes, 500, "it goes on all the same");
}

Test(flow, a_part_costs_a_part)
{
        begin(4);
        for (uint32_t i = 0; i < 500; i++) /* 1 record in 500 each time, 19 of 20 requests in between succeed */
                (void)flow_failed(&flow, flow_begin(&flow), FLOW_FAILED, 0.002, now_ns, &generator);
        cr_assert_gt(flow.budget, 8.9);
        for (uint32_t i = 0; i < 9; i++)
                (void)fail(flow_begin(&flow), FLOW_FAILED);
        cr_assert_lt(flow.budget, 1);
        (void)fail(flow_begin(&flow), FLOW_FAILED);
        cr_assert_geq(flow.hold_until_ns, now_ns + 2500 * CLOCK_NS_PER_MS, "none is left");
        for (uint32_t i = 0; i < 1000; i++)
                flow_succeeded(&flow, flow_begin(&flow));
        cr_assert_leq(flow.budget, FLOW_BUDGET_MAX);
        (void)fail(flow_begin(&flow), FLOW_FAILED);
        cr_assert_leq(flow.hold_until_ns, now_ns + 50 * CLOCK_NS_PER_MS);
}

/* ---------------------------------------------------------------------------------------------- a quota */

struct quota_request {
        bool under_way;
        uint64_t number, ends_ns;
        uint32_t records; /* of 750,000 bytes, that are still to be accepted */
};

/* Firehose as it is: what goes beyond `bytes_per_s` is refused record by record, a second's worth is saved up. More is
 * offered than it takes for 10 minutes. Returns what it took of its quota; *ret_refused: of what it was sent. */
static double at_quota(uint64_t bytes_per_s, uint32_t in_flight_max, double *ret_refused)
{
        const double record_bytes = 750000;
        struct quota_request requests[65] = {0};
        double room = (double)bytes_per_s, accepted = 0, refused = 0;
        begin(in_flight_max);
        uint64_t begun_ns = now_ns, last_ns = now_ns;
        while (now_ns < begun_ns + 600 * CLOCK_NS_PER_S) {
                uint64_t next_ns = UINT64_MAX;
                uint32_t in_flight = 0;
                for (uint32_t i = 0; i <= in_flight_max; i++)
                        in_flight += requests[i].under_way;
                for (uint32_t i = 0; i <= in_flight_max; i++) {
                        struct quota_request *request = &requests[i];
                        uint64_t may_ns = request->under_way ? 0 : flow_may_send_ns(&flow, in_flight, now_ns);
                        if (!request->under_way && may_ns <= now_ns) {
                                *request =
                                        (struct quota_request){true, flow_begin(&flow), now_ns + 60 * CLOCK_NS_PER_MS,
                                                               request->records == 0 ? 4 : request->records};
                                in_flight++;
                        }
                        uint64_t event_ns = request->under_way ? request->ends_ns : may_ns;
                        next_ns = event_ns < next_ns ? event_ns : next_ns;
                }
                now_ns = next_ns;
                room += (double)(now_ns - last_ns) / 1e9 * (double)bytes_per_s;
                room = room > (double)bytes_per_s ? (double)bytes_per_s : room;
                last_ns = now_ns;
                for (uint32_t i = 0; i <= in_flight_max; i++) {
                        struct quota_request *request = &requests[i];
                        if (!request->under_way || request->ends_ns > now_ns)
                                continue;
                        uint32_t taken = 0;
                        for (; taken < request->records && room >= record_bytes; taken++)
                                room -= record_bytes;
                        uint32_t left = request->records - taken;
                        accepted += taken * record_bytes;
                        refused += left * record_bytes;
                        request->under_way = false;
                        if (left == 0)
                                flow_succeeded(&flow, request->number);
                        else
                                (void)flow_failed(&flow, request->number, FLOW_THROTTLED,
                                                  (double)left / request->records, now_ns, &generator);
                        request->records = left;
                }
        }
        *ret_refused = refused / (accepted + refused);
        return accepted / 600 / (double)bytes_per_s;
}

Test(flow, a_stream_that_is_offered_too_much_gets_its_quota)
{
        double refused = 0, share = at_quota(5 << 20, 4, &refused);
        cr_assert(share > 0.93 && share <= 1.01, "%.2f of 5 MiB/s, %.2f refused", share, refused);
        cr_assert_lt(refused, 0.6);
        share = at_quota(5 << 20, 16, &refused);
        cr_assert(share > 0.93 && share <= 1.01, "%.2f of 5 MiB/s with 16, %.2f refused", share, refused);
        share = at_quota(1 << 20, 4, &refused); /* one request is three seconds' worth */
        cr_assert(share > 0.7 && share <= 1.01, "%.2f of 1 MiB/s, %.2f refused", share, refused);
}

/* ---------------------------------------------------------------------------------------------- rates */

static const struct {
        struct rules_rates rates;
        uint64_t records, bytes;  /* of one request */
        uint64_t requests_of_60s; /* that must go */
} paces[] = {
        {{.requests = 3}, 500, 4 << 20, 180},
        {{.requests = 2000}, 1, 100, 120000},
        {{.bytes = 5 << 20}, 4, 1310720, 240},
        {{.bytes = 1 << 20}, 4, 4 << 20, 15}, /* larger than a second's worth */
        {{.records = 100000}, 500, 1000000, 12000},
        {{.records = 7}, 1, 800, 420},
        {{.records = 100000, .bytes = 1 << 20, .requests = 1000}, 500, 262144, 240}, /* the tightest counts */
        {{.records = 1000, .bytes = 1 << 30, .requests = 1000}, 500, 262144, 120},
};

Test(flow, a_rate_is_kept_within_a_percent_without_looking_often)
{
        for (size_t i = 0; i < sizeof(paces) / sizeof(paces[0]); i++) {
                begin(4);
                flow_set_rates(&flow, &paces[i].rates);
                uint64_t end_ns = now_ns + 60 * CLOCK_NS_PER_S, sent = 0, looks = 0;
                for (;;) {
                        uint64_t may_ns = flow_may_send_ns(&flow, 0, now_ns);
                        looks++;
                        if (may_ns > now_ns)
                                now_ns = may_ns + random_below(&generator, 2 * CLOCK_NS_PER_MS); /* woken late */
                        if (now_ns >= end_ns)
                                break;
                        if (may_ns <= now_ns) {
                                flow_pay(&flow, now_ns, paces[i].records, paces[i].bytes);
                                sent++;
                        }
                }
                double share = (double)sent / (double)paces[i].requests_of_60s;
                /* And what was kept for the burst at the beginning, and the request that is not paid for yet. */
                double spare = 1.0 / (double)paces[i].requests_of_60s + 0.25 / 60;
                cr_assert(share > 0.99 && share < 1.01 + spare, "case %zu: %llu sent, %.3f", i,
                          (unsigned long long)sent, share);
                cr_assert_leq(looks, 2 * sent + 2, "case %zu: no busy loop", i);
                cr_assert_gt(flow.paced_ns, 0);
        }
}

Test(flow, an_idle_target_saves_up_for_a_moment_only)
{
        begin(4);
        flow_set_rates(&flow, &(struct rules_rates){.requests = 100});
        now_ns += 3600 * CLOCK_NS_PER_S;
        uint32_t sent = 0;
        for (; may_send(0) && sent < 1000; sent++)
                flow_pay(&flow, now_ns, 1, 1);
        cr_assert(sent >= 25 && sent <= 26, "%u at once", sent);
        cr_assert_eq(flow_may_send_ns(&flow, 0, now_ns), now_ns + 10 * CLOCK_NS_PER_MS);
}

/* What waited was given up: the next one comes an hour later. */
Test(flow, only_the_wait_for_the_rates_counts_as_one)
{
        begin(4);
        flow_set_rates(&flow, &(struct rules_rates){.requests = 1});
        flow_pay(&flow, now_ns, 1, 1);
        flow_pay(&flow, now_ns, 1, 1);
        cr_assert_not(may_send(0));
        uint64_t paid_ns = flow_may_send_ns(&flow, 0, now_ns);
        uint64_t waits_ns = paid_ns - now_ns;
        now_ns += 3600 * CLOCK_NS_PER_S;
        flow_pay(&flow, now_ns, 1, 1);
        cr_assert_eq(flow.paced_ns, waits_ns);
        now_ns += CLOCK_NS_PER_S;
        cr_assert(may_send(0));
        flow_pay(&flow, now_ns, 1, 1);
        cr_assert_eq(flow.paced_ns, waits_ns, "it could go at once");
}

Test(flow, rates_change_at_any_time)
{
        begin(4);
        flow_set_rates(&flow, &(struct rules_rates){.bytes = 1000});
        flow_pay(&flow, now_ns, 1, 1000000); /* for 1,000 seconds */
        cr_assert_not(may_send(0));
        flow_set_rates(&flow, &(struct rules_rates){.bytes = 1000});
        cr_assert_not(may_send(0), "the same rate changes nothing");
        flow_set_rates(&flow, &(struct rules_rates){.bytes = 1000000});
        cr_assert(may_send(0));
        flow_pay(&flow, now_ns, 1, 1000000);
        cr_assert_not(may_send(0));
        flow_set_rates(&flow, &(struct rules_rates){0});
        cr_assert(may_send(0));
        cr_assert_eq(flow_request_bytes_max(&flow), UINT64_MAX);
        flow_set_rates(&flow, &(struct rules_rates){.bytes = 1 << 20, .records = 2});
        cr_assert_eq(flow_request_bytes_max(&flow), 1 << 18);
        cr_assert_eq(flow_request_records_max(&flow), 1);
}
