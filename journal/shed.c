/* Several logs that share one budget: what one gives back for the others, the announcement that its oldest events are
 * given up, and the end of a log that nobody writes any more. Maintenance's thread, save where another is said. */
#include "journal/journal_internal.h"

#include "io/disk.h"

#include <fcntl.h>
#include <string.h>

bool journal_trim(struct journal *journal)
{
        struct journal_segment segment;
        uint64_t oldest = journal_oldest_needed(journal);
        (void)journal_make_cursors_durable(journal, &oldest, NULL); /* the next maintenance says what failed */
        if (!journal_take_oldest(journal, oldest, &segment))
                return false;
        journal_remove(journal, &segment);
        return true;
}

/* ------------------------------------------------------------------------------------------------------ giving up */

uint64_t journal_shed_before(const struct journal *journal)
{
        /* Pairs with the release in journal_shed_oldest(). */
        return atomic_load_explicit(&journal->shed_before, memory_order_acquire);
}

bool journal_shed_pending(const struct journal *journal)
{
        uint64_t before = journal_shed_before(journal);
        uint32_t count = journal_targets_count(journal);
        for (uint32_t number = 0; number < count; number++) {
                struct journal_target_entry *entry = journal_target_entry(&journal->targets, number);
                struct journal_owner_slot owner;
                journal_owner_slot_read(entry, &owner);
                /* Relaxed: one that is just being retired is looked at again. */
                if (owner.position < before && atomic_load_explicit(&entry->retired, memory_order_relaxed) == 0)
                        return true;
        }
        return false;
}

enum err_code journal_shed_oldest(struct journal *journal)
{
        if (journal_shed_pending(journal))
                return ERR_OK;
        uint64_t oldest = journal_oldest_needed(journal);
        uint64_t current = atomic_load_explicit(&journal->current_index, memory_order_acquire);
        /* The first closed one that somebody needs: those before it are free already, or a reader is in them. */
        for (uint64_t index = journal->first_index; index < current; index++) {
                const struct journal_segment *segment = journal_segment_at(journal, index);
                uint64_t end = atomic_load_explicit(&segment->end_position, memory_order_acquire);
                if (end <= oldest)
                        continue;
                /* Release: an owner that sees it may read the log up to there. */
                atomic_store_explicit(&journal->shed_before, end, memory_order_release);
                return ERR_OK;
        }
        return ERR_EMPTY;
}

bool journal_first_ms(const struct journal *journal, uint64_t index, int64_t *ret_ms)
{
        struct journal_record_header header;
        /* Only this thread maps, unmaps and removes segments. */
        const struct journal_segment *segment = journal_segment_at(journal, index);
        uint64_t base_sequence = atomic_load_explicit(&segment->base_sequence, memory_order_relaxed);
        /* What is published is not written any more. */
        if (base_sequence == 0 || journal_committed_position(journal) <= segment->base_position + JOURNAL_DATA_START)
                return false;
        if (segment->map != NULL) {
                memcpy(&header, segment->map + JOURNAL_DATA_START, sizeof(header));
        } else {
                char name[JOURNAL_NAME_BYTES];
                journal_segment_name(segment->file_number, JOURNAL_SEGMENT_SUFFIX, name);
                int fd = disk_open(journal->directory_fd, name, O_RDONLY | O_NOFOLLOW, 0);
                ssize_t got = fd < 0 ? -1 : disk_read(fd, &header, sizeof(header), JOURNAL_DATA_START);
                if (fd >= 0)
                        (void)disk_close(fd); /* read only */
                if (got != (ssize_t)sizeof(header))
                        return false;
        }
        struct journal_entry entry;
        journal_entry_of_header(&header, &entry);
        *ret_ms = entry.accepted_ms;
        return header.sequence == base_sequence && (journal_header_flags(&header) & JOURNAL_FLAG_GAP) == 0;
}

int64_t journal_oldest_ms(const struct journal *journal)
{
        int64_t first_ms = 0; /* where it cannot be told: it only decides which of two logs is older */
        if (journal->first_index >= atomic_load_explicit(&journal->current_index, memory_order_acquire))
                return INT64_MAX;
        return journal_first_ms(journal, journal->first_index, &first_ms) ? first_ms : 0;
}

/* ------------------------------------------------------------------------------------------------------ the end */

bool journal_is_settled(const struct journal *journal)
{
        uint32_t count = journal_targets_count(journal);
        for (uint32_t number = 0; number < count; number++) {
                struct journal_target_state state;
                if (journal_target_get(journal, (uint16_t)number, &state) && !state.retired &&
                    state.accepted != state.delivered + state.dead_lettered + state.shed + state.expired)
                        return false;
        }
        return true;
}

void journal_discard(struct journal *journal)
{
        const struct journal_settled nothing = {0};
        uint64_t position, sequence;
        ASSERT(journal->deliver_only);
        ASSERT(journal_is_settled(journal));
        journal_committed(journal, &position, &sequence);
        (void)pthread_mutex_lock(&journal->targets.mutex); /* cannot fail: a plain mutex, never taken twice */
        /* What is looked for behind the cursors must not be looked for in files that are gone. */
        for (uint32_t number = 0; number < journal_targets_count(journal); number++) {
                struct journal_target_entry *entry = journal_target_entry(&journal->targets, number);
                struct journal_owner_slot owner;
                journal_owner_slot_read(entry, &owner);
                if (atomic_load_explicit(&entry->retired, memory_order_relaxed) != 0)
                        journal_target_shed_waiting(journal, entry);
                else if (owner.position < position)
                        journal_target_advance(journal, (uint16_t)number, position, sequence, &nothing);
        }
        JOURNAL_STEP("discard-begun");
        const enum err_code code = journal_targets_sync_held(journal, NULL);
        (void)pthread_mutex_unlock(&journal->targets.mutex);
        uint64_t end = atomic_load_explicit(&journal->prepared_end, memory_order_relaxed);
        /* The oldest first: a kill in between leaves the end of the log, which everybody has passed. */
        if (code == ERR_OK)
                for (uint64_t index = journal->first_index; index < end; index++)
                        journal_remove(journal, journal_segment_at(journal, index));
        journal_close(journal);
}
