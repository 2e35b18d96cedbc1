/* What the process has taken from the heap and not given back. */
#ifndef SENDRING_BASE_HEAP_H
#define SENDRING_BASE_HEAP_H

#include <stdint.h>

/* Bytes in use, as jemalloc rounds them up; the small stores that it keeps for each thread count as in use until they
 * are gone through. 0: another allocator serves this process (sanitizers bring their own). Takes the allocator's locks,
 * one after the other, for some milliseconds: rarely asked. */
uint64_t heap_allocated_bytes(void);

#endif
