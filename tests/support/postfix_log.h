/* What the tests of the Postfix feed share: its events as JSON, and lines of a log to say to it. */
#ifndef SENDRING_TESTS_SUPPORT_POSTFIX_LOG_H
#define SENDRING_TESTS_SUPPORT_POSTFIX_LOG_H

#include "codecs/codec.h"
#include "feeds/postfix.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOW INT64_C(1795438800000) /* 2026-11-23T13:00:00Z */

/* ---------------------------------------------------------------------------------------------- what comes out */

struct seen {
        char *json[512];
        enum sendring_event_type type[512];
        uint32_t count, stop_at; /* stop_at: the callback says stop at that event; 0: never */
        uint32_t unparsed;
        bool skip; /* takes events and keeps none */
};

static inline bool seen_event(void *context, const struct sendring_event *event)
{
        static uint8_t encoded[SENDRING_EVENT_BYTES_MAX], json[SENDRING_EVENT_BYTES_MAX * 2];
        struct seen *seen = context;
        size_t bytes;
        struct err err = {.text = ""};
        struct codec_view view;
        struct codec_json_options options = {.region = SLICE_EMPTY};
        if (seen->skip)
                return true;
        cr_assert_eq(codec_event_encode(event, encoded, sizeof(encoded), &bytes, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(codec_view_decode(slice_of(encoded, bytes), &view, &err), ERR_OK, "%s", err.text);
        bytes = codec_json_encode(&view, &options, json, sizeof(json) - 1);
        json[bytes] = '\0';
        cr_assert_lt(seen->count, 512);
        if (seen->stop_at != 0 && seen->count + 1 >= seen->stop_at)
                return false;
        seen->type[seen->count] = event->type;
        seen->json[seen->count++] = strdup((const char *)json);
        return true;
}

static inline void seen_unparsed(void *context, struct slice line, const char *reason)
{
        ((struct seen *)context)->unparsed++;
}

static inline struct postfix *open_feed(struct seen *seen, struct postfix_options options)
{
        setenv("TZ", "UTC", 1);
        tzset();
        *seen = (struct seen){.count = 0};
        options.context = seen;
        options.event = seen_event;
        options.unparsed = seen_unparsed;
        struct postfix *postfix = postfix_create(&options);
        cr_assert_not_null(postfix);
        return postfix;
}

/* Each line in memory that ends at an unmapped page. */
static inline void say(struct postfix *postfix, const char *text)
{
        struct slice rest = slice_of_text(text);
        while (rest.len > 0) {
                struct slice line = slice_cut(&rest, '\n');
                cr_assert_eq(postfix_line(postfix, guard_page_copy(line), NOW), ERR_OK);
        }
}

static inline void forget(struct seen *seen)
{
        for (uint32_t i = 0; i < seen->count; i++)
                free(seen->json[i]);
}

static inline void close_feed(struct postfix *postfix, struct seen *seen)
{
        forget(seen);
        postfix_free(postfix);
}

static inline void has(const struct seen *seen, uint32_t index, enum sendring_event_type type, const char *text)
{
        cr_assert_lt(index, seen->count, "only %u events", seen->count);
        cr_assert_eq(seen->type[index], type, "%u: %s", index, seen->json[index]);
        cr_assert_not_null(strstr(seen->json[index], text), "no %s in %s", text, seen->json[index]);
}

#define LINE(program, text) "Nov 23 04:45:38 mta1 postfix/" program "[22614]: " text "\n"
#define QID                 "4jXtfn4lsjz1TBsq" /* arrived at 2026-11-23T04:45:37.670Z */
#define CLEANUP(text)                                                                                              \
        LINE("cleanup", QID ": " text " from unknown[192.0.2.9]; from=<news@mail.example.com> to=<ana@b.example> " \
                            "proto=ESMTP helo=<app>")
#define BEGIN_TAGGED                                                                                      \
        LINE("smtpd", QID ": client=app.example.com[192.0.2.9], sasl_method=PLAIN, sasl_username=mta-01") \
        CLEANUP("info: header From: Example News <news@mail.example.com>")                                \
        CLEANUP("info: header Subject: April offers from us; from=<x@y>")                                 \
        CLEANUP("strip: header X-SES-CONFIGURATION-SET: bulk-a")                                          \
        CLEANUP("strip: header X-SES-MESSAGE-TAGS: campaign=book,? genre=sci-fi, bad name=1, ses:x=y")    \
        LINE("cleanup", QID ": message-id=<abc@mail.example.com>")
#define ACTIVE(count) LINE("qmgr", QID ": from=<news@mail.example.com>, size=331, nrcpt=" count " (queue active)")
#define TRIED(to, relay, dsn, status, text)                                                          \
        LINE("smtp", QID ": to=<" to ">, relay=" relay ", delay=0.42, delays=0/0.12/0/0.3, dsn=" dsn \
                         ", status=" status " (" text ")")
#define MX      "mx.b.example[203.0.113.25]:25"
#define SENT    "250 2.0.0 OK queued as 1"
#define UNKNOWN "host mx.b.example[203.0.113.25] said: 550 5.1.1 user unknown (in reply to RCPT TO command)"
#define FULL    "host mx.b.example[203.0.113.25] said: 452 4.2.2 Mailbox full (in reply to RCPT TO command)"
#define REFUSED "connect to mx.b.example[203.0.113.25]:25: Connection refused"
/* In Postfix 3.7 with soft_bounce = yes: the peer's code stays in the text, the dsn is made 4. */
#define SOFT(to) TRIED(to, MX, "4.1.1", "SOFTBOUNCE", UNKNOWN)
#define REMOVED  LINE("qmgr", QID ": removed")
#define EXPIRED  LINE("qmgr", QID ": from=<news@mail.example.com>, status=expired, returned to sender")

#endif
