/* Runs seeds, each in a process of its own, some at a time; says which failed and how to run one again. */
#include "base/clock.h"
#include "tests/sim/sim.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAIN_JOBS_MAX     64u
#define MAIN_NOTES        32u
#define MAIN_NOTE_BYTES   320u
#define MAIN_FAILURES_MAX 200u /* told one by one */
#define MAIN_SEED_S       120  /* a seed that takes longer hangs */

struct random_state sim_random;
bool sim_trace;

/* What a seed's process tells its parent, in shared memory. */
struct main_slot {
        struct sim_result result;
        uint64_t digest;
        char failure[1024];
        char notes[MAIN_NOTES][MAIN_NOTE_BYTES]; /* the last ones, in a ring */
        uint32_t notes_count;
        bool passed;
};
static struct main_slot *slot; /* of this process */

bool sim_chance(double probability)
{
        return probability > 0 && random_unit(&sim_random) < probability;
}

uint64_t sim_below(uint64_t bound)
{
        return random_below(&sim_random, bound);
}

void sim_note(const char *format, ...)
{
        char *note = slot->notes[slot->notes_count++ % MAIN_NOTES];
        int used = snprintf(note, MAIN_NOTE_BYTES, "%10.3f ms  ", (double)sim_now_ns() / (double)CLOCK_NS_PER_MS);
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(note + used, MAIN_NOTE_BYTES - (size_t)used, format, arguments); /* cut */
        va_end(arguments);
        for (const char *at = note; *at != '\0'; at++)
                slot->digest = (slot->digest ^ (uint8_t)*at) * UINT64_C(0x100000001b3);
        if (sim_trace)
                (void)fprintf(stderr, "%s\n", note);
}

void sim_fail(const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(slot->failure, sizeof(slot->failure), format, arguments); /* cut */
        va_end(arguments);
        _exit(1);
}

/* Seeds of hashes and segments: by the seed as well. Everything that asks the kernel for randomness comes here. */
ssize_t getrandom(void *buffer, size_t bytes, unsigned flags)
{
        uint8_t *to = buffer;
        (void)flags;
        for (size_t i = 0; i < bytes; i++)
                to[i] = (uint8_t)random_u64(&sim_random);
        return (ssize_t)bytes;
}

struct main_options {
        uint64_t base_seed, seeds, jobs, seconds;
        bool one, verify;
};

struct main_totals {
        struct sim_result sum;
        uint64_t run, failed, first_failed;
};

static void main_run_seed(uint64_t seed)
{
        (void)alarm(MAIN_SEED_S);
        if (!sim_trace && freopen("/dev/null", "we", stderr) == NULL) /* the router's log */
                _exit(2);
        random_init(&sim_random, seed * 2 + 1);
        slot->digest = UINT64_C(0xcbf29ce484222325);
        sim_world_run(&slot->result);
        slot->passed = true;
        _exit(0);
}

static void main_tell(const struct main_slot *own, uint64_t seed, int status, const struct main_totals *totals)
{
        if (totals->failed > MAIN_FAILURES_MAX)
                return;
        const char *why = own->failure;
        char died[100];
        if (why[0] == '\0' && WIFSIGNALED(status)) {
                (void)snprintf(died, sizeof(died), "ended by signal %d (%s)%s", WTERMSIG(status),
                               strsignal(WTERMSIG(status)), WTERMSIG(status) == SIGALRM ? ": it hangs" : "");
                why = died;
        }
        printf("sim: seed %llu FAILED: %s\n", (unsigned long long)seed, why);
        uint32_t shown = own->notes_count < 6 ? own->notes_count : 6;
        for (uint32_t i = own->notes_count - shown; i < own->notes_count; i++)
                printf("sim:   %s\n", own->notes[i % MAIN_NOTES]);
        printf("sim:   again: scripts/sim --seed %llu --trace\n", (unsigned long long)seed);
        (void)fflush(stdout);
}

static void main_count(struct main_totals *totals, const struct main_slot *own, uint64_t seed, int status)
{
        totals->run++;
        if (!own->passed || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                totals->first_failed = totals->failed++ == 0 ? seed : totals->first_failed;
                main_tell(own, seed, status, totals);
                return;
        }
        totals->sum.published += own->result.published;
        totals->sum.received += own->result.received;
        totals->sum.duplicates += own->result.duplicates;
        totals->sum.shed += own->result.shed;
        totals->sum.damaged += own->result.damaged;
        totals->sum.reloads += own->result.reloads;
        totals->sum.pages_lost += own->result.pages_lost;
        totals->sum.lost += own->result.lost;
        totals->sum.dead_lettered += own->result.dead_lettered;
        totals->sum.kills += own->result.kills;
        totals->sum.power_cuts += own->result.power_cuts;
        totals->sum.starts += own->result.starts;
        totals->sum.failed_starts += own->result.failed_starts;
        totals->sum.disk_full += own->result.disk_full;
        totals->sum.sim_ms += own->result.sim_ms;
}

static uint64_t main_number(const char *text, const char *option)
{
        uint64_t value;
        if (!slice_to_u64(slice_of_text(text), UINT64_MAX, &value)) {
                (void)fprintf(stderr, "sim: %s wants a number, not \"%s\"\n", option, text);
                exit(64);
        }
        return value;
}

static struct main_options main_parse(int argc, char **argv)
{
        static const struct option options[] = {
                {"seeds", required_argument, NULL, 'n'},
                {"base-seed", required_argument, NULL, 'b'},
                {"seed", required_argument, NULL, 's'},
                {"jobs", required_argument, NULL, 'j'},
                {"seconds", required_argument, NULL, 't'},
                {"trace", no_argument, NULL, 'T'},
                {"verify", no_argument, NULL, 'v'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        struct main_options parsed = {.base_seed = 1, .seeds = 2000, .jobs = cores < 1 ? 1 : (uint64_t)cores};
        for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
                switch (c) {
                case 'n':
                        parsed.seeds = main_number(optarg, "--seeds");
                        break;
                case 'b':
                        parsed.base_seed = main_number(optarg, "--base-seed");
                        break;
                case 's':
                        parsed.base_seed = main_number(optarg, "--seed");
                        parsed.seeds = 1;
                        parsed.one = true;
                        break;
                case 'j':
                        parsed.jobs = main_number(optarg, "--jobs");
                        break;
                case 't':
                        parsed.seconds = main_number(optarg, "--seconds");
                        break;
                case 'T':
                        sim_trace = true;
                        break;
                case 'v':
                        parsed.verify = true;
                        break;
                case 'h':
                        printf("usage: scripts/sim [--seeds N] [--base-seed S] [--jobs N] [--seconds N] [--verify]\n"
                               "       scripts/sim --seed S [--trace]\n\n"
                               "Runs N seeds from S on (2000 from 1), or what --seconds allow of them. Each simulates "
                               "a\n"
                               "host, its disk, its network and its kills with the real journal, router and egress\n"
                               "code, and checks that nothing accepted is lost and every ledger balances.\n"
                               "--verify runs each seed twice and compares; --trace prints every step.\n");
                        exit(0);
                default:
                        exit(64);
                }
        }
        if (optind < argc || parsed.jobs == 0 || parsed.jobs > MAIN_JOBS_MAX) {
                (void)fprintf(stderr, "sim: wrong arguments; --help tells\n");
                exit(64);
        }
        return parsed;
}

int main(int argc, char **argv)
{
        struct main_options options = main_parse(argc, argv);
        struct main_totals totals = {0};
        struct main_slot *slots =
                mmap(NULL, sizeof(*slots) * MAIN_JOBS_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pid_t pids[MAIN_JOBS_MAX] = {0};
        uint64_t seed_of[MAIN_JOBS_MAX] = {0}, digest_of[MAIN_JOBS_MAX] = {0};
        bool again[MAIN_JOBS_MAX] = {false};
        if (slots == MAP_FAILED)
                return 2;
        slot = &slots[0];
        random_init(&sim_random, 1);
        sim_world_prepare();
        struct timespec begin, now;
        (void)clock_gettime(CLOCK_MONOTONIC, &begin);
        double told_s = 0, taken_s = 0;
        for (uint64_t next = 0, running = 0; next < options.seeds || running > 0;) {
                for (uint32_t i = 0; i < options.jobs; i++) {
                        if (pids[i] != 0 || (!again[i] && next >= options.seeds))
                                continue;
                        if (!again[i])
                                seed_of[i] = options.base_seed + next++;
                        memset(&slots[i], 0, sizeof(slots[i]));
                        (void)fflush(stdout);
                        pids[i] = fork();
                        if (pids[i] < 0)
                                return 2;
                        if (pids[i] == 0) {
                                slot = &slots[i];
                                main_run_seed(seed_of[i]);
                        }
                        running += !again[i]; /* a seed that is repeated runs all the time */
                }
                int status;
                pid_t ended = wait(&status);
                for (uint32_t i = 0; i < options.jobs; i++) {
                        if (pids[i] != ended)
                                continue;
                        pids[i] = 0;
                        if (again[i] && slots[i].digest != digest_of[i]) {
                                slots[i].passed = false;
                                (void)snprintf(slots[i].failure, sizeof(slots[i].failure),
                                               "two runs of the seed differ: something is not simulated");
                        }
                        bool repeat = options.verify && !again[i] && slots[i].passed;
                        digest_of[i] = slots[i].digest;
                        again[i] = repeat;
                        if (repeat)
                                continue;
                        running--;
                        main_count(&totals, &slots[i], seed_of[i], status);
                }
                (void)clock_gettime(CLOCK_MONOTONIC, &now);
                taken_s = (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9;
                if (options.seconds > 0 && taken_s >= (double)options.seconds)
                        options.seeds = next;
                if (taken_s - told_s >= 10) {
                        told_s = taken_s;
                        (void)fprintf(stderr, "sim: %llu of %llu seeds, %llu failed, %.0f s\n",
                                      (unsigned long long)totals.run, (unsigned long long)options.seeds,
                                      (unsigned long long)totals.failed, taken_s);
                }
        }
        /* A seed that misses an event fails: there is no sum of those. */
        printf("sim: seeds %llu failed %llu; in the others: published %llu duplicated %llu shed %llu dead-lettered "
               "%llu lost-pages %llu lost %llu reloads %llu damaged %llu kills %llu power-cuts %llu starts %llu "
               "refused-starts %llu simulated %.1f h in %.0f s\n",
               (unsigned long long)totals.run, (unsigned long long)totals.failed,
               (unsigned long long)totals.sum.published, (unsigned long long)totals.sum.duplicates,
               (unsigned long long)totals.sum.shed, (unsigned long long)totals.sum.dead_lettered,
               (unsigned long long)totals.sum.pages_lost, (unsigned long long)totals.sum.lost,
               (unsigned long long)totals.sum.reloads, (unsigned long long)totals.sum.damaged,
               (unsigned long long)totals.sum.kills, (unsigned long long)totals.sum.power_cuts,
               (unsigned long long)totals.sum.starts, (unsigned long long)totals.sum.failed_starts,
               (double)totals.sum.sim_ms / 3.6e6, taken_s);
        if (totals.failed > 0)
                printf("sim: the first that failed: scripts/sim --seed %llu --trace\n",
                       (unsigned long long)totals.first_failed);
        return totals.failed == 0 ? 0 : 1;
}
