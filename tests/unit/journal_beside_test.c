/* Who only reads, beside a process that writes: what is recycled under a reader is told from what is damaged. */
#include "io/disk.h"

#include "tests/support/journal_rig.h"

#include <errno.h>

/* A segment that can only be read: its name; NULL: none. */
static const char *read_only_name;
int __real_disk_open(int directory_fd, const char *path, int flags, mode_t mode);
int __wrap_disk_open(int directory_fd, const char *path, int flags, mode_t mode);
int __wrap_disk_open(int directory_fd, const char *path, int flags, mode_t mode)
{
        if (read_only_name == NULL || strcmp(path, read_only_name) != 0 || (flags & O_ACCMODE) == O_RDONLY)
                return __real_disk_open(directory_fd, path, flags, mode);
        errno = EROFS;
        return -1;
}

TestSuite(journal_beside, .init = make_directory, .fini = remove_directory, .timeout = 60);

/* Not all file systems can: then zeros are written. */
int __wrap_disk_zero(int fd, uint64_t offset, uint64_t bytes);
int __wrap_disk_zero(int fd, uint64_t offset, uint64_t bytes)
{
        static const uint8_t zeros[MIB];
        cr_assert_leq(bytes, sizeof(zeros));
        cr_assert_eq(pwrite(fd, zeros, bytes, (off_t)offset), (ssize_t)bytes);
        return 0;
}

static struct {
        struct journal *journal; /* NULL: nobody reads */
        uint64_t position;
        unsigned looks, gone;
} beside;

/* A reader that comes to the oldest events just now. They are whole, or they are not there any more. */
void journal_test_step(const char *label);
void journal_test_step(const char *label)
{
        struct journal_reader *reader;
        struct journal_record record;
        if (beside.journal == NULL || strncmp(label, "recycle-", 8) != 0)
                return;
        cr_assert_eq(journal_reader_create(beside.journal, &reader, NULL), ERR_OK);
        enum err_code code = journal_read(reader, beside.position, journal_committed_position(beside.journal), &record);
        journal_reader_free(reader);
        cr_assert(code == ERR_OK || code == ERR_NOT_FOUND, "at %s: %s", label, err_name(code));
        beside.looks++;
        beside.gone += code == ERR_NOT_FOUND;
}

Test(journal_beside, a_segment_that_is_recycled_just_now_is_not_taken_for_damaged)
{
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 8 * MIB,
                .segments_mapped_max = 4,
                .retention_bytes = 64 * MIB,
        };
        const struct journal_options reading = {.directory = directory, .read_only = true};
        uint64_t position, sequence;
        struct journal *journal = rig_open(&options, NULL);
        rig_register(journal, "file /a");
        rig_append(journal, 7 * MIB); /* the oldest segments are cold by now */
        journal_committed(journal, &position, &sequence);
        journal_target_advance(journal, 0, position, sequence, &(struct journal_settled){.delivered = sequence - 1});
        beside.journal = rig_open(&reading, NULL);
        beside.position = journal_oldest_position(beside.journal);
        rig_append(journal, MIB);
        cr_assert_gt(beside.looks, 0);
        cr_assert_gt(beside.gone, 0);
        journal_close(beside.journal);
        beside.journal = NULL;
        journal_close(journal);
}

/* Nothing ends what stands in a segment that could only be read at the last start: who goes on in the next one with the
 * very next number has missed nothing. */
Test(journal_beside, a_segment_that_could_only_be_read_has_no_damage_at_its_end)
{
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 8 * MIB,
                .segments_mapped_max = 4,
        };
        const struct journal_options reading = {.directory = directory, .read_only = true};
        struct journal_reader *reader;
        struct journal_record record = {.sequence = 0};
        uint64_t records = 0;
        struct journal *journal = rig_open(&options, NULL);
        rig_register(journal, "file /a");
        rig_append(journal, MIB / 2);
        journal_close(journal);
        read_only_name = "0000000000000000.segment";
        journal = rig_open(&options, NULL);
        read_only_name = NULL;
        rig_append(journal, MIB / 2);

        struct journal *other = rig_open(&reading, NULL);
        const uint64_t limit = journal_committed_position(other);
        cr_assert_gt(limit, MIB);
        cr_assert_eq(journal_reader_create(other, &reader, NULL), ERR_OK);
        enum err_code code = ERR_OK;
        for (uint64_t position = journal_oldest_position(other); code == ERR_OK; position = record.next_position) {
                code = journal_read(reader, position, limit, &record);
                records += code == ERR_OK;
        }
        cr_assert_eq(code, ERR_EMPTY, "behind record %llu: %s", (unsigned long long)record.sequence, err_name(code));
        cr_assert_eq(records, journal_next_sequence(journal) - 1);
        journal_reader_free(reader);
        journal_close(other);
        journal_close(journal);
}
