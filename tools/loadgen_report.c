#include "tools/loadgen_internal.h"

#include <stdio.h>
#include <string.h>

/* What a load with an end of its own has left when it was stopped before that. */
static uint64_t loadgen_left(const struct loadgen_options *options, const struct loadgen_report *report)
{
        uint64_t all = options->events_max, done = report->published + report->too_big;
        if (options->profile != NULL)
                all = options->plan->events_count;
        else if (options->replay != NULL)
                all = options->replay->capture.events;
        if (all == 0)
                return 0;
        return all > done ? all - done : 1; /* of a Poisson process more may have come than on average */
}

void loadgen_sum(const struct loadgen *loadgen, struct loadgen_report *report)
{
        memset(report, 0, sizeof(*report));
        report->flushed = loadgen->options.flush_timeout_ms > 0;
        bool stopped = false;
        for (uint32_t i = 0; i < loadgen->slots_used; i++) {
                const struct loadgen_slot *slot = &loadgen->slots[i];
                /* Acquire: pairs with the release of the producer's last store; a killed one is dead anyway. */
                uint32_t end = atomic_load_explicit(&slot->end, memory_order_acquire);
                report->published += atomic_load_explicit(&slot->published, memory_order_relaxed);
                report->full += atomic_load_explicit(&slot->full, memory_order_relaxed);
                report->too_big += atomic_load_explicit(&slot->too_big, memory_order_relaxed);
                report->detached += atomic_load_explicit(&slot->detached, memory_order_relaxed);
                uint64_t begun_ns = atomic_load_explicit(&slot->begun_ns, memory_order_relaxed);
                uint64_t ended_ns = atomic_load_explicit(&slot->ended_ns, memory_order_relaxed);
                if (ended_ns != 0 && (report->ended_ns == 0 || begun_ns < report->begun_ns))
                        report->begun_ns = begun_ns;
                if (ended_ns > report->ended_ns)
                        report->ended_ns = ended_ns;
                report->wakeups += slot->wakeups;
                report->reattached += slot->reattached;
                report->overdue += slot->overdue;
                report->cpu_ns += slot->cpu_ns;
                report->killed += slot->killed;
                stopped |= slot->stopped;
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
        if (stopped)
                report->not_published = loadgen_left(&loadgen->options, report);
}

static void print_histogram_json(FILE *out, const char *name, const struct loadgen_histogram *histogram)
{
        if (histogram->count == 0) {
                (void)fprintf(out, ",\"%s\":null", name);
                return;
        }
        (void)fprintf(out, ",\"%s\":{\"p50\":%llu,\"p90\":%llu,\"p99\":%llu,\"p999\":%llu,\"max\":%llu}", name,
                      (unsigned long long)loadgen_histogram_percentile(histogram, 0.50),
                      (unsigned long long)loadgen_histogram_percentile(histogram, 0.90),
                      (unsigned long long)loadgen_histogram_percentile(histogram, 0.99),
                      (unsigned long long)loadgen_histogram_percentile(histogram, 0.999),
                      (unsigned long long)histogram->max);
}

static void print_histogram(const char *name, const struct loadgen_histogram *histogram)
{
        if (histogram->count > 0)
                printf("  %s p50 %.2f p90 %.2f p99 %.2f p99.9 %.2f max %.2f us\n", name,
                       (double)loadgen_histogram_percentile(histogram, 0.50) / 1e3,
                       (double)loadgen_histogram_percentile(histogram, 0.90) / 1e3,
                       (double)loadgen_histogram_percentile(histogram, 0.99) / 1e3,
                       (double)loadgen_histogram_percentile(histogram, 0.999) / 1e3, (double)histogram->max / 1e3);
}

/* What was to be, beside what was. */
static void print_wanted_json(const struct loadgen_options *options, const struct loadgen_report *report)
{
        const struct loadgen_profile *profile = options->profile;
        const struct loadgen_replay *replay = options->replay;
        if (profile != NULL)
                printf(",\"profile\":{\"name\":\"%s\",\"events\":%llu,\"seconds\":%.3f,\"rate\":%.3f,\"peak\":%.3f}",
                       profile->name, (unsigned long long)options->plan->events_count,
                       (double)options->plan->duration_ns / 1e9, options->rate,
                       options->rate * loadgen_profile_peak(profile));
        if (replay != NULL)
                printf(",\"replay\":{\"events\":%llu,\"too_big\":%llu,\"recorded_seconds\":%.3f,\"speed\":%g,"
                       "\"seconds\":%.3f}",
                       (unsigned long long)replay->capture.events, (unsigned long long)report->too_big,
                       (double)(replay->capture.last_ms - replay->capture.first_ms) / 1e3, replay->options.speed,
                       (double)replay->length_ns / 1e9);
}

static void print_wanted(const struct loadgen_options *options, const struct loadgen_report *report)
{
        const struct loadgen_profile *profile = options->profile;
        const struct loadgen_replay *replay = options->replay;
        if (profile != NULL)
                printf("  profile %s: %s%llu events in %.1f s, %.1f/s on average, at most %.1f/s\n", profile->name,
                       profile->poisson ? "about " : "", (unsigned long long)options->plan->events_count,
                       (double)options->plan->duration_ns / 1e9, options->rate,
                       options->rate * loadgen_profile_peak(profile));
        if (replay == NULL)
                return;
        printf("  replay of %llu events of %.1f s", (unsigned long long)replay->capture.events,
               (double)(replay->capture.last_ms - replay->capture.first_ms) / 1e3);
        if (replay->options.speed > 0)
                printf(" at speed %g: due within %.1f s\n", replay->options.speed, (double)replay->length_ns / 1e9);
        else
                printf(" as fast as the lanes take them\n");
        if (report->too_big > 0)
                printf("  %llu are too big for a lane of this host: raise router.lane_bytes_max\n",
                       (unsigned long long)report->too_big);
}

void loadgen_print(const struct loadgen *loadgen, const struct loadgen_report *report)
{
        double seconds = (double)(report->ended_ns - report->begun_ns) / 1e9;
        double rate = seconds > 0 ? (double)report->published / seconds : 0;
        /* CPU is known of producers that lived to tell. */
        double cpu_us = report->publish_ns.count > 0 && report->killed == 0
                                ? (double)report->cpu_ns / 1e3 / (double)report->publish_ns.count
                                : 0;
        if (loadgen->json) {
                printf("{\"run_id\":\"%08x\",\"producers\":%u,\"published\":%llu,\"seconds\":%.3f,\"rate\":%.0f,"
                       "\"overdue\":%llu,\"not_published\":%llu,\"full\":%llu,\"detached\":%llu,\"wakeups\":%llu,"
                       "\"reattached\":%llu,"
                       "\"killed\":%u,"
                       "\"failed\":%u,\"flushed\":%s,\"cpu_us_per_event\":%.3f",
                       loadgen->options.events.run_id, loadgen->options.producers_count,
                       (unsigned long long)report->published, seconds, rate, (unsigned long long)report->overdue,
                       (unsigned long long)report->not_published, (unsigned long long)report->full,
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
                for (uint32_t i = 0; loadgen->options.replay == NULL && i < loadgen->options.events.sets_count; i++)
                        printf("%s%llu", i > 0 ? "," : "", (unsigned long long)report->sets[i]);
                printf("]");
                print_wanted_json(&loadgen->options, report);
                if (loadgen->progress) {
                        printf(",\"series\":[");
                        for (uint32_t i = 0; i < loadgen->seconds_count; i++)
                                printf("%s{\"published\":%llu,\"full\":%llu,\"lateness_max_ns\":%llu}",
                                       i > 0 ? "," : "", (unsigned long long)loadgen->seconds[i].published,
                                       (unsigned long long)loadgen->seconds[i].full,
                                       (unsigned long long)loadgen->seconds[i].lateness_max_ns);
                        printf("]");
                }
                printf("}\n");
                return;
        }
        printf("loadgen: run %08x published %llu in %.*f s (%.0f/s) by %u producers, full %llu, detached %llu, killed "
               "%u, %s\n",
               loadgen->options.events.run_id, (unsigned long long)report->published, seconds < 1 ? 3 : 1, seconds,
               rate, loadgen->options.producers_count, (unsigned long long)report->full,
               (unsigned long long)report->detached, report->killed, report->flushed ? "flushed" : "not flushed");
        print_wanted(&loadgen->options, report);
        if (report->overdue > 0)
                printf("  %llu more were due and are not published\n", (unsigned long long)report->overdue);
        if (cpu_us > 0)
                printf("  cpu %.3f us/event, generator and publish together\n", cpu_us);
        print_histogram("publish ", &report->publish_ns);
        print_histogram("lateness", &report->lateness_ns);
}

bool loadgen_write_ledger(const struct loadgen *loadgen, const struct loadgen_report *report)
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
