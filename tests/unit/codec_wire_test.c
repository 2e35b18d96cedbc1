/* The msgpack event: what the encoder writes is read by msgpack-c, what msgpack-c writes is accepted and published, and
 * what breaks a rule of docs/formats/event.md is refused. */
#include "base/arena.h"
#include "base/random.h"
#include "codecs/codec.h"
#include "tests/support/codec_events.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <msgpack.h>
#include <stdio.h>

TestSuite(codec_wire, .timeout = 60);

static uint8_t wire[SENDRING_EVENT_BYTES_MAX];

static struct slice encode(const struct sendring_event *event)
{
        struct err err = {.text = ""};
        size_t bytes = 0;
        cr_assert_eq(codec_event_encode(event, wire, sizeof(wire), &bytes, &err), ERR_OK, "%s", err.text);
        return slice_of(wire, bytes);
}

/* ---------------------------------------------------------------------------------------------- msgpack-c reads ours
 */

static const msgpack_object *map_find(const msgpack_object *map, uint64_t key)
{
        cr_assert_eq(map->type, MSGPACK_OBJECT_MAP);
        for (uint32_t i = 0; i < map->via.map.size; i++) {
                const msgpack_object_kv *pair = &map->via.map.ptr[i];
                if (pair->key.type == MSGPACK_OBJECT_POSITIVE_INTEGER && pair->key.via.u64 == key)
                        return &pair->val;
        }
        return NULL;
}

static void expect_text(const msgpack_object *map, uint64_t key, const char *text)
{
        const msgpack_object *value = map_find(map, key);
        cr_assert_not_null(value, "key %d", (int)key);
        cr_assert_eq(value->type, MSGPACK_OBJECT_STR);
        cr_assert(slice_equal(slice_of(value->via.str.ptr, value->via.str.size), slice_of_text(text)), "%s", text);
}

static void expect_list(const msgpack_object *map, uint64_t key, size_t count, const char *last)
{
        const msgpack_object *value = map_find(map, key);
        cr_assert_not_null(value, "key %d", (int)key);
        cr_assert_eq(value->type, MSGPACK_OBJECT_ARRAY);
        cr_assert_eq(value->via.array.size, count);
        const msgpack_object_str *str = &value->via.array.ptr[count - 1].via.str;
        cr_assert(slice_equal(slice_of(str->ptr, str->size), slice_of_text(last)), "%s", last);
}

static void expect_ascending(const msgpack_object *value)
{
        if (value->type == MSGPACK_OBJECT_ARRAY)
                for (uint32_t i = 0; i < value->via.array.size; i++)
                        expect_ascending(&value->via.array.ptr[i]);
        if (value->type != MSGPACK_OBJECT_MAP)
                return;
        for (uint32_t i = 0; i < value->via.map.size; i++) {
                cr_assert_eq(value->via.map.ptr[i].key.type, MSGPACK_OBJECT_POSITIVE_INTEGER);
                if (i > 0)
                        cr_assert_gt(value->via.map.ptr[i].key.via.u64, value->via.map.ptr[i - 1].key.via.u64);
                expect_ascending(&value->via.map.ptr[i].val);
        }
}

Test(codec_wire, msgpack_c_reads_every_type_with_the_documented_keys)
{
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                codec_events_fill(&event, (enum sendring_event_type)type);
                struct slice bytes = encode(&event);
                msgpack_unpacked unpacked;
                msgpack_unpacked_init(&unpacked);
                size_t at = 0;
                cr_assert_eq(msgpack_unpack_next(&unpacked, (const char *)bytes.ptr, bytes.len, &at),
                             MSGPACK_UNPACK_SUCCESS);
                cr_assert_eq(at, bytes.len, "no bytes behind the map");
                const msgpack_object *top = &unpacked.data;
                expect_ascending(top);
                cr_assert_eq((int)codec_event_peek_type(bytes), type);
                cr_assert_eq(map_find(top, 0)->via.u64, 1);
                cr_assert_eq(map_find(top, 1)->via.u64, (uint64_t)type);
                expect_text(top, 2, "bulk-a");
                expect_list(top, 3, 4, "sci-fi");
                const msgpack_object *session = map_find(top, 4);
                expect_text(session, 1, "SendRawEmail");
                expect_text(session, 2, "192.0.2.10");
                expect_text(session, 3, "mail.example.com");
                expect_text(session, 4, "mta-01");
                expect_text(session, 5, "TLSv1.3");
                expect_text(session, 6, "198.51.100.7");
                expect_text(session, 7, "TLSv1.3");
                const msgpack_object *mail = map_find(top, 5);
                cr_assert_eq(map_find(mail, 1)->via.u64, CODEC_EVENTS_TIME);
                expect_text(mail, 2, "news@mail.example.com");
                expect_text(mail, 3, CODEC_EVENTS_ARN);
                expect_text(mail, 4, CODEC_EVENTS_ACCOUNT);
                expect_text(mail, 5, CODEC_EVENTS_ID);
                expect_list(mail, 6, 1, "ana@recipient.example.com");
                cr_assert_null(map_find(mail, 7));
                cr_assert_eq(map_find(top, 6) == NULL, type == SENDRING_SEND);
                if (type == SENDRING_DELIVERY) {
                        const msgpack_object *delivery = map_find(top, 6);
                        cr_assert_eq(map_find(delivery, 1)->via.u64, CODEC_EVENTS_TIME + 1434);
                        cr_assert_eq(map_find(delivery, 2)->via.u64, 1434);
                        expect_list(delivery, 3, 1, "ana@recipient.example.com");
                        expect_text(delivery, 6, "out7.mail.example.com");
                        expect_list(mail, 8, 8, "1.0");
                        expect_text(map_find(mail, 9), 7, "April offers");
                }
                msgpack_unpacked_destroy(&unpacked);
        }
}

/* ---------------------------------------------------------------------------------------------- we read msgpack-c's */

static void pack_text(msgpack_packer *packer, const char *text)
{
        msgpack_pack_str_with_body(packer, text, strlen(text));
}

static void pack_key_text(msgpack_packer *packer, uint8_t key, const char *text)
{
        msgpack_pack_uint8(packer, key);
        pack_text(packer, text);
}

/* The example of docs/formats/event.md: keep the two alike. */
static void pack_open(msgpack_packer *packer)
{
        msgpack_pack_map(packer, 7);
        msgpack_pack_uint8(packer, 0);
        msgpack_pack_uint8(packer, 1);
        msgpack_pack_uint8(packer, 1);
        msgpack_pack_uint8(packer, 9);
        pack_key_text(packer, 2, "bulk-a");
        msgpack_pack_uint8(packer, 3);
        msgpack_pack_array(packer, 4);
        pack_text(packer, "campaign");
        pack_text(packer, "april");
        pack_text(packer, "genre");
        pack_text(packer, "sci-fi");
        msgpack_pack_uint8(packer, 5);
        msgpack_pack_map(packer, 4);
        msgpack_pack_uint8(packer, 1);
        msgpack_pack_uint64(packer, 1767323045678);
        pack_key_text(packer, 2, "news@mail.example.com");
        pack_key_text(packer, 5, "0100019b7ca98f2e-4a1f0c52-7d1e-4f0b-9c55-2f6f0e3b7a10-000000");
        msgpack_pack_uint8(packer, 6);
        msgpack_pack_array(packer, 1);
        pack_text(packer, "ana@recipient.example.com");
        msgpack_pack_uint8(packer, 6);
        msgpack_pack_map(packer, 2);
        msgpack_pack_uint8(packer, 1);
        msgpack_pack_uint64(packer, 1767334211000);
        pack_key_text(packer, 3, "192.0.2.99");
        pack_text(packer, "x-queue");
        pack_text(packer, "hot");
}

static char *file_text(const char *path)
{
        static char text[2][262144];
        static unsigned used;
        char *out = text[used++];
        FILE *file = fopen(path, "rb");
        cr_assert_not_null(file, "%s", path);
        out[fread(out, 1, sizeof(text[0]) - 1, file)] = '\0';
        (void)fclose(file); /* read only */
        return out;
}

Test(codec_wire, the_type_is_found_behind_any_head_of_the_map)
{
        static const uint8_t fix[] = {0x83, 0, 1, 1, 9, 0, 0, 0, 0}, wide[] = {0xde, 0, 3, 0, 1, 1, 10, 0, 0},
                             widest[] = {0xdf, 0, 0, 0, 3, 0, 1, 1, 4},
                             other_version[] = {0x83, 0, 2, 1, 9, 0, 0, 0, 0},
                             no_type[] = {0x83, 0, 1, 1, 11, 0, 0, 0, 0}, no_map[] = {0x93, 0, 1, 1, 9, 0, 0, 0, 0};
        cr_assert_eq(codec_event_peek_type(slice_of(fix, sizeof(fix))), SENDRING_OPEN);
        cr_assert_eq(codec_event_peek_type(slice_of(wide, sizeof(wide))), SENDRING_CLICK);
        cr_assert_eq(codec_event_peek_type(slice_of(widest, sizeof(widest))), SENDRING_DELIVERY);
        cr_assert_eq(codec_event_peek_type(slice_of(widest, sizeof(widest) - 1)), 0);
        cr_assert_eq(codec_event_peek_type(slice_of(other_version, sizeof(other_version))), 0);
        cr_assert_eq(codec_event_peek_type(slice_of(no_type, sizeof(no_type))), 0);
        cr_assert_eq(codec_event_peek_type(slice_of(no_map, sizeof(no_map))), 0);
        cr_assert_eq(codec_event_peek_type(SLICE_EMPTY), 0);
}

Test(codec_wire, the_example_in_the_document_is_the_one_tested_here)
{
        char *source = file_text(TEST_DATA_DIRECTORY "/../unit/codec_wire_test.c");
        char *document = file_text(TEST_DATA_DIRECTORY "/../../docs/formats/event.md");
        char *from = strstr(source, "static void pack_text(");
        char *comment = strstr(from, "/* The example of");
        char *code = strstr(comment, "static void pack_open(");
        char *end = strstr(code, "\n}\n");
        *comment = end[2] = '\0';
        cr_assert_not_null(strstr(document, from));
        cr_assert_not_null(strstr(document, code));
}

Test(codec_wire, an_event_packed_by_msgpack_c_is_accepted_and_published)
{
        msgpack_sbuffer buffer;
        msgpack_packer packer;
        msgpack_sbuffer_init(&buffer);
        msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
        pack_open(&packer);
        struct codec_view view;
        struct err err = {.text = ""};
        cr_assert_eq(codec_view_decode(slice_of(buffer.data, buffer.size), &view, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(view.type, SENDRING_OPEN);
        cr_assert_eq(view.timestamp_ms, CODEC_EVENTS_TIME);
        cr_assert(slice_equal(view.configuration_set, SLICE("bulk-a")));
        cr_assert(slice_equal(view.message_id, SLICE(CODEC_EVENTS_ID)));
        cr_assert_eq(view.extra_count, 1);
        uint8_t json[4096];
        size_t bytes = codec_json_encode(&view, NULL, json, sizeof(json));
        const char *expected =
                "{\"eventType\":\"Open\",\"mail\":{\"timestamp\":\"2026-01-02T03:04:05.678Z\",\"source\":\"news@mail."
                "example.com\",\"messageId\":\"" CODEC_EVENTS_ID
                "\",\"destination\":[\"ana@recipient.example.com\"],\"headersTruncated\":false,\"tags\":{\"ses:"
                "configuration-set\":[\"bulk-a\"],\"ses:from-domain\":[\"mail.example.com\"],\"campaign\":[\"april\"],"
                "\"genre\":[\"sci-fi\"]}},\"open\":{\"timestamp\":\"2026-01-02T06:10:11.000Z\",\"ipAddress\":\"192.0.2."
                "99\"},\"x-queue\":\"hot\"}";
        cr_assert(slice_equal(slice_of(json, bytes), slice_of_text(expected)), "%.*s", (int)bytes, (char *)json);
        msgpack_sbuffer_destroy(&buffer);
}

/* ---------------------------------------------------------------------------------------------- bounds */

Test(codec_wire, an_event_cut_anywhere_is_refused_without_reading_on)
{
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                codec_events_fill(&event, (enum sendring_event_type)type);
                struct slice whole = encode(&event);
                struct codec_view view;
                cr_assert_eq(codec_view_decode(guard_page_copy(whole), &view, NULL), ERR_OK);
                for (size_t len = 0; len < whole.len; len++) {
                        struct err err = {.text = ""};
                        view.type = (enum sendring_event_type)99;
                        enum err_code code = codec_view_decode(guard_page_copy(slice_head(whole, len)), &view, &err);
                        cr_assert_eq(err_class(code), ERR_CLASS_INPUT, "%d bytes: %s", (int)len, err.text);
                        cr_assert_eq(err.code, code);
                        cr_assert_eq(view.type, 99, "the view is untouched");
                }
        }
}

Test(codec_wire, encoding_into_too_little_room_says_so_and_stays_inside)
{
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                codec_events_fill(&event, (enum sendring_event_type)type);
                size_t need = encode(&event).len;
                cr_assert_leq(need, codec_event_size_max(&event));
                struct slice room = guard_page_copy(slice_of(wire, need));
                for (size_t len = 0; len <= need; len++) {
                        size_t bytes = 0;
                        /* Ends at the unmapped page; what lies before it must not change either. */
                        uint8_t *out = (uint8_t *)(uintptr_t)room.ptr + (need - len);
                        enum err_code code = codec_event_encode(&event, out, len, &bytes, NULL);
                        cr_assert_eq(code, len == need ? ERR_OK : ERR_TOO_BIG);
                }
                cr_assert(slice_equal(room, slice_of(wire, need)), "exact room is enough, and the bytes are the same");
        }
}

Test(codec_wire, random_damage_never_crashes_and_what_is_accepted_can_be_published)
{
        static uint8_t json[SENDRING_EVENT_BYTES_MAX * 7];
        struct random_state random;
        random_init(&random, 11);
        size_t accepted = 0;
        for (int round = 0; round < 20000; round++) {
                struct sendring_event event;
                codec_events_fill(&event, (enum sendring_event_type)(1 + random_below(&random, 10)));
                struct slice bytes = encode(&event);
                for (uint64_t edits = 1 + random_below(&random, 3); edits > 0; edits--)
                        wire[random_below(&random, bytes.len)] = (uint8_t)random_u64(&random);
                struct codec_view view;
                if (codec_view_decode(bytes, &view, NULL) != ERR_OK)
                        continue;
                accepted++;
                size_t max = codec_json_size_max(&view, NULL);
                size_t written = codec_json_encode(&view, NULL, json, sizeof(json));
                cr_assert(written > 0 && written <= max);
        }
        cr_assert_gt(accepted, 1000);
}

/* ---------------------------------------------------------------------------------------------- rules of decoding */

struct bad_case {
        const char *name;
        enum err_code code;
        size_t bytes_count;
        const char *bytes;
};
#define MAIL_START "\x05\x84\x01\xce\x10\x00\x00\x00\x02\xa1s\x05\xa1i"
#define MAIL       MAIL_START "\x06\x91\xa1r"
#define BYTES(x)   sizeof(x) - 1, x

static const struct bad_case bad_cases[] = {
        {"smallest good event", ERR_OK, BYTES("\x83\x00\x01\x01\x01" MAIL)},
        {"nothing", ERR_SYNTAX, BYTES("")},
        {"an array", ERR_TYPE, BYTES("\x93\x00\x01\x01")},
        {"a version of tomorrow", ERR_VERSION, BYTES("\x83\x00\x02\x01\x01" MAIL)},
        {"type before version", ERR_NAME, BYTES("\x83\x01\x01\x00\x01" MAIL)},
        {"type 0", ERR_TYPE, BYTES("\x83\x00\x01\x01\x00" MAIL)},
        {"type 11", ERR_TYPE, BYTES("\x83\x00\x01\x01\x0b" MAIL)},
        {"version twice", ERR_DUPLICATE, BYTES("\x84\x00\x01\x00\x01\x01\x01" MAIL)},
        {"type twice", ERR_DUPLICATE, BYTES("\x84\x00\x01\x01\x01\x01\x01" MAIL)},
        {"mail twice", ERR_DUPLICATE, BYTES("\x84\x00\x01\x01\x01" MAIL MAIL)},
        {"set behind mail", ERR_NAME, BYTES("\x84\x00\x01\x01\x01" MAIL "\x02\xa1x")},
        {"unknown integer key", ERR_NAME, BYTES("\x84\x00\x01\x01\x01" MAIL "\x07\xa1x")},
        {"no mail", ERR_MISSING, BYTES("\x82\x00\x01\x01\x01")},
        {"bytes behind the end", ERR_SYNTAX, BYTES("\x83\x00\x01\x01\x01" MAIL "\xc0")},
        {"no destination", ERR_MISSING, BYTES("\x83\x00\x01\x01\x01\x05\x83\x01\x01\x02\xa1s\x05\xa1i")},
        {"empty destination", ERR_MISSING, BYTES("\x83\x00\x01\x01\x01" MAIL_START "\x06\x90")},
        {"empty message id", ERR_MISSING, BYTES("\x83\x00\x01\x01\x01\x05\x84\x01\x01\x02\xa1s\x05\xa0\x06\x91\xa1r")},
        {"member twice", ERR_DUPLICATE,
         BYTES("\x83\x00\x01\x01\x01\x05\x85\x01\x01\x01\x01\x02\xa1s\x05\xa1i\x06\x91\xa1r")},
        {"members out of order", ERR_NAME,
         BYTES("\x83\x00\x01\x01\x01\x05\x84\x02\xa1s\x01\x01\x05\xa1i\x06\x91\xa1r")},
        {"unknown member key", ERR_NAME,
         BYTES("\x83\x00\x01\x01\x01\x05\x85\x01\x01\x02\xa1s\x05\xa1i\x06\x91\xa1r\x0a\xc0")},
        {"text where a time is due", ERR_TYPE,
         BYTES("\x83\x00\x01\x01\x01\x05\x84\x01\xa1"
               "1\x02\xa1s\x05\xa1i\x06\x91\xa1r")},
        {"bin where a text is due", ERR_TYPE,
         BYTES("\x83\x00\x01\x01\x01\x05\x84\x01\x01\x02\xc4\x01s\x05\xa1i\x06\x91\xa1r")},
        {"time before 1970", ERR_RANGE, BYTES("\x83\x00\x01\x01\x01\x05\x84\x01\xff\x02\xa1s\x05\xa1i\x06\x91\xa1r")},
        {"time before 1970, wide", ERR_RANGE,
         BYTES("\x83\x00\x01\x01\x01\x05\x84\x01\xd1\xff\x00\x02\xa1s\x05\xa1i\x06\x91\xa1r")},
        {"time behind 9999", ERR_RANGE,
         BYTES("\x83\x00\x01\x01\x01\x05\x84\x01\xcf\x00\x00\xe6\x77\xd2\x1f\xdc\x00\x02\xa1s\x05\xa1i\x06\x91\xa1r")},
        {"last time of 9999", ERR_OK,
         BYTES("\x83\x00\x01\x01\x01\x05\x84\x01\xcf\x00\x00\xe6\x77\xd2\x1f\xdb\xff\x02\xa1s\x05\xa1i\x06\x91\xa1r")},
        {"tag", ERR_OK, BYTES("\x84\x00\x01\x01\x01\x03\x92\xa1n\xa1v" MAIL)},
        {"odd tags", ERR_SYNTAX, BYTES("\x84\x00\x01\x01\x01\x03\x91\xa1n" MAIL)},
        {"empty tag name", ERR_NAME, BYTES("\x84\x00\x01\x01\x01\x03\x92\xa0\xa1v" MAIL)},
        {"empty tag value", ERR_NAME, BYTES("\x84\x00\x01\x01\x01\x03\x92\xa1n\xa0" MAIL)},
        {"tag name with a dot", ERR_NAME, BYTES("\x84\x00\x01\x01\x01\x03\x92\xa1.\xa1v" MAIL)},
        {"tag value with a dot", ERR_OK, BYTES("\x84\x00\x01\x01\x01\x03\x92\xa1n\xa1." MAIL)},
        {"tag value with a space", ERR_NAME, BYTES("\x84\x00\x01\x01\x01\x03\x92\xa1n\xa1 " MAIL)},
        {"forged auto-tag", ERR_NAME, BYTES("\x84\x00\x01\x01\x01\x03\x92\xadses:source-ip\xa1v" MAIL)},
        {"feedback id a", ERR_OK, BYTES("\x84\x00\x01\x01\x01\x03\x92\xb1ses:feedback-id-a\xa1v" MAIL)},
        {"feedback id c", ERR_NAME, BYTES("\x84\x00\x01\x01\x01\x03\x92\xb1ses:feedback-id-c\xa1v" MAIL)},
        {"bounce without object", ERR_MISSING, BYTES("\x83\x00\x01\x01\x05" MAIL)},
        {"reject without object", ERR_OK, BYTES("\x83\x00\x01\x01\x03" MAIL)},
        {"send with members", ERR_NAME, BYTES("\x84\x00\x01\x01\x01" MAIL "\x06\x81\x01\x01")},
        {"send with an empty object", ERR_OK, BYTES("\x84\x00\x01\x01\x01" MAIL "\x06\x80")},
        {"unknown member", ERR_OK, BYTES("\x84\x00\x01\x01\x01" MAIL "\xa1x\x92\xc0\xcb\x3f\xf0\0\0\0\0\0\0")},
        {"unknown member in mail", ERR_OK,
         BYTES("\x83\x00\x01\x01\x01\x05\x85\x01\x01\x02\xa1s\x05\xa1i\x06\x91\xa1r\xa1x\x81\xa1y\xc3")},
        {"unknown member twice", ERR_DUPLICATE, BYTES("\x85\x00\x01\x01\x01" MAIL "\xa1x\xc0\xa1x\xc0")},
        {"unknown member twice, deeper", ERR_DUPLICATE,
         BYTES("\x84\x00\x01\x01\x01" MAIL "\xa1x\x82\xa1y\xc0\xd9\x01y\xc0")},
        {"unknown member named like a known one", ERR_NAME,
         BYTES("\x84\x00\x01\x01\x01" MAIL "\xa6"
               "bounce\xc0")},
        {"unknown member in mail named like a known one", ERR_NAME,
         BYTES("\x83\x00\x01\x01\x01\x05\x85\x01\x01\x02\xa1s\x05\xa1i\x06\x91\xa1r\xa4tags\xc0")},
        {"unknown member before a known one", ERR_MISSING, BYTES("\x84\x00\x01\x01\x01\xa1x\xc0" MAIL)},
        {"unknown NaN", ERR_RANGE, BYTES("\x84\x00\x01\x01\x01" MAIL "\xa1x\xcb\x7f\xf8\0\0\0\0\0\0")},
        {"unknown bin", ERR_TYPE, BYTES("\x84\x00\x01\x01\x01" MAIL "\xa1x\xc4\x01y")},
        {"unknown name that is no UTF-8", ERR_UTF8, BYTES("\x84\x00\x01\x01\x01" MAIL "\xa1\xff\xc0")},
        {"unknown name with a NUL", ERR_NAME, BYTES("\x84\x00\x01\x01\x01" MAIL "\xa1\0\xc0")},
        {"unknown at the depth limit", ERR_OK,
         BYTES("\x84\x00\x01\x01\x01" MAIL "\xa1x\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc0")},
        {"unknown beyond the depth limit", ERR_RANGE,
         BYTES("\x84\x00\x01\x01\x01" MAIL
               "\xa1x\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\xc0")},
        {"array of four billion", ERR_SYNTAX, BYTES("\x84\x00\x01\x01\x01" MAIL "\xa1x\xdd\xff\xff\xff\xff")},
        {"destination of four billion", ERR_RANGE, BYTES("\x83\x00\x01\x01\x01" MAIL_START "\x06\xdd\xff\xff\xff\xff")},
};

Test(codec_wire, each_rule_of_the_format_is_enforced)
{
        for (size_t i = 0; i < sizeof(bad_cases) / sizeof(bad_cases[0]); i++) {
                const struct bad_case *one = &bad_cases[i];
                struct err err = {.code = ERR_OK, .text = ""};
                struct codec_view view;
                struct slice bytes = guard_page_copy(slice_of(one->bytes, one->bytes_count));
                enum err_code code = codec_view_decode(bytes, &view, &err);
                cr_expect_eq(code, one->code, "%s: %s (%s)", one->name, err_name(code), err.text);
                cr_expect_eq(codec_view_decode(bytes, &view, NULL), one->code, "%s", one->name);
                cr_expect_eq(err.code, one->code, "%s", one->name);
        }
}

Test(codec_wire, messages_name_the_member_and_the_place)
{
        struct err err;
        struct codec_view view;
        struct slice bytes = slice_of("\x83\x00\x01\x01\x01\x05\x83\x01\x01\x02\xa1s\x05\xa1i", 15);
        cr_assert_eq(codec_view_decode(bytes, &view, &err), ERR_MISSING);
        cr_assert_str_eq(err.text, "mail.destination: offset 6: required");
}

/* ---------------------------------------------------------------------------------------------- rules of encoding */

static enum err_code encode_code(const struct sendring_event *event, char *text, size_t text_bytes)
{
        struct err err = {.text = ""};
        size_t bytes;
        enum err_code code = codec_event_encode(event, wire, sizeof(wire), &bytes, &err);
        (void)snprintf(text, text_bytes, "%s", err.text); /* cutting is fine */
        return code;
}

Test(codec_wire, the_encoder_names_what_is_wrong)
{
        struct sendring_event event;
        char text[512];
        struct sendring_pair tag;

        codec_events_fill(&event, SENDRING_SEND);
        event.mail.message_id = (struct sendring_str){NULL, 0};
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_MISSING);
        cr_expect_str_eq(text, "mail.messageId is required");

        codec_events_fill(&event, SENDRING_SEND);
        event.mail.timestamp_ms = SENDRING_NO_TIME;
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_MISSING);
        event.mail.timestamp_ms = -1;
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_RANGE);
        event.mail.timestamp_ms = INT64_C(253402300800000);
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_RANGE);
        event.mail.timestamp_ms--;
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_OK);
        event.mail.source = SENDRING_STR("");
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_OK, "the null sender");
        event.mail.source = (struct sendring_str){NULL, 0};
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_MISSING);

        codec_events_fill(&event, SENDRING_BOUNCE);
        event.bounce.bounced_recipients.count = 0;
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_MISSING);
        cr_expect_str_eq(text, "bounce.bouncedRecipients: at least one is required");

        codec_events_fill(&event, SENDRING_SEND);
        event.mail.tags = (struct sendring_pairs){&tag, 1};
        tag = (struct sendring_pair){SENDRING_STR("ses:from-domain"), SENDRING_STR("v")};
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_NAME, "an auto-tag cannot be forged");
        tag.name = SENDRING_STR("ses:feedback-id-b");
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_OK);
        tag.name = SENDRING_STR("");
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_NAME);
        cr_expect_str_eq(text, "mail.tags[0]: The tag name must be specified.");
        tag.name = (struct sendring_str){NULL, 0};
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_NAME);
        tag.name = SENDRING_STR("n");
        tag.value = (struct sendring_str){(const char *)wire, 256};
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_NAME);

        codec_events_fill(&event, SENDRING_SEND);
        event.mail.destination.count = SENDRING_LIST_ITEMS_MAX + 1;
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_RANGE);
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.common_headers.subject = (struct sendring_str){(const char *)wire, SIZE_MAX / 2};
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_TOO_BIG);
        cr_expect_eq(codec_event_size_max(&event), SIZE_MAX);
        codec_events_fill(&event, SENDRING_SEND);
        event.size -= 8;
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_VERSION);
        event.size += 64;
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_OK, "a newer header");
        event.type = (enum sendring_event_type)11;
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_TYPE);
}

/* Of a program in whose address space this runs: what it got wrong must not take it down. */
Test(codec_wire, a_null_pointer_in_a_list_is_named)
{
        struct sendring_event event;
        char text[512];
        struct sendring_str texts[3] = {SENDRING_STR("a@x.example"), {NULL, 7}, SENDRING_STR("b@x.example")};
        const struct sendring_strs list = {texts, 3};
        struct sendring_pair header = {SENDRING_STR("Subject"), {NULL, 7}};
        const struct {
                enum sendring_event_type type;
                struct sendring_strs *list;
                const char *name;
        } lists[] = {
                {SENDRING_SEND, &event.mail.destination, "mail.destination"},
                {SENDRING_DELIVERY, &event.delivery.recipients, "delivery.recipients"},
                {SENDRING_COMPLAINT, &event.complaint.complained_recipients, "complaint.complainedRecipients"},
                {SENDRING_SEND, &event.mail.common_headers.to, "mail.commonHeaders.to"},
                {SENDRING_SEND, &event.mail.common_headers.reply_to, "mail.commonHeaders.replyTo"},
        };
        for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
                char wanted[128];
                codec_events_fill(&event, lists[i].type);
                *lists[i].list = list;
                texts[1] = (struct sendring_str){NULL, 7};
                (void)snprintf(wanted, sizeof(wanted), "%s[1]: 7 bytes at a NULL pointer", lists[i].name);
                cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_MISSING);
                cr_expect_str_eq(text, wanted);
                texts[1] = i % 2 == 0 ? SENDRING_STR("") : (struct sendring_str){NULL, 0}; /* texts like any other */
                cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_OK, "%s", text);
                *lists[i].list = (struct sendring_strs){NULL, 2};
                cr_expect_neq(codec_event_size_max(&event), 0);
                (void)snprintf(wanted, sizeof(wanted), "%s: 2 items at a NULL pointer", lists[i].name);
                cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_MISSING);
                cr_expect_str_eq(text, wanted);
        }
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.headers = (struct sendring_pairs){&header, 1};
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_MISSING);
        cr_expect_str_eq(text, "mail.headers[0].value: 7 bytes at a NULL pointer");
        event.mail.headers.items = NULL;
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_MISSING);
        codec_events_fill(&event, SENDRING_BOUNCE);
        event.bounce.bounced_recipients.items = NULL;
        cr_expect_neq(codec_event_size_max(&event), 0);
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_MISSING);
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.tags = (struct sendring_pairs){NULL, 1};
        cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_MISSING);
        cr_expect_str_eq(text, "mail.tags: 1 items at a NULL pointer");
}

/* SES's API allows 255 bytes, its documentation 256: the one is for setting, the other for reading what others set. */
Test(codec_wire, tags_of_256_bytes_are_read_but_not_set)
{
        char text[512];
        static char longest[257];
        struct sendring_event event, back;
        struct sendring_pair tag = {SENDRING_STR("n"), SENDRING_STR("v")};
        struct codec_view view;
        struct arena arena;
        struct err err;
        size_t bytes;
        memset(longest, 'x', sizeof(longest));
        codec_events_fill(&event, SENDRING_CLICK);
        for (int i = 0; i < 4; i++) { /* names and values, of the message and of the link */
                struct sendring_pairs *tags = i < 2 ? &event.mail.tags : &event.click.link_tags, before = *tags;
                struct sendring_str *part = i % 2 == 0 ? &tag.name : &tag.value, short_part = *part;
                const char *name = i < 2 ? "mail.tags" : "click.linkTags", *what = i % 2 == 0 ? "name" : "value";
                char expected[128];
                *tags = (struct sendring_pairs){&tag, 1};
                *part = (struct sendring_str){longest, 255};
                cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_OK);
                part->len = 256;
                cr_expect_eq(encode_code(&event, text, sizeof(text)), ERR_NAME);
                (void)snprintf(expected, sizeof(expected), "%s[0]: Tag %s cannot exceed 255 characters.", name, what);
                cr_expect_str_eq(text, expected);
                cr_assert_eq(codec_event_encode_read(&event, wire, sizeof(wire), &bytes, &err), ERR_OK);
                cr_assert_eq(codec_view_decode(slice_of(wire, bytes), &view, &err), ERR_OK, "%s", err.text);
                arena_init(&arena, 0, 0);
                cr_assert_eq(codec_event_decode(slice_of(wire, bytes), &arena, &back, &err), ERR_OK);
                const struct sendring_pair *read = i < 2 ? back.mail.tags.items : back.click.link_tags.items;
                cr_expect_eq(i % 2 == 0 ? read->name.len : read->value.len, 256);
                arena_release(&arena);
                part->len = 257;
                cr_expect_eq(codec_event_encode_read(&event, wire, sizeof(wire), &bytes, &err), ERR_NAME);
                (void)snprintf(expected, sizeof(expected), "%s[0]: Tag %s cannot exceed 256 characters.", name, what);
                cr_expect_str_eq(err.text, expected);
                *part = short_part;
                *tags = before;
        }
        /* The router's own check of the 257th byte: the value of {1: 1, 3: ["n", ...]}, its length one more. */
        event.mail.tags = (struct sendring_pairs){&tag, 1};
        tag.value = (struct sendring_str){longest, 256};
        cr_assert_eq(codec_event_encode_read(&event, wire, sizeof(wire), &bytes, &err), ERR_OK);
        size_t at = slice_find(slice_of(wire, bytes), SLICE("\xda\x01\x00"));
        cr_assert_lt(at, bytes);
        memmove(wire + at + 4, wire + at + 3, bytes - at - 3);
        wire[at + 2] = 1;
        cr_expect_eq(codec_view_decode(slice_of(wire, bytes + 1), &view, &err), ERR_NAME);
        cr_expect_not_null(strstr(err.text, "Tag value cannot exceed 256 characters."), "%s", err.text);
}

/* SES reads fewer bytes from a link than from a message; what others have published is read by the wider rule. */
Test(codec_wire, tags_of_links_are_set_by_their_own_rule)
{
        static const struct {
                const char *name, *value, *why; /* NULL: fine */
        } rows[] = {
                {"0aZ-_", "0aZ-_", NULL},
                {"n", "v.w",
                 "click.linkTags[1]: Invalid tag value <v.w>: only alphanumeric ASCII characters, '_',  '-' are "
                 "allowed."},
                {"n", "v@w",
                 "click.linkTags[1]: Invalid tag value <v@w>: only alphanumeric ASCII characters, '_',  '-' are "
                 "allowed."},
                {"ses:feedback-id-a", "v",
                 "click.linkTags[1]: Invalid tag name <ses:feedback-id-a>: only alphanumeric ASCII characters, '_',  "
                 "'-' are allowed."},
        };
        char text[512];
        struct sendring_event event;
        struct codec_view view;
        struct err err;
        size_t bytes;
        codec_events_fill(&event, SENDRING_CLICK);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct sendring_pair tags[] = {
                        {SENDRING_STR("plain"), SENDRING_STR("plain")},
                        {{rows[i].name, strlen(rows[i].name)}, {rows[i].value, strlen(rows[i].value)}}};
                event.click.link_tags = (struct sendring_pairs){tags, 2};
                cr_expect_eq(encode_code(&event, text, sizeof(text)), rows[i].why == NULL ? ERR_OK : ERR_NAME);
                if (rows[i].why != NULL)
                        cr_expect_str_eq(text, rows[i].why);
                cr_expect_eq(codec_event_encode_read(&event, wire, sizeof(wire), &bytes, &err), ERR_OK);
                cr_expect_eq(codec_view_decode(slice_of(wire, bytes), &view, &err), ERR_OK);
        }
}

/* The router says of a tag what the library says of it. */
Test(codec_wire, a_bad_tag_on_the_wire_is_named)
{
        struct sendring_event event;
        struct sendring_pair tag = {SENDRING_STR("needle_n"), SENDRING_STR("needle_v")};
        struct codec_view view;
        struct err err;
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.tags = (struct sendring_pairs){&tag, 1};
        struct slice bytes = encode(&event);
        size_t name = slice_find(bytes, SLICE("needle_n")), value = slice_find(bytes, SLICE("needle_v"));
        wire[value + 6] = ' ';
        cr_expect_eq(codec_view_decode(bytes, &view, &err), ERR_NAME);
        cr_expect_not_null(strstr(err.text,
                                  "Invalid tag value <needle v>: only alphanumeric ASCII characters, '_',  '-' "
                                  ", '.', '@' are allowed."),
                           "%s", err.text);
        wire[name + 6] = '.';
        cr_expect_eq(codec_view_decode(bytes, &view, &err), ERR_NAME);
        cr_expect_not_null(strstr(err.text,
                                  "Invalid tag name <needle.n>: only alphanumeric ASCII characters, '_',  '-' "
                                  "are allowed."),
                           "%s", err.text);
}

/* Every byte in every place of tags of every length up to 40: the vector checks agree with codec_tag_check(). */
Test(codec_wire, tag_bytes_are_checked_wherever_they_stand)
{
        char text[512];
        struct sendring_event event;
        codec_events_fill(&event, SENDRING_SEND);
        for (size_t len = 1; len <= 40; len++) {
                for (size_t place = 0; place < len; place++) {
                        for (unsigned byte = 0; byte<256; byte += len> 18 ? 7 : 1) {
                                char bytes[40];
                                memset(bytes, 'a', sizeof(bytes));
                                bytes[place] = (char)byte;
                                for (int is_value = 0; is_value < 2; is_value++) {
                                        struct sendring_str edited = {bytes, len};
                                        struct sendring_str plain = SENDRING_STR("plain");
                                        struct sendring_pair tag = {is_value ? plain : edited,
                                                                    is_value ? edited : plain};
                                        event.mail.tags = (struct sendring_pairs){&tag, 1};
                                        enum err_code expected =
                                                codec_tag_check(slice_of(tag.name.ptr, tag.name.len),
                                                                slice_of(tag.value.ptr, tag.value.len), NULL);
                                        cr_assert_eq(encode_code(&event, text, sizeof(text)), expected,
                                                     "byte %u at %zu of %zu", byte, place, len);
                                        /* The decoder must say the same of the same bytes. */
                                        struct sendring_pair good = {SENDRING_STR("plain"), SENDRING_STR("plain")};
                                        char needle[42] = {(char)0xd9, (char)len}, *filler = needle + 2;
                                        memset(filler, 'b', 40);
                                        if (is_value)
                                                good.value = (struct sendring_str){filler, len};
                                        else
                                                good.name = (struct sendring_str){filler, len};
                                        event.mail.tags = (struct sendring_pairs){&good, 1};
                                        struct slice good_bytes = encode(&event);
                                        size_t at = slice_find(good_bytes, slice_of(needle, 2 + len));
                                        cr_assert_lt(at, good_bytes.len);
                                        memcpy(wire + at + 2, bytes, len);
                                        struct codec_view view;
                                        cr_assert_eq(codec_view_decode(good_bytes, &view, NULL), expected);
                                }
                        }
                }
        }
}

Test(codec_wire, headers_beyond_ten_kilobytes_are_cut_and_said_to_be)
{
        static char value[3000];
        static struct sendring_pair headers[8];
        memset(value, 'v', sizeof(value));
        for (size_t i = 0; i < 8; i++)
                headers[i] = (struct sendring_pair){SENDRING_STR("Header"), {value, sizeof(value)}};
        struct sendring_event event;
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.headers = (struct sendring_pairs){headers, 8};
        struct slice bytes = encode(&event);
        cr_assert_leq(bytes.len, codec_event_size_max(&event));
        struct arena arena;
        struct sendring_event back;
        arena_init(&arena, 0, 0);
        cr_assert_eq(codec_event_decode(bytes, &arena, &back, NULL), ERR_OK);
        cr_assert_eq(back.mail.headers.count, 3, "three of 3,010 bytes fit into 10,240");
        cr_assert_eq(back.mail.headers_truncated, 1);
        event.mail.headers.count = 3;
        bytes = encode(&event);
        cr_assert_eq(codec_event_decode(bytes, &arena, &back, NULL), ERR_OK);
        cr_assert_eq(back.mail.headers_truncated, 0);
        arena_release(&arena);
}

Test(codec_wire, an_event_comes_back_as_the_same_struct)
{
        static uint8_t first[SENDRING_EVENT_BYTES_MAX];
        struct arena arena;
        arena_init(&arena, 0, 0);
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event, back;
                codec_events_fill(&event, (enum sendring_event_type)type);
                struct slice bytes = encode(&event);
                memcpy(first, bytes.ptr, bytes.len);
                cr_assert_eq(codec_event_decode(slice_of(first, bytes.len), &arena, &back, NULL), ERR_OK);
                cr_assert_eq(back.mail.timestamp_ms, event.mail.timestamp_ms);
                cr_assert_eq(back.mail.tags.count, event.mail.tags.count);
                struct slice again = encode(&back);
                cr_assert(slice_equal(again, slice_of(first, bytes.len)), "%s", codec_events_names[type]);
        }
        arena_release(&arena);
}

Test(codec_view, a_stored_view_loads_as_it_was, .timeout = 30)
{
        for (int type = 1; type <= CODEC_EVENT_TYPES_COUNT; type++) {
                struct sendring_event event;
                static uint8_t bytes[65536];
                size_t len = 0;
                struct err err;
                codec_events_fill(&event, (enum sendring_event_type)type);
                cr_assert_eq(codec_event_encode(&event, bytes, sizeof(bytes), &len, &err), ERR_OK, "%s", err.text);
                struct codec_view view, loaded;
                uint8_t stored[CODEC_VIEW_STORED_BYTES];
                memset(&view, 0, sizeof(view));
                memset(&loaded, 0, sizeof(loaded));
                cr_assert_eq(codec_view_decode(slice_of(bytes, len), &view, NULL), ERR_OK);
                codec_view_store(&view, stored);
                cr_assert_eq(codec_view_load(stored, slice_of(bytes, len), &loaded), ERR_OK);
                cr_assert(slice_equal(view.configuration_set, loaded.configuration_set) &&
                          slice_equal(view.tags, loaded.tags) && slice_equal(view.session, loaded.session) &&
                          slice_equal(view.mail, loaded.mail) && slice_equal(view.object, loaded.object) &&
                          slice_equal(view.extra, loaded.extra) && slice_equal(view.message_id, loaded.message_id));
                cr_assert(view.type == loaded.type && view.extra_count == loaded.extra_count &&
                          view.timestamp_ms == loaded.timestamp_ms);
                /* The name of a set that the router took lies behind the event, and nothing else may. */
                memcpy(bytes + len, "bulk-b", 6);
                struct codec_view chosen = view;
                uint8_t with_set[CODEC_VIEW_STORED_BYTES + sizeof(bytes)];
                chosen.configuration_set = slice_of(bytes + len, 6);
                codec_view_store(&chosen, with_set);
                memcpy(with_set + CODEC_VIEW_STORED_BYTES, bytes, len + 6);
                struct slice event_part, set_part;
                cr_assert_eq(codec_view_load(with_set, slice_of(bytes, len + 6), &loaded), ERR_OK);
                cr_assert(slice_equal(loaded.configuration_set, SLICE("bulk-b")) && loaded.event.len == len);
                cr_assert_eq(
                        codec_view_split(slice_of(with_set, CODEC_VIEW_STORED_BYTES + len + 6), &event_part, &set_part),
                        ERR_OK);
                cr_assert(slice_equal(event_part, slice_of(bytes, len)) && slice_equal(set_part, SLICE("bulk-b")));
                cr_assert_eq(codec_view_load(with_set, slice_of(bytes, len + 5), &loaded), ERR_CORRUPT);
                cr_assert_eq(codec_view_load(with_set, slice_of(bytes, len), &loaded), ERR_CORRUPT);
                cr_assert_eq(codec_view_load(stored, slice_of(bytes, len + 6), &loaded), ERR_CORRUPT);
                cr_assert_eq(codec_view_split(slice_of(with_set, CODEC_VIEW_STORED_BYTES - 1), &event_part, &set_part),
                             ERR_CORRUPT);
                /* The domain that chooses it: the session's, else, without headers, the source's. */
                cr_assert(slice_equal(codec_view_from_domain(&view), SLICE("mail.example.com")));
                event.mail.from_domain = SENDRING_STR("");
                event.mail.source = SENDRING_STR("News <a@B.example>");
                event.mail.headers = (struct sendring_pairs){NULL, 0};
                event.mail.headers_present = 0;
                event.mail.common_headers = (struct sendring_common_headers){.subject = {NULL, 0}};
                cr_assert_eq(codec_event_encode(&event, bytes, sizeof(bytes), &len, &err), ERR_OK);
                cr_assert_eq(codec_view_decode(slice_of(bytes, len), &view, NULL), ERR_OK);
                cr_assert(slice_equal(codec_view_from_domain(&view), SLICE("B.example")));
                event.mail.source = SENDRING_STR("<>");
                cr_assert_eq(codec_event_encode(&event, bytes, sizeof(bytes), &len, &err), ERR_OK);
                cr_assert_eq(codec_view_decode(slice_of(bytes, len), &view, NULL), ERR_OK);
                cr_assert_eq(codec_view_from_domain(&view).len, 0);
                codec_view_store(&view, stored);
                /* Another length, or any part beyond the event, is refused. */
                cr_assert_eq(codec_view_load(stored, slice_of(bytes, len - 1), &loaded), ERR_CORRUPT);
                for (size_t part = 0; part < 7; part++) {
                        uint8_t bad[CODEC_VIEW_STORED_BYTES];
                        memcpy(bad, stored, sizeof(bad));
                        memset(bad + part * 8 + 4, 0xff, 4);
                        cr_assert_eq(codec_view_load(bad, slice_of(bytes, len), &loaded), ERR_CORRUPT);
                }
        }
}
