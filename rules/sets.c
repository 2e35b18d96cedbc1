/* configuration-sets.yaml: SESv2's shapes (CreateConfigurationSet, EventDestinationDefinition), checked member by
 * member and handed to the plan's builder. The sentences that AWS itself answers with are used where there are some. */
#include "base/limits.h"
#include "rules/pattern.h"
#include "rules/sets_internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* In the order of enum sendring_event_type, from 1. */
static const char *const sets_event_types[] = {"SEND",      "RENDERING_FAILURE", "REJECT",       "DELIVERY", "BOUNCE",
                                               "COMPLAINT", "DELIVERY_DELAY",    "SUBSCRIPTION", "OPEN",     "CLICK"};
_Static_assert(COUNT(sets_event_types) == SENDRING_CLICK, "one name for each event type");

const char *rules_event_type_name(enum sendring_event_type type)
{
        return (unsigned)type - 1u < COUNT(sets_event_types) ? sets_event_types[(unsigned)type - 1u] : NULL;
}

/* ---------------------------------------------------------------------------------------------- names and types */

static bool sets_name(struct rules_reader *reader, const struct rules_yaml_node *node, const char *kind,
                      struct slice *ret_name)
{
        struct slice name;
        if (!rules_yaml_text(reader, node, kind, 1, 1024, &name))
                return false;
        if (!rules_is_made_of(name, "_-")) {
                rules_error(reader, node,
                            "Invalid %s <%.*s>: only alphanumeric ASCII characters, '_', and '-' are allowed.", kind,
                            (int)(name.len > 80 ? 80 : name.len), (const char *)name.ptr);
                return false;
        }
        if (name.len > LIMIT_NAME_BYTES_MAX) {
                rules_error(reader, node, "%c%s cannot exceed %u characters.", kind[0] - 'a' + 'A', kind + 1,
                            LIMIT_NAME_BYTES_MAX);
                return false;
        }
        *ret_name = name;
        return true;
}

static bool sets_types(struct rules_reader *reader, const struct rules_yaml_node *definition,
                       const struct rules_yaml_node *node, uint16_t *ret_mask)
{
        if (node == NULL) {
                rules_error(reader, definition, "At least one event type must be specified. (MatchingEventTypes)");
                return false;
        }
        if (!rules_yaml_list(reader, node, "MatchingEventTypes"))
                return false;
        if (node->count == 0) {
                rules_error(reader, node, "At least one event type must be specified. (MatchingEventTypes)");
                return false;
        }
        uint16_t mask = 0;
        bool good = true;
        for (const struct rules_yaml_node *item = node->first; item != NULL; item = item->next) {
                size_t index;
                if (!rules_yaml_choice(reader, item, "event type", sets_event_types, COUNT(sets_event_types), &index)) {
                        good = false;
                        continue;
                }
                uint16_t bit = (uint16_t)(1u << (index + 1));
                if ((mask & bit) != 0)
                        rules_warning(reader, item, "event type %s is listed twice", sets_event_types[index]);
                mask |= bit;
        }
        *ret_mask = mask;
        return good;
}

/* ---------------------------------------------------------------------------------------------- filters */

/* Filters that were compiled a short while ago, by their hash. The same filter in many places, by an alias or written
 * out, is mostly one in memory: thousands of sets made from a template ask it while it is in the cache. */
struct sets_filter {
        const struct rules_yaml_node *node;  /* NULL: none yet */
        const struct rules_pattern *pattern; /* NULL: it had mistakes, which were said */
        uint64_t hash;
        bool is_clean; /* it had no findings: those are said for each place where it is written */
};
#define SETS_FILTERS 8192u

static bool sets_filter_is(const struct sets_filter *known, const struct rules_yaml_node *node, uint64_t hash)
{
        if (known->node == NULL || known->hash != hash)
                return false;
        bool is_alias = known->node->kind == RULES_YAML_MAP && node->kind == RULES_YAML_MAP && node->count > 0 &&
                        known->node->first == node->first;
        return is_alias || (known->is_clean && rules_yaml_equal(known->node, node));
}

static bool sets_filter(struct sets_reader *sets, const struct rules_yaml_node *node,
                        struct sets_destination *destination)
{
        if (node == NULL)
                return true;
        uint64_t hash = rules_yaml_hash(0, node);
        struct sets_filter *known = &sets->filters[hash % SETS_FILTERS]; /* maybe another one */
        if (!sets_filter_is(known, node, hash)) {
                const struct rules_report *report = sets->reader.report;
                uint32_t findings = report->errors + report->warnings;
                *known = (struct sets_filter){.node = node, .hash = hash};
                (void)rules_pattern_compile(&sets->reader, node, rules_plan_builder_arena(sets->builder),
                                            &known->pattern);
                known->is_clean = report->errors + report->warnings == findings;
        }
        destination->filter = known->pattern;
        return known->pattern != NULL;
}

/* ---------------------------------------------------------------------------------------------- services to come */

/* A destination that is one ARN. */
static bool sets_arn_destination(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                                 const char *member, const char *service, const char *resource_prefix,
                                 const char *example)
{
        const struct rules_yaml_node *value;
        struct rules_arn arn;
        if (!rules_yaml_members(reader, node, what, &member, 1, &value))
                return false;
        if (value == NULL) {
                rules_error(reader, node, "%s needs %s, like %s", what, member, example);
                return false;
        }
        if (!rules_yaml_arn(reader, value, member, service, resource_prefix, example, &arn))
                return false;
        if (strcmp(service, "sns") == 0 && slice_has_suffix(arn.resource, SLICE(".fifo"))) {
                rules_error(reader, value, "%s is a FIFO topic; SES publishes to standard topics only",
                            rules_quote(reader, arn.resource));
                return false;
        }
        if (arn.resource.len > 256 || !rules_is_made_of(arn.resource, "_-./")) {
                rules_error(reader, value, "the name %s in %s has characters that are not allowed",
                            rules_quote(reader, arn.resource), member);
                return false;
        }
        return true;
}

/* ---------------------------------------------------------------------------------------------- one destination */

enum sets_member {
        SETS_ENABLED,
        SETS_TYPES,
        SETS_FIREHOSE,
        SETS_CLOUDWATCH,
        SETS_SNS,
        SETS_EVENTBRIDGE,
        SETS_PINPOINT,
        SETS_SENDRING,
        SETS_MEMBERS, /* of a definition; behind them the ones of the entry, for the flat form */
        SETS_EVENT_DESTINATION_NAME = SETS_MEMBERS,
        SETS_NAME,
        SETS_EVENT_DESTINATION,
        SETS_ENTRY_MEMBERS,
};
static const char *const sets_members[] = {"Enabled",
                                           "MatchingEventTypes",
                                           "KinesisFirehoseDestination",
                                           "CloudWatchDestination",
                                           "SnsDestination",
                                           "EventBridgeDestination",
                                           "PinpointDestination",
                                           "Sendring",
                                           "EventDestinationName",
                                           "Name",
                                           "EventDestination"};
_Static_assert(COUNT(sets_members) == SETS_ENTRY_MEMBERS, "one name for each member");

/* Says that events will not go there. A disabled destination was not expected to publish. */
static void sets_not_published(struct rules_reader *reader, const struct sets_destination *destination,
                               const struct rules_yaml_node *node, const char *member)
{
        if (destination->enabled)
                rules_warning(reader, node, "%s: this version does not publish to it yet; no event goes there", member);
}

/* Each belongs to one kind of destination. */
static bool sets_extensions_belong(struct rules_reader *reader, const char *const *names,
                                   const struct rules_yaml_node *const *extensions,
                                   const struct rules_yaml_node *const *values)
{
        bool good = true;
        for (size_t i = SETS_PACKING; i < SETS_EXTENSIONS; i++) {
                bool is_cloudwatch = i >= SETS_CLOUDWATCH_FIRST;
                if (extensions[i] == NULL || i == SETS_FILTER ||
                    values[is_cloudwatch ? SETS_CLOUDWATCH : SETS_FIREHOSE] != NULL)
                        continue;
                if (i == SETS_EVENT_ID || i == SETS_REDACTION) { /* of destinations that get the record itself */
                        if (values[SETS_CLOUDWATCH] == NULL)
                                continue;
                        rules_error(reader, extensions[i], "Sendring.%s says nothing about metrics; leave it out",
                                    names[i]);
                        good = false;
                        continue;
                }
                bool is_of_both = i == SETS_RATE || i == SETS_ENDPOINT || i == SETS_COMPRESSION;
                if (is_of_both && (values[SETS_CLOUDWATCH] != NULL || values[SETS_FIREHOSE] != NULL))
                        continue;
                rules_error(reader, extensions[i], "Sendring.%s belongs to a %s destination", names[i],
                            is_of_both      ? "Firehose or CloudWatch"
                            : is_cloudwatch ? "CloudWatch"
                                            : "Firehose");
                good = false;
        }
        return good;
}

static bool sets_definition(struct sets_reader *sets, struct sets_destination *destination,
                            const struct rules_yaml_node *const *values, uint32_t *ret_target_index)
{
        struct rules_reader *reader = &sets->reader;
        const char *ours[SETS_EXTENSIONS] = {"FileDestination", "Packing", "PackingEventsMax", "EventId",
                                             "Redaction",       "Rate",    "Endpoint",         "Filter"};
        for (size_t i = 0; i < RULES_CLOUDWATCH_EXTENSIONS; i++)
                ours[SETS_CLOUDWATCH_FIRST + i] = rules_cloudwatch_extensions[i];
        const struct rules_yaml_node *extensions[SETS_EXTENSIONS] = {NULL};
        bool good = true;
        if (values[SETS_ENABLED] == NULL)
                rules_warning(reader, destination->node,
                              "Enabled is not given, so the destination is off, as with SES");
        else if (!rules_yaml_bool(reader, values[SETS_ENABLED], "Enabled", &destination->enabled))
                good = false;
        if (!sets_types(reader, destination->node, values[SETS_TYPES], &destination->event_types_mask))
                good = false;
        if (values[SETS_SENDRING] != NULL &&
            !rules_yaml_members(reader, values[SETS_SENDRING], "Sendring", ours, SETS_EXTENSIONS, extensions))
                return false;
        if (!sets_filter(sets, extensions[SETS_FILTER], destination))
                good = false;
        uint32_t given = extensions[SETS_FILE] != NULL;
        for (size_t i = SETS_FIREHOSE; i <= SETS_PINPOINT; i++)
                given += values[i] != NULL;
        if (given == 0) {
                rules_error(reader, destination->node,
                            "Event destination is not provided. (one of KinesisFirehoseDestination, "
                            "CloudWatchDestination, SnsDestination, EventBridgeDestination or "
                            "Sendring: {FileDestination: ...})");
                return false;
        }
        if (given > 1) {
                rules_error(reader, destination->node,
                            "Please provide only one destination with each request. Either a Firehose Destination or a "
                            "Cloudwatch Destination or an SNS Destination or an EventBridge Destination.");
                return false;
        }
        good = sets_extensions_belong(reader, ours, extensions, values) && good;
        if (!rules_published_read(reader, extensions[SETS_EVENT_ID], extensions[SETS_REDACTION], &sets->published))
                return false;
        const struct rules_yaml_node *node;
        *ret_target_index = RULES_TARGET_NONE;
        if ((node = values[SETS_FIREHOSE]) != NULL)
                return sets_firehose(sets, node, extensions, ret_target_index) && good;
        if ((node = extensions[SETS_FILE]) != NULL)
                return sets_file(sets, node, ret_target_index) && good;
        if ((node = values[SETS_CLOUDWATCH]) != NULL) {
                return sets_cloudwatch(sets, destination, node, extensions, ret_target_index) && good;
        }
        if ((node = values[SETS_SNS]) != NULL) {
                sets_not_published(reader, destination, node, sets_members[SETS_SNS]);
                return sets_arn_destination(reader, node, sets_members[SETS_SNS], "TopicArn", "sns", "",
                                            "arn:aws:sns:us-east-1:123456789012:NAME") &&
                       good;
        }
        if ((node = values[SETS_EVENTBRIDGE]) != NULL) {
                sets_not_published(reader, destination, node, sets_members[SETS_EVENTBRIDGE]);
                return sets_arn_destination(reader, node, sets_members[SETS_EVENTBRIDGE], "EventBusArn", "events",
                                            "event-bus/", "arn:aws:events:us-east-1:123456789012:event-bus/default") &&
                       good;
        }
        node = values[SETS_PINPOINT];
        rules_warning(reader, node,
                      "PinpointDestination: AWS ended Amazon Pinpoint on 2026-10-30; no event goes there");
        if ((destination->event_types_mask & (1u << SENDRING_DELIVERY_DELAY | 1u << SENDRING_SUBSCRIPTION)) != 0) {
                rules_error(reader, values[SETS_TYPES],
                            "a Pinpoint destination takes no DELIVERY_DELAY and no SUBSCRIPTION");
                good = false;
        }
        return sets_arn_destination(reader, node, sets_members[SETS_PINPOINT], "ApplicationArn", "mobiletargeting",
                                    "apps/", "arn:aws:mobiletargeting:us-east-1:123456789012:apps/ID") &&
               good;
}

/* Both forms: {EventDestinationName, EventDestination: {...}} and, as GetConfigurationSetEventDestinations returns it,
 * {Name, Enabled, MatchingEventTypes, ...}. */
static bool sets_entry(struct sets_reader *sets, const struct rules_yaml_node *node, struct slice *names,
                       uint32_t *names_count)
{
        struct rules_reader *reader = &sets->reader;
        const struct rules_yaml_node *values[SETS_ENTRY_MEMBERS];
        if (!rules_yaml_members(reader, node, "an event destination", sets_members, SETS_ENTRY_MEMBERS, values))
                return false;
        struct sets_destination destination = {.node = node};
        bool good = true;
        const struct rules_yaml_node *name = values[SETS_EVENT_DESTINATION_NAME];
        if (name != NULL && values[SETS_NAME] != NULL) {
                rules_error(reader, values[SETS_NAME], "Name and EventDestinationName mean the same; give one of them");
                good = false;
        }
        name = name != NULL ? name : values[SETS_NAME];
        if (name == NULL) {
                rules_error(reader, node, "an event destination needs EventDestinationName");
                good = false;
        } else if (!sets_name(reader, name, "event destination name", &destination.name)) {
                good = false;
        }
        for (uint32_t i = 0; good && i < *names_count; i++)
                if (slice_equal(names[i], destination.name)) {
                        rules_error(reader, name, "event destination %s is already in this set",
                                    rules_quote(reader, destination.name));
                        good = false;
                }
        if (values[SETS_EVENT_DESTINATION] != NULL) {
                for (size_t i = 0; i < SETS_MEMBERS; i++)
                        if (values[i] != NULL) {
                                rules_error(reader, values[i], "%s belongs inside EventDestination", sets_members[i]);
                                good = false;
                        }
                destination.node = values[SETS_EVENT_DESTINATION];
                if (!rules_yaml_members(reader, destination.node, "EventDestination", sets_members, SETS_MEMBERS,
                                        values))
                        return false;
        }
        uint32_t target_index;
        if (!sets_definition(sets, &destination, values, &target_index) || !good)
                return false;
        names[(*names_count)++] = destination.name;
        if (!rules_plan_builder_destination(sets->builder, destination.name, destination.enabled,
                                            destination.event_types_mask, target_index, destination.filter)) {
                reader->out_of_memory = true;
                return false;
        }
        return true;
}

/* ---------------------------------------------------------------------------------------------- sets */

static bool sets_destinations(struct sets_reader *sets, const struct rules_yaml_node *list)
{
        struct rules_reader *reader = &sets->reader;
        if (list == NULL)
                return true;
        if (!rules_yaml_list(reader, list, "EventDestinations"))
                return false;
        struct slice names[LIMIT_DESTINATIONS_PER_SET_MAX];
        uint32_t names_count = 0, count = 0;
        bool good = true;
        for (const struct rules_yaml_node *item = list->first; item != NULL; item = item->next) {
                if (count++ == LIMIT_DESTINATIONS_PER_SET_MAX) {
                        rules_error(reader, item, "more than %u event destinations; SES allows %u for a set",
                                    LIMIT_DESTINATIONS_PER_SET_MAX, LIMIT_DESTINATIONS_PER_SET_MAX);
                        return false;
                }
                good = sets_entry(sets, item, names, &names_count) && good;
        }
        return good;
}

/* Destinations are added to a set even when its options are wrong, so that all their mistakes are found too; a plan
 * with mistakes is thrown away. */
static void sets_set(struct sets_reader *sets, const struct rules_yaml_node *node)
{
        struct rules_reader *reader = &sets->reader;
        enum { SET_NAME, SET_DESTINATIONS, SET_OPTIONS, SET_MEMBERS = SET_OPTIONS + RULES_OPTIONS_COUNT };
        const char *names[SET_MEMBERS] = {"ConfigurationSetName", "EventDestinations"};
        for (size_t i = 0; i < RULES_OPTIONS_COUNT; i++)
                names[SET_OPTIONS + i] = rules_options_names[i];
        const struct rules_yaml_node *values[SET_MEMBERS];
        if (!rules_yaml_members(reader, node, "a configuration set", names, SET_MEMBERS, values))
                return;
        for (size_t i = 0; i < RULES_OPTIONS_COUNT; i++)
                if (values[SET_OPTIONS + i] != NULL)
                        rules_options_check(reader, i, values[SET_OPTIONS + i]);
        struct slice name = SLICE_EMPTY;
        uint32_t line = 0;
        if (values[SET_NAME] == NULL)
                rules_error(reader, node, "a configuration set needs ConfigurationSetName");
        else if (sets_name(reader, values[SET_NAME], "configuration set name", &name))
                line = rules_plan_builder_find(sets->builder, name);
        if (line != 0)
                rules_error(reader, values[SET_NAME], "configuration set %s is already there on line %u",
                            rules_quote(reader, name), line);
        /* A set without a usable name still takes its place, under the empty name that no look-up asks for. */
        if (line != 0)
                name = SLICE_EMPTY;
        if (!rules_plan_builder_set(sets->builder, name, node->line)) {
                reader->out_of_memory = true;
                return;
        }
        (void)sets_destinations(sets, values[SET_DESTINATIONS]); /* its findings decide */
}

static const struct rules_yaml_node *sets_list(struct rules_reader *reader, const struct rules_yaml_node *root)
{
        static const char *const names[] = {"ConfigurationSets"};
        const struct rules_yaml_node *list;
        if (rules_yaml_is_null(root)) {
                rules_error(reader, root, "the file is empty; it should begin with 'ConfigurationSets:' and a list");
                return NULL;
        }
        if (root->kind == RULES_YAML_LIST) {
                rules_error(reader, root, "the list of sets belongs under 'ConfigurationSets:'");
                return NULL;
        }
        if (!rules_yaml_members(reader, root, "the file", names, COUNT(names), &list))
                return NULL;
        if (list == NULL) {
                rules_error(reader, root, "ConfigurationSets is missing; without sets write 'ConfigurationSets: []'");
                return NULL;
        }
        if (!rules_yaml_list(reader, list, names[0]))
                return NULL;
        if (list->count > LIMIT_CONFIGURATION_SETS_MAX) {
                rules_error(reader, list, "%u configuration sets; SES allows %u", list->count,
                            LIMIT_CONFIGURATION_SETS_MAX);
                return NULL;
        }
        if (list->count == 0)
                rules_warning(reader, list, "there are no configuration sets: no event goes anywhere");
        return list;
}

static void sets_check_defaults(struct sets_reader *sets, const struct rules_settings *settings,
                                const struct rules_yaml_node *list)
{
        struct slice name = slice_of_text(settings->default_configuration_set);
        if (name.len != 0 && rules_plan_builder_find(sets->builder, name) == 0)
                rules_error(&sets->reader, list, "the settings name %s as default_configuration_set; it is not here",
                            rules_quote(&sets->reader, name));
        for (size_t i = 0; i < settings->default_configuration_sets_count; i++) {
                const struct rules_default_set *one = &settings->default_configuration_sets[i];
                if (rules_plan_builder_find(sets->builder, slice_of_text(one->set)) == 0)
                        rules_error(&sets->reader, list,
                                    "the settings name %s as the default configuration set of %s; it is not here",
                                    rules_quote(&sets->reader, slice_of_text(one->set)), one->domain);
        }
        if (!rules_plan_builder_defaults(sets->builder, settings->default_configuration_sets,
                                         settings->default_configuration_sets_count))
                sets->reader.out_of_memory = true;
}

/* The file's text is read from `path` when `text` is NULL. */
static enum err_code sets_read(const char *path, const struct slice *text, bool elsewhere,
                               const struct rules_settings *settings, struct rules_keys *keys,
                               struct rules_plan **ret_plan, struct rules_report *report)
{
        struct arena arena;
        arena_init(&arena, (size_t)1024 * 1024, 0);
        struct sets_reader sets = {.settings = settings};
        struct rules_reader *reader = &sets.reader;
        struct rules_plan *plan = NULL;
        enum err_code code = ERR_MEMORY;
        if (!rules_reader_begin(reader, path, &arena, report))
                goto out;
        reader->keys = keys;
        reader->elsewhere = elsewhere;
        sets.filters = arena_alloc_array(&arena, SETS_FILTERS, sizeof(*sets.filters));
        if (sets.filters == NULL)
                goto out;
        const struct rules_yaml_node *root = NULL, *list = NULL;
        if (text == NULL ? rules_yaml_load(reader, path, &root) : rules_yaml_parse(reader, *text, &root))
                list = sets_list(reader, root);
        if (list != NULL) {
                sets.builder = rules_plan_builder_create(list->count);
                if (sets.builder == NULL)
                        goto out;
                for (const struct rules_yaml_node *item = list->first; item != NULL; item = item->next)
                        sets_set(&sets, item);
                struct slice default_set =
                        settings == NULL ? SLICE_EMPTY : slice_of_text(settings->default_configuration_set);
                if (settings != NULL)
                        sets_check_defaults(&sets, settings, list);
                if (report->errors == reader->errors_before && !reader->out_of_memory) {
                        plan = rules_plan_builder_finish(sets.builder, default_set);
                        reader->out_of_memory = plan == NULL;
                }
        }
        code = rules_reader_end(reader);
out:
        rules_published_clear(&sets.published);
        rules_plan_builder_free(sets.builder);
        arena_release(&arena);
        if (code == ERR_OK)
                *ret_plan = plan;
        else
                rules_plan_free(plan);
        return code;
}

enum err_code rules_plan_load(const char *path, const struct rules_settings *settings, struct rules_plan **ret_plan,
                              struct rules_report *report)
{
        *ret_plan = NULL;
        return sets_read(path, NULL, false, settings, NULL, ret_plan, report);
}

enum err_code rules_plan_load_elsewhere(const char *path, const struct rules_settings *settings,
                                        struct rules_plan **ret_plan, struct rules_report *report)
{
        *ret_plan = NULL;
        return sets_read(path, NULL, true, settings, NULL, ret_plan, report);
}

enum err_code rules_plan_parse(const char *path, struct slice text, const struct rules_settings *settings,
                               struct rules_plan **ret_plan, struct rules_report *report)
{
        *ret_plan = NULL;
        return sets_read(path, &text, false, settings, NULL, ret_plan, report);
}

enum err_code rules_plan_parse_with_keys(const char *path, struct slice text, const struct rules_settings *settings,
                                         struct rules_keys *keys, struct rules_plan **ret_plan,
                                         struct rules_report *report)
{
        *ret_plan = NULL;
        return sets_read(path, &text, false, settings, keys, ret_plan, report);
}
