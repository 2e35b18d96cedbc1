/* What a running daemon has: its counters and the accepted counts of its journal, twice; and the events that came in
 * between, as they lie there. */
#include "base/clock.h"
#include "base/counters.h"
#include "journal/journal.h"
#include "router/router.h"
#include "tools/cmd.h"
#include "tools/cost.h"
#include "tools/cost_traffic.h"
#include "tools/journal_log.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cost_moment {
        uint64_t at_ns, events, encoded_bytes, unmatched;
        uint64_t budget_bytes;
        uint32_t pid;
        int64_t started_ms;
        uint64_t cpu_ticks;
        bool has_cpu;
        struct cost_target_moment {
                uint64_t accepted, delivered, bytes;
                struct cost_hours hours;
        } * targets; /* of the plan */
        struct cost_log_moment {
                struct router_journal log;
                uint64_t position; /* where it ended */
        } logs[LIMIT_LOGS_MAX];
        uint32_t logs_count;
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

/* Says what could not be read. Returns the status to end with. */
static int cost_unread(const struct err *err)
{
        int status = cmd_unread_status(err);
        (void)fprintf(stderr, "sendring cost: %s%s\n", err->text,
                      status == CMD_EXIT_IO ? cmd_advice(err)
                                            : ": --measure wants a daemon that runs with these settings");
        return status;
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

static enum err_code cost_read_log(const struct router_journal *log, const char *directory,
                                   const struct rules_plan *plan, struct cost_moment *moment, struct err *reterr)
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
        moment->logs[moment->logs_count++] =
                (struct cost_log_moment){.log = *log, .position = journal_committed_position(journal)};
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
                code = cost_read_log(&logs[i], directory, plan, moment, &err);
        }
        return code == ERR_OK ? CMD_EXIT_OK : cost_unread(&err);
}

/* ---------------------------------------------------------------------------------------------- the events between */

/* Sums over events as a target gets them. */
struct cost_seen {
        double events, bytes, billed;
};
struct cost_sample {
        const struct cost_question *question;
        struct cost_seen all, *targets; /* of the plan */
};

static void cost_seen_add(struct cost_seen *seen, double bytes, double step_bytes)
{
        seen->events++;
        seen->bytes += bytes;
        seen->billed += cost_round_up(bytes, step_bytes);
}

/* One that nobody wanted, or a malformed one, has left nothing. A tool that reads a journal must not trust it, either.
 */
static enum err_code cost_sample_add(struct cost_sample *sample, const struct journal *journal,
                                     const struct journal_record *record)
{
        const struct cost_question *question = sample->question;
        struct slice event, set;
        struct codec_view view;
        if (record->payload.len == 0 || (record->entry.flags & JOURNAL_FLAG_REJECTED) != 0 ||
            codec_view_split(record->payload, &event, &set) != ERR_OK ||
            codec_view_decode(event, &view, NULL) != ERR_OK)
                return ERR_OK;
        if (view.configuration_set.len == 0)
                view.configuration_set = set;
        size_t bytes = cost_json_bytes(&question->options, &view, NULL);
        if (bytes == 0)
                return ERR_MEMORY;
        cost_seen_add(&sample->all, (double)bytes, question->step_bytes);
        for (uint32_t i = 0; i < record->entry.routes_count; i++) {
                struct journal_target_state state;
                const struct rules_target *target = journal_target_get(journal, record->entry.routes[i], &state)
                                                            ? cost_target_of(question->plan, state.key)
                                                            : NULL;
                if (target == NULL || target->cloudwatch != NULL)
                        continue;
                bytes = cost_json_bytes(&question->options, &view, target);
                if (bytes == 0)
                        return ERR_MEMORY;
                cost_seen_add(&sample->targets[target->index], (double)bytes, question->step_bytes);
        }
        return ERR_OK;
}

/* Of one log, from `position` on. */
static enum err_code cost_sample_log(struct cost_sample *sample, const char *directory, uint64_t position,
                                     struct err *reterr)
{
        struct journal_log log;
        enum err_code code = journal_log_open(&log, directory, reterr);
        log.position = code == ERR_OK && log.position < position ? position : log.position;
        for (uint32_t events = 0; events < COST_MEASURE_EVENTS_MAX && code == ERR_OK;) {
                struct journal_record record;
                code = journal_log_next(&log, &record, reterr);
                if (code == ERR_OK) {
                        events++;
                        code = cost_sample_add(sample, log.journal, &record);
                        if (code != ERR_OK)
                                (void)err_set(reterr, code, "out of memory");
                } else if (code == ERR_CORRUPT) {
                        code = ERR_OK;
                }
        }
        journal_log_close(&log);
        /* Faster recycled than read: what was read will do. */
        return code == ERR_EMPTY || code == ERR_NOT_FOUND ? ERR_OK : code;
}

static int cost_sample_between(const struct rules_settings *settings, const struct cost_moment *first,
                               const struct cost_moment *second, struct cost_sample *sample)
{
        struct err err = {.text = ""};
        enum err_code code = ERR_OK;
        for (uint32_t i = 0; i < second->logs_count && code == ERR_OK; i++) {
                const struct cost_log_moment *log = &second->logs[i];
                char directory[PATH_MAX];
                uint64_t position = 0; /* of one that was not there yet */
                for (uint32_t k = 0; k < first->logs_count; k++)
                        if (first->logs[k].log.shard == log->log.shard && first->logs[k].log.type == log->log.type)
                                position = first->logs[k].position;
                if (position < log->position && router_log_directory(settings, &log->log, directory, sizeof(directory)))
                        code = cost_sample_log(sample, directory, position, &err);
        }
        return code == ERR_OK ? CMD_EXIT_OK : cost_unread(&err);
}

/* The sizes of a target's events, and how much smaller they become on their way. */
static void cost_sizes(const struct cost_sample *sample, const struct cost_target_moment *then,
                       const struct cost_target_moment *now, const struct rules_target *target, struct cost_flow *flow)
{
        const struct cost_seen *own = &sample->targets[target->index];
        const struct cost_seen *seen = own->events > 0 ? own : &sample->all;
        if (!(seen->events > 0))
                return; /* what was computed beforehand stays */
        flow->sizes_from = own->events > 0 ? COST_SIZES_JOURNAL : COST_SIZES_OTHERS;
        flow->event_bytes = seen->bytes / seen->events;
        flow->event_billed_bytes = seen->billed / seen->events;
        if (target->gzip && now->delivered > then->delivered && now->bytes > then->bytes)
                flow->gzip_ratio = fmax(1, flow->event_bytes * (double)(now->delivered - then->delivered) /
                                                   (double)(now->bytes - then->bytes));
}

/* ---------------------------------------------------------------------------------------------- both */

/* What the first moment had is taken off. */
static void cost_compare(const struct cost_moment *first, const struct cost_moment *second,
                         const struct cost_sample *sample, struct cost_traffic *traffic)
{
        const struct rules_plan *plan = sample->question->plan;
        double seconds = (double)(second->at_ns - first->at_ns) / 1e9;
        double events = (double)(second->events - first->events);
        traffic->events_per_s = events / seconds;
        traffic->budget_bytes = second->budget_bytes;
        traffic->unmatched = (double)(second->unmatched - first->unmatched) / events;
        if (first->has_cpu && second->has_cpu)
                traffic->cpu_us =
                        (double)(second->cpu_ticks - first->cpu_ticks) / (double)sysconf(_SC_CLK_TCK) * 1e6 / events;
        if (sample->all.events > 0) {
                traffic->sizes_from = COST_SIZES_JOURNAL;
                traffic->event_bytes = sample->all.bytes / sample->all.events;
        }
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++) {
                struct cost_flow *flow = &traffic->flows[i];
                const struct cost_target_moment *then = &first->targets[i], *now = &second->targets[i];
                flow->share = (double)(now->accepted - then->accepted) / events;
                if (rules_plan_target(plan, i)->cloudwatch != NULL)
                        flow->hour = cost_series_of_hours(&now->hours, clock_realtime_ms());
                else
                        cost_sizes(sample, then, now, rules_plan_target(plan, i), flow);
        }
        traffic->encoded_bytes = (double)(second->encoded_bytes - first->encoded_bytes) / events;
        traffic->journal_bytes = (1 - traffic->unmatched) * cost_journal_mean_bytes(traffic->encoded_bytes) +
                                 traffic->unmatched * (double)cost_journal_bytes(0);
}

int cost_measure(const struct rules_settings *settings, const struct cost_question *question, uint64_t seconds,
                 struct cost_traffic *traffic)
{
        const struct rules_plan *plan = question->plan;
        struct cost_moment first, second = {.at_ns = 0};
        struct cost_sample sample = {.question = question,
                                     .targets = calloc(rules_plan_targets_count(plan) + 1, sizeof(sample.targets[0]))};
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
        } else if (status == CMD_EXIT_OK && sample.targets == NULL) {
                (void)fprintf(stderr, "sendring cost: out of memory\n");
                status = CMD_EXIT_IO;
        } else if (status == CMD_EXIT_OK) {
                status = cost_sample_between(settings, &first, &second, &sample);
        }
        if (status == CMD_EXIT_OK)
                cost_compare(&first, &second, &sample, traffic);
        free(sample.targets);
        free(first.targets);
        free(second.targets);
        return status;
}
