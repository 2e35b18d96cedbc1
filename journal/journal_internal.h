/* Inside of the journal: the formats drawn in journal.h as structs, and what its files share. Not for other folders. */
#ifndef SENDRING_JOURNAL_JOURNAL_INTERNAL_H
#define SENDRING_JOURNAL_JOURNAL_INTERNAL_H

#include "base/assert.h"
#include "base/crc32c.h"
#include "io/disk.h"
#include "journal/journal.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>

/* Labelled steps of the protocols, for the test that copies the directory at each of them. Nothing in the product. */
#ifdef JOURNAL_TEST_STEPS
void journal_test_step(const char *label);
#define JOURNAL_STEP(label) journal_test_step(label)
#else
#define JOURNAL_STEP(label) \
        do {                \
        } while (0)
#endif

#define JOURNAL_PAGE_BYTES      4096u
#define JOURNAL_ALIGN_BYTES     64u
#define JOURNAL_DATA_START      JOURNAL_PAGE_BYTES
#define JOURNAL_SEQUENCE_MAX    (UINT64_C(1) << 62) /* far from wrapping: more is damage */
#define JOURNAL_POSITION_MAX    (UINT64_C(1) << 62)
#define JOURNAL_FLAG_GAP        8u
#define JOURNAL_NAME_BYTES      40u
#define JOURNAL_VERSION         1u
#define JOURNAL_SEGMENT_MAGIC   UINT64_C(0x31736a72646e6573) /* "sendrjs1" */
#define JOURNAL_TARGETS_MAGIC   UINT64_C(0x31746a72646e6573) /* "sendrjt1" */
#define JOURNAL_SEGMENT_SUFFIX  ".segment"
#define JOURNAL_UNFINISHED      ".preparing"
#define JOURNAL_LOCK_NAME       "lock"
#define JOURNAL_TARGETS_NAME    "targets"
#define JOURNAL_COPY_NAME       "targets.copy"
#define JOURNAL_QUARANTINE_NAME "quarantine"

/* ------------------------------------------------------------------------------------------------------ formats */

struct journal_segment_header {
        uint64_t magic;
        uint32_t version;
        uint32_t seed;
        uint64_t file_number;
        uint64_t base_position;
        uint64_t segment_bytes;
        uint64_t zero[2];
        uint32_t zero_too;
        uint32_t crc;
};
_Static_assert(sizeof(struct journal_segment_header) == 64, "drawn in journal.h");
_Static_assert(offsetof(struct journal_segment_header, seed) == 12, "drawn in journal.h");
_Static_assert(offsetof(struct journal_segment_header, base_position) == 24, "drawn in journal.h");
_Static_assert(offsetof(struct journal_segment_header, crc) == 60, "drawn in journal.h");

#define JOURNAL_START_OFFSET 64u
struct journal_start_block {
        uint64_t base_sequence;
        uint32_t crc;
        uint32_t loss_counted; /* ~crc, or 0 */
};
_Static_assert(sizeof(struct journal_start_block) == 16, "drawn in journal.h");

struct journal_record_header {
        uint32_t crc;
        uint32_t payload_bytes;
        uint64_t sequence;
        uint64_t lane_id;
        uint64_t lane_position;
        uint64_t facts;
        uint16_t routes[LIMIT_ROUTES_PER_EVENT_MAX];
};
_Static_assert(sizeof(struct journal_record_header) == JOURNAL_ALIGN_BYTES, "drawn in journal.h");
_Static_assert(offsetof(struct journal_record_header, facts) == 32, "drawn in journal.h");
_Static_assert(offsetof(struct journal_record_header, routes) == 40, "drawn in journal.h");
_Static_assert(LIMIT_ROUTES_PER_EVENT_MAX < 16, "the route count has four bits");
_Static_assert(LIMIT_SEGMENT_BYTES_MIN >= 2 * JOURNAL_PAGE_BYTES + JOURNAL_ALIGN_BYTES + LIMIT_RECORD_BYTES_MAX,
               "the largest event fits the smallest segment");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are little endian");

#define JOURNAL_FACTS_MS_BITS     48u
#define JOURNAL_FACTS_TYPE_SHIFT  48u
#define JOURNAL_FACTS_COUNT_SHIFT 56u
#define JOURNAL_FACTS_FLAGS_SHIFT 60u

/* In the file up to and including lost_records; `lost` stands in owner_lost[] of its line. */
struct journal_owner_slot {
        uint64_t version, position, sequence, delivered, dead_lettered, shed, expired;
        uint32_t crc, lost_records;
        uint64_t lost;
};
#define JOURNAL_OWNER_SLOT_BYTES 64u
struct journal_shard_slot {
        uint64_t version, accepted, upto_sequence, upto_position;
        uint32_t crc, zero;
        uint64_t lost;
        uint64_t pad[2];
};
struct journal_target_entry {
        uint32_t identity_crc;
        uint16_t number;
        uint16_t key_bytes;
        uint8_t pad_identity[56];
        _Atomic uint64_t owner_active;
        uint64_t owner_lost[2];
        uint8_t pad_owner[40];
        uint64_t owner_slots[2][JOURNAL_OWNER_SLOT_BYTES / sizeof(uint64_t)];
        _Atomic uint64_t shard_active;
        uint8_t pad_shard[56];
        struct journal_shard_slot shard_slots[2];
        _Atomic uint32_t retired;
        uint8_t pad_retired[60];
        char key[512];
};
_Static_assert(offsetof(struct journal_owner_slot, lost) == JOURNAL_OWNER_SLOT_BYTES, "drawn in journal.h");
_Static_assert(sizeof(struct journal_shard_slot) == 64, "drawn in journal.h");
_Static_assert(offsetof(struct journal_target_entry, owner_active) == 64, "drawn in journal.h");
_Static_assert(offsetof(struct journal_target_entry, owner_lost) == 72, "drawn in journal.h");
_Static_assert(offsetof(struct journal_target_entry, owner_slots) == 128, "drawn in journal.h");
_Static_assert(offsetof(struct journal_target_entry, shard_active) == 256, "drawn in journal.h");
_Static_assert(offsetof(struct journal_target_entry, shard_slots) == 320, "drawn in journal.h");
_Static_assert(offsetof(struct journal_target_entry, retired) == 448, "drawn in journal.h");
_Static_assert(offsetof(struct journal_target_entry, key) == 512, "drawn in journal.h");
_Static_assert(sizeof(struct journal_target_entry) == 1024, "drawn in journal.h");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "shared words are lock-free");

struct journal_targets_header {
        uint64_t magic;
        uint32_t version;
        uint32_t entry_bytes;
        uint32_t crc;           /* of the fields above */
        _Atomic uint32_t count; /* stored after the line it adds is whole */
        /* An fdatasync of a segment failed, and what it was to write has not been written anew since. */
        _Atomic uint32_t sync_failed;
};

/* ------------------------------------------------------------------------------------------------------ segments */

/* One line of the table. Lines never move: index modulo capacity. */
struct journal_segment {
        uint64_t file_number;
        uint64_t base_position;
        uint64_t size_bytes;
        _Atomic uint64_t base_sequence; /* 0: the writer has not come here yet */
        _Atomic uint64_t end_position;  /* behind the last record; 0: still open */
        uint32_t seed;
        _Atomic uint32_t pins; /* readers in it */
        bool unusable;         /* found at open: nothing can be written there */
        /* Readers check every record: damage found at open that could not be covered, or a sync that failed. */
        _Atomic bool damaged;
        uint8_t *map;                 /* NULL: cold. Changed by control under the mutex */
        const _Atomic uint32_t *lost; /* while mapped: its pages that could not be backed (io/disk.h) */
        int fd;                       /* open while mapped */
};

static inline uint64_t journal_segment_data_end(const struct journal_segment *segment)
{
        return segment->size_bytes - JOURNAL_PAGE_BYTES;
}

static inline uint64_t journal_record_bytes(uint64_t payload_bytes)
{
        return (sizeof(struct journal_record_header) + payload_bytes + JOURNAL_ALIGN_BYTES - 1) &
               ~(uint64_t)(JOURNAL_ALIGN_BYTES - 1);
}

static inline unsigned journal_header_flags(const struct journal_record_header *header)
{
        return (unsigned)(header->facts >> JOURNAL_FACTS_FLAGS_SHIFT);
}

static inline unsigned journal_header_routes_count(const struct journal_record_header *header)
{
        return (unsigned)(header->facts >> JOURNAL_FACTS_COUNT_SHIFT) & 15u;
}

/* The header at `at` with room for `room_bytes` behind and including it: plausible, and its CRC right. */
bool journal_record_is_whole(const uint8_t *at, uint64_t room_bytes, uint32_t seed,
                             struct journal_record_header *ret_header);
/* Fills a gap header that spans `span_bytes` in all. */
void journal_gap_fill(struct journal_record_header *header, uint64_t span_bytes, uint64_t next_sequence, uint32_t seed);
void journal_entry_of_header(const struct journal_record_header *header, struct journal_entry *ret_entry);
/* The offset of the next whole record or gap at or behind `offset` whose sequence is at least `sequence`, or data_end.
 */
uint64_t journal_resync(const uint8_t *segment, uint64_t offset, uint64_t data_end, uint32_t seed, uint64_t sequence);

void journal_segment_header_fill(struct journal_segment_header *header, uint64_t file_number, uint64_t base_position,
                                 uint64_t segment_bytes, uint32_t seed);
/* ERR_OK, ERR_CORRUPT, or ERR_VERSION. */
enum err_code journal_segment_header_check(const struct journal_segment_header *header, uint64_t file_number);
uint32_t journal_start_block_crc(uint32_t seed, uint64_t base_position, uint64_t base_sequence);
/* Writes both headers into the mapping, in an order that leaves a whole one at every instant. */
void journal_segment_write_headers(struct journal_segment *segment);
/* Takes the headers back: the file is no segment any more. */
void journal_segment_disclaim(struct journal_segment *segment);
/* Whether pages of it were lost since it was mapped. */
static inline bool journal_segment_has_lost(const struct journal_segment *segment)
{
        /* Acquire: pairs with the release in the handler of io/disk_guard.c. */
        return segment->map != NULL && atomic_load_explicit(segment->lost, memory_order_acquire) != 0;
}
/* Opens and maps it for writing. */
enum err_code journal_segment_map(struct journal *journal, struct journal_segment *segment, struct err *reterr);
void journal_segment_unmap(struct journal_segment *segment);
/* Makes the pages from `offset` on present and writable, so that the writer takes no fault. False: pages of it cannot
 * be backed, and nothing may be written there. */
bool journal_segment_warm(const struct journal_segment *segment, uint64_t offset);
/* The same for pages that are mostly warm already: cheaper then, dearer when they are not. */
void journal_segment_touch(const struct journal_segment *segment, uint64_t offset);
/* Marks the pages of [from, to), offsets, as changed without changing them: the next sync writes them. Mapped. */
void journal_segment_dirty(const struct journal_segment *segment, uint64_t from, uint64_t to);
/* Makes a new file with headers and adds nothing to the table. The fields but map and fd must be set. */
enum err_code journal_segment_create_file(struct journal *journal, struct journal_segment *segment, struct err *reterr);
void journal_segment_name(uint64_t file_number, const char *suffix, char out[JOURNAL_NAME_BYTES]);
uint32_t journal_random_seed(void);

/* ------------------------------------------------------------------------------------------------------ targets */

/* The mapping of the targets file is as large as the file can become, so it never moves. */
#define JOURNAL_TARGETS_BYTES_MAX \
        (JOURNAL_PAGE_BYTES + LIMIT_TARGETS_MAX * (uint64_t)sizeof(struct journal_target_entry))

/* What of a line is in the copy. */
struct journal_target_copied {
        uint64_t owner_version, shard_version;
        bool named, retired; /* named: the line is there at all */
};

struct journal_targets {
        /* Register and retire are called by control, maintenance and syncs by the helper. Taken by all of them around
         * everything that adds lines, grows, mends, copies or syncs the files, or writes the slots of a target that
         * nobody owns; it may be held over a sync. Never by the shard, nor by an owner. */
        pthread_mutex_t mutex;
        int fd;
        /* As large as the file can become, so that they never move; only what the file has is touched. `map` is what
         * this process goes by: memory of its own. `file` gets every store after it, and is what the next process
         * finds: pages of it may be lost (io/disk.h), and are then written anew. Read-only: `map` is the file, or,
         * with `snapshot`, memory of its own with what the file and its copy had when it was opened; `file` NULL. */
        uint8_t *map, *file;
        bool snapshot;
        const _Atomic uint32_t *lost; /* pages of `file` */
        uint64_t map_bytes;
        uint64_t file_bytes;
        _Atomic uint32_t count;
        bool read_only;
        bool header_lost; /* found at open */
        bool incomplete;  /* found at open: there may have been more targets than anybody knows */
        uint32_t unknown; /* the same, read-only: lines that neither file has in whole */

        /* The copy. */
        int copy_fd;
        uint64_t copy_bytes;
        uint32_t copy_count;
        bool copy_unsynced;                   /* names in it, durability host */
        struct journal_target_copied *copied; /* one for each target */
};

enum err_code journal_targets_open(struct journal *journal, struct journal_recovery *recovery, struct err *reterr);
void journal_targets_close(struct journal_targets *targets);
/* Read-only, with a snapshot: counts what was accepted behind the counts that it has. */
enum err_code journal_targets_catch_up(struct journal *journal, struct err *reterr);
/* The numbers below `count` are taken by records of the log: nobody may get them. */
enum err_code journal_targets_reserve_numbers(struct journal *journal, uint32_t count, struct err *reterr);
/* The file has room for `count` lines. Under the mutex, as what follows up to journal_targets_sync(). */
enum err_code journal_targets_grow(struct journal *journal, uint32_t count, struct err *reterr);
/* Sees to it that the file and its copy have lines to spare, if there is room for them. */
void journal_targets_spare(struct journal *journal);
/* Brings what has changed since the last call into the copy; durability host: new names in it are on the disk. What
 * fails is tried again by the next call. */
enum err_code journal_targets_copy(struct journal *journal, struct err *reterr);
enum err_code journal_targets_sync_held(struct journal *journal, struct err *reterr);
/* Durability host: the cursors and counts of now are on the disk. */
enum err_code journal_targets_sync(struct journal *journal, struct err *reterr);
/* The same where a register could not; else nothing. */
enum err_code journal_targets_sync_names(struct journal *journal, struct err *reterr);
/* Whether an fdatasync of a segment failed since the log was last written whole. */
bool journal_targets_sync_failed(const struct journal_targets *targets);
/* A sync has failed now: what was written so far, published or not, is to be made good. */
void journal_sync_expect(struct journal *journal);
/* Writes the file anew where pages of it were lost. ERR_CORRUPT: done, and it should be told. ERR_DISK_FULL,
 * ERR_SYSTEM: not yet. */
enum err_code journal_targets_heal(struct journal *journal, struct err *reterr);
/* Notes there, for the next open, whether a sync of segments or of the targets file itself still has to be made good.
 * Under the mutex. */
void journal_note_sync(struct journal *journal);
/* The same line in the file; NULL where there is none of our own. */
struct journal_target_entry *journal_target_file_entry(const struct journal_targets *targets,
                                                       const struct journal_target_entry *entry);
struct journal_targets_header *journal_targets_head(const struct journal_targets *targets);
/* All that is known of them, once more into the file: pages of it were lost, or may have been dropped. Under the mutex.
 */
void journal_targets_write_anew(struct journal *journal);
uint32_t journal_identity_crc(const struct journal_target_entry *entry);
bool journal_identity_is_right(const struct journal_target_entry *entry, uint32_t number);
uint32_t journal_owner_slot_crc(const struct journal_owner_slot *slot);
uint32_t journal_shard_slot_crc(const struct journal_shard_slot *slot);
/* Read-only: looks at the file's count again. */
void journal_targets_refresh(struct journal_targets *targets);

static inline struct journal_target_entry *journal_target_entry(const struct journal_targets *targets, uint32_t number)
{
        return (struct journal_target_entry *)(void *)(targets->map + JOURNAL_PAGE_BYTES +
                                                       (size_t)number * sizeof(struct journal_target_entry));
}

/* The slots of version `version` of a line that nobody writes. */
void journal_owner_slot_load(const struct journal_target_entry *entry, uint64_t version,
                             struct journal_owner_slot *ret_slot);
void journal_owner_slot_put(struct journal_target_entry *entry, const struct journal_owner_slot *slot);
/* Consistent copies beside their live writers. */
void journal_owner_slot_read(struct journal_target_entry *entry, struct journal_owner_slot *ret_slot);
void journal_shard_slot_read(struct journal_target_entry *entry, struct journal_shard_slot *ret_slot);
/* Writes the next version. One thread per kind of slot; `slot` needs no version and CRC. */
void journal_owner_slot_write(struct journal_targets *targets, struct journal_target_entry *entry,
                              struct journal_owner_slot *slot);
void journal_shard_slot_write(struct journal_targets *targets, struct journal_target_entry *entry,
                              struct journal_shard_slot *slot);
/* What does not wait any more of what the shard's slot counts as accepted. */
static inline uint64_t journal_owner_slot_settled(const struct journal_owner_slot *slot)
{
        return slot->delivered + slot->dead_lettered + slot->shed + slot->expired + slot->lost;
}
/* Under the mutex, or at open. */
void journal_target_set_retired(const struct journal_targets *targets, struct journal_target_entry *entry,
                                bool retired);
/* Counts what waits for a target as shed and moves its cursor to the committed position. Nobody owns it; under the
 * mutex of the targets. */
void journal_target_shed_waiting(struct journal *journal, struct journal_target_entry *entry);

/* After the slots were chosen, before anything is written. */
struct journal_target_recovery {
        bool owner_lost, shard_lost;
        bool owner_stale;                        /* lost, or not the newest: it may have settled more */
        bool disowned;                           /* nobody knows its name any more: what waits for it is lost */
        uint64_t cursor_position, upto_sequence; /* copies, for the scan */
        uint64_t cursor_sequence;
        bool cursor_moved;       /* out of a gap, to cursor_position and cursor_sequence */
        uint64_t found_accepted; /* records above upto_sequence */
        uint64_t found_waiting;  /* records at or behind the cursor */
};

/* ------------------------------------------------------------------------------------------------------ losses */

/* Where readers found no whole record. Runs never shrink; beyond so many, neighbours are taken together. */
#define JOURNAL_LOSSES_MAX 256u
struct journal_loss {
        uint64_t position, end;
        uint64_t records; /* at most so many */
};

/* Notes what a reader passes over: [position, end) held the records from `sequence` up to `next_sequence`; 0 where the
 * reader does not know. Any thread; takes the mutex. */
void journal_losses_note(struct journal *journal, uint64_t position, uint64_t end, uint64_t sequence,
                         uint64_t next_sequence);
/* At most so many lost records lie between the two positions. */
uint64_t journal_losses_between(struct journal *journal, uint64_t from, uint64_t to);
/* Whether so many missing events of one target can be of so many lost records. */
static inline bool journal_losses_explain(uint64_t events, uint64_t records)
{
        return events / LIMIT_ROUTES_PER_EVENT_MAX < records ||
               events == records * (uint64_t)LIMIT_ROUTES_PER_EVENT_MAX;
}

/* ------------------------------------------------------------------------------------------------------ lanes */

struct journal_lane {
        uint64_t lane_id;
        uint64_t lane_position; /* 0: free */
};
struct journal_lanes {
        struct journal_lane *lines;
        uint64_t capacity, count; /* capacity: power of two or 0 */
};
/* False when memory is exhausted. */
bool journal_lanes_note(struct journal_lanes *lanes, uint64_t lane_id, uint64_t lane_position);
uint64_t journal_lanes_find(const struct journal_lanes *lanes, uint64_t lane_id);

/* ------------------------------------------------------------------------------------------------------ journal */

/* The shard's own, one group of cache lines. */
struct journal_writer {
        uint8_t *map;
        uint64_t offset;      /* where the next record goes */
        uint64_t data_end;    /* of the current segment; 0 while there is none */
        uint64_t kept_offset; /* what lies before it is not taken back: journal_keep() */
        uint64_t prefetched;  /* the lines before it were asked for */
        uint64_t base_position;
        uint64_t sequence; /* of the next record */
        uint64_t last_position;
        uint32_t seed;
        const _Atomic uint32_t *lost; /* pages of the current segment that could not be backed */
        bool given_up;                /* the current segment: nothing more goes into it */
        bool loss_counted;            /* recovery skipped sequences and had no room to say so: the next segment does */
        uint32_t reserved_bytes;      /* of the open reservation, with header; 0: none */
        struct journal_segment *segment;
        uint64_t records, rejected_records;
        uint32_t touched_count;
        uint16_t *touched;  /* targets with counts not yet persisted */
        uint32_t *accepted; /* per target, since the last publish */
};

struct journal {
        char *directory;
        int directory_fd, lock_fd, quarantine_fd;
        uint64_t segment_bytes, size_bytes_max, drain_bytes_max;
        _Atomic bool drain_room_used;
        enum err_code room;   /* journal_room() */
        _Atomic bool removed; /* its directory: nothing more is taken */
        uint32_t segments_mapped_max, ahead;
        enum journal_durability durability;
        bool read_only, deliver_only;
        uint64_t retention_bytes, retention_age_ms;
        struct journal_budget *budget; /* the caller's, or own_budget */
        struct journal_budget own_budget;

        struct journal_segment *segments;
        uint64_t capacity; /* lines of the table */
        struct journal_targets targets;
        struct journal_lanes lanes;
        struct journal_target_recovery *target_recovery; /* only during open */

        alignas(128) struct journal_writer writer;

        /* By the shard. */
        alignas(128) _Atomic uint64_t committed_version; /* odd while the pair changes */
        _Atomic uint64_t committed_position;
        _Atomic uint64_t committed_sequence;
        _Atomic uint64_t stat_records, stat_rejected_records, stat_segments_given_up;
        _Atomic uint64_t current_index;
        _Atomic bool wants_maintenance; /* cleared by control */

        /* By control. */
        alignas(128) _Atomic uint64_t prepared_end; /* segments with a smaller index may be taken */
        _Atomic uint64_t durable_position;
        _Atomic uint64_t stat_segments, stat_segments_recycled, stat_size_bytes, stat_oldest_position;
        _Atomic uint64_t stat_passed_bytes;
        _Atomic int64_t stat_oldest_event_ms;
        uint64_t oldest_event_index; /* of the segment that stat_oldest_event_ms is about */
        _Atomic uint64_t shed_before;
        uint64_t next_file_number, next_base_position;
        uint64_t mapped_count;
        uint64_t passed_bytes;     /* of what every cursor has passed, as of this maintenance */
        bool syncing;              /* between journal_sync_begin() and journal_sync_done() */
        uint64_t sync_begin_index; /* the segments that it concerns */
        uint64_t sync_end_index;
        uint64_t sync_position;         /* durable when it succeeds */
        uint64_t sync_damaged_position; /* where records were found dropped by the last round; 0: nowhere */
        _Atomic bool sync_failed;       /* what lies behind durable_position must be written anew */
        /* Where a failed sync can have left nothing behind: the end of the segment that the writer was in. */
        uint64_t sync_expected_position;
        bool targets_sync_failed;     /* the same of the targets file; under its mutex */
        _Atomic bool names_unsynced;  /* targets were registered whose lines are not on the disk: nothing is durable */
        bool directory_unsynced;      /* names of segments may be on no disk: nothing is durable */
        uint64_t cursors_durable_end; /* segments of a smaller index are passed by cursors that are on the disk */

        /* Under the mutex. */
        alignas(128) pthread_mutex_t mutex;
        uint64_t first_index;       /* of the oldest segment */
        uint64_t recycled_position; /* end of the newest segment that is gone: a cursor there is at the first one now */
        struct journal_loss losses[JOURNAL_LOSSES_MAX]; /* in the order of their positions */
        uint32_t losses_count;
        _Atomic uint64_t losses_end; /* no loss lies at or behind it; 0: none was found yet */
        _Atomic uint64_t readers_count;
};

static inline struct journal_segment *journal_segment_at(const struct journal *journal, uint64_t index)
{
        return &journal->segments[index % journal->capacity];
}

/* Lines of the table for the segments that the log may make, beside those that it was opened with. */
static inline uint64_t journal_lines_ahead(uint64_t size_bytes_max, uint64_t drain_bytes_max, uint64_t segment_bytes)
{
        return size_bytes_max / segment_bytes + drain_bytes_max / segment_bytes;
}

/* The index of the segment that holds `position`, or the oldest one when its end was recycled; under the mutex. */
enum err_code journal_segment_find(const struct journal *journal, uint64_t position, uint64_t *ret_index);

/* The position before which nobody needs anything; retired targets shed on the way. */
uint64_t journal_oldest_needed(struct journal *journal);
/* Durability host: the cursors must be on the disk before what they have passed is overwritten, or a power cut would
 * leave old cursors with nothing to read. Where that fails, *oldest is put back to where it was true. */
enum err_code journal_make_cursors_durable(struct journal *journal, uint64_t *oldest, struct err *reterr);
/* When the first record of segment `index` was accepted. May read from the disk. False: there is none yet, it is
 * damaged, or it cannot be read. */
bool journal_first_ms(const struct journal *journal, uint64_t index, int64_t *ret_ms);
/* Takes the oldest segment out of the table when nobody needs it; the caller has its line. */
bool journal_take_oldest(struct journal *journal, uint64_t oldest, struct journal_segment *ret_segment);
/* Removes a segment that is not in the table, or about to leave it: its file, its mapping, its counts. */
void journal_remove(struct journal *journal, struct journal_segment *segment);
void journal_count_segments(struct journal *journal, int64_t segments, int64_t size_bytes);

enum err_code journal_recover(struct journal *journal, struct journal_recovery *recovery, struct err *reterr);
/* Read-only: builds the table from what the directory holds now. */
enum err_code journal_refresh(struct journal *journal, struct err *reterr);
void journal_publish_pair(struct journal *journal, uint64_t position, uint64_t sequence);

#endif
