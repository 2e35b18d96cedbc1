#include "io/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

int disk_open(int directory_fd, const char *path, int flags, mode_t mode)
{
        return openat(directory_fd, path, flags | O_CLOEXEC, mode);
}

int disk_close(int fd)
{
        return close(fd);
}

int disk_lock(int fd)
{
        return flock(fd, LOCK_EX | LOCK_NB);
}

int disk_stat(int fd, struct stat *ret_status)
{
        return fstat(fd, ret_status);
}

int disk_stat_path(const char *path, struct stat *ret_status)
{
        return lstat(path, ret_status);
}

ssize_t disk_read(int fd, void *to, size_t bytes, uint64_t offset)
{
        return pread(fd, to, bytes, (off_t)offset);
}

ssize_t disk_write(int fd, const void *from, size_t bytes, uint64_t offset)
{
        return pwrite(fd, from, bytes, (off_t)offset);
}

int disk_truncate(int fd, uint64_t bytes)
{
        return ftruncate(fd, (off_t)bytes);
}

int disk_append(int fd, bool appends)
{
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return -1;
        return fcntl(fd, F_SETFL, appends ? flags | O_APPEND : flags & ~O_APPEND);
}

int disk_allocate(int fd, uint64_t bytes)
{
        return posix_fallocate(fd, 0, (off_t)bytes);
}

int disk_zero(int fd, uint64_t offset, uint64_t bytes)
{
#ifdef FALLOC_FL_ZERO_RANGE
        return fallocate(fd, FALLOC_FL_ZERO_RANGE, (off_t)offset, (off_t)bytes);
#else
        (void)fd;
        (void)offset;
        (void)bytes;
        errno = EOPNOTSUPP;
        return -1;
#endif
}

int disk_sync(int fd)
{
        return fdatasync(fd);
}

int disk_sync_directory(int directory_fd)
{
        int result = fsync(directory_fd);
        return result < 0 && (errno == EINVAL || errno == ENOTSUP) ? 0 : result;
}

void *disk_map(int fd, uint64_t bytes, bool writable)
{
        void *map = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return NULL;
        if (disk_guard(map, bytes, writable))
                return map;
        (void)munmap(map, bytes); /* cannot fail for our own mapping */
        errno = ENOMEM;
        return NULL;
}

void disk_unmap(void *map, uint64_t bytes)
{
        disk_guard_forget(map);
        (void)munmap(map, bytes); /* cannot fail for our own mapping */
}

int disk_populate(void *map, uint64_t bytes)
{
#ifdef MADV_POPULATE_WRITE
        return madvise(map, bytes, MADV_POPULATE_WRITE);
#else
        (void)map;
        (void)bytes;
        errno = EINVAL;
        return -1;
#endif
}

void disk_will_read_in_order(void *map, uint64_t bytes)
{
        (void)madvise(map, bytes, MADV_SEQUENTIAL); /* advice */
}

int disk_rename(int from_directory_fd, const char *from, int to_directory_fd, const char *to, bool replace)
{
        if (replace)
                return renameat(from_directory_fd, from, to_directory_fd, to);
        if (renameat2(from_directory_fd, from, to_directory_fd, to, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno != EINVAL && errno != ENOSYS)
                return -1;
        /* A file system without that flag: look first. */
        struct stat status;
        if (fstatat(to_directory_fd, to, &status, AT_SYMLINK_NOFOLLOW) == 0) {
                errno = EEXIST;
                return -1;
        }
        return renameat(from_directory_fd, from, to_directory_fd, to);
}

int disk_unlink(int directory_fd, const char *path)
{
        return unlinkat(directory_fd, path, 0);
}

int disk_make_directory(int directory_fd, const char *path)
{
        return mkdirat(directory_fd, path, 0700);
}

/* A DIR by another name: nothing of ours to keep. */
struct disk_list *disk_list_open(int directory_fd, const char *path)
{
        int fd = openat(directory_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return NULL;
        DIR *directory = fdopendir(fd);
        if (directory == NULL) {
                int sys_errno = errno;
                (void)close(fd); /* a directory: nothing is buffered */
                errno = sys_errno;
        }
        return (struct disk_list *)(void *)directory;
}

const char *disk_list_next(struct disk_list *list)
{
        const struct dirent *entry;
        do {
                errno = 0;
                entry = readdir((DIR *)(void *)list);
        } while (entry != NULL && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
        return entry == NULL ? NULL : entry->d_name;
}

void disk_list_close(struct disk_list *list)
{
        (void)closedir((DIR *)(void *)list); /* read only */
}
