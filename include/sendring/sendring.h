/* libsendring: publish e-mail sending events into the sendring router on the same host.
 *
 *     struct sendring *ring;
 *     struct sendring_event event;
 *     int code = sendring_open(NULL, &ring);
 *     sendring_event_init(&event, SENDRING_BOUNCE);
 *     event.mail.message_id = SENDRING_STR("0100019b7ca98f2e-...-000000");
 *     ...
 *     code = sendring_publish(ring, &event);
 *
 * What it promises. Publishing never blocks, never allocates, makes no system call on the usual path, and says
 * SENDRING_E_FULL at once when there is no room. An event whose publish returned SENDRING_OK reaches every enabled,
 * matching destination at least once, although this process is killed right after.
 *
 * Threads. One handle per thread: a handle may move between threads, but only one may be inside it at a time. Different
 * handles are independent. The library starts no thread, installs no signal handler, prints nothing, never aborts its
 * host, and needs nothing beyond libc. It allocates in sendring_open() only, and frees in sendring_close().
 *
 * Fork. A handle belongs to the process that opened it. In a forked child every call on an inherited handle returns
 * SENDRING_E_FORKED and changes nothing, save sendring_close(), which frees the child's copy only; the child opens its
 * own.
 *
 * Descriptors. A handle keeps two. A host that closes all that it does not know (closefrom(), close_range(), on its way
 * to be a daemon) opens its handles behind that: else the router takes the handle's process for gone. The handle
 * attaches again by itself when it notices. What the host has opened by the same numbers since is left alone, as far as
 * it can be told from what was there: eventfds look all the same.
 *
 * Signals. No function may be called from a signal handler, where it may have interrupted another one on the same
 * handle: that may disable the handle (SENDRING_E_BUG). Set a flag there, and publish from the loop.
 *
 * Router restarts. Nothing is to be done: events go on into the lane, which a keeper process holds, and the new router
 * takes them over. When the whole service was stopped, the handle attaches again by itself, at most twice a second,
 * from within a publish that found no room or noticed that the lane is no longer drained, or from a flush; such an
 * attempt may take SENDRING_REATTACH_MS_MAX. What the old router had not taken is carried into the new lane first.
 * Until then publish returns SENDRING_E_FULL or SENDRING_E_DETACHED. Events in a lane that nobody holds are lost when
 * this process ends before the service is back.
 *
 * Text is UTF-8 and given with its length; it is copied during the call and may be changed right after. Invalid UTF-8
 * is accepted and replaced by U+FFFD on the way out.
 *
 * The shapes are Amazon SES's event publishing records:
 * https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-firehose-contents.html
 */
#ifndef SENDRING_SENDRING_H
#define SENDRING_SENDRING_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SENDRING_API __attribute__((visibility("default")))
#else
#define SENDRING_API
#endif

#define SENDRING_VERSION_MAJOR 0
#define SENDRING_VERSION_MINOR 1
#define SENDRING_VERSION_PATCH 0

struct sendring; /* a handle: one lane of the router */

/* ------------------------------------------------------------------------------------------------- results */

enum sendring_result {
        SENDRING_OK = 0,
        SENDRING_E_FULL = -1,     /* no room in the lane now: drop or try later, the caller's policy; counted */
        SENDRING_E_DETACHED = -2, /* the router is not there; tried again by itself */
        SENDRING_E_TOO_BIG = -3,  /* the encoded event exceeds SENDRING_EVENT_BYTES_MAX, or half the lane */
        SENDRING_E_INVALID = -4,  /* a field is wrong: sendring_error() says which and why */
        SENDRING_E_DENIED = -5,   /* the router refused this user (allow: in sendring.yaml), or socket permissions */
        SENDRING_E_TIMEOUT = -6,  /* the time given ran out */
        SENDRING_E_SYSTEM = -7,   /* a system call failed: sendring_error() */
        SENDRING_E_MEMORY = -8,   /* malloc failed (sendring_open only) */
        SENDRING_E_FORKED = -9,   /* the handle belongs to the parent process */
        SENDRING_E_VERSION = -10, /* the router speaks another protocol version: upgrade the older side */
        SENDRING_E_BUG = -11,     /* an internal invariant broke; the handle is disabled, nothing else is harmed */
};

/* A fixed English sentence for a result. Never NULL. */
SENDRING_API const char *sendring_result_text(int result);

/* ------------------------------------------------------------------------------------------------- text */

/* Text with a length. Not owned; need not be terminated. {NULL, 0} means "not given". */
struct sendring_str {
        const char *ptr;
        size_t len;
};
/* From a pointer and a length. */
static inline struct sendring_str sendring_strn(const char *ptr, size_t len)
{
        struct sendring_str str;
        str.ptr = ptr;
        str.len = len;
        return str;
}
/* From a string literal. */
#ifdef __cplusplus
#define SENDRING_STR(literal) (sendring_strn("" literal, sizeof(literal) - 1))
#else
#define SENDRING_STR(literal) ((struct sendring_str){"" literal, sizeof(literal) - 1})
#endif
/* From NUL-terminated text; NULL gives "not given". In C++ the function hides the struct's name: write `struct
 * sendring_str` for the type, as here. */
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
SENDRING_API struct sendring_str sendring_str(const char *text);
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/* ------------------------------------------------------------------------------------------------- events */

/* The ten event types of SES, in the order of its documentation. Numbers are part of the wire format. */
enum sendring_event_type {
        SENDRING_SEND = 1,
        SENDRING_RENDERING_FAILURE = 2,
        SENDRING_REJECT = 3,
        SENDRING_DELIVERY = 4,
        SENDRING_BOUNCE = 5,
        SENDRING_COMPLAINT = 6,
        SENDRING_DELIVERY_DELAY = 7,
        SENDRING_SUBSCRIPTION = 8,
        SENDRING_OPEN = 9,
        SENDRING_CLICK = 10,
};

/* Milliseconds since 1970-01-01T00:00:00Z. Where a field says "optional", SENDRING_NO_TIME leaves it out. */
#define SENDRING_NO_TIME INT64_MIN

#define SENDRING_EVENT_BYTES_MAX 131072 /* of one encoded event */
#define SENDRING_REATTACH_MS_MAX 20     /* longest that a publish may spend on attaching again */
#define SENDRING_LIST_ITEMS_MAX  1024   /* of any list below, tags and headers included */

/* {"name": ..., "value": ...} of mail.headers, and one message tag or link tag. Message tags and link tags of the same
 * name are gathered into one array, in order. Tag names and values: 1 to 255 of A-Z a-z 0-9 _ - (values also . and @).
 * Names beginning with "ses:" are refused, save ses:feedback-id-a and ses:feedback-id-b. */
struct sendring_pair {
        struct sendring_str name;
        struct sendring_str value;
};

struct sendring_pairs {
        const struct sendring_pair *items;
        size_t count;
};

/* A text in a list may be empty; {NULL, 0} is. A text with a length at a NULL pointer is refused, and so is a list with
 * a count at one. */
struct sendring_strs {
        const struct sendring_str *items;
        size_t count;
};

/* mail.commonHeaders. All optional; mail.commonHeaders.messageId is mail.message_id. */
struct sendring_common_headers {
        struct sendring_strs from, to, cc, bcc, reply_to;
        struct sendring_str date; /* as in the message */
        struct sendring_str subject;
};

/* What all types share: the `mail` object, and the facts from which the router makes the ses: auto-tags. */
struct sendring_mail {
        struct sendring_str configuration_set; /* "": the router's default configuration set, if one is configured */
        struct sendring_pairs tags;            /* message tags */

        int64_t timestamp_ms;                   /* required: when the mail was accepted */
        struct sendring_str message_id;         /* required: see sendring_message_id() */
        struct sendring_str source;             /* required: envelope MAIL FROM; "<>" or "" for the null sender */
        struct sendring_str source_arn;         /* optional: filled from sendring.yaml when absent */
        struct sendring_str sending_account_id; /* optional: filled from sendring.yaml when absent */
        struct sendring_strs destination;       /* required, 1..: every envelope recipient of the message */
        struct sendring_pairs headers;          /* original headers in order; cut to 10 KB with headersTruncated set */
        int headers_present;                    /* 1: publish "headers" and "commonHeaders" even when empty */
        int headers_truncated;                  /* 1: the caller already cut them */
        struct sendring_common_headers common_headers;

        /* For the auto-tags; all optional. */
        struct sendring_str caller_identity;      /* ses:caller-identity: SASL user or submitting service */
        struct sendring_str source_ip;            /* ses:source-ip: the SMTP client that submitted */
        struct sendring_str source_tls_version;   /* ses:source-tls-version: "TLSv1.3" */
        struct sendring_str from_domain;          /* ses:from-domain; else of From in the headers, of source if none */
        struct sendring_str operation;            /* ses:operation: "SMTP" or the injector's name */
        struct sendring_str outgoing_ip;          /* ses:outgoing-ip, Delivery only: the egress address */
        struct sendring_str outgoing_tls_version; /* ses:outgoing-tls-version, Delivery only */
};

struct sendring_failure { /* Rendering Failure */
        struct sendring_str template_name;
        struct sendring_str error_message;
};

struct sendring_reject {
        struct sendring_str reason; /* SES's only value: "Bad content" (the default when absent) */
};

struct sendring_delivery {
        int64_t timestamp_ms;            /* required */
        int64_t processing_time_millis;  /* accept to the remote 250; negative: left out */
        struct sendring_strs recipients; /* required, 1.. */
        struct sendring_str smtp_response;
        struct sendring_str remote_mta_ip; /* optional */
        struct sendring_str reporting_mta; /* bare host name */
};

/* bouncedRecipients and delayedRecipients. `action` is for bounces only. */
struct sendring_recipient {
        struct sendring_str email_address;   /* required */
        struct sendring_str action;          /* optional: "failed" */
        struct sendring_str status;          /* optional: enhanced code, "5.1.1" */
        struct sendring_str diagnostic_code; /* optional: "smtp; 550 5.1.1 user unknown" */
};

struct sendring_recipients {
        const struct sendring_recipient *items;
        size_t count;
};

struct sendring_bounce {
        struct sendring_str feedback_id;     /* required; sendring_message_id() makes one of the same shape */
        struct sendring_str bounce_type;     /* required: "Permanent", "Transient", "Undetermined"; an open list */
        struct sendring_str bounce_sub_type; /* required: "General", "MailboxFull", ...; an open list */
        struct sendring_recipients bounced_recipients; /* required, 1.. */
        int64_t timestamp_ms;                          /* required */
        struct sendring_str remote_mta_ip;             /* optional */
        struct sendring_str reporting_mta;             /* optional: "dns; host" */
};

struct sendring_complaint {
        struct sendring_str feedback_id;             /* required */
        struct sendring_str complaint_sub_type;      /* absent: published as null */
        struct sendring_strs complained_recipients;  /* required, 1..: addresses */
        int64_t timestamp_ms;                        /* required */
        struct sendring_str user_agent;              /* optional, as all below: from the feedback report */
        struct sendring_str complaint_feedback_type; /* "abuse", ... */
        int64_t arrival_date_ms;                     /* or SENDRING_NO_TIME */
};

struct sendring_delivery_delay {
        int64_t timestamp_ms;                          /* required */
        struct sendring_str delay_type;                /* required: "TransientCommunicationFailure", ...; open list */
        int64_t expiration_time_ms;                    /* or SENDRING_NO_TIME */
        struct sendring_recipients delayed_recipients; /* required, 1.. */
        struct sendring_str reporting_mta;             /* optional: address of the MTA */
};

struct sendring_topic {
        struct sendring_str topic_name;
        struct sendring_str subscription_status; /* "OptIn" or "OptOut" */
};

struct sendring_topics {
        const struct sendring_topic *items;
        size_t count;
};

struct sendring_topic_preferences {
        int unsubscribe_all;
        struct sendring_topics topic_subscription_status;
        struct sendring_topics topic_default_subscription_status; /* left out when empty */
};

struct sendring_subscription {
        struct sendring_str contact_list;
        int64_t timestamp_ms;       /* required */
        struct sendring_str source; /* "UnsubscribeHeader" */
        struct sendring_topic_preferences new_topic_preferences;
        struct sendring_topic_preferences old_topic_preferences;
};

struct sendring_open_event {
        int64_t timestamp_ms; /* required */
        struct sendring_str user_agent;
        struct sendring_str ip_address;
        struct sendring_str is_bot_event; /* optional: "Likely" or "Unlikely" */
};

struct sendring_click {
        int64_t timestamp_ms; /* required */
        struct sendring_str ip_address;
        struct sendring_str user_agent;
        struct sendring_str link;         /* required: the full URL */
        struct sendring_pairs link_tags;  /* names and values of A-Z a-z 0-9 _ -; none: published as null */
        struct sendring_str is_bot_event; /* optional */
};

/* One event. Set it up with sendring_event_init(), fill in, publish; it may be reused. `size` lets the struct grow at
 * its end: a program built against an older header goes on working. Exactly the member named by `type` is read. */
struct sendring_event {
        size_t size;
        enum sendring_event_type type;
        struct sendring_mail mail;
        union {
                struct sendring_failure failure;
                struct sendring_reject reject;
                struct sendring_delivery delivery;
                struct sendring_bounce bounce;
                struct sendring_complaint complaint;
                struct sendring_delivery_delay delivery_delay;
                struct sendring_subscription subscription;
                struct sendring_open_event open;
                struct sendring_click click;
        };
};

/* Everything "not given", all times SENDRING_NO_TIME, processing_time_millis -1. `size_bytes` is the caller's
 * sizeof(struct sendring_event): no byte behind it is written. Bindings call this one. */
SENDRING_API void sendring_event_init_sized(struct sendring_event *event, size_t size_bytes,
                                            enum sendring_event_type type);
/* The same with the size of the header this program is built against. */
static inline void sendring_event_init(struct sendring_event *event, enum sendring_event_type type)
{
        sendring_event_init_sized(event, sizeof(*event), type);
}

/* ------------------------------------------------------------------------------------------------- helpers */

/* Writes an id of the shape SES uses for messageId and feedbackId ("0100" + 12 hex digits of milliseconds + "-" + UUID
 * +
 * "-000000") and a NUL. Unique by 122 random bits: getrandom at the first use of a handle and at the first use in a
 * forked child, then a generator of its own. `ring` may be NULL: one getrandom a call. */
#define SENDRING_MESSAGE_ID_BYTES 61
SENDRING_API void sendring_message_id(struct sendring *ring, int64_t timestamp_ms,
                                      char ret_id[SENDRING_MESSAGE_ID_BYTES]);

/* Splits the value of an X-SES-MESSAGE-TAGS header ("name1=value1, name2=value2") into pairs that point into `header`.
 * Returns the number of tags, or SENDRING_E_INVALID (bad name, bad value, no "=", more than items_max) with nothing
 * promised about *items. */
SENDRING_API int sendring_parse_message_tags(struct sendring_str header, struct sendring_pair *items, size_t items_max);

/* Reads the value of an X-SES-CONFIGURATION-SET header, a name of 1 to 64 of A-Z a-z 0-9 _ -, with spaces around it or
 * not. SENDRING_OK and the name in *ret_name, which points into `header`; SENDRING_E_INVALID, and *ret_name is
 * untouched. Whether the router knows the set is not asked here. */
SENDRING_API int sendring_parse_configuration_set(struct sendring_str header, struct sendring_str *ret_name);

/* Splits the ses:tags attribute of a link ("product:book;genre:fiction;") into pairs that point into `attribute`, for
 * click.link_tags. Names and values: 1 to 255 of A-Z a-z 0-9 _ -. Returns the number of tags, or SENDRING_E_INVALID
 * (bad name, bad value, no ":", more than items_max) with nothing promised about *items. */
SENDRING_API int sendring_parse_link_tags(struct sendring_str attribute, struct sendring_pair *items, size_t items_max);

/* Writes the value of a Feedback-ID header, as SES does, and a NUL: "A:B:INTERNAL:SENDER". A and B are the values of
 * the message tags ses:feedback-id-a and ses:feedback-id-b among `tags`, empty where there is none. `internal_id` is
 * the sender's own third field, maybe empty; `sender_id` is what mailbox providers know the sender by: keep it stable.
 * Both are visible ASCII without ":", at most SENDRING_FEEDBACK_FIELD_BYTES_MAX. Returns the length without the NUL, or
 * SENDRING_E_INVALID (a field; a bad value of one of the two tags), SENDRING_E_TOO_BIG (`out_bytes` is short);
 * SENDRING_FEEDBACK_ID_BYTES always suffice. */
#define SENDRING_FEEDBACK_FIELD_BYTES_MAX 128
#define SENDRING_FEEDBACK_ID_BYTES        (2 * 255 + 2 * SENDRING_FEEDBACK_FIELD_BYTES_MAX + 4)
SENDRING_API int sendring_feedback_id(struct sendring_pairs tags, struct sendring_str internal_id,
                                      struct sendring_str sender_id, char *out, size_t out_bytes);

/* ------------------------------------------------------------------------------------------------- publishing */

struct sendring_options {
        size_t size;             /* sizeof(struct sendring_options) */
        const char *socket_path; /* NULL: $SENDRING_SOCKET (not when setuid), else "/run/sendring/sendring.sock" */
        const char *name;        /* shown by `sendring stat`; NULL: the program's name; at most 31 bytes are kept */
        uint32_t lane_bytes;     /* wish, a power of two; 0: the router's default. The router may give less. */
        uint32_t timeout_ms;     /* of the first attach; 0: 2000 */
};

/* Attaches to the router. `options` may be NULL. On success *ret_ring is a handle to close with sendring_close().
 * Blocks at most timeout_ms. SENDRING_E_DETACHED (no router there), _DENIED, _VERSION, _TIMEOUT, _SYSTEM, _MEMORY,
 * _INVALID (options.size, or a path that is too long); then *ret_ring is NULL. */
SENDRING_API int sendring_open(const struct sendring_options *options, struct sendring **ret_ring);

/* Validates, encodes into the lane and commits one event. SENDRING_OK, or _FULL, _DETACHED, _TOO_BIG, _INVALID,
 * _FORKED, _BUG: then nothing was published. A NULL handle or event is _INVALID, in every call. */
SENDRING_API int sendring_publish(struct sendring *ring, const struct sendring_event *event);

/* Publishes events[0..count-1] in order with one commit at the end (or where the lane is full). All events of the array
 * have the same `size`. *ret_published (may be NULL) is how many were published; the result belongs to the first that
 * was not. An invalid event stops the call: drop it and go on with the next. A process killed inside the call may leave
 * none of them published. */
SENDRING_API int sendring_publish_many(struct sendring *ring, const struct sendring_event *events, size_t count,
                                       size_t *ret_published);

/* Publishes one event that is already encoded (docs/formats/event.md), for relays and bindings. The bytes are not
 * looked at here: the router validates them and counts malformed ones as rejected. */
SENDRING_API int sendring_publish_encoded(struct sendring *ring, const void *event, size_t event_bytes);

/* Waits until everything published through this handle is in the router's journal (with `durability: host`: on the
 * disk). Where the disk has dropped pages, it returns SENDRING_OK once that was found and told in the router's log:
 * events in them are lost, and counted so at the router's next start. 0 ms only asks. SENDRING_OK or _TIMEOUT,
 * _DETACHED, _FORKED. This call makes system calls and may sleep. */
SENDRING_API int sendring_flush(struct sendring *ring, uint32_t timeout_ms);

/* Frees the handle. What was published stays published. NULL is allowed. */
SENDRING_API void sendring_close(struct sendring *ring);

/* The text of the last failure of this handle, for a person; valid until the next call on it. Never NULL. With
 * ring NULL: the last failed sendring_open() of this thread. */
SENDRING_API const char *sendring_error(struct sendring *ring);

struct sendring_stats {
        size_t size;         /* set by the caller to sizeof(struct sendring_stats) */
        uint64_t published;  /* events committed through this handle */
        uint64_t full;       /* publishes refused because the lane was full */
        uint64_t invalid;    /* refused as invalid or too big */
        uint64_t wakeups;    /* publishes that had to wake the router: one system call each */
        uint64_t reattached; /* times the handle attached again */
        uint64_t lane_bytes; /* size of the lane */
        uint64_t used_bytes; /* published and not yet taken by the router */
};
SENDRING_API void sendring_get_stats(struct sendring *ring, struct sendring_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
