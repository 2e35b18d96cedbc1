/* Default configuration sets by from-domain: a hash table that is filled once and then only read, on the router's hot
 * path. ASCII letters are compared without case, as in the DNS. */
#include "rules/rules_internal.h"

struct defaults_slot {
        struct slice domain; /* empty: unused */
        struct slice set;
};

struct rules_defaults {
        uint32_t mask; /* slots - 1: at most half of them are used */
        struct defaults_slot slots[];
};

static uint8_t defaults_small(uint8_t byte)
{
        return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

/* FNV-1a. The table is the operator's: who sends mail from chosen domains cannot make its chains longer. */
static uint32_t defaults_hash(struct slice domain)
{
        uint32_t hash = 2166136261u;
        for (size_t i = 0; i < domain.len; i++)
                hash = (hash ^ defaults_small(domain.ptr[i])) * 16777619u;
        return hash ^ hash >> 15;
}

static struct defaults_slot *defaults_slot(struct rules_defaults *table, struct slice domain)
{
        uint32_t i = defaults_hash(domain) & table->mask;
        while (table->slots[i].domain.len > 0 && !slice_equal_ignore_case(table->slots[i].domain, domain))
                i = (i + 1) & table->mask;
        return &table->slots[i];
}

struct rules_defaults *rules_defaults_create(struct arena *arena, size_t count_max)
{
        uint32_t slots = 8;
        while (slots < 2 * count_max)
                slots *= 2;
        struct rules_defaults *table = arena_alloc(arena, sizeof(*table) + slots * sizeof(table->slots[0]));
        if (table != NULL)
                table->mask = slots - 1;
        return table;
}

bool rules_defaults_add(struct rules_defaults *defaults, struct slice domain, struct slice set)
{
        struct defaults_slot *slot = defaults_slot(defaults, domain);
        if (slot->domain.len > 0)
                return false;
        *slot = (struct defaults_slot){domain, set};
        return true;
}

struct slice rules_defaults_find(const struct rules_defaults *defaults, struct slice domain)
{
        if (domain.len == 0 || domain.len > 255)
                return SLICE_EMPTY;
        uint32_t i = defaults_hash(domain) & defaults->mask;
        for (; defaults->slots[i].domain.len > 0; i = (i + 1) & defaults->mask)
                if (slice_equal_ignore_case(defaults->slots[i].domain, domain))
                        return defaults->slots[i].set;
        return SLICE_EMPTY;
}
