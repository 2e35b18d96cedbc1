#include "tools/loadgen_events.h"

#include "base/random.h"
#include "tools/loadgen_id.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL_TEXT_BYTES 48 /* every text of a pool; copied whole, which is cheaper than copying exactly */
#define POOL_LOCALS     4096u
#define POOL_DOMAINS    64u
#define POOL_ADDRESSES  256u
#define DOMAIN_SLOTS    256u /* weights: a few large providers, a long tail */
#define TAGS_COUNT      8
#define HEADERS_COUNT   9
#define TEXT_BYTES      256
#define TAG_VALUES_MAX  64u

struct pool_text {
        uint8_t len;
        char text[POOL_TEXT_BYTES - 1];
};

struct loadgen_events {
        struct loadgen_events_options options;
        uint64_t seed;
        uint8_t types[LOADGEN_MIX_SLOTS];
        struct sendring_str sets[LOADGEN_SETS_MAX];
        struct sendring_event prepared[LOADGEN_TYPES_COUNT + 1]; /* by type */

        struct pool_text locals[POOL_LOCALS];
        struct pool_text domains[POOL_DOMAINS];
        struct pool_text addresses[POOL_ADDRESSES];
        struct pool_text senders[LOADGEN_TENANTS_COUNT]; /* "mail.tenant-07.example" */
        uint8_t domain_slots[DOMAIN_SLOTS];
        struct pool_text tag_values[TAGS_COUNT][TAG_VALUES_MAX];
        uint32_t tag_values_count[TAGS_COUNT];

        /* What the current event points to. Longer than any text written: copies go a little too far. */
        char id[64];
        char feedback_id[64];
        char recipient[TEXT_BYTES];
        char source[TEXT_BYTES];
        char source_ip[TEXT_BYTES];
        char peer_ip[TEXT_BYTES];
        char response[2 * TEXT_BYTES];
        char link[2 * TEXT_BYTES];
        char subject[TEXT_BYTES];
        struct sendring_str recipients[1];
        struct sendring_str from[1];
        struct sendring_recipient recipient_states[1];
        struct sendring_pair tags[TAGS_COUNT];
        struct sendring_pair headers[HEADERS_COUNT];
        struct sendring_pair link_tags[2];
        struct sendring_topic topics_new[2], topics_old[2];
};

/* ---------------------------------------------------------------------------------------------- names */

static const char *const loadgen_type_names[LOADGEN_TYPES_COUNT] = {
        "send",      "rendering_failure", "reject",       "delivery", "bounce",
        "complaint", "delivery_delay",    "subscription", "open",     "click",
};

const char *loadgen_type_name(enum sendring_event_type type)
{
        return type >= 1 && type <= LOADGEN_TYPES_COUNT ? loadgen_type_names[type - 1] : NULL;
}

bool loadgen_mix_parse(const char *text, uint16_t ret_permille[LOADGEN_TYPES_COUNT])
{
        uint16_t permille[LOADGEN_TYPES_COUNT] = {0};
        if (strcmp(text, "standard") == 0) {
                permille[SENDRING_SEND - 1] = 400;
                permille[SENDRING_DELIVERY - 1] = 400;
                permille[SENDRING_OPEN - 1] = 120;
                permille[SENDRING_CLICK - 1] = 50;
                permille[SENDRING_BOUNCE - 1] = 25;
                permille[SENDRING_COMPLAINT - 1] = 5;
        } else if (strcmp(text, "all") == 0) {
                for (int i = 0; i < LOADGEN_TYPES_COUNT; i++)
                        permille[i] = LOADGEN_MIX_SLOTS / LOADGEN_TYPES_COUNT;
        } else {
                int found = -1;
                for (int i = 0; i < LOADGEN_TYPES_COUNT; i++)
                        if (strcmp(text, loadgen_type_names[i]) == 0)
                                found = i;
                if (found < 0)
                        return false;
                permille[found] = LOADGEN_MIX_SLOTS;
        }
        memcpy(ret_permille, permille, sizeof(permille));
        return true;
}

bool loadgen_size_parse(const char *text, enum loadgen_size *ret_size)
{
        if (strcmp(text, "small") == 0)
                *ret_size = LOADGEN_SIZE_SMALL;
        else if (strcmp(text, "standard") == 0)
                *ret_size = LOADGEN_SIZE_STANDARD;
        else if (strcmp(text, "large") == 0)
                *ret_size = LOADGEN_SIZE_LARGE;
        else
                return false;
        return true;
}

/* ---------------------------------------------------------------------------------------------- pools */

static const char *const loadgen_syllables[32] = {
        "an", "be", "ca", "da",  "el", "fi", "ga", "ho", "in",  "jo", "ka",  "li",  "ma",  "ni",  "ol",  "pe",
        "qu", "ra", "sa", "ter", "us", "vi", "wa", "xa", "yan", "zo", "chi", "bru", "lor", "mer", "sto", "than",
};

static const char *const loadgen_agents[8] = {
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile",
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0",
        "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
};

/* A response or diagnostic: `before`, twelve digits of the event's hash, `after`. */
struct loadgen_phrase {
        const char *before, *after;
};

static const struct loadgen_phrase loadgen_responses[8] = {
        {"250 2.0.0 OK DMARC:Quarantine ", " - gsmtp"},
        {"250 2.0.0 Ok: queued as ", ""},
        {"250 ok dirdel ", " qp 1"},
        {"250 2.6.0 <", "@mail.example> Queued mail for delivery"},
        {"250 2.0.0 OK  1767323047 ", "si7215601qtb.312 - gsmtp"},
        {"250 2.0.0 ", " Message accepted for delivery"},
        {"250 OK id=1t", "-00000000aBc-2dEf"},
        {"250 Requested mail action okay, completed: id=1N", "-1tK2Lm0pQr"},
};

struct loadgen_failure {
        const char *type, *sub_type, *status, *before, *after;
};

static const struct loadgen_failure loadgen_failures[8] = {
        {"Permanent", "General", "5.1.1", "smtp; 550 5.1.1 <", ">: Recipient address rejected: User unknown"},
        {"Permanent", "General", "5.1.1", "smtp; 550-5.1.1 The email account that you tried to reach does not exist. ",
         " - gsmtp"},
        {"Permanent", "NoEmail", "5.1.10", "smtp; 550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient ", " not found"},
        {"Permanent", "Suppressed", "5.1.1", "smtp; 550 5.1.1 suppressed address ", ""},
        {"Transient", "MailboxFull", "4.2.2", "smtp; 452 4.2.2 The recipient's inbox is out of storage space ",
         " - gsmtp"},
        {"Transient", "General", "4.4.7", "smtp; 421 4.4.7 message expired, last answer: ", " try again later"},
        {"Transient", "ContentRejected", "5.7.1", "smtp; 554 5.7.1 message refused as spam (", ")"},
        {"Undetermined", "Undetermined", "5.0.0", "smtp; 550 rejected by local policy, reference ", ""},
};

/* What a provider says that blocks the sender: for good, and for now. */
static const struct loadgen_failure loadgen_blocks[4] = {
        {"Permanent", "General", "5.7.1", "smtp; 550-5.7.1 Our system has detected an unusual rate of mail from you ",
         " - gsmtp"},
        {"Transient", "General", "5.7.1", "smtp; 550 5.7.1 Service unavailable, client host blocked, see list ", ""},
        {"Permanent", "General", "5.7.606", "smtp; 550 5.7.606 Access denied, banned sending IP ", ""},
        {"Transient", "ContentRejected", "5.7.1", "smtp; 554 5.7.1 [TSS04] messages not accepted for policy reasons ",
         ""},
};

static const char *const loadgen_deferrals[4] = {
        "smtp; 421 4.7.0 [TSS04] messages temporarily deferred due to complaints ",
        "smtp; 451 4.7.650 the mail server has been temporarily rate limited due to IP reputation ",
        "smtp; 421-4.7.28 our system has detected an unusual rate of mail from your IP address ",
        "smtp; 421 4.7.1 try again later, your reputation is low ",
};

static const char *const loadgen_deferral_types[2] = {"IPFailure", "SpamDetected"};

static const char *const loadgen_delays[4] = {"TransientCommunicationFailure", "MailboxFull", "RecipientServerError",
                                              "InternalFailure"};

static const struct {
        const char *name, *prefix;
        uint32_t values_count;
} loadgen_tags[TAGS_COUNT] = {
        {"campaign", "spring-", LOADGEN_CAMPAIGNS_COUNT},
        {"tenant", "tenant-", LOADGEN_TENANTS_COUNT},
        {"template", "tpl-", 30},
        {"segment", "seg-", 40},
        {"stream", "bulk-", 4},
        {"pool", "pool-", 6},
        {"locale", "l10n-", 24},
        {"variant", "v-", 3},
};

static void pool_set(struct pool_text *text, const char *value)
{
        size_t len = strnlen(value, sizeof(text->text) - 1);
        memset(text, 0, sizeof(*text));
        memcpy(text->text, value, len);
        text->len = (uint8_t)len;
}

static struct sendring_str pool_str(const struct pool_text *text)
{
        return sendring_strn(text->text, text->len);
}

static void events_fill_pools(struct loadgen_events *events)
{
        struct random_state random;
        random_init(&random, events->options.seed == 0 ? 1 : events->options.seed);
        char text[128];
        for (uint32_t i = 0; i < POOL_LOCALS; i++) {
                uint64_t r = random_u64(&random);
                (void)snprintf(text, sizeof(text), "%s%s%s%s%s", loadgen_syllables[r & 31],
                               loadgen_syllables[r >> 5 & 31], loadgen_syllables[r >> 10 & 31],
                               (r >> 32 & 1) != 0 ? "." : "",
                               (r >> 33 & 1) != 0 ? loadgen_syllables[r >> 15 & 31] : "");
                pool_set(&events->locals[i], text);
        }
        for (uint32_t i = 0; i < POOL_DOMAINS; i++) {
                uint64_t r = random_u64(&random);
                (void)snprintf(text, sizeof(text), "@%s%s%s.example", loadgen_syllables[r & 31],
                               loadgen_syllables[r >> 5 & 31], i < 4 ? "mail" : loadgen_syllables[r >> 10 & 31]);
                pool_set(&events->domains[i], text);
        }
        /* Two thirds of all mail goes to four providers. */
        for (uint32_t i = 0; i < DOMAIN_SLOTS; i++)
                events->domain_slots[i] = (uint8_t)(i < 170 ? i & 3 : 4 + i % (POOL_DOMAINS - 4));
        for (uint32_t i = 0; i < POOL_ADDRESSES; i++) {
                (void)snprintf(text, sizeof(text), "100.%u.%u.", 64 + i % 64, (uint32_t)random_below(&random, 256));
                pool_set(&events->addresses[i], text);
        }
        for (uint32_t i = 0; i < LOADGEN_TENANTS_COUNT; i++) {
                (void)snprintf(text, sizeof(text), "mail.tenant-%02u.example", i);
                pool_set(&events->senders[i], text);
        }
        for (uint32_t tag = 0; tag < TAGS_COUNT; tag++) {
                events->tag_values_count[tag] = loadgen_tags[tag].values_count;
                for (uint32_t i = 0; i < loadgen_tags[tag].values_count; i++) {
                        (void)snprintf(text, sizeof(text), "%s%02u", loadgen_tags[tag].prefix, i);
                        pool_set(&events->tag_values[tag][i], text);
                }
                events->tags[tag].name = sendring_str(loadgen_tags[tag].name);
        }
        for (uint32_t i = 0; i < events->options.sets_count; i++)
                events->sets[i] = sendring_str(events->options.sets[i]);
        uint32_t slot = 0;
        for (uint32_t type = 1; type <= LOADGEN_TYPES_COUNT; type++)
                for (uint32_t i = 0; i < events->options.permille[type - 1]; i++)
                        events->types[slot++] = (uint8_t)type;
        for (uint32_t i = LOADGEN_MIX_SLOTS - 1; i > 0; i--) {
                uint32_t j = (uint32_t)random_below(&random, i + 1);
                uint8_t type = events->types[i];
                events->types[i] = events->types[j];
                events->types[j] = type;
        }
}

/* ---------------------------------------------------------------------------------------------- what stays the same */

static void events_prepare_headers(struct loadgen_events *events, struct sendring_mail *mail)
{
        static const char *const names[HEADERS_COUNT] = {
                "From",
                "To",
                "Subject",
                "MIME-Version",
                "Content-Type",
                "List-Unsubscribe",
                "List-Unsubscribe-Post",
                "X-Mailer",
                "Feedback-ID",
        };
        for (int i = 0; i < HEADERS_COUNT; i++)
                events->headers[i].name = sendring_str(names[i]);
        events->headers[3].value = SENDRING_STR("1.0");
        events->headers[4].value = SENDRING_STR("multipart/alternative; boundary=\"=_b7c1f0a2e94d4e0c8a1d\"");
        events->headers[5].value = SENDRING_STR("<https://u.mail.example/unsubscribe?list=weekly>, "
                                                "<mailto:unsubscribe@mail.example?subject=unsubscribe>");
        events->headers[6].value = SENDRING_STR("List-Unsubscribe=One-Click");
        events->headers[7].value = SENDRING_STR("Example Bulk Mailer 7.3");
        events->headers[8].value = SENDRING_STR("spring:weekly:mail.example");
        mail->headers = (struct sendring_pairs){events->headers, HEADERS_COUNT};
        mail->headers_present = 1;
        mail->common_headers.from = (struct sendring_strs){events->from, 1};
        mail->common_headers.to = (struct sendring_strs){events->recipients, 1};
}

static void events_prepare(struct loadgen_events *events)
{
        for (uint32_t type = 1; type <= LOADGEN_TYPES_COUNT; type++) {
                struct sendring_event *event = &events->prepared[type];
                sendring_event_init(event, (enum sendring_event_type)type);
                struct sendring_mail *mail = &event->mail;
                mail->message_id = sendring_strn(events->id, LOADGEN_ID_BYTES);
                mail->destination = (struct sendring_strs){events->recipients, 1};
                mail->tags = (struct sendring_pairs){events->tags,
                                                     events->options.size == LOADGEN_SIZE_SMALL ? 2 : TAGS_COUNT};
                if (events->options.size == LOADGEN_SIZE_LARGE) {
                        mail->source_tls_version = SENDRING_STR("TLSv1.3");
                        mail->outgoing_tls_version = SENDRING_STR("TLSv1.3");
                        mail->operation = SENDRING_STR("SMTP");
                        mail->caller_identity = SENDRING_STR("mta-01");
                        events_prepare_headers(events, mail);
                }
        }
        events->prepared[SENDRING_RENDERING_FAILURE].failure = (struct sendring_failure){
                .template_name = SENDRING_STR("weekly-offers"),
                .error_message = SENDRING_STR("Attribute 'first_name' is not present in the rendering data."),
        };
        events->prepared[SENDRING_REJECT].reject.reason = SENDRING_STR("Bad content");
        struct sendring_delivery *delivery = &events->prepared[SENDRING_DELIVERY].delivery;
        delivery->recipients = (struct sendring_strs){events->recipients, 1};
        delivery->reporting_mta = SENDRING_STR("out7.mail.example");
        struct sendring_bounce *bounce = &events->prepared[SENDRING_BOUNCE].bounce;
        bounce->feedback_id = sendring_strn(events->feedback_id, LOADGEN_ID_BYTES);
        bounce->bounced_recipients = (struct sendring_recipients){events->recipient_states, 1};
        bounce->reporting_mta = SENDRING_STR("dns; out7.mail.example");
        struct sendring_complaint *complaint = &events->prepared[SENDRING_COMPLAINT].complaint;
        complaint->feedback_id = sendring_strn(events->feedback_id, LOADGEN_ID_BYTES);
        complaint->complained_recipients = (struct sendring_strs){events->recipients, 1};
        complaint->user_agent = SENDRING_STR("ExampleMail-FBL/1.0");
        complaint->complaint_feedback_type = SENDRING_STR("abuse");
        struct sendring_delivery_delay *delay = &events->prepared[SENDRING_DELIVERY_DELAY].delivery_delay;
        delay->delayed_recipients = (struct sendring_recipients){events->recipient_states, 1};
        delay->reporting_mta = SENDRING_STR("198.51.100.7");
        struct sendring_subscription *subscription = &events->prepared[SENDRING_SUBSCRIPTION].subscription;
        subscription->contact_list = SENDRING_STR("weekly");
        subscription->source = SENDRING_STR("UnsubscribeHeader");
        events->topics_new[0] = (struct sendring_topic){SENDRING_STR("offers"), SENDRING_STR("OptOut")};
        events->topics_new[1] = (struct sendring_topic){SENDRING_STR("news"), SENDRING_STR("OptIn")};
        events->topics_old[0] = (struct sendring_topic){SENDRING_STR("offers"), SENDRING_STR("OptIn")};
        events->topics_old[1] = (struct sendring_topic){SENDRING_STR("news"), SENDRING_STR("OptIn")};
        subscription->new_topic_preferences.topic_subscription_status = (struct sendring_topics){events->topics_new, 2};
        subscription->old_topic_preferences.topic_subscription_status = (struct sendring_topics){events->topics_old, 2};
        events->link_tags[0].name = SENDRING_STR("product");
        events->link_tags[1].name = SENDRING_STR("placement");
        events->link_tags[1].value = SENDRING_STR("header");
}

struct loadgen_events *loadgen_events_create(const struct loadgen_events_options *options)
{
        struct loadgen_events *events = calloc(1, sizeof(*events));
        if (events == NULL)
                return NULL;
        events->options = *options;
        if (options->campaigns_count == 0)
                events->options.campaigns_count = LOADGEN_CAMPAIGNS_COUNT;
        if (options->tenants_count == 0)
                events->options.tenants_count = LOADGEN_TENANTS_COUNT;
        events->seed = options->seed * UINT64_C(0x9e3779b97f4a7c15) + options->producer;
        events_fill_pools(events);
        events_prepare(events);
        struct loadgen_id id = {.run_id = options->run_id, .producer = options->producer};
        loadgen_id_format(&id, events->id);
        memcpy(events->feedback_id, events->id, sizeof(events->feedback_id));
        return events;
}

void loadgen_events_free(struct loadgen_events *events)
{
        free(events);
}

void loadgen_events_set_behind_us(struct loadgen_events *events, uint32_t behind_us)
{
        loadgen_id_write_hex(events->id + LOADGEN_ID_AT_BEHIND, behind_us, 6);
}

/* ---------------------------------------------------------------------------------------------- what differs */

static inline uint64_t mix64(uint64_t z)
{
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

/* The writers below append at `at` and return the new end; a pool text is copied with its padding. */
static inline char *put_pool(char *at, const struct pool_text *text)
{
        memcpy(at, text->text, sizeof(text->text));
        return at + text->len;
}

static inline char *put_text(char *at, const char *text)
{
        size_t len = strlen(text);
        memcpy(at, text, len);
        return at + len;
}

static inline char *put_digits36(char *at, uint64_t value, uint32_t digits)
{
        for (uint32_t i = 0; i < digits; i++, value /= 36)
                *at++ = "0123456789abcdefghijklmnopqrstuvwxyz"[value % 36];
        return at;
}

static inline char *put_hex(char *at, uint64_t value, uint32_t digits)
{
        loadgen_id_write_hex(at, value, digits);
        return at + digits;
}

static inline char *put_octet(char *at, uint32_t octet)
{
        if (octet >= 100)
                *at++ = (char)('0' + octet / 100);
        if (octet >= 10)
                *at++ = (char)('0' + octet / 10 % 10);
        *at++ = (char)('0' + octet % 10);
        return at;
}

static inline struct sendring_str put_address(const struct loadgen_events *events, char *out, uint32_t hash)
{
        char *end = put_octet(put_pool(out, &events->addresses[hash & 255]), hash >> 8 & 255);
        return sendring_strn(out, (size_t)(end - out));
}

static inline uint32_t scale(uint32_t hash16, uint32_t count)
{
        return (hash16 & 0xffff) * count >> 16;
}

static struct sendring_str make_feedback_id(struct loadgen_events *events, int64_t now_ms, uint64_t hash)
{
        char *id = events->feedback_id;
        uint64_t other = mix64(hash + 1);
        loadgen_id_write_hex(id + LOADGEN_ID_AT_TIME, (uint64_t)now_ms, 12);
        loadgen_id_write_hex(id + 17, hash, 8);
        loadgen_id_write_hex(id + 26, hash >> 32, 4);
        loadgen_id_write_hex(id + 31, hash >> 48, 4);
        loadgen_id_write_hex(id + 36, other, 4);
        loadgen_id_write_hex(id + 41, other >> 16, 12);
        return sendring_strn(id, LOADGEN_ID_BYTES);
}

static struct sendring_str make_phrase(struct loadgen_events *events, const char *before, const char *after,
                                       uint64_t hash)
{
        char *end = put_text(put_digits36(put_text(events->response, before), hash, 12), after);
        return sendring_strn(events->response, (size_t)(end - events->response));
}

static void make_object(struct loadgen_events *events, struct sendring_event *event, int64_t now_ms,
                        const uint64_t hash[2], uint32_t campaign, uint32_t tenant)
{
        uint32_t pick = (uint32_t)(hash[1] >> 16 & 7);
        struct sendring_recipient *state = &events->recipient_states[0];
        switch (event->type) {
        case SENDRING_SEND:
        case SENDRING_RENDERING_FAILURE:
        case SENDRING_REJECT:
                break;
        case SENDRING_DELIVERY:
                event->mail.outgoing_ip = event->mail.source_ip;
                event->delivery.timestamp_ms = now_ms;
                event->delivery.processing_time_millis = now_ms - event->mail.timestamp_ms;
                event->delivery.smtp_response =
                        make_phrase(events, loadgen_responses[pick].before, loadgen_responses[pick].after, hash[0]);
                event->delivery.remote_mta_ip = put_address(events, events->peer_ip, (uint32_t)(hash[1] >> 40));
                break;
        case SENDRING_BOUNCE: {
                const struct loadgen_failure *failure =
                        events->options.blocked ? &loadgen_blocks[pick & 3] : &loadgen_failures[pick];
                (void)make_feedback_id(events, now_ms, hash[1]);
                event->bounce.timestamp_ms = now_ms;
                event->bounce.bounce_type = sendring_str(failure->type);
                event->bounce.bounce_sub_type = sendring_str(failure->sub_type);
                event->bounce.remote_mta_ip = put_address(events, events->peer_ip, (uint32_t)(hash[1] >> 40));
                *state = (struct sendring_recipient){
                        .email_address = events->recipients[0],
                        .action = SENDRING_STR("failed"),
                        .status = sendring_str(failure->status),
                        .diagnostic_code = make_phrase(events, failure->before, failure->after, hash[0]),
                };
                break;
        }
        case SENDRING_COMPLAINT:
                (void)make_feedback_id(events, now_ms, hash[1]);
                event->complaint.timestamp_ms = now_ms;
                event->complaint.arrival_date_ms = now_ms - (int64_t)(hash[1] >> 44 & 0xffff);
                break;
        case SENDRING_DELIVERY_DELAY:
                event->delivery_delay.timestamp_ms = now_ms;
                event->delivery_delay.delay_type = sendring_str(
                        events->options.blocked ? loadgen_deferral_types[pick & 1] : loadgen_delays[pick & 3]);
                event->delivery_delay.expiration_time_ms = event->mail.timestamp_ms + 50400000;
                *state = (struct sendring_recipient){
                        .email_address = events->recipients[0],
                        .status = events->options.blocked ? SENDRING_STR("4.7.0") : SENDRING_STR("4.4.1"),
                        .diagnostic_code =
                                make_phrase(events,
                                            events->options.blocked ? loadgen_deferrals[pick >> 1]
                                                                    : "smtp; 421 4.4.1 connection timed out ",
                                            "", hash[0]),
                };
                break;
        case SENDRING_SUBSCRIPTION:
                event->subscription.timestamp_ms = now_ms;
                event->subscription.new_topic_preferences.unsubscribe_all = (int)(pick & 1);
                break;
        case SENDRING_OPEN:
                event->open.timestamp_ms = now_ms;
                event->open.user_agent = sendring_str(loadgen_agents[pick]);
                event->open.ip_address = put_address(events, events->peer_ip, (uint32_t)(hash[1] >> 40));
                event->open.is_bot_event = (hash[1] & 7) == 0 ? SENDRING_STR("Likely") : SENDRING_STR("Unlikely");
                break;
        case SENDRING_CLICK: {
                char *end = put_text(events->link, "https://shop.");
                end = put_pool(end, &events->tag_values[1][tenant]);
                end = put_text(end, ".example/");
                end = put_pool(end, &events->tag_values[0][campaign]);
                end = put_text(end, "/p?id=");
                end = put_hex(end, hash[0], 10);
                event->click.link = sendring_strn(events->link, (size_t)(end - events->link));
                event->click.timestamp_ms = now_ms;
                event->click.user_agent = sendring_str(loadgen_agents[pick]);
                event->click.ip_address = put_address(events, events->peer_ip, (uint32_t)(hash[1] >> 40));
                event->click.is_bot_event = SENDRING_STR("Unlikely");
                events->link_tags[0].value = pool_str(&events->tag_values[3][scale((uint32_t)hash[1], 40)]);
                event->click.link_tags = (struct sendring_pairs){events->link_tags, (hash[1] & 8) != 0 ? 2 : 0};
                break;
        }
        }
}

const struct sendring_event *loadgen_events_make(struct loadgen_events *events, uint64_t index, int64_t now_ms,
                                                 uint32_t *ret_set)
{
        enum sendring_event_type type = (enum sendring_event_type)events->types[index % LOADGEN_MIX_SLOTS];
        return loadgen_events_make_type(events, index, type, now_ms, ret_set);
}

const struct sendring_event *loadgen_events_make_type(struct loadgen_events *events, uint64_t index,
                                                      enum sendring_event_type type, int64_t now_ms, uint32_t *ret_set)
{
        const uint64_t hash[2] = {mix64(events->seed + index * UINT64_C(0x9e3779b97f4a7c15)),
                                  mix64(events->seed - index * UINT64_C(0xd1342543de82ef95))};
        struct sendring_event *event = &events->prepared[type];
        struct sendring_mail *mail = &event->mail;

        uint32_t set = scale((uint32_t)hash[0], events->options.sets_count);
        uint32_t campaign = scale((uint32_t)(hash[0] >> 16), events->options.campaigns_count);
        uint32_t tenant = scale((uint32_t)(hash[0] >> 32), events->options.tenants_count);
        mail->configuration_set = events->sets[set];
        events->tags[0].value = pool_str(&events->tag_values[0][campaign]);
        events->tags[1].value = pool_str(&events->tag_values[1][tenant]);
        if (events->options.size != LOADGEN_SIZE_SMALL) {
                uint64_t bits = hash[1];
                for (uint32_t tag = 2; tag < TAGS_COUNT; tag++, bits >>= 8)
                        events->tags[tag].value =
                                pool_str(&events->tag_values[tag][(bits & 255) * events->tag_values_count[tag] >> 8]);
                mail->source_ip = put_address(events, events->source_ip, tenant * 3);
                mail->from_domain = pool_str(&events->senders[tenant]);
        }

        /* Opens and clicks come minutes to hours after the mail, the rest within seconds. */
        int64_t age_ms = 0;
        if (event->type == SENDRING_OPEN || event->type == SENDRING_CLICK || event->type == SENDRING_COMPLAINT)
                age_ms = (int64_t)(hash[1] >> 20 & 0xffffff);
        else if (event->type != SENDRING_SEND)
                age_ms = 200 + (int64_t)(hash[1] >> 20 & 0xfff);
        mail->timestamp_ms = now_ms - age_ms;
        loadgen_id_write_hex(events->id + LOADGEN_ID_AT_TIME, (uint64_t)mail->timestamp_ms, 12);
        loadgen_id_write_hex(events->id + LOADGEN_ID_AT_INDEX, index, 12);

        char *end = put_pool(events->recipient, &events->locals[hash[0] >> 48 & (POOL_LOCALS - 1)]);
        end = put_digits36(end, hash[1] >> 36, 3);
        bool blocked = events->options.blocked && (type == SENDRING_BOUNCE || type == SENDRING_DELIVERY_DELAY);
        end = put_pool(end, &events->domains[blocked ? 0 : events->domain_slots[hash[1] >> 8 & 255]]);
        events->recipients[0] = sendring_strn(events->recipient, (size_t)(end - events->recipient));

        /* A return path that names the message, as bulk senders use it. */
        end = put_hex(put_text(events->source, "b+"), hash[0] ^ index, 12);
        *end++ = '@';
        end = put_pool(end, &events->senders[tenant]);
        mail->source = sendring_strn(events->source, (size_t)(end - events->source));

        if (events->options.size == LOADGEN_SIZE_LARGE) {
                end = put_text(events->subject, "Your weekly offers, picked for ");
                end = put_pool(end, &events->locals[hash[0] >> 48 & (POOL_LOCALS - 1)]);
                events->headers[0].value = mail->source;
                events->headers[1].value = events->recipients[0];
                events->headers[2].value = sendring_strn(events->subject, (size_t)(end - events->subject));
                events->from[0] = mail->source;
                mail->common_headers.subject = events->headers[2].value;
        }
        make_object(events, event, now_ms, hash, campaign, tenant);
        *ret_set = set;
        return event;
}
