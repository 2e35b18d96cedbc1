/* A service as a table: what a target asks of Firehose, of a file, of CloudWatch. egress/target.c has what they share:
 * the life of a target, building batches and sending them in order; target_batches.c what becomes of them, cursors and
 * back-off. Inside egress/ only.
 *
 * A service fills a batch event by event, finishes it, and sends it. When the answer is there it says one of
 *
 *     egress_target_batch_done()      every event of the batch is delivered
 *     egress_target_batch_refused()   some of its entries were refused: the batch, cut down to them, goes again
 *     egress_target_batch_failed()    the request failed as a whole: the error's class decides what happens
 *
 * and each of them leaves the rest to the target. Everything runs on the worker's thread, save create, free and the
 * sizes, which the control thread asks for before the worker has the target, and after.
 */
#ifndef SENDRING_EGRESS_SERVICE_H
#define SENDRING_EGRESS_SERVICE_H

#include "egress/aws_error.h"
#include "egress/worker_internal.h"

/* One event on its way into a batch. Valid during the call. */
struct egress_event {
        const struct journal_record *record;
        uint32_t shard;
        const struct codec_view *view;
        struct slice json; /* without newline; empty when the service takes none */
};

struct egress_service {
        const char *name;
        bool takes_json;      /* else the worker encodes nothing for it */
        bool takes_copies;    /* all copies of an event in one call of append */
        bool mixes;           /* one batch has events of all logs; `shed` takes those of one out of it */
        bool one_at_a_time;   /* a single request is in flight, however well it goes */
        bool may_hang;        /* a request has no timeout of its own: who gives its log up gives it up as well */
        const char *too_big;  /* the reason in the dead-letter file for an event that append refused as ERR_TOO_BIG */
        uint32_t slack_bytes; /* room behind the bytes of a batch for wide stores */

        /* Batches of a target, at least 2: one builds while the others are on their way. */
        uint32_t (*batches_count)(const struct rules_settings *settings);
        size_t (*batch_bytes)(const struct rules_settings *settings); /* 0: a batch has no buffer of its own */
        /* What create takes, besides the batches. */
        uint64_t (*budget_bytes)(const struct rules_settings *settings, const struct rules_target *spec);

        /* target->spec, json, worker and places are set. What it has made when it fails, free releases. */
        enum err_code (*create)(struct egress_target *target, struct err *reterr);
        void (*free)(struct egress_target *target);

        /* An empty batch begins; batch->due_ns is set and may be moved. */
        void (*begin)(struct egress_target *target, struct egress_batch *batch);
        /* ERR_OK       the event is in, and counts as delivered when the batch is settled;
         * ERR_FULL     it does not fit any more: finish this batch, begin another;
         * ERR_TOO_BIG  it fits no batch: dead-lettered;
         * ERR_RANGE    it is too old for the service: expired;
         * ERR_NAME     nothing is to be published of it: shed. */
        enum err_code (*append)(struct egress_target *target, struct egress_batch *batch,
                                const struct egress_event *event, uint32_t copies);
        /* No further event comes; there is at least one. ERR_BUSY: not now; asked again with the next turn. */
        enum err_code (*finish)(struct egress_target *target, struct egress_batch *batch);
        /* Starts a READY batch through egress_target_batch_sending(). ERR_BUSY: not now; else the failure has been
         * given to egress_target_batch_failed(). */
        enum err_code (*send)(struct egress_target *target, struct egress_batch *batch);
        /* The cursors have moved over a batch that was sent; NULL: nothing. */
        void (*settled)(struct egress_target *target, struct egress_batch *batch);
        /* `mixes`: the log `shard` is given up before `before`, where the cursor does not stand yet. What is on its way
         * of it is settled, or taken back so that it is read again. False: not now, call again. */
        bool (*shed)(struct egress_target *target, uint32_t shard, uint64_t before);
        void (*tick)(struct egress_target *target); /* a few times a second; NULL: nothing */
        bool (*stop)(struct egress_target *target); /* true when nothing is submitted any more */
};

extern const struct egress_service egress_service_firehose, egress_service_file, egress_service_cloudwatch;

/* ---- target.c */

/* For create: a batch of before, READY, that the service fills in: shard[], events. The places of the target must be
 * moved behind it. */
struct egress_batch *egress_target_restore_batch(struct egress_target *target);

/* ---- target_batches.c */

/* Adds to a word of the target's row: this thread is its only writer. */
void egress_target_row_add(_Atomic uint64_t *word, uint64_t amount);

/* Before the request starts, since its answer may come before the call returns; and when it did not start after all. */
void egress_target_batch_sending(struct egress_target *target, struct egress_batch *batch);
void egress_target_batch_not_sent(struct egress_target *target, struct egress_batch *batch);
/* The request has ended. Call first; the batch is READY again until one of the next three says otherwise. */
void egress_target_batch_ended(struct egress_target *target, struct egress_batch *batch);
void egress_target_batch_done(struct egress_target *target, struct egress_batch *batch);
/* A part of it was: the batch is READY and goes on with the next one. */
void egress_target_batch_partly_done(struct egress_target *target);
/* It is through, though not by a success. */
void egress_target_batch_passed_over(struct egress_target *target, struct egress_batch *batch);
/* `accepted` entries were taken and `refused` were not, with code and reason of the first (ERR_THROTTLED: of any): the
 * service has cut the batch down to the latter. With none accepted it counts, and the code decides, as for a whole
 * request that failed. */
void egress_target_batch_refused(struct egress_target *target, struct egress_batch *batch, uint32_t accepted,
                                 uint32_t refused, enum err_code code, const char *first_error);
/* Has it been in flight for longer than a request may be? Others than those of services that may hang end by
 * themselves. */
bool egress_target_batch_hangs(const struct egress_target *target, const struct egress_batch *batch);
/* One that is SENDING is not waited for any more: it counts as a request that failed, for the reason `text`. The caller
 * settles its events. What was asked for cannot be taken back, and holds back what the target would send, until it has
 * ended; then, in place of all above: */
void egress_target_batch_give_up(struct egress_target *target, struct egress_batch *batch, const char *text);
void egress_target_batch_ended_late(struct egress_target *target, struct egress_batch *batch, enum err_code code,
                                    const char *text);
/* The events stay where they are. */
void egress_target_batch_failed(struct egress_target *target, enum err_code code, const char *text);

/* ---- target_http.c: AWS services */

/* Makes target->client for the destination's own endpoint, or the operator's where `endpoint` is not empty, else for
 * https://<host>.<region>.amazonaws.com. `connections_max` 0: as many as requests may be in flight;
 * `idle_timeout_ms_max` 0: as the settings say. */
enum err_code egress_target_http_create(struct egress_target *target, const char *host, const char *endpoint,
                                        uint32_t connections_max, uint32_t idle_timeout_ms_max, struct err *reterr);
/* What that takes. */
uint64_t egress_target_http_budget_bytes(const struct rules_settings *settings, uint32_t connections_max);
void egress_target_http_free(struct egress_target *target);
bool egress_target_http_stop(struct egress_target *target);

struct egress_request {
        struct slice signing_name; /* "firehose" */
        struct slice path;
        struct slice content_type;
        struct slice fields;     /* more header fields, each ended by CR LF; not signed */
        struct slice amz_target; /* X-Amz-Target; empty: none */
        struct slice body;       /* untouched until `done` */
        bool once;               /* see struct http_exchange */
        void (*done)(struct http_exchange *exchange, enum err_code code, const struct http_response *response,
                     bool maybe_sent, const struct err *why); /* the exchange's context is the batch */
};
/* Signs and starts it; `batch` becomes SENDING. ERR_BUSY: no connection is free. Other failures have been given to
 * egress_target_batch_failed(). */
enum err_code egress_target_http_send(struct egress_target *target, struct egress_batch *batch,
                                      const struct egress_request *request);
/* No answer came: counts, and fails the request, unless the target is stopping. */
void egress_target_http_unanswered(struct egress_target *target, enum err_code code, bool maybe_sent,
                                   const struct err *why);
/* What the clock that signed the request that has ended says now. */
int64_t egress_target_http_clock_ms(const struct egress_target *target);
/* An answer that is no success: what it means for the target. */
void egress_target_http_error(struct egress_target *target, const struct http_response *response);
/* The service wishes to be asked later. After what has been made of its answer. */
void egress_target_http_wish(struct egress_target *target, const struct aws_wish *wish);
/* egress_target_http_error() of an answer that the service has read by itself. */
void egress_target_http_refused(struct egress_target *target, uint16_t status, const struct aws_error *error);

#endif
