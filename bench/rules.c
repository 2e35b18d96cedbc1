/* Rules: how long does loading 10,000 sets of 10 destinations take, and does matching cost more with 10,000 sets than
 * with one?
 *
 * Method: a generated file of every size is parsed from memory. libyaml alone (every event, thrown away) is the floor
 * of loading. Matching asks for names in a random order prepared beforehand, in events of the standard mix. Ratios
 * compare what an event costs with 10,000 sets in even use and with one set: `ratio_10000_sets` what the router's core
 * does for it (copy, CRC, decoding, matching), `..._match_alone` matching without any of that, where every look-up
 * misses the cache. `..._filters`: each destination has a filter of two members that matches (the dearest case: one
 * that fails ends at its first member), ten filters that all sets have alike, as sets made from a template do;
 * `..._own_filters`: 100,000 filters of which no two are equal. The floor of an event is its copy and CRC. Five runs in
 * which the sizes take turns, the median counts; times are CPU time of the one thread, so that other work on the
 * machine counts less.
 *
 * `match_ns_N_filters`: one set of ten destinations, which is as many as SES allows, of which none, one and all have
 * such a filter; of 100, ten such sets with filters of their own, in even use.
 *
 * Not measured: reading the file from disk, the swap of plans.
 *
 * usage: rules [--json] [--smoke] */
#include "rules/rules.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/vector.h"
#include "bench/figures.h"
#include "tests/support/codec_events.h"

#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define DESTINATIONS 10u
#define RUNS         5u

static void bench_print(const char *metric, double value, const char *unit, double floor)
{
        printf("{\"bench\":\"rules\",\"metric\":\"%s\",\"value\":%.4g,\"unit\":\"%s\",", metric, value, unit);
        if (floor > 0)
                printf("\"floor\":%.4g,\"ratio\":%.3g}\n", floor, value / floor);
        else
                printf("\"floor\":null,\"ratio\":null}\n");
}

enum bench_kind { BENCH_PLAIN, BENCH_FILTERS, BENCH_OWN_FILTERS };
static const char *const bench_kind_names[] = {"", "_filters", "_own_filters"};

static void bench_file_filter(FILE *out, uint32_t set, uint32_t destination, enum bench_kind kind)
{
        uint32_t which = kind == BENCH_OWN_FILTERS ? set * DESTINATIONS + destination : destination;
        if (kind != BENCH_PLAIN)
                (void)fprintf(out,
                              "          Sendring: {Filter: {mail: {tags: {campaign: [april, may, 'c%u'], "
                              "'ses:from-domain': [{suffix: .example.com}]}}}}\n",
                              which);
}

static struct slice bench_file(uint32_t sets, enum bench_kind kind)
{
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);
        if (out == NULL)
                exit(1);
        (void)fprintf(out, "ConfigurationSets:\n");
        for (uint32_t i = 0; i < sets; i++) {
                (void)fprintf(out, "  - ConfigurationSetName: set-%05u\n    EventDestinations:\n", i);
                for (uint32_t k = 0; k < DESTINATIONS; k++) {
                        (void)fprintf(out,
                                      "      - EventDestinationName: destination-%u\n        EventDestination:\n"
                                      "          Enabled: true\n"
                                      "          MatchingEventTypes: [SEND, DELIVERY, BOUNCE, COMPLAINT]\n"
                                      "          KinesisFirehoseDestination:\n"
                                      "            IamRoleArn: arn:aws:iam::123456789012:role/ses-firehose\n"
                                      "            DeliveryStreamArn: arn:aws:firehose:us-east-1:123456789012:"
                                      "deliverystream/mail-events-%u\n",
                                      k, (i * DESTINATIONS + k) % 2000);
                        bench_file_filter(out, i, k, kind);
                }
        }
        if (fclose(out) != 0)
                exit(1);
        return slice_of(text, len);
}

static double bench_libyaml_s(struct slice text)
{
        uint64_t start = clock_thread_cpu_ns();
        yaml_parser_t parser;
        if (yaml_parser_initialize(&parser) == 0)
                exit(1);
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser, text.ptr, text.len);
        for (bool done = false; !done;) {
                yaml_event_t event;
                if (yaml_parser_parse(&parser, &event) == 0)
                        exit(1);
                done = event.type == YAML_STREAM_END_EVENT;
                yaml_event_delete(&event);
        }
        yaml_parser_delete(&parser);
        return (double)(clock_thread_cpu_ns() - start) / 1e9;
}

static struct rules_plan *bench_load(struct slice text, double *ret_s)
{
        struct rules_report report;
        struct rules_plan *plan;
        rules_report_init(&report);
        uint64_t start = clock_thread_cpu_ns();
        enum err_code code = rules_plan_parse("bench.yaml", text, NULL, &plan, &report);
        *ret_s = (double)(clock_thread_cpu_ns() - start) / 1e9;
        if (code != ERR_OK) {
                rules_report_print(&report, stderr);
                exit(1);
        }
        rules_report_release(&report);
        return plan;
}

struct bench_question {
        char name[12];
        enum sendring_event_type type;
};

/* The standard mix: Send 40 %, Delivery 40 %, Open 12 %, Click 5 %, Bounce 2.5 %, Complaint 0.5 %. */
static enum sendring_event_type bench_type(struct random_state *random)
{
        uint64_t at = random_below(random, 1000);
        return at < 400   ? SENDRING_SEND
               : at < 800 ? SENDRING_DELIVERY
               : at < 920 ? SENDRING_OPEN
               : at < 970 ? SENDRING_CLICK
               : at < 995 ? SENDRING_BOUNCE
                          : SENDRING_COMPLAINT;
}

/* One event of each type, as the router finds it in a lane. */
static struct slice bench_encoded[SENDRING_CLICK + 1];

static void bench_encode(void)
{
        static uint8_t room[SENDRING_CLICK + 1][4096];
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                size_t bytes;
                codec_events_fill(&event, (enum sendring_event_type)type);
                if (codec_event_encode(&event, room[type], sizeof(room[type]), &bytes, NULL) != ERR_OK)
                        exit(1);
                bench_encoded[type] = slice_of(room[type], bytes);
        }
}

static uint64_t bench_match(const struct rules_plan *plan, const struct bench_question *question,
                            struct codec_view *view)
{
        struct rules_match found;
        view->type = question->type;
        view->configuration_set = slice_of(question->name, 9);
        uint32_t got = rules_plan_match(plan, view, NULL, &found);
        return got + (got > 0 ? found.targets[got - 1] : 0) + found.set_known;
}

/* Nanoseconds per event of matching alone: sets without filters look at no more than this of an event. */
static double bench_match_ns(const struct rules_plan *plan, const struct bench_question *questions, uint32_t count,
                             uint64_t *hash)
{
        struct codec_view view = {.type = SENDRING_SEND};
        uint64_t start = clock_thread_cpu_ns();
        for (uint32_t i = 0; i < count; i++)
                *hash = *hash * 31 + bench_match(plan, &questions[i], &view);
        return (double)(clock_thread_cpu_ns() - start) / count;
}

/* Nanoseconds per event of what the router's core does for it; without a plan, of its copy and CRC alone. */
static double bench_event_ns(const struct rules_plan *plan, const struct bench_question *questions, uint32_t count,
                             uint64_t *hash)
{
        static uint8_t journal[64][4096];
        uint64_t start = clock_thread_cpu_ns();
        for (uint32_t i = 0; i < count; i++) {
                struct slice event = bench_encoded[questions[i].type];
                uint8_t *copy = journal[i % 64];
                struct codec_view view;
                memcpy(copy, event.ptr, event.len);
                *hash += crc32_iscsi(copy, (int)event.len, 0);
                vector_clear_uppers();
                if (plan == NULL)
                        continue;
                if (codec_view_decode(slice_of(copy, event.len), &view, NULL) != ERR_OK)
                        exit(1);
                *hash = *hash * 31 + bench_match(plan, &questions[i], &view);
        }
        return (double)(clock_thread_cpu_ns() - start) / count;
}

/* One number of sets of one kind. */
struct bench_size {
        uint32_t sets;
        enum bench_kind kind;
        struct rules_plan *plan;
        struct bench_question *questions;
        double load[RUNS], floor[RUNS], match[RUNS], event[RUNS];
};

/* `few` and `many` sets of one kind. */
static void bench_print_ratio(const struct bench_size *few, const struct bench_size *many)
{
        double ratio[RUNS], alone[RUNS];
        char metric[64];
        for (uint32_t run = 0; run < RUNS; run++) {
                ratio[run] = many->event[run] / few->event[run];
                alone[run] = many->match[run] / few->match[run];
        }
        (void)snprintf(metric, sizeof(metric), "ratio_%u_sets%s", many->sets, bench_kind_names[many->kind]);
        bench_print(metric, figures_median(ratio, RUNS), "x", 0);
        if (many->kind != BENCH_PLAIN)
                return;
        (void)snprintf(metric, sizeof(metric), "ratio_%u_sets_match_alone", many->sets);
        bench_print(metric, figures_median(alone, RUNS), "x", 0);
}

/* The sizes take turns, so that whatever else the machine does meets all of them; ratios are of the same turn. Returns
 * the floor of an event. */
static double bench_turns(struct bench_size *sizes, uint32_t count, uint32_t events, uint64_t *hash)
{
        double copy[RUNS];
        char metric[64];
        for (uint32_t run = 0; run < RUNS; run++) {
                copy[run] = bench_event_ns(NULL, sizes[0].questions, events, hash);
                for (uint32_t i = 0; i < count; i++) {
                        struct bench_size *size = &sizes[i];
                        if (size->kind == BENCH_PLAIN)
                                size->match[run] = bench_match_ns(size->plan, size->questions, events, hash);
                        size->event[run] = bench_event_ns(size->plan, size->questions, events, hash);
                }
        }
        double floor = figures_median(copy, RUNS);
        for (uint32_t i = 0; i < count; i++) { /* ratios first: medians sort */
                if (i > 0 && sizes[i].kind == sizes[i - 1].kind)
                        bench_print_ratio(&sizes[i - 1], &sizes[i]);
        }
        for (uint32_t i = 0; i < count; i++) {
                const char *kind = bench_kind_names[sizes[i].kind];
                (void)snprintf(metric, sizeof(metric), "event_ns_%u_sets%s", sizes[i].sets, kind);
                bench_print(metric, figures_median(sizes[i].event, RUNS), "ns/event", floor);
                if (sizes[i].kind != BENCH_PLAIN)
                        continue;
                (void)snprintf(metric, sizeof(metric), "match_ns_%u_sets", sizes[i].sets);
                bench_print(metric, figures_median(sizes[i].match, RUNS), "ns/event", floor);
        }
        return floor;
}

static struct bench_question *bench_questions(uint32_t sets, uint32_t count)
{
        struct random_state random;
        random_init(&random, 7);
        struct bench_question *questions = calloc(count, sizeof(*questions));
        if (questions == NULL)
                exit(1);
        for (uint32_t i = 0; i < count; i++) {
                (void)snprintf(questions[i].name, sizeof(questions[i].name), "set-%05u",
                               (uint32_t)random_below(&random, sets) % 100000u);
                questions[i].type = bench_type(&random);
        }
        return questions;
}

/* Sets of ten destinations, of which the first `filters` have a filter: two members each, as in the manual. */
static struct slice bench_filters_file(uint32_t sets, uint32_t filters)
{
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);
        if (out == NULL)
                exit(1);
        (void)fprintf(out, "ConfigurationSets: [");
        for (uint32_t k = 0; k < sets * DESTINATIONS; k++) {
                bool first = k % DESTINATIONS == 0;
                if (first)
                        (void)fprintf(out, "%s{ConfigurationSetName: set-%05u, EventDestinations: [",
                                      k == 0 ? "" : "]},\n", k / DESTINATIONS);
                (void)fprintf(
                        out,
                        "%s\n{Name: d%u, Enabled: true, MatchingEventTypes: [SEND, DELIVERY, BOUNCE, OPEN, CLICK, "
                        "COMPLAINT], Sendring: {FileDestination: {Path: /f%u}",
                        first ? "" : ",", k, k);
                if (k < filters)
                        (void)fprintf(out,
                                      ", Filter: {mail: {tags: {campaign: [april, may, 'c%u'], "
                                      "'ses:from-domain': [{suffix: .example.com}]}}}",
                                      k);
                (void)fprintf(out, "}}");
        }
        (void)fprintf(out, "]}]\n");
        if (fclose(out) != 0)
                exit(1);
        return slice_of(text, len);
}

/* What a whole event of the standard mix costs to match, with filters of which all match. */
static void bench_filters(uint32_t filters, uint32_t events, double floor, uint64_t *hash)
{
        struct codec_view views[SENDRING_CLICK + 1];
        double load, runs[RUNS];
        uint32_t sets = filters > DESTINATIONS ? filters / DESTINATIONS : 1;
        struct slice text = bench_filters_file(sets, filters);
        struct rules_plan *plan = bench_load(text, &load);
        struct bench_question *questions = bench_questions(sets, events);
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++)
                if (codec_view_decode(bench_encoded[type], &views[type], NULL) != ERR_OK)
                        exit(1);
        for (uint32_t run = 0; run < RUNS; run++) {
                uint64_t start = clock_thread_cpu_ns();
                for (uint32_t i = 0; i < events; i++)
                        *hash = *hash * 31 + bench_match(plan, &questions[i], &views[questions[i].type]);
                runs[run] = (double)(clock_thread_cpu_ns() - start) / events;
        }
        char metric[64];
        (void)snprintf(metric, sizeof(metric), "match_ns_%u_filters", filters);
        bench_print(metric, figures_median(runs, RUNS), "ns/event", floor);
        free(questions);
        rules_plan_free(plan);
        free((void *)(uintptr_t)text.ptr);
}

static void bench_size_load(struct bench_size *size, uint32_t events)
{
        struct slice text = bench_file(size->sets, size->kind);
        const char *kind = bench_kind_names[size->kind];
        char metric[64];
        for (uint32_t run = 0; run < RUNS; run++) {
                rules_plan_free(size->plan);
                size->floor[run] = bench_libyaml_s(text);
                size->plan = bench_load(text, &size->load[run]);
        }
        (void)snprintf(metric, sizeof(metric), "load_s_%u_sets%s", size->sets, kind);
        bench_print(metric, figures_median(size->load, RUNS), "s", figures_median(size->floor, RUNS));
        (void)snprintf(metric, sizeof(metric), "plan_mib_%u_sets%s", size->sets, kind);
        bench_print(metric, (double)rules_plan_bytes(size->plan) / (1024 * 1024), "MiB", 0);
        size->questions = bench_questions(size->sets, events);
        free((void *)(uintptr_t)text.ptr);
}

int main(int argc, char **argv)
{
        bool smoke = false;
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--smoke") == 0) {
                        smoke = true;
                } else if (strcmp(argv[i], "--json") != 0) { /* the only form there is */
                        (void)fprintf(stderr, "usage: rules [--json] [--smoke]\n");
                        return 64;
                }
        }
        uint32_t events = smoke ? 20000 : 1000000, many = smoke ? 200 : 10000;
        struct bench_size sizes[] = {
                {.sets = 1, .kind = BENCH_PLAIN},       {.sets = many, .kind = BENCH_PLAIN},
                {.sets = 1, .kind = BENCH_FILTERS},     {.sets = many, .kind = BENCH_FILTERS},
                {.sets = 1, .kind = BENCH_OWN_FILTERS}, {.sets = many, .kind = BENCH_OWN_FILTERS},
        };
        const uint32_t count = sizeof(sizes) / sizeof(sizes[0]);
        uint64_t hash = 0;
        bench_encode();
        for (uint32_t i = 0; i < count; i++)
                bench_size_load(&sizes[i], events);
        double floor = bench_turns(sizes, count, events, &hash);
        for (uint32_t i = 0; i < count; i++) {
                free(sizes[i].questions);
                rules_plan_free(sizes[i].plan);
        }
        const uint32_t filters[] = {0, 1, 10, 100};
        for (uint32_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
                bench_filters(filters[i], events / 2, floor, &hash);
        (void)fprintf(stderr, "work: %016llx\n", (unsigned long long)hash);
        return 0;
}
