#ifndef SENDRING_FEEDS_JSONL_INTERNAL_H
#define SENDRING_FEEDS_JSONL_INTERNAL_H

#include "base/err.h"
#include "base/slice.h"

#include <jansson.h>
#include <stdint.h>

/* Unknown members of one object, by name, in the order of the line. */
#define JSONL_EXTRA_MAX 64u
struct jsonl_extra {
        const char *name;
        const json_t *value;
};
struct jsonl_extras {
        struct jsonl_extra items[JSONL_EXTRA_MAX];
        uint32_t count;
};

/* Puts the members into the encoded event: `mail` ones at the end of its mail map, `top` ones at its own end. `out` has
 * LIMIT_EVENT_BYTES_MAX and is not where `event` lies. Any code but ERR_OK: the format refuses them, nothing was made.
 */
enum err_code jsonl_extra_add(struct slice event, const struct jsonl_extras *mail, const struct jsonl_extras *top,
                              uint8_t *out, struct slice *ret_event);

#endif
