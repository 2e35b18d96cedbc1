/* The files of tools/sink_state.h as structs, for its writer and its reader. */
#ifndef SENDRING_TOOLS_SINK_STATE_INTERNAL_H
#define SENDRING_TOOLS_SINK_STATE_INTERNAL_H

#include "tools/sink_state.h"

#define SINK_STATE_VERSION   1u
#define SINK_HEAD_BYTES      4096u
#define SINK_TABLE_SLOTS_MIN 65536u
#define SINK_SEEN_FILE_BYTES ((size_t)SINK_HEAD_BYTES + (size_t)SINK_INDEX_MAX + 1)

#define SINK_TOTALS_MAGIC "SRSINKT1"
#define SINK_SEEN_MAGIC   "SRSINKP1"
#define SINK_TABLE_MAGIC  "SRSINKE1"

struct sink_file_head {
        _Atomic uint64_t magic; /* the 8 characters; stored last into a new file */
        uint32_t version;
        uint32_t detail; /* totals: counters; seen: run; table: 0 */
};

struct sink_totals {
        struct sink_file_head file;
        _Atomic uint64_t counters[SINK_COUNTERS_COUNT];
};

struct sink_seen_head {
        struct sink_file_head file;
        uint32_t producer;
        uint32_t zero;
        _Atomic uint64_t bound, more;
};

struct sink_table_head {
        struct sink_file_head file;
        uint64_t slots;
};

struct sink_table_slot {
        uint64_t hash_high, hash_low, type;
        _Atomic uint64_t copies;
};

/* The eight characters as one word. */
uint64_t sink_state_magic(const char magic[8]);

_Static_assert(sizeof(struct sink_file_head) == 16, "drawn in sink_state.h");
_Static_assert(offsetof(struct sink_seen_head, bound) == 24, "drawn in sink_state.h");
_Static_assert(sizeof(struct sink_table_slot) == 32, "drawn in sink_state.h");

/* The slots of a mapped table; mappings begin at a page, and so does what follows the head. */
static inline struct sink_table_slot *sink_table_slots(void *table)
{
        return (struct sink_table_slot *)(void *)((uint8_t *)table + SINK_HEAD_BYTES);
}

static inline const struct sink_table_slot *sink_table_slots_const(const void *table)
{
        return (const struct sink_table_slot *)(const void *)((const uint8_t *)table + SINK_HEAD_BYTES);
}
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_CHAR_LOCK_FREE == 2, "shared with readers in other processes");

#endif
