/* Filters: EventBridge's event patterns over the published event. Inside rules/ and its tests.
 *
 * A pattern is compiled once, into memory that never changes again, and matched against the msgpack bytes through
 * codecs/field.h. Semantics are those of AWS's Event Ruler, which judges them in tests/judge/:
 *
 *   - a path must have a value that one of the values and operators in its list matches; all paths must;
 *   - a list in the event matches when any of its values does;
 *   - values that lie below the same list of maps must lie in the same element of it;
 *   - exists: false asks that there is no value at the path (in the elements that the paths before it, in the order of
 *     their names, were found in);
 *   - $or is written out: a pattern is a list of alternatives, each a set of paths.
 *
 * Matching needs no heap, recurses a bounded number of times, and looks at no more than CODEC_FIELD_LOOKS_MAX values.
 */
#ifndef SENDRING_RULES_PATTERN_H
#define SENDRING_RULES_PATTERN_H

#include "base/arena.h"
#include "codecs/field.h"
#include "rules/rules_internal.h"

enum pattern_op {
        PATTERN_EXISTS = 0, /* any value */
        PATTERN_TRUE,
        PATTERN_FALSE,
        PATTERN_NULL,
        PATTERN_NUMBER,        /* by value; where doubles cannot tell, by its digits */
        PATTERN_RANGE,         /* numeric */
        PATTERN_PREFIX,        /* text */
        PATTERN_SUFFIX,        /* text */
        PATTERN_FOLDED,        /* folded: equals-ignore-case */
        PATTERN_FOLDED_PREFIX, /* folded */
        PATTERN_FOLDED_SUFFIX, /* folded, from the last character to the first */
        PATTERN_WILDCARD,      /* pieces: what stands between the asterisks */
        PATTERN_ADDRESS,       /* cidr, and plain texts that are an IP address */
        PATTERN_NOT,           /* none of `values` */
};

struct pattern_test;

/* One of: a text that is equal to one of `texts`, a value that one of `tests` matches. */
struct pattern_values {
        const struct slice *texts; /* by length, then by bytes; no two are equal */
        const struct pattern_test *tests;
        uint32_t texts_count, tests_count;
};

struct pattern_test {
        uint8_t op;         /* enum pattern_op */
        bool is_comparable; /* NUMBER: `number` says all of it */
        bool low_is_open, high_is_open;
        uint8_t address_bytes, address_bits; /* ADDRESS: 4 or 16, and how many bits count */
        uint16_t pieces_count;
        union {
                struct slice text; /* also of NUMBER: its digits */
                const struct slice *pieces;
                uint8_t address[16];
                const struct pattern_values *values;
        };
        double number, low, high;
};

/* What a pattern says about one path. */
struct pattern_key {
        struct codec_field field;
        struct pattern_values values;
        bool or_absent;         /* { exists: false } is among them */
        uint8_t index;          /* in its pattern, below LIMIT_FILTER_PATHS_MAX */
        struct slice list_path; /* keys with the same may have to be found in the same element; empty: no other does */
};

struct pattern_alternative {
        const struct pattern_key **keys; /* first those on their own, then runs with the same list_path, by name */
        uint32_t keys_count, alone_count;
};

struct rules_pattern {
        const struct pattern_alternative *alternatives;
        uint32_t alternatives_count;
        uint32_t keys_count, values_count;
};

/* Compiles the value of `Filter`. False, with findings, when it has mistakes (or memory is out, see the reader); there
 * may be warnings with true. The pattern lives in `arena`. */
bool rules_pattern_compile(struct rules_reader *reader, const struct rules_yaml_node *node, struct arena *arena,
                           const struct rules_pattern **ret_pattern);

/* Any number of threads; one reader each. An event that exhausts the reader is not matched. */
bool rules_pattern_match(const struct rules_pattern *pattern, struct codec_field_reader *reader);

/* The path that an event failed by: of the alternative that got furthest. Empty when the event matches. Cold. */
struct slice rules_pattern_failed(const struct rules_pattern *pattern, struct codec_field_reader *reader);

/* ---------------------------------------------------------------------------------------------- values */

/* A JSON number: optional sign, no leading zeros, fraction, exponent. False: it is none. *ret_is_comparable: the
 * shortest digits of the double are those of the text; what Event Ruler compares by value. */
bool rules_number_parse(struct slice text, double *ret_number, bool *ret_is_comparable);
/* The same for a whole number. */
bool rules_integer_is_comparable(uint64_t magnitude);
/* 4 or 16: an IP address in `ret_address`, 0: none. IPv4 addresses mapped into IPv6 count as IPv4, as in Java. */
uint32_t rules_address_parse(struct slice text, uint8_t ret_address[16]);

#endif
