#include "tools/explain.h"

#include "base/arena.h"
#include "codecs/codec.h"
#include "egress/metrics.h"
#include "feeds/jsonl.h"
#include "tools/cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------------------- files */

int explain_open(struct explain *explain, const char *command, const char *settings_path, const char *sets_path)
{
        struct rules_report report;
        enum err_code code = ERR_OK;
        *explain = (struct explain){.command = command};
        rules_report_init(&report);
        if (settings_path != NULL) {
                code = rules_settings_load(settings_path, &explain->settings, &report);
                explain->has_settings = code == ERR_OK;
        }
        if (code == ERR_OK)
                code = rules_plan_load(sets_path != NULL ? sets_path : explain->settings.configuration_sets_path,
                                       explain->has_settings ? &explain->settings : NULL, &explain->plan, &report);
        if (code != ERR_OK)
                rules_report_print(&report, stderr);
        if (code == ERR_MEMORY)
                (void)fprintf(stderr, "sendring %s: out of memory\n", command);
        rules_report_release(&report);
        return code == ERR_OK ? CMD_EXIT_OK : code == ERR_MEMORY ? CMD_EXIT_IO : CMD_EXIT_CONFIG;
}

void explain_close(struct explain *explain)
{
        rules_plan_free(explain->plan);
        if (explain->has_settings)
                rules_settings_release(&explain->settings);
}

char *explain_read(const char *command, const char *path, size_t *ret_bytes)
{
        FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
        char *text = NULL;
        size_t used = 0, room = 0;
        if (in == NULL) {
                (void)fprintf(stderr, "sendring %s: cannot open %s: %s\n", command, path, strerror(errno));
                return NULL;
        }
        for (size_t got = 1; got > 0; used += got) {
                if (used == room) {
                        room = room == 0 ? 65536 : 2 * room;
                        char *more = room > 2 * (size_t)LIMIT_CONFIG_BYTES_MAX ? NULL : realloc(text, room);
                        if (more == NULL) {
                                (void)fprintf(stderr, "sendring %s: %s is too large\n", command, path);
                                free(text);
                                text = NULL;
                                break;
                        }
                        text = more;
                }
                got = fread(text + used, 1, room - used, in);
        }
        if (text != NULL && ferror(in) != 0) {
                (void)fprintf(stderr, "sendring %s: cannot read %s: %s\n", command, path, strerror(errno));
                free(text);
                text = NULL;
        }
        if (in != stdin)
                (void)fclose(in); /* read only */
        *ret_bytes = used;
        return text;
}

/* ---------------------------------------------------------------------------------------------- one destination */

struct explain_context {
        const struct explain *explain;
        const struct codec_view *view;
        struct codec_json_options options;
        json_t *destinations;
};

static json_t *explain_text(struct slice text)
{
        json_t *json = json_stringn((const char *)text.ptr, text.len);
        return json != NULL ? json : json_string("(not UTF-8)");
}

static const char *explain_reason(const struct explain_context *context, const struct rules_explanation *explanation,
                                  char *room, size_t room_bytes)
{
        switch (explanation->verdict) {
        case RULES_VERDICT_MATCH:
                return "match";
        case RULES_VERDICT_DISABLED:
                return "it is disabled";
        case RULES_VERDICT_EVENT_TYPE:
                (void)snprintf(room, room_bytes, "%s is not among its MatchingEventTypes",
                               rules_event_type_name(context->view->type));
                return room;
        case RULES_VERDICT_FILTER:
                (void)snprintf(room, room_bytes, "its filter does not match %.*s", SLICE_PRINTF(explanation->member));
                return room;
        case RULES_VERDICT_FILTER_LIMIT:
                return "its filter would have to look at too much of this event";
        case RULES_VERDICT_NOT_PUBLISHED:
                return "it matches, but this version does not publish to its service";
        }
        return "?";
}

/* The dimensions of `mask`, with the values that the event has for them. */
static json_t *explain_refused(const struct explain_context *context, const struct rules_cloudwatch *cloudwatch,
                               uint32_t mask)
{
        static const enum codec_source sources[] = {
                [RULES_DIMENSION_MESSAGE_TAG] = CODEC_SOURCE_TAG,
                [RULES_DIMENSION_EMAIL_HEADER] = CODEC_SOURCE_HEADER,
                [RULES_DIMENSION_LINK_TAG] = CODEC_SOURCE_LINK_TAG,
        };
        json_t *refused = json_object();
        for (; mask != 0; mask &= mask - 1) {
                const struct rules_dimension *dimension = &cloudwatch->dimensions[__builtin_ctz(mask)];
                struct codec_wanted wanted;
                struct codec_found found;
                char name[256];
                codec_wanted_init(&wanted, sources[dimension->source], dimension->name);
                codec_view_find(context->view, &context->options, &wanted, 1, &found);
                if (slice_to_text(dimension->name, name, sizeof(name)))
                        (void)json_object_set_new(refused, name, explain_text(found.value));
        }
        return refused;
}

/* The metrics that one event counts in; *ret_refused: dimensions whose values were refused. */
static json_t *explain_metrics(const struct explain_context *context, const struct rules_cloudwatch *cloudwatch,
                               json_t **ret_refused)
{
        struct metrics_stats stats;
        struct metrics_table *table;
        json_t *metrics = json_array();
        *ret_refused = NULL;
        if (metrics_table_create(cloudwatch, &table, NULL) != ERR_OK)
                return metrics;
        if (metrics_table_count(table, context->view, &context->options, context->view->timestamp_ms, 1) == ERR_OK) {
                metrics_table_sort(table);
                for (uint32_t i = 0; i < metrics_table_series(table); i++) {
                        struct metrics_datum datum;
                        json_t *dimensions = json_object();
                        metrics_table_get(table, i, &datum);
                        for (uint32_t k = 0; k < datum.dimensions_count; k++) {
                                char name[256];
                                if (slice_to_text(datum.dimensions[k].name, name, sizeof(name)))
                                        (void)json_object_set_new(dimensions, name,
                                                                  explain_text(datum.dimensions[k].value));
                        }
                        (void)json_array_append_new(
                                metrics,
                                json_pack("{s:o,s:o}", "metric", explain_text(datum.metric), "dimensions", dimensions));
                }
        }
        metrics_table_get_stats(table, &stats);
        *ret_refused = explain_refused(context, cloudwatch, stats.refused_mask);
        metrics_table_free(table);
        return metrics;
}

/* The bytes that a target gets of the event. */
static json_t *explain_published(const struct explain_context *context, const struct rules_target *target)
{
        struct codec_json_options options = context->options;
        options.redaction = target->redaction;
        size_t room = codec_json_size_max(context->view, &options);
        uint8_t *json = malloc(room);
        if (json == NULL)
                return json_null();
        size_t bytes = codec_json_encode(context->view, &options, json, room);
        json_t *text = explain_text(slice_of(json, bytes));
        free(json);
        return text;
}

static void explain_destination(void *argument, const struct rules_explanation *explanation)
{
        struct explain_context *context = argument;
        const struct rules_target *target = rules_plan_target(context->explain->plan, explanation->target_index);
        bool match = explanation->verdict == RULES_VERDICT_MATCH;
        char room[1200];
        json_t *destination = json_pack("{s:o,s:o,s:b,s:s}", "name", explain_text(explanation->destination), "target",
                                        target == NULL ? json_null() : explain_text(target->key), "match", match,
                                        "reason", explain_reason(context, explanation, room, sizeof(room)));
        if (explanation->member.len > 0)
                (void)json_object_set_new(destination, "member", explain_text(explanation->member));
        json_t *refused = NULL;
        if (match && target != NULL && target->cloudwatch != NULL)
                (void)json_object_set_new(destination, "metrics",
                                          explain_metrics(context, target->cloudwatch, &refused));
        else if (match && target != NULL)
                (void)json_object_set_new(destination, "published", explain_published(context, target));
        if (json_object_size(refused) > 0)
                (void)json_object_set(destination, "refused", refused);
        json_decref(refused);
        if (match && target != NULL && target->event_id)
                (void)json_object_set_new(destination, "eventId", json_true());
        if (match && target != NULL && target->gzip)
                (void)json_object_set_new(destination, "compression", json_string("gzip"));
        (void)json_array_append_new(context->destinations, destination);
}

/* ---------------------------------------------------------------------------------------------- one event */

/* As a shard does it. */
static const char *explain_set(const struct explain *explain, struct codec_view *view, struct slice set)
{
        if (set.len > 0) {
                view->configuration_set = set;
                return "given";
        }
        if (view->configuration_set.len > 0)
                return "event";
        view->configuration_set = rules_plan_default_set_of(explain->plan, view);
        return view->configuration_set.len > 0 ? "default" : "none";
}

/* What the reader could not keep: it is not in the bytes that would be sent. */
static json_t *explain_dropped(const struct jsonl_event *event)
{
        json_t *names = json_array();
        for (uint32_t i = 0; event->dropped != NULL && i < event->members_dropped && i < JSONL_DROPPED_MAX; i++)
                (void)json_array_append_new(names, explain_text(event->dropped[i]));
        return json_pack("{s:I,s:o}", "count", (json_int_t)event->members_dropped, "names", names);
}

char *explain_dropped_text(const json_t *result)
{
        const json_t *dropped = json_object_get(result, "dropped"), *name;
        json_int_t count = json_integer_value(json_object_get(dropped, "count"));
        char *text = NULL;
        size_t bytes = 0, i;
        FILE *out = dropped == NULL ? NULL : open_memstream(&text, &bytes);
        if (out == NULL)
                return NULL;
        (void)fprintf(out, "%" JSON_INTEGER_FORMAT " member%s dropped: ", count, count == 1 ? " is" : "s are");
        json_array_foreach(json_object_get(dropped, "names"), i, name)(void)
                fprintf(out, "%s%s", i == 0 ? "" : ", ", json_string_value(name));
        if (count > (json_int_t)json_array_size(json_object_get(dropped, "names")))
                (void)fputs(" and more", out);
        (void)fclose(out); /* memory */
        return text;
}

json_t *explain_event(const struct explain *explain, struct slice text, struct slice set, char **ret_why)
{
        struct arena arena;
        struct jsonl_event event;
        struct codec_view view;
        struct err err;
        json_t *result = NULL;
        arena_init(&arena, 0, 0);
        *ret_why = NULL;
        if (jsonl_parse(text, &arena, &event, &err) != ERR_OK ||
            codec_view_decode(event.encoded, &view, &err) != ERR_OK) {
                *ret_why = strdup(err.text);
                goto out;
        }
        const char *from = explain_set(explain, &view, set);
        struct explain_context context = {.explain = explain, .view = &view, .destinations = json_array()};
        if (explain->has_settings)
                context.options = (struct codec_json_options){
                        .account_id = slice_of_text(explain->settings.account_id),
                        .region = slice_of_text(explain->settings.region),
                        .partition = slice_of_text(explain->settings.partition),
                };
        bool known = rules_plan_explain(explain->plan, &view, &context.options, explain_destination, &context);
        result = json_pack("{s:s,s:o,s:s,s:b,s:o}", "eventType", codec_event_type_name(view.type), "configurationSet",
                           view.configuration_set.len > 0 ? explain_text(view.configuration_set) : json_null(),
                           "configurationSetFrom", from, "known", known, "destinations", context.destinations);
        if (event.members_dropped > 0)
                (void)json_object_set_new(result, "dropped", explain_dropped(&event));
out:
        arena_release(&arena);
        return result;
}
