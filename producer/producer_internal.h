/* Inside libsendring: the handle. The hot path (publish.c) touches the lane, `process`, `state` and a few counters;
 * everything else belongs to opening, attaching again and telling what went wrong (handle.c). */
#ifndef SENDRING_PRODUCER_PRODUCER_INTERNAL_H
#define SENDRING_PRODUCER_PRODUCER_INTERNAL_H

#include "base/err.h"
#include "base/limits.h"
#include "base/random.h"
#include "ring/ring.h"
#include "sendring/sendring.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SENDRING_LIKELY(condition)   __builtin_expect(!!(condition), 1)
#define SENDRING_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* Lives on a page of its own that the kernel replaces by zeros in a forked child (MADV_WIPEONFORK), so that fork is
 * seen by one load: no handler in the host, no system call. The generator lives there too: parent and child can never
 * make the same ids. */
struct sendring_process {
        uint64_t alive; /* 1 in the process that opened the handle, 0 in its children */
        bool seeded;
        struct random_state random;
};

enum sendring_state {
        SENDRING_STATE_ATTACHED = 0,
        SENDRING_STATE_DETACHED, /* the service has gone; `producer` still holds what the old one had not taken */
        SENDRING_STATE_BROKEN,   /* an invariant broke: every call but close is refused */
};

struct sendring {
        struct ring_producer producer;
        struct sendring_process *process;
        enum sendring_state state;
        bool pid_compared;   /* the kernel has no MADV_WIPEONFORK: getpid() at every call instead */
        uint32_t watch_left; /* publishes until the next look at whether the lane is drained */
        uint64_t published;
        const char *error; /* static text, or failure.text */

        /* What follows is cold. */
        pid_t pid;
        uint64_t full;
        uint64_t invalid;
        uint64_t reattached;
        uint64_t used_seen;  /* bytes waiting in the lane at the last watch */
        uint64_t stalled_ns; /* since when they have not become fewer; 0: they do */
        uint64_t attach_tried_ns;
        uint8_t *scratch; /* SENDRING_EVENT_BYTES_MAX, touched only by events whose bound does not fit a lane */
        uint32_t lane_bytes_wish;
        struct err failure;
        char name[LIMIT_LANE_NAME_BYTES_MAX];
        char socket_path[108]; /* sun_path */
};

/* Checks that the handle may be used here and now. A detached one tries to attach again, at most twice a second and for
 * at most SENDRING_REATTACH_MS_MAX. SENDRING_OK, or _INVALID, _FORKED, _BUG, _DETACHED. */
int sendring_enter_slow(struct sendring *ring);

static inline int sendring_enter(struct sendring *ring)
{
        if (SENDRING_LIKELY(ring != NULL && ring->process->alive == 1 && ring->state == SENDRING_STATE_ATTACHED &&
                            !ring->pid_compared))
                return SENDRING_OK;
        return sendring_enter_slow(ring);
}

/* The ring said ERR_DETACHED: remembers it and tries to attach again, as above. True when it is attached. */
bool sendring_detached(struct sendring *ring);
/* Every few publishes, and when the lane is full: where it has not been drained for half a second, asks the connection
 * whether the service is still there, and changes the state when it is not. No system call while the router drains. */
void sendring_watch(struct sendring *ring);

/* Remembers the failure for sendring_error(), counts it, and gives the public code. */
int sendring_fail(struct sendring *ring, int result, const char *text);
/* The same for an error from below whose text, if any, lies in ring->failure. */
int sendring_fail_code(struct sendring *ring, enum err_code code);

#endif
