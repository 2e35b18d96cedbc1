/* Prices and the arithmetic of `sendring cost`, against figures computed by hand, and against the bodies that are
 * really sent. */
#include "tools/cost.h"

#include "egress/firehose.h"
#include "rules/rules.h"
#include "tools/loadgen_events.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define STEP 5120.0

/* As fast as it comes: requests are full. */
static struct cost_stream busy_stream(double event_bytes, uint32_t record_events_max)
{
        return (struct cost_stream){
                .events_per_s = 1e6,
                .event_bytes = event_bytes,
                .event_billed_bytes = cost_round_up(event_bytes, STEP),
                .record_events_max = record_events_max,
                .linger_s = 0.1,
                .body_bytes_max = LIMIT_FIREHOSE_CALL_BYTES_MAX,
                .gzip_ratio = 1,
        };
}

static double usd_per_million(const struct cost_packed *packed)
{
        return price_of(&prices_us_east_1.firehose_gb, packed->billed_bytes * 1e6 / PRICE_GB_BYTES);
}

/* ---------------------------------------------------------------------------------------------- rounding */

Test(cost, a_record_is_billed_in_steps_of_5_kb, .timeout = 10)
{
        cr_assert_float_eq(cost_round_up(0, STEP), 0, 1e-9);
        cr_assert_float_eq(cost_round_up(1, STEP), 5120, 1e-9);
        cr_assert_float_eq(cost_round_up(5120, STEP), 5120, 1e-9);
        cr_assert_float_eq(cost_round_up(5121, STEP), 10240, 1e-9);
        cr_assert_float_eq(cost_round_up(10240, STEP), 10240, 1e-9);
        cr_assert_float_eq(cost_round_up(1024000, STEP), 1024000, 1e-9);
}

Test(cost, one_event_a_record_costs_14_cents_a_million, .timeout = 10)
{
        /* 1e6 x 5,120 B = 4.768 GB at 0.029. */
        struct cost_stream stream = busy_stream(1400, 1);
        struct cost_packed packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.events_per_record, 1, 1e-9);
        cr_assert_float_eq(packed.billed_bytes, 5120, 1e-6);
        cr_assert_float_eq(usd_per_million(&packed), 0.138283, 1e-6);
        stream = busy_stream(5120, 1);
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(usd_per_million(&packed), 0.138283, 1e-6);
        stream = busy_stream(5121, 1);
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(usd_per_million(&packed), 0.276566, 1e-6);
        /* Half of them small, half large: the mean of the rounded, not the rounded mean. */
        stream = busy_stream(5000, 1);
        stream.event_billed_bytes = (5120 + 10240) / 2.0;
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.billed_bytes, 7680, 1e-6);
}

Test(cost, packed_events_cost_4_cents_a_million, .timeout = 10)
{
        /* 500 x 1,400 B = 700,000 B: 137 steps. A body of 4 MiB holds 2,246 events: 4 full records, and one of 246:
         * 344,400 B, 68 steps. (4 x 701,440 + 348,160) / 2,246 = 1,404.24 B. */
        struct cost_stream stream = busy_stream(1400, 500);
        struct cost_packed packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.events_per_request, 2246, 1e-9);
        cr_assert_float_eq(packed.events_per_record, 2246 / 5.0, 1e-9);
        cr_assert_float_eq(packed.billed_bytes, 1404.2386, 1e-3);
        cr_assert_float_eq(usd_per_million(&packed), 0.037926, 1e-6);
}

Test(cost, gzip_divides_what_is_rounded, .timeout = 10)
{
        /* 500 x 1,400 / 8 = 87,500 B: 18 steps, 92,160 B. 1,400 / 8 = 175 B, 233.33 as base64: 17,973 events a body, 35
         * full records and one of 473: 82,775 B, 17 steps. */
        struct cost_stream stream = busy_stream(1400, 500);
        stream.gzip_ratio = 8;
        struct cost_packed packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.events_per_request, 17973, 1e-9);
        cr_assert_float_eq(packed.sent_bytes, 175, 1e-9);
        cr_assert_float_eq(packed.billed_bytes, (35 * 92160.0 + 87040) / 17973, 1e-6);
        /* An event alone stays as it is. */
        stream = busy_stream(1400, 1);
        stream.gzip_ratio = 8;
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.sent_bytes, 1400, 1e-9);
        cr_assert_float_eq(packed.billed_bytes, 5120, 1e-6);
}

Test(cost, a_trickle_fills_no_record, .timeout = 10)
{
        struct cost_stream stream = busy_stream(839, 500);
        stream.events_per_s = 0.001;
        struct cost_packed packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.events_per_record, 1, 1e-3);
        cr_assert_float_eq(packed.billed_bytes, 5120, 1);
        /* 25 a second for 0.1 s: one and 2.5 more in the mean. 5 of 1,003 B are one step, 10 are two, and so on. */
        stream = busy_stream(1003, 500);
        stream.events_per_s = 25;
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.events_per_request, 3.5, 1e-9);
        double steps = 0;
        for (int more = 0; more < 60; more++)
                steps += exp(more * log(2.5) - 2.5 - lgamma(more + 1)) * floor((more + 5) / 5.0);
        cr_assert_float_eq(packed.billed_bytes, 5120 * steps / 3.5, 1e-6);
        /* Two of 2,560 B fill a step: ceil(n / 2) steps, and of one and a Poisson number with the mean 1 the n is odd
         * with the probability (1 + exp(-2)) / 2. Two of 2,561 B begin another. */
        const double odd = (1 + exp(-2)) / 2;
        stream = busy_stream(2560, 500);
        stream.events_per_s = 10;
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.billed_bytes, 5120 * (2 + odd) / 2 / 2, 1e-6);
        stream.event_bytes = 2561;
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.billed_bytes, 5120 * (1 + (2 - odd) / 2) / 2, 1e-6);
        stream.event_bytes = 2560;
        stream.events_per_s = 15;
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.billed_bytes, 5120 * (2.5 + (1 + exp(-3)) / 2) / 2 / 2.5, 1e-6);
        /* An event that stays alone is billed as those are: some large, some small. */
        stream.events_per_s = 1e-6;
        stream.event_billed_bytes = (3 * 5120 + 10240) / 4.0;
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.billed_bytes, 6400, 0.1);
        /* Nothing comes: nothing costs. */
        stream.events_per_s = 0;
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.billed_bytes, 0, 1e-9);
        cr_assert_float_eq(cost_per_million(0, 0), 0, 1e-9);
}

/* The same by throwing dice: events at random, a request taking what comes within its linger. */
static void compare_with_arrivals(double events_per_s, double event_bytes, uint32_t record_events_max,
                                  double body_bytes_max)
{
        struct cost_stream stream = busy_stream(event_bytes, record_events_max);
        stream.events_per_s = events_per_s;
        stream.body_bytes_max = body_bytes_max;
        struct cost_packed packed = cost_pack(&stream, STEP);
        stream.events_per_s = 1e9;
        const double full = cost_pack(&stream, STEP).events_per_request;
        unsigned short seed[3] = {1, 2, 3};
        double events = 0, billed = 0, requests = 0, records = 0;
        for (double at_s = 0; requests < 200000; requests++) {
                double own = 1, due_s = at_s + stream.linger_s;
                while ((at_s -= log(1 - erand48(seed)) / events_per_s) < due_s && own < full)
                        own++;
                events += own;
                for (double left = own; left > 0; left -= record_events_max, records++)
                        billed += cost_round_up(fmin(left, record_events_max) * event_bytes, STEP);
        }
        cr_expect_float_eq(packed.events_per_request, events / requests, 0.004 * events / requests,
                           "%g a second: %g events a request, and by dice %g", events_per_s, packed.events_per_request,
                           events / requests);
        cr_expect_float_eq(packed.events_per_record, events / records, 0.004 * events / records);
        cr_expect_float_eq(packed.billed_bytes, billed / events, 0.004 * billed / events,
                           "%g a second: billed %g, and by dice %g", events_per_s, packed.billed_bytes,
                           billed / events);
}

Test(cost, what_comes_within_a_linger_is_random, .timeout = 60)
{
        compare_with_arrivals(3, 836, 500, LIMIT_FIREHOSE_CALL_BYTES_MAX);
        compare_with_arrivals(30, 836, 500, LIMIT_FIREHOSE_CALL_BYTES_MAX);
        compare_with_arrivals(100, 836, 500, LIMIT_FIREHOSE_CALL_BYTES_MAX); /* the mean is two steps, nearly */
        compare_with_arrivals(100, 836, 4, LIMIT_FIREHOSE_CALL_BYTES_MAX);
        compare_with_arrivals(100, 836, 500, 12000); /* bodies are full with about as many as come */
        compare_with_arrivals(1000, 836, 500, LIMIT_FIREHOSE_CALL_BYTES_MAX);
}

/* The same events through what sends them. */
static void compare_with_a_body(size_t json_bytes, uint32_t record_events_max)
{
        struct firehose_body *body = calloc(1, sizeof(*body));
        uint8_t *bytes = malloc(LIMIT_FIREHOSE_CALL_BYTES_MAX + FIREHOSE_BODY_SLACK_BYTES);
        uint8_t *json = malloc(json_bytes);
        cr_assert(body != NULL && bytes != NULL && json != NULL);
        memset(json, 'x', json_bytes);
        const struct firehose_limits limits = {.record_bytes_max = LIMIT_FIREHOSE_RECORD_BYTES_MAX,
                                               .record_events_max = record_events_max,
                                               .records_max = LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX,
                                               .call_bytes_max = UINT64_MAX};
        firehose_body_begin(body, bytes, LIMIT_FIREHOSE_CALL_BYTES_MAX, SLICE("mail-events"), NULL);
        while (firehose_body_append(body, &limits, slice_of(json, json_bytes)) == ERR_OK)
                ;
        firehose_body_finish(body);
        double billed = 0;
        for (uint32_t i = 0; i < body->records; i++)
                billed += cost_round_up(body->index[i].raw_bytes, STEP);
        struct cost_stream stream = busy_stream((double)json_bytes + 1, record_events_max);
        stream.linger_s = 10;
        struct cost_packed packed = cost_pack(&stream, STEP);
        cr_expect_float_eq(packed.events_per_request, body->events, 1, "%zu bytes: %g events, and really %u",
                           json_bytes, packed.events_per_request, body->events);
        cr_expect_float_eq(packed.events_per_request / packed.events_per_record, body->records, 1e-6,
                           "%zu bytes: %g records, and really %u", json_bytes,
                           packed.events_per_request / packed.events_per_record, body->records);
        cr_expect_float_eq(packed.billed_bytes, billed / body->events, billed / body->events * 0.002,
                           "%zu bytes: billed %g an event, and really %g", json_bytes, packed.billed_bytes,
                           billed / body->events);
        free(json);
        free(bytes);
        free(body);
}

Test(cost, records_are_those_that_are_sent, .timeout = 60)
{
        compare_with_a_body(838, 500);
        compare_with_a_body(838, 1);
        compare_with_a_body(838, 6);
        compare_with_a_body(1399, 500);
        compare_with_a_body(3000, 500);
        compare_with_a_body(5119, 1);
        compare_with_a_body(5120, 1);
        compare_with_a_body(12000, 500);
        compare_with_a_body(200000, 500);
}

/* Their size is known when they are compressed: bodies and records are full to some 3 %. */
Test(cost, compressed_records_are_those_that_are_sent, .timeout = 60)
{
        static uint8_t encoded[8192], json[65536];
        const char *const sets[] = {"bulk-a"};
        struct loadgen_events_options options = {
                .seed = 1, .size = LOADGEN_SIZE_STANDARD, .sets = sets, .sets_count = 1};
        cr_assert(loadgen_mix_parse("standard", options.permille));
        struct loadgen_events *events = loadgen_events_create(&options);
        struct firehose_body *body = calloc(1, sizeof(*body));
        uint8_t *bytes = malloc(LIMIT_FIREHOSE_CALL_BYTES_MAX + FIREHOSE_BODY_SLACK_BYTES);
        struct gzip_writer *gzip;
        struct err err;
        cr_assert(events != NULL && body != NULL && bytes != NULL && gzip_writer_create(&gzip, &err) == ERR_OK);
        const struct firehose_limits limits = {.record_bytes_max = LIMIT_FIREHOSE_RECORD_BYTES_MAX,
                                               .record_events_max = LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX,
                                               .records_max = LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX,
                                               .call_bytes_max = UINT64_MAX};
        const struct codec_json_options as = {.account_id = SLICE("123456789012"), .region = SLICE("us-east-1")};
        firehose_body_begin(body, bytes, LIMIT_FIREHOSE_CALL_BYTES_MAX, SLICE("mail-events"), gzip);
        double json_bytes = 0;
        for (uint64_t i = 0;; i++) {
                uint32_t set;
                size_t encoded_bytes;
                struct codec_view view;
                cr_assert_eq(
                        codec_event_encode(loadgen_events_make(events, i, INT64_C(1767323045678) + (int64_t)i, &set),
                                           encoded, sizeof(encoded), &encoded_bytes, NULL),
                        ERR_OK);
                cr_assert_eq(codec_view_decode(slice_of(encoded, encoded_bytes), &view, NULL), ERR_OK);
                size_t len = codec_json_encode(&view, &as, json, sizeof(json));
                if (firehose_body_append(body, &limits, slice_of(json, len)) != ERR_OK)
                        break;
                json_bytes += (double)len + 1;
        }
        firehose_body_finish(body);
        double billed = 0;
        for (uint32_t i = 0; i < body->records; i++)
                billed += cost_round_up(body->index[i].raw_bytes, STEP);
        struct cost_stream stream = busy_stream(json_bytes / body->events, LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX);
        stream.linger_s = 10;
        stream.gzip_ratio = json_bytes / (double)body->raw_bytes;
        struct cost_packed packed = cost_pack(&stream, STEP);
        cr_expect(stream.gzip_ratio > 5 && stream.gzip_ratio < 9, "the ratio is %g", stream.gzip_ratio);
        cr_expect_float_eq(packed.events_per_request, body->events, body->events * 0.04, "%g events, and really %u",
                           packed.events_per_request, body->events);
        cr_expect_float_eq(packed.billed_bytes, billed / body->events, billed / body->events * 0.02,
                           "billed %g an event, and really %g", packed.billed_bytes, billed / body->events);
        gzip_writer_free(gzip);
        loadgen_events_free(events);
        free(bytes);
        free(body);
}

/* ---------------------------------------------------------------------------------------------- quotas */

Test(cost, a_stream_is_full_by_the_first_of_its_quotas, .timeout = 10)
{
        const struct cost_quota large = cost_stream_quota(SLICE("eu-west-1"));
        const struct cost_quota small = cost_stream_quota(SLICE("eu-central-1"));
        cr_assert(large.bytes == 5242880 && large.records == 500000 && large.requests == 2000);
        cr_assert(small.bytes == 1048576 && small.records == 100000 && small.requests == 1000);
        /* 1,000 a second of 1,049 B one by one, 100 and one of them a request. */
        struct cost_stream stream = busy_stream(1049, 1);
        stream.events_per_s = 1000;
        struct cost_packed packed = cost_pack(&stream, STEP);
        struct cost_quota_share share = cost_share_of_quota(&packed, 1000, &large);
        cr_assert_str_eq(share.highest_of, "bytes");
        cr_assert_float_eq(share.highest, 0.2, 1e-3);
        cr_assert_float_eq(share.bytes, 0.2, 1e-3);
        cr_assert_float_eq(share.records, 0.002, 1e-9);
        cr_assert_float_eq(share.requests, 1000 / 101.0 / 2000, 1e-6);
        cr_assert_float_eq(cost_share_of_quota(&packed, 1000, &small).highest, 1, 1e-3);
        /* Nothing waits for another: each event is a request. */
        stream.linger_s = 0;
        packed = cost_pack(&stream, STEP);
        cr_assert_float_eq(packed.events_per_request, 1, 1e-12);
        share = cost_share_of_quota(&packed, 1000, &large);
        cr_assert_str_eq(share.highest_of, "requests");
        cr_assert_float_eq(share.highest, 0.5, 1e-9);
        /* Events of 5 B are none; these are no events, only what would be bound by records. */
        stream = busy_stream(5, 1);
        packed = cost_pack(&stream, STEP);
        share = cost_share_of_quota(&packed, 1e6, &large);
        cr_assert_str_eq(share.highest_of, "records");
        cr_assert_float_eq(share.highest, 2, 1e-9);
}

/* ---------------------------------------------------------------------------------------------- CloudWatch */

Test(cost, a_period_is_one_request_for_1000_series, .timeout = 10)
{
        /* 43,200 minutes: 0.43 USD a month for each 1,000 series. */
        struct cost_metrics metrics = {.events_per_s = 1000, .roll_ups = 1, .series_max = 1000, .period_s = 60};
        cr_assert_float_eq(cost_series(&metrics), 1000, 1e-9);
        cr_assert_float_eq(cost_metric_requests(&metrics), 43200, 1e-6);
        metrics.series_max = 1001;
        cr_assert_float_eq(cost_metric_requests(&metrics), 86400, 1e-6);
        metrics.period_s = 1;
        metrics.events_per_s = 100; /* no more series in a second than counts */
        cr_assert_float_eq(cost_metric_requests(&metrics), 2592000, 1e-3);
        /* One event an hour: a request for it, and two series. */
        metrics = (struct cost_metrics){.events_per_s = 1 / 3600.0, .roll_ups = 2, .series_max = 1000, .period_s = 60};
        cr_assert_float_eq(cost_series(&metrics), 2, 1e-9);
        cr_assert_float_eq(cost_metric_requests(&metrics), 43200 * (1 - exp(-1 / 60.0)), 1e-6);
        metrics.events_per_s = 0;
        cr_assert_float_eq(cost_metric_requests(&metrics), 0, 1e-9);
}

static void check_hours(int64_t hour, uint32_t now, uint32_t before, int64_t started_ms, int64_t at_ms, double series,
                        double covered_s)
{
        const struct cost_hours hours = {hour, now, before, started_ms};
        struct cost_hour of = cost_series_of_hours(&hours, at_ms);
        cr_expect_float_eq(of.series, series, 1e-9, "%u, %u before: %g series", now, before, of.series);
        cr_expect_float_eq(of.covered_s, covered_s, 1e-9, "%u, %u before: of %g s", now, before, of.covered_s);
}

Test(cost, at_the_start_of_an_hour_its_series_are_those_of_the_one_before, .timeout = 10)
{
        const int64_t hour = 490900, noon_ms = hour * 3600000, long_ago_ms = noon_ms - 86400000;
        /* 40 s into the hour three are there, and there were 800 in the whole one before. */
        check_hours(hour, 3, 800, long_ago_ms, noon_ms + 40000, 800, 3600);
        check_hours(hour, 800, 800, long_ago_ms, noon_ms + 40000, 800, 3600);
        /* More than there were, already: so many at least. */
        check_hours(hour, 900, 800, long_ago_ms, noon_ms + 600000, 900, 600);
        check_hours(hour, 900, 0, long_ago_ms, noon_ms + 600000, 900, 600);
        /* The newest hour is the one before until the first period of this one is counted. */
        check_hours(hour - 1, 800, 700, long_ago_ms, noon_ms + 1000, 800, 3600);
        check_hours(hour - 2, 800, 700, long_ago_ms, noon_ms + 1000, 0, 1);
        check_hours(0, 0, 0, long_ago_ms, noon_ms + 1000, 0, 1);
        /* Started five minutes before noon. Started at noon: what was before is read from a file. */
        check_hours(hour, 3, 20, noon_ms - 300000, noon_ms + 40000, 20, 300);
        check_hours(hour, 3, 20, noon_ms + 1000, noon_ms + 40000, 20, 3600);
}

Test(cost, a_months_dollars_by_the_million, .timeout = 10)
{
        cr_assert_float_eq(cost_per_million(300, 1000), 300 / 2592.0, 1e-9);
}

Test(cost, a_record_of_the_journal_is_whole_cache_lines, .timeout = 10)
{
        cr_assert_eq(cost_journal_bytes(0), 64);
        cr_assert_eq(cost_journal_bytes(1), 192);   /* 64 + 80 + 1 */
        cr_assert_eq(cost_journal_bytes(112), 256); /* 64 + 80 + 112 */
        cr_assert_eq(cost_journal_bytes(113), 320);
        double sum = 0;
        for (uint64_t bytes = 401; bytes <= 464; bytes++)
                sum += (double)cost_journal_bytes(bytes);
        cr_assert_float_eq(cost_journal_mean_bytes(432.5), sum / 64, 0.6);
}

/* ---------------------------------------------------------------------------------------------- prices */

Test(prices, tiers_are_filled_one_after_the_other, .timeout = 10)
{
        const struct price_tiers *gb = &prices_us_east_1.firehose_gb;
        cr_assert_float_eq(price_of(gb, 0), 0, 1e-9);
        cr_assert_float_eq(price_of(gb, 1), 0.029, 1e-9);
        cr_assert_float_eq(price_of(gb, 512000), 14848, 1e-6);
        cr_assert_float_eq(price_of(gb, 512001), 14848.025, 1e-6);
        cr_assert_float_eq(price_of(gb, 2048000), 14848 + 38400, 1e-6);
        cr_assert_float_eq(price_of(gb, 2048001), 14848 + 38400 + 0.02, 1e-6);
        cr_assert_float_eq(price_of(&prices_us_east_1.cloudwatch_metric, 10001), 3000.1, 1e-6);
        cr_assert_float_eq(price_of(&prices_us_east_1.cloudwatch_metric, 1000001), 3000 + 24000 + 37500 + 0.02, 1e-6);
}

static enum err_code read_prices(const char *text, struct prices *ret_prices, char *ret_why, size_t why_bytes)
{
        struct rules_report report;
        rules_report_init(&report);
        enum err_code code = rules_prices_parse("prices.yaml", slice_of_text(text), ret_prices, &report);
        ret_why[0] = '\0';
        if (report.first != NULL)
                (void)snprintf(ret_why, why_bytes, "%u:%u %s", report.first->line, report.first->column,
                               report.first->text);
        rules_report_release(&report);
        return code;
}

Test(prices, a_file_changes_what_it_names, .timeout = 10)
{
        struct prices prices;
        char why[512];
        cr_assert_eq(read_prices("region: eu-west-1\nfirehose_gb: 0.031\ncloudwatch_thousand_requests: 0.02\n", &prices,
                                 why, sizeof(why)),
                     ERR_OK, "%s", why);
        cr_assert_str_eq(prices.region, "eu-west-1");
        cr_assert_float_eq(price_of(&prices.firehose_gb, 1e6), 31000, 1e-6);
        cr_assert_float_eq(prices.cloudwatch_thousand_requests, 0.02, 1e-9);
        cr_assert_eq(prices.firehose_step_bytes, 5120);
        cr_assert_float_eq(price_of(&prices.cloudwatch_metric, 20000), 4000, 1e-6);
        /* JSON, with tiers. */
        cr_assert_eq(read_prices("{\"date\": \"2027-01-01\", \"firehose_step_bytes\": \"1KiB\",\n"
                                 " \"cloudwatch_metric\": [{\"up_to\": 10, \"usd\": 1}, {\"usd\": 0.5}]}",
                                 &prices, why, sizeof(why)),
                     ERR_OK, "%s", why);
        cr_assert_str_eq(prices.date, "2027-01-01");
        cr_assert_str_eq(prices.region, "us-east-1");
        cr_assert_eq(prices.firehose_step_bytes, 1024);
        cr_assert_float_eq(price_of(&prices.cloudwatch_metric, 12), 11, 1e-9);
}

Test(prices, mistakes_are_told_with_their_place, .timeout = 10)
{
        static const struct {
                const char *text, *why;
        } cases[] = {
                {"firehose: 1\n", "1:1 unknown member 'firehose' of the prices"},
                {"firehose_gb: -1\n", "1:14 firehose_gb must be a number such as 0.029"},
                {"firehose_gb: nan\n", "1:14 firehose_gb must be a number"},
                {"firehose_gb: 1.2.3\n", "1:14 firehose_gb must be a number"},
                {"firehose_gb: .\n", "1:14 firehose_gb must be a number"},
                {"firehose_gb: 99999999999999999999999999\n", "1:14 firehose_gb must be a number"},
                {"firehose_gb: []\n", "1:14 firehose_gb must have 1 to 8 tiers"},
                {"firehose_gb: [{usd: 1}, {usd: 2}]\n", "1:15 firehose_gb: every tier but the last needs up_to"},
                {"firehose_gb: [{up_to: 1, usd: 1}]\n", "1:15 firehose_gb: the last tier is for all above"},
                {"firehose_gb: [{up_to: 2, usd: 1}, {up_to: 2, usd: 1}, {usd: 1}]\n",
                 "1:35 firehose_gb: up_to must grow"},
                {"firehose_gb: [{up_to: 0, usd: 1}, {usd: 1}]\n", "1:15 firehose_gb: up_to must grow"},
                {"firehose_gb: [{up_to: 2}, {usd: 1}]\n", "1:15 usd must be a number"},
                {"firehose_step_bytes: 0\n", "1:22 firehose_step_bytes must be"},
                {"- 1\n", "1:1 the prices must be a map"},
                {"", "0:0 the prices must be a map"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct prices prices;
                char why[512];
                cr_expect_eq(read_prices(cases[i].text, &prices, why, sizeof(why)), ERR_CONFIG, "%s", cases[i].text);
                cr_expect(strstr(why, cases[i].why) == why, "%s\ngives  %s\nwanted %s", cases[i].text, why,
                          cases[i].why);
        }
}
