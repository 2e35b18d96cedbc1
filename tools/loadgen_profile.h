/* The profiles of `sendring loadgen`: loads whose rate and mix change over the run as those of real mail do.
 *
 * A profile is a table of parts: an event type, its share of all events, and the curve of its rate over the run. A plan
 * lays it over a number of events and a duration: 1,024 cells of time, each with how many events come in it and of
 * which types. A producer's cursor walks the plan; producers take turns, so that together they keep to it whatever
 * their number is. The load is open: when an event is due depends on the plan alone. The same arguments give the same
 * times and types. */
#ifndef SENDRING_TOOLS_LOADGEN_PROFILE_H
#define SENDRING_TOOLS_LOADGEN_PROFILE_H

#include "base/random.h"
#include "tools/loadgen_events.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define LOADGEN_PROFILE_CELLS 1024u

/* The rate of a part over the run; times are fractions of it. Each is scaled so that its whole share comes within the
 * run. */
enum loadgen_curve {
        LOADGEN_CURVE_EVEN,  /* the same all the time */
        LOADGEN_CURVE_DECAY, /* a burst at 0 that falls by e each `fall`, seen through a delay of `lag` on average */
        LOADGEN_CURVE_STEP,  /* at a level until `at`, at another from then on */
        LOADGEN_CURVE_SPIKE, /* nothing until `at`, then a burst that falls by e each `fall` */
};

struct loadgen_profile_part {
        enum sendring_event_type type; /* a type may have several parts */
        uint16_t permille;             /* of all events of the run; all parts together make 1,000 */
        enum loadgen_curve curve;
        double fall, lag;            /* DECAY, and fall of SPIKE; they differ from each other */
        double at, before, from_now; /* STEP: the level before `at` and from it on; SPIKE: `at` */
};

#define LOADGEN_PROFILE_PARTS_MAX 12u

struct loadgen_profile {
        const char *name;
        const char *text;  /* what happens, lines for a terminal */
        double rate;       /* events a second on average, when none is asked for */
        double duration_s; /* when none is asked for */
        bool poisson;      /* arrivals are independent; else each event comes within its own small part of the curve */
        bool blocked;      /* bounces and delays are those of one provider that blocks the sender */
        enum loadgen_size size;
        uint32_t sets_count, campaigns_count, tenants_count;
        struct loadgen_profile_part parts[LOADGEN_PROFILE_PARTS_MAX]; /* up to the first with permille 0 */
};

/* NULL: there is none of that name. */
const struct loadgen_profile *loadgen_profile_find(const char *name);
/* NULL behind the last one. */
const struct loadgen_profile *loadgen_profile_at(uint32_t index);
/* Share of a type among all events of the run, in permille. */
uint32_t loadgen_profile_permille(const struct loadgen_profile *profile, enum sendring_event_type type);
/* The highest rate over the average one. */
double loadgen_profile_peak(const struct loadgen_profile *profile);
/* What --list-profiles prints: each with its figures. */
void loadgen_profile_list(FILE *out);

struct loadgen_profile_plan {
        uint64_t events_count; /* of all producers; with Poisson arrivals their mean */
        uint64_t duration_ns;
        uint32_t producers_count;
        uint64_t seed;
        bool poisson;
        double until[LOADGEN_PROFILE_CELLS + 1]; /* share of the events that come before the cell: 0 to 1 */
        float types[LOADGEN_PROFILE_CELLS][LOADGEN_TYPES_COUNT]; /* within the cell: of this type or one before it */
};

/* `events_count` and `duration_ns` at least 1. */
void loadgen_profile_plan(const struct loadgen_profile *profile, uint64_t events_count, uint64_t duration_ns,
                          uint32_t producers_count, uint64_t seed, struct loadgen_profile_plan *ret_plan);

struct loadgen_profile_cursor {
        const struct loadgen_profile_plan *plan;
        uint32_t producer;
        uint64_t index;
        double quantile; /* of the last event */
        uint32_t cell;
        struct random_state random;
};

/* `producer` counts from 0 to plan->producers_count - 1. */
void loadgen_profile_begin(struct loadgen_profile_cursor *cursor, const struct loadgen_profile_plan *plan,
                           uint32_t producer);
/* The producer's next event: due how long after the start, never before the one before it, and its type. False: there
 * are no more. */
bool loadgen_profile_next(struct loadgen_profile_cursor *cursor, uint64_t *ret_due_ns,
                          enum sendring_event_type *ret_type);

#endif
