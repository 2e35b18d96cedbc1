/* The series file of a CloudWatch target: which series its budget has admitted in the newest two hours
 * (egress/metrics.h), in a memory-mapped file beside its outbox. It is what lets a router that was killed, or started
 * anew, admit the same series again instead of a second budget full of others, which would be billed beside the first.
 *
 * One file per target, mode 0600, preallocated. All integers are little endian.
 *
 *     0        64                          64 + 16 n                   64 + 32 n
 *     | header | n records of even hours   | n records of odd hours    |
 *
 *     header                                          record: a series of an hour
 *      0 u64 magic "sendrse1"                          0 u64 series: what metrics.c gives it, never 0
 *      8 u32 version                                   8 u32 hour since 1970
 *     12 u32 n                                        12 u32 CRC-32C of 0..11 and of the header's CRC
 *     16 u64 hash of the target's key
 *     24 u64 seed of the identities
 *     32 u32 CRC-32C of 0..31
 *
 * A record is there when its CRC says so: no other word tells how many there are. Of each half the newest hour counts;
 * records of older ones lie behind its own until they are overwritten. What a SIGKILL leaves (stores into a shared
 * mapping survive the process) is every record that was written, and perhaps one in pieces, whose series is then
 * admitted when its event is counted again. A power cut leaves any mix of old and new pages: records that are missing
 * are room in the budget once more, so an hour may then have more series than SeriesMax.
 *
 * One thread at a time: the control thread opens it, then the worker that owns the target has it. Whoever has it open
 * holds the lock of the target's outbox, which is for both. Only open, close and remove make system calls. */
#ifndef SENDRING_EGRESS_SERIES_H
#define SENDRING_EGRESS_SERIES_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define SERIES_RECORDS_MAX 16384u
#define SERIES_NO_HOUR     INT64_C(-1)

struct series;

/* The file of the target with this key: DIRECTORY/<16 hex digits>.series. False: `out` is too small. */
bool series_path(const char *directory, struct slice key, char *out, size_t out_bytes);

struct series_options {
        const char *path;
        uint64_t key_hash;
        uint32_t records_max; /* of an hour, 1..SERIES_RECORDS_MAX; with another number the file begins anew */
        int64_t hour_max;     /* records of later hours are not believed: the clock was wrong */
};

/* Opens or makes the file and reads back what is in it. Whatever it held, it is usable afterwards; *ret_dropped says
 * why a file that was there is of no use, NULL: it was, or there was none. ERR_CONFIG (a symbolic link, no regular
 * file), ERR_PERMISSION, ERR_DISK_FULL, ERR_MEMORY, ERR_SYSTEM. */
enum err_code series_open(const struct series_options *options, struct series **ret_series, const char **ret_dropped,
                          struct err *reterr);
void series_close(struct series *series);  /* NULL is allowed */
void series_remove(struct series *series); /* closes it and removes the file: its target is gone */
uint64_t series_budget_bytes(uint32_t records_max);

/* Random, and the same as long as the file is there: identities that are made with it can be compared. */
uint64_t series_seed(const struct series *series);

/* The newest hour with records, or SERIES_NO_HOUR; and the records of an hour, which are there for that one and the one
 * before it. */
int64_t series_newest_hour(const struct series *series);
uint32_t series_count(const struct series *series, int64_t hour);
uint64_t series_get(const struct series *series, int64_t hour, uint32_t index);

/* Hours later than that were a wrong clock's: forgotten. Of what they have overwritten, what is still there of the
 * newest hour up to then is back. */
void series_forget_after(struct series *series, int64_t hour_max);

/* Adds a series that is not in it (it would be twice). The first of an hour removes those of the hours before with the
 * same parity. What is older than that, or more than records_max, is left out. No allocation. */
void series_add(struct series *series, int64_t hour, uint64_t value);

#endif
