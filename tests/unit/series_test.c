/* The series file: what is in it after a close, a kill, damage; hours that come and go; and the budget of an hour that
 * a table goes on with. */
#include "egress/metrics.h"
#include "egress/series.h"

#include "tests/support/codec_events.h"
#include "tests/support/journal_files.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOUR       INT64_C(490900)
#define HOUR_MS    INT64_C(3600000)
#define RECORDS    20u
#define KEY_HASH   UINT64_C(0x1122334455667788)
#define RECORDS_AT 64
#define FILE_BYTES (RECORDS_AT + 2 * RECORDS * 16)

static char root[256], path[300];

static void make_root(void)
{
        journal_files_make(root);
        (void)snprintf(path, sizeof(path), "%s/0123.series", root);
}

static void remove_root(void)
{
        journal_files_remove(root);
}

TestSuite(series, .init = make_root, .fini = remove_root, .timeout = 60);

static struct series *open_as(uint64_t key_hash, uint32_t records_max, int64_t hour_max, const char **ret_dropped)
{
        struct series_options options = {path, key_hash, records_max, hour_max};
        struct series *series = NULL;
        struct err err = {.text = ""};
        enum err_code code = series_open(&options, &series, ret_dropped, &err);
        cr_assert_eq(code, ERR_OK, "%s: %s", err_name(code), err.text);
        return series;
}

static struct series *must_open(void)
{
        const char *dropped = NULL;
        struct series *series = open_as(KEY_HASH, RECORDS, HOUR + 1, &dropped);
        cr_assert_null(dropped, "%s", dropped);
        return series;
}

/* "1 2 3": what is in an hour. */
static const char *shown(const struct series *series, int64_t hour)
{
        static char text[1024];
        size_t used = 0;
        text[0] = '\0';
        for (uint32_t i = 0; i < series_count(series, hour); i++)
                used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%llu", i == 0 ? "" : " ",
                                         (unsigned long long)series_get(series, hour, i));
        return text;
}

static void patch(off_t at, const void *bytes, size_t len)
{
        int fd = open(path, O_RDWR);
        cr_assert_eq(pwrite(fd, bytes, len, at), (ssize_t)len);
        (void)close(fd);
}

static void spoil(off_t at)
{
        uint8_t byte;
        int fd = open(path, O_RDWR);
        cr_assert_eq(pread(fd, &byte, 1, at), 1);
        byte ^= 0x41;
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
        (void)close(fd);
}

/* ---------------------------------------------------------------------------------------------- the file */

Test(series, what_was_added_is_there_at_the_next_open)
{
        struct series *series = must_open();
        uint64_t seed = series_seed(series);
        cr_assert_eq(series_newest_hour(series), SERIES_NO_HOUR);
        series_add(series, HOUR - 1, 7);
        series_add(series, HOUR, 1);
        series_add(series, HOUR, 2);
        series_add(series, HOUR - 1, 8);
        /* Another process, while the first has not closed it: what a kill leaves. */
        struct series *again = must_open();
        cr_assert_eq(series_seed(again), seed);
        cr_assert_eq(series_newest_hour(again), HOUR);
        cr_assert_str_eq(shown(again, HOUR), "1 2");
        cr_assert_str_eq(shown(again, HOUR - 1), "7 8");
        cr_assert_eq(series_count(again, HOUR - 2), 0);
        series_close(again);
        series_close(series);
        struct stat status;
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq(status.st_mode & 0777, 0600);
        cr_assert_eq((uint64_t)status.st_size, series_budget_bytes(RECORDS));
        series_remove(must_open());
        cr_assert_lt(stat(path, &status), 0);
}

Test(series, an_hour_replaces_the_one_before_the_last)
{
        struct series *series = must_open();
        for (uint64_t i = 1; i <= 5; i++)
                series_add(series, HOUR - 2, i);
        series_add(series, HOUR - 1, 6);
        series_add(series, HOUR, 7);
        series_add(series, HOUR - 2, 8); /* too old: left out */
        cr_assert_str_eq(shown(series, HOUR), "7");
        series_close(series);
        series = must_open();
        cr_assert_str_eq(shown(series, HOUR), "7"); /* not with what lies behind it */
        cr_assert_str_eq(shown(series, HOUR - 1), "6");
        series_close(series);
}

Test(series, the_room_of_an_hour_is_its_bound)
{
        struct series *series = must_open();
        for (uint64_t i = 1; i <= RECORDS + 1; i++)
                series_add(series, HOUR, i);
        cr_assert_eq(series_count(series, HOUR), RECORDS);
        cr_assert_eq(series_get(series, HOUR, RECORDS - 1), RECORDS);
        series_close(series);
        series = must_open();
        cr_assert_eq(series_count(series, HOUR), RECORDS);
        cr_assert_eq(series_count(series, HOUR - 1), 0); /* the other half is untouched */
        series_close(series);
}

Test(series, hours_that_lie_ahead_are_not_believed)
{
        const char *dropped = NULL;
        struct series *series = open_as(KEY_HASH, RECORDS, HOUR + 100, &dropped);
        series_add(series, HOUR, 1);
        series_add(series, HOUR + 50, 2);
        series_add(series, HOUR + 51, 3);
        series_close(series);
        series = must_open(); /* up to HOUR + 1 */
        cr_assert_eq(series_newest_hour(series), SERIES_NO_HOUR);
        series_add(series, HOUR + 1, 4);
        series_close(series);
        series = must_open();
        cr_assert_str_eq(shown(series, HOUR + 1), "4");
        series_close(series);
}

/* ---------------------------------------------------------------------------------------------- damage */

Test(series, a_record_in_pieces_is_missing_and_the_others_stay)
{
        for (off_t at = 0; at < 16; at++) {
                struct series *series = must_open();
                for (uint64_t i = 1; i <= 3; i++)
                        series_add(series, HOUR, i);
                series_close(series);
                spoil(RECORDS_AT + 16 + at); /* the second */
                series = must_open();
                cr_assert_str_eq(shown(series, HOUR), "1 3", "byte %lld", (long long)at);
                series_add(series, HOUR, 4);
                series_close(series);
                series = must_open();
                cr_assert_str_eq(shown(series, HOUR), "1 3 4");
                series_remove(series);
        }
}

Test(series, a_damaged_header_begins_anew)
{
        for (off_t at = 0; at < 36; at++) {
                const char *dropped = NULL;
                struct series *series = must_open();
                uint64_t seed = series_seed(series);
                series_add(series, HOUR, 1);
                series_close(series);
                spoil(at);
                series = open_as(KEY_HASH, RECORDS, HOUR, &dropped);
                cr_assert_not_null(dropped, "byte %lld", (long long)at);
                cr_assert_eq(series_newest_hour(series), SERIES_NO_HOUR);
                cr_assert_neq(series_seed(series), seed);
                series_add(series, HOUR, 2);
                series_close(series);
                series = must_open();
                cr_assert_str_eq(shown(series, HOUR), "2");
                series_remove(series);
        }
}

Test(series, a_cut_file_keeps_what_is_left)
{
        static const struct {
                off_t bytes;
                const char *left;
                bool dropped;
        } cases[] = {{0, "", false},
                     {1, "", true},
                     {35, "", true},
                     {64, "", false},
                     {79, "", false},
                     {80, "1", false},
                     {FILE_BYTES, "1 2 3", false}};
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                const char *dropped = NULL;
                struct series *series = must_open();
                for (uint64_t k = 1; k <= 3; k++)
                        series_add(series, HOUR, k);
                series_close(series);
                cr_assert_eq(truncate(path, cases[i].bytes), 0);
                series = open_as(KEY_HASH, RECORDS, HOUR, &dropped);
                cr_assert_eq(dropped != NULL, cases[i].dropped, "%lld", (long long)cases[i].bytes);
                cr_assert_str_eq(shown(series, HOUR), cases[i].left, "%lld", (long long)cases[i].bytes);
                series_remove(series);
        }
}

Test(series, another_targets_file_or_budget_is_not_taken)
{
        const char *dropped = NULL;
        struct series *series = must_open();
        series_add(series, HOUR, 1);
        series_close(series);
        series = open_as(KEY_HASH, RECORDS + 1, HOUR, &dropped);
        cr_assert_str_eq(dropped, "the budget has changed");
        series_close(series);
        series = open_as(KEY_HASH + 1, RECORDS + 1, HOUR, &dropped);
        cr_assert_str_eq(dropped, "it belongs to another target");
        series_close(series);
        const uint32_t version = 2;
        patch(8, &version, sizeof(version));
        series = open_as(KEY_HASH + 1, RECORDS + 1, HOUR, &dropped);
        cr_assert_str_eq(dropped, "it is of another version, or no series file");
        series_close(series);
}

Test(series, only_regular_files)
{
        struct series_options options = {path, KEY_HASH, RECORDS, HOUR};
        struct series *series = NULL;
        const char *dropped = NULL;
        struct err err = {.text = ""};
        cr_assert_eq(symlink("/etc/passwd", path), 0);
        cr_assert_eq(series_open(&options, &series, &dropped, &err), ERR_CONFIG);
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(mkdir(path, 0700), 0);
        cr_assert_neq(series_open(&options, &series, &dropped, &err), ERR_OK);
        cr_assert_neq(err.text[0], '\0');
}

/* ---------------------------------------------------------------------------------------------- the budget */

static struct metrics_table *table_of(uint32_t series_max, struct series **ret_series)
{
        const struct rules_cloudwatch config = {
                .namespace = SLICE("Sendring/SES"),
                .dimensions = {{SLICE("t"), SLICE("none"), RULES_DIMENSION_MESSAGE_TAG}},
                .dimensions_count = 1,
                .roll_ups = {1, 0},
                .roll_ups_count = 2,
                .series_max = series_max,
                .overflow_value = SLICE("other"),
                .period_s = 60,
        };
        struct metrics_table *table;
        struct err err = {.text = ""};
        const char *dropped = NULL;
        cr_assert_eq(metrics_table_create(&config, &table, &err), ERR_OK);
        *ret_series = open_as(KEY_HASH, metrics_table_records_max(&config), HOUR + 1, &dropped);
        cr_assert_null(dropped);
        metrics_table_keep(table, *ret_series);
        return table;
}

static void count(struct metrics_table *table, const char *value, int64_t at_ms)
{
        static uint8_t bytes[SENDRING_EVENT_BYTES_MAX];
        struct sendring_pair tag = {SENDRING_STR("t"), {value, strlen(value)}};
        struct sendring_event event;
        struct codec_view view;
        struct err err = {.text = ""};
        size_t len = 0;
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.tags = (struct sendring_pairs){&tag, 1};
        cr_assert_eq(codec_event_encode(&event, bytes, sizeof(bytes), &len, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(codec_view_decode(slice_of(bytes, len), &view, &err), ERR_OK);
        cr_assert_eq(metrics_table_count(table, &view, NULL, at_ms, 1), ERR_OK);
}

/* "a other": the values of the roll-up with the dimension. */
static const char *values_of(struct metrics_table *table)
{
        static char text[512];
        size_t used = 0;
        text[0] = '\0';
        metrics_table_sort(table);
        for (uint32_t i = 0; i < metrics_table_series(table); i++) {
                struct metrics_datum datum;
                metrics_table_get(table, i, &datum);
                if (datum.dimensions_count == 1)
                        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%.*s", used == 0 ? "" : " ",
                                                 SLICE_PRINTF(datum.dimensions[0].value));
        }
        return text;
}

static uint32_t hour_series(const struct metrics_table *table)
{
        struct metrics_stats stats;
        metrics_table_get_stats(table, &stats);
        return stats.hour_series;
}

Test(series, a_table_of_the_next_process_goes_on_with_the_hours_budget)
{
        struct series *series, *killed;
        struct metrics_table *table = table_of(2, &killed), *dead = table;
        count(table, "a", HOUR * HOUR_MS);
        count(table, "b", HOUR * HOUR_MS);
        count(table, "c", HOUR * HOUR_MS);
        cr_assert_str_eq(values_of(table), "a b other");
        cr_assert_eq(hour_series(table), 4); /* the overflow series, and the one without dimensions */
        /* Nothing is closed: killed. The next one meets the values in another order. */
        table = table_of(2, &series);
        cr_assert_eq(hour_series(table), 4);
        count(table, "d", HOUR * HOUR_MS + 60000);
        count(table, "c", HOUR * HOUR_MS + 60000);
        count(table, "b", HOUR * HOUR_MS + 60000);
        count(table, "a", HOUR * HOUR_MS + 60000);
        cr_assert_str_eq(values_of(table), "a b other");
        cr_assert_eq(hour_series(table), 4);
        metrics_table_free(table);
        series_close(series);
        /* An hour of its own, and the one before, which is still remembered. */
        table = table_of(2, &series);
        count(table, "d", (HOUR + 1) * HOUR_MS);
        count(table, "b", HOUR * HOUR_MS);
        count(table, "d", HOUR * HOUR_MS);
        cr_assert_str_eq(values_of(table), "b other d");
        cr_assert_eq(hour_series(table), 2);
        metrics_table_free(table);
        series_close(series);
        table = table_of(2, &series);
        cr_assert_eq(hour_series(table), 2);
        count(table, "e", (HOUR + 1) * HOUR_MS);
        count(table, "f", (HOUR + 1) * HOUR_MS);
        count(table, "a", HOUR * HOUR_MS);
        cr_assert_str_eq(values_of(table), "a e other");
        metrics_table_free(table);
        series_close(series);
        metrics_table_free(dead);
        series_close(killed);
}

Test(series, a_budget_that_was_half_used_has_its_other_half)
{
        struct series *series;
        struct metrics_table *table = table_of(3, &series);
        count(table, "a", HOUR * HOUR_MS);
        metrics_table_free(table);
        series_close(series);
        table = table_of(3, &series);
        count(table, "b", HOUR * HOUR_MS);
        count(table, "c", HOUR * HOUR_MS);
        count(table, "d", HOUR * HOUR_MS);
        count(table, "a", HOUR * HOUR_MS);
        cr_assert_str_eq(values_of(table), "a b c other");
        metrics_table_free(table);
        series_close(series);
}

Test(series, an_hour_of_a_wrong_clock_gives_no_second_budget)
{
        static const char *const first[] = {"a", "b", "c", "d", "e"}, *const second[] = {"p", "q", "r", "s", "t"};
        for (int64_t ahead = 1; ahead <= 3; ahead++) {
                struct series *series;
                const char *dropped = NULL;
                struct metrics_table *table = table_of(5, &series);
                for (size_t i = 0; i < 5; i++)
                        count(table, first[i], (HOUR - 1) * HOUR_MS);
                count(table, "x", HOUR * HOUR_MS);
                count(table, "y", (HOUR + ahead) * HOUR_MS);
                metrics_table_clear(table);
                metrics_table_forget_after(table, HOUR); /* the clock was set back */
                for (size_t i = 0; i < 5; i++)
                        count(table, second[i], (HOUR - 1) * HOUR_MS);
                for (size_t i = 0; i < 5; i++)
                        count(table, first[i], (HOUR - 1) * HOUR_MS);
                /* The hour ahead has overwritten the record of "a", where it has the same parity. */
                cr_assert_str_eq(values_of(table), ahead % 2 == 1 ? "b c d e p other" : "a b c d e other", "%d: %s",
                                 (int)ahead, values_of(table));
                metrics_table_clear(table);
                count(table, "x", HOUR * HOUR_MS);
                cr_assert_eq(hour_series(table), 2);
                for (size_t i = 0; i < 5; i++)
                        count(table, second[i], HOUR * HOUR_MS);
                cr_assert_str_eq(values_of(table), "p q r s x other");
                metrics_table_free(table);
                series_close(series);
                series = open_as(KEY_HASH, 5 + (CODEC_EVENT_TYPES_COUNT + 1) * 2, HOUR, &dropped);
                cr_assert_null(dropped);
                cr_assert_eq(series_count(series, HOUR - 1), 7); /* each once; and the two beside the budget */
                cr_assert_eq(series_count(series, HOUR), 7);
                series_remove(series);
        }
}
