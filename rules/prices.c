/* A file of prices, for who pays others than those of base/prices.h. */
#include "base/prices.h"

#include "rules/rules_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* More than any price or amount, and far from where doubles become coarse. */
#define PRICES_NUMBER_MAX 1e12

/* Decimal digits with at most one point. */
static bool prices_is_number(struct slice text)
{
        size_t points = 0;
        for (size_t i = 0; i < text.len; i++) {
                points += text.ptr[i] == '.';
                if (text.ptr[i] != '.' && (text.ptr[i] < '0' || text.ptr[i] > '9'))
                        return false;
        }
        return text.len > points && points <= 1;
}

static bool prices_number(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                          double *ret_number)
{
        char text[40];
        if (!rules_yaml_is_null(node) && node->kind == RULES_YAML_SCALAR && prices_is_number(rules_yaml_slice(node)) &&
            slice_to_text(rules_yaml_slice(node), text, sizeof(text)) && strtod(text, NULL) <= PRICES_NUMBER_MAX) {
                *ret_number = strtod(text, NULL);
                return true;
        }
        rules_error(reader, node, "%s must be a number such as 0.029, not %s", what, rules_describe(reader, node));
        return false;
}

/* A number, or a list of {up_to, usd} with amounts that grow, the last without `up_to`. */
static void prices_tiers(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                         struct price_tiers *tiers)
{
        static const char *const names[] = {"up_to", "usd"};
        struct price_tiers read = {.count = 0};
        if (rules_yaml_is_null(node) || node->kind != RULES_YAML_LIST) {
                if (prices_number(reader, node, what, &read.tiers[0].usd)) {
                        read.tiers[0].up_to = INFINITY;
                        read.count = 1;
                        *tiers = read;
                }
                return;
        }
        if (node->count == 0 || node->count > PRICE_TIERS_MAX) {
                rules_error(reader, node, "%s must have 1 to %u tiers, not %u", what, PRICE_TIERS_MAX, node->count);
                return;
        }
        const struct rules_yaml_node *tier = node->first;
        for (uint32_t i = 0; i < node->count; i++, tier = tier->next) {
                const struct rules_yaml_node *values[COUNT(names)];
                if (!rules_yaml_members(reader, tier, what, names, COUNT(names), values))
                        return;
                bool last = i + 1 == node->count;
                if (last != (values[0] == NULL)) {
                        rules_error(reader, tier,
                                    last ? "%s: the last tier is for all above: it has no up_to"
                                         : "%s: every tier but the last needs up_to, the amount where it "
                                           "ends",
                                    what);
                        return;
                }
                read.tiers[i].up_to = INFINITY;
                if ((!last && !prices_number(reader, values[0], "up_to", &read.tiers[i].up_to)) ||
                    !prices_number(reader, values[1] != NULL ? values[1] : tier, "usd", &read.tiers[i].usd))
                        return;
                if (!(read.tiers[i].up_to > (i == 0 ? 0 : read.tiers[i - 1].up_to))) {
                        rules_error(reader, tier, "%s: up_to must grow from tier to tier", what);
                        return;
                }
        }
        read.count = node->count;
        *tiers = read;
}

static void prices_name(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                        char out[PRICE_NAME_BYTES_MAX + 1])
{
        struct slice text;
        if (rules_yaml_text(reader, node, what, 1, PRICE_NAME_BYTES_MAX, &text))
                (void)slice_to_text(text, out, PRICE_NAME_BYTES_MAX + 1); /* it fits */
}

static void prices_interpret(struct rules_reader *reader, const struct rules_yaml_node *root, struct prices *prices)
{
        static const char *const names[] = {"region",
                                            "date",
                                            "firehose_gb",
                                            "firehose_step_bytes",
                                            "cloudwatch_metric",
                                            "cloudwatch_thousand_requests"};
        const struct rules_yaml_node *values[COUNT(names)];
        if (!rules_yaml_members(reader, root, "the prices", names, COUNT(names), values))
                return;
        if (values[0] != NULL)
                prices_name(reader, values[0], names[0], prices->region);
        /* Prices of whoever wrote the file are not of the table's day. */
        (void)snprintf(prices->date, sizeof(prices->date), "a day that the file does not say");
        if (values[1] != NULL)
                prices_name(reader, values[1], names[1], prices->date);
        if (values[2] != NULL)
                prices_tiers(reader, values[2], names[2], &prices->firehose_gb);
        if (values[3] != NULL)
                (void)rules_yaml_quantity(reader, values[3], names[3], &rules_units_bytes, 1,
                                          LIMIT_FIREHOSE_RECORD_BYTES_MAX, &prices->firehose_step_bytes);
        if (values[4] != NULL)
                prices_tiers(reader, values[4], names[4], &prices->cloudwatch_metric);
        if (values[5] != NULL)
                (void)prices_number(reader, values[5], names[5], &prices->cloudwatch_thousand_requests);
}

/* The file's text is read from `path` when `text` is NULL. */
static enum err_code prices_read(const char *path, const struct slice *text, struct prices *ret_prices,
                                 struct rules_report *report)
{
        struct arena arena;
        struct rules_reader reader;
        struct prices prices = prices_us_east_1;
        const struct rules_yaml_node *root = NULL;
        enum err_code code = ERR_MEMORY;
        arena_init(&arena, 0, 0);
        if (rules_reader_begin(&reader, path, &arena, report)) {
                if (text == NULL ? rules_yaml_load(&reader, path, &root) : rules_yaml_parse(&reader, *text, &root))
                        prices_interpret(&reader, root, &prices);
                code = rules_reader_end(&reader);
        }
        arena_release(&arena);
        if (code == ERR_OK)
                *ret_prices = prices;
        return code;
}

enum err_code rules_prices_load(const char *path, struct prices *ret_prices, struct rules_report *report)
{
        return prices_read(path, NULL, ret_prices, report);
}

enum err_code rules_prices_parse(const char *path, struct slice text, struct prices *ret_prices,
                                 struct rules_report *report)
{
        return prices_read(path, &text, ret_prices, report);
}
