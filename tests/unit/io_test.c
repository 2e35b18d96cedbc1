#include "base/clock.h"
#include "io/io.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

struct test_op {
        struct io_op op; /* first: callbacks cast */
        int32_t result;
        uint32_t calls;
        struct io_loop *loop;
};

static void test_op_done(struct io_op *op, int32_t result, bool more)
{
        struct test_op *test = (struct test_op *)op;
        cr_assert(!more);
        cr_assert(!op->submitted);
        test->result = result;
        test->calls++;
}

static struct io_loop *test_loop(uint32_t entries)
{
        struct err err;
        struct io_loop *loop = NULL;
        struct io_options options = {.entries = entries};
        cr_assert_eq(io_loop_create(&options, &loop, &err), ERR_OK, "%s", err.text);
        return loop;
}

static void test_until(struct io_loop *loop, struct test_op *test, uint32_t calls)
{
        uint64_t end = clock_monotonic_ns() + 5 * CLOCK_NS_PER_S;
        while (test->calls < calls && clock_monotonic_ns() < end)
                (void)io_loop_turn(loop, 100 * CLOCK_NS_PER_MS);
        cr_assert_eq(test->calls, calls);
}

Test(io, timer_fires_at_its_deadline_and_a_past_one_at_once, .timeout = 20)
{
        struct io_loop *loop = test_loop(8);
        struct test_op timer = {.op.done = test_op_done};
        uint64_t start = clock_monotonic_ns();
        io_timer(loop, &timer.op, start + 50 * CLOCK_NS_PER_MS);
        cr_assert_eq(io_loop_pending(loop), 1);
        while (timer.calls == 0)
                (void)io_loop_turn(loop, IO_FOREVER);
        cr_assert_eq(timer.result, -ETIME);
        cr_assert_geq(clock_monotonic_ns() - start, 50 * CLOCK_NS_PER_MS);
        io_timer(loop, &timer.op, 1);
        test_until(loop, &timer, 2);
        cr_assert_eq(io_loop_pending(loop), 0);
        io_loop_free(loop);
}

Test(io, cancel_ends_a_timer_and_a_receive, .timeout = 20)
{
        struct io_loop *loop = test_loop(8);
        int pair[2];
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        struct test_op timer = {.op.done = test_op_done}, receive = {.op.done = test_op_done};
        uint8_t byte = 0;
        io_timer(loop, &timer.op, clock_monotonic_ns() + 3600 * CLOCK_NS_PER_S);
        io_recv(loop, &receive.op, pair[0], &byte, 1);
        (void)io_loop_turn(loop, 0);
        cr_assert_eq(timer.calls + receive.calls, 0);
        io_cancel(loop, &timer.op);
        io_cancel(loop, &receive.op);
        test_until(loop, &timer, 1);
        test_until(loop, &receive, 1);
        cr_assert_eq(timer.result, -ECANCELED);
        cr_assert_eq(receive.result, -ECANCELED);
        io_cancel(loop, &timer.op); /* not submitted: nothing happens */
        (void)io_loop_turn(loop, 0);
        cr_assert_eq(timer.calls, 1);
        (void)close(pair[0]);
        (void)close(pair[1]);
        io_loop_free(loop);
}

static void test_restart_done(struct io_op *op, int32_t result, bool more)
{
        test_op_done(op, result, more);
        struct test_op *test = (struct test_op *)op;
        if (test->calls < 2)
                io_timer(test->loop, op, clock_monotonic_ns() + 20 * CLOCK_NS_PER_MS);
}

Test(io, a_late_cancel_does_not_hit_the_next_submission, .timeout = 20)
{
        struct io_loop *loop = test_loop(8);
        struct test_op timer = {.op.done = test_restart_done, .loop = loop};
        io_timer(loop, &timer.op, clock_monotonic_ns() + 10 * CLOCK_NS_PER_MS);
        /* Let the kernel complete it, then cancel before its completion was seen. */
        (void)io_loop_turn(loop, 0);
        cr_assert_eq(timer.calls, 0);
        clock_sleep_ns(15 * CLOCK_NS_PER_MS);
        io_cancel(loop, &timer.op);
        test_until(loop, &timer, 2);
        cr_assert_eq(timer.result, -ETIME);
        io_loop_free(loop);
}

Test(io, connect_send_and_receive_carry_all_bytes, .timeout = 20)
{
        struct io_loop *loop = test_loop(8);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t address_bytes = sizeof(address);
        cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
        cr_assert_eq(listen(listener, 4), 0);
        cr_assert_eq(getsockname(listener, (struct sockaddr *)&address, &address_bytes), 0);
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct test_op connects = {.op.done = test_op_done}, sends = {.op.done = test_op_done},
                       receives = {.op.done = test_op_done}, polls = {.op.done = test_op_done};
        io_poll(loop, &polls.op, listener, POLLIN);
        io_connect(loop, &connects.op, client, (struct sockaddr *)&address, sizeof(address));
        test_until(loop, &connects, 1);
        test_until(loop, &polls, 1);
        cr_assert_eq(connects.result, 0);
        cr_assert(polls.result & POLLIN);
        int server = accept(listener, NULL, NULL);
        /* More than any socket buffer holds: the send must wait for the reader inside the kernel. */
        size_t total = 16u << 20;
        uint8_t *out = malloc(total), *in = malloc(total);
        for (size_t i = 0; i < total; i++)
                out[i] = (uint8_t)(i * 2654435761u >> 24);
        io_send(loop, &sends.op, client, out, total);
        size_t got = 0, sent = 0;
        uint32_t send_calls = 0;
        while (got < total) {
                uint32_t calls = receives.calls;
                io_recv(loop, &receives.op, server, in + got, total - got);
                test_until(loop, &receives, calls + 1);
                cr_assert_gt(receives.result, 0);
                got += (size_t)receives.result;
                if (sends.calls > send_calls) {
                        send_calls = sends.calls;
                        cr_assert_gt(sends.result, 0);
                        sent += (size_t)sends.result;
                        if (sent < total)
                                io_send(loop, &sends.op, client, out + sent, total - sent);
                }
        }
        test_until(loop, &sends, send_calls == 0 ? 1 : send_calls);
        cr_assert_arr_eq(in, out, total);
        free(in);
        free(out);
        (void)close(client);
        (void)close(server);
        (void)close(listener);
        io_loop_free(loop);
}

Test(io, write_and_fdatasync_reach_the_file, .timeout = 20)
{
        struct io_loop *loop = test_loop(8);
        char path[] = "/tmp/sendring-io-XXXXXX";
        int fd = mkstemp(path);
        struct test_op writes = {.op.done = test_op_done}, syncs = {.op.done = test_op_done};
        io_write(loop, &writes.op, fd, "hello", 5, 3);
        test_until(loop, &writes, 1);
        cr_assert_eq(writes.result, 5);
        io_fdatasync(loop, &syncs.op, fd);
        test_until(loop, &syncs, 1);
        cr_assert_eq(syncs.result, 0);
        char text[9] = {0};
        cr_assert_eq(pread(fd, text, 8, 0), 8);
        cr_assert_str_eq(text + 3, "hello");
        (void)close(fd);
        (void)unlink(path);
        io_write(loop, &writes.op, fd, "x", 1, 0);
        test_until(loop, &writes, 2);
        cr_assert_eq(writes.result, -EBADF);
        io_loop_free(loop);
}

/* As the calls of these names. */
Test(io, files_are_opened_looked_at_renamed_and_closed, .timeout = 20)
{
        struct io_loop *loop = test_loop(8);
        struct test_op op = {.op.done = test_op_done};
        struct statx status;
        char directory[] = "/tmp/sendring-io-XXXXXX", one[64], two[64], text[8] = "";
        cr_assert_not_null(mkdtemp(directory));
        (void)snprintf(one, sizeof(one), "%s/one", directory);
        (void)snprintf(two, sizeof(two), "%s/two", directory);

        io_stat_path(loop, &op.op, one, &status);
        test_until(loop, &op, 1);
        cr_assert_eq(op.result, -ENOENT);
        io_open(loop, &op.op, one, O_RDWR | O_CREAT | O_EXCL, 0640);
        test_until(loop, &op, 2);
        cr_assert_geq(op.result, 0);
        const int fd = op.result;
        cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
        cr_assert_eq(write(fd, "0123456789", 10), 10);
        io_open(loop, &op.op, one, O_RDWR | O_CREAT | O_EXCL, 0640);
        test_until(loop, &op, 3);
        cr_assert_eq(op.result, -EEXIST);

        io_truncate(loop, &op.op, fd, 6);
        test_until(loop, &op, 4);
        cr_assert_eq(op.result, 0);
        io_read(loop, &op.op, fd, text, 7, 2);
        test_until(loop, &op, 5);
        cr_assert_eq(op.result, 4);
        cr_assert_str_eq(text, "2345");

        struct stat expected;
        cr_assert_eq(fstat(fd, &expected), 0);
        for (int by_path = 0; by_path < 2; by_path++) {
                status = (struct statx){0};
                if (by_path == 1)
                        io_stat_path(loop, &op.op, one, &status);
                else
                        io_stat(loop, &op.op, fd, &status);
                test_until(loop, &op, 6 + (unsigned)by_path);
                cr_assert_eq(op.result, 0);
                cr_assert_eq(status.stx_size, 6);
                cr_assert_eq(status.stx_ino, expected.st_ino);
                cr_assert_eq(status.stx_mode, expected.st_mode);
                cr_assert_eq(makedev(status.stx_dev_major, status.stx_dev_minor), expected.st_dev);
        }

        cr_assert_eq(symlink("one", two), 0);
        io_rename(loop, &op.op, one, two, false);
        test_until(loop, &op, 8);
        cr_assert_eq(op.result, -EEXIST);
        io_stat_path(loop, &op.op, two, &status);
        test_until(loop, &op, 9);
        cr_assert_eq(op.result, 0);
        cr_assert(S_ISLNK(status.stx_mode), "of the link itself");
        io_rename(loop, &op.op, one, two, true);
        test_until(loop, &op, 10);
        cr_assert_eq(op.result, 0);
        cr_assert_eq(access(one, F_OK), -1);

        io_close(loop, &op.op, fd);
        test_until(loop, &op, 11);
        cr_assert_eq(op.result, 0);
        cr_assert_eq(fcntl(fd, F_GETFD), -1);
        io_truncate(loop, &op.op, fd, 0);
        test_until(loop, &op, 12);
        cr_assert_eq(op.result, -EBADF);
        (void)unlink(two);
        (void)rmdir(directory);
        io_loop_free(loop);
}

/* A kernel before 6.9, which has no such operation. */
static bool kernel_is_old;
struct io_uring_probe *__real_io_uring_get_probe_ring(struct io_uring *ring);
struct io_uring_probe *__wrap_io_uring_get_probe_ring(struct io_uring *ring);
struct io_uring_probe *__wrap_io_uring_get_probe_ring(struct io_uring *ring)
{
        struct io_uring_probe *probe = __real_io_uring_get_probe_ring(ring);
        if (kernel_is_old && probe != NULL && probe->last_op > 54)
                probe->last_op = 54;
        return probe;
}

Test(io, files_are_cut_on_old_kernels_too, .timeout = 20)
{
        kernel_is_old = true;
        struct io_loop *loop = test_loop(8);
        struct test_op op = {.op.done = test_op_done};
        char path[] = "/tmp/sendring-io-XXXXXX";
        struct stat status;
        int fd = mkstemp(path);
        cr_assert_eq(write(fd, "0123456789", 10), 10);
        io_truncate(loop, &op.op, fd, 4);
        cr_assert_eq(op.calls, 0, "done must come from a turn");
        test_until(loop, &op, 1);
        cr_assert_eq(op.result, 0);
        cr_assert_eq(fstat(fd, &status), 0);
        cr_assert_eq(status.st_size, 4);
        (void)close(fd);
        io_truncate(loop, &op.op, fd, 4);
        test_until(loop, &op, 2);
        cr_assert_eq(op.result, -EBADF);
        io_post(loop, &op.op);
        test_until(loop, &op, 3);
        cr_assert_eq(op.result, 0, "of the post, not of what the op did before");
        (void)unlink(path);
        io_loop_free(loop);
}

Test(io, directories_are_synced, .timeout = 20)
{
        struct io_loop *loop = test_loop(8);
        struct test_op syncs = {.op.done = test_op_done};
        int fd = open("/tmp", O_RDONLY | O_DIRECTORY), ends[2];
        cr_assert(fd >= 0 && pipe(ends) == 0);
        io_sync_directory(loop, &syncs.op, fd);
        test_until(loop, &syncs, 1);
        cr_assert_not(io_sync_directory_failed(syncs.result), "%d", syncs.result);
        (void)close(fd);
        io_sync_directory(loop, &syncs.op, ends[0]); /* a file system that has no such thing */
        test_until(loop, &syncs, 2);
        cr_assert_eq(syncs.result, -EINVAL);
        cr_assert_not(io_sync_directory_failed(syncs.result));
        (void)close(ends[0]);
        (void)close(ends[1]);
        io_sync_directory(loop, &syncs.op, fd);
        test_until(loop, &syncs, 3);
        cr_assert(io_sync_directory_failed(syncs.result));
        io_loop_free(loop);
}

Test(io, more_operations_than_entries_all_complete, .timeout = 20)
{
        struct io_loop *loop = test_loop(4);
        static struct test_op timers[500];
        for (int i = 0; i < 500; i++) {
                timers[i].op.done = test_op_done;
                io_timer(loop, &timers[i].op, 1);
        }
        cr_assert_eq(io_loop_pending(loop), 500);
        for (int turn = 0; turn < 1000 && io_loop_pending(loop) > 0; turn++)
                (void)io_loop_turn(loop, CLOCK_NS_PER_MS);
        for (int i = 0; i < 500; i++)
                cr_assert_eq(timers[i].calls, 1);
        io_loop_free(loop);
}

Test(io, a_wake_before_the_wait_is_not_lost, .timeout = 20)
{
        struct io_loop *loop = test_loop(8);
        for (int round = 0; round < 3; round++) {
                io_loop_wake(loop);
                io_loop_wake(loop);
                (void)io_loop_turn(loop, IO_FOREVER);
        }
        /* And none is left over: the next turn waits its time. */
        uint64_t start = clock_monotonic_ns();
        (void)io_loop_turn(loop, 30 * CLOCK_NS_PER_MS);
        cr_assert_geq(clock_monotonic_ns() - start, 25 * CLOCK_NS_PER_MS);
        io_loop_free(loop);
}

struct test_post {
        struct io_op op;
        uint64_t number;
};
static _Atomic uint64_t posts_run;
static uint64_t posts_last[2];

static void test_post_done(struct io_op *op, int32_t result, bool more)
{
        struct test_post *post = (struct test_post *)op;
        cr_assert_eq(result, 0);
        cr_assert(!more);
        uint64_t thread = post->number >> 32, number = post->number & UINT32_MAX;
        cr_assert_eq(number, posts_last[thread] + 1); /* in the poster's order, none twice */
        posts_last[thread] = number;
        free(post);
        (void)atomic_fetch_add(&posts_run, 1);
}

#define POSTS 20000u
struct test_poster {
        struct io_loop *loop;
        uint64_t thread;
};

static void *test_poster_main(void *argument)
{
        struct test_poster *poster = argument;
        for (uint64_t i = 1; i <= POSTS; i++) {
                struct test_post *post = calloc(1, sizeof(*post));
                post->op.done = test_post_done;
                post->number = poster->thread << 32 | i;
                io_post(poster->loop, &post->op);
                if (i % 64 == 0)
                        clock_sleep_ns(20 * CLOCK_NS_PER_US); /* let the loop fall asleep now and then */
        }
        return NULL;
}

Test(io, posts_from_two_threads_all_run_in_order_while_the_loop_sleeps, .timeout = 60)
{
        struct io_loop *loop = test_loop(8);
        struct test_poster posters[2] = {{loop, 0}, {loop, 1}};
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
                cr_assert_eq(pthread_create(&threads[i], NULL, test_poster_main, &posters[i]), 0);
        /* For ever: a lost wake-up would hang here. */
        while (atomic_load(&posts_run) < 2 * POSTS)
                (void)io_loop_turn(loop, IO_FOREVER);
        for (int i = 0; i < 2; i++)
                (void)pthread_join(threads[i], NULL);
        io_loop_free(loop);
}

static void *test_turn_elsewhere(void *argument)
{
        struct test_op timer = {.op.done = test_op_done};
        io_timer(argument, &timer.op, 1);
        test_until(argument, &timer, 1);
        return NULL;
}

Test(io, a_loop_may_be_made_here_used_there_and_freed_here, .timeout = 20)
{
        struct io_loop *loop = test_loop(8);
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, test_turn_elsewhere, loop), 0);
        (void)pthread_join(thread, NULL);
        io_loop_free(loop);
}

Test(io, an_idle_loop_uses_no_cpu, .timeout = 20)
{
        struct io_loop *loop = test_loop(8);
        (void)io_loop_turn(loop, 0);
        uint64_t cpu = clock_thread_cpu_ns(), end = clock_monotonic_ns() + 300 * CLOCK_NS_PER_MS;
        uint32_t turns = 0;
        for (uint64_t now = clock_monotonic_ns(); now < end; now = clock_monotonic_ns(), turns++)
                (void)io_loop_turn(loop, end - now);
        cr_assert_leq(turns, 3);
        cr_assert_lt(clock_thread_cpu_ns() - cpu, 3 * CLOCK_NS_PER_MS);
        io_loop_free(loop);
}

/* In a child: forbid io_uring_setup with `sys_errno`, as container runtimes do, and look at the error. */
static int test_forbidden(int sys_errno, const char *expected)
{
        pid_t child = fork();
        if (child == 0) {
                struct sock_filter filter[] = {
                        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)sys_errno),
                        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                };
                struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
                if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
                        _exit(2);
                struct err err;
                struct io_loop *loop = NULL;
                struct io_options options = {.entries = 8};
                enum err_code code = io_loop_create(&options, &loop, &err);
                _exit(code == ERR_PERMISSION && strstr(err.text, expected) != NULL ? 0 : 1);
        }
        int status = 0;
        (void)waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

Test(io, a_forbidden_io_uring_says_what_to_do, .timeout = 20)
{
        cr_assert_eq(test_forbidden(EPERM, "kernel.io_uring_disabled"), 0);
        cr_assert_eq(test_forbidden(ENOSYS, "seccomp"), 0);
}

Test(io, entries_out_of_range_are_refused, .timeout = 20)
{
        struct io_loop *loop = NULL;
        struct err err;
        struct io_options options = {.entries = 0};
        cr_assert_eq(io_loop_create(&options, &loop, &err), ERR_CONFIG);
        options.entries = 5000;
        cr_assert_eq(io_loop_create(&options, &loop, &err), ERR_CONFIG);
}

Test(io, starting_a_submitted_op_again_is_caught, .timeout = 20, .signal = SIGABRT)
{
        struct io_loop *loop = test_loop(8);
        struct test_op timer = {.op.done = test_op_done};
        io_timer(loop, &timer.op, UINT64_C(1) << 62);
        io_timer(loop, &timer.op, UINT64_C(1) << 62);
}
