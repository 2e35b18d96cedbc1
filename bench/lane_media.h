/* Ways to bring records of one size from producer processes to one consumer: lanes, and what else could be taken. All
 * of them with the same bytes of room, polled by the consumer, which copies every record out, and without a wait on
 * either side: what is measured is the way, not how somebody sleeps. */
#ifndef SENDRING_BENCH_LANE_MEDIA_H
#define SENDRING_BENCH_LANE_MEDIA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LANE_MEDIA_PRODUCERS_MAX 4u
#define LANE_MEDIA_ROOM_BYTES    (1024u * 1024u) /* a lane's default; rings and pipes get as much */
#define LANE_MEDIA_RECORD_BYTES  4096u           /* the largest; the most that a pipe takes as one */

struct lane_media_rig;
/* Gets each record as the consumer has copied it. */
typedef void lane_media_got(void *context, const uint8_t *record);

struct lane_medium {
        const char *name;
        /* In the consumer, before producers are forked. */
        void (*open)(struct lane_media_rig *rig);
        /* In a forked producer; or NULL. */
        void (*attach)(struct lane_media_rig *rig);
        /* In the consumer, until it says that all producers are attached; or NULL. */
        bool (*attached)(struct lane_media_rig *rig);
        /* In a producer: `record_bytes` of `record`. False: no room now. */
        bool (*send)(struct lane_media_rig *rig, const uint8_t *record);
        /* In the consumer: takes what there is, bounded. Returns the records. */
        uint32_t (*take)(struct lane_media_rig *rig, lane_media_got *got, void *context);
        /* In the consumer, when the producers have ended. */
        void (*close)(struct lane_media_rig *rig);
};

enum lane_medium_kind {
        LANE_MEDIUM_LANE,      /* ours: one for each producer, of a real attach */
        LANE_MEDIUM_RTE_SP,    /* rte_ring SP/SC, one for each producer; zero-copy API, slots of the record's size */
        LANE_MEDIUM_RTE_MP,    /* rte_ring MP/SC, one for all; copies, as there is no zero-copy API for it */
        LANE_MEDIUM_RTE_RTS,   /* relaxed tail sync; copies, for the same reason */
        LANE_MEDIUM_RTE_HTS,   /* head/tail sync; zero-copy API */
        LANE_MEDIUM_PIPE,      /* one for all */
        LANE_MEDIUM_SEQPACKET, /* a unix socket for each producer; taken 32 at a time */
        /* The least of all, for one producer: fixed slots, each with a word beside its record that says whose it is. No
         * other line goes to and fro, until all are full. */
        LANE_MEDIUM_SLOTS,
        LANE_MEDIA,
};
extern const struct lane_medium lane_media[LANE_MEDIA];

struct lane_media_rig {
        uint32_t record_bytes; /* 64..LANE_MEDIA_RECORD_BYTES, a multiple of 4 */
        uint32_t producers;
        uint32_t producer;          /* which one this process is */
        struct lane_media_own *own; /* the medium's */
};
void lane_media_rig_init(struct lane_media_rig *rig, uint32_t record_bytes, uint32_t producers);
void lane_media_rig_release(struct lane_media_rig *rig);

/* Prints and ends this process. */
_Noreturn void lane_media_die(const char *what, const char *why);

/* Memory that forked processes share, zeroed. */
void *lane_media_shared(size_t bytes);

#endif
