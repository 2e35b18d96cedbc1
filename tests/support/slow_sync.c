/* LD_PRELOAD=slow_sync.so: on threads whose name begins with $SLOW_SYNC_THREAD ("worker"), a call that waits for the
 * disk to have written a file whose path contains $SLOW_SYNC_PATH takes two seconds more, and so does writing more than
 * 64 KiB into one. With $SLOW_CALLS_PATH so does any call that looks for such a file, opens, reads, cuts, renames or
 * closes one. What goes through io_uring is not seen here: that waits on a thread of the kernel's. For system tests. */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define SLOW_SECONDS     2
#define SLOW_WRITE_BYTES 65536u

__attribute__((visibility("default"))) int fdatasync(int fd);
__attribute__((visibility("default"))) int fsync(int fd);
__attribute__((visibility("default"))) ssize_t writev(int fd, const struct iovec *parts, int count);
__attribute__((visibility("default"))) ssize_t pwrite(int fd, const void *from, size_t bytes, off_t offset);

__attribute__((visibility("default"))) int open(const char *path, int flags, ...);
__attribute__((visibility("default"))) int openat(int directory_fd, const char *path, int flags, ...);
__attribute__((visibility("default"))) int close(int fd);
__attribute__((visibility("default"))) int fstat(int fd, struct stat *status);
__attribute__((visibility("default"))) int lstat(const char *path, struct stat *status);
__attribute__((visibility("default"))) ssize_t pread(int fd, void *to, size_t bytes, off_t offset);
__attribute__((visibility("default"))) int ftruncate(int fd, off_t bytes);
__attribute__((visibility("default"))) int renameat(int from_fd, const char *from, int to_fd, const char *to);
__attribute__((visibility("default"))) int renameat2(int from_fd, const char *from, int to_fd, const char *to,
                                                     unsigned flags);

static void slow_path(const char *variable, const char *path)
{
        const char *thread = getenv("SLOW_SYNC_THREAD"), *wanted = getenv(variable);
        char name[32] = "";
        if (thread == NULL || wanted == NULL || pthread_getname_np(pthread_self(), name, sizeof(name)) != 0 ||
            strncmp(name, thread, strlen(thread)) != 0)
                return;
        if (strstr(path, wanted) != NULL)
                (void)sleep(SLOW_SECONDS);
}

static void slow_fd(const char *variable, int fd)
{
        char link[64], path[4096];
        if (getenv(variable) == NULL)
                return;
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t bytes = readlink(link, path, sizeof(path) - 1);
        path[bytes > 0 ? bytes : 0] = '\0';
        slow_path(variable, path);
}

static void slow(int fd)
{
        slow_fd("SLOW_SYNC_PATH", fd);
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

/* By their names with 64 at the end as well. */

int open(const char *path, int flags, ...)
{
        static int (*next)(const char *, int, ...);
        va_list args;
        va_start(args, flags);
        unsigned mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, unsigned) : 0;
        va_end(args);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "open64");
        slow_path("SLOW_CALLS_PATH", path);
        return next(path, flags, mode);
}

int openat(int directory_fd, const char *path, int flags, ...)
{
        static int (*next)(int, const char *, int, ...);
        va_list args;
        va_start(args, flags);
        unsigned mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, unsigned) : 0;
        va_end(args);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "openat64");
        slow_path("SLOW_CALLS_PATH", path);
        return next(directory_fd, path, flags, mode);
}

int fstat(int fd, struct stat *status)
{
        static int (*next)(int, struct stat *);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "fstat64");
        slow_fd("SLOW_CALLS_PATH", fd);
        return next(fd, status);
}

int lstat(const char *path, struct stat *status)
{
        static int (*next)(const char *, struct stat *);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "lstat64");
        slow_path("SLOW_CALLS_PATH", path);
        return next(path, status);
}

ssize_t pread(int fd, void *to, size_t bytes, off_t offset)
{
        static ssize_t (*next)(int, void *, size_t, off_t);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "pread64");
        slow_fd("SLOW_CALLS_PATH", fd);
        return next(fd, to, bytes, offset);
}

int ftruncate(int fd, off_t bytes)
{
        static int (*next)(int, off_t);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "ftruncate64");
        slow_fd("SLOW_CALLS_PATH", fd);
        return next(fd, bytes);
}

/* These have one name. */

int close(int fd)
{
        static int (*next)(int);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "close");
        slow_fd("SLOW_CALLS_PATH", fd);
        return next(fd);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
        static int (*next)(int, const char *, int, const char *);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "renameat");
        slow_path("SLOW_CALLS_PATH", from);
        return next(from_fd, from, to_fd, to);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
        static int (*next)(int, const char *, int, const char *, unsigned);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "renameat2");
        slow_path("SLOW_CALLS_PATH", from);
        return next(from_fd, from, to_fd, to, flags);
}
