/* Random numbers for jitter, ids and tests; not for keys. One generator per thread. */
#ifndef SENDRING_BASE_RANDOM_H
#define SENDRING_BASE_RANDOM_H

#include <stdint.h>

struct random_state {
        uint64_t s[4];
};

/* Seeds from the kernel, or from `seed` when it is not 0 (tests and benches: the same numbers every time). */
void random_init(struct random_state *random, uint64_t seed);
uint64_t random_u64(struct random_state *random);
/* Uniform in 0..bound-1; bound 0 gives 0. */
uint64_t random_below(struct random_state *random, uint64_t bound);
/* Uniform in [0, 1). */
double random_unit(struct random_state *random);

#endif
