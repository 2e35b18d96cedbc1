/* What an event may become: the largest that lanes take, in every form that grows in JSON, fits a Firehose record of
 * its own; and the largest that SES could publish fits a lane (docs/adr/0058). */
#include "base/assert.h"
#include "base/limits.h"
#include "codecs/codec.h"
#include "codecs/codec_internal.h"
#include "codecs/redact.h"
#include "egress/firehose.h"
#include "tests/support/codec_events.h"

#include <criterion/criterion.h>
#include <stdio.h>

TestSuite(event_growth, .timeout = 60);

/* ---------------------------------------------------------------------------------------------- msgpack by hand
 *
 * As no library of ours writes it: the shortest heads, so that JSON grows most. */
static uint8_t event[LIMIT_EVENT_BYTES_MAX];
static size_t used;

static void put(const char *bytes, size_t len)
{
        ASSERT(len <= sizeof(event) - used);
        memcpy(event + used, bytes, len);
        used += len;
}
#define PUT(literal) put("" literal, sizeof(literal) - 1)

static void put_list(uint32_t count)
{
        const char head[3] = {(char)0xdc, (char)(count >> 8), (char)count};
        put(head, sizeof(head));
}

static void put_times(uint32_t count, const char *bytes, size_t len)
{
        while (count-- > 0)
                put(bytes, len);
}
#define PUT_TIMES(count, literal) put_times((count), "" literal, sizeof(literal) - 1)

/* A text of `len` control bytes, behind one character that is none. */
static void put_controls(char first, uint32_t len)
{
        const char head[4] = {(char)0xda, (char)(len >> 8), (char)len, first};
        put(head, sizeof(head));
        PUT_TIMES(len - 1, "\x01");
}

#define ITEMS LIMIT_LIST_ITEMS_MAX

/* ---------------------------------------------------------------------------------------------- structures */

/* The id is published twice, and the domain three times. */
static void put_mail_ids(void)
{
        PUT("\x01\x00\x02");
        put_controls('@', 1 + CODEC_DOMAIN_BYTES_MAX);
        PUT("\x05");
        put_controls('i', CODEC_MESSAGE_ID_BYTES_MAX);
        PUT("\x06\x91\xa0");
}

static void mail_small(void)
{
        PUT("\x84\x01\x00\x02\xa0\x05\xa1i\x06\x91\xa0");
}

static void mail_ids(void)
{
        PUT("\x84");
        put_mail_ids();
}

static void mail_headers(void)
{
        PUT("\x85");
        put_mail_ids();
        PUT("\x08");
        put_list(2 * ITEMS);
        PUT_TIMES(2 * ITEMS, "\xa0");
}

static void mail_lists(void)
{
        PUT("\x85\x01\x00\x02\xa0\x05\xa1i\x06");
        put_list(ITEMS);
        PUT_TIMES(ITEMS, "\xa0");
        PUT("\x09\x85");
        static const char keys[] = {CODEC_COMMON_FROM, CODEC_COMMON_REPLY_TO, CODEC_COMMON_TO, CODEC_COMMON_CC,
                                    CODEC_COMMON_BCC};
        for (size_t i = 0; i < sizeof(keys); i++) {
                put(keys + i, 1);
                put_list(ITEMS);
                PUT_TIMES(ITEMS, "\xa0");
        }
}

static void put_tags(void)
{
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
        put_list(2 * ITEMS);
        for (uint32_t i = 0; i < ITEMS; i++) {
                const char pair[5] = {(char)0xa2, letters[i % 64], letters[i / 64], (char)0xa1, 'v'};
                put(pair, sizeof(pair));
        }
}

static void object_none(void)
{
        PUT("\x80");
}

static void object_bounce(void)
{
        PUT("\x85\x01\xa1\x01\x02\xa1\x01\x03\xa1\x01\x04");
        put_list(ITEMS);
        PUT_TIMES(ITEMS, "\x84\x01\xa1\x01\x02\xa0\x03\xa0\x04\xa0");
        PUT("\x05\x00");
}

static void object_delay(void)
{
        PUT("\x83\x01\x00\x02\xa1\x01\x05");
        put_list(ITEMS);
        PUT_TIMES(ITEMS, "\x81\x01\xa1\x01");
}

static void object_complaint(void)
{
        PUT("\x83\x01\xa1\x01\x03");
        put_list(ITEMS);
        PUT_TIMES(ITEMS, "\xa0");
        PUT("\x04\x00");
}

static void object_subscription(void)
{
        PUT("\x83\x02\x00\x04\x82\x01\xc2\x02");
        put_list(2 * (ITEMS - 1));
        PUT_TIMES(2 * (ITEMS - 1), "\xa1\x01");
        PUT("\x05\x83\x01\xc2\x02\x90\x03\x92\xa1\x01\xa1\x01");
}

static void object_delivery(void)
{
        PUT("\x82\x01\x00\x03");
        put_list(ITEMS);
        PUT_TIMES(ITEMS, "\xa0");
}

static void object_click(void)
{
        PUT("\x83\x01\x00\x04\xa1\x01\x05");
        put_tags();
}

static const struct structure {
        const char *name;
        enum sendring_event_type type;
        void (*mail)(void);
        void (*object)(void);
        bool tags;
} structures[] = {
        {"the smallest", SENDRING_SEND, mail_small, object_none, false},
        {"texts that are published again", SENDRING_SEND, mail_ids, object_none, false},
        {"headers", SENDRING_SEND, mail_headers, object_none, false},
        {"addresses", SENDRING_SEND, mail_lists, object_none, false},
        {"tags", SENDRING_SEND, mail_ids, object_none, true},
        {"bounced recipients", SENDRING_BOUNCE, mail_headers, object_bounce, false},
        {"delayed recipients", SENDRING_DELIVERY_DELAY, mail_headers, object_delay, false},
        {"complained recipients", SENDRING_COMPLAINT, mail_headers, object_complaint, false},
        {"topics", SENDRING_SUBSCRIPTION, mail_headers, object_subscription, false},
        {"recipients", SENDRING_DELIVERY, mail_headers, object_delivery, false},
        {"tags of a link", SENDRING_CLICK, mail_headers, object_click, true},
};
#define STRUCTURES (sizeof(structures) / sizeof(structures[0]))

/* ---------------------------------------------------------------------------------------------- what fills the rest */

/* An unknown member, the last of the event: a text of `piece` again and again, or a list of it. */
static const struct filling {
        const char *name;
        uint8_t head; /* of the text or list, 32 bits wide */
        uint8_t bytes;
        char piece[10];
} fillings[] = {
        {"control bytes", 0xdb, 1, "\x01"},
        {"bytes that are no UTF-8", 0xdb, 1, "\xff"},
        {"quotes", 0xdb, 1, "\""},
        {"short addresses", 0xdb, 3, "a@ "},
        {"addresses and control bytes", 0xdb, 4, "a@\x01 "},
        {"nil", 0xdd, 1, "\xc0"},
        {"false", 0xdd, 1, "\xc2"},
        {"negative numbers", 0xdd, 1, "\xe0"},
        {"lists of nothing", 0xdd, 1, "\x90"},
        {"maps of nothing", 0xdd, 1, "\x80"},
        {"texts of nothing", 0xdd, 1, "\xa0"},
        {"texts of a control byte", 0xdd, 2, "\xa1\x01"},
        {"maps in lists", 0xdd, 4, "\x91\x91\x91\x80"},
        {"small floats", 0xdd, 5, "\xca\x80\x80\x00\x00"},
        {"small doubles", 0xdd, 9, "\xcb\x80\x10\x00\x00\x00\x00\x00\x00"},
};
#define FILLINGS (sizeof(fillings) / sizeof(fillings[0]))

static void build(const struct structure *structure, const struct filling *filling)
{
        used = 0;
        const char head[6] = {(char)(structure->tags ? 0x86 : 0x85), 0, 1, 1, (char)structure->type, '\0'};
        put(head, 5);
        if (structure->tags) {
                PUT("\x03");
                put_tags();
        }
        PUT("\x05");
        structure->mail();
        PUT("\x06");
        structure->object();
        PUT("\xa0");
        size_t count = (sizeof(event) - used - 5) / filling->bytes;
        const size_t of_text = filling->head == 0xdb ? filling->bytes : 1, number = count * of_text;
        const char list[5] = {(char)filling->head, (char)(number >> 24), (char)(number >> 16), (char)(number >> 8),
                              (char)number};
        put(list, sizeof(list));
        put_times((uint32_t)count, filling->piece, filling->bytes);
        cr_assert_gt(used, sizeof(event) - 10);
}

/* ---------------------------------------------------------------------------------------------- tests */

static const struct firehose_limits limits = {LIMIT_FIREHOSE_RECORD_BYTES_MAX, LIMIT_FIREHOSE_EVENTS_PER_RECORD_MAX,
                                              LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX, UINT64_MAX};
static uint8_t body_bytes[LIMIT_FIREHOSE_CALL_BYTES_MAX + FIREHOSE_BODY_SLACK_BYTES];
static struct firehose_body body;
static uint8_t json[2 * LIMIT_EVENT_JSON_BYTES_MAX];

static size_t encode(const char *what, const struct codec_json_options *options)
{
        struct codec_view view;
        struct err err = {.text = ""};
        cr_assert_eq(codec_view_decode(slice_of(event, used), &view, &err), ERR_OK, "%s: %s", what, err.text);
        size_t bytes = codec_json_encode(&view, options, json, sizeof(json));
        cr_assert(bytes > 0 && bytes <= codec_json_size_max(&view, options), "%s: %zu bytes of JSON", what, bytes);
        bytes = codec_json_add_event_id(json, bytes, sizeof(json), UINT64_MAX, UINT64_MAX, UINT64_MAX);
        cr_assert(bytes > 0 && bytes <= LIMIT_EVENT_JSON_BYTES_MAX, "%s: %zu bytes of JSON", what, bytes);
        return bytes;
}

static void expect_record(const char *what, size_t bytes, struct gzip_writer *gzip)
{
        firehose_body_begin(&body, body_bytes, LIMIT_FIREHOSE_CALL_BYTES_MAX, SLICE("stream"), gzip);
        cr_expect_eq(firehose_body_append(&body, &limits, slice_of(json, bytes)), ERR_OK, "%s: %zu bytes of JSON%s",
                     what, bytes, gzip == NULL ? "" : ", compressed");
}

/* Of all structures and fillings. What settings add is as long as it can be. */
static size_t largest_of(enum codec_redact_addresses addresses)
{
        static char name[LIMIT_NAME_BYTES_MAX + 1], what[200];
        struct codec_redaction policy;
        struct gzip_writer *gzip = NULL;
        size_t largest = 0;
        memset(name, 's', sizeof(name) - 1);
        codec_redaction_init(&policy);
        policy.addresses = addresses;
        cr_assert_eq(codec_redaction_set_key(&policy, SLICE("0123456789abcdef"), NULL), ERR_OK);
        cr_assert_eq(gzip_writer_create(&gzip, NULL), ERR_OK);
        const struct codec_json_options options = {.account_id = SLICE("123456789012"),
                                                   .region = slice_of_text(name),
                                                   .partition = slice_of_text(name),
                                                   .configuration_set = slice_of_text(name),
                                                   .redaction = addresses == CODEC_ADDRESSES_KEEP ? NULL : &policy,
                                                   .event_id = true};
        for (size_t i = 0; i < STRUCTURES; i++)
                for (size_t k = 0; k < FILLINGS; k++) {
                        (void)snprintf(what, sizeof(what), "%s, and %s", structures[i].name, fillings[k].name);
                        build(&structures[i], &fillings[k]);
                        size_t bytes = encode(what, &options);
                        expect_record(what, bytes, NULL);
                        expect_record(what, bytes, gzip);
                        largest = bytes > largest ? bytes : largest;
                }
        gzip_writer_free(gzip);
        return largest;
}

/* The bound is near: with half as much again, some would fit no record. */
Test(event_growth, whatever_grows_in_json_fits_a_record)
{
        size_t largest = largest_of(CODEC_ADDRESSES_KEEP);
        cr_expect_gt(largest, 6 * LIMIT_EVENT_BYTES_MAX, "%zu", largest);
        cr_expect_gt(3 * largest, 2 * LIMIT_FIREHOSE_RECORD_BYTES_MAX, "%zu", largest);
}

Test(event_growth, redaction_makes_it_no_larger_than_a_record)
{
        (void)largest_of(CODEC_ADDRESSES_MASK);
        (void)largest_of(CODEC_ADDRESSES_HMAC);
}

/* Recipients, addresses, headers and tags as many and as long as SES takes them, each recipient with the longest line
 * that a mail server may answer (RFC 5321, 4.5.3.1.5). */
Test(event_growth, the_largest_event_of_ses_fits_a_lane)
{
        enum { RECIPIENTS = 50, TAGS = 50, ADDRESS = 320, REPLY = 512, TAG = LIMIT_TAG_READ_BYTES_MAX, HEADER = 64 };
        static char text[LIMIT_HEADERS_BYTES_MAX];
        static struct sendring_str addresses[RECIPIENTS];
        static struct sendring_recipient bounced[RECIPIENTS];
        static struct sendring_pair tags[TAGS], headers[LIMIT_HEADERS_BYTES_MAX / HEADER];
        struct sendring_event given;
        struct codec_view view;
        struct err err = {.text = ""};
        memset(text, 'a', sizeof(text));
        codec_events_fill(&given, SENDRING_BOUNCE);
        for (size_t i = 0; i < RECIPIENTS; i++) {
                addresses[i] = sendring_strn(text, ADDRESS);
                bounced[i] = (struct sendring_recipient){addresses[i], SENDRING_STR("delivered"),
                                                         SENDRING_STR("5.999.999"), sendring_strn(text, REPLY)};
        }
        for (size_t i = 0; i < TAGS; i++)
                tags[i] = (struct sendring_pair){sendring_strn(text, TAG), sendring_strn(text, TAG)};
        for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
                headers[i] = (struct sendring_pair){sendring_strn(text, 8), sendring_strn(text, HEADER - 8 - 4)};
        given.mail.source = addresses[0];
        given.mail.source_arn = sendring_strn(text, 1011); /* of AWS's resource names the longest */
        given.mail.destination = (struct sendring_strs){addresses, RECIPIENTS};
        given.mail.tags = (struct sendring_pairs){tags, TAGS};
        given.mail.headers = (struct sendring_pairs){headers, sizeof(headers) / sizeof(headers[0])};
        given.mail.common_headers.to = given.mail.destination;
        given.mail.common_headers.from = given.mail.common_headers.reply_to = (struct sendring_strs){addresses, 1};
        given.mail.common_headers.subject = sendring_strn(text, 998); /* a line of RFC 5322 */
        given.bounce.bounced_recipients = (struct sendring_recipients){bounced, RECIPIENTS};
        cr_assert_eq(codec_event_encode_read(&given, event, sizeof(event), &used, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(codec_view_decode(slice_of(event, used), &view, &err), ERR_OK, "%s", err.text);
        cr_expect_lt(used, sizeof(event) - 12 * 1024, "%zu bytes, and some room for names beside the addresses", used);
}
