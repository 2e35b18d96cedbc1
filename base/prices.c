#include "base/prices.h"

#include "base/assert.h"

#include <math.h>

const struct prices prices_us_east_1 = {
        .region = "us-east-1",
        .date = "2026-11-23",
        /* https://aws.amazon.com/firehose/pricing/: the first 500 TB of a month, the next 1.5 PB, the next 3 PB. The
         * rounding is said in https://docs.aws.amazon.com/firehose/latest/dev/limits.html; it is for each record, not
         * for each call. What is above 5 PB is a matter of agreement: here it costs as much as the last. */
        .firehose_gb = {.tiers = {{500.0 * 1024, 0.029}, {2000.0 * 1024, 0.025}, {INFINITY, 0.020}}, .count = 3},
        .firehose_step_bytes = 5120,
        /* https://aws.amazon.com/cloudwatch/pricing/: the first 10,000 metrics, the next 240,000, the next 750,000.
         * They are counted by the hour. */
        .cloudwatch_metric = {.tiers = {{10000, 0.30}, {250000, 0.10}, {1000000, 0.05}, {INFINITY, 0.02}}, .count = 4},
        .cloudwatch_thousand_requests = 0.01, /* the same page */
};

double price_of(const struct price_tiers *tiers, double amount)
{
        ASSERT(tiers->count > 0 && tiers->count <= PRICE_TIERS_MAX);
        double usd = 0, before = 0;
        for (uint32_t i = 0; i < tiers->count && amount > before; i++) {
                double end = i + 1 < tiers->count && amount > tiers->tiers[i].up_to ? tiers->tiers[i].up_to : amount;
                usd += (end - before) * tiers->tiers[i].usd;
                before = end;
        }
        return usd;
}
