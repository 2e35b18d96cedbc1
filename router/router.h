/* The router process: owns and joins lanes, journals, shards, egress workers, and the threads that serve them.
 *
 *   control thread (the caller of router_run): attaching producers, signals, reloads, the life of lanes and targets
 *   helper thread: preparing segments, grouped syncs
 *   credentials thread: reads the AWS credentials, which may hang
 *   shard-N: see router/shard.h          worker-N: see egress/worker.h
 *
 * State below settings.state_directory: journal/<shard>/ and journal/<shard>.<type>/ (journal/journal.h), counters
 * (base/counters.h), dead-letter/, cloudwatch/ (egress/outbox.h), plans/ (copies of configuration-sets.yaml: kept.c).
 */
#ifndef SENDRING_ROUTER_ROUTER_H
#define SENDRING_ROUTER_ROUTER_H

#include "base/err.h"
#include "rules/rules.h"

struct router_options {
        const char *settings_path;
        int keeper_fd;  /* -1: no keeper: lanes die with this process */
        bool restarted; /* by the keeper, after a router that was ready: a mistake made since then must not end the
                         * service
                         */
        const char *version;
};

/* Runs until SIGTERM or SIGINT was carried out. Returns a status for main(): 0, 78 (configuration: findings were
 * printed on stderr), 1. */
int router_run(const struct router_options *options);

/* Tells systemd, before the first router of a service, how long the start may take where the journal has much to read:
 * longer than TimeoutStartSec=. Once: a router that cannot start must not hold up the host's for ever. */
void router_notify_starting(const struct rules_settings *settings);

/* Where things lie, for the tools. `out` gets the path; false when it does not fit. */
bool router_counters_path(const struct rules_settings *settings, char *out, size_t out_bytes);
/* A copy of configuration-sets.yaml as it was in force (kept.c): its path, and the number that a file's name in the
 * folder of the copies says; false: it does not fit, or is none. */
bool router_kept_path(const struct rules_settings *settings, uint64_t number, char *out, size_t out_bytes);
bool router_kept_number(const char *name, uint64_t *ret_number);
/* Of the newest one: what is in force in a router that runs. False: there is none. */
bool router_kept_newest_path(const struct rules_settings *settings, char *out, size_t out_bytes);
/* A log of the journal: of a shard, and of one event type or of all that have none of their own. */
struct router_journal {
        uint32_t shard;
        unsigned type; /* enum sendring_event_type; 0: all others */
        bool wanted;   /* by the settings; else it is of earlier ones: delivered, and nothing is added */
};
/* Its directory: journal.directory/0, or journal.directory/0.Open. */
bool router_log_directory(const struct rules_settings *settings, const struct router_journal *log, char *out,
                          size_t out_bytes);
/* The logs that there are, or will be: those of the shards, each at the shard's index; those of their shed types; those
 * of earlier settings that are still on the disk, `emptied` ones (only counts are left) if asked for. Returns how many:
 * none is left out. */
uint32_t router_logs_list(const struct rules_settings *settings, bool emptied,
                          struct router_journal ret_logs[LIMIT_LOGS_MAX]);

/* The memory that a router may take. */
struct router_budget {
        uint64_t total_bytes;
        uint64_t lanes_bytes, journal_bytes, targets_bytes, other_bytes; /* its parts */
};
/* Of one that begins with these settings and configuration sets and without a journal: what it says at its start. One
 * with a journal says up to some 100 KiB more, and with logs of earlier settings also those. */
struct router_budget router_budget_of(const struct rules_settings *settings, const struct rules_plan *plan);

/* Keys of the two targets that only count: events that no destination matched, and malformed ones. */
#define ROUTER_TARGET_UNMATCHED "(unmatched)"
#define ROUTER_TARGET_REJECTED  "(rejected)"

#endif
