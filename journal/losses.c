/* Where readers found no whole record while the journal is open. A cursor that passes such a place says so in its slot,
 * in the step in which it passes: whoever counts then knows why events are missing. */
#include "journal/journal_internal.h"

#include <string.h>

/* Under the mutex. What nobody can pass any more makes room; where that is not enough, the last two are taken together.
 */
static void journal_losses_make_room(struct journal *journal)
{
        const uint64_t first = journal_segment_at(journal, journal->first_index)->base_position;
        uint32_t passed = 0;
        while (passed < journal->losses_count && journal->losses[passed].end <= first)
                passed++;
        journal->losses_count -= passed;
        memmove(journal->losses, journal->losses + passed, journal->losses_count * sizeof(*journal->losses));
        if (journal->losses_count < JOURNAL_LOSSES_MAX)
                return;
        struct journal_loss *last = &journal->losses[--journal->losses_count];
        last[-1].end = last->end;
        last[-1].records += last->records;
}

/* Under the mutex. The same damage is found by every reader that comes to it, up to where its own limit is. */
static void journal_losses_add(struct journal *journal, struct journal_loss loss)
{
        uint32_t kept = 0;
        for (uint32_t i = 0; i < journal->losses_count; i++) {
                const struct journal_loss *known = &journal->losses[i];
                if (known->position <= loss.position && known->end >= loss.end)
                        return;
        }
        for (uint32_t i = 0; i < journal->losses_count; i++) {
                const struct journal_loss known = journal->losses[i];
                if (known.end <= loss.position || known.position >= loss.end) {
                        journal->losses[kept++] = known;
                        continue;
                }
                if (known.position < loss.position || known.end > loss.end)
                        loss.records += known.records;
                loss.position = known.position < loss.position ? known.position : loss.position;
                loss.end = known.end > loss.end ? known.end : loss.end;
        }
        journal->losses_count = kept;
        if (kept == JOURNAL_LOSSES_MAX)
                journal_losses_make_room(journal);
        uint32_t at = journal->losses_count;
        for (; at > 0 && journal->losses[at - 1].position > loss.position; at--)
                journal->losses[at] = journal->losses[at - 1];
        journal->losses[at] = loss;
        journal->losses_count++;
        /* Relaxed: see journal_target_advance(). */
        if (loss.end > atomic_load_explicit(&journal->losses_end, memory_order_relaxed))
                atomic_store_explicit(&journal->losses_end, loss.end, memory_order_relaxed);
}

void journal_losses_note(struct journal *journal, uint64_t position, uint64_t end, uint64_t sequence,
                         uint64_t next_sequence)
{
        uint64_t index;
        struct journal_loss loss = {position, end, (end - position) / JOURNAL_ALIGN_BYTES};
        (void)pthread_mutex_lock(&journal->mutex); /* cannot fail: a plain mutex, never taken twice */
        if (sequence == 0 && journal_segment_find(journal, position, &index) == ERR_OK) {
                struct journal_segment *segment = journal_segment_at(journal, index);
                if (position == segment->base_position + JOURNAL_DATA_START)
                        /* Pairs with the release in journal_writer_switch(). */
                        sequence = atomic_load_explicit(&segment->base_sequence, memory_order_acquire);
        }
        if (sequence != 0 && next_sequence >= sequence && next_sequence - sequence < loss.records)
                loss.records = next_sequence - sequence;
        if (loss.records > 0)
                journal_losses_add(journal, loss);
        (void)pthread_mutex_unlock(&journal->mutex);
}

uint64_t journal_losses_between(struct journal *journal, uint64_t from, uint64_t to)
{
        uint64_t records = 0;
        (void)pthread_mutex_lock(&journal->mutex); /* cannot fail: a plain mutex, never taken twice */
        for (uint32_t i = 0; i < journal->losses_count; i++)
                if (journal->losses[i].position < to && journal->losses[i].end > from)
                        records += journal->losses[i].records;
        (void)pthread_mutex_unlock(&journal->mutex);
        return records;
}

void journal_note_lost(struct journal *journal, const struct journal_record *record)
{
        journal_losses_note(journal, record->position, record->next_position, record->sequence, record->sequence + 1);
}
