/* The router's side of lanes for tests of producers: a thread with a real ring_server and a real bed that drains every
 * lane and hands each record to a function. Stopping and starting it is a service that goes away and comes back. */
#ifndef SENDRING_TESTS_SUPPORT_LANE_DAEMON_H
#define SENDRING_TESTS_SUPPORT_LANE_DAEMON_H

#include "base/assert.h"
#include "base/clock.h"
#include "ring/ring.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LANE_DAEMON_LANES_MAX 64

struct lane_daemon {
        struct ring_server *server;
        struct ring_bed *bed;
        struct ring_lane *lanes[LANE_DAEMON_LANES_MAX];
        uint32_t lanes_count;
        pthread_t thread;
        bool started;
        _Atomic bool stop;
        _Atomic bool paused;      /* attach goes on, nothing is drained */
        _Atomic uint64_t records; /* taken */
        void (*take)(void *context, struct slice record);
        void *context;
        char socket_path[108];
        uint32_t lane_bytes, lane_bytes_max;
};

static inline void lane_daemon_ready(void *context, struct ring_lane *lane, uint32_t shard)
{
        struct lane_daemon *daemon = context;
        (void)shard;
        ASSERT(daemon->lanes_count < LANE_DAEMON_LANES_MAX);
        daemon->lanes[daemon->lanes_count++] = lane;
}

static inline void lane_daemon_drain(struct lane_daemon *daemon)
{
        for (uint32_t i = 0; i < daemon->lanes_count;) {
                struct ring_lane *lane = daemon->lanes[i];
                bool orphan = ring_lane_is_orphan(lane);
                bool any = false;
                if (ring_visit_begin(lane) > 0) {
                        struct slice record;
                        uint64_t position;
                        uint64_t count = 0;
                        while (ring_visit_next(lane, &record, &position)) {
                                if (daemon->take != NULL)
                                        daemon->take(daemon->context, record);
                                count++;
                        }
                        any = count > 0;
                        /* Before the tail moves: whoever flushed may look at once. */
                        atomic_fetch_add_explicit(&daemon->records, count, memory_order_release);
                        ring_visit_end(lane);
                }
                if (orphan && !any) {
                        ring_server_lane_close(daemon->server, lane);
                        daemon->lanes[i] = daemon->lanes[--daemon->lanes_count];
                        continue;
                }
                i++;
        }
}

static inline void *lane_daemon_main(void *argument)
{
        struct lane_daemon *daemon = argument;
        struct pollfd poll_fd = {.fd = ring_server_fd(daemon->server), .events = POLLIN};
        /* Relaxed: seen soon enough; what matters is ordered by pthread_join() and by `records`. */
        while (!atomic_load_explicit(&daemon->stop, memory_order_relaxed)) {
                if (poll(&poll_fd, 1, 0) > 0)
                        ring_server_turn(daemon->server);
                if (!atomic_load_explicit(&daemon->paused, memory_order_relaxed))
                        lane_daemon_drain(daemon);
                clock_nap_ns(20 * CLOCK_NS_PER_US);
        }
        return NULL;
}

/* `daemon` is zeroed, with socket_path, and where wanted lane_bytes, lane_bytes_max, take and context, set. */
static inline bool lane_daemon_start(struct lane_daemon *daemon)
{
        struct err err = {0};
        if (ring_bed_create(&daemon->bed, &err) != ERR_OK) {
                (void)fprintf(stderr, "bed: %s\n", err.text);
                return false;
        }
        struct ring_server_options options = {
                .socket_path = daemon->socket_path,
                .socket_mode = 0600,
                .lane_bytes_default = daemon->lane_bytes == 0 ? 1024 * 1024 : daemon->lane_bytes,
                .lane_bytes_max = daemon->lane_bytes_max == 0 ? 4 * 1024 * 1024 : daemon->lane_bytes_max,
                .lanes_max = LANE_DAEMON_LANES_MAX,
                .keeper_fd = -1,
                .beds = &daemon->bed,
                .shards_count = 1,
                .lane_ready = lane_daemon_ready,
                .context = daemon,
        };
        if (ring_server_create(&options, &daemon->server, &err) != ERR_OK) {
                (void)fprintf(stderr, "server: %s\n", err.text);
                ring_bed_free(daemon->bed);
                return false;
        }
        atomic_store_explicit(&daemon->stop, false, memory_order_relaxed);
        daemon->started = pthread_create(&daemon->thread, NULL, lane_daemon_main, daemon) == 0;
        return daemon->started;
}

/* Orderly: tells the producers, takes what they had committed. Otherwise as if killed: what is in the lanes stays. */
static inline void lane_daemon_stop(struct lane_daemon *daemon, bool orderly)
{
        atomic_store_explicit(&daemon->stop, true, memory_order_relaxed);
        (void)pthread_join(daemon->thread, NULL);
        if (orderly) {
                ring_server_stop(daemon->server);
                lane_daemon_drain(daemon);
        }
        ring_server_free(daemon->server);
        ring_bed_free(daemon->bed);
        daemon->lanes_count = 0;
        daemon->started = false;
}

static inline void lane_daemon_socket(struct lane_daemon *daemon, const char *name)
{
        (void)snprintf(daemon->socket_path, sizeof(daemon->socket_path), "/tmp/sendring-test-%s-%d.sock", name,
                       (int)getpid());
}

#endif
