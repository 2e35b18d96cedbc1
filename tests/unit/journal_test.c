#include "journal/journal.h"

#include "tests/support/journal_files.h"

#include <criterion/criterion.h>
#include <sys/resource.h>
#include <sys/wait.h>

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

TestSuite(journal, .init = make_directory, .fini = remove_directory, .timeout = 60);

static struct journal_options options_of(uint64_t segments)
{
        return (struct journal_options){
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = segments * MIB,
                .segments_mapped_max = 4,
        };
}

static struct journal *must_open(const struct journal_options *options, struct journal_recovery *ret_recovery)
{
        struct journal *journal = NULL;
        struct err err;
        enum err_code code = journal_open(options, &journal, ret_recovery, &err);
        cr_assert_eq(code, ERR_OK, "%s: %s", err_name(code), err.text);
        return journal;
}

static struct journal *must_open_small(uint64_t segments, struct journal_recovery *ret_recovery)
{
        struct journal_options options = options_of(segments);
        return must_open(&options, ret_recovery);
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

/* Every target satisfies the equation, counted in the log. */
static void check_equation(struct journal *journal)
{
        for (uint16_t target = 0; target < journal_targets_count(journal); target++) {
                struct journal_target_state state;
                uint64_t waiting;
                struct err err;
                enum err_code code = journal_target_audit(journal, target, &state, &waiting, &err);
                cr_assert_eq(code, ERR_OK, "%s", err.text);
                cr_assert_eq(state.accepted,
                             state.delivered + state.dead_lettered + state.shed + state.expired + waiting,
                             "target %u: %lu accepted, %lu delivered, %lu shed, %lu waiting", target,
                             (unsigned long)state.accepted, (unsigned long)state.delivered, (unsigned long)state.shed,
                             (unsigned long)waiting);
        }
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
        cr_assert_eq(journal_reserve(journal, LIMIT_EVENT_BYTES_MAX + 1, &payload), ERR_TOO_BIG);
        journal_close(journal);
}

Test(journal, segments_are_recycled_when_every_cursor_has_passed)
{
        struct journal *journal = must_open_small(5, NULL);
        must_register(journal, 3);
        for (unsigned round = 0; round < 40; round++) {
                append(journal, 1000, 3);
                advance_all(journal, 3);
                check_equation(journal);
        }
        struct journal_stats stats;
        journal_get_stats(journal, &stats);
        cr_assert_leq(stats.size_bytes, 5 * MIB);
        cr_assert_gt(stats.segments_recycled, 15);
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
