/* The journal on a disk that fails: syncs that go wrong, files that cannot be read or written, pages that are gone. */
#include "journal/journal.h"

#include "tests/support/journal_files.h"

#include <criterion/criterion.h>
#include <errno.h>

#define MIB  (1024u * 1024u)
#define MEAN 700u

static char directory[256];

static void make_directory(void)
{
        journal_files_make(directory);
}

static void remove_directory(void)
{
        journal_files_remove(directory);
}

TestSuite(journal_disk, .init = make_directory, .fini = remove_directory, .timeout = 60);

static struct journal *must_open(enum journal_durability durability, struct journal_recovery *ret_recovery)
{
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 16 * MIB,
                .segments_mapped_max = 4,
                .durability = durability,
        };
        struct journal *journal = NULL;
        struct err err = {.text = ""};
        enum err_code code = journal_open(&options, &journal, ret_recovery, &err);
        cr_assert_eq(code, ERR_OK, "%s: %s", err_name(code), err.text);
        uint16_t target;
        cr_assert_eq(journal_target_register(journal, SLICE("file /a"), &target, &err), ERR_OK, "%s", err.text);
        return journal;
}

/* Appends and publishes; maintenance whenever it is wanted. */
static void append(struct journal *journal, uint64_t count)
{
        uint64_t sequence = journal_next_sequence(journal);
        for (uint64_t i = 0; i < count; i++, sequence++) {
                enum err_code code = journal_files_append(journal, sequence, MEAN, 1);
                if (code == ERR_FULL) {
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                        code = journal_files_append(journal, sequence, MEAN, 1);
                }
                cr_assert_eq(code, ERR_OK);
                journal_publish(journal);
                if (journal_wants_maintenance(journal))
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        }
}

/* Everything is delivered: the cursor moves to the committed position. */
static void deliver(struct journal *journal)
{
        uint64_t position, sequence;
        struct journal_target_state state;
        cr_assert(journal_target_get(journal, 0, &state));
        journal_committed(journal, &position, &sequence);
        journal_target_advance(journal, 0, position, sequence,
                               &(struct journal_settled){.delivered = sequence - state.cursor_sequence});
}

/* ------------------------------------------------------------------------------------------------------ syncs */

Test(journal_disk, a_sync_covers_what_was_published_when_it_began)
{
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
        int fds[JOURNAL_SYNC_FILES_MAX];
        uint32_t count = 7;
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(count, 0, "nothing was published");
        append(journal, 10);
        uint64_t then = journal_committed_position(journal), before = journal_durable_position(journal);
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(count, 1);
        append(journal, 10);
        cr_assert_eq(journal_durable_position(journal), before);
        cr_assert_eq(journal_sync_done(journal, 0, NULL), ERR_OK);
        cr_assert_eq(journal_durable_position(journal), then);
        cr_assert_eq(journal_sync(journal, NULL), ERR_OK);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);
}

Test(journal_disk, a_sync_of_many_segments_goes_in_rounds)
{
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 40 * MIB,
                .segments_mapped_max = 4,
                .durability = JOURNAL_DURABILITY_HOST,
        };
        struct journal *journal = NULL;
        int fds[JOURNAL_SYNC_FILES_MAX];
        uint32_t count = 0;
        cr_assert_eq(journal_open(&options, &journal, NULL, NULL), ERR_OK);
        uint16_t target;
        cr_assert_eq(journal_target_register(journal, SLICE("file /a"), &target, NULL), ERR_OK);
        append(journal, 20 * MIB / MEAN);
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(count, JOURNAL_SYNC_FILES_MAX);
        cr_assert_eq(journal_sync_done(journal, 0, NULL), ERR_OK);
        cr_assert_lt(journal_durable_position(journal), journal_committed_position(journal));
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_lt(count, JOURNAL_SYNC_FILES_MAX);
        cr_assert_gt(count, 0);
        cr_assert_eq(journal_sync_done(journal, 0, NULL), ERR_OK);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);
}

Test(journal_disk, files_in_a_sync_are_not_recycled)
{
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
        struct journal_stats stats;
        int fds[JOURNAL_SYNC_FILES_MAX];
        uint32_t count = 0;
        append(journal, 3 * MIB / MEAN);
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_geq(count, 3);
        deliver(journal);
        for (int i = 0; i < 4; i++)
                cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        append(journal, 3 * MIB / MEAN);
        journal_get_stats(journal, &stats);
        cr_assert_eq(stats.segments_recycled, 0);
        for (uint32_t i = 0; i < count; i++)
                cr_assert_eq(fdatasync(fds[i]), 0, "still open");
        cr_assert_eq(journal_sync_done(journal, 0, NULL), ERR_OK);
        deliver(journal);
        append(journal, 6 * MIB / MEAN);
        journal_get_stats(journal, &stats);
        cr_assert_gt(stats.segments_recycled, 0);
        journal_close(journal);
}

Test(journal_disk, a_failed_sync_is_made_good_only_by_writing_anew)
{
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
        struct err err = {.text = ""};
        int fds[JOURNAL_SYNC_FILES_MAX];
        uint32_t count = 0;
        append(journal, 100);
        cr_assert_eq(journal_sync(journal, NULL), ERR_OK);
        uint64_t durable = journal_durable_position(journal);
        append(journal, 100);
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(journal_sync_done(journal, EIO, &err), ERR_SYSTEM);
        cr_assert(strstr(err.text, strerror(EIO)) != NULL && strstr(err.text, directory) != NULL, "%s", err.text);
        cr_assert_eq(journal_durable_position(journal), durable);

        /* Here the kernel dropped a page: what is there now is not what was written. A sync that succeeds makes none of
         * it durable. */
        uint8_t there[64], other[64] = {1};
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(count, 1);
        off_t at = (off_t)(durable % MIB) + 64;
        cr_assert_eq(pread(fds[0], there, sizeof(there), at), (ssize_t)sizeof(there));
        cr_assert_eq(pwrite(fds[0], other, sizeof(other), at), (ssize_t)sizeof(other));
        cr_assert_eq(journal_sync_done(journal, 0, &err), ERR_CORRUPT);
        cr_assert_eq(journal_durable_position(journal), durable);

        /* It kept the page: written again, synced, checked. */
        cr_assert_eq(pwrite(fds[0], there, sizeof(there), at), (ssize_t)sizeof(there));
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(count, 1);
        cr_assert_eq(journal_sync_done(journal, 0, &err), ERR_OK);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);
}

Test(journal_disk, the_next_open_writes_anew_what_a_failed_sync_left)
{
        struct journal_recovery recovery;
        int fds[JOURNAL_SYNC_FILES_MAX];
        uint32_t count = 0;
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, &recovery);
        append(journal, 3 * MIB / MEAN);
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(journal_sync_done(journal, EIO, NULL), ERR_SYSTEM);
        journal_close(journal); /* a kill leaves no more than this */
        journal = must_open(JOURNAL_DURABILITY_HOST, &recovery);
        cr_assert_geq(recovery.rewritten_segments, 3);
        cr_assert_eq(recovery.lost_records, 0);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);
        journal = must_open(JOURNAL_DURABILITY_HOST, &recovery);
        cr_assert_eq(recovery.rewritten_segments, 0, "once is enough");
        journal_close(journal);
}
