/* The ten events of the SES developer guide's examples, filled in as a producer would: what the golden files in
 * tests/data/events/ hold. */
#ifndef SENDRING_TESTS_CODEC_EVENTS_H
#define SENDRING_TESTS_CODEC_EVENTS_H

#include "codecs/codec.h"

#define CODEC_EVENTS_ID      "0100019b7ca98f2e-4a1f0c52-7d1e-4f0b-9c55-2f6f0e3b7a10-000000"
#define CODEC_EVENTS_TIME    INT64_C(1767323045678) /* 2026-01-02T03:04:05.678Z */
#define CODEC_EVENTS_ACCOUNT "123456789012"
#define CODEC_EVENTS_ARN     "arn:aws:ses:us-east-1:123456789012:identity/mail.example.com"
#define CODEC_EVENTS_LIST(x)                    \
        {                                       \
                (x), sizeof(x) / sizeof((x)[0]) \
        }

/* For initialisers of static objects, where SENDRING_STR() is no constant. */
#define CODEC_EVENTS_TEXT(literal)              \
        {                                       \
                "" literal, sizeof(literal) - 1 \
        }

static const struct sendring_str codec_events_ana[] = {CODEC_EVENTS_TEXT("ana@recipient.example.com")};
static const struct sendring_str codec_events_from[] = {CODEC_EVENTS_TEXT("Example News <news@mail.example.com>")};
static const struct sendring_pair codec_events_tags[] = {
        {CODEC_EVENTS_TEXT("campaign"), CODEC_EVENTS_TEXT("april")},
        {CODEC_EVENTS_TEXT("genre"), CODEC_EVENTS_TEXT("sci-fi")},
};
static const struct sendring_pair codec_events_headers[] = {
        {CODEC_EVENTS_TEXT("From"), CODEC_EVENTS_TEXT("Example News <news@mail.example.com>")},
        {CODEC_EVENTS_TEXT("To"), CODEC_EVENTS_TEXT("ana@recipient.example.com")},
        {CODEC_EVENTS_TEXT("Subject"), CODEC_EVENTS_TEXT("April offers")},
        {CODEC_EVENTS_TEXT("MIME-Version"), CODEC_EVENTS_TEXT("1.0")},
};
static const struct sendring_recipient codec_events_bounced[] = {{
        .email_address = CODEC_EVENTS_TEXT("ana@recipient.example.com"),
        .action = CODEC_EVENTS_TEXT("failed"),
        .status = CODEC_EVENTS_TEXT("5.1.1"),
        .diagnostic_code = CODEC_EVENTS_TEXT("smtp; 550 5.1.1 user unknown"),
}};
static const struct sendring_recipient codec_events_delayed[] = {{
        .email_address = CODEC_EVENTS_TEXT("ana@recipient.example.com"),
        .status = CODEC_EVENTS_TEXT("4.4.1"),
        .diagnostic_code = CODEC_EVENTS_TEXT("smtp; 421 4.4.1 connection timed out"),
}};
static const struct sendring_topic codec_events_out[] = {{CODEC_EVENTS_TEXT("offers"), CODEC_EVENTS_TEXT("OptOut")}};
static const struct sendring_topic codec_events_in[] = {{CODEC_EVENTS_TEXT("offers"), CODEC_EVENTS_TEXT("OptIn")}};
static const struct sendring_pair codec_events_link_tags[] = {
        {CODEC_EVENTS_TEXT("product"), CODEC_EVENTS_TEXT("book")},
        {CODEC_EVENTS_TEXT("genre"), CODEC_EVENTS_TEXT("fiction")},
};

/* The golden file of each type, without ".json". */
static const char *const codec_events_names[CODEC_EVENT_TYPES_COUNT + 1] = {
        [SENDRING_SEND] = "send",
        [SENDRING_RENDERING_FAILURE] = "rendering-failure",
        [SENDRING_REJECT] = "reject",
        [SENDRING_DELIVERY] = "delivery",
        [SENDRING_BOUNCE] = "bounce",
        [SENDRING_COMPLAINT] = "complaint",
        [SENDRING_DELIVERY_DELAY] = "delivery-delay",
        [SENDRING_SUBSCRIPTION] = "subscription",
        [SENDRING_OPEN] = "open",
        [SENDRING_CLICK] = "click",
};

static inline void codec_events_fill_mail(struct sendring_mail *mail, bool with_headers)
{
        mail->configuration_set = SENDRING_STR("bulk-a");
        mail->tags = (struct sendring_pairs)CODEC_EVENTS_LIST(codec_events_tags);
        mail->timestamp_ms = CODEC_EVENTS_TIME;
        mail->message_id = SENDRING_STR(CODEC_EVENTS_ID);
        mail->source = SENDRING_STR("news@mail.example.com");
        mail->source_arn = SENDRING_STR(CODEC_EVENTS_ARN);
        mail->sending_account_id = SENDRING_STR(CODEC_EVENTS_ACCOUNT);
        mail->destination = (struct sendring_strs)CODEC_EVENTS_LIST(codec_events_ana);
        mail->operation = SENDRING_STR("SendRawEmail");
        mail->source_ip = SENDRING_STR("192.0.2.10");
        mail->from_domain = SENDRING_STR("mail.example.com");
        mail->caller_identity = SENDRING_STR("mta-01");
        mail->source_tls_version = SENDRING_STR("TLSv1.3");
        mail->outgoing_ip = SENDRING_STR("198.51.100.7");
        mail->outgoing_tls_version = SENDRING_STR("TLSv1.3");
        if (!with_headers)
                return;
        mail->headers = (struct sendring_pairs)CODEC_EVENTS_LIST(codec_events_headers);
        mail->common_headers.from = (struct sendring_strs)CODEC_EVENTS_LIST(codec_events_from);
        mail->common_headers.to = (struct sendring_strs)CODEC_EVENTS_LIST(codec_events_ana);
        mail->common_headers.subject = SENDRING_STR("April offers");
}

static inline void codec_events_fill(struct sendring_event *event, enum sendring_event_type type)
{
        codec_event_init(event, type);
        codec_events_fill_mail(&event->mail, type != SENDRING_RENDERING_FAILURE && type != SENDRING_DELIVERY_DELAY);
        switch (type) {
        case SENDRING_SEND:
                return;
        case SENDRING_RENDERING_FAILURE:
                event->failure.template_name = SENDRING_STR("april-template");
                event->failure.error_message =
                        SENDRING_STR("Attribute 'first_name' is not present in the rendering data.");
                return;
        case SENDRING_REJECT:
                return; /* the reason has a default */
        case SENDRING_DELIVERY:
                event->delivery.timestamp_ms = CODEC_EVENTS_TIME + 1434;
                event->delivery.processing_time_millis = 1434;
                event->delivery.recipients = (struct sendring_strs)CODEC_EVENTS_LIST(codec_events_ana);
                event->delivery.smtp_response = SENDRING_STR("250 2.0.0 OK 1767323047 queued");
                event->delivery.remote_mta_ip = SENDRING_STR("203.0.113.25");
                event->delivery.reporting_mta = SENDRING_STR("out7.mail.example.com");
                return;
        case SENDRING_BOUNCE:
                event->bounce.feedback_id =
                        SENDRING_STR("0100019b7ca99841-0c8b2f0e-5b39-4b52-9a40-0d6f2b8e9911-000000");
                event->bounce.bounce_type = SENDRING_STR("Permanent");
                event->bounce.bounce_sub_type = SENDRING_STR("General");
                event->bounce.bounced_recipients = (struct sendring_recipients)CODEC_EVENTS_LIST(codec_events_bounced);
                event->bounce.timestamp_ms = INT64_C(1767323048001);
                event->bounce.remote_mta_ip = SENDRING_STR("203.0.113.25");
                event->bounce.reporting_mta = SENDRING_STR("dns; out7.mail.example.com");
                return;
        case SENDRING_COMPLAINT:
                event->complaint.feedback_id =
                        SENDRING_STR("0100019b7d13ac80-9f1d2b3c-1a2b-4c3d-8e4f-5a6b7c8d9e0f-000000");
                event->complaint.complained_recipients = (struct sendring_strs)CODEC_EVENTS_LIST(codec_events_ana);
                event->complaint.timestamp_ms = INT64_C(1767330000000);
                event->complaint.user_agent = SENDRING_STR("ExampleFBL/1.0");
                event->complaint.complaint_feedback_type = SENDRING_STR("abuse");
                event->complaint.arrival_date_ms = INT64_C(1767323047000);
                return;
        case SENDRING_DELIVERY_DELAY:
                event->delivery_delay.timestamp_ms = INT64_C(1767323345000);
                event->delivery_delay.delay_type = SENDRING_STR("TransientCommunicationFailure");
                event->delivery_delay.expiration_time_ms = CODEC_EVENTS_TIME + 14 * INT64_C(3600000);
                event->delivery_delay.reporting_mta = SENDRING_STR("198.51.100.7");
                event->delivery_delay.delayed_recipients =
                        (struct sendring_recipients)CODEC_EVENTS_LIST(codec_events_delayed);
                return;
        case SENDRING_SUBSCRIPTION:
                event->subscription.contact_list = SENDRING_STR("weekly");
                event->subscription.timestamp_ms = INT64_C(1767344400000);
                event->subscription.source = SENDRING_STR("UnsubscribeHeader");
                event->subscription.new_topic_preferences.unsubscribe_all = 1;
                event->subscription.new_topic_preferences.topic_subscription_status =
                        (struct sendring_topics)CODEC_EVENTS_LIST(codec_events_out);
                event->subscription.old_topic_preferences.topic_subscription_status =
                        (struct sendring_topics)CODEC_EVENTS_LIST(codec_events_in);
                return;
        case SENDRING_OPEN:
                event->open.timestamp_ms = INT64_C(1767334211000);
                event->open.user_agent = SENDRING_STR("ExampleMail/4.2 (Linux)");
                event->open.ip_address = SENDRING_STR("192.0.2.99");
                event->open.is_bot_event = SENDRING_STR("Unlikely");
                return;
        case SENDRING_CLICK:
                event->click.timestamp_ms = INT64_C(1767334260000);
                event->click.ip_address = SENDRING_STR("192.0.2.99");
                event->click.user_agent = SENDRING_STR("ExampleMail/4.2 (Linux)");
                event->click.link = SENDRING_STR("https://shop.example.com/april?id=7");
                event->click.link_tags = (struct sendring_pairs)CODEC_EVENTS_LIST(codec_events_link_tags);
                event->click.is_bot_event = SENDRING_STR("Unlikely");
                return;
        }
}

#endif
