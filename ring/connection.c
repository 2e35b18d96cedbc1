/* Connections of producers: who is there, and how they end. What a producer has sent and nobody has read may hold
 * descriptors, and the last close of some of them waits: a socket with SO_LINGER for as long as its owner pleases. The
 * kernel closes them in the thread that ends the connection, which here must never be one that works.
 *
 * Since Linux 6.16 nobody can send us any: ring_listen_open() switches that off, and every accepted connection inherits
 * it. Before that the connection ends with a thread: one that is exiting closes without lingering. */
#include "ring/ring_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

void ring_connection_refuse_rights(int fd)
{
        int off = 0;
        (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)); /* an older kernel: see above */
}

static bool ring_connection_passes_rights(int fd)
{
        int on = 1;
        socklen_t size = sizeof(on);
        return getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &on, &size) != 0 || on != 0;
}

struct ring_ending {
        int fd;
        sem_t copied; /* the thread has its own table of descriptors */
        sem_t closed; /* the process has closed the connection: the thread's is the last */
};

static void ring_semaphore_wait(sem_t *semaphore)
{
        while (sem_wait(semaphore) < 0 && errno == EINTR)
                ;
}

static void *ring_ending_main(void *context)
{
        struct ring_ending *ending = context;
        bool own = unshare(CLONE_FILES) == 0;
        (void)sem_post(&ending->copied); /* cannot overflow */
        if (own) {
                /* Nothing else shall live as long as this thread. None of these is the last: the process has them. */
                if (ending->fd > 0)
                        (void)syscall(SYS_close_range, 0, ending->fd - 1, 0);
                (void)syscall(SYS_close_range, ending->fd + 1, UINT_MAX, 0);
        }
        ring_semaphore_wait(&ending->closed);
        (void)sem_destroy(&ending->copied);
        (void)sem_destroy(&ending->closed);
        free(ending);
        return NULL; /* and with it the connection ends */
}

/* False: no thread could be had. */
static bool ring_connection_end_aside(int fd)
{
        pthread_attr_t attributes;
        pthread_t thread;
        struct ring_ending *ending = malloc(sizeof(*ending));
        if (ending == NULL)
                return false;
        ending->fd = fd;
        (void)sem_init(&ending->copied, 0, 0); /* these cannot fail with 0 */
        (void)sem_init(&ending->closed, 0, 0);
        bool started = false;
        if (pthread_attr_init(&attributes) == 0) {
                (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED); /* a valid value */
                started = pthread_create(&thread, &attributes, ring_ending_main, ending) == 0;
                (void)pthread_attr_destroy(&attributes); /* as above */
        }
        if (!started) {
                (void)sem_destroy(&ending->copied);
                (void)sem_destroy(&ending->closed);
                free(ending);
                return false;
        }
        ring_semaphore_wait(&ending->copied);
        (void)close(fd);                 /* not the last */
        (void)sem_post(&ending->closed); /* from here on `ending` is the thread's */
        return true;
}

void ring_connection_close(int *fd)
{
        if (*fd >= 0 && (!ring_connection_passes_rights(*fd) || !ring_connection_end_aside(*fd)))
                (void)close(*fd); /* nothing was promised on it any more */
        *fd = -1;
}

ssize_t ring_connection_peek(int fd, void *bytes, size_t bytes_count, bool *ret_descriptors)
{
        struct iovec part = {.iov_base = bytes, .iov_len = bytes_count};
        struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t got = recvmsg(fd, &header, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
        *ret_descriptors = got >= 0 && (header.msg_flags & MSG_CTRUNC) != 0; /* there was no room for them */
        return got;
}

bool ring_connection_is_unread(int fd)
{
        int unread_bytes = 0;
        /* A kernel that cannot tell: then what its socket holds is the bound. Less than a message: just being freed. */
        return ioctl(fd, SIOCOUTQ, &unread_bytes) == 0 && unread_bytes >= (int)sizeof(struct ring_message);
}

int ring_connection_pidfd(int fd, const struct ucred *peer)
{
        int pidfd = -1;
        socklen_t size = sizeof(pidfd);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0 && pidfd >= 0) {
                (void)fcntl(pidfd, F_SETFD, FD_CLOEXEC); /* it is already, by the kernel */
                return pidfd;
        }
        if (peer->pid <= 0)
                return -1;
        pidfd = (int)syscall(SYS_pidfd_open, peer->pid, 0);
        if (pidfd < 0)
                return -1;
        struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};
        if (poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) {
                (void)close(pidfd); /* perhaps another process with the same number */
                return -1;
        }
        return pidfd;
}
