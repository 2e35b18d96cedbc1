#include "tests/fuzz/codec_simd_run.h"

#include "base/assert.h"
#include "base/limits.h"
#include "codecs/codec.h"
#include "codecs/redact.h"

#include <string.h>

static void note(struct codec_simd_results *results, const char *name, const void *bytes, size_t len)
{
        ASSERT(results->sections < CODEC_SIMD_SECTIONS_MAX && sizeof(results->bytes) - results->used >= len);
        if (len > 0)
                memcpy(results->bytes + results->used, bytes, len);
        results->used += len;
        results->names[results->sections] = name;
        results->ends[results->sections++] = results->used;
}

static void note_number(struct codec_simd_results *results, const char *name, uint64_t number)
{
        note(results, name, &number, sizeof(number));
}

/* ---------------------------------------------------------------------------------------------- texts */

static void run_texts(struct slice input, struct codec_simd_results *results)
{
        static uint8_t out[CODEC_SIMD_INPUT_BYTES_MAX * 6 + 64];
        size_t bytes = codec_json_string(input, out, sizeof(out));
        ASSERT(bytes >= 2);
        note(results, "JSON string", out, bytes);
        ASSERT(codec_json_string(input, out, bytes) == bytes);
        note(results, "JSON string in exact room", out, bytes);
        ASSERT(codec_json_string(input, out, bytes - 1) == 0);

        size_t cut = input.len == 0 ? 0 : input.ptr[0] % input.len;
        struct codec_base64 state = {.waiting_count = 0};
        bytes = codec_base64_append(&state, slice_head(input, cut), out);
        bytes += codec_base64_append(&state, slice_from(input, cut), out + bytes);
        bytes += codec_base64_finish(&state, out + bytes);
        note(results, "base64", out, bytes);
        static uint8_t decoded[CODEC_SIMD_INPUT_BYTES_MAX * 2];
        ASSERT(codec_base64_decode(slice_of(out, bytes), decoded, input.len) == input.len);
        note(results, "base64 there and back", decoded, input.len);
        ASSERT(input.len == 0 || memcmp(decoded, input.ptr, input.len) == 0);
        bytes = codec_base64_decode(input, decoded, sizeof(decoded));
        note_number(results, "bytes of the input as base64", bytes);
        note(results, "the input as base64", decoded, bytes == SIZE_MAX ? 0 : bytes);
}

/* ---------------------------------------------------------------------------------------------- numbers, times */

static void run_numbers(struct slice input, struct codec_simd_results *results)
{
        uint8_t out[32 * 64];
        size_t bytes = 0, times = 0;
        uint8_t time_out[24 * 64];
        for (size_t i = 0; i < 64 && i + 8 <= input.len; i++) {
                uint64_t value;
                memcpy(&value, input.ptr + i, sizeof(value));
                bytes += codec_u64_write(value >> i, out + bytes); /* of every length */
                out[bytes++] = ' ';
                times += codec_time_write((int64_t)(value >> i), time_out + times);
        }
        note(results, "numbers", out, bytes);
        note(results, "times", time_out, times);
}

/* ---------------------------------------------------------------------------------------------- events */

static void run_view(struct slice wire, const char *name, struct codec_simd_results *results)
{
        static uint8_t json[LIMIT_EVENT_JSON_BYTES_MAX];
        struct codec_view view;
        struct err err = {.text = ""};
        enum err_code code = codec_view_decode(wire, &view, &err);
        note_number(results, name, (uint64_t)code);
        note(results, name, err.text, code == ERR_OK ? 0 : strlen(err.text));
        if (code != ERR_OK)
                return;
        struct codec_redaction redaction;
        codec_redaction_init(&redaction);
        redaction.addresses = CODEC_ADDRESSES_MASK;
        for (int masked = 0; masked < 2; masked++) {
                struct codec_json_options options = {.region = SLICE("us-east-1"),
                                                     .redaction = masked ? &redaction : NULL};
                size_t bytes = codec_json_encode(&view, &options, json, sizeof(json));
                ASSERT(bytes > 0);
                note(results, masked ? "JSON of an event, masked" : "JSON of an event", json, bytes);
        }
}

/* The next `len` bytes at most; `plain`: as letters, so that a tag can be good, save for the last one. */
static struct sendring_str take(struct slice *rest, size_t len, bool plain, char *room)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
        struct slice part = slice_head(*rest, len < rest->len ? len : rest->len);
        *rest = slice_from(*rest, part.len);
        for (size_t i = 0; i < part.len; i++)
                room[i] = plain && i + 1 < part.len ? letters[part.ptr[i] % 64] : (char)part.ptr[i];
        return (struct sendring_str){room, part.len};
}

#define RUN_TAGS 6

/* A click whose texts and tags are the input; then the same on the wire with one byte changed. */
static void run_event(struct slice input, bool plain, struct codec_simd_results *results)
{
        static uint8_t wire[LIMIT_EVENT_BYTES_MAX];
        static char rooms[2 * RUN_TAGS + 4][512];
        struct sendring_pair tags[RUN_TAGS], header;
        struct sendring_str destination;
        struct sendring_event event;
        struct slice rest = input;
        memset(&event, 0, sizeof(event));
        event.size = sizeof(event);
        event.type = SENDRING_CLICK;
        for (size_t i = 0; i < 2 * RUN_TAGS; i++) {
                size_t len = rest.len == 0 ? 0u : 1u + rest.ptr[0] % (i == 0 ? 260u : 20u);
                struct sendring_str text = take(&rest, len, plain, rooms[i]);
                *(i % 2 == 0 ? &tags[i / 2].name : &tags[i / 2].value) = text;
        }
        event.mail.tags = (struct sendring_pairs){tags, RUN_TAGS};
        event.click.link_tags = (struct sendring_pairs){tags, 1};
        event.mail.timestamp_ms = event.click.timestamp_ms = (int64_t)input.len;
        event.mail.message_id = SENDRING_STR("m");
        event.mail.source = take(&rest, 15, false, rooms[2 * RUN_TAGS]);
        destination = take(&rest, 40, false, rooms[2 * RUN_TAGS + 1]);
        event.mail.destination = (struct sendring_strs){&destination, 1};
        header = (struct sendring_pair){SENDRING_STR("X"), take(&rest, 500, false, rooms[2 * RUN_TAGS + 2])};
        event.mail.headers = (struct sendring_pairs){&header, 1};
        event.click.link = take(&rest, 100, false, rooms[2 * RUN_TAGS + 3]);
        for (int read = 0; read < 2; read++) {
                struct err err = {.text = ""};
                size_t bytes = 0;
                enum err_code code = read ? codec_event_encode_read(&event, wire, sizeof(wire), &bytes, &err)
                                          : codec_event_encode(&event, wire, sizeof(wire), &bytes, &err);
                note_number(results, "code of an event", (uint64_t)code);
                note(results, "what is wrong with an event", err.text, code == ERR_OK ? 0 : strlen(err.text));
                if (code != ERR_OK || !read)
                        continue;
                note(results, "an event on the wire", wire, bytes);
                run_view(slice_of(wire, bytes), "reading an event", results);
                wire[input.ptr[input.len - 1] * 7u % bytes] = input.ptr[input.len / 2];
                run_view(slice_of(wire, bytes), "reading a changed event", results);
        }
}

#ifndef CODEC_SIMD_RUN
#define CODEC_SIMD_RUN codec_simd_run
#endif

void CODEC_SIMD_RUN(const uint8_t *data, size_t size, struct codec_simd_results *ret_results)
{
        struct slice input = slice_of(data, size);
        ASSERT(size <= CODEC_SIMD_INPUT_BYTES_MAX);
        ret_results->used = ret_results->sections = 0;
        run_texts(input, ret_results);
        run_numbers(input, ret_results);
        run_view(input, "reading the input", ret_results);
        if (size > 0) {
                run_event(input, true, ret_results);
                run_event(input, false, ret_results);
        }
}
