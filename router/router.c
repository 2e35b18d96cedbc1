#include "base/clock.h"
#include "base/heap.h"
#include "base/log.h"
#include "io/disk.h"
#include "router/router_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ROUTER_EXIT_CONFIG 78
/* How long a drain of the lanes may take at least: the disk that makes it slow may be slow, drain_seconds or not. */
#define ROUTER_LANES_DRAIN_NS_MIN (5 * CLOCK_NS_PER_S)
/* What a stop may take beside shutdown.drain_seconds: the lanes, a file that hangs, syncs of a busy disk. */
#define ROUTER_STOP_MARGIN_NS (40 * CLOCK_NS_PER_S)
/* A disk reads no slower than this, it is hoped, and everything else of a start takes no longer than systemd waits by
 * itself (DefaultTimeoutStartSec=). */
#define ROUTER_START_BYTES_PER_S (UINT64_C(20) * 1024 * 1024)
#define ROUTER_START_NS          (90 * CLOCK_NS_PER_S)
/* The heap is asked rarely: it walks through all of its arenas, some milliseconds of a core that is idle else. */
#define ROUTER_HEAP_AGAIN_NS    (60 * CLOCK_NS_PER_S)
#define ROUTER_HEAP_RELOADED_NS CLOCK_NS_PER_S /* after a reload was asked for */

static void router_close_done_lanes(struct router *router)
{
        for (uint32_t i = 0; i < router->shards_count; i++) {
                for (struct ring_lane *lane = shard_take_done_lane(router->shards[i]); lane != NULL;
                     lane = shard_take_done_lane(router->shards[i])) {
                        router_tell_closed_lane(router, lane);
                        ring_server_lane_close(router->server, lane);
                }
        }
}

/* Tells systemd, when it asked: READY=1, STOPPING=1, ... */
static void router_notify(const char *state)
{
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(address.sun_path))
                return;
        memcpy(address.sun_path, path, strlen(path));
        if (path[0] == '@')
                address.sun_path[0] = '\0';
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return;
        socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                     bytes); /* nobody may listen */
        (void)close(fd);     /* a datagram socket */
}

/* Of its segments, as far as they can be looked at. */
static uint64_t router_log_bytes(const char *directory)
{
        uint64_t bytes = 0;
        struct disk_list *list = disk_list_open(AT_FDCWD, directory);
        if (list == NULL)
                return 0; /* whoever opens it says why */
        for (const char *name = disk_list_next(list); name != NULL; name = disk_list_next(list)) {
                char path[PATH_MAX];
                struct stat status;
                int used = snprintf(path, sizeof(path), "%s/%s", directory, name);
                if (used > 0 && (size_t)used < sizeof(path) &&
                    slice_has_suffix(slice_of_text(name), SLICE(".segment")) && disk_stat_path(path, &status) == 0)
                        bytes += (uint64_t)status.st_size;
        }
        disk_list_close(list);
        return bytes;
}

void router_notify_starting(const struct rules_settings *settings)
{
        struct router_journal logs[LIMIT_LOGS_MAX];
        char directory[PATH_MAX], text[64];
        uint64_t bytes = 0;
        if (getenv("NOTIFY_SOCKET") == NULL)
                return;
        const uint32_t count = router_logs_list(settings, false, logs);
        for (uint32_t i = 0; i < count; i++)
                if (router_log_directory(settings, &logs[i], directory, sizeof(directory)))
                        bytes += router_log_bytes(directory);
        if (bytes == 0)
                return;
        const uint64_t ns = ROUTER_START_NS + bytes / ROUTER_START_BYTES_PER_S * CLOCK_NS_PER_S;
        (void)snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%" PRIu64, ns / CLOCK_NS_PER_US); /* it fits */
        router_notify(text);
}

static void router_tick(struct router *router)
{
        struct ring_server_stats stats;
        ring_server_get_stats(router->server, &stats);
        counter_set(router->own_counters, COUNTER_lanes_attached, stats.attached);
        counter_set(router->own_counters, COUNTER_lanes_taken_over, stats.taken_over);
        counter_set(router->own_counters, COUNTER_lanes_refused, stats.refused);
        counter_set(router->own_counters, COUNTER_lanes_closed, stats.closed);
        counter_set(router->own_counters, COUNTER_lanes_now, stats.lanes_now);
        counter_set(router->own_counters, COUNTER_control_log_lines_dropped, log_dropped());
        uint64_t now_ns = clock_monotonic_ns();
        if (now_ns >= router->heap_again_ns) {
                router->heap_again_ns = now_ns + ROUTER_HEAP_AGAIN_NS;
                counter_set(router->own_counters, COUNTER_control_heap_bytes, heap_allocated_bytes());
        }
        router_tell_lanes(router);
        counters_tell_alive(&router->counters);
        if (router->reload_wanted)
                router_reload(router);
        router_settle_targets(router);
}

/* Returns true when it is time to stop. */
static bool router_signals(struct router *router)
{
        struct signalfd_siginfo info;
        bool stop = false;
        while (read(router->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
                if (info.ssi_signo == SIGHUP) {
                        if (!router->reload_wanted) /* a storm of them is one */
                                log_info("reload asked for", "%s", "");
                        router->reload_wanted = true;
                        router->heap_again_ns = clock_monotonic_ns() + ROUTER_HEAP_RELOADED_NS;
                        /* Whatever was mended: credentials as well, and what parked targets wait for. */
                        if (router_uses_credentials(router))
                                router_credentials_want(router);
                        for (uint32_t i = 0; i < router->workers_count; i++)
                                egress_worker_probe(router->workers[i]);
                        router_reload(router);
                } else {
                        log_info("stop asked for", "signal=%u", info.ssi_signo);
                        stop = true;
                }
        }
        return stop;
}

static void router_loop(struct router *router)
{
        for (;;) {
                struct epoll_event events[16];
                int count = epoll_wait(router->epoll_fd, events, 16, -1);
                bool stop = false;
                for (int i = 0; i < count; i++) {
                        int fd = events[i].data.fd;
                        if (fd == router->signal_fd) {
                                stop |= router_signals(router);
                        } else if (fd == router->timer_fd) {
                                router_drain_fd(router->timer_fd);
                                ring_server_turn(router->server);
                                router_close_done_lanes(router);
                                router_tick(router);
                        } else if (fd == router->event_fd) {
                                router_drain_fd(router->event_fd);
                                router_close_done_lanes(router);
                                router_call(router->helper_event_fd);
                        } else {
                                ring_server_turn(router->server);
                        }
                }
                if (router->options->keeper_fd >= 0 && ring_server_keeper_gone(router->server)) {
                        log_error("the keeper is gone",
                                  "now=\"draining: a new daemon can start when this one has ended\"");
                        stop = true;
                }
                if (stop)
                        return;
        }
}

/* What a producer that is gone has left in a lane that the drain did not empty. A living one carries it into its next
 * lane. The keeper has the lane and gives it to the next router, if there is one; without a keeper nobody has it. */
static void router_count_left(void *context, const struct ring_lane *lane)
{
        struct router *router = context;
        struct ring_lane_counts counts;
        struct ring_lane_info info;
        ring_lane_get_counts(lane, &counts);
        if (counts.waiting_bytes == 0 || !ring_lane_is_orphan(lane))
                return;
        ring_lane_get_info(lane, &info);
        router->left_bytes += counts.waiting_bytes;
        const bool kept = router->options->keeper_fd >= 0;
        const char *now = !kept                     ? "they are lost"
                          : router->journal_removed ? "the keeper has them, and the next router takes them"
                                                    : "the keeper has them; they are lost when the service ends";
        log_write(kept ? LOG_WARNING : LOG_ERROR, "the journal took not all of what a producer left in its lane",
                  "pid=%d uid=%u name=%.31s bytes=%" PRIu64 " now=\"%s\"", (int)info.pid, (unsigned)info.uid, info.name,
                  counts.waiting_bytes, now);
}

static void router_join_shards(struct router *router)
{
        /* Nobody is in router_loop() to pass on that a segment is wanted. */
        for (uint32_t i = 0; i < router->shard_threads_count; i++)
                while (pthread_tryjoin_np(router->shard_threads[i], NULL) == EBUSY) {
                        router_shed_unowned(router);
                        router_call(router->helper_event_fd);
                        clock_sleep_ns(CLOCK_NS_PER_MS);
                }
}

/* Everything that the lanes hold goes into the journal, which may grow beyond its limit for it. */
static void router_drain_lanes(struct router *router, uint64_t deadline_ns)
{
        uint64_t lanes_deadline_ns = clock_monotonic_ns() + ROUTER_LANES_DRAIN_NS_MIN;
        if (lanes_deadline_ns < deadline_ns)
                lanes_deadline_ns = deadline_ns;
        for (uint32_t i = 0; i < router->journals_count; i++)
                router->journal_removed |= router->journals[i] != NULL && journal_is_removed(router->journals[i]);
        /* It takes nothing: the next router, with a new one, does. */
        if (router->journal_removed && router->options->keeper_fd >= 0)
                lanes_deadline_ns = clock_monotonic_ns();
        for (uint32_t i = 0; i < router->shard_threads_count; i++) {
                for (uint32_t log = 0; log < router->journals_count; log++)
                        if (router->logs[log].shard == i)
                                journal_use_drain_room(router->journals[log]);
                shard_stop(router->shards[i], lanes_deadline_ns);
        }
        router_join_shards(router);
        ring_server_turn(router->server); /* who has left meanwhile */
        ring_server_each_lane(router->server, router_count_left, router);
}

/* What waits in one log, for every target. */
static uint64_t router_waiting(const struct router *router, uint32_t log)
{
        uint64_t waiting = 0;
        for (uint32_t i = 0; i < router->targets_count; i++) {
                struct journal_target_state state;
                if (journal_target_get(router->journals[log], router->targets[i].numbers[log], &state))
                        waiting += state.accepted - state.delivered - state.dead_lettered - state.shed - state.expired;
        }
        return waiting;
}

/* How long a stop may take, for systemd: longer than TimeoutStopSec=, where shutdown.drain_seconds is. */
static void router_notify_stopping(const struct router *router)
{
        char text[96];
        uint64_t ns = router->settings.drain_seconds * CLOCK_NS_PER_S + ROUTER_STOP_MARGIN_NS;
        (void)snprintf(text, sizeof(text), "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=%" PRIu64,
                       ns / CLOCK_NS_PER_US); /* it fits */
        router_notify(text);
}

/* A second signal ends the process at once, as it would any. Of one that has a keeper the keeper sees to that: a signal
 * to all processes of a service and the same one passed on by the keeper would be two. */
static void router_take_no_signals(const struct router *router)
{
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        if (router->options->keeper_fd < 0)
                (void)pthread_sigmask(SIG_UNBLOCK, &signals, NULL); /* valid ones */
}

/* SIGTERM: no producer from now on, everything committed into the journal, what can be delivered within the deadline
 * delivered; the rest stays in the journal. After a start that failed only the threads end: that is not the end of the
 * service, the keeper has the lanes and starts the next router. */
static void router_drain(struct router *router, bool ran)
{
        uint64_t deadline_ns = clock_monotonic_ns();
        if (ran) {
                deadline_ns += router->settings.drain_seconds * CLOCK_NS_PER_S;
                router_notify_stopping(router);
                router_take_no_signals(router);
                ring_server_stop(router->server);
                router_drain_lanes(router, deadline_ns);
        } else {
                for (uint32_t i = 0; i < router->shard_threads_count; i++)
                        shard_stop(router->shards[i], deadline_ns);
                router_join_shards(router);
        }
        for (uint32_t i = 0; i < router->worker_threads_count; i++)
                egress_worker_stop(router->workers[i], deadline_ns);
        for (uint32_t i = 0; i < router->worker_threads_count; i++)
                while (pthread_tryjoin_np(router->worker_threads[i], NULL) == EBUSY &&
                       !egress_worker_hangs(router->workers[i]))
                        clock_sleep_ns(5 * CLOCK_NS_PER_MS);
        if (router->helper_started) {
                atomic_store_explicit(&router->helper_stop, true, memory_order_release);
                router_call(router->helper_event_fd);
                (void)pthread_join(router->helper_thread, NULL); /* a thread of ours, joined once */
        }
        router_credentials_stop(router);
        for (uint32_t i = 0; i < router->journals_count && router->journals[i] != NULL; i++) {
                struct err err = {.text = ""};
                if (journal_sync(router->journals[i], &err) != ERR_OK)
                        log_error("journal sync failed", "error=\"%s\"", err.text);
        }
        if (!ran)
                return;
        uint64_t waiting = 0;
        for (uint32_t log = 0; log < router->journals_count; log++) {
                uint64_t events = router_waiting(router, log);
                waiting += events;
                if (events == 0 || !journal_is_removed(router->journals[log]))
                        continue;
                router->lost_events += events;
                log_error("events are lost: they waited in a journal whose directory was removed or moved",
                          "shard=%u type=%u events=%" PRIu64
                          " help=\"one that was only moved has them: stop the service, and put it back\"",
                          router->logs[log].shard, router->logs[log].type, events);
        }
        log_info("stopped", "waiting_in_journal=%" PRIu64, waiting);
}

static void router_release(struct router *router)
{
        if (router->server != NULL)
                ring_server_free(router->server);
        for (uint32_t i = 0; i < router->shards_count; i++) {
                shard_free(router->shards[i]);
                if (router->beds[i] != NULL)
                        ring_bed_free(router->beds[i]);
        }
        for (uint32_t i = 0; i < router->targets_count; i++) {
                if (router->targets[i].removing && egress_target_is_gone(router->targets[i].target))
                        egress_target_free(router->targets[i].target); /* its worker had let go of it */
                free(router->targets[i].key);
        }
        free(router->targets);
        for (uint32_t i = 0; i < router->workers_count; i++)
                egress_worker_free(router->workers[i]); /* its targets as well */
        router_helper_free(router->helper);
        for (uint32_t i = 0; i < router->journals_count; i++) {
                struct journal *journal = router->journals[i];
                if (journal == NULL)
                        continue;
                /* Of earlier settings, and through. Not after a start that failed: lanes may still be behind it. */
                if (!router->logs[i].wanted && router->shard_threads_count > 0 && journal_is_settled(journal))
                        journal_discard(journal);
                else
                        journal_close(journal);
        }
        router_plan_free(router->plan_old);
        router_plan_free(router->plan);
        router_credentials_free(router->credentials);
        if (router->tls != NULL)
                http_tls_free(router->tls);
        if (router->counters.head != NULL)
                disk_guard_forget(router->counters.head);
        counters_release(&router->counters);
        const int fds[] = {router->signal_fd, router->timer_fd, router->event_fd, router->helper_event_fd,
                           router->epoll_fd};
        for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
                if (fds[i] >= 0)
                        (void)close(fds[i]); /* nothing is buffered in them */
        router_kept_release(router);
        free(router->dead_letter_directory);
        free(router->outbox_directory);
        rules_settings_release(&router->settings);
}

int router_run(const struct router_options *options)
{
        struct router router = {
                .options = options,
                .counters = {.fd = -1},
                .epoll_fd = -1,
                .signal_fd = -1,
                .timer_fd = -1,
                .event_fd = -1,
                .helper_event_fd = -1,
        };
        struct err err = {.text = ""};
        struct rules_report report;
        enum log_level level = LOG_INFO;
        rules_report_init(&report);
        log_role_set("router");
        enum err_code code = rules_settings_load(options->settings_path, &router.settings, &report);
        router_tell_report(&report);
        rules_report_release(&report);
        if (code != ERR_OK) {
                log_error("configuration refused", "file=%s", options->settings_path);
                return ROUTER_EXIT_CONFIG;
        }
        if (log_level_parse(router.settings.log_level, &level))
                log_level_set(level);
        code = router_start(&router, &err);
        if (code == ERR_OK) {
                log_info("ready", "version=%s socket=%s shards=%u workers=%u configuration_sets=%u targets=%u",
                         options->version, router.settings.socket_path, router.shards_count, router.workers_count,
                         rules_plan_sets_count(router.plan->plan), router.targets_count);
                ring_server_ready(router.server);
                router_notify("READY=1\nSTATUS=running");
                router_loop(&router);
        } else {
                char quoted[ERR_TEXT_BYTES_MAX];
                log_error("cannot start", "error=%s", log_quote(err.text, quoted, sizeof(quoted)));
        }
        router_drain(&router, code == ERR_OK);
        router_release(&router);
        if (code == ERR_OK && router.left_bytes > 0 && router.journal_removed && options->keeper_fd >= 0)
                return RING_EXIT_LANES_LEFT;
        if (code == ERR_OK)
                return router.left_bytes == 0 && router.lost_events == 0 ? 0 : 1;
        return err_class(code) == ERR_CLASS_CONFIG && code != ERR_LOCKED ? ROUTER_EXIT_CONFIG : 1;
}
