#include "base/arena.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/counters.h"
#include "base/err.h"
#include "base/file.h"
#include "base/host.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/random.h"
#include "base/slice.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

Test(err, every_code_has_its_class_and_text, .timeout = 10)
{
#define CHECK(name, class_, number, text)        \
        cr_assert_eq(err_class(name), class_);   \
        cr_assert_str_eq(err_name(name), #name); \
        cr_assert_str_eq(err_text(name), text);
        ERR_TABLE(CHECK)
#undef CHECK
        cr_assert_eq(err_class(ERR_OK), ERR_CLASS_NONE);
}

Test(err, wrap_extends_outward_and_cuts, .timeout = 10)
{
        struct err err;
        cr_assert_eq(err_set(&err, ERR_SYNTAX, "unknown field '%s'", "rcpt"), ERR_SYNTAX);
        cr_assert_eq(err_wrap(&err, "line %d", 14), ERR_SYNTAX);
        (void)err_wrap(&err, "load rules");
        cr_assert_str_eq(err.text, "load rules: line 14: unknown field 'rcpt'");
        for (int i = 0; i < 200; i++)
                (void)err_wrap(&err, "0123456789");
        cr_assert_eq(strlen(err.text), sizeof(err.text) - 1);
        cr_assert_eq(err_set(NULL, ERR_FULL, "x"), ERR_FULL);
}

Test(err, errno_chooses_the_code, .timeout = 10)
{
        struct err err;
        cr_assert_eq(err_set_errno(&err, ERR_SYSTEM, ENOSPC, "write"), ERR_DISK_FULL);
        cr_assert_eq(err_set_errno(&err, ERR_SYSTEM, EFBIG, "a limit on files"), ERR_DISK_FULL);
        cr_assert_eq(err_set_errno(&err, ERR_SYSTEM, EACCES, "open"), ERR_PERMISSION);
        cr_assert_eq(err_set_errno(&err, ERR_CONNECT, EACCES, "connect"), ERR_CONNECT);
        cr_assert_eq(err_set_errno(&err, ERR_SYSTEM, ENOENT, "open %s", "x"), ERR_SYSTEM);
        cr_assert_str_eq(err.text, "open x: No such file or directory");
        cr_assert_eq(err.sys_errno, ENOENT);
}

Test(slice, cut_tells_the_end_from_an_empty_part, .timeout = 10)
{
        struct slice rest = SLICE("a,,b");
        cr_assert(slice_equal(slice_cut(&rest, ','), SLICE("a")));
        cr_assert_eq(slice_cut(&rest, ',').len, 0);
        cr_assert_not_null(rest.ptr);
        cr_assert(slice_equal(slice_cut(&rest, ','), SLICE("b")));
        cr_assert_null(rest.ptr);
}

Test(slice, numbers_are_strict, .timeout = 10)
{
        uint64_t value = 7;
        cr_assert(slice_to_u64(SLICE("18446744073709551615"), UINT64_MAX, &value));
        cr_assert_eq(value, UINT64_MAX);
        const struct slice bad[] = {SLICE(""), SLICE("-1"), SLICE("1 "), SLICE("18446744073709551616"), SLICE("0x1")};
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                cr_assert_not(slice_to_u64(bad[i], UINT64_MAX, &value));
        cr_assert_not(slice_to_u64(SLICE("11"), 10, &value));
}

Test(slice, find_and_trim, .timeout = 10)
{
        cr_assert_eq(slice_find(SLICE("abcabd"), SLICE("abd")), 3);
        cr_assert_eq(slice_find(SLICE("abc"), SLICE("x")), 3);
        cr_assert_eq(slice_find(SLICE_EMPTY, SLICE("x")), 0);
        cr_assert(slice_equal(slice_trim(SLICE(" \t a b\r\n")), SLICE("a b")));
        cr_assert(slice_equal_ignore_case(SLICE("X-Ses"), SLICE("x-sES")));
        cr_assert_not(slice_equal_ignore_case(SLICE("["), SLICE("{")));
        char text[4];
        cr_assert(slice_to_text(SLICE("abc"), text, sizeof(text)));
        cr_assert_not(slice_to_text(SLICE("abcd"), text, sizeof(text)));
        cr_assert_not(slice_to_text(slice_of("a\0b", 3), text, sizeof(text)));
}

Test(host, names_and_addresses_are_told_apart, .timeout = 10)
{
        static const char *const names[] = {"a", "A-b.Example", "my_sink", "10.example", "x.1a"};
        static const char *const ipv4[] = {"127.0.0.1", "255.255.255.255"};
        static const char *const ipv6[] = {"::1", "FD00:EC2::254", "::ffff:1.2.3.4"};
        static const char *const none[] = {"",    ".",          "-",      "a.",    ".a",       "a..b", "-a",
                                           "a-",  "a.-b",       "1",      "10.1",  "a b",      "a/b",  "1.2.3.4.5",
                                           "a.1", "10.0.0.256", "::1%lo", "[::1]", "a\xc3\xa4"};
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                struct slice text = slice_of_text(names[i]);
                cr_expect(host_is_name(text) && !host_is_ipv4(text) && !host_is_ipv6(text), "%s", names[i]);
        }
        for (size_t i = 0; i < sizeof(ipv4) / sizeof(ipv4[0]); i++) {
                struct slice text = slice_of_text(ipv4[i]);
                cr_expect(!host_is_name(text) && host_is_ipv4(text) && !host_is_ipv6(text), "%s", ipv4[i]);
        }
        for (size_t i = 0; i < sizeof(ipv6) / sizeof(ipv6[0]); i++) {
                struct slice text = slice_of_text(ipv6[i]);
                cr_expect(!host_is_name(text) && !host_is_ipv4(text) && host_is_ipv6(text), "%s", ipv6[i]);
        }
        for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
                struct slice text = slice_of_text(none[i]);
                cr_expect(!host_is_name(text) && !host_is_ipv4(text) && !host_is_ipv6(text), "'%s'", none[i]);
        }
        char text[260];
        for (size_t label = 62; label <= 65; label++) {
                memset(text, 'a', label);
                cr_expect_eq(host_is_name(slice_of(text, label)), label <= 63, "%zu", label);
        }
        for (size_t i = 0; i < sizeof(text); i++)
                text[i] = i % 50 == 49 ? '.' : 'a';
        for (size_t bytes = 254; bytes <= 257; bytes++)
                cr_expect_eq(host_is_name(slice_of(text, bytes)), bytes <= 255, "%zu", bytes);
}

Test(arena, bounds_and_alignment, .timeout = 10)
{
        struct arena arena;
        arena_init(&arena, 256, 4096);
        for (int i = 1; i < 64; i++) {
                uint8_t *ptr = arena_alloc(&arena, (size_t)i);
                if (ptr == NULL)
                        break;
                cr_assert_eq((uintptr_t)ptr % 16, 0);
                for (int k = 0; k < i; k++)
                        cr_assert_eq(ptr[k], 0);
                memset(ptr, 0xff, (size_t)i);
        }
        cr_assert_null(arena_alloc(&arena, 8192));
        cr_assert_null(arena_alloc_array(&arena, SIZE_MAX / 2, 3));
        arena_clear(&arena);
        cr_assert_not_null(arena_alloc(&arena, 200));
        cr_assert_str_eq(arena_printf(&arena, "%d-%s", 7, "x"), "7-x");
        arena_release(&arena);
        cr_assert_eq(arena.allocated_bytes, 0);
}

Test(clock, civil_dates_round_trip, .timeout = 10)
{
        struct clock_civil civil = {2026, 1, 2, 3, 4, 5, 678};
        cr_assert_eq(clock_civil_to_ms(&civil), INT64_C(1767323045678));
        for (int64_t ms = -62167219200000; ms < INT64_C(253402300800000); ms += INT64_C(86399999) * 97) {
                clock_civil_from_ms(ms, &civil);
                cr_assert_eq(clock_civil_to_ms(&civil), ms);
        }
        clock_civil_from_ms(INT64_C(951782400000), &civil);
        cr_assert(civil.year == 2000 && civil.month == 2 && civil.day == 29);
}

Test(log, gate_says_one_cause_once, .timeout = 10)
{
        struct log_gate gate = {0};
        uint64_t repeats = 99;
        cr_assert(log_gate_open(&gate, 1000, 100, &repeats));
        cr_assert_eq(repeats, 0);
        cr_assert_not(log_gate_open(&gate, 1050, 100, &repeats));
        cr_assert_not(log_gate_open(&gate, 1099, 100, &repeats));
        cr_assert(log_gate_open(&gate, 1100, 100, &repeats));
        cr_assert_eq(repeats, 2);
        char quoted[32];
        cr_assert_str_eq(log_quote("a\"b\n", quoted, sizeof(quoted)), "\"a\\\"b\\x0a\"");
}

Test(random, below_stays_below_and_seeds_repeat, .timeout = 10)
{
        struct random_state a, b;
        random_init(&a, 42);
        random_init(&b, 42);
        for (int i = 0; i < 1000; i++) {
                cr_assert_eq(random_u64(&a), random_u64(&b));
                cr_assert_lt(random_below(&a, 7), 7);
                (void)random_u64(&b);
                double unit = random_unit(&a);
                (void)random_u64(&b);
                cr_assert(unit >= 0 && unit < 1);
        }
}

Test(file, replace_is_whole_and_private, .timeout = 10)
{
        char directory[] = "/tmp/sendring-file-XXXXXX";
        cr_assert_not_null(mkdtemp(directory));
        char path[256];
        (void)snprintf(path, sizeof(path), "%s/a/b", directory);
        struct err err;
        cr_assert_eq(file_make_directory(path, &err), ERR_OK);
        (void)snprintf(path, sizeof(path), "%s/a/b/file", directory);
        /* Somebody's file by the name of the temporary one is not written into. */
        char temporary[300], other[300];
        struct stat status;
        (void)snprintf(temporary, sizeof(temporary), "%s.new.%d", path, (int)getpid());
        int other_fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        cr_assert_geq(other_fd, 0);
        cr_assert_eq(file_replace(path, SLICE("one"), &err), ERR_OK);
        cr_assert_eq(fstat(other_fd, &status), 0);
        cr_assert_eq(status.st_size, 0);
        (void)close(other_fd);
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq(status.st_mode & 07777, 0600);
        cr_assert_eq(file_replace(path, SLICE("two two"), &err), ERR_OK);
        /* Who may write in the directory could lay a link where the temporary file comes. */
        (void)snprintf(other, sizeof(other), "%s/other", directory);
        cr_assert_eq(symlink(other, temporary), 0);
        cr_assert_neq(file_replace(path, SLICE("three"), &err), ERR_OK);
        cr_assert_neq(access(other, F_OK), 0);
        cr_assert_eq(unlink(temporary), 0);
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq(status.st_mode & 0777, 0600);
        struct arena arena;
        arena_init(&arena, 0, 0);
        struct slice bytes;
        cr_assert_eq(file_read(&arena, path, 100, &bytes, &err), ERR_OK);
        cr_assert(slice_equal(bytes, SLICE("two two")));
        cr_assert_eq(file_read(&arena, path, 3, &bytes, &err), ERR_TOO_BIG);
        cr_assert_eq(file_read(&arena, "/nonexistent/x", 3, &bytes, &err), ERR_SYSTEM);
        cr_assert_eq(err.sys_errno, ENOENT);
        arena_release(&arena);
}

Test(file, nothing_but_a_regular_file_is_read, .timeout = 10)
{
        char path[] = "/tmp/sendring-file-XXXXXX";
        cr_assert_not_null(mkdtemp(path));
        cr_assert_eq(rmdir(path), 0);
        cr_assert_eq(mkfifo(path, 0600), 0);
        struct arena arena;
        struct slice bytes;
        struct err err;
        arena_init(&arena, 0, 0);
        const char *const paths[] = {path, "/dev/null", "/tmp"}; /* the FIFO: nobody writes, and nobody is waited for */
        for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
                cr_assert_eq(file_read(&arena, paths[i], 100, &bytes, &err), ERR_SYSTEM, "%s", paths[i]);
                cr_assert_not_null(strstr(err.text, i == 2 ? "Is a directory" : "is no regular file"), "%s", err.text);
        }
        arena_release(&arena);
        cr_assert_eq(unlink(path), 0);
}

/* In the place of libc's: which directories were synced. */
static char synced[512];
static int sync_errno; /* what they fail with; 0: they do not */

int fsync(int fd)
{
        char link[64], path[256];
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, path, sizeof(path) - 1);
        if (len > 0 && strlen(synced) + (size_t)len + 2 < sizeof(synced)) {
                path[len] = '\0';
                (void)snprintf(synced + strlen(synced), sizeof(synced) - strlen(synced), "%s:", path);
        }
        errno = sync_errno;
        return sync_errno != 0 ? -1 : (int)syscall(SYS_fsync, fd);
}

/* Whether a file system begins there. */
static bool is_mount_point(const char *path, const char *above)
{
        struct stat own, other;
        cr_assert_eq(stat(path, &own), 0);
        cr_assert_eq(stat(above, &other), 0);
        return own.st_dev != other.st_dev;
}

Test(file, a_directory_is_on_the_disk_with_its_name, .timeout = 10)
{
        char directory[] = "/tmp/sendring-file-XXXXXX";
        char path[256], expected[512];
        cr_assert_not_null(mkdtemp(directory));
        (void)snprintf(path, sizeof(path), "%s/a/b", directory);
        (void)snprintf(expected, sizeof(expected), "%s/a:%s:/tmp:%s", directory, directory,
                       is_mount_point("/tmp", "/") ? "" : "/:");
        /* The second time it is there; whoever made it may have been killed before its name was on the disk. */
        for (int i = 0; i < 2; i++) {
                synced[0] = '\0';
                cr_assert_eq(file_make_directory(path, NULL), ERR_OK);
                cr_assert_str_eq(synced, expected, "%d: %s", i, synced);
        }
        sync_errno = EIO;
        cr_assert_eq(file_make_directory(path, NULL), ERR_SYSTEM);
        sync_errno = EROFS;
        cr_assert_eq(file_make_directory(path, NULL), ERR_OK, "nothing waits to be written there");
        sync_errno = 0;
}

Test(file, nothing_above_a_mount_point_is_synced, .timeout = 10)
{
        char directory[] = "/dev/shm/sendring-file-XXXXXX";
        char path[256], expected[512];
        if (access("/dev/shm", W_OK) != 0 || !is_mount_point("/dev/shm", "/dev"))
                cr_skip("/dev/shm is no mount point");
        cr_assert_not_null(mkdtemp(directory));
        (void)snprintf(path, sizeof(path), "%s/a", directory);
        (void)snprintf(expected, sizeof(expected), "%s:/dev/shm:", directory);
        synced[0] = '\0';
        cr_assert_eq(file_make_directory(path, NULL), ERR_OK);
        cr_assert_str_eq(synced, expected, "%s", synced);
        cr_assert_eq(rmdir(path), 0);
        cr_assert_eq(rmdir(directory), 0);
}

Test(counters, a_reader_sees_what_the_writers_stored, .timeout = 10)
{
        char directory[] = "/tmp/sendring-counters-XXXXXX";
        cr_assert_not_null(mkdtemp(directory));
        char path[256];
        (void)snprintf(path, sizeof(path), "%s/counters", directory);
        struct counters writer, reader;
        struct err err;
        cr_assert_eq(counters_create(path, 3, 5, "0.1.0", &writer, &err), ERR_OK, "%s", err.text);
        counter_add(&writer.blocks[0], COUNTER_router_events, 3);
        counter_add(&writer.blocks[2], COUNTER_router_events, 4);
        counter_set(&writer.blocks[1], COUNTER_router_turn_max_ns, 9);
        counters_row_set_error(&writer.rows[4], "refused");
        cr_assert_eq(counters_attach(path, &reader, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(counters_sum(&reader, COUNTER_router_events), 7);
        cr_assert_eq(counters_max(&reader, COUNTER_router_turn_max_ns), 9);
        char text[64] = "";
        counters_row_get_error(&reader.rows[4], text, sizeof(text));
        cr_assert_str_eq(text, "refused");
        struct stat status;
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq(status.st_mode & 0777, 0600);
        counters_release(&reader);
        counters_release(&writer);
        cr_assert_eq(truncate(path, 50), 0);
        cr_assert_eq(counters_attach(path, &reader, &err), ERR_CORRUPT);
        cr_assert_eq(file_replace(path, slice_of(directory, sizeof(directory)), &err), ERR_OK);
        cr_assert_neq(counters_attach(path, &reader, &err), ERR_OK);
}

/* ---------------------------------------------------------------------------------------------- the log */

/* stderr becomes a pipe of one page; returns its other end. */
static int log_pipe(bool full)
{
        int ends[2];
        char junk[4096];
        cr_assert_eq(pipe(ends), 0);
        cr_assert_gt(fcntl(ends[1], F_SETPIPE_SZ, 4096), 0);
        cr_assert_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
        cr_assert_eq(close(ends[1]), 0);
        memset(junk, 'x', sizeof(junk));
        junk[sizeof(junk) - 1] = '\n';
        if (full)
                cr_assert_eq(write(STDERR_FILENO, junk, sizeof(junk)), (ssize_t)sizeof(junk));
        return ends[0];
}

/* Reads until nothing has come for `quiet_ms`. */
static size_t log_read(int fd, char *out, size_t room, int quiet_ms)
{
        size_t used = 0;
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        while (used < room - 1 && poll(&wait, 1, quiet_ms) == 1) {
                ssize_t got = read(fd, out + used, room - 1 - used);
                if (got <= 0)
                        break;
                used += (size_t)got;
        }
        out[used] = '\0';
        return used;
}

static char log_seen[4 << 20];

Test(log, nobody_waits_for_who_does_not_read, .timeout = 20)
{
        const uint64_t lines = 1000;
        int fd = log_pipe(true);
        cr_assert(log_start());
        uint64_t begun_ns = clock_monotonic_ns();
        for (uint64_t i = 0; i < lines; i++)
                log_warning("storm", "number=%" PRIu64, i);
        cr_assert_lt(clock_monotonic_ns() - begun_ns, CLOCK_NS_PER_S);
        cr_assert_not(log_flush(50 * CLOCK_NS_PER_MS));
        /* Then somebody reads: what was queued, in its order, and once the number of the others. */
        (void)log_read(fd, log_seen, sizeof(log_seen), 500);
        cr_assert(log_flush(CLOCK_NS_PER_S));
        log_info("after it", "%s", "");
        log_stop(CLOCK_NS_PER_S);
        (void)log_read(fd, log_seen + strlen(log_seen), sizeof(log_seen) - strlen(log_seen), 100);
        uint64_t number = 0, seen = 0, dropped = 0, told = 0;
        char *at = NULL;
        for (char *line = strtok_r(log_seen, "\n", &at); line != NULL; line = strtok_r(NULL, "\n", &at)) {
                uint64_t value;
                if (sscanf(line, "level=warning msg=\"storm\" number=%" SCNu64, &number) == 1)
                        cr_assert_eq(number, seen++, "%s", line);
                else if (sscanf(line, "level=warning msg=\"log lines were dropped: nobody read stderr\" lines=%" SCNu64,
                                &value) == 1) {
                        told++;
                        dropped += value;
                } else
                        cr_assert(line[0] == 'x' || strcmp(line, "level=info msg=\"after it\" ") == 0, "%s", line);
        }
        cr_assert_eq(seen, LIMIT_LOG_LINES_MAX);
        cr_assert_eq(told, 1);
        cr_assert_eq(seen + dropped, lines);
        cr_assert_eq(log_dropped(), dropped);
}

#define LOG_WRITERS      4u
#define LOG_WRITER_LINES 20000u

static void *log_writer(void *argument)
{
        for (uint32_t i = 0; i < LOG_WRITER_LINES; i++)
                log_info("line", "writer=%u number=%u end", *(uint32_t *)argument, i);
        return NULL;
}

static void *log_reader(void *argument)
{
        (void)log_read(*(int *)argument, log_seen, sizeof(log_seen), 2000);
        return NULL;
}

Test(log, lines_of_many_threads_are_whole_and_in_their_order, .timeout = 60)
{
        int fd = log_pipe(false);
        pthread_t reader, writers[LOG_WRITERS];
        uint32_t numbers[LOG_WRITERS], next[LOG_WRITERS] = {0};
        cr_assert(log_start());
        cr_assert_eq(pthread_create(&reader, NULL, log_reader, &fd), 0);
        for (uint32_t i = 0; i < LOG_WRITERS; i++) {
                numbers[i] = i;
                cr_assert_eq(pthread_create(&writers[i], NULL, log_writer, &numbers[i]), 0);
        }
        for (uint32_t i = 0; i < LOG_WRITERS; i++)
                cr_assert_eq(pthread_join(writers[i], NULL), 0);
        log_info("end", "%s", "");
        log_stop(5 * CLOCK_NS_PER_S);
        cr_assert_eq(pthread_join(reader, NULL), 0);
        uint64_t seen = 0, dropped = 0; /* "end" among them */
        char *at = NULL;
        for (char *line = strtok_r(log_seen, "\n", &at); line != NULL; line = strtok_r(NULL, "\n", &at)) {
                uint64_t value;
                uint32_t writer, number;
                char end[8] = "";
                if (sscanf(line, "level=info msg=\"line\" writer=%u number=%u %3s", &writer, &number, end) == 3) {
                        cr_assert_lt(writer, LOG_WRITERS);
                        cr_assert_str_eq(end, "end");
                        cr_assert_geq(number, next[writer], "%s", line);
                        next[writer] = number + 1;
                        seen++;
                } else if (sscanf(line,
                                  "level=warning msg=\"log lines were dropped: nobody read stderr\" lines=%" SCNu64,
                                  &value) == 1)
                        dropped += value;
                else {
                        cr_assert_str_eq(line, "level=info msg=\"end\" ");
                        seen++;
                }
        }
        cr_assert_gt(seen, LIMIT_LOG_LINES_MAX);
        cr_assert_eq(seen + dropped, LOG_WRITERS * LOG_WRITER_LINES + 1, "%" PRIu64 " and %" PRIu64, seen, dropped);
}

Test(log, an_end_waits_for_nobody_who_does_not_read, .timeout = 10)
{
        (void)log_pipe(true);
        cr_assert(log_start());
        log_info("last words", "%s", "");
        uint64_t begun_ns = clock_monotonic_ns();
        log_stop(200 * CLOCK_NS_PER_MS);
        for (uint32_t i = 0; i < 2 * LIMIT_LOG_LINES_MAX; i++)
                log_info("behind them", "%s", "");
        log_text("and\nfindings\n");
        cr_assert_lt(clock_monotonic_ns() - begun_ns, CLOCK_NS_PER_S);
}

Test(log, an_assertion_that_fails_ends_though_nobody_reads, .timeout = 10, .signal = SIGABRT)
{
        (void)log_pipe(true); /* and nobody reads: it ends all the same */
        cr_assert(log_start());
        assert_failed("broken", "file.c", 1, "function");
}

Test(log, an_assertion_that_fails_comes_behind_what_was_logged, .timeout = 10)
{
        int fd = log_pipe(false), status;
        pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
                (void)signal(SIGABRT, SIG_DFL);
                if (log_start())
                        log_info("before it", "%s", "");
                assert_failed("broken", "file.c", 1, "function");
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
        (void)log_read(fd, log_seen, sizeof(log_seen), 100);
        const char *before = strstr(log_seen, "before it"), *failed = strstr(log_seen, "condition=\"broken\"");
        cr_assert(before != NULL && failed != NULL && before < failed, "%s", log_seen);
}

Test(log, more_findings_than_the_queue_holds_are_all_told, .timeout = 20)
{
        static char findings[600 * 16];
        int fd = log_pipe(false);
        pthread_t reader;
        cr_assert(log_start());
        cr_assert_eq(pthread_create(&reader, NULL, log_reader, &fd), 0);
        for (uint32_t i = 0; i < 600; i++)
                (void)snprintf(findings + strlen(findings), 16, "finding %u\n", i);
        log_text(findings);
        log_stop(CLOCK_NS_PER_S);
        cr_assert_eq(pthread_join(reader, NULL), 0);
        cr_assert_str_eq(log_seen, findings);
}
