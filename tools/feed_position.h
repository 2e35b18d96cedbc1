/* A feed's position as text: what `sendring feed` keeps in its checkpoint, and in the Postfix feed's saved state. */
#ifndef SENDRING_TOOLS_FEED_POSITION_H
#define SENDRING_TOOLS_FEED_POSITION_H

#include "base/slice.h"
#include "feeds/tail.h"

#define FEED_POSITION_BYTES_MAX 512u

/* {"device":..,"inode":..,"offset":..,"line":..,"head_bytes":..,"head_sum":"16 hexadecimal digits","changed_ns":..} and
 * a newline; the last one may be missing. */
struct slice feed_position_write(const struct tail_position *position, char out[FEED_POSITION_BYTES_MAX]);
/* False: no such text. */
bool feed_position_read(struct slice text, struct tail_position *ret_position);

#endif
