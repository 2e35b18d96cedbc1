#include "base/arena.h"
#include "base/file.h"
#include "base/limits.h"
#include "codecs/codec.h"
#include "rules/rules.h"
#include "tests/support/rules_text.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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
        cr_assert_str_eq(refusal(yaml.ptr), "65:1: more than 64 members in one map; where more are meant "
                                            "(default_configuration_sets), give a list of such maps");
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
        rules_plan_free(plan);
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
