/* Joins the lines about one message and tells its events. The grammar of the lines is in postfix_line.c, what a refusal
 * means in classify.c. */
#include "feeds/postfix_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "codecs/codec.h"
#include "codecs/tag.h"
#include "feeds/postfix_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define DAY_MS INT64_C(86400000)

/* ---------------------------------------------------------------------------------------------- messages */

static uint64_t postfix_hash(uint64_t seed, struct slice bytes)
{
        uint64_t hash = UINT64_C(14695981039346656037) ^ seed;
        for (size_t i = 0; i < bytes.len; i++)
                hash = (hash ^ bytes.ptr[i]) * UINT64_C(1099511628211);
        return hash;
}

static struct message **postfix_bucket(struct postfix *postfix, struct slice queue_id)
{
        uint64_t hash = postfix_hash(0, queue_id);
        return &postfix->buckets[(hash ^ hash >> 32) & (postfix->buckets_count - 1)];
}

struct message *postfix_message_find(struct postfix *postfix, struct slice queue_id)
{
        struct message *message = *postfix_bucket(postfix, queue_id);
        while (message != NULL && !slice_equal(message->queue_id, queue_id))
                message = message->hash_next;
        return message;
}

static void postfix_unlink(struct postfix *postfix, struct message *message)
{
        if (message->newer != NULL)
                message->newer->older = message->older;
        else
                postfix->newest = message->older;
        if (message->older != NULL)
                message->older->newer = message->newer;
        else
                postfix->oldest = message->newer;
        message->newer = message->older = NULL;
}

static void postfix_link_newest(struct postfix *postfix, struct message *message)
{
        message->older = postfix->newest;
        if (postfix->newest != NULL)
                postfix->newest->newer = message;
        else
                postfix->oldest = message;
        postfix->newest = message;
}

void postfix_message_recount(struct postfix *postfix, struct message *message)
{
        uint64_t bytes =
                sizeof(*message) + message->arena.allocated_bytes + message->recipients_room * sizeof(struct recipient);
        for (uint32_t i = 0; i < message->recipients_count; i++)
                bytes += message->recipients[i].text_bytes;
        postfix->bytes += bytes - message->bytes;
        message->bytes = bytes;
}

struct message *postfix_message_add(struct postfix *postfix, struct slice queue_id)
{
        struct message *message = calloc(1, sizeof(*message));
        if (message == NULL)
                return NULL;
        arena_init(&message->arena, 512, POSTFIX_MESSAGE_BYTES_MAX);
        message->queue_id = arena_copy(&message->arena, queue_id);
        if (message->queue_id.ptr == NULL) {
                free(message);
                return NULL;
        }
        struct message **bucket = postfix_bucket(postfix, queue_id);
        message->hash_next = *bucket;
        *bucket = message;
        postfix_link_newest(postfix, message);
        postfix->messages_count++;
        postfix_message_recount(postfix, message);
        return message;
}

void postfix_message_drop(struct postfix *postfix, struct message *message)
{
        struct message **at = postfix_bucket(postfix, message->queue_id);
        while (*at != message)
                at = &(*at)->hash_next;
        *at = message->hash_next;
        postfix_unlink(postfix, message);
        postfix->messages_count--;
        postfix->bytes -= message->bytes;
        for (uint32_t i = 0; i < message->recipients_count; i++)
                free(message->recipients[i].text);
        free(message->recipients);
        arena_release(&message->arena);
        free(message);
}

struct recipient *postfix_recipient(struct message *message, struct slice address, bool *ret_memory)
{
        for (uint32_t i = 0; i < message->recipients_count; i++)
                if (slice_equal(message->recipients[i].address, address))
                        return &message->recipients[i];
        if (message->recipients_count == POSTFIX_RECIPIENTS_MAX)
                return NULL;
        if (message->recipients_count == message->recipients_room) {
                uint32_t room = message->recipients_room == 0 ? 1 : message->recipients_room * 2;
                struct recipient *larger = realloc(message->recipients, room * sizeof(*larger));
                if (larger == NULL) {
                        *ret_memory = true;
                        return NULL;
                }
                message->recipients = larger;
                message->recipients_room = room;
        }
        struct slice copy = arena_copy(&message->arena, address);
        if (copy.ptr == NULL)
                return NULL;
        struct recipient *recipient = &message->recipients[message->recipients_count++];
        *recipient = (struct recipient){.address = copy};
        return recipient;
}

struct postfix *postfix_create(const struct postfix_options *options)
{
        struct postfix *postfix = calloc(1, sizeof(*postfix));
        if (postfix == NULL)
                return NULL;
        postfix->options = *options;
        if (postfix->options.syslog_name.len == 0)
                postfix->options.syslog_name = SLICE("postfix");
        if (postfix->options.messages_max == 0)
                postfix->options.messages_max = POSTFIX_MESSAGES_MAX_DEFAULT;
        if (postfix->options.state_bytes_max == 0)
                postfix->options.state_bytes_max = UINT64_C(4096) * postfix->options.messages_max;
        postfix->buckets_count = 64;
        while (postfix->buckets_count < postfix->options.messages_max && postfix->buckets_count < 1u << 20)
                postfix->buckets_count *= 2;
        postfix->buckets = calloc(postfix->buckets_count, sizeof(struct message *));
        if (postfix->buckets == NULL) {
                free(postfix);
                return NULL;
        }
        return postfix;
}

void postfix_free(struct postfix *postfix)
{
        if (postfix == NULL)
                return;
        while (postfix->oldest != NULL)
                postfix_message_drop(postfix, postfix->oldest);
        free(postfix->buckets);
        free(postfix);
}

const struct postfix_counts *postfix_get_counts(const struct postfix *postfix)
{
        return &postfix->counts;
}

uint32_t postfix_messages(const struct postfix *postfix)
{
        return postfix->messages_count;
}

uint64_t postfix_state_bytes(const struct postfix *postfix)
{
        return postfix->bytes;
}

/* ---------------------------------------------------------------------------------------------- time */

/* "Nov 23 04:45:37" in the local zone; the year is the last one in which that time is not after the reference. */
static bool postfix_time_traditional(struct postfix *postfix, struct slice stamp, int64_t reference_ms, int64_t *ret_ms)
{
        static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        if (stamp.len != 15)
                return false;
        if (memcmp(postfix->stamp, stamp.ptr, 15) == 0 && reference_ms - postfix->stamp_reference_ms < DAY_MS &&
            reference_ms >= postfix->stamp_reference_ms) {
                *ret_ms = postfix->stamp_ms;
                return true;
        }
        struct tm civil = {.tm_isdst = -1, .tm_mon = -1};
        for (int i = 0; i < 12; i++)
                if (memcmp(months + (size_t)i * 3, stamp.ptr, 3) == 0)
                        civil.tm_mon = i;
        uint64_t day, hour, minute, second;
        struct slice day_text = slice_trim(slice_of(stamp.ptr + 4, 2));
        if (civil.tm_mon < 0 || stamp.ptr[9] != ':' || stamp.ptr[12] != ':' || !slice_to_u64(day_text, 31, &day) ||
            day == 0 || !slice_to_u64(slice_of(stamp.ptr + 7, 2), 23, &hour) ||
            !slice_to_u64(slice_of(stamp.ptr + 10, 2), 59, &minute) ||
            !slice_to_u64(slice_of(stamp.ptr + 13, 2), 60, &second))
                return false;
        civil.tm_mday = (int)day;
        civil.tm_hour = (int)hour;
        civil.tm_min = (int)minute;
        civil.tm_sec = (int)second;
        time_t reference = (time_t)(reference_ms / 1000);
        struct tm now;
        if (localtime_r(&reference, &now) == NULL)
                return false;
        /* Feb 29 needs up to 8 years back; others at most one. Clocks may be a little apart: a day's grace. */
        for (int back = 0; back < 9; back++) {
                struct tm try = civil;
                try.tm_year = now.tm_year - back;
                time_t time = mktime(&try);
                if (try.tm_mday != (int)day || time == (time_t)-1)
                        continue;
                if ((int64_t)time * 1000 > reference_ms + DAY_MS)
                        continue;
                memcpy(postfix->stamp, stamp.ptr, 15);
                postfix->stamp_ms = (int64_t)time * 1000;
                postfix->stamp_reference_ms = reference_ms;
                *ret_ms = postfix->stamp_ms;
                return true;
        }
        return false;
}

static bool postfix_time(struct postfix *postfix, struct slice stamp, int64_t reference_ms, int64_t *ret_ms)
{
        if (stamp.len > 0 && stamp.ptr[0] >= '0' && stamp.ptr[0] <= '9') {
                if (codec_time_parse(stamp, ret_ms))
                        return *ret_ms >= 0;
                /* journalctl -o short-iso: "+0000" without a colon. */
                char text[48];
                if (stamp.len < 6 || stamp.len + 2 > sizeof(text) ||
                    (stamp.ptr[stamp.len - 5] != '+' && stamp.ptr[stamp.len - 5] != '-'))
                        return false;
                size_t head = stamp.len - 2;
                memcpy(text, stamp.ptr, head);
                text[head] = ':';
                memcpy(text + head + 1, stamp.ptr + head, 2);
                return codec_time_parse(slice_of(text, stamp.len + 1), ret_ms) && *ret_ms >= 0;
        }
        return postfix_time_traditional(postfix, stamp, reference_ms, ret_ms) && *ret_ms >= 0;
}

/* A long queue id begins with the time of arrival: seconds, then 4 digits of microseconds, in base 52, up to the last
 * "z". */
static bool postfix_queue_id_time(struct slice queue_id, int64_t *ret_ms)
{
        static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
        size_t end = queue_id.len;
        while (end > 0 && queue_id.ptr[end - 1] != 'z')
                end--;
        if (end < 11 || end > 13)
                return false;
        end--;
        uint64_t parts[2] = {0, 0};
        for (size_t i = 0; i < end; i++) {
                const char *digit = memchr(digits, queue_id.ptr[i], sizeof(digits) - 1);
                if (digit == NULL)
                        return false;
                uint64_t *part = &parts[i + 4 >= end];
                *part = *part * 52 + (uint64_t)(digit - digits);
        }
        if (parts[1] >= 1000000)
                return false;
        *ret_ms = (int64_t)(parts[0] * 1000 + parts[1] / 1000);
        return true;
}

/* ---------------------------------------------------------------------------------------------- events */

static struct sendring_str postfix_str(struct slice s)
{
        return sendring_strn((const char *)s.ptr, s.len);
}

struct line {
        struct postfix *postfix;
        struct postfix_syslog syslog;
        struct slice program, queue_id, rest;
        int64_t time_ms;
        struct message *message; /* of the queue id; NULL: not known */
};

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

/* All known recipients; or, above the number that SES allows, `only`. */
static void postfix_fill_destination(struct line *line, struct sendring_mail *mail, struct slice only)
{
        struct postfix *postfix = line->postfix;
        const struct message *message = line->message;
        uint32_t count = 0;
        if (only.ptr != NULL && message->recipients_count > POSTFIX_DESTINATIONS_MAX)
                postfix->destination[count++] = postfix_str(only);
        else
                for (uint32_t i = 0; i < message->recipients_count; i++)
                        postfix->destination[count++] = postfix_str(message->recipients[i].address);
        mail->destination = (struct sendring_strs){postfix->destination, count};
}

static enum err_code postfix_send(struct line *line)
{
        struct message *message = line->message;
        struct sendring_event event;
        message->sent = true;
        postfix_begin(line, SENDRING_SEND, &event);
        postfix_fill_destination(line, &event.mail, SLICE_EMPTY);
        return postfix_emit(line->postfix, &event);
}

/* The message leaves: what was held back is told now, with what is known. */
static enum err_code postfix_finish(struct line *line)
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
static int64_t postfix_outcome_time(const struct line *line, int64_t delay_ms)
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

static enum err_code postfix_bounce(struct line *line, struct slice address, struct slice dsn, struct slice text,
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
        postfix_fill_destination(line, &event.mail, address);
        event.bounce.feedback_id = sendring_strn(postfix_feedback_id(line, address, id), 60);
        event.bounce.bounce_type = sendring_strn(verdict.bounce_type, strlen(verdict.bounce_type));
        event.bounce.bounce_sub_type = sendring_strn(verdict.bounce_sub_type, strlen(verdict.bounce_sub_type));
        event.bounce.bounced_recipients = (struct sendring_recipients){&recipient, 1};
        event.bounce.timestamp_ms = time_ms;
        event.bounce.remote_mta_ip = postfix_str(ip);
        event.bounce.reporting_mta = sendring_strn(mta, (size_t)mta_bytes);
        return postfix_emit(line->postfix, &event);
}

static enum err_code postfix_delivery(struct line *line, const struct postfix_outcome *outcome, int64_t time_ms)
{
        struct sendring_event event;
        struct sendring_str recipient = postfix_str(outcome->to);
        postfix_begin(line, SENDRING_DELIVERY, &event);
        postfix_fill_destination(line, &event.mail, outcome->to);
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
        return postfix_emit(line->postfix, &event);
}

static enum err_code postfix_delay(struct line *line, struct recipient *recipient, struct slice address,
                                   struct slice dsn, struct slice text, bool from_peer, int64_t time_ms)
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
        postfix_fill_destination(line, &event.mail, address);
        event.delivery_delay.timestamp_ms = time_ms;
        event.delivery_delay.delay_type = sendring_strn(delay_type, strlen(delay_type));
        if (postfix->options.queue_lifetime_ms > 0)
                event.delivery_delay.expiration_time_ms =
                        line->message->timestamp_ms + postfix->options.queue_lifetime_ms;
        event.delivery_delay.delayed_recipients = (struct sendring_recipients){&delayed, 1};
        return postfix_emit(postfix, &event);
}

/* ---------------------------------------------------------------------------------------------- lines of a message */

static enum err_code postfix_unparsed(struct postfix *postfix, struct slice line, const char *reason)
{
        postfix->counts.unparsed++;
        if (postfix->options.unparsed != NULL)
                postfix->options.unparsed(postfix->options.context, line, reason);
        return ERR_OK;
}

/* The quietest go when there are too many. Their Send, if it was held back, is told first. */
static enum err_code postfix_make_room(struct line *line)
{
        struct postfix *postfix = line->postfix;
        while ((postfix->messages_count > postfix->options.messages_max ||
                postfix->bytes > postfix->options.state_bytes_max) &&
               postfix->oldest != line->message) {
                struct line last = *line;
                last.message = postfix->oldest;
                enum err_code code = postfix_finish(&last);
                if (code != ERR_OK)
                        return code;
                postfix_message_drop(postfix, last.message);
                ASSERT_KNOWN(postfix->oldest != last.message);
                postfix->counts.evicted++;
        }
        return ERR_OK;
}

static enum err_code postfix_message_begin(struct line *line, bool born)
{
        struct postfix *postfix = line->postfix;
        if (line->message != NULL)
                return ERR_OK;
        struct message *message = postfix_message_add(postfix, line->queue_id);
        if (message == NULL)
                return ERR_MEMORY;
        line->message = message;
        message->born = born;
        message->timestamp_ms = line->time_ms;
        int64_t arrival_ms;
        /* An id of the right shape may still be none of that kind: believed when it is near the line's time. */
        if (postfix_queue_id_time(line->queue_id, &arrival_ms) && arrival_ms <= line->time_ms + DAY_MS &&
            arrival_ms > line->time_ms - 60 * DAY_MS) {
                message->timestamp_ms = arrival_ms;
                message->exact = true;
        }
        if (born)
                postfix->counts.messages++;
        else
                postfix->counts.resumed++;
        return ERR_OK;
}

/* Copies into the message; what does not fit its bound stays empty. */
static struct slice postfix_keep(struct message *message, struct slice text)
{
        struct slice copy = text.len == 0 ? SLICE_EMPTY : arena_copy(&message->arena, text);
        return copy.ptr == NULL ? SLICE_EMPTY : copy;
}

static void postfix_keep_header(struct message *message, struct slice name, struct slice value)
{
        if (message->headers_count == POSTFIX_HEADERS_MAX) {
                message->headers_cut = true;
                return;
        }
        struct slice name_copy = postfix_keep(message, name);
        if (name_copy.len == 0)
                return;
        struct sendring_pair *pair = &message->headers[message->headers_count++];
        pair->name = postfix_str(name_copy);
        pair->value = postfix_str(postfix_keep(message, value));
}

static void postfix_keep_tag(struct postfix *postfix, struct message *message, struct slice name, struct slice value)
{
        if (codec_tag_check(name, value, NULL) != ERR_OK || message->tags_count == POSTFIX_TAGS_MAX) {
                postfix->counts.tags_refused++;
                return;
        }
        if (message->tags == NULL)
                message->tags = arena_alloc_array(&message->arena, POSTFIX_TAGS_MAX, sizeof(*message->tags));
        if (message->tags == NULL)
                return;
        message->tags[message->tags_count++] = (struct sendring_pair){
                postfix_str(postfix_keep(message, name)),
                postfix_str(postfix_keep(message, value)),
        };
}

/* "a=b, c=d", where Postfix has put "?" for the newline of a folded header. A cut value's last tag may be half a one.
 */
static void postfix_tags(struct postfix *postfix, struct message *message, struct slice value, bool cut)
{
        uint8_t text[512];
        size_t len = value.len < sizeof(text) ? value.len : sizeof(text);
        for (size_t i = 0; i < len; i++)
                text[i] = value.ptr[i] == '?' || value.ptr[i] == '\t' ? ' ' : value.ptr[i];
        if (cut)
                postfix->counts.tags_cut++;
        for (struct slice rest = slice_of(text, len); rest.ptr != NULL;) {
                struct slice item = slice_trim(slice_cut(&rest, ','));
                if (item.len == 0 || (cut && rest.ptr == NULL))
                        continue;
                struct slice name = slice_cut(&item, '=');
                postfix_keep_tag(postfix, message, slice_trim(name), slice_trim(item));
        }
}

static bool postfix_is_set_name(struct slice name)
{
        if (name.len == 0 || name.len > 64)
                return false;
        for (size_t i = 0; i < name.len; i++)
                if ((codec_tag_bytes[name.ptr[i]] & CODEC_TAG_NAME) == 0)
                        return false;
        return true;
}

/* Header checks see the headers of attached messages as well, unless nested_header_checks says otherwise, and the lines
 * do not tell which is which. A message has one From and one Subject: with a second one an attached message has begun,
 * and what it says, tags and configuration set included, is not said of the mail. */
static bool postfix_is_attached(struct message *message, struct slice name)
{
        bool from = slice_equal_ignore_case(name, SLICE("From"));
        bool subject = slice_equal_ignore_case(name, SLICE("Subject"));
        message->attached |= (from && message->from_seen) || (subject && message->subject_seen);
        message->from_seen |= from;
        message->subject_seen |= subject;
        return message->attached;
}

static enum err_code postfix_line_header(struct line *line, struct slice whole)
{
        struct postfix *postfix = line->postfix;
        struct postfix_header header;
        if (!postfix_header_parse(line->rest, &header))
                return postfix_unparsed(postfix, whole, "a header that is not understood");
        enum err_code code = postfix_message_begin(line, true);
        if (code != ERR_OK)
                return code;
        struct message *message = line->message;
        if (postfix_is_attached(message, header.name)) {
                postfix->counts.headers_attached++;
                return ERR_OK;
        }
        if (slice_equal_ignore_case(header.name, SLICE("X-SES-CONFIGURATION-SET"))) {
                if (!postfix_is_set_name(header.value))
                        postfix->counts.sets_refused++;
                else if (message->configuration_set.len == 0)
                        message->configuration_set = postfix_keep(message, header.value);
        } else if (slice_equal_ignore_case(header.name, SLICE("X-SES-MESSAGE-TAGS"))) {
                postfix_tags(postfix, message, header.value, header.cut);
        } else if (slice_equal_ignore_case(header.name, SLICE("From")) && message->from_domain.len == 0) {
                struct slice domain = header.value;
                size_t at = domain.len;
                while (at > 0 && domain.ptr[at - 1] != '@')
                        at--;
                domain = at == 0 ? SLICE_EMPTY : slice_from(domain, at);
                size_t end = 0;
                while (end < domain.len && (codec_tag_bytes[domain.ptr[end]] != 0) && domain.ptr[end] != '@')
                        end++;
                message->from_domain = postfix_keep(message, slice_head(domain, end));
        }
        message->headers_cut |= header.cut;
        postfix_keep_header(message, header.name, header.value);
        return ERR_OK;
}

/* The value of ", NAME=VALUE" in a list of such, up to the next ", ". */
static struct slice postfix_attribute(struct slice text, struct slice name)
{
        size_t at = slice_find(text, name);
        if (at == text.len)
                return SLICE_EMPTY;
        struct slice value = slice_from(text, at + name.len);
        return slice_head(value, slice_find(value, SLICE(", ")));
}

/* A content filter gave it back: what was said of the original message holds for this one. */
static void postfix_inherit(struct postfix *postfix, struct message *message, struct slice original_id)
{
        const struct message *original = postfix_message_find(postfix, original_id);
        if (original == NULL || original == message)
                return;
        message->configuration_set = postfix_keep(message, original->configuration_set);
        message->caller_identity = postfix_keep(message, original->caller_identity);
        message->tls_version = postfix_keep(message, original->tls_version);
        message->from_domain = postfix_keep(message, original->from_domain);
        message->headers_cut = original->headers_cut;
        for (uint32_t i = 0; i < original->headers_count; i++)
                postfix_keep_header(message, slice_of(original->headers[i].name.ptr, original->headers[i].name.len),
                                    slice_of(original->headers[i].value.ptr, original->headers[i].value.len));
        for (uint32_t i = 0; i < original->tags_count; i++)
                postfix_keep_tag(postfix, message, slice_of(original->tags[i].name.ptr, original->tags[i].name.len),
                                 slice_of(original->tags[i].value.ptr, original->tags[i].value.len));
}

/* `client=host[ip], sasl_method=.., sasl_username=.., orig_queue_id=.., orig_client=host[ip]` */
static enum err_code postfix_line_client(struct line *line)
{
        enum err_code code = postfix_message_begin(line, true);
        if (code != ERR_OK)
                return code;
        struct message *message = line->message;
        struct slice client = slice_from(line->rest, 7);
        client = slice_head(client, slice_find(client, SLICE(", ")));
        struct slice original_client = postfix_attribute(line->rest, SLICE(", orig_client="));
        struct slice original_id = postfix_attribute(line->rest, SLICE(", orig_queue_id="));
        message->client_ip =
                postfix_keep(message, postfix_relay_ip(original_client.len > 0 ? original_client : client));
        message->caller_identity = postfix_keep(message, postfix_attribute(line->rest, SLICE(", sasl_username=")));
        message->operation = SLICE("SMTP");
        const struct peer *peer = &line->postfix->peers[line->syslog.pid % POSTFIX_PEERS];
        if (peer->pid != 0 && peer->pid == line->syslog.pid && peer->relay[0] == '\0')
                message->tls_version = postfix_keep(message, slice_of_text(peer->version));
        if (original_id.len > 0)
                postfix_inherit(line->postfix, message, original_id);
        return ERR_OK;
}

/* pickup: `uid=1000 from=<user>`: sendmail on this host. */
static enum err_code postfix_line_pickup(struct line *line)
{
        enum err_code code = postfix_message_begin(line, true);
        if (code != ERR_OK)
                return code;
        struct message *message = line->message;
        char identity[32];
        struct slice uid = slice_from(line->rest, 4);
        uid = slice_head(uid, slice_find_byte(uid, ' '));
        (void)snprintf(identity, sizeof(identity), "uid-%.*s", SLICE_PRINTF(slice_head(uid, 20))); /* fits */
        message->caller_identity = postfix_keep(message, slice_of_text(identity));
        message->operation = SLICE("sendmail");
        return ERR_OK;
}

static enum err_code postfix_line_message_id(struct line *line)
{
        enum err_code code = postfix_message_begin(line, true);
        if (code != ERR_OK)
                return code;
        struct slice id = slice_from(line->rest, sizeof("message-id=") - 1);
        for (uint32_t i = 0; i < line->message->headers_count; i++)
                if (slice_equal_ignore_case(
                            slice_of(line->message->headers[i].name.ptr, line->message->headers[i].name.len),
                            SLICE("Message-ID")))
                        return ERR_OK;
        if (id.len > 0)
                postfix_keep_header(line->message, SLICE("Message-ID"), id);
        return ERR_OK;
}

static enum err_code postfix_line_expired(struct line *line)
{
        struct message *message = line->message;
        uint32_t bounced = 0;
        enum err_code code = ERR_OK;
        if (message->born && !message->sent && message->recipients_count > 0)
                code = postfix_send(line);
        for (uint32_t i = 0; i < message->recipients_count && code == ERR_OK; i++) {
                struct recipient *recipient = &message->recipients[i];
                if (recipient->state != RECIPIENT_DEFERRED)
                        continue;
                recipient->state = RECIPIENT_DONE;
                code = postfix_bounce(line, recipient->address, slice_of_text(recipient->dsn),
                                      slice_of(recipient->text, recipient->text_bytes), recipient->from_peer,
                                      slice_of_text(recipient->ip), line->time_ms, true);
                bounced++;
        }
        if (bounced == 0)
                line->postfix->counts.expired_unknown++;
        return code;
}

/* qmgr: `from=<..>, size=.., nrcpt=.. (queue active)` and `from=<..>, status=expired, returned to sender` */
static enum err_code postfix_line_qmgr(struct line *line, struct slice whole)
{
        struct slice sender;
        size_t at = 5;
        if (!postfix_address(line->rest, &at, &sender))
                return postfix_unparsed(line->postfix, whole, "a sender that is not understood");
        struct slice rest = slice_from(line->rest, at);
        bool expired = slice_has_prefix(rest, SLICE(", status=expired")) ||
                       slice_has_prefix(rest, SLICE(", status=force-expired"));
        struct slice expected_text = postfix_attribute(rest, SLICE(", nrcpt="));
        uint64_t expected = 0;
        if (!expired &&
            !slice_to_u64(slice_head(expected_text, slice_find_byte(expected_text, ' ')), UINT32_MAX, &expected)) {
                line->postfix->counts.ignored++;
                return ERR_OK;
        }
        enum err_code code = postfix_message_begin(line, false);
        if (code != ERR_OK)
                return code;
        struct message *message = line->message;
        if (!message->active) {
                message->active = true;
                message->sender = postfix_keep(message, sender);
                message->notification = sender.len == 0 || slice_has_prefix(sender, SLICE("double-bounce@"));
        } else if (!expired && message->born && !message->sent && !message->notification &&
                   message->recipients_count > 0) {
                /* Tried again: who was not named in the first round would hold its Send back for long. */
                code = postfix_send(line);
        }
        if (expected > 0 && expected <= UINT32_MAX)
                message->recipients_expected = (uint32_t)expected;
        if (code == ERR_OK && expired && !message->notification)
                code = postfix_line_expired(line);
        return code;
}

static void postfix_remember_deferral(struct recipient *recipient, const struct postfix_outcome *outcome,
                                      struct slice text, bool from_peer)
{
        size_t len = text.len < POSTFIX_TEXT_BYTES_MAX ? text.len : POSTFIX_TEXT_BYTES_MAX;
        char *copy = malloc(len == 0 ? 1 : len);
        if (copy != NULL) { /* else the text before it stays: only the words of a bounce at expiry */
                if (len > 0)
                        memcpy(copy, text.ptr, len);
                free(recipient->text);
                recipient->text = copy;
                recipient->text_bytes = (uint32_t)len;
        }
        recipient->state = RECIPIENT_DEFERRED;
        recipient->from_peer = from_peer;
        (void)slice_to_text(outcome->dsn, recipient->dsn, sizeof(recipient->dsn)); /* fits: 9.999.999 */
        (void)slice_to_text(postfix_relay_ip(outcome->relay), recipient->ip, sizeof(recipient->ip)); /* "": no ip */
}

static bool postfix_is_local(const struct line *line, const struct postfix_outcome *outcome)
{
        const struct postfix_options *options = &line->postfix->options;
        static const char *const programs[] = {"local", "virtual", "pipe", "discard"};
        for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
                if (!options->local_deliveries && slice_equal(line->program, slice_of_text(programs[i])))
                        return true;
        for (uint32_t i = 0; i < options->local_relays_count; i++)
                if (slice_has_prefix(outcome->relay, options->local_relays[i]))
                        return true;
        return false;
}

/* smtp, lmtp, error, ...: one attempt for one recipient. */
static enum err_code postfix_line_outcome(struct line *line, struct slice whole)
{
        struct postfix *postfix = line->postfix;
        struct message *message = line->message;
        struct postfix_outcome outcome;
        if (!postfix_outcome_parse(line->rest, &outcome) || outcome.to.len == 0)
                return postfix_unparsed(postfix, whole, "an outcome that is not understood");
        bool sent = slice_equal(outcome.status, SLICE("sent"));
        bool bounced = slice_equal(outcome.status, SLICE("bounced"));
        /* With soft_bounce, what would have bounced stays in the queue. */
        bool deferred =
                slice_equal(outcome.status, SLICE("deferred")) || slice_equal(outcome.status, SLICE("SOFTBOUNCE"));
        if (!sent && !bounced && !deferred) {
                postfix->counts.outcomes_other++;
                return ERR_OK;
        }
        if (message == NULL || !message->active) {
                postfix->counts.outcomes_unknown++;
                return ERR_OK;
        }
        if (message->notification) {
                postfix->counts.outcomes_notification++;
                return ERR_OK;
        }
        if (postfix_is_local(line, &outcome)) {
                message->local = true;
                postfix->counts.outcomes_local++;
                return ERR_OK;
        }
        bool out_of_memory = false;
        struct recipient *recipient = postfix_recipient(message, outcome.to, &out_of_memory);
        if (out_of_memory)
                return ERR_MEMORY;
        if (recipient == NULL)
                postfix->counts.recipients_over++;
        enum err_code code = ERR_OK;
        bool full = message->recipients_count >= message->recipients_expected ||
                    message->recipients_count == POSTFIX_RECIPIENTS_MAX;
        if (message->born && !message->sent && full && message->recipients_count > 0)
                code = postfix_send(line);
        if (code != ERR_OK)
                return code;
        struct slice text = outcome.text;
        bool from_peer = postfix_peer_reply(outcome.text, &text);
        int64_t time_ms = postfix_outcome_time(line, outcome.delay_ms);
        if (sent || bounced) {
                if (recipient != NULL)
                        recipient->state = RECIPIENT_DONE;
                return sent ? postfix_delivery(line, &outcome, time_ms)
                            : postfix_bounce(line, outcome.to, outcome.dsn, text, from_peer,
                                             postfix_relay_ip(outcome.relay), time_ms, false);
        }
        if (recipient != NULL)
                postfix_remember_deferral(recipient, &outcome, text, from_peer);
        return postfix_delay(line, recipient, outcome.to, outcome.dsn, text, from_peer, time_ms);
}

/* cleanup: `milter-reject: END-OF-MESSAGE from host[ip]: 5.7.1 TEXT; from=<..> to=<..> proto=.. helo=<..>` */
static enum err_code postfix_line_refusal(struct line *line, struct slice whole)
{
        struct postfix *postfix = line->postfix;
        struct postfix_refusal refusal;
        if (!postfix_refusal_parse(line->rest, &refusal))
                return postfix_unparsed(postfix, whole, "a refusal that is not understood");
        bool content = slice_has_prefix(refusal.stage, SLICE("END-OF-MESSAGE")) &&
                       !slice_has_prefix(refusal.reply, SLICE("4")) && classify_is_content(refusal.reply);
        if (!content || refusal.from.len == 0 || refusal.to.len == 0) {
                postfix->counts.rejects_other++;
                if (line->message != NULL && !slice_has_prefix(refusal.reply, SLICE("4")) &&
                    slice_has_prefix(refusal.stage, SLICE("END-OF-MESSAGE")))
                        postfix_message_drop(postfix, line->message);
                return ERR_OK;
        }
        enum err_code code = postfix_message_begin(line, true);
        if (code != ERR_OK)
                return code;
        struct message *message = line->message;
        if (message->sender.len == 0)
                message->sender = postfix_keep(message, refusal.from);
        bool out_of_memory = false;
        if (postfix_recipient(message, refusal.to, &out_of_memory) == NULL && out_of_memory)
                return ERR_MEMORY;
        if (message->recipients_count > 0) {
                struct sendring_event event;
                postfix_begin(line, SENDRING_REJECT, &event);
                postfix_fill_destination(line, &event.mail, SLICE_EMPTY);
                event.reject.reason = SENDRING_STR("Bad content");
                code = postfix_emit(postfix, &event);
        }
        if (code == ERR_OK)
                postfix_message_drop(postfix, message);
        return code;
}

static enum err_code postfix_line_removed(struct line *line)
{
        if (line->message == NULL) {
                line->postfix->counts.ignored++;
                return ERR_OK;
        }
        enum err_code code = postfix_finish(line);
        if (code == ERR_OK)
                postfix_message_drop(line->postfix, line->message);
        return code;
}

/* ---------------------------------------------------------------------------------------------- lines of a connection
 */

/* `Trusted TLS connection established from host[ip]: TLSv1.3 with cipher ..`, or `to host[ip]:25: ..` */
static void postfix_line_tls(struct line *line, struct slice text)
{
        struct peer *peer = &line->postfix->peers[line->syslog.pid % POSTFIX_PEERS];
        if (slice_has_prefix(text, SLICE("connect from ")) || slice_has_prefix(text, SLICE("disconnect from "))) {
                if (peer->pid == line->syslog.pid)
                        *peer = (struct peer){.pid = 0};
                return;
        }
        size_t at = slice_find(text, SLICE(" TLS connection established "));
        size_t with = slice_find(text, SLICE(" with cipher "));
        if (at > 32 || with == text.len || line->syslog.pid == 0)
                return;
        struct slice rest = slice_of(text.ptr + at + 28, with < at + 28 ? 0 : with - at - 28);
        bool incoming = slice_has_prefix(rest, SLICE("from "));
        size_t colon = slice_find(rest, SLICE(": "));
        if (colon == rest.len || (!incoming && !slice_has_prefix(rest, SLICE("to "))))
                return;
        struct peer found = {.pid = line->syslog.pid};
        struct slice relay = incoming ? SLICE_EMPTY : slice_of(rest.ptr + 3, colon < 3 ? 0 : colon - 3);
        if (slice_to_text(slice_from(rest, colon + 2), found.version, sizeof(found.version)) &&
            slice_to_text(relay, found.relay, sizeof(found.relay)))
                *peer = found;
}

static enum err_code postfix_line_of_message(struct line *line, struct slice whole)
{
        struct slice program = line->program;
        struct slice rest = line->rest;
        if (slice_has_prefix(rest, SLICE("to=<")))
                return postfix_line_outcome(line, whole);
        if (slice_equal(rest, SLICE("removed")))
                return postfix_line_removed(line);
        if (slice_has_prefix(rest, SLICE("from=<")) && slice_has_suffix(program, SLICE("qmgr")))
                return postfix_line_qmgr(line, whole);
        if (slice_has_prefix(rest, SLICE("client=")))
                return postfix_line_client(line);
        if (slice_has_prefix(rest, SLICE("uid=")) && slice_equal(program, SLICE("pickup")))
                return postfix_line_pickup(line);
        if (slice_equal(program, SLICE("cleanup"))) {
                if (slice_has_prefix(rest, SLICE("message-id=")))
                        return postfix_line_message_id(line);
                if (slice_has_prefix(rest, SLICE("info: header ")) || slice_has_prefix(rest, SLICE("strip: header ")) ||
                    slice_has_prefix(rest, SLICE("warning: header ")))
                        return postfix_line_header(line, whole);
        }
        if (slice_has_prefix(rest, SLICE("milter-reject: ")) || slice_has_prefix(rest, SLICE("milter-discard: ")))
                return postfix_line_refusal(line, whole);
        line->postfix->counts.ignored++;
        return ERR_OK;
}

enum err_code postfix_line(struct postfix *postfix, struct slice whole, int64_t reference_ms)
{
        struct line line = {.postfix = postfix};
        postfix->counts.lines++;
        if (whole.len > 0 && whole.ptr[whole.len - 1] == '\r')
                whole.len--;
        if (!postfix_syslog_parse(whole, &line.syslog))
                return postfix_unparsed(postfix, whole, "not a line of syslog");
        if (!slice_has_prefix(line.syslog.tag, postfix->options.syslog_name)) {
                postfix->counts.foreign++;
                return ERR_OK;
        }
        if (!postfix_time(postfix, line.syslog.stamp, reference_ms, &line.time_ms))
                return postfix_unparsed(postfix, whole, "a time stamp that is not understood");
        line.program = postfix_program(line.syslog.tag);
        if (!postfix_queue_id(line.syslog.text, &line.queue_id, &line.rest)) {
                postfix_line_tls(&line, line.syslog.text);
                postfix->counts.ignored++;
                return ERR_OK;
        }
        line.message = postfix_message_find(postfix, line.queue_id);
        if (line.message != NULL) {
                postfix_unlink(postfix, line.message);
                postfix_link_newest(postfix, line.message);
        }
        enum err_code code = postfix_line_of_message(&line, whole);
        /* The message may be gone by now. */
        line.message = postfix_message_find(postfix, line.queue_id);
        if (line.message != NULL)
                postfix_message_recount(postfix, line.message);
        return code != ERR_OK ? code : postfix_make_room(&line);
}
