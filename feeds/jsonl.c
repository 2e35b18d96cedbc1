/* SES's JSON, by tables: which member goes where in struct sendring_event. */
#include "feeds/jsonl.h"

#include "base/limits.h"
#include "codecs/codec.h"
#include "feeds/jsonl_internal.h"

#include <stddef.h>

enum json_kind {
        KIND_TEXT,
        KIND_TIME,
        KIND_COUNT,
        KIND_FLAG,
        KIND_TEXTS,
        KIND_ADDRESSES, /* [{"emailAddress": ..}] or texts: sendring_strs */
        KIND_HEADERS,   /* [{"name": .., "value": ..}] */
        KIND_TAGS,      /* {name: [value, ..]}, auto-tags apart */
        KIND_LINK_TAGS, /* {name: [value, ..]} */
        KIND_TOPICS,    /* [{"topicName": .., "subscriptionStatus": ..}] */
        KIND_RECIPIENTS,
        KIND_MAP,
        KIND_KNOWN, /* told elsewhere too, or made by the router */
};

struct json_member {
        const char *name; /* NULL ends a table */
        enum json_kind kind;
        size_t offset;
        const struct json_member *members; /* of KIND_MAP */
};

static const struct json_member json_common_headers[] = {
        {"from", KIND_TEXTS, offsetof(struct sendring_common_headers, from), NULL},
        {"to", KIND_TEXTS, offsetof(struct sendring_common_headers, to), NULL},
        {"cc", KIND_TEXTS, offsetof(struct sendring_common_headers, cc), NULL},
        {"bcc", KIND_TEXTS, offsetof(struct sendring_common_headers, bcc), NULL},
        {"replyTo", KIND_TEXTS, offsetof(struct sendring_common_headers, reply_to), NULL},
        {"date", KIND_TEXT, offsetof(struct sendring_common_headers, date), NULL},
        {"subject", KIND_TEXT, offsetof(struct sendring_common_headers, subject), NULL},
        {"messageId", KIND_KNOWN, 0, NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};

static const struct json_member json_mail[] = {
        {"timestamp", KIND_TIME, offsetof(struct sendring_mail, timestamp_ms), NULL},
        {"source", KIND_TEXT, offsetof(struct sendring_mail, source), NULL},
        {"sourceArn", KIND_TEXT, offsetof(struct sendring_mail, source_arn), NULL},
        {"sendingAccountId", KIND_TEXT, offsetof(struct sendring_mail, sending_account_id), NULL},
        {"messageId", KIND_TEXT, offsetof(struct sendring_mail, message_id), NULL},
        {"destination", KIND_TEXTS, offsetof(struct sendring_mail, destination), NULL},
        {"headersTruncated", KIND_FLAG, offsetof(struct sendring_mail, headers_truncated), NULL},
        {"headers", KIND_HEADERS, offsetof(struct sendring_mail, headers), NULL},
        {"commonHeaders", KIND_MAP, offsetof(struct sendring_mail, common_headers), json_common_headers},
        {"tags", KIND_TAGS, offsetof(struct sendring_mail, tags), NULL},
        /* Of the older notifications. */
        {"sourceIp", KIND_TEXT, offsetof(struct sendring_mail, source_ip), NULL},
        {"callerIdentity", KIND_TEXT, offsetof(struct sendring_mail, caller_identity), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};

static const struct json_member json_auto_tags[] = {
        {"ses:configuration-set", KIND_TEXT, offsetof(struct sendring_mail, configuration_set), NULL},
        {"ses:caller-identity", KIND_TEXT, offsetof(struct sendring_mail, caller_identity), NULL},
        {"ses:source-ip", KIND_TEXT, offsetof(struct sendring_mail, source_ip), NULL},
        {"ses:source-tls-version", KIND_TEXT, offsetof(struct sendring_mail, source_tls_version), NULL},
        {"ses:from-domain", KIND_TEXT, offsetof(struct sendring_mail, from_domain), NULL},
        {"ses:operation", KIND_TEXT, offsetof(struct sendring_mail, operation), NULL},
        {"ses:outgoing-ip", KIND_TEXT, offsetof(struct sendring_mail, outgoing_ip), NULL},
        {"ses:outgoing-tls-version", KIND_TEXT, offsetof(struct sendring_mail, outgoing_tls_version), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};

static const struct json_member json_recipient[] = {
        {"emailAddress", KIND_TEXT, offsetof(struct sendring_recipient, email_address), NULL},
        {"action", KIND_TEXT, offsetof(struct sendring_recipient, action), NULL},
        {"status", KIND_TEXT, offsetof(struct sendring_recipient, status), NULL},
        {"diagnosticCode", KIND_TEXT, offsetof(struct sendring_recipient, diagnostic_code), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};

static const struct json_member json_preferences[] = {
        {"unsubscribeAll", KIND_FLAG, offsetof(struct sendring_topic_preferences, unsubscribe_all), NULL},
        {"topicSubscriptionStatus", KIND_TOPICS, offsetof(struct sendring_topic_preferences, topic_subscription_status),
         NULL},
        {"topicDefaultSubscriptionStatus", KIND_TOPICS,
         offsetof(struct sendring_topic_preferences, topic_default_subscription_status), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};

#define OBJECT(member) offsetof(struct sendring_event, member)

static const struct json_member json_send[] = {
        {NULL, KIND_KNOWN, 0, NULL},
};
static const struct json_member json_failure[] = {
        {"templateName", KIND_TEXT, OBJECT(failure.template_name), NULL},
        {"errorMessage", KIND_TEXT, OBJECT(failure.error_message), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};
static const struct json_member json_reject[] = {
        {"reason", KIND_TEXT, OBJECT(reject.reason), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};
static const struct json_member json_delivery[] = {
        {"timestamp", KIND_TIME, OBJECT(delivery.timestamp_ms), NULL},
        {"processingTimeMillis", KIND_COUNT, OBJECT(delivery.processing_time_millis), NULL},
        {"recipients", KIND_TEXTS, OBJECT(delivery.recipients), NULL},
        {"smtpResponse", KIND_TEXT, OBJECT(delivery.smtp_response), NULL},
        {"remoteMtaIp", KIND_TEXT, OBJECT(delivery.remote_mta_ip), NULL},
        {"reportingMTA", KIND_TEXT, OBJECT(delivery.reporting_mta), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};
static const struct json_member json_bounce[] = {
        {"feedbackId", KIND_TEXT, OBJECT(bounce.feedback_id), NULL},
        {"bounceType", KIND_TEXT, OBJECT(bounce.bounce_type), NULL},
        {"bounceSubType", KIND_TEXT, OBJECT(bounce.bounce_sub_type), NULL},
        {"bouncedRecipients", KIND_RECIPIENTS, OBJECT(bounce.bounced_recipients), NULL},
        {"timestamp", KIND_TIME, OBJECT(bounce.timestamp_ms), NULL},
        {"remoteMtaIp", KIND_TEXT, OBJECT(bounce.remote_mta_ip), NULL},
        {"reportingMTA", KIND_TEXT, OBJECT(bounce.reporting_mta), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};
static const struct json_member json_complaint[] = {
        {"feedbackId", KIND_TEXT, OBJECT(complaint.feedback_id), NULL},
        {"complaintSubType", KIND_TEXT, OBJECT(complaint.complaint_sub_type), NULL},
        {"complainedRecipients", KIND_ADDRESSES, OBJECT(complaint.complained_recipients), NULL},
        {"timestamp", KIND_TIME, OBJECT(complaint.timestamp_ms), NULL},
        {"userAgent", KIND_TEXT, OBJECT(complaint.user_agent), NULL},
        {"complaintFeedbackType", KIND_TEXT, OBJECT(complaint.complaint_feedback_type), NULL},
        {"arrivalDate", KIND_TIME, OBJECT(complaint.arrival_date_ms), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};
static const struct json_member json_delivery_delay[] = {
        {"timestamp", KIND_TIME, OBJECT(delivery_delay.timestamp_ms), NULL},
        {"delayType", KIND_TEXT, OBJECT(delivery_delay.delay_type), NULL},
        {"expirationTime", KIND_TIME, OBJECT(delivery_delay.expiration_time_ms), NULL},
        {"delayedRecipients", KIND_RECIPIENTS, OBJECT(delivery_delay.delayed_recipients), NULL},
        {"reportingMTA", KIND_TEXT, OBJECT(delivery_delay.reporting_mta), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};
static const struct json_member json_subscription[] = {
        {"contactList", KIND_TEXT, OBJECT(subscription.contact_list), NULL},
        {"timestamp", KIND_TIME, OBJECT(subscription.timestamp_ms), NULL},
        {"source", KIND_TEXT, OBJECT(subscription.source), NULL},
        {"newTopicPreferences", KIND_MAP, OBJECT(subscription.new_topic_preferences), json_preferences},
        {"oldTopicPreferences", KIND_MAP, OBJECT(subscription.old_topic_preferences), json_preferences},
        {NULL, KIND_KNOWN, 0, NULL},
};
static const struct json_member json_open[] = {
        {"timestamp", KIND_TIME, OBJECT(open.timestamp_ms), NULL},
        {"userAgent", KIND_TEXT, OBJECT(open.user_agent), NULL},
        {"ipAddress", KIND_TEXT, OBJECT(open.ip_address), NULL},
        {"isBotEvent", KIND_TEXT, OBJECT(open.is_bot_event), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};
static const struct json_member json_click[] = {
        {"timestamp", KIND_TIME, OBJECT(click.timestamp_ms), NULL},
        {"ipAddress", KIND_TEXT, OBJECT(click.ip_address), NULL},
        {"userAgent", KIND_TEXT, OBJECT(click.user_agent), NULL},
        {"link", KIND_TEXT, OBJECT(click.link), NULL},
        {"linkTags", KIND_LINK_TAGS, OBJECT(click.link_tags), NULL},
        {"isBotEvent", KIND_TEXT, OBJECT(click.is_bot_event), NULL},
        {NULL, KIND_KNOWN, 0, NULL},
};

struct json_type {
        const char *object;
        const struct json_member *members;
};
static const struct json_type json_types[CODEC_EVENT_TYPES_COUNT + 1] = {
        [SENDRING_SEND] = {"send", json_send},
        [SENDRING_RENDERING_FAILURE] = {"failure", json_failure},
        [SENDRING_REJECT] = {"reject", json_reject},
        [SENDRING_DELIVERY] = {"delivery", json_delivery},
        [SENDRING_BOUNCE] = {"bounce", json_bounce},
        [SENDRING_COMPLAINT] = {"complaint", json_complaint},
        [SENDRING_DELIVERY_DELAY] = {"deliveryDelay", json_delivery_delay},
        [SENDRING_SUBSCRIPTION] = {"subscription", json_subscription},
        [SENDRING_OPEN] = {"open", json_open},
        [SENDRING_CLICK] = {"click", json_click},
};

/* ---------------------------------------------------------------------------------------------- values */

struct reading {
        struct arena *arena;
        struct err *reterr;
        uint32_t dropped;
        struct slice *dropped_paths; /* NULL until the first; nothing when out of memory: they only inform */
};

/* Counts a member that is not published, and names the first ones. `where` may be empty. */
static void json_drop(struct reading *reading, const char *where, const char *name)
{
        struct slice path = SLICE_EMPTY;
        size_t room = strlen(where) + strlen(name) + 2;
        if (reading->dropped_paths == NULL)
                reading->dropped_paths = arena_alloc_array(reading->arena, JSONL_DROPPED_MAX, sizeof(struct slice));
        if (reading->dropped_paths != NULL && reading->dropped < JSONL_DROPPED_MAX) {
                char *text = arena_alloc(reading->arena, room);
                if (text != NULL)
                        path = slice_of(
                                text, (size_t)snprintf(text, room, "%s%s%s", where, where[0] == '\0' ? "" : ".", name));
                reading->dropped_paths[reading->dropped] = path;
        }
        reading->dropped++;
}

/* All members of an object but these two. */
static void json_drop_others(struct reading *reading, const char *where, const json_t *object, const char *first,
                             const char *second)
{
        const char *name;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)object, name, value)
        {
                if (strcmp(name, first) != 0 && strcmp(name, second) != 0)
                        json_drop(reading, where, name);
        }
}

static enum err_code json_wrong(struct reading *reading, const char *name, const char *wanted)
{
        return err_set(reading->reterr, ERR_TYPE, "%s: must be %s", name, wanted);
}

static struct sendring_str json_str(const json_t *value)
{
        return sendring_strn(json_string_value(value), json_string_length(value));
}

static void *json_list(struct reading *reading, const char *name, size_t count, size_t item_bytes, enum err_code *ret)
{
        void *items = NULL;
        if (count > LIMIT_LIST_ITEMS_MAX) {
                *ret = err_set(reading->reterr, ERR_TOO_BIG, "%s: more than %u elements", name, LIMIT_LIST_ITEMS_MAX);
        } else {
                items = arena_alloc_array(reading->arena, count, item_bytes);
                *ret = items != NULL ? ERR_OK : err_set(reading->reterr, ERR_MEMORY, "%s: out of memory", name);
        }
        return items;
}

static enum err_code json_read_map(struct reading *reading, const json_t *object, const char *where,
                                   const struct json_member *members, uint8_t *base, struct jsonl_extras *extras);

static enum err_code json_read_texts(struct reading *reading, const json_t *value, const char *name, uint8_t *field)
{
        enum err_code code;
        if (!json_is_array(value))
                return json_wrong(reading, name, "an array of strings");
        size_t count = json_array_size(value);
        struct sendring_str *items = json_list(reading, name, count, sizeof(*items), &code);
        for (size_t i = 0; i < count && code == ERR_OK; i++) {
                const json_t *item = json_array_get(value, i);
                /* Addresses come as objects in complaints; either spelling is plain. */
                if (json_is_object(item)) {
                        json_drop_others(reading, name, item, "emailAddress", "emailAddress");
                        item = json_object_get(item, "emailAddress");
                }
                if (!json_is_string(item))
                        return json_wrong(reading, name, "an array of strings");
                items[i] = json_str(item);
        }
        if (code == ERR_OK) {
                struct sendring_strs list = {items, count};
                memcpy(field, &list, sizeof(list));
        }
        return code;
}

/* An array of objects with two texts each: headers and topics. */
static enum err_code json_read_pairs(struct reading *reading, const json_t *value, const char *name, const char *first,
                                     const char *second, uint8_t *field)
{
        enum err_code code;
        if (!json_is_array(value))
                return json_wrong(reading, name, "an array of objects");
        size_t count = json_array_size(value);
        struct sendring_pair *items = json_list(reading, name, count, sizeof(*items), &code);
        for (size_t i = 0; i < count && code == ERR_OK; i++) {
                const json_t *a = json_object_get(json_array_get(value, i), first);
                const json_t *b = json_object_get(json_array_get(value, i), second);
                if (!json_is_string(a) || !json_is_string(b))
                        return err_set(reading->reterr, ERR_TYPE, "%s[%zu]: must have the strings %s and %s", name, i,
                                       first, second);
                json_drop_others(reading, name, json_array_get(value, i), first, second);
                items[i] = (struct sendring_pair){json_str(a), json_str(b)};
        }
        if (code == ERR_OK) {
                struct sendring_pairs list = {items, count};
                memcpy(field, &list, sizeof(list));
        }
        return code;
}

/* Values of one tag: an array of strings, or one string. */
static size_t json_tag_values(const json_t *value)
{
        return json_is_array(value) ? json_array_size(value) : 1;
}

static const json_t *json_tag_value(const json_t *value, size_t index)
{
        return json_is_array(value) ? json_array_get(value, index) : value;
}

static const struct json_member *json_member_of(const struct json_member *members, const char *name)
{
        while (members->name != NULL && strcmp(members->name, name) != 0)
                members++;
        return members->name == NULL ? NULL : members;
}

/* `mail`: where auto-tags go; NULL: there are none in this list. */
static enum err_code json_read_tags(struct reading *reading, const json_t *value, const char *name,
                                    struct sendring_mail *mail, uint8_t *field)
{
        enum err_code code;
        const char *tag;
        json_t *values;
        size_t count = 0;
        if (!json_is_object(value))
                return json_wrong(reading, name, "an object");
        json_object_foreach((json_t *)(uintptr_t)value, tag, values) count += json_tag_values(values);
        struct sendring_pair *items = json_list(reading, name, count, sizeof(*items), &code);
        if (code != ERR_OK)
                return code;
        count = 0;
        json_object_foreach((json_t *)(uintptr_t)value, tag, values)
        {
                bool is_auto =
                        mail != NULL && strncmp(tag, "ses:", 4) == 0 && strncmp(tag, "ses:feedback-id-", 16) != 0;
                const struct json_member *fact = is_auto ? json_member_of(json_auto_tags, tag) : NULL;
                /* Of an auto-tag there is one value. */
                if (is_auto && (fact == NULL || json_tag_values(values) > 1))
                        json_drop(reading, name, tag);
                for (size_t i = 0; i < json_tag_values(values); i++) {
                        const json_t *one = json_tag_value(values, i);
                        if (!json_is_string(one))
                                return err_set(reading->reterr, ERR_TYPE, "%s.%s: must be an array of strings", name,
                                               tag);
                        struct sendring_str text = json_str(one);
                        if (!is_auto)
                                items[count++] = (struct sendring_pair){sendring_strn(tag, strlen(tag)), text};
                        else if (fact != NULL && i == 0)
                                memcpy((uint8_t *)mail + fact->offset, &text, sizeof(text));
                }
        }
        struct sendring_pairs list = {items, count};
        memcpy(field, &list, sizeof(list));
        return ERR_OK;
}

static enum err_code json_read_recipients(struct reading *reading, const json_t *value, const char *name,
                                          uint8_t *field)
{
        enum err_code code;
        if (!json_is_array(value))
                return json_wrong(reading, name, "an array of objects");
        size_t count = json_array_size(value);
        struct sendring_recipient *items = json_list(reading, name, count, sizeof(*items), &code);
        for (size_t i = 0; i < count && code == ERR_OK; i++) {
                if (!json_is_object(json_array_get(value, i)))
                        return json_wrong(reading, name, "an array of objects");
                code = json_read_map(reading, json_array_get(value, i), name, json_recipient, (uint8_t *)&items[i],
                                     NULL);
        }
        if (code == ERR_OK) {
                struct sendring_recipients list = {items, count};
                memcpy(field, &list, sizeof(list));
        }
        return code;
}

static enum err_code json_read_scalar(struct reading *reading, const json_t *value, const char *name,
                                      enum json_kind kind, uint8_t *field)
{
        if (kind == KIND_TEXT) {
                if (!json_is_string(value))
                        return json_wrong(reading, name, "a string");
                struct sendring_str text = json_str(value);
                memcpy(field, &text, sizeof(text));
                return ERR_OK;
        }
        if (kind == KIND_TIME) {
                int64_t time_ms;
                if (!json_is_string(value) ||
                    !codec_time_parse(slice_of(json_string_value(value), json_string_length(value)), &time_ms))
                        return json_wrong(reading, name, "a time such as 2026-01-02T03:04:05.678Z");
                memcpy(field, &time_ms, sizeof(time_ms));
                return ERR_OK;
        }
        if (kind == KIND_COUNT) {
                if (!json_is_integer(value))
                        return json_wrong(reading, name, "a whole number");
                int64_t count = json_integer_value(value);
                memcpy(field, &count, sizeof(count));
                return ERR_OK;
        }
        int flag = json_is_true(value);
        /* SES's documentation calls headersTruncated a string. */
        if (json_is_string(value) && strcmp(json_string_value(value), "true") == 0)
                flag = 1;
        else if (!json_is_boolean(value) && !(json_is_string(value) && strcmp(json_string_value(value), "false") == 0))
                return json_wrong(reading, name, "true or false");
        memcpy(field, &flag, sizeof(flag));
        return ERR_OK;
}

static enum err_code json_read_member(struct reading *reading, const json_t *value, const char *name,
                                      const struct json_member *member, uint8_t *base)
{
        uint8_t *field = base + member->offset;
        if (json_is_null(value))
                return ERR_OK;
        switch (member->kind) {
        case KIND_TEXT:
        case KIND_TIME:
        case KIND_COUNT:
        case KIND_FLAG:
                return json_read_scalar(reading, value, name, member->kind, field);
        case KIND_TEXTS:
        case KIND_ADDRESSES:
                return json_read_texts(reading, value, name, field);
        case KIND_HEADERS:
                return json_read_pairs(reading, value, name, "name", "value", field);
        case KIND_TOPICS:
                return json_read_pairs(reading, value, name, "topicName", "subscriptionStatus", field);
        case KIND_TAGS:
                return json_read_tags(reading, value, name, (struct sendring_mail *)(void *)base, field);
        case KIND_LINK_TAGS:
                return json_read_tags(reading, value, name, NULL, field);
        case KIND_RECIPIENTS:
                return json_read_recipients(reading, value, name, field);
        case KIND_MAP:
                if (!json_is_object(value))
                        return json_wrong(reading, name, "an object");
                return json_read_map(reading, value, name, member->members, field, NULL);
        case KIND_KNOWN:
                return ERR_OK;
        }
        return ERR_OK;
}

/* `extras`: where unknown members go; NULL: they are dropped. */
static enum err_code json_read_map(struct reading *reading, const json_t *object, const char *where,
                                   const struct json_member *members, uint8_t *base, struct jsonl_extras *extras)
{
        const char *name;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)object, name, value)
        {
                const struct json_member *member = json_member_of(members, name);
                if (member == NULL) {
                        if (extras != NULL && extras->count < JSONL_EXTRA_MAX)
                                extras->items[extras->count++] = (struct jsonl_extra){name, value};
                        else
                                json_drop(reading, where, name);
                        continue;
                }
                char path[160];
                (void)snprintf(path, sizeof(path), "%s.%s", where, name); /* cut: only a message */
                enum err_code code = json_read_member(reading, value, path, member, base);
                if (code != ERR_OK)
                        return code;
        }
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- the line */

static enum err_code jsonl_read(struct reading *reading, const json_t *root, struct sendring_event *event,
                                struct jsonl_extras *mail_extras, struct jsonl_extras *top_extras)
{
        const json_t *type_value = json_object_get(root, "eventType");
        if (type_value == NULL)
                type_value = json_object_get(root, "notificationType");
        if (!json_is_object(root) || !json_is_string(type_value))
                return err_set(reading->reterr, ERR_MISSING, "not an SES event: an object with eventType is needed");
        enum sendring_event_type type =
                codec_event_type_parse(slice_of(json_string_value(type_value), json_string_length(type_value)));
        if (type == 0)
                return err_set(reading->reterr, ERR_NAME, "eventType: '%.64s' is none of SES's ten",
                               json_string_value(type_value));
        sendring_event_init(event, type);
        const json_t *mail = json_object_get(root, "mail");
        const json_t *object = json_object_get(root, json_types[type].object);
        if (!json_is_object(mail))
                return err_set(reading->reterr, ERR_MISSING, "mail: an object is needed");
        event->mail.headers_present =
                json_object_get(mail, "headers") != NULL || json_object_get(mail, "commonHeaders") != NULL;
        enum err_code code = json_read_map(reading, mail, "mail", json_mail, (uint8_t *)&event->mail, mail_extras);
        if (code != ERR_OK)
                return code;
        if (object != NULL && !json_is_object(object))
                return err_set(reading->reterr, ERR_TYPE, "%s: must be an object", json_types[type].object);
        if (object != NULL)
                code = json_read_map(reading, object, json_types[type].object, json_types[type].members,
                                     (uint8_t *)event, NULL);
        if (code != ERR_OK)
                return code;
        const char *name;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)root, name, value)
        {
                if (strcmp(name, "eventType") == 0 || strcmp(name, "notificationType") == 0 ||
                    strcmp(name, "mail") == 0 || strcmp(name, json_types[type].object) == 0)
                        continue;
                if (top_extras->count < JSONL_EXTRA_MAX)
                        top_extras->items[top_extras->count++] = (struct jsonl_extra){name, value};
                else
                        json_drop(reading, "", name);
        }
        return ERR_OK;
}

/* Puts in each that the format takes, and drops the others. `out` as in jsonl_extra_add(); as is *event at first. */
static void jsonl_add_one_by_one(struct reading *reading, const char *where, const struct jsonl_extras *extras,
                                 uint8_t *out[2], struct jsonl_event *event)
{
        static const struct jsonl_extras none = {.count = 0};
        bool is_mail = where[0] != '\0';
        for (uint32_t i = 0; i < extras->count; i++) {
                struct jsonl_extras one = {.items = {extras->items[i]}, .count = 1};
                uint8_t *room = event->encoded.ptr == out[0] ? out[1] : out[0];
                struct slice larger;
                if (jsonl_extra_add(event->encoded, is_mail ? &one : &none, is_mail ? &none : &one, room, &larger) ==
                    ERR_OK) {
                        event->encoded = larger;
                        event->members_kept++;
                } else {
                        json_drop(reading, where, extras->items[i].name);
                }
        }
}

static enum err_code jsonl_encode(struct reading *reading, const struct sendring_event *event,
                                  const struct jsonl_extras *mail_extras, const struct jsonl_extras *top_extras,
                                  struct jsonl_event *ret_event)
{
        size_t room = codec_event_size_max(event);
        if (room > LIMIT_EVENT_BYTES_MAX)
                room = LIMIT_EVENT_BYTES_MAX;
        uint8_t *out = arena_alloc(reading->arena, room);
        if (out == NULL)
                return err_set(reading->reterr, ERR_MEMORY, "out of memory");
        size_t bytes = 0;
        enum err_code code = codec_event_encode_read(event, out, room, &bytes, reading->reterr);
        if (code != ERR_OK)
                return code;
        ret_event->encoded = slice_of(out, bytes);
        if (mail_extras->count + top_extras->count == 0)
                return ERR_OK;
        struct slice larger;
        uint8_t *rooms[2] = {arena_alloc(reading->arena, LIMIT_EVENT_BYTES_MAX), NULL};
        if (rooms[0] == NULL)
                return err_set(reading->reterr, ERR_MEMORY, "out of memory");
        if (jsonl_extra_add(ret_event->encoded, mail_extras, top_extras, rooms[0], &larger) == ERR_OK) {
                ret_event->encoded = larger;
                ret_event->members_kept = mail_extras->count + top_extras->count;
                return ERR_OK;
        }
        rooms[1] = arena_alloc(reading->arena, LIMIT_EVENT_BYTES_MAX);
        if (rooms[1] == NULL)
                return err_set(reading->reterr, ERR_MEMORY, "out of memory");
        /* Some name is taken, or some value too deep or too large: that is no reason to lose the others. */
        jsonl_add_one_by_one(reading, "mail", mail_extras, rooms, ret_event);
        jsonl_add_one_by_one(reading, "", top_extras, rooms, ret_event);
        return ERR_OK;
}

static bool json_is_number_byte(uint8_t byte)
{
        return (byte >= '0' && byte <= '9') || byte == '-' || byte == '+' || byte == '.' || byte == 'e' || byte == 'E';
}

/* The line with ".0" behind its whole numbers of 19 digits and more: jansson reads no larger ones than 2^63 - 1 but as
 * reals. A NULL pointer when out of memory. */
static struct slice jsonl_large_numbers_as_reals(struct slice line, struct arena *arena)
{
        const size_t digits_min = 19;
        uint8_t *out = arena_alloc(arena, line.len + line.len / digits_min * 2 + 2);
        if (out == NULL)
                return SLICE_EMPTY;
        size_t used = 0;
        bool quoted = false;
        for (size_t i = 0; i < line.len;) {
                size_t begin = i;
                bool whole = true;
                for (; !quoted && i < line.len && json_is_number_byte(line.ptr[i]); i++)
                        whole = whole && (line.ptr[i] == '-' || (line.ptr[i] >= '0' && line.ptr[i] <= '9'));
                if (i > begin) {
                        memcpy(out + used, line.ptr + begin, i - begin);
                        used += i - begin;
                        if (whole && i - begin - (line.ptr[begin] == '-') >= digits_min) {
                                out[used++] = '.';
                                out[used++] = '0';
                        }
                        continue;
                }
                if (line.ptr[i] == '"')
                        quoted = !quoted;
                else if (quoted && line.ptr[i] == '\\' && i + 1 < line.len)
                        out[used++] = line.ptr[i++];
                out[used++] = line.ptr[i++];
        }
        return slice_of(out, used);
}

static json_t *jsonl_load(struct slice line, struct arena *arena, json_error_t *ret_error)
{
        const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
        json_t *root = json_loadb((const char *)(line.ptr == NULL ? (const uint8_t *)"" : line.ptr), line.len, flags,
                                  ret_error);
        if (root != NULL || json_error_code(ret_error) != json_error_numeric_overflow)
                return root;
        struct slice larger = jsonl_large_numbers_as_reals(line, arena);
        return larger.ptr == NULL ? NULL : json_loadb((const char *)larger.ptr, larger.len, flags, ret_error);
}

enum err_code jsonl_parse(struct slice line, struct arena *arena, struct jsonl_event *ret_event, struct err *reterr)
{
        json_error_t error;
        if (line.len > JSONL_LINE_BYTES_MAX)
                return err_set(reterr, ERR_TOO_BIG, "longer than %u bytes", JSONL_LINE_BYTES_MAX);
        json_t *root = jsonl_load(line, arena, &error);
        if (root == NULL)
                return err_set(reterr, ERR_SYNTAX, "not JSON: column %d: %s", error.column, error.text);
        struct reading reading = {.arena = arena, .reterr = reterr};
        struct sendring_event event;
        struct jsonl_extras mail_extras = {.count = 0}, top_extras = {.count = 0};
        struct jsonl_event result = {.encoded = SLICE_EMPTY};
        enum err_code code = jsonl_read(&reading, root, &event, &mail_extras, &top_extras);
        if (code == ERR_OK)
                code = jsonl_encode(&reading, &event, &mail_extras, &top_extras, &result);
        json_decref(root);
        if (code != ERR_OK)
                return code;
        result.type = event.type;
        result.members_dropped = reading.dropped;
        result.dropped = reading.dropped_paths;
        *ret_event = result;
        return ERR_OK;
}
