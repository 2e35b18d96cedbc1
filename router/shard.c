#include "router/shard.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "codecs/codec.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <rte_pause.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a record may need besides the event. */
#define SHARD_RECORD_EXTRA_BYTES (sizeof(struct journal_origin) + CODEC_VIEW_STORED_BYTES + LIMIT_NAME_BYTES_MAX)
_Static_assert(LIMIT_EVENT_BYTES_MAX + SHARD_RECORD_EXTRA_BYTES <= LIMIT_RECORD_BYTES_MAX,
               "the journal takes the largest event that a lane can hold");

/* A sleeping shard looks around at least this often: the backstop of every wake-up. */
#define SHARD_SLEEP_NS (500 * CLOCK_NS_PER_MS)
/* A sweep that found this many events is followed by the next at once; after fewer, a nap lets more come: fewer, fuller
 * visits cost less CPU per event, and producers do not wait for them. */
#define SHARD_BUSY_EVENTS 128u
/* With no room in the journal: how long until the next look. */
#define SHARD_FULL_NAP_NS   (1 * CLOCK_NS_PER_MS)
#define SHARD_SAME_CAUSE_NS (10 * CLOCK_NS_PER_S)

struct shard_lane {
        struct ring_lane *lane;
        uint32_t violations_counted;
        uint32_t rejected_in_a_row;
        /* durability host: once the logs are synced up to here, the lane is durable up to there. */
        uint64_t sync_positions[RULES_EVENT_TYPES_END], sync_lane_position;
        bool sync_waiting;
        uint64_t sync_round; /* of the shard's: what was taken before it came is on the disk when that one is over */
};

/* What a worker was told. */
struct shard_feed {
        uint64_t told_position;  /* everything before was offered, or does not concern the worker */
        uint64_t begin_position; /* of the first record for it since; UINT64_MAX: none */
        uint64_t since_ns;       /* when that one can have been published first */
};

/* One log, and what the workers know of it. */
struct shard_log {
        struct journal *journal;
        uint32_t index;
        uint16_t target_unmatched, target_rejected;
        bool touched; /* committed to, and not yet published */
        struct shard_feed feeds[LIMIT_WORKERS_MAX];
};

struct shard {
        struct shard_options options;
        struct shard_log logs[RULES_EVENT_TYPES_END]; /* the first one is that of all other types */
        uint32_t logs_count;
        struct shard_log *log_last; /* that a visit has put something into */
        uint8_t log_of_type[RULES_EVENT_TYPES_END];
        struct codec_json_options json; /* what producers leave out, as it will be published: filters see it */
        _Atomic(const struct shard_plan *) plan_wanted;
        _Atomic(const struct shard_plan *) plan_seen;
        const struct shard_plan *plan;
        _Atomic bool stop;
        uint64_t stop_deadline_ns;       /* written before `stop` */
        struct rte_ring *inbox, *outbox; /* of struct ring_lane * */
        /* durability host: what all logs of the router held when the last round began; how many of them have it on the
         * disk. */
        uint64_t round, round_positions[LIMIT_LOGS_MAX];
        uint32_t round_synced;
        struct shard_lane *lanes;
        uint32_t lanes_count;
        uint64_t told_ns;
        uint64_t last_event_ns;
        uint64_t looked_ns; /* what a sweep finds was published since, save what the one before had no room for */
        int64_t realtime_ms;
        bool journal_full;
        bool maintenance_told;
        bool woken;     /* from the last sleep, and nothing was found since */
        bool sync_told; /* something waits to be synced, and nothing was since control was told */
        struct log_gate full_gate;
        struct log_gate given_up_gate;
        struct ring_replayed replayed; /* what stood before the event of the record in hand */
};

static struct rte_ring *shard_ring_create(uint32_t elements)
{
        ssize_t bytes = rte_ring_get_memsize_elem(sizeof(void *), elements);
        if (bytes < 0)
                return NULL;
        size_t size_bytes = ((size_t)bytes + 127) / 128 * 128;
        struct rte_ring *ring = aligned_alloc(128, size_bytes);
        if (ring == NULL)
                return NULL;
        memset(ring, 0, size_bytes);
        if (rte_ring_init(ring, "lanes", elements, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
                free(ring);
                return NULL;
        }
        return ring;
}

static void shard_add_log(struct shard *shard, const struct shard_class *class)
{
        ASSERT(shard->logs_count < RULES_EVENT_TYPES_END);
        struct shard_log *log = &shard->logs[shard->logs_count++];
        uint64_t position = journal_committed_position(class->journal);
        *log = (struct shard_log){
                .journal = class->journal,
                .index = class->log,
                .target_unmatched = class->target_unmatched,
                .target_rejected = class->target_rejected,
        };
        for (uint32_t i = 0; i < shard->options.workers_count; i++)
                log->feeds[i] = (struct shard_feed){.told_position = position, .begin_position = UINT64_MAX};
}

enum err_code shard_create(const struct shard_options *options, const struct shard_plan *plan, struct shard **ret_shard,
                           struct err *reterr)
{
        struct shard *shard = calloc(1, sizeof(*shard));
        if (shard == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for router shard %u", options->index);
        shard->options = *options;
        shard->json = (struct codec_json_options){
                .account_id = slice_of_text(options->settings->account_id),
                .region = slice_of_text(options->settings->region),
                .partition = slice_of_text(options->settings->partition),
                .configuration_set = slice_of_text(options->settings->default_configuration_set),
        };
        atomic_init(&shard->plan_wanted, plan);
        atomic_init(&shard->plan_seen, plan);
        shard->plan = plan;
        shard->looked_ns = clock_monotonic_ns();
        shard->inbox = shard_ring_create(LIMIT_LANES_MAX * 2);
        shard->outbox = shard_ring_create(LIMIT_LANES_MAX * 2);
        shard->lanes = calloc(LIMIT_LANES_MAX, sizeof(*shard->lanes));
        if (shard->inbox == NULL || shard->outbox == NULL || shard->lanes == NULL) {
                shard_free(shard);
                return err_set(reterr, ERR_MEMORY, "out of memory for router shard %u", options->index);
        }
        shard_add_log(shard, &(struct shard_class){.log = options->index,
                                                   .journal = options->journal,
                                                   .target_unmatched = options->target_unmatched,
                                                   .target_rejected = options->target_rejected});
        for (uint32_t i = 0; i < options->classes_count; i++) {
                shard->log_of_type[options->classes[i].type] = (uint8_t)shard->logs_count;
                shard_add_log(shard, &options->classes[i]);
        }
        shard->log_last = &shard->logs[0];
        shard->round_synced = options->journals_count;
        *ret_shard = shard;
        return ERR_OK;
}

void shard_free(struct shard *shard)
{
        if (shard == NULL)
                return;
        free(shard->inbox);
        free(shard->outbox);
        free(shard->lanes);
        free(shard);
}

void shard_stop(struct shard *shard, uint64_t deadline_monotonic_ns)
{
        shard->stop_deadline_ns = deadline_monotonic_ns;
        /* X1: pairs with X2 in shard_run(). */
        atomic_store_explicit(&shard->stop, true, memory_order_release);
        ring_bed_wake(shard->options.bed);
}

bool shard_give_lane(struct shard *shard, struct ring_lane *lane)
{
        if (rte_ring_sp_enqueue(shard->inbox, lane) != 0)
                return false;
        ring_bed_wake(shard->options.bed);
        return true;
}

struct ring_lane *shard_take_done_lane(struct shard *shard)
{
        void *lane = NULL;
        return rte_ring_sc_dequeue(shard->outbox, &lane) == 0 ? lane : NULL;
}

void shard_set_plan(struct shard *shard, const struct shard_plan *plan)
{
        /* P1: publishes the plan's content. Pairs with P2 in shard_run(). */
        atomic_store_explicit(&shard->plan_wanted, plan, memory_order_release);
        ring_bed_wake(shard->options.bed);
}

const struct shard_plan *shard_plan_seen(const struct shard *shard)
{
        /* P4: pairs with P3: after it the shard never touches the older plan. */
        return atomic_load_explicit(&shard->plan_seen, memory_order_acquire);
}

static void shard_call_control(struct shard *shard)
{
        uint64_t one = 1;
        ssize_t wrote = write(shard->options.control_eventfd, &one, sizeof(one));
        (void)wrote; /* EAGAIN only when it is overfull: then control is awake anyway */
}

/* ---------------------------------------------------------------------------------------------- one visit */

/* For an event that names no configuration set: writes the name of the default one behind the event and lets the view
 * say so, for routing now and for whoever reads the record. A replayed event has the one that it was given the first
 * time. Returns its bytes, at most LIMIT_NAME_BYTES_MAX. */
static uint32_t shard_default_set(const struct shard *shard, const struct ring_replayed *replayed,
                                  struct codec_view *view, uint8_t *behind)
{
        const struct rules_plan *plan = shard->plan->plan;
        struct slice set = replayed != NULL ? slice_of(replayed->set, replayed->set_bytes) : SLICE_EMPTY;
        if (set.len == 0)
                set = rules_plan_default_set_of(plan, view);
        if (set.len == 0)
                return 0;
        memcpy(behind, set.ptr, set.len);
        view->configuration_set = slice_of(behind, set.len);
        return (uint32_t)set.len;
}

/* The log that an event belongs to, by the type that its bytes in the lane name: they may change under us, and an event
 * in the log of another type is its producer's own loss. NULL: what the visit has put into another log is not there. */
static inline struct shard_log *shard_log_of(struct shard *shard, struct slice shared)
{
        if (shard->logs_count == 1)
                return &shard->logs[0];
        unsigned type = (unsigned)codec_event_peek_type(shared);
        struct shard_log *log = &shard->logs[type < RULES_EVENT_TYPES_END ? shard->log_of_type[type] : 0];
        /* Whatever log a record goes into, its lane position says that all before it are there. */
        if (log != shard->log_last) {
                if (shard->log_last->touched && journal_keep(shard->log_last->journal) != ERR_OK)
                        return NULL;
                shard->log_last = log;
        }
        return log;
}

/* Routes one validated event: fills entry->routes. A replayed one goes where it would go now, or to less. */
static void shard_route(struct shard *shard, const struct shard_log *log, const struct ring_replayed *replayed,
                        const struct codec_view *view, struct journal_entry *entry, uint32_t *ret_workers)
{
        struct counters_block *counters = shard->options.counters;
        struct rules_match match;
        uint32_t count;
        if (__builtin_expect(replayed != NULL && replayed->destination_bytes > 0, 0))
                count = rules_plan_match_only(shard->plan->plan, view, &shard->json,
                                              slice_of(replayed->destination, replayed->destination_bytes), &match);
        else
                count = rules_plan_match(shard->plan->plan, view, &shard->json, &match);
        if (match.filter_exhausted)
                counter_add(counters, COUNTER_router_filter_limits, 1);
        if (count == 0) {
                counter_add(counters, COUNTER_router_unmatched, 1);
                if (!match.set_known)
                        counter_add(counters, COUNTER_router_unknown_set, 1);
                entry->routes[0] = log->target_unmatched;
                entry->routes_count = 1;
                return;
        }
        for (uint32_t i = 0; i < count; i++) {
                entry->routes[i] = shard->plan->numbers[match.targets[i]][log->index];
                *ret_workers |= 1u << shard->plan->workers[match.targets[i]];
        }
        entry->routes_count = (uint8_t)count;
        counter_add(counters, COUNTER_router_routes, count);
}

/* Takes a replayed record apart: *shared becomes the event in it, empty when the record is malformed. */
static __attribute__((noinline, cold)) const struct ring_replayed *shard_take_replayed(struct shard *shard,
                                                                                       struct slice *shared)
{
        struct ring_replayed *replayed = &shard->replayed;
        if (!ring_replay_read(*shared, replayed, shared)) {
                shared->len = 0;
                return NULL;
        }
        /* Nothing was accepted in the future. */
        if (replayed->accepted_ms > shard->realtime_ms)
                replayed->accepted_ms = shard->realtime_ms;
        counter_add(shard->options.counters, COUNTER_router_replayed, 1);
        return replayed;
}

/* The record says where its event comes from. */
static __attribute__((noinline, cold)) void shard_put_origin(const struct ring_replayed *replayed, uint8_t *payload)
{
        struct journal_origin origin = {
                .lane_id = replayed->lane_id,
                .lane_position = replayed->lane_position,
                .accepted_ms = replayed->accepted_ms,
        };
        memcpy(payload, &origin, sizeof(origin));
}

/* A kill between two commits, or two of these, leaves a prefix of what the lane held, since stores survive it in their
 * order: the largest lane position in any of the logs is where the next router begins. */
static enum err_code shard_publish(struct shard *shard)
{
        enum err_code code = ERR_OK;
        for (uint32_t i = 0; i < shard->logs_count; i++) {
                struct shard_log *log = &shard->logs[i];
                if (log->touched && journal_publish(log->journal) != ERR_OK)
                        code = ERR_CORRUPT;
                log->touched = false;
        }
        return code;
}

/* The log could not keep the last of what this visit has put into it (journal_publish()), which nothing in another log
 * stands behind (shard_log_of()): the lane keeps it, and the next visit tries again in another segment. What the logs
 * have of the visit all the same is then there twice, under the same event ids. */
static __attribute__((noinline, cold)) void shard_take_back(struct shard *shard, struct ring_lane *lane)
{
        uint64_t repeats = 0;
        (void)shard_publish(shard); /* what is there, of all logs */
        /* What workers are to be told of may only begin at records that are there. */
        for (uint32_t k = 0; k < shard->logs_count; k++) {
                struct shard_log *log = &shard->logs[k];
                const uint64_t committed = journal_committed_position(log->journal);
                for (uint32_t i = 0; i < shard->options.workers_count; i++)
                        if (log->feeds[i].begin_position != UINT64_MAX && log->feeds[i].begin_position > committed)
                                log->feeds[i].begin_position = committed;
        }
        ring_visit_abandon(lane);
        shard->journal_full = true; /* nothing was taken, and the lane is not empty */
        counter_add(shard->options.counters, COUNTER_journal_segments_given_up, 1);
        if (log_gate_open(&shard->given_up_gate, clock_monotonic_ns(), SHARD_SAME_CAUSE_NS, &repeats))
                log_error("a journal segment is given up: the disk cannot keep its pages",
                          "shard=%u now=\"its last events are taken again into another one\" "
                          "help=\"look at the kernel's log for the disk, and at who cut files in the journal's "
                          "directory\" repeats=%" PRIu64,
                          shard->options.index, repeats);
}

/* Takes what one lane holds, within the visit's budget. Returns the events taken. */
static uint32_t shard_visit(struct shard *shard, struct shard_lane *own)
{
        struct ring_lane *lane = own->lane;
        struct counters_block *counters = shard->options.counters;
        if (ring_visit_begin(lane) == 0)
                return 0;
        struct ring_lane_info info;
        ring_lane_get_info(lane, &info);
        struct slice shared;
        uint64_t position = 0, bytes = 0;
        uint32_t events = 0;
        enum ring_visit kind;
        while ((kind = ring_visit_next(lane, &shared, &position)) != RING_VISIT_NOTHING) {
                uint8_t *payload = NULL;
                uint32_t record_bytes = (uint32_t)shared.len, origin_bytes = 0;
                const struct ring_replayed *replayed = NULL;
                if (__builtin_expect(kind == RING_VISIT_REPLAY, 0)) {
                        replayed = shard_take_replayed(shard, &shared);
                        origin_bytes = sizeof(struct journal_origin);
                }
                struct shard_log *log = shard_log_of(shard, shared);
                if (__builtin_expect(log == NULL, 0)) {
                        shard_take_back(shard, lane);
                        return 0;
                }
                struct journal *journal = log->journal;
                enum err_code code =
                        journal_reserve(journal, SHARD_RECORD_EXTRA_BYTES + (uint32_t)shared.len, &payload);
                if (__builtin_expect(code == ERR_CORRUPT, 0)) {
                        shard_take_back(shard, lane);
                        return 0;
                }
                if (code != ERR_OK) {
                        ring_visit_undo(lane);
                        shard->journal_full = true;
                        counter_add(counters, COUNTER_router_journal_full, 1);
                        break;
                }
                /* The lane's bytes may change under us: copied once; from here on only the copy is looked at. */
                uint8_t *stored = payload + origin_bytes, *event = stored + CODEC_VIEW_STORED_BYTES;
                memcpy(event, shared.ptr, shared.len);
                struct journal_entry entry = {
                        .lane_id = info.lane_id,
                        .lane_position = position,
                        .accepted_ms = shard->realtime_ms,
                };
                struct codec_view view;
                uint32_t workers = 0;
                uint32_t payload_bytes = origin_bytes + CODEC_VIEW_STORED_BYTES + (uint32_t)shared.len;
                if (codec_view_decode(slice_of(event, shared.len), &view, NULL) != ERR_OK) {
                        ring_lane_reject(lane);
                        own->rejected_in_a_row++;
                        counter_add(counters, COUNTER_router_rejected, 1);
                        entry.flags = JOURNAL_FLAG_REJECTED;
                        entry.routes[0] = log->target_rejected;
                        entry.routes_count = 1;
                        payload_bytes = 0;
                } else {
                        own->rejected_in_a_row = 0;
                        entry.event_type = (uint8_t)view.type;
                        entry.flags = replayed != NULL ? JOURNAL_FLAG_REPLAYED : 0;
                        if (view.configuration_set.len == 0)
                                payload_bytes += shard_default_set(shard, replayed, &view, event + shared.len);
                        shard_route(shard, log, replayed, &view, &entry, &workers);
                        if (workers != 0)
                                codec_view_store(&view, stored);
                        else
                                payload_bytes =
                                        0; /* nobody will read it: only the lane position and the count matter */
                        if (replayed != NULL && workers != 0)
                                shard_put_origin(replayed, payload);
                }
                journal_commit(journal, &entry, payload_bytes);
                log->touched = true;
                for (uint32_t left = workers; left != 0; left &= left - 1) {
                        struct shard_feed *feed = &log->feeds[__builtin_ctz(left)];
                        if (feed->begin_position != UINT64_MAX)
                                continue;
                        feed->begin_position = journal_last_position(journal);
                        feed->since_ns = shard->looked_ns;
                }
                bytes += record_bytes;
                events++;
        }
        if (events > 0) {
                if (__builtin_expect(shard_publish(shard) != ERR_OK, 0)) {
                        shard_take_back(shard, lane);
                        return 0;
                }
                counter_add(counters, COUNTER_router_events, events);
                counter_add(counters, COUNTER_router_bytes, bytes);
                counter_add(counters, COUNTER_router_visits, 1);
        }
        ring_visit_end(lane);
        return events;
}

static void shard_tell_workers_of(struct shard *shard, struct shard_log *log, bool everyone)
{
        uint64_t end = journal_committed_position(log->journal);
        uint64_t end_sequence = journal_next_sequence(log->journal);
        for (uint32_t i = 0; i < shard->options.workers_count; i++) {
                struct shard_feed *feed = &log->feeds[i];
                bool has = feed->begin_position != UINT64_MAX;
                if (!has && !(everyone && feed->told_position != end))
                        continue;
                uint64_t begin = has ? feed->begin_position : end;
                if (egress_worker_offer(shard->options.workers[i], log->index, begin, end, end_sequence,
                                        has ? feed->since_ns : shard->looked_ns)) {
                        feed->told_position = end;
                        feed->begin_position = UINT64_MAX;
                }
        }
}

/* Tells the workers. A full ring is no loss: the next range is longer. */
static void shard_tell_workers(struct shard *shard, bool everyone)
{
        for (uint32_t i = 0; i < shard->logs_count; i++)
                shard_tell_workers_of(shard, &shard->logs[i], everyone);
}

/* ---------------------------------------------------------------------------------------------- lanes that come and go
 */

static void shard_take_lanes(struct shard *shard)
{
        void *lane = NULL;
        while (shard->lanes_count < LIMIT_LANES_MAX && rte_ring_sc_dequeue(shard->inbox, &lane) == 0)
                shard->lanes[shard->lanes_count++] = (struct shard_lane){
                        .lane = lane, .sync_lane_position = ring_lane_durable(lane), .sync_round = shard->round + 1};
}

/* A lane whose producer is gone, that broke the protocol too often, or that sends nothing but what is no event, goes
 * back to control. `orphan` was read before the visit that found nothing: whatever its producer committed was taken. */
static bool shard_lane_is_done(struct shard *shard, struct shard_lane *own, bool orphan, uint32_t events)
{
        uint32_t violations = ring_lane_violations(own->lane);
        if (violations != own->violations_counted) {
                counter_add(shard->options.counters, COUNTER_lanes_violations, violations - own->violations_counted);
                own->violations_counted = violations;
        }
        /* What an orphan has left is taken all the same: nobody carries it into another lane. */
        if (violations >= LIMIT_LANE_VIOLATIONS_MAX || (own->rejected_in_a_row >= LIMIT_LANE_REJECTED_MAX && !orphan))
                return true;
        return orphan && events == 0 && !shard->journal_full;
}

/* Whether all that the router's logs held when a lane came is on the disk. A flush is about all that its producer has
 * published. Some of it may be in other logs than this shard's: by another number of shards, or other types that are
 * shed, under the router before, whose last sync, or the one of this start, has failed; or by another lane of the same
 * producer, which gets a new one where the old one's page came to nothing. */
static bool shard_round_is_over(struct shard *shard, uint64_t round)
{
        const struct shard_options *options = &shard->options;
        for (;;) {
                while (shard->round_synced < options->journals_count &&
                       journal_durable_position(options->journals[shard->round_synced]) >=
                               shard->round_positions[shard->round_synced])
                        shard->round_synced++;
                if (shard->round_synced < options->journals_count)
                        return round < shard->round;
                if (round <= shard->round)
                        return true;
                for (uint32_t i = 0; i < options->journals_count; i++)
                        shard->round_positions[i] = journal_committed_position(options->journals[i]);
                shard->round++;
                shard->round_synced = 0;
        }
}

static void shard_sync_lane(struct shard *shard, struct shard_lane *own)
{
        if (!shard->options.settings->journal.durability_host)
                return;
        bool synced = own->sync_waiting && shard_round_is_over(shard, own->sync_round);
        for (uint32_t i = 0; i < shard->logs_count && synced; i++)
                synced = journal_durable_position(shard->logs[i].journal) >= own->sync_positions[i];
        if (synced) {
                ring_lane_set_durable(own->lane, own->sync_lane_position);
                own->sync_waiting = false;
                shard->sync_told = false;
        }
        uint64_t lane_position = ring_lane_position(own->lane);
        if (!own->sync_waiting && lane_position != own->sync_lane_position) {
                for (uint32_t i = 0; i < shard->logs_count; i++)
                        own->sync_positions[i] = journal_committed_position(shard->logs[i].journal);
                own->sync_lane_position = lane_position;
                own->sync_waiting = true;
                if (!shard->sync_told)
                        shard_call_control(shard);
                shard->sync_told = true;
        }
}

/* One look at every lane. Returns the events taken. */
static uint32_t shard_sweep(struct shard *shard)
{
        uint32_t events = 0;
        shard->journal_full = false;
        for (uint32_t i = 0; i < shard->lanes_count;) {
                struct shard_lane *own = &shard->lanes[i];
                bool orphan = ring_lane_is_orphan(own->lane);
                uint32_t taken = shard_visit(shard, own);
                events += taken;
                shard_sync_lane(shard, own);
                if (shard_lane_is_done(shard, own, orphan, taken) &&
                    rte_ring_sp_enqueue(shard->outbox, own->lane) == 0) {
                        shard->lanes[i] = shard->lanes[--shard->lanes_count];
                        shard_call_control(shard);
                        continue;
                }
                i++;
        }
        return events;
}

/* ---------------------------------------------------------------------------------------------- the thread */

static void shard_pin(struct shard *shard)
{
        char name[16];
        (void)snprintf(name, sizeof(name), "shard-%u", shard->options.index); /* 16 shards at most: it fits */
        (void)pthread_setname_np(pthread_self(), name);                       /* for top(1) only */
        if (shard->options.core < 0)
                return;
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)shard->options.core, &set);
        int failed = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
        if (failed != 0)
                log_warning("cannot pin a router shard", "shard=%u core=%d error=\"%s\" now=\"runs unpinned\"",
                            shard->options.index, shard->options.core, strerror(failed));
}

static void shard_maintenance(struct shard *shard)
{
        bool wanted = shard->journal_full;
        for (uint32_t i = 0; i < shard->logs_count; i++)
                wanted |= journal_wants_maintenance(shard->logs[i].journal);
        if (wanted && !shard->maintenance_told)
                shard_call_control(shard);
        shard->maintenance_told = wanted;
}

/* Nothing was found: spin, nap, or sleep. */
static void shard_idle(struct shard *shard, uint64_t now_ns)
{
        const struct rules_settings *settings = shard->options.settings;
        uint64_t idle_ns = now_ns - shard->last_event_ns;
        if (idle_ns < settings->router.spin_us * CLOCK_NS_PER_US) { /* 0: never spins */
                rte_pause();
                return;
        }
        if (shard->journal_full) {
                clock_nap_ns(SHARD_FULL_NAP_NS);
                return;
        }
        if (idle_ns < settings->router.nap_window_ms * CLOCK_NS_PER_MS) {
                counter_add(shard->options.counters, COUNTER_router_naps, 1);
                clock_nap_ns(settings->router.nap_us * CLOCK_NS_PER_US);
                return;
        }
        if (shard->woken) {
                /* In vain. A producer that rings and rings shall not keep a core busy, and membarrier's interrupts. */
                shard->woken = false;
                counter_add(shard->options.counters, COUNTER_router_naps, 1);
                clock_nap_ns(settings->router.nap_us * CLOCK_NS_PER_US);
                return;
        }
        shard_tell_workers(shard, true);
        counter_add(shard->options.counters, COUNTER_router_sleeps, 1);
        ring_bed_prepare(shard->options.bed);
        shard_take_lanes(shard);
        if (shard_sweep(shard) > 0 || atomic_load_explicit(&shard->stop, memory_order_acquire) /* X2 */) {
                ring_bed_cancel(shard->options.bed);
                shard->last_event_ns = clock_monotonic_ns();
                return;
        }
        bool syncing = false;
        for (uint32_t i = 0; i < shard->lanes_count; i++)
                syncing |= shard->lanes[i].sync_waiting;
        shard->woken = ring_bed_wait(shard->options.bed,
                                     syncing ? CLOCK_NS_PER_MS : SHARD_SLEEP_NS); /* looks around either way */
        shard->looked_ns = clock_monotonic_ns(); /* whoever published meanwhile has rung */
}

bool shard_turn(struct shard *shard, uint32_t *ret_events)
{
        /* P2: pairs with P1. A quiescent point: no visit is open. */
        const struct shard_plan *plan = atomic_load_explicit(&shard->plan_wanted, memory_order_acquire);
        if (plan != shard->plan) {
                shard->plan = plan;
                /* P3: pairs with P4. */
                atomic_store_explicit(&shard->plan_seen, plan, memory_order_release);
        }
        bool stop = atomic_load_explicit(&shard->stop, memory_order_acquire); /* X2: pairs with X1 */
        uint64_t begin_ns = clock_monotonic_ns();
        shard->realtime_ms = clock_realtime_ms();
        shard_take_lanes(shard);
        uint32_t events = shard_sweep(shard);
        shard->looked_ns = begin_ns;
        shard_tell_workers(shard, false);
        shard_maintenance(shard);
        uint64_t now_ns = clock_monotonic_ns();
        if (now_ns - shard->told_ns >= CLOCK_NS_PER_S / 4) {
                shard_tell_workers(shard, true);
                shard->told_ns = now_ns;
        }
        if (events > 0) {
                uint64_t turn_ns = now_ns - begin_ns;
                if (turn_ns > counter_get(shard->options.counters, COUNTER_router_turn_max_ns))
                        counter_set(shard->options.counters, COUNTER_router_turn_max_ns, turn_ns);
                shard->last_event_ns = now_ns;
        }
        *ret_events = events;
        if (!stop || ((events > 0 || shard->journal_full) && now_ns < shard->stop_deadline_ns))
                return true;
        shard_tell_workers(shard, true);
        return false;
}

void shard_run(struct shard *shard)
{
        shard_pin(shard);
        shard->last_event_ns = clock_monotonic_ns();
        uint32_t events = 0;
        while (shard_turn(shard, &events)) {
                if (events >= SHARD_BUSY_EVENTS)
                        continue;
                if (!atomic_load_explicit(&shard->stop, memory_order_relaxed))
                        shard_idle(shard, clock_monotonic_ns());
                else if (shard->journal_full)
                        clock_nap_ns(SHARD_FULL_NAP_NS); /* the next segment is on its way */
        }
}
