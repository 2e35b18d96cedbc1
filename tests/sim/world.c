/* One seed: a host with a disk, producers with lanes, a router that is started, killed and started again, endpoints
 * that have bad days, and then a time in which everything works, at whose end nothing may be missing (judge.c). */
#include "tests/sim/world.h"
#include "base/clock.h"
#include "base/counters.h"
#include "base/log.h"
#include "rules/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rules_settings settings;
static struct credentials credentials;
static struct egress_credentials credentials_shared;
static struct counters_block blocks[2 + 2 * WORLD_SHARDS_MAX]; /* the helper, control, shards, workers */
static struct counters counters;                               /* the page, for its rows */
static const struct router_options router_options = {.keeper_fd = -1, .version = "sim"};
#define WORLD_ROWS_MAX 16u

struct world world;

/* ---------------------------------------------------------------------------------------------- once a process */

void sim_world_prepare(void)
{
        settings = (struct rules_settings){
                .state_directory = WORLD_DIRECTORY,
                .region = "us-east-1",
                .account_id = "123456789012",
                .partition = "aws",
                .default_configuration_set = "",
                .configuration_sets_path = WORLD_SETS,
                .journal.directory = WORLD_DIRECTORY "/journal",
                .router.shards_count = 1,
        };
        settings.egress.linger_ms = 20;
        settings.egress.batch_bytes_max = 256 * 1024;
        settings.egress.in_flight_max = 4;
        settings.egress.connect_timeout_ms = 2000;
        settings.egress.request_timeout_ms = 5000;
        settings.egress.idle_timeout_ms = 10000;
        settings.egress.retry_base_ms = 5;
        settings.egress.retry_throttle_base_ms = 10;
        settings.egress.retry_max_ms = 500;
        settings.egress.ca_bundle = "";
        settings.router.nap_us = 200;
        settings.router.nap_window_ms = 10;
        (void)snprintf(settings.egress.cloudwatch.url, sizeof(settings.egress.cloudwatch.url), "http://127.0.0.1:%u",
                       WORLD_PORT + 2);
        (void)snprintf(credentials.access_key_id, sizeof(credentials.access_key_id), "AKIDEXAMPLE");
        (void)snprintf(credentials.secret_access_key, sizeof(credentials.secret_access_key), "secret");
        credentials.number = 1;
        atomic_store_explicit(&credentials_shared.current, &credentials, memory_order_relaxed);
        log_level_set(LOG_INFO);
        world_producers_prepare();
}

/* ---------------------------------------------------------------------------------------------- the router */

/* What router/start.c does between the workers and the shards. */
static enum err_code world_open_targets(struct router *router, struct err *reterr)
{
        atomic_store_explicit(&router->counters.head->rows_used, 0, memory_order_relaxed); /* a new page */
        enum err_code code = router_start_targets(router, reterr);
        if (code == ERR_OK)
                world.plan_loaded = world.plan;
        return code;
}

static enum err_code world_open_log(uint32_t index, struct journal_recovery *recovery, struct err *reterr)
{
        char directory[100];
        const struct router_journal *log = &world.router.logs[index];
        SIM_CHECK(router_log_directory(&settings, log, directory, sizeof(directory)));
        struct journal **journal = &world.router.journals[index];
        struct journal_options options = {
                .directory = directory,
                .segment_bytes = LIMIT_SEGMENT_BYTES_MIN,
                .size_bytes_max = world.size_bytes_max,
                .budget = log->shard < world.router.shards_count ? &world.router.budgets[log->shard] : NULL,
                .deliver_only = !log->wanted,
                .segments_mapped_max = 4,
                .durability = world.host ? JOURNAL_DURABILITY_HOST : JOURNAL_DURABILITY_PROCESS,
        };
        world_hardship_retention(&options);
        enum err_code code = journal_open(&options, journal, recovery, reterr);
        if (code == ERR_OK)
                code = journal_target_register(*journal, SLICE(ROUTER_TARGET_UNMATCHED),
                                               &world.router.target_unmatched[index], reterr);
        if (code == ERR_OK)
                code = journal_target_register(*journal, SLICE(ROUTER_TARGET_REJECTED),
                                               &world.router.target_rejected[index], reterr);
        if (code != ERR_OK)
                return code;
        journal_target_retire(*journal, world.router.target_unmatched[index]);
        journal_target_retire(*journal, world.router.target_rejected[index]);
        return ERR_OK;
}

/* What router/start.c makes of the settings. Where Opens are shed, that may be otherwise after a restart: their log is
 * one of earlier settings then. */
static void world_router_init(void)
{
        struct router *router = &world.router;
        settings.router.shards_count = world_hardship_count();
        bool sheds = world.sheds && (world.faults_off || world.logs_count == 0 ||
                                     world.hardship == HARDSHIP_HUNG_FILE || sim_chance(0.8));
        settings.journal.pressure.shed_count = sheds;
        settings.journal.pressure.shed[SENDRING_OPEN] = sheds;
        const uint64_t segments = world_hardship_segments(world.tiny_journal ? 4 + 2 * (uint64_t)world.sheds : 16);
        world.size_bytes_max = segments * LIMIT_SEGMENT_BYTES_MIN;
        *router = (struct router){.settings = settings,
                                  .shards_count = settings.router.shards_count,
                                  .workers_count = world_hardship_count(),
                                  .helper_counters = &blocks[0],
                                  .own_counters = &blocks[1],
                                  .counters = counters,
                                  .options = &router_options};
        router->journals_count = world.logs_count = router_logs_list(&settings, false, router->logs);
        SIM_CHECK(world.logs_count <= WORLD_LOGS_MAX);
        for (uint32_t i = 0; i < world.logs_count; i++)
                router->egress_logs[i] = (struct egress_log){
                        .id = router->logs[i].shard + LIMIT_SHARDS_MAX * router->logs[i].type,
                        .type = (uint8_t)(router->logs[i].wanted ? router->logs[i].type : 0),
                };
}

static enum err_code world_make_workers(struct router *router, struct err *reterr)
{
        enum err_code code = ERR_OK;
        for (uint32_t i = 0; i < router->workers_count && code == ERR_OK; i++) {
                struct egress_worker_options options = {
                        .index = i,
                        .shards_count = world.logs_count,
                        .journals = router->journals,
                        .logs = router->egress_logs,
                        .counters = &blocks[2 + WORLD_SHARDS_MAX + i],
                        .settings = &settings,
                        .credentials = &credentials_shared,
                        .dead_letter_directory = WORLD_DIRECTORY "/dead-letter",
                        .outbox_directory = WORLD_DIRECTORY "/cloudwatch",
                };
                code = egress_worker_create(&options, &router->workers[i], reterr);
        }
        return code;
}

static enum err_code world_make_shards(struct router *router, struct err *reterr)
{
        enum err_code code = ERR_OK;
        for (uint32_t i = 0; i < router->shards_count && code == ERR_OK; i++) {
                struct shard_class open_class;
                struct shard_options options = {
                        .index = i,
                        .core = -1,
                        .settings = &settings,
                        .journal = router->journals[i],
                        .classes = &open_class,
                        .journals = router->journals,
                        .journals_count = world.logs_count,
                        .bed = world.beds[i],
                        .workers = router->workers,
                        .workers_count = router->workers_count,
                        .counters = &blocks[2 + i],
                        .target_unmatched = router->target_unmatched[i],
                        .target_rejected = router->target_rejected[i],
                        .control_eventfd = -1,
                };
                for (uint32_t log = router->shards_count; log < world.logs_count; log++) {
                        if (router->logs[log].shard != i || router->logs[log].type == 0 || !router->logs[log].wanted)
                                continue;
                        open_class = (struct shard_class){
                                .type = (uint8_t)router->logs[log].type,
                                .log = log,
                                .journal = router->journals[log],
                                .target_unmatched = router->target_unmatched[log],
                                .target_rejected = router->target_rejected[log],
                        };
                        options.classes_count = 1;
                }
                code = shard_create(&options, router->plan, &router->shards[i], reterr);
        }
        return code;
}

/* In sim_run(): may be killed at any block. */
static void world_start(void *unused)
{
        struct err err = {.text = ""};
        struct journal_recovery recovery = {0}, of_log;
        (void)unused;
        world_router_init();
        world_hardship_load_keys(&credentials_shared, true);
        struct router *router = &world.router;
        world.start_code = ERR_OK;
        for (uint32_t i = 0; i < world.logs_count && world.start_code == ERR_OK; i++) {
                of_log = (struct journal_recovery){0};
                world.start_code = world_open_log(i, &of_log, &err);
                recovery.records += of_log.records;
                recovery.cut_bytes += of_log.cut_bytes;
                recovery.quarantined_segments += of_log.quarantined_segments;
                recovery.lost_records += of_log.lost_records;
        }
        if (world.start_code != ERR_OK)
                goto out;
        world.start_code = world_make_workers(router, &err);
        sim_network_sleeps(true); /* for a file to be opened */
        if (world.start_code == ERR_OK)
                world.start_code = world_open_targets(router, &err);
        sim_network_sleeps(false);
        if (world.start_code != ERR_OK)
                goto out;
        world.start_code = world_make_shards(router, &err);
out:
        (void)snprintf(world.start_text, sizeof(world.start_text), "%s", err.text);
        sim_note("start: %s targets %u sets %u records %llu cut %llu quarantined %llu lost %llu %s",
                 err_text(world.start_code), router->targets_count, world.plan, (unsigned long long)recovery.records,
                 (unsigned long long)recovery.cut_bytes, (unsigned long long)recovery.quarantined_segments,
                 (unsigned long long)recovery.lost_records, err.text);
        if (world.start_code == ERR_OK)
                return;
        for (uint32_t i = 0; i < router->workers_count; i++)
                if (router->workers[i] != NULL)
                        egress_worker_free(router->workers[i]);
        for (uint32_t i = 0; i < world.logs_count; i++)
                journal_close(router->journals[i]);
}

static void world_lose_router(void)
{
        world.running = false;
        sim_network_process_ended();
        world.start_at_ns = sim_now_ns() + sim_below(200 * CLOCK_NS_PER_MS);
}

static void world_kill(void)
{
        sim_note("kill after %llu blocks", (unsigned long long)sim_blocks_run());
        world.result.kills++;
        world_lose_router();
        sim_disk_process_ended();
}

static void world_power_cut(void)
{
        sim_note("power cut");
        world.result.power_cuts++;
        world_look_at_durable();
        for (uint32_t id = 0; id < world.events_count; id++)
                if (!world.host || !world.events[id].flushed || world_may_be_lost(&world.events[id]))
                        world.events[id].excused = true;
        world_lose_router();
        sim_disk_power_cut();
        for (uint32_t i = 0; i < world.lanes_count; i++)
                world_lane_open(i); /* the producers start anew, too */
}

/* A targets file that is not what it was; its copy is. Where the last router also lost a written page of that log, the
 * copy is older than what stood there, and nobody knows any more that it was published. */
static void world_damage(void)
{
        uint32_t log = (uint32_t)sim_below(world.logs_count);
        if (!sim_disk_damage(log == 0 ? WORLD_DIRECTORY "/journal/0/targets"
                                      : WORLD_DIRECTORY "/journal/0.Open/targets"))
                return;
        sim_note("the targets file of log %u is damaged", log);
        world.result.damaged++;
        if (world.written_lost_ns[log] < world.started_ns)
                return;
        world.forgets = true;
        for (uint32_t id = 0; id < world.events_count; id++)
                world.events[id].excused |= world_may_be_lost(&world.events[id]);
}

static void world_try_start(void)
{
        if (!world.faults_off && world.damages && sim_chance(0.1))
                world_damage();
        uint64_t blocks_until = 0;
        world.result.starts++;
        if (!world.faults_off && sim_chance(world.kill_chance * 4))
                blocks_until = 1 + sim_below(sim_chance(0.5) ? 3000 : 60000);
        const bool killed = sim_run(world_start, NULL, blocks_until);
        sim_network_sleeps(false);
        if (killed) {
                world_kill();
                return;
        }
        if (world.start_code != ERR_OK) {
                world.result.failed_starts++;
                sim_network_process_ended();
                sim_disk_process_ended();
                world.start_at_ns = sim_now_ns() + 100 * CLOCK_NS_PER_MS + sim_below(CLOCK_NS_PER_S);
                if (world.faults_off)
                        sim_fail("a start without faults failed: %s", world.start_text);
                /* Deliveries go on without them. */
                if (world.hardship == HARDSHIP_TARGETS_SYNC)
                        sim_fail("a start failed where only the targets files cannot be synced: %s", world.start_text);
                return;
        }
        world.running = true;
        world.started_ns = sim_now_ns();
        memset(world.shed_before, 0, sizeof(world.shed_before));
        for (uint32_t i = 0; i < world.lanes_count; i++) {
                world_lane_adopt(i);
                SIM_CHECK(shard_give_lane(world.router.shards[i % world.router.shards_count], world.lanes[i].lane));
                world.lanes[i].full_since_ns = 0;
        }
        sim_judge_ledgers();
}

/* ---- turns, in sim_run() */

static uint32_t some_of(uint32_t count)
{
        return count < 2 ? 0 : (uint32_t)sim_below(count);
}

static void turn_shard(void *unused)
{
        uint32_t events = 0;
        (void)unused;
        (void)shard_turn(world.router.shards[some_of(world.router.shards_count)], &events);
}

static void turn_worker(void *unused)
{
        (void)unused;
        (void)egress_worker_turn(world.router.workers[some_of(world.router.workers_count)]);
}

/* As router/helper.c does; what fails now is tried again, and flushes wait. */
static void turn_helper(void *unused)
{
        uint64_t pause_ns = world.sync_every_ns; /* between two groups of syncs */
        (void)unused;
        for (uint32_t i = 0; i < world.logs_count; i++) {
                struct journal *journal = world.router.journals[i];
                struct err err = {.text = ""};
                enum router_relief relief;
                enum err_code code = router_maintain(&world.router, i, &relief, &err);
                world.result.disk_full += journal_room(journal) != ERR_OK; /* also where room comes */
                if (code != ERR_OK)
                        sim_note("maintenance: %s", err.text);
                if (!world.host || sim_now_ns() < world.sync_due_ns)
                        continue;
                if (journal_sync(journal, &err) == ERR_OK)
                        continue;
                sim_note("sync: %s", err.text);
                pause_ns = world.syncs_fail > 0 ? CLOCK_NS_PER_S : pause_ns;
        }
        if (sim_now_ns() >= world.sync_due_ns)
                world.sync_due_ns = sim_now_ns() + pause_ns;
        world_hardship_load_keys(&credentials_shared, false);
}

/* As the tick of router/router.c. */
static void turn_control(void *unused)
{
        struct router *router = &world.router;
        uint64_t reloads = counter_get(router->own_counters, COUNTER_control_reloads);
        (void)unused;
        sim_network_sleeps(true); /* for a file to be opened */
        if (router->reload_wanted)
                router_reload(router);
        if (counter_get(router->own_counters, COUNTER_control_reloads) != reloads) {
                world.plan_loaded = world.plan;
                world.result.reloads++;
        }
        router_settle_targets(router);
}

/* One that could not be opened yet. */
static bool world_target_waits(void)
{
        for (uint32_t i = 0; i < world.router.targets_count; i++)
                if (world.router.targets[i].target == NULL)
                        return true;
        return false;
}

/* From when on everything goes by the file of now. */
static void world_look_at_plan(void)
{
        bool seen = world.running && world.plan_loaded == world.plan;
        for (uint32_t i = 0; i < world.router.shards_count && seen; i++)
                seen = shard_plan_seen(world.router.shards[i]) == world.router.plan;
        if (seen)
                world.plans = 1u << world.plan;
}

static void end_gracefully(void *unused)
{
        uint32_t events = 0;
        struct err err;
        (void)unused;
        sim_network_sleeps(true);
        const struct router *router = &world.router;
        for (uint32_t shard = 0; shard < router->shards_count; shard++) {
                shard_stop(router->shards[shard], sim_now_ns() + CLOCK_NS_PER_S);
                while (shard_turn(router->shards[shard], &events)) {
                        for (uint32_t i = 0; i < world.logs_count; i++)
                                (void)journal_maintain(router->journals[i], &err); /* as above */
                        sim_clock_advance(CLOCK_NS_PER_MS);
                }
        }
        for (uint32_t i = 0; i < router->workers_count; i++) {
                egress_worker_stop(router->workers[i], sim_now_ns() + sim_below(2 * CLOCK_NS_PER_S));
                egress_worker_run(router->workers[i]);
        }
        for (uint32_t i = 0; i < router->workers_count; i++)
                egress_worker_free(router->workers[i]);
        for (uint32_t i = 0; i < router->shards_count; i++)
                shard_free(router->shards[i]);
        for (uint32_t i = 0; i < world.logs_count; i++) {
                struct journal *journal = world.router.journals[i];
                if (!world.router.logs[i].wanted && journal_is_settled(journal))
                        journal_discard(journal);
                else
                        journal_close(journal);
        }
        sim_network_sleeps(false);
}

/* The disk cannot back the page that comes next in a log, where nothing was published; or one where something was. */
static bool world_lose_page(void)
{
        uint32_t log = (uint32_t)sim_below(world.logs_count);
        const char *directory = log == 0 ? WORLD_DIRECTORY "/journal/0" : WORLD_DIRECTORY "/journal/0.Open";
        const bool written = sim_chance(0.3);
        if (!sim_disk_lose_page(directory, journal_committed_position(world.router.journals[log]), written))
                return false;
        sim_note("a %s page of log %u is lost", written ? "written" : "new", log);
        world.result.pages_lost++;
        world.result.written_lost += written;
        if (written)
                world.written_lost_ns[log] = sim_now_ns();
        return true;
}

static void world_step(void)
{
        static void (*const turns[])(void *) = {turn_shard, turn_worker, turn_helper};
        uint64_t blocks_until = 0;
        if (!world.faults_off && sim_chance(world.kill_chance))
                blocks_until = 1 + sim_below(sim_chance(0.5) ? 100 : 20000);
        void (*turn)(void *) = turns[sim_below(10) < 5 ? 1 : sim_below(2) * 2];
        if ((world.reloads || world_target_waits() || world.router.resume_again_ns != 0) && sim_chance(0.1))
                turn = turn_control;
        /* A worker whose file hangs does not end: whoever asked kills it. */
        if (!world.faults_off && sim_chance(world.kill_chance / 4) && !sim_network_file_hangs())
                turn = end_gracefully;
        /* Often enough the router is killed before it has come over it. */
        if (!world.faults_off && sim_chance(world.page_loss) && world_lose_page()) {
                turn = turn_shard;
                blocks_until = sim_chance(0.5) ? 1 + sim_below(sim_chance(0.5) ? 3000 : 30000) : 0;
        }
        const double file_hang = sim_disk_faults.file_hang;
        if (turn == end_gracefully)
                sim_disk_faults.file_hang = 0;
        bool killed = sim_run(turn, NULL, blocks_until);
        sim_disk_faults.file_hang = file_hang;
        sim_network_sleeps(false);
        if (killed) {
                world_kill();
                return;
        }
        if (turn == end_gracefully) {
                sim_note("ended as asked");
                world_lose_router();
                sim_disk_process_ended();
                return;
        }
        world_look_at_plan();
        if (!world.faults_off && world.power_cuts && (sim_chance(world.kill_chance) || world_hardship_cuts()))
                world_power_cut();
}

/* To the next thing that can happen. */
static void world_wait(void)
{
        uint64_t next_ns = sim_network_next_ns(), now_ns = sim_now_ns();
        if (world.running && sim_network_wish_ns() < next_ns)
                next_ns = sim_network_wish_ns();
        uint64_t longest_ns = now_ns + (sim_chance(0.9) ? 5 : 300) * CLOCK_NS_PER_MS;
        sim_clock_set(next_ns < longest_ns ? next_ns : longest_ns);
}

static struct sim_endpoint *world_stream(enum world_sink sink)
{
        return &sim_endpoints[sink == SINK_ALPHA ? 0 : sink == SINK_BETA ? 1 : 3];
}

/* Records come to a stream as the sets of now say, or those of before. */
static void world_put_sets(void)
{
        sim_disk_put(WORLD_SETS, slice_of_text(sim_plan_text(world.plan)));
        if (world.gzip == SINKS_COUNT)
                return;
        world_stream(world.gzip)->takes_gzip |= world.gzip_now;
        world_stream(world.gzip)->takes_plain |= !world.gzip_now;
}

/* Somebody writes another configuration-sets.yaml, and most times asks for a reload. What no shard has taken yet may
 * go by it. */
static void world_edit(void)
{
        world.plan = (uint32_t)sim_below(SIM_PLANS_COUNT);
        world.plans |= 1u << world.plan;
        if (world.gzip != SINKS_COUNT && sim_chance(0.3))
                world.gzip_now = !world.gzip_now;
        if (world.file_changes && sim_chance(0.5))
                world.file_ids_now = !world.file_ids_now;
        world_put_sets();
        for (uint32_t id = 0; id < world.events_count; id++) {
                struct world_event *event = &world.events[id];
                const struct world_lane *own = &world.lanes[event->lane];
                if (event->lane_life == own->life && ring_lane_position(own->lane) < event->end_position)
                        world_route(event, 1u << world.plan);
        }
        if (world.running && sim_chance(0.9))
                world.router.reload_wanted = true;
        sim_note("sets %u%s%s%s", world.plan, world.gzip != SINKS_COUNT && world.gzip_now ? " gzip" : "",
                 world.file_ids_now ? " ids" : "", world.running && world.router.reload_wanted ? ", reload" : "");
}

/* ---------------------------------------------------------------------------------------------- a seed */

static double some(double most)
{
        return sim_chance(0.4) ? 0 : most * random_unit(&sim_random);
}

static void world_choose_request_faults(struct sim_endpoint *endpoint, double trouble)
{
        endpoint->faults = (struct sim_request_faults){
                .refuse = some(trouble),
                .hang = some(trouble / 4),
                .reset_before = some(trouble),
                .reset_after = some(trouble),
                .silent = some(trouble / 4),
                .error_500 = some(trouble),
                .error_503_bare = some(trouble),
                .throttle = some(trouble),
                .garbage = some(trouble / 4),
                .not_found = some(trouble / 8),
                .denied = some(trouble / 8),
                .expired_token = some(trouble / 8),
                .skew = some(trouble / 8),
                .partial = some(trouble * 2),
                .cut_answer = some(trouble),
                .twice = some(trouble / 4),
                .slow = some(trouble / 4),
        };
        const struct sim_request_faults *faults = &endpoint->faults;
        world.refuses |= faults->garbage + faults->not_found + faults->denied + faults->skew > 0;
}

static void world_choose_disk_faults(double trouble)
{
        sim_disk_faults = (struct sim_disk_faults){
                .read_eio = some(trouble / 4),
                .write_eio = some(trouble),
                .sync_eio = some(trouble),
                .short_write = some(0.2),
                .open_failure = some(trouble / 2),
                .hang = some(trouble / 4),
                .capacity_bytes = sim_chance(0.3 * (trouble > 0)) ? sim_below(8 * LIMIT_SEGMENT_BYTES_MIN) : 0,
                .renames_blindly = sim_chance(0.3),
        };
}

/* In three seeds of ten, the records of one stream are gzip files. Drawn beside the seed's own numbers: the other seeds
 * are what they would be without. */
static void world_choose_gzip(void)
{
        struct random_state beside = sim_random;
        world.gzip = SINKS_COUNT;
        if (random_unit(&beside) >= 0.3)
                return;
        static const enum world_sink streams[] = {SINK_ALPHA, SINK_BETA, SINK_GAMMA}; /* reloads bring the last */
        world.gzip = streams[random_below(&beside, world.reloads ? 3 : 2)];
        world.gzip_events_max = random_unit(&beside) < 0.6 ? 1 + (uint32_t)random_below(&beside, 5) : 0;
        world.gzip_now = !world.reloads || random_unit(&beside) < 0.7;
        world_stream(world.gzip)->takes_plain = false;
        /* Such requests are few, and what becomes of the records of one is to be seen. */
        if (world.request_trouble > 0)
                world_stream(world.gzip)->faults.partial = random_unit(&beside) / 2;
        sim_note("gzip: %s, events %u, %s", world_stream(world.gzip)->name, world.gzip_events_max,
                 world.gzip_now ? "at once" : "later");
}

/* In half of the seeds whose sets change, the file's destination does, too: it is another target then, of the same
 * file. Drawn beside, as above. */
static void world_choose_file(void)
{
        struct random_state beside = sim_random;
        (void)random_unit(&beside); /* what was drawn of it above */
        (void)random_unit(&beside);
        world.file_changes = world.reloads && random_unit(&beside) < 0.5;
        if (world.file_changes)
                sim_note("%s", "the file's destination changes");
}

static void world_choose(void)
{
        world.host = sim_chance(0.4);
        world.skips_ambiguous = sim_chance(0.3);
        world.power_cuts = sim_chance(world.host ? 0.6 : 0.2);
        world.bulkhead = sim_chance(0.15);
        world.tiny_journal = sim_chance(0.4);
        world.sheds = sim_chance(0.3);
        world.kill_chance = world.bulkhead ? 0 : some(0.02);
        world.request_trouble = world.bulkhead ? 0 : some(0.2);
        world.disk_trouble = world.bulkhead || sim_chance(0.6) ? 0 : some(0.1);
        world.events_wanted = 20 + (uint32_t)sim_below(sim_chance(0.8) ? 150 : 800);
        world.big_percent = (uint32_t)sim_below(sim_chance(0.7) ? 5 : 60);
        world.reloads = !world.bulkhead && sim_chance(0.3);
        /* Where the disk works: what could be written of a copy is there. */
        world.damages = !world.bulkhead && sim_chance(0.1) && world.disk_trouble <= 0;
        world.page_loss = world.bulkhead ? 0 : sim_chance(0.2) ? 0.01 : 0;
        world.lanes_count = 1 + (uint32_t)sim_below(WORLD_LANES_MAX);
        settings.journal.pressure.rank[SENDRING_OPEN] = 1;
        /* What no batch can hold is a dead letter. */
        world.batch_bytes = sim_chance(0.3) ? (16 + (uint32_t)sim_below(32)) * 1024 : 256 * 1024;
        if (world.batch_bytes < 256 * 1024)
                world.big_percent += (uint32_t)sim_below(20);
        world.in_flight = 1 + (uint32_t)sim_below(4);
        sim_endpoints_count = 4;
        for (uint32_t i = 0; i < sim_endpoints_count; i++) {
                static const char *const names[] = {"alpha", "beta", "cloudwatch", "gamma"};
                sim_endpoints[i] = (struct sim_endpoint){
                        .name = names[i],
                        .service = i == 2 ? SIM_CLOUDWATCH : SIM_FIREHOSE,
                        .port = (uint16_t)(WORLD_PORT + i),
                        .takes_plain = true,
                        .received = calloc(WORLD_EVENTS_MAX, sizeof(uint32_t)),
                        .events_max = WORLD_EVENTS_MAX,
                };
                SIM_CHECK(sim_endpoints[i].received != NULL);
                world_choose_request_faults(&sim_endpoints[i], world.request_trouble);
        }
        bool fills = world.sheds && sim_chance(0.6); /* the journal, behind a dead endpoint */
        sim_endpoints[0].dead = world.bulkhead || fills;
        if (fills) {
                world.tiny_journal = true;
                world.big_percent += 40;
                world.events_wanted += 300;
        }
        world_choose_disk_faults(world.disk_trouble);
        sim_note("host %d skip %d power %d bulkhead %d tiny %d sheds %d reloads %d damages %d pages %.3f kill %.4f "
                 "requests %.3f disk %.3f events %u lanes %u",
                 world.host, world.skips_ambiguous, world.power_cuts, world.bulkhead, world.tiny_journal, world.sheds,
                 world.reloads, world.damages, world.page_loss, world.kill_chance, world.request_trouble,
                 world.disk_trouble, world.events_wanted, world.lanes_count);
        world_choose_gzip();
        world_choose_hardship();
        world_choose_file();
        settings.journal.durability_host = world.host;
        settings.egress.batch_bytes_max = world.batch_bytes;
        settings.egress.in_flight_max = world.in_flight;
}

static void world_trouble(void)
{
        uint32_t published_last = 0;
        uint64_t steps = 0;
        bool gives_up = false;
        /* Where alpha is dead, until beta has what it must have all the same. */
        while (world.events_count < world.events_wanted || sim_chance(0.98) || sim_judge_bulkhead() || gives_up) {
                if (++steps > WORLD_STEPS_MAX)
                        break; /* a full journal that nothing empties: healing will */
                if (world.events_count < world.events_wanted && sim_chance(0.3))
                        for (uint64_t burst = 1 + sim_below(8); burst > 0; burst--)
                                if (world.events_count >= world.events_wanted || !world_publish())
                                        break;
                published_last = world.events_count;
                if (world.reloads && sim_chance(0.01))
                        world_edit();
                world_hardship_step();
                if (!world.running) {
                        sim_clock_set(world.start_at_ns);
                        world_try_start();
                } else {
                        world_step();
                }
                if (sim_chance(0.3))
                        world_wait();
                if (sim_chance(0.02) && world.running)
                        sim_judge_ledgers();
                gives_up = sim_judge_progress();
                if (sim_chance(0.02))
                        world_look_at_durable();
                if (sim_chance(0.002)) {
                        world_choose_disk_faults(world.disk_trouble);
                        world_hardship_disk();
                }
                if (sim_chance(0.02))
                        (void)sim_judge_bulkhead();
                /* A full journal takes nothing for ever while its destinations are dead: enough seen. */
                if (steps > 20000 && published_last < world.events_wanted && sim_chance(0.001))
                        break;
        }
}

/* And every target is open again, which repairs what a power cut has left of a file. */
static bool world_is_drained(void)
{
        if (!world.running || world_target_waits())
                return false;
        for (uint32_t i = 0; i < world.lanes_count; i++)
                if (ring_lane_position(world.lanes[i].lane) != world.lanes[i].producer.head)
                        return false;
        for (uint32_t log = 0; log < world.logs_count; log++) {
                struct journal *journal = world.router.journals[log];
                for (uint32_t number = 0; number < journal_targets_count(journal); number++) {
                        struct journal_target_state state;
                        SIM_CHECK(journal_target_get(journal, (uint16_t)number, &state));
                        if (!state.retired &&
                            state.accepted != state.delivered + state.dead_lettered + state.shed + state.expired)
                                return false;
                }
        }
        return true;
}

static void world_heal(void)
{
        uint64_t until_ns = sim_now_ns() + WORLD_HEALED_NS, steps = 0;
        sim_note("healing at %llu ms, %u events", (unsigned long long)(sim_now_ns() / CLOCK_NS_PER_MS),
                 world.events_count);
        world.faults_off = true;
        sim_disk_faults = (struct sim_disk_faults){.short_write = sim_disk_faults.short_write,
                                                   .renames_blindly = sim_disk_faults.renames_blindly};
        world_hardship_over();
        sim_network_file_answers();
        for (uint32_t i = 0; i < sim_endpoints_count; i++) {
                sim_endpoints[i].dead = false;
                sim_endpoints[i].faults = (struct sim_request_faults){0};
        }
        /* The judge looks into all logs. */
        const uint32_t logs_count = (world.many ? 2u : 1u) * (world.sheds ? 2u : 1u);
        if (world.running && (world.logs_count < logs_count || !world.router.logs[logs_count - 1].wanted))
                world_kill();
        /* A failed sync is not forgotten by the process that saw it: flushes wait for a restart. */
        while (!world_is_drained()) {
                if (!world.running) {
                        sim_clock_set(world.start_at_ns);
                        world_try_start();
                }
                world_step();
                world_wait();
                if (sim_now_ns() > until_ns || ++steps > WORLD_STEPS_MAX) {
                        for (uint32_t i = 0; i < world.router.targets_count; i++) {
                                char error[200];
                                counters_row_get_error(world.router.targets[i].row, error, sizeof(error));
                                sim_note("target %u: status %u last error %s", i, world.router.targets[i].row->status,
                                         error);
                        }
                        sim_fail("not everything is delivered %u s after the last fault",
                                 (unsigned)(WORLD_HEALED_NS / CLOCK_NS_PER_S));
                }
        }
        sim_judge_ledgers();
        until_ns = sim_now_ns() + WORLD_SHRUNK_NS;
        while (!sim_judge_size(sim_now_ns() > until_ns)) {
                world_step();
                world_wait();
        }
}

void sim_world_run(struct sim_result *ret_result)
{
        struct err err;
        world_choose();
        sim_disk_make_directory("/var/log/sendring");
        world_put_sets();
        world.plans = 1;
        if (counters_create_in_memory(1, WORLD_ROWS_MAX, "sim", &counters, &err) != ERR_OK)
                sim_fail("no counters: %s", err.text);
        for (uint32_t i = 0; i < (world.many ? WORLD_SHARDS_MAX : 1); i++)
                if (ring_bed_create(&world.beds[i], &err) != ERR_OK)
                        sim_fail("no bed: %s", err.text);
        for (uint32_t i = 0; i < world.lanes_count; i++)
                world_lane_open(i);
        world_trouble();
        world_heal();
        sim_judge_end();
        sim_run(end_gracefully, NULL, 0);
        world.result.published = world.events_count;
        world.result.sim_ms = sim_now_ns() / CLOCK_NS_PER_MS;
        sim_note("done: %llu kills %llu power cuts %llu starts %llu duplicates", (unsigned long long)world.result.kills,
                 (unsigned long long)world.result.power_cuts, (unsigned long long)world.result.starts,
                 (unsigned long long)world.result.duplicates);
        *ret_result = world.result;
}
