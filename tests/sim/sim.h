/* The simulation: the real journal, shard, workers and destinations in one process, on a clock, a disk and a network
 * that one seed drives. Link-time seams: clock.c stands in for base/clock.h, disk.c for io/disk.h, file.c for
 * base/file.h, network.c for io/io.h. The code under test is compiled with a call at every basic block, so that a kill
 * can happen between any two of them (crash.c).
 *
 *     main.c      seeds, one forked process each; what failed, and how to run it again
 *     world.c     one seed: start, crashes, power cuts, faults, healing
 *     producers.c lanes and what is published in them
 *     plan.c      configuration-sets.yaml in several versions
 *     hardships.c what goes on being wrong in some seeds
 *     judge.c     what must hold, during it and at its end
 *     endpoints.c what the network leads to: Firehose and CloudWatch as far as requests and answers go, with faults
 *
 * One thread. Everything random comes from sim_random, so a seed means the same run every time. */
#ifndef SENDRING_TESTS_SIM_SIM_H
#define SENDRING_TESTS_SIM_SIM_H

#include "base/random.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* ---- main.c */

extern struct random_state sim_random;
extern bool sim_trace; /* --trace: every step is printed */

bool sim_chance(double probability);
uint64_t sim_below(uint64_t bound);

/* A step worth telling. Goes into the digest of the run, by which two runs of a seed are compared. */
void sim_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* An invariant does not hold: says what, and ends this seed as failed. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#define SIM_CHECK(condition)                                                                 \
        do {                                                                                 \
                if (!(condition))                                                            \
                        sim_fail("%s:%d: %s does not hold", __FILE__, __LINE__, #condition); \
        } while (0)

/* ---- clock.c */

uint64_t sim_now_ns(void);
void sim_clock_advance(uint64_t duration_ns);
void sim_clock_set(uint64_t now_ns);            /* only forward */
void sim_clock_set_realtime(int64_t offset_ms); /* how far the host is from what the services say */
int64_t sim_clock_true_ms(void);

/* ---- crash.c */

/* Runs body(argument); true: it was killed, at the `blocks`th basic block of the code under test (0: never). What it
 * had allocated is lost with the process that it stands for. */
bool sim_run(void (*body)(void *argument), void *argument, uint64_t blocks);
uint64_t sim_blocks_run(void); /* basic blocks so far */

/* ---- disk.c, files.c */

struct sim_disk_faults {
        double read_eio, write_eio, sync_eio, short_write, open_failure;
        double hang;             /* an operation of a loop on files takes up to half a minute */
        double file_hang;        /* one on the file destination does not end before the process does */
        double targets_sync_eio; /* of the targets files of journals */
        double segments_sync_eio;
        bool writes_late;        /* a power cut finds most times what was synced, and nothing else */
        uint64_t capacity_bytes; /* ENOSPC above it */
        bool renames_blindly;    /* only with replacing, as NFS does */
};
extern struct sim_disk_faults sim_disk_faults;

/* The process is gone: its descriptors, locks and mappings are closed; stores into mappings stay. */
void sim_disk_process_ended(void);
/* The host is gone: of what was not synced, any part may be there, in pieces down to sectors and less. */
void sim_disk_power_cut(void);
/* A page of a log's mapping is lost: the first that has nothing before `position`; `written`: one before it, which the
 * file does not have either. False: there is none, or it is mapped nowhere. */
bool sim_disk_lose_page(const char *directory, uint64_t position, bool written);
/* While no process has it open: the file is gone, or a page of it, or the beginning of a page. False: there is none. */
bool sim_disk_damage(const char *path);
uint64_t sim_disk_used_bytes(void);
/* Somebody made it long ago. */
void sim_disk_make_directory(const char *path);
/* Somebody writes a whole file, and is sure that it is on the disk. */
void sim_disk_put(const char *path, struct slice content);
/* Whether it is open on a file whose path begins so. */
bool sim_disk_is(int fd, const char *prefix);
/* For io/io.h's operations on files: as the calls, with -errno. */
int32_t sim_disk_io_open(const char *path, int flags);
int32_t sim_disk_io_stat(int fd, const char *path, struct statx *ret_status); /* `path` NULL: of `fd` */
int32_t sim_disk_io_rename(const char *from, const char *to, bool replace);
int32_t sim_disk_io_truncate(int fd, uint64_t bytes);
int32_t sim_disk_io_read(int fd, void *to, size_t bytes, uint64_t offset);
int32_t sim_disk_io_write(int fd, const void *from, size_t bytes, uint64_t offset);
int32_t sim_disk_io_sync(int fd);
int32_t sim_disk_io_sync_directory(int directory_fd);
/* The current content of every file whose path begins with `prefix`. */
void sim_disk_each(const char *prefix, void (*each)(void *context, const char *path, struct slice content),
                   void *context);

/* ---- file.c */

uint64_t sim_file_replace_failures(void); /* so far */

/* ---- network.c */

/* When the next operation could end or byte arrive; UINT64_MAX: nothing is on its way. */
uint64_t sim_network_next_ns(void);
/* What the last turn of a loop was willing to sleep until. */
uint64_t sim_network_wish_ns(void);
/* Whether one is in a file that hangs. */
bool sim_network_file_hangs(void);
/* It is over: they end now. */
void sim_network_file_answers(void);
/* The process is gone: operations end unseen, some of them done; connections are reset. */
void sim_network_process_ended(void);
/* A turn that may sleep lets the clock go on by itself, and a loop that is made is one of a thread that waits for it.
 */
void sim_network_sleeps(bool sleeps);

/* ---- endpoints.c */

struct sim_request_faults {
        double refuse;       /* the connection is */
        double hang;         /* the connection never comes about */
        double reset_before; /* in the middle of the request: nothing was taken */
        double reset_after;  /* taken, and the answer is lost */
        double silent;       /* taken or not, never answered */
        double error_500, error_503_bare, throttle, garbage, not_found, denied, expired_token, skew;
        double partial;    /* some records are refused */
        double cut_answer; /* a part of the answer, then the end */
        double twice;      /* the answer comes twice */
        double slow;       /* the answer takes seconds */
};

enum sim_service { SIM_FIREHOSE, SIM_CLOUDWATCH };

struct sim_endpoint {
        const char *name;
        enum sim_service service;
        uint16_t port;
        bool dead;                    /* no connection comes about any more */
        bool takes_plain, takes_gzip; /* Firehose: what records may be here */
        struct sim_request_faults faults;
        uint32_t *received; /* [events_max] by id: how often it was taken (Firehose) */
        uint32_t events_max;
        uint64_t requests, taken_events;
        uint64_t counted;      /* CloudWatch: sum of the counts taken */
        uint64_t ambiguous;    /* of these, in requests whose answer did not reach the other side in whole */
        uint64_t counted_last; /* of the newest request whose answer did */
};

#define SIM_ENDPOINTS_MAX 4u
extern struct sim_endpoint sim_endpoints[SIM_ENDPOINTS_MAX];
extern uint32_t sim_endpoints_count;
struct sim_endpoint *sim_endpoint_at(uint16_t port);

/* What the endpoint does with a connection or with the request that has come in whole; decided once each. */
enum sim_connect { SIM_CONNECT_OK, SIM_CONNECT_REFUSED, SIM_CONNECT_HANGS };
enum sim_connect sim_endpoint_connect(struct sim_endpoint *endpoint);

struct sim_answer {
        uint8_t *bytes; /* malloc'ed; NULL: none */
        size_t len;
        bool reset; /* the connection, instead of an answer or after what there is of it */
        bool twice; /* its bytes are those of one answer and the same once more */
        uint64_t after_ns;
        uint64_t counted; /* of this request, taken: ambiguous until the answer is there */
};
void sim_endpoint_request(struct sim_endpoint *endpoint, struct slice head, struct slice body,
                          struct sim_answer *ret_answer);
/* What every endpoint looks at in a signature: the number of the key id, AKID0000, and the time. */
struct sim_signing {
        bool checked, says_unknown;
        uint32_t key_oldest;
};
extern struct sim_signing sim_signing;
/* Whether the connection breaks before this request has come in whole. */
bool sim_endpoint_breaks(struct sim_endpoint *endpoint);

/* ---- world.c */

struct sim_result {
        uint64_t published, received, duplicates, shed, dead_lettered, pages_lost, written_lost, lost, kills,
                power_cuts, starts, failed_starts, reloads, damaged;
        uint64_t disk_full, sim_ms;
};
/* One seed, from an empty disk to an empty journal. Fails by sim_fail(). */
void sim_world_run(struct sim_result *ret_result);
/* What is the same for every seed, and costs time: plans, OpenSSL. */
void sim_world_prepare(void);

#endif
