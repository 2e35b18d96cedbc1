/* Recovery on hostile files: the bytes become a segment file and a targets file. Open must neither crash nor hang, what
 * it recovers must be readable, and a second open must find the same records and report nothing lost anew.
 *
 * Input: one byte of flags, two bytes (little endian) that say how many bytes are of the targets file, those bytes, and
 * the segment's. Of each file the first 128 bytes go to its start and the rest behind its header page, so that inputs
 * stay small. Flags: 1 repair the segment header's CRC, 2 repair the CRCs of records as far as they follow each other,
 * 4 repair the CRCs of the targets file, 8 write the header's copy, too, 16 cut the file behind the input, 32 write the
 * segment a second time as the next one. */
#include "base/assert.h"
#include "journal/journal.h"

#include "tests/support/journal_files.h"

#include <stdint.h>

#define MIB         (1024u * 1024u)
#define HEAD_BYTES  128u
#define PAGE_BYTES  4096u
#define TARGETS_MAX 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Who looks at files that seem to be written just now looks again a moment later; here nobody writes. */
void __wrap_clock_sleep_ns(uint64_t ns);
void __wrap_clock_sleep_ns(uint64_t ns)
{
        (void)ns;
}

/* From the polynomial, as the drawing in journal.h says; not the library that the journal uses. */
static uint32_t crc32c(uint32_t crc, const uint8_t *bytes, size_t len)
{
        static uint32_t table[256];
        if (table[1] == 0) {
                for (uint32_t i = 0; i < 256; i++) {
                        uint32_t value = i;
                        for (unsigned bit = 0; bit < 8; bit++)
                                value = value >> 1 ^ (0x82f63b78u & -(value & 1));
                        table[i] = value;
                }
        }
        for (size_t i = 0; i < len; i++)
                crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
        return crc;
}

static void put32(uint8_t *at, uint32_t value)
{
        memcpy(at, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *at)
{
        uint32_t value;
        memcpy(&value, at, sizeof(value));
        return value;
}

static void spread(uint8_t *file, size_t file_bytes, const uint8_t *data, size_t size)
{
        memset(file, 0, file_bytes);
        memcpy(file, data, size < HEAD_BYTES ? size : HEAD_BYTES);
        if (size > HEAD_BYTES) {
                size_t rest = size - HEAD_BYTES;
                memcpy(file + PAGE_BYTES, data + HEAD_BYTES,
                       rest < file_bytes - PAGE_BYTES ? rest : file_bytes - PAGE_BYTES);
        }
}

static void repair_segment(uint8_t *file, uint8_t flags, uint64_t number, uint64_t base_position)
{
        if (flags & 1) {
                memcpy(file + 16, &number, 8);
                if (number > 0) /* the second file continues the first */
                        memcpy(file + 24, &base_position, 8);
                put32(file + 60, crc32c(0, file, 60));
                uint8_t words[16];
                memcpy(words, file + 24, 8);
                memcpy(words + 8, file + 64, 8);
                put32(file + 72, crc32c(get32(file + 12), words, 16));
        }
        uint32_t seed = get32(file + 12);
        for (size_t at = PAGE_BYTES; (flags & 2) && at + 64 <= MIB - PAGE_BYTES;) {
                uint32_t bytes = get32(file + at + 4);
                bool gap = (file[at + 39] & 0x80) != 0;
                if (bytes > MIB - 2 * PAGE_BYTES - at)
                        break;
                put32(file + at, crc32c(seed, file + at + 4, 60 + (gap ? 0 : bytes)));
                at += (64 + (size_t)bytes + 63) & ~(size_t)63;
        }
        if (flags & 8)
                memcpy(file + MIB - PAGE_BYTES, file, 64);
}

static void repair_targets(uint8_t *file)
{
        put32(file + 16, crc32c(0, file, 16));
        for (uint32_t number = 0; number < TARGETS_MAX; number++) {
                uint8_t *entry = file + PAGE_BYTES + (size_t)number * 1024;
                uint16_t key_bytes;
                memcpy(&key_bytes, entry + 6, 2);
                if (key_bytes <= 511)
                        put32(entry, crc32c(crc32c(1, entry + 4, 4), entry + 512, key_bytes));
                for (size_t slot = 0; slot < 2; slot++) {
                        put32(entry + 128 + slot * 64 + 56, crc32c(0x4f574e45u, entry + 128 + slot * 64, 56));
                        put32(entry + 320 + slot * 64 + 32, crc32c(0x53484152u, entry + 320 + slot * 64, 32));
                }
        }
}

static void write_file(const char *directory, const char *name, const uint8_t *bytes, size_t count)
{
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        ASSERT(fd >= 0);
        /* Mostly zeros: sparse, to be fast. */
        for (size_t at = 0; at < count; at += PAGE_BYTES) {
                size_t part = count - at < PAGE_BYTES ? count - at : PAGE_BYTES;
                if (bytes[at] != 0 || memcmp(bytes + at, bytes + at + 1, part - 1) != 0)
                        ASSERT(pwrite(fd, bytes + at, part, (off_t)at) == (ssize_t)part);
        }
        ASSERT(ftruncate(fd, (off_t)count) == 0);
        (void)close(fd);
}

/* Reads everything; a hash of it, and how many. */
static uint64_t read_all(struct journal *journal, uint64_t *ret_hash)
{
        struct journal_reader *reader;
        struct journal_record record;
        struct journal_stats stats;
        uint64_t count = 0, hash = 0, limit = journal_committed_position(journal);
        journal_get_stats(journal, &stats);
        ASSERT(journal_reader_create(journal, &reader, NULL) == ERR_OK);
        /* Where the log begins is not a position the caller knows: any cursor of a target was moved behind it. */
        uint64_t position = 0;
        enum err_code code = journal_read(reader, position, limit, &record);
        for (uint64_t low = 0, high = limit; code == ERR_NOT_FOUND && low < high;) {
                uint64_t middle = (low + (high - low) / 2) / 64 * 64;
                code = journal_read(reader, middle, limit, &record);
                if (code == ERR_NOT_FOUND) {
                        low = middle + 64;
                        if (low >= high)
                                break;
                        continue;
                }
                /* Found something; the first one may be earlier. */
                high = middle;
                code = ERR_NOT_FOUND;
                position = middle;
        }
        while ((code = journal_read(reader, position, limit, &record)) == ERR_OK) {
                hash = hash * 1099511628211u ^ record.sequence ^ record.entry.lane_id << 7;
                for (size_t i = 0; i < record.payload.len; i++)
                        hash = hash * 31 + record.payload.ptr[i];
                ASSERT(record.next_position > position);
                position = record.next_position;
                count++;
        }
        ASSERT(code == ERR_EMPTY || code == ERR_NOT_FOUND);
        journal_reader_free(reader);
        *ret_hash = hash;
        return count;
}

static void look(const char *directory)
{
        struct journal_options options = {.directory = directory, .read_only = true};
        struct journal *journal;
        if (journal_open(&options, &journal, NULL, NULL) != ERR_OK)
                return;
        for (uint16_t target = 0; target < journal_targets_count(journal) && target < TARGETS_MAX; target++) {
                struct journal_target_state state;
                uint64_t waiting;
                (void)journal_target_audit(journal, target, &state, &waiting, NULL); /* any answer will do */
        }
        journal_close(journal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static uint8_t segment[MIB], targets[PAGE_BYTES + 64 * 1024];
        char directory[256];
        if (size < 3)
                return 0;
        uint8_t flags = data[0];
        size_t targets_bytes = data[1] | (size_t)data[2] << 8;
        data += 3;
        size -= 3;
        if (targets_bytes > size)
                targets_bytes = size;
        journal_files_make(directory);
        if (targets_bytes > 0) {
                spread(targets, sizeof(targets), data, targets_bytes);
                if (flags & 4)
                        repair_targets(targets);
                write_file(directory, "targets", targets, flags & 16 ? PAGE_BYTES + targets_bytes : sizeof(targets));
        }
        size_t segment_size = size - targets_bytes;
        for (uint64_t number = 0; segment_size > 0 && number < (flags & 32 ? 2u : 1u); number++) {
                char name[64];
                uint64_t base_position = 0;
                if (number > 0)
                        memcpy(&base_position, segment + 24, 8);
                spread(segment, sizeof(segment), data + targets_bytes, segment_size);
                repair_segment(segment, flags, number, base_position + MIB);
                (void)snprintf(name, sizeof(name), "%016x.segment", (unsigned)number);
                write_file(directory, name, segment,
                           flags & 16 && number == 0 ? PAGE_BYTES + segment_size : sizeof(segment));
        }
        if ((size & 1) != 0) /* some of the inputs: it costs as much as the rest */
                look(directory);
        struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 4 * MIB,
                .segments_mapped_max = 4,
        };
        struct journal *journal;
        struct journal_recovery first, second;
        uint64_t first_hash, second_hash;
        if (journal_open(&options, &journal, &first, NULL) == ERR_OK) {
                /* Open prepares a segment; without a target that waits for it, it recycles what was found. */
                struct journal_stats stats;
                journal_get_stats(journal, &stats);
                bool kept = stats.segments_recycled == 0 && stats.segments >= first.segments;
                uint64_t count = read_all(journal, &first_hash);
                ASSERT(kept ? count == first.records : count <= first.records);
                for (uint16_t target = 0; target < journal_targets_count(journal) && target < TARGETS_MAX; target++) {
                        uint64_t waiting;
                        (void)journal_target_audit(journal, target, NULL, &waiting, NULL); /* any answer will do */
                }
                uint64_t position = journal_committed_position(journal), next = journal_next_sequence(journal);
                journal_close(journal);
                ASSERT(journal_open(&options, &journal, &second, NULL) == ERR_OK);
                ASSERT(second.records == count && (!kept || second.bytes == first.bytes));
                /* A jump without a hole, which this journal never writes, cannot be covered and is counted again. */
                ASSERT(second.lost_records <= first.lost_records && second.quarantined_segments == 0);
                journal_get_stats(journal, &stats);
                kept = stats.segments_recycled == 0 && stats.segments >= second.segments;
                ASSERT(!kept || (read_all(journal, &second_hash) == second.records && first_hash == second_hash));
                ASSERT(journal_committed_position(journal) == position && journal_next_sequence(journal) == next);
                if (journal_files_append(journal, next, 10, 0) == ERR_OK) {
                        journal_publish(journal);
                        ASSERT(journal_next_sequence(journal) == next + 1);
                        ASSERT(!kept || read_all(journal, &second_hash) == second.records + 1);
                }
                journal_close(journal);
        }
        journal_files_remove(directory);
        return 0;
}
