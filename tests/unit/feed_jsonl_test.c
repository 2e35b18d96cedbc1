/* SES's JSON lines as events: there and back again is the same text. The golden files are what SES publishes. */
#include "base/arena.h"
#include "base/file.h"
#include "codecs/codec.h"
#include "feeds/jsonl.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct arena arena;

static void begin(void)
{
        arena_init(&arena, (size_t)1 << 20, 0);
}

static void end(void)
{
        arena_release(&arena);
}

TestSuite(feed_jsonl, .init = begin, .fini = end, .timeout = 30);

static const char *publish(struct slice event)
{
        struct codec_view view;
        struct codec_json_options options = {.region = SLICE_EMPTY};
        struct err err;
        cr_assert_eq(codec_view_decode(event, &view, &err), ERR_OK, "%s", err.text);
        size_t room = codec_json_size_max(&view, &options) + 1;
        uint8_t *out = arena_alloc(&arena, room);
        size_t bytes = codec_json_encode(&view, &options, out, room);
        cr_assert_gt(bytes, 0);
        cr_assert_lt(bytes, room);
        out[bytes] = '\0';
        return (const char *)out;
}

static const char *there_and_back(const char *line, struct jsonl_event *ret_event)
{
        struct err err = {.text = ""};
        cr_assert_eq(jsonl_parse(guard_page_copy(slice_of_text(line)), &arena, ret_event, &err), ERR_OK, "%s: %s",
                     err.text, line);
        return publish(ret_event->encoded);
}

Test(feed_jsonl, all_ten_types_come_back_byte_for_byte)
{
        static const char *const names[] = {"bounce", "click",  "complaint",         "delivery-delay", "delivery",
                                            "open",   "reject", "rendering-failure", "send",           "subscription"};
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                char path[512];
                struct slice text;
                struct jsonl_event event;
                (void)snprintf(path, sizeof(path), TEST_DATA_DIRECTORY "/events/%s.json", names[i]);
                cr_assert_eq(file_read(&arena, path, 1 << 20, &text, NULL), ERR_OK);
                text = slice_trim(text);
                cr_assert_str_eq(there_and_back((const char *)arena_copy(&arena, text).ptr, &event),
                                 (const char *)arena_copy(&arena, text).ptr);
                cr_assert_eq(event.members_dropped, 0, "%s", names[i]);
        }
}

/* AWS adds words to its enumerations without notice: what nobody has seen yet passes from JSON to the wire and back. */
Test(feed_jsonl, unknown_words_of_enumerations_pass_unchanged)
{
        static const struct {
                const char *file, *member, *word; /* the word of the golden file, which gives way */
        } rows[] = {
                {"bounce", "bounceType", "\"Permanent\""},
                {"bounce", "bounceSubType", "\"General\""},
                {"bounce", "action", "\"failed\""},
                {"complaint", "complaintFeedbackType", "\"abuse\""},
                {"complaint", "complaintSubType", "null"},
                {"delivery-delay", "delayType", "\"TransientCommunicationFailure\""},
                {"open", "isBotEvent", "\"Unlikely\""},
                {"click", "isBotEvent", "\"Unlikely\""},
                {"reject", "reason", "\"Bad content\""},
                {"subscription", "source", "\"UnsubscribeHeader\""},
                {"subscription", "subscriptionStatus", "\"OptOut\""},
        };
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                char path[512], member[128], line[8192];
                struct slice text;
                struct jsonl_event event;
                (void)snprintf(path, sizeof(path), TEST_DATA_DIRECTORY "/events/%s.json", rows[i].file);
                cr_assert_eq(file_read(&arena, path, 1 << 20, &text, NULL), ERR_OK);
                text = slice_trim(text);
                (void)snprintf(member, sizeof(member), "\"%s\":%s", rows[i].member, rows[i].word);
                size_t at = slice_find(text, slice_of_text(member)), behind = at + strlen(member);
                cr_assert_lt(at, text.len, "%s is in %s", member, path);
                (void)snprintf(line, sizeof(line), "%.*s\"%s\":\"NotSeenYet 2031/x-\xc3\xa9\"%.*s", (int)at,
                               (const char *)text.ptr, rows[i].member, (int)(text.len - behind),
                               (const char *)text.ptr + behind);
                cr_expect_str_eq(there_and_back(line, &event), line);
                cr_expect_eq(event.members_dropped, 0);
        }
}

#define MAIL                                                                                                    \
        "\"mail\":{\"timestamp\":\"2026-01-02T03:04:05.678Z\",\"source\":\"a@b.example\",\"messageId\":\"m1\"," \
        "\"destination\":[\"c@d.example\"],\"headersTruncated\":false"

/* One more than may be set: SES's documentation says 256, its API 255. */
Test(feed_jsonl, tags_of_256_bytes_are_read)
{
        char line[1200], part[258];
        struct jsonl_event event;
        struct err err;
        memset(part, 'x', 256);
        for (int i = 0; i < 4; i++) {
                part[256] = i < 2 ? '\0' : 'x';
                part[257] = '\0';
                (void)snprintf(line, sizeof(line),
                               "{\"eventType\":\"Send\"," MAIL ",\"tags\":{\"%s\":[\"%s\"]}},\"send\":{}}",
                               i % 2 == 0 ? part : "n", i % 2 == 0 ? "v" : part);
                enum err_code code = jsonl_parse(slice_of_text(line), &arena, &event, &err);
                cr_assert_eq(code, i < 2 ? ERR_OK : ERR_NAME);
                if (i < 2)
                        cr_expect_not_null(strstr(publish(event.encoded), part));
                else
                        cr_expect_not_null(strstr(err.text, "cannot exceed 256 characters."), "%s", err.text);
        }
}

Test(feed_jsonl, older_notifications_are_read_too)
{
        struct jsonl_event event;
        const char *text =
                there_and_back("{\"notificationType\":\"Delivery\"," MAIL
                               ",\"sourceIp\":\"192.0.2.1\",\"callerIdentity\":\"me\"},\"delivery\":{\"timestamp\":"
                               "\"2026-01-02T03:04:06.000Z\",\"recipients\":[\"c@d.example\"]}}",
                               &event);
        cr_assert_eq(event.type, SENDRING_DELIVERY);
        cr_assert_not_null(strstr(text, "{\"eventType\":\"Delivery\""));
        cr_assert_not_null(strstr(text, "\"ses:source-ip\":[\"192.0.2.1\"]"));
        cr_assert_not_null(strstr(text, "\"ses:caller-identity\":[\"me\"]"));
        cr_assert_eq(event.members_dropped, 0);
}

Test(feed_jsonl, unknown_members_are_kept_where_there_is_a_place)
{
        struct jsonl_event event;
        const char *text = there_and_back("{\"eventType\":\"Send\",\"x\":{\"a\":[1,-2,2.5,true,null,\"t\"]}," MAIL
                                          ",\"y\":\"z\",\"tags\":{\"k\":[\"v\",\"w\"],\"ses:recipient-isp\":[\"i\"],"
                                          "\"ses:feedback-id-a\":\"f\"}},\"send\":{\"q\":1},\"v\":123456789012}",
                                          &event);
        cr_assert_eq(event.members_kept, 3);
        cr_assert_eq(event.members_dropped, 2, "send.q and ses:recipient-isp, %u", event.members_dropped);
        cr_assert_not_null(strstr(text, "\"x\":{\"a\":[1,-2,2.5,true,null,\"t\"]},\"v\":123456789012}"), "%s", text);
        cr_assert_not_null(strstr(text, "\"y\":\"z\""), "%s", text);
        cr_assert_not_null(strstr(text, "\"k\":[\"v\",\"w\"]"), "%s", text);
        cr_assert_not_null(strstr(text, "\"ses:feedback-id-a\":[\"f\"]"), "%s", text);
}

Test(feed_jsonl, what_is_dropped_is_named)
{
        static const char *const rows[][2] = {
                {"{\"eventType\":\"Complaint\"," MAIL ",\"tags\":{\"ses:source-ip\":[\"a\",\"b\"],\"ses:new\":[\"c\"]},"
                 "\"commonHeaders\":{\"new\":1},\"headers\":[{\"name\":\"n\",\"value\":\"v\",\"new\":1}]},"
                 "\"complaint\":{\"feedbackId\":\"f\","
                 "\"timestamp\":\"2026-01-02T03:04:05.678Z\",\"new\":{},\"complainedRecipients\":[{\"emailAddress\":"
                 "\"a\","
                 "\"new\":[]}]}}",
                 "mail.tags.ses:source-ip mail.tags.ses:new mail.commonHeaders.new mail.headers.new complaint.new "
                 "complaint.complainedRecipients.new "},
                {"{\"eventType\":\"Send\"," MAIL "},\"send\":{\"a\":1}}", "send.a "},
                {"{\"eventType\":\"Send\"," MAIL "},\"send\":{}}", ""},
        };
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct jsonl_event event;
                char names[512] = "";
                (void)there_and_back(rows[i][0], &event);
                for (uint32_t k = 0; k < event.members_dropped; k++) {
                        (void)strncat(names, (const char *)event.dropped[k].ptr, event.dropped[k].len);
                        (void)strncat(names, " ", 2);
                }
                cr_expect_str_eq(names, rows[i][1]);
        }
}

/* More than are named are counted. */
Test(feed_jsonl, many_dropped_members_are_counted)
{
        struct jsonl_event event;
        char line[4096];
        int used = snprintf(line, sizeof(line), "{\"eventType\":\"Send\"," MAIL "},\"send\":{");
        for (uint32_t i = 0; i < JSONL_DROPPED_MAX + 2; i++)
                used += snprintf(line + used, sizeof(line) - (size_t)used, "%s\"m%u\":1", i == 0 ? "" : ",", i);
        (void)snprintf(line + used, sizeof(line) - (size_t)used, "}}");
        (void)there_and_back(line, &event);
        cr_expect_eq(event.members_dropped, JSONL_DROPPED_MAX + 2);
        cr_expect(slice_equal(event.dropped[JSONL_DROPPED_MAX - 1], SLICE("send.m31")));
}

Test(feed_jsonl, unknown_members_that_the_format_refuses_are_dropped_and_the_event_is_not)
{
        struct jsonl_event event;
        char line[4096], deep[128];
        memset(deep, '[', 40);
        memset(deep + 40, ']', 40);
        deep[80] = '\0';
        (void)snprintf(line, sizeof(line), "{\"eventType\":\"Send\"," MAIL "},\"send\":{},\"x\":%s}", deep);
        (void)there_and_back(line, &event);
        cr_assert_eq(event.members_dropped, 1);
        (void)there_and_back("{\"eventType\":\"Send\"," MAIL "},\"send\":{},\"bounce\":{}}", &event);
        cr_assert_eq(event.members_kept + event.members_dropped, 1);
}

Test(feed_jsonl, one_unknown_member_that_is_refused_takes_no_other_with_it)
{
        struct jsonl_event event;
        char line[8192], deep[128], names[256] = "";
        memset(deep, '[', 40);
        memset(deep + 40, ']', 40);
        deep[80] = '\0';
        (void)snprintf(line, sizeof(line),
                       "{\"eventType\":\"Send\"," MAIL
                       ",\"m1\":1,\"m2\":%s,\"m3\":3},\"send\":{},\"tenant\":\"t1\",\"delivery\":{},"
                       "\"x\":%s,\"last\":true}",
                       deep, deep);
        const char *text = there_and_back(line, &event);
        cr_expect_eq(event.members_kept, 4);
        cr_assert_eq(event.members_dropped, 3);
        for (uint32_t i = 0; i < event.members_dropped; i++) {
                (void)strncat(names, (const char *)event.dropped[i].ptr, event.dropped[i].len);
                (void)strncat(names, " ", 2);
        }
        cr_expect_str_eq(names, "mail.m2 delivery x ");
        cr_expect_not_null(strstr(text, "\"m1\":1,\"m3\":3}"), "%s", text);
        cr_expect_not_null(strstr(text, "\"tenant\":\"t1\",\"last\":true}"), "%s", text);
}

/* What sendring itself may have published: others' records hold numbers of 64 bits without a sign. */
Test(feed_jsonl, a_number_above_63_bits_is_a_real_and_costs_nothing_else)
{
        static const char *const numbers[][2] = {
                {"9223372036854775807", "9223372036854775807"},
                {"9223372036854775808", "9.223372036854775808e18"},
                {"18446744073709551615", "1.8446744073709552e19"},
                {"-9223372036854775809", "-9.223372036854775808e18"},
                {"123456789012345678901234567890", "1.2345678901234568e29"},
        };
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
                struct jsonl_event event;
                char line[1024];
                (void)snprintf(line, sizeof(line),
                               "{\"eventType\":\"Send\"," MAIL
                               "},\"send\":{},\"a\":\"\\\"%s\\\\\",\"b\":[%s,-5],\"c\":%s,\"d\":1.5e3}",
                               numbers[i][0], numbers[i][0], numbers[i][0]);
                const char *text = there_and_back(line, &event);
                char text_in_quotes[128];
                (void)snprintf(text_in_quotes, sizeof(text_in_quotes), "\"a\":\"\\\"%s\\\\\",\"b\":[", numbers[i][0]);
                cr_expect_eq(event.members_kept, 4);
                const char *found = strstr(text, text_in_quotes);
                cr_assert_not_null(found, "%s", text);
                cr_expect_eq(strtod(found + strlen(text_in_quotes), NULL), strtod(numbers[i][1], NULL), "%s", text);
                cr_expect_not_null(strstr(found, ",-5],\"c\":"), "%s", text);
        }
        struct jsonl_event event;
        struct err err;
        cr_assert_eq(jsonl_parse(SLICE("{\"eventType\":\"Send\"," MAIL "},\"x\":1e400}"), &arena, &event, &err),
                     ERR_SYNTAX);
        cr_assert_eq(jsonl_parse(SLICE("{\"eventType\":\"Send\"," MAIL "},\"x\":18446744073709551615"), &arena, &event,
                                 &err),
                     ERR_SYNTAX);
}

Test(feed_jsonl, a_bad_line_is_named_by_its_member)
{
        static const struct {
                const char *line, *text;
        } cases[] = {
                {"", "not JSON"},
                {"nonsense", "not JSON"},
                {"{\"a\":1,\"a\":2}", "not JSON"},
                {"{\"eventType\":\"Send\"," MAIL "}", "not JSON"},
                {"[1]", "eventType"},
                {"{}", "eventType"},
                {"{\"eventType\":\"Sent\"," MAIL "}}", "'Sent'"},
                {"{\"eventType\":\"Send\"}", "mail: "},
                {"{\"eventType\":\"Send\",\"mail\":[]}", "mail: "},
                {"{\"eventType\":\"Send\",\"mail\":{}}", "mail."},
                {"{\"eventType\":\"Send\"," MAIL ",\"tags\":3}}", "mail.tags: must be an object"},
                {"{\"eventType\":\"Send\"," MAIL ",\"tags\":{\"a\":[1]}}}", "mail.tags.a: "},
                {"{\"eventType\":\"Send\"," MAIL ",\"tags\":{\"a b\":[\"c\"]}}}", "mail.tags[0]"},
                {"{\"eventType\":\"Send\"," MAIL ",\"headers\":[{\"name\":\"x\"}]}}", "mail.headers[0]: "},
                {"{\"eventType\":\"Send\"," MAIL ",\"commonHeaders\":{\"to\":\"x\"}}}", "mail.commonHeaders.to: "},
                {"{\"eventType\":\"Open\"," MAIL "},\"open\":{\"timestamp\":\"yesterday\"}}", "open.timestamp: "},
                {"{\"eventType\":\"Open\"," MAIL "},\"open\":3}", "open: must be an object"},
                {"{\"eventType\":\"Delivery\"," MAIL "},\"delivery\":{\"timestamp\":\"2026-01-02T03:04:05Z\","
                 "\"processingTimeMillis\":\"5\",\"recipients\":[\"a\"]}}",
                 "delivery.processingTimeMillis: must be a whole number"},
                {"{\"eventType\":\"Bounce\"," MAIL "},\"bounce\":{\"bouncedRecipients\":[3]}}",
                 "bounce.bouncedRecipients: "},
                {"{\"eventType\":\"Bounce\"," MAIL "}}", "bounce"},
                {"{\"eventType\":\"Send\",\"mail\":{\"subject\":\"\xff\"}}", "not JSON"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct jsonl_event event;
                struct err err = {.text = ""};
                enum err_code code = jsonl_parse(guard_page_copy(slice_of_text(cases[i].line)), &arena, &event, &err);
                cr_assert_neq(code, ERR_OK, "%s", cases[i].line);
                cr_assert_eq(err_class(code), ERR_CLASS_INPUT, "%s", cases[i].line);
                cr_assert_not_null(strstr(err.text, cases[i].text), "%s: %s", cases[i].line, err.text);
        }
}

Test(feed_jsonl, every_beginning_of_a_line_is_refused)
{
        static const char line[] = "{\"eventType\":\"Send\"," MAIL "},\"send\":{},\"x\":\"\\ud83d\\ude00\"}";
        for (size_t len = 0; len < sizeof(line) - 1; len++) {
                struct jsonl_event event;
                struct err err;
                cr_assert_neq(jsonl_parse(guard_page_copy(slice_of(line, len)), &arena, &event, &err), ERR_OK);
                arena_clear(&arena);
        }
}
