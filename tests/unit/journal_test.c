#include "tests/support/journal_rig.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define JOURNAL_START 4096u /* position of the first record of a new log, by the drawing */

TestSuite(journal, .init = make_directory, .fini = remove_directory, .timeout = 60);

/* Bit by bit, from the polynomial: not the library that the journal uses. */
static uint32_t test_crc32c(const uint8_t *bytes, size_t len)
{
        uint32_t crc = 0;
        for (size_t i = 0; i < len; i++) {
                crc ^= bytes[i];
                for (unsigned bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
        }
        return crc;
}

static struct journal_options options_of(uint64_t segments)
{
        return (struct journal_options){
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = segments * MIB,
                .drain_bytes_max = 2 * MIB,
                .segments_mapped_max = 4,
        };
}

static struct journal *must_open_small(uint64_t segments, struct journal_recovery *ret_recovery)
{
        struct journal_options options = options_of(segments);
        return rig_open(&options, ret_recovery);
}

static void must_register(struct journal *journal, uint32_t count)
{
        static const char *const keys[] = {"file /a", "firehose b", "sns c"};
        for (uint32_t i = 0; i < count; i++) {
                uint16_t target;
                struct err err;
                cr_assert_eq(journal_target_register(journal, slice_of_text(keys[i]), &target, &err), ERR_OK);
                cr_assert_eq(target, i);
        }
}

/* Appends `count` records and publishes every seventh; maintenance whenever it is wanted. */
static void append(struct journal *journal, uint64_t count, uint32_t targets)
{
        uint64_t sequence = journal_next_sequence(journal);
        for (uint64_t i = 0; i < count; i++, sequence++) {
                enum err_code code = journal_files_append(journal, sequence, MEAN, targets);
                if (code == ERR_FULL) {
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                        code = journal_files_append(journal, sequence, MEAN, targets);
                }
                cr_assert_eq(code, ERR_OK);
                if (i % 7 == 6)
                        journal_publish(journal);
                if (journal_wants_maintenance(journal))
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        }
        journal_publish(journal);
}

/* Reads [position, committed), checks every record, returns how many; *ret_position is where it ended. */
static uint64_t read_all(struct journal *journal, uint64_t position, uint64_t sequence, uint64_t *ret_position)
{
        struct journal_reader *reader;
        uint64_t count = 0;
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        uint64_t limit = journal_committed_position(journal);
        for (;;) {
                struct journal_record record;
                enum err_code code = journal_read(reader, position, limit, &record);
                if (code == ERR_EMPTY)
                        break;
                cr_assert_eq(code, ERR_OK, "%s", err_name(code));
                cr_assert_geq(record.position, position);
                cr_assert_eq(record.sequence, sequence);
                cr_assert(journal_files_check(record.payload, sequence, MEAN));
                cr_assert_eq((uintptr_t)record.payload.ptr % 64, 0);
                struct journal_entry entry = journal_files_entry(sequence, record.entry.routes_count == 0 ? 0 : 3);
                cr_assert_eq(record.entry.lane_id, entry.lane_id);
                cr_assert_eq(record.entry.lane_position, entry.lane_position);
                cr_assert_eq(record.entry.accepted_ms, entry.accepted_ms);
                cr_assert_eq(record.entry.event_type, entry.event_type);
                position = record.next_position;
                sequence++;
                count++;
        }
        journal_reader_free(reader);
        if (ret_position != NULL)
                *ret_position = position;
        return count;
}

static void advance_all(struct journal *journal, uint32_t targets)
{
        uint64_t position, sequence;
        journal_committed(journal, &position, &sequence);
        for (uint16_t target = 0; target < targets; target++) {
                uint64_t waiting = journal_target_count_waiting(journal, target, NULL);
                journal_target_advance(journal, target, position, sequence,
                                       &(struct journal_settled){.delivered = waiting});
        }
}

Test(journal, read_returns_what_was_appended_also_after_open)
{
        struct journal *journal = must_open_small(16, NULL);
        must_register(journal, 3);
        uint64_t start = journal_committed_position(journal);
        append(journal, 5000, 3);
        cr_assert_eq(read_all(journal, start, 1, NULL), 5000);
        cr_assert_gt(journal_committed_position(journal), 3 * MIB);
        journal_close(journal);
        struct journal_recovery recovery;
        journal = must_open_small(16, &recovery);
        cr_assert_eq(recovery.records, 5000);
        cr_assert_eq(recovery.lost_records, 0);
        cr_assert_eq(recovery.cut_bytes, 0);
        cr_assert_eq(recovery.quarantined_segments, 0);
        cr_assert_eq(journal_next_sequence(journal), 5001);
        cr_assert_eq(read_all(journal, start, 1, NULL), 5000);
        append(journal, 100, 3);
        cr_assert_eq(read_all(journal, start, 1, NULL), 5100);
        check_equation(journal);
        journal_close(journal);
}

Test(journal, nothing_is_visible_before_publish_but_a_commit_survives)
{
        struct journal *journal = must_open_small(4, NULL);
        must_register(journal, 1);
        uint64_t start = journal_committed_position(journal);
        cr_assert_eq(journal_files_append(journal, 1, MEAN, 1), ERR_OK);
        cr_assert_eq(journal_committed_position(journal), start);
        cr_assert_eq(journal_last_position(journal), start);
        uint8_t *payload;
        cr_assert_eq(journal_reserve(journal, 100, &payload), ERR_OK);
        memset(payload, 1, 100);
        journal_abort(journal);
        journal_close(journal); /* as a kill: nothing was published */
        journal = must_open_small(4, NULL);
        cr_assert_eq(read_all(journal, start, 1, NULL), 1);
        struct journal_target_state state;
        cr_assert(journal_target_get(journal, 0, &state));
        cr_assert_eq(state.accepted, 1);
        cr_assert_eq(journal_reserve(journal, LIMIT_RECORD_BYTES_MAX + 1, &payload), ERR_TOO_BIG);
        journal_close(journal);
}

static uint32_t seed_of_first_file(void)
{
        char path[300];
        uint32_t seed = 0;
        (void)snprintf(path, sizeof(path), "%s/0000000000000000.segment", directory);
        int fd = open(path, O_RDONLY);
        cr_assert_eq(pread(fd, &seed, sizeof(seed), 12), sizeof(seed));
        (void)close(fd);
        return seed;
}

Test(journal, segments_are_recycled_when_every_cursor_has_passed)
{
        struct journal *journal = must_open_small(5, NULL);
        must_register(journal, 3);
        uint32_t seed = seed_of_first_file();
        for (unsigned round = 0; round < 40; round++) {
                append(journal, 1000, 3);
                advance_all(journal, 3);
                check_equation(journal);
        }
        struct journal_stats stats;
        journal_get_stats(journal, &stats);
        cr_assert_leq(stats.size_bytes, 5 * MIB);
        cr_assert_gt(stats.segments_recycled, 15);
        /* Stale records must fail their CRC, not only their sequence. */
        cr_assert_neq(seed_of_first_file(), seed);
        cr_assert_neq(seed_of_first_file(), 0);
        cr_assert_gt(stats.committed_position, 20 * MIB);
        cr_assert_eq(stats.records, 40000);
        journal_close(journal);
        struct journal_recovery recovery;
        journal = must_open_small(5, &recovery);
        cr_assert_eq(journal_next_sequence(journal), 40001);
        cr_assert_eq(recovery.lost_records, 0);
        cr_assert_eq(recovery.targets_rebuilt, 0);
        check_equation(journal);
        struct journal_target_state state;
        cr_assert(journal_target_get(journal, 2, &state));
        cr_assert_eq(state.accepted, journal_files_routed(1, 40001, 2));
        cr_assert_eq(state.delivered, state.accepted);
        journal_close(journal);
}

Test(journal, a_full_log_refuses_and_goes_on_when_cursors_pass)
{
        struct journal *journal = must_open_small(4, NULL);
        struct err err;
        must_register(journal, 1);
        uint64_t sequence = 1;
        while (true) {
                enum err_code code = journal_files_append(journal, sequence, MEAN, 1);
                if (code == ERR_FULL) {
                        code = journal_maintain(journal, &err);
                        if (code == ERR_FULL)
                                break;
                        cr_assert_eq(code, ERR_OK);
                        continue;
                }
                cr_assert_eq(code, ERR_OK);
                sequence++;
        }
        journal_publish(journal);
        struct journal_stats stats;
        journal_get_stats(journal, &stats);
        cr_assert_eq(stats.size_bytes, 4 * MIB);
        uint8_t *payload;
        cr_assert_eq(journal_reserve(journal, 4000, &payload), ERR_FULL);
        cr_assert(journal_wants_maintenance(journal));
        check_equation(journal);

        /* At the end of the service it may grow: by so much and no more. */
        journal_use_drain_room(journal);
        uint64_t before = sequence;
        while (journal_maintain(journal, &err) == ERR_OK)
                while (journal_files_append(journal, sequence, MEAN, 1) == ERR_OK)
                        sequence++;
        journal_publish(journal);
        journal_get_stats(journal, &stats);
        cr_assert_eq(stats.size_bytes, 6 * MIB);
        cr_assert_gt((sequence - before) * MEAN, MIB);
        check_equation(journal);

        /* The first segment passes; it is the only one that comes back. */
        struct journal_reader *reader;
        struct journal_record record = {0};
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        uint64_t position = 0, settled = 0;
        while (position < MIB) {
                cr_assert_eq(journal_read(reader, position, journal_committed_position(journal), &record), ERR_OK);
                position = record.next_position;
                settled++;
        }
        journal_target_advance(journal, 0, record.position, record.sequence,
                               &(struct journal_settled){.delivered = settled - 1});
        /* A reader in it would hold it; this one has moved on to the next one. */
        cr_assert_eq(journal_maintain(journal, &err), ERR_OK);
        cr_assert_eq(journal_files_append(journal, sequence, MEAN, 1), ERR_OK);
        journal_publish(journal);
        check_equation(journal);
        cr_assert_eq(journal_read(reader, JOURNAL_START, UINT64_MAX, &record), ERR_NOT_FOUND);
        journal_reader_free(reader);
        journal_close(journal);
        /* Opening a full log works, too. */
        journal = must_open_small(4, NULL);
        cr_assert_eq(journal_next_sequence(journal), sequence + 1);
        check_equation(journal);
        journal_close(journal);
}

Test(journal, a_reader_holds_its_segment_until_it_rests)
{
        struct journal *journal = must_open_small(4, NULL);
        struct journal_reader *reader;
        struct journal_record record;
        must_register(journal, 1);
        append(journal, 100, 1);
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        cr_assert_eq(journal_read(reader, JOURNAL_START, journal_committed_position(journal), &record), ERR_OK);
        uint64_t sequence = 101;
        enum err_code code = ERR_OK;
        while (code == ERR_OK) {
                code = journal_files_append(journal, sequence, MEAN, 1);
                if (code == ERR_FULL) {
                        journal_publish(journal);
                        advance_all(journal, 1);
                        code = journal_maintain(journal, NULL);
                } else {
                        sequence++;
                }
        }
        cr_assert_eq(code, ERR_FULL, "the first segment is pinned");
        cr_assert(journal_files_check(record.payload, 1, MEAN));
        journal_reader_rest(reader);
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        journal_reader_free(reader);
        journal_close(journal);
}

Test(journal, targets_keep_their_numbers_and_start_at_the_committed_position)
{
        struct journal *journal = must_open_small(8, NULL);
        struct err err;
        uint16_t target;
        append(journal, 10, 0);
        must_register(journal, 2);
        append(journal, 10, 2);
        cr_assert_eq(journal_target_register(journal, SLICE("firehose b"), &target, &err), ERR_OK);
        cr_assert_eq(target, 1);
        struct journal_target_state state;
        cr_assert(journal_target_get(journal, 0, &state));
        cr_assert_str_eq(state.key, "file /a");
        cr_assert_eq(state.cursor_sequence, 11);
        cr_assert_eq(state.accepted, 10);
        cr_assert_not(journal_target_get(journal, 2, &state));
        const struct slice bad[] = {SLICE(""), SLICE("a\0b")};
        for (size_t i = 0; i < 2; i++)
                cr_assert_eq(journal_target_register(journal, bad[i], &target, &err), ERR_NAME);
        char key[600];
        memset(key, 'k', sizeof(key));
        cr_assert_eq(journal_target_register(journal, slice_of(key, 512), &target, &err), ERR_NAME);
        cr_assert_eq(journal_target_register(journal, slice_of(key, 511), &target, &err), ERR_OK);
        cr_assert_eq(target, 2);
        journal_close(journal);
        journal = must_open_small(8, NULL);
        cr_assert_eq(journal_targets_count(journal), 3);
        must_register(journal, 2);
        cr_assert(journal_target_get(journal, 2, &state));
        cr_assert_eq(strlen(state.key), 511);
        check_equation(journal);
        journal_close(journal);
        /* No targets file, and no copy: the numbers that records carry belong to nobody, but to nobody else either. */
        char path[300];
        (void)snprintf(path, sizeof(path), "%s/targets", directory);
        cr_assert_eq(unlink(path), 0);
        (void)snprintf(path, sizeof(path), "%s/targets.copy", directory);
        cr_assert_eq(unlink(path), 0);
        journal = must_open_small(8, NULL);
        cr_assert_eq(journal_target_register(journal, SLICE("new"), &target, &err), ERR_OK);
        cr_assert_eq(target, 2);
        check_equation(journal);
        journal_close(journal);
}

Test(journal, the_number_of_targets_is_limited)
{
        struct journal *journal = must_open_small(4, NULL);
        uint16_t target;
        struct err err;
        for (uint32_t i = 0; i < LIMIT_TARGETS_MAX; i++) {
                char key[32];
                (void)snprintf(key, sizeof(key), "target %u", i);
                cr_assert_eq(journal_target_register(journal, slice_of_text(key), &target, &err), ERR_OK);
                cr_assert_eq(target, i);
        }
        cr_assert_eq(journal_target_register(journal, SLICE("one more"), &target, &err), ERR_LIMIT);
        journal_close(journal);
        journal = must_open_small(4, NULL);
        cr_assert_eq(journal_targets_count(journal), LIMIT_TARGETS_MAX);
        journal_close(journal);
}

Test(journal, a_retired_target_holds_nothing_and_comes_back_with_its_misses_shed)
{
        struct journal *journal = must_open_small(4, NULL);
        struct journal_target_state state;
        uint16_t target;
        must_register(journal, 3);
        append(journal, 300, 3);
        journal_target_advance(journal, 2, journal_committed_position(journal), 301,
                               &(struct journal_settled){.delivered = 200});
        journal_target_retire(journal, 2);
        cr_assert(journal_target_get(journal, 2, &state));
        cr_assert(state.retired);
        cr_assert_eq(state.shed, 0);
        journal_target_retire(journal, 1);
        cr_assert(journal_target_get(journal, 1, &state));
        cr_assert_eq(state.shed, 150);
        check_equation(journal);
        /* An older plan still routes to them; segments go round all the same. */
        for (unsigned round = 0; round < 12; round++) {
                append(journal, 1000, 3);
                advance_all(journal, 1);
        }
        check_equation(journal);
        cr_assert_eq(journal_target_register(journal, SLICE("firehose b"), &target, NULL), ERR_OK);
        cr_assert_eq(target, 1);
        cr_assert(journal_target_get(journal, 1, &state));
        cr_assert_not(state.retired);
        cr_assert_eq(state.shed, state.accepted);
        cr_assert_eq(state.accepted, journal_files_routed(1, 12301, 1));
        cr_assert_eq(state.cursor_position, journal_committed_position(journal));
        append(journal, 10, 3);
        cr_assert_eq(journal_target_count_waiting(journal, 1, NULL), 5);
        check_equation(journal);
        journal_close(journal);
        journal = must_open_small(4, NULL);
        check_equation(journal);
        /* Its misses since the last maintenance were not counted yet: whoever opens the log says what becomes of them.
         */
        cr_assert(journal_target_get(journal, 2, &state));
        cr_assert_not(state.retired);
        cr_assert_gt(journal_target_count_waiting(journal, 2, NULL), 0);
        journal_target_retire(journal, 2);
        journal_close(journal);
        journal = must_open_small(4, NULL);
        check_equation(journal);
        cr_assert(journal_target_get(journal, 2, &state));
        cr_assert(state.retired);
        journal_close(journal);
}

Test(journal, one_process_at_a_time_and_files_are_private)
{
        (void)umask(0);
        struct journal_options options = options_of(4);
        char inner[300];
        (void)snprintf(inner, sizeof(inner), "%s/a/b", directory);
        options.directory = inner;
        struct journal *journal = rig_open(&options, NULL), *second;
        struct err err;
        cr_assert_eq(journal_open(&options, &second, NULL, &err), ERR_LOCKED, "%s", err.text);
        struct stat status;
        cr_assert_eq(stat(inner, &status), 0);
        cr_assert_eq(status.st_mode & 0777, 0700);
        static const char *const names[] = {"lock", "targets", "0000000000000000.segment"};
        for (size_t i = 0; i < 3; i++) {
                char path[400];
                (void)snprintf(path, sizeof(path), "%s/%s", inner, names[i]);
                cr_assert_eq(stat(path, &status), 0, "%s", path);
                cr_assert_eq(status.st_mode & 0777, 0600);
        }
        journal_close(journal);
        journal_close(rig_open(&options, NULL));
}

Test(journal, options_out_of_range_are_refused)
{
        struct journal_options base = options_of(4), bad[5] = {base, base, base, base, base};
        bad[0].segment_bytes = MIB + 4096;
        bad[1].segment_bytes = MIB / 2;
        bad[2].size_bytes_max = 3 * MIB;
        bad[3].segments_mapped_max = 3;
        bad[4].size_bytes_max = UINT64_C(1) << 50;
        for (size_t i = 0; i < 5; i++) {
                struct journal *journal;
                struct err err;
                cr_assert_eq(journal_open(&bad[i], &journal, NULL, &err), ERR_CONFIG, "%zu", i);
        }
        struct journal *journal;
        struct err err;
        base.directory = "/dev/null/x";
        cr_assert_neq(journal_open(&base, &journal, NULL, &err), ERR_OK);
        base = options_of(4);
        base.read_only = true;
        cr_assert_neq(journal_open(&base, &journal, NULL, &err), ERR_OK, "there is nothing to read");
}

Test(journal, open_knows_the_last_position_of_every_lane)
{
        struct journal *journal = must_open_small(8, NULL);
        cr_assert_eq(journal_lane_position(journal, 100), 0);
        uint8_t *payload;
        for (uint64_t i = 1; i <= 5000; i++) {
                struct journal_entry entry = {.lane_id = i % 2500 + 1, .lane_position = i * 8};
                cr_assert_eq(journal_reserve(journal, 8, &payload), ERR_OK);
                memset(payload, 7, 8);
                journal_commit(journal, &entry, 8);
        }
        /* A rejected event counts for its lane, too. */
        struct journal_entry rejected = {.lane_id = 1, .lane_position = 1 << 20, .flags = JOURNAL_FLAG_REJECTED};
        cr_assert_eq(journal_reserve(journal, 700, &payload), ERR_OK);
        journal_commit(journal, &rejected, 0);
        journal_publish(journal);
        struct journal_stats stats;
        journal_get_stats(journal, &stats);
        cr_assert_eq(stats.rejected_records, 1);
        journal_close(journal);
        journal = must_open_small(8, NULL);
        cr_assert_eq(journal_lane_position(journal, 1), 1 << 20);
        for (uint64_t i = 2502; i <= 4999; i++)
                cr_assert_eq(journal_lane_position(journal, i % 2500 + 1), i * 8);
        cr_assert_eq(journal_lane_position(journal, 99999), 0);
        journal_close(journal);
}

static unsigned mapped_segments(void)
{
        FILE *maps = fopen("/proc/self/maps", "r");
        char line[1024];
        unsigned count = 0;
        cr_assert_not_null(maps);
        while (fgets(line, sizeof(line), maps) != NULL)
                count += strstr(line, directory) != NULL && strstr(line, ".segment") != NULL;
        (void)fclose(maps);
        return count;
}

Test(journal, a_lagging_reader_reads_cold_segments_within_the_memory_budget)
{
        struct journal *journal = must_open_small(64, NULL);
        must_register(journal, 1);
        uint64_t start = journal_committed_position(journal);
        append(journal, 50000, 1);
        cr_assert_leq(mapped_segments(), 4);
        struct journal_stats stats;
        journal_get_stats(journal, &stats);
        cr_assert_gt(stats.segments, 30);
        cr_assert_eq(stats.oldest_position, start);
        cr_assert_leq(stats.budget_bytes, 4 * MIB + 6 * MIB, "targets and tables are small");
        cr_assert_eq(read_all(journal, start, 1, NULL), 50000);
        check_equation(journal);
        /* All caught up: the disk space comes back, and what is recycled next is warm. */
        advance_all(journal, 1);
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        journal_get_stats(journal, &stats);
        cr_assert_leq(stats.segments, 4);
        cr_assert_eq(journal_files_count(directory, ".segment", NULL), stats.segments);
        append(journal, 5000, 1);
        cr_assert_leq(mapped_segments(), 4);
        check_equation(journal);
        journal_close(journal);
}

Test(journal, damage_that_comes_after_the_write_is_reported_and_stepped_over)
{
        struct journal *journal = must_open_small(64, NULL);
        must_register(journal, 1);
        uint64_t start = journal_committed_position(journal);
        append(journal, 20000, 1);
        struct journal_reader *reader;
        struct journal_record record;
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        uint64_t limit = journal_committed_position(journal), position = start;
        for (unsigned i = 0; i < 99; i++) {
                cr_assert_eq(journal_read(reader, position, limit, &record), ERR_OK);
                position = record.next_position;
        }
        uint64_t damaged = position;
        journal_reader_rest(reader);
        char path[300];
        (void)snprintf(path, sizeof(path), "%s/0000000000000000.segment", directory);
        int fd = open(path, O_RDWR);
        cr_assert_eq(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, (off_t)damaged), 8);
        cr_assert_eq(journal_read(reader, damaged, limit, &record), ERR_CORRUPT);
        cr_assert_eq(record.position, damaged);
        cr_assert_eq(journal_read(reader, record.next_position, limit, &record), ERR_OK);
        cr_assert_eq(record.sequence, 101);
        journal_reader_free(reader);
        /* The loss is not silent. */
        struct journal_target_state state;
        uint64_t waiting;
        cr_assert_eq(journal_target_audit(journal, 0, &state, &waiting, NULL), ERR_OK);
        cr_assert_eq(state.accepted, 19999);
        cr_assert_eq(state.lost, 1);
        cr_assert_eq(waiting, 19999);
        (void)close(fd);
        journal_close(journal);
}

Test(journal, the_segment_size_can_change_between_runs)
{
        struct journal_options options = options_of(64);
        struct journal *journal = rig_open(&options, NULL);
        must_register(journal, 1);
        uint64_t start = journal_committed_position(journal);
        append(journal, 10000, 1);
        journal_close(journal);
        options.segment_bytes = 4 * MIB;
        journal = rig_open(&options, NULL);
        append(journal, 10000, 1);
        cr_assert_eq(read_all(journal, start, 1, NULL), 20000);
        check_equation(journal);
        journal_close(journal);
        options.segment_bytes = 2 * MIB;
        options.size_bytes_max = 16 * MIB; /* less than there is */
        journal = rig_open(&options, NULL);
        cr_assert_eq(read_all(journal, start, 1, NULL), 20000);
        advance_all(journal, 1);
        append(journal, 3000, 1);
        advance_all(journal, 1);
        append(journal, 10, 1);
        struct journal_stats stats;
        journal_get_stats(journal, &stats);
        cr_assert_leq(stats.size_bytes, 16 * MIB);
        check_equation(journal);
        journal_close(journal);
}

Test(journal, durability_host_moves_the_durable_position_by_sync)
{
        struct journal_options options = options_of(16);
        options.durability = JOURNAL_DURABILITY_HOST;
        struct journal *journal = rig_open(&options, NULL);
        must_register(journal, 1);
        uint64_t start = journal_durable_position(journal);
        append(journal, 5000, 1);
        cr_assert_eq(journal_durable_position(journal), start);
        cr_assert_eq(journal_sync(journal, NULL), ERR_OK);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        advance_all(journal, 1);
        append(journal, 5000, 1);
        cr_assert_eq(journal_sync(journal, NULL), ERR_OK);
        journal_close(journal);
        journal = rig_open(&options, NULL);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        check_equation(journal);
        journal_close(journal);
}

Test(journal, reading_beside_a_writer_sees_a_true_state_and_writes_nothing)
{
        struct journal *journal = must_open_small(6, NULL);
        must_register(journal, 3);
        append(journal, 3000, 3);
        struct journal_options options = {.directory = directory, .read_only = true};
        struct journal *ledger = rig_open(&options, NULL);
        for (unsigned round = 0; round < 10; round++) {
                struct journal_target_state state, live;
                uint64_t waiting;
                check_equation(ledger);
                cr_assert_eq(journal_target_audit(ledger, 2, &state, &waiting, NULL), ERR_OK);
                cr_assert(journal_target_get(journal, 2, &live));
                cr_assert_eq(state.accepted, live.accepted);
                cr_assert_eq(waiting, journal_target_count_waiting(journal, 2, NULL));
                cr_assert_eq(journal_committed_position(ledger), journal_committed_position(journal));
                cr_assert_eq(journal_next_sequence(ledger), journal_next_sequence(journal));
                append(journal, 500, 3);
                advance_all(journal, 3);
                append(journal, 1 + round * 100, 3);
        }
        uint16_t target;
        cr_assert_eq(journal_target_register(journal, SLICE("late"), &target, NULL), ERR_OK);
        check_equation(ledger);
        cr_assert_eq(journal_targets_count(ledger), 4);
        journal_close(ledger);
        journal_close(journal);
        /* And of a log that nobody runs. */
        ledger = rig_open(&options, NULL);
        check_equation(ledger);
        journal_close(ledger);
}

Test(journal, another_version_is_refused_and_left_alone)
{
        static const char *const names[] = {"0000000000000000.segment", "targets"};
        for (size_t i = 0; i < 2; i++) {
                journal_close(must_open_small(4, NULL));
                char path[300];
                (void)snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
                /* Version 2 with a right CRC: only the formats' drawing is used here. */
                uint8_t page[4096];
                int fd = open(path, O_RDWR);
                cr_assert_eq(pread(fd, page, sizeof(page), 0), sizeof(page));
                page[8] = 2;
                uint32_t crc = test_crc32c(page, i == 0 ? 60 : 16);
                memcpy(page + (i == 0 ? 60 : 16), &crc, 4);
                cr_assert_eq(pwrite(fd, page, sizeof(page), 0), sizeof(page));
                if (i == 0)
                        cr_assert_eq(pwrite(fd, page, 64, MIB - 4096), 64);
                (void)close(fd);
                struct journal *journal;
                struct journal_options options = options_of(4);
                struct err err;
                cr_assert_eq(journal_open(&options, &journal, NULL, &err), ERR_VERSION);
                journal_files_remove(directory);
                cr_assert_eq(mkdir(directory, 0700), 0);
        }
}
