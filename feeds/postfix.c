/* Joins the lines about one message. The grammar of the lines is in postfix_line.c, what they amount to in
 * postfix_event.c, what is kept, and how long, in postfix_message.c, what a refusal means in classify.c. */
#include "feeds/postfix_internal.h"

#include "codecs/codec.h"
#include "codecs/tag.h"

#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------------------------------------- lines of a message */

static enum err_code postfix_unparsed(struct postfix *postfix, struct slice line, const char *reason)
{
        postfix->counts.unparsed++;
        if (postfix->options.unparsed != NULL)
                postfix->options.unparsed(postfix->options.context, line, reason);
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

/* What a message was given of the one before a content filter gives way to its own. True: there was such a header. */
static bool postfix_disinherit(struct message *message, struct slice name)
{
        uint32_t kept = 0, inherited = message->headers_inherited;
        for (uint32_t i = 0; i < message->headers_count; i++) {
                struct sendring_pair pair = message->headers[i];
                if (i >= inherited || !slice_equal_ignore_case(slice_of(pair.name.ptr, pair.name.len), name))
                        message->headers[kept++] = pair;
                else
                        message->headers_inherited--;
        }
        bool was_there = kept < message->headers_count;
        message->headers_count = kept;
        return was_there;
}

static void postfix_disinherit_tags(struct message *message)
{
        for (uint32_t i = message->tags_inherited; i < message->tags_count; i++)
                message->tags[i - message->tags_inherited] = message->tags[i];
        message->tags_count -= message->tags_inherited;
        message->tags_inherited = 0;
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
        bool again = postfix_disinherit(message, header.name);
        if (slice_equal_ignore_case(header.name, SLICE("X-SES-CONFIGURATION-SET"))) {
                if (!postfix_is_set_name(header.value))
                        postfix->counts.sets_refused++;
                else if (again || message->configuration_set.len == 0)
                        message->configuration_set = postfix_keep(message, header.value);
        } else if (slice_equal_ignore_case(header.name, SLICE("X-SES-MESSAGE-TAGS"))) {
                if (again)
                        postfix_disinherit_tags(message);
                postfix_tags(postfix, message, header.value, header.cut);
        } else if (slice_equal_ignore_case(header.name, SLICE("From")) && (again || message->from_domain.len == 0)) {
                message->from_domain = postfix_keep(message, codec_address_domain(header.value));
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
        message->headers_inherited = message->headers_count;
        message->tags_inherited = message->tags_count;
}

/* The line tells of another message than the one that is known by its queue id. Short ids come again, and of what was
 * broken off or refused while it came, or whose end the log has lost, there was no `removed`. */
static enum err_code postfix_message_anew(struct line *line, bool born)
{
        if (line->message != NULL) {
                enum err_code code = postfix_finish(line);
                if (code != ERR_OK)
                        return code;
                postfix_message_drop(line->postfix, line->message);
                line->message = NULL;
        }
        return postfix_message_begin(line, born);
}

/* `client=host[ip], sasl_method=.., sasl_username=.., orig_queue_id=.., orig_client=host[ip]` */
static enum err_code postfix_line_client(struct line *line)
{
        enum err_code code = postfix_message_anew(line, true);
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
        enum err_code code = postfix_message_anew(line, true);
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

static const struct sendring_pair *postfix_header_find(const struct message *message, struct slice name)
{
        for (uint32_t i = 0; i < message->headers_count; i++)
                if (slice_equal_ignore_case(slice_of(message->headers[i].name.ptr, message->headers[i].name.len), name))
                        return &message->headers[i];
        return NULL;
}

static enum err_code postfix_line_message_id(struct line *line)
{
        struct slice id = slice_from(line->rest, sizeof("message-id=") - 1);
        const struct sendring_pair *known =
                line->message == NULL ? NULL : postfix_header_find(line->message, SLICE("Message-ID"));
        /* cleanup is done with a message before qmgr has it: a forwarded one, or a notification, begins so. */
        bool other = known != NULL && line->message->active &&
                     !slice_equal(id, slice_of(known->value.ptr, known->value.len));
        enum err_code code = other ? postfix_message_anew(line, true) : postfix_message_begin(line, true);
        if (code != ERR_OK || id.len == 0)
                return code;
        (void)postfix_disinherit(line->message, SLICE("Message-ID")); /* its own is the same, or counts */
        if (postfix_header_find(line->message, SLICE("Message-ID")) == NULL)
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
        bool other = line->message != NULL && line->message->active && !slice_equal(line->message->sender, sender);
        enum err_code code = other ? postfix_message_anew(line, false) : postfix_message_begin(line, false);
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

/* An outgoing process has one message at a time, and says so each time that it does TLS for one, on a new connection or
 * on a kept one. The next message without such a line goes without. */
static void postfix_peer_turn(const struct line *line)
{
        struct peer *peer = &line->postfix->peers[line->syslog.pid % POSTFIX_PEERS];
        if (peer->pid == 0 || peer->pid != line->syslog.pid || peer->relay[0] == '\0')
                return;
        bool taken = peer->queue_id[0] != '\0';
        if ((taken && !slice_equal(slice_of_text(peer->queue_id), line->queue_id)) ||
            (!taken && !slice_to_text(line->queue_id, peer->queue_id, sizeof(peer->queue_id))))
                *peer = (struct peer){.pid = 0};
}

/* smtp, lmtp, error, ...: one attempt for one recipient. */
static enum err_code postfix_line_outcome(struct line *line, struct slice whole)
{
        struct postfix *postfix = line->postfix;
        struct message *message = line->message;
        struct postfix_outcome outcome;
        if (!postfix_outcome_parse(line->rest, &outcome) || outcome.to.len == 0)
                return postfix_unparsed(postfix, whole, "an outcome that is not understood");
        postfix_peer_turn(line);
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
        if (message->recipients_count > 0)
                code = postfix_reject(line);
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
        struct slice what = SLICE(" TLS connection established ");
        size_t at = slice_find(text, what);
        if (at == text.len) {
                what = SLICE(" TLS connection reused ");
                at = slice_find(text, what);
        }
        size_t with = slice_find(text, SLICE(" with cipher "));
        if (at > 32 || with == text.len || line->syslog.pid == 0)
                return;
        struct slice rest = slice_of(text.ptr + at + what.len, with < at + what.len ? 0 : with - at - what.len);
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
        /* A line's time may be anything: time does not pass by one that is ahead of the reference. */
        line.log_ms = line.time_ms < reference_ms ? line.time_ms : reference_ms;
        line.message = postfix_message_find(postfix, line.queue_id);
        enum err_code code = postfix_line_of_message(&line, whole);
        /* The message may be gone by now. */
        line.message = postfix_message_find(postfix, line.queue_id);
        if (line.message != NULL) {
                postfix_message_seen(postfix, line.message, line.log_ms);
                postfix_message_recount(postfix, line.message);
        }
        return code != ERR_OK ? code : postfix_make_room(&line);
}
