#include "tools/sink_state.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/file.h"
#include "sendring/sendring.h"
#include "tools/loadgen_id.h"
#include "tools/sink_state_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const sink_counter_names[SINK_COUNTERS_COUNT] = {
#define SINK_COUNTER_NAME(name, text, help) text,
        SINK_COUNTER_TABLE(SINK_COUNTER_NAME)
#undef SINK_COUNTER_NAME
};

static const struct slice sink_types[SINK_TYPES_COUNT] = {
        {(const uint8_t *)"unknown", 7},
        {(const uint8_t *)"Send", 4},
        {(const uint8_t *)"Rendering Failure", 17},
        {(const uint8_t *)"Reject", 6},
        {(const uint8_t *)"Delivery", 8},
        {(const uint8_t *)"Bounce", 6},
        {(const uint8_t *)"Complaint", 9},
        {(const uint8_t *)"DeliveryDelay", 13},
        {(const uint8_t *)"Subscription", 12},
        {(const uint8_t *)"Open", 4},
        {(const uint8_t *)"Click", 5},
};

const char *sink_counter_name(enum sink_counter counter)
{
        return sink_counter_names[counter];
}

const char *sink_type_name(unsigned type)
{
        return (const char *)sink_types[type].ptr;
}

/* One producer's mapped file. */
struct sink_state_seen {
        uint32_t run;
        uint16_t producer;
        struct sink_seen_head *head;
        _Atomic uint8_t *cells;
};

struct sink_state {
        char directory[3072];
        int lock_fd;
        struct sink_totals *totals;

        _Atomic uint32_t latencies[SINK_LATENCY_PLACES]; /* events that took so long, by sink_latency_place() */

        pthread_mutex_t seen_mutex; /* over the two below; entries never change or move once there */
        struct sink_state_seen *seen[SINK_PRODUCERS_MAX];
        size_t seen_count;

        pthread_mutex_t table_mutex; /* over all below */
        struct sink_table_head *table;
        uint64_t table_slots, table_used;
};

/* ---------------------------------------------------------------------------------------------- ids */

struct slice sink_line_id(struct slice line, unsigned *ret_type)
{
        static const struct slice type_key = {(const uint8_t *)"\"eventType\":\"", 13};
        static const struct slice id_key = {(const uint8_t *)"\"messageId\":\"", 13};
        *ret_type = 0;
        if (line.len == 0)
                return SLICE_EMPTY;
        const uint8_t *at = line.ptr + 1;
        /* SES's records begin with it; others may have it anywhere. */
        if (line.len <= type_key.len || memcmp(at, type_key.ptr, type_key.len) != 0)
                at = memmem(line.ptr, line.len, type_key.ptr, type_key.len);
        if (at != NULL) {
                struct slice name = slice_from(line, (size_t)(at - line.ptr) + type_key.len);
                for (unsigned type = 1; type < SINK_TYPES_COUNT; type++) {
                        size_t len = sink_types[type].len;
                        if (name.len > len && name.ptr[len] == '"' &&
                            memcmp(name.ptr, sink_types[type].ptr, len) == 0) {
                                *ret_type = type;
                                break;
                        }
                }
        }
        /* Inside a JSON string its quotes would be escaped, so a match is a member. */
        at = memmem(line.ptr, line.len, id_key.ptr, id_key.len);
        if (at == NULL)
                return SLICE_EMPTY;
        struct slice id = slice_from(line, (size_t)(at - line.ptr) + id_key.len);
        if (id.len > LOADGEN_ID_BYTES && id.ptr[LOADGEN_ID_BYTES] == '"')
                return slice_head(id, LOADGEN_ID_BYTES);
        return slice_head(id, slice_find_byte(id, '"'));
}

/* ---------------------------------------------------------------------------------------------- mapped files */

/* Opens or makes DIR/name with `size_bytes` and maps it shared. */
static enum err_code sink_state_map(const char *directory, const char *name, size_t size_bytes, void **ret_memory,
                                    struct err *reterr)
{
        char path[4096];
        (void)snprintf(path, sizeof(path), "%s/%s", directory, name); /* directory is bounded by sink_state_open() */
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "open %s", path);
        struct stat status;
        enum err_code code = ERR_OK;
        void *memory = MAP_FAILED;
        if (fstat(fd, &status) < 0 || (status.st_size < (off_t)size_bytes && ftruncate(fd, (off_t)size_bytes) < 0)) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "make %s %zu bytes long", path, size_bytes);
        } else {
                memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
                if (memory == MAP_FAILED)
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "map %s", path);
        }
        (void)close(fd); /* the mapping stays */
        if (code == ERR_OK)
                *ret_memory = memory;
        return code;
}

uint64_t sink_state_magic(const char magic[8])
{
        uint64_t value;
        memcpy(&value, magic, 8);
        return value;
}

/* Checks a head, or writes it into a new file: the magic last, so that a kill leaves a file that is still new. */
static enum err_code sink_state_head(struct sink_file_head *head, const char magic[8], uint32_t detail,
                                     const char *name, struct err *reterr)
{
        /* Relaxed: this process wrote it, or one that is gone. */
        if (atomic_load_explicit(&head->magic, memory_order_relaxed) == 0) {
                head->version = SINK_STATE_VERSION;
                head->detail = detail;
                /* R1: publishes the head and the empty body. Pairs with A1 in sink_report_map(). */
                atomic_store_explicit(&head->magic, sink_state_magic(magic), memory_order_release);
        }
        if (atomic_load_explicit(&head->magic, memory_order_relaxed) != sink_state_magic(magic) ||
            head->version != SINK_STATE_VERSION || head->detail != detail)
                return err_set(reterr, ERR_CORRUPT,
                               "%s is not a file of this version of the sink: name another --state directory", name);
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- producers */

static struct sink_state_seen *sink_state_seen_open(struct sink_state *state, uint32_t run, uint16_t producer)
{
        struct sink_state_seen *seen = NULL;
        char name[32];
        void *memory;
        struct err err;
        (void)snprintf(name, sizeof(name), "%08x-%04x.seen", run, producer);
        if (sink_state_map(state->directory, name, SINK_SEEN_FILE_BYTES, &memory, &err) != ERR_OK)
                return NULL;
        struct sink_seen_head *head = memory;
        head->producer = producer;
        if (sink_state_head(&head->file, SINK_SEEN_MAGIC, run, name, &err) == ERR_OK)
                seen = malloc(sizeof(*seen));
        if (seen == NULL) {
                (void)munmap(memory, SINK_SEEN_FILE_BYTES);
                return NULL;
        }
        *seen = (struct sink_state_seen){
                .run = run,
                .producer = producer,
                .head = head,
                .cells = (_Atomic uint8_t *)memory + SINK_HEAD_BYTES,
        };
        return seen;
}

/* NULL: too many producers, or the file cannot be had; the caller counts by hash then. */
static struct sink_state_seen *sink_state_seen_find(struct sink_state *state, struct sink_state_thread *thread,
                                                    const struct loadgen_id *id)
{
        size_t slot =
                (id->run_id * UINT32_C(2654435761) + id->producer) % (sizeof(thread->cache) / sizeof(thread->cache[0]));
        struct sink_state_seen *seen = thread->cache[slot];
        if (seen != NULL && seen->run == id->run_id && seen->producer == id->producer)
                return seen;
        (void)pthread_mutex_lock(&state->seen_mutex);
        seen = NULL;
        for (size_t i = 0; i < state->seen_count && seen == NULL; i++)
                if (state->seen[i]->run == id->run_id && state->seen[i]->producer == id->producer)
                        seen = state->seen[i];
        if (seen == NULL && state->seen_count < SINK_PRODUCERS_MAX) {
                seen = sink_state_seen_open(state, id->run_id, id->producer);
                if (seen != NULL)
                        state->seen[state->seen_count++] = seen;
        }
        (void)pthread_mutex_unlock(&state->seen_mutex);
        if (seen != NULL)
                thread->cache[slot] = seen;
        return seen;
}

/* True when it was the first copy. */
static bool sink_state_see(struct sink_state_seen *seen, uint32_t index, unsigned type)
{
        /* Relaxed throughout: each word is counted by itself; readers of a running sink see some recent state. */
        uint64_t bound = atomic_load_explicit(&seen->head->bound, memory_order_relaxed);
        while (bound <= index && !atomic_compare_exchange_weak_explicit(&seen->head->bound, &bound, (uint64_t)index + 1,
                                                                        memory_order_relaxed, memory_order_relaxed))
                ;
        _Atomic uint8_t *cell = &seen->cells[index];
        uint8_t value = 0;
        if (atomic_compare_exchange_strong_explicit(cell, &value, (uint8_t)(type + 1), memory_order_relaxed,
                                                    memory_order_relaxed))
                return true;
        while (value < 0xf0)
                if (atomic_compare_exchange_weak_explicit(cell, &value, (uint8_t)(value + 0x10), memory_order_relaxed,
                                                          memory_order_relaxed))
                        return false;
        (void)atomic_fetch_add_explicit(&seen->head->more, 1, memory_order_relaxed);
        return false;
}

/* ---------------------------------------------------------------------------------------------- other events */

static size_t sink_table_bytes(uint64_t slots)
{
        return SINK_HEAD_BYTES + (size_t)slots * sizeof(struct sink_table_slot);
}

static struct sink_table_slot *sink_table_find(struct sink_table_head *table, uint64_t slots, uint64_t hash_high,
                                               uint64_t hash_low)
{
        struct sink_table_slot *all = sink_table_slots(table);
        for (uint64_t at = hash_high & (slots - 1);; at = (at + 1) & (slots - 1)) {
                struct sink_table_slot *slot = &all[at];
                if (atomic_load_explicit(&slot->copies, memory_order_relaxed) == 0 ||
                    (slot->hash_high == hash_high && slot->hash_low == hash_low))
                        return slot;
        }
}

/* Writes the table anew at twice the size. A kill before the rename leaves the old one whole. */
static enum err_code sink_table_grow(struct sink_state *state, struct err *reterr)
{
        char path[4096], new_path[4096];
        (void)snprintf(path, sizeof(path), "%s/events.table", state->directory);
        (void)snprintf(new_path, sizeof(new_path), "%s/events.table.new", state->directory);
        (void)unlink(new_path); /* what a kill left */
        uint64_t slots = state->table_slots * 2;
        void *memory;
        enum err_code code =
                sink_state_map(state->directory, "events.table.new", sink_table_bytes(slots), &memory, reterr);
        if (code != ERR_OK)
                return code;
        struct sink_table_head *table = memory;
        table->slots = slots;
        code = sink_state_head(&table->file, SINK_TABLE_MAGIC, 0, new_path, reterr);
        const struct sink_table_slot *old = sink_table_slots_const(state->table);
        for (uint64_t i = 0; i < state->table_slots; i++) {
                uint64_t copies = atomic_load_explicit(&old[i].copies, memory_order_relaxed);
                if (copies == 0)
                        continue;
                struct sink_table_slot *slot = sink_table_find(table, slots, old[i].hash_high, old[i].hash_low);
                slot->hash_high = old[i].hash_high;
                slot->hash_low = old[i].hash_low;
                slot->type = old[i].type;
                atomic_store_explicit(&slot->copies, copies, memory_order_release);
        }
        if (code == ERR_OK && rename(new_path, path) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "rename %s", new_path);
        if (code != ERR_OK) {
                (void)munmap(memory, sink_table_bytes(slots));
                return code;
        }
        (void)munmap(state->table, sink_table_bytes(state->table_slots));
        state->table = table;
        state->table_slots = slots;
        return ERR_OK;
}

static bool sink_state_see_other(struct sink_state *state, struct slice line, unsigned type)
{
        uint8_t digest[SHA256_DIGEST_LENGTH];
        uint64_t hash_high, hash_low;
        (void)SHA256(line.ptr, line.len, digest);
        memcpy(&hash_high, digest, 8);
        memcpy(&hash_low, digest + 8, 8);
        (void)pthread_mutex_lock(&state->table_mutex);
        if (state->table_used >= state->table_slots / 4 * 3) {
                struct err err;
                if (sink_table_grow(state, &err) != ERR_OK && state->table_used + 1 >= state->table_slots) {
                        /* Going on would make the counts lies: stopping is the honest end of a measuring device. */
                        (void)fprintf(stderr, "sink: %s; cannot count on\n", err.text);
                        abort();
                }
        }
        struct sink_table_slot *slot = sink_table_find(state->table, state->table_slots, hash_high, hash_low);
        uint64_t copies = atomic_load_explicit(&slot->copies, memory_order_relaxed);
        if (copies == 0) {
                slot->hash_high = hash_high;
                slot->hash_low = hash_low;
                slot->type = type;
                state->table_used++;
        }
        /* Release: a reader that sees copies sees the hash, and so does a sink after a kill: stores to one mapping stay
         * in program order on the hosts we run on, and this keeps the compiler from moving them. */
        atomic_store_explicit(&slot->copies, copies + 1, memory_order_release);
        (void)pthread_mutex_unlock(&state->table_mutex);
        return copies == 0;
}

/* ---------------------------------------------------------------------------------------------- open, store, close */

static enum err_code sink_state_open_table(struct sink_state *state, struct err *reterr)
{
        char path[4096];
        struct stat status;
        (void)snprintf(path, sizeof(path), "%s/events.table", state->directory);
        uint64_t slots = SINK_TABLE_SLOTS_MIN;
        if (stat(path, &status) == 0 && status.st_size > (off_t)sink_table_bytes(SINK_TABLE_SLOTS_MIN))
                slots = ((uint64_t)status.st_size - SINK_HEAD_BYTES) / sizeof(struct sink_table_slot);
        void *memory;
        enum err_code code = sink_state_map(state->directory, "events.table", sink_table_bytes(slots), &memory, reterr);
        if (code != ERR_OK)
                return code;
        state->table = memory;
        state->table_slots = slots;
        if (state->table->slots == 0)
                state->table->slots = slots;
        code = sink_state_head(&state->table->file, SINK_TABLE_MAGIC, 0, path, reterr);
        if (code == ERR_OK && (state->table->slots != slots || (slots & (slots - 1)) != 0))
                code = err_set(reterr, ERR_CORRUPT, "%s has a length that does not fit its head", path);
        if (code != ERR_OK)
                return code;
        const struct sink_table_slot *all = sink_table_slots_const(memory);
        for (uint64_t i = 0; i < slots; i++)
                state->table_used += atomic_load_explicit(&all[i].copies, memory_order_relaxed) != 0;
        return ERR_OK;
}

enum err_code sink_state_open(struct sink_state **ret_state, const char *directory, struct err *reterr)
{
        struct sink_state *state = calloc(1, sizeof(*state));
        if (state == NULL)
                return err_set(reterr, ERR_MEMORY, "sink state");
        state->lock_fd = -1;
        (void)pthread_mutex_init(&state->seen_mutex, NULL); /* the default kind cannot fail here */
        (void)pthread_mutex_init(&state->table_mutex, NULL);
        enum err_code code = ERR_OK;
        if (!slice_to_text(slice_of_text(directory), state->directory, sizeof(state->directory)))
                code = err_set(reterr, ERR_TOO_BIG, "the name of the state directory is too long");
        if (code == ERR_OK)
                code = file_make_directory(directory, reterr);
        if (code == ERR_OK) {
                char path[4096];
                (void)snprintf(path, sizeof(path), "%s/lock", state->directory);
                state->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                if (state->lock_fd < 0)
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "open %s", path);
                else if (flock(state->lock_fd, LOCK_EX | LOCK_NB) < 0)
                        code = err_set(reterr, ERR_BUSY, "another sink counts in %s", directory);
        }
        void *memory;
        if (code == ERR_OK)
                code = sink_state_map(state->directory, "totals", sizeof(struct sink_totals), &memory, reterr);
        if (code == ERR_OK) {
                state->totals = memory;
                code = sink_state_head(&state->totals->file, SINK_TOTALS_MAGIC, SINK_COUNTERS_COUNT, "totals", reterr);
        }
        if (code == ERR_OK)
                code = sink_state_open_table(state, reterr);
        if (code != ERR_OK) {
                sink_state_close(state);
                return code;
        }
        *ret_state = state;
        return ERR_OK;
}

void sink_state_close(struct sink_state *state)
{
        if (state == NULL)
                return;
        for (size_t i = 0; i < state->seen_count; i++) {
                (void)munmap(state->seen[i]->head, SINK_SEEN_FILE_BYTES);
                free(state->seen[i]);
        }
        if (state->totals != NULL)
                (void)munmap(state->totals, sizeof(struct sink_totals));
        if (state->table != NULL)
                (void)munmap(state->table, sink_table_bytes(state->table_slots));
        if (state->lock_fd >= 0)
                (void)close(state->lock_fd);
        (void)pthread_mutex_destroy(&state->seen_mutex);
        (void)pthread_mutex_destroy(&state->table_mutex);
        free(state);
}

const char *sink_state_directory(const struct sink_state *state)
{
        return state->directory;
}

void sink_state_flush(struct sink_state *state, struct sink_state_thread *thread)
{
        for (int i = 0; i < SINK_COUNTERS_COUNT; i++) {
                if (thread->tally[i] == 0)
                        continue;
                /* Relaxed: a sum, read by itself. */
                (void)atomic_fetch_add_explicit(&state->totals->counters[i], thread->tally[i], memory_order_relaxed);
                thread->tally[i] = 0;
        }
}

uint64_t sink_state_counter(const struct sink_state *state, enum sink_counter counter)
{
        return atomic_load_explicit(&state->totals->counters[counter], memory_order_relaxed);
}

#define SINK_LATENCY_FINE_PLACES (1000000u / SINK_LATENCY_STEP_US)

static uint32_t sink_latency_place(int64_t took_us)
{
        if (took_us < 1000000)
                return took_us < 0 ? 0 : (uint32_t)took_us / SINK_LATENCY_STEP_US;
        int64_t place = took_us / 1000 - 1000 + (int64_t)SINK_LATENCY_FINE_PLACES;
        return place < (int64_t)SINK_LATENCY_PLACES ? (uint32_t)place : SINK_LATENCY_PLACES - 1;
}

static uint32_t sink_latency_us(uint32_t place)
{
        return place < SINK_LATENCY_FINE_PLACES ? place * SINK_LATENCY_STEP_US
                                                : (place - SINK_LATENCY_FINE_PLACES + 1000) * 1000;
}

void sink_state_take_latencies(struct sink_state *state, struct sink_latencies *ret_latencies)
{
        static const double shares[] = {0.5, 0.9, 0.99, 0.999, 1};
        uint32_t counts[SINK_LATENCY_PLACES], found[5] = {0}, next = 0;
        uint64_t total = 0, seen = 0;
        for (uint32_t place = 0; place < SINK_LATENCY_PLACES; place++) {
                /* Relaxed: events that come meanwhile are in this call's or the next one's. */
                counts[place] = atomic_exchange_explicit(&state->latencies[place], 0, memory_order_relaxed);
                total += counts[place];
        }
        for (uint32_t place = 0; place < SINK_LATENCY_PLACES && total > 0; place++) {
                seen += counts[place];
                while (next < 5 && (double)seen >= shares[next] * (double)total)
                        found[next++] = sink_latency_us(place);
        }
        *ret_latencies = (struct sink_latencies){.count = total,
                                                 .p50_us = found[0],
                                                 .p90_us = found[1],
                                                 .p99_us = found[2],
                                                 .p999_us = found[3],
                                                 .max_us = found[4]};
}

uint64_t sink_state_store(struct sink_state *state, struct sink_state_thread *thread, struct slice lines,
                          size_t record_bytes)
{
        uint64_t events = 0, new_events = 0, malformed = 0;
        int64_t now_us = clock_realtime_us();
        struct slice rest = lines;
        while (rest.len > 0) {
                size_t end = slice_find_byte(rest, '\n');
                struct slice line = slice_head(rest, end);
                rest = slice_from(rest, end + 1);
                if (line.len == 0)
                        continue;
                events++;
                unsigned type;
                struct slice id_text = sink_line_id(line, &type);
                malformed += type == 0 || id_text.len == 0 || line.ptr[0] != '{' || line.ptr[line.len - 1] != '}';
                struct loadgen_id id;
                struct sink_state_seen *seen = NULL;
                if (loadgen_id_parse((const char *)id_text.ptr, id_text.len, &id) && id.index < SINK_INDEX_MAX)
                        seen = sink_state_seen_find(state, thread, &id);
                bool is_new = seen != NULL ? sink_state_see(seen, (uint32_t)id.index, type)
                                           : sink_state_see_other(state, line, type);
                new_events += is_new;
                if (is_new && seen != NULL && type == SENDRING_SEND) {
                        int64_t took_us = now_us - (int64_t)(id.timestamp_ms * 1000 + id.behind_us);
                        /* Relaxed: a count, read by itself. */
                        (void)atomic_fetch_add_explicit(&state->latencies[sink_latency_place(took_us)], 1,
                                                        memory_order_relaxed);
                }
        }
        thread->tally[SINK_COUNT_RECORDS]++;
        thread->tally[SINK_COUNT_BYTES] += record_bytes;
        thread->tally[SINK_COUNT_PLAIN_BYTES] += lines.len;
        thread->tally[SINK_COUNT_EVENTS] += events;
        thread->tally[SINK_COUNT_EVENTS_NEW] += new_events;
        thread->tally[SINK_COUNT_MALFORMED_LINES] += malformed;
        thread->tally[SINK_COUNT_UNENDED_RECORDS] += lines.len > 0 && lines.ptr[lines.len - 1] != '\n';
        return events;
}
