/* The producer's hot path: reserve, commit, stage, publish, discard; and its slow path: refresh, wait. Linked into
 * other people's programs: no assertion, no log, no malloc. */
#include "ring/ring_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

static struct ring_head_page *ring_head_page_of(const struct ring_producer *producer)
{
        return (struct ring_head_page *)(void *)producer->head_page;
}

static const struct ring_daemon_page *ring_daemon_page_of(const struct ring_producer *producer)
{
        return (const struct ring_daemon_page *)(const void *)producer->daemon_page;
}

bool ring_producer_attention(const struct ring_producer *producer)
{
        /* Relaxed: only a hint; ring_producer_refresh() acquires. */
        return producer->detached ||
               atomic_load_explicit(&ring_head_page_of(producer)->attention, memory_order_relaxed) != 0;
}

/* ---------------------------------------------------------------------------------------------- reserve */

/* Looks at the tail again; the slow half of ring_reserve(). */
static enum err_code ring_producer_make_room(struct ring_producer *producer, uint64_t need)
{
        struct ring_head_page *head_page = ring_head_page_of(producer);
        for (int attempt = 0; attempt < 2; attempt++) {
                /* T1: acquire, pairs with the store of tail in ring_visit_end(): its zeroing of the room comes before
                 * our bytes. */
                uint64_t tail = atomic_load_explicit(&ring_daemon_page_of(producer)->tail, memory_order_acquire);
                if (producer->staged - tail > producer->lane_bytes)
                        return ERR_BUG; /* beyond what we wrote, or more behind than the lane is long */
                producer->tail_seen = tail;
                if (producer->staged + need - tail <= producer->lane_bytes)
                        return ERR_OK;
                if (!ring_producer_attention(producer))
                        break;
                enum err_code code = ring_producer_refresh(producer, NULL);
                if (code != ERR_OK)
                        return code;
        }
        producer->full++;
        /* Relaxed: a number for people. */
        atomic_store_explicit(&head_page->full, producer->full, memory_order_relaxed);
        return ERR_FULL;
}

static inline enum err_code ring_reserve_up_to(struct ring_producer *producer, uint32_t payload_bytes,
                                               uint32_t payload_bytes_max, uint8_t **ret_payload)
{
        if (RING_UNLIKELY(producer->reserved))
                return ERR_BUG;
        if (RING_UNLIKELY(producer->detached))
                return ERR_DETACHED;
        if (RING_UNLIKELY(payload_bytes == 0))
                return ERR_RANGE;
        if (RING_UNLIKELY(payload_bytes > payload_bytes_max))
                return ERR_TOO_BIG;
        uint64_t need = ring_record_bytes(payload_bytes);
        if (RING_UNLIKELY(producer->staged + need - producer->tail_seen > producer->lane_bytes)) {
                enum err_code code = ring_producer_make_room(producer, need);
                if (code != ERR_OK)
                        return code;
        }
        producer->reserved = true;
        producer->reserved_bytes = payload_bytes;
        *ret_payload = producer->data + (producer->staged & (producer->lane_bytes - 1)) + RING_HEADER_BYTES;
        return ERR_OK;
}

enum err_code ring_reserve(struct ring_producer *producer, uint32_t payload_bytes, uint8_t **ret_payload)
{
        return ring_reserve_up_to(producer, payload_bytes, producer->payload_bytes_max, ret_payload);
}

enum err_code ring_reserve_kind(struct ring_producer *producer, uint32_t kind, uint32_t payload_bytes,
                                uint8_t **ret_payload)
{
        if (kind == RING_KIND_EVENT)
                return ring_reserve(producer, payload_bytes, ret_payload);
        if (kind != RING_KIND_REPLAY)
                return ERR_BUG;
        return ring_reserve_up_to(producer, payload_bytes, ring_replay_bytes_max(producer->lane_bytes), ret_payload);
}

void ring_discard(struct ring_producer *producer)
{
        producer->reserved = false;
        producer->reserved_bytes = 0;
}

/* ---------------------------------------------------------------------------------------------- commit */

static inline enum err_code ring_stage_as(struct ring_producer *producer, uint32_t kind, uint32_t payload_bytes)
{
        if (RING_UNLIKELY(!producer->reserved))
                return ERR_BUG;
        bool fits = payload_bytes > 0 && payload_bytes <= producer->reserved_bytes;
        ring_discard(producer);
        if (RING_UNLIKELY(!fits))
                return ERR_BUG;
        uint8_t *record = producer->data + (producer->staged & (producer->lane_bytes - 1));
        /* Relaxed: H1 publishes it. Atomic because a daemon may look at any byte of a lane at any time. */
        atomic_store_explicit((_Atomic uint64_t *)(void *)record, (uint64_t)kind << 32 | (uint64_t)payload_bytes,
                              memory_order_relaxed);
        producer->staged += ring_record_bytes(payload_bytes);
        return ERR_OK;
}

enum err_code ring_stage(struct ring_producer *producer, uint32_t payload_bytes)
{
        return ring_stage_as(producer, RING_KIND_EVENT, payload_bytes);
}

enum err_code ring_stage_kind(struct ring_producer *producer, uint32_t kind, uint32_t payload_bytes)
{
        return ring_stage_as(producer, kind, payload_bytes);
}

/* Attention was seen right after head had moved from `before`. A new page: taken, the records stand. The end of the
 * service: what the daemon has not taken is withdrawn, because nobody promises any more to read it. */
static enum err_code ring_producer_attend(struct ring_producer *producer, uint64_t before)
{
        (void)ring_producer_refresh(producer, NULL); /* its result is in producer->detached */
        if (!producer->detached)
                return ERR_OK;
        uint64_t tail = atomic_load_explicit(&ring_daemon_page_of(producer)->tail, memory_order_acquire);
        if ((int64_t)(tail - before) > 0)
                return ERR_OK; /* the last look of the daemon came after us: taken, at least in part */
        producer->head = before;
        producer->staged = before;
        /* Release, as H1. The daemon may take the records in this very moment; then the caller, who is told
         * ERR_DETACHED, publishes them twice: at least once is kept. */
        atomic_store_explicit(&ring_head_page_of(producer)->head, before, memory_order_release);
        return ERR_DETACHED;
}

static void ring_producer_ring_bell(struct ring_producer *producer, uint32_t sleeping)
{
        uint64_t one = 1;
        int saved_errno = errno;
        /* One ring per sleep is enough: the bell keeps its state. A failure (a full counter) means that it rings. */
        producer->rung = sleeping;
        producer->wakeups++;
        /* Not into a file of the host: then the shard finds the event when it looks around by itself. */
        if (ring_is_own(producer->bell_fd, producer->bell_identity)) {
                ssize_t ignored = write(producer->bell_fd, &one, sizeof(one));
                (void)ignored;
        }
        errno = saved_errno;
}

enum err_code ring_publish_staged(struct ring_producer *producer)
{
        struct ring_head_page *head_page = ring_head_page_of(producer);
        const struct ring_bed_page *bed_page;
        uint64_t before = producer->head;
        if (producer->staged == before)
                return ERR_OK;
        if (RING_UNLIKELY(producer->detached)) {
                /* A reserve after the first record was staged has taken the flag that this publish would have seen. */
                producer->staged = before;
                return ERR_DETACHED;
        }
        producer->head = producer->staged;
        if (RING_LIKELY(!producer->fenced)) {
                /* H1: publishes the records. Pairs with the acquire of head in ring_visit_begin(). */
                atomic_store_explicit(&head_page->head, producer->head, memory_order_release);
                /* Only the compiler must keep the order to the loads below; the processor's part is done by the
                 * daemon's membarrier (ring_bed_prepare(), ring_server_stop()). */
                atomic_signal_fence(memory_order_seq_cst);
        } else {
                /* H1 again, ordered before the loads below by itself. */
                atomic_store_explicit(&head_page->head, producer->head, memory_order_seq_cst);
        }
        /* seq_cst loads cost nothing more than others on x86-64, and one instruction on arm64. */
        if (RING_UNLIKELY(atomic_load_explicit(&head_page->attention, memory_order_seq_cst) != 0)) {
                enum err_code code = ring_producer_attend(producer, before);
                if (code != ERR_OK)
                        return code;
        }
        /* After attention, which may have brought another bed. */
        bed_page = (const struct ring_bed_page *)(const void *)producer->bed_page;
        uint32_t sleeping = atomic_load_explicit(&bed_page->sleeping, memory_order_seq_cst);
        if (RING_UNLIKELY((sleeping & 1) != 0) && sleeping != producer->rung)
                ring_producer_ring_bell(producer, sleeping);
        return ERR_OK;
}

enum err_code ring_commit(struct ring_producer *producer, uint32_t payload_bytes)
{
        enum err_code code = ring_stage(producer, payload_bytes);
        return RING_LIKELY(code == ERR_OK) ? ring_publish_staged(producer) : code;
}

enum err_code ring_publish_replay(struct ring_producer *producer, const struct ring_replay *replay, struct slice event)
{
        if (replay->destination.len > RING_REPLAY_DESTINATION_BYTES_MAX || replay->set.len > LIMIT_NAME_BYTES_MAX)
                return ERR_NAME;
        if (event.len > LIMIT_EVENT_BYTES_MAX)
                return ERR_TOO_BIG;
        if (event.len == 0)
                return ERR_RANGE;
        struct ring_replay_head head = {
                .lane_id = replay->lane_id,
                .lane_position = replay->lane_position,
                .accepted_ms = replay->accepted_ms,
                .destination_bytes = (uint16_t)replay->destination.len,
                .set_bytes = (uint16_t)replay->set.len,
        };
        const struct slice parts[] = {slice_of(&head, sizeof(head)), replay->destination, replay->set, event};
        uint32_t payload_bytes = 0;
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
                payload_bytes += (uint32_t)parts[i].len;
        uint8_t *payload = NULL;
        enum err_code code = ring_reserve_kind(producer, RING_KIND_REPLAY, payload_bytes, &payload);
        if (code != ERR_OK)
                return code;
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
                if (parts[i].len > 0)
                        memcpy(payload, parts[i].ptr, parts[i].len);
                payload += parts[i].len;
        }
        code = ring_stage_kind(producer, RING_KIND_REPLAY, payload_bytes);
        return code == ERR_OK ? ring_publish_staged(producer) : code;
}

/* ---------------------------------------------------------------------------------------------- slow path */

/* Takes a page message: daemon page, bed, bell. The fds are ours; the bell is kept, the others closed. */
static enum err_code ring_producer_take_page(struct ring_producer *producer, const struct ring_message *message,
                                             int fds[RING_MESSAGE_FDS_MAX], size_t fds_count, struct err *reterr)
{
        enum err_code code;
        const unsigned seals = F_SEAL_SHRINK | F_SEAL_GROW;
        void *page = NULL;
        void *bed_page = NULL;
        if (message->kind != RING_MESSAGE_PAGE || fds_count != 3 || message->lane_id != producer->lane_id) {
                ring_fds_close(fds, fds_count);
                return err_set(reterr, ERR_PROTOCOL, "the router sent an unexpected message");
        }
        code = ring_memfd_check(fds[0], RING_PAGE_BYTES, seals, reterr);
        if (code == ERR_OK)
                code = ring_memfd_check(fds[1], RING_PAGE_BYTES, seals, reterr);
        if (code == ERR_OK)
                code = ring_page_map(fds[0], PROT_READ, &page, reterr);
        if (code == ERR_OK)
                code = ring_page_map(fds[1], PROT_READ, &bed_page, reterr);
        if (code == ERR_OK)
                code = ring_producer_use_pages(producer, page, bed_page, reterr);
        if (code != ERR_OK) {
                ring_page_unmap(page);
                ring_page_unmap(bed_page);
                ring_fds_close(fds, fds_count);
                return code;
        }
        ring_own_close(&producer->bell_fd, producer->bell_identity);
        producer->bell_fd = fds[2];
        producer->bell_identity = ring_identity_of(fds[2]);
        producer->pages_taken++;
        ring_fds_close(fds, 2);
        return ERR_OK;
}

enum err_code ring_producer_use_pages(struct ring_producer *producer, const void *page, const void *bed_page,
                                      struct err *reterr)
{
        const struct ring_daemon_page *daemon = page;
        const struct ring_bed_page *bed = bed_page;
        if (daemon->magic != RING_MAGIC_DAEMON || bed->magic != RING_MAGIC_BED || daemon->version != RING_VERSION ||
            bed->version != RING_VERSION || daemon->lane_id != producer->lane_id)
                return err_set(reterr, ERR_PROTOCOL, "the router's page is not of this lane");
        uint64_t tail = atomic_load_explicit(&daemon->tail, memory_order_acquire);
        if (producer->staged - tail > producer->lane_bytes) {
                /* Ahead of us: the last router had taken what was withdrawn (ring_producer_attend()), and this one
                 * begins behind it. Then so do we; it takes nothing before head is there. */
                if (tail - producer->staged > producer->lane_bytes || producer->staged != producer->head ||
                    producer->head_page == NULL)
                        return err_set(reterr, ERR_PROTOCOL, "the router's page does not fit what was published");
                producer->head = tail;
                producer->staged = tail;
                atomic_store_explicit(&ring_head_page_of(producer)->head, tail, memory_order_release); /* as H1 */
        }
        ring_page_unmap(producer->daemon_page);
        ring_page_unmap(producer->bed_page);
        producer->daemon_page = page;
        producer->bed_page = bed_page;
        producer->tail_seen = tail;
        producer->rung = 0;
        producer->durable = (daemon->flags & RING_PAGE_DURABLE) != 0;
        producer->fenced = producer->fence_always || (bed->flags & RING_BED_FENCED) != 0;
        return ERR_OK;
}

static enum err_code ring_producer_lost(struct ring_producer *producer, struct err *reterr, const char *why)
{
        producer->detached = true;
        return err_set(reterr, ERR_DETACHED, "%s: attach again", why);
}

enum err_code ring_producer_refresh(struct ring_producer *producer, struct err *reterr)
{
        struct ring_message message;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        if (producer->detached)
                return ring_producer_lost(producer, reterr, "the router has gone");
        if (!ring_is_own(producer->connection_fd, producer->connection_identity))
                return ring_producer_lost(producer, reterr, "this process has closed the connection");
        int saved_errno = errno;
        /* Lowered first: a page that is sent after our last receive raises it again. Acquire: the page lies in the
         * connection before attention is raised (ring_server_offer_page()). */
        uint32_t attention = atomic_exchange_explicit(&ring_head_page_of(producer)->attention, RING_ATTENTION_NONE,
                                                      memory_order_acq_rel);
        enum err_code code = ERR_OK;
        for (;;) {
                code = ring_message_receive_whole(producer->connection_fd, &message, fds, &fds_count);
                if (code == ERR_EMPTY) {
                        code = ERR_OK;
                        break;
                }
                if (code == ERR_LIMIT && ring_producer_connection_ended(producer)) {
                        code = ring_producer_lost(producer, reterr, "the router closed the connection");
                        break;
                }
                if (code == ERR_LIMIT) {
                        /* Our host has no descriptors left: the page waits, and publishing goes on as long as there is
                         * room. Looked for again by the next publish; the end of the service stays said, also to
                         * ring_producer_reattach(), and so does which page it is that waits. */
                        uint32_t none = RING_ATTENTION_NONE;
                        uint32_t again = attention != RING_ATTENTION_NONE ? attention : RING_ATTENTION_ROOM;
                        (void)atomic_compare_exchange_strong_explicit(&ring_head_page_of(producer)->attention, &none,
                                                                      again, memory_order_relaxed,
                                                                      memory_order_relaxed);
                        code = ERR_OK;
                        break;
                }
                if (code == ERR_PROTOCOL)
                        continue; /* not for us; there are at most as many as the socket holds */
                if (code == ERR_DETACHED || code == ERR_SYSTEM) {
                        code = ring_producer_lost(producer, reterr, "the router closed the connection");
                        break;
                }
                if (code == ERR_VERSION) {
                        code = ring_producer_lost(producer, reterr, "the new router speaks another version");
                        break;
                }
                if (ring_producer_take_page(producer, &message, fds, fds_count, reterr) != ERR_OK) {
                        /* Without the new page the lane would be full for ever. */
                        producer->detached = true;
                        if (reterr != NULL)
                                reterr->code = ERR_DETACHED;
                        code = ERR_DETACHED;
                        break;
                }
        }
        if (code == ERR_OK && attention == RING_ATTENTION_ENDING)
                code = ring_producer_lost(producer, reterr, "the router is shutting down");
        errno = saved_errno;
        return code;
}

uint64_t ring_producer_used_bytes(struct ring_producer *producer)
{
        /* Relaxed: only a figure. */
        uint64_t tail = atomic_load_explicit(&ring_daemon_page_of(producer)->tail, memory_order_relaxed);
        return producer->head - tail;
}

/* True when everything published is safe. seq_cst: pairs with the stores in ring_visit_end() and
 * ring_lane_set_durable(), see `waiting` in layout.h. */
static bool ring_producer_is_safe(const struct ring_producer *producer)
{
        const struct ring_daemon_page *page = ring_daemon_page_of(producer);
        uint64_t position = producer->durable ? atomic_load_explicit(&page->durable, memory_order_seq_cst)
                                              : atomic_load_explicit(&page->tail, memory_order_seq_cst);
        return (int64_t)(position - producer->head) >= 0;
}

/* A router that is ending still takes what was published, until it closes the connection. */
bool ring_producer_connection_ended(const struct ring_producer *producer)
{
        struct pollfd poll_fd = {.fd = producer->connection_fd, .events = POLLRDHUP};
        if (!ring_is_own(producer->connection_fd, producer->connection_identity))
                return true;
        return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/* No sleep is longer, so that a new router, or its end, is noticed even when its wake-up went to an old page. */
#define RING_WAIT_SLICE_NS UINT64_C(50000000)

enum err_code ring_producer_wait(struct ring_producer *producer, uint32_t timeout_ms)
{
        struct ring_head_page *head_page = ring_head_page_of(producer);
        uint64_t deadline_ns = ring_now_ns() + (uint64_t)timeout_ms * 1000000u;
        int saved_errno = errno;
        enum err_code code;
        for (;;) {
                if (ring_producer_is_safe(producer)) {
                        code = ERR_OK;
                        break;
                }
                code = ring_producer_refresh(producer, NULL);
                if (code != ERR_OK && ring_producer_connection_ended(producer)) {
                        /* The last look of a router that ended may have taken everything. */
                        if (ring_producer_is_safe(producer))
                                code = ERR_OK;
                        break;
                }
                uint64_t now_ns = ring_now_ns();
                if (now_ns >= deadline_ns) {
                        code = ring_producer_is_safe(producer) ? ERR_OK
                               : producer->detached            ? ERR_DETACHED
                                                               : ERR_TIMEOUT;
                        break;
                }
                const struct ring_daemon_page *page = ring_daemon_page_of(producer);
                atomic_store_explicit(&head_page->waiting, 1, memory_order_seq_cst);
                uint32_t progress = atomic_load_explicit(&page->progress, memory_order_seq_cst);
                /* Looked at again after the flag is up: from here on the daemon changes `progress` with each step. */
                if (ring_producer_is_safe(producer)) {
                        code = ERR_OK;
                        break;
                }
                uint64_t left_ns = deadline_ns - now_ns;
                if (left_ns > RING_WAIT_SLICE_NS)
                        left_ns = RING_WAIT_SLICE_NS;
                struct timespec timeout = {.tv_sec = 0, .tv_nsec = (long)left_ns};
                /* Any return is a reason to look again. */
                (void)ring_futex_wait((_Atomic uint32_t *)(uintptr_t)&page->progress, progress, &timeout);
        }
        /* Relaxed: at worst one futile wake-up. */
        atomic_store_explicit(&head_page->waiting, 0, memory_order_relaxed);
        errno = saved_errno;
        return code;
}
