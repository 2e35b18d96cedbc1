/* io/disk.h on the table of files.c, with the faults of the seed, and what network.c asks for io/io.h.
 *
 * Descriptors are numbers that no kernel gave out. A process that ends loses them, its locks and its mappings; the
 * memory of the files stays, being the world's. */
#include "io/disk.h"

#include "tests/sim/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIM_FDS_MAX 256u
#define SIM_FD_BASE 1000000

struct sim_fd {
        bool used, writable;
        uint32_t inode;
};

static struct sim_fd fds[SIM_FDS_MAX];

/* ---------------------------------------------------------------------------------------------- descriptors */

static struct sim_fd *fd_of(int fd)
{
        if (fd < SIM_FD_BASE || fd >= SIM_FD_BASE + (int)SIM_FDS_MAX || !fds[fd - SIM_FD_BASE].used)
                sim_fail("descriptor %d is not open", fd);
        return &fds[fd - SIM_FD_BASE];
}

static struct sim_inode *inode_of(int fd)
{
        return &sim_inodes[fd_of(fd)->inode];
}

static void path_of(int directory_fd, const char *path, char out[SIM_PATH_BYTES])
{
        int used;
        if (directory_fd == AT_FDCWD || path[0] == '/')
                used = snprintf(out, SIM_PATH_BYTES, "%s", path);
        else if (strcmp(path, ".") == 0)
                used = snprintf(out, SIM_PATH_BYTES, "%s", inode_of(directory_fd)->path);
        else
                used = snprintf(out, SIM_PATH_BYTES, "%s/%s", inode_of(directory_fd)->path, path);
        SIM_CHECK(used > 0 && used < (int)SIM_PATH_BYTES);
}

static int failed(int error)
{
        errno = error;
        return -1;
}

/* ---------------------------------------------------------------------------------------------- io/disk.h */

int disk_open(int directory_fd, const char *path, int flags, mode_t mode)
{
        char full[SIM_PATH_BYTES];
        (void)mode;
        path_of(directory_fd, path, full);
        struct sim_inode *inode = inode_by_path(full);
        if (sim_chance(sim_disk_faults.open_failure))
                return failed(sim_chance(0.5) ? EMFILE : EIO);
        if (inode == NULL && (flags & O_CREAT) == 0)
                return failed(ENOENT);
        if (inode != NULL && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0)
                return failed(EEXIST);
        if (inode != NULL && (flags & O_DIRECTORY) != 0 && !inode->directory)
                return failed(ENOTDIR);
        if (inode != NULL && inode->directory && (flags & O_ACCMODE) != O_RDONLY)
                return failed(EISDIR);
        uint32_t slot = 0;
        while (slot < SIM_FDS_MAX && fds[slot].used)
                slot++;
        if (slot == SIM_FDS_MAX)
                sim_fail("more than %u open files: a leak", SIM_FDS_MAX);
        if (inode == NULL) {
                inode = inode_make(full, false);
                change_add(SIM_CHANGE_LINK, inode, "", full, NULL);
        }
        if ((flags & O_TRUNC) != 0)
                inode_resize(inode, 0);
        inode->opens++;
        fds[slot] = (struct sim_fd){
                .used = true, .writable = (flags & O_ACCMODE) != O_RDONLY, .inode = inode_number(inode)};
        return SIM_FD_BASE + (int)slot;
}

int disk_close(int fd)
{
        struct sim_fd *own = fd_of(fd);
        struct sim_inode *inode = &sim_inodes[own->inode];
        own->used = false;
        inode->opens--;
        inode->locked = false; /* one process, which locks what it opened once */
        inode_forget(inode);
        return 0;
}

int disk_lock(int fd)
{
        struct sim_inode *inode = inode_of(fd);
        if (inode->locked)
                return failed(EWOULDBLOCK);
        inode->locked = true;
        return 0;
}

static void stat_fill(const struct sim_inode *inode, struct stat *ret_status)
{
        *ret_status = (struct stat){.st_dev = 1,
                                    .st_ino = inode_number(inode) + 1,
                                    .st_size = (off_t)inode->size,
                                    .st_mode = inode->directory ? S_IFDIR | 0700 : S_IFREG | 0600};
}

int disk_stat(int fd, struct stat *ret_status)
{
        stat_fill(inode_of(fd), ret_status);
        return 0;
}

int disk_stat_path(const char *path, struct stat *ret_status)
{
        const struct sim_inode *inode = inode_by_path(path);
        if (inode == NULL)
                return failed(ENOENT);
        stat_fill(inode, ret_status);
        return 0;
}

ssize_t disk_read(int fd, void *to, size_t bytes, uint64_t offset)
{
        struct sim_inode *inode = inode_of(fd);
        if (sim_chance(sim_disk_faults.read_eio))
                return failed(EIO);
        if (offset >= inode->size)
                return 0;
        if (bytes > inode->size - offset)
                bytes = inode->size - offset;
        inode_swap(inode);
        memcpy(to, inode->bytes + offset, bytes);
        inode_swap(inode);
        return (ssize_t)bytes;
}

ssize_t disk_write(int fd, const void *from, size_t bytes, uint64_t offset)
{
        struct sim_inode *inode = inode_of(fd);
        SIM_CHECK(fd_of(fd)->writable);
        if (sim_chance(sim_disk_faults.write_eio))
                return failed(EIO);
        if (bytes > 1 && sim_chance(sim_disk_faults.short_write))
                bytes = 1 + sim_below(bytes - 1);
        while (bytes > 0 && !inode_has_room(inode, offset + bytes))
                bytes /= 2; /* what still fits is written */
        if (bytes == 0)
                return failed(ENOSPC);
        if (offset + bytes > inode->size)
                inode_resize(inode, offset + bytes);
        inode_swap(inode);
        memcpy(inode->bytes + offset, from, bytes);
        inode_swap(inode);
        return (ssize_t)bytes;
}

int disk_truncate(int fd, uint64_t bytes)
{
        struct sim_inode *inode = inode_of(fd);
        if (sim_chance(sim_disk_faults.write_eio))
                return failed(EIO);
        inode_resize(inode, bytes); /* growing makes a hole: no room is taken */
        return 0;
}

int disk_append(int fd, bool appends)
{
        (void)inode_of(fd);
        (void)appends; /* nobody else writes to files here: their ends are where their writers say */
        return 0;
}

int disk_allocate(int fd, uint64_t bytes)
{
        struct sim_inode *inode = inode_of(fd);
        if (sim_chance(sim_disk_faults.write_eio))
                return EIO;
        if (!inode_has_room(inode, bytes))
                return ENOSPC;
        if (bytes > inode->size)
                inode_resize(inode, bytes);
        return 0;
}

int disk_zero(int fd, uint64_t offset, uint64_t bytes)
{
        struct sim_inode *inode = inode_of(fd);
        SIM_CHECK(offset + bytes <= inode->size);
        if (sim_chance(0.5))
                return failed(EOPNOTSUPP);
        inode_swap(inode);
        memset(inode->bytes + offset, 0, bytes);
        inode_swap(inode);
        return 0;
}
/* Beside that of all files. */
static double sync_eio_of(const struct sim_inode *inode)
{
        const char *name = strrchr(inode->path, '/');
        if (name != NULL && strcmp(name, "/targets") == 0)
                return sim_disk_faults.targets_sync_eio;
        return strstr(inode->path, ".segment") != NULL ? sim_disk_faults.segments_sync_eio : 0;
}

int disk_sync(int fd)
{
        struct sim_inode *inode = inode_of(fd);
        bool fails = sim_chance(sim_disk_faults.sync_eio) || sim_chance(sync_eio_of(inode));
        inode_swap(inode);
        inode_write_back(inode, fails);
        inode_swap(inode);
        sim_clock_advance(sim_below(2000000));
        return fails ? failed(EIO) : 0;
}

int disk_sync_directory(int directory_fd)
{
        (void)inode_of(directory_fd);
        if (sim_chance(sim_disk_faults.sync_eio))
                return failed(EIO);
        changes_commit(); /* one file system: its journal is committed as a whole */
        return 0;
}

void *disk_map(int fd, uint64_t bytes, bool writable)
{
        struct sim_inode *inode = inode_of(fd);
        (void)writable;
        SIM_CHECK(bytes <= SIM_FILE_BYTES);
        if (sim_chance(sim_disk_faults.open_failure)) {
                errno = ENOMEM;
                return NULL;
        }
        inode->maps++;
        return inode->bytes;
}

void disk_unmap(void *map, uint64_t bytes)
{
        struct sim_inode *inode = inode_of_map(map);
        (void)bytes;
        if (inode != NULL && inode->maps > 0 && --inode->maps == 0)
                inode_unmapped(inode);
}

const _Atomic uint32_t *disk_lost(const void *map)
{
        static const _Atomic uint32_t none;
        const struct sim_inode *inode = inode_of_map(map);
        return inode == NULL ? &none : &inode->lost;
}

bool disk_guard(void *map, uint64_t bytes, bool writable)
{
        (void)map;
        (void)bytes;
        (void)writable;
        return true;
}

void disk_guard_forget(const void *map)
{
        (void)map;
}

int disk_map_again(int fd, void *map, uint64_t bytes)
{
        struct sim_inode *inode = inode_of(fd);
        (void)bytes;
        SIM_CHECK(inode->bytes == map);
        uint32_t maps = inode->maps;
        inode_unmapped(inode);
        inode->maps = maps;
        return 0;
}

int disk_populate(void *map, uint64_t bytes)
{
        (void)map;
        (void)bytes;
        return 0;
}

void disk_will_read_in_order(void *map, uint64_t bytes)
{
        (void)map;
        (void)bytes;
}

int disk_rename(int from_directory_fd, const char *from, int to_directory_fd, const char *to, bool replace)
{
        char full_from[SIM_PATH_BYTES], full_to[SIM_PATH_BYTES];
        path_of(from_directory_fd, from, full_from);
        path_of(to_directory_fd, to, full_to);
        struct sim_inode *inode = inode_by_path(full_from), *there = inode_by_path(full_to);
        if (inode == NULL)
                return failed(ENOENT);
        if (there != NULL && !replace)
                return failed(EEXIST);
        if (sim_chance(sim_disk_faults.write_eio))
                return failed(EIO);
        change_add(SIM_CHANGE_RENAME, inode, full_from, full_to, there);
        if (there != NULL)
                there->path[0] = '\0';
        (void)snprintf(inode->path, sizeof(inode->path), "%s", full_to);
        return 0;
}

int disk_unlink(int directory_fd, const char *path)
{
        char full[SIM_PATH_BYTES];
        path_of(directory_fd, path, full);
        struct sim_inode *inode = inode_by_path(full);
        if (inode == NULL)
                return failed(ENOENT);
        if (sim_chance(sim_disk_faults.write_eio))
                return failed(EIO);
        change_add(SIM_CHANGE_UNLINK, inode, full, "", NULL);
        inode->path[0] = '\0';
        inode_forget(inode);
        return 0;
}

int disk_make_directory(int directory_fd, const char *path)
{
        char full[SIM_PATH_BYTES];
        path_of(directory_fd, path, full);
        if (inode_by_path(full) != NULL)
                return failed(EEXIST);
        change_add(SIM_CHANGE_LINK, inode_make(full, true), "", full, NULL);
        return 0;
}
/* ---- lists: a copy of the names, as of the opening */

struct disk_list {
        uint32_t count, next;
        char names[SIM_INODES_MAX][SIM_PATH_BYTES];
};

struct disk_list *disk_list_open(int directory_fd, const char *path)
{
        char full[SIM_PATH_BYTES];
        path_of(directory_fd, path, full);
        struct disk_list *list = malloc(sizeof(*list));
        if (list == NULL)
                return NULL;
        list->count = list->next = 0;
        size_t len = strlen(full);
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++) {
                const char *name = sim_inodes[i].path;
                if (sim_inodes[i].used && strncmp(name, full, len) == 0 && name[len] == '/' &&
                    strchr(name + len + 1, '/') == NULL)
                        (void)snprintf(list->names[list->count++], SIM_PATH_BYTES, "%s", name + len + 1);
        }
        return list;
}

const char *disk_list_next(struct disk_list *list)
{
        errno = 0;
        return list->next < list->count ? list->names[list->next++] : NULL;
}

void disk_list_close(struct disk_list *list)
{
        free(list);
}
/* ---------------------------------------------------------------------------------------------- for network.c */

bool sim_disk_is(int fd, const char *prefix)
{
        return strncmp(inode_of(fd)->path, prefix, strlen(prefix)) == 0;
}

int32_t sim_disk_io_open(const char *path, int flags)
{
        int fd = disk_open(AT_FDCWD, path, flags, 0600);
        return fd < 0 ? -errno : fd;
}

int32_t sim_disk_io_stat(int fd, const char *path, struct statx *ret_status)
{
        struct stat status;
        if (sim_chance(sim_disk_faults.read_eio))
                return -EIO;
        if ((path == NULL ? disk_stat(fd, &status) : disk_stat_path(path, &status)) < 0)
                return -errno;
        *ret_status = (struct statx){.stx_mask = STATX_BASIC_STATS, /* no time of birth */
                                     .stx_dev_major = 1,
                                     .stx_ino = status.st_ino,
                                     .stx_size = (uint64_t)status.st_size,
                                     .stx_mode = (uint16_t)status.st_mode};
        return 0;
}

int32_t sim_disk_io_rename(const char *from, const char *to, bool replace)
{
        if (!replace && sim_disk_faults.renames_blindly)
                return -EINVAL;
        return disk_rename(AT_FDCWD, from, AT_FDCWD, to, replace) < 0 ? -errno : 0;
}

int32_t sim_disk_io_truncate(int fd, uint64_t bytes)
{
        return disk_truncate(fd, bytes) < 0 ? -errno : 0;
}

int32_t sim_disk_io_read(int fd, void *to, size_t bytes, uint64_t offset)
{
        ssize_t got = disk_read(fd, to, bytes, offset);
        return got < 0 ? -errno : (int32_t)got;
}

int32_t sim_disk_io_write(int fd, const void *from, size_t bytes, uint64_t offset)
{
        ssize_t wrote = disk_write(fd, from, bytes, offset);
        return wrote < 0 ? -errno : (int32_t)wrote;
}

int32_t sim_disk_io_sync(int fd)
{
        return disk_sync(fd) < 0 ? -errno : 0;
}

int32_t sim_disk_io_sync_directory(int directory_fd)
{
        return disk_sync_directory(directory_fd) < 0 ? -errno : 0;
}
void sim_disk_process_ended(void)
{
        for (uint32_t i = 0; i < SIM_FDS_MAX; i++)
                fds[i].used = false;
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++) {
                sim_inodes[i].opens = 0;
                inode_unmapped(&sim_inodes[i]);
                sim_inodes[i].locked = false;
                if (sim_inodes[i].used)
                        inode_forget(&sim_inodes[i]);
        }
}
