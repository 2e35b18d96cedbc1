#include "tests/support/pattern_cases.h"

#include "base/random.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pattern_cases cases;

static void load_events(void)
{
        cr_assert(pattern_cases_load(&cases, TEST_DATA_DIRECTORY "/filters/events.jsonl"));
}

static void release_events(void)
{
        arena_release(&cases.arena);
}

/* One line of golden.txt against what we say. */
static void golden_check(struct slice verdicts, struct slice text)
{
        struct arena arena;
        struct rules_report report;
        arena_init(&arena, 0, 0);
        rules_report_init(&report);
        const struct rules_pattern *pattern = pattern_cases_compile(text, &arena, &report);
        if (slice_equal(verdicts, SLICE("error"))) {
                cr_assert_null(pattern, "taken: %.*s", SLICE_PRINTF(text));
        } else {
                cr_assert_not_null(pattern, "refused: %.*s", SLICE_PRINTF(text));
                cr_assert_eq(verdicts.len, (cases.events_count + 3) / 4);
                for (uint32_t i = 0; i < cases.events_count; i++) {
                        uint8_t digit = verdicts.ptr[i / 4];
                        int bits = digit >= 'a' ? digit - 'a' + 10 : digit - '0';
                        bool wanted = (bits >> (3 - i % 4) & 1) != 0;
                        cr_assert_eq(pattern_cases_match(pattern, &cases.events[i]), wanted, "event %u: %.*s", i + 1,
                                     SLICE_PRINTF(text));
                        struct codec_field_reader reader;
                        codec_field_reader_init(&reader, &cases.events[i], &pattern_cases_options);
                        cr_assert_eq(rules_pattern_failed(pattern, &reader).len == 0, wanted, "event %u: %.*s", i + 1,
                                     SLICE_PRINTF(text));
                }
        }
        rules_report_release(&report);
        arena_release(&arena);
}

Test(pattern, verdicts_are_those_of_event_ruler, .init = load_events, .fini = release_events, .timeout = 60)
{
        struct arena arena;
        struct slice text;
        arena_init(&arena, 0, 0);
        cr_assert_eq(file_read(&arena, TEST_DATA_DIRECTORY "/filters/golden.txt", 8 << 20, &text, NULL), ERR_OK);
        uint32_t lines = 0;
        while (text.ptr != NULL) {
                struct slice line = slice_cut(&text, '\n');
                if (line.len == 0 || line.ptr[0] == '#')
                        continue;
                struct slice verdicts = slice_cut(&line, ' ');
                golden_check(verdicts, line);
                lines++;
        }
        cr_assert_gt(lines, 2000);
        arena_release(&arena);
}

/* ---------------------------------------------------------------------------------------------- what people are told
 */

/* The first finding of a pattern, "" when there is none. */
static const char *finding(const char *yaml, enum rules_severity severity)
{
        static char kept[1024];
        struct arena arena;
        struct rules_report report;
        arena_init(&arena, 0, 0);
        rules_report_init(&report);
        const struct rules_pattern *pattern = pattern_cases_compile(slice_of_text(yaml), &arena, &report);
        cr_assert_eq(pattern == NULL, severity == RULES_ERROR, "%s", yaml);
        kept[0] = '\0';
        if (report.first != NULL)
                (void)snprintf(kept, sizeof(kept), "%u:%u: %s", report.first->line, report.first->column,
                               report.first->text);
        rules_report_release(&report);
        arena_release(&arena);
        return kept;
}

Test(pattern, mistakes_are_said_with_what_would_be_right, .timeout = 10)
{
        static const struct {
                const char *yaml, *text;
        } wrong[] = {
                {"eventType: Bounce", "1:12: 'eventType' must be a list of values or a map of members, not 'Bounce'"},
                {"eventType: []", "1:12: 'eventType' has an empty list: it would match nothing"},
                {"mail: {}", "1:7: 'mail' must be a map of members, not an empty one"},
                {"[a]", "1:1: a filter must be a map of members like {eventType: [Bounce]}, not a list"},
                {"eventType: [{prefx: x}]", "1:14: unknown operator 'prefx' in a value; did you mean 'prefix'?"},
                {"eventType: [{regex: x}]",
                 "1:14: unknown operator 'regex' in a value; there is prefix, suffix, equals-ignore-case, wildcard, "
                 "anything-but, numeric, exists or cidr"},
                {"eventType: {prefix: B}", "1:13: operator 'prefix' stands in a list of values, like [{prefix: ...}]"},
                {"eventType: [{prefix: a, suffix: b}]",
                 "1:13: a value is a map of one operator, not of 2; further ones stand beside it in the list"},
                {"eventType: [{prefix: 5}]", "1:22: prefix takes a text, not '5'; quote it"},
                {"eventType: [[a]]",
                 "1:13: a value is a text, a number, true, false, null or a map with an operator, not a list"},
                {"n: [0123]",
                 "1:5: '0123' is a number to some readers of YAML only; quote it if a text is meant, or write it "
                 "as JSON does"},
                {"n: [{numeric: ['>', a]}]", "1:21: numeric takes numbers, like 10 or -0.5, not 'a'"},
                {"n: [{numeric: ['>', 5, '<', 5]}]", "1:29: numeric: the upper bound must be above the lower one"},
                {"n: [{numeric: ['>']}]", "1:16: numeric: a number must follow >"},
                {"n: [{numeric: []}]",
                 "1:15: numeric takes a list of comparisons, like [\">\", 0, \"<=\", 5], not an empty one"},
                {"n: [{exists: yes}]", "1:14: exists must be true or false, not 'yes'"},
                {"n: [{cidr: 10.0.0.0}]",
                 "1:12: cidr takes an address and its bits, like 192.0.2.0/24 or 2001:db8::/32, not '10.0.0.0'"},
                {"n: [{cidr: 10.0.0.0/32}]",
                 "1:12: cidr '10.0.0.0/32' has more than 31 bits; for one address write it as a plain value"},
                {"n: [{wildcard: a**}]", "1:16: wildcard 'a**' has two asterisks side by side; one is enough"},
                {"n: [{anything-but: [a, 1]}]", "1:20: anything-but takes either texts or numbers, not both"},
                {"n: [{anything-but: []}]", "1:20: anything-but has an empty list"},
                {"$or: [{n: [1]}]", "1:6: $or takes a list of two maps at least, not fewer"},
                {"{n: [1], $or: [{n: [2]}, {m: [1]}]}", "1:17: 'n' is already there; write all its values in one list"},
        };
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
                cr_expect_str_eq(finding(wrong[i].yaml, RULES_ERROR), wrong[i].text);
}

Test(pattern, what_can_never_match_is_warned_about, .timeout = 10)
{
        static const struct {
                const char *yaml, *text;
        } odd[] = {
                {"eventType: [BOUNCE]", "1:13: no event has the eventType 'BOUNCE'; it is published as 'Bounce'"},
                {"eventTyp: [Bounce]", "1:1: 'eventTyp' is no member that SES publishes; did you mean 'eventType'?"},
                {"mail: {tag: {a: [x]}}",
                 "1:14: 'mail.tag.a' is no member that SES publishes; did you mean 'mail.tags'?"},
                {"bounce: {bounceTyp: [x]}",
                 "1:10: no event has 'bounce.bounceTyp'; did you mean 'bounce.bounceType'?"},
                {"bounce: {type: [x]}", "1:10: no event has 'bounce.type': 'bounce' has no such member"},
                {"bounce: {bouncedRecipients: {statu: [x]}}", "1:30: no event has 'bounce.bouncedRecipients.statu'; "
                                                              "did you mean 'bounce.bouncedRecipients.status'?"},
                {"mail: {headers: [x]}",
                 "1:8: 'mail.headers' is a map and never has a value; its members do: name or value"},
                {"mail: {source: {a: [x]}}", "1:17: no event has 'mail.source.a': 'mail.source' has no members"},
                {"mail: {tags: {'ses:from-domian': [x]}}",
                 "1:15: no event has 'mail.tags.ses:from-domian'; did you mean 'mail.tags.ses:from-domain'?"},
                {"detail: {eventType: [x]}",
                 "1:10: no event has 'detail.eventType': a filter sees what EventBridge has in "
                 "detail, so its members stand at the top"},
                {"mail: {sendingAccountId: [123456789012]}",
                 "1:27: 'mail.sendingAccountId' is published as a text and never equals '123456789012'; quote it"},
                {"{x-queue: [a], mail: {zone: [b]}}", ""},
                {"mail: {tags: {ses:feedback-id-a: [x], any: [y]}}", ""},
        };
        for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
                cr_expect_str_eq(finding(odd[i].yaml, RULES_WARNING), odd[i].text);
}

/* ---------------------------------------------------------------------------------------------- limits */

/* `count` times `item` with its number in it, between `head` and `tail`. */
static char *repeated(const char *head, const char *item, uint32_t count, const char *tail)
{
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);
        cr_assert_not_null(out);
        (void)fputs(head, out);
        for (uint32_t i = 0; i < count; i++) {
                for (const char *at = item; *at != '\0'; at++)
                        if (*at == '#')
                                (void)fprintf(out, "%u", i);
                        else
                                (void)fputc(*at, out);
        }
        (void)fputs(tail, out);
        (void)fclose(out);
        return text;
}

static void limit_check(const char *head, const char *item, uint32_t most, const char *tail, const char *text)
{
        char *good = repeated(head, item, most, tail), *bad = repeated(head, item, most + 1, tail);
        cr_expect_str_eq(finding(good, RULES_WARNING), "");
        cr_expect_not_null(strstr(finding(bad, RULES_ERROR), text), "%s", finding(bad, RULES_ERROR));
        free(good);
        free(bad);
}

Test(pattern, each_limit_holds_and_one_more_is_refused, .timeout = 20)
{
        limit_check("n: [", "a#,", LIMIT_FILTER_VALUES_MAX, "]", "one filter has more than 2048 values");
        limit_check("mail: {tags: {a: [x]}}\nzz: {", "a#: [x],", LIMIT_FILTER_PATHS_MAX - 1, "}",
                    "one filter has more than 64 members");
        limit_check("$or: [{a: [x]}, {a: [y]}", ", {a: [z]}", LIMIT_FILTER_PATHS_MAX - 2, "]",
                    "one filter has more than 64 members");
        char text[4096];
        for (int sets = 7; sets <= 8; sets++) {
                size_t used = 0;
                for (int i = 0; i < sets; i++)
                        used += (size_t)snprintf(text + used, sizeof(text) - used, "k%d: {$or: [{a: [x]}, {b: [y]}]}\n",
                                                 i);
                if (sets == 7)
                        cr_expect_str_eq(finding(text, RULES_WARNING), "");
                else
                        cr_expect_not_null(strstr(finding(text, RULES_ERROR), "more than 128 combinations"));
        }
        /* Depth: maps inside one another. */
        for (uint32_t depth = LIMIT_FILTER_DEPTH_MAX; depth <= LIMIT_FILTER_DEPTH_MAX + 1; depth++) {
                char *open = repeated("", "z#: {", depth, "a: [x]"), *close = repeated(open, "}", depth, "");
                if (depth == LIMIT_FILTER_DEPTH_MAX)
                        cr_expect_str_eq(finding(close, RULES_WARNING), "");
                else
                        cr_expect_not_null(strstr(finding(close, RULES_ERROR), "maps and lists inside one another"));
                free(open);
                free(close);
        }
        /* A value and its path, "n": 65,536 bytes, and one more. */
        limit_check("n: [", "a", LIMIT_FILTER_BYTES_MAX - 1, "]", "have more than 65536 bytes");
        /* "aa.b", a path of as many bytes as there is room for; the dot of the first name is counted, too. */
        limit_check("aa: {", "b", 1024 - 3, ": [x]}", "a path of more than 1024 bytes");
}

/* Combinations add up over the maps of one $or: 64 and 64, and one beside them. */
Test(pattern, combinations_are_counted_to_the_last_one, .timeout = 20)
{
        char text[4096];
        for (int more = 0; more < 2; more++) {
                size_t used = (size_t)snprintf(text, sizeof(text), "$or:\n");
                for (int half = 0; half < 2; half++)
                        for (int i = 0; i < 6; i++)
                                used += (size_t)snprintf(text + used, sizeof(text) - used,
                                                         "%s h%dk%d: {$or: [{a: [x]}, {b: [y]}]}\n",
                                                         i == 0 ? " - " : "   ", half, i);
                if (more)
                        (void)snprintf(text + used, sizeof(text) - used, " -  one: [x]\n");
                if (!more)
                        cr_expect_str_eq(finding(text, RULES_WARNING), "");
                else
                        cr_expect_not_null(strstr(finding(text, RULES_ERROR), "more than 128 combinations"));
        }
}

/* ---------------------------------------------------------------------------------------------- the manual */

/* Which events of events.jsonl the examples of configuration-sets.yaml(5) let through, by their line. */
static const uint32_t manual_wanted[][9] = {{5}, {4}, {5, 6, 19, 20}, {1, 3, 4, 5, 6, 8, 9, 10}};

static void manual_check(struct slice yaml, uint32_t example)
{
        struct arena arena;
        struct rules_report report;
        arena_init(&arena, 0, 0);
        rules_report_init(&report);
        char text[2048], seen[256] = "", wanted[256] = "";
        /* Below `Filter:`, two columns in. */
        (void)snprintf(text, sizeof(text), "%.*s", SLICE_PRINTF(slice_from(yaml, sizeof("Filter:"))));
        const struct rules_pattern *pattern = pattern_cases_compile(slice_of_text(text), &arena, &report);
        cr_assert_not_null(pattern, "example %u: %s", example, report.first == NULL ? "" : report.first->text);
        cr_assert_eq(report.warnings, 0, "example %u: %s", example, report.first == NULL ? "" : report.first->text);
        for (uint32_t i = 0; i < cases.events_count; i++)
                if (pattern_cases_match(pattern, &cases.events[i]))
                        (void)snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), " %u", i + 1);
        for (uint32_t i = 0; manual_wanted[example][i] != 0; i++)
                (void)snprintf(wanted + strlen(wanted), sizeof(wanted) - strlen(wanted), " %u",
                               manual_wanted[example][i]);
        cr_expect_str_eq(seen, wanted, "example %u matches%s, not%s", example, seen, wanted);
        rules_report_release(&report);
        arena_release(&arena);
}

Test(pattern, examples_of_the_manual_do_what_it_says, .init = load_events, .fini = release_events, .timeout = 10)
{
        struct arena arena;
        struct slice page;
        arena_init(&arena, 0, 0);
        cr_assert_eq(file_read(&arena, TEST_DATA_DIRECTORY "/../../docs/man/configuration-sets.yaml.5", 1 << 20, &page,
                               NULL),
                     ERR_OK);
        page = slice_from(page, slice_find(page, SLICE(".Sh FILTERS\n")));
        page = slice_from(page, 1);
        page = slice_head(page, slice_find(page, SLICE("\n.Sh "))); /* up to the next section */
        uint32_t examples = 0;
        for (;;) {
                const struct slice begin = SLICE(".Bd -literal -offset indent\n");
                size_t at = slice_find(page, begin);
                if (at == page.len)
                        break;
                page = slice_from(page, at + begin.len);
                struct slice yaml = slice_head(page, slice_find(page, SLICE(".Ed\n")));
                cr_assert(slice_has_prefix(yaml, SLICE("Filter:\n")));
                cr_assert_lt(examples, sizeof(manual_wanted) / sizeof(manual_wanted[0]));
                manual_check(yaml, examples++);
        }
        cr_assert_eq(examples, sizeof(manual_wanted) / sizeof(manual_wanted[0]));
        arena_release(&arena);
}
