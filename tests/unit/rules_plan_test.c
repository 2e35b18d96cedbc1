/* Plans: what sets, default sets and policies become, and matching against a naive evaluation. */
#include "base/file.h"
#include "base/limits.h"
#include "base/random.h"
#include "codecs/codec.h"
#include "codecs/redact.h"
#include "rules/rules.h"
#include "tests/support/rules_text.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

Test(rules, compression_makes_another_target, .timeout = 10)
{
        struct rules_report report;
        struct rules_plan *plan;
        rules_report_init(&report);
        cr_assert_eq(rules_plan_load(TEST_DATA_DIRECTORY "/config/good/sets-compression.yaml", NULL, &plan, &report),
                     ERR_OK);
        static const struct {
                const char *key;
                bool packed, gzip;
                uint32_t events_max;
        } cases[] = {{"a packing=events compression=gzip", true, true, 16384},
                     {"b packing=events compression=gzip", true, true, 16384},
                     {"c packing=none", false, false, 1},
                     {"a packing=events compression=gzip event-id", true, true, 16384},
                     {"c packing=events", true, false, 500}};
        cr_assert_eq(rules_plan_targets_count(plan), sizeof(cases) / sizeof(cases[0]));
        for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                const struct rules_target *t = rules_plan_target(plan, i);
                cr_expect(slice_has_suffix(t->key, slice_of_text(cases[i].key)), "%.*s", SLICE_PRINTF(t->key));
                cr_expect(t->packed == cases[i].packed && t->gzip == cases[i].gzip, "%u", i);
                cr_expect_eq(t->packed_events_max, cases[i].events_max, "%u", i);
        }
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
        for (int bytes = 256; bytes <= 257; bytes++) {
                enum err_code wanted = bytes == 256 ? ERR_OK : ERR_CONFIG;
                (void)snprintf(text, sizeof(text), "{Drop: [mail.tags.%0*d]}", bytes, 0);
                cr_expect_eq(parse_redaction(text, &plan, &report), wanted, "%d", bytes);
                rules_plan_free(plan);
                rules_report_release(&report);
                (void)snprintf(text, sizeof(text), "{Headers: ['%0*d']}", bytes, 0);
                cr_expect_eq(parse_redaction(text, &plan, &report), wanted, "%d", bytes);
                rules_plan_free(plan);
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
        /* Nobody writes into it, and nobody is waited for; the sets themselves may lie in one, too. */
        cr_assert_eq(mkfifo(path, 0600), 0);
        cr_expect_eq(parse_redaction(text, &plan, &report), ERR_CONFIG);
        cr_expect_not_null(strstr(report.last->text, "it is no regular file"), "%s", report.last->text);
        rules_report_release(&report);
        rules_report_init(&report);
        cr_expect_eq(rules_plan_load(path, NULL, &plan, &report), ERR_CONFIG);
        cr_expect_not_null(strstr(report.last->text, "is no regular file"), "%s", report.last->text);
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
