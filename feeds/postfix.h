/* Postfix's log as events: lines in, SES events out through a callback.
 *
 * Lines about one message are joined by its queue id. What is kept per message is bounded, by number and by bytes; the
 * message that was quiet longest is dropped first, counted. So is, in any case, what was quiet for longer than the
 * queue keeps a message, and after an hour what was only begun. The state can be saved and loaded, so that a feed goes
 * on after a restart. Which line makes which event, and what is decided where the log leaves it open, is in
 * docs/postfix.md. In short:
 *
 *   Send           once per message, when as many recipients are known as qmgr announced (nrcpt=), or when the message
 *                  leaves the queue; destination: all of them
 *   Delivery       status=sent
 *   Bounce         status=bounced, and for each deferred recipient when the message expires
 *   DeliveryDelay  status=deferred or SOFTBOUNCE: the first of a recipient, then when its delayType changes or an
 *                  interval has passed
 *   Reject         a milter's refusal at the end of the message for its content
 *
 * Postfix's own notifications (from=<>), address probes and NOQUEUE lines make no events. Everything is a pure function
 * of the lines, the options and the reference time (for the year, which traditional time stamps leave out): the same
 * lines give the same events, feedbackId included.
 *
 * Text in the log may come from anybody: recipients, subjects, remote replies. One thread per struct postfix. */
#ifndef SENDRING_FEEDS_POSTFIX_H
#define SENDRING_FEEDS_POSTFIX_H

#include "base/err.h"
#include "base/slice.h"
#include "feeds/classify.h"
#include "sendring/sendring.h"

#include <stdbool.h>
#include <stdint.h>

#define POSTFIX_LINE_BYTES_MAX       65536u
#define POSTFIX_MESSAGES_MAX_DEFAULT 200000u
/* Recipients kept of one message, and listed in `destination` of its Send: SENDRING_LIST_ITEMS_MAX. */
#define POSTFIX_RECIPIENTS_MAX 1024u
/* Above so many recipients (SES allows no more in one message) the outcomes of a message list only their own. */
#define POSTFIX_DESTINATIONS_MAX 50u
#define POSTFIX_LOCAL_RELAYS_MAX 16u

/* Counters: X(member, text for people). */
#define POSTFIX_COUNTS(X)                                                          \
        X(lines, "lines")                                                          \
        X(foreign, "lines of other programs")                                      \
        X(ignored, "Postfix lines that tell no event")                             \
        X(unparsed, "lines not understood")                                        \
        X(messages, "messages begun")                                              \
        X(resumed, "messages met in the middle of their life")                     \
        X(evicted, "messages forgotten for room")                                  \
        X(aged, "messages forgotten that were quiet for longer than the queue")    \
        X(broken_off, "messages that were begun and never came")                   \
        X(delays_suppressed, "repeated delays not published")                      \
        X(outcomes_local, "outcomes of local delivery")                            \
        X(outcomes_notification, "outcomes of Postfix's own notifications")        \
        X(outcomes_unknown, "outcomes of messages whose beginning was not seen")   \
        X(outcomes_other, "outcomes of other kinds (address probes)")              \
        X(expired_unknown, "expired messages without a known recipient")           \
        X(rejects_other, "refusals for other reasons than content")                \
        X(sends_unknown, "messages that left the queue without a known recipient") \
        X(tags_refused, "message tags with a bad name or value")                   \
        X(tags_cut, "tag headers that the log has cut")                            \
        X(sets_refused, "configuration set names that are none")                   \
        X(headers_attached, "headers of attached messages")                        \
        X(recipients_over, "recipients above the number kept")                     \
        X(recipients_unlisted, "recipients that a Send had no room for")

struct postfix_counts {
#define POSTFIX_COUNT_MEMBER(member, text) uint64_t member;
        POSTFIX_COUNTS(POSTFIX_COUNT_MEMBER)
#undef POSTFIX_COUNT_MEMBER
        uint64_t events[SENDRING_CLICK + 1]; /* by type, as given to the callback */
};

struct postfix_options {
        enum classify_profile profile;
        struct slice configuration_set; /* for messages that name none; empty: the router's default */
        struct slice reporting_mta;     /* host name; empty: the one in the log line */
        struct slice syslog_name;       /* beginning of the program's tag; empty: "postfix" */
        bool local_deliveries;          /* local, virtual, pipe and discard are deliveries too */
        /* Outcomes whose relay= begins so are no remote delivery: a content filter. */
        struct slice local_relays[POSTFIX_LOCAL_RELAYS_MAX];
        uint32_t local_relays_count;
        int64_t delay_interval_ms; /* repeat a recipient's delay after so long; 0: only when its delayType changes */
        int64_t queue_lifetime_ms; /* maximal_queue_lifetime, for expirationTime; 0: leave it out */
        uint32_t messages_max;     /* 0: POSTFIX_MESSAGES_MAX_DEFAULT */
        uint64_t state_bytes_max;  /* 0: 4 KiB for each message */

        void *context;
        /* Takes one event; its texts are valid during the call. False: stop here; the line is not done. */
        bool (*event)(void *context, const struct sendring_event *event);
        /* A line that was not understood, and why. May be NULL. */
        void (*unparsed)(void *context, struct slice line, const char *reason);
};

struct postfix;

/* The texts in `options` must outlive it. NULL: out of memory. */
struct postfix *postfix_create(const struct postfix_options *options);
void postfix_free(struct postfix *postfix);

/* One line without its newline. `reference_ms`: a time at or after the line was written, at most a year after it: now
 * for a live log, the time of the last change for an old file. ERR_OK also for lines that were not understood
 * (counted); ERR_BUSY: the callback said stop: the state has taken part of this line, do not save it; ERR_MEMORY. */
enum err_code postfix_line(struct postfix *postfix, struct slice line, int64_t reference_ms);

const struct postfix_counts *postfix_get_counts(const struct postfix *postfix);
uint32_t postfix_messages(const struct postfix *postfix);    /* known now */
uint64_t postfix_state_bytes(const struct postfix *postfix); /* held for them */

/* The whole state as bytes to be saved; `*ret_bytes.ptr` is malloc'ed: free() it. `place` is the caller's word for the
 * last line that is in it: one file holds both, so that no kill parts them. ERR_MEMORY.
 *
 * Format: "sendrpf2", the place, u32 messages, then each message, quietest first: fixed fields and texts; then u32
 * processes and their TLS state; at the end the FNV-1a of all before. Numbers are little endian, texts a u32 length and
 * bytes. "sendrpf1" is read, too: it has no place, no times of last lines (arrival counts), and nothing inherited. */
enum err_code postfix_state_save(const struct postfix *postfix, struct slice place, struct slice *ret_bytes);
/* Into a fresh one. *ret_place lies in `bytes`; empty: there was none. ERR_SYNTAX: not such bytes, of a version to
 * come, or damaged; nothing was taken then. ERR_MEMORY. */
enum err_code postfix_state_load(struct postfix *postfix, struct slice bytes, struct slice *ret_place,
                                 struct err *reterr);

#endif
