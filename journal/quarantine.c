/* What recovery takes out of the log, or is about to cover, is kept aside for people: quarantine/. Copies, whose file
 * stays in the log, and files that are no segments are bounded: the oldest go first, and one open copies no more than
 * may be there. Names tell the file and the time in its life that they are of, so a start that finds the same damage
 * again does not copy it again.
 *
 * A segment that had to be moved here, because nothing of it can be read or another one has its positions, is nowhere
 * else: its events may wait for somebody. Its name ends in ".kept", and only a person removes it. It is not left in the
 * log: where it belongs there nobody knows, and a later start that could read it would find its positions and
 * sequences in use. */
#include "journal/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUARANTINE_PARTIAL     "partial" /* a copy in the making */
#define QUARANTINE_CHUNK_BYTES ((uint64_t)1 << 20)
#define QUARANTINE_KEPT        ".kept" /* ends the name of what is nowhere else */
#define QUARANTINE_NAME_BYTES  (JOURNAL_NAME_BYTES + 24u)
#define QUARANTINE_NAMES_MAX   64u /* that are tried for one file */

static bool quarantine_open(struct recover *recover)
{
        struct journal *journal = recover->journal;
        if (journal->quarantine_fd >= 0)
                return true;
        if (disk_make_directory(journal->directory_fd, JOURNAL_QUARANTINE_NAME) < 0 && errno != EEXIST)
                return false;
        /* What is moved there is nowhere else: first its own name is on the disk, also where an earlier open that made
         * it was killed before. */
        if (disk_sync_directory(journal->directory_fd) < 0)
                return false;
        journal->quarantine_fd =
                disk_open(journal->directory_fd, JOURNAL_QUARANTINE_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        return journal->quarantine_fd >= 0;
}

static bool quarantine_is_older(const struct stat *status, const char *name, const struct stat *than,
                                const char *than_name)
{
        if (status->st_ctim.tv_sec != than->st_ctim.tv_sec)
                return status->st_ctim.tv_sec < than->st_ctim.tv_sec;
        if (status->st_ctim.tv_nsec != than->st_ctim.tv_nsec)
                return status->st_ctim.tv_nsec < than->st_ctim.tv_nsec;
        return strcmp(name, than_name) < 0;
}

static bool quarantine_is_kept(const char *name)
{
        const size_t len = strlen(name), end = sizeof(QUARANTINE_KEPT) - 1;
        return len > end && strcmp(name + len - end, QUARANTINE_KEPT) == 0;
}

/* Removes the oldest files that may go until one more of `bytes` is within the bounds. */
static void quarantine_make_room(struct recover *recover, uint64_t bytes)
{
        struct journal *journal = recover->journal;
        /* Ends: each round removes a file, or is the last. */
        for (;;) {
                struct disk_list *list = disk_list_open(journal->quarantine_fd, ".");
                char oldest[NAME_MAX + 1] = "";
                struct stat oldest_status = {0};
                uint64_t files = 0, all_bytes = 0;
                if (list == NULL)
                        return;
                for (const char *name = disk_list_next(list); name != NULL; name = disk_list_next(list)) {
                        char path[PATH_MAX];
                        struct stat status;
                        if (quarantine_is_kept(name))
                                continue;
                        int used = snprintf(path, sizeof(path), "%s/" JOURNAL_QUARANTINE_NAME "/%s", journal->directory,
                                            name);
                        /* A folder that had the name of a segment is small, and for a person to remove. */
                        if (used < 0 || (size_t)used >= sizeof(path) || strlen(name) >= sizeof(oldest) ||
                            disk_stat_path(path, &status) < 0 || S_ISDIR(status.st_mode))
                                continue;
                        files++;
                        all_bytes += (uint64_t)status.st_size;
                        if (files > 1 && !quarantine_is_older(&status, name, &oldest_status, oldest))
                                continue;
                        (void)snprintf(oldest, sizeof(oldest), "%s", name); /* it fits */
                        oldest_status = status;
                }
                disk_list_close(list);
                if (files == 0 ||
                    (files < LIMIT_QUARANTINE_FILES_MAX && all_bytes + bytes <= LIMIT_QUARANTINE_BYTES_MAX) ||
                    disk_unlink(journal->quarantine_fd, oldest) < 0)
                        return;
                recover->recovery->quarantine_removed++;
        }
}

static void quarantine_name(uint64_t number, uint32_t life, const char *end, char out[QUARANTINE_NAME_BYTES])
{
        char name[JOURNAL_NAME_BYTES];
        journal_segment_name(number, JOURNAL_SEGMENT_SUFFIX, name);
        (void)snprintf(out, QUARANTINE_NAME_BYTES, "%s.%08x%s", name, life, end); /* it fits */
}

static void quarantine_count(struct recover *recover, bool done)
{
        recover->recovery->quarantined_segments += done;
        recover->recovery->quarantine_failures += !done;
}

/* What tells one file that is no segment from another: its size, and how it begins. */
static uint32_t quarantine_mark(struct recover *recover, const char *name, uint64_t *ret_bytes)
{
        uint8_t page[JOURNAL_PAGE_BYTES] = {0};
        struct stat status = {0};
        uint32_t mark = 0;
        int fd = disk_open(recover->journal->directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
        *ret_bytes = 0;
        if (fd < 0)
                return mark;
        if (disk_stat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
            recover_read(recover, fd, page, sizeof(page), 0) == ERR_OK) {
                *ret_bytes = (uint64_t)status.st_size;
                mark = crc32c(crc32c(0, page, sizeof(page)), ret_bytes, sizeof(*ret_bytes));
        }
        (void)disk_close(fd); /* read only */
        return mark;
}

void recover_quarantine_move(struct recover *recover, const struct recover_file *file)
{
        char name[JOURNAL_NAME_BYTES], away[QUARANTINE_NAME_BYTES];
        uint64_t bytes;
        journal_segment_name(file->number, JOURNAL_SEGMENT_SUFFIX, name);
        uint32_t mark = quarantine_mark(recover, name, &bytes);
        if (!quarantine_open(recover)) {
                quarantine_count(recover, false);
                return;
        }
        const int from_fd = recover->journal->directory_fd, to_fd = recover->journal->quarantine_fd;
        int moved = -1;
        if (file->is_foreign) {
                quarantine_name(file->number, mark, "", away);
                quarantine_make_room(recover, bytes);
                moved = disk_rename(from_fd, name, to_fd, away, true);
        }
        /* Several that cannot be read have the same mark: none takes the place of another. */
        for (uint32_t i = 0; !file->is_foreign && i < QUARANTINE_NAMES_MAX; i++) {
                quarantine_name(file->number, mark + i, QUARANTINE_KEPT, away);
                moved = disk_rename(from_fd, name, to_fd, away, false);
                if (moved == 0 || errno != EEXIST)
                        break;
        }
        quarantine_count(recover, moved == 0);
}

static bool quarantine_copy_bytes(struct recover *recover, int from_fd, int to_fd, uint64_t file_bytes)
{
        uint8_t *chunk = malloc(QUARANTINE_CHUNK_BYTES);
        bool done = chunk != NULL;
        for (uint64_t offset = 0; offset < file_bytes && done; offset += QUARANTINE_CHUNK_BYTES) {
                uint64_t bytes = file_bytes - offset;
                if (bytes > QUARANTINE_CHUNK_BYTES)
                        bytes = QUARANTINE_CHUNK_BYTES;
                done = recover_read(recover, from_fd, chunk, bytes, offset) == ERR_OK &&
                       recover_write(to_fd, chunk, bytes, offset) == ERR_OK;
        }
        free(chunk);
        return done;
}

void recover_quarantine_copy(struct recover *recover, const struct recover_file *file)
{
        const int directory_fd = recover->journal->directory_fd;
        char name[JOURNAL_NAME_BYTES], away[QUARANTINE_NAME_BYTES];
        journal_segment_name(file->number, JOURNAL_SEGMENT_SUFFIX, name);
        quarantine_name(file->number, file->header.seed, "", away);
        if (recover->quarantine_copies >= LIMIT_QUARANTINE_FILES_MAX || !quarantine_open(recover)) {
                quarantine_count(recover, false);
                return;
        }
        const int quarantine_fd = recover->journal->quarantine_fd;
        int there = disk_open(quarantine_fd, away, O_RDONLY | O_NOFOLLOW, 0);
        if (there >= 0) {
                (void)disk_close(there); /* read only */
                return;                  /* an earlier start has kept it, and could not cover the damage */
        }
        recover->quarantine_copies++;
        quarantine_make_room(recover, file->file_bytes);
        int from_fd = disk_open(directory_fd, name, O_RDONLY | O_NOFOLLOW, 0);
        int to_fd = disk_open(quarantine_fd, QUARANTINE_PARTIAL, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
        bool done = from_fd >= 0 && to_fd >= 0 && quarantine_copy_bytes(recover, from_fd, to_fd, file->file_bytes);
        if (from_fd >= 0)
                (void)disk_close(from_fd); /* read only */
        if (to_fd >= 0 && disk_close(to_fd) < 0)
                done = false;
        done = done && disk_rename(quarantine_fd, QUARANTINE_PARTIAL, quarantine_fd, away, true) == 0;
        if (!done && to_fd >= 0)
                (void)disk_unlink(quarantine_fd, QUARANTINE_PARTIAL); /* half a copy helps nobody */
        quarantine_count(recover, done);
}
