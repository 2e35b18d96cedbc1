/* What a struct sendring_event needs at most once it is encoded, and an empty one to begin with: both read or write all
 * members of the public struct. Compiled into libsendring: libc only, nothing that allocates, logs or aborts. */
#include "codecs/codec.h"
#include "codecs/codec_internal.h"

#include "base/limits.h"

/* A text takes 5 bytes of header at most, and its key one. */
#define ENCODE_TEXT_BYTES UINT64_C(6)
/* Everything that is not a text or a list element: map and array headers, keys, times, counts. */
#define ENCODE_FIXED_BYTES UINT64_C(256)

/* Sums lengths; the OR of all lengths tells at the end whether the sum can have overflowed. */
struct encode_sum {
        uint64_t bytes;
        uint64_t bits;
};

static inline void sum_text(struct encode_sum *sum, struct sendring_str text)
{
        sum->bytes += text.len + ENCODE_TEXT_BYTES;
        sum->bits |= text.len;
}

/* Longer lists, and those at a NULL pointer, are refused by the encoder before it writes an element. */
static inline size_t sum_count(const void *items, size_t count)
{
        if (items == NULL)
                return 0;
        return count < SENDRING_LIST_ITEMS_MAX ? count : SENDRING_LIST_ITEMS_MAX;
}

static inline void sum_texts(struct encode_sum *sum, struct sendring_strs list)
{
        size_t count = sum_count(list.items, list.count);
        for (size_t i = 0; i < count; i++)
                sum_text(sum, list.items[i]);
}

static inline void sum_pairs(struct encode_sum *sum, const struct sendring_pair *items, size_t items_count)
{
        size_t count = sum_count(items, items_count);
        for (size_t i = 0; i < count; i++) {
                sum_text(sum, items[i].name);
                sum_text(sum, items[i].value);
        }
}

static void sum_headers(struct encode_sum *sum, struct sendring_pairs headers)
{
        struct encode_sum all = {0, 0};
        sum_pairs(&all, headers.items, headers.count);
        /* What is beyond 10 KB is not written; an element counts 4 bytes there and 2 * 6 here. */
        uint64_t most = LIMIT_HEADERS_BYTES_MAX + sum_count(headers.items, headers.count) * 2 * ENCODE_TEXT_BYTES;
        sum->bytes += all.bytes < most ? all.bytes : most;
}

static void sum_topics(struct encode_sum *sum, const struct sendring_topic_preferences *preferences)
{
        const struct sendring_topics *lists[2] = {&preferences->topic_subscription_status,
                                                  &preferences->topic_default_subscription_status};
        for (size_t i = 0; i < 2; i++) {
                size_t count = sum_count(lists[i]->items, lists[i]->count);
                for (size_t j = 0; j < count; j++) {
                        sum_text(sum, lists[i]->items[j].topic_name);
                        sum_text(sum, lists[i]->items[j].subscription_status);
                }
        }
}

static void sum_recipients(struct encode_sum *sum, struct sendring_recipients list)
{
        size_t count = sum_count(list.items, list.count);
        for (size_t i = 0; i < count; i++) {
                const struct sendring_recipient *recipient = &list.items[i];
                sum->bytes++;
                sum_text(sum, recipient->email_address);
                sum_text(sum, recipient->action);
                sum_text(sum, recipient->status);
                sum_text(sum, recipient->diagnostic_code);
        }
}

static void sum_object(struct encode_sum *sum, const struct sendring_event *event)
{
        switch (event->type) {
        case SENDRING_SEND:
                return;
        case SENDRING_RENDERING_FAILURE:
                sum_text(sum, event->failure.template_name);
                sum_text(sum, event->failure.error_message);
                return;
        case SENDRING_REJECT:
                sum_text(sum, event->reject.reason);
                return;
        case SENDRING_DELIVERY:
                sum_texts(sum, event->delivery.recipients);
                sum_text(sum, event->delivery.smtp_response);
                sum_text(sum, event->delivery.remote_mta_ip);
                sum_text(sum, event->delivery.reporting_mta);
                return;
        case SENDRING_BOUNCE:
                sum_text(sum, event->bounce.feedback_id);
                sum_text(sum, event->bounce.bounce_type);
                sum_text(sum, event->bounce.bounce_sub_type);
                sum_recipients(sum, event->bounce.bounced_recipients);
                sum_text(sum, event->bounce.remote_mta_ip);
                sum_text(sum, event->bounce.reporting_mta);
                return;
        case SENDRING_COMPLAINT:
                sum_text(sum, event->complaint.feedback_id);
                sum_text(sum, event->complaint.complaint_sub_type);
                sum_texts(sum, event->complaint.complained_recipients);
                sum_text(sum, event->complaint.user_agent);
                sum_text(sum, event->complaint.complaint_feedback_type);
                return;
        case SENDRING_DELIVERY_DELAY:
                sum_text(sum, event->delivery_delay.delay_type);
                sum_recipients(sum, event->delivery_delay.delayed_recipients);
                sum_text(sum, event->delivery_delay.reporting_mta);
                return;
        case SENDRING_SUBSCRIPTION:
                sum_text(sum, event->subscription.contact_list);
                sum_text(sum, event->subscription.source);
                sum_topics(sum, &event->subscription.new_topic_preferences);
                sum_topics(sum, &event->subscription.old_topic_preferences);
                return;
        case SENDRING_OPEN:
                sum_text(sum, event->open.user_agent);
                sum_text(sum, event->open.ip_address);
                sum_text(sum, event->open.is_bot_event);
                return;
        case SENDRING_CLICK:
                sum_text(sum, event->click.ip_address);
                sum_text(sum, event->click.user_agent);
                sum_text(sum, event->click.link);
                sum_pairs(sum, event->click.link_tags.items, event->click.link_tags.count);
                sum_text(sum, event->click.is_bot_event);
                return;
        }
}

size_t codec_event_size_max(const struct sendring_event *event)
{
        const struct sendring_mail *mail = &event->mail;
        struct encode_sum sum = {ENCODE_FIXED_BYTES, 0};
        sum_text(&sum, mail->configuration_set);
        sum_pairs(&sum, mail->tags.items, mail->tags.count);
        sum_text(&sum, mail->message_id);
        sum_text(&sum, mail->source);
        sum_text(&sum, mail->source_arn);
        sum_text(&sum, mail->sending_account_id);
        sum_texts(&sum, mail->destination);
        sum_headers(&sum, mail->headers);
        sum_texts(&sum, mail->common_headers.from);
        sum_texts(&sum, mail->common_headers.to);
        sum_texts(&sum, mail->common_headers.cc);
        sum_texts(&sum, mail->common_headers.bcc);
        sum_texts(&sum, mail->common_headers.reply_to);
        sum_text(&sum, mail->common_headers.date);
        sum_text(&sum, mail->common_headers.subject);
        sum_text(&sum, mail->caller_identity);
        sum_text(&sum, mail->source_ip);
        sum_text(&sum, mail->source_tls_version);
        sum_text(&sum, mail->from_domain);
        sum_text(&sum, mail->operation);
        sum_text(&sum, mail->outgoing_ip);
        sum_text(&sum, mail->outgoing_tls_version);
        sum_object(&sum, event);
        return sum.bits >> 40 != 0 || sum.bytes > SIZE_MAX ? SIZE_MAX : (size_t)sum.bytes;
}

void codec_event_init(struct sendring_event *event, enum sendring_event_type type)
{
        memset(event, 0, sizeof(*event));
        event->size = sizeof(*event);
        event->type = type;
        event->mail.timestamp_ms = SENDRING_NO_TIME;
        switch (type) {
        case SENDRING_SEND:
        case SENDRING_RENDERING_FAILURE:
        case SENDRING_REJECT:
                return;
        case SENDRING_DELIVERY:
                event->delivery.timestamp_ms = SENDRING_NO_TIME;
                event->delivery.processing_time_millis = -1;
                return;
        case SENDRING_BOUNCE:
                event->bounce.timestamp_ms = SENDRING_NO_TIME;
                return;
        case SENDRING_COMPLAINT:
                event->complaint.timestamp_ms = SENDRING_NO_TIME;
                event->complaint.arrival_date_ms = SENDRING_NO_TIME;
                return;
        case SENDRING_DELIVERY_DELAY:
                event->delivery_delay.timestamp_ms = SENDRING_NO_TIME;
                event->delivery_delay.expiration_time_ms = SENDRING_NO_TIME;
                return;
        case SENDRING_SUBSCRIPTION:
                event->subscription.timestamp_ms = SENDRING_NO_TIME;
                return;
        case SENDRING_OPEN:
                event->open.timestamp_ms = SENDRING_NO_TIME;
                return;
        case SENDRING_CLICK:
                event->click.timestamp_ms = SENDRING_NO_TIME;
                return;
        }
}
