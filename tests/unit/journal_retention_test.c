/* What is kept of the log beyond delivery: how much, how long, that it gives way, and that reading it beside the writer
 * never takes one thing for another. */
#include "base/clock.h"

#include "tests/support/journal_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

TestSuite(journal_retention, .init = make_directory, .fini = remove_directory, .timeout = 60);

static struct journal *must_open(uint64_t segments, uint64_t retention_bytes, uint64_t retention_age_ms,
                                 struct journal_recovery *ret_recovery)
{
        struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = segments * MIB,
                .retention_bytes = retention_bytes,
                .retention_age_ms = retention_age_ms,
                .segments_mapped_max = 4,
        };
        struct journal *journal = rig_open(&options, ret_recovery);
        rig_register(journal, "file /a");
        return journal;
}

static struct journal *must_open_beside(void)
{
        struct journal_options options = {.directory = directory, .read_only = true};
        return rig_open(&options, NULL);
}

/* Appends until `bytes` more are in the log; false: it is full, also after maintenance. `accepted_ms` 0: by sequence.
 */
static bool append(struct journal *journal, uint64_t bytes, int64_t accepted_ms)
{
        uint64_t until = journal_committed_position(journal) + bytes;
        while (journal_committed_position(journal) < until) {
                uint64_t sequence = journal_next_sequence(journal);
                uint32_t payload_bytes = journal_files_payload_bytes(sequence, MEAN);
                uint8_t *payload;
                enum err_code code = journal_reserve(journal, payload_bytes, &payload);
                if (code == ERR_FULL) {
                        if (journal_maintain(journal, NULL) != ERR_OK)
                                return false;
                        code = journal_reserve(journal, payload_bytes, &payload);
                }
                cr_assert_eq(code, ERR_OK);
                journal_files_fill(payload, payload_bytes, sequence);
                struct journal_entry entry = journal_files_entry(sequence, 1);
                if (accepted_ms != 0)
                        entry.accepted_ms = accepted_ms;
                journal_commit(journal, &entry, payload_bytes);
                journal_publish(journal);
                if (journal_wants_maintenance(journal))
                        (void)journal_maintain(journal, NULL); /* a full log says so when it is appended to */
        }
        return true;
}

static void pass(struct journal *journal)
{
        uint64_t position, sequence;
        journal_committed(journal, &position, &sequence);
        uint64_t waiting = journal_target_count_waiting(journal, 0, NULL);
        journal_target_advance(journal, 0, position, sequence, &(struct journal_settled){.delivered = waiting});
}

static struct journal_stats stats_of(struct journal *journal)
{
        struct journal_stats stats;
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        journal_get_stats(journal, &stats);
        return stats;
}

/* Every record from the oldest on, whole and without a hole; returns how many, and the first one. */
static uint64_t read_kept(struct journal *journal, struct journal_record *ret_first)
{
        struct journal_reader *reader;
        uint64_t count = 0, sequence = 0, position = journal_oldest_position(journal);
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        for (;;) {
                struct journal_record record;
                enum err_code code = journal_read(reader, position, journal_committed_position(journal), &record);
                if (code == ERR_EMPTY)
                        break;
                cr_assert_eq(code, ERR_OK, "%s", err_name(code));
                if (count++ == 0)
                        *ret_first = record;
                else
                        cr_assert_eq(record.sequence, sequence + 1);
                sequence = record.sequence;
                cr_assert(journal_files_check(record.payload, sequence, MEAN));
                position = record.next_position;
        }
        cr_assert_eq(sequence + 1, journal_next_sequence(journal));
        journal_reader_free(reader);
        return count;
}

Test(journal_retention, so_many_bytes_stay_behind_the_cursors)
{
        struct journal *journal = must_open(64, 8 * MIB, 0, NULL);
        struct journal_record first = {.sequence = 0};
        for (unsigned round = 0; round < 40; round++) {
                cr_assert(append(journal, MIB, 0));
                pass(journal);
                struct journal_stats stats = stats_of(journal);
                cr_assert_leq(stats.passed_bytes, 8 * MIB);
                cr_assert_leq(stats.size_bytes, 14 * MIB);
                if (round >= 10)
                        cr_assert_geq(stats.passed_bytes, 7 * MIB, "round %u: %llu", round,
                                      (unsigned long long)stats.passed_bytes);
        }
        struct journal *beside = must_open_beside();
        uint64_t kept = read_kept(beside, &first);
        cr_assert_gt(kept, 7 * MIB / (2 * MEAN));
        cr_assert_eq(stats_of(journal).oldest_event_ms, first.entry.accepted_ms);
        journal_close(beside);
        journal_close(journal);
        /* Cursors are far ahead of the oldest segment: that is no loss, and costs no scan. */
        struct journal_recovery recovery;
        journal = must_open(64, 8 * MIB, 0, &recovery);
        cr_assert_eq(recovery.lost_records + recovery.targets_rebuilt + recovery.quarantined_segments, 0);
        cr_assert_lt(recovery.records, kept);
        check_equation(journal);
        struct journal_record again = {.sequence = 0};
        cr_assert_eq(read_kept(journal, &again), kept);
        cr_assert_eq(again.sequence, first.sequence);
        cr_assert_eq(stats_of(journal).oldest_event_ms, first.entry.accepted_ms);
        cr_assert(append(journal, 3 * MIB, 0));
        pass(journal);
        check_equation(journal);
        cr_assert_leq(stats_of(journal).passed_bytes, 8 * MIB);
        (void)read_kept(journal, &again);
        journal_close(journal);
        /* Turned off, what was kept goes. */
        journal = must_open(64, 0, 0, NULL);
        cr_assert_leq(stats_of(journal).segments, 4);
        check_equation(journal);
        journal_close(journal);
}

Test(journal_retention, so_long_it_stays_and_no_longer)
{
        const int64_t hour_ms = 3600 * 1000, now_ms = clock_realtime_ms();
        struct journal *journal = must_open(64, 0, (uint64_t)hour_ms, NULL);
        struct journal_record first = {.sequence = 0};
        cr_assert(append(journal, 8 * MIB, now_ms - 2 * hour_ms));
        pass(journal);
        cr_assert_leq(stats_of(journal).segments, 4, "older than an hour");
        cr_assert(append(journal, 8 * MIB, now_ms - hour_ms / 2));
        pass(journal);
        cr_assert_geq(stats_of(journal).passed_bytes, 7 * MIB);
        cr_assert(append(journal, 4 * MIB, now_ms));
        pass(journal);
        cr_assert_geq(stats_of(journal).passed_bytes, 11 * MIB);
        (void)read_kept(journal, &first);
        cr_assert_geq(first.entry.accepted_ms, now_ms - 2 * hour_ms);
        journal_close(journal);
        /* With both limits the first that is reached holds. */
        journal = must_open(64, 5 * MIB, (uint64_t)hour_ms, NULL);
        cr_assert_leq(stats_of(journal).passed_bytes, 5 * MIB);
        cr_assert_geq(stats_of(journal).passed_bytes, 4 * MIB);
        journal_close(journal);
        journal = must_open(64, 5 * MIB, 1, NULL);
        clock_sleep_ns(5 * CLOCK_NS_PER_MS);
        cr_assert_leq(stats_of(journal).segments, 4);
        journal_close(journal);
}

/* Also where nothing is written any more, and no room is needed. */
Test(journal_retention, what_is_too_old_goes_by_itself)
{
        struct journal *journal = must_open(64, 0, 3000, NULL);
        cr_assert(append(journal, 2 * MIB, clock_realtime_ms()));
        pass(journal);
        cr_assert_geq(stats_of(journal).passed_bytes, MIB);
        cr_assert_leq(stats_of(journal).segments, 4, "no more than are warm anyway");
        clock_sleep_ns(3100 * CLOCK_NS_PER_MS);
        cr_assert_eq(stats_of(journal).passed_bytes, 0);
        check_equation(journal);
        journal_close(journal);
}

Test(journal_retention, damage_where_a_segment_begins_keeps_nothing_for_ever)
{
        const int64_t hour_ms = 3600 * 1000, now_ms = clock_realtime_ms();
        uint8_t other[64] = {1};
        char path[300];
        struct journal *journal = must_open(64, 0, 4 * (uint64_t)hour_ms, NULL);
        cr_assert(append(journal, 8 * MIB, now_ms - 2 * hour_ms));
        journal_close(journal);
        (void)snprintf(path, sizeof(path), "%s/0000000000000001.segment", directory);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        cr_assert_eq(pwrite(fd, other, sizeof(other), 4096), (ssize_t)sizeof(other));
        (void)close(fd);
        struct journal_recovery recovery;
        journal = must_open(64, 0, (uint64_t)hour_ms, &recovery);
        cr_assert_eq(recovery.lost_records, 1);
        pass(journal);
        cr_assert_leq(stats_of(journal).passed_bytes, 2 * MIB);
        check_equation(journal);
        journal_close(journal);
}

/* How much the log takes while the cursor stands is the same with and without. */
static uint64_t room_with(uint64_t retention_bytes)
{
        struct journal *journal = must_open(8, retention_bytes, 0, NULL);
        for (unsigned round = 0; round < 20; round++) {
                cr_assert(append(journal, MIB, 0), "never full while the cursor passes");
                pass(journal);
                cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        }
        uint64_t from = journal_committed_position(journal);
        while (append(journal, 64 * 1024, 0))
                ;
        check_equation(journal);
        uint64_t room = journal_committed_position(journal) - from;
        struct journal_stats stats;
        journal_get_stats(journal, &stats);
        cr_assert_leq(stats.size_bytes, 8 * MIB);
        pass(journal);
        cr_assert(append(journal, MIB, 0), "and it goes on");
        check_equation(journal);
        journal_close(journal);
        return room;
}

Test(journal_retention, it_gives_way_and_nobody_finds_the_log_full_for_it)
{
        uint64_t without = room_with(0);
        remove_directory();
        make_directory();
        uint64_t with = room_with(100 * MIB);
        cr_assert_geq(with, without, "%llu bytes, not %llu", (unsigned long long)with, (unsigned long long)without);
        cr_assert_gt(without, 6 * MIB);
}

/* A disk that takes no new file takes the kept ones again. */
Test(journal_retention, it_gives_way_to_a_full_disk)
{
        struct journal *journal = must_open(64, 32 * MIB, 0, NULL);
        struct rlimit before, small;
        cr_assert(append(journal, 10 * MIB, 0));
        pass(journal);
        uint64_t size_bytes = stats_of(journal).size_bytes;
        (void)signal(SIGXFSZ, SIG_IGN);
        cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
        small = before;
        small.rlim_cur = 64 * 1024;
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
        for (unsigned round = 0; round < 6; round++) {
                cr_assert(append(journal, MIB, 0), "round %u", round);
                pass(journal);
        }
        struct journal_stats stats = stats_of(journal);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
        cr_assert_leq(stats.size_bytes, size_bytes);
        cr_assert_gt(stats.segments_recycled, 3);
        check_equation(journal);
        journal_close(journal);
}

/* A reader beside the writer, overtaken: it is told, and never given a record of another time for one of this. */
Test(journal_retention, what_is_recycled_under_a_reader_is_told)
{
        struct journal *journal = must_open(10, 100 * MIB, 0, NULL); /* always recycled, never removed */
        cr_assert(append(journal, 9 * MIB, 0));
        pass(journal);
        (void)stats_of(journal);
        struct journal *beside = must_open_beside(), *stale = must_open_beside();
        struct journal_reader *reader, *late;
        struct journal_record record;
        cr_assert_eq(journal_reader_create(beside, &reader, NULL), ERR_OK);
        cr_assert_eq(journal_reader_create(stale, &late, NULL), ERR_OK);
        uint64_t limit = journal_committed_position(beside), position = journal_oldest_position(beside), sequence = 0;
        cr_assert_eq(journal_read(reader, position, limit, &record), ERR_OK);
        sequence = record.sequence;
        position = record.next_position;
        for (unsigned round = 0; round < 20; round++) {
                cr_assert(append(journal, MIB, 0));
                pass(journal);
                (void)stats_of(journal);
        }
        /* The segment in hand is a copy; what follows is gone. */
        enum err_code code;
        while ((code = journal_read(reader, position, limit, &record)) == ERR_OK) {
                cr_assert_eq(record.sequence, ++sequence);
                cr_assert(journal_files_check(record.payload, sequence, MEAN));
                position = record.next_position;
        }
        cr_assert_eq(code, ERR_NOT_FOUND, "%s", err_name(code));
        cr_assert_eq(journal_read(late, journal_oldest_position(stale), limit, &record), ERR_NOT_FOUND);
        journal_reader_free(reader);
        journal_reader_free(late);
        journal_close(beside);
        journal_close(stale);
        beside = must_open_beside();
        (void)read_kept(beside, &record);
        cr_assert_gt(record.sequence, sequence);
        journal_close(beside);
        journal_close(journal);
}

/* Damage in what is only kept costs no delivery and no count; whoever replays is told. */
Test(journal_retention, damage_in_what_is_kept_is_told_to_who_reads_it)
{
        struct journal *journal = must_open(64, 32 * MIB, 0, NULL);
        cr_assert(append(journal, 12 * MIB, 0));
        pass(journal);
        (void)stats_of(journal);
        journal_close(journal);
        char path[600];
        (void)snprintf(path, sizeof(path), "%s/0000000000000001.segment", directory);
        int fd = open(path, O_RDWR);
        cr_assert(fd >= 0 && pwrite(fd, "damage", 6, MIB / 2) == 6 && close(fd) == 0);
        struct journal_recovery recovery;
        journal = must_open(64, 32 * MIB, 0, &recovery);
        cr_assert_eq(recovery.lost_records + recovery.quarantined_segments + recovery.targets_rebuilt, 0);
        check_equation(journal);
        struct journal *beside = must_open_beside();
        struct journal_reader *reader;
        struct journal_record record;
        uint64_t position = journal_oldest_position(beside), good = 0, bad = 0;
        cr_assert_eq(journal_reader_create(beside, &reader, NULL), ERR_OK);
        for (;;) {
                enum err_code code = journal_read(reader, position, journal_committed_position(beside), &record);
                if (code == ERR_EMPTY)
                        break;
                cr_assert(code == ERR_OK || code == ERR_CORRUPT, "%s", err_name(code));
                cr_assert(code != ERR_OK || journal_files_check(record.payload, record.sequence, MEAN));
                good += code == ERR_OK;
                bad += code == ERR_CORRUPT;
                position = record.next_position;
        }
        cr_assert_eq(bad, 1);
        cr_assert_eq(good + 1, journal_next_sequence(beside) - 1);
        journal_reader_free(reader);
        journal_close(beside);
        journal_close(journal);
}

/* What was kept under a larger limit gives way to a smaller one, and not only what comes. */
Test(journal_retention, a_limit_that_was_lowered_is_kept)
{
        struct journal *journal = must_open(24, 0, 3600 * 1000, NULL);
        for (unsigned round = 0; round < 30; round++) {
                cr_assert(append(journal, MIB, clock_realtime_ms()));
                pass(journal);
        }
        struct journal_stats stats = stats_of(journal);
        cr_assert_eq(stats.size_bytes, 24 * MIB);
        journal_close(journal);

        journal = must_open(6, 0, 3600 * 1000, NULL);
        stats = stats_of(journal);
        cr_assert_eq(stats.size_bytes, 6 * MIB, "%llu MiB at open", (unsigned long long)stats.size_bytes / MIB);
        for (unsigned round = 0; round < 12; round++) {
                cr_assert(append(journal, MIB, clock_realtime_ms()));
                pass(journal);
                stats = stats_of(journal);
                cr_assert_eq(stats.size_bytes, 6 * MIB, "%llu MiB", (unsigned long long)stats.size_bytes / MIB);
        }
        cr_assert_geq(stats.passed_bytes, 3 * MIB, "as much is kept as there is room for");
        check_equation(journal);
        journal_close(journal);

        /* What waits is no less kept for that. */
        journal = must_open(24, 0, 0, NULL);
        cr_assert(append(journal, 16 * MIB, 0));
        journal_close(journal);
        journal = must_open(6, 0, 3600 * 1000, NULL);
        cr_assert_not(append(journal, 4 * MIB, 0));
        check_equation(journal);
        journal_close(journal);
}
