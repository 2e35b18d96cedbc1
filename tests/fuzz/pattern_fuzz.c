/* A pattern from any bytes, matched against an event from any bytes: the first line is the pattern, what follows an
 * SES-shaped event (where it is none, each of the ten types serves). Nothing crashes; a pattern comes out exactly when
 * no error was reported; what fails an event is named exactly when it does not match; a pattern or itself is the
 * pattern, and as one of two branches whose other never matches it says the same; and where the pattern is JSON, a
 * naive evaluation of the published event agrees. */
#include "tests/support/codec_events.h"
#include "tests/support/pattern_cases.h"
#include "tests/support/pattern_reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* `head`, the pattern, `middle`, the pattern, `tail` as one pattern; NULL when that is none. */
static const struct rules_pattern *fuzz_wrapped(struct slice pattern, const char *head, const char *middle,
                                                const char *tail, struct arena *arena)
{
        struct rules_report report;
        int len = (int)pattern.len;
        const char *bytes = (const char *)pattern.ptr;
        char *text = middle == NULL ? arena_printf(arena, "%s%.*s%s", head, len, bytes, tail)
                                    : arena_printf(arena, "%s%.*s%s%.*s%s", head, len, bytes, middle, len, bytes, tail);
        rules_report_init(&report);
        const struct rules_pattern *wrapped = pattern_cases_compile(slice_of_text(text), arena, &report);
        rules_report_release(&report);
        return wrapped;
}

/* An event as it is published; NULL with a NUL in a text. */
static json_t *fuzz_published(const struct codec_view *view)
{
        size_t room = codec_json_size_max(view, &pattern_cases_options);
        uint8_t *text = malloc(room);
        ASSERT(text != NULL);
        size_t bytes = codec_json_encode(view, &pattern_cases_options, text, room);
        json_t *published = json_loadb((const char *)text, bytes, 0, NULL);
        free(text);
        return published;
}

/* An event of each type, made once: they are the same for every input. */
static struct fuzz_typed {
        uint8_t encoded[4096];
        struct codec_view view;
        json_t *published;
} fuzz_typed[SENDRING_CLICK + 1];

static void fuzz_make_typed(enum sendring_event_type type)
{
        struct fuzz_typed *typed = &fuzz_typed[type];
        struct sendring_event filled;
        size_t bytes;
        codec_events_fill(&filled, type);
        ASSERT(codec_event_encode(&filled, typed->encoded, sizeof(typed->encoded), &bytes, NULL) == ERR_OK);
        ASSERT(codec_view_decode(slice_of(typed->encoded, bytes), &typed->view, NULL) == ERR_OK);
        typed->published = fuzz_published(&typed->view);
        ASSERT(typed->published != NULL);
}

/* `json` and `published` are NULL where they are none. */
static void fuzz_event(const struct rules_pattern *pattern, const json_t *json, const struct rules_pattern *twice,
                       const struct rules_pattern *beside, const struct codec_view *view, const json_t *published)
{
        struct codec_field_reader reader;
        codec_field_reader_init(&reader, view, &pattern_cases_options);
        bool matched = rules_pattern_match(pattern, &reader);
        ASSERT(reader.trail_count == 0 && !(matched && reader.exhausted));
        if (reader.exhausted)
                return;
        struct slice failed = rules_pattern_failed(pattern, &reader);
        ASSERT(matched == (failed.len == 0));
        ASSERT(twice == NULL || pattern_cases_match(twice, view) == matched);
        ASSERT(beside == NULL || pattern_cases_match(beside, view) == matched);
        if (json == NULL)
                return;
        bool is_sure = false;
        bool wanted = published != NULL && reference_match(json, published, &is_sure);
        ASSERT(!is_sure || wanted == matched);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct slice rest = slice_of(data, size);
        struct slice text = slice_cut(&rest, '\n');
        struct arena arena;
        struct rules_report report;
        arena_init(&arena, 0, 0);
        rules_report_init(&report);
        const struct rules_pattern *pattern = pattern_cases_compile(text, &arena, &report);
        if (pattern != NULL) {
                ASSERT(pattern->alternatives_count >= 1 && pattern->keys_count >= 1);
                const struct rules_pattern *twice = NULL, *beside = NULL;
                if (text.ptr[0] == '{' && slice_find_byte(text, '\0') == text.len) {
                        twice = fuzz_wrapped(text, "{$or: [", ", ", "]}", &arena);
                        beside = fuzz_wrapped(text, "{$or: [{eventType: [{prefix: \"\\x01\"}]}, ", NULL, "]}", &arena);
                }
                json_t *json = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
                struct jsonl_event event;
                struct codec_view view;
                if (jsonl_parse(rest, &arena, &event, NULL) == ERR_OK &&
                    codec_view_decode(event.encoded, &view, NULL) == ERR_OK) {
                        json_t *published = json == NULL ? NULL : fuzz_published(&view);
                        fuzz_event(pattern, json, twice, beside, &view, published);
                        json_decref(published);
                }
                for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                        struct fuzz_typed *typed = &fuzz_typed[type];
                        if (typed->published == NULL)
                                fuzz_make_typed((enum sendring_event_type)type);
                        fuzz_event(pattern, json, twice, beside, &typed->view, typed->published);
                }
                json_decref(json);
        }
        rules_report_release(&report);
        arena_release(&arena);
        return 0;
}
