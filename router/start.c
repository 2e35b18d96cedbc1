#include "base/assert.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "io/disk.h"
#include "router/router_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define ROUTER_TICK_NS            (250 * CLOCK_NS_PER_MS)
#define ROUTER_THREAD_STACK_BYTES ((size_t)1024 * 1024)

static void router_lane_ready(void *context, struct ring_lane *lane, uint32_t shard)
{
        struct router *router = context;
        while (!shard_give_lane(router->shards[shard], lane))
                clock_sleep_ns(CLOCK_NS_PER_MS); /* the shard empties its inbox each turn */
}

static uint64_t router_lane_journalled(void *context, uint64_t lane_id)
{
        const struct router *router = context;
        uint64_t position = 0;
        for (uint32_t i = 0; i < router->journals_count; i++) {
                uint64_t own = journal_lane_position(router->journals[i], lane_id);
                position = own > position ? own : position;
        }
        return position;
}

static enum err_code router_start_journals(struct router *router, struct err *reterr)
{
        ASSERT(router->shards_count > 0);
        for (uint32_t i = 0; i < router->journals_count; i++) {
                char directory[PATH_MAX];
                if (!router_log_directory(&router->settings, &router->logs[i], directory, sizeof(directory)))
                        return err_set(reterr, ERR_CONFIG, "the path %s is too long",
                                       router->settings.journal.directory);
                struct router_journal *log = &router->logs[i];
                struct journal_options options =
                        router_log_options(&router->settings, router->logs, router->journals_count, log);
                options.directory = directory;
                options.budget = log->shard < router->shards_count ? &router->budgets[log->shard] : NULL;
                struct journal_recovery recovery = {0};
                uint64_t begin_ns = clock_monotonic_ns();
                enum err_code code = journal_open(&options, &router->journals[i], &recovery, reterr);
                if (code != ERR_OK)
                        return code; /* the text names the directory */
                if (recovery.made)
                        log_info("journal: made anew",
                                 "directory=%s help=\"not the first start with it: was its disk mounted?\"", directory);
                log_write(recovery.lost_records > 0 || recovery.lost_events > 0 ? LOG_ERROR : LOG_INFO,
                          "journal recovered",
                          "directory=%s records=%" PRIu64 " segments=%" PRIu64 " bytes=%" PRIu64 " cut_bytes=%" PRIu64
                          " quarantined_segments=%" PRIu64 " quarantine_removed=%" PRIu64
                          " unreadable_segments=%" PRIu64 " repair_failures=%" PRIu64 " rewritten_segments=%" PRIu64
                          " targets_from_copy=%" PRIu64 " lost_records=%" PRIu64 " lost_events=%" PRIu64 " ms=%" PRIu64,
                          directory, recovery.records, recovery.segments, recovery.bytes, recovery.cut_bytes,
                          recovery.quarantined_segments, recovery.quarantine_removed, recovery.unreadable_segments,
                          recovery.repair_failures, recovery.rewritten_segments, recovery.targets_from_copy,
                          recovery.lost_records, recovery.lost_events,
                          (clock_monotonic_ns() - begin_ns) / CLOCK_NS_PER_MS);
                code = journal_target_register(router->journals[i], SLICE(ROUTER_TARGET_UNMATCHED),
                                               &router->target_unmatched[i], reterr);
                if (code == ERR_OK)
                        code = journal_target_register(router->journals[i], SLICE(ROUTER_TARGET_REJECTED),
                                                       &router->target_rejected[i], reterr);
                if (code != ERR_OK)
                        return err_wrap(reterr, "journal %s", directory);
                /* They only count: their cursors must not hold segments. */
                journal_target_retire(router->journals[i], router->target_unmatched[i]);
                journal_target_retire(router->journals[i], router->target_rejected[i]);
                if (!router->logs[i].wanted)
                        log_info("a log of earlier settings", "directory=%s now=\"what waits in it is delivered\"",
                                 directory);
        }
        return ERR_OK;
}

static enum err_code router_start_workers(struct router *router, struct err *reterr)
{
        const char *bundle = router->settings.egress.ca_bundle;
        if (bundle[0] == '\0')
                bundle = getenv("AWS_CA_BUNDLE");
        enum err_code code = http_tls_create(bundle != NULL && bundle[0] != '\0' ? bundle : NULL, &router->tls, reterr);
        for (uint32_t i = 0; i < router->workers_count && code == ERR_OK; i++) {
                struct egress_worker_options options = {
                        .index = i,
                        .shards_count = router->journals_count,
                        .journals = router->journals,
                        .logs = router->egress_logs,
                        .counters = &router->counters.blocks[2 + router->shards_count + i],
                        .settings = &router->settings,
                        .credentials = router_credentials_shared(router),
                        .tls = router->tls,
                        .dead_letter_directory = router->dead_letter_directory,
                        .outbox_directory = router->outbox_directory,
                };
                code = egress_worker_create(&options, &router->workers[i], reterr);
        }
        return code;
}

/* The types of a shard that have logs of their own. */
static uint32_t router_shard_classes(const struct router *router, uint32_t shard,
                                     struct shard_class ret_classes[RULES_EVENT_TYPES_END])
{
        uint32_t count = 0;
        for (uint32_t i = 0; i < router->journals_count; i++) {
                const struct router_journal *log = &router->logs[i];
                if (log->shard != shard || log->type == 0 || !log->wanted)
                        continue;
                ret_classes[count++] = (struct shard_class){
                        .type = (uint8_t)log->type,
                        .log = i,
                        .journal = router->journals[i],
                        .target_unmatched = router->target_unmatched[i],
                        .target_rejected = router->target_rejected[i],
                };
        }
        return count;
}

static enum err_code router_start_shards(struct router *router, struct err *reterr)
{
        for (uint32_t i = 0; i < router->shards_count; i++) {
                enum err_code code = ring_bed_create(&router->beds[i], reterr);
                if (code != ERR_OK)
                        return code;
                struct shard_class classes[RULES_EVENT_TYPES_END];
                struct shard_options options = {
                        .index = i,
                        .core = router->settings.router.cores[i],
                        .settings = &router->settings,
                        .journal = router->journals[i],
                        .classes = classes,
                        .classes_count = router_shard_classes(router, i, classes),
                        .journals = router->journals,
                        .journals_count = router->journals_count,
                        .bed = router->beds[i],
                        .workers = router->workers,
                        .workers_count = router->workers_count,
                        .counters = &router->counters.blocks[2 + i],
                        .target_unmatched = router->target_unmatched[i],
                        .target_rejected = router->target_rejected[i],
                        .control_eventfd = router->event_fd,
                };
                code = shard_create(&options, router->plan, &router->shards[i], reterr);
                if (code != ERR_OK)
                        return code;
        }
        return ERR_OK;
}

static enum err_code router_start_server(struct router *router, struct err *reterr)
{
        struct ring_server_options options = {
                .socket_path = router->settings.socket_path,
                .socket_mode = router->settings.socket_mode,
                .allowed_uids = router->settings.allowed_uids,
                .allowed_uids_count = router->settings.allowed_uids_count,
                .allowed_gids = router->settings.allowed_gids,
                .allowed_gids_count = router->settings.allowed_gids_count,
                .lane_bytes_default = router->settings.router.lane_bytes,
                .lane_bytes_max = router->settings.router.lane_bytes_max,
                .lanes_max = router->settings.router.lanes_max,
                .lanes_per_user_max = router->settings.router.lanes_per_user_max,
                .durable = router->settings.journal.durability_host,
                .keeper_fd = router->options->keeper_fd,
                .beds = router->beds,
                .shards_count = router->shards_count,
                .lane_ready = router_lane_ready,
                .lane_journalled = router_lane_journalled,
                .connection_refused = router_connection_refused,
                .context = router,
        };
        return ring_server_create(&options, &router->server, reterr);
}

static enum err_code router_start_fds(struct router *router, struct err *reterr)
{
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGHUP);
        if (pthread_sigmask(SIG_BLOCK, &signals, NULL) != 0)
                return err_set(reterr, ERR_SYSTEM, "cannot block signals");
        router->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        router->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        router->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        router->helper_event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        router->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (router->signal_fd < 0 || router->timer_fd < 0 || router->event_fd < 0 || router->helper_event_fd < 0 ||
            router->epoll_fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot make the control thread's descriptors");
        return ERR_OK;
}

static enum err_code router_watch(struct router *router, int fd, struct err *reterr)
{
        struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
        if (epoll_ctl(router->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot watch a descriptor");
        return ERR_OK;
}

/* Says what memory the router may take. */
static uint64_t router_tell_budget(const struct router *router)
{
        uint64_t journals = 0, targets = 0;
        for (uint32_t i = 0; i < router->journals_count; i++) {
                struct journal_stats stats;
                journal_get_stats(router->journals[i], &stats);
                journals += stats.budget_bytes;
        }
        for (uint32_t i = 0; i < router->targets_count; i++)
                targets += router->targets[i].budget_bytes;
        struct router_budget budget = router_budget_sum(&router->settings, router->journals_count, journals, targets);
        log_info("memory budget",
                 "total_mib=%" PRIu64 " lanes_mib=%" PRIu64 " journal_mib=%" PRIu64 " targets_mib=%" PRIu64
                 " other_mib=%" PRIu64,
                 budget.total_bytes >> 20, budget.lanes_bytes >> 20, budget.journal_bytes >> 20,
                 budget.targets_bytes >> 20, budget.other_bytes >> 20);
        return budget.total_bytes;
}

static void *router_shard_thread(void *argument)
{
        shard_run(argument);
        return NULL;
}

static void *router_worker_thread(void *argument)
{
        if (egress_worker_run(argument))
                return NULL;
        for (;;)
                (void)pause(); /* with every signal blocked or ignored that does not end the process */
}

enum err_code router_start_thread(pthread_t *ret_thread, void *(*body)(void *), void *argument, struct err *reterr)
{
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        (void)pthread_attr_setstacksize(&attributes, ROUTER_THREAD_STACK_BYTES); /* a valid size */
        int failed = pthread_create(ret_thread, &attributes, body, argument);
        pthread_attr_destroy(&attributes);
        if (failed != 0)
                return err_set_errno(reterr, ERR_SYSTEM, failed, "cannot start a thread");
        return ERR_OK;
}

static enum err_code router_start_threads(struct router *router, struct err *reterr)
{
        enum err_code code = router_start_thread(&router->helper_thread, router_helper, router, reterr);
        router->helper_started = code == ERR_OK;
        for (uint32_t i = 0; i < router->workers_count && code == ERR_OK; i++) {
                code = router_start_thread(&router->worker_threads[i], router_worker_thread, router->workers[i],
                                           reterr);
                router->worker_threads_count += code == ERR_OK;
        }
        for (uint32_t i = 0; i < router->shards_count && code == ERR_OK; i++) {
                code = router_start_thread(&router->shard_threads[i], router_shard_thread, router->shards[i], reterr);
                router->shard_threads_count += code == ERR_OK;
        }
        return code;
}

/* Everything between the settings and the first event. */
enum err_code router_start(struct router *router, struct err *reterr)
{
        char path[PATH_MAX];
        router->shards_count = router->settings.router.shards_count;
        router->journals_count = router_logs_list(&router->settings, false, router->logs);
        for (uint32_t i = 0; i < router->journals_count; i++)
                router->egress_logs[i] = (struct egress_log){
                        .id = router->logs[i].shard + LIMIT_SHARDS_MAX * router->logs[i].type,
                        .type = (uint8_t)(router->logs[i].wanted ? router->logs[i].type : 0),
                };
        router->workers_count = router->settings.egress.workers_count;
        enum err_code code = file_make_directory(router->settings.state_directory, reterr);
        if (code != ERR_OK) {
                (void)err_wrap(reterr, "state_directory");
                return code == ERR_SYSTEM ? ERR_CONFIG : code; /* a path that cannot be: trying again helps nobody */
        }
        if (asprintf(&router->dead_letter_directory, "%s/dead-letter", router->settings.state_directory) < 0) {
                router->dead_letter_directory = NULL;
                return err_set(reterr, ERR_MEMORY, "out of memory");
        }
        if (asprintf(&router->outbox_directory, "%s/cloudwatch", router->settings.state_directory) < 0) {
                router->outbox_directory = NULL;
                return err_set(reterr, ERR_MEMORY, "out of memory");
        }
        code = router_start_fds(router, reterr);
        if (code != ERR_OK)
                return code;
        /* The journal's lock is what keeps a second daemon away: first of all that is shared. */
        code = router_start_journals(router, reterr);
        if (code != ERR_OK)
                return code;
        if (!router_counters_path(&router->settings, path, sizeof(path)))
                return err_set(reterr, ERR_CONFIG, "the path %s is too long", router->settings.state_directory);
        const uint32_t blocks_count = router_counters_blocks(&router->settings);
        code = counters_create(path, blocks_count, LIMIT_TARGETS_MAX, router->options->version, &router->counters,
                               reterr);
        if (err_class(code) == ERR_CLASS_SYSTEM) {
                /* A full disk, for example, whose log has to be delivered all the same. */
                char quoted[ERR_TEXT_BYTES_MAX];
                log_error("no counters page",
                          "error=%s now=\"sendring stat and top have nothing to read until a restart\"",
                          log_quote(reterr->text, quoted, sizeof(quoted)));
                code = counters_create_in_memory(blocks_count, LIMIT_TARGETS_MAX, router->options->version,
                                                 &router->counters, reterr);
        }
        if (code != ERR_OK)
                return code;
        /* Figures for people: pages of them that get lost are zeros from then on. */
        (void)disk_guard(router->counters.head, router->counters.file_bytes, true);
        router->own_counters = &router->counters.blocks[0];
        router->helper_counters = &router->counters.blocks[1];
        code = router_helper_create(router, reterr);
        if (code == ERR_OK)
                code = router_credentials_create(router, reterr);
        if (code == ERR_OK)
                code = router_start_workers(router, reterr);
        if (code == ERR_OK)
                code = router_start_targets(router, reterr);
        if (code == ERR_OK)
                code = router_credentials_start(router, reterr);
        if (code != ERR_OK)
                return code;
        /* No maintenance here: journal_open() has prepared what there is room for. A log that is full, or on a full
         * disk, has to be delivered before there is room; until then the shards tell producers so. */
        code = router_start_shards(router, reterr);
        if (code == ERR_OK)
                code = router_start_server(router, reterr);
        if (code != ERR_OK)
                return code;
        router->counters.head->memory_budget_bytes = router_tell_budget(router);
        const int fds[] = {router->signal_fd, router->timer_fd, router->event_fd, ring_server_fd(router->server)};
        for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]) && code == ERR_OK; i++)
                code = router_watch(router, fds[i], reterr);
        struct itimerspec tick = {.it_interval = {.tv_nsec = ROUTER_TICK_NS}, .it_value = {.tv_nsec = ROUTER_TICK_NS}};
        if (code == ERR_OK && timerfd_settime(router->timer_fd, 0, &tick, NULL) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot start the control thread's timer");
        if (code == ERR_OK)
                code = router_start_threads(router, reterr);
        return code;
}
