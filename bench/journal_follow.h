/* The other side of a journal in benches: whoever delivers and maintains. */
#ifndef SENDRING_BENCH_JOURNAL_FOLLOW_H
#define SENDRING_BENCH_JOURNAL_FOLLOW_H

#include "base/clock.h"
#include "journal/journal.h"

#include <stdio.h>
#include <stdlib.h>

/* A journal that cannot be maintained for so long, as on a full disk, ends the bench: it would wait for ever. */
#define JOURNAL_FOLLOW_PATIENCE_NS (5 * CLOCK_NS_PER_S)

struct journal_follow {
        const char *bench; /* its name */
        struct journal *journal;
        uint16_t target;
        uint64_t failing_since_ns; /* 0: it does not fail */
};

/* Moves the cursor behind the writer, so that segments go round, and maintains. Of one thread. */
static inline void journal_follow(struct journal_follow *follow)
{
        struct journal_target_state state;
        struct err err;
        uint64_t position, sequence;
        if (!journal_wants_maintenance(follow->journal) && follow->failing_since_ns == 0)
                return;
        journal_committed(follow->journal, &position, &sequence);
        (void)journal_target_get(follow->journal, follow->target, &state); /* it exists */
        journal_target_advance(follow->journal, follow->target, position, sequence,
                               &(struct journal_settled){.delivered = sequence - state.cursor_sequence});
        if (journal_maintain(follow->journal, &err) == ERR_OK) {
                follow->failing_since_ns = 0;
                return;
        }
        uint64_t now_ns = clock_monotonic_ns();
        if (follow->failing_since_ns == 0)
                follow->failing_since_ns = now_ns;
        if (now_ns - follow->failing_since_ns < JOURNAL_FOLLOW_PATIENCE_NS)
                return; /* it is tried again */
        (void)fprintf(stderr, "bench/%s: the journal cannot go on, for %u s by now: %s\n", follow->bench,
                      (unsigned)(JOURNAL_FOLLOW_PATIENCE_NS / CLOCK_NS_PER_S), err.text);
        exit(1);
}

#endif
