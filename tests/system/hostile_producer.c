/* A producer that wants to do harm: attaches like any other, as an allowed user, and then breaks every rule of
 * ring/layout.h that it can reach. tests/system/hostile.py runs it beside honest producers.
 *
 *     hostile_producer SOCKET SECONDS SEED UID [MODE...]
 *
 * One process for each mode, all at the same time, all as user UID (0: as they are started). Each prints one line of
 * JSON at its end: what it tried how often, how often it was closed or refused, and `breaches`: things that succeeded
 * and must not. Exit status: 0; 1 when there was a breach; 2 when it could not do its work. */
#include "base/clock.h"
#include "base/limits.h"
#include "base/random.h"
#include "ring/ring_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define LANES_HELD_MAX 1200
#define FDS_SENT_MAX   253   /* SCM_MAX_FD */
#define SCRIBBLED_MAX  20000 /* lanes that stay mapped, while the other thread may write */

static const char *socket_path;
static uint64_t end_ns;
static struct random_state chance;

/* What one mode did. */
static struct {
        uint64_t attached, refused, closed, tried, connects, lanes_most, breaches, violations;
        char breach[128];
} done;

static bool over(void)
{
        return clock_monotonic_ns() >= end_ns;
}

static void breach(const char *what)
{
        done.breaches++;
        (void)snprintf(done.breach, sizeof(done.breach), "%s", what);
}

/* ---------------------------------------------------------------------------------------------- a lane, by hand */

struct lane {
        int connection, data, page, bed, bell;
        uint64_t bytes;
        uint8_t *map; /* header page, then the records once */
        struct ring_head_page *head_page;
        const struct ring_daemon_page *daemon_page;
        const struct ring_bed_page *bed_page;
        uint64_t head;
};

static int connect_raw(int flags)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
        if (fd < 0)
                return -1;
        done.connects++;
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        (void)close(fd);
        return -1;
}

static void say_hello(int fd, uint64_t lane_bytes)
{
        struct ring_message hello;
        ring_message_init(&hello, RING_MESSAGE_HELLO);
        hello.lane_bytes = lane_bytes;
        (void)snprintf(hello.name, sizeof(hello.name), "hostile \n\"%u", (unsigned)getpid() % 100); /* for the log */
        (void)ring_message_send(fd, &hello, NULL, 0);
}

static bool receive(int fd, struct ring_message *message, int fds[RING_MESSAGE_FDS_MAX], size_t *fds_count,
                    int timeout_ms)
{
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        return poll(&poll_fd, 1, timeout_ms) > 0 && ring_message_receive(fd, message, fds, fds_count) == ERR_OK;
}

static void lane_leave(struct lane *lane)
{
        if (lane->map != NULL)
                (void)munmap(lane->map, lane->bytes + RING_PAGE_BYTES);
        if (lane->daemon_page != NULL)
                (void)munmap((void *)(uintptr_t)lane->daemon_page, RING_PAGE_BYTES);
        if (lane->bed_page != NULL)
                (void)munmap((void *)(uintptr_t)lane->bed_page, RING_PAGE_BYTES);
        int fds[5] = {lane->connection, lane->data, lane->page, lane->bed, lane->bell};
        ring_fds_close(fds, 5);
}

static bool lane_attach(struct lane *lane, uint64_t lane_bytes)
{
        struct ring_message message;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count = 0;
        *lane = (struct lane){.connection = connect_raw(0), .data = -1, .page = -1, .bed = -1, .bell = -1};
        if (lane->connection < 0)
                return false;
        say_hello(lane->connection, lane_bytes);
        if (!receive(lane->connection, &message, fds, &fds_count, 2000) || message.kind != RING_MESSAGE_LANE ||
            fds_count != 4) {
                done.refused++;
                lane_leave(lane);
                return false;
        }
        lane->data = fds[0];
        lane->page = fds[1];
        lane->bed = fds[2];
        lane->bell = fds[3];
        lane->bytes = message.lane_bytes;
        void *map = mmap(NULL, lane->bytes + RING_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, lane->data, 0);
        void *page = mmap(NULL, RING_PAGE_BYTES, PROT_READ, MAP_SHARED, lane->page, 0);
        void *bed = mmap(NULL, RING_PAGE_BYTES, PROT_READ, MAP_SHARED, lane->bed, 0);
        if (map == MAP_FAILED || page == MAP_FAILED || bed == MAP_FAILED) {
                perror("hostile_producer: mmap");
                exit(2);
        }
        lane->map = map;
        lane->head_page = map;
        lane->daemon_page = page;
        lane->bed_page = bed;
        done.attached++;
        return true;
}

/* Waits for a lane and takes it; false: the time is over. */
static bool lane_wait(struct lane *lane, uint64_t lane_bytes)
{
        while (!over()) {
                if (lane_attach(lane, lane_bytes))
                        return true;
                clock_sleep_ns(10 * CLOCK_NS_PER_MS);
        }
        return false;
}

static bool lane_is_closed(const struct lane *lane)
{
        struct pollfd poll_fd = {.fd = lane->connection, .events = POLLRDHUP};
        if (poll(&poll_fd, 1, 0) <= 0 || (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0)
                return false;
        done.closed++;
        return true;
}

static void lane_ring(const struct lane *lane)
{
        uint64_t one = 1;
        ssize_t ignored = write(lane->bell, &one, sizeof(one)); /* full, or closed: the next one */
        (void)ignored;
}

static uint64_t lane_tail(const struct lane *lane)
{
        return atomic_load_explicit(&lane->daemon_page->tail, memory_order_acquire);
}

static void lane_set_head(struct lane *lane, uint64_t head)
{
        lane->head = head;
        atomic_store_explicit(&lane->head_page->head, head, memory_order_release);
        lane_ring(lane);
}

static void lane_put(struct lane *lane, uint64_t position, uint64_t header)
{
        memcpy(lane->map + RING_PAGE_BYTES + (position & (lane->bytes - 1)), &header, sizeof(header));
}

static uint64_t header_of(uint32_t kind, uint32_t payload_bytes)
{
        return (uint64_t)kind << 32 | payload_bytes;
}

/* ---------------------------------------------------------------------------------------------- modes: the lane */

static _Atomic(uint8_t *) scribbled;
static _Atomic uint64_t scribbled_bytes;

/* Writes random bytes everywhere while the other thread makes the daemon read. */
static void *scribble_beside(void *context)
{
        struct random_state own;
        random_init(&own, (uint64_t)(uintptr_t)context);
        while (!over()) {
                uint8_t *map = atomic_load_explicit(&scribbled, memory_order_acquire);
                uint64_t bytes = atomic_load_explicit(&scribbled_bytes, memory_order_acquire);
                for (int i = 0; map != NULL && i < 1000; i++) {
                        uint64_t value = random_u64(&own);
                        /* Every other one where records begin: lengths change between look and use. */
                        uint64_t at = (value & 1) != 0 ? RING_PAGE_BYTES + (value >> 8) % (bytes / 4096) * 8
                                                       : (value >> 8) % bytes;
                        atomic_store_explicit((_Atomic uint8_t *)(map + at), (uint8_t)value, memory_order_relaxed);
                }
                if (map == NULL)
                        clock_sleep_ns(100 * CLOCK_NS_PER_US);
        }
        return NULL;
}

/* Every byte of header page and records, in order and at random, while the daemon reads. */
static void mode_scribble(void)
{
        pthread_t beside;
        struct lane lane;
        if (pthread_create(&beside, NULL, scribble_beside, (void *)(uintptr_t)random_u64(&chance)) != 0)
                exit(2);
        uint32_t lanes = 0;
        while (lanes < SCRIBBLED_MAX && lane_wait(&lane, 64 * 1024)) {
                uint64_t all = lane.bytes + RING_PAGE_BYTES;
                lanes++;
                atomic_store_explicit(&scribbled_bytes, all, memory_order_release);
                atomic_store_explicit(&scribbled, lane.map, memory_order_release);
                for (uint64_t at = 0; !over() && !lane_is_closed(&lane); at++) {
                        uint8_t *byte = lane.map + at % all;
                        *byte = at / all % 3 == 0 ? 0xff : at / all % 3 == 1 ? 0 : (uint8_t)random_u64(&chance);
                        done.tried++;
                        if (at % 64 != 0)
                                continue;
                        /* A plausible record before a plausible head, so that there is something to read. */
                        uint64_t tail = lane_tail(&lane), bytes = 64 + 8 * random_below(&chance, 400);
                        lane_put(&lane, tail, header_of(RING_KIND_EVENT, (uint32_t)bytes - RING_HEADER_BYTES));
                        lane_set_head(&lane, tail + bytes);
                        if (at % 4096 == 0)
                                clock_sleep_ns(200 * CLOCK_NS_PER_US);
                }
                lane.map = NULL; /* stays: the other thread may be at it */
                lane_leave(&lane);
        }
        while (!over())
                clock_sleep_ns(CLOCK_NS_PER_MS);
        (void)pthread_join(beside, NULL);
}

/* Records with lengths and kinds that are none, among good ones. */
static void mode_lies(void)
{
        struct lane lane;
        while (lane_wait(&lane, 64 * 1024)) {
                const uint32_t lengths[] = {0,
                                            1,
                                            7,
                                            0xffffffff,
                                            0x80000000,
                                            0xfffffff8,
                                            0x7ffffff8,
                                            (uint32_t)lane.bytes,
                                            (uint32_t)lane.bytes / 2,
                                            (uint32_t)lane.bytes / 2 - 8,
                                            (uint32_t)lane.bytes - 16,
                                            LIMIT_EVENT_BYTES_MAX,
                                            LIMIT_EVENT_BYTES_MAX + 1};
                while (!over() && !lane_is_closed(&lane)) {
                        uint64_t tail = lane_tail(&lane);
                        uint32_t length = random_below(&chance, 4) == 0
                                                  ? (uint32_t)random_u64(&chance)
                                                  : lengths[random_below(&chance, sizeof(lengths) / 4)];
                        uint32_t kind = random_below(&chance, 2) == 0 ? (uint32_t)random_below(&chance, 5)
                                                                      : (uint32_t)random_u64(&chance);
                        memset(lane.map + RING_PAGE_BYTES, (int)random_below(&chance, 256), 4096);
                        lane_put(&lane, tail, header_of(RING_KIND_EVENT, 56));
                        lane_put(&lane, tail + 64, header_of(kind, length));
                        lane_set_head(&lane, tail + 64 + 8 * (1 + random_below(&chance, 64)));
                        done.tried++;
                        clock_sleep_ns(100 * CLOCK_NS_PER_US);
                }
                lane_leave(&lane);
        }
}

/* A head that goes backwards, far ahead, over the end of the numbers, or stands between records. */
static void mode_heads(void)
{
        struct lane lane;
        while (lane_wait(&lane, 64 * 1024)) {
                while (!over() && !lane_is_closed(&lane)) {
                        uint64_t tail = lane_tail(&lane);
                        const uint64_t heads[] = {tail - 8,
                                                  tail - lane.bytes,
                                                  tail + lane.bytes + 8,
                                                  tail + lane.bytes,
                                                  tail + 1,
                                                  tail + 12,
                                                  UINT64_MAX,
                                                  UINT64_MAX - 7,
                                                  tail + (UINT64_C(1) << 63),
                                                  0,
                                                  random_u64(&chance)};
                        lane_set_head(&lane, heads[random_below(&chance, sizeof(heads) / 8)]);
                        done.tried++;
                        clock_sleep_ns(50 * CLOCK_NS_PER_US);
                }
                lane_leave(&lane);
        }
}

/* Sound records full of bytes that are no events, as fast as they are taken. */
static void mode_garbage(void)
{
        struct lane lane;
        while (lane_wait(&lane, 1024 * 1024)) {
                uint64_t head = lane_tail(&lane);
                while (!over() && !lane_is_closed(&lane)) {
                        uint64_t tail = lane_tail(&lane);
                        for (int i = 0; i < 256 && head + 2048 - tail <= lane.bytes; i++, done.tried++) {
                                uint32_t bytes = 8 * (1 + (uint32_t)random_below(&chance, 100));
                                for (uint32_t at = 0; at < bytes; at += 8)
                                        lane_put(&lane, head + 8 + at, random_u64(&chance));
                                lane_put(&lane, head, header_of(RING_KIND_EVENT, bytes));
                                head += 8 + bytes;
                        }
                        lane_set_head(&lane, head);
                        clock_sleep_ns(CLOCK_NS_PER_MS);
                }
                lane_leave(&lane);
        }
}

/* Wakes the shard as fast as the kernel can, waits for ever on everything, fills the bell's counter. */
static void mode_bell(void)
{
        struct lane lane;
        while (lane_wait(&lane, 64 * 1024)) {
                atomic_store_explicit(&lane.head_page->waiting, 0xffffffff, memory_order_relaxed);
                while (!over() && !lane_is_closed(&lane)) {
                        for (int i = 0; i < 1000; i++, done.tried++)
                                lane_ring(&lane);
                        uint64_t most = UINT64_MAX - 1;
                        if (random_below(&chance, 100) == 0 && write(lane.bell, &most, sizeof(most)) < 0)
                                (void)fcntl(lane.bell, F_SETFL, 0);
                        (void)fcntl(lane.bell, F_SETFL, O_NONBLOCK);
                        if (random_below(&chance, 1000) == 0)
                                clock_sleep_ns(20 * CLOCK_NS_PER_MS); /* let it fall asleep */
                }
                lane_leave(&lane);
        }
}

/* ---------------------------------------------------------------------------------------------- modes: the memory */

static void must_fail(bool failed, const char *what)
{
        done.tried++;
        if (!failed)
                breach(what);
}

/* Everything that would make the daemon fault, or write where only the daemon may. */
static void mode_memory(void)
{
        struct lane lane;
        while (lane_wait(&lane, 64 * 1024)) {
                const int both[2] = {lane.page, lane.bed};
                uint64_t all = lane.bytes + RING_PAGE_BYTES;
                must_fail(ftruncate(lane.data, 0) < 0, "a lane was shrunk");
                must_fail(ftruncate(lane.data, (off_t)all - 4096) < 0, "a lane was shrunk");
                must_fail(ftruncate(lane.data, (off_t)all * 2) < 0, "a lane was grown");
                must_fail(fallocate(lane.data, 0, (off_t)all, 4096) < 0, "a lane was grown");
                must_fail(pwrite(lane.data, "x", 1, (off_t)all) < 0, "a lane was grown");
                must_fail(fcntl(lane.data, F_ADD_SEALS, F_SEAL_WRITE) < 0, "a lane was sealed");
                for (int i = 0; i < 2; i++) {
                        char path[64];
                        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", both[i]);
                        int again = open(path, O_RDWR | O_CLOEXEC);
                        must_fail(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, both[i], 0) == MAP_FAILED,
                                  "the daemon's page was mapped writable");
                        must_fail(again < 0 ||
                                          mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED,
                                  "the daemon's page was mapped writable, opened again");
                        must_fail(pwrite(both[i], "x", 1, 128) < 0, "the daemon's page was written");
                        must_fail(again < 0 || pwrite(again, "x", 1, 128) < 0,
                                  "the daemon's page was written, opened again");
                        must_fail(ftruncate(both[i], 0) < 0, "the daemon's page was cut off");
                        must_fail(fallocate(both[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0,
                                  "the daemon's page was emptied");
                        must_fail(fallocate(both[i], FALLOC_FL_ZERO_RANGE, 0, 4096) < 0,
                                  "the daemon's page was emptied");
                        must_fail(fcntl(both[i], F_ADD_SEALS, F_SEAL_WRITE) < 0, "the daemon's page was sealed");
                        if (again >= 0)
                                (void)close(again);
                }
                must_fail(mprotect((void *)(uintptr_t)lane.daemon_page, 4096, PROT_READ | PROT_WRITE) < 0,
                          "the daemon's page became writable");
                must_fail(madvise((void *)(uintptr_t)lane.daemon_page, 4096, MADV_REMOVE) < 0,
                          "the daemon's page was emptied");
                /* Its own memory it may take away while the daemon reads: that reads as zeroes. */
                for (int i = 0; i < 200 && !over() && !lane_is_closed(&lane); i++) {
                        uint64_t tail = lane_tail(&lane);
                        lane_put(&lane, tail, header_of(RING_KIND_EVENT, 8184));
                        lane_set_head(&lane, tail + 8192);
                        (void)fallocate(lane.data, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)all);
                        (void)madvise(lane.map, all, MADV_REMOVE);
                        lane.head_page->magic = 0;
                        done.tried++;
                        clock_sleep_ns(200 * CLOCK_NS_PER_US);
                }
                lane_leave(&lane);
        }
}

/* ---------------------------------------------------------------------------------------------- modes: the socket */

/* Connections by the thousand: silent ones, ones that never read, ones that ask for lane after lane. */
static void mode_flood(void)
{
        static int held[4096];
        static struct lane lanes[LANES_HELD_MAX];
        while (!over()) {
                uint32_t count = 0, lanes_count = 0;
                for (; count < 4096 && !over(); count++) {
                        held[count] = connect_raw(SOCK_NONBLOCK);
                        if (held[count] < 0)
                                break; /* the backlog is full */
                        if (count % 3 == 1)
                                (void)send(held[count], "x", count % 2, MSG_NOSIGNAL | MSG_DONTWAIT);
                        if (count % 3 == 2)
                                say_hello(held[count], 0); /* and never reads */
                }
                if (random_below(&chance, 4) == 0) {
                        uint32_t tries = 0;
                        while (lanes_count < LANES_HELD_MAX && tries++ < 2000 && !over() && done.refused < 1000000)
                                if (lane_attach(&lanes[lanes_count], LIMIT_LANE_BYTES_MAX))
                                        lanes_count++;
                                else if (tries > 300)
                                        break;
                        if (lanes_count > done.lanes_most)
                                done.lanes_most = lanes_count;
                        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
                }
                done.tried += count;
                while (count > 0)
                        ring_fds_close(&held[--count], 1);
                while (lanes_count > 0)
                        lane_leave(&lanes[--lanes_count]);
        }
}

/* Whether the kernel took it. */
static bool send_junk(int fd, const void *bytes, size_t bytes_count, const int *fds, size_t fds_count)
{
        union {
                char bytes[CMSG_SPACE(sizeof(int) * FDS_SENT_MAX)];
                struct cmsghdr align;
        } control;
        struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = bytes_count};
        struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
        if (fds_count > 0) {
                memset(&control, 0, sizeof(control));
                header.msg_control = control.bytes;
                header.msg_controllen = CMSG_SPACE(sizeof(int) * fds_count);
                struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
                rights->cmsg_level = SOL_SOCKET;
                rights->cmsg_type = SCM_RIGHTS;
                rights->cmsg_len = CMSG_LEN(sizeof(int) * fds_count);
                memcpy(CMSG_DATA(rights), fds, sizeof(int) * fds_count);
        }
        done.tried++;
        return sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

/* Messages of every wrong size, kind, version and magic, with descriptors where none belong: before and after
 * attaching. */
static void mode_messages(void)
{
        static uint8_t large[128 * 1024];
        struct lane lane;
        int junk[FDS_SENT_MAX], ends[2];
        for (uint64_t turn = 0; !over(); turn++) {
                struct ring_message message;
                size_t fds_count = 0, bytes_count = sizeof(message);
                bool attached = turn % 4 == 0 && lane_attach(&lane, 64 * 1024);
                int fd = attached ? lane.connection : connect_raw(0);
                if (fd < 0)
                        continue;
                if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0) {
                        /* Its own connection among them, and sockets that hold themselves. */
                        fds_count = random_below(&chance, 2) == 0 ? FDS_SENT_MAX : random_below(&chance, 6);
                        for (size_t i = 0; i < fds_count; i++)
                                junk[i] = i % 3 == 0 ? fd : ends[i % 2];
                        (void)send_junk(ends[0], "x", 1, ends, 2);
                }
                ring_message_init(&message, (enum ring_message_kind)random_below(&chance, 26));
                if (random_below(&chance, 3) == 0)
                        message.kind = RING_MESSAGE_HELLO;
                message.lane_bytes = random_u64(&chance);
                message.lane_id = random_u64(&chance);
                memset(message.name, (int)random_below(&chance, 256), sizeof(message.name));
                if (random_below(&chance, 3) == 0)
                        message.magic = (uint32_t)random_u64(&chance);
                if (random_below(&chance, 3) == 0)
                        message.version = (uint16_t)random_u64(&chance);
                if (random_below(&chance, 3) == 0)
                        bytes_count = random_below(&chance, sizeof(message));
                if (random_below(&chance, 8) == 0)
                        send_junk(fd, large, sizeof(large), junk, fds_count);
                for (int i = 0; i < (attached ? 40 : 2); i++)
                        (void)send_junk(fd, &message, bytes_count, junk, fds_count);
                if (random_below(&chance, 2) == 0)
                        clock_sleep_ns(random_below(&chance, 3) * CLOCK_NS_PER_MS);
                ring_fds_close(ends, 2);
                if (attached)
                        lane_leave(&lane);
                else
                        (void)close(fd);
        }
}

/* Sends a socket whose last close waits for 20 s, over this connection, and leaves it with the daemon. */
static void send_waiting_socket(int connection, const struct sockaddr_in *listener, const void *bytes,
                                size_t bytes_count)
{
        static uint8_t unread[1024 * 1024];
        struct linger linger = {.l_onoff = 1, .l_linger = 20};
        const struct timeval patience = {.tv_usec = 100000}; /* nobody accepts: in the end the queue is full */
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
                exit(2);
        if (connect(fd, (const struct sockaddr *)listener, sizeof(*listener)) < 0) {
                (void)close(fd);
                return;
        }
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        while (send(fd, unread, sizeof(unread), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
                ;
        if (!send_junk(connection, bytes, bytes_count, &fd, 1)) {
                linger.l_onoff = 0; /* or it is we who wait */
                (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        }
        (void)close(fd);
}

/* Whoever throws such a socket away is held up, if it does that where it works: with the hello, behind it, in a lane.
 */
static void mode_linger(void)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t address_bytes = sizeof(address);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (listener < 0 || bind(listener, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
            listen(listener, SOMAXCONN) < 0 || getsockname(listener, (struct sockaddr *)&address, &address_bytes) < 0)
                exit(2);
        struct ring_message message;
        struct lane lane;
        ring_message_init(&message, RING_MESSAGE_HELLO);
        while (!over()) {
                int fd = connect_raw(0);
                if (fd >= 0) {
                        send_waiting_socket(fd, &address, &message, sizeof(message));
                        send_waiting_socket(fd, &address, "x", 1);
                        (void)close(fd);
                }
                if (lane_attach(&lane, 64 * 1024)) {
                        send_waiting_socket(lane.connection, &address, "x", 1);
                        lane_leave(&lane);
                }
                clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        }
        (void)close(listener);
}

/* ---------------------------------------------------------------------------------------------- modes: dying */

/* In the child: lives up to one of its states and dies there. */
static void die(uint32_t state)
{
        struct lane lane;
        int fd = connect_raw(0);
        if (fd < 0 || state == 0)
                _exit(0);
        say_hello(fd, 0);
        if (state == 1)
                _exit(0);
        (void)close(fd);
        if (!lane_attach(&lane, 64 * 1024) || state == 2)
                _exit(0);
        lane_put(&lane, 0, header_of(RING_KIND_EVENT, 1000));
        if (state == 3)
                _exit(0); /* written, not published */
        atomic_store_explicit(&lane.head_page->head, 1008, memory_order_release);
        if (state == 4)
                _exit(0); /* published, bell not rung */
        lane_ring(&lane);
        if (state == 5)
                (void)kill(getpid(), SIGSTOP); /* the parent ends it */
        if (state == 6)
                (void)close(lane.connection); /* goes, and writes on */
        if (state == 7)
                (void)shutdown(lane.connection, SHUT_WR);
        if (state == 8 && fork() == 0) {
                clock_sleep_ns(20 * CLOCK_NS_PER_MS); /* a child that has everything, and its parent has died */
                lane_set_head(&lane, random_u64(&chance));
                _exit(0);
        }
        for (int i = 0; i < 100; i++)
                lane_set_head(&lane, lane.head + 8 * random_below(&chance, 9000));
        _exit(0);
}

static void mode_death(void)
{
        for (uint32_t turn = 0; !over(); turn++) {
                pid_t child = fork();
                if (child < 0)
                        exit(2);
                if (child == 0)
                        die(turn % 9);
                clock_sleep_ns(random_below(&chance, 4) * CLOCK_NS_PER_MS);
                if (turn % 2 == 0 || turn % 9 == 5)
                        (void)kill(child, SIGKILL);
                (void)waitpid(child, NULL, 0);
                done.tried++;
        }
}

/* ---------------------------------------------------------------------------------------------- */

static const struct {
        const char *name;
        void (*run)(void);
} modes[] = {
        {"scribble", mode_scribble}, {"lies", mode_lies},     {"heads", mode_heads}, {"garbage", mode_garbage},
        {"bell", mode_bell},         {"memory", mode_memory}, {"flood", mode_flood}, {"messages", mode_messages},
        {"linger", mode_linger},     {"death", mode_death},
};
#define MODES_COUNT (sizeof(modes) / sizeof(modes[0]))

static void run_mode(size_t mode, uid_t uid, uint64_t seed)
{
        struct rlimit limit;
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &limit); /* fewer connections, then */
        }
        if (uid != 0 && (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)) {
                perror("hostile_producer: become the other user");
                exit(2);
        }
        (void)signal(SIGPIPE, SIG_IGN); /* cannot fail */
        random_init(&chance, seed + mode);
        modes[mode].run();
        printf("{\"mode\":\"%s\",\"pid\":%d,\"tried\":%llu,\"connects\":%llu,\"attached\":%llu,\"refused\":%llu,"
               "\"closed\":%llu,"
               "\"lanes_most\":%llu,\"breaches\":%llu,\"breach\":\"%s\"}\n",
               modes[mode].name, (int)getpid(), (unsigned long long)done.tried, (unsigned long long)done.connects,
               (unsigned long long)done.attached, (unsigned long long)done.refused, (unsigned long long)done.closed,
               (unsigned long long)done.lanes_most, (unsigned long long)done.breaches, done.breach);
        (void)fflush(stdout);
        _exit(done.breaches == 0 ? 0 : 1);
}

int main(int argc, char **argv)
{
        if (argc < 5) {
                (void)fprintf(stderr, "usage: hostile_producer SOCKET SECONDS SEED UID [MODE...]\n");
                return 64;
        }
        socket_path = argv[1];
        end_ns = clock_monotonic_ns() + (uint64_t)(strtod(argv[2], NULL) * 1e9);
        uint64_t seed = strtoull(argv[3], NULL, 10);
        uid_t uid = (uid_t)strtoul(argv[4], NULL, 10);
        pid_t children[MODES_COUNT] = {0};
        for (size_t mode = 0; mode < MODES_COUNT; mode++) {
                bool wanted = argc == 5;
                for (int i = 5; i < argc; i++)
                        wanted |= strcmp(argv[i], modes[mode].name) == 0;
                if (!wanted)
                        continue;
                children[mode] = fork();
                if (children[mode] == 0)
                        run_mode(mode, uid, seed);
        }
        int worst = 0;
        for (size_t mode = 0; mode < MODES_COUNT; mode++) {
                int status = 0;
                if (children[mode] <= 0)
                        continue;
                (void)waitpid(children[mode], &status, 0);
                int code = WIFEXITED(status) ? WEXITSTATUS(status) : 2;
                if (code != 0)
                        (void)fprintf(stderr, "hostile_producer: %s ended with %d\n", modes[mode].name,
                                      WIFEXITED(status) ? code : -WTERMSIG(status));
                worst = code > worst ? code : worst;
        }
        return worst;
}
