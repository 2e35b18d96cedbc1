/* A host that has closed the descriptors of its producer, and has files of its own by their numbers. */
#include "ring/ring_internal.h"
#include "tests/support/ring_house.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>

static int host_file(void)
{
        char path[] = "/tmp/sendring-own-XXXXXX";
        int fd = mkstemp(path);
        cr_assert_geq(fd, 0);
        cr_assert_eq(unlink(path), 0);
        return fd;
}

/* What the host has at `fd`, untouched. */
static void check_untouched(int fd)
{
        struct stat status;
        cr_assert_eq(fstat(fd, &status), 0, "the library has closed it");
        cr_assert(S_ISREG(status.st_mode));
        cr_assert_eq(status.st_size, 0, "the library has written into it");
}

Test(own, what_a_host_has_opened_by_the_same_numbers_is_left_alone, .timeout = 30)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        const int connection_fd = producer.connection_fd, bell_fd = producer.bell_fd, file = host_file();
        cr_assert_eq(dup2(file, connection_fd), connection_fd);
        cr_assert_eq(dup2(file, bell_fd), bell_fd);

        struct ring_bed *bed = house.beds[house.shards[0]];
        ring_bed_prepare(bed);
        publish_text(&producer, "not rung");
        cr_assert_eq(producer.wakeups, 1, "the shard sleeps");
        check_untouched(bell_fd);
        ring_bed_cancel(bed);

        cr_assert(ring_producer_connection_ended(&producer));
        cr_assert_eq(ring_producer_refresh(&producer, NULL), ERR_DETACHED, "it is to attach again");
        ring_producer_detach(&producer);
        check_untouched(connection_fd);
        check_untouched(bell_fd);
        (void)close(connection_fd);
        (void)close(bell_fd);
        (void)close(file);
        ring_server_turn(house.server);
        house_close(&house);
}

/* An epoll set has the inode of an eventfd. */
Test(own, a_descriptor_of_the_host_that_looks_like_a_bell_is_not_closed, .timeout = 30)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        const int connection_fd = producer.connection_fd, bell_fd = producer.bell_fd, file = host_file();
        const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        cr_assert_eq(dup2(file, connection_fd), connection_fd);
        cr_assert_eq(dup2(epoll_fd, bell_fd), bell_fd);
        ring_producer_detach(&producer);
        check_untouched(connection_fd);
        cr_assert_neq(fcntl(bell_fd, F_GETFD), -1, "the library has closed it");
        (void)close(connection_fd);
        (void)close(bell_fd);
        (void)close(epoll_fd);
        (void)close(file);
        ring_server_turn(house.server);
        house_close(&house);
}

Test(own, a_socket_of_the_host_is_neither_read_nor_shut_down, .timeout = 30)
{
        struct house house;
        struct ring_producer producer;
        int ends[2];
        char text[8] = "";
        house_open_with_producer(&house, &producer);
        const int connection_fd = producer.connection_fd;
        cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
        cr_assert_eq(dup2(ends[0], connection_fd), connection_fd);
        cr_assert_eq(send(ends[1], "theirs", 7, 0), 7);
        cr_assert_eq(ring_producer_refresh(&producer, NULL), ERR_DETACHED);
        ring_producer_detach(&producer);
        cr_assert_eq(recv(connection_fd, text, sizeof(text), MSG_DONTWAIT), 7);
        cr_assert_eq(send(connection_fd, "ours", 5, MSG_NOSIGNAL), 5);
        (void)close(connection_fd);
        (void)close(ends[0]);
        (void)close(ends[1]);
        ring_server_turn(house.server);
        house_close(&house);
}
