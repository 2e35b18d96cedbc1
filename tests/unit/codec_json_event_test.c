/* Events as JSON: byte for byte the records of tests/data/events/ for all ten types; jansson judges the rest. */
#include "base/random.h"
#include "codecs/codec.h"
#include "tests/support/codec_events.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>

TestSuite(codec_json_event, .timeout = 30);

static size_t golden_read(enum sendring_event_type type, char *text, size_t text_bytes)
{
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/events/%s.json", TEST_DATA_DIRECTORY, codec_events_names[type]);
        FILE *file = fopen(path, "rb");
        cr_assert_not_null(file, "%s", path);
        size_t bytes = fread(text, 1, text_bytes, file);
        (void)fclose(file); /* read only */
        return bytes;
}

static uint8_t event_bytes[SENDRING_EVENT_BYTES_MAX];
static uint8_t json_bytes[2 * 1024 * 1024];

static void encode(const struct sendring_event *event, struct codec_view *ret_view)
{
        struct err err = {.text = ""};
        size_t bytes = 0;
        cr_assert_eq(codec_event_encode(event, event_bytes, sizeof(event_bytes), &bytes, &err), ERR_OK, "%s", err.text);
        cr_assert_leq(bytes, codec_event_size_max(event));
        cr_assert_eq(codec_view_decode(slice_of(event_bytes, bytes), ret_view, &err), ERR_OK, "%s", err.text);
}

Test(codec_json_event, every_type_equals_its_golden_file)
{
        static char golden[16384];
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                struct codec_view view;
                codec_events_fill(&event, (enum sendring_event_type)type);
                encode(&event, &view);
                size_t golden_bytes = golden_read((enum sendring_event_type)type, golden, sizeof(golden));
                size_t bytes = codec_json_encode(&view, NULL, json_bytes, sizeof(json_bytes));
                cr_assert(bytes == golden_bytes && memcmp(json_bytes, golden, bytes) == 0,
                          "%s:\n%.*s\nbut expected\n%.*s", codec_events_names[type], (int)bytes,
                          (const char *)json_bytes, (int)golden_bytes, golden);
        }
}

/* ---------------------------------------------------------------------------------------------- every field */

/* Every member of the SES developer guide's "Contents of event data that Amazon SES publishes" that a producer may
 * give, by its path in the record. */
struct field_case {
        enum sendring_event_type type;
        const char *path; /* members and indexes between dots */
        const char *json; /* what jansson must find there */
};

static const struct field_case field_cases[] = {
        {SENDRING_SEND, "eventType", "\"Send\""},
        {SENDRING_SEND, "send", "{}"},
        {SENDRING_SEND, "mail.timestamp", "\"2026-01-02T03:04:05.678Z\""},
        {SENDRING_SEND, "mail.source", "\"news@mail.example.com\""},
        {SENDRING_SEND, "mail.sourceArn", "\"" CODEC_EVENTS_ARN "\""},
        {SENDRING_SEND, "mail.sendingAccountId", "\"123456789012\""},
        {SENDRING_SEND, "mail.messageId", "\"" CODEC_EVENTS_ID "\""},
        {SENDRING_SEND, "mail.destination", "[\"a@x\",\"b@x\"]"},
        {SENDRING_SEND, "mail.headersTruncated", "true"},
        {SENDRING_SEND, "mail.headers.1", "{\"name\":\"To\",\"value\":\"ana@recipient.example.com\"}"},
        {SENDRING_SEND, "mail.commonHeaders.from", "[\"a@x\",\"b@x\"]"},
        {SENDRING_SEND, "mail.commonHeaders.to", "[\"a@x\",\"b@x\"]"},
        {SENDRING_SEND, "mail.commonHeaders.cc", "[\"a@x\",\"b@x\"]"},
        {SENDRING_SEND, "mail.commonHeaders.bcc", "[\"a@x\",\"b@x\"]"},
        {SENDRING_SEND, "mail.commonHeaders.replyTo", "[\"a@x\",\"b@x\"]"},
        {SENDRING_SEND, "mail.commonHeaders.date", "\"Fri, 2 Jan 2026 03:04:05 +0000\""},
        {SENDRING_SEND, "mail.commonHeaders.messageId", "\"" CODEC_EVENTS_ID "\""},
        {SENDRING_SEND, "mail.commonHeaders.subject", "\"April offers\""},
        {SENDRING_SEND, "mail.tags",
         "{\"ses:operation\":[\"SendRawEmail\"],\"ses:configuration-set\":[\"bulk-a\"],\"ses:source-ip\":[\"192.0.2."
         "10\"],"
         "\"ses:from-domain\":[\"mail.example.com\"],\"ses:caller-identity\":[\"mta-01\"],\"ses:source-tls-version\":["
         "\"TLSv1.3\"],\"campaign\":[\"april\"],\"genre\":[\"sci-fi\"]}"},
        {SENDRING_RENDERING_FAILURE, "eventType", "\"Rendering Failure\""},
        {SENDRING_RENDERING_FAILURE, "failure.templateName", "\"april-template\""},
        {SENDRING_RENDERING_FAILURE, "failure.errorMessage",
         "\"Attribute 'first_name' is not present in the rendering data.\""},
        {SENDRING_RENDERING_FAILURE, "mail.tags", "{\"ses:configuration-set\":[\"bulk-a\"]}"},
        {SENDRING_REJECT, "reject.reason", "\"other\""},
        {SENDRING_DELIVERY, "delivery.timestamp", "\"2026-01-02T03:04:07.112Z\""},
        {SENDRING_DELIVERY, "delivery.processingTimeMillis", "1434"},
        {SENDRING_DELIVERY, "delivery.recipients", "[\"ana@recipient.example.com\"]"},
        {SENDRING_DELIVERY, "delivery.smtpResponse", "\"250 2.0.0 OK 1767323047 queued\""},
        {SENDRING_DELIVERY, "delivery.remoteMtaIp", "\"203.0.113.25\""},
        {SENDRING_DELIVERY, "delivery.reportingMTA", "\"out7.mail.example.com\""},
        {SENDRING_DELIVERY, "mail.tags.ses:outgoing-ip", "[\"198.51.100.7\"]"},
        {SENDRING_DELIVERY, "mail.tags.ses:outgoing-tls-version", "[\"TLSv1.3\"]"},
        {SENDRING_BOUNCE, "bounce.feedbackId", "\"0100019b7ca99841-0c8b2f0e-5b39-4b52-9a40-0d6f2b8e9911-000000\""},
        {SENDRING_BOUNCE, "bounce.bounceType", "\"Permanent\""},
        {SENDRING_BOUNCE, "bounce.bounceSubType", "\"General\""},
        {SENDRING_BOUNCE, "bounce.bouncedRecipients",
         "[{\"emailAddress\":\"ana@recipient.example.com\",\"action\":\"failed\",\"status\":\"5.1.1\","
         "\"diagnosticCode\":"
         "\"smtp; 550 5.1.1 user unknown\"}]"},
        {SENDRING_BOUNCE, "bounce.timestamp", "\"2026-01-02T03:04:08.001Z\""},
        {SENDRING_BOUNCE, "bounce.remoteMtaIp", "\"203.0.113.25\""},
        {SENDRING_BOUNCE, "bounce.reportingMTA", "\"dns; out7.mail.example.com\""},
        {SENDRING_COMPLAINT, "complaint.feedbackId",
         "\"0100019b7d13ac80-9f1d2b3c-1a2b-4c3d-8e4f-5a6b7c8d9e0f-000000\""},
        {SENDRING_COMPLAINT, "complaint.complaintSubType", "\"OnAccountSuppressionList\""},
        {SENDRING_COMPLAINT, "complaint.complainedRecipients", "[{\"emailAddress\":\"ana@recipient.example.com\"}]"},
        {SENDRING_COMPLAINT, "complaint.timestamp", "\"2026-01-02T05:00:00.000Z\""},
        {SENDRING_COMPLAINT, "complaint.userAgent", "\"ExampleFBL/1.0\""},
        {SENDRING_COMPLAINT, "complaint.complaintFeedbackType", "\"abuse\""},
        {SENDRING_COMPLAINT, "complaint.arrivalDate", "\"2026-01-02T03:04:07.000Z\""},
        {SENDRING_DELIVERY_DELAY, "deliveryDelay.timestamp", "\"2026-01-02T03:09:05.000Z\""},
        {SENDRING_DELIVERY_DELAY, "deliveryDelay.delayType", "\"TransientCommunicationFailure\""},
        {SENDRING_DELIVERY_DELAY, "deliveryDelay.expirationTime", "\"2026-01-02T17:04:05.678Z\""},
        {SENDRING_DELIVERY_DELAY, "deliveryDelay.delayedRecipients",
         "[{\"emailAddress\":\"ana@recipient.example.com\",\"status\":\"4.4.1\",\"diagnosticCode\":\"smtp; 421 4.4.1 "
         "connection timed out\"}]"},
        {SENDRING_DELIVERY_DELAY, "deliveryDelay.reportingMTA", "\"198.51.100.7\""},
        {SENDRING_SUBSCRIPTION, "subscription.contactList", "\"weekly\""},
        {SENDRING_SUBSCRIPTION, "subscription.timestamp", "\"2026-01-02T09:00:00.000Z\""},
        {SENDRING_SUBSCRIPTION, "subscription.source", "\"UnsubscribeHeader\""},
        {SENDRING_SUBSCRIPTION, "subscription.newTopicPreferences",
         "{\"unsubscribeAll\":true,\"topicSubscriptionStatus\":[{\"topicName\":\"offers\",\"subscriptionStatus\":"
         "\"OptOut\"}],\"topicDefaultSubscriptionStatus\":[{\"topicName\":\"offers\",\"subscriptionStatus\":\"OptIn\"}]"
         "}"},
        {SENDRING_SUBSCRIPTION, "subscription.oldTopicPreferences",
         "{\"unsubscribeAll\":false,\"topicSubscriptionStatus\":[{\"topicName\":\"offers\",\"subscriptionStatus\":"
         "\"OptIn\"}]}"},
        {SENDRING_OPEN, "open.timestamp", "\"2026-01-02T06:10:11.000Z\""},
        {SENDRING_OPEN, "open.userAgent", "\"ExampleMail/4.2 (Linux)\""},
        {SENDRING_OPEN, "open.ipAddress", "\"192.0.2.99\""},
        {SENDRING_OPEN, "open.isBotEvent", "\"Unlikely\""},
        {SENDRING_CLICK, "click.timestamp", "\"2026-01-02T06:11:00.000Z\""},
        {SENDRING_CLICK, "click.ipAddress", "\"192.0.2.99\""},
        {SENDRING_CLICK, "click.userAgent", "\"ExampleMail/4.2 (Linux)\""},
        {SENDRING_CLICK, "click.link", "\"https://shop.example.com/april?id=7\""},
        {SENDRING_CLICK, "click.linkTags", "{\"product\":[\"book\"],\"genre\":[\"fiction\"]}"},
        {SENDRING_CLICK, "click.isBotEvent", "\"Unlikely\""},
};

static json_t *publish(const struct sendring_event *event, const struct codec_json_options *options)
{
        struct codec_view view;
        encode(event, &view);
        size_t bytes = codec_json_encode(&view, options, json_bytes, sizeof(json_bytes));
        cr_assert_gt(bytes, 0);
        cr_assert_leq(bytes, codec_json_size_max(&view, options));
        json_error_t error;
        json_t *root = json_loadb((const char *)json_bytes, bytes, JSON_REJECT_DUPLICATES, &error);
        cr_assert_not_null(root, "%s: %.*s", error.text, (int)bytes, (const char *)json_bytes);
        return root;
}

static const json_t *at_path(const json_t *value, const char *path)
{
        while (value != NULL && *path != '\0') {
                char part[64];
                size_t bytes = strcspn(path, ".");
                memcpy(part, path, bytes);
                part[bytes] = '\0';
                value = json_is_array(value) ? json_array_get(value, (size_t)(part[0] - '0'))
                                             : json_object_get(value, part);
                path += bytes + (path[bytes] == '.');
        }
        return value;
}

static void expect_json(const json_t *root, const char *path, const char *expected)
{
        const json_t *value = at_path(root, path);
        char *text = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_PRESERVE_ORDER);
        cr_expect_str_eq(text == NULL ? "(absent)" : text, expected, "%s", path);
        free(text);
}

Test(codec_json_event, every_field_goes_in_and_comes_out)
{
        static const struct sendring_str two[] = {CODEC_EVENTS_TEXT("a@x"), CODEC_EVENTS_TEXT("b@x")};
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                codec_events_fill(&event, (enum sendring_event_type)type);
                event.mail.destination = (struct sendring_strs){two, 2};
                event.mail.headers_truncated = 1;
                event.mail.common_headers.from = (struct sendring_strs){two, 2};
                event.mail.common_headers.to = (struct sendring_strs){two, 2};
                event.mail.common_headers.cc = (struct sendring_strs){two, 2};
                event.mail.common_headers.bcc = (struct sendring_strs){two, 2};
                event.mail.common_headers.reply_to = (struct sendring_strs){two, 2};
                event.mail.common_headers.date = SENDRING_STR("Fri, 2 Jan 2026 03:04:05 +0000");
                if (type == SENDRING_REJECT)
                        event.reject.reason = SENDRING_STR("other");
                if (type == SENDRING_COMPLAINT)
                        event.complaint.complaint_sub_type = SENDRING_STR("OnAccountSuppressionList");
                if (type == SENDRING_SUBSCRIPTION)
                        event.subscription.new_topic_preferences.topic_default_subscription_status =
                                (struct sendring_topics)CODEC_EVENTS_LIST(codec_events_in);
                json_t *root = publish(&event, NULL);
                for (size_t i = 0; i < sizeof(field_cases) / sizeof(field_cases[0]); i++)
                        if ((int)field_cases[i].type == type)
                                expect_json(root, field_cases[i].path, field_cases[i].json);
                json_decref(root);
        }
}

Test(codec_json_event, common_headers_keep_the_order_of_real_records)
{
        struct sendring_event event;
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.common_headers.reply_to = event.mail.common_headers.to;
        event.mail.common_headers.cc = event.mail.common_headers.to;
        event.mail.common_headers.date = SENDRING_STR("d");
        json_t *root = publish(&event, NULL);
        const char *order[] = {"from", "replyTo", "date", "to", "cc", "messageId", "subject"};
        const char *key;
        json_t *value;
        size_t i = 0;
        json_object_foreach(json_object_get(json_object_get(root, "mail"), "commonHeaders"), key, value)
                cr_assert_str_eq(key, order[i++]);
        cr_assert_eq(i, 7);
        json_decref(root);
}

Test(codec_json_event, what_a_producer_leaves_out_is_left_out_or_has_its_default)
{
        struct sendring_event event;
        codec_event_init(&event, SENDRING_COMPLAINT);
        event.mail.timestamp_ms = CODEC_EVENTS_TIME;
        event.mail.message_id = SENDRING_STR("id");
        event.mail.source = SENDRING_STR("");
        event.mail.destination = (struct sendring_strs)CODEC_EVENTS_LIST(codec_events_ana);
        event.complaint.feedback_id = SENDRING_STR("fid");
        event.complaint.complained_recipients = event.mail.destination;
        event.complaint.timestamp_ms = 0;
        json_t *root = publish(&event, NULL);
        expect_json(
                root, "complaint",
                "{\"feedbackId\":\"fid\",\"complaintSubType\":null,\"complainedRecipients\":[{\"emailAddress\":\"ana@"
                "recipient.example.com\"}],\"timestamp\":\"1970-01-01T00:00:00.000Z\"}");
        expect_json(root, "mail",
                    "{\"timestamp\":\"2026-01-02T03:04:05.678Z\",\"source\":\"\",\"messageId\":\"id\",\"destination\":["
                    "\"ana@recipient.example.com\"],\"headersTruncated\":false,\"tags\":{}}");
        json_decref(root);

        codec_events_fill(&event, SENDRING_CLICK);
        event.click.link_tags.count = 0;
        root = publish(&event, NULL);
        expect_json(root, "click.linkTags", "null");
        expect_json(root, "mail.sourceArn", "(absent)");
        json_decref(root);

        codec_events_fill(&event, SENDRING_SEND);
        event.mail.headers.count = 0;
        event.mail.common_headers = (struct sendring_common_headers){.subject = {NULL, 0}};
        root = publish(&event, NULL);
        expect_json(root, "mail.headers", "(absent)");
        expect_json(root, "mail.commonHeaders", "(absent)");
        json_decref(root);
        event.mail.headers_present = 1;
        root = publish(&event, NULL);
        expect_json(root, "mail.headers", "[]");
        expect_json(root, "mail.commonHeaders", "{\"messageId\":\"" CODEC_EVENTS_ID "\"}");
        json_decref(root);
}

Test(codec_json_event, the_router_fills_in_account_arn_and_set)
{
        static const struct codec_json_options options = {
                .account_id = {(const uint8_t *)"999999999999", 12},
                .region = {(const uint8_t *)"eu-west-1", 9},
                .configuration_set = {(const uint8_t *)"fallback", 8},
        };
        struct sendring_event event;
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.source_arn = event.mail.sending_account_id = (struct sendring_str){NULL, 0};
        event.mail.configuration_set = event.mail.from_domain = (struct sendring_str){NULL, 0};
        event.mail.source = SENDRING_STR("News <news@a.example>");
        event.mail.headers = (struct sendring_pairs){NULL, 0};
        event.mail.headers_present = 0;
        event.mail.common_headers = (struct sendring_common_headers){.subject = {NULL, 0}};
        json_t *root = publish(&event, &options);
        expect_json(root, "mail.sourceArn", "\"arn:aws:ses:eu-west-1:999999999999:identity/a.example\"");
        expect_json(root, "mail.sendingAccountId", "\"999999999999\"");
        expect_json(root, "mail.tags.ses:configuration-set", "[\"fallback\"]");
        expect_json(root, "mail.tags.ses:from-domain", "[\"a.example\"]");
        json_decref(root);
        codec_events_fill(&event, SENDRING_SEND); /* what the producer says stands */
        root = publish(&event, &options);
        expect_json(root, "mail.sourceArn", "\"" CODEC_EVENTS_ARN "\"");
        expect_json(root, "mail.sendingAccountId", "\"" CODEC_EVENTS_ACCOUNT "\"");
        expect_json(root, "mail.tags.ses:configuration-set", "[\"bulk-a\"]");
        json_decref(root);
}

/* Publishes, and asks the others that go by the domain: filters, dimensions, default sets. NULL: there is none. */
static void expect_from_domain(const struct sendring_event *event, const char *domain)
{
        struct codec_view view;
        struct codec_wanted wanted;
        struct codec_found found;
        char text[320];
        struct slice expected = domain == NULL ? SLICE_EMPTY : slice_of_text(domain);
        json_t *root = publish(event, NULL);
        (void)snprintf(text, sizeof(text), "[\"%s\"]", domain == NULL ? "" : domain);
        if (domain != NULL)
                expect_json(root, "mail.tags.ses:from-domain", text);
        else
                cr_assert_null(
                        json_object_get(json_object_get(json_object_get(root, "mail"), "tags"), "ses:from-domain"));
        json_decref(root);
        encode(event, &view);
        cr_assert(slice_equal(codec_view_from_domain(&view), expected), "%s", text);
        codec_wanted_init(&wanted, CODEC_SOURCE_TAG, SLICE("ses:from-domain"));
        codec_view_find(&view, NULL, &wanted, 1, &found);
        cr_assert(slice_equal(found.value, expected) && found.count == (domain != NULL), "%s", text);
}

Test(codec_json_event, the_from_domain_is_the_from_headers_and_only_without_headers_the_sources)
{
        static const struct {
                const char *from, *domain;
        } froms[] = {
                {"Name <a@b.example>", "b.example"},
                {"\"x@y.example, inc\" <a@b.example>, c@d.example", "b.example"},
                {"nobody", NULL},
                {"", NULL},
        };
        struct sendring_str mails[] = {SENDRING_STR("Common <a@common.example>"), SENDRING_STR("b@second.example")};
        struct sendring_pair headers[] = {{SENDRING_STR("Subject"), SENDRING_STR("a@subject.example")},
                                          {SENDRING_STR("fROM"), SENDRING_STR("Name <a@header.example>")}};
        struct sendring_event event;
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.source = SENDRING_STR("bounce+1@verp.example");
        event.mail.from_domain = SENDRING_STR("given.example");
        event.mail.headers = (struct sendring_pairs){headers, 2};
        event.mail.common_headers.from = (struct sendring_strs){mails, 2};
        expect_from_domain(&event, "given.example");
        event.mail.from_domain = SENDRING_STR("");
        expect_from_domain(&event, "common.example");
        event.mail.from_domain = (struct sendring_str){NULL, 0};
        event.mail.headers = (struct sendring_pairs){NULL, 0};
        expect_from_domain(&event, "common.example");
        mails[0] = SENDRING_STR("Nobody");
        expect_from_domain(&event, "second.example");
        mails[1] = SENDRING_STR("");
        expect_from_domain(&event, NULL);
        event.mail.common_headers = (struct sendring_common_headers){.subject = SENDRING_STR("x@y.example")};
        event.mail.headers = (struct sendring_pairs){headers, 2};
        expect_from_domain(&event, "header.example");
        for (size_t i = 0; i < sizeof(froms) / sizeof(froms[0]); i++) {
                headers[1].value = (struct sendring_str){froms[i].from, strlen(froms[i].from)};
                expect_from_domain(&event, froms[i].domain);
        }
        event.mail.headers = (struct sendring_pairs){headers, 1};
        expect_from_domain(&event, NULL);
        event.mail.headers = (struct sendring_pairs){NULL, 0};
        expect_from_domain(&event, NULL); /* commonHeaders alone */
        event.mail.common_headers = (struct sendring_common_headers){.subject = {NULL, 0}};
        event.mail.headers_present = 1;
        expect_from_domain(&event, NULL);
        event.mail.headers_present = 0;
        expect_from_domain(&event, "verp.example");
}

Test(codec_json_event, tags_of_one_name_are_gathered_in_order)
{
        static struct sendring_pair tags[SENDRING_LIST_ITEMS_MAX];
        static char names[SENDRING_LIST_ITEMS_MAX][16], values[SENDRING_LIST_ITEMS_MAX][16];
        /* Few take another way through the code than many. */
        for (size_t count = 1; count <= SENDRING_LIST_ITEMS_MAX; count = count < 40 ? count + 1 : count * 2) {
                struct sendring_event event;
                codec_events_fill(&event, SENDRING_CLICK);
                json_t *expected = json_object();
                for (size_t i = 0; i < count; i++) {
                        (void)snprintf(names[i], sizeof(names[i]), "n%zu", i * i % 13);
                        (void)snprintf(values[i], sizeof(values[i]), "v%zu", i);
                        tags[i] = (struct sendring_pair){{names[i], strlen(names[i])}, {values[i], strlen(values[i])}};
                        json_t *list = json_object_get(expected, names[i]);
                        if (list == NULL) {
                                list = json_array();
                                json_object_set_new(expected, names[i], list);
                        }
                        json_array_append_new(list, json_string(values[i]));
                }
                event.click.link_tags = (struct sendring_pairs){tags, count};
                char *text = json_dumps(expected, JSON_COMPACT | JSON_PRESERVE_ORDER);
                json_t *root = publish(&event, NULL);
                expect_json(root, "click.linkTags", text);
                free(text);
                json_decref(root);
                json_decref(expected);
        }
}

Test(codec_json_event, unknown_members_are_published_behind_the_known_ones)
{
        static const char bytes[] =
                "\x86\x00\x01\x01\x01\x05\x85\x01\x01\x02\xa1s\x05\xa1i\x06\x91\xa1r\xa3val\x94\xc0\xc2\xc3\xa0"
                "\xa1n\x9e\x00\x7f\xff\xe0\xcc\xff\xcd\xff\xff\xce\xff\xff\xff\xff\xcf\xff\xff\xff\xff\xff\xff\xff\xff"
                "\xd0\x80\xd1\x80\x00\xd2\x80\x00\x00\x00\xd3\x80\x00\x00\x00\x00\x00\x00\x00\xca\x3f\x80\x00\x00"
                "\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"
                "\xa1m\x82\xa2\"k\x90\xa0\x80"
                "\xa1u\xa3\xe2\x82\xac";
        struct codec_view view;
        struct err err = {.text = ""};
        cr_assert_eq(codec_view_decode(slice_of(bytes, sizeof(bytes) - 1), &view, &err), ERR_OK, "%s", err.text);
        size_t len = codec_json_encode(&view, NULL, json_bytes, sizeof(json_bytes));
        const char *expected =
                "{\"eventType\":\"Send\",\"mail\":{\"timestamp\":\"1970-01-01T00:00:00.001Z\",\"source\":\"s\","
                "\"messageId\":\"i\",\"destination\":[\"r\"],\"headersTruncated\":false,\"tags\":{},\"val\":[null,"
                "false,"
                "true,\"\"]},\"send\":{},\"n\":[0,127,-1,-32,255,65535,4294967295,18446744073709551615,-128,-32768,"
                "-2147483648,-9223372036854775808,1.0,0.1],\"m\":{\"\\\"k\":[],\"\":{}},\"u\":\"\xe2\x82\xac\"}";
        cr_assert(slice_equal(slice_of(json_bytes, len), slice_of_text(expected)), "%.*s", (int)len,
                  (const char *)json_bytes);
}

Test(codec_json_event, exact_room_is_enough_and_one_byte_less_is_not)
{
        static uint8_t room[4096];
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                struct codec_view view;
                codec_events_fill(&event, (enum sendring_event_type)type);
                encode(&event, &view);
                size_t need = codec_json_encode(&view, NULL, json_bytes, sizeof(json_bytes));
                struct slice guarded = guard_page_copy(slice_of(room, need));
                for (size_t len = 0; len < need; len++)
                        cr_assert_eq(
                                codec_json_encode(&view, NULL, (uint8_t *)(uintptr_t)guarded.ptr + (need - len), len),
                                0);
                cr_assert_eq(codec_json_encode(&view, NULL, (uint8_t *)(uintptr_t)guarded.ptr, need), need);
                cr_assert(slice_equal(guarded, slice_of(json_bytes, need)));
        }
}

/* The event's bytes end at an unmapped page: the vector reads must stay inside. */
Test(codec_json_event, nothing_is_read_behind_the_event)
{
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                struct codec_view view;
                codec_events_fill(&event, (enum sendring_event_type)type);
                if (type == SENDRING_CLICK)
                        event.click.is_bot_event = (struct sendring_str){NULL, 0}; /* a tag is the last text then */
                encode(&event, &view);
                size_t need = codec_json_encode(&view, NULL, json_bytes, sizeof(json_bytes));
                static uint8_t again[8192];
                cr_assert_eq(codec_view_decode(guard_page_copy(view.event), &view, NULL), ERR_OK);
                cr_assert_eq(codec_json_encode(&view, NULL, again, sizeof(again)), need);
                cr_assert_eq(memcmp(again, json_bytes, need), 0);
        }
}

Test(codec_json_event, hostile_texts_are_published_as_valid_json)
{
        struct random_state random;
        random_init(&random, 5);
        for (int round = 0; round < 3000; round++) {
                char texts[6][96];
                struct sendring_str strs[6];
                for (size_t i = 0; i < 6; i++) {
                        size_t len = random_below(&random, sizeof(texts[i]));
                        for (size_t j = 0; j < len; j++)
                                texts[i][j] = (char)(random_below(&random, 3) == 0 ? random_below(&random, 256)
                                                                                   : 'a' + random_below(&random, 26));
                        strs[i] = (struct sendring_str){texts[i], len};
                }
                struct sendring_recipient recipient = {SENDRING_STR("x"), strs[0], strs[1], strs[2]};
                struct sendring_pair header = {strs[3], strs[4]};
                struct sendring_event event;
                codec_events_fill(&event, SENDRING_BOUNCE);
                event.bounce.bounced_recipients = (struct sendring_recipients){&recipient, 1};
                event.mail.headers = (struct sendring_pairs){&header, 1};
                event.mail.source = strs[5];
                event.mail.common_headers.subject = strs[3];
                event.mail.from_domain = (struct sendring_str){NULL, 0};
                event.mail.source_arn = (struct sendring_str){NULL, 0};
                static const struct codec_json_options options = {.account_id = {(const uint8_t *)"1", 1},
                                                                  .region = {(const uint8_t *)"r", 1}};
                struct codec_view view;
                encode(&event, &view);
                size_t bytes = codec_json_encode(&view, &options, json_bytes, sizeof(json_bytes));
                json_error_t error;
                json_t *root =
                        json_loadb((const char *)json_bytes, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
                cr_assert_not_null(root, "%s: %.*s", error.text, (int)bytes, (const char *)json_bytes);
                json_decref(root);
        }
}

/* The bound must hold where JSON grows most: control bytes everywhere, and lists of the shortest elements. */
Test(codec_json_event, the_size_bound_holds_in_the_worst_cases)
{
        static char controls[SENDRING_EVENT_BYTES_MAX];
        static struct sendring_recipient recipients[SENDRING_LIST_ITEMS_MAX];
        static struct sendring_topic topics[SENDRING_LIST_ITEMS_MAX];
        static struct sendring_pair headers[SENDRING_LIST_ITEMS_MAX];
        struct sendring_event event;
        memset(controls, 1, sizeof(controls));
        for (size_t i = 0; i < SENDRING_LIST_ITEMS_MAX; i++) {
                recipients[i] = (struct sendring_recipient){SENDRING_STR("x"), SENDRING_STR(""), SENDRING_STR(""),
                                                            SENDRING_STR("")};
                topics[i] = (struct sendring_topic){SENDRING_STR("t"), SENDRING_STR("s")};
                headers[i] = (struct sendring_pair){SENDRING_STR(""), SENDRING_STR("")};
        }
        codec_events_fill(&event, SENDRING_BOUNCE);
        event.bounce.bounced_recipients = (struct sendring_recipients){recipients, SENDRING_LIST_ITEMS_MAX};
        event.mail.headers = (struct sendring_pairs){headers, SENDRING_LIST_ITEMS_MAX};
        event.mail.message_id = (struct sendring_str){controls, 512};
        json_decref(publish(&event, NULL));
        codec_events_fill(&event, SENDRING_SUBSCRIPTION);
        event.subscription.new_topic_preferences.topic_subscription_status =
                (struct sendring_topics){topics, SENDRING_LIST_ITEMS_MAX - 1};
        json_decref(publish(&event, NULL));
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.common_headers.subject = (struct sendring_str){controls, 120000};
        controls[119000] = '@';
        event.mail.source = (struct sendring_str){controls + 119000, 256};
        event.mail.from_domain = (struct sendring_str){NULL, 0};
        json_decref(publish(&event, NULL));
}

Test(codec_json_event, headers_of_foreign_events_are_cut_at_ten_kilobytes)
{
        /* An event of another program, which did not cut: 12 headers of 1 KiB. */
        static uint8_t bytes[16384];
        size_t at = 0;
        static const char start[] =
                "\x83\x00\x01\x01\x01\x05\x85\x01\x01\x02\xa1s\x05\xa1i\x06\x91\xa1r\x08\xdc\x00\x18";
        memcpy(bytes, start, sizeof(start) - 1);
        at += sizeof(start) - 1;
        for (size_t i = 0; i < 12; i++) {
                memcpy(bytes + at, "\xa1h\xda\x04\x00", 5);
                memset(bytes + at + 5, 'v', 1024);
                at += 5 + 1024;
        }
        struct codec_view view;
        cr_assert_eq(codec_view_decode(slice_of(bytes, at), &view, NULL), ERR_OK);
        size_t len = codec_json_encode(&view, NULL, json_bytes, sizeof(json_bytes));
        json_t *root = json_loadb((const char *)json_bytes, len, JSON_REJECT_DUPLICATES, NULL);
        cr_assert_not_null(root);
        cr_assert_eq(json_array_size(at_path(root, "mail.headers")), 9, "nine of 1,029 bytes fit into 10,240");
        expect_json(root, "mail.headersTruncated", "true");
        json_decref(root);
}

Test(codec_json_event, the_event_id_is_the_last_member)
{
        struct sendring_event event;
        struct codec_view view;
        static char whole[16384];
        codec_events_fill(&event, SENDRING_OPEN);
        encode(&event, &view);
        size_t bytes = codec_json_encode(&view, NULL, json_bytes, sizeof(json_bytes));
        size_t golden = golden_read(SENDRING_OPEN, whole, sizeof(whole));
        static const char member[] =
                ",\"sendring\":{\"eventId\":\"00000000000000ab-0000000000012c00\",\"sequence\":41}}";
        memcpy(whole + golden - 1, member, sizeof(member));
        size_t more = codec_json_add_event_id(json_bytes, bytes, bytes + sizeof(member) - 2, 0xab, 0x12c00, 41);
        cr_assert_eq(more, golden + sizeof(member) - 2);
        cr_assert_arr_eq(json_bytes, whole, more);
        cr_assert_eq(codec_json_add_event_id(json_bytes, bytes, bytes + sizeof(member) - 3, 0xab, 0x12c00, 41), 0);
        more = codec_json_add_event_id(json_bytes, bytes, sizeof(json_bytes), UINT64_MAX, UINT64_MAX, UINT64_MAX);
        cr_assert_leq(more, bytes + CODEC_JSON_EVENT_ID_BYTES);
}
