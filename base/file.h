/* Small whole files: configuration, credentials, cursors. Cold code. */
#ifndef SENDRING_BASE_FILE_H
#define SENDRING_BASE_FILE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/slice.h"

#include <limits.h>
#include <stdbool.h>

/* Reads the whole file into the arena. ERR_TOO_BIG above `max_bytes`, ERR_SYSTEM/ERR_PERMISSION with errno otherwise
 * (reterr->sys_errno tells ENOENT). Only regular files: it never waits for who writes to a FIFO or a device. */
enum err_code file_read(struct arena *arena, const char *path, size_t max_bytes, struct slice *ret_bytes,
                        struct err *reterr);
/* Replaces the file atomically: temporary file (0600, no link is followed) in the same directory, fsync, rename, fsync
 * of the directory. */
enum err_code file_replace(const char *path, struct slice bytes, struct err *reterr);
/* Puts the name of the file at `path` on the disk: syncs its directory. File systems that have no such thing are fine.
 */
enum err_code file_sync_directory_of(const char *path, struct err *reterr);
/* The directory that the last name of `path` lies in: "." without a slash. False: it does not fit. */
bool file_directory_of(const char *path, char out[PATH_MAX]);
/* mkdir -p with 0700 for what it makes. An existing directory is fine. Each name of the path on the directory's own
 * file system is on the disk afterwards, whoever made it, but those in folders that the caller may not read. */
enum err_code file_make_directory(const char *path, struct err *reterr);

#endif
