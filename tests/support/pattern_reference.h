/* Event patterns over JSON as plainly as they can be said, to compare ours with: jansson reads pattern and published
 * event, every value is a path with the elements it lies in, and all ways to choose values are tried. What is left out
 * (addresses, case beyond ASCII, numbers beyond 2^53, too many ways) makes it unsure, which is no verdict. */
#ifndef SENDRING_TESTS_PATTERN_REFERENCE_H
#define SENDRING_TESTS_PATTERN_REFERENCE_H

#include "base/assert.h"
#include "base/slice.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REFERENCE_LEAVES_MAX 2000
#define REFERENCE_KEYS_MAX   64
#define REFERENCE_DEPTH_MAX  24
#define REFERENCE_STEPS_MAX  200000

struct reference_place {
        const json_t *list;
        size_t index;
};

struct reference_leaf {
        char *path;
        const json_t *value;
        struct reference_place places[REFERENCE_DEPTH_MAX];
        uint32_t places_count;
};

struct reference_key {
        char *path;
        const json_t *values;
};

struct reference {
        struct reference_leaf leaves[REFERENCE_LEAVES_MAX];
        uint32_t leaves_count;
        struct reference_place places[REFERENCE_KEYS_MAX * REFERENCE_DEPTH_MAX]; /* chosen so far */
        uint32_t places_count;
        uint32_t steps;
        bool unsure;
};

/* ---------------------------------------------------------------------------------------------- the event */

static inline void reference_flatten(struct reference *reference, const char *path, const json_t *value,
                                     struct reference_place *places, uint32_t count)
{
        const char *name;
        json_t *inner;
        size_t i;
        if (json_is_object(value)) {
                json_object_foreach((json_t *)(uintptr_t)value, name, inner)
                {
                        char *below = NULL;
                        ASSERT(asprintf(&below, "%s%s%s", path, count == 0 && path[0] == '\0' ? "" : ".", name) >= 0);
                        reference_flatten(reference, below, inner, places, count);
                        free(below);
                }
                return;
        }
        if (json_is_array(value)) {
                json_array_foreach(value, i, inner)
                {
                        bool holds = json_is_object(inner) || json_is_array(inner);
                        if (holds && count == REFERENCE_DEPTH_MAX) {
                                reference->unsure = true;
                                return;
                        }
                        if (holds)
                                places[count] = (struct reference_place){value, i};
                        reference_flatten(reference, path, inner, places, count + holds);
                }
                return;
        }
        if (reference->leaves_count == REFERENCE_LEAVES_MAX) {
                reference->unsure = true;
                return;
        }
        struct reference_leaf *leaf = &reference->leaves[reference->leaves_count++];
        leaf->path = strdup(path);
        leaf->value = value;
        leaf->places_count = count;
        memcpy(leaf->places, places, count * sizeof(*places));
}

/* ---------------------------------------------------------------------------------------------- values */

/* False: enough was tried. */
static inline bool reference_step(struct reference *reference)
{
        reference->unsure |= ++reference->steps > REFERENCE_STEPS_MAX;
        return !reference->unsure;
}

static inline bool reference_wildcard(struct reference *reference, const char *pattern, const char *text)
{
        if (!reference_step(reference))
                return false;
        if (*pattern == '\0')
                return *text == '\0';
        if (*pattern == '*')
                return reference_wildcard(reference, pattern + 1, text) ||
                       (*text != '\0' && reference_wildcard(reference, pattern, text + 1));
        if (*pattern == '\\')
                pattern++;
        return *pattern == *text && *text != '\0' && reference_wildcard(reference, pattern + 1, text + 1);
}

static inline bool reference_is_plain(struct reference *reference, const char *text)
{
        for (const char *at = text; *at != '\0'; at++)
                if ((unsigned char)*at >= 0x80) {
                        reference->unsure = true;
                        return false;
                }
        return true;
}

static inline bool reference_value(struct reference *reference, const json_t *wanted, const json_t *value);

static inline bool reference_end(struct reference *reference, const json_t *wanted, const json_t *value, bool suffix)
{
        bool fold = json_is_object(wanted);
        const char *end = json_string_value(fold ? json_object_get(wanted, "equals-ignore-case") : wanted);
        const char *text = json_string_value(value);
        if (text == NULL || (fold && !reference_is_plain(reference, end)) || strlen(text) < strlen(end))
                return false;
        text += suffix ? strlen(text) - strlen(end) : 0;
        return fold ? strncasecmp(text, end, strlen(end)) == 0 : strncmp(text, end, strlen(end)) == 0;
}

static inline bool reference_numeric(const json_t *list, const json_t *value)
{
        if (!json_is_number(value))
                return false;
        double number = json_number_value(value);
        for (size_t i = 0; i + 1 < json_array_size(list); i += 2) {
                const char *comparison = json_string_value(json_array_get(list, i));
                double other = json_number_value(json_array_get(list, i + 1));
                bool good = strcmp(comparison, "=") == 0    ? number == other
                            : strcmp(comparison, "<") == 0  ? number < other
                            : strcmp(comparison, "<=") == 0 ? number <= other
                            : strcmp(comparison, ">") == 0  ? number > other
                                                            : number >= other;
                if (!good)
                        return false;
        }
        return true;
}

/* {operator: operand}; of anything-but with an operator inside, that. */
static inline bool reference_operator(struct reference *reference, const char *operation, const json_t *operand,
                                      const json_t *value)
{
        const char *text = json_string_value(value);
        if (strcmp(operation, "prefix") == 0 || strcmp(operation, "suffix") == 0)
                return reference_end(reference, operand, value, operation[0] == 's');
        if (strcmp(operation, "wildcard") == 0)
                return text != NULL && reference_wildcard(reference, json_string_value(operand), text);
        if (strcmp(operation, "equals-ignore-case") == 0)
                return text != NULL && reference_is_plain(reference, json_string_value(operand)) &&
                       strcasecmp(text, json_string_value(operand)) == 0;
        if (strcmp(operation, "numeric") == 0)
                return reference_numeric(operand, value);
        if (strcmp(operation, "exists") == 0)
                return json_is_true(operand); /* false is not asked of values */
        if (strcmp(operation, "anything-but") != 0) {
                reference->unsure = true; /* cidr */
                return false;
        }
        const char *inside = NULL;
        if (json_is_object(operand)) {
                inside = json_object_iter_key(json_object_iter((json_t *)(uintptr_t)operand));
                operand = json_object_get(operand, inside);
        }
        for (size_t i = 0; i < (json_is_array(operand) ? json_array_size(operand) : 1); i++) {
                const json_t *one = json_is_array(operand) ? json_array_get(operand, i) : operand;
                bool equal = json_is_number(one) && json_is_number(value)
                                     ? json_number_value(one) == json_number_value(value)
                                     : json_equal(one, value);
                if (inside != NULL ? reference_operator(reference, inside, one, value) : equal)
                        return false;
        }
        return true;
}

static inline bool reference_value(struct reference *reference, const json_t *wanted, const json_t *value)
{
        if (json_is_number(value) && fabs(json_number_value(value)) > 9007199254740992.0)
                reference->unsure = true;
        if (json_is_object(wanted)) {
                const char *operation = json_object_iter_key(json_object_iter((json_t *)(uintptr_t)wanted));
                return reference_operator(reference, operation, json_object_get(wanted, operation), value);
        }
        if (json_is_number(wanted) && json_is_number(value))
                return json_number_value(wanted) == json_number_value(value);
        const char *text = json_string_value(wanted);
        if (text != NULL && text[0] != '\0' && strspn(text, "0123456789abcdefABCDEF.:") == strlen(text) &&
            strpbrk(text, ".:") != NULL)
                reference->unsure = true; /* an address has several spellings */
        return json_equal(wanted, value);
}

/* ---------------------------------------------------------------------------------------------- choosing */

static inline bool reference_agrees(const struct reference *reference, const struct reference_leaf *leaf)
{
        for (uint32_t i = 0; i < leaf->places_count; i++)
                for (uint32_t k = 0; k < reference->places_count; k++)
                        if (leaf->places[i].list == reference->places[k].list &&
                            leaf->places[i].index != reference->places[k].index)
                                return false;
        return true;
}

static inline bool reference_choose(struct reference *reference, const struct reference_key *keys, uint32_t count)
{
        if (count == 0)
                return true;
        bool present = false, or_absent = false;
        size_t k;
        const json_t *wanted;
        json_array_foreach(keys->values, k, wanted) or_absent |= json_is_false(json_object_get(wanted, "exists"));
        for (uint32_t i = 0; i < reference->leaves_count; i++) {
                const struct reference_leaf *leaf = &reference->leaves[i];
                if (!reference_step(reference))
                        return false;
                if (strcmp(leaf->path, keys->path) != 0 || !reference_agrees(reference, leaf))
                        continue;
                present = true;
                bool good = false;
                json_array_foreach(keys->values, k, wanted) good |= reference_value(reference, wanted, leaf->value);
                if (!good)
                        continue;
                uint32_t before = reference->places_count;
                memcpy(reference->places + before, leaf->places, leaf->places_count * sizeof(*leaf->places));
                reference->places_count += leaf->places_count;
                good = reference_choose(reference, keys + 1, count - 1);
                reference->places_count = before;
                if (good)
                        return true;
        }
        return or_absent && !present && reference_choose(reference, keys + 1, count - 1);
}

static inline int reference_key_order(const void *a, const void *b)
{
        return strcmp(((const struct reference_key *)a)->path, ((const struct reference_key *)b)->path);
}

/* What is still to be read of a pattern: members of maps, branch by branch. */
struct reference_rest {
        const json_t *map;
        void *iter;
        const char *path;
        const struct reference_rest *outer;
};

/* Reads on; at the end of each alternative, chooses. */
static inline bool reference_read(struct reference *reference, const struct reference_rest *rest,
                                  const struct reference_key *keys, uint32_t count)
{
        while (rest != NULL && rest->iter == NULL)
                rest = rest->outer;
        if (rest == NULL) {
                struct reference_key sorted[REFERENCE_KEYS_MAX];
                memcpy(sorted, keys, count * sizeof(*keys));
                qsort(sorted, count, sizeof(*sorted), reference_key_order);
                return reference_choose(reference, sorted, count);
        }
        const char *name = json_object_iter_key(rest->iter);
        const json_t *value = json_object_iter_value(rest->iter);
        struct reference_rest next = *rest;
        next.iter = json_object_iter_next((json_t *)(uintptr_t)rest->map, rest->iter);
        bool found = false;
        if (strcmp(name, "$or") == 0) {
                for (size_t i = 0; i < json_array_size(value) && !found; i++) {
                        json_t *branch = json_array_get(value, i);
                        struct reference_rest inside = {branch, json_object_iter(branch), rest->path, &next};
                        found = reference_read(reference, &inside, keys, count);
                }
                return found;
        }
        char *path = NULL;
        ASSERT(asprintf(&path, "%s%s%s", rest->path, rest->path[0] == '\0' ? "" : ".", name) >= 0);
        if (json_is_object(value)) {
                struct reference_rest inside = {value, json_object_iter((json_t *)(uintptr_t)value), path, &next};
                found = reference_read(reference, &inside, keys, count);
        } else if (count < REFERENCE_KEYS_MAX) {
                struct reference_key more[REFERENCE_KEYS_MAX];
                memcpy(more, keys, count * sizeof(*keys));
                more[count] = (struct reference_key){path, value};
                found = reference_read(reference, &next, more, count + 1);
        } else {
                reference->unsure = true;
        }
        free(path);
        return found;
}

/* `pattern` has been accepted as one. False with *ret_sure false: no verdict. */
static inline bool reference_match(const json_t *pattern, const json_t *event, bool *ret_sure)
{
        static struct reference reference;
        struct reference_place places[REFERENCE_DEPTH_MAX];
        struct reference_key keys[1] = {{NULL, NULL}};
        struct reference_rest rest = {pattern, json_object_iter((json_t *)(uintptr_t)pattern), "", NULL};
        reference.leaves_count = reference.places_count = reference.steps = 0;
        reference.unsure = false;
        reference_flatten(&reference, "", event, places, 0);
        bool matched = reference_read(&reference, &rest, keys, 0);
        while (reference.leaves_count > 0)
                free(reference.leaves[--reference.leaves_count].path);
        *ret_sure = !reference.unsure;
        return matched;
}

#endif
