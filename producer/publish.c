/* Publishing: the only code of libsendring that runs per event. Bound the size, reserve, encode in place, commit. */
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

/* Room for one record. What is staged is published first where the lane may have to be changed. */
static enum err_code publish_reserve(struct sendring *ring, size_t bytes, uint8_t **ret_payload)
{
        if (SENDRING_UNLIKELY(bytes > UINT32_MAX))
                return ERR_TOO_BIG;
        enum err_code code = ring_reserve(&ring->producer, (uint32_t)bytes, ret_payload);
        if (SENDRING_LIKELY(code != ERR_FULL))
                return code;
        ring_publish_staged(&ring->producer);
        if (sendring_look_again(ring))
                return ring_reserve(&ring->producer, (uint32_t)bytes, ret_payload);
        return ring->state == SENDRING_STATE_DETACHED ? ERR_DETACHED : ERR_FULL;
}

static int publish_no_room(struct sendring *ring, enum err_code code)
{
        if (code == ERR_FULL)
                return sendring_fail(ring, SENDRING_E_FULL, "no room in the lane now: the router lags behind");
        if (code == ERR_DETACHED)
                return SENDRING_E_DETACHED; /* the text tells about the attempt to attach */
        if (code == ERR_TOO_BIG)
                return sendring_fail(ring, SENDRING_E_TOO_BIG,
                                     "the encoded event exceeds 262144 bytes, or half the lane");
        return sendring_fail_code(ring, code);
}

/* The upper bound does not fit a record, the event itself may: encodes beside the lane to learn its size. Rare and
 * large, so that the copy does not matter. Leaves the record reserved. */
static enum err_code publish_encode_beside(struct sendring *ring, const struct sendring_event *event, size_t *ret_bytes)
{
        uint8_t *payload = NULL;
        size_t bytes = 0;
        enum err_code code = codec_event_encode(event, ring->scratch, SENDRING_EVENT_BYTES_MAX, &bytes, &ring->failure);
        if (code != ERR_OK)
                return code;
        code = publish_reserve(ring, bytes, &payload);
        if (code != ERR_OK)
                return code;
        memcpy(payload, ring->scratch, bytes);
        *ret_bytes = bytes;
        return ERR_OK;
}

/* Leaves a finished, reserved record of *ret_bytes. On failure nothing is reserved and *ret_result is set. */
static inline bool publish_encode(struct sendring *ring, const struct sendring_event *event, size_t *ret_bytes,
                                  int *ret_result)
{
        uint8_t *payload = NULL;
        size_t bytes_max = codec_event_size_max(event);
        enum err_code code = publish_reserve(ring, bytes_max, &payload);
        if (SENDRING_UNLIKELY(code != ERR_OK)) {
                if (code != ERR_TOO_BIG) {
                        *ret_result = publish_no_room(ring, code);
                        return false;
                }
                ring->failure.code = ERR_OK;
                code = publish_encode_beside(ring, event, ret_bytes);
                if (code == ERR_OK)
                        return true;
                *ret_result = ring->failure.code == code ? sendring_fail_code(ring, code) : publish_no_room(ring, code);
                return false;
        }
        code = codec_event_encode(event, payload, bytes_max, ret_bytes, &ring->failure);
        if (SENDRING_UNLIKELY(code != ERR_OK)) {
                ring_discard(&ring->producer);
                *ret_result = sendring_fail_code(ring, code);
                return false;
        }
        return true;
}

static int publish_commit(struct sendring *ring, size_t bytes)
{
        enum err_code code = ring_commit(&ring->producer, (uint32_t)bytes);
        if (SENDRING_UNLIKELY(code != ERR_OK))
                return sendring_fail_code(ring, code);
        ring->published++;
        publish_watch(ring, 1);
        return SENDRING_OK;
}

int sendring_publish(struct sendring *ring, const struct sendring_event *event)
{
        int result = sendring_enter(ring);
        if (SENDRING_UNLIKELY(result != SENDRING_OK))
                return result;
        if (SENDRING_UNLIKELY(event == NULL))
                return sendring_fail(ring, SENDRING_E_INVALID, "the event is NULL");
        size_t bytes = 0;
        if (SENDRING_UNLIKELY(!publish_encode(ring, event, &bytes, &result)))
                return result;
        return publish_commit(ring, bytes);
}

int sendring_publish_many(struct sendring *ring, const struct sendring_event *events, size_t count,
                          size_t *ret_published)
{
        if (ret_published != NULL)
                *ret_published = 0;
        int result = sendring_enter(ring);
        if (result != SENDRING_OK)
                return result;
        if (events == NULL && count > 0)
                return sendring_fail(ring, SENDRING_E_INVALID, "the events are NULL");
        size_t stride = count > 0 ? events->size : 0; /* the caller's header may be older or newer */
        size_t done = 0;
        for (; done < count; done++) {
                const struct sendring_event *event =
                        (const struct sendring_event *)(const void *)((const char *)events + done * stride);
                if (SENDRING_UNLIKELY(event->size != stride)) {
                        result = sendring_fail(ring, SENDRING_E_INVALID,
                                               "the events of one call differ in size: use sendring_event_init()");
                        break;
                }
                size_t bytes = 0;
                if (!publish_encode(ring, event, &bytes, &result))
                        break;
                enum err_code code = ring_stage(&ring->producer, (uint32_t)bytes);
                if (SENDRING_UNLIKELY(code != ERR_OK)) {
                        result = sendring_fail_code(ring, code);
                        break;
                }
        }
        ring_publish_staged(&ring->producer);
        ring->published += done;
        if (ret_published != NULL)
                *ret_published = done;
        if (done > 0 && ring->state == SENDRING_STATE_ATTACHED)
                publish_watch(ring, (uint32_t)(done < SENDRING_WATCH_EVENTS ? done : SENDRING_WATCH_EVENTS));
        return result;
}

int sendring_publish_encoded(struct sendring *ring, const void *event, size_t event_bytes)
{
        int result = sendring_enter(ring);
        if (SENDRING_UNLIKELY(result != SENDRING_OK))
                return result;
        if (SENDRING_UNLIKELY(event == NULL || event_bytes == 0))
                return sendring_fail(ring, SENDRING_E_INVALID, "the encoded event is empty");
        uint8_t *payload = NULL;
        enum err_code code = publish_reserve(ring, event_bytes, &payload);
        if (SENDRING_UNLIKELY(code != ERR_OK))
                return publish_no_room(ring, code);
        memcpy(payload, event, event_bytes);
        return publish_commit(ring, event_bytes);
}
