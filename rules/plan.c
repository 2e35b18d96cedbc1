/* The plan: a perfect hash table of set names, and what people ask about it.
 *
 * A name's hash chooses a bucket, the bucket's shift and the hash a place in the table, and no two sets have the same:
 * the shifts are found when the plan is made. So a look-up touches 2 bytes of a small array, which stays in the first
 * cache, and one line: the set's record, with all that the hot call needs and the name, unless that is long. The hash
 * is seeded for each plan, so that names sent by producers cannot be made to collide. */
#include "base/hash.h"
#include "base/limits.h"
#include "base/random.h"
#include "codecs/codec.h"
#include "rules/pattern.h"

#include <stddef.h>
#include <stdlib.h>

#define PLAN_TYPES       ((uint32_t)SENDRING_CLICK)
#define PLAN_NAME_INLINE 19u

struct plan_set {
        uint16_t masks[PLAN_TYPES];                       /* by event type - 1: bit i = destination i wants it */
        uint16_t targets[LIMIT_DESTINATIONS_PER_SET_MAX]; /* by destination; of those without target, unused */
        uint16_t filtered;                                /* bit i = destination i has a filter */
        uint16_t number;                                  /* in the order of the file */
        uint8_t name_len;                                 /* 0: no set has this place */
        uint8_t name[PLAN_NAME_INLINE];                   /* its beginning; the rest is in struct plan_place */
};
_Static_assert(sizeof(struct plan_set) == 64, "a set is one cache line");
_Static_assert(LIMIT_DESTINATIONS_PER_SET_MAX <= 16, "one bit of a mask for each destination");
_Static_assert(LIMIT_DESTINATIONS_PER_SET_MAX <= LIMIT_ROUTES_PER_EVENT_MAX, "every match fits the caller's array");
_Static_assert(LIMIT_TARGETS_MAX <= UINT16_MAX, "target indexes fit 16 bits");

_Static_assert(LIMIT_CONFIGURATION_SETS_MAX <= UINT16_MAX, "numbers of sets fit 16 bits");

/* Names per bucket, about, and places in the table per 8 names. */
#define PLAN_BUCKET_NAMES 3u
#define PLAN_PLACES_OF_8  11u

/* The colder half of a set, by its number. */
struct plan_place {
        struct slice name;
        uint32_t first_destination, destinations_count;
        uint32_t line;
};

struct plan_destination {
        struct slice name;
        uint32_t target_index;
        uint16_t event_types_mask;
        bool enabled;
};

struct rules_plan {
        uint64_t seed;
        const uint16_t *shifts; /* by bucket */
        const struct plan_set *table;
        uint32_t buckets_mask, table_count;
        uint32_t sets_count;
        const struct plan_set *default_set;     /* or NULL */
        const struct rules_defaults *by_domain; /* or NULL */
        struct plan_place *places;              /* in the order of the file */
        struct plan_destination *destinations;
        uint32_t destinations_count;
        /* Of destination d of set s: [s * LIMIT_DESTINATIONS_PER_SET_MAX + d], apart from what is not asked for each
         * event. NULL: there are none. */
        const struct rules_pattern **filters;
        uint32_t targets_count;
        struct rules_target *targets;
        struct arena arena; /* owns all of the above, and this struct */
};

/* ---------------------------------------------------------------------------------------------- hashing */

/* At least twice the entries. */
static uint32_t plan_slots_for(uint32_t entries)
{
        uint32_t slots = 16;
        while (slots < entries * 2)
                slots *= 2;
        return slots;
}

/* ---------------------------------------------------------------------------------------------- matching */

/* Where a name of this hash may stand, by its bucket's shift. */
static uint32_t plan_place_of(uint64_t hash, uint32_t shift, uint32_t table_count)
{
        uint32_t mixed = ((uint32_t)(hash >> 32) ^ shift * 0x9e3779b1u) * 0x85ebca6bu;
        return (uint32_t)((uint64_t)mixed * table_count >> 32);
}

static bool plan_is_named(const struct plan_set *set, const struct plan_place *places, struct slice name)
{
        if (name.len != set->name_len)
                return false;
        if (name.len <= PLAN_NAME_INLINE)
                return slice_equal(name, slice_of(set->name, name.len));
        return slice_equal(name, places[set->number].name);
}

/* NULL: no set has this name. `name` is not empty. */
static const struct plan_set *plan_find(const struct rules_plan *plan, struct slice name)
{
        if (name.len > LIMIT_NAME_BYTES_MAX)
                return NULL;
        uint64_t hash = hash_bytes(plan->seed, name);
        uint32_t shift = plan->shifts[(uint32_t)hash & plan->buckets_mask];
        const struct plan_set *set = &plan->table[plan_place_of(hash, shift, plan->table_count)];
        return plan_is_named(set, plan->places, name) ? set : NULL;
}

/* The set of an event that names this one; none: the default one, or NULL. */
static const struct plan_set *plan_set_of(const struct rules_plan *plan, struct slice name)
{
        return name.len == 0 ? plan->default_set : plan_find(plan, name);
}

/* NULL: the destination has none. */
static const struct rules_pattern *plan_filter_of(const struct rules_plan *plan, const struct plan_set *set,
                                                  uint32_t destination)
{
        if (plan->filters == NULL)
                return NULL;
        return plan->filters[set->number * LIMIT_DESTINATIONS_PER_SET_MAX + destination];
}

/* Lines of 64 bytes that a filter with a few values has, about: patterns lie in one piece, by the arena. */
#define PLAN_FILTER_LINES 4u

/* Takes away the destinations whose filter does not match. */
static __attribute__((noinline)) uint32_t plan_filter(const struct rules_plan *plan, const struct plan_set *set,
                                                      uint32_t mask, const struct codec_view *view,
                                                      const struct codec_json_options *options, bool *ret_exhausted)
{
        const struct rules_pattern *const *filters = &plan->filters[set->number * LIMIT_DESTINATIONS_PER_SET_MAX];
        struct codec_field_reader reader;
        codec_field_reader_init(&reader, view, options);
        for (uint32_t left = mask & set->filtered; left != 0; left &= left - 1) {
                /* With thousands of filters none is in the cache: they come while the first ones are asked. */
                const uint8_t *pattern = (const uint8_t *)filters[__builtin_ctz(left)];
                for (uint32_t line = 0; line < PLAN_FILTER_LINES; line++)
                        __builtin_prefetch(pattern + 64 * line);
        }
        for (uint32_t left = mask & set->filtered; left != 0; left &= left - 1) {
                uint32_t place = (uint32_t)__builtin_ctz(left);
                /* The same filter for several destinations of a set is asked once for each: that is rare. */
                if (!rules_pattern_match(filters[place], &reader))
                        mask &= ~(1u << place);
                *ret_exhausted |= reader.exhausted;
        }
        return mask;
}

/* Which destinations of *ret_set want it: one bit each. Fills ret_match but for its targets. */
static inline uint32_t plan_match(const struct rules_plan *plan, const struct codec_view *view,
                                  const struct codec_json_options *options, struct rules_match *ret_match,
                                  const struct plan_set **ret_set)
{
        struct slice set = view->configuration_set;
        const struct plan_set *found = plan_set_of(plan, set);
        uint32_t type = (uint32_t)view->type - 1u;
        ret_match->set_known = found != NULL || set.len == 0;
        ret_match->filter_exhausted = false;
        *ret_set = found;
        if (found == NULL || type >= PLAN_TYPES)
                return 0;
        uint32_t mask = found->masks[type];
        if (__builtin_expect((mask & found->filtered) != 0, 0))
                mask = plan_filter(plan, found, mask, view, options, &ret_match->filter_exhausted);
        return mask;
}

uint32_t rules_plan_match(const struct rules_plan *plan, const struct codec_view *view,
                          const struct codec_json_options *options, struct rules_match *ret_match)
{
        const struct plan_set *set;
        uint32_t count = 0;
        for (uint32_t mask = plan_match(plan, view, options, ret_match, &set); mask != 0; mask &= mask - 1)
                ret_match->targets[count++] = set->targets[__builtin_ctz(mask)];
        return count;
}

uint32_t rules_plan_match_only(const struct rules_plan *plan, const struct codec_view *view,
                               const struct codec_json_options *options, struct slice destination,
                               struct rules_match *ret_match)
{
        const struct plan_set *set;
        uint32_t count = 0;
        bool by_key = false;
        for (uint32_t mask = plan_match(plan, view, options, ret_match, &set); mask != 0; mask &= mask - 1) {
                uint32_t place = (uint32_t)__builtin_ctz(mask);
                uint16_t target = set->targets[place];
                bool is_key = slice_equal(plan->targets[target].key, destination);
                bool is_name = slice_equal(plan->destinations[plan->places[set->number].first_destination + place].name,
                                           destination);
                if (is_name || (is_key && !by_key))
                        ret_match->targets[count++] = target;
                by_key |= is_key;
        }
        return count;
}

bool rules_plan_asks_domain(const struct rules_plan *plan)
{
        return plan->by_domain != NULL;
}

struct slice rules_plan_default_set(const struct rules_plan *plan, struct slice domain)
{
        struct slice set = plan->by_domain == NULL ? SLICE_EMPTY : rules_defaults_find(plan->by_domain, domain);
        if (set.len > 0 || plan->default_set == NULL)
                return set;
        return plan->places[plan->default_set->number].name;
}

struct slice rules_plan_default_set_of(const struct rules_plan *plan, const struct codec_view *view)
{
        return rules_plan_default_set(plan, rules_plan_asks_domain(plan) ? codec_view_from_domain(view) : SLICE_EMPTY);
}

/* ---------------------------------------------------------------------------------------------- explaining */

bool rules_plan_explain(const struct rules_plan *plan, const struct codec_view *view,
                        const struct codec_json_options *options,
                        void (*each)(void *context, const struct rules_explanation *explanation), void *context)
{
        const struct plan_set *set = plan_set_of(plan, view->configuration_set);
        if (set == NULL)
                return false;
        const struct plan_place *place = &plan->places[set->number];
        for (uint32_t k = 0; k < place->destinations_count; k++) {
                const struct plan_destination *destination = &plan->destinations[place->first_destination + k];
                const struct rules_pattern *filter = plan_filter_of(plan, set, k);
                struct rules_explanation explanation = {
                        .set = place->name,
                        .destination = destination->name,
                        .target_index = destination->target_index,
                        .has_filter = filter != NULL,
                        .verdict = RULES_VERDICT_MATCH,
                };
                struct codec_field_reader reader;
                codec_field_reader_init(&reader, view, options);
                if (!destination->enabled) {
                        explanation.verdict = RULES_VERDICT_DISABLED;
                } else if ((destination->event_types_mask & (1u << (unsigned)view->type)) == 0) {
                        explanation.verdict = RULES_VERDICT_EVENT_TYPE;
                } else if (filter != NULL && !rules_pattern_match(filter, &reader)) {
                        explanation.verdict = reader.exhausted ? RULES_VERDICT_FILTER_LIMIT : RULES_VERDICT_FILTER;
                        if (!reader.exhausted)
                                explanation.member = rules_pattern_failed(filter, &reader);
                } else if (destination->target_index == RULES_TARGET_NONE) {
                        explanation.verdict = RULES_VERDICT_NOT_PUBLISHED;
                }
                each(context, &explanation);
        }
        return true;
}

/* ---------------------------------------------------------------------------------------------- asking */

uint32_t rules_plan_sets_count(const struct rules_plan *plan)
{
        return plan->sets_count;
}

uint32_t rules_plan_destinations_count(const struct rules_plan *plan)
{
        return plan->destinations_count;
}

uint32_t rules_plan_targets_count(const struct rules_plan *plan)
{
        return plan->targets_count;
}

const struct rules_target *rules_plan_target(const struct rules_plan *plan, uint32_t index)
{
        return index < plan->targets_count ? &plan->targets[index] : NULL;
}

size_t rules_plan_bytes(const struct rules_plan *plan)
{
        return plan->arena.allocated_bytes;
}

void rules_plan_each(const struct rules_plan *plan,
                     void (*each)(void *context, struct slice set, struct slice destination, bool enabled,
                                  uint16_t event_types_mask, uint32_t target_index),
                     void *context)
{
        for (uint32_t i = 0; i < plan->sets_count; i++) {
                const struct plan_place *set = &plan->places[i];
                for (uint32_t k = 0; k < set->destinations_count; k++) {
                        const struct plan_destination *destination = &plan->destinations[set->first_destination + k];
                        each(context, set->name, destination->name, destination->enabled, destination->event_types_mask,
                             destination->target_index);
                }
        }
}

/* The keys of policies do not stay in memory that is given back. */
static void plan_wipe(const struct rules_target *target)
{
        if (target->redaction != NULL)
                codec_redaction_clear((struct codec_redaction *)(uintptr_t)target->redaction); /* the plan's own copy */
}

void rules_plan_free(struct rules_plan *plan)
{
        if (plan == NULL)
                return;
        for (uint32_t i = 0; plan->targets != NULL && i < plan->targets_count; i++)
                plan_wipe(&plan->targets[i]);
        struct arena arena = plan->arena; /* the plan lies in its own arena */
        arena_release(&arena);
}

const char *rules_service_name(enum rules_service service)
{
        switch (service) {
        case RULES_SERVICE_FIREHOSE:
                return "firehose";
        case RULES_SERVICE_FILE:
                return "file";
        case RULES_SERVICE_CLOUDWATCH:
                return "cloudwatch";
        case RULES_SERVICE_SNS:
                return "sns";
        case RULES_SERVICE_EVENTBRIDGE:
                return "eventbridge";
        case RULES_SERVICE_PINPOINT:
                return "pinpoint";
        }
        return "unknown";
}

/* ---------------------------------------------------------------------------------------------- building */

#define PLAN_TARGET_SLOTS 16384u
_Static_assert(PLAN_TARGET_SLOTS >= 2 * LIMIT_TARGETS_MAX, "the table of targets is at most half full");

struct plan_wanted {
        struct rules_target target;
        uint64_t hash;
        uint32_t first_line;
};

struct rules_plan_builder {
        struct arena arena;
        struct rules_plan *plan;
        uint32_t sets_max;
        struct plan_set *sets; /* by number */
        uint64_t *hashes;
        uint32_t *slots; /* a table of the names so far: number + 1 */
        uint32_t slots_mask;
        struct plan_destination *destinations; /* sets_max * LIMIT_DESTINATIONS_PER_SET_MAX */
        const struct rules_pattern **filters;  /* as many, as in the plan */
        bool has_filters;
        struct plan_wanted *targets;
        uint16_t target_slots[PLAN_TARGET_SLOTS]; /* index + 1 */
};

struct rules_plan_builder *rules_plan_builder_create(uint32_t sets_max)
{
        struct rules_plan_builder *builder = calloc(1, sizeof(*builder));
        if (builder == NULL)
                return NULL;
        arena_init(&builder->arena, 0, 0);
        builder->sets_max = sets_max;
        builder->destinations = arena_alloc_array(&builder->arena, (size_t)sets_max * LIMIT_DESTINATIONS_PER_SET_MAX,
                                                  sizeof(*builder->destinations));
        builder->filters = arena_alloc_array(&builder->arena, (size_t)sets_max * LIMIT_DESTINATIONS_PER_SET_MAX,
                                             sizeof(const struct rules_pattern *));
        builder->targets = arena_alloc_array(&builder->arena, LIMIT_TARGETS_MAX, sizeof(*builder->targets));
        struct arena arena;
        arena_init(&arena, 0, 0);
        struct rules_plan *plan = arena_alloc(&arena, sizeof(*plan));
        if (plan == NULL) {
                rules_plan_builder_free(builder);
                return NULL;
        }
        plan->arena = arena;
        builder->plan = plan;
        struct random_state random;
        random_init(&random, 0);
        plan->seed = random_u64(&random);
        uint32_t slots = plan_slots_for(sets_max);
        builder->slots_mask = slots - 1;
        builder->slots = arena_alloc_array(&builder->arena, slots, sizeof(*builder->slots));
        builder->sets = arena_alloc_array(&builder->arena, sets_max, sizeof(*builder->sets));
        builder->hashes = arena_alloc_array(&builder->arena, sets_max, sizeof(*builder->hashes));
        plan->places = arena_alloc_array(&plan->arena, sets_max, sizeof(*plan->places));
        if (builder->destinations == NULL || builder->filters == NULL || builder->targets == NULL ||
            builder->slots == NULL || builder->sets == NULL || builder->hashes == NULL || plan->places == NULL) {
                rules_plan_builder_free(builder);
                return NULL;
        }
        return builder;
}

void rules_plan_builder_free(struct rules_plan_builder *builder)
{
        if (builder == NULL)
                return;
        /* A plan that came to nothing: its targets are still the builder's. */
        for (uint32_t i = 0; builder->plan != NULL && builder->targets != NULL && i < builder->plan->targets_count; i++)
                plan_wipe(&builder->targets[i].target);
        if (builder->plan != NULL)
                builder->plan->targets = NULL;
        rules_plan_free(builder->plan);
        arena_release(&builder->arena);
        free(builder);
}

bool rules_plan_builder_set(struct rules_plan_builder *builder, struct slice name, uint32_t line)
{
        struct rules_plan *plan = builder->plan;
        if (plan->sets_count == builder->sets_max || name.len > LIMIT_NAME_BYTES_MAX)
                return false;
        struct slice copy = arena_copy(&plan->arena, name);
        if (copy.ptr == NULL)
                return false;
        uint64_t hash = hash_bytes(plan->seed, name);
        uint32_t i = (uint32_t)hash & builder->slots_mask, number = plan->sets_count++;
        while (builder->slots[i] != 0)
                i = (i + 1) & builder->slots_mask;
        builder->slots[i] = number + 1;
        builder->hashes[number] = hash;
        struct plan_set *set = &builder->sets[number];
        set->number = (uint16_t)number;
        set->name_len = (uint8_t)name.len;
        memcpy(set->name, copy.ptr, name.len < PLAN_NAME_INLINE ? name.len : PLAN_NAME_INLINE);
        plan->places[number] =
                (struct plan_place){.name = copy, .first_destination = plan->destinations_count, .line = line};
        return true;
}

static const struct plan_set *plan_builder_find(const struct rules_plan_builder *builder, struct slice name)
{
        uint64_t hash = hash_bytes(builder->plan->seed, name);
        for (uint32_t i = (uint32_t)hash & builder->slots_mask;; i = (i + 1) & builder->slots_mask) {
                if (builder->slots[i] == 0)
                        return NULL;
                const struct plan_set *set = &builder->sets[builder->slots[i] - 1];
                if (builder->hashes[set->number] == hash && plan_is_named(set, builder->plan->places, name))
                        return set;
        }
}

uint32_t rules_plan_builder_find(const struct rules_plan_builder *builder, struct slice name)
{
        const struct plan_set *set = plan_builder_find(builder, name);
        return set == NULL ? 0 : builder->plan->places[set->number].line;
}

struct arena *rules_plan_builder_arena(struct rules_plan_builder *builder)
{
        return &builder->plan->arena;
}

static bool plan_target_copy(struct arena *arena, const struct rules_target *wanted, struct rules_target *ret_target)
{
        *ret_target = *wanted;
        ret_target->key = arena_copy(arena, wanted->key);
        ret_target->resource = arena_copy(arena, wanted->resource);
        ret_target->arn = arena_copy(arena, wanted->arn);
        ret_target->region = arena_copy(arena, wanted->region);
        ret_target->account_id = arena_copy(arena, wanted->account_id);
        ret_target->partition = arena_copy(arena, wanted->partition);
        ret_target->endpoint = arena_copy(arena, wanted->endpoint);
        if (wanted->redaction != NULL) {
                struct codec_redaction *redaction = arena_alloc(arena, sizeof(*redaction));
                if (redaction == NULL)
                        return false;
                *redaction = *wanted->redaction;
                ret_target->redaction = redaction;
        }
        if (wanted->cloudwatch != NULL)
                ret_target->cloudwatch = rules_cloudwatch_copy(arena, wanted->cloudwatch);
        return (wanted->cloudwatch == NULL) == (ret_target->cloudwatch == NULL) && ret_target->key.ptr != NULL &&
               ret_target->resource.ptr != NULL && ret_target->endpoint.ptr != NULL && ret_target->arn.ptr != NULL &&
               ret_target->region.ptr != NULL && ret_target->account_id.ptr != NULL &&
               ret_target->partition.ptr != NULL;
}

enum err_code rules_plan_builder_target(struct rules_plan_builder *builder, const struct rules_target *wanted,
                                        uint32_t line, struct rules_target **ret_target, uint32_t *ret_first_line)
{
        struct rules_plan *plan = builder->plan;
        uint64_t hash = hash_bytes(plan->seed, wanted->key);
        uint32_t slot = (uint32_t)hash % PLAN_TARGET_SLOTS;
        for (; builder->target_slots[slot] != 0; slot = (slot + 1) % PLAN_TARGET_SLOTS) {
                struct plan_wanted *other = &builder->targets[builder->target_slots[slot] - 1];
                if (other->hash == hash && slice_equal(other->target.key, wanted->key)) {
                        *ret_target = &other->target;
                        *ret_first_line = other->first_line;
                        return ERR_OK;
                }
        }
        if (plan->targets_count == LIMIT_TARGETS_MAX)
                return ERR_LIMIT;
        struct plan_wanted *added = &builder->targets[plan->targets_count];
        if (!plan_target_copy(&plan->arena, wanted, &added->target))
                return ERR_MEMORY;
        added->target.index = plan->targets_count++;
        added->hash = hash;
        added->first_line = line;
        builder->target_slots[slot] = (uint16_t)plan->targets_count;
        *ret_target = &added->target;
        *ret_first_line = line;
        return ERR_OK;
}

/* What reads a file, or a stream's objects, cannot tell which bytes are whose. */
static bool plan_targets_clash(const struct rules_target *a, const struct rules_target *b)
{
        if (a->service != b->service)
                return false;
        return a->service == RULES_SERVICE_FILE ? slice_equal(a->resource, b->resource)
                                                : a->gzip != b->gzip && slice_equal(a->arn, b->arn);
}

uint32_t rules_plan_builder_clash_line(const struct rules_plan_builder *builder, const struct rules_target *target)
{
        /* Once for each target: the first destination that names it. */
        for (uint32_t i = 0; target->destinations_count == 0 && i < builder->plan->targets_count; i++) {
                const struct plan_wanted *other = &builder->targets[i];
                if (&other->target != target && plan_targets_clash(&other->target, target))
                        return other->first_line;
        }
        return 0;
}

bool rules_plan_builder_destination(struct rules_plan_builder *builder, struct slice name, bool enabled,
                                    uint16_t event_types_mask, uint32_t target_index,
                                    const struct rules_pattern *filter)
{
        struct rules_plan *plan = builder->plan;
        struct plan_place *place = &plan->places[plan->sets_count - 1];
        struct plan_set *set = &builder->sets[plan->sets_count - 1];
        if (place->destinations_count == LIMIT_DESTINATIONS_PER_SET_MAX)
                return false;
        struct plan_destination destination = {
                .name = arena_copy(&plan->arena, name),
                .target_index = target_index,
                .event_types_mask = event_types_mask,
                .enabled = enabled,
        };
        if (destination.name.ptr == NULL)
                return false;
        uint32_t bit = place->destinations_count++;
        if (filter != NULL) {
                set->filtered = (uint16_t)(set->filtered | 1u << bit);
                builder->filters[(plan->sets_count - 1) * LIMIT_DESTINATIONS_PER_SET_MAX + bit] = filter;
                builder->has_filters = true;
        }
        builder->destinations[plan->destinations_count++] = destination;
        if (target_index == RULES_TARGET_NONE)
                return true;
        set->targets[bit] = (uint16_t)target_index;
        struct rules_target *target = &builder->targets[target_index].target;
        if (target->destinations_count++ == 0)
                target->destination = destination.name;
        else if (!slice_equal(target->destination, name))
                target->destination = SLICE_EMPTY;
        if (!enabled)
                return true;
        target->destinations_enabled_count++;
        for (uint32_t type = 0; type < PLAN_TYPES; type++)
                if ((event_types_mask & (2u << type)) != 0)
                        set->masks[type] = (uint16_t)(set->masks[type] | 1u << bit);
        return true;
}

bool rules_plan_builder_defaults(struct rules_plan_builder *builder, const struct rules_default_set *defaults,
                                 size_t count)
{
        struct rules_plan *plan = builder->plan;
        struct rules_defaults *table = count == 0 ? NULL : rules_defaults_create(&plan->arena, count);
        if (table == NULL)
                return count == 0;
        for (size_t i = 0; i < count; i++) {
                struct slice domain = arena_copy(&plan->arena, slice_of_text(defaults[i].domain));
                struct slice set = arena_copy(&plan->arena, slice_of_text(defaults[i].set));
                if (domain.ptr == NULL || set.ptr == NULL)
                        return false;
                (void)rules_defaults_add(table, domain, set); /* the settings have no domain twice */
        }
        plan->by_domain = table;
        return true;
}

/* ---------------------------------------------------------------------------------------------- the table */

/* What the table is made with. */
struct plan_making {
        const struct rules_plan_builder *builder;
        struct plan_set *table;
        uint16_t *shifts;
        uint32_t *buckets; /* numbers of sets, bucket by bucket */
        uint32_t *starts;  /* where each begins; one more */
        uint32_t *order;   /* buckets, the fullest first */
        uint32_t buckets_count, table_count;
};

/* Sorts the sets into buckets, and the buckets by how full they are. */
static void plan_sort_buckets(struct plan_making *making)
{
        const struct rules_plan_builder *builder = making->builder;
        uint32_t mask = making->buckets_count - 1, fullest = 0, filled = 0;
        for (uint32_t i = 0; i < builder->plan->sets_count; i++)
                making->starts[((uint32_t)builder->hashes[i] & mask) + 1]++;
        for (uint32_t i = 0; i < making->buckets_count; i++)
                fullest = making->starts[i + 1] > fullest ? making->starts[i + 1] : fullest;
        for (uint32_t i = 0; i < making->buckets_count; i++)
                making->starts[i + 1] += making->starts[i];
        for (uint32_t i = 0; i < making->buckets_count; i++)
                making->order[i] = making->starts[i]; /* where the bucket's next set goes, for now */
        for (uint32_t i = 0; i < builder->plan->sets_count; i++)
                making->buckets[making->order[(uint32_t)builder->hashes[i] & mask]++] = i;
        for (uint32_t size = fullest + 1; size-- > 0;)
                for (uint32_t i = 0; i < making->buckets_count; i++)
                        if (making->starts[i + 1] - making->starts[i] == size)
                                making->order[filled++] = i;
}

/* Puts the sets of one bucket where this shift says. False: somebody stands there; nothing was changed. */
static bool plan_put_bucket(struct plan_making *making, uint32_t bucket, uint32_t shift)
{
        const struct rules_plan_builder *builder = making->builder;
        uint32_t begin = making->starts[bucket], end = making->starts[bucket + 1];
        for (uint32_t i = begin; i < end; i++) {
                uint32_t number = making->buckets[i];
                struct plan_set *place =
                        &making->table[plan_place_of(builder->hashes[number], shift, making->table_count)];
                if (place->name_len == 0) {
                        *place = builder->sets[number];
                        continue;
                }
                while (i-- > begin)
                        making->table[plan_place_of(builder->hashes[making->buckets[i]], shift, making->table_count)]
                                .name_len = 0;
                return false;
        }
        making->shifts[bucket] = (uint16_t)shift;
        return true;
}

/* False: out of memory, or, with a chance of three in a million for 10,000 sets, no shifts for this seed. */
static bool plan_make_table(struct rules_plan_builder *builder)
{
        struct rules_plan *plan = builder->plan;
        struct plan_making making = {.builder = builder, .buckets_count = 16};
        while (making.buckets_count * PLAN_BUCKET_NAMES < plan->sets_count)
                making.buckets_count *= 2;
        making.table_count = plan->sets_count * PLAN_PLACES_OF_8 / 8 + 8;
        making.buckets = arena_alloc_array(&builder->arena, plan->sets_count, sizeof(uint32_t));
        making.starts = arena_alloc_array(&builder->arena, (size_t)making.buckets_count + 1, sizeof(uint32_t));
        making.order = arena_alloc_array(&builder->arena, making.buckets_count, sizeof(uint32_t));
        making.shifts = arena_alloc_array(&plan->arena, making.buckets_count, sizeof(uint16_t));
        uint8_t *lines = arena_alloc(&plan->arena, (size_t)making.table_count * sizeof(struct plan_set) + 64);
        if (making.buckets == NULL || making.starts == NULL || making.order == NULL || making.shifts == NULL ||
            lines == NULL)
                return false;
        making.table = (struct plan_set *)(void *)(lines + (64 - (uintptr_t)lines % 64) % 64);
        plan_sort_buckets(&making);
        for (uint32_t i = 0; i < making.buckets_count; i++) {
                uint32_t shift = 0;
                while (shift <= UINT16_MAX && !plan_put_bucket(&making, making.order[i], shift))
                        shift++;
                if (shift > UINT16_MAX)
                        return false;
        }
        plan->shifts = making.shifts;
        plan->table = making.table;
        plan->buckets_mask = making.buckets_count - 1;
        plan->table_count = making.table_count;
        return true;
}

struct rules_plan *rules_plan_builder_finish(struct rules_plan_builder *builder, struct slice default_set)
{
        struct rules_plan *plan = builder->plan;
        plan->destinations = arena_alloc_array(&plan->arena, plan->destinations_count, sizeof(*plan->destinations));
        plan->targets = arena_alloc_array(&plan->arena, plan->targets_count, sizeof(*plan->targets));
        if (plan->destinations == NULL || plan->targets == NULL)
                return NULL;
        size_t filters = (size_t)plan->sets_count * LIMIT_DESTINATIONS_PER_SET_MAX;
        if (builder->has_filters) {
                plan->filters = arena_alloc_array(&plan->arena, filters, sizeof(const struct rules_pattern *));
                if (plan->filters == NULL)
                        return NULL;
                memcpy(plan->filters, builder->filters, filters * sizeof(const struct rules_pattern *));
        }
        memcpy(plan->destinations, builder->destinations, plan->destinations_count * sizeof(*plan->destinations));
        for (uint32_t i = 0; i < plan->targets_count; i++)
                plan->targets[i] = builder->targets[i].target;
        for (int tries = 0; !plan_make_table(builder); tries++) {
                if (tries == 3)
                        return NULL;
                struct random_state random;
                random_init(&random, 0);
                plan->seed = random_u64(&random);
                for (uint32_t i = 0; i < plan->sets_count; i++)
                        builder->hashes[i] = hash_bytes(plan->seed, plan->places[i].name);
        }
        plan->default_set = default_set.len == 0 ? NULL : plan_find(plan, default_set);
        builder->plan = NULL;
        return plan;
}
