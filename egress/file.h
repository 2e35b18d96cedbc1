/* The file destination: newline-delimited JSON appended to one file per target, rotated by size or age; the default
 * that needs no account.
 *
 * Events arrive as ready lines in a buffer; the writer appends them with plain writes through the worker's io loop (or
 * pwrite) and says when they are in the page cache (durability process) or on the disk (host). A restart truncates a
 * torn last line first, so that no reader ever sees half an event joined to another. Rotated files are named PATH.<UTC
 * time>-<n>. Mode 0600. */
#ifndef SENDRING_EGRESS_FILE_H
#define SENDRING_EGRESS_FILE_H

#include "base/err.h"
#include "base/slice.h"
#include "io/io.h"

#include <stdbool.h>
#include <stdint.h>

struct file_sink;

struct file_sink_options {
        const char *path;
        uint64_t rotate_bytes;   /* 0: never by size */
        uint32_t rotate_seconds; /* 0: never by age */
        bool sync;               /* fdatasync before `done` */
};

/* Opens or creates; repairs a torn tail. ERR_CONFIG/ERR_PERMISSION/ERR_SYSTEM with a sentence. May block: control
 * thread. */
enum err_code file_sink_open(struct io_loop *loop, const struct file_sink_options *options, struct file_sink **ret_sink,
                             struct err *reterr);
/* Appends whole lines; `done` on the loop's thread. One write at a time (ERR_BUSY). On failure the file is cut back to
 * its last good end, so that a later try cannot duplicate half a batch; code is ERR_DISK_FULL, ERR_SYSTEM. */
enum err_code file_sink_write(struct file_sink *sink, struct slice lines,
                              void (*done)(void *context, enum err_code code, const struct err *why), void *context);
bool file_sink_is_busy(const struct file_sink *sink);
void file_sink_close(struct file_sink *sink);

#endif
