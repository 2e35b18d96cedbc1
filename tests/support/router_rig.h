/* A router's control thread over an egress_rig, one worker and one or two logs: sets are written, a router starts over
 * what the one before has left, and ends. The files of journals and state are in rig.directory. Of one test program. */
#ifndef SENDRING_TESTS_SUPPORT_ROUTER_RIG_H
#define SENDRING_TESTS_SUPPORT_ROUTER_RIG_H

#include "router/router_internal.h"
#include "tests/support/egress_rig.h"

static struct router_options options;
static struct egress_rig rig;
static struct router router;
static struct counters_block block;
static char sets_path[400]; /* to be written between opening and starting */

/* Over the journals that are there; rig.shards_count logs, of rig.logs where that is not NULL. */
static inline void router_rig_open(void)
{
        egress_rig_open(&rig);
        (void)snprintf(sets_path, sizeof(sets_path), "%s/configuration-sets.yaml", rig.directory);
}

static inline enum err_code router_rig_start(struct err *reterr)
{
        router = (struct router){.options = &options,
                                 .settings = rig.settings,
                                 .counters = rig.counters,
                                 .own_counters = &block,
                                 .journals_count = rig.shards_count,
                                 .workers_count = 1,
                                 .outbox_directory = rig.outboxes};
        for (uint32_t log = 0; log < rig.shards_count; log++) {
                router.journals[log] = rig.journals[log];
                router.logs[log] =
                        (struct router_journal){.type = rig.logs == NULL ? 0 : rig.logs[log].type, .wanted = true};
                router.target_unmatched[log] = router.target_rejected[log] = UINT16_MAX; /* no number is theirs */
        }
        router.workers[0] = rig.workers[0];
        router.settings.configuration_sets_path = sets_path;
        router.settings.state_directory = rig.directory;
        return router_start_targets(&router, reterr);
}

static inline void router_rig_close(void)
{
        for (uint32_t i = 0; i < router.targets_count; i++)
                free(router.targets[i].key);
        free(router.targets);
        router_kept_release(&router);
        router_plan_free(router.plan_old);
        router_plan_free(router.plan);
        egress_rig_close(&rig);
}

#endif
