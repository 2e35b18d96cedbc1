/* The keeper itself, with routers that are scripts. */
#include "base/clock.h"
#include "base/limits.h"
#include "base/random.h"
#include "ring/ring.h"
#include "ring/ring_internal.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* With `ready`, SIGTERM follows when that file exists, `times` times. */
static int keeper_status_of(char *const argv[], const char *ready, int times)
{
        char path[64];
        char lock_path[80];
        (void)snprintf(path, sizeof(path), "/tmp/sendring-keeper-%d", (int)getpid());
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
        struct ring_keeper_options options = {
                .socket_path = path, .socket_mode = 0600, .argv = argv, .back_off_step_ms = 1};
        pid_t keeper = fork();
        if (keeper == 0)
                _exit(ring_keeper_run(&options));
        for (int i = 0; ready != NULL && i < times; i++) {
                uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
                while (access(ready, F_OK) != 0 && clock_monotonic_ns() < deadline_ns)
                        clock_sleep_ns(10 * CLOCK_NS_PER_MS);
                cr_assert_eq(unlink(ready), 0);
                (void)kill(keeper, SIGTERM);
        }
        int status;
        cr_assert_eq(waitpid(keeper, &status, 0), keeper);
        cr_assert(WIFEXITED(status));
        cr_assert_neq(access(path, F_OK), 0, "the socket is removed");
        (void)unlink(lock_path);
        return WEXITSTATUS(status);
}

static int keeper_status(char *const argv[], const char *ready)
{
        return keeper_status_of(argv, ready, 1);
}

#define SHELL(script) \
        ((char *[]){(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)(script), NULL})

Test(keeper, ends_with_a_router_that_ends, .timeout = 30)
{
        cr_assert_eq(keeper_status(SHELL("exit 0"), NULL), 0);
        cr_assert_eq(keeper_status(SHELL("exit 78"), NULL), 78, "a wrong configuration is not tried again");
        cr_assert_eq(
                keeper_status(SHELL("test -n \"$SENDRING_KEEPER_FD\" && test -e /proc/self/fd/$SENDRING_KEEPER_FD"),
                              NULL),
                0);
}

/* Whoever has started it ignores the deaths of its children, which is inherited. */
Test(keeper, sees_its_router_die_although_that_signal_was_ignored, .timeout = 10)
{
        cr_assert_neq(signal(SIGCHLD, SIG_IGN), SIG_ERR);
        char path[64], lock_path[80];
        (void)snprintf(path, sizeof(path), "/tmp/sendring-ignored-%d", (int)getpid());
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
        struct ring_keeper_options options = {
                .socket_path = path, .socket_mode = 0600, .argv = SHELL("exit 0"), .back_off_step_ms = 1};
        cr_assert_eq(ring_keeper_run(&options), 0);
        (void)unlink(lock_path);
}

Test(keeper, starts_again_what_dies, .timeout = 30)
{
        char count[] = "/tmp/sendring-count-XXXXXX";
        char script[256];
        int fd = mkstemp(count);
        cr_assert_geq(fd, 0);
        (void)close(fd);
        (void)snprintf(
                script, sizeof(script),
                "echo x >>%s; case $(wc -l <%s) in 1) kill -KILL $$;; 2) exit 1;; 3) exit 127;; *) exit 0;; esac",
                count, count);
        cr_assert_eq(keeper_status(SHELL(script), NULL), 0);
        (void)snprintf(script, sizeof(script), "test $(wc -l <%s) = 4", count);
        cr_assert_eq(system(script), 0);
        (void)unlink(count);
}

/* A router that has just been started listens to no signal yet. */
Test(keeper, a_reload_asked_of_a_new_router_does_not_end_it, .timeout = 30)
{
        char ready[64], script[256];
        (void)snprintf(ready, sizeof(ready), "/tmp/sendring-keeper-reload-%d", (int)getpid());
        (void)unlink(ready); /* of an earlier process of this number */
        /* A second one would be one too many: 78 ends the keeper. */
        (void)snprintf(script, sizeof(script), "test -e %s && exit 78; : >%s; kill -HUP $$; exit 0", ready, ready);
        cr_assert_eq(keeper_status(SHELL(script), NULL), 0);
        (void)unlink(ready);
}

Test(keeper, passes_signals_on_and_waits, .timeout = 60)
{
        char ready[64];
        char script[160];
        (void)snprintf(ready, sizeof(ready), "/tmp/sendring-keeper-ready-%d", (int)getpid());
        (void)unlink(ready); /* of an earlier process of this number */
        (void)snprintf(script, sizeof(script), "trap 'exit 5' TERM; : >%s; while :; do sleep 0.05; done", ready);
        cr_assert_eq(keeper_status(SHELL(script), ready), 5);
        (void)snprintf(script, sizeof(script), ": >%s; exec sleep 20", ready);
        cr_assert_eq(keeper_status(SHELL(script), ready), 128 + SIGTERM);
}

Test(keeper, a_second_signal_ends_a_router_that_does_not, .timeout = 60)
{
        char ready[64], script[256];
        (void)snprintf(ready, sizeof(ready), "/tmp/sendring-keeper-twice-%d", (int)getpid());
        (void)unlink(ready); /* of an earlier process of this number */
        (void)snprintf(script, sizeof(script), "trap '' TERM; : >%s; sleep 1; : >%s; exec sleep 20", ready, ready);
        uint64_t begin_ns = clock_monotonic_ns();
        cr_assert_eq(keeper_status_of(SHELL(script), ready, 2), 128 + SIGKILL);
        cr_assert_lt(clock_monotonic_ns() - begin_ns, 10 * CLOCK_NS_PER_S);
}

/* A router whose files hang has closed all it has to, and is not let go by the kernel. */
Test(keeper, waits_not_for_ever_for_a_router_that_has_closed_its_line, .timeout = 60)
{
        char ready[64], script[256];
        (void)snprintf(ready, sizeof(ready), "/tmp/sendring-keeper-line-%d", (int)getpid());
        (void)unlink(ready); /* of an earlier process of this number */
        /* bash: dash closes none above 9. */
        (void)snprintf(script, sizeof(script),
                       "trap '' TERM; eval \"exec $SENDRING_KEEPER_FD>&-\"; : >%s; exec sleep 9", ready);
        char *argv[] = {(char *)(uintptr_t) "/bin/bash", (char *)(uintptr_t) "-c", script, NULL};
        uint64_t begin_ns = clock_monotonic_ns();
        cr_assert_eq(keeper_status(argv, ready), 1);
        cr_assert_lt(clock_monotonic_ns() - begin_ns, 8 * CLOCK_NS_PER_S);
}

static void read_text(const char *path, char *text, size_t text_bytes)
{
        memset(text, 0, text_bytes);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return;
        ssize_t ignored = read(fd, text, text_bytes - 1);
        (void)ignored;
        (void)close(fd);
}

/* The router's end of the keeper's line, once the router runs a program of this name; -1: there is none. */
static int line_of_router(pid_t keeper, const char *name, int *ret_pidfd)
{
        int line = -1;
        int pidfd = -1;
        uint64_t deadline_ns = clock_monotonic_ns() + 10 * CLOCK_NS_PER_S;
        while (line < 0 && clock_monotonic_ns() < deadline_ns) {
                char path[64];
                char text[32];
                (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)keeper, (int)keeper);
                read_text(path, text, sizeof(text));
                pid_t router = (pid_t)strtol(text, NULL, 10);
                /* Not before its exec: until then it has the keeper's end too. */
                (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)router);
                read_text(path, text, sizeof(text));
                if (pidfd < 0 && strcmp(text, name) == 0)
                        pidfd = (int)syscall(SYS_pidfd_open, router, 0);
                for (int number = 3; pidfd >= 0 && number < 32 && line < 0; number++) {
                        line = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
                        int type = 0;
                        socklen_t size = sizeof(type);
                        int accepting = 1;
                        if (line >= 0 &&
                            (getsockopt(line, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET ||
                             getsockopt(line, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &size) != 0 || accepting != 0)) {
                                (void)close(line);
                                line = -1;
                        }
                }
                clock_sleep_ns(5 * CLOCK_NS_PER_MS);
        }
        *ret_pidfd = pidfd;
        return line;
}

/* How often a router was started, one that holds a lane, is ready, and ends with `status` when it is told to. */
static int starts_of_routers(int status)
{
        char path[64], lock_path[80], count[] = "/tmp/sendring-count-XXXXXX", script[256];
        int fd = mkstemp(count);
        cr_assert_geq(fd, 0);
        (void)close(fd);
        (void)snprintf(path, sizeof(path), "/tmp/sendring-left-%d", (int)getpid());
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
        (void)snprintf(
                script, sizeof(script),
                "trap 'exit %d' TERM; echo x >>%s; test $(wc -l <%s) = 1 || exit 0; while :; do sleep 0.05; done",
                status, count, count);
        struct ring_keeper_options options = {
                .socket_path = path, .socket_mode = 0600, .argv = SHELL(script), .back_off_step_ms = 1};
        pid_t keeper = fork();
        if (keeper == 0)
                _exit(ring_keeper_run(&options));
        int pidfd, line = line_of_router(keeper, "sh\n", &pidfd), fds[4] = {0, 1, 2, 0}, ended;
        cr_assert_geq(line, 0, "found the keeper's line");
        struct ring_message message;
        ring_message_init(&message, RING_MESSAGE_KEEP);
        message.lane_id = 7;
        message.lane_bytes = LIMIT_LANE_BYTES_MIN;
        cr_assert_eq(ring_message_send(line, &message, fds, 4), ERR_OK);
        ring_message_init(&message, RING_MESSAGE_READY);
        cr_assert_eq(ring_message_send(line, &message, NULL, 0), ERR_OK);
        (void)close(line);
        clock_sleep_ns(300 * CLOCK_NS_PER_MS);
        cr_assert_eq(kill(keeper, SIGTERM), 0);
        cr_assert_eq(waitpid(keeper, &ended, 0), keeper);
        char text[64];
        read_text(count, text, sizeof(text));
        (void)close(pidfd);
        (void)unlink(count);
        (void)unlink(lock_path);
        return (int)strlen(text) / 2;
}

Test(keeper, lanes_that_another_router_can_take_get_one, .timeout = 60)
{
        cr_assert_eq(starts_of_routers(0), 1);
        cr_assert_eq(starts_of_routers(1), 1, "it has said what it could not take");
        cr_assert_eq(starts_of_routers(RING_EXIT_LANES_LEFT), 1 + 3, "and not for ever");
}

Test(keeper, survives_whatever_a_router_sends, .timeout = 60)
{
        struct random_state random;
        char socket_path[64];
        char lock_path[80];
        (void)snprintf(socket_path, sizeof(socket_path), "/tmp/sendring-vandal-%d", (int)getpid());
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", socket_path);
        struct ring_keeper_options options = {
                .socket_path = socket_path, .socket_mode = 0600, .argv = SHELL("exec sleep 20"), .back_off_step_ms = 1};
        /* The keeper's end is taken from its router, which sleeps, by pidfd: the test is the vandal. */
        pid_t keeper = fork();
        if (keeper == 0)
                _exit(ring_keeper_run(&options));
        int pidfd = -1;
        int line = line_of_router(keeper, "sleep\n", &pidfd);
        cr_assert_geq(line, 0, "found the keeper's line");
        random_init(&random, 42);
        for (int i = 0; i < 20000; i++) {
                struct ring_message message;
                int fds[4] = {0, 1, 2, 0};
                ring_message_init(&message, RING_MESSAGE_KEEP);
                message.kind =
                        (uint16_t)(random_below(&random, 8) == 0 ? random_u64(&random) : 16 + random_below(&random, 7));
                message.lane_id = random_below(&random, 2000);
                message.lane_bytes = random_below(&random, 4) == 0 ? random_u64(&random) : LIMIT_LANE_BYTES_MIN;
                memset(message.name, 'x', sizeof(message.name));
                if (random_below(&random, 20) == 0)
                        message.version++;
                if (random_below(&random, 20) == 0)
                        message.magic++;
                if (random_below(&random, 10) == 0)
                        (void)send(line, &message, 1 + random_below(&random, sizeof(message) - 1),
                                   MSG_NOSIGNAL | MSG_DONTWAIT);
                while (ring_message_send(line, &message, fds, random_below(&random, 5)) == ERR_FULL)
                        clock_sleep_ns(100 * CLOCK_NS_PER_US);
        }
        cr_assert_eq(waitpid(keeper, NULL, WNOHANG), 0, "alive");
        /* It holds lanes by now, and no router drains them: it tries another one, until it is told again. */
        cr_assert_eq(kill(keeper, SIGTERM), 0);
        int status = 0;
        clock_sleep_ns(200 * CLOCK_NS_PER_MS);
        cr_assert_eq(waitpid(keeper, &status, WNOHANG), 0, "lanes are not given up by the first");
        cr_assert_eq(kill(keeper, SIGTERM), 0);
        cr_assert_eq(waitpid(keeper, &status, 0), keeper);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGKILL);
        (void)close(line);
        (void)close(pidfd);
        (void)unlink(lock_path);
}

Test(keeper, says_which_lane_it_has_no_descriptors_for, .timeout = 60)
{
        char path[64], lock_path[80], log_path[80], text[1024];
        const struct rlimit limit = {.rlim_cur = 24, .rlim_max = 24};
        (void)snprintf(path, sizeof(path), "/tmp/sendring-poor-%d", (int)getpid());
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
        (void)snprintf(log_path, sizeof(log_path), "%s.log", path);
        struct ring_keeper_options options = {
                .socket_path = path, .socket_mode = 0600, .argv = SHELL("exec sleep 20"), .back_off_step_ms = 1};
        pid_t keeper = fork();
        if (keeper == 0) {
                int log_fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
                if (log_fd < 0 || dup2(log_fd, STDERR_FILENO) < 0 || setrlimit(RLIMIT_NOFILE, &limit) != 0)
                        _exit(99);
                _exit(ring_keeper_run(&options));
        }
        int pidfd = -1, fds[4] = {0, 1, 2, 0}, status;
        int line = line_of_router(keeper, "sleep\n", &pidfd);
        cr_assert_geq(line, 0, "found the keeper's line");
        struct ring_message message;
        ring_message_init(&message, RING_MESSAGE_KEEP);
        message.lane_bytes = LIMIT_LANE_BYTES_MIN;
        for (message.lane_id = 1; message.lane_id <= 8; message.lane_id++)
                cr_assert_eq(ring_message_send(line, &message, fds, 4), ERR_OK);
        clock_sleep_ns(300 * CLOCK_NS_PER_MS);
        cr_assert_eq(waitpid(keeper, NULL, WNOHANG), 0, "alive");
        read_text(log_path, text, sizeof(text));
        cr_assert_not_null(strstr(text, "the keeper has no descriptors left"), "%s", text);
        cr_assert_not_null(strstr(text, "that lane ends with this router"), "%s", text);
        cr_assert_eq(kill(keeper, SIGTERM), 0);
        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        cr_assert_eq(kill(keeper, SIGTERM), 0);
        cr_assert_eq(waitpid(keeper, &status, 0), keeper);
        (void)close(line);
        (void)close(pidfd);
        (void)unlink(log_path);
        (void)unlink(lock_path);
}
