#include "base/limits.h"
#include "codecs/codec.h"

#include <stddef.h>
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
_Static_assert(offsetof(struct view_stored, timestamp_ms) == 7 * sizeof(uint64_t), "a part is a word");

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

static inline void view_put(uint8_t *out, size_t offset, uint64_t low, uint64_t high)
{
        uint64_t word = low | high << 32;
        memcpy(out + offset, &word, sizeof(word));
}

static inline void view_put_part(uint8_t *out, unsigned index, const uint8_t *event, struct slice part)
{
        uint32_t at = part.len == 0 ? 0 : (uint32_t)(part.ptr - event);
        view_put(out, index * sizeof(uint64_t), at, part.len);
}

/* A struct view_stored, word by word to where it belongs. */
void codec_view_store(const struct codec_view *view, uint8_t out[CODEC_VIEW_STORED_BYTES])
{
        const uint8_t *event = view->event.ptr;
        view_put_part(out, 0, event, view->configuration_set);
        view_put_part(out, 1, event, view->tags);
        view_put_part(out, 2, event, view->session);
        view_put_part(out, 3, event, view->mail);
        view_put_part(out, 4, event, view->object);
        view_put_part(out, 5, event, view->extra);
        view_put_part(out, 6, event, view->message_id);
        view_put(out, offsetof(struct view_stored, timestamp_ms), (uint64_t)view->timestamp_ms, 0);
        view_put(out, offsetof(struct view_stored, type), (uint32_t)view->type, view->extra_count);
        view_put(out, offsetof(struct view_stored, event_bytes), view->event.len, 0);
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
