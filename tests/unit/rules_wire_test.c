/* Rate and Endpoint of destinations: read, taken from the settings, shared by the destinations of a target. */
#include "egress/http.h"
#include "rules/rules.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct rules_settings settings;

static void settings_read(const char *text)
{
        struct rules_report report;
        rules_report_init(&report);
        enum err_code code = rules_settings_parse("sendring.yaml", slice_of_text(text), &settings, &report);
        rules_report_print(&report, stderr);
        cr_assert_eq(code, ERR_OK);
        rules_report_release(&report);
}

/* A set with two destinations of one stream, and what `Sendring` says for each. */
static struct rules_plan *plan_of(const char *first, const char *second)
{
        char text[1024];
        static const char stream[] = "MatchingEventTypes: [SEND], KinesisFirehoseDestination: {DeliveryStreamArn: "
                                     "\"arn:aws:firehose:us-east-1:123456789012:deliverystream/x\"}";
        (void)snprintf(text, sizeof(text),
                       "ConfigurationSets: [{ConfigurationSetName: s, EventDestinations: [{Name: a, Enabled: true, %s, "
                       "Sendring: {%s}}, {Name: b, Enabled: true, %s, Sendring: {%s}}]}]",
                       stream, first, stream, second);
        struct rules_report report;
        struct rules_plan *plan = NULL;
        rules_report_init(&report);
        enum err_code code = rules_plan_parse("sets.yaml", slice_of_text(text), &settings, &plan, &report);
        rules_report_print(&report, stderr);
        cr_assert_eq(code, ERR_OK);
        cr_assert_eq(rules_plan_targets_count(plan), 1);
        rules_report_release(&report);
        return plan;
}

static void check_rates(const struct rules_plan *plan, uint64_t records, uint64_t bytes, uint64_t requests)
{
        const struct rules_target *target = rules_plan_target(plan, 0);
        cr_expect_eq(target->rates.records, records);
        cr_expect_eq(target->rates.bytes, bytes);
        cr_expect_eq(target->rates.requests, requests);
}

Test(rules_wire, without_a_word_there_is_no_limit, .timeout = 10)
{
        settings_read("region: us-east-1\n");
        struct rules_plan *plan = plan_of("", "");
        check_rates(plan, 0, 0, 0);
        cr_assert_eq(rules_plan_target(plan, 0)->endpoint.len, 0);
        rules_plan_free(plan);
        rules_settings_release(&settings);
}

Test(rules_wire, the_settings_are_the_default_of_each_member, .timeout = 10)
{
        settings_read("egress: {rates: {firehose: {records: 1000, bytes: 5MiB}, cloudwatch: {requests: 500}}}\n");
        cr_assert_eq(settings.egress.cloudwatch_rates.requests, 500);
        struct rules_plan *plan = plan_of("", "");
        check_rates(plan, 1000, 5 << 20, 0);
        rules_plan_free(plan);
        plan = plan_of("Rate: {Bytes: 0, Requests: 7}", "");
        check_rates(plan, 1000, 0, 7);
        rules_plan_free(plan);
        rules_settings_release(&settings);
}

Test(rules_wire, any_destination_of_a_target_may_say_it, .timeout = 10)
{
        settings_read("region: us-east-1\n");
        static const char rate[] = "Rate: {Bytes: 64KiB}", endpoint[] = "Endpoint: \"https://vpce-1.example:8443\"";
        char both[128];
        (void)snprintf(both, sizeof(both), "%s, %s", rate, endpoint);
        const char *const pairs[][2] = {{both, ""}, {"", both}, {both, both}, {rate, endpoint}, {endpoint, rate}};
        for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
                struct rules_plan *plan = plan_of(pairs[i][0], pairs[i][1]);
                check_rates(plan, 0, 65536, 0);
                cr_expect(slice_equal(rules_plan_target(plan, 0)->endpoint, SLICE("https://vpce-1.example:8443")),
                          "case %zu", i);
                rules_plan_free(plan);
        }
        rules_settings_release(&settings);
}

Test(rules_wire, the_key_of_a_target_does_not_depend_on_it, .timeout = 10)
{
        settings_read("region: us-east-1\n");
        struct rules_plan *plan = plan_of("", ""), *other = plan_of("Rate: {Records: 1}, Endpoint: \"https://a\"", "");
        cr_assert(slice_equal(rules_plan_target(plan, 0)->key, rules_plan_target(other, 0)->key));
        rules_plan_free(plan);
        rules_plan_free(other);
        rules_settings_release(&settings);
}

/* `sendring validate` asks the rules, `sendring run` the client. */
Test(rules_wire, an_endpoint_is_taken_when_the_client_takes_it, .timeout = 20)
{
#define LABEL_63 "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg"
        static const struct {
                const char *host;
                bool good;
        } hosts[] = {
                {"firehose.us-east-1.amazonaws.com", true},
                {"my_sink:4573", true},
                {"Example.COM:08443/", true},
                {"[::ffff:1.2.3.4]", true},
                {"10.0.0.1", true},
                {LABEL_63, true},
                {LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63, true}, /* 255 bytes */
                {LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63 ".a", false},
                {"x" LABEL_63, false},
                {"10.0.0.256", false},
                {"10.1", false},
                {"amazonaws.com.", false},
                {"a..b", false},
                {".", false},
                {"-", false},
                {"a-", false},
                {"[1.2.3.4]", false},
                {"[]", false},
                {"[", false},
                {":443", false},
                {"a:", false},
                {"a:0", false},
        };
        for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
                char text[512], url[400];
                struct rules_settings read;
                struct rules_report report;
                struct http_url parsed;
                (void)snprintf(url, sizeof(url), "https://%s", hosts[i].host);
                (void)snprintf(text, sizeof(text), "egress: {endpoints: {firehose: \"%s\"}}\n", url);
                rules_report_init(&report);
                enum err_code code = rules_settings_parse("sendring.yaml", slice_of_text(text), &read, &report);
                cr_expect_eq(code == ERR_OK, hosts[i].good, "%s", url);
                cr_expect_eq(http_url_parse(slice_of_text(url), &parsed, NULL) == ERR_OK, hosts[i].good, "%s", url);
                if (code == ERR_OK)
                        rules_settings_release(&read);
                rules_report_release(&report);
        }
}
