#include "base/heap.h"

#include <stddef.h>

/* Weak: not every program is linked with jemalloc. */
int mallctl(const char *name, void *old, size_t *old_bytes, void *fresh, size_t fresh_bytes) __attribute__((weak));

uint64_t heap_allocated_bytes(void)
{
        uint64_t epoch = 1;
        size_t bytes = 0, word = sizeof(bytes);
        /* The epoch: statistics are those of the last time that it moved. */
        if (mallctl == NULL || mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch)) != 0 ||
            mallctl("stats.allocated", &bytes, &word, NULL, 0) != 0)
                return 0;
        return bytes;
}
