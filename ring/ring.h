/* Lanes: shared-memory, single-producer single-consumer byte rings between a mail process and the router.
 *
 * A lane is made by the daemon and lent to one producer thread. Two memfds carry it:
 *
 *   data memfd   (F_SEAL_SHRINK|GROW|SEAL; read-write for both)   page 0: producer's head page; then `lane_bytes` of
 * records, mapped twice in a row, so that no record ever wraps daemon memfd (the same seals + F_SEAL_FUTURE_WRITE, set
 * after the daemon mapped it; read-only for the producer)   one page: tail, durable position bed memfd    (like the
 * daemon memfd, one per shard) one page: sleeping flag and futex word of the shard
 *
 * TO BE DRAWN HERE BY THE OWNER: the layout, offset by offset, with who writes, who reads, the memory order; the record
 * {u32 length, u32 kind} + payload padded to 8; and the table "a kill at this step leaves ... repaired by ...".
 *
 * A router incarnation brings its own daemon page: F_SEAL_FUTURE_WRITE denies the next router a writable mapping of the
 * old one. It sends the new page over the lane's connection and raises `attention` in the producer's head page, which
 * the producer looks at on its slow path and, as a plain load of a line it owns anyway, at each commit.
 *
 * Trust: the daemon believes nothing in the data memfd; a producer can damage nothing but its own lane.
 *
 * This header is for three parties: producer/ (attach, reserve, commit), router/ (server, lane, visit), tools (keeper).
 */
#ifndef SENDRING_RING_RING_H
#define SENDRING_RING_RING_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---------------------------------------------------------------------------------------------- producer */

/* One lane as its producer sees it. Caller's memory, one thread. Members are private to ring/. */
struct ring_producer {
        uint8_t *head_page;         /* shared, written by us */
        uint8_t *data;              /* shared, `lane_bytes` mapped twice */
        const uint8_t *daemon_page; /* shared, read-only */
        uint64_t lane_bytes;
        uint64_t head;           /* private copy: published */
        uint64_t staged;         /* private: records finished but not yet published end here */
        uint64_t tail_seen;      /* last tail read: refreshed only when room seems short */
        uint32_t reserved_bytes; /* payload bytes of the open reservation, 0: none */
        bool reserved;
        int connection_fd; /* SOCK_SEQPACKET to the daemon; carries a new daemon page after its restart */
        uint64_t lane_id;
        uint64_t wakeups; /* publishes that paid for a FUTEX_WAKE */
        bool fenced;      /* membarrier was refused: a full fence at commit instead */
};

struct ring_attach_options {
        const char *socket_path;
        const char *name;    /* at most LIMIT_LANE_NAME_BYTES_MAX - 1 bytes are kept */
        uint32_t lane_bytes; /* wish; 0: the daemon's default */
        uint32_t timeout_ms;
};

/* Connects, receives the two memfds, checks magic, version, seals and sizes, maps. Async-signal state of the host is
 * left alone (MSG_NOSIGNAL, O_CLOEXEC everywhere). ERR_CONNECT (nobody listens), ERR_PERMISSION, ERR_VERSION,
 * ERR_TIMEOUT, ERR_LIMIT (the daemon has no lane left), ERR_SYSTEM, ERR_PROTOCOL. */
enum err_code ring_producer_attach(struct ring_producer *producer, const struct ring_attach_options *options,
                                   struct err *reterr);
/* Unmaps and closes. What was published stays. */
void ring_producer_detach(struct ring_producer *producer);
/* In a forked child: unmaps and closes the child's copies without touching shared words. */
void ring_producer_abandon(struct ring_producer *producer);

/* Reserves room for one record of at most `payload_bytes` and stores in *ret_payload where to write it (8-aligned,
 * contiguous).
 *
 * The caller owns those bytes until ring_commit(), ring_stage() or ring_discard(); exactly one of them must follow,
 * before the next reserve. Nothing is visible before commit. Never blocks, never allocates, no system call.
 *
 * ERR_TOO_BIG   the record can never fit in this lane (more than half of it, or LIMIT_EVENT_BYTES_MAX);
 * ERR_FULL      no room now;
 * ERR_BUG       a reservation is open. */
enum err_code ring_reserve(struct ring_producer *producer, uint32_t payload_bytes, uint8_t **ret_payload);
/* Finishes the reserved record with its true length (<= reserved) and publishes it and everything staged before it: one
 * release store of head. Wakes the daemon only when its sleeping flag is up. */
enum err_code ring_commit(struct ring_producer *producer, uint32_t payload_bytes);
/* Finishes the record without publishing: bulk commit. */
enum err_code ring_stage(struct ring_producer *producer, uint32_t payload_bytes);
/* Publishes all that is staged. */
void ring_publish_staged(struct ring_producer *producer);
/* Gives the reservation back. */
void ring_discard(struct ring_producer *producer);

/* The slow path, for a full lane, a raised `attention` or a flush: takes a new daemon page from the connection if one
 * waits there. ERR_OK: look again. ERR_DETACHED: the daemon and its keeper are gone (the connection ended): detach and
 * attach anew. */
enum err_code ring_producer_refresh(struct ring_producer *producer, struct err *reterr);
/* True when the daemon asked for ring_producer_refresh(). One load. */
bool ring_producer_attention(const struct ring_producer *producer);

/* Waits until the daemon has journalled (or, for a lane with durability host, synced) everything published.
 * ERR_TIMEOUT, ERR_DETACHED. */
enum err_code ring_producer_wait(struct ring_producer *producer, uint32_t timeout_ms);
/* Published bytes that the daemon has not yet taken. */
uint64_t ring_producer_used_bytes(struct ring_producer *producer);

/* ---------------------------------------------------------------------------------------------- daemon: one lane */

/* A lane as the daemon sees it. Geometry and cursor are private copies; what is shared is only ever read once and
 * bounded. */
struct ring_lane;

struct ring_lane_info {
        uint64_t lane_id; /* random, unique over the journal's life */
        uint64_t lane_bytes;
        pid_t pid; /* by SO_PEERCRED at attach */
        uid_t uid;
        gid_t gid;
        char name[32];
};

void ring_lane_get_info(const struct ring_lane *lane, struct ring_lane_info *ret_info);

/* ---- visits: the one shard thread that owns the lane.
 *
 *     ring_visit_begin(lane);
 *     while (ring_visit_next(lane, &payload, &position)) {
 *             copy payload out; then look only at the copy
 *     }
 *     ... journal commit ...
 *     ring_visit_end(lane);         zeroes what was taken, moves the tail, wakes a waiting flush
 */

/* Loads head once (acquire) and bounds it. Returns the bytes there are to take, 0: none. A head out of bounds or
 * unaligned is a violation: counted, the lane is resynchronised to head's next sane value, and 0 is returned. */
uint64_t ring_visit_begin(struct ring_lane *lane);
/* The next record of this visit. *ret_payload points into hostile shared memory that may change under the reader: copy
 * it once, look only at the copy. *ret_position is the lane position behind the record (what the journal stores).
 * False: nothing more in this visit (or a bad length: a violation, the rest of the visit is skipped and counted). */
bool ring_visit_next(struct ring_lane *lane, struct slice *ret_payload, uint64_t *ret_position);
/* Undoes the last ring_visit_next(): the record is offered again at the next visit (the journal was full). */
void ring_visit_undo(struct ring_lane *lane);
void ring_visit_end(struct ring_lane *lane);

/* Position up to which everything was taken (= the tail the producer sees after ring_visit_end). */
uint64_t ring_lane_position(const struct ring_lane *lane);
/* At take-over: starts at `position` instead of the old tail (the journal knows more than the old daemon page). Only
 * forward. */
void ring_lane_skip_to(struct ring_lane *lane, uint64_t position);
/* Tells flushing producers that everything before `position` is on the disk. */
void ring_lane_set_durable(struct ring_lane *lane, uint64_t position);
uint32_t ring_lane_violations(const struct ring_lane *lane);
/* The producer is gone (pidfd readable, or its connection closed): what is committed can be drained, then the lane
 * closed. */
bool ring_lane_is_orphan(const struct ring_lane *lane);

/* ---- sleeping: the shard's side of "no lost wake-up, no cost for producers".
 * A bed is one more sealed, read-only-for-producers memfd page per shard with the sleeping flag and the futex word,
 * sent at attach beside the two memfds of the lane (FUTEX_WAKE needs read access only). */
struct ring_bed; /* what a shard sleeps on */
enum err_code ring_bed_create(struct ring_bed **ret_bed, struct err *reterr);
void ring_bed_free(struct ring_bed *bed);
/* Raises the sleeping flag, membarrier, then returns: the caller must look at all lanes once more, and either call
 * ring_bed_cancel() or ring_bed_wait(). */
void ring_bed_prepare(struct ring_bed *bed);
void ring_bed_cancel(struct ring_bed *bed);
/* Waits for a producer's wake, ring_bed_wake(), or the timeout; lowers the flag. Returns true when woken. */
bool ring_bed_wait(struct ring_bed *bed, uint64_t timeout_ns);
/* From any thread of the daemon. */
void ring_bed_wake(struct ring_bed *bed);

/* ---------------------------------------------------------------------------------------------- daemon: attaching */

/* The attach server: listening socket, handshakes, pidfds, the line to the keeper. One thread (control); give its
 * ring_server_fd() (an epoll fd) to that thread's poll and call ring_server_turn() when it is readable or once a
 * second. */
struct ring_server;

struct ring_server_options {
        const char *socket_path;   /* made with mode `socket_mode`; ignored when the keeper hands a listener over */
        unsigned socket_mode;      /* for example 0660 */
        const uid_t *allowed_uids; /* root and the daemon's own uid are always allowed */
        size_t allowed_uids_count;
        const gid_t *allowed_gids;
        size_t allowed_gids_count;
        uint32_t lane_bytes_default;
        uint32_t lane_bytes_max;
        uint32_t lanes_max;
        bool durable;                 /* flush waits for `durable` instead of the tail */
        int keeper_fd;                /* socket to the keeper, or -1: no keeper (lanes die with this process) */
        struct ring_bed *const *beds; /* one per shard: a lane is bound to the shard it is given to */
        uint32_t shards_count;
        /* A lane is ready for its shard: called on the control thread, from ring_server_turn(). */
        void (*lane_ready)(void *context, struct ring_lane *lane, uint32_t shard);
        /* A lane taken over from an earlier router: return the position up to which the journal has its records (0:
         * none). */
        uint64_t (*lane_journalled)(void *context, uint64_t lane_id);
        void *context;
};

/* Creates the socket (or takes the keeper's), takes over the keeper's lanes: each is reported through lane_ready from
 * the first turns. ERR_LOCKED when another live daemon listens on the path. */
enum err_code ring_server_create(const struct ring_server_options *options, struct ring_server **ret_server,
                                 struct err *reterr);
int ring_server_fd(const struct ring_server *server);
void ring_server_turn(struct ring_server *server);
/* No new producers from now on (draining). */
void ring_server_stop(struct ring_server *server);
/* The shard is done with an orphan lane (drained) or with one closed for violations: called on the control thread.
 * Unmaps, tells the keeper to drop it. */
void ring_server_lane_close(struct ring_server *server, struct ring_lane *lane);
/* Frees the server. Lanes that the keeper holds stay alive for the next router. */
void ring_server_free(struct ring_server *server);

struct ring_server_stats {
        uint64_t attached, refused, taken_over, orphaned, closed, lanes_now;
};
void ring_server_get_stats(const struct ring_server *server, struct ring_server_stats *ret_stats);

/* ---------------------------------------------------------------------------------------------- keeper */

/* The keeper: a small process that outlives routers. It owns the listening socket and copies of every lane's fds (data,
 * daemon page, connection, pidfd), starts `argv` with one end of a socket pair as fd number in the environment variable
 * SENDRING_KEEPER_FD, restarts it when it dies by a signal or a non-zero exit other than 78 (configuration), with
 * back-off 0, 100 ms, 200 ms ... 5 s, and hands everything over. SIGTERM/SIGINT/SIGHUP/SIGUSR1 are passed on to the
 * router; after SIGTERM it waits for the router's clean exit and returns its status. */
struct ring_keeper_options {
        const char *socket_path;
        unsigned socket_mode;
        char *const *argv;
};
/* Runs until the service ends; returns the exit status for main(). */
int ring_keeper_run(const struct ring_keeper_options *options);

#endif
