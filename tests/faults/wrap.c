#include "tests/faults/wrap.h"

#include "io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* So many submissions fail at most, see fault_now(). */
#define FAULT_RING_LASTS 300u

static _Atomic(struct fault_plan *) fault_plan;

const char *fault_family_name(enum fault_family family)
{
        static const char *const names[FAULT_FAMILIES] = {
                [FAULT_NONE] = "none",     [FAULT_MEMORY] = "memory",   [FAULT_MAP] = "map",
                [FAULT_OPEN] = "open",     [FAULT_ROOM] = "room",       [FAULT_WRITE] = "write",
                [FAULT_READ] = "read",     [FAULT_SYNC] = "sync",       [FAULT_THREAD] = "thread",
                [FAULT_HANDLE] = "handle", [FAULT_CONNECT] = "connect", [FAULT_RING] = "ring",
                [FAULT_ASKED] = "asked",
        };
        return names[family];
}

void fault_arm(struct fault_plan *plan)
{
        atomic_store(&fault_plan, plan);
}

static bool fault_now(enum fault_family family)
{
        struct fault_plan *plan = atomic_load_explicit(&fault_plan, memory_order_acquire);
        if (plan == NULL || plan->family != family)
                return false;
        uint64_t call = atomic_fetch_add(&plan->calls, 1) + 1;
        bool fails = plan->lasting ? call >= plan->nth : call == plan->nth;
        /* A kernel that never takes a submission again is one that nothing can be asked of, not even to end. */
        if (plan->lasting && family == FAULT_RING && call - plan->nth >= FAULT_RING_LASTS)
                fails = false;
        if (fails)
                atomic_fetch_add(&plan->failed, 1);
        return fails;
}

/* WRAP(type, name, parameters, arguments, family, what fails) */
#define FAULT_WRAP(type, name, parameters, arguments, family, ...) \
        type __real_##name parameters;                             \
        type __wrap_##name parameters;                             \
        type __wrap_##name parameters                              \
        {                                                          \
                if (fault_now(family)) {                           \
                        __VA_ARGS__;                               \
                }                                                  \
                return __real_##name arguments;                    \
        }
#define FAULT_ERRNO(number, result) \
        errno = (number);           \
        return (result)

FAULT_WRAP(void *, malloc, (size_t bytes), (bytes), FAULT_MEMORY, FAULT_ERRNO(ENOMEM, NULL))
FAULT_WRAP(void *, calloc, (size_t count, size_t bytes), (count, bytes), FAULT_MEMORY, FAULT_ERRNO(ENOMEM, NULL))
FAULT_WRAP(void *, realloc, (void *old, size_t bytes), (old, bytes), FAULT_MEMORY, FAULT_ERRNO(ENOMEM, NULL))
FAULT_WRAP(void *, aligned_alloc, (size_t align, size_t bytes), (align, bytes), FAULT_MEMORY, FAULT_ERRNO(ENOMEM, NULL))
FAULT_WRAP(char *, strdup, (const char *text), (text), FAULT_MEMORY, FAULT_ERRNO(ENOMEM, NULL))
FAULT_WRAP(char *, strndup, (const char *text, size_t len), (text, len), FAULT_MEMORY, FAULT_ERRNO(ENOMEM, NULL))
FAULT_WRAP(void *, mmap64, (void *at, size_t bytes, int protection, int flags, int fd, off_t offset),
           (at, bytes, protection, flags, fd, offset), FAULT_MAP, FAULT_ERRNO(ENOMEM, (void *)-1))
FAULT_WRAP(int, madvise, (void *at, size_t bytes, int advice), (at, bytes, advice), FAULT_MAP, FAULT_ERRNO(ENOMEM, -1))

int __wrap_asprintf(char **ret_text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **ret_text, const char *format, ...)
{
        if (fault_now(FAULT_MEMORY)) {
                FAULT_ERRNO(ENOMEM, -1);
        }
        va_list args;
        va_start(args, format);
        int used = vasprintf(ret_text, format, args);
        va_end(args);
        return used;
}

int __real_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
        va_list args;
        va_start(args, flags);
        mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
        va_end(args);
        if (fault_now(FAULT_OPEN)) {
                FAULT_ERRNO(EIO, -1);
        }
        return __real_open64(path, flags, mode);
}

int __real_openat64(int directory_fd, const char *path, int flags, mode_t mode);
int __wrap_openat64(int directory_fd, const char *path, int flags, ...);
int __wrap_openat64(int directory_fd, const char *path, int flags, ...)
{
        va_list args;
        va_start(args, flags);
        mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
        va_end(args);
        if (fault_now(FAULT_OPEN)) {
                FAULT_ERRNO(EIO, -1);
        }
        return __real_openat64(directory_fd, path, flags, mode);
}

/* Calls that both of two families fail. */
#define FAULT_WRAP_BOTH(type, name, parameters, arguments, what_room, what_write) \
        type __real_##name parameters;                                            \
        type __wrap_##name parameters;                                            \
        type __wrap_##name parameters                                             \
        {                                                                         \
                if (fault_now(FAULT_ROOM)) {                                      \
                        what_room;                                                \
                }                                                                 \
                if (fault_now(FAULT_WRITE)) {                                     \
                        what_write;                                               \
                }                                                                 \
                return __real_##name arguments;                                   \
        }
#define FAULT_NO_ROOM           \
        do {                    \
                errno = ENOSPC; \
                return -1;      \
        } while (0)
#define FAULT_IO             \
        do {                 \
                errno = EIO; \
                return -1;   \
        } while (0)
FAULT_WRAP_BOTH(ssize_t, pwrite64, (int fd, const void *from, size_t bytes, off_t offset), (fd, from, bytes, offset),
                FAULT_NO_ROOM, FAULT_IO)
FAULT_WRAP_BOTH(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), FAULT_NO_ROOM,
                FAULT_IO)
FAULT_WRAP_BOTH(int, fallocate64, (int fd, int mode, off_t offset, off_t bytes), (fd, mode, offset, bytes),
                FAULT_NO_ROOM, FAULT_IO)
FAULT_WRAP_BOTH(int, ftruncate64, (int fd, off_t bytes), (fd, bytes), FAULT_NO_ROOM, FAULT_IO)
FAULT_WRAP_BOTH(int, mkdir, (const char *path, mode_t mode), (path, mode), FAULT_NO_ROOM, FAULT_IO)
FAULT_WRAP_BOTH(int, mkdirat, (int directory_fd, const char *path, mode_t mode), (directory_fd, path, mode),
                FAULT_NO_ROOM, FAULT_IO)
FAULT_WRAP_BOTH(int, posix_fallocate64, (int fd, off_t offset, off_t bytes), (fd, offset, bytes), return ENOSPC,
                return EIO)
FAULT_WRAP(int, rename, (const char *from, const char *to), (from, to), FAULT_WRITE, FAULT_ERRNO(EIO, -1))
FAULT_WRAP(int, renameat, (int from_fd, const char *from, int to_fd, const char *to), (from_fd, from, to_fd, to),
           FAULT_WRITE, FAULT_ERRNO(EIO, -1))
FAULT_WRAP(int, renameat2, (int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
           (from_fd, from, to_fd, to, flags), FAULT_WRITE, FAULT_ERRNO(EIO, -1))
FAULT_WRAP(int, unlink, (const char *path), (path), FAULT_WRITE, FAULT_ERRNO(EIO, -1))
FAULT_WRAP(int, unlinkat, (int directory_fd, const char *path, int flags), (directory_fd, path, flags), FAULT_WRITE,
           FAULT_ERRNO(EIO, -1))

FAULT_WRAP(ssize_t, pread64, (int fd, void *to, size_t bytes, off_t offset), (fd, to, bytes, offset), FAULT_READ,
           FAULT_ERRNO(EIO, -1))
FAULT_WRAP(int, fstat64, (int fd, struct stat *status), (fd, status), FAULT_READ, FAULT_ERRNO(EIO, -1))
FAULT_WRAP(int, lstat64, (const char *path, struct stat *status), (path, status), FAULT_READ, FAULT_ERRNO(EIO, -1))
FAULT_WRAP(int, flock, (int fd, int operation), (fd, operation), FAULT_READ, FAULT_ERRNO(EIO, -1))
FAULT_WRAP(void *, opendir, (const char *path), (path), FAULT_READ, FAULT_ERRNO(EIO, NULL))
FAULT_WRAP(void *, fdopendir, (int fd), (fd), FAULT_READ, FAULT_ERRNO(EIO, NULL))

FAULT_WRAP(int, fdatasync, (int fd), (fd), FAULT_SYNC, FAULT_ERRNO(EIO, -1))
FAULT_WRAP(int, fsync, (int fd), (fd), FAULT_SYNC, FAULT_ERRNO(EIO, -1))

FAULT_WRAP(int, pthread_create,
           (pthread_t * thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument),
           (thread, attributes, body, argument), FAULT_THREAD, return EAGAIN)

FAULT_WRAP(int, socket, (int family, int type, int protocol), (family, type, protocol), FAULT_HANDLE,
           FAULT_ERRNO(EMFILE, -1))
FAULT_WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t bytes), (fd, address, bytes), FAULT_HANDLE,
           FAULT_ERRNO(EACCES, -1))
FAULT_WRAP(int, listen, (int fd, int backlog), (fd, backlog), FAULT_HANDLE, FAULT_ERRNO(ENOBUFS, -1))
FAULT_WRAP(int, accept4, (int fd, struct sockaddr *address, socklen_t *bytes, int flags), (fd, address, bytes, flags),
           FAULT_HANDLE, FAULT_ERRNO(EMFILE, -1))
FAULT_WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags), FAULT_HANDLE,
           FAULT_ERRNO(ENOBUFS, -1))
FAULT_WRAP(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags), FAULT_HANDLE,
           FAULT_ERRNO(ENOMEM, -1))
FAULT_WRAP(ssize_t, recv, (int fd, void *to, size_t bytes, int flags), (fd, to, bytes, flags), FAULT_HANDLE,
           FAULT_ERRNO(ENOMEM, -1))
FAULT_WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *bytes),
           (fd, level, name, value, bytes), FAULT_HANDLE, FAULT_ERRNO(ENOBUFS, -1))
FAULT_WRAP(int, eventfd, (unsigned count, int flags), (count, flags), FAULT_HANDLE, FAULT_ERRNO(EMFILE, -1))
FAULT_WRAP(int, timerfd_create, (int clock, int flags), (clock, flags), FAULT_HANDLE, FAULT_ERRNO(EMFILE, -1))
FAULT_WRAP(int, signalfd, (int fd, const void *mask, int flags), (fd, mask, flags), FAULT_HANDLE,
           FAULT_ERRNO(EMFILE, -1))
FAULT_WRAP(int, epoll_create1, (int flags), (flags), FAULT_HANDLE, FAULT_ERRNO(EMFILE, -1))
FAULT_WRAP(int, epoll_ctl, (int epoll_fd, int operation, int fd, struct epoll_event *event),
           (epoll_fd, operation, fd, event), FAULT_HANDLE, FAULT_ERRNO(ENOSPC, -1))
FAULT_WRAP(int, memfd_create, (const char *name, unsigned flags), (name, flags), FAULT_HANDLE, FAULT_ERRNO(EMFILE, -1))

int __real_fcntl64(int fd, int command, void *argument);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
        va_list args;
        va_start(args, command);
        void *argument = va_arg(args, void *); /* whatever it is: it goes on as it came */
        va_end(args);
        if (fault_now(FAULT_HANDLE)) {
                FAULT_ERRNO(EMFILE, -1);
        }
        return __real_fcntl64(fd, command, argument);
}

FAULT_WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t bytes), (fd, address, bytes), FAULT_CONNECT,
           FAULT_ERRNO(ECONNREFUSED, -1))
FAULT_WRAP(int, io_socket, (int family), (family), FAULT_CONNECT, FAULT_ERRNO(EMFILE, -1))

FAULT_WRAP(int, io_uring_queue_init_params,
           (unsigned entries, struct io_uring *ring, struct io_uring_params *parameters), (entries, ring, parameters),
           FAULT_RING, return -ENOMEM)
FAULT_WRAP(struct io_uring_probe *, io_uring_get_probe_ring, (struct io_uring * ring), (ring), FAULT_RING, return NULL)
FAULT_WRAP(int, io_uring_submit, (struct io_uring * ring), (ring), FAULT_RING, return -EAGAIN)
FAULT_WRAP(int, io_uring_submit_and_wait, (struct io_uring * ring, unsigned count), (ring, count), FAULT_RING,
           return -EAGAIN)
FAULT_WRAP(int, io_uring_submit_and_wait_timeout,
           (struct io_uring * ring, struct io_uring_cqe **cqe, unsigned count, struct __kernel_timespec *timeout,
            sigset_t *mask),
           (ring, cqe, count, timeout, mask), FAULT_RING, return -EAGAIN)
FAULT_WRAP(int, io_uring_submit_and_get_events, (struct io_uring * ring), (ring), FAULT_RING, return -EAGAIN)

/* What the kernel answers to an operation on a descriptor that is none. */
#define FAULT_ASK(name, parameters, family, good, bad) \
        void __real_##name parameters;                 \
        void __wrap_##name parameters;                 \
        void __wrap_##name parameters                  \
        {                                              \
                if (fault_now(family))                 \
                        __real_##name bad;             \
                else                                   \
                        __real_##name good;            \
        }
/* The same, by a read. */
#define FAULT_ASK_READ(name, parameters, family, good)                \
        void __real_##name parameters;                                \
        void __wrap_##name parameters;                                \
        void __wrap_##name parameters                                 \
        {                                                             \
                if (fault_now(family))                                \
                        __real_io_read(loop, op, -1, &nothing, 1, 0); \
                else                                                  \
                        __real_##name good;                           \
        }
static uint8_t nothing;
FAULT_ASK(io_read, (struct io_loop * loop, struct io_op *op, int fd, void *buffer, size_t bytes, uint64_t offset),
          FAULT_READ, (loop, op, fd, buffer, bytes, offset), (loop, op, -1, buffer, bytes, offset))
FAULT_ASK_READ(io_open, (struct io_loop * loop, struct io_op *op, const char *path, int flags, mode_t mode), FAULT_OPEN,
               (loop, op, path, flags, mode))
FAULT_ASK_READ(io_stat, (struct io_loop * loop, struct io_op *op, int fd, struct statx *ret_status), FAULT_READ,
               (loop, op, fd, ret_status))
FAULT_ASK_READ(io_stat_path, (struct io_loop * loop, struct io_op *op, const char *path, struct statx *ret_status),
               FAULT_READ, (loop, op, path, ret_status))
FAULT_ASK_READ(io_rename, (struct io_loop * loop, struct io_op *op, const char *from, const char *to, bool replace),
               FAULT_WRITE, (loop, op, from, to, replace))
FAULT_ASK(io_truncate, (struct io_loop * loop, struct io_op *op, int fd, uint64_t bytes), FAULT_WRITE,
          (loop, op, fd, bytes), (loop, op, -1, bytes))
FAULT_ASK(io_connect,
          (struct io_loop * loop, struct io_op *op, int fd, const struct sockaddr *address, socklen_t bytes),
          FAULT_CONNECT, (loop, op, fd, address, bytes), (loop, op, -1, address, bytes))
FAULT_ASK(io_fdatasync, (struct io_loop * loop, struct io_op *op, int fd), FAULT_SYNC, (loop, op, fd), (loop, op, -1))
FAULT_ASK(io_sync_directory, (struct io_loop * loop, struct io_op *op, int directory_fd), FAULT_SYNC,
          (loop, op, directory_fd), (loop, op, -1))
FAULT_ASK(io_write,
          (struct io_loop * loop, struct io_op *op, int fd, const void *buffer, size_t bytes, uint64_t offset),
          FAULT_ASKED, (loop, op, fd, buffer, bytes, offset), (loop, op, -1, buffer, bytes, offset))
FAULT_ASK(io_send, (struct io_loop * loop, struct io_op *op, int fd, const void *buffer, size_t bytes), FAULT_ASKED,
          (loop, op, fd, buffer, bytes), (loop, op, -1, buffer, bytes))
FAULT_ASK(io_recv, (struct io_loop * loop, struct io_op *op, int fd, void *buffer, size_t bytes), FAULT_ASKED,
          (loop, op, fd, buffer, bytes), (loop, op, -1, buffer, bytes))
