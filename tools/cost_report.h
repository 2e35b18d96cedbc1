/* What `sendring cost` answers: computed once, then told as text or as JSON. */
#ifndef SENDRING_TOOLS_COST_REPORT_H
#define SENDRING_TOOLS_COST_REPORT_H

#include "base/prices.h"
#include "router/router.h"
#include "rules/rules.h"
#include "tools/cost.h"
#include "tools/cost_traffic.h"

#include <stdbool.h>
#include <stdint.h>

/* The router's CPU for an event, from a producer's lane to one Firehose destination: journal, rules, JSON, packing,
 * signing, TLS. bench/path, plain packed, on 2 vCPUs of an Intel Xeon with AVX-512 at 2.6 GHz: README.md, "Numbers",
 * says it as seconds for a million events. */
#define COST_CPU_US_DEFAULT 2.23
/* ISA-L's igzip, level 1, on the events of `sendring loadgen` in large records. */
#define COST_GZIP_RATIO_DEFAULT 6.5

/* Of a Firehose stream: as the configuration has it, and as it could be. */
enum cost_variant {
        COST_CONFIGURED,
        COST_NONE,   /* Packing: none, which goes with no compression */
        COST_PACKED, /* Packing: events */
        COST_PACKED_GZIP,
        COST_VARIANTS,
};
extern const char *const cost_variant_names[COST_VARIANTS]; /* "configured", "none", "events", ... */

struct cost_inputs {
        const struct rules_plan *plan;
        const struct rules_settings *settings;
        const struct cost_traffic *traffic;
        const struct prices *prices;
        bool measured;     /* the traffic is that of a running router */
        double gzip_ratio; /* of targets where it was not measured */
        double series;     /* of each CloudWatch target; 0: what was measured, else the budget */
        double cpu_us;
        const char *rate_from, *events_from, *shares_from, *cpu_from; /* for people: where the figures come from */
};

struct cost_line {
        const struct rules_target *target;
        const struct cost_flow *flow;
        double events_per_s;
        double usd; /* a month, as configured */
        struct cost_of_stream {
                struct cost_packed packed;
                double gb; /* billed, a month */
                double usd;
        } streams[COST_VARIANTS]; /* Firehose */
        struct cost_quota quota;  /* of a stream by default */
        double gzip_ratio;        /* of it */
        uint32_t types_mask;      /* that enabled destinations want: bit = 1 << sendring_event_type */
        double series, series_max, series_usd, requests, requests_usd;
        double series_covered_s; /* of the hour that they were measured in; 0: they were not measured */
        double file_bytes_per_s;
};

struct cost_report {
        const struct cost_inputs *inputs;
        struct cost_line *lines; /* by target; to be freed */
        uint32_t lines_count;
        double firehose_usd[COST_VARIANTS], cloudwatch_usd, file_bytes_per_s;
        struct router_budget budget;
        double journal_bytes_per_s, cores;
        uint32_t not_published; /* enabled destinations of services that this version does not publish to */
};

/* False: out of memory. */
bool cost_report_make(const struct cost_inputs *inputs, struct cost_report *ret_report);
void cost_report_release(struct cost_report *report);
void cost_report_print(const struct cost_report *report);
/* One object. False: out of memory. */
bool cost_report_print_json(const struct cost_report *report);

#endif
