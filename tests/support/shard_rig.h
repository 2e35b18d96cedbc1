/* A real shard with real lanes over an egress_rig: ring_server, bed, plan, shard thread, and a control thread that
 * attaches producers, closes lanes and maintains the journal. Include in one file of a test program. */
#ifndef SENDRING_TESTS_SUPPORT_SHARD_RIG_H
#define SENDRING_TESTS_SUPPORT_SHARD_RIG_H

#include "ring/ring.h"
#include "router/shard.h"
#include "tests/support/egress_rig.h"

#include <sys/eventfd.h>

struct shard_rig {
        struct egress_rig *rig;
        struct ring_bed *bed;
        struct ring_server *server;
        struct shard *shard;
        struct ring_lane *lane; /* the last that came */
        struct shard_plan *plan;
        struct counters_block *counters;
        uint16_t unmatched, rejected;
        pthread_t thread, control;
        int eventfd;
        char socket_path[300];
        _Atomic bool stop;
        _Atomic uint32_t sync_paused; /* bit i: log i is not synced */
        bool by_hand;                 /* the test calls shard_turn(), there is no thread */
        _Atomic uint64_t server_closed, lanes_now;
        void (*thread_begins)(void *context); /* on the shard's thread, before it runs; or NULL */
        void *context;
};

/* set-0 goes to file target 0, and so on; all of them `targets`. */
static inline struct shard_plan *shard_rig_plan(struct egress_rig *rig, uint32_t targets)
{
        char *text = NULL;
        size_t text_bytes = 0;
        FILE *out = open_memstream(&text, &text_bytes);
        EGRESS_RIG_CHECK(out != NULL);
        (void)fprintf(out, "ConfigurationSets:\n");
        for (uint32_t i = 0; i < targets; i++)
                (void)fprintf(out,
                              "- ConfigurationSetName: set-%u\n  EventDestinations:\n  - EventDestinationName: file\n"
                              "    EventDestination:\n      Enabled: true\n      MatchingEventTypes: [SEND]\n"
                              "      Sendring:\n        FileDestination:\n          Path: %s/%u.ndjson\n"
                              /* Lets everything through, by what the router derives and by what lies deep. */
                              "        Filter:\n          eventType: [{equals-ignore-case: send}]\n"
                              "          mail: {tags: {'ses:configuration-set': [set-%u]}, headers: {name: [{exists: "
                              "false}, {exists: true}], value: [{exists: false}, {wildcard: '*'}]}}\n",
                              i, rig->directory, i, i);
        (void)fclose(out);
        struct rules_report report;
        rules_report_init(&report);
        struct shard_plan *plan = calloc(1, sizeof(*plan));
        EGRESS_RIG_CHECK(plan != NULL);
        enum err_code code =
                rules_plan_parse("test.yaml", slice_of(text, text_bytes), &rig->settings, &plan->plan, &report);
        rules_report_print(&report, stderr);
        EGRESS_RIG_CHECK(code == ERR_OK && rules_plan_targets_count(plan->plan) == targets);
        rules_report_release(&report);
        free(text);
        plan->numbers = calloc(targets + 1, sizeof(*plan->numbers));
        plan->workers = calloc(targets + 1, sizeof(*plan->workers));
        EGRESS_RIG_CHECK(plan->numbers != NULL && plan->workers != NULL);
        for (uint32_t i = 0; i < targets; i++) {
                memcpy(plan->numbers[i], rig->targets[i].numbers, sizeof(plan->numbers[i]));
                plan->workers[i] = (uint8_t)rig->targets[i].worker;
        }
        return plan;
}

static inline void shard_rig_plan_free(struct shard_plan *plan)
{
        rules_plan_free(plan->plan);
        free(plan->numbers);
        free(plan->workers);
        free(plan);
}

static inline void shard_rig_lane_ready(void *context, struct ring_lane *lane, uint32_t shard)
{
        struct shard_rig *rig = context;
        (void)shard;
        rig->lane = lane;
        EGRESS_RIG_CHECK(shard_give_lane(rig->shard, lane));
}

static inline uint64_t shard_rig_lane_journalled(void *context, uint64_t lane_id)
{
        const struct shard_rig *rig = context;
        uint64_t position = 0;
        for (uint32_t i = 0; i < rig->rig->shards_count; i++) {
                uint64_t own = journal_lane_position(rig->rig->journals[i], lane_id);
                position = own > position ? own : position;
        }
        return position;
}

static inline void *shard_rig_control(void *argument)
{
        struct shard_rig *rig = argument;
        struct err err;
        while (!atomic_load(&rig->stop)) {
                ring_server_turn(rig->server);
                for (struct ring_lane *lane = shard_take_done_lane(rig->shard); lane != NULL;
                     lane = shard_take_done_lane(rig->shard))
                        ring_server_lane_close(rig->server, lane);
                struct ring_server_stats stats;
                ring_server_get_stats(rig->server, &stats);
                atomic_store(&rig->server_closed, stats.closed);
                atomic_store(&rig->lanes_now, stats.lanes_now);
                for (uint32_t i = 0; i < rig->rig->shards_count; i++) {
                        (void)journal_maintain(rig->rig->journals[i], &err); /* a full journal empties by itself */
                        if ((atomic_load(&rig->sync_paused) >> i & 1) == 0)
                                EGRESS_RIG_CHECK(journal_sync(rig->rig->journals[i], &err) == ERR_OK);
                }
                clock_nap_ns(CLOCK_NS_PER_MS / 4);
        }
        return NULL;
}

static inline void *shard_rig_thread(void *argument)
{
        struct shard_rig *rig = argument;
        if (rig->thread_begins != NULL)
                rig->thread_begins(rig->context);
        shard_run(rig->shard);
        return NULL;
}

/* The two targets that only count, in log `log`. */
static inline void shard_rig_own_targets(struct egress_rig *rig, uint32_t log, uint16_t *ret_unmatched,
                                         uint16_t *ret_rejected)
{
        struct err err = {.text = ""};
        struct journal *journal = rig->journals[log];
        EGRESS_RIG_CHECK(journal_target_register(journal, SLICE("(unmatched)"), ret_unmatched, &err) == ERR_OK);
        EGRESS_RIG_CHECK(journal_target_register(journal, SLICE("(rejected)"), ret_rejected, &err) == ERR_OK);
        journal_target_retire(journal, *ret_unmatched);
        journal_target_retire(journal, *ret_rejected);
}

static inline void shard_rig_make_shard(struct shard_rig *shard)
{
        struct egress_rig *rig = shard->rig;
        struct err err = {.text = ""};
        struct shard_class classes[EGRESS_RIG_SHARDS];
        for (uint32_t i = 1; i < rig->shards_count; i++) {
                classes[i - 1] = (struct shard_class){
                        .type = rig->logs == NULL ? 0 : rig->logs[i].type, .log = i, .journal = rig->journals[i]};
                shard_rig_own_targets(rig, i, &classes[i - 1].target_unmatched, &classes[i - 1].target_rejected);
        }
        struct shard_options options = {
                .core = -1,
                .settings = &rig->settings,
                .journal = rig->journals[0],
                .classes = classes,
                .classes_count = rig->logs == NULL ? 0 : rig->shards_count - 1,
                .journals = rig->journals,
                .journals_count = rig->shards_count,
                .bed = shard->bed,
                .workers = rig->workers,
                .workers_count = rig->workers_count,
                .counters = shard->counters,
                .target_unmatched = shard->unmatched,
                .target_rejected = shard->rejected,
                .control_eventfd = shard->eventfd,
        };
        EGRESS_RIG_CHECK(shard_create(&options, shard->plan, &shard->shard, &err) == ERR_OK);
}

/* After egress_rig_open() and its targets; with `rig->logs` the logs behind the first are those of their types;
 * `rig->settings.router` decides how it idles. The egress workers run when the test says so. */
static inline void shard_rig_open(struct shard_rig *shard, struct egress_rig *rig)
{
        struct err err = {.text = ""};
        shard->rig = rig;
        shard->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        shard->counters = aligned_alloc(128, sizeof(*shard->counters));
        EGRESS_RIG_CHECK(shard->eventfd >= 0 && shard->counters != NULL);
        memset(shard->counters, 0, sizeof(*shard->counters));
        if (rig->settings.router.nap_us == 0) {
                rig->settings.router.nap_us = 200;
                rig->settings.router.nap_window_ms = 10;
        }
        shard_rig_own_targets(rig, 0, &shard->unmatched, &shard->rejected);
        shard->plan = shard_rig_plan(rig, rig->targets_count);
        EGRESS_RIG_CHECK(ring_bed_create(&shard->bed, &err) == ERR_OK);
        shard_rig_make_shard(shard);
        (void)snprintf(shard->socket_path, sizeof(shard->socket_path), "%s/socket", rig->directory);
        struct ring_server_options server = {
                .socket_path = shard->socket_path,
                .socket_mode = 0600,
                .lane_bytes_default = LIMIT_LANE_BYTES_DEFAULT,
                .lane_bytes_max = LIMIT_LANE_BYTES_DEFAULT,
                .lanes_max = 64,
                .durable = rig->settings.journal.durability_host,
                .keeper_fd = -1,
                .beds = &shard->bed,
                .shards_count = 1,
                .lane_ready = shard_rig_lane_ready,
                .lane_journalled = shard_rig_lane_journalled,
                .context = shard,
        };
        enum err_code code = ring_server_create(&server, &shard->server, &err);
        if (code != ERR_OK)
                (void)fprintf(stderr, "shard_rig: %s\n", err.text);
        EGRESS_RIG_CHECK(code == ERR_OK);
        if (!shard->by_hand)
                EGRESS_RIG_CHECK(pthread_create(&shard->thread, NULL, shard_rig_thread, shard) == 0);
        EGRESS_RIG_CHECK(pthread_create(&shard->control, NULL, shard_rig_control, shard) == 0);
}

/* As after a restart: another shard goes on with the last lane. Without a shard's thread. */
static inline void shard_rig_replace_shard(struct shard_rig *shard)
{
        EGRESS_RIG_CHECK(shard->by_hand);
        atomic_store(&shard->stop, true);
        EGRESS_RIG_CHECK(pthread_join(shard->control, NULL) == 0);
        shard_free(shard->shard);
        shard_rig_make_shard(shard);
        EGRESS_RIG_CHECK(shard_give_lane(shard->shard, shard->lane));
        atomic_store(&shard->stop, false);
        EGRESS_RIG_CHECK(pthread_create(&shard->control, NULL, shard_rig_control, shard) == 0);
}

/* The shard first, as the daemon does; then egress_rig_stop() and egress_rig_close(). */
static inline void shard_rig_close(struct shard_rig *shard)
{
        atomic_store(&shard->stop, true);
        EGRESS_RIG_CHECK(pthread_join(shard->control, NULL) == 0);
        ring_server_stop(shard->server);
        shard_stop(shard->shard, clock_monotonic_ns() + 10 * CLOCK_NS_PER_S);
        if (!shard->by_hand)
                EGRESS_RIG_CHECK(pthread_join(shard->thread, NULL) == 0);
        ring_server_free(shard->server);
        shard_free(shard->shard);
        ring_bed_free(shard->bed);
        shard_rig_plan_free(shard->plan);
        (void)close(shard->eventfd);
        free(shard->counters);
}

static inline void shard_rig_attach(struct shard_rig *shard, struct ring_producer *producer)
{
        struct err err = {.text = ""};
        struct ring_attach_options options = {.socket_path = shard->socket_path, .name = "test", .timeout_ms = 5000};
        enum err_code code = ring_producer_attach(producer, &options, &err);
        if (code != ERR_OK)
                (void)fprintf(stderr, "shard_rig: %s\n", err.text);
        EGRESS_RIG_CHECK(code == ERR_OK);
}

/* One event of configuration set `set` ("set-%u"). ERR_FULL, or ERR_OK. */
static inline enum err_code shard_rig_publish(struct ring_producer *producer, uint32_t set, uint32_t id,
                                              uint32_t padding)
{
        static _Thread_local uint8_t event[LIMIT_EVENT_BYTES_MAX];
        size_t bytes = egress_rig_encode_to(set, id, padding, event, sizeof(event));
        uint8_t *payload = NULL;
        enum err_code code = ring_reserve(producer, (uint32_t)bytes, &payload);
        if (code != ERR_OK)
                return code;
        memcpy(payload, event, bytes);
        return ring_commit(producer, (uint32_t)bytes);
}

/* The same, waiting for room. */
static inline void shard_rig_publish_wait(struct ring_producer *producer, uint32_t set, uint32_t id, uint32_t padding)
{
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        for (;;) {
                enum err_code code = shard_rig_publish(producer, set, id, padding);
                if (code == ERR_OK)
                        return;
                EGRESS_RIG_CHECK(code == ERR_FULL && clock_monotonic_ns() < deadline_ns);
                clock_nap_ns(CLOCK_NS_PER_MS / 10);
        }
}

#endif
