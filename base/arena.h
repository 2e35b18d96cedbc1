/* An arena holds things that die together: one configuration generation, one batch, one request. Allocation moves a
 * pointer through blocks; nothing is freed alone. One thread at a time. Not for the hot path: blocks come from malloc.
 */
#ifndef SENDRING_BASE_ARENA_H
#define SENDRING_BASE_ARENA_H

#include "base/slice.h"

#include <stddef.h>

struct arena_block;

struct arena {
        struct arena_block *blocks; /* newest first */
        size_t block_bytes;         /* size of an ordinary block */
        size_t allocated_bytes;     /* all blocks together, headers included */
        size_t limit_bytes;         /* 0: none */
};

/* `block_bytes` is the usual block size (0: 64 KiB); `limit_bytes` bounds the sum of all blocks (0: no bound). */
void arena_init(struct arena *arena, size_t block_bytes, size_t limit_bytes);
/* Frees every block. Everything handed out is gone. */
void arena_release(struct arena *arena);
/* Like release, but keeps one ordinary block for the next use. */
void arena_clear(struct arena *arena);

/* `size_bytes` zeroed bytes, aligned for any type; NULL when memory or the limit is exhausted. Size 0 is allowed. */
void *arena_alloc(struct arena *arena, size_t size_bytes);
/* count * size_bytes with the product checked. */
void *arena_alloc_array(struct arena *arena, size_t count, size_t size_bytes);
/* A copy with a NUL behind it (not counted in the slice); a NULL pointer when memory is exhausted. */
struct slice arena_copy(struct arena *arena, struct slice s);
char *arena_copy_text(struct arena *arena, const char *text);
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
