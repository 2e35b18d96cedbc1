/* The seam to the world: one io_uring per thread, and operations that live inside their owners.
 *
 * A `struct io_op` is embedded in whoever started it; its `done` runs on the loop's thread, from io_loop_turn(),
 * exactly once per submission (save multishot ones, which say `more`). The owner may start the same op again from
 * within `done`. Memory given to an operation belongs to the kernel until `done`. Nothing allocates after
 * io_loop_init(). Features are probed, versions never compared.
 */
#ifndef SENDRING_IO_IO_H
#define SENDRING_IO_IO_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct io_loop; /* opaque: io_uring.c */

struct io_op {
        /* `result` is what the system call would have returned: >= 0, or -errno (-ECANCELED, -ETIME included). */
        void (*done)(struct io_op *op, int32_t result, bool more);
        bool submitted; /* the kernel may touch the op's memory */
};

struct io_options {
        uint32_t entries; /* submission entries, for example 256 */
};

enum err_code io_loop_create(const struct io_options *options, struct io_loop **ret_loop, struct err *reterr);
/* Every op must be done or cancelled before. */
void io_loop_free(struct io_loop *loop);

/* Submits what is queued, waits for at least one completion or `timeout_ns` (0: do not wait), runs the callbacks.
 * Returns how many ran. */
uint32_t io_loop_turn(struct io_loop *loop, uint64_t timeout_ns);
/* Ends a waiting turn, from any thread (eventfd read by the loop). A wake before the wait is not lost. */
void io_loop_wake(struct io_loop *loop);
/* Number of ops that are submitted. */
uint32_t io_loop_pending(const struct io_loop *loop);

/* All return at once; the op must not be submitted already (asserted). Queue full: the loop submits and goes on. */
void io_connect(struct io_loop *loop, struct io_op *op, int fd, const struct sockaddr *address,
                socklen_t address_bytes);
void io_recv(struct io_loop *loop, struct io_op *op, int fd, void *buffer, size_t bytes);
void io_send(struct io_loop *loop, struct io_op *op, int fd, const void *buffer,
             size_t bytes); /* MSG_NOSIGNAL|MSG_WAITALL */
void io_write(struct io_loop *loop, struct io_op *op, int fd, const void *buffer, size_t bytes, uint64_t offset);
void io_fdatasync(struct io_loop *loop, struct io_op *op, int fd);
void io_poll(struct io_loop *loop, struct io_op *op, int fd, short events);
void io_timer(struct io_loop *loop, struct io_op *op, uint64_t deadline_monotonic_ns); /* done with -ETIME */
/* Asks the kernel to end it: `done` still comes, with -ECANCELED or the real result. */
void io_cancel(struct io_loop *loop, struct io_op *op);

#endif
