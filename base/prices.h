/* What AWS asks for what sendring sends, in US dollars: one table, list prices before tax and free tiers. Check it
 * against the pages that it names before a decision hangs on it; other regions and discounts are `sendring cost
 * --prices` (rules/rules.h reads that file). */
#ifndef SENDRING_BASE_PRICES_H
#define SENDRING_BASE_PRICES_H

#include <stdint.h>

#define PRICE_TIERS_MAX 8u

/* The amounts of a month, cheaper the more there are: the first tier holds up to its `up_to`, the next what is above,
 * up to its own. The last one's is INFINITY. */
struct price_tiers {
        struct price_tier {
                double up_to, usd;
        } tiers[PRICE_TIERS_MAX];
        uint32_t count; /* at least 1 */
};

/* What `amount` (>= 0) of them costs. */
double price_of(const struct price_tiers *tiers, double amount);

#define PRICE_NAME_BYTES_MAX 63u
struct prices {
        char region[PRICE_NAME_BYTES_MAX + 1]; /* for people */
        char date[PRICE_NAME_BYTES_MAX + 1];   /* when they were read */
        struct price_tiers firehose_gb;        /* of PRICE_GB_BYTES, Direct PUT, each record rounded up to the step */
        uint64_t firehose_step_bytes;
        struct price_tiers cloudwatch_metric; /* of a custom metric that is there in every hour of the month */
        double cloudwatch_thousand_requests;  /* PutMetricData, however many data they hold */
};
#define PRICE_GB_BYTES 1073741824.0 /* AWS's calculator counts 1,024 KB to the MB, and so on */

extern const struct prices prices_us_east_1;

#endif
