/* What must hold (design: promises P2, P3, P5):
 *
 *     always           the ledger of every log and target balances, after each start as well
 *     at the end       every event whose publish returned OK was taken by each of its destinations, or is in the dead
 *                      letters that the ledger counts; `accepted` of a target is exactly what was published for it,
 *                      since the hand-over from a lane is exactly once; CloudWatch's sums are exact but for requests
 *                      whose answer was lost
 *     a lost page      that was written excuses as many events as the ledger counts as lost; with a targets file that
 *                      was damaged before the next start, which alone would have told, those that may have been in it
 *     a power cut      excuses what was not flushed (durability host) or not delivered before (durability process), and
 *                      what may have stood in a page of its log that was written and lost before: the cut takes that
 *                      count as well;
 *                      it never excuses a start that fails, a ledger that does not balance, or a dead letter that
 *                      counts and is not there
 *     a dead endpoint  delays nobody else
 */
#include "base/clock.h"
#include "egress/dead_letter.h"
#include "egress/service.h"
#include "tests/sim/world.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------- at any time */

static void judge_ledger(struct journal *journal, uint16_t number, const char *name)
{
        struct journal_target_state state;
        struct err err = {.text = ""};
        uint64_t waiting = 0;
        enum err_code code = journal_target_audit(journal, number, &state, &waiting, &err);
        if (code != ERR_OK) {
                /* A disk that cannot be read now tells nothing; it is asked again when it can. */
                if (!world.faults_off && (code == ERR_SYSTEM || code == ERR_MEMORY))
                        return;
                sim_fail("the ledger of %s cannot be counted: %s", name, err.text);
        }
        uint64_t settled = state.delivered + state.dead_lettered + state.shed + state.expired;
        if (state.accepted != settled + waiting)
                sim_fail(
                        "the ledger of %s does not balance: accepted %llu, delivered %llu dead-lettered %llu shed %llu "
                        "expired %llu waiting %llu",
                        name, (unsigned long long)state.accepted, (unsigned long long)state.delivered,
                        (unsigned long long)state.dead_lettered, (unsigned long long)state.shed,
                        (unsigned long long)state.expired, (unsigned long long)waiting);
}

void sim_judge_ledgers(void)
{
        for (uint32_t log = 0; log < world.logs_count; log++) {
                struct journal *journal = world.router.journals[log];
                for (uint32_t number = 0; number < journal_targets_count(journal); number++) {
                        struct journal_target_state state;
                        if (journal_target_get(journal, (uint16_t)number, &state))
                                judge_ledger(journal, (uint16_t)number, state.key);
                }
        }
}

/* How late an event may be at beta with nothing before it: it waits for a turn of the shard (one step in four), one of
 * the worker (one in two) and some 60 ms. Three steps in a hundred let the clock go on for up to 300 ms while nothing
 * is due: with chances of 0.03 / (0.03 + 0.25) and 0.03 / (0.03 + 0.5) for one more before the turn comes, ten of them
 * are one of 10^9. */
#define JUDGE_LATE_NS (3 * CLOCK_NS_PER_S)
/* And for what was before it: beta begins with one connection, and a batch may have room for one event only. A request
 * takes two sends of 2 ms, 20 ms until it is answered, and four pieces of 2 ms (network.c, endpoints.c), all of them at
 * most and on average half of that; what the syncs of the helper take between the turns of the worker fits in the rest.
 * An event that no batch can hold is a dead letter, written and synced in 9 ms, by one of three targets at a time. */
#define JUDGE_REQUEST_NS (32 * CLOCK_NS_PER_MS)

/* P5: alpha is dead from the beginning, and there are no other faults. What came for beta long ago is delivered, unless
 * the journal was full: then nobody gets anything, which is what the limit of its size means. */
bool sim_judge_bulkhead(void)
{
        const struct sim_endpoint *beta = &sim_endpoints[1];
        uint64_t letters_before = 0;
        bool waits = false;
        if (!world.bulkhead || world.result.disk_full > 0)
                return false;
        for (uint32_t id = 0; id < world.events_count; id++) {
                const struct world_event *event = &world.events[id];
                if ((event->must >> SINK_BETA & 1) == 0 || beta->received[id] > 0)
                        continue;
                if (event->bytes * 2 >= world.batch_bytes) { /* no batch may hold it: judge_count_letters() */
                        letters_before++;
                        continue;
                }
                if (event->open && world.sheds)
                        continue;
                uint64_t before = beta->requests - event->requests_before + letters_before;
                waits = true;
                if (event->published_ns + JUDGE_LATE_NS + before * JUDGE_REQUEST_NS < sim_now_ns())
                        sim_fail("event %u waits for beta for %llu ms, behind %llu requests and letters, because alpha "
                                 "is dead",
                                 id, (unsigned long long)((sim_now_ns() - event->published_ns) / CLOCK_NS_PER_MS),
                                 (unsigned long long)before);
        }
        return waits;
}

/* What a target has in flight is left request_timeout_ms before its events are given up for others, and connecting
 * takes connect_timeout_ms: 7 s here (world.c). The rest is for turns that come late, as above. */
#define JUDGE_SHED_NS (20 * CLOCK_NS_PER_S)

static bool judge_shedding(void)
{
        bool pending = false;
        for (uint32_t log = 0; log < world.logs_count; log++) {
                const struct journal *journal = world.router.journals[log];
                const uint64_t before = journal_shed_pending(journal) ? journal_shed_before(journal) : 0;
                if (before != world.shed_before[log])
                        world.shed_since_ns[log] = sim_now_ns();
                world.shed_before[log] = before;
                pending |= before != 0;
                if (before != 0 && world.shed_since_ns[log] + JUDGE_SHED_NS < sim_now_ns())
                        sim_fail("what log %u gives up to make room is held for %llu ms", log,
                                 (unsigned long long)((sim_now_ns() - world.shed_since_ns[log]) / CLOCK_NS_PER_MS));
        }
        return pending;
}

bool sim_judge_progress(void)
{
        bool sheds = false;
        if (!world.running)
                return false;
        if (world.hardship == HARDSHIP_HUNG_FILE) {
                sheds = judge_shedding();
                for (uint32_t i = 0; i < world.lanes_count; i++) {
                        const uint64_t since_ns = world.lanes[i].full_since_ns;
                        if (since_ns != 0 && since_ns + JUDGE_SHED_NS < sim_now_ns())
                                sim_fail("lane %u is full for %llu ms, because a file hangs that takes only events "
                                         "that are shed",
                                         i, (unsigned long long)((sim_now_ns() - since_ns) / CLOCK_NS_PER_MS));
                }
        }
        for (uint32_t i = 0; i < world.router.targets_count && world.hardship == HARDSHIP_SIGNATURES; i++) {
                const struct router_target *own = &world.router.targets[i];
                if (own->target != NULL && own->target->flow.parked)
                        sim_fail("target %s is parked, and nobody refuses but old keys and another clock", own->key);
        }
        return sheds;
}

/* Each log has two segments of its own, whatever the limit (journal.h). */
bool sim_judge_size(bool now)
{
        const uint64_t logs = world.logs_count / world.router.shards_count;
        const uint64_t own = logs * JOURNAL_SEGMENTS_OWN * LIMIT_SEGMENT_BYTES_MIN;
        const uint64_t most = world.size_bytes_max > own ? world.size_bytes_max : own;
        uint64_t size = 0;
        for (uint32_t i = 0; i < world.router.shards_count; i++) {
                const uint64_t of_shard =
                        atomic_load_explicit(&world.router.budgets[i].size_bytes, memory_order_relaxed);
                size = of_shard > size ? of_shard : size;
        }
        if (size > most && now)
                sim_fail("the journal holds %llu segments, and its limit is %llu; everything is delivered",
                         (unsigned long long)(size / LIMIT_SEGMENT_BYTES_MIN),
                         (unsigned long long)(most / LIMIT_SEGMENT_BYTES_MIN));
        return size <= most;
}

/* ---------------------------------------------------------------------------------------------- at the end */

/* How far a look at the file destination finds each event. */
static uint32_t file_seen[WORLD_EVENTS_MAX];
static void judge_count_file(void *context, const char *path, struct slice content)
{
        static const char field[] = "\"messageId\":\"id-";
        const uint8_t *at = content.ptr, *end = at + content.len;
        (void)context;
        while (at < end && (at = memmem(at, (size_t)(end - at), field, sizeof(field) - 1)) != NULL) {
                at += sizeof(field) - 1;
                unsigned long id = strtoul((const char *)at, NULL, 10);
                const uint8_t *line_end = memchr(at, '\n', (size_t)(end - at));
                bool torn = line_end == NULL || memchr(at, '\0', (size_t)(line_end - at)) != NULL ||
                            strspn((const char *)at, "0123456789") != 8 || at[8] != '"';
                /* With durability process nothing is synced, and a rotated file is not looked at again. */
                bool excused = !world.host && world.result.power_cuts > 0 && strcmp(path, WORLD_FILE) != 0;
                if (torn && !excused)
                        sim_fail("%s has a torn line", path);
                if (torn)
                        return;
                SIM_CHECK(id < WORLD_EVENTS_MAX);
                file_seen[id]++;
                at = line_end; /* commonHeaders has it again */
        }
}

struct judge_counts {
        uint64_t accepted, shed, dead_lettered, lost;
};
/* Behind those of the sinks. */
#define JUDGE_UNMATCHED SINKS_COUNT
#define JUDGE_REJECTED  (SINKS_COUNT + 1)

/* How often the dead letters name each event, by sink. */
static uint32_t letters[SINKS_COUNT][WORLD_EVENTS_MAX];

static enum world_sink judge_sink_of(struct slice key)
{
        static const char *const marks[SINKS_COUNT] = {"deliverystream/alpha", "deliverystream/beta", WORLD_FILE,
                                                       "deliverystream/gamma", "cloudwatch "};
        for (unsigned sink = 0; sink < SINKS_COUNT; sink++)
                if (memmem(key.ptr, key.len, marks[sink], strlen(marks[sink])) != NULL)
                        return (enum world_sink)sink;
        return SINKS_COUNT; /* of those that only count, or a number that nobody has */
}

static void judge_add(const struct journal_target_state *state, struct judge_counts *counts)
{
        counts->accepted += state->accepted;
        counts->shed += state->shed;
        counts->dead_lettered += state->dead_lettered;
        counts->lost += state->lost;
}

/* What the ledgers of all logs say. */
static void judge_count(struct judge_counts ret_counts[SINKS_COUNT + 2])
{
        memset(ret_counts, 0, (SINKS_COUNT + 2) * sizeof(*ret_counts));
        /* A copy of the sets that could not be written or read lets a restart shed what waits for who is not named. A
         * target that is named no more and refuses is not waited for. */
        const bool may_shed =
                world.reloads && (world.refuses || world.disk_trouble > 0 || sim_file_replace_failures() > 0);
        for (uint32_t log = 0; log < world.logs_count; log++) {
                struct journal *journal = world.router.journals[log];
                for (uint32_t number = 0; number < journal_targets_count(journal); number++) {
                        struct journal_target_state state;
                        SIM_CHECK(journal_target_get(journal, (uint16_t)number, &state));
                        enum world_sink sink = judge_sink_of(slice_of_text(state.key));
                        if (sink != SINKS_COUNT && world.router.logs[log].type == 0 && state.shed > 0 && !may_shed)
                                sim_fail("target %s shed %llu events that nobody may shed", state.key,
                                         (unsigned long long)state.shed);
                        if (sink != SINKS_COUNT)
                                judge_add(&state, &ret_counts[sink]);
                        else if (strcmp(state.key, ROUTER_TARGET_UNMATCHED) == 0)
                                judge_add(&state, &ret_counts[JUDGE_UNMATCHED]);
                        else if (strcmp(state.key, ROUTER_TARGET_REJECTED) == 0)
                                judge_add(&state, &ret_counts[JUDGE_REJECTED]);
                }
        }
}

/* A line whose checksum is wrong is none: tools do not see it either. */
static void judge_count_letters(void *context, const char *path, struct slice content)
{
        static uint8_t line[DEAD_LETTER_LINE_BYTES_MAX];
        static const char field[] = "\"messageId\":\"id-";
        (void)context;
        (void)path;
        while (content.len > 0) {
                struct dead_letter letter;
                struct err err;
                struct slice text = slice_cut(&content, '\n');
                if (text.len > sizeof(line))
                        continue;
                memcpy(line, text.ptr, text.len);
                if (dead_letter_parse(line, text.len, &letter, &err) != ERR_OK)
                        continue;
                enum world_sink sink = judge_sink_of(letter.target);
                const char *at = memmem(letter.json.ptr, letter.json.len, field, sizeof(field) - 1);
                SIM_CHECK(at != NULL);
                unsigned long id = strtoul(at + sizeof(field) - 1, NULL, 10);
                SIM_CHECK(id < world.events_count);
                const struct world_event *event = &world.events[id];
                if (sink == SINKS_COUNT || (event->may >> sink & 1) == 0)
                        sim_fail("event %lu of set %d is a dead letter of sink %d", id, event->set, sink);
                if (event->bytes * 2 < world.batch_bytes)
                        sim_fail("event %lu, %u bytes, is a dead letter", id, event->bytes);
                letters[sink][id]++;
        }
}

static uint64_t judge_expected(enum world_sink sink, bool all)
{
        uint64_t count = 0;
        for (uint32_t id = 0; id < world.events_count; id++) {
                const struct world_event *event = &world.events[id];
                count += all ? event->may >> sink & 1 : (event->must >> sink & 1) != 0 && !event->excused;
        }
        return count;
}

static void judge_arrived(const struct judge_counts *counted)
{
        uint64_t missing[SINKS_COUNT] = {0}, unshed[SINKS_COUNT] = {0};
        memset(file_seen, 0, sizeof(file_seen));
        sim_disk_each(WORLD_FILE, judge_count_file, NULL);
        memset(letters, 0, sizeof(letters));
        sim_disk_each(WORLD_DIRECTORY "/dead-letter/", judge_count_letters, NULL);
        for (uint32_t id = 0; id < world.events_count; id++) {
                const struct world_event *event = &world.events[id];
                uint32_t counts[SINKS_COUNT] = {
                        [SINK_ALPHA] = sim_endpoints[0].received[id],
                        [SINK_BETA] = sim_endpoints[1].received[id],
                        [SINK_FILE] = file_seen[id],
                        [SINK_GAMMA] = sim_endpoints[3].received[id],
                };
                for (uint32_t sink = 0; sink < SINK_CLOUDWATCH; sink++) {
                        static const char *const names[] = {"alpha", "beta", "the file", "gamma"};
                        if (counts[sink] > 0 && (event->may >> sink & 1) == 0)
                                sim_fail("event %u of set %d came to %s", id, event->set, names[sink]);
                        world.result.received += counts[sink] > 0;
                        world.result.duplicates += counts[sink] > 1 ? counts[sink] - 1 : 0;
                        world.result.dead_lettered += letters[sink][id] > 0;
                        if (counts[sink] > 0 || letters[sink][id] > 0 || (event->must >> sink & 1) == 0 ||
                            event->excused)
                                continue;
                        /* As many as the ledger says were shed, of those that may be, or in pages that were written and
                         * lost. */
                        unshed[sink] += !(event->open && world.sheds) && !world.reloads;
                        if (++missing[sink] > counted[sink].shed + counted[sink].lost ||
                            unshed[sink] > (world.result.written_lost > 0 ? counted[sink].lost : 0))
                                sim_fail("event %u is missing at %s (lane %u, published at %llu ms%s); %llu were shed, "
                                         "%llu lost",
                                         id, names[sink], event->lane,
                                         (unsigned long long)(event->published_ns / CLOCK_NS_PER_MS),
                                         event->flushed ? ", flushed" : "", (unsigned long long)counted[sink].shed,
                                         (unsigned long long)counted[sink].lost);
                }
        }
        for (uint32_t sink = 0; sink < SINKS_COUNT; sink++) {
                world.result.shed += counted[sink].shed;
                world.result.lost += counted[sink].lost;
                /* What no disk took is not lost. */
                if (counted[sink].lost > 0 && world.result.written_lost == 0 && world.result.power_cuts == 0 &&
                    world.result.damaged == 0)
                        sim_fail("the ledger says that sink %u lost %llu events", sink,
                                 (unsigned long long)counted[sink].lost);
        }
}

/* Dead letters are written and synced before they count: never fewer of them than the ledger says. */
static void judge_dead_letters(const struct judge_counts *counted)
{
        for (uint32_t sink = 0; sink < SINKS_COUNT; sink++) {
                uint64_t kept = 0;
                /* Each event once, but those that a log has twice (judge_accepted()). */
                for (uint32_t id = 0; id < world.events_count; id++)
                        kept += world.result.pages_lost > 0 ? letters[sink][id] : letters[sink][id] > 0;
                if (kept < counted[sink].dead_lettered)
                        sim_fail("sink %u: %llu events dead-lettered, and %llu are in the dead letters", sink,
                                 (unsigned long long)counted[sink].dead_lettered, (unsigned long long)kept);
        }
}

static void judge_cloudwatch(const struct judge_counts *counted)
{
        const struct sim_endpoint *endpoint = &sim_endpoints[2];
        uint64_t most = judge_expected(SINK_CLOUDWATCH, true), least = judge_expected(SINK_CLOUDWATCH, false);
        sim_note("cloudwatch: expected %llu to %llu counted %llu ambiguous %llu", (unsigned long long)least,
                 (unsigned long long)most, (unsigned long long)endpoint->counted,
                 (unsigned long long)endpoint->ambiguous);
        if (!world.skips_ambiguous &&
            endpoint->counted + counted[SINK_CLOUDWATCH].shed + counted[SINK_CLOUDWATCH].lost < least)
                sim_fail("CloudWatch counted %llu of %llu", (unsigned long long)endpoint->counted,
                         (unsigned long long)least);
        if (world.result.power_cuts == 0 && world.result.pages_lost == 0 && world.result.damaged == 0 &&
            endpoint->counted > most + endpoint->ambiguous)
                sim_fail("CloudWatch counted %llu for %llu events; only %llu were ambiguous",
                         (unsigned long long)endpoint->counted, (unsigned long long)most,
                         (unsigned long long)endpoint->ambiguous);
}

static void judge_between(uint32_t of, uint64_t accepted, uint64_t least, uint64_t most)
{
        /* What a log had of a visit that another one gave up for a lost page is taken again. */
        if (accepted < least || (accepted > most && world.result.pages_lost == 0))
                sim_fail("sink %u accepted %llu of %llu to %llu published events", of, (unsigned long long)accepted,
                         (unsigned long long)least, (unsigned long long)most);
}

/* Exactly once from lane to journal. */
static void judge_accepted(const struct judge_counts *counted)
{
        uint64_t unmatched = 0, rejected = 0;
        if (world.result.power_cuts > 0 || world.forgets)
                return; /* what was lost was counted, or not */
        for (uint32_t sink = 0; sink < SINKS_COUNT; sink++)
                judge_between(sink, counted[sink].accepted + counted[sink].lost,
                              judge_expected((enum world_sink)sink, false),
                              judge_expected((enum world_sink)sink, true));
        for (uint32_t id = 0; id < world.events_count; id++) {
                unmatched += world.events[id].set == SET_UNKNOWN;
                rejected += world.events[id].set == SET_MALFORMED;
        }
        judge_between(JUDGE_UNMATCHED, counted[JUDGE_UNMATCHED].accepted + counted[JUDGE_UNMATCHED].lost, unmatched,
                      unmatched);
        judge_between(JUDGE_REJECTED, counted[JUDGE_REJECTED].accepted + counted[JUDGE_REJECTED].lost, rejected,
                      rejected);
}

void sim_judge_end(void)
{
        struct judge_counts counted[SINKS_COUNT + 2];
        judge_count(counted);
        judge_arrived(counted);
        judge_dead_letters(counted);
        judge_cloudwatch(counted);
        judge_accepted(counted);
}
