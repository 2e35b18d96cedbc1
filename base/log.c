/* Lines go straight to stderr until log_start(), then into a queue for one thread that writes them. The queue is Dmitry
 * Vyukov's bounded one: a writer takes a place by a compare-and-swap of `taken` and hands it over by its `turn`; nobody
 * waits for anybody. That one thread may wait for whoever reads stderr as long as it takes: it has nothing else to do.
 */
#include "base/log.h"

#include "base/clock.h"
#include "base/limits.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_THREAD_STACK_BYTES ((size_t)128 * 1024)

struct log_place {
        /* Q1: position: free for the writer who takes that position; position + 1: filled, release-stored by him and
         * acquired by the thread; position + LOG_LINES_MAX: free for the next round, release-stored by the thread and
         * acquired by who takes it. */
        _Atomic uint64_t turn;
        uint32_t bytes;
        char text[LIMIT_LOG_LINE_BYTES_MAX];
};

static struct {
        _Atomic bool running;
        _Atomic bool stop;
        _Atomic uint64_t taken;   /* positions that writers have */
        _Atomic uint64_t written; /* positions that the thread is done with */
        _Atomic uint64_t dropped; /* lines, ever */
        uint64_t dropped_told;    /* of the thread */
        sem_t waiting;
        pthread_t thread;
        struct log_place places[LIMIT_LOG_LINES_MAX];
} log_queue;

static enum log_level log_level_now = LOG_INFO;
static const char *log_role;

static const char *const log_level_names[] = {"error", "warning", "info", "debug"};

void log_level_set(enum log_level level)
{
        log_level_now = level;
}

bool log_level_parse(const char *text, enum log_level *ret_level)
{
        for (int i = 0; i < 4; i++) {
                if (strcmp(text, log_level_names[i]) == 0) {
                        *ret_level = (enum log_level)i;
                        return true;
                }
        }
        return false;
}

void log_role_set(const char *role)
{
        log_role = role;
}

/* ---------------------------------------------------------------------------------------------- the queue */

/* Any thread. False: no place is free. */
static bool log_put(const char *text, size_t bytes)
{
        uint64_t position = atomic_load_explicit(&log_queue.taken, memory_order_relaxed);
        struct log_place *place;
        for (;;) {
                place = &log_queue.places[position % LIMIT_LOG_LINES_MAX];
                uint64_t turn = atomic_load_explicit(&place->turn, memory_order_acquire); /* Q1 */
                if (turn < position)
                        return false; /* still of the round before */
                /* Relaxed: the place is handed over by its turn. A failure loads `position` anew. */
                if (turn > position)
                        position = atomic_load_explicit(&log_queue.taken, memory_order_relaxed);
                else if (atomic_compare_exchange_weak_explicit(&log_queue.taken, &position, position + 1,
                                                               memory_order_relaxed, memory_order_relaxed))
                        break;
        }
        memcpy(place->text, text, bytes);
        place->bytes = (uint32_t)bytes;
        atomic_store_explicit(&place->turn, position + 1, memory_order_release); /* Q1 */
        return true;
}

/* To stderr, whatever it is and however long that takes. False: it cannot be written. */
static bool log_out(const char *text, size_t bytes)
{
        while (bytes > 0) {
                ssize_t wrote = write(STDERR_FILENO, text, bytes);
                if (wrote > 0) {
                        text += wrote;
                        bytes -= (size_t)wrote;
                } else if (wrote < 0 && errno == EAGAIN) { /* somebody we share it with has made it non-blocking */
                        struct pollfd wait = {.fd = STDERR_FILENO, .events = POLLOUT};
                        (void)poll(&wait, 1, -1); /* whatever it says, it is tried again */
                } else if (wrote == 0 || errno != EINTR) {
                        return false; /* there is nowhere left to say that stderr is gone */
                }
        }
        return true;
}

static void log_queue_tell_dropped(void)
{
        char line[256];
        uint64_t dropped = atomic_load_explicit(&log_queue.dropped, memory_order_relaxed); /* a count */
        if (dropped == log_queue.dropped_told)
                return;
        int len =
                snprintf(line, sizeof(line),
                         "level=warning%s%.64s msg=\"log lines were dropped: nobody read stderr\" lines=%" PRIu64 "\n",
                         log_role ? " role=" : "", log_role ? log_role : "", dropped - log_queue.dropped_told);
        if (log_out(line, (size_t)len))
                log_queue.dropped_told = dropped;
}

static void *log_queue_thread(void *unused)
{
        (void)unused;
        (void)pthread_setname_np(pthread_self(), "log"); /* for top(1) only */
        for (uint64_t position = 0;;) {
                struct log_place *place = &log_queue.places[position % LIMIT_LOG_LINES_MAX];
                if (atomic_load_explicit(&place->turn, memory_order_acquire) != position + 1) { /* Q1 */
                        if (atomic_load_explicit(&log_queue.stop, memory_order_acquire))
                                return NULL;
                        (void)sem_wait(&log_queue.waiting); /* a signal is as good as a line: look again */
                        continue;
                }
                if (log_out(place->text, place->bytes))
                        log_queue_tell_dropped(); /* here and not behind what is queued: it is written again */
                atomic_store_explicit(&place->turn, position + LIMIT_LOG_LINES_MAX, memory_order_release); /* Q1 */
                atomic_store_explicit(&log_queue.written, ++position, memory_order_release); /* pairs in log_flush() */
        }
}

/* In a child process, which has no such thread: straight to stderr, as before. */
static void log_queue_forked(void)
{
        atomic_store_explicit(&log_queue.running, false, memory_order_relaxed); /* there is one thread now */
}

bool log_start(void)
{
        static bool forks_are_watched;
        sigset_t all, before;
        pthread_attr_t attributes;
        if (!forks_are_watched && pthread_atfork(NULL, NULL, log_queue_forked) != 0)
                return false;
        forks_are_watched = true;
        for (uint64_t i = 0; i < LIMIT_LOG_LINES_MAX; i++)
                atomic_store_explicit(&log_queue.places[i].turn, i, memory_order_relaxed); /* nobody else is there */
        atomic_store_explicit(&log_queue.taken, 0, memory_order_relaxed);
        atomic_store_explicit(&log_queue.written, 0, memory_order_relaxed);
        atomic_store_explicit(&log_queue.stop, false, memory_order_relaxed);
        (void)sem_init(&log_queue.waiting, 0, 0); /* 0 is a valid value */
        /* Signals are the main thread's; and SIGPIPE, blocked, is an error of write(2). */
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        (void)pthread_attr_init(&attributes);
        (void)pthread_attr_setstacksize(&attributes, LOG_THREAD_STACK_BYTES); /* a valid size */
        bool started = pthread_create(&log_queue.thread, &attributes, log_queue_thread, NULL) == 0;
        (void)pthread_attr_destroy(&attributes);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        atomic_store_explicit(&log_queue.running, started, memory_order_release);
        return started;
}

bool log_flush(uint64_t wait_ns)
{
        if (!atomic_load_explicit(&log_queue.running, memory_order_acquire))
                return true;
        uint64_t taken = atomic_load_explicit(&log_queue.taken, memory_order_relaxed); /* ours are among them */
        uint64_t until_ns = clock_monotonic_ns() + wait_ns;
        /* Acquire: pairs with the thread's release, though only the count is used. */
        while (atomic_load_explicit(&log_queue.written, memory_order_acquire) < taken) {
                if (clock_monotonic_ns() >= until_ns)
                        return false;
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        return true;
}

void log_stop(uint64_t wait_ns)
{
        if (!log_flush(wait_ns) || !atomic_load_explicit(&log_queue.running, memory_order_relaxed))
                return; /* the thread is left alone: it hangs, or there is none */
        atomic_store_explicit(&log_queue.stop, true, memory_order_release);
        (void)sem_post(&log_queue.waiting); /* far from its limit */
        struct timespec until;
        (void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail */
        until.tv_sec++;                               /* it is at rest */
        if (pthread_clockjoin_np(log_queue.thread, NULL, CLOCK_MONOTONIC, &until) == 0)
                atomic_store_explicit(&log_queue.running, false, memory_order_relaxed); /* what follows goes straight */
}

uint64_t log_dropped(void)
{
        return atomic_load_explicit(&log_queue.dropped, memory_order_relaxed); /* a count */
}

static void log_emit(const char *text, size_t bytes)
{
        if (!atomic_load_explicit(&log_queue.running, memory_order_acquire))
                (void)log_out(text, bytes); /* there is nowhere left to say that stderr is gone */
        else if (log_put(text, bytes))
                (void)sem_post(&log_queue.waiting); /* far from its limit */
        else
                atomic_fetch_add_explicit(&log_queue.dropped, 1, memory_order_relaxed); /* a count */
}

/* ---------------------------------------------------------------------------------------------- lines */

void log_text(const char *text)
{
        bool read = true;
        while (*text != '\0') {
                size_t bytes = strcspn(text, "\n");
                bytes += text[bytes] == '\n';
                if (bytes > LIMIT_LOG_LINE_BYTES_MAX)
                        bytes = LIMIT_LOG_LINE_BYTES_MAX;
                /* More lines than there are places wait for those before, which is no time when somebody reads. */
                uint64_t taken = atomic_load_explicit(&log_queue.taken, memory_order_relaxed); /* a hint */
                uint64_t written = atomic_load_explicit(&log_queue.written, memory_order_relaxed);
                if (read && taken - written >= LIMIT_LOG_LINES_MAX / 2)
                        read = log_flush(LOG_FLUSH_NS / 4);
                log_emit(text, bytes);
                text += bytes;
        }
}

void log_write(enum log_level level, const char *message, const char *fields, ...)
{
        if (level > log_level_now)
                return;
        char line[LIMIT_LOG_LINE_BYTES_MAX];
        size_t room = sizeof(line) - 1; /* the last byte is the newline's */
        int used = snprintf(line, room, "level=%s%s%s msg=\"%s\"", log_level_names[level], log_role ? " role=" : "",
                            log_role ? log_role : "", message);
        size_t len = used < 0 ? 0 : (size_t)used < room ? (size_t)used : room - 1;
        if (fields[0] != '\0' && len + 2 < room) {
                line[len++] = ' ';
                va_list args;
                va_start(args, fields);
                used = vsnprintf(line + len, room - len, fields, args);
                va_end(args);
                if (used > 0)
                        len += (size_t)used < room - len ? (size_t)used : room - len - 1;
        }
        line[len++] = '\n';
        log_emit(line, len);
}

bool log_gate_open(struct log_gate *gate, uint64_t now_ns, uint64_t interval_ns, uint64_t *ret_repeats)
{
        if (gate->last_ns != 0 && now_ns - gate->last_ns < interval_ns) {
                gate->repeats++;
                return false;
        }
        *ret_repeats = gate->repeats;
        gate->repeats = 0;
        gate->last_ns = now_ns == 0 ? 1 : now_ns;
        return true;
}

const char *log_quote(const char *text, char *out, size_t out_bytes)
{
        size_t len = 0;
        if (out_bytes < 8)
                return "\"\"";
        out[len++] = '"';
        for (; *text != '\0' && len + 6 < out_bytes; text++) {
                unsigned char byte = (unsigned char)*text;
                if (byte == '"' || byte == '\\') {
                        out[len++] = '\\';
                        out[len++] = (char)byte;
                } else if (byte < 0x20 || byte == 0x7f) {
                        len += (size_t)snprintf(out + len, out_bytes - len, "\\x%02x", byte);
                } else {
                        out[len++] = (char)byte;
                }
        }
        out[len++] = '"';
        out[len] = '\0';
        return out;
}
