#include "producer/replay.h"

#include "producer/producer_internal.h"

int sendring_replay(struct sendring *ring, const struct ring_replay *replay, struct slice event)
{
        int result = sendring_enter(ring);
        if (result != SENDRING_OK)
                return result;
        for (int attempts = 0;; attempts++) {
                enum err_code code = ring_publish_replay(&ring->producer, replay, event);
                if (code == ERR_OK)
                        ring->published++;
                /* Cold code: it may look at the router's progress each time. */
                if (code == ERR_OK || code == ERR_FULL)
                        sendring_watch(ring);
                if (code == ERR_OK)
                        return SENDRING_OK;
                if (code == ERR_FULL && ring->state != SENDRING_STATE_DETACHED)
                        return sendring_fail(ring, SENDRING_E_FULL, "no room in the lane now: the router lags behind");
                if (code == ERR_TOO_BIG)
                        return sendring_fail(ring, SENDRING_E_TOO_BIG,
                                             "the event and where it comes from exceed half the lane");
                if (code != ERR_FULL && code != ERR_DETACHED) {
                        ring->failure.code = ERR_OK; /* an older text is not about this */
                        return sendring_fail_code(ring, code);
                }
                if (attempts > 0 || !sendring_detached(ring))
                        return SENDRING_E_DETACHED;
        }
}
