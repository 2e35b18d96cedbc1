/* A histogram of nanoseconds with logarithmic buckets: 32 to each power of two, so that a percentile is at most 3 %
 * above the true value, whatever its size. Fixed size, no allocation, mergeable by addition. */
#ifndef SENDRING_TOOLS_LOADGEN_HISTOGRAM_H
#define SENDRING_TOOLS_LOADGEN_HISTOGRAM_H

#include <stdint.h>

#define LOADGEN_HISTOGRAM_SUB_BITS 5
#define LOADGEN_HISTOGRAM_BUCKETS  ((65 - LOADGEN_HISTOGRAM_SUB_BITS) << LOADGEN_HISTOGRAM_SUB_BITS)

struct loadgen_histogram {
        uint64_t count;
        uint64_t max;
        uint64_t buckets[LOADGEN_HISTOGRAM_BUCKETS];
};

static inline uint32_t loadgen_histogram_bucket(uint64_t value)
{
        if (value < (1u << LOADGEN_HISTOGRAM_SUB_BITS))
                return (uint32_t)value;
        uint32_t exponent = 63 - (uint32_t)__builtin_clzll(value);
        uint32_t shift = exponent - LOADGEN_HISTOGRAM_SUB_BITS;
        uint32_t sub = (uint32_t)(value >> shift) & ((1u << LOADGEN_HISTOGRAM_SUB_BITS) - 1);
        return ((shift + 1) << LOADGEN_HISTOGRAM_SUB_BITS) + sub;
}

/* The largest value that falls into the bucket. */
static inline uint64_t loadgen_histogram_bucket_max(uint32_t bucket)
{
        uint32_t shift = bucket >> LOADGEN_HISTOGRAM_SUB_BITS;
        uint64_t sub = bucket & ((1u << LOADGEN_HISTOGRAM_SUB_BITS) - 1);
        if (shift == 0)
                return sub;
        shift--;
        return (((1u << LOADGEN_HISTOGRAM_SUB_BITS) | sub) << shift) + ((UINT64_C(1) << shift) - 1);
}

static inline void loadgen_histogram_add(struct loadgen_histogram *histogram, uint64_t value)
{
        histogram->count++;
        histogram->buckets[loadgen_histogram_bucket(value)]++;
        if (value > histogram->max)
                histogram->max = value;
}

static inline void loadgen_histogram_merge(struct loadgen_histogram *into, const struct loadgen_histogram *from)
{
        into->count += from->count;
        if (from->max > into->max)
                into->max = from->max;
        for (uint32_t i = 0; i < LOADGEN_HISTOGRAM_BUCKETS; i++)
                into->buckets[i] += from->buckets[i];
}

/* The smallest bucket bound that at least `share` (0..1) of the values do not exceed, never above the maximum; 0 when
 * there are none. */
static inline uint64_t loadgen_histogram_percentile(const struct loadgen_histogram *histogram, double share)
{
        uint64_t wanted = (uint64_t)(share * (double)histogram->count + 0.999999);
        uint64_t seen = 0;
        for (uint32_t i = 0; i < LOADGEN_HISTOGRAM_BUCKETS; i++) {
                seen += histogram->buckets[i];
                if (seen >= wanted && seen > 0) {
                        uint64_t bound = loadgen_histogram_bucket_max(i);
                        return bound < histogram->max ? bound : histogram->max;
                }
        }
        return histogram->max;
}

#endif
