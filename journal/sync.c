/* Durability host: which files a grouped sync concerns, and what is durable when it went well, or did not. The syncing
 * itself is the caller's: the router's helper has an io_uring for it. */
#include "journal/journal_internal.h"

#include <errno.h>

uint64_t journal_durable_position(const struct journal *journal)
{
        return atomic_load_explicit(&journal->durable_position, memory_order_acquire);
}

/* After a failure: the pages of this segment that hold anything between `from` and `to` will be written again. */
static enum err_code journal_sync_write_anew(struct journal *journal, struct journal_segment *segment, uint64_t from,
                                             uint64_t to, struct err *reterr)
{
        if (segment->map == NULL) {
                struct journal_segment mapped = {
                        .file_number = segment->file_number,
                        .size_bytes = segment->size_bytes,
                };
                enum err_code code = journal_segment_map(journal, &mapped, reterr);
                if (code != ERR_OK)
                        return code;
                (void)pthread_mutex_lock(&journal->mutex); /* cannot fail: a plain mutex, never taken twice */
                segment->map = mapped.map;
                segment->fd = mapped.fd;
                segment->lost = mapped.lost;
                (void)pthread_mutex_unlock(&journal->mutex);
                journal->mapped_count++;
        }
        const uint64_t base = segment->base_position, end = base + segment->size_bytes;
        journal_segment_dirty(segment, from > base ? from - base : 0, (to < end ? to : end) - base);
        return ERR_OK;
}

/* Of segments and of targets, where they may be on no disk: without them what is in the segments is nobody's. */
static enum err_code journal_sync_names(struct journal *journal, struct err *reterr)
{
        if (journal->directory_unsynced && disk_sync_directory(journal->directory_fd) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync journal directory %s", journal->directory);
        journal->directory_unsynced = false;
        return journal_targets_sync_names(journal, reterr);
}

enum err_code journal_sync_begin(struct journal *journal, int ret_fds[JOURNAL_SYNC_FILES_MAX], uint32_t *ret_count,
                                 struct err *reterr)
{
        ASSERT(!journal->syncing);
        uint64_t position = journal_committed_position(journal);
        const uint64_t durable = journal_durable_position(journal);
        *ret_count = 0;
        if (position == durable)
                return ERR_OK;
        if (journal->durability != JOURNAL_DURABILITY_HOST) {
                atomic_store_explicit(&journal->durable_position, position, memory_order_release);
                return ERR_OK;
        }
        enum err_code names = journal_sync_names(journal, reterr);
        if (names != ERR_OK)
                return names;
        uint64_t current = atomic_load_explicit(&journal->current_index, memory_order_acquire);
        uint64_t index = journal->first_index, behind = current;
        /* What journal_unmap_cold() may close is passed here. Much may be kept: the first of the others is searched.
         * Pairs with the release in journal_writer_switch(). */
        while (index < behind) {
                uint64_t middle = index + (behind - index) / 2;
                if (atomic_load_explicit(&journal_segment_at(journal, middle)->end_position, memory_order_acquire) <=
                    durable)
                        index = middle + 1;
                else
                        behind = middle;
        }
        journal->sync_begin_index = index;
        for (; index <= current && *ret_count < JOURNAL_SYNC_FILES_MAX; index++) {
                struct journal_segment *segment = journal_segment_at(journal, index);
                if (segment->base_position >= position)
                        break; /* the writer came to it after we had looked */
                /* One that could only be read at open is mapped here. Relaxed, here and below: this thread stores it.
                 */
                if (segment->map == NULL || atomic_load_explicit(&journal->sync_failed, memory_order_relaxed)) {
                        enum err_code code = journal_sync_write_anew(journal, segment, durable, position, reterr);
                        if (code != ERR_OK) {
                                *ret_count = 0;
                                return code;
                        }
                }
                ret_fds[(*ret_count)++] = segment->fd;
        }
        const struct journal_segment *last = journal_segment_at(journal, index - 1);
        if (position > last->base_position + last->size_bytes)
                position = last->base_position + last->size_bytes;
        journal->sync_end_index = index;
        journal->sync_position = position;
        journal->syncing = *ret_count > 0;
        return ERR_OK;
}

/* The first place in the segments just synced, at or behind `from` and before `to`, where no whole record is; `to` when
 * there is none. What every cursor has passed is of no interest. *ret_bytes: how much is damaged in all. */
static uint64_t journal_sync_find_damage(const struct journal *journal, uint64_t from, uint64_t to, uint64_t *ret_bytes)
{
        uint64_t first = to;
        /* Relaxed: the maintaining thread stores it, which is this one. */
        uint64_t needed = atomic_load_explicit(&journal->stat_oldest_position, memory_order_relaxed);
        from = needed > from ? needed : from;
        *ret_bytes = 0;
        for (uint64_t index = journal->sync_begin_index; index < journal->sync_end_index; index++) {
                const struct journal_segment *segment = journal_segment_at(journal, index);
                const uint64_t base = segment->base_position;
                uint64_t offset = from > base + JOURNAL_DATA_START ? from - base : JOURNAL_DATA_START;
                const uint64_t data_end = journal_segment_data_end(segment);
                /* Behind the end of one that was given up there may be nothing. Pairs with journal_writer_switch(). */
                uint64_t closed = atomic_load_explicit(&segment->end_position, memory_order_acquire);
                uint64_t end = to - base < data_end ? to - base : data_end;
                if (to < base)
                        break;
                if (closed != 0 && closed - base < end)
                        end = closed - base;
                while (offset < end) {
                        struct journal_record_header header;
                        uint64_t next;
                        if (journal_record_is_whole(segment->map + offset, data_end - offset, segment->seed, &header)) {
                                offset += journal_record_bytes(header.payload_bytes);
                                continue;
                        }
                        if (first == to)
                                first = base + offset;
                        next = journal_resync(segment->map, offset + JOURNAL_ALIGN_BYTES, data_end, segment->seed, 0);
                        *ret_bytes += (next < end ? next : end) - offset;
                        offset = next;
                }
        }
        return first;
}

/* Whether pages of the segments just synced could not be backed: what was in them is not on the disk. */
static bool journal_sync_has_lost(const struct journal *journal)
{
        for (uint64_t index = journal->sync_begin_index; index < journal->sync_end_index; index++)
                if (journal_segment_has_lost(journal_segment_at(journal, index)))
                        return true;
        return false;
}

/* What the kernel could not write it may drop, and read back from the disk whatever is there. From now on readers check
 * the records of these segments, also those that are in one: else a payload behind a header that is gone would be taken
 * for a header itself. */
static void journal_sync_distrust(const struct journal *journal)
{
        for (uint64_t index = journal->sync_begin_index; index < journal->sync_end_index; index++)
                atomic_store_explicit(&journal_segment_at(journal, index)->damaged, true, memory_order_release);
}

void journal_sync_expect(struct journal *journal)
{
        const struct journal_segment *current =
                journal_segment_at(journal, atomic_load_explicit(&journal->current_index, memory_order_acquire));
        journal->sync_expected_position = current->base_position + current->size_bytes;
}

static void journal_sync_set_failed(struct journal *journal, bool failed)
{
        if (failed)
                journal_sync_expect(journal);
        (void)pthread_mutex_lock(&journal->targets.mutex); /* cannot fail: a plain mutex, never taken twice */
        atomic_store_explicit(&journal->sync_failed, failed, memory_order_relaxed);
        journal_note_sync(journal);
        (void)pthread_mutex_unlock(&journal->targets.mutex);
}

enum err_code journal_sync_done(struct journal *journal, int sys_errno, struct err *reterr)
{
        ASSERT(journal->syncing);
        journal->syncing = false;
        const bool failed_before = atomic_load_explicit(&journal->sync_failed, memory_order_relaxed);
        if (sys_errno != 0) {
                journal_sync_distrust(journal);
                journal_sync_set_failed(journal, true);
                return err_set_errno(reterr, ERR_SYSTEM, sys_errno, "cannot sync segments of journal %s",
                                     journal->directory);
        }
        uint64_t damaged_bytes = 0;
        if (failed_before || journal_sync_has_lost(journal)) {
                uint64_t damaged = journal_sync_find_damage(journal, journal_durable_position(journal),
                                                            journal->sync_position, &damaged_bytes);
                if (damaged_bytes > 0)
                        journal_sync_distrust(journal);
                if (damaged_bytes > 0 && damaged != journal->sync_damaged_position) {
                        /* What is before it is there. The rest is written anew once more, and looked at once more. */
                        journal->sync_damaged_position = damaged;
                        if (damaged > journal_durable_position(journal))
                                atomic_store_explicit(&journal->durable_position, damaged, memory_order_release);
                        journal_sync_set_failed(journal, true);
                        return err_set(reterr, ERR_CORRUPT,
                                       "journal %s: the kernel has dropped %llu bytes of events that it could not "
                                       "write; they are looked for once more",
                                       journal->directory, (unsigned long long)damaged_bytes);
                }
        }
        /* Release: a flush that sees it may say so. */
        atomic_store_explicit(&journal->durable_position, journal->sync_position, memory_order_release);
        /* Made good: all of it, or, while more keeps coming, everything that may have been written when the last one
         * failed. What was written later is as good as ever. */
        if (failed_before && (journal->sync_position == journal_committed_position(journal) ||
                              journal->sync_position >= journal->sync_expected_position))
                journal_sync_set_failed(journal, false);
        if (damaged_bytes == 0)
                return ERR_OK;
        /* Nobody has them any more. What came behind them must not wait for it: they are passed over, by readers too,
         * and the next open counts them as lost. */
        return err_set(reterr, ERR_CORRUPT,
                       "journal %s: %llu bytes of events were dropped by the kernel, which could not write them: they "
                       "are lost; what came behind them is on the disk",
                       journal->directory, (unsigned long long)damaged_bytes);
}

enum err_code journal_sync(struct journal *journal, struct err *reterr)
{
        const uint64_t position = journal_committed_position(journal);
        while (journal_durable_position(journal) < position) {
                int fds[JOURNAL_SYNC_FILES_MAX];
                uint32_t count = 0;
                int failed = 0;
                enum err_code code = journal_sync_begin(journal, fds, &count, reterr);
                if (code != ERR_OK || count == 0)
                        return code;
                for (uint32_t i = 0; i < count; i++)
                        if (disk_sync(fds[i]) < 0)
                                failed = errno;
                code = journal_sync_done(journal, failed, reterr);
                if (code != ERR_OK)
                        return code;
        }
        return ERR_OK;
}
