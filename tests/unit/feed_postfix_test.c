/* The Postfix feed: lines of real logs (Postfix 3.7 and 3.11), and lines that peers and senders would like us to
 * misread. */
#include "base/arena.h"
#include "base/file.h"
#include "tests/support/postfix_log.h"

#include <stdio.h>

/* ---------------------------------------------------------------------------------------------- events */

Test(feed_postfix, a_delivered_message_tells_send_and_delivery_with_all_it_knows, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix =
                open_feed(&seen, (struct postfix_options){.reporting_mta = SLICE("mta1.example.net")});
        say(postfix, BEGIN_TAGGED ACTIVE("1") TRIED("ana@b.example", MX, "2.0.0", "sent", SENT) REMOVED);
        cr_assert_eq(seen.count, 2);
        cr_assert_str_eq(
                seen.json[1],
                "{\"eventType\":\"Delivery\",\"mail\":{\"timestamp\":\"2026-11-23T04:45:37.670Z\",\"source\":"
                "\"news@mail.example.com\",\"messageId\":\"" QID "\",\"destination\":[\"ana@b.example\"],"
                "\"headersTruncated\":false,\"headers\":[{\"name\":\"From\",\"value\":\"Example News "
                "<news@mail.example.com>\"},{\"name\":\"Subject\",\"value\":\"April offers from us; from=<x@y>\"},"
                "{\"name\":\"X-SES-CONFIGURATION-SET\",\"value\":\"bulk-a\"},{\"name\":\"X-SES-MESSAGE-TAGS\","
                "\"value\":"
                "\"campaign=book,? genre=sci-fi, bad name=1, ses:x=y\"},{\"name\":\"Message-ID\",\"value\":"
                "\"<abc@mail.example.com>\"}],\"commonHeaders\":{\"from\":[\"Example News <news@mail.example.com>\"],"
                "\"messageId\":\"" QID
                "\",\"subject\":\"April offers from us; from=<x@y>\"},\"tags\":{\"ses:operation\":"
                "[\"SMTP\"],\"ses:configuration-set\":[\"bulk-a\"],\"ses:source-ip\":[\"192.0.2.9\"],"
                "\"ses:from-domain\":[\"mail.example.com\"],\"ses:caller-identity\":[\"mta-01\"],\"campaign\":["
                "\"book\"],"
                "\"genre\":[\"sci-fi\"]}},\"delivery\":{\"timestamp\":\"2026-11-23T04:45:38.090Z\","
                "\"processingTimeMillis\":420,\"recipients\":[\"ana@b.example\"],\"smtpResponse\":\"" SENT "\","
                "\"remoteMtaIp\":\"203.0.113.25\",\"reportingMTA\":\"mta1.example.net\"}}");
        has(&seen, 0, SENDRING_SEND, "\"send\":{}");
        cr_assert_eq(postfix_get_counts(postfix)->tags_refused, 2);
        cr_assert_eq(postfix_messages(postfix), 0);
        cr_assert_eq(postfix_state_bytes(postfix), 0);
        close_feed(postfix, &seen);
}

Test(feed_postfix, a_refused_recipient_is_a_bounce, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.configuration_set = SLICE("standard")});
        say(postfix, LINE("smtpd", QID ": client=a[192.0.2.9]") ACTIVE("1")
                             TRIED("ana@b.example", MX, "5.1.1", "bounced", UNKNOWN) REMOVED);
        cr_assert_eq(seen.count, 2);
        has(&seen, 0, SENDRING_SEND, "\"ses:configuration-set\":[\"standard\"]");
        has(&seen, 1, SENDRING_BOUNCE,
            "\"bounceType\":\"Permanent\",\"bounceSubType\":\"General\",\"bouncedRecipients\":[{\"emailAddress\":"
            "\"ana@b.example\",\"action\":\"failed\",\"status\":\"5.1.1\",\"diagnosticCode\":\"smtp; 550 5.1.1 user "
            "unknown\"}],\"timestamp\":\"2026-11-23T04:45:38.090Z\",\"remoteMtaIp\":\"203.0.113.25\",\"reportingMTA\":"
            "\"dns; mta1\"}");
        close_feed(postfix, &seen);
}

Test(feed_postfix, words_of_the_grammar_in_a_peers_reply_change_nothing, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix,
            LINE("smtpd", QID ": client=a[192.0.2.9]") ACTIVE("1")
                    TRIED("ana@b.example", MX, "4.2.2", "deferred",
                          "host mx.b.example[203.0.113.25] said: 452 4.2.2 Mailbox full, \"try\" (later), dsn=4.9.9, "
                          "status=sent (250 OK) to=<x@y>, relay=z, delay=1, delays=1/1/1/1, dsn=2.0.0, status=sent "
                          "(in reply to x) (in reply to RCPT TO command)"));
        cr_assert_eq(seen.count, 2);
        has(&seen, 1, SENDRING_DELIVERY_DELAY, "\"delayType\":\"MailboxFull\"");
        has(&seen, 1, SENDRING_DELIVERY_DELAY, "\"emailAddress\":\"ana@b.example\",\"status\":\"4.2.2\"");
        has(&seen, 1, SENDRING_DELIVERY_DELAY,
            "\"smtp; 452 4.2.2 Mailbox full, \\\"try\\\" (later), dsn=4.9.9, status=sent (250 OK) to=<x@y>, relay=z, "
            "delay=1, delays=1/1/1/1, dsn=2.0.0, status=sent (in reply to x)\"");
        close_feed(postfix, &seen);
}

Test(feed_postfix, a_quoted_recipient_may_hold_anything, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, LINE("smtpd", QID ": client=a[192.0.2.9]") ACTIVE("1") TRIED(
                             "\"a>, relay=evil[1.2.3.4]:25, delay=9, delays=1/1/1/1, dsn=5.0.0, status=bounced (x\\\" "
                             "y\"@b.example",
                             MX, "2.0.0", "sent", SENT));
        cr_assert_eq(seen.count, 2);
        has(&seen, 1, SENDRING_DELIVERY, "\"remoteMtaIp\":\"203.0.113.25\"");
        has(&seen, 1, SENDRING_DELIVERY, "status=bounced (x\\\\\\\" y\\\"@b.example\"],\"smtpResponse\"");
        close_feed(postfix, &seen);
}

Test(feed_postfix, expiry_bounces_each_recipient_that_still_waits, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, LINE("smtpd", QID ": client=a[192.0.2.9]") ACTIVE("3")
                             TRIED("full@b.example", MX, "4.2.2", "deferred", FULL) TRIED("ana@b.example", MX, "2.0.0",
                                                                                          "sent", SENT)
                                     TRIED("dead@c.example", "none", "4.4.1", "deferred", REFUSED) EXPIRED REMOVED);
        cr_assert_eq(seen.count, 6);
        has(&seen, 0, SENDRING_DELIVERY_DELAY, "full@b.example");
        has(&seen, 1, SENDRING_DELIVERY, "ana@b.example");
        has(&seen, 2, SENDRING_SEND, "\"destination\":[\"full@b.example\",\"ana@b.example\",\"dead@c.example\"]");
        has(&seen, 3, SENDRING_DELIVERY_DELAY, "\"delayType\":\"TransientCommunicationFailure\"");
        has(&seen, 4, SENDRING_BOUNCE,
            "\"bounceType\":\"Transient\",\"bounceSubType\":\"MailboxFull\",\"bouncedRecipients\":[{\"emailAddress\":"
            "\"full@b.example\",\"action\":\"failed\",\"status\":\"4.2.2\",\"diagnosticCode\":\"smtp; 452 4.2.2 "
            "Mailbox "
            "full\"}],\"timestamp\":\"2026-11-23T04:45:38.000Z\",\"remoteMtaIp\":\"203.0.113.25\"");
        has(&seen, 5, SENDRING_BOUNCE,
            "\"bounceSubType\":\"General\",\"bouncedRecipients\":[{\"emailAddress\":\"dead@");
        cr_assert_eq(postfix_get_counts(postfix)->expired_unknown, 0);
        close_feed(postfix, &seen);
}

Test(feed_postfix, delays_are_told_once_and_when_they_change, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.delay_interval_ms = 3600000});
        say(postfix,
            LINE("smtpd", QID ": client=a[192.0.2.9]") ACTIVE("1") TRIED("ana@b.example", MX, "4.2.2", "deferred", FULL)
                    TRIED("ana@b.example", MX, "4.2.2", "deferred", FULL)
                            TRIED("ana@b.example", "none", "4.4.1", "deferred", REFUSED)
                                    TRIED("ana@b.example", "none", "4.4.1", "deferred", REFUSED));
        cr_assert_eq(seen.count, 3);
        has(&seen, 1, SENDRING_DELIVERY_DELAY, "MailboxFull");
        has(&seen, 2, SENDRING_DELIVERY_DELAY, "TransientCommunicationFailure");
        cr_assert_eq(postfix_get_counts(postfix)->delays_suppressed, 2);
        say(postfix, "Nov 23 05:45:39 mta1 postfix/error[1]: " QID
                     ": to=<ana@b.example>, relay=none, delay=3601, delays=3601/0/0/0, dsn=4.4.1, status=deferred "
                     "(delivery temporarily suspended: " REFUSED ")\n");
        cr_assert_eq(seen.count, 4, "an interval has passed");
        close_feed(postfix, &seen);
}

Test(feed_postfix, a_soft_bounce_is_a_delay_and_a_bounce_at_expiry, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, LINE("smtpd", QID ": client=a[192.0.2.9]") ACTIVE("1") SOFT("ana@b.example") ACTIVE("1")
                             SOFT("ana@b.example") EXPIRED REMOVED);
        cr_assert_eq(seen.count, 3);
        has(&seen, 0, SENDRING_SEND, "ana@b.example");
        has(&seen, 1, SENDRING_DELIVERY_DELAY, "\"delayType\":\"RecipientServerError\"");
        has(&seen, 2, SENDRING_BOUNCE, "\"diagnosticCode\":\"smtp; 550 5.1.1 user unknown\"");
        cr_assert_eq(postfix_get_counts(postfix)->delays_suppressed, 1);
        cr_assert_eq(postfix_get_counts(postfix)->outcomes_other, 0);
        close_feed(postfix, &seen);
}

/* As nested_header_checks = $header_checks, Postfix's default, logs a message with another one attached. */
#define ATTACHED                                                    \
        CLEANUP("info: header From: Other <other@inner.example>")   \
        CLEANUP("info: header To: eva@inner.example")               \
        CLEANUP("info: header Subject: inner")                      \
        CLEANUP("strip: header X-SES-CONFIGURATION-SET: inner-set") \
        CLEANUP("strip: header X-SES-MESSAGE-TAGS: campaign=inner")

Test(feed_postfix, headers_of_an_attached_message_are_not_the_mails_own, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.configuration_set = SLICE("standard")});
        say(postfix,
            LINE("smtpd", QID ": client=a[192.0.2.9]") CLEANUP("info: header From: News <news@outer.example>")
                    CLEANUP("info: header Subject: outer") CLEANUP("strip: header X-SES-MESSAGE-TAGS: campaign=outer")
                            ATTACHED ACTIVE("1") TRIED("ana@b.example", MX, "2.0.0", "sent", SENT) REMOVED);
        cr_assert_eq(seen.count, 2);
        for (uint32_t i = 0; i < seen.count; i++)
                cr_assert_null(strstr(seen.json[i], "inner"), "%s", seen.json[i]);
        has(&seen, 1, SENDRING_DELIVERY, "\"commonHeaders\":{\"from\":[\"News <news@outer.example>\"]");
        has(&seen, 1, SENDRING_DELIVERY, "\"subject\":\"outer\"");
        has(&seen, 1, SENDRING_DELIVERY, "\"ses:configuration-set\":[\"standard\"]");
        has(&seen, 1, SENDRING_DELIVERY, "\"ses:from-domain\":[\"outer.example\"]");
        has(&seen, 1, SENDRING_DELIVERY, "\"campaign\":[\"outer\"]");
        cr_assert_eq(postfix_get_counts(postfix)->headers_attached, 5);
        close_feed(postfix, &seen);
}

Test(feed_postfix, of_a_header_that_is_there_twice_the_first_counts, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, LINE("smtpd", QID ": client=a[192.0.2.9]") CLEANUP("info: header To: ana@b.example")
                             CLEANUP("info: header To: eva@c.example") ACTIVE("1")
                                     TRIED("ana@b.example", MX, "2.0.0", "sent", SENT) REMOVED);
        has(&seen, 1, SENDRING_DELIVERY, "\"to\":[\"ana@b.example\"]");
        cr_assert_eq(postfix_get_counts(postfix)->headers_attached, 0);
        close_feed(postfix, &seen);
}

Test(feed_postfix, own_notifications_probes_and_other_lines_make_no_events, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, LINE("bounce", "4jXtfn5Lghz1TBst: sender non-delivery notification: " QID)
                             LINE("cleanup", QID ": message-id=<2@mta1>")
                                     LINE("qmgr", QID ": from=<>, size=1, nrcpt=1 (queue active)")
                                             TRIED("news@mail.example.com", MX, "2.0.0", "sent", SENT) REMOVED);
        say(postfix,
            LINE("cleanup", "ABCDEF01: message-id=<3@mta1>") LINE(
                    "qmgr", "ABCDEF01: from=<double-bounce@mta1.example.net>, size=1, nrcpt=1 (queue active)")
                    LINE("smtp", "ABCDEF01: to=<a@b.example>, relay=" MX ", delay=1, delays=1/0/0/0, dsn=2.1.5, "
                                 "status=deliverable (250 OK)"));
        say(postfix,
            LINE("smtpd",
                 "NOQUEUE: reject: RCPT from x[192.0.2.1]: 554 5.7.1 <a@b>: Relay access denied; "
                 "from=<c@d> to=<a@b> proto=ESMTP helo=<x>") LINE("anvil", "statistics: max connection rate 1/60s")
                    LINE("smtp", "warning: to=<a@b>, relay=x") "Nov 23 04:45:38 mta1 dovecot: imap: to=<a@b>\n" LINE(
                            "discard",
                            QID ": to=<a@b.example>, relay=none, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent "
                                "(x)"));
        const struct postfix_counts *counts = postfix_get_counts(postfix);
        cr_assert_eq(seen.count, 0);
        cr_assert_eq(seen.unparsed, 0);
        cr_assert_eq(counts->outcomes_notification, 1);
        cr_assert_eq(counts->outcomes_other, 1);
        cr_assert_eq(counts->foreign, 1);
        cr_assert_eq(counts->outcomes_unknown, 1);
        close_feed(postfix, &seen);
}

Test(feed_postfix, local_delivery_counts_only_where_asked_for, .timeout = 20)
{
        static const char text[] = LINE("smtpd", QID ": client=a[192.0.2.9]") ACTIVE("2")
                LINE("local", QID ": to=<bob@mta1>, relay=local, delay=0.1, delays=0/0/0/0.1, dsn=2.0.0, status=sent "
                                  "(delivered to mailbox)")
                        TRIED("ana@b.example", "127.0.0.1[127.0.0.1]:10024", "2.0.0", "sent", SENT) REMOVED;
        struct seen seen;
        struct postfix *postfix =
                open_feed(&seen, (struct postfix_options){.local_relays = {SLICE("127.0.0.1[127.0.0.1]:10024")},
                                                          .local_relays_count = 1});
        say(postfix, text);
        cr_assert_eq(seen.count, 0);
        cr_assert_eq(postfix_get_counts(postfix)->outcomes_local, 2);
        close_feed(postfix, &seen);
        postfix = open_feed(&seen, (struct postfix_options){.local_deliveries = true});
        say(postfix, text);
        cr_assert_eq(seen.count, 3);
        close_feed(postfix, &seen);
}

Test(feed_postfix, a_content_filters_second_message_inherits_the_tags, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(
                &seen, (struct postfix_options){.local_relays = {SLICE("127.0.0.1[")}, .local_relays_count = 1});
        say(postfix,
            BEGIN_TAGGED ACTIVE("1") LINE("smtpd", "4jXtfn5Lghz1TBst: client=localhost[127.0.0.1], orig_queue_id=" QID
                                                   ", orig_client=app.example.com[192.0.2.9]")
                    TRIED("ana@b.example", "127.0.0.1[127.0.0.1]:10024", "2.0.0", "sent", SENT)
                            REMOVED LINE("qmgr", "4jXtfn5Lghz1TBst: from=<news@mail.example.com>, size=331, nrcpt=1 "
                                                 "(queue active)")
                                    LINE("smtp", "4jXtfn5Lghz1TBst: to=<ana@b.example>, relay=" MX
                                                 ", delay=0.4, delays=0/0/0/0.4, dsn=2.0.0, status=sent (" SENT ")"));
        cr_assert_eq(seen.count, 2);
        has(&seen, 1, SENDRING_DELIVERY, "\"ses:configuration-set\":[\"bulk-a\"],\"ses:source-ip\":[\"192.0.2.9\"]");
        has(&seen, 1, SENDRING_DELIVERY, "\"campaign\":[\"book\"]");
        close_feed(postfix, &seen);
}

Test(feed_postfix, only_a_milters_refusal_for_content_is_a_reject, .timeout = 20)
{
#define REFUSAL(reply)                                                                    \
        LINE("cleanup", QID ": milter-reject: END-OF-MESSAGE from app[192.0.2.9]: " reply \
                            "; from=<news@mail.example.com> to=<ana@b.example> proto=ESMTP helo=<app>")
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, BEGIN_TAGGED REFUSAL("5.7.1 virus Eicar-Signature detected by ClamAV"));
        cr_assert_eq(seen.count, 1);
        has(&seen, 0, SENDRING_REJECT, "\"reject\":{\"reason\":\"Bad content\"}");
        has(&seen, 0, SENDRING_REJECT, "\"campaign\":[\"book\"]");
        cr_assert_eq(postfix_messages(postfix), 0);
        say(postfix, BEGIN_TAGGED REFUSAL("5.7.1 rate limit exceeded"));
        say(postfix, BEGIN_TAGGED REFUSAL("4.7.1 virus scanner is away"));
        cr_assert_eq(seen.count, 1);
        cr_assert_eq(postfix_get_counts(postfix)->rejects_other, 2);
        close_feed(postfix, &seen);
}

Test(feed_postfix, a_message_met_in_the_middle_has_outcomes_and_no_send, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, TRIED("ana@b.example", MX, "4.2.2", "deferred", FULL));
        cr_assert_eq(postfix_get_counts(postfix)->outcomes_unknown, 1);
        say(postfix, ACTIVE("1") TRIED("ana@b.example", MX, "2.0.0", "sent", SENT) REMOVED);
        cr_assert_eq(seen.count, 1);
        has(&seen, 0, SENDRING_DELIVERY,
            "\"timestamp\":\"2026-11-23T04:45:37.670Z\",\"source\":\"news@mail.example.com\"");
        cr_assert_eq(postfix_get_counts(postfix)->resumed, 1);
        close_feed(postfix, &seen);
}

Test(feed_postfix, send_waits_for_all_recipients_but_not_beyond_the_second_try, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix,
            LINE("smtpd", QID ": client=a[192.0.2.9]") ACTIVE("3") TRIED("ana@b.example", MX, "2.0.0", "sent", SENT));
        cr_assert_eq(seen.count, 1);
        say(postfix, ACTIVE("2"));
        cr_assert_eq(seen.count, 2);
        has(&seen, 1, SENDRING_SEND, "\"destination\":[\"ana@b.example\"]");
        say(postfix, REMOVED);
        cr_assert_eq(seen.count, 2);
        close_feed(postfix, &seen);
}

Test(feed_postfix, what_is_kept_is_bounded_and_the_quietest_goes_first, .timeout = 60)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.messages_max = 10});
        say(postfix,
            LINE("smtpd", QID ": client=a[192.0.2.9]") ACTIVE("2") TRIED("ana@b.example", MX, "2.0.0", "sent", SENT));
        for (unsigned i = 0; i < 1000; i++) {
                char line[200];
                (void)snprintf(line, sizeof(line), LINE("smtpd", "ABC%05X: client=a[192.0.2.9]"), i);
                say(postfix, line);
        }
        cr_assert_eq(postfix_messages(postfix), 10);
        cr_assert_eq(postfix_get_counts(postfix)->evicted, 991);
        cr_assert_eq(seen.count, 2, "its Send was held back, and told before it was forgotten");
        has(&seen, 1, SENDRING_SEND, "ana@b.example");
        close_feed(postfix, &seen);

        postfix = open_feed(&seen, (struct postfix_options){.state_bytes_max = 100000});
        for (unsigned i = 0; i < 1000; i++) {
                char line[200];
                (void)snprintf(line, sizeof(line), LINE("smtpd", "ABC%05X: client=a[192.0.2.9]"), i);
                say(postfix, line);
        }
        cr_assert_leq(postfix_state_bytes(postfix), 100000);
        cr_assert_gt(postfix_messages(postfix), 5);
        close_feed(postfix, &seen);
}

Test(feed_postfix, a_cut_tag_header_loses_its_last_tag_only, .timeout = 20)
{
        struct seen seen;
        char text[1024], value[256] = "a=1, b=2, c=";
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        memset(value + 12, 'x', 200 - strlen("X-SES-MESSAGE-TAGS: ") - 12);
        (void)snprintf(text, sizeof(text), CLEANUP("strip: header X-SES-MESSAGE-TAGS: %s"), value);
        say(postfix, text);
        say(postfix, ACTIVE("1") TRIED("ana@b.example", MX, "2.0.0", "sent", SENT));
        has(&seen, 0, SENDRING_SEND, "\"a\":[\"1\"],\"b\":[\"2\"]}");
        has(&seen, 0, SENDRING_SEND, "\"headersTruncated\":true");
        cr_assert_eq(postfix_get_counts(postfix)->tags_cut, 1);
        close_feed(postfix, &seen);
}

Test(feed_postfix, tls_versions_are_joined_by_process, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix,
            "Nov 23 04:45:37 mta1 postfix/smtpd[7]: connect from a[192.0.2.9]\n"
            "Nov 23 04:45:37 mta1 postfix/smtpd[7]: Anonymous TLS connection established from a[192.0.2.9]: TLSv1.3 "
            "with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)\n"
            "Nov 23 04:45:37 mta1 postfix/submission/smtpd[7]: " QID ": client=a[192.0.2.9]\n"
            "Nov 23 04:45:37 mta1 postfix/smtp[22614]: Untrusted TLS connection established to " MX ": TLSv1.2 with "
            "cipher X (256/256 bits)\n" ACTIVE("1") TRIED("ana@b.example", MX, "2.0.0", "sent", SENT));
        has(&seen, 1, SENDRING_DELIVERY, "\"ses:source-tls-version\":[\"TLSv1.3\"]");
        has(&seen, 1, SENDRING_DELIVERY, "\"ses:outgoing-tls-version\":[\"TLSv1.2\"]");
        close_feed(postfix, &seen);
}

#define NEXT_MESSAGE(id)                                                                                 \
        LINE("qmgr", id ": from=<news@mail.example.com>, size=331, nrcpt=1 (queue active)")              \
        LINE("smtp", id ": to=<ana@b.example>, relay=" MX ", delay=0.42, delays=0/0.12/0/0.3, dsn=2.0.0" \
                        ", status=sent (" SENT ")")
#define TLS_LINE(what, version) \
        LINE("smtp", "Untrusted TLS connection " what " to " MX ": " version " with cipher X (256/256 bits)")

Test(feed_postfix, an_outgoing_tls_version_is_that_of_one_message, .timeout = 20)
{
        static const char member[] = "\"ses:outgoing-tls-version\"";
        struct seen seen;
        struct slice state, place;
        struct err err = {.text = ""};
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, TLS_LINE("established", "TLSv1.2") ACTIVE("2") TRIED("ana@b.example", MX, "2.0.0", "sent", SENT)
                             TRIED("eva@b.example", MX, "2.0.0", "sent", SENT));
        has(&seen, seen.count - 2, SENDRING_DELIVERY, "\"ses:outgoing-tls-version\":[\"TLSv1.2\"]");
        has(&seen, seen.count - 1, SENDRING_DELIVERY, "\"ses:outgoing-tls-version\":[\"TLSv1.2\"]");
        cr_assert_eq(postfix_state_save(postfix, SLICE_EMPTY, &state), ERR_OK);
        say(postfix, NEXT_MESSAGE("4jXtfn4lsjz1TBsr"));
        has(&seen, seen.count - 1, SENDRING_DELIVERY, "4jXtfn4lsjz1TBsr");
        cr_assert_null(strstr(seen.json[seen.count - 1], member), "%s", seen.json[seen.count - 1]);
        say(postfix, TLS_LINE("reused", "TLSv1.3") NEXT_MESSAGE("4jXtfn4lsjz1TBss"));
        has(&seen, seen.count - 1, SENDRING_DELIVERY, "\"ses:outgoing-tls-version\":[\"TLSv1.3\"]");
        close_feed(postfix, &seen);
        /* Nor does a restart in between make it another one's. */
        postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        cr_assert_eq(postfix_state_load(postfix, state, &place, &err), ERR_OK, "%s", err.text);
        say(postfix, NEXT_MESSAGE("4jXtfn4lsjz1TBsr"));
        has(&seen, seen.count - 1, SENDRING_DELIVERY, "4jXtfn4lsjz1TBsr");
        cr_assert_null(strstr(seen.json[seen.count - 1], member), "%s", seen.json[seen.count - 1]);
        close_feed(postfix, &seen);
        free((void *)(uintptr_t)state.ptr);
}

Test(feed_postfix, the_same_lines_give_the_same_events, .timeout = 20)
{
        struct seen first, second;
        for (int i = 0; i < 2; i++) {
                struct seen *seen = i == 0 ? &first : &second;
                struct postfix *postfix = open_feed(seen, (struct postfix_options){.profile = CLASSIFY_SES});
                say(postfix, BEGIN_TAGGED ACTIVE("1") TRIED("ana@b.example", MX, "5.1.1", "bounced", UNKNOWN));
                postfix_free(postfix);
        }
        cr_assert_eq(first.count, second.count);
        for (uint32_t i = 0; i < first.count; i++)
                cr_assert_str_eq(first.json[i], second.json[i]);
        forget(&first);
        forget(&second);
}

/* ---------------------------------------------------------------------------------------------- time */

Test(feed_postfix, time_stamps_of_every_form, .timeout = 20)
{
        static const struct {
                const char *zone, *stamp;
                int64_t reference_ms;
                const char *wanted; /* NULL: not understood */
        } cases[] = {
                {"UTC", "Nov 23 04:45:38", NOW, "2026-11-23T04:45:38.000Z"},
                {"UTC", "Nov  3 04:45:38", NOW, "2026-11-03T04:45:38.000Z"},
                {"UTC", "Nov 24 04:45:38", NOW, "2026-11-24T04:45:38.000Z"}, /* clocks may be a little apart */
                {"UTC", "Dec 31 23:59:59", NOW, "2025-12-31T23:59:59.000Z"},
                {"UTC", "Dec 31 23:59:59", INT64_C(1767225601000), "2025-12-31T23:59:59.000Z"}, /* 1 s into 2026 */
                {"UTC", "Jan  1 00:00:05", INT64_C(1798761598000), "2027-01-01T00:00:05.000Z"}, /* 2 s before it */
                {"UTC", "Jan  2 00:00:05", INT64_C(1798761598000), "2026-01-02T00:00:05.000Z"}, /* too far ahead */
                {"UTC", "Dec 31 23:59:60", NOW, "2025-12-31T23:59:59.000Z"},                    /* a leap second */
                {"UTC", "Nov 23 04:45:60", NOW, "2026-11-23T04:45:59.000Z"},
                {"UTC", "Nov 23 04:45:61", NOW, NULL},
                {"UTC", "Feb 29 12:00:00", NOW, "2024-02-29T12:00:00.000Z"},
                {"Europe/Berlin", "Nov 23 04:45:38", NOW, "2026-11-23T03:45:38.000Z"},
                {"Europe/Berlin", "Jul  1 04:45:38", NOW, "2026-07-01T02:45:38.000Z"},
                {"Europe/Berlin", "2026-11-23T04:45:38.123456+02:00", NOW, "2026-11-23T02:45:38.123Z"},
                {"UTC", "2026-11-23T04:45:38Z", NOW, "2026-11-23T04:45:38.000Z"},
                {"UTC", "2026-11-23T04:45:38+0530", NOW, "2026-11-22T23:15:38.000Z"},
                {"UTC", "Nov 31 04:45:38", NOW, NULL},
                {"UTC", "Nov 23 24:45:38", NOW, NULL},
                {"UTC", "Nox 23 04:45:38", NOW, NULL},
                {"UTC", "2026-11-23X04:45:38", NOW, NULL},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct seen seen;
                char text[512];
                struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
                setenv("TZ", cases[i].zone, 1);
                tzset();
                (void)snprintf(text, sizeof(text),
                               "%s mta1 postfix/qmgr[1]: ABCDEF01: from=<a@b>, size=1, nrcpt=1 (queue active)",
                               cases[i].stamp);
                cr_assert_eq(postfix_line(postfix, slice_of_text(text), cases[i].reference_ms), ERR_OK);
                (void)snprintf(text, sizeof(text),
                               "%s mta1 postfix/smtp[1]: ABCDEF01: to=<c@d>, relay=none, delay=1, delays=1/0/0/0, "
                               "dsn=5.0.0, status=bounced (x)",
                               cases[i].stamp);
                cr_assert_eq(postfix_line(postfix, slice_of_text(text), cases[i].reference_ms), ERR_OK);
                if (cases[i].wanted == NULL) {
                        cr_assert_eq(seen.unparsed, 2, "%s", cases[i].stamp);
                } else {
                        char wanted[64];
                        (void)snprintf(wanted, sizeof(wanted), "\"timestamp\":\"%s\"", cases[i].wanted);
                        has(&seen, 0, SENDRING_BOUNCE, wanted);
                }
                close_feed(postfix, &seen);
        }
}

/* ---------------------------------------------------------------------------------------------- bad lines */

Test(feed_postfix, every_beginning_of_every_line_is_survived, .timeout = 120)
{
        static const char text[] = BEGIN_TAGGED ACTIVE("2") TRIED("\"a\\\"b\"@b.example", MX, "4.2.2", "deferred", FULL)
                TRIED("b@b.example", MX, "5.1.1", "bounced", UNKNOWN) EXPIRED REFUSAL(
                        "5.7.1 virus") "2026-11-23T04:45:38.1+00:00 mta1 postfix/smtp[1]: ABCDEF01: to=<x>\n";
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        for (struct slice rest = slice_of_text(text); rest.len > 0;) {
                struct slice line = slice_cut(&rest, '\n');
                for (size_t len = 0; len <= line.len; len++)
                        cr_assert_eq(postfix_line(postfix, guard_page_copy(slice_head(line, len)), NOW), ERR_OK);
        }
        cr_assert_gt(seen.unparsed, 0);
        close_feed(postfix, &seen);
}

Test(feed_postfix, a_line_that_should_be_understood_and_is_not_is_counted, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, "hello\n" LINE("smtp", QID ": to=<a@b>, status=sent (x)") LINE("qmgr", QID ": from=<a")
                             LINE("cleanup", QID ": strip: header nothing here"));
        cr_assert_eq(seen.unparsed, 4);
        cr_assert_eq(postfix_get_counts(postfix)->unparsed, 4);
        close_feed(postfix, &seen);
}

Test(feed_postfix, a_callback_that_stops_ends_the_line, .timeout = 20)
{
        struct seen seen;
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, LINE("smtpd", QID ": client=a[192.0.2.9]") ACTIVE("1"));
        seen.stop_at = 2;
        const char *line = TRIED("ana@b.example", MX, "2.0.0", "sent", SENT);
        cr_assert_eq(postfix_line(postfix, slice_of(line, strlen(line) - 1), NOW), ERR_BUSY);
        cr_assert_eq(seen.count, 1);
        close_feed(postfix, &seen);
}

/* ---------------------------------------------------------------------------------------------- classification */

Test(feed_classify, follows_the_table, .timeout = 20)
{
        static const struct {
                const char *status, *text;
                bool from_peer, expired;
                const char *bounce, *delay;
        } cases[] = {
                {"5.1.1", "550 5.1.1 user unknown", true, false, "Permanent/General", "RecipientServerError"},
                {"5.1.6", "550 5.1.6 moved", true, false, "Permanent/General", "RecipientServerError"},
                {"5.1.2", "Host not found", false, false, "Permanent/General", "TransientCommunicationFailure"},
                {"5.1.10", "null MX", false, false, "Permanent/General", "TransientCommunicationFailure"},
                {"5.4.4", "Host or domain name not found. Name service error for name=x type=A: Host not found", false,
                 false, "Permanent/General", "TransientCommunicationFailure"},
                {"4.4.3",
                 "Host or domain name not found. Name service error for name=x type=MX: Host not found, try again",
                 false, true, "Transient/General", "TransientCommunicationFailure"},
                {"5.2.1", "550 5.2.1 disabled", true, false, "Permanent/General", "RecipientServerError"},
                {"5.7.13", "550 5.7.13 disabled", true, false, "Permanent/General", "RecipientServerError"},
                {"5.2.2", "552 5.2.2 over quota", true, false, "Transient/MailboxFull", "MailboxFull"},
                {"4.3.1", "452 4.3.1 Insufficient storage", true, false, "Transient/MailboxFull", "MailboxFull"},
                {"5.2.3", "552 5.2.3 size", true, false, "Transient/MessageTooLarge", "General"},
                {"5.3.4", "552 5.3.4 Message size exceeds fixed limit", true, false, "Transient/MessageTooLarge",
                 "General"},
                {"4.4.1", "connect to mx[1.2.3.4]:25: Connection timed out", false, true, "Transient/General",
                 "TransientCommunicationFailure"},
                {"4.4.2", "lost connection with mx", false, false, "Transient/General",
                 "TransientCommunicationFailure"},
                {"4.4.7", "delivery time expired", false, true, "Transient/General", "TransientCommunicationFailure"},
                {"5.7.1", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", true,
                 false, "Transient/General", "IPFailure"},
                {"5.7.26", "550 5.7.26 Unauthenticated email is not accepted", true, false, "Transient/General",
                 "General"},
                {"5.7.1", "550 5.7.1 This looks like spam", true, false, "Transient/ContentRejected", "SpamDetected"},
                {"5.6.0", "554 5.6.0 bad MIME", true, false, "Transient/ContentRejected", "SpamDetected"},
                {"5.7.0", "552 5.7.0 virus found", true, false, "Transient/AttachmentRejected", "General"},
                {"4.3.2", "421 4.3.2 try later", true, false, "Transient/General", "RecipientServerError"},
                {"4.3.0", "mail transport unavailable", false, false, "Transient/General", "InternalFailure"},
                {"4.0.0", "421 closing", true, false, "Transient/General", "RecipientServerError"},
                {"5.0.0", "550 no such user here", true, false, "Permanent/General", "RecipientServerError"},
                {"5.0.0", "550 no", true, false, "Permanent/General", "General"},
                {"4.0.0", "unheard of", false, false, "Undetermined/Undetermined", "Undetermined"},
                {"", "", false, false, "Undetermined/Undetermined", "Undetermined"},
                {"4.1.1", "450 4.1.1 unverified", true, true, "Transient/General", "RecipientServerError"},
                {"4.0.0", "unheard of", false, true, "Transient/General", "Undetermined"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char bounce[80];
                struct classify_verdict verdict =
                        classify(CLASSIFY_SES, slice_of_text(cases[i].status),
                                 guard_page_copy(slice_of_text(cases[i].text)), cases[i].from_peer, cases[i].expired);
                (void)snprintf(bounce, sizeof(bounce), "%s/%s", verdict.bounce_type, verdict.bounce_sub_type);
                cr_assert_str_eq(bounce, cases[i].bounce, "%s %s", cases[i].status, cases[i].text);
                cr_assert_str_eq(verdict.delay_type, cases[i].delay, "%s %s", cases[i].status, cases[i].text);
        }
        struct classify_verdict strict =
                classify(CLASSIFY_STRICT, SLICE("5.1.1"), SLICE("550 5.1.1 user unknown"), true, false);
        cr_assert_str_eq(strict.bounce_sub_type, "NoEmail");
}
