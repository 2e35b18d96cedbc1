/* The options of a configuration set that SES has and that have no effect here: checked against one table, so that a
 * file that this program accepts is one that SES would accept. */
#include "rules/rules_internal.h"

enum option_kind {
        OPTION_END = 0,
        OPTION_MAP,
        OPTION_BOOL,
        OPTION_TEXT,
        OPTION_CHOICE,
        OPTION_CHOICES,
        OPTION_NUMBER,
        OPTION_TIME,
        OPTION_ARCHIVE
};

#define OPTION_CHOICES_MAX 3
#define OPTION_MEMBERS_MAX 3

struct option {
        const char *name;
        enum option_kind kind;
        bool required;
        const struct option *members;                /* map: ended by OPTION_END */
        const char *choices[OPTION_CHOICES_MAX + 1]; /* ended by NULL */
        uint64_t min, max;                           /* number; text: bytes */
};

static const struct option option_tracking[] = {
        {"CustomRedirectDomain", OPTION_TEXT, .required = true, .min = 1, .max = 253},
        {"HttpsPolicy", OPTION_CHOICE, .choices = {"REQUIRE", "REQUIRE_OPEN_ONLY", "OPTIONAL"}},
        {NULL, OPTION_END}};
static const struct option option_delivery[] = {{"TlsPolicy", OPTION_CHOICE, .choices = {"REQUIRE", "OPTIONAL"}},
                                                {"SendingPoolName", OPTION_TEXT, .min = 1, .max = 256},
                                                {"MaxDeliverySeconds", OPTION_NUMBER, .min = 300, .max = 50400},
                                                {NULL, OPTION_END}};
static const struct option option_reputation[] = {
        {"ReputationMetricsEnabled", OPTION_BOOL}, {"LastFreshStart", OPTION_TIME}, {NULL, OPTION_END}};
static const struct option option_sending[] = {{"SendingEnabled", OPTION_BOOL}, {NULL, OPTION_END}};
static const struct option option_confidence[] = {
        {"ConfidenceVerdictThreshold", OPTION_CHOICE, .required = true, .choices = {"MEDIUM", "HIGH", "MANAGED"}},
        {NULL, OPTION_END}};
static const struct option option_threshold[] = {
        {"ConditionThresholdEnabled", OPTION_CHOICE, .required = true, .choices = {"ENABLED", "DISABLED"}},
        {"OverallConfidenceThreshold", OPTION_MAP, .members = option_confidence},
        {NULL, OPTION_END}};
static const struct option option_validation[] = {
        {"ConditionThreshold", OPTION_MAP, .required = true, .members = option_threshold}, {NULL, OPTION_END}};
static const struct option option_suppression[] = {
        {"SuppressedReasons", OPTION_CHOICES, .choices = {"BOUNCE", "COMPLAINT"}},
        {"SuppressionScope", OPTION_CHOICE, .choices = {"ACCOUNT", "TENANT"}},
        {"ValidationOptions", OPTION_MAP, .members = option_validation},
        {NULL, OPTION_END}};
static const struct option option_dashboard[] = {
        {"EngagementMetrics", OPTION_CHOICE, .choices = {"ENABLED", "DISABLED"}}, {NULL, OPTION_END}};
static const struct option option_guardian[] = {
        {"OptimizedSharedDelivery", OPTION_CHOICE, .choices = {"ENABLED", "DISABLED"}}, {NULL, OPTION_END}};
static const struct option option_vdm[] = {{"DashboardOptions", OPTION_MAP, .members = option_dashboard},
                                           {"GuardianOptions", OPTION_MAP, .members = option_guardian},
                                           {NULL, OPTION_END}};
static const struct option option_archiving[] = {{"ArchiveArn", OPTION_ARCHIVE}, {NULL, OPTION_END}};

/* Tags are a list and stand last. */
const char *const rules_options_names[RULES_OPTIONS_COUNT] = {
        "TrackingOptions",    "DeliveryOptions", "ReputationOptions", "SendingOptions",
        "SuppressionOptions", "VdmOptions",      "ArchivingOptions",  "Tags"};
static const struct option *const option_maps[RULES_OPTIONS_COUNT] = {
        option_tracking,    option_delivery, option_reputation, option_sending,
        option_suppression, option_vdm,      option_archiving,  NULL};

static size_t option_choices_count(const struct option *option)
{
        size_t count = 0;
        while (option->choices[count] != NULL)
                count++;
        return count;
}

/* Unix seconds, as the API has it, or the ISO 8601 text that the AWS CLI prints. */
static void option_time(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what)
{
        struct slice text;
        if (!rules_yaml_text(reader, node, what, 1, 64, &text))
                return;
        size_t digits = 0, dots = 0;
        for (size_t i = 0; i < text.len; i++) {
                digits += text.ptr[i] >= '0' && text.ptr[i] <= '9';
                dots += text.ptr[i] == '.' && i > 0;
        }
        bool is_number = digits > 0 && dots <= 1 && digits + dots == text.len;
        bool is_iso = text.len >= 19 && text.ptr[4] == '-' && text.ptr[7] == '-' && digits >= 14;
        if (!is_number && !is_iso)
                rules_error(reader, node, "%s must be Unix seconds such as 1767323045, or 2026-01-02T03:04:05Z, not %s",
                            what, rules_describe(reader, node));
}

static void option_map(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                       const struct option *members);

static void option_value(struct rules_reader *reader, const struct rules_yaml_node *node, const struct option *option)
{
        struct slice text;
        uint64_t number;
        size_t index;
        bool value;
        struct rules_arn arn;
        switch (option->kind) {
        case OPTION_END:
                return;
        case OPTION_MAP: /* as deep as the table */
                option_map(reader, node, option->name, option->members);
                return;
        case OPTION_BOOL:
                (void)rules_yaml_bool(reader, node, option->name, &value); /* only the finding matters, in each case */
                return;
        case OPTION_TEXT:
                (void)rules_yaml_text(reader, node, option->name, option->min, option->max, &text);
                return;
        case OPTION_CHOICE:
                (void)rules_yaml_choice(reader, node, option->name, option->choices, option_choices_count(option),
                                        &index);
                return;
        case OPTION_CHOICES:
                if (!rules_yaml_list(reader, node, option->name))
                        return;
                for (const struct rules_yaml_node *item = node->first; item != NULL; item = item->next)
                        (void)rules_yaml_choice(reader, item, option->name, option->choices,
                                                option_choices_count(option), &index);
                return;
        case OPTION_NUMBER:
                (void)rules_yaml_quantity(reader, node, option->name, &rules_units_none, option->min, option->max,
                                          &number);
                return;
        case OPTION_TIME:
                option_time(reader, node, option->name);
                return;
        case OPTION_ARCHIVE:
                (void)rules_yaml_arn(reader, node, option->name, "ses", "mailmanager-archive/",
                                     "arn:aws:ses:us-east-1:123456789012:mailmanager-archive/a-ID", &arn);
                return;
        }
}

static void option_map(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                       const struct option *members)
{
        const char *names[OPTION_MEMBERS_MAX] = {NULL};
        const struct rules_yaml_node *values[OPTION_MEMBERS_MAX];
        size_t count = 0;
        for (; members[count].kind != OPTION_END; count++)
                names[count] = members[count].name;
        if (!rules_yaml_members(reader, node, what, names, count, values))
                return;
        for (size_t i = 0; i < count; i++) {
                if (values[i] != NULL)
                        option_value(reader, values[i], &members[i]);
                else if (members[i].required)
                        rules_error(reader, node, "%s needs %s", what, names[i]);
        }
}

static void option_tags(struct rules_reader *reader, const struct rules_yaml_node *node)
{
        enum { TAGS_MAX = 50 };
        static const char *const names[] = {"Key", "Value"};
        struct slice seen[TAGS_MAX], value;
        uint32_t count = 0;
        if (!rules_yaml_list(reader, node, "Tags"))
                return;
        if (node->count > TAGS_MAX) {
                rules_error(reader, node, "%u Tags; SES allows %d", node->count, TAGS_MAX);
                return;
        }
        for (const struct rules_yaml_node *item = node->first; item != NULL; item = item->next) {
                const struct rules_yaml_node *values[2];
                if (!rules_yaml_members(reader, item, "a tag", names, 2, values))
                        continue;
                if (values[0] == NULL || values[1] == NULL)
                        rules_error(reader, item, "a tag needs Key and Value");
                if (values[1] != NULL)
                        (void)rules_yaml_text(reader, values[1], "Value of a tag", 0, 256, &value); /* as above */
                if (values[0] == NULL || !rules_yaml_text(reader, values[0], "Key of a tag", 1, 128, &seen[count]))
                        continue;
                for (uint32_t i = 0; i < count; i++)
                        if (slice_equal(seen[i], seen[count])) {
                                rules_error(reader, item, "tag %s is already there", rules_quote(reader, seen[count]));
                                break;
                        }
                count++;
        }
}

void rules_options_check(struct rules_reader *reader, size_t option, const struct rules_yaml_node *node)
{
        if (option_maps[option] == NULL)
                option_tags(reader, node);
        else
                option_map(reader, node, rules_options_names[option], option_maps[option]);
}
