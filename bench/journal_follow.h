/* The other side of a journal in benches: whoever delivers and maintains. */
#ifndef SENDRING_BENCH_JOURNAL_FOLLOW_H
#define SENDRING_BENCH_JOURNAL_FOLLOW_H

#include "journal/journal.h"

/* Moves the cursor behind the writer, so that segments go round, and maintains. Of a thread of its own. */
static inline void journal_follow(struct journal *journal, uint16_t target)
{
        struct journal_target_state state;
        uint64_t position, sequence;
        if (!journal_wants_maintenance(journal))
                return;
        journal_committed(journal, &position, &sequence);
        (void)journal_target_get(journal, target, &state); /* it exists */
        journal_target_advance(journal, target, position, sequence,
                               &(struct journal_settled){.delivered = sequence - state.cursor_sequence});
        (void)journal_maintain(journal, NULL); /* tried again */
}

#endif
