/* What the disk has of the log's files, beside what the kernel has: see cuts.h. */
#include "io/disk.h"
#include "tests/cuts/cuts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DISK_PAGE_BYTES   4096u
#define DISK_SECTOR_BYTES 512u
#define DISK_PATH_BYTES   400u
#define DISK_CHANGES_MAX  4096u

enum disk_change_kind { DISK_MADE, DISK_RENAMED, DISK_REMOVED };
struct disk_change {
        enum disk_change_kind kind;
        char from[64], to[64];
};

unsigned cuts_sync_fails_percent;
static const char *log_directory, *aside_directory;
static struct disk_change changes[DISK_CHANGES_MAX]; /* of names, since the directory was synced */
static unsigned changes_count;

int __real_disk_open(int directory_fd, const char *path, int flags, mode_t mode);
int __real_disk_sync(int fd);
int __real_disk_sync_directory(int directory_fd);
int __real_disk_rename(int from_fd, const char *from, int to_fd, const char *to, bool replace);
int __real_disk_unlink(int directory_fd, const char *path);
int __wrap_disk_open(int directory_fd, const char *path, int flags, mode_t mode);
int __wrap_disk_sync(int fd);
int __wrap_disk_sync_directory(int directory_fd);
int __wrap_disk_rename(int from_fd, const char *from, int to_fd, const char *to, bool replace);
int __wrap_disk_unlink(int directory_fd, const char *path);

/* A path in the log's directory. */
static const char *log_path(const char *name, char out[DISK_PATH_BYTES])
{
        (void)snprintf(out, DISK_PATH_BYTES, "%s/%s", log_directory, name);
        return out;
}

/* What the disk has of a file, which keeps its number under every name. */
static const char *synced_path(ino_t inode, char out[DISK_PATH_BYTES])
{
        (void)snprintf(out, DISK_PATH_BYTES, "%s/synced-%llu", aside_directory, (unsigned long long)inode);
        return out;
}

/* Where a removed file lies until its directory is synced. */
static const char *removed_path(unsigned change, char out[DISK_PATH_BYTES])
{
        (void)snprintf(out, DISK_PATH_BYTES, "%s/removed-%u", aside_directory, change);
        return out;
}

static int open_or_fail(const char *path, int flags)
{
        int fd = open(path, flags | O_CLOEXEC, 0600);
        if (fd < 0)
                cuts_fail("cannot open %s: %s", path, strerror(errno));
        return fd;
}

static void note_change(enum disk_change_kind kind, const char *from, const char *to)
{
        if (changes_count == DISK_CHANGES_MAX)
                cuts_fail("more than %u names were changed between two syncs of the directory", DISK_CHANGES_MAX);
        struct disk_change *change = &changes[changes_count++];
        change->kind = kind;
        (void)snprintf(change->from, sizeof(change->from), "%s", from);
        (void)snprintf(change->to, sizeof(change->to), "%s", to);
}

static void names_are_synced(void)
{
        char path[DISK_PATH_BYTES];
        for (unsigned i = 0; i < changes_count; i++)
                if (changes[i].kind == DISK_REMOVED)
                        (void)unlink(removed_path(i, path)); /* gone for good */
        changes_count = 0;
}

static void content_is_synced(int fd)
{
        static uint8_t chunk[1 << 20];
        struct stat status;
        char path[DISK_PATH_BYTES];
        if (fstat(fd, &status) < 0)
                cuts_fail("fstat: %s", strerror(errno));
        int to = open_or_fail(synced_path(status.st_ino, path), O_WRONLY | O_CREAT | O_TRUNC);
        for (off_t at = 0; at < status.st_size;) {
                ssize_t got = pread(fd, chunk, sizeof(chunk), at);
                if (got <= 0 || pwrite(to, chunk, (size_t)got, at) != got)
                        cuts_fail("cannot keep what was synced: %s", strerror(errno));
                at += got;
        }
        (void)close(to);
}

int __wrap_disk_open(int directory_fd, const char *path, int flags, mode_t mode)
{
        bool made = (flags & O_CREAT) != 0 && faccessat(directory_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0;
        int fd = __real_disk_open(directory_fd, path, flags, mode);
        struct stat status;
        char synced[DISK_PATH_BYTES];
        if (made && fd >= 0 && fstat(fd, &status) == 0) {
                (void)unlink(synced_path(status.st_ino, synced)); /* of an earlier file of this number */
                note_change(DISK_MADE, path, "");
        }
        return fd;
}

int __wrap_disk_sync(int fd)
{
        if (cuts_chance(cuts_sync_fails_percent)) {
                errno = EIO;
                return -1;
        }
        int result = __real_disk_sync(fd);
        if (result == 0)
                content_is_synced(fd);
        return result;
}

int __wrap_disk_sync_directory(int directory_fd)
{
        if (cuts_chance(cuts_sync_fails_percent)) {
                errno = EIO;
                return -1;
        }
        int result = __real_disk_sync_directory(directory_fd);
        if (result == 0)
                names_are_synced();
        return result;
}

int __wrap_disk_rename(int from_fd, const char *from, int to_fd, const char *to, bool replace)
{
        int result = __real_disk_rename(from_fd, from, to_fd, to, replace);
        if (result == 0 && from_fd == to_fd) /* what goes to quarantine/ has gone there */
                note_change(DISK_RENAMED, from, to);
        return result;
}

int __wrap_disk_unlink(int directory_fd, const char *path)
{
        char from[DISK_PATH_BYTES], to[DISK_PATH_BYTES];
        bool kept = link(log_path(path, from), removed_path(changes_count, to)) == 0;
        int result = __real_disk_unlink(directory_fd, path);
        if (result == 0 && kept)
                note_change(DISK_REMOVED, path, "");
        else if (kept)
                (void)unlink(to);
        return result;
}

void cuts_disk_begin(const char *directory, const char *aside)
{
        log_directory = directory;
        aside_directory = aside;
        changes_count = 0;
}

/* Calls `call` for each file of the log but its lock. */
static void for_each_file(void (*call)(int fd, unsigned percent), unsigned percent)
{
        char path[DISK_PATH_BYTES];
        DIR *directory = opendir(log_directory);
        if (directory == NULL)
                cuts_fail("cannot list %s: %s", log_directory, strerror(errno));
        for (struct dirent *line = readdir(directory); line != NULL; line = readdir(directory)) {
                if (line->d_type != DT_REG || strcmp(line->d_name, "lock") == 0)
                        continue;
                int fd = open_or_fail(log_path(line->d_name, path), O_RDWR);
                call(fd, percent);
                (void)close(fd);
        }
        (void)closedir(directory);
}

static void write_back_file(int fd, unsigned unused)
{
        (void)unused;
        content_is_synced(fd);
}

void cuts_disk_write_back(void)
{
        for_each_file(write_back_file, 0);
        names_are_synced();
}

static void take_back(unsigned i)
{
        const struct disk_change *change = &changes[i];
        char from[DISK_PATH_BYTES], to[DISK_PATH_BYTES];
        switch (change->kind) {
        case DISK_MADE:
                (void)unlink(log_path(change->from, from)); /* it may be in quarantine/ now */
                break;
        case DISK_RENAMED:
                (void)rename(log_path(change->to, to), log_path(change->from, from));
                break;
        case DISK_REMOVED:
                (void)link(removed_path(i, from), log_path(change->from, to));
                break;
        }
}

/* Of each page what was synced, or what came later, or some sectors of this and some of that. */
static void cut_file(int fd, unsigned kept_percent)
{
        struct stat status;
        char path[DISK_PATH_BYTES];
        if (fstat(fd, &status) < 0)
                cuts_fail("fstat: %s", strerror(errno));
        int synced = open(synced_path(status.st_ino, path), O_RDONLY | O_CLOEXEC); /* or it never was */
        for (off_t at = 0; at < status.st_size; at += DISK_PAGE_BYTES) {
                uint8_t page[DISK_PAGE_BYTES] = {0};
                if (cuts_chance(kept_percent))
                        continue;
                if (synced >= 0 && pread(synced, page, sizeof(page), at) < 0)
                        cuts_fail("cannot read what was synced: %s", strerror(errno));
                size_t from = 0, to = sizeof(page);
                if (kept_percent > 0 && cuts_chance(5))
                        from = DISK_SECTOR_BYTES * random_below(&cuts_random, DISK_PAGE_BYTES / DISK_SECTOR_BYTES);
                if (kept_percent > 0 && cuts_chance(5))
                        to = from + DISK_SECTOR_BYTES;
                if (at + (off_t)to > status.st_size)
                        to = from;
                if (pwrite(fd, page + from, to - from, at + (off_t)from) != (ssize_t)(to - from))
                        cuts_fail("cannot cut: %s", strerror(errno));
        }
        if (synced >= 0)
                (void)close(synced);
}

void cuts_disk_cut(unsigned kept_percent)
{
        unsigned kept = changes_count;
        while (kept > 0 && !cuts_chance(kept_percent))
                kept--;
        for (unsigned i = changes_count; i-- > kept;)
                take_back(i);
        names_are_synced();
        for_each_file(cut_file, kept_percent);
        cuts_disk_write_back();
}
