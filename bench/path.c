/* What does one event cost the router on the whole path, beside the floor that its bytes set?
 *
 * Goal. CPU seconds of the router process per million events: from a producer's call through lane, shard, durable
 * journal, rules, JSON, packing, signing and TLS to an endpoint that counts every id. Wanted, and what --check asks:
 * at most 2.0, with gzip 1.2, and at most twice the floor; of the workers alone, egress_cpu_s_per_million, at most 1.3
 * times its floor; peak memory within the budget that the router prints at start.
 *
 * Method. The real `sendring` of this build, as processes of their own: `sink` over TLS with signatures checked, `run`
 * (keeper and router; journal durable over SIGKILL, with --durability host also over power loss), `loadgen` with 4
 * producers and the standard mix. A short warm-up as fast as it goes finds the capacity; the timed runs are then paced
 * at 80 % of it, which is a steady state without a backlog ("mode":"paced"). --rate sets the pace; --rate 0 lets the
 * producers outrun delivery: a backlog builds in the journal and is read back from it ("mode":"backlog").
 * `lagging_share` shows how many events were read back in the timed runs. CPU is that of the process's own clock, from
 * before the first publish until the last delivery; the split by thread comes from /proc. At the end the sink's counts
 * are held against the ledgers of the producers, the warm-up's too: missing and duplicated must be 0.
 *
 * --counted: each event also goes to a CloudWatch destination, counted by configuration set and campaign, 960 series;
 * the sink answers PutMetricData and adds up. Periods are of 1 s, so that a run ends with its counts delivered: at the
 * default of 60 s fewer requests are made. At the end the sums must be those of the events published.
 *
 * The floor (path_floor.h) is measured in this process, by thread CPU time, before, between and after the timed runs.
 * Values are medians, of the runs and of the floor's rounds, with the lowest and highest beside them. That of
 * egress_cpu_s_per_million is the same without memcpy and CRC-32C, which are the shard's. Neither has anything for
 * counting.
 *
 * Not measured: the network beyond loopback, AWS's own latency, latency of an event, several targets, the keeper
 * (it only waits). Wall-clock figures (events_per_s) share the machine with sink, loadgen and whatever else runs; so do
 * caches, which the floor, running alone, has for itself. At a low rate the shard's naps and wake-ups are spread over
 * few events: compare figures at the same rate only. Peak RSS counts the journal's mapped pages as well: rss_file is
 * their part and that of the program's code.
 *
 * Killed by SIGKILL, this program leaves its directory behind; its processes end by themselves.
 *
 * usage: path --help */
#include "base/clock.h"
#include "base/slice.h"
#include "bench/directory.h"
#include "bench/figures.h"
#include "bench/path_floor.h"
#include "bench/path_stack.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RUNS_MAX         20u
#define FLOOR_ROUNDS     5u /* each time */
#define FLOOR_ROUNDS_MAX ((RUNS_MAX + 1) * FLOOR_ROUNDS)
#define PACE             0.8 /* of the capacity */
#define WARM_UP_SHARE    8u  /* of the events of a run */
#define POLL_NS          (2 * CLOCK_NS_PER_MS)
#define MEMORY_POLL_NS   (100 * CLOCK_NS_PER_MS)
#define STALL_NS         (60 * CLOCK_NS_PER_S)
/* What is wanted: --check. */
#define CPU_S_MAX        2.0
#define CPU_S_GZIP_MAX   1.2
#define RATIO_MAX        2.0
#define EGRESS_RATIO_MAX 1.3

/* What --check holds against a goal, by the names that --goal takes. */
enum path_goal { PATH_GOAL_CPU, PATH_GOAL_FLOOR, PATH_GOAL_EGRESS, PATH_GOAL_MEMORY, PATH_GOALS };
static const struct {
        const char *name, *what;
} path_goals[PATH_GOALS] = {
        {"cpu", "cpu_s_per_million is"},
        {"floor", "cpu_s_per_million by its floor is"},
        {"egress", "egress_cpu_s_per_million by its floor is"},
        {"memory", "peak_rss_mib is"},
};

enum path_thread {
        PATH_SHARD,
        PATH_WORKER,
        PATH_HELPER,
        PATH_CONTROL,
        PATH_OTHER, /* the resolver, the kernel's io_uring threads, threads that have ended */
        PATH_THREADS,
};

/* What the floor's rounds are kept as: their parts, and two sums. */
enum {
        PATH_FLOOR_EGRESS = PATH_FLOOR_PARTS, /* what workers do: all but memcpy and CRC-32C */
        PATH_FLOOR_ALL,
        PATH_FLOOR_VALUES,
};

static const char *const path_thread_names[PATH_THREADS] = {"shard", "worker", "helper", "control", "other"};

struct path_cpu {
        double router_s, sink_s;
        double threads_s[PATH_THREADS];
};

struct path_run {
        double events_per_s;
        double router, sink, loadgen; /* CPU seconds per million events */
        double threads[PATH_THREADS];
        double lagging_share;
};

struct path_bench {
        uint64_t events;
        uint32_t runs;
        double rate; /* negative: from the capacity */
        bool json, smoke, check, durability_host, gzip, counted;
        double goals[PATH_GOALS]; /* at most; negative: the usual one */
        const char *directory, *sendring;

        struct path_stack stack;
        struct path_floor *floor;
        uint32_t aes_bits;
        uint64_t published;
        struct path_run run[RUNS_MAX];
        uint32_t runs_done;
        double floor_ns[PATH_FLOOR_VALUES][FLOOR_ROUNDS_MAX];
        uint32_t floor_rounds;
        double rss_anon_mib, rss_file_mib, rss_shmem_mib; /* highest seen */
};

static volatile sig_atomic_t path_signalled;

static void path_on_signal(int number)
{
        path_signalled = number;
}

/* ---------------------------------------------------------------------------------------------- what processes used */

static double path_process_cpu_s(pid_t pid)
{
        clockid_t clock;
        struct timespec time;
        if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
                return 0;
        return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static enum path_thread path_thread_kind(const char *name, bool first)
{
        if (first)
                return PATH_CONTROL;
        if (strncmp(name, "shard-", 6) == 0)
                return PATH_SHARD;
        if (strncmp(name, "worker-", 7) == 0)
                return PATH_WORKER;
        return strcmp(name, "helper") == 0 ? PATH_HELPER : PATH_OTHER;
}

/* User and system time of each thread of `pid`, in clock ticks' precision. */
static void path_threads_cpu(pid_t pid, double threads_s[PATH_THREADS])
{
        char path[64], file[384], line[1024];
        (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
        DIR *tasks = opendir(path);
        for (struct dirent *entry = NULL; tasks != NULL && (entry = readdir(tasks)) != NULL;) {
                (void)snprintf(file, sizeof(file), "%s/%s/stat", path, entry->d_name);
                FILE *stat = entry->d_name[0] == '.' ? NULL : fopen(file, "re");
                if (stat == NULL)
                        continue;
                unsigned long user = 0, system = 0;
                char *name = fgets(line, sizeof(line), stat) == NULL ? NULL : strchr(line, '(');
                char *end = name == NULL ? NULL : strrchr(name, ')');
                (void)fclose(stat);
                /* pid (name) state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime */
                if (end == NULL ||
                    /* NOLINTNEXTLINE(cert-err34-c): the kernel writes numbers */
                    sscanf(end + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu %lu", &user, &system) != 2)
                        continue;
                *end = '\0';
                threads_s[path_thread_kind(name + 1, strtol(line, NULL, 10) == pid)] +=
                        (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
        }
        if (tasks != NULL)
                (void)closedir(tasks);
}

static struct path_cpu path_cpu_now(const struct path_bench *bench)
{
        struct path_cpu cpu = {.router_s = path_process_cpu_s(bench->stack.router),
                               .sink_s = path_process_cpu_s(bench->stack.sink)};
        path_threads_cpu(bench->stack.router, cpu.threads_s);
        return cpu;
}

static double path_status_mib(pid_t pid, const char *field)
{
        char path[64], line[256];
        double kib = 0;
        (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
        FILE *status = fopen(path, "re");
        while (status != NULL && fgets(line, sizeof(line), status) != NULL)
                if (strncmp(line, field, strlen(field)) == 0 && line[strlen(field)] == ':')
                        kib = strtod(line + strlen(field) + 1, NULL);
        if (status != NULL)
                (void)fclose(status);
        return kib / 1024;
}

static void path_watch_memory(struct path_bench *bench)
{
        pid_t router = bench->stack.router;
        bench->rss_anon_mib = fmax(bench->rss_anon_mib, path_status_mib(router, "RssAnon"));
        bench->rss_file_mib = fmax(bench->rss_file_mib, path_status_mib(router, "RssFile"));
        bench->rss_shmem_mib = fmax(bench->rss_shmem_mib, path_status_mib(router, "RssShmem"));
}

/* ---------------------------------------------------------------------------------------------- runs */

static enum err_code path_one_run(struct path_bench *bench, uint64_t events, double rate, struct path_run *ret_run,
                                  struct err *reterr)
{
        const struct counters *counters = &bench->stack.counters;
        struct path_stack_load load = {0};
        bool loading = true;
        uint64_t delivered_before = counters_sum(counters, COUNTER_egress_delivered);
        uint64_t lagging_before = counters_sum(counters, COUNTER_egress_lagging_reads);
        struct path_cpu before = path_cpu_now(bench);
        enum err_code code = path_stack_load_start(&bench->stack, events, rate, reterr);
        if (code != ERR_OK)
                return code;
        uint64_t first_ns = 0, memory_ns = 0, delivered = 0, now_ns = clock_monotonic_ns(), moved_ns = now_ns;
        uint64_t taken_before = counters_sum(counters, COUNTER_router_events);
        /* A copy that is counted is delivered when its period is. */
        const uint64_t copies = bench->counted ? 2 : 1;
        while (loading || delivered < load.published * copies) {
                clock_nap_ns(POLL_NS);
                now_ns = clock_monotonic_ns();
                if (first_ns == 0 && counters_sum(counters, COUNTER_router_events) != taken_before)
                        first_ns = now_ns;
                uint64_t delivered_now = counters_sum(counters, COUNTER_egress_delivered) - delivered_before;
                if (delivered_now != delivered || first_ns == 0)
                        moved_ns = now_ns;
                delivered = delivered_now;
                if (now_ns >= memory_ns) {
                        path_watch_memory(bench);
                        memory_ns = now_ns + MEMORY_POLL_NS;
                        code = path_stack_check(&bench->stack, reterr);
                        if (code != ERR_OK)
                                return code;
                }
                if (loading) {
                        code = path_stack_load_poll(&bench->stack, &load, reterr);
                        loading = code == ERR_BUSY;
                        if (code != ERR_OK && code != ERR_BUSY)
                                return code;
                }
                if (path_signalled)
                        return err_set(reterr, ERR_SYSTEM, "ended by signal %d", (int)path_signalled);
                if (now_ns - moved_ns > STALL_NS)
                        return err_set(reterr, ERR_TIMEOUT, "nothing was delivered for 60 s, %llu events of %llu were",
                                       (unsigned long long)delivered, (unsigned long long)(load.published * copies));
        }
        if (bench->counted) /* the last period ends later than the last event is in */
                moved_ns = path_stack_firehose_last_ns(&bench->stack);
        struct path_cpu after = path_cpu_now(bench);
        double per_million = 1e6 / (double)load.published;
        bench->published += load.published;
        *ret_run = (struct path_run){
                .events_per_s = (double)load.published / ((double)(moved_ns - first_ns) * 1e-9),
                .router = (after.router_s - before.router_s) * per_million,
                .sink = (after.sink_s - before.sink_s) * per_million,
                .loadgen = load.cpu_s * per_million,
                .lagging_share = (double)(counters_sum(counters, COUNTER_egress_lagging_reads) - lagging_before) /
                                 (double)(load.published * copies),
        };
        double known = 0;
        for (int i = 0; i < PATH_OTHER; i++) {
                ret_run->threads[i] = (after.threads_s[i] - before.threads_s[i]) * per_million;
                known += ret_run->threads[i];
        }
        ret_run->threads[PATH_OTHER] = fmax(ret_run->router - known, 0);
        return ERR_OK;
}

static enum err_code path_floor_rounds(struct path_bench *bench, struct err *reterr)
{
        for (uint32_t i = 0; i < (bench->smoke ? 1 : FLOOR_ROUNDS); i++) {
                double ns[PATH_FLOOR_PARTS], all = 0;
                enum err_code code = path_floor_round(bench->floor, ns, reterr);
                if (code != ERR_OK)
                        return code;
                for (int part = 0; part < PATH_FLOOR_PARTS; part++) {
                        bench->floor_ns[part][bench->floor_rounds] = ns[part];
                        all += ns[part];
                }
                bench->floor_ns[PATH_FLOOR_ALL][bench->floor_rounds] = all;
                bench->floor_ns[PATH_FLOOR_EGRESS][bench->floor_rounds] =
                        all - ns[PATH_FLOOR_MEMCPY] - ns[PATH_FLOOR_CRC32C];
                bench->floor_rounds++;
        }
        return ERR_OK;
}

/* Warm-up, then floor, run, floor, run, ..., floor. */
static enum err_code path_all_runs(struct path_bench *bench, double *ret_capacity, struct err *reterr)
{
        struct path_run warm_up = {0};
        double ns[PATH_FLOOR_PARTS];
        uint64_t warm_up_events = bench->events / WARM_UP_SHARE > 0 ? bench->events / WARM_UP_SHARE : 1;
        enum err_code code = path_stack_aes_bits(&bench->stack, &bench->aes_bits, reterr);
        if (code == ERR_OK)
                code = path_floor_create(bench->aes_bits, bench->gzip, &bench->floor, reterr);
        if (code == ERR_OK)
                code = path_floor_round(bench->floor, ns, reterr); /* its memory is touched now */
        if (code == ERR_OK)
                code = path_one_run(bench, warm_up_events, 0, &warm_up, reterr);
        if (code != ERR_OK)
                return code;
        *ret_capacity = warm_up.events_per_s;
        if (bench->rate < 0)
                bench->rate = fmax(PACE * warm_up.events_per_s, 1);
        code = path_floor_rounds(bench, reterr);
        while (code == ERR_OK && bench->runs_done < bench->runs) {
                code = path_one_run(bench, bench->events, bench->rate, &bench->run[bench->runs_done], reterr);
                bench->runs_done += code == ERR_OK;
                if (code == ERR_OK)
                        code = path_floor_rounds(bench, reterr);
        }
        return code;
}

/* ---------------------------------------------------------------------------------------------- the report */

struct path_value {
        double median, low, high;
};

static struct path_value path_values(double *values, uint32_t count)
{
        qsort(values, count, sizeof(values[0]), figures_compare);
        return (struct path_value){count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2,
                                   values[0], values[count - 1]};
}

/* The median over the runs of the number at `offset` in struct path_run. */
static struct path_value path_runs(const struct path_bench *bench, size_t offset)
{
        double values[RUNS_MAX];
        for (uint32_t i = 0; i < bench->runs_done; i++)
                memcpy(&values[i], (const char *)&bench->run[i] + offset, sizeof(values[i]));
        return path_values(values, bench->runs_done);
}

static struct path_value path_one(double value)
{
        return (struct path_value){value, value, value};
}

/* `floor` 0: none. */
static void path_print(const struct path_bench *bench, const char *metric, struct path_value value, const char *unit,
                       double floor)
{
        const char *mode = bench->rate > 0 ? "paced" : "backlog";
        if (!bench->json) {
                printf("%-28s %12.5g  %-18s", metric, value.median, unit);
                if (floor > 0)
                        printf("  floor %.4g, ratio %.2f", floor, value.median / floor);
                if (value.low < value.high)
                        printf("  (%.4g to %.4g)", value.low, value.high);
                printf("\n");
                return;
        }
        printf("{\"bench\":\"path\",\"metric\":\"%s\",\"value\":%.10g,\"unit\":\"%s\",", metric, value.median, unit);
        if (floor > 0)
                printf("\"floor\":%.10g,\"ratio\":%.4f", floor, value.median / floor);
        else
                printf("\"floor\":null,\"ratio\":null");
        printf(",\"low\":%.10g,\"high\":%.10g,\"runs\":%u,\"mode\":\"%s\",\"durability\":\"%s\",\"compression\":\"%s\","
               "\"counted\":%s}\n",
               value.low, value.high, bench->runs_done, mode, bench->durability_host ? "host" : "process",
               bench->gzip ? "gzip" : "none", bench->counted ? "true" : "false");
}

#define RUNS_OF(member) path_runs(bench, offsetof(struct path_run, member))

/* With --check: whether the goals are met. Says which are not. */
static bool path_check(const struct path_bench *bench, const double is[PATH_GOALS], double budget_mib)
{
        const double usual[PATH_GOALS] = {
                [PATH_GOAL_CPU] = bench->gzip ? CPU_S_GZIP_MAX : CPU_S_MAX,
                [PATH_GOAL_FLOOR] = RATIO_MAX,
                [PATH_GOAL_EGRESS] = EGRESS_RATIO_MAX,
                [PATH_GOAL_MEMORY] = budget_mib,
        };
        bool good = true;
        for (size_t i = 0; i < PATH_GOALS && bench->check; i++) {
                const double at_most = bench->goals[i] < 0 ? usual[i] : bench->goals[i];
                if (is[i] <= at_most)
                        continue;
                (void)fprintf(stderr, "path: %s %.2f, the goal %.1f\n", path_goals[i].what, is[i], at_most);
                good = false;
        }
        return good;
}

/* Returns the exit status. */
static int path_report(struct path_bench *bench, double capacity, const struct path_stack_counts *counts)
{
        static const char *const parts[PATH_FLOOR_PARTS] = {"memcpy", "crc32c", "json", "gzip",
                                                            "base64", "sha256", NULL,   "send"};
        double to_s = 1e-3; /* nanoseconds per event: CPU seconds per million */
        struct path_value floor = path_values(bench->floor_ns[PATH_FLOOR_ALL], bench->floor_rounds);
        struct path_value egress_floor = path_values(bench->floor_ns[PATH_FLOOR_EGRESS], bench->floor_rounds);
        struct path_value router = RUNS_OF(router), egress = RUNS_OF(threads[PATH_WORKER]);
        char metric[64];
        path_print(bench, "cpu_s_per_million", router, "s/1e6 events", floor.median * to_s);
        path_print(bench, "egress_cpu_s_per_million", egress, "s/1e6 events", egress_floor.median * to_s);
        for (size_t i = 0; i < PATH_THREADS; i++) {
                (void)snprintf(metric, sizeof(metric), "cpu_s_per_million_%s", path_thread_names[i]);
                path_print(bench, metric,
                           path_runs(bench, offsetof(struct path_run, threads) + i * sizeof(bench->run[0].threads[0])),
                           "s/1e6 events", 0);
        }
        for (int part = 0; part < PATH_FLOOR_PARTS; part++) {
                if (parts[part] != NULL)
                        (void)snprintf(metric, sizeof(metric), "floor_%s", parts[part]);
                else
                        (void)snprintf(metric, sizeof(metric), "floor_aes_%u_gcm", bench->aes_bits);
                struct path_value value = path_values(bench->floor_ns[part], bench->floor_rounds);
                path_print(bench, metric, (struct path_value){value.median * to_s, value.low * to_s, value.high * to_s},
                           "s/1e6 events", 0);
        }
        path_print(bench, "sink_cpu_s_per_million", RUNS_OF(sink), "s/1e6 events", 0);
        path_print(bench, "loadgen_cpu_s_per_million", RUNS_OF(loadgen), "s/1e6 events", 0);
        path_print(bench, "events_per_s", RUNS_OF(events_per_s), "events/s", 0);
        path_print(bench, "capacity_events_per_s", path_one(capacity), "events/s", 0);
        path_print(bench, "lagging_share", RUNS_OF(lagging_share), "of events", 0);
        path_print(bench, "json_bytes_per_event", path_one(path_floor_json_bytes(bench->floor)), "bytes", 0);
        path_print(bench, "wire_bytes_per_event", path_one(path_floor_wire_bytes(bench->floor)), "bytes", 0);

        double peak_mib = path_status_mib(bench->stack.router, "VmHWM");
        double budget_mib = (double)bench->stack.counters.head->memory_budget_bytes / (1024 * 1024);
        path_print(bench, "peak_rss_mib", path_one(peak_mib), "MiB", 0);
        path_print(bench, "peak_rss_anon_mib", path_one(bench->rss_anon_mib), "MiB", 0);
        path_print(bench, "peak_rss_file_mib", path_one(bench->rss_file_mib), "MiB", 0);
        path_print(bench, "peak_rss_shmem_mib", path_one(bench->rss_shmem_mib), "MiB", 0);
        path_print(bench, "memory_budget_mib", path_one(budget_mib), "MiB", 0);
        path_print(bench, "published", path_one((double)bench->published), "events", 0);
        path_print(bench, "missing", path_one((double)counts->missing), "events", 0);
        path_print(bench, "duplicated", path_one((double)counts->duplicates), "events", 0);
        if (bench->counted)
                path_print(bench, "counted", path_one((double)counts->counted), "events", 0);

        const double is[PATH_GOALS] = {
                [PATH_GOAL_CPU] = router.median,
                [PATH_GOAL_FLOOR] = router.median / (floor.median * to_s),
                [PATH_GOAL_EGRESS] = egress.median / (egress_floor.median * to_s),
                [PATH_GOAL_MEMORY] = peak_mib,
        };
        bool good = path_check(bench, is, budget_mib);
        if (counts->missing > 0 || counts->duplicates > 0 || counts->unexpected > 0 ||
            counts->distinct != bench->published) {
                (void)fprintf(stderr,
                              "path: published %llu, stored %llu, missing %llu, duplicated %llu, unexpected %llu\n",
                              (unsigned long long)bench->published, (unsigned long long)counts->distinct,
                              (unsigned long long)counts->missing, (unsigned long long)counts->duplicates,
                              (unsigned long long)counts->unexpected);
                good = false;
        }
        if (bench->counted && counts->counted != bench->published) {
                (void)fprintf(stderr, "path: published %llu, counted %llu\n", (unsigned long long)bench->published,
                              (unsigned long long)counts->counted);
                good = false;
        }
        return good ? 0 : 1;
}

/* ---------------------------------------------------------------------------------------------- main */

static const char path_help[] =
        "usage: path [--json] [--events N] [--runs N] [--rate R] [--durability process|host]\n"
        "            [--compression none|gzip] [--counted] [--directory DIR] [--sendring PATH]\n"
        "            [--check [--goal NAME=N]...] [--smoke]\n"
        "\n"
        "The whole path over TLS to `sendring sink`: the router's CPU per million events beside the floor of their\n"
        "bytes, its memory beside its budget, and whether every event arrived once.\n"
        "\n"
        "  --json             one JSON object a line instead of a table\n"
        "  --events N         events of each timed run (2000000)\n"
        "  --runs N           timed runs, 1-20 (3); medians are shown\n"
        "  --rate R           events a second; 0: as fast as the lanes take them (80 % of what a warm-up finds)\n"
        "  --durability D     process: accepted events survive SIGKILL; host: power loss too (process)\n"
        "  --compression C    of Firehose's records: none, gzip (none)\n"
        "  --counted          events are counted for CloudWatch as well\n"
        "  --directory DIR    for the temporary directory, on a real disk ($TMPDIR, /tmp); a tmpfs is told\n"
        "  --sendring PATH    the binary (../tools/sendring, from where this program lies)\n"
        "  --check            exit 1 above the goals: 2.0 CPU s per million (gzip 1.2), twice the floor, of egress\n"
        "                     1.3 times its floor; and above the memory budget\n"
        "  --goal NAME=N      another goal than that: cpu (s per million), floor, egress (times), memory (MiB)\n"
        "  --smoke            one run of 20000 events: does it work?\n"
        "\n"
        "Exit status: 0; 1 when an event was missing or came twice, --check failed, or a part did not run; 64 usage.\n";

static int path_usage(const char *option, const char *value)
{
        (void)fprintf(stderr, "path: --%s '%s' will not do; see --help\n", option, value);
        return 64;
}

static bool path_parse_goal(struct path_bench *bench, const char *text)
{
        for (size_t i = 0; i < PATH_GOALS; i++) {
                const size_t len = strlen(path_goals[i].name);
                char *end = NULL;
                if (strncmp(text, path_goals[i].name, len) != 0 || text[len] != '=')
                        continue;
                bench->goals[i] = strtod(text + len + 1, &end);
                return end != text + len + 1 && *end == '\0' && bench->goals[i] >= 0;
        }
        return false;
}

/* -1: go on; otherwise the exit status. */
static int path_parse(struct path_bench *bench, int argc, char **argv)
{
        static const struct option options[] = {
                {"json", no_argument, NULL, 'j'},
                {"events", required_argument, NULL, 'e'},
                {"runs", required_argument, NULL, 'r'},
                {"rate", required_argument, NULL, 'R'},
                {"smoke", no_argument, NULL, 's'},
                {"durability", required_argument, NULL, 'd'},
                {"check", no_argument, NULL, 'c'},
                {"goal", required_argument, NULL, 'g'},
                {"compression", required_argument, NULL, 'C'},
                {"counted", no_argument, NULL, 'n'},
                {"directory", required_argument, NULL, 'D'},
                {"help", no_argument, NULL, 'h'},
                {"sendring", required_argument, NULL, 'b'},
                {NULL, 0, NULL, 0},
        };
        uint64_t number;
        int index = 0;
        for (int option; (option = getopt_long(argc, argv, "", options, &index)) != -1;) {
                switch (option) {
                case 'j':
                        bench->json = true;
                        break;
                case 's':
                        bench->smoke = true;
                        bench->events = 20000;
                        bench->runs = 1;
                        break;
                case 'c':
                        bench->check = true;
                        break;
                case 'g':
                        if (!path_parse_goal(bench, optarg))
                                return path_usage("goal", optarg);
                        break;
                case 'e':
                        if (!slice_to_u64(slice_of_text(optarg), 1000000000, &bench->events) || bench->events < 1000)
                                return path_usage("events", optarg);
                        break;
                case 'r':
                        if (!slice_to_u64(slice_of_text(optarg), RUNS_MAX, &number) || number == 0)
                                return path_usage("runs", optarg);
                        bench->runs = (uint32_t)number;
                        break;
                case 'R':
                        if (!slice_to_u64(slice_of_text(optarg), 1000000000, &number))
                                return path_usage("rate", optarg);
                        bench->rate = (double)number;
                        break;
                case 'd':
                        bench->durability_host = strcmp(optarg, "host") == 0;
                        if (!bench->durability_host && strcmp(optarg, "process") != 0)
                                return path_usage("durability", optarg);
                        break;
                case 'C':
                        bench->gzip = strcmp(optarg, "gzip") == 0;
                        if (!bench->gzip && strcmp(optarg, "none") != 0)
                                return path_usage("compression", optarg);
                        break;
                case 'n':
                        bench->counted = true;
                        break;
                case 'D':
                        bench->directory = optarg;
                        break;
                case 'b':
                        bench->sendring = optarg;
                        break;
                case 'h':
                        (void)fputs(path_help, stdout);
                        return 0;
                default:
                        return 64; /* getopt_long has said what */
                }
        }
        return optind == argc ? -1 : path_usage("", argv[optind]);
}

/* ../tools/sendring, from where this program lies. */
static bool path_find_sendring(char *out, size_t out_bytes)
{
        char self[PATH_MAX];
        ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
        if (len <= 0)
                return false;
        self[len] = '\0';
        *strrchr(self, '/') = '\0';
        int used = snprintf(out, out_bytes, "%s/../tools/sendring", self);
        return used > 0 && (size_t)used < out_bytes;
}

int main(int argc, char **argv)
{
        static struct path_bench bench = {.events = 2000000, .runs = 3, .rate = -1, .goals = {-1, -1, -1, -1}};
        static char sendring[PATH_MAX], directory[PATH_MAX];
        int status = path_parse(&bench, argc, argv);
        if (status >= 0)
                return status;
        const char *temporary = getenv("TMPDIR");
        if (bench.directory == NULL)
                bench.directory = temporary != NULL && temporary[0] != '\0' ? temporary : "/tmp";
        if (bench.sendring == NULL && path_find_sendring(sendring, sizeof(sendring)))
                bench.sendring = sendring;
        if (bench.sendring == NULL || access(bench.sendring, X_OK) != 0) {
                (void)fprintf(stderr, "path: %s cannot be run: build it, or give --sendring PATH\n",
                              bench.sendring == NULL ? "sendring" : bench.sendring);
                return 1;
        }
        if (realpath(bench.directory, directory) == NULL) {
                (void)fprintf(stderr, "path: --directory %s: %s\n", bench.directory, strerror(errno));
                return 1;
        }
        directory_tell_tmpfs("path", directory, bench.json);
        struct sigaction action = {.sa_handler = path_on_signal};
        (void)sigaction(SIGINT, &action, NULL); /* cannot fail for these signals */
        (void)sigaction(SIGTERM, &action, NULL);
        (void)sigaction(SIGHUP, &action, NULL);

        struct err err = {0};
        struct path_stack_options options = {.sendring = bench.sendring,
                                             .directory = directory,
                                             .durability_host = bench.durability_host,
                                             .gzip = bench.gzip,
                                             .counted = bench.counted};
        struct path_stack_counts counts;
        double capacity = 0;
        enum err_code code = path_stack_start(&bench.stack, &options, &err);
        if (code == ERR_OK)
                code = path_all_runs(&bench, &capacity, &err);
        if (code == ERR_OK)
                code = path_stack_count(&bench.stack, &counts, &err);
        if (code == ERR_OK) {
                status = path_report(&bench, capacity, &counts);
        } else {
                (void)fprintf(stderr, "path: %s\n", err.text);
                status = 1;
        }
        path_stack_stop(&bench.stack, code != ERR_OK && !path_signalled);
        path_floor_free(bench.floor);
        return status;
}
