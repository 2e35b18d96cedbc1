/* `sendring loadgen`: open-loop load from several producer processes, with ids from which any endpoint can count loss
 * and duplicates exactly (loadgen_id.h). The parent forks the producers before anything is opened, watches, kills where
 * asked to, and reports. */
#include "base/clock.h"
#include "base/random.h"
#include "tools/cmd.h"
#include "tools/loadgen_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t loadgen_signalled;

static void loadgen_on_signal(int signal_number)
{
        (void)signal_number;
        loadgen_signalled = 1;
}

/* ---------------------------------------------------------------------------------------------- producers */

static void *loadgen_map_shared(size_t bytes)
{
        void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        return memory == MAP_FAILED ? NULL : memory;
}

static bool loadgen_map_counts(struct loadgen *loadgen)
{
        size_t bytes = (loadgen->options.producer_first + loadgen->slots_count) * sizeof(uint64_t);
        int fd = open(loadgen->counts_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
                return false;
        void *memory = MAP_FAILED;
        if (ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)bytes) == 0)
                memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        int sys_errno = errno;
        (void)close(fd); /* the mapping stays */
        errno = sys_errno;
        loadgen->counts = memory == MAP_FAILED ? NULL : memory;
        return memory != MAP_FAILED;
}

/* Forks a producer with the next number, whose first event is due at `start_ns`. */
static bool loadgen_spawn(struct loadgen *loadgen, uint64_t start_ns, uint64_t events_max)
{
        struct loadgen_slot *slot = &loadgen->slots[loadgen->slots_used];
        slot->number = loadgen->options.producer_first + loadgen->slots_used;
        slot->events_max = events_max;
        uint64_t duration_ns = loadgen->options.duration_ns;
        uint64_t end_ns = duration_ns == 0 ? UINT64_MAX : loadgen->start_ns + duration_ns;
        pid_t parent = getpid();
        pid_t pid = fork();
        if (pid < 0) {
                (void)fprintf(stderr, "sendring loadgen: fork: %s\n", strerror(errno));
                return false;
        }
        if (pid == 0) {
                /* Ends with the parent, however that ends. */
                if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
                        _exit(CMD_EXIT_FAILED);
                (void)prctl(PR_SET_TIMERSLACK, 1000UL); /* finer naps, where allowed */
                /* The parent says when to stop; a terminal's ^C goes to all of us. */
                (void)signal(SIGINT, SIG_IGN);
                (void)signal(SIGTERM, SIG_IGN);
                loadgen_producer_run(&loadgen->options, slot, start_ns, end_ns, loadgen->stop,
                                     loadgen->counts == NULL ? NULL : &loadgen->counts[slot->number]);
                _exit(CMD_EXIT_OK);
        }
        slot->pid = pid;
        slot->running = true;
        loadgen->slots_used++;
        return true;
}

static uint64_t loadgen_published(const struct loadgen *loadgen)
{
        uint64_t published = 0;
        for (uint32_t i = 0; i < loadgen->slots_used; i++)
                published += atomic_load_explicit(&loadgen->slots[i].published, memory_order_relaxed);
        return published;
}

static uint64_t loadgen_full(const struct loadgen *loadgen)
{
        uint64_t full = 0;
        for (uint32_t i = 0; i < loadgen->slots_used; i++)
                full += atomic_load_explicit(&loadgen->slots[i].full, memory_order_relaxed);
        return full;
}

/* Notes the producers that have ended. Returns how many still run. */
static uint32_t loadgen_reap(struct loadgen *loadgen)
{
        uint32_t running = 0;
        for (uint32_t i = 0; i < loadgen->slots_used; i++) {
                struct loadgen_slot *slot = &loadgen->slots[i];
                int status = 0;
                if (!slot->running)
                        continue;
                if (waitpid(slot->pid, &status, WNOHANG) != slot->pid) {
                        running++;
                        continue;
                }
                slot->running = false;
                if (WIFSIGNALED(status)) {
                        slot->killed = true;
                        bool cut = WTERMSIG(status) == SIGBUS && loadgen->options.replay != NULL; /* its mapping */
                        if (!loadgen->kill_test || WTERMSIG(status) != SIGKILL)
                                (void)snprintf(
                                        slot->error, sizeof(slot->error), "died by signal %d%s", WTERMSIG(status),
                                        cut ? ": the capture was cut off or not readable while it was replayed" : "");
                }
        }
        return running;
}

/* Kills one of the running producers and puts a new one, with a new number, in its place. */
static bool loadgen_kill_one(struct loadgen *loadgen, struct random_state *random, uint32_t running)
{
        uint32_t victim = (uint32_t)random_below(random, running);
        for (uint32_t i = 0; i < loadgen->slots_used; i++) {
                struct loadgen_slot *slot = &loadgen->slots[i];
                if (!slot->running || victim-- > 0)
                        continue;
                int status = 0;
                (void)kill(slot->pid, SIGKILL); /* a child of ours, not yet waited for: the pid is its own */
                if (waitpid(slot->pid, &status, 0) != slot->pid)
                        return false;
                slot->running = false;
                slot->killed = WIFSIGNALED(status);
                loadgen->kills++;
                if (!slot->killed)
                        return true; /* it was just done */
                uint64_t left = slot->events_max - atomic_load_explicit(&slot->published, memory_order_relaxed);
                return loadgen_spawn(loadgen, clock_monotonic_ns(), left);
        }
        return true;
}

/* The second that has just ended: told, and kept for the report as long as there is memory for it. */
static void loadgen_tell(struct loadgen *loadgen, const struct loadgen_second *before, const struct loadgen_second *now,
                         uint64_t elapsed_ns, uint64_t second_ns)
{
        struct loadgen_second second = {.published = now->published - before->published,
                                        .full = now->full - before->full};
        for (uint32_t i = 0; i < loadgen->slots_used; i++) {
                uint64_t max_ns = atomic_exchange_explicit(&loadgen->slots[i].lateness_max_ns, 0, memory_order_relaxed);
                if (max_ns > second.lateness_max_ns)
                        second.lateness_max_ns = max_ns;
        }
        (void)fprintf(stderr, "loadgen: %.0f s published %llu (%.0f/s) full %llu late at most %.2f ms\n",
                      (double)elapsed_ns / 1e9, (unsigned long long)now->published,
                      (double)second.published * 1e9 / (double)second_ns, (unsigned long long)now->full,
                      (double)second.lateness_max_ns / 1e6);
        if (loadgen->seconds_count == loadgen->seconds_room) {
                uint32_t room = loadgen->seconds_room == 0 ? 1024 : 2 * loadgen->seconds_room;
                struct loadgen_second *seconds = realloc(loadgen->seconds, room * sizeof(*seconds));
                if (seconds == NULL)
                        return;
                loadgen->seconds = seconds;
                loadgen->seconds_room = room;
        }
        loadgen->seconds[loadgen->seconds_count++] = second;
}

static bool loadgen_watch(struct loadgen *loadgen)
{
        struct random_state random;
        random_init(&random, loadgen->options.events.seed + 77);
        uint64_t shown_ns = loadgen->start_ns;
        struct loadgen_second shown = {0};
        uint64_t kill_ns = loadgen->start_ns + loadgen->kill_interval_ns;
        for (;;) {
                uint32_t running = loadgen_reap(loadgen);
                if (running == 0)
                        return true;
                uint64_t now_ns = clock_monotonic_ns();
                if (loadgen_signalled != 0)
                        atomic_store_explicit(loadgen->stop, true, memory_order_relaxed);
                if (loadgen->kills < loadgen->kills_max && now_ns >= kill_ns && loadgen_signalled == 0) {
                        if (!loadgen_kill_one(loadgen, &random, running))
                                return false;
                        kill_ns = now_ns + 1 + random_below(&random, 2 * loadgen->kill_interval_ns);
                }
                if (loadgen->progress && now_ns >= shown_ns + CLOCK_NS_PER_S) {
                        struct loadgen_second now = {.published = loadgen_published(loadgen),
                                                     .full = loadgen_full(loadgen)};
                        loadgen_tell(loadgen, &shown, &now, now_ns - loadgen->start_ns, now_ns - shown_ns);
                        shown = now;
                        shown_ns = now_ns;
                }
                clock_nap_ns(loadgen->kills < loadgen->kills_max ? CLOCK_NS_PER_MS : 10 * CLOCK_NS_PER_MS);
        }
}

/* ---------------------------------------------------------------------------------------------- main */

static int loadgen_run(struct loadgen *loadgen)
{
        struct loadgen_options *options = &loadgen->options;
        loadgen->slots = loadgen_map_shared(loadgen->slots_count * sizeof(*loadgen->slots));
        loadgen->stop = loadgen_map_shared(sizeof(*loadgen->stop));
        if (loadgen->slots == NULL || loadgen->stop == NULL) {
                (void)fprintf(stderr, "sendring loadgen: out of memory\n");
                return CMD_EXIT_FAILED;
        }
        if (loadgen->counts_path != NULL && !loadgen_map_counts(loadgen)) {
                (void)fprintf(stderr, "sendring loadgen: %s: %s\n", loadgen->counts_path, strerror(errno));
                return CMD_EXIT_IO;
        }
        /* Attaching takes the producers a moment: time counts from when they can all have done it. */
        loadgen->start_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_MS;
        uint64_t share = options->events_max / options->producers_count;
        uint64_t rest = options->events_max % options->producers_count;
        bool ok = true;
        double interval_ns = options->rate > 0 && options->profile == NULL ? (double)CLOCK_NS_PER_S / options->rate : 0;
        for (uint32_t i = 0; i < options->producers_count && ok; i++)
                /* The producers take turns. */
                ok = loadgen_spawn(loadgen, loadgen->start_ns + (uint64_t)(interval_ns * i),
                                   options->events_max == 0 ? UINT64_MAX : share + (i < rest ? 1 : 0));
        if (!ok)
                atomic_store_explicit(loadgen->stop, true, memory_order_relaxed);
        ok = loadgen_watch(loadgen) && ok;

        struct loadgen_report *report = malloc(sizeof(*report)); /* too large for a stack frame */
        if (report == NULL)
                return CMD_EXIT_FAILED;
        loadgen_sum(loadgen, report);
        for (uint32_t i = 0; i < loadgen->slots_used; i++)
                if (loadgen->slots[i].error[0] != '\0')
                        (void)fprintf(stderr, "sendring loadgen: producer %u: %s\n", loadgen->slots[i].number,
                                      loadgen->slots[i].error);
        loadgen_print(loadgen, report);
        if (report->not_published > 0)
                (void)fprintf(stderr, "sendring loadgen: stopped before its end: %s%llu events are not published\n",
                              options->profile != NULL && options->profile->poisson ? "about " : "",
                              (unsigned long long)report->not_published);
        bool whole = report->failed == 0 && report->too_big == 0 && report->not_published == 0;
        int status = ok && whole ? CMD_EXIT_OK : CMD_EXIT_FAILED;
        if (report->unavailable)
                status = CMD_EXIT_UNAVAILABLE;
        if (loadgen->ledger_path != NULL && !loadgen_write_ledger(loadgen, report)) {
                (void)fprintf(stderr, "sendring loadgen: %s: %s\n", loadgen->ledger_path, strerror(errno));
                status = CMD_EXIT_IO;
        }
        free(report);
        return status;
}

static int loadgen_open_replay(struct loadgen *loadgen)
{
        struct err err = {.text = ""};
        loadgen->options.replay = calloc(1, sizeof(*loadgen->options.replay));
        if (loadgen->options.replay == NULL)
                return CMD_EXIT_FAILED;
        if (loadgen_replay_open(&loadgen->replay, loadgen->options.replay, &err) == ERR_OK)
                return CMD_EXIT_OK;
        (void)fprintf(stderr, "sendring loadgen: %s: %s\n", loadgen->replay.path, err.text);
        return CMD_EXIT_IO;
}

int cmd_loadgen(int argc, char **argv)
{
        struct loadgen *loadgen = calloc(1, sizeof(*loadgen));
        if (loadgen == NULL)
                return CMD_EXIT_FAILED;
        int status = loadgen_parse(loadgen, argc, argv);
        struct sigaction action = {.sa_handler = loadgen_on_signal};
        (void)sigaction(SIGINT, &action, NULL); /* cannot fail for these signals */
        (void)sigaction(SIGTERM, &action, NULL);
        loadgen->record.stop = &loadgen_signalled;
        if (status == CMD_EXIT_OK && loadgen->replay.path != NULL)
                status = loadgen_open_replay(loadgen);
        if (status == CMD_EXIT_OK)
                status = loadgen->record.capture_path != NULL ? loadgen_record(&loadgen->record) : loadgen_run(loadgen);
        loadgen_options_release(loadgen);
        free(loadgen->seconds);
        free(loadgen); /* the shared mappings end with the process */
        return status < 0 ? CMD_EXIT_OK : status;
}
