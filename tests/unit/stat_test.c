/* `sendring stat` in a forked process, on a page as a router leaves it. */
#include "base/clock.h"
#include "base/counters.h"
#include "tests/support/run_command.h"
#include "tools/cmd.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

struct page {
        char directory[64], settings[96], counters_path[96], output[96];
        struct counters counters;
};

static void page_make(struct page *page)
{
        (void)snprintf(page->directory, sizeof(page->directory), "/tmp/stat-test-XXXXXX");
        cr_assert_not_null(mkdtemp(page->directory));
        (void)snprintf(page->settings, sizeof(page->settings), "%s/sendring.yaml", page->directory);
        (void)snprintf(page->counters_path, sizeof(page->counters_path), "%s/counters", page->directory);
        (void)snprintf(page->output, sizeof(page->output), "%s/output", page->directory);
        FILE *settings = fopen(page->settings, "we");
        cr_assert_not_null(settings);
        (void)fprintf(settings, "state_directory: %s\n", page->directory);
        cr_assert_eq(fclose(settings), 0);
}

static void page_release(struct page *page)
{
        counters_release(&page->counters);
        (void)unlink(page->settings);
        (void)unlink(page->counters_path);
        (void)unlink(page->output);
        cr_assert_eq(rmdir(page->directory), 0);
}

/* What it said is in page->output. */
static int page_show(const struct page *page, bool json)
{
        return run_command(cmd_stat, "stat", page->settings, json ? "--json" : NULL, page->output);
}

static bool page_says_running(const struct page *page)
{
        json_t *shown = json_load_file(page->output, 0, NULL);
        cr_assert_not_null(shown);
        const json_t *running = json_object_get(shown, "running");
        cr_assert(json_is_boolean(running), "no member \"running\"");
        bool is = json_is_true(running);
        json_decref(shown);
        return is;
}

static bool page_output_has(const struct page *page, const char *text)
{
        char output[8192];
        FILE *file = fopen(page->output, "re");
        cr_assert_not_null(file);
        size_t bytes = fread(output, 1, sizeof(output) - 1, file);
        (void)fclose(file);
        output[bytes] = '\0';
        return strstr(output, text) != NULL;
}

Test(stat, tells_a_live_router_from_a_dead_one, .timeout = 30)
{
        struct page page;
        page_make(&page);
        cr_assert_eq(page_show(&page, true), CMD_EXIT_UNAVAILABLE, "no page yet");
        cr_assert(page_output_has(&page, "has a daemon run"));

        cr_assert_eq(counters_create(page.counters_path, 2, 4, "0.1", &page.counters, NULL), ERR_OK);
        cr_assert_eq(page_show(&page, true), CMD_EXIT_OK, "it has just started");
        page.counters.head->started_ms -= 60000;
        counters_tell_alive(&page.counters);
        cr_assert_eq(page_show(&page, true), CMD_EXIT_OK);
        cr_assert(page_says_running(&page));
        cr_assert_eq(page_show(&page, false), CMD_EXIT_OK);
        cr_assert_not(page_output_has(&page, "NOT RUNNING"));

        /* A clock that was set back since: it died an hour ago, at a time that is yet to come. */
        atomic_store(&page.counters.head->alive_ms, clock_realtime_ms() + 60000);
        atomic_store(&page.counters.head->alive_ns, clock_monotonic_ns() - 4 * CLOCK_NS_PER_S);
        cr_assert_eq(page_show(&page, true), CMD_EXIT_UNAVAILABLE);
        cr_assert_not(page_says_running(&page));
        cr_assert_eq(page_show(&page, false), CMD_EXIT_UNAVAILABLE);
        cr_assert(page_output_has(&page, "NOT RUNNING"));

        counters_tell_alive(&page.counters);
        cr_assert_eq(page_show(&page, true), CMD_EXIT_OK);
        page.counters.head->boot_id[0] ^= 1; /* and one that died before the host started anew */
        cr_assert_eq(page_show(&page, true), CMD_EXIT_UNAVAILABLE);
        page_release(&page);
}

Test(stat, tells_of_rates_and_of_a_clock_that_is_off, .timeout = 30)
{
        struct page page;
        page_make(&page);
        cr_assert_eq(counters_create(page.counters_path, 2, 4, "0.1", &page.counters, NULL), ERR_OK);
        struct counters_target_row *row = &page.counters.rows[0];
        atomic_store(&page.counters.head->rows_used, 1);
        atomic_store(&row->status, COUNTERS_TARGET_OK);
        (void)snprintf(row->key, sizeof(row->key), "firehose mail");
        cr_assert_eq(page_show(&page, false), CMD_EXIT_OK);
        cr_assert_not(page_output_has(&page, "at most"));
        cr_assert_not(page_output_has(&page, "clock"));
        atomic_store(&row->rate_bytes, 5242880);
        atomic_store(&row->rate_requests, 2000);
        atomic_store(&row->paced_ms, 12345);
        atomic_store(&row->clock_offset_ms, -3600000);
        atomic_store(&row->retries_left, 10);
        cr_assert_eq(page_show(&page, false), CMD_EXIT_OK);
        cr_assert(page_output_has(&page, "  at most 5242880 bytes, 2000 requests a second; waited 12.3 s for that\n"));
        cr_assert(page_output_has(&page, "the service's clock is -3600 s from this host's"));
        cr_assert_eq(page_show(&page, true), CMD_EXIT_OK);
        cr_assert(page_output_has(
                &page, "\"rate_records\":0,\"rate_bytes\":5242880,\"rate_requests\":2000,\"paced_ms\":12345"));
        cr_assert(page_output_has(&page, "\"retries_left\":10"));
        cr_assert(page_output_has(&page, "\"clock_offset_ms\":-3600000"));
        page_release(&page);
}

/* What a month costs is not reckoned from an hour that has just begun: as `sendring cost` does. */
static void check_month(struct page *page, int64_t hours_ago, uint32_t series, uint32_t before, int64_t started_ms_ago,
                        const char *text, const char *json)
{
        struct counters_target_row *row = &page->counters.rows[0];
        int64_t now_ms = 0;
        for (int tries = 0; tries < 2; tries++) { /* a clock hour may begin meanwhile, once */
                now_ms = clock_realtime_ms();
                atomic_store(&row->series_hour_number, now_ms / 3600000 - hours_ago);
                atomic_store(&row->series_hour, series);
                atomic_store(&row->series_hour_before, before);
                page->counters.head->started_ms = now_ms - now_ms % 3600000 - started_ms_ago;
                counters_tell_alive(&page->counters);
                cr_assert_eq(page_show(page, false), CMD_EXIT_OK);
                bool said = page_output_has(page, text);
                cr_assert_eq(page_show(page, true), CMD_EXIT_OK);
                said &= page_output_has(page, json);
                if (clock_realtime_ms() / 3600000 != now_ms / 3600000)
                        continue;
                cr_expect(said, "not said: %s, or %s", text, json);
                return;
        }
}

Test(stat, tells_what_a_months_dollars_are_by, .timeout = 30)
{
        struct page page;
        const int64_t day_ms = 86400000;
        page_make(&page);
        cr_assert_eq(counters_create(page.counters_path, 2, 4, "0.1", &page.counters, NULL), ERR_OK);
        struct counters_target_row *row = &page.counters.rows[0];
        atomic_store(&page.counters.head->rows_used, 1);
        atomic_store(&row->status, COUNTERS_TARGET_OK);
        atomic_store(&row->series_max, 1000);
        atomic_store(&row->series_overflowed, 7);
        (void)snprintf(row->key, sizeof(row->key), "cloudwatch mail");
        check_month(
                &page, 0, 3, 800, day_ms,
                "  series: 3 in this hour so far, 800 in the hour before (SeriesMax 1000); about $240.00 a month by "
                "the hour before; 7 events under the overflow value\n",
                "\"monthly_usd\":240.00,\"series_measured_s\":3600}");
        check_month(
                &page, 0, 900, 800, day_ms,
                "  series: 900 in this hour so far, 800 in the hour before (SeriesMax 1000); at least $270.00 a month "
                "by this hour so far;",
                "\"monthly_usd\":270.00,\"series_measured_s\":");
        check_month(
                &page, 0, 3, 20, 290000,
                "  series: 3 in this hour so far, 20 in the hour before (SeriesMax 1000); at least $6.00 a month by "
                "the last 5 minutes of the hour before;",
                "\"monthly_usd\":6.00,\"series_measured_s\":290}");
        /* The newest hour with an event is the one before, and one long ago. */
        check_month(
                &page, 1, 800, 700, day_ms,
                "  series: 0 in this hour so far, 800 in the hour before (SeriesMax 1000); about $240.00 a month by "
                "the hour before;",
                "\"series_hour\":0,\"series_hour_before\":800,");
        check_month(&page, 5, 800, 700, day_ms,
                    "  series: 0 in this hour so far, 0 in the hour before (SeriesMax 1000); 7 events",
                    "\"monthly_usd\":0.00,\"series_measured_s\":null}");
        page_release(&page);
}

Test(stat, stops_watching_when_nothing_more_can_be_printed, .timeout = 30)
{
        struct page page;
        page_make(&page);
        cr_assert_eq(counters_create(page.counters_path, 2, 4, "0.1", &page.counters, NULL), ERR_OK);
        cr_assert_eq(run_command(cmd_stat, "stat", page.settings, "--watch=1", "/dev/full"), CMD_EXIT_OK,
                     "main() makes another status of it");
        page_release(&page);
}

/* Waits until `times` reports are whole, and stores the last one in `report`. */
static void page_watched(const struct page *page, unsigned times, char *report, size_t room)
{
        for (unsigned found = 0; found < times; clock_sleep_ns(10 * CLOCK_NS_PER_MS)) {
                char output[16384];
                FILE *file = fopen(page->output, "re");
                size_t bytes = file == NULL ? 0 : fread(output, 1, sizeof(output) - 1, file);
                if (file != NULL)
                        (void)fclose(file);
                output[bytes] = '\0';
                found = 0;
                for (const char *at = strstr(output, "router pid"); at != NULL; at = strstr(at + 1, "router pid")) {
                        found += strstr(at, "journal: ") != NULL && bytes > 0 && output[bytes - 1] == '\n';
                        (void)snprintf(report, room, "%s", at);
                }
        }
}

Test(stat, watches_levels_that_fall_and_routers_that_start_anew, .timeout = 60)
{
        struct page page;
        char report[8192] = "";
        page_make(&page);
        cr_assert_eq(counters_create(page.counters_path, 2, 4, "0.1", &page.counters, NULL), ERR_OK);
        counter_set(&page.counters.blocks[0], COUNTER_lanes_now, 1000);
        counter_set(&page.counters.blocks[0], COUNTER_router_events, 5000);
        pid_t pid = fork();
        if (pid == 0) {
                char *argv[] = {"stat", "--settings", page.settings, "--watch=1", NULL};
                int fd = open(page.output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
                if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0 ||
                    prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) /* also when this test fails */
                        _exit(98);
                _exit(cmd_stat(4, argv));
        }
        cr_assert_gt(pid, 0);
        page_watched(&page, 1, report, sizeof(report));
        cr_assert_null(strstr(report, "/s"), "%s", report);
        counter_set(&page.counters.blocks[0], COUNTER_lanes_now, 10);
        counter_set(&page.counters.blocks[0], COUNTER_router_events, 50000);
        page_watched(&page, 2, report, sizeof(report));
        double levels = 0, events = 0;
        const char *line = strstr(report, "lanes_now");
        cr_assert_not_null(line);
        cr_assert_eq(sscanf(line, "lanes_now %*d lanes %lf/s", &levels), 1, "%s", line);
        line = strstr(report, "router_events");
        cr_assert_not_null(line);
        cr_assert_eq(sscanf(line, "router_events %*d events %lf/s", &events), 1, "%s", line);
        cr_assert(levels < 0 && levels > -1000, "%f", levels);
        cr_assert(events > 0 && events < 46000, "%f", events);
        page.counters.head->started_ms += 1; /* another router, which has counted less than the one before */
        counter_set(&page.counters.blocks[0], COUNTER_router_events, 7);
        page_watched(&page, 3, report, sizeof(report));
        cr_assert_null(strstr(report, "/s"), "%s", report);
        page_watched(&page, 4, report, sizeof(report));
        cr_assert_not_null(strstr(report, "0.0/s"), "%s", report);
        counters_release(&page.counters);
        (void)unlink(page.counters_path); /* ends it */
        int status = -1;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert_eq(WEXITSTATUS(status), CMD_EXIT_UNAVAILABLE);
        page_release(&page);
}
