#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct arena_block {
        struct arena_block *next;
        size_t size_bytes; /* of `bytes` */
        size_t used_bytes;
        alignas(max_align_t) uint8_t bytes[];
};

#define ARENA_BLOCK_BYTES_DEFAULT ((size_t)64 * 1024)

void arena_init(struct arena *arena, size_t block_bytes, size_t limit_bytes)
{
        *arena = (struct arena){
                .block_bytes = block_bytes == 0 ? ARENA_BLOCK_BYTES_DEFAULT : block_bytes,
                .limit_bytes = limit_bytes,
        };
}

static void arena_free_blocks(struct arena *arena, struct arena_block *keep)
{
        struct arena_block *block = arena->blocks;
        while (block != NULL) {
                struct arena_block *next = block->next;
                if (block != keep) {
                        arena->allocated_bytes -= sizeof(*block) + block->size_bytes;
                        free(block);
                }
                block = next;
        }
        arena->blocks = keep;
}

void arena_release(struct arena *arena)
{
        arena_free_blocks(arena, NULL);
}

void arena_clear(struct arena *arena)
{
        struct arena_block *keep = arena->blocks;
        while (keep != NULL && keep->size_bytes != arena->block_bytes)
                keep = keep->next;
        arena_free_blocks(arena, keep);
        if (keep != NULL) {
                keep->next = NULL;
                keep->used_bytes = 0;
        }
}

static struct arena_block *arena_block_add(struct arena *arena, size_t need_bytes)
{
        size_t size_bytes = need_bytes > arena->block_bytes ? need_bytes : arena->block_bytes;
        if (size_bytes > SIZE_MAX - sizeof(struct arena_block))
                return NULL;
        size_t total_bytes = sizeof(struct arena_block) + size_bytes;
        if (arena->limit_bytes != 0 &&
            (arena->allocated_bytes > arena->limit_bytes || total_bytes > arena->limit_bytes - arena->allocated_bytes))
                return NULL;
        struct arena_block *block = malloc(total_bytes);
        if (block == NULL)
                return NULL;
        block->next = arena->blocks;
        block->size_bytes = size_bytes;
        block->used_bytes = 0;
        arena->blocks = block;
        arena->allocated_bytes += total_bytes;
        return block;
}

void *arena_alloc(struct arena *arena, size_t size_bytes)
{
        const size_t align = alignof(max_align_t);
        if (size_bytes > SIZE_MAX - align)
                return NULL;
        size_t need_bytes = (size_bytes + align - 1) / align * align;
        struct arena_block *block = arena->blocks;
        if (block == NULL || block->size_bytes - block->used_bytes < need_bytes) {
                block = arena_block_add(arena, need_bytes);
                if (block == NULL)
                        return NULL;
        }
        void *ptr = block->bytes + block->used_bytes;
        block->used_bytes += need_bytes;
        memset(ptr, 0, need_bytes);
        return ptr;
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t size_bytes)
{
        size_t total_bytes;
        if (__builtin_mul_overflow(count, size_bytes, &total_bytes))
                return NULL;
        return arena_alloc(arena, total_bytes);
}

struct slice arena_copy(struct arena *arena, struct slice s)
{
        if (s.len == SIZE_MAX)
                return SLICE_EMPTY;
        uint8_t *copy = arena_alloc(arena, s.len + 1);
        if (copy == NULL)
                return SLICE_EMPTY;
        if (s.len > 0)
                memcpy(copy, s.ptr, s.len);
        return slice_of(copy, s.len);
}

char *arena_copy_text(struct arena *arena, const char *text)
{
        size_t size_bytes = strlen(text) + 1;
        char *copy = arena_alloc(arena, size_bytes);
        if (copy != NULL)
                memcpy(copy, text, size_bytes);
        return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        int len = vsnprintf(NULL, 0, format, args);
        va_end(args);
        if (len < 0)
                return NULL;
        char *text = arena_alloc(arena, (size_t)len + 1);
        if (text == NULL)
                return NULL;
        va_start(args, format);
        (void)vsnprintf(text, (size_t)len + 1, format, args); /* the size was measured above */
        va_end(args);
        return text;
}
