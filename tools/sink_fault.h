/* Faults that `sendring sink` injects: named probabilities and switches, set by flags at start and by lines of text at
 * run time. One writer (the main thread), any number of readers; every value is one relaxed atomic word, since a fault
 * that begins one request later is as good. */
#ifndef SENDRING_TOOLS_SINK_FAULT_H
#define SENDRING_TOOLS_SINK_FAULT_H

#include "base/err.h"
#include "base/random.h"
#include "base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* name, what it does with one request (partial: with one entry). In the order in which they are drawn. */
#define SINK_FAULT_TABLE(X)                                                                            \
        X(RESET, "reset", "connection reset before anything is stored")                                \
        X(STALL, "stall", "never answered, nothing stored")                                            \
        X(STALL_BYTES, "stall_bytes", "answered a byte every two seconds, nothing stored")             \
        X(ENDLESS, "endless", "an answer whose head or body never ends, nothing stored")               \
        X(GARBAGE, "garbage", "answered with bytes that make no sense, nothing stored")                \
        X(ERROR500, "error500", "InternalFailure, HTTP 500, nothing stored")                           \
        X(THROTTLE, "throttle",                                                                        \
          "ServiceUnavailableException: every other time the whole call (HTTP 503), "                  \
          "else its last entries")                                                                     \
        X(PARTIAL, "partial", "one entry refused with ServiceUnavailableException or InternalFailure") \
        X(RESET_AFTER, "reset_after", "stored, but the connection is reset instead of an answer")

enum sink_fault {
#define SINK_FAULT_ENUM(name, text, help) SINK_FAULT_##name,
        SINK_FAULT_TABLE(SINK_FAULT_ENUM)
#undef SINK_FAULT_ENUM
                SINK_FAULTS_COUNT
};

struct sink_keys {
        char access_key[132], secret_key[132];
};

struct sink_faults {
        _Atomic uint64_t threshold[SINK_FAULTS_COUNT]; /* probability * 2^32 */
        _Atomic uint64_t latency_ns;                   /* every answer waits that long */
        _Atomic(const struct sink_keys *) keys;        /* accepted instead of those of before; NULL: none were set */
        _Atomic bool down;                             /* connections refused and closed */
        _Atomic bool blackhole;                        /* connections accepted; nothing is read, nothing answered */
};

const char *sink_fault_name(enum sink_fault fault);

/* "throttle" "0.3", "latency" "20ms" (us, ms, s), "down" "on". ERR_NAME-like failures name what would be right. */
enum err_code sink_faults_set(struct sink_faults *faults, struct slice name, struct slice value, struct err *reterr);

/* "ID SECRET": from now on these are accepted, and the ones of before have expired. What was set before stays in
 * memory, since a request may be looking at it. */
enum err_code sink_faults_set_keys(struct sink_faults *faults, struct slice keys, struct err *reterr);

/* True with the probability set for `fault`. */
bool sink_fault_draw(const struct sink_faults *faults, enum sink_fault fault, struct random_state *random);

#endif
