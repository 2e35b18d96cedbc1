/* What postfix.c (joining), postfix_message.c (keeping), postfix_event.c (telling), postfix_time.c and postfix_state.c
 * (saving) share. */
#ifndef SENDRING_FEEDS_POSTFIX_INTERNAL_H
#define SENDRING_FEEDS_POSTFIX_INTERNAL_H

#include "base/arena.h"
#include "feeds/postfix.h"
#include "feeds/postfix_line.h"

#define DAY_MS INT64_C(86400000)

#define POSTFIX_HEADERS_MAX       32u
#define POSTFIX_TAGS_MAX          64u
#define POSTFIX_QUEUE_ID_MAX      63u
#define POSTFIX_TEXT_BYTES_MAX    1024u /* of a deferral's text, kept for a bounce at expiry */
#define POSTFIX_MESSAGE_BYTES_MAX (256u * 1024u)
#define POSTFIX_PEERS             512u /* processes whose TLS state is known, by process id modulo this */

enum recipient_state {
        RECIPIENT_KNOWN = 0,
        RECIPIENT_DEFERRED = 1,
        RECIPIENT_DONE = 2, /* sent or bounced */
};

struct recipient {
        struct slice address; /* message's arena */
        enum recipient_state state;
        bool from_peer;      /* the last deferral's text is a peer's */
        char dsn[12];        /* of the last deferral */
        char ip[46];         /* of its relay */
        char delay_type[32]; /* last published; "": none yet */
        int64_t delay_at_ms; /* when */
        char *text;          /* of the last deferral; NULL: none */
        uint32_t text_bytes;
};

/* Lists of messages by their last line. */
enum message_list {
        MESSAGES_ALL,
        MESSAGES_BARE, /* those of which nothing but the client is known */
        MESSAGES_LISTS,
};

struct message_links {
        struct message *newer, *older;
};

struct message {
        struct message *hash_next;
        struct message_links links[MESSAGES_LISTS];
        bool bare; /* is in MESSAGES_BARE */
        struct arena arena;
        struct slice queue_id;
        int64_t timestamp_ms; /* arrival */
        int64_t seen_ms;      /* its last line: when, by the log, and which */
        uint64_t seen_line;
        bool exact;        /* timestamp_ms is from the queue id, not from a line of whole seconds */
        bool born;         /* its first lines were seen, so that its Send is ours to tell */
        bool active;       /* qmgr has named its sender */
        bool notification; /* Postfix's own: makes no events */
        bool sent;         /* its Send is told */
        bool local;        /* some outcome was of local delivery */
        bool headers_cut;
        bool from_seen, subject_seen; /* in this message's own lines: a second one is an attached message's */
        bool attached;                /* header lines from here on are an attached message's */
        struct slice sender, client_ip, caller_identity, operation, tls_version, from_domain, configuration_set;
        struct sendring_pair headers[POSTFIX_HEADERS_MAX];
        uint32_t headers_count;
        struct sendring_pair *tags; /* POSTFIX_TAGS_MAX, in the arena; NULL: none */
        uint32_t tags_count;
        /* The first ones of headers and tags: of the message before a content filter, until its own come. */
        uint32_t headers_inherited, tags_inherited;
        uint32_t recipients_expected; /* nrcpt=; 0: not known */
        uint32_t recipients_count, recipients_room;
        struct recipient *recipients;
        uint64_t bytes; /* as counted in postfix->bytes */
};

/* What the last TLS line of a process says. */
struct peer {
        uint32_t pid;
        char version[16];
        char relay[128];   /* of an outgoing connection */
        char queue_id[64]; /* of the message that was delivered over it; empty: none yet */
};

struct postfix {
        struct postfix_options options;
        struct postfix_counts counts;
        struct message **buckets;
        uint32_t buckets_count; /* a power of two */
        uint32_t messages_count;
        uint64_t bytes;
        struct message *newest[MESSAGES_LISTS], *oldest[MESSAGES_LISTS];
        struct peer peers[POSTFIX_PEERS];
        /* The last traditional time stamp and what it means. */
        char stamp[16];
        int64_t stamp_ms, stamp_reference_ms;
        /* Scratch for one event. */
        struct sendring_str destination[POSTFIX_RECIPIENTS_MAX];
        struct sendring_str addresses[4][POSTFIX_DESTINATIONS_MAX];
};

struct message *postfix_message_find(struct postfix *postfix, struct slice queue_id);
/* A new one, linked as the newest; NULL: out of memory. */
struct message *postfix_message_add(struct postfix *postfix, struct slice queue_id);
void postfix_message_drop(struct postfix *postfix, struct message *message);
/* Finds or adds; NULL: no room for another (out of memory sets *ret_memory). */
struct recipient *postfix_recipient(struct message *message, struct slice address, bool *ret_memory);
/* After a message has grown. */
void postfix_message_recount(struct postfix *postfix, struct message *message);
/* After a line about it, which makes it the newest. */
void postfix_message_seen(struct postfix *postfix, struct message *message, int64_t seen_ms);

/* The line under way. */
struct line {
        struct postfix *postfix;
        struct postfix_syslog syslog;
        struct slice program, queue_id, rest;
        int64_t time_ms;
        int64_t log_ms;          /* the same, or the reference where that is before it */
        struct message *message; /* of the queue id; NULL: not known */
};

/* Forgets what has been quiet for too long, and the quietest when there are too many; never line->message. ERR_BUSY:
 * the callback said stop. */
enum err_code postfix_make_room(struct line *line);

static inline struct sendring_str postfix_str(struct slice s)
{
        return sendring_strn((const char *)s.ptr, s.len);
}

uint64_t postfix_hash(uint64_t seed, struct slice bytes);

/* ---- postfix_time.c */

/* The line's time stamp, of any form. False: not understood. */
bool postfix_time(struct postfix *postfix, struct slice stamp, int64_t reference_ms, int64_t *ret_ms);
/* When the message came, from a long queue id. False: it is none. */
bool postfix_queue_id_time(struct slice queue_id, int64_t *ret_ms);

/* ---- postfix_event.c: events of line->message. ERR_BUSY: the callback said stop. */

enum err_code postfix_send(struct line *line);
/* The message leaves: what was held back is told now, with what is known. */
enum err_code postfix_finish(struct line *line);
enum err_code postfix_delivery(struct line *line, const struct postfix_outcome *outcome, int64_t time_ms);
enum err_code postfix_bounce(struct line *line, struct slice address, struct slice dsn, struct slice text,
                             bool from_peer, struct slice ip, int64_t time_ms, bool expired);
/* Counted only when it is a repeated one. `recipient` NULL: not kept. */
enum err_code postfix_delay(struct line *line, struct recipient *recipient, struct slice address, struct slice dsn,
                            struct slice text, bool from_peer, int64_t time_ms);
enum err_code postfix_reject(struct line *line);
/* When an outcome came about; `delay_ms` < 0: not told. */
int64_t postfix_outcome_time(const struct line *line, int64_t delay_ms);

#endif
