/* Publishing events that were accepted before: what `sendring replay` and `sendring dlq replay` share. The router
 * routes each by the sets in force and then keeps the destination that is named; so does this, before it publishes
 * anything, lest events go nowhere. One thread. */
#ifndef SENDRING_TOOLS_REPUBLISH_H
#define SENDRING_TOOLS_REPUBLISH_H

#include "codecs/codec.h"
#include "feeds/publisher.h"
#include "rules/rules.h"

struct republish {
        const char *command; /* for what is said on standard error */
        struct rules_settings settings;
        struct rules_plan *plan; /* in force: the newest copy that the router keeps, else the file */
        struct codec_json_options json;
        struct publisher publisher;
        bool attached;
        uint64_t rate; /* events a second; 0: as fast as the router takes them */
        uint64_t next_ns, waiting_told_ns;
};

struct republish_event {
        struct ring_replay replay; /* the id and time of before, who alone gets it, the set of before */
        struct slice event;        /* as the producer wrote it */
};

/* Set by SIGINT and SIGTERM once republish_catch_signals() was called. */
extern volatile sig_atomic_t republish_stop;
void republish_catch_signals(void);

/* Loads settings and sets; says what is wrong on standard error. Returns CMD_EXIT_OK, _CONFIG. */
int republish_load(struct republish *republish, const char *command, const char *settings_path);
/* Attaches to the router: CMD_EXIT_OK, _UNAVAILABLE. */
int republish_attach(struct republish *republish);
void republish_release(struct republish *republish);

/* How many copies of it the sets of now would route. `view` is of the event, and gets its set where it names none. */
uint32_t republish_matches(const struct republish *republish, const struct republish_event *event,
                           struct codec_view *view);
/* Whether any set has a destination of this name or target. */
bool republish_knows_destination(const struct republish *republish, struct slice destination);

/* Publishes one, at the rate; waits for room. ERR_BUSY: stopped, not published. Others as publisher_replay(). */
enum err_code republish_publish(struct republish *republish, const struct republish_event *event, struct err *reterr);
/* Waits until all of it is in the journal. ERR_BUSY: stopped before. */
enum err_code republish_flush(struct republish *republish, struct err *reterr);

#endif
