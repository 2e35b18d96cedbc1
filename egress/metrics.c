/* The table of series: open addressing over entries in the order of their coming, their values in one arena.
 *
 * A series' key is its metric, its roll-up, its period and its values. The hash of all but the period is its identity,
 * which the budget remembers, 64 bits of it with a seed of this process, or of its file: that two series of an hour
 * share one is less likely than 1 in 10^11, and then there is one series more than the budget. */
#include "egress/metrics.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/random.h"
#include "egress/series.h"

#include <stdlib.h>

#define METRICS_MS_PER_HOUR INT64_C(3600000)
/* Fewer series are not worth a call: what a table for a small budget holds when a backlog is read. */
#define METRICS_SERIES_MIN LIMIT_CLOUDWATCH_DATA_PER_CALL_MAX
/* Values of tags and headers are mostly shorter; a table of longer ones is full earlier. */
#define METRICS_VALUE_BYTES_USUAL 32u
/* What bounds the bodies of one table, whatever the configuration. */
#define METRICS_VALUES_BYTES_MAX (8u * 1024u * 1024u)
#define METRICS_LENGTH_BYTES     2u
/* A dimension at its worst: twice the largest value. */
#define METRICS_COST_MAX (2u * LIMIT_CLOUDWATCH_VALUE_BYTES_MAX + METRICS_LENGTH_BYTES)
_Static_assert(RULES_ROLL_UPS_MAX *RULES_DIMENSIONS_MAX *METRICS_COST_MAX <= METRICS_VALUES_BYTES_MAX,
               "an empty table takes any event");
_Static_assert(RULES_ROLL_UPS_MAX <= 16, "a roll-up is a bit of uint16_t");
_Static_assert(LIMIT_CLOUDWATCH_VALUE_BYTES_MAX <= UINT16_MAX, "the length of a value has two bytes");
_Static_assert(RULES_DIMENSIONS_MAX *(LIMIT_CLOUDWATCH_VALUE_BYTES_MAX + METRICS_LENGTH_BYTES) <= UINT16_MAX,
               "the values of a series have a length of two bytes");

struct metrics_entry {
        uint64_t identity;
        uint64_t count;
        int64_t period;     /* number of the period since 1970 */
        uint32_t values_at; /* in the arena: for each dimension of the roll-up two bytes of length and the value */
        uint16_t values_bytes;
        uint8_t type;
        uint8_t roll_up;
};

struct metrics_slot {
        uint32_t entry; /* index + 1; 0: free */
        uint32_t check; /* half of the hash */
};

/* The series of an hour. Admitted ones: identities, 0 being none. Those beside the budget, which are billed as well:
 * for each type a bit for each roll-up. */
struct metrics_hour {
        int64_t hour;
        uint32_t count, beside_count;
        uint64_t *identities;
        uint16_t beside[CODEC_EVENT_TYPES_COUNT + 1]; /* types begin at 1 */
};

struct metrics_value {
        struct slice text;
        uint32_t cost; /* in the arena's terms */
};

struct metrics_table {
        struct arena texts; /* of the configuration */
        struct rules_cloudwatch config;
        struct codec_wanted wanted[RULES_DIMENSIONS_MAX];
        struct metrics_value overflow;
        uint64_t seed;

        struct metrics_entry *entries;
        uint32_t *order, *order_room;
        uint32_t entries_count, entries_max;
        struct metrics_slot *slots;
        uint32_t slots_mask;
        uint8_t *values;
        uint32_t values_used,
                values_max;  /* used: with the cost of quotes and backslashes, so never less than the bytes */
        uint32_t values_end; /* bytes */
        uint32_t event_bytes_max;

        struct metrics_hour hours[2]; /* the newest, and all before it */
        uint32_t hour_slots_mask;
        struct series *series; /* where they are written down; NULL: nowhere */
        struct metrics_stats stats;
};

/* ---------------------------------------------------------------------------------------------- sizes */

static uint32_t metrics_power_of_two(uint32_t at_least)
{
        uint32_t power = 16;
        while (power < at_least)
                power *= 2;
        return power;
}

/* What one period may have, and an event more, so that a single period always fits. */
uint32_t metrics_table_series_max(const struct rules_cloudwatch *cloudwatch)
{
        uint32_t series = cloudwatch->series_max + (CODEC_EVENT_TYPES_COUNT + 1) * cloudwatch->roll_ups_count;
        return series < METRICS_SERIES_MIN ? METRICS_SERIES_MIN : series;
}

/* One event in all roll-ups, at its worst. */
static uint32_t metrics_event_bytes_max(const struct rules_cloudwatch *cloudwatch)
{
        uint32_t values = 0;
        for (uint32_t i = 0; i < cloudwatch->roll_ups_count; i++)
                values += (uint32_t)__builtin_popcount(cloudwatch->roll_ups[i]);
        return values * METRICS_COST_MAX;
}

uint32_t metrics_table_values_bytes_max(const struct rules_cloudwatch *cloudwatch)
{
        uint64_t bytes = (uint64_t)metrics_table_series_max(cloudwatch) * cloudwatch->dimensions_count *
                         (METRICS_VALUE_BYTES_USUAL + METRICS_LENGTH_BYTES);
        bytes += metrics_event_bytes_max(cloudwatch);
        return bytes > METRICS_VALUES_BYTES_MAX ? METRICS_VALUES_BYTES_MAX : (uint32_t)bytes;
}

struct metrics_sizes {
        uint32_t series, slots, hour_slots, values_bytes;
        uint64_t total_bytes;
};

static struct metrics_sizes metrics_sizes_of(const struct rules_cloudwatch *cloudwatch)
{
        struct metrics_sizes sizes = {
                .series = metrics_table_series_max(cloudwatch),
                .values_bytes = metrics_table_values_bytes_max(cloudwatch),
        };
        sizes.slots = metrics_power_of_two(2 * sizes.series);
        sizes.hour_slots = metrics_power_of_two(2 * cloudwatch->series_max);
        sizes.total_bytes = sizeof(struct metrics_table) +
                            sizes.series * (sizeof(struct metrics_entry) + 2 * sizeof(uint32_t)) +
                            sizes.slots * sizeof(struct metrics_slot) +
                            (uint64_t)2 * sizes.hour_slots * sizeof(uint64_t) + sizes.values_bytes;
        return sizes;
}

uint64_t metrics_table_bytes(const struct rules_cloudwatch *cloudwatch)
{
        return metrics_sizes_of(cloudwatch).total_bytes;
}

/* ---------------------------------------------------------------------------------------------- life */

static bool metrics_copy_config(struct metrics_table *table, const struct rules_cloudwatch *cloudwatch)
{
        struct rules_cloudwatch *config = &table->config;
        *config = *cloudwatch;
        config->namespace = arena_copy(&table->texts, cloudwatch->namespace);
        config->overflow_value = arena_copy(&table->texts, cloudwatch->overflow_value);
        bool good = config->namespace.ptr != NULL && config->overflow_value.ptr != NULL;
        for (uint32_t i = 0; i < config->dimensions_count; i++) {
                static const enum codec_source sources[] = {
                        [RULES_DIMENSION_MESSAGE_TAG] = CODEC_SOURCE_TAG,
                        [RULES_DIMENSION_EMAIL_HEADER] = CODEC_SOURCE_HEADER,
                        [RULES_DIMENSION_LINK_TAG] = CODEC_SOURCE_LINK_TAG,
                };
                struct rules_dimension *dimension = &config->dimensions[i];
                dimension->name = arena_copy(&table->texts, dimension->name);
                dimension->default_value = arena_copy(&table->texts, dimension->default_value);
                good = good && dimension->name.ptr != NULL && dimension->default_value.ptr != NULL;
                codec_wanted_init(&table->wanted[i], sources[dimension->source], dimension->name);
        }
        table->overflow = (struct metrics_value){.text = config->overflow_value,
                                                 .cost = (uint32_t)config->overflow_value.len + METRICS_LENGTH_BYTES};
        return good;
}

enum err_code metrics_table_create(const struct rules_cloudwatch *cloudwatch, struct metrics_table **ret_table,
                                   struct err *reterr)
{
        const struct metrics_sizes sizes = metrics_sizes_of(cloudwatch);
        ASSERT(cloudwatch->dimensions_count <= RULES_DIMENSIONS_MAX);
        ASSERT(cloudwatch->roll_ups_count <= RULES_ROLL_UPS_MAX);
        struct metrics_table *table = calloc(1, sizeof(*table));
        if (table == NULL)
                return err_set(reterr, ERR_MEMORY, "no memory for a table of CloudWatch series");
        arena_init(&table->texts, 4096, 0);
        struct random_state random;
        random_init(&random, 0);
        table->seed = random_u64(&random);
        table->entries = malloc(sizes.series * sizeof(*table->entries));
        table->order = malloc(sizes.series * sizeof(*table->order));
        table->order_room = malloc(sizes.series * sizeof(*table->order_room));
        table->slots = calloc(sizes.slots, sizeof(*table->slots));
        table->values = malloc(sizes.values_bytes);
        for (int i = 0; i < 2; i++) {
                table->hours[i].hour = INT64_MIN;
                table->hours[i].identities = calloc(sizes.hour_slots, sizeof(*table->hours[i].identities));
        }
        table->entries_max = sizes.series;
        table->slots_mask = sizes.slots - 1;
        table->values_max = sizes.values_bytes;
        table->event_bytes_max = metrics_event_bytes_max(cloudwatch);
        table->hour_slots_mask = sizes.hour_slots - 1;
        table->stats.series_max = cloudwatch->series_max;
        if (table->entries == NULL || table->order == NULL || table->order_room == NULL || table->slots == NULL ||
            table->values == NULL || table->hours[0].identities == NULL || table->hours[1].identities == NULL ||
            !metrics_copy_config(table, cloudwatch)) {
                metrics_table_free(table);
                return err_set(reterr, ERR_MEMORY, "no memory for a table of %u CloudWatch series", sizes.series);
        }
        *ret_table = table;
        return ERR_OK;
}

const struct rules_cloudwatch *metrics_table_config(const struct metrics_table *table)
{
        return &table->config;
}

void metrics_table_free(struct metrics_table *table)
{
        if (table == NULL)
                return;
        free(table->entries);
        free(table->order);
        free(table->order_room);
        free(table->slots);
        free(table->values);
        for (int i = 0; i < 2; i++)
                free(table->hours[i].identities);
        arena_release(&table->texts);
        free(table);
}

void metrics_table_clear(struct metrics_table *table)
{
        memset(table->slots, 0, ((size_t)table->slots_mask + 1) * sizeof(*table->slots));
        table->entries_count = table->values_used = table->values_end = 0;
}

/* ---------------------------------------------------------------------------------------------- values */

/* Headers as SES has it; of tags, what CloudWatch takes: ASCII with something to see in it. METRICS_REFUSALS_COUNT: it
 * is allowed. */
static enum metrics_refusal metrics_value_judge(struct slice value, enum rules_dimension_source source,
                                                uint32_t *ret_cost)
{
        uint32_t cost = (uint32_t)value.len + METRICS_LENGTH_BYTES, others = 0, spaces = 0;
        if (value.len > LIMIT_CLOUDWATCH_VALUE_BYTES_MAX)
                return METRICS_REFUSED_LENGTH;
        for (size_t i = 0; i < value.len; i++) {
                uint8_t byte = value.ptr[i];
                if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
                    byte == '_' || byte == '-' || byte == '@' || byte == '.')
                        continue;
                if (byte < ' ' || byte > '~')
                        return METRICS_REFUSED_CHARACTERS;
                others++;
                spaces += byte == ' ';
                cost += byte == '"' || byte == '\\';
        }
        *ret_cost = cost;
        if (spaces == value.len)
                return METRICS_REFUSED_BLANK;
        return source == RULES_DIMENSION_EMAIL_HEADER && others > 0 ? METRICS_REFUSED_CHARACTERS
                                                                    : METRICS_REFUSALS_COUNT;
}

/* The dimensions of one event, with sets of them by bit. What is `judged`, costs and refusals, is not known before: the
 * values of a series that is there have been judged, and an event of it needs none. */
struct metrics_values {
        struct metrics_value of[RULES_DIMENSIONS_MAX];
        uint32_t several, too_long;
        bool judged;
        uint32_t refused, why[METRICS_REFUSALS_COUNT];
};

static void metrics_resolve(const struct metrics_table *table, const struct codec_view *view,
                            const struct codec_json_options *options, struct metrics_values *ret_values)
{
        const struct rules_cloudwatch *config = &table->config;
        struct codec_found found[RULES_DIMENSIONS_MAX];
        uint32_t several = 0, too_long = 0;
        codec_view_find(view, options, table->wanted, config->dimensions_count, found);
        for (uint32_t i = 0; i < config->dimensions_count; i++) {
                struct slice text = found[i].value;
                if (text.len == 0)
                        text = config->dimensions[i].default_value;
                ret_values->of[i].text = text;
                several |= (uint32_t)(found[i].count > 1) << i;
                too_long |= (uint32_t)(text.len > LIMIT_CLOUDWATCH_VALUE_BYTES_MAX) << i;
        }
        ret_values->several = several;
        ret_values->too_long = too_long;
        ret_values->judged = false;
}

static void metrics_judge(const struct metrics_table *table, struct metrics_values *values)
{
        const struct rules_cloudwatch *config = &table->config;
        if (values->judged)
                return;
        values->judged = true;
        values->refused = 0;
        memset(values->why, 0, sizeof(values->why));
        for (uint32_t i = 0; i < config->dimensions_count; i++) {
                struct metrics_value *value = &values->of[i];
                enum metrics_refusal refusal =
                        metrics_value_judge(value->text, config->dimensions[i].source, &value->cost);
                if (refusal == METRICS_REFUSALS_COUNT)
                        continue;
                values->refused |= 1u << i;
                values->why[refusal] |= 1u << i;
        }
}

/* ---------------------------------------------------------------------------------------------- series */

struct metrics_key {
        uint64_t identity;
        int64_t period;
        uint32_t bytes;
        uint8_t type, roll_up;
        uint8_t values[RULES_DIMENSIONS_MAX * (LIMIT_CLOUDWATCH_VALUE_BYTES_MAX + METRICS_LENGTH_BYTES)];
};

/* With `values` NULL, the overflow series. None of the roll-up's is too long. */
static void metrics_key_make(const struct metrics_table *table, struct metrics_key *key, uint8_t type, uint32_t roll_up,
                             const struct metrics_value *values)
{
        uint8_t *at = key->values;
        for (uint32_t mask = table->config.roll_ups[roll_up]; mask != 0; mask &= mask - 1) {
                const struct metrics_value *value = values == NULL ? &table->overflow : &values[__builtin_ctz(mask)];
                const uint16_t len = (uint16_t)value->text.len;
                memcpy(at, &len, METRICS_LENGTH_BYTES);
                at += METRICS_LENGTH_BYTES;
                memcpy(at, value->text.ptr, value->text.len);
                at += value->text.len;
        }
        key->bytes = (uint32_t)(at - key->values);
        key->type = type;
        key->roll_up = (uint8_t)roll_up;
        /* 0 is no identity in the tables of the hours. */
        key->identity = hash_bytes(table->seed ^ (uint64_t)type << 8 ^ roll_up, slice_of(key->values, key->bytes)) | 1;
}

/* In the arena; `values` as for its key, judged. */
static uint32_t metrics_key_cost(const struct metrics_table *table, uint32_t roll_up,
                                 const struct metrics_value *values)
{
        uint32_t cost = 0;
        for (uint32_t mask = table->config.roll_ups[roll_up]; mask != 0; mask &= mask - 1)
                cost += values == NULL ? table->overflow.cost : values[__builtin_ctz(mask)].cost;
        return cost;
}

static uint64_t metrics_hash(uint64_t identity, int64_t period)
{
        return hash_mix(identity, (uint64_t)period * UINT64_C(0x9e3779b97f4a7c15) | 1);
}

/* The entry, or NULL with *ret_slot where it belongs. */
static struct metrics_entry *metrics_find(const struct metrics_table *table, const struct metrics_key *key,
                                          uint32_t *ret_slot, uint32_t *ret_check)
{
        uint64_t hash = metrics_hash(key->identity, key->period);
        uint32_t check = (uint32_t)(hash >> 32);
        for (uint32_t i = (uint32_t)hash & table->slots_mask;; i = (i + 1) & table->slots_mask) {
                const struct metrics_slot *slot = &table->slots[i];
                if (slot->entry == 0) {
                        *ret_slot = i;
                        *ret_check = check;
                        return NULL;
                }
                if (slot->check != check)
                        continue;
                struct metrics_entry *entry = &table->entries[slot->entry - 1];
                if (entry->identity == key->identity && entry->period == key->period && entry->type == key->type &&
                    entry->roll_up == key->roll_up && entry->values_bytes == key->bytes &&
                    memcmp(table->values + entry->values_at, key->values, key->bytes) == 0)
                        return entry;
        }
}

static void metrics_add(struct metrics_table *table, const struct metrics_key *key, uint32_t cost, uint32_t slot,
                        uint32_t check, uint64_t count)
{
        ASSERT(table->entries_count < table->entries_max);
        ASSERT(cost <= table->values_max - table->values_used);
        memcpy(table->values + table->values_end, key->values, key->bytes);
        table->entries[table->entries_count] = (struct metrics_entry){
                .identity = key->identity,
                .count = count,
                .period = key->period,
                .values_at = table->values_end,
                .values_bytes = (uint16_t)key->bytes,
                .type = key->type,
                .roll_up = key->roll_up,
        };
        table->order[table->entries_count] = table->entries_count;
        table->values_end += key->bytes;
        table->values_used += cost;
        table->slots[slot] = (struct metrics_slot){.entry = ++table->entries_count, .check = check};
}

/* ---------------------------------------------------------------------------------------------- the budget */

/* In the file identities are odd, and these even. */
#define METRICS_BESIDE(type, roll_up) ((uint64_t)(type) << 8 | (uint64_t)(roll_up) << 1)
_Static_assert(LIMIT_CLOUDWATCH_SERIES_MAX + (CODEC_EVENT_TYPES_COUNT + 1) * RULES_ROLL_UPS_MAX <= SERIES_RECORDS_MAX,
               "every series of an hour has a record");

static void metrics_hour_clear(struct metrics_table *table, struct metrics_hour *hour, int64_t number)
{
        memset(hour->identities, 0, ((size_t)table->hour_slots_mask + 1) * sizeof(*hour->identities));
        hour->hour = number;
        hour->count = hour->beside_count = 0;
        memset(hour->beside, 0, sizeof(hour->beside));
}

/* A new hour makes the newest one the one before; after a gap that one is empty. */
static struct metrics_hour *metrics_hour_of(struct metrics_table *table, int64_t number)
{
        struct metrics_hour *newest = &table->hours[0], *before = &table->hours[1];
        if (number == newest->hour)
                return newest;
        if (number < newest->hour)
                return before;
        struct metrics_hour kept = *before;
        *before = *newest;
        *newest = kept;
        metrics_hour_clear(table, newest, number);
        if (before->hour != number - 1)
                metrics_hour_clear(table, before, number - 1);
        return newest;
}

static bool metrics_admit(struct metrics_table *table, int64_t hour_number, uint64_t identity)
{
        struct metrics_hour *hour = metrics_hour_of(table, hour_number);
        uint32_t i = (uint32_t)(identity >> 1) & table->hour_slots_mask;
        for (; hour->identities[i] != 0; i = (i + 1) & table->hour_slots_mask)
                if (hour->identities[i] == identity)
                        return true;
        if (hour->count == table->config.series_max)
                return false;
        hour->identities[i] = identity;
        hour->count++;
        if (table->series != NULL)
                series_add(table->series, hour->hour, identity);
        return true;
}

/* An overflow series, or one without dimensions, is there in the hour. */
static void metrics_beside(struct metrics_table *table, int64_t hour_number, uint8_t type, uint32_t roll_up)
{
        struct metrics_hour *hour = metrics_hour_of(table, hour_number);
        uint16_t bit = (uint16_t)(1u << roll_up);
        ASSERT(type > 0 && type <= CODEC_EVENT_TYPES_COUNT);
        if ((hour->beside[type] & bit) != 0)
                return;
        hour->beside[type] |= bit;
        hour->beside_count++;
        if (table->series != NULL)
                series_add(table->series, hour->hour, METRICS_BESIDE(type, roll_up));
}

uint32_t metrics_table_records_max(const struct rules_cloudwatch *cloudwatch)
{
        return cloudwatch->series_max + (CODEC_EVENT_TYPES_COUNT + 1) * cloudwatch->roll_ups_count;
}

/* Into hours that are empty. */
static void metrics_load_hours(struct metrics_table *table, struct series *series)
{
        int64_t newest = series_newest_hour(series);
        table->series = NULL; /* they are written down */
        for (int64_t hour = newest - 1; newest != SERIES_NO_HOUR && hour <= newest; hour++)
                for (uint32_t i = 0; i < series_count(series, hour); i++) {
                        uint64_t value = series_get(series, hour, i);
                        uint64_t type = value >> 8, roll_up = (value & 0xff) / 2;
                        if ((value & 1) != 0)
                                (void)metrics_admit(table, hour, value); /* more than the budget cannot be in it */
                        else if (type > 0 && type <= CODEC_EVENT_TYPES_COUNT && roll_up < table->config.roll_ups_count)
                                metrics_beside(table, hour, (uint8_t)type, (uint32_t)roll_up);
                }
        table->series = series;
}

void metrics_table_keep(struct metrics_table *table, struct series *series)
{
        ASSERT(table->entries_count == 0 && table->hours[0].hour == INT64_MIN);
        table->seed = series_seed(series);
        metrics_load_hours(table, series);
}

void metrics_table_forget_after(struct metrics_table *table, int64_t hour_max)
{
        struct metrics_hour *newest = &table->hours[0], *before = &table->hours[1];
        if (newest->hour <= hour_max)
                return;
        if (table->series != NULL)
                series_forget_after(table->series, hour_max);
        /* With a file both are read again: it has back what is still there of the hour before `before`, which the table
         * has no more. */
        if (table->series == NULL && before->hour <= hour_max) {
                struct metrics_hour kept = *newest;
                *newest = *before;
                *before = kept;
                metrics_hour_clear(table, before, newest->hour == INT64_MIN ? INT64_MIN : newest->hour - 1);
                return;
        }
        metrics_hour_clear(table, newest, INT64_MIN);
        metrics_hour_clear(table, before, INT64_MIN);
        if (table->series != NULL)
                metrics_load_hours(table, table->series);
}

/* ---------------------------------------------------------------------------------------------- counting */

/* A series that is not in the table: `slot` and `check` are what metrics_find() said. True when it went under the
 * overflow value. There is room. */
static bool metrics_count_new(struct metrics_table *table, const struct metrics_key *key, uint32_t slot, uint32_t check,
                              const struct metrics_value *values, int64_t accepted_ms, uint32_t copies)
{
        struct metrics_key overflow;
        const int64_t hour = accepted_ms / METRICS_MS_PER_HOUR;
        const uint8_t type = key->type, roll_up = key->roll_up;
        /* It may be the overflow series itself; without dimensions it is. */
        metrics_key_make(table, &overflow, type, roll_up, NULL);
        bool is_overflow = key->identity == overflow.identity;
        if (is_overflow || metrics_admit(table, hour, key->identity)) {
                if (is_overflow)
                        metrics_beside(table, hour, type, roll_up);
                metrics_add(table, key, metrics_key_cost(table, roll_up, values), slot, check, copies);
                return false;
        }
        metrics_beside(table, hour, type, roll_up);
        overflow.period = key->period;
        struct metrics_entry *entry = metrics_find(table, &overflow, &slot, &check);
        if (entry != NULL)
                entry->count += copies;
        else
                metrics_add(table, &overflow, metrics_key_cost(table, roll_up, NULL), slot, check, copies);
        return true;
}

enum err_code metrics_table_count(struct metrics_table *table, const struct codec_view *view,
                                  const struct codec_json_options *options, int64_t accepted_ms, uint32_t copies)
{
        const struct rules_cloudwatch *config = &table->config;
        /* The most that it can add. Early is no harm: the period is closed, and the rest of it is another request. */
        if (table->entries_max - table->entries_count < config->roll_ups_count ||
            table->values_max - table->values_used < table->event_bytes_max)
                return ERR_FULL;
        struct metrics_values values;
        struct metrics_key key;
        metrics_resolve(table, view, options, &values);
        if (accepted_ms < 0)
                accepted_ms = 0;
        key.period = accepted_ms / 1000 / config->period_s;
        uint32_t counted = 0;
        bool overflowed = false, left_out = false;
        for (uint32_t i = 0; i < config->roll_ups_count; i++) {
                const uint32_t dimensions = config->roll_ups[i];
                struct metrics_entry *entry = NULL;
                uint32_t slot = 0, check = 0;
                if ((dimensions & values.too_long) == 0) {
                        metrics_key_make(table, &key, (uint8_t)view->type, i, values.of);
                        entry = metrics_find(table, &key, &slot, &check);
                }
                if (entry != NULL) {
                        entry->count += copies;
                        counted++;
                        continue;
                }
                metrics_judge(table, &values);
                if ((dimensions & values.refused) != 0) {
                        left_out = true;
                        continue;
                }
                if (metrics_count_new(table, &key, slot, check, values.of, accepted_ms, copies))
                        overflowed = true;
                counted++;
        }
        struct metrics_stats *stats = &table->stats;
        stats->events += counted > 0 ? copies : 0;
        stats->overflowed += overflowed ? copies : 0;
        if (values.several != 0) {
                stats->several_values += copies;
                stats->several_mask |= values.several;
        }
        if (left_out) {
                stats->values_refused += copies;
                stats->refused_mask |= values.refused;
                for (size_t i = 0; i < METRICS_REFUSALS_COUNT; i++)
                        stats->refused_why[i] |= values.why[i];
        }
        return counted > 0 ? ERR_OK : ERR_NAME;
}

/* ---------------------------------------------------------------------------------------------- reading */

uint32_t metrics_table_series(const struct metrics_table *table)
{
        return table->entries_count;
}

/* -1, 0 or 1, as memcmp() says it. */
static int metrics_compare(const struct metrics_table *table, uint32_t a_index, uint32_t b_index)
{
        const struct metrics_entry *a = &table->entries[a_index], *b = &table->entries[b_index];
        if (a->period != b->period)
                return a->period < b->period ? -1 : 1;
        if (a->type != b->type)
                return a->type < b->type ? -1 : 1;
        if (a->roll_up != b->roll_up)
                return a->roll_up < b->roll_up ? -1 : 1;
        uint32_t bytes = a->values_bytes < b->values_bytes ? a->values_bytes : b->values_bytes;
        int order = memcmp(table->values + a->values_at, table->values + b->values_at, bytes);
        if (order != 0)
                return order;
        return a->values_bytes < b->values_bytes ? -1 : a->values_bytes > b->values_bytes;
}

/* Merges runs of doubling length between two arrays: qsort() would ask for memory. */
void metrics_table_sort(struct metrics_table *table)
{
        uint32_t count = table->entries_count;
        uint32_t *from = table->order, *to = table->order_room;
        for (uint32_t run = 1; run < count; run *= 2) {
                for (uint32_t low = 0; low < count; low += 2 * run) {
                        uint32_t middle = low + run < count ? low + run : count;
                        uint32_t high = low + 2 * run < count ? low + 2 * run : count;
                        for (uint32_t a = low, b = middle, i = low; i < high; i++)
                                to[i] = a < middle && (b >= high || metrics_compare(table, from[a], from[b]) <= 0)
                                                ? from[a++]
                                                : from[b++];
                }
                uint32_t *swapped = from;
                from = to;
                to = swapped;
        }
        table->order = from;
        table->order_room = to;
}

void metrics_table_get(const struct metrics_table *table, uint32_t index, struct metrics_datum *ret_datum)
{
        ASSERT(index < table->entries_count);
        const struct metrics_entry *entry = &table->entries[table->order[index]];
        const uint8_t *at = table->values + entry->values_at;
        ret_datum->metric = slice_of_text(codec_event_type_metric((enum sendring_event_type)entry->type));
        ret_datum->time_s = entry->period * table->config.period_s;
        ret_datum->count = entry->count;
        ret_datum->dimensions_count = 0;
        for (uint32_t mask = table->config.roll_ups[entry->roll_up]; mask != 0; mask &= mask - 1) {
                struct metrics_dimension *dimension = &ret_datum->dimensions[ret_datum->dimensions_count++];
                dimension->name = table->config.dimensions[__builtin_ctz(mask)].name;
                uint16_t len;
                memcpy(&len, at, METRICS_LENGTH_BYTES);
                dimension->value = slice_of(at + METRICS_LENGTH_BYTES, len);
                at += METRICS_LENGTH_BYTES + (size_t)len;
        }
        ASSERT(at == table->values + entry->values_at + entry->values_bytes);
}

void metrics_table_get_stats(const struct metrics_table *table, struct metrics_stats *ret_stats)
{
        *ret_stats = table->stats;
        ret_stats->hour = table->hours[0].hour;
        ret_stats->hour_series = table->hours[0].count + table->hours[0].beside_count;
        ret_stats->hour_before_series = table->hours[1].count + table->hours[1].beside_count;
}
