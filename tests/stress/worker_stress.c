/* A writer (the shard), an egress worker and a control thread, over one journal, for the thread sanitizer. The writer
 * alternates between bursts and single events whose delivery it waits for; the control thread maintains the small
 * journal and adds, removes, takes back and frees a second target all the time.
 *
 * Checks: every event once and in order, the ledger of both targets, and no lost wake-up. Whoever was woken wants a
 * core from then on, whether or not this machine has one for it: a worker that sleeps while an event waits that it was
 * told of, turn for turn the same, was not woken, and only its tick of half a second would find the event. And with no
 * linger a single event is delivered long before that tick, less what both threads waited for a core meanwhile.
 *
 * usage: worker_stress SECONDS */
#include "base/random.h"
#include "tests/support/egress_rig.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LATE_NS   (250 * CLOCK_NS_PER_MS)
#define ASLEEP_MS 50u /* of the tick: what is not woken is found nine times out of ten */

static struct egress_rig rig;
static _Atomic bool stop;
static _Atomic bool second_wanted, second_seen; /* control's plan; what the writer goes by: as shard_plan_seen() */
static _Atomic int worker_tid;
static uint64_t published, singles, lost, late, worst_ns;

static void note_worker(void *context, uint32_t worker)
{
        (void)context;
        (void)worker;
        atomic_store(&worker_tid, (int)syscall(SYS_gettid));
}

/* Whether it sleeps; not so where it runs, or waits for a core or for a disk. */
static bool worker_sleeps(void)
{
        char path[64], line[512] = "";
        (void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", atomic_load(&worker_tid)); /* fits */
        FILE *file = fopen(path, "re");
        EGRESS_RIG_CHECK(file != NULL);
        EGRESS_RIG_CHECK(fgets(line, sizeof(line), file) != NULL);
        (void)fclose(file);
        const char *end = strrchr(line, ')'); /* of its name */
        EGRESS_RIG_CHECK(end != NULL);
        return end[1] == ' ' && end[2] == 'S';
}

/* How long the worker and this thread have wanted a core and had none, by the kernel's account. */
static uint64_t waited_ns(void)
{
        const int tids[] = {atomic_load(&worker_tid), (int)syscall(SYS_gettid)};
        uint64_t sum = 0;
        for (size_t i = 0; i < 2; i++) {
                char path[64];
                unsigned long long ran = 0, waited = 0;
                (void)snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tids[i]); /* fits */
                FILE *file = fopen(path, "re");
                EGRESS_RIG_CHECK(file != NULL);
                /* NOLINTNEXTLINE(cert-err34-c): numbers of the kernel */
                EGRESS_RIG_CHECK(fscanf(file, "%llu %llu", &ran, &waited) == 2);
                (void)fclose(file);
                sum += waited;
        }
        return sum;
}

/* As worker_ranges_waiting(): what it was told of and has not looked at. */
static bool range_waits(void)
{
        const struct rte_ring *ranges = rig.workers[0]->feeds[0].ranges;
        return __atomic_load_n(&ranges->prod.tail, __ATOMIC_ACQUIRE) !=
               __atomic_load_n(&ranges->cons.tail, __ATOMIC_ACQUIRE);
}

/* Until it has looked at all. Counts it when it sleeps instead. */
static void wait_looked(void)
{
        uint64_t turns = 0, asleep_ms = 0, until_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (range_waits()) {
                EGRESS_RIG_CHECK(clock_monotonic_ns() < until_ns);
                uint64_t now = counters_sum(&rig.counters, COUNTER_egress_turns);
                asleep_ms = now == turns && worker_sleeps() ? asleep_ms + 1 : 0;
                turns = now;
                lost += asleep_ms == ASLEEP_MS;
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
}

static void *writer(void *argument)
{
        struct random_state random;
        random_init(&random, 1);
        (void)argument;
        while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
                /* A quiescent point. */
                bool second = atomic_load_explicit(&second_wanted, memory_order_acquire);
                atomic_store_explicit(&second_seen, second, memory_order_release);
                const uint32_t routes[] = {0, 1, 0};
                bool single = random_unit(&random) < 0.5;
                uint32_t count = single ? 1 : (uint32_t)(random_unit(&random) * 200) + 1;
                for (uint32_t i = 0; i < count; i++) {
                        size_t bytes = egress_rig_encode((uint32_t)published++, (uint32_t)(random_unit(&random) * 2000),
                                                         rig.event, sizeof(rig.event));
                        egress_rig_append(&rig, 0, rig.event, bytes, routes, second ? 2 : 1, clock_realtime_ms());
                }
                uint64_t begun_ns = clock_monotonic_ns();
                egress_rig_offer(&rig, 0, true);
                if (!single)
                        continue;
                /* Until the worker has caught up, so that it is about to sleep, then one more. */
                EGRESS_RIG_CHECK(egress_rig_wait_delivered(&rig, 0, published, 20000));
                size_t bytes = egress_rig_encode((uint32_t)published++, 0, rig.event, sizeof(rig.event));
                uint64_t spin = (uint64_t)(random_unit(&random) * 20000);
                begun_ns = clock_monotonic_ns();
                while (clock_monotonic_ns() - begun_ns < spin)
                        ;
                egress_rig_append(&rig, 0, rig.event, bytes, routes, second ? 2 : 1, clock_realtime_ms());
                uint64_t waited_before_ns = waited_ns();
                begun_ns = clock_monotonic_ns();
                egress_rig_offer(&rig, 0, false);
                wait_looked();
                EGRESS_RIG_CHECK(egress_rig_wait_delivered(&rig, 0, published, 20000));
                uint64_t took_ns = clock_monotonic_ns() - begun_ns;
                singles++;
                late += took_ns > LATE_NS + (waited_ns() - waited_before_ns);
                worst_ns = took_ns > worst_ns ? took_ns : worst_ns;
        }
        return NULL;
}

static void maintain(uint32_t times)
{
        struct err err;
        for (uint32_t i = 0; i < times; i++) {
                (void)journal_maintain(rig.journals[0], &err); /* a full one empties by itself */
                clock_nap_ns(CLOCK_NS_PER_MS / 2);
        }
}

static void plan(bool second)
{
        atomic_store_explicit(&second_wanted, second, memory_order_release);
        while (atomic_load_explicit(&second_seen, memory_order_acquire) != second)
                maintain(1);
}

static int balanced(uint32_t target, uint64_t *ret_delivered)
{
        uint64_t waiting = 0;
        struct journal_target_state state = egress_rig_state(&rig, 0, target);
        *ret_delivered = state.delivered;
        if (egress_rig_is_balanced(&rig, 0, target, &waiting) && waiting == 0 && state.shed == 0)
                return 1;
        (void)fprintf(stderr, "worker_stress: target %u: %llu accepted, %llu delivered, %llu shed, %llu wait\n", target,
                      (unsigned long long)state.accepted, (unsigned long long)state.delivered,
                      (unsigned long long)state.shed, (unsigned long long)waiting);
        return 0;
}

static int in_order(uint32_t target, uint64_t count, bool dense)
{
        uint32_t seen = 0;
        uint32_t *ids = egress_rig_read_file(&rig, target, &seen);
        bool good = seen == count;
        for (uint32_t i = 0; i < seen && good; i++)
                good = dense ? ids[i] == i : i == 0 || ids[i] > ids[i - 1];
        free(ids);
        if (!good)
                (void)fprintf(stderr, "worker_stress: target %u: %u lines for %llu events, or not in order\n", target,
                              seen, (unsigned long long)count);
        return good;
}

int main(int argc, char **argv)
{
        uint64_t seconds = argc > 1 ? strtoul(argv[1], NULL, 10) : 3;
        log_level_set(LOG_ERROR);
        egress_rig_defaults(&rig);
        rig.settings.egress.linger_ms = 0;
        rig.journal_bytes_max = 16 * LIMIT_SEGMENT_BYTES_MIN;
        rig.maintained_elsewhere = true;
        rig.thread_begins = note_worker;
        egress_rig_open(&rig);
        (void)egress_rig_add_file(&rig, "0.ndjson", 0);
        (void)egress_rig_add_file(&rig, "1.ndjson", 0);
        egress_rig_run(&rig);
        pthread_t thread;
        EGRESS_RIG_CHECK(pthread_create(&thread, NULL, writer, NULL) == 0);
        uint64_t end_ns = clock_monotonic_ns() + seconds * CLOCK_NS_PER_S;
        uint64_t rounds = 0, kept = 0;
        while (clock_monotonic_ns() < end_ns) {
                struct egress_rig_target *second = &rig.targets[1];
                plan(true);
                maintain(20);
                plan(false);
                while (!egress_worker_remove_target(rig.workers[0], second->target))
                        maintain(1);
                rounds++;
                maintain((uint32_t)(rounds % 40));
                if (rounds % 3 != 0 && egress_target_keep(second->target)) {
                        kept++;
                        continue;
                }
                while (!egress_target_is_gone(second->target))
                        maintain(1);
                journal_target_retire(rig.journals[0], second->numbers[0]);
                egress_target_free(second->target);
                rig.targets_count = 1;
                (void)egress_rig_add_file(&rig, "1.ndjson", 0);
        }
        atomic_store(&stop, true);
        while (pthread_tryjoin_np(thread, NULL) != 0)
                maintain(1);
        clock_sleep_ns(CLOCK_NS_PER_MS);
        egress_rig_offer(&rig, 0, true);
        egress_rig_stop(&rig, 10000);
        uint64_t first = 0, second = 0;
        int good = balanced(0, &first) & balanced(1, &second);
        good &= in_order(0, published, true) & in_order(1, second, false);
        egress_rig_close(&rig);
        egress_rig_remove(&rig);
        printf("worker_stress: %llu events, %llu to the second target, %llu removals, %llu taken back, %llu singles, "
               "slowest %.1f ms, %llu late, %llu wake-ups lost\n",
               (unsigned long long)published, (unsigned long long)second, (unsigned long long)rounds,
               (unsigned long long)kept, (unsigned long long)singles, (double)worst_ns / 1e6, (unsigned long long)late,
               (unsigned long long)lost);
        return good && late == 0 && lost == 0 && published > 0 && second > 0 ? 0 : 1;
}
