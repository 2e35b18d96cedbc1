/* The plan: a hash table of set names, and what people ask about it.
 *
 * A look-up touches a line of the index (4 bytes a slot, at most half full) and the set's record, one cache line that
 * holds all that the hot call needs and the name, unless that is long. For 10,000 sets both together are 770 KiB. The
 * hash is seeded for each plan, so that names sent by producers cannot be made to collide. */
#include "base/limits.h"
#include "base/random.h"
#include "codecs/codec.h"
#include "rules/pattern.h"

#include <stddef.h>
#include <stdlib.h>

#define PLAN_TYPES       ((uint32_t)SENDRING_CLICK)
#define PLAN_NAME_INLINE 21u

struct plan_set {
        uint16_t masks[PLAN_TYPES];                       /* by event type - 1: bit i = destination i wants it */
        uint16_t targets[LIMIT_DESTINATIONS_PER_SET_MAX]; /* by destination; of those without target, unused */
        uint16_t filtered;                                /* bit i = destination i has a filter */
        uint8_t name_len;
        uint8_t name[PLAN_NAME_INLINE]; /* its beginning; the rest is in struct plan_place */
};
_Static_assert(sizeof(struct plan_set) == 64, "a set is one cache line");
_Static_assert(LIMIT_DESTINATIONS_PER_SET_MAX <= 16, "one bit of a mask for each destination");
_Static_assert(LIMIT_DESTINATIONS_PER_SET_MAX <= LIMIT_ROUTES_PER_EVENT_MAX, "every match fits the caller's array");
_Static_assert(LIMIT_TARGETS_MAX <= UINT16_MAX, "target indexes fit 16 bits");

/* A slot of the index: number of the set + 1 in the low bits, bits of the hash above; 0: empty. */
#define PLAN_NUMBER_BITS 14u
_Static_assert(LIMIT_CONFIGURATION_SETS_MAX < (1u << PLAN_NUMBER_BITS), "numbers of sets fit a slot");

/* The colder half of a set, at the same number. */
struct plan_place {
        struct slice name;
        uint32_t first_destination, destinations_count;
        uint32_t line;
};

struct plan_destination {
        struct slice name;
        const struct rules_pattern *filter; /* or NULL */
        uint32_t target_index;
        uint16_t event_types_mask;
        bool enabled;
};

struct rules_plan {
        uint64_t seed;
        const uint32_t *slots;
        uint32_t slots_mask;
        uint32_t sets_count;
        uint32_t default_set;                   /* number, or PLAN_NO_SET */
        const struct rules_defaults *by_domain; /* or NULL */
        struct plan_set *sets;
        struct plan_place *places; /* in the order of the file */
        struct plan_destination *destinations;
        uint32_t destinations_count;
        uint32_t targets_count;
        struct rules_target *targets;
        struct arena arena; /* owns all of the above, and this struct */
};
#define PLAN_NO_SET UINT32_MAX

/* ---------------------------------------------------------------------------------------------- hashing */

__extension__ typedef unsigned __int128 plan_wide;

static uint64_t plan_mix(uint64_t a, uint64_t b)
{
        plan_wide product = (plan_wide)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t plan_read(const uint8_t *at, size_t bytes)
{
        uint64_t word = 0;
        memcpy(&word, at, bytes);
        return word;
}

/* Multiply and fold, eight bytes a step; the last step may read some bytes twice. */
static uint64_t plan_hash(uint64_t seed, struct slice text)
{
        const uint64_t k = UINT64_C(0x9e3779b97f4a7c15);
        uint64_t hash = seed ^ (text.len * k);
        const uint8_t *at = text.ptr;
        size_t left = text.len;
        for (; left > 8; left -= 8, at += 8)
                hash = plan_mix(hash ^ plan_read(at, 8), k ^ seed);
        uint64_t tail = 0;
        if (text.len >= 8)
                tail = plan_read(at + left - 8, 8);
        else if (left >= 4)
                tail = plan_read(at, 4) << 32 | plan_read(at + left - 4, 4);
        else if (left > 0)
                tail = (uint64_t)at[0] << 16 | (uint64_t)at[left / 2] << 8 | at[left - 1];
        return plan_mix(hash ^ tail, UINT64_C(0xd6e8feb86659fd93));
}

/* At least twice the entries. */
static uint32_t plan_slots_for(uint32_t entries)
{
        uint32_t slots = 16;
        while (slots < entries * 2)
                slots *= 2;
        return slots;
}

/* ---------------------------------------------------------------------------------------------- matching */

static uint32_t plan_slot(uint64_t hash, uint32_t number)
{
        return (uint32_t)(hash >> 32) << PLAN_NUMBER_BITS | (number + 1);
}

static bool plan_is_named(const struct rules_plan *plan, uint32_t number, struct slice name)
{
        const struct plan_set *set = &plan->sets[number];
        if (name.len != set->name_len)
                return false;
        if (name.len <= PLAN_NAME_INLINE)
                return slice_equal(name, slice_of(set->name, name.len));
        return slice_equal(name, plan->places[number].name);
}

/* Number of the set of this name, or PLAN_NO_SET. */
static uint32_t plan_find(const struct rules_plan *plan, struct slice name)
{
        if (name.len > LIMIT_NAME_BYTES_MAX)
                return PLAN_NO_SET;
        const uint32_t number_mask = (1u << PLAN_NUMBER_BITS) - 1;
        uint64_t hash = plan_hash(plan->seed, name);
        uint32_t tag = plan_slot(hash, 0) & ~number_mask;
        for (uint32_t i = (uint32_t)hash & plan->slots_mask;; i = (i + 1) & plan->slots_mask) {
                uint32_t slot = plan->slots[i];
                if (slot == 0)
                        return PLAN_NO_SET;
                if ((slot & ~number_mask) == tag && plan_is_named(plan, (slot & number_mask) - 1, name))
                        return (slot & number_mask) - 1;
        }
}

/* Takes away the destinations whose filter does not match. */
static __attribute__((noinline)) uint32_t plan_filter(const struct rules_plan *plan, uint32_t number, uint32_t mask,
                                                      const struct codec_view *view,
                                                      const struct codec_json_options *options, bool *ret_exhausted)
{
        const struct plan_destination *destinations = &plan->destinations[plan->places[number].first_destination];
        struct codec_field_reader reader;
        codec_field_reader_init(&reader, view, options);
        for (uint32_t left = mask & plan->sets[number].filtered; left != 0; left &= left - 1) {
                uint32_t place = (uint32_t)__builtin_ctz(left);
                /* The same filter for several destinations of a set is asked once for each: that is rare. */
                if (!rules_pattern_match(destinations[place].filter, &reader))
                        mask &= ~(1u << place);
                *ret_exhausted |= reader.exhausted;
        }
        return mask;
}

uint32_t rules_plan_match(const struct rules_plan *plan, const struct codec_view *view,
                          const struct codec_json_options *options, struct rules_match *ret_match)
{
        struct slice set = view->configuration_set;
        uint32_t number = set.len == 0 ? plan->default_set : plan_find(plan, set);
        uint32_t type = (uint32_t)view->type - 1u, count = 0;
        ret_match->set_known = number != PLAN_NO_SET || set.len == 0;
        ret_match->filter_exhausted = false;
        if (number == PLAN_NO_SET || type >= PLAN_TYPES)
                return 0;
        const struct plan_set *found = &plan->sets[number];
        uint32_t mask = found->masks[type];
        if (__builtin_expect((mask & found->filtered) != 0, 0))
                mask = plan_filter(plan, number, mask, view, options, &ret_match->filter_exhausted);
        for (; mask != 0; mask &= mask - 1)
                ret_match->targets[count++] = found->targets[__builtin_ctz(mask)];
        return count;
}

bool rules_plan_asks_domain(const struct rules_plan *plan)
{
        return plan->by_domain != NULL;
}

struct slice rules_plan_default_set(const struct rules_plan *plan, struct slice domain)
{
        struct slice set = plan->by_domain == NULL ? SLICE_EMPTY : rules_defaults_find(plan->by_domain, domain);
        if (set.len > 0 || plan->default_set == PLAN_NO_SET)
                return set;
        return plan->places[plan->default_set].name;
}

/* ---------------------------------------------------------------------------------------------- explaining */

bool rules_plan_explain(const struct rules_plan *plan, const struct codec_view *view,
                        const struct codec_json_options *options,
                        void (*each)(void *context, const struct rules_explanation *explanation), void *context)
{
        struct slice set = view->configuration_set;
        uint32_t number = set.len == 0 ? plan->default_set : plan_find(plan, set);
        if (number == PLAN_NO_SET)
                return false;
        const struct plan_place *place = &plan->places[number];
        for (uint32_t k = 0; k < place->destinations_count; k++) {
                const struct plan_destination *destination = &plan->destinations[place->first_destination + k];
                struct rules_explanation explanation = {
                        .set = place->name,
                        .destination = destination->name,
                        .target_index = destination->target_index,
                        .has_filter = destination->filter != NULL,
                        .verdict = RULES_VERDICT_MATCH,
                };
                struct codec_field_reader reader;
                codec_field_reader_init(&reader, view, options);
                if (!destination->enabled) {
                        explanation.verdict = RULES_VERDICT_DISABLED;
                } else if ((destination->event_types_mask & (1u << (unsigned)view->type)) == 0) {
                        explanation.verdict = RULES_VERDICT_EVENT_TYPE;
                } else if (destination->filter != NULL && !rules_pattern_match(destination->filter, &reader)) {
                        explanation.verdict = reader.exhausted ? RULES_VERDICT_FILTER_LIMIT : RULES_VERDICT_FILTER;
                        if (!reader.exhausted)
                                explanation.member = rules_pattern_failed(destination->filter, &reader);
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
        uint32_t *slots;                       /* of the plan */
        struct plan_destination *destinations; /* sets_max * LIMIT_DESTINATIONS_PER_SET_MAX */
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
        plan->slots_mask = slots - 1;
        plan->default_set = PLAN_NO_SET;
        plan->slots = builder->slots = arena_alloc_array(&plan->arena, slots, sizeof(*builder->slots));
        uint8_t *lines = arena_alloc(&plan->arena, (size_t)sets_max * sizeof(struct plan_set) + 64);
        plan->places = arena_alloc_array(&plan->arena, sets_max, sizeof(*plan->places));
        if (builder->destinations == NULL || builder->targets == NULL || plan->slots == NULL || lines == NULL ||
            plan->places == NULL) {
                rules_plan_builder_free(builder);
                return NULL;
        }
        plan->sets = (struct plan_set *)(void *)(lines + (64 - (uintptr_t)lines % 64) % 64);
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
        uint64_t hash = plan_hash(plan->seed, name);
        uint32_t i = (uint32_t)hash & plan->slots_mask, number = plan->sets_count++;
        while (plan->slots[i] != 0)
                i = (i + 1) & plan->slots_mask;
        builder->slots[i] = plan_slot(hash, number);
        struct plan_set *set = &plan->sets[number];
        set->name_len = (uint8_t)name.len;
        memcpy(set->name, copy.ptr, name.len < PLAN_NAME_INLINE ? name.len : PLAN_NAME_INLINE);
        plan->places[number] =
                (struct plan_place){.name = copy, .first_destination = plan->destinations_count, .line = line};
        return true;
}

uint32_t rules_plan_builder_find(const struct rules_plan_builder *builder, struct slice name)
{
        uint32_t number = plan_find(builder->plan, name);
        return number == PLAN_NO_SET ? 0 : builder->plan->places[number].line;
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
        if (wanted->redaction != NULL) {
                struct codec_redaction *redaction = arena_alloc(arena, sizeof(*redaction));
                if (redaction == NULL)
                        return false;
                *redaction = *wanted->redaction;
                ret_target->redaction = redaction;
        }
        return ret_target->key.ptr != NULL && ret_target->resource.ptr != NULL && ret_target->arn.ptr != NULL &&
               ret_target->region.ptr != NULL && ret_target->account_id.ptr != NULL &&
               ret_target->partition.ptr != NULL;
}

enum err_code rules_plan_builder_target(struct rules_plan_builder *builder, const struct rules_target *wanted,
                                        uint32_t line, struct rules_target **ret_target, uint32_t *ret_first_line)
{
        struct rules_plan *plan = builder->plan;
        uint64_t hash = plan_hash(plan->seed, wanted->key);
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

uint32_t rules_plan_builder_file_line(const struct rules_plan_builder *builder, const struct rules_target *target)
{
        /* Once for each target: the first destination that names it. */
        for (uint32_t i = 0; target->destinations_count == 0 && i < builder->plan->targets_count; i++) {
                const struct plan_wanted *other = &builder->targets[i];
                if (&other->target != target && other->target.service == RULES_SERVICE_FILE &&
                    slice_equal(other->target.resource, target->resource))
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
        struct plan_set *set = &plan->sets[plan->sets_count - 1];
        if (place->destinations_count == LIMIT_DESTINATIONS_PER_SET_MAX)
                return false;
        struct plan_destination destination = {
                .name = arena_copy(&plan->arena, name),
                .filter = filter,
                .target_index = target_index,
                .event_types_mask = event_types_mask,
                .enabled = enabled,
        };
        if (destination.name.ptr == NULL)
                return false;
        uint32_t bit = place->destinations_count++;
        if (filter != NULL)
                set->filtered = (uint16_t)(set->filtered | 1u << bit);
        builder->destinations[plan->destinations_count++] = destination;
        if (target_index == RULES_TARGET_NONE)
                return true;
        set->targets[bit] = (uint16_t)target_index;
        struct rules_target *target = &builder->targets[target_index].target;
        target->destinations_count++;
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

struct rules_plan *rules_plan_builder_finish(struct rules_plan_builder *builder, struct slice default_set)
{
        struct rules_plan *plan = builder->plan;
        plan->destinations = arena_alloc_array(&plan->arena, plan->destinations_count, sizeof(*plan->destinations));
        plan->targets = arena_alloc_array(&plan->arena, plan->targets_count, sizeof(*plan->targets));
        if (plan->destinations == NULL || plan->targets == NULL)
                return NULL;
        memcpy(plan->destinations, builder->destinations, plan->destinations_count * sizeof(*plan->destinations));
        for (uint32_t i = 0; i < plan->targets_count; i++)
                plan->targets[i] = builder->targets[i].target;
        plan->default_set = default_set.len == 0 ? PLAN_NO_SET : plan_find(plan, default_set);
        builder->plan = NULL;
        return plan;
}
