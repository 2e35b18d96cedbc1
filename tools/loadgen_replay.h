/* `sendring loadgen --replay`: a capture (loadgen_capture.h) as a load. The parent checks the whole file and lays out
 * when each event is due and which producer publishes it; the producers, forked from it, walk that plan. Events of one
 * message go to one producer, so that their order is kept; several of the same millisecond are spread over it. */
#ifndef SENDRING_TOOLS_LOADGEN_REPLAY_H
#define SENDRING_TOOLS_LOADGEN_REPLAY_H

#include "base/limits.h"
#include "tools/loadgen_capture.h"
#include "tools/loadgen_id.h"

#include <stdbool.h>

enum loadgen_ids {
        LOADGEN_IDS_FRESH,   /* a new id for each message, the same for all of its events; other runs have others */
        LOADGEN_IDS_KEEP,    /* as they were */
        LOADGEN_IDS_COUNTED, /* one of loadgen's own for each event (loadgen_id.h): endpoints can count */
};

struct loadgen_replay_options {
        const char *path;
        double speed; /* times that of the recording; 0: as fast as the lanes take them */
        enum loadgen_ids ids;
        uint32_t producers_count; /* 1..256 */
        uint32_t run_id;
};

struct loadgen_replay {
        struct loadgen_replay_options options;
        struct loadgen_capture capture;
        uint64_t *places;   /* per event: offset in the file << 8 | producer */
        uint64_t *due_ns;   /* per event, after the start; not before the one before */
        uint64_t length_ns; /* when the last one is due */
        size_t bytes;       /* mapped */
};

/* Maps and checks the file. ERR_SYSTEM, ERR_PERMISSION, ERR_MEMORY; ERR_CORRUPT, ERR_INCOMPLETE, ERR_VERSION: with the
 * offset; ERR_EMPTY: there are no events in it; ERR_RANGE: at this speed it would take years. */
enum err_code loadgen_replay_open(const struct loadgen_replay_options *options, struct loadgen_replay *ret_replay,
                                  struct err *reterr);
void loadgen_replay_close(struct loadgen_replay *replay);

struct loadgen_replay_cursor {
        const struct loadgen_replay *replay;
        uint32_t producer;
        uint64_t at; /* in the plan */
};

/* The producer's next event: when it is due after the start, and its place in the plan. False: there are no more. */
bool loadgen_replay_next(struct loadgen_replay_cursor *cursor, uint64_t *ret_due_ns, uint64_t *ret_number);

#define LOADGEN_REPLAY_EVENT_BYTES (LIMIT_EVENT_BYTES_MAX + LOADGEN_ID_BYTES + 2)
/* Event `number` of the plan with the id that it gets; `id` is the one of LOADGEN_IDS_COUNTED. Where the id is kept the
 * slice lies in the file, else in `out`, until the next call. False: the file was changed since it was checked. */
bool loadgen_replay_event(const struct loadgen_replay *replay, uint64_t number, const struct loadgen_id *id,
                          uint8_t out[LOADGEN_REPLAY_EVENT_BYTES], struct slice *ret_event,
                          enum sendring_event_type *ret_type);

/* The event with another message id; the bytes of `out`, 0 when the event's id is not where it must be. */
size_t loadgen_replay_put_id(const struct codec_view *view, const char id[LOADGEN_ID_BYTES],
                             uint8_t out[LOADGEN_REPLAY_EVENT_BYTES]);

#endif
