/* Counters in one shared page, described by one table (counters.def), readable by any process of the same user.
 *
 * The page is a file, mapped; `sendring stat` maps it read-only. Each thread of the daemon writes its own block, so
 * that no word has two writers; a reader adds the blocks up and may be a few events behind. Behind the blocks lies one
 * row per delivery target with what is not in the journal: its state in words, in flight, the last error.
 *
 *   offset 0      struct counters_head
 *   head.blocks_offset   blocks_count x counters_count x u64
 *   head.rows_offset     rows_max x struct counters_target_row
 */
#ifndef SENDRING_CONTROL_COUNTERS_H
#define SENDRING_CONTROL_COUNTERS_H

#include "base/err.h"
#include "base/limits.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum counter {
#define COUNTER(name, unit, module, help) COUNTER_##name,
#include "base/counters.def"
#undef COUNTER
        COUNTERS_COUNT
};

struct counter_info {
        const char *name, *unit, *module, *help;
};
extern const struct counter_info counter_table[COUNTERS_COUNT];

/* One writer: the thread that was given the block. */
struct counters_block {
        _Alignas(128) _Atomic uint64_t values[COUNTERS_COUNT];
};

static inline void counter_add(struct counters_block *block, enum counter counter, uint64_t amount)
{
        /* Relaxed, and no read-modify-write: this thread is the only writer; readers need no order between counters. */
        uint64_t now = atomic_load_explicit(&block->values[counter], memory_order_relaxed);
        atomic_store_explicit(&block->values[counter], now + amount, memory_order_relaxed);
}

static inline void counter_set(struct counters_block *block, enum counter counter, uint64_t value)
{
        atomic_store_explicit(&block->values[counter], value, memory_order_relaxed); /* as above */
}

static inline uint64_t counter_get(const struct counters_block *block, enum counter counter)
{
        return atomic_load_explicit(&block->values[counter], memory_order_relaxed); /* as above */
}

enum counters_target_status {
        COUNTERS_TARGET_UNUSED = 0,
        COUNTERS_TARGET_OK = 1,       /* delivering or idle */
        COUNTERS_TARGET_RETRYING = 2, /* the last request failed, or hangs; waiting or probing */
        COUNTERS_TARGET_PARKED = 3,   /* refused for good: somebody must act; probed now and then */
        COUNTERS_TARGET_REMOVED = 4,  /* in no plan any more, delivering what waits */
        COUNTERS_TARGET_HELD = 5,     /* one of its dead letters cannot be written: nothing is taken */
};

#define COUNTERS_EVENT_TYPES_END 11u /* as enum sendring_event_type */

/* Written by the worker that owns the target. `text_version` is odd while last_error changes: readers retry. */
struct counters_target_row {
        _Alignas(128) _Atomic uint32_t status;
        _Atomic uint32_t in_flight;
        _Atomic uint32_t target; /* number in the journal */
        _Atomic uint32_t consecutive_failures;
        _Atomic uint64_t requests, failures, entries_refused, entries_resent;
        _Atomic uint64_t records, bytes;                          /* sent in those requests, as rates count them */
        _Atomic uint64_t rate_records, rate_bytes, rate_requests; /* a second; 0: no limit. Written by control */
        _Atomic uint64_t paced_ms;                                /* that requests waited for them */
        _Atomic uint32_t in_flight_max;                           /* requests at a time, while it does not fail */
        _Atomic uint32_t retries_left;                            /* of the retry budget */
        _Atomic int64_t clock_offset_ms;                          /* the service's clock minus ours, where learnt */
        _Atomic int64_t last_success_ms, last_failure_ms;
        /* CloudWatch; series_max is 0 for other services. */
        _Atomic uint32_t series_max, series_hour; /* the budget in an hour; all of the newest one so far */
        _Atomic uint32_t series_hour_before;      /* all of the one before */
        _Atomic int64_t series_hour_number;       /* the newest one, in hours since 1970; below 0: none yet */
        _Atomic uint64_t series_overflowed;       /* events that went to the overflow value */
        _Atomic uint64_t ambiguous_resent, ambiguous_skipped; /* requests without an answer of the service */
        _Atomic uint64_t skipped_counts;                      /* counts in the latter */
        _Atomic int64_t last_period_ms; /* when the newest period was closed of which everything is acknowledged */
        _Atomic uint64_t shed[COUNTERS_EVENT_TYPES_END]; /* given up for room, by event type */
        _Atomic uint32_t text_version;
        char key[512];        /* the whole key of the target: JOURNAL_TARGET_KEY_BYTES_MAX and a NUL */
        char last_error[192]; /* cut */
};

struct counters_head {
        char magic[8]; /* "SRCOUNT8", stored last */
        uint32_t counters_count, blocks_count, rows_max;
        uint32_t pid;
        int64_t started_ms;
        uint64_t blocks_offset, rows_offset, file_bytes;
        uint64_t memory_budget_bytes;
        char version[16];
        _Atomic int64_t alive_ms;  /* stored by the control thread at each tick, some four times a second; for show */
        _Atomic uint64_t alive_ns; /* the same by the monotonic clock, which nobody sets, of this boot */
        char boot_id[40];          /* which one; empty: not known */
        _Atomic uint32_t rows_used;
};

struct counters {
        struct counters_head *head;
        struct counters_block *blocks;
        struct counters_target_row *rows;
        uint64_t file_bytes;
        int fd;
};

/* Makes (or begins anew) the page at `path`, 0600. One daemon per path: the journal's lock guards it. */
enum err_code counters_create(const char *path, uint32_t blocks_count, uint32_t rows_max, const char *version,
                              struct counters *ret_counters, struct err *reterr);
/* The same without a file: nobody else can look at it. For when the disk has no room for one. */
enum err_code counters_create_in_memory(uint32_t blocks_count, uint32_t rows_max, const char *version,
                                        struct counters *ret_counters, struct err *reterr);
/* How large such a page is. */
uint64_t counters_bytes(uint32_t blocks_count, uint32_t rows_max);
/* Maps a daemon's page read-only and checks it whole; ERR_VERSION when another version wrote it. */
enum err_code counters_attach(const char *path, struct counters *ret_counters, struct err *reterr);
void counters_release(struct counters *counters);

/* The daemon that writes the page says that it lives. */
void counters_tell_alive(struct counters *counters);
/* Whether it does: it says so some times a second. */
bool counters_is_alive(const struct counters *counters);
uint64_t counters_sum(const struct counters *counters, enum counter counter);
uint64_t counters_max(const struct counters *counters, enum counter counter);

void counters_row_set_error(struct counters_target_row *row, const char *text);
/* A consistent copy; gives up after some tries and returns what it has. */
void counters_row_get_error(const struct counters_target_row *row, char *ret_text, size_t text_bytes);
const char *counters_target_status_name(uint32_t status);

#endif
