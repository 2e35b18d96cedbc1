#include "codecs/codec_internal.h"

#define MEMBER(kind_, flags_, name_, type_, field_)                                              \
        {                                                                                        \
                .kind = (kind_), .flags = (flags_), .json_bytes = sizeof(",\"" name_ "\":") - 1, \
                .json = ",\"" name_ "\":", .offset = offsetof(type_, field_)                     \
        }
#define MEMBER_ABSENT(kind_, flags_, name_, type_, field_, absent_)                               \
        {                                                                                         \
                .kind = (kind_), .flags = (flags_), .json_bytes = sizeof(",\"" name_ "\":") - 1,  \
                .json = ",\"" name_ "\":", .offset = offsetof(type_, field_), .absent = (absent_) \
        }
#define MEMBER_MAP(name_, type_, field_, schema_)                                                 \
        {                                                                                         \
                .kind = CODEC_KIND_MAP, .json_bytes = sizeof(",\"" name_ "\":") - 1,              \
                .json = ",\"" name_ "\":", .offset = offsetof(type_, field_), .schema = (schema_) \
        }

#define REQUIRED CODEC_MEMBER_REQUIRED
#define FILLED   (CODEC_MEMBER_REQUIRED | CODEC_MEMBER_NOT_EMPTY)
#define ADDRESS  CODEC_MEMBER_ADDRESS
#define URL      CODEC_MEMBER_URL
#define ID       CODEC_MEMBER_ID
#define BIT(key) (1u << (key))

const struct codec_schema codec_schema_common_headers = {
        .name = "mail.commonHeaders",
        .keys_end = 8,
        .members =
                {
                        [CODEC_COMMON_FROM] = MEMBER(CODEC_KIND_TEXTS, 0, "from", struct sendring_common_headers, from),
                        [CODEC_COMMON_REPLY_TO] =
                                MEMBER(CODEC_KIND_TEXTS, 0, "replyTo", struct sendring_common_headers, reply_to),
                        [CODEC_COMMON_DATE] = MEMBER(CODEC_KIND_TEXT, 0, "date", struct sendring_common_headers, date),
                        [CODEC_COMMON_TO] = MEMBER(CODEC_KIND_TEXTS, 0, "to", struct sendring_common_headers, to),
                        [CODEC_COMMON_CC] = MEMBER(CODEC_KIND_TEXTS, 0, "cc", struct sendring_common_headers, cc),
                        [CODEC_COMMON_BCC] = MEMBER(CODEC_KIND_TEXTS, 0, "bcc", struct sendring_common_headers, bcc),
                        [CODEC_COMMON_SUBJECT] =
                                MEMBER(CODEC_KIND_TEXT, 0, "subject", struct sendring_common_headers, subject),
                },
};

const struct codec_schema codec_schema_session = {
        .name = "session",
        .keys_end = CODEC_SESSION_KEYS,
        .members =
                {
                        [CODEC_SESSION_OPERATION] =
                                MEMBER(CODEC_KIND_TEXT, 0, "ses:operation", struct sendring_mail, operation),
                        [CODEC_SESSION_SOURCE_IP] =
                                MEMBER(CODEC_KIND_TEXT, 0, "ses:source-ip", struct sendring_mail, source_ip),
                        [CODEC_SESSION_FROM_DOMAIN] =
                                MEMBER(CODEC_KIND_TEXT, 0, "ses:from-domain", struct sendring_mail, from_domain),
                        [CODEC_SESSION_CALLER_IDENTITY] = MEMBER(CODEC_KIND_TEXT, 0, "ses:caller-identity",
                                                                 struct sendring_mail, caller_identity),
                        [CODEC_SESSION_SOURCE_TLS_VERSION] = MEMBER(CODEC_KIND_TEXT, 0, "ses:source-tls-version",
                                                                    struct sendring_mail, source_tls_version),
                        [CODEC_SESSION_OUTGOING_IP] =
                                MEMBER(CODEC_KIND_TEXT, 0, "ses:outgoing-ip", struct sendring_mail, outgoing_ip),
                        [CODEC_SESSION_OUTGOING_TLS_VERSION] = MEMBER(CODEC_KIND_TEXT, 0, "ses:outgoing-tls-version",
                                                                      struct sendring_mail, outgoing_tls_version),
                },
};

const struct codec_schema codec_schema_mail = {
        .name = "mail",
        .keys_end = 10,
        .extra = true,
        .required_mask = BIT(CODEC_MAIL_TIMESTAMP) | BIT(CODEC_MAIL_SOURCE) | BIT(CODEC_MAIL_MESSAGE_ID) |
                         BIT(CODEC_MAIL_DESTINATION),
        .members =
                {
                        [CODEC_MAIL_TIMESTAMP] =
                                MEMBER(CODEC_KIND_TIME, REQUIRED, "timestamp", struct sendring_mail, timestamp_ms),
                        [CODEC_MAIL_SOURCE] =
                                MEMBER(CODEC_KIND_TEXT, REQUIRED | ADDRESS, "source", struct sendring_mail, source),
                        [CODEC_MAIL_SOURCE_ARN] =
                                MEMBER(CODEC_KIND_TEXT, URL, "sourceArn", struct sendring_mail, source_arn),
                        [CODEC_MAIL_SENDING_ACCOUNT_ID] = MEMBER(CODEC_KIND_TEXT, 0, "sendingAccountId",
                                                                 struct sendring_mail, sending_account_id),
                        [CODEC_MAIL_MESSAGE_ID] =
                                MEMBER(CODEC_KIND_TEXT, FILLED | ID, "messageId", struct sendring_mail, message_id),
                        [CODEC_MAIL_DESTINATION] =
                                MEMBER(CODEC_KIND_TEXTS, REQUIRED, "destination", struct sendring_mail, destination),
                        [CODEC_MAIL_HEADERS_TRUNCATED] =
                                MEMBER(CODEC_KIND_FLAG, 0, "headersTruncated", struct sendring_mail, headers_truncated),
                        [CODEC_MAIL_HEADERS] = MEMBER(CODEC_KIND_HEADERS, 0, "headers", struct sendring_mail, headers),
                        [CODEC_MAIL_COMMON_HEADERS] = MEMBER_MAP("commonHeaders", struct sendring_mail, common_headers,
                                                                 &codec_schema_common_headers),
                },
};

const struct codec_schema codec_schema_recipient = {
        .name = "recipient",
        .keys_end = 5,
        .required_mask = BIT(1),
        .members =
                {
                        [1] = MEMBER(CODEC_KIND_TEXT, FILLED | ADDRESS, "emailAddress", struct sendring_recipient,
                                     email_address),
                        [2] = MEMBER(CODEC_KIND_TEXT, 0, "action", struct sendring_recipient, action),
                        [3] = MEMBER(CODEC_KIND_TEXT, 0, "status", struct sendring_recipient, status),
                        [4] = MEMBER(CODEC_KIND_TEXT, 0, "diagnosticCode", struct sendring_recipient, diagnostic_code),
                },
};

static const struct codec_schema codec_schema_topic_preferences = {
        .name = "topicPreferences",
        .keys_end = 4,
        .required_mask = BIT(1),
        .members =
                {
                        [1] = MEMBER(CODEC_KIND_FLAG, REQUIRED, "unsubscribeAll", struct sendring_topic_preferences,
                                     unsubscribe_all),
                        [2] = MEMBER_ABSENT(CODEC_KIND_TOPICS, 0, "topicSubscriptionStatus",
                                            struct sendring_topic_preferences, topic_subscription_status, "[]"),
                        [3] = MEMBER(CODEC_KIND_TOPICS, 0, "topicDefaultSubscriptionStatus",
                                     struct sendring_topic_preferences, topic_default_subscription_status),
                },
};

#define HEAD(text)   .head = "{\"eventType\":\"" text "\"", .head_bytes = sizeof("{\"eventType\":\"" text "\"") - 1
#define OBJECT(text) .object = ",\"" text "\":", .object_bytes = sizeof(",\"" text "\":") - 1

const struct codec_type codec_types[CODEC_EVENT_TYPES_COUNT + 1] =
        {
                [SENDRING_SEND] =
                        {
                                .name = "Send",
                                .sesv2 = "SEND",
                                .v1 = "send",
                                HEAD("Send"),
                                OBJECT("send"),
                                .source_arn = true,
                                .schema = {.name = "send", .keys_end = 1},
                        },
                [SENDRING_RENDERING_FAILURE] =
                        {
                                .name = "Rendering Failure",
                                .sesv2 = "RENDERING_FAILURE",
                                .v1 = "renderingFailure",
                                HEAD("Rendering Failure"),
                                OBJECT("failure"),
                                .source_arn = true,
                                .short_tags = true,
                                .schema =
                                        {
                                                .name = "failure",
                                                .keys_end = 3,
                                                .members =
                                                        {
                                                                [1] = MEMBER(CODEC_KIND_TEXT, 0, "templateName",
                                                                             struct sendring_failure, template_name),
                                                                [2] = MEMBER(CODEC_KIND_TEXT, 0, "errorMessage",
                                                                             struct sendring_failure, error_message),
                                                        },
                                        },
                        },
                [SENDRING_REJECT] =
                        {
                                .name = "Reject",
                                .sesv2 = "REJECT",
                                .v1 = "reject",
                                HEAD("Reject"),
                                OBJECT("reject"),
                                .source_arn = true,
                                .schema =
                                        {
                                                .name = "reject",
                                                .keys_end = 2,
                                                .members =
                                                        {
                                                                [1] = MEMBER_ABSENT(CODEC_KIND_TEXT, 0, "reason",
                                                                                    struct sendring_reject, reason, "\"Bad content\""),
                                                        },
                                        },
                        },
                [SENDRING_DELIVERY] =
                        {
                                .name = "Delivery",
                                .sesv2 = "DELIVERY",
                                .v1 = "delivery",
                                HEAD("Delivery"),
                                OBJECT("delivery"),
                                .source_arn = true,
                                .schema =
                                        {
                                                .name = "delivery",
                                                .keys_end = 7,
                                                .required_mask = BIT(1) | BIT(3),
                                                .members =
                                                        {
                                                                [1] = MEMBER(CODEC_KIND_TIME, REQUIRED,
                                                                             "timestamp", struct sendring_delivery,
                                                                             timestamp_ms),
                                                                [2] = MEMBER(CODEC_KIND_COUNT,
                                                                             0, "processingTimeMillis", struct sendring_delivery,
                                                                             processing_time_millis),
                                                                [3] = MEMBER(CODEC_KIND_TEXTS, REQUIRED,
                                                                             "recipients", struct sendring_delivery,
                                                                             recipients),
                                                                [4] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "smtpResponse", struct sendring_delivery,
                                                                             smtp_response),
                                                                [5] = MEMBER(CODEC_KIND_TEXT, 0, "remoteMtaIp",
                                                                             struct sendring_delivery, remote_mta_ip),
                                                                [6] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "reportingMTA", struct sendring_delivery,
                                                                             reporting_mta),
                                                        },
                                        },
                        },
                [SENDRING_BOUNCE] =
                        {
                                .name = "Bounce",
                                .sesv2 = "BOUNCE",
                                .v1 = "bounce",
                                HEAD("Bounce"),
                                OBJECT("bounce"),
                                .object_first = true,
                                .source_arn = true,
                                .schema =
                                        {
                                                .name = "bounce",
                                                .keys_end = 8,
                                                .required_mask = BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5),
                                                .members =
                                                        {
                                                                [1] =
                                                                        MEMBER(CODEC_KIND_TEXT, FILLED | ID,
                                                                               "feedbackId",
                                                                               struct sendring_bounce, feedback_id),
                                                                [2] =
                                                                        MEMBER(CODEC_KIND_TEXT, FILLED, "bounceType",
                                                                               struct sendring_bounce, bounce_type),
                                                                [3] = MEMBER(CODEC_KIND_TEXT, FILLED, "bounceSubType",
                                                                             struct sendring_bounce, bounce_sub_type),
                                                                [4] =
                                                                        MEMBER(
                                                                                CODEC_KIND_RECIPIENTS, REQUIRED,
                                                                                "bouncedRecipients",
                                                                                struct sendring_bounce, bounced_recipients),
                                                                [5] =
                                                                        MEMBER(
                                                                                CODEC_KIND_TIME, REQUIRED, "timestamp",
                                                                                struct sendring_bounce, timestamp_ms),
                                                                [6] = MEMBER(CODEC_KIND_TEXT, 0, "remoteMtaIp",
                                                                             struct sendring_bounce, remote_mta_ip),
                                                                [7] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "reportingMTA", struct sendring_bounce, reporting_mta),
                                                        },
                                        },
                        },
                [SENDRING_COMPLAINT] =
                        {
                                .name = "Complaint",
                                .sesv2 = "COMPLAINT",
                                .v1 = "complaint",
                                HEAD("Complaint"),
                                OBJECT("complaint"),
                                .object_first = true,
                                .source_arn = true,
                                .schema =
                                        {
                                                .name = "complaint",
                                                .keys_end = 8,
                                                .required_mask = BIT(1) | BIT(3) | BIT(4),
                                                .members =
                                                        {
                                                                [1] =
                                                                        MEMBER(CODEC_KIND_TEXT, FILLED | ID,
                                                                               "feedbackId", struct sendring_complaint,
                                                                               feedback_id),
                                                                [2] =
                                                                        MEMBER_ABSENT(CODEC_KIND_TEXT, 0,
                                                                                      "complaintSubType",
                                                                                      struct sendring_complaint,
                                                                                      complaint_sub_type, "null"),
                                                                [3] = MEMBER(CODEC_KIND_ADDRESSES, REQUIRED,
                                                                             "complainedRecipients", struct sendring_complaint,
                                                                             complained_recipients),
                                                                [4] = MEMBER(CODEC_KIND_TIME, REQUIRED,
                                                                             "timestamp", struct sendring_complaint,
                                                                             timestamp_ms),
                                                                [5] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "userAgent", struct sendring_complaint,
                                                                             user_agent),
                                                                [6] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "complaintFeedbackType",
                                                                             struct sendring_complaint,
                                                                             complaint_feedback_type),
                                                                [7] = MEMBER(CODEC_KIND_TIME, 0, "arrivalDate",
                                                                             struct sendring_complaint,
                                                                             arrival_date_ms),
                                                        },
                                        },
                        },
                [SENDRING_DELIVERY_DELAY] =
                        {
                                .name = "DeliveryDelay",
                                .sesv2 = "DELIVERY_DELAY",
                                .v1 = "deliveryDelay",
                                HEAD("DeliveryDelay"),
                                OBJECT("deliveryDelay"),
                                .source_arn = true,
                                .short_tags = true,
                                .schema =
                                        {
                                                .name = "deliveryDelay",
                                                .keys_end = 6,
                                                .required_mask = BIT(1) | BIT(2) | BIT(5),
                                                .members =
                                                        {
                                                                [1] = MEMBER(CODEC_KIND_TIME, REQUIRED,
                                                                             "timestamp", struct sendring_delivery_delay,
                                                                             timestamp_ms),
                                                                [2] =
                                                                        MEMBER(CODEC_KIND_TEXT, FILLED, "delayType",
                                                                               struct sendring_delivery_delay,
                                                                               delay_type),
                                                                [3] = MEMBER(CODEC_KIND_TIME, 0,
                                                                             "expirationTime", struct sendring_delivery_delay,
                                                                             expiration_time_ms),
                                                                [4] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "reportingMTA", struct sendring_delivery_delay,
                                                                             reporting_mta),
                                                                [5] = MEMBER(CODEC_KIND_RECIPIENTS, REQUIRED,
                                                                             "delayedRecipients", struct sendring_delivery_delay,
                                                                             delayed_recipients),
                                                        },
                                        },
                        },
                [SENDRING_SUBSCRIPTION] =
                        {
                                .name = "Subscription",
                                .sesv2 = "SUBSCRIPTION",
                                .v1 = "subscription",
                                HEAD("Subscription"),
                                OBJECT("subscription"),
                                .source_arn = true,
                                .schema =
                                        {
                                                .name = "subscription",
                                                .keys_end = 6,
                                                .required_mask = BIT(2),
                                                .members =
                                                        {
                                                                [1] = MEMBER(CODEC_KIND_TEXT, 0, "contactList",
                                                                             struct sendring_subscription,
                                                                             contact_list),
                                                                [2] = MEMBER(CODEC_KIND_TIME, REQUIRED,
                                                                             "timestamp", struct sendring_subscription,
                                                                             timestamp_ms),
                                                                [3] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "source", struct sendring_subscription,
                                                                             source),
                                                                [4] = MEMBER_MAP("newTopicPreferences",
                                                                                 struct sendring_subscription,
                                                                                 new_topic_preferences,
                                                                                 &codec_schema_topic_preferences),
                                                                [5] = MEMBER_MAP("oldTopicPreferences",
                                                                                 struct sendring_subscription,
                                                                                 old_topic_preferences,
                                                                                 &codec_schema_topic_preferences),
                                                        },
                                        },
                        },
                [SENDRING_OPEN] =
                        {
                                .name = "Open",
                                .sesv2 = "OPEN",
                                .v1 = "open",
                                HEAD("Open"),
                                OBJECT("open"),
                                .schema =
                                        {
                                                .name = "open",
                                                .keys_end = 5,
                                                .required_mask = BIT(1),
                                                .members =
                                                        {
                                                                [1] = MEMBER(CODEC_KIND_TIME, REQUIRED,
                                                                             "timestamp", struct sendring_open_event,
                                                                             timestamp_ms),
                                                                [2] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "userAgent", struct sendring_open_event,
                                                                             user_agent),
                                                                [3] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "ipAddress", struct sendring_open_event,
                                                                             ip_address),
                                                                [4] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "isBotEvent", struct sendring_open_event,
                                                                             is_bot_event),
                                                        },
                                        },
                        },
                [SENDRING_CLICK] =
                        {
                                .name = "Click",
                                .sesv2 = "CLICK",
                                .v1 = "click",
                                HEAD("Click"),
                                OBJECT("click"),
                                .object_first = true,
                                .schema =
                                        {
                                                .name = "click",
                                                .keys_end = 7,
                                                .required_mask = BIT(1) | BIT(4),
                                                .members =
                                                        {
                                                                [1] = MEMBER(CODEC_KIND_TIME, REQUIRED,
                                                                             "timestamp", struct sendring_click,
                                                                             timestamp_ms),
                                                                [2] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "ipAddress", struct sendring_click,
                                                                             ip_address),
                                                                [3] = MEMBER(CODEC_KIND_TEXT, 0,
                                                                             "userAgent", struct sendring_click,
                                                                             user_agent),
                                                                [4] =
                                                                        MEMBER(
                                                                                CODEC_KIND_TEXT, FILLED | URL,
                                                                                "link", struct sendring_click, link),
                                                                [5] =
                                                                        MEMBER_ABSENT(CODEC_KIND_TAGS, 0, "linkTags",
                                                                                      struct sendring_click, link_tags,
                                                                                      "null"),
                                                                [6] =
                                                                        MEMBER(CODEC_KIND_TEXT, 0, "isBotEvent",
                                                                               struct sendring_click, is_bot_event),
                                                        },
                                        },
                        },
};

const char *codec_event_type_name(enum sendring_event_type type)
{
        return (unsigned)type <= CODEC_EVENT_TYPES_COUNT ? codec_types[type].name : NULL;
}

const char *codec_event_type_sesv2(enum sendring_event_type type)
{
        return (unsigned)type <= CODEC_EVENT_TYPES_COUNT ? codec_types[type].sesv2 : NULL;
}

/* What CloudWatch and EventBridge call them. */
struct codec_type_elsewhere {
        const char *metric, *detail;
};
static const struct codec_type_elsewhere codec_types_elsewhere[CODEC_EVENT_TYPES_COUNT + 1] = {
        [SENDRING_SEND] = {"Send", "Email Sent"},
        [SENDRING_RENDERING_FAILURE] = {"RenderingFailure", "Email Rendering Failed"},
        [SENDRING_REJECT] = {"Reject", "Email Rejected"},
        [SENDRING_DELIVERY] = {"Delivery", "Email Delivered"},
        [SENDRING_BOUNCE] = {"Bounce", "Email Bounced"},
        [SENDRING_COMPLAINT] = {"Complaint", "Email Complaint Received"},
        [SENDRING_DELIVERY_DELAY] = {"DeliveryDelay", "Email Delivery Delayed"},
        [SENDRING_SUBSCRIPTION] = {"Subscription", "Email Subscribed"},
        [SENDRING_OPEN] = {"Open", "Email Opened"},
        [SENDRING_CLICK] = {"Click", "Email Clicked"},
};

const char *codec_event_type_v1(enum sendring_event_type type)
{
        return (unsigned)type <= CODEC_EVENT_TYPES_COUNT ? codec_types[type].v1 : NULL;
}

const char *codec_event_type_metric(enum sendring_event_type type)
{
        return (unsigned)type <= CODEC_EVENT_TYPES_COUNT ? codec_types_elsewhere[type].metric : NULL;
}

const char *codec_event_type_detail(enum sendring_event_type type)
{
        return (unsigned)type <= CODEC_EVENT_TYPES_COUNT ? codec_types_elsewhere[type].detail : NULL;
}

enum sendring_event_type codec_event_type_parse(struct slice text)
{
        for (unsigned i = 1; i <= CODEC_EVENT_TYPES_COUNT; i++) {
                const struct codec_type *type = &codec_types[i];
                if (slice_equal(text, slice_of_text(type->name)) || slice_equal(text, slice_of_text(type->sesv2)) ||
                    slice_equal(text, slice_of_text(type->v1)))
                        return (enum sendring_event_type)i;
        }
        return (enum sendring_event_type)0;
}

/* `json` is ,"name": */
static bool codec_literal_names(const char *json, size_t json_bytes, struct slice name)
{
        return slice_equal(slice_of(json + 2, json_bytes - 4), name);
}

bool codec_name_is_taken(const struct codec_schema *schema, struct slice name)
{
        if (schema == NULL) {
                if (slice_equal(name, SLICE("eventType")) || slice_equal(name, SLICE("mail")) ||
                    slice_equal(name, SLICE("sendring")))
                        return true;
                for (unsigned i = 1; i <= CODEC_EVENT_TYPES_COUNT; i++)
                        if (codec_literal_names(codec_types[i].object, codec_types[i].object_bytes, name))
                                return true;
                return false;
        }
        for (unsigned key = 1; key < schema->keys_end; key++)
                if (codec_literal_names(schema->members[key].json, schema->members[key].json_bytes, name))
                        return true;
        return schema == &codec_schema_mail && slice_equal(name, SLICE("tags"));
}

struct slice codec_domain_of(struct slice source)
{
        /* From the end, but not beyond what a domain can have: "Name <address>" ends with its domain. */
        size_t most = source.len < CODEC_DOMAIN_BYTES_MAX + 2 ? source.len : CODEC_DOMAIN_BYTES_MAX + 2;
        if (most == 0)
                return SLICE_EMPTY;
        const uint8_t *end = source.ptr + source.len;
        const uint8_t *sign = (const uint8_t *)memrchr(end - most, '@', most);
        if (sign == NULL)
                return SLICE_EMPTY;
        struct slice domain = slice_of(sign + 1, (size_t)(end - sign) - 1);
        domain = slice_trim(slice_head(domain, slice_find_byte(domain, '>')));
        return domain.len > CODEC_DOMAIN_BYTES_MAX ? SLICE_EMPTY : domain;
}
