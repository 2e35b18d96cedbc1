/* Any bytes as an event: what codec_view_decode() accepts, msgpack-c calls well-formed, becomes JSON within the
 * promised bound that jansson parses without duplicate members, and comes back from the struct as the same JSON when it
 * has no unknown members; with redaction it becomes JSON, too. */
#include "base/arena.h"
#include "base/assert.h"
#include "base/limits.h"
#include "codecs/codec.h"
#include "codecs/redact.h"

#include <jansson.h>
#include <msgpack.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t json[LIMIT_EVENT_JSON_BYTES_MAX], again[LIMIT_EVENT_JSON_BYTES_MAX], wire[LIMIT_EVENT_BYTES_MAX];

static void check_struct(const struct codec_view *view, size_t json_bytes)
{
        struct arena arena;
        struct sendring_event event;
        struct codec_view second;
        size_t bytes;
        arena_init(&arena, 0, 0);
        ASSERT(codec_event_decode(view->event, &arena, &event, NULL) == ERR_OK);
        if (codec_event_size_max(&event) <= sizeof(wire)) {
                ASSERT(codec_event_encode_read(&event, wire, sizeof(wire), &bytes, NULL) == ERR_OK);
                ASSERT(bytes <= codec_event_size_max(&event));
                ASSERT(codec_view_decode(slice_of(wire, bytes), &second, NULL) == ERR_OK);
                size_t again_bytes = codec_json_encode(&second, NULL, again, sizeof(again));
                /* Unknown members are not in the struct, and it always says the topic preferences. */
                if (view->extra_count == 0 && view->type != SENDRING_SUBSCRIPTION && again_bytes != json_bytes)
                        ASSERT(again_bytes < json_bytes); /* unknown members of mail */
        }
        arena_release(&arena);
}

static void check_json(size_t bytes)
{
        json_error_t error;
        json_t *root = json_loadb((const char *)json, bytes,
                                  JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
        ASSERT(root != NULL);
        json_decref(root);
}

/* With a policy: within the bound, and valid. */
static void check_redacted(const struct codec_view *view)
{
        struct codec_redaction redaction;
        struct codec_json_options options = {.redaction = &redaction};
        codec_redaction_init(&redaction);
        ASSERT(codec_redaction_set_key(&redaction, SLICE("0123456789abcdef"), NULL) == ERR_OK);
        for (int i = 0; i < 3; i++) {
                redaction.addresses = i == 0 ? CODEC_ADDRESSES_MASK : CODEC_ADDRESSES_HMAC;
                if (i == 2) {
                        ASSERT(codec_redaction_drop(&redaction, SLICE("mail.headers"), NULL) == ERR_OK);
                        ASSERT(codec_redaction_drop(&redaction, SLICE("mail.*"), NULL) == ERR_OK);
                        ASSERT(codec_redaction_drop(&redaction, SLICE("click.linkTags"), NULL) == ERR_OK);
                        ASSERT(codec_redaction_allow_header(&redaction, SLICE("Subject"), NULL) == ERR_OK);
                }
                size_t bytes = codec_json_encode(view, &options, json, sizeof(json));
                ASSERT(bytes > 0 && bytes <= codec_json_size_max(view, &options));
                check_json(bytes);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct codec_view view;
        struct err err;
        enum err_code code = codec_view_decode(slice_of(data, size), &view, &err);
        ASSERT(code == codec_view_decode(slice_of(data, size), &view, NULL));
        if (code != ERR_OK) {
                ASSERT(err_class(code) == ERR_CLASS_INPUT);
                ASSERT(err.code == code);
                return 0;
        }
        msgpack_unpacked unpacked;
        msgpack_unpacked_init(&unpacked);
        size_t at = 0;
        ASSERT(msgpack_unpack_next(&unpacked, (const char *)data, size, &at) == MSGPACK_UNPACK_SUCCESS);
        ASSERT(at == size);
        msgpack_unpacked_destroy(&unpacked);

        size_t bytes = codec_json_encode(&view, NULL, json, sizeof(json));
        ASSERT(bytes > 0);
        ASSERT(bytes <= codec_json_size_max(&view, NULL));
        ASSERT(codec_json_encode(&view, NULL, again, bytes) == bytes);
        ASSERT(memcmp(json, again, bytes) == 0);
        check_json(bytes);
        check_struct(&view, bytes);
        check_redacted(&view);
        return 0;
}
