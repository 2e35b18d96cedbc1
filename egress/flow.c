#include "egress/flow.h"

#include "base/assert.h"

void flow_init(struct flow *flow, const struct flow_options *options)
{
        ASSERT(options->in_flight_max > 0);
        *flow = (struct flow){
                .options = *options, .limit = 1, .threshold = options->in_flight_max, .budget = FLOW_BUDGET_MAX};
}

/* ---------------------------------------------------------------------------------------------- rates */

static void flow_bucket_set(struct flow_bucket *bucket, uint64_t rate)
{
        if (bucket->rate != rate)
                *bucket = (struct flow_bucket){.rate = rate}; /* what is owed at another rate is let go */
}

void flow_set_rates(struct flow *flow, const struct rules_rates *rates)
{
        flow_bucket_set(&flow->records, rates->records);
        flow_bucket_set(&flow->bytes, rates->bytes);
        flow_bucket_set(&flow->requests, rates->requests);
}

static void flow_bucket_pay(struct flow_bucket *bucket, uint64_t now_ns, uint64_t amount)
{
        if (bucket->rate == 0)
                return;
        uint64_t oldest_ns = now_ns > FLOW_BURST_NS ? now_ns - FLOW_BURST_NS : 0;
        if (bucket->paid_ns < oldest_ns)
                bucket->paid_ns = oldest_ns;
        bucket->paid_ns += (uint64_t)((double)amount * (double)CLOCK_NS_PER_S / (double)bucket->rate);
}

static uint64_t flow_request_max(const struct flow_bucket *bucket)
{
        if (bucket->rate == 0)
                return UINT64_MAX;
        uint64_t most = bucket->rate / (CLOCK_NS_PER_S / FLOW_BURST_NS);
        return most == 0 ? 1 : most;
}

uint64_t flow_request_bytes_max(const struct flow *flow)
{
        return flow_request_max(&flow->bytes);
}

uint64_t flow_request_records_max(const struct flow *flow)
{
        return flow_request_max(&flow->records);
}

/* ---------------------------------------------------------------------------------------------- sending */

uint64_t flow_may_send_ns(struct flow *flow, uint32_t in_flight, uint64_t now_ns)
{
        uint32_t limit = flow->failures > 0 ? 1 : (uint32_t)flow->limit;
        if (in_flight >= limit)
                return UINT64_MAX;
        if (flow->hold_until_ns > now_ns)
                return flow->hold_until_ns;
        uint64_t paid_ns = flow->requests.paid_ns;
        if (flow->records.paid_ns > paid_ns)
                paid_ns = flow->records.paid_ns;
        if (flow->bytes.paid_ns > paid_ns)
                paid_ns = flow->bytes.paid_ns;
        if (paid_ns > now_ns && flow->paced_since_ns == 0)
                flow->paced_since_ns = now_ns;
        if (paid_ns > now_ns)
                flow->paced_until_ns = paid_ns;
        return paid_ns;
}

uint64_t flow_begin(struct flow *flow)
{
        return ++flow->newest;
}

void flow_pay(struct flow *flow, uint64_t now_ns, uint64_t records, uint64_t bytes)
{
        if (flow->paced_since_ns != 0)
                flow->paced_ns +=
                        (now_ns < flow->paced_until_ns ? now_ns : flow->paced_until_ns) - flow->paced_since_ns;
        flow->paced_since_ns = 0;
        flow_bucket_pay(&flow->records, now_ns, records);
        flow_bucket_pay(&flow->bytes, now_ns, bytes);
        flow_bucket_pay(&flow->requests, now_ns, 1);
}

/* ---------------------------------------------------------------------------------------------- answers */

static void flow_hold(struct flow *flow, uint64_t until_ns)
{
        flow->hold_until_ns = flow->ours_until_ns = until_ns;
}

bool flow_is_news(const struct flow *flow, uint64_t number)
{
        return number > flow->troubled;
}

void flow_succeeded(struct flow *flow, uint64_t number)
{
        flow->budget += flow->options.retry_budget_percent / 100.0;
        if (flow->budget > FLOW_BUDGET_MAX)
                flow->budget = FLOW_BUDGET_MAX;
        if (!flow_is_news(flow, number))
                return; /* it was on its way before the trouble began */
        flow->failures = 0;
        flow->parked = false;
        flow_hold(flow, 0);
        flow->limit += flow->limit < flow->threshold ? 1 : 1 / flow->limit;
        if (flow->limit < flow->threshold * FLOW_START_SHARE)
                flow->limit = flow->threshold * FLOW_START_SHARE;
        if (flow->limit > flow->options.in_flight_max)
                flow->limit = flow->options.in_flight_max;
}

/* From half of the longest interval, or whatever multiple of it, to the whole. */
static void flow_hold_long(struct flow *flow, uint32_t intervals, uint64_t now_ns, struct random_state *random)
{
        double delay_ms = (0.5 + 0.5 * random_unit(random)) * intervals * flow->options.retry_max_ms;
        flow_hold(flow, now_ns + (uint64_t)(delay_ms * (double)CLOCK_NS_PER_MS));
}

/* Full jitter, from `base_ms`, doubled with each round that failed before. */
static void flow_hold_jitter(struct flow *flow, uint32_t base_ms, uint64_t now_ns, struct random_state *random)
{
        double delay_ms = base_ms;
        for (uint32_t i = 1; i < flow->failures && delay_ms < flow->options.retry_max_ms; i++)
                delay_ms *= 2;
        if (delay_ms > flow->options.retry_max_ms)
                delay_ms = flow->options.retry_max_ms;
        flow_hold(flow, now_ns + (uint64_t)(delay_ms * random_unit(random) * (double)CLOCK_NS_PER_MS));
}

bool flow_failed(struct flow *flow, uint64_t number, enum flow_failure failure, double share, uint64_t now_ns,
                 struct random_state *random)
{
        double cost = failure == FLOW_THROTTLED ? 0 : share;
        bool affordable = flow->budget >= cost;
        flow->budget = affordable ? flow->budget - cost : 0;
        bool news = flow_is_news(flow, number);
        if (!news && (failure != FLOW_REFUSED || flow->parked))
                return false;
        flow->troubled = flow->newest;
        if (share < 1) {
                flow->failures = 0;
                flow->parked = false;
        } else if (news) {
                flow->failures++;
        }
        uint32_t base_ms = flow->options.retry_base_ms;
        switch (failure) {
        case FLOW_REFUSED:
                flow->parked = true;
                flow->limit = 1;
                flow_hold_long(flow, FLOW_PARKED_HOLDS, now_ns, random);
                return true;
        case FLOW_THROTTLED:
                flow->limit = flow->limit > 2 ? flow->limit / 2 : 1;
                flow->threshold = flow->limit;
                base_ms = flow->options.retry_throttle_base_ms;
                break;
        case FLOW_MENDED:
                flow->limit = 1;
                if (flow->failures == 1) {
                        flow_hold(flow, now_ns);
                        return true;
                }
                break;
        case FLOW_CREDENTIALS:
                flow->limit = 1;
                base_ms = flow->options.retry_throttle_base_ms;
                break;
        case FLOW_FAILED:
                if (share >= 1)
                        flow->limit = 1;
                break;
        }
        if (affordable)
                flow_hold_jitter(flow, base_ms, now_ns, random);
        else
                flow_hold_long(flow, 1, now_ns, random);
        return true;
}

void flow_wish(struct flow *flow, uint64_t until_ns, uint64_t more_ns_max)
{
        uint64_t most_ns = flow->ours_until_ns + more_ns_max;
        if (until_ns > most_ns)
                until_ns = most_ns;
        if (flow->hold_until_ns < until_ns)
                flow->hold_until_ns = until_ns;
}

void flow_hold_at_most(struct flow *flow, uint64_t until_ns)
{
        if (flow->hold_until_ns > until_ns)
                flow->hold_until_ns = until_ns;
        if (flow->ours_until_ns > until_ns)
                flow->ours_until_ns = until_ns;
}
