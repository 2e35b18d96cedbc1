/* A disk in memory. Every file has its content three times:
 *
 *     bytes     what reads and mappings see: the page cache
 *     clean     what the kernel believes to be on the disk: where it differs from `bytes`, a page is dirty
 *     durable   what is on the disk
 *
 * A sync writes what is dirty. One that fails may have written any of it, and the kernel forgets that the rest was
 * dirty: a later sync succeeds without it, as Linux does. Names are a log of changes since the directory was last
 * synced; a power cut keeps a part of it from the beginning, as a journalling file system does.
 *
 * A page of a mapping may be lost (io/disk.h): the mapping has zeros of its own there from then on, what is stored in
 * them is in no file, and the file keeps what it had. One page of a file at a time.
 *
 * Descriptors are numbers that no kernel gave out. A process that ends loses them, its locks and its mappings; the
 * memory of the files stays, being the world's. */
#include "io/disk.h"

#include "tests/sim/content.h"
#include "tests/sim/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIM_INODES_MAX  256u
#define SIM_FDS_MAX     256u
#define SIM_FD_BASE     1000000
#define SIM_PATH_BYTES  256u
#define SIM_SECTOR      512u
#define SIM_CHANGES_MAX 64u

struct sim_inode {
        bool used, directory, locked;
        char path[SIM_PATH_BYTES]; /* "": unlinked */
        uint32_t opens;
        uint8_t *bytes, *clean, *durable;
        uint64_t size, durable_size;
        uint64_t high; /* behind the last byte that was ever there */
        uint32_t maps;
        _Atomic uint32_t lost; /* pages of the mappings */
        uint64_t lost_at;
        uint8_t *lost_other; /* of that page: what the mapping shows, or what the file has; `bytes` has the other one */
};

enum sim_change_kind { SIM_CHANGE_LINK = 1, SIM_CHANGE_UNLINK, SIM_CHANGE_RENAME };
struct sim_change {
        enum sim_change_kind kind;
        uint32_t inode;
        uint32_t replaced; /* by a rename; SIM_INODES_MAX: nothing */
        char from[SIM_PATH_BYTES], to[SIM_PATH_BYTES];
};

struct sim_fd {
        bool used, writable;
        uint32_t inode;
};

static struct sim_inode inodes[SIM_INODES_MAX];
static struct sim_fd fds[SIM_FDS_MAX];
static struct sim_change changes[SIM_CHANGES_MAX];
static uint32_t changes_count;
struct sim_disk_faults sim_disk_faults;

/* ---------------------------------------------------------------------------------------------- names */

static struct sim_inode *inode_by_path(const char *path)
{
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++)
                if (inodes[i].used && strcmp(inodes[i].path, path) == 0)
                        return &inodes[i];
        return NULL;
}

static uint32_t inode_number(const struct sim_inode *inode)
{
        return (uint32_t)(inode - inodes);
}

static struct sim_fd *fd_of(int fd)
{
        if (fd < SIM_FD_BASE || fd >= SIM_FD_BASE + (int)SIM_FDS_MAX || !fds[fd - SIM_FD_BASE].used)
                sim_fail("descriptor %d is not open", fd);
        return &fds[fd - SIM_FD_BASE];
}

static struct sim_inode *inode_of(int fd)
{
        return &inodes[fd_of(fd)->inode];
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

static struct sim_inode *inode_make(const char *path, bool directory)
{
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++) {
                struct sim_inode *inode = &inodes[i];
                if (inode->used)
                        continue;
                *inode = (struct sim_inode){.used = true, .directory = directory};
                (void)snprintf(inode->path, sizeof(inode->path), "%s", path);
                if (!directory) {
                        inode->bytes = content_take();
                        inode->clean = content_take();
                        inode->durable = content_take();
                }
                return inode;
        }
        sim_fail("more than %u files", SIM_INODES_MAX);
}

/* It is no more. Mappings keep the memory: that is given back only with the process of the seed then. */
static void inode_end(struct sim_inode *inode)
{
        inode->used = false;
        if (inode->directory)
                return;
        /* Who still has it mapped stores as ever. */
        SIM_CHECK(mprotect(inode->bytes, SIM_FILE_BYTES, PROT_READ | PROT_WRITE) == 0);
        if (inode->maps > 0)
                return;
        content_give(inode->bytes, inode->high);
        content_give(inode->clean, inode->high);
        content_give(inode->durable, inode->high);
}

/* Nobody names it, nobody has it open. */
static void inode_forget(struct sim_inode *inode)
{
        if (inode->path[0] != '\0' || inode->opens > 0)
                return;
        /* A power cut may bring the name back. */
        for (uint32_t i = 0; i < changes_count; i++)
                if (changes[i].inode == inode_number(inode) || changes[i].replaced == inode_number(inode))
                        return;
        inode_end(inode);
}

/* The changes of names so far are on the disk. */
static void names_commit(void)
{
        changes_count = 0;
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++)
                if (inodes[i].used)
                        inode_forget(&inodes[i]);
}

static void change_add(enum sim_change_kind kind, const struct sim_inode *inode, const char *from, const char *to)
{
        if (changes_count == SIM_CHANGES_MAX || sim_chance(0.02))
                names_commit(); /* as the file system does every few seconds */
        struct sim_change *change = &changes[changes_count++];
        change->kind = kind;
        change->inode = inode_number(inode);
        change->replaced = SIM_INODES_MAX;
        (void)snprintf(change->from, sizeof(change->from), "%s", from);
        (void)snprintf(change->to, sizeof(change->to), "%s", to);
}

/* ---------------------------------------------------------------------------------------------- lost pages */

/* Between what mappings show and what the file has; every look at the file stands between two of these. */
static void inode_swap(struct sim_inode *inode)
{
        uint8_t page[SIM_PAGE];
        if (inode->lost == 0)
                return;
        memcpy(page, inode->bytes + inode->lost_at, SIM_PAGE);
        memcpy(inode->bytes + inode->lost_at, inode->lost_other, SIM_PAGE);
        memcpy(inode->lost_other, page, SIM_PAGE);
}

/* The mappings end: the file is what is left. */
static void inode_unmapped(struct sim_inode *inode)
{
        inode->maps = 0;
        inode_swap(inode);
        inode->lost = 0;
        free(inode->lost_other);
        inode->lost_other = NULL;
}

static struct sim_inode *inode_of_map(const void *map)
{
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++)
                if (inodes[i].used && !inodes[i].directory && inodes[i].bytes == map)
                        return &inodes[i];
        return NULL;
}

static void inode_lose(struct sim_inode *inode, uint64_t at, bool written)
{
        inode->lost_other = calloc(1, SIM_PAGE);
        SIM_CHECK(inode->lost_other != NULL);
        inode->lost_at = at;
        inode->lost = 1;
        inode_swap(inode);
        if (written) /* the file does not have it either */
                memset(inode->lost_other, 0, SIM_PAGE);
}

bool sim_disk_lose_page(const char *directory, uint64_t position, bool written)
{
        size_t len = strlen(directory);
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++) {
                struct sim_inode *inode = &inodes[i];
                uint64_t base;
                if (!inode->used || inode->directory || inode->maps == 0 || inode->lost != 0 ||
                    strncmp(inode->path, directory, len) != 0 || inode->path[len] != '/' ||
                    strstr(inode->path, ".segment") == NULL)
                        continue;
                memcpy(&base, inode->bytes + 24, sizeof(base)); /* journal/journal.h */
                if (position < base || position - base >= inode->size)
                        continue;
                uint64_t at = (position - base + SIM_PAGE - 1) / SIM_PAGE * SIM_PAGE;
                if (written) /* that before it, but for the header's */
                        at = at > 3 * SIM_PAGE ? at - 2 * SIM_PAGE : inode->size;
                if (at + SIM_PAGE >= inode->size)
                        return false;
                inode_lose(inode, at, written);
                return true;
        }
        return false;
}

/* ---------------------------------------------------------------------------------------------- space and faults */

uint64_t sim_disk_used_bytes(void)
{
        uint64_t used = 0;
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++)
                if (inodes[i].used && (inodes[i].path[0] != '\0' || inodes[i].opens > 0))
                        used += inodes[i].size;
        return used;
}

static bool has_room(const struct sim_inode *inode, uint64_t size)
{
        if (size <= inode->size || sim_disk_faults.capacity_bytes == 0)
                return true;
        return sim_disk_used_bytes() + (size - inode->size) <= sim_disk_faults.capacity_bytes;
}

static int failed(int error)
{
        errno = error;
        return -1;
}

static void inode_resize(struct sim_inode *inode, uint64_t size)
{
        SIM_CHECK(size <= SIM_FILE_BYTES);
        inode_swap(inode);
        if (size < inode->size)
                memset(inode->bytes + size, 0, inode->size - size);
        inode_swap(inode);
        inode->size = size;
        if (size > inode->high)
                inode->high = size;
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
                change_add(SIM_CHANGE_LINK, inode, "", full);
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
        struct sim_inode *inode = &inodes[own->inode];
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
        while (bytes > 0 && !has_room(inode, offset + bytes))
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

int disk_allocate(int fd, uint64_t bytes)
{
        struct sim_inode *inode = inode_of(fd);
        if (sim_chance(sim_disk_faults.write_eio))
                return EIO;
        if (!has_room(inode, bytes))
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

/* A store into a page that the kernel takes for written makes it dirty again, though it changes nothing: what a failed
 * sync has left behind is made read-only, and the fault tells. */
static void page_stored(int signal, siginfo_t *info, void *context)
{
        (void)signal;
        (void)context;
        uint8_t *address = (uint8_t *)info->si_addr;
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++) {
                struct sim_inode *inode = &inodes[i];
                if (!inode->used || inode->directory || address < inode->bytes ||
                    address >= inode->bytes + SIM_FILE_BYTES)
                        continue;
                size_t at = (size_t)(address - inode->bytes) / SIM_PAGE * SIM_PAGE;
                if (mprotect(inode->bytes + at, SIM_PAGE, PROT_READ | PROT_WRITE) < 0)
                        abort();
                for (size_t sector = at; sector < at + SIM_PAGE; sector += SIM_SECTOR)
                        inode->clean[sector] = (uint8_t)~inode->bytes[sector];
                return;
        }
        static const struct sigaction usual = {.sa_handler = SIG_DFL};
        (void)sigaction(SIGSEGV, &usual, NULL); /* not ours: it comes again, and ends the process */
}

static void inode_watch_forgotten(struct sim_inode *inode, const uint64_t *pages)
{
        static bool watching;
        static const struct sigaction action = {.sa_sigaction = page_stored, .sa_flags = SA_SIGINFO};
        if (!watching)
                SIM_CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
        watching = true;
        for (uint64_t at = 0; at < inode->high; at += SIM_PAGE)
                if (content_touched(pages, at) && memcmp(inode->bytes + at, inode->durable + at, SIM_PAGE) != 0)
                        SIM_CHECK(mprotect(inode->bytes + at, SIM_PAGE, PROT_READ) == 0);
}

/* The next sector from `at` on that is dirty; behind the last one, inode->high or more. `pages`: of inode->bytes. What
 * was never touched there is zero, and on the disk as well, which has nothing that was not there. */
static uint64_t inode_next_dirty(const struct sim_inode *inode, const uint64_t *pages, uint64_t at)
{
        while (at < inode->high) {
                if (at % SIM_PAGE == 0 &&
                    (!content_touched(pages, at) || memcmp(inode->bytes + at, inode->clean + at, SIM_PAGE) == 0))
                        at += SIM_PAGE;
                else if (memcmp(inode->bytes + at, inode->clean + at, SIM_SECTOR) == 0)
                        at += SIM_SECTOR;
                else
                        break;
        }
        return at;
}

/* Brings what is dirty to the disk; `part`: any of it only. */
static void inode_write_back(struct sim_inode *inode, bool part)
{
        const uint64_t *pages = content_pages(inode->bytes, inode->high);
        for (uint64_t at = 0; (at = inode_next_dirty(inode, pages, at)) < inode->high; at += SIM_SECTOR) {
                if (!part || sim_chance(0.5))
                        memcpy(inode->durable + at, inode->bytes + at, SIM_SECTOR);
                memcpy(inode->clean + at, inode->bytes + at, SIM_SECTOR);
        }
        if (!part || sim_chance(0.5))
                inode->durable_size = inode->size;
        if (part)
                inode_watch_forgotten(inode, pages);
}

int disk_sync(int fd)
{
        struct sim_inode *inode = inode_of(fd);
        bool fails = sim_chance(sim_disk_faults.sync_eio);
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
        names_commit(); /* one file system: its journal is committed as a whole */
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
        change_add(SIM_CHANGE_RENAME, inode, full_from, full_to);
        if (there != NULL) {
                changes[changes_count - 1].replaced = inode_number(there);
                there->path[0] = '\0';
        }
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
        change_add(SIM_CHANGE_UNLINK, inode, full, "");
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
        change_add(SIM_CHANGE_LINK, inode_make(full, true), "", full);
        return 0;
}

void sim_disk_make_directory(const char *path)
{
        (void)inode_make(path, true);
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
                const char *name = inodes[i].path;
                if (inodes[i].used && strncmp(name, full, len) == 0 && name[len] == '/' &&
                    strchr(name + len + 1, '/') == NULL)
                        (void)snprintf(list->names[list->count++], SIM_PATH_BYTES, "%s", name + len + 1);
        }
        return list;
}

const char *disk_list_next(struct disk_list *list)
{
        return list->next < list->count ? list->names[list->next++] : NULL;
}

void disk_list_close(struct disk_list *list)
{
        free(list);
}

void sim_disk_put(const char *path, struct slice content)
{
        struct sim_inode *inode = inode_by_path(path);
        if (inode == NULL)
                inode = inode_make(path, false);
        SIM_CHECK(content.len <= SIM_FILE_BYTES);
        inode_resize(inode, 0);
        inode_resize(inode, content.len);
        memcpy(inode->bytes, content.ptr, content.len);
        inode_write_back(inode, false);
}

bool sim_disk_damage(const char *path)
{
        struct sim_inode *inode = inode_by_path(path);
        if (inode == NULL || inode->size == 0)
                return false;
        if (sim_chance(0.3)) {
                inode->path[0] = '\0'; /* and with it its name on the disk */
                inode_forget(inode);
                return true;
        }
        uint64_t page = sim_below((inode->size + SIM_PAGE - 1) / SIM_PAGE) * SIM_PAGE;
        uint64_t bytes = sim_chance(0.5) ? SIM_PAGE : SIM_SECTOR * (1 + sim_below(SIM_PAGE / SIM_SECTOR - 1));
        if (bytes > inode->size - page)
                bytes = inode->size - page;
        memset(inode->bytes + page, 0, bytes);
        memset(inode->clean + page, 0, bytes);
        memset(inode->durable + page, 0, bytes);
        return true;
}

/* ---------------------------------------------------------------------------------------------- for network.c */

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

/* ---------------------------------------------------------------------------------------------- ends */

void sim_disk_process_ended(void)
{
        for (uint32_t i = 0; i < SIM_FDS_MAX; i++)
                fds[i].used = false;
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++) {
                inodes[i].opens = 0;
                inode_unmapped(&inodes[i]);
                inodes[i].locked = false;
                if (inodes[i].used)
                        inode_forget(&inodes[i]);
        }
}

/* Of the sectors that the disk does not have, some came there all the same; one in sixteen of those only in part. */
static void inode_cut(struct sim_inode *inode, double kept)
{
        const uint64_t *pages = content_pages(inode->bytes, inode->high);
        for (uint64_t at = 0; (at = inode_next_dirty(inode, pages, at)) < inode->high; at += SIM_SECTOR) {
                if (!sim_chance(kept))
                        continue;
                uint64_t bytes = sim_chance(1.0 / 16) ? 8 * sim_below(SIM_SECTOR / 8) : SIM_SECTOR;
                memcpy(inode->durable + at, inode->bytes + at, bytes);
        }
        uint64_t size = sim_chance(kept) ? inode->size : inode->durable_size;
        for (uint64_t at = 0; at < inode->high; at += SIM_PAGE) {
                uint64_t bytes = inode->high - at < SIM_PAGE ? inode->high - at : SIM_PAGE;
                if (!content_touched(pages, at))
                        continue; /* zeros everywhere */
                if (at + bytes > size) {
                        uint64_t from = at < size ? size - at : 0;
                        memset(inode->durable + at + from, 0, bytes - from);
                }
                memcpy(inode->bytes + at, inode->durable + at, bytes);
                memcpy(inode->clean + at, inode->durable + at, bytes);
        }
        inode->size = inode->durable_size = size;
}

void sim_disk_power_cut(void)
{
        static const double kept[] = {0, 0.1, 0.5, 0.9, 1};
        sim_disk_process_ended();
        /* The last changes of names may not have come to the disk. */
        uint32_t stay = (uint32_t)sim_below(changes_count + 1);
        for (uint32_t i = changes_count; i-- > stay;) {
                struct sim_inode *inode = &inodes[changes[i].inode];
                (void)snprintf(inode->path, sizeof(inode->path), "%s", changes[i].from);
                if (changes[i].replaced != SIM_INODES_MAX)
                        (void)snprintf(inodes[changes[i].replaced].path, SIM_PATH_BYTES, "%s", changes[i].to);
        }
        changes_count = 0;
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++) {
                struct sim_inode *inode = &inodes[i];
                if (!inode->used)
                        continue;
                if (inode->path[0] == '\0')
                        inode_end(inode);
                else if (!inode->directory)
                        inode_cut(inode, kept[sim_below(sizeof(kept) / sizeof(kept[0]))]);
        }
}

void sim_disk_each(const char *prefix, void (*each)(void *context, const char *path, struct slice content),
                   void *context)
{
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++)
                if (inodes[i].used && !inodes[i].directory && inodes[i].path[0] != '\0' &&
                    strncmp(inodes[i].path, prefix, strlen(prefix)) == 0)
                        each(context, inodes[i].path, slice_of(inodes[i].bytes, inodes[i].size)); /* none is mapped */
}
