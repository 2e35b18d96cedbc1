/* What does one publish cost?
 *
 * Goal: the whole sendring_publish() of an event that encodes to about 700 bytes, from C fields, against the floor: one
 * memcpy of the same bytes into the same kind of lane, header, release store and all (ring_reserve, memcpy,
 * ring_commit). Method: this thread publishes batches that fit the lane; between them, outside the timed part, it takes
 * the consumer's turn itself (drains, zeroes and gives back the room, as the router does), so that neither another core
 * nor the scheduler is in the figure. Both sides alternate batch by batch. Several rounds; median, with the 10th and
 * 90th percentile beside it on stderr. The 256 events of a batch are Delivery events of the standard pools, all
 * different, made before anything is timed; each round publishes the same ones again. Not measured: cache misses of a
 * consumer on another core (see `sendring loadgen`), the router, a full lane.
 *
 * usage: publish [--json] [--rounds N] [--bytes N] [--smoke]
 */
#include "base/clock.h"
#include "bench/figures.h"
#include "codecs/codec.h"
#include "ring/ring.h"
#include "sendring/sendring.h"
#include "tools/loadgen_events.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH_EVENTS  256u
#define ROUNDS_MAX    1000u
#define EVENT_TAGS    8
#define BYTES_DEFAULT 700u

struct bench {
        struct ring_server *server;
        struct ring_bed *bed;
        struct ring_lane *lanes[2];
        uint32_t lanes_count;
        char socket_path[108];
        /* A batch of events, each with texts of its own, and their encodings. */
        struct sendring_event events[BATCH_EVENTS];
        struct sendring_pair tags[BATCH_EVENTS][EVENT_TAGS];
        struct sendring_str recipients[BATCH_EVENTS];
        char texts[BATCH_EVENTS][4096];
        uint8_t encoded[BATCH_EVENTS][4096];
        size_t encoded_bytes[BATCH_EVENTS];
        uint64_t encoded_sum;
};

static void bench_die(const char *what, const char *why)
{
        (void)fprintf(stderr, "bench/publish: %s: %s\n", what, why);
        exit(1);
}

static void bench_lane_ready(void *context, struct ring_lane *lane, uint32_t shard)
{
        struct bench *bench = context;
        (void)shard;
        if (bench->lanes_count == 2)
                bench_die("lanes", "more than two producers attached");
        bench->lanes[bench->lanes_count++] = lane;
}

/* Copies a text of an event of the generator, which is valid only until its next. */
static char *keep(char *at, struct sendring_str *text)
{
        if (text->len > 0)
                memcpy(at, text->ptr, text->len);
        *text = sendring_strn(at, text->len);
        return at + text->len;
}

/* Delivery events of the standard size; the response is made longer until the encoding has the wanted size. */
static void bench_make_events(struct bench *bench, size_t bytes_wanted)
{
        static const char *const sets[] = {"set-0", "set-1", "set-2", "set-3"};
        struct loadgen_events_options options = {.run_id = 1,
                                                 .size = LOADGEN_SIZE_STANDARD,
                                                 .seed = 1,
                                                 .sets = sets,
                                                 .sets_count = sizeof(sets) / sizeof(sets[0])};
        (void)loadgen_mix_parse("delivery", options.permille);
        struct loadgen_events *generator = loadgen_events_create(&options);
        if (generator == NULL)
                bench_die("events", "out of memory");
        for (uint32_t i = 0; i < BATCH_EVENTS; i++) {
                uint32_t set;
                struct sendring_event *event = &bench->events[i];
                *event = *loadgen_events_make(generator, i, 1767323045678, &set);
                memcpy(bench->tags[i], event->mail.tags.items, sizeof(bench->tags[i]));
                event->mail.tags.items = bench->tags[i];
                bench->recipients[i] = event->mail.destination.items[0];
                event->mail.destination.items = event->delivery.recipients.items = &bench->recipients[i];
                char *at = bench->texts[i];
                at = keep(at, &bench->recipients[i]);
                at = keep(at, &event->mail.message_id);
                at = keep(at, &event->mail.source);
                at = keep(at, &event->mail.source_ip);
                at = keep(at, &event->mail.outgoing_ip);
                at = keep(at, &event->mail.from_domain);
                at = keep(at, &event->delivery.remote_mta_ip);
                for (uint32_t tag = 0; tag < EVENT_TAGS; tag++)
                        at = keep(at, &bench->tags[i][tag].value);
                at = keep(at, &event->delivery.smtp_response);
                for (;;) {
                        struct err err = {0};
                        if (codec_event_encode(event, bench->encoded[i], sizeof(bench->encoded[i]),
                                               &bench->encoded_bytes[i], &err) != ERR_OK)
                                bench_die("encode", err.text);
                        if (bench->encoded_bytes[i] >= bytes_wanted)
                                break;
                        *at++ = (char)('a' + (i + bench->encoded_bytes[i]) % 26);
                        event->delivery.smtp_response.len++;
                }
                bench->encoded_sum += bench->encoded_bytes[i];
        }
        /* The pools of tags' names and sets are static or live as long as the generator: it is not freed. */
}

/* The daemon answers attaches on a thread of its own, only while the two producers attach. */
struct bench_attaching {
        struct bench *bench;
        _Atomic bool stop;
};

static void *bench_attach_main(void *argument)
{
        struct bench_attaching *attaching = argument;
        while (!atomic_load_explicit(&attaching->stop, memory_order_acquire)) {
                ring_server_turn(attaching->bench->server);
                clock_nap_ns(100 * CLOCK_NS_PER_US);
        }
        return NULL;
}

static void bench_attach(struct bench *bench, struct sendring **ret_ring, struct ring_producer *ret_producer)
{
        struct err err = {0};
        if (ring_bed_create(&bench->bed, &err) != ERR_OK)
                bench_die("bed", err.text);
        (void)snprintf(bench->socket_path, sizeof(bench->socket_path), "/tmp/sendring-bench-%d.sock", (int)getpid());
        struct ring_server_options options = {.socket_path = bench->socket_path,
                                              .socket_mode = 0600,
                                              .lane_bytes_default = 1024 * 1024,
                                              .lane_bytes_max = 1024 * 1024,
                                              .lanes_max = 4,
                                              .keeper_fd = -1,
                                              .beds = &bench->bed,
                                              .shards_count = 1,
                                              .lane_ready = bench_lane_ready,
                                              .context = bench};
        if (ring_server_create(&options, &bench->server, &err) != ERR_OK)
                bench_die("server", err.text);
        struct bench_attaching attaching = {.bench = bench};
        pthread_t thread;
        if (pthread_create(&thread, NULL, bench_attach_main, &attaching) != 0)
                bench_die("thread", "cannot start");
        struct sendring_options open_options = {.size = sizeof(open_options), .socket_path = bench->socket_path};
        if (sendring_open(&open_options, ret_ring) != SENDRING_OK)
                bench_die("open", sendring_error(NULL));
        struct ring_attach_options attach_options = {
                .socket_path = bench->socket_path, .name = "floor", .timeout_ms = 2000};
        if (ring_producer_attach(ret_producer, &attach_options, &err) != ERR_OK)
                bench_die("attach", err.text);
        while (bench->lanes_count < 2) /* reported from the thread's next turns */
                clock_nap_ns(CLOCK_NS_PER_MS);
        atomic_store_explicit(&attaching.stop, true, memory_order_release);
        (void)pthread_join(thread, NULL);
}

/* The consumer's turn: everything is taken and zeroed. Returns a sum over the bytes, so that both sides prove that they
 * moved the same. */
static uint64_t bench_drain(struct bench *bench)
{
        uint64_t hash = 0;
        for (uint32_t i = 0; i < bench->lanes_count; i++) {
                while (ring_visit_begin(bench->lanes[i]) > 0) {
                        struct slice record;
                        uint64_t position;
                        while (ring_visit_next(bench->lanes[i], &record, &position))
                                for (size_t j = 0; j + 8 <= record.len; j += 8) {
                                        uint64_t word;
                                        memcpy(&word, record.ptr + j, 8);
                                        hash += word;
                                }
                        ring_visit_end(bench->lanes[i]);
                }
        }
        return hash;
}

static double ns_per_event(uint64_t start_ns)
{
        return (double)(clock_monotonic_ns() - start_ns) / BATCH_EVENTS;
}

int main(int argc, char **argv)
{
        uint32_t rounds = 400;
        size_t bytes_wanted = BYTES_DEFAULT;
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
                        rounds = (uint32_t)strtoul(argv[++i], NULL, 10);
                else if (strcmp(argv[i], "--bytes") == 0 && i + 1 < argc)
                        bytes_wanted = strtoul(argv[++i], NULL, 10);
                else if (strcmp(argv[i], "--smoke") == 0)
                        rounds = 20;
                else if (strcmp(argv[i], "--json") != 0) /* the only form there is */
                        bench_die(argv[i], "usage: publish [--json] [--rounds N] [--bytes N] [--smoke]");
        }
        if (rounds < 1 || rounds > ROUNDS_MAX || bytes_wanted > 2000)
                bench_die("usage", "1 to 1000 rounds, at most 2000 bytes");
        static struct bench bench;
        static double publish_ns[ROUNDS_MAX], many_ns[ROUNDS_MAX], encode_ns[ROUNDS_MAX], copy_ns[ROUNDS_MAX];
        struct sendring *ring = NULL;
        struct ring_producer floor_lane;
        bench_make_events(&bench, bytes_wanted);
        bench_attach(&bench, &ring, &floor_lane);

        static uint8_t scratch[8192];
        for (uint32_t round = 0; round < rounds + 20; round++) { /* 20 to warm up */
                uint32_t slot = round < 20 ? 0 : round - 20;
                uint64_t start_ns = clock_monotonic_ns();
                for (uint32_t i = 0; i < BATCH_EVENTS; i++)
                        if (sendring_publish(ring, &bench.events[i]) != SENDRING_OK)
                                bench_die("publish", sendring_error(ring));
                publish_ns[slot] = ns_per_event(start_ns);
                uint64_t hash_publish = bench_drain(&bench);

                start_ns = clock_monotonic_ns();
                for (uint32_t i = 0; i < BATCH_EVENTS; i++) {
                        uint8_t *payload;
                        if (ring_reserve(&floor_lane, (uint32_t)bench.encoded_bytes[i], &payload) != ERR_OK)
                                bench_die("reserve", "no room");
                        memcpy(payload, bench.encoded[i], bench.encoded_bytes[i]);
                        if (ring_commit(&floor_lane, (uint32_t)bench.encoded_bytes[i]) != ERR_OK)
                                bench_die("commit", "refused");
                }
                copy_ns[slot] = ns_per_event(start_ns);
                uint64_t hash_copy = bench_drain(&bench);
                if (hash_publish != hash_copy)
                        bench_die("check", "the two sides wrote different bytes");

                start_ns = clock_monotonic_ns();
                for (uint32_t i = 0; i < BATCH_EVENTS; i += 32)
                        if (sendring_publish_many(ring, &bench.events[i], 32, NULL) != SENDRING_OK)
                                bench_die("publish_many", sendring_error(ring));
                many_ns[slot] = ns_per_event(start_ns);
                (void)bench_drain(&bench);

                start_ns = clock_monotonic_ns();
                for (uint32_t i = 0; i < BATCH_EVENTS; i++) {
                        size_t bytes;
                        if (codec_event_encode(&bench.events[i], scratch, sizeof(scratch), &bytes, NULL) != ERR_OK)
                                bench_die("encode", "refused");
                }
                encode_ns[slot] = ns_per_event(start_ns);
        }
        qsort(publish_ns, rounds, sizeof(double), figures_compare);
        qsort(many_ns, rounds, sizeof(double), figures_compare);
        qsort(encode_ns, rounds, sizeof(double), figures_compare);
        qsort(copy_ns, rounds, sizeof(double), figures_compare);
        double floor_ns = copy_ns[rounds / 2];
        const struct {
                const char *metric;
                const double *values;
        } results[] = {{"publish_ns", publish_ns}, {"publish_many_32_ns", many_ns}, {"encode_ns", encode_ns}};
        for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
                double value = results[i].values[rounds / 2];
                printf("{\"bench\":\"publish\",\"metric\":\"%s\",\"value\":%.1f,\"unit\":\"ns/event\",\"floor\":%.1f,"
                       "\"ratio\":%.2f}\n",
                       results[i].metric, value, floor_ns, value / floor_ns);
                (void)fprintf(stderr, "%s: median %.1f, 10 %% %.1f, 90 %% %.1f\n", results[i].metric, value,
                              results[i].values[rounds / 10], results[i].values[rounds * 9 / 10]);
        }
        (void)fprintf(stderr, "floor: median %.1f, 10 %% %.1f, 90 %% %.1f; %u rounds of %u events of %.0f bytes\n",
                      floor_ns, copy_ns[rounds / 10], copy_ns[rounds * 9 / 10], rounds, BATCH_EVENTS,
                      (double)bench.encoded_sum / BATCH_EVENTS);
        sendring_close(ring);
        ring_producer_detach(&floor_lane);
        char lock_path[sizeof(bench.socket_path) + 8];
        ring_server_free(bench.server);
        ring_bed_free(bench.bed);
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", bench.socket_path);
        (void)unlink(lock_path); /* a daemon leaves it for the next one; here there is none */
        return 0;
}
