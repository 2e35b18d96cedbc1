/* What a power cut leaves of a log, page by page, and that the next start goes on from it. */
#include "io/disk.h"

#include "tests/support/journal_rig.h"

#include <errno.h>

/* Syncs of directories fail with EIO while it is set. */
static bool directory_syncs_fail;
static unsigned directory_syncs;
int __real_disk_sync_directory(int directory_fd);
int __wrap_disk_sync_directory(int directory_fd);
int __wrap_disk_sync_directory(int directory_fd)
{
        if (!directory_syncs_fail) {
                directory_syncs++;
                return __real_disk_sync_directory(directory_fd);
        }
        errno = EIO;
        return -1;
}

TestSuite(journal_power_cut, .init = make_directory, .fini = remove_directory, .timeout = 60);

static struct journal *must_open_with(enum journal_durability durability, uint32_t segments_mapped_max,
                                      struct journal_recovery *ret_recovery)
{
        struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 64 * MIB,
                .segments_mapped_max = segments_mapped_max,
                .durability = durability,
        };
        struct journal *journal = rig_open(&options, ret_recovery);
        rig_register(journal, "file /a");
        return journal;
}

static struct journal *must_open(uint32_t segments_mapped_max, struct journal_recovery *ret_recovery)
{
        return must_open_with(JOURNAL_DURABILITY_HOST, segments_mapped_max, ret_recovery);
}

static void pass(struct journal *journal)
{
        uint64_t position, sequence;
        journal_committed(journal, &position, &sequence);
        const uint64_t waiting = journal_target_count_waiting(journal, 0, NULL);
        journal_target_advance(journal, 0, position, sequence, &(struct journal_settled){.delivered = waiting});
}

/* Takes what was stored behind `offset` from the segment, but for the header's copy at its end. */
static void forget(uint64_t file_number, uint64_t offset)
{
        static const uint8_t zeros[MIB];
        char path[sizeof(directory) + 40];
        (void)snprintf(path, sizeof(path), "%s/%016llx.segment", directory, (unsigned long long)file_number);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        cr_assert_geq(fd, 0, "%s", path);
        const size_t bytes = MIB - 4096 - offset;
        cr_assert_eq(pwrite(fd, zeros, bytes, (off_t)offset), (ssize_t)bytes);
        (void)close(fd);
}

/* Of all that came behind the last sync there are only the headers, which were synced when the segments were prepared:
 * more segments than may be mapped seem to wait for the writer. */
Test(journal_power_cut, segments_that_it_emptied_are_not_in_the_writers_way)
{
        static const uint32_t mapped[] = {4, 12, 16};
        for (size_t i = 0; i < sizeof(mapped) / sizeof(mapped[0]); i++) {
                struct journal_recovery recovery;
                struct journal_stats stats;
                struct journal *journal = must_open(mapped[i], NULL);
                rig_append(journal, MIB / 2);
                cr_assert_eq(journal_sync(journal, NULL), ERR_OK);
                const uint64_t durable = journal_durable_position(journal), sequence = journal_next_sequence(journal);
                rig_append(journal, 24 * MIB);
                journal_get_stats(journal, &stats);
                journal_close(journal);
                forget(0, durable);
                for (uint64_t number = 1; number < stats.segments; number++)
                        forget(number, 64);

                journal = must_open(mapped[i], &recovery);
                cr_assert_eq(recovery.segments, stats.segments);
                cr_assert_eq(recovery.records, sequence - 1);
                check_equation(journal);
                rig_append(journal, 24 * MIB);
                pass(journal);
                check_equation(journal);
                journal_close(journal);
                remove_directory();
                make_directory();
        }
}

/* A segment whose name is on no disk is gone with the power, whatever is synced of its content. It may have been made
 * by a process that was killed before it synced the directory, or that synced nothing. */
Test(journal_power_cut, names_of_an_earlier_process_are_on_the_disk_before_anything_is)
{
        struct err err = {.text = ""};
        struct journal *journal = must_open_with(JOURNAL_DURABILITY_PROCESS, 4, NULL);
        rig_append(journal, 2 * MIB);
        journal_close(journal);

        directory_syncs_fail = true;
        journal = must_open(4, NULL);
        cr_assert_lt(journal_durable_position(journal), journal_committed_position(journal));
        cr_assert_eq(journal_sync(journal, &err), ERR_SYSTEM);
        cr_assert(strstr(err.text, directory) != NULL && strstr(err.text, strerror(EIO)) != NULL, "%s", err.text);
        cr_assert_lt(journal_durable_position(journal), journal_committed_position(journal));
        directory_syncs_fail = false;
        directory_syncs = 0;
        cr_assert_eq(journal_sync(journal, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(directory_syncs, 1);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);

        journal = must_open(4, NULL);
        cr_assert_geq(directory_syncs, 2);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);
}

/* A page that was read back from the disk may hold anything, also where no record is checked. */
Test(journal_power_cut, no_length_leads_a_cursor_behind_what_is_published)
{
        struct journal_reader *reader;
        struct journal_record record = {.sequence = 0};
        uint64_t position, sequence;
        char path[sizeof(directory) + 40];
        struct journal *journal = must_open(4, NULL);
        rig_append(journal, MIB / 2);
        journal_committed(journal, &position, &sequence);
        const uint64_t last = journal_last_position(journal);
        (void)snprintf(path, sizeof(path), "%s/%016x.segment", directory, 0u);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        cr_assert_geq(fd, 0, "%s", path);
        const uint32_t payload_bytes = 100000;
        cr_assert_eq(pwrite(fd, &payload_bytes, sizeof(payload_bytes), (off_t)last + 4),
                     (ssize_t)sizeof(payload_bytes));
        (void)close(fd);

        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        cr_assert_eq(journal_read(reader, last, position, &record), ERR_CORRUPT);
        cr_assert_eq(record.next_position, position);
        journal_reader_free(reader);
        const struct journal_settled settled = {.delivered = sequence - 2};
        journal_target_advance(journal, 0, record.next_position, sequence, &settled);
        struct journal_target_state state;
        cr_assert(journal_target_get(journal, 0, &state));
        cr_assert_eq(state.lost, 1);
        check_equation(journal);
        journal_close(journal);
}
