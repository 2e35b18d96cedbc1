/* Lanes: shared-memory, single-producer single-consumer byte rings between a mail process and the router.
 *
 * A lane is made by the daemon and lent to one producer thread. It consists of
 *
 *   data memfd     producer's head page, then `lane_bytes` of records, mapped twice in a row, so that no record ever
 *                  wraps; sealed SHRINK|GROW|SEAL; read-write for both sides
 *   daemon page    a memfd of one page: tail, durable position; sealed FUTURE_WRITE as well: read-only for the producer
 *   bed            a memfd of one page per shard, sealed like the daemon page: says whether the shard sleeps
 *   bell           an eventfd: a producer that finds its shard asleep writes to it
 *   connection     the SOCK_SEQPACKET socket over which these came; its end is how each side learns that the other has
 *                  left for good
 *
 * ring/layout.h draws the bytes, lists each shared word with its writer, reader and memory order, and says what a kill
 * at each step leaves and who repairs it.
 *
 * A router incarnation brings its own daemon pages, bed and bells: F_SEAL_FUTURE_WRITE denies the next router a
 * writable mapping of the old ones. It sends them over the lane's connection and raises `attention` in the producer's
 * head page, which the producer reads after each publish (a line that nobody else writes) and when the lane is full,
 * and takes the new ones by itself.
 *
 * Trust: the daemon believes nothing in the data memfd; a producer can damage nothing but its own lane.
 *
 * This header is for three parties: producer/ (attach, reserve, commit), router/ (server, lane, visit), tools (keeper).
 */
#ifndef SENDRING_RING_RING_H
#define SENDRING_RING_RING_H

#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---------------------------------------------------------------------------------------------- producer */

/* What a descriptor was opened as. */
struct ring_identity {
        uint64_t device, inode;
};

/* One lane as its producer sees it. Caller's memory, one thread. Members are private to ring/, save the counters
 * `wakeups` and `full` and the facts lane_id, lane_bytes, payload_bytes_max, carried, which may be read. */
struct ring_producer {
        uint8_t *head_page;         /* shared, written by us; NULL: not attached */
        uint8_t *data;              /* shared, `lane_bytes` mapped twice */
        const uint8_t *daemon_page; /* shared, read-only */
        const uint8_t *bed_page;    /* shared, read-only */
        uint64_t lane_bytes;
        uint64_t head;              /* private copy: published */
        uint64_t staged;            /* private: records finished but not yet published end here */
        uint64_t tail_seen;         /* last tail read: refreshed only when room seems short */
        uint64_t carried;           /* detached: what is before it has gone in lanes that were too small for all */
        uint32_t payload_bytes_max; /* of one record in this lane */
        uint32_t reserved_bytes;    /* payload bytes of the open reservation */
        bool reserved;
        bool detached;     /* the daemon has gone: nothing more can be reserved */
        bool left;         /* detached, and the router was told that nothing more comes: it drains the lane */
        bool durable;      /* ring_producer_wait() waits for the disk */
        bool fenced;       /* the daemon or this process may not use membarrier: publish pays for the order */
        bool fence_always; /* this process may not */
        int connection_fd; /* SOCK_SEQPACKET to the daemon; carries new pages after its restart */
        int bell_fd;
        struct ring_identity connection_identity, bell_identity; /* of the two: the host may have closed them */
        uint32_t rung;        /* the sleep of the shard for which the bell was rung already */
        uint32_t pages_taken; /* of later routers */
        uint64_t lane_id;
        uint64_t wakeups; /* publishes that rang: one system call each */
        uint64_t full;    /* reserves that found no room */
};

struct ring_attach_options {
        const char *socket_path;
        const char *name;    /* at most LIMIT_LANE_NAME_BYTES_MAX - 1 bytes are kept */
        uint32_t lane_bytes; /* wish; 0: the daemon's default. Rounded up to a power of two, bounded by the daemon */
        uint32_t timeout_ms; /* 0: 2000 */
};

/* Connects, receives the lane, checks magic, version, seals and sizes, maps. Signals, errno and descriptors of the host
 * are left alone (MSG_NOSIGNAL, O_CLOEXEC everywhere). While a keeper restarts the router it goes on trying until the
 * timeout. ERR_CONNECT (nobody listens, or the daemon is ending), ERR_PERMISSION, ERR_VERSION, ERR_TIMEOUT, ERR_RESET
 * (the daemon died meanwhile), ERR_LIMIT (the daemon has no lane left), ERR_SYSTEM, ERR_MEMORY, ERR_PROTOCOL. On
 * failure the producer is empty: attach and detach are the only calls allowed on it. */
enum err_code ring_producer_attach(struct ring_producer *producer, const struct ring_attach_options *options,
                                   struct err *reterr);
/* After ERR_DETACHED: nothing published is lost while this process lives. Where the keeper has handed the lane to
 * another router, the producer goes on with it. Otherwise attaches anew and carries over, in order, what was published
 * and not taken from the old lane, once nobody drains that any more. (After a crash of the daemon some of it may have
 * been taken: at least once.) What has no record's header any more is passed over.
 *
 * Errors as attach, and then the old lane is untouched: call again later. ERR_CONNECT also: a router still drains the
 * old lane; ERR_LIMIT: the router makes no lane that is large enough for what the old one holds: what fits has gone,
 * the next call carries over more; ERR_BUG: the old one has an open reservation. Detach and attach drop what it holds.
 */
enum err_code ring_producer_reattach(struct ring_producer *producer, const struct ring_attach_options *options,
                                     struct err *reterr);
/* Unmaps and closes. What was published stays and is drained by the daemon. Allowed on a detached or empty one. */
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
 * ERR_FULL      no room now: counted in `full`;
 * ERR_RANGE     a record of 0 bytes;
 * ERR_DETACHED  the daemon has gone or is ending: ring_producer_reattach();
 * ERR_BUG       a reservation is open, or the daemon's page is nonsense. */
enum err_code ring_reserve(struct ring_producer *producer, uint32_t payload_bytes, uint8_t **ret_payload);
/* Finishes the reserved record with its true length (1..reserved) and publishes it and everything staged before it: one
 * release store of head. Rings the daemon only when its shard sleeps, once per sleep. Takes a new router's pages when
 * attention is raised (system calls, once per restart of the router; with each publish while the process has no
 * descriptors left for them).
 *
 * ERR_DETACHED  the daemon is ending: this record and what was staged with it were withdrawn. A visit that is going on
 * at this moment may take them all the same: published again they are there twice, never lost. ERR_BUG       no
 * reservation, or a length of 0 or above the reserved one: the reservation is given back. */
enum err_code ring_commit(struct ring_producer *producer, uint32_t payload_bytes);
/* Finishes the record without publishing: bulk commit. ERR_BUG as above. */
enum err_code ring_stage(struct ring_producer *producer, uint32_t payload_bytes);
/* Publishes all that is staged. ERR_DETACHED as ring_commit(): all of it was withdrawn. */
enum err_code ring_publish_staged(struct ring_producer *producer);
/* Gives the reservation back. */
void ring_discard(struct ring_producer *producer);

/* An event that was accepted before and is to be accepted anew: for our own tools. The daemon takes it from lanes of
 * root and of its own user only; in others it is a violation. */
#define RING_REPLAY_DESTINATION_BYTES_MAX 511u
struct ring_replay {
        uint64_t lane_id, lane_position; /* of the first time: the event's id */
        int64_t accepted_ms;             /* of the first time */
        struct slice destination;        /* only this one gets it: an event destination's name in the event's set, or
                                          * a target's key; empty: all that match */
        struct slice set;                /* the configuration set, for an event that names none; may be empty */
};
/* Reserves, writes and commits one such record. Errors as reserve and commit; ERR_NAME: a text of it is too long. */
enum err_code ring_publish_replay(struct ring_producer *producer, const struct ring_replay *replay, struct slice event);

/* The slow path, for a lane that stays full: looks at the connection and takes new pages if they wait there (two system
 * calls). reserve and commit do it by themselves when attention is raised; call it, at most now and then, to learn
 * whether the daemon has died without a word. ERR_OK: look again. ERR_DETACHED: the daemon and its keeper are gone, or
 * are ending: ring_producer_reattach(). */
enum err_code ring_producer_refresh(struct ring_producer *producer, struct err *reterr);
/* True when the daemon asked for ring_producer_refresh(). One load. */
bool ring_producer_attention(const struct ring_producer *producer);

/* Waits until the daemon has journalled (or, for a lane with durability host, synced) everything published.
 * 0 ms only asks. ERR_TIMEOUT, ERR_DETACHED. */
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
 *     while (ring_visit_next(lane, &payload, &position) != RING_VISIT_NOTHING) {
 *             copy payload out; then look only at the copy
 *     }
 *     ... journal commit ...
 *     ring_visit_end(lane);         zeroes what was taken, moves the tail, wakes a waiting flush
 */

/* Loads head once (acquire) and bounds it. Returns the bytes there are to take, 0: none, and then ring_visit_end() may
 * be left out. A head out of bounds or unaligned is a violation: counted once, and 0 is returned until head is sane
 * again. One visit offers at most about 256 KiB, so that one lane cannot starve the others; the rest is for the next
 * visit. */
uint64_t ring_visit_begin(struct ring_lane *lane);
/* The same with another budget: no record is offered that begins `budget_bytes` or more behind the first. */
uint64_t ring_visit_begin_budget(struct ring_lane *lane, uint64_t budget_bytes);
enum ring_visit {
        RING_VISIT_NOTHING = 0, /* false, so that a visitor may ask with `if` */
        RING_VISIT_EVENT = 1,
        RING_VISIT_REPLAY = 2, /* ring_replay_read() takes it apart */
};
/* The next record of this visit. *ret_payload (1..LIMIT_EVENT_BYTES_MAX bytes, 8-aligned) points into hostile shared
 * memory that may change under the reader: copy it once, look only at the copy. *ret_position is the lane position
 * behind the record (what the journal stores). RING_VISIT_NOTHING: nothing more in this visit, or a bad header: a
 * violation, then everything up to head is skipped and counted in skipped_bytes. */
enum ring_visit ring_visit_next(struct ring_lane *lane, struct slice *ret_payload, uint64_t *ret_position);

/* What stands before the event in a replayed record, copied out of the lane. */
struct ring_replayed {
        uint64_t lane_id, lane_position;
        int64_t accepted_ms;
        uint32_t destination_bytes, set_bytes;
        char destination[RING_REPLAY_DESTINATION_BYTES_MAX];
        char set[LIMIT_NAME_BYTES_MAX];
};
/* *ret_event points into the same shared memory as `payload`. False: malformed; both are untouched then. */
bool ring_replay_read(struct slice payload, struct ring_replayed *ret_replayed, struct slice *ret_event);
/* Undoes the last ring_visit_next() (which returned a record) and ends the offering: the record comes again in the next
 * visit (the journal was full). */
void ring_visit_undo(struct ring_lane *lane);
/* Undoes all of the visit and ends it: every record comes again in the next one. */
void ring_visit_abandon(struct ring_lane *lane);
/* Gives back what was taken. Without a visit, or with nothing taken, it does nothing. */
void ring_visit_end(struct ring_lane *lane);

/* Position up to which everything was taken (= the tail the producer sees after ring_visit_end). */
uint64_t ring_lane_position(const struct ring_lane *lane);
/* Starts at `position` instead (the journal knows more than the old daemon page). Only forward; the shard's thread, or
 * before it has the lane. ring_server does it at take-over with what lane_journalled() says. */
void ring_lane_skip_to(struct ring_lane *lane, uint64_t position);
/* Tells flushing producers that everything before `position` is on the disk. Only forward; one thread per lane at a
 * time. A lane taken over starts with what the last router said: call it again once the journal is synced. */
void ring_lane_set_durable(struct ring_lane *lane, uint64_t position);
/* What was said last. */
uint64_t ring_lane_durable(const struct ring_lane *lane);
/* Counted by the shard, readable anywhere. */
uint32_t ring_lane_violations(const struct ring_lane *lane);
/* The shard says that the record it took last is no event: counted, and no violation. */
void ring_lane_reject(struct ring_lane *lane);
/* LIMIT_LANE_VIOLATIONS_MAX was reached: visits offer nothing any more. Report its pid and close it. */
bool ring_lane_is_broken(const struct ring_lane *lane);
/* The producer is gone (pidfd readable, or its connection closed). A visit that begins after this returned true and
 * finds nothing means that the lane is drained and can be closed. */
bool ring_lane_is_orphan(const struct ring_lane *lane);

/* For statistics, from any thread of the daemon, as long as the lane lives. */
struct ring_lane_counts {
        uint64_t position;      /* taken, in bytes */
        uint64_t waiting_bytes; /* published and not taken; the producer's word, bounded */
        uint64_t skipped_bytes; /* lost to violations */
        uint64_t full;          /* reserves that found no room; the producer's word */
        uint64_t rejected;      /* records that are no events */
        uint32_t violations;
};
void ring_lane_get_counts(const struct ring_lane *lane, struct ring_lane_counts *ret_counts);

/* ---- sleeping: the shard's side of "no lost wake-up, no cost for producers".
 *
 *     ring_bed_prepare(bed);
 *     if (any lane has something)
 *             ring_bed_cancel(bed);
 *     else
 *             ring_bed_wait(bed, timeout);
 *
 * The bed's page says that the shard sleeps; a producer that sees it after a publish rings its lane's bell, an eventfd
 * in the epoll set on which the shard sleeps. layout.h says why it is not a futex. */
struct ring_bed; /* what a shard sleeps on */
enum err_code ring_bed_create(struct ring_bed **ret_bed, struct err *reterr);
/* After the server that uses it is freed. */
void ring_bed_free(struct ring_bed *bed);
/* Raises the sleeping flag, membarrier, then returns: the caller must look at all lanes once more, and either call
 * ring_bed_cancel() or ring_bed_wait(). The shard's thread. */
void ring_bed_prepare(struct ring_bed *bed);
void ring_bed_cancel(struct ring_bed *bed);
/* Waits for a producer's bell, ring_bed_wake(), or the timeout; lowers the flag. Returns true when woken; a bell that
 * came late for the last sleep may wake once in vain. */
bool ring_bed_wait(struct ring_bed *bed, uint64_t timeout_ns);
/* From any thread of the daemon. Never lost: a wake before the wait ends that wait. */
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
        uint32_t lanes_max; /* from here on producers are refused; what the keeper holds is taken over all the same */
        /* The same for one user, so that others find a lane; root and the daemon's own user may have all. 0: no limit.
         */
        uint32_t lanes_per_user_max;
        bool durable;                 /* flush waits for `durable` instead of the tail */
        int keeper_fd;                /* socket to the keeper, or -1: no keeper (lanes die with this process) */
        struct ring_bed *const *beds; /* one per shard: a lane is bound to the shard it is given to */
        uint32_t shards_count;
        /* A lane is ready for its shard: called on the control thread, from ring_server_turn(). */
        void (*lane_ready)(void *context, struct ring_lane *lane, uint32_t shard);
        /* A lane taken over from an earlier router: return the position up to which the journal has its records (0:
         * none). */
        uint64_t (*lane_journalled)(void *context, uint64_t lane_id);
        /* A connection came to nothing by what its other end did: `why` is a phrase for the log. As often as somebody
         * does that: to say it less often is up to the caller. NULL: nobody wants to know. */
        void (*connection_refused)(void *context, pid_t pid, uid_t uid, const char *why);
        void *context;
};

/* Creates the socket (or takes the keeper's), takes over the keeper's lanes (lane_journalled() is called from within):
 * each is reported through lane_ready from the first turn, for which ring_server_fd() is readable at once. Blocks at
 * most 10 s for the keeper. `options` is copied; what it points to must stay, save the socket path. The server owns
 * keeper_fd from now on, also on failure.
 *
 * ERR_LOCKED  another live daemon listens on the path;
 * ERR_CONFIG  the path is too long or taken by something else;
 * ERR_DETACHED, ERR_TIMEOUT, ERR_PROTOCOL  the keeper is gone, silent, or not a keeper;
 * ERR_VERSION the keeper is of a version whose lanes are others: only that one's program can drain them;
 * ERR_SYSTEM, ERR_MEMORY, ERR_PERMISSION. */
enum err_code ring_server_create(const struct ring_server_options *options, struct ring_server **ret_server,
                                 struct err *reterr);
/* The router has started well, and SIGTERM drains it from now on: tells the keeper, if there is one. */
void ring_server_ready(struct ring_server *server);
int ring_server_fd(const struct ring_server *server);
/* Never blocks; bounded work. */
void ring_server_turn(struct ring_server *server);
/* The service ends: no new producers, and every producer is told to publish no more (their next commit returns
 * ERR_DETACHED). After it returns, one more drain of every lane takes everything whose commit returned ERR_OK. Not for
 * a restart of the router alone: then just exit, the keeper keeps the lanes and producers notice nothing. */
void ring_server_stop(struct ring_server *server);
/* Calls back for every lane. Control thread. */
void ring_server_each_lane(const struct ring_server *server, void (*each)(void *context, const struct ring_lane *lane),
                           void *context);
/* The shard is done with an orphan lane (drained) or with one closed for violations, and does not look at it any more:
 * called on the control thread. Ends the producer's connection, tells the keeper to drop the lane, unmaps, frees. */
void ring_server_lane_close(struct ring_server *server, struct ring_lane *lane);
/* Frees the server and its lanes. Lanes that the keeper holds stay alive for the next router; without a keeper the
 * connections end and the socket is removed. No shard may look at a lane any more. */
void ring_server_free(struct ring_server *server);
/* The keeper has died (or there never was one): the lanes live only as long as this process. Report it; a clean restart
 * of the service gets a new keeper. */
bool ring_server_keeper_gone(const struct ring_server *server);

struct ring_server_stats {
        uint64_t attached, refused, taken_over, orphaned, closed, lanes_now;
};
void ring_server_get_stats(const struct ring_server *server, struct ring_server_stats *ret_stats);

/* ---------------------------------------------------------------------------------------------- keeper */

/* A router's exit status (EX_TEMPFAIL): what it could not take out of the lanes, the next one can. */
#define RING_EXIT_LANES_LEFT 75

/* The keeper: a small process that outlives routers. It owns the listening socket and copies of every lane's fds (data,
 * daemon page, connection, pidfd), starts `argv` with one end of a socket pair as fd number in the environment variable
 * SENDRING_KEEPER_FD, restarts it when it dies by a signal or a non-zero exit, with back-off 0, 100 ms, 200 ms ... 5 s
 * (a router that lived 1 s resets it), and hands everything over. Exit 78 (configuration) ends the service only as long
 * as no router was ready: later the lanes hold events that were acknowledged, and they are kept until the mistake is
 * mended. A router that follows one which was ready has SENDRING_KEEPER_RESTART=1 in its environment.
 *
 * SIGTERM/SIGINT/SIGHUP/SIGUSR1 are passed on to the router; after SIGTERM or SIGINT it waits for the router's exit and
 * returns its status. With lanes in its hands it makes sure that a router drains them: SIGTERM is passed on when the
 * router is ready, one that dies before or while it drains is started again up to 3 times, and one is started when none
 * runs; so is one that ended with RING_EXIT_LANES_LEFT. A second SIGTERM or SIGINT is passed on at once and ends this.
 * It never maps a lane, never reads from a producer, and drops malformed messages of a router. Logs to stderr. The
 * caller must be single-threaded; the signals above and SIGCHLD are blocked for good in this process and restored in
 * the router's, but for SIGHUP: one that comes before the router listens to it stays until then. */
struct ring_keeper_options {
        const char *socket_path;
        unsigned socket_mode;
        char *const *argv;
        uint32_t back_off_step_ms; /* 0: 100 */
};
/* Runs until the service ends; returns the exit status for main(). */
int ring_keeper_run(const struct ring_keeper_options *options);

#endif
