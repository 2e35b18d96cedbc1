/* A lane as the daemon sees it: creation, take-over, visits. Everything read from the data memfd is hostile: each word
 * is loaded once and bounded before use. */
#include "ring/ring_internal.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* What one visit takes before the shard goes on to the next lane: at full speed some 10 us of copying. */
#define RING_VISIT_BYTES_DEFAULT (256u * 1024u)

/* ---------------------------------------------------------------------------------------------- memory */

enum err_code ring_memfd_create(const char *name, uint64_t bytes, int *ret_fd, struct err *reterr)
{
        int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
        if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
                fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "memfd_create(%s)", name);
        if (ftruncate(fd, (off_t)bytes) < 0) {
                int truncate_errno = errno;
                (void)close(fd); /* empty */
                return err_set_errno(reterr, ERR_SYSTEM, truncate_errno, "size a memfd to %llu bytes",
                                     (unsigned long long)bytes);
        }
        *ret_fd = fd;
        return ERR_OK;
}

enum err_code ring_sealed_page_create(const char *name, int *ret_fd, void **ret_page, struct err *reterr)
{
        int fd = -1;
        void *page = NULL;
        enum err_code code = ring_memfd_create(name, RING_PAGE_BYTES, &fd, reterr);
        if (code != ERR_OK)
                return code;
        code = ring_page_map(fd, PROT_READ | PROT_WRITE, &page, reterr);
        if (code == ERR_OK &&
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "seal %s", name);
                ring_page_unmap(page);
        }
        if (code != ERR_OK) {
                (void)close(fd); /* nothing was written through it */
                return code;
        }
        *ret_fd = fd;
        *ret_page = page;
        return ERR_OK;
}

/* The parts that a new lane and a taken-over one share: our own page, starting at `cursor`. */
static enum err_code ring_lane_open_page(struct ring_lane *lane, uint64_t cursor, uint64_t durable_position,
                                         bool durable, struct err *reterr)
{
        void *page;
        enum err_code code = ring_sealed_page_create("sendring-page", &lane->page_fd, &page, reterr);
        if (code != ERR_OK)
                return code;
        lane->page = page;
        lane->page->magic = RING_MAGIC_DAEMON;
        lane->page->version = RING_VERSION;
        lane->page->lane_id = lane->info.lane_id;
        lane->page->flags = durable ? RING_PAGE_DURABLE : 0;
        /* Relaxed: sending the fd publishes the page. */
        atomic_store_explicit(&lane->page->tail, cursor, memory_order_relaxed);
        atomic_store_explicit(&lane->page->durable, durable_position, memory_order_relaxed);
        atomic_store_explicit(&lane->page->taken, cursor, memory_order_relaxed);
        lane->cursor = cursor;
        lane->read = cursor;
        lane->last = cursor;
        atomic_store_explicit(&lane->position, cursor, memory_order_relaxed);
        return ERR_OK;
}

static enum err_code ring_lane_open_data(struct ring_lane *lane, struct err *reterr)
{
        enum err_code code = ring_data_map(lane->data_fd, lane->lane_bytes, &lane->map, reterr);
        if (code != ERR_OK)
                return code;
        lane->data = lane->map + RING_PAGE_BYTES;
        lane->head_page = (struct ring_head_page *)(void *)lane->map;
        return ERR_OK;
}

static struct ring_lane *ring_lane_alloc(uint64_t lane_id, uint64_t lane_bytes)
{
        struct ring_lane *lane = calloc(1, sizeof(*lane));
        if (lane == NULL)
                return NULL;
        lane->lane_bytes = lane_bytes;
        lane->mask = lane_bytes - 1;
        lane->payload_bytes_max = ring_payload_bytes_max(lane_bytes);
        lane->own_uid = geteuid();
        lane->info.lane_id = lane_id;
        lane->info.lane_bytes = lane_bytes;
        lane->data_fd = -1;
        lane->page_fd = -1;
        lane->connection_fd = -1;
        lane->pidfd = -1;
        lane->bell_fd = -1;
        return lane;
}

enum err_code ring_lane_create(uint64_t lane_id, uint64_t lane_bytes, bool durable, struct ring_lane **ret_lane,
                               struct err *reterr)
{
        ASSERT(ring_lane_bytes_ok(lane_bytes));
        struct ring_lane *lane = ring_lane_alloc(lane_id, lane_bytes);
        if (lane == NULL)
                return err_set(reterr, ERR_MEMORY, "no memory for a lane");
        enum err_code code = ring_memfd_create("sendring-lane", lane_bytes + RING_PAGE_BYTES, &lane->data_fd, reterr);
        if (code == ERR_OK && fcntl(lane->data_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "seal a lane");
        if (code == ERR_OK)
                code = ring_lane_open_data(lane, reterr);
        if (code == ERR_OK) {
                lane->head_page->magic = RING_MAGIC_HEAD_PAGE;
                lane->head_page->version = RING_VERSION;
                lane->head_page->lane_id = lane_id;
                lane->head_page->lane_bytes = lane_bytes;
                /* Before its beginning: its producer may have had another lane, and a flush is about that, too. */
                code = ring_lane_open_page(lane, 0, durable ? RING_DURABLE_NOTHING : 0, durable, reterr);
        }
        if (code != ERR_OK) {
                ring_lane_free(lane);
                return code;
        }
        *ret_lane = lane;
        return ERR_OK;
}

enum err_code ring_lane_adopt(uint64_t lane_id, uint64_t lane_bytes, bool durable, int data_fd, int old_page_fd,
                              uint64_t journalled, struct ring_lane **ret_lane, struct err *reterr)
{
        void *old_page = NULL;
        enum err_code code = ERR_OK;
        struct ring_lane *lane = NULL;
        if (!ring_lane_bytes_ok(lane_bytes))
                code = err_set(reterr, ERR_PROTOCOL, "the keeper sent a lane of %llu bytes",
                               (unsigned long long)lane_bytes);
        if (code == ERR_OK)
                code = ring_memfd_check(data_fd, lane_bytes + RING_PAGE_BYTES, F_SEAL_SHRINK | F_SEAL_GROW, reterr);
        if (code == ERR_OK)
                code = ring_memfd_check(old_page_fd, RING_PAGE_BYTES, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, reterr);
        if (code == ERR_OK) {
                lane = ring_lane_alloc(lane_id, lane_bytes);
                if (lane == NULL)
                        code = err_set(reterr, ERR_MEMORY, "no memory for a lane");
        }
        if (code == ERR_OK)
                code = ring_page_map(old_page_fd, PROT_READ, &old_page, reterr);
        (void)close(old_page_fd); /* the mapping keeps it */
        if (lane == NULL) {
                (void)close(data_fd); /* nothing was written through it */
                return code;
        }
        lane->data_fd = data_fd;
        lane->old_page = old_page;
        if (code == ERR_OK && (lane->old_page->magic != RING_MAGIC_DAEMON || lane->old_page->lane_id != lane_id))
                code = err_set(reterr, ERR_PROTOCOL, "the keeper sent a page of another lane");
        if (code == ERR_OK)
                code = ring_lane_open_data(lane, reterr);
        if (code == ERR_OK) {
                /* Acquire: whatever the last router did to the lane comes before. */
                uint64_t cursor = ring_page_taken(lane->old_page, lane_bytes);
                uint64_t synced = atomic_load_explicit(&lane->old_page->durable, memory_order_acquire);
                if ((int64_t)(journalled - cursor) > 0)
                        cursor = journalled;
                code = ring_lane_open_page(lane, cursor & ~UINT64_C(7), synced, durable, reterr);
        }
        if (code != ERR_OK) {
                ring_lane_free(lane);
                return code;
        }
        *ret_lane = lane;
        return ERR_OK;
}

void ring_lane_free(struct ring_lane *lane)
{
        if (lane == NULL)
                return;
        int fds[4] = {lane->data_fd, lane->page_fd, lane->pidfd, lane->bell_fd};
        ring_fds_close(fds, 4);
        ring_connection_close(&lane->connection_fd);
        ring_data_unmap(lane->map, lane->lane_bytes);
        ring_page_unmap(lane->page);
        ring_page_unmap(lane->old_page);
        free(lane);
}

/* ---------------------------------------------------------------------------------------------- visits */

static void ring_lane_violation(struct ring_lane *lane)
{
        /* Relaxed: only the shard writes; others read a number. */
        uint32_t violations = atomic_load_explicit(&lane->violations, memory_order_relaxed);
        if (violations < UINT32_MAX)
                atomic_store_explicit(&lane->violations, violations + 1, memory_order_relaxed);
}

uint64_t ring_visit_begin_budget(struct ring_lane *lane, uint64_t budget_bytes)
{
        ASSERT_SLOW(!lane->visiting);
        /* Acquire: pairs with H1 in ring_publish_staged(); the records before head are written. Loaded once. */
        uint64_t head = atomic_load_explicit(&lane->head_page->head, memory_order_acquire);
        if (head == lane->cursor)
                return 0;
        uint64_t ready = head - lane->cursor;
        if (RING_UNLIKELY(ready > lane->lane_bytes || (head & 7) != 0)) {
                /* Told to stop, a producer takes back what was not taken: no violation. Relaxed: only a count. */
                if ((!lane->bad_head_seen || lane->bad_head != head) &&
                    !atomic_load_explicit(&lane->ending, memory_order_relaxed))
                        ring_lane_violation(lane);
                lane->bad_head = head;
                lane->bad_head_seen = true;
                return 0;
        }
        if (RING_UNLIKELY(ring_lane_is_broken(lane)))
                return 0;
        lane->visiting = true;
        lane->visit_over = false;
        lane->visit_head = head;
        lane->visit_limit = lane->cursor + (ready < budget_bytes ? ready : budget_bytes);
        lane->read = lane->cursor;
        lane->last = lane->cursor;
        return ready;
}

uint64_t ring_visit_begin(struct ring_lane *lane)
{
        return ring_visit_begin_budget(lane, RING_VISIT_BYTES_DEFAULT);
}

/* The longest payload of a record of another kind than RING_KIND_EVENT; 0: there is no such kind in this lane. */
static uint32_t ring_lane_kind_bytes_max(const struct ring_lane *lane, uint32_t kind)
{
        bool trusted = lane->info.uid == 0 || lane->info.uid == lane->own_uid;
        return kind == RING_KIND_REPLAY && trusted ? ring_replay_bytes_max(lane->lane_bytes) : 0;
}

_Static_assert((uint32_t)RING_VISIT_EVENT == RING_KIND_EVENT && (uint32_t)RING_VISIT_REPLAY == RING_KIND_REPLAY,
               "a visit tells the kind as it stands in the lane");

enum ring_visit ring_visit_next(struct ring_lane *lane, struct slice *ret_payload, uint64_t *ret_position)
{
        if (RING_UNLIKELY(!lane->visiting || lane->visit_over) || (int64_t)(lane->visit_limit - lane->read) <= 0)
                return RING_VISIT_NOTHING;
        const uint8_t *record = lane->data + (lane->read & lane->mask);
        /* Loaded once, relaxed: the acquire of head came before. Length and kind are used from this copy only. */
        uint64_t header = atomic_load_explicit((const _Atomic uint64_t *)(const void *)record, memory_order_relaxed);
        uint32_t payload_bytes = (uint32_t)header;
        uint32_t kind = (uint32_t)(header >> 32);
        uint64_t available = lane->visit_head - lane->read;
        uint32_t payload_bytes_max = lane->payload_bytes_max;
        if (RING_UNLIKELY(kind != RING_KIND_EVENT))
                payload_bytes_max = ring_lane_kind_bytes_max(lane, kind);
        if (RING_UNLIKELY(payload_bytes == 0 || payload_bytes > payload_bytes_max ||
                          ring_record_bytes(payload_bytes) > available)) {
                ring_lane_violation(lane);
                /* Relaxed: only the shard writes. */
                atomic_fetch_add_explicit(&lane->skipped_bytes, available, memory_order_relaxed);
                lane->last = lane->read;
                lane->read = lane->visit_head;
                lane->visit_over = true;
                return RING_VISIT_NOTHING;
        }
        lane->last = lane->read;
        lane->read += ring_record_bytes(payload_bytes);
        *ret_payload = slice_of(record + RING_HEADER_BYTES, payload_bytes);
        *ret_position = lane->read;
        return (enum ring_visit)kind;
}

bool ring_replay_read(struct slice payload, struct ring_replayed *ret_replayed, struct slice *ret_event)
{
        struct ring_replay_head head;
        if (payload.len <= sizeof(head))
                return false;
        /* Copied once; from here on only the copy is looked at. */
        memcpy(&head, payload.ptr, sizeof(head));
        size_t texts_bytes = (size_t)head.destination_bytes + head.set_bytes;
        if (head.destination_bytes > RING_REPLAY_DESTINATION_BYTES_MAX || head.set_bytes > LIMIT_NAME_BYTES_MAX ||
            head.zero != 0 || payload.len - sizeof(head) <= texts_bytes ||
            payload.len - sizeof(head) - texts_bytes > LIMIT_EVENT_BYTES_MAX)
                return false;
        const uint8_t *at = payload.ptr + sizeof(head);
        memcpy(ret_replayed->destination, at, head.destination_bytes);
        memcpy(ret_replayed->set, at + head.destination_bytes, head.set_bytes);
        ret_replayed->lane_id = head.lane_id;
        ret_replayed->lane_position = head.lane_position;
        ret_replayed->accepted_ms = head.accepted_ms;
        ret_replayed->destination_bytes = head.destination_bytes;
        ret_replayed->set_bytes = head.set_bytes;
        *ret_event = slice_from(payload, sizeof(head) + texts_bytes);
        return true;
}

void ring_visit_undo(struct ring_lane *lane)
{
        ASSERT_SLOW(lane->visiting && !lane->visit_over);
        lane->read = lane->last;
        lane->visit_over = true;
}

void ring_visit_abandon(struct ring_lane *lane)
{
        lane->read = lane->cursor;
        lane->visiting = false;
}

/* After tail or durable moved (seq_cst): either we see that the producer waits, or it sees the new position. */
static void ring_lane_wake_waiter(struct ring_lane *lane)
{
        if (RING_LIKELY(atomic_load_explicit(&lane->head_page->waiting, memory_order_seq_cst) == 0))
                return;
        atomic_fetch_add_explicit(&lane->page->progress, 1, memory_order_seq_cst);
        (void)ring_futex_wake(&lane->page->progress); /* the number of waiters does not matter */
}

void ring_visit_end(struct ring_lane *lane)
{
        if (!lane->visiting)
                return;
        lane->visiting = false;
        uint64_t taken = lane->read - lane->cursor;
        if (taken == 0)
                return;
        ASSERT(taken <= lane->lane_bytes);
        /* Before the first zero: a death between here and T1 leaves records without headers in front of the others, and
         * where the journal is not there to tell, or the keeper dies as well, this alone says where those begin. Not
         * earlier, that is not before the journal has them: a death would lose them. Relaxed, and the fence is the
         * compiler's: it is read only by who knows that we are dead, and a kill comes between two instructions. */
        atomic_store_explicit(&lane->page->taken, lane->read, memory_order_relaxed);
        atomic_signal_fence(memory_order_seq_cst);
        /* Not for cleanliness: lines that the consumer has written last come back to the producer 30 times faster than
         * lines it has only read (the rings study). The records are contiguous by the double mapping. */
        memset(lane->data + (lane->cursor & lane->mask), 0, (size_t)taken);
        lane->cursor = lane->read;
        /* Relaxed: a number for others. */
        atomic_store_explicit(&lane->position, lane->cursor, memory_order_relaxed);
        /* T1: gives the zeroed room back; pairs with the acquire in ring_producer_make_room(). seq_cst against
         * `waiting`. */
        atomic_store_explicit(&lane->page->tail, lane->cursor, memory_order_seq_cst);
        ring_lane_wake_waiter(lane);
}

/* ---------------------------------------------------------------------------------------------- the rest */

void ring_lane_get_info(const struct ring_lane *lane, struct ring_lane_info *ret_info)
{
        *ret_info = lane->info;
}

uint64_t ring_lane_position(const struct ring_lane *lane)
{
        return atomic_load_explicit(&lane->position, memory_order_relaxed); /* a number, no data behind it */
}

void ring_lane_skip_to(struct ring_lane *lane, uint64_t position)
{
        ASSERT(!lane->visiting);
        ASSERT((position & 7) == 0);
        if ((int64_t)(position - lane->cursor) <= 0)
                return;
        lane->cursor = position;
        lane->read = position;
        lane->last = position;
        atomic_store_explicit(&lane->position, position, memory_order_relaxed); /* as in ring_visit_end() */
        atomic_store_explicit(&lane->page->tail, position, memory_order_seq_cst);
        ring_lane_wake_waiter(lane);
}

void ring_lane_set_durable(struct ring_lane *lane, uint64_t position)
{
        /* Relaxed: one thread writes it. */
        uint64_t durable = atomic_load_explicit(&lane->page->durable, memory_order_relaxed);
        if ((int64_t)(position - durable) <= 0)
                return;
        atomic_store_explicit(&lane->page->durable, position, memory_order_seq_cst);
        ring_lane_wake_waiter(lane);
}

uint64_t ring_lane_durable(const struct ring_lane *lane)
{
        return atomic_load_explicit(&lane->page->durable, memory_order_relaxed); /* a number, no data behind it */
}

uint32_t ring_lane_violations(const struct ring_lane *lane)
{
        return atomic_load_explicit(&lane->violations, memory_order_relaxed); /* a number, no data behind it */
}

void ring_lane_reject(struct ring_lane *lane)
{
        /* Relaxed: only the shard writes; others read a number. */
        uint64_t rejected = atomic_load_explicit(&lane->rejected, memory_order_relaxed);
        atomic_store_explicit(&lane->rejected, rejected + 1, memory_order_relaxed);
}

bool ring_lane_is_broken(const struct ring_lane *lane)
{
        return ring_lane_violations(lane) >= LIMIT_LANE_VIOLATIONS_MAX;
}

bool ring_lane_is_orphan(const struct ring_lane *lane)
{
        /* Acquire: pairs with the release in ring_server_orphan(): the producer's last head is visible behind it. */
        return atomic_load_explicit(&lane->orphan, memory_order_acquire);
}

void ring_lane_get_counts(const struct ring_lane *lane, struct ring_lane_counts *ret_counts)
{
        /* Relaxed: numbers, no data behind them; head and full are the producer's word. */
        uint64_t head = atomic_load_explicit(&lane->head_page->head, memory_order_relaxed);
        uint64_t position = ring_lane_position(lane);
        uint64_t waiting_bytes = head - position;
        *ret_counts = (struct ring_lane_counts){
                .position = position,
                .waiting_bytes = waiting_bytes <= lane->lane_bytes ? waiting_bytes : 0,
                .skipped_bytes = atomic_load_explicit(&lane->skipped_bytes, memory_order_relaxed),
                .full = atomic_load_explicit(&lane->head_page->full, memory_order_relaxed),
                .rejected = atomic_load_explicit(&lane->rejected, memory_order_relaxed),
                .violations = ring_lane_violations(lane),
        };
}
