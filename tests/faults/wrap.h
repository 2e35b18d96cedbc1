/* The nth call of a family fails: every call of our own code is linked as a wrapper (-Wl,--wrap) that counts, but not
 * what libraries call by themselves. What an io_uring is asked for fails as on a descriptor that is none (EBADF). Armed
 * per process. */
#ifndef SENDRING_TESTS_FAULTS_WRAP_H
#define SENDRING_TESTS_FAULTS_WRAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum fault_family {
        FAULT_NONE,
        FAULT_MEMORY,  /* malloc, calloc, realloc, aligned_alloc, strdup, strndup, asprintf: out of memory */
        FAULT_MAP,     /* mmap, madvise: out of memory */
        FAULT_OPEN,    /* open, openat: EIO; io_open */
        FAULT_ROOM,    /* posix_fallocate, pwrite, writev to files, ftruncate, mkdir: no space left */
        FAULT_WRITE,   /* the same: EIO, and renames and unlinks; io_rename, io_truncate */
        FAULT_READ,    /* pread, fstat, flock, readdir by opendir: EIO; io_read, io_stat, io_stat_path */
        FAULT_SYNC,    /* fdatasync, fsync: EIO; io_fdatasync, io_sync_directory */
        FAULT_THREAD,  /* pthread_create: EAGAIN */
        FAULT_HANDLE,  /* socket, bind, listen, accept4, eventfd, timerfd, signalfd, epoll, memfd, fcntl, getsockopt,
                        * messages: EMFILE and the like */
        FAULT_CONNECT, /* connections of the egress, io_connect and io_socket, and of a producer: refused */
        FAULT_RING,    /* setting up an io_uring: ENOMEM; submitting to one: EAGAIN, some hundred times at most */
        FAULT_ASKED,   /* operations handed to an io_uring: write, send, recv fail */
        FAULT_FAMILIES
};

/* Shared by the processes of a run. */
struct fault_plan {
        enum fault_family family;
        uint64_t nth;           /* of the family's calls, from 1 */
        bool lasting;           /* it and every later one */
        _Atomic uint64_t calls; /* of the family */
        _Atomic uint64_t failed;
};

const char *fault_family_name(enum fault_family family);
/* From now on, in this process; NULL: no more faults. */
void fault_arm(struct fault_plan *plan);

#endif
