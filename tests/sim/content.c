#include "tests/sim/content.h"

#include "tests/sim/sim.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIM_SPARES_MAX 1024u

static uint8_t *spares[SIM_SPARES_MAX];
static uint32_t spares_count;

uint8_t *content_take(void)
{
        if (spares_count > 0)
                return spares[--spares_count];
        void *map =
                mmap(NULL, SIM_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        SIM_CHECK(map != MAP_FAILED);
        return map;
}

void content_give(uint8_t *content, uint64_t bytes)
{
        const uint64_t *pages = content_pages(content, bytes);
        for (uint64_t at = 0; at < bytes; at += SIM_PAGE)
                if (content_touched(pages, at))
                        memset(content + at, 0, SIM_PAGE);
        SIM_CHECK(spares_count < SIM_SPARES_MAX);
        spares[spares_count++] = content;
}

const uint64_t *content_pages(const uint8_t *content, uint64_t bytes)
{
        static uint64_t entries[SIM_FILE_BYTES / SIM_PAGE];
        static int pagemap = -1; /* of the seed's process */
        size_t wanted = (bytes + SIM_PAGE - 1) / SIM_PAGE * sizeof(entries[0]);
        if (pagemap < 0)
                pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        if (pread(pagemap, entries, wanted, (off_t)((uintptr_t)content / SIM_PAGE * sizeof(entries[0]))) !=
            (ssize_t)wanted)
                memset(entries, 0xff, wanted); /* nobody knows: all of them */
        return entries;
}
