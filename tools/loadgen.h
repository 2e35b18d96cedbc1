/* `sendring loadgen`: what its parent process and its producer processes share. Documented ids: loadgen_id.h. */
#ifndef SENDRING_TOOLS_LOADGEN_H
#define SENDRING_TOOLS_LOADGEN_H

#include "tools/loadgen_events.h"
#include "tools/loadgen_histogram.h"
#include "tools/loadgen_profile.h"
#include "tools/loadgen_replay.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LOADGEN_PRODUCERS_MAX 256u
#define LOADGEN_SLOTS_MAX     65536u /* producer numbers of a run: four hex digits of the id */

struct loadgen_options {
        struct loadgen_events_options events; /* producer is set per process */
        const char *socket_path;
        uint32_t producers_count;
        uint32_t producer_first; /* number of the first producer */
        double rate;             /* events a second, all producers together; 0: as fast as the lanes take them */
        uint64_t events_max;     /* all producers together; 0: no bound */
        uint64_t duration_ns;    /* 0: no bound */
        uint64_t burst_on_ns;    /* all events of each on + off fall into its first `on`; 0: evenly */
        uint64_t burst_off_ns;
        /* NULL: none. Then `rate` is the average, and all of the plan is published, however late: no other bound. */
        const struct loadgen_profile *profile;
        struct loadgen_profile_plan *plan;
        struct loadgen_replay *replay; /* NULL: none; else what is published, at its own times */
        uint32_t flush_timeout_ms;     /* 0: no flush at the end */
        uint64_t stall_timeout_ns;     /* a producer that gets nothing published for so long gives up */
        bool patient;                  /* a router that is not there yet is waited for as well */
};

enum loadgen_end {
        LOADGEN_END_RUNNING = 0, /* also: killed */
        LOADGEN_END_DONE,
        LOADGEN_END_FLUSH_FAILED,
        LOADGEN_END_OPEN_FAILED,
        LOADGEN_END_PUBLISH_FAILED,
        LOADGEN_END_STALLED,
};

/* One producer process: written by it, read by the parent, which survives a SIGKILL of it. */
struct loadgen_slot {
        _Atomic uint64_t published; /* relaxed: a number; written after each publish that succeeded */
        _Atomic uint64_t full;      /* publishes refused for lack of room, and tried again */
        _Atomic uint64_t too_big;   /* of a capture: too big for a lane of this host; passed over */
        _Atomic uint64_t detached;  /* the same for a router that was not there */
        /* Monotonic, relaxed: when the first event was due or begun, 0: none; when the last one was in, and not before
         * the rate would have had the next: N events at a rate take N / rate. */
        _Atomic uint64_t begun_ns;
        _Atomic uint64_t ended_ns;
        /* Largest lateness since the parent took it and put 0 in its place. Relaxed: what is not stored for being
         * smaller was covered by what the parent has. */
        _Atomic uint64_t lateness_max_ns;
        _Atomic uint32_t end; /* enum loadgen_end; release: what stands below is complete */
        uint32_t number;
        pid_t pid;
        bool killed; /* set by the parent */
        bool running;
        uint64_t events_max; /* of this producer */
        uint64_t overdue;    /* events that were due when it ended and are not published */
        bool stopped;        /* told to stop before it had published its share */
        uint64_t cpu_ns;
        uint64_t wakeups;
        uint64_t reattached;
        uint64_t types[LOADGEN_TYPES_COUNT]; /* published, by type - 1 */
        uint64_t sets[LOADGEN_SETS_MAX];
        struct loadgen_histogram publish_ns;  /* duration of each publish that succeeded, without making its event */
        struct loadgen_histogram lateness_ns; /* from the intended time to the end of the publish; empty at rate 0 */
        char error[256];
};

/* Runs one producer in this (forked) process until its share is done, `stop` is set, or it fails; fills in the slot.
 * Event 0 is due at `start_ns`, nothing is published after `end_ns` (UINT64_MAX: no end); monotonic. `count`, where not
 * NULL, is stored after each success (--counts). */
void loadgen_producer_run(const struct loadgen_options *options, struct loadgen_slot *slot, uint64_t start_ns,
                          uint64_t end_ns, const _Atomic bool *stop, _Atomic uint64_t *count);

/* When event `index` of a producer is due, relative to the start: evenly spaced, or pressed into the bursts. */
uint64_t loadgen_due_ns(const struct loadgen_options *options, double interval_ns, uint64_t index);

#endif
