/* What a producer can do to whoever ends its connection, and to other users. */
#include "base/clock.h"
#include "base/limits.h"
#include "ring/ring_internal.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define LINGER_S 3

static bool send_descriptor(int connection, int fd)
{
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = {.bytes = {0}};
        struct iovec part = {.iov_base = (void *)(uintptr_t) "x", .iov_len = 1};
        struct msghdr header = {.msg_iov = &part,
                                .msg_iovlen = 1,
                                .msg_control = control.bytes,
                                .msg_controllen = CMSG_SPACE(sizeof(int))};
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(rights), &fd, sizeof(int));
        return sendmsg(connection, &header, MSG_NOSIGNAL) == 1;
}

/* A socket with bytes that nobody reads: its last close waits for LINGER_S. */
static int waiting_socket(int *ret_listener)
{
        static uint8_t bytes[1024 * 1024];
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        struct linger linger = {.l_onoff = 1, .l_linger = LINGER_S};
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert_eq(bind(listener, (const struct sockaddr *)&address, sizeof(address)), 0);
        cr_assert_eq(listen(listener, 1), 0);
        cr_assert_eq(getsockname(listener, (struct sockaddr *)&address, &size), 0);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
        while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
                ;
        *ret_listener = listener;
        return fd;
}

/* How long the end of a connection takes into which such a socket was put. */
static uint64_t time_of_end(void (*end)(int *fd))
{
        int ends[2], listener;
        struct pollfd peer;
        cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        int waiting = waiting_socket(&listener);
        cr_assert(send_descriptor(ends[1], waiting));
        cr_assert_eq(close(waiting), 0); /* what lies in the connection is the last */
        uint64_t begun_ns = clock_monotonic_ns();
        end(&ends[0]);
        uint64_t took_ns = clock_monotonic_ns() - begun_ns;
        cr_assert_eq(ends[0], -1);
        peer = (struct pollfd){.fd = ends[1], .events = POLLIN};
        cr_assert_eq(poll(&peer, 1, 2000), 1, "the peer sees the end");
        (void)close(ends[1]);
        (void)close(listener);
        return took_ns;
}

static void end_plainly(int *fd)
{
        (void)close(*fd);
        *fd = -1;
}

Test(ring_connection, its_end_never_waits_for_what_a_producer_put_into_it, .timeout = 60)
{
        cr_assert_geq(time_of_end(end_plainly), (LINGER_S - 1) * CLOCK_NS_PER_S, "or this test shows nothing");
        for (int i = 0; i < 3; i++)
                cr_assert_lt(time_of_end(ring_connection_close), CLOCK_NS_PER_S);
        int none = -1;
        ring_connection_close(&none);
}

Test(ring_connection, leaves_no_descriptor_and_no_thread_behind, .timeout = 60)
{
        int ends[2], before = -1;
        for (int i = 0; i < 200; i++) {
                cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
                if (before < 0)
                        before = ends[0];
                cr_assert_eq(ends[0], before);
                ring_connection_close(&ends[0]);
                cr_assert_eq(fcntl(before, F_GETFD), -1, "closed when it returns");
                (void)close(ends[1]);
        }
}

Test(ring_connection, a_look_tells_of_descriptors_and_takes_nothing, .timeout = 20)
{
        int ends[2];
        char bytes[4];
        bool descriptors = true;
        cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        cr_assert_eq(ring_connection_peek(ends[0], bytes, sizeof(bytes), &descriptors), -1);
        cr_assert(errno == EAGAIN && !descriptors);
        cr_assert_eq(send(ends[1], "123456", 6, 0), 6);
        cr_assert(send_descriptor(ends[1], 0));
        for (int i = 0; i < 2; i++) {
                cr_assert_eq(ring_connection_peek(ends[0], bytes, sizeof(bytes), &descriptors), 6, "its whole length");
                cr_assert_not(descriptors);
        }
        cr_assert_eq(recv(ends[0], bytes, sizeof(bytes), 0), 4);
        cr_assert_eq(ring_connection_peek(ends[0], bytes, sizeof(bytes), &descriptors), 1);
        cr_assert(descriptors);
        ring_connection_close(&ends[0]);
        (void)close(ends[1]);
}

Test(ring_connection, nobody_can_send_descriptors_where_the_kernel_refuses_them, .timeout = 20)
{
        int ends[2], on = 1;
        socklen_t size = sizeof(on);
        cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        ring_connection_refuse_rights(ends[0]);
        if (getsockopt(ends[0], SOL_SOCKET, 83 /* SO_PASSRIGHTS */, &on, &size) != 0)
                cr_skip("before Linux 6.16");
        cr_assert_not(send_descriptor(ends[1], 0));
        cr_assert_eq(send(ends[1], "x", 1, 0), 1, "only descriptors");
        (void)close(ends[0]);
        (void)close(ends[1]);
}

/* ---------------------------------------------------------------------------------------------- one user among others
 */

struct house {
        char directory[64];
        char socket_path[96];
        struct ring_bed *bed;
        struct ring_server *server;
        _Atomic bool ends;
};

static void house_lane_ready(void *context, struct ring_lane *lane, uint32_t shard)
{
        (void)context;
        (void)lane;
        (void)shard;
}

static void *house_serve(void *context)
{
        struct house *house = context;
        while (!atomic_load(&house->ends)) {
                ring_server_turn(house->server);
                clock_sleep_ns(200 * CLOCK_NS_PER_US);
        }
        return NULL;
}

/* Exit status: how many lanes the other user got; the refusal must say why. */
static int attach_as_another(const struct house *house, int tries)
{
        struct ring_attach_options options = {.socket_path = house->socket_path, .timeout_ms = 5000};
        struct ring_producer producers[8];
        struct err err = {.text = ""};
        int got = 0;
        if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
                return 100;
        while (got < tries && ring_producer_attach(&producers[got], &options, &err) == ERR_OK)
                got++;
        if (got < tries && (err.code != ERR_LIMIT || strstr(err.text, "user 65534") == NULL ||
                            strstr(err.text, "lanes_per_user_max in sendring.yaml") == NULL))
                return 101;
        return got;
}

Test(ring_connection, one_user_cannot_have_every_lane, .timeout = 60)
{
        if (geteuid() != 0)
                cr_skip("needs root, to be two users");
        struct house house = {.directory = "/tmp/sendring-ring-XXXXXX"};
        struct err err;
        uid_t other = 65534;
        pthread_t thread;
        cr_assert_not_null(mkdtemp(house.directory));
        cr_assert_eq(chmod(house.directory, 0755), 0);
        (void)snprintf(house.socket_path, sizeof(house.socket_path), "%s/socket", house.directory);
        cr_assert_eq(ring_bed_create(&house.bed, &err), ERR_OK, "%s", err.text);
        struct ring_server_options options = {
                .socket_path = house.socket_path,
                .socket_mode = 0666,
                .allowed_uids = &other,
                .allowed_uids_count = 1,
                .lane_bytes_default = LIMIT_LANE_BYTES_MIN,
                .lane_bytes_max = LIMIT_LANE_BYTES_MIN,
                .lanes_max = 4,
                .lanes_per_user_max = 3,
                .keeper_fd = -1,
                .beds = &house.bed,
                .shards_count = 1,
                .lane_ready = house_lane_ready,
                .context = &house,
        };
        cr_assert_eq(ring_server_create(&options, &house.server, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(pthread_create(&thread, NULL, house_serve, &house), 0);
        int status = 0;
        pid_t child = fork();
        if (child == 0)
                _exit(attach_as_another(&house, 4));
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status));
        cr_assert_eq(WEXITSTATUS(status), 3, "%d", WEXITSTATUS(status));
        /* The lanes of the dead are still there: nobody drains them here. Root is not limited, save by all there are.
         */
        struct ring_attach_options attach = {.socket_path = house.socket_path, .timeout_ms = 5000};
        struct ring_producer producers[2];
        cr_assert_eq(ring_producer_attach(&producers[0], &attach, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(ring_producer_attach(&producers[1], &attach, &err), ERR_LIMIT);
        cr_assert_not_null(strstr(err.text, "no lane left"), "%s", err.text);
        atomic_store(&house.ends, true);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        ring_producer_detach(&producers[0]);
        ring_server_free(house.server);
        ring_bed_free(house.bed);
        char lock_path[128];
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", house.socket_path);
        cr_assert_eq(unlink(lock_path), 0);
        cr_assert_eq(rmdir(house.directory), 0);
}

/* A server in a process that may open so many descriptors. */
static void house_open_small(struct house *house, unsigned descriptors, uint32_t lanes_max)
{
        struct err err;
        const struct rlimit limit = {.rlim_cur = descriptors, .rlim_max = descriptors};
        *house = (struct house){.directory = "/tmp/sendring-ring-XXXXXX"};
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        cr_assert_not_null(mkdtemp(house->directory));
        (void)snprintf(house->socket_path, sizeof(house->socket_path), "%s/socket", house->directory);
        cr_assert_eq(ring_bed_create(&house->bed, &err), ERR_OK, "%s", err.text);
        struct ring_server_options options = {
                .socket_path = house->socket_path,
                .socket_mode = 0600,
                .lane_bytes_default = LIMIT_LANE_BYTES_MIN,
                .lane_bytes_max = LIMIT_LANE_BYTES_MIN,
                .lanes_max = lanes_max,
                .keeper_fd = -1,
                .beds = &house->bed,
                .shards_count = 1,
                .lane_ready = house_lane_ready,
                .context = house,
        };
        cr_assert_eq(ring_server_create(&options, &house->server, &err), ERR_OK, "%s", err.text);
}

static void house_close_small(struct house *house)
{
        char lock_path[128];
        ring_server_free(house->server);
        ring_bed_free(house->bed);
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", house->socket_path);
        cr_assert_eq(unlink(lock_path), 0);
        cr_assert_eq(rmdir(house->directory), 0);
}

Test(ring_connection, there_are_no_more_lanes_than_descriptors_for_them, .timeout = 30)
{
        struct house house;
        struct err err;
        struct ring_producer producers[4];
        pthread_t thread;
        house_open_small(&house, 192 + 4 * 3 + 3, 256);
        struct ring_attach_options attach = {.socket_path = house.socket_path, .timeout_ms = 5000};
        cr_assert_eq(pthread_create(&thread, NULL, house_serve, &house), 0);
        for (int i = 0; i < 3; i++)
                cr_assert_eq(ring_producer_attach(&producers[i], &attach, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(ring_producer_attach(&producers[3], &attach, &err), ERR_LIMIT);
        cr_assert_not_null(strstr(err.text, "no lane left"), "%s", err.text);
        for (int i = 0; i < 3; i++)
                ring_producer_detach(&producers[i]);
        atomic_store(&house.ends, true);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        house_close_small(&house);
}

static bool server_is_called(const struct house *house)
{
        struct epoll_event event;
        return epoll_wait(ring_server_fd(house->server), &event, 1, 0) > 0;
}

Test(ring_connection, who_knocks_while_no_descriptor_is_left_waits_and_calls_nobody, .timeout = 30)
{
        struct house house;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct ring_server_stats stats;
        struct ring_message message;
        struct pollfd answered;
        int taken[64], count = 0;
        house_open_small(&house, 64, 8);
        memcpy(address.sun_path, house.socket_path, strlen(house.socket_path));
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        ring_message_init(&message, RING_MESSAGE_HELLO);
        cr_assert_eq(ring_message_send(fd, &message, NULL, 0), ERR_OK);
        while (count < 64 && (taken[count] = dup(STDERR_FILENO)) >= 0)
                count++;
        cr_assert(server_is_called(&house));
        ring_server_turn(house.server);
        cr_assert_not(server_is_called(&house), "it would be at once again, for ever");
        clock_sleep_ns(150 * CLOCK_NS_PER_MS);
        ring_server_turn(house.server);
        cr_assert(server_is_called(&house), "looked for again");
        ring_server_turn(house.server);
        cr_assert_not(server_is_called(&house));
        ring_fds_close(taken, (size_t)count);
        clock_sleep_ns(150 * CLOCK_NS_PER_MS);
        for (int i = 0; i < 3; i++)
                ring_server_turn(house.server);
        ring_server_get_stats(house.server, &stats);
        cr_assert_eq(stats.attached, 1, "let in");
        answered = (struct pollfd){.fd = fd, .events = POLLIN};
        cr_assert_eq(poll(&answered, 1, 0), 1);
        (void)close(fd);
        house_close_small(&house);
}
