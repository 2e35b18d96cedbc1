/* Publishing: the only code of libsendring that runs per event. Reserve, encode in place, commit. */
#include "codecs/codec.h"
#include "producer/producer_internal.h"

#include <string.h>

/* Publishes between two looks at the tail (sendring_watch()): a miss on the router's line is paid once in so many. */
#define SENDRING_WATCH_EVENTS 16

static inline void publish_watch(struct sendring *ring, uint32_t events_count)
{
        if (SENDRING_LIKELY(ring->watch_left > events_count)) {
                ring->watch_left -= events_count;
                return;
        }
        ring->watch_left = SENDRING_WATCH_EVENTS;
        sendring_watch(ring);
}

/* Room for one record. A lane that stays full may be one that nobody drains any more. */
static inline enum err_code publish_reserve(struct sendring *ring, size_t bytes, uint8_t **ret_payload)
{
        if (SENDRING_UNLIKELY(bytes > UINT32_MAX))
                return ERR_TOO_BIG;
        enum err_code code = ring_reserve(&ring->producer, (uint32_t)bytes, ret_payload);
        if (SENDRING_UNLIKELY(code == ERR_FULL)) {
                sendring_watch(ring);
                if (ring->state == SENDRING_STATE_DETACHED)
                        return ERR_DETACHED;
        }
        return code;
}

/* What the ring said, for the caller. Detached is not told yet: attaching again may help. */
static int publish_refused(struct sendring *ring, enum err_code code)
{
        if (code == ERR_FULL)
                return sendring_fail(ring, SENDRING_E_FULL, "no room in the lane now: the router lags behind");
        if (code == ERR_DETACHED)
                return SENDRING_E_DETACHED;
        if (code == ERR_TOO_BIG)
                return sendring_fail(ring, SENDRING_E_TOO_BIG,
                                     "the encoded event exceeds 131072 bytes, or half the lane");
        ring->failure.code = ERR_OK; /* an older text is not about this */
        return sendring_fail_code(ring, code);
}

/* The upper bound does not fit a record, the event itself may: encodes beside the lane to learn its size. Rare and
 * large, so that the copy does not matter. Leaves the record reserved. */
static int publish_encode_beside(struct sendring *ring, const struct sendring_event *event, size_t *ret_bytes)
{
        size_t bytes = 0;
        enum err_code code = codec_event_encode(event, ring->scratch, SENDRING_EVENT_BYTES_MAX, &bytes, &ring->failure);
        if (code != ERR_OK)
                return sendring_fail_code(ring, code);
        uint8_t *payload = NULL;
        code = publish_reserve(ring, bytes, &payload);
        if (code != ERR_OK)
                return publish_refused(ring, code);
        memcpy(payload, ring->scratch, bytes);
        *ret_bytes = bytes;
        return SENDRING_OK;
}

/* Almost every event fits this. Encoding straight into so much room saves a pass over the event for its bound. */
#define PUBLISH_USUAL_BYTES 4096u

/* The event did not fit the usual room, or the lane did not have it: by its bound. */
static __attribute__((noinline)) int publish_encode_bounded(struct sendring *ring, const struct sendring_event *event,
                                                            size_t *ret_bytes)
{
        uint8_t *payload = NULL;
        size_t bytes_max = codec_event_size_max(event);
        enum err_code code = publish_reserve(ring, bytes_max, &payload);
        if (code != ERR_OK)
                return code == ERR_TOO_BIG ? publish_encode_beside(ring, event, ret_bytes)
                                           : publish_refused(ring, code);
        code = codec_event_encode(event, payload, bytes_max, ret_bytes, &ring->failure);
        if (code == ERR_OK)
                return SENDRING_OK;
        ring_discard(&ring->producer);
        return sendring_fail_code(ring, code);
}

/* Leaves a finished, reserved record of *ret_bytes. On failure nothing is reserved. */
static inline int publish_encode(struct sendring *ring, const struct sendring_event *event, size_t *ret_bytes)
{
        uint8_t *payload = NULL;
        enum err_code code = ring_reserve(&ring->producer, PUBLISH_USUAL_BYTES, &payload);
        if (SENDRING_UNLIKELY(code != ERR_OK))
                return publish_encode_bounded(ring, event, ret_bytes);
        code = codec_event_encode(event, payload, PUBLISH_USUAL_BYTES, ret_bytes, &ring->failure);
        if (SENDRING_LIKELY(code == ERR_OK))
                return SENDRING_OK;
        ring_discard(&ring->producer);
        return code == ERR_TOO_BIG ? publish_encode_bounded(ring, event, ret_bytes) : sendring_fail_code(ring, code);
}

static inline int publish_commit(struct sendring *ring, size_t bytes)
{
        enum err_code code = ring_commit(&ring->producer, (uint32_t)bytes);
        if (SENDRING_UNLIKELY(code != ERR_OK))
                return publish_refused(ring, code);
        ring->published++;
        publish_watch(ring, 1);
        return SENDRING_OK;
}

/* The result for a service that was found gone in this call: true when it is back and the call should try once more. */
static inline bool publish_again(struct sendring *ring, int result, int *attempts)
{
        return SENDRING_UNLIKELY(result == SENDRING_E_DETACHED) && (*attempts)++ == 0 && sendring_detached(ring);
}

int sendring_publish(struct sendring *ring, const struct sendring_event *event)
{
        int result = sendring_enter(ring);
        if (SENDRING_UNLIKELY(result != SENDRING_OK))
                return result;
        if (SENDRING_UNLIKELY(event == NULL))
                return sendring_fail(ring, SENDRING_E_INVALID, "the event is NULL");
        int attempts = 0;
        do {
                size_t bytes = 0;
                result = publish_encode(ring, event, &bytes);
                if (SENDRING_LIKELY(result == SENDRING_OK))
                        result = publish_commit(ring, bytes);
        } while (publish_again(ring, result, &attempts));
        return result;
}

/* Finishes events[0..count-1] in the lane without publishing; *ret_staged of them before the first that failed. */
static int publish_stage(struct sendring *ring, const char *events, size_t stride, size_t count, size_t *ret_staged)
{
        for (*ret_staged = 0; *ret_staged < count; (*ret_staged)++) {
                const struct sendring_event *event =
                        (const struct sendring_event *)(const void *)(events + *ret_staged * stride);
                if (SENDRING_UNLIKELY(event->size != stride))
                        return sendring_fail(ring, SENDRING_E_INVALID,
                                             "the events of one call differ in size: use sendring_event_init()");
                size_t bytes = 0;
                int result = publish_encode(ring, event, &bytes);
                if (SENDRING_UNLIKELY(result != SENDRING_OK))
                        return result;
                enum err_code code = ring_stage(&ring->producer, (uint32_t)bytes);
                if (SENDRING_UNLIKELY(code != ERR_OK))
                        return publish_refused(ring, code);
        }
        return SENDRING_OK;
}

int sendring_publish_many(struct sendring *ring, const struct sendring_event *events, size_t count,
                          size_t *ret_published)
{
        if (ret_published != NULL)
                *ret_published = 0;
        int result = sendring_enter(ring);
        if (SENDRING_UNLIKELY(result != SENDRING_OK))
                return result;
        if (SENDRING_UNLIKELY(events == NULL && count > 0))
                return sendring_fail(ring, SENDRING_E_INVALID, "the events are NULL");
        size_t stride = count > 0 ? events->size : 0; /* of the header that the caller is built against */
        size_t published = 0;
        int attempts = 0;
        do {
                size_t staged = 0;
                result = publish_stage(ring, (const char *)events + published * stride, stride, count - published,
                                       &staged);
                enum err_code code = ring_publish_staged(&ring->producer);
                if (SENDRING_LIKELY(code == ERR_OK))
                        published += staged;
                else
                        result = publish_refused(ring, code); /* all that was staged is withdrawn */
        } while (publish_again(ring, result, &attempts));
        ring->published += published;
        if (ret_published != NULL)
                *ret_published = published;
        if (published > 0 && ring->state == SENDRING_STATE_ATTACHED)
                publish_watch(ring, published < UINT32_MAX ? (uint32_t)published : UINT32_MAX);
        return result;
}

int sendring_publish_encoded(struct sendring *ring, const void *event, size_t event_bytes)
{
        int result = sendring_enter(ring);
        if (SENDRING_UNLIKELY(result != SENDRING_OK))
                return result;
        if (SENDRING_UNLIKELY(event == NULL || event_bytes == 0))
                return sendring_fail(ring, SENDRING_E_INVALID, "the encoded event is empty");
        int attempts = 0;
        do {
                uint8_t *payload = NULL;
                enum err_code code = publish_reserve(ring, event_bytes, &payload);
                if (SENDRING_UNLIKELY(code != ERR_OK)) {
                        result = publish_refused(ring, code);
                } else {
                        memcpy(payload, event, event_bytes);
                        result = publish_commit(ring, event_bytes);
                }
        } while (publish_again(ring, result, &attempts));
        return result;
}
