/* What benches make of many measurements. */
#ifndef SENDRING_BENCH_FIGURES_H
#define SENDRING_BENCH_FIGURES_H

#include <stddef.h>
#include <stdlib.h>

static inline int figures_compare(const void *a, const void *b)
{
        double left = *(const double *)a, right = *(const double *)b;
        return left < right ? -1 : left > right;
}

/* Sorts. 0 of none. */
static inline double figures_percentile(double *values, size_t count, double percent)
{
        if (count == 0)
                return 0;
        qsort(values, count, sizeof(values[0]), figures_compare);
        size_t at = (size_t)((double)count * percent / 100);
        return values[at < count ? at : count - 1];
}

/* Sorts. */
static inline double figures_median(double *values, size_t count)
{
        return figures_percentile(values, count, 50);
}

#endif
