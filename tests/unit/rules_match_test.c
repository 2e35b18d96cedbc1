#include "rules/rules.h"
#include "tests/support/codec_events.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verdicts {
        enum rules_verdict verdicts[8];
        char members[8][64];
        uint32_t count;
};

static void verdicts_keep(void *context, const struct rules_explanation *explanation)
{
        struct verdicts *kept = context;
        cr_assert_lt(kept->count, 8);
        (void)snprintf(kept->members[kept->count], sizeof(kept->members[0]), "%.*s", SLICE_PRINTF(explanation->member));
        kept->verdicts[kept->count++] = explanation->verdict;
}

Test(rules, filters_decide_for_each_destination, .timeout = 10)
{
        static const char yaml[] =
                "ConfigurationSets:\n"
                "- ConfigurationSetName: bulk-a\n"
                "  EventDestinations:\n"
                "  - {Name: all, Enabled: true, MatchingEventTypes: [BOUNCE], Sendring: {FileDestination: {Path: "
                "/0}}}\n"
                "  - {Name: hard, Enabled: true, MatchingEventTypes: [BOUNCE, SEND], Sendring: {FileDestination: "
                "{Path: "
                "/1}, Filter: &hard {bounce: {bounceType: [Permanent]}}}}\n"
                "  - {Name: soft, Enabled: true, MatchingEventTypes: [BOUNCE], Sendring: {FileDestination: {Path: /2}, "
                "Filter: {mail: {tags: {campaign: [april]}}, bounce: {bounceType: [Transient]}}}}\n"
                "  - {Name: ours, Enabled: true, MatchingEventTypes: [BOUNCE], Sendring: {FileDestination: {Path: /3}, "
                "Filter: {mail: {sendingAccountId: ['999999999999']}}}}\n"
                "  - {Name: off, Enabled: false, MatchingEventTypes: [BOUNCE], Sendring: {FileDestination: {Path: /4}, "
                "Filter: *hard}}\n"
                "  - {Name: opens, Enabled: true, MatchingEventTypes: [OPEN], Sendring: {FileDestination: {Path: "
                "/5}}}\n"
                "- ConfigurationSetName: bulk-b\n"
                "  EventDestinations:\n"
                "  - {Name: hard, Enabled: true, MatchingEventTypes: [BOUNCE], Sendring: {FileDestination: {Path: /1}, "
                "Filter: *hard}}\n";
        static uint8_t encoded[4096];
        const struct codec_json_options options = {.account_id = SLICE("999999999999")};
        struct sendring_event event;
        struct codec_view view;
        struct rules_report report;
        struct rules_plan *plan;
        struct rules_match found;
        size_t bytes;
        rules_report_init(&report);
        codec_events_fill(&event, SENDRING_BOUNCE);
        event.mail.sending_account_id = (struct sendring_str){NULL, 0};
        cr_assert_eq(codec_event_encode(&event, encoded, sizeof(encoded), &bytes, NULL), ERR_OK);
        cr_assert_eq(codec_view_decode(slice_of(encoded, bytes), &view, NULL), ERR_OK);
        cr_assert_eq(rules_plan_parse("s", slice_of(yaml, sizeof(yaml) - 1), NULL, &plan, &report), ERR_OK, "%s",
                     report.first == NULL ? "" : report.first->text);
        cr_assert_eq(rules_plan_match(plan, &view, &options, &found), 3);
        cr_assert(found.targets[0] == 0 && found.targets[1] == 1 && found.targets[2] == 3);
        cr_assert(found.set_known && !found.filter_exhausted);
        cr_assert_eq(rules_plan_match(plan, &view, NULL, &found), 2, "without an account nothing is derived from it");
        struct verdicts kept = {.count = 0};
        cr_assert(rules_plan_explain(plan, &view, &options, verdicts_keep, &kept));
        cr_assert_eq(kept.count, 6);
        static const enum rules_verdict wanted[] = {RULES_VERDICT_MATCH,    RULES_VERDICT_MATCH,
                                                    RULES_VERDICT_FILTER,   RULES_VERDICT_MATCH,
                                                    RULES_VERDICT_DISABLED, RULES_VERDICT_EVENT_TYPE};
        for (uint32_t i = 0; i < kept.count; i++)
                cr_expect_eq(kept.verdicts[i], wanted[i], "destination %u", i);
        cr_expect_str_eq(kept.members[2], "bounce.bounceType");
        view.configuration_set = SLICE("bulk-b");
        cr_assert_eq(rules_plan_match(plan, &view, NULL, &found), 1);
        view.configuration_set = SLICE("bulk-c");
        cr_assert_eq(rules_plan_match(plan, &view, NULL, &found), 0);
        cr_assert_not(found.set_known);
        cr_assert_not(rules_plan_explain(plan, &view, NULL, verdicts_keep, &kept));
        rules_plan_free(plan);
        rules_report_release(&report);
}

/* Longer names than a set's own line holds, and names that begin alike. */
Test(rules, sets_with_long_names_are_told_apart, .timeout = 10)
{
        char *yaml = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&yaml, &len);
        cr_assert_not_null(out);
        (void)fprintf(out, "ConfigurationSets:\n");
        for (int i = 0; i < 64; i++)
                (void)fprintf(out,
                              "- {ConfigurationSetName: %.*s, EventDestinations: [{Name: d, Enabled: true, "
                              "MatchingEventTypes: [SEND], Sendring: {FileDestination: {Path: /%d}}}]}\n",
                              i + 1, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", i);
        (void)fclose(out);
        struct rules_report report;
        struct rules_plan *plan;
        rules_report_init(&report);
        cr_assert_eq(rules_plan_parse("s", slice_of(yaml, len), NULL, &plan, &report), ERR_OK);
        for (uint32_t i = 0; i < 64; i++) {
                char name[65] = "";
                struct codec_view view = {.type = SENDRING_SEND, .configuration_set = slice_of(name, i + 1)};
                struct rules_match found;
                memset(name, 'a', i + 1);
                cr_assert_eq(rules_plan_match(plan, &view, NULL, &found), 1);
                cr_assert(found.targets[0] == i && found.set_known);
                name[i] = 'b';
                cr_assert_eq(rules_plan_match(plan, &view, NULL, &found), 0);
                cr_assert_not(found.set_known);
        }
        rules_plan_free(plan);
        rules_report_release(&report);
        free(yaml);
}

/* Sets 0 to count - 1, each with one destination whose filter asks for this campaign. */
static struct rules_plan *plan_of_campaigns(const char *const *campaigns, uint32_t count, struct rules_report *report)
{
        char *yaml = NULL;
        size_t len = 0;
        struct rules_plan *plan;
        FILE *out = open_memstream(&yaml, &len);
        cr_assert_not_null(out);
        (void)fprintf(out, "ConfigurationSets:\n");
        for (uint32_t i = 0; i < count; i++)
                (void)fprintf(out,
                              "- {ConfigurationSetName: '%u', EventDestinations: [{Name: d, Enabled: true, "
                              "MatchingEventTypes: [SEND], Sendring: {FileDestination: {Path: /f}, "
                              "Filter: {mail: {tags: {campaign: [%s]}}}}}]}\n",
                              i, campaigns[i]);
        (void)fclose(out);
        rules_report_init(report);
        cr_assert_eq(rules_plan_parse("s", slice_of(yaml, len), NULL, &plan, report), ERR_OK);
        free(yaml);
        return plan;
}

/* One in memory, and each with its own verdict where they only look alike. */
Test(rules, equal_filters_are_one_and_others_are_not, .timeout = 10)
{
        static const char *const lists[] = {"april", "'april'",       "may",           "june, may",
                                            "april", "{prefix: apr}", "{suffix: apr}", "{prefix: 'apr'}"};
        static const char wanted[] = "11001101";
        enum { MANY = 2000 };
        static const char *many[MANY];
        static uint8_t encoded[4096];
        struct rules_report report;
        struct sendring_event event;
        struct codec_view view;
        struct rules_match found;
        size_t bytes;
        struct rules_plan *plan = plan_of_campaigns(lists, 8, &report);
        codec_events_fill(&event, SENDRING_SEND);
        cr_assert_eq(codec_event_encode(&event, encoded, sizeof(encoded), &bytes, NULL), ERR_OK);
        cr_assert_eq(codec_view_decode(slice_of(encoded, bytes), &view, NULL), ERR_OK);
        for (uint32_t i = 0; i < 8; i++) {
                char name = (char)('0' + i);
                view.configuration_set = slice_of(&name, 1);
                cr_expect_eq(rules_plan_match(plan, &view, NULL, &found), (uint32_t)(wanted[i] - '0'), "[%s]",
                             lists[i]);
        }
        rules_plan_free(plan);
        rules_report_release(&report);

        for (uint32_t i = 0; i < MANY; i++)
                many[i] = i < MANY / 2 ? "april" : "july";
        plan = plan_of_campaigns(many, MANY, &report);
        size_t shared = rules_plan_bytes(plan);
        rules_plan_free(plan);
        rules_report_release(&report);
        static char own[MANY][16];
        for (uint32_t i = 0; i < MANY; i++) {
                (void)snprintf(own[i], sizeof(own[i]), "c%u", i);
                many[i] = own[i];
        }
        plan = plan_of_campaigns(many, MANY, &report);
        cr_expect_gt(rules_plan_bytes(plan), shared + MANY * 200, "%zu and %zu bytes", shared, rules_plan_bytes(plan));
        rules_plan_free(plan);
        rules_report_release(&report);
}

/* A number and a text are two filters, and a finding is told for each place where it is written. */
Test(rules, findings_of_equal_filters_are_told_for_each, .timeout = 10)
{
        static const char *const campaigns[] = {"1", "'1'", "1", "'1'"};
        struct rules_report report;
        struct rules_plan *plan = plan_of_campaigns(campaigns, 4, &report);
        cr_expect_eq(report.warnings, 2, "a tag is published as a text and never equals a number");
        rules_plan_free(plan);
        rules_report_release(&report);
}
