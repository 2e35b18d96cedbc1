/* The threads that carry events neither allocate nor free once they run: jemalloc counts for each thread what it has
 * taken, and over a million events the counts of the shard and of the worker do not move. TLS is not here: OpenSSL
 * takes and gives back small blocks by itself (egress/http.h). */
#include "base/heap.h"
#include "tests/support/http_peer.h"
#include "tests/support/shard_rig.h"

#include <criterion/criterion.h>
#include <dirent.h>

#define WARM_UP 100000u
#define EVENTS  1000000u

/* Weak: sanitizers bring their own allocator. */
int mallctl(const char *name, void *old, size_t *old_bytes, void *fresh, size_t fresh_bytes) __attribute__((weak));

static struct egress_rig rig;
static struct shard_rig shard;
static _Atomic(const uint64_t *) shard_allocated, worker_allocated, shard_freed, worker_freed;

static const uint64_t *this_threads(const char *name)
{
        uint64_t *word = NULL;
        size_t bytes = sizeof(word);
        cr_assert_eq(mallctl(name, &word, &bytes, NULL, 0), 0);
        return word;
}

static void shard_begins(void *context)
{
        (void)context;
        atomic_store(&shard_allocated, this_threads("thread.allocatedp"));
        atomic_store(&shard_freed, this_threads("thread.deallocatedp"));
}

static void worker_begins(void *context, uint32_t worker)
{
        (void)context;
        (void)worker;
        atomic_store(&worker_allocated, this_threads("thread.allocatedp"));
        atomic_store(&worker_freed, this_threads("thread.deallocatedp"));
}

/* Another thread's own count, read while it runs: it is one word and only grows. */
static uint64_t now(_Atomic(const uint64_t *) *word)
{
        return __atomic_load_n(atomic_load(word), __ATOMIC_RELAXED);
}

/* Rotated files, so that a million events do not fill the memory they lie in. */
static void remove_rotated(void)
{
        DIR *directory = opendir(rig.directory);
        cr_assert_not_null(directory);
        for (struct dirent *line = readdir(directory); line != NULL; line = readdir(directory))
                if (strstr(line->d_name, ".ndjson.") != NULL)
                        (void)unlinkat(dirfd(directory), line->d_name, 0);
        (void)closedir(directory);
}

static void publish(struct ring_producer *producer, uint32_t from, uint32_t to)
{
        for (uint32_t id = from; id < to; id++) {
                shard_rig_publish_wait(producer, 0, id, 0);
                if (id % 20000 == 0)
                        remove_rotated();
        }
        cr_assert(egress_rig_wait_delivered(&rig, 0, to, 60000));
}

static void run(void)
{
        rig.thread_begins = worker_begins;
        shard.thread_begins = shard_begins;
        shard_rig_open(&shard, &rig);
        egress_rig_run(&rig);
        struct ring_producer producer;
        shard_rig_attach(&shard, &producer);
        publish(&producer, 0, WARM_UP);
        uint64_t shard_before = now(&shard_allocated), worker_before = now(&worker_allocated);
        uint64_t shard_freed_before = now(&shard_freed), worker_freed_before = now(&worker_freed);
        publish(&producer, WARM_UP, WARM_UP + EVENTS);
        cr_assert_eq(now(&shard_allocated) - shard_before, 0);
        cr_assert_eq(now(&worker_allocated) - worker_before, 0, "the worker took %llu bytes",
                     (unsigned long long)(now(&worker_allocated) - worker_before));
        cr_assert_eq(now(&shard_freed) - shard_freed_before, 0);
        cr_assert_eq(now(&worker_freed) - worker_freed_before, 0);
        ring_producer_detach(&producer);
        shard_rig_close(&shard);
        egress_rig_stop(&rig, 2000);
        egress_rig_close(&rig);
        egress_rig_remove(&rig);
}

/* What a soak judges leaks by. */
Test(allocation, the_heap_is_counted)
{
        if (mallctl == NULL)
                cr_skip_test("no jemalloc in this build");
        uint64_t before = heap_allocated_bytes();
        cr_assert_gt(before, 0);
        void *volatile taken = malloc(1 << 20);
        uint64_t with = heap_allocated_bytes();
        free(taken);
        uint64_t after = heap_allocated_bytes();
        cr_assert_geq(with, before + (1 << 20));
        cr_assert_leq(after, with - (1 << 20));
}

Test(allocation, none_from_lane_to_file, .timeout = 120)
{
        if (mallctl == NULL)
                cr_skip_test("no jemalloc in this build");
        log_level_set(LOG_ERROR);
        egress_rig_defaults(&rig);
        rig.rotate_bytes = 32 * 1024 * 1024;
        egress_rig_open(&rig);
        (void)egress_rig_add_file(&rig, "0.ndjson", 0);
        run();
}

static void serve(struct http_peer_connection *connection)
{
        static const char field[] = "\r\nContent-Length: ", mark[] = "{\"Data\":\"";
        static _Thread_local char body[4 * 1024 * 1024 + 1], answer[64 * 1024];
        while (http_peer_read_head(connection)) {
                const char *at = strstr(connection->head, field);
                size_t bytes = at == NULL ? 0 : strtoul(at + sizeof(field) - 1, NULL, 10), got = 0;
                while (got < bytes) {
                        ssize_t part = read(connection->fd, body + got, bytes - got);
                        if (part <= 0)
                                return;
                        got += (size_t)part;
                }
                body[bytes] = '\0';
                size_t used = (size_t)sprintf(answer, "{\"FailedPutCount\":0,\"RequestResponses\":[");
                bool first = true;
                for (const char *record = strstr(body, mark); record != NULL; record = strstr(record + 1, mark)) {
                        used += (size_t)sprintf(answer + used, "%s{\"RecordId\":\"r\"}", first ? "" : ",");
                        first = false;
                }
                used += (size_t)sprintf(answer + used, "]}");
                char head[128];
                (void)snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", used);
                if (!http_peer_write_text(connection, head) || !http_peer_write_text(connection, answer))
                        return;
        }
}

static void run_to_firehose(uint32_t record_events_max, bool gzip)
{
        if (mallctl == NULL)
                cr_skip_test("no jemalloc in this build");
        log_level_set(LOG_ERROR);
        static struct http_peer peer = {.serve = serve};
        http_peer_start(&peer);
        egress_rig_defaults(&rig);
        (void)snprintf(rig.settings.egress.firehose.url, sizeof(rig.settings.egress.firehose.url),
                       "http://127.0.0.1:%u", peer.port);
        egress_rig_open(&rig);
        (void)egress_rig_add_stream(&rig, "mail", record_events_max, gzip, 0);
        run();
        http_peer_stop(&peer);
}

Test(allocation, none_from_lane_to_firehose, .timeout = 120)
{
        run_to_firehose(LIMIT_FIREHOSE_EVENTS_PER_RECORD_MAX, false);
}

Test(allocation, none_from_lane_to_compressed_records, .timeout = 120)
{
        run_to_firehose(LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX, true);
}

Test(allocation, none_from_lane_to_cloudwatch, .timeout = 120)
{
        if (mallctl == NULL)
                cr_skip_test("no jemalloc in this build");
        log_level_set(LOG_ERROR);
        static struct http_peer peer = {.serve = serve};
        static const struct rules_cloudwatch cloudwatch = {
                .namespace = {(const uint8_t *)"Sendring/SES", 12},
                .dimensions = {{{(const uint8_t *)"ses:configuration-set", 21}, {(const uint8_t *)"none", 4}, 0},
                               {{(const uint8_t *)"subject", 7}, {(const uint8_t *)"none", 4}, 1}},
                .dimensions_count = 2,
                .roll_ups = {3, 1, 0},
                .roll_ups_count = 3,
                .series_max = 1000,
                .overflow_value = {(const uint8_t *)"other", 5},
                .period_s = 1,
                .json = true,
                .resend_ambiguous = true,
        };
        http_peer_start(&peer);
        egress_rig_defaults(&rig);
        (void)snprintf(rig.settings.egress.cloudwatch.url, sizeof(rig.settings.egress.cloudwatch.url),
                       "http://127.0.0.1:%u", peer.port);
        egress_rig_open(&rig);
        (void)egress_rig_add_cloudwatch(&rig, "a", &cloudwatch, 0);
        run();
        http_peer_stop(&peer);
}
