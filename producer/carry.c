/* The service was stopped and started while this producer lived on: its old lane is still mapped, but nobody will drain
 * it. What the old router had not taken is copied into the new lane, in order, before anything new is published. Events
 * that the old router had journalled without moving the tail arrive twice; none is lost. */
#include "base/limits.h"
#include "producer/producer_internal.h"

#include <string.h>

#define CARRY_HEADER_BYTES 8u /* {u32 length, u32 kind}: ring/ring.h */

enum err_code sendring_carry(struct ring_producer *to, struct ring_producer *from)
{
        uint64_t head = from->head;
        uint64_t at = head - ring_producer_used_bytes(from);
        if (head - at > from->lane_bytes || at % 8 != 0)
                return ERR_CORRUPT;
        while (at != head) {
                /* The data is mapped twice in a row: a record is contiguous wherever it begins. */
                const uint8_t *record = from->data + (at & (from->lane_bytes - 1));
                uint32_t length;
                memcpy(&length, record, sizeof(length));
                uint64_t record_bytes = (CARRY_HEADER_BYTES + (uint64_t)length + 7) & ~UINT64_C(7);
                if (length == 0 || length > LIMIT_EVENT_BYTES_MAX || record_bytes > head - at)
                        return ERR_CORRUPT;
                uint8_t *payload = NULL;
                enum err_code code = ring_reserve(to, length, &payload);
                if (code != ERR_OK)
                        return code;
                memcpy(payload, record + CARRY_HEADER_BYTES, length);
                code = ring_stage(to, length);
                if (code != ERR_OK)
                        return code;
                at += record_bytes;
        }
        ring_publish_staged(to);
        return ERR_OK;
}
