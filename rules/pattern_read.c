/* The values of an event pattern: scalars as JSON has them, operators with what they take. Cold code. */
#include "base/limits.h"
#include "rules/pattern_compile.h"

#include <stdlib.h>
#include <wctype.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---------------------------------------------------------------------------------------------- memory and limits */

void *pattern_alloc(struct pattern_compiler *compiler, struct arena *arena, size_t count, size_t size_bytes)
{
        void *memory = arena_alloc_array(arena, count, size_bytes);
        if (memory == NULL)
                compiler->reader->out_of_memory = true;
        return memory;
}

bool pattern_copy(struct pattern_compiler *compiler, const struct rules_yaml_node *node, struct slice text,
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
        if (point == 0x130) /* as Java has it: a small I with a dot above it, and not the plain one */
                first += fold_encode(0x307, out + 1 + first);
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

/* Values while they are being gathered, in scratch memory: the pattern gets no more than there are. */
struct pattern_gather {
        struct slice *texts;
        struct pattern_test *tests;
        uint32_t texts_count, tests_count;
};

static bool pattern_gather_begin(struct pattern_compiler *compiler, size_t count, struct pattern_gather *gather)
{
        *gather = (struct pattern_gather){.texts_count = 0};
        gather->texts = pattern_alloc(compiler, &compiler->scratch, count, sizeof(*gather->texts));
        gather->tests = pattern_alloc(compiler, &compiler->scratch, count, sizeof(*gather->tests));
        return gather->texts != NULL && gather->tests != NULL;
}

static int pattern_text_order(const void *a, const void *b)
{
        const struct slice *left = a, *right = b;
        if (left->len != right->len)
                return left->len < right->len ? -1 : 1;
        return left->len == 0 ? 0 : memcmp(left->ptr, right->ptr, left->len);
}

static bool pattern_gather_end(struct pattern_compiler *compiler, struct pattern_gather *gather,
                               struct pattern_values *ret_values)
{
        qsort(gather->texts, gather->texts_count, sizeof(*gather->texts), pattern_text_order);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < gather->texts_count; i++)
                if (kept == 0 || !slice_equal(gather->texts[kept - 1], gather->texts[i]))
                        gather->texts[kept++] = gather->texts[i];
        struct slice *texts = pattern_alloc(compiler, compiler->arena, kept, sizeof(*texts));
        struct pattern_test *tests = pattern_alloc(compiler, compiler->arena, gather->tests_count, sizeof(*tests));
        if (texts == NULL || tests == NULL)
                return false;
        memcpy(texts, gather->texts, kept * sizeof(*texts));
        memcpy(tests, gather->tests, gather->tests_count * sizeof(*tests));
        *ret_values = (struct pattern_values){
                .texts = texts, .tests = tests, .texts_count = kept, .tests_count = gather->tests_count};
        return true;
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
        if (!pattern_gather_end(compiler, &gather, values))
                return false;
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

bool pattern_is_operator(struct slice name)
{
        for (size_t i = 0; i < OPERATORS; i++)
                if (slice_equal(name, slice_of_text(pattern_operators[i])))
                        return true;
        return false;
}

bool pattern_read_values(struct pattern_compiler *compiler, const struct rules_yaml_node *list, struct pattern_key *key)
{
        struct pattern_gather gather;
        if (!pattern_gather_begin(compiler, list->count, &gather))
                return false;
        bool good = true;
        for (const struct rules_yaml_node *item = list->first; item != NULL; item = item->next)
                good = pattern_value(compiler, item, key, &gather) && good;
        return pattern_gather_end(compiler, &gather, &key->values) && good;
}
