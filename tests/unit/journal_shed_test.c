/* Logs that share a budget, and oldest events that are given up. */
#include "journal/journal.h"

#include "tests/support/journal_files.h"

#include <criterion/criterion.h>

#define MIB  (1024u * 1024u)
#define MEAN 700u

static char directory[256], other_directory[256];

static void make_directories(void)
{
        journal_files_make(directory);
        journal_files_make(other_directory);
}

static void remove_directories(void)
{
        journal_files_remove(directory);
        journal_files_remove(other_directory);
}

TestSuite(journal_shed, .init = make_directories, .fini = remove_directories, .timeout = 60);

static struct journal *must_open(const char *path, struct journal_budget *budget, uint64_t segments, bool deliver_only)
{
        struct journal_options options = {
                .directory = path,
                .segment_bytes = MIB,
                .size_bytes_max = segments * MIB,
                .budget = budget,
                .deliver_only = deliver_only,
                .segments_mapped_max = 4,
        };
        struct journal *journal = NULL;
        struct journal_recovery recovery;
        struct err err;
        enum err_code code = journal_open(&options, &journal, &recovery, &err);
        cr_assert_eq(code, ERR_OK, "%s", err.text);
        cr_assert_eq(recovery.lost_records, 0);
        return journal;
}

static void must_register(struct journal *journal)
{
        uint16_t target;
        cr_assert_eq(journal_target_register(journal, SLICE("file /a"), &target, NULL), ERR_OK);
        cr_assert_eq(target, 0);
}

/* Appends until the log is full. Returns how many records. */
static uint64_t fill(struct journal *journal)
{
        uint64_t count = 0;
        for (;; count++) {
                enum err_code code = journal_files_append(journal, journal_next_sequence(journal), MEAN, 1);
                if (code == ERR_FULL && journal_maintain(journal, NULL) == ERR_OK)
                        code = journal_files_append(journal, journal_next_sequence(journal), MEAN, 1);
                if (code == ERR_FULL)
                        return count;
                cr_assert_eq(code, ERR_OK);
                journal_publish(journal);
        }
}

static uint64_t segments_of(const struct journal *journal)
{
        struct journal_stats stats;
        journal_get_stats(journal, &stats);
        return stats.segments;
}

/* What the owner of the target does with an announcement. Returns the events that were shed. */
static uint64_t carry_out(struct journal *journal)
{
        struct journal_target_state state;
        struct journal_reader *reader;
        struct journal_settled settled = {0};
        uint64_t before = journal_shed_before(journal);
        cr_assert(journal_target_get(journal, 0, &state));
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        uint64_t position = state.cursor_position, sequence = state.cursor_sequence;
        struct journal_record record;
        while (journal_read(reader, position, before, &record) == ERR_OK) {
                position = record.next_position;
                sequence = record.sequence + 1;
                for (unsigned i = 0; i < record.entry.routes_count; i++)
                        settled.shed += record.entry.routes[i] == 0;
        }
        cr_assert_eq(position, before);
        journal_reader_free(reader);
        journal_target_advance(journal, 0, position, sequence, &settled);
        return settled.shed;
}

static void check_equation(struct journal *journal, uint64_t accepted, uint64_t shed)
{
        struct journal_target_state state;
        uint64_t waiting;
        struct err err;
        cr_assert_eq(journal_target_audit(journal, 0, &state, &waiting, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(state.accepted, accepted);
        cr_assert_eq(state.shed, shed);
        cr_assert_eq(state.accepted, state.delivered + state.shed + waiting);
}

Test(journal_shed, logs_of_one_budget_share_its_bytes_and_each_has_two_segments)
{
        struct journal_budget budget = {0};
        struct journal *main_log = must_open(directory, &budget, 6, false);
        must_register(main_log);
        cr_assert_gt(fill(main_log), 0);
        cr_assert_eq(segments_of(main_log), 6);
        cr_assert_eq(budget.size_bytes, 6 * MIB);
        /* It comes later, to a budget that is used up. */
        struct journal *other = must_open(other_directory, &budget, 6, false);
        must_register(other);
        cr_assert_eq(segments_of(other), JOURNAL_SEGMENTS_OWN);
        cr_assert_gt(fill(other), 0);
        cr_assert_eq(segments_of(other), JOURNAL_SEGMENTS_OWN);
        cr_assert_eq(budget.size_bytes, 8 * MIB);
        journal_close(other);
        cr_assert_eq(budget.size_bytes, 6 * MIB);
        journal_close(main_log);
        cr_assert_eq(budget.size_bytes, 0);
}

Test(journal_shed, what_was_passed_gives_way_to_another_log)
{
        struct journal_budget budget = {0};
        struct journal *main_log = must_open(directory, &budget, 8, false);
        struct journal *other = must_open(other_directory, &budget, 8, false);
        must_register(main_log);
        must_register(other);
        cr_assert_gt(fill(other), 0);
        cr_assert_eq(segments_of(other), 6);
        uint64_t position, sequence;
        journal_committed(other, &position, &sequence);
        journal_target_advance(other, 0, position, sequence,
                               &(struct journal_settled){.delivered = journal_next_sequence(other) - 1});
        (void)fill(main_log);
        cr_assert_eq(segments_of(main_log), 2, "the other log keeps what it may recycle");
        while (journal_trim(other))
                ;
        cr_assert_eq(segments_of(other), 1, "the one that is being written; the next one is for maintenance to make");
        cr_assert_eq(journal_maintain(other, NULL), ERR_OK);
        cr_assert_eq(segments_of(other), JOURNAL_SEGMENTS_OWN);
        cr_assert_gt(fill(main_log), 0);
        cr_assert_eq(segments_of(main_log), 6);
        journal_close(other);
        journal_close(main_log);
}

Test(journal_shed, the_oldest_segment_is_given_up_and_counted)
{
        struct journal_budget budget = {0};
        struct journal *journal = must_open(directory, &budget, 4, false);
        must_register(journal);
        cr_assert_eq(journal_shed_before(journal), 0);
        cr_assert_eq(journal_shed_oldest(journal), ERR_EMPTY, "nothing is closed yet");
        cr_assert_eq(journal_oldest_ms(journal), INT64_MAX);
        uint64_t accepted = fill(journal), shed = 0;
        for (int round = 0; round < 3; round++) {
                int64_t oldest_ms = journal_oldest_ms(journal);
                cr_assert_eq(journal_shed_oldest(journal), ERR_OK);
                uint64_t before = journal_shed_before(journal);
                cr_assert(journal_shed_pending(journal));
                /* Announced again, nothing more is given up. */
                cr_assert_eq(journal_shed_oldest(journal), ERR_OK);
                cr_assert_eq(journal_shed_before(journal), before);
                cr_assert_eq(journal_maintain(journal, NULL), ERR_FULL);
                shed += carry_out(journal);
                cr_assert_not(journal_shed_pending(journal));
                check_equation(journal, accepted, shed);
                cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                cr_assert_gt(journal_oldest_ms(journal), oldest_ms);
                accepted += fill(journal);
                cr_assert_eq(budget.size_bytes, 4 * MIB);
        }
        cr_assert_gt(shed, 3 * 900);
        check_equation(journal, accepted, shed);
        /* A kill: the counts are there, the announcement is not. */
        journal_close(journal);
        journal = must_open(directory, &budget, 4, false);
        check_equation(journal, accepted, shed);
        cr_assert_eq(journal_shed_before(journal), 0);
        cr_assert_not(journal_shed_pending(journal));
        /* Nobody needs it: nothing to give up. */
        journal_target_retire(journal, 0);
        cr_assert_eq(journal_shed_oldest(journal), ERR_EMPTY);
        journal_close(journal);
}

Test(journal_shed, a_log_that_nobody_writes_any_more_is_delivered_and_goes)
{
        struct journal_budget budget = {0};
        struct journal *journal = must_open(directory, &budget, 4, false);
        must_register(journal);
        uint64_t accepted = fill(journal);
        journal_close(journal);
        journal = must_open(directory, &budget, 4, true);
        uint64_t segments = segments_of(journal);
        cr_assert_not(journal_is_settled(journal));
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK, "it wants no room");
        cr_assert_eq(segments_of(journal), segments);
        struct journal_target_state state;
        cr_assert(journal_target_get(journal, 0, &state));
        journal_target_advance(journal, 0, state.accepted_position, state.accepted_sequence + 1,
                               &(struct journal_settled){.delivered = accepted});
        cr_assert(journal_is_settled(journal));
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        cr_assert_leq(segments_of(journal), 1);
        journal_discard(journal);
        cr_assert_eq(budget.size_bytes, 0);
        char command[600];
        (void)snprintf(command, sizeof(command), "test -e %s/targets && ! ls %s/*.segment 2>/dev/null", directory,
                       directory);
        cr_assert_eq(system(command), 0); /* NOLINT: a test's own paths */
        /* The ledger reads its counts; a daemon whose settings ask for it again writes on. */
        struct journal_options options = {.directory = directory, .read_only = true};
        cr_assert_eq(journal_open(&options, &journal, NULL, NULL), ERR_OK);
        check_equation(journal, accepted, 0);
        journal_close(journal);
        journal = must_open(directory, &budget, 4, false);
        check_equation(journal, accepted, 0);
        accepted += fill(journal);
        check_equation(journal, accepted, 0);
        journal_close(journal);
}
