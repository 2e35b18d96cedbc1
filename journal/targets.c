/* The targets file: who may be delivered to, how far each of them is, and the counts. Drawn in journal.h. */
#include "journal/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* The file grows by this much; the mapping is as large as the file can become, so it never moves. */
#define JOURNAL_TARGETS_STEP_BYTES (64u * (uint64_t)sizeof(struct journal_target_entry))
#define JOURNAL_TARGETS_BYTES_MAX \
        (JOURNAL_PAGE_BYTES + LIMIT_TARGETS_MAX * (uint64_t)sizeof(struct journal_target_entry))

/* ------------------------------------------------------------------------------------------------------ slots */

#define JOURNAL_OWNER_SEED 0x4f574e45u
#define JOURNAL_SHARD_SEED 0x53484152u

static uint32_t journal_owner_slot_crc(const struct journal_owner_slot *slot)
{
        return journal_crc(JOURNAL_OWNER_SEED, slot, offsetof(struct journal_owner_slot, crc));
}

static uint32_t journal_shard_slot_crc(const struct journal_shard_slot *slot)
{
        uint32_t crc = journal_crc(JOURNAL_SHARD_SEED, slot, offsetof(struct journal_shard_slot, crc));
        /* Files of before there was a `lost` have 0 there. */
        return slot->lost == 0 ? crc : journal_crc(crc, &slot->lost, sizeof(slot->lost));
}

/* A slot is written by release stores behind the release store of `active` that made the other one good, and read by
 * acquire loads before `active` is loaded again: whoever saw one new word sees that `active` has moved (S1 to S2). */
static void journal_slot_copy_in(void *slot, const void *from, size_t bytes)
{
        _Atomic uint64_t *to = (_Atomic uint64_t *)slot;
        const uint64_t *words = (const uint64_t *)from;
        for (size_t i = 0; i < bytes / sizeof(uint64_t); i++) {
                /* S1: pairs with S2 in journal_slot_copy_out(). */
                atomic_store_explicit(&to[i], words[i], memory_order_release);
                JOURNAL_STEP("slot-word");
        }
}

static void journal_slot_copy_out(void *ret, const _Atomic uint64_t *active, const void *slots, size_t bytes)
{
        uint64_t *words = (uint64_t *)ret;
        /* Ends: a round is repeated only when the one writer has made another update meanwhile. */
        for (;;) {
                uint64_t version = atomic_load_explicit(active, memory_order_acquire);
                const _Atomic uint64_t *from =
                        (const _Atomic uint64_t *)(const void *)((const uint8_t *)slots + (version & 1) * bytes);
                for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
                        /* S2: pairs with S1 in journal_slot_copy_in(). */
                        words[i] = atomic_load_explicit(&from[i], memory_order_acquire);
                /* Relaxed: ordered behind the acquire loads above. */
                if (atomic_load_explicit(active, memory_order_relaxed) == version)
                        return;
        }
}

void journal_owner_slot_read(struct journal_target_entry *entry, struct journal_owner_slot *ret_slot)
{
        journal_slot_copy_out(ret_slot, &entry->owner_active, entry->owner_slots, sizeof(*ret_slot));
}

void journal_shard_slot_read(struct journal_target_entry *entry, struct journal_shard_slot *ret_slot)
{
        journal_slot_copy_out(ret_slot, &entry->shard_active, entry->shard_slots, sizeof(*ret_slot));
}

/* The same line in the file; NULL where there is none of our own. */
static struct journal_target_entry *journal_target_file_entry(const struct journal_targets *targets,
                                                              const struct journal_target_entry *entry)
{
        if (targets->file == NULL)
                return NULL;
        return (struct journal_target_entry *)(void *)(targets->file + ((const uint8_t *)entry - targets->map));
}

static void journal_owner_slot_store(struct journal_target_entry *entry, const struct journal_owner_slot *slot)
{
        journal_slot_copy_in(&entry->owner_slots[slot->version & 1], slot, sizeof(*slot));
        JOURNAL_STEP("owner-slot-written");
        /* Makes the slot the good one; pairs with the acquire in journal_slot_copy_out(). */
        atomic_store_explicit(&entry->owner_active, slot->version, memory_order_release);
        JOURNAL_STEP("owner-slot-active");
}

void journal_owner_slot_write(struct journal_targets *targets, struct journal_target_entry *entry,
                              struct journal_owner_slot *slot)
{
        struct journal_target_entry *file = journal_target_file_entry(targets, entry);
        /* Relaxed: this thread is the only writer. */
        slot->version = atomic_load_explicit(&entry->owner_active, memory_order_relaxed) + 1;
        slot->zero = 0;
        slot->crc = journal_owner_slot_crc(slot);
        journal_owner_slot_store(entry, slot);
        if (file != NULL)
                journal_owner_slot_store(file, slot);
}

static void journal_shard_slot_store(struct journal_target_entry *entry, const struct journal_shard_slot *slot)
{
        /* The padding is not copied. */
        journal_slot_copy_in(&entry->shard_slots[slot->version & 1], slot, offsetof(struct journal_shard_slot, pad));
        JOURNAL_STEP("shard-slot-written");
        atomic_store_explicit(&entry->shard_active, slot->version, memory_order_release);
        JOURNAL_STEP("shard-slot-active");
}

void journal_shard_slot_write(struct journal_targets *targets, struct journal_target_entry *entry,
                              struct journal_shard_slot *slot)
{
        struct journal_target_entry *file = journal_target_file_entry(targets, entry);
        slot->version = atomic_load_explicit(&entry->shard_active, memory_order_relaxed) + 1;
        slot->zero = 0;
        slot->crc = journal_shard_slot_crc(slot);
        journal_shard_slot_store(entry, slot);
        if (file != NULL)
                journal_shard_slot_store(file, slot);
}

static void journal_target_set_retired(const struct journal_targets *targets, struct journal_target_entry *entry,
                                       bool retired)
{
        struct journal_target_entry *file = journal_target_file_entry(targets, entry);
        /* Relaxed: this thread stores it, and maintenance can wait for it. */
        atomic_store_explicit(&entry->retired, retired, memory_order_relaxed);
        if (file != NULL)
                atomic_store_explicit(&file->retired, retired, memory_order_relaxed);
}

/* The slots of a line, as they are now, into the file. */
static void journal_target_write_anew(const struct journal_targets *targets, uint32_t number)
{
        struct journal_target_entry *entry = journal_target_entry(targets, number);
        struct journal_target_entry *file = journal_target_file_entry(targets, entry);
        struct journal_owner_slot owner;
        struct journal_shard_slot shard;
        ASSERT(file != NULL);
        /* Their owners may store at the same time. What that tears fails its check at the next open, which then takes
         * the other slot or rebuilds it; their next store mends it. */
        journal_owner_slot_read(entry, &owner);
        journal_owner_slot_store(file, &owner);
        journal_shard_slot_read(entry, &shard);
        journal_shard_slot_store(file, &shard);
        atomic_store_explicit(&file->retired, atomic_load_explicit(&entry->retired, memory_order_relaxed),
                              memory_order_relaxed);
        memcpy(file->key, entry->key, sizeof(file->key));
        file->number = entry->number;
        file->key_bytes = entry->key_bytes;
        file->identity_crc = entry->identity_crc;
}

/* ------------------------------------------------------------------------------------------------------ identity */

static struct journal_targets_header *journal_targets_head(const struct journal_targets *targets)
{
        return (struct journal_targets_header *)(void *)(targets->file != NULL ? targets->file : targets->map);
}

static uint32_t journal_identity_crc(const struct journal_target_entry *entry)
{
        uint32_t crc = journal_crc(JOURNAL_VERSION, &entry->number, sizeof(entry->number) + sizeof(entry->key_bytes));
        return journal_crc(crc, entry->key, entry->key_bytes);
}

static bool journal_identity_is_right(const struct journal_target_entry *entry, uint32_t number)
{
        return entry->number == number && entry->key_bytes <= JOURNAL_TARGET_KEY_BYTES_MAX &&
               entry->key[entry->key_bytes] == '\0' && entry->identity_crc == journal_identity_crc(entry);
}

static enum err_code journal_targets_grow(struct journal *journal, uint32_t count, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        uint64_t need = JOURNAL_PAGE_BYTES + (uint64_t)count * sizeof(struct journal_target_entry);
        if (need <= targets->file_bytes)
                return ERR_OK;
        uint64_t bytes = targets->file_bytes;
        while (bytes < need)
                bytes += bytes < JOURNAL_PAGE_BYTES ? JOURNAL_PAGE_BYTES - bytes : JOURNAL_TARGETS_STEP_BYTES;
        int failed = disk_allocate(targets->fd, bytes);
        if (failed != 0)
                return err_set_errno(reterr, failed == EFBIG ? ERR_DISK_FULL : ERR_SYSTEM, failed,
                                     "cannot make room for %u targets in %s/targets", count, journal->directory);
        targets->file_bytes = bytes;
        return ERR_OK;
}

/* Makes line `count` a target with this key (empty: nobody's) and counts it. */
static enum err_code journal_targets_add(struct journal *journal, struct slice key, bool retired, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        uint32_t number = atomic_load_explicit(&targets->count, memory_order_relaxed);
        enum err_code code = journal_targets_grow(journal, number + 1, reterr);
        if (code != ERR_OK)
                return code;
        struct journal_target_entry *entry = journal_target_entry(targets, number);
        struct journal_target_entry *file = journal_target_file_entry(targets, entry);
        memset(entry, 0, sizeof(*entry));
        memset(file, 0, sizeof(*file));
        uint64_t position, sequence;
        journal_committed(journal, &position, &sequence);
        journal_owner_slot_write(targets, entry,
                                 &(struct journal_owner_slot){.position = position, .sequence = sequence});
        journal_shard_slot_write(
                targets, entry, &(struct journal_shard_slot){.upto_sequence = sequence - 1, .upto_position = position});
        journal_target_set_retired(targets, entry, retired);
        entry->number = (uint16_t)number;
        entry->key_bytes = (uint16_t)key.len;
        if (key.len > 0)
                memcpy(entry->key, key.ptr, key.len);
        entry->identity_crc = journal_identity_crc(entry);
        memcpy(file->key, entry->key, sizeof(file->key));
        file->number = entry->number;
        file->key_bytes = entry->key_bytes;
        file->identity_crc = entry->identity_crc;
        JOURNAL_STEP("target-written");
        /* Publishes the line to other threads and to `sendring ledger`. */
        atomic_store_explicit(&journal_targets_head(targets)->count, number + 1, memory_order_release);
        atomic_store_explicit(&targets->count, number + 1, memory_order_release);
        JOURNAL_STEP("target-counted");
        return ERR_OK;
}

enum err_code journal_targets_reserve_numbers(struct journal *journal, uint32_t count, struct err *reterr)
{
        while (atomic_load_explicit(&journal->targets.count, memory_order_relaxed) < count) {
                enum err_code code = journal_targets_add(journal, SLICE_EMPTY, true, reterr);
                if (code != ERR_OK)
                        return code;
        }
        return ERR_OK;
}

bool journal_targets_sync_failed(const struct journal_targets *targets)
{
        /* Relaxed: one thread at a time. */
        return atomic_load_explicit(&journal_targets_head(targets)->sync_failed, memory_order_relaxed) != 0;
}

void journal_note_sync(struct journal *journal)
{
        atomic_store_explicit(&journal_targets_head(&journal->targets)->sync_failed,
                              journal->sync_failed || journal->targets_sync_failed,
                              memory_order_relaxed); /* as above */
}

enum err_code journal_targets_sync(struct journal *journal, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        if (journal->durability != JOURNAL_DURABILITY_HOST)
                return ERR_OK;
        uint32_t count = atomic_load_explicit(&targets->count, memory_order_acquire);
        /* After a failure the kernel may believe that pages are written which are not: they are changed again first.
         * One operation each, since their owners store here. Relaxed: nothing changes. */
        for (uint32_t number = 0; number < count && journal->targets_sync_failed; number++)
                (void)atomic_fetch_add_explicit(
                        &journal_target_file_entry(targets, journal_target_entry(targets, number))->owner_active, 0,
                        memory_order_relaxed);
        if (journal->targets_sync_failed)
                (void)atomic_fetch_add_explicit(&journal_targets_head(targets)->count, 0, memory_order_relaxed);
        bool failed_before = journal->targets_sync_failed;
        journal->targets_sync_failed = disk_sync(targets->fd) < 0;
        if (journal->targets_sync_failed || failed_before)
                journal_note_sync(journal); /* leaves errno */
        if (!journal->targets_sync_failed)
                return ERR_OK;
        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync %s/targets", journal->directory);
}

void journal_target_shed_waiting(struct journal *journal, struct journal_target_entry *entry)
{
        struct journal_shard_slot shard, again;
        uint64_t position, sequence;
        /* Slots are written before the pair: a slot that did not change around the pair, and is not ahead of it, counts
         * everything up to the pair and nothing behind it. Ends: it is ahead only within a journal_publish(), and
         * changes only while an older plan still names the target. */
        journal_shard_slot_read(entry, &again);
        for (;;) {
                shard = again;
                journal_committed(journal, &position, &sequence);
                journal_shard_slot_read(entry, &again);
                if (shard.version == again.version && shard.upto_position <= position)
                        break;
                (void)sched_yield(); /* always succeeds on Linux */
        }
        struct journal_targets *targets = &journal->targets;
        struct journal_owner_slot owner;
        journal_owner_slot_read(entry, &owner);
        uint64_t settled = journal_owner_slot_settled(&owner);
        bool waits = shard.accepted > settled;
        if (!waits && owner.position >= position)
                return;
        if (waits)
                owner.shed += shard.accepted - settled;
        if (position > owner.position) {
                owner.position = position;
                owner.sequence = sequence;
        }
        journal_owner_slot_write(targets, entry, &owner);
}

enum err_code journal_target_register(struct journal *journal, struct slice key, uint16_t *ret_target,
                                      struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        ASSERT(!journal->read_only);
        if (key.len == 0 || key.len > JOURNAL_TARGET_KEY_BYTES_MAX || memchr(key.ptr, 0, key.len) != NULL)
                return err_set(reterr, ERR_NAME,
                               "a delivery target's key has 1 to %u bytes and no NUL; this one has %zu",
                               JOURNAL_TARGET_KEY_BYTES_MAX, key.len);
        uint32_t count = atomic_load_explicit(&targets->count, memory_order_relaxed);
        for (uint32_t number = 0; number < count; number++) {
                struct journal_target_entry *entry = journal_target_entry(targets, number);
                if (!slice_equal(slice_of(entry->key, entry->key_bytes), key))
                        continue;
                if (atomic_load_explicit(&entry->retired, memory_order_relaxed) != 0) {
                        /* Relaxed: maintenance, the only reader, is this thread. First shed, then live: a kill between
                         * them leaves it retired. */
                        journal_target_shed_waiting(journal, entry);
                        JOURNAL_STEP("target-shed");
                        journal_target_set_retired(targets, entry, false);
                }
                *ret_target = (uint16_t)number;
                return journal_targets_sync(journal, reterr);
        }
        if (count >= LIMIT_TARGETS_MAX)
                return err_set(reterr, ERR_LIMIT,
                               "no number left for delivery target %.*s: %s/targets knows %u, counting retired ones; "
                               "start with a new journal directory",
                               SLICE_PRINTF(key), journal->directory, count);
        enum err_code code = journal_targets_add(journal, key, false, reterr);
        if (code == ERR_OK)
                code = journal_targets_sync(journal, reterr);
        if (code == ERR_OK)
                *ret_target = (uint16_t)count;
        return code;
}

uint32_t journal_targets_count(const struct journal *journal)
{
        /* Pairs with the release in journal_targets_add(). */
        return atomic_load_explicit(&journal->targets.count, memory_order_acquire);
}

bool journal_target_get(const struct journal *journal, uint16_t target, struct journal_target_state *ret_state)
{
        if (target >= journal_targets_count(journal))
                return false;
        struct journal_target_entry *entry = journal_target_entry(&journal->targets, target);
        struct journal_owner_slot owner;
        struct journal_shard_slot shard;
        /* In this order: what the owner settled was accepted before, so the pair satisfies the equation. */
        journal_owner_slot_read(entry, &owner);
        journal_shard_slot_read(entry, &shard);
        *ret_state = (struct journal_target_state){
                .cursor_position = owner.position,
                .cursor_sequence = owner.sequence,
                .accepted = shard.accepted,
                .accepted_position = shard.upto_position,
                .accepted_sequence = shard.upto_sequence,
                .delivered = owner.delivered,
                .dead_lettered = owner.dead_lettered,
                .shed = owner.shed,
                .expired = owner.expired,
                .lost = shard.lost,
                .retired = atomic_load_explicit(&entry->retired, memory_order_relaxed) != 0,
        };
        memcpy(ret_state->key, entry->key, sizeof(ret_state->key));
        return true;
}

void journal_target_advance(struct journal *journal, uint16_t target, uint64_t position, uint64_t sequence,
                            const struct journal_settled *settled)
{
        ASSERT(target < journal_targets_count(journal));
        struct journal_target_entry *entry = journal_target_entry(&journal->targets, target);
        struct journal_owner_slot owner;
        journal_owner_slot_read(entry, &owner);
        ASSERT(position >= owner.position);
        ASSERT(position <= journal_committed_position(journal));
        owner.position = position;
        owner.sequence = sequence;
        owner.delivered += settled->delivered;
        owner.dead_lettered += settled->dead_lettered;
        owner.shed += settled->shed;
        owner.expired += settled->expired;
        journal_owner_slot_write(&journal->targets, entry, &owner);
}

void journal_target_retire(struct journal *journal, uint16_t target)
{
        ASSERT(target < journal_targets_count(journal));
        struct journal_target_entry *entry = journal_target_entry(&journal->targets, target);
        if (atomic_load_explicit(&entry->retired, memory_order_relaxed) != 0)
                return;
        /* First retired, then shed: a kill between them leaves it to the next maintenance. */
        journal_target_set_retired(&journal->targets, entry, true);
        JOURNAL_STEP("target-retired");
        journal_target_shed_waiting(journal, entry);
}

/* ------------------------------------------------------------------------------------------------------ open */

/* Chooses the good slot of each pair as the drawing says; false when there is none. *ret_repaired: not the active one.
 */
static bool journal_owner_slot_choose(struct journal_target_entry *entry, bool *ret_repaired)
{
        uint64_t active = atomic_load_explicit(&entry->owner_active, memory_order_relaxed);
        const struct journal_owner_slot *best = NULL;
        for (size_t i = 0; i < 2; i++) {
                const struct journal_owner_slot *slot = &entry->owner_slots[i];
                if (slot->crc != journal_owner_slot_crc(slot) || (slot->version & 1) != i ||
                    slot->position >= JOURNAL_POSITION_MAX || slot->position % JOURNAL_ALIGN_BYTES != 0 ||
                    slot->sequence >= JOURNAL_SEQUENCE_MAX)
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
                atomic_store_explicit(&entry->owner_active, best->version, memory_order_relaxed);
        return best != NULL;
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

static enum err_code journal_targets_load(struct journal *journal, struct journal_recovery *recovery,
                                          struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        struct journal_targets_header *header = (struct journal_targets_header *)(void *)targets->map;
        bool header_is_right = targets->file_bytes >= JOURNAL_PAGE_BYTES && header->magic == JOURNAL_TARGETS_MAGIC &&
                               header->crc == journal_crc(0, header, offsetof(struct journal_targets_header, crc));
        if (header_is_right && header->version != JOURNAL_VERSION)
                return err_set(reterr, ERR_VERSION,
                               "%s/targets has version %u, this program knows %u: use the program that wrote it",
                               journal->directory, header->version, JOURNAL_VERSION);
        uint64_t room = targets->file_bytes < JOURNAL_PAGE_BYTES
                                ? 0
                                : (targets->file_bytes - JOURNAL_PAGE_BYTES) / sizeof(struct journal_target_entry);
        if (room > LIMIT_TARGETS_MAX)
                room = LIMIT_TARGETS_MAX;
        uint32_t count = 0;
        if (header_is_right)
                count = atomic_load_explicit(&header->count, memory_order_acquire);
        if (count > room)
                count = (uint32_t)room;
        if (targets->read_only) {
                atomic_store_explicit(&targets->count, count, memory_order_relaxed);
                return ERR_OK;
        }
        /* A line is written before it is counted, and the header may be damaged: the lines speak for themselves. */
        for (uint32_t number = count; number < room; number++) {
                if (journal_identity_is_right(journal_target_entry(targets, number), number))
                        count = number + 1;
        }
        /* A restored copy may have holes; a page that the full disk has no block for would be a SIGBUS later. */
        int failed = targets->file_bytes == 0 ? 0 : disk_allocate(targets->fd, targets->file_bytes);
        if (failed != 0)
                return err_set_errno(reterr, ERR_SYSTEM, failed, "cannot allocate %s/targets", journal->directory);
        enum err_code code = journal_targets_grow(journal, count, reterr);
        if (code != ERR_OK)
                return code;
        header->magic = JOURNAL_TARGETS_MAGIC;
        header->version = JOURNAL_VERSION;
        header->entry_bytes = sizeof(struct journal_target_entry);
        header->crc = journal_crc(0, header, offsetof(struct journal_targets_header, crc));
        atomic_store_explicit(&header->count, count, memory_order_release);
        atomic_store_explicit(&targets->count, count, memory_order_relaxed);
        for (uint32_t number = 0; number < count; number++) {
                struct journal_target_entry *entry = journal_target_entry(targets, number);
                struct journal_target_recovery *found = &journal->target_recovery[number];
                if (!journal_identity_is_right(entry, number))
                        journal_target_disown(entry, number);
                bool owner_repaired, shard_repaired;
                found->owner_lost = !journal_owner_slot_choose(entry, &owner_repaired);
                found->shard_lost = !journal_shard_slot_choose(entry, &shard_repaired);
                struct journal_owner_slot owner;
                struct journal_shard_slot shard;
                journal_owner_slot_read(entry, &owner);
                journal_shard_slot_read(entry, &shard);
                found->cursor_position = found->owner_lost ? 0 : owner.position;
                found->upto_sequence = found->shard_lost ? 0 : shard.upto_sequence;
                if (owner_repaired || shard_repaired)
                        recovery->targets_repaired++;
        }
        /* Words that did not change are stored as they were. */
        memcpy(targets->file, targets->map, JOURNAL_PAGE_BYTES + count * sizeof(struct journal_target_entry));
        return ERR_OK;
}

enum err_code journal_targets_open(struct journal *journal, struct journal_recovery *recovery, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        targets->read_only = journal->read_only;
        int flags = (journal->read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_NOFOLLOW;
        targets->fd = disk_open(journal->directory_fd, "targets", flags, 0600);
        if (targets->fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s/targets", journal->directory);
        struct stat status;
        if (disk_stat(targets->fd, &status) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s/targets", journal->directory);
        targets->file_bytes = (uint64_t)status.st_size;
        targets->map_bytes = JOURNAL_TARGETS_BYTES_MAX;
        uint8_t *map = disk_map(targets->fd, targets->map_bytes, !journal->read_only);
        if (map == NULL)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot map %s/targets", journal->directory);
        if (journal->read_only) {
                targets->map = map;
        } else {
                targets->file = map;
                targets->lost = disk_lost(map);
                void *own = mmap(NULL, targets->map_bytes, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                if (own == MAP_FAILED)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "out of memory for %s/targets",
                                             journal->directory);
                targets->map = own;
                memcpy(own, map, targets->file_bytes < targets->map_bytes ? targets->file_bytes : targets->map_bytes);
        }
        return journal_targets_load(journal, recovery, reterr);
}

void journal_targets_refresh(struct journal_targets *targets)
{
        struct stat status;
        if (disk_stat(targets->fd, &status) < 0 || (uint64_t)status.st_size < JOURNAL_PAGE_BYTES)
                return;
        targets->file_bytes = (uint64_t)status.st_size;
        uint64_t room = (targets->file_bytes - JOURNAL_PAGE_BYTES) / sizeof(struct journal_target_entry);
        const struct journal_targets_header *header = (const struct journal_targets_header *)(void *)targets->map;
        /* Pairs with the release in journal_targets_add() of the writing process. */
        uint32_t count = atomic_load_explicit(&header->count, memory_order_acquire);
        if (header->magic == JOURNAL_TARGETS_MAGIC && count <= room && count <= LIMIT_TARGETS_MAX)
                atomic_store_explicit(&targets->count, count, memory_order_relaxed);
}

enum err_code journal_targets_heal(struct journal *journal, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        /* Acquire: pairs with the release in the handler of io/disk_guard.c. */
        if (atomic_load_explicit(targets->lost, memory_order_acquire) == 0)
                return ERR_OK;
        int failed = disk_allocate(targets->fd, targets->file_bytes);
        if (failed != 0)
                return err_set_errno(
                        reterr, ERR_SYSTEM, failed,
                        "%s/targets has lost pages, and cannot be written anew: cursors and counts of now are "
                        "in memory only",
                        journal->directory);
        if (disk_map_again(targets->fd, targets->file, targets->map_bytes) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot map %s/targets again", journal->directory);
        uint32_t count = journal_targets_count(journal);
        struct journal_targets_header *header = journal_targets_head(targets);
        memcpy(header, targets->map, offsetof(struct journal_targets_header, count));
        for (uint32_t number = 0; number < count; number++)
                journal_target_write_anew(targets, number);
        atomic_store_explicit(&header->count, count, memory_order_release);
        journal_note_sync(journal);
        return err_set(reterr, ERR_CORRUPT,
                       "pages of %s/targets were lost: somebody cut the file, or the disk fails; it is written anew",
                       journal->directory);
}

void journal_targets_close(struct journal_targets *targets)
{
        if (targets->file != NULL)
                disk_unmap(targets->file, targets->map_bytes);
        if (targets->map != NULL && targets->read_only)
                disk_unmap(targets->map, targets->map_bytes);
        else if (targets->map != NULL)
                (void)munmap(targets->map, targets->map_bytes); /* cannot fail for our own mapping */
        if (targets->fd >= 0)
                (void)disk_close(targets->fd); /* written through the mapping only */
        targets->map = targets->file = NULL;
        targets->fd = -1;
}
