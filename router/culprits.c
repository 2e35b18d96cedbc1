/* Who does what to lanes and the socket, for the log: each process once a minute for each kind of thing, however often
 * it comes back, with the number of repeats; and no more of them than there are places. */
#include "router/router_internal.h"

#include <inttypes.h>

/* Whether to say it now; *ret_repeats then has what was not said. */
static bool router_culprit_is_news(struct router *router, uint32_t places, pid_t pid, uid_t uid,
                                   enum router_crime crime, uint64_t *ret_repeats)
{
        uint64_t now_ns = clock_monotonic_ns();
        struct router_culprit *place = &router->culprits[0];
        for (uint32_t i = 0; i < places; i++) {
                struct router_culprit *culprit = &router->culprits[i];
                if (culprit->told_ns != 0 && culprit->pid == pid && culprit->uid == uid && culprit->crime == crime) {
                        place = culprit;
                        break;
                }
                if (culprit->told_ns < place->told_ns)
                        place = culprit;
        }
        if (place->told_ns != 0 && now_ns - place->told_ns < ROUTER_CULPRIT_NS) {
                place->repeats++;
                return false;
        }
        *ret_repeats = place->repeats;
        *place = (struct router_culprit){.pid = pid, .uid = uid, .crime = crime, .told_ns = now_ns};
        return true;
}

void router_connection_refused(void *context, pid_t pid, uid_t uid, const char *why)
{
        uint64_t repeats = 0;
        if (router_culprit_is_news(context, ROUTER_CULPRITS_MAX, pid, uid, ROUTER_CRIME_REFUSED, &repeats))
                log_warning("a connection was refused", "pid=%d uid=%u why=\"%s\" repeats=%" PRIu64, (int)pid,
                            (unsigned)uid, why, repeats);
}

static void router_tell_lane(struct router *router, const struct ring_lane *lane, bool closed)
{
        struct ring_lane_info info;
        struct ring_lane_counts counts;
        uint64_t repeats = 0;
        ring_lane_get_counts(lane, &counts);
        uint64_t offences = counts.violations + counts.rejected;
        ring_lane_get_info(lane, &info);
        uint32_t slot = (uint32_t)(info.lane_id % LIMIT_LANES_MAX);
        const bool broken = ring_lane_is_broken(lane), orphan = ring_lane_is_orphan(lane);
        /* Closed for what it did: of a lane in order, the shard is done with one of a living producer only for records
         * that are no events. Who has just left is told of only where something is new. */
        closed = closed && (broken || !orphan);
        bool told =
                router->offences_told[slot].lane_id == info.lane_id && router->offences_told[slot].offences == offences;
        if (offences == 0 || (told && !closed))
                return;
        router->offences_told[slot].lane_id = info.lane_id;
        router->offences_told[slot].offences = offences;
        uint32_t places = orphan ? ROUTER_CULPRITS_GONE_MAX : ROUTER_CULPRITS_MAX;
        enum router_crime crime = closed && broken ? ROUTER_CRIME_PROTOCOL_CLOSED : ROUTER_CRIME_PROTOCOL;
        if (counts.violations > 0 && router_culprit_is_news(router, places, info.pid, info.uid, crime, &repeats))
                log_error("a producer broke the lane protocol",
                          "pid=%d uid=%u name=%.31s now=\"%s\" violations=%u skipped_bytes=%" PRIu64
                          " repeats=%" PRIu64,
                          (int)info.pid, (unsigned)info.uid, info.name,
                          closed && broken ? "lane closed" : "what it had published behind that is skipped",
                          counts.violations, counts.skipped_bytes, repeats);
        closed = closed && !broken;
        crime = closed ? ROUTER_CRIME_REJECTED_CLOSED : ROUTER_CRIME_REJECTED;
        if (counts.rejected > 0 && router_culprit_is_news(router, places, info.pid, info.uid, crime, &repeats))
                log_warning("a producer sends what is no event",
                            "pid=%d uid=%u name=%.31s now=\"%s\" rejected=%" PRIu64 " repeats=%" PRIu64, (int)info.pid,
                            (unsigned)info.uid, info.name,
                            closed ? "lane closed: it sends nothing else" : "rejected, and counted", counts.rejected,
                            repeats);
}

void router_tell_closed_lane(struct router *router, const struct ring_lane *lane)
{
        router_tell_lane(router, lane, true);
}

static void router_tell_open_lane(void *context, const struct ring_lane *lane)
{
        router_tell_lane(context, lane, false);
}

void router_tell_lanes(struct router *router)
{
        uint64_t offences = counters_sum(&router->counters, COUNTER_router_rejected) +
                            counters_sum(&router->counters, COUNTER_lanes_violations);
        if (offences == router->offences_seen)
                return;
        router->offences_seen = offences;
        ring_server_each_lane(router->server, router_tell_open_lane, router);
}
