/* What recovery writes: gaps over damage, the targets' slots, lengths, and what a failed sync may have left behind. */
#include "journal/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

/* ------------------------------------------------------------------------------------------------------ repair */

/* A repair that cannot be written is made again by the next open; until then readers find the damage by themselves. */
static enum err_code recover_repair(struct recover *recover, size_t index, const void *bytes, uint64_t count,
                                    uint64_t offset)
{
        int fd;
        enum err_code code = recover_open(recover, recover->files[index].number, O_WRONLY, &fd);
        /* Synced with the whole file, in recover_lengths(). */
        if (code == ERR_OK)
                code = recover_write(fd, bytes, count, offset);
        recover->recovery->repair_failures += code != ERR_OK;
        if (code != ERR_OK)
                /* Relaxed: no other thread knows the journal yet. */
                atomic_store_explicit(&recover->journal->segments[index].damaged, true, memory_order_relaxed);
        if (fd >= 0)
                (void)disk_close(fd); /* the write was checked */
        return ERR_OK;
}

/* A cursor that stands within a gap would find damage there, where the gap's header is not. An earlier open may have
 * covered it and ended before it moved the cursor. */
void recover_pass_gap(struct recover *recover, size_t index, uint64_t offset, uint64_t end, uint64_t next_sequence)
{
        struct journal *journal = recover->journal;
        const uint64_t base = journal->segments[index].base_position;
        uint32_t count = journal->target_recovery == NULL ? 0 : journal_targets_count(journal);
        for (uint32_t number = 0; number < count; number++) {
                struct journal_target_recovery *found = &journal->target_recovery[number];
                if (found->cursor_position <= base + offset || found->cursor_position >= base + end)
                        continue;
                found->cursor_position = base + end;
                found->cursor_sequence = next_sequence;
                found->cursor_moved = true;
        }
}

enum err_code recover_cover(struct recover *recover, size_t index, uint64_t offset, uint64_t end,
                            uint64_t next_sequence)
{
        struct journal_record_header gap;
        recover_pass_gap(recover, index, offset, end, next_sequence);
        journal_gap_fill(&gap, end - offset, next_sequence, recover->journal->segments[index].seed);
        return recover_repair(recover, index, &gap, sizeof(gap), offset);
}

/* Segment `index` has content whose first sequence is `sequence`: whatever came before it ends here. */
enum err_code recover_begin(struct recover *recover, size_t index, uint64_t sequence)
{
        uint64_t lost = recover->expected != 0 && sequence > recover->expected ? sequence - recover->expected : 0;
        if (recover->files[index].loss_counted)
                lost = 0;
        recover->recovery->lost_records += lost;
        for (size_t i = recover->open_from; i < index; i++) {
                const struct journal_segment *segment = &recover->journal->segments[i];
                uint64_t data_end = journal_segment_data_end(segment);
                uint64_t end = recover->files[i].end_position - segment->base_position;
                if (end < data_end && !recover->journal->read_only) {
                        if (lost > 0)
                                recover_quarantine_copy(recover, &recover->files[i]);
                        enum err_code code = recover_cover(recover, i, end, data_end, sequence);
                        if (code != ERR_OK)
                                return code;
                }
                if (recover->files[i].base_sequence == 0)
                        recover->files[i].base_sequence = sequence;
        }
        recover->open_from = index;
        recover->cut_bytes = 0;
        recover->last_index = index;
        recover->any = true;
        if (sequence > recover->expected)
                recover->expected = sequence;
        const struct journal_segment *segment = &recover->journal->segments[index];
        if (recover->files[index].base_sequence == 0 || lost > 0) {
                struct journal_start_block start = {
                        .base_sequence = sequence,
                        .crc = journal_start_block_crc(segment->seed, segment->base_position, sequence),
                };
                start.loss_counted = lost > 0 ? ~start.crc : 0;
                recover->files[index].base_sequence = sequence;
                if (!recover->journal->read_only)
                        return recover_repair(recover, index, &start, sizeof(start), JOURNAL_START_OFFSET);
        }
        return ERR_OK;
}

/* ------------------------------------------------------------------------------------------------------ targets */

/* The slots of each target are brought up to the log. `oldest`: where the log begins now. */
enum err_code recover_targets(struct recover *recover, uint64_t oldest, uint64_t oldest_sequence, uint64_t position,
                              uint64_t sequence)
{
        struct journal *journal = recover->journal;
        uint32_t count = journal_targets_count(journal);
        uint64_t missing = 0; /* sequences before the log that a cursor has not passed */
        for (uint32_t number = 0; number < count; number++) {
                struct journal_target_entry *entry = journal_target_entry(&journal->targets, number);
                const struct journal_target_recovery *found = &journal->target_recovery[number];
                struct journal_owner_slot owner = {.position = oldest, .sequence = oldest_sequence};
                struct journal_shard_slot shard = {0};
                if (!found->owner_lost)
                        journal_owner_slot_read(entry, &owner);
                if (!found->shard_lost)
                        journal_shard_slot_read(entry, &shard);
                if (found->cursor_moved) {
                        owner.position = found->cursor_position;
                        owner.sequence = found->cursor_sequence;
                }
                shard.accepted += found->found_accepted;
                bool rebuilt = found->owner_lost || found->shard_lost;
                bool changed_owner = found->owner_lost || found->cursor_moved;
                bool changed_shard = found->shard_lost || found->found_accepted > 0;
                if (owner.position > position) {
                        /* A power cut took settled records from the tail: new ones must not count as settled. */
                        owner.position = position;
                        owner.sequence = sequence;
                        changed_owner = true;
                }
                bool behind = owner.position < oldest;
                uint64_t before = 0;
                if (behind) {
                        /* Usually an idle cursor at the end of a segment that was recycled: it has settled what there
                         * was. */
                        before = oldest_sequence > owner.sequence ? oldest_sequence - owner.sequence : 0;
                        owner.position = oldest;
                        if (owner.sequence < oldest_sequence)
                                owner.sequence = oldest_sequence;
                        changed_owner = true;
                }
                uint64_t known = journal_owner_slot_settled(&owner) + found->found_waiting;
                /* Only what is settled is recycled, and with durability host not before the cursors are on the disk. So
                 * a cursor that is behind, or lost, is an old one, and the log has gone on without it. But for those
                 * files that were taken from the log: nobody knows whether their events were settled. */
                const bool gone = behind && before > 0; /* else it had come to the end of what was recycled */
                bool stale = found->owner_stale || (gone && journal->durability != JOURNAL_DURABILITY_HOST);
                /* And but for what it passed lost, and for records that this log misses: a cursor may also be behind
                 * for sequences that a segment took with it which was given up before anything stood in it. */
                const uint64_t lost_records = owner.lost_records + recover->recovery->lost_records;
                const bool explained = lost_records > 0 && shard.accepted > known &&
                                       journal_losses_explain(shard.accepted - known, lost_records);
                if (!found->shard_lost && shard.accepted > known && stale && (gone || found->owner_lost) &&
                    !explained && !recover->is_incomplete) {
                        /* What became of them is not known any more. */
                        owner.delivered += shard.accepted - known;
                        rebuilt = true;
                        changed_owner = true;
                } else if (shard.accepted != known) {
                        /* More: records are gone that nobody had settled. Fewer: a power cut kept what was settled, and
                         * neither the records nor this count of them. */
                        if (!found->shard_lost && shard.accepted > known) {
                                shard.lost += shard.accepted - known;
                                recover->recovery->lost_events += shard.accepted - known;
                                missing = before > missing ? before : missing;
                        }
                        shard.accepted = known;
                        changed_shard = true;
                }
                if (found->disowned && found->found_waiting > 0) {
                        /* Nobody knows whose they were. */
                        shard.accepted -= found->found_waiting;
                        shard.lost += found->found_waiting;
                        recover->recovery->lost_events += found->found_waiting;
                        changed_shard = true;
                } else if (found->found_waiting > 0 && atomic_load_explicit(&entry->retired, memory_order_relaxed) != 0)
                        /* A power cut may have taken back that it is live again, and left events of since then. Who is
                         * in no plan is retired anew. */
                        journal_target_set_retired(&journal->targets, entry, false);
                if (found->disowned) {
                        owner.position = position;
                        owner.sequence = sequence;
                        changed_owner = true;
                }
                if (changed_owner)
                        journal_owner_slot_write(&journal->targets, entry, &owner);
                /* Of records whose sequences were used before, as a copy that is ahead of the log knows, none seems
                 * new. */
                const bool short_of = found->found_waiting > 0 && shard.upto_position < position;
                if (changed_shard || short_of || shard.upto_position > position) {
                        shard.upto_position = position;
                        shard.upto_sequence = sequence - 1;
                        journal_shard_slot_write(&journal->targets, entry, &shard);
                }
                if (owner.lost_records > 0) {
                        /* What of them was its is among the shard's `lost` now. Not before: a kill leaves it to the
                         * next open. */
                        owner.lost_records = 0;
                        journal_owner_slot_write(&journal->targets, entry, &owner);
                }
                recover->recovery->targets_rebuilt += rebuilt;
        }
        recover->recovery->lost_records += missing;
        enum err_code code = journal_targets_reserve_numbers(journal, recover->routes_end, recover->reterr);
        for (uint32_t number = count; number < recover->routes_end && code == ERR_OK; number++) {
                struct journal_target_entry *entry = journal_target_entry(&journal->targets, number);
                struct journal_shard_slot shard;
                journal_shard_slot_read(entry, &shard);
                shard.lost = journal->target_recovery[number].found_accepted;
                recover->recovery->lost_events += shard.lost;
                journal_shard_slot_write(&journal->targets, entry, &shard);
        }
        return code;
}

/* ------------------------------------------------------------------------------------------------------ files */

/* After a failed sync: what the page cache has of a segment may never have come to the disk, although the kernel takes
 * it for written. */
static enum err_code recover_write_anew(struct recover *recover, const struct recover_file *file, int fd)
{
        const uint64_t chunk_bytes = (uint64_t)1 << 20;
        enum err_code code = ERR_OK;
        uint8_t *chunk = malloc(chunk_bytes);
        if (chunk == NULL)
                return ERR_MEMORY;
        for (uint64_t offset = 0; offset < file->header.segment_bytes && code == ERR_OK; offset += chunk_bytes) {
                uint64_t bytes = file->header.segment_bytes - offset;
                if (bytes > chunk_bytes)
                        bytes = chunk_bytes;
                code = recover_read(recover, fd, chunk, bytes, offset);
                if (code == ERR_OK)
                        code = recover_write(fd, chunk, bytes, offset);
        }
        free(chunk);
        recover->recovery->rewritten_segments += code == ERR_OK;
        return code;
}

/* Files that were cut get their length back, and blocks where the writer will come. Durability host: what a killed
 * process left in the page cache goes to the disk, so that all that was recovered is durable. */
enum err_code recover_lengths(struct recover *recover)
{
        struct journal *journal = recover->journal;
        const bool host = journal->durability == JOURNAL_DURABILITY_HOST;
        /* Without its header nobody knows whether one had failed. */
        const bool write_anew = journal_targets_sync_failed(&journal->targets) ||
                                (journal->targets.header_lost && recover->files_count > 0);
        journal->targets_sync_failed |= write_anew;
        /* Where nothing is synced it stays so, for a start that does. */
        if (write_anew && !host)
                atomic_store_explicit(&journal->sync_failed, true, memory_order_relaxed);
        for (size_t i = 0; i < recover->files_count; i++) {
                const struct recover_file *file = &recover->files[i];
                bool to_be_written = !recover->any || i >= recover->last_index;
                if (file->file_bytes >= file->header.segment_bytes && !to_be_written && !host)
                        continue;
                int fd;
                if (recover_open(recover, file->number, O_RDWR, &fd) != ERR_OK) {
                        if (host)
                                atomic_store_explicit(&journal->sync_failed, true, memory_order_relaxed);
                        journal->segments[i].unusable = to_be_written;
                        continue;
                }
                /* What cannot be written any more, for want of room perhaps, is only read. */
                bool whole = file->file_bytes >= file->header.segment_bytes ||
                             disk_truncate(fd, file->header.segment_bytes) == 0;
                if (to_be_written && (!whole || disk_allocate(fd, file->header.segment_bytes) != 0))
                        journal->segments[i].unusable = true;
                /* What fails here is tried again by journal_sync_begin(), and not durable before. */
                if (host && ((write_anew && recover_write_anew(recover, file, fd) != ERR_OK) || disk_sync(fd) < 0))
                        atomic_store_explicit(&journal->sync_failed, true, memory_order_relaxed);
                (void)disk_close(fd); /* the writes were checked */
        }
        /* The names that an earlier process gave may be on no disk: it was killed before, or synced nothing. */
        journal->directory_unsynced =
                host && recover->files_count > 0 && disk_sync_directory(journal->directory_fd) < 0;
        if (journal->directory_unsynced)
                atomic_store_explicit(&journal->sync_failed, true, memory_order_relaxed);
        if (host || write_anew)
                journal_note_sync(journal);
        return ERR_OK;
}
