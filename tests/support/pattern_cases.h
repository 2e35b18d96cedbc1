/* Patterns and events for the tests of filters: compiles one pattern, reads a file of SES-shaped events. */
#ifndef SENDRING_TESTS_PATTERN_CASES_H
#define SENDRING_TESTS_PATTERN_CASES_H

#include "base/assert.h"
#include "base/file.h"
#include "feeds/jsonl.h"
#include "rules/pattern.h"

#define PATTERN_CASES_EVENTS_MAX 256u

/* What the router would publish the events with. */
static const struct codec_json_options pattern_cases_options = {
        .account_id = {(const uint8_t *)"123456789012", 12},
        .region = {(const uint8_t *)"eu-central-1", 12},
        .partition = {(const uint8_t *)"aws", 3},
        .configuration_set = {(const uint8_t *)"default-set", 11},
};

struct pattern_cases {
        struct arena arena;
        struct codec_view events[PATTERN_CASES_EVENTS_MAX];
        uint32_t events_count;
};

/* One event a line; empty lines are passed over. False: printed why. */
static inline bool pattern_cases_load(struct pattern_cases *cases, const char *path)
{
        struct err err;
        struct slice text;
        arena_init(&cases->arena, 0, 0);
        cases->events_count = 0;
        if (file_read(&cases->arena, path, (size_t)16 << 20, &text, &err) != ERR_OK) {
                (void)fprintf(stderr, "%s\n", err.text);
                return false;
        }
        while (text.ptr != NULL) {
                struct slice line = slice_cut(&text, '\n');
                struct jsonl_event event;
                if (line.len == 0)
                        continue;
                if (cases->events_count == PATTERN_CASES_EVENTS_MAX ||
                    jsonl_parse(line, &cases->arena, &event, &err) != ERR_OK ||
                    codec_view_decode(event.encoded, &cases->events[cases->events_count], &err) != ERR_OK) {
                        (void)fprintf(stderr, "%s: event %u: %s\n", path, cases->events_count + 1, err.text);
                        return false;
                }
                cases->events_count++;
        }
        return true;
}

/* NULL: it has mistakes; they are in the report. `arena` keeps the pattern. */
static inline const struct rules_pattern *pattern_cases_compile(struct slice text, struct arena *arena,
                                                                struct rules_report *report)
{
        struct rules_reader reader;
        struct arena tree;
        const struct rules_yaml_node *root = NULL;
        const struct rules_pattern *pattern = NULL;
        arena_init(&tree, 0, 0);
        ASSERT(rules_reader_begin(&reader, "pattern", &tree, report));
        bool good = rules_yaml_parse(&reader, text, &root) && root != NULL &&
                    rules_pattern_compile(&reader, root, arena, &pattern);
        enum err_code code = rules_reader_end(&reader);
        ASSERT(root == NULL || good == (code == ERR_OK));
        arena_release(&tree);
        return good ? pattern : NULL;
}

static inline bool pattern_cases_match(const struct rules_pattern *pattern, const struct codec_view *view)
{
        struct codec_field_reader reader;
        codec_field_reader_init(&reader, view, &pattern_cases_options);
        return rules_pattern_match(pattern, &reader);
}

#endif
