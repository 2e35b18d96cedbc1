/* The file destination: newline-delimited JSON appended to one file per target, rotated by size or age; the default
 * that needs no account.
 *
 * Events arrive as ready lines in a buffer; the writer puts them at the end it knows, by writes through the worker's io
 * loop, and says when they are in the page cache, or with `sync` on the disk. What a crash leaves:
 *
 *   in the middle of a write      whole lines, then perhaps part of one: the next open cuts that part off
 *   power lost in the middle      holes in what was in the air: the next open cuts off the first line that has one, and
 *                                 all behind it, none of which was acknowledged
 *   between rename and create     no PATH: the next open creates it
 *
 * so no reader ever sees half an event joined to another. Rotated files are named PATH.<UTC time>-<n>, for example
 * events.ndjson.20260102T030405Z-0. Mode 0600; symbolic links are refused; an flock keeps a second daemon away. Another
 * program may rename, remove or truncate the file at any time (logrotate): the next write notices and opens PATH anew,
 * and one that is on its way goes to the end that the file has by then. */
#ifndef SENDRING_EGRESS_FILE_H
#define SENDRING_EGRESS_FILE_H

#include "base/err.h"
#include "base/slice.h"
#include "io/io.h"

#include <stdbool.h>
#include <stdint.h>

struct file_sink;

/* Files whose opening hangs: the kernel has their memory, and file_sink_open() goes on with them. Zero-initialise it.
 * One thread at a time. */
struct file_sink_openings {
        struct file_sink *first;
};

struct file_sink_options {
        const char *path;
        uint64_t rotate_bytes;   /* 0: never by size; else a file is rotated before it would grow beyond (a single write
                                    larger than that gets a file of its own) */
        uint32_t rotate_seconds; /* 0: never by age, which counts from the file's creation */
        bool sync;               /* fdatasync before `done` */
        struct file_sink_openings *openings; /* NULL: file_sink_open() waits for as long as it takes */
};

/* Opens or creates; repairs a torn tail. ERR_CONFIG (no regular file, a symbolic link, no file of lines), ERR_LOCKED,
 * ERR_PERMISSION, ERR_SYSTEM with a sentence. Blocks (up to a second for the lock of a predecessor that was just
 * killed; up to two for a file system that hangs, but not once more while that does): control thread. `loop` is only
 * kept for the writes. `options->path` is copied.
 *
 * ERR_TIMEOUT  the file system does not answer. What was asked of it cannot be taken back: it is kept in `openings`,
 *              and the next call for the path goes on with it, without waiting for the answer that is still missing. */
enum err_code file_sink_open(struct io_loop *loop, const struct file_sink_options *options, struct file_sink **ret_sink,
                             struct err *reterr);
/* Whatever still hangs is left to the kernel, memory and descriptor: at the end of the process. */
void file_sink_openings_release(struct file_sink_openings *openings);
/* What one takes of the heap, for the budget. */
size_t file_sink_memory_bytes(void);
/* Appends whole lines (not empty, newline at the end: asserted); they must stay untouched until `done`, which comes on
 * the loop's thread, from io_loop_turn(), exactly once when this returned ERR_OK. One write at a time: ERR_BUSY.
 *
 * `done` gets ERR_OK, or the reason with a sentence: ERR_DISK_FULL, ERR_SYSTEM, ERR_LOCKED, ERR_PERMISSION, ERR_CONFIG.
 * On failure the file is cut back to its last good end, so that a later try cannot duplicate half a batch. A failed
 * rotation is not a failed write: the old file goes on and the rotation is tried again with the next write.
 *
 * Whatever may wait for a file system goes through the loop: a look at PATH, the lines, their sync; opening and
 * measuring a file that another program has put there; renaming and making one for a rotation; and what a file that was
 * made or opened meanwhile owes before the lines (with `sync` its name in the directory; the end of one that somebody
 * else has written). The one call is that for the lock of a file that was just opened, which does not wait for whoever
 * has it (on a network file system it asks the server). */
enum err_code file_sink_write(struct file_sink *sink, struct slice lines,
                              void (*done)(void *context, enum err_code code, const struct err *why), void *context);
/* Begins to rotate a non-empty file whose age is over when no write comes; for a timer of the owner. Does nothing when
 * busy. Lines that come meanwhile are written when it is done. */
void file_sink_rotate_if_due(struct file_sink *sink);
/* Something is on its way: a write, a rotation, a close. */
bool file_sink_is_busy(const struct file_sink *sink);
/* Closes the file, when nothing is on its way any more; true: it is closed. To be called again until then; no write
 * follows. */
bool file_sink_stop(struct file_sink *sink);

struct file_sink_stats {
        uint64_t bytes_written; /* acknowledged */
        uint64_t rotations;
        uint64_t rotation_failures;
        uint64_t repaired_bytes; /* torn tails cut off */
};
void file_sink_get_stats(const struct file_sink *sink, struct file_sink_stats *ret_stats);
/* Why the last rotation that failed has; "" when none has. Valid until the loop is turned. */
const char *file_sink_rotation_why(const struct file_sink *sink);
/* Not while busy (asserted): turn the loop until it is not. A file that is not closed yet is, by a call that may block;
 * its lock may stay until the loop is turned again, since the kernel holds what an operation was about until then. NULL
 * is allowed. */
void file_sink_close(struct file_sink *sink);

#endif
