/* What the files of ring/ share. The first part is all that the producer's side uses: no assertion, no log, no malloc.
 */
#ifndef SENDRING_RING_RING_INTERNAL_H
#define SENDRING_RING_RING_INTERNAL_H

#include "ring/layout.h"
#include "ring/ring.h"

#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RING_LIKELY(condition)   __builtin_expect(!!(condition), 1)
#define RING_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* ---------------------------------------------------------------------------------------------- both sides */

/* memory.c */
/* Maps a data memfd between two guard pages, the records twice. *ret_map is the head page; the records begin at
 * *ret_map + RING_PAGE_BYTES. */
enum err_code ring_data_map(int fd, uint64_t lane_bytes, uint8_t **ret_map, struct err *reterr);
void ring_data_unmap(uint8_t *map, uint64_t lane_bytes);
/* One page, shared; `prot` is PROT_READ or PROT_READ|PROT_WRITE. */
enum err_code ring_page_map(int fd, int prot, void **ret_page, struct err *reterr);
void ring_page_unmap(const void *page);
/* The fd is a memfd of exactly `bytes` with at least these seals: mapped memory can never vanish under us. */
enum err_code ring_memfd_check(int fd, uint64_t bytes, unsigned seals, struct err *reterr);
bool ring_lane_bytes_ok(uint64_t lane_bytes);

/* message.c */
void ring_message_init(struct ring_message *message, enum ring_message_kind kind);
/* Sends without SIGPIPE and without blocking. ERR_FULL: try again later; ERR_DETACHED: nobody reads; ERR_SYSTEM. */
enum err_code ring_message_send(int socket_fd, const struct ring_message *message, const int *fds, size_t fds_count);
/* Receives one message without blocking; fds are close-on-exec and the caller's. ERR_EMPTY: nothing there;
 * ERR_DETACHED: the other side is gone; ERR_PROTOCOL: not a message of ours (its fds were closed), reading may go on;
 * ERR_VERSION: of ours, of another version, only the first 16 bytes of *ret_message are meaningful; ERR_LIMIT: its
 * descriptors found no room in this process (RLIMIT_NOFILE) and are lost, *ret_message is what they came with;
 * ERR_SYSTEM. */
enum err_code ring_message_receive(int socket_fd, struct ring_message *ret_message, int fds[RING_MESSAGE_FDS_MAX],
                                   size_t *ret_fds_count);
/* The same, but after ERR_LIMIT the message is still there, to be received when there is room. */
enum err_code ring_message_receive_whole(int socket_fd, struct ring_message *ret_message, int fds[RING_MESSAGE_FDS_MAX],
                                         size_t *ret_fds_count);
void ring_fds_close(int *fds, size_t count);

/* own.c: descriptors that a producer keeps, in a host that may close them. Inodes tell sockets and files apart; all
 * eventfds have one. */
struct ring_identity ring_identity_of(int fd);
bool ring_is_own(int fd, struct ring_identity identity);
void ring_own_close(int *fd, struct ring_identity identity);

/* producer.c */
/* ring_reserve() and ring_stage() of any kind that layout.h knows. ERR_BUG: another. */
enum err_code ring_reserve_kind(struct ring_producer *producer, uint32_t kind, uint32_t payload_bytes,
                                uint8_t **ret_payload);
enum err_code ring_stage_kind(struct ring_producer *producer, uint32_t kind, uint32_t payload_bytes);
/* Makes the producer use these pages (mapped, read-only) instead of the ones it has, which are unmapped. On failure
 * nothing has changed and the pages are the caller's. lane_id, lane_bytes, staged and fence_always must be set. */
enum err_code ring_producer_use_pages(struct ring_producer *producer, const void *page, const void *bed_page,
                                      struct err *reterr);
/* Its other end is closed: nobody reads or writes the lane any more, in this router or a later one. Pages may wait in
 * it. */
bool ring_producer_connection_ended(const struct ring_producer *producer);

/* Where the records begin that the writer of this page, dead or done with the lane, has left in it. */
static inline uint64_t ring_page_taken(const struct ring_daemon_page *page, uint64_t lane_bytes)
{
        /* Acquire: whatever that router did to the lane comes before. */
        uint64_t tail = atomic_load_explicit(&page->tail, memory_order_acquire);
        uint64_t taken = atomic_load_explicit(&page->taken, memory_order_acquire);
        return (int64_t)(taken - tail) > 0 && taken - tail <= lane_bytes ? taken : tail;
}

static inline long ring_futex_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *timeout)
{
        return syscall(SYS_futex, (void *)word, FUTEX_WAIT, value, timeout, NULL, 0);
}

static inline long ring_futex_wake(const _Atomic uint32_t *word)
{
        return syscall(SYS_futex, (const void *)word, FUTEX_WAKE, 0x7fffffff, NULL, NULL, 0);
}

static inline uint64_t ring_now_ns(void)
{
        struct timespec now;
        (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock and a valid pointer */
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---------------------------------------------------------------------------------------------- daemon only */

struct ring_lane {
        /* ---- the shard's, but set before lane_ready() */
        uint8_t *map; /* head page, then the records twice */
        uint8_t *data;
        struct ring_head_page *head_page; /* hostile */
        struct ring_daemon_page *page;
        uint64_t lane_bytes;
        uint64_t mask;
        uint32_t payload_bytes_max;
        uid_t own_uid; /* of this daemon */
        bool visiting;
        bool visit_over;      /* nothing more in this visit: undone, or a violation */
        uint64_t cursor;      /* taken and given back: equals the tail */
        uint64_t read;        /* taken in this visit */
        uint64_t last;        /* where the last record of this visit began */
        uint64_t visit_head;  /* head as it was at the begin of the visit, bounded */
        uint64_t visit_limit; /* records begin only before this position: the budget */
        uint64_t bad_head;    /* the last insane head: counted once */
        bool bad_head_seen;

        /* ---- written by one thread, read by others */
        _Atomic uint64_t position; /* = cursor; for statistics */
        _Atomic uint64_t skipped_bytes;
        _Atomic uint64_t rejected;
        _Atomic uint32_t violations;
        _Atomic bool orphan; /* control: the producer is gone. Release; pairs with the acquire in is_orphan(). */
        _Atomic bool ending; /* control: the producer was told to stop publishing */

        /* ---- the control thread's */
        struct ring_lane_info info;
        int data_fd; /* -1 once keeper and producer have it */
        int page_fd;
        int connection_fd;
        int pidfd; /* -1: the producer's process is not visible here */
        int bell_fd;
        uint32_t slot;
        uint32_t shard;
        bool page_owed; /* the producer has not been sent the new page yet */
        bool announced; /* lane_ready() was called */
        /* Read-only, until the producer is told of the new one: a flush may sleep on it. */
        struct ring_daemon_page *old_page;
};

/* lane.c */
/* A memfd of `bytes`; ALLOW_SEALING, CLOEXEC, never executable where the kernel knows that flag. */
enum err_code ring_memfd_create(const char *name, uint64_t bytes, int *ret_fd, struct err *reterr);
/* A daemon-written page: mapped read-write here, then sealed against any further writer. */
enum err_code ring_sealed_page_create(const char *name, int *ret_fd, void **ret_page, struct err *reterr);
/* Makes a lane from nothing. All fds but data, page and bell are -1. */
enum err_code ring_lane_create(uint64_t lane_id, uint64_t lane_bytes, bool durable, struct ring_lane **ret_lane,
                               struct err *reterr);
/* Takes over a lane: maps `data_fd`, reads the tail of `old_page_fd`, makes a new page that starts at
 * max(old tail, old taken, journalled). Owns both fds from now on, also on failure. */
enum err_code ring_lane_adopt(uint64_t lane_id, uint64_t lane_bytes, bool durable, int data_fd, int old_page_fd,
                              uint64_t journalled, struct ring_lane **ret_lane, struct err *reterr);
/* Unmaps, closes, frees. */
void ring_lane_free(struct ring_lane *lane);

/* bed.c */
int ring_bed_memfd(const struct ring_bed *bed);
const struct ring_bed_page *ring_bed_page_of(const struct ring_bed *bed);
enum err_code ring_bed_add_bell(struct ring_bed *bed, int bell_fd, struct err *reterr);
void ring_bed_remove_bell(struct ring_bed *bed, int bell_fd);
/* Makes every store that a producer did before its look at attention or sleeping visible, or our stores to its look. */
void ring_membarrier(void);
bool ring_membarrier_works(void);

/* connection.c */
/* Switches off that descriptors can be sent to us over this socket, and over all that are accepted from it. */
void ring_connection_refuse_rights(int fd);
/* Ends a producer's connection and sets *fd to -1. Never waits for what the producer may have put into it. */
void ring_connection_close(int *fd);
/* Looks at the next message without taking it. Its whole length, or as recv(). *ret_descriptors: some came with it;
 * taking it would close them here. */
ssize_t ring_connection_peek(int fd, void *bytes, size_t bytes_count, bool *ret_descriptors);
/* True when something that was sent into it has not been received at its other end. */
bool ring_connection_is_unread(int fd);

/* A pidfd of the process at the other end. SO_PEERPIDFD (Linux 6.5) names exactly the process that connected. Before
 * that: by number, and the number is still its own if the connection has not ended since. -1 when the process cannot be
 * seen from here (another pid namespace): then the end of its connection has to do. */
int ring_connection_pidfd(int fd, const struct ucred *peer);

/* listen.c */
/* Locks `path`.lock, replaces a stale socket, listens. ERR_LOCKED when another process holds the lock. */
enum err_code ring_listen_open(const char *path, unsigned mode, int *ret_listen_fd, int *ret_lock_fd,
                               struct err *reterr);

#endif
