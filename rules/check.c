/* Checked access to nodes: each function adds one finding that says what is wrong and what would be right. */
#include "base/limits.h"
#include "rules/rules_internal.h"

#include <ctype.h>

/* ---------------------------------------------------------------------------------------------- words for people */

bool rules_yaml_is_null(const struct rules_yaml_node *node)
{
        if (node == NULL)
                return true;
        if (node->kind != RULES_YAML_SCALAR || node->quoted)
                return false;
        return rules_yaml_slice(node).len == 0 || slice_equal(rules_yaml_slice(node), SLICE("~")) ||
               slice_equal(rules_yaml_slice(node), SLICE("null")) ||
               slice_equal(rules_yaml_slice(node), SLICE("Null")) || slice_equal(rules_yaml_slice(node), SLICE("NULL"));
}

static bool check_is_bool(const struct rules_yaml_node *node, bool *ret_value)
{
        static const char *const spellings[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
        if (node->kind != RULES_YAML_SCALAR || node->quoted)
                return false;
        for (size_t i = 0; i < 6; i++)
                if (slice_equal(rules_yaml_slice(node), slice_of_text(spellings[i]))) {
                        *ret_value = i < 3;
                        return true;
                }
        return false;
}

const char *rules_describe(struct rules_reader *reader, const struct rules_yaml_node *node)
{
        bool value;
        if (rules_yaml_is_null(node))
                return "nothing";
        if (node->kind == RULES_YAML_MAP)
                return "a map";
        if (node->kind == RULES_YAML_LIST)
                return "a list";
        if (check_is_bool(node, &value))
                return value ? "the boolean true" : "the boolean false";
        return rules_quote(reader, rules_yaml_slice(node));
}

/* Optimal string alignment: insert, remove, replace, swap neighbours; ASCII case ignored. */
static size_t check_distance(struct slice a, struct slice b)
{
        enum { LEN_MAX = 64 };
        if (a.len > LEN_MAX || b.len > LEN_MAX)
                return SIZE_MAX;
        size_t rows[3][LEN_MAX + 1];
        for (size_t j = 0; j <= b.len; j++)
                rows[0][j] = j;
        for (size_t i = 1; i <= a.len; i++) {
                size_t *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
                now[0] = i;
                for (size_t j = 1; j <= b.len; j++) {
                        int x = tolower(a.ptr[i - 1]), y = tolower(b.ptr[j - 1]);
                        size_t best = last[j - 1] + (x != y);
                        best = last[j] + 1 < best ? last[j] + 1 : best;
                        best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
                        if (i > 1 && j > 1 && x == tolower(b.ptr[j - 2]) && tolower(a.ptr[i - 2]) == y &&
                            before[j - 2] + 1 < best)
                                best = before[j - 2] + 1;
                        now[j] = best;
                }
        }
        return rows[a.len % 3][b.len];
}

const char *rules_nearest(struct slice text, const char *const *names, size_t names_count)
{
        const char *nearest = NULL;
        size_t best = text.len / 3 + 1; /* a third may be wrong */
        for (size_t i = 0; i < names_count; i++) {
                size_t distance = check_distance(text, slice_of_text(names[i]));
                if (distance <= best && (nearest == NULL || distance < best)) {
                        nearest = names[i];
                        best = distance;
                }
        }
        return nearest;
}

void rules_join(char *out, size_t out_bytes, const char *const *names, size_t names_count)
{
        size_t used = 0;
        out[0] = '\0';
        for (size_t i = 0; i < names_count; i++) {
                const char *separator = i == 0 ? "" : i + 1 == names_count ? " or " : ", ";
                int wrote = snprintf(out + used, out_bytes - used, "%s%s", separator, names[i]);
                if (wrote < 0 || (size_t)wrote >= out_bytes - used)
                        return;
                used += (size_t)wrote;
        }
}

/* ---------------------------------------------------------------------------------------------- maps, lists, texts */

/* Index of the name, or names_count. */
static size_t check_member(struct slice text, const char *const *names, size_t names_count)
{
        size_t i = 0;
        while (i < names_count && !slice_equal(text, slice_of_text(names[i])))
                i++;
        return i;
}

bool rules_yaml_members(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                        const char *const *names, size_t names_count, const struct rules_yaml_node **ret_values)
{
        for (size_t i = 0; i < names_count; i++)
                ret_values[i] = NULL;
        if (node == NULL || node->kind != RULES_YAML_MAP) {
                rules_error(reader, node, "%s must be a map of members, not %s", what, rules_describe(reader, node));
                return false;
        }
        for (const struct rules_yaml_node *key = node->first; key != NULL; key = key->next->next) {
                size_t i = check_member(rules_yaml_slice(key), names, names_count);
                if (i < names_count)
                        ret_values[i] = rules_yaml_is_null(key->next) ? NULL : key->next;
        }
        /* Then the unknown ones. One that is near a name that is not there is taken for it, so that one slip of the
         * pen is not also reported as something missing. */
        for (const struct rules_yaml_node *key = node->first; key != NULL; key = key->next->next) {
                if (check_member(rules_yaml_slice(key), names, names_count) < names_count)
                        continue;
                const char *nearest = rules_nearest(rules_yaml_slice(key), names, names_count);
                if (nearest == NULL) {
                        char known[512];
                        rules_join(known, sizeof(known), names, names_count);
                        rules_error(reader, key, "unknown member %s of %s; it has %s",
                                    rules_quote(reader, rules_yaml_slice(key)), what, known);
                        continue;
                }
                rules_error(reader, key, "unknown member %s of %s; did you mean '%s'?",
                            rules_quote(reader, rules_yaml_slice(key)), what, nearest);
                size_t i = check_member(slice_of_text(nearest), names, names_count);
                if (ret_values[i] == NULL && !rules_yaml_is_null(key->next))
                        ret_values[i] = key->next;
        }
        return true;
}

bool rules_yaml_list(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what)
{
        if (node != NULL && node->kind == RULES_YAML_LIST)
                return true;
        rules_error(reader, node, "%s must be a list, not %s", what, rules_describe(reader, node));
        return false;
}

bool rules_yaml_text(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                     size_t bytes_min, size_t bytes_max, struct slice *ret_text)
{
        bool value;
        if (rules_yaml_is_null(node) || node->kind != RULES_YAML_SCALAR) {
                rules_error(reader, node, "%s must be a text, not %s", what, rules_describe(reader, node));
                return false;
        }
        if (check_is_bool(node, &value)) {
                rules_error(reader, node, "%s must be a text, not %s; quote it if that is meant", what,
                            rules_describe(reader, node));
                return false;
        }
        for (size_t i = 0; i < rules_yaml_slice(node).len; i++)
                if (rules_yaml_slice(node).ptr[i] < 0x20 || rules_yaml_slice(node).ptr[i] == 0x7f) {
                        rules_error(reader, node, "%s has a control character in %s", what,
                                    rules_quote(reader, rules_yaml_slice(node)));
                        return false;
                }
        if (rules_yaml_slice(node).len < bytes_min || rules_yaml_slice(node).len > bytes_max) {
                rules_error(reader, node, "%s must have %zu to %zu characters, not %zu", what, bytes_min, bytes_max,
                            rules_yaml_slice(node).len);
                return false;
        }
        *ret_text = rules_yaml_slice(node);
        return true;
}

bool rules_yaml_bool(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what, bool *ret_value)
{
        if (node != NULL && check_is_bool(node, ret_value))
                return true;
        bool is_quoted = node != NULL && node->kind == RULES_YAML_SCALAR && node->quoted;
        rules_error(reader, node, "%s must be true or false%s, not %s", what, is_quoted ? " without quotes" : "",
                    rules_describe(reader, node));
        return false;
}

/* ---------------------------------------------------------------------------------------------- numbers */

/* The first unit is that of plain numbers. */
const struct rules_units rules_units_none = {"a whole number", {{"", 1}}};
const struct rules_units rules_units_bytes = {
        "a size such as 65536, 512KiB, 4MiB or 1GiB",
        {{"", 1}, {"B", 1}, {"KiB", 1024}, {"MiB", 1024 * 1024}, {"GiB", 1024 * 1024 * 1024}}};
const struct rules_units rules_units_us = {"a time such as 200us or 1ms (a plain number counts microseconds)",
                                           {{"", 1}, {"us", 1}, {"ms", 1000}, {"s", 1000000}}};
const struct rules_units rules_units_ms = {"a time such as 100ms, 5s or 1m (a plain number counts milliseconds)",
                                           {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}}};
const struct rules_units rules_units_s = {"a time such as 30s, 10m or 24h (a plain number counts seconds)",
                                          {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}}};

const char *rules_quantity_text(struct rules_reader *reader, const struct rules_units *units, uint64_t value)
{
        const struct rules_unit *best = &units->units[0];
        for (size_t i = 0; i < 6 && units->units[i].name != NULL; i++)
                if (value != 0 && value % units->units[i].factor == 0)
                        best = &units->units[i];
        if (value == 0 && units->units[1].name != NULL)
                best = &units->units[0];
        char *text =
                arena_printf(&reader->report->arena, "%llu%s", (unsigned long long)(value / best->factor), best->name);
        if (text == NULL)
                reader->out_of_memory = true;
        return text == NULL ? "?" : text;
}

/* False: not a quantity at all. Too large becomes UINT64_MAX. */
static bool check_quantity(struct slice text, const struct rules_units *units, uint64_t *ret_value)
{
        size_t digits = 0;
        while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9')
                digits++;
        if (digits == 0 || (digits > 1 && text.ptr[0] == '0'))
                return false; /* a leading zero is octal to some readers of YAML */
        struct slice name = slice_trim(slice_from(text, digits));
        for (size_t i = 0; i < 6 && units->units[i].name != NULL; i++) {
                if (!slice_equal(name, slice_of_text(units->units[i].name)))
                        continue;
                uint64_t number;
                if (!slice_to_u64(slice_head(text, digits), UINT64_MAX, &number) ||
                    __builtin_mul_overflow(number, units->units[i].factor, ret_value))
                        *ret_value = UINT64_MAX;
                return true;
        }
        return false;
}

bool rules_yaml_quantity(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                         const struct rules_units *units, uint64_t min, uint64_t max, uint64_t *ret_value)
{
        uint64_t value;
        if (rules_yaml_is_null(node) || node->kind != RULES_YAML_SCALAR ||
            !check_quantity(rules_yaml_slice(node), units, &value)) {
                rules_error(reader, node, "%s must be %s, not %s", what, units->help, rules_describe(reader, node));
                return false;
        }
        if (value < min || value > max) {
                rules_error(reader, node, "%s must be %s to %s, not %s", what, rules_quantity_text(reader, units, min),
                            rules_quantity_text(reader, units, max), rules_describe(reader, node));
                return false;
        }
        *ret_value = value;
        return true;
}

/* ---------------------------------------------------------------------------------------------- choices, patterns */

/* Letters and digits only, in lower case: "renderingFailure", "Rendering Failure" and RENDERING_FAILURE are the same.
 */
static size_t check_fold(struct slice text, char *out, size_t out_bytes)
{
        size_t used = 0;
        for (size_t i = 0; i < text.len && used < out_bytes; i++)
                if (isalnum(text.ptr[i]))
                        out[used++] = (char)tolower(text.ptr[i]);
        return used;
}

bool rules_yaml_choice(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                       const char *const *choices, size_t choices_count, size_t *ret_index)
{
        char joined[512];
        if (rules_yaml_is_null(node) || node->kind != RULES_YAML_SCALAR) {
                rules_join(joined, sizeof(joined), choices, choices_count);
                rules_error(reader, node, "%s must be %s, not %s", what, joined, rules_describe(reader, node));
                return false;
        }
        for (size_t i = 0; i < choices_count; i++)
                if (slice_equal(rules_yaml_slice(node), slice_of_text(choices[i]))) {
                        *ret_index = i;
                        return true;
                }
        char folded[64], other[64];
        size_t folded_len = check_fold(rules_yaml_slice(node), folded, sizeof(folded));
        for (size_t i = 0; i < choices_count; i++)
                if (check_fold(slice_of_text(choices[i]), other, sizeof(other)) == folded_len &&
                    memcmp(folded, other, folded_len) == 0) {
                        rules_error(reader, node, "%s: %s is spelled '%s' here", what, rules_describe(reader, node),
                                    choices[i]);
                        return false;
                }
        rules_join(joined, sizeof(joined), choices, choices_count);
        const char *nearest = rules_nearest(rules_yaml_slice(node), choices, choices_count);
        if (nearest != NULL)
                rules_error(reader, node, "%s must be %s, not %s; did you mean '%s'?", what, joined,
                            rules_describe(reader, node), nearest);
        else
                rules_error(reader, node, "%s must be %s, not %s", what, joined, rules_describe(reader, node));
        return false;
}

bool rules_is_made_of(struct slice text, const char *others)
{
        for (size_t i = 0; i < text.len; i++) {
                uint8_t byte = text.ptr[i];
                bool is_alnum =
                        (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9');
                if (!is_alnum && (byte == '\0' || strchr(others, byte) == NULL))
                        return false;
        }
        return true;
}

bool rules_is_plain_path(struct slice path)
{
        if (path.len < 2 || path.ptr[0] != '/')
                return false;
        struct slice rest = slice_from(path, 1);
        while (rest.ptr != NULL) {
                struct slice part = slice_cut(&rest, '/');
                if (part.len == 0 || slice_equal(part, SLICE(".")) || slice_equal(part, SLICE("..")))
                        return false;
        }
        return true;
}

/* ---------------------------------------------------------------------------------------------- ARNs */

bool rules_is_partition(struct slice text)
{
        return slice_equal(text, SLICE("aws")) || slice_equal(text, SLICE("aws-cn")) ||
               slice_equal(text, SLICE("aws-us-gov"));
}

/* us-east-1, us-gov-west-1, ap-southeast-3: lower-case words and a number at the end, with hyphens between. */
bool rules_is_region(struct slice text)
{
        if (text.len < 5 || text.len > 32)
                return false;
        uint32_t parts = 0;
        struct slice rest = text, part;
        while (rest.ptr != NULL) {
                part = slice_cut(&rest, '-');
                parts++;
                if (part.len == 0)
                        return false;
                for (size_t i = 0; i < part.len; i++)
                        if (rest.ptr != NULL ? part.ptr[i] < 'a' || part.ptr[i] > 'z'
                                             : part.ptr[i] < '0' || part.ptr[i] > '9')
                                return false;
        }
        return parts >= 3;
}

bool rules_is_account_id(struct slice text)
{
        if (text.len != 12)
                return false;
        for (size_t i = 0; i < text.len; i++)
                if (text.ptr[i] < '0' || text.ptr[i] > '9')
                        return false;
        return true;
}

bool rules_yaml_arn(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                    const char *service, const char *resource_prefix, const char *example, struct rules_arn *ret_arn)
{
        struct slice text;
        if (!rules_yaml_text(reader, node, what, 1, 1024, &text))
                return false;
        const char *wrong = NULL;
        struct slice rest = text;
        bool is_iam = strcmp(service, "iam") == 0;
        struct rules_arn arn = {.text = text};
        bool is_arn = slice_equal(slice_cut(&rest, ':'), SLICE("arn"));
        arn.partition = slice_cut(&rest, ':');
        arn.service = slice_cut(&rest, ':');
        arn.region = slice_cut(&rest, ':');
        arn.account_id = slice_cut(&rest, ':');
        arn.resource = rest;
        struct slice prefix = slice_of_text(resource_prefix);
        if (!is_arn)
                wrong = "it does not begin with 'arn:'";
        else if (!rules_is_partition(arn.partition))
                wrong = "its partition is none of aws, aws-cn, aws-us-gov";
        else if (!slice_equal(arn.service, slice_of_text(service)))
                wrong = "it is of another service";
        else if (is_iam ? arn.region.len != 0 : !rules_is_region(arn.region))
                wrong = is_iam ? "it has a region" : "its region is not like us-east-1";
        else if (!rules_is_account_id(arn.account_id))
                wrong = "its account is not 12 digits";
        else if (!slice_has_prefix(arn.resource, prefix) || arn.resource.len == prefix.len)
                wrong = "its resource is of another kind";
        if (wrong != NULL) {
                rules_error(reader, node, "%s: %s is no such ARN: %s; it should be like %s", what,
                            rules_quote(reader, text), wrong, example);
                return false;
        }
        arn.resource = slice_from(arn.resource, prefix.len);
        *ret_arn = arn;
        return true;
}
