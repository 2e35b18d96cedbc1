#include "tools/cost_report.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COST_DAY_S    86400.0
#define COST_HOUR_S   3600.0
#define COST_TEXT_MAX 400u

/* Event destinations of services that are only checked. */
#define COST_NOT_PRICED_TOLD_MAX 10u
#define COST_NOT_PRICED_WHY \
        "this version does not deliver to SNS, EventBridge and Pinpoint, so no event goes there and none is paid for"

const char *const cost_variant_names[COST_VARIANTS] = {"configured", "none", "events", "events_gzip"};

/* ---------------------------------------------------------------------------------------------- computing */

static void cost_types_of(void *context, struct slice set, struct slice destination, bool enabled, uint16_t mask,
                          uint32_t target)
{
        struct cost_report *report = context;
        (void)set;
        (void)destination;
        if (enabled && target == RULES_TARGET_NONE)
                report->not_published++;
        else if (enabled)
                report->lines[target].types_mask |= mask;
}

static void cost_line_firehose(const struct cost_inputs *inputs, struct cost_line *line)
{
        const struct rules_target *target = line->target;
        line->gzip_ratio = line->flow->gzip_ratio > 0 ? line->flow->gzip_ratio : inputs->gzip_ratio;
        /* Each kind of record has its own bound, and what the destination says is about the kind that it has. */
        struct {
                uint32_t record_events_max;
                double gzip_ratio;
        } variants[COST_VARIANTS] = {
                [COST_NONE] = {1, 1},
                [COST_PACKED] = {LIMIT_FIREHOSE_EVENTS_PER_RECORD_MAX, 1},
                [COST_PACKED_GZIP] = {LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX, line->gzip_ratio},
        };
        const int kind = target->gzip ? COST_PACKED_GZIP : target->packed ? COST_PACKED : COST_NONE;
        variants[kind].record_events_max = target->packed_events_max;
        variants[COST_CONFIGURED] = variants[kind];
        line->quota = cost_stream_quota(target->region);
        for (int i = 0; i < COST_VARIANTS && line->events_per_s > 0; i++) {
                struct cost_stream stream = {
                        .events_per_s = line->events_per_s,
                        .event_bytes = line->flow->event_bytes,
                        .event_billed_bytes = line->flow->event_billed_bytes,
                        .record_events_max = variants[i].record_events_max,
                        .linger_s = inputs->settings->egress.linger_ms / 1000.0,
                        .body_bytes_max = inputs->settings->egress.batch_bytes_max,
                        .gzip_ratio = variants[i].gzip_ratio,
                };
                struct cost_of_stream *of = &line->streams[i];
                of->packed = cost_pack(&stream, (double)inputs->prices->firehose_step_bytes);
                of->gb = of->packed.billed_bytes * line->events_per_s * COST_MONTH_S / PRICE_GB_BYTES;
        }
}

static void cost_line_cloudwatch(const struct cost_inputs *inputs, struct cost_line *line)
{
        const struct rules_cloudwatch *cloudwatch = line->target->cloudwatch;
        line->series_max = rules_cloudwatch_series(cloudwatch, (uint32_t)__builtin_popcount(line->types_mask));
        struct cost_metrics metrics = {
                .events_per_s = line->events_per_s,
                .roll_ups = cloudwatch->roll_ups_count,
                .series_max = inputs->series > 0 ? fmin(inputs->series, line->series_max) : line->series_max,
                .period_s = cloudwatch->period_s,
        };
        if (!(line->events_per_s > 0))
                return;
        if (inputs->series <= 0 && line->flow->hour.series > 0) {
                metrics.series_max = line->flow->hour.series;
                line->series_covered_s = line->flow->hour.covered_s;
        }
        line->series = cost_series(&metrics);
        line->requests = cost_metric_requests(&metrics);
        line->requests_usd = line->requests / 1000 * inputs->prices->cloudwatch_thousand_requests;
}

/* The price of one depends on how many there are: all together cost so much, and each its part of it. */
static void cost_price(const struct cost_inputs *inputs, struct cost_report *report)
{
        double gb[COST_VARIANTS] = {0}, series = 0, requests_usd = 0;
        for (uint32_t i = 0; i < report->lines_count; i++) {
                series += report->lines[i].series;
                requests_usd += report->lines[i].requests_usd;
                for (int k = 0; k < COST_VARIANTS; k++)
                        gb[k] += report->lines[i].streams[k].gb;
        }
        double series_usd = price_of(&inputs->prices->cloudwatch_metric, series);
        report->cloudwatch_usd = series_usd + requests_usd;
        for (int k = 0; k < COST_VARIANTS; k++)
                report->firehose_usd[k] = price_of(&inputs->prices->firehose_gb, gb[k]);
        for (uint32_t i = 0; i < report->lines_count; i++) {
                struct cost_line *line = &report->lines[i];
                for (int k = 0; k < COST_VARIANTS; k++)
                        line->streams[k].usd = gb[k] > 0 ? report->firehose_usd[k] * line->streams[k].gb / gb[k] : 0;
                line->series_usd = series > 0 ? series_usd * line->series / series : 0;
                line->usd = line->streams[COST_CONFIGURED].usd + line->series_usd + line->requests_usd;
        }
}

bool cost_report_make(const struct cost_inputs *inputs, struct cost_report *ret_report)
{
        const struct cost_traffic *traffic = inputs->traffic;
        struct cost_report report = {.inputs = inputs, .lines_count = rules_plan_targets_count(inputs->plan)};
        report.lines = calloc(report.lines_count + 1, sizeof(report.lines[0]));
        if (report.lines == NULL)
                return false;
        rules_plan_each(inputs->plan, cost_types_of, &report);
        for (uint32_t i = 0; i < report.lines_count; i++) {
                struct cost_line *line = &report.lines[i];
                line->target = rules_plan_target(inputs->plan, i);
                line->flow = &traffic->flows[i];
                line->events_per_s = traffic->events_per_s * line->flow->share;
                if (line->target->service == RULES_SERVICE_FIREHOSE)
                        cost_line_firehose(inputs, line);
                else if (line->target->cloudwatch != NULL)
                        cost_line_cloudwatch(inputs, line);
                else
                        line->file_bytes_per_s = line->events_per_s * line->flow->event_bytes;
                report.file_bytes_per_s += line->file_bytes_per_s;
        }
        cost_price(inputs, &report);
        report.budget = router_budget_of(inputs->settings, inputs->plan);
        if (traffic->budget_bytes > 0)
                report.budget.total_bytes = traffic->budget_bytes;
        report.journal_bytes_per_s = traffic->events_per_s * traffic->journal_bytes;
        report.cores = traffic->events_per_s * inputs->cpu_us / 1e6;
        *ret_report = report;
        return true;
}

void cost_report_release(struct cost_report *report)
{
        free(report->lines);
}

/* ---------------------------------------------------------------------------------------------- what was assumed */

/* The number of them; each is one sentence. */
#define COST_ASSUMPTIONS_MAX 12u
static uint32_t cost_assumptions(const struct cost_report *report, char out[COST_ASSUMPTIONS_MAX][COST_TEXT_MAX])
{
        const struct cost_inputs *inputs = report->inputs;
        uint32_t count = 0;
        (void)snprintf(out[count++], COST_TEXT_MAX,
                       "list prices of %s as of %s, before tax, discounts and free tiers; not counted: data transfer, "
                       "VPC endpoints, what Firehose delivers to, and what else the account uses of the same tiers",
                       inputs->prices->region, inputs->prices->date);
        (void)snprintf(out[count++], COST_TEXT_MAX, "a month has 30 days, a GB 2^30 bytes");
        (void)snprintf(out[count++], COST_TEXT_MAX, "rate: %s; events: %s", inputs->rate_from, inputs->events_from);
        (void)snprintf(out[count++], COST_TEXT_MAX, "shares: %s", inputs->shares_from);
        (void)snprintf(
                out[count++], COST_TEXT_MAX,
                "events come at random and evenly over the day; a request waits %u ms (egress.linger_ms) for more, "
                "so packing saves little of a trickle; bursts pack better",
                inputs->settings->egress.linger_ms);
        (void)snprintf(out[count++], COST_TEXT_MAX,
                       "gzip makes packed records %g times smaller, small ones too, where it was not measured; nothing "
                       "is sent again",
                       inputs->gzip_ratio);
        (void)snprintf(
                out[count++], COST_TEXT_MAX,
                "CloudWatch: series that are there in every hour of the month; those of the clock hour before the "
                "measurement, or of its own so far where it had more; without a measurement or --series as many as the "
                "budget (SeriesMax) lets there be");
        (void)snprintf(out[count++], COST_TEXT_MAX,
                       "an outage keeps every event in the journal, also those that other destinations have taken");
        (void)snprintf(out[count++], COST_TEXT_MAX, "CPU: %s", inputs->cpu_from);
        return count;
}

/* ---------------------------------------------------------------------------------------------- text */

/* "62.5 GiB"; a few at a time. */
static const char *cost_bytes(double bytes)
{
        static char texts[4][32];
        static unsigned next;
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
        unsigned unit = 0;
        while (bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
                bytes /= 1024;
                unit++;
        }
        char *text = texts[next++ % 4];
        (void)snprintf(text, sizeof(texts[0]), "%.*f %s", unit == 0 || bytes >= 1000 ? 0 : 1, bytes, units[unit]);
        return text;
}

/* "3.9 hours"; one at a time. */
static const char *cost_duration(double seconds)
{
        static char text[32];
        if (seconds < 2 * COST_HOUR_S)
                (void)snprintf(text, sizeof(text), "%.1f minutes", seconds / 60);
        else if (seconds < 3 * COST_DAY_S)
                (void)snprintf(text, sizeof(text), "%.1f hours", seconds / COST_HOUR_S);
        else
                (void)snprintf(text, sizeof(text), "%.1f days", seconds / COST_DAY_S);
        return text;
}

/* "14%"; a few at a time. */
static const char *cost_percent(double share)
{
        static char texts[4][32];
        static unsigned next;
        char *text = texts[next++ % 4];
        if (share < 0.001)
                (void)snprintf(text, sizeof(texts[0]), "<0.1%%");
        else
                (void)snprintf(text, sizeof(texts[0]), "%.*f%%", share < 0.0995 ? 1 : 0, 100 * share);
        return text;
}

static void cost_print_row(const char *name, double usd, double events_per_s, const char *more)
{
        printf("    %-26s %12.2f %14.4f%s%s\n", name, usd, cost_per_million(usd, events_per_s),
               more[0] == '\0' ? "" : "  ", more);
}

/* "14% of a stream by bytes (records <0.1%, requests 0.5%)": the quota that is full first, and the others. */
static void cost_quota_text(const struct cost_line *line, const struct cost_packed *packed, char *room,
                            size_t room_bytes)
{
        const struct cost_quota_share share = cost_share_of_quota(packed, line->events_per_s, &line->quota);
        const struct {
                const char *of;
                double share;
        } all[] = {{"bytes", share.bytes}, {"records", share.records}, {"requests", share.requests}};
        char others[COST_TEXT_MAX / 4] = "";
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
                size_t used = strlen(others);
                if (strcmp(all[i].of, share.highest_of) != 0)
                        (void)snprintf(others + used, sizeof(others) - used, "%s%s %s", used > 0 ? ", " : "", all[i].of,
                                       cost_percent(all[i].share));
        }
        (void)snprintf(room, room_bytes, "%s of a stream by %s (%s)", cost_percent(share.highest), share.highest_of,
                       others);
}

static void cost_print_firehose(const struct cost_line *line)
{
        static const char *const names[COST_VARIANTS] = {"as configured", "Packing: none", "Packing: events",
                                                         "Packing: events, gzip"};
        for (int i = 0; i < COST_VARIANTS; i++) {
                const struct cost_of_stream *of = &line->streams[i];
                double per_s = of->packed.sent_bytes * line->events_per_s;
                char more[COST_TEXT_MAX];
                char quota[COST_TEXT_MAX / 2];
                cost_quota_text(line, &of->packed, quota, sizeof(quota));
                (void)snprintf(more, sizeof(more), "%.1f events a record, billed %.0f B an event, %s/s, %s",
                               of->packed.events_per_record, of->packed.billed_bytes, cost_bytes(per_s), quota);
                cost_print_row(names[i], of->usd, line->events_per_s, more);
        }
}

/* What the series are those of. */
static const char *cost_hour_text(const struct cost_line *line, char *room, size_t room_bytes)
{
        if (line->series_covered_s <= 0)
                return "";
        if (line->series_covered_s >= COST_HOUR_S)
                return " in the hour before this one";
        (void)snprintf(room, room_bytes, " in %s of an hour, so at least as many in a whole one",
                       cost_duration(line->series_covered_s));
        return room;
}

/* What the measurement has not found out about it, and how small its records were. */
static void cost_print_measured(const struct cost_line *line)
{
        if (line->flow->sizes_from == COST_SIZES_OTHERS)
                printf("    size not measured: none of its events was in the sample; it is that of all others\n");
        else if (line->flow->sizes_from != COST_SIZES_JOURNAL)
                printf("    size not measured: the journal has no event of this time; it is that of the standard "
                       "mix\n");
        if (line->target->gzip && line->flow->gzip_ratio > 0)
                printf("    gzip measured: what was sent was %.3g times smaller than its JSON\n", line->gzip_ratio);
        else if (line->target->gzip)
                printf("    gzip not measured: nothing was delivered meanwhile; %g times smaller is assumed\n",
                       line->gzip_ratio);
}

static void cost_print_line(const struct cost_line *line, double rate, bool measured)
{
        const struct rules_target *target = line->target;
        printf("\n%.*s\n  ", SLICE_PRINTF(target->key));
        if (target->destination.len > 0)
                printf("%.*s, ", SLICE_PRINTF(target->destination));
        printf("%u destinations, %u enabled: ", target->destinations_count, target->destinations_enabled_count);
        if (!(line->events_per_s > 0)) {
                printf("no event goes there\n");
                return;
        }
        printf("%.6g events/s (%.3g%% of all)", line->events_per_s, 100 * line->events_per_s / rate);
        if (target->cloudwatch == NULL)
                printf(", %.0f bytes each with the newline", line->flow->event_bytes);
        printf("\n");
        if (measured && target->cloudwatch == NULL)
                cost_print_measured(line);
        char more[COST_TEXT_MAX];
        if (target->service == RULES_SERVICE_FIREHOSE) {
                cost_print_firehose(line);
        } else if (target->cloudwatch != NULL) {
                char hour[COST_TEXT_MAX / 2];
                (void)snprintf(more, sizeof(more), "%.0f series%s (at most %.0f: SeriesMax %u and what is beside it)",
                               line->series, cost_hour_text(line, hour, sizeof(hour)), line->series_max,
                               target->cloudwatch->series_max);
                cost_print_row("custom metrics", line->series_usd, line->events_per_s, more);
                (void)snprintf(more, sizeof(more), "%.0f requests, one period is %u s", line->requests,
                               target->cloudwatch->period_s);
                cost_print_row("PutMetricData", line->requests_usd, line->events_per_s, more);
        } else {
                (void)snprintf(more, sizeof(more), "%s a day, %s a month of disk",
                               cost_bytes(line->file_bytes_per_s * COST_DAY_S),
                               cost_bytes(line->file_bytes_per_s * COST_MONTH_S));
                cost_print_row("file", 0, line->events_per_s, more);
        }
}

static void cost_print_host(const struct cost_report *report)
{
        const struct cost_traffic *traffic = report->inputs->traffic;
        double size_bytes = (double)report->inputs->settings->journal.size_bytes_max;
        printf("\nthe host\n");
        printf("  journal  %.0f bytes an event: %s for each hour of an outage; journal.size_bytes_max, %s, is full "
               "after %s\n",
               traffic->journal_bytes, cost_bytes(report->journal_bytes_per_s * COST_HOUR_S), cost_bytes(size_bytes),
               cost_duration(size_bytes / report->journal_bytes_per_s));
        if (report->file_bytes_per_s > 0)
                printf("  files    %s a day, %s a month\n", cost_bytes(report->file_bytes_per_s * COST_DAY_S),
                       cost_bytes(report->file_bytes_per_s * COST_MONTH_S));
        printf("  memory   at most %s, the budget that `sendring run` says at its start\n",
               cost_bytes((double)report->budget.total_bytes));
        printf("  CPU      %.3g cores of the router, at %.3g us an event\n", report->cores, report->inputs->cpu_us);
}

static void cost_print_not_published(void *context, struct slice set, struct slice destination, bool enabled,
                                     uint16_t mask, uint32_t target)
{
        uint32_t *told = context;
        (void)mask;
        if (enabled && target == RULES_TARGET_NONE && (*told)++ < COST_NOT_PRICED_TOLD_MAX)
                printf("    %.*s/%.*s\n", SLICE_PRINTF(set), SLICE_PRINTF(destination));
}

static void cost_print_not_priced(const struct cost_report *report)
{
        uint32_t told = 0;
        printf("\nnot priced\n  %u event destinations: " COST_NOT_PRICED_WHY "\n", report->not_published);
        rules_plan_each(report->inputs->plan, cost_print_not_published, &told);
        if (told > COST_NOT_PRICED_TOLD_MAX)
                printf("    and %u more\n", told - COST_NOT_PRICED_TOLD_MAX);
}

void cost_report_print(const struct cost_report *report)
{
        const struct cost_traffic *traffic = report->inputs->traffic;
        double rate = traffic->events_per_s;
        printf("%.6g events/s, %.6g million a month; %.0f bytes of JSON an event, %.0f as the producer writes it\n",
               rate, rate * COST_MONTH_S / 1e6, traffic->event_bytes - 1, traffic->encoded_bytes);
        if (traffic->unmatched > 0)
                printf("%.3g%% of them go nowhere\n", 100 * traffic->unmatched);
        printf("\n    %-26s %12s %14s\n", "", "USD a month", "USD a million");
        for (uint32_t i = 0; i < report->lines_count; i++)
                cost_print_line(&report->lines[i], rate, report->inputs->measured);
        if (report->not_published > 0)
                cost_print_not_priced(report);
        static const char *const names[COST_VARIANTS] = {"as configured", "all Packing: none", "all Packing: events",
                                                         "all events, gzip"};
        printf("\ntotal, for each million events that come\n");
        for (int i = 0; i < COST_VARIANTS; i++)
                if (i == COST_CONFIGURED || report->firehose_usd[COST_CONFIGURED] > 0)
                        cost_print_row(names[i], report->firehose_usd[i] + report->cloudwatch_usd, rate, "");
        cost_print_host(report);
        char assumptions[COST_ASSUMPTIONS_MAX][COST_TEXT_MAX];
        uint32_t count = cost_assumptions(report, assumptions);
        printf("\nassumed\n");
        for (uint32_t i = 0; i < count; i++)
                printf("  - %s\n", assumptions[i]);
}

/* ---------------------------------------------------------------------------------------------- JSON */

static json_t *cost_json_text(struct slice text)
{
        json_t *json = json_stringn((const char *)text.ptr, text.len);
        return json != NULL ? json : json_string("(not UTF-8)");
}

static json_t *cost_json_stream(const struct cost_line *line, int variant)
{
        const struct cost_of_stream *of = &line->streams[variant];
        const struct cost_quota_share share = cost_share_of_quota(&of->packed, line->events_per_s, &line->quota);
        return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:s,s:{s:f,s:f,s:f}}", "usd_per_month", of->usd,
                         "usd_per_million_events", cost_per_million(of->usd, line->events_per_s), "events_per_record",
                         of->packed.events_per_record, "events_per_request", of->packed.events_per_request,
                         "billed_bytes_per_event", of->packed.billed_bytes, "billed_gb_per_month", of->gb,
                         "stream_quota_share", share.highest, "stream_quota", share.highest_of, "stream_quota_shares",
                         "bytes", share.bytes, "records", share.records, "requests", share.requests);
}

static json_t *cost_json_line(const struct cost_line *line)
{
        const struct rules_target *target = line->target;
        json_t *json = json_pack("{s:o,s:s,s:o,s:i,s:i,s:f,s:f,s:f,s:s,s:f,s:f}", "target", cost_json_text(target->key),
                                 "service", rules_service_name(target->service), "destination",
                                 target->destination.len == 0 ? json_null() : cost_json_text(target->destination),
                                 "destinations", (int)target->destinations_count, "enabled",
                                 (int)target->destinations_enabled_count, "share", line->flow->share, "events_per_s",
                                 line->events_per_s, "event_bytes", line->flow->event_bytes, "event_bytes_from",
                                 cost_sizes_from_name(line->flow->sizes_from), "usd_per_month", line->usd,
                                 "usd_per_million_events", cost_per_million(line->usd, line->events_per_s));
        if (target->service == RULES_SERVICE_FIREHOSE) {
                json_t *packings = json_object();
                for (int i = 0; i < COST_VARIANTS; i++)
                        (void)json_object_set_new(packings, cost_variant_names[i], cost_json_stream(line, i));
                (void)json_object_set_new(packings, "gzip_ratio", json_real(line->gzip_ratio));
                (void)json_object_set_new(packings, "gzip_ratio_measured", json_boolean(line->flow->gzip_ratio > 0));
                (void)json_object_set_new(json, "firehose", packings);
        } else if (target->cloudwatch != NULL) {
                (void)json_object_set_new(
                        json, "cloudwatch",
                        json_pack("{s:f,s:o,s:f,s:f,s:f,s:f}", "series", line->series, "series_measured_s",
                                  line->series_covered_s > 0 ? json_real(line->series_covered_s) : json_null(),
                                  "series_max", line->series_max, "series_usd_per_month", line->series_usd,
                                  "requests_per_month", line->requests, "requests_usd_per_month", line->requests_usd));
        } else {
                (void)json_object_set_new(json, "file",
                                          json_pack("{s:f,s:f}", "bytes_per_day", line->file_bytes_per_s * COST_DAY_S,
                                                    "bytes_per_month", line->file_bytes_per_s * COST_MONTH_S));
        }
        return json;
}

static json_t *cost_json_total(const struct cost_report *report)
{
        double rate = report->inputs->traffic->events_per_s;
        json_t *total = json_object();
        for (int i = 0; i < COST_VARIANTS; i++) {
                double usd = report->firehose_usd[i] + report->cloudwatch_usd;
                (void)json_object_set_new(total, cost_variant_names[i],
                                          json_pack("{s:f,s:f}", "usd_per_month", usd, "usd_per_million_events",
                                                    cost_per_million(usd, rate)));
        }
        return total;
}

static void cost_json_not_published(void *context, struct slice set, struct slice destination, bool enabled,
                                    uint16_t mask, uint32_t target)
{
        (void)mask;
        if (enabled && target == RULES_TARGET_NONE)
                (void)json_array_append_new(
                        context, json_pack("{s:o,s:o,s:s}", "configuration_set", cost_json_text(set), "destination",
                                           cost_json_text(destination), "why", COST_NOT_PRICED_WHY));
}

bool cost_report_print_json(const struct cost_report *report)
{
        const struct cost_inputs *inputs = report->inputs;
        const struct cost_traffic *traffic = inputs->traffic;
        char assumptions[COST_ASSUMPTIONS_MAX][COST_TEXT_MAX];
        uint32_t count = cost_assumptions(report, assumptions);
        json_t *lines = json_array(), *assumed = json_array(), *not_priced = json_array();
        rules_plan_each(inputs->plan, cost_json_not_published, not_priced);
        for (uint32_t i = 0; i < report->lines_count; i++)
                (void)json_array_append_new(lines, cost_json_line(&report->lines[i]));
        for (uint32_t i = 0; i < count; i++)
                (void)json_array_append_new(assumed, json_string(assumptions[i]));
        double size_bytes = (double)inputs->settings->journal.size_bytes_max;
        const struct router_budget *budget = &report->budget;
        json_t *memory = json_pack("{s:f,s:f,s:f,s:f}", "lanes", (double)budget->lanes_bytes, "journal",
                                   (double)budget->journal_bytes, "targets", (double)budget->targets_bytes, "other",
                                   (double)budget->other_bytes);
        json_t *host = json_pack("{s:f,s:f,s:f,s:f,s:o,s:f,s:f}", "journal_bytes_per_event", traffic->journal_bytes,
                                 "journal_bytes_per_hour", report->journal_bytes_per_s * COST_HOUR_S,
                                 "journal_hours_max", size_bytes / report->journal_bytes_per_s / COST_HOUR_S,
                                 "memory_budget_bytes", (double)budget->total_bytes, "memory_bytes", memory, "cores",
                                 report->cores, "cpu_us_per_event", inputs->cpu_us);
        json_t *json = json_pack(
                "{s:f,s:f,s:f,s:s,s:f,s:f,s:i,s:o,s:{s:s,s:s},s:f,s:o,s:o,s:o,s:o}", "events_per_s",
                traffic->events_per_s, "events_per_month", traffic->events_per_s * COST_MONTH_S, "event_json_bytes",
                traffic->event_bytes - 1, "event_json_bytes_from", cost_sizes_from_name(traffic->sizes_from),
                "event_encoded_bytes", traffic->encoded_bytes, "unmatched_share", traffic->unmatched, "not_published",
                (int)report->not_published, "not_priced", not_priced, "prices", "region", inputs->prices->region,
                "date", inputs->prices->date, "gzip_ratio", inputs->gzip_ratio, "destinations", lines, "total",
                cost_json_total(report), "host", host, "assumptions", assumed);
        bool ok = json != NULL && json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12)) == 0;
        if (ok)
                printf("\n");
        json_decref(json);
        return ok;
}
