/* What egress/file.c (the sink as a state machine) and egress/file_open.c (how its first file is waited for) share.
 * Inside egress/ only. */
#ifndef SENDRING_EGRESS_FILE_INTERNAL_H
#define SENDRING_EGRESS_FILE_INTERNAL_H

#include "egress/file.h"
#include "egress/file_end.h"

#include <limits.h>
#include <stddef.h>
#include <sys/stat.h>

#define FILE_SINK_SUFFIX_BYTES_MAX 32u /* ".20260102T030405Z-999" and the NUL */

enum file_sink_task {
        FILE_SINK_IDLE,
        FILE_SINK_OPENS,
        FILE_SINK_ROTATES, /* a file that is old; lines that come meanwhile wait for it */
        FILE_SINK_WRITES,
        FILE_SINK_CLOSES,
};

enum file_sink_step {
        FILE_SINK_ENDING, /* no operation: the task is over */
        /* Is PATH still our file, and does it end where we left it? */
        FILE_SINK_LOOKING_BACK, /* are there bytes of a write that has failed? */
        FILE_SINK_CUTTING_BACK,
        FILE_SINK_LOOKING,
        /* PATH is opened, or created. */
        FILE_SINK_OPENING,
        FILE_SINK_KNOWING,    /* what was opened */
        FILE_SINK_CONFIRMING, /* that it still is PATH */
        FILE_SINK_READING,    /* where it ends */
        FILE_SINK_CUTTING,    /* what is torn */
        /* Rotation: PATH gets another name, or that file its old one back. */
        FILE_SINK_RENAMING,
        FILE_SINK_LOOKING_AHEAD, /* for a file of the new name, where the file system cannot rename without replacing */
        FILE_SINK_REPLACING,     /* there is none */
        /* What a file that was opened or made owes before lines are written to it. */
        FILE_SINK_OPENING_DIRECTORY,
        FILE_SINK_NAMING,    /* the directory is synced */
        FILE_SINK_REREADING, /* what an earlier process left in the air is written again */
        FILE_SINK_REWRITING,
        FILE_SINK_SETTLING, /* the file is synced, as it was when it was opened */
        /* The lines. */
        FILE_SINK_WRITING,
        FILE_SINK_SYNCING,
};

struct file_sink_identity {
        uint32_t device_major, device_minor;
        uint64_t inode;
};

struct file_sink {
        struct io_op op; /* first: done callbacks get the sink from it */
        struct io_loop *loop;
        struct file_sink *next; /* in file_sink_openings */
        struct file_sink_options options;
        enum file_sink_task task;
        enum file_sink_step step;
        int fd;                             /* -1: to be opened by the next write */
        bool appends;                       /* fd does: wherever another hand has put its end meanwhile */
        struct file_sink_identity identity; /* of fd */
        uint64_t end;                       /* all before it are acknowledged whole lines */
        bool cut_back;                      /* a failed write left bytes behind `end` that could not be cut off yet */
        /* What must be done before anything more is acknowledged; see file_sink_next(). */
        bool name_owed, rewrite_owed, sync_owed;
        uint64_t rewritten; /* up to here */
        uint32_t reread_bytes;
        int64_t created_ms; /* of the file */
        struct slice lines; /* to be written, or in flight */
        size_t lines_written;
        void (*done)(void *context, enum err_code code, const struct err *why);
        void *context;
        struct err why; /* with ERR_OK: nothing has failed yet */

        /* The task. */
        int drop_fd;  /* is closed before the next step; -1: none */
        int fresh_fd; /* opened, and not yet the sink's; -1: none */
        struct file_sink_identity fresh_identity;
        struct statx status;
        uint32_t opens;
        struct file_end found;
        bool rotated;  /* once a task, or it was tried */
        bool creating; /* PATH was renamed: a new file, and nobody else's */
        bool renames_back;
        uint32_t name_number;
        int64_t name_ms;

        struct file_sink_stats stats;
        struct err rotation_why; /* the last one that failed */
        char told[128];          /* the path, or its end: a sentence that says it must have room for the reason */
        char path[PATH_MAX];
        char directory[PATH_MAX]; /* of path */
        char rotated_path[PATH_MAX];
        uint8_t piece[FILE_END_PIECE_BYTES]; /* of the file */
};

_Static_assert(offsetof(struct file_sink, op) == 0, "the op's address is the sink's");

/* Idle, without a file; `path` fits with a suffix. */
void file_sink_init(struct file_sink *sink, const char *path);
/* Begins a task; there is none, and the loop is set. */
void file_sink_begin(struct file_sink *sink, enum file_sink_task task);

#endif
