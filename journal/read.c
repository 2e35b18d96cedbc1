/* The readers' side: finding the segment, pinning it, walking its records; and counting what waits for a target. */
#include "journal/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct journal_reader {
        struct journal *journal;
        const uint8_t *bytes; /* of the segment it is in; NULL: in none */
        uint64_t base_position, data_end;
        uint32_t seed;
        bool verify;                     /* the bytes may have been to the disk and back */
        const _Atomic uint32_t *lost;    /* pages of the journal's own mapping that could not be backed */
        const _Atomic bool *damaged;     /* of the segment; like `lost`, of no use where everything is verified */
        struct journal_segment *segment; /* pinned; NULL when the bytes are a copy */
        void *own_map;                   /* NULL: the journal's own mapping is used */
        uint64_t own_bytes;
        uint64_t file_number;
        uint64_t next_position, next_sequence; /* of what comes behind the last record that was read; 0: none was */
};

/* Reading beside a writer of another process: how often the log may be recycled under a count before it is given up. */
#define JOURNAL_AUDIT_ATTEMPTS_MAX 16u

enum err_code journal_segment_find(const struct journal *journal, uint64_t position, uint64_t *ret_index)
{
        /* Relaxed: control stores it under the mutex that the caller holds. */
        uint64_t low = journal->first_index;
        uint64_t high = atomic_load_explicit(&journal->prepared_end, memory_order_acquire);
        const uint64_t end = high;
        if (low == high)
                return ERR_NOT_FOUND;
        const struct journal_segment *first = journal_segment_at(journal, low);
        if (position < first->base_position && position < journal->recycled_position)
                return ERR_NOT_FOUND;
        /* The first segment whose records reach behind `position`. */
        while (low < high) {
                uint64_t middle = low + (high - low) / 2;
                const struct journal_segment *segment = journal_segment_at(journal, middle);
                if (segment->base_position + journal_segment_data_end(segment) > position)
                        high = middle;
                else
                        low = middle + 1;
        }
        if (low == end)
                return ERR_NOT_FOUND;
        *ret_index = low;
        return ERR_OK;
}

void journal_reader_rest(struct journal_reader *reader)
{
        if (reader->own_map != NULL && reader->journal->read_only)
                (void)munmap(reader->own_map, reader->own_bytes); /* a copy; cannot fail for our own mapping */
        else if (reader->own_map != NULL)
                disk_unmap(reader->own_map, reader->own_bytes);
        if (reader->segment != NULL)
                /* P1: everything read comes before; pairs with the acquire in journal_segment_is_free(). */
                atomic_fetch_sub_explicit(&reader->segment->pins, 1, memory_order_release);
        reader->own_map = NULL;
        reader->segment = NULL;
        reader->bytes = NULL;
}

/* A private copy, for a segment that another process may recycle at any moment. */
static enum err_code journal_reader_copy(struct journal_reader *reader, int fd, uint64_t bytes)
{
        void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (copy == MAP_FAILED)
                return ERR_MEMORY;
        reader->own_map = copy;
        reader->own_bytes = bytes;
        uint64_t done = 0;
        while (done < bytes) {
                ssize_t got = disk_read(fd, (uint8_t *)copy + done, bytes - done, done);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return ERR_SYSTEM;
                if (got == 0)
                        break; /* the rest stays zero and holds no record */
                done += (uint64_t)got;
        }
        return ERR_OK;
}

static enum err_code journal_reader_map(struct journal_reader *reader, uint64_t bytes)
{
        struct journal *journal = reader->journal;
        char name[JOURNAL_NAME_BYTES];
        journal_segment_name(reader->file_number, JOURNAL_SEGMENT_SUFFIX, name);
        int fd = disk_open(journal->directory_fd, name, O_RDONLY | O_NOFOLLOW, 0);
        if (fd < 0)
                return journal->read_only && errno == ENOENT ? ERR_NOT_FOUND : ERR_SYSTEM;
        enum err_code code = ERR_OK;
        if (journal->read_only) {
                code = journal_reader_copy(reader, fd, bytes);
        } else {
                void *map = disk_map(fd, bytes, false);
                if (map == NULL) {
                        code = errno == ENOMEM ? ERR_MEMORY : ERR_SYSTEM;
                } else {
                        disk_will_read_in_order(map, bytes);
                        reader->own_map = map;
                        reader->own_bytes = bytes;
                }
        }
        (void)disk_close(fd); /* read only */
        return code;
}

/* Goes to the segment that has the record at or behind `position`. */
static __attribute__((noinline)) enum err_code journal_reader_enter(struct journal_reader *reader, uint64_t position)
{
        struct journal *journal = reader->journal;
        uint64_t index;
        journal_reader_rest(reader);
        (void)pthread_mutex_lock(&journal->mutex); /* cannot fail: a plain mutex, never taken twice */
        enum err_code code = journal_segment_find(journal, position, &index);
        if (code != ERR_OK) {
                (void)pthread_mutex_unlock(&journal->mutex);
                return code;
        }
        struct journal_segment *segment = journal_segment_at(journal, index);
        reader->file_number = segment->file_number;
        const uint64_t size_bytes = segment->size_bytes;
        reader->base_position = segment->base_position;
        reader->data_end = journal_segment_data_end(segment);
        reader->seed = segment->seed;
        const uint8_t *map = segment->map;
        reader->lost = segment->lost;
        reader->damaged = &segment->damaged;
        /* Pairs with the release in journal_sync_distrust(), here and below. */
        reader->verify = map == NULL || atomic_load_explicit(&segment->damaged, memory_order_acquire);
        if (!journal->read_only) {
                /* Relaxed: under the mutex, where control looks at it. */
                atomic_fetch_add_explicit(&segment->pins, 1, memory_order_relaxed);
                reader->segment = segment;
        }
        (void)pthread_mutex_unlock(&journal->mutex);
        reader->verify = reader->verify || atomic_load_explicit(reader->lost, memory_order_acquire) != 0;
        if (map == NULL) {
                code = journal_reader_map(reader, size_bytes);
                if (code != ERR_OK) {
                        journal_reader_rest(reader);
                        return code;
                }
                map = reader->own_map;
        }
        reader->bytes = map;
        return ERR_OK;
}

/* Reads a byte of each page of a record, so that a page which is gone is known to be before its content is used. True:
 * pages of the segment were lost, or may have been dropped, and from now on its records must be checked. */
static inline bool journal_reader_finds_lost(const struct journal_reader *reader, const uint8_t *at, uint64_t bytes)
{
        const volatile uint8_t *touched = at;
        for (uint64_t offset = JOURNAL_PAGE_BYTES; offset < bytes; offset += JOURNAL_PAGE_BYTES)
                (void)touched[offset];
        (void)touched[bytes - 1];
        /* Acquire: pairs with the release in the handler of io/disk_guard.c; it may have run on another thread. */
        return __builtin_expect(atomic_load_explicit(reader->lost, memory_order_acquire) != 0 ||
                                        atomic_load_explicit(reader->damaged, memory_order_acquire),
                                0);
}

/* Whether the file that a copy was made of is still the same segment, so that what is damaged in the copy is damaged.
 */
static bool journal_reader_is_current(const struct journal_reader *reader)
{
        char name[JOURNAL_NAME_BYTES];
        struct journal_segment_header header;
        journal_segment_name(reader->file_number, JOURNAL_SEGMENT_SUFFIX, name);
        int fd = disk_open(reader->journal->directory_fd, name, O_RDONLY | O_NOFOLLOW, 0);
        if (fd < 0)
                return false;
        bool same = disk_read(fd, &header, sizeof(header), 0) == (ssize_t)sizeof(header) &&
                    header.seed == reader->seed && header.base_position == reader->base_position;
        (void)disk_close(fd); /* read only */
        return same;
}

/* The sequence of the record at `next`, where the damage ends: of the segment in hand, or of the next one. 0: not
 * known.
 */
static uint64_t journal_reader_sequence_behind(const struct journal_reader *reader, uint64_t next, uint64_t limit)
{
        const uint64_t offset = next - reader->base_position;
        struct journal_record_header header;
        uint64_t index, sequence = 0, committed_position;
        struct journal *journal = reader->journal;
        if (next < limit && offset < reader->data_end) {
                memcpy(&header, reader->bytes + offset, sizeof(header));
                return header.sequence; /* whole by journal_resync() */
        }
        if (next < limit) {
                (void)pthread_mutex_lock(&journal->mutex); /* cannot fail: a plain mutex, never taken twice */
                if (journal_segment_find(journal, next, &index) == ERR_OK)
                        /* Pairs with the release in journal_writer_switch(). */
                        sequence = atomic_load_explicit(&journal_segment_at(journal, index)->base_sequence,
                                                        memory_order_acquire);
                (void)pthread_mutex_unlock(&journal->mutex);
                return sequence;
        }
        journal_committed(journal, &committed_position, &sequence);
        return committed_position == next ? sequence : 0;
}

/* The number that the record at `position` has at least; 0: not known. What has a smaller one is of an earlier life of
 * the log, in which a power cut took what was before it. */
static uint64_t journal_reader_expected(const struct journal_reader *reader, uint64_t position)
{
        return reader->next_position == position ? reader->next_sequence : 0;
}

/* Behind the last record of a segment that was given up, or could not be written any more, there may be nothing, not
 * even the gap that ends it, or what a power cut has left. */
static bool journal_reader_is_at_end(const struct journal_reader *reader, uint64_t position)
{
        if (reader->segment == NULL)
                return false;
        /* Pairs with the release in journal_writer_switch(). */
        uint64_t end = atomic_load_explicit(&reader->segment->end_position, memory_order_acquire);
        return end != 0 && position >= end;
}

/* Reading only, nobody says where that is: there the next segment goes on with the number that is expected here. */
static bool journal_reader_seems_at_end(const struct journal_reader *reader, uint64_t position, uint64_t limit)
{
        if (reader->segment != NULL)
                return false;
        const uint64_t data_end = reader->data_end, next = reader->base_position + data_end;
        return next < limit && reader->next_position == position &&
               journal_resync(reader->bytes, position - reader->base_position + JOURNAL_ALIGN_BYTES, data_end,
                              reader->seed, 0) == data_end &&
               journal_reader_sequence_behind(reader, next, limit) == reader->next_sequence;
}

/* The copy of a segment that another process recycled meanwhile holds no damage, only bytes of two lives. */
static __attribute__((noinline, cold)) enum err_code journal_read_damaged(struct journal_reader *reader,
                                                                          uint64_t position, uint64_t limit,
                                                                          struct journal_record *ret_record)
{
        if (reader->journal->read_only && !journal_reader_is_current(reader))
                return ERR_NOT_FOUND;
        uint64_t offset = position - reader->base_position;
        const uint64_t expected = journal_reader_expected(reader, position);
        uint64_t next =
                journal_resync(reader->bytes, offset + JOURNAL_ALIGN_BYTES, reader->data_end, reader->seed, expected);
        /* What is not published yet is not the damage's either. */
        next = reader->base_position + next < limit ? reader->base_position + next : limit;
        if (!reader->journal->read_only)
                journal_losses_note(reader->journal, position, next, expected,
                                    journal_reader_sequence_behind(reader, next, limit));
        *ret_record = (struct journal_record){.position = position, .next_position = next};
        return ERR_CORRUPT;
}

enum err_code journal_read(struct journal_reader *reader, uint64_t position, uint64_t limit,
                           struct journal_record *ret_record)
{
        while (position < limit) {
                if (reader->bytes == NULL || position < reader->base_position ||
                    position - reader->base_position >= reader->data_end) {
                        enum err_code code = journal_reader_enter(reader, position);
                        if (code != ERR_OK)
                                return code;
                        if (position < reader->base_position)
                                position = reader->base_position;
                }
                uint64_t offset = position - reader->base_position;
                ASSERT(offset % JOURNAL_ALIGN_BYTES == 0);
                if (offset < JOURNAL_DATA_START) {
                        position = reader->base_position + JOURNAL_DATA_START;
                        continue;
                }
                const uint8_t *at = reader->bytes + offset;
                uint64_t room_bytes = reader->data_end - offset;
                struct journal_record_header header;
                memcpy(&header, at, sizeof(header));
                if (!reader->verify && journal_reader_finds_lost(reader, at, sizeof(header))) {
                        reader->verify = true;
                        continue;
                }
                if (reader->verify && journal_reader_is_at_end(reader, position)) {
                        position = reader->base_position + reader->data_end;
                        continue;
                }
                if (reader->verify && (!journal_record_is_whole(at, room_bytes, reader->seed, &header) ||
                                       header.sequence < journal_reader_expected(reader, position))) {
                        if (!journal_reader_seems_at_end(reader, position, limit))
                                return journal_read_damaged(reader, position, limit, ret_record);
                        position = reader->base_position + reader->data_end;
                        continue;
                }
                /* Cheap bounds also for warm bytes: their pages may have been read back from the disk, too. */
                uint64_t bytes = journal_record_bytes(header.payload_bytes);
                if (bytes > room_bytes || journal_header_routes_count(&header) > LIMIT_ROUTES_PER_EVENT_MAX)
                        return journal_read_damaged(reader, position, limit, ret_record);
                if ((journal_header_flags(&header) & JOURNAL_FLAG_GAP) != 0) {
                        position += bytes;
                        continue;
                }
                /* No record reaches behind what is published; a cursor that followed it would. */
                if (!reader->verify && (bytes > limit - position || journal_reader_finds_lost(reader, at, bytes))) {
                        reader->verify = true;
                        continue;
                }
                ret_record->position = position;
                ret_record->next_position = position + bytes;
                ret_record->sequence = header.sequence;
                reader->next_position = position + bytes;
                reader->next_sequence = header.sequence + 1;
                journal_entry_of_header(&header, &ret_record->entry);
                ret_record->payload = slice_of(at + sizeof(header), header.payload_bytes);
                ret_record->origin = (struct journal_origin){
                        .lane_id = header.lane_id,
                        .lane_position = header.lane_position,
                        .accepted_ms = ret_record->entry.accepted_ms,
                };
                if (__builtin_expect((journal_header_flags(&header) & JOURNAL_FLAG_REPLAYED) != 0, 0) &&
                    header.payload_bytes >= sizeof(ret_record->origin)) {
                        memcpy(&ret_record->origin, ret_record->payload.ptr, sizeof(ret_record->origin));
                        ret_record->payload = slice_from(ret_record->payload, sizeof(ret_record->origin));
                }
                return ERR_OK;
        }
        return ERR_EMPTY;
}

uint64_t journal_oldest_position(struct journal *journal)
{
        (void)pthread_mutex_lock(&journal->mutex); /* cannot fail: a plain mutex, never taken twice */
        uint64_t position = journal_committed_position(journal);
        /* Relaxed: prepared by whoever holds the mutex. */
        if (journal->first_index < atomic_load_explicit(&journal->prepared_end, memory_order_relaxed))
                position = journal_segment_at(journal, journal->first_index)->base_position + JOURNAL_DATA_START;
        (void)pthread_mutex_unlock(&journal->mutex);
        return position;
}

enum err_code journal_reader_create(struct journal *journal, struct journal_reader **ret_reader, struct err *reterr)
{
        struct journal_reader *reader = calloc(1, sizeof(*reader));
        if (reader == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for a reader of journal %s", journal->directory);
        reader->journal = journal;
        /* Relaxed: for the budget, and an assertion in journal_close(). */
        atomic_fetch_add_explicit(&journal->readers_count, 1, memory_order_relaxed);
        *ret_reader = reader;
        return ERR_OK;
}

void journal_reader_free(struct journal_reader *reader)
{
        if (reader == NULL)
                return;
        journal_reader_rest(reader);
        atomic_fetch_sub_explicit(&reader->journal->readers_count, 1, memory_order_relaxed);
        free(reader);
}

/* ------------------------------------------------------------------------------------------------------ audit */

struct journal_count {
        uint64_t waiting;  /* events */
        uint64_t lost;     /* sequence numbers that no whole record carries: what waits and is lost is among them */
        uint64_t sequence; /* of the first record behind */
};

/* ERR_NOT_FOUND: the cursor moved on and the segment was recycled meanwhile. A failure leaves what was counted so far.
 */
static enum err_code journal_count_between(struct journal_reader *reader, uint16_t target,
                                           const struct journal_target_state *state, struct journal_count *ret_count)
{
        struct journal_count count = {.sequence = state->cursor_sequence};
        uint64_t position = state->cursor_position;
        for (;;) {
                struct journal_record record = {.next_position = position};
                enum err_code code = journal_read(reader, position, state->accepted_position, &record);
                if (code == ERR_EMPTY)
                        break;
                if (code != ERR_OK && code != ERR_CORRUPT) {
                        *ret_count = count;
                        return code;
                }
                position = record.next_position;
                if (code == ERR_CORRUPT)
                        continue; /* it does not wait any more, it is lost: the next sequence says so */
                for (unsigned i = 0; i < record.entry.routes_count; i++)
                        count.waiting += record.entry.routes[i] == target;
                if (record.sequence > count.sequence)
                        count.lost += record.sequence - count.sequence;
                count.sequence = record.sequence + 1;
        }
        *ret_count = count;
        return ERR_OK;
}

/* What is missing, and can be among what is lost, is lost: it waits no more, whether the cursor has passed it or not.
 */
static void journal_state_reckon(struct journal_target_state *state, const struct journal_count *count)
{
        const uint64_t known = state->delivered + state->dead_lettered + state->shed + state->expired + count->waiting;
        uint64_t records = state->lost_records + count->lost;
        if (state->accepted_sequence >= count->sequence)
                records += state->accepted_sequence + 1 - count->sequence;
        if (state->accepted <= known || !journal_losses_explain(state->accepted - known, records))
                return;
        state->lost += state->accepted - known;
        state->accepted = known;
}

enum err_code journal_target_audit(struct journal *journal, uint16_t target, struct journal_target_state *ret_state,
                                   uint64_t *ret_waiting, struct err *reterr)
{
        struct journal_reader reader = {.journal = journal};
        enum err_code code = ERR_OK;
        for (unsigned attempt = 0; attempt < JOURNAL_AUDIT_ATTEMPTS_MAX; attempt++) {
                struct journal_target_state state, before = {0};
                struct journal_count count;
                (void)journal_target_get(journal, target, &before); /* looked at below */
                if (journal->read_only) {
                        code = journal_refresh(journal, reterr);
                        if (code != ERR_OK)
                                return code;
                }
                if (!journal_target_get(journal, target, &state))
                        return err_set(reterr, ERR_NOT_FOUND, "journal %s knows no target %u", journal->directory,
                                       target);
                /* Reading only, nobody has checked the file. */
                if (state.cursor_position % JOURNAL_ALIGN_BYTES != 0)
                        return err_set(reterr, ERR_CORRUPT, "the cursor of target %u in journal %s is damaged", target,
                                       journal->directory);
                code = journal_count_between(&reader, target, &state, &count);
                journal_reader_rest(&reader);
                /* What a cursor holds is not recycled: a file that is still not found is no segment any more. */
                if (code == ERR_NOT_FOUND && journal->read_only && attempt + 1 == JOURNAL_AUDIT_ATTEMPTS_MAX &&
                    before.cursor_position == state.cursor_position)
                        code = ERR_OK;
                if (code == ERR_OK) {
                        journal_state_reckon(&state, &count);
                        if (ret_state != NULL)
                                *ret_state = state;
                        *ret_waiting = count.waiting;
                        return ERR_OK;
                }
                if (code != ERR_NOT_FOUND)
                        break;
        }
        return err_set(reterr, code, "cannot count what waits for target %u in journal %s: %s", target,
                       journal->directory, err_text(code));
}

enum err_code journal_target_count_before(struct journal *journal, uint16_t target, uint64_t position,
                                          uint64_t *ret_count, uint64_t *ret_sequence, struct err *reterr)
{
        struct journal_reader reader = {.journal = journal};
        struct journal_target_state state;
        struct journal_count count;
        if (!journal_target_get(journal, target, &state))
                return err_set(reterr, ERR_NOT_FOUND, "journal %s knows no target %u", journal->directory, target);
        state.accepted_position = position;
        enum err_code code = journal_count_between(&reader, target, &state, &count);
        journal_reader_rest(&reader);
        if (code != ERR_OK)
                return err_set(reterr, code, "cannot count what waits for target %u in journal %s: %s", target,
                               journal->directory, err_text(code));
        *ret_count = count.waiting;
        if (ret_sequence != NULL)
                *ret_sequence = count.sequence;
        return ERR_OK;
}

enum err_code journal_targets_catch_up(struct journal *journal, struct err *reterr)
{
        struct journal_reader reader = {.journal = journal};
        uint64_t position, next_sequence;
        enum err_code code = ERR_OK;
        journal_committed(journal, &position, &next_sequence);
        for (uint32_t target = 0; journal->targets.snapshot && target < journal_targets_count(journal); target++) {
                struct journal_target_entry *entry = journal_target_entry(&journal->targets, target);
                struct journal_target_state state;
                struct journal_shard_slot shard;
                struct journal_count count;
                journal_shard_slot_read(entry, &shard);
                if (shard.upto_position >= position)
                        continue;
                (void)journal_target_get(journal, (uint16_t)target, &state); /* it is below the count */
                state.cursor_position = shard.upto_position;
                state.cursor_sequence = shard.upto_sequence + 1;
                state.accepted_position = position;
                code = journal_count_between(&reader, (uint16_t)target, &state, &count);
                if (code != ERR_OK)
                        break;
                shard.accepted += count.waiting;
                shard.upto_position = position;
                shard.upto_sequence = next_sequence - 1;
                journal_shard_slot_write(&journal->targets, entry, &shard);
        }
        journal_reader_rest(&reader);
        return code == ERR_OK ? ERR_OK
                              : err_set(reterr, code, "cannot count what is behind the copy of %s/targets: %s",
                                        journal->directory, err_text(code));
}

uint64_t journal_target_count_waiting(struct journal *journal, uint16_t target, struct err *reterr)
{
        uint64_t waiting;
        return journal_target_audit(journal, target, NULL, &waiting, reterr) == ERR_OK ? waiting : UINT64_MAX;
}
