/* The router process: owns and joins lanes, journals, shards, egress workers, and the threads that serve them.
 *
 *   control thread (the caller of router_run): attaching producers, signals, reloads, the life of lanes and targets
 *   helper thread: what may block: preparing segments, grouped syncs, credentials
 *   shard-N: see router/shard.h          worker-N: see egress/worker.h
 *
 * State below settings.state_directory: journal/<shard>/ (journal/journal.h), counters (base/counters.h), dead-letter/,
 * cloudwatch/ (egress/outbox.h), plans/ (copies of configuration-sets.yaml: kept.c).
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

/* Where things lie, for the tools. `out` gets the path; false when it does not fit. */
bool router_counters_path(const struct rules_settings *settings, char *out, size_t out_bytes);
bool router_journal_directory(const struct rules_settings *settings, uint32_t shard, char *out, size_t out_bytes);

/* How many logs there are: `shards_count`, or more when an earlier setting had more shards. */
uint32_t router_journals_count(const struct rules_settings *settings);

/* Keys of the two targets that only count: events that no destination matched, and malformed ones. */
#define ROUTER_TARGET_UNMATCHED "(unmatched)"
#define ROUTER_TARGET_REJECTED  "(rejected)"

#endif
