/* `sendring loadgen`: open-loop load from several producer processes, with ids from which any endpoint can count loss
 * and duplicates exactly (loadgen_id.h). The parent forks the producers before anything is opened, watches, kills where
 * asked to, and reports. */
#include "base/clock.h"
#include "base/random.h"
#include "tools/cmd.h"
#include "tools/loadgen.h"
#include "tools/loadgen_id.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct loadgen {
        struct loadgen_options options;
        bool json, progress, kill_test;
        uint32_t kills_max;
        uint64_t kill_interval_ns;
        const char *counts_path;
        const char *ledger_path;
        char *sets_text;
        const char *sets[LOADGEN_SETS_MAX];

        uint32_t slots_count;
        uint32_t slots_used;
        struct loadgen_slot *slots; /* shared with the producers */
        _Atomic uint64_t *counts;   /* --counts, shared */
        _Atomic bool *stop;         /* shared */
        uint64_t start_ns;          /* when events are due from */
        uint32_t kills;
};

static volatile sig_atomic_t loadgen_signalled;

static void loadgen_on_signal(int signal_number)
{
        (void)signal_number;
        loadgen_signalled = 1;
}

static const char loadgen_help[] =
        "usage: sendring loadgen [OPTIONS]\n"
        "\n"
        "Publishes events from several producer processes and reports what was published and how long it took.\n"
        "Lateness counts from when an event was due, not from when its turn came; a fast producer sleeps up to 0.5 ms\n"
        "between bunches of events, and its lateness shows that.\n"
        "\n"
        "  --socket PATH          the router's socket ($SENDRING_SOCKET, /run/sendring/sendring.sock)\n"
        "  --producers N          producer processes, 1-256 (4)\n"
        "  --rate N               events a second, together; 0: as fast as the lanes take them (0)\n"
        "  --events N             stop after N events, together; k and M are understood\n"
        "  --seconds S            stop after S seconds (10, unless --events is given)\n"
        "  --mix MIX              standard, all, or one type such as send or delivery_delay (standard)\n"
        "  --size SIZE            small, standard, large (standard: about 800 bytes of JSON)\n"
        "  --sets A,B,...         configuration sets (set-0 to set-7)\n"
        "  --burst ON:OFF         milliseconds: all events of each ON+OFF come within its first ON\n"
        "  --run-id HEX8          the run's id in every message id (random)\n"
        "  --seed N               the same seed gives the same events (1)\n"
        "  --first-producer N     number of the first producer in the ids (0)\n"
        "  --flush-timeout MS     wait so long at the end until the router has everything (10000; 0: do not wait)\n"
        "  --stall-timeout S      give up when nothing is taken for so long (60)\n"
        "  --ledger FILE          write what each producer published, as JSON\n"
        "  --progress             a line on stderr each second\n"
        "  --json                 the report as one JSON object\n"
        "\n"
        "For kill tests:\n"
        "  --kill-test            a producer that dies by SIGKILL is no failure, and a router that is away is waited "
        "for\n"
        "  --counts FILE          u64 per producer number, stored after each publish: what a killed producer had\n"
        "                         committed (it may have committed one more)\n"
        "  --kills N              kill a random producer N times and put a new one in its place (implies --kill-test)\n"
        "  --kill-interval MS     between two kills, on average (20)\n"
        "\n"
        "Exit status: 0 all published and flushed; 1 a producer failed; 64 usage; 69 no router; 74 file error.\n";

/* ---------------------------------------------------------------------------------------------- options */

static int loadgen_usage(const char *option, const char *value, const char *wanted)
{
        (void)fprintf(stderr, "sendring loadgen: --%s '%s': %s\n", option, value, wanted);
        return CMD_EXIT_USAGE;
}

static bool parse_number(const char *text, double max, double *ret_value)
{
        char *end = NULL;
        errno = 0;
        double value = strtod(text, &end);
        if (end == text || errno != 0)
                return false;
        if (*end == 'k' || *end == 'K') {
                value *= 1e3;
                end++;
        } else if (*end == 'M') {
                value *= 1e6;
                end++;
        }
        if (*end != '\0' || !(value >= 0) || value > max) /* also refuses NaN */
                return false;
        *ret_value = value;
        return true;
}

static bool parse_sets(struct loadgen *loadgen, const char *text)
{
        free(loadgen->sets_text);
        loadgen->sets_text = strdup(text);
        if (loadgen->sets_text == NULL)
                return false;
        uint32_t count = 0;
        char *rest = loadgen->sets_text;
        for (char *name = strsep(&rest, ","); name != NULL; name = strsep(&rest, ",")) {
                if (*name == '\0' || strlen(name) > 64 || count == LOADGEN_SETS_MAX)
                        return false;
                loadgen->sets[count++] = name;
        }
        loadgen->options.events.sets = loadgen->sets;
        loadgen->options.events.sets_count = count;
        return count > 0;
}

enum {
        OPTION_SOCKET = 256,
        OPTION_PRODUCERS,
        OPTION_RATE,
        OPTION_EVENTS,
        OPTION_SECONDS,
        OPTION_MIX,
        OPTION_SIZE,
        OPTION_SETS,
        OPTION_BURST,
        OPTION_RUN_ID,
        OPTION_SEED,
        OPTION_FIRST_PRODUCER,
        OPTION_FLUSH_TIMEOUT,
        OPTION_STALL_TIMEOUT,
        OPTION_LEDGER,
        OPTION_PROGRESS,
        OPTION_JSON,
        OPTION_KILL_TEST,
        OPTION_COUNTS,
        OPTION_KILLS,
        OPTION_KILL_INTERVAL,
        OPTION_HELP,
};

static const struct option loadgen_long_options[] = {
        {"socket", required_argument, NULL, OPTION_SOCKET},
        {"producers", required_argument, NULL, OPTION_PRODUCERS},
        {"rate", required_argument, NULL, OPTION_RATE},
        {"events", required_argument, NULL, OPTION_EVENTS},
        {"seconds", required_argument, NULL, OPTION_SECONDS},
        {"mix", required_argument, NULL, OPTION_MIX},
        {"size", required_argument, NULL, OPTION_SIZE},
        {"sets", required_argument, NULL, OPTION_SETS},
        {"burst", required_argument, NULL, OPTION_BURST},
        {"run-id", required_argument, NULL, OPTION_RUN_ID},
        {"seed", required_argument, NULL, OPTION_SEED},
        {"first-producer", required_argument, NULL, OPTION_FIRST_PRODUCER},
        {"flush-timeout", required_argument, NULL, OPTION_FLUSH_TIMEOUT},
        {"stall-timeout", required_argument, NULL, OPTION_STALL_TIMEOUT},
        {"ledger", required_argument, NULL, OPTION_LEDGER},
        {"progress", no_argument, NULL, OPTION_PROGRESS},
        {"json", no_argument, NULL, OPTION_JSON},
        {"kill-test", no_argument, NULL, OPTION_KILL_TEST},
        {"counts", required_argument, NULL, OPTION_COUNTS},
        {"kills", required_argument, NULL, OPTION_KILLS},
        {"kill-interval", required_argument, NULL, OPTION_KILL_INTERVAL},
        {"help", no_argument, NULL, OPTION_HELP},
        {NULL, 0, NULL, 0},
};

/* Returns CMD_EXIT_OK, CMD_EXIT_USAGE, or -1 when --help was answered. */
static int loadgen_parse(struct loadgen *loadgen, int argc, char **argv)
{
        struct loadgen_options *options = &loadgen->options;
        options->producers_count = 4;
        options->flush_timeout_ms = 10000;
        options->stall_timeout_ns = 60 * CLOCK_NS_PER_S;
        options->events.seed = 1;
        options->events.size = LOADGEN_SIZE_STANDARD;
        loadgen->kill_interval_ns = 20 * CLOCK_NS_PER_MS;
        (void)loadgen_mix_parse("standard", options->events.permille);
        if (!parse_sets(loadgen, "set-0,set-1,set-2,set-3,set-4,set-5,set-6,set-7"))
                return CMD_EXIT_USAGE;
        struct random_state random;
        random_init(&random, 0);
        options->events.run_id = (uint32_t)random_u64(&random);

        bool seconds_given = false;
        optind = 1;
        opterr = 0;
        for (;;) {
                int index = 0;
                int option = getopt_long(argc, argv, ":h", loadgen_long_options, &index);
                if (option == -1)
                        break;
                if (option == '?' || option == ':')
                        return cmd_option_refused("loadgen", option, loadgen_long_options, argv);
                const char *name = loadgen_long_options[index].name;
                double number = 0;
                uint64_t run_id = 0;
                char *end = NULL;
                switch (option) {
                case OPTION_SOCKET:
                        options->socket_path = optarg;
                        break;
                case OPTION_PRODUCERS:
                        if (!parse_number(optarg, LOADGEN_PRODUCERS_MAX, &number) || number < 1)
                                return loadgen_usage(name, optarg, "a number from 1 to 256 is wanted");
                        options->producers_count = (uint32_t)number;
                        break;
                case OPTION_RATE:
                        if (!parse_number(optarg, 1e9, &options->rate))
                                return loadgen_usage(name, optarg, "events a second are wanted");
                        break;
                case OPTION_EVENTS:
                        if (!parse_number(optarg, 1e14, &number) || number < 1)
                                return loadgen_usage(name, optarg, "a number of events is wanted");
                        options->events_max = (uint64_t)number;
                        break;
                case OPTION_SECONDS:
                        if (!parse_number(optarg, 1e8, &number) || !(number > 0))
                                return loadgen_usage(name, optarg, "seconds are wanted");
                        options->duration_ns = (uint64_t)(number * (double)CLOCK_NS_PER_S);
                        seconds_given = true;
                        break;
                case OPTION_MIX:
                        if (!loadgen_mix_parse(optarg, options->events.permille))
                                return loadgen_usage(name, optarg, "standard, all, or an event type is wanted");
                        break;
                case OPTION_SIZE:
                        if (!loadgen_size_parse(optarg, &options->events.size))
                                return loadgen_usage(name, optarg, "small, standard or large is wanted");
                        break;
                case OPTION_SETS:
                        if (!parse_sets(loadgen, optarg))
                                return loadgen_usage(name, optarg, "1 to 64 names of at most 64 characters are wanted");
                        break;
                case OPTION_BURST:
                        number = strtod(optarg, &end);
                        if (end == optarg || *end != ':' || !(number > 0 && number <= 1e9))
                                return loadgen_usage(name, optarg, "ON:OFF in milliseconds is wanted");
                        options->burst_on_ns = (uint64_t)(number * (double)CLOCK_NS_PER_MS);
                        if (!parse_number(end + 1, 1e9, &number))
                                return loadgen_usage(name, optarg, "ON:OFF in milliseconds is wanted");
                        options->burst_off_ns = (uint64_t)(number * (double)CLOCK_NS_PER_MS);
                        break;
                case OPTION_RUN_ID:
                        if (strlen(optarg) != 8 || !loadgen_id_read_hex(optarg, 8, &run_id))
                                return loadgen_usage(name, optarg, "8 lower-case hex digits are wanted");
                        options->events.run_id = (uint32_t)run_id;
                        break;
                case OPTION_SEED:
                        options->events.seed = strtoull(optarg, &end, 0);
                        if (end == optarg || *end != '\0')
                                return loadgen_usage(name, optarg, "a number is wanted");
                        break;
                case OPTION_FIRST_PRODUCER:
                        if (!parse_number(optarg, LOADGEN_SLOTS_MAX - 1, &number))
                                return loadgen_usage(name, optarg, "a number from 0 to 65535 is wanted");
                        options->producer_first = (uint32_t)number;
                        break;
                case OPTION_FLUSH_TIMEOUT:
                        if (!parse_number(optarg, 1e9, &number))
                                return loadgen_usage(name, optarg, "milliseconds are wanted");
                        options->flush_timeout_ms = (uint32_t)number;
                        break;
                case OPTION_STALL_TIMEOUT:
                        if (!parse_number(optarg, 1e8, &number) || !(number > 0))
                                return loadgen_usage(name, optarg, "seconds are wanted");
                        options->stall_timeout_ns = (uint64_t)(number * (double)CLOCK_NS_PER_S);
                        break;
                case OPTION_LEDGER:
                        loadgen->ledger_path = optarg;
                        break;
                case OPTION_PROGRESS:
                        loadgen->progress = true;
                        break;
                case OPTION_JSON:
                        loadgen->json = true;
                        break;
                case OPTION_KILL_TEST:
                        loadgen->kill_test = true;
                        break;
                case OPTION_COUNTS:
                        loadgen->counts_path = optarg;
                        break;
                case OPTION_KILLS:
                        if (!parse_number(optarg, LOADGEN_SLOTS_MAX, &number))
                                return loadgen_usage(name, optarg, "a number of kills is wanted");
                        loadgen->kills_max = (uint32_t)number;
                        loadgen->kill_test = true;
                        break;
                case OPTION_KILL_INTERVAL:
                        if (!parse_number(optarg, 1e7, &number) || !(number > 0))
                                return loadgen_usage(name, optarg, "milliseconds are wanted");
                        loadgen->kill_interval_ns = (uint64_t)(number * (double)CLOCK_NS_PER_MS);
                        break;
                case OPTION_HELP:
                case 'h':
                        (void)fputs(loadgen_help, stdout);
                        return -1;
                default:
                        return CMD_EXIT_USAGE;
                }
        }
        if (optind < argc) {
                (void)fprintf(stderr,
                              "sendring loadgen: unexpected argument '%s'; `sendring loadgen --help` explains\n",
                              argv[optind]);
                return CMD_EXIT_USAGE;
        }
        if (options->burst_on_ns > 0 && !(options->rate > 0)) {
                (void)fprintf(stderr, "sendring loadgen: --burst needs a --rate\n");
                return CMD_EXIT_USAGE;
        }
        if (!seconds_given && options->events_max == 0)
                options->duration_ns = 10 * CLOCK_NS_PER_S;
        options->patient = loadgen->kill_test;
        loadgen->slots_count = options->producers_count + loadgen->kills_max;
        if (options->producer_first + loadgen->slots_count > LOADGEN_SLOTS_MAX) {
                (void)fprintf(stderr, "sendring loadgen: producer numbers end at 65535\n");
                return CMD_EXIT_USAGE;
        }
        return CMD_EXIT_OK;
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
                        if (!loadgen->kill_test || WTERMSIG(status) != SIGKILL)
                                (void)snprintf(slot->error, sizeof(slot->error), "died by signal %d", WTERMSIG(status));
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

static bool loadgen_watch(struct loadgen *loadgen)
{
        struct random_state random;
        random_init(&random, loadgen->options.events.seed + 77);
        uint64_t shown_ns = loadgen->start_ns, shown = 0;
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
                        uint64_t published = loadgen_published(loadgen);
                        (void)fprintf(stderr, "loadgen: %.0f s published %llu (%.0f/s) full %llu\n",
                                      (double)(now_ns - loadgen->start_ns) / 1e9, (unsigned long long)published,
                                      (double)(published - shown) * 1e9 / (double)(now_ns - shown_ns),
                                      (unsigned long long)loadgen_full(loadgen));
                        shown = published;
                        shown_ns = now_ns;
                }
                clock_nap_ns(loadgen->kills < loadgen->kills_max ? CLOCK_NS_PER_MS : 10 * CLOCK_NS_PER_MS);
        }
}

/* ---------------------------------------------------------------------------------------------- report */

struct loadgen_report {
        uint64_t published, full, detached, wakeups, reattached, cpu_ns;
        uint64_t begun_ns, ended_ns; /* of the first event and of the last; both 0: none was published */
        uint32_t killed, failed;
        bool unavailable, flushed;
        uint64_t types[LOADGEN_TYPES_COUNT];
        uint64_t sets[LOADGEN_SETS_MAX];
        struct loadgen_histogram publish_ns, lateness_ns;
};

static void loadgen_sum(const struct loadgen *loadgen, struct loadgen_report *report)
{
        memset(report, 0, sizeof(*report));
        report->flushed = loadgen->options.flush_timeout_ms > 0;
        for (uint32_t i = 0; i < loadgen->slots_used; i++) {
                const struct loadgen_slot *slot = &loadgen->slots[i];
                /* Acquire: pairs with the release of the producer's last store; a killed one is dead anyway. */
                uint32_t end = atomic_load_explicit(&slot->end, memory_order_acquire);
                report->published += atomic_load_explicit(&slot->published, memory_order_relaxed);
                report->full += atomic_load_explicit(&slot->full, memory_order_relaxed);
                report->detached += atomic_load_explicit(&slot->detached, memory_order_relaxed);
                uint64_t begun_ns = atomic_load_explicit(&slot->begun_ns, memory_order_relaxed);
                uint64_t ended_ns = atomic_load_explicit(&slot->ended_ns, memory_order_relaxed);
                if (ended_ns != 0 && (report->ended_ns == 0 || begun_ns < report->begun_ns))
                        report->begun_ns = begun_ns;
                if (ended_ns > report->ended_ns)
                        report->ended_ns = ended_ns;
                report->wakeups += slot->wakeups;
                report->reattached += slot->reattached;
                report->cpu_ns += slot->cpu_ns;
                report->killed += slot->killed;
                bool excused = slot->killed && slot->error[0] == '\0';
                if (end != LOADGEN_END_DONE && !excused)
                        report->failed++;
                if (end != LOADGEN_END_DONE && !slot->killed)
                        report->flushed = false;
                if (end == LOADGEN_END_OPEN_FAILED)
                        report->unavailable = true;
                for (int j = 0; j < LOADGEN_TYPES_COUNT; j++)
                        report->types[j] += slot->types[j];
                for (int j = 0; j < LOADGEN_SETS_MAX; j++)
                        report->sets[j] += slot->sets[j];
                loadgen_histogram_merge(&report->publish_ns, &slot->publish_ns);
                loadgen_histogram_merge(&report->lateness_ns, &slot->lateness_ns);
        }
}

static void print_histogram_json(FILE *out, const char *name, const struct loadgen_histogram *histogram)
{
        if (histogram->count == 0) {
                (void)fprintf(out, ",\"%s\":null", name);
                return;
        }
        (void)fprintf(out, ",\"%s\":{\"p50\":%llu,\"p99\":%llu,\"p999\":%llu,\"max\":%llu}", name,
                      (unsigned long long)loadgen_histogram_percentile(histogram, 0.50),
                      (unsigned long long)loadgen_histogram_percentile(histogram, 0.99),
                      (unsigned long long)loadgen_histogram_percentile(histogram, 0.999),
                      (unsigned long long)histogram->max);
}

static void print_histogram(const char *name, const struct loadgen_histogram *histogram)
{
        if (histogram->count > 0)
                printf("  %s p50 %.2f p99 %.2f p99.9 %.2f max %.2f us\n", name,
                       (double)loadgen_histogram_percentile(histogram, 0.50) / 1e3,
                       (double)loadgen_histogram_percentile(histogram, 0.99) / 1e3,
                       (double)loadgen_histogram_percentile(histogram, 0.999) / 1e3, (double)histogram->max / 1e3);
}

static void loadgen_print(const struct loadgen *loadgen, const struct loadgen_report *report)
{
        double seconds = (double)(report->ended_ns - report->begun_ns) / 1e9;
        double rate = seconds > 0 ? (double)report->published / seconds : 0;
        /* CPU is known of producers that lived to tell. */
        double cpu_us = report->publish_ns.count > 0 && report->killed == 0
                                ? (double)report->cpu_ns / 1e3 / (double)report->publish_ns.count
                                : 0;
        if (loadgen->json) {
                printf("{\"run_id\":\"%08x\",\"producers\":%u,\"published\":%llu,\"seconds\":%.3f,\"rate\":%.0f,"
                       "\"full\":%llu,\"detached\":%llu,\"wakeups\":%llu,\"reattached\":%llu,\"killed\":%u,"
                       "\"failed\":%u,\"flushed\":%s,\"cpu_us_per_event\":%.3f",
                       loadgen->options.events.run_id, loadgen->options.producers_count,
                       (unsigned long long)report->published, seconds, rate, (unsigned long long)report->full,
                       (unsigned long long)report->detached, (unsigned long long)report->wakeups,
                       (unsigned long long)report->reattached, report->killed, report->failed,
                       report->flushed ? "true" : "false", cpu_us);
                print_histogram_json(stdout, "publish_ns", &report->publish_ns);
                print_histogram_json(stdout, "lateness_ns", &report->lateness_ns);
                printf(",\"types\":{");
                for (int i = 0; i < LOADGEN_TYPES_COUNT; i++)
                        printf("%s\"%s\":%llu", i > 0 ? "," : "", loadgen_type_name((enum sendring_event_type)(i + 1)),
                               (unsigned long long)report->types[i]);
                printf("},\"sets\":[");
                for (uint32_t i = 0; i < loadgen->options.events.sets_count; i++)
                        printf("%s%llu", i > 0 ? "," : "", (unsigned long long)report->sets[i]);
                printf("]}\n");
                return;
        }
        printf("loadgen: run %08x published %llu in %.*f s (%.0f/s) by %u producers, full %llu, detached %llu, killed "
               "%u, %s\n",
               loadgen->options.events.run_id, (unsigned long long)report->published, seconds < 1 ? 3 : 1, seconds,
               rate, loadgen->options.producers_count, (unsigned long long)report->full,
               (unsigned long long)report->detached, report->killed, report->flushed ? "flushed" : "not flushed");
        if (cpu_us > 0)
                printf("  cpu %.3f us/event, generator and publish together\n", cpu_us);
        print_histogram("publish ", &report->publish_ns);
        print_histogram("lateness", &report->lateness_ns);
}

static bool loadgen_write_ledger(const struct loadgen *loadgen, const struct loadgen_report *report)
{
        FILE *out = fopen(loadgen->ledger_path, "we");
        if (out == NULL)
                return false;
        (void)fprintf(out, "{\"run_id\":\"%08x\",\"published\":%llu,\"producers\":[", loadgen->options.events.run_id,
                      (unsigned long long)report->published);
        for (uint32_t i = 0; i < loadgen->slots_used; i++) {
                const struct loadgen_slot *slot = &loadgen->slots[i];
                uint64_t published = atomic_load_explicit(&slot->published, memory_order_relaxed);
                (void)fprintf(out, "%s\n{\"producer\":%u,\"published\":%llu,\"last_index\":%lld,\"killed\":%s}",
                              i > 0 ? "," : "", slot->number, (unsigned long long)published, (long long)published - 1,
                              slot->killed ? "true" : "false");
        }
        (void)fprintf(out, "\n]}\n");
        bool ok = ferror(out) == 0;
        return fclose(out) == 0 && ok;
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
        struct sigaction action = {.sa_handler = loadgen_on_signal};
        (void)sigaction(SIGINT, &action, NULL); /* cannot fail for these signals */
        (void)sigaction(SIGTERM, &action, NULL);

        /* Attaching takes the producers a moment: time counts from when they can all have done it. */
        loadgen->start_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_MS;
        uint64_t share = options->events_max / options->producers_count;
        uint64_t rest = options->events_max % options->producers_count;
        bool ok = true;
        double interval_ns = options->rate > 0 ? (double)CLOCK_NS_PER_S / options->rate : 0;
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
        int status = ok && report->failed == 0 ? CMD_EXIT_OK : CMD_EXIT_FAILED;
        if (report->unavailable)
                status = CMD_EXIT_UNAVAILABLE;
        if (loadgen->ledger_path != NULL && !loadgen_write_ledger(loadgen, report)) {
                (void)fprintf(stderr, "sendring loadgen: %s: %s\n", loadgen->ledger_path, strerror(errno));
                status = CMD_EXIT_IO;
        }
        free(report);
        return status;
}

int cmd_loadgen(int argc, char **argv)
{
        struct loadgen *loadgen = calloc(1, sizeof(*loadgen));
        if (loadgen == NULL)
                return CMD_EXIT_FAILED;
        int status = loadgen_parse(loadgen, argc, argv);
        if (status == CMD_EXIT_OK)
                status = loadgen_run(loadgen);
        free(loadgen->sets_text);
        free(loadgen); /* the shared mappings end with the process */
        return status < 0 ? CMD_EXIT_OK : status;
}
