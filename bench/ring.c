/* What does the protocol of a lane cost?
 *
 * publish_ns: reserve + memcpy of 700 bytes + commit, in bursts that fill an empty 1 MiB lane. Floor: the same memcpy
 * into a plain buffer of the lane's size at the same offsets. The bytes are in cache, the room was zeroed by this core,
 * nobody else touches the lines: what is measured is the protocol, not the memory.
 *
 * visit_ns: taking those records: visit, copy out, zero, publish the tail. Floor: memcpy + memset of the same bytes.
 *
 * sweep_<n>_idle_lanes: a shard's look at n lanes that have nothing; no floor.
 *
 * Not measured: lanes between processes and cores, other ways than lanes (bench/lane), latency (bench/latency),
 * sleeping.
 *
 * Median of the rounds. usage: ring [--json] [--rounds N] [--smoke] */
#include "ring/ring.h"
#include "base/clock.h"
#include "bench/figures.h"
#include "ring/ring_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define EVENT_BYTES 700u
#define LANE_BYTES  (1024u * 1024u)
#define ROUNDS      301
#define ROUNDS_MAX  10001

static uint8_t source[64][EVENT_BYTES + 4];
static uint8_t sink[64][EVENT_BYTES + 4];

struct rig {
        struct ring_bed *bed;
        struct ring_lane *lane;
        struct ring_producer producer;
};

static bool rig_open(struct rig *rig)
{
        struct err err;
        int pair[2];
        if (ring_bed_create(&rig->bed, &err) != ERR_OK ||
            ring_lane_create(1, LANE_BYTES, false, &rig->lane, &err) != ERR_OK) {
                fprintf(stderr, "ring: %s\n", err.text);
                return false;
        }
        rig->lane->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (rig->lane->bell_fd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
                perror("ring");
                return false;
        }
        rig->producer = (struct ring_producer){
                .head_page = rig->lane->map,
                .data = rig->lane->data,
                .daemon_page = (const uint8_t *)rig->lane->page,
                .bed_page = (const uint8_t *)ring_bed_page_of(rig->bed),
                .lane_bytes = LANE_BYTES,
                .payload_bytes_max = rig->lane->payload_bytes_max,
                .connection_fd = pair[0],
                .bell_fd = rig->lane->bell_fd,
                .connection_identity = ring_identity_of(pair[0]),
                .bell_identity = ring_identity_of(rig->lane->bell_fd),
                .lane_id = 1,
        };
        return true;
}

static void print(const char *metric, double value, const char *unit, double floor_value)
{
        if (floor_value > 0)
                printf("{\"bench\":\"ring\",\"metric\":\"%s\",\"value\":%.2f,\"unit\":\"%s\",\"floor\":%.2f,"
                       "\"ratio\":%.3f}\n",
                       metric, value, unit, floor_value, value / floor_value);
        else
                printf("{\"bench\":\"ring\",\"metric\":\"%s\",\"value\":%.0f,\"unit\":\"%s\",\"floor\":null,"
                       "\"ratio\":null}\n",
                       metric, value, unit);
}

/* Fills the lane once. Returns the number of events. */
static uint32_t publish_burst(struct rig *rig)
{
        uint8_t *payload;
        uint32_t count = 0;
        while (ring_reserve(&rig->producer, EVENT_BYTES, &payload) == ERR_OK) {
                memcpy(payload, source[count % 64], EVENT_BYTES);
                (void)ring_commit(&rig->producer, EVENT_BYTES); /* reserved just above: cannot fail */
                count++;
        }
        return count;
}

static uint32_t visit_all(struct ring_lane *lane)
{
        struct slice payload;
        uint64_t position;
        uint32_t count = 0;
        while (ring_visit_begin(lane) > 0) {
                while (ring_visit_next(lane, &payload, &position))
                        memcpy(sink[count++ % 64], payload.ptr, payload.len <= EVENT_BYTES ? payload.len : EVENT_BYTES);
                ring_visit_end(lane);
        }
        return count;
}

static void bench_one_core(struct rig *rig, size_t rounds)
{
        static double publish_ns[ROUNDS_MAX];
        static double publish_floor_ns[ROUNDS_MAX];
        static double visit_ns[ROUNDS_MAX];
        static double visit_floor_ns[ROUNDS_MAX];
        uint8_t *buffer = mmap(NULL, 2 * LANE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (buffer == MAP_FAILED)
                exit(2);
        uint64_t at = 0;
        for (size_t round = 0; round < rounds + 20; round++) {
                size_t slot = round < 20 ? 0 : round - 20; /* the first are for warming up */
                uint64_t t0 = clock_monotonic_ns();
                uint32_t count = publish_burst(rig);
                uint64_t t1 = clock_monotonic_ns();
                if (visit_all(rig->lane) != count)
                        exit(1);
                uint64_t t2 = clock_monotonic_ns();
                uint64_t from = at;
                for (uint32_t i = 0; i < count; i++, at += EVENT_BYTES + 12) {
                        memcpy(buffer + (at & (LANE_BYTES - 1)), source[i % 64], EVENT_BYTES);
                        __asm__ volatile("" ::: "memory"); /* each copy is made */
                }
                uint64_t t3 = clock_monotonic_ns();
                for (uint32_t i = 0; i < count; i++) {
                        memcpy(sink[i % 64], buffer + ((from + i * (EVENT_BYTES + 12)) & (LANE_BYTES - 1)),
                               EVENT_BYTES);
                        __asm__ volatile("" ::: "memory");
                }
                memset(buffer, 0, LANE_BYTES);
                uint64_t t4 = clock_monotonic_ns();
                publish_ns[slot] = (double)(t1 - t0) / count;
                visit_ns[slot] = (double)(t2 - t1) / count;
                publish_floor_ns[slot] = (double)(t3 - t2) / count;
                visit_floor_ns[slot] = (double)(t4 - t3) / count;
        }
        print("publish_ns", figures_median(publish_ns, rounds), "ns/event", figures_median(publish_floor_ns, rounds));
        print("visit_ns", figures_median(visit_ns, rounds), "ns/event", figures_median(visit_floor_ns, rounds));
        (void)munmap(buffer, 2 * LANE_BYTES);
}

/* What a shard's look at lanes that have nothing costs: all of them, once. */
static void bench_idle_lanes(size_t rounds)
{
        static const uint32_t counts[] = {64, 256, 500, 1024};
        static struct ring_lane *lanes[1024];
        double values[ROUNDS_MAX];
        struct err err;
        uint32_t made = 0;
        while (made < 1024 && ring_lane_create(made + 1, LIMIT_LANE_BYTES_MIN, false, &lanes[made], &err) == ERR_OK)
                made++;
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]) && counts[c] <= made; c++) {
                uint64_t found = 0;
                for (size_t round = 0; round < rounds; round++) {
                        const uint32_t sweeps = 200;
                        uint64_t begin_ns = clock_monotonic_ns();
                        for (uint32_t sweep = 0; sweep < sweeps; sweep++)
                                for (uint32_t i = 0; i < counts[c]; i++)
                                        found += ring_lane_is_orphan(lanes[i]) + ring_visit_begin(lanes[i]) +
                                                 ring_lane_violations(lanes[i]);
                        values[round] = (double)(clock_monotonic_ns() - begin_ns) / sweeps;
                }
                char metric[32];
                (void)snprintf(metric, sizeof(metric), "sweep_%u_idle_lanes", counts[c]); /* a short number */
                print(metric, figures_median(values, rounds), found == 0 ? "ns" : "wrong", 0);
        }
        if (made < 1024) /* descriptors: two for each lane */
                fprintf(stderr, "ring: only %u idle lanes: %s\n", made, err.text);
        while (made > 0)
                ring_lane_free(lanes[--made]);
}

int main(int argc, char **argv)
{
        static struct rig rig;
        size_t rounds = ROUNDS;
        for (int i = 1; i < argc; i++)
                if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
                        rounds = strtoul(argv[++i], NULL, 10);
                else if (strcmp(argv[i], "--smoke") == 0)
                        rounds = 3;
        if (rounds == 0 || rounds > ROUNDS_MAX)
                rounds = ROUNDS;
        for (size_t i = 0; i < sizeof(source); i++)
                source[i / sizeof(source[0])][i % sizeof(source[0])] = (uint8_t)(i * 37);
        if (!rig_open(&rig))
                return 2;
        bench_one_core(&rig, rounds);
        bench_idle_lanes(rounds);
        return 0;
}
