/* What a message's lines amount to, as events for the callback. */
#include "feeds/postfix_internal.h"

#include "codecs/codec.h"

#include <stdio.h>

static enum err_code postfix_emit(struct postfix *postfix, const struct sendring_event *event)
{
        postfix->counts.events[event->type]++;
        return postfix->options.event(postfix->options.context, event) ? ERR_OK : ERR_BUSY;
}

/* An address list header into its addresses: commas outside quotes and brackets part them. */
static struct sendring_strs postfix_addresses(struct sendring_str value, struct sendring_str *items)
{
        struct sendring_strs list = {items, 0};
        bool quoted = false, bracket = false;
        size_t begin = 0;
        for (size_t i = 0; i <= value.len && list.count < POSTFIX_DESTINATIONS_MAX; i++) {
                char byte = i < value.len ? value.ptr[i] : ',';
                if (byte == '\\' && quoted) {
                        i++;
                } else if (byte == '"') {
                        quoted = !quoted;
                } else if (byte == '<' && !quoted) {
                        bracket = true;
                } else if (byte == '>' && !quoted) {
                        bracket = false;
                } else if (i >= value.len || (byte == ',' && !quoted && !bracket)) {
                        struct slice one =
                                slice_trim(slice_of(value.ptr + begin, (i < value.len ? i : value.len) - begin));
                        if (one.len > 0)
                                items[list.count++] = postfix_str(one);
                        begin = i + 1;
                }
        }
        return list;
}

static void postfix_fill_headers(struct postfix *postfix, const struct message *message, struct sendring_mail *mail)
{
        mail->headers = (struct sendring_pairs){message->headers, message->headers_count};
        mail->headers_present = message->headers_count > 0;
        mail->headers_truncated = message->headers_cut;
        /* From the last to the first: of a header that is there twice the first one counts. */
        for (uint32_t i = message->headers_count; i-- > 0;) {
                struct slice name = slice_of(message->headers[i].name.ptr, message->headers[i].name.len);
                struct sendring_str value = message->headers[i].value;
                struct sendring_common_headers *common = &mail->common_headers;
                if (slice_equal_ignore_case(name, SLICE("Subject")))
                        common->subject = value;
                else if (slice_equal_ignore_case(name, SLICE("Date")))
                        common->date = value;
                else if (slice_equal_ignore_case(name, SLICE("From")))
                        common->from = postfix_addresses(value, postfix->addresses[0]);
                else if (slice_equal_ignore_case(name, SLICE("To")))
                        common->to = postfix_addresses(value, postfix->addresses[1]);
                else if (slice_equal_ignore_case(name, SLICE("Cc")))
                        common->cc = postfix_addresses(value, postfix->addresses[2]);
                else if (slice_equal_ignore_case(name, SLICE("Reply-To")))
                        common->reply_to = postfix_addresses(value, postfix->addresses[3]);
        }
}

static void postfix_begin(struct line *line, enum sendring_event_type type, struct sendring_event *event)
{
        struct postfix *postfix = line->postfix;
        const struct message *message = line->message;
        sendring_event_init(event, type);
        struct sendring_mail *mail = &event->mail;
        mail->configuration_set = postfix_str(message->configuration_set.len > 0 ? message->configuration_set
                                                                                 : postfix->options.configuration_set);
        mail->tags = (struct sendring_pairs){message->tags, message->tags_count};
        mail->timestamp_ms = message->timestamp_ms;
        mail->message_id = postfix_str(message->queue_id);
        mail->source = postfix_str(message->sender);
        mail->caller_identity = postfix_str(message->caller_identity);
        mail->source_ip = postfix_str(message->client_ip);
        mail->source_tls_version = postfix_str(message->tls_version);
        mail->from_domain = postfix_str(message->from_domain);
        mail->operation = postfix_str(message->operation);
        if (type != SENDRING_DELIVERY_DELAY)
                postfix_fill_headers(postfix, message, mail);
}

static void postfix_fill_destinations(struct line *line, struct sendring_event *event)
{
        struct postfix *postfix = line->postfix;
        const struct message *message = line->message;
        for (uint32_t i = 0; i < message->recipients_count; i++)
                postfix->destination[i] = postfix_str(message->recipients[i].address);
        event->mail.destination = (struct sendring_strs){postfix->destination, message->recipients_count};
}

/* All known recipients, as many as the event, filled but for them, has room for. */
static void postfix_list_recipients(struct line *line, struct sendring_event *event)
{
        struct sendring_strs *list = &event->mail.destination;
        postfix_fill_destinations(line, event);
        for (size_t bytes = codec_event_size_max(event); bytes > SENDRING_EVENT_BYTES_MAX && list->count > 1;
             line->postfix->counts.recipients_unlisted++)
                bytes -= list->items[--list->count].len;
}

/* All known recipients; above the number that SES allows, or where there is no room for them, `only`. */
static void postfix_list_recipients_or(struct line *line, struct sendring_event *event, struct slice only)
{
        struct postfix *postfix = line->postfix;
        if (line->message->recipients_count <= POSTFIX_DESTINATIONS_MAX) {
                postfix_fill_destinations(line, event);
                if (codec_event_size_max(event) <= SENDRING_EVENT_BYTES_MAX)
                        return;
        }
        postfix->destination[0] = postfix_str(only);
        event->mail.destination = (struct sendring_strs){postfix->destination, 1};
}

enum err_code postfix_send(struct line *line)
{
        struct message *message = line->message;
        struct sendring_event event;
        message->sent = true;
        postfix_begin(line, SENDRING_SEND, &event);
        postfix_list_recipients(line, &event);
        return postfix_emit(line->postfix, &event);
}

/* The message leaves: what was held back is told now, with what is known. */
enum err_code postfix_finish(struct line *line)
{
        struct message *message = line->message;
        enum err_code code = ERR_OK;
        if (message->born && message->active && !message->sent && !message->notification) {
                if (message->recipients_count > 0)
                        code = postfix_send(line);
                else if (!message->local)
                        line->postfix->counts.sends_unknown++;
        }
        return code;
}

static const char *postfix_feedback_id(const struct line *line, struct slice address, char out[61])
{
        uint64_t high = postfix_hash(UINT64_C(0x5e4d), line->syslog.host);
        uint64_t low = postfix_hash(UINT64_C(0x1d), line->syslog.host);
        high = postfix_hash(postfix_hash(high, line->queue_id), address);
        low = postfix_hash(postfix_hash(low, address), line->queue_id) ^ (uint64_t)line->time_ms;
        codec_message_id_write(line->time_ms, high, low * UINT64_C(0x9e3779b97f4a7c15), out);
        return out;
}

/* With time stamps of whole seconds: arrival and `delay=` tell the rest, where they agree with the stamp. */
int64_t postfix_outcome_time(const struct line *line, int64_t delay_ms)
{
        int64_t time_ms = line->time_ms;
        if (!line->message->exact || time_ms % 1000 != 0 || delay_ms < 0)
                return time_ms;
        int64_t by_delay = line->message->timestamp_ms + delay_ms;
        if (by_delay < time_ms)
                return time_ms;
        return by_delay > time_ms + 999 ? time_ms + 999 : by_delay;
}

/* The longest diagnostic that a bounce carries. */
#define POSTFIX_DIAGNOSTIC_BYTES (POSTFIX_TEXT_BYTES_MAX + 8)

static struct sendring_str postfix_diagnostic(struct slice text, char out[POSTFIX_DIAGNOSTIC_BYTES])
{
        int used = snprintf(out, POSTFIX_DIAGNOSTIC_BYTES, "smtp; ");
        size_t len = text.len < POSTFIX_TEXT_BYTES_MAX ? text.len : POSTFIX_TEXT_BYTES_MAX;
        if (len > 0)
                memcpy(out + used, text.ptr, len);
        return sendring_strn(out, (size_t)used + len);
}

static struct slice postfix_reporting_mta(const struct line *line)
{
        struct slice name = line->postfix->options.reporting_mta;
        return name.len > 0 ? name : line->syslog.host;
}

enum err_code postfix_bounce(struct line *line, struct slice address, struct slice dsn, struct slice text,
                             bool from_peer, struct slice ip, int64_t time_ms, bool expired)
{
        char diagnostic[POSTFIX_DIAGNOSTIC_BYTES], id[61], mta[300];
        struct classify_verdict verdict = classify(line->postfix->options.profile, dsn, text, from_peer, expired);
        struct slice host = postfix_reporting_mta(line);
        int mta_bytes = snprintf(mta, sizeof(mta), "dns; %.*s", SLICE_PRINTF(slice_head(host, 255)));
        struct sendring_recipient recipient = {
                .email_address = postfix_str(address),
                .action = SENDRING_STR("failed"),
                .status = postfix_str(dsn),
                .diagnostic_code = postfix_diagnostic(text, diagnostic),
        };
        struct sendring_event event;
        postfix_begin(line, SENDRING_BOUNCE, &event);
        event.bounce.feedback_id = sendring_strn(postfix_feedback_id(line, address, id), 60);
        event.bounce.bounce_type = sendring_strn(verdict.bounce_type, strlen(verdict.bounce_type));
        event.bounce.bounce_sub_type = sendring_strn(verdict.bounce_sub_type, strlen(verdict.bounce_sub_type));
        event.bounce.bounced_recipients = (struct sendring_recipients){&recipient, 1};
        event.bounce.timestamp_ms = time_ms;
        event.bounce.remote_mta_ip = postfix_str(ip);
        event.bounce.reporting_mta = sendring_strn(mta, (size_t)mta_bytes);
        postfix_list_recipients_or(line, &event, address);
        return postfix_emit(line->postfix, &event);
}

enum err_code postfix_delivery(struct line *line, const struct postfix_outcome *outcome, int64_t time_ms)
{
        struct sendring_event event;
        struct sendring_str recipient = postfix_str(outcome->to);
        postfix_begin(line, SENDRING_DELIVERY, &event);
        const struct peer *peer = &line->postfix->peers[line->syslog.pid % POSTFIX_PEERS];
        if (peer->pid == line->syslog.pid && peer->pid != 0 &&
            slice_equal(slice_of_text(peer->relay), outcome->relay) && outcome->relay.len > 0)
                event.mail.outgoing_tls_version = sendring_strn(peer->version, strlen(peer->version));
        event.delivery.timestamp_ms = time_ms;
        event.delivery.processing_time_millis = outcome->delay_ms;
        event.delivery.recipients = (struct sendring_strs){&recipient, 1};
        event.delivery.smtp_response = postfix_str(outcome->text);
        event.delivery.remote_mta_ip = postfix_str(postfix_relay_ip(outcome->relay));
        event.delivery.reporting_mta = postfix_str(postfix_reporting_mta(line));
        postfix_list_recipients_or(line, &event, outcome->to);
        return postfix_emit(line->postfix, &event);
}

enum err_code postfix_delay(struct line *line, struct recipient *recipient, struct slice address, struct slice dsn,
                            struct slice text, bool from_peer, int64_t time_ms)
{
        struct postfix *postfix = line->postfix;
        const char *delay_type = classify(postfix->options.profile, dsn, text, from_peer, false).delay_type;
        if (recipient != NULL) {
                bool same = strcmp(recipient->delay_type, delay_type) == 0;
                bool due = postfix->options.delay_interval_ms > 0 &&
                           time_ms - recipient->delay_at_ms >= postfix->options.delay_interval_ms;
                if (same && !due) {
                        postfix->counts.delays_suppressed++;
                        return ERR_OK;
                }
                (void)snprintf(recipient->delay_type, sizeof(recipient->delay_type), "%s", delay_type); /* fits */
                recipient->delay_at_ms = time_ms;
        }
        char diagnostic[POSTFIX_DIAGNOSTIC_BYTES];
        struct sendring_recipient delayed = {
                .email_address = postfix_str(address),
                .status = postfix_str(dsn),
                .diagnostic_code = postfix_diagnostic(text, diagnostic),
        };
        struct sendring_event event;
        postfix_begin(line, SENDRING_DELIVERY_DELAY, &event);
        event.delivery_delay.timestamp_ms = time_ms;
        event.delivery_delay.delay_type = sendring_strn(delay_type, strlen(delay_type));
        if (postfix->options.queue_lifetime_ms > 0)
                event.delivery_delay.expiration_time_ms =
                        line->message->timestamp_ms + postfix->options.queue_lifetime_ms;
        event.delivery_delay.delayed_recipients = (struct sendring_recipients){&delayed, 1};
        postfix_list_recipients_or(line, &event, address);
        return postfix_emit(postfix, &event);
}

enum err_code postfix_reject(struct line *line)
{
        struct sendring_event event;
        postfix_begin(line, SENDRING_REJECT, &event);
        event.reject.reason = SENDRING_STR("Bad content");
        postfix_list_recipients(line, &event);
        return postfix_emit(line->postfix, &event);
}
