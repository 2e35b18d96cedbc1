/* What the settings make of journals and memory. */
#include "router/router_internal.h"

/* What the journal may need for a byte of a lane: the smallest event that routes is 32 bytes there and 256 here. It
 * only sizes a table: 80 bytes for each segment that this could make. */
#define ROUTER_JOURNAL_PER_LANE_BYTES UINT64_C(8)
#define ROUTER_FIXED_BUDGET_BYTES \
        ((uint64_t)24 * 1024 * 1024) /* code, libraries, OpenSSL, the log's queue, plans of ordinary size */
#define ROUTER_READERS_PER_WORKER 2u /* of each log: egress/worker.c */

struct journal_options router_log_options(const struct rules_settings *settings, const struct router_journal *logs,
                                          uint32_t logs_count, const struct router_journal *log)
{
        uint32_t wanted = 0;
        for (uint32_t i = 0; i < logs_count; i++)
                wanted += logs[i].wanted;
        return (struct journal_options){
                .segment_bytes = settings->journal.segment_bytes,
                .size_bytes_max = settings->journal.size_bytes_max / settings->router.shards_count,
                .deliver_only = !log->wanted,
                .retention_bytes = settings->journal.retention_bytes / (wanted > 0 ? wanted : 1),
                .retention_age_ms = settings->journal.retention_age * 1000,
                .drain_bytes_max =
                        ROUTER_JOURNAL_PER_LANE_BYTES * settings->router.lanes_max * settings->router.lane_bytes_max,
                .segments_mapped_max = log->wanted && log->type == 0 ? settings->journal.segments_mapped_max
                                                                     : JOURNAL_SEGMENTS_MAPPED_MIN,
                .durability = settings->journal.durability_host ? JOURNAL_DURABILITY_HOST : JOURNAL_DURABILITY_PROCESS,
        };
}

struct router_budget router_budget_sum(const struct rules_settings *settings, uint32_t logs_count,
                                       uint64_t journal_bytes, uint64_t targets_bytes)
{
        struct router_budget budget = {
                .lanes_bytes =
                        (uint64_t)settings->router.lanes_max * (settings->router.lane_bytes_max + UINT64_C(2) * 4096),
                .journal_bytes = journal_bytes,
                .targets_bytes = targets_bytes,
                .other_bytes = ROUTER_FIXED_BUDGET_BYTES +
                               settings->egress.workers_count * egress_worker_budget_bytes(logs_count) +
                               counters_bytes(router_counters_blocks(settings), LIMIT_TARGETS_MAX),
        };
        budget.total_bytes = budget.lanes_bytes + budget.journal_bytes + budget.targets_bytes + budget.other_bytes;
        return budget;
}

uint32_t router_counters_blocks(const struct rules_settings *settings)
{
        return 2 + settings->router.shards_count + settings->egress.workers_count;
}

struct router_budget router_budget_of(const struct rules_settings *settings, const struct rules_plan *plan)
{
        struct router_journal logs[LIMIT_LOGS_MAX];
        uint32_t wanted = 0, logs_count = router_logs_list(settings, false, logs);
        while (wanted < logs_count && logs[wanted].wanted) /* they come first */
                wanted++;
        uint64_t journals = 0, targets = 0;
        for (uint32_t i = 0; i < wanted; i++) {
                struct journal_options options = router_log_options(settings, logs, wanted, &logs[i]);
                journals += journal_budget_bytes(&options,
                                                 (uint64_t)ROUTER_READERS_PER_WORKER * settings->egress.workers_count);
        }
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++)
                targets += egress_target_budget_bytes(settings, rules_plan_target(plan, i));
        return router_budget_sum(settings, wanted, journals, targets);
}
