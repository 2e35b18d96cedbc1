/* What the files of router/ share about the router process. Inside router/ only. */
#ifndef SENDRING_ROUTER_INTERNAL_H
#define SENDRING_ROUTER_INTERNAL_H

#include "base/clock.h"
#include "base/counters.h"
#include "base/log.h"
#include "egress/credentials.h"
#include "egress/worker.h"
#include "journal/journal.h"
#include "ring/ring.h"
#include "router/router.h"
#include "router/shard.h"

#include <pthread.h>

/* A copy of configuration-sets.yaml as it was in force. */
struct router_kept {
        uint64_t number;
        uint8_t *text; /* malloc'ed: it could not be written yet. NULL: it is on the disk */
        size_t text_bytes;
        uint8_t *keys; /* then: rules_keys_print() of its keys, or NULL: there are none, or they are written */
        size_t keys_bytes;
};

/* One delivery target of this daemon, from its first plan until it is gone. */
struct router_target {
        char *key;
        uint16_t numbers[LIMIT_LOGS_MAX];
        uint8_t worker;
        struct egress_target *target; /* NULL: it could not be opened yet: its events wait in the journal */
        uint64_t again_ns;            /* then: when it is tried again */
        struct counters_target_row *row;
        uint64_t budget_bytes; /* that it may hold */
        bool uses_credentials;
        uint64_t kept; /* number of the newest copy of the sets that names it; 0: none */
        bool wanted;   /* in the newest plan */
        bool fresh;    /* made, or its removal taken back, for a plan that is still being loaded */
        bool removing; /* the worker was told to let it go */
};

struct router_credentials;
struct router_helper;

/* Processes that were told of within the last minute for what they do to lanes and the socket. */
#define ROUTER_CULPRITS_MAX 64u
/* Places for those that have left by the time: a swarm of them takes none from who stays. */
#define ROUTER_CULPRITS_GONE_MAX 16u
#define ROUTER_CULPRIT_NS        (60 * CLOCK_NS_PER_S)
enum router_crime {
        ROUTER_CRIME_REFUSED,         /* a connection that came to nothing */
        ROUTER_CRIME_REJECTED,        /* records that are no events */
        ROUTER_CRIME_REJECTED_CLOSED, /* and nothing else: its lane was closed */
        ROUTER_CRIME_PROTOCOL,        /* it broke the lane protocol */
        ROUTER_CRIME_PROTOCOL_CLOSED, /* so often that its lane was closed */
};
struct router_culprit {
        pid_t pid;
        uid_t uid;
        enum router_crime crime;
        uint64_t told_ns; /* 0: a free place */
        uint64_t repeats; /* since, of it or, when all places are taken, of others */
};

struct router {
        const struct router_options *options;
        struct rules_settings settings;
        struct counters counters;
        struct counters_block *own_counters; /* the control thread's */
        struct counters_block *helper_counters;
        struct journal *journals[LIMIT_LOGS_MAX];
        struct router_journal logs[LIMIT_LOGS_MAX];      /* what each of them is */
        struct egress_log egress_logs[LIMIT_LOGS_MAX];   /* the same for the workers */
        struct journal_budget budgets[LIMIT_SHARDS_MAX]; /* of each shard's logs */
        uint64_t disk_again_ns[LIMIT_LOGS_MAX];          /* pressure.c; of the helper */
        struct ring_bed *beds[LIMIT_SHARDS_MAX];
        struct shard *shards[LIMIT_SHARDS_MAX];
        pthread_t shard_threads[LIMIT_SHARDS_MAX];
        struct egress_worker *workers[LIMIT_WORKERS_MAX];
        pthread_t worker_threads[LIMIT_WORKERS_MAX];
        /* Logs: those of the shards, of their classes, then those of earlier settings, which are only delivered. */
        uint32_t journals_count;
        uint32_t shards_count, workers_count;
        uint32_t shard_threads_count, worker_threads_count;
        struct http_tls *tls;
        struct router_credentials *credentials; /* credentials.c */
        struct ring_server *server;
        struct router_culprit culprits[ROUTER_CULPRITS_MAX];
        uint64_t offences_seen; /* rejected events and violations, when lanes were looked through for them */
        struct {
                uint64_t lane_id, offences;
        } offences_told[LIMIT_LANES_MAX]; /* of a lane, at its id modulo; two at one place are told again */
        uint16_t target_unmatched[LIMIT_LOGS_MAX], target_rejected[LIMIT_LOGS_MAX];

        struct shard_plan *plan;     /* what shards should use */
        struct shard_plan *plan_old; /* until every shard has seen the new one */
        struct router_kept *kept;    /* by their numbers, ascending */
        uint32_t kept_count;
        uint64_t kept_again_ns;   /* when those that could not be written are tried again */
        uint64_t resume_again_ns; /* not 0: a target of an earlier plan could not be resumed */
        uint64_t sets_again_ns; /* not 0: since the start a target of the sets cannot be registered: those of before are
                                   in force; when it is tried again */
        bool unregistered;      /* there was no number for a target of the plan that was loaded last */
        bool reload_wanted;
        uint64_t reload_waits_since_ns; /* for a target to be gone; 0: it does not */
        uint64_t reload_again_ns;       /* and is not tried again before */
        uint64_t heap_again_ns;         /* when its size is told again */
        uint64_t left_bytes;            /* that lanes of exited producers still held when the router ended */
        uint64_t lost_events;           /* that waited in journals whose directories are gone */
        bool journal_removed;           /* the directory of one is gone: the next router makes it anew */
        struct router_target *targets;
        uint32_t targets_count, targets_room;
        struct log_gate targets_gate, sets_gate, unparsed_gate, reload_gate;
        struct log_gate unowned_shed_gate, unowned_error_gate; /* unowned.c */
        uint64_t unowned_shed_untold;

        int epoll_fd, signal_fd, timer_fd, event_fd;
        struct router_helper *helper; /* helper.c */
        pthread_t helper_thread;
        bool helper_started;
        int helper_event_fd;
        _Atomic bool helper_stop;
        char *dead_letter_directory, *outbox_directory;
};

/* ---- targets.c: plans, and the delivery targets they name; control thread */

void router_plan_free(struct shard_plan *plan);
/* Findings of a check, into the log as a person reads them. */
void router_tell_report(const struct rules_report *report);
struct router_target *router_find_target(struct router *router, struct slice key);
/* Reads configuration-sets.yaml and opens its targets. Findings go to the log. ERR_BUSY: a target it names is still
 * being removed: try again later. */
enum err_code router_load_plan(struct router *router, struct shard_plan **ret_plan, struct err *reterr);
/* Carries out a reload that was asked for; leaves router->reload_wanted up when it must be tried again. */
void router_reload(struct router *router);
/* Sheds for targets that nobody has yet, frees an old plan that nobody looks at any more, lets go of targets that the
 * new one does not name, frees those that are gone, sees to the copies of the sets. */
void router_settle_targets(struct router *router);
/* At start, behind the workers: the plan, its targets, and those of earlier plans that it does not name. What waits for
 * these is delivered as a copy of the sets says that named them; without one it can go nowhere and is shed, counted.
 * Outboxes of CloudWatch targets that are none any more are removed. */
enum err_code router_start_targets(struct router *router, struct err *reterr);

/* Events of it are not settled. */
bool router_state_waits(const struct journal_target_state *state);

/* ---- file_turns.c: two targets of one file; control thread */

/* Whether the target may have its file now; `wanted`: it is in the newest plan. ERR_BUSY: another one has it, or comes
 * first; ask again. ERR_OK for what is no file. */
enum err_code router_file_turn(const struct router *router, struct slice key, bool wanted, struct err *reterr);
/* For a plan that names it: whether it may keep the file that it has. ERR_CONFIG: it was on its way out, and another
 * one waits for that: events of both would be there for as long as the plan is. */
enum err_code router_file_may_stay(const struct router *router, const struct router_target *own, struct err *reterr);

/* ---- kept.c: copies of configuration-sets.yaml as it was in force; control thread */

/* At start: makes the directory, lists what is there. */
enum err_code router_kept_open(struct router *router, struct err *reterr);
uint64_t router_kept_newest(const struct router *router); /* its number; 0: none */
/* Keeps a copy of the text that comes into force now, with the settings' region, account and partition and the keys it
 * was read with (NULL: none), unless the newest is the same. One that cannot be written (a full disk) is the newest all
 * the same, if there is memory for it, and router_kept_write() writes it later. */
enum err_code router_kept_save(struct router *router, struct slice text, const struct rules_keys *keys,
                               struct err *reterr);
/* Tries again what could not be written, not more often than each 2 s. */
void router_kept_write(struct router *router);
/* Reads and parses a copy with its keys, which are in *keys afterwards; its text is in the arena. A copy without keys
 * of its own is of an earlier version: they are read from their files. With the settings of now it can come into force;
 * with the region, account and partition it was in force with, and no defaults, it tells what its targets were. */
enum router_kept_settings { ROUTER_KEPT_OF_NOW, ROUTER_KEPT_OF_THEN };
enum err_code router_kept_parse(struct router *router, uint64_t number, enum router_kept_settings which,
                                struct arena *arena, struct slice *ret_text, struct rules_keys *keys,
                                struct rules_plan **ret_plan);
/* Removes copies that no target needs any more. */
void router_kept_forget(struct router *router);
void router_kept_release(struct router *router);

/* ---- culprits.c: who did what to lanes and the socket, for the log; control thread */

/* For struct ring_server_options; the context is the router. */
void router_connection_refused(void *context, pid_t pid, uid_t uid, const char *why);
/* A lane that its shard has done with. */
void router_tell_closed_lane(struct router *router, const struct ring_lane *lane);
/* Looks through the lanes, if something has happened in any. */
void router_tell_lanes(struct router *router);

/* ---- credentials.c: the AWS credentials, and the thread that reads them */

/* Before the workers, which see what _shared() gives. What a failure leaves, _free() releases. */
enum err_code router_credentials_create(struct router *router, struct err *reterr);
struct egress_credentials *router_credentials_shared(struct router *router);
/* Starts the thread and, if a target needs credentials, loads them; waits no longer than some seconds for that. */
enum err_code router_credentials_start(struct router *router, struct err *reterr);
/* Begins another load when it is time for one. Never waits. Helper thread. */
void router_credentials_look(struct router *router, uint64_t now_ns);
/* They are to be loaded again, soon. Any thread. */
void router_credentials_want(struct router *router);
/* After the helper thread has ended. A thread that hangs keeps its memory: router->credentials is NULL then. */
void router_credentials_stop(struct router *router);
void router_credentials_free(struct router_credentials *credentials);
bool router_uses_credentials(const struct router *router);

/* ---- helper.c: the helper thread */

/* After the journals; the thread is started later. free() after it has ended, before them. */
enum err_code router_helper_create(struct router *router, struct err *reterr);
void router_helper_free(struct router_helper *helper);
/* The body of the thread; `argument` is the router. Ends soon after helper_stop was set and helper_event_fd written. */
void *router_helper(void *argument);
/* Reads an eventfd or timerfd empty; writes to an eventfd. Neither blocks. */
void router_drain_fd(int fd);
void router_call(int fd);

/* ---- pressure.c: a full journal */

enum router_relief {
        ROUTER_RELIEF_NONE,  /* nothing may be given up for this log: producers wait */
        ROUTER_RELIEF_DONE,  /* it has room */
        ROUTER_RELIEF_COMES, /* something is being given up: look again soon */
};
/* journal_maintain() of a log, and what can be done where it finds no room, within its limit or on the disk. ERR_OK
 * also where the want of room is all that is wrong, and is being seen to. Helper thread. */
enum err_code router_maintain(struct router *router, uint32_t log, enum router_relief *ret_relief, struct err *reterr);

/* ---- unowned.c: targets that no worker has, and a full journal; control thread */

/* Carries out for them what logs have announced as given up. */
void router_shed_unowned(struct router *router);

/* ---- budget.c: what the settings make of journals and memory */

/* How `log`, one of `logs`, is opened; without its directory and its budget. */
struct journal_options router_log_options(const struct rules_settings *settings, const struct router_journal *logs,
                                          uint32_t logs_count, const struct router_journal *log);
uint32_t router_counters_blocks(const struct rules_settings *settings);
/* All together, with what its logs and its targets may take. */
struct router_budget router_budget_sum(const struct rules_settings *settings, uint32_t logs_count,
                                       uint64_t journal_bytes, uint64_t targets_bytes);

/* ---- start.c: everything between the settings and the first event */

enum err_code router_start(struct router *router, struct err *reterr);
enum err_code router_start_thread(pthread_t *ret_thread, void *(*body)(void *), void *argument, struct err *reterr);

#endif
