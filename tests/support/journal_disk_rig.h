/* A log of one target with small segments, for tests of what a disk does to it. */
#ifndef SENDRING_TESTS_SUPPORT_JOURNAL_DISK_RIG_H
#define SENDRING_TESTS_SUPPORT_JOURNAL_DISK_RIG_H

#include "tests/support/journal_rig.h"

static inline struct journal *must_open(enum journal_durability durability, struct journal_recovery *ret_recovery)
{
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 16 * MIB,
                .segments_mapped_max = 4,
                .durability = durability,
        };
        struct journal *journal = rig_open(&options, ret_recovery);
        rig_register(journal, "file /a");
        return journal;
}

/* Appends and publishes; maintenance whenever it is wanted. */
static inline void append(struct journal *journal, uint64_t count)
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
static inline void deliver(struct journal *journal)
{
        uint64_t position, sequence;
        struct journal_target_state state;
        cr_assert(journal_target_get(journal, 0, &state));
        journal_committed(journal, &position, &sequence);
        journal_target_advance(journal, 0, position, sequence,
                               &(struct journal_settled){.delivered = sequence - state.cursor_sequence});
}

#endif
