/* What world.c makes happen and judge.c looks at. */
#ifndef SENDRING_TESTS_SIM_WORLD_H
#define SENDRING_TESTS_SIM_WORLD_H

#include "base/err.h"
#include "egress/worker.h"
#include "journal/journal.h"
#include "ring/ring_internal.h"
#include "router/router_internal.h"
#include "tests/sim/sim.h"

#define WORLD_EVENTS_MAX 2048u
#define WORLD_LANES_MAX  3u
#define WORLD_SHARDS_MAX 2u
#define WORLD_LOGS_MAX   (2 * WORLD_SHARDS_MAX) /* of all types, and of Open where it is shed */
#define WORLD_PORT       7000u                  /* and those after it; the plan names them */
#define WORLD_HEALED_NS  (600 * CLOCK_NS_PER_S) /* the longest that healing may take */
#define WORLD_SHRUNK_NS  (5 * CLOCK_NS_PER_S)   /* until readers have let go of old segments */
#define WORLD_STEPS_MAX  400000u

#define WORLD_DIRECTORY "/var/lib/sendring"
#define WORLD_SETS      "/etc/sendring/configuration-sets.yaml"
#define WORLD_FILE      "/var/log/sendring/events.ndjson"

/* What an event names, and where events may come to (plan.c). */
enum world_set { SET_ALPHA, SET_BETA, SET_FILE, SET_ALL, SET_UNKNOWN, SET_MALFORMED, SETS_COUNT };
enum world_sink { SINK_ALPHA, SINK_BETA, SINK_FILE, SINK_GAMMA, SINK_CLOUDWATCH, SINKS_COUNT };

/* hardships.c. */
enum world_hardship {
        HARDSHIP_NONE,
        HARDSHIP_LATE_SYNCS,   /* durability host: long between two syncs that go well, and the power goes */
        HARDSHIP_HUNG_FILE,    /* what is asked of the file destination may be done at the next start, or never */
        HARDSHIP_LIMITS,       /* the journal's limit and its retention are others at each start */
        HARDSHIP_TARGETS_SYNC, /* durability host: the targets files cannot be synced */
        HARDSHIP_SIGNATURES,   /* keys are replaced, and the host's clock is set */
};

struct world_event {
        enum world_set set;
        bool open;      /* an Open event, else a Send */
        uint32_t bytes; /* as published */
        bool flushed;
        uint8_t must, may; /* bits by enum world_sink: where it goes by each, by any of the sets that may route it */
        bool excused;      /* a power cut came before its publisher could know that it was safe, or after a loss that it
                            * may have been in */
        uint64_t published_ns;
        uint64_t requests_before; /* that beta had had then */
        uint64_t end_position;    /* in its lane */
        uint8_t lane;
        uint32_t lane_life;
};

struct world_lane {
        struct ring_lane *lane;
        struct ring_producer producer;
        uint64_t lane_id;
        int data_fd; /* the keeper's copies */
        int page_fd;
        uint32_t life;          /* a power cut ends it */
        uint64_t full_since_ns; /* 0: it is not */
};

struct world {
        /* by the seed */
        bool host, skips_ambiguous, power_cuts, bulkhead, tiny_journal, sheds, reloads, damages;
        bool refuses; /* some endpoint says at times that it takes nothing */
        double page_loss, kill_chance, request_trouble, disk_trouble;
        uint32_t events_wanted, lanes_count, big_percent, big_bytes_min, batch_bytes, in_flight;
        enum world_hardship hardship;
        double syncs_fail;
        uint64_t sync_every_ns; /* 0: at each turn of the helper */
        bool turns_keys, turns_clock;
        bool many;                /* at each start: one shard or two, one worker or two */
        bool file_changes;        /* whether the file's events tell their ids: with edits of the sets */
        enum world_sink gzip;     /* the stream whose records are compressed; SINKS_COUNT: none */
        uint32_t gzip_events_max; /* of such a record, so that a request has several; 0: as many as usual */

        /* the router, when it runs */
        bool running;
        struct router router; /* as much of it as pressure.c, targets.c and kept.c look at */
        uint32_t logs_count;
        struct ring_bed *beds[WORLD_SHARDS_MAX];
        enum err_code start_code;
        char start_text[ERR_TEXT_BYTES_MAX];
        bool balanced;
        bool turned;

        struct world_lane lanes[WORLD_LANES_MAX];
        struct world_event events[WORLD_EVENTS_MAX];
        uint32_t events_count;
        uint32_t plan; /* what the file says */
        bool gzip_now; /* and of the stream that may be compressed */
        bool file_ids_now;
        uint32_t plans; /* bits: what may be in force, until a shard routes by the file of now */
        uint32_t plan_loaded;
        bool faults_off;
        uint64_t start_at_ns;
        uint64_t started_ns; /* the last router that came up */
        bool forgets;        /* a lost page, and the targets file that would have told how much stood in it */
        uint64_t written_lost_ns[WORLD_LOGS_MAX]; /* when a written page of the log was lost last */
        uint64_t size_bytes_max;                  /* of all logs, at the last start */
        uint64_t sync_due_ns;
        uint64_t shed_before[WORLD_LOGS_MAX], shed_since_ns[WORLD_LOGS_MAX]; /* what is being given up */
        uint64_t file_settled; /* power cuts without durability host: what had come to the file before */
        struct sim_result result;
};
extern struct world world;

/* It may have stood in a written page that is lost: a power cut may take the count of those. */
static inline bool world_may_be_lost(const struct world_event *event)
{
        return event->published_ns <= world.written_lost_ns[0] ||
               (event->open && event->published_ns <= world.written_lost_ns[1]);
}

/* ---- producers.c */

void world_producers_prepare(void);
void world_lane_open(uint32_t index);
/* By the router that was just started, where an earlier one left off. */
void world_lane_adopt(uint32_t index);
/* Through any of the lanes. False: it is full. */
bool world_publish(void);
/* The event may be routed by these sets as well (bits). */
void world_route(struct world_event *event, uint32_t plans);
/* What flushing producers are told now. */
void world_look_at_durable(void);

/* ---- hardships.c */

void world_choose_hardship(void);
/* After sim_disk_faults was chosen. */
void world_hardship_disk(void);
uint64_t world_hardship_segments(uint64_t usual);
void world_hardship_retention(struct journal_options *options);
/* Of one start. */
uint32_t world_hardship_count(void);
/* Now is when a power cut finds most. */
bool world_hardship_cuts(void);
void world_hardship_load_keys(struct egress_credentials *shared, bool start);
void world_hardship_step(void);
/* The faults end. */
void world_hardship_over(void);

/* ---- plan.c */

#define SIM_PLANS_COUNT 4u
/* As the seed has its destinations, and with compression as the file has it now; until the next call. */
const char *sim_plan_text(uint32_t plan);
/* Bits by enum world_sink. */
uint8_t sim_plan_sinks(uint32_t plan, enum world_set set, bool open);

/* ---- judge.c: what must hold; each fails the seed when it does not */

/* Every ledger balances; the router runs. */
void sim_judge_ledgers(void);
/* With one endpoint dead from the beginning and no other trouble: the other one's events are not late. True: some that
 * must come there soon have not come yet. */
bool sim_judge_bulkhead(void);
/* What is given up is given up soon, and so no lane is full for long; keys and clocks that change park nobody. True:
 * something is being given up. */
bool sim_judge_progress(void);
/* Everything is delivered: the journal is within its limit, or comes there; `now`: it must be. */
bool sim_judge_size(bool now);
/* Everything is delivered, the router runs still. */
void sim_judge_end(void);

#endif
