/* When a target may send: how many requests at a time, how fast, and when again after a failure. Arithmetic only: no
 * I/O, no memory, no clock but the one that is handed in (monotonic ns), so that tests run it on a clock of their own.
 *
 * At a time: one while the last request failed, the prober, whatever was in flight before. Its success brings a quarter
 * of the threshold, from where it doubles with each round of answers up to the threshold; then AIMD: one more a round,
 * halved by throttling, which also sets the threshold. An outage says nothing about how much the service takes, so the
 * threshold stays: after it the way back to full speed is short.
 *
 * Again: full jitter from a base that doubles with each round that fails. What was in flight together fails together:
 * later answers to requests that were sent before the last failure change nothing.
 *
 * Budget: each failure costs a retry (a part of one where a part was refused), each success earns retry_budget_percent
 * of one. With none left the target is tried again like one in an outage, at the longest interval: so a service that
 * fails a large share of requests is not asked twice as often. Throttling costs nothing: its pauses are longer from the
 * start, and a stream at its quota is throttled for as long as more comes than it takes.
 *
 * How fast: three token buckets, for records, bytes and requests a second. A request may go when what went before is
 * paid for, and is then paid for by waiting, so that the sum is exact however large it is; what was not used is kept
 * for FLOW_BURST_NS at most.
 *
 * Inside egress/ only. */
#ifndef SENDRING_EGRESS_FLOW_H
#define SENDRING_EGRESS_FLOW_H

#include "base/clock.h"
#include "base/random.h"
#include "rules/rules.h"

#include <stdbool.h>
#include <stdint.h>

/* How long an idle target's rates accumulate. Long enough that a worker that comes late loses nothing. */
#define FLOW_BURST_NS (250 * CLOCK_NS_PER_MS)
/* Retries in hand at the start, and at most. */
#define FLOW_BUDGET_MAX 10.0
/* What the first success brings, of the threshold: the host is one of many, the service large. */
#define FLOW_START_SHARE 0.25
/* A parked target is probed within this multiple of the longest interval, and not before half of it. */
#define FLOW_PARKED_HOLDS 6u

enum flow_failure {
        FLOW_FAILED,      /* no answer, or one that the service is to blame for */
        FLOW_THROTTLED,   /* it asks for less */
        FLOW_CREDENTIALS, /* others are on their way */
        FLOW_MENDED,      /* what was wrong is put right: the first time it is tried again at once */
        FLOW_REFUSED,     /* for good: parked until somebody acts, probed now and then */
};

struct flow_options {
        uint32_t in_flight_max;
        uint32_t retry_base_ms, retry_throttle_base_ms, retry_max_ms;
        uint32_t retry_budget_percent;
};

struct flow_bucket {
        uint64_t rate;    /* a second; 0: no limit */
        uint64_t paid_ns; /* when all that went is paid for */
};

/* Fields may be read; only the functions below write them. */
struct flow {
        struct flow_options options;
        double limit, threshold; /* requests at a time: 1..in_flight_max */
        uint32_t failures;       /* rounds in a row that failed */
        bool parked;
        uint64_t hold_until_ns; /* nothing is sent before */
        uint64_t ours_until_ns; /* that, but for what the service wishes */
        uint64_t newest;        /* number of the newest request */
        uint64_t troubled;      /* number of the newest request when one failed last: older ones are old news */
        double budget;          /* retries in hand */
        struct flow_bucket records, bytes, requests;
        uint64_t paced_since_ns; /* a request waits for the rates alone since then; 0: none does */
        uint64_t paced_until_ns; /* and at most until then */
        uint64_t paced_ns;       /* all such waits */
};

void flow_init(struct flow *flow, const struct flow_options *options);
void flow_set_rates(struct flow *flow, const struct rules_rates *rates);

/* When the next request may go, with `in_flight` under way: at once when that is not after `now_ns`; UINT64_MAX: when
 * one of those has ended. */
uint64_t flow_may_send_ns(struct flow *flow, uint32_t in_flight, uint64_t now_ns);
/* A request begins. Returns its number, for what comes of it. */
uint64_t flow_begin(struct flow *flow);
/* It has gone, and is paid for. */
void flow_pay(struct flow *flow, uint64_t now_ns, uint64_t records, uint64_t bytes);
/* A request should not be larger: what may go in FLOW_BURST_NS. UINT64_MAX, no limit; at least 1. */
uint64_t flow_request_bytes_max(const struct flow *flow);
uint64_t flow_request_records_max(const struct flow *flow);

void flow_succeeded(struct flow *flow, uint64_t number);
/* `share` of the request is to be sent again: 1, or less when the rest was accepted: then the service works, and this
 * is no failure in a row. False: old news. */
bool flow_failed(struct flow *flow, uint64_t number, enum flow_failure failure, double share, uint64_t now_ns,
                 struct random_state *random);
#define FLOW_NEVER_SENT UINT64_MAX /* the number of what failed before it went */
/* No request that failed since has told of it: it was not on its way then. */
bool flow_is_news(const struct flow *flow, uint64_t number);

/* The service wishes for it: not before, but no more than `more_ns_max` later than we would send by ourselves, however
 * many answers say so. */
void flow_wish(struct flow *flow, uint64_t until_ns, uint64_t more_ns_max);
/* Whoever waits for something that has come, or costs nothing to look for: no later than that. */
void flow_hold_at_most(struct flow *flow, uint64_t until_ns);

#endif
