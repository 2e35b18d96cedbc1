/* The Postfix feed: where the life of a message begins and ends, and what is left of those whose end was not seen. */
#include "tests/support/postfix_log.h"

#include <stdio.h>

/* ---------------------------------------------------------------------------------------------- queue ids again */

/* Lines with RFC 3339 times and a short queue id, which comes again. */
#define SHORT                   "0A1B2C3D4E"
#define AT(time, program, text) "2026-11-" time "+00:00 mta1 postfix/" program "[1]: " text "\n"
#define OF(time, program, text) AT(time, program, SHORT ": " text)
#define HEADER(time, text)      OF(time, "cleanup", text " from a[192.0.2.1]; from=<a@b> to=<d@e.f> proto=ESMTP helo=<x>")
#define QUEUED(time, sender)    OF(time, "qmgr", "from=<" sender ">, size=1, nrcpt=1 (queue active)")
#define DELIVERED(time, to) \
        OF(time, "smtp",    \
           "to=<" to ">, relay=mx[192.0.2.7]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)")
#define BOB_HEADERS(time)                                              \
        HEADER(time, "strip: header X-SES-CONFIGURATION-SET: bob-set") \
        HEADER(time, "strip: header X-SES-MESSAGE-TAGS: campaign=bob") \
        HEADER(time, "info: header From: b@bob.example")               \
        OF(time, "cleanup", "message-id=<1@bob.example>")
#define BOB                        \
        BOB_HEADERS("23T12:00:00") \
        QUEUED("23T12:00:00", "b@bob.example") DELIVERED("23T12:00:01", "d@e.f")

static void is_bobs(const struct seen *seen, uint32_t index)
{
        has(seen, index, seen->type[index], "\"timestamp\":\"2026-11-23T12:00:00.000Z\",\"source\":\"b@bob.example\"");
        has(seen, index, seen->type[index], "\"destination\":[\"d@e.f\"]");
        has(seen, index, seen->type[index], "\"ses:configuration-set\":[\"bob-set\"]");
        has(seen, index, seen->type[index], "\"ses:from-domain\":[\"bob.example\"]");
        has(seen, index, seen->type[index], "\"campaign\":[\"bob\"]");
        cr_assert_null(strstr(seen->json[index], "alice"), "%s", seen->json[index]);
}

Test(feed_postfix_life, a_queue_id_that_comes_again_is_another_message, .timeout = 20)
{
        static const char *const beginnings[] = {
                OF("23T12:00:00", "smtpd", "client=b[192.0.2.2], sasl_username=bob"),
                OF("23T12:00:00", "pickup", "uid=1000 from=<bob>"),
        };
        for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
                struct seen seen;
                struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
                say(postfix, OF("23T07:00:00", "smtpd", "client=a[192.0.2.1], sasl_username=alice") /* breaks off */
                    HEADER("23T07:00:00", "strip: header X-SES-CONFIGURATION-SET: alice-set")
                            HEADER("23T07:00:00", "strip: header X-SES-MESSAGE-TAGS: campaign=alice")
                                    HEADER("23T07:00:00", "info: header From: a@alice.example"));
                say(postfix, beginnings[i]);
                say(postfix, BOB);
                cr_assert_eq(seen.count, 2);
                has(&seen, 0, SENDRING_SEND, "\"send\":{}");
                has(&seen, 1, SENDRING_DELIVERY, "\"recipients\":[\"d@e.f\"]");
                is_bobs(&seen, 0);
                is_bobs(&seen, 1);
                close_feed(postfix, &seen);
        }
}

Test(feed_postfix_life, a_message_whose_end_was_missed_is_told_before_its_queue_id_is_anothers, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix,
            OF("01T10:00:00", "smtpd", "client=a[192.0.2.1], sasl_username=alice") /* its Send waits for eva's */
            OF("01T10:00:00", "qmgr", "from=<a@alice.example>, size=1, nrcpt=2 (queue active)")
                    DELIVERED("01T10:00:01", "ana@alice.example"));
        cr_assert_eq(seen.count, 1);
        say(postfix, OF("23T12:00:00", "smtpd", "client=b[192.0.2.2], sasl_username=bob") BOB);
        cr_assert_eq(seen.count, 4);
        has(&seen, 1, SENDRING_SEND, "\"destination\":[\"ana@alice.example\"]");
        has(&seen, 1, SENDRING_SEND, "\"ses:caller-identity\":[\"alice\"]");
        has(&seen, 2, SENDRING_SEND, "\"send\":{}");
        has(&seen, 3, SENDRING_DELIVERY, "\"recipients\":[\"d@e.f\"]");
        is_bobs(&seen, 2);
        is_bobs(&seen, 3);
        cr_assert_eq(postfix_messages(postfix), 1);
        close_feed(postfix, &seen);
}

/* What has neither client nor user (a notification, a forwarded mail) begins with its message-id; or is met at qmgr's
 * line. */
Test(feed_postfix_life, a_notification_under_a_queue_id_of_before_makes_no_events, .timeout = 20)
{
        static const char *const beginnings[] = {OF("23T12:00:00", "cleanup", "message-id=<2@mta1>"), ""};
        for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
                struct seen seen;
                struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
                say(postfix, OF("01T10:00:00", "smtpd", "client=a[192.0.2.1], sasl_username=alice")
                                     OF("01T10:00:00", "cleanup", "message-id=<1@alice.example>")
                                             QUEUED("01T10:00:00", "a@alice.example")
                                                     DELIVERED("01T10:00:01", "ana@alice.example"));
                cr_assert_eq(seen.count, 2);
                say(postfix, beginnings[i]);
                say(postfix, QUEUED("23T12:00:00", "") DELIVERED("23T12:00:01", "a@alice.example"));
                cr_assert_eq(seen.count, 2, "%s", seen.json[2]);
                cr_assert_eq(postfix_get_counts(postfix)->outcomes_notification, 1);
                close_feed(postfix, &seen);
        }
}

/* ---------------------------------------------------------------------------------------------- what goes quiet */

/* `count` of one beginning under ids of their own, `program` and `text` as in AT(). */
static void begin_many(struct postfix *postfix, const char *time, unsigned first, unsigned count)
{
        for (unsigned i = 0; i < count; i++) {
                char line[200];
                (void)snprintf(line, sizeof(line),
                               "2026-11-%s+00:00 mta1 postfix/smtpd[1]: ABC%06X: client=a[192.0.2.9]", time, first + i);
                cr_assert_eq(postfix_line(postfix, slice_of_text(line), NOW), ERR_OK);
        }
}

static void other_lines(struct postfix *postfix, const char *time, unsigned count)
{
        char line[200];
        (void)snprintf(line, sizeof(line), "2026-11-%s+00:00 mta1 postfix/smtpd[1]: ABCDEF01: nothing known", time);
        for (unsigned i = 0; i < count; i++)
                cr_assert_eq(postfix_line(postfix, slice_of_text(line), NOW), ERR_OK);
}

/* RCPT and then QUIT: address callouts, refused senders. */
Test(feed_postfix_life, what_was_only_begun_is_forgotten_after_an_hour, .timeout = 60)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        begin_many(postfix, "22T10:00:00", 0, 20000);
        begin_many(postfix, "22T10:59:00", 20000, 20000);
        cr_assert_eq(postfix_messages(postfix), 40000);
        begin_many(postfix, "22T11:00:01", 40000, 1);
        cr_assert_eq(postfix_messages(postfix), 20001);
        begin_many(postfix, "23T11:00:01", 50000, 1);
        /* The last ones stay until so many lines have come: hosts of one log may be hours apart. */
        cr_assert_eq(postfix_messages(postfix), 10001);
        other_lines(postfix, "23T11:00:02", 10000);
        cr_assert_eq(postfix_messages(postfix), 1);
        cr_assert_eq(postfix_get_counts(postfix)->broken_off, 40001);
        cr_assert_eq(postfix_get_counts(postfix)->evicted, 0);
        cr_assert_eq(seen.count, 0);
        close_feed(postfix, &seen);
}

/* What has come may wait for days before qmgr has it: on hold, or behind a full queue. */
Test(feed_postfix_life, what_has_come_is_kept_for_the_lifetime_of_the_queue_and_a_day, .timeout = 60)
{
        struct seen seen;
        struct postfix *postfix =
                open_feed(&seen, (struct postfix_options){.queue_lifetime_ms = 5 * INT64_C(86400000)});
        say(postfix, OF("10T12:00:00", "smtpd", "client=b[192.0.2.2], sasl_username=bob") BOB_HEADERS("10T12:00:00"));
        other_lines(postfix, "16T11:59:59", 20000);
        cr_assert_eq(postfix_messages(postfix), 1);
        say(postfix, QUEUED("16T12:00:00", "b@bob.example") DELIVERED("16T12:00:01", "d@e.f")
                             OF("16T12:00:02", "smtpd", "client=b[192.0.2.2]"));
        cr_assert_eq(seen.count, 2);
        has(&seen, 1, SENDRING_DELIVERY, "\"campaign\":[\"bob\"]");
        close_feed(postfix, &seen);

        postfix = open_feed(&seen, (struct postfix_options){.queue_lifetime_ms = 5 * INT64_C(86400000)});
        say(postfix, OF("10T12:00:00", "smtpd", "client=b[192.0.2.2]")
                             OF("10T12:00:00", "qmgr", "from=<b@bob.example>, size=1, nrcpt=2 (queue active)")
                                     DELIVERED("10T12:00:01", "d@e.f"));
        cr_assert_eq(seen.count, 1);
        other_lines(postfix, "16T12:00:02", 1);
        cr_assert_eq(postfix_messages(postfix), 0);
        cr_assert_eq(postfix_get_counts(postfix)->aged, 1);
        cr_assert_eq(seen.count, 2, "its Send was held back, and told before it was forgotten");
        has(&seen, 1, SENDRING_SEND, "\"destination\":[\"d@e.f\"]");
        close_feed(postfix, &seen);
}

Test(feed_postfix_life, one_line_of_a_far_day_ages_nothing, .timeout = 60)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix,
            OF("23T12:30:00", "smtpd", "client=b[192.0.2.2]")
                    OF("23T12:30:00", "cleanup",
                       "message-id=<1@b>") "2099-01-01T00:00:00Z mta1 postfix/smtpd[1]: ABCDEF: "
                                           "client=a[192.0.2.9]\n" OF("23T12:30:01", "smtpd", "disconnect from x"));
        cr_assert_eq(postfix_messages(postfix), 2);
        close_feed(postfix, &seen);
}

/* ---------------------------------------------------------------------------------------------- behind a filter */

/* The second message's cleanup logs headers as well, where the filter's smtpd does not say no_header_body_checks. */
Test(feed_postfix_life, what_comes_again_behind_a_content_filter_is_there_once, .timeout = 20)
{
#define SECOND(program, text) AT("23T12:00:01", program, "0A1B2C3DFF: " text)
#define SECOND_HEADER(text) \
        SECOND("cleanup", text " from localhost[127.0.0.1]; from=<b@bob.example> to=<d@e.f> proto=ESMTP helo=<x>")
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, OF("23T12:00:00", "smtpd", "client=b[192.0.2.2], sasl_username=bob") BOB_HEADERS("23T12:00:00")
                             HEADER("23T12:00:00", "info: header Subject: Hi"));
        say(postfix,
            SECOND("smtpd", "client=localhost[127.0.0.1], orig_queue_id=" SHORT ", orig_client=b[192.0.2.2]")
                    SECOND_HEADER("info: header From: b@other.example") SECOND_HEADER("info: header Subject: [x] Hi")
                            SECOND_HEADER("info: header X-SES-MESSAGE-TAGS: campaign=bob")
                                    SECOND("cleanup", "message-id=<1@bob.example>"));
        /* As saved and loaded in the middle of it. */
        struct slice state, place;
        struct postfix_options options = {.context = &seen, .event = seen_event};
        cr_assert_eq(postfix_state_save(postfix, SLICE_EMPTY, &state), ERR_OK);
        postfix_free(postfix);
        postfix = postfix_create(&options);
        cr_assert_eq(postfix_state_load(postfix, state, &place, NULL), ERR_OK);
        free((void *)(uintptr_t)state.ptr);
        say(postfix, SECOND_HEADER("info: header X-SES-CONFIGURATION-SET: bob-set")
                             SECOND("qmgr", "from=<b@bob.example>, size=1, nrcpt=1 (queue active)")
                                     SECOND("smtp", "to=<d@e.f>, relay=mx[192.0.2.7]:25, delay=1, delays=0/0/0/1, "
                                                    "dsn=2.0.0, status=sent (250 ok)"));
        cr_assert_eq(seen.count, 2);
        has(&seen, 1, SENDRING_DELIVERY,
            "\"headers\":[{\"name\":\"From\",\"value\":\"b@other.example\"},{\"name\":\"Subject\",\"value\":\"[x] "
            "Hi\"},"
            "{\"name\":\"X-SES-MESSAGE-TAGS\",\"value\":\"campaign=bob\"},{\"name\":\"Message-ID\",\"value\":"
            "\"<1@bob.example>\"},{\"name\":\"X-SES-CONFIGURATION-SET\",\"value\":\"bob-set\"}]");
        has(&seen, 1, SENDRING_DELIVERY, "\"ses:from-domain\":[\"other.example\"]");
        has(&seen, 1, SENDRING_DELIVERY, "\"campaign\":[\"bob\"]");
        has(&seen, 1, SENDRING_DELIVERY, "\"ses:configuration-set\":[\"bob-set\"]");
        close_feed(postfix, &seen);
}

/* ---------------------------------------------------------------------------------------------- large messages */

Test(feed_postfix_life, a_send_lists_as_many_recipients_as_fit, .timeout = 60)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, OF("23T12:00:00", "smtpd", "client=a[192.0.2.9]")
                             OF("23T12:00:00", "qmgr", "from=<a@b>, size=1, nrcpt=1000 (queue active)"));
        seen.skip = true; /* their Deliveries are not looked at */
        for (unsigned i = 0; i < 1000; i++) {
                char line[512];
                (void)snprintf(line, sizeof(line),
                               "2026-11-23T12:00:01Z mta1 postfix/smtp[1]: " SHORT
                               ": to=<u%04u%0150d@e.f>, relay=mx[192.0.2.7]:25, "
                               "delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)",
                               i, 0);
                seen.skip = i < 999;
                cr_assert_eq(postfix_line(postfix, slice_of_text(line), NOW), ERR_OK);
        }
        cr_assert_eq(seen.count, 2);
        has(&seen, 0, SENDRING_SEND, "\"destination\":[\"u0000");
        has(&seen, 1, SENDRING_DELIVERY, "\"destination\":[\"u0999");
        uint64_t unlisted = postfix_get_counts(postfix)->recipients_unlisted;
        cr_assert_gt(unlisted, 150);
        cr_assert_lt(unlisted, 300);
        close_feed(postfix, &seen);
}
