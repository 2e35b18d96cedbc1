/* A run of `sendring feed`: what it was asked for, and where it is. */
#ifndef SENDRING_TOOLS_FEED_H
#define SENDRING_TOOLS_FEED_H

#include "base/arena.h"
#include "base/err.h"
#include "codecs/codec.h"
#include "feeds/postfix.h"
#include "feeds/publisher.h"
#include "feeds/tail.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum feed_from { FEED_NONE = 0, FEED_JSONL, FEED_POSTFIX };

struct feed {
        enum feed_from from;
        const char *socket_path, *checkpoint_path, *state_path;
        char state_path_made[PATH_MAX];
        int lock_fd; /* of the checkpoint; -1: there is none */
        bool follow, from_end, progress, json;
        uint64_t checkpoint_interval_ns;
        uint32_t samples_max;
        struct postfix_options postfix_options;

        const char *path; /* of the file read now */
        struct tail *tail;
        uint64_t missed_bytes;        /* by tails before it */
        struct tail_position started; /* of the checkpoint */
        bool resumed;
        struct publisher publisher;
        struct postfix *postfix;
        struct arena arena;

        uint64_t lines, bad, long_lines, members_kept, members_dropped, events[CODEC_EVENT_TYPES_COUNT + 1];
        uint64_t checkpoints, checkpoints_failed;
        uint64_t checkpoint_inode; /* the file that the last one names */
        uint64_t begun_ns, checked_ns, told_ns, check_cost_ns;
        uint64_t reports_ns, reports, reports_left_out; /* of bad lines: rate limit */
        uint32_t samples;
        bool dirty; /* something was read since the checkpoint */
        bool fatal;
        struct err err;
};

/* With the defaults of the options; NULL: out of memory. */
struct feed *feed_create(void);
void feed_free(struct feed *feed);
/* Reads them to their end, or until SIGTERM or SIGINT, whose handlers it sets; SIGUSR1 shows the counts. Says on
 * standard error what went wrong, and the counts at the end. The status to end with. */
int feed_run(struct feed *feed, char *const *paths, int paths_count);

#endif
