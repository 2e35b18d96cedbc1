/* Restarts of the router: what the keeper has kept goes on. */
#include "base/clock.h"
#include "ring/ring.h"
#include "ring/ring_internal.h"
#include "tests/support/ring_kept.h"

#include <criterion/criterion.h>
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

Test(ring, a_new_router_goes_on_where_the_old_one_was_and_the_producer_notices_nothing, .timeout = 30)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        struct ring_lane_info info;
        struct ring_server_stats stats;
        char text[32];
        house_open_kept(&house, &kept, &producer);
        int published = 0;
        int taken = 0;
        for (int restart = 0; restart < 5; restart++) {
                const uint8_t *old_page = producer.daemon_page;
                for (int i = 0; i < 10; i++) {
                        (void)snprintf(text, sizeof(text), "event %d", published++);
                        publish_text(&producer, text);
                }
                cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
                for (int i = 0; i < 7; i++) {
                        (void)snprintf(text, sizeof(text), "event %d", taken++);
                        expect_text(house.lanes[0], text);
                }
                ring_visit_end(house.lanes[0]);
                house_kill_router(&house, &kept);
                (void)snprintf(text, sizeof(text), "event %d", published++);
                publish_text(&producer, text); /* nobody is there: it goes into the lane */
                house_start_kept(&house, &kept);
                house_receive_page(&kept);
                cr_assert_eq(house.lanes_count, 0, "reported by the first turn");
                ring_server_turn(house.server);
                cr_assert_eq(house.lanes_count, 1);
                ring_lane_get_info(house.lanes[0], &info);
                cr_assert_eq(info.pid, getpid());
                cr_assert_eq(info.lane_id, producer.lane_id);
                cr_assert_str_eq(info.name, "unit?test");
                cr_assert(ring_producer_attention(&producer));
                (void)snprintf(text, sizeof(text), "event %d", published++);
                publish_text(&producer, text);
                cr_assert_not(ring_producer_attention(&producer), "taken by the publish itself");
                cr_assert_neq(producer.daemon_page, old_page);
                cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
                while (taken < published) {
                        (void)snprintf(text, sizeof(text), "event %d", taken++);
                        expect_text(house.lanes[0], text);
                }
                ring_visit_end(house.lanes[0]);
                cr_assert_eq(ring_producer_used_bytes(&producer), 0, "it sees the new router's tail");
                cr_assert_eq(ring_lane_violations(house.lanes[0]), 0);
                /* The new router's bed wakes the new shard. */
                struct ring_bed *bed = house.beds[house.shards[0]];
                ring_bed_prepare(bed);
                (void)ring_bed_wait(bed, 0); /* what the take-over left behind */
                ring_bed_prepare(bed);
                (void)snprintf(text, sizeof(text), "event %d", published++);
                publish_text(&producer, text);
                cr_assert(ring_bed_wait(bed, 10 * CLOCK_NS_PER_S));
                ring_server_get_stats(house.server, &stats);
                cr_assert_eq(stats.taken_over, 1);
                cr_assert_not(ring_server_keeper_gone(house.server));
        }
        ring_producer_detach(&producer);
        ring_server_turn(house.server);
        cr_assert(ring_lane_is_orphan(house.lanes[0]));
        ring_server_lane_close(house.server, house.lanes[0]);
        struct ring_message message;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        cr_assert_eq(ring_message_receive(kept.line, &message, fds, &fds_count), ERR_OK);
        cr_assert_eq(message.kind, RING_MESSAGE_DROP);
        cr_assert_eq(message.lane_id, info.lane_id);
        house_close_kept(&house, &kept);
}

Test(ring, the_journal_knows_more_than_the_old_tail, .timeout = 30)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        struct slice payload;
        house_open_kept(&house, &kept, &producer);
        publish_text(&producer, "one");
        publish_text(&producer, "two");
        publish_text(&producer, "three");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "one");
        cr_assert(ring_visit_next(house.lanes[0], &payload, &journalled_position));
        /* Killed after the journal's commit, in the middle of zeroing, before the tail moved. */
        memset(house.lanes[0]->data, 0, 20);
        house_kill_router(&house, &kept);
        house_start_kept(&house, &kept);
        house_receive_page(&kept);
        ring_server_turn(house.server);
        cr_assert_eq(ring_lane_position(house.lanes[0]), journalled_position);
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "three");
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

Test(ring, a_producer_that_never_looks_survives_many_restarts, .timeout = 60)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        house_open_kept(&house, &kept, &producer);
        publish_text(&producer, "before");
        for (int restart = 0; restart < 1000; restart++) { /* more pages than its socket holds */
                house_kill_router(&house, &kept);
                house_start_kept(&house, &kept);
                house_receive_page(&kept);
                ring_server_turn(house.server);
        }
        publish_text(&producer, "after"); /* empties the connection */
        ring_server_turn(house.server);   /* the page that had no room */
        publish_text(&producer, "and again");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "before");
        expect_text(house.lanes[0], "after");
        expect_text(house.lanes[0], "and again");
        ring_visit_end(house.lanes[0]);
        cr_assert_eq(ring_producer_used_bytes(&producer), 0);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

/* Pages that nobody has taken count against the descriptors that a user may have on their way, for keeper, handshakes
 * and all other lanes, too. Root may have any number. */
Test(ring, restarts_leave_one_page_on_its_way_to_a_producer_that_does_not_look, .timeout = 60)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        const struct rlimit limit = {.rlim_cur = 224, .rlim_max = 224};
        const uid_t nobody = 65534;
        if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(nobody, nobody, nobody) != 0 ||
                               setresuid(nobody, nobody, nobody) != 0))
                cr_skip("root is exempt from the limit, and cannot become another user here");
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        house_open_kept(&house, &kept, &producer);
        for (int restart = 0; restart < 150; restart++) {
                house_kill_router(&house, &kept);
                house_start_kept(&house, &kept); /* whose descriptors go the same way */
                house_receive_page(&kept);
                ring_server_turn(house.server);
                ring_server_turn(house.server);
        }
        int waiting = 0, fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        struct ring_message message;
        while (ring_message_receive(producer.connection_fd, &message, fds, &fds_count) == ERR_OK) {
                cr_assert_eq(message.kind, RING_MESSAGE_PAGE);
                ring_fds_close(fds, fds_count);
                waiting++;
        }
        cr_assert_eq(waiting, 1);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

static bool server_is_called(const struct house *house)
{
        struct epoll_event event;
        return epoll_wait(ring_server_fd(house->server), &event, 1, 0) > 0;
}

Test(ring, the_page_that_is_owed_follows_as_soon_as_the_earlier_one_is_taken, .timeout = 60)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        house_open_kept(&house, &kept, &producer);
        for (int restart = 0; restart < 3; restart++) {
                house_kill_router(&house, &kept);
                house_start_kept(&house, &kept);
                house_receive_page(&kept);
                ring_server_turn(house.server);
        }
        struct ring_bed *bed = house.beds[house.shards[0]];
        ring_bed_prepare(bed);
        (void)ring_bed_wait(bed, 0); /* what the take-over left behind */
        ring_server_turn(house.server);
        cr_assert_not(server_is_called(&house), "nothing to do while the producer does not look");
        ring_bed_prepare(bed);
        cr_assert_not(ring_bed_wait(bed, 0), "nobody is woken for a page that still waits");
        ring_bed_prepare(bed);
        publish_text(&producer, "x"); /* takes a dead router's page, and looks whether that one sleeps */
        cr_assert(server_is_called(&house));
        ring_server_turn(house.server);
        cr_assert(ring_bed_wait(bed, 10 * CLOCK_NS_PER_S), "the shard looks");
        cr_assert(ring_producer_attention(&producer));
        (void)take_later(house.lanes[0]);
        cr_assert_eq(ring_producer_wait(&producer, 0), ERR_OK);
        ring_server_turn(house.server); /* the other message was taken, too */
        cr_assert_not(server_is_called(&house));
        ring_producer_detach(&producer);
        cr_assert(server_is_called(&house));
        house_close_kept(&house, &kept);
}

/* Opens descriptors until only `left` more can be. */
static int descriptors_take(int taken[256], int left)
{
        int count = 0;
        while (count < 256 && (taken[count] = dup(STDERR_FILENO)) >= 0)
                count++;
        cr_assert_lt(count, 256);
        ring_fds_close(taken + count - left, (size_t)left);
        return count - left;
}

static int descriptors_left(void)
{
        int taken[256];
        int count = descriptors_take(taken, 0);
        ring_fds_close(taken, (size_t)count);
        return count;
}

Test(ring, a_producer_without_descriptors_takes_its_page_when_it_has_some, .timeout = 30)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        const struct rlimit limit = {.rlim_cur = 224, .rlim_max = 224};
        uint8_t *payload;
        int taken[256], taken_count;
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        house_open_kept(&house, &kept, &producer);
        for (int left = 0; left <= 3; left++) {
                const uint8_t *old_page = producer.daemon_page;
                house_kill_router(&house, &kept);
                house_start_kept(&house, &kept);
                house_receive_page(&kept);
                ring_server_turn(house.server);
                taken_count = descriptors_take(taken, left);
                publish_text(&producer, "there is room in the lane");
                cr_assert_eq(ring_producer_attention(&producer), left < 3);
                cr_assert_eq(producer.daemon_page == old_page, left < 3);
                cr_assert_eq(descriptors_left(), left, "the new bell is in the place of the old one");
                if (left < 3)
                        cr_assert_eq(ring_producer_wait(&producer, 1), ERR_TIMEOUT);
                ring_fds_close(taken, (size_t)taken_count);
                publish_text(&producer, "and in the process");
                cr_assert_not(ring_producer_attention(&producer));
                cr_assert_neq(producer.daemon_page, old_page);
                cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
                expect_text(house.lanes[0], "there is room in the lane");
                expect_text(house.lanes[0], "and in the process");
                ring_visit_end(house.lanes[0]);
                cr_assert_eq(ring_producer_wait(&producer, 0), ERR_OK);
        }
        /* The end is seen all the same: that it comes, and that it came. */
        house_kill_router(&house, &kept);
        house_start_kept(&house, &kept);
        house_receive_page(&kept);
        ring_server_turn(house.server);
        taken_count = descriptors_take(taken, 0);
        publish_text(&producer, "there is room in the lane");
        ring_server_stop(house.server);
        cr_assert_eq(ring_reserve(&producer, 1, &payload), ERR_OK);
        cr_assert_eq(ring_commit(&producer, 1), ERR_DETACHED);
        struct ring_attach_options options = {.socket_path = house.socket_path, .timeout_ms = 50};
        cr_assert_neq(ring_producer_reattach(&producer, &options, NULL), ERR_OK, "that lane does not go on");
        atomic_store(&((struct ring_head_page *)(void *)producer.head_page)->attention, RING_ATTENTION_PAGE);
        producer.detached = false;
        cr_assert_eq(ring_producer_refresh(&producer, NULL), ERR_OK, "the connection is there");
        ring_server_lane_close(house.server, house.lanes[0]);
        int freed[256], freed_count = descriptors_take(freed, 0); /* the lane's */
        /* As where keeper and router were killed. */
        atomic_store(&((struct ring_head_page *)(void *)producer.head_page)->attention, RING_ATTENTION_NONE);
        cr_assert_eq(ring_producer_refresh(&producer, NULL), ERR_DETACHED);
        ring_fds_close(freed, (size_t)freed_count);
        ring_fds_close(taken, (size_t)taken_count);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

static void *flush_long(void *context)
{
        static enum err_code code;
        code = ring_producer_wait(context, 20000);
        return &code;
}

Test(ring, a_flush_outlives_the_router, .timeout = 40)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        pthread_t thread;
        void *code;
        house_open_kept(&house, &kept, &producer);
        publish_text(&producer, "x");
        cr_assert_eq(pthread_create(&thread, NULL, flush_long, &producer), 0);
        clock_sleep_ns(20 * CLOCK_NS_PER_MS);
        house_kill_router(&house, &kept);
        house_start_kept(&house, &kept);
        ring_server_turn(house.server);
        clock_sleep_ns(20 * CLOCK_NS_PER_MS);
        (void)take_later(house.lanes[0]);
        cr_assert_eq(pthread_join(thread, &code), 0);
        cr_assert_eq(*(enum err_code *)code, ERR_OK);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

Test(ring, the_death_of_the_keeper_is_told_and_survived, .timeout = 30)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        struct ring_producer second;
        struct err err;
        house_open_kept(&house, &kept, &producer);
        cr_assert_not(ring_server_keeper_gone(house.server));
        (void)close(kept.line);
        kept.line = -1;
        ring_server_turn(house.server);
        cr_assert(ring_server_keeper_gone(house.server));
        publish_text(&producer, "still served");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "still served");
        ring_visit_end(house.lanes[0]);
        cr_assert_eq(house_attach(&house, &second, &err), ERR_OK, "%s", err.text);
        ring_producer_detach(&second);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}
