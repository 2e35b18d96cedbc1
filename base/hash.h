/* A fast hash of bytes for tables in memory: multiply and fold, eight bytes a step. Seeded, so that names sent by
 * others cannot be made to collide; the same for ever with the same seed on the same kind of machine. Not for secrets.
 */
#ifndef SENDRING_BASE_HASH_H
#define SENDRING_BASE_HASH_H

#include "base/slice.h"

__extension__ typedef unsigned __int128 hash_wide;

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
        hash_wide product = (hash_wide)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_read(const uint8_t *at, size_t bytes)
{
        uint64_t word = 0;
        memcpy(&word, at, bytes);
        return word;
}

/* The last step may read some bytes twice. */
static inline uint64_t hash_bytes(uint64_t seed, struct slice text)
{
        const uint64_t k = UINT64_C(0x9e3779b97f4a7c15);
        uint64_t hash = seed ^ (text.len * k);
        const uint8_t *at = text.ptr;
        size_t left = text.len;
        for (; left > 8; left -= 8, at += 8)
                hash = hash_mix(hash ^ hash_read(at, 8), k ^ seed);
        uint64_t tail = 0;
        if (text.len >= 8)
                tail = hash_read(at + left - 8, 8);
        else if (left >= 4)
                tail = hash_read(at, 4) << 32 | hash_read(at + left - 4, 4);
        else if (left > 0)
                tail = (uint64_t)at[0] << 16 | (uint64_t)at[left / 2] << 8 | at[left - 1];
        return hash_mix(hash ^ tail, UINT64_C(0xd6e8feb86659fd93));
}

#endif
