/* What comes and where it goes, for `sendring cost`: sizes by really encoding sample events, shares by the
 * configuration sets, or both from a running daemon. Cold code: allocates, reads files, says on standard error what is
 * wrong. */
#ifndef SENDRING_TOOLS_COST_TRAFFIC_H
#define SENDRING_TOOLS_COST_TRAFFIC_H

#include "base/arena.h"
#include "base/slice.h"
#include "codecs/codec.h"
#include "rules/rules.h"
#include "tools/cost.h"

#include <stdbool.h>
#include <stdint.h>

#define COST_SAMPLES_STANDARD 1000u /* the standard mix is exact over so many */
#define COST_SAMPLES_MAX      1000000u

/* Events as a producer encodes them. */
struct cost_samples {
        struct arena arena; /* owns them */
        struct slice *encoded;
        uint32_t count;
};
void cost_samples_release(struct cost_samples *samples);
/* The standard mix, of the plan's configuration sets. False: out of memory. */
bool cost_samples_standard(struct cost_samples *samples, const struct rules_plan *plan);
/* SES-shaped events, one a line. CMD_EXIT_OK, or the status to end with: said on standard error. */
int cost_samples_read(struct cost_samples *samples, const char *path);

/* --share NAME=FRACTION */
struct cost_share {
        struct slice set, destination; /* destination empty: the set's part of all events; else what its filter lets
                                        * through */
        double share;
        bool used;
};

/* What sizes are those of. */
enum cost_sizes_from {
        COST_SIZES_STANDARD, /* the standard mix */
        COST_SIZES_GIVEN,    /* --event-size */
        COST_SIZES_FILE,     /* --events */
        COST_SIZES_JOURNAL,  /* measured: events that came meanwhile */
        COST_SIZES_OTHERS,   /* the same, but none of the target's own was among them: those of all others */
};
const char *cost_sizes_from_name(enum cost_sizes_from from); /* "standard_mix", "given", ... */

/* What one target gets. Bytes are an event's JSON with its newline, in the mean; 0 where nothing comes. */
struct cost_flow {
        enum cost_sizes_from sizes_from;
        double share; /* copies for each event that comes */
        double event_bytes, event_billed_bytes;
        struct cost_hour hour; /* CloudWatch: as measured; series 0: not known */
        double gzip_ratio;     /* Firehose with compression: as measured; 0: not known */
};

struct cost_traffic {
        double events_per_s;
        double event_bytes; /* JSON with its newline, of all, without redaction and event ids */
        enum cost_sizes_from sizes_from;
        double encoded_bytes; /* as the producer writes it */
        double journal_bytes;
        double unmatched;        /* part of the events that no destination wants */
        double cpu_us;           /* of the router, as measured; 0: not known */
        uint64_t budget_bytes;   /* as the router that was measured has it; 0: not known */
        struct cost_flow *flows; /* by target; to be freed */
};

struct cost_question {
        const struct rules_plan *plan;
        struct codec_json_options options; /* account, region, partition */
        const struct cost_samples *samples;
        bool match; /* the samples name their sets: they are matched, filters and all */
        enum cost_sizes_from sizes_from;
        double event_bytes; /* 0: those of the samples; else of every event at every destination, with its newline */
        double step_bytes;  /* that Firehose bills in */
        struct cost_share *shares;
        size_t shares_count;
};
/* Everything but events_per_s, cpu_us and budget_bytes. CMD_EXIT_OK, or the status to end with: said on standard error.
 */
int cost_traffic_of(const struct cost_question *question, struct cost_traffic *ret_traffic);

/* An event's JSON at a target (NULL: at none in particular) with its newline. 0: out of memory. */
size_t cost_json_bytes(const struct codec_json_options *as, const struct codec_view *view,
                       const struct rules_target *target);

/* Watches the router of these settings for so long, and puts into *traffic what its counters and its journal say
 * instead: events a second, shares, series, CPU; sizes of as many of the events that came meanwhile as make a sample,
 * each as the target gets it. Of the question only plan, options and step_bytes count. CMD_EXIT_OK, or the status to
 * end with, as above. */
#define COST_MEASURE_EVENTS_MAX 20000u /* of each log of the journal */
int cost_measure(const struct rules_settings *settings, const struct cost_question *question, uint64_t seconds,
                 struct cost_traffic *traffic);

#endif
