/* What the two halves of the compiler share: pattern_compile.c reads paths and $or, pattern_read.c the lists of values.
 * Inside them only. */
#ifndef SENDRING_RULES_PATTERN_COMPILE_H
#define SENDRING_RULES_PATTERN_COMPILE_H

#include "rules/pattern.h"

#include <locale.h>

struct pattern_compiler {
        struct rules_reader *reader;
        struct arena *arena;  /* of the pattern */
        struct arena scratch; /* of what is only needed while it is made */
        struct rules_pattern *pattern;
        size_t bytes; /* of texts */
        char path[1024];
        size_t path_len;
        bool in_or;
        locale_t locale; /* 0 until a text is folded */
};

/* NULL: out of memory; the reader knows. */
void *pattern_alloc(struct pattern_compiler *compiler, struct arena *arena, size_t count, size_t size_bytes);
/* A copy that lives as long as the pattern. False: one text too many, or out of memory. */
bool pattern_copy(struct pattern_compiler *compiler, const struct rules_yaml_node *node, struct slice text,
                  struct slice *ret_copy);
/* "prefix", "numeric", ... */
bool pattern_is_operator(struct slice name);
/* Reads the list of values of `key`, whose field is resolved, into it. False, with findings: there are mistakes. */
bool pattern_read_values(struct pattern_compiler *compiler, const struct rules_yaml_node *list,
                         struct pattern_key *key);

#endif
