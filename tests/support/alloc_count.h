/* Counts the calling thread's allocations, those of libraries included, by standing in front of the C library's malloc.
 * Include it in one file of a test program. Sanitizers bring their own allocator: there the count stays 0 and
 * ALLOC_COUNT_WORKS is 0. */
#ifndef SENDRING_TESTS_ALLOC_COUNT_H
#define SENDRING_TESTS_ALLOC_COUNT_H

#include "tests/support/sanitizers.h"

#include <stddef.h>
#include <stdint.h>

static _Thread_local uint64_t alloc_count;

#if SANITIZER_ADDRESS || SANITIZER_THREAD
#define ALLOC_COUNT_WORKS 0
#else
#define ALLOC_COUNT_WORKS 1

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
__attribute__((visibility("default"))) void *malloc(size_t bytes);
__attribute__((visibility("default"))) void *calloc(size_t count, size_t bytes);
__attribute__((visibility("default"))) void *realloc(void *old, size_t bytes);

void *malloc(size_t bytes)
{
        alloc_count++;
        return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
        alloc_count++;
        return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
        alloc_count++;
        return __libc_realloc(old, bytes);
}
#endif

#endif
