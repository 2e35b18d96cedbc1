/* CloudWatch: what does counting an event cost the egress worker?
 *
 * Method: 4,096 different Delivery events with four headers and three tags, in about 400 series, are counted over and
 * over in one table; three configurations: two message tags, a message tag and a header, and two message tags in three
 * roll-ups. Thread CPU time of a pass over all of them, median of RUNS passes, in nanoseconds for one event. What
 * stands as the floor is a reference, hash_and_add: hashing two values that are at hand and adding to one counter of a
 * table that needs no search, less than any table with many series can do.
 *
 * In a worker the table does not stay in the first caches: count_behind_json_ns is what counting two tags and the
 * configuration set adds where each event is written as JSON as well, into a buffer of 4 MiB, as bodies are built: such
 * passes with and without it take turns.
 *
 * Not measured: reading the journal, decoding, sending.
 *
 * usage: metrics [--json] [--smoke] */
#include "egress/metrics.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/random.h"
#include "bench/figures.h"

#include <stdio.h>
#include <stdlib.h>

#define EVENTS      4096u
#define EVENT_BYTES 1024u
#define RUNS_MAX    51u
#define BODY_BYTES  (4u * 1024u * 1024u)

static uint8_t events[EVENTS][EVENT_BYTES];
static struct codec_view views[EVENTS];
static struct slice values[EVENTS][2];

static bool bench_make_events(void)
{
        static char texts[EVENTS][2][32];
        struct random_state random;
        random_init(&random, 20260102);
        for (uint32_t i = 0; i < EVENTS; i++) {
                int campaign = snprintf(texts[i][0], 32, "campaign-%u", (unsigned)random_below(&random, 40));
                int pool = snprintf(texts[i][1], 32, "pool-%u.example.com", (unsigned)random_below(&random, 10));
                values[i][0] = slice_of(texts[i][0], (size_t)campaign);
                values[i][1] = slice_of(texts[i][1], (size_t)pool);
                const struct sendring_pair tags[] = {
                        {SENDRING_STR("genre"), SENDRING_STR("sci-fi")},
                        {SENDRING_STR("campaign"), {texts[i][0], (size_t)campaign}},
                        {SENDRING_STR("pool"), {texts[i][1], (size_t)pool}},
                };
                const struct sendring_pair headers[] = {
                        {SENDRING_STR("From"), SENDRING_STR("Example News <news@mail.example.com>")},
                        {SENDRING_STR("To"), SENDRING_STR("ana@recipient.example.com")},
                        {SENDRING_STR("Subject"), SENDRING_STR("April offers")},
                        {SENDRING_STR("X-Pool"), {texts[i][1], (size_t)pool}},
                };
                const struct sendring_str recipient = SENDRING_STR("ana@recipient.example.com");
                struct sendring_event event;
                codec_event_init(&event, SENDRING_DELIVERY);
                event.mail.timestamp_ms = event.delivery.timestamp_ms = INT64_C(1767323045678);
                event.mail.configuration_set = SENDRING_STR("bulk-a");
                event.mail.source = SENDRING_STR("news@mail.example.com");
                event.mail.message_id = SENDRING_STR("0100019b7ca98f2e-4a1f0c52-7d1e-4f0b-9c55-2f6f0e3b7a10-000000");
                event.mail.destination = event.delivery.recipients = (struct sendring_strs){&recipient, 1};
                event.mail.tags = (struct sendring_pairs){tags, 3};
                event.mail.headers = (struct sendring_pairs){headers, 4};
                event.delivery.smtp_response = SENDRING_STR("250 2.0.0 OK 1767323047 queued");
                size_t bytes;
                struct err err;
                if (codec_event_encode(&event, events[i], EVENT_BYTES, &bytes, &err) != ERR_OK ||
                    codec_view_decode(slice_of(events[i], bytes), &views[i], &err) != ERR_OK) {
                        (void)fprintf(stderr, "%s\n", err.text);
                        return false;
                }
        }
        return true;
}

static void bench_print(const char *metric, double *ns, unsigned runs, double floor)
{
        qsort(ns, runs, sizeof(ns[0]), figures_compare);
        double median = ns[runs / 2];
        printf("{\"bench\":\"metrics\",\"metric\":\"%s\",\"value\":%.4g,\"unit\":\"ns\",", metric, median);
        if (floor > 0)
                printf("\"floor\":%.4g,\"ratio\":%.3g}\n", floor, median / floor);
        else
                printf("\"floor\":null,\"ratio\":null}\n");
}

static struct rules_cloudwatch bench_two_tags(void)
{
        return (struct rules_cloudwatch){
                .namespace = SLICE("Sendring/SES"),
                .dimensions = {{SLICE("campaign"), SLICE("none"), RULES_DIMENSION_MESSAGE_TAG},
                               {SLICE("pool"), SLICE("none"), RULES_DIMENSION_MESSAGE_TAG}},
                .dimensions_count = 2,
                .roll_ups = {3, 1, 0},
                .roll_ups_count = 1,
                .series_max = 1000,
                .overflow_value = SLICE("other"),
                .period_s = 60,
        };
}

static struct metrics_table *bench_create(const struct rules_cloudwatch *config)
{
        struct metrics_table *table = NULL;
        struct err err;
        if (metrics_table_create(config, &table, &err) != ERR_OK)
                (void)fprintf(stderr, "%s\n", err.text);
        return table;
}

/* Prints it, and frees the table. True: `good`, and each event of each pass was counted, none under the overflow value.
 */
static bool bench_end(struct metrics_table *table, const char *metric, double *ns, unsigned runs, double floor,
                      bool good)
{
        struct metrics_stats stats;
        metrics_table_get_stats(table, &stats);
        good = good && stats.events == (uint64_t)EVENTS * (runs + 2) && stats.overflowed == 0;
        if (!good)
                (void)fprintf(stderr, "%s: not every event was counted\n", metric);
        bench_print(metric, ns, runs, floor);
        metrics_table_free(table);
        return good;
}

static bool bench_table(const char *metric, bool by_header, bool roll_ups, unsigned runs, double floor)
{
        struct rules_cloudwatch config = bench_two_tags();
        if (roll_ups)
                config.roll_ups_count = 3;
        if (by_header) {
                config.dimensions[1].name = SLICE("x-pool");
                config.dimensions[1].source = RULES_DIMENSION_EMAIL_HEADER;
        }
        struct metrics_table *table = bench_create(&config);
        double ns[RUNS_MAX];
        bool good = true;
        if (table == NULL)
                return false;
        for (unsigned run = 0; run < runs + 2; run++) { /* two to warm up */
                uint64_t begin = clock_thread_cpu_ns();
                for (uint32_t i = 0; i < EVENTS; i++)
                        good = metrics_table_count(table, &views[i], NULL, INT64_C(1767323045678), 1) == ERR_OK && good;
                ns[run < 2 ? 0 : run - 2] = (double)(clock_thread_cpu_ns() - begin) / EVENTS;
        }
        return bench_end(table, metric, ns, runs, floor, good);
}

/* As a worker does it for an event that goes to Firehose as well. */
static bool bench_pass(struct metrics_table *table, double *ret_ns)
{
        static uint8_t body[BODY_BYTES];
        const struct codec_json_options options = {.account_id = SLICE("123456789012"), .region = SLICE("us-east-1")};
        static size_t at;
        bool good = true;
        uint64_t begin = clock_thread_cpu_ns();
        for (uint32_t i = 0; i < EVENTS; i++) {
                size_t bytes = codec_json_encode(&views[i], &options, body + at, sizeof(body) - at);
                good = bytes > 0 && good;
                at = at + 2 * bytes < sizeof(body) ? at + bytes : 0;
                if (table != NULL)
                        good = metrics_table_count(table, &views[i], NULL, INT64_C(1767323045678), 1) == ERR_OK && good;
        }
        *ret_ns = (double)(clock_thread_cpu_ns() - begin) / EVENTS;
        return good;
}

static bool bench_behind_json(unsigned runs, double floor)
{
        struct rules_cloudwatch config = bench_two_tags();
        config.dimensions[config.dimensions_count++] =
                (struct rules_dimension){SLICE("ses:configuration-set"), SLICE("none"), RULES_DIMENSION_MESSAGE_TAG};
        config.roll_ups[0] = 7;
        struct metrics_table *table = bench_create(&config);
        double ns[RUNS_MAX];
        bool good = true;
        if (table == NULL)
                return false;
        for (unsigned run = 0; run < runs + 2; run++) { /* two to warm up */
                double with = 0, without = 0;
                good = bench_pass(NULL, &without) && bench_pass(table, &with) && good;
                ns[run < 2 ? 0 : run - 2] = with - without;
        }
        return bench_end(table, "count_behind_json_ns", ns, runs, floor, good);
}

static double bench_floor(unsigned runs)
{
        static uint64_t counters[1024];
        double ns[RUNS_MAX];
        for (unsigned run = 0; run < runs; run++) {
                uint64_t begin = clock_thread_cpu_ns();
                for (uint32_t i = 0; i < EVENTS; i++)
                        counters[(hash_bytes(1, values[i][0]) ^ hash_bytes(2, values[i][1])) % 1024]++;
                ns[run] = (double)(clock_thread_cpu_ns() - begin) / EVENTS;
        }
        bench_print("hash_and_add", ns, runs, 0);
        return ns[runs / 2];
}

int main(int argc, char **argv)
{
        unsigned runs = RUNS_MAX;
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--smoke") == 0) {
                        runs = 3;
                } else if (strcmp(argv[i], "--json") != 0) {
                        (void)fprintf(stderr, "usage: metrics [--json] [--smoke]\n");
                        return 64;
                }
        }
        if (!bench_make_events())
                return 1;
        double floor = bench_floor(runs);
        bool good = bench_table("count_two_tags_ns", false, false, runs, floor);
        good = bench_table("count_tag_and_header_ns", true, false, runs, floor) && good;
        good = bench_table("count_three_roll_ups_ns", false, true, runs, floor) && good;
        good = bench_behind_json(runs, floor) && good;
        return good ? 0 : 1;
}
