/* Opening, closing, and the shard's side: reserve, commit, publish. */
#include "journal/journal.h"

#include "base/file.h"
#include "journal/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------ options */

static enum err_code journal_check_options(const struct journal_options *options, struct err *reterr)
{
        uint64_t bytes = options->segment_bytes;
        if (options->read_only)
                return ERR_OK;
        if (bytes < LIMIT_SEGMENT_BYTES_MIN || bytes > LIMIT_SEGMENT_BYTES_MAX || (bytes & (bytes - 1)) != 0)
                return err_set(reterr, ERR_CONFIG,
                               "journal segments of %llu bytes: must be a power of two from %u to %u",
                               (unsigned long long)bytes, LIMIT_SEGMENT_BYTES_MIN, LIMIT_SEGMENT_BYTES_MAX);
        if (options->size_bytes_max < JOURNAL_SEGMENTS_MIN * bytes)
                return err_set(reterr, ERR_CONFIG, "a journal of %llu bytes is too small: at least %u segments of %llu",
                               (unsigned long long)options->size_bytes_max, JOURNAL_SEGMENTS_MIN,
                               (unsigned long long)bytes);
        if (options->size_bytes_max / bytes > JOURNAL_SEGMENTS_MAX)
                return err_set(reterr, ERR_CONFIG,
                               "a journal of %llu bytes has more than %u segments of %llu: make the segments larger",
                               (unsigned long long)options->size_bytes_max, JOURNAL_SEGMENTS_MAX,
                               (unsigned long long)bytes);
        if (options->segments_mapped_max < JOURNAL_SEGMENTS_MAPPED_MIN)
                return err_set(reterr, ERR_CONFIG, "%u mapped journal segments: at least %u",
                               options->segments_mapped_max, JOURNAL_SEGMENTS_MAPPED_MIN);
        return ERR_OK;
}

static enum err_code journal_lock(struct journal *journal, struct err *reterr)
{
        journal->lock_fd = disk_open(journal->directory_fd, JOURNAL_LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
        if (journal->lock_fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s/lock", journal->directory);
        if (disk_lock(journal->lock_fd) == 0)
                return ERR_OK;
        if (errno == EWOULDBLOCK)
                return err_set(reterr, ERR_LOCKED, "journal %s is in use by another process: stop it first",
                               journal->directory);
        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot lock %s/lock", journal->directory);
}

static enum err_code journal_allocate(const struct journal_options *options, struct journal **ret_journal,
                                      struct err *reterr)
{
        struct journal *journal = aligned_alloc(alignof(struct journal), sizeof(*journal));
        if (journal == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory opening journal %s", options->directory);
        memset(journal, 0, sizeof(*journal));
        journal->directory_fd = journal->lock_fd = journal->quarantine_fd = journal->targets.fd =
                journal->targets.copy_fd = -1;
        journal->segment_bytes = options->segment_bytes;
        journal->size_bytes_max = options->size_bytes_max;
        journal->drain_bytes_max = options->drain_bytes_max;
        journal->segments_mapped_max = options->segments_mapped_max;
        journal->durability = options->durability;
        journal->read_only = options->read_only;
        journal->retention_bytes = options->retention_bytes;
        journal->retention_age_ms = options->retention_age_ms;
        journal->oldest_event_index = UINT64_MAX;
        journal->deliver_only = options->deliver_only;
        journal->budget = options->budget != NULL ? options->budget : &journal->own_budget;
        /* A quarter of what is warm is ahead of the writer, the rest behind it for the readers. */
        journal->ahead = options->segments_mapped_max / 4;
        journal->ahead = journal->ahead < 1 ? 1 : journal->ahead > 4 ? 4 : journal->ahead;
        journal->directory = strdup(options->directory);
        journal->target_recovery = calloc(LIMIT_TARGETS_MAX, sizeof(*journal->target_recovery));
        journal->writer.touched = calloc(LIMIT_TARGETS_MAX, sizeof(*journal->writer.touched));
        journal->writer.accepted = calloc(LIMIT_TARGETS_MAX, sizeof(*journal->writer.accepted));
        (void)pthread_mutex_init(&journal->mutex, NULL); /* cannot fail with default attributes */
        (void)pthread_mutex_init(&journal->targets.mutex, NULL);
        *ret_journal = journal;
        if (journal->directory == NULL || journal->target_recovery == NULL || journal->writer.touched == NULL ||
            journal->writer.accepted == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory opening journal %s", options->directory);
        return ERR_OK;
}

static void journal_writer_enter(struct journal *journal, struct journal_segment *segment, uint64_t offset)
{
        struct journal_writer *writer = &journal->writer;
        writer->segment = segment;
        writer->map = segment->map;
        writer->lost = segment->lost;
        writer->given_up = false;
        writer->base_position = segment->base_position;
        writer->data_end = journal_segment_data_end(segment);
        writer->seed = segment->seed;
        writer->offset = offset;
        writer->kept_offset = offset;
        writer->prefetched = offset;
}

/* A segment that waits for the writer and cannot be written, and those behind it, are no loss: they are empty. */
static void journal_drop_prepared(struct journal *journal, uint64_t index)
{
        uint64_t end = atomic_load_explicit(&journal->prepared_end, memory_order_relaxed);
        journal->next_base_position = journal_segment_at(journal, index)->base_position;
        while (end-- > index)
                journal_remove(journal, journal_segment_at(journal, end));
        atomic_store_explicit(&journal->prepared_end, index, memory_order_relaxed);
}

/* Maps the segments from the writer's on and those before it that readers will want first. What cannot be mapped is
 * read cold, or not written; ERR_MEMORY alone is no matter of one file. */
static enum err_code journal_map_warm(struct journal *journal, struct err *reterr)
{
        uint64_t end = atomic_load_explicit(&journal->prepared_end, memory_order_relaxed);
        uint64_t current = atomic_load_explicit(&journal->current_index, memory_order_relaxed);
        /* The writer may have gone through many segments that a power cut took everything from but what was synced when
         * they were prepared. Were they kept, those that it comes to next would stay cold. */
        if (end > current + 1 + journal->ahead) {
                end = current + 1 + journal->ahead;
                journal_drop_prepared(journal, end);
        }
        for (uint64_t index = end; index-- > 0 && journal->mapped_count < journal->segments_mapped_max;) {
                struct journal_segment *segment = journal_segment_at(journal, index);
                bool ahead = index > current || journal->writer.segment == NULL;
                bool usable = !segment->unusable;
                if (usable) {
                        enum err_code code = journal_segment_map(journal, segment, reterr);
                        if (code == ERR_MEMORY)
                                return code;
                        usable = code == ERR_OK;
                        journal->mapped_count += usable;
                }
                if (usable && ahead)
                        usable = journal_segment_warm(segment, 0);
                else if (usable && index == current)
                        (void)journal_segment_warm(segment, journal->writer.offset); /* the writer finds it, too */
                if (!usable && ahead)
                        journal_drop_prepared(journal, index);
        }
        return ERR_OK;
}

void journal_close(struct journal *journal)
{
        if (journal == NULL)
                return;
        ASSERT(atomic_load_explicit(&journal->readers_count, memory_order_relaxed) == 0);
        /* Relaxed: nobody maintains the logs of the budget now. */
        if (!journal->read_only)
                atomic_fetch_sub_explicit(&journal->budget->size_bytes,
                                          atomic_load_explicit(&journal->stat_size_bytes, memory_order_relaxed),
                                          memory_order_relaxed);
        for (uint64_t i = 0; i < journal->capacity; i++)
                journal_segment_unmap(&journal->segments[i]);
        journal_targets_close(&journal->targets);
        free(journal->segments);
        free(journal->lanes.lines);
        free(journal->target_recovery);
        free(journal->writer.touched);
        free(journal->writer.accepted);
        free(journal->directory);
        (void)pthread_mutex_destroy(&journal->mutex); /* nobody holds it */
        (void)pthread_mutex_destroy(&journal->targets.mutex);
        if (journal->quarantine_fd >= 0)
                (void)disk_close(journal->quarantine_fd); /* a directory */
        if (journal->directory_fd >= 0)
                (void)disk_close(journal->directory_fd); /* a directory */
        if (journal->lock_fd >= 0)
                (void)disk_close(journal->lock_fd); /* releases the lock */
        free(journal);
}

/* ------------------------------------------------------------------------------------------------------ append */

static inline struct journal_record_header *journal_writer_header(const struct journal_writer *writer)
{
        return (struct journal_record_header *)(void *)(writer->map + writer->offset);
}

/* A header's line, its first word last: until then the line is not whole. */
static inline void journal_header_store(struct journal_record_header *to, const struct journal_record_header *header)
{
        uint64_t first;
        memcpy((uint8_t *)to + sizeof(first), (const uint8_t *)header + sizeof(first), sizeof(*to) - sizeof(first));
        JOURNAL_STEP("header-but-first-word");
        memcpy(&first, header, sizeof(first));
        /* Release: nothing of the record may be stored behind this, or a kill could leave it half. */
        atomic_store_explicit((_Atomic uint64_t *)(void *)to, first, memory_order_release);
}

/* Whether every published record of the current segment is as it was written. */
static bool journal_writer_published_whole(const struct journal_writer *writer, uint64_t published)
{
        uint64_t offset = JOURNAL_DATA_START;
        while (offset < published) {
                struct journal_record_header header;
                if (!journal_record_is_whole(writer->map + offset, writer->data_end - offset, writer->seed, &header))
                        return false;
                offset += journal_record_bytes(header.payload_bytes);
        }
        return true;
}

#if defined(__x86_64__)
static __attribute__((target("sse4.2"))) uint32_t journal_header_crc_sse42(uint32_t seed,
                                                                           const struct journal_record_header *header)
{
        uint64_t words[(sizeof(*header) - offsetof(struct journal_record_header, sequence)) / sizeof(uint64_t)];
        memcpy(words, &header->sequence, sizeof(words));
        uint64_t crc = _mm_crc32_u32(seed, header->payload_bytes);
        for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
                crc = _mm_crc32_u64(crc, words[i]);
        return (uint32_t)crc;
}
#endif

/* As crc32c(), whose folding by carry-less products pays for longer texts than the 60 bytes of a header. */
static inline uint32_t journal_header_crc(uint32_t seed, const struct journal_record_header *header)
{
#if defined(__x86_64__)
        if (__builtin_expect(__builtin_cpu_supports("sse4.2"), 1))
                return journal_header_crc_sse42(seed, header);
#endif
        return crc32c(seed, &header->payload_bytes, sizeof(*header) - sizeof(header->crc));
}

/* A record's share in what the next publish persists. */
static inline void journal_writer_count(struct journal *journal, const struct journal_entry *entry)
{
        struct journal_writer *writer = &journal->writer;
        uint32_t targets_count = atomic_load_explicit(&journal->targets.count, memory_order_relaxed);
        for (unsigned i = 0; i < entry->routes_count; i++) {
                uint16_t target = entry->routes[i];
                ASSERT(target < targets_count);
                if (writer->accepted[target]++ == 0)
                        writer->touched[writer->touched_count++] = target;
        }
        writer->records++;
        writer->rejected_records += entry->flags & JOURNAL_FLAG_REJECTED;
}

/* Counts anew what is published when nothing behind kept_offset is: *ret_offset, where that ends. */
static void journal_writer_count_kept(struct journal *journal, uint64_t published, uint64_t *ret_offset)
{
        struct journal_writer *writer = &journal->writer;
        uint64_t offset = published;
        for (uint32_t i = 0; i < writer->touched_count; i++)
                writer->accepted[writer->touched[i]] = 0;
        writer->touched_count = 0;
        /* Relaxed: only this thread stores them. */
        writer->records = atomic_load_explicit(&journal->stat_records, memory_order_relaxed);
        writer->rejected_records = atomic_load_explicit(&journal->stat_rejected_records, memory_order_relaxed);
        while (offset < writer->kept_offset) {
                struct journal_record_header header;
                struct journal_entry entry;
                /* A page may go with what stood in it for long: then no more than what stands before it can be kept. */
                if (!journal_record_is_whole(writer->map + offset, writer->data_end - offset, writer->seed, &header))
                        break;
                journal_entry_of_header(&header, &entry);
                journal_writer_count(journal, &entry);
                offset += journal_record_bytes(header.payload_bytes);
        }
        *ret_offset = offset;
}

/* Pages of the current segment are gone. What was not kept is taken back: zeroed, so that no recovery finds it, the
 * last of it first, so that a kill leaves a beginning of it and no end, and covered with the gap that ends the segment.
 * Its sequences are not used again: a power cut could bring old pages back. What was published stays where it is;
 * readers check it from now on. */
static __attribute__((noinline, cold)) enum err_code journal_writer_give_up(struct journal *journal)
{
        struct journal_writer *writer = &journal->writer;
        const uint64_t committed = atomic_load_explicit(&journal->committed_position, memory_order_relaxed);
        const uint64_t published = committed > writer->base_position + JOURNAL_DATA_START
                                           ? committed - writer->base_position
                                           : JOURNAL_DATA_START;
        uint64_t kept;
        journal_writer_count_kept(journal, published, &kept);
        writer->reserved_bytes = 0;
        while (writer->offset > kept) {
                writer->offset -= JOURNAL_ALIGN_BYTES;
                memset(writer->map + writer->offset, 0, JOURNAL_ALIGN_BYTES);
        }
        JOURNAL_STEP("taken-back");
        if (kept < writer->data_end) {
                struct journal_record_header gap;
                journal_gap_fill(&gap, writer->data_end - kept, writer->sequence, writer->seed);
                journal_header_store(journal_writer_header(writer), &gap);
        }
        /* The numbers that are skipped are no loss; where published records are damaged, recovery shall count. */
        if (journal_writer_published_whole(writer, kept))
                writer->loss_counted = true;
        writer->given_up = true;
        writer->data_end = kept; /* no room: the next reservation goes to the next segment */
        atomic_fetch_add_explicit(&journal->stat_segments_given_up, 1, memory_order_relaxed); /* for people */
        if (kept > published)
                (void)journal_publish(journal); /* of a segment that is given up: it succeeds */
        return ERR_CORRUPT;
}

/* Relaxed: the fault was this thread's own. */
static inline bool journal_writer_has_lost(const struct journal_writer *writer)
{
        return !writer->given_up && atomic_load_explicit(writer->lost, memory_order_relaxed) != 0;
}

/* Ends the current segment and goes to the next prepared one. */
static __attribute__((noinline, cold)) enum err_code journal_writer_switch(struct journal *journal)
{
        struct journal_writer *writer = &journal->writer;
        /* Relaxed: only this thread stores it. */
        uint64_t index = atomic_load_explicit(&journal->current_index, memory_order_relaxed);
        uint64_t next = writer->segment == NULL ? index : index + 1;
        /* Pairs with the release in journal_prepare_push(): mapping, header and table line are ready. */
        uint64_t prepared_end = atomic_load_explicit(&journal->prepared_end, memory_order_acquire);
        if (next >= prepared_end) {
                /* Relaxed: a hint. */
                atomic_store_explicit(&journal->wants_maintenance, true, memory_order_relaxed);
                return ERR_FULL;
        }
        if (writer->segment != NULL) {
                /* What is given up later must lie in one segment. */
                enum err_code code = journal_publish(journal);
                if (code != ERR_OK)
                        return code;
                if (writer->offset < writer->data_end) {
                        struct journal_record_header gap;
                        journal_gap_fill(&gap, writer->data_end - writer->offset, writer->sequence, writer->seed);
                        journal_header_store(journal_writer_header(writer), &gap);
                        JOURNAL_STEP("end-gap-written");
                } else if (writer->offset < journal_segment_data_end(writer->segment)) {
                        /* It was given up, or could not be mapped and ends where recovery found nothing whole: whatever
                         * stands there is no record. Release: pairs with the acquire in journal_reader_finds_lost(). */
                        atomic_store_explicit(&writer->segment->damaged, true, memory_order_release);
                }
                /* Release: control reads it to see whether every cursor has passed. */
                atomic_store_explicit(&writer->segment->end_position, writer->base_position + writer->offset,
                                      memory_order_release);
        }
        struct journal_segment *segment = journal_segment_at(journal, next);
        ASSERT(segment->map != NULL);
        struct journal_start_block *start = (struct journal_start_block *)(void *)(segment->map + JOURNAL_START_OFFSET);
        /* The CRC last: without it the segment has not been started. */
        atomic_store_explicit((_Atomic uint64_t *)(void *)&start->base_sequence, writer->sequence,
                              memory_order_release);
        JOURNAL_STEP("start-block-half");
        uint32_t crc = journal_start_block_crc(segment->seed, segment->base_position, writer->sequence);
        atomic_store_explicit((_Atomic uint32_t *)(void *)&start->loss_counted, writer->loss_counted ? ~crc : 0,
                              memory_order_release);
        atomic_store_explicit((_Atomic uint32_t *)(void *)&start->crc, crc, memory_order_release);
        writer->loss_counted = false;
        JOURNAL_STEP("segment-started");
        atomic_store_explicit(&segment->base_sequence, writer->sequence, memory_order_relaxed);
        journal_writer_enter(journal, segment, JOURNAL_DATA_START);
        /* Release: whoever sees the new index sees the end of the segment before it. */
        atomic_store_explicit(&journal->current_index, next, memory_order_release);
        if (prepared_end - 1 - next < journal->ahead)
                atomic_store_explicit(&journal->wants_maintenance, true, memory_order_relaxed);
        return ERR_OK;
}

/* Some three common records: what is asked for has come by the time it is written to. */
#define JOURNAL_PREFETCH_BYTES 2048u

/* Lets the lines come that the next records will be written to, each once: a checksum reads its record right behind the
 * stores to it, and would wait for the lines of all of them. What lies behind the mapping's end is no fault. */
static inline void journal_writer_prefetch(struct journal_writer *writer)
{
        uint64_t end = writer->offset + JOURNAL_PREFETCH_BYTES;
        uint64_t at = writer->prefetched > writer->offset ? writer->prefetched : writer->offset;
        for (; at < end; at += JOURNAL_ALIGN_BYTES)
                __builtin_prefetch(writer->map + at, 1);
        writer->prefetched = end;
}

enum err_code journal_reserve(struct journal *journal, uint32_t payload_bytes, uint8_t **ret_payload)
{
        struct journal_writer *writer = &journal->writer;
        if (payload_bytes > LIMIT_RECORD_BYTES_MAX)
                return ERR_TOO_BIG;
        ASSERT(writer->reserved_bytes == 0);
        /* Relaxed: seen by a coming call at the latest. */
        if (__builtin_expect(atomic_load_explicit(&journal->removed, memory_order_relaxed), 0))
                return ERR_FULL;
        uint64_t bytes = journal_record_bytes(payload_bytes);
        if (writer->data_end - writer->offset < bytes) {
                enum err_code code = journal_writer_switch(journal);
                if (code != ERR_OK)
                        return code;
        } else if (__builtin_expect(journal_writer_has_lost(writer), 0)) {
                /* Before a whole record stands behind one that is not there: recovery would keep it, and its lane
                 * position would say that the other one is kept. */
                return journal_writer_give_up(journal);
        }
        writer->reserved_bytes = (uint32_t)bytes;
        *ret_payload = writer->map + writer->offset + sizeof(struct journal_record_header);
        return ERR_OK;
}

void journal_commit(struct journal *journal, const struct journal_entry *entry, uint32_t payload_bytes)
{
        struct journal_writer *writer = &journal->writer;
        uint64_t bytes = journal_record_bytes(payload_bytes);
        ASSERT(payload_bytes <= LIMIT_RECORD_BYTES_MAX && bytes <= writer->reserved_bytes);
        ASSERT(entry->routes_count <= LIMIT_ROUTES_PER_EVENT_MAX);
        ASSERT(entry->flags < JOURNAL_FLAG_GAP);
        JOURNAL_STEP("payload-written");
        const int64_t ms_limit = (int64_t)1 << (JOURNAL_FACTS_MS_BITS - 1);
        int64_t accepted_ms = entry->accepted_ms >= ms_limit   ? ms_limit - 1
                              : entry->accepted_ms < -ms_limit ? -ms_limit
                                                               : entry->accepted_ms;
        struct journal_record_header header = {
                .payload_bytes = payload_bytes,
                .sequence = writer->sequence,
                .lane_id = entry->lane_id,
                .lane_position = entry->lane_position,
                .facts = ((uint64_t)accepted_ms & ((UINT64_C(1) << JOURNAL_FACTS_MS_BITS) - 1)) |
                         (uint64_t)entry->event_type << JOURNAL_FACTS_TYPE_SHIFT |
                         (uint64_t)entry->routes_count << JOURNAL_FACTS_COUNT_SHIFT |
                         (uint64_t)entry->flags << JOURNAL_FACTS_FLAGS_SHIFT,
        };
        for (unsigned i = 0; i < entry->routes_count; i++)
                header.routes[i] = entry->routes[i];
        struct journal_record_header *to = journal_writer_header(writer);
        const uint8_t *payload = (const uint8_t *)to + sizeof(*to);
        header.crc = crc32c(journal_header_crc(writer->seed, &header), payload, payload_bytes);
        journal_header_store(to, &header);
        JOURNAL_STEP("record-committed");
        journal_writer_count(journal, entry);
        writer->last_position = writer->base_position + writer->offset;
        writer->offset += bytes;
        writer->sequence++;
        writer->reserved_bytes = 0;
        journal_writer_prefetch(writer);
}

void journal_abort(struct journal *journal)
{
        ASSERT(journal->writer.reserved_bytes != 0);
        journal->writer.reserved_bytes = 0;
}

void journal_publish_pair(struct journal *journal, uint64_t position, uint64_t sequence)
{
        /* Relaxed: only this thread stores it. */
        uint64_t version = atomic_load_explicit(&journal->committed_version, memory_order_relaxed);
        /* C1: odd while the pair changes; pairs with C2 in journal_committed(). The releases also make every record
         * before `position` visible to whoever reads it. */
        atomic_store_explicit(&journal->committed_version, version + 1, memory_order_release);
        atomic_store_explicit(&journal->committed_sequence, sequence, memory_order_release);
        atomic_store_explicit(&journal->committed_position, position, memory_order_release);
        atomic_store_explicit(&journal->committed_version, version + 2, memory_order_release);
}

enum err_code journal_publish(struct journal *journal)
{
        struct journal_writer *writer = &journal->writer;
        if (writer->segment == NULL)
                return ERR_OK;
        if (__builtin_expect(journal_writer_has_lost(writer), 0))
                return journal_writer_give_up(journal);
        uint64_t position = writer->base_position + writer->offset;
        for (uint32_t i = 0; i < writer->touched_count; i++) {
                uint16_t target = writer->touched[i];
                struct journal_target_entry *entry = journal_target_entry(&journal->targets, target);
                struct journal_shard_slot slot;
                journal_shard_slot_read(entry, &slot);
                slot.accepted += writer->accepted[target];
                slot.upto_sequence = writer->sequence - 1;
                slot.upto_position = position;
                journal_shard_slot_write(&journal->targets, entry, &slot);
                writer->accepted[target] = 0;
        }
        writer->touched_count = 0;
        /* Relaxed: figures for people. */
        atomic_store_explicit(&journal->stat_records, writer->records, memory_order_relaxed);
        atomic_store_explicit(&journal->stat_rejected_records, writer->rejected_records, memory_order_relaxed);
        journal_publish_pair(journal, position, writer->sequence);
        JOURNAL_STEP("published");
        return ERR_OK;
}

enum err_code journal_keep(struct journal *journal)
{
        struct journal_writer *writer = &journal->writer;
        if (writer->segment == NULL)
                return ERR_OK;
        if (__builtin_expect(journal_writer_has_lost(writer), 0))
                return journal_writer_give_up(journal);
        writer->kept_offset = writer->offset;
        return ERR_OK;
}

/* ------------------------------------------------------------------------------------------------------ looking */

uint64_t journal_committed_position(const struct journal *journal)
{
        /* Pairs with the release in journal_publish_pair(). */
        return atomic_load_explicit(&journal->committed_position, memory_order_acquire);
}

uint64_t journal_next_sequence(const struct journal *journal)
{
        return atomic_load_explicit(&journal->committed_sequence, memory_order_acquire);
}

void journal_committed(const struct journal *journal, uint64_t *ret_position, uint64_t *ret_next_sequence)
{
        for (;;) {
                uint64_t version = atomic_load_explicit(&journal->committed_version, memory_order_acquire);
                uint64_t position = atomic_load_explicit(&journal->committed_position, memory_order_acquire);
                uint64_t sequence = atomic_load_explicit(&journal->committed_sequence, memory_order_acquire);
                /* C2: whoever saw one new word of the pair sees the odd version. Relaxed: behind acquire loads. */
                if ((version & 1) == 0 &&
                    atomic_load_explicit(&journal->committed_version, memory_order_relaxed) == version) {
                        *ret_position = position;
                        *ret_next_sequence = sequence;
                        return;
                }
        }
}

uint64_t journal_last_position(const struct journal *journal)
{
        return journal->writer.last_position;
}

uint64_t journal_lane_position(const struct journal *journal, uint64_t lane_id)
{
        return journal_lanes_find(&journal->lanes, lane_id);
}

static uint64_t journal_budget(uint64_t mapped, uint64_t segment_bytes, uint64_t capacity, uint64_t lanes)
{
        return mapped * segment_bytes + JOURNAL_TARGETS_BYTES_MAX + capacity * sizeof(struct journal_segment) +
               lanes * sizeof(struct journal_lane) + sizeof(struct journal);
}

uint64_t journal_budget_bytes(const struct journal_options *options, uint64_t readers_count)
{
        return journal_budget(
                options->segments_mapped_max + readers_count, options->segment_bytes,
                1 + journal_lines_ahead(options->size_bytes_max, options->drain_bytes_max, options->segment_bytes), 0);
}

void journal_get_stats(const struct journal *journal, struct journal_stats *ret_stats)
{
        /* Relaxed but for the positions: figures for people. */
        uint64_t readers = atomic_load_explicit(&journal->readers_count, memory_order_relaxed);
        *ret_stats = (struct journal_stats){
                .committed_position = journal_committed_position(journal),
                .durable_position = journal_durable_position(journal),
                .oldest_position = atomic_load_explicit(&journal->stat_oldest_position, memory_order_relaxed),
                .segments = atomic_load_explicit(&journal->stat_segments, memory_order_relaxed),
                .segments_given_up = atomic_load_explicit(&journal->stat_segments_given_up, memory_order_relaxed),
                .segments_recycled = atomic_load_explicit(&journal->stat_segments_recycled, memory_order_relaxed),
                .passed_bytes = atomic_load_explicit(&journal->stat_passed_bytes, memory_order_relaxed),
                .oldest_event_ms = atomic_load_explicit(&journal->stat_oldest_event_ms, memory_order_relaxed),
                .size_bytes = atomic_load_explicit(&journal->stat_size_bytes, memory_order_relaxed),
                .size_bytes_max = journal->size_bytes_max,
                .records = atomic_load_explicit(&journal->stat_records, memory_order_relaxed),
                .rejected_records = atomic_load_explicit(&journal->stat_rejected_records, memory_order_relaxed),
                .budget_bytes = journal_budget(journal->segments_mapped_max + readers, journal->segment_bytes,
                                               journal->capacity, journal->lanes.capacity),
        };
}

/* ------------------------------------------------------------------------------------------------------ open */

static enum err_code journal_open_for_writing(struct journal *journal, struct journal_recovery *recovery,
                                              struct err *reterr)
{
        enum err_code code = journal_lock(journal, reterr);
        if (code == ERR_OK)
                code = journal_targets_open(journal, recovery, reterr);
        if (code == ERR_OK)
                code = journal_recover(journal, recovery, reterr);
        free(journal->target_recovery);
        journal->target_recovery = NULL;
        if (code == ERR_OK)
                code = journal_map_warm(journal, reterr);
        if (code != ERR_OK)
                return code;
        if (journal->writer.segment != NULL)
                journal_writer_enter(journal, journal->writer.segment, journal->writer.offset);
        if (journal->writer.segment != NULL && journal->writer.map == NULL) {
                /* The segment can only be read: what comes goes to the next one. */
                journal->writer.given_up = true;
                journal->writer.data_end = journal->writer.offset;
        }
        /* A full disk or a full log is no reason not to start when the log holds something: it has to be delivered. */
        code = journal_maintain(journal, reterr);
        if (code != ERR_OK && atomic_load_explicit(&journal->prepared_end, memory_order_relaxed) == 0)
                return code;
        /* The numbers that recovery skipped are said at once where there was no room to say it, lest the next open
         * count them again. A full log says it later. */
        if (journal->writer.loss_counted && journal->writer.segment != NULL && journal_writer_switch(journal) == ERR_OK)
                (void)journal_publish(journal); /* a page lost already is found by the next one */
        if (journal->durability == JOURNAL_DURABILITY_HOST && journal->writer.segment != NULL &&
            atomic_load_explicit(&journal->sync_failed, memory_order_relaxed))
                journal_sync_expect(journal);
        else
                atomic_store_explicit(&journal->durable_position, journal_committed_position(journal),
                                      memory_order_relaxed);
        return ERR_OK;
}

enum err_code journal_open(const struct journal_options *options, struct journal **ret_journal,
                           struct journal_recovery *ret_recovery, struct err *reterr)
{
        struct journal_recovery recovery = {0};
        struct journal *journal = NULL;
        enum err_code code = journal_check_options(options, reterr);
        if (code == ERR_OK)
                code = journal_allocate(options, &journal, reterr);
        if (code == ERR_OK && !options->read_only) {
                struct stat status;
                recovery.made = disk_stat_path(options->directory, &status) < 0 && errno == ENOENT;
                code = file_make_directory(options->directory, reterr);
        }
        if (code != ERR_OK)
                goto fail;
        journal->directory_fd = disk_open(AT_FDCWD, options->directory, O_RDONLY | O_DIRECTORY, 0);
        if (journal->directory_fd < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open journal directory %s", options->directory);
                goto fail;
        }
        if (options->read_only) {
                code = journal_targets_open(journal, &recovery, reterr);
                free(journal->target_recovery);
                journal->target_recovery = NULL;
                if (code == ERR_OK)
                        code = journal_refresh(journal, reterr);
                if (code == ERR_OK)
                        code = journal_targets_catch_up(journal, reterr);
        } else {
                code = journal_open_for_writing(journal, &recovery, reterr);
        }
        if (code != ERR_OK)
                goto fail;
        *ret_journal = journal;
        if (ret_recovery != NULL)
                *ret_recovery = recovery;
        return ERR_OK;
fail:
        journal_close(journal);
        return code;
}
