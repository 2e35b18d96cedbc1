/* Unknown members: JSON values as msgpack, spliced into an event that is encoded already. */
#include "feeds/jsonl_internal.h"

#include "base/limits.h"
#include "codecs/codec.h"

struct packer {
        uint8_t *at, *end;
        bool full;
};

static void pack_bytes(struct packer *packer, const void *bytes, size_t len)
{
        if ((size_t)(packer->end - packer->at) < len) {
                packer->full = true;
                return;
        }
        if (len > 0)
                memcpy(packer->at, bytes, len);
        packer->at += len;
}

static void pack_head(struct packer *packer, uint8_t tag, uint64_t value, unsigned width)
{
        uint8_t head[9] = {tag};
        for (unsigned i = 0; i < width; i++)
                head[1 + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
        pack_bytes(packer, head, 1 + (size_t)width);
}

static void pack_text(struct packer *packer, const char *text, size_t len)
{
        if (len < 32)
                pack_head(packer, (uint8_t)(0xa0 | len), 0, 0);
        else if (len <= 0xff)
                pack_head(packer, 0xd9, len, 1);
        else if (len <= 0xffff)
                pack_head(packer, 0xda, len, 2);
        else
                pack_head(packer, 0xdb, len, 4);
        pack_bytes(packer, text, len);
}

static void pack_count(struct packer *packer, size_t count, uint8_t small, uint8_t tag16)
{
        if (count < 16)
                pack_head(packer, (uint8_t)(small | count), 0, 0);
        else if (count <= 0xffff)
                pack_head(packer, tag16, count, 2);
        else
                pack_head(packer, (uint8_t)(tag16 + 1), count, 4);
}

static void pack_integer(struct packer *packer, int64_t value)
{
        if (value >= 0 && value < 128)
                pack_head(packer, (uint8_t)value, 0, 0);
        else if (value >= 0)
                pack_head(packer, 0xcf, (uint64_t)value, 8);
        else
                pack_head(packer, 0xd3, (uint64_t)value, 8);
}

/* jansson bounds the depth of what it parses (2048); the format allows less and its validation refuses more. */
static void pack_value(struct packer *packer, const json_t *value, unsigned depth)
{
        if (depth > LIMIT_MSGPACK_DEPTH_MAX) {
                packer->full = true;
                return;
        }
        switch (json_typeof(value)) {
        case JSON_OBJECT: {
                const char *name;
                json_t *member;
                pack_count(packer, json_object_size(value), 0x80, 0xde);
                json_object_foreach((json_t *)(uintptr_t)value, name, member)
                {
                        pack_text(packer, name, strlen(name));
                        pack_value(packer, member, depth + 1);
                }
                return;
        }
        case JSON_ARRAY:
                pack_count(packer, json_array_size(value), 0x90, 0xdc);
                for (size_t i = 0; i < json_array_size(value); i++)
                        pack_value(packer, json_array_get(value, i), depth + 1);
                return;
        case JSON_STRING:
                pack_text(packer, json_string_value(value), json_string_length(value));
                return;
        case JSON_INTEGER:
                pack_integer(packer, json_integer_value(value));
                return;
        case JSON_REAL: {
                double real = json_real_value(value);
                uint64_t bits;
                memcpy(&bits, &real, sizeof(bits));
                pack_head(packer, 0xcb, bits, 8);
                return;
        }
        case JSON_TRUE:
                pack_head(packer, 0xc3, 0, 0);
                return;
        case JSON_FALSE:
                pack_head(packer, 0xc2, 0, 0);
                return;
        case JSON_NULL:
                pack_head(packer, 0xc0, 0, 0);
                return;
        }
}

static void pack_members(struct packer *packer, const struct jsonl_extras *extras)
{
        for (uint32_t i = 0; i < extras->count; i++) {
                pack_text(packer, extras->items[i].name, strlen(extras->items[i].name));
                pack_value(packer, extras->items[i].value, 1);
        }
}

/* The count of a map of ours and the bytes of its head. */
static uint32_t map_count(const uint8_t *at, size_t *ret_head)
{
        if (at[0] == 0xde) {
                *ret_head = 3;
                return (uint32_t)at[1] << 8 | at[2];
        }
        if (at[0] == 0xdf) {
                *ret_head = 5;
                return (uint32_t)at[1] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 8 | at[4];
        }
        *ret_head = 1;
        return at[0] & 0x0fu;
}

enum err_code jsonl_extra_add(struct slice event, const struct jsonl_extras *mail, const struct jsonl_extras *top,
                              uint8_t *out, struct slice *ret_event)
{
        struct codec_view view;
        enum err_code code = codec_view_decode(event, &view, NULL);
        if (code != ERR_OK)
                return code;
        struct packer packer = {out, out + LIMIT_EVENT_BYTES_MAX, false};
        size_t top_head, mail_head;
        uint32_t top_count = map_count(event.ptr, &top_head);
        uint32_t mail_count = map_count(view.mail.ptr, &mail_head);
        const uint8_t *end = event.ptr + event.len, *mail_end = view.mail.ptr + view.mail.len;
        pack_count(&packer, top_count + top->count, 0x80, 0xde);
        pack_bytes(&packer, event.ptr + top_head, (size_t)(view.mail.ptr - event.ptr) - top_head);
        pack_count(&packer, mail_count + mail->count, 0x80, 0xde);
        pack_bytes(&packer, view.mail.ptr + mail_head, view.mail.len - mail_head);
        pack_members(&packer, mail);
        pack_bytes(&packer, mail_end, (size_t)(end - mail_end));
        pack_members(&packer, top);
        if (packer.full)
                return ERR_TOO_BIG;
        struct slice made = slice_of(out, (size_t)(packer.at - out));
        code = codec_view_decode(made, &view, NULL);
        if (code == ERR_OK)
                *ret_event = made;
        return code;
}
