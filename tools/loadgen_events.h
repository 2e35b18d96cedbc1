/* The events of `sendring loadgen`: the standard mix of the project's figures, made cheaply.
 *
 * Strings lie in pools built once; an event is a handful of copies and hex digits over a prepared struct, chosen by a
 * hash of (seed, producer, index): no printf, no allocation, nothing repeated that would make compression look too
 * good. The same arguments give the same event. */
#ifndef SENDRING_TOOLS_LOADGEN_EVENTS_H
#define SENDRING_TOOLS_LOADGEN_EVENTS_H

#include "sendring/sendring.h"

#include <stdbool.h>
#include <stdint.h>

#define LOADGEN_TYPES_COUNT     10
#define LOADGEN_MIX_SLOTS       1000 /* a permille each: the mix is exact over any 1,000 events in a row */
#define LOADGEN_SETS_MAX        64
#define LOADGEN_SETS_DEFAULT    8
#define LOADGEN_CAMPAIGNS_COUNT 20
#define LOADGEN_TENANTS_COUNT   50

enum loadgen_size {
        LOADGEN_SIZE_SMALL,    /* no auto-tags, 2 tags */
        LOADGEN_SIZE_STANDARD, /* 3 auto-tags, 8 tags: about 840 bytes of JSON */
        LOADGEN_SIZE_LARGE,    /* all auto-tags, 8 tags, original headers */
};

struct loadgen_events_options {
        uint32_t run_id;
        uint16_t producer;
        uint64_t seed;
        uint16_t permille[LOADGEN_TYPES_COUNT]; /* by type - 1; their sum is LOADGEN_MIX_SLOTS */
        enum loadgen_size size;
        const char *const *sets;  /* configuration set names; must outlive the generator */
        uint32_t sets_count;      /* 1..LOADGEN_SETS_MAX */
        uint32_t campaigns_count; /* 1..LOADGEN_CAMPAIGNS_COUNT; 0: all of them */
        uint32_t tenants_count;   /* 1..LOADGEN_TENANTS_COUNT; 0: all of them */
        bool blocked;             /* bounces and delays are those of one provider that blocks the sender */
};

/* "standard", "all" (the ten types evenly) or one type ("send", "delivery_delay", ...). False for anything else. */
bool loadgen_mix_parse(const char *text, uint16_t ret_permille[LOADGEN_TYPES_COUNT]);
/* "small", "standard", "large". */
bool loadgen_size_parse(const char *text, enum loadgen_size *ret_size);
/* "send", "rendering_failure", ... by type; NULL out of range. */
const char *loadgen_type_name(enum sendring_event_type type);

struct loadgen_events;

/* NULL when memory is exhausted. */
struct loadgen_events *loadgen_events_create(const struct loadgen_events_options *options);
void loadgen_events_free(struct loadgen_events *events);

/* The event number `index` (0..LOADGEN_ID_INDEX_MAX), happening now. Valid, with all its text, until the next call.
 * *ret_set is the number of its configuration set. */
const struct sendring_event *loadgen_events_make(struct loadgen_events *events, uint64_t index, int64_t now_ms,
                                                 uint32_t *ret_set);
/* The same of one type, whatever the mix says. */
const struct sendring_event *loadgen_events_make_type(struct loadgen_events *events, uint64_t index,
                                                      enum sendring_event_type type, int64_t now_ms, uint32_t *ret_set);
/* How much later than the millisecond that is given the events are, 0..999, from now on: their ids say so. */
void loadgen_events_set_behind_us(struct loadgen_events *events, uint32_t behind_us);

#endif
