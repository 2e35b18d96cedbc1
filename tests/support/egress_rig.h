/* What a worker needs around it, for tests: journals in a temporary directory, settings, counters, credentials, and a
 * writer that appends events as a shard does. One test thread is both shard and control thread. Aborts on failure. */
#ifndef SENDRING_TESTS_SUPPORT_EGRESS_RIG_H
#define SENDRING_TESTS_SUPPORT_EGRESS_RIG_H

#include "base/clock.h"
#include "base/log.h"
#include "codecs/codec.h"
#include "egress/worker_internal.h"
#include "tests/support/journal_files.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EGRESS_RIG_CHECK(condition)                                                                       \
        do {                                                                                              \
                if (!(condition)) {                                                                       \
                        (void)fprintf(stderr, "egress_rig: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
                        abort();                                                                          \
                }                                                                                         \
        } while (0)

#define EGRESS_RIG_SHARDS  2u
#define EGRESS_RIG_WORKERS 2u
#define EGRESS_RIG_TARGETS 8u

struct egress_rig_target {
        struct egress_target *target;
        struct counters_target_row *row;
        uint16_t numbers[LIMIT_LOGS_MAX];
        uint32_t worker;
        char key[400], resource[600];
};

/* Zeroed, then egress_rig_defaults(), then whatever the test wants otherwise, then egress_rig_open(). */
struct egress_rig {
        uint64_t appended; /* events, for their lane positions */
        uint32_t shards_count, workers_count;
        struct rules_settings settings;
        uint64_t journal_bytes_max;
        uint64_t rotate_bytes;                                 /* of file targets */
        const struct egress_log *logs;                         /* of the journals; NULL: all block */
        bool maintained_elsewhere;                             /* another thread calls journal_maintain() */
        void (*thread_begins)(void *context, uint32_t worker); /* on the worker's thread, before it runs; or NULL */
        void *context;

        char directory[256];
        struct journal *journals[EGRESS_RIG_SHARDS];
        struct counters counters;
        struct credentials keys;
        struct egress_credentials credentials;
        struct egress_worker *workers[EGRESS_RIG_WORKERS];
        pthread_t threads[EGRESS_RIG_WORKERS];
        bool running;
        char dead_letters[300], outboxes[300];
        struct egress_rig_target targets[EGRESS_RIG_TARGETS];
        uint32_t targets_count;
        uint64_t begin[EGRESS_RIG_SHARDS][EGRESS_RIG_WORKERS]; /* UINT64_MAX: nothing to offer */
        uint8_t event[LIMIT_EVENT_BYTES_MAX];
};

static inline void egress_rig_defaults(struct egress_rig *rig)
{
        rig->shards_count = 1;
        rig->workers_count = 1;
        rig->journal_bytes_max = 256 * 1024 * 1024;
        rig->settings = (struct rules_settings){.region = "us-east-1",
                                                .account_id = "123456789012",
                                                .partition = "aws",
                                                .default_configuration_set = ""};
        rig->settings.egress.linger_ms = 20;
        rig->settings.egress.batch_bytes_max = 2 * 1024 * 1024;
        rig->settings.egress.in_flight_max = 4;
        rig->settings.egress.connect_timeout_ms = 2000;
        rig->settings.egress.request_timeout_ms = 20000;
        rig->settings.egress.idle_timeout_ms = 60000;
        rig->settings.egress.retry_base_ms = 5;
        rig->settings.egress.retry_throttle_base_ms = 10;
        rig->settings.egress.retry_max_ms = 200;
        rig->settings.egress.retry_budget_percent = 20;
        rig->settings.egress.ca_bundle = "";
        (void)snprintf(rig->keys.access_key_id, sizeof(rig->keys.access_key_id), "AKIDEXAMPLE");
        (void)snprintf(rig->keys.secret_access_key, sizeof(rig->keys.secret_access_key), "secret");
        rig->keys.number = 1;
}

struct egress_rig_thread {
        struct egress_rig *rig;
        uint32_t worker;
};

static inline void *egress_rig_thread(void *argument)
{
        struct egress_rig_thread thread = *(struct egress_rig_thread *)argument;
        free(argument);
        if (thread.rig->thread_begins != NULL)
                thread.rig->thread_begins(thread.rig->context, thread.worker);
        egress_worker_run(thread.rig->workers[thread.worker]);
        return NULL;
}

/* Makes the directory when there is none yet, opens journals and workers. */
static inline void egress_rig_open(struct egress_rig *rig)
{
        char path[400];
        struct err err = {.text = ""};
        if (rig->directory[0] == '\0')
                journal_files_make(rig->directory);
        for (uint32_t shard = 0; shard < rig->shards_count; shard++) {
                (void)snprintf(path, sizeof(path), "%s/%u", rig->directory, shard);
                struct journal_options options = {
                        .directory = path,
                        .segment_bytes = LIMIT_SEGMENT_BYTES_MIN,
                        .size_bytes_max = rig->journal_bytes_max,
                        .segments_mapped_max = 8,
                        .durability = rig->settings.journal.durability_host ? JOURNAL_DURABILITY_HOST
                                                                            : JOURNAL_DURABILITY_PROCESS,
                };
                enum err_code code = journal_open(&options, &rig->journals[shard], NULL, &err);
                if (code != ERR_OK)
                        (void)fprintf(stderr, "egress_rig: %s\n", err.text);
                EGRESS_RIG_CHECK(code == ERR_OK);
                EGRESS_RIG_CHECK(journal_maintain(rig->journals[shard], &err) == ERR_OK);
                for (uint32_t i = 0; i < EGRESS_RIG_WORKERS; i++)
                        rig->begin[shard][i] = UINT64_MAX;
        }
        (void)snprintf(path, sizeof(path), "%s/counters", rig->directory);
        EGRESS_RIG_CHECK(counters_create(path, rig->workers_count, EGRESS_RIG_TARGETS, "test", &rig->counters, &err) ==
                         ERR_OK);
        (void)snprintf(rig->dead_letters, sizeof(rig->dead_letters), "%s/dead-letter", rig->directory);
        (void)snprintf(rig->outboxes, sizeof(rig->outboxes), "%s/cloudwatch", rig->directory);
        atomic_store(&rig->credentials.current, &rig->keys);
        for (uint32_t i = 0; i < rig->workers_count; i++) {
                struct egress_worker_options options = {
                        .index = i,
                        .shards_count = rig->shards_count,
                        .journals = rig->journals,
                        .logs = rig->logs,
                        .counters = &rig->counters.blocks[i],
                        .settings = &rig->settings,
                        .credentials = &rig->credentials,
                        .dead_letter_directory = rig->dead_letters,
                        .outbox_directory = rig->outboxes,
                };
                enum err_code code = egress_worker_create(&options, &rig->workers[i], &err);
                if (code != ERR_OK)
                        (void)fprintf(stderr, "egress_rig: %s\n", err.text);
                EGRESS_RIG_CHECK(code == ERR_OK);
                random_init(&rig->workers[i]->random, 4711 + i); /* jitter is the same in each run */
        }
}

static inline uint32_t egress_rig_add(struct egress_rig *rig, struct rules_target *spec, uint32_t worker)
{
        struct err err = {.text = ""};
        EGRESS_RIG_CHECK(rig->targets_count < EGRESS_RIG_TARGETS);
        struct egress_rig_target *target = &rig->targets[rig->targets_count];
        spec->key = slice_of_text(target->key);
        spec->resource = slice_of_text(target->resource);
        target->worker = worker;
        target->row = &rig->counters.rows[rig->targets_count];
        for (uint32_t shard = 0; shard < rig->shards_count; shard++)
                EGRESS_RIG_CHECK(journal_target_register(rig->journals[shard], spec->key, &target->numbers[shard],
                                                         &err) == ERR_OK);
        enum err_code code = egress_target_create(spec, target->numbers, rig->workers[worker], rig->targets_count + 1,
                                                  target->row, &target->target, &err);
        if (code != ERR_OK)
                (void)fprintf(stderr, "egress_rig: %s\n", err.text);
        EGRESS_RIG_CHECK(code == ERR_OK);
        EGRESS_RIG_CHECK(egress_worker_add_target(rig->workers[worker], target->target));
        return rig->targets_count++;
}

/* Returns the target's index, which events are routed by. `name`: a file in the rig's directory. */
static inline uint32_t egress_rig_add_file(struct egress_rig *rig, const char *name, uint32_t worker)
{
        struct egress_rig_target *target = &rig->targets[rig->targets_count];
        struct rules_target spec = {.service = RULES_SERVICE_FILE, .rotate_bytes = rig->rotate_bytes};
        (void)snprintf(target->resource, sizeof(target->resource), "%s/%s", rig->directory, name);
        (void)snprintf(target->key, sizeof(target->key), "file %s", name);
        return egress_rig_add(rig, &spec, worker);
}

/* settings.egress.firehose.url must be set. */
static inline uint32_t egress_rig_add_stream(struct egress_rig *rig, const char *stream, uint32_t record_events_max,
                                             bool gzip, uint32_t worker)
{
        struct egress_rig_target *target = &rig->targets[rig->targets_count];
        struct rules_target spec = {
                .service = RULES_SERVICE_FIREHOSE,
                .region = SLICE("us-east-1"),
                .account_id = SLICE("123456789012"),
                .partition = SLICE("aws"),
                .packed = record_events_max > 1,
                .gzip = gzip,
                .packed_events_max = record_events_max,
        };
        (void)snprintf(target->resource, sizeof(target->resource), "%s", stream);
        (void)snprintf(target->key, sizeof(target->key), "firehose %s%s", stream, gzip ? " compression=gzip" : "");
        return egress_rig_add(rig, &spec, worker);
}

static inline uint32_t egress_rig_add_firehose(struct egress_rig *rig, const char *stream, bool packed, uint32_t worker)
{
        return egress_rig_add_stream(rig, stream, packed ? 500 : 1, false, worker);
}

/* settings.egress.cloudwatch.url must be set; `cloudwatch` outlives the call. */
static inline uint32_t egress_rig_add_cloudwatch(struct egress_rig *rig, const char *name,
                                                 const struct rules_cloudwatch *cloudwatch, uint32_t worker)
{
        struct egress_rig_target *target = &rig->targets[rig->targets_count];
        struct rules_target spec = {
                .service = RULES_SERVICE_CLOUDWATCH,
                .region = SLICE("us-east-1"),
                .account_id = SLICE("123456789012"),
                .partition = SLICE("aws"),
                .cloudwatch = cloudwatch,
        };
        (void)snprintf(target->key, sizeof(target->key), "cloudwatch %s", name);
        return egress_rig_add(rig, &spec, worker);
}

static inline void egress_rig_run(struct egress_rig *rig)
{
        for (uint32_t i = 0; i < rig->workers_count; i++) {
                struct egress_rig_thread *thread = malloc(sizeof(*thread));
                EGRESS_RIG_CHECK(thread != NULL);
                *thread = (struct egress_rig_thread){rig, i};
                EGRESS_RIG_CHECK(pthread_create(&rig->threads[i], NULL, egress_rig_thread, thread) == 0);
        }
        rig->running = true;
}

/* One Send event of configuration set "set-<set>" with the id and `padding` bytes of subject. Returns its bytes. */
#define EGRESS_RIG_NO_SET UINT32_MAX /* the event names none */
static inline size_t egress_rig_encode_to(uint32_t set, uint32_t id, uint32_t padding, uint8_t *out, size_t out_bytes)
{
        static _Thread_local char subject[LIMIT_EVENT_BYTES_MAX];
        struct sendring_event event;
        struct sendring_str from = SENDRING_STR("sender@example.com"), to = SENDRING_STR("rcpt@example.com");
        char message_id[32], set_name[32];
        size_t bytes = 0;
        codec_event_init(&event, SENDRING_SEND);
        (void)snprintf(message_id, sizeof(message_id), "id-%08u", id);
        (void)snprintf(set_name, sizeof(set_name), "set-%u", set);
        if (set != EGRESS_RIG_NO_SET)
                event.mail.configuration_set = sendring_strn(set_name, strlen(set_name));
        event.mail.timestamp_ms = 1767323045678;
        event.mail.message_id = sendring_strn(message_id, strlen(message_id));
        event.mail.source = from;
        event.mail.destination.items = &to;
        event.mail.destination.count = 1;
        if (padding > 0) {
                memset(subject, 'x', padding);
                event.mail.headers_present = 1;
                event.mail.common_headers.from.items = &from;
                event.mail.common_headers.from.count = 1;
                event.mail.common_headers.subject = sendring_strn(subject, padding);
        }
        struct err err = {.text = ""};
        enum err_code code = codec_event_encode(&event, out, out_bytes, &bytes, &err);
        if (code != ERR_OK)
                (void)fprintf(stderr, "egress_rig: %s\n", err.text);
        EGRESS_RIG_CHECK(code == ERR_OK);
        return bytes;
}

static inline size_t egress_rig_encode(uint32_t id, uint32_t padding, uint8_t *out, size_t out_bytes)
{
        return egress_rig_encode_to(0, id, padding, out, out_bytes);
}

/* Appends an encoded event, routed to `routes` (indexes; one may be there twice). Not yet offered. */
static inline void egress_rig_append(struct egress_rig *rig, uint32_t shard, const uint8_t *event, size_t bytes,
                                     const uint32_t *routes, uint32_t routes_count, int64_t accepted_ms)
{
        struct journal *journal = rig->journals[shard];
        struct codec_view view;
        struct err err;
        uint8_t *payload = NULL;
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (journal_reserve(journal, CODEC_VIEW_STORED_BYTES + (uint32_t)bytes, &payload) != ERR_OK) {
                if (!rig->maintained_elsewhere)
                        (void)journal_maintain(journal,
                                               &err); /* a full one empties by itself: tried until the deadline */
                clock_sleep_ns(CLOCK_NS_PER_MS / 10);
                EGRESS_RIG_CHECK(clock_monotonic_ns() < deadline_ns);
        }
        memcpy(payload + CODEC_VIEW_STORED_BYTES, event, bytes);
        EGRESS_RIG_CHECK(codec_view_decode(slice_of(payload + CODEC_VIEW_STORED_BYTES, bytes), &view, NULL) == ERR_OK);
        codec_view_store(&view, payload);
        struct journal_entry entry = {.lane_id = 1,
                                      .lane_position = ++rig->appended,
                                      .accepted_ms = accepted_ms,
                                      .event_type = SENDRING_SEND};
        for (uint32_t i = 0; i < routes_count; i++)
                entry.routes[entry.routes_count++] = rig->targets[routes[i]].numbers[shard];
        journal_commit(journal, &entry, CODEC_VIEW_STORED_BYTES + (uint32_t)bytes);
        for (uint32_t i = 0; i < routes_count; i++) {
                uint64_t *begin = &rig->begin[shard][rig->targets[routes[i]].worker];
                if (*begin == UINT64_MAX)
                        *begin = journal_last_position(journal);
        }
        journal_publish(journal);
        if (!rig->maintained_elsewhere && journal_wants_maintenance(journal))
                (void)journal_maintain(journal, &err); /* as above */
}

/* As a shard does after a visit; `everyone`: workers with nothing to read learn how far the log is. */
static inline void egress_rig_offer(struct egress_rig *rig, uint32_t shard, bool everyone)
{
        uint64_t end, sequence;
        journal_committed(rig->journals[shard], &end, &sequence);
        for (uint32_t i = 0; i < rig->workers_count; i++) {
                uint64_t *begin = &rig->begin[shard][i];
                if (*begin == UINT64_MAX && !everyone)
                        continue;
                if (egress_worker_offer(rig->workers[i], shard, *begin == UINT64_MAX ? end : *begin, end, sequence,
                                        clock_monotonic_ns()))
                        *begin = UINT64_MAX;
        }
}

/* One event to one target, offered at once. */
static inline void egress_rig_publish(struct egress_rig *rig, uint32_t shard, uint32_t id, uint32_t padding,
                                      uint32_t target)
{
        size_t bytes = egress_rig_encode(id, padding, rig->event, sizeof(rig->event));
        egress_rig_append(rig, shard, rig->event, bytes, &target, 1, clock_realtime_ms());
        egress_rig_offer(rig, shard, false);
}

static inline void egress_rig_stop(struct egress_rig *rig, uint32_t drain_ms)
{
        if (!rig->running)
                return;
        for (uint32_t i = 0; i < rig->workers_count; i++)
                egress_worker_stop(rig->workers[i], clock_monotonic_ns() + drain_ms * CLOCK_NS_PER_MS);
        for (uint32_t i = 0; i < rig->workers_count; i++)
                EGRESS_RIG_CHECK(pthread_join(rig->threads[i], NULL) == 0);
        rig->running = false;
}

/* Everything but the directory. */
static inline void egress_rig_close(struct egress_rig *rig)
{
        for (uint32_t i = 0; i < rig->workers_count; i++)
                egress_worker_free(rig->workers[i]);
        for (uint32_t shard = 0; shard < rig->shards_count; shard++)
                journal_close(rig->journals[shard]);
        counters_release(&rig->counters);
        rig->targets_count = 0;
}

static inline void egress_rig_remove(struct egress_rig *rig)
{
        journal_files_remove(rig->directory);
}

static inline struct journal_target_state egress_rig_state(const struct egress_rig *rig, uint32_t shard,
                                                           uint32_t target)
{
        struct journal_target_state state;
        EGRESS_RIG_CHECK(journal_target_get(rig->journals[shard], rig->targets[target].numbers[shard], &state));
        return state;
}

/* accepted = settled + waiting, as the journal itself counts what waits. */
static inline bool egress_rig_is_balanced(const struct egress_rig *rig, uint32_t shard, uint32_t target,
                                          uint64_t *ret_waiting)
{
        struct journal_target_state state;
        struct err err;
        uint64_t waiting = 0;
        EGRESS_RIG_CHECK(journal_target_audit(rig->journals[shard], rig->targets[target].numbers[shard], &state,
                                              &waiting, &err) == ERR_OK);
        *ret_waiting = waiting;
        return state.accepted == state.delivered + state.dead_lettered + state.shed + state.expired + waiting;
}

/* Until `count` events of the target are delivered (of all shards). */
static inline bool egress_rig_wait_delivered(const struct egress_rig *rig, uint32_t target, uint64_t count,
                                             uint32_t timeout_ms)
{
        uint64_t deadline_ns = clock_monotonic_ns() + timeout_ms * CLOCK_NS_PER_MS;
        for (;;) {
                uint64_t delivered = 0;
                for (uint32_t shard = 0; shard < rig->shards_count; shard++)
                        delivered += egress_rig_state(rig, shard, target).delivered;
                if (delivered >= count)
                        return delivered == count;
                if (clock_monotonic_ns() > deadline_ns)
                        return false;
                clock_sleep_ns(CLOCK_NS_PER_MS / 2);
        }
}

/* The ids in a file of events, in order; the caller frees them. */
static inline uint32_t *egress_rig_read_file(const struct egress_rig *rig, uint32_t target, uint32_t *ret_count)
{
        FILE *file = fopen(rig->targets[target].resource, "re");
        EGRESS_RIG_CHECK(file != NULL);
        uint32_t room = 1024, count = 0;
        uint32_t *ids = malloc(room * sizeof(*ids));
        char *line = NULL;
        size_t line_room = 0;
        for (ssize_t len = getline(&line, &line_room, file); len > 0; len = getline(&line, &line_room, file)) {
                const char *at = strstr(line, "\"messageId\":\"id-");
                EGRESS_RIG_CHECK(at != NULL && line[len - 1] == '\n');
                if (count == room)
                        ids = realloc(ids, (room *= 2) * sizeof(*ids));
                EGRESS_RIG_CHECK(ids != NULL);
                ids[count++] = (uint32_t)strtoul(at + 16, NULL, 10);
        }
        free(line);
        (void)fclose(file);
        *ret_count = count;
        return ids;
}

#endif
