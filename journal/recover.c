/* Recovery at open: every segment is read once into private memory, every record judged by itself. Nothing here trusts
 * the files: they may be cut, torn, flipped, or come from elsewhere. */
#include "journal/recover.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* What is not read now may be read at once afterwards, over a network for example; what is taken for lost is covered.
 */
#define RECOVER_TRIES  8u
#define RECOVER_NAP_NS (100 * CLOCK_NS_PER_MS)
#define RECOVER_NAPS   50u /* in one open: a disk with many bad sectors must not take for ever */

/* ------------------------------------------------------------------------------------------------------ files */

/* Whether what failed with EIO is worth another try; waits a little before it. */
static bool recover_tries_again(struct recover *recover, uint32_t *tries)
{
        if (++*tries >= RECOVER_TRIES)
                return false;
        if (recover->naps < RECOVER_NAPS)
                clock_sleep_ns(RECOVER_NAP_NS);
        recover->naps++;
        return true;
}

enum err_code recover_read(struct recover *recover, int fd, uint8_t *to, uint64_t bytes, uint64_t offset)
{
        uint64_t done = 0;
        uint32_t tries = 0;
        while (done < bytes) {
                ssize_t got = disk_read(fd, to + done, bytes - done, offset + done);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0 && errno == EIO && recover_tries_again(recover, &tries))
                        continue;
                if (got < 0 && errno == EIO) {
                        /* A bad sector costs its page, not the file. */
                        uint64_t skip = JOURNAL_PAGE_BYTES - (offset + done) % JOURNAL_PAGE_BYTES;
                        if (skip > bytes - done)
                                skip = bytes - done;
                        memset(to + done, 0, skip);
                        done += skip;
                        recover->skipped_pages++;
                        tries = 0;
                        continue;
                }
                if (got < 0)
                        return ERR_SYSTEM;
                if (got == 0)
                        break;
                done += (uint64_t)got;
        }
        memset(to + done, 0, bytes - done);
        return ERR_OK;
}

enum err_code recover_write(int fd, const void *from, uint64_t bytes, uint64_t offset)
{
        uint64_t done = 0;
        while (done < bytes) {
                ssize_t wrote = disk_write(fd, (const uint8_t *)from + done, bytes - done, offset + done);
                if (wrote < 0 && errno == EINTR)
                        continue;
                if (wrote <= 0)
                        return ERR_SYSTEM;
                done += (uint64_t)wrote;
        }
        return ERR_OK;
}

enum err_code recover_open(struct recover *recover, uint64_t number, int flags, int *ret_fd)
{
        char name[JOURNAL_NAME_BYTES];
        journal_segment_name(number, JOURNAL_SEGMENT_SUFFIX, name);
        uint32_t tries = 0;
        do
                *ret_fd = disk_open(recover->journal->directory_fd, name, flags | O_NOFOLLOW, 0);
        while (*ret_fd < 0 && errno == EIO && recover_tries_again(recover, &tries));
        if (*ret_fd >= 0)
                return ERR_OK;
        int sys_errno = errno;
        enum err_code code = err_set_errno(recover->reterr, ERR_SYSTEM, sys_errno, "cannot open journal segment %s/%s",
                                           recover->journal->directory, name);
        errno = sys_errno;
        return code;
}

/* ------------------------------------------------------------------------------------------------------ directory */

static bool recover_parse_name(const char *name, const char *suffix, uint64_t *ret_number)
{
        uint64_t number = 0;
        for (size_t i = 0; i < 16; i++) {
                char c = name[i];
                unsigned digit;
                if (c >= '0' && c <= '9')
                        digit = (unsigned)(c - '0');
                else if (c >= 'a' && c <= 'f')
                        digit = (unsigned)(c - 'a') + 10;
                else
                        return false;
                number = number << 4 | digit;
        }
        *ret_number = number;
        return strcmp(name + 16, suffix) == 0;
}

/* Whether the disk, and not this process or its rights, is why a file cannot be opened or read: then the others are no
 * worse for it. */
static bool recover_is_unreadable(enum err_code code)
{
        return code == ERR_SYSTEM && errno != EMFILE && errno != ENFILE;
}

/* After a read that failed; errno stays. */
static enum err_code recover_unread(struct recover *recover, const struct recover_file *file)
{
        int sys_errno = errno;
        enum err_code code =
                err_set_errno(recover->reterr, ERR_SYSTEM, sys_errno, "cannot read journal segment %016llx in %s",
                              (unsigned long long)file->number, recover->journal->directory);
        errno = sys_errno;
        return code;
}

/* Reads what identifies the file. ERR_CORRUPT: it is no segment; ERR_SYSTEM: it cannot be read, so that nobody knows.
 * On failure errno tells why. */
static enum err_code recover_identify(struct recover *recover, struct recover_file *file)
{
        int fd;
        const uint64_t skipped_pages = recover->skipped_pages;
        enum err_code code = recover_open(recover, file->number, O_RDONLY, &fd);
        if (code != ERR_OK)
                return code;
        struct stat status;
        uint8_t head[JOURNAL_START_OFFSET + sizeof(struct journal_start_block)];
        struct journal_segment_header copy = {0};
        if (disk_stat(fd, &status) < 0) {
                code = recover_unread(recover, file);
                goto out;
        }
        if (!S_ISREG(status.st_mode)) {
                code = ERR_CORRUPT;
                file->is_foreign = true;
                goto out;
        }
        file->file_bytes = (uint64_t)status.st_size;
        if (recover_read(recover, fd, head, sizeof(head), 0) != ERR_OK) {
                code = recover_unread(recover, file);
                goto out;
        }
        memcpy(&file->header, head, sizeof(file->header));
        enum err_code first = journal_segment_header_check(&file->header, file->number);
        /* The copy lies a page before the end; where that is, only the header or the file's size can tell. */
        uint64_t end = first == ERR_OK ? file->header.segment_bytes : file->file_bytes;
        enum err_code second = ERR_CORRUPT;
        if (end >= LIMIT_SEGMENT_BYTES_MIN && end <= file->file_bytes) {
                if (recover_read(recover, fd, (uint8_t *)&copy, sizeof(copy), end - JOURNAL_PAGE_BYTES) != ERR_OK) {
                        code = recover_unread(recover, file);
                        goto out;
                }
                second = journal_segment_header_check(&copy, file->number);
        }
        if (second == ERR_OK && (first != ERR_OK || copy.base_position > file->header.base_position)) {
                file->header = copy;
                first = ERR_OK;
        }
        if (first != ERR_OK && (first == ERR_VERSION || second == ERR_VERSION)) {
                code = err_set(
                        recover->reterr, ERR_VERSION,
                        "journal segment %016llx in %s has another version than %u: use the program that wrote it",
                        (unsigned long long)file->number, recover->journal->directory, JOURNAL_VERSION);
                goto out;
        }
        code = first;
        if (code != ERR_OK && recover->skipped_pages > skipped_pages) {
                errno = EIO;
                code = recover_unread(recover, file);
                goto out;
        }
        file->is_foreign =
                code != ERR_OK && file->header.magic != JOURNAL_SEGMENT_MAGIC && copy.magic != JOURNAL_SEGMENT_MAGIC;
        struct journal_start_block start;
        memcpy(&start, head + JOURNAL_START_OFFSET, sizeof(start));
        file->base_sequence = 0;
        if (start.base_sequence != 0 && start.base_sequence < JOURNAL_SEQUENCE_MAX &&
            start.crc == journal_start_block_crc(file->header.seed, file->header.base_position, start.base_sequence))
                file->base_sequence = start.base_sequence;
        file->loss_counted = file->base_sequence != 0 && start.loss_counted == ~start.crc;
out:
        (void)disk_close(fd); /* read only */
        return code;
}

static int recover_compare_files(const void *a, const void *b)
{
        const struct recover_file *left = a, *right = b;
        if (left->header.base_position != right->header.base_position)
                return left->header.base_position < right->header.base_position ? -1 : 1;
        /* One of them was to be the next segment, failed, and could not be removed: nothing has begun in it. */
        if ((left->base_sequence != 0) != (right->base_sequence != 0))
                return left->base_sequence != 0 ? -1 : 1;
        return left->number < right->number ? -1 : left->number > right->number;
}

/* Lists, identifies and sorts; what is no segment of this log is moved away (not when reading only). */
static enum err_code recover_list(struct recover *recover)
{
        struct journal *journal = recover->journal;
        struct disk_list *list = disk_list_open(journal->directory_fd, ".");
        if (list == NULL)
                return err_set_errno(recover->reterr, ERR_SYSTEM, errno, "cannot list %s", journal->directory);
        enum err_code code = ERR_OK;
        const char *name;
        recover->files_count = 0;
        while (code == ERR_OK && (name = disk_list_next(list)) != NULL) {
                struct recover_file file = {0};
                if (strlen(name) < 16)
                        continue;
                if (!journal->read_only && recover_parse_name(name, JOURNAL_UNFINISHED, &file.number)) {
                        (void)disk_unlink(journal->directory_fd, name); /* best effort: tried at each open */
                        continue;
                }
                if (!recover_parse_name(name, JOURNAL_SEGMENT_SUFFIX, &file.number))
                        continue;
                if (file.number >= journal->next_file_number && file.number < UINT64_MAX)
                        journal->next_file_number = file.number + 1;
                code = recover_identify(recover, &file);
                if (code == ERR_CORRUPT || (code != ERR_OK && journal->read_only) || recover_is_unreadable(code)) {
                        recover->recovery->unreadable_segments += code != ERR_CORRUPT;
                        recover->is_incomplete = true;
                        if (!journal->read_only)
                                recover_quarantine_move(recover, &file);
                        code = ERR_OK;
                        continue;
                }
                if (code != ERR_OK)
                        break;
                if (recover->files_count == recover->files_room) {
                        size_t room = recover->files_room == 0 ? 64 : recover->files_room * 2;
                        struct recover_file *larger = realloc(recover->files, room * sizeof(*larger));
                        if (larger == NULL) {
                                code = err_set(recover->reterr, ERR_MEMORY, "out of memory listing %s",
                                               journal->directory);
                                break;
                        }
                        recover->files = larger;
                        recover->files_room = room;
                }
                recover->files[recover->files_count++] = file;
        }
        /* Files that are there and not known would be taken for gone, and be overwritten. */
        if (code == ERR_OK && errno != 0)
                code = err_set_errno(recover->reterr, ERR_SYSTEM, errno, "cannot list %s", journal->directory);
        disk_list_close(list);
        if (code != ERR_OK)
                return code;
        if (recover->files_count > 1)
                qsort(recover->files, recover->files_count, sizeof(*recover->files), recover_compare_files);
        /* Two files cannot hold the same positions: the first is the one that the log went on in. */
        size_t kept = 0;
        for (size_t i = 0; i < recover->files_count; i++) {
                const struct recover_file *before = kept == 0 ? NULL : &recover->files[kept - 1];
                if (before != NULL && recover->files[i].header.base_position <
                                              before->header.base_position + before->header.segment_bytes) {
                        recover->is_incomplete |= recover->files[i].base_sequence != 0;
                        if (!journal->read_only)
                                recover_quarantine_move(recover, &recover->files[i]);
                        continue;
                }
                recover->files[kept++] = recover->files[i];
        }
        recover->files_count = kept;
        return ERR_OK;
}

static enum err_code recover_table(struct recover *recover)
{
        struct journal *journal = recover->journal;
        /* Files of another size may take more lines than the configured size has segments. */
        uint64_t capacity = recover->files_count + 1;
        if (!journal->read_only)
                capacity +=
                        journal_lines_ahead(journal->size_bytes_max, journal->drain_bytes_max, journal->segment_bytes);
        free(journal->segments);
        journal->segments = calloc(capacity, sizeof(*journal->segments));
        if (journal->segments == NULL)
                return err_set(recover->reterr, ERR_MEMORY, "out of memory for %llu journal segments",
                               (unsigned long long)capacity);
        journal->capacity = capacity;
        journal->first_index = 0;
        uint64_t size_bytes = 0;
        for (size_t i = 0; i < recover->files_count; i++) {
                const struct recover_file *file = &recover->files[i];
                struct journal_segment *segment = &journal->segments[i];
                segment->file_number = file->number;
                segment->base_position = file->header.base_position;
                segment->size_bytes = file->header.segment_bytes;
                segment->seed = file->header.seed;
                segment->fd = -1;
                size_bytes += segment->size_bytes;
                journal->next_base_position = segment->base_position + segment->size_bytes;
                if (segment->size_bytes > recover->bytes_room)
                        recover->bytes_room = segment->size_bytes;
        }
        atomic_store_explicit(&journal->prepared_end, recover->files_count, memory_order_relaxed);
        atomic_store_explicit(&journal->stat_segments, recover->files_count, memory_order_relaxed);
        atomic_store_explicit(&journal->stat_size_bytes, size_bytes, memory_order_relaxed);
        if (!journal->read_only)
                atomic_fetch_add_explicit(&journal->budget->size_bytes, size_bytes, memory_order_relaxed);
        return ERR_OK;
}

/* What the disk does not give is read as zeros: its records are lost, and counted, and the start goes on. What this
 * process has no memory for is there the next time. */
static enum err_code recover_load(struct recover *recover, size_t index)
{
        int fd;
        const struct recover_file *file = &recover->files[index];
        const uint64_t bytes = file->header.segment_bytes;
        enum err_code code = recover_open(recover, file->number, O_RDONLY, &fd);
        if (code == ERR_OK) {
                if (recover_read(recover, fd, recover->bytes, bytes, 0) != ERR_OK)
                        code = recover_unread(recover, file);
                int sys_errno = errno;
                (void)disk_close(fd); /* read only */
                errno = sys_errno;
        }
        if (code == ERR_OK || !recover_is_unreadable(code))
                return code;
        memset(recover->bytes, 0, bytes);
        recover->recovery->unreadable_segments++;
        recover->is_incomplete = true;
        return ERR_OK;
}

/* ------------------------------------------------------------------------------------------------------ scan */

static enum err_code recover_note_hole(struct recover *recover, uint64_t offset, uint64_t end, uint64_t next_sequence)
{
        if (recover->holes_count == recover->holes_room) {
                size_t room = recover->holes_room == 0 ? 16 : recover->holes_room * 2;
                struct recover_hole *larger = realloc(recover->holes, room * sizeof(*larger));
                if (larger == NULL)
                        return err_set(recover->reterr, ERR_MEMORY, "out of memory recovering %s",
                                       recover->journal->directory);
                recover->holes = larger;
                recover->holes_room = room;
        }
        recover->holes[recover->holes_count++] =
                (struct recover_hole){.offset = offset, .end = end, .next_sequence = next_sequence};
        return ERR_OK;
}

static enum err_code recover_record(struct recover *recover, uint64_t position,
                                    const struct journal_record_header *header)
{
        struct journal *journal = recover->journal;
        recover->recovery->records++;
        recover->recovery->bytes += journal_record_bytes(header->payload_bytes);
        if (journal->target_recovery == NULL)
                return ERR_OK;
        if (!journal_lanes_note(&journal->lanes, header->lane_id, header->lane_position))
                return err_set(recover->reterr, ERR_MEMORY, "out of memory for the lanes of %s", journal->directory);
        unsigned routes_count = journal_header_routes_count(header);
        for (unsigned i = 0; i < routes_count; i++) {
                uint32_t target = header->routes[i];
                if (target >= LIMIT_TARGETS_MAX)
                        continue;
                if (target >= recover->routes_end)
                        recover->routes_end = target + 1;
                struct journal_target_recovery *found = &journal->target_recovery[target];
                found->found_accepted += header->sequence > found->upto_sequence;
                found->found_waiting += position >= found->cursor_position;
        }
        return ERR_OK;
}

/* The numbers that a gap covers were counted by the open that wrote it; those of damage in front of it were not. */
static uint64_t recover_lost_before_gap(const struct recover *recover, uint64_t offset, uint64_t sequence)
{
        const struct recover_hole *hole = recover->holes_count == 0 ? NULL : &recover->holes[recover->holes_count - 1];
        if (hole == NULL || hole->end != offset)
                return 0;
        const uint64_t records_max = (hole->end - hole->offset) / JOURNAL_ALIGN_BYTES;
        const uint64_t missing = sequence - recover->expected;
        return missing < records_max ? missing : records_max;
}

/* Walks segment `index`, whose bytes are loaded. */
static enum err_code recover_scan(struct recover *recover, size_t index)
{
        const struct journal_segment *segment = &recover->journal->segments[index];
        const uint64_t data_end = journal_segment_data_end(segment);
        const uint64_t base = segment->base_position;
        enum err_code code = ERR_OK;
        bool content = false;
        uint64_t lost = 0;
        uint64_t offset = JOURNAL_DATA_START;
        uint64_t end = offset; /* behind the last record */
        recover->holes_count = 0;
        const uint64_t base_sequence = recover->files[index].base_sequence;
        if (base_sequence != 0 && base_sequence >= recover->expected) {
                content = true;
                code = recover_begin(recover, index, base_sequence);
        }
        while (code == ERR_OK && offset < data_end) {
                struct journal_record_header header;
                bool whole =
                        journal_record_is_whole(recover->bytes + offset, data_end - offset, segment->seed, &header) &&
                        header.sequence >= recover->expected;
                if (!whole) {
                        uint64_t next = journal_resync(recover->bytes, offset + JOURNAL_ALIGN_BYTES, data_end,
                                                       segment->seed, recover->expected);
                        if (next == data_end)
                                break;
                        memcpy(&header, recover->bytes + next, sizeof(header));
                        code = recover_note_hole(recover, offset, next, header.sequence);
                        offset = next;
                        continue; /* whole by journal_resync() */
                }
                if (!content) {
                        content = true;
                        code = recover_begin(recover, index, header.sequence);
                        if (code != ERR_OK)
                                break;
                }
                bool gap = (journal_header_flags(&header) & JOURNAL_FLAG_GAP) != 0;
                if (recover->expected != 0)
                        lost += gap ? recover_lost_before_gap(recover, offset, header.sequence)
                                    : header.sequence - recover->expected;
                if (gap)
                        recover_pass_gap(recover, index, offset, offset + journal_record_bytes(header.payload_bytes),
                                         header.sequence);
                else
                        code = recover_record(recover, base + offset, &header);
                recover->expected = header.sequence + !gap;
                offset += journal_record_bytes(header.payload_bytes);
                if (!gap)
                        end = offset;
        }
        if (code != ERR_OK)
                return code;
        if (lost > 0 && recover->holes_count > 0 && !recover->journal->read_only)
                recover_quarantine_copy(recover, &recover->files[index]);
        recover->recovery->lost_records += lost;
        for (size_t i = 0; i < recover->holes_count && !recover->journal->read_only; i++) {
                code = recover_cover(recover, index, recover->holes[i].offset, recover->holes[i].end,
                                     recover->holes[i].next_sequence);
                if (code != ERR_OK)
                        return code;
        }
        /* Closed: the end gap or the last record reaches the end. Otherwise the next record goes to `offset`. */
        bool closed = offset >= data_end;
        recover->files[index].end_position = base + (closed ? end : offset);
        if (closed && recover->open_from == index)
                recover->open_from = index + 1;
        if (!closed && content) {
                struct journal_record_header header;
                memcpy(&header, recover->bytes + offset, sizeof(header));
                if (header.sequence == recover->expected && header.payload_bytes <= LIMIT_RECORD_BYTES_MAX)
                        recover->cut_bytes = journal_record_bytes(header.payload_bytes);
        }
        return ERR_OK;
}

/* ------------------------------------------------------------------------------------------------------ all of it */

/* From which file on the records must be looked at: what every cursor has passed is only kept, and may be much. Those
 * that were warm are looked at all the same: lanes that were handed over have their last events there. */
static size_t recover_first_needed(const struct recover *recover)
{
        struct journal *journal = recover->journal;
        uint64_t needed = UINT64_MAX;
        if (journal->targets.incomplete)
                return 0; /* what else is named, the records must say */
        for (uint32_t number = 0; number < journal_targets_count(journal); number++) {
                const struct journal_target_recovery *found = &journal->target_recovery[number];
                if (found->owner_lost || found->shard_lost)
                        return 0; /* its counts are made anew from everything there is */
                needed = found->cursor_position < needed ? found->cursor_position : needed;
        }
        if (needed == UINT64_MAX)
                return 0;
        size_t started = 0, first = 0;
        while (started < recover->files_count && recover->files[started].base_sequence != 0)
                started++;
        while (first + journal->segments_mapped_max < started &&
               recover->files[first + 1].header.base_position <= needed)
                first++;
        return first;
}

static enum err_code recover_scan_all(struct recover *recover)
{
        struct journal *journal = recover->journal;
        if (recover->files_count == 0)
                return ERR_OK;
        void *bytes = mmap(NULL, recover->bytes_room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (bytes == MAP_FAILED)
                return err_set_errno(recover->reterr, ERR_SYSTEM, errno, "cannot map %llu bytes to recover %s",
                                     (unsigned long long)recover->bytes_room, journal->directory);
        recover->bytes = bytes;
        enum err_code code = ERR_OK;
        /* Reading only, the table and the last started segment are enough: targets_recovery is not there either. */
        size_t from = 0;
        if (journal->read_only) {
                for (size_t i = 0; i < recover->files_count; i++) {
                        if (recover->files[i].base_sequence != 0)
                                from = i;
                }
                recover->open_from = from;
        } else {
                from = recover_first_needed(recover);
                recover->open_from = from;
                for (size_t i = 0; i < from; i++)
                        recover->files[i].end_position =
                                recover->files[i].header.base_position + recover->files[i].header.segment_bytes;
        }
        for (size_t i = from; i < recover->files_count && code == ERR_OK; i++) {
                code = recover_load(recover, i);
                if (code == ERR_OK)
                        code = recover_scan(recover, i);
        }
        (void)munmap(recover->bytes, recover->bytes_room); /* cannot fail for our own mapping */
        recover->bytes = NULL;
        return code;
}

static void recover_release(struct recover *recover)
{
        free(recover->files);
        free(recover->holes);
}

enum err_code journal_recover(struct journal *journal, struct journal_recovery *recovery, struct err *reterr)
{
        struct recover recover = {.journal = journal, .recovery = recovery, .reterr = reterr};
        enum err_code code = recover_list(&recover);
        if (code == ERR_OK)
                code = recover_table(&recover);
        if (code == ERR_OK)
                code = recover_scan_all(&recover);
        if (code == ERR_OK)
                code = recover_lengths(&recover);
        if (code != ERR_OK)
                goto out;
        recovery->segments = recover.files_count;
        recovery->cut_bytes = recover.cut_bytes;

        /* Positions and sequences that a cursor has seen are never used again. */
        uint64_t position = 0, sequence = recover.expected == 0 ? 1 : recover.expected;
        uint64_t seen_position = 0, seen_sequence = sequence;
        for (uint32_t number = 0; number < journal_targets_count(journal); number++) {
                struct journal_target_entry *entry = journal_target_entry(&journal->targets, number);
                const struct journal_target_recovery *found = &journal->target_recovery[number];
                struct journal_owner_slot owner = {0};
                struct journal_shard_slot shard = {0};
                if (!found->owner_lost)
                        journal_owner_slot_read(entry, &owner);
                if (!found->shard_lost)
                        journal_shard_slot_read(entry, &shard);
                seen_position = owner.position > seen_position ? owner.position : seen_position;
                seen_position = shard.upto_position > seen_position ? shard.upto_position : seen_position;
                seen_sequence = owner.sequence > seen_sequence ? owner.sequence : seen_sequence;
                seen_sequence = shard.upto_sequence >= seen_sequence ? shard.upto_sequence + 1 : seen_sequence;
        }
        uint64_t oldest = 0, oldest_sequence = seen_sequence;
        if (recover.files_count > 0) {
                oldest = journal->segments[0].base_position + JOURNAL_DATA_START;
                if (recover.files[0].base_sequence != 0)
                        oldest_sequence = recover.files[0].base_sequence;
        }
        if (recover.any) {
                const struct journal_segment *last = &journal->segments[recover.last_index];
                position = recover.files[recover.last_index].end_position;
                if (seen_sequence > sequence) {
                        recovery->lost_records += seen_sequence - sequence;
                        uint64_t offset = position - last->base_position;
                        if (offset + JOURNAL_ALIGN_BYTES <= journal_segment_data_end(last) &&
                            recover.open_from == recover.last_index) {
                                code = recover_cover(&recover, recover.last_index, offset, offset + JOURNAL_ALIGN_BYTES,
                                                     seen_sequence);
                                if (code != ERR_OK)
                                        goto out;
                                position += JOURNAL_ALIGN_BYTES;
                        } else {
                                journal->writer.loss_counted = true;
                        }
                }
                journal->writer.offset = recover.open_from > recover.last_index ? journal_segment_data_end(last)
                                                                                : position - last->base_position;
        } else if (recover.files_count > 0) {
                position = oldest;
        } else {
                journal->next_base_position =
                        (seen_position + JOURNAL_PAGE_BYTES - 1) & ~(uint64_t)(JOURNAL_PAGE_BYTES - 1);
                position = journal->next_base_position + JOURNAL_DATA_START;
                oldest = position;
        }
        /* Relaxed: no other thread knows the journal yet. What lies behind the last segment in use is prepared. */
        uint64_t used = recover.any ? recover.last_index + 1 : 0;
        for (uint64_t i = 0; i < used; i++) {
                atomic_store_explicit(&journal->segments[i].base_sequence, recover.files[i].base_sequence,
                                      memory_order_relaxed);
                if (i + 1 < used)
                        atomic_store_explicit(&journal->segments[i].end_position, recover.files[i].end_position,
                                              memory_order_relaxed);
        }
        atomic_store_explicit(&journal->current_index, used == 0 ? 0 : used - 1, memory_order_relaxed);
        journal->writer.sequence = seen_sequence;
        journal->writer.segment = used == 0 ? NULL : &journal->segments[used - 1];
        journal->recycled_position = oldest; /* no cursor is before it: recover_targets() */
        journal_publish_pair(journal, position, seen_sequence);
        code = recover_targets(&recover, oldest, oldest_sequence, position, seen_sequence);
out:
        recover_release(&recover);
        return code;
}

enum err_code journal_refresh(struct journal *journal, struct err *reterr)
{
        struct journal_recovery unused = {0};
        struct recover recover = {.journal = journal, .recovery = &unused, .reterr = reterr};
        enum err_code code = recover_list(&recover);
        if (code == ERR_OK)
                code = recover_table(&recover);
        if (code == ERR_OK)
                code = recover_scan_all(&recover);
        /* Relaxed, as all else: one thread. */
        for (size_t i = 0; code == ERR_OK && i < recover.files_count; i++)
                atomic_store_explicit(&journal->segments[i].base_sequence, recover.files[i].base_sequence,
                                      memory_order_relaxed);
        if (code == ERR_OK && recover.any) {
                journal_publish_pair(journal, recover.files[recover.last_index].end_position, recover.expected);
                atomic_store_explicit(&journal->current_index, recover.last_index, memory_order_relaxed);
        }
        journal_targets_refresh(&journal->targets);
        recover_release(&recover);
        return code;
}
