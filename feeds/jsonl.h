/* One SES-shaped JSON line as an event: all ten types, every member of SES's records. `notificationType` (SES's older
 * feedback notifications) is read where `eventType` is missing.
 *
 * Members that SES's records do not have are kept where the event format has a place for them (top level and `mail`),
 * else, each for itself, dropped and counted. In them, a whole number above 2^63 - 1 becomes a floating-point one, the
 * nearest there is; so do others of 19 digits and more of that line. Auto-tags (ses:...) in mail.tags become the facts
 * that they were made from, so that the router makes the same tags again. jansson parses: duplicate names, invalid
 * UTF-8, halves of surrogate pairs and numbers that no double holds are refused. */
#ifndef SENDRING_FEEDS_JSONL_H
#define SENDRING_FEEDS_JSONL_H

#include "base/arena.h"
#include "base/err.h"
#include "base/slice.h"
#include "sendring/sendring.h"

#include <stdint.h>

#define JSONL_LINE_BYTES_MAX (4u * 1024u * 1024u)
#define JSONL_DROPPED_MAX    32u /* members that are named */

struct jsonl_event {
        struct slice encoded; /* in the arena: an event as sendring_publish_encoded() takes it */
        uint32_t members_kept;
        uint32_t members_dropped; /* that the format has no place for; an auto-tag of several values, too: the first
                                     is kept */
        /* The paths of the first JSONL_DROPPED_MAX of them ("bounce.x", "mail.tags.ses:x"), in the arena; NULL: none.
         */
        const struct slice *dropped;
        enum sendring_event_type type;
};

/* Everything made lies in the arena. ERR_SYNTAX, ERR_MISSING, ERR_TYPE, ERR_NAME, ERR_RANGE, ERR_TOO_BIG with a
 * sentence that names the member; ERR_MEMORY. */
enum err_code jsonl_parse(struct slice line, struct arena *arena, struct jsonl_event *ret_event, struct err *reterr);

#endif
