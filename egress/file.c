#include "egress/file.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/limits.h"
#include "io/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define FILE_SINK_SUFFIX_BYTES_MAX 32u   /* ".20260102T030405Z-999" and the NUL */
#define FILE_SINK_NAMES_MAX        1000u /* rotated files of one second */
#define FILE_SINK_OPENS_MAX        8u    /* another hand may replace the file while we open it */
#define FILE_SINK_LOCK_NAP_NS      (10 * CLOCK_NS_PER_MS)
#define FILE_SINK_LOCK_NAPS_MAX    100u
#define FILE_SINK_SCAN_BYTES       (16u * 1024u)
#define FILE_SINK_CHECK_BYTES      (UINT64_C(16) * 1024 * 1024) /* a write is a batch: 4 MiB at most */

enum file_sink_state {
        FILE_SINK_IDLE,
        FILE_SINK_NAMING,    /* the directory is synced */
        FILE_SINK_REWRITING, /* what an earlier process left in the air is written again */
        FILE_SINK_SETTLING,  /* the file is synced, as it was when it was opened */
        FILE_SINK_WRITING,
        FILE_SINK_SYNCING,
        FILE_SINK_FAILED, /* before anything was written: `done` is posted */
};

struct file_sink {
        struct io_op op; /* first: done callbacks get the sink from it */
        struct io_loop *loop;
        struct file_sink_options options;
        enum file_sink_state state;
        int fd;        /* -1: to be opened by the next write */
        dev_t device;  /* of fd */
        ino_t inode;   /* of fd */
        uint64_t end;  /* all before it are acknowledged whole lines */
        bool cut_back; /* a failed write left bytes behind `end` that could not be cut off yet */
        /* What must be done before anything more is acknowledged; see file_sink_next(). */
        bool name_owed, rewrite_owed, sync_owed;
        uint64_t rewritten; /* up to here */
        int directory_fd;   /* while it is synced, else -1 */
        int64_t created_ms; /* of the file */
        struct slice lines; /* in flight */
        size_t lines_written;
        void (*done)(void *context, enum err_code code, const struct err *why);
        void *context;
        struct err why;
        struct file_sink_stats stats;
        char path[PATH_MAX];
        char rotated_path[PATH_MAX];
        uint8_t piece[FILE_SINK_SCAN_BYTES]; /* of the file, being written again */
};

_Static_assert(offsetof(struct file_sink, op) == 0, "the op's address is the sink's");

/* ---------------------------------------------------------------------------------------------- opening */

static enum err_code file_sink_open_directory(const struct file_sink *sink, int *ret_fd, struct err *reterr)
{
        char directory[PATH_MAX];
        (void)file_directory_of(sink->path, directory); /* it fits: open had it */
        int fd = disk_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open directory %s", directory);
        *ret_fd = fd;
        return ERR_OK;
}

static enum err_code file_sink_read(const struct file_sink *sink, int fd, uint8_t *to, size_t bytes, uint64_t offset,
                                    struct err *reterr)
{
        for (;;) {
                ssize_t got = disk_read(fd, to, bytes, offset);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot read the end of %s", sink->path);
                if ((size_t)got != bytes)
                        return err_set(reterr, ERR_SYSTEM, "%s shrinks while its end is read", sink->path);
                return ERR_OK;
        }
}

/* A power cut may keep the end of a write and lose its middle, which then reads as NUL bytes; JSON has none. What was
 * in the air is at most FILE_SINK_CHECK_BYTES, and nothing of it had been settled. Finds the first NUL there. */
static enum err_code file_sink_find_hole(const struct file_sink *sink, int fd, uint64_t size, uint64_t *ret_end,
                                         struct err *reterr)
{
        uint8_t bytes[FILE_SINK_SCAN_BYTES];
        uint64_t begin = size;
        enum err_code code = ERR_OK;
        bytes[0] = '\0';
        /* Further back where the window begins within a hole. */
        while (code == ERR_OK && begin > 0 && bytes[0] == '\0') {
                begin -= begin < FILE_SINK_CHECK_BYTES ? begin : FILE_SINK_CHECK_BYTES;
                code = file_sink_read(sink, fd, bytes, 1, begin, reterr);
        }
        *ret_end = size;
        for (uint64_t at = begin; code == ERR_OK && at < size; at += sizeof(bytes)) {
                size_t piece = size - at < sizeof(bytes) ? (size_t)(size - at) : sizeof(bytes);
                code = file_sink_read(sink, fd, bytes, piece, at, reterr);
                const uint8_t *hole = code == ERR_OK ? memchr(bytes, '\0', piece) : NULL;
                if (hole == NULL)
                        continue;
                *ret_end = at + (uint64_t)(hole - bytes);
                break;
        }
        return code;
}

/* Finds the end of the last whole line before any damage, and cuts off what lies behind it. */
static enum err_code file_sink_repair(struct file_sink *sink, int fd, uint64_t size, uint64_t *ret_end,
                                      struct err *reterr)
{
        uint8_t bytes[FILE_SINK_SCAN_BYTES];
        uint64_t end = 0; /* bytes at and behind it hold no newline that counts */
        bool found = false;
        /* A wrong path in the configuration must not cost anybody the end of his file. NUL bytes are what a power cut
         * leaves of a first write. */
        if (size > 0 && disk_read(fd, bytes, 1, 0) == 1 && bytes[0] != '{' && bytes[0] != '\0')
                return err_set(
                        reterr, ERR_CONFIG,
                        "%s holds no lines of JSON objects: it is no file of ours; choose another path or move it "
                        "away",
                        sink->path);
        enum err_code code = file_sink_find_hole(sink, fd, size, &end, reterr);
        if (code != ERR_OK)
                return code;
        const uint64_t whole = end;
        while (end > 0 && !found) {
                if (whole - end > LIMIT_EVENT_JSON_BYTES_MAX)
                        return err_set(reterr, ERR_CONFIG,
                                       "%s ends in a line longer than any event: it is no file of ours; choose "
                                       "another path or move it away",
                                       sink->path);
                size_t piece = end < sizeof(bytes) ? (size_t)end : sizeof(bytes);
                code = file_sink_read(sink, fd, bytes, piece, end - piece, reterr);
                if (code != ERR_OK)
                        return code;
                const uint8_t *newline = memrchr(bytes, '\n', piece);
                found = newline != NULL;
                end -= found ? piece - (size_t)(newline - bytes) - 1 : piece;
        }
        if (end < size) {
                if (disk_truncate(fd, end) < 0)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot cut the torn last line off %s",
                                             sink->path);
                sink->stats.repaired_bytes += size - end;
        }
        *ret_end = end;
        return ERR_OK;
}

/* When the file came into being; now, where the file system does not know. */
static int64_t file_sink_birth_ms(int fd)
{
        int64_t birth_ms = disk_birth_ms(fd);
        return birth_ms < 0 ? clock_realtime_ms() : birth_ms;
}

static enum err_code file_sink_open_error(struct file_sink *sink, int error, struct err *reterr)
{
        if (error == ELOOP)
                return err_set(reterr, ERR_CONFIG, "%s is a symbolic link: name the file itself", sink->path);
        bool configured_wrongly = error == ENOENT || error == ENOTDIR || error == EISDIR || error == ENXIO;
        return err_set_errno(reterr, configured_wrongly ? ERR_CONFIG : ERR_SYSTEM, error, "cannot open %s", sink->path);
}

/* Opens PATH, or creates it when `create_new`, locks it and makes it the sink's file; the one before is closed. What
 * its disk must have before it is written to is noted. On failure the sink keeps the file it has. */
static enum err_code file_sink_attach(struct file_sink *sink, bool create_new, struct err *reterr)
{
        struct stat status, now;
        enum err_code code = ERR_OK;
        int fd = -1;
        for (unsigned opens = 0;; opens++) {
                fd = disk_open(AT_FDCWD, sink->path,
                               O_RDWR | O_CREAT | (create_new ? O_EXCL : 0) | O_NOFOLLOW | O_NOCTTY, 0600);
                if (fd < 0)
                        return file_sink_open_error(sink, errno, reterr);
                if (disk_stat(fd, &status) < 0) {
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s", sink->path);
                        goto out;
                }
                if (!S_ISREG(status.st_mode)) {
                        code = err_set(reterr, ERR_CONFIG, "%s is no regular file", sink->path);
                        goto out;
                }
                if (disk_lock(fd) < 0) {
                        code = errno == EWOULDBLOCK
                                       ? err_set(reterr, ERR_LOCKED, "%s is in use by another process", sink->path)
                                       : err_set_errno(reterr, ERR_SYSTEM, errno, "cannot lock %s", sink->path);
                        goto out;
                }
                /* The lock is on what we opened; by now PATH may be something else (a rotation by its owner). */
                if (disk_stat_path(sink->path, &now) == 0 && now.st_dev == status.st_dev && now.st_ino == status.st_ino)
                        break;
                (void)disk_close(fd); /* nothing was written */
                if (create_new || opens + 1 == FILE_SINK_OPENS_MAX)
                        return err_set(reterr, ERR_LOCKED, "%s is replaced by another process all the time",
                                       sink->path);
        }
        /* Under the lock: the size is final now. */
        uint64_t end = 0;
        code = file_sink_repair(sink, fd, (uint64_t)now.st_size, &end, reterr);
        if (code != ERR_OK)
                goto out;
        if (sink->fd >= 0)
                (void)disk_close(sink->fd); /* all its writes are acknowledged, or were cut off */
        sink->fd = fd;
        sink->device = now.st_dev;
        sink->inode = now.st_ino;
        sink->end = end;
        sink->cut_back = false;
        sink->name_owed = sink->options.sync; /* also where whoever made it could not see to that */
        sink->rewrite_owed = sink->options.sync && end > 0;
        sink->rewritten = end < FILE_SINK_CHECK_BYTES ? 0 : end - FILE_SINK_CHECK_BYTES;
        /* What was cut off is on the disk still: the next power cut would mix it with what is written in its place, and
         * no NUL would tell. */
        sink->sync_owed = sink->rewrite_owed || end < (uint64_t)now.st_size;
        sink->created_ms = end == 0 ? clock_realtime_ms() : file_sink_birth_ms(fd);
        return ERR_OK;
out:
        (void)disk_close(fd); /* nothing was written */
        return code;
}

/* The next piece to write again. Whole lines that an earlier process wrote and did not sync must not be torn under what
 * follows. A sync of its may have failed, and the kernel has then forgotten that they are not on the disk: what was in
 * the air is written again. */
static enum err_code file_sink_read_piece(struct file_sink *sink, size_t *ret_bytes, struct err *reterr)
{
        uint64_t left = sink->end - sink->rewritten;
        size_t bytes = left < sizeof(sink->piece) ? (size_t)left : sizeof(sink->piece);
        *ret_bytes = bytes;
        return file_sink_read(sink, sink->fd, sink->piece, bytes, sink->rewritten, reterr);
}

/* What file_sink_next() does through the loop, at once. */
static enum err_code file_sink_pay(struct file_sink *sink, struct err *reterr)
{
        enum err_code code = ERR_OK;
        if (sink->name_owed) {
                int fd = -1;
                code = file_sink_open_directory(sink, &fd, reterr);
                if (code == ERR_OK && disk_sync_directory(fd) < 0)
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync the directory of %s", sink->path);
                if (fd >= 0)
                        (void)disk_close(fd); /* a directory: nothing is buffered */
        }
        while (code == ERR_OK && sink->rewrite_owed && sink->rewritten < sink->end) {
                size_t bytes;
                code = file_sink_read_piece(sink, &bytes, reterr);
                ssize_t wrote = code == ERR_OK ? disk_write(sink->fd, sink->piece, bytes, sink->rewritten) : 0;
                if (wrote < 0 && errno != EINTR)
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot write the end of %s again", sink->path);
                sink->rewritten += wrote < 0 ? 0 : (uint64_t)wrote;
        }
        if (code == ERR_OK && sink->sync_owed && disk_sync(sink->fd) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync %s", sink->path);
        if (code == ERR_OK)
                sink->name_owed = sink->rewrite_owed = sink->sync_owed = false;
        return code;
}

size_t file_sink_memory_bytes(void)
{
        return sizeof(struct file_sink);
}

enum err_code file_sink_open(struct io_loop *loop, const struct file_sink_options *options, struct file_sink **ret_sink,
                             struct err *reterr)
{
        struct file_sink *sink = calloc(1, sizeof(*sink));
        if (sink == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory opening %s", options->path);
        sink->loop = loop;
        sink->options = *options;
        sink->options.path = sink->path;
        sink->fd = sink->directory_fd = -1;
        enum err_code code;
        size_t len = strlen(options->path);
        if (len == 0 || len + FILE_SINK_SUFFIX_BYTES_MAX > sizeof(sink->path)) {
                code = err_set(reterr, ERR_CONFIG, "the path of the file destination is empty or too long");
                goto out;
        }
        memcpy(sink->path, options->path, len + 1);
        /* The kernel tears down the io_uring of a killed process some time after its death, and with it the last hold
         * on the file and its lock: a restarted router must not take that for a second one. */
        for (unsigned naps = 0; (code = file_sink_attach(sink, false, reterr)) == ERR_LOCKED; naps++) {
                if (naps == FILE_SINK_LOCK_NAPS_MAX)
                        break;
                clock_sleep_ns(FILE_SINK_LOCK_NAP_NS);
        }
        if (code == ERR_OK) /* the control thread may wait for a disk */
                code = file_sink_pay(sink, reterr);
        if (code == ERR_OK) {
                *ret_sink = sink;
                return ERR_OK;
        }
        if (sink->fd >= 0)
                (void)disk_close(sink->fd); /* nothing was written but what was there */
out:
        free(sink);
        return code;
}

/* ---------------------------------------------------------------------------------------------- rotation */

/* Gives PATH a name with time and number that no file has. */
static enum err_code file_sink_rename(struct file_sink *sink, struct err *reterr)
{
        struct clock_civil now;
        clock_civil_from_ms(clock_realtime_ms(), &now);
        for (unsigned number = 0; number < FILE_SINK_NAMES_MAX; number++) {
                int used = snprintf(sink->rotated_path, sizeof(sink->rotated_path), "%s.%04d%02u%02uT%02u%02u%02uZ-%u",
                                    sink->path, now.year, now.month, now.day, now.hour, now.minute, now.second, number);
                ASSERT(used > 0 && used < (int)sizeof(sink->rotated_path));
                if (disk_rename(AT_FDCWD, sink->path, AT_FDCWD, sink->rotated_path, false) == 0)
                        return ERR_OK;
                if (errno != EEXIST)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot rename %s to %s", sink->path,
                                             sink->rotated_path);
        }
        return err_set(reterr, ERR_LIMIT, "%u files were rotated in one second", FILE_SINK_NAMES_MAX);
}

/* A kill after the rename leaves no PATH: the next open creates it. When the new file cannot be made, the old one gets
 * its name back and goes on. */
static void file_sink_rotate(struct file_sink *sink)
{
        enum err_code code = file_sink_rename(sink, NULL);
        if (code == ERR_OK) {
                code = file_sink_attach(sink, true, NULL);
                if (code != ERR_OK)
                        /* Should that fail too, the check before a write sees that PATH is not its file. */
                        (void)disk_rename(AT_FDCWD, sink->rotated_path, AT_FDCWD, sink->path, false);
        }
        if (code == ERR_OK)
                sink->stats.rotations++;
        else
                sink->stats.rotation_failures++;
}

static bool file_sink_is_old(const struct file_sink *sink)
{
        return sink->options.rotate_seconds != 0 && sink->end > 0 &&
               clock_realtime_ms() - sink->created_ms >= (int64_t)sink->options.rotate_seconds * 1000;
}

/* ---------------------------------------------------------------------------------------------- writing */

static void file_sink_finish(struct file_sink *sink, enum err_code code)
{
        sink->state = FILE_SINK_IDLE;
        sink->lines = SLICE_EMPTY;
        /* The last access: the callback may write again or close. */
        sink->done(sink->context, code, &sink->why);
}

/* Bytes of a failed write must not stay: a later try would write them twice. */
static enum err_code file_sink_cut_back(struct file_sink *sink, struct err *reterr)
{
        sink->cut_back = disk_truncate(sink->fd, sink->end) < 0;
        if (sink->cut_back)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot cut %s back after a failed write", sink->path);
        return ERR_OK;
}

static void file_sink_fail(struct file_sink *sink, const char *what, int error)
{
        enum err_code code = err_set_errno(&sink->why, ERR_SYSTEM, error, "cannot %s %s", what, sink->path);
        (void)file_sink_cut_back(sink, NULL); /* the next write tries it again */
        file_sink_finish(sink, code);
}

static void file_sink_succeed(struct file_sink *sink)
{
        sink->end += sink->lines.len;
        sink->stats.bytes_written += sink->lines.len;
        sink->why = (struct err){0};
        file_sink_finish(sink, ERR_OK);
}

static void file_sink_sync_done(struct io_op *op, int32_t result, bool more)
{
        struct file_sink *sink = (struct file_sink *)op;
        ASSERT(sink->state == FILE_SINK_SYNCING);
        ASSERT(!more);
        if (result == -EINTR)
                io_fdatasync(sink->loop, &sink->op, sink->fd);
        else if (result < 0)
                file_sink_fail(sink, "sync", -result);
        else
                file_sink_succeed(sink);
}

static void file_sink_write_rest(struct file_sink *sink)
{
        io_write(sink->loop, &sink->op, sink->fd, sink->lines.ptr + sink->lines_written,
                 sink->lines.len - sink->lines_written, sink->end + sink->lines_written);
}

static void file_sink_write_done(struct io_op *op, int32_t result, bool more)
{
        struct file_sink *sink = (struct file_sink *)op;
        ASSERT(sink->state == FILE_SINK_WRITING);
        ASSERT(!more);
        if (result == -EINTR) {
                file_sink_write_rest(sink);
                return;
        }
        if (result <= 0) {
                file_sink_fail(sink, "write to", result == 0 ? EIO : -result);
                return;
        }
        sink->lines_written += (size_t)result;
        ASSERT(sink->lines_written <= sink->lines.len);
        if (sink->lines_written < sink->lines.len) {
                file_sink_write_rest(sink);
        } else if (sink->options.sync) {
                sink->state = FILE_SINK_SYNCING;
                sink->op.done = file_sink_sync_done;
                io_fdatasync(sink->loop, &sink->op, sink->fd);
        } else {
                file_sink_succeed(sink);
        }
}

/* A disk has not done what the file owes: nothing of the lines was written. What was written again is written again
 * once more, since a later sync may succeed without what an earlier one has dropped. */
static void file_sink_pay_failed(struct file_sink *sink, const char *what, int error)
{
        sink->rewritten = sink->end < FILE_SINK_CHECK_BYTES ? 0 : sink->end - FILE_SINK_CHECK_BYTES;
        file_sink_finish(sink, err_set_errno(&sink->why, ERR_SYSTEM, error, "cannot %s %s", what, sink->path));
}

static void file_sink_posted(struct io_op *op, int32_t result, bool more)
{
        struct file_sink *sink = (struct file_sink *)op;
        ASSERT(sink->state == FILE_SINK_FAILED);
        (void)result;
        (void)more;
        file_sink_finish(sink, sink->why.code);
}

static void file_sink_post(struct file_sink *sink)
{
        sink->state = FILE_SINK_FAILED;
        sink->op.done = file_sink_posted;
        io_post(sink->loop, &sink->op);
}

static void file_sink_next(struct file_sink *sink);

static void file_sink_named(struct io_op *op, int32_t result, bool more)
{
        struct file_sink *sink = (struct file_sink *)op;
        ASSERT(sink->state == FILE_SINK_NAMING);
        ASSERT(!more);
        (void)disk_close(sink->directory_fd); /* a directory: nothing is buffered */
        sink->directory_fd = -1;
        if (io_sync_directory_failed(result) && result != -EINTR) {
                file_sink_pay_failed(sink, "sync the directory of", -result);
                return;
        }
        sink->name_owed = result == -EINTR;
        file_sink_next(sink);
}

static void file_sink_rewrote(struct io_op *op, int32_t result, bool more)
{
        struct file_sink *sink = (struct file_sink *)op;
        ASSERT(sink->state == FILE_SINK_REWRITING);
        ASSERT(!more);
        if (result <= 0 && result != -EINTR) {
                file_sink_pay_failed(sink, "write again the end of", result == 0 ? EIO : -result);
                return;
        }
        sink->rewritten += result > 0 ? (uint64_t)result : 0;
        ASSERT(sink->rewritten <= sink->end);
        file_sink_next(sink);
}

static void file_sink_settled(struct io_op *op, int32_t result, bool more)
{
        struct file_sink *sink = (struct file_sink *)op;
        ASSERT(sink->state == FILE_SINK_SETTLING);
        ASSERT(!more);
        if (result < 0 && result != -EINTR) {
                file_sink_pay_failed(sink, "sync", -result);
                return;
        }
        if (result != -EINTR)
                sink->rewrite_owed = sink->sync_owed = false;
        file_sink_next(sink);
}

/* The next step of the lines in flight: first what a file that was opened or made meanwhile owes. */
static void file_sink_next(struct file_sink *sink)
{
        size_t bytes;
        if (sink->name_owed) {
                if (file_sink_open_directory(sink, &sink->directory_fd, &sink->why) != ERR_OK) {
                        file_sink_post(sink);
                        return;
                }
                sink->state = FILE_SINK_NAMING;
                sink->op.done = file_sink_named;
                io_sync_directory(sink->loop, &sink->op, sink->directory_fd);
        } else if (sink->rewrite_owed && sink->rewritten < sink->end) {
                if (file_sink_read_piece(sink, &bytes, &sink->why) != ERR_OK) {
                        file_sink_post(sink);
                        return;
                }
                sink->state = FILE_SINK_REWRITING;
                sink->op.done = file_sink_rewrote;
                io_write(sink->loop, &sink->op, sink->fd, sink->piece, bytes, sink->rewritten);
        } else if (sink->sync_owed) {
                sink->state = FILE_SINK_SETTLING;
                sink->op.done = file_sink_settled;
                io_fdatasync(sink->loop, &sink->op, sink->fd);
        } else {
                sink->state = FILE_SINK_WRITING;
                sink->op.done = file_sink_write_done;
                file_sink_write_rest(sink);
        }
}

/* Makes sure that fd is what PATH names and ends where we left it; whoever renamed, removed or truncated it meant that.
 */
static enum err_code file_sink_check(struct file_sink *sink, struct err *reterr)
{
        struct stat now;
        if (sink->fd >= 0 && sink->cut_back) {
                enum err_code code = file_sink_cut_back(sink, reterr);
                if (code != ERR_OK)
                        return code;
        }
        if (sink->fd >= 0 && disk_stat_path(sink->path, &now) == 0 && now.st_dev == sink->device &&
            now.st_ino == sink->inode && (uint64_t)now.st_size == sink->end)
                return ERR_OK;
        /* The lock would be in our own way when PATH is still the same file. */
        if (sink->fd >= 0)
                (void)disk_close(sink->fd); /* all its writes are acknowledged, or were cut off */
        sink->fd = -1;
        return file_sink_attach(sink, false, reterr);
}

enum err_code file_sink_write(struct file_sink *sink, struct slice lines,
                              void (*done)(void *context, enum err_code code, const struct err *why), void *context)
{
        ASSERT(lines.len > 0);
        ASSERT(lines.ptr[lines.len - 1] == '\n');
        if (sink->state != FILE_SINK_IDLE)
                return ERR_BUSY;
        sink->lines = lines;
        sink->lines_written = 0;
        sink->done = done;
        sink->context = context;
        enum err_code code = file_sink_check(sink, &sink->why);
        bool full = code == ERR_OK && sink->options.rotate_bytes != 0 && sink->end > 0 &&
                    (lines.len > sink->options.rotate_bytes || sink->end > sink->options.rotate_bytes - lines.len);
        if (code == ERR_OK && (full || file_sink_is_old(sink))) {
                file_sink_rotate(sink);
                code = file_sink_check(sink, &sink->why);
        }
        if (code == ERR_OK)
                file_sink_next(sink);
        else
                file_sink_post(sink);
        return ERR_OK;
}

void file_sink_rotate_if_due(struct file_sink *sink)
{
        if (sink->state == FILE_SINK_IDLE && sink->fd >= 0 && file_sink_is_old(sink) &&
            file_sink_check(sink, NULL) == ERR_OK && file_sink_is_old(sink))
                file_sink_rotate(sink);
}

bool file_sink_is_busy(const struct file_sink *sink)
{
        return sink->state != FILE_SINK_IDLE;
}

void file_sink_get_stats(const struct file_sink *sink, struct file_sink_stats *ret_stats)
{
        *ret_stats = sink->stats;
}

void file_sink_close(struct file_sink *sink)
{
        if (sink == NULL)
                return;
        ASSERT(sink->state == FILE_SINK_IDLE);
        if (sink->fd >= 0)
                (void)disk_close(sink->fd); /* all its writes are acknowledged, or were cut off */
        free(sink);
}
