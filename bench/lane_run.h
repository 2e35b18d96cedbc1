/* One run of a bench of lanes: producers as processes of their own, and this process as their consumer. */
#ifndef SENDRING_BENCH_LANE_RUN_H
#define SENDRING_BENCH_LANE_RUN_H

#include "bench/lane_media.h"

#include <stdatomic.h>

#define LANE_RUN_SAMPLES_MAX 4096u
#define LANE_RUN_SOURCES     64u /* different records */
#define LANE_RUN_ROUNDS_MAX  100u

/* What every record begins with. Its last byte is the sequence's lowest. */
struct lane_run_head {
        uint64_t sequence; /* of its producer, from 0 */
        uint64_t due_ns;
        uint32_t producer;
};

/* Shared by the processes. */
struct lane_run_shared {
        _Atomic uint32_t ready;
        _Atomic bool start, stop;
        uint64_t start_ns; /* written before `start` */
        struct lane_run_producer {
                uint64_t sent; /* records */
                uint32_t samples_count;
                float samples[LANE_RUN_SAMPLES_MAX];
        } of[LANE_MEDIA_PRODUCERS_MAX];
};

/* A producer as it sees itself. */
struct lane_run_self {
        const struct lane_medium *medium;
        struct lane_media_rig *rig;
        struct lane_run_shared *shared;
        struct lane_run_producer *own;
        uint8_t *sources;
};

/* Pinned: the consumer on the first CPU, producers on the others, in turns. */
enum lane_run_place { LANE_RUN_PINNED, LANE_RUN_FREE };

struct lane_run_options {
        const struct lane_medium *medium;
        uint32_t record_bytes, producers;
        enum lane_run_place place;
        double seconds; /* then the producers are stopped; 0: they end by themselves. The first quarter does not count
                         */
        uint64_t pause_ns; /* between two looks of the consumer */
        /* What a producer does from the start on, until `shared->stop`. */
        void (*produce)(struct lane_run_self *self, const void *context);
        const void *context;
        lane_media_got *got; /* of each record, in the consumer; or NULL */
        void *got_context;
};

struct lane_run_result {
        uint64_t taken; /* while the producers were at it */
        double seconds; /* how long that was */
};

struct lane_run_shared *lane_run_shared_create(void);
/* Every record is checked: it is the next of its producer, and whole; and all that were sent have come. Ends the
 * process when not. `shared` keeps what the producers left there. */
struct lane_run_result lane_run(struct lane_run_shared *shared, const struct lane_run_options *options);

/* For producers: the next record, with the time that it is due at; another one of the sources each time. */
const uint8_t *lane_run_record(struct lane_run_self *self, uint64_t due_ns);

/* LANE_RUN_SOURCES records, one after the other, as producers have them; free() them. */
uint8_t *lane_run_sources(uint32_t record_bytes);
void lane_run_pin(enum lane_run_place place, bool consumer, uint32_t producer);
/* One line of JSON. `value` 0: it could not be measured, which is a note. `rate`: more is better. */
void lane_run_print(const char *bench, const char *metric, double value, const char *unit, double floor, bool rate);
/* --rounds, --smoke, --json: leaves what is not given; ends the process for anything else. */
void lane_run_arguments(int argc, char **argv, double smoke_seconds, uint32_t *rounds, double *seconds);

#endif
