/* Syncs of a journal with durability host: what they cover, and what it takes after one that failed. */
#include "io/disk.h"

#include "tests/support/journal_disk_rig.h"

#include <errno.h>
#include <string.h>

TestSuite(journal_sync, .init = make_directory, .fini = remove_directory, .timeout = 60);

Test(journal_sync, a_sync_covers_what_was_published_when_it_began)
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

Test(journal_sync, a_sync_of_many_segments_goes_in_rounds)
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

Test(journal_sync, files_in_a_sync_are_not_recycled)
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

Test(journal_sync, a_failed_sync_is_made_good_only_by_writing_anew)
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

/* A kernel that dropped a page has dropped it for good: that costs its events, not every flush from then on. */
/* Reads what is published behind `position`, and nothing else: whole records in their order, one of them missing. */
static void must_miss_one(struct journal_reader *reader, struct journal *journal, uint64_t position, uint64_t sequence)
{
        const uint64_t limit = journal_committed_position(journal), end = journal_next_sequence(journal);
        uint64_t missing = 0;
        for (;;) {
                struct journal_record record = {0};
                enum err_code code = journal_read(reader, position, limit, &record);
                if (code == ERR_EMPTY)
                        break;
                position = record.next_position;
                missing += code == ERR_CORRUPT;
                if (code == ERR_OK)
                        cr_assert_eq(record.sequence, sequence, "%llu", (unsigned long long)record.sequence);
                sequence++;
        }
        cr_assert_eq(missing, 1);
        cr_assert_eq(sequence, end);
}

Test(journal_sync, what_the_kernel_dropped_holds_up_nothing_behind_it)
{
        struct journal_recovery recovery;
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
        struct err err = {.text = ""};
        int fds[JOURNAL_SYNC_FILES_MAX];
        uint32_t count = 0;
        struct journal_reader *reader, *later;
        struct journal_record record;
        append(journal, 100);
        cr_assert_eq(journal_sync(journal, NULL), ERR_OK);
        uint64_t durable = journal_durable_position(journal), sequence = journal_next_sequence(journal);
        append(journal, 100);
        /* One that is in the segment already, where everything was well. */
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        cr_assert_eq(journal_read(reader, durable, journal_committed_position(journal), &record), ERR_OK);
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(journal_sync_done(journal, EIO, &err), ERR_SYSTEM);
        uint8_t other[64] = {1};
        cr_assert_eq(pwrite(fds[0], other, sizeof(other), (off_t)(durable % MIB)), (ssize_t)sizeof(other));
        must_miss_one(reader, journal, durable, sequence);
        cr_assert_eq(journal_sync(journal, &err), ERR_CORRUPT);
        cr_assert_eq(journal_durable_position(journal), durable);
        append(journal, 100);
        cr_assert_eq(journal_sync(journal, &err), ERR_CORRUPT);
        cr_assert(strstr(err.text, "lost") != NULL, "%s", err.text);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        append(journal, 100);
        cr_assert_eq(journal_sync(journal, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        must_miss_one(reader, journal, durable, sequence);
        cr_assert_eq(journal_reader_create(journal, &later, NULL), ERR_OK);
        must_miss_one(later, journal, durable, sequence);
        journal_reader_free(later);
        journal_reader_free(reader);
        journal_close(journal);
        journal = must_open(JOURNAL_DURABILITY_HOST, &recovery);
        cr_assert_eq(recovery.lost_records, 1);
        cr_assert_eq(recovery.lost_events, 1);
        cr_assert_eq(recovery.rewritten_segments, 0);
        journal_close(journal);
}

Test(journal_sync, what_stands_behind_a_dropped_header_is_no_record)
{
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
        int fds[JOURNAL_SYNC_FILES_MAX];
        uint32_t count = 0;
        uint64_t waiting = 0;
        uint16_t other;
        uint8_t *payload;
        struct journal_target_state state;
        cr_assert_eq(journal_target_register(journal, SLICE("file /other"), &other, NULL), ERR_OK);
        append(journal, 10);
        /* A producer's bytes that look like a record for a target which the event is not for. */
        const uint64_t words[8] = {100ull << 32, 77, 999, 0, 1ull << 56, other, 0, 0};
        cr_assert_eq(journal_reserve(journal, sizeof(words), &payload), ERR_OK);
        memcpy(payload, words, sizeof(words));
        journal_commit(journal, &(struct journal_entry){.lane_id = 1, .lane_position = 8, .routes_count = 1},
                       sizeof(words));
        uint64_t at = journal_last_position(journal);
        cr_assert_eq(journal_publish(journal), ERR_OK);
        append(journal, 10);
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(journal_sync_done(journal, EIO, NULL), ERR_SYSTEM);
        const uint8_t zeros[64] = {0};
        cr_assert_eq(pwrite(fds[0], zeros, sizeof(zeros), (off_t)(at % MIB)), (ssize_t)sizeof(zeros));
        cr_assert_eq(journal_sync(journal, NULL), ERR_CORRUPT);
        cr_assert_eq(journal_sync(journal, NULL), ERR_CORRUPT);
        cr_assert_eq(journal_target_audit(journal, other, &state, &waiting, NULL), ERR_OK);
        cr_assert_eq(waiting, 0, "%llu", (unsigned long long)waiting);
        cr_assert_eq(journal_target_audit(journal, 0, &state, &waiting, NULL), ERR_OK);
        cr_assert_eq(waiting, 20);
        journal_close(journal);
}

Test(journal_sync, what_was_dropped_behind_every_cursor_is_no_loss)
{
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
        struct err err = {.text = ""};
        int fds[JOURNAL_SYNC_FILES_MAX];
        uint32_t count = 0;
        uint64_t durable = journal_durable_position(journal);
        append(journal, 100);
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(journal_sync_done(journal, EIO, &err), ERR_SYSTEM);
        uint8_t other[64] = {1};
        cr_assert_eq(pwrite(fds[0], other, sizeof(other), (off_t)(durable % MIB)), (ssize_t)sizeof(other));
        deliver(journal);
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        append(journal, 10);
        cr_assert_eq(journal_sync(journal, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);
}

Test(journal_sync, the_next_open_writes_anew_what_a_failed_sync_left)
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

/* A start that syncs nothing makes nothing good, though it brings the targets file to the disk. */
Test(journal_sync, a_start_with_another_durability_does_not_forget_a_failed_one)
{
        struct journal_recovery recovery;
        struct err err = {.text = ""};
        int fds[JOURNAL_SYNC_FILES_MAX];
        uint32_t count = 0;
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
        append(journal, 2 * MIB / MEAN);
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        cr_assert_eq(journal_sync_done(journal, EIO, NULL), ERR_SYSTEM);
        journal_close(journal);
        for (unsigned start = 0; start < 2; start++) {
                journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
                cr_assert_eq(recovery.rewritten_segments, 0);
                cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
                append(journal, 10);
                cr_assert_eq(journal_sync(journal, &err), ERR_OK, "%s", err.text);
                cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
                cr_assert_eq(journal_targets_make_durable(journal, &err), ERR_OK, "%s", err.text);
                journal_close(journal);
        }
        journal = must_open(JOURNAL_DURABILITY_HOST, &recovery);
        cr_assert_geq(recovery.rewritten_segments, 2, "%llu", (unsigned long long)recovery.rewritten_segments);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);
        journal = must_open(JOURNAL_DURABILITY_HOST, &recovery);
        cr_assert_eq(recovery.rewritten_segments, 0, "once is enough");
        journal_close(journal);
}

/* One round of syncs; more is published while it runs. */
static void sync_while_busy(struct journal *journal, int sys_errno)
{
        int fds[JOURNAL_SYNC_FILES_MAX];
        uint32_t count = 0;
        cr_assert_eq(journal_sync_begin(journal, fds, &count, NULL), ERR_OK);
        append(journal, 300);
        cr_assert_eq(journal_sync_done(journal, sys_errno, NULL), sys_errno == 0 ? ERR_OK : ERR_SYSTEM);
        deliver(journal);
}

Test(journal_sync, a_busy_log_is_made_good_as_well)
{
        static const unsigned rounds[] = {1, 2 * MIB / (300 * MEAN)};
        for (unsigned i = 0; i < 2; i++) {
                struct journal_recovery recovery;
                struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
                append(journal, 300);
                sync_while_busy(journal, EIO);
                for (unsigned round = 0; round < rounds[i]; round++)
                        sync_while_busy(journal, 0);
                journal_close(journal);
                journal = must_open(JOURNAL_DURABILITY_HOST, &recovery);
                if (i == 0)
                        cr_assert_gt(recovery.rewritten_segments, 0, "what the writer had begun came to no end yet");
                else
                        cr_assert_eq(recovery.rewritten_segments, 0);
                journal_close(journal);
        }
}
