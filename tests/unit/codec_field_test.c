/* Whatever codec_json_encode() writes is what codec_field_each() finds, value by value, path by path: jansson reads the
 * JSON back, so neither of ours is believed. */
#include "tests/support/codec_events.h"
#include "tests/support/pattern_cases.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WALK_PATHS_MAX 4096

/* Every single value of a JSON text by its path, in order; lists are looked into. */
struct walk {
        char *paths[WALK_PATHS_MAX];
        const json_t *values[WALK_PATHS_MAX];
        uint32_t count;
};

static void walk_json(struct walk *walk, const char *path, const json_t *value)
{
        const char *name;
        json_t *inner;
        size_t i;
        if (json_is_object(value)) {
                json_object_foreach((json_t *)(uintptr_t)value, name, inner)
                {
                        char *below = NULL;
                        cr_assert_gt(asprintf(&below, "%s%s%s", path, path[0] == '\0' ? "" : ".", name), 0);
                        walk_json(walk, below, inner);
                        free(below);
                }
        } else if (json_is_array(value)) {
                json_array_foreach(value, i, inner) walk_json(walk, path, inner);
        } else {
                cr_assert_lt(walk->count, WALK_PATHS_MAX);
                walk->paths[walk->count] = strdup(path);
                walk->values[walk->count++] = value;
        }
}

/* Forgets all but the first ones. */
static void walk_keep(struct walk *walk, uint32_t count)
{
        while (walk->count > count)
                free(walk->paths[--walk->count]);
}

static bool value_is(const struct codec_value *value, const json_t *json)
{
        switch (value->kind) {
        case CODEC_VALUE_TEXT:
                return json_is_string(json) &&
                       slice_equal(value->text, slice_of(json_string_value(json), json_string_length(json)));
        case CODEC_VALUE_UINT:
                return json_is_integer(json) && (uint64_t)json_integer_value(json) == value->uint;
        case CODEC_VALUE_NEGATIVE:
                return json_is_integer(json) && json_integer_value(json) == value->negative;
        case CODEC_VALUE_FLOAT:
                return json_is_real(json) && json_real_value(json) == value->number;
        case CODEC_VALUE_TRUE:
                return json_is_true(json);
        case CODEC_VALUE_FALSE:
                return json_is_false(json);
        case CODEC_VALUE_NULL:
                return json_is_null(json);
        }
        return false;
}

/* The values of one path, in order: by the JSON and by the field. */
struct expected {
        const struct walk *walk;
        const char *path;
        uint32_t at, seen;
};

static bool expected_next(void *context, const struct codec_value *value)
{
        struct expected *expected = context;
        while (expected->at < expected->walk->count && strcmp(expected->walk->paths[expected->at], expected->path) != 0)
                expected->at++;
        cr_assert_lt(expected->at, expected->walk->count, "%s: more values than in the JSON", expected->path);
        cr_assert(value_is(value, expected->walk->values[expected->at]), "%s: value %u differs", expected->path,
                  expected->seen);
        expected->at++;
        expected->seen++;
        return false;
}

static void field_check(const struct walk *walk, const char *path, const struct codec_view *view,
                        const struct codec_json_options *options)
{
        struct codec_field field;
        struct codec_field_reader reader;
        struct expected expected = {.walk = walk, .path = path};
        uint32_t wanted = 0;
        for (uint32_t i = 0; i < walk->count; i++)
                wanted += strcmp(walk->paths[i], path) == 0;
        (void)codec_field_find(slice_of_text(path), &field, NULL); /* whatever it is, it can be looked for */
        codec_field_reader_init(&reader, view, options);
        cr_assert_not(codec_field_each(&reader, &field, expected_next, &expected));
        cr_assert_eq(expected.seen, wanted, "%s: %u values, not %u", path, expected.seen, wanted);
        cr_assert(!reader.exhausted && reader.trail_count == 0);
}

/* Paths that an event may or may not have: all of them are asked of every event. */
static const char *const paths_extra[] = {"mail",
                                          "mail.tags",
                                          "mail.headers",
                                          "mail.sourceArn",
                                          "mail.sendingAccountId",
                                          "mail.commonHeaders.messageId",
                                          "mail.commonHeaders.replyTo",
                                          "mail.tags.ses:outgoing-ip",
                                          "mail.tags.ses:from-domain",
                                          "mail.tags.ses:operation",
                                          "mail.tags.campaign",
                                          "bounce.bouncedRecipients.action",
                                          "complaint.complaintSubType",
                                          "reject.reason",
                                          "click.linkTags",
                                          "click.linkTags.product",
                                          "send",
                                          "x",
                                          "x.y",
                                          ".",
                                          "mail.",
                                          "mail..x"};

static void event_check(const struct codec_view *view, const struct codec_json_options *options, struct walk *all)
{
        size_t room = codec_json_size_max(view, options);
        uint8_t *text = malloc(room);
        size_t bytes = codec_json_encode(view, options, text, room);
        cr_assert_gt(bytes, 0);
        json_t *root = json_loadb((const char *)text, bytes, JSON_ALLOW_NUL, NULL);
        cr_assert_not_null(root);
        static struct walk walk;
        walk.count = 0;
        walk_json(&walk, "", root);
        for (uint32_t i = 0; i < walk.count; i++)
                field_check(&walk, walk.paths[i], view, options);
        for (size_t i = 0; i < sizeof(paths_extra) / sizeof(paths_extra[0]); i++)
                field_check(&walk, paths_extra[i], view, options);
        for (uint32_t i = 0; i < all->count; i++)
                field_check(&walk, all->paths[i], view, options);
        for (uint32_t i = 0; i < walk.count && all->count < WALK_PATHS_MAX; i++)
                all->paths[all->count++] = strdup(walk.paths[i]);
        walk_keep(&walk, 0);
        json_decref(root);
        free(text);
}

Test(codec_field, what_is_published_is_what_is_found, .timeout = 60)
{
        static struct pattern_cases cases;
        static struct walk all;
        cr_assert(pattern_cases_load(&cases, TEST_DATA_DIRECTORY "/filters/events.jsonl"));
        for (uint32_t i = 0; i < cases.events_count; i++) {
                event_check(&cases.events[i], &pattern_cases_options, &all);
                event_check(&cases.events[i], NULL, &all);
                walk_keep(&all, 400);
        }
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                static uint8_t encoded[LIMIT_EVENT_BYTES_MAX];
                struct sendring_event event;
                struct codec_view view;
                size_t bytes;
                codec_events_fill(&event, (enum sendring_event_type)type);
                cr_assert_eq(codec_event_encode(&event, encoded, sizeof(encoded), &bytes, NULL), ERR_OK);
                cr_assert_eq(codec_view_decode(slice_of(encoded, bytes), &view, NULL), ERR_OK);
                event_check(&view, &pattern_cases_options, &all);
        }
        walk_keep(&all, 0);
        arena_release(&cases.arena);
}

/* ---------------------------------------------------------------------------------------------- paths */

Test(codec_field, paths_are_what_they_are, .timeout = 10)
{
        static const struct {
                const char *path;
                enum codec_field_kind kind;
                uint32_t list_bytes;
        } paths[] = {
                {"eventType", CODEC_FIELD_IS_VALUE, 0},
                {"mail.source", CODEC_FIELD_IS_VALUE, 0},
                {"mail.headers.name", CODEC_FIELD_IS_VALUE, 12},
                {"mail.tags.any.thing", CODEC_FIELD_IS_VALUE, 0},
                {"mail.tags.ses:nothing", CODEC_FIELD_IS_NO_MEMBER, 0},
                {"bounce.bouncedRecipients.status", CODEC_FIELD_IS_VALUE, 24},
                {"complaint.complainedRecipients.emailAddress", CODEC_FIELD_IS_VALUE, 30},
                {"subscription.newTopicPreferences.topicSubscriptionStatus.topicName", CODEC_FIELD_IS_VALUE, 56},
                {"subscription.newTopicPreferences", CODEC_FIELD_IS_GROUP, 0},
                {"mail", CODEC_FIELD_IS_GROUP, 0},
                {"eventType.x", CODEC_FIELD_IS_BELOW_VALUE, 0},
                {"bounce.bounceType.x", CODEC_FIELD_IS_BELOW_VALUE, 0},
                {"bounce.x", CODEC_FIELD_IS_NO_MEMBER, 0},
                {"mail.commonHeaders.x", CODEC_FIELD_IS_NO_MEMBER, 0},
                {"mail.x", CODEC_FIELD_IS_UNKNOWN, 0},
                {"x.y", CODEC_FIELD_IS_UNKNOWN, 0},
        };
        for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
                struct codec_field field;
                cr_expect_eq(codec_field_find(slice_of_text(paths[i].path), &field, NULL), paths[i].kind, "%s",
                             paths[i].path);
                cr_expect_eq(field.list_bytes, paths[i].list_bytes, "%s: %u", paths[i].path, field.list_bytes);
        }
}

/* ---------------------------------------------------------------------------------------------- bounds */

static bool count_visit(void *context, const struct codec_value *value)
{
        (void)value;
        (*(uint32_t *)context)++;
        return false;
}

/* Two lists of many maps below one another, asked again from inside: the budget ends it. */
struct inside {
        struct codec_field_reader *reader;
        const struct codec_field *field;
        uint32_t seen;
};

static bool inside_visit(void *context, const struct codec_value *value)
{
        struct inside *inside = context;
        (void)value;
        return codec_field_each(inside->reader, inside->field, count_visit, &inside->seen);
}

Test(codec_field, the_budget_ends_what_would_take_too_long, .timeout = 20)
{
        struct arena arena;
        struct jsonl_event event;
        struct codec_view view;
        struct err err;
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);
        (void)fputs("{\"eventType\":\"Send\",\"send\":{},\"mail\":{\"timestamp\":\"2026-02-03T04:05:06.007Z\","
                    "\"source\":\"a@b."
                    "c\",\"messageId\":\"x\",\"destination\":[\"d\"]},\"a\":[",
                    out);
        for (int i = 0; i < 300; i++)
                (void)fprintf(out, "%s{\"k\":%d}", i == 0 ? "" : ",", i);
        (void)fputs("],\"b\":[", out);
        for (int i = 0; i < 300; i++)
                (void)fprintf(out, "%s{\"k\":%d}", i == 0 ? "" : ",", i);
        (void)fputs("]}", out);
        (void)fclose(out);
        arena_init(&arena, 0, 0);
        cr_assert_eq(jsonl_parse(slice_of(text, len), &arena, &event, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(codec_view_decode(event.encoded, &view, NULL), ERR_OK);
        struct codec_field a, b;
        struct codec_field_reader reader;
        (void)codec_field_find(SLICE("a.k"), &a, NULL);
        (void)codec_field_find(SLICE("b.k"), &b, NULL);
        codec_field_reader_init(&reader, &view, NULL);
        struct inside inside = {.reader = &reader, .field = &b};
        cr_assert(codec_field_each(&reader, &a, inside_visit, &inside));
        cr_assert(reader.exhausted);
        cr_assert_leq(inside.seen, CODEC_FIELD_LOOKS_MAX);
        codec_field_reader_init(&reader, &view, NULL);
        inside.seen = 0;
        inside.field = &a; /* asked again from inside, a list that has a mark gives that element only */
        cr_assert_not(codec_field_each(&reader, &a, inside_visit, &inside));
        cr_assert_eq(inside.seen, 300);
        arena_release(&arena);
        free(text);
}
