/* The journal under threads and under SIGKILL.
 *
 * Threads: one writer, two workers (each reads, checks every byte, and moves the cursor of its target), a helper
 * (maintains and syncs), control (audits, retires and registers a third target, and ever new ones). At the end every
 * count is exact.
 *
 * Kills: a process appends, publishes, settles and maintains until it is killed at a random instant; the log is opened
 * and every promise checked; again, as long as the time lasts. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/random.h"
#include "journal/journal.h"

#include "tests/support/journal_files.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define MIB         (1024u * 1024u)
#define MEAN        700u
#define TARGETS     3u
#define NEW_TARGETS 200u

#define CHECK(condition, ...)                                                  \
        do {                                                                   \
                if (!(condition)) {                                            \
                        (void)fprintf(stderr, "%s:%d: ", __func__, __LINE__);  \
                        (void)fprintf(stderr, __VA_ARGS__);                    \
                        (void)fprintf(stderr, "\nnot true: %s\n", #condition); \
                        abort();                                               \
                }                                                              \
        } while (0)

static const char *const keys[TARGETS] = {"file /a", "firehose b", "sns c"};

static struct journal *must_open(const char *directory, enum journal_durability durability,
                                 struct journal_recovery *ret_recovery)
{
        struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 12ull * MIB,
                .segments_mapped_max = 4,
                .durability = durability,
        };
        struct journal *journal;
        struct err err;
        enum err_code code = journal_open(&options, &journal, ret_recovery, &err);
        CHECK(code == ERR_OK, "%s", err.text);
        for (uint32_t i = 0; i < TARGETS; i++) {
                uint16_t target;
                code = journal_target_register(journal, slice_of_text(keys[i]), &target, &err);
                CHECK(code == ERR_OK && target == i, "%s", err.text);
        }
        return journal;
}

static void check_equation(struct journal *journal, uint16_t target)
{
        struct journal_target_state state;
        uint64_t waiting;
        struct err err;
        enum err_code code = journal_target_audit(journal, target, &state, &waiting, &err);
        CHECK(code == ERR_OK, "%s", err.text);
        CHECK(state.accepted == state.delivered + state.shed + waiting,
              "target %u: accepted %" PRIu64 " delivered %" PRIu64 " shed %" PRIu64 " waiting %" PRIu64, target,
              state.accepted, state.delivered, state.shed, waiting);
}

/* ------------------------------------------------------------------------------------------------------ threads */

struct shared {
        struct journal *journal;
        atomic_bool writer_stop, control_stop;
        atomic_uint_fast64_t full, audits, retired, read[2];
};

struct worker {
        struct shared *shared;
        uint16_t target;
};

static void *writer_main(void *context)
{
        struct shared *shared = context;
        uint64_t sequence = 1;
        while (!atomic_load_explicit(&shared->writer_stop, memory_order_relaxed)) {
                if (journal_files_append(shared->journal, sequence, MEAN, TARGETS) != ERR_OK) {
                        atomic_fetch_add_explicit(&shared->full, 1, memory_order_relaxed);
                        journal_publish(shared->journal);
                        (void)sched_yield();
                        continue;
                }
                if (sequence % 16 == 0)
                        journal_publish(shared->journal);
                sequence++;
        }
        journal_publish(shared->journal);
        return NULL;
}

static void *worker_main(void *context)
{
        const struct worker *worker = context;
        struct shared *shared = worker->shared;
        struct journal *journal = shared->journal;
        struct journal_reader *reader;
        struct journal_target_state state;
        struct random_state random;
        random_init(&random, worker->target + 1u);
        CHECK(journal_reader_create(journal, &reader, NULL) == ERR_OK, "no reader");
        CHECK(journal_target_get(journal, worker->target, &state), "no target");
        uint64_t position = state.cursor_position, sequence = state.cursor_sequence, delivered = 0, idle = 0;
        for (;;) {
                struct journal_record record;
                bool stopping = atomic_load_explicit(&shared->writer_stop, memory_order_acquire);
                uint64_t limit = journal_committed_position(journal);
                enum err_code code = journal_read(reader, position, limit, &record);
                if (code == ERR_EMPTY) {
                        if (stopping && ++idle > 100)
                                break;
                        journal_reader_rest(reader);
                        clock_nap_ns(CLOCK_NS_PER_MS);
                        continue;
                }
                CHECK(code == ERR_OK, "%s", err_name(code));
                CHECK(record.sequence == sequence, "%" PRIu64 " instead of %" PRIu64, record.sequence, sequence);
                CHECK(journal_files_check(record.payload, sequence, MEAN), "payload of %" PRIu64, sequence);
                for (unsigned i = 0; i < record.entry.routes_count; i++)
                        delivered += record.entry.routes[i] == worker->target;
                position = record.next_position;
                sequence++;
                if (sequence % 64 == 0) {
                        journal_target_advance(journal, worker->target, position, sequence,
                                               &(struct journal_settled){.delivered = delivered});
                        delivered = 0;
                        atomic_store_explicit(&shared->read[worker->target], sequence - 1, memory_order_relaxed);
                }
                /* Now and then it falls so far behind that its segments turn cold. */
                if (random_below(&random, 20000) == 0)
                        clock_nap_ns((worker->target + 1u) * 20 * CLOCK_NS_PER_MS);
        }
        journal_target_advance(journal, worker->target, position, sequence,
                               &(struct journal_settled){.delivered = delivered});
        journal_reader_free(reader);
        return NULL;
}

static void *helper_main(void *context)
{
        struct shared *shared = context;
        struct journal *journal = shared->journal;
        struct random_state random;
        random_init(&random, 78);
        while (!atomic_load_explicit(&shared->control_stop, memory_order_relaxed)) {
                if (journal_wants_maintenance(journal) || random_below(&random, 8) == 0) {
                        enum err_code code = journal_maintain(journal, NULL);
                        CHECK(code == ERR_OK || code == ERR_FULL, "%s", err_name(code));
                }
                if (random_below(&random, 20) == 0)
                        CHECK(journal_sync(journal, NULL) == ERR_OK, "sync");
                clock_nap_ns(200 * CLOCK_NS_PER_US);
        }
        return NULL;
}

static void *control_main(void *context)
{
        struct shared *shared = context;
        struct journal *journal = shared->journal;
        struct random_state random;
        uint32_t added = 0;
        random_init(&random, 77);
        while (!atomic_load_explicit(&shared->control_stop, memory_order_relaxed)) {
                uint64_t choice = random_below(&random, 40);
                if (choice < 3) {
                        check_equation(journal, (uint16_t)choice);
                        atomic_fetch_add_explicit(&shared->audits, 1, memory_order_relaxed);
                } else if (choice == 3) {
                        journal_target_retire(journal, 2);
                        atomic_fetch_add_explicit(&shared->retired, 1, memory_order_relaxed);
                } else if (choice < 6) {
                        uint16_t target;
                        CHECK(journal_target_register(journal, slice_of_text(keys[2]), &target, NULL) == ERR_OK,
                              "register");
                } else if (choice == 7 && added < NEW_TARGETS) {
                        /* The file grows, and its lines are maintenance's as well. */
                        char key[32];
                        uint16_t target;
                        (void)snprintf(key, sizeof(key), "new %u", added++);
                        CHECK(journal_target_register(journal, slice_of_text(key), &target, NULL) == ERR_OK,
                              "register");
                        journal_target_retire(journal, target); /* nobody would move its cursor */
                } else if (choice == 8) {
                        struct journal_stats stats;
                        journal_get_stats(journal, &stats);
                        CHECK(stats.size_bytes <= 12ull * MIB, "size %" PRIu64, stats.size_bytes);
                }
                /* Target 2 has no worker: what waits for it is thrown away here, by its owner. */
                struct journal_target_state state;
                uint64_t position, sequence;
                CHECK(journal_target_get(journal, 2, &state), "no target");
                if (!state.retired && random_below(&random, 4) == 0) {
                        journal_target_retire(journal, 2);
                        uint16_t target;
                        CHECK(journal_target_register(journal, slice_of_text(keys[2]), &target, NULL) == ERR_OK,
                              "register");
                }
                journal_committed(journal, &position, &sequence);
                CHECK(position >= state.cursor_position || state.retired, "the pair went back");
                clock_nap_ns(200 * CLOCK_NS_PER_US);
        }
        return NULL;
}

static void stress_threads(uint64_t duration_ns)
{
        char directory[256];
        journal_files_make(directory);
        static struct shared shared;
        shared.journal = must_open(directory, JOURNAL_DURABILITY_HOST, NULL);
        struct worker workers[2] = {{&shared, 0}, {&shared, 1}};
        pthread_t writer, helper, control, threads[2];
        CHECK(pthread_create(&writer, NULL, writer_main, &shared) == 0, "thread");
        CHECK(pthread_create(&control, NULL, control_main, &shared) == 0, "thread");
        CHECK(pthread_create(&helper, NULL, helper_main, &shared) == 0, "thread");
        for (unsigned i = 0; i < 2; i++)
                CHECK(pthread_create(&threads[i], NULL, worker_main, &workers[i]) == 0, "thread");
        clock_sleep_ns(duration_ns);
        atomic_store_explicit(&shared.writer_stop, true, memory_order_release);
        (void)pthread_join(writer, NULL);
        for (unsigned i = 0; i < 2; i++)
                (void)pthread_join(threads[i], NULL);
        atomic_store_explicit(&shared.control_stop, true, memory_order_relaxed);
        (void)pthread_join(control, NULL);
        (void)pthread_join(helper, NULL);
        uint64_t next = journal_next_sequence(shared.journal);
        for (uint16_t target = 0; target < TARGETS; target++) {
                struct journal_target_state state;
                check_equation(shared.journal, target);
                (void)journal_target_get(shared.journal, target, &state); /* it exists */
                CHECK(state.accepted == journal_files_routed(1, next, target), "target %u", target);
                if (target < 2)
                        CHECK(state.delivered == state.accepted, "target %u", target);
        }
        struct journal_stats stats;
        journal_get_stats(shared.journal, &stats);
        CHECK(next > 1000, "hardly anything happened");
        printf("threads: %" PRIu64 " records, %" PRIu64 " segments recycled, %" PRIu64 " times full, %" PRIu64
               " audits, %" PRIu64 " times retired\n",
               next - 1, stats.segments_recycled, (uint64_t)shared.full, (uint64_t)shared.audits,
               (uint64_t)shared.retired);
        journal_close(shared.journal);
        journal_files_remove(directory);
}

/* ------------------------------------------------------------------------------------------------------ kills */

/* Shared with the process that will be killed; each word has one writer at a time. */
struct progress {
        atomic_uint_fast64_t started;   /* the record that is being written, or is written */
        atomic_uint_fast64_t committed; /* journal_commit() returned */
        atomic_uint_fast64_t opened;    /* how often journal_open() returned */
        atomic_uint_fast64_t cursor[2]; /* journal_target_advance() returned: events before it are settled */
};

static _Noreturn void victim(const char *directory, struct progress *progress, uint64_t seed)
{
        struct random_state random;
        random_init(&random, seed);
        struct journal *journal = must_open(directory, JOURNAL_DURABILITY_PROCESS, NULL);
        uint64_t sequence = journal_next_sequence(journal);
        atomic_fetch_add_explicit(&progress->opened, 1, memory_order_relaxed);
        for (;;) {
                atomic_store_explicit(&progress->started, sequence, memory_order_release);
                if (journal_files_append(journal, sequence, MEAN, TARGETS) == ERR_OK) {
                        atomic_store_explicit(&progress->committed, sequence, memory_order_release);
                        sequence++;
                }
                if (random_below(&random, 8) == 0)
                        journal_publish(journal);
                if (journal_wants_maintenance(journal)) {
                        enum err_code code = journal_maintain(journal, NULL);
                        CHECK(code == ERR_OK || code == ERR_FULL, "%s", err_name(code));
                        if (code == ERR_FULL)
                                journal_publish(journal);
                }
                uint16_t target = (uint16_t)random_below(&random, 40);
                struct journal_target_state state;
                if (target < 2 && journal_target_get(journal, target, &state)) {
                        uint64_t position, next;
                        journal_committed(journal, &position, &next);
                        journal_target_advance(journal, target, position, next,
                                               &(struct journal_settled){.delivered = journal_files_routed(
                                                                                 state.cursor_sequence, next, target)});
                        atomic_store_explicit(&progress->cursor[target], next, memory_order_release);
                }
                if (target == 2)
                        journal_target_retire(journal, 2);
                if (target == 3)
                        (void)journal_target_register(journal, slice_of_text(keys[2]), &target, NULL);
        }
}

static void check_after_kill(const char *directory, const struct progress *progress)
{
        struct journal_recovery recovery;
        struct journal *journal = must_open(directory, JOURNAL_DURABILITY_PROCESS, &recovery);
        uint64_t next = journal_next_sequence(journal), oldest = next;
        uint64_t position = journal_committed_position(journal);
        CHECK(recovery.lost_records == 0 && recovery.quarantined_segments == 0, "lost %" PRIu64, recovery.lost_records);
        CHECK(recovery.targets_rebuilt == 0 && recovery.targets_repaired == 0, "targets were repaired");
        CHECK(next > progress->committed, "committed %" PRIu64 ", next is %" PRIu64, (uint64_t)progress->committed,
              next);
        CHECK(next <= progress->started + 1, "started %" PRIu64 ", next is %" PRIu64, (uint64_t)progress->started,
              next);
        for (uint16_t target = 0; target < TARGETS; target++) {
                struct journal_target_state state;
                check_equation(journal, target);
                (void)journal_target_get(journal, target, &state); /* it exists */
                CHECK(state.accepted == journal_files_routed(1, next, target), "target %u: %" PRIu64, target,
                      state.accepted);
                if (target == 2)
                        continue;
                CHECK(state.cursor_sequence >= progress->cursor[target], "the cursor of target %u went back", target);
                CHECK(state.delivered == journal_files_routed(1, state.cursor_sequence, target), "target %u", target);
                if (state.cursor_sequence < oldest) {
                        oldest = state.cursor_sequence;
                        position = state.cursor_position;
                }
        }
        struct journal_reader *reader;
        struct journal_record record;
        CHECK(journal_reader_create(journal, &reader, NULL) == ERR_OK, "no reader");
        enum err_code code;
        while ((code = journal_read(reader, position, journal_committed_position(journal), &record)) == ERR_OK) {
                CHECK(record.sequence == oldest, "%" PRIu64 " instead of %" PRIu64, record.sequence, oldest);
                CHECK(journal_files_check(record.payload, oldest, MEAN), "payload of %" PRIu64, oldest);
                position = record.next_position;
                oldest++;
        }
        CHECK(code == ERR_EMPTY && oldest == next, "%s at %" PRIu64, err_name(code), oldest);
        for (uint64_t lane = 0; lane < 3; lane++) {
                uint64_t expected = 0;
                for (uint64_t back = 1; back <= 3 && back < next && recovery.records >= 3; back++)
                        expected = 100 + (next - back) % 3 == 100 + lane ? (next - back) * 8 : expected;
                if (expected != 0)
                        CHECK(journal_lane_position(journal, 100 + lane) == expected, "lane %" PRIu64, lane);
        }
        journal_reader_free(reader);
        journal_close(journal);
}

static void stress_kills(uint64_t duration_ns)
{
        char directory[256];
        journal_files_make(directory);
        struct progress *progress =
                mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(progress != MAP_FAILED, "mmap");
        struct random_state random;
        random_init(&random, 0);
        journal_close(must_open(directory, JOURNAL_DURABILITY_PROCESS, NULL));
        uint64_t start_ns = clock_monotonic_ns(), kills = 0;
        while (clock_monotonic_ns() - start_ns < duration_ns) {
                uint64_t seed = random_u64(&random), opened = progress->opened;
                pid_t child = fork();
                CHECK(child >= 0, "fork");
                if (child == 0)
                        victim(directory, progress, seed | 1);
                /* One in four dies while it opens, the others while they work. */
                if (kills % 4 != 0) {
                        for (unsigned i = 0; i < 10000 && progress->opened == opened; i++)
                                clock_nap_ns(CLOCK_NS_PER_MS);
                }
                clock_sleep_ns(random_below(&random, 10 * CLOCK_NS_PER_MS));
                CHECK(kill(child, SIGKILL) == 0, "kill");
                int status;
                CHECK(waitpid(child, &status, 0) == child, "waitpid");
                CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the process ended by itself: %d", status);
                check_after_kill(directory, progress);
                kills++;
        }
        printf("kills: %" PRIu64 ", %" PRIu64 " records\n", kills, (uint64_t)progress->committed);
        CHECK(progress->committed > 1000, "hardly anything happened");
        (void)munmap(progress, sizeof(*progress));
        journal_files_remove(directory);
}

int main(int argc, char **argv)
{
        uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 3;
        stress_kills(seconds * CLOCK_NS_PER_S / 2);
        stress_threads(seconds * CLOCK_NS_PER_S / 2);
        return 0;
}
