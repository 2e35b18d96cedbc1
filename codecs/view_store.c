#include "codecs/codec.h"

#include <string.h>

/* Offsets count from the event's first byte. Native byte order: the journal never leaves its host. */
struct view_stored {
        struct {
                uint32_t at, len;
        } parts[7];
        int64_t timestamp_ms;
        uint32_t type, extra_count, event_bytes, zero;
};

_Static_assert(sizeof(struct view_stored) == CODEC_VIEW_STORED_BYTES, "the stored view is as large as its header says");

/* The slices of a view, in the order of the stored parts. */
static void view_parts(struct codec_view *view, struct slice *parts[7])
{
        parts[0] = &view->configuration_set;
        parts[1] = &view->tags;
        parts[2] = &view->session;
        parts[3] = &view->mail;
        parts[4] = &view->object;
        parts[5] = &view->extra;
        parts[6] = &view->message_id;
}

void codec_view_store(const struct codec_view *view, uint8_t out[CODEC_VIEW_STORED_BYTES])
{
        struct codec_view copy = *view;
        struct slice *parts[7];
        struct view_stored stored = {
                .timestamp_ms = view->timestamp_ms,
                .type = (uint32_t)view->type,
                .extra_count = view->extra_count,
                .event_bytes = (uint32_t)view->event.len,
        };
        view_parts(&copy, parts);
        for (int i = 0; i < 7; i++) {
                if (parts[i]->len == 0)
                        continue;
                stored.parts[i].at = (uint32_t)(parts[i]->ptr - view->event.ptr);
                stored.parts[i].len = (uint32_t)parts[i]->len;
        }
        memcpy(out, &stored, sizeof(stored));
}

enum err_code codec_view_load(const uint8_t stored_bytes[CODEC_VIEW_STORED_BYTES], struct slice event,
                              struct codec_view *ret_view)
{
        struct view_stored stored;
        struct codec_view view = {.event = event};
        struct slice *parts[7];
        memcpy(&stored, stored_bytes, sizeof(stored));
        if (stored.event_bytes != event.len || stored.zero != 0 || stored.type < 1 ||
            stored.type > CODEC_EVENT_TYPES_COUNT)
                return ERR_CORRUPT;
        view.type = (enum sendring_event_type)stored.type;
        view.extra_count = stored.extra_count;
        view.timestamp_ms = stored.timestamp_ms;
        view_parts(&view, parts);
        for (int i = 0; i < 7; i++) {
                if (stored.parts[i].at > event.len || stored.parts[i].len > event.len - stored.parts[i].at)
                        return ERR_CORRUPT;
                if (stored.parts[i].len > 0)
                        *parts[i] = slice_of(event.ptr + stored.parts[i].at, stored.parts[i].len);
        }
        *ret_view = view;
        return ERR_OK;
}
