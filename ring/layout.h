/* clang-format off */
/* The byte layout of lanes: what the producer's process and the daemon share. Private to ring/ and its tests.
 *
 * All numbers are little-endian; positions run free in 64 bits from 0 and are compared only by difference; the byte of
 * position p lies at data[p & (lane_bytes - 1)].
 *
 * Data memfd, 4096 + lane_bytes, sealed SHRINK|GROW|SEAL, read-write for both sides. Mapped in each process between two
 * guard pages, the records twice in a row, so that no record wraps:
 *
 *       guard | head page | records 0..lane_bytes-1 | the same records again | guard
 *
 *   head page
 *      0  u32 magic "SRHP"   4  u32 version   8  u64 lane_id   16  u64 lane_bytes      (written once, for debuggers)
 *    128  u64 head           end of what is published
 *    136  u32 waiting        1: the producer sleeps in ring_producer_wait()
 *    144  u64 full           reserves that found no room, for statistics
 *    256  u32 attention      0 none, 1 a new daemon page waits on the connection, 2 the service ends: publish no more,
 *                            3 a new one is owed: what waits on the connection is to be taken first
 *
 *   record, at an 8-aligned position
 *      0  u64 header: length in the low half (1..payload maximum), kind in the high half (RING_KIND_EVENT)
 *      8  payload, then 0 to 7 bytes of anything up to the next multiple of 8
 *   A record is valid when it ends at or before head. Everything between head and tail + lane_bytes belongs to the
 *   producer and means nothing.
 *
 *   payload of RING_KIND_REPLAY: an event that was accepted before, with where it comes from in front. In the lanes of
 *   other users than root and the daemon's own the kind does not exist.
 *      0  u64 lane id   8  u64 position behind it in that lane   16  i64 accepted_ms      (of the first time)
 *     24  u16 destination bytes, at most RING_REPLAY_DESTINATION_BYTES_MAX   26  u16 set bytes, at most
 *         LIMIT_NAME_BYTES_MAX   28  u32 0
 *     32  destination, set, then the event
 *
 * Daemon page memfd, one page, sealed SHRINK|GROW|FUTURE_WRITE|SEAL after the daemon mapped it: read-only for the
 * producer for ever. One per lane and router incarnation.
 *      0  u32 magic "SRDP"   4  u32 version   8  u64 lane_id   16  u32 flags (RING_PAGE_DURABLE)
 *    128  u64 tail           everything before it is journalled; its room is the producer's again
 *    136  u64 durable        everything before it is on the disk, and what the producer had in lanes before this one;
 *                            of a new lane 8 less than its beginning, until that is so
 *    144  u32 progress       futex word: changes whenever tail or durable moved while `waiting` was up
 *    152  u64 taken          everything before it is journalled, and zeroed or about to be. Ahead of tail only in the
 *                            end of a visit, and for good where a router died in it. 0 from routers that do not know it
 *
 * Bed memfd, one page, sealed like the daemon page, one per shard and router incarnation.
 *      0  u32 magic "SRBD"   4  u32 version   8  u32 flags (RING_BED_FENCED)
 *    128  u32 sleeping       odd: the shard is about to sleep or sleeps; each sleep has its own odd number
 *
 * Bell: an eventfd per lane and router incarnation, in the epoll set on which the shard sleeps. Not a futex word in the
 * bed: a producer that may only read the word cannot change it, so a FUTEX_WAKE that falls between the shard's last
 * look and its FUTEX_WAIT would be lost; and whoever may read a futex word may also wait on it or requeue its waiters,
 * and so steal the wake-ups of other producers. An eventfd keeps its state and is shared with one producer only.
 *
 * Shared words. Each has one writer, save attention, which both may write.
 *
 *   word       written by            read by            order, and why
 *   head       producer: publish     shard: visit begin release / acquire: the record's bytes come before it. seq_cst
 *                                                       where membarrier is refused (see sleeping)
 *   waiting    producer: wait        shard: visit end   seq_cst both: against tail and durable; either the shard sees
 *                                                       that somebody waits, or the waiter sees the new tail
 *   full       producer: reserve     statistics         relaxed: a number for people
 *   attention  control: take-over,   producer: publish, release / acquire: the page lies in the connection before it
 *              stop; producer: takes wait, full lane    is raised. Lowered before the connection is read, so that a
 *              it (exchange with 0)                     page that comes later raises it again
 *   tail       shard: visit end      producer: no room, seq_cst store (against waiting), acquire load: the zeroing
 *                                    wait               comes before the room is given back
 *   taken      shard: visit end,     producer: reattach relaxed, in program order before the zeroing: whoever reads it
 *              before it zeroes      router: take-over  knows already that its writer is dead
 *   durable    journal's owner       producer: wait     as tail
 *   progress   daemon: with waiting  producer: wait     seq_cst; futex word
 *   sleeping   shard: bed            producer: publish  store, then membarrier by the shard; load after the store of
 *                                                       head by the producer: either the shard's last look sees the
 *                                                       new head, or the producer sees an odd number and rings
 *
 * A kill, and who repairs it.
 *
 *   killed     at this step                  leaves                        repaired by
 *   ---------  ----------------------------  ----------------------------  ------------------------------------------
 *   producer   between reserve and commit    bytes beyond head             nobody needs to: they mean nothing
 *   producer   header written, head not      the same                      the same
 *   producer   head stored, bell not rung    a readable record, the shard  the pidfd wakes the control thread, which
 *                                            may sleep                     marks the lane and wakes the shard
 *   producer   in wait                       waiting = 1                   futile wakes until the lane is closed
 *   router     before the keeper has the     a connection without a reply  the producer sees it end, and tries again
 *              lane
 *   router     keeper has it, no reply sent  a lane nobody writes          the next router offers a page; the producer
 *                                                                          gives up and tries again: an orphan
 *   router     record copied, not journalled tail before it                the next router reads it again
 *   router     journalled, nothing zeroed    tail before it                the next router starts at
 *                                                                          max(tail, taken, lane_journalled())
 *   router     taken stored, tail not moved, tail before it, its bytes     the same, also with a journal that is new
 *              some of it zeroed             partly zero                   (ADR 51)
 *   router     while it drains for the end   producers that publish no     the next router drains; its page tells the
 *              of the service                more, and a lane with rest    producer that its lane goes on, and no older
 *                                                                          one does
 *   router     new page made, keeper has     the old page with keeper and  the next router makes another; nothing was
 *              not got it                    producer                      visited under the lost one
 *   router     page sent, attention not up   a page waiting unseen         the next router raises it, and sends its own when
 *                                                                          that one is taken
 *   router     after unlink of a lane,       a closed lane with the keeper the next router finds it an orphan, drops it
 *              before the keeper dropped it
 *   keeper     any                           the router goes on alone      ring_server_keeper_gone() tells it
 *   keeper and any but those below           the connection ended, pages   ring_producer_reattach() takes the pages, and
 *   router                                   wait in it                    carries over what is behind the last one's tail
 *   keeper and taken stored, tail not moved, the same, bytes partly zero   the same, behind max(tail, taken)
 *   router     some of it zeroed
 *   keeper and before the producer was sent  an old page; behind its tail  the same, from where records follow each
 *   router     the page under which it took  zeros, then what is left      other up to head: no header is zero
 *   keeper and journalled, taken not stored  a whole lane                  nobody: carried over, it is there twice
 *   router
 */
/* clang-format on */
#ifndef SENDRING_RING_LAYOUT_H
#define SENDRING_RING_LAYOUT_H

#include "base/limits.h"
#include "ring/ring.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define RING_PAGE_BYTES       4096u
#define RING_VERSION          1u
#define RING_MAGIC_HEAD_PAGE  0x50485253u /* "SRHP" */
#define RING_MAGIC_DAEMON     0x50445253u /* "SRDP" */
#define RING_MAGIC_BED        0x44425253u /* "SRBD" */
#define RING_MAGIC_MESSAGE    0x474d5253u /* "SRMG" */
#define RING_HEADER_BYTES     8u
#define RING_KIND_EVENT       1u
#define RING_KIND_REPLAY      2u
#define RING_DURABLE_NOTHING  (UINT64_MAX - 7)
#define RING_PAGE_DURABLE     1u /* flushes wait for `durable`, not for `tail` */
#define RING_BED_FENCED       1u /* the daemon may not use membarrier: producers fence */
#define RING_ATTENTION_NONE   0u
#define RING_ATTENTION_PAGE   1u
#define RING_ATTENTION_ENDING 2u
#define RING_ATTENTION_ROOM   3u

struct ring_head_page {
        uint32_t magic;
        uint32_t version;
        uint64_t lane_id;
        uint64_t lane_bytes;
        uint8_t gap_0[104];
        _Atomic uint64_t head;
        _Atomic uint32_t waiting;
        uint32_t gap_1;
        _Atomic uint64_t full;
        uint8_t gap_2[104];
        _Atomic uint32_t attention;
        uint8_t gap_3[3836];
};

struct ring_daemon_page {
        uint32_t magic;
        uint32_t version;
        uint64_t lane_id;
        uint32_t flags;
        uint8_t gap_0[108];
        _Atomic uint64_t tail;
        _Atomic uint64_t durable;
        _Atomic uint32_t progress;
        uint32_t gap_1;
        _Atomic uint64_t taken;
        uint8_t gap_2[3936];
};

struct ring_bed_page {
        uint32_t magic;
        uint32_t version;
        uint32_t flags;
        uint8_t gap_0[116];
        _Atomic uint32_t sleeping;
        uint8_t gap_1[3964];
};

struct ring_replay_head {
        uint64_t lane_id;
        uint64_t lane_position;
        int64_t accepted_ms;
        uint16_t destination_bytes;
        uint16_t set_bytes;
        uint32_t zero;
};
_Static_assert(sizeof(struct ring_replay_head) == 32, "drawn above");
_Static_assert(offsetof(struct ring_replay_head, destination_bytes) == 24, "drawn above");

_Static_assert(offsetof(struct ring_head_page, lane_id) == 8, "drawn above");
_Static_assert(offsetof(struct ring_head_page, lane_bytes) == 16, "drawn above");
_Static_assert(offsetof(struct ring_head_page, head) == 128, "drawn above");
_Static_assert(offsetof(struct ring_head_page, waiting) == 136, "drawn above");
_Static_assert(offsetof(struct ring_head_page, full) == 144, "drawn above");
_Static_assert(offsetof(struct ring_head_page, attention) == 256, "drawn above");
_Static_assert(sizeof(struct ring_head_page) == RING_PAGE_BYTES, "drawn above");
_Static_assert(offsetof(struct ring_daemon_page, lane_id) == 8, "drawn above");
_Static_assert(offsetof(struct ring_daemon_page, flags) == 16, "drawn above");
_Static_assert(offsetof(struct ring_daemon_page, tail) == 128, "drawn above");
_Static_assert(offsetof(struct ring_daemon_page, durable) == 136, "drawn above");
_Static_assert(offsetof(struct ring_daemon_page, progress) == 144, "drawn above");
_Static_assert(offsetof(struct ring_daemon_page, taken) == 152, "drawn above");
_Static_assert(sizeof(struct ring_daemon_page) == RING_PAGE_BYTES, "drawn above");
_Static_assert(offsetof(struct ring_bed_page, flags) == 8, "drawn above");
_Static_assert(offsetof(struct ring_bed_page, sleeping) == 128, "drawn above");
_Static_assert(sizeof(struct ring_bed_page) == RING_PAGE_BYTES, "drawn above");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "shared words need no lock");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the layout is little-endian and used in place");
_Static_assert(LIMIT_LANE_BYTES_MIN % RING_PAGE_BYTES == 0, "lanes are mapped in whole pages");
_Static_assert((LIMIT_LANE_BYTES_MIN & (LIMIT_LANE_BYTES_MIN - 1)) == 0, "positions are masked");
_Static_assert((LIMIT_LANE_BYTES_MAX & (LIMIT_LANE_BYTES_MAX - 1)) == 0, "positions are masked");

/* Room that a record with this payload takes. No overflow: payloads are bounded by LIMIT_EVENT_BYTES_MAX. */
static inline uint64_t ring_record_bytes(uint32_t payload_bytes)
{
        return RING_HEADER_BYTES + (((uint64_t)payload_bytes + 7) & ~UINT64_C(7));
}

/* The longest payload of a lane: a record may take at most half of it, or two large ones could wait for each other's
 * room for ever. */
static inline uint32_t ring_payload_bytes_max(uint64_t lane_bytes)
{
        uint64_t half = lane_bytes / 2 - RING_HEADER_BYTES;
        return half < LIMIT_EVENT_BYTES_MAX ? (uint32_t)half : LIMIT_EVENT_BYTES_MAX;
}

/* The same of a replayed record, so that the largest event has room behind its head. */
static inline uint32_t ring_replay_bytes_max(uint64_t lane_bytes)
{
        const uint32_t most = LIMIT_EVENT_BYTES_MAX + (uint32_t)sizeof(struct ring_replay_head) +
                              RING_REPLAY_DESTINATION_BYTES_MAX + LIMIT_NAME_BYTES_MAX;
        uint64_t half = lane_bytes / 2 - RING_HEADER_BYTES;
        return half < most ? (uint32_t)half : most;
}

/* ---------------------------------------------------------------------------------------------- messages
 *
 * One shape for all: over the SOCK_SEQPACKET connection between producer and daemon, and over the socket pair between
 * router and keeper. The first 16 bytes never change, so that versions can refuse each other. File descriptors travel
 * beside it by SCM_RIGHTS, in the order named here. */
enum ring_message_kind {
        /* producer -> daemon: lane_bytes (wish, 0: default), name */
        RING_MESSAGE_HELLO = 1,
        /* daemon -> producer: lane_id, lane_bytes; data, daemon page, bed, bell */
        RING_MESSAGE_LANE = 2,
        /* daemon -> producer, after a restart: lane_id; daemon page, bed, bell */
        RING_MESSAGE_PAGE = 3,
        /* daemon -> producer: status */
        RING_MESSAGE_REFUSED = 4,
        /* keeper -> router: listening socket */
        RING_MESSAGE_LISTENER = 16,
        /* keeper -> router: lane_id, lane_bytes, pid, uid, gid, name; data, daemon page, connection, pidfd (if any) */
        RING_MESSAGE_KEPT = 17,
        /* keeper -> router: count of lanes sent; nothing more follows */
        RING_MESSAGE_END = 18,
        /* router -> keeper: like RING_MESSAGE_KEPT */
        RING_MESSAGE_KEEP = 19,
        /* router -> keeper: lane_id; the daemon page that replaces the one kept */
        RING_MESSAGE_KEEP_PAGE = 20,
        /* router -> keeper: lane_id */
        RING_MESSAGE_DROP = 21,
        /* router -> keeper: it has started well and takes signals */
        RING_MESSAGE_READY = 22,
};

enum ring_status {
        RING_STATUS_OK = 0,
        RING_STATUS_VERSION = 1,
        RING_STATUS_DENIED = 2,
        RING_STATUS_LIMIT = 3,
        RING_STATUS_BUSY = 4,
        RING_STATUS_SYSTEM = 5,
        RING_STATUS_MALFORMED = 6,
        RING_STATUS_USER_LIMIT = 7,
};

#define RING_MESSAGE_FDS_MAX 4

struct ring_message {
        uint32_t magic;
        uint16_t version;
        uint16_t kind;
        uint32_t status;
        uint32_t count;
        uint64_t lane_id;
        uint64_t lane_bytes;
        int32_t pid;
        uint32_t uid;
        uint32_t gid;
        uint32_t reserved;
        char name[LIMIT_LANE_NAME_BYTES_MAX];
};
_Static_assert(offsetof(struct ring_message, kind) == 6, "versions meet in the first 16 bytes");
_Static_assert(offsetof(struct ring_message, lane_id) == 16, "versions meet in the first 16 bytes");
_Static_assert(sizeof(struct ring_message) == 80, "no hidden padding");

#endif
