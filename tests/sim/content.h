/* The memory of the simulated disk's files. Of a file's many megabytes few pages are ever touched, and most files of a
 * seed live shortly: so what was never touched is neither read nor copied, and memory is used again, which costs less
 * than a fault of each page. */
#ifndef SENDRING_TESTS_SIM_CONTENT_H
#define SENDRING_TESTS_SIM_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_FILE_BYTES ((size_t)16 * 1024 * 1024) /* the largest file; only what is touched takes memory */
#define SIM_PAGE       4096u

/* SIM_FILE_BYTES of zeros. */
uint8_t *content_take(void);
/* Nobody looks at it any more, and from the page behind `bytes` on it is zeros still. */
void content_give(uint8_t *content, uint64_t bytes);

/* What the kernel says of the pages of [content, content + bytes); until the next call. */
const uint64_t *content_pages(const uint8_t *content, uint64_t bytes);
/* False: the page with the byte `at` is zeros. */
static inline bool content_touched(const uint64_t *pages, uint64_t at)
{
        return pages[at / SIM_PAGE] >> 62 != 0; /* it is in memory or swapped out: admin-guide/mm/pagemap.rst */
}

#endif
