/* The files behind the targets: the targets file and its copy. Opening, what is taken from which of them, mending. */
#include "base/clock.h"
#include "journal/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* So many lines are to spare, where the disk has room for them: a target that comes when it has none is given one. The
 * file grows by as many. */
#define JOURNAL_TARGETS_SPARE      64u
#define JOURNAL_TARGETS_STEP_BYTES (JOURNAL_TARGETS_SPARE * (uint64_t)sizeof(struct journal_target_entry))
#define JOURNAL_COPY_TRIES         8u
#define JOURNAL_COPY_NAP_NS        (10 * CLOCK_NS_PER_MS)

/* What the file is to have for `count` lines; its own size where they are there. */
static uint64_t journal_targets_bytes(const struct journal_targets *targets, uint32_t count)
{
        const uint64_t need = JOURNAL_PAGE_BYTES + (uint64_t)count * sizeof(struct journal_target_entry);
        if (need <= targets->file_bytes)
                return targets->file_bytes;
        uint64_t bytes = JOURNAL_PAGE_BYTES;
        while (bytes < need)
                bytes += JOURNAL_TARGETS_STEP_BYTES;
        return bytes;
}

enum err_code journal_targets_grow(struct journal *journal, uint32_t count, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        const uint64_t bytes = journal_targets_bytes(targets, count);
        int failed = bytes == targets->file_bytes ? 0 : disk_allocate(targets->fd, bytes);
        if (failed != 0)
                return err_set_errno(reterr, failed == EFBIG ? ERR_DISK_FULL : ERR_SYSTEM, failed,
                                     "cannot make room for %u targets in %s/targets", count, journal->directory);
        /* What a cut has left of a line, behind those that are counted, must not become one by what follows it now. */
        if (targets->file_bytes > JOURNAL_PAGE_BYTES && bytes > targets->file_bytes) {
                const uint64_t part = (targets->file_bytes - JOURNAL_PAGE_BYTES) % sizeof(struct journal_target_entry);
                memset(targets->file + targets->file_bytes - part, 0, part);
        }
        targets->file_bytes = bytes;
        return ERR_OK;
}

/* ------------------------------------------------------------------------------------------------------ the copy */

static void journal_targets_header_fill(struct journal_targets_header *header)
{
        header->magic = JOURNAL_TARGETS_MAGIC;
        header->version = JOURNAL_VERSION;
        header->entry_bytes = sizeof(struct journal_target_entry);
        header->crc = crc32c(0, header, offsetof(struct journal_targets_header, crc));
}

static enum err_code journal_copy_write(struct journal *journal, const void *from, uint64_t bytes, uint64_t offset,
                                        struct err *reterr)
{
        for (uint64_t done = 0; done < bytes;) {
                ssize_t wrote =
                        disk_write(journal->targets.copy_fd, (const uint8_t *)from + done, bytes - done, offset + done);
                if (wrote < 0 && errno == EINTR)
                        continue;
                if (wrote < 0)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot write %s/" JOURNAL_COPY_NAME,
                                             journal->directory);
                done += (uint64_t)wrote;
        }
        return ERR_OK;
}

/* Opens it and gives it the blocks that the targets file has, or gets, so that all of that fits also on a full disk. */
static enum err_code journal_copy_open(struct journal *journal, uint64_t bytes, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        if (targets->copy_fd < 0) {
                targets->copy_fd =
                        disk_open(journal->directory_fd, JOURNAL_COPY_NAME, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
                if (targets->copy_fd < 0)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s/" JOURNAL_COPY_NAME,
                                             journal->directory);
                targets->copy_unsynced = true;
        }
        if (targets->copy_bytes >= bytes)
                return ERR_OK;
        int failed = disk_allocate(targets->copy_fd, bytes);
        if (failed != 0)
                return err_set_errno(reterr, failed == EFBIG ? ERR_DISK_FULL : ERR_SYSTEM, failed,
                                     "cannot make room in %s/" JOURNAL_COPY_NAME, journal->directory);
        targets->copy_bytes = bytes;
        return ERR_OK;
}

void journal_targets_spare(struct journal *journal)
{
        struct journal_targets *targets = &journal->targets;
        const uint32_t count = journal_targets_count(journal);
        const uint32_t lines =
                count < LIMIT_TARGETS_MAX - JOURNAL_TARGETS_SPARE ? count + JOURNAL_TARGETS_SPARE : LIMIT_TARGETS_MAX;
        const uint64_t bytes = journal_targets_bytes(targets, lines);
        struct stat status;
        /* One that somebody has cut is for journal_targets_heal(): with room in it, nothing would tell. */
        if (bytes == targets->file_bytes || disk_stat(targets->fd, &status) < 0 ||
            (uint64_t)status.st_size < targets->file_bytes)
                return;
        /* The copy first: the file alone would take the last blocks of a disk, and nothing could be copied any more for
         * want of its own. A copy that has more lines says nothing in them. */
        if (journal_copy_open(journal, bytes, NULL) == ERR_OK)
                (void)journal_targets_grow(journal, lines, NULL); /* the next call tries again */
}

/* One line of it: what is true of the target at some instant, the owner's side first. */
static enum err_code journal_copy_line(struct journal *journal, uint32_t number, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        struct journal_target_entry *entry = journal_target_entry(targets, number), line;
        struct journal_target_copied *copied = &targets->copied[number];
        struct journal_owner_slot owner;
        struct journal_shard_slot shard = {0};
        journal_owner_slot_read(entry, &owner);
        journal_shard_slot_read(entry, &shard);
        bool retired = atomic_load_explicit(&entry->retired, memory_order_relaxed) != 0;
        bool known = copied->named && copied->retired == retired;
        if (known && copied->owner_version == owner.version && copied->shard_version == shard.version)
                return ERR_OK;
        memset(&line, 0, sizeof(line));
        line.number = entry->number;
        line.key_bytes = entry->key_bytes;
        line.identity_crc = entry->identity_crc;
        memcpy(line.key, entry->key, sizeof(line.key));
        journal_owner_slot_put(&line, &owner);
        line.shard_slots[shard.version & 1] = shard;
        atomic_store_explicit(&line.owner_active, owner.version, memory_order_relaxed);
        atomic_store_explicit(&line.shard_active, shard.version, memory_order_relaxed);
        atomic_store_explicit(&line.retired, retired, memory_order_relaxed);
        targets->copy_unsynced |= !known;
        *copied = (struct journal_target_copied){
                .owner_version = owner.version, .shard_version = shard.version, .named = true, .retired = retired};
        enum err_code code = journal_copy_write(journal, &line, sizeof(line),
                                                JOURNAL_PAGE_BYTES + (uint64_t)number * sizeof(line), reterr);
        if (code != ERR_OK)
                copied->named = false;
        JOURNAL_STEP("target-copied");
        return code;
}

enum err_code journal_targets_copy(struct journal *journal, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        uint32_t count = journal_targets_count(journal);
        enum err_code code = journal_copy_open(journal, targets->file_bytes, reterr);
        for (uint32_t number = 0; number < count && code == ERR_OK; number++)
                code = journal_copy_line(journal, number, reterr);
        if (code == ERR_OK && targets->copy_count != count) {
                struct journal_targets_header header = {0};
                journal_targets_header_fill(&header);
                atomic_store_explicit(&header.count, count, memory_order_relaxed);
                code = journal_copy_write(journal, &header, sizeof(header), 0, reterr);
                targets->copy_count = code == ERR_OK ? count : UINT32_MAX;
                targets->copy_unsynced = true;
        }
        if (code != ERR_OK || journal->durability != JOURNAL_DURABILITY_HOST || !targets->copy_unsynced)
                return code;
        if (disk_sync(targets->copy_fd) < 0 || disk_sync_directory(journal->directory_fd) < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync %s/" JOURNAL_COPY_NAME,
                                     journal->directory);
                /* The kernel may take for written what is not: all of it again. */
                memset(targets->copied, 0, LIMIT_TARGETS_MAX * sizeof(*targets->copied));
                targets->copy_count = UINT32_MAX;
                return code;
        }
        targets->copy_unsynced = false;
        return ERR_OK;
}

/* As the copy was left; NULL where there is none, or none that can be used. What of it cannot be read is zeros, and
 * fails its checks. ERR_SYSTEM, ERR_PERMISSION, ERR_MEMORY: nobody knows what it holds, since this process lacks
 * descriptors, memory or rights. */
static enum err_code journal_copy_read(struct journal *journal, uint8_t **ret_bytes, uint64_t *ret_count,
                                       struct err *reterr)
{
        struct stat status;
        uint32_t tries = 0;
        int fd;
        *ret_bytes = NULL;
        /* What cannot be read now may be read in a moment. */
        while ((fd = disk_open(journal->directory_fd, JOURNAL_COPY_NAME, O_RDONLY | O_NOFOLLOW, 0)) < 0 &&
               (errno == EIO || errno == EMFILE || errno == ENFILE || errno == ENOMEM) && ++tries < JOURNAL_COPY_TRIES)
                clock_sleep_ns(JOURNAL_COPY_NAP_NS);
        if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == EIO))
                return ERR_OK;
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s/" JOURNAL_COPY_NAME,
                                     journal->directory);
        uint64_t bytes = disk_stat(fd, &status) == 0 && S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0;
        if (bytes > JOURNAL_TARGETS_BYTES_MAX)
                bytes = JOURNAL_TARGETS_BYTES_MAX;
        bytes -= bytes % JOURNAL_PAGE_BYTES;
        uint8_t *copy = bytes == 0 ? NULL : aligned_alloc(JOURNAL_PAGE_BYTES, bytes);
        for (uint64_t offset = 0; copy != NULL && offset < bytes; offset += JOURNAL_PAGE_BYTES) {
                ssize_t got;
                while ((got = disk_read(fd, copy + offset, JOURNAL_PAGE_BYTES, offset)) < 0 &&
                       (errno == EINTR || (errno == EIO && ++tries < JOURNAL_COPY_TRIES)))
                        clock_sleep_ns(JOURNAL_COPY_NAP_NS);
                if (got < 0)
                        got = 0;
                memset(copy + offset + got, 0, JOURNAL_PAGE_BYTES - (size_t)got);
        }
        (void)disk_close(fd); /* read only */
        if (copy == NULL && bytes > 0)
                return err_set(reterr, ERR_MEMORY, "out of memory for %s/" JOURNAL_COPY_NAME, journal->directory);
        const struct journal_targets_header *header = (const struct journal_targets_header *)(void *)copy;
        /* Another program's is made anew. */
        if (copy != NULL && header->magic == JOURNAL_TARGETS_MAGIC && header->version != JOURNAL_VERSION) {
                free(copy);
                return ERR_OK;
        }
        *ret_bytes = copy;
        *ret_count = copy == NULL ? 0 : (bytes - JOURNAL_PAGE_BYTES) / sizeof(struct journal_target_entry);
        return ERR_OK;
}

/* ------------------------------------------------------------------------------------------------------ open */

/* Chooses the good slot of each pair as the drawing says; false when there is none. *ret_repaired: not the active one.
 */
static bool journal_owner_slot_choose(struct journal_target_entry *entry, bool *ret_repaired)
{
        uint64_t active = atomic_load_explicit(&entry->owner_active, memory_order_relaxed);
        uint64_t best = 0; /* a version; they count from 1 */
        for (size_t i = 0; i < 2; i++) {
                struct journal_owner_slot slot;
                journal_owner_slot_load(entry, i, &slot);
                if (slot.crc != journal_owner_slot_crc(&slot) || (slot.version & 1) != i ||
                    slot.position >= JOURNAL_POSITION_MAX || slot.position % JOURNAL_ALIGN_BYTES != 0 ||
                    slot.sequence >= JOURNAL_SEQUENCE_MAX)
                        continue;
                if (slot.version == active) {
                        *ret_repaired = false;
                        return true;
                }
                best = slot.version > best ? slot.version : best;
        }
        *ret_repaired = best != 0;
        if (best != 0)
                atomic_store_explicit(&entry->owner_active, best, memory_order_relaxed);
        return best != 0;
}

static bool journal_shard_slot_choose(struct journal_target_entry *entry, bool *ret_repaired)
{
        uint64_t active = atomic_load_explicit(&entry->shard_active, memory_order_relaxed);
        const struct journal_shard_slot *best = NULL;
        for (size_t i = 0; i < 2; i++) {
                const struct journal_shard_slot *slot = &entry->shard_slots[i];
                if (slot->crc != journal_shard_slot_crc(slot) || (slot->version & 1) != i ||
                    slot->upto_position >= JOURNAL_POSITION_MAX || slot->upto_position % JOURNAL_ALIGN_BYTES != 0 ||
                    slot->upto_sequence >= JOURNAL_SEQUENCE_MAX)
                        continue;
                if (slot->version == active) {
                        *ret_repaired = false;
                        return true;
                }
                if (best == NULL || slot->version > best->version)
                        best = slot;
        }
        *ret_repaired = best != NULL;
        if (best != NULL)
                atomic_store_explicit(&entry->shard_active, best->version, memory_order_relaxed);
        return best != NULL;
}

/* A line whose identity is damaged keeps its number and loses its name. */
static void journal_target_disown(struct journal_target_entry *entry, uint32_t number)
{
        memset(entry->key, 0, sizeof(entry->key));
        entry->number = (uint16_t)number;
        entry->key_bytes = 0;
        atomic_store_explicit(&entry->retired, 1, memory_order_relaxed);
        entry->identity_crc = journal_identity_crc(entry);
}

/* Line `number` of the copy; NULL when it is none. */
static struct journal_target_entry *journal_copy_entry(uint8_t *copy, uint64_t copy_count, uint32_t number)
{
        if (number >= copy_count)
                return NULL;
        struct journal_target_entry *line =
                (struct journal_target_entry *)(void *)(copy + JOURNAL_PAGE_BYTES + number * sizeof(*line));
        return journal_identity_is_right(line, number) ? line : NULL;
}

/* Makes line `number` one that can be gone by: its own parts where they are right, those of the copy where not. */
static void journal_target_choose(struct journal *journal, struct journal_target_entry *entry,
                                  struct journal_target_entry *copy, uint32_t number, struct journal_recovery *recovery)
{
        struct journal_target_recovery *found = &journal->target_recovery[number];
        bool repaired = false, shard_repaired = false, unused, from_copy = false;
        uint32_t retired = atomic_load_explicit(&entry->retired, memory_order_relaxed);
        if (!journal_identity_is_right(entry, number)) {
                from_copy = copy != NULL;
                found->disowned = copy == NULL;
                retired = 2;
        }
        if (from_copy) {
                entry->number = copy->number;
                entry->key_bytes = copy->key_bytes;
                entry->identity_crc = copy->identity_crc;
                memcpy(entry->key, copy->key, sizeof(entry->key));
        } else if (found->disowned) {
                journal_target_disown(entry, number);
        }
        if (retired > 1 && !found->disowned) /* the word has no checksum, but two values only */
                atomic_store_explicit(&entry->retired,
                                      copy != NULL && atomic_load_explicit(&copy->retired, memory_order_relaxed) == 1,
                                      memory_order_relaxed);
        found->owner_lost = !journal_owner_slot_choose(entry, &repaired);
        if (found->owner_lost && copy != NULL && journal_owner_slot_choose(copy, &unused)) {
                memcpy(entry->owner_slots, copy->owner_slots, sizeof(entry->owner_slots));
                memcpy(entry->owner_lost, copy->owner_lost, sizeof(entry->owner_lost));
                atomic_store_explicit(&entry->owner_active,
                                      atomic_load_explicit(&copy->owner_active, memory_order_relaxed),
                                      memory_order_relaxed);
                found->owner_lost = false;
                from_copy = true;
                repaired = true;
        }
        found->owner_stale = found->owner_lost || repaired;
        found->shard_lost = !journal_shard_slot_choose(entry, &shard_repaired);
        if (found->shard_lost && copy != NULL && journal_shard_slot_choose(copy, &unused)) {
                memcpy(entry->shard_slots, copy->shard_slots, sizeof(entry->shard_slots));
                atomic_store_explicit(&entry->shard_active,
                                      atomic_load_explicit(&copy->shard_active, memory_order_relaxed),
                                      memory_order_relaxed);
                found->shard_lost = false;
                from_copy = true;
        }
        struct journal_owner_slot owner;
        struct journal_shard_slot shard;
        journal_owner_slot_read(entry, &owner);
        journal_shard_slot_read(entry, &shard);
        found->cursor_position = found->owner_lost ? 0 : owner.position;
        found->upto_sequence = found->shard_lost ? 0 : shard.upto_sequence;
        recovery->targets_repaired += repaired || shard_repaired;
        recovery->targets_from_copy += from_copy;
}

/* How many lines there are: what the header says, and more where more are whole, since a line is written before it is
 * counted, and the header may be damaged. */
static uint32_t journal_targets_count_lines(const struct journal *journal, bool header_is_right, uint8_t *copy,
                                            uint64_t copy_count)
{
        const struct journal_targets *targets = &journal->targets;
        uint64_t room = targets->file_bytes < JOURNAL_PAGE_BYTES
                                ? 0
                                : (targets->file_bytes - JOURNAL_PAGE_BYTES) / sizeof(struct journal_target_entry);
        if (room > LIMIT_TARGETS_MAX)
                room = LIMIT_TARGETS_MAX;
        uint32_t count = 0;
        if (header_is_right)
                count = atomic_load_explicit(&journal_targets_head(targets)->count, memory_order_acquire);
        if (count > room)
                count = (uint32_t)room;
        /* Not in a file that is being written. */
        for (uint32_t number = count; number < room && (!targets->read_only || targets->snapshot); number++)
                if (journal_identity_is_right(journal_target_entry(targets, number), number))
                        count = number + 1;
        for (uint32_t number = count; number < copy_count; number++)
                if (journal_copy_entry(copy, copy_count, number) != NULL)
                        count = number + 1;
        return count;
}

/* Nothing of the file needs its copy: every line that its header counts is there, with a name, a cursor and counts. */
static bool journal_targets_are_whole(const struct journal *journal, bool header_is_right)
{
        const struct journal_targets *targets = &journal->targets;
        const uint32_t count = journal_targets_count_lines(journal, header_is_right, NULL, 0);
        bool whole = header_is_right &&
                     count >= atomic_load_explicit(&journal_targets_head(targets)->count, memory_order_relaxed);
        for (uint32_t number = 0; number < count && whole; number++) {
                /* A copy: choosing makes a slot the active one, and recovery is to see which one was. */
                struct journal_target_entry line;
                bool unused;
                memcpy(&line, journal_target_entry(targets, number), sizeof(line));
                whole = journal_identity_is_right(&line, number) && journal_owner_slot_choose(&line, &unused) &&
                        journal_shard_slot_choose(&line, &unused) &&
                        atomic_load_explicit(&line.retired, memory_order_relaxed) <= 1;
        }
        return whole;
}

/* Of the file, or of the copy. */
static bool journal_header_is_right(const uint8_t *map)
{
        const struct journal_targets_header *header = (const struct journal_targets_header *)(const void *)map;
        return header->magic == JOURNAL_TARGETS_MAGIC &&
               header->crc == crc32c(0, header, offsetof(struct journal_targets_header, crc));
}

static bool journal_targets_header_is_right(const struct journal_targets *targets)
{
        return targets->file_bytes >= JOURNAL_PAGE_BYTES && journal_header_is_right(targets->map);
}

static enum err_code journal_targets_wrong_version(const struct journal *journal, uint32_t version, struct err *reterr)
{
        return err_set(reterr, ERR_VERSION,
                       "%s/targets has version %u, this program knows %u: use the program that wrote it",
                       journal->directory, version, JOURNAL_VERSION);
}

/* ------------------------------------------------------------------------------------------------------ read only */

/* What the file has now, in memory of our own. */
static void journal_snapshot_take(struct journal_targets *targets, const uint8_t *live)
{
        struct stat status;
        if (targets->fd >= 0 && disk_stat(targets->fd, &status) == 0)
                targets->file_bytes = (uint64_t)status.st_size;
        if (targets->file_bytes > targets->map_bytes)
                targets->file_bytes = targets->map_bytes;
        if (live != NULL)
                memcpy(targets->map, live, targets->file_bytes);
}

/* Takes from the copy what the snapshot lacks, as recovery does, and writes nothing. */
static enum err_code journal_snapshot_mend(struct journal *journal, bool header_is_right, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        struct journal_targets_header *header = (struct journal_targets_header *)(void *)targets->map;
        struct journal_recovery unused = {0};
        uint8_t *copy = NULL;
        uint64_t copy_count = 0;
        enum err_code code = journal_copy_read(journal, &copy, &copy_count, reterr);
        if (code != ERR_OK)
                return err_wrap(reterr, "%s/targets is damaged, and what it lacks is in its copy", journal->directory);
        if (targets->fd < 0 && copy == NULL)
                return err_set(reterr, ERR_CORRUPT,
                               "the books of %s are lost: it has neither its targets file nor the copy of it",
                               journal->directory);
        const uint32_t count = journal_targets_count_lines(journal, header_is_right, copy, copy_count);
        const bool copy_is_right = copy != NULL && journal_header_is_right(copy);
        uint32_t said = header_is_right ? atomic_load_explicit(&header->count, memory_order_relaxed) : 0;
        if (copy_is_right) {
                const struct journal_targets_header *other = (const struct journal_targets_header *)(void *)copy;
                uint32_t copied = atomic_load_explicit(&other->count, memory_order_relaxed);
                said = copied > said ? copied : said;
        }
        const uint64_t need = JOURNAL_PAGE_BYTES + (uint64_t)count * sizeof(struct journal_target_entry);
        if (targets->file_bytes < need)
                targets->file_bytes = need;
        targets->incomplete = !header_is_right && !copy_is_right;
        targets->unknown = said > count ? said - count : 0;
        journal_targets_header_fill(header);
        atomic_store_explicit(&header->count, count, memory_order_relaxed);
        atomic_store_explicit(&targets->count, count, memory_order_relaxed);
        for (uint32_t number = 0; number < count; number++) {
                const struct journal_target_recovery *found = &journal->target_recovery[number];
                journal_target_choose(journal, journal_target_entry(targets, number),
                                      journal_copy_entry(copy, copy_count, number), number, &unused);
                targets->unknown += found->disowned || found->owner_lost || found->shard_lost;
        }
        free(copy);
        return ERR_OK;
}

/* Reads the file as it is, beside whoever writes it; where something of it is missing, a snapshot of it and its copy.
 * `live`: its mapping; NULL: there is no file. */
static enum err_code journal_targets_load_read_only(struct journal *journal, uint8_t *live, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        bool right = false, whole = false;
        void *own = mmap(NULL, targets->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                         -1, 0);
        if (own == MAP_FAILED) {
                int sys_errno = errno;
                targets->map = live;
                return err_set_errno(reterr, ERR_SYSTEM, sys_errno, "out of memory for %s/targets", journal->directory);
        }
        targets->map = own;
        targets->snapshot = true;
        /* What looks torn may be in the middle of being written, or mended. */
        for (uint32_t tries = 0; !whole && tries < JOURNAL_COPY_TRIES; tries++) {
                if (tries > 0)
                        clock_sleep_ns(JOURNAL_COPY_NAP_NS);
                journal_snapshot_take(targets, live);
                right = journal_targets_header_is_right(targets);
                whole = right && journal_targets_are_whole(journal, right);
        }
        const struct journal_targets_header *header = own;
        enum err_code code = ERR_OK;
        if (right && header->version != JOURNAL_VERSION)
                code = journal_targets_wrong_version(journal, header->version, reterr);
        else if (!whole)
                code = journal_snapshot_mend(journal, right, reterr);
        if (!whole || code != ERR_OK) {
                if (live != NULL)
                        disk_unmap(live, targets->map_bytes);
                return code;
        }
        (void)munmap(own, targets->map_bytes); /* cannot fail for our own mapping */
        targets->map = live;
        targets->snapshot = false;
        atomic_store_explicit(&targets->count, journal_targets_count_lines(journal, true, NULL, 0),
                              memory_order_relaxed);
        return ERR_OK;
}

enum err_code journal_targets_check(const struct journal *journal, struct err *reterr)
{
        const struct journal_targets *targets = &journal->targets;
        ASSERT(journal->read_only);
        if (targets->incomplete)
                return err_set(reterr, ERR_CORRUPT,
                               "the books of %s are lost: neither its targets file nor the copy of it can be read",
                               journal->directory);
        if (targets->unknown > 0)
                return err_set(
                        reterr, ERR_CORRUPT,
                        "the books of %s are incomplete: of %u targets neither the targets file nor its copy has "
                        "the name, the cursor and the counts",
                        journal->directory, targets->unknown);
        return ERR_OK;
}

/* ------------------------------------------------------------------------------------------------------ to write */

static enum err_code journal_targets_load(struct journal *journal, struct journal_recovery *recovery,
                                          struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        struct journal_targets_header *header = (struct journal_targets_header *)(void *)targets->map;
        const bool header_is_right = journal_targets_header_is_right(targets);
        uint8_t *copy = NULL;
        uint64_t copy_count = 0;
        if (header_is_right && header->version != JOURNAL_VERSION)
                return journal_targets_wrong_version(journal, header->version, reterr);
        enum err_code code = journal_copy_read(journal, &copy, &copy_count, reterr);
        /* A copy that may be there and cannot be looked at is none only where nothing is to be taken from it: what it
         * knows would be counted as lost, and could never be given back. */
        if (code != ERR_OK && !journal_targets_are_whole(journal, header_is_right))
                return err_wrap(reterr, "%s/targets is damaged, and what it lacks is in its copy", journal->directory);
        uint32_t count = journal_targets_count_lines(journal, header_is_right, copy, copy_count);
        targets->header_lost = !header_is_right;
        targets->incomplete = !header_is_right && (copy == NULL || !journal_header_is_right(copy));
        targets->copy_count = UINT32_MAX;
        /* A restored copy may have holes; a page that the full disk has no block for would be a SIGBUS later. */
        int failed = targets->file_bytes == 0 ? 0 : disk_allocate(targets->fd, targets->file_bytes);
        if (failed != 0)
                code = err_set_errno(reterr, ERR_SYSTEM, failed, "cannot allocate %s/targets", journal->directory);
        else
                code = journal_targets_grow(journal, count, reterr);
        if (code != ERR_OK)
                goto out;
        journal_targets_header_fill(header);
        atomic_store_explicit(&header->count, count, memory_order_release);
        atomic_store_explicit(&targets->count, count, memory_order_relaxed);
        for (uint32_t number = 0; number < count; number++)
                journal_target_choose(journal, journal_target_entry(targets, number),
                                      journal_copy_entry(copy, copy_count, number), number, recovery);
        /* Words that did not change are stored as they were. */
        memcpy(targets->file, targets->map, JOURNAL_PAGE_BYTES + count * sizeof(struct journal_target_entry));
out:
        free(copy);
        return code;
}

enum err_code journal_targets_open(struct journal *journal, struct journal_recovery *recovery, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        targets->read_only = journal->read_only;
        int flags = (journal->read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_NOFOLLOW;
        targets->fd = disk_open(journal->directory_fd, JOURNAL_TARGETS_NAME, flags, 0600);
        targets->map_bytes = JOURNAL_TARGETS_BYTES_MAX;
        if (targets->fd < 0 && errno == ENOENT && journal->read_only)
                return journal_targets_load_read_only(journal, NULL, reterr);
        if (targets->fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s/targets", journal->directory);
        struct stat status;
        if (disk_stat(targets->fd, &status) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s/targets", journal->directory);
        targets->file_bytes = (uint64_t)status.st_size;
        uint8_t *map = disk_map(targets->fd, targets->map_bytes, !journal->read_only);
        if (map == NULL)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot map %s/targets", journal->directory);
        if (journal->read_only)
                return journal_targets_load_read_only(journal, map, reterr);
        targets->copied = calloc(LIMIT_TARGETS_MAX, sizeof(*targets->copied));
        targets->file = map;
        targets->lost = disk_lost(map);
        void *own = mmap(NULL, targets->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                         -1, 0);
        if (own == MAP_FAILED || targets->copied == NULL)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "out of memory for %s/targets", journal->directory);
        targets->map = own;
        memcpy(own, map, targets->file_bytes < targets->map_bytes ? targets->file_bytes : targets->map_bytes);
        return journal_targets_load(journal, recovery, reterr);
}

void journal_targets_refresh(struct journal_targets *targets)
{
        struct stat status;
        if (targets->snapshot || disk_stat(targets->fd, &status) < 0 || (uint64_t)status.st_size < JOURNAL_PAGE_BYTES)
                return;
        targets->file_bytes = (uint64_t)status.st_size;
        uint64_t room = (targets->file_bytes - JOURNAL_PAGE_BYTES) / sizeof(struct journal_target_entry);
        const struct journal_targets_header *header = (const struct journal_targets_header *)(void *)targets->map;
        /* Pairs with the release in journal_targets_add() of the writing process. */
        uint32_t count = atomic_load_explicit(&header->count, memory_order_acquire);
        if (header->magic == JOURNAL_TARGETS_MAGIC && count <= room && count <= LIMIT_TARGETS_MAX)
                atomic_store_explicit(&targets->count, count, memory_order_relaxed);
}

static enum err_code journal_targets_heal_held(struct journal *journal, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        int failed = disk_allocate(targets->fd, targets->file_bytes);
        if (failed != 0)
                return err_set_errno(
                        reterr, ERR_SYSTEM, failed,
                        "%s/targets has lost pages, and cannot be written anew: cursors and counts of now are "
                        "in memory only",
                        journal->directory);
        if (disk_map_again(targets->fd, targets->file, targets->map_bytes) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot map %s/targets again", journal->directory);
        journal_targets_write_anew(journal);
        journal->cursors_durable_end = 0; /* what the disk had of them may be gone */
        return err_set(reterr, ERR_CORRUPT,
                       "pages of %s/targets were lost: somebody cut the file, or the disk fails; it is written anew",
                       journal->directory);
}

enum err_code journal_targets_heal(struct journal *journal, struct err *reterr)
{
        /* Acquire: pairs with the release in the handler of io/disk_guard.c. */
        if (atomic_load_explicit(journal->targets.lost, memory_order_acquire) == 0)
                return ERR_OK;
        (void)pthread_mutex_lock(&journal->targets.mutex); /* cannot fail: a plain mutex, never taken twice */
        enum err_code code = journal_targets_heal_held(journal, reterr);
        (void)pthread_mutex_unlock(&journal->targets.mutex);
        return code;
}

void journal_targets_close(struct journal_targets *targets)
{
        if (targets->file != NULL)
                disk_unmap(targets->file, targets->map_bytes);
        if (targets->map != NULL && targets->read_only && !targets->snapshot)
                disk_unmap(targets->map, targets->map_bytes);
        else if (targets->map != NULL)
                (void)munmap(targets->map, targets->map_bytes); /* cannot fail for our own mapping */
        if (targets->fd >= 0)
                (void)disk_close(targets->fd); /* written through the mapping only */
        if (targets->copy_fd >= 0)
                (void)disk_close(targets->copy_fd); /* the writes were checked */
        free(targets->copied);
        targets->map = targets->file = NULL;
        targets->fd = targets->copy_fd = -1;
}
