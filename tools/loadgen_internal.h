/* What the parent process of `sendring loadgen` (cmd_loadgen.c), its options and its report share. */
#ifndef SENDRING_TOOLS_LOADGEN_INTERNAL_H
#define SENDRING_TOOLS_LOADGEN_INTERNAL_H

#include "tools/loadgen.h"
#include "tools/loadgen_record.h"

/* One second of the run, with --progress. */
struct loadgen_second {
        uint64_t published, full;
        uint64_t lateness_max_ns; /* of the events published in it; 0 also where none was due at a time */
};

struct loadgen {
        struct loadgen_options options;
        bool json, progress, kill_test;
        uint32_t kills_max;
        uint64_t kill_interval_ns;
        const char *counts_path;
        const char *ledger_path;
        struct loadgen_record_options record; /* capture_path NULL: nothing is recorded */
        struct loadgen_replay_options replay; /* path NULL: nothing is replayed */
        char *sets_text;
        const char *sets[LOADGEN_SETS_MAX];

        uint32_t slots_count;
        uint32_t slots_used;
        struct loadgen_slot *slots; /* shared with the producers */
        _Atomic uint64_t *counts;   /* --counts, shared */
        _Atomic bool *stop;         /* shared */
        uint64_t start_ns;          /* when events are due from */
        uint32_t kills;
        struct loadgen_second *seconds; /* what --progress has told */
        uint32_t seconds_count, seconds_room;
};

/* Returns CMD_EXIT_OK, CMD_EXIT_USAGE, or -1 when --help or --list-profiles was answered. `loadgen` is all zeros. */
int loadgen_parse(struct loadgen *loadgen, int argc, char **argv);
void loadgen_options_release(struct loadgen *loadgen);

struct loadgen_report {
        uint64_t published, overdue, full, too_big, detached, wakeups, reattached, cpu_ns;
        uint64_t begun_ns, ended_ns; /* of the first event and of the last; both 0: none was published */
        uint32_t killed, failed;
        /* A load with an end of its own (--events, --profile, --replay) that was stopped before it: how many of its
         * events are not published, of a Poisson process about so many. */
        uint64_t not_published;
        bool unavailable, flushed;
        uint64_t types[LOADGEN_TYPES_COUNT];
        uint64_t sets[LOADGEN_SETS_MAX];
        struct loadgen_histogram publish_ns, lateness_ns;
};

void loadgen_sum(const struct loadgen *loadgen, struct loadgen_report *report);
void loadgen_print(const struct loadgen *loadgen, const struct loadgen_report *report);
/* False: errno says why. */
bool loadgen_write_ledger(const struct loadgen *loadgen, const struct loadgen_report *report);

#endif
