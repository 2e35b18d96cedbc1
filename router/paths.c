#include "router/router.h"

#include "base/slice.h"
#include "io/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

static bool router_fits(int used, size_t out_bytes)
{
        return used >= 0 && (size_t)used < out_bytes;
}

bool router_counters_path(const struct rules_settings *settings, char *out, size_t out_bytes)
{
        return router_fits(snprintf(out, out_bytes, "%s/counters", settings->state_directory), out_bytes);
}

bool router_log_directory(const struct rules_settings *settings, const struct router_journal *log, char *out,
                          size_t out_bytes)
{
        const char *class = log->type == 0 ? "" : rules_event_class_name(log->type);
        return router_fits(snprintf(out, out_bytes, "%s/%u%s%s", settings->journal.directory, log->shard,
                                    log->type == 0 ? "" : ".", class),
                           out_bytes);
}

/* Only the counts of what was delivered are left. */
static bool router_log_is_empty(const char *directory)
{
        bool empty = true;
        struct disk_list *list = disk_list_open(AT_FDCWD, directory);
        if (list == NULL)
                return false; /* whoever opens it says why */
        const char *name;
        while (empty && (name = disk_list_next(list)) != NULL)
                empty = !slice_has_suffix(slice_of_text(name), SLICE(".segment"));
        empty = empty && errno == 0; /* as above */
        disk_list_close(list);
        return empty;
}

uint32_t router_logs_list(const struct rules_settings *settings, bool emptied,
                          struct router_journal ret_logs[LIMIT_LOGS_MAX])
{
        const bool *shed = settings->journal.pressure.shed;
        uint32_t count = 0;
        _Static_assert(LIMIT_LOGS_MAX == LIMIT_SHARDS_MAX * RULES_EVENT_TYPES_END, "none is left out");
        for (uint32_t shard = 0; shard < settings->router.shards_count; shard++)
                ret_logs[count++] = (struct router_journal){.shard = shard, .wanted = true};
        /* The most important first: they are served first where there is little room. */
        for (uint32_t i = 0; i < RULES_EVENT_TYPES_END * settings->router.shards_count; i++)
                for (unsigned type = 1, shard = i % settings->router.shards_count; type < RULES_EVENT_TYPES_END; type++)
                        if (shed[type] && settings->journal.pressure.rank[type] == i / settings->router.shards_count)
                                ret_logs[count++] =
                                        (struct router_journal){.shard = shard, .type = type, .wanted = true};
        for (uint32_t shard = 0; shard < LIMIT_SHARDS_MAX; shard++) {
                for (unsigned type = 0; type < RULES_EVENT_TYPES_END; type++) {
                        struct router_journal log = {.shard = shard, .type = type};
                        char directory[PATH_MAX];
                        struct stat status;
                        if (shard < settings->router.shards_count && (type == 0 || shed[type]))
                                continue;
                        if (router_log_directory(settings, &log, directory, sizeof(directory)) &&
                            disk_stat_path(directory, &status) == 0 && (emptied || !router_log_is_empty(directory)))
                                ret_logs[count++] = log;
                }
        }
        return count;
}

bool router_kept_newest_path(const struct rules_settings *settings, char *out, size_t out_bytes)
{
        uint64_t newest = 0, number;
        int used = snprintf(out, out_bytes, "%s/plans", settings->state_directory);
        struct disk_list *list = used > 0 && (size_t)used < out_bytes ? disk_list_open(AT_FDCWD, out) : NULL;
        if (list == NULL)
                return false;
        for (const char *name = disk_list_next(list); name != NULL; name = disk_list_next(list))
                if (router_kept_number(name, &number) && number > newest)
                        newest = number;
        disk_list_close(list);
        return newest != 0 && router_kept_path(settings, newest, out, out_bytes);
}
