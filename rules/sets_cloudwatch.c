/* CloudWatchDestination: its dimensions as SES has them, and what is ours beside it under `Sendring`. */
#include "base/assert.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/prices.h"
#include "rules/rules_internal.h"

#include <stdarg.h>

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
_Static_assert((unsigned)EXTENSION_COMPRESSION == RULES_CLOUDWATCH_COMPRESSION, "it is where others look for it");
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
            !rules_yaml_text(reader, values[2], names[2], 1, LIMIT_CLOUDWATCH_DEFAULT_BYTES_MAX, &value)) {
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
        if (!rules_yaml_text(reader, node, "Sendring.OverflowValue", 1, LIMIT_CLOUDWATCH_DEFAULT_BYTES_MAX, ret_value))
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

/* ---------------------------------------------------------------------------------------------- one target */

bool rules_cloudwatch_equal(const struct rules_cloudwatch *a, const struct rules_cloudwatch *b)
{
        if (!slice_equal(a->namespace, b->namespace) || !slice_equal(a->overflow_value, b->overflow_value) ||
            a->dimensions_count != b->dimensions_count || a->roll_ups_count != b->roll_ups_count ||
            a->series_max != b->series_max || a->period_s != b->period_s || a->json != b->json || a->gzip != b->gzip ||
            a->resend_ambiguous != b->resend_ambiguous)
                return false;
        for (uint32_t i = 0; i < a->dimensions_count; i++)
                if (!slice_equal(a->dimensions[i].name, b->dimensions[i].name) ||
                    !slice_equal(a->dimensions[i].default_value, b->dimensions[i].default_value) ||
                    a->dimensions[i].source != b->dimensions[i].source)
                        return false;
        for (uint32_t i = 0; i < a->roll_ups_count; i++)
                if (a->roll_ups[i] != b->roll_ups[i])
                        return false;
        return true;
}

const struct rules_cloudwatch *rules_cloudwatch_copy(struct arena *arena, const struct rules_cloudwatch *cloudwatch)
{
        struct rules_cloudwatch *copy = arena_alloc(arena, sizeof(*copy));
        if (copy == NULL)
                return NULL;
        *copy = *cloudwatch;
        copy->namespace = arena_copy(arena, cloudwatch->namespace);
        copy->overflow_value = arena_copy(arena, cloudwatch->overflow_value);
        bool good = copy->namespace.ptr != NULL && copy->overflow_value.ptr != NULL;
        for (uint32_t i = 0; i < copy->dimensions_count; i++) {
                struct rules_dimension *dimension = &copy->dimensions[i];
                dimension->name = arena_copy(arena, dimension->name);
                dimension->default_value = arena_copy(arena, dimension->default_value);
                good = good && dimension->name.ptr != NULL && dimension->default_value.ptr != NULL;
        }
        return good ? copy : NULL;
}

/* 10 dimensions of 255 + 255 bytes, 16 roll-ups of 10 digits, two texts of 255 bytes, and the words between. */
#define CLOUDWATCH_KEY_TEXT_BYTES \
        (RULES_DIMENSIONS_MAX * 520u + RULES_ROLL_UPS_MAX * 12u + 2 * LIMIT_CLOUDWATCH_NAME_BYTES_MAX + 256u)

__attribute__((format(printf, 3, 4))) static void cloudwatch_append(char *out, size_t *used, const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        int len = vsnprintf(out + *used, CLOUDWATCH_KEY_TEXT_BYTES - *used, format, arguments);
        va_end(arguments);
        ASSERT(len >= 0 && (size_t)len < CLOUDWATCH_KEY_TEXT_BYTES - *used);
        *used += (size_t)len;
}

struct slice rules_cloudwatch_key(const struct rules_target *target, char out[RULES_TARGET_KEY_BYTES_MAX + 1])
{
        static const char *const sources[] = {"tag", "header", "link"};
        const struct rules_cloudwatch *cloudwatch = target->cloudwatch;
        char text[CLOUDWATCH_KEY_TEXT_BYTES];
        size_t used = 0;
        cloudwatch_append(text, &used, "dimensions=");
        for (uint32_t i = 0; i < cloudwatch->dimensions_count; i++)
                cloudwatch_append(text, &used, "%s%.*s/%s/%.*s", i == 0 ? "" : ",",
                                  SLICE_PRINTF(cloudwatch->dimensions[i].name),
                                  sources[cloudwatch->dimensions[i].source],
                                  SLICE_PRINTF(cloudwatch->dimensions[i].default_value));
        cloudwatch_append(text, &used, " roll-ups="); /* "01,1,": lists of dimensions, a digit each */
        for (uint32_t i = 0; i < cloudwatch->roll_ups_count; i++) {
                for (unsigned mask = cloudwatch->roll_ups[i]; mask != 0; mask &= mask - 1)
                        cloudwatch_append(text, &used, "%d", __builtin_ctz(mask));
                cloudwatch_append(text, &used, "%s", i + 1 == cloudwatch->roll_ups_count ? "" : ",");
        }
        cloudwatch_append(text, &used, " series=%u overflow=%.*s period=%us %s %s %s", cloudwatch->series_max,
                          SLICE_PRINTF(cloudwatch->overflow_value), cloudwatch->period_s,
                          cloudwatch->json ? "json" : "cbor", cloudwatch->gzip ? "gzip" : "plain",
                          cloudwatch->resend_ambiguous ? "resend" : "skip");
        /* The namespace is the only part that may hold spaces: it comes last. */
        const char *region = target->region.len == 0 ? "-" : (const char *)target->region.ptr;
        const char *account = target->account_id.len == 0 ? "-" : (const char *)target->account_id.ptr;
        int len = snprintf(out, RULES_TARGET_KEY_BYTES_MAX + 1, "cloudwatch %s %s %s namespace=%.*s", region, account,
                           text, SLICE_PRINTF(cloudwatch->namespace));
        if (len > (int)RULES_TARGET_KEY_BYTES_MAX) {
                const uint64_t high = hash_bytes(1, slice_of(text, used)), low = hash_bytes(2, slice_of(text, used));
                len = snprintf(out, RULES_TARGET_KEY_BYTES_MAX + 1,
                               "cloudwatch %s %s hash=%016llx%016llx namespace=%.*s", region, account,
                               (unsigned long long)high, (unsigned long long)low, SLICE_PRINTF(cloudwatch->namespace));
        }
        ASSERT(len > 0 && len <= (int)RULES_TARGET_KEY_BYTES_MAX);
        return slice_of(out, (size_t)len);
}

/* ---------------------------------------------------------------------------------------------- what it may cost */

uint32_t rules_cloudwatch_series(const struct rules_cloudwatch *cloudwatch, uint32_t types_count)
{
        /* Without dimensions anywhere nothing is left to the budget. */
        bool has_dimensions = cloudwatch->roll_ups_count > 1 || cloudwatch->roll_ups[0] != 0;
        if (types_count == 0)
                return 0;
        return types_count * cloudwatch->roll_ups_count + (has_dimensions ? cloudwatch->series_max : 0);
}

double rules_cloudwatch_monthly_usd(uint64_t series)
{
        return price_of(&prices_us_east_1.cloudwatch_metric, (double)series);
}
