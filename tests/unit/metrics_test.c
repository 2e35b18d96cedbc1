/* Counting for CloudWatch: where a dimension's value comes from, what makes a series, what the budget does. */
#include "base/random.h"
#include "egress/metrics.h"
#include "tests/support/codec_events.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

TestSuite(metrics, .timeout = 30);

#define HOUR_MS   INT64_C(3600000)
#define MINUTE_MS INT64_C(60000)
#define NOON_MS   (INT64_C(490900) * HOUR_MS) /* a full hour */

static uint8_t event_bytes[SENDRING_EVENT_BYTES_MAX];

static struct codec_view view_of(const struct sendring_event *event)
{
        struct codec_view view;
        struct err err = {.text = ""};
        size_t bytes = 0;
        cr_assert_eq(codec_event_encode(event, event_bytes, sizeof(event_bytes), &bytes, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(codec_view_decode(slice_of(event_bytes, bytes), &view, &err), ERR_OK, "%s", err.text);
        return view;
}

static struct rules_cloudwatch config_of(uint32_t series_max)
{
        struct rules_cloudwatch config = {
                .namespace = SLICE("Sendring/SES"),
                .series_max = series_max,
                .overflow_value = SLICE("other"),
                .period_s = 60,
        };
        return config;
}

static void add_dimension(struct rules_cloudwatch *config, enum rules_dimension_source source, const char *name)
{
        config->dimensions[config->dimensions_count++] =
                (struct rules_dimension){.name = slice_of_text(name), .default_value = SLICE("none"), .source = source};
        config->roll_ups[0] = (uint16_t)((1u << config->dimensions_count) - 1);
        config->roll_ups_count = 1;
}

static struct metrics_table *create(const struct rules_cloudwatch *config)
{
        struct metrics_table *table;
        struct err err = {.text = ""};
        cr_assert_eq(metrics_table_create(config, &table, &err), ERR_OK, "%s", err.text);
        return table;
}

/* "Send minute=0 a=1 b=2 n=3\n" for each series, minutes counted from noon, in the table's sorted order. */
static const char *shown(struct metrics_table *table)
{
        static char text[4096];
        size_t used = 0;
        text[0] = '\0';
        metrics_table_sort(table);
        for (uint32_t i = 0; i < metrics_table_series(table); i++) {
                struct metrics_datum datum;
                metrics_table_get(table, i, &datum);
                used += (size_t)snprintf(text + used, sizeof(text) - used, "%.*s minute=%d", SLICE_PRINTF(datum.metric),
                                         (int)((datum.time_s - NOON_MS / 1000) / 60));
                for (uint32_t k = 0; k < datum.dimensions_count; k++)
                        used += (size_t)snprintf(text + used, sizeof(text) - used, " %.*s=%.*s",
                                                 SLICE_PRINTF(datum.dimensions[k].name),
                                                 SLICE_PRINTF(datum.dimensions[k].value));
                used += (size_t)snprintf(text + used, sizeof(text) - used, " n=%u\n", (unsigned)datum.count);
                cr_assert_lt(used, sizeof(text));
        }
        return text;
}

/* A Send with one tag, "t". */
static enum err_code count_tag(struct metrics_table *table, const char *value, int64_t at_ms)
{
        struct sendring_pair tag = {SENDRING_STR("t"), {value, strlen(value)}};
        struct sendring_event event;
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.tags = (struct sendring_pairs){&tag, 1};
        struct codec_view view = view_of(&event);
        return metrics_table_count(table, &view, NULL, at_ms, 1);
}

static struct metrics_stats stats_of(const struct metrics_table *table)
{
        struct metrics_stats stats;
        metrics_table_get_stats(table, &stats);
        return stats;
}

/* ---------------------------------------------------------------------------------------------- values */

Test(metrics, every_source_gives_its_value_and_else_the_default)
{
        static const struct {
                enum rules_dimension_source source;
                const char *name;
                enum sendring_event_type type;
                const char *expected;
        } cases[] = {
                {RULES_DIMENSION_MESSAGE_TAG, "campaign", SENDRING_SEND, "Send minute=0 campaign=april n=1\n"},
                {RULES_DIMENSION_MESSAGE_TAG, "Campaign", SENDRING_SEND, "Send minute=0 Campaign=none n=1\n"},
                {RULES_DIMENSION_MESSAGE_TAG, "ses:operation", SENDRING_BOUNCE,
                 "Bounce minute=0 ses:operation=SendRawEmail n=1\n"},
                {RULES_DIMENSION_MESSAGE_TAG, "ses:from-domain", SENDRING_OPEN,
                 "Open minute=0 ses:from-domain=mail.example.com n=1\n"},
                {RULES_DIMENSION_MESSAGE_TAG, "ses:configuration-set", SENDRING_DELIVERY_DELAY,
                 "DeliveryDelay minute=0 ses:configuration-set=bulk-a n=1\n"},
                {RULES_DIMENSION_MESSAGE_TAG, "ses:outgoing-ip", SENDRING_DELIVERY,
                 "Delivery minute=0 ses:outgoing-ip=198.51.100.7 n=1\n"},
                {RULES_DIMENSION_MESSAGE_TAG, "ses:outgoing-ip", SENDRING_SEND,
                 "Send minute=0 ses:outgoing-ip=none n=1\n"},
                /* Published without message tags, and so counted. */
                {RULES_DIMENSION_MESSAGE_TAG, "campaign", SENDRING_RENDERING_FAILURE,
                 "RenderingFailure minute=0 campaign=none n=1\n"},
                {RULES_DIMENSION_EMAIL_HEADER, "mime-VERSION", SENDRING_COMPLAINT,
                 "Complaint minute=0 mime-VERSION=1.0 n=1\n"},
                {RULES_DIMENSION_EMAIL_HEADER, "X-None", SENDRING_REJECT, "Reject minute=0 X-None=none n=1\n"},
                {RULES_DIMENSION_EMAIL_HEADER, "MIME-Version", SENDRING_DELIVERY_DELAY,
                 "DeliveryDelay minute=0 MIME-Version=none n=1\n"},
                {RULES_DIMENSION_LINK_TAG, "product", SENDRING_CLICK, "Click minute=0 product=book n=1\n"},
                {RULES_DIMENSION_LINK_TAG, "product", SENDRING_SUBSCRIPTION,
                 "Subscription minute=0 product=none n=1\n"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct rules_cloudwatch config = config_of(10);
                struct sendring_event event;
                add_dimension(&config, cases[i].source, cases[i].name);
                struct metrics_table *table = create(&config);
                codec_events_fill(&event, cases[i].type);
                struct codec_view view = view_of(&event);
                cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS, 1), ERR_OK);
                cr_assert_str_eq(shown(table), cases[i].expected);
                metrics_table_free(table);
        }
}

Test(metrics, the_default_set_is_a_tag_like_any_other)
{
        static const struct codec_json_options options = {.configuration_set = {(const uint8_t *)"fallback", 8}};
        struct rules_cloudwatch config = config_of(10);
        struct sendring_event event;
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "ses:configuration-set");
        struct metrics_table *table = create(&config);
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.configuration_set = (struct sendring_str){NULL, 0};
        struct codec_view view = view_of(&event);
        cr_assert_eq(metrics_table_count(table, &view, &options, NOON_MS, 1), ERR_OK);
        cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS, 1), ERR_OK);
        cr_assert_str_eq(shown(table), "Send minute=0 ses:configuration-set=none n=1\n"
                                       "Send minute=0 ses:configuration-set=fallback n=1\n");
        metrics_table_free(table);
}

/* Counts a Send with this header, and with this caller identity, in tables that have it as their only dimension. */
static void expect_value(const char *value, size_t len, enum err_code header_code, enum err_code tag_code)
{
        struct rules_cloudwatch by_header = config_of(10), by_tag = config_of(10);
        struct sendring_event event;
        struct sendring_pair header = {SENDRING_STR("X-Team"), {value, len}};
        add_dimension(&by_header, RULES_DIMENSION_EMAIL_HEADER, "x-team");
        add_dimension(&by_tag, RULES_DIMENSION_MESSAGE_TAG, "ses:caller-identity");
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.headers = (struct sendring_pairs){&header, 1};
        event.mail.caller_identity = (struct sendring_str){value, len};
        struct codec_view view = view_of(&event);
        for (int is_tag = 0; is_tag < 2; is_tag++) {
                struct metrics_table *table = create(is_tag ? &by_tag : &by_header);
                enum err_code code = metrics_table_count(table, &view, NULL, NOON_MS, 2);
                cr_assert_eq(code, is_tag ? tag_code : header_code, "%.*s as a %s: %s", (int)len, value,
                             is_tag ? "tag" : "header", err_name(code));
                struct metrics_stats stats = stats_of(table);
                cr_assert_eq(stats.events, code == ERR_OK ? 2 : 0);
                cr_assert_eq(stats.values_refused, code == ERR_OK ? 0 : 2);
                cr_assert_eq(stats.refused_mask, code == ERR_OK ? 0 : 1);
                cr_assert_eq(metrics_table_series(table), code == ERR_OK ? 1 : 0);
                if (code == ERR_OK) {
                        struct metrics_datum datum;
                        metrics_table_get(table, 0, &datum);
                        cr_assert(
                                slice_equal(datum.dimensions[0].value, len > 0 ? slice_of(value, len) : SLICE("none")));
                }
                metrics_table_free(table);
        }
}

Test(metrics, values_that_may_not_be_one_leave_the_event_out)
{
        static char longest[LIMIT_CLOUDWATCH_VALUE_BYTES_MAX + 1];
        memset(longest, 'v', sizeof(longest));
        expect_value("A-z_0@9.", 8, ERR_OK, ERR_OK);
        expect_value("", 0, ERR_OK, ERR_OK);
        expect_value(longest, 255, ERR_OK, ERR_OK);
        expect_value(longest, 256, ERR_OK, ERR_OK); /* more than a length of 8 bits has */
        expect_value(longest, 257, ERR_OK, ERR_OK);
        expect_value(longest, 1024, ERR_OK, ERR_OK);
        expect_value(longest, 1025, ERR_NAME, ERR_NAME);
        expect_value("two words", 9, ERR_NAME, ERR_OK); /* CloudWatch takes it, SES does not from a header */
        expect_value("a:b", 3, ERR_NAME, ERR_OK);
        expect_value("  ", 2, ERR_NAME, ERR_NAME);
        expect_value("caf\xc3\xa9", 5, ERR_NAME, ERR_NAME);
        expect_value("tab\t", 4, ERR_NAME, ERR_NAME);
        expect_value("del\x7f", 4, ERR_NAME, ERR_NAME);
        for (int byte = 1; byte < 256; byte++) {
                char value[2] = {'x', (char)byte};
                bool in_header = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                                 (byte >= 'a' && byte <= 'z') || strchr("_-@.", byte) != NULL;
                expect_value(value, 2, in_header ? ERR_OK : ERR_NAME, byte >= ' ' && byte < 127 ? ERR_OK : ERR_NAME);
        }
}

Test(metrics, the_reason_of_a_refusal_is_known_for_each_dimension)
{
        static char longest[LIMIT_CLOUDWATCH_VALUE_BYTES_MAX + 1];
        memset(longest, 'v', sizeof(longest));
        const struct {
                struct sendring_str header, caller;
                uint32_t why[METRICS_REFUSALS_COUNT]; /* bit 0: the header, bit 1: the tag */
        } cases[] = {
                {SENDRING_STR("good"), SENDRING_STR("good"), {0, 0, 0}},
                {{longest, sizeof(longest)}, SENDRING_STR("good"), {1, 0, 0}},
                {SENDRING_STR("good"), {longest, sizeof(longest)}, {2, 0, 0}},
                {SENDRING_STR("a b"), SENDRING_STR("a b"), {0, 1, 0}},
                {SENDRING_STR("good"), SENDRING_STR("\xc3\xa9"), {0, 2, 0}},
                {SENDRING_STR("good"), SENDRING_STR("tab\t"), {0, 2, 0}},
                {SENDRING_STR(" "), SENDRING_STR("good"), {0, 0, 1}},
                {SENDRING_STR("good"), SENDRING_STR("   "), {0, 0, 2}},
                {{longest, sizeof(longest)}, SENDRING_STR(" "), {1, 0, 2}},
        };
        struct rules_cloudwatch config = config_of(10);
        add_dimension(&config, RULES_DIMENSION_EMAIL_HEADER, "x-team");
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "ses:caller-identity");
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct metrics_table *table = create(&config);
                struct sendring_pair header = {SENDRING_STR("X-Team"), cases[i].header};
                struct sendring_event event;
                codec_events_fill(&event, SENDRING_SEND);
                event.mail.headers = (struct sendring_pairs){&header, 1};
                event.mail.caller_identity = cases[i].caller;
                struct codec_view view = view_of(&event);
                uint32_t all = cases[i].why[0] | cases[i].why[1] | cases[i].why[2];
                cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS, 1), all == 0 ? ERR_OK : ERR_NAME);
                struct metrics_stats stats = stats_of(table);
                cr_assert_eq(stats.refused_mask, all, "%zu", i);
                for (size_t k = 0; k < METRICS_REFUSALS_COUNT; k++)
                        cr_assert_eq(stats.refused_why[k], cases[i].why[k], "%zu: %zu", i, k);
                metrics_table_free(table);
        }
}

/* A series that is there needs no judging, of an event that another roll-up refuses neither. */
Test(metrics, a_refused_value_spoils_its_own_roll_ups_only_whatever_is_there)
{
        static char longest[LIMIT_CLOUDWATCH_VALUE_BYTES_MAX + 1];
        memset(longest, 'v', sizeof(longest));
        const struct sendring_str headers[] = {
                SENDRING_STR("good"), SENDRING_STR("a b"), {longest, sizeof(longest)}, SENDRING_STR("good")};
        struct rules_cloudwatch config = config_of(10);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "t");
        add_dimension(&config, RULES_DIMENSION_EMAIL_HEADER, "x-team");
        config.roll_ups[0] = 1;
        config.roll_ups[1] = 3;
        config.roll_ups[2] = 0;
        config.roll_ups_count = 3;
        struct metrics_table *table = create(&config);
        const struct sendring_pair tag = {SENDRING_STR("t"), SENDRING_STR("april")};
        for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
                const struct sendring_pair header = {SENDRING_STR("X-Team"), headers[i]};
                struct sendring_event event;
                codec_events_fill(&event, SENDRING_SEND);
                event.mail.tags = (struct sendring_pairs){&tag, 1};
                event.mail.headers = (struct sendring_pairs){&header, 1};
                struct codec_view view = view_of(&event);
                cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS, 1), ERR_OK);
        }
        cr_assert_str_eq(shown(table), "Send minute=0 t=april n=4\n"
                                       "Send minute=0 t=april x-team=good n=2\n"
                                       "Send minute=0 n=4\n");
        struct metrics_stats stats = stats_of(table);
        cr_assert(stats.events == 4 && stats.values_refused == 2 && stats.refused_mask == 2);
        cr_assert(stats.refused_why[METRICS_REFUSED_CHARACTERS] == 2 && stats.refused_why[METRICS_REFUSED_LENGTH] == 2);
        metrics_table_free(table);
}

Test(metrics, the_first_of_several_values_is_taken_and_counted)
{
        static const struct sendring_pair tags[] = {
                {CODEC_EVENTS_TEXT("t"), CODEC_EVENTS_TEXT("first")},
                {CODEC_EVENTS_TEXT("t"), CODEC_EVENTS_TEXT("second")},
        };
        struct rules_cloudwatch config = config_of(10);
        struct sendring_event event;
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "u");
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "t");
        struct metrics_table *table = create(&config);
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.tags = (struct sendring_pairs)CODEC_EVENTS_LIST(tags);
        struct codec_view view = view_of(&event);
        cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS, 3), ERR_OK);
        cr_assert_str_eq(shown(table), "Send minute=0 u=none t=first n=3\n");
        cr_assert(stats_of(table).several_values == 3 && stats_of(table).several_mask == 2);
        metrics_table_free(table);
}

/* ---------------------------------------------------------------------------------------------- series */

Test(metrics, one_event_counts_once_in_each_roll_up)
{
        struct rules_cloudwatch config = config_of(10);
        struct sendring_event event;
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "campaign");
        add_dimension(&config, RULES_DIMENSION_EMAIL_HEADER, "X-Team");
        config.roll_ups[1] = 0;
        config.roll_ups[2] = 2;
        config.roll_ups_count = 3;
        struct metrics_table *table = create(&config);
        codec_events_fill(&event, SENDRING_SEND);
        struct codec_view view = view_of(&event);
        cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS, 1), ERR_OK);
        cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS + MINUTE_MS - 1, 4), ERR_OK);
        const struct sendring_pair headers[] = {{SENDRING_STR("X-Team"), SENDRING_STR("not allowed")}};
        event.mail.headers = (struct sendring_pairs)CODEC_EVENTS_LIST(headers);
        view = view_of(&event); /* left out where the header is a dimension */
        cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS, 1), ERR_OK);
        cr_assert_str_eq(shown(table), "Send minute=0 campaign=april X-Team=none n=5\n"
                                       "Send minute=0 n=6\n"
                                       "Send minute=0 X-Team=none n=5\n");
        cr_assert_eq(stats_of(table).hour_series, 3); /* the one without dimensions is billed too */
        cr_assert(stats_of(table).events == 6 && stats_of(table).values_refused == 1);
        cr_assert_eq(stats_of(table).refused_mask, 2);
        metrics_table_free(table);
}

Test(metrics, values_do_not_run_into_each_other)
{
        static const char *const pairs[][2] = {{"ab", "c"}, {"a", "bc"}, {"abc", "none"}, {"none", "abc"}};
        struct rules_cloudwatch config = config_of(10);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "x");
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "y");
        struct metrics_table *table = create(&config);
        for (size_t i = 0; i < 4; i++) {
                const struct sendring_pair tags[] = {{SENDRING_STR("x"), {pairs[i][0], strlen(pairs[i][0])}},
                                                     {SENDRING_STR("y"), {pairs[i][1], strlen(pairs[i][1])}}};
                struct sendring_event event;
                codec_events_fill(&event, SENDRING_SEND);
                event.mail.tags = (struct sendring_pairs)CODEC_EVENTS_LIST(tags);
                struct codec_view view = view_of(&event);
                cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS, 1), ERR_OK);
        }
        cr_assert_eq(metrics_table_series(table), 4);
        metrics_table_free(table);
}

Test(metrics, periods_are_series_of_their_own_in_order)
{
        struct rules_cloudwatch config = config_of(10);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "t");
        struct metrics_table *table = create(&config);
        const int64_t minutes[] = {2, 0, 1, 2, 0, 2};
        for (size_t i = 0; i < 6; i++)
                cr_assert_eq(count_tag(table, i == 3 ? "b" : "a", NOON_MS + minutes[i] * MINUTE_MS + (int64_t)i * 1000),
                             ERR_OK);
        cr_assert_str_eq(shown(table), "Send minute=0 t=a n=2\nSend minute=1 t=a n=1\nSend minute=2 t=a n=2\n"
                                       "Send minute=2 t=b n=1\n");
        cr_assert_eq(stats_of(table).hour_series, 2);
        metrics_table_clear(table);
        cr_assert_eq(metrics_table_series(table), 0);
        cr_assert_eq(count_tag(table, "a", NOON_MS), ERR_OK);
        cr_assert_str_eq(shown(table), "Send minute=0 t=a n=1\n");
        cr_assert_eq(stats_of(table).events, 7);
        metrics_table_free(table);
        config.period_s = 10;
        table = create(&config);
        cr_assert_eq(count_tag(table, "a", NOON_MS + 19999), ERR_OK);
        struct metrics_datum datum;
        metrics_table_get(table, 0, &datum);
        cr_assert_eq(datum.time_s, NOON_MS / 1000 + 10);
        metrics_table_free(table);
}

/* ---------------------------------------------------------------------------------------------- budget */

Test(metrics, beyond_the_budget_events_are_counted_as_others)
{
        struct rules_cloudwatch config = config_of(2);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "t");
        struct metrics_table *table = create(&config);
        static const char *const values[] = {"a", "other", "b", "c", "d", "a", "c"};
        for (size_t i = 0; i < 7; i++)
                cr_assert_eq(count_tag(table, values[i], NOON_MS), ERR_OK);
        cr_assert_str_eq(shown(table), "Send minute=0 t=a n=2\nSend minute=0 t=b n=1\nSend minute=0 t=other n=4\n");
        cr_assert(stats_of(table).hour_series == 3 && stats_of(table).overflowed == 3); /* a, b, other */
        cr_assert_eq(stats_of(table).events, 7);
        metrics_table_clear(table);
        cr_assert_eq(stats_of(table).hour_series, 3);
        /* What was admitted in the hour stays so, what was not stays out. */
        cr_assert_eq(count_tag(table, "c", NOON_MS + HOUR_MS - 1), ERR_OK);
        cr_assert_eq(count_tag(table, "b", NOON_MS + HOUR_MS - 1), ERR_OK);
        cr_assert_str_eq(shown(table), "Send minute=59 t=b n=1\nSend minute=59 t=other n=1\n");
        cr_assert(stats_of(table).hour == NOON_MS / HOUR_MS && stats_of(table).hour_before_series == 0);
        cr_assert_eq(count_tag(table, "c", NOON_MS + HOUR_MS), ERR_OK); /* a new hour, a new budget */
        cr_assert_eq(stats_of(table).hour_series, 1);
        cr_assert(stats_of(table).hour == NOON_MS / HOUR_MS + 1 && stats_of(table).hour_before_series == 3);
        metrics_table_clear(table);
        cr_assert_eq(count_tag(table, "c", NOON_MS), ERR_OK); /* the hour before keeps its own */
        cr_assert_eq(count_tag(table, "a", NOON_MS), ERR_OK);
        cr_assert_eq(count_tag(table, "c", NOON_MS + HOUR_MS), ERR_OK);
        cr_assert_eq(count_tag(table, "e", NOON_MS - 5 * HOUR_MS), ERR_OK); /* older ones share it */
        cr_assert_str_eq(shown(table), "Send minute=-300 t=other n=1\nSend minute=0 t=a n=1\n"
                                       "Send minute=0 t=other n=1\nSend minute=60 t=c n=1\n");
        cr_assert_eq(count_tag(table, "p", NOON_MS + HOUR_MS), ERR_OK); /* full */
        metrics_table_clear(table);
        cr_assert_eq(count_tag(table, "x", NOON_MS + 3 * HOUR_MS), ERR_OK); /* after a gap the one before is empty */
        cr_assert_eq(count_tag(table, "q", NOON_MS), ERR_OK);
        cr_assert_str_eq(shown(table), "Send minute=0 t=q n=1\nSend minute=180 t=x n=1\n");
        metrics_table_free(table);
}

Test(metrics, every_metric_and_roll_up_has_its_own_overflow)
{
        struct rules_cloudwatch config = config_of(1);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "campaign");
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "genre");
        config.roll_ups[1] = 1;
        config.roll_ups_count = 2;
        struct metrics_table *table = create(&config);
        for (int i = 0; i < 2; i++) {
                struct sendring_event event;
                codec_events_fill(&event, i == 0 ? SENDRING_SEND : SENDRING_OPEN);
                struct codec_view view = view_of(&event);
                cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS, 1), ERR_OK);
        }
        cr_assert_str_eq(shown(table), "Send minute=0 campaign=april genre=sci-fi n=1\n"
                                       "Send minute=0 campaign=other n=1\n"
                                       "Open minute=0 campaign=other genre=other n=1\n"
                                       "Open minute=0 campaign=other n=1\n");
        cr_assert_eq(stats_of(table).hour_series, 4); /* one of the budget, three beside it */
        metrics_table_free(table);
}

Test(metrics, the_hour_has_what_cloudwatch_bills)
{
        struct rules_cloudwatch config = config_of(2);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "campaign");
        config.roll_ups[0] = 0; /* RollUps: [[]] */
        struct metrics_table *table = create(&config);
        for (int i = 0; i < 13; i++) {
                struct sendring_event event;
                codec_events_fill(&event, (enum sendring_event_type)(SENDRING_SEND + i % 6));
                struct codec_view view = view_of(&event);
                cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS + i * MINUTE_MS, 1), ERR_OK);
        }
        cr_assert_eq(stats_of(table).hour_series, 6);
        cr_assert_eq(stats_of(table).overflowed, 0);
        cr_assert_eq(count_tag(table, "a", NOON_MS + HOUR_MS), ERR_OK); /* a new hour */
        cr_assert_eq(stats_of(table).hour_series, 1);
        cr_assert_eq(count_tag(table, "a", NOON_MS), ERR_OK); /* of the one before */
        cr_assert_eq(stats_of(table).hour_series, 1);
        metrics_table_free(table);
}

Test(metrics, an_hour_that_the_clock_has_not_reached_is_forgotten)
{
        struct rules_cloudwatch config = config_of(1);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "t");
        struct metrics_table *table = create(&config);
        cr_assert_eq(count_tag(table, "a", NOON_MS), ERR_OK);
        cr_assert_eq(count_tag(table, "b", NOON_MS + HOUR_MS), ERR_OK);
        metrics_table_clear(table);
        metrics_table_forget_after(table, NOON_MS / HOUR_MS + 1); /* there is none */
        cr_assert_eq(count_tag(table, "c", NOON_MS + HOUR_MS), ERR_OK);
        cr_assert_str_eq(shown(table), "Send minute=60 t=other n=1\n");
        metrics_table_clear(table);
        metrics_table_forget_after(table, NOON_MS / HOUR_MS);
        cr_assert_eq(count_tag(table, "d", NOON_MS), ERR_OK);           /* this hour keeps its budget */
        cr_assert_eq(count_tag(table, "e", NOON_MS + HOUR_MS), ERR_OK); /* the other has it anew */
        cr_assert_str_eq(shown(table), "Send minute=0 t=other n=1\nSend minute=60 t=e n=1\n");
        metrics_table_clear(table);
        metrics_table_forget_after(table, NOON_MS / HOUR_MS - 7); /* both */
        cr_assert_eq(count_tag(table, "f", NOON_MS), ERR_OK);
        cr_assert_str_eq(shown(table), "Send minute=0 t=f n=1\n");
        metrics_table_free(table);
}

/* ---------------------------------------------------------------------------------------------- room */

Test(metrics, a_full_table_says_so_and_counts_nothing)
{
        struct rules_cloudwatch config = config_of(LIMIT_CLOUDWATCH_SERIES_MAX);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "t");
        struct metrics_table *table = create(&config);
        uint32_t added = 0;
        enum err_code code = ERR_OK;
        char value[16];
        for (; code == ERR_OK; added += code == ERR_OK) {
                (void)snprintf(value, sizeof(value), "v%u", added / 2);
                code = count_tag(table, value, NOON_MS + (added % 2) * MINUTE_MS);
        }
        cr_assert_eq(code, ERR_FULL);
        cr_assert_eq(added, metrics_table_series_max(&config));
        cr_assert_eq(added, LIMIT_CLOUDWATCH_SERIES_MAX + 11);
        cr_assert_eq(metrics_table_series(table), added);
        cr_assert_eq(stats_of(table).events, added);
        metrics_table_sort(table);
        for (uint32_t i = 0; i < added; i++) {
                struct metrics_datum datum;
                metrics_table_get(table, i, &datum);
                cr_assert_eq(datum.count, 1);
                cr_assert_eq(datum.time_s, NOON_MS / 1000 + (i < (added + 1) / 2 ? 0 : 60));
        }
        metrics_table_clear(table);
        cr_assert_eq(count_tag(table, value, NOON_MS + MINUTE_MS), ERR_OK);
        metrics_table_free(table);
}

/* Values of 255 bytes fill the memory of values before the table is full; what is in it stays right. */
Test(metrics, long_values_fill_a_table_earlier)
{
        struct rules_cloudwatch config = config_of(1000);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "t");
        struct metrics_table *table = create(&config);
        char value[256];
        uint32_t added = 0;
        for (;; added++) {
                (void)snprintf(value, sizeof(value), "%0255u", added);
                if (count_tag(table, value, NOON_MS) != ERR_OK)
                        break;
        }
        cr_assert(added > 100 && added < 1000, "%u", added);
        metrics_table_sort(table);
        for (uint32_t i = 0; i < added; i++) {
                struct metrics_datum datum;
                metrics_table_get(table, i, &datum);
                (void)snprintf(value, sizeof(value), "%0255u", i);
                cr_assert(slice_equal(datum.dimensions[0].value, slice_of_text(value)));
        }
        metrics_table_free(table);
}

Test(metrics, the_memory_that_is_announced_is_what_create_takes)
{
        struct rules_cloudwatch config = config_of(LIMIT_CLOUDWATCH_SERIES_MAX);
        for (int i = 0; i < 10; i++) {
                static char names[10][2];
                names[i][0] = (char)('a' + i);
                add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, names[i]);
        }
        cr_assert_leq(metrics_table_values_bytes_max(&config), 8u << 20);
        cr_assert_leq(metrics_table_bytes(&config), 12u << 20);
        config = config_of(1000);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "t");
        cr_assert_leq(metrics_table_bytes(&config), 512u << 10);
}

/* ---------------------------------------------------------------------------------------------- against a list */

Test(metrics, sums_agree_with_a_naive_count)
{
        enum { VALUES = 40, MINUTES = 3, TYPES = 3, EVENTS = 20000 };
        static uint32_t naive[MINUTES][TYPES][VALUES];
        struct random_state random;
        struct rules_cloudwatch config = config_of(1000);
        random_init(&random, 7);
        add_dimension(&config, RULES_DIMENSION_MESSAGE_TAG, "t");
        struct metrics_table *table = create(&config);
        for (int i = 0; i < EVENTS; i++) {
                uint32_t value = (uint32_t)random_below(&random, VALUES);
                uint32_t minute = (uint32_t)random_below(&random, MINUTES);
                uint32_t type = (uint32_t)random_below(&random, TYPES);
                uint32_t copies = 1 + (uint32_t)random_below(&random, 3);
                char text[16];
                int len = snprintf(text, sizeof(text), "v%02u", value);
                struct sendring_pair tag = {SENDRING_STR("t"), {text, (size_t)len}};
                struct sendring_event event;
                codec_events_fill(&event, (enum sendring_event_type)(SENDRING_DELIVERY + (int)type));
                event.mail.tags = (struct sendring_pairs){&tag, 1};
                struct codec_view view = view_of(&event);
                cr_assert_eq(metrics_table_count(table, &view, NULL, NOON_MS + minute * MINUTE_MS + value, copies),
                             ERR_OK);
                naive[minute][type][value] += copies;
        }
        metrics_table_sort(table);
        cr_assert_eq(metrics_table_series(table), VALUES * MINUTES * TYPES);
        uint32_t index = 0;
        for (int minute = 0; minute < MINUTES; minute++)
                for (int type = 0; type < TYPES; type++)
                        for (int value = 0; value < VALUES; value++) {
                                struct metrics_datum datum;
                                char text[16];
                                metrics_table_get(table, index++, &datum);
                                (void)snprintf(text, sizeof(text), "v%02d", value);
                                cr_assert(slice_equal(datum.dimensions[0].value, slice_of_text(text)));
                                cr_assert_str_eq(
                                        (const char *)datum.metric.ptr,
                                        codec_event_type_metric((enum sendring_event_type)(SENDRING_DELIVERY + type)));
                                cr_assert_eq(datum.time_s, NOON_MS / 1000 + 60 * minute);
                                cr_assert_eq(datum.count, naive[minute][type][value]);
                        }
        metrics_table_free(table);
}
