/* Inside rules/: the YAML reader with positions, the helpers that check nodes and collect findings, ARNs, and the
 * builder of plans. Cold code, one thread. */
#ifndef SENDRING_RULES_INTERNAL_H
#define SENDRING_RULES_INTERNAL_H

#include "base/arena.h"
#include "base/slice.h"
#include "codecs/redact.h"
#include "rules/rules.h"

/* ---------------------------------------------------------------------------------------------- the tree */

enum rules_yaml_kind { RULES_YAML_SCALAR = 0, RULES_YAML_MAP = 1, RULES_YAML_LIST = 2 };

/* A map's children are key, value, key, value; keys are scalars and differ. An alias is a copy of the node that it
 * names, sharing that node's children, so `next` may not be followed from a child into another list. */
struct rules_yaml_node {
        struct rules_yaml_node *next; /* sibling */
        union {
                const uint8_t *bytes;          /* scalar: `count` of them, and a NUL */
                struct rules_yaml_node *first; /* map, list */
        };
        uint32_t count;  /* pairs of a map, items of a list, bytes of a scalar */
        uint32_t weight; /* nodes below and including this one, aliases written out */
        uint32_t line;   /* from 1; of the node itself, for an alias of the anchored node */
        uint32_t column : 29;
        uint32_t kind : 2;   /* enum rules_yaml_kind */
        uint32_t quoted : 1; /* scalar: '...', "...", | or > */
};
_Static_assert(sizeof(struct rules_yaml_node) <= 32, "a large file has two million nodes");
#define RULES_YAML_COLUMN_MASK ((1u << 29) - 1) /* more than LIMIT_CONFIG_BYTES_MAX */

static inline struct slice rules_yaml_slice(const struct rules_yaml_node *scalar)
{
        return slice_of(scalar->bytes, scalar->count);
}

/* The same to whoever compiles them: wherever they stand, aliases written out. */
bool rules_yaml_equal(const struct rules_yaml_node *a, const struct rules_yaml_node *b);
/* Equal nodes have equal hashes. */
uint64_t rules_yaml_hash(uint64_t seed, const struct rules_yaml_node *node);

/* Bounds of one file; its size is LIMIT_CONFIG_BYTES_MAX. The deepest known member is 8 maps and lists down. */
#define RULES_YAML_DEPTH_MAX 24u
/* Nodes with every alias written out: 10,000 sets of 10 destinations are 1.7 million. 32 bytes each. */
#define RULES_YAML_NODES_MAX 4000000u
#define RULES_YAML_MEMBERS_MAX \
        64u /* of one map: more than any known one has, and keeps the search for duplicates short */
#define RULES_YAML_ANCHORS_MAX 1024u

/* What a file is read with. Findings go to the report under `file`. */
struct rules_reader {
        struct rules_report *report;
        const char *file;    /* in the report's arena */
        struct arena *arena; /* of the tree */
        uint32_t errors_before;
        struct rules_finding *before; /* last finding of earlier files, or NULL */
        bool out_of_memory;
        struct rules_keys *keys; /* of KeyFile members; NULL: they are read from their files, and not kept */
        bool elsewhere;          /* the file is for another host: what it names is not looked at on this one */
};

/* `arena` must outlive the reader. False: out of memory. */
bool rules_reader_begin(struct rules_reader *reader, const char *file, struct arena *arena,
                        struct rules_report *report);
/* Sorts this file's findings by position. ERR_OK, ERR_CONFIG when there were errors, ERR_MEMORY. */
enum err_code rules_reader_end(struct rules_reader *reader);

/* Parses one document. *ret_root is NULL for an empty one. A member given twice is a finding, and reading goes on.
 * False: the text cannot be read (one finding says where and why), or memory is out. */
bool rules_yaml_parse(struct rules_reader *reader, struct slice text, const struct rules_yaml_node **ret_root);
/* Reads the file first. */
bool rules_yaml_load(struct rules_reader *reader, const char *path, const struct rules_yaml_node **ret_root);

/* ---------------------------------------------------------------------------------------------- findings */

/* `node` NULL: the file as a whole. */
void rules_error(struct rules_reader *reader, const struct rules_yaml_node *node, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
void rules_warning(struct rules_reader *reader, const struct rules_yaml_node *node, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* The text between single quotes, control characters escaped, cut at 80 bytes; in the report's arena. */
const char *rules_quote(struct rules_reader *reader, struct slice text);
/* What a node is, for messages: "a map", "the text 'x'", "the number 7", "nothing". */
const char *rules_describe(struct rules_reader *reader, const struct rules_yaml_node *node);
/* The nearest of `names` by edit distance, ignoring case; NULL when none is near. */
const char *rules_nearest(struct slice text, const char *const *names, size_t names_count);
/* "a, b or c"; cut when it does not fit. */
void rules_join(char *out, size_t out_bytes, const char *const *names, size_t names_count);

/* ---------------------------------------------------------------------------------------------- checked access:
 * each adds a finding and returns false when the node is not what it should be. `what` names the member for people. */

bool rules_yaml_is_null(const struct rules_yaml_node *node);
/* Sets ret_values[i] to the value of names[i]; NULL where it is absent or null. Unknown members are errors. False: not
 * a map. */
bool rules_yaml_members(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                        const char *const *names, size_t names_count, const struct rules_yaml_node **ret_values);
bool rules_yaml_list(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what);
/* Printable text of bytes_min..bytes_max bytes. A plain number is text too, as it is written. */
bool rules_yaml_text(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                     size_t bytes_min, size_t bytes_max, struct slice *ret_text);
bool rules_yaml_bool(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                     bool *ret_value);
/* A number, with a unit where there are some; `min`..`max` and the result are in the smallest unit, a plain number
 * counts `plain` of those. */
struct rules_unit {
        const char *name;
        uint64_t factor;
};
struct rules_units {
        const char *help;           /* "a size such as 512KiB, 4MiB or 1GiB" */
        struct rules_unit units[6]; /* ended by a NULL name */
};
extern const struct rules_units rules_units_none, rules_units_bytes, rules_units_us, rules_units_ms, rules_units_s;
bool rules_yaml_quantity(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                         const struct rules_units *units, uint64_t min, uint64_t max, uint64_t *ret_value);
/* "4MiB", "300ms": with the largest unit that divides it. In the report's arena. */
const char *rules_quantity_text(struct rules_reader *reader, const struct rules_units *units, uint64_t value);
/* One of `choices`; the index goes to *ret_index. Other spellings (camelCase, spaces) are named with the right one. */
bool rules_yaml_choice(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                       const char *const *choices, size_t choices_count, size_t *ret_index);

/* True when every byte is a letter, a digit, or one of `others`. */
bool rules_is_made_of(struct slice text, const char *others);

/* ---------------------------------------------------------------------------------------------- ARNs */

/* arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE; every part points into the text it was read from. */
struct rules_arn {
        struct slice text, partition, service, region, account_id, resource;
};
/* Service and resource prefix as given; region may be empty only for "iam". `example` ends the message. */
bool rules_yaml_arn(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                    const char *service, const char *resource_prefix, const char *example, struct rules_arn *ret_arn);
bool rules_is_region(struct slice text);
bool rules_is_account_id(struct slice text);
bool rules_is_partition(struct slice text);
/* Absolute, no empty, "." or ".." part, no slash at the end: one spelling for one file. */
bool rules_is_plain_path(struct slice path);

/* ---------------------------------------------------------------------------------------------- options of sets */

/* TrackingOptions ... Tags: what CreateConfigurationSet takes beside the name. Checked for type, range and spelling;
 * without effect here. */
#define RULES_OPTIONS_COUNT 8u
extern const char *const rules_options_names[RULES_OPTIONS_COUNT];
void rules_options_check(struct rules_reader *reader, size_t option, const struct rules_yaml_node *node);

/* ---------------------------------------------------------------------------------------------- a full journal */

/* journal.full and journal.priority; NULL where not given. What is wrong becomes a finding. */
void rules_pressure_read(struct rules_reader *reader, const struct rules_yaml_node *full,
                         const struct rules_yaml_node *priority, struct rules_pressure *ret_pressure);

/* ---------------------------------------------------------------------------------------------- CloudWatch */

/* What stands beside a CloudWatchDestination under `Sendring`: Namespace ... AmbiguousTimeout. */
#define RULES_CLOUDWATCH_EXTENSIONS  8u
#define RULES_CLOUDWATCH_COMPRESSION 6u /* the one that Firehose has, too */
extern const char *const rules_cloudwatch_extensions[RULES_CLOUDWATCH_EXTENSIONS];
/* Reads CloudWatchDestination and its extensions (NULL where not given). Texts point into the tree. */
bool rules_cloudwatch_read(struct rules_reader *reader, const struct rules_yaml_node *node,
                           const struct rules_yaml_node *const *extensions, struct rules_cloudwatch *ret_cloudwatch);
bool rules_cloudwatch_equal(const struct rules_cloudwatch *a, const struct rules_cloudwatch *b);
/* A copy with copied texts in the arena; NULL: out of memory. */
const struct rules_cloudwatch *rules_cloudwatch_copy(struct arena *arena, const struct rules_cloudwatch *cloudwatch);
/* Writes the key of a target with this region, account and `cloudwatch`; the result points into `out`. Everything that
 * the destination says is part of it; what does not fit is replaced by a hash of 128 bits, so that two keys are equal
 * only when the destinations are, save for a collision that rules_cloudwatch_equal() finds. */
struct slice rules_cloudwatch_key(const struct rules_target *target, char out[RULES_TARGET_KEY_BYTES_MAX + 1]);

/* ---------------------------------------------------------------------------------------------- Firehose's records */

/* Reads Packing, PackingEventsMax and Compression of a Firehose destination (NULL where not given) into `packed`,
 * `packed_events_max` and `gzip`. */
bool rules_packing_read(struct rules_reader *reader, const struct rules_yaml_node *packing,
                        const struct rules_yaml_node *events_max, const struct rules_yaml_node *compression,
                        struct rules_target *target);

/* ---------------------------------------------------------------------------------------------- what is published */

/* What `Sendring` says about the records that a destination gets: part of what makes its target another one. */
#define RULES_PUBLISHED_KEY_BYTES_MAX 48u
struct rules_published {
        bool event_id, redacted;
        struct codec_redaction redaction; /* when redacted: holds a key, wiped by rules_published_clear() */
        const struct rules_yaml_node *redaction_members; /* of the node it was read from; NULL: none */
        size_t key_bytes;
        char key[RULES_PUBLISHED_KEY_BYTES_MAX]; /* empty, or such as "redaction=0123456789abcdef event-id" */
};
/* Nodes are NULL where nothing is given. *published is what was read before, or cleared: destinations that share a
 * policy by an alias read its key once. False: findings were added, and nothing is published. */
bool rules_published_read(struct rules_reader *reader, const struct rules_yaml_node *event_id,
                          const struct rules_yaml_node *redaction, struct rules_published *published);
void rules_published_clear(struct rules_published *published);
/* ---- keys.c */
/* Empty: there is none. */
struct slice rules_keys_find(const struct rules_keys *keys, struct slice path);
bool rules_keys_add(struct rules_keys *keys, struct slice path, struct slice key); /* false: out of memory */
/* Makes a key that nobody knows. False: keys may not be gone. */
bool rules_keys_replace_gone(struct rules_keys *keys, uint8_t *key, size_t key_bytes);

/* Fills a policy that was initialised, from the value of `Redaction`. */
bool rules_redaction_read(struct rules_reader *reader, const struct rules_yaml_node *node,
                          struct codec_redaction *redaction);

/* ---------------------------------------------------------------------------------------------- on the wire */

/* scheme://host[:port][/]. What is wrong with it, or NULL. */
const char *rules_url_wrong(struct slice url);

#define RULES_RATES_COUNT    3u
#define RULES_RATE_BYTES_MIN 4096u
/* Reads the members that are given (records, bytes, requests, by these names) into *rates. */
bool rules_rates_read(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                      const char *const members[RULES_RATES_COUNT], struct rules_rates *rates);
/* Reads `Rate`, over the defaults of the service, and `Endpoint` of a destination; NULL where not given. */
bool rules_wire_read(struct rules_reader *reader, const struct rules_yaml_node *rate,
                     const struct rules_yaml_node *endpoint, const struct rules_rates *defaults,
                     struct rules_target *target);
/* Adds what this destination says to the target that it shares; what differs is a finding. */
bool rules_wire_join(struct rules_reader *reader, const struct rules_yaml_node *node, struct arena *arena,
                     const struct rules_target *wanted, uint32_t first_line, struct rules_target *target);

/* ---------------------------------------------------------------------------------------------- default sets by
 * domain */

struct rules_defaults;

/* An empty table with room for `count_max` domains. NULL: out of memory. */
struct rules_defaults *rules_defaults_create(struct arena *arena, size_t count_max);
/* The texts must live as long as the table. False: the domain is there already, in this case or another. */
bool rules_defaults_add(struct rules_defaults *defaults, struct slice domain, struct slice set);
/* Name of the set of this domain; empty when there is none. Does not allocate. */
struct slice rules_defaults_find(const struct rules_defaults *defaults, struct slice domain);

/* ---------------------------------------------------------------------------------------------- building a plan */

struct rules_plan_builder;
struct rules_pattern;

/* Room for `sets_max` sets. NULL: out of memory. Everything handed to it is copied. */
struct rules_plan_builder *rules_plan_builder_create(uint32_t sets_max);
void rules_plan_builder_free(struct rules_plan_builder *builder);
/* Adds a set; destinations added next are its. False: out of memory. The name must be new
 * (rules_plan_builder_find). */
bool rules_plan_builder_set(struct rules_plan_builder *builder, struct slice name, uint32_t line);
/* Line of the set of this name; 0: there is none. */
uint32_t rules_plan_builder_find(const struct rules_plan_builder *builder, struct slice name);
/* Finds or adds the target of this key; *ret_target is the one that is there, to compare or complete. `line` is kept as
 * where it was first named. ERR_LIMIT above LIMIT_TARGETS_MAX, ERR_MEMORY. */
enum err_code rules_plan_builder_target(struct rules_plan_builder *builder, const struct rules_target *wanted,
                                        uint32_t line, struct rules_target **ret_target, uint32_t *ret_first_line);
/* Line of another target that writes the same file, or compresses the records of the same stream otherwise; 0: there is
 * none, or `target` has been looked at before. */
uint32_t rules_plan_builder_clash_line(const struct rules_plan_builder *builder, const struct rules_target *target);
/* A destination of the last set. target_index may be RULES_TARGET_NONE; `filter`, in the plan's arena, NULL. False: out
 * of memory. */
bool rules_plan_builder_destination(struct rules_plan_builder *builder, struct slice name, bool enabled,
                                    uint16_t event_types_mask, uint32_t target_index,
                                    const struct rules_pattern *filter);
/* The memory of the plan that is being built: filters are compiled into it. */
struct arena *rules_plan_builder_arena(struct rules_plan_builder *builder);
/* Takes the sets of the from-domains; their names must have been added. False: out of memory. */
bool rules_plan_builder_defaults(struct rules_plan_builder *builder, const struct rules_default_set *defaults,
                                 size_t count);
/* Freezes. `default_set` may be empty; else it must have been added. NULL: out of memory. The builder still needs to be
 * freed. */
struct rules_plan *rules_plan_builder_finish(struct rules_plan_builder *builder, struct slice default_set);

#endif
