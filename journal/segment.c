/* Segment files: headers, records, mapping, making. The format is drawn in journal.h. */
#include "journal/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* ------------------------------------------------------------------------------------------------------ records */

bool journal_record_is_whole(const uint8_t *at, uint64_t room_bytes, uint32_t seed,
                             struct journal_record_header *ret_header)
{
        struct journal_record_header header;
        if (room_bytes < sizeof(header))
                return false;
        memcpy(&header, at, sizeof(header));
        if (header.sequence == 0 || header.sequence >= JOURNAL_SEQUENCE_MAX)
                return false;
        bool gap = (journal_header_flags(&header) & JOURNAL_FLAG_GAP) != 0;
        if (journal_record_bytes(header.payload_bytes) > room_bytes)
                return false;
        if (gap ? header.payload_bytes % JOURNAL_ALIGN_BYTES != 0 : header.payload_bytes > LIMIT_RECORD_BYTES_MAX)
                return false;
        if (journal_header_routes_count(&header) > LIMIT_ROUTES_PER_EVENT_MAX)
                return false;
        size_t checked_bytes = sizeof(header) - sizeof(header.crc) + (gap ? 0 : header.payload_bytes);
        if (crc32c(seed, at + sizeof(header.crc), checked_bytes) != header.crc)
                return false;
        *ret_header = header;
        return true;
}

void journal_gap_fill(struct journal_record_header *header, uint64_t span_bytes, uint64_t next_sequence, uint32_t seed)
{
        ASSERT(span_bytes >= sizeof(*header));
        ASSERT(span_bytes % JOURNAL_ALIGN_BYTES == 0);
        *header = (struct journal_record_header){
                .payload_bytes = (uint32_t)(span_bytes - sizeof(*header)),
                .sequence = next_sequence,
                .facts = (uint64_t)JOURNAL_FLAG_GAP << JOURNAL_FACTS_FLAGS_SHIFT,
        };
        header->crc = crc32c(seed, &header->payload_bytes, sizeof(*header) - sizeof(header->crc));
}

void journal_entry_of_header(const struct journal_record_header *header, struct journal_entry *ret_entry)
{
        ret_entry->lane_id = header->lane_id;
        ret_entry->lane_position = header->lane_position;
        /* The shift left and back extends the sign of the 48 bits. */
        ret_entry->accepted_ms =
                (int64_t)(header->facts << (64 - JOURNAL_FACTS_MS_BITS)) >> (64 - JOURNAL_FACTS_MS_BITS);
        ret_entry->event_type = (uint8_t)(header->facts >> JOURNAL_FACTS_TYPE_SHIFT);
        ret_entry->flags = (uint8_t)journal_header_flags(header);
        ret_entry->routes_count = (uint8_t)journal_header_routes_count(header);
        memcpy(ret_entry->routes, header->routes, sizeof(ret_entry->routes));
}

uint64_t journal_resync(const uint8_t *segment, uint64_t offset, uint64_t data_end, uint32_t seed, uint64_t sequence)
{
        for (uint64_t at = offset; at < data_end; at += JOURNAL_ALIGN_BYTES) {
                struct journal_record_header header;
                memcpy(&header, segment + at, sizeof(header));
                /* Stale records are older than what is expected: spares their CRC. */
                if (header.sequence >= sequence && journal_record_is_whole(segment + at, data_end - at, seed, &header))
                        return at;
        }
        return data_end;
}

/* ------------------------------------------------------------------------------------------------------ headers */

void journal_segment_header_fill(struct journal_segment_header *header, uint64_t file_number, uint64_t base_position,
                                 uint64_t segment_bytes, uint32_t seed)
{
        *header = (struct journal_segment_header){
                .magic = JOURNAL_SEGMENT_MAGIC,
                .version = JOURNAL_VERSION,
                .seed = seed,
                .file_number = file_number,
                .base_position = base_position,
                .segment_bytes = segment_bytes,
        };
        header->crc = crc32c(0, header, offsetof(struct journal_segment_header, crc));
}

enum err_code journal_segment_header_check(const struct journal_segment_header *header, uint64_t file_number)
{
        if (header->magic != JOURNAL_SEGMENT_MAGIC ||
            header->crc != crc32c(0, header, offsetof(struct journal_segment_header, crc)))
                return ERR_CORRUPT;
        if (header->version != JOURNAL_VERSION)
                return ERR_VERSION;
        uint64_t bytes = header->segment_bytes;
        if (header->file_number != file_number || bytes < LIMIT_SEGMENT_BYTES_MIN || bytes > LIMIT_SEGMENT_BYTES_MAX ||
            (bytes & (bytes - 1)) != 0 || header->base_position % JOURNAL_ALIGN_BYTES != 0 ||
            header->base_position >= JOURNAL_POSITION_MAX)
                return ERR_CORRUPT;
        return ERR_OK;
}

uint32_t journal_start_block_crc(uint32_t seed, uint64_t base_position, uint64_t base_sequence)
{
        const uint64_t words[2] = {base_position, base_sequence};
        return crc32c(seed, words, sizeof(words));
}

/* Word by word, so that the steps of a kill are the ones that the drawing speaks of. */
static void journal_segment_write_header_at(uint8_t *at, const struct journal_segment_header *header)
{
        _Atomic uint64_t *to = (_Atomic uint64_t *)(void *)at;
        uint64_t words[sizeof(*header) / sizeof(uint64_t)];
        memcpy(words, header, sizeof(*header));
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
                atomic_store_explicit(&to[i], words[i], memory_order_release);
}

void journal_segment_write_headers(struct journal_segment *segment)
{
        struct journal_segment_header header;
        journal_segment_header_fill(&header, segment->file_number, segment->base_position, segment->size_bytes,
                                    segment->seed);
        journal_segment_write_header_at(segment->map, &header);
        JOURNAL_STEP("header-written-once");
        journal_segment_write_header_at(segment->map + journal_segment_data_end(segment), &header);
        JOURNAL_STEP("header-written-twice");
}

void journal_segment_disclaim(struct journal_segment *segment)
{
        _Atomic uint64_t *copy = (_Atomic uint64_t *)(void *)(segment->map + journal_segment_data_end(segment));
        atomic_store_explicit((_Atomic uint64_t *)(void *)segment->map, 0, memory_order_release);
        atomic_store_explicit(copy, 0, memory_order_release);
}

/* ------------------------------------------------------------------------------------------------------ files */

void journal_segment_name(uint64_t file_number, const char *suffix, char out[JOURNAL_NAME_BYTES])
{
        (void)snprintf(out, JOURNAL_NAME_BYTES, "%016llx%s", (unsigned long long)file_number, suffix); /* it fits */
}

uint32_t journal_random_seed(void)
{
        uint32_t seed = 0;
        /* Never short for so few bytes; fails only before the kernel's pool is ready, and then it waits. */
        while (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
                ;
        return seed;
}

enum err_code journal_segment_map(struct journal *journal, struct journal_segment *segment, struct err *reterr)
{
        char name[JOURNAL_NAME_BYTES];
        journal_segment_name(segment->file_number, JOURNAL_SEGMENT_SUFFIX, name);
        int fd = disk_open(journal->directory_fd, name, O_RDWR | O_NOFOLLOW, 0);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open journal segment %s/%s", journal->directory,
                                     name);
        void *map = disk_map(fd, segment->size_bytes, true);
        if (map == NULL) {
                int sys_errno = errno;
                (void)disk_close(fd); /* nothing was written through it */
                return err_set_errno(reterr, ERR_SYSTEM, sys_errno, "cannot map journal segment %s/%s",
                                     journal->directory, name);
        }
        segment->fd = fd;
        segment->map = map;
        segment->lost = disk_lost(map);
        return ERR_OK;
}

void journal_segment_unmap(struct journal_segment *segment)
{
        if (segment->map == NULL)
                return;
        disk_unmap(segment->map, segment->size_bytes);
        (void)disk_close(segment->fd); /* written through the mapping only */
        segment->map = NULL;
        segment->fd = -1;
}

void journal_segment_touch(const struct journal_segment *segment, uint64_t offset)
{
        for (uint64_t at = offset & ~(uint64_t)(JOURNAL_PAGE_BYTES - 1); at < segment->size_bytes;
             at += JOURNAL_PAGE_BYTES) {
                /* Relaxed, and not one operation: nobody else writes behind the writer's place. */
                _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)(segment->map + at);
                atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed), memory_order_relaxed);
        }
}

void journal_segment_dirty(const struct journal_segment *segment, uint64_t from, uint64_t to)
{
        for (uint64_t at = from & ~(uint64_t)(JOURNAL_PAGE_BYTES - 1); at < to; at += JOURNAL_PAGE_BYTES)
                /* One operation: the writer may be storing here. Relaxed: nothing changes. */
                (void)atomic_fetch_add_explicit((_Atomic uint64_t *)(void *)(segment->map + at), 0,
                                                memory_order_relaxed);
}

bool journal_segment_warm(const struct journal_segment *segment, uint64_t offset)
{
        uint64_t from = offset & ~(uint64_t)(JOURNAL_PAGE_BYTES - 1);
        if (from >= segment->size_bytes)
                return true;
        if (disk_populate(segment->map + from, segment->size_bytes - from) < 0) {
                if (errno == EFAULT || errno == EHWPOISON)
                        return false;
                if (errno == EINVAL) /* else, short of memory, the writer's own faults will do */
                        journal_segment_touch(segment, offset);
        }
        return !journal_segment_has_lost(segment);
}

enum err_code journal_segment_create_file(struct journal *journal, struct journal_segment *segment, struct err *reterr)
{
        char unfinished[JOURNAL_NAME_BYTES], name[JOURNAL_NAME_BYTES];
        journal_segment_name(segment->file_number, JOURNAL_UNFINISHED, unfinished);
        journal_segment_name(segment->file_number, JOURNAL_SEGMENT_SUFFIX, name);
        int fd = disk_open(journal->directory_fd, unfinished, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot create journal segment %s/%s",
                                     journal->directory, unfinished);
        /* One may be there that an earlier failure could not remove either. */
        JOURNAL_STEP("file-created");
        enum err_code code = ERR_OK;
        void *map = NULL;
        /* Every block is there before the mapping is written, so that a full disk never means SIGBUS. */
        int failed = disk_allocate(fd, segment->size_bytes);
        if (failed != 0) {
                /* A file size limit is one more way to have no room. */
                code = err_set_errno(reterr, failed == EFBIG ? ERR_DISK_FULL : ERR_SYSTEM, failed,
                                     "cannot make a journal segment of %llu bytes in %s",
                                     (unsigned long long)segment->size_bytes, journal->directory);
                goto out;
        }
        JOURNAL_STEP("file-allocated");
        map = disk_map(fd, segment->size_bytes, true);
        if (map == NULL) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot map journal segment %s/%s", journal->directory,
                                     unfinished);
                goto out;
        }
        segment->map = map;
        segment->fd = fd;
        segment->lost = disk_lost(map);
        if (!journal_segment_warm(segment, 0)) {
                code = err_set(reterr, ERR_SYSTEM, "journal segment %s/%s has pages that the disk cannot keep",
                               journal->directory, unfinished);
                goto out;
        }
        journal_segment_write_headers(segment);
        if (journal->durability == JOURNAL_DURABILITY_HOST && disk_sync(fd) < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync journal segment %s/%s", journal->directory,
                                     unfinished);
                goto out;
        }
        if (disk_rename(journal->directory_fd, unfinished, journal->directory_fd, name, true) < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot rename journal segment %s/%s",
                                     journal->directory, unfinished);
                goto out;
        }
        JOURNAL_STEP("file-renamed");
        if (journal->durability == JOURNAL_DURABILITY_HOST && disk_sync_directory(journal->directory_fd) < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync journal directory %s", journal->directory);
                (void)disk_unlink(journal->directory_fd, name); /* best effort: an empty segment harms nobody */
                goto out;
        }
        return ERR_OK;
out:
        segment->map = NULL;
        segment->fd = -1;
        if (map != NULL)
                disk_unmap(map, segment->size_bytes);
        (void)disk_close(fd);                                 /* the file is thrown away */
        (void)disk_unlink(journal->directory_fd, unfinished); /* best effort: open removes it otherwise */
        return code;
}
