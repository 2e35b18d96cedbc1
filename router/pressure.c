/* A full journal: what makes room in the logs of a shard, and for whom. On the helper thread.
 *
 * When a log finds no room for its next segment: first other logs give back what they have passed, the oldest first and
 * no more than it needs: the shard's, which share its room, and where it is the disk that is full, all of them. When
 * that is not enough, the oldest segment of the lowest type that is shed, of those logs, is announced as given up
 * (journal_shed_oldest()), and the workers are woken; its room is there once they have moved their cursors. One
 * announcement at a time for each shard, and on a full disk one at a time. A type is never given up for
 * one below it; types that block share one log, and none of them stands below a type that is shed (rules/pressure.c),
 * so for that log every shed type may go. */
#include "base/clock.h"
#include "router/router_internal.h"

#include <inttypes.h>

/* On a full disk each look for room makes a file, which fails, and removes it: while something is being given up, only
 * so often. */
#define PRESSURE_DISK_AGAIN_NS (100 * CLOCK_NS_PER_MS)

static uint8_t pressure_rank(const struct router *router, uint32_t log)
{
        return router->settings.journal.pressure.rank[router->logs[log].type];
}

/* Is what `log` holds room for `needy`, as far as is known? */
static bool pressure_shares(const struct router *router, uint32_t log, uint32_t needy)
{
        return router->logs[log].shard == router->logs[needy].shard ||
               journal_room(router->journals[needy]) == ERR_DISK_FULL;
}

/* May `log` be given up for `needy`? */
static bool pressure_may_shed(const struct router *router, uint32_t log, uint32_t needy)
{
        const struct router_journal *own = &router->logs[log], *other = &router->logs[needy];
        if (!pressure_shares(router, log, needy) || !own->wanted || own->type == 0)
                return false;
        return other->type == 0 || pressure_rank(router, log) >= pressure_rank(router, needy);
}

/* Is anything being given up that `needy` may get? */
static bool pressure_is_pending(const struct router *router, uint32_t needy)
{
        for (uint32_t i = 0; i < router->journals_count; i++)
                if (pressure_shares(router, i, needy) && router->logs[i].type != 0 && router->logs[i].wanted &&
                    journal_shed_pending(router->journals[i]))
                        return true;
        return false;
}

/* What others have passed goes, the oldest segment first, until `needy` has room. */
static void pressure_trim(struct router *router, uint32_t needy)
{
        bool tried[LIMIT_LOGS_MAX] = {false};
        tried[needy] = true; /* its own it takes by itself */
        while (journal_room(router->journals[needy]) != ERR_OK) {
                uint32_t oldest = UINT32_MAX;
                for (uint32_t i = 0; i < router->journals_count; i++)
                        if (!tried[i] && pressure_shares(router, i, needy) &&
                            (oldest == UINT32_MAX ||
                             journal_oldest_ms(router->journals[i]) < journal_oldest_ms(router->journals[oldest])))
                                oldest = i;
                if (oldest == UINT32_MAX)
                        return;
                if (journal_trim(router->journals[oldest]))
                        (void)journal_maintain(router->journals[needy], NULL); /* the caller has told what is wrong */
                else
                        tried[oldest] = true;
        }
}

/* Announces the oldest segment of the lowest type; of two of one rank, the older one's. False: there is none. */
static bool pressure_announce(struct router *router, uint32_t needy)
{
        bool tried[LIMIT_LOGS_MAX] = {false};
        for (;;) {
                uint32_t best = UINT32_MAX;
                for (uint32_t i = 0; i < router->journals_count; i++) {
                        if (tried[i] || !pressure_may_shed(router, i, needy))
                                continue;
                        if (best == UINT32_MAX || pressure_rank(router, i) > pressure_rank(router, best) ||
                            (pressure_rank(router, i) == pressure_rank(router, best) &&
                             journal_oldest_ms(router->journals[i]) < journal_oldest_ms(router->journals[best])))
                                best = i;
                }
                if (best == UINT32_MAX)
                        return false;
                if (journal_shed_oldest(router->journals[best]) == ERR_OK) {
                        counter_add(router->helper_counters, COUNTER_journal_segments_shed, 1);
                        for (uint32_t i = 0; i < router->workers_count; i++)
                                egress_worker_shed(router->workers[i]);
                        return true;
                }
                tried[best] = true;
        }
}

/* `needy`: the log that found no room, within its limit or on the disk. */
static enum router_relief pressure_relieve(struct router *router, uint32_t needy)
{
        const uint32_t shard = router->logs[needy].shard;
        const bool disk = journal_room(router->journals[needy]) == ERR_DISK_FULL;
        const bool sheds = router->settings.journal.pressure.shed_count > 0;
        if (shard >= router->shards_count || (!sheds && !disk))
                return ROUTER_RELIEF_NONE;
        pressure_trim(router, needy);
        if (journal_room(router->journals[needy]) == ERR_OK)
                return ROUTER_RELIEF_DONE;
        if (sheds && (pressure_is_pending(router, needy) || pressure_announce(router, needy)))
                return ROUTER_RELIEF_COMES;
        return ROUTER_RELIEF_NONE;
}

enum err_code router_maintain(struct router *router, uint32_t log, enum router_relief *ret_relief, struct err *reterr)
{
        if (clock_monotonic_ns() < router->disk_again_ns[log] && pressure_is_pending(router, log)) {
                *ret_relief = ROUTER_RELIEF_COMES;
                return ERR_OK;
        }
        enum err_code code = journal_maintain(router->journals[log], reterr);
        enum err_code room = journal_room(router->journals[log]);
        *ret_relief = room == ERR_OK ? ROUTER_RELIEF_DONE : pressure_relieve(router, log);
        router->disk_again_ns[log] = room == ERR_DISK_FULL && *ret_relief == ROUTER_RELIEF_COMES
                                             ? clock_monotonic_ns() + PRESSURE_DISK_AGAIN_NS
                                             : 0;
        /* Other trouble is told all the same, and is no reason to give nothing up. */
        return code == room && *ret_relief != ROUTER_RELIEF_NONE ? ERR_OK : code;
}
