/* Sets and settings from texts, for the tests of rules/. */
#ifndef SENDRING_TESTS_RULES_TEXT_H
#define SENDRING_TESTS_RULES_TEXT_H

#include "codecs/codec.h"
#include "rules/rules.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

struct text {
        char *ptr;
        size_t len;
};

static inline FILE *text_open(struct text *text)
{
        FILE *out = open_memstream(&text->ptr, &text->len);
        cr_assert_not_null(out);
        return out;
}

static inline enum err_code parse_sets(const char *text, size_t len, struct rules_plan **ret_plan,
                                       struct rules_report *report)
{
        rules_report_init(report);
        return rules_plan_parse("sets.yaml", slice_of(text, len), NULL, ret_plan, report);
}

/* What the plan makes of an event that has no more than a set and a type. */
static inline uint32_t match(const struct rules_plan *plan, struct slice set, enum sendring_event_type type,
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
static inline const char *refusal(const char *yaml)
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

static inline enum err_code parse_settings(const char *yaml, struct rules_settings *ret_settings,
                                           struct rules_report *report)
{
        rules_report_init(report);
        return rules_settings_parse("/etc/sendring/sendring.yaml", slice_of_text(yaml), ret_settings, report);
}

#endif
