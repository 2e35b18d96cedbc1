#include "base/random.h"

#include "base/clock.h"

#include <sys/random.h>

static uint64_t random_splitmix(uint64_t *state)
{
        uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

void random_init(struct random_state *random, uint64_t seed)
{
        if (seed == 0 && getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
                seed = clock_monotonic_ns(); /* jitter only: a poor seed is still a seed */
        for (int i = 0; i < 4; i++)
                random->s[i] = random_splitmix(&seed);
}

static uint64_t random_rotate(uint64_t x, int bits)
{
        return (x << bits) | (x >> (64 - bits));
}

/* xoshiro256** by Blackman and Vigna. */
uint64_t random_u64(struct random_state *random)
{
        uint64_t *s = random->s;
        uint64_t result = random_rotate(s[1] * 5, 7) * 9;
        uint64_t t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = random_rotate(s[3], 45);
        return result;
}

uint64_t random_below(struct random_state *random, uint64_t bound)
{
        return (uint64_t)(((__uint128_t)random_u64(random) * bound) >> 64);
}

double random_unit(struct random_state *random)
{
        return (double)(random_u64(random) >> 11) * (1.0 / 9007199254740992.0);
}
