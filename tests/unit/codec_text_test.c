/* JSON strings and the JSON reader, with jansson as the judge; base64, with OpenSSL as the judge; numbers and times,
 * with libc as the judge; tags, ids. */
#include "base/clock.h"
#include "base/random.h"
#include "codecs/codec.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <time.h>

TestSuite(codec_json_string, .timeout = 60);
TestSuite(codec_json_reader, .timeout = 60);
TestSuite(codec_base64, .timeout = 60);
TestSuite(codec_number, .timeout = 60);
TestSuite(codec_tag, .timeout = 60);

/* Like guard_page_copy() for many rounds: the same page again and again. `which` tells copies in use together apart. */
static struct slice guard_again(unsigned which, struct slice s)
{
        static uint8_t zeros[4096];
        static struct slice pages[2];
        if (pages[which].ptr == NULL)
                pages[which] = guard_page_copy(slice_of(zeros, sizeof(zeros)));
        uint8_t *at = (uint8_t *)(uintptr_t)pages[which].ptr + sizeof(zeros) - s.len;
        if (s.len > 0)
                memcpy(at, s.ptr, s.len);
        return slice_of(at, s.len);
}

/* ---------------------------------------------------------------------------------------------- JSON strings */

static void expect_string(struct slice text, struct slice expected)
{
        uint8_t out[256];
        size_t bytes = codec_json_string(text, out, sizeof(out));
        cr_expect(slice_equal(slice_of(out, bytes), expected), "%.*s but expected %.*s", (int)bytes, (char *)out,
                  SLICE_PRINTF(expected));
}

Test(codec_json_string, escapes_what_must_be_and_replaces_what_is_not_utf8)
{
        expect_string(SLICE(""), SLICE("\"\""));
        expect_string(SLICE("plain"), SLICE("\"plain\""));
        expect_string(SLICE("\"\\/"), SLICE("\"\\\"\\\\/\""));
        expect_string(SLICE("\b\f\n\r\t\x01\x1f\x7f"), SLICE("\"\\b\\f\\n\\r\\t\\u0001\\u001F\x7f\""));
        expect_string(SLICE("\0"), SLICE("\"\\u0000\""));
        expect_string(SLICE("\xc3\xa9\xe2\x82\xac\xf0\x9f\x93\xa7"), SLICE("\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x93\xa7\""));
        /* Unicode 15, table 3-8: one U+FFFD for each maximal subpart. */
        expect_string(SLICE("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64"),
                      SLICE("\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                            "b\xef\xbf\xbd"
                            "c\xef\xbf\xbd\xef\xbf\xbd"
                            "d\""));
        expect_string(SLICE("\xc0\xaf"), SLICE("\"\xef\xbf\xbd\xef\xbf\xbd\""));                 /* overlong */
        expect_string(SLICE("\xed\xa0\x80"), SLICE("\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"")); /* surrogate */
        expect_string(SLICE("\xf4\x90\x80\x80"), SLICE("\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""));
        expect_string(SLICE("\xe2\x82"), SLICE("\"\xef\xbf\xbd\"")); /* cut */
        expect_string(SLICE("\xff"), SLICE("\"\xef\xbf\xbd\""));
}

Test(codec_json_string, jansson_reads_back_every_text)
{
        struct random_state random;
        random_init(&random, 3);
        for (int round = 0; round < 40000; round++) {
                char text[80];
                size_t len = random_below(&random, sizeof(text));
                bool valid = random_below(&random, 2) == 0;
                for (size_t i = 0; i < len; i++)
                        text[i] = (char)(valid                           ? 1 + random_below(&random, 127)
                                         : random_below(&random, 4) == 0 ? random_below(&random, 256)
                                                                         : 'x');
                struct slice guarded = guard_again(0, slice_of(text, len));
                static uint8_t out[600];
                size_t bytes = codec_json_string(guarded, out, 6 * len + 2);
                cr_assert_gt(bytes, 0);
                json_error_t error;
                json_t *value = json_loadb((const char *)out, bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
                cr_assert_not_null(value, "%s", error.text);
                if (valid)
                        cr_assert(slice_equal(slice_of(json_string_value(value), json_string_length(value)), guarded));
                /* Ours reads it back as well. */
                static uint8_t plain[600];
                size_t plain_bytes = codec_json_unescape(slice_of(out + 1, bytes - 2), plain, sizeof(plain));
                cr_assert(slice_equal(slice_of(plain, plain_bytes),
                                      slice_of(json_string_value(value), json_string_length(value))));
                json_decref(value);
                for (size_t room = 0; room < bytes; room++)
                        cr_assert_eq(codec_json_string(guarded, plain, room), 0);
        }
}

Test(codec_json_string, unescape_joins_surrogates_and_replaces_lone_ones)
{
        static const struct {
                const char *raw, *expected;
        } cases[] = {
                {"", ""},
                {"a\\n\\u0041\\/", "a\nA/"},
                {"\\ud83d\\udce7", "\xf0\x9f\x93\xa7"},
                {"\\ud83d", "\xef\xbf\xbd"},
                {"\\ud83dx", "\xef\xbf\xbdx"},
                {"\\udce7\\ud83d\\u0041", "\xef\xbf\xbd\xef\xbf\xbd"
                                          "A"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                uint8_t out[64];
                memcpy(out, cases[i].raw, strlen(cases[i].raw));
                size_t bytes = codec_json_unescape(slice_of(out, strlen(cases[i].raw)), out, sizeof(out));
                cr_expect(slice_equal(slice_of(out, bytes), slice_of_text(cases[i].expected)), "%s", cases[i].raw);
        }
        uint8_t out[2];
        cr_expect_eq(codec_json_unescape(SLICE("\\u20ac"), out, 2), SIZE_MAX);
        cr_expect_eq(codec_json_unescape(SLICE("\\x"), out, 2), SIZE_MAX);
        cr_expect_eq(codec_json_unescape(SLICE("\\u12"), out, 2), SIZE_MAX);
        cr_expect_eq(codec_json_unescape(SLICE("\\"), out, 2), SIZE_MAX);
}

/* ---------------------------------------------------------------------------------------------- JSON reader */

/* Rebuilds with jansson what the reader reports: the trees must be equal. */
static json_t *read_value(struct codec_json_reader *reader, enum codec_json_token token);

static json_t *read_text(struct codec_json_reader *reader)
{
        static uint8_t text[65536];
        size_t bytes = codec_json_unescape(reader->value, text, sizeof(text));
        cr_assert_neq(bytes, SIZE_MAX);
        cr_assert_eq(reader->escaped, memchr(reader->value.ptr, '\\', reader->value.len) != NULL);
        return json_stringn((const char *)text, bytes);
}

static json_t *read_container(struct codec_json_reader *reader, bool object)
{
        json_t *container = object ? json_object() : json_array();
        for (;;) {
                enum codec_json_token token = codec_json_next(reader);
                if (token == (object ? CODEC_JSON_OBJECT_END : CODEC_JSON_ARRAY_END))
                        return container;
                if (!object) {
                        json_array_append_new(container, read_value(reader, token));
                        continue;
                }
                cr_assert_eq(token, CODEC_JSON_KEY);
                json_t *key = read_text(reader);
                json_object_set_new(container, json_string_value(key), read_value(reader, codec_json_next(reader)));
                json_decref(key);
        }
}

static json_t *read_value(struct codec_json_reader *reader, enum codec_json_token token)
{
        char number[64];
        switch (token) {
        case CODEC_JSON_OBJECT_BEGIN:
                return read_container(reader, true);
        case CODEC_JSON_ARRAY_BEGIN:
                return read_container(reader, false);
        case CODEC_JSON_STRING:
                return read_text(reader);
        case CODEC_JSON_NUMBER:
                cr_assert(slice_to_text(reader->value, number, sizeof(number)));
                return json_loads(number, JSON_DECODE_ANY, NULL);
        case CODEC_JSON_TRUE:
                return json_true();
        case CODEC_JSON_FALSE:
                return json_false();
        case CODEC_JSON_NULL:
                return json_null();
        case CODEC_JSON_END:
        case CODEC_JSON_ERROR:
        case CODEC_JSON_OBJECT_END:
        case CODEC_JSON_ARRAY_END:
        case CODEC_JSON_KEY:
                break;
        }
        cr_assert_fail("token %d at %zu", (int)token, reader->at);
        return NULL;
}

static const char *const good_json[] = {
        "0",
        " [ ] ",
        "{}",
        "\"x\"",
        "true",
        "null",
        "-0",
        "-1.5e+10",
        "1E2",
        "[1,2,[3,{}]]",
        "{\"a\":1,\"b\":[true,false,null],\"c\":{\"d\":\"\\u00e9\\n\\\"\"}}",
        "{\"FailedPutCount\":1,\"RequestResponses\":[{\"RecordId\":\"abc\"},{\"ErrorCode\":\"S\",\"M\":\"m\"}]}",
        "[\"\xe2\x82\xac\"]",
        "\t\r\n[\"a long plain string that takes more than one vector\"]",
};

static const char *const bad_json[] = {
        "",
        " ",
        "[",
        "]",
        "{",
        "}",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:2}",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "nul",
        "tru",
        "True",
        "\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"\x01\"",
        "1 2",
        "[] []",
        "{} x",
        "[1}",
        "{\"a\":1]",
        "'a'",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xe2\x82\"",
        "nan",
        "0x10",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "\"abc\\\"",
        "//",
        "[1]//",
};

Test(codec_json_reader, reads_what_jansson_reads)
{
        for (size_t i = 0; i < sizeof(good_json) / sizeof(good_json[0]); i++) {
                struct codec_json_reader reader;
                codec_json_reader_init(&reader, guard_page_copy(slice_of_text(good_json[i])));
                json_t *ours = read_value(&reader, codec_json_next(&reader));
                cr_expect_eq(codec_json_next(&reader), CODEC_JSON_END, "%s", good_json[i]);
                json_t *theirs = json_loads(good_json[i], JSON_DECODE_ANY, NULL);
                cr_expect(json_equal(ours, theirs), "%s", good_json[i]);
                json_decref(ours);
                json_decref(theirs);
                codec_json_reader_init(&reader, slice_of_text(good_json[i]));
                cr_expect(codec_json_skip(&reader));
                cr_expect_eq(codec_json_next(&reader), CODEC_JSON_END);
        }
}

Test(codec_json_reader, refuses_what_jansson_refuses_and_stays_refused)
{
        for (size_t i = 0; i < sizeof(bad_json) / sizeof(bad_json[0]); i++) {
                struct codec_json_reader reader;
                codec_json_reader_init(&reader, guard_page_copy(slice_of_text(bad_json[i])));
                cr_expect_null(json_loads(bad_json[i], JSON_DECODE_ANY, NULL), "%s", bad_json[i]);
                enum codec_json_token token;
                for (int steps = 0; steps < 100; steps++) {
                        token = codec_json_next(&reader);
                        if (token == CODEC_JSON_ERROR || token == CODEC_JSON_END)
                                break;
                }
                cr_expect_eq(token, CODEC_JSON_ERROR, "%s", bad_json[i]);
                cr_expect_eq(codec_json_next(&reader), CODEC_JSON_ERROR);
        }
}

Test(codec_json_reader, depth_is_bounded)
{
        char text[130];
        struct codec_json_reader reader;
        memset(text, '[', 65);
        memset(text + 65, ']', 65);
        codec_json_reader_init(&reader, slice_of(text, 130));
        cr_expect_not(codec_json_skip(&reader));
        codec_json_reader_init(&reader, slice_of(text + 1, 128));
        cr_expect(codec_json_skip(&reader));
}

Test(codec_json_reader, skip_takes_the_value_behind_a_key_and_the_next_element)
{
        struct codec_json_reader reader;
        codec_json_reader_init(&reader, SLICE("{\"a\":[1,{\"x\":[]}],\"b\":[10,[2],30]}"));
        cr_assert_eq(codec_json_next(&reader), CODEC_JSON_OBJECT_BEGIN);
        cr_assert_eq(codec_json_next(&reader), CODEC_JSON_KEY);
        cr_assert(codec_json_skip(&reader));
        cr_assert_eq(codec_json_next(&reader), CODEC_JSON_KEY);
        cr_assert(slice_equal(reader.value, SLICE("b")));
        cr_assert_eq(codec_json_next(&reader), CODEC_JSON_ARRAY_BEGIN);
        cr_assert(codec_json_skip(&reader));
        cr_assert(codec_json_skip(&reader));
        cr_assert_eq(codec_json_next(&reader), CODEC_JSON_NUMBER);
        cr_assert(slice_equal(reader.value, SLICE("30")));
        cr_assert_eq(codec_json_next(&reader), CODEC_JSON_ARRAY_END);
        cr_assert_eq(codec_json_next(&reader), CODEC_JSON_OBJECT_END);
        cr_assert_eq(codec_json_next(&reader), CODEC_JSON_END);
}

/* ---------------------------------------------------------------------------------------------- base64 */

Test(codec_base64, pieces_of_any_size_make_what_openssl_makes)
{
        static uint8_t bytes[1000], text[1400], expected[1400], back[1000 + 64];
        struct random_state random;
        random_init(&random, 9);
        for (int round = 0; round < 4000; round++) {
                size_t len = random_below(&random, round % 2 == 0 ? 60 : sizeof(bytes));
                for (size_t i = 0; i < len; i++)
                        bytes[i] = (uint8_t)random_u64(&random);
                struct slice rest = guard_again(0, slice_of(bytes, len));
                struct codec_base64 state = {.waiting_count = 0};
                size_t written = 0;
                while (rest.len > 0) {
                        size_t piece = 1 + random_below(&random, rest.len);
                        written += codec_base64_append(&state, slice_head(rest, piece), text + written);
                        rest = slice_from(rest, piece);
                }
                written += codec_base64_finish(&state, text + written);
                int openssl_bytes = EVP_EncodeBlock(expected, bytes, (int)len);
                cr_assert(slice_equal(slice_of(text, written), slice_of(expected, (size_t)openssl_bytes)));
                cr_assert_eq(written, CODEC_BASE64_SIZE(len));
                struct slice guarded = guard_again(1, slice_of(text, written));
                cr_assert_eq(codec_base64_decode(guarded, back, len), len, "exact room is enough");
                cr_assert_eq(memcmp(back, bytes, len), 0);
                cr_assert_eq(codec_base64_decode(guarded, back, sizeof(back)), len);
                cr_assert_eq(memcmp(back, bytes, len), 0);
                if (len > 0)
                        cr_assert_eq(codec_base64_decode(guarded, back, len - 1), SIZE_MAX);
        }
}

Test(codec_base64, every_wrong_byte_is_found_wherever_it_stands)
{
        static uint8_t text[160], back[256];
        const char *alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for (size_t place = 0; place < sizeof(text); place++) {
                for (unsigned byte = 0; byte < 256; byte++) {
                        memset(text, 'A', sizeof(text));
                        text[place] = (uint8_t)byte;
                        bool good = byte != 0 && strchr(alphabet, (int)byte) != NULL;
                        /* Padding is good at the very end only. */
                        good |= byte == '=' && place == sizeof(text) - 1;
                        size_t bytes = codec_base64_decode(slice_of(text, sizeof(text)), back, sizeof(back));
                        cr_assert_eq(bytes != SIZE_MAX, good, "byte %u at %zu", byte, place);
                }
        }
        cr_assert_eq(codec_base64_decode(SLICE("QQ=="), back, 1), 1);
        cr_assert_eq(codec_base64_decode(SLICE("QR=="), back, 1), SIZE_MAX, "bits left over");
        cr_assert_eq(codec_base64_decode(SLICE("QQ=A"), back, 3), SIZE_MAX);
        cr_assert_eq(codec_base64_decode(SLICE("QQ="), back, 3), SIZE_MAX);
        cr_assert_eq(codec_base64_decode(SLICE("Q==="), back, 3), SIZE_MAX);
        cr_assert_eq(codec_base64_decode(SLICE("===="), back, 3), SIZE_MAX);
        cr_assert_eq(codec_base64_decode(SLICE(""), back, 0), 0);
}

/* ---------------------------------------------------------------------------------------------- numbers, times */

Test(codec_number, digits_are_what_printf_writes)
{
        struct random_state random;
        random_init(&random, 1);
        for (int round = 0; round < 100000; round++) {
                uint64_t value = round == 0 ? UINT64_MAX : random_u64(&random) >> random_below(&random, 64);
                if (round > 0 && round < 200)
                        value = (uint64_t)round - 1;
                char expected[32];
                uint8_t out[20];
                int len = snprintf(expected, sizeof(expected), "%" PRIu64, value);
                cr_assert(slice_equal(slice_of(out, codec_u64_write(value, out)), slice_of(expected, (size_t)len)));
        }
}

Test(codec_number, times_are_what_libc_writes_and_read_back)
{
        struct random_state random;
        random_init(&random, 2);
        for (int round = 0; round < 200000; round++) {
                int64_t span = INT64_C(253402300799999) + INT64_C(62167219200000);
                int64_t ms = (int64_t)random_below(&random, (uint64_t)span + 1) - INT64_C(62167219200000);
                if (round == 0)
                        ms = 0;
                if (round == 1)
                        ms = INT64_C(253402300799999);
                if (round == 2)
                        ms = -INT64_C(62167219200000);
                time_t seconds = (time_t)((ms - (ms % 1000 + 1000) % 1000) / 1000);
                struct tm tm;
                char expected[64];
                cr_assert_not_null(gmtime_r(&seconds, &tm));
                (void)snprintf(expected, sizeof(expected), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
                               tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                               (int)((ms % 1000 + 1000) % 1000));
                uint8_t out[24];
                cr_assert_eq(codec_time_write(ms, out), 24);
                cr_assert(slice_equal(slice_of(out, 24), slice_of_text(expected)), "%.24s but %s", (char *)out,
                          expected);
                int64_t back;
                cr_assert(codec_time_parse(slice_of(out, 24), &back));
                cr_assert_eq(back, ms);
        }
}

/* All days of two eras of 400 years, at both ends, against base/clock.h, which divides. */
Test(codec_number, every_day_is_written_as_itself)
{
        const int64_t day_ms = 86400000;
        for (int64_t day = -719528; day < -719528 + 2 * 146097; day++)
                for (int64_t ms = day * day_ms; ms <= (day + 1) * day_ms - 1; ms += day_ms - 1) {
                        struct clock_civil civil;
                        char expected[64];
                        uint8_t out[24];
                        clock_civil_from_ms(ms, &civil);
                        (void)snprintf(expected, sizeof(expected), "%04d-%02u-%02uT%s", (int)civil.year, civil.month,
                                       civil.day, ms == day * day_ms ? "00:00:00.000Z" : "23:59:59.999Z");
                        cr_assert_eq(codec_time_write(ms, out), sizeof(out));
                        cr_assert(slice_equal(slice_of(out, sizeof(out)), slice_of_text(expected)), "%.24s but %s",
                                  (char *)out, expected);
                }
}

Test(codec_number, times_are_read_in_the_forms_of_rfc_3339)
{
        static const struct {
                const char *text;
                bool good;
                int64_t ms;
        } cases[] = {
                {"1970-01-01T00:00:00Z", true, 0},
                {"1970-01-01 00:00:00.5Z", true, 500},
                {"1970-01-01T00:00:00.123456789Z", true, 123},
                {"1970-01-01T01:00:00+01:00", true, 0},
                {"1969-12-31T23:30:00.001-00:30", true, 1},
                {"2024-02-29T00:00:00Z", true, INT64_C(1709164800000)},
                {"2023-02-29T00:00:00Z", false, 0},
                {"1970-01-01T00:00:00", false, 0},
                {"1970-01-01", false, 0},
                {"1970-01-01T00:00:00.Z", false, 0},
                {"1970-01-01T00:00:00.1234567890Z", false, 0},
                {"1970-01-01T24:00:00Z", false, 0},
                {"1970-13-01T00:00:00Z", false, 0},
                {"1970-01-01T00:00:00Zx", false, 0},
                {"1970-01-01T00:00:00+0100", false, 0},
                {"", false, 0},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                int64_t ms = -1;
                cr_expect_eq(codec_time_parse(guard_page_copy(slice_of_text(cases[i].text)), &ms), cases[i].good, "%s",
                             cases[i].text);
                if (cases[i].good)
                        cr_expect_eq(ms, cases[i].ms, "%s", cases[i].text);
        }
}

Test(codec_number, hex_is_lower_case)
{
        char out[4];
        codec_hex_write(slice_of("\x0f\xa0", 2), out);
        cr_assert_eq(memcmp(out, "0fa0", 4), 0);
}

/* ---------------------------------------------------------------------------------------------- tags, ids, types */

Test(codec_tag, check_speaks_as_ses_does)
{
        static char long_text[256];
        struct err err;
        memset(long_text, 'x', sizeof(long_text));
        struct slice too_long = slice_of(long_text, 256), longest = slice_of(long_text, 255);
        cr_expect_eq(codec_tag_check(longest, longest, &err), ERR_OK);
        cr_expect_eq(codec_tag_check(too_long, SLICE("v"), &err), ERR_NAME);
        cr_expect_str_eq(err.text, "Tag name cannot exceed 255 characters.");
        cr_expect_eq(codec_tag_check(SLICE("n"), too_long, &err), ERR_NAME);
        cr_expect_str_eq(err.text, "Tag value cannot exceed 255 characters.");
        cr_expect_eq(codec_tag_check(SLICE_EMPTY, SLICE("v"), &err), ERR_NAME);
        cr_expect_str_eq(err.text, "The tag name must be specified.");
        cr_expect_eq(codec_tag_check(SLICE("n"), SLICE_EMPTY, &err), ERR_NAME);
        cr_expect_str_eq(err.text, "The tag value must be specified.");
        cr_expect_eq(codec_tag_check(SLICE("n@"), SLICE("v"), &err), ERR_NAME);
        cr_expect_str_eq(err.text, "Invalid tag name <n@>: only alphanumeric ASCII characters, '_',  '-' are allowed.");
        cr_expect_eq(codec_tag_check(SLICE("n"), SLICE("v w"), &err), ERR_NAME);
        cr_expect_str_eq(err.text, "Invalid tag value <v w>: only alphanumeric ASCII characters, '_',  '-' , '.', '@' "
                                   "are allowed.");
        cr_expect_eq(codec_tag_check(SLICE("ses:feedback-id-a"), SLICE("v@.-_"), &err), ERR_OK);
        cr_expect_eq(codec_tag_check(SLICE("ses:feedback-id-c"), SLICE("v"), &err), ERR_NAME);
        cr_expect_str_eq(err.text, "Invalid tag name <ses:feedback-id-c>: only alphanumeric ASCII characters, '_',  "
                                   "'-' are allowed.");
}

Test(codec_tag, headers_are_split_at_commas_and_the_first_equals)
{
        struct sendring_pair items[3];
        size_t count = 99;
        struct err err;
        cr_assert_eq(codec_message_tags_parse(guard_page_copy(SLICE(" campaign = book,genre=sci-fi , x=1")), items, 3,
                                              &count, &err),
                     ERR_OK);
        cr_assert_eq(count, 3);
        cr_assert(slice_equal(slice_of(items[0].name.ptr, items[0].name.len), SLICE("campaign")));
        cr_assert(slice_equal(slice_of(items[0].value.ptr, items[0].value.len), SLICE("book")));
        cr_assert(slice_equal(slice_of(items[1].value.ptr, items[1].value.len), SLICE("sci-fi")));
        cr_assert_eq(codec_message_tags_parse(SLICE(""), items, 3, &count, &err), ERR_OK);
        cr_assert_eq(count, 0);
        cr_assert_eq(codec_message_tags_parse(SLICE("a=b,"), items, 3, &count, &err), ERR_OK);
        cr_assert_eq(count, 1);
        cr_assert_eq(codec_message_tags_parse(SLICE("a=b,,c=d"), items, 3, &count, &err), ERR_NAME);
        cr_assert_eq(codec_message_tags_parse(SLICE("a"), items, 3, &count, &err), ERR_SYNTAX);
        cr_assert_eq(codec_message_tags_parse(SLICE("a=b=c"), items, 3, &count, &err), ERR_NAME);
        cr_assert_eq(codec_message_tags_parse(SLICE("a=1,b=2,c=3,d=4"), items, 3, &count, &err), ERR_RANGE);
        cr_assert_eq(codec_message_tags_parse(SLICE("a=1,=2"), items, 3, &count, &err), ERR_NAME);
        cr_assert_str_eq(err.text, "X-SES-MESSAGE-TAGS: tag 2: The tag name must be specified.");
}

Test(codec_tag, the_set_header_is_one_valid_name)
{
        static char long_name[65];
        struct slice name = SLICE_EMPTY;
        struct err err;
        memset(long_name, 's', sizeof(long_name));
        cr_assert_eq(codec_configuration_set_parse(guard_page_copy(SLICE(" bulk-a_1\t")), &name, &err), ERR_OK);
        cr_assert(slice_equal(name, SLICE("bulk-a_1")));
        cr_assert_eq(codec_configuration_set_parse(slice_of(long_name, 64), &name, &err), ERR_OK);
        cr_assert_eq(codec_configuration_set_parse(slice_of(long_name, 65), &name, &err), ERR_NAME);
        cr_assert_str_eq(err.text, "Configuration set name cannot exceed 64 characters.");
        cr_assert_eq(codec_configuration_set_parse(SLICE("a b"), &name, &err), ERR_NAME);
        cr_assert_str_eq(err.text, "Invalid configuration set name <a b>: only alphanumeric ASCII characters, '_', and "
                                   "'-' are allowed.");
        cr_assert_eq(codec_configuration_set_parse(SLICE("  "), &name, &err), ERR_NAME);
        cr_assert_eq(name.len, 64, "untouched by failures");
}

Test(codec_tag, link_tags_are_split_at_semicolons_and_the_first_colon)
{
        struct sendring_pair items[2];
        size_t count = 99;
        struct err err;
        cr_assert_eq(
                codec_link_tags_parse(guard_page_copy(SLICE("product:book;genre:fiction;")), items, 2, &count, &err),
                ERR_OK);
        cr_assert_eq(count, 2);
        cr_assert(slice_equal(slice_of(items[0].name.ptr, items[0].name.len), SLICE("product")));
        cr_assert(slice_equal(slice_of(items[1].value.ptr, items[1].value.len), SLICE("fiction")));
        cr_assert_eq(codec_link_tags_parse(SLICE(" a : b "), items, 2, &count, &err), ERR_OK);
        cr_assert_eq(count, 1);
        cr_assert_eq(codec_link_tags_parse(SLICE(""), items, 2, &count, &err), ERR_OK);
        cr_assert_eq(count, 0);
        cr_assert_eq(codec_link_tags_parse(SLICE("a"), items, 2, &count, &err), ERR_SYNTAX);
        cr_assert_eq(codec_link_tags_parse(SLICE("a:b;;"), items, 2, &count, &err), ERR_SYNTAX);
        cr_assert_eq(codec_link_tags_parse(SLICE("a:b.c"), items, 2, &count, &err), ERR_NAME);
        cr_assert_str_eq(err.text,
                         "ses:tags: tag 1: Invalid tag value <b.c>: only alphanumeric ASCII characters, '_',  "
                         "'-' are allowed.");
        cr_assert_eq(codec_link_tags_parse(SLICE("a:b:c"), items, 2, &count, &err), ERR_NAME);
        cr_assert_eq(codec_link_tags_parse(SLICE("a:1;:2"), items, 2, &count, &err), ERR_NAME);
        cr_assert_str_eq(err.text, "ses:tags: tag 2: The tag name must be specified.");
        cr_assert_eq(codec_link_tags_parse(SLICE("a:1;b:2;c:3"), items, 2, &count, &err), ERR_RANGE);
}

Test(codec_tag, the_feedback_id_ends_with_the_sender)
{
        static char longest[129];
        struct sendring_pair tags[] = {{SENDRING_STR("campaign"), SENDRING_STR("april")},
                                       {SENDRING_STR("ses:feedback-id-b"), SENDRING_STR("football")},
                                       {SENDRING_STR("ses:feedback-id-a"), SENDRING_STR("new.members")}};
        char out[SENDRING_FEEDBACK_ID_BYTES];
        size_t bytes = 0;
        struct err err;
        memset(longest, 'i', sizeof(longest));
        cr_assert_eq(codec_feedback_id_write((struct sendring_pairs){tags, 3}, SLICE("1.eu-west-1.AbC+/="),
                                             SLICE("ExampleMail"), out, sizeof(out), &bytes, &err),
                     ERR_OK);
        cr_assert_str_eq(out, "new.members:football:1.eu-west-1.AbC+/=:ExampleMail");
        cr_assert_eq(bytes, strlen(out));
        struct sendring_pairs none = {tags, 1};
        cr_assert_eq(codec_feedback_id_write(none, SLICE_EMPTY, SLICE("s"), out, 5, &bytes, &err), ERR_OK);
        cr_assert_str_eq(out, ":::s");
        cr_assert_eq(codec_feedback_id_write(none, SLICE_EMPTY, SLICE("s"), out, 4, &bytes, &err), ERR_TOO_BIG);
        cr_assert_eq(codec_feedback_id_write(none, SLICE_EMPTY, SLICE_EMPTY, out, 99, &bytes, &err), ERR_NAME);
        static const struct slice bad[] = {{(const uint8_t *)"a:b", 3},
                                           {(const uint8_t *)"a b", 3},
                                           {(const uint8_t *)"a\r\nB", 4},
                                           {(const uint8_t *)longest, 129}};
        for (size_t i = 0; i < 4; i++) {
                cr_expect_eq(codec_feedback_id_write(none, bad[i], SLICE("s"), out, 600, &bytes, &err), ERR_NAME);
                cr_expect_eq(codec_feedback_id_write(none, SLICE("i"), bad[i], out, 600, &bytes, &err), ERR_NAME);
        }
        cr_assert_eq(codec_feedback_id_write(none, slice_of(longest, 128), SLICE("s"), out, sizeof(out), &bytes, &err),
                     ERR_OK);
        tags[1].value = SENDRING_STR("no spaces");
        cr_assert_eq(codec_feedback_id_write((struct sendring_pairs){tags, 3}, SLICE_EMPTY, SLICE("s"), out,
                                             sizeof(out), &bytes, &err),
                     ERR_NAME);
}

Test(codec_tag, message_ids_have_the_shape_of_ses)
{
        char id[61];
        codec_message_id_write(INT64_C(0x19b7ca98f2e), UINT64_C(0x4a1f0c527d1eff0b), UINT64_C(0x1c552f6f0e3b7a10), id);
        cr_assert_str_eq(id, "0100019b7ca98f2e-4a1f0c52-7d1e-4f0b-9c55-2f6f0e3b7a10-000000");
}

Test(codec_tag, event_types_are_known_by_their_spellings)
{
        static const char *const spellings[10][5] = {
                /* record, SESv2, v1 and CloudFormation, CloudWatch, EventBridge */
                {"Send", "SEND", "send", "Send", "Email Sent"},
                {"Rendering Failure", "RENDERING_FAILURE", "renderingFailure", "RenderingFailure",
                 "Email Rendering Failed"},
                {"Reject", "REJECT", "reject", "Reject", "Email Rejected"},
                {"Delivery", "DELIVERY", "delivery", "Delivery", "Email Delivered"},
                {"Bounce", "BOUNCE", "bounce", "Bounce", "Email Bounced"},
                {"Complaint", "COMPLAINT", "complaint", "Complaint", "Email Complaint Received"},
                {"DeliveryDelay", "DELIVERY_DELAY", "deliveryDelay", "DeliveryDelay", "Email Delivery Delayed"},
                {"Subscription", "SUBSCRIPTION", "subscription", "Subscription", "Email Subscribed"},
                {"Open", "OPEN", "open", "Open", "Email Opened"},
                {"Click", "CLICK", "click", "Click", "Email Clicked"},
        };
        for (unsigned number = 0; number <= 11; number++) {
                enum sendring_event_type type = (enum sendring_event_type)number;
                const char *name = codec_event_type_name(type);
                cr_assert_eq(name == NULL, number == 0 || number == 11);
                if (name == NULL)
                        continue;
                cr_assert_eq(codec_event_type_parse(slice_of_text(name)), type);
                cr_assert_eq(codec_event_type_parse(slice_of_text(codec_event_type_sesv2(type))), type);
                cr_assert_eq(codec_event_type_parse(slice_of_text(codec_event_type_v1(type))), type);
                for (size_t i = 0; i < 5; i++)
                        cr_expect_str_eq(i == 0   ? name
                                         : i == 1 ? codec_event_type_sesv2(type)
                                         : i == 2 ? codec_event_type_v1(type)
                                         : i == 3 ? codec_event_type_metric(type)
                                                  : codec_event_type_detail(type),
                                         spellings[number - 1][i]);
        }
        cr_assert_eq(codec_event_type_parse(SLICE("renderingFailure")), SENDRING_RENDERING_FAILURE);
        cr_assert_eq(codec_event_type_parse(SLICE("")), 0);
        cr_assert_eq(codec_event_type_parse(SLICE("Sent")), 0);
}
