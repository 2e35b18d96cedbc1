/* CloudWatchDestination: its dimensions as SES has them, and what is ours beside it under `Sendring`. */
#include "base/assert.h"
#include "base/limits.h"
#include "rules/rules_internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* In the order of the names below. */
enum cloudwatch_extension {
        EXTENSION_NAMESPACE,
        EXTENSION_ROLL_UPS,
        EXTENSION_SERIES_MAX,
        EXTENSION_OVERFLOW_VALUE,
        EXTENSION_PERIOD,
        EXTENSION_PROTOCOL,
        EXTENSION_COMPRESSION,
        EXTENSION_AMBIGUOUS_TIMEOUT,
        EXTENSIONS_COUNT,
};
_Static_assert(EXTENSIONS_COUNT == RULES_CLOUDWATCH_EXTENSIONS, "one name for each extension");
const char *const rules_cloudwatch_extensions[RULES_CLOUDWATCH_EXTENSIONS] = {
        "Namespace", "RollUps", "SeriesMax", "OverflowValue", "Period", "Protocol", "Compression", "AmbiguousTimeout"};

#define CLOUDWATCH_NAMESPACE      SLICE("Sendring/SES")
#define CLOUDWATCH_SERIES_MAX     1000u
#define CLOUDWATCH_OVERFLOW_VALUE SLICE("other")
#define CLOUDWATCH_PERIOD_S       60u
#define CLOUDWATCH_PERIOD_MAX_S   3600u /* CloudWatch prorates a series by the hour, and so does the budget */

/* ---------------------------------------------------------------------------------------------- dimensions */

/* What may be a dimension's value, from whichever source it comes. */
#define CLOUDWATCH_VALUE_OTHERS "_-@."

static bool cloudwatch_dimension(struct rules_reader *reader, const struct rules_yaml_node *node,
                                 struct rules_dimension *ret_dimension)
{
        static const char *const names[] = {"DimensionName", "DimensionValueSource", "DefaultDimensionValue"};
        static const char *const sources[] = {"MESSAGE_TAG", "EMAIL_HEADER", "LINK_TAG"};
        static const char *const headers_refused[] = {"Received", "To",         "From",       "DKIM-Signature",
                                                      "CC",       "message-id", "Return-Path"};
        const struct rules_yaml_node *values[COUNT(names)];
        if (!rules_yaml_members(reader, node, "DimensionConfigurations", names, COUNT(names), values))
                return false;
        bool good = true;
        for (size_t i = 0; i < COUNT(names); i++)
                if (values[i] == NULL) {
                        rules_error(reader, node, "a dimension needs %s", names[i]);
                        good = false;
                }
        struct slice name = SLICE_EMPTY, value = SLICE_EMPTY;
        size_t source = 0;
        if (values[0] != NULL &&
            rules_yaml_text(reader, values[0], names[0], 1, LIMIT_CLOUDWATCH_NAME_BYTES_MAX, &name)) {
                if (!rules_is_made_of(name, "_-:")) {
                        rules_error(reader, values[0], "DimensionName %s must be letters, digits, '_', '-' and ':'",
                                    rules_quote(reader, name));
                        good = false;
                } else if (name.ptr[0] == ':') {
                        rules_error(reader, values[0],
                                    "DimensionName %s begins with ':', which CloudWatch does not allow",
                                    rules_quote(reader, name));
                        good = false;
                }
        } else {
                good = false;
        }
        if (values[1] != NULL && !rules_yaml_choice(reader, values[1], names[1], sources, COUNT(sources), &source))
                good = false;
        for (size_t i = 0; source == RULES_DIMENSION_EMAIL_HEADER && i < COUNT(headers_refused); i++)
                if (slice_equal_ignore_case(name, slice_of_text(headers_refused[i]))) {
                        rules_error(reader, values[0], "SES does not allow the header %s as a dimension",
                                    headers_refused[i]);
                        good = false;
                }
        if (values[2] == NULL ||
            !rules_yaml_text(reader, values[2], names[2], 1, LIMIT_CLOUDWATCH_VALUE_BYTES_MAX, &value)) {
                good = false;
        } else if (!rules_is_made_of(value, CLOUDWATCH_VALUE_OTHERS)) {
                rules_error(reader, values[2],
                            "DefaultDimensionValue %s must be letters, digits, '_', '-', '@' and '.'",
                            rules_quote(reader, value));
                good = false;
        }
        *ret_dimension = (struct rules_dimension){
                .name = name, .default_value = value, .source = (enum rules_dimension_source)source};
        return good;
}

static bool cloudwatch_dimensions(struct rules_reader *reader, const struct rules_yaml_node *node,
                                  struct rules_cloudwatch *cloudwatch)
{
        static const char *const names[] = {"DimensionConfigurations"};
        const struct rules_yaml_node *values[COUNT(names)];
        if (!rules_yaml_members(reader, node, "CloudWatchDestination", names, COUNT(names), values))
                return false;
        if (values[0] == NULL || (values[0]->kind == RULES_YAML_LIST && values[0]->count == 0)) {
                rules_error(reader, values[0] == NULL ? node : values[0],
                            "CloudWatch metrics dimension configuration list cannot be empty.");
                return false;
        }
        if (!rules_yaml_list(reader, values[0], names[0]))
                return false;
        bool good = true;
        struct rules_dimension *seen = cloudwatch->dimensions; /* a dimension may be too wrong to have a name */
        uint32_t count = 0;
        for (const struct rules_yaml_node *item = values[0]->first; item != NULL; item = item->next) {
                if (count == RULES_DIMENSIONS_MAX) {
                        rules_error(reader, item, "more than %u dimensions; SES allows %u for a destination",
                                    RULES_DIMENSIONS_MAX, RULES_DIMENSIONS_MAX);
                        return false;
                }
                if (!cloudwatch_dimension(reader, item, &seen[count]))
                        good = false;
                for (uint32_t i = 0; i < count; i++)
                        if (seen[count].name.len > 0 && slice_equal(seen[i].name, seen[count].name)) {
                                rules_error(reader, item, "dimension %s is already there",
                                            rules_quote(reader, seen[count].name));
                                good = false;
                        }
                count++;
        }
        cloudwatch->dimensions_count = count;
        return good;
}

/* ---------------------------------------------------------------------------------------------- extensions */

static bool cloudwatch_namespace(struct rules_reader *reader, const struct rules_yaml_node *node,
                                 struct slice *ret_namespace)
{
        if (!rules_yaml_text(reader, node, "Sendring.Namespace", 1, LIMIT_CLOUDWATCH_NAME_BYTES_MAX, ret_namespace))
                return false;
        struct slice name = *ret_namespace;
        if (slice_has_prefix(name, SLICE("AWS/"))) {
                rules_error(reader, node,
                            "Sendring.Namespace %s: CloudWatch lets only AWS's own services write to namespaces that "
                            "begin with 'AWS/' (\"The value AWS/ for parameter Namespace is invalid.\"); choose one of "
                            "your own, like Sendring/SES",
                            rules_quote(reader, name));
                return false;
        }
        if (name.ptr[0] == ':' || !rules_is_made_of(name, "_-./#: ")) {
                rules_error(reader, node,
                            "Sendring.Namespace %s must be letters, digits, spaces and '_', '-', '.', '/', '#', ':', "
                            "and not begin with ':'",
                            rules_quote(reader, name));
                return false;
        }
        if (slice_trim(name).len == 0) {
                rules_error(reader, node, "Sendring.Namespace is blank");
                return false;
        }
        return true;
}

static bool cloudwatch_roll_up(struct rules_reader *reader, const struct rules_yaml_node *node,
                               const struct rules_cloudwatch *cloudwatch, uint16_t *ret_mask)
{
        const char *names[RULES_DIMENSIONS_MAX];
        uint32_t count = cloudwatch->dimensions_count;
        uint16_t mask = 0;
        bool good = true;
        if (!rules_yaml_list(reader, node, "a roll-up of Sendring.RollUps"))
                return false;
        for (uint32_t i = 0; i < count; i++)
                names[i] = (const char *)cloudwatch->dimensions[i].name.ptr; /* NUL behind it */
        for (const struct rules_yaml_node *item = node->first; item != NULL; item = item->next) {
                struct slice name;
                if (!rules_yaml_text(reader, item, "a dimension of Sendring.RollUps", 1,
                                     LIMIT_CLOUDWATCH_NAME_BYTES_MAX, &name)) {
                        good = false;
                        continue;
                }
                uint32_t place = 0;
                while (place < count && !slice_equal(name, cloudwatch->dimensions[place].name))
                        place++;
                if (place == count) {
                        const char *nearest = rules_nearest(name, names, count);
                        rules_error(reader, item, "%s in Sendring.RollUps is no dimension of this destination%s%s%s",
                                    rules_quote(reader, name), nearest == NULL ? "" : "; did you mean '",
                                    nearest == NULL ? "" : nearest, nearest == NULL ? "" : "'?");
                        good = false;
                } else if ((mask & 1u << place) != 0) {
                        rules_error(reader, item, "%s is in this roll-up twice", rules_quote(reader, name));
                        good = false;
                } else {
                        mask = (uint16_t)(mask | 1u << place);
                }
        }
        *ret_mask = mask;
        return good;
}

static bool cloudwatch_roll_ups(struct rules_reader *reader, const struct rules_yaml_node *node,
                                struct rules_cloudwatch *cloudwatch)
{
        bool good = true;
        if (!rules_yaml_list(reader, node, "Sendring.RollUps"))
                return false;
        if (node->count == 0 || node->count > RULES_ROLL_UPS_MAX) {
                rules_error(reader, node,
                            "Sendring.RollUps must have 1 to %u lists of dimensions, not %u; left out, there is one "
                            "with all dimensions",
                            RULES_ROLL_UPS_MAX, node->count);
                return false;
        }
        uint32_t count = 0;
        for (const struct rules_yaml_node *item = node->first; item != NULL; item = item->next) {
                uint16_t mask;
                if (!cloudwatch_roll_up(reader, item, cloudwatch, &mask)) {
                        good = false;
                        continue;
                }
                for (uint32_t i = 0; i < count; i++)
                        if (cloudwatch->roll_ups[i] == mask) {
                                rules_error(reader, item,
                                            "this roll-up has the same dimensions as an earlier one: its events would "
                                            "be counted twice");
                                good = false;
                        }
                cloudwatch->roll_ups[count++] = mask;
        }
        cloudwatch->roll_ups_count = count;
        return good;
}

static bool cloudwatch_overflow_value(struct rules_reader *reader, const struct rules_yaml_node *node,
                                      struct slice *ret_value)
{
        if (!rules_yaml_text(reader, node, "Sendring.OverflowValue", 1, LIMIT_CLOUDWATCH_VALUE_BYTES_MAX, ret_value))
                return false;
        if (rules_is_made_of(*ret_value, CLOUDWATCH_VALUE_OTHERS))
                return true;
        rules_error(reader, node, "Sendring.OverflowValue %s must be letters, digits, '_', '-', '@' and '.'",
                    rules_quote(reader, *ret_value));
        return false;
}

static bool cloudwatch_period(struct rules_reader *reader, const struct rules_yaml_node *node, uint32_t *ret_period_s)
{
        uint64_t seconds;
        if (!rules_yaml_quantity(reader, node, "Sendring.Period", &rules_units_s, 1, CLOUDWATCH_PERIOD_MAX_S, &seconds))
                return false;
        if (CLOUDWATCH_PERIOD_MAX_S % seconds != 0) {
                rules_error(reader, node,
                            "Sendring.Period must divide an hour, like 1s, 10s, 60s or 5m, so that periods begin with "
                            "the clock's minutes and hours; %s does not",
                            rules_quantity_text(reader, &rules_units_s, seconds));
                return false;
        }
        *ret_period_s = (uint32_t)seconds;
        return true;
}

static bool cloudwatch_either(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                              const char *const *choices, bool *ret_is_second)
{
        size_t index;
        if (node == NULL)
                return true;
        if (!rules_yaml_choice(reader, node, what, choices, 2, &index))
                return false;
        *ret_is_second = index == 1;
        return true;
}

bool rules_cloudwatch_read(struct rules_reader *reader, const struct rules_yaml_node *node,
                           const struct rules_yaml_node *const *extensions, struct rules_cloudwatch *ret_cloudwatch)
{
        static const char *const protocols[] = {"cbor", "json"};
        static const char *const compressions[] = {"none", "gzip"};
        static const char *const ambiguities[] = {"skip", "resend"};
        struct rules_cloudwatch cloudwatch = {
                .namespace = CLOUDWATCH_NAMESPACE,
                .series_max = CLOUDWATCH_SERIES_MAX,
                .overflow_value = CLOUDWATCH_OVERFLOW_VALUE,
                .period_s = CLOUDWATCH_PERIOD_S,
                .gzip = true,
                .resend_ambiguous = true,
        };
        const struct rules_yaml_node *given;
        uint64_t series_max = CLOUDWATCH_SERIES_MAX;
        bool dimensions_good = cloudwatch_dimensions(reader, node, &cloudwatch), good = dimensions_good;
        cloudwatch.roll_ups[0] = (uint16_t)((1u << cloudwatch.dimensions_count) - 1u);
        cloudwatch.roll_ups_count = 1;
        if ((given = extensions[EXTENSION_NAMESPACE]) != NULL)
                good = cloudwatch_namespace(reader, given, &cloudwatch.namespace) && good;
        /* Names of wrong dimensions would only be said to be unknown. */
        if ((given = extensions[EXTENSION_ROLL_UPS]) != NULL && dimensions_good)
                good = cloudwatch_roll_ups(reader, given, &cloudwatch) && good;
        if ((given = extensions[EXTENSION_SERIES_MAX]) != NULL)
                good = rules_yaml_quantity(reader, given, "Sendring.SeriesMax", &rules_units_none, 1,
                                           LIMIT_CLOUDWATCH_SERIES_MAX, &series_max) &&
                       good;
        cloudwatch.series_max = (uint32_t)series_max;
        if ((given = extensions[EXTENSION_OVERFLOW_VALUE]) != NULL)
                good = cloudwatch_overflow_value(reader, given, &cloudwatch.overflow_value) && good;
        if ((given = extensions[EXTENSION_PERIOD]) != NULL)
                good = cloudwatch_period(reader, given, &cloudwatch.period_s) && good;
        good = cloudwatch_either(reader, extensions[EXTENSION_PROTOCOL], "Sendring.Protocol", protocols,
                                 &cloudwatch.json) &&
               good;
        good = cloudwatch_either(reader, extensions[EXTENSION_COMPRESSION], "Sendring.Compression", compressions,
                                 &cloudwatch.gzip) &&
               good;
        good = cloudwatch_either(reader, extensions[EXTENSION_AMBIGUOUS_TIMEOUT], "Sendring.AmbiguousTimeout",
                                 ambiguities, &cloudwatch.resend_ambiguous) &&
               good;
        *ret_cloudwatch = cloudwatch;
        return good;
}
