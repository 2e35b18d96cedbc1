#include "egress/outbox.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "io/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Labels of the instants at which the crash test takes a copy of the file. */
#ifdef OUTBOX_TEST_STEPS
void outbox_test_step(const char *label);
#define OUTBOX_STEP(label) outbox_test_step(label)
#else
#define OUTBOX_STEP(label) \
        do {               \
        } while (0)
#endif

#define OUTBOX_MAGIC       UINT64_C(0x31626f72646e6573) /* "sendrob1" */
#define OUTBOX_SEALED      UINT64_C(0x000044454c414553) /* "SEALED" */
#define OUTBOX_VERSION     5u
#define OUTBOX_CRC_SEED    0x4f555442u
#define OUTBOX_IN_FLIGHT   (UINT64_C(1) << 32)
#define OUTBOX_MOVED       (UINT64_C(1) << 33)
#define OUTBOX_PAGE_BYTES  4096u
#define OUTBOX_LOCK_TRIES  100u /* a predecessor that was just killed */
#define OUTBOX_LOCK_NAP_NS (10 * CLOCK_NS_PER_MS)

struct outbox_chunk {
        uint64_t offset;
        uint32_t bytes;
        uint32_t crc;
        uint32_t data;
        uint32_t counts;
        int64_t oldest_ms;
};

struct outbox_header {
        uint64_t magic;
        uint32_t version;
        uint32_t chunks_count;
        uint64_t key_hash;
        uint32_t shards_count;
        uint32_t crc;
        int64_t closed_ms;
        uint64_t zero[3];
        _Atomic uint64_t sealed;
        _Atomic uint64_t progress;
        _Atomic uint64_t given_up;
        uint64_t zero_too[5];
        struct outbox_place places[LIMIT_LOGS_MAX];
        struct outbox_chunk chunks[OUTBOX_CHUNKS_MAX];
};

_Static_assert(offsetof(struct outbox_header, version) == 8, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_header, chunks_count) == 12, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_header, key_hash) == 16, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_header, shards_count) == 24, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_header, crc) == 28, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_header, closed_ms) == 32, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_header, sealed) == 64, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_header, progress) == 72, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_header, given_up) == 80, "drawn in outbox.h");
_Static_assert(OUTBOX_CHUNKS_MAX <= 64, "a bit of `given_up` each");
_Static_assert(offsetof(struct outbox_header, places) == 128, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_header, chunks) == 14208, "drawn in outbox.h");
_Static_assert(sizeof(struct outbox_header) == 16256, "drawn in outbox.h");
_Static_assert(sizeof(struct outbox_header) <= OUTBOX_HEADER_BYTES, "the header fits its page");
_Static_assert(offsetof(struct outbox_place, begin_position) == 8, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_place, end_position) == 24, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_place, settled) == 40, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_place, begin_delivered) == 72, "drawn in outbox.h");
_Static_assert(sizeof(struct outbox_place) == 80, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_chunk, crc) == 12, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_chunk, data) == 16, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_chunk, counts) == 20, "drawn in outbox.h");
_Static_assert(offsetof(struct outbox_chunk, oldest_ms) == 24, "drawn in outbox.h");
_Static_assert(sizeof(struct outbox_chunk) == 32, "drawn in outbox.h");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "words in a mapping must be lock-free");

struct outbox {
        char *path;
        int fd;
        uint64_t key_hash;
        uint32_t shards_count;
        uint32_t log_ids[LIMIT_LOGS_MAX];
        struct outbox_place places[LIMIT_LOGS_MAX]; /* of the sealed period, by the index of now */
        uint64_t file_bytes;
        struct outbox_header *header; /* what this process goes by: `own` */
        struct outbox_header *file;   /* what the next one finds: every store of a sealed period after it */
        struct outbox_header own;
        uint8_t *bytes;               /* the mapping */
        const _Atomic uint32_t *lost; /* its pages that could not be backed (io/disk.h) */
        uint64_t end;                 /* of the bodies written so far */
        bool name_doubted;            /* the directory's entry may not be on the disk */
        bool pages_doubted;           /* a sync may have failed: the kernel may take pages for written which are not */
};

static uint32_t outbox_header_crc(const struct outbox_header *header)
{
        uint32_t crc = crc32c(OUTBOX_CRC_SEED, header, offsetof(struct outbox_header, crc));
        crc = crc32c(crc, &header->closed_ms, sizeof(header->closed_ms));
        crc = crc32c(crc, header->places, sizeof(header->places));
        return crc32c(crc, header->chunks, header->chunks_count * sizeof(header->chunks[0]));
}

static uint64_t outbox_align(uint64_t bytes)
{
        return (bytes + OUTBOX_ALIGN_BYTES - 1) & ~(uint64_t)(OUTBOX_ALIGN_BYTES - 1);
}

uint64_t outbox_budget_bytes(uint64_t data_bytes_max)
{
        return OUTBOX_HEADER_BYTES + outbox_align(data_bytes_max);
}

/* ---------------------------------------------------------------------------------------------- names */

uint64_t outbox_key_hash(struct slice key)
{
        uint64_t hash = UINT64_C(0xcbf29ce484222325);
        for (size_t i = 0; i < key.len; i++)
                hash = (hash ^ key.ptr[i]) * UINT64_C(0x100000001b3);
        return hash;
}

bool outbox_path(const char *directory, struct slice key, char *out, size_t out_bytes)
{
        int used = snprintf(out, out_bytes, "%s/%016" PRIx64 ".outbox", directory, outbox_key_hash(key));
        return used > 0 && (size_t)used < out_bytes;
}

uint32_t outbox_sweep(const char *directory, const struct slice *keys, uint32_t keys_count)
{
        uint32_t removed = 0;
        int directory_fd = disk_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0);
        struct disk_list *list = directory_fd < 0 ? NULL : disk_list_open(directory_fd, ".");
        if (directory_fd >= 0 && list == NULL)
                (void)disk_close(directory_fd); /* a directory */
        if (list == NULL)
                return 0; /* no target has made it yet */
        for (const char *found = disk_list_next(list); found != NULL; found = disk_list_next(list)) {
                struct slice name = slice_of_text(found);
                bool wanted = !slice_has_suffix(name, SLICE(".outbox")) && !slice_has_suffix(name, SLICE(".series"));
                for (uint32_t i = 0; i < keys_count && !wanted; i++) {
                        char hash[17];
                        (void)snprintf(hash, sizeof(hash), "%016" PRIx64, outbox_key_hash(keys[i])); /* it fits */
                        wanted = slice_equal(slice_head(name, slice_find_byte(name, '.')), slice_of_text(hash));
                }
                removed += !wanted && disk_unlink(directory_fd, found) == 0;
        }
        disk_list_close(list);
        (void)disk_close(directory_fd); /* a directory */
        return removed;
}

/* ---------------------------------------------------------------------------------------------- open */

static enum err_code outbox_lock(struct outbox *outbox, struct err *reterr)
{
        struct stat status;
        outbox->fd = disk_open(AT_FDCWD, outbox->path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
        if (outbox->fd < 0)
                return err_set_errno(reterr, errno == ELOOP ? ERR_CONFIG : ERR_SYSTEM, errno, "cannot open %s",
                                     outbox->path);
        if (disk_stat(outbox->fd, &status) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s", outbox->path);
        if (!S_ISREG(status.st_mode))
                return err_set(reterr, ERR_CONFIG, "%s is no regular file: remove it", outbox->path);
        outbox->file_bytes = (uint64_t)status.st_size;
        for (uint32_t i = 0; disk_lock(outbox->fd) < 0; i++) {
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot lock %s", outbox->path);
                if (i == OUTBOX_LOCK_TRIES)
                        return err_set(reterr, ERR_LOCKED, "%s is in use by another process", outbox->path);
                clock_nap_ns(OUTBOX_LOCK_NAP_NS);
        }
        return ERR_OK;
}

/* The file's name is on the disk afterwards; false, and errno: it may not be. */
static bool outbox_sync_name(struct outbox *outbox)
{
        char directory[PATH_MAX];
        (void)file_directory_of(outbox->path, directory); /* it fits: open had it */
        int fd = disk_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0);
        if (fd < 0)
                return false;
        outbox->name_doubted = disk_sync_directory(fd) < 0;
        (void)disk_close(fd); /* read only */
        return !outbox->name_doubted;
}

/* Why what the file holds cannot be used; NULL: it can, or there is nothing. */
static const char *outbox_judge(const struct outbox *outbox, uint64_t found_bytes)
{
        const struct outbox_header *header = outbox->header;
        uint64_t end = OUTBOX_HEADER_BYTES;
        uint64_t progress = atomic_load_explicit(&header->progress, memory_order_acquire);
        if (header->magic != OUTBOX_MAGIC || header->version != OUTBOX_VERSION)
                return "it is of another version, or no outbox";
        if (header->key_hash != outbox->key_hash)
                return "it belongs to another target";
        if (header->chunks_count == 0 || header->chunks_count > OUTBOX_CHUNKS_MAX ||
            header->crc != outbox_header_crc(header))
                return "its header fails the check";
        for (uint32_t i = 0; i < header->chunks_count; i++) {
                const struct outbox_chunk *chunk = &header->chunks[i];
                if (chunk->offset != end || chunk->bytes == 0 || chunk->bytes > found_bytes ||
                    chunk->offset > found_bytes - chunk->bytes ||
                    chunk->crc != crc32c(OUTBOX_CRC_SEED, outbox->bytes + chunk->offset, chunk->bytes))
                        return "a body fails the check";
                end = outbox_align(chunk->offset + chunk->bytes);
        }
        if (progress >= 2 * OUTBOX_MOVED || (uint32_t)progress > header->chunks_count ||
            ((progress & OUTBOX_IN_FLIGHT) != 0 && (uint32_t)progress == header->chunks_count))
                return "its progress makes no sense";
        return NULL;
}

/* The places by the index that their logs have now. False: one is unknown. */
static bool outbox_find_places(struct outbox *outbox)
{
        for (uint32_t i = 0; i < LIMIT_LOGS_MAX; i++) {
                const struct outbox_place *place = &outbox->header->places[i];
                uint32_t index = 0;
                if (place->touched == 0)
                        continue;
                while (index < outbox->shards_count && place->touched != UINT64_C(1) + outbox->log_ids[index])
                        index++;
                if (index == outbox->shards_count)
                        return false;
                outbox->places[index] = *place;
        }
        return true;
}

enum err_code outbox_open(const struct outbox_options *options, struct outbox **ret_outbox,
                          struct outbox_found *ret_found, struct err *reterr)
{
        struct outbox_found found = {.dropped = NULL};
        ASSERT(options->shards_count > 0 && options->shards_count <= LIMIT_LOGS_MAX);
        ASSERT(options->data_bytes_max > 0 && options->data_bytes_max <= OUTBOX_DATA_BYTES_MAX);
        struct outbox *outbox = calloc(1, sizeof(*outbox));
        if (outbox == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for %s", options->path);
        outbox->fd = -1;
        outbox->key_hash = options->key_hash;
        outbox->shards_count = options->shards_count;
        for (uint32_t i = 0; i < options->shards_count; i++)
                outbox->log_ids[i] = options->log_ids != NULL ? options->log_ids[i] : i;
        outbox->path = strdup(options->path);
        enum err_code code = outbox->path != NULL ? outbox_lock(outbox, reterr)
                                                  : err_set(reterr, ERR_MEMORY, "out of memory for %s", options->path);
        if (code != ERR_OK)
                goto out;
        /* A file that is longer, by an earlier version perhaps, stays as it is: its bodies may be needed. */
        uint64_t found_bytes = outbox->file_bytes;
        outbox->pages_doubted = true; /* by an earlier process */
        uint64_t wanted_bytes = outbox_budget_bytes(options->data_bytes_max);
        if (found_bytes > OUTBOX_HEADER_BYTES + (uint64_t)OUTBOX_DATA_BYTES_MAX)
                found_bytes = OUTBOX_HEADER_BYTES + (uint64_t)OUTBOX_DATA_BYTES_MAX; /* not ours in full */
        outbox->file_bytes = found_bytes > wanted_bytes ? found_bytes : wanted_bytes;
        int failed = disk_allocate(outbox->fd, outbox->file_bytes);
        if (failed != 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, failed, "cannot reserve %llu bytes for %s",
                                     (unsigned long long)outbox->file_bytes, outbox->path);
                goto out;
        }
        /* One that was there, too: nobody knows whether who made it could do this. Where it fails, it is tried again
         * before anything depends on it. */
        outbox->name_doubted = true;
        (void)outbox_sync_name(outbox);
        void *map = disk_map(outbox->fd, outbox->file_bytes, true);
        if (map == NULL) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot map %s", outbox->path);
                goto out;
        }
        outbox->bytes = map;
        outbox->lost = disk_lost(map);
        outbox->file = map;
        outbox->header = &outbox->own;
        /* Acquire: nothing of the period is looked at before the word that says it is whole. */
        uint64_t sealed = atomic_load_explicit(&outbox->file->sealed, memory_order_acquire);
        memcpy(&outbox->own, map, sizeof(outbox->own));
        if (sealed == OUTBOX_SEALED)
                found.dropped = outbox_judge(outbox, found_bytes);
        else if (sealed != 0)
                found.dropped = "it is of another version, or no outbox";
        if (sealed == OUTBOX_SEALED && found.dropped == NULL && !outbox_find_places(outbox))
                found.dropped = "a log that it counts is no more";
        if (sealed == OUTBOX_SEALED && found.dropped == NULL) {
                found.chunks = outbox_chunks(outbox);
                found.acknowledged = outbox_acknowledged(outbox);
                found.in_flight = outbox_in_flight(outbox);
        } else {
                if (sealed == OUTBOX_SEALED && outbox_acknowledged(outbox) <= OUTBOX_CHUNKS_MAX)
                        found.acknowledged = outbox_acknowledged(outbox); /* where it lies in every version */
                outbox_clear(outbox);
        }
out:
        if (code != ERR_OK) {
                outbox_close(outbox);
                return code;
        }
        if (ret_found != NULL)
                *ret_found = found;
        *ret_outbox = outbox;
        return ERR_OK;
}

void outbox_close(struct outbox *outbox)
{
        if (outbox == NULL)
                return;
        if (outbox->bytes != NULL)
                disk_unmap(outbox->bytes, outbox->file_bytes);
        if (outbox->fd >= 0)
                (void)disk_close(outbox->fd); /* written through the mapping */
        free(outbox->path);
        free(outbox);
}

void outbox_remove(struct outbox *outbox)
{
        (void)disk_unlink(AT_FDCWD, outbox->path); /* else the next start removes it */
        outbox_close(outbox);
}

/* ---------------------------------------------------------------------------------------------- writing */

void outbox_begin(struct outbox *outbox)
{
        struct outbox_header *header = outbox->header;
        ASSERT(!outbox_is_sealed(outbox));
        header->magic = OUTBOX_MAGIC;
        header->version = OUTBOX_VERSION;
        header->key_hash = outbox->key_hash;
        header->shards_count = outbox->shards_count;
        header->chunks_count = 0;
        outbox->end = OUTBOX_HEADER_BYTES;
        OUTBOX_STEP("begun");
}

uint8_t *outbox_room(struct outbox *outbox, size_t *ret_bytes)
{
        *ret_bytes = outbox->end < outbox->file_bytes ? (size_t)(outbox->file_bytes - outbox->end) : 0;
        return outbox->bytes + outbox->end;
}

void outbox_add(struct outbox *outbox, size_t body_bytes, uint32_t data, uint64_t counts, int64_t oldest_ms)
{
        struct outbox_header *header = outbox->header;
        ASSERT(!outbox_is_sealed(outbox));
        ASSERT(header->chunks_count < OUTBOX_CHUNKS_MAX);
        ASSERT(body_bytes > 0 && body_bytes <= outbox->file_bytes - outbox->end);
        OUTBOX_STEP("body-written");
        header->chunks[header->chunks_count++] = (struct outbox_chunk){
                .offset = outbox->end,
                .bytes = (uint32_t)body_bytes,
                .crc = crc32c(OUTBOX_CRC_SEED, outbox->bytes + outbox->end, body_bytes),
                .data = data,
                .counts = counts < UINT32_MAX ? (uint32_t)counts : UINT32_MAX,
                .oldest_ms = oldest_ms,
        };
        outbox->end = outbox_align(outbox->end + body_bytes);
        OUTBOX_STEP("chunk-added");
}

void outbox_seal(struct outbox *outbox, const struct outbox_place *places, int64_t closed_ms)
{
        struct outbox_header *header = outbox->header;
        ASSERT(!outbox_is_sealed(outbox));
        ASSERT(header->chunks_count > 0);
        memset(header->places, 0, sizeof(header->places));
        OUTBOX_STEP("places-cleared");
        memset(outbox->places, 0, sizeof(outbox->places));
        for (uint32_t i = 0; i < outbox->shards_count; i++) {
                if (places[i].touched == 0)
                        continue;
                outbox->places[i] = places[i];
                outbox->places[i].touched = UINT64_C(1) + outbox->log_ids[i];
                header->places[i] = outbox->places[i];
        }
        OUTBOX_STEP("places-written");
        header->closed_ms = closed_ms;
        header->crc = outbox_header_crc(header);
        memcpy(outbox->file, header, offsetof(struct outbox_header, sealed));
        OUTBOX_STEP("header-half-written");
        memcpy(outbox->file->places, header->places, sizeof(header->places));
        memcpy(outbox->file->chunks, header->chunks, header->chunks_count * sizeof(header->chunks[0]));
        /* Relaxed: the stores below publish it. */
        atomic_store_explicit(&header->progress, 0, memory_order_relaxed);
        atomic_store_explicit(&outbox->file->progress, 0, memory_order_relaxed);
        atomic_store_explicit(&header->given_up, 0, memory_order_relaxed);
        atomic_store_explicit(&outbox->file->given_up, 0, memory_order_relaxed);
        OUTBOX_STEP("before-seal");
        atomic_store_explicit(&header->sealed, OUTBOX_SEALED, memory_order_relaxed);
        /* Release: the last store; pairs with the acquire load in outbox_open() of the next process. */
        atomic_store_explicit(&outbox->file->sealed, OUTBOX_SEALED, memory_order_release);
        OUTBOX_STEP("sealed");
}

/* ---------------------------------------------------------------------------------------------- sending */

/* Relaxed loads of words that this thread alone writes while the file is open. */
static uint64_t outbox_progress(const struct outbox *outbox)
{
        return atomic_load_explicit(&outbox->header->progress, memory_order_relaxed);
}

bool outbox_is_sealed(const struct outbox *outbox)
{
        return atomic_load_explicit(&outbox->header->sealed, memory_order_relaxed) == OUTBOX_SEALED;
}

uint32_t outbox_chunks(const struct outbox *outbox)
{
        return outbox->header->chunks_count;
}

uint32_t outbox_acknowledged(const struct outbox *outbox)
{
        return (uint32_t)outbox_progress(outbox);
}

bool outbox_in_flight(const struct outbox *outbox)
{
        return (outbox_progress(outbox) & OUTBOX_IN_FLIGHT) != 0;
}

const struct outbox_place *outbox_places(const struct outbox *outbox)
{
        return outbox->places;
}

int64_t outbox_closed_ms(const struct outbox *outbox)
{
        return outbox->header->closed_ms;
}

static const struct outbox_chunk *outbox_next_chunk(const struct outbox *outbox)
{
        ASSERT(outbox_is_sealed(outbox));
        ASSERT(outbox_acknowledged(outbox) < outbox_chunks(outbox));
        return &outbox->header->chunks[outbox_acknowledged(outbox)];
}

struct slice outbox_next(const struct outbox *outbox, uint32_t *ret_data)
{
        const struct outbox_chunk *chunk = outbox_next_chunk(outbox);
        if (ret_data != NULL)
                *ret_data = chunk->data;
        return slice_of(outbox->bytes + chunk->offset, chunk->bytes);
}

uint32_t outbox_next_counts(const struct outbox *outbox)
{
        return outbox_next_chunk(outbox)->counts;
}

int64_t outbox_next_oldest_ms(const struct outbox *outbox)
{
        return outbox_next_chunk(outbox)->oldest_ms;
}

bool outbox_next_is_whole(const struct outbox *outbox)
{
        /* Not only where pages are known to be lost: the kernel may have dropped what it could not write, and read it
         * back from the disk. */
        const struct outbox_chunk *chunk = &outbox->header->chunks[outbox_acknowledged(outbox)];
        return chunk->crc == crc32c(OUTBOX_CRC_SEED, outbox->bytes + chunk->offset, chunk->bytes);
}

/* Release, for the store's place among the others: what the next process finds is what was true. */
static void outbox_store_progress(struct outbox *outbox, uint64_t progress)
{
        ASSERT(outbox_is_sealed(outbox));
        atomic_store_explicit(&outbox->header->progress, progress, memory_order_relaxed);
        atomic_store_explicit(&outbox->file->progress, progress, memory_order_release);
}

void outbox_move_before(struct outbox *outbox)
{
        outbox_store_progress(outbox, outbox_progress(outbox) | OUTBOX_MOVED);
        OUTBOX_STEP("moving-before");
}

int outbox_sync_begin(struct outbox *outbox)
{
        const struct outbox_header *header = outbox->header;
        if (outbox->name_doubted && !outbox_sync_name(outbox))
                return -1;
        uint64_t end = OUTBOX_HEADER_BYTES;
        if (header->chunks_count > 0)
                end = header->chunks[header->chunks_count - 1].offset + header->chunks[header->chunks_count - 1].bytes;
        for (uint64_t at = 0; outbox->pages_doubted && at < end; at += OUTBOX_PAGE_BYTES) {
                volatile uint8_t *byte = outbox->bytes + at; /* changed again, and so written again */
                *byte = *byte;
        }
        outbox->pages_doubted = true; /* until it is known */
        return outbox->fd;
}

enum err_code outbox_sync_end(struct outbox *outbox, int32_t result)
{
        outbox->pages_doubted = result < 0;
        if (outbox_has_lost_pages(outbox))
                return ERR_CORRUPT;
        return result < 0 ? ERR_SYSTEM : ERR_OK;
}

bool outbox_has_lost_pages(const struct outbox *outbox)
{
        /* Acquire: pairs with the release in the handler of io/disk_guard.c. */
        return atomic_load_explicit(outbox->lost, memory_order_acquire) != 0;
}

bool outbox_moved_before(const struct outbox *outbox)
{
        return (outbox_progress(outbox) & OUTBOX_MOVED) != 0;
}

void outbox_sending(struct outbox *outbox)
{
        ASSERT(outbox_acknowledged(outbox) < outbox_chunks(outbox));
        /* The bit of this chunk may be there, where a process was killed that was about to give it up. Relaxed: this
         * thread is the only writer; the release below orders it. */
        uint64_t given_up = atomic_load_explicit(&outbox->header->given_up, memory_order_relaxed) &
                            ~(UINT64_C(1) << outbox_acknowledged(outbox));
        atomic_store_explicit(&outbox->header->given_up, given_up, memory_order_relaxed);
        atomic_store_explicit(&outbox->file->given_up, given_up, memory_order_relaxed);
        outbox_store_progress(outbox, outbox_progress(outbox) | OUTBOX_IN_FLIGHT);
        OUTBOX_STEP("sending");
}

void outbox_not_taken(struct outbox *outbox)
{
        outbox_store_progress(outbox, outbox_progress(outbox) & ~OUTBOX_IN_FLIGHT);
        OUTBOX_STEP("not-taken");
}

void outbox_acknowledge(struct outbox *outbox)
{
        ASSERT(outbox_acknowledged(outbox) < outbox_chunks(outbox));
        outbox_store_progress(outbox, (outbox_progress(outbox) & ~OUTBOX_IN_FLIGHT) + 1);
        OUTBOX_STEP("acknowledged");
}

void outbox_give_up(struct outbox *outbox)
{
        struct outbox_header *header = outbox->header;
        ASSERT(outbox_acknowledged(outbox) < outbox_chunks(outbox));
        /* Relaxed: this thread is the only writer. */
        uint64_t given_up = atomic_load_explicit(&header->given_up, memory_order_relaxed) |
                            UINT64_C(1) << outbox_acknowledged(outbox);
        atomic_store_explicit(&header->given_up, given_up, memory_order_relaxed);
        /* Release, as in outbox_store_progress(), which comes behind it. */
        atomic_store_explicit(&outbox->file->given_up, given_up, memory_order_release);
        OUTBOX_STEP("giving-up");
        outbox_store_progress(outbox, (outbox_progress(outbox) & ~OUTBOX_IN_FLIGHT) + 1);
        OUTBOX_STEP("given-up");
}

uint64_t outbox_given_up_counts(const struct outbox *outbox)
{
        uint64_t counts = 0, given_up = atomic_load_explicit(&outbox->header->given_up, memory_order_relaxed);
        for (uint32_t i = 0; i < outbox_acknowledged(outbox); i++)
                counts += (given_up >> i & 1) != 0 ? outbox->header->chunks[i].counts : 0;
        return counts;
}

void outbox_clear(struct outbox *outbox)
{
        /* Exchange, acquire as well as release: nothing of the next period is written before the word is cleared. */
        (void)atomic_exchange_explicit(&outbox->file->sealed, 0, memory_order_acq_rel);
        atomic_store_explicit(&outbox->header->sealed, 0, memory_order_relaxed); /* this thread's own */
        OUTBOX_STEP("cleared");
}
