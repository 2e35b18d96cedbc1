#include "base/arena.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/random.h"
#include "codecs/codec.h"
#include "codecs/redact.h"
#include "rules/rules.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------------------- helpers */

struct text {
        char *ptr;
        size_t len;
};

static FILE *text_open(struct text *text)
{
        FILE *out = open_memstream(&text->ptr, &text->len);
        cr_assert_not_null(out);
        return out;
}

static enum err_code parse_sets(const char *text, size_t len, struct rules_plan **ret_plan, struct rules_report *report)
{
        rules_report_init(report);
        return rules_plan_parse("sets.yaml", slice_of(text, len), NULL, ret_plan, report);
}

/* What the plan makes of an event that has no more than a set and a type. */
static uint32_t match(const struct rules_plan *plan, struct slice set, enum sendring_event_type type,
                      uint16_t *ret_targets, bool *ret_known)
{
        struct codec_view view = {.type = type, .configuration_set = set};
        struct rules_match found;
        uint32_t count = rules_plan_match(plan, &view, NULL, &found);
        memcpy(ret_targets, found.targets, count * sizeof(*ret_targets));
        *ret_known = found.set_known;
        return count;
}

/* The only finding of a text that must be refused; freed by the next call. */
static const char *refusal(const char *yaml)
{
        static char kept[2048];
        struct rules_report report;
        struct rules_plan *plan;
        cr_assert_eq(parse_sets(yaml, strlen(yaml), &plan, &report), ERR_CONFIG, "%.200s", yaml);
        cr_assert_null(plan);
        cr_assert_eq(report.errors, 1);
        (void)snprintf(kept, sizeof(kept), "%u:%u: %s", report.first->line, report.first->column, report.first->text);
        rules_report_release(&report);
        return kept;
}

static enum err_code parse_settings(const char *yaml, struct rules_settings *ret_settings, struct rules_report *report)
{
        rules_report_init(report);
        return rules_settings_parse("/etc/sendring/sendring.yaml", slice_of_text(yaml), ret_settings, report);
}

/* ---------------------------------------------------------------------------------------------- the corpus */

/* Loads a file of the corpus by its own name, from its own folder; the printed findings go to *ret_findings. */
static enum err_code corpus_load(const char *name, struct text *ret_findings)
{
        struct rules_report report;
        struct rules_settings settings;
        struct rules_plan *plan = NULL;
        enum err_code code;
        rules_report_init(&report);
        if (strncmp(name, "settings-", 9) == 0) {
                code = rules_settings_load(name, &settings, &report);
                if (code == ERR_OK)
                        rules_settings_release(&settings);
        } else {
                code = rules_plan_load(name, NULL, &plan, &report);
                cr_assert_eq(plan != NULL, code == ERR_OK);
                rules_plan_free(plan);
        }
        FILE *out = text_open(ret_findings);
        rules_report_print(&report, out);
        (void)fclose(out);
        rules_report_release(&report);
        return code;
}

/* x.yaml and x.json have what must be printed in x.expect; without it, nothing may be. SENDRING_EXPECT=write writes
 * them anew, for a person to read. */
static void corpus_check(const char *folder, enum err_code expected)
{
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/config/%s", TEST_DATA_DIRECTORY, folder);
        cr_assert_eq(chdir(path), 0);
        const char *mode = getenv("SENDRING_EXPECT");
        DIR *directory = opendir(".");
        cr_assert_not_null(directory);
        int files = 0;
        for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
                struct slice name = slice_of_text(entry->d_name);
                if (!slice_has_suffix(name, SLICE(".yaml")) && !slice_has_suffix(name, SLICE(".json")))
                        continue;
                struct text findings;
                enum err_code code = corpus_load(entry->d_name, &findings);
                cr_assert_eq(code, expected, "%s: %s\n%s", entry->d_name, err_name(code), findings.ptr);
                (void)snprintf(path, sizeof(path), "%.*s.expect", (int)name.len - 5, entry->d_name);
                if (mode != NULL && strcmp(mode, "write") == 0 && findings.len > 0)
                        cr_assert_eq(file_replace(path, slice_of(findings.ptr, findings.len), NULL), ERR_OK);
                struct arena arena;
                arena_init(&arena, 0, 0);
                struct slice expect = SLICE_EMPTY;
                if (file_read(&arena, path, 1 << 20, &expect, NULL) != ERR_OK)
                        expect = SLICE_EMPTY;
                cr_assert(slice_equal(expect, slice_of(findings.ptr, findings.len)), "%s: printed\n%s", entry->d_name,
                          findings.ptr);
                arena_release(&arena);
                free(findings.ptr);
                files++;
        }
        (void)closedir(directory);
        cr_assert_geq(files, 5);
}

Test(rules, good_files_are_accepted, .timeout = 20)
{
        corpus_check("good", ERR_OK);
}

Test(rules, bad_files_are_refused_with_every_mistake_in_its_place, .timeout = 20)
{
        corpus_check("bad", ERR_CONFIG);
}

Test(rules, a_missing_file_is_a_finding, .timeout = 10)
{
        struct text findings;
        cr_assert_eq(corpus_load("settings-/nowhere", &findings), ERR_CONFIG);
        cr_assert_not_null(strstr(findings.ptr, "settings-/nowhere: error: cannot open"));
        free(findings.ptr);
}

/* ---------------------------------------------------------------------------------------------- settings */

Test(rules, settings_have_their_documented_defaults, .timeout = 10)
{
        struct rules_settings s;
        struct rules_report report;
        cr_assert_eq(parse_settings("router:\n  # nothing\n", &s, &report), ERR_OK);
        cr_assert_eq(report.warnings, 0);
        cr_assert_str_eq(s.state_directory, "/var/lib/sendring");
        cr_assert_str_eq(s.socket_path, "/run/sendring/sendring.sock");
        cr_assert_eq(s.socket_mode, 0660);
        cr_assert_str_eq(s.configuration_sets_path, "/etc/sendring/configuration-sets.yaml");
        cr_assert_null(s.default_configuration_set);
        cr_assert_str_empty(s.region);
        cr_assert_str_empty(s.account_id);
        cr_assert_str_eq(s.partition, "aws");
        cr_assert_eq(s.allowed_uids_count + s.allowed_gids_count, 0);
        cr_assert_eq(s.router.shards_count, 1);
        for (size_t i = 0; i < LIMIT_SHARDS_MAX; i++)
                cr_assert_eq(s.router.cores[i], -1);
        cr_assert_eq(s.router.lane_bytes, 1u << 20);
        cr_assert_eq(s.router.lane_bytes_max, 1u << 20);
        cr_assert_eq(s.router.lanes_max, 256);
        cr_assert_eq(s.router.lanes_per_user_max, 192);
        cr_assert(s.router.spin_us == 0 && s.router.nap_us == 1000 && s.router.nap_window_ms == 10);
        cr_assert_str_eq(s.journal.directory, "/var/lib/sendring/journal");
        cr_assert_eq(s.journal.segment_bytes, 16u << 20);
        cr_assert_eq(s.journal.size_bytes_max, UINT64_C(8) << 30);
        cr_assert(s.journal.segments_mapped_max == 12 && !s.journal.durability_host && s.journal.sync_interval_ms == 5);
        cr_assert(s.journal.retention_bytes == 0 && s.journal.retention_age == 0);
        cr_assert(s.egress.workers_count == 1 && s.egress.linger_ms == 100 && s.egress.in_flight_max == 4);
        cr_assert_eq(s.egress.batch_bytes_max, 4u << 20);
        cr_assert(s.egress.connect_timeout_ms == 5000 && s.egress.request_timeout_ms == 30000);
        cr_assert_eq(s.egress.idle_timeout_ms, 60000);
        cr_assert(s.egress.retry_base_ms == 50 && s.egress.retry_throttle_base_ms == 1000);
        cr_assert(s.egress.retry_max_ms == 5000 && s.egress.event_age_max_s == 0);
        cr_assert_eq(s.egress.dead_letter_bytes_max, UINT64_C(1) << 30);
        cr_assert_eq(s.egress.retry_budget_percent, 20);
        cr_assert_str_empty(s.egress.ca_bundle);
        cr_assert_str_empty(s.egress.firehose.url);
        cr_assert_str_empty(s.egress.cloudwatch.url);
        cr_assert_str_empty(s.credentials.profile);
        cr_assert_str_empty(s.credentials.shared_credentials_file);
        cr_assert_str_empty(s.credentials.config_file);
        cr_assert_eq(s.drain_seconds, 10);
        cr_assert_str_eq(s.log_level, "info");
        rules_settings_release(&s);
        rules_report_release(&report);
}

Test(rules, settings_reach_their_members, .timeout = 10)
{
        struct rules_settings s;
        struct rules_report report;
        rules_report_init(&report);
        cr_assert_eq(rules_settings_load(TEST_DATA_DIRECTORY "/config/good/settings-full.yaml", &s, &report), ERR_OK);
        cr_assert_str_eq(s.state_directory, "/srv/sendring");
        cr_assert_str_eq(s.socket_path, TEST_DATA_DIRECTORY "/config/good/run/s.sock");
        cr_assert_eq(s.socket_mode, 0666);
        cr_assert_str_eq(s.configuration_sets_path, TEST_DATA_DIRECTORY "/config/good/sets.yaml");
        cr_assert_str_eq(s.default_configuration_set, "bulk-a");
        cr_assert_str_eq(s.region, "us-gov-west-1");
        cr_assert_str_eq(s.account_id, "012345678901");
        cr_assert_str_eq(s.partition, "aws-us-gov");
        cr_assert_eq(s.allowed_uids_count, 3);
        cr_assert(s.allowed_uids[0] == 0 && s.allowed_uids[1] == 0 && s.allowed_uids[2] == 4294967294u);
        cr_assert(s.allowed_gids_count == 1 && s.allowed_gids[0] == 0);
        cr_assert(s.router.shards_count == 2 && s.router.cores[0] == -1);
        cr_assert(s.router.lane_bytes == 512u << 10 && s.router.lane_bytes_max == 4u << 20);
        cr_assert(s.router.lanes_max == 1024 && s.router.lanes_per_user_max == 100);
        cr_assert(s.router.spin_us == 1000 && s.router.nap_us == 10);
        cr_assert_eq(s.router.nap_window_ms, 0);
        cr_assert_str_eq(s.journal.directory, TEST_DATA_DIRECTORY "/config/good/j");
        cr_assert(s.journal.segment_bytes == 1u << 20 && s.journal.size_bytes_max == 8u << 20);
        cr_assert(s.journal.segments_mapped_max == 4 && s.journal.durability_host);
        cr_assert(s.journal.retention_bytes == 4 << 20 && s.journal.retention_age == UINT64_C(48) * 3600);
        cr_assert_eq(s.journal.sync_interval_ms, 1000);
        cr_assert(s.egress.workers_count == 16 && s.egress.linger_ms == 900000);
        cr_assert(s.egress.batch_bytes_max == 1536u << 10 && s.egress.in_flight_max == 64);
        cr_assert(s.egress.connect_timeout_ms == 1000 && s.egress.request_timeout_ms == 2000);
        cr_assert_eq(s.egress.idle_timeout_ms, 3600000);
        cr_assert(s.egress.retry_base_ms == 1 && s.egress.retry_throttle_base_ms == 2 && s.egress.retry_max_ms == 3);
        cr_assert_eq(s.egress.event_age_max_s, 86400);
        cr_assert_eq(s.egress.dead_letter_bytes_max, UINT64_C(512) << 20);
        cr_assert_eq(s.egress.retry_budget_percent, 100);
        cr_assert_str_eq(s.egress.ca_bundle, TEST_DATA_DIRECTORY "/config/good/ca.pem");
        cr_assert_str_eq(s.egress.firehose.url, "https://[::1]:8443/");
        cr_assert_str_eq(s.egress.cloudwatch.url, "http://127.0.0.1:4573");
        cr_assert(s.egress.firehose_rates.records == 500000 && s.egress.firehose_rates.bytes == 5u << 20);
        cr_assert(s.egress.firehose_rates.requests == 2000 && s.egress.cloudwatch_rates.requests == 150);
        cr_assert(s.egress.cloudwatch_rates.records == 0 && s.egress.cloudwatch_rates.bytes == 0);
        cr_assert_str_eq(s.credentials.profile, "mail");
        cr_assert_str_eq(s.credentials.shared_credentials_file, TEST_DATA_DIRECTORY "/config/good/creds");
        cr_assert_str_eq(s.credentials.config_file, "/etc/aws");
        cr_assert(s.drain_seconds == 60 && strcmp(s.log_level, "debug") == 0);
        rules_settings_release(&s);
        rules_report_release(&report);
}

Test(rules, endpoints_are_whole_urls_and_plain_http_stays_here, .timeout = 10)
{
        static const struct {
                const char *url;
                bool good;
        } cases[] = {
                {"https://firehose.us-east-1.amazonaws.com", true},
                {"https://h:1", true},
                {"https://h:65535/", true},
                {"http://127.0.0.1:4573", true},
                {"http://127.9.9.9", true},
                {"http://localhost:80/", true},
                {"http://[::1]:80", true},
                {"https://[2001:db8::1]", true},
                {"https://", false},
                {"https:///", false},
                {"ftp://h", false},
                {"https://u@h", false},
                {"https://h:0", false},
                {"https://h:65536", false},
                {"https://h:", false},
                {"https://h:8x", false},
                {"https://h/path", false},
                {"https://h?q", false},
                {"http://128.0.0.1", false},
                {"http://127.evil.example", false},
                {"http://[::2]", false},
                {"https://[::1", false},
                {"https://[zz]", false},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char yaml[256];
                struct rules_settings s;
                struct rules_report report;
                (void)snprintf(yaml, sizeof(yaml), "egress: {endpoints: {firehose: \"%s\"}}", cases[i].url);
                enum err_code code = parse_settings(yaml, &s, &report);
                cr_expect_eq(code == ERR_OK, cases[i].good, "%s", cases[i].url);
                if (code == ERR_OK)
                        rules_settings_release(&s);
                rules_report_release(&report);
        }
}

/* ---------------------------------------------------------------------------------------------- bounds of files */

Test(rules, aliases_cannot_unfold_without_bound, .timeout = 20)
{
        struct text yaml;
        FILE *out = text_open(&yaml);
        (void)fprintf(out, "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for (int i = 1; i < 12; i++) {
                (void)fprintf(out, "%c: &a%d [", 'a' + i, i);
                for (int k = 0; k < 10; k++)
                        (void)fprintf(out, "%s*a%d", k == 0 ? "" : ", ", i - 1);
                (void)fprintf(out, "]\n");
        }
        (void)fclose(out);
        cr_assert_not_null(strstr(refusal(yaml.ptr), "more than 4000000 values"));
        free(yaml.ptr);
}

Test(rules, members_anchors_and_sets_are_bounded, .timeout = 20)
{
        struct text yaml;
        FILE *out = text_open(&yaml);
        for (int i = 0; i < 65; i++)
                (void)fprintf(out, "k%d: 1\n", i);
        (void)fclose(out);
        cr_assert_str_eq(refusal(yaml.ptr), "65:1: more than 64 members in one map; no map has so many");
        free(yaml.ptr);

        out = text_open(&yaml);
        (void)fprintf(out, "ConfigurationSets:\n");
        for (int i = 0; i < 1025; i++)
                (void)fprintf(out, "  - &a%d x\n", i);
        (void)fclose(out);
        cr_assert_str_eq(refusal(yaml.ptr), "1026:5: more than 1024 anchors in one file");
        free(yaml.ptr);

        out = text_open(&yaml);
        (void)fprintf(out, "ConfigurationSets:\n");
        for (int i = 0; i < 10001; i++)
                (void)fprintf(out, "  - ConfigurationSetName: s%d\n", i);
        (void)fclose(out);
        cr_assert_str_eq(refusal(yaml.ptr), "2:3: 10001 configuration sets; SES allows 10000");
        free(yaml.ptr);
}

Test(rules, targets_are_bounded, .timeout = 20)
{
        for (int excess = 0; excess < 2; excess++) {
                struct text yaml;
                FILE *out = text_open(&yaml);
                (void)fprintf(out, "ConfigurationSets:\n");
                for (int i = 0; i < (int)LIMIT_TARGETS_MAX + excess; i++)
                        (void)fprintf(out,
                                      "  - {ConfigurationSetName: s%d, EventDestinations: [{Name: d, Enabled: true, "
                                      "MatchingEventTypes: [SEND], Sendring: {FileDestination: {Path: /f%d}}}]}\n",
                                      i, i);
                (void)fclose(out);
                struct rules_report report;
                struct rules_plan *plan;
                enum err_code code = parse_sets(yaml.ptr, yaml.len, &plan, &report);
                cr_assert_eq(code, excess ? ERR_CONFIG : ERR_OK);
                cr_assert_eq(report.errors, (uint32_t)excess);
                if (!excess)
                        cr_assert_eq(rules_plan_targets_count(plan), LIMIT_TARGETS_MAX);
                rules_plan_free(plan);
                rules_report_release(&report);
                free(yaml.ptr);
        }
}

Test(rules, many_findings_are_counted_and_few_kept, .timeout = 20)
{
        struct text yaml, printed;
        FILE *out = text_open(&yaml);
        (void)fprintf(out, "ConfigurationSets:\n");
        for (int i = 0; i < 2000; i++)
                (void)fprintf(out, "  - %d\n", i);
        (void)fclose(out);
        struct rules_report report;
        struct rules_plan *plan;
        cr_assert_eq(parse_sets(yaml.ptr, yaml.len, &plan, &report), ERR_CONFIG);
        cr_assert_eq(report.errors, 2000);
        cr_assert_eq(report.errors_kept, RULES_FINDINGS_KEPT_MAX);
        out = text_open(&printed);
        rules_report_print(&report, out);
        (void)fclose(out);
        cr_assert_not_null(strstr(printed.ptr, "... and 1500 more errors, 0 more warnings\n"));
        rules_report_release(&report);
        free(printed.ptr);
        free(yaml.ptr);
}

/* One report takes two files and keeps them apart. */
Test(rules, a_report_takes_several_files, .timeout = 10)
{
        struct rules_report report;
        struct rules_settings settings;
        struct rules_plan *plan;
        struct text printed;
        rules_report_init(&report);
        cr_assert_eq(rules_settings_parse("a", SLICE("x: 1\nw: 1\n"), &settings, &report), ERR_CONFIG);
        cr_assert_eq(rules_plan_parse("b", SLICE("ConfigurationSets: []\n"), NULL, &plan, &report), ERR_OK);
        cr_assert_eq(rules_plan_parse("c\"\\", SLICE("x: [\n"), NULL, &plan, &report), ERR_CONFIG);
        FILE *out = text_open(&printed);
        rules_report_print_json(&report, out);
        (void)fclose(out);
        cr_assert_eq(strstr(printed.ptr, "{\"file\":\"a\",\"line\":1,\"column\":1,\"severity\":\"error\","),
                     printed.ptr);
        cr_assert_not_null(strstr(printed.ptr, "\n{\"file\":\"b\",\"line\":1,\"column\":20,\"severity\":\"warning\""));
        cr_assert_not_null(strstr(printed.ptr, "\n{\"file\":\"c\\\"\\\\\","));
        cr_assert_eq(report.errors, 3);
        rules_plan_free(plan);
        rules_report_release(&report);
        free(printed.ptr);
}

Test(rules, nothing_is_read_past_the_end, .timeout = 20)
{
        static const char yaml[] =
                "ConfigurationSets: [{ConfigurationSetName: \"a\\x41\", EventDestinations: [{Name: d, Enabled: true, "
                "MatchingEventTypes: [SEND], Sendring: {FileDestination: {Path: '/f'}}}]}] # end";
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        uint8_t *area = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq(area, MAP_FAILED);
        cr_assert_eq(mprotect(area + page, page, PROT_NONE), 0);
        uint32_t good = 0;
        for (size_t len = 0; len <= sizeof(yaml) - 1; len++) {
                uint8_t *text = area + page - len;
                memcpy(text, yaml, len);
                struct rules_report report;
                struct rules_plan *plan;
                good += parse_sets((const char *)text, len, &plan, &report) == ERR_OK;
                rules_plan_free(plan);
                rules_report_release(&report);
        }
        cr_assert_eq(good, 7); /* whole, with every beginning of the comment and the blank before it */
        (void)munmap(area, 2 * page);
}

/* ---------------------------------------------------------------------------------------------- plans */

struct walk {
        uint32_t count;
        char text[1024];
};

static void walk_each(void *context, struct slice set, struct slice destination, bool enabled, uint16_t mask,
                      uint32_t target)
{
        struct walk *walk = context;
        size_t used = strlen(walk->text);
        walk->count++;
        (void)snprintf(walk->text + used, sizeof(walk->text) - used, "%.*s/%.*s %d %x %d\n", SLICE_PRINTF(set),
                       SLICE_PRINTF(destination), enabled, mask, (int)target);
}

Test(rules, plans_tell_sets_destinations_and_shared_targets, .timeout = 10)
{
        struct rules_report report;
        struct rules_plan *plan;
        rules_report_init(&report);
        cr_assert_eq(rules_plan_load(TEST_DATA_DIRECTORY "/config/good/sets-shapes.yaml", NULL, &plan, &report),
                     ERR_OK);
        cr_assert_eq(rules_plan_sets_count(plan), 3);
        cr_assert_eq(rules_plan_destinations_count(plan), 4);
        cr_assert_eq(rules_plan_targets_count(plan), 3);
        struct walk walk = {0};
        rules_plan_each(plan, walk_each, &walk);
        cr_assert_str_eq(walk.text,
                         "nested/first 1 402 0\nnested/second 1 402 0\nflat/first 1 200 1\nflat/file 0 20 2\n");
        const struct rules_target *t = rules_plan_target(plan, 0);
        cr_assert_eq(t->service, RULES_SERVICE_FIREHOSE);
        cr_assert(slice_equal(t->key, SLICE("firehose arn:aws:firehose:us-east-1:123456789012:deliverystream/a.B_c-9 "
                                            "packing=events")));
        cr_assert(slice_equal(t->resource, SLICE("a.B_c-9")) && slice_equal(t->region, SLICE("us-east-1")));
        cr_assert(slice_equal(t->account_id, SLICE("123456789012")) && slice_equal(t->partition, SLICE("aws")));
        cr_assert(t->packed && t->packed_events_max == 500);
        cr_assert(t->index == 0 && t->destinations_count == 2 && t->destinations_enabled_count == 2);
        t = rules_plan_target(plan, 1);
        cr_assert(!t->packed && t->packed_events_max == 1 && slice_equal(t->partition, SLICE("aws-cn")));
        cr_assert(slice_has_suffix(t->key, SLICE(" packing=none")));
        t = rules_plan_target(plan, 2);
        cr_assert_eq(t->service, RULES_SERVICE_FILE);
        cr_assert(slice_equal(t->key, SLICE("file /var/log/sendring/e.ndjson")));
        cr_assert(slice_equal(t->resource, SLICE("/var/log/sendring/e.ndjson")) && t->arn.len == 0);
        cr_assert(t->rotate_bytes == 0 && t->rotate_seconds == 3600);
        cr_assert(t->destinations_count == 1 && t->destinations_enabled_count == 0);
        cr_assert_null(rules_plan_target(plan, 3));
        rules_plan_free(plan);
        rules_report_release(&report);
}

Test(rules, default_set_and_unknown_sets, .timeout = 10)
{
        static const char yaml[] =
                "ConfigurationSets: [{ConfigurationSetName: a, EventDestinations: [{Name: d, Enabled: "
                "true, MatchingEventTypes: [SEND], Sendring: {FileDestination: {Path: /f}}}]}]";
        struct rules_settings settings;
        struct rules_report report;
        struct rules_plan *plan;
        uint16_t targets[LIMIT_ROUTES_PER_EVENT_MAX];
        bool known;
        cr_assert_eq(parse_settings("default_configuration_set: a", &settings, &report), ERR_OK);
        cr_assert_eq(rules_plan_parse("s", slice_of_text(yaml), &settings, &plan, &report), ERR_OK);
        cr_assert_eq(match(plan, SLICE_EMPTY, SENDRING_SEND, targets, &known), 1);
        cr_assert(known && targets[0] == 0);
        cr_assert_eq(match(plan, SLICE("a"), SENDRING_OPEN, targets, &known), 0);
        cr_assert(known);
        cr_assert_eq(match(plan, SLICE("A"), SENDRING_SEND, targets, &known), 0);
        cr_assert_not(known);
        const int no_types[] = {0, 11, 255, -1};
        for (size_t i = 0; i < 4; i++)
                cr_assert_eq(match(plan, SLICE("a"), (enum sendring_event_type)no_types[i], targets, &known), 0);
        rules_plan_free(plan);
        cr_assert_eq(rules_plan_parse("s", SLICE("ConfigurationSets: [{ConfigurationSetName: b}]"), &settings, &plan,
                                      &report),
                     ERR_CONFIG);
        cr_assert_not_null(strstr(report.last->text, "default_configuration_set"));
        rules_settings_release(&settings);
        cr_assert_eq(rules_plan_parse("s", slice_of_text(yaml), NULL, &plan, &report), ERR_OK);
        cr_assert_eq(match(plan, SLICE_EMPTY, SENDRING_SEND, targets, &known), 0);
        cr_assert(known);
        rules_plan_free(plan);
        cr_assert_eq(rules_plan_parse("s", SLICE("ConfigurationSets: []"), NULL, &plan, &report), ERR_OK);
        cr_assert_eq(match(plan, SLICE("a"), SENDRING_SEND, targets, &known), 0);
        cr_assert_not(known);
        rules_plan_free(plan);
        rules_report_release(&report);
}

Test(rules, default_sets_by_domain, .timeout = 10)
{
        struct rules_settings settings;
        struct rules_report report;
        struct rules_plan *plan;
        cr_assert_eq(
                parse_settings("default_configuration_set: a\n"
                               "default_configuration_sets: [{mail.Example.com: b}, {x.example: a, y_1.example: b}]",
                               &settings, &report),
                ERR_OK);
        cr_assert_eq(settings.default_configuration_sets_count, 3);
        static const char yaml[] = "ConfigurationSets: [{ConfigurationSetName: a}, {ConfigurationSetName: b}]";
        cr_assert_eq(rules_plan_parse("s", slice_of_text(yaml), &settings, &plan, &report), ERR_OK);
        cr_assert(rules_plan_asks_domain(plan));
        cr_expect(slice_equal(rules_plan_default_set(plan, SLICE("MAIL.example.COM")), SLICE("b")));
        cr_expect(slice_equal(rules_plan_default_set(plan, SLICE("y_1.example")), SLICE("b")));
        cr_expect(slice_equal(rules_plan_default_set(plan, SLICE("example.com")), SLICE("a")), "no parent domains");
        cr_expect(slice_equal(rules_plan_default_set(plan, SLICE_EMPTY), SLICE("a")));
        rules_plan_free(plan);
        cr_assert_eq(rules_plan_parse("s", SLICE("ConfigurationSets: [{ConfigurationSetName: a}]"), &settings, &plan,
                                      &report),
                     ERR_CONFIG);
        cr_assert_eq(report.errors, 2);
        cr_expect_str_eq(report.last->text,
                         "the settings name 'b' as the default configuration set of y_1.example; it is not here");
        rules_settings_release(&settings);
        rules_report_release(&report);

        cr_assert_eq(parse_settings("default_configuration_sets: {a.example: s}", &settings, &report), ERR_OK);
        cr_assert_eq(rules_plan_parse("s", SLICE("ConfigurationSets: [{ConfigurationSetName: s}]"), &settings, &plan,
                                      &report),
                     ERR_OK);
        cr_expect_eq(rules_plan_default_set(plan, SLICE("b.example")).len, 0);
        rules_plan_free(plan);
        rules_settings_release(&settings);
        rules_report_release(&report);

        static const char *const bad[][2] = {
                {"default_configuration_sets: a", "must be a map like {mail.example.com: bulk-a}"},
                {"default_configuration_sets: [a]", "must be a map like {mail.example.com: bulk-a}"},
                {"default_configuration_sets: {a b: s}", "'a b' is no domain"},
                {"default_configuration_sets: {.a: s}", "'.a' is no domain"},
                {"default_configuration_sets: {a: s t}", "the set 's t' must be letters"},
                {"default_configuration_sets: [{a.b: s}, {A.b: t}]", "'A.b' is there already"},
        };
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                cr_expect_eq(parse_settings(bad[i][0], &settings, &report), ERR_CONFIG, "%s", bad[i][0]);
                cr_expect_not_null(strstr(report.last->text, bad[i][1]), "%s: %s", bad[i][0], report.last->text);
                rules_report_release(&report);
        }
}

/* A key file, and a policy that uses it, in a plan of one destination. */
static enum err_code parse_redaction(const char *redaction, struct rules_plan **ret_plan, struct rules_report *report)
{
        char yaml[2048];
        (void)snprintf(yaml, sizeof(yaml),
                       "ConfigurationSets: [{ConfigurationSetName: a, EventDestinations: [{Name: d, Enabled: true, "
                       "MatchingEventTypes: [SEND], Sendring: {FileDestination: {Path: /f}, Redaction: %s}}]}]",
                       redaction);
        rules_report_init(report);
        return rules_plan_parse("s", slice_of_text(yaml), NULL, ret_plan, report);
}

Test(rules, redaction_policies_are_read_and_their_keys_guarded, .timeout = 10)
{
        char directory[] = "/tmp/sendring-redaction-XXXXXX", path[64], text[512];
        struct rules_report report;
        struct rules_plan *plan;
        cr_assert_not_null(mkdtemp(directory));
        (void)snprintf(path, sizeof(path), "%s/key", directory);
        cr_assert_eq(file_replace(path, SLICE("0123456789abcdef\n"), NULL), ERR_OK);
        cr_assert_eq(chmod(path, 0600), 0);
        (void)snprintf(
                text, sizeof(text),
                "{Addresses: hmac, KeyFile: %s, Domain: drop, Drop: [mail.headers, open.ipAddress], Headers: [To]}",
                path);
        cr_assert_eq(parse_redaction(text, &plan, &report), ERR_OK);
        const struct rules_target *target = rules_plan_target(plan, 0);
        cr_assert_not_null(target->redaction);
        char token[CODEC_REDACTION_TOKEN_BYTES];
        codec_redaction_token(target->redaction, SLICE("Ana@x.example"), token);
        /* printf %s ana@x.example | openssl dgst -sha256 -hmac 0123456789abcdef */
        cr_expect_arr_eq(token, "6cb363d5cca4a7011948c6cc27499b34", sizeof(token), "%.32s", token);
        cr_expect(target->redaction->domain_dropped && target->redaction->headers_limited);
        (void)snprintf(text, sizeof(text), "file redaction=%s /f", target->redaction->fingerprint);
        cr_expect(slice_equal(target->key, slice_of_text(text)), "%.*s", SLICE_PRINTF(target->key));
        cr_expect_eq(strlen(target->redaction->fingerprint), 16);
        rules_plan_free(plan);
        rules_report_release(&report);

        static const char *const bad[][2] = {
                {"x", "Redaction must be a map"},
                {"{Addresses: all}", "Redaction.Addresses"},
                {"{Addresses: hmac}", "needs KeyFile"},
                {"{Addresses: mask, KeyFile: /k}", "Redaction.KeyFile belongs to Addresses: hmac"},
                {"{Addresses: mask, Domain: drop}", "Redaction.Domain belongs to Addresses: hmac"},
                {"{Addresses: hmac, KeyFile: k}", "must be absolute"},
                {"{Addresses: hmac, KeyFile: /nowhere/k}", "cannot be opened: No such file"},
                {"{Addresses: hmac, KeyFile: /dev/null}", "it is no regular file"},
                {"{Drop: mail.headers}", "Redaction.Drop"},
                {"{Drop: [mail.subject]}", "no member mail.subject to drop"},
                {"{Headers: ['']}", "Redaction.Headers"},
                {"{Mask: yes}", "unknown member 'Mask'"},
        };
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                cr_expect_eq(parse_redaction(bad[i][0], &plan, &report), ERR_CONFIG, "%s", bad[i][0]);
                cr_expect_not_null(strstr(report.last->text, bad[i][1]), "%s: %s", bad[i][0], report.last->text);
                rules_report_release(&report);
        }
        (void)snprintf(text, sizeof(text), "{Addresses: hmac, KeyFile: %s}", path);
        static const struct {
                const char *key;
                mode_t mode;
                const char *finding;
        } keys[] = {
                {"0123456789abcdef", 0640, "others may use it: chmod 600"},
                {"0123456789abcdef", 0602, "others may use it: chmod 600"},
                {"0123456789abcde\n", 0600, "the key must have 16 to 4096 bytes, not 15"},
                {"", 0400, "the key must have 16 to 4096 bytes, not 0"},
        };
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
                cr_assert_eq(file_replace(path, slice_of_text(keys[i].key), NULL), ERR_OK);
                cr_assert_eq(chmod(path, keys[i].mode), 0);
                cr_expect_eq(parse_redaction(text, &plan, &report), ERR_CONFIG);
                cr_expect_not_null(strstr(report.last->text, keys[i].finding), "%s", report.last->text);
                cr_expect_null(strstr(report.last->text, "0123456789"), "a key is never said");
                rules_report_release(&report);
        }
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(symlink("/etc/hostname", path), 0);
        cr_expect_eq(parse_redaction(text, &plan, &report), ERR_CONFIG);
        rules_report_release(&report);
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(rmdir(directory), 0);
}

Test(rules, what_is_published_makes_another_target, .timeout = 10)
{
#define FIREHOSE \
        "KinesisFirehoseDestination: {DeliveryStreamArn: 'arn:aws:firehose:us-east-1:123456789012:deliverystream/m'}"
#define DESTINATION(name, rest) "{Name: " name ", Enabled: true, MatchingEventTypes: [SEND], " rest "}"
        static const char
                yaml[] =
                        "ConfigurationSets: [{ConfigurationSetName: a, EventDestinations: [" DESTINATION("a", FIREHOSE) ", " DESTINATION(
                                "b", FIREHOSE
                                ", Sendring: {EventId: true}") ", " DESTINATION("c", FIREHOSE
                                                                                ", Sendring: {EventId: "
                                                                                "false}") ", " DESTINATION("d",
                                                                                                           "S"
                                                                                                           "e"
                                                                                                           "n"
                                                                                                           "d"
                                                                                                           "r"
                                                                                                           "i"
                                                                                                           "n"
                                                                                                           "g"
                                                                                                           ":"
                                                                                                           " "
                                                                                                           "{"
                                                                                                           "E"
                                                                                                           "v"
                                                                                                           "e"
                                                                                                           "n"
                                                                                                           "t"
                                                                                                           "I"
                                                                                                           "d"
                                                                                                           ":"
                                                                                                           " "
                                                                                                           "t"
                                                                                                           "r"
                                                                                                           "u"
                                                                                                           "e"
                                                                                                           ","
                                                                                                           " "
                                                                                                           "F"
                                                                                                           "i"
                                                                                                           "l"
                                                                                                           "e"
                                                                                                           "D"
                                                                                                           "e"
                                                                                                           "s"
                                                                                                           "t"
                                                                                                           "i"
                                                                                                           "n"
                                                                                                           "a"
                                                                                                           "t"
                                                                                                           "i"
                                                                                                           "o"
                                                                                                           "n"
                                                                                                           ":"
                                                                                                           " "
                                                                                                           "{"
                                                                                                           "P"
                                                                                                           "a"
                                                                                                           "t"
                                                                                                           "h"
                                                                                                           ":"
                                                                                                           " "
                                                                                                           "/"
                                                                                                           "f"
                                                                                                           "}"
                                                                                                           "}") "]}]";
        static const char twice[] = "ConfigurationSets: [{ConfigurationSetName: a, EventDestinations: [" DESTINATION(
                "a", "Sendring: {FileDestination: {Path: /f}}") ", " DESTINATION("b",
                                                                                 "Sendring: {EventId: true, "
                                                                                 "FileDestination: {Path: /f}}") "]}]";
        struct rules_report report;
        struct rules_plan *plan;
        rules_report_init(&report);
        cr_assert_eq(rules_plan_parse("s", slice_of_text(yaml), NULL, &plan, &report), ERR_OK);
        cr_assert_eq(rules_plan_targets_count(plan), 3);
        static const char *const keys[] = {
                "firehose arn:aws:firehose:us-east-1:123456789012:deliverystream/m packing=events",
                "firehose arn:aws:firehose:us-east-1:123456789012:deliverystream/m packing=events event-id",
                "file event-id /f"};
        for (uint32_t i = 0; i < 3; i++) {
                const struct rules_target *target = rules_plan_target(plan, i);
                cr_expect(slice_equal(target->key, slice_of_text(keys[i])), "%.*s", SLICE_PRINTF(target->key));
                cr_expect_eq(target->event_id, i > 0);
        }
        rules_plan_free(plan);
        cr_assert_eq(rules_plan_parse("s", slice_of_text(twice), NULL, &plan, &report), ERR_CONFIG);
        cr_assert_str_eq(report.last->text, "this file gets other records on line 1; give each its own Path");
        rules_report_release(&report);
}

/* ---------------------------------------------------------------------------------------------- against a naive
 * evaluation */

enum { NAIVE_SETS = 300, NAIVE_DESTINATIONS = 10 };

struct naive_set {
        char name[65];
        uint32_t count;
        struct {
                bool enabled, published;
                uint16_t mask;
                char key[128];
        } destinations[NAIVE_DESTINATIONS];
};

/* Distinct by their first bytes, of every length that the hash treats apart. */
static void naive_name(struct random_state *random, uint32_t index, char *ret_name)
{
        static const char letters[] = "abcXYZ019_-";
        int used = snprintf(ret_name, 65, "%x", index);
        size_t len = (size_t)used + random_below(random, 65 - (uint64_t)used);
        for (size_t i = (size_t)used; i < len; i++)
                ret_name[i] = i == (size_t)used ? '_' : letters[random_below(random, sizeof(letters) - 1)];
        ret_name[len] = '\0';
}

static void naive_destination(struct random_state *random, FILE *out, struct naive_set *set, uint32_t place)
{
        bool is_flat = random_below(random, 2) == 0;
        unsigned pick = (unsigned)random_below(random, 40), service = (unsigned)random_below(random, 10);
        set->destinations[place].enabled = random_below(random, 4) != 0;
        set->destinations[place].mask = (uint16_t)((1 + random_below(random, 1023)) << 1);
        set->destinations[place].published = service != 0;
        (void)fprintf(out, "      - {%s: d%u, %s", is_flat ? "Name" : "EventDestinationName", place,
                      is_flat ? "" : "EventDestination: {");
        (void)fprintf(out, "Enabled: %s, MatchingEventTypes: [", set->destinations[place].enabled ? "true" : "false");
        for (int type = 1; type <= 10; type++)
                if ((set->destinations[place].mask & (1 << type)) != 0)
                        (void)fprintf(out, "%s, ", rules_event_type_name((enum sendring_event_type)type));
        (void)fprintf(out, "], ");
        char *key = set->destinations[place].key;
        const size_t key_bytes = sizeof(set->destinations[place].key);
        if (service == 0) {
                (void)fprintf(out, "SnsDestination: {TopicArn: 'arn:aws:sns:us-east-1:123456789012:t%u'}", pick);
        } else if (service < 4) {
                (void)fprintf(out, "Sendring: {FileDestination: {Path: /f%u}}", pick);
                (void)snprintf(key, key_bytes, "file /f%u", pick);
        } else {
                (void)fprintf(out,
                              "KinesisFirehoseDestination: {DeliveryStreamArn: "
                              "'arn:aws:firehose:us-east-1:123456789012:deliverystream/s%u'}%s",
                              pick, service < 7 ? ", Sendring: {Packing: none}" : "");
                (void)snprintf(key, key_bytes,
                               "firehose arn:aws:firehose:us-east-1:123456789012:deliverystream/s%u packing=%s", pick,
                               service < 7 ? "none" : "events");
        }
        (void)fprintf(out, "%s}\n", is_flat ? "" : "}");
}

static void naive_check(const struct rules_plan *plan, const struct naive_set *sets, uint32_t sets_count,
                        uint32_t index, const char *name)
{
        uint16_t targets[LIMIT_ROUTES_PER_EVENT_MAX];
        for (int type = 1; type <= 10; type++) {
                bool known;
                uint32_t got = match(plan, slice_of_text(name), (enum sendring_event_type)type, targets, &known);
                cr_assert_eq(known, index < sets_count, "%s", name);
                uint32_t want = 0;
                for (uint32_t k = 0; index < sets_count && k < sets[index].count; k++) {
                        if (!sets[index].destinations[k].enabled || !sets[index].destinations[k].published ||
                            (sets[index].destinations[k].mask & (1 << type)) == 0)
                                continue;
                        cr_assert_lt(want, got);
                        const struct rules_target *target = rules_plan_target(plan, targets[want++]);
                        cr_assert(slice_equal(target->key, slice_of_text(sets[index].destinations[k].key)));
                }
                cr_assert_eq(got, want);
        }
}

Test(rules, matching_agrees_with_a_naive_evaluation, .timeout = 60)
{
        static struct naive_set sets[NAIVE_SETS];
        struct random_state random;
        random_init(&random, 20261123);
        for (int round = 0; round < 30; round++) {
                uint32_t sets_count = 1 + (uint32_t)random_below(&random, NAIVE_SETS);
                struct text yaml;
                FILE *out = text_open(&yaml);
                (void)fprintf(out, "ConfigurationSets:\n");
                for (uint32_t i = 0; i < sets_count; i++) {
                        naive_name(&random, i, sets[i].name);
                        sets[i].count = (uint32_t)random_below(&random, NAIVE_DESTINATIONS + 1);
                        (void)fprintf(out, "  - ConfigurationSetName: \"%s\"\n    EventDestinations:\n", sets[i].name);
                        for (uint32_t k = 0; k < sets[i].count; k++)
                                naive_destination(&random, out, &sets[i], k);
                }
                (void)fclose(out);
                struct rules_report report;
                struct rules_plan *plan;
                cr_assert_eq(parse_sets(yaml.ptr, yaml.len, &plan, &report), ERR_OK, "%s",
                             report.first == NULL ? "" : report.first->text);
                cr_assert_eq(rules_plan_sets_count(plan), sets_count);
                for (uint32_t i = 0; i < sets_count; i++) {
                        char other[80];
                        naive_check(plan, sets, sets_count, i, sets[i].name);
                        (void)snprintf(other, sizeof(other), "%s-", sets[i].name);
                        naive_check(plan, sets, sets_count, UINT32_MAX, other);
                        other[strlen(sets[i].name) - 1] ^= 1;
                        naive_check(plan, sets, sets_count, UINT32_MAX, other);
                }
                for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++)
                        for (uint32_t k = 0; k < i; k++)
                                cr_assert_not(
                                        slice_equal(rules_plan_target(plan, i)->key, rules_plan_target(plan, k)->key));
                rules_plan_free(plan);
                rules_report_release(&report);
                free(yaml.ptr);
        }
}
