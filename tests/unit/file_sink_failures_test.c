/* What is in the files, and what is told, when operations on them fail and writers are killed. */
#include "base/limits.h"
#include "base/random.h"
#include "tests/support/file_sink_rig.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

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

/* As copytruncate of logrotate does, which knows nothing of writes. */
Test(file_sink, a_file_that_is_emptied_under_a_write_has_no_hole)
{
        for (int sync = 0; sync < 2; sync++) {
                struct file_sink *sink = open_ok(0, 0, sync == 1);
                write_ok(sink, "{\"a\":1}\n");
                emptied_before_write = true;
                write_ok(sink, "{\"a\":2}\n");
                write_ok(sink, "{\"a\":3}\n");
                close_sink(sink);
                sink = open_ok(0, 0, sync == 1);
                write_ok(sink, "{\"a\":4}\n");
                holds(path, "{\"a\":2}\n{\"a\":3}\n{\"a\":4}\n");
                close_sink(sink);
                cr_assert_eq(remove(path), 0);
        }
}

Test(file_sink, a_file_that_is_emptied_behind_a_failed_write_is_not_grown)
{
        struct file_sink *sink = open_ok(0, 0, false);
        write_ok(sink, "{\"a\":1}\n");
        fails_at = operations + 2; /* the write */
        emptied_before_write = true;
        cr_assert_neq(write_lines(sink, SLICE("{\"a\":2}\n")), ERR_OK);
        fails_at = 0;
        holds(path, "");
        write_ok(sink, "{\"a\":3}\n");
        holds(path, "{\"a\":3}\n");
        close_sink(sink);
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

/* Nobody looks at the end of a rotated file again: what is torn there after a power cut would stay. The disk must know
 * of what was cut off, or torn off, before the file gets that name. */
Test(file_sink, the_disk_knows_where_a_file_ends_before_it_is_rotated)
{
        for (unsigned by_age = 0; by_age < 2; by_age++) {
                struct file_sink *sink = open_ok(by_age ? 0 : 24, by_age, true);
                write_ok(sink, "{\"a\":1}\n");
                fails_at = operations + 3; /* the sync */
                cr_assert_neq(write_lines(sink, SLICE("{\"a\":2}\n")), ERR_OK);
                cr_assert_eq(steps[strlen(steps) - 1], 'T', "%s", steps);
                clock_sleep_ns(by_age * 1100 * CLOCK_NS_PER_MS);
                memset(steps, 0, sizeof(steps));
                if (by_age)
                        rotate_if_due(sink);
                else
                        write_ok(sink, "{\"large\":\"xxxxxxxxxxxxxxx\"}\n");
                const char *rotated = strchr(steps, 'R'), *synced = strchr(steps, 'S');
                cr_assert(rotated != NULL && synced != NULL && synced < rotated, "%s", steps);
                close_sink(sink);
                (void)list(remove_one);
        }
}

/* Else what a power cut leaves of the next write is in a file of the rotated one's name. */
Test(file_sink, the_disk_knows_a_file_s_old_name_before_it_goes_on)
{
        struct file_sink *sink = open_ok(4, 0, true);
        write_ok(sink, "{}\n");
        memset(steps, 0, sizeof(steps));
        fails_at = operations + 3; /* the new file */
        write_ok(sink, "[]\n");
        holds(path, "{}\n[]\n");
        cr_assert_eq(strncmp(steps, "lRoR", 4), 0, "%s", steps);
        const char *named = strchr(steps, 'D'), *written = strchr(steps, 'W');
        cr_assert(named != NULL && written != NULL && named < written, "%s", steps);
        close_sink(sink);
}

/* A file whose disk does not sync is not rotated, and that is told. */
Test(file_sink, a_rotation_that_waits_for_a_sync_is_a_failed_one)
{
        struct file_sink_stats stats;
        struct file_sink *sink = open_ok(0, 1, true);
        write_ok(sink, "{}\n");
        fails_at = operations + 3; /* the sync */
        cr_assert_neq(write_lines(sink, SLICE("[]\n")), ERR_OK);
        clock_sleep_ns(1100 * CLOCK_NS_PER_MS);
        fails_at = operations + 2; /* again */
        rotate_if_due(sink);
        cr_assert_eq(list(NULL), 1);
        file_sink_get_stats(sink, &stats);
        cr_assert_eq(stats.rotation_failures, 1);
        cr_assert_not_null(strstr(file_sink_rotation_why(sink), "cannot sync"), "%s", file_sink_rotation_why(sink));
        rotate_if_due(sink);
        cr_assert_eq(list(NULL), 2);
        holds(path, "");
        close_sink(sink);
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
