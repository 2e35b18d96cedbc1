/* Lines of a file or of standard input, followed over rotation where asked to (tail -F), with a position to go on from.
 *
 * A file is known by device and inode, and by a sum over its first bytes, since inodes are used again; with 256 of them
 * the device need not be the same, which has another number after a boot (LVM, btrfs, NVMe). When the followed name
 * belongs to another file, the old one is read on until the new one has bytes in it and the old one was quiet for two
 * seconds: its writers, which change over one by one, have moved on by then. After a minute it is left in any case.
 * Then comes every file that was rotated away meanwhile, then the new one; one that was left in this run is not read
 * again, whoever writes to it or unpacks it. Rotated files are looked for in the same directory: the followed name and
 * behind it `.`, `-` or `_` with a number, a date or a time, or `.old`. The one that was read last may have any name
 * that begins so. Compressed ones are not read, so rotate with `delaycompress`; where the one that was read last is
 * gone so, the oldest that was changed after it comes next. A file that got shorter, or whose beginning is another one
 * (copytruncate), is read from its beginning, behind the hole that a writer without O_APPEND leaves; what was not read
 * before the cut is lost by that method itself, and said where it is known. Pipes and terminals are read once, to their
 * end. One thread. */
#ifndef SENDRING_FEEDS_TAIL_H
#define SENDRING_FEEDS_TAIL_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define TAIL_HEAD_BYTES 256u

/* Behind the last line given out. All zero: the beginning. */
struct tail_position {
        uint64_t device, inode, offset, line;
        uint64_t head_bytes, head_sum; /* FNV-1a of the first head_bytes of the file */
        uint64_t changed_ns;           /* the file's last change when it was read; 0: not known */
};

struct tail_options {
        const char *path; /* "-": standard input */
        bool follow;      /* not for standard input, which is read to its end */
        bool resumable;   /* not followed, but runs go on from each other's position: over rotation, in whole lines */
        bool from_end;    /* a followed file without a position: only what comes */
        size_t line_bytes_max;
        const struct tail_position *position; /* NULL: none */
};

enum tail_result {
        TAIL_LINE,  /* *ret_line; valid until the next call */
        TAIL_LONG,  /* a line above line_bytes_max was left out; ret_line is its beginning */
        TAIL_WAIT,  /* nothing now; the call may have waited up to 100 ms. Also before the first line of a file */
        TAIL_END,   /* no more */
        TAIL_ERROR, /* *reterr */
};

struct tail;

/* Opens. A followed path need not exist yet; to follow or resume it must be a regular file. ERR_SYSTEM, ERR_PERMISSION
 * (reterr->sys_errno), ERR_MEMORY. */
enum err_code tail_open(const struct tail_options *options, struct tail **ret_tail, struct err *reterr);
void tail_close(struct tail *tail);

/* The last line of an unfollowed or rotated file need not end with a newline; one of a followed file is awaited, one of
 * a resumable file is left where it is, with a notice. */
enum tail_result tail_next(struct tail *tail, struct slice *ret_line, struct err *reterr);

/* While the followed file is awaited, the one that was given to go on from. */
void tail_get_position(const struct tail *tail, struct tail_position *ret_position);
/* The file's last change, in ms: the reference for its time stamps. Of a followed file and of pipes: now. */
int64_t tail_reference_ms(const struct tail *tail);
/* Whether a file at `path` is the followed one, or would be taken for one that was rotated away from it. */
bool tail_would_read(const char *followed, const char *path);
/* Things a person should know, taken once each: NULL when there is none. "the file ... is gone: ..." */
const char *tail_take_notice(struct tail *tail);
/* Of lines that are known to be missed; a notice told of each time. What a file had that is gone is not known. */
uint64_t tail_missed_bytes(const struct tail *tail);

#endif
