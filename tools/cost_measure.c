/* What a running daemon has: its counters and the accepted counts of its journal, twice. */
#include "base/clock.h"
#include "base/counters.h"
#include "journal/journal.h"
#include "router/router.h"
#include "tools/cmd.h"
#include "tools/cost.h"
#include "tools/cost_traffic.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cost_moment {
        uint64_t at_ns, events, encoded_bytes, json_bytes, unmatched;
        uint64_t budget_bytes;
        uint32_t pid;
        int64_t started_ms;
        uint64_t cpu_ticks;
        bool has_cpu;
        struct cost_target_moment {
                uint64_t accepted, delivered, bytes;
                struct cost_hours hours;
        } * targets; /* of the plan */
};

/* User and system time of a process; false: its file cannot be read, or says something else. */
static bool cost_cpu_ticks(uint32_t pid, uint64_t *ret_ticks)
{
        char path[64], text[1024];
        (void)snprintf(path, sizeof(path), "/proc/%u/stat", pid);
        FILE *file = fopen(path, "re");
        if (file == NULL)
                return false;
        size_t bytes = fread(text, 1, sizeof(text) - 1, file);
        (void)fclose(file); /* read only */
        text[bytes] = '\0';
        /* The name in brackets may hold anything; behind it are the state and, as the 12th and 13th, the times. */
        char *at = strrchr(text, ')'), *end;
        for (int field = 0; at != NULL && field < 12; field++)
                at = strchr(at + 1, ' ');
        if (at == NULL)
                return false;
        uint64_t user = strtoull(at, &end, 10), system = strtoull(end, &at, 10);
        *ret_ticks = user + system;
        return at != end && *at == ' ';
}

static const struct rules_target *cost_target_of(const struct rules_plan *plan, const char *key)
{
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++)
                if (slice_equal(rules_plan_target(plan, i)->key, slice_of_text(key)))
                        return rules_plan_target(plan, i);
        return NULL;
}

static enum err_code cost_read_counters(const struct rules_settings *settings, const struct rules_plan *plan,
                                        struct cost_moment *moment, struct err *reterr)
{
        char path[PATH_MAX];
        struct counters counters;
        if (!router_counters_path(settings, path, sizeof(path)))
                return err_set(reterr, ERR_CONFIG, "the path %s is too long", settings->state_directory);
        enum err_code code = counters_attach(path, &counters, reterr);
        if (code != ERR_OK)
                return code;
        if (!counters_is_alive(&counters))
                code = err_set(reterr, ERR_NOT_FOUND, "the router that wrote %s does not run any more", path);
        moment->at_ns = clock_monotonic_ns();
        moment->events = counters_sum(&counters, COUNTER_router_events);
        moment->encoded_bytes = counters_sum(&counters, COUNTER_router_bytes);
        moment->json_bytes = counters_sum(&counters, COUNTER_egress_json_bytes);
        moment->pid = counters.head->pid;
        moment->started_ms = counters.head->started_ms;
        moment->budget_bytes = counters.head->memory_budget_bytes;
        moment->has_cpu = cost_cpu_ticks(moment->pid, &moment->cpu_ticks);
        /* The row of a target is there before it counts. */
        uint32_t used = atomic_load_explicit(&counters.head->rows_used, memory_order_acquire);
        for (uint32_t i = 0; i < used && i < counters.head->rows_max; i++) {
                const struct counters_target_row *row = &counters.rows[i];
                const struct rules_target *target = cost_target_of(plan, row->key);
                if (target == NULL)
                        continue;
                struct cost_target_moment *own = &moment->targets[target->index]; /* relaxed: numbers */
                own->hours = (struct cost_hours){
                        .hour = atomic_load_explicit(&row->series_hour_number, memory_order_relaxed),
                        .series = atomic_load_explicit(&row->series_hour, memory_order_relaxed),
                        .series_before = atomic_load_explicit(&row->series_hour_before, memory_order_relaxed),
                        .started_ms = counters.head->started_ms,
                };
                own->bytes = atomic_load_explicit(&row->bytes, memory_order_relaxed);
        }
        counters_release(&counters);
        return code;
}

static enum err_code cost_read_log(const char *directory, const struct rules_plan *plan, struct cost_moment *moment,
                                   struct err *reterr)
{
        struct journal_options options = {.directory = directory, .read_only = true};
        struct journal *journal = NULL;
        enum err_code code = journal_open(&options, &journal, NULL, reterr);
        if (code != ERR_OK)
                return code;
        for (uint32_t i = 0; i < journal_targets_count(journal); i++) {
                struct journal_target_state state;
                if (!journal_target_get(journal, (uint16_t)i, &state))
                        continue;
                const struct rules_target *target = cost_target_of(plan, state.key);
                if (target != NULL) {
                        moment->targets[target->index].accepted += state.accepted;
                        moment->targets[target->index].delivered += state.delivered;
                } else if (strcmp(state.key, ROUTER_TARGET_UNMATCHED) == 0 ||
                           strcmp(state.key, ROUTER_TARGET_REJECTED) == 0) {
                        moment->unmatched += state.accepted;
                }
        }
        journal_close(journal);
        return ERR_OK;
}

static int cost_moment_now(const struct rules_settings *settings, const struct rules_plan *plan,
                           struct cost_moment *moment)
{
        struct err err = {.text = ""};
        struct router_journal logs[LIMIT_LOGS_MAX];
        *moment =
                (struct cost_moment){.targets = calloc(rules_plan_targets_count(plan) + 1, sizeof(moment->targets[0]))};
        if (moment->targets == NULL) {
                (void)fprintf(stderr, "sendring cost: out of memory\n");
                return CMD_EXIT_IO;
        }
        enum err_code code = cost_read_counters(settings, plan, moment, &err);
        const uint32_t logs_count = router_logs_list(settings, true, logs);
        for (uint32_t i = 0; i < logs_count && code == ERR_OK; i++) {
                char directory[PATH_MAX];
                if (!router_log_directory(settings, &logs[i], directory, sizeof(directory)))
                        break;
                if (access(directory, F_OK) < 0 && errno == ENOENT)
                        continue; /* before the daemon has made it */
                code = cost_read_log(directory, plan, moment, &err);
        }
        if (code == ERR_OK)
                return CMD_EXIT_OK;
        int status = cmd_unread_status(&err);
        (void)fprintf(stderr, "sendring cost: %s%s\n", err.text,
                      status == CMD_EXIT_IO ? cmd_advice(&err)
                                            : ": --measure wants a daemon that runs with these settings");
        return status;
}

/* What the first moment had is taken off. */
static void cost_compare(const struct cost_moment *first, const struct cost_moment *second,
                         const struct rules_plan *plan, double step_bytes, struct cost_traffic *traffic)
{
        double seconds = (double)(second->at_ns - first->at_ns) / 1e9;
        double events = (double)(second->events - first->events);
        double takers = 0;
        traffic->events_per_s = events / seconds;
        traffic->budget_bytes = second->budget_bytes;
        traffic->unmatched = (double)(second->unmatched - first->unmatched) / events;
        if (first->has_cpu && second->has_cpu)
                traffic->cpu_us =
                        (double)(second->cpu_ticks - first->cpu_ticks) / (double)sysconf(_SC_CLK_TCK) * 1e6 / events;
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++) {
                struct cost_flow *flow = &traffic->flows[i];
                const struct cost_target_moment *then = &first->targets[i], *now = &second->targets[i];
                double accepted = (double)(now->accepted - then->accepted);
                flow->share = accepted / events;
                if (rules_plan_target(plan, i)->cloudwatch != NULL)
                        flow->hour = cost_series_of_hours(&now->hours, clock_realtime_ms());
                else
                        takers += accepted;
                flow->event_bytes = 0;
                if (now->delivered > then->delivered)
                        flow->event_bytes =
                                (double)(now->bytes - then->bytes) / (double)(now->delivered - then->delivered);
        }
        /* The mean over all destinations, also for those that have delivered nothing meanwhile. */
        if (takers > 0 && second->json_bytes > first->json_bytes)
                traffic->event_bytes = (double)(second->json_bytes - first->json_bytes) / takers;
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++) {
                struct cost_flow *flow = &traffic->flows[i];
                /* What of a compressed target is known is what is left: then its events are as large as all. */
                if (rules_plan_target(plan, i)->gzip && flow->event_bytes > 0)
                        flow->gzip_ratio = fmax(1, traffic->event_bytes / flow->event_bytes);
                if (!(flow->event_bytes > 1) || rules_plan_target(plan, i)->gzip)
                        flow->event_bytes = traffic->event_bytes;
                flow->event_billed_bytes = cost_round_up(flow->event_bytes, step_bytes);
        }
        traffic->encoded_bytes = (double)(second->encoded_bytes - first->encoded_bytes) / events;
        traffic->journal_bytes = (1 - traffic->unmatched) * cost_journal_mean_bytes(traffic->encoded_bytes) +
                                 traffic->unmatched * (double)cost_journal_bytes(0);
}

int cost_measure(const struct rules_settings *settings, const struct rules_plan *plan, uint64_t seconds,
                 double step_bytes, struct cost_traffic *traffic)
{
        struct cost_moment first, second = {.at_ns = 0};
        int status = cost_moment_now(settings, plan, &first);
        if (status == CMD_EXIT_OK) {
                clock_sleep_ns(seconds * CLOCK_NS_PER_S);
                status = cost_moment_now(settings, plan, &second);
        }
        if (status == CMD_EXIT_OK && (first.pid != second.pid || first.started_ms != second.started_ms)) {
                (void)fprintf(stderr, "sendring cost: the router was started anew meanwhile: measure again\n");
                status = CMD_EXIT_UNAVAILABLE;
        } else if (status == CMD_EXIT_OK && second.events <= first.events) {
                (void)fprintf(stderr,
                              "sendring cost: no event came within %llu s: measure longer, or say --rate instead\n",
                              (unsigned long long)seconds);
                status = CMD_EXIT_UNAVAILABLE;
        } else if (status == CMD_EXIT_OK) {
                cost_compare(&first, &second, plan, step_bytes, traffic);
        }
        free(first.targets);
        free(second.targets);
        return status;
}
