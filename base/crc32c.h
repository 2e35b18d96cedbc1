/* CRC-32C by ISA-L, as its crc32_iscsi(): nothing is inverted, `seed` is the value so far. Whoever includes this links
 * ISA-L, which neither base/'s library nor libsendring does. Any thread. */
#ifndef SENDRING_BASE_CRC32C_H
#define SENDRING_BASE_CRC32C_H

#include "base/assert.h"
#include "base/vector.h"

#include <isa-l/crc.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

static inline uint32_t crc32c(uint32_t seed, const void *bytes, size_t len)
{
        ASSERT_SLOW(len <= INT_MAX);
        /* It takes no const pointer and an int. */
        uint32_t crc = crc32_iscsi((unsigned char *)(uintptr_t)bytes, (int)len, seed);
        vector_clear_uppers();
        return crc;
}

#endif
