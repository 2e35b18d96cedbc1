#include "router/router.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static bool router_fits(int used, size_t out_bytes)
{
        return used >= 0 && (size_t)used < out_bytes;
}

bool router_counters_path(const struct rules_settings *settings, char *out, size_t out_bytes)
{
        return router_fits(snprintf(out, out_bytes, "%s/counters", settings->state_directory), out_bytes);
}

bool router_journal_directory(const struct rules_settings *settings, uint32_t shard, char *out, size_t out_bytes)
{
        return router_fits(snprintf(out, out_bytes, "%s/%u", settings->journal.directory, shard), out_bytes);
}

uint32_t router_journals_count(const struct rules_settings *settings)
{
        uint32_t count = settings->router.shards_count;
        for (uint32_t shard = count; shard < LIMIT_SHARDS_MAX; shard++) {
                char directory[PATH_MAX];
                if (router_journal_directory(settings, shard, directory, sizeof(directory)) &&
                    access(directory, F_OK) == 0)
                        count = shard + 1;
        }
        return count;
}
