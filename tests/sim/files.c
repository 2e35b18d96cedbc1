/* What is in the files of the simulated disk. Every file has its content three times:
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
 * them is in no file, and the file keeps what it had. One page of a file at a time. */
#include "tests/sim/files.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIM_SECTOR      512u
#define SIM_CHANGES_MAX 64u

struct sim_change {
        enum sim_change_kind kind;
        uint32_t inode;
        uint32_t replaced; /* by a rename; SIM_INODES_MAX: nothing */
        char from[SIM_PATH_BYTES], to[SIM_PATH_BYTES];
};

struct sim_inode sim_inodes[SIM_INODES_MAX];
static struct sim_change changes[SIM_CHANGES_MAX];
static uint32_t changes_count;
struct sim_disk_faults sim_disk_faults;

/* ---------------------------------------------------------------------------------------------- names */

struct sim_inode *inode_by_path(const char *path)
{
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++)
                if (sim_inodes[i].used && strcmp(sim_inodes[i].path, path) == 0)
                        return &sim_inodes[i];
        return NULL;
}

struct sim_inode *inode_make(const char *path, bool directory)
{
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++) {
                struct sim_inode *inode = &sim_inodes[i];
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
void inode_forget(struct sim_inode *inode)
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
void changes_commit(void)
{
        changes_count = 0;
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++)
                if (sim_inodes[i].used)
                        inode_forget(&sim_inodes[i]);
}

void change_add(enum sim_change_kind kind, const struct sim_inode *inode, const char *from, const char *to,
                const struct sim_inode *replaced)
{
        if (changes_count == SIM_CHANGES_MAX || sim_chance(0.02))
                changes_commit(); /* as the file system does every few seconds */
        struct sim_change *change = &changes[changes_count++];
        change->kind = kind;
        change->inode = inode_number(inode);
        change->replaced = replaced == NULL ? SIM_INODES_MAX : inode_number(replaced);
        (void)snprintf(change->from, sizeof(change->from), "%s", from);
        (void)snprintf(change->to, sizeof(change->to), "%s", to);
}
/* ---------------------------------------------------------------------------------------------- lost pages */

/* Between what mappings show and what the file has; every look at the file stands between two of these. */
void inode_swap(struct sim_inode *inode)
{
        uint8_t page[SIM_PAGE];
        if (inode->lost == 0)
                return;
        memcpy(page, inode->bytes + inode->lost_at, SIM_PAGE);
        memcpy(inode->bytes + inode->lost_at, inode->lost_other, SIM_PAGE);
        memcpy(inode->lost_other, page, SIM_PAGE);
}

/* The mappings end: the file is what is left. */
void inode_unmapped(struct sim_inode *inode)
{
        inode->maps = 0;
        inode_swap(inode);
        inode->lost = 0;
        free(inode->lost_other);
        inode->lost_other = NULL;
}

struct sim_inode *inode_of_map(const void *map)
{
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++)
                if (sim_inodes[i].used && !sim_inodes[i].directory && sim_inodes[i].bytes == map)
                        return &sim_inodes[i];
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
                struct sim_inode *inode = &sim_inodes[i];
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
                if (sim_inodes[i].used && (sim_inodes[i].path[0] != '\0' || sim_inodes[i].opens > 0))
                        used += sim_inodes[i].size;
        return used;
}

bool inode_has_room(const struct sim_inode *inode, uint64_t size)
{
        if (size <= inode->size || sim_disk_faults.capacity_bytes == 0)
                return true;
        return sim_disk_used_bytes() + (size - inode->size) <= sim_disk_faults.capacity_bytes;
}

void inode_resize(struct sim_inode *inode, uint64_t size)
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
/* ---------------------------------------------------------------------------------------------- to the disk */

/* A store into a page that the kernel takes for written makes it dirty again, though it changes nothing: what a failed
 * sync has left behind is made read-only, and the fault tells. */
static void page_stored(int signal, siginfo_t *info, void *context)
{
        (void)signal;
        (void)context;
        uint8_t *address = (uint8_t *)info->si_addr;
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++) {
                struct sim_inode *inode = &sim_inodes[i];
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
void inode_write_back(struct sim_inode *inode, bool part)
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

void sim_disk_make_directory(const char *path)
{
        (void)inode_make(path, true);
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
/* ---------------------------------------------------------------------------------------------- a power cut */

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
        const bool nothing = sim_disk_faults.writes_late && sim_chance(0.7);
        sim_disk_process_ended();
        /* The last changes of names may not have come to the disk. */
        uint32_t stay = (uint32_t)sim_below(changes_count + 1);
        for (uint32_t i = changes_count; i-- > stay;) {
                struct sim_inode *inode = &sim_inodes[changes[i].inode];
                (void)snprintf(inode->path, sizeof(inode->path), "%s", changes[i].from);
                if (changes[i].replaced != SIM_INODES_MAX)
                        (void)snprintf(sim_inodes[changes[i].replaced].path, SIM_PATH_BYTES, "%s", changes[i].to);
        }
        changes_count = 0;
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++) {
                struct sim_inode *inode = &sim_inodes[i];
                if (!inode->used)
                        continue;
                if (inode->path[0] == '\0')
                        inode_end(inode);
                else if (!inode->directory)
                        inode_cut(inode, nothing ? 0 : kept[sim_below(sizeof(kept) / sizeof(kept[0]))]);
        }
}

void sim_disk_each(const char *prefix, void (*each)(void *context, const char *path, struct slice content),
                   void *context)
{
        for (uint32_t i = 0; i < SIM_INODES_MAX; i++)
                if (sim_inodes[i].used && !sim_inodes[i].directory && sim_inodes[i].path[0] != '\0' &&
                    strncmp(sim_inodes[i].path, prefix, strlen(prefix)) == 0)
                        each(context, sim_inodes[i].path,
                             slice_of(sim_inodes[i].bytes, sim_inodes[i].size)); /* none is mapped */
}
