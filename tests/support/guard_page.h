/* Copies bytes so that they end at an unmapped page: a parser that reads one byte too far dies. Never freed: a test
 * process is short. */
#ifndef SENDRING_TESTS_GUARD_PAGE_H
#define SENDRING_TESTS_GUARD_PAGE_H

#include "base/slice.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static inline struct slice guard_page_copy(struct slice s)
{
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        size_t room = (s.len + page - 1) / page * page;
        uint8_t *map = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED || mprotect(map + room, page, PROT_NONE) != 0)
                abort();
        if (s.len > 0)
                memcpy(map + room - s.len, s.ptr, s.len);
        return slice_of(map + room - s.len, s.len);
}

#endif
