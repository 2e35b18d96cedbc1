/* What does publishing through a lane cost, beside other ways to another process?
 *
 * Goal: the cost of one publish, and records a second, from 1 to 4 producer processes to one consumer, for records of
 * 64 bytes to 4 KiB, beside DPDK's rte_ring in shared memory (SP/SC: one ring for each producer; MP, RTS, HTS: one for
 * all), a pipe, and SOCK_SEQPACKET unix sockets, all with 1 MiB of room and polled by the consumer (lane_media.h). A
 * lane comes from a real attach.
 *
 * publish_ns_WAY_BYTESb_PRODUCERSp: a producer publishes 32 records in a row and looks at the clock; the median of
 * those in which it never met a full lane, of all producers. The consumer is at work on another core meanwhile and
 * copies every record out, so that the lines move between cores as they do in service. Floor: memcpy of the same bytes
 * into a buffer of the same size, timed in the same way, in cache and with nobody else: its ratio is what sharing
 * costs.
 *
 * records_per_s_...: what the consumer took, looking at most once a microsecond. A producer that finds no room naps for
 * 50 us. Floor: records a second of that memcpy on one core.
 *
 * Pinned, consumer and producers on different cores: on two cores all producers share one. "_free": wherever the
 * scheduler puts them. Ways take turns; medians of the rounds. Every record is checked for order and end.
 *
 * Not measured: encoding an event (bench/publish), the protocol alone on one core (bench/ring), latency
 * (bench/latency), sleeping consumers, the router. What rte_ring's fixed slots save in headers it keeps.
 *
 * usage: lane [--json] [--rounds N] [--smoke] */
#include "base/clock.h"
#include "bench/figures.h"
#include "bench/lane_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BURST       32u
#define ROUNDS      3u
#define RUN_SECONDS 0.06
#define WARM_BYTES  (2 * LANE_MEDIA_ROOM_BYTES) /* of each producer: every page was there once */
#define FULL_NAP_NS (50 * CLOCK_NS_PER_US)
#define SIZES       4u
#define CASES_MAX   96u

static const uint32_t sizes[SIZES] = {64, 256, 700, 4096};

struct bench_case {
        enum lane_medium_kind kind;
        uint32_t record_bytes, producers;
        enum lane_run_place place;
        bool rate; /* is printed, too */
        double publish_ns[LANE_RUN_ROUNDS_MAX], records_per_s[LANE_RUN_ROUNDS_MAX];
};

static struct bench_case cases[CASES_MAX];
static uint32_t cases_count;
static double floor_ns[SIZES][LANE_RUN_ROUNDS_MAX];

static void bench_add(enum lane_medium_kind kind, uint32_t record_bytes, uint32_t producers, enum lane_run_place place)
{
        if (cases_count == CASES_MAX)
                lane_media_die("cases", "too many");
        cases[cases_count++] = (struct bench_case){.kind = kind,
                                                   .record_bytes = record_bytes,
                                                   .producers = producers,
                                                   .place = place,
                                                   .rate = record_bytes == 700};
}

static void bench_add_all(void)
{
        static const enum lane_medium_kind others[] = {LANE_MEDIUM_RTE_SP,  LANE_MEDIUM_RTE_MP, LANE_MEDIUM_RTE_RTS,
                                                       LANE_MEDIUM_RTE_HTS, LANE_MEDIUM_PIPE,   LANE_MEDIUM_SEQPACKET};
        for (uint32_t size = 0; size < SIZES; size++)
                for (uint32_t producers = 1; producers <= LANE_MEDIA_PRODUCERS_MAX; producers++) {
                        bench_add(LANE_MEDIUM_LANE, sizes[size], producers, LANE_RUN_PINNED);
                        /* The others at the usual size, and with one producer. */
                        if ((sizes[size] != 700 && producers != 1) || producers == 3)
                                continue;
                        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
                                bench_add(others[i], sizes[size], producers, LANE_RUN_PINNED);
                }
        for (uint32_t producers = 1; producers <= LANE_MEDIA_PRODUCERS_MAX; producers *= 2)
                bench_add(LANE_MEDIUM_LANE, 700, producers, LANE_RUN_FREE);
}

static void bench_produce(struct lane_run_self *self, const void *context)
{
        struct lane_run_producer *own = self->own;
        (void)context;
        while (!atomic_load_explicit(&self->shared->stop, memory_order_relaxed)) { /* only a signal to end */
                uint32_t burst = 0;
                uint64_t begin_ns = clock_monotonic_ns();
                for (; burst < BURST && self->medium->send(self->rig, lane_run_record(self, 0)); burst++)
                        own->sent++;
                if (burst < BURST) {
                        clock_nap_ns(FULL_NAP_NS);
                } else if (own->sent * self->rig->record_bytes > WARM_BYTES) {
                        own->samples[own->samples_count++ % LANE_RUN_SAMPLES_MAX] =
                                (float)(clock_monotonic_ns() - begin_ns) / BURST;
                }
        }
}

/* As bench_produce() does it, into a buffer. */
static double bench_floor(uint32_t record_bytes)
{
        static double samples[LANE_RUN_SAMPLES_MAX];
        static uint8_t room[LANE_MEDIA_ROOM_BYTES];
        uint8_t *sources = lane_run_sources(record_bytes);
        size_t at = 0, stride = (record_bytes + 15u) & ~(size_t)7;
        lane_run_pin(LANE_RUN_PINNED, false, 0);
        memset(room, 1, sizeof(room));
        for (uint32_t sample = 0; sample < LANE_RUN_SAMPLES_MAX; sample++) {
                uint64_t begin_ns = clock_monotonic_ns();
                for (uint32_t i = 0; i < BURST; i++) {
                        if (at + record_bytes > sizeof(room))
                                at = 0;
                        memcpy(room + at, sources + i * record_bytes, record_bytes);
                        __asm__ volatile("" ::: "memory"); /* each copy is made */
                        at += stride;
                }
                samples[sample] = (double)(clock_monotonic_ns() - begin_ns) / BURST;
        }
        lane_run_pin(LANE_RUN_FREE, true, 0);
        free(sources);
        return figures_percentile(samples, LANE_RUN_SAMPLES_MAX, 50);
}

static void bench_round(struct lane_run_shared *shared, uint32_t round, double seconds)
{
        static double samples[LANE_MEDIA_PRODUCERS_MAX * LANE_RUN_SAMPLES_MAX];
        for (uint32_t size = 0; size < SIZES; size++)
                floor_ns[size][round] = bench_floor(sizes[size]);
        for (uint32_t i = 0; i < cases_count; i++) {
                struct bench_case *one = &cases[i];
                const struct lane_run_options options = {.medium = &lane_media[one->kind],
                                                         .record_bytes = one->record_bytes,
                                                         .producers = one->producers,
                                                         .place = one->place,
                                                         .seconds = seconds,
                                                         .pause_ns = CLOCK_NS_PER_US,
                                                         .produce = bench_produce};
                struct lane_run_result result = lane_run(shared, &options);
                size_t count = 0;
                for (uint32_t producer = 0; producer < one->producers; producer++)
                        for (uint32_t k = 0; k < shared->of[producer].samples_count && k < LANE_RUN_SAMPLES_MAX; k++)
                                samples[count++] = (double)shared->of[producer].samples[k];
                one->publish_ns[round] = figures_percentile(samples, count, 50);
                one->records_per_s[round] = (double)result.taken / result.seconds;
        }
}

static void bench_report(uint32_t rounds)
{
        char metric[64];
        for (uint32_t pass = 0; pass < 2; pass++)
                for (uint32_t i = 0; i < cases_count; i++) {
                        struct bench_case *one = &cases[i];
                        double floor = 0;
                        for (uint32_t size = 0; size < SIZES; size++)
                                if (sizes[size] == one->record_bytes)
                                        floor = figures_percentile(floor_ns[size], rounds, 50);
                        if (pass == 1 && !one->rate)
                                continue;
                        (void)snprintf(metric, sizeof(metric), "%s_%s_%ub_%up%s",
                                       pass == 0 ? "publish_ns" : "records_per_s", lane_media[one->kind].name,
                                       one->record_bytes, one->producers, one->place == LANE_RUN_FREE ? "_free" : "");
                        if (pass == 0)
                                lane_run_print("lane", metric, figures_percentile(one->publish_ns, rounds, 50), "ns",
                                               floor, false);
                        else
                                lane_run_print("lane", metric, figures_percentile(one->records_per_s, rounds, 50),
                                               "1/s", 1e9 / floor, true);
                }
}

int main(int argc, char **argv)
{
        uint32_t rounds = ROUNDS;
        double seconds = RUN_SECONDS;
        lane_run_arguments(argc, argv, 0.003, &rounds, &seconds);
        bench_add_all();
        struct lane_run_shared *shared = lane_run_shared_create();
        for (uint32_t round = 0; round < rounds; round++)
                bench_round(shared, round, seconds);
        bench_report(rounds);
        return 0;
}
