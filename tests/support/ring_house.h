/* Lanes over a real attach: a server on a thread of the test, a producer on the test's own. */
#ifndef SENDRING_TESTS_RING_HOUSE_H
#define SENDRING_TESTS_RING_HOUSE_H

#include "base/clock.h"
#include "base/limits.h"
#include "ring/ring.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

struct house {
        char directory[64];
        char socket_path[96];
        struct ring_bed *beds[2];
        struct ring_server *server;
        struct ring_server_options options;
        struct ring_lane *lanes[64];
        uint32_t shards[64];
        int lanes_count;
        uint32_t refused; /* connections that the server has told of, and the last of them */
        pid_t refused_pid;
        uid_t refused_uid;
        const char *refused_why;
        pthread_t thread;
        _Atomic bool thread_ends;
};

static inline void house_lane_ready(void *context, struct ring_lane *lane, uint32_t shard)
{
        struct house *house = context;
        house->shards[house->lanes_count] = shard;
        house->lanes[house->lanes_count++] = lane;
}

static inline void house_connection_refused(void *context, pid_t pid, uid_t uid, const char *why)
{
        struct house *house = context;
        house->refused++;
        house->refused_pid = pid;
        house->refused_uid = uid;
        house->refused_why = why;
}

static inline void *house_serve(void *context)
{
        struct house *house = context;
        while (!atomic_load(&house->thread_ends)) {
                ring_server_turn(house->server);
                clock_sleep_ns(200 * CLOCK_NS_PER_US);
        }
        return NULL;
}

static inline void house_open(struct house *house, bool durable)
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
                .connection_refused = house_connection_refused,
                .context = house,
        };
        cr_assert_eq(ring_server_create(&house->options, &house->server, &err), ERR_OK, "%s", err.text);
}

/* While the test itself attaches, a thread serves. */
static inline enum err_code house_attach(struct house *house, struct ring_producer *producer, struct err *err)
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

static inline void house_close(struct house *house)
{
        ring_server_free(house->server);
        for (int i = 0; i < 2; i++)
                ring_bed_free(house->beds[i]);
        char lock_path[128];
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", house->socket_path);
        cr_assert_eq(unlink(lock_path), 0);
        cr_assert_eq(rmdir(house->directory), 0, "the socket is removed");
}

static inline void house_open_with_producer(struct house *house, struct ring_producer *producer)
{
        struct err err;
        house_open(house, false);
        cr_assert_eq(house_attach(house, producer, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(house->lanes_count, 1);
}

static inline void publish_text(struct ring_producer *producer, const char *text)
{
        uint8_t *payload;
        uint32_t length = (uint32_t)strlen(text);
        cr_assert_eq(ring_reserve(producer, length, &payload), ERR_OK);
        cr_assert_eq((uintptr_t)payload % 8, 0);
        memcpy(payload, text, length);
        cr_assert_eq(ring_commit(producer, length), ERR_OK);
}

static inline void expect_text(struct ring_lane *lane, const char *text)
{
        struct slice payload;
        uint64_t position;
        cr_assert(ring_visit_next(lane, &payload, &position), "expected \"%s\"", text);
        cr_assert(slice_equal(payload, slice_of_text(text)), "got \"%.*s\", expected \"%s\"", SLICE_PRINTF(payload),
                  text);
}

static inline void expect_nothing(struct ring_lane *lane)
{
        struct slice payload;
        uint64_t position;
        cr_assert_not(ring_visit_next(lane, &payload, &position));
}

static inline void *take_later(void *context)
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

#endif
