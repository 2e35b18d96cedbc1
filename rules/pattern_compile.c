/* An event pattern from its text: paths are resolved, operators checked, $or written out. Cold code. */
#include "base/limits.h"
#include "rules/pattern.h"

#include <locale.h>
#include <stdlib.h>
#include <wctype.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* An alternative while it is being made. */
struct pattern_draft {
        const struct pattern_key *keys[LIMIT_FILTER_PATHS_MAX];
        uint32_t keys_count;
};

struct pattern_drafts {
        struct pattern_draft *items;
        uint32_t count;
};

struct pattern_compiler {
        struct rules_reader *reader;
        struct arena *arena;  /* of the pattern */
        struct arena scratch; /* of the drafts */
        struct rules_pattern *pattern;
        size_t bytes; /* of texts */
        char path[1024];
        size_t path_len;
        bool in_or;
        locale_t locale; /* 0 until a text is folded */
};

/* ---------------------------------------------------------------------------------------------- memory and limits */

static void *pattern_alloc(struct pattern_compiler *compiler, struct arena *arena, size_t count, size_t size_bytes)
{
        void *memory = arena_alloc_array(arena, count, size_bytes);
        if (memory == NULL)
                compiler->reader->out_of_memory = true;
        return memory;
}

static bool pattern_copy(struct pattern_compiler *compiler, const struct rules_yaml_node *node, struct slice text,
                         struct slice *ret_copy)
{
        if (text.len > LIMIT_FILTER_BYTES_MAX - compiler->bytes) {
                rules_error(compiler->reader, node, "the texts of one filter have more than %u bytes",
                            LIMIT_FILTER_BYTES_MAX);
                return false;
        }
        compiler->bytes += text.len;
        *ret_copy = arena_copy(compiler->arena, text);
        if (ret_copy->ptr == NULL)
                compiler->reader->out_of_memory = true;
        return ret_copy->ptr != NULL;
}

static bool pattern_count_value(struct pattern_compiler *compiler, const struct rules_yaml_node *node)
{
        if (compiler->pattern->values_count == LIMIT_FILTER_VALUES_MAX) {
                rules_error(compiler->reader, node, "one filter has more than %u values", LIMIT_FILTER_VALUES_MAX);
                return false;
        }
        compiler->pattern->values_count++;
        return true;
}

/* ---------------------------------------------------------------------------------------------- scalars */

enum pattern_scalar { SCALAR_TEXT, SCALAR_NUMBER, SCALAR_TRUE, SCALAR_FALSE, SCALAR_NULL };

/* What some reader of YAML takes for a number and JSON does not: +5, 0123, 0x1f, 1_000, .5, 1. */
static bool pattern_is_near_number(struct slice text)
{
        size_t at = text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+'), digits = 0;
        if (text.len > at + 2 && text.ptr[at] == '0' && (text.ptr[at + 1] | 0x20) == 'x')
                return rules_is_made_of(slice_from(text, at), "_");
        for (bool has_point = false; at < text.len; at++) {
                uint8_t byte = text.ptr[at];
                bool is_exponent = (byte | 0x20) == 'e' && digits > 0;
                if (byte >= '0' && byte <= '9')
                        digits++;
                else if (is_exponent)
                        return at + 1 < text.len &&
                               strspn((const char *)text.ptr + at + 1, "+-0123456789") == text.len - at - 1;
                else if (byte == '.' && !has_point)
                        has_point = true;
                else if (byte != '_' || digits == 0)
                        return false;
        }
        return digits > 0;
}

/* What JSON makes of a scalar. Plain words are texts; plain ones that YAML readers take for different numbers are a
 * mistake. */
static bool pattern_scalar(struct pattern_compiler *compiler, const struct rules_yaml_node *node,
                           enum pattern_scalar *ret_scalar)
{
        struct slice text = rules_yaml_slice(node);
        double number;
        bool is_comparable;
        *ret_scalar = SCALAR_TEXT;
        if (node->quoted)
                return true;
        if (rules_yaml_is_null(node))
                *ret_scalar = SCALAR_NULL;
        else if (rules_number_parse(text, &number, &is_comparable))
                *ret_scalar = SCALAR_NUMBER;
        else if (slice_equal_ignore_case(text, SLICE("true")))
                *ret_scalar = SCALAR_TRUE;
        else if (slice_equal_ignore_case(text, SLICE("false")))
                *ret_scalar = SCALAR_FALSE;
        else if (pattern_is_near_number(text)) {
                rules_error(compiler->reader, node,
                            "%s is a number to some readers of YAML only; quote it if a text is meant, or write it as "
                            "JSON does",
                            rules_quote(compiler->reader, text));
                return false;
        }
        return true;
}

static bool pattern_text(struct pattern_compiler *compiler, const struct rules_yaml_node *node, const char *what,
                         struct slice *ret_text)
{
        enum pattern_scalar scalar = SCALAR_TEXT;
        if (node->kind == RULES_YAML_SCALAR && !pattern_scalar(compiler, node, &scalar))
                return false;
        if (node->kind != RULES_YAML_SCALAR || scalar != SCALAR_TEXT) {
                rules_error(compiler->reader, node, "%s takes a text, not %s%s", what,
                            rules_describe(compiler->reader, node),
                            node->kind == RULES_YAML_SCALAR && scalar == SCALAR_NUMBER ? "; quote it" : "");
                return false;
        }
        *ret_text = rules_yaml_slice(node);
        return true;
}

static bool pattern_number(struct pattern_compiler *compiler, const struct rules_yaml_node *node, const char *what,
                           double *ret_number)
{
        bool is_comparable;
        if (node == NULL || node->kind != RULES_YAML_SCALAR || node->quoted ||
            !rules_number_parse(rules_yaml_slice(node), ret_number, &is_comparable)) {
                rules_error(compiler->reader, node, "%s takes numbers, like 10 or -0.5, not %s", what,
                            rules_describe(compiler->reader, node));
                return false;
        }
        if (!is_comparable) {
                rules_error(compiler->reader, node, "%s is more than a 64-bit floating point number can tell apart",
                            rules_quote(compiler->reader, rules_yaml_slice(node)));
                return false;
        }
        return true;
}

/* ---------------------------------------------------------------------------------------------- ignoring case */

static uint32_t fold_decode(const uint8_t *at, size_t *ret_bytes)
{
        uint32_t lead = at[0]; /* libyaml lets valid UTF-8 through only */
        *ret_bytes = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        uint32_t point = lead < 0x80 ? lead : lead & (0x7fu >> *ret_bytes);
        for (size_t i = 1; i < *ret_bytes; i++)
                point = point << 6 | (at[i] & 0x3fu);
        return point;
}

static size_t fold_encode(uint32_t point, uint8_t *out)
{
        if (point < 0x80) {
                out[0] = (uint8_t)point;
                return 1;
        }
        size_t bytes = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
        for (size_t i = bytes - 1; i > 0; i--, point >>= 6)
                out[i] = (uint8_t)(0x80 | (point & 0x3f));
        out[0] = (uint8_t)((0xf00u >> bytes & 0xff) | point);
        return bytes;
}

/* Both spellings of one character, each behind its length. At most 10 bytes. */
static size_t fold_character(const struct pattern_compiler *compiler, uint32_t point, uint8_t *out)
{
        uint32_t lower = point, upper = point;
        if (compiler->locale != (locale_t)0) {
                lower = (uint32_t)towlower_l((wint_t)point, compiler->locale);
                upper = (uint32_t)towupper_l((wint_t)point, compiler->locale);
        } else if (point < 0x80) {
                lower = point >= 'A' && point <= 'Z' ? point | 0x20 : point;
                upper = point >= 'a' && point <= 'z' ? point & ~0x20u : point;
        }
        size_t first = fold_encode(lower, out + 1);
        size_t second = lower == upper ? 0 : fold_encode(upper, out + 2 + first);
        out[0] = (uint8_t)first;
        out[1 + first] = (uint8_t)second;
        return 2 + first + second;
}

/* Folded texts: see match_folded(). */
static bool pattern_fold(struct pattern_compiler *compiler, const struct rules_yaml_node *node, struct slice text,
                         bool from_end, struct slice *ret_folded)
{
        if (compiler->locale == (locale_t)0)
                compiler->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0); /* without it, ASCII only */
        uint8_t *folded = pattern_alloc(compiler, &compiler->scratch, text.len, 10);
        if (folded == NULL)
                return false;
        size_t used = 0;
        for (size_t at = from_end ? text.len : 0; from_end ? at > 0 : at < text.len;) {
                size_t bytes;
                if (from_end)
                        while ((text.ptr[--at] & 0xc0) == 0x80)
                                ;
                used += fold_character(compiler, fold_decode(text.ptr + at, &bytes), folded + used);
                if (!from_end)
                        at += bytes;
        }
        return pattern_copy(compiler, node, slice_of(folded, used), ret_folded);
}

/* ---------------------------------------------------------------------------------------------- wildcards, addresses
 */

static bool pattern_wildcard(struct pattern_compiler *compiler, const struct rules_yaml_node *node,
                             struct pattern_test *test)
{
        struct slice text, copy;
        if (!pattern_text(compiler, node, "wildcard", &text) || !pattern_copy(compiler, node, text, &copy))
                return false;
        struct slice *pieces = pattern_alloc(compiler, compiler->arena, text.len + 1, sizeof(*pieces));
        uint8_t *out = pattern_alloc(compiler, compiler->arena, text.len + 1, 1);
        if (pieces == NULL || out == NULL)
                return false;
        uint32_t count = 0;
        size_t from = 0, used = 0;
        for (size_t at = 0; at < text.len; at++) {
                uint8_t byte = text.ptr[at], next = at + 1 < text.len ? text.ptr[at + 1] : 0;
                if (byte == '*' && next == '*') {
                        rules_error(compiler->reader, node, "wildcard %s has two asterisks side by side; one is enough",
                                    rules_quote(compiler->reader, text));
                        return false;
                }
                if (byte == '\\' && next != '*' && next != '\\') {
                        rules_error(compiler->reader, node,
                                    "wildcard %s has a backslash before something else than '*' and a backslash",
                                    rules_quote(compiler->reader, text));
                        return false;
                }
                if (byte == '*') {
                        pieces[count++] = slice_of(out + from, used - from);
                        from = used;
                        continue;
                }
                out[used++] = byte == '\\' ? text.ptr[++at] : byte;
        }
        pieces[count++] = slice_of(out + from, used - from);
        if (count > UINT16_MAX) {
                rules_error(compiler->reader, node, "wildcard has more than %u asterisks", UINT16_MAX - 1u);
                return false;
        }
        *test = (struct pattern_test){.op = PATTERN_WILDCARD, .pieces = pieces, .pieces_count = (uint16_t)count};
        return true;
}

static bool pattern_cidr(struct pattern_compiler *compiler, const struct rules_yaml_node *node,
                         struct pattern_test *test)
{
        struct slice text;
        uint64_t bits;
        if (!pattern_text(compiler, node, "cidr", &text))
                return false;
        *test = (struct pattern_test){.op = PATTERN_ADDRESS};
        struct slice rest = text;
        struct slice address = slice_cut(&rest, '/');
        test->address_bytes = (uint8_t)rules_address_parse(address, test->address);
        if (test->address_bytes == 0 || rest.ptr == NULL || !slice_to_u64(rest, UINT64_MAX, &bits)) {
                rules_error(compiler->reader, node,
                            "cidr takes an address and its bits, like 192.0.2.0/24 or 2001:db8::/32, not %s",
                            rules_quote(compiler->reader, text));
                return false;
        }
        uint32_t most = test->address_bytes * 8u - 1;
        if (bits > most) {
                rules_error(compiler->reader, node,
                            "cidr %s has more than %u bits; for one address write it as a plain value",
                            rules_quote(compiler->reader, text), most);
                return false;
        }
        test->address_bits = (uint8_t)bits;
        return true;
}

/* ---------------------------------------------------------------------------------------------- numeric */

static bool pattern_range_end(struct pattern_compiler *compiler, const struct rules_yaml_node *list,
                              const struct rules_yaml_node *item)
{
        if (item == NULL)
                return true;
        rules_error(compiler->reader, item,
                    "numeric is one comparison, or a lower bound and then an upper one, like [\">\", 0, \"<=\", 5]");
        (void)list;
        return false;
}

static bool pattern_numeric(struct pattern_compiler *compiler, const struct rules_yaml_node *list,
                            struct pattern_test *test)
{
        static const char *const comparisons[] = {"=", "<", "<=", ">", ">="};
        enum { EQUAL, BELOW, AT_MOST, ABOVE, AT_LEAST };
        struct rules_reader *reader = compiler->reader;
        const double most = 1.7976931348623157e308;
        size_t comparison;
        double number;
        if (list->kind != RULES_YAML_LIST || list->count == 0) {
                rules_error(reader, list, "numeric takes a list of comparisons, like [\">\", 0, \"<=\", 5], not %s",
                            list->kind == RULES_YAML_LIST ? "an empty one" : rules_describe(reader, list));
                return false;
        }
        const struct rules_yaml_node *item = list->first;
        if (!rules_yaml_choice(reader, item, "numeric comparison", comparisons, COUNT(comparisons), &comparison))
                return false;
        if (item->next == NULL) {
                rules_error(reader, item, "numeric: a number must follow %s", comparisons[comparison]);
                return false;
        }
        if (!pattern_number(compiler, item->next, "numeric", &number))
                return false;
        const struct rules_yaml_node *rest = item->next->next;
        *test = (struct pattern_test){.op = PATTERN_RANGE, .low = -most, .high = most};
        switch (comparison) {
        case EQUAL:
                *test = (struct pattern_test){.op = PATTERN_NUMBER, .number = number, .is_comparable = true};
                return pattern_range_end(compiler, list, rest);
        case BELOW:
        case AT_MOST:
                test->high = number;
                test->high_is_open = comparison == BELOW;
                return pattern_range_end(compiler, list, rest);
        default:
                test->low = number;
                test->low_is_open = comparison == ABOVE;
        }
        if (rest == NULL)
                return true;
        if (!rules_yaml_choice(reader, rest, "numeric upper bound", comparisons + BELOW, 2, &comparison))
                return false;
        if (rest->next == NULL) {
                rules_error(reader, rest, "numeric: a number must follow %s", comparisons[BELOW + comparison]);
                return false;
        }
        if (!pattern_number(compiler, rest->next, "numeric", &test->high))
                return false;
        test->high_is_open = comparison == 0;
        if (test->low >= test->high) {
                rules_error(reader, rest->next, "numeric: the upper bound must be above the lower one");
                return false;
        }
        return pattern_range_end(compiler, list, rest->next->next);
}

/* ---------------------------------------------------------------------------------------------- operators */

static const char *const pattern_operators[] = {
        "prefix", "suffix", "equals-ignore-case", "wildcard", "anything-but", "numeric", "exists", "cidr"};
enum pattern_operator {
        OPERATOR_PREFIX,
        OPERATOR_SUFFIX,
        OPERATOR_IGNORE_CASE,
        OPERATOR_WILDCARD,
        OPERATOR_NOT,
        OPERATOR_NUMERIC,
        OPERATOR_EXISTS,
        OPERATOR_CIDR,
        OPERATORS,
};
_Static_assert(COUNT(pattern_operators) == OPERATORS, "one name for each operator");

/* The one operator of a map, among the first `operators_count` of the table. */
static bool pattern_operator(struct pattern_compiler *compiler, const struct rules_yaml_node *node, const char *what,
                             uint32_t operators_allowed, enum pattern_operator *ret_operator,
                             const struct rules_yaml_node **ret_value)
{
        struct rules_reader *reader = compiler->reader;
        if (node->count != 1) {
                rules_error(reader, node,
                            "%s is a map of one operator, not of %u; further ones stand beside it in the list", what,
                            node->count);
                return false;
        }
        struct slice name = rules_yaml_slice(node->first);
        const char *names[OPERATORS];
        size_t names_count = 0;
        for (size_t i = 0; i < OPERATORS; i++) {
                if ((operators_allowed & (1u << i)) == 0)
                        continue;
                names[names_count++] = pattern_operators[i];
                if (slice_equal(name, slice_of_text(pattern_operators[i]))) {
                        *ret_operator = (enum pattern_operator)i;
                        *ret_value = node->first->next;
                        return true;
                }
        }
        const char *nearest = rules_nearest(name, names, names_count);
        char joined[256];
        rules_join(joined, sizeof(joined), names, names_count);
        rules_error(reader, node->first, "unknown operator %s in %s; %s%s%s", rules_quote(reader, name), what,
                    nearest != NULL ? "did you mean '" : "there is ", nearest != NULL ? nearest : joined,
                    nearest != NULL ? "'?" : "");
        return false;
}

/* A text, or {equals-ignore-case: a text}. */
static bool pattern_end(struct pattern_compiler *compiler, const struct rules_yaml_node *node, bool is_suffix,
                        struct pattern_test *test)
{
        const char *what = is_suffix ? "suffix" : "prefix";
        struct slice text;
        if (node->kind != RULES_YAML_MAP) {
                test->op = is_suffix ? PATTERN_SUFFIX : PATTERN_PREFIX;
                return pattern_text(compiler, node, what, &text) && pattern_copy(compiler, node, text, &test->text);
        }
        enum pattern_operator which;
        test->op = is_suffix ? PATTERN_FOLDED_SUFFIX : PATTERN_FOLDED_PREFIX;
        return pattern_operator(compiler, node, what, 1u << OPERATOR_IGNORE_CASE, &which, &node) &&
               pattern_text(compiler, node, "equals-ignore-case", &text) &&
               pattern_fold(compiler, node, text, is_suffix, &test->text);
}

static bool pattern_ignore_case(struct pattern_compiler *compiler, const struct rules_yaml_node *node,
                                struct pattern_test *test)
{
        struct slice text;
        test->op = PATTERN_FOLDED;
        return pattern_text(compiler, node, "equals-ignore-case", &text) &&
               pattern_fold(compiler, node, text, false, &test->text);
}

/* ---------------------------------------------------------------------------------------------- lists of values */

/* Values while they are being gathered. */
struct pattern_gather {
        struct slice *texts;
        struct pattern_test *tests;
        uint32_t texts_count, tests_count;
};

static bool pattern_gather_begin(struct pattern_compiler *compiler, size_t count, struct pattern_gather *gather)
{
        *gather = (struct pattern_gather){.texts_count = 0};
        gather->texts = pattern_alloc(compiler, compiler->arena, count, sizeof(*gather->texts));
        gather->tests = pattern_alloc(compiler, compiler->arena, count, sizeof(*gather->tests));
        return gather->texts != NULL && gather->tests != NULL;
}

static int pattern_text_order(const void *a, const void *b)
{
        const struct slice *left = a, *right = b;
        if (left->len != right->len)
                return left->len < right->len ? -1 : 1;
        return left->len == 0 ? 0 : memcmp(left->ptr, right->ptr, left->len);
}

static struct pattern_values pattern_gather_end(struct pattern_gather *gather)
{
        qsort(gather->texts, gather->texts_count, sizeof(*gather->texts), pattern_text_order);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < gather->texts_count; i++)
                if (kept == 0 || !slice_equal(gather->texts[kept - 1], gather->texts[i]))
                        gather->texts[kept++] = gather->texts[i];
        return (struct pattern_values){.texts = gather->texts,
                                       .tests = gather->tests,
                                       .texts_count = kept,
                                       .tests_count = gather->tests_count};
}

/* One value of anything-but's list, by what is inside it (OPERATORS: plain values). */
static bool pattern_not_value(struct pattern_compiler *compiler, const struct rules_yaml_node *node,
                              enum pattern_operator inside, struct pattern_gather *gather)
{
        struct pattern_test test = {.op = PATTERN_EXISTS};
        enum pattern_scalar scalar = SCALAR_TEXT;
        if (!pattern_count_value(compiler, node))
                return false;
        if (inside == OPERATOR_PREFIX || inside == OPERATOR_SUFFIX) {
                if (node->kind != RULES_YAML_SCALAR || (node->quoted && node->count == 0)) {
                        rules_error(compiler->reader, node, "%s in anything-but takes a text that is not empty",
                                    pattern_operators[inside]);
                        return false;
                }
                if (!pattern_end(compiler, node, inside == OPERATOR_SUFFIX, &test))
                        return false;
        } else if (inside == OPERATOR_WILDCARD) {
                if (!pattern_wildcard(compiler, node, &test))
                        return false;
        } else if (inside == OPERATOR_IGNORE_CASE) {
                if (!pattern_ignore_case(compiler, node, &test))
                        return false;
        } else {
                if (node->kind == RULES_YAML_SCALAR && !pattern_scalar(compiler, node, &scalar))
                        return false;
                if (node->kind != RULES_YAML_SCALAR || (scalar != SCALAR_TEXT && scalar != SCALAR_NUMBER)) {
                        rules_error(compiler->reader, node, "anything-but takes texts or numbers, not %s",
                                    rules_describe(compiler->reader, node));
                        return false;
                }
                if (scalar == SCALAR_TEXT)
                        return pattern_copy(compiler, node, rules_yaml_slice(node),
                                            &gather->texts[gather->texts_count++]);
                test.op = PATTERN_NUMBER;
                test.is_comparable = true;
                if (!pattern_number(compiler, node, "anything-but", &test.number))
                        return false;
        }
        gather->tests[gather->tests_count++] = test;
        return true;
}

static bool pattern_not(struct pattern_compiler *compiler, const struct rules_yaml_node *node,
                        struct pattern_test *test)
{
        const uint32_t inside_allowed =
                1u << OPERATOR_PREFIX | 1u << OPERATOR_SUFFIX | 1u << OPERATOR_IGNORE_CASE | 1u << OPERATOR_WILDCARD;
        enum pattern_operator inside = OPERATORS;
        if (node->kind == RULES_YAML_MAP &&
            !pattern_operator(compiler, node, "anything-but", inside_allowed, &inside, &node))
                return false;
        bool is_list = node->kind == RULES_YAML_LIST;
        if (is_list && node->count == 0) {
                rules_error(compiler->reader, node, "anything-but has an empty list");
                return false;
        }
        struct pattern_gather gather;
        struct pattern_values *values = pattern_alloc(compiler, compiler->arena, 1, sizeof(*values));
        if (values == NULL || !pattern_gather_begin(compiler, is_list ? node->count : 1, &gather))
                return false;
        if (!is_list) {
                if (!pattern_not_value(compiler, node, inside, &gather))
                        return false;
        } else {
                for (const struct rules_yaml_node *item = node->first; item != NULL; item = item->next)
                        if (!pattern_not_value(compiler, item, inside, &gather))
                                return false;
        }
        if (inside == OPERATORS && gather.texts_count > 0 && gather.tests_count > 0) {
                rules_error(compiler->reader, node, "anything-but takes either texts or numbers, not both");
                return false;
        }
        *values = pattern_gather_end(&gather);
        *test = (struct pattern_test){.op = PATTERN_NOT, .values = values};
        return true;
}

static bool pattern_map_value(struct pattern_compiler *compiler, const struct rules_yaml_node *node,
                              struct pattern_key *key, struct pattern_gather *gather)
{
        struct pattern_test test = {.op = PATTERN_EXISTS};
        enum pattern_operator which;
        const struct rules_yaml_node *value;
        bool exists;
        if (!pattern_operator(compiler, node, "a value", (1u << OPERATORS) - 1, &which, &value))
                return false;
        switch (which) {
        case OPERATOR_PREFIX:
        case OPERATOR_SUFFIX:
                if (!pattern_end(compiler, value, which == OPERATOR_SUFFIX, &test))
                        return false;
                break;
        case OPERATOR_IGNORE_CASE:
                if (!pattern_ignore_case(compiler, value, &test))
                        return false;
                break;
        case OPERATOR_WILDCARD:
                if (!pattern_wildcard(compiler, value, &test))
                        return false;
                break;
        case OPERATOR_NOT:
                if (!pattern_not(compiler, value, &test))
                        return false;
                break;
        case OPERATOR_NUMERIC:
                if (!pattern_numeric(compiler, value, &test))
                        return false;
                break;
        case OPERATOR_CIDR:
                if (!pattern_cidr(compiler, value, &test))
                        return false;
                break;
        case OPERATOR_EXISTS:
                if (!rules_yaml_bool(compiler->reader, value, "exists", &exists))
                        return false;
                if (!exists) {
                        key->or_absent = true;
                        return true;
                }
                break;
        case OPERATORS:
                return false;
        }
        gather->tests[gather->tests_count++] = test;
        return true;
}

static bool pattern_value(struct pattern_compiler *compiler, const struct rules_yaml_node *node,
                          struct pattern_key *key, struct pattern_gather *gather)
{
        struct pattern_test test = {.op = PATTERN_EXISTS};
        enum pattern_scalar scalar;
        if (!pattern_count_value(compiler, node))
                return false;
        if (node->kind == RULES_YAML_MAP)
                return pattern_map_value(compiler, node, key, gather);
        if (node->kind == RULES_YAML_LIST) {
                rules_error(compiler->reader, node,
                            "a value is a text, a number, true, false, null or a map with an operator, not a list");
                return false;
        }
        if (!pattern_scalar(compiler, node, &scalar))
                return false;
        if (key->field.is_text && scalar != SCALAR_TEXT && scalar != SCALAR_NULL)
                rules_warning(compiler->reader, node, "%s is published as a text and never equals %s; quote it",
                              rules_quote(compiler->reader, key->field.path), rules_describe(compiler->reader, node));
        switch (scalar) {
        case SCALAR_TEXT:
                test.address_bytes = (uint8_t)rules_address_parse(rules_yaml_slice(node), test.address);
                if (test.address_bytes == 0)
                        return pattern_copy(compiler, node, rules_yaml_slice(node),
                                            &gather->texts[gather->texts_count++]);
                test.op = PATTERN_ADDRESS; /* in any spelling */
                test.address_bits = (uint8_t)(test.address_bytes * 8);
                break;
        case SCALAR_NUMBER:
                test.op = PATTERN_NUMBER;
                if (!pattern_copy(compiler, node, rules_yaml_slice(node), &test.text))
                        return false;
                (void)rules_number_parse(test.text, &test.number, &test.is_comparable); /* it is one */
                break;
        case SCALAR_TRUE:
                test.op = PATTERN_TRUE;
                break;
        case SCALAR_FALSE:
                test.op = PATTERN_FALSE;
                break;
        case SCALAR_NULL:
                test.op = PATTERN_NULL;
                break;
        }
        gather->tests[gather->tests_count++] = test;
        return true;
}

/* ---------------------------------------------------------------------------------------------- paths */

/* Spellings of the API in place of those that events have are the commonest slip. */
static void pattern_check_event_types(struct pattern_compiler *compiler, const struct rules_yaml_node *list)
{
        for (const struct rules_yaml_node *item = list->first; item != NULL; item = item->next) {
                if (item->kind != RULES_YAML_SCALAR)
                        continue;
                enum sendring_event_type type = codec_event_type_parse(rules_yaml_slice(item));
                if (type == 0)
                        rules_warning(compiler->reader, item, "no event has the eventType %s",
                                      rules_describe(compiler->reader, item));
                else if (!slice_equal(rules_yaml_slice(item), slice_of_text(codec_event_type_name(type))))
                        rules_warning(compiler->reader, item, "no event has the eventType %s; it is published as '%s'",
                                      rules_describe(compiler->reader, item), codec_event_type_name(type));
        }
}

static void pattern_check_path(struct pattern_compiler *compiler, const struct rules_yaml_node *name,
                               const struct pattern_key *key, enum codec_field_kind kind,
                               const struct codec_field_hint *hint)
{
        struct rules_reader *reader = compiler->reader;
        const char *path = rules_quote(reader, key->field.path);
        const char *nearest = rules_nearest(hint->part, hint->names, hint->names_count);
        const char *dot = hint->parent.len > 0 ? "." : "";
        char joined[512];
        switch (kind) {
        case CODEC_FIELD_IS_VALUE:
                return;
        case CODEC_FIELD_IS_GROUP:
                rules_join(joined, sizeof(joined), hint->names, hint->names_count);
                rules_warning(reader, name, "%s is a map and never has a value; its members do%s%s", path,
                              hint->names_count > 0 ? ": " : "", hint->names_count > 0 ? joined : "");
                return;
        case CODEC_FIELD_IS_BELOW_VALUE:
                rules_warning(reader, name, "no event has %s: '%.*s%s%.*s' has no members", path,
                              SLICE_PRINTF(hint->parent), dot, SLICE_PRINTF(hint->part));
                return;
        case CODEC_FIELD_IS_UNKNOWN:
                if (slice_equal(hint->part, SLICE("detail")) || slice_equal(hint->part, SLICE("detail-type")))
                        rules_warning(reader, name,
                                      "no event has %s: a filter sees what EventBridge has in detail, so its members "
                                      "stand at the top",
                                      path);
                else if (nearest != NULL)
                        rules_warning(reader, name, "%s is no member that SES publishes; did you mean '%.*s%s%s'?",
                                      path, SLICE_PRINTF(hint->parent), dot, nearest);
                return;
        case CODEC_FIELD_IS_NO_MEMBER:
                if (nearest != NULL)
                        rules_warning(reader, name, "no event has %s; did you mean '%.*s%s%s'?", path,
                                      SLICE_PRINTF(hint->parent), dot, nearest);
                else
                        rules_warning(reader, name, "no event has %s: '%.*s' has no such member", path,
                                      SLICE_PRINTF(hint->parent));
                return;
        }
}

/* Up to where a path may go through a list that other paths go through as well. */
static struct slice pattern_list_path(const struct pattern_key *key, enum codec_field_kind kind)
{
        struct slice path = key->field.path;
        if (key->field.list_bytes > 0)
                return slice_head(path, key->field.list_bytes);
        if (kind == CODEC_FIELD_IS_VALUE)
                return SLICE_EMPTY;
        /* Of unknown members the first one may be a list already. */
        size_t first = slice_has_prefix(path, SLICE("mail.")) ? 5 : 0;
        return slice_head(path, first + slice_find_byte(slice_from(path, first), '.'));
}

static bool pattern_key(struct pattern_compiler *compiler, const struct rules_yaml_node *name,
                        const struct rules_yaml_node *list, struct pattern_drafts *drafts)
{
        struct rules_reader *reader = compiler->reader;
        struct slice path = slice_of(compiler->path, compiler->path_len);
        for (uint32_t i = 0; i < drafts->count; i++)
                for (uint32_t k = 0; k < drafts->items[i].keys_count; k++)
                        if (slice_equal(drafts->items[i].keys[k]->field.path, path)) {
                                rules_error(reader, name, "%s is already there; write all its values in one list",
                                            rules_quote(reader, path));
                                return false;
                        }
        if (list->count == 0) {
                rules_error(reader, list, "%s has an empty list: it would match nothing", rules_quote(reader, path));
                return false;
        }
        if (compiler->pattern->keys_count == LIMIT_FILTER_PATHS_MAX) {
                rules_error(reader, name, "one filter has more than %u members", LIMIT_FILTER_PATHS_MAX);
                return false;
        }
        struct pattern_key *key = pattern_alloc(compiler, compiler->arena, 1, sizeof(*key));
        struct pattern_gather gather;
        if (key == NULL || !pattern_gather_begin(compiler, list->count, &gather) ||
            !pattern_copy(compiler, name, path, &path))
                return false;
        struct codec_field_hint hint;
        enum codec_field_kind kind = codec_field_find(path, &key->field, &hint);
        key->list_path = pattern_list_path(key, kind);
        key->index = (uint8_t)compiler->pattern->keys_count++;
        pattern_check_path(compiler, name, key, kind, &hint);
        if (slice_equal(path, SLICE("eventType")))
                pattern_check_event_types(compiler, list);
        bool good = true;
        for (const struct rules_yaml_node *item = list->first; item != NULL; item = item->next)
                good = pattern_value(compiler, item, key, &gather) && good;
        key->values = pattern_gather_end(&gather);
        for (uint32_t i = 0; i < drafts->count; i++)
                drafts->items[i].keys[drafts->items[i].keys_count++] = key;
        return good;
}

/* ---------------------------------------------------------------------------------------------- maps */

static bool pattern_map(struct pattern_compiler *compiler, const struct rules_yaml_node *map,
                        struct pattern_drafts *drafts, uint32_t depth);

/* Every draft once for each of the maps. */
static bool pattern_or(struct pattern_compiler *compiler, const struct rules_yaml_node *list,
                       struct pattern_drafts *drafts, uint32_t depth)
{
        struct rules_reader *reader = compiler->reader;
        if (list->kind != RULES_YAML_LIST || list->count < 2) {
                rules_error(reader, list, "$or takes a list of two maps at least, not %s",
                            list->kind == RULES_YAML_LIST ? "fewer" : rules_describe(reader, list));
                return false;
        }
        struct pattern_drafts all = {.count = 0};
        all.items = pattern_alloc(compiler, &compiler->scratch, LIMIT_FILTER_ALTERNATIVES_MAX, sizeof(*all.items));
        struct pattern_draft *items =
                pattern_alloc(compiler, &compiler->scratch, LIMIT_FILTER_ALTERNATIVES_MAX, sizeof(*items));
        if (all.items == NULL || items == NULL)
                return false;
        bool good = true, was_in_or = compiler->in_or;
        compiler->in_or = true;
        for (const struct rules_yaml_node *item = list->first; item != NULL; item = item->next) {
                struct pattern_drafts branch = {.items = items, .count = drafts->count};
                memcpy(items, drafts->items, drafts->count * sizeof(*items));
                if (item->kind != RULES_YAML_MAP) {
                        rules_error(reader, item, "$or takes maps, not %s", rules_describe(reader, item));
                        good = false;
                        continue;
                }
                good = pattern_map(compiler, item, &branch, depth + 2) && good;
                if (branch.count > LIMIT_FILTER_ALTERNATIVES_MAX - all.count) {
                        rules_error(reader, list, "$or amounts to more than %u combinations in one filter",
                                    LIMIT_FILTER_ALTERNATIVES_MAX);
                        compiler->in_or = was_in_or;
                        return false;
                }
                memcpy(all.items + all.count, branch.items, branch.count * sizeof(*items));
                all.count += branch.count;
        }
        compiler->in_or = was_in_or;
        *drafts = all;
        return good;
}

static bool pattern_member(struct pattern_compiler *compiler, const struct rules_yaml_node *name,
                           struct pattern_drafts *drafts, uint32_t depth)
{
        struct rules_reader *reader = compiler->reader;
        const struct rules_yaml_node *value = name->next;
        struct slice text = rules_yaml_slice(name);
        if (slice_equal(text, SLICE("$or")))
                return pattern_or(compiler, value, drafts, depth);
        bool is_operator = false;
        for (size_t i = 0; i < OPERATORS; i++)
                is_operator |= slice_equal(text, slice_of_text(pattern_operators[i]));
        if (is_operator && (compiler->in_or || value->kind == RULES_YAML_SCALAR)) {
                rules_error(reader, name, "operator %s stands in a list of values, like [{%.*s: ...}]",
                            rules_quote(reader, text), SLICE_PRINTF(text));
                return false;
        }
        if (text.len == 0) {
                rules_error(reader, name, "a member without a name");
                return false;
        }
        size_t before = compiler->path_len;
        if (text.len + 1 > sizeof(compiler->path) - before) {
                rules_error(reader, name, "a path of more than %zu bytes", sizeof(compiler->path));
                return false;
        }
        if (before > 0)
                compiler->path[compiler->path_len++] = '.';
        memcpy(compiler->path + compiler->path_len, text.ptr, text.len);
        compiler->path_len += text.len;
        bool good = false;
        if (value->kind == RULES_YAML_MAP)
                good = pattern_map(compiler, value, drafts, depth + 1);
        else if (value->kind == RULES_YAML_LIST)
                good = pattern_key(compiler, name, value, drafts);
        else
                rules_error(reader, value, "%s must be a list of values or a map of members, not %s",
                            rules_quote(reader, slice_of(compiler->path, compiler->path_len)),
                            rules_describe(reader, value));
        compiler->path_len = before;
        return good;
}

static bool pattern_map(struct pattern_compiler *compiler, const struct rules_yaml_node *map,
                        struct pattern_drafts *drafts, uint32_t depth)
{
        if (depth > LIMIT_FILTER_DEPTH_MAX) {
                rules_error(compiler->reader, map, "a filter with more than %u maps and lists inside one another",
                            LIMIT_FILTER_DEPTH_MAX);
                return false;
        }
        if (map->kind != RULES_YAML_MAP || map->count == 0) {
                rules_error(compiler->reader, map, "%s must be a map of members%s, not %s",
                            compiler->path_len == 0
                                    ? "a filter"
                                    : rules_quote(compiler->reader, slice_of(compiler->path, compiler->path_len)),
                            compiler->path_len == 0 ? " like {eventType: [Bounce]}" : "",
                            map->kind == RULES_YAML_MAP ? "an empty one" : rules_describe(compiler->reader, map));
                return false;
        }
        bool good = true;
        for (const struct rules_yaml_node *name = map->first; name != NULL; name = name->next->next)
                good = pattern_member(compiler, name, drafts, depth) && good;
        return good;
}

/* ---------------------------------------------------------------------------------------------- all of it */

static int pattern_key_order(const void *a, const void *b)
{
        const struct pattern_key *const *left = a, *const *right = b;
        struct slice x = (*left)->field.path, y = (*right)->field.path;
        int order = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);
        return order != 0 ? order : (x.len > y.len) - (x.len < y.len);
}

/* Keys that share a list stand together, by name; the others before them, those that are found soonest first. */
static bool pattern_alternative(struct pattern_compiler *compiler, struct pattern_draft *draft,
                                struct pattern_alternative *ret_alternative)
{
        const struct pattern_key **keys = pattern_alloc(compiler, compiler->arena, draft->keys_count, sizeof(*keys));
        if (keys == NULL)
                return false;
        uint32_t count = 0;
        qsort(draft->keys, draft->keys_count, sizeof(draft->keys[0]), pattern_key_order);
        for (int with_list = 0; with_list < 2; with_list++)
                for (uint32_t i = 0; i < draft->keys_count; i++) {
                        uint32_t others = 0;
                        for (uint32_t k = 0; k < draft->keys_count && draft->keys[i]->list_path.len > 0; k++)
                                others += k != i && slice_equal(draft->keys[k]->list_path, draft->keys[i]->list_path);
                        if (others == 0 && (with_list == 1) == (draft->keys[i]->list_path.len > 0))
                                keys[count++] = draft->keys[i];
                }
        ret_alternative->alone_count = count;
        for (uint32_t i = 0; i < draft->keys_count; i++) {
                bool is_first = draft->keys[i]->list_path.len > 0;
                uint32_t others = 0;
                for (uint32_t k = 0; k < draft->keys_count; k++)
                        if (k != i && slice_equal(draft->keys[k]->list_path, draft->keys[i]->list_path)) {
                                is_first = is_first && k > i;
                                others++;
                        }
                for (uint32_t k = i; is_first && others > 0 && k < draft->keys_count; k++)
                        if (slice_equal(draft->keys[k]->list_path, draft->keys[i]->list_path))
                                keys[count++] = draft->keys[k];
        }
        ret_alternative->keys = keys;
        ret_alternative->keys_count = count;
        return true;
}

bool rules_pattern_compile(struct rules_reader *reader, const struct rules_yaml_node *node, struct arena *arena,
                           const struct rules_pattern **ret_pattern)
{
        struct pattern_compiler compiler = {.reader = reader, .arena = arena};
        bool good = false;
        arena_init(&compiler.scratch, 0, 0);
        compiler.pattern = pattern_alloc(&compiler, arena, 1, sizeof(*compiler.pattern));
        struct pattern_drafts drafts = {.count = 1};
        drafts.items = pattern_alloc(&compiler, &compiler.scratch, 1, sizeof(*drafts.items));
        if (compiler.pattern == NULL || drafts.items == NULL)
                goto out;
        if (!pattern_map(&compiler, node, &drafts, 0))
                goto out;
        struct pattern_alternative *alternatives = pattern_alloc(&compiler, arena, drafts.count, sizeof(*alternatives));
        if (alternatives == NULL)
                goto out;
        for (uint32_t i = 0; i < drafts.count; i++)
                if (!pattern_alternative(&compiler, &drafts.items[i], &alternatives[i]))
                        goto out;
        compiler.pattern->alternatives = alternatives;
        compiler.pattern->alternatives_count = drafts.count;
        *ret_pattern = compiler.pattern;
        good = true;
out:
        if (compiler.locale != (locale_t)0)
                freelocale(compiler.locale);
        arena_release(&compiler.scratch);
        return good;
}
