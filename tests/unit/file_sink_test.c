#include "base/clock.h"
#include "base/limits.h"
#include "base/random.h"
#include "egress/file.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64];
static char path[96];
static struct io_loop *loop;

/* The operations on files, by the linker's --wrap: the one of number `fails_at` (from 1; 0: none) fails with EBADF, and
 * one may not know how to rename without replacing. */
static unsigned operations, fails_at, syncs;
static bool renames_blindly;
static int pipe_ends[2];

static bool fails_now(void)
{
        return ++operations == fails_at;
}

#define WRAP(name, parameters, arguments)               \
        void __real_##name parameters;                  \
        void __wrap_##name parameters;                  \
        void __wrap_##name parameters                   \
        {                                               \
                if (fails_now())                        \
                        io_sync_directory(own, op, -1); \
                else                                    \
                        __real_##name arguments;        \
        }
WRAP(io_open, (struct io_loop * own, struct io_op *op, const char *name, int flags, mode_t mode),
     (own, op, name, flags, mode))
WRAP(io_stat_path, (struct io_loop * own, struct io_op *op, const char *name, struct statx *status),
     (own, op, name, status))
WRAP(io_truncate, (struct io_loop * own, struct io_op *op, int fd, uint64_t bytes), (own, op, fd, bytes))
WRAP(io_read, (struct io_loop * own, struct io_op *op, int fd, void *to, size_t bytes, uint64_t offset),
     (own, op, fd, to, bytes, offset))
WRAP(io_write, (struct io_loop * own, struct io_op *op, int fd, const void *from, size_t bytes, uint64_t offset),
     (own, op, fd, from, bytes, offset))

/* One that hangs until it is let go on. */
static struct {
        bool hangs;
        unsigned count;
        struct io_loop *loop;
        struct io_op *op;
        int fd;
        struct statx *status;
} hanging;

void __real_io_stat(struct io_loop *own, struct io_op *op, int fd, struct statx *status);
void __wrap_io_stat(struct io_loop *own, struct io_op *op, int fd, struct statx *status);
void __wrap_io_stat(struct io_loop *own, struct io_op *op, int fd, struct statx *status)
{
        if (hanging.hangs) {
                hanging.count++;
                hanging.loop = own;
                hanging.op = op;
                hanging.fd = fd;
                hanging.status = status;
        } else if (fails_now()) {
                io_sync_directory(own, op, -1);
        } else {
                __real_io_stat(own, op, fd, status);
        }
}

static void go_on(void)
{
        hanging.hangs = false;
        __real_io_stat(hanging.loop, hanging.op, hanging.fd, hanging.status);
}

void __real_io_fdatasync(struct io_loop *own, struct io_op *op, int fd);
void __wrap_io_fdatasync(struct io_loop *own, struct io_op *op, int fd);
void __wrap_io_fdatasync(struct io_loop *own, struct io_op *op, int fd)
{
        syncs++;
        __real_io_fdatasync(own, op, fails_now() ? -1 : fd);
}

void __real_io_rename(struct io_loop *own, struct io_op *op, const char *from, const char *to, bool replace);
void __wrap_io_rename(struct io_loop *own, struct io_op *op, const char *from, const char *to, bool replace);
void __wrap_io_rename(struct io_loop *own, struct io_op *op, const char *from, const char *to, bool replace)
{
        if (fails_now())
                io_sync_directory(own, op, -1);
        else if (renames_blindly && !replace)
                io_sync_directory(own, op, pipe_ends[0]); /* EINVAL */
        else
                __real_io_rename(own, op, from, to, replace);
}

static void start(void)
{
        struct err err = {0};
        (void)snprintf(directory, sizeof(directory), "/tmp/sendring-file-XXXXXX");
        cr_assert_not_null(mkdtemp(directory));
        cr_assert_eq(pipe(pipe_ends), 0);
        (void)snprintf(path, sizeof(path), "%s/events.ndjson", directory);
        cr_assert_eq(io_loop_create(&(struct io_options){.entries = 16}, &loop, &err), ERR_OK, "%s", err.text);
}

/* Calls `each` with the name of every file in the directory. */
static size_t list(void (*each)(const char *name))
{
        size_t count = 0;
        DIR *files = opendir(directory);
        cr_assert_not_null(files);
        for (struct dirent *entry = readdir(files); entry != NULL; entry = readdir(files)) {
                char name[512];
                if (entry->d_name[0] == '.')
                        continue;
                (void)snprintf(name, sizeof(name), "%s/%s", directory, entry->d_name);
                count++;
                if (each != NULL)
                        each(name);
        }
        (void)closedir(files); /* read only */
        return count;
}

static void remove_one(const char *name)
{
        (void)remove(name); /* cleaning up */
}

static void stop(void)
{
        io_loop_free(loop);
        (void)list(remove_one);
        (void)remove(directory); /* cleaning up */
}

TestSuite(file_sink, .timeout = 60, .init = start, .fini = stop);

static struct file_sink *open_ok(uint64_t rotate_bytes, uint32_t rotate_seconds, bool sync)
{
        struct file_sink_options options = {
                .path = path, .rotate_bytes = rotate_bytes, .rotate_seconds = rotate_seconds, .sync = sync};
        struct file_sink *sink = NULL;
        struct err err = {0};
        cr_assert_eq(file_sink_open(loop, &options, &sink, &err), ERR_OK, "%s", err.text);
        return sink;
}

static void close_sink(struct file_sink *sink)
{
        while (!file_sink_stop(sink))
                (void)io_loop_turn(loop, CLOCK_NS_PER_S);
        file_sink_close(sink);
}

static enum err_code open_fails(const char *sentence)
{
        struct file_sink_options options = {.path = path};
        struct file_sink *sink = NULL;
        struct err err = {0};
        enum err_code code = file_sink_open(loop, &options, &sink, &err);
        cr_assert_neq(code, ERR_OK);
        cr_assert_null(sink);
        cr_assert_not_null(strstr(err.text, sentence), "%s", err.text);
        return code;
}

static struct {
        unsigned calls;
        enum err_code code;
        struct err why;
} answer;

static void write_done(void *context, enum err_code code, const struct err *why)
{
        cr_assert_eq(context, &answer);
        answer.calls++;
        answer.code = code;
        answer.why = *why;
}

static enum err_code write_lines(struct file_sink *sink, struct slice lines)
{
        unsigned calls = answer.calls;
        cr_assert_eq(file_sink_write(sink, lines, write_done, &answer), ERR_OK);
        cr_assert_eq(answer.calls, calls, "done must come from a turn");
        cr_assert(file_sink_is_busy(sink));
        cr_assert_eq(file_sink_write(sink, lines, write_done, &answer), ERR_BUSY);
        while (file_sink_is_busy(sink))
                (void)io_loop_turn(loop, CLOCK_NS_PER_S);
        cr_assert_eq(answer.calls, calls + 1);
        return answer.code;
}

static void rotate_if_due(struct file_sink *sink)
{
        file_sink_rotate_if_due(sink);
        while (file_sink_is_busy(sink))
                (void)io_loop_turn(loop, CLOCK_NS_PER_S);
}

static void write_ok(struct file_sink *sink, const char *lines)
{
        cr_assert_eq(write_lines(sink, slice_of_text(lines)), ERR_OK, "%s", answer.why.text);
}

static size_t content(const char *name, char *out, size_t out_bytes)
{
        int fd = open(name, O_RDONLY);
        cr_assert_geq(fd, 0, "%s", name);
        ssize_t got = read(fd, out, out_bytes - 1);
        cr_assert_geq(got, 0);
        cr_assert_eq(close(fd), 0);
        out[got] = '\0';
        return (size_t)got;
}

static void holds(const char *name, const char *expected)
{
        static char text[1 << 20];
        (void)content(name, text, sizeof(text));
        cr_assert_str_eq(text, expected);
}

static void put(const char *name, const char *bytes, size_t len)
{
        int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
        cr_assert_eq(close(fd), 0);
}

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

/* ---------------------------------------------------------------------------------------------- failures */

static char batch[300000];

static struct slice make_batch(char letter, size_t lines)
{
        for (size_t i = 0; i < lines; i++) {
                memset(batch + i * 100, letter, 99);
                batch[i * 100] = '{';
                batch[i * 100 + 99] = '\n';
        }
        return slice_of(batch, lines * 100);
}

Test(file_sink, half_written_batch_is_cut_back)
{
        for (int sync = 0; sync < 2; sync++) {
                struct file_sink *sink = open_ok(0, 0, sync == 1);
                write_ok(sink, "{\"a\":1}\n");
                struct rlimit before, small;
                cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
                small = before;
                small.rlim_cur = 100 * 1024;
                (void)signal(SIGXFSZ, SIG_IGN);
                cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
                enum err_code code = write_lines(sink, make_batch('x', 2000));
                cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
                cr_assert_eq(code, ERR_DISK_FULL);
                cr_assert_eq(answer.why.sys_errno, EFBIG);
                cr_assert_not_null(strstr(answer.why.text, path), "%s", answer.why.text);
                holds(path, "{\"a\":1}\n");
                cr_assert_eq(write_lines(sink, make_batch('y', 2000)), ERR_OK);
                static char text[300000];
                cr_assert_eq(content(path, text, sizeof(text)), 8 + 2000 * 100);
                cr_assert_eq(memcmp(text + 8, batch, 2000 * 100), 0);
                close_sink(sink);
                cr_assert_eq(remove(path), 0);
        }
}

static char all[1 << 16];

static void add_content(const char *name)
{
        size_t used = strlen(all);
        (void)content(name, all + used, sizeof(all) - used);
}

static void append_torn(const char *name)
{
        int fd = open(name, O_WRONLY | O_APPEND);
        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, "{\"torn", 6), 6);
        cr_assert_eq(close(fd), 0);
}

/* What fails once is made good: each line is there once, whole, whichever operation it was. */
Test(file_sink, any_operation_may_fail_once)
{
        unsigned failed = 0;
        for (unsigned nth = 1; nth == 1 || operations >= fails_at; nth++) {
                struct file_sink *sink = NULL;
                struct file_sink_options options = {.path = path, .rotate_bytes = 24, .sync = true};
                struct err err = {0};
                put(path, "{\"a\":0}\n{\"torn", 14);
                operations = 0;
                fails_at = nth;
                while (file_sink_open(loop, &options, &sink, &err) != ERR_OK)
                        cr_assert_eq(err.sys_errno, EBADF, "%s", err.text);
                for (int i = 1; i < 7; i++) {
                        char line[32];
                        (void)snprintf(line, sizeof(line), "{\"a\":%d}\n", i);
                        while (write_lines(sink, slice_of_text(line)) != ERR_OK) {
                                cr_assert_eq(answer.why.sys_errno, EBADF, "%s", answer.why.text);
                                failed++;
                        }
                        if (i == 4)
                                append_torn(path); /* another hand */
                }
                close_sink(sink);
                all[0] = '\0';
                (void)list(add_content);
                for (int i = 0; i < 7; i++) {
                        char line[32];
                        (void)snprintf(line, sizeof(line), "{\"a\":%d}\n", i);
                        const char *at = strstr(all, line);
                        cr_assert(at != NULL && strstr(at + 1, line) == NULL, "operation %u failed: line %d in %s", nth,
                                  i, all);
                }
                cr_assert_eq(strlen(all), 7 * 8, "operation %u failed: %s", nth, all);
                (void)list(remove_one);
        }
        cr_assert_gt(failed, 20);
        cr_assert_gt(operations, 40, "%u", operations);
}

Test(file_sink, full_disk_is_told_and_cut_back)
{
        /* A private 256 KiB file system; it needs the rights of root. */
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", directory, "tmpfs", 0, "size=256k") != 0)
                cr_skip_test("cannot mount a tmpfs: %s", strerror(errno));
        struct file_sink *sink = open_ok(0, 0, true);
        cr_assert_eq(write_lines(sink, make_batch('x', 1000)), ERR_OK);
        cr_assert_eq(write_lines(sink, make_batch('y', 2900)), ERR_DISK_FULL);
        cr_assert_not_null(strstr(answer.why.text, "No space left"), "%s", answer.why.text);
        struct stat status;
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq(status.st_size, 100000);
        cr_assert_eq(write_lines(sink, make_batch('z', 1000)), ERR_OK);
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq(status.st_size, 200000);
        close_sink(sink);
        cr_assert_eq(remove(path), 0);
        cr_assert_eq(umount(directory), 0);
}

static void child_done(void *context, enum err_code code, const struct err *why)
{
        (void)context;
        (void)why;
        if (code != ERR_OK)
                _exit(3);
}

/* Writes numbered lines until it is killed. */
static void child_write(uint64_t first)
{
        static char lines[250 * 64];
        struct io_loop *own = NULL;
        struct file_sink *sink = NULL;
        struct file_sink_options options = {.path = path, .rotate_bytes = 1 << 20};
        if (io_loop_create(&(struct io_options){.entries = 16}, &own, NULL) != ERR_OK ||
            file_sink_open(own, &options, &sink, NULL) != ERR_OK)
                _exit(2);
        for (uint64_t number = first;;) {
                size_t used = 0;
                for (int i = 0; i < 250; i++, number++)
                        used += (size_t)snprintf(lines + used, sizeof(lines) - used, "{\"n\":%054llu}\n",
                                                 (unsigned long long)number);
                if (file_sink_write(sink, slice_of(lines, used), child_done, NULL) != ERR_OK)
                        _exit(4);
                while (file_sink_is_busy(sink))
                        (void)io_loop_turn(own, CLOCK_NS_PER_S);
        }
}

static uint64_t lines_seen;

/* Every line is whole; numbers within a file go up by one, save where a new child began. */
static void check_file(const char *name)
{
        FILE *file = fopen(name, "r");
        cr_assert_not_null(file);
        char line[128];
        while (fgets(line, sizeof(line), file) != NULL) {
                unsigned long long number;
                char behind;
                cr_assert_eq(strlen(line), 61, "%s: %s", name, line);
                cr_assert_eq(sscanf(line, "{\"n\":%llu}%c", &number, &behind), 2, "%s: %s", name, line);
                lines_seen++;
        }
        (void)fclose(file); /* read only */
}

Test(file_sink, killed_writers_leave_whole_lines_only)
{
        struct random_state random;
        random_init(&random, 99);
        for (uint64_t round = 0; round < 12; round++) {
                pid_t child = fork();
                cr_assert_geq(child, 0);
                if (child == 0)
                        child_write(round * 1000000000);
                clock_sleep_ns((5 + random_below(&random, 30)) * CLOCK_NS_PER_MS);
                cr_assert_eq(kill(child, SIGKILL), 0);
                int status;
                cr_assert_eq(waitpid(child, &status, 0), child);
                cr_assert(WIFSIGNALED(status), "the writer failed with %d", WEXITSTATUS(status));
        }
        struct file_sink *sink = open_ok(0, 0, false);
        close_sink(sink);
        (void)list(check_file);
        cr_assert_gt(lines_seen, 1000);
}
