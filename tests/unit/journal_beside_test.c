/* Who only reads, beside a process that writes: what is recycled under a reader is told from what is damaged. */
#include "io/disk.h"

#include "tests/support/journal_rig.h"

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

static void append(struct journal *journal, uint64_t bytes)
{
        const uint64_t until = journal_committed_position(journal) + bytes;
        while (journal_committed_position(journal) < until) {
                enum err_code code = journal_files_append(journal, journal_next_sequence(journal), MEAN, 1);
                if (code == ERR_FULL) {
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                        continue;
                }
                cr_assert_eq(code, ERR_OK, "%s", err_name(code));
                cr_assert_eq(journal_publish(journal), ERR_OK);
        }
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
        append(journal, 7 * MIB); /* the oldest segments are cold by now */
        journal_committed(journal, &position, &sequence);
        journal_target_advance(journal, 0, position, sequence, &(struct journal_settled){.delivered = sequence - 1});
        beside.journal = rig_open(&reading, NULL);
        beside.position = journal_oldest_position(beside.journal);
        append(journal, MIB);
        cr_assert_gt(beside.looks, 0);
        cr_assert_gt(beside.gone, 0);
        journal_close(beside.journal);
        beside.journal = NULL;
        journal_close(journal);
}
