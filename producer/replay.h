/* Publishing an event again: for our own tools (`sendring replay`, `sendring dlq replay`), not exported from
 * libsendring. The router takes such records from root and from its own user only (ring/ring.h). */
#ifndef SENDRING_PRODUCER_REPLAY_H
#define SENDRING_PRODUCER_REPLAY_H

#include "base/slice.h"
#include "ring/ring.h"
#include "sendring/sendring.h"

/* As sendring_publish_encoded(), in a record that says where the event comes from and who alone gets it. */
int sendring_replay(struct sendring *ring, const struct ring_replay *replay, struct slice event);

#endif
