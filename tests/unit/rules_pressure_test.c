/* journal.full and journal.priority of sendring.yaml. */
#include "base/limits.h"
#include "codecs/codec.h"
#include "rules/rules.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static enum err_code parse(const char *yaml, struct rules_settings *ret_settings, struct rules_report *report)
{
        rules_report_init(report);
        return rules_settings_parse("sendring.yaml", slice_of_text(yaml), ret_settings, report);
}

static struct rules_pressure accepted(const char *yaml)
{
        struct rules_settings settings;
        struct rules_report report;
        cr_assert_eq(parse(yaml, &settings, &report), ERR_OK, "%s: %s", yaml,
                     report.first != NULL ? report.first->text : "");
        struct rules_pressure pressure = settings.journal.pressure;
        rules_settings_release(&settings);
        rules_report_release(&report);
        return pressure;
}

static void refused(const char *yaml, const char *with)
{
        struct rules_settings settings;
        struct rules_report report;
        cr_assert_eq(parse(yaml, &settings, &report), ERR_CONFIG, "%s", yaml);
        cr_assert_not_null(strstr(report.first->text, with), "%s: '%s' does not say '%s'", yaml, report.first->text,
                           with);
        rules_report_release(&report);
}

Test(rules_pressure, everything_blocks_unless_told_otherwise, .timeout = 10)
{
        struct rules_pressure pressure = accepted("region: eu-west-1\n");
        cr_assert_eq(pressure.shed_count, 0);
        for (unsigned type = 1; type < RULES_EVENT_TYPES_END; type++)
                cr_assert_not(pressure.shed[type]);
        cr_assert_eq(pressure.rank[SENDRING_COMPLAINT], pressure.rank[SENDRING_BOUNCE]);
        cr_assert_lt(pressure.rank[SENDRING_BOUNCE], pressure.rank[SENDRING_REJECT]);
        cr_assert_eq(pressure.rank[SENDRING_REJECT], pressure.rank[SENDRING_RENDERING_FAILURE]);
        cr_assert_eq(pressure.rank[SENDRING_REJECT], pressure.rank[SENDRING_SUBSCRIPTION]);
        cr_assert_lt(pressure.rank[SENDRING_SUBSCRIPTION], pressure.rank[SENDRING_DELIVERY_DELAY]);
        cr_assert_lt(pressure.rank[SENDRING_DELIVERY_DELAY], pressure.rank[SENDRING_DELIVERY]);
        cr_assert_eq(pressure.rank[SENDRING_DELIVERY], pressure.rank[SENDRING_SEND]);
        cr_assert_lt(pressure.rank[SENDRING_SEND], pressure.rank[SENDRING_CLICK]);
        cr_assert_lt(pressure.rank[SENDRING_CLICK], pressure.rank[SENDRING_OPEN]);
}

Test(rules_pressure, policies_and_order_reach_their_types, .timeout = 10)
{
        struct rules_pressure pressure = accepted("journal: {full: {Open: shed, CLICK: shed, Bounce: block}}\n");
        cr_assert_eq(pressure.shed_count, 2);
        cr_assert(pressure.shed[SENDRING_OPEN] && pressure.shed[SENDRING_CLICK]);
        cr_assert_not(pressure.shed[SENDRING_SEND]);
        /* One of two of the same rank. */
        pressure = accepted("journal: {full: {Open: shed, Click: shed, Send: shed}}\n");
        cr_assert(pressure.shed[SENDRING_SEND] && !pressure.shed[SENDRING_DELIVERY]);
        pressure = accepted("journal:\n"
                            "  priority: [Open, [Click, Send], Delivery, DeliveryDelay, [Rendering Failure, Reject], "
                            "Subscription, [Bounce, Complaint]]\n"
                            "  full: {Complaint: shed}\n");
        cr_assert_eq(pressure.rank[SENDRING_OPEN], 0);
        cr_assert_eq(pressure.rank[SENDRING_CLICK], 1);
        cr_assert_eq(pressure.rank[SENDRING_SEND], 1);
        cr_assert_eq(pressure.rank[SENDRING_RENDERING_FAILURE], 4);
        cr_assert_eq(pressure.rank[SENDRING_COMPLAINT], 6);
        cr_assert(pressure.shed[SENDRING_COMPLAINT]);
        /* All of them. */
        pressure =
                accepted("journal: {full: {Open: shed, Click: shed, Send: shed, Delivery: shed, DeliveryDelay: shed, "
                         "Reject: shed, RenderingFailure: shed, Subscription: shed, Bounce: shed, Complaint: shed}}");
        cr_assert_eq(pressure.shed_count, 10);
}

Test(rules_pressure, mistakes_are_named, .timeout = 10)
{
        refused("journal: {full: {Opens: shed}}\n", "did you mean 'Open'?");
        refused("journal: {full: {Zebra: shed}}\n", "it should be Send, RenderingFailure, ");
        refused("journal: {full: {Open: drop}}\n", "journal.full.Open must be block or shed");
        refused("journal: {full: shed}\n", "must be a map like {Open: shed, Click: shed}");
        refused("journal: {full: {Open: shed, OPEN: block}}\n", "Open is there already, in another spelling");
        /* A shed class above a blocked one. */
        refused("journal: {full: {Click: shed}}\n", "Click would be shed to make room for Open");
        refused("journal: {full: {Bounce: shed, Open: shed}}\n", "Bounce would be shed to make room for Click");
        refused("journal: {priority: [Open, Click]}\n",
                "Send, RenderingFailure, Reject, Delivery, Bounce, Complaint, DeliveryDelay or Subscription missing");
        refused("journal: {priority: Open}\n", "journal.priority");
        refused("journal: {priority: [Open, [Click, Open]]}\n", "Open is there already");
        refused("journal: {priority: [a, b, c, d, e, f, g, h, i, j, k]}\n", "11 ranks");
        /* Each log needs room of its own. */
        refused("journal: {full: {Open: shed}, segment_bytes: 1MiB, size_bytes_max: 5MiB}\n",
                "and 2 more for each event type that is shed: 6MiB");
        (void)accepted("journal: {full: {Open: shed}, segment_bytes: 1MiB, size_bytes_max: 6MiB}\n");
        refused("router: {shards_count: 16}\njournal: {full: {Open: shed, Click: shed, Send: shed, Delivery: shed}}\n",
                "the journal would have 80 logs; at most 64");
}
