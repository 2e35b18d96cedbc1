/* CloudWatch destinations as targets: what is shared, what the keys hold. */
#include "base/limits.h"
#include "rules/rules.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(rules_cloudwatch, .timeout = 10);

#define CLOUDWATCH_SETTINGS "region: eu-west-1\naccount_id: '123456789012'\n"

/* Sets with one destination each, of the given members. */
static enum err_code parse_cloudwatch(const char *settings_yaml, const char *const *destinations, size_t count,
                                      struct rules_plan **ret_plan, struct rules_report *report)
{
        struct rules_settings settings;
        char *yaml;
        size_t yaml_bytes;
        FILE *out = open_memstream(&yaml, &yaml_bytes);
        cr_assert_not_null(out);
        (void)fprintf(out, "ConfigurationSets:\n");
        for (size_t i = 0; i < count; i++)
                (void)fprintf(out,
                              "- {ConfigurationSetName: s%zu, EventDestinations: [{Name: d, MatchingEventTypes: "
                              "[SEND], %s}]}\n",
                              i, destinations[i]);
        (void)fclose(out);
        rules_report_init(report);
        cr_assert_eq(
                rules_settings_parse("/etc/sendring/sendring.yaml", slice_of_text(settings_yaml), &settings, report),
                ERR_OK);
        enum err_code code = rules_plan_parse("s", slice_of(yaml, yaml_bytes), &settings, ret_plan, report);
        rules_settings_release(&settings);
        free(yaml);
        return code;
}

#define TWO_DIMENSIONS                                                                                \
        "Enabled: true, CloudWatchDestination: {DimensionConfigurations: [{DimensionName: campaign, " \
        "DimensionValueSource: MESSAGE_TAG, DefaultDimensionValue: none}, {DimensionName: X-Team, "   \
        "DimensionValueSource: EMAIL_HEADER, DefaultDimensionValue: a@b.c}]}"

Test(rules_cloudwatch, cloudwatch_destinations_become_targets)
{
        static const char *const destinations[] = {
                TWO_DIMENSIONS,
                TWO_DIMENSIONS ", Sendring: {Namespace: My mail, RollUps: [[X-Team, campaign], [], [X-Team]], "
                               "SeriesMax: 7, OverflowValue: rest, Period: 10s, Protocol: json, Compression: none, "
                               "AmbiguousTimeout: skip}",
                TWO_DIMENSIONS ", Sendring: {Namespace: Sendring/SES, SeriesMax: 1000, OverflowValue: other, Period: "
                               "60s, Protocol: cbor, Compression: gzip, AmbiguousTimeout: resend}",
        };
        struct rules_report report;
        struct rules_plan *plan;
        cr_assert_eq(parse_cloudwatch(CLOUDWATCH_SETTINGS, destinations, 3, &plan, &report), ERR_OK);
        cr_assert_eq(report.warnings, 0);
        cr_assert_eq(rules_plan_targets_count(plan), 2); /* the third spells the defaults of the first out */
        const struct rules_target *t = rules_plan_target(plan, 0);
        cr_assert_eq(t->service, RULES_SERVICE_CLOUDWATCH);
        cr_assert_eq(t->destinations_count, 2);
        cr_assert(slice_equal(t->key, SLICE("cloudwatch eu-west-1 123456789012 dimensions=campaign/tag/none,X-Team/"
                                            "header/a@b.c roll-ups=01 series=1000 overflow=other period=60s cbor gzip "
                                            "resend namespace=Sendring/SES")),
                  "%.*s", SLICE_PRINTF(t->key));
        cr_assert(slice_equal(t->region, SLICE("eu-west-1")) && slice_equal(t->account_id, SLICE("123456789012")));
        cr_assert(slice_equal(t->partition, SLICE("aws")) && slice_equal(t->resource, SLICE("Sendring/SES")));
        const struct rules_cloudwatch *c = t->cloudwatch;
        cr_assert(c->dimensions_count == 2 && c->roll_ups_count == 1 && c->roll_ups[0] == 3);
        cr_assert(slice_equal(c->dimensions[1].name, SLICE("X-Team")) &&
                  c->dimensions[1].source == RULES_DIMENSION_EMAIL_HEADER &&
                  slice_equal(c->dimensions[1].default_value, SLICE("a@b.c")));
        cr_assert(c->series_max == 1000 && c->period_s == 60 && !c->json && c->gzip && c->resend_ambiguous);
        cr_assert(slice_equal(c->namespace, SLICE("Sendring/SES")) && slice_equal(c->overflow_value, SLICE("other")));
        t = rules_plan_target(plan, 1);
        cr_assert(slice_has_suffix(t->key, SLICE(" roll-ups=01,,1 series=7 overflow=rest period=10s json plain skip "
                                                 "namespace=My mail")),
                  "%.*s", SLICE_PRINTF(t->key));
        c = t->cloudwatch;
        cr_assert(c->roll_ups_count == 3 && c->roll_ups[0] == 3 && c->roll_ups[1] == 0 && c->roll_ups[2] == 2);
        cr_assert(c->series_max == 7 && c->period_s == 10 && c->json && !c->gzip && !c->resend_ambiguous);
        cr_assert(slice_equal(c->namespace, SLICE("My mail")) && slice_equal(c->overflow_value, SLICE("rest")));
        cr_assert(t->destinations_count == 1 && t->destinations_enabled_count == 1);
        rules_plan_free(plan);
        rules_report_release(&report);
}

/* Each differs from the first in one thing, and so must its key: in a short key and in a hashed one. */
Test(rules_cloudwatch, whatever_a_cloudwatch_destination_says_is_in_its_key)
{
        static const char *const extensions[] = {
                "",           "Namespace: n",   "RollUps: [[a]]",    "RollUps: [[a], []]",     "SeriesMax: 999",
                "Period: 1s", "Protocol: json", "Compression: none", "AmbiguousTimeout: skip", "OverflowValue: o",
        };
        enum { EXTENSIONS = sizeof(extensions) / sizeof(extensions[0]), LONG = 2 };
        static char texts[LONG * (EXTENSIONS + 2)][2048];
        const char *destinations[LONG * (EXTENSIONS + 2)];
        char name[256];
        memset(name, 'n', 255);
        name[255] = '\0';
        size_t count = 0;
        for (int is_long = 0; is_long < LONG; is_long++)
                for (size_t i = 0; i < EXTENSIONS + 2; i++) {
                        (void)snprintf(texts[count], sizeof(texts[0]),
                                       "Enabled: true, CloudWatchDestination: {DimensionConfigurations: "
                                       "[{DimensionName: a, DimensionValueSource: %s, DefaultDimensionValue: %s}, "
                                       "{DimensionName: %s, DimensionValueSource: LINK_TAG, DefaultDimensionValue: "
                                       "%s}]}, Sendring: {%s}",
                                       i == EXTENSIONS ? "LINK_TAG" : "MESSAGE_TAG", i == EXTENSIONS + 1 ? "y" : "x",
                                       is_long ? name : "b", is_long ? name : "b", i < EXTENSIONS ? extensions[i] : "");
                        destinations[count] = texts[count];
                        count++;
                }
        struct rules_report report;
        struct rules_plan *plan;
        cr_assert_eq(parse_cloudwatch(CLOUDWATCH_SETTINGS, destinations, count, &plan, &report), ERR_OK);
        cr_assert_eq(rules_plan_targets_count(plan), count);
        for (uint32_t i = 0; i < count; i++) {
                struct slice key = rules_plan_target(plan, i)->key;
                cr_assert_eq(slice_find(key, SLICE(" hash=")) < key.len, i >= count / 2);
                for (uint32_t k = 0; k < i; k++)
                        cr_assert_not(slice_equal(key, rules_plan_target(plan, k)->key));
        }
        rules_plan_free(plan);
        rules_report_release(&report);
}

Test(rules_cloudwatch, cloudwatch_needs_a_region)
{
        static const char *const enabled[] = {TWO_DIMENSIONS};
        static const char *const disabled[] = {
                "Enabled: false, CloudWatchDestination: {DimensionConfigurations: [{DimensionName: a, "
                "DimensionValueSource: LINK_TAG, DefaultDimensionValue: x}]}"};
        struct rules_report report;
        struct rules_plan *plan;
        cr_assert_eq(parse_cloudwatch("account_id: '123456789012'\n", enabled, 1, &plan, &report), ERR_CONFIG);
        cr_assert_not_null(strstr(report.first->text, "`region`"));
        rules_report_release(&report);
        cr_assert_eq(parse_cloudwatch("account_id: '123456789012'\n", disabled, 1, &plan, &report), ERR_OK);
        cr_assert_eq(rules_plan_targets_count(plan), 0);
        rules_plan_free(plan);
        rules_report_release(&report);
        cr_assert_eq(parse_cloudwatch("region: us-east-1\n", enabled, 1, &plan, &report), ERR_OK);
        cr_assert(slice_has_prefix(rules_plan_target(plan, 0)->key, SLICE("cloudwatch us-east-1 - dimensions=")));
        rules_plan_free(plan);
        rules_report_release(&report);
}

Test(rules_cloudwatch, what_series_cost)
{
        struct rules_cloudwatch config = {.series_max = 1000, .roll_ups = {3, 1, 0}, .roll_ups_count = 3};
        cr_assert_eq(rules_cloudwatch_series(&config, 0), 0);
        cr_assert_eq(rules_cloudwatch_series(&config, 2), 1006);
        config.roll_ups[0] = 0;
        config.roll_ups_count = 1;
        cr_assert_eq(rules_cloudwatch_series(&config, 10), 10); /* without dimensions there is nothing to bound */
        static const struct {
                uint64_t series;
                double usd;
        } cases[] = {{0, 0},          {1, 0.30},          {10000, 3000},    {10001, 3000.10},
                     {250000, 27000}, {250001, 27000.05}, {1000000, 64500}, {1000001, 64500.02}};
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                cr_assert_float_eq(rules_cloudwatch_monthly_usd(cases[i].series), cases[i].usd, 1e-6);
}
