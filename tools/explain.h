/* What a configuration makes of one event, for `sendring explain` and `sendring test`: its set, each destination with
 * match or the first reason why not, the metrics it counts in, the bytes that would be sent. Asks no daemon. */
#ifndef SENDRING_TOOLS_EXPLAIN_H
#define SENDRING_TOOLS_EXPLAIN_H

#include "base/slice.h"
#include "rules/rules.h"

#include <jansson.h>

struct explain {
        const char *command; /* for messages: "explain" */
        struct rules_settings settings;
        bool has_settings;
        struct rules_plan *plan;
};

/* Reads the settings (NULL: none) and the configuration sets (NULL: those that the settings name). CMD_EXIT_OK, or the
 * status to end with, findings printed on standard error; explain_close() is allowed either way. */
int explain_open(struct explain *explain, const char *command, const char *settings_path, const char *sets_path);
void explain_close(struct explain *explain);

/* `text` is one SES-shaped event as JSON; `set` overrides its configuration set unless it is empty. NULL: it is no
 * event and *ret_why says why, to be freed. Else a new reference:
 *
 *   {"eventType": "Bounce", "configurationSet": "bulk-a" (null: none), "configurationSetFrom": "event" | "default" |
 *    "given" | "none", "known": true, "destinations": [{"name": "warehouse", "target": "firehose ..." (null: none),
 *    "match": false, "reason": "...", "member": "mail.tags.campaign" (of filters), "metrics": [{"metric": "Bounce",
 *    "dimensions": {...}}] (of CloudWatch), "published": "{...}" (of those that match and get the record),
 *    "compression": "gzip" (of those that get it within a gzip file)}],
 *    "dropped": {"count": 1, "names": ["bounce.x"]} (members that would not be sent: unknown ones, without a place)} */
json_t *explain_event(const struct explain *explain, struct slice text, struct slice set, char **ret_why);
/* "2 members are dropped: bounce.x, mail.tags.ses:y", to be freed. NULL: none are. */
char *explain_dropped_text(const json_t *result);

/* The whole of a file, or of standard input for "-"; to be freed. NULL: said why on standard error. */
char *explain_read(const char *command, const char *path, size_t *ret_bytes);

#endif
