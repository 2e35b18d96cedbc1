/* Pages that cannot be backed: a SIGBUS in one of our mappings costs that page, not the process.
 *
 * The table of mappings is read by the signal handler of whichever thread faulted, so it is lock-free for reading: a
 * line is written before its `end` is stored, and its `end` is cleared before it may be used again. The mapping in
 * which a thread faults is held by that thread, so its line does not change under the handler.
 *
 * The handler calls mmap(), which POSIX does not list as safe in a handler; on Linux it is one system call without a
 * lock or state in libc. It runs on the faulting thread's own stack: a fault in a mapping is no stack overflow. */
#include "io/disk.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#define DISK_GUARDS_MAX       32768u /* warm segments of 16 shards, cold ones of readers, targets, outboxes, pages */
#define DISK_GUARD_PAGE_BYTES 4096u

struct disk_guard_line {
        _Atomic uintptr_t begin;
        _Atomic uintptr_t end; /* 0: free */
        _Atomic uint32_t lost;
        bool writable;
};

static struct disk_guard_line disk_guards[DISK_GUARDS_MAX];
static _Atomic uint32_t disk_guards_end; /* lines from here on were never used */
static pthread_mutex_t disk_guards_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction disk_guard_before;

static void disk_guard_handler(int number, siginfo_t *info, void *context)
{
        (void)context;
        const uintptr_t at = (uintptr_t)info->si_addr;
        /* Acquire: pairs with the releases in disk_guard(). */
        uint32_t lines = atomic_load_explicit(&disk_guards_end, memory_order_acquire);
        for (uint32_t i = 0; i < lines; i++) {
                struct disk_guard_line *line = &disk_guards[i];
                uintptr_t end = atomic_load_explicit(&line->end, memory_order_acquire);
                /* G1: acquire, and `end` once more: a line that is just getting another mapping is not ours. Pairs with
                 * G2 in disk_guard(). */
                if (at >= end || at < atomic_load_explicit(&line->begin, memory_order_acquire) ||
                    end != atomic_load_explicit(&line->end, memory_order_relaxed))
                        continue;
                void *page = (void *)(at & ~(uintptr_t)(DISK_GUARD_PAGE_BYTES - 1));
                int protection = line->writable ? PROT_READ | PROT_WRITE : PROT_READ;
                if (mmap(page, DISK_GUARD_PAGE_BYTES, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
                    page)
                        break; /* no memory either: as without us */
                /* Release: whoever sees the count sees the zeros. */
                atomic_fetch_add_explicit(&line->lost, 1, memory_order_release);
                return;
        }
        /* Not ours: what was in force before us comes next time, at once, since the access is made again. */
        (void)sigaction(number, &disk_guard_before, NULL);
}

/* Once per process, at its first mapping. */
static void disk_guard_install(void)
{
        struct sigaction action = {.sa_sigaction = disk_guard_handler, .sa_flags = SA_SIGINFO | SA_RESTART};
        (void)sigemptyset(&action.sa_mask);                   /* cannot fail */
        (void)sigaction(SIGBUS, &action, &disk_guard_before); /* cannot fail for this signal */
}

bool disk_guard(void *map, uint64_t bytes, bool writable)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        static uint32_t hint; /* under the mutex */
        struct disk_guard_line *line = NULL;
        (void)pthread_once(&once, disk_guard_install);
        (void)pthread_mutex_lock(&disk_guards_mutex); /* cannot fail: a plain mutex, never taken twice */
        uint32_t lines = atomic_load_explicit(&disk_guards_end, memory_order_relaxed);
        for (uint32_t i = 0; i < lines && line == NULL; i++) {
                uint32_t at = (hint + i) % lines;
                if (atomic_load_explicit(&disk_guards[at].end, memory_order_relaxed) == 0) {
                        line = &disk_guards[at];
                        hint = at + 1;
                }
        }
        if (line == NULL && lines < DISK_GUARDS_MAX) {
                line = &disk_guards[lines];
                atomic_store_explicit(&disk_guards_end, lines + 1, memory_order_release);
        }
        if (line != NULL) {
                line->writable = writable;
                atomic_store_explicit(&line->lost, 0, memory_order_relaxed);
                /* G2: whoever sees it sees that `end` was cleared before. */
                atomic_store_explicit(&line->begin, (uintptr_t)map, memory_order_release);
                atomic_store_explicit(&line->end, (uintptr_t)map + bytes, memory_order_release);
        }
        (void)pthread_mutex_unlock(&disk_guards_mutex);
        return line != NULL;
}

static struct disk_guard_line *disk_guard_find(const void *map)
{
        uint32_t lines = atomic_load_explicit(&disk_guards_end, memory_order_acquire);
        for (uint32_t i = 0; i < lines; i++) {
                struct disk_guard_line *line = &disk_guards[i];
                if (atomic_load_explicit(&line->end, memory_order_acquire) != 0 &&
                    atomic_load_explicit(&line->begin, memory_order_relaxed) == (uintptr_t)map)
                        return line;
        }
        return NULL;
}

void disk_guard_forget(const void *map)
{
        struct disk_guard_line *line = disk_guard_find(map);
        if (line != NULL)
                atomic_store_explicit(&line->end, 0, memory_order_release);
}

const _Atomic uint32_t *disk_lost(const void *map)
{
        static const _Atomic uint32_t none = 0;
        const struct disk_guard_line *line = disk_guard_find(map);
        return line != NULL ? &line->lost : &none;
}

int disk_map_again(int fd, void *map, uint64_t bytes)
{
        struct disk_guard_line *line = disk_guard_find(map);
        /* Only what was lost until now is mended: a page that is lost again at once counts again. */
        uint32_t lost = line != NULL ? atomic_load_explicit(&line->lost, memory_order_acquire) : 0;
        if (mmap(map, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != map)
                return -1;
        if (line != NULL)
                atomic_fetch_sub_explicit(&line->lost, lost, memory_order_release);
        return 0;
}
