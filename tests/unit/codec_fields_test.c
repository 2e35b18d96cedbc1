/* Every field of the SES developer guide's "Contents of event data that Amazon SES publishes", one row each: its place
 * in the C API and its place in the published record. A field that gets lost between the two, a member of the record
 * that no row names, and a member of the C API that no row covers, all fail here. */
#include "codecs/codec.h"
#include "tests/support/codec_events.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>

TestSuite(codec_fields, .timeout = 30);

/* An event of which everything is given, each list with one element. */
struct full {
        struct sendring_event event;
        struct sendring_pair header, tag, link_tag;
        struct sendring_str destination, from, to, cc, bcc, reply_to, recipient;
        struct sendring_recipient recipients;
        struct sendring_topic new_status, new_default, old_status, old_default;
};

enum row_kind { TEXT, TIME, COUNT, FLAG, LIST, SWITCH };

struct row {
        unsigned types;
        enum row_kind kind;
        const char *path; /* in the record; of a LIST, of the array or object */
        const char *also; /* published there too */
        size_t offset, bytes;
};

#define BIT(type) (1u << SENDRING_##type)
#define ALL       0x7feu
#define FULL_TAGS (ALL & ~(BIT(RENDERING_FAILURE) | BIT(DELIVERY_DELAY)))
#define AT(field) offsetof(struct full, field), sizeof(((struct full *)NULL)->field)

static const struct row rows[] = {
        /* 1.3 mail */
        {ALL, TIME, "mail.timestamp", NULL, AT(event.mail.timestamp_ms)},
        {ALL, TEXT, "mail.source", NULL, AT(event.mail.source)},
        {ALL & ~(BIT(OPEN) | BIT(CLICK)), TEXT, "mail.sourceArn", NULL, AT(event.mail.source_arn)},
        {ALL, TEXT, "mail.sendingAccountId", NULL, AT(event.mail.sending_account_id)},
        {ALL, TEXT, "mail.messageId", "mail.commonHeaders.messageId", AT(event.mail.message_id)},
        {ALL, LIST, "mail.destination", NULL, AT(event.mail.destination)},
        {ALL, TEXT, "mail.destination.0", NULL, AT(destination)},
        {ALL, FLAG, "mail.headersTruncated", NULL, AT(event.mail.headers_truncated)},
        {ALL, LIST, "mail.headers", NULL, AT(event.mail.headers)},
        {ALL, TEXT, "mail.headers.0.name", NULL, AT(header.name)},
        {ALL, TEXT, "mail.headers.0.value", NULL, AT(header.value)},
        {ALL, SWITCH, "", NULL, AT(event.mail.headers_present)},
        {ALL, LIST, "mail.commonHeaders.from", NULL, AT(event.mail.common_headers.from)},
        {ALL, TEXT, "mail.commonHeaders.from.0", NULL, AT(from)},
        {ALL, LIST, "mail.commonHeaders.to", NULL, AT(event.mail.common_headers.to)},
        {ALL, TEXT, "mail.commonHeaders.to.0", NULL, AT(to)},
        {ALL, LIST, "mail.commonHeaders.cc", NULL, AT(event.mail.common_headers.cc)},
        {ALL, TEXT, "mail.commonHeaders.cc.0", NULL, AT(cc)},
        {ALL, LIST, "mail.commonHeaders.bcc", NULL, AT(event.mail.common_headers.bcc)},
        {ALL, TEXT, "mail.commonHeaders.bcc.0", NULL, AT(bcc)},
        {ALL, LIST, "mail.commonHeaders.replyTo", NULL, AT(event.mail.common_headers.reply_to)},
        {ALL, TEXT, "mail.commonHeaders.replyTo.0", NULL, AT(reply_to)},
        {ALL, TEXT, "mail.commonHeaders.date", NULL, AT(event.mail.common_headers.date)},
        {ALL, TEXT, "mail.commonHeaders.subject", NULL, AT(event.mail.common_headers.subject)},
        {ALL, LIST, "mail.tags", NULL, AT(event.mail.tags)},
        {FULL_TAGS, TEXT, "mail.tags.campaign.0", NULL, AT(tag.value)},
        /* 2.1, the auto-tags */
        {ALL, TEXT, "mail.tags.ses:configuration-set.0", NULL, AT(event.mail.configuration_set)},
        {FULL_TAGS, TEXT, "mail.tags.ses:caller-identity.0", NULL, AT(event.mail.caller_identity)},
        {FULL_TAGS, TEXT, "mail.tags.ses:from-domain.0", NULL, AT(event.mail.from_domain)},
        {FULL_TAGS, TEXT, "mail.tags.ses:source-ip.0", NULL, AT(event.mail.source_ip)},
        {FULL_TAGS, TEXT, "mail.tags.ses:source-tls-version.0", NULL, AT(event.mail.source_tls_version)},
        {FULL_TAGS, TEXT, "mail.tags.ses:operation.0", NULL, AT(event.mail.operation)},
        {BIT(DELIVERY), TEXT, "mail.tags.ses:outgoing-ip.0", NULL, AT(event.mail.outgoing_ip)},
        {BIT(DELIVERY), TEXT, "mail.tags.ses:outgoing-tls-version.0", NULL, AT(event.mail.outgoing_tls_version)},
        /* 1.4 event objects */
        {BIT(RENDERING_FAILURE), TEXT, "failure.templateName", NULL, AT(event.failure.template_name)},
        {BIT(RENDERING_FAILURE), TEXT, "failure.errorMessage", NULL, AT(event.failure.error_message)},
        {BIT(REJECT), TEXT, "reject.reason", NULL, AT(event.reject.reason)},
        {BIT(DELIVERY), TIME, "delivery.timestamp", NULL, AT(event.delivery.timestamp_ms)},
        {BIT(DELIVERY), COUNT, "delivery.processingTimeMillis", NULL, AT(event.delivery.processing_time_millis)},
        {BIT(DELIVERY), LIST, "delivery.recipients", NULL, AT(event.delivery.recipients)},
        {BIT(DELIVERY), TEXT, "delivery.recipients.0", NULL, AT(recipient)},
        {BIT(DELIVERY), TEXT, "delivery.smtpResponse", NULL, AT(event.delivery.smtp_response)},
        {BIT(DELIVERY), TEXT, "delivery.remoteMtaIp", NULL, AT(event.delivery.remote_mta_ip)},
        {BIT(DELIVERY), TEXT, "delivery.reportingMTA", NULL, AT(event.delivery.reporting_mta)},
        {BIT(BOUNCE), TEXT, "bounce.feedbackId", NULL, AT(event.bounce.feedback_id)},
        {BIT(BOUNCE), TEXT, "bounce.bounceType", NULL, AT(event.bounce.bounce_type)},
        {BIT(BOUNCE), TEXT, "bounce.bounceSubType", NULL, AT(event.bounce.bounce_sub_type)},
        {BIT(BOUNCE), LIST, "bounce.bouncedRecipients", NULL, AT(event.bounce.bounced_recipients)},
        {BIT(BOUNCE), TEXT, "bounce.bouncedRecipients.0.emailAddress", NULL, AT(recipients.email_address)},
        {BIT(BOUNCE), TEXT, "bounce.bouncedRecipients.0.action", NULL, AT(recipients.action)},
        {BIT(BOUNCE), TEXT, "bounce.bouncedRecipients.0.status", NULL, AT(recipients.status)},
        {BIT(BOUNCE), TEXT, "bounce.bouncedRecipients.0.diagnosticCode", NULL, AT(recipients.diagnostic_code)},
        {BIT(BOUNCE), TIME, "bounce.timestamp", NULL, AT(event.bounce.timestamp_ms)},
        {BIT(BOUNCE), TEXT, "bounce.remoteMtaIp", NULL, AT(event.bounce.remote_mta_ip)},
        {BIT(BOUNCE), TEXT, "bounce.reportingMTA", NULL, AT(event.bounce.reporting_mta)},
        {BIT(COMPLAINT), TEXT, "complaint.feedbackId", NULL, AT(event.complaint.feedback_id)},
        {BIT(COMPLAINT), TEXT, "complaint.complaintSubType", NULL, AT(event.complaint.complaint_sub_type)},
        {BIT(COMPLAINT), LIST, "complaint.complainedRecipients", NULL, AT(event.complaint.complained_recipients)},
        {BIT(COMPLAINT), TEXT, "complaint.complainedRecipients.0.emailAddress", NULL, AT(recipient)},
        {BIT(COMPLAINT), TIME, "complaint.timestamp", NULL, AT(event.complaint.timestamp_ms)},
        {BIT(COMPLAINT), TEXT, "complaint.userAgent", NULL, AT(event.complaint.user_agent)},
        {BIT(COMPLAINT), TEXT, "complaint.complaintFeedbackType", NULL, AT(event.complaint.complaint_feedback_type)},
        {BIT(COMPLAINT), TIME, "complaint.arrivalDate", NULL, AT(event.complaint.arrival_date_ms)},
        {BIT(DELIVERY_DELAY), TIME, "deliveryDelay.timestamp", NULL, AT(event.delivery_delay.timestamp_ms)},
        {BIT(DELIVERY_DELAY), TEXT, "deliveryDelay.delayType", NULL, AT(event.delivery_delay.delay_type)},
        {BIT(DELIVERY_DELAY), TIME, "deliveryDelay.expirationTime", NULL, AT(event.delivery_delay.expiration_time_ms)},
        {BIT(DELIVERY_DELAY), LIST, "deliveryDelay.delayedRecipients", NULL,
         AT(event.delivery_delay.delayed_recipients)},
        {BIT(DELIVERY_DELAY), TEXT, "deliveryDelay.delayedRecipients.0.emailAddress", NULL,
         AT(recipients.email_address)},
        {BIT(DELIVERY_DELAY), TEXT, "deliveryDelay.delayedRecipients.0.status", NULL, AT(recipients.status)},
        {BIT(DELIVERY_DELAY), TEXT, "deliveryDelay.delayedRecipients.0.diagnosticCode", NULL,
         AT(recipients.diagnostic_code)},
        {BIT(DELIVERY_DELAY), TEXT, "deliveryDelay.reportingMTA", NULL, AT(event.delivery_delay.reporting_mta)},
        {BIT(SUBSCRIPTION), TEXT, "subscription.contactList", NULL, AT(event.subscription.contact_list)},
        {BIT(SUBSCRIPTION), TIME, "subscription.timestamp", NULL, AT(event.subscription.timestamp_ms)},
        {BIT(SUBSCRIPTION), TEXT, "subscription.source", NULL, AT(event.subscription.source)},
#define PREFERENCES(json, side)                                                                                       \
        {BIT(SUBSCRIPTION), FLAG, "subscription." json ".unsubscribeAll", NULL,                                       \
         AT(event.subscription.side##_topic_preferences.unsubscribe_all)},                                            \
                {BIT(SUBSCRIPTION), LIST, "subscription." json ".topicSubscriptionStatus", NULL,                      \
                 AT(event.subscription.side##_topic_preferences.topic_subscription_status)},                          \
                {BIT(SUBSCRIPTION), TEXT, "subscription." json ".topicSubscriptionStatus.0.topicName", NULL,          \
                 AT(side##_status.topic_name)},                                                                       \
                {BIT(SUBSCRIPTION), TEXT, "subscription." json ".topicSubscriptionStatus.0.subscriptionStatus", NULL, \
                 AT(side##_status.subscription_status)},                                                              \
                {BIT(SUBSCRIPTION), LIST, "subscription." json ".topicDefaultSubscriptionStatus", NULL,               \
                 AT(event.subscription.side##_topic_preferences.topic_default_subscription_status)},                  \
                {BIT(SUBSCRIPTION), TEXT, "subscription." json ".topicDefaultSubscriptionStatus.0.topicName", NULL,   \
                 AT(side##_default.topic_name)},                                                                      \
        {                                                                                                             \
                BIT(SUBSCRIPTION), TEXT, "subscription." json ".topicDefaultSubscriptionStatus.0.subscriptionStatus", \
                        NULL, AT(side##_default.subscription_status)                                                  \
        }
        PREFERENCES("newTopicPreferences", new),
        PREFERENCES("oldTopicPreferences", old),
        {BIT(OPEN), TIME, "open.timestamp", NULL, AT(event.open.timestamp_ms)},
        {BIT(OPEN), TEXT, "open.userAgent", NULL, AT(event.open.user_agent)},
        {BIT(OPEN), TEXT, "open.ipAddress", NULL, AT(event.open.ip_address)},
        {BIT(OPEN), TEXT, "open.isBotEvent", NULL, AT(event.open.is_bot_event)},
        {BIT(CLICK), TIME, "click.timestamp", NULL, AT(event.click.timestamp_ms)},
        {BIT(CLICK), TEXT, "click.ipAddress", NULL, AT(event.click.ip_address)},
        {BIT(CLICK), TEXT, "click.userAgent", NULL, AT(event.click.user_agent)},
        {BIT(CLICK), TEXT, "click.link", NULL, AT(event.click.link)},
        {BIT(CLICK), LIST, "click.linkTags", NULL, AT(event.click.link_tags)},
        {BIT(CLICK), TEXT, "click.linkTags.product.0", NULL, AT(link_tag.value)},
        {BIT(CLICK), TEXT, "click.isBotEvent", NULL, AT(event.click.is_bot_event)},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static void full_fill(struct full *full, enum sendring_event_type type)
{
        memset(full, 0, sizeof(*full));
        sendring_event_init(&full->event, type);
        struct sendring_event *event = &full->event;
        struct sendring_mail *mail = &event->mail;
        full->header.name = SENDRING_STR("Subject");
        full->tag.name = SENDRING_STR("campaign");
        full->link_tag.name = SENDRING_STR("product");
        mail->headers = (struct sendring_pairs){&full->header, 1};
        mail->tags = (struct sendring_pairs){&full->tag, 1};
        mail->destination = (struct sendring_strs){&full->destination, 1};
        mail->common_headers.from = (struct sendring_strs){&full->from, 1};
        mail->common_headers.to = (struct sendring_strs){&full->to, 1};
        mail->common_headers.cc = (struct sendring_strs){&full->cc, 1};
        mail->common_headers.bcc = (struct sendring_strs){&full->bcc, 1};
        mail->common_headers.reply_to = (struct sendring_strs){&full->reply_to, 1};
        if (type == SENDRING_DELIVERY)
                event->delivery.recipients = (struct sendring_strs){&full->recipient, 1};
        if (type == SENDRING_COMPLAINT)
                event->complaint.complained_recipients = (struct sendring_strs){&full->recipient, 1};
        if (type == SENDRING_BOUNCE)
                event->bounce.bounced_recipients = (struct sendring_recipients){&full->recipients, 1};
        if (type == SENDRING_DELIVERY_DELAY)
                event->delivery_delay.delayed_recipients = (struct sendring_recipients){&full->recipients, 1};
        if (type == SENDRING_CLICK)
                event->click.link_tags = (struct sendring_pairs){&full->link_tag, 1};
        if (type == SENDRING_SUBSCRIPTION) {
                struct sendring_topic_preferences *new_ones = &event->subscription.new_topic_preferences;
                struct sendring_topic_preferences *old_ones = &event->subscription.old_topic_preferences;
                new_ones->topic_subscription_status = (struct sendring_topics){&full->new_status, 1};
                new_ones->topic_default_subscription_status = (struct sendring_topics){&full->new_default, 1};
                old_ones->topic_subscription_status = (struct sendring_topics){&full->old_status, 1};
                old_ones->topic_default_subscription_status = (struct sendring_topics){&full->old_default, 1};
        }
}

/* Sets the field to something that no other field holds; returns what must stand in the record. */
static json_t *row_set(struct full *full, size_t number, int round, char text[64])
{
        const struct row *row = &rows[number];
        uint8_t *at = (uint8_t *)full + row->offset;
        int64_t value = INT64_C(1000) * (int64_t)number + round;
        int flag = round;
        struct sendring_str str = {text, (size_t)snprintf(text, 64, "v%zu-%d", number, round)};
        switch (row->kind) {
        case TEXT:
                memcpy(at, &str, sizeof(str));
                return json_string(text);
        case TIME: {
                char stamp[32];
                value += INT64_C(1767323045000);
                memcpy(at, &value, sizeof(value));
                time_t seconds = (time_t)(value / 1000);
                struct tm tm;
                (void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &tm));
                (void)snprintf(text, 64, "%s.%03dZ", stamp, (int)(value % 1000));
                return json_string(text);
        }
        case COUNT:
                memcpy(at, &value, sizeof(value));
                return json_integer(value);
        case FLAG:
                memcpy(at, &flag, sizeof(flag));
                return json_boolean(flag);
        case LIST:
        case SWITCH:
                break;
        }
        return NULL;
}

static json_t *publish(const struct sendring_event *event)
{
        static uint8_t wire[65536], json[131072];
        struct err err = {.text = ""};
        struct codec_view view;
        size_t bytes = 0;
        cr_assert_eq(codec_event_encode(event, wire, sizeof(wire), &bytes, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(codec_view_decode(slice_of(wire, bytes), &view, &err), ERR_OK, "%s", err.text);
        bytes = codec_json_encode(&view, NULL, json, sizeof(json));
        json_t *root = json_loadb((const char *)json, bytes, JSON_REJECT_DUPLICATES, NULL);
        cr_assert_not_null(root);
        return root;
}

/* What lies at `path`, or NULL. With `replace`, put there instead (stolen). */
static json_t *at_path(json_t *value, const char *path, json_t *replace)
{
        for (;;) {
                char part[64];
                size_t bytes = strcspn(path, ".");
                memcpy(part, path, bytes);
                part[bytes] = '\0';
                path += bytes + (path[bytes] == '.');
                if (*path == '\0' && replace != NULL) {
                        if (json_is_array(value))
                                json_array_set_new(value, (size_t)(part[0] - '0'), replace);
                        else
                                json_object_set_new(value, part, replace);
                        return NULL;
                }
                value = json_is_array(value) ? json_array_get(value, (size_t)(part[0] - '0'))
                                             : json_object_get(value, part);
                if (value == NULL || *path == '\0')
                        return value;
        }
}

static void check_row(struct full *full, size_t number, const json_t *before)
{
        const struct row *row = &rows[number];
        bool published = (row->types & (1u << full->event.type)) != 0;
        char text[64], again[64];
        json_t *expected = row_set(full, number, 1, text), *should = json_deep_copy(before);
        if (published) {
                cr_assert_not_null(at_path(should, row->path, NULL), "%s has no %s",
                                   codec_event_type_name(full->event.type), row->path);
                at_path(should, row->path, json_incref(expected));
                if (row->also != NULL)
                        at_path(should, row->also, json_incref(expected));
        }
        json_t *is = publish(&full->event);
        cr_assert(json_equal(is, should), "%s: %s is not what was given, or it changed something else",
                  codec_event_type_name(full->event.type), row->path);
        json_decref(row_set(full, number, 0, again)); /* undone: `again` lives as long as this call only */
        json_decref(expected);
        json_decref(should);
        json_decref(is);
}

static bool is_named(const char *path, enum sendring_event_type type)
{
        if (strcmp(path, "eventType") == 0 || strcmp(path, "send") == 0)
                return true;
        for (size_t i = 0; i < ROWS; i++)
                if ((rows[i].types & (1u << type)) != 0 &&
                    (strcmp(path, rows[i].path) == 0 || (rows[i].also != NULL && strcmp(path, rows[i].also) == 0)))
                        return true;
        return false;
}

/* Every leaf of the record is the path of a row. */
static void check_leaves(const json_t *value, const char *path, enum sendring_event_type type)
{
        char below[256];
        const char *key;
        json_t *child;
        size_t index, leaves = 0;
        json_object_foreach((json_t *)(uintptr_t)value, key, child)
        {
                (void)snprintf(below, sizeof(below), "%s%s%s", path, *path == '\0' ? "" : ".", key);
                check_leaves(child, below, type);
                leaves++;
        }
        json_array_foreach(value, index, child)
        {
                (void)snprintf(below, sizeof(below), "%s.%zu", path, index);
                check_leaves(child, below, type);
                leaves++;
        }
        if (leaves == 0)
                cr_expect(is_named(path, type), "%s publishes %s, which no row names", codec_event_type_name(type),
                          path);
}

Test(codec_fields, every_field_has_a_way_in_and_a_way_out)
{
        static char texts[ROWS][64];
        for (int number = SENDRING_SEND; number <= SENDRING_CLICK; number++) {
                enum sendring_event_type type = (enum sendring_event_type)number;
                struct full full;
                full_fill(&full, type);
                for (size_t i = 0; i < ROWS; i++) {
                        /* Objects share a union, and some types the elements of their lists. */
                        bool other = strncmp(rows[i].path, "mail.", 5) != 0 &&
                                     rows[i].offset >= offsetof(struct full, event.failure) &&
                                     (rows[i].types & (1u << type)) == 0;
                        if (!other)
                                json_decref(row_set(&full, i, 0, texts[i]));
                }
                json_t *before = publish(&full.event);
                check_leaves(before, "", type);
                for (size_t i = 0; i < ROWS; i++) {
                        bool of_all = rows[i].offset < offsetof(struct full, event.failure);
                        if (rows[i].kind == LIST && (rows[i].types & (1u << type)) != 0)
                                cr_assert(json_is_array(at_path(before, rows[i].path, NULL)) ||
                                                  json_is_object(at_path(before, rows[i].path, NULL)),
                                          "%s", rows[i].path);
                        if (rows[i].kind == LIST || rows[i].kind == SWITCH ||
                            (!of_all && (rows[i].types & (1u << type)) == 0))
                                continue;
                        struct full copy = full; /* the lists still point into `full`, whose elements are changed */
                        bool element = rows[i].offset >= sizeof(struct sendring_event);
                        check_row(element ? &full : &copy, i, before);
                        if (element) {
                                struct sendring_str str = {texts[i], strlen(texts[i])};
                                memcpy((uint8_t *)&full + rows[i].offset, &str, sizeof(str));
                        }
                }
                json_decref(before);
        }
}

/* A member that is added to the C API must come with a row: every byte of its structs is covered, save padding. */
static void check_covered(const char *name, size_t begin, size_t bytes, unsigned types)
{
        for (size_t at = begin; at < begin + bytes; at++) {
                bool covered = false;
                for (size_t i = 0; i < ROWS && !covered; i++)
                        covered = (rows[i].types & types) != 0 && at >= rows[i].offset &&
                                  at < rows[i].offset + rows[i].bytes;
                /* An int before an 8-byte member: its padding. */
                for (size_t i = 0; i < ROWS && !covered; i++)
                        covered = (rows[i].types & types) != 0 && rows[i].bytes == 4 && at >= rows[i].offset + 4 &&
                                  at < (rows[i].offset / 8 + 1) * 8;
                cr_assert(covered, "byte %zu of struct sendring_%s is in no row", at - begin, name);
        }
}

Test(codec_fields, every_member_of_the_c_api_has_a_row)
{
        check_covered("mail", offsetof(struct full, event.mail), sizeof(struct sendring_mail), ALL);
        check_covered("failure", offsetof(struct full, event.failure), sizeof(struct sendring_failure),
                      BIT(RENDERING_FAILURE));
        check_covered("reject", offsetof(struct full, event.reject), sizeof(struct sendring_reject), BIT(REJECT));
        check_covered("delivery", offsetof(struct full, event.delivery), sizeof(struct sendring_delivery),
                      BIT(DELIVERY));
        check_covered("bounce", offsetof(struct full, event.bounce), sizeof(struct sendring_bounce), BIT(BOUNCE));
        check_covered("complaint", offsetof(struct full, event.complaint), sizeof(struct sendring_complaint),
                      BIT(COMPLAINT));
        check_covered("delivery_delay", offsetof(struct full, event.delivery_delay),
                      sizeof(struct sendring_delivery_delay), BIT(DELIVERY_DELAY));
        check_covered("subscription", offsetof(struct full, event.subscription), sizeof(struct sendring_subscription),
                      BIT(SUBSCRIPTION));
        check_covered("open_event", offsetof(struct full, event.open), sizeof(struct sendring_open_event), BIT(OPEN));
        check_covered("click", offsetof(struct full, event.click), sizeof(struct sendring_click), BIT(CLICK));
        check_covered("recipient", offsetof(struct full, recipients), sizeof(struct sendring_recipient), BIT(BOUNCE));
        check_covered("topic", offsetof(struct full, new_status), sizeof(struct sendring_topic), BIT(SUBSCRIPTION));
}
