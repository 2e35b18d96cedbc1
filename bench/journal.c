/* What does journalling an event cost, beside copying it and computing its CRC?
 *
 * Floor (journal_floor.h): memcpy of the same payload into mapped memory, one after the other, and CRC-32C of the copy,
 * with the lines of what comes next asked for as the journal does. Measured in the same run, in turns with the journal,
 * on one thread. The journal's own maintenance runs on a second
 * thread, as in the daemon, so on a machine with one core its page preparation would be measured, too; its CPU is
 * printed. Not measured: validation, rules, readers (but for `read`, which reads warm records).
 *
 * `host_...`: durability host, on the disk that has DIR: groups of 1,500 events, about 1 MB, are appended and synced,
 * one group after the other; wall-clock time, until the group is durable. Floor: the same payloads written into a file
 * that has its size already, by one pwrite() and one fdatasync() a group; the two take turns.
 *
 * A disk that is full ends it with an error.
 *
 *     bench/journal [--json] [--events N] [--directory DIR] [--smoke] */
#include "journal/journal.h"
#include "base/clock.h"
#include "base/random.h"
#include "bench/directory.h"
#include "bench/figures.h"
#include "bench/journal_floor.h"
#include "bench/journal_follow.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAYLOAD_BYTES 700u
#define SOURCES       512u /* different payloads: 360 KB, as a lane would hold them */
#define VISIT_EVENTS  64u  /* records per publish */
#define ROUNDS        7u
#define SEGMENT_BYTES (32u * 1024u * 1024u)
#define GROUP_EVENTS  1500u /* of durability host */
#define GROUPS        40u

struct bench {
        struct journal *journal;
        uint16_t target;
        struct journal_follow follow;
        bool follows; /* this thread, since there is no other */
        atomic_bool stop;
        atomic_uint_fast64_t maintenance_cpu_ns;
};

static void die(const char *what, const struct err *err)
{
        (void)fprintf(stderr, "bench/journal: %s: %s\n", what, err->text);
        exit(1);
}

static void die_of_file(const char *path)
{
        (void)fprintf(stderr, "bench/journal: %s: %s\n", path, strerror(errno));
        exit(1);
}

/* Moves the cursor behind the writer, so that segments go round, and maintains. */
static void *bench_maintain(void *context)
{
        struct bench *bench = context;
        while (!atomic_load_explicit(&bench->stop, memory_order_relaxed)) {
                journal_follow(&bench->follow);
                clock_nap_ns(50 * CLOCK_NS_PER_US);
        }
        atomic_store_explicit(&bench->maintenance_cpu_ns, clock_thread_cpu_ns(), memory_order_relaxed);
        return NULL;
}

static uint64_t bench_floor(struct journal_floor *floor, const uint8_t *source, uint64_t events)
{
        uint64_t start_ns = clock_thread_cpu_ns();
        for (uint64_t i = 0; i < events; i++)
                journal_floor_append(floor, source + i % SOURCES * PAYLOAD_BYTES, PAYLOAD_BYTES);
        return clock_thread_cpu_ns() - start_ns;
}

static uint64_t bench_faults(void)
{
        struct rusage usage;
        (void)getrusage(RUSAGE_THREAD, &usage); /* cannot fail for this thread */
        return (uint64_t)usage.ru_minflt + (uint64_t)usage.ru_majflt;
}

static uint64_t bench_append(struct bench *bench, const uint8_t *source, uint64_t events, uint64_t *ret_full)
{
        struct journal_entry entry = {.lane_id = 7, .accepted_ms = clock_realtime_ms(), .routes_count = 1};
        entry.routes[0] = bench->target;
        uint64_t start_ns = clock_thread_cpu_ns(), waited_ns = 0;
        for (uint64_t i = 0; i < events; i++) {
                uint8_t *payload;
                while (journal_reserve(bench->journal, PAYLOAD_BYTES, &payload) != ERR_OK) {
                        /* The bench outruns the preparation of segments: not what is measured. */
                        uint64_t from_ns = clock_thread_cpu_ns();
                        journal_publish(bench->journal);
                        if (bench->follows)
                                journal_follow(&bench->follow);
                        clock_nap_ns(100 * CLOCK_NS_PER_US);
                        waited_ns += clock_thread_cpu_ns() - from_ns;
                        ++*ret_full;
                }
                memcpy(payload, source + i % SOURCES * PAYLOAD_BYTES, PAYLOAD_BYTES);
                entry.lane_position += PAYLOAD_BYTES;
                journal_commit(bench->journal, &entry, PAYLOAD_BYTES);
                if (i % VISIT_EVENTS == VISIT_EVENTS - 1)
                        journal_publish(bench->journal);
        }
        journal_publish(bench->journal);
        return clock_thread_cpu_ns() - start_ns - waited_ns;
}

/* Durability host: what a group takes until it is on the disk, beside a file's pwrite() and fdatasync() of the same. */
static void bench_host(const char *parent, const uint8_t *source, uint32_t groups, double *ret_group_ms,
                       double *ret_floor_ms)
{
        char directory[4096 + 8], path[4096 + 8];
        double group_ms[GROUPS], floor_ms[GROUPS];
        struct journal_options options = {
                .directory = directory,
                .durability = JOURNAL_DURABILITY_HOST,
                .segment_bytes = SEGMENT_BYTES,
                .size_bytes_max = 16ull * SEGMENT_BYTES,
                .segments_mapped_max = 8,
        };
        struct bench bench = {0};
        struct err err;
        uint64_t full = 0;
        (void)snprintf(directory, sizeof(directory), "%s/host", parent);
        (void)snprintf(path, sizeof(path), "%s/floor", parent);
        if (journal_open(&options, &bench.journal, NULL, &err) != ERR_OK)
                die("open", &err);
        if (journal_target_register(bench.journal, SLICE("bench"), &bench.target, &err) != ERR_OK)
                die("register", &err);
        bench.follow = (struct journal_follow){"journal", bench.journal, bench.target, 0};
        bench.follows = true;
        int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        const size_t bytes = (size_t)GROUP_EVENTS * PAYLOAD_BYTES;
        uint8_t *group = malloc(bytes);
        if (file < 0 || group == NULL)
                die_of_file(path);
        for (size_t at = 0; at < bytes; at += PAYLOAD_BYTES)
                memcpy(group + at, source + at / PAYLOAD_BYTES % SOURCES * PAYLOAD_BYTES, PAYLOAD_BYTES);
        for (uint32_t i = 0; i < groups; i++) /* its blocks and its size are the disk's already */
                if (pwrite(file, group, bytes, (off_t)(i * bytes)) != (ssize_t)bytes)
                        die_of_file(path);
        if (fdatasync(file) != 0)
                die_of_file(path);
        for (uint32_t i = 0; i < groups; i++) {
                uint64_t start_ns = clock_monotonic_ns();
                if (pwrite(file, group, bytes, (off_t)(i * bytes)) != (ssize_t)bytes || fdatasync(file) != 0)
                        die_of_file(path);
                uint64_t between_ns = clock_monotonic_ns();
                (void)bench_append(&bench, source, GROUP_EVENTS, &full);
                if (journal_sync(bench.journal, &err) != ERR_OK)
                        die("sync", &err);
                uint64_t end_ns = clock_monotonic_ns();
                floor_ms[i] = (double)(between_ns - start_ns) / 1e6;
                group_ms[i] = (double)(end_ns - between_ns) / 1e6;
                journal_follow(&bench.follow); /* segments made ready: the helper's work, not counted */
        }
        *ret_group_ms = figures_median(group_ms, groups);
        *ret_floor_ms = figures_median(floor_ms, groups);
        journal_close(bench.journal);
        free(group);
        (void)close(file);
}

static void print(bool json, const char *metric, double value, const char *unit, double floor)
{
        if (json && floor > 0)
                printf("{\"bench\":\"journal\",\"metric\":\"%s\",\"value\":%.4g,\"unit\":\"%s\",\"floor\":%.4g,"
                       "\"ratio\":%.3f}\n",
                       metric, value, unit, floor, value / floor);
        else if (json)
                printf("{\"bench\":\"journal\",\"metric\":\"%s\",\"value\":%.4g,\"unit\":\"%s\",\"floor\":null,"
                       "\"ratio\":null}\n",
                       metric, value, unit);
        else if (floor > 0)
                printf("%-28s %12.4g %-10s floor %.4g ratio %.2f\n", metric, value, unit, floor, value / floor);
        else
                printf("%-28s %12.4g %s\n", metric, value, unit);
}

int main(int argc, char **argv)
{
        bool json = false;
        uint64_t events = 400000;
        const char *parent = "/tmp";
        uint32_t groups = GROUPS;
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--json") == 0)
                        json = true;
                else if (strcmp(argv[i], "--events") == 0 && i + 1 < argc)
                        events = strtoull(argv[++i], NULL, 10);
                else if (strcmp(argv[i], "--smoke") == 0) {
                        events = 20000;
                        groups = 4;
                } else if (strcmp(argv[i], "--directory") == 0 && i + 1 < argc)
                        parent = argv[++i];
                else {
                        (void)fprintf(stderr, "usage: journal [--json] [--events N] [--directory DIR] [--smoke]\n");
                        return 2;
                }
        }
        const char *directory = directory_make(parent);
        if (directory == NULL)
                die_of_file(parent);
        directory_tell_tmpfs("journal", parent, json);
        struct journal_options options = {
                .directory = directory,
                .segment_bytes = SEGMENT_BYTES,
                .size_bytes_max = 16ull * SEGMENT_BYTES,
                .segments_mapped_max = 8,
        };
        static struct bench bench;
        struct err err;
        if (journal_open(&options, &bench.journal, NULL, &err) != ERR_OK)
                die("open", &err);
        if (journal_target_register(bench.journal, SLICE("bench"), &bench.target, &err) != ERR_OK)
                die("register", &err);
        bench.follow = (struct journal_follow){"journal", bench.journal, bench.target, 0};
        uint8_t *source = malloc((size_t)SOURCES * PAYLOAD_BYTES);
        static struct journal_floor area;
        if (source == NULL || !journal_floor_map(&area, (size_t)4 * SEGMENT_BYTES)) {
                free(source);
                return 1;
        }
        struct random_state random;
        random_init(&random, 1);
        for (size_t i = 0; i < (size_t)SOURCES * PAYLOAD_BYTES; i++)
                source[i] = (uint8_t)random_u64(&random);
        pthread_t thread;
        if (pthread_create(&thread, NULL, bench_maintain, &bench) != 0)
                return 1;
        uint64_t full = 0, faults = 0;
        double appends[ROUNDS], floors[ROUNDS], reads[ROUNDS], scans[ROUNDS];
        (void)bench_floor(&area, source, events);
        (void)bench_append(&bench, source, events, &full);
        for (unsigned round = 0; round < ROUNDS; round++) {
                floors[round] = (double)bench_floor(&area, source, events) / (double)events;
                uint64_t before = bench_faults();
                appends[round] = (double)bench_append(&bench, source, events, &full) / (double)events;
                faults += bench_faults() - before;
        }
        atomic_store_explicit(&bench.stop, true, memory_order_relaxed);
        (void)pthread_join(thread, NULL);
        /* Reading warm records: the last ones, which no cursor has let go. */
        struct journal_reader *reader;
        if (journal_reader_create(bench.journal, &reader, &err) != ERR_OK)
                die("reader", &err);
        struct journal_target_state state;
        (void)journal_target_get(bench.journal, bench.target, &state); /* it exists */
        uint64_t limit = journal_committed_position(bench.journal), checksum = 0;
        for (unsigned round = 0; round < ROUNDS; round++) {
                struct journal_record record;
                uint64_t position = state.cursor_position, count = 0;
                uint64_t start_ns = clock_thread_cpu_ns();
                while (journal_read(reader, position, limit, &record) == ERR_OK) {
                        checksum += record.entry.lane_position;
                        position = record.next_position;
                        count++;
                }
                reads[round] = (double)(clock_thread_cpu_ns() - start_ns) / (double)(count == 0 ? 1 : count);
        }
        journal_reader_free(reader);
        struct journal_stats stats;
        journal_get_stats(bench.journal, &stats);
        journal_close(bench.journal);
        for (unsigned round = 0; round < ROUNDS; round++) {
                struct journal_recovery recovery;
                uint64_t start_ns = clock_monotonic_ns();
                if (journal_open(&options, &bench.journal, &recovery, &err) != ERR_OK)
                        die("open again", &err);
                scans[round] = (double)stats.size_bytes / (double)(clock_monotonic_ns() - start_ns);
                journal_close(bench.journal);
        }
        double group_ms, group_floor_ms;
        bench_host(directory, source, groups, &group_ms, &group_floor_ms);
        double floor = figures_median(floors, ROUNDS), append = figures_median(appends, ROUNDS);
        print(json, "append_ns_per_event", append, "ns", floor);
        print(json, "append_events_per_s", 1e9 / append, "events/s", 0);
        print(json, "append_faults_per_million", (double)faults * 1e6 / (double)(events * ROUNDS), "faults", 0);
        print(json, "append_full", (double)full, "times", 0);
        print(json, "maintenance_ns_per_event", (double)atomic_load(&bench.maintenance_cpu_ns) / (double)stats.records,
              "ns", 0);
        print(json, "read_ns_per_event", figures_median(reads, ROUNDS), "ns", 0);
        print(json, "open_gb_per_s", figures_median(scans, ROUNDS), "GB/s", 0);
        print(json, "host_sync_ms_1500_events", group_ms, "ms", group_floor_ms);
        print(json, "host_events_per_s", GROUP_EVENTS / group_ms * 1e3, "events/s", 0);
        print(json, "recycled", (double)stats.segments_recycled, "segments", 0);
        return checksum + area.crc_sum == 1 ? 1 : 0; /* both are used, so that nothing is optimised away */
}
