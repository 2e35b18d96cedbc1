/* What `sendring sink` has stored, counted exactly and on disk. Everything is mapped shared memory of files, so a
 * SIGKILL of the sink at any instruction loses nothing that was counted (a power loss may).
 *
 *   DIR/lock            held by the one sink that writes here
 *   DIR/totals          counters of all kinds since the directory was made
 *   DIR/events.table    every event that did not come from `sendring loadgen`, by the hash of its whole line
 *   DIR/metrics.ndjson
 *                       CloudWatch's calls (sink_cloudwatch.h)
 *   DIR/RRRRRRRR-PPPP.seen
 *                       one byte per event of one producer (PPPP) of one loadgen run (RRRRRRRR), see loadgen_id.h
 *
 * All numbers are little endian (the host's order; x86-64 and arm64 are both).
 *
 * totals: 16 bytes {magic "SRSINKT1", u32 version 1, u32 counters}, then one u64 per row of SINK_COUNTER_TABLE.
 *
 * RRRRRRRR-PPPP.seen: 4,096 bytes of head {magic "SRSINKP1", u32 version 1, u32 run, u32 producer, u32 0, u64 bound:
 *   no index at or above it was ever seen, u64 more}, then 2^32 bytes, one per event index; the file is sparse.
 *   A byte: low 4 bits 0 = never seen, else 1 + type (0 unknown, 1..10 as enum sendring_event_type); high 4 bits =
 * copies after the first, 15 at most; further ones are counted in `more` (of the whole producer). One event is one
 * atomic step (bound before it only limits a scan), so what a kill leaves is a state in which that event was stored, or
 * one in which it was not.
 *
 * events.table: 4,096 bytes of head {magic "SRSINKE1", u32 version 1, u32 0, u64 slots, a power of two}, then slots of
 *   32 bytes {u64 hash_high, u64 hash_low, u64 type, u64 copies}. A slot is empty while copies is 0; copies is written
 *   last. Linear probing from hash_high. The hash is the first 16 bytes of SHA-256 over the line without its newline.
 *   When 3/4 is used the table is written anew at twice the size (events.table.new) and renamed over the old one.
 *
 * Threads: sink_state_store() from any thread, each with its own struct sink_state_thread. Readers (--report, also
 * while the sink runs) map the files read-only. */
#ifndef SENDRING_TOOLS_SINK_STATE_H
#define SENDRING_TOOLS_SINK_STATE_H

#include "base/err.h"
#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* name, text in reports, what it counts */
#define SINK_COUNTER_TABLE(X)                                                                                          \
        X(REQUESTS, "requests", "requests answered or dropped by an injected fault")                                   \
        X(CALLS_STORED, "calls_stored", "calls of which at least one entry was stored")                                \
        X(CALLS_REFUSED, "calls_refused", "calls refused for the caller's fault (4xx)")                                \
        X(RECORDS, "records", "entries stored")                                                                        \
        X(EVENTS, "events", "lines stored, copies included")                                                           \
        X(EVENTS_NEW, "events_new", "lines stored for the first time (live figure; a kill may leave it one short)")    \
        X(BYTES, "bytes", "bytes of entries stored")                                                                   \
        X(GZIP_RECORDS, "gzip_records", "entries stored that were gzip files")                                         \
        X(GZIP_BROKEN, "gzip_broken", "entries stored that began like one and could not be unpacked: no line of them") \
        X(PLAIN_BYTES, "plain_bytes", "bytes of the lines stored, unpacked")                                           \
        X(METRIC_DATA, "metric_data", "data of CloudWatch calls stored")                                               \
        X(BODY_BYTES, "body_bytes", "bytes of request bodies received")                                                \
        X(REFUSED_ENTRIES, "refused_entries", "entries answered with an ErrorCode in an HTTP 200 answer")              \
        X(REFUSED_CALL_ENTRIES, "refused_call_entries", "entries of whole calls refused by an injected fault")         \
        X(LOST_ANSWER_ENTRIES, "lost_answer_entries", "entries stored whose answer was lost by a fault")               \
        X(MALFORMED_LINES, "malformed_lines", "stored lines that are not an SES event record")                         \
        X(INVALID_JSON, "invalid_json", "stored lines that are not JSON (only with --check-json)")                     \
        X(UNENDED_RECORDS, "unended_records", "stored entries whose last line had no newline")                         \
        X(CONNECTIONS, "connections", "connections accepted")                                                          \
        X(TLS_FAILED, "tls_failed", "TLS handshakes that failed")                                                      \
        X(FAULT_RESET, "fault_reset", "requests hit by this fault")                                                    \
        X(FAULT_STALL, "fault_stall", "requests hit by this fault")                                                    \
        X(FAULT_GARBAGE, "fault_garbage", "requests hit by this fault")                                                \
        X(FAULT_ERROR500, "fault_error500", "requests hit by this fault")                                              \
        X(FAULT_THROTTLE, "fault_throttle", "requests hit by this fault")                                              \
        X(FAULT_PARTIAL, "fault_partial", "entries hit by this fault")                                                 \
        X(FAULT_RESET_AFTER, "fault_reset_after", "requests hit by this fault")                                        \
        X(FAULT_STALL_BYTES, "fault_stall_bytes", "requests hit by this fault")                                        \
        X(FAULT_ENDLESS, "fault_endless", "requests hit by this fault")                                                \
        X(FAULT_BLACKHOLE, "fault_blackhole", "connections hit by this fault")                                         \
        X(FAULT_DOWN, "fault_down", "connections closed because the sink was switched down")

enum sink_counter {
#define SINK_COUNTER_ENUM(name, text, help) SINK_COUNT_##name,
        SINK_COUNTER_TABLE(SINK_COUNTER_ENUM)
#undef SINK_COUNTER_ENUM
                SINK_COUNTERS_COUNT
};
const char *sink_counter_name(enum sink_counter counter);

/* Types 1..10 are enum sendring_event_type; 0 is everything else. */
#define SINK_TYPES_COUNT 11u
/* "Send", "Rendering Failure", ...; "unknown" for 0. */
const char *sink_type_name(unsigned type);

#define SINK_INDEX_MAX     UINT32_MAX /* events of one producer; a larger index is counted by its hash */
#define SINK_PRODUCERS_MAX 8192u      /* run and producer pairs in one directory: 4 GiB of address space each */

struct sink_state;

struct sink_state_thread {
        struct sink_state_seen *cache[64];   /* by run and producer; borrowed from the state */
        uint64_t tally[SINK_COUNTERS_COUNT]; /* the thread adds here; sink_state_flush() moves it to the state */
};

/* Opens or makes the directory and takes its lock. ERR_BUSY: another sink writes there; ERR_CORRUPT: a file that is not
 * ours or of another version. */
enum err_code sink_state_open(struct sink_state **ret_state, const char *directory, struct err *reterr);
void sink_state_close(struct sink_state *state);
const char *sink_state_directory(const struct sink_state *state);

/* Stores every line of one accepted entry, which had `record_bytes` on the wire, and returns how many there were. Empty
 * lines are none. Each line is safe on return; the sums (records, events, bytes ...) wait in thread->tally for
 * sink_state_flush(), once a call, so that a call of 500 entries costs a handful of shared additions. */
uint64_t sink_state_store(struct sink_state *state, struct sink_state_thread *thread, struct slice lines,
                          size_t record_bytes);

/* How long `sendring loadgen`'s Send events took from the time in their ids to here, copies after the first left out.
 * In memory only: in steps of 10 us up to a second, of a millisecond above, a minute and more in one; rounded down. */
#define SINK_LATENCY_STEP_US 10u
#define SINK_LATENCY_MS_MAX  60000u
#define SINK_LATENCY_PLACES  (1000000u / SINK_LATENCY_STEP_US + SINK_LATENCY_MS_MAX - 1000u + 1u)
struct sink_latencies {
        uint64_t count;
        uint32_t p50_us, p90_us, p99_us, p999_us, max_us; /* 0 without any */
};
/* Of those that came since the last call, which it forgets. */
void sink_state_take_latencies(struct sink_state *state, struct sink_latencies *ret_latencies);

void sink_state_flush(struct sink_state *state, struct sink_state_thread *thread);
uint64_t sink_state_counter(const struct sink_state *state, enum sink_counter counter);

/* Finds type and id of one line (without newline). The id is empty when there is none; type 0 when it is unknown. */
struct slice sink_line_id(struct slice line, unsigned *ret_type);

/* ---- reading, for --report and tests */

struct sink_seen_report {
        uint32_t run;
        uint16_t producer;
        uint64_t distinct, duplicates;
        uint64_t duplicated;              /* events that came more than once */
        uint64_t end;                     /* highest index seen + 1 */
        uint64_t published;               /* by the ledger; UINT64_MAX without one */
        uint64_t missing;                 /* of 0..published-1, or of 0..end-1 without a ledger */
        uint64_t unexpected;              /* indexes at or above published */
        uint64_t types[SINK_TYPES_COUNT]; /* distinct */
};

struct sink_report {
        struct sink_seen_report *seen; /* by run, then producer; sink_report_release() frees it */
        size_t seen_count;
        uint64_t other_distinct, other_duplicates;
        uint64_t other_types[SINK_TYPES_COUNT]; /* distinct */
        uint64_t counters[SINK_COUNTERS_COUNT];
};

/* One producer of the ledger that `sendring loadgen --ledger` wrote. */
struct sink_published {
        uint32_t run;
        uint16_t producer;
        uint64_t published;
};

/* Reads a state directory. With a ledger (published_count > 0) only runs that it names are reported: its producers that
 * never arrived with distinct 0, and producers of its runs that it does not name with published 0, all unexpected. Of
 * two entries for one producer the larger counts. */
enum err_code sink_report_read(const char *directory, const struct sink_published *published, size_t published_count,
                               struct sink_report *ret_report, struct err *reterr);
void sink_report_release(struct sink_report *report);

#endif
