/* io.h over liburing.
 *
 * Set-up: the ring is created disabled, so that the thread that first uses it, and not the one that created it, becomes
 * its single issuer. Flags that make completions cheaper are tried from the newest kernel's set down to none.
 *
 * Sleep and wake, `wake_state`, one atomic word, written by the loop and by every waker:
 *
 *   RUNNING   the loop is awake and nobody has asked for anything since it last looked
 *   SLEEPING  the loop is going to wait in the kernel, or waits
 *   NOTIFIED  somebody woke it; it must look again before it waits
 *
 * A waker exchanges in NOTIFIED and writes the eventfd only when it saw SLEEPING. The loop moves RUNNING -> SLEEPING by
 * compare-and-swap, so a NOTIFIED from before the wait makes the turn return instead. A read of the eventfd is always
 * submitted when the loop sleeps. All changes are read-modify-writes, so they form one release sequence: whoever sees
 * NOTIFIED sees what was written before the wake.
 */
#include "base/assert.h"
#include "base/limits.h"
#include "io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IO_ENTRIES_MAX             4096u
#define IO_COMPLETIONS_PER_ENTRY   16u
#define IO_SUBMIT_TRIES_MAX        1000
#define IO_BYTES_PER_OPERATION_MAX ((size_t)INT32_MAX)
/* Threads of the kernel for files, made when they are wanted: each operation on a file system that hangs keeps one, and
 * a target has one operation on files at a time. The kernel's own limit is four a core. */
#define IO_FILE_THREADS_MAX (LIMIT_TARGETS_MAX + 64u)
#define IO_OP_FTRUNCATE     55 /* IORING_OP_FTRUNCATE; liburing 2.3 is older */

/* user_data of our own submissions; ops are pointers, never this small. */
#define IO_TAG_IGNORE 0u
#define IO_TAG_WAKE   1u

enum io_wake_state { IO_RUNNING = 0, IO_SLEEPING = 1, IO_NOTIFIED = 2 };

struct io_loop {
        struct io_uring ring;
        uint32_t pending; /* ops submitted and not done */
        bool started;     /* the ring is enabled and belongs to a thread */
        bool poll_first;  /* a receive skips the first try, which finds nothing in the usual case */
        bool wake_armed;  /* the read of the eventfd is submitted */
        bool truncates;   /* the kernel has that operation */
        int wake_fd;
        _Alignas(64) _Atomic uint32_t wake_state;
        _Atomic(struct io_op *) posted; /* newest first; pushed by anyone, taken whole by the loop */
};

/* Where reads of the eventfds put their count. Nobody looks at it, so that loops may share it and a read that the
 * kernel cancels only after the ring was closed can hurt nobody. */
static uint64_t io_wake_count;

static enum err_code io_setup_failed(int result, struct err *reterr)
{
        switch (-result) {
        case EPERM:
        case EACCES:
                return err_set_errno(reterr, ERR_PERMISSION, -result,
                                     "io_uring is forbidden here: set sysctl kernel.io_uring_disabled=0 (or add this "
                                     "user's group to kernel.io_uring_group), and in a container use a seccomp profile "
                                     "that allows io_uring_setup, io_uring_enter and io_uring_register");
        case ENOSYS:
                return err_set_errno(reterr, ERR_PERMISSION, -result,
                                     "the kernel has no io_uring, or a seccomp profile hides it: use Linux 6.1 or "
                                     "later and allow io_uring_setup, io_uring_enter and io_uring_register");
        case ENOMEM:
                return err_set_errno(reterr, ERR_MEMORY, -result,
                                     "cannot set up io_uring: raise the locked memory limit (ulimit -l, "
                                     "LimitMEMLOCK=) or free memory");
        case EMFILE:
        case ENFILE:
                return err_set_errno(reterr, ERR_LIMIT, -result,
                                     "cannot set up io_uring: raise the open files limit (ulimit -n, LimitNOFILE=)");
        default:
                return err_set_errno(reterr, ERR_SYSTEM, -result, "cannot set up io_uring");
        }
}

static enum err_code io_probe(struct io_loop *loop, struct err *reterr)
{
        static const struct {
                int opcode;
                const char *name;
        } needed[] = {
                {IORING_OP_CONNECT, "connect"}, {IORING_OP_RECV, "recv"},         {IORING_OP_SEND, "send"},
                {IORING_OP_READ, "read"},       {IORING_OP_WRITE, "write"},       {IORING_OP_FSYNC, "fsync"},
                {IORING_OP_TIMEOUT, "timeout"}, {IORING_OP_POLL_ADD, "poll_add"}, {IORING_OP_ASYNC_CANCEL, "cancel"},
                {IORING_OP_OPENAT, "openat"},   {IORING_OP_STATX, "statx"},       {IORING_OP_RENAMEAT, "renameat"},
                {IORING_OP_CLOSE, "close"},
        };
        struct io_uring_probe *probe = io_uring_get_probe_ring(&loop->ring);
        if (probe == NULL)
                return err_set(reterr, ERR_SYSTEM,
                               "cannot ask the kernel which io_uring operations it has: use Linux 6.1 or later, and "
                               "allow io_uring_register in the seccomp profile");
        enum err_code code = ERR_OK;
        for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]) && code == ERR_OK; i++) {
                if (!io_uring_opcode_supported(probe, needed[i].opcode))
                        code = err_set(reterr, ERR_SYSTEM, "this kernel's io_uring lacks %s: use Linux 6.1 or later",
                                       needed[i].name);
        }
        loop->truncates = io_uring_opcode_supported(probe, IO_OP_FTRUNCATE) != 0;
        io_uring_free_probe(probe);
        /* Without NODROP completions could be lost, without EXT_ARG a wait has no timeout. */
        if (code == ERR_OK && (loop->ring.features & (IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG)) !=
                                      (IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG))
                code = err_set(reterr, ERR_SYSTEM, "this kernel's io_uring is too old: use Linux 6.1 or later");
        return code;
}

enum err_code io_loop_create(const struct io_options *options, struct io_loop **ret_loop, struct err *reterr)
{
        static const unsigned flag_sets[] = {
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
                IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
                0,
        };
        if (options->entries == 0 || options->entries > IO_ENTRIES_MAX)
                return err_set(reterr, ERR_CONFIG, "io_uring: %u submission entries, 1 to %u are allowed",
                               options->entries, IO_ENTRIES_MAX);
        struct io_loop *loop = aligned_alloc(64, sizeof(*loop)); /* the size is a multiple of its alignment */
        if (loop == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for an io_uring loop");
        memset(loop, 0, sizeof(*loop));
        /* Blocking on purpose: a read must wait in the kernel, not say EAGAIN. */
        loop->wake_fd = eventfd(0, EFD_CLOEXEC);
        if (loop->wake_fd < 0) {
                enum err_code code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot create an eventfd");
                free(loop);
                return code;
        }
        int result = -EINVAL;
        for (size_t i = 0; i < sizeof(flag_sets) / sizeof(flag_sets[0]) && result == -EINVAL; i++) {
                struct io_uring_params params = {
                        .flags = flag_sets[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
                        .cq_entries = options->entries * IO_COMPLETIONS_PER_ENTRY,
                };
                result = io_uring_queue_init_params(options->entries, &loop->ring, &params);
                /* The receive flag is as old as cooperative task running; single issuer is younger. */
                loop->poll_first = (flag_sets[i] & IORING_SETUP_SINGLE_ISSUER) != 0;
        }
        enum err_code code = ERR_OK;
        if (result < 0) {
                code = io_setup_failed(result, reterr);
                goto fail_fd;
        }
        code = io_probe(loop, reterr);
        if (code != ERR_OK)
                goto fail_ring;
        *ret_loop = loop;
        return ERR_OK;
fail_ring:
        io_uring_queue_exit(&loop->ring);
fail_fd:
        (void)close(loop->wake_fd); /* nothing was written */
        free(loop);
        return code;
}

void io_loop_free(struct io_loop *loop)
{
        if (loop == NULL)
                return;
        ASSERT(loop->pending == 0);
        ASSERT(atomic_load_explicit(&loop->posted, memory_order_acquire) == NULL);
        io_uring_queue_exit(&loop->ring);
        (void)close(loop->wake_fd); /* an eventfd: nothing can be lost */
        free(loop);
}

/* The calling thread becomes the ring's. */
static void io_start(struct io_loop *loop)
{
        /* By system call: the shared library of liburing 2.3 declares io_uring_enable_rings() but does not export it.
         */
        long result = syscall(SYS_io_uring_register, loop->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
        ASSERT(result == 0);
        /* Saves the kernel a file table look-up per call; it may have no room for it. */
        (void)io_uring_register_ring_fd(&loop->ring);
        /* Where it is refused, fewer destinations may hang before others wait. */
        unsigned threads_max[2] = {IO_FILE_THREADS_MAX, 0}; /* 0: those for sockets stay as they are */
        (void)io_uring_register_iowq_max_workers(&loop->ring, threads_max);
        loop->started = true;
}

/* What the kernel may answer to a submission without anything being wrong with it. */
static bool io_enter_result_expected(int result)
{
        return result >= 0 || result == -EINTR || result == -ETIME || result == -EAGAIN || result == -EBUSY;
}

static struct io_uring_sqe *io_sqe(struct io_loop *loop)
{
        if (!loop->started)
                io_start(loop);
        struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
        /* Full: hand over what is queued. The kernel takes everything at once, save when it is short of memory. */
        for (int tries = 0; sqe == NULL; tries++) {
                ASSERT(tries < IO_SUBMIT_TRIES_MAX);
                int result = io_uring_submit(&loop->ring);
                ASSERT(io_enter_result_expected(result));
                sqe = io_uring_get_sqe(&loop->ring);
        }
        return sqe;
}

static void io_arm_wake(struct io_loop *loop)
{
        struct io_uring_sqe *sqe = io_sqe(loop);
        io_uring_prep_read(sqe, loop->wake_fd, &io_wake_count, sizeof(io_wake_count), 0);
        io_uring_sqe_set_data64(sqe, IO_TAG_WAKE);
        loop->wake_armed = true;
}

/* True when the kernel holds completions back until it is entered. */
static bool io_kernel_has_work(struct io_loop *loop)
{
        /* Relaxed: a hint; the next turn looks again. */
        unsigned flags = __atomic_load_n(loop->ring.sq.kflags, __ATOMIC_RELAXED);
        return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

static void io_enter(struct io_loop *loop, uint64_t timeout_ns)
{
        int result = 0;
        uint32_t expected = IO_RUNNING;
        bool sleep = timeout_ns != 0 && io_uring_cq_ready(&loop->ring) == 0 &&
                     /* W1: pairs with W2 in io_loop_wake(). */
                     atomic_compare_exchange_strong_explicit(&loop->wake_state, &expected, IO_SLEEPING,
                                                             memory_order_acq_rel, memory_order_acquire);
        if (sleep && timeout_ns == IO_FOREVER) {
                result = io_uring_submit_and_wait(&loop->ring, 1);
        } else if (sleep) {
                struct __kernel_timespec timeout = {.tv_sec = (long long)(timeout_ns / 1000000000u),
                                                    .tv_nsec = (long long)(timeout_ns % 1000000000u)};
                struct io_uring_cqe *cqe = NULL;
                result = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &timeout, NULL);
        } else if (io_uring_sq_ready(&loop->ring) > 0 || io_kernel_has_work(loop)) {
                result = io_uring_submit_and_get_events(&loop->ring);
        }
        ASSERT(io_enter_result_expected(result));
        /* W3: from here on a waker needs no system call. Takes over what it wrote before W2. */
        (void)atomic_exchange_explicit(&loop->wake_state, IO_RUNNING, memory_order_acq_rel);
}

static uint32_t io_run_posted(struct io_loop *loop)
{
        /* Relaxed: an empty list needs no order; the exchange below is the acquire that pairs with P1 in io_post(). */
        if (atomic_load_explicit(&loop->posted, memory_order_relaxed) == NULL)
                return 0;
        struct io_op *newest = atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
        struct io_op *oldest = NULL;
        while (newest != NULL) {
                struct io_op *next = newest->next;
                newest->next = oldest;
                oldest = newest;
                newest = next;
        }
        uint32_t ran = 0;
        while (oldest != NULL) {
                struct io_op *op = oldest;
                oldest = op->next;
                int32_t result = op->result;
                op->next = NULL;
                op->result = 0;
                op->done(op, result, false);
                ran++;
        }
        return ran;
}

uint32_t io_loop_turn(struct io_loop *loop, uint64_t timeout_ns)
{
        if (!loop->started)
                io_start(loop);
        if (!loop->wake_armed)
                io_arm_wake(loop);
        io_enter(loop, timeout_ns);
        uint32_t ran = 0;
        /* Only what is there now: callbacks that start something new must not keep the turn going for ever. */
        for (unsigned ready = io_uring_cq_ready(&loop->ring); ready > 0; ready--) {
                struct io_uring_cqe *cqe = NULL;
                if (io_uring_peek_cqe(&loop->ring, &cqe) != 0)
                        break;
                uint64_t tag = cqe->user_data;
                int32_t result = cqe->res;
                io_uring_cqe_seen(&loop->ring, cqe);
                if (tag == IO_TAG_IGNORE)
                        continue;
                if (tag == IO_TAG_WAKE) {
                        loop->wake_armed = false;
                        continue;
                }
                struct io_op *op = (struct io_op *)(uintptr_t)tag;
                ASSERT(op->submitted);
                ASSERT(loop->pending > 0);
                op->submitted = false;
                loop->pending--;
                op->done(op, result, false);
                ran++;
        }
        return ran + io_run_posted(loop);
}

void io_loop_wake(struct io_loop *loop)
{
        /* W2: publishes what the caller wrote; pairs with W1 and W3. */
        if (atomic_exchange_explicit(&loop->wake_state, IO_NOTIFIED, memory_order_acq_rel) != IO_SLEEPING)
                return;
        uint64_t one = 1;
        ssize_t written = 0;
        do {
                written = write(loop->wake_fd, &one, sizeof(one));
        } while (written < 0 && errno == EINTR);
        ASSERT(written == (ssize_t)sizeof(one));
}

void io_post(struct io_loop *loop, struct io_op *op)
{
        ASSERT(op->done != NULL);
        op->next = atomic_load_explicit(&loop->posted, memory_order_relaxed);
        /* P1: publishes the op and what it stands for; pairs with the exchange in io_run_posted(). */
        while (!atomic_compare_exchange_weak_explicit(&loop->posted, &op->next, op, memory_order_release,
                                                      memory_order_relaxed))
                ;
        io_loop_wake(loop);
}

uint32_t io_loop_pending(const struct io_loop *loop)
{
        return loop->pending;
}

static struct io_uring_sqe *io_begin(struct io_loop *loop, struct io_op *op)
{
        ASSERT(!op->submitted);
        ASSERT(op->done != NULL);
        return io_sqe(loop);
}

static void io_commit(struct io_loop *loop, struct io_op *op, struct io_uring_sqe *sqe)
{
        io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)op);
        op->submitted = true;
        loop->pending++;
}

static size_t io_clamp(size_t bytes)
{
        return bytes < IO_BYTES_PER_OPERATION_MAX ? bytes : IO_BYTES_PER_OPERATION_MAX;
}

/* By a thread of the kernel from the beginning. Else it tries first whether the operation waits, and there are file
 * systems on which that waits: FUSE for a read or a directory that is opened, any for a close that has to free what a
 * removed file had. What looks at names or changes them, cuts and syncs is done so by itself. */
static void io_aside(struct io_uring_sqe *sqe)
{
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
}

void io_connect(struct io_loop *loop, struct io_op *op, int fd, const struct sockaddr *address, socklen_t address_bytes)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_connect(sqe, fd, address, address_bytes);
        io_commit(loop, op, sqe);
}

void io_recv(struct io_loop *loop, struct io_op *op, int fd, void *buffer, size_t bytes)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_recv(sqe, fd, buffer, io_clamp(bytes), 0);
        if (loop->poll_first)
                sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
        io_commit(loop, op, sqe);
}

void io_send(struct io_loop *loop, struct io_op *op, int fd, const void *buffer, size_t bytes)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_send(sqe, fd, buffer, io_clamp(bytes), MSG_NOSIGNAL | MSG_WAITALL);
        io_commit(loop, op, sqe);
}

void io_open(struct io_loop *loop, struct io_op *op, const char *path, int flags, mode_t mode)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_openat(sqe, AT_FDCWD, path, flags | O_CLOEXEC, mode);
        io_aside(sqe);
        io_commit(loop, op, sqe);
}

void io_close(struct io_loop *loop, struct io_op *op, int fd)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_close(sqe, fd);
        io_aside(sqe);
        io_commit(loop, op, sqe);
}

void io_stat(struct io_loop *loop, struct io_op *op, int fd, struct statx *ret_status)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_statx(sqe, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, ret_status);
        io_commit(loop, op, sqe);
}

void io_stat_path(struct io_loop *loop, struct io_op *op, const char *path, struct statx *ret_status)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_statx(sqe, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, ret_status);
        io_commit(loop, op, sqe);
}

void io_rename(struct io_loop *loop, struct io_op *op, const char *from, const char *to, bool replace)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_renameat(sqe, AT_FDCWD, from, AT_FDCWD, to, replace ? 0 : RENAME_NOREPLACE);
        io_commit(loop, op, sqe);
}

void io_truncate(struct io_loop *loop, struct io_op *op, int fd, uint64_t bytes)
{
        if (!loop->truncates) {
                ASSERT(!op->submitted);
                op->result = ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
                io_post(loop, op);
                return;
        }
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_rw(IO_OP_FTRUNCATE, sqe, fd, NULL, 0, bytes);
        io_commit(loop, op, sqe);
}

void io_read(struct io_loop *loop, struct io_op *op, int fd, void *buffer, size_t bytes, uint64_t offset)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_read(sqe, fd, buffer, (unsigned)io_clamp(bytes), offset);
        io_aside(sqe);
        io_commit(loop, op, sqe);
}

void io_write(struct io_loop *loop, struct io_op *op, int fd, const void *buffer, size_t bytes, uint64_t offset)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_write(sqe, fd, buffer, (unsigned)io_clamp(bytes), offset);
        io_aside(sqe);
        io_commit(loop, op, sqe);
}

void io_fdatasync(struct io_loop *loop, struct io_op *op, int fd)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        io_commit(loop, op, sqe);
}

void io_sync_directory(struct io_loop *loop, struct io_op *op, int directory_fd)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_fsync(sqe, directory_fd, 0);
        io_commit(loop, op, sqe);
}

void io_poll(struct io_loop *loop, struct io_op *op, int fd, short events)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        io_uring_prep_poll_add(sqe, fd, (unsigned)(unsigned short)events);
        io_commit(loop, op, sqe);
}

void io_timer(struct io_loop *loop, struct io_op *op, uint64_t deadline_monotonic_ns)
{
        struct io_uring_sqe *sqe = io_begin(loop, op);
        /* The kernel copies it when the entry is submitted, which may be later: it lives in the op. */
        op->when.tv_sec = (long long)(deadline_monotonic_ns / 1000000000u);
        op->when.tv_nsec = (long long)(deadline_monotonic_ns % 1000000000u);
        io_uring_prep_timeout(sqe, &op->when, 0, IORING_TIMEOUT_ABS);
        io_commit(loop, op, sqe);
}

void io_cancel(struct io_loop *loop, struct io_op *op)
{
        if (!op->submitted)
                return;
        /* Entries run in the order in which they were queued, so this cannot hit a later submission of the same op. */
        struct io_uring_sqe *sqe = io_sqe(loop);
        io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)op, 0);
        io_uring_sqe_set_data64(sqe, IO_TAG_IGNORE);
}

/* ---------------------------------------------------------------------------------------------- sockets */

int io_socket(int family)
{
        int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
        int yes = 1;
        if (fd >= 0)
                (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)); /* only slower without */
        return fd;
}

void io_socket_shutdown(int fd)
{
        (void)shutdown(fd, SHUT_RDWR); /* fails where there is no connection yet: then a cancel works */
}

void io_socket_close(int fd)
{
        (void)close(fd); /* whatever it says, the descriptor is gone */
}
