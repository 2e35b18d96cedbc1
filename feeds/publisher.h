/* Publishing for a feed: where a program in a mail path drops or goes on, a feed waits, because its input waits too.
 * One thread. */
#ifndef SENDRING_FEEDS_PUBLISHER_H
#define SENDRING_FEEDS_PUBLISHER_H

#include "base/err.h"
#include "base/slice.h"
#include "ring/ring.h"
#include "sendring/sendring.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct publisher_options {
        const char *socket_path; /* NULL: as libsendring finds it */
        const char *name;
        bool wait;                         /* for a router that is not there yet */
        const volatile sig_atomic_t *stop; /* not 0: every wait ends */
        void *context;
        /* Called about once a second while waiting. May be NULL. */
        void (*waiting)(void *context, const char *why, uint64_t waited_ms);
};

struct publisher_counts {
        uint64_t published;
        uint64_t waits;     /* events that found no room at once */
        uint64_t waited_ms; /* together */
};

struct publisher {
        struct publisher_options options;
        struct publisher_counts counts;
        struct sendring *ring;
};

/* ERR_DETACHED (no router there), ERR_PERMISSION, ERR_VERSION, ERR_SYSTEM, ERR_BUSY (stopped). */
enum err_code publisher_open(struct publisher *publisher, const struct publisher_options *options, struct err *reterr);
void publisher_close(struct publisher *publisher);

/* Waits while there is no room or no router. ERR_BUSY: stopped, not published. ERR_RANGE: the event is wrong,
 * ERR_TOO_BIG: it is too big; neither will ever be published. ERR_SYSTEM: the handle is of no more use. */
enum err_code publisher_event(struct publisher *publisher, const struct sendring_event *event, struct err *reterr);
enum err_code publisher_encoded(struct publisher *publisher, struct slice event, struct err *reterr);
/* An event that was accepted before (producer/replay.h). */
enum err_code publisher_replay(struct publisher *publisher, const struct ring_replay *replay, struct slice event,
                               struct err *reterr);
/* Everything published is in the journal. ERR_TIMEOUT, ERR_DETACHED: not yet, ask again; ERR_SYSTEM. */
enum err_code publisher_flush(struct publisher *publisher, uint32_t timeout_ms, struct err *reterr);

#endif
