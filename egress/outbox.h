/* The outbox of a CloudWatch target: the bodies of one closed period, in a memory-mapped file, from the moment they are
 * encoded until each was acknowledged and the cursors have moved. It is what lets a killed router go on with exactly
 * the requests that were not answered yet, instead of counting the period again and sending parts of it twice.
 *
 * One file per target, mode 0600, preallocated, flock()ed while open. All integers are little endian.
 *
 *     0        128                     14208                  16256  16384                                  end
 *     | header | 176 places of 80 bytes | 64 chunks of 32 bytes | 0    | bodies, each beginning at a multiple of 64 |
 *
 *     header                                      place of one log                   chunk: one request body
 *      0 u64 magic "sendrob1"                      0 u64 1 + the log's identity: it   0 u64 offset in the file
 *      8 u32 version                                     has events; 0: all is 0      8 u32 bytes
 *     12 u32 chunks                                8 u64 begin position: the cursor  12 u32 CRC-32C of the body
 *     16 u64 hash of the target's key             16 u64 begin sequence              16 u32 data (metrics) in it
 *     24 u32 logs                                 24 u64 end position: the cursor    20 u32 counts in them, at
 *     28 u32 CRC-32C of 0..27, 32..39, the               when all is acknowledged           most 2^32-1
 *            places and the chunks in use         32 u64 end sequence                24 i64 time of the oldest
 *     32 i64 real time when closed, in ms         40 u64 delivered, dead-lettered,          datum, in ms
 *     64 u64 sealed: "SEALED\0\0", or 0                 shed, expired: what the
 *     72 u64 progress: bits 0..31 chunks                 cursor's move settles
 *            acknowledged, in order; bit 32:      72 u64 delivered of this log, as
 *            the next one is on the wire; bit 33:        the journal says at begin
 *            some cursors have moved before
 *     80 u64 given up: bit n, chunk n was passed
 *            over and is missing in CloudWatch
 *
 * Only `sealed` says that a period is in it: it is cleared before anything else is written and stored last. `progress`
 * is one word, so that "this chunk is acknowledged" and "nothing is on the wire" are one store. What a SIGKILL leaves
 * (stores into a shared mapping survive the process, in program order), and what the next start makes of it:
 *
 *     while it is being written   sealed is 0: the period is counted again from the journal
 *
 *     sealed, nothing sent        all chunks are sent from here
 *
 *     one on the wire, or its     that chunk is ambiguous: the service may have it. It is sent again, or passed over,
 *     answer not written down     as the destination says (AmbiguousTimeout), and counted
 *
 *     some acknowledged           only the others are sent
 *
 *     given up (a bit of it)      its counts are missing; who passed over the chunk says so in the ledger when the
 *                                 period is settled. Stored before the progress that passes over it: a bit beyond the
 *                                 progress means nothing
 *
 *     moved before (bit 33)       each cursor stands at begin, or at end or behind it: what those counted is sent,
 *                                 and they do not move again. The log had to be given up (journal/journal.h), and the
 *                                 move has counted as shed what the period would deliver. When it is done with, they
 *                                 count as delivered: not done yet where the journal says what it said at begin
 *
 *     all acknowledged            each cursor stands at begin or at end: those at begin are moved
 *
 *     all cursors moved           nothing is left to do: cleared
 *
 * A power cut leaves any mix of old and new pages: the CRCs decide. A period that fails them, or that does not begin
 * where the journal's cursors stand, is dropped and counted again; if some of its chunks had been acknowledged, they
 * are then in the sums twice, which is counted and logged. So is one of another version, as an upgrade finds it when
 * the router was killed before: version 1 had no time of the oldest datum, version 2 knew one log a shard, version 3
 * one time of the oldest datum for all chunks, version 4 room for 64 places.
 *
 * One thread at a time: the control thread opens it, then the worker that owns the target has it. Only open,
 * close and remove make system calls, and outbox_sync_begin() where open could not put its name on the disk. */
#ifndef SENDRING_EGRESS_OUTBOX_H
#define SENDRING_EGRESS_OUTBOX_H

#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"
#include "journal/journal.h"

#include <stdbool.h>
#include <stdint.h>

#define OUTBOX_CHUNKS_MAX   64u
#define OUTBOX_HEADER_BYTES 16384u
#define OUTBOX_ALIGN_BYTES  64u
/* Bodies of one period: 10,000 series with the longest names fit several times. */
#define OUTBOX_DATA_BYTES_MAX (256u * 1024u * 1024u)

struct outbox_place {
        uint64_t touched; /* 0: the rest is 0; else not 0 */
        uint64_t begin_position, begin_sequence;
        uint64_t end_position, end_sequence;
        struct journal_settled settled;
        uint64_t begin_delivered; /* of the log, by the journal's books, when the period was closed */
};

struct outbox;

/* The file of the target with this key: DIRECTORY/<16 hex digits>.outbox. False: `out` is too small. */
bool outbox_path(const char *directory, struct slice key, char *out, size_t out_bytes);
/* FNV-1a of the key. Two keys with one hash would be two targets with one file: the second is refused as ERR_LOCKED. */
uint64_t outbox_key_hash(struct slice key);
/* Removes the outboxes, and the series files (egress/series.h), in the directory that belong to none of the keys.
 * Before their targets are made, or after: those that are in use are in the list. Returns how many files; 0 when there
 * is no such directory. */
uint32_t outbox_sweep(const char *directory, const struct slice *keys, uint32_t keys_count);

struct outbox_options {
        const char *path;
        uint64_t key_hash;
        uint32_t shards_count;   /* logs: 1..LIMIT_LOGS_MAX */
        uint64_t data_bytes_max; /* room for bodies, each rounded up to OUTBOX_ALIGN_BYTES */
        const uint32_t
                *log_ids; /* [shards_count]: the same in every process, whatever index a log has; NULL: 0, 1 ... */
};

/* What open found. */
struct outbox_found {
        const char *dropped;           /* why a period that was there was thrown away; NULL: it was not */
        uint32_t chunks, acknowledged; /* of a dropped one: acknowledged as far as its progress can be believed */
        bool in_flight;
};

/* Opens or makes the file, with room for `data_bytes_max` reserved on the disk, and reads back what is in it:
 * afterwards outbox_is_sealed() says whether a period is. Whatever the file held, the outbox is usable. ERR_LOCKED,
 * ERR_PERMISSION, ERR_DISK_FULL, ERR_CONFIG (a symbolic link, no regular file), ERR_MEMORY, ERR_SYSTEM. `ret_found` may
 * be NULL. */
enum err_code outbox_open(const struct outbox_options *options, struct outbox **ret_outbox,
                          struct outbox_found *ret_found, struct err *reterr);
/* Writes nothing: what is in it is there at the next open. NULL is allowed. */
void outbox_close(struct outbox *outbox);
/* Closes it and removes the file: its target is gone. */
void outbox_remove(struct outbox *outbox);
/* What it maps, for the memory budget. */
uint64_t outbox_budget_bytes(uint64_t data_bytes_max);

/* ---- writing a period: begin, then room and add for each chunk, then seal. Not while one is sealed (asserted). */

void outbox_begin(struct outbox *outbox);
/* Where the next body goes, and how much room there is for it. */
uint8_t *outbox_room(struct outbox *outbox, size_t *ret_bytes);
/* `data` metrics, which count `counts` in all. `oldest_ms`: of the oldest datum, which is the start of its period: a
 * backlog's may be days before it is closed. */
void outbox_add(struct outbox *outbox, size_t body_bytes, uint32_t data, uint64_t counts, int64_t oldest_ms);
/* `places`: one per shard. At least one chunk (asserted). `closed_ms`: real time. */
void outbox_seal(struct outbox *outbox, const struct outbox_place *places, int64_t closed_ms);

/* ---- sending it */

bool outbox_is_sealed(const struct outbox *outbox);
uint32_t outbox_chunks(const struct outbox *outbox);
uint32_t outbox_acknowledged(const struct outbox *outbox);
/* The next chunk is, or was when the process died, on the wire. */
bool outbox_in_flight(const struct outbox *outbox);
const struct outbox_place *outbox_places(const struct outbox *outbox);
int64_t outbox_closed_ms(const struct outbox *outbox);
/* False: pages of the next chunk were lost (io/disk.h), or read back from the disk otherwise than they were written,
 * and it must not be sent. The period can be counted again from the journal by the next open of the file, whose checks
 * it fails as well. Looks at every byte of the body, so what was made of it before was made of these. */
bool outbox_next_is_whole(const struct outbox *outbox);
/* The next chunk (there must be one) and, if wished, its data count. */
struct slice outbox_next(const struct outbox *outbox, uint32_t *ret_data);
uint32_t outbox_next_counts(const struct outbox *outbox);
int64_t outbox_next_oldest_ms(const struct outbox *outbox); /* of its oldest datum */
/* From now on cursors of some places may be moved to their ends, and further, before all is acknowledged. */
void outbox_move_before(struct outbox *outbox);
/* With durability host, before a cursor moves ahead of what the file alone has then: the caller has begin's descriptor
 * fdatasync()ed, on whatever thread, and gives its result, or -errno, to end. Meanwhile everything else may be called.
 * begin: -1, and errno: the file's name is not on the disk, and cannot be put there. end: ERR_OK, what was in the file
 * at begin is on the disk; ERR_SYSTEM, it may not be; ERR_CORRUPT, pages of the file were lost. */
int outbox_sync_begin(struct outbox *outbox);
enum err_code outbox_sync_end(struct outbox *outbox, int32_t result);
/* Pages were lost since it was opened: the file does not have what this process has. */
bool outbox_has_lost_pages(const struct outbox *outbox);
bool outbox_moved_before(const struct outbox *outbox);
/* It goes on the wire; before the request is started. */
void outbox_sending(struct outbox *outbox);
/* The service certainly does not have it. */
void outbox_not_taken(struct outbox *outbox);
/* It is done with: the service has it, or it is passed over. */
void outbox_acknowledge(struct outbox *outbox);
/* It is passed over, and the service is not known to have it. */
void outbox_give_up(struct outbox *outbox);
/* Of those that were passed over so: their counts in all. */
uint64_t outbox_given_up_counts(const struct outbox *outbox);
/* The cursors have moved, or the period is dropped: empty. */
void outbox_clear(struct outbox *outbox);

#endif
