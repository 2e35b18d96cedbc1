/* The targets file: who may be delivered to, how far each of them is, and the counts. Drawn in journal.h. */
#include "journal/journal_internal.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------------ slots */

#define JOURNAL_OWNER_SEED 0x4f574e45u
#define JOURNAL_SHARD_SEED 0x53484152u

uint32_t journal_owner_slot_crc(const struct journal_owner_slot *slot)
{
        uint32_t crc = crc32c(JOURNAL_OWNER_SEED, slot, offsetof(struct journal_owner_slot, crc));
        if (slot->lost_records == 0 && slot->lost == 0)
                return crc; /* as in files of before there were these */
        return crc32c(crc, &slot->lost_records, sizeof(slot->lost_records) + sizeof(slot->lost));
}

uint32_t journal_shard_slot_crc(const struct journal_shard_slot *slot)
{
        uint32_t crc = crc32c(JOURNAL_SHARD_SEED, slot, offsetof(struct journal_shard_slot, crc));
        /* Files of before there was a `lost` have 0 there. */
        return slot->lost == 0 ? crc : crc32c(crc, &slot->lost, sizeof(slot->lost));
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

static void journal_slot_copy_out(void *ret, const void *slot, size_t bytes)
{
        uint64_t *words = (uint64_t *)ret;
        const _Atomic uint64_t *from = (const _Atomic uint64_t *)slot;
        for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
                /* S2: pairs with S1 in journal_slot_copy_in(). */
                words[i] = atomic_load_explicit(&from[i], memory_order_acquire);
}

void journal_owner_slot_load(const struct journal_target_entry *entry, uint64_t version,
                             struct journal_owner_slot *ret_slot)
{
        memcpy(ret_slot, entry->owner_slots[version & 1], JOURNAL_OWNER_SLOT_BYTES);
        ret_slot->lost = entry->owner_lost[version & 1];
}

void journal_owner_slot_put(struct journal_target_entry *entry, const struct journal_owner_slot *slot)
{
        memcpy(entry->owner_slots[slot->version & 1], slot, JOURNAL_OWNER_SLOT_BYTES);
        entry->owner_lost[slot->version & 1] = slot->lost;
}

/* Both end: a round is repeated only when the one writer has made another update meanwhile. The second load of `active`
 * is relaxed: it is ordered behind the acquire loads of the words. */
void journal_owner_slot_read(struct journal_target_entry *entry, struct journal_owner_slot *ret_slot)
{
        uint64_t version;
        do {
                version = atomic_load_explicit(&entry->owner_active, memory_order_acquire);
                journal_slot_copy_out(ret_slot, entry->owner_slots[version & 1], JOURNAL_OWNER_SLOT_BYTES);
                journal_slot_copy_out(&ret_slot->lost, &entry->owner_lost[version & 1], sizeof(ret_slot->lost));
        } while (atomic_load_explicit(&entry->owner_active, memory_order_relaxed) != version);
}

void journal_shard_slot_read(struct journal_target_entry *entry, struct journal_shard_slot *ret_slot)
{
        uint64_t version;
        do {
                version = atomic_load_explicit(&entry->shard_active, memory_order_acquire);
                journal_slot_copy_out(ret_slot, &entry->shard_slots[version & 1], sizeof(*ret_slot));
        } while (atomic_load_explicit(&entry->shard_active, memory_order_relaxed) != version);
}

struct journal_target_entry *journal_target_file_entry(const struct journal_targets *targets,
                                                       const struct journal_target_entry *entry)
{
        if (targets->file == NULL)
                return NULL;
        return (struct journal_target_entry *)(void *)(targets->file + ((const uint8_t *)entry - targets->map));
}

static void journal_owner_slot_store(struct journal_target_entry *entry, const struct journal_owner_slot *slot)
{
        journal_slot_copy_in(&entry->owner_lost[slot->version & 1], &slot->lost, sizeof(slot->lost));
        journal_slot_copy_in(entry->owner_slots[slot->version & 1], slot, JOURNAL_OWNER_SLOT_BYTES);
        JOURNAL_STEP("owner-slot-written");
        /* Makes the slot the good one; pairs with the acquire in journal_owner_slot_read(). */
        atomic_store_explicit(&entry->owner_active, slot->version, memory_order_release);
        JOURNAL_STEP("owner-slot-active");
}

void journal_owner_slot_write(struct journal_targets *targets, struct journal_target_entry *entry,
                              struct journal_owner_slot *slot)
{
        struct journal_target_entry *file = journal_target_file_entry(targets, entry);
        /* Relaxed: this thread is the only writer. */
        slot->version = atomic_load_explicit(&entry->owner_active, memory_order_relaxed) + 1;
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

void journal_target_set_retired(const struct journal_targets *targets, struct journal_target_entry *entry, bool retired)
{
        struct journal_target_entry *file = journal_target_file_entry(targets, entry);
        /* Relaxed: stored under the mutex; who reads it without can wait for it. */
        atomic_store_explicit(&entry->retired, retired, memory_order_relaxed);
        if (file != NULL)
                atomic_store_explicit(&file->retired, retired, memory_order_relaxed);
}

/* The line, as it is now, into the file. Their owners may store at the same time: then once more, so that what stands
 * there in the end is the newest, and whole. A kill in between may leave a torn slot, which the next open knows. */
static void journal_target_write_anew(const struct journal_targets *targets, uint32_t number)
{
        struct journal_target_entry *entry = journal_target_entry(targets, number);
        struct journal_target_entry *file = journal_target_file_entry(targets, entry);
        struct journal_owner_slot owner;
        struct journal_shard_slot shard;
        ASSERT(file != NULL);
        do {
                journal_owner_slot_read(entry, &owner);
                journal_owner_slot_store(file, &owner);
                /* W1: an owner stores into the memory before it stores into the file. Whoever has not seen a newer
                 * `active` there by now has stored first. */
                atomic_thread_fence(memory_order_seq_cst);
        } while (atomic_load_explicit(&entry->owner_active, memory_order_relaxed) != owner.version);
        do {
                journal_shard_slot_read(entry, &shard);
                journal_shard_slot_store(file, &shard);
                atomic_thread_fence(memory_order_seq_cst); /* W1 */
        } while (atomic_load_explicit(&entry->shard_active, memory_order_relaxed) != shard.version);
        atomic_store_explicit(&file->retired, atomic_load_explicit(&entry->retired, memory_order_relaxed),
                              memory_order_relaxed);
        memcpy(file->key, entry->key, sizeof(file->key));
        file->number = entry->number;
        file->key_bytes = entry->key_bytes;
        file->identity_crc = entry->identity_crc;
}

/* ------------------------------------------------------------------------------------------------------ identity */

struct journal_targets_header *journal_targets_head(const struct journal_targets *targets)
{
        return (struct journal_targets_header *)(void *)(targets->file != NULL ? targets->file : targets->map);
}

uint32_t journal_identity_crc(const struct journal_target_entry *entry)
{
        uint32_t crc = crc32c(JOURNAL_VERSION, &entry->number, sizeof(entry->number) + sizeof(entry->key_bytes));
        return crc32c(crc, entry->key, entry->key_bytes);
}

bool journal_identity_is_right(const struct journal_target_entry *entry, uint32_t number)
{
        return entry->number == number && entry->key_bytes <= JOURNAL_TARGET_KEY_BYTES_MAX &&
               entry->key[entry->key_bytes] == '\0' && entry->identity_crc == journal_identity_crc(entry);
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
        /* Relaxed: at open. */
        return atomic_load_explicit(&journal_targets_head(targets)->sync_failed, memory_order_relaxed) != 0;
}

void journal_note_sync(struct journal *journal)
{
        /* Relaxed: who stores sync_failed calls this afterwards; the last one to come knows both. */
        atomic_store_explicit(&journal_targets_head(&journal->targets)->sync_failed,
                              atomic_load_explicit(&journal->sync_failed, memory_order_relaxed) ||
                                      journal->targets_sync_failed,
                              memory_order_relaxed);
}

void journal_targets_write_anew(struct journal *journal)
{
        const struct journal_targets *targets = &journal->targets;
        struct journal_targets_header *header = journal_targets_head(targets);
        uint32_t count = journal_targets_count(journal);
        memcpy(header, targets->map, offsetof(struct journal_targets_header, count));
        for (uint32_t number = 0; number < count; number++)
                journal_target_write_anew(targets, number);
        atomic_store_explicit(&header->count, count, memory_order_release);
        journal_note_sync(journal);
}

/* Under the mutex. */
static enum err_code journal_targets_write_out(struct journal *journal, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        /* After a failure the kernel may believe that pages are written which are not, and have dropped what they held:
         * they get it from memory once more. */
        if (journal->targets_sync_failed)
                journal_targets_write_anew(journal);
        bool failed_before = journal->targets_sync_failed;
        journal->targets_sync_failed = disk_sync(targets->fd) < 0;
        if (journal->targets_sync_failed || failed_before)
                journal_note_sync(journal); /* leaves errno */
        if (!journal->targets_sync_failed) {
                /* Relaxed: under the mutex; whoever reads it without makes sure here, or comes again. */
                atomic_store_explicit(&journal->names_unsynced, false, memory_order_relaxed);
                return ERR_OK;
        }
        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync %s/targets", journal->directory);
}

enum err_code journal_targets_sync_held(struct journal *journal, struct err *reterr)
{
        return journal->durability == JOURNAL_DURABILITY_HOST ? journal_targets_write_out(journal, reterr) : ERR_OK;
}

enum err_code journal_targets_sync(struct journal *journal, struct err *reterr)
{
        (void)pthread_mutex_lock(&journal->targets.mutex); /* cannot fail: a plain mutex, never taken twice */
        enum err_code code = journal_targets_sync_held(journal, reterr);
        (void)pthread_mutex_unlock(&journal->targets.mutex);
        return code;
}

enum err_code journal_targets_sync_names(struct journal *journal, struct err *reterr)
{
        /* Relaxed: set before anything is appended that names such a target. */
        if (!atomic_load_explicit(&journal->names_unsynced, memory_order_relaxed))
                return ERR_OK;
        /* Acquire: pairs with the release in the handler of io/disk_guard.c. */
        if (atomic_load_explicit(journal->targets.lost, memory_order_acquire) != 0)
                return err_set(reterr, ERR_SYSTEM, "pages of %s/targets are lost", journal->directory);
        return journal_targets_sync(journal, reterr);
}

enum err_code journal_targets_make_durable(struct journal *journal, struct err *reterr)
{
        enum err_code code;
        (void)pthread_mutex_lock(&journal->targets.mutex); /* cannot fail: a plain mutex, never taken twice */
        /* Acquire: pairs with the release in the handler of io/disk_guard.c. */
        if (atomic_load_explicit(journal->targets.lost, memory_order_acquire) != 0)
                code = err_set(reterr, ERR_SYSTEM, "pages of %s/targets are lost", journal->directory);
        else
                code = journal_targets_write_out(journal, reterr);
        if (code == ERR_OK)
                code = journal_targets_copy(journal, reterr);
        (void)pthread_mutex_unlock(&journal->targets.mutex);
        return code;
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
        owner.lost_records = 0; /* what of them was its is among the shed */
        journal_owner_slot_write(targets, entry, &owner);
}

/* Finds or adds it; under the mutex. *ret_entered: it was not live before. */
static enum err_code journal_target_enter(struct journal *journal, struct slice key, uint16_t *ret_target,
                                          bool *ret_entered, struct err *reterr)
{
        struct journal_targets *targets = &journal->targets;
        uint32_t count = atomic_load_explicit(&targets->count, memory_order_relaxed);
        for (uint32_t number = 0; number < count; number++) {
                struct journal_target_entry *entry = journal_target_entry(targets, number);
                if (!slice_equal(slice_of(entry->key, entry->key_bytes), key))
                        continue;
                *ret_entered = atomic_load_explicit(&entry->retired, memory_order_relaxed) != 0;
                if (*ret_entered) {
                        /* First shed, then live: a kill between them leaves it retired. */
                        journal_target_shed_waiting(journal, entry);
                        JOURNAL_STEP("target-shed");
                        journal_target_set_retired(targets, entry, false);
                }
                *ret_target = (uint16_t)number;
                return ERR_OK;
        }
        if (count >= LIMIT_TARGETS_MAX)
                return err_set(reterr, ERR_LIMIT,
                               "no number left for delivery target %.*s: %s/targets knows %u, counting retired ones; "
                               "start with a new journal directory",
                               SLICE_PRINTF(key), journal->directory, count);
        *ret_target = (uint16_t)count;
        *ret_entered = true;
        return journal_targets_add(journal, key, false, reterr);
}

enum err_code journal_target_register(struct journal *journal, struct slice key, uint16_t *ret_target,
                                      struct err *reterr)
{
        uint16_t target = 0;
        bool entered = false;
        ASSERT(!journal->read_only);
        if (key.len == 0 || key.len > JOURNAL_TARGET_KEY_BYTES_MAX || memchr(key.ptr, 0, key.len) != NULL)
                return err_set(reterr, ERR_NAME,
                               "a delivery target's key has 1 to %u bytes and no NUL; this one has %zu",
                               JOURNAL_TARGET_KEY_BYTES_MAX, key.len);
        (void)pthread_mutex_lock(&journal->targets.mutex); /* cannot fail: a plain mutex, never taken twice */
        enum err_code code = journal_target_enter(journal, key, &target, &entered, reterr);
        if (code == ERR_OK) {
                code = journal_targets_sync_held(journal, reterr);
                /* Relaxed: the shard has stored it long ago, if it was to be seen. */
                if (code != ERR_OK && atomic_load_explicit(&journal->stat_records, memory_order_relaxed) == 0) {
                        /* A start: what waits is delivered. Release: whoever syncs what comes sees it before. */
                        atomic_store_explicit(&journal->names_unsynced, true, memory_order_release);
                        code = ERR_OK;
                }
                /* The caller does not have it: a live target that nobody owns would hold every segment. */
                if (code != ERR_OK && entered)
                        journal_target_set_retired(&journal->targets, journal_target_entry(&journal->targets, target),
                                                   true);
        }
        if (code == ERR_OK) {
                journal_targets_spare(journal);
                (void)journal_targets_copy(journal, NULL); /* the next maintenance tries again, and says what failed */
        }
        (void)pthread_mutex_unlock(&journal->targets.mutex);
        if (code == ERR_OK)
                *ret_target = target;
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
                .accepted = shard.accepted - owner.lost,
                .accepted_position = shard.upto_position,
                .accepted_sequence = shard.upto_sequence,
                .delivered = owner.delivered,
                .dead_lettered = owner.dead_lettered,
                .shed = owner.shed,
                .expired = owner.expired,
                .lost = shard.lost + owner.lost,
                .lost_records = owner.lost_records,
                .retired = atomic_load_explicit(&entry->retired, memory_order_relaxed) != 0,
        };
        memcpy(ret_state->key, entry->key, sizeof(ret_state->key));
        return true;
}

/* When nothing that was accepted is behind the cursor, what is not settled is what was lost, if so many lost records
 * can have held it. */
static void journal_owner_slot_reckon(struct journal_target_entry *entry, struct journal_owner_slot *owner)
{
        struct journal_shard_slot shard;
        /* The cursor is not ahead of the committed position, and slots are written before that is: this one counts all
         * that lies before the cursor. */
        journal_shard_slot_read(entry, &shard);
        const uint64_t settled = journal_owner_slot_settled(owner);
        if (shard.upto_position > owner->position || shard.accepted < settled ||
            !journal_losses_explain(shard.accepted - settled, owner->lost_records))
                return;
        owner->lost += shard.accepted - settled;
        owner->lost_records = 0;
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
        /* An idle owner stands where it stood: nothing is written, in the copy neither. */
        if (position == owner.position && sequence == owner.sequence && settled->delivered == 0 &&
            settled->dead_lettered == 0 && settled->shed == 0 && settled->expired == 0)
                return;
        const uint64_t from = owner.position;
        owner.position = position;
        owner.sequence = sequence;
        owner.delivered += settled->delivered;
        owner.dead_lettered += settled->dead_lettered;
        owner.shed += settled->shed;
        owner.expired += settled->expired;
        /* Relaxed: whoever moves a cursor over a loss has found it, or was told by who did. */
        if (__builtin_expect(from < atomic_load_explicit(&journal->losses_end, memory_order_relaxed), 0)) {
                const uint64_t records = owner.lost_records + journal_losses_between(journal, from, position);
                owner.lost_records = records < UINT32_MAX ? (uint32_t)records : UINT32_MAX;
        }
        if (__builtin_expect(owner.lost_records > 0, 0))
                journal_owner_slot_reckon(entry, &owner);
        journal_owner_slot_write(&journal->targets, entry, &owner);
}

void journal_target_shed_delivered(struct journal *journal, uint16_t target, uint64_t events)
{
        ASSERT(target < journal_targets_count(journal));
        struct journal_target_entry *entry = journal_target_entry(&journal->targets, target);
        struct journal_owner_slot owner;
        journal_owner_slot_read(entry, &owner);
        ASSERT(owner.shed >= events);
        owner.shed -= events;
        owner.delivered += events;
        journal_owner_slot_write(&journal->targets, entry, &owner);
}

void journal_target_retire(struct journal *journal, uint16_t target)
{
        ASSERT(target < journal_targets_count(journal));
        struct journal_target_entry *entry = journal_target_entry(&journal->targets, target);
        (void)pthread_mutex_lock(&journal->targets.mutex); /* cannot fail: a plain mutex, never taken twice */
        if (atomic_load_explicit(&entry->retired, memory_order_relaxed) == 0) {
                /* First retired, then shed: a kill between them leaves it to the next maintenance. */
                journal_target_set_retired(&journal->targets, entry, true);
                JOURNAL_STEP("target-retired");
                journal_target_shed_waiting(journal, entry);
        }
        (void)pthread_mutex_unlock(&journal->targets.mutex);
}
