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
#define BOB                                                                     \
        HEADER("23T12:00:00", "strip: header X-SES-CONFIGURATION-SET: bob-set") \
        HEADER("23T12:00:00", "strip: header X-SES-MESSAGE-TAGS: campaign=bob") \
        HEADER("23T12:00:00", "info: header From: b@bob.example")               \
        OF("23T12:00:00", "cleanup", "message-id=<1@bob.example>")              \
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
