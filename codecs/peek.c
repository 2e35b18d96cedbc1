#include "codecs/codec.h"

/* docs/formats/event.md: the map's head, then key 0 with the version, then key 1 with the type, one byte each. */
enum sendring_event_type codec_event_peek_type(struct slice event)
{
        if (event.len < 9) /* of the longest head, and no event is shorter */
                return 0;
        const uint8_t head = event.ptr[0];
        size_t at = 0;
        if ((head & 0xf0) == 0x80)
                at = 1;
        else if (head == 0xde)
                at = 3;
        else if (head == 0xdf)
                at = 5;
        if (at == 0 || event.ptr[at] != 0 || event.ptr[at + 1] != 1 || event.ptr[at + 2] != 1)
                return 0;
        const unsigned type = event.ptr[at + 3];
        return type <= CODEC_EVENT_TYPES_COUNT ? (enum sendring_event_type)type : 0;
}
