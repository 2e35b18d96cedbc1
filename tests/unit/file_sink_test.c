#include "base/limits.h"
#include "tests/support/file_sink_rig.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ---------------------------------------------------------------------------------------------- writing */

Test(file_sink, appends_lines_and_goes_on_after_reopening)
{
        for (int sync = 0; sync < 2; sync++) {
                struct file_sink *sink = open_ok(0, 0, sync == 1);
                write_ok(sink, "{\"a\":1}\n");
                write_ok(sink, "{\"a\":2}\n{\"a\":3}\n");
                struct file_sink_stats stats;
                file_sink_get_stats(sink, &stats);
                cr_assert_eq(stats.bytes_written, 24);
                close_sink(sink);
        }
        holds(path, "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
        struct stat status;
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq(status.st_mode & 07777, 0600);
}

Test(file_sink, half_a_line_is_refused, .signal = SIGABRT)
{
        struct file_sink *sink = open_ok(0, 0, false);
        (void)file_sink_write(sink, SLICE("{}"), write_done, &answer);
}

Test(file_sink, torn_tail_is_cut_off_at_open)
{
        static char bytes[200000];
        static const struct {
                const char *whole;
                size_t torn_bytes;
                char torn;
        } cases[] = {
                {"{\"a\":1}\n", 0, 0},
                {"{\"a\":1}\n", 1, 'x'},
                {"{\"a\":1}\n{}\n", 16383, 'x'},
                {"{\"a\":1}\n", 16384, 'x'},
                {"{\"a\":1}\n", 16385, 0},
                {"{\"a\":1}\n", 100000, 'x'},
                {"", 5, '{'},
                {"", 40000, '{'},
                {"", 4096, '\0'},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                size_t len = strlen(cases[i].whole);
                memcpy(bytes, cases[i].whole, len);
                memset(bytes + len, cases[i].torn, cases[i].torn_bytes);
                put(path, bytes, len + cases[i].torn_bytes);
                syncs = 0;
                struct file_sink *sink = open_ok(0, 0, false);
                holds(path, cases[i].whole);
                cr_assert_eq(syncs, cases[i].torn_bytes > 0, "what was cut off must not come back within new lines");
                struct file_sink_stats stats;
                file_sink_get_stats(sink, &stats);
                cr_assert_eq(stats.repaired_bytes, cases[i].torn_bytes);
                write_ok(sink, "{\"b\":1}\n");
                char expected[64];
                (void)snprintf(expected, sizeof(expected), "%s{\"b\":1}\n", cases[i].whole);
                holds(path, expected);
                close_sink(sink);
        }
}

Test(file_sink, files_of_others_are_left_alone)
{
        static char line[LIMIT_EVENT_JSON_BYTES_MAX + 100000];
        put(path, "root:x:0:0\nbin", 14);
        cr_assert_eq(open_fails("no file of ours"), ERR_CONFIG);
        holds(path, "root:x:0:0\nbin");
        memset(line, 'x', sizeof(line));
        line[0] = '{';
        put(path, line, sizeof(line));
        cr_assert_eq(open_fails("longer than any event"), ERR_CONFIG);
        struct stat status;
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq((size_t)status.st_size, sizeof(line));

        char target[128];
        (void)snprintf(target, sizeof(target), "%s/target", directory);
        put(target, "", 0);
        cr_assert_eq(remove(path), 0);
        cr_assert_eq(symlink(target, path), 0);
        cr_assert_eq(open_fails("symbolic link"), ERR_CONFIG);
        cr_assert_eq(remove(path), 0);
        cr_assert_eq(mkfifo(path, 0600), 0);
        cr_assert_eq(open_fails("no regular file"), ERR_CONFIG);
        cr_assert_eq(remove(path), 0);
        cr_assert_eq(mkdir(path, 0700), 0);
        cr_assert_eq(open_fails("Is a directory"), ERR_CONFIG);
        cr_assert_eq(remove(path), 0);
        (void)snprintf(path, sizeof(path), "%s/missing/events", directory);
        cr_assert_eq(open_fails("No such file"), ERR_CONFIG);
        path[0] = '\0';
        cr_assert_eq(open_fails("empty or too long"), ERR_CONFIG);
}

static void opening_hangs(const struct file_sink_options *options, uint64_t least_ns, uint64_t most_ns)
{
        struct file_sink *sink = NULL;
        struct err err = {0};
        uint64_t begun_ns = clock_monotonic_ns();
        cr_assert_eq(file_sink_open(loop, options, &sink, &err), ERR_TIMEOUT);
        uint64_t took_ns = clock_monotonic_ns() - begun_ns;
        cr_assert_not_null(strstr(err.text, "does not answer"), "%s", err.text);
        cr_assert(took_ns >= least_ns && took_ns < most_ns, "%llu ns", (unsigned long long)took_ns);
        cr_assert_null(sink);
}

Test(file_sink, an_opening_that_hangs_holds_its_thread_once)
{
        struct file_sink_openings openings = {0};
        struct file_sink_options options = {.path = path, .openings = &openings}, other = options;
        struct file_sink *sink = NULL;
        struct err err = {0};
        char other_path[128];
        (void)snprintf(other_path, sizeof(other_path), "%s/other", directory);
        other.path = other_path;

        hanging.hangs = true;
        opening_hangs(&options, CLOCK_NS_PER_S, 10 * CLOCK_NS_PER_S);
        opening_hangs(&options, 0, CLOCK_NS_PER_S);
        cr_assert_eq(hanging.count, 1, "asked once");
        hanging.hangs = false; /* for the others */
        cr_assert_eq(file_sink_open(loop, &other, &sink, &err), ERR_OK, "%s", err.text);
        close_sink(sink);

        go_on();
        while (file_sink_open(loop, &options, &sink, &err) == ERR_TIMEOUT)
                clock_sleep_ns(CLOCK_NS_PER_MS);
        cr_assert_null(openings.first);
        write_ok(sink, "{}\n");
        holds(path, "{}\n");
        close_sink(sink);
}

Test(file_sink, openings_that_have_ended_are_closed_at_the_end)
{
        struct file_sink_openings openings = {0};
        struct file_sink_options options = {.path = path, .openings = &openings};
        hanging.hangs = true;
        opening_hangs(&options, 0, 10 * CLOCK_NS_PER_S);
        go_on();
        for (int turns = 0; turns < 100 && openings.first != NULL; turns++) {
                clock_sleep_ns(CLOCK_NS_PER_MS);
                (void)io_loop_turn(hanging.loop, 0);
        }
        file_sink_openings_release(&openings);
        cr_assert_null(openings.first);
        close_sink(open_ok(0, 0, false)); /* the lock is gone */
}

Test(file_sink, second_writer_is_kept_away)
{
        struct file_sink *sink = open_ok(0, 0, false);
        cr_assert_eq(open_fails("in use by another process"), ERR_LOCKED);
        write_ok(sink, "{}\n");
        close_sink(sink);
        sink = open_ok(0, 0, false);
        close_sink(sink);
}

/* ---------------------------------------------------------------------------------------------- rotation */

static char rotated[8][512];
static size_t rotated_count;

static int compare_names(const void *a, const void *b)
{
        return strcmp(a, b);
}

static void note_rotated(const char *name)
{
        if (strcmp(name, path) == 0)
                return;
        cr_assert_lt(rotated_count, 8);
        (void)snprintf(rotated[rotated_count++], sizeof(rotated[0]), "%s", name);
        /* PATH.20260102T030405Z-0 */
        size_t len = strlen(path);
        cr_assert_eq(strncmp(name, path, len), 0);
        unsigned year, month, day, hour, minute, second, number;
        char behind;
        cr_assert_eq(sscanf(name + len, ".%4u%2u%2uT%2u%2u%2uZ-%u%c", &year, &month, &day, &hour, &minute, &second,
                            &number, &behind),
                     7, "%s", name);
}

static void list_rotated(void)
{
        rotated_count = 0;
        (void)list(note_rotated);
        qsort(rotated, rotated_count, sizeof(rotated[0]), compare_names);
}

Test(file_sink, rotates_by_size_at_the_exact_border)
{
        struct file_sink *sink = open_ok(24, 0, true);
        write_ok(sink, "{\"a\":1}\n");
        write_ok(sink, "{\"a\":2}\n");
        write_ok(sink, "{\"a\":3}\n"); /* 24 bytes: still allowed */
        cr_assert_eq(list(NULL), 1);
        write_ok(sink, "{}\n");
        list_rotated();
        cr_assert_eq(rotated_count, 1);
        holds(rotated[0], "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
        holds(path, "{}\n");
        /* One write larger than the limit gets a file of its own. */
        write_ok(sink, "{\"large\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxx\"}\n");
        write_ok(sink, "{}\n");
        write_ok(sink, "{}\n");
        list_rotated();
        cr_assert_eq(rotated_count, 3);
        holds(path, "{}\n{}\n");
        struct stat status;
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq(status.st_mode & 07777, 0600);
        struct file_sink_stats stats;
        file_sink_get_stats(sink, &stats);
        cr_assert_eq(stats.rotations, 3);
        cr_assert_eq(stats.rotation_failures, 0);
        /* The new file is locked as the first was. */
        cr_assert_eq(open_fails("in use by another process"), ERR_LOCKED);
        close_sink(sink);
}

Test(file_sink, rotates_by_age)
{
        struct file_sink *sink = open_ok(0, 1, false);
        rotate_if_due(sink);
        write_ok(sink, "{\"a\":1}\n");
        write_ok(sink, "{\"a\":2}\n");
        rotate_if_due(sink);
        cr_assert_eq(list(NULL), 1);
        clock_sleep_ns(1100 * CLOCK_NS_PER_MS);
        write_ok(sink, "{\"a\":3}\n");
        list_rotated();
        cr_assert_eq(rotated_count, 1);
        holds(rotated[0], "{\"a\":1}\n{\"a\":2}\n");
        holds(path, "{\"a\":3}\n");
        clock_sleep_ns(1100 * CLOCK_NS_PER_MS);
        rotate_if_due(sink);
        holds(path, "");
        clock_sleep_ns(1100 * CLOCK_NS_PER_MS);
        rotate_if_due(sink); /* an empty file stays */
        list_rotated();
        cr_assert_eq(rotated_count, 2);
        close_sink(sink);
        /* Age counts from the file's creation, over a restart. */
        sink = open_ok(0, 1, false);
        write_ok(sink, "{\"a\":4}\n");
        close_sink(sink);
        clock_sleep_ns(1100 * CLOCK_NS_PER_MS);
        sink = open_ok(0, 1, false);
        write_ok(sink, "{\"a\":5}\n");
        holds(path, "{\"a\":5}\n");
        close_sink(sink);
}

Test(file_sink, lines_that_come_during_a_rotation_wait_for_it)
{
        struct file_sink *sink = open_ok(0, 1, false);
        write_ok(sink, "{\"a\":1}\n");
        clock_sleep_ns(1100 * CLOCK_NS_PER_MS);
        file_sink_rotate_if_due(sink);
        cr_assert(file_sink_is_busy(sink));
        write_ok(sink, "{\"a\":2}\n");
        list_rotated();
        cr_assert_eq(rotated_count, 1);
        holds(rotated[0], "{\"a\":1}\n");
        holds(path, "{\"a\":2}\n");
        close_sink(sink);
}

Test(file_sink, rotates_where_renaming_always_replaces)
{
        renames_blindly = true;
        struct file_sink *sink = open_ok(4, 0, true);
        for (int i = 0; i < 5; i++) /* several in a second: names that are taken are left alone */
                write_ok(sink, "{}\n");
        list_rotated();
        cr_assert_eq(rotated_count, 4);
        for (size_t i = 0; i < rotated_count; i++)
                holds(rotated[i], "{}\n");
        holds(path, "{}\n");
        close_sink(sink);
}

Test(file_sink, stops_by_closing_the_file)
{
        struct file_sink *sink = open_ok(0, 1, false), *other;
        write_ok(sink, "{}\n");
        clock_sleep_ns(1100 * CLOCK_NS_PER_MS);
        file_sink_rotate_if_due(sink);
        while (!file_sink_stop(sink))
                (void)io_loop_turn(loop, CLOCK_NS_PER_S);
        cr_assert_eq(list(NULL), 2);
        other = open_ok(0, 0, false); /* the lock is gone */
        close_sink(other);
        file_sink_close(sink);
}

Test(file_sink, failed_rotation_goes_on_with_the_old_file)
{
        struct file_sink *sink = open_ok(4, 0, false);
        write_ok(sink, "{}\n");
        struct rlimit before, none;
        cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
        none = before;
        int lowest = dup(0);
        cr_assert_geq(lowest, 0);
        cr_assert_eq(close(lowest), 0);
        none.rlim_cur = (rlim_t)lowest; /* no further descriptor */
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
        write_ok(sink, "[]\n");
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        cr_assert_eq(list(NULL), 1);
        holds(path, "{}\n[]\n");
        struct file_sink_stats stats;
        file_sink_get_stats(sink, &stats);
        cr_assert_eq(stats.rotation_failures, 1);
        cr_assert_not_null(strstr(file_sink_rotation_why(sink), "Too many open files"), "%s",
                           file_sink_rotation_why(sink));
        write_ok(sink, "{}\n");
        cr_assert_eq(list(NULL), 2);
        holds(path, "{}\n");
        close_sink(sink);
}

Test(file_sink, why_a_file_cannot_be_renamed_is_told)
{
        struct file_sink *sink = open_ok(4, 0, false);
        write_ok(sink, "{}\n");
        cr_assert_str_empty(file_sink_rotation_why(sink));
        fails_at = operations + 2; /* the look at the file, the rename */
        write_ok(sink, "[]\n");
        cr_assert_not_null(strstr(file_sink_rotation_why(sink), "cannot rename "), "%s", file_sink_rotation_why(sink));
        cr_assert_not_null(strstr(file_sink_rotation_why(sink), "Bad file descriptor"));
        holds(path, "{}\n[]\n");
        close_sink(sink);
}

/* The path twice in a sentence would leave no room for the reason. */
Test(file_sink, a_long_path_does_not_hide_the_reason)
{
        char name[600];
        struct err err = {0};
        struct file_sink *sink = NULL;
        (void)snprintf(name, sizeof(name), "%s/%0*d", directory, 300, 7);
        struct file_sink_options options = {.path = name};
        cr_assert_eq(file_sink_open(loop, &options, &sink, &err), ERR_SYSTEM);
        cr_assert_lt(strlen(err.text), 200);
        cr_assert_not_null(strstr(err.text, "0007: File name too long"), "%s", err.text);
}

Test(file_sink, follows_what_others_do_with_the_file)
{
        char moved[128];
        (void)snprintf(moved, sizeof(moved), "%s/moved", directory);
        struct file_sink *sink = open_ok(0, 0, false);
        write_ok(sink, "{\"a\":1}\n");
        cr_assert_eq(rename(path, moved), 0);
        write_ok(sink, "{\"a\":2}\n");
        holds(moved, "{\"a\":1}\n");
        holds(path, "{\"a\":2}\n");
        cr_assert_eq(remove(path), 0);
        write_ok(sink, "{\"a\":3}\n");
        holds(path, "{\"a\":3}\n");
        cr_assert_eq(truncate(path, 0), 0);
        write_ok(sink, "{\"a\":4}\n");
        holds(path, "{\"a\":4}\n");
        cr_assert_eq(truncate(path, 3), 0);
        write_ok(sink, "{\"a\":5}\n");
        holds(path, "{\"a\":5}\n");
        /* Something unusable in its place: told by `done`, and over once it is gone. */
        cr_assert_eq(remove(path), 0);
        cr_assert_eq(mkdir(path, 0700), 0);
        cr_assert_eq(write_lines(sink, SLICE("{}\n")), ERR_CONFIG);
        cr_assert_not_null(strstr(answer.why.text, "Is a directory"), "%s", answer.why.text);
        cr_assert_eq(write_lines(sink, SLICE("{}\n")), ERR_CONFIG);
        cr_assert_eq(rmdir(path), 0);
        write_ok(sink, "{\"a\":6}\n");
        holds(path, "{\"a\":6}\n");
        close_sink(sink);
}
