/* Lanes over a real attach: records, hostile producers, ends, sleeping. */
#include "base/clock.h"
#include "base/limits.h"
#include "ring/ring.h"
#include "ring/ring_internal.h"
#include "tests/support/ring_house.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

/* A replayed record comes out as it went in. */
Test(ring, a_replayed_record_carries_its_origin, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        static char longest[RING_REPLAY_DESTINATION_BYTES_MAX + 1];
        static uint8_t event[LIMIT_EVENT_BYTES_MAX + 1];
        memset(longest, 'd', sizeof(longest));
        memset(event, 7, sizeof(event));
        struct ring_replay replay = {.lane_id = 0x1234567890abcdef,
                                     .lane_position = 4096,
                                     .accepted_ms = -5,
                                     .destination = slice_of(longest, sizeof(longest) - 1),
                                     .set = SLICE("bulk-a")};
        /* What the lane has room for. */
        size_t largest = ring_replay_bytes_max(producer.lane_bytes) - sizeof(struct ring_replay_head) -
                         replay.destination.len - replay.set.len;
        largest = largest > LIMIT_EVENT_BYTES_MAX ? LIMIT_EVENT_BYTES_MAX : largest;
        cr_assert_eq(ring_publish_replay(&producer, &replay, slice_of(event, largest)), ERR_OK);
        publish_text(&producer, "between");
        cr_assert_eq(ring_publish_replay(&producer, &(struct ring_replay){0}, slice_of(event, 3)), ERR_OK);
        struct slice payload, taken;
        struct ring_replayed replayed;
        uint64_t position;
        cr_assert_gt(ring_visit_begin_budget(house.lanes[0], UINT32_MAX), 0);
        cr_assert_eq(ring_visit_next(house.lanes[0], &payload, &position), RING_VISIT_REPLAY);
        cr_assert(ring_replay_read(payload, &replayed, &taken));
        cr_assert_eq(replayed.lane_id, replay.lane_id);
        cr_assert_eq(replayed.lane_position, replay.lane_position);
        cr_assert_eq(replayed.accepted_ms, -5);
        cr_assert(slice_equal(slice_of(replayed.destination, replayed.destination_bytes), replay.destination));
        cr_assert(slice_equal(slice_of(replayed.set, replayed.set_bytes), replay.set));
        cr_assert(slice_equal(taken, slice_of(event, largest)));
        /* A head that promises more than there is. */
        for (size_t cut = 0; cut <= payload.len - taken.len; cut += 8)
                cr_assert_not(ring_replay_read(slice_head(payload, cut), &replayed, &taken), "%zu bytes", cut);
        expect_text(house.lanes[0], "between");
        cr_assert_eq(ring_visit_next(house.lanes[0], &payload, &position), RING_VISIT_REPLAY);
        cr_assert(ring_replay_read(payload, &replayed, &taken));
        cr_assert_eq(replayed.destination_bytes + replayed.set_bytes, 0);
        cr_assert_eq(taken.len, 3);
        ring_visit_end(house.lanes[0]);
        cr_assert_eq(ring_lane_violations(house.lanes[0]), 0);
        cr_assert_eq(ring_publish_replay(&producer, &replay, slice_of(event, sizeof(event))), ERR_TOO_BIG);
        cr_assert_eq(ring_publish_replay(&producer, &replay, SLICE_EMPTY), ERR_RANGE);
        replay.destination.len++;
        cr_assert_eq(ring_publish_replay(&producer, &replay, slice_of(event, 3)), ERR_NAME);
        replay.destination = SLICE_EMPTY;
        replay.set = slice_of(longest, LIMIT_NAME_BYTES_MAX + 1);
        cr_assert_eq(ring_publish_replay(&producer, &replay, slice_of(event, 3)), ERR_NAME);
        ring_producer_detach(&producer);
        house_close(&house);
}

/* Only root and the daemon's own user may say when an event was accepted. */
Test(ring, a_replayed_record_of_another_user_is_a_violation, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        struct ring_lane *lane = house.lanes[0];
        lane->own_uid = 1000;
        lane->info.uid = 1001;
        publish_text(&producer, "good");
        cr_assert_eq(ring_publish_replay(&producer, &(struct ring_replay){0}, SLICE("x")), ERR_OK);
        cr_assert_gt(ring_visit_begin(lane), 0);
        expect_text(lane, "good");
        expect_nothing(lane);
        ring_visit_end(lane);
        cr_assert_eq(ring_lane_violations(lane), 1);
        const uid_t trusted[] = {0, 1000};
        for (size_t i = 0; i < 2; i++) {
                struct slice payload;
                uint64_t position;
                lane->info.uid = trusted[i];
                cr_assert_eq(ring_publish_replay(&producer, &(struct ring_replay){0}, SLICE("x")), ERR_OK);
                cr_assert_gt(ring_visit_begin(lane), 0);
                cr_assert_eq(ring_visit_next(lane, &payload, &position), RING_VISIT_REPLAY);
                ring_visit_end(lane);
        }
        cr_assert_eq(ring_lane_violations(lane), 1);
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, attach_tells_who_it_is, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        struct ring_lane_info info;
        house_open_with_producer(&house, &producer);
        ring_lane_get_info(house.lanes[0], &info);
        cr_assert_eq(info.pid, getpid());
        cr_assert_eq(info.uid, geteuid());
        cr_assert_eq(info.lane_bytes, LIMIT_LANE_BYTES_MIN);
        cr_assert_neq(info.lane_id, 0);
        cr_assert_eq(info.lane_id, producer.lane_id);
        cr_assert_str_eq(info.name, "unit?test");
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, commit_publishes_in_order, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        publish_text(&producer, "first");
        publish_text(&producer, "second, of another length");
        cr_assert_eq(ring_producer_used_bytes(&producer), 16 + 40);
        cr_assert_eq(ring_visit_begin(house.lanes[0]), 16 + 40);
        expect_text(house.lanes[0], "first");
        expect_text(house.lanes[0], "second, of another length");
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        cr_assert_eq(ring_producer_used_bytes(&producer), 0);
        cr_assert_eq(ring_lane_position(house.lanes[0]), 16 + 40);
        cr_assert_eq(ring_visit_begin(house.lanes[0]), 0);
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, a_reservation_is_not_visible_and_can_be_given_back_or_shortened, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        uint8_t *payload;
        house_open_with_producer(&house, &producer);
        cr_assert_eq(ring_reserve(&producer, 1000, &payload), ERR_OK);
        memset(payload, 'x', 1000);
        cr_assert_eq(ring_visit_begin(house.lanes[0]), 0);
        cr_assert_eq(ring_reserve(&producer, 10, &payload), ERR_BUG, "one at a time");
        ring_discard(&producer);
        cr_assert_eq(ring_commit(&producer, 10), ERR_BUG, "nothing is reserved");
        cr_assert_eq(ring_reserve(&producer, 1000, &payload), ERR_OK);
        memcpy(payload, "short", 5);
        cr_assert_eq(ring_commit(&producer, 5), ERR_OK);
        cr_assert_eq(ring_reserve(&producer, 4, &payload), ERR_OK);
        cr_assert_eq(ring_commit(&producer, 5), ERR_BUG, "longer than reserved");
        cr_assert_eq(ring_reserve(&producer, 4, &payload), ERR_OK);
        cr_assert_eq(ring_commit(&producer, 0), ERR_BUG, "empty");
        cr_assert_eq(ring_reserve(&producer, 0, &payload), ERR_RANGE);
        publish_text(&producer, "next");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "short");
        expect_text(house.lanes[0], "next");
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        cr_assert_eq(ring_lane_violations(house.lanes[0]), 0);
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, staged_records_appear_together, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        uint8_t *payload;
        house_open_with_producer(&house, &producer);
        for (uint8_t i = 0; i < 10; i++) {
                cr_assert_eq(ring_reserve(&producer, 1, &payload), ERR_OK);
                *payload = i;
                cr_assert_eq(ring_stage(&producer, 1), ERR_OK);
                cr_assert_eq(ring_visit_begin(house.lanes[0]), 0);
        }
        cr_assert_eq(ring_publish_staged(&producer), ERR_OK);
        cr_assert_eq(ring_visit_begin(house.lanes[0]), 160);
        ring_visit_end(house.lanes[0]);
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, a_lane_is_full_when_it_is_full_and_goes_round_many_times, .timeout = 60)
{
        struct house house;
        struct ring_producer producer;
        uint8_t *payload;
        uint32_t sent = 0;
        uint32_t received = 0;
        uint32_t seed = 1;
        house_open_with_producer(&house, &producer);
        cr_assert_eq(ring_reserve(&producer, LIMIT_LANE_BYTES_MIN / 2, &payload), ERR_TOO_BIG);
        for (int round = 0; round < 200; round++) {
                for (;;) {
                        seed = seed * 1664525u + 1013904223u;
                        uint32_t length = 4 + (seed >> 8) % (LIMIT_LANE_BYTES_MIN / 2 - 8 - 4 + 1);
                        if ((seed & 7) != 0)
                                length = 4 + length % 800;
                        enum err_code code = ring_reserve(&producer, length, &payload);
                        if (code == ERR_FULL)
                                break;
                        cr_assert_eq(code, ERR_OK);
                        memset(payload, (int)(sent & 0xff), length);
                        memcpy(payload, &sent, 4);
                        cr_assert_eq(ring_commit(&producer, length), ERR_OK);
                        sent++;
                }
                cr_assert_leq(ring_producer_used_bytes(&producer), LIMIT_LANE_BYTES_MIN);
                struct slice record;
                uint64_t position;
                uint64_t before = ring_lane_position(house.lanes[0]);
                cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
                while (ring_visit_next(house.lanes[0], &record, &position)) {
                        cr_assert_eq(memcmp(record.ptr, &received, 4), 0);
                        for (size_t i = 4; i < record.len; i++)
                                cr_assert_eq(record.ptr[i], (uint8_t)received);
                        cr_assert_gt(position, before);
                        before = position;
                        received++;
                }
                ring_visit_end(house.lanes[0]);
                cr_assert_eq(ring_lane_position(house.lanes[0]), before);
        }
        cr_assert_eq(sent, received);
        cr_assert_eq(producer.full, 200);
        struct ring_lane_counts counts;
        ring_lane_get_counts(house.lanes[0], &counts);
        cr_assert_eq(counts.full, 200, "the daemon can count what its producers could not publish");
        cr_assert_eq(counts.violations, 0);
        for (size_t i = 0; i < LIMIT_LANE_BYTES_MIN; i++)
                cr_assert_eq(house.lanes[0]->data[i], 0, "what was taken is zeroed: byte %zu", i);
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, a_visit_keeps_to_its_budget, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        for (int i = 0; i < 10; i++)
                publish_text(&producer, "0123456789abcdef");
        cr_assert_eq(ring_visit_begin_budget(house.lanes[0], 30), 240);
        expect_text(house.lanes[0], "0123456789abcdef");
        expect_text(house.lanes[0], "0123456789abcdef");
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        cr_assert_eq(ring_visit_begin(house.lanes[0]), 192);
        ring_visit_end(house.lanes[0]);
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, an_undone_record_comes_again, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        publish_text(&producer, "one");
        publish_text(&producer, "two");
        publish_text(&producer, "three");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "one");
        expect_text(house.lanes[0], "two");
        ring_visit_undo(house.lanes[0]);
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "two");
        expect_text(house.lanes[0], "three");
        ring_visit_end(house.lanes[0]);
        ring_producer_detach(&producer);
        house_close(&house);
}

/* ---------------------------------------------------------------------------------------------- hostile producers */

Test(ring, a_bad_length_skips_to_head_and_is_counted, .timeout = 20)
{
        static const uint64_t headers[] = {
                0,                              /* no length */
                1,                              /* no kind */
                UINT64_C(1) << 32,              /* length 0 */
                UINT64_C(1) << 32 | 0xffffffff, /* absurd */
                UINT64_C(1) << 32 | 33,         /* one more than is published */
                UINT64_C(3) << 32 | 32,         /* another kind */
                UINT64_C(2) << 32 | 33,         /* as above, of a replayed one */
                UINT64_C(1) << 32 | (LIMIT_LANE_BYTES_MIN / 2),
        };
        for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
                struct house house;
                struct ring_producer producer;
                struct ring_lane_counts counts;
                house_open_with_producer(&house, &producer);
                publish_text(&producer, "good");
                publish_text(&producer, "0123456789abcdef0123456789abcdef");
                memcpy(producer.data + 16, &headers[i], 8);
                cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
                expect_text(house.lanes[0], "good");
                expect_nothing(house.lanes[0]);
                ring_visit_end(house.lanes[0]);
                ring_lane_get_counts(house.lanes[0], &counts);
                cr_assert_eq(counts.violations, 1, "case %zu", i);
                cr_assert_eq(counts.skipped_bytes, 40);
                cr_assert_eq(counts.position, 56);
                publish_text(&producer, "again");
                cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
                expect_text(house.lanes[0], "again");
                ring_visit_end(house.lanes[0]);
                ring_producer_detach(&producer);
                house_close(&house);
        }
}

Test(ring, an_insane_head_is_never_believed, .timeout = 20)
{
        static const uint64_t heads[] = {
                LIMIT_LANE_BYTES_MIN + 8 + 16, 17, 8, UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 63};
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        struct ring_head_page *page = (struct ring_head_page *)(void *)producer.head_page;
        publish_text(&producer, "good");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "good");
        ring_visit_end(house.lanes[0]);
        for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
                atomic_store(&page->head, heads[i]);
                cr_assert_eq(ring_visit_begin(house.lanes[0]), 0, "case %zu", i);
                cr_assert_eq(ring_visit_begin(house.lanes[0]), 0);
                cr_assert_eq(ring_lane_violations(house.lanes[0]), i + 1, "counted once, not per look");
        }
        publish_text(&producer, "sane again");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "sane again");
        ring_visit_end(house.lanes[0]);
        cr_assert_not(ring_lane_is_broken(house.lanes[0]));
        for (uint64_t i = 0; i < LIMIT_LANE_VIOLATIONS_MAX; i++) {
                atomic_store(&page->head, 1 + 2 * i);
                cr_assert_eq(ring_visit_begin(house.lanes[0]), 0);
        }
        cr_assert(ring_lane_is_broken(house.lanes[0]));
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, the_daemon_page_cannot_be_written_by_a_producer, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        cr_assert_neq(mprotect((void *)(uintptr_t)producer.daemon_page, 4096, PROT_READ | PROT_WRITE), 0);
        cr_assert_neq(mprotect((void *)(uintptr_t)producer.bed_page, 4096, PROT_READ | PROT_WRITE), 0);
        int fd = ring_bed_memfd(house.beds[0]);
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        int again = open(path, O_RDWR | O_CLOEXEC);
        cr_assert_geq(again, 0);
        cr_assert_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0), MAP_FAILED);
        cr_assert_lt(pwrite(again, "x", 1, 0), 0);
        cr_assert_neq(ftruncate(again, 0), 0);
        cr_assert_neq(fallocate(again, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
        (void)close(again);
        ring_producer_detach(&producer);
        house_close(&house);
}

static int raw_connect(const struct house *house)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strcpy(address.sun_path, house->socket_path);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        cr_assert_geq(fd, 0);
        cr_assert_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        return fd;
}

Test(ring, hostile_hellos_are_refused, .timeout = 20)
{
        struct house house;
        struct ring_message message;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        house_open(&house, false);
        for (int i = 0; i < 6; i++) {
                int fd = raw_connect(&house);
                enum ring_status expected = RING_STATUS_MALFORMED;
                ring_message_init(&message, RING_MESSAGE_HELLO);
                if (i == 0)
                        message.magic++;
                if (i == 1) {
                        message.version++;
                        expected = RING_STATUS_VERSION;
                }
                if (i == 2)
                        message.kind = RING_MESSAGE_DROP;
                size_t bytes = i == 3 ? 15 : i == 4 ? 79 : sizeof(message);
                char longer[200] = {0};
                memcpy(longer, &message, sizeof(message));
                if (i == 5)
                        bytes = sizeof(longer);
                cr_assert_eq(send(fd, longer, bytes, 0), (ssize_t)bytes);
                ring_server_turn(house.server); /* accepts */
                ring_server_turn(house.server); /* reads */
                cr_assert_eq(ring_message_receive(fd, &message, fds, &fds_count), ERR_OK, "case %d", i);
                cr_assert_eq(message.kind, RING_MESSAGE_REFUSED);
                cr_assert_eq(message.status, expected, "case %d: %u", i, message.status);
                cr_assert_eq(fds_count, 0);
                cr_assert_eq(ring_message_receive(fd, &message, fds, &fds_count), ERR_DETACHED);
                (void)close(fd);
                cr_assert_eq(house.refused, (uint32_t)i + 1, "it is told who that was");
                cr_assert_eq(house.refused_pid, getpid());
                cr_assert_eq(house.refused_uid, geteuid());
                cr_assert_str_eq(house.refused_why,
                                 i == 1 ? "its libsendring speaks another version" : "its hello is none");
        }
        int leaver = raw_connect(&house);
        ring_server_turn(house.server);
        (void)close(leaver);
        ring_server_turn(house.server);
        cr_assert_eq(house.refused, 6, "whoever leaves has done no harm");
        cr_assert_eq(house.lanes_count, 0);
        house_close(&house);
}

Test(ring, silent_connections_do_not_keep_others_out, .timeout = 30)
{
        struct house house;
        struct ring_producer producer;
        struct err err;
        int fds[100];
        char byte;
        house_open(&house, false);
        for (int i = 0; i < 100; i++) {
                fds[i] = raw_connect(&house);
                ring_server_turn(house.server);
        }
        cr_assert_eq(recv(fds[0], &byte, 1, MSG_DONTWAIT), 0, "the oldest was thrown out");
        cr_assert_eq(house.refused_pid, getpid());
        cr_assert_str_eq(house.refused_why, "it said no hello in time");
        cr_assert_eq(house_attach(&house, &producer, &err), ERR_OK, "%s", err.text);
        clock_sleep_ns(2100 * CLOCK_NS_PER_MS);
        ring_server_turn(house.server);
        cr_assert_eq(recv(fds[99], &byte, 1, MSG_DONTWAIT), 0, "silent for 2 s");
        for (int i = 0; i < 100; i++)
                (void)close(fds[i]);
        ring_producer_detach(&producer);
        house_close(&house);
}

static int count_fds(void)
{
        int count = 0;
        for (int fd = 0; fd < 1024; fd++)
                count += fcntl(fd, F_GETFD) >= 0;
        return count;
}

Test(ring, lanes_are_limited_and_come_back, .timeout = 30)
{
        struct house house;
        struct ring_producer producers[9];
        struct err err;
        struct ring_server_stats stats;
        house_open(&house, false);
        int before = count_fds();
        for (int i = 0; i < 8; i++)
                cr_assert_eq(house_attach(&house, &producers[i], &err), ERR_OK, "%s", err.text);
        cr_assert_eq(house_attach(&house, &producers[8], &err), ERR_LIMIT);
        int on_shard_0 = 0;
        for (int i = 0; i < 8; i++)
                on_shard_0 += house.shards[i] == 0;
        cr_assert_eq(on_shard_0, 4, "spread evenly");
        for (int i = 0; i < 8; i++) {
                ring_producer_detach(&producers[i]);
                ring_server_turn(house.server);
                cr_assert(ring_lane_is_orphan(house.lanes[i]));
                ring_server_lane_close(house.server, house.lanes[i]);
        }
        cr_assert_eq(count_fds(), before, "no descriptor is left behind");
        cr_assert_eq(house_attach(&house, &producers[8], &err), ERR_OK, "%s", err.text);
        ring_server_get_stats(house.server, &stats);
        cr_assert_eq(stats.attached, 9);
        cr_assert_eq(stats.orphaned, 8);
        cr_assert_eq(stats.closed, 8);
        cr_assert_eq(stats.refused, 1);
        cr_assert_eq(stats.lanes_now, 1);
        ring_producer_detach(&producers[8]);
        house_close(&house);
}

Test(ring, attach_fails_with_a_reason, .timeout = 20)
{
        struct ring_producer producer;
        struct err err;
        struct ring_attach_options options = {.socket_path = "/tmp/sendring-nobody-listens-here", .timeout_ms = 100};
        cr_assert_eq(ring_producer_attach(&producer, &options, &err), ERR_CONNECT);
        struct house house;
        house_open(&house, false);
        options.socket_path = house.socket_path; /* nobody serves it */
        uint64_t before_ns = clock_monotonic_ns();
        cr_assert_eq(ring_producer_attach(&producer, &options, &err), ERR_TIMEOUT, "%s", err.text);
        cr_assert_lt(clock_monotonic_ns() - before_ns, 2 * CLOCK_NS_PER_S);
        struct ring_server *second;
        cr_assert_eq(ring_server_create(&house.options, &second, &err), ERR_LOCKED, "%s", err.text);
        /* root may open anything: as somebody else. */
        cr_assert_eq(chmod(house.socket_path, 0), 0);
        if (geteuid() == 0)
                cr_assert_eq(seteuid(65534), 0);
        cr_assert_eq(ring_producer_attach(&producer, &options, &err), ERR_PERMISSION, "%s", err.text);
        cr_assert_not_null(strstr(err.text, "socket_mode in sendring.yaml"), "%s", err.text);
        if (getuid() == 0)
                cr_assert_eq(seteuid(0), 0);
        house_close(&house);
}

/* ---------------------------------------------------------------------------------------------- ends */

Test(ring, a_dead_producer_is_noticed_and_its_lane_drained, .timeout = 20)
{
        struct house house;
        struct err err;
        pid_t *grandchild = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq(grandchild, MAP_FAILED);
        house_open(&house, false);
        pid_t child = fork();
        if (child == 0) {
                struct ring_producer producer;
                struct ring_attach_options options = {.socket_path = house.socket_path, .timeout_ms = 5000};
                uint8_t *payload;
                if (ring_producer_attach(&producer, &options, &err) != ERR_OK)
                        _exit(1);
                publish_text(&producer, "last words");
                if (ring_reserve(&producer, 100, &payload) != ERR_OK)
                        _exit(1);
                memset(payload, 'x', 100);
                /* A grandchild holds everything open. */
                pid_t pid = fork();
                if (pid == 0)
                        (void)pause();
                *grandchild = pid;
                (void)kill(getpid(), SIGKILL);
                _exit(0);
        }
        uint64_t deadline_ns = clock_monotonic_ns() + 10 * CLOCK_NS_PER_S;
        while ((house.lanes_count == 0 || !ring_lane_is_orphan(house.lanes[0])) && clock_monotonic_ns() < deadline_ns) {
                ring_server_turn(house.server);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        cr_assert_eq(house.lanes_count, 1);
        cr_assert(ring_lane_is_orphan(house.lanes[0]));
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "last words");
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSIGNALED(status));
        cr_assert_gt(*grandchild, 0);
        cr_assert_eq(kill(*grandchild, SIGKILL), 0);
        house_close(&house);
}

Test(ring, detach_is_noticed_although_a_fork_holds_the_connection, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        pid_t child = fork();
        if (child == 0) {
                (void)pause();
                _exit(0);
        }
        ring_server_turn(house.server);
        cr_assert_not(ring_lane_is_orphan(house.lanes[0]));
        ring_producer_detach(&producer);
        ring_server_turn(house.server);
        cr_assert(ring_lane_is_orphan(house.lanes[0]));
        (void)kill(child, SIGKILL);
        cr_assert_eq(waitpid(child, NULL, 0), child);
        house_close(&house);
}

Test(ring, a_forked_child_abandons_without_harm, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        pid_t child = fork();
        if (child == 0) {
                ring_producer_abandon(&producer);
                _exit(0);
        }
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        ring_server_turn(house.server);
        cr_assert_not(ring_lane_is_orphan(house.lanes[0]));
        publish_text(&producer, "still here");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        ring_visit_end(house.lanes[0]);
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, after_stop_nothing_is_accepted_and_nothing_accepted_is_lost, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        uint8_t *payload;
        house_open_with_producer(&house, &producer);
        publish_text(&producer, "accepted");
        ring_server_stop(house.server);
        cr_assert_eq(ring_reserve(&producer, 4, &payload), ERR_OK, "it does not know yet");
        memcpy(payload, "late", 4);
        cr_assert_eq(ring_commit(&producer, 4), ERR_DETACHED);
        cr_assert_eq(ring_reserve(&producer, 4, &payload), ERR_DETACHED);
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        expect_text(house.lanes[0], "accepted");
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        cr_assert_eq(ring_lane_violations(house.lanes[0]), 0);
        cr_assert_eq(ring_producer_wait(&producer, 0), ERR_OK, "what was accepted is known to be safe");
        ring_producer_detach(&producer);
        house_close(&house);
}

/* sendring_publish_many(): one event is staged, and the next one finds no room. */
Test(ring, what_was_staged_before_the_end_is_not_published_behind_it, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        uint8_t *payload;
        house_open_with_producer(&house, &producer);
        const uint32_t large = producer.payload_bytes_max;
        cr_assert_eq(ring_reserve(&producer, large, &payload), ERR_OK);
        cr_assert_eq(ring_commit(&producer, large), ERR_OK);
        cr_assert_eq(ring_reserve(&producer, 100, &payload), ERR_OK);
        cr_assert_eq(ring_stage(&producer, 100), ERR_OK);
        ring_server_stop(house.server);
        cr_assert_eq(ring_reserve(&producer, large, &payload), ERR_DETACHED, "and so the flag is taken");
        (void)take_later(house.lanes[0]); /* the service's last look */
        cr_assert_eq(ring_publish_staged(&producer), ERR_DETACHED);
        cr_assert_eq(producer.staged, producer.head, "withdrawn: it may be attached again");
        cr_assert_eq(ring_publish_staged(&producer), ERR_OK, "nothing is staged");
        cr_assert_eq(ring_producer_used_bytes(&producer), 0);
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, reattach_carries_over_what_was_not_taken, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        struct err err;
        char text[32];
        house_open_with_producer(&house, &producer);
        for (int i = 0; i < 100; i++) {
                (void)snprintf(text, sizeof(text), "event %d", i);
                publish_text(&producer, text);
        }
        cr_assert_eq(ring_publish_replay(&producer, &(struct ring_replay){.lane_id = 77}, SLICE("again")), ERR_OK);
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        for (int i = 0; i < 40; i++) {
                (void)snprintf(text, sizeof(text), "event %d", i);
                expect_text(house.lanes[0], text);
        }
        ring_visit_end(house.lanes[0]);
        /* The daemon and its keeper die without a word. */
        ring_server_free(house.server);
        house.lanes_count = 0;
        cr_assert_eq(ring_producer_refresh(&producer, &err), ERR_DETACHED);
        struct ring_attach_options options = {.socket_path = house.socket_path, .timeout_ms = 5000};
        cr_assert_eq(ring_producer_reattach(&producer, &options, &err), ERR_CONNECT, "nobody there yet");
        cr_assert_eq(ring_server_create(&house.options, &house.server, &err), ERR_OK, "%s", err.text);
        atomic_store(&house.thread_ends, false);
        cr_assert_eq(pthread_create(&house.thread, NULL, house_serve, &house), 0);
        cr_assert_eq(ring_producer_reattach(&producer, &options, &err), ERR_OK, "%s", err.text);
        atomic_store(&house.thread_ends, true);
        cr_assert_eq(pthread_join(house.thread, NULL), 0);
        publish_text(&producer, "event 100");
        cr_assert_gt(ring_visit_begin(house.lanes[0]), 0);
        for (int i = 40; i <= 100; i++) {
                struct slice payload, event;
                struct ring_replayed replayed;
                uint64_t position;
                if (i == 100) {
                        cr_assert_eq(ring_visit_next(house.lanes[0], &payload, &position), RING_VISIT_REPLAY);
                        cr_assert(ring_replay_read(payload, &replayed, &event));
                        cr_assert_eq(replayed.lane_id, 77);
                        cr_assert(slice_equal(event, SLICE("again")));
                }
                (void)snprintf(text, sizeof(text), "event %d", i);
                expect_text(house.lanes[0], text);
        }
        expect_nothing(house.lanes[0]);
        ring_visit_end(house.lanes[0]);
        ring_producer_detach(&producer);
        house_close(&house);
}

/* ---------------------------------------------------------------------------------------------- sleeping, waiting */

static void *publish_later(void *context)
{
        clock_sleep_ns(50 * CLOCK_NS_PER_MS);
        publish_text(context, "wake up");
        return NULL;
}

Test(ring, a_publish_wakes_a_sleeping_shard_once, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        struct ring_bed *bed = house.beds[house.shards[0]];
        publish_text(&producer, "awake");
        cr_assert_eq(producer.wakeups, 0, "nobody sleeps");
        /* The announcement of the lane may have left a wake-up behind. */
        ring_bed_prepare(bed);
        (void)ring_bed_wait(bed, 0);
        ring_bed_prepare(bed);
        cr_assert_not(ring_bed_wait(bed, 10 * CLOCK_NS_PER_MS), "nothing happens: times out");
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, publish_later, &producer), 0);
        ring_bed_prepare(bed);
        uint64_t before_ns = clock_monotonic_ns();
        cr_assert(ring_bed_wait(bed, 10 * CLOCK_NS_PER_S));
        cr_assert_lt(clock_monotonic_ns() - before_ns, 5 * CLOCK_NS_PER_S);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        cr_assert_eq(producer.wakeups, 1);
        /* A ring between prepare and wait is not lost, and a second one costs nothing. */
        ring_bed_prepare(bed);
        publish_text(&producer, "a");
        publish_text(&producer, "b");
        cr_assert_eq(producer.wakeups, 2);
        cr_assert(ring_bed_wait(bed, 10 * CLOCK_NS_PER_S));
        ring_bed_prepare(bed);
        ring_bed_cancel(bed);
        publish_text(&producer, "c");
        cr_assert_eq(producer.wakeups, 2);
        /* And from another thread of the daemon. */
        ring_bed_prepare(bed);
        ring_bed_wake(bed);
        cr_assert(ring_bed_wait(bed, 10 * CLOCK_NS_PER_S));
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, flush_waits_until_taken, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        house_open_with_producer(&house, &producer);
        cr_assert_eq(ring_producer_wait(&producer, 0), ERR_OK, "nothing was published");
        publish_text(&producer, "x");
        cr_assert_eq(ring_producer_wait(&producer, 0), ERR_TIMEOUT);
        cr_assert_eq(ring_producer_wait(&producer, 20), ERR_TIMEOUT);
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, take_later, house.lanes[0]), 0);
        uint64_t before_ns = clock_monotonic_ns();
        cr_assert_eq(ring_producer_wait(&producer, 10000), ERR_OK);
        cr_assert_lt(clock_monotonic_ns() - before_ns, 5 * CLOCK_NS_PER_S);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        ring_producer_detach(&producer);
        house_close(&house);
}

Test(ring, flush_of_a_durable_lane_waits_for_the_disk, .timeout = 20)
{
        struct house house;
        struct ring_producer producer;
        struct err err;
        house_open(&house, true);
        cr_assert_eq(house_attach(&house, &producer, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(ring_producer_wait(&producer, 10), ERR_TIMEOUT, "it may have had another lane");
        ring_lane_set_durable(house.lanes[0], 0);
        cr_assert_eq(ring_producer_wait(&producer, 10), ERR_OK);
        publish_text(&producer, "x");
        (void)take_later(house.lanes[0]);
        cr_assert_eq(ring_producer_wait(&producer, 10), ERR_TIMEOUT, "taken, not synced");
        ring_lane_set_durable(house.lanes[0], 8);
        cr_assert_eq(ring_producer_wait(&producer, 10), ERR_TIMEOUT);
        ring_lane_set_durable(house.lanes[0], 16);
        cr_assert_eq(ring_producer_wait(&producer, 10), ERR_OK);
        ring_producer_detach(&producer);
        house_close(&house);
}
