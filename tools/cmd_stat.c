/* sendring stat: the counters of a running daemon. */
#include "base/clock.h"
#include "base/counters.h"
#include "router/router.h"
#include "rules/rules.h"
#include "tools/cmd.h"
#include "tools/cost.h"

#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void stat_usage(void)
{
        (void)printf(
                "usage: sendring stat [--settings FILE] [--json] [--watch SECONDS] [--all]\n\n"
                "Shows the counters of the running daemon and the state of each delivery target.\n\n"
                "  -s, --settings FILE  the daemon's settings (default /etc/sendring/sendring.yaml)\n"
                "  -j, --json           one JSON object a line\n"
                "  -w, --watch SECONDS  again and again, with rates per second\n"
                "  -a, --all            counters that are 0 as well\n"
                "  -h, --help           this text\n\n"
                "Exit status: 0; 69 when no daemon runs with these settings (the numbers are those of the last one, "
                "if any);\n"
                "74 when its counters cannot be read.\n");
}

static uint64_t stat_value(const struct counters *counters, enum counter counter)
{
        return counter == COUNTER_router_turn_max_ns ? counters_max(counters, counter)
                                                     : counters_sum(counters, counter);
}

/* As `sendring cost` takes them: those of the hour before, rather than of one that has just begun. */
static struct cost_hour stat_hour(const struct counters *counters, const struct counters_target_row *row)
{
        const struct cost_hours hours = {
                .hour = atomic_load_explicit(&row->series_hour_number, memory_order_relaxed),
                .series = atomic_load_explicit(&row->series_hour, memory_order_relaxed),
                .series_before = atomic_load_explicit(&row->series_hour_before, memory_order_relaxed),
                .started_ms = counters->head->started_ms,
        };
        return cost_series_of_hours(&hours, clock_realtime_ms());
}

static void stat_print_cloudwatch_json(const struct counters *counters, const struct counters_target_row *row)
{
        uint32_t series_max = atomic_load_explicit(&row->series_max, memory_order_relaxed);
        const struct cost_hour hour = stat_hour(counters, row);
        if (series_max == 0)
                return;
        printf(",\"series_hour\":%u,\"series_hour_before\":%u,\"series_max\":%u,\"series_overflowed\":%" PRIu64
               ",\"ambiguous_resent\":%" PRIu64 ",\"ambiguous_skipped\":%" PRIu64 ",\"skipped_counts\":%" PRIu64
               ",\"last_period_ms\":%" PRId64 ",\"monthly_usd\":%.2f",
               hour.so_far, hour.before, series_max,
               atomic_load_explicit(&row->series_overflowed, memory_order_relaxed),
               atomic_load_explicit(&row->ambiguous_resent, memory_order_relaxed),
               atomic_load_explicit(&row->ambiguous_skipped, memory_order_relaxed),
               atomic_load_explicit(&row->skipped_counts, memory_order_relaxed),
               atomic_load_explicit(&row->last_period_ms, memory_order_relaxed),
               rules_cloudwatch_monthly_usd((uint64_t)hour.series));
        if (hour.series > 0)
                printf(",\"series_measured_s\":%.0f", hour.covered_s);
        else
                printf(",\"series_measured_s\":null");
}

/* What they cost, and what that is by. Where no whole hour is known, a whole one has as many at least. */
static void stat_print_month(const struct cost_hour *hour)
{
        const double usd = rules_cloudwatch_monthly_usd((uint64_t)hour->series);
        if (!(hour->series > 0))
                return;
        if (!hour->of_before)
                printf("; at least $%.2f a month by this hour so far", usd);
        else if (hour->covered_s < 3600)
                printf("; at least $%.2f a month by the last %.0f minutes of the hour before", usd,
                       ceil(hour->covered_s / 60));
        else
                printf("; about $%.2f a month by the hour before", usd);
}

static void stat_print_cloudwatch_text(const struct counters *counters, const struct counters_target_row *row)
{
        uint32_t series_max = atomic_load_explicit(&row->series_max, memory_order_relaxed);
        const struct cost_hour hour = stat_hour(counters, row);
        int64_t last_ms = atomic_load_explicit(&row->last_period_ms, memory_order_relaxed);
        if (series_max == 0)
                return;
        printf("  series: %u in this hour so far, %u in the hour before (SeriesMax %u)", hour.so_far, hour.before,
               series_max);
        stat_print_month(&hour);
        printf("; %" PRIu64 " events under the overflow value\n",
               atomic_load_explicit(&row->series_overflowed, memory_order_relaxed));
        printf("  unanswered requests: %" PRIu64 " sent again, %" PRIu64 " passed over with %" PRIu64
               " counts; last period sent: ",
               atomic_load_explicit(&row->ambiguous_resent, memory_order_relaxed),
               atomic_load_explicit(&row->ambiguous_skipped, memory_order_relaxed),
               atomic_load_explicit(&row->skipped_counts, memory_order_relaxed));
        if (last_ms == 0) {
                printf("none yet\n");
                return;
        }
        struct clock_civil at;
        clock_civil_from_ms(last_ms, &at);
        printf("%04d-%02u-%02uT%02u:%02u:%02uZ\n", at.year, at.month, at.day, at.hour, at.minute, at.second);
}

static uint64_t stat_word(const _Atomic uint64_t *word)
{
        return atomic_load_explicit(word, memory_order_relaxed); /* a figure for people */
}

static void stat_print_flow_json(const struct counters_target_row *row)
{
        printf(",\"in_flight_max\":%u,\"retries_left\":%u,\"records\":%" PRIu64 ",\"bytes\":%" PRIu64
               ",\"rate_records\":%" PRIu64 ",\"rate_bytes\":%" PRIu64 ",\"rate_requests\":%" PRIu64
               ",\"paced_ms\":%" PRIu64 ",\"clock_offset_ms\":%" PRId64,
               atomic_load_explicit(&row->in_flight_max, memory_order_relaxed),
               atomic_load_explicit(&row->retries_left, memory_order_relaxed), stat_word(&row->records),
               stat_word(&row->bytes), stat_word(&row->rate_records), stat_word(&row->rate_bytes),
               stat_word(&row->rate_requests), stat_word(&row->paced_ms),
               atomic_load_explicit(&row->clock_offset_ms, memory_order_relaxed));
}

static void stat_print_flow_text(const struct counters_target_row *row)
{
        const uint64_t rates[] = {stat_word(&row->rate_records), stat_word(&row->rate_bytes),
                                  stat_word(&row->rate_requests)};
        static const char *const names[] = {"records", "bytes", "requests"};
        const char *before = "  at most ";
        for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
                if (rates[i] == 0)
                        continue;
                printf("%s%" PRIu64 " %s", before, rates[i], names[i]);
                before = ", ";
        }
        if (before[0] == ',')
                printf(" a second; waited %.1f s for that\n", (double)stat_word(&row->paced_ms) / 1000);
        int64_t offset_ms = atomic_load_explicit(&row->clock_offset_ms, memory_order_relaxed);
        if (offset_ms != 0)
                printf("  the service's clock is %+.0f s from this host's: requests are signed by it\n",
                       (double)offset_ms / 1000);
}

static void stat_print_shed_json(const struct counters_target_row *row)
{
        bool first = true;
        printf(",\"shed_by_type\":{");
        for (unsigned type = 1; type < COUNTERS_EVENT_TYPES_END; type++) {
                uint64_t events = stat_word(&row->shed[type]);
                if (events == 0)
                        continue;
                printf("%s\"%s\":%" PRIu64, first ? "" : ",", rules_event_class_name(type), events);
                first = false;
        }
        printf("}");
}

static void stat_print_shed_text(const struct counters_target_row *row)
{
        const char *before = "  shed since the router started: ";
        for (unsigned type = 1; type < COUNTERS_EVENT_TYPES_END; type++) {
                uint64_t events = stat_word(&row->shed[type]);
                if (events == 0)
                        continue;
                printf("%s%" PRIu64 " %s", before, events, rules_event_class_name(type));
                before = ", ";
        }
        if (before[0] == ',')
                printf("\n");
}

static void stat_print_json(const struct counters *counters)
{
        const struct counters_head *head = counters->head;
        printf("{\"pid\":%u,\"running\":%s,\"version\":\"%.15s\",\"started_ms\":%" PRId64 ",\"alive_ms\":%" PRId64
               ",\"memory_budget_bytes\":%" PRIu64 ",\"counters\":{",
               head->pid, counters_is_alive(counters) ? "true" : "false", head->version, head->started_ms,
               atomic_load_explicit(&counters->head->alive_ms, memory_order_relaxed), head->memory_budget_bytes);
        for (int i = 0; i < COUNTERS_COUNT; i++)
                printf("%s\"%s\":%" PRIu64, i == 0 ? "" : ",", counter_table[i].name,
                       stat_value(counters, (enum counter)i));
        printf("},\"targets\":[");
        uint32_t used = atomic_load_explicit(&counters->head->rows_used, memory_order_acquire);
        bool first = true;
        for (uint32_t i = 0; i < used && i < head->rows_max; i++) {
                struct counters_target_row *row = &counters->rows[i];
                uint32_t status = atomic_load_explicit(&row->status, memory_order_relaxed);
                char error[sizeof(row->last_error)] = "";
                if (status == COUNTERS_TARGET_UNUSED)
                        continue;
                counters_row_get_error(row, error, sizeof(error));
                printf("%s{\"target\":", first ? "" : ",");
                cmd_print_json_text(row->key, strnlen(row->key, sizeof(row->key)));
                printf(",\"status\":\"%s\",\"in_flight\":%u,\"consecutive_failures\":%u,\"requests\":%" PRIu64
                       ",\"failures\":%" PRIu64 ",\"entries_refused\":%" PRIu64 ",\"entries_resent\":%" PRIu64
                       ",\"last_success_ms\":%" PRId64 ",\"last_failure_ms\":%" PRId64 ",\"last_error\":",
                       counters_target_status_name(status), atomic_load_explicit(&row->in_flight, memory_order_relaxed),
                       atomic_load_explicit(&row->consecutive_failures, memory_order_relaxed),
                       atomic_load_explicit(&row->requests, memory_order_relaxed),
                       atomic_load_explicit(&row->failures, memory_order_relaxed),
                       atomic_load_explicit(&row->entries_refused, memory_order_relaxed),
                       atomic_load_explicit(&row->entries_resent, memory_order_relaxed),
                       atomic_load_explicit(&row->last_success_ms, memory_order_relaxed),
                       atomic_load_explicit(&row->last_failure_ms, memory_order_relaxed));
                cmd_print_json_text(error, strlen(error));
                stat_print_flow_json(row);
                stat_print_shed_json(row);
                stat_print_cloudwatch_json(counters, row);
                printf("}");
                first = false;
        }
        printf("]}\n");
}

static void stat_print_text(const struct counters *counters, const uint64_t *before, double seconds, bool all)
{
        const struct counters_head *head = counters->head;
        int64_t now_ms = clock_realtime_ms();
        printf("router pid %u, version %.15s, up %" PRId64 " s, memory budget %" PRIu64 " MiB%s\n", head->pid,
               head->version, (now_ms - head->started_ms) / 1000, head->memory_budget_bytes >> 20,
               counters_is_alive(counters) ? "" : ", NOT RUNNING");
        for (int i = 0; i < COUNTERS_COUNT; i++) {
                uint64_t value = stat_value(counters, (enum counter)i);
                if (value == 0 && !all)
                        continue;
                printf("  %-28s %16" PRIu64 " %-10s", counter_table[i].name, value, counter_table[i].unit);
                if (before != NULL)
                        printf(" %12.1f/s", (double)(int64_t)(value - before[i]) / seconds); /* levels fall, too */
                printf("  %s\n", counter_table[i].help);
        }
        int64_t oldest_ms = (int64_t)stat_value(counters, COUNTER_journal_oldest_event_ms);
        struct clock_civil at;
        clock_civil_from_ms(oldest_ms, &at);
        printf("journal: %" PRIu64 " MiB delivered and kept, ",
               stat_value(counters, COUNTER_journal_passed_bytes) >> 20);
        if (oldest_ms == 0)
                printf("no event\n");
        else
                printf("the oldest event of %04d-%02u-%02uT%02u:%02u:%02uZ\n", at.year, at.month, at.day, at.hour,
                       at.minute, at.second);
        uint32_t used = atomic_load_explicit(&counters->head->rows_used, memory_order_acquire);
        for (uint32_t i = 0; i < used && i < head->rows_max; i++) {
                struct counters_target_row *row = &counters->rows[i];
                uint32_t status = atomic_load_explicit(&row->status, memory_order_relaxed);
                char error[sizeof(row->last_error)] = "";
                if (status == COUNTERS_TARGET_UNUSED)
                        continue;
                counters_row_get_error(row, error, sizeof(error));
                printf("target %.*s: %s, %u in flight, %" PRIu64 " requests, %" PRIu64 " failed, %" PRIu64
                       " records refused, %" PRIu64 " resent\n",
                       (int)strnlen(row->key, sizeof(row->key)), row->key, counters_target_status_name(status),
                       atomic_load_explicit(&row->in_flight, memory_order_relaxed),
                       atomic_load_explicit(&row->requests, memory_order_relaxed),
                       atomic_load_explicit(&row->failures, memory_order_relaxed),
                       atomic_load_explicit(&row->entries_refused, memory_order_relaxed),
                       atomic_load_explicit(&row->entries_resent, memory_order_relaxed));
                stat_print_flow_text(row);
                stat_print_shed_text(row);
                stat_print_cloudwatch_text(counters, row);
                if (error[0] != '\0')
                        printf("  last error: %s\n", error);
        }
}

int cmd_stat(int argc, char **argv)
{
        static const struct option options[] = {
                {"settings", required_argument, NULL, 's'}, {"json", no_argument, NULL, 'j'},
                {"watch", required_argument, NULL, 'w'},    {"all", no_argument, NULL, 'a'},
                {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
        };
        const char *settings_path = "/etc/sendring/sendring.yaml";
        bool json = false, all = false;
        uint64_t watch_s = 0;
        optind = 0; /* argv is not the process's own */
        opterr = 0;
        for (int option = getopt_long(argc, argv, ":s:jw:ah", options, NULL); option != -1;
             option = getopt_long(argc, argv, ":s:jw:ah", options, NULL)) {
                switch (option) {
                case 's':
                        settings_path = optarg;
                        break;
                case 'j':
                        json = true;
                        break;
                case 'a':
                        all = true;
                        break;
                case 'w':
                        if (!slice_to_u64(slice_of_text(optarg), 3600, &watch_s) || watch_s == 0) {
                                (void)fprintf(stderr, "sendring stat: --watch wants seconds from 1 to 3600, not '%s'\n",
                                              optarg);
                                return CMD_EXIT_USAGE;
                        }
                        break;
                case 'h':
                        stat_usage();
                        return CMD_EXIT_OK;
                default:
                        return cmd_option_refused("stat", option, options, argv);
                }
        }
        if (optind != argc) {
                (void)fprintf(stderr, "sendring stat: unexpected argument '%s'; `sendring stat --help` explains\n",
                              argv[optind]);
                return CMD_EXIT_USAGE;
        }
        struct rules_settings settings;
        struct rules_report report;
        rules_report_init(&report);
        enum err_code code = rules_settings_load(settings_path, &settings, &report);
        if (code != ERR_OK)
                rules_report_print(&report, stderr);
        rules_report_release(&report);
        if (code != ERR_OK)
                return CMD_EXIT_CONFIG;
        char path[PATH_MAX];
        struct counters counters;
        struct err err = {.text = "the path is too long"};
        int status = CMD_EXIT_UNAVAILABLE;
        uint64_t before[COUNTERS_COUNT];
        bool again = false;
        uint64_t before_ns = 0;
        uint32_t before_pid = 0;
        int64_t before_started_ms = 0;
        for (;;) {
                if (!router_counters_path(&settings, path, sizeof(path)) ||
                    counters_attach(path, &counters, &err) != ERR_OK) {
                        status = cmd_unread_status(&err);
                        (void)fprintf(stderr, "sendring stat: %s%s\n", err.text,
                                      status == CMD_EXIT_IO ? cmd_advice(&err)
                                                            : ": has a daemon run with these settings?");
                        break;
                }
                uint64_t now_ns = clock_monotonic_ns();
                status = counters_is_alive(&counters) ? CMD_EXIT_OK : CMD_EXIT_UNAVAILABLE;
                /* Another router counts from 0: nothing to take a difference from. */
                again = again && counters.head->pid == before_pid && counters.head->started_ms == before_started_ms;
                if (json)
                        stat_print_json(&counters);
                else
                        stat_print_text(&counters, again ? before : NULL, (double)(now_ns - before_ns) / 1e9, all);
                bool written = fflush(stdout) == 0; /* a reader that went away ends us with SIGPIPE */
                for (int i = 0; i < COUNTERS_COUNT; i++)
                        before[i] = stat_value(&counters, (enum counter)i);
                before_ns = now_ns;
                before_pid = counters.head->pid;
                before_started_ms = counters.head->started_ms;
                again = true;
                counters_release(&counters);
                if (watch_s == 0 || !written) /* told by main() */
                        break;
                clock_sleep_ns(watch_s * CLOCK_NS_PER_S);
        }
        rules_settings_release(&settings);
        return status;
}
