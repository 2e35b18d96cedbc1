/* Mapping lanes. Used by both sides: no assertion, no log, no malloc. */
#include "ring/ring_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

bool ring_lane_bytes_ok(uint64_t lane_bytes)
{
        return lane_bytes >= LIMIT_LANE_BYTES_MIN && lane_bytes <= LIMIT_LANE_BYTES_MAX &&
               (lane_bytes & (lane_bytes - 1)) == 0;
}

static size_t ring_span_bytes(uint64_t lane_bytes)
{
        return (size_t)(2 * lane_bytes + 3 * RING_PAGE_BYTES);
}

enum err_code ring_data_map(int fd, uint64_t lane_bytes, uint8_t **ret_map, struct err *reterr)
{
        const int flags = MAP_SHARED | MAP_FIXED;
        uint8_t *span =
                mmap(NULL, ring_span_bytes(lane_bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (span == MAP_FAILED)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "reserve address space for a lane");
        uint8_t *map = span + RING_PAGE_BYTES;
        uint8_t *again = map + RING_PAGE_BYTES + lane_bytes;
        if (mmap(map, (size_t)(RING_PAGE_BYTES + lane_bytes), PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED ||
            mmap(again, (size_t)lane_bytes, PROT_READ | PROT_WRITE, flags, fd, RING_PAGE_BYTES) == MAP_FAILED) {
                int map_errno = errno;
                (void)munmap(span, ring_span_bytes(lane_bytes)); /* nothing better to do than to go on */
                return err_set_errno(reterr, ERR_SYSTEM, map_errno, "map a lane");
        }
        *ret_map = map;
        return ERR_OK;
}

void ring_data_unmap(uint8_t *map, uint64_t lane_bytes)
{
        if (map != NULL)
                (void)munmap(map - RING_PAGE_BYTES, ring_span_bytes(lane_bytes)); /* our own mapping: cannot fail */
}

enum err_code ring_page_map(int fd, int prot, void **ret_page, struct err *reterr)
{
        void *page = mmap(NULL, RING_PAGE_BYTES, prot, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "map a page of a lane");
        *ret_page = page;
        return ERR_OK;
}

void ring_page_unmap(const void *page)
{
        if (page != NULL)
                (void)munmap((void *)(uintptr_t)page, RING_PAGE_BYTES); /* our own mapping: cannot fail */
}

enum err_code ring_memfd_check(int fd, uint64_t bytes, unsigned seals, struct err *reterr)
{
        struct stat status;
        if (fstat(fd, &status) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "look at a lane's memory");
        int have = fcntl(fd, F_GET_SEALS);
        if (have < 0 || ((unsigned)have & seals) != seals)
                return err_set(reterr, ERR_PROTOCOL, "a lane's memory is not sealed");
        if (status.st_size < 0 || (uint64_t)status.st_size != bytes)
                return err_set(reterr, ERR_PROTOCOL, "a lane's memory has %lld bytes instead of %llu",
                               (long long)status.st_size, (unsigned long long)bytes);
        return ERR_OK;
}
