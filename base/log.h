/* Log lines: `level=warning msg="..." key=value ...` on stderr, one write(2) a line, for journald or a file.
 *
 * In a daemon, after log_start(), no thread ever waits for who reads stderr: lines go through a queue of
 * LIMIT_LOG_LINES_MAX to a thread that writes them. When the queue is full, which takes a reader that reads nothing for
 * a while, further lines are dropped; the next line that is written is followed by one that says how many. Without
 * log_start(), as in the tools, log_write() writes, and waits.
 *
 * error = somebody must act; warning = degraded but going on; info = life cycle; debug = for the builder. Modules
 * return errors; the owner of the thread logs, once per cause. No secrets, no content of mails. Any thread; never in
 * libsendring, never on the hot path. */
#ifndef SENDRING_BASE_LOG_H
#define SENDRING_BASE_LOG_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR = 0, LOG_WARNING = 1, LOG_INFO = 2, LOG_DEBUG = 3 };

/* Lines above `level` are dropped. Default LOG_INFO. Set before threads start. */
void log_level_set(enum log_level level);
/* "error", "warning", "info", "debug"; false for anything else. */
bool log_level_parse(const char *text, enum log_level *ret_level);
/* A word that every line carries as role=..., for example "router" or "keeper". Must outlive the process. */
void log_role_set(const char *role);

/* From here on through the queue. Once in a process, before its other threads; not in a child of fork(), whose lines go
 * straight out again until it calls this, too. False: there is no thread to be had, and everything stays as it was. */
bool log_start(void);
/* Waits until what was logged so far is written, no longer than `wait_ns`. False: it is not. */
bool log_flush(uint64_t wait_ns);
/* At the end of a process: flushes for as long, then ends the thread; one that hangs is left alone, and nothing that is
 * logged afterwards waits. */
void log_stop(uint64_t wait_ns);
#define LOG_FLUSH_NS UINT64_C(1000000000) /* long enough for whoever reads at all */
/* Lines that were dropped since log_start(). */
uint64_t log_dropped(void);
/* Whole lines, as they are, for findings that a person reads. More than the queue holds wait for those before, until
 * that took LOG_FLUSH_NS / 4 without a half of it being read: not for shards and workers. */
void log_text(const char *text);

/* `fields` is printf-style, already key=value; "" for none. Text values that may hold spaces go through log_quote(). */
void log_write(enum log_level level, const char *message, const char *fields, ...)
        __attribute__((format(printf, 3, 4)));

#define log_error(message, ...)   log_write(LOG_ERROR, message, __VA_ARGS__)
#define log_warning(message, ...) log_write(LOG_WARNING, message, __VA_ARGS__)
#define log_info(message, ...)    log_write(LOG_INFO, message, __VA_ARGS__)
#define log_debug(message, ...)   log_write(LOG_DEBUG, message, __VA_ARGS__)

/* Says one cause once: true when the caller should log now, false while it repeats within `interval_ns`. The number of
 * suppressed repeats since the last line is left in *ret_repeats. One thread per log_gate; zero-initialise it. */
struct log_gate {
        uint64_t last_ns;
        uint64_t repeats;
};
bool log_gate_open(struct log_gate *gate, uint64_t now_ns, uint64_t interval_ns, uint64_t *ret_repeats);

/* Puts `text` in double quotes with ", \ and control bytes escaped; cut to fit. Returns `out`. */
const char *log_quote(const char *text, char *out, size_t out_bytes);

#endif
