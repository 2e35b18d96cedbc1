/* The ledger of a log that loses records while it is open: it balances before a cursor comes to them, while it passes
 * them, behind them, over a kill, and after the next open, which counts nothing twice. */
#include "tests/support/journal_rig.h"

#include <string.h>

#define TARGETS 3u
#define RECORDS 6000u

TestSuite(journal_losses, .init = make_directory, .fini = remove_directory, .timeout = 60);

static struct journal *must_open_in(const char *where, bool read_only, struct journal_recovery *ret_recovery)
{
        const struct journal_options options = {
                .directory = where,
                .segment_bytes = MIB,
                .size_bytes_max = 16 * MIB,
                .segments_mapped_max = 4,
                .read_only = read_only,
        };
        return rig_open(&options, ret_recovery);
}

static struct journal *must_open(struct journal_recovery *ret_recovery)
{
        struct journal *journal = must_open_in(directory, false, ret_recovery);
        for (uint16_t number = 0; number < TARGETS; number++) {
                char key[16];
                uint16_t target;
                (void)snprintf(key, sizeof(key), "file /%u", number);
                cr_assert_eq(journal_target_register(journal, slice_of_text(key), &target, NULL), ERR_OK);
                cr_assert_eq(target, number);
        }
        return journal;
}

/* Appends records of the sequences from..to-1. */
static void append(struct journal *journal, uint64_t from, uint64_t to)
{
        for (uint64_t sequence = from; sequence < to; sequence++) {
                enum err_code code = journal_files_append(journal, sequence, MEAN, TARGETS);
                if (code == ERR_FULL) {
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                        code = journal_files_append(journal, sequence, MEAN, TARGETS);
                }
                cr_assert_eq(code, ERR_OK);
                cr_assert_eq(journal_publish(journal), ERR_OK);
                if (journal_wants_maintenance(journal))
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        }
}

/* Which sequences a walk over everything published finds, and where each stands. */
static struct {
        uint64_t position[RECORDS + 2]; /* 0: lost */
        uint64_t end;
} walk;
static void walk_all(struct journal *journal)
{
        struct journal_reader *reader;
        uint64_t position = 0, limit = journal_committed_position(journal);
        memset(&walk, 0, sizeof(walk));
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        for (;;) {
                struct journal_record record;
                enum err_code code = journal_read(reader, position, limit, &record);
                if (code == ERR_EMPTY)
                        break;
                cr_assert(code == ERR_OK || code == ERR_CORRUPT, "%s", err_name(code));
                if (code == ERR_OK)
                        walk.position[record.sequence] = record.position;
                position = record.next_position;
        }
        walk.end = limit;
        journal_reader_free(reader);
}

/* Events of one target among the sequences from..to-1: the whole ones, or the lost ones. */
static uint64_t routed(uint64_t from, uint64_t to, uint32_t target, bool lost)
{
        uint64_t count = 0;
        for (uint64_t sequence = from; sequence < to; sequence++)
                if ((walk.position[sequence] == 0) == lost)
                        count += journal_files_routed(sequence, sequence + 1, target);
        return count;
}

/* Delivers to one target what is whole of the sequences from..to-1, and moves its cursor there. */
static void deliver(struct journal *journal, uint16_t target, uint64_t from, uint64_t to)
{
        const uint64_t position = to == journal_next_sequence(journal) ? walk.end : walk.position[to];
        cr_assert_neq(position, 0);
        journal_target_advance(journal, target, position, to,
                               &(struct journal_settled){.delivered = routed(from, to, target, false)});
}

/* Of this process, and of another one that only reads. */
static void must_balance(struct journal *journal, uint16_t target, uint64_t lost)
{
        struct journal *ledger = must_open_in(directory, true, NULL);
        for (unsigned i = 0; i < 2; i++) {
                struct journal_target_state state;
                struct err err = {.text = ""};
                uint64_t waiting;
                enum err_code code = journal_target_audit(i == 0 ? journal : ledger, target, &state, &waiting, &err);
                cr_assert_eq(code, ERR_OK, "%s", err.text);
                cr_assert_eq(state.accepted, state.delivered + state.shed + waiting, "%u of %u: %llu, %llu, %llu", i,
                             target, (unsigned long long)state.accepted, (unsigned long long)state.delivered,
                             (unsigned long long)waiting);
                cr_assert_eq(state.lost, lost, "%u of %u: %llu and not %llu", i, target, (unsigned long long)state.lost,
                             (unsigned long long)lost);
        }
        journal_close(ledger);
}

static void cut_segment(uint64_t number, off_t bytes)
{
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/%016llx.segment", directory, (unsigned long long)number);
        cr_assert_eq(truncate(path, bytes), 0);
}

/* A log of some segments, of which the first two have lost what they had behind an offset. */
static struct journal *make_cut_log(uint64_t *ret_first_lost, uint64_t *ret_behind)
{
        struct journal *journal = must_open(NULL);
        append(journal, 1, RECORDS);
        cut_segment(0, 64 * 4096);
        cut_segment(1, 128 * 4096);
        walk_all(journal);
        uint64_t first = 1, last = RECORDS - 1;
        while (walk.position[first] != 0)
                first++;
        while (walk.position[last] != 0)
                last--;
        cr_assert_lt(first, last);
        cr_assert_lt(last, RECORDS - 100);
        *ret_first_lost = first;
        *ret_behind = last + 1;
        return journal;
}

Test(journal_losses, it_balances_before_a_cursor_comes_to_them)
{
        uint64_t first, behind;
        struct journal *journal = make_cut_log(&first, &behind);
        for (uint16_t target = 0; target < TARGETS; target++) {
                const uint64_t lost = routed(1, RECORDS, target, true);
                must_balance(journal, target, lost);
                deliver(journal, target, 1, first - 10);
                must_balance(journal, target, lost);
                struct journal_target_state state;
                cr_assert(journal_target_get(journal, target, &state));
                cr_assert_eq(state.lost, 0, "no cursor has passed them");
        }
        journal_close(journal);
}

Test(journal_losses, what_a_cursor_passes_is_lost_in_the_same_step)
{
        uint64_t first, behind;
        struct journal_target_state state;
        struct journal *journal = make_cut_log(&first, &behind);
        uint64_t between = behind - 1;
        while (walk.position[between] == 0)
                between--; /* between the two damages */
        while (walk.position[between - 1] != 0)
                between--;
        cr_assert_gt(between, first);
        for (uint16_t target = 0; target < TARGETS; target++) {
                const uint64_t lost = routed(1, RECORDS, target, true);
                /* Target 0 comes over both at once, the others to the place between them first. */
                if (target > 0) {
                        deliver(journal, target, 1, between);
                        cr_assert(journal_target_get(journal, target, &state));
                        cr_assert_geq(state.lost_records, routed(1, between, 0, true));
                        must_balance(journal, target, lost);
                        deliver(journal, target, between, behind + 10);
                } else {
                        deliver(journal, target, 1, behind + 10);
                }
                cr_assert(journal_target_get(journal, target, &state));
                cr_assert_eq(state.lost, 0, "it can be told only when nothing waits behind");
                must_balance(journal, target, lost);
                deliver(journal, target, behind + 10, RECORDS);
                cr_assert(journal_target_get(journal, target, &state));
                cr_assert_eq(state.lost, lost);
                cr_assert_eq(state.lost_records, 0);
                must_balance(journal, target, lost);
        }
        journal_close(journal);
}

/* What is accepted afterwards counts as always, and hides nothing: a count that is wrong for another reason shows. */
Test(journal_losses, they_explain_nothing_else)
{
        uint64_t first, behind;
        struct journal_target_state state;
        struct journal *journal = make_cut_log(&first, &behind);
        uint64_t waiting, lost = routed(1, RECORDS, 0, true);
        deliver(journal, 0, 1, RECORDS);
        for (unsigned i = 0; i < 50; i++)
                cr_assert_eq(journal_files_append(journal, 1, MEAN, TARGETS), ERR_OK);
        cr_assert_eq(journal_publish(journal), ERR_OK);
        must_balance(journal, 0, lost);
        /* One that is passed and told nobody of. */
        journal_target_advance(journal, 0, journal_committed_position(journal), journal_next_sequence(journal),
                               &(struct journal_settled){.delivered = 49});
        cr_assert_eq(journal_target_audit(journal, 0, &state, &waiting, NULL), ERR_OK);
        cr_assert_eq(state.accepted, state.delivered + 1);
        cr_assert_eq(state.lost, lost);
        journal_close(journal);
}

/* More is missing than the lost records can have held: that is not explained by them. */
Test(journal_losses, what_they_cannot_have_held_is_left_to_the_equation)
{
        struct journal *journal = must_open(NULL);
        struct journal_target_state state;
        uint64_t waiting;
        append(journal, 1, 101);
        const uint64_t end = journal_committed_position(journal), start = end - 64;
        journal_note_lost(journal, &(struct journal_record){.position = start, .next_position = end, .sequence = 100});
        journal_target_advance(journal, 0, end, 101,
                               &(struct journal_settled){.delivered = 100 - LIMIT_ROUTES_PER_EVENT_MAX - 1});
        cr_assert_eq(journal_target_audit(journal, 0, &state, &waiting, NULL), ERR_OK);
        cr_assert_eq(state.accepted, 100);
        cr_assert_eq(state.lost, 0);
        journal_target_advance(journal, 1, end, 101,
                               &(struct journal_settled){.delivered = 50 - LIMIT_ROUTES_PER_EVENT_MAX});
        cr_assert_eq(journal_target_audit(journal, 1, &state, &waiting, NULL), ERR_OK);
        cr_assert_eq(state.accepted, state.delivered);
        cr_assert_eq(state.lost, LIMIT_ROUTES_PER_EVENT_MAX);
        journal_close(journal);
}

Test(journal_losses, a_kill_and_the_next_open_count_them_once)
{
        uint64_t first, behind;
        struct journal *journal = make_cut_log(&first, &behind);
        char copies[4][300];
        /* Before, on the way, behind, and counted: what a kill leaves at each of them. */
        const uint64_t places[4] = {first - 1, behind + 10, behind + 11, RECORDS};
        for (unsigned i = 0; i < 4; i++) {
                for (uint16_t target = 0; target < TARGETS; target++)
                        deliver(journal, target, i == 0 ? 1 : places[i - 1], places[i]);
                (void)snprintf(copies[i], sizeof(copies[i]), "%s-%u", directory, i);
                journal_files_copy(directory, copies[i]);
        }
        journal_close(journal);
        for (unsigned i = 0; i < 4; i++) {
                for (unsigned again = 0; again < 2; again++) {
                        struct journal_recovery recovery;
                        journal = must_open_in(copies[i], false, &recovery);
                        for (uint16_t target = 0; target < TARGETS; target++) {
                                struct journal_target_state state;
                                uint64_t waiting;
                                cr_assert_eq(journal_target_audit(journal, target, &state, &waiting, NULL), ERR_OK);
                                cr_assert_eq(state.accepted, state.delivered + waiting, "%u", i);
                                cr_assert_eq(state.lost, routed(1, RECORDS, target, true), "%u: %llu", i,
                                             (unsigned long long)state.lost);
                                cr_assert_eq(state.lost_records, 0);
                        }
                        cr_assert(again == 0 || recovery.lost_events == 0);
                        cr_assert(i != 3 || recovery.lost_events == 0, "they were counted");
                        journal_close(journal);
                }
                journal_files_remove(copies[i]);
        }
}

/* A cursor that stands where the log does not reach back any more may have settled what nobody knows; not these. */
Test(journal_losses, they_are_lost_also_when_their_segments_are_gone)
{
        uint64_t first, behind;
        struct journal *journal = make_cut_log(&first, &behind);
        const uint64_t segment = walk.position[behind] / MIB + 1;
        uint64_t next = behind;
        while (walk.position[next] / MIB < segment)
                next++;
        for (uint16_t target = 0; target < TARGETS; target++)
                journal_target_advance(journal, target, segment * MIB, next,
                                       &(struct journal_settled){.delivered = routed(1, next, target, false)});
        while (journal_trim(journal))
                ;
        cr_assert_gt(journal_oldest_position(journal), segment * MIB);
        journal_close(journal);
        journal = must_open(NULL);
        for (uint16_t target = 0; target < TARGETS; target++) {
                struct journal_target_state state;
                cr_assert(journal_target_get(journal, target, &state));
                cr_assert_eq(state.delivered, routed(1, next, target, false));
                cr_assert_eq(state.lost, routed(1, RECORDS, target, true), "%u: %llu", target,
                             (unsigned long long)state.lost);
                must_balance(journal, target, state.lost);
        }
        journal_close(journal);
}

static void damage_record(uint64_t sequence)
{
        char path[400];
        const uint64_t position = walk.position[sequence];
        (void)snprintf(path, sizeof(path), "%s/%016llx.segment", directory, (unsigned long long)(position / MIB));
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        cr_assert_eq(pwrite(fd, "damage", 6, (off_t)(position % MIB) + 8), 6);
        (void)close(fd);
        walk.position[sequence] = 0;
}

static uint64_t first_of_segment(uint64_t segment)
{
        uint64_t sequence = 1;
        while (walk.position[sequence] / MIB < segment)
                sequence++;
        return sequence;
}

static void cut_behind(void)
{
        const uint64_t bytes = 128 * 4096;
        const uint64_t next = first_of_segment(3);
        uint64_t sequence = next - 1;
        cut_segment(2, (off_t)bytes);
        for (uint64_t end = 3 * MIB; end > 2 * MIB + bytes; sequence--) {
                end = walk.position[sequence];
                walk.position[sequence] = 0;
        }
}

/* The last records of a segment, and not the gap behind them, which has the number of the next one. */
static void damage_before_a_gap(void)
{
        const uint64_t next = first_of_segment(3);
        for (uint64_t sequence = next - 4; sequence < next; sequence++)
                damage_record(sequence);
}

/* Cursors at the end of what is gone, which have settled all of that, and losses behind them. */
static void lose_behind_the_beginning(uint64_t sequences_without_record, void (*damage)(void))
{
        struct journal_recovery recovery;
        struct journal *journal = must_open(NULL);
        append(journal, 1, RECORDS);
        walk_all(journal);
        const uint64_t next = first_of_segment(1);
        for (uint16_t target = 0; target < TARGETS; target++)
                journal_target_advance(journal, target, MIB, next - sequences_without_record,
                                       &(struct journal_settled){.delivered = routed(1, next, target, false)});
        while (journal_trim(journal))
                ;
        cr_assert_gt(journal_oldest_position(journal), MIB);
        journal_close(journal);
        damage();
        journal = must_open(&recovery);
        cr_assert_eq(recovery.lost_records, routed(next, RECORDS, 0, true) + sequences_without_record);
        for (uint16_t target = 0; target < TARGETS; target++) {
                struct journal_target_state state;
                cr_assert(journal_target_get(journal, target, &state));
                cr_assert_eq(state.delivered, routed(1, next, target, false));
                cr_assert_eq(state.lost, routed(next, RECORDS, target, true));
                cr_assert_gt(state.lost, 0);
                must_balance(journal, target, state.lost);
        }
        journal_close(journal);
        journal = must_open(&recovery);
        cr_assert_eq(recovery.lost_records, 0, "they were counted");
        journal_close(journal);
}

Test(journal_losses, what_is_lost_behind_the_beginning_of_the_log_is_not_delivered)
{
        lose_behind_the_beginning(0, cut_behind);
}

/* A segment that is given up before anything stands in it takes a sequence along: a cursor before it has missed none.
 */
Test(journal_losses, nor_where_sequences_had_no_record)
{
        lose_behind_the_beginning(1, cut_behind);
}

Test(journal_losses, nor_what_stood_before_a_gap)
{
        lose_behind_the_beginning(0, damage_before_a_gap);
}

Test(journal_losses, nor_both)
{
        lose_behind_the_beginning(1, damage_before_a_gap);
}

/* A segment of which nothing is left is no segment for who reads beside us. */
Test(journal_losses, segments_of_which_nothing_is_left_are_told_from_outside)
{
        struct journal *journal = must_open(NULL);
        append(journal, 1, RECORDS);
        for (uint64_t number = 0; number < 16; number++) {
                char path[400];
                (void)snprintf(path, sizeof(path), "%s/%016llx.segment", directory, (unsigned long long)number);
                if (access(path, F_OK) == 0)
                        cut_segment(number, 0);
        }
        for (uint16_t target = 0; target < TARGETS; target++)
                must_balance(journal, target, journal_files_routed(1, RECORDS, target));
        walk_all(journal);
        for (uint16_t target = 0; target < TARGETS; target++) {
                deliver(journal, target, 1, RECORDS);
                must_balance(journal, target, journal_files_routed(1, RECORDS, target));
        }
        journal_close(journal);
}

/* More places than are remembered one by one. */
Test(journal_losses, hundreds_of_damaged_records_are_counted)
{
        struct journal *journal = must_open(NULL);
        append(journal, 1, RECORDS);
        walk_all(journal);
        for (uint64_t sequence = 10; sequence < 710; sequence += 2)
                damage_record(sequence);
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK); /* what is cold is unmapped, and read with suspicion */
        walk_all(journal);
        for (uint16_t target = 0; target < TARGETS; target++) {
                const uint64_t lost = routed(1, RECORDS, target, true);
                must_balance(journal, target, lost);
                deliver(journal, target, 1, 501);
                must_balance(journal, target, lost);
                deliver(journal, target, 501, RECORDS);
                must_balance(journal, target, lost);
        }
        cr_assert_eq(routed(1, RECORDS, 0, true), 350);
        journal_close(journal);
}

Test(journal_losses, a_record_whose_page_goes_under_its_reader_counts_as_well)
{
        struct journal *journal = must_open(NULL);
        struct journal_reader *reader;
        struct journal_record record;
        struct journal_target_state state;
        append(journal, 1, 100);
        walk_all(journal);
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        cr_assert_eq(journal_read(reader, walk.position[6], walk.end, &record), ERR_OK);
        journal_reader_free(reader);
        journal_note_lost(journal, &record);
        walk.position[6] = 0;
        for (uint16_t target = 0; target < TARGETS; target++) {
                deliver(journal, target, 1, 50);
                must_balance(journal, target, routed(1, 100, target, true));
                deliver(journal, target, 50, 100);
                cr_assert(journal_target_get(journal, target, &state));
                cr_assert_eq(state.lost, journal_files_routed(6, 7, target));
                cr_assert_eq(state.lost_records, 0);
        }
        journal_close(journal);
}
