/* What does one event cost the router's core: out of its lane, validated, matched, counted, journalled?
 *
 * Goal: nanoseconds of the shard's thread per event of the standard mix, and events a second on one core; required are
 * 3 million, and at most twice the floor. Method: a real shard (router/shard.h) with a real journal, a plan of 8
 * configuration sets and 4 lanes that were attached as producers attach. The lanes are filled, not timed; then this
 * thread takes turns of the shard, shard_turn(), until all of it is journalled, by its own CPU time. A control thread
 * maintains the journal meanwhile and lets its cursor follow, as in the daemon. Turns in which the journal had no
 * segment ready are not counted (their number is).
 *
 * Floor (journal_floor.h): memcpy of the same events out of a buffer of the lanes' size into mapped memory of 128 MiB,
 * one after the other, and CRC-32C of the copy, with the lines of what comes next asked for as the journal does. Both
 * take turns, fill by fill; medians of the rounds.
 *
 * shard_ns_per_event: who fills lanes and buffer is this thread, they are in its cache. ..._other_core: a second thread
 * on another core has filled them, as in service: every line comes from there. decode, match, store: these steps alone,
 * on the same events in cache; append: reserve, memcpy and commit of the same journal alone. What is left of
 * shard_ns_per_event is the lane (visit, zeroing), counters, and the turn.
 *
 * turn_of_128_...: so few events lie in the lanes at a time, as much as makes a shard look again at once; and the same
 * of a second shard, with a journal of its own, beside 500 lanes that have nothing and are looked at in each turn. Both
 * take turns, round by round; the value without idle lanes stands as the floor of the other: a reference.
 *
 * A disk that is full ends it with an error.
 *
 * Not measured: workers, who read the journal; filters and dimensions (bench/rules, bench/metrics); idling. The control
 * thread's CPU is printed.
 *
 * usage: router [--json] [--rounds N] [--directory DIR] [--smoke] */
#include "router/router.h"
#include "base/clock.h"
#include "base/log.h"
#include "bench/directory.h"
#include "bench/figures.h"
#include "bench/journal_floor.h"
#include "bench/journal_follow.h"
#include "codecs/codec.h"
#include "router/shard.h"
#include "tools/loadgen_events.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS        4096u
#define WIRE_ROOM     2048u /* of one event; the generator's stay far below */
#define LANES         4u
#define LANES_IDLE    500u /* more, at the end */
#define LANE_BYTES    (256u * 1024u)
#define SETS          8u
#define SEGMENT_BYTES (32u * 1024u * 1024u)
#define AREA_BYTES    ((size_t)4 * SEGMENT_BYTES)
#define BUFFER_BYTES  ((size_t)LANES * LANE_BYTES)
#define ROUNDS        7u
#define ROUNDS_MAX    100u
#define FILLS         100u /* of each round */
#define FEW_EVENTS    128u /* of a small fill; there are as many more of those */
#define FEW_FILLS     16u
#define VIEWS         64u
#define VISIT_EVENTS  256u /* records of a publish */

enum bench_part { PART_DECODE, PART_MATCH, PART_STORE, PART_APPEND, PARTS };
static const char *const part_names[PARTS] = {"decode_ns", "match_ns", "store_ns", "append_ns"};

struct bench {
        const char *directory;
        char socket_path[4200];
        struct rules_settings settings;
        struct journal *journal;
        struct journal_follow follow; /* the control thread's */
        uint16_t target, unmatched, rejected;
        struct shard_plan plan;
        struct ring_bed *bed;
        struct ring_server *server;
        struct shard *shard;
        struct counters_block *counters;
        int eventfd;
        pthread_t control, filler;
        _Atomic bool stop;
        _Atomic uint32_t lanes_wanted, lanes_ready;
        _Atomic uint64_t control_cpu_ns;
        struct ring_producer producers[LANES + LANES_IDLE];
        uint8_t *wire; /* the events */
        struct slice events[EVENTS];
        uint64_t wire_sum;
        /* The filler's orders: 1 lanes, 2 the buffer; 0: done. */
        _Atomic uint32_t order;
        uint32_t fill_max;     /* events of a fill */
        uint32_t filled, next; /* events of the last fill; the next event */
        uint8_t *buffer;
        struct slice buffered[BUFFER_BYTES / 64];
        struct journal_floor floor;
        uint64_t full;
};

static void die(const char *what, const char *why)
{
        (void)fprintf(stderr, "bench/router: %s: %s\n", what, why);
        exit(1);
}

static cpu_set_t anywhere; /* where this program may run */

static void pin(size_t cpu)
{
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        (void)sched_setaffinity(0, sizeof(set), &set); /* fewer cores: it stays where it is */
}

/* ---------------------------------------------------------------------------------------------- what there is */

static void make_events(struct bench *bench)
{
        static const char *const sets[SETS] = {"set-0", "set-1", "set-2", "set-3", "set-4", "set-5", "set-6", "set-7"};
        struct err err = {0};
        struct loadgen_events_options options = {
                .run_id = 1, .seed = 1, .size = LOADGEN_SIZE_STANDARD, .sets = sets, .sets_count = SETS};
        (void)loadgen_mix_parse("standard", options.permille); /* a name it knows */
        struct loadgen_events *generator = loadgen_events_create(&options);
        bench->wire = malloc((size_t)EVENTS * WIRE_ROOM);
        if (generator == NULL || bench->wire == NULL)
                die("events", "out of memory");
        uint8_t *at = bench->wire;
        for (uint32_t i = 0; i < EVENTS; i++) {
                uint32_t set;
                size_t bytes = 0;
                const struct sendring_event *event = loadgen_events_make(generator, i, 1767323045678, &set);
                if (codec_event_encode(event, at, WIRE_ROOM, &bytes, &err) != ERR_OK)
                        die("encode", err.text);
                bench->events[i] = slice_of(at, bytes);
                bench->wire_sum += bytes;
                at += (bytes + 7) & ~(size_t)7;
        }
        loadgen_events_free(generator);
}

static void make_plan(struct bench *bench)
{
        char *text = NULL;
        size_t bytes = 0;
        struct rules_report report;
        FILE *out = open_memstream(&text, &bytes);
        if (out == NULL)
                die("plan", "out of memory");
        (void)fprintf(out, "ConfigurationSets:\n");
        for (uint32_t i = 0; i < SETS; i++)
                (void)fprintf(out,
                              "- ConfigurationSetName: set-%u\n  EventDestinations:\n"
                              "  - EventDestinationName: firehose\n    EventDestination:\n      Enabled: true\n"
                              "      MatchingEventTypes: [SEND, DELIVERY, OPEN, CLICK, BOUNCE, COMPLAINT]\n"
                              "      KinesisFirehoseDestination:\n"
                              "        IamRoleArn: arn:aws:iam::123456789012:role/sendring\n"
                              "        DeliveryStreamArn: "
                              "arn:aws:firehose:us-east-1:123456789012:deliverystream/mail-events\n",
                              i);
        (void)fclose(out);
        rules_report_init(&report);
        enum err_code code =
                rules_plan_parse("bench.yaml", slice_of(text, bytes), &bench->settings, &bench->plan.plan, &report);
        rules_report_print(&report, stderr);
        if (code != ERR_OK)
                die("plan", "refused");
        rules_report_release(&report);
        free(text);
        uint32_t targets = rules_plan_targets_count(bench->plan.plan);
        bench->plan.numbers = calloc(targets, sizeof(*bench->plan.numbers));
        bench->plan.workers = calloc(targets, sizeof(*bench->plan.workers));
        if (bench->plan.numbers == NULL || bench->plan.workers == NULL)
                die("plan", "out of memory");
        for (uint32_t i = 0; i < targets; i++)
                bench->plan.numbers[i][0] = bench->target;
}

static void lane_ready(void *context, struct ring_lane *lane, uint32_t shard)
{
        struct bench *bench = context;
        (void)shard;
        if (!shard_give_lane(bench->shard, lane))
                die("lane", "the shard's inbox is full");
        (void)atomic_fetch_add(&bench->lanes_ready, 1);
}

/* Answers producers, moves the cursor behind the shard, so that segments go round, and maintains. */
static void *control_main(void *context)
{
        struct bench *bench = context;
        while (!atomic_load_explicit(&bench->stop, memory_order_relaxed)) {
                if (atomic_load(&bench->lanes_ready) < atomic_load(&bench->lanes_wanted))
                        ring_server_turn(bench->server);
                journal_follow(&bench->follow);
                clock_nap_ns(50 * CLOCK_NS_PER_US);
        }
        atomic_store(&bench->control_cpu_ns, clock_thread_cpu_ns());
        return NULL;
}

/* Producers up to this one. */
static void attach(struct bench *bench, uint32_t last)
{
        struct err err = {0};
        const uint32_t ready = atomic_load(&bench->lanes_ready);
        atomic_store(&bench->lanes_wanted, last);
        for (uint32_t i = ready; i < last; i++) {
                struct ring_attach_options options = {.socket_path = bench->socket_path, .name = "bench"};
                if (ring_producer_attach(&bench->producers[i], &options, &err) != ERR_OK)
                        die("attach", err.text);
        }
        while (atomic_load(&bench->lanes_ready) < last)
                clock_nap_ns(CLOCK_NS_PER_MS);
}

static void open_all(struct bench *bench)
{
        struct err err = {0};
        struct journal_options journal = {.directory = bench->directory,
                                          .segment_bytes = SEGMENT_BYTES,
                                          .size_bytes_max = 16ull * SEGMENT_BYTES,
                                          .segments_mapped_max = 8};
        bench->settings = (struct rules_settings){.region = "us-east-1",
                                                  .account_id = "123456789012",
                                                  .partition = "aws",
                                                  .default_configuration_set = ""};
        if (journal_open(&journal, &bench->journal, NULL, &err) != ERR_OK ||
            journal_target_register(bench->journal, SLICE("bench"), &bench->target, &err) != ERR_OK ||
            journal_target_register(bench->journal, SLICE(ROUTER_TARGET_UNMATCHED), &bench->unmatched, &err) !=
                    ERR_OK ||
            journal_target_register(bench->journal, SLICE(ROUTER_TARGET_REJECTED), &bench->rejected, &err) != ERR_OK ||
            journal_maintain(bench->journal, &err) != ERR_OK)
                die("journal", err.text);
        bench->follow = (struct journal_follow){"router", bench->journal, bench->target, 0};
        journal_target_retire(bench->journal, bench->unmatched);
        journal_target_retire(bench->journal, bench->rejected);
        make_plan(bench);
        bench->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        bench->counters = aligned_alloc(128, sizeof(*bench->counters));
        if (bench->eventfd < 0 || bench->counters == NULL || ring_bed_create(&bench->bed, &err) != ERR_OK)
                die("shard", "out of memory or descriptors");
        memset(bench->counters, 0, sizeof(*bench->counters));
        struct shard_options shard = {.core = -1,
                                      .settings = &bench->settings,
                                      .journal = bench->journal,
                                      .bed = bench->bed,
                                      .counters = bench->counters,
                                      .target_unmatched = bench->unmatched,
                                      .target_rejected = bench->rejected,
                                      .control_eventfd = bench->eventfd};
        (void)snprintf(bench->socket_path, sizeof(bench->socket_path), "%s/socket", bench->directory);
        struct ring_server_options server = {.socket_path = bench->socket_path,
                                             .socket_mode = 0600,
                                             .lane_bytes_default = LANE_BYTES,
                                             .lane_bytes_max = LANE_BYTES,
                                             .lanes_max = LANES + LANES_IDLE,
                                             .keeper_fd = -1,
                                             .beds = &bench->bed,
                                             .shards_count = 1,
                                             .lane_ready = lane_ready,
                                             .context = bench};
        if (shard_create(&shard, &bench->plan, &bench->shard, &err) != ERR_OK ||
            ring_server_create(&server, &bench->server, &err) != ERR_OK)
                die("router", err.text);
        if (pthread_create(&bench->control, NULL, control_main, bench) != 0)
                die("thread", "cannot start");
        attach(bench, LANES);
        bench->buffer = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (bench->buffer == MAP_FAILED || !journal_floor_map(&bench->floor, AREA_BYTES))
                die("floor", "out of memory");
}

/* ---------------------------------------------------------------------------------------------- fills */

/* All lanes, until none has room, or an equal part of `fill_max` is in each. */
static void fill_lanes(struct bench *bench)
{
        uint32_t count = 0;
        for (uint32_t i = 0; i < LANES; i++)
                for (uint8_t *payload; count < bench->fill_max / LANES * (i + 1); count++) {
                        struct slice event = bench->events[(bench->next + count) % EVENTS];
                        if (ring_reserve(&bench->producers[i], (uint32_t)event.len, &payload) != ERR_OK)
                                break;
                        memcpy(payload, event.ptr, event.len);
                        if (ring_commit(&bench->producers[i], (uint32_t)event.len) != ERR_OK)
                                die("publish", "refused");
                }
        bench->filled = count;
}

/* The same events, as close together. */
static void fill_buffer(struct bench *bench)
{
        size_t at = 0;
        for (uint32_t i = 0; i < bench->filled; i++) {
                struct slice event = bench->events[(bench->next + i) % EVENTS];
                memcpy(bench->buffer + at, event.ptr, event.len);
                bench->buffered[i] = slice_of(bench->buffer + at, event.len);
                at += (event.len + 15) & ~(size_t)7;
        }
}

static void *filler_main(void *context)
{
        struct bench *bench = context;
        pin(1);
        for (uint32_t order; (order = atomic_load_explicit(&bench->order, memory_order_acquire)) != UINT32_MAX;) {
                if (order == 0) {
                        (void)sched_yield();
                        continue;
                }
                if (order == 1)
                        fill_lanes(bench);
                else
                        fill_buffer(bench);
                atomic_store_explicit(&bench->order, 0, memory_order_release);
        }
        return NULL;
}

static void fill(struct bench *bench, bool other_core, uint32_t order)
{
        if (!other_core) {
                if (order == 1)
                        fill_lanes(bench);
                else
                        fill_buffer(bench);
                return;
        }
        atomic_store_explicit(&bench->order, order, memory_order_release);
        while (atomic_load_explicit(&bench->order, memory_order_acquire) != 0)
                (void)sched_yield();
}

/* ---------------------------------------------------------------------------------------------- what is timed */

static uint64_t take_turns(struct bench *bench)
{
        uint64_t used_ns = 0;
        for (uint32_t taken = 0; taken < bench->filled;) {
                uint32_t events = 0;
                uint64_t begin_ns = clock_thread_cpu_ns();
                (void)shard_turn(bench->shard, &events); /* it is not stopped */
                uint64_t end_ns = clock_thread_cpu_ns();
                taken += events;
                if (events > 0) {
                        used_ns += end_ns - begin_ns;
                } else { /* the bench outruns the preparation of segments: not what is measured */
                        bench->full++;
                        clock_nap_ns(100 * CLOCK_NS_PER_US);
                }
        }
        return used_ns;
}

static uint64_t copy_and_check(struct bench *bench)
{
        uint64_t begin_ns = clock_thread_cpu_ns();
        for (uint32_t i = 0; i < bench->filled; i++)
                journal_floor_append(&bench->floor, bench->buffered[i].ptr, bench->buffered[i].len);
        return clock_thread_cpu_ns() - begin_ns;
}

/* Nanoseconds per event of both. */
static void one_round(struct bench *bench, uint32_t fills, bool other_core, double *ret_shard_ns, double *ret_floor_ns)
{
        uint64_t shard_ns = 0, floor_ns = 0, events = 0;
        for (uint32_t i = 0; i < fills; i++) {
                fill(bench, other_core, 1);
                shard_ns += take_turns(bench);
                fill(bench, other_core, 2);
                floor_ns += copy_and_check(bench);
                events += bench->filled;
                bench->next = (bench->next + bench->filled) % EVENTS;
        }
        *ret_shard_ns = (double)shard_ns / (double)events;
        *ret_floor_ns = (double)floor_ns / (double)events;
}

/* The steps alone. Views are large: those of a few events are kept for what works on them. */
static void one_round_of_parts(struct bench *bench, double ret_ns[PARTS])
{
        static struct codec_view view, views[VIEWS];
        uint8_t stored[CODEC_VIEW_STORED_BYTES];
        struct rules_match match;
        uint64_t lap_ns[PARTS + 1];
        uint32_t routes = 0, appended = 0;
        for (uint32_t i = 0; i < VIEWS; i++)
                (void)codec_view_decode(bench->events[i], &views[i], NULL); /* checked below */
        lap_ns[PART_DECODE] = clock_thread_cpu_ns();
        for (uint32_t i = 0; i < EVENTS; i++)
                if (codec_view_decode(bench->events[i], &view, NULL) != ERR_OK)
                        die("decode", "refused");
        lap_ns[PART_MATCH] = clock_thread_cpu_ns();
        for (uint32_t i = 0; i < EVENTS; i++)
                routes += rules_plan_match(bench->plan.plan, &views[i % VIEWS], NULL, &match);
        lap_ns[PART_STORE] = clock_thread_cpu_ns();
        for (uint32_t i = 0; i < EVENTS; i++) {
                codec_view_store(&views[i % VIEWS], stored);
                __asm__ volatile("" ::: "memory"); /* each is made */
        }
        lap_ns[PART_APPEND] = clock_thread_cpu_ns();
        for (uint32_t i = 0; i < EVENTS; i++) {
                uint8_t *payload;
                uint32_t bytes = (uint32_t)bench->events[i].len + CODEC_VIEW_STORED_BYTES;
                struct journal_entry entry = {.lane_id = 7, .routes_count = 1};
                entry.routes[0] = bench->target;
                if (journal_reserve(bench->journal, bytes, &payload) != ERR_OK)
                        continue; /* no segment is ready: seldom */
                memcpy(payload + CODEC_VIEW_STORED_BYTES, bench->events[i].ptr, bench->events[i].len);
                journal_commit(bench->journal, &entry, bytes);
                appended++;
                if (i % VISIT_EVENTS == VISIT_EVENTS - 1 && journal_publish(bench->journal) != ERR_OK)
                        die("journal", "cannot publish");
        }
        lap_ns[PARTS] = clock_thread_cpu_ns();
        if (routes != EVENTS)
                die("match", "an event was not matched");
        for (int part = 0; part < PARTS; part++)
                ret_ns[part] = (double)(lap_ns[part + 1] - lap_ns[part]) /
                               (part == PART_APPEND && appended > 0 ? appended : EVENTS);
}

/* ---------------------------------------------------------------------------------------------- the report */

static void print(const char *metric, const char *suffix, double value, const char *unit, double floor, double ratio)
{
        printf("{\"bench\":\"router\",\"metric\":\"%s%s\",\"value\":%.5g,\"unit\":\"%s\",", metric, suffix, value,
               unit);
        if (floor > 0)
                printf("\"floor\":%.5g,\"ratio\":%.3f}\n", floor, ratio);
        else
                printf("\"floor\":null,\"ratio\":null}\n");
}

/* Small fills, without idle lanes and, in the other bench, with them. */
static void bench_few(struct bench *benches[2], uint32_t rounds, uint32_t fills)
{
        double shard_ns[2][ROUNDS_MAX], floor_ns;
        for (int idle = 0; idle < 2; idle++) {
                benches[idle]->fill_max = FEW_EVENTS;
                one_round(benches[idle], fills * FEW_FILLS, false, &shard_ns[idle][0], &floor_ns); /* lanes, too */
        }
        for (uint32_t round = 0; round < rounds; round++)
                for (uint32_t i = 0; i < 2; i++) {
                        uint32_t idle = (i + round) % 2;
                        one_round(benches[idle], fills * FEW_FILLS, false, &shard_ns[idle][round], &floor_ns);
                }
        double alone = figures_median(shard_ns[0], rounds), beside = figures_median(shard_ns[1], rounds);
        print("turn_of_128_ns_per_event", "", alone, "ns", 0, 0);
        print("turn_of_128_ns_per_event", "_500_idle_lanes", beside, "ns", alone, beside / alone);
}

static void bench_all(struct bench *bench, uint32_t rounds, uint32_t fills)
{
        double shard_ns[2][ROUNDS_MAX], floor_ns[2][ROUNDS_MAX], part_ns[PARTS][ROUNDS_MAX], parts[PARTS];
        double warm_shard_ns, warm_floor_ns;
        one_round(bench, fills, false, &warm_shard_ns, &warm_floor_ns);
        for (uint32_t round = 0; round < rounds; round++) {
                one_round(bench, fills, false, &shard_ns[0][round], &floor_ns[0][round]);
                one_round(bench, fills, true, &shard_ns[1][round], &floor_ns[1][round]);
                one_round_of_parts(bench, parts);
                for (int part = 0; part < PARTS; part++)
                        part_ns[part][round] = parts[part];
        }
        for (int other = 0; other < 2; other++) {
                const char *suffix = other == 0 ? "" : "_other_core";
                double value = figures_median(shard_ns[other], rounds), floor = figures_median(floor_ns[other], rounds);
                print("shard_ns_per_event", suffix, value, "ns", floor, value / floor);
                print("shard_events_per_s", suffix, 1e9 / value, "events/s", 1e9 / floor, value / floor);
        }
        for (int part = 0; part < PARTS; part++)
                print(part_names[part], "", figures_median(part_ns[part], rounds), "ns", 0, 0);
        print("wire_bytes_per_event", "", (double)bench->wire_sum / EVENTS, "bytes", 0, 0);
        print("journal_not_ready", "", (double)bench->full, "times", 0, 0);
}

/* Returns the control thread's nanoseconds per event. */
static double close_all(struct bench *bench)
{
        atomic_store(&bench->stop, true);
        (void)pthread_join(bench->control, NULL);
        const struct counters_block *counters = bench->counters;
        uint64_t events = counter_get(counters, COUNTER_router_events);
        if (counter_get(counters, COUNTER_router_routes) != events ||
            counter_get(counters, COUNTER_router_rejected) != 0)
                die("check", "an event was rejected, or not matched");
        for (uint32_t i = 0; i < atomic_load(&bench->lanes_ready); i++)
                ring_producer_detach(&bench->producers[i]);
        ring_server_free(bench->server);
        shard_free(bench->shard);
        ring_bed_free(bench->bed);
        rules_plan_free(bench->plan.plan);
        free(bench->plan.numbers);
        free(bench->plan.workers);
        journal_close(bench->journal);
        free(bench->counters);
        free(bench->wire);
        return (double)atomic_load(&bench->control_cpu_ns) / (double)events;
}

int main(int argc, char **argv)
{
        static struct bench bench, idle;
        static char idle_directory[4096 + 8];
        uint32_t rounds = ROUNDS, fills = FILLS;
        const char *parent = "/tmp";
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
                        rounds = (uint32_t)strtoul(argv[++i], NULL, 10);
                } else if (strcmp(argv[i], "--directory") == 0 && i + 1 < argc) {
                        parent = argv[++i];
                } else if (strcmp(argv[i], "--smoke") == 0) {
                        rounds = 1;
                        fills = 3;
                } else if (strcmp(argv[i], "--json") != 0) { /* the only form there is */
                        die(argv[i], "usage: router [--json] [--rounds N] [--directory DIR] [--smoke]");
                }
        }
        if (rounds < 1 || rounds > ROUNDS_MAX)
                die("--rounds", "from 1 to 100");
        bench.directory = directory_make(parent);
        if (bench.directory == NULL)
                die(parent, "no directory can be made there");
        directory_tell_tmpfs("router", parent, true);
        struct rlimit limit;
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;        /* a lane is several descriptors on either side */
                (void)setrlimit(RLIMIT_NOFILE, &limit); /* attaching says what is missing */
        }
        log_level_set(LOG_ERROR);
        (void)sched_getaffinity(0, sizeof(anywhere), &anywhere); /* a set is large enough for any machine of ours */
        make_events(&bench);
        open_all(&bench);
        if (pthread_create(&bench.filler, NULL, filler_main, &bench) != 0)
                die("thread", "cannot start");
        pin(0);
        bench.fill_max = UINT32_MAX;
        bench_all(&bench, rounds, fills);
        atomic_store(&bench.order, UINT32_MAX);
        (void)pthread_join(bench.filler, NULL);

        (void)snprintf(idle_directory, sizeof(idle_directory), "%s/idle", bench.directory);
        if (mkdir(idle_directory, 0700) != 0)
                die(idle_directory, "cannot be made");
        idle.directory = idle_directory;
        (void)sched_setaffinity(0, sizeof(anywhere), &anywhere); /* its control thread is not pinned either */
        make_events(&idle);
        open_all(&idle);
        attach(&idle, LANES + LANES_IDLE);
        pin(0);
        bench_few((struct bench *[2]){&bench, &idle}, rounds, fills);
        uint32_t crc_sum = bench.floor.crc_sum + idle.floor.crc_sum;
        double control_ns = close_all(&bench);
        (void)close_all(&idle);
        print("control_ns_per_event", "", control_ns, "ns", 0, 0);
        return crc_sum == 1 ? 1 : 0; /* it is used, so that nothing is optimised away */
}
