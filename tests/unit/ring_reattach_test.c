/* Ends of the service, by its will or by kills: what is in the lane of a living producer goes on, or over into another
 * lane, and the producer always comes back. */
#include "base/clock.h"
#include "ring/ring.h"
#include "ring/ring_internal.h"
#include "tests/support/ring_kept.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* ---------------------------------------------------------------------------------------------- the service ends */

static enum err_code reattach(struct house *house, struct ring_producer *producer, struct err *err)
{
        struct ring_attach_options options = {
                .socket_path = house->socket_path, .name = "unit test", .timeout_ms = 5000};
        atomic_store(&house->thread_ends, false);
        cr_assert_eq(pthread_create(&house->thread, NULL, house_serve, house), 0);
        enum err_code code = ring_producer_reattach(producer, &options, err);
        atomic_store(&house->thread_ends, true);
        cr_assert_eq(pthread_join(house->thread, NULL), 0);
        return code;
}

static enum err_code publish_one(struct ring_producer *producer, const char *text)
{
        uint8_t *payload;
        uint32_t length = (uint32_t)strlen(text);
        enum err_code code = ring_reserve(producer, length, &payload);
        if (code != ERR_OK)
                return code;
        memcpy(payload, text, length);
        return ring_commit(producer, length);
}

/* Router and keeper die, and the producer sees it. */
static void house_dies(struct house *house, struct ring_producer *producer)
{
        struct err err;
        ring_server_free(house->server);
        house->lanes_count = 0;
        cr_assert_eq(ring_producer_refresh(producer, &err), ERR_DETACHED);
}

static void house_starts_anew(struct house *house)
{
        struct err err;
        cr_assert_eq(ring_server_create(&house->options, &house->server, &err), ERR_OK, "%s", err.text);
}

/* The keeper ends too, and with it what it holds; another one listens. */
static void house_start_new_keeper(struct house *house, struct kept *kept)
{
        struct err err;
        int fds[2] = {kept->listen_fd, kept->lock_fd};
        ring_fds_close(kept->fds, kept->fds_count);
        ring_fds_close(fds, 2);
        kept->fds_count = 0;
        cr_assert_eq(ring_listen_open(house->socket_path, 0600, &kept->listen_fd, &kept->lock_fd, &err), ERR_OK);
        house_start_kept(house, kept);
}

static void take_all(struct ring_lane *lane, int expected)
{
        struct slice payload;
        uint64_t position;
        int count = 0;
        if (ring_visit_begin(lane) > 0) {
                while (ring_visit_next(lane, &payload, &position))
                        count++;
                ring_visit_end(lane);
        }
        cr_assert_eq(count, expected);
        cr_assert_eq(ring_lane_violations(lane), 0);
}

/* A router is killed while it drains, and another one of the same keeper has taken the lane over. */
Test(ring, a_lane_that_the_next_router_has_goes_on, .timeout = 30)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        struct err err;
        house_open_kept(&house, &kept, &producer);
        publish_text(&producer, "one");
        ring_server_stop(house.server);
        cr_assert_eq(publish_one(&producer, "not two"), ERR_DETACHED);
        house_kill_router(&house, &kept);
        house_start_kept(&house, &kept);
        house_receive_page(&kept);
        uint64_t lane_id = producer.lane_id;
        cr_assert_eq(reattach(&house, &producer, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(producer.lane_id, lane_id, "its lane, and nothing was copied");
        publish_text(&producer, "two");
        struct ring_lane *lane = house.lanes[0]; /* a lane that was made in vain may have come behind it */
        cr_assert_gt(ring_visit_begin(lane), 0);
        expect_text(lane, "one");
        expect_text(lane, "two");
        expect_nothing(lane);
        ring_visit_end(lane);
        cr_assert_eq(ring_lane_violations(lane), 0);
        cr_assert_eq(ring_producer_used_bytes(&producer), 0);
        ring_server_turn(house.server);
        cr_assert_not(ring_lane_is_orphan(lane));
        /* And ends with that one. */
        ring_server_stop(house.server);
        cr_assert_eq(publish_one(&producer, "not three"), ERR_DETACHED);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

/* The killed one had journalled a record that the producer withdrew in this moment: the next router begins behind it.
 */
Test(ring, a_lane_goes_on_behind_a_withdrawn_record_that_was_taken, .timeout = 30)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        struct err err;
        house_open_kept(&house, &kept, &producer);
        publish_text(&producer, "one");
        ring_server_stop(house.server);
        cr_assert_eq(publish_one(&producer, "two"), ERR_DETACHED);
        journalled_position = producer.head + 16;
        house_kill_router(&house, &kept);
        house_start_kept(&house, &kept);
        house_receive_page(&kept);
        uint64_t lane_id = producer.lane_id;
        cr_assert_eq(reattach(&house, &producer, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(producer.lane_id, lane_id);
        publish_text(&producer, "three");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "three");
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        cr_assert_eq(ring_lane_violations(house.lanes[0]), 0);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

/* The same where the page of an earlier router still waits, for which the producer had no descriptor when it was told
 * to stop. Under that one the lane does not go on. */
Test(ring, a_lane_goes_on_only_under_the_page_of_the_router_that_has_it, .timeout = 30)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        struct rlimit limit;
        struct err err;
        house_open_kept(&house, &kept, &producer);
        for (int restart = 0; restart < 2; restart++) {
                house_kill_router(&house, &kept);
                house_start_kept(&house, &kept);
                house_receive_page(&kept);
                ring_server_turn(house.server);
        }
        ring_server_stop(house.server);
        cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        const struct rlimit none = {.rlim_cur = 0, .rlim_max = limit.rlim_max};
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
        cr_assert_eq(publish_one(&producer, "one"), ERR_DETACHED);
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        journalled_position = producer.head + 16;
        house_kill_router(&house, &kept);
        house_start_kept(&house, &kept);
        house_receive_page(&kept);
        ring_server_turn(house.server);
        /* Nobody answers a hello here. */
        struct ring_attach_options options = {.socket_path = house.socket_path, .timeout_ms = 1};
        for (int i = 0; i < 3 && ring_producer_reattach(&producer, &options, &err) != ERR_OK; i++)
                ring_server_turn(house.server);
        cr_assert_not(producer.detached, "never came back: %s", err.text);
        publish_text(&producer, "two");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0, "published, and lost");
        expect_text(house.lanes[0], "two");
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        cr_assert_eq(ring_lane_violations(house.lanes[0]), 0);
        cr_assert_eq(ring_producer_used_bytes(&producer), 0);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

/* The next router has drained and ended before the producer looked: the tail is in a page that it never saw,
 * or that was never sent. */
static void drained_by_another_router(bool page_sent)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        struct err err;
        house_open_kept(&house, &kept, &producer);
        publish_text(&producer, "one");
        publish_text(&producer, "two");
        publish_text(&producer, "three");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "one");
        ring_visit_end(house.lanes[0]);
        ring_server_stop(house.server);
        cr_assert_eq(publish_one(&producer, "four"), ERR_DETACHED);
        house_kill_router(&house, &kept);
        house_start_kept(&house, &kept);
        house_receive_page(&kept);
        if (!page_sent)
                ring_server_stop(house.server); /* what is owed stays so */
        ring_server_turn(house.server);
        ring_server_stop(house.server);
        take_all(house.lanes[0], 2);
        house_kill_router(&house, &kept);
        house_start_new_keeper(&house, &kept);
        for (int i = 0; i < 3; i++)
                if (reattach(&house, &producer, &err) == ERR_OK)
                        break;
        cr_assert_not(producer.detached, "never attached again: %s", err.text);
        publish_text(&producer, "four");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "four");
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

Test(ring, what_another_router_has_drained_is_not_carried_over, .timeout = 30)
{
        drained_by_another_router(true);
}

Test(ring, what_another_router_has_drained_under_a_page_that_was_never_sent_is_not_carried_over, .timeout = 30)
{
        drained_by_another_router(false);
}

/* The new page came to nothing in the producer's process: nobody copies what the router takes at the same time. */
static void drained_without_its_page(uint32_t attention)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        struct ring_message message;
        struct err err;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        house_open_kept(&house, &kept, &producer);
        publish_text(&producer, "one");
        house_kill_router(&house, &kept);
        house_start_kept(&house, &kept);
        house_receive_page(&kept);
        ring_server_turn(house.server);
        cr_assert_eq(ring_message_receive(producer.connection_fd, &message, fds, &fds_count), ERR_OK);
        ring_fds_close(fds, fds_count);
        atomic_store(&((struct ring_head_page *)(void *)producer.head_page)->attention, attention);
        producer.detached = true;
        struct ring_lane *lane = house.lanes[0];
        for (int i = 0; i < 3; i++)
                cr_assert_eq(reattach(&house, &producer, &err), ERR_CONNECT, "%s", err.text);
        cr_assert_leq(house.lanes_count, 2, "a lane in vain is made once");
        ring_server_turn(house.server);
        cr_assert(ring_lane_is_orphan(lane));
        take_all(lane, 1);
        ring_server_lane_close(house.server, lane);
        cr_assert_eq(reattach(&house, &producer, &err), ERR_OK, "%s", err.text);
        publish_text(&producer, "two");
        lane = house.lanes[house.lanes_count - 1];
        cr_assert_gt(ring_visit_begin(lane), 0);
        expect_text(lane, "two");
        expect_nothing(lane);
        ring_visit_end(lane);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

Test(ring, a_lane_that_cannot_go_on_is_drained_before_the_rest_is_carried_over, .timeout = 30)
{
        drained_without_its_page(RING_ATTENTION_NONE);
}

/* Attention was raised after it had been lowered, and before that page was looked for. */
Test(ring, a_lane_whose_page_was_lost_does_not_go_on_for_the_attention_alone, .timeout = 30)
{
        drained_without_its_page(RING_ATTENTION_PAGE);
}

/* ---------------------------------------------------------------------------------------------- a death while zeroing
 */

/* A visit takes "one" and "two", and its router is killed in ring_visit_end(): `taken` is stored, so many bytes are
 * zeroed, the tail has not moved. */
static void die_while_zeroing(struct ring_lane *lane, size_t zeroed_bytes)
{
        struct slice payload;
        uint64_t position;
        cr_assert_gt(ring_visit_begin(lane), 0);
        expect_text(lane, "one");
        cr_assert(ring_visit_next(lane, &payload, &position));
        atomic_store(&lane->page->taken, position);
        memset(lane->data, 0, zeroed_bytes);
}

/* No journal tells the next router: its directory was removed. */
Test(ring, a_death_while_zeroing_loses_nothing_without_the_journal, .timeout = 30)
{
        struct house house;
        struct kept kept;
        struct ring_producer producer;
        house_open_kept(&house, &kept, &producer);
        publish_text(&producer, "one");
        publish_text(&producer, "two");
        publish_text(&producer, "three");
        die_while_zeroing(house.lanes[0], 20);
        house_kill_router(&house, &kept);
        house_start_kept(&house, &kept);
        house_receive_page(&kept);
        ring_server_turn(house.server);
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "three");
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        cr_assert_eq(ring_lane_violations(house.lanes[0]), 0);
        ring_producer_detach(&producer);
        house_close_kept(&house, &kept);
}

/* The keeper dies with it. */
Test(ring, reattach_begins_behind_what_a_dying_router_has_taken, .timeout = 60)
{
        /* Each record has 16 bytes; glibc's memset may also begin with the last ones. */
        for (size_t zeroed_bytes = 0; zeroed_bytes <= 32; zeroed_bytes += 4) {
                struct house house;
                struct ring_producer producer;
                struct err err;
                house_open_with_producer(&house, &producer);
                publish_text(&producer, "one");
                publish_text(&producer, "two");
                publish_text(&producer, "three");
                die_while_zeroing(house.lanes[0], zeroed_bytes);
                house_dies(&house, &producer);
                house_starts_anew(&house);
                cr_assert_eq(reattach(&house, &producer, &err), ERR_OK, "%s", err.text);
                publish_text(&producer, "four");
                cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
                expect_text(house.lanes[0], "three");
                expect_text(house.lanes[0], "four");
                expect_nothing(house.lanes[0]);
                ring_visit_end(house.lanes[0]);
                ring_producer_detach(&producer);
                house_close(&house);
        }
}

/* The same under a page that the producer has not got, or of a router that does not know `taken`: what is left behind
 * the zeros comes, whatever stands between. */
Test(ring, reattach_finds_what_is_left_behind_zeros, .timeout = 60)
{
        for (size_t zeroed_bytes = 8; zeroed_bytes <= 32; zeroed_bytes += 8) {
                struct house house;
                struct ring_producer producer;
                struct err err;
                house_open_with_producer(&house, &producer);
                publish_text(&producer, "one");
                publish_text(&producer, "two");
                publish_text(&producer, "three");
                memset(producer.data, 0, zeroed_bytes);
                house_dies(&house, &producer);
                house_starts_anew(&house);
                cr_assert_eq(reattach(&house, &producer, &err), ERR_OK, "%s", err.text);
                cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
                if (zeroed_bytes <= 16)
                        expect_text(house.lanes[0], "two"); /* twice, never lost */
                expect_text(house.lanes[0], "three");
                expect_nothing(house.lanes[0]);
                ring_visit_end(house.lanes[0]);
                ring_producer_detach(&producer);
                house_close(&house);
        }
}

/* Bytes that look like headers, as far as to the end of the lane: looked at in bounded time, and they keep nobody out.
 */
Test(ring, a_damaged_lane_does_not_keep_its_producer_out, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        struct err err;
        house_open_with_producer(&house, &producer);
        uint64_t filled = 0;
        while (publish_one(&producer, "12345678") == ERR_OK)
                filled++;
        uint64_t header = (uint64_t)RING_KIND_EVENT << 32 | 8;
        for (uint64_t i = 0; i < filled * 16 - 16; i += 8)
                memcpy(producer.data + i, &header, sizeof(header));
        memset(producer.data + filled * 16 - 16, 0xff, 16);
        house_dies(&house, &producer);
        house_starts_anew(&house);
        uint64_t begun_ns = clock_monotonic_ns();
        cr_assert_eq(reattach(&house, &producer, &err), ERR_OK, "%s", err.text);
        cr_assert_lt(clock_monotonic_ns() - begun_ns, 500 * CLOCK_NS_PER_MS);
        publish_text(&producer, "on");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "on");
        ring_visit_end(house.lanes[0]);
        ring_producer_detach(&producer);
        house_close(&house);
}

/* ---------------------------------------------------------------------------------------------- another service */

/* A lane of 1 MiB is full when keeper and router die. Those that follow make lanes of 64 KiB, or none that is larger.
 */
static void house_follow_with_small_lanes(struct house *house, struct ring_producer *producer, uint32_t lane_bytes_max,
                                          uint32_t *ret_published)
{
        struct err err;
        static char text[1000];
        house_open(house, false);
        ring_server_free(house->server);
        house->options.lane_bytes_default = LIMIT_LANE_BYTES_DEFAULT;
        house_starts_anew(house);
        cr_assert_eq(house_attach(house, producer, &err), ERR_OK, "%s", err.text);
        memset(text, 'x', sizeof(text) - 1);
        for (*ret_published = 0;; (*ret_published)++) {
                memcpy(text, ret_published, sizeof(*ret_published));
                uint8_t *payload;
                if (ring_reserve(producer, sizeof(text), &payload) != ERR_OK)
                        break;
                memcpy(payload, text, sizeof(text));
                cr_assert_eq(ring_commit(producer, sizeof(text)), ERR_OK);
        }
        house_dies(house, producer);
        house->options.lane_bytes_default = LIMIT_LANE_BYTES_MIN;
        house->options.lane_bytes_max = lane_bytes_max;
        house_starts_anew(house);
}

/* Takes what the lane has: the next ones, each once. */
static void expect_numbers(struct ring_lane *lane, uint32_t *next)
{
        struct slice payload;
        uint64_t position;
        while (ring_visit_begin(lane) > 0) {
                while (ring_visit_next(lane, &payload, &position)) {
                        uint32_t number;
                        cr_assert_eq(payload.len, 1000);
                        memcpy(&number, payload.ptr, sizeof(number));
                        cr_assert_eq(number, (*next)++);
                }
                ring_visit_end(lane);
        }
        cr_assert_eq(ring_lane_violations(lane), 0);
}

Test(ring, reattach_asks_for_the_room_that_it_needs, .timeout = 30)
{
        struct house house;
        struct ring_producer producer;
        struct err err;
        uint32_t published, taken = 0;
        house_follow_with_small_lanes(&house, &producer, LIMIT_LANE_BYTES_DEFAULT, &published);
        cr_assert_eq(reattach(&house, &producer, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(house.lanes_count, 1, "no lane was made in vain");
        expect_numbers(house.lanes[0], &taken);
        cr_assert_eq(taken, published);
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, reattach_carries_over_in_parts_what_no_lane_has_room_for, .timeout = 30)
{
        struct house house;
        struct ring_producer producer;
        struct err err;
        uint32_t published, taken = 0, attempts = 1;
        house_follow_with_small_lanes(&house, &producer, LIMIT_LANE_BYTES_MIN, &published);
        while (reattach(&house, &producer, &err) != ERR_OK) {
                cr_assert_eq(err.code, ERR_LIMIT, "%s", err.text);
                cr_assert_lt(attempts++, 20);
                ring_server_turn(house.server);
                struct ring_lane *lane = house.lanes[--house.lanes_count];
                cr_assert(ring_lane_is_orphan(lane));
                expect_numbers(lane, &taken);
                ring_server_lane_close(house.server, lane);
        }
        expect_numbers(house.lanes[0], &taken);
        cr_assert_eq(taken, published);
        ring_producer_detach(&producer);
        house_close(&house);
}

/* The program was replaced by one whose lanes are others. */
Test(ring, a_keeper_of_another_version_is_told_apart, .timeout = 20)
{
        struct house house;
        struct ring_message message;
        struct ring_server *server = NULL;
        struct err err;
        int pair[2];
        house_open(&house, false);
        cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        ring_message_init(&message, RING_MESSAGE_LISTENER);
        message.version = RING_VERSION + 6;
        cr_assert_eq(ring_message_send(pair[0], &message, &pair[0], 1), ERR_OK);
        struct ring_server_options options = house.options;
        options.keeper_fd = pair[1];
        cr_assert_eq(ring_server_create(&options, &server, &err), ERR_VERSION);
        cr_assert_not_null(strstr(err.text, "lanes of version 7"), "%s", err.text);
        cr_assert_not_null(strstr(err.text, "put the earlier program back"), "%s", err.text);
        (void)close(pair[0]);
        house_close(&house);
}
