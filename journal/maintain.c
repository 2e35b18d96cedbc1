/* Maintenance: preparing segments ahead of the writer, recycling, removing, unmapping. One thread: the router's helper.
 */
#include "base/clock.h"
#include "journal/journal_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

uint64_t journal_oldest_needed(struct journal *journal)
{
        uint64_t oldest = journal_committed_position(journal);
        uint32_t count = journal_targets_count(journal);
        (void)pthread_mutex_lock(&journal->targets.mutex); /* cannot fail: a plain mutex, never taken twice */
        for (uint32_t number = 0; number < count; number++) {
                struct journal_target_entry *entry = journal_target_entry(&journal->targets, number);
                /* Relaxed: stored under the mutex. */
                if (atomic_load_explicit(&entry->retired, memory_order_relaxed) != 0) {
                        journal_target_shed_waiting(journal, entry);
                        continue;
                }
                struct journal_owner_slot owner;
                journal_owner_slot_read(entry, &owner);
                if (owner.position < oldest)
                        oldest = owner.position;
        }
        (void)pthread_mutex_unlock(&journal->targets.mutex);
        atomic_store_explicit(&journal->stat_oldest_position, oldest, memory_order_relaxed);
        return oldest;
}

/* Under the mutex. */
static bool journal_segment_is_free(const struct journal *journal, uint64_t index, uint64_t oldest)
{
        /* Pairs with the release in journal_writer_switch(): the end of a segment before the current one is there. */
        if (index >= atomic_load_explicit(&journal->current_index, memory_order_acquire))
                return false;
        if (journal->syncing && index >= journal->sync_begin_index && index < journal->sync_end_index)
                return false; /* it must stay open, and what it is */
        const struct journal_segment *segment = journal_segment_at(journal, index);
        /* Acquire: pairs with P1 in journal_reader_rest(). No new pin comes while the mutex is held. */
        return atomic_load_explicit(&segment->end_position, memory_order_acquire) <= oldest &&
               atomic_load_explicit(&segment->pins, memory_order_acquire) == 0;
}

bool journal_take_oldest(struct journal *journal, uint64_t oldest, struct journal_segment *ret_segment)
{
        (void)pthread_mutex_lock(&journal->mutex); /* cannot fail: a plain mutex, never taken twice */
        bool free_now = journal_segment_is_free(journal, journal->first_index, oldest);
        if (free_now) {
                struct journal_segment *segment = journal_segment_at(journal, journal->first_index);
                *ret_segment = (struct journal_segment){
                        .file_number = segment->file_number,
                        .base_position = segment->base_position,
                        .size_bytes = segment->size_bytes,
                        .map = segment->map,
                        .lost = segment->lost,
                        .fd = segment->fd,
                };
                segment->map = NULL;
                segment->fd = -1;
                journal->recycled_position = atomic_load_explicit(&segment->end_position, memory_order_relaxed);
                journal->first_index++;
                journal->passed_bytes -=
                        journal->passed_bytes < segment->size_bytes ? journal->passed_bytes : segment->size_bytes;
        }
        (void)pthread_mutex_unlock(&journal->mutex);
        return free_now;
}

void journal_count_segments(struct journal *journal, int64_t segments, int64_t size_bytes)
{
        /* Relaxed: figures for people; only this thread changes them. */
        atomic_fetch_add_explicit(&journal->stat_segments, (uint64_t)segments, memory_order_relaxed);
        atomic_fetch_add_explicit(&journal->stat_size_bytes, (uint64_t)size_bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(&journal->budget->size_bytes, (uint64_t)size_bytes, memory_order_relaxed);
}

void journal_remove(struct journal *journal, struct journal_segment *segment)
{
        char name[JOURNAL_NAME_BYTES];
        if (segment->map != NULL)
                journal->mapped_count--;
        journal_segment_unmap(segment);
        journal_segment_name(segment->file_number, JOURNAL_SEGMENT_SUFFIX, name);
        (void)disk_unlink(journal->directory_fd, name); /* if it stays, open finds an old segment and passes it again */
        journal_count_segments(journal, -1, -(int64_t)segment->size_bytes);
        JOURNAL_STEP("segment-removed");
}

/* Unmaps the oldest warm segments until at most `mapped_max` are mapped. Those that a reader is in stay. */
static void journal_unmap_cold(struct journal *journal, uint64_t mapped_max)
{
        uint64_t current = atomic_load_explicit(&journal->current_index, memory_order_acquire);
        for (uint64_t index = journal->first_index; index < current && journal->mapped_count > mapped_max; index++) {
                struct journal_segment *segment = journal_segment_at(journal, index);
                struct journal_segment cold = {.fd = -1};
                if (segment->map == NULL)
                        continue;
                /* journal_sync() wants its file open. */
                if (journal->durability == JOURNAL_DURABILITY_HOST &&
                    atomic_load_explicit(&segment->end_position, memory_order_acquire) >
                            journal_durable_position(journal))
                        continue;
                (void)pthread_mutex_lock(&journal->mutex);
                if (atomic_load_explicit(&segment->pins, memory_order_acquire) == 0) {
                        cold.map = segment->map;
                        cold.fd = segment->fd;
                        cold.size_bytes = segment->size_bytes;
                        segment->map = NULL;
                        segment->fd = -1;
                }
                (void)pthread_mutex_unlock(&journal->mutex);
                if (cold.map != NULL)
                        journal->mapped_count--;
                journal_segment_unmap(&cold);
        }
}

/* Puts a segment with headers behind the last one of the table and hands it to the writer. */
static void journal_prepare_push(struct journal *journal, const struct journal_segment *segment)
{
        uint64_t index = atomic_load_explicit(&journal->prepared_end, memory_order_relaxed);
        ASSERT(index - journal->first_index < journal->capacity);
        (void)pthread_mutex_lock(&journal->mutex);
        struct journal_segment *line = journal_segment_at(journal, index);
        line->file_number = segment->file_number;
        line->base_position = segment->base_position;
        line->size_bytes = segment->size_bytes;
        line->seed = segment->seed;
        line->map = segment->map;
        line->lost = segment->lost;
        line->fd = segment->fd;
        atomic_store_explicit(&line->damaged, false, memory_order_relaxed);
        atomic_store_explicit(&line->base_sequence, 0, memory_order_relaxed);
        atomic_store_explicit(&line->end_position, 0, memory_order_relaxed);
        atomic_store_explicit(&line->pins, 0, memory_order_relaxed);
        (void)pthread_mutex_unlock(&journal->mutex);
        journal->next_base_position += segment->size_bytes;
        /* Pairs with the acquire in journal_writer_switch(). */
        atomic_store_explicit(&journal->prepared_end, index + 1, memory_order_release);
}

/* Makes the file of a passed segment the next one. It was taken out of the table; on failure its file is removed. */
static enum err_code journal_prepare_recycled(struct journal *journal, struct journal_segment *segment,
                                              struct err *reterr)
{
        enum err_code code = ERR_OK;
        segment->base_position = journal->next_base_position;
        segment->seed = journal_random_seed();
        /* In the steady state it is warm: its pages are mapped and dirty already, and nothing is unmapped for it. */
        bool warm = segment->map != NULL;
        if (!warm) {
                journal_unmap_cold(journal, journal->segments_mapped_max - 1);
                code = journal_segment_map(journal, segment, reterr);
                if (code != ERR_OK) {
                        journal_remove(journal, segment);
                        return code;
                }
                journal->mapped_count++;
        }
        JOURNAL_STEP("recycle-begun");
        journal_segment_write_headers(segment);
        struct journal_start_block *start = (struct journal_start_block *)(void *)(segment->map + JOURNAL_START_OFFSET);
        start->base_sequence = 0;
        /* Only so that its stale pages need not be read from the disk to be overwritten; not all file systems can.
         * Behind the headers: whoever reads it beside us, in another process, is to know that it is another one. */
        if (!warm)
                (void)disk_zero(segment->fd, JOURNAL_DATA_START,
                                journal_segment_data_end(segment) - JOURNAL_DATA_START);
        JOURNAL_STEP("recycle-written");
        if (journal->durability == JOURNAL_DURABILITY_HOST && disk_sync(segment->fd) < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync a recycled segment in %s",
                                     journal->directory);
                goto out;
        }
        bool backed = true;
        if (warm)
                journal_segment_touch(segment, 0);
        else
                backed = journal_segment_warm(segment, 0);
        if (!backed || journal_segment_has_lost(segment)) {
                code = err_set(reterr, ERR_SYSTEM, "a journal segment in %s has pages that the disk cannot keep",
                               journal->directory);
                goto out;
        }
        journal_prepare_push(journal, segment);
        atomic_fetch_add_explicit(&journal->stat_segments_recycled, 1, memory_order_relaxed);
        return ERR_OK;
out:
        journal_segment_disclaim(segment); /* the file may stay, and the next segment gets its positions */
        journal_remove(journal, segment);
        return code;
}

static enum err_code journal_prepare_new(struct journal *journal, struct err *reterr)
{
        struct journal_segment segment = {
                .file_number = journal->next_file_number,
                .base_position = journal->next_base_position,
                .size_bytes = journal->segment_bytes,
                .seed = journal_random_seed(),
                .fd = -1,
        };
        journal_unmap_cold(journal, journal->segments_mapped_max - 1);
        enum err_code code = journal_segment_create_file(journal, &segment, reterr);
        if (code != ERR_OK)
                return code;
        journal->next_file_number++;
        journal->mapped_count++;
        journal_count_segments(journal, 1, (int64_t)segment.size_bytes);
        journal_prepare_push(journal, &segment);
        return ERR_OK;
}

/* ------------------------------------------------------------------------------------------------------ retention */

/* What every cursor has passed and that is still there. */
static uint64_t journal_passed_bytes(const struct journal *journal, uint64_t oldest)
{
        uint64_t bytes = 0;
        uint64_t current = atomic_load_explicit(&journal->current_index, memory_order_acquire);
        for (uint64_t index = journal->first_index; index < current; index++) {
                const struct journal_segment *segment = journal_segment_at(journal, index);
                if (atomic_load_explicit(&segment->end_position, memory_order_acquire) > oldest)
                        break;
                bytes += segment->size_bytes;
        }
        return bytes;
}

/* Whether all of the oldest segment is older than retention_age: its last event is as old as the first of the next, or
 * older. What covers damage or an end tells no time; then the one after it must be as old, too. */
static bool journal_oldest_is_expired(const struct journal *journal)
{
        if (journal->retention_age_ms == 0)
                return false;
        uint64_t current = atomic_load_explicit(&journal->current_index, memory_order_acquire);
        for (uint64_t index = journal->first_index + 1; index <= current; index++) {
                int64_t first_ms;
                if (journal_first_ms(journal, index, &first_ms))
                        return clock_realtime_ms() - first_ms > (int64_t)journal->retention_age_ms;
        }
        return false;
}

/* Whether the oldest segment, if it was passed, is kept all the same. */
static bool journal_keeps_oldest(const struct journal *journal)
{
        if ((journal->retention_bytes == 0 && journal->retention_age_ms == 0) || journal->deliver_only)
                return false;
        if (journal->retention_bytes > 0 && journal->passed_bytes > journal->retention_bytes)
                return false;
        return !journal_oldest_is_expired(journal);
}

static void journal_count_passed(struct journal *journal)
{
        int64_t first_ms = 0;
        /* Relaxed: figures for people; only this thread stores them. */
        atomic_store_explicit(&journal->stat_passed_bytes, journal->passed_bytes, memory_order_relaxed);
        if (journal->oldest_event_index == journal->first_index)
                return;
        if (journal->first_index < atomic_load_explicit(&journal->prepared_end, memory_order_relaxed) &&
            journal_first_ms(journal, journal->first_index, &first_ms))
                journal->oldest_event_index = journal->first_index; /* it will stay so */
        else
                first_ms = 0;
        atomic_store_explicit(&journal->stat_oldest_event_ms, first_ms, memory_order_relaxed);
}

/* ------------------------------------------------------------------------------------------------------ preparing */

/* The oldest segment becomes the next one when every cursor has passed it, and, unless the room is needed, retention is
 * over. *ret_done: there was one. */
static enum err_code journal_prepare_passed(struct journal *journal, uint64_t oldest, bool needed, bool *ret_done,
                                            struct err *reterr)
{
        struct journal_segment segment;
        *ret_done = false;
        while ((needed || !journal_keeps_oldest(journal)) && journal_take_oldest(journal, oldest, &segment)) {
                if (segment.size_bytes == journal->segment_bytes && !journal_segment_has_lost(&segment)) {
                        *ret_done = true;
                        return journal_prepare_recycled(journal, &segment, reterr);
                }
                journal_remove(journal, &segment); /* of another configuration, or damaged */
        }
        return ERR_OK;
}

/* Whether another segment is within `size_bytes_max`. */
static bool journal_has_room(const struct journal *journal, uint64_t size_bytes_max)
{
        /* Relaxed: one thread maintains all logs of a budget. */
        uint64_t size_bytes = atomic_load_explicit(&journal->budget->size_bytes, memory_order_relaxed);
        bool own = journal->budget != &journal->own_budget &&
                   atomic_load_explicit(&journal->stat_segments, memory_order_relaxed) < JOURNAL_SEGMENTS_OWN;
        return own || size_bytes + journal->segment_bytes <= size_bytes_max;
}

/* What all logs of the budget together may have now. */
static uint64_t journal_size_limit(const struct journal *journal)
{
        /* Relaxed: seen by the next call at the latest. */
        return journal->size_bytes_max +
               (atomic_load_explicit(&journal->drain_room_used, memory_order_relaxed) ? journal->drain_bytes_max : 0);
}

static enum err_code journal_prepare_one(struct journal *journal, uint64_t oldest, struct err *reterr)
{
        bool done;
        enum err_code code = journal_prepare_passed(journal, oldest, false, &done, reterr);
        if (done)
                return code;
        bool tried = journal_has_room(journal, journal->size_bytes_max);
        if (tried)
                code = journal_prepare_new(journal, reterr);
        if (tried && code == ERR_OK)
                return code;
        /* The log, or the disk, is full: what is only kept gives way. */
        enum err_code passed = journal_prepare_passed(journal, oldest, true, &done, tried ? NULL : reterr);
        if (done)
                return passed;
        if (tried)
                return code;
        const uint64_t limit = journal_size_limit(journal);
        if (journal_has_room(journal, limit))
                return journal_prepare_new(journal, reterr);
        return err_set(reterr, ERR_FULL, "journal %s holds %llu of %llu bytes and its oldest events still wait",
                       journal->directory,
                       (unsigned long long)atomic_load_explicit(&journal->budget->size_bytes, memory_order_relaxed),
                       (unsigned long long)limit);
}

/* A limit that was lowered, or lent to an end of the service, is come back to: what is only kept goes, however long it
 * was to be kept. */
static void journal_remove_beyond_limit(struct journal *journal, uint64_t oldest)
{
        struct journal_segment segment;
        const uint64_t limit = journal_size_limit(journal);
        /* Relaxed: one thread maintains all logs of a budget. */
        while (atomic_load_explicit(&journal->budget->size_bytes, memory_order_relaxed) > limit &&
               journal_take_oldest(journal, oldest, &segment))
                journal_remove(journal, &segment);
}

/* They are synced once for each segment that they pass, not at each call. */
enum err_code journal_make_cursors_durable(struct journal *journal, uint64_t *oldest, struct err *reterr)
{
        if (journal->durability != JOURNAL_DURABILITY_HOST)
                return ERR_OK;
        /* Pages of the file that were lost, and could not be written anew, are on no disk, however well a sync goes.
         * Acquire: pairs with the release in the handler of io/disk_guard.c. */
        const bool lost = atomic_load_explicit(journal->targets.lost, memory_order_acquire) != 0;
        if (lost)
                journal->cursors_durable_end = 0;
        uint64_t current = atomic_load_explicit(&journal->current_index, memory_order_acquire);
        uint64_t end = journal->cursors_durable_end;
        if (end < journal->first_index)
                end = journal->first_index;
        while (end < current &&
               atomic_load_explicit(&journal_segment_at(journal, end)->end_position, memory_order_acquire) <= *oldest)
                end++;
        if (end <= journal->cursors_durable_end || end == journal->first_index)
                return ERR_OK;
        enum err_code code = lost ? err_set(reterr, ERR_SYSTEM, "pages of %s/targets are lost", journal->directory)
                                  : journal_targets_sync(journal, reterr);
        if (code == ERR_OK)
                journal->cursors_durable_end = end;
        else if (journal->cursors_durable_end <= journal->first_index)
                *oldest = 0;
        else
                *oldest = journal_segment_at(journal, journal->cursors_durable_end - 1)->base_position +
                          journal_segment_at(journal, journal->cursors_durable_end - 1)->size_bytes;
        return code;
}

/* Whether the directory is still where the next start looks for it. */
static bool journal_is_in_place(const struct journal *journal)
{
        char path[PATH_MAX];
        struct stat named, ours;
        int used = snprintf(path, sizeof(path), "%s/" JOURNAL_LOCK_NAME, journal->directory);
        if (used < 0 || (size_t)used >= sizeof(path) || disk_stat(journal->lock_fd, &ours) < 0)
                return true; /* it cannot be told */
        if (disk_stat_path(path, &named) < 0)
                return errno != ENOENT && errno != ENOTDIR;
        return named.st_dev == ours.st_dev && named.st_ino == ours.st_ino;
}

bool journal_is_removed(struct journal *journal)
{
        bool removed = !journal_is_in_place(journal);
        /* Relaxed: as journal_use_drain_room(). */
        atomic_store_explicit(&journal->removed, removed, memory_order_relaxed);
        return removed;
}

enum err_code journal_maintain(struct journal *journal, struct err *reterr)
{
        ASSERT(!journal->read_only);
        /* Relaxed: a hint; when it is raised again meanwhile, the next call comes sooner. */
        atomic_store_explicit(&journal->wants_maintenance, false, memory_order_relaxed);
        journal->room = ERR_OK;
        if (journal_is_removed(journal))
                return err_set(
                        reterr, ERR_SYSTEM,
                        "journal directory %s was removed or moved: what it held is delivered as far as it is in "
                        "memory, and nothing more is taken; put it back, or restart: a new one then takes what the "
                        "lanes hold, and what this one still holds is lost",
                        journal->directory);
        uint64_t oldest = journal_oldest_needed(journal);
        enum err_code code = journal_targets_heal(journal, reterr);
        enum err_code names = journal_targets_sync_names(journal, code == ERR_OK ? reterr : NULL);
        code = code == ERR_OK ? names : code;
        enum err_code durable = journal_make_cursors_durable(journal, &oldest, code == ERR_OK ? reterr : NULL);
        code = code == ERR_OK ? durable : code;
        journal->passed_bytes = journal_passed_bytes(journal, oldest);
        /* Before anything is recycled: what is gone was before every cursor of the copy. */
        (void)pthread_mutex_lock(&journal->targets.mutex); /* cannot fail: a plain mutex, never taken twice */
        journal_targets_spare(journal);
        enum err_code copied = journal_targets_copy(journal, code == ERR_OK ? reterr : NULL);
        (void)pthread_mutex_unlock(&journal->targets.mutex);
        code = code == ERR_OK ? copied : code;
        for (;;) {
                uint64_t end = atomic_load_explicit(&journal->prepared_end, memory_order_relaxed);
                uint64_t current = atomic_load_explicit(&journal->current_index, memory_order_acquire);
                if (journal->deliver_only || end >= current + 1 + journal->ahead)
                        break;
                enum err_code prepared = journal_prepare_one(journal, oldest, code == ERR_OK ? reterr : NULL);
                if (prepared == ERR_OK)
                        continue;
                if (prepared == ERR_FULL || prepared == ERR_DISK_FULL)
                        journal->room = prepared;
                code = code == ERR_OK ? prepared : code;
                break;
        }
        /* What an outage has piled up goes back to the disk. */
        struct journal_segment segment;
        while ((atomic_load_explicit(&journal->stat_segments, memory_order_relaxed) > journal->segments_mapped_max ||
                journal->deliver_only) &&
               !journal_keeps_oldest(journal) && journal_take_oldest(journal, oldest, &segment))
                journal_remove(journal, &segment);
        /* What is too old goes when it is, and not when room is made next. */
        while (journal_oldest_is_expired(journal) && journal_take_oldest(journal, oldest, &segment))
                journal_remove(journal, &segment);
        journal_remove_beyond_limit(journal, oldest);
        journal_unmap_cold(journal, journal->segments_mapped_max);
        journal_count_passed(journal);
        return code;
}

enum err_code journal_room(const struct journal *journal)
{
        return journal->room;
}

void journal_use_drain_room(struct journal *journal)
{
        /* Relaxed: see journal_prepare_one(). */
        atomic_store_explicit(&journal->drain_room_used, true, memory_order_relaxed);
}

bool journal_wants_maintenance(const struct journal *journal)
{
        return atomic_load_explicit(&journal->wants_maintenance, memory_order_relaxed);
}
