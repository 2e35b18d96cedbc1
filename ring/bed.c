/* Where a shard sleeps. Producers look at the sleeping word after each publish and ring their lane's bell when it is
 * odd; the shard pays for the order (membarrier), not they. */
#include "ring/ring_internal.h"

#include "base/assert.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

struct ring_bed {
        struct ring_bed_page *page;
        uint32_t sequence; /* the shard's copy of `sleeping` */
        int memfd;
        int epoll_fd; /* every lane's bell, and ours */
        int wake_fd;
};

bool ring_membarrier_works(void)
{
        int commands = (int)syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
        return commands > 0 && (commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0 &&
               syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

void ring_membarrier(void)
{
        /* Refused: the producers were told to fence (RING_BED_FENCED), and our side is ordered by the exchange or
         * seq_cst store before the call. */
        (void)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
}

enum err_code ring_bed_create(struct ring_bed **ret_bed, struct err *reterr)
{
        void *page;
        struct ring_bed *bed = calloc(1, sizeof(*bed));
        if (bed == NULL)
                return err_set(reterr, ERR_MEMORY, "no memory for a bed");
        bed->memfd = -1;
        bed->wake_fd = -1;
        bed->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        enum err_code code = ERR_OK;
        if (bed->epoll_fd < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "make an epoll set for a shard");
        if (code == ERR_OK) {
                bed->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                if (bed->wake_fd < 0)
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "make an eventfd for a shard");
        }
        if (code == ERR_OK)
                code = ring_bed_add_bell(bed, bed->wake_fd, reterr);
        if (code == ERR_OK)
                code = ring_sealed_page_create("sendring-bed", &bed->memfd, &page, reterr);
        if (code != ERR_OK) {
                ring_bed_free(bed);
                return code;
        }
        bed->page = page;
        bed->page->magic = RING_MAGIC_BED;
        bed->page->version = RING_VERSION;
        bed->page->flags = ring_membarrier_works() ? 0 : RING_BED_FENCED;
        *ret_bed = bed;
        return ERR_OK;
}

void ring_bed_free(struct ring_bed *bed)
{
        if (bed == NULL)
                return;
        int fds[3] = {bed->memfd, bed->epoll_fd, bed->wake_fd};
        ring_fds_close(fds, 3);
        ring_page_unmap(bed->page);
        free(bed);
}

int ring_bed_memfd(const struct ring_bed *bed)
{
        return bed->memfd;
}

const struct ring_bed_page *ring_bed_page_of(const struct ring_bed *bed)
{
        return bed->page;
}

enum err_code ring_bed_add_bell(struct ring_bed *bed, int bell_fd, struct err *reterr)
{
        /* Edge-triggered: each ring is one event, and nobody needs to read the counter. */
        struct epoll_event event = {.events = EPOLLIN | EPOLLET};
        if (epoll_ctl(bed->epoll_fd, EPOLL_CTL_ADD, bell_fd, &event) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "add a lane's bell to its shard");
        return ERR_OK;
}

void ring_bed_remove_bell(struct ring_bed *bed, int bell_fd)
{
        /* Before the fd is closed: the producer's copy would keep it in the set. */
        (void)epoll_ctl(bed->epoll_fd, EPOLL_CTL_DEL, bell_fd, NULL); /* it is there, or there is nothing to do */
}

void ring_bed_prepare(struct ring_bed *bed)
{
        ASSERT_SLOW((bed->sequence & 1) == 0);
        bed->sequence++;
        /* An exchange, because it also orders this store before the caller's last look where membarrier is refused. */
        (void)atomic_exchange_explicit(&bed->page->sleeping, bed->sequence, memory_order_seq_cst);
        ring_membarrier();
}

void ring_bed_cancel(struct ring_bed *bed)
{
        ASSERT_SLOW((bed->sequence & 1) == 1);
        bed->sequence++;
        /* Relaxed: a producer that still sees the odd number rings in vain. */
        atomic_store_explicit(&bed->page->sleeping, bed->sequence, memory_order_relaxed);
}

bool ring_bed_wait(struct ring_bed *bed, uint64_t timeout_ns)
{
        struct epoll_event events[16];
        struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                                   .tv_nsec = (long)(timeout_ns % 1000000000u)};
        int count = epoll_pwait2(bed->epoll_fd, events, 16, &timeout, NULL);
        if (count < 0 && errno == ENOSYS) { /* before Linux 5.11 */
                uint64_t timeout_ms = (timeout_ns + 999999) / 1000000;
                count = epoll_wait(bed->epoll_fd, events, 16, timeout_ms > 60000 ? 60000 : (int)timeout_ms);
        }
        ring_bed_cancel(bed);
        return count != 0; /* a signal counts as a wake-up */
}

void ring_bed_wake(struct ring_bed *bed)
{
        uint64_t one = 1;
        ssize_t ignored = write(bed->wake_fd, &one, sizeof(one)); /* a full counter rings too */
        (void)ignored;
}
