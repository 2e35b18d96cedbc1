#include "router/router.h"

#include <stdio.h>

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
