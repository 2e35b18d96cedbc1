#include "bench/lane_run.h"

#include "base/clock.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_NS     (10 * CLOCK_NS_PER_S)
#define ENDLESS_NS   (60 * CLOCK_NS_PER_S)
#define SOURCE_BYTES (LANE_RUN_SOURCES * LANE_MEDIA_RECORD_BYTES)

/* The consumer's books. */
struct run_books {
        const struct lane_run_options *options;
        uint64_t next[LANE_MEDIA_PRODUCERS_MAX];
        uint64_t taken;
};

struct lane_run_shared *lane_run_shared_create(void)
{
        return lane_media_shared(sizeof(struct lane_run_shared));
}

uint8_t *lane_run_sources(uint32_t record_bytes)
{
        uint8_t *sources = malloc(SOURCE_BYTES);
        if (sources == NULL)
                lane_media_die("memory", "there is none");
        for (size_t i = 0; i < (size_t)LANE_RUN_SOURCES * record_bytes; i++)
                sources[i] = (uint8_t)(i * 37 + i / record_bytes);
        return sources;
}

const uint8_t *lane_run_record(struct lane_run_self *self, uint64_t due_ns)
{
        const struct lane_run_head head = {self->own->sent, due_ns, self->rig->producer};
        uint8_t *record = self->sources + head.sequence % LANE_RUN_SOURCES * self->rig->record_bytes;
        memcpy(record, &head, sizeof(head));
        record[self->rig->record_bytes - 1] = (uint8_t)head.sequence;
        return record;
}

/* Side by side, or the scheduler may put both on one core and the figure is that of its time slices. */
void lane_run_pin(enum lane_run_place place, bool consumer, uint32_t producer)
{
        static cpu_set_t all;
        static bool known;
        if (!known)
                known = sched_getaffinity(0, sizeof(all), &all) == 0;
        uint32_t cpus = known ? (uint32_t)CPU_COUNT(&all) : 1;
        cpu_set_t set = all;
        if (place == LANE_RUN_PINNED && cpus > 1) {
                uint32_t wanted = consumer ? 0 : 1 + producer % (cpus - 1);
                CPU_ZERO(&set);
                for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
                        if (CPU_ISSET(cpu, &all) && wanted-- == 0)
                                CPU_SET(cpu, &set);
        }
        (void)sched_setaffinity(0, sizeof(set), &set); /* it stays where it is */
}

static void run_got(void *context, const uint8_t *record)
{
        struct run_books *books = context;
        struct lane_run_head head;
        memcpy(&head, record, sizeof(head));
        if (head.producer >= books->options->producers || head.sequence != books->next[head.producer] ||
            record[books->options->record_bytes - 1] != (uint8_t)head.sequence)
                lane_media_die(books->options->medium->name, "a record is not the next of its producer, or not whole");
        books->next[head.producer]++;
        books->taken++;
        if (books->options->got != NULL)
                books->options->got(books->options->got_context, record);
}

static _Noreturn void run_producer(const struct lane_run_options *options, struct lane_media_rig *rig,
                                   struct lane_run_shared *shared, uint32_t producer)
{
        rig->producer = producer;
        lane_run_pin(options->place, false, producer);
        (void)prctl(PR_SET_TIMERSLACK, 1UL); /* naps as short as they are asked for */
        struct lane_run_self self = {.medium = options->medium,
                                     .rig = rig,
                                     .shared = shared,
                                     .own = &shared->of[producer],
                                     .sources = lane_run_sources(rig->record_bytes)};
        if (options->medium->attach != NULL)
                options->medium->attach(rig);
        (void)atomic_fetch_add(&shared->ready, 1);
        while (!atomic_load_explicit(&shared->start, memory_order_acquire))
                (void)sched_yield();
        options->produce(&self, options->context);
        _exit(0);
}

static uint32_t run_reap(pid_t *children, uint32_t count)
{
        uint32_t left = 0;
        for (uint32_t i = 0; i < count; i++) {
                int status;
                if (children[i] == 0)
                        continue;
                pid_t got = waitpid(children[i], &status, WNOHANG);
                if (got == children[i]) {
                        children[i] = 0;
                        if (status != 0)
                                lane_media_die("producer", "ended before its time");
                } else {
                        left++;
                }
        }
        return left;
}

static void run_start(const struct lane_run_options *options, struct lane_media_rig *rig,
                      struct lane_run_shared *shared, pid_t children[LANE_MEDIA_PRODUCERS_MAX])
{
        pid_t parent = getpid();
        for (uint32_t i = 0; i < options->producers; i++) {
                children[i] = fork();
                if (children[i] < 0)
                        lane_media_die("fork", strerror(errno));
                if (children[i] == 0) {
                        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
                                _exit(1);
                        run_producer(options, rig, shared, i);
                }
        }
        uint64_t deadline_ns = clock_monotonic_ns() + READY_NS;
        while ((options->medium->attached != NULL && !options->medium->attached(rig)) ||
               atomic_load(&shared->ready) < options->producers) {
                if (clock_monotonic_ns() > deadline_ns)
                        lane_media_die(options->medium->name, "producers were not ready within 10 s");
                (void)run_reap(children, options->producers);
                (void)sched_yield();
        }
}

struct lane_run_result lane_run(struct lane_run_shared *shared, const struct lane_run_options *options)
{
        struct lane_media_rig rig;
        struct run_books books = {.options = options};
        pid_t children[LANE_MEDIA_PRODUCERS_MAX] = {0};
        memset(shared, 0, sizeof(*shared));
        lane_media_rig_init(&rig, options->record_bytes, options->producers);
        options->medium->open(&rig);
        run_start(options, &rig, shared, children);
        lane_run_pin(options->place, true, 0);
        uint64_t now_ns = clock_monotonic_ns(), reap_ns = now_ns;
        shared->start_ns = now_ns;
        atomic_store_explicit(&shared->start, true, memory_order_release);
        const uint64_t end_ns = options->seconds > 0 ? now_ns + (uint64_t)(options->seconds * 1e9) : UINT64_MAX;
        const uint64_t warm_ns = options->seconds > 0 ? now_ns + (end_ns - now_ns) / 4 : now_ns;
        uint64_t warm_taken = 0, begin_ns = now_ns;
        bool running = true;
        while (running && now_ns < end_ns) {
                uint64_t last_ns = now_ns;
                if (now_ns < warm_ns) {
                        warm_taken = books.taken;
                        begin_ns = now_ns;
                }
                (void)options->medium->take(&rig, run_got, &books);
                do {
                        now_ns = clock_monotonic_ns();
                } while (now_ns - last_ns < options->pause_ns);
                if (now_ns - reap_ns > CLOCK_NS_PER_MS) {
                        reap_ns = now_ns;
                        running = run_reap(children, options->producers) > 0;
                        if (now_ns - shared->start_ns > ENDLESS_NS)
                                lane_media_die(options->medium->name, "producers came to no end within a minute");
                }
        }
        struct lane_run_result result = {books.taken - warm_taken, (double)(now_ns - begin_ns) * 1e-9};
        atomic_store(&shared->stop, true);
        while (run_reap(children, options->producers) > 0) {
                if (options->medium->take(&rig, run_got, &books) == 0)
                        (void)sched_yield();
                if (clock_monotonic_ns() - now_ns > ENDLESS_NS)
                        lane_media_die(options->medium->name, "producers did not stop within a minute");
        }
        while (options->medium->take(&rig, run_got, &books) > 0)
                continue;
        for (uint32_t i = 0; i < options->producers; i++)
                if (books.next[i] != shared->of[i].sent)
                        lane_media_die(options->medium->name, "records were sent and did not come");
        options->medium->close(&rig);
        lane_media_rig_release(&rig);
        lane_run_pin(LANE_RUN_FREE, true, 0);
        return result;
}

void lane_run_print(const char *bench, const char *metric, double value, const char *unit, double floor, bool rate)
{
        if (value > 0)
                printf("{\"bench\":\"%s\",\"metric\":\"%s\",\"value\":%.5g,\"unit\":\"%s\",\"floor\":%.5g,"
                       "\"ratio\":%.3f}\n",
                       bench, metric, value, unit, floor, rate ? floor / value : value / floor);
        else
                printf("{\"bench\":\"%s\",\"note\":\"%s: nothing came through in the time of a round\"}\n", bench,
                       metric);
}

void lane_run_arguments(int argc, char **argv, double smoke_seconds, uint32_t *rounds, double *seconds)
{
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
                        *rounds = (uint32_t)strtoul(argv[++i], NULL, 10);
                } else if (strcmp(argv[i], "--smoke") == 0) {
                        *rounds = 1;
                        *seconds = smoke_seconds;
                } else if (strcmp(argv[i], "--json") != 0) { /* the only form there is */
                        lane_media_die(argv[i], "usage: [--json] [--rounds N] [--smoke]");
                }
        }
        if (*rounds < 1 || *rounds > LANE_RUN_ROUNDS_MAX)
                lane_media_die("--rounds", "from 1 to 100");
}
