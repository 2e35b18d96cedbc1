#include "base/limits.h"
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

/* Reads the stored part; *ret_event_bytes is at most `behind_bytes`. */
static bool view_stored_read(const uint8_t bytes[CODEC_VIEW_STORED_BYTES], size_t behind_bytes,
                             struct view_stored *ret_stored)
{
        memcpy(ret_stored, bytes, sizeof(*ret_stored));
        size_t set_bytes = behind_bytes - ret_stored->event_bytes;
        if (ret_stored->event_bytes > behind_bytes || ret_stored->zero != 0 || ret_stored->type < 1 ||
            ret_stored->type > CODEC_EVENT_TYPES_COUNT)
                return false;
        /* A name behind the event is all that is there, and the set. */
        return set_bytes == 0 || (set_bytes <= LIMIT_NAME_BYTES_MAX && ret_stored->parts[0].len == set_bytes &&
                                  ret_stored->parts[0].at == ret_stored->event_bytes);
}

enum err_code codec_view_load(const uint8_t stored_bytes[CODEC_VIEW_STORED_BYTES], struct slice behind,
                              struct codec_view *ret_view)
{
        struct view_stored stored;
        struct slice *parts[7];
        if (!view_stored_read(stored_bytes, behind.len, &stored))
                return ERR_CORRUPT;
        struct slice event = slice_head(behind, stored.event_bytes);
        struct codec_view view = {.event = event};
        view.type = (enum sendring_event_type)stored.type;
        view.extra_count = stored.extra_count;
        view.timestamp_ms = stored.timestamp_ms;
        view_parts(&view, parts);
        for (int i = 0; i < 7; i++) {
                size_t most = i == 0 ? behind.len : event.len;
                if (stored.parts[i].at > most || stored.parts[i].len > most - stored.parts[i].at)
                        return ERR_CORRUPT;
                if (stored.parts[i].len > 0)
                        *parts[i] = slice_of(event.ptr + stored.parts[i].at, stored.parts[i].len);
        }
        *ret_view = view;
        return ERR_OK;
}

enum err_code codec_view_split(struct slice payload, struct slice *ret_event, struct slice *ret_set)
{
        struct view_stored stored;
        if (payload.len < CODEC_VIEW_STORED_BYTES ||
            !view_stored_read(payload.ptr, payload.len - CODEC_VIEW_STORED_BYTES, &stored))
                return ERR_CORRUPT;
        *ret_event = slice_of(payload.ptr + CODEC_VIEW_STORED_BYTES, stored.event_bytes);
        *ret_set = slice_from(payload, CODEC_VIEW_STORED_BYTES + stored.event_bytes);
        return ERR_OK;
}
