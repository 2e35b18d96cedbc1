/* What the files of configuration-sets.yaml share: sets.c reads it, and sets_targets.c what its destinations name.
 * Inside rules/ only. */
#ifndef SENDRING_RULES_SETS_INTERNAL_H
#define SENDRING_RULES_SETS_INTERNAL_H

#include "rules/rules_internal.h"

struct sets_filter; /* sets.c */

struct sets_reader {
        struct rules_reader reader;
        struct rules_plan_builder *builder;
        const struct rules_settings *settings; /* or NULL */
        bool too_many_targets;                 /* said once */
        struct rules_published published;      /* of the destination being read */
        struct sets_filter *filters;           /* compiled a short while ago */
};

/* Members of ours under `Sendring`; those of CloudWatch stand together behind the others. */
enum sets_extension {
        SETS_FILE,
        SETS_PACKING,
        SETS_PACKING_EVENTS_MAX,
        SETS_EVENT_ID,
        SETS_REDACTION,
        SETS_RATE, /* of services on the wire */
        SETS_ENDPOINT,
        SETS_FILTER, /* of any destination */
        SETS_CLOUDWATCH_FIRST,
        SETS_COMPRESSION = SETS_CLOUDWATCH_FIRST + RULES_CLOUDWATCH_COMPRESSION, /* Firehose has it, too */
        SETS_EXTENSIONS = SETS_CLOUDWATCH_FIRST + RULES_CLOUDWATCH_EXTENSIONS,
};

/* What a destination definition says. */
struct sets_destination {
        const struct rules_yaml_node *node; /* the definition */
        struct slice name;
        bool enabled;
        uint16_t event_types_mask;
        const struct rules_pattern *filter; /* or NULL */
};

/* Each reads a destination's own members and those of `Sendring` (by enum sets_extension), and finds or makes its
 * target. False: there were mistakes, which were said. */
bool sets_firehose(struct sets_reader *sets, const struct rules_yaml_node *node,
                   const struct rules_yaml_node *const *extensions, uint32_t *ret_target_index);
bool sets_file(struct sets_reader *sets, const struct rules_yaml_node *node, uint32_t *ret_target_index);
/* Leaves *ret_target_index as it was where the destination is off and no target can be made. */
bool sets_cloudwatch(struct sets_reader *sets, const struct sets_destination *destination,
                     const struct rules_yaml_node *node, const struct rules_yaml_node *const *extensions,
                     uint32_t *ret_target_index);

#endif
