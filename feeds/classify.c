#include "feeds/classify.h"

/* What can be wrong, by the column of the table in docs/postfix.md. */
enum cause {
        CAUSE_UNKNOWN_TEMPORARY = 0,
        CAUSE_UNKNOWN_PERMANENT,
        CAUSE_UNDETERMINED,
        CAUSE_MAILBOX_UNKNOWN,
        CAUSE_DOMAIN_UNKNOWN,
        CAUSE_MAILBOX_INACTIVE,
        CAUSE_MAILBOX_FULL,
        CAUSE_TOO_LARGE,
        CAUSE_NETWORK,
        CAUSE_EXPIRED,
        CAUSE_REPUTATION,
        CAUSE_POLICY,
        CAUSE_SPAM,
        CAUSE_ATTACHMENT,
        CAUSE_PEER_SYSTEM,
        CAUSE_OWN_SYSTEM,
        CAUSE_COUNT,
};

static const struct classify_verdict classify_table[CAUSE_COUNT] = {
        [CAUSE_UNKNOWN_TEMPORARY] = {"Transient", "General", "General"},
        [CAUSE_UNKNOWN_PERMANENT] = {"Permanent", "General", "General"},
        [CAUSE_UNDETERMINED] = {"Undetermined", "Undetermined", "Undetermined"},
        [CAUSE_MAILBOX_UNKNOWN] = {"Permanent", "General", "RecipientServerError"},
        [CAUSE_DOMAIN_UNKNOWN] = {"Permanent", "General", "TransientCommunicationFailure"},
        [CAUSE_MAILBOX_INACTIVE] = {"Permanent", "General", "RecipientServerError"},
        [CAUSE_MAILBOX_FULL] = {"Transient", "MailboxFull", "MailboxFull"},
        [CAUSE_TOO_LARGE] = {"Transient", "MessageTooLarge", "General"},
        [CAUSE_NETWORK] = {"Transient", "General", "TransientCommunicationFailure"},
        [CAUSE_EXPIRED] = {"Transient", "General", "TransientCommunicationFailure"},
        [CAUSE_REPUTATION] = {"Transient", "General", "IPFailure"},
        [CAUSE_POLICY] = {"Transient", "General", "General"},
        [CAUSE_SPAM] = {"Transient", "ContentRejected", "SpamDetected"},
        [CAUSE_ATTACHMENT] = {"Transient", "AttachmentRejected", "General"},
        [CAUSE_PEER_SYSTEM] = {"Transient", "General", "RecipientServerError"},
        [CAUSE_OWN_SYSTEM] = {"Transient", "General", "InternalFailure"},
};

/* Words, lower case, most telling first. A list ends with NULL. */
static const char *const classify_attachment[] = {"virus",         "malware",    "infected",           "attachment",
                                                  "banned file",   "executable", "forbidden filename", "trojan",
                                                  "file type not", NULL};
static const char *const classify_spam[] = {
        "spam message", "is spam",         "as spam",        "detected as spam", "spam content",
        "phish",        "message content", "content reject", "spam score",       "spamassa",
        "spam filter",  "looks like spam", "unsolicited",    "bulk mail",        NULL};
static const char *const classify_reputation[] = {
        "blocklist",  "blacklist",   "block list", "black list",  "blocked",    "spamhaus", "rbl",
        "dnsbl",      "reputation",  "spamcop",    "barracuda",   "listed ",    "poor ip",  "your ip",
        "ip address", "reverse dns", "ptr record", "client host", "proofpoint", NULL};
static const char *const classify_full[] = {"mailbox full",   "mailbox is full",      "over quota",
                                            "overquota",      "quota exceeded",       "exceeded quota",
                                            "quota",          "storage allocation",   "storage limit",
                                            "out of storage", "insufficient storage", NULL};
static const char *const classify_large[] = {
        "message size", "too large",           "too big", "size limit", "maximum size",
        "exceeds size", "exceeds the maximum", NULL};
static const char *const classify_mailbox[] = {"user unknown",      "unknown user",      "no such user",
                                               "no such recipient", "does not exist",    "doesn't exist",
                                               "unknown recipient", "recipient unknown", "no mailbox",
                                               "mailbox not found", "invalid mailbox",   "invalid recipient",
                                               "user not found",    "no such mailbox",   "mailbox unavailable",
                                               "unknown mailbox",   "not a valid",       NULL};
static const char *const classify_inactive[] = {"disabled", "inactive", "suspended", "deactivated", NULL};
static const char *const classify_domain[] = {"host or domain name not found",
                                              "nxdomain",
                                              "host not found",
                                              "domain not found",
                                              "null mx",
                                              "does not accept mail",
                                              "unrouteable",
                                              NULL};
static const char *const classify_network[] = {
        "connection refused",     "timed out",        "connection reset", "lost connection", "no route",
        "network is unreachable", "cannot start tls", "tls is required",  "handshake",       NULL};
static const char *const classify_content[] = {"virus", "malware", "infected",    "trojan",     "spam",
                                               "phish", "content", "banned file", "attachment", NULL};

static uint8_t classify_lower(uint8_t byte)
{
        return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20) : byte;
}

static bool classify_has(struct slice text, const char *word)
{
        size_t len = strlen(word);
        for (size_t at = 0; at + len <= text.len; at++) {
                size_t same = 0;
                while (same < len && classify_lower(text.ptr[at + same]) == (uint8_t)word[same])
                        same++;
                if (same == len)
                        return true;
        }
        return false;
}

static bool classify_has_any(struct slice text, const char *const *words)
{
        for (; *words != NULL; words++)
                if (classify_has(text, *words))
                        return true;
        return false;
}

struct classify_code {
        unsigned class_, subject, detail; /* 0.0.0: none */
        unsigned reply;                   /* 550; 0: none */
};

static struct classify_code classify_code_of(struct slice status, struct slice text)
{
        struct classify_code code = {0};
        unsigned *parts[3] = {&code.class_, &code.subject, &code.detail};
        struct slice rest = status;
        for (int i = 0; i < 3; i++) {
                uint64_t value;
                if (!slice_to_u64(slice_cut(&rest, '.'), 999, &value))
                        break;
                *parts[i] = (unsigned)value;
        }
        uint64_t reply;
        if (text.len >= 3 && slice_to_u64(slice_head(text, 3), 599, &reply) && reply >= 200 &&
            (text.len == 3 || text.ptr[3] == ' ' || text.ptr[3] == '-'))
                code.reply = (unsigned)reply;
        if (code.class_ == 0 && code.reply != 0)
                code.class_ = code.reply / 100;
        return code;
}

/* Security and policy, x.7.x: the code is used for everything, so the words decide. */
static enum cause classify_policy(struct classify_code code, struct slice text)
{
        if (code.detail == 13)
                return CAUSE_MAILBOX_INACTIVE;
        if (classify_has_any(text, classify_attachment))
                return CAUSE_ATTACHMENT;
        if (classify_has_any(text, classify_spam))
                return CAUSE_SPAM;
        if (code.detail == 25 || classify_has_any(text, classify_reputation))
                return CAUSE_REPUTATION;
        if (classify_has(text, "spam"))
                return CAUSE_SPAM;
        return CAUSE_POLICY;
}

/* By words alone: for x.0.0, codes that say nothing, and peers without enhanced codes. */
static enum cause classify_words(struct classify_code code, struct slice text)
{
        if (classify_has_any(text, classify_domain))
                return CAUSE_DOMAIN_UNKNOWN;
        if (classify_has_any(text, classify_full))
                return CAUSE_MAILBOX_FULL;
        if (classify_has_any(text, classify_mailbox))
                return CAUSE_MAILBOX_UNKNOWN;
        if (classify_has_any(text, classify_large))
                return CAUSE_TOO_LARGE;
        if (classify_has_any(text, classify_attachment))
                return CAUSE_ATTACHMENT;
        if (classify_has_any(text, classify_spam))
                return CAUSE_SPAM;
        if (classify_has_any(text, classify_reputation))
                return CAUSE_REPUTATION;
        if (classify_has(text, "spam"))
                return CAUSE_SPAM;
        if (classify_has_any(text, classify_inactive))
                return CAUSE_MAILBOX_INACTIVE;
        if (classify_has_any(text, classify_network))
                return CAUSE_NETWORK;
        if (code.reply == 421)
                return CAUSE_PEER_SYSTEM;
        if (code.reply == 452 || code.reply == 552)
                return CAUSE_MAILBOX_FULL;
        if (code.reply == 450 || code.reply == 451)
                return CAUSE_PEER_SYSTEM;
        if (code.class_ == 5)
                return CAUSE_UNKNOWN_PERMANENT;
        return CAUSE_UNDETERMINED;
}

static enum cause classify_mailbox_status(struct classify_code code, struct slice text)
{
        switch (code.detail) {
        case 1:
                return CAUSE_MAILBOX_INACTIVE;
        case 2:
                return CAUSE_MAILBOX_FULL;
        case 3:
                return CAUSE_TOO_LARGE;
        default:
                return classify_words(code, text);
        }
}

static enum cause classify_network_status(struct classify_code code, struct slice text)
{
        if (code.detail == 7)
                return CAUSE_EXPIRED;
        if (code.detail == 4 && classify_has_any(text, classify_domain))
                return code.class_ == 5 ? CAUSE_DOMAIN_UNKNOWN : CAUSE_NETWORK;
        if (code.detail == 6)
                return code.class_ == 5 ? CAUSE_UNKNOWN_PERMANENT : CAUSE_PEER_SYSTEM; /* mail loops */
        return CAUSE_NETWORK;
}

static enum cause classify_cause(struct classify_code code, struct slice text, bool from_peer)
{
        if (code.class_ != 4 && code.class_ != 5)
                return classify_words(code, text);
        switch (code.subject) {
        case 1:
                if (code.detail == 1 || code.detail == 6)
                        return CAUSE_MAILBOX_UNKNOWN;
                if (code.detail == 2 || code.detail == 10)
                        return CAUSE_DOMAIN_UNKNOWN;
                return classify_words(code, text);
        case 2:
                return classify_mailbox_status(code, text);
        case 3:
                if (code.detail == 4)
                        return CAUSE_TOO_LARGE;
                if (classify_has_any(text, classify_full))
                        return CAUSE_MAILBOX_FULL;
                return from_peer ? CAUSE_PEER_SYSTEM : CAUSE_OWN_SYSTEM;
        case 4:
                return classify_network_status(code, text);
        case 6:
                return classify_has_any(text, classify_attachment) ? CAUSE_ATTACHMENT : CAUSE_SPAM;
        case 7:
                return classify_policy(code, text);
        default:
                return classify_words(code, text);
        }
}

bool classify_profile_parse(const char *text, enum classify_profile *ret_profile)
{
        if (strcmp(text, "ses") == 0)
                *ret_profile = CLASSIFY_SES;
        else if (strcmp(text, "strict") == 0)
                *ret_profile = CLASSIFY_STRICT;
        else
                return false;
        return true;
}

struct classify_verdict classify(enum classify_profile profile, struct slice status, struct slice text, bool from_peer,
                                 bool expired)
{
        enum cause cause = classify_cause(classify_code_of(status, text), text, from_peer);
        struct classify_verdict verdict = classify_table[cause];
        if (cause == CAUSE_MAILBOX_UNKNOWN && profile == CLASSIFY_STRICT)
                verdict.bounce_sub_type = "NoEmail";
        if (expired && strcmp(verdict.bounce_type, "Transient") != 0) {
                verdict.bounce_type = "Transient";
                verdict.bounce_sub_type = "General";
        }
        return verdict;
}

bool classify_is_content(struct slice text)
{
        return classify_has_any(text, classify_content);
}
