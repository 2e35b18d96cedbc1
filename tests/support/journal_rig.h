/* What the unit tests of a journal begin with: a new directory for each, and a log that must open. */
#ifndef SENDRING_TESTS_SUPPORT_JOURNAL_RIG_H
#define SENDRING_TESTS_SUPPORT_JOURNAL_RIG_H

#include "journal/journal.h"

#include "tests/support/journal_files.h"

#include <criterion/criterion.h>

#define MIB  (1024u * 1024u)
#define MEAN 700u /* bytes of a payload */

static char directory[256];

static inline void make_directory(void)
{
        journal_files_make(directory);
}

static inline void remove_directory(void)
{
        journal_files_remove(directory);
}

static inline struct journal *rig_open(const struct journal_options *options, struct journal_recovery *ret_recovery)
{
        struct journal *journal = NULL;
        struct err err = {.text = ""};
        enum err_code code = journal_open(options, &journal, ret_recovery, &err);
        cr_assert_eq(code, ERR_OK, "%s: %s", err_name(code), err.text);
        return journal;
}

static inline void rig_register(struct journal *journal, const char *key)
{
        uint16_t target;
        struct err err = {.text = ""};
        cr_assert_eq(journal_target_register(journal, slice_of_text(key), &target, &err), ERR_OK, "%s", err.text);
}

/* Appends until `bytes` more are in the log, of one target, maintaining it where it is full. */
static inline void rig_append(struct journal *journal, uint64_t bytes)
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

/* Every target satisfies the equation, counted in the log. */
static inline void check_equation(struct journal *journal)
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

#endif
