/* What recovery takes out of the log, or is about to cover, is kept aside for people: quarantine/. */
#include "journal/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static bool recover_quarantine_open(struct recover *recover)
{
        struct journal *journal = recover->journal;
        if (journal->quarantine_fd >= 0)
                return true;
        if (disk_make_directory(journal->directory_fd, JOURNAL_QUARANTINE_NAME) < 0 && errno != EEXIST)
                return false;
        journal->quarantine_fd =
                disk_open(journal->directory_fd, JOURNAL_QUARANTINE_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        return journal->quarantine_fd >= 0;
}

/* A file that is no segment leaves the log. */
void recover_quarantine_move(struct recover *recover, uint64_t number)
{
        char name[JOURNAL_NAME_BYTES], away[JOURNAL_NAME_BYTES * 2];
        journal_segment_name(number, JOURNAL_SEGMENT_SUFFIX, name);
        (void)snprintf(away, sizeof(away), "%s.%08x", name, journal_random_seed()); /* it fits */
        if (recover_quarantine_open(recover) &&
            disk_rename(recover->journal->directory_fd, name, recover->journal->quarantine_fd, away, true) == 0)
                recover->recovery->quarantined_segments++;
        else
                recover->recovery->quarantine_failures++;
}

/* A segment that lost records is copied before its damage is covered. */
void recover_quarantine_copy(struct recover *recover, const struct recover_file *file)
{
        char name[JOURNAL_NAME_BYTES], away[JOURNAL_NAME_BYTES * 2];
        int from_fd = -1, to_fd = -1;
        bool done = false;
        uint8_t *chunk = malloc((size_t)1 << 20);
        journal_segment_name(file->number, JOURNAL_SEGMENT_SUFFIX, name);
        (void)snprintf(away, sizeof(away), "%s.%08x", name, journal_random_seed()); /* it fits */
        if (chunk == NULL || !recover_quarantine_open(recover))
                goto out;
        from_fd = disk_open(recover->journal->directory_fd, name, O_RDONLY | O_NOFOLLOW, 0);
        to_fd = disk_open(recover->journal->quarantine_fd, away, O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (from_fd < 0 || to_fd < 0)
                goto out;
        for (uint64_t offset = 0; offset < file->file_bytes; offset += (uint64_t)1 << 20) {
                uint64_t bytes = file->file_bytes - offset;
                if (bytes > (uint64_t)1 << 20)
                        bytes = (uint64_t)1 << 20;
                if (recover_read(recover, from_fd, chunk, bytes, offset) != ERR_OK ||
                    recover_write(to_fd, chunk, bytes, offset) != ERR_OK)
                        goto out;
        }
        done = true;
out:
        if (from_fd >= 0)
                (void)disk_close(from_fd); /* read only */
        if (to_fd >= 0) {
                if (disk_close(to_fd) < 0)
                        done = false;
                if (!done)
                        (void)disk_unlink(recover->journal->quarantine_fd, away); /* half a copy helps nobody */
        }
        free(chunk);
        if (done)
                recover->recovery->quarantined_segments++;
        else
                recover->recovery->quarantine_failures++;
}
