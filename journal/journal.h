/* The journal: an append-only, memory-mapped segment log, one per shard. The router copies each event out of its lane
 * straight into it; everything behind the router reads it. An outage is nothing but a lagging cursor: there is no
 * second spill path.
 *
 * Directory (mode 0700, files 0600), one per shard:
 *
 *     lock                       flock()ed while open
 *     <16 hex digits>.segment    preallocated files of segment_bytes; the digits are a file number, not a position
 *     <16 hex digits>.preparing  a file that is not a segment yet; removed at open
 *     targets                    delivery targets: number, key, cursor, counts
 *     targets.copy               the same, as of the last maintenance
 *     quarantine/                copies of segments whose middle failed its check (their seed in the name), and files
 *                                that are no segments; bounded by LIMIT_QUARANTINE_*. Segments that had to be moved out
 *                                of the log are never removed: they end in ".kept"
 *
 * Positions are running byte offsets in the log, 64 bits, never reused; sequences count records from 1. Both only grow.
 * All integers are little endian.
 *
 * Segment file: one header page, records, one page with the header's copy.
 *
 *     0                  64              4096                        segment_bytes - 4096     segment_bytes
 *     | segment header   | start block | | record | record | ... |end| header copy          |
 *
 *     segment header, 64 bytes                             start block, 16 bytes
 *      0 u64 magic "sendrjs1"                               0 u64 base sequence: of the first record to come
 *      8 u32 version                                        8 u32 CRC-32C of base position and base sequence, begun
 *     12 u32 seed: random, new at each preparation                with the seed; right only after the writer came
 *     16 u64 file number                                   12 u32 0; ~CRC when recovery has counted as lost what is
 *     24 u64 base position                                     missing between the segment before and this one
 *     32 u64 segment bytes
 *     40 u64 0, 48 u64 0, 56 u32 0
 *     60 u32 CRC-32C of bytes 0..59
 *
 * A byte at offset `o` of the file has position base + o. The next segment's base is this one's base + segment_bytes.
 *
 * Record: 64-byte aligned, one cache line of header, then the payload, padded to 64.
 *
 *      0 u32 CRC-32C, begun with the segment's seed, of bytes 4..63 and the payload
 *      4 u32 payload bytes
 *      8 u64 sequence
 *     16 u64 lane id
 *     24 u64 lane position
 *     32 u64 bits 0..47 accepted_ms (signed), 48..55 event type, 56..59 route count, 60..63 flags
 *     40 u16 routes[12]; unused ones are 0
 *
 * The payload of a record with flag 2 begins with where the event comes from, 24 bytes: u64 lane id, u64 lane position,
 * i64 accepted_ms of its first time; the record's own are those of the lane and the time that it was accepted anew by.
 *
 * A gap is a header with flag 8 whose length spans bytes without records and whose sequence is that of the next record.
 * Its CRC covers the header only. It ends a segment (the writer found no room for the next record) or covers what
 * recovery found damaged.
 *
 * A record is valid when its CRC is right under the seed of its segment and its sequence is the expected one. Recycled
 * files are not zeroed: their stale records were made under another seed. The seed is random and never leaves the
 * directory, so no producer can put bytes into a payload that recovery would take for a record.
 *
 * What a SIGKILL leaves (stores into a shared mapping survive the process, in program order):
 *
 *     preparing a new file          a .preparing file, removed at open
 *     recycling, first header       the copy at the end still says what the file was before: an old segment that every
 *                                   cursor has passed. When both are right, the larger base position is taken
 *     recycling, after it           an empty segment at the end of the log
 *     payload or header of a record a wrong CRC: the tail is cut there
 *     commit without publish        a whole record: kept, and counted as accepted by the scan
 *     end gap without start block   the next append starts the next segment again
 *     a target's slot half written  the other slot is the active one; see below
 *
 * A power cut leaves any mix of old and new pages. Every record is judged by itself: a bad one in the middle is covered
 * with a gap after its file was copied to quarantine/, and every whole record behind it is kept.
 *
 * Targets file: one header page, then 1024 bytes per target. The target's owner and the shard each have two slots with
 * a version and a CRC, and a word `active` that holds the version of the good one (slot index = version & 1). An update
 * writes the other slot, then release-stores `active`: a kill leaves one consistent slot. After a power cut the slot
 * with the largest version whose CRC is right is taken; with none, the counts are rebuilt from the log.
 *
 *       0 identity: u32 CRC, u16 number, u16 key bytes     64 owner's active word     128 owner's slots, 2 x 64
 *      72 `lost` of the owner's slots, 2 x u64
 *     256 shard's active word     320 shard's slots, 2 x 64     448 u32 retired     512 key, NUL-terminated
 *
 * Where the disk has room for them, both files are 64 lines longer than what is counted: zeros, which the next targets
 * get. The copy becomes longer first.
 *
 * The copy has the same format and is written with pwrite() by register and by maintenance, before anything is recycled
 * (that a target is retired waits for the latter: older news makes it live again, and it is retired anew); only the
 * lines that have changed. Open takes from it, line by line, the name, the cursor or the counts that the targets file
 * has lost; they are older, so some events are delivered again. Without a copy it is made anew. A number that records
 * name and neither file does is nobody's: it is reserved, and its events count as lost.
 *
 *     owner's slot: u64 version, cursor position, cursor sequence, delivered, dead-lettered, shed, expired; u32 CRC,
 *                   u32 lost records, and at 72 its u64 `lost`: the CRC covers these two as well when one is not 0
 *     shard's slot: u64 version, accepted, sequence and position up to which it was counted; u32 CRC, u32 0; u64 lost
 *
 * Threads: one writer (the shard); any number of readers (workers), each with its own struct journal_reader;
 * maintenance and syncs by one thread (the router's helper), registering and retiring by another (control). The writer
 * never waits for the disk: the next segments are prepared ahead by maintenance. Readers see what the writer published
 * (acquire on `committed`). Neither appends nor reads allocate once started.
 *
 *     word                       written by     read by               order
 *     committed pair             shard          everyone              release / acquire, version word around it
 *     prepared_end               control        shard                 release / acquire: mapping and header are ready
 *     current_index, end, base   shard          control, readers      release / acquire
 *     shed_before                control        owners                release / acquire
 *     pins of a segment          readers        control               taken under the mutex, released with release
 *     owner's, shard's active    owner, shard   everyone              release / acquire
 *
 * The mutex is taken by readers when they change to another segment or find a loss, by owners whose cursor passes one,
 * and by maintenance; never by the writer. A second one, of the targets, keeps control and maintenance apart where they
 * add lines, write the files or shed for a target that nobody owns; it may be held over a sync. Neither the writer nor
 * an owner takes it. "Control" in the table is whoever holds the respective mutex, or the maintaining thread alone. */
#ifndef SENDRING_JOURNAL_JOURNAL_H
#define SENDRING_JOURNAL_JOURNAL_H

#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct journal;

enum journal_durability {
        JOURNAL_DURABILITY_PROCESS = 0, /* survives SIGKILL of any process: page cache */
        JOURNAL_DURABILITY_HOST = 1,    /* survives power loss once journal_durable_position() has passed */
};

/* Segments of one journal: the table is allocated at open, 80 bytes each. 2 TiB with the default segment size. */
#define JOURNAL_SEGMENTS_MAX        65536u
#define JOURNAL_SEGMENTS_MIN        4u
#define JOURNAL_SEGMENTS_MAPPED_MIN 4u

/* What several logs share that have one size_bytes_max together: those of a shard. Zeroed by the caller; outlives them.
 * Changed by their maintenance. */
struct journal_budget {
        _Atomic uint64_t size_bytes; /* of all their segments */
};
/* A log may always have so many segments, also where the budget is used up: the one being written, and the next. */
#define JOURNAL_SEGMENTS_OWN 2u

struct journal_options {
        const char *directory;   /* made when missing */
        uint32_t segment_bytes;  /* power of two, LIMIT_SEGMENT_BYTES_MIN..MAX; files of another size are read, used
                                  * up and then removed */
        uint64_t size_bytes_max; /* all segments together; at least 4 segments. When reached: ERR_FULL */
        struct journal_budget *budget; /* whose logs together may have size_bytes_max; NULL: this one alone */
        bool deliver_only;        /* nothing will be appended: nothing is prepared, and what is passed is removed */
        uint64_t drain_bytes_max; /* room behind size_bytes_max that journal_use_drain_room() opens; may be 0 */
        /* What every cursor has passed stays (for `sendring replay`) until it is more than so many bytes, or older than
         * so long; 0: no such limit. Both 0: nothing is kept for its own sake. It gives way at once when the log needs
         * room, on the disk as well, so nobody finds the log full because of it. */
        uint64_t retention_bytes, retention_age_ms;
        uint32_t segments_mapped_max; /* how many segments stay mapped and warm (memory budget); at least 4 */
        enum journal_durability durability;
        bool read_only; /* `sendring ledger` beside a running router: no lock, nothing written, no recovery; what
                         * the targets file has lost is taken from its copy in memory. The sizes above are ignored. One
                         * thread. Only: targets, counts, committed pair, stats, readers. */
};

struct journal_recovery {
        bool made;                         /* there was no directory */
        uint64_t segments, records, bytes; /* found whole; bytes with headers and padding */
        uint64_t cut_bytes;                /* of a record at the tail that began but is not whole */
        uint64_t quarantined_segments;     /* copied or moved to quarantine/ */
        uint64_t quarantine_failures;      /* not copied (full disk, or too many at once): recovered all the same */
        uint64_t quarantine_removed;       /* older files there that made room */
        uint64_t unreadable_segments;      /* of which nothing could be read: all their records are lost; what
                                            * cannot even be identified is kept in quarantine/ */
        uint64_t repair_failures;          /* damage that could not be covered: the next open finds it again */
        uint64_t rewritten_segments;       /* written anew, since a sync had failed (durability host) */
        uint64_t lost_records; /* sequence numbers that no whole record carries; those that an earlier open has counted
                                * and covered are not counted again */
        uint64_t lost_events;  /* of those, and of their copies for each target, what nobody had settled */
        uint64_t targets_repaired;  /* one slot was torn, the other was taken */
        uint64_t targets_from_copy; /* name, cursor or counts were taken from the copy of the targets file */
        uint64_t targets_rebuilt;   /* counts rebuilt from the log: both slots torn, or older than the log */
};

/* Opens, recovers (scan of every segment, tail cut at the first bad record, bad middles quarantined record by record),
 * leaves the log ready to append. ERR_LOCKED, ERR_PERMISSION, ERR_DISK_FULL, ERR_CONFIG, ERR_VERSION, ERR_MEMORY,
 * ERR_SYSTEM; ERR_CORRUPT: read-only, and there is neither a targets file nor its copy. `ret_recovery` may be NULL. */
enum err_code journal_open(const struct journal_options *options, struct journal **ret_journal,
                           struct journal_recovery *ret_recovery, struct err *reterr);
/* Read-only: whether the targets file, or its copy, has everything of every target. ERR_CORRUPT, with a sentence: what
 * the others say is not all that was accepted. */
enum err_code journal_targets_check(const struct journal *journal, struct err *reterr);
/* Writes nothing that a kill would not have left; releases everything. All readers must be closed. NULL is allowed. */
void journal_close(struct journal *journal);

/* ---------------------------------------------------------------------------------------------- append: the shard */

struct journal_entry {
        uint64_t lane_id;
        uint64_t lane_position;                      /* behind this event in its lane */
        int64_t accepted_ms;                         /* real time; 48 bits, clamped */
        uint8_t event_type;                          /* enum sendring_event_type */
        uint8_t flags;                               /* JOURNAL_FLAG_*, below 8 */
        uint8_t routes_count;                        /* 0: nobody wants it */
        uint16_t routes[LIMIT_ROUTES_PER_EVENT_MAX]; /* target numbers; one may be there twice */
};
#define JOURNAL_FLAG_REJECTED 1u /* malformed: payload dropped (length 0), kept for the lane position and the count */
#define JOURNAL_FLAG_REPLAYED 2u /* accepted anew: a payload, if there is one, begins with a struct journal_origin */

/* An event's first time: its id, and when it was accepted. */
struct journal_origin {
        uint64_t lane_id, lane_position;
        int64_t accepted_ms;
};
_Static_assert(sizeof(struct journal_origin) == 24, "drawn above");

/* Room for a record of `payload_bytes`; *ret_payload is where to copy it (64-byte aligned behind its header). Nothing
 * is visible before commit; journal_commit() or journal_abort() must follow. ERR_FULL: size_bytes_max is reached, the
 * disk is full, the directory is gone, or the next segment is not prepared yet (call again later). ERR_TOO_BIG: above
 * LIMIT_RECORD_BYTES_MAX. ERR_CORRUPT: see journal_publish(). */
enum err_code journal_reserve(struct journal *journal, uint32_t payload_bytes, uint8_t **ret_payload);
/* Finishes it: header, CRC-32C, sequence; recovery finds it from now on, readers from the next journal_publish() on.
 * `payload_bytes` may be smaller than reserved. The routes must be registered targets. */
void journal_commit(struct journal *journal, const struct journal_entry *entry, uint32_t payload_bytes);
/* Gives the reservation back. */
void journal_abort(struct journal *journal);
/* Persists the accepted counts of the touched targets and release-stores `committed`: once per lane visit. A kill
 * before it loses nothing: recovery finds every committed record by its header.
 *
 * ERR_CORRUPT: pages of the segment could not be backed (io/disk.h). Everything since the last journal_publish() or
 * journal_keep() that returned ERR_OK is taken back, as if it had never been appended: whoever has it elsewhere must
 * keep it. The segment is given up, and the next reservation goes to the next one. journal_reserve() may return it too,
 * with the same meaning, and no reservation: a record never stands behind one that is not there, and what was committed
 * is published when the next segment begins. */
enum err_code journal_publish(struct journal *journal);
/* Looks whether what was committed so far is there: what is appended to another log from now on may rely on it. A few
 * instructions. ERR_CORRUPT: as above; what an earlier journal_keep() has seen is published then. */
enum err_code journal_keep(struct journal *journal);

/* Position behind the last published record, and the sequence of the next one (acquire). To get both of the same
 * instant use journal_committed(). */
uint64_t journal_committed_position(const struct journal *journal);
uint64_t journal_next_sequence(const struct journal *journal);
void journal_committed(const struct journal *journal, uint64_t *ret_position, uint64_t *ret_next_sequence);
/* Where the log begins now: the first record behind it is the oldest that is there, whether a cursor needs it or not. A
 * journal opened for reading only: as it was when it was opened. */
uint64_t journal_oldest_position(struct journal *journal);
/* The position that the last journal_commit() wrote its record at: for the descriptor rings. Writer only. */
uint64_t journal_last_position(const struct journal *journal);
/* Largest lane position that open found recorded for this lane, 0 when there is none: lane hand-over. What was appended
 * since is not in it. Any thread. */
uint64_t journal_lane_position(const struct journal *journal, uint64_t lane_id);

/* ---------------------------------------------------------------------------------------------- targets and their
 * cursors */

#define JOURNAL_TARGET_KEY_BYTES_MAX 511u

/* A delivery target by its stable key ("firehose arn:aws:firehose:...", "file /var/..."): finds or adds it. Numbers are
 * never reused. A new target starts at the committed position. A retired one is live again, at the committed position;
 * what it missed has been counted as shed. Control thread, at start and reload; ERR_LIMIT above LIMIT_TARGETS_MAX,
 * ERR_NAME for an empty or overlong key or one with a NUL, ERR_DISK_FULL where no line is left to spare.
 *
 * Durability host: its line is on the disk then. Where it cannot be synced, ERR_SYSTEM: nothing has changed; but before
 * the first record is published since open (a start, which has to deliver what waits) ERR_OK, and nothing that is
 * published becomes durable before the line is: journal_maintain() and journal_sync_begin() try, and say so. */
enum err_code journal_target_register(struct journal *journal, struct slice key, uint16_t *ret_target,
                                      struct err *reterr);
uint32_t journal_targets_count(const struct journal *journal);

/* All counts are events since the target was first registered. `accepted` is by the shard; the rest by the target's
 * owner. accepted = delivered + dead_lettered + shed + expired + waiting, at any time; waiting can be counted from the
 * log by itself (journal_target_audit), which is what makes the equation a check. */
struct journal_target_state {
        char key[JOURNAL_TARGET_KEY_BYTES_MAX + 1]; /* empty: a number whose target nobody knows any more */
        uint64_t cursor_position;                   /* every event before it is settled */
        uint64_t cursor_sequence;                   /* of the first event that is not settled */
        uint64_t accepted;
        uint64_t accepted_position, accepted_sequence;    /* `accepted` counts the records before that position, with
                                                           * sequences up to and including that one */
        uint64_t delivered, dead_lettered, shed, expired; /* of events before the cursor */
        uint64_t lost; /* of events that a damaged disk or a power cut took before they were settled: found by open, or
                        * passed by the cursor; no longer among `accepted` */
        uint64_t lost_records; /* at most so many were passed by the cursor of which is not known yet how many events of
                                * this target they held: those are among `accepted`. 0 again as soon as nothing waits
                                * behind the cursor */
        bool retired;          /* in no plan any more: does not hold segments */
};
/* False: no such number. Any thread; the state is one that was true at some instant during the call. */
bool journal_target_get(const struct journal *journal, uint16_t target, struct journal_target_state *ret_state);

struct journal_settled {
        uint64_t delivered, dead_lettered, shed, expired; /* events that became settled by this move */
};
/* Moves the cursor and adds the counts, atomically against a kill. Only forward, never behind the committed position.
 * `sequence` is that of the first event not settled (of the record at `position`). What it passes that readers of this
 * journal found lost is counted so in the same step. The thread that owns the target. */
void journal_target_advance(struct journal *journal, uint16_t target, uint64_t position, uint64_t sequence,
                            const struct journal_settled *settled);
/* `events` of those that its moves have counted as shed were delivered after all: they were kept elsewhere when their
 * log was given up. At most so many (asserted). The thread that owns the target. */
void journal_target_shed_delivered(struct journal *journal, uint16_t target, uint64_t events);
/* No plan names this target any more and no thread owns it: its cursor no longer holds segments back; its waiting
 * events, and those that the shard still routes to it by an older plan, count as `shed`. Control thread.
 *
 * The next open makes it live again when events wait for it: they came by an older plan, or a kill left them
 * uncounted, or a power cut has taken back that it was live. Whoever opens knows which targets it has, and retires the
 * others anew; here nothing is shed by a word that may be old. */
void journal_target_retire(struct journal *journal, uint16_t target);
/* Cursors, counts and retirements of now are on the disk, whatever the durability: with them the next open does not ask
 * for who needs nothing any more. Waits for the disk. Control thread. */
enum err_code journal_targets_make_durable(struct journal *journal, struct err *reterr);
/* Takes the target's state and counts, in the log itself, the records routed to it between its cursor and
 * accepted_position: the equation above must hold exactly. Events that can only have been in records which are lost,
 * passed by the cursor or not, are taken from `accepted` and added to `lost` in *ret_state: sequence numbers tell how
 * many records are missing, and each names a target LIMIT_ROUTES_PER_EVENT_MAX times at most; what is missing beyond is
 * not explained, and left to the equation. Cold; any thread; own mappings. `ret_state` may be NULL. */
enum err_code journal_target_audit(struct journal *journal, uint16_t target, struct journal_target_state *ret_state,
                                   uint64_t *ret_waiting, struct err *reterr);
/* Of what waits for the target, what lies before `position` (of a record, or of the end). As the audit. *ret_sequence:
 * of the first record behind it; may be NULL. */
enum err_code journal_target_count_before(struct journal *journal, uint16_t target, uint64_t position,
                                          uint64_t *ret_count, uint64_t *ret_sequence, struct err *reterr);
/* The waiting count alone; UINT64_MAX and *reterr when it cannot be counted. */
uint64_t journal_target_count_waiting(struct journal *journal, uint16_t target, struct err *reterr);

/* ---------------------------------------------------------------------------------------------- read: workers */

struct journal_record {
        uint64_t position;
        uint64_t next_position;
        uint64_t sequence;
        struct journal_entry entry;
        struct journal_origin origin; /* of a replayed record what it says, else the same as in `entry` */
        struct slice payload; /* behind the origin; in the mapping: valid until the reader moves to another segment */
};

struct journal_reader; /* one thread each; keeps the segment it reads from being recycled or unmapped */
enum err_code journal_reader_create(struct journal *journal, struct journal_reader **ret_reader, struct err *reterr);
void journal_reader_free(struct journal_reader *reader);
/* The record at or after `position` (which must be a record's position or a next_position) and before `limit` (a
 * position got from journal_committed_position()). Cheap when consecutive. Segments that are no longer warm are mapped
 * by the reader itself, and their records checked again.
 *
 * ERR_EMPTY      none;
 * ERR_NOT_FOUND  recycled already (a bug of the caller: no cursor held it); reading only, beside a running router: open
 *                the journal anew, and go on at its oldest position;
 * ERR_CORRUPT    this record was damaged on the disk after it was written, and maybe those behind it: position and
 *                next_position are set, so that the caller can go on. The journal remembers the place: a cursor that
 *                passes it counts what was lost there;
 * ERR_SYSTEM, ERR_MEMORY  a cold segment cannot be mapped: try again later. */
enum err_code journal_read(struct journal_reader *reader, uint64_t position, uint64_t limit,
                           struct journal_record *ret_record);
/* The caller found that a record which was read is no event: its page went away under it. Counted as what a reader
 * finds lost, by cursors that pass it from now on. Any thread. */
void journal_note_lost(struct journal *journal, const struct journal_record *record);
/* Lets go of the segment it holds; the next read maps anew. An idle reader should: what it holds cannot be recycled. */
void journal_reader_rest(struct journal_reader *reader);

/* ---------------------------------------------------------------------------------------------- maintenance: one
 * thread */

/* Prepares the next segments (recycles those that every live cursor has passed, or makes new ones), removes passed ones
 * above segments_mapped_max, unmaps cold ones. Call when journal_wants_maintenance() or once a second. Never blocks the
 * writer. ERR_FULL: size_bytes_max is reached and the oldest segment is still needed; ERR_DISK_FULL, ERR_SYSTEM: the
 * disk. Each is tried anew at the next call. */
enum err_code journal_maintain(struct journal *journal, struct err *reterr);
/* What the last maintenance lacked for the next segment, whatever else it had to tell: ERR_FULL, ERR_DISK_FULL, or
 * ERR_OK. Maintenance's thread. */
enum err_code journal_room(const struct journal *journal);
/* Looks whether the directory was removed or moved: then the next start does not find what is appended, and
 * journal_reserve() says ERR_FULL until it is put back and this, or journal_maintain(), is called again. Any thread. */
bool journal_is_removed(struct journal *journal);
/* From now on the log may exceed size_bytes_max by drain_bytes_max: the service ends, and what the lanes hold has
 * nowhere else to go. Until it is closed. Any thread. */
void journal_use_drain_room(struct journal *journal);
/* Removes the oldest segment, when every live cursor has passed it, kept for replays or not: another log of the budget
 * needs the room. False: there is none but what journal_maintain() prepares ahead. */
bool journal_trim(struct journal *journal);
/* No event waits in it for a live target. */
bool journal_is_settled(const struct journal *journal);
/* Closes a deliver_only log that is settled, and removes its segments. Its targets file stays, with the counts. As with
 * journal_close(), no other thread has it any more: its writer, owners and maintenance have ended. */
void journal_discard(struct journal *journal);

/* ---- giving up the oldest events. Maintenance announces up to where; the owner of each target counts as shed what the
 * target has not taken of it, and moves the cursor; then the segment is like any that was passed. */

/* Announces that the oldest closed segment is given up, unless an announcement is still being carried out. ERR_EMPTY:
 * no closed segment waits for anybody. */
enum err_code journal_shed_oldest(struct journal *journal);
/* Whether some live cursor is before what was announced. */
bool journal_shed_pending(const struct journal *journal);
/* Up to where: cursors of live targets must move here. 0: nothing was ever given up. Any thread (acquire). */
uint64_t journal_shed_before(const struct journal *journal);
/* When the first record of the oldest segment was accepted; INT64_MAX: no closed segment. May read from the disk. */
int64_t journal_oldest_ms(const struct journal *journal);

/* Set by the writer when it took a prepared segment or found none: one relaxed load. */
bool journal_wants_maintenance(const struct journal *journal);

/* Durability host: grouped sync. begin() says which files must be fdatasync()ed so that what was published before the
 * call is durable, and may be called again only after done() was told how that went; meanwhile maintenance goes on, and
 * these files stay open and as they are. *ret_count 0: nothing is to be done, and no done() follows; with durability
 * process the position is moved at once. Files beyond JOURNAL_SYNC_FILES_MAX are left to the next round.
 *
 * A failed fdatasync is never taken back by a later one that succeeds: the kernel may have dropped what it could not
 * write, and say so only once. The durable position stays where it is. Each further begin() writes every page behind it
 * anew, and when those syncs succeed, done() checks every record there before it believes them, as it does where pages
 * could not be backed; readers check the records of these segments from the first failure on. The targets file
 * remembers it for the next open, which writes the whole log anew. ERR_CORRUPT from done(): records that some cursor is
 * before were dropped; found so twice, they are lost, and the position moves past them, so that what came behind them
 * does not wait for ever. begin() fails when it cannot map what is to be written anew, or sync the names of targets
 * (journal_target_register()): ERR_SYSTEM, ERR_MEMORY; tried again by the next. */
#define JOURNAL_SYNC_FILES_MAX 16u
enum err_code journal_sync_begin(struct journal *journal, int ret_fds[JOURNAL_SYNC_FILES_MAX], uint32_t *ret_count,
                                 struct err *reterr);
/* `sys_errno`: 0 when every fdatasync succeeded, else of one that failed. */
enum err_code journal_sync_done(struct journal *journal, int sys_errno, struct err *reterr);
/* All of it by the caller's thread, until everything published before the call is durable. */
enum err_code journal_sync(struct journal *journal, struct err *reterr);
uint64_t journal_durable_position(const struct journal *journal);

struct journal_stats {
        uint64_t committed_position, durable_position, oldest_position; /* oldest: of the slowest cursor */
        uint64_t segments, segments_recycled, size_bytes, size_bytes_max;
        uint64_t segments_given_up;         /* since open: pages of them could not be backed */
        uint64_t records, rejected_records; /* published since open */
        uint64_t passed_bytes;              /* of segments that every cursor has passed and that are still there */
        int64_t oldest_event_ms; /* when the oldest event that is still there was accepted; 0: there is none */
        uint64_t budget_bytes;   /* what it may hold mapped: warm segments, one per reader, targets, tables */
};
void journal_get_stats(const struct journal *journal, struct journal_stats *ret_stats);
/* budget_bytes of a journal with these options that begins empty and has so many readers. */
uint64_t journal_budget_bytes(const struct journal_options *options, uint64_t readers_count);

#endif
