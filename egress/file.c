/* A state machine: a task (open, write, rotate) goes from step to step, each of which is one operation of the io loop.
 * file_sink_ask() begins the operation of a step, file_sink_answered() gives what came of it to the step's function,
 * and that says which step follows. What is to be closed is closed before. */
#include "base/file.h"
#include "base/assert.h"
#include "base/clock.h"
#include "egress/file_internal.h"
#include "io/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_SINK_NAMES_MAX 1000u /* rotated files of one second */
#define FILE_SINK_OPENS_MAX 8u    /* another hand may replace the file while we open it */

static void file_sink_ask(struct file_sink *sink);

static void file_sink_go(struct file_sink *sink, enum file_sink_step step)
{
        sink->step = step;
        file_sink_ask(sink);
}

static struct file_sink_identity file_sink_identity_of(const struct statx *status)
{
        return (struct file_sink_identity){
                .device_major = status->stx_dev_major, .device_minor = status->stx_dev_minor, .inode = status->stx_ino};
}

static bool file_sink_same(const struct file_sink_identity *a, const struct file_sink_identity *b)
{
        return a->device_major == b->device_major && a->device_minor == b->device_minor && a->inode == b->inode;
}

static void file_sink_rename(struct file_sink *sink, bool back);
static void file_sink_rotation_failed(struct file_sink *sink);

/* The task has failed, for the reason in `why`: nothing was written. A rotation that has is taken back: the old file
 * goes on. */
static void file_sink_fail(struct file_sink *sink)
{
        ASSERT(sink->drop_fd < 0);
        sink->drop_fd = sink->fresh_fd;
        sink->fresh_fd = -1;
        if (sink->creating)
                file_sink_rename(sink, true);
        else if (sink->task == FILE_SINK_ROTATES)
                file_sink_rotation_failed(sink);
        else
                file_sink_go(sink, FILE_SINK_ENDING);
}

static void file_sink_fail_errno(struct file_sink *sink, const char *what, int error)
{
        (void)err_set_errno(&sink->why, ERR_SYSTEM, error, "cannot %s %s", what, sink->told); /* told by `done` */
        file_sink_fail(sink);
}

/* ---------------------------------------------------------------------------------------------- what is owed */

/* Lines go to the end of the file, so that they make no hole in one that was emptied since it was looked at: a hole is
 * what a power cut leaves, and the next open would cut off what is behind it. What is written again has its place. 0 or
 * errno. */
static int file_sink_append(struct file_sink *sink, bool appends)
{
        if (sink->appends != appends && disk_append(sink->fd, appends) < 0)
                return errno;
        sink->appends = appends;
        return 0;
}

static bool file_sink_must_rotate(const struct file_sink *sink);
static void file_sink_rotate(struct file_sink *sink);

/* The next step once the file is the right one, with its end known and nothing behind it: what it owes, also before it
 * gets its last name (nobody looks at the end of a rotated file again), then the lines. */
static void file_sink_next(struct file_sink *sink)
{
        if (sink->task == FILE_SINK_ROTATES && sink->rotated)
                file_sink_go(sink, FILE_SINK_ENDING);
        else if (sink->name_owed)
                file_sink_go(sink, FILE_SINK_OPENING_DIRECTORY);
        else if (sink->rewrite_owed && sink->rewritten < sink->end)
                file_sink_go(sink, FILE_SINK_REREADING);
        else if (sink->sync_owed)
                file_sink_go(sink, FILE_SINK_SETTLING);
        else if (file_sink_must_rotate(sink))
                file_sink_rotate(sink);
        else
                file_sink_go(sink, sink->task == FILE_SINK_WRITES ? FILE_SINK_WRITING : FILE_SINK_ENDING);
}

/* A disk has not done what the file owes. What was written again is written again once more, since a later sync may
 * succeed without what an earlier one has dropped. */
static void file_sink_pay_failed(struct file_sink *sink, const char *what, int error)
{
        sink->rewritten = file_end_in_the_air(sink->end);
        file_sink_fail_errno(sink, what, error);
}

static void file_sink_directory_opened(struct file_sink *sink, int32_t result)
{
        if (result < 0) {
                file_sink_pay_failed(sink, "open the directory of", -result);
                return;
        }
        sink->fresh_fd = result;
        file_sink_go(sink, FILE_SINK_NAMING);
}

static void file_sink_named(struct file_sink *sink, int32_t result)
{
        if (io_sync_directory_failed(result)) {
                file_sink_pay_failed(sink, "sync the directory of", -result);
                return;
        }
        sink->name_owed = false;
        sink->drop_fd = sink->fresh_fd;
        sink->fresh_fd = -1;
        file_sink_next(sink);
}

/* Whole lines that an earlier process wrote and did not sync must not be torn under what follows. A sync of its may
 * have failed, and the kernel has then forgotten that they are not on the disk: what was in the air is written again.
 */
static void file_sink_reread(struct file_sink *sink, int32_t result)
{
        if (result <= 0) {
                file_sink_pay_failed(sink, "read again the end of", result == 0 ? EIO : -result);
                return;
        }
        sink->reread_bytes = (uint32_t)result;
        const int error = file_sink_append(sink, false);
        if (error == 0)
                file_sink_go(sink, FILE_SINK_REWRITING);
        else
                file_sink_pay_failed(sink, "write again the end of", error);
}

static void file_sink_rewrote(struct file_sink *sink, int32_t result)
{
        if (result <= 0) {
                file_sink_pay_failed(sink, "write again the end of", result == 0 ? EIO : -result);
                return;
        }
        sink->rewritten += (uint64_t)result;
        ASSERT(sink->rewritten <= sink->end);
        file_sink_next(sink);
}

static void file_sink_settled(struct file_sink *sink, int32_t result)
{
        if (result < 0) {
                file_sink_pay_failed(sink, "sync", -result);
                return;
        }
        sink->rewrite_owed = sink->sync_owed = false;
        file_sink_next(sink);
}

/* ---------------------------------------------------------------------------------------------- rotation */

static bool file_sink_is_old(const struct file_sink *sink)
{
        return sink->options.rotate_seconds != 0 && sink->end > 0 &&
               clock_realtime_ms() - sink->created_ms >= (int64_t)sink->options.rotate_seconds * 1000;
}

static bool file_sink_is_full(const struct file_sink *sink)
{
        const uint64_t most = sink->options.rotate_bytes, bytes = sink->lines.len;
        return most != 0 && bytes > 0 && sink->end > 0 && (bytes > most || sink->end > most - bytes);
}

static bool file_sink_must_rotate(const struct file_sink *sink)
{
        const bool rotates = sink->task == FILE_SINK_ROTATES || sink->task == FILE_SINK_WRITES;
        return rotates && !sink->rotated && (file_sink_is_full(sink) || file_sink_is_old(sink));
}

/* The next name that the file may get. */
static void file_sink_name(struct file_sink *sink)
{
        struct clock_civil then;
        clock_civil_from_ms(sink->name_ms, &then);
        int used =
                snprintf(sink->rotated_path, sizeof(sink->rotated_path), "%s.%04d%02u%02uT%02u%02u%02uZ-%u", sink->path,
                         then.year, then.month, then.day, then.hour, then.minute, then.second, sink->name_number);
        ASSERT(used > 0 && used < (int)sizeof(sink->rotated_path));
}

static void file_sink_rename(struct file_sink *sink, bool back)
{
        sink->creating = false;
        sink->renames_back = back;
        file_sink_go(sink, FILE_SINK_RENAMING);
}

/* A kill after the rename leaves no PATH: the next open creates it. When the new file cannot be made, the old one gets
 * its name back and goes on. */
static void file_sink_rotate(struct file_sink *sink)
{
        sink->rotated = true;
        sink->name_ms = clock_realtime_ms();
        sink->name_number = 0;
        file_sink_name(sink);
        file_sink_rename(sink, false);
}

/* For the reason in `why`. Looks again: should the old file not have its name back, it is no longer PATH. */
static void file_sink_rotation_failed(struct file_sink *sink)
{
        sink->stats.rotation_failures++;
        sink->rotation_why = sink->why;
        sink->why = (struct err){0};
        file_sink_go(sink, sink->task == FILE_SINK_WRITES ? FILE_SINK_LOOKING : FILE_SINK_ENDING);
}

static void file_sink_renamed(struct file_sink *sink)
{
        if (sink->renames_back) {
                /* Else a power cut brings the other name back, with what is in the air of the next write behind it. */
                sink->name_owed = sink->options.sync;
                file_sink_rotation_failed(sink);
                return;
        }
        sink->creating = true;
        sink->opens = 0;
        file_sink_go(sink, FILE_SINK_OPENING);
}

static void file_sink_name_taken(struct file_sink *sink)
{
        if (sink->renames_back || ++sink->name_number == FILE_SINK_NAMES_MAX) {
                if (!sink->renames_back) /* else it is known why there is no new file */
                        (void)err_set(&sink->why, ERR_SYSTEM, "%u files of this second are there already",
                                      FILE_SINK_NAMES_MAX);
                file_sink_rotation_failed(sink);
                return;
        }
        file_sink_name(sink);
        file_sink_go(sink, FILE_SINK_RENAMING);
}

/* Of the three steps that rename. */
static void file_sink_rename_answered(struct file_sink *sink, int32_t result)
{
        const bool looks = sink->step == FILE_SINK_LOOKING_AHEAD;
        if (!looks && result == 0)
                file_sink_renamed(sink);
        else if (result == (looks ? 0 : -EEXIST))
                file_sink_name_taken(sink);
        else if (sink->step == FILE_SINK_RENAMING && result == -EINVAL)
                file_sink_go(sink, FILE_SINK_LOOKING_AHEAD);
        else if (looks && result == -ENOENT)
                file_sink_go(sink, FILE_SINK_REPLACING);
        else {
                if (!sink->renames_back)
                        (void)err_set_errno(&sink->why, ERR_SYSTEM, -result, "cannot rename %s", sink->told);
                file_sink_rotation_failed(sink);
        }
}

/* ---------------------------------------------------------------------------------------------- opening */

/* Makes what was opened and measured the sink's file; the one before is closed. What its disk must have before it is
 * written to is noted. */
static void file_sink_attach(struct file_sink *sink)
{
        if (sink->fresh_fd >= 0) {
                sink->drop_fd = sink->fd; /* all its writes are acknowledged, or were cut off */
                sink->fd = sink->fresh_fd;
                sink->fresh_fd = -1;
                sink->appends = false;
                sink->identity = sink->fresh_identity;
        }
        const struct statx_timestamp *birth = &sink->status.stx_btime;
        const bool birth_known = (sink->status.stx_mask & STATX_BTIME) != 0;
        sink->end = sink->found.line_end;
        sink->cut_back = false;
        sink->name_owed = sink->options.sync; /* also where whoever made it could not see to that */
        sink->rewrite_owed = sink->options.sync && sink->end > 0;
        sink->rewritten = file_end_in_the_air(sink->end);
        /* Torn bytes that the disk still has would come back within what follows, where the check for holes cannot see
         * them: no NUL would tell. */
        sink->sync_owed = sink->rewrite_owed || sink->end < sink->found.size;
        sink->created_ms = sink->end == 0 || !birth_known ? clock_realtime_ms()
                                                          : (int64_t)birth->tv_sec * 1000 + birth->tv_nsec / 1000000;
        sink->stats.rotations += sink->creating;
        sink->creating = false;
        file_sink_next(sink);
}

static void file_sink_open_failed(struct file_sink *sink, int error)
{
        const bool configured_wrongly = error == ENOENT || error == ENOTDIR || error == EISDIR || error == ENXIO;
        if (error == ELOOP)
                (void)err_set(&sink->why, ERR_CONFIG, "%s is a symbolic link: name the file itself", sink->told);
        else
                (void)err_set_errno(&sink->why, configured_wrongly ? ERR_CONFIG : ERR_SYSTEM, error, "cannot open %s",
                                    sink->told);
        file_sink_fail(sink);
}

static void file_sink_opened(struct file_sink *sink, int32_t result)
{
        if (result < 0) {
                file_sink_open_failed(sink, -result);
                return;
        }
        sink->fresh_fd = result;
        file_sink_go(sink, FILE_SINK_KNOWING);
}

static void file_sink_measure(struct file_sink *sink);

static void file_sink_known(struct file_sink *sink, int32_t result)
{
        if (result < 0) {
                file_sink_fail_errno(sink, "look at", -result);
                return;
        }
        sink->fresh_identity = file_sink_identity_of(&sink->status);
        if (!S_ISREG(sink->status.stx_mode)) {
                (void)err_set(&sink->why, ERR_CONFIG, "%s is no regular file", sink->told);
                file_sink_fail(sink);
        } else if (sink->fd >= 0 && file_sink_same(&sink->fresh_identity, &sink->identity)) {
                /* Moved away and back: we have it, and its lock. */
                sink->drop_fd = sink->fresh_fd;
                sink->fresh_fd = -1;
                file_sink_measure(sink);
        } else if (disk_lock(sink->fresh_fd) < 0) {
                if (errno == EWOULDBLOCK)
                        (void)err_set(&sink->why, ERR_LOCKED, "%s is in use by another process", sink->told);
                else
                        (void)err_set_errno(&sink->why, ERR_SYSTEM, errno, "cannot lock %s", sink->told);
                file_sink_fail(sink);
        } else {
                file_sink_go(sink, FILE_SINK_CONFIRMING);
        }
}

/* The lock is on what we opened; by now PATH may be something else (a rotation by its owner). */
static void file_sink_confirmed(struct file_sink *sink, int32_t result)
{
        const struct file_sink_identity now = file_sink_identity_of(&sink->status);
        if (result < 0 && result != -ENOENT) {
                file_sink_fail_errno(sink, "look at", -result);
        } else if (result == 0 && file_sink_same(&now, &sink->fresh_identity)) {
                file_sink_measure(sink);
        } else if (sink->creating || ++sink->opens == FILE_SINK_OPENS_MAX) {
                (void)err_set(&sink->why, ERR_LOCKED, "%s is replaced by another process all the time", sink->told);
                file_sink_fail(sink);
        } else {
                sink->drop_fd = sink->fresh_fd; /* nothing was written */
                sink->fresh_fd = -1;
                file_sink_go(sink, FILE_SINK_OPENING);
        }
}

/* `code`: what file_end.h says. A wrong path in the configuration must not cost anybody the end of his file. */
static void file_sink_read_on(struct file_sink *sink, enum err_code code)
{
        static const char help[] = "it is no file of ours; choose another path or move it away";
        if (code == ERR_INCOMPLETE) {
                file_sink_go(sink, FILE_SINK_READING);
        } else if (code == ERR_OK && sink->found.line_end < sink->found.size) {
                file_sink_go(sink, FILE_SINK_CUTTING);
        } else if (code == ERR_OK) {
                file_sink_attach(sink);
        } else {
                (void)err_set(&sink->why, ERR_CONFIG, "%s %s: %s", sink->told,
                              code == ERR_SYNTAX ? "holds no lines of JSON objects"
                                                 : "ends in a line longer than any event",
                              help);
                file_sink_fail(sink);
        }
}

/* `status` is of the file, under its lock: its size is final. */
static void file_sink_measure(struct file_sink *sink)
{
        file_sink_read_on(sink, file_end_begin(&sink->found, sink->status.stx_size));
}

static void file_sink_was_read(struct file_sink *sink, int32_t result)
{
        if (result < 0) {
                file_sink_fail_errno(sink, "read the end of", -result);
        } else if ((uint32_t)result != sink->found.read_bytes) {
                (void)err_set(&sink->why, ERR_SYSTEM, "%s shrinks while its end is read", sink->told);
                file_sink_fail(sink);
        } else {
                file_sink_read_on(sink, file_end_take(&sink->found, sink->piece));
        }
}

static void file_sink_cut(struct file_sink *sink, int32_t result)
{
        if (result < 0) {
                file_sink_fail_errno(sink, "cut the torn last line off", -result);
                return;
        }
        sink->stats.repaired_bytes += sink->found.size - sink->found.line_end;
        file_sink_attach(sink);
}

/* ---------------------------------------------------------------------------------------------- writing */

/* Makes sure that fd is what PATH names and ends where we left it; whoever renamed, removed or truncated it meant that.
 */
static void file_sink_looked(struct file_sink *sink, int32_t result)
{
        const struct file_sink_identity now = file_sink_identity_of(&sink->status);
        if (result < 0 && result != -ENOENT && result != -ENOTDIR)
                file_sink_fail_errno(sink, "look at", -result);
        else if (result < 0 || !file_sink_same(&now, &sink->identity))
                file_sink_go(sink, FILE_SINK_OPENING);
        else if (sink->status.stx_size != sink->end)
                file_sink_measure(sink);
        else
                file_sink_next(sink);
}

/* Bytes of a failed write must not stay: a later try would write them twice. The disk must hear of that, too: some of
 * them would come back with a power cut, and torn. */
static void file_sink_write_failed(struct file_sink *sink, const char *what, int error)
{
        sink->sync_owed = sink->options.sync;
        (void)err_set_errno(&sink->why, ERR_SYSTEM, error, "cannot %s %s", what, sink->told); /* told by `done` */
        file_sink_go(sink, FILE_SINK_LOOKING_BACK);
}

static void file_sink_was_cut_back(struct file_sink *sink, int32_t result)
{
        sink->cut_back = result < 0;
        if (sink->why.code != ERR_OK)
                file_sink_go(sink, FILE_SINK_ENDING); /* of the write that failed; the next one tries it again */
        else if (result < 0)
                file_sink_fail_errno(sink, "cut back, after a failed write,", -result);
        else
                file_sink_go(sink, FILE_SINK_LOOKING);
}

/* Another hand may have cut the file shorter: it must not grow again. */
static void file_sink_looked_back(struct file_sink *sink, int32_t result)
{
        if (result == 0 && sink->status.stx_size > sink->end)
                file_sink_go(sink, FILE_SINK_CUTTING_BACK);
        else
                file_sink_was_cut_back(sink, result);
}

static void file_sink_wrote_all(struct file_sink *sink)
{
        sink->end += sink->lines.len;
        sink->stats.bytes_written += sink->lines.len;
        file_sink_go(sink, FILE_SINK_ENDING);
}

static void file_sink_wrote(struct file_sink *sink, int32_t result)
{
        if (result <= 0) {
                file_sink_write_failed(sink, "write to", result == 0 ? EIO : -result);
                return;
        }
        sink->lines_written += (size_t)result;
        ASSERT(sink->lines_written <= sink->lines.len);
        if (sink->lines_written < sink->lines.len)
                file_sink_go(sink, FILE_SINK_WRITING);
        else if (sink->options.sync)
                file_sink_go(sink, FILE_SINK_SYNCING);
        else
                file_sink_wrote_all(sink);
}

static void file_sink_synced(struct file_sink *sink, int32_t result)
{
        if (result < 0)
                file_sink_write_failed(sink, "sync", -result);
        else
                file_sink_wrote_all(sink);
}

/* ---------------------------------------------------------------------------------------------- the machine */

void file_sink_begin(struct file_sink *sink, enum file_sink_task task)
{
        sink->task = task;
        sink->why = (struct err){0};
        sink->opens = 0;
        sink->rotated = sink->creating = false;
        sink->lines_written = 0;
        file_sink_go(sink, sink->fd < 0     ? FILE_SINK_OPENING
                           : sink->cut_back ? FILE_SINK_LOOKING_BACK
                                            : FILE_SINK_LOOKING);
}

static void file_sink_end(struct file_sink *sink)
{
        const enum file_sink_task task = sink->task;
        ASSERT(sink->fresh_fd < 0);
        ASSERT(!sink->creating);
        sink->task = FILE_SINK_IDLE;
        if (task == FILE_SINK_ROTATES && sink->lines.len > 0) { /* they came meanwhile */
                file_sink_begin(sink, FILE_SINK_WRITES);
        } else if (task == FILE_SINK_WRITES) {
                sink->lines = SLICE_EMPTY;
                /* The last access: the callback may write again or close. */
                sink->done(sink->context, sink->why.code, &sink->why);
        }
}

/* What a step asks of the file system; it is also asked again, where a signal got in between. */
static void file_sink_ask(struct file_sink *sink)
{
        struct io_loop *loop = sink->loop;
        struct io_op *op = &sink->op;
        const int measured_fd = sink->fresh_fd >= 0 ? sink->fresh_fd : sink->fd;
        const uint64_t left = sink->end - sink->rewritten;
        const bool back = sink->renames_back;
        if (sink->drop_fd >= 0) {
                io_close(loop, op, sink->drop_fd);
                return;
        }
        switch (sink->step) {
        case FILE_SINK_ENDING:
                file_sink_end(sink);
                return;
        case FILE_SINK_LOOKING:
        case FILE_SINK_CONFIRMING:
                io_stat_path(loop, op, sink->path, &sink->status);
                return;
        case FILE_SINK_LOOKING_AHEAD:
                io_stat_path(loop, op, back ? sink->path : sink->rotated_path, &sink->status);
                return;
        case FILE_SINK_OPENING:
                io_open(loop, op, sink->path, O_RDWR | O_CREAT | (sink->creating ? O_EXCL : 0) | O_NOFOLLOW | O_NOCTTY,
                        0600);
                return;
        case FILE_SINK_OPENING_DIRECTORY:
                io_open(loop, op, sink->directory, O_RDONLY | O_DIRECTORY, 0);
                return;
        case FILE_SINK_KNOWING:
                io_stat(loop, op, sink->fresh_fd, &sink->status);
                return;
        case FILE_SINK_LOOKING_BACK:
                io_stat(loop, op, sink->fd, &sink->status);
                return;
        case FILE_SINK_READING:
                io_read(loop, op, measured_fd, sink->piece, sink->found.read_bytes, sink->found.read_at);
                return;
        case FILE_SINK_REREADING:
                io_read(loop, op, sink->fd, sink->piece, left < sizeof(sink->piece) ? left : sizeof(sink->piece),
                        sink->rewritten);
                return;
        case FILE_SINK_CUTTING:
                io_truncate(loop, op, measured_fd, sink->found.line_end);
                return;
        case FILE_SINK_CUTTING_BACK:
                io_truncate(loop, op, sink->fd, sink->end);
                return;
        case FILE_SINK_RENAMING:
        case FILE_SINK_REPLACING:
                io_rename(loop, op, back ? sink->rotated_path : sink->path, back ? sink->path : sink->rotated_path,
                          sink->step == FILE_SINK_REPLACING);
                return;
        case FILE_SINK_NAMING:
                io_sync_directory(loop, op, sink->fresh_fd);
                return;
        case FILE_SINK_REWRITING:
                io_write(loop, op, sink->fd, sink->piece, sink->reread_bytes, sink->rewritten);
                return;
        case FILE_SINK_WRITING:
                (void)file_sink_append(sink, true); /* else by offsets, as where there is no other hand */
                io_write(loop, op, sink->fd, sink->lines.ptr + sink->lines_written,
                         sink->lines.len - sink->lines_written, sink->end + sink->lines_written);
                return;
        case FILE_SINK_SETTLING:
        case FILE_SINK_SYNCING:
                io_fdatasync(loop, op, sink->fd);
                return;
        }
}

static void file_sink_answered(struct io_op *op, int32_t result, bool more)
{
        struct file_sink *sink = (struct file_sink *)op;
        ASSERT(sink->task != FILE_SINK_IDLE);
        ASSERT(!more);
        if (sink->drop_fd >= 0) {
                sink->drop_fd = -1; /* whatever it says; all that was written to it is acknowledged, or given up */
                file_sink_ask(sink);
                return;
        }
        if (result == -EINTR) {
                file_sink_ask(sink);
                return;
        }
        switch (sink->step) {
        case FILE_SINK_ENDING:
                ASSERT(sink->step != FILE_SINK_ENDING); /* it has no operation */
                return;
        case FILE_SINK_LOOKING:
                file_sink_looked(sink, result);
                return;
        case FILE_SINK_CONFIRMING:
                file_sink_confirmed(sink, result);
                return;
        case FILE_SINK_OPENING:
                file_sink_opened(sink, result);
                return;
        case FILE_SINK_KNOWING:
                file_sink_known(sink, result);
                return;
        case FILE_SINK_READING:
                file_sink_was_read(sink, result);
                return;
        case FILE_SINK_REREADING:
                file_sink_reread(sink, result);
                return;
        case FILE_SINK_CUTTING:
                file_sink_cut(sink, result);
                return;
        case FILE_SINK_LOOKING_BACK:
                file_sink_looked_back(sink, result);
                return;
        case FILE_SINK_CUTTING_BACK:
                file_sink_was_cut_back(sink, result);
                return;
        case FILE_SINK_RENAMING:
        case FILE_SINK_LOOKING_AHEAD:
        case FILE_SINK_REPLACING:
                file_sink_rename_answered(sink, result);
                return;
        case FILE_SINK_OPENING_DIRECTORY:
                file_sink_directory_opened(sink, result);
                return;
        case FILE_SINK_NAMING:
                file_sink_named(sink, result);
                return;
        case FILE_SINK_REWRITING:
                file_sink_rewrote(sink, result);
                return;
        case FILE_SINK_SETTLING:
                file_sink_settled(sink, result);
                return;
        case FILE_SINK_WRITING:
                file_sink_wrote(sink, result);
                return;
        case FILE_SINK_SYNCING:
                file_sink_synced(sink, result);
                return;
        }
}

/* ---------------------------------------------------------------------------------------------- egress/file.h */

void file_sink_init(struct file_sink *sink, const char *path)
{
        sink->op.done = file_sink_answered;
        sink->fd = sink->drop_fd = sink->fresh_fd = -1;
        (void)snprintf(sink->path, sizeof(sink->path), "%s", path); /* it fits */
        (void)file_directory_of(sink->path, sink->directory);       /* it fits: the path does */
        const size_t len = strlen(path), most = sizeof(sink->told) - 1;
        if (len <= most)
                (void)snprintf(sink->told, sizeof(sink->told), "%s", path);
        else
                (void)snprintf(sink->told, sizeof(sink->told), "...%s", path + len - (most - 3));
}

size_t file_sink_memory_bytes(void)
{
        return sizeof(struct file_sink);
}

enum err_code file_sink_write(struct file_sink *sink, struct slice lines,
                              void (*done)(void *context, enum err_code code, const struct err *why), void *context)
{
        ASSERT(lines.len > 0);
        ASSERT(lines.ptr[lines.len - 1] == '\n');
        ASSERT(sink->task != FILE_SINK_CLOSES);
        if (sink->lines.len > 0)
                return ERR_BUSY;
        sink->lines = lines;
        sink->done = done;
        sink->context = context;
        if (sink->task == FILE_SINK_IDLE)
                file_sink_begin(sink, FILE_SINK_WRITES);
        return ERR_OK;
}

void file_sink_rotate_if_due(struct file_sink *sink)
{
        if (sink->task == FILE_SINK_IDLE && sink->fd >= 0 && file_sink_is_old(sink))
                file_sink_begin(sink, FILE_SINK_ROTATES);
}

bool file_sink_is_busy(const struct file_sink *sink)
{
        return sink->task != FILE_SINK_IDLE;
}

bool file_sink_stop(struct file_sink *sink)
{
        if (sink->task == FILE_SINK_IDLE && sink->fd >= 0) {
                sink->task = FILE_SINK_CLOSES;
                sink->drop_fd = sink->fd;
                sink->fd = -1;
                file_sink_go(sink, FILE_SINK_ENDING);
        }
        return sink->task == FILE_SINK_IDLE;
}

void file_sink_get_stats(const struct file_sink *sink, struct file_sink_stats *ret_stats)
{
        *ret_stats = sink->stats;
}

const char *file_sink_rotation_why(const struct file_sink *sink)
{
        return sink->rotation_why.text;
}

void file_sink_close(struct file_sink *sink)
{
        if (sink == NULL)
                return;
        ASSERT(sink->task == FILE_SINK_IDLE);
        if (sink->fd >= 0)
                (void)disk_close(sink->fd); /* all its writes are acknowledged, or were cut off */
        free(sink);
}
