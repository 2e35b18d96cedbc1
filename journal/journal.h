/* The journal: an append-only, memory-mapped segment log, one per shard. The router copies each event out of its lane
 * straight into it; everything behind the router reads it. An outage is nothing but a lagging cursor: there is no
 * second spill path.
 *
 * Directory (mode 0700, files 0600), one per shard:
 *
 *     lock                     flock()ed while open
 *     <16 hex digits>.segment  preallocated files of segment_bytes; the digits are a file number, not a position
 *     targets                  delivery targets: number, key, cursor, counts (mapped; two slots per target so that a
 * kill never tears) quarantine/              segments whose middle failed its checksum, copied there before they were
 * skipped
 *
 * TO BE DRAWN HERE BY THE OWNER: segment header, record header (one cache line: length, crc32c, sequence, lane id, lane
 * position, event type, route count, routes[12], accepted_ms), what is checksummed, when a record is valid (expected
 * sequence and CRC: recycled files hold stale records of older sequences), what a kill or a power cut at each step
 * leaves.
 *
 * Positions are running byte offsets in the log, 64 bits, never reused; sequences count records from 1. Both only grow.
 *
 * Threads: one writer (the shard); any number of readers (workers), each with its own struct journal_reader;
 * maintenance and sync from one control thread. The writer never waits for the disk: the next segment is prepared ahead
 * by maintenance. Readers see what the writer committed (acquire on `committed`). Neither appends nor reads allocate
 * once started.
 */
#ifndef SENDRING_JOURNAL_JOURNAL_H
#define SENDRING_JOURNAL_JOURNAL_H

#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct journal;

enum journal_durability {
        JOURNAL_DURABILITY_PROCESS = 0, /* survives SIGKILL of any process: page cache */
        JOURNAL_DURABILITY_HOST = 1,    /* survives power loss once journal_durable_position() has passed */
};

struct journal_options {
        const char *directory;        /* made when missing */
        uint32_t segment_bytes;       /* power of two, LIMIT_SEGMENT_BYTES_MIN..MAX */
        uint64_t size_bytes_max;      /* all segments together; at least 4 segments. When reached: ERR_FULL */
        uint32_t segments_mapped_max; /* how many segments stay mapped and warm (memory budget); at least 4 */
        enum journal_durability durability;
        bool read_only; /* `sendring ledger` beside a running router: no lock, nothing written, no recovery */
};

struct journal_recovery {
        uint64_t segments, records, bytes; /* found whole */
        uint64_t cut_bytes;                /* of an unfinished tail */
        uint64_t quarantined_segments;
        uint64_t lost_records; /* sequence numbers that no whole record carries */
};

/* Opens, recovers (scan of every segment, tail cut at the first bad record, bad middles quarantined record by record),
 * leaves the log ready to append. ERR_LOCKED, ERR_PERMISSION, ERR_DISK_FULL, ERR_CONFIG, ERR_VERSION, ERR_SYSTEM. */
enum err_code journal_open(const struct journal_options *options, struct journal **ret_journal,
                           struct journal_recovery *ret_recovery, struct err *reterr);
/* Writes nothing that a kill would not have left; releases everything. All readers must be closed. */
void journal_close(struct journal *journal);

/* ---------------------------------------------------------------------------------------------- append: the shard */

struct journal_entry {
        uint64_t lane_id;
        uint64_t lane_position;                      /* behind this event in its lane */
        int64_t accepted_ms;                         /* real time */
        uint8_t event_type;                          /* enum sendring_event_type */
        uint8_t flags;                               /* JOURNAL_FLAG_* */
        uint8_t routes_count;                        /* 0: nobody wants it */
        uint16_t routes[LIMIT_ROUTES_PER_EVENT_MAX]; /* target numbers; one may be there twice */
};
#define JOURNAL_FLAG_REJECTED 1u /* malformed: payload dropped (length 0), kept for the lane position and the count */

/* Room for a record of `payload_bytes`; *ret_payload is where to copy it (64-byte aligned behind its header). Nothing
 * is visible before commit. ERR_FULL: size_bytes_max is reached, or the next segment is not prepared yet (call again
 * later). */
enum err_code journal_reserve(struct journal *journal, uint32_t payload_bytes, uint8_t **ret_payload);
/* Finishes it: header, CRC-32C, sequence; visible to readers and to recovery at the next journal_publish() at the
 * latest. `payload_bytes` may be smaller than reserved. */
void journal_commit(struct journal *journal, const struct journal_entry *entry, uint32_t payload_bytes);
/* Gives the reservation back. */
void journal_abort(struct journal *journal);
/* Release-stores `committed` and persists the accepted counts of the touched targets: once per lane visit. A kill
 * before it loses nothing: recovery finds every committed record by its header. */
void journal_publish(struct journal *journal);

/* Position and sequence behind the last committed record (acquire). */
uint64_t journal_committed_position(const struct journal *journal);
uint64_t journal_next_sequence(const struct journal *journal);
/* The position that the last journal_commit() wrote its record at: for the descriptor rings. Writer only. */
uint64_t journal_last_position(const struct journal *journal);
/* Largest lane position recorded for this lane, 0 when there is none: lane hand-over. After open, before the first
 * append. */
uint64_t journal_lane_position(const struct journal *journal, uint64_t lane_id);

/* ---------------------------------------------------------------------------------------------- targets and their
 * cursors */

/* A delivery target by its stable key ("firehose arn:aws:firehose:...", "file /var/..."): finds or adds it. Numbers are
 * never reused. A new target starts at the committed position. Control thread, at start and reload; ERR_LIMIT above
 * LIMIT_TARGETS_MAX. */
enum err_code journal_target_register(struct journal *journal, struct slice key, uint16_t *ret_target,
                                      struct err *reterr);
uint32_t journal_targets_count(const struct journal *journal);

/* All counts are events since the target was first registered. `accepted` is by the shard; the rest by the target's
 * owner. accepted = delivered + dead_lettered + shed + expired + waiting, at any time; waiting can be counted from the
 * log by itself (journal_target_count_waiting), which is what makes the equation a check. */
struct journal_target_state {
        char key[512];
        uint64_t cursor_position; /* every event before it is settled */
        uint64_t cursor_sequence;
        uint64_t accepted;
        uint64_t delivered, dead_lettered, shed, expired; /* of events before the cursor */
        bool retired;                                     /* in no plan any more: does not hold segments */
};
bool journal_target_get(const struct journal *journal, uint16_t target, struct journal_target_state *ret_state);

struct journal_settled {
        uint64_t delivered, dead_lettered, shed, expired; /* events that became settled by this move */
};
/* Moves the cursor and adds the counts, atomically against a kill. Only forward. The thread that owns the target. */
void journal_target_advance(struct journal *journal, uint16_t target, uint64_t position, uint64_t sequence,
                            const struct journal_settled *settled);
/* No plan names this target any more: its cursor no longer holds segments back; its waiting events count as `shed`. */
void journal_target_retire(struct journal *journal, uint16_t target);
/* Reads the log from the target's cursor and counts records routed to it. Cold; any thread; own mappings. */
uint64_t journal_target_count_waiting(const struct journal *journal, uint16_t target, struct err *reterr);

/* ---------------------------------------------------------------------------------------------- read: workers */

struct journal_record {
        uint64_t position;
        uint64_t next_position;
        uint64_t sequence;
        struct journal_entry entry;
        struct slice payload; /* in the mapping: valid until the reader moves to another segment */
};

struct journal_reader; /* one thread each; keeps the segment it reads from being recycled or unmapped */
enum err_code journal_reader_create(struct journal *journal, struct journal_reader **ret_reader, struct err *reterr);
void journal_reader_free(struct journal_reader *reader);
/* The record at or after `position` (which must be a record's position or a next_position) and before `limit` (a
 * position got from journal_committed_position()). ERR_EMPTY: none. ERR_NOT_FOUND: recycled already (a bug of the
 * caller: no cursor held it). Cheap when consecutive. */
enum err_code journal_read(struct journal_reader *reader, uint64_t position, uint64_t limit,
                           struct journal_record *ret_record);
/* Lets go of the segment it holds; the next read maps anew. */
void journal_reader_rest(struct journal_reader *reader);

/* ---------------------------------------------------------------------------------------------- maintenance: control
 * thread */

/* Prepares the next segment, recycles those that every live cursor has passed, unmaps cold ones above
 * segments_mapped_max, writes back. Call when journal_wants_maintenance() or once a second. Never blocks the writer. */
enum err_code journal_maintain(struct journal *journal, struct err *reterr);
/* Set by the writer when it took the prepared segment: one relaxed load. */
bool journal_wants_maintenance(const struct journal *journal);

/* Durability host: grouped sync. journal_sync() makes everything committed before the call durable (fdatasync of the
 * touched segments, by the caller's thread) and moves journal_durable_position(). With durability process it only moves
 * the position. */
enum err_code journal_sync(struct journal *journal, struct err *reterr);
uint64_t journal_durable_position(const struct journal *journal);

struct journal_stats {
        uint64_t committed_position, durable_position, oldest_position; /* oldest: of the slowest cursor */
        uint64_t segments, segments_recycled, size_bytes, size_bytes_max;
        uint64_t records, rejected_records; /* since open */
        uint64_t budget_bytes;              /* what it may hold mapped */
};
void journal_get_stats(const struct journal *journal, struct journal_stats *ret_stats);

#endif
