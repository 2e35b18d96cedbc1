/* Lanes over a real attach: a server on a thread of the test, a producer on the test's own. */
#include "base/clock.h"
#include "base/limits.h"
#include "base/random.h"
#include "ring/ring.h"
#include "ring/ring_internal.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

struct house {
        char directory[64];
        char socket_path[96];
        struct ring_bed *beds[2];
        struct ring_server *server;
        struct ring_server_options options;
        struct ring_lane *lanes[64];
        uint32_t shards[64];
        int lanes_count;
        pthread_t thread;
        _Atomic bool thread_ends;
};

static void house_lane_ready(void *context, struct ring_lane *lane, uint32_t shard)
{
        struct house *house = context;
        house->shards[house->lanes_count] = shard;
        house->lanes[house->lanes_count++] = lane;
}

static void *house_serve(void *context)
{
        struct house *house = context;
        while (!atomic_load(&house->thread_ends)) {
                ring_server_turn(house->server);
                clock_sleep_ns(200 * CLOCK_NS_PER_US);
        }
        return NULL;
}

static void house_open(struct house *house, bool durable)
{
        struct err err;
        memset(house, 0, sizeof(*house));
        strcpy(house->directory, "/tmp/sendring-ring-XXXXXX");
        cr_assert_not_null(mkdtemp(house->directory));
        (void)snprintf(house->socket_path, sizeof(house->socket_path), "%s/socket", house->directory);
        for (int i = 0; i < 2; i++)
                cr_assert_eq(ring_bed_create(&house->beds[i], &err), ERR_OK, "%s", err.text);
        house->options = (struct ring_server_options){
                .socket_path = house->socket_path,
                .socket_mode = 0600,
                .lane_bytes_default = LIMIT_LANE_BYTES_MIN,
                .lane_bytes_max = LIMIT_LANE_BYTES_DEFAULT,
                .lanes_max = 8,
                .durable = durable,
                .keeper_fd = -1,
                .beds = house->beds,
                .shards_count = 2,
                .lane_ready = house_lane_ready,
                .context = house,
        };
        cr_assert_eq(ring_server_create(&house->options, &house->server, &err), ERR_OK, "%s", err.text);
}

/* While the test itself attaches, a thread serves. */
static enum err_code house_attach(struct house *house, struct ring_producer *producer, struct err *err)
{
        struct ring_attach_options options = {
                .socket_path = house->socket_path, .name = "unit test", .timeout_ms = 5000};
        atomic_store(&house->thread_ends, false);
        cr_assert_eq(pthread_create(&house->thread, NULL, house_serve, house), 0);
        enum err_code code = ring_producer_attach(producer, &options, err);
        atomic_store(&house->thread_ends, true);
        cr_assert_eq(pthread_join(house->thread, NULL), 0);
        return code;
}

static void house_close(struct house *house)
{
        ring_server_free(house->server);
        for (int i = 0; i < 2; i++)
                ring_bed_free(house->beds[i]);
        char lock_path[128];
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", house->socket_path);
        cr_assert_eq(unlink(lock_path), 0);
        cr_assert_eq(rmdir(house->directory), 0, "the socket is removed");
}

static void house_open_with_producer(struct house *house, struct ring_producer *producer)
{
        struct err err;
        house_open(house, false);
        cr_assert_eq(house_attach(house, producer, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(house->lanes_count, 1);
}

static void publish_text(struct ring_producer *producer, const char *text)
{
        uint8_t *payload;
        uint32_t length = (uint32_t)strlen(text);
        cr_assert_eq(ring_reserve(producer, length, &payload), ERR_OK);
        cr_assert_eq((uintptr_t)payload % 8, 0);
        memcpy(payload, text, length);
        cr_assert_eq(ring_commit(producer, length), ERR_OK);
}

static void expect_text(struct ring_lane *lane, const char *text)
{
        struct slice payload;
        uint64_t position;
        cr_assert(ring_visit_next(lane, &payload, &position), "expected \"%s\"", text);
        cr_assert(slice_equal(payload, slice_of_text(text)), "got \"%.*s\", expected \"%s\"", SLICE_PRINTF(payload),
                  text);
}

static void expect_nothing(struct ring_lane *lane)
{
        struct slice payload;
        uint64_t position;
        cr_assert_not(ring_visit_next(lane, &payload, &position));
}

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
        }
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

static void *take_later(void *context)
{
        clock_sleep_ns(50 * CLOCK_NS_PER_MS);
        struct ring_lane *lane = context;
        struct slice payload;
        uint64_t position;
        if (ring_visit_begin(lane) > 0) {
                while (ring_visit_next(lane, &payload, &position))
                        ;
                ring_visit_end(lane);
        }
        return NULL;
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

/* ---------------------------------------------------------------------------------------------- restarts of the router
 */

/* The test plays the keeper. */
struct kept {
        int listen_fd, lock_fd;
        int line; /* to the router */
        struct ring_message lane;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
};

static uint64_t journalled_position;

static uint64_t house_journalled(void *context, uint64_t lane_id)
{
        struct house *house = context;
        (void)house;
        cr_assert_neq(lane_id, 0);
        return journalled_position;
}

/* Starts a router, handing over what is kept. */
static void house_start_kept(struct house *house, struct kept *kept)
{
        struct err err;
        struct ring_message message;
        int pair[2];
        cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        kept->line = pair[0];
        ring_message_init(&message, RING_MESSAGE_LISTENER);
        cr_assert_eq(ring_message_send(kept->line, &message, &kept->listen_fd, 1), ERR_OK);
        if (kept->fds_count > 0) {
                kept->lane.kind = RING_MESSAGE_KEPT;
                cr_assert_eq(ring_message_send(kept->line, &kept->lane, kept->fds, kept->fds_count), ERR_OK);
        }
        ring_message_init(&message, RING_MESSAGE_END);
        cr_assert_eq(ring_message_send(kept->line, &message, NULL, 0), ERR_OK);
        for (int i = 0; i < 2; i++)
                cr_assert_eq(ring_bed_create(&house->beds[i], &err), ERR_OK, "%s", err.text);
        house->lanes_count = 0;
        house->options.keeper_fd = pair[1];
        house->options.lane_journalled = house_journalled;
        cr_assert_eq(ring_server_create(&house->options, &house->server, &err), ERR_OK, "%s", err.text);
}

/* Kills the router, as far as that is possible within one process. */
static void house_kill_router(struct house *house, struct kept *kept)
{
        ring_server_free(house->server);
        for (int i = 0; i < 2; i++)
                ring_bed_free(house->beds[i]);
        (void)close(kept->line);
}

static void house_open_kept(struct house *house, struct kept *kept, struct ring_producer *producer)
{
        struct err err;
        struct ring_message message;
        memset(kept, 0, sizeof(*kept));
        journalled_position = 0;
        house_open(house, false);
        ring_server_free(house->server);
        for (int i = 0; i < 2; i++)
                ring_bed_free(house->beds[i]);
        cr_assert_eq(ring_listen_open(house->socket_path, 0600, &kept->listen_fd, &kept->lock_fd, &err), ERR_OK);
        house_start_kept(house, kept);
        cr_assert_eq(house_attach(house, producer, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(ring_message_receive(kept->line, &message, kept->fds, &kept->fds_count), ERR_OK);
        cr_assert_eq(message.kind, RING_MESSAGE_KEEP);
        cr_assert_eq(kept->fds_count, 4);
        kept->lane = message;
}

static void house_receive_page(struct kept *kept)
{
        struct ring_message message;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        cr_assert_eq(ring_message_receive(kept->line, &message, fds, &fds_count), ERR_OK);
        cr_assert_eq(message.kind, RING_MESSAGE_KEEP_PAGE);
        cr_assert_eq(message.lane_id, kept->lane.lane_id);
        cr_assert_eq(fds_count, 1);
        (void)close(kept->fds[1]);
        kept->fds[1] = fds[0];
}

static void house_close_kept(struct house *house, struct kept *kept)
{
        int fds[4] = {kept->listen_fd, kept->lock_fd, kept->line, -1};
        ring_fds_close(kept->fds, kept->fds_count);
        ring_fds_close(fds, 4);
        (void)unlink(house->socket_path);
        house_close(house);
}

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

/* ---------------------------------------------------------------------------------------------- keeper */

/* With `ready`, SIGTERM follows when that file exists. */
static int keeper_status(char *const argv[], const char *ready)
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
        if (ready != NULL) {
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
                if (pidfd < 0 && strcmp(text, "sleep\n") == 0)
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
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGTERM);
        (void)close(line);
        (void)close(pidfd);
        (void)unlink(lock_path);
}
