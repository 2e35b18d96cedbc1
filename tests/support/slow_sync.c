/* LD_PRELOAD=slow_sync.so: on threads whose name begins with $SLOW_SYNC_THREAD ("worker"), a call that waits for the
 * disk to have written a file whose path contains $SLOW_SYNC_PATH takes two seconds more, and so does writing more than
 * 64 KiB into one. What goes through io_uring is not seen here: that waits on a thread of the kernel's. For system
 * tests. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define SLOW_SECONDS     2
#define SLOW_WRITE_BYTES 65536u

__attribute__((visibility("default"))) int fdatasync(int fd);
__attribute__((visibility("default"))) int fsync(int fd);
__attribute__((visibility("default"))) ssize_t writev(int fd, const struct iovec *parts, int count);
__attribute__((visibility("default"))) ssize_t pwrite(int fd, const void *from, size_t bytes, off_t offset);

static void slow(int fd)
{
        const char *thread = getenv("SLOW_SYNC_THREAD"), *wanted = getenv("SLOW_SYNC_PATH");
        char name[32] = "", link[64], path[4096];
        if (thread == NULL || wanted == NULL || pthread_getname_np(pthread_self(), name, sizeof(name)) != 0 ||
            strncmp(name, thread, strlen(thread)) != 0)
                return;
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t bytes = readlink(link, path, sizeof(path) - 1);
        path[bytes > 0 ? bytes : 0] = '\0';
        if (strstr(path, wanted) != NULL)
                (void)sleep(SLOW_SECONDS);
}

int fdatasync(int fd)
{
        static int (*next)(int);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
        slow(fd);
        return next(fd);
}

int fsync(int fd)
{
        static int (*next)(int);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "fsync");
        slow(fd);
        return next(fd);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
        static ssize_t (*next)(int, const struct iovec *, int);
        size_t bytes = 0;
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "writev");
        for (int i = 0; i < count; i++)
                bytes += parts[i].iov_len;
        if (bytes > SLOW_WRITE_BYTES)
                slow(fd);
        return next(fd, parts, count);
}

/* By the name pwrite64, as everything here is compiled. */
ssize_t pwrite(int fd, const void *from, size_t bytes, off_t offset)
{
        static ssize_t (*next)(int, const void *, size_t, off_t);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "pwrite64");
        if (bytes > SLOW_WRITE_BYTES)
                slow(fd);
        return next(fd, from, bytes, offset);
}
