/* How long is a record underway from a producer's process to the consumer's, at a fixed rate?
 *
 * Goal: percentiles of the one-way latency of 700-byte records through a lane, beside rte_ring in shared memory, a pipe
 * and a SOCK_SEQPACKET unix socket (lane_media.h). Method: one producer sends at fixed times, whatever became of the
 * record before; latency counts from the time that a record was due until the consumer has copied it, so that a
 * producer that is held up makes all records behind it late (no coordinated omission). Producer and consumer are pinned
 * to different cores and both spin: nobody sleeps, and nobody pays for a wake-up, which is the best case of the pipe
 * and of the socket. "lane_1us": the consumer looks only once a microsecond, as a busy router does.
 *
 * Floor: the same percentile of fixed slots with a word in each that says whose it is (lane_media.h), at the same rate:
 * what the caches need to bring those bytes over. At 99.9 percent a virtual machine's own gaps are what is seen.
 *
 * Ways take turns; medians of the rounds. Not measured: sleeping consumers, several producers, the router.
 *
 * usage: latency [--json] [--rounds N] [--smoke] */
#include "base/clock.h"
#include "bench/figures.h"
#include "bench/lane_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS       3u
#define RUN_SECONDS  0.2
#define RECORD_BYTES 700u
#define RATES        3u
#define WAYS         7u
#define PERCENTS     3u
#define RECORDS_MAX  (1000u * 1000u)

static const struct {
        uint32_t per_s;
        const char *name;
} rates[RATES] = {{10000, "10k"}, {100000, "100k"}, {500000, "500k"}};
static const struct {
        double percent;
        const char *name;
} percents[PERCENTS] = {{50, "p50"}, {99, "p99"}, {99.9, "p99_9"}};
/* The slots first: they are the floor of the others. */
static const struct {
        enum lane_medium_kind kind;
        const char *name;
        uint64_t pause_ns;
} ways[WAYS] = {{LANE_MEDIUM_SLOTS, "slots", 0},
                {LANE_MEDIUM_LANE, "lane", 0},
                {LANE_MEDIUM_LANE, "lane_1us", CLOCK_NS_PER_US},
                {LANE_MEDIUM_RTE_SP, "rte_sp", 0},
                {LANE_MEDIUM_RTE_MP, "rte_mp", 0},
                {LANE_MEDIUM_PIPE, "pipe", 0},
                {LANE_MEDIUM_SEQPACKET, "seqpacket", 0}};

struct bench_schedule {
        uint64_t interval_ns;
        uint64_t records;
};

static double latency_ns[RECORDS_MAX];
static size_t latency_count;

static void bench_got(void *context, const uint8_t *record)
{
        struct lane_run_head head;
        (void)context;
        memcpy(&head, record, sizeof(head));
        if (latency_count < RECORDS_MAX)
                latency_ns[latency_count++] = (double)(clock_monotonic_ns() - head.due_ns);
}

static void bench_produce(struct lane_run_self *self, const void *context)
{
        const struct bench_schedule *schedule = context;
        for (uint64_t i = 0; i < schedule->records; i++) {
                uint64_t due_ns = self->shared->start_ns + (i + 1) * schedule->interval_ns;
                const uint8_t *record = lane_run_record(self, due_ns);
                while (clock_monotonic_ns() < due_ns)
                        continue;
                while (!self->medium->send(self->rig, record))
                        continue;
                self->own->sent++;
        }
}

int main(int argc, char **argv)
{
        static double values[RATES][WAYS][PERCENTS][LANE_RUN_ROUNDS_MAX];
        uint32_t rounds = ROUNDS;
        double seconds = RUN_SECONDS;
        lane_run_arguments(argc, argv, 0.01, &rounds, &seconds);
        struct lane_run_shared *shared = lane_run_shared_create();
        for (uint32_t round = 0; round < rounds; round++)
                for (uint32_t rate = 0; rate < RATES; rate++)
                        for (uint32_t way = 0; way < WAYS; way++) {
                                const struct bench_schedule schedule = {
                                        .interval_ns = CLOCK_NS_PER_S / rates[rate].per_s,
                                        .records = (uint64_t)(seconds * rates[rate].per_s)};
                                const struct lane_run_options options = {.medium = &lane_media[ways[way].kind],
                                                                         .record_bytes = RECORD_BYTES,
                                                                         .producers = 1,
                                                                         .place = LANE_RUN_PINNED,
                                                                         .pause_ns = ways[way].pause_ns,
                                                                         .produce = bench_produce,
                                                                         .context = &schedule,
                                                                         .got = bench_got};
                                latency_count = 0;
                                (void)lane_run(shared, &options);
                                for (uint32_t k = 0; k < PERCENTS; k++)
                                        values[rate][way][k][round] =
                                                figures_percentile(latency_ns, latency_count, percents[k].percent);
                        }
        for (uint32_t rate = 0; rate < RATES; rate++)
                for (uint32_t k = 0; k < PERCENTS; k++) {
                        double floor = figures_percentile(values[rate][0][k], rounds, 50);
                        for (uint32_t way = 1; way < WAYS; way++) {
                                char metric[64];
                                (void)snprintf(metric, sizeof(metric), "%s_%s_%s", percents[k].name, ways[way].name,
                                               rates[rate].name);
                                lane_run_print("latency", metric, figures_percentile(values[rate][way][k], rounds, 50),
                                               "ns", floor, false);
                        }
                }
        return 0;
}
