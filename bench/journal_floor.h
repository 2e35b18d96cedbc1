/* The floor of a journal's append: memcpy of the bytes into mapped memory, one after the other, and CRC-32C of the
 * copy, which asks for the lines of the next 2 KiB as the journal does: a checksum reads right behind the stores, and
 * without that both would wait for each line. */
#ifndef SENDRING_BENCH_JOURNAL_FLOOR_H
#define SENDRING_BENCH_JOURNAL_FLOOR_H

#include <isa-l/crc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define JOURNAL_FLOOR_LINE_BYTES     64u
#define JOURNAL_FLOOR_PREFETCH_BYTES 2048u /* JOURNAL_PREFETCH_BYTES in journal/journal.c */

struct journal_floor {
        uint8_t *area;
        size_t area_bytes, at, prefetched;
        uint32_t crc_sum; /* keeps the checksums alive */
};

/* False: no memory. It stays until the program ends. */
static inline bool journal_floor_map(struct journal_floor *floor, size_t area_bytes)
{
        void *area = mmap(NULL, area_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED)
                return false;
        /* Huge pages would make the floor a different kind of memory. */
        (void)madvise(area, area_bytes, MADV_NOHUGEPAGE); /* advice */
        memset(area, 1, area_bytes);
        *floor = (struct journal_floor){.area = area, .area_bytes = area_bytes};
        return true;
}

static inline void journal_floor_append(struct journal_floor *floor, const void *bytes, size_t len)
{
        /* A record's header, and padded as in the journal. */
        size_t stride = (JOURNAL_FLOOR_LINE_BYTES + len + JOURNAL_FLOOR_LINE_BYTES - 1) &
                        ~(size_t)(JOURNAL_FLOOR_LINE_BYTES - 1);
        if (floor->at + stride > floor->area_bytes)
                floor->at = floor->prefetched = 0;
        uint8_t *copy = floor->area + floor->at + JOURNAL_FLOOR_LINE_BYTES;
        memcpy(copy, bytes, len);
        floor->crc_sum += crc32_iscsi(copy, (int)len, 1);
        floor->at += stride;
        size_t end = floor->at + JOURNAL_FLOOR_PREFETCH_BYTES;
        for (size_t at = floor->prefetched > floor->at ? floor->prefetched : floor->at; at < end;
             at += JOURNAL_FLOOR_LINE_BYTES)
                __builtin_prefetch(floor->area + at, 1); /* no fault behind the area's end */
        floor->prefetched = end;
}

#endif
