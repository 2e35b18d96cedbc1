/* The seam to the world: one io_uring per thread, and operations that live inside their owners.
 *
 * A `struct io_op` is embedded in whoever started it; its `done` runs on the loop's thread, from io_loop_turn(),
 * exactly once per submission. The owner may start the same op again from within `done`. Memory given to an operation
 * belongs to the kernel until `done`. Nothing allocates after io_loop_create(). Features are probed, versions never
 * compared: what the kernel lacks beyond the operations below is done without.
 *
 * Threads: a loop may be created and freed on any thread; the first thread that turns it or starts an operation on it
 * owns it until it is freed, and every other call must come from there. Only io_loop_wake() and io_post() may be called
 * from any thread.
 */
#ifndef SENDRING_IO_IO_H
#define SENDRING_IO_IO_H

#include "base/err.h"

#include <errno.h>
#include <linux/time_types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>

struct io_loop; /* opaque: io_uring.c */

/* Zero-initialise it and set `done`; the rest is the loop's. */
struct io_op {
        /* `result` is what the system call would have returned: >= 0, or -errno (-ECANCELED, -ETIME included). `more`
         * tells that another call of `done` will follow for the same submission; no operation below does that yet. */
        void (*done)(struct io_op *op, int32_t result, bool more);
        bool submitted;                /* the kernel may touch the op's memory; cleared before `done` is called */
        struct __kernel_timespec when; /* private: io_timer() */
        struct io_op *next;            /* private: io_post() */
        int32_t result;                /* private: io_truncate() */
};

/* The struct in which `op` is embedded as `member`: IO_OWNER(op, struct http_connection, in). */
#define IO_OWNER(op, type, member) ((type *)(void *)((char *)(op)-offsetof(type, member)))

struct io_options {
        uint32_t entries; /* submission entries, 1..4096, for example 256; 16 times as many completions fit */
};

#define IO_FOREVER UINT64_MAX

/* ERR_PERMISSION when the kernel or a container forbids io_uring (the sentence says what to change), ERR_SYSTEM when it
 * lacks an operation or a resource, ERR_MEMORY. */
enum err_code io_loop_create(const struct io_options *options, struct io_loop **ret_loop, struct err *reterr);
/* Every op must be done (asserted). NULL is fine. */
void io_loop_free(struct io_loop *loop);

/* Submits what is queued, waits for at least one completion, a wake or `timeout_ns` (0: do not wait; IO_FOREVER: as
 * long as it takes), runs the callbacks of what has completed by then. Returns how many ran; it may return early with
 * 0, after a signal for example. With no work an open-ended turn sleeps in the kernel and costs nothing. */
uint32_t io_loop_turn(struct io_loop *loop, uint64_t timeout_ns);
/* Ends a waiting turn, from any thread. A wake before the wait is not lost: the next turn does not wait. A system call
 * only when the loop sleeps. */
void io_loop_wake(struct io_loop *loop);
/* Number of ops that are submitted (posted ones not counted). */
uint32_t io_loop_pending(const struct io_loop *loop);

/* From any thread: `done(op, 0, false)` runs on the loop's thread in a coming turn; what the poster wrote before is
 * visible there. The op must not be posted or submitted already. Posts of one thread run in their order. */
void io_post(struct io_loop *loop, struct io_op *op);

/* A TCP socket that connects, receives and sends through a loop: blocking, and without Nagle's delay, since
 * requests are written whole. -1 and errno. */
int io_socket(int family);
/* No byte comes or goes any more; operations on it end. Does nothing where there is no connection yet. */
void io_socket_shutdown(int fd);
/* No operation on it may be submitted. */
void io_socket_close(int fd);

/* All return at once; the op must not be submitted already (asserted). Queue full: the loop submits and goes on.
 * Sockets must be in blocking mode (no O_NONBLOCK), else the kernel answers -EAGAIN where it should wait. */
void io_connect(struct io_loop *loop, struct io_op *op, int fd, const struct sockaddr *address,
                socklen_t address_bytes);
/* At most 2^31 - 1 bytes are asked for at once. */
void io_recv(struct io_loop *loop, struct io_op *op, int fd, void *buffer, size_t bytes);
/* MSG_NOSIGNAL|MSG_WAITALL: the kernel goes on until all is in the socket's buffer; the result may still be short. An
 * error means that nothing of this operation was sent. */
void io_send(struct io_loop *loop, struct io_op *op, int fd, const void *buffer, size_t bytes);

/* Files: as io/disk.h's functions of these names, none of which keeps the loop waiting, however long its file system
 * takes. Paths, like memory, must stay as they are until `done`. */

/* The descriptor. O_CLOEXEC is always set. */
void io_open(struct io_loop *loop, struct io_op *op, const char *path, int flags, mode_t mode);
/* The descriptor is gone, whatever `done` gets; a lock on it perhaps a moment later. */
void io_close(struct io_loop *loop, struct io_op *op, int fd);
/* With the time of birth, where the file system knows it. */
void io_stat(struct io_loop *loop, struct io_op *op, int fd, struct statx *ret_status);
void io_stat_path(struct io_loop *loop, struct io_op *op, const char *path, struct statx *ret_status);
/* `replace` false: -EEXIST when there is one of the new name, -EINVAL on a file system that cannot say so. */
void io_rename(struct io_loop *loop, struct io_op *op, const char *from, const char *to, bool replace);
/* Before Linux 6.9, which has no such operation, this one is a call that is made at once, and may keep the loop
 * waiting.
 */
void io_truncate(struct io_loop *loop, struct io_op *op, int fd, uint64_t bytes);
/* At most 2^31 - 1 bytes are asked for at once, as by io_write(). */
void io_read(struct io_loop *loop, struct io_op *op, int fd, void *buffer, size_t bytes, uint64_t offset);
void io_write(struct io_loop *loop, struct io_op *op, int fd, const void *buffer, size_t bytes, uint64_t offset);
void io_fdatasync(struct io_loop *loop, struct io_op *op, int fd);
/* fsync of a directory: names made, changed and removed in it are on the disk; see disk_sync_directory(). */
void io_sync_directory(struct io_loop *loop, struct io_op *op, int directory_fd);
/* What `done` of that got; some file systems have no such thing. */
static inline bool io_sync_directory_failed(int32_t result)
{
        return result < 0 && result != -EINVAL && result != -ENOTSUP;
}
/* Once; `result` holds the events that came. */
void io_poll(struct io_loop *loop, struct io_op *op, int fd, short events);
/* By clock_monotonic_ns(); a deadline in the past fires at once. Done with -ETIME. */
void io_timer(struct io_loop *loop, struct io_op *op, uint64_t deadline_monotonic_ns);
/* Asks the kernel to end it: `done` still comes, with -ECANCELED or the real result. Nothing happens when the op is not
 * submitted. A transfer of several steps (a large send) may escape a cancel that meets it between two steps: whoever
 * must be rid of one shuts the socket down as well. */
void io_cancel(struct io_loop *loop, struct io_op *op);

#endif
