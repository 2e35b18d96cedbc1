/* In a share of the seeds one thing goes on being wrong, as it does for days on a real host, and the rest is bent to
 * it. Drawn beside the seed's own numbers: the other seeds are what they would be without. What must hold then is in
 * judge.c. */
#include "base/clock.h"
#include "tests/sim/world.h"

#include <stdio.h>

#define KEYS_MAX     64u
#define CLOCK_OFF_MS (INT64_C(20) * 60 * 1000)

static struct random_state beside;
static struct credentials keys[KEYS_MAX];
static uint32_t keys_written; /* the number of those in the file */

static bool chance(double probability)
{
        return random_unit(&beside) < probability;
}

static void no_request_faults(void)
{
        world.request_trouble = 0;
        world.refuses = false;
        for (uint32_t i = 0; i < sim_endpoints_count; i++)
                sim_endpoints[i].faults = (struct sim_request_faults){0};
}

/* The journal fills, with events that any batch holds. */
static void publish_much(uint32_t events_min)
{
        world.events_wanted = events_min + (uint32_t)random_below(&beside, 200);
        world.big_percent = 70;
        world.big_bytes_min = 40000;
        world.batch_bytes = 256 * 1024;
}

/* The power goes when more was written since the last good sync than the journal has segments mapped and prepared. */
static void choose_late_syncs(void)
{
        world.host = world.power_cuts = true;
        world.tiny_journal = false;
        publish_much(250);
        world.syncs_fail = chance(0.4) ? 0.4 + 0.4 * random_unit(&beside) : 0;
        world.sync_every_ns = world.syncs_fail > 0 ? 0 : (1 + random_below(&beside, 10)) * CLOCK_NS_PER_S;
        sim_endpoints[0].dead |= chance(0.5);
}

/* The file takes Opens alone, which are shed: nothing holds up Sends. */
static void choose_hung_file(void)
{
        world.sheds = world.tiny_journal = true;
        world.reloads = world.damages = false;
        world.kill_chance /= 10;
        publish_much(200);
        sim_endpoints[0].dead = false;
        no_request_faults();
}

static void choose_limits(void)
{
        world.damages = false;
        world.kill_chance = world.kill_chance > 0 ? world.kill_chance : 0.005;
        publish_much(150);
}

static void choose_targets_sync(void)
{
        world.host = true;
        world.kill_chance = 0.005 + random_unit(&beside) / 100;
        world.events_wanted = world.events_wanted > 200 ? 200 : world.events_wanted;
}

/* The services refuse what is signed with old keys or by another clock, and nothing else. */
static void choose_signatures(void)
{
        no_request_faults();
        world.turns_keys = chance(0.7);
        world.turns_clock = !world.turns_keys || chance(0.4);
        /* Several small requests are in flight, some of them for long. */
        world.in_flight = 4;
        world.batch_bytes = 16 * 1024;
        world.big_percent = 0;
        world.events_wanted = 300 + (uint32_t)random_below(&beside, 400);
        for (uint32_t i = 0; i < sim_endpoints_count; i++) {
                sim_endpoints[i].dead = false;
                sim_endpoints[i].faults.slow = random_unit(&beside) / 4;
        }
        sim_signing.checked = true;
        for (uint32_t i = 0; i < KEYS_MAX; i++) {
                keys[i] = (struct credentials){.secret_access_key = "secret", .expires_ms = INT64_MAX, .number = i + 1};
                (void)snprintf(keys[i].access_key_id, sizeof(keys[i].access_key_id), "AKID%04u", i); /* it fits */
        }
}

void world_choose_hardship(void)
{
        beside = sim_random;
        const double which = random_unit(&beside);
        if (world.bulkhead) /* it is about delays of one cause */
                return;
        world.hardship = which < 0.04   ? HARDSHIP_LATE_SYNCS
                         : which < 0.08 ? HARDSHIP_HUNG_FILE
                         : which < 0.12 ? HARDSHIP_LIMITS
                         : which < 0.16 ? HARDSHIP_TARGETS_SYNC
                         : which < 0.20 ? HARDSHIP_SIGNATURES
                                        : HARDSHIP_NONE;
        world.many = chance(0.1);
        if (world.many) { /* both are about one log */
                world.page_loss = 0;
                world.damages = false;
        }
        if (world.hardship == HARDSHIP_NONE)
                return;
        world.disk_trouble = 0;
        world.page_loss = 0;
        switch (world.hardship) {
        case HARDSHIP_LATE_SYNCS:
                choose_late_syncs();
                break;
        case HARDSHIP_HUNG_FILE:
                choose_hung_file();
                break;
        case HARDSHIP_LIMITS:
                choose_limits();
                break;
        case HARDSHIP_TARGETS_SYNC:
                choose_targets_sync();
                break;
        case HARDSHIP_SIGNATURES:
                choose_signatures();
                break;
        case HARDSHIP_NONE:
                break;
        }
        world_hardship_disk();
        sim_note(
                "hardship %d: many %d; syncs every %llu ms, %.2f fail; file hangs %.2f; targets %.2f; keys %d clock %d",
                (int)world.hardship, world.many, (unsigned long long)(world.sync_every_ns / CLOCK_NS_PER_MS),
                world.syncs_fail, sim_disk_faults.file_hang, sim_disk_faults.targets_sync_eio, world.turns_keys,
                world.turns_clock);
}

void world_hardship_disk(void)
{
        if (world.hardship == HARDSHIP_NONE)
                return;
        sim_disk_faults = (struct sim_disk_faults){
                .writes_late = world.hardship == HARDSHIP_LATE_SYNCS,
                .segments_sync_eio = world.syncs_fail,
                .file_hang = world.hardship == HARDSHIP_HUNG_FILE ? 0.02 + random_unit(&beside) / 10 : 0,
                .targets_sync_eio = world.hardship == HARDSHIP_TARGETS_SYNC ? 0.3 + random_unit(&beside) * 0.7 : 0,
        };
}

/* The journal's of one start. */
uint64_t world_hardship_segments(uint64_t usual)
{
        if (world.hardship != HARDSHIP_LIMITS)
                return usual;
        return (chance(0.5) ? 4 : 6 + random_below(&beside, 6)) + 2 * (uint64_t)world.sheds;
}

void world_hardship_retention(struct journal_options *options)
{
        if (world.hardship != HARDSHIP_LIMITS)
                return;
        options->retention_age_ms = chance(0.6) ? UINT64_C(3600) * 1000 : 0;
        options->retention_bytes = chance(0.3) ? (1 + random_below(&beside, 8)) * LIMIT_SEGMENT_BYTES_MIN : 0;
}

uint32_t world_hardship_count(void)
{
        return !world.many ? 1 : world.faults_off ? 2 : 1 + (uint32_t)random_below(&beside, 2);
}

bool world_hardship_cuts(void)
{
        /* What one journal has mapped, and what is prepared. */
        static const uint64_t bytes = UINT64_C(6) * LIMIT_SEGMENT_BYTES_MIN;
        for (uint32_t i = 0; i < world.logs_count && world.hardship == HARDSHIP_LATE_SYNCS && world.running; i++) {
                const struct journal *journal = world.router.journals[i];
                if (journal_committed_position(journal) - journal_durable_position(journal) > bytes && chance(0.03))
                        return true;
        }
        return false;
}

/* ---------------------------------------------------------------------------------------------- keys and clocks */

/* As router/credentials.c does with what the file has: when a service wants others, and now and then. */
void world_hardship_load_keys(struct egress_credentials *shared, bool start)
{
        if (world.hardship != HARDSHIP_SIGNATURES)
                return;
        if (!start && !atomic_load_explicit(&shared->refresh_wanted, memory_order_relaxed) && !chance(0.01))
                return;
        atomic_store_explicit(&shared->refresh_wanted, false, memory_order_relaxed);
        atomic_store_explicit(&shared->current, &keys[keys_written], memory_order_release);
        atomic_fetch_add_explicit(&shared->loads, 1, memory_order_relaxed);
}

/* New keys come before the old ones go. */
void world_hardship_step(void)
{
        if (world.hardship != HARDSHIP_SIGNATURES)
                return;
        if (world.turns_keys && keys_written + 1 < KEYS_MAX && chance(0.01)) {
                keys_written++;
                sim_note("keys %u are written", keys_written);
        }
        if (sim_signing.key_oldest < keys_written && chance(0.02)) {
                sim_signing.key_oldest = keys_written;
                sim_signing.says_unknown = chance(0.5);
                sim_note("older keys than %u are %s", keys_written, sim_signing.says_unknown ? "gone" : "expired");
        }
        if (world.turns_clock && chance(0.004)) {
                static const int64_t offsets_ms[] = {0, 0, CLOCK_OFF_MS, -CLOCK_OFF_MS};
                const int64_t offset_ms = offsets_ms[random_below(&beside, 4)];
                sim_clock_set_realtime(offset_ms);
                sim_note("the host's clock is %lld s off", (long long)(offset_ms / 1000));
        }
}

void world_hardship_over(void)
{
        world.sync_every_ns = world.sync_due_ns = 0;
        world.syncs_fail = 0;
        sim_clock_set_realtime(0);
}
