#include "base/clock.h"
#include "base/log.h"
#include "io/io.h"
#include "router/router_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void router_drain_fd(int fd)
{
        uint64_t calls;
        ssize_t got = read(fd, &calls, sizeof(calls));
        (void)got; /* non-blocking: nothing there is fine */
}

void router_call(int fd)
{
        uint64_t one = 1;
        ssize_t wrote = write(fd, &one, sizeof(one));
        (void)wrote; /* EAGAIN only when it is overfull: then it is readable anyway */
}

/* ---------------------------------------------------------------------------------------------- the thread */

/* A sync that failed is tried again after so long. */
#define ROUTER_SYNC_RETRY_NS  CLOCK_NS_PER_S
#define ROUTER_HELPER_ENTRIES 64u
#define ROUTER_SAME_CAUSE_NS  (10 * CLOCK_NS_PER_S)
#define ROUTER_HELPER_IDLE_NS CLOCK_NS_PER_S
/* While a log is full: room comes when a cursor moves, which nobody says. While something is given up for it: */
#define ROUTER_FULL_LOOK_NS     (20 * CLOCK_NS_PER_MS)
#define ROUTER_RELIEF_LOOK_NS   (5 * CLOCK_NS_PER_MS)
#define ROUTER_SYNC_BACKSTOP_NS (250 * CLOCK_NS_PER_MS) /* shards say when something is to be synced */

struct router_sync_file {
        struct io_op op;
        struct router_log *log;
        int fd;
};

/* One log's part in a grouped sync. */
struct router_log {
        struct router_helper *helper;
        uint32_t index;
        uint32_t left; /* files whose fdatasync is not done; 0: none is in flight */
        int sys_errno; /* of one that failed */
        bool trouble;  /* the last sync did not go well */
        uint64_t hold_until_ns;
        struct router_sync_file files[JOURNAL_SYNC_FILES_MAX];
};

struct router_helper {
        struct router *router;
        struct io_loop *loop;
        struct io_op called;       /* waits for helper_event_fd */
        uint64_t group_ns;         /* when the last group of syncs began */
        struct log_gate heal_gate; /* the targets file was written anew: no other trouble may hide that */
        struct log_gate maintain_gate, sync_gate;
        struct router_log logs[]; /* [journals_count] */
};

enum err_code router_helper_create(struct router *router, struct err *reterr)
{
        struct router_helper *helper = calloc(1, sizeof(*helper) + router->journals_count * sizeof(helper->logs[0]));
        if (helper == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for the helper thread");
        helper->router = router;
        for (uint32_t i = 0; i < router->journals_count; i++)
                helper->logs[i] = (struct router_log){.helper = helper, .index = i};
        enum err_code code =
                io_loop_create(&(struct io_options){.entries = ROUTER_HELPER_ENTRIES}, &helper->loop, reterr);
        if (code != ERR_OK) {
                free(helper);
                return code;
        }
        router->helper = helper;
        return ERR_OK;
}

void router_helper_free(struct router_helper *helper)
{
        if (helper == NULL)
                return;
        io_loop_free(helper->loop);
        free(helper);
}

static void helper_called(struct io_op *op, int32_t result, bool more)
{
        struct router_helper *helper = IO_OWNER(op, struct router_helper, called);
        (void)result;
        (void)more;
        router_drain_fd(helper->router->helper_event_fd);
        if (!atomic_load_explicit(&helper->router->helper_stop, memory_order_acquire))
                io_poll(helper->loop, op, helper->router->helper_event_fd, POLLIN);
}

/* What replays can have, for people. */
static void helper_count_kept(const struct router *router)
{
        uint64_t passed_bytes = 0;
        int64_t oldest_ms = 0;
        for (uint32_t i = 0; i < router->journals_count; i++) {
                struct journal_stats stats;
                journal_get_stats(router->journals[i], &stats);
                passed_bytes += stats.passed_bytes;
                if (stats.oldest_event_ms > 0 && (oldest_ms == 0 || stats.oldest_event_ms < oldest_ms))
                        oldest_ms = stats.oldest_event_ms;
        }
        counter_set(router->helper_counters, COUNTER_journal_passed_bytes, passed_bytes);
        counter_set(router->helper_counters, COUNTER_journal_oldest_event_ms, (uint64_t)oldest_ms);
}

/* Of the events that a log holds, for the log's lines. */
static const char *helper_type_name(const struct router_helper *helper, uint32_t index)
{
        unsigned type = helper->router->logs[index].type;
        return type == 0 ? "all" : rules_event_class_name(type);
}

/* Returns how long until the logs are to be looked at again. */
static uint64_t helper_maintain(struct router_helper *helper)
{
        struct router *router = helper->router;
        uint64_t wait_ns = UINT64_MAX;
        for (uint32_t i = 0; i < router->journals_count; i++) {
                struct err err = {.text = ""};
                char quoted[ERR_TEXT_BYTES_MAX];
                uint64_t repeats = 0;
                enum router_relief relief;
                enum err_code code = router_maintain(router, i, &relief, &err);
                /* A full disk is asked again once a second, unless something is on its way. */
                if (relief == ROUTER_RELIEF_COMES)
                        wait_ns = ROUTER_RELIEF_LOOK_NS;
                else if (relief == ROUTER_RELIEF_NONE && journal_room(router->journals[i]) == ERR_FULL &&
                         wait_ns > ROUTER_FULL_LOOK_NS)
                        wait_ns = ROUTER_FULL_LOOK_NS;
                if (code == ERR_OK)
                        continue;
                counter_add(router->helper_counters, COUNTER_journal_maintenance_failures, 1);
                if (!log_gate_open(code == ERR_CORRUPT ? &helper->heal_gate : &helper->maintain_gate,
                                   clock_monotonic_ns(), ROUTER_SAME_CAUSE_NS, &repeats))
                        continue;
                if (code == ERR_FULL)
                        log_warning("the journal is full",
                                    "shard=%u type=%s now=\"producers are told that there is no room\" "
                                    "help=\"sendring ledger shows which target is behind; "
                                    "journal.size_bytes_max is the limit; journal.full lets types give way\" "
                                    "repeats=%" PRIu64,
                                    router->logs[i].shard, helper_type_name(helper, i), repeats);
                else
                        log_error("journal maintenance failed", "shard=%u type=%s error=%s repeats=%" PRIu64,
                                  router->logs[i].shard, helper_type_name(helper, i),
                                  log_quote(err.text, quoted, sizeof(quoted)), repeats);
        }
        helper_count_kept(router);
        return wait_ns;
}

static void helper_sync_failed(struct router_helper *helper, struct router_log *log, const struct err *err)
{
        char quoted[ERR_TEXT_BYTES_MAX];
        uint64_t repeats = 0;
        log->trouble = true;
        log->hold_until_ns = clock_monotonic_ns() + ROUTER_SYNC_RETRY_NS;
        counter_add(helper->router->helper_counters, COUNTER_journal_sync_failures, 1);
        if (log_gate_open(&helper->sync_gate, clock_monotonic_ns(), ROUTER_SAME_CAUSE_NS, &repeats))
                log_error("journal sync failed",
                          "shard=%u type=%s error=%s "
                          "now=\"flushes wait; what is not on the disk is written anew each second\" repeats=%" PRIu64,
                          helper->router->logs[log->index].shard, helper_type_name(helper, log->index),
                          log_quote(err->text, quoted, sizeof(quoted)), repeats);
}

static void helper_sync_done(struct io_op *op, int32_t result, bool more)
{
        struct router_sync_file *file = IO_OWNER(op, struct router_sync_file, op);
        struct router_log *log = file->log;
        struct router_helper *helper = log->helper;
        struct err err = {.text = ""};
        (void)more;
        if (result == -EINTR) {
                io_fdatasync(helper->loop, op, file->fd);
                return;
        }
        if (result < 0)
                log->sys_errno = -result;
        if (--log->left > 0)
                return;
        if (journal_sync_done(helper->router->journals[log->index], log->sys_errno, &err) != ERR_OK) {
                helper_sync_failed(helper, log, &err);
        } else if (log->trouble) {
                log->trouble = false;
                log_info("journal synced again", "shard=%u type=%s", helper->router->logs[log->index].shard,
                         helper_type_name(helper, log->index));
        }
}

/* Everything that was published in any log is handed to the kernel at once. */
static void helper_sync(struct router_helper *helper, uint64_t now_ns)
{
        struct router *router = helper->router;
        bool begun = false;
        for (uint32_t i = 0; i < router->journals_count; i++) {
                struct router_log *log = &helper->logs[i];
                struct err err = {.text = ""};
                int fds[JOURNAL_SYNC_FILES_MAX];
                if (log->left > 0 || now_ns < log->hold_until_ns)
                        continue;
                if (journal_sync_begin(router->journals[i], fds, &log->left, &err) != ERR_OK)
                        helper_sync_failed(helper, log, &err);
                begun |= log->left > 0;
                log->sys_errno = 0;
                for (uint32_t k = 0; k < log->left; k++) {
                        log->files[k] = (struct router_sync_file){.op = {.done = helper_sync_done}, .log = log};
                        log->files[k].fd = fds[k];
                        io_fdatasync(helper->loop, &log->files[k].op, fds[k]);
                }
                counter_add(router->helper_counters, COUNTER_journal_files_synced, log->left);
        }
        if (begun) {
                helper->group_ns = now_ns;
                counter_add(router->helper_counters, COUNTER_journal_syncs, 1);
        }
}

/* When the next group of syncs may begin; UINT64_MAX: nothing is to be synced, or a completion comes first. */
static uint64_t helper_sync_due_ns(const struct router_helper *helper)
{
        const struct router *router = helper->router;
        uint64_t due_ns = UINT64_MAX;
        for (uint32_t i = 0; i < router->journals_count; i++) {
                const struct router_log *log = &helper->logs[i];
                if (log->left > 0 ||
                    journal_durable_position(router->journals[i]) >= journal_committed_position(router->journals[i]))
                        continue;
                uint64_t own_ns = helper->group_ns + router->settings.journal.sync_interval_ms * CLOCK_NS_PER_MS;
                own_ns = own_ns > log->hold_until_ns ? own_ns : log->hold_until_ns;
                due_ns = own_ns < due_ns ? own_ns : due_ns;
        }
        return due_ns;
}

void *router_helper(void *argument)
{
        struct router *router = argument;
        struct router_helper *helper = router->helper;
        (void)pthread_setname_np(pthread_self(), "helper"); /* for top(1) only */
        helper->called.done = helper_called;
        io_poll(helper->loop, &helper->called, router->helper_event_fd, POLLIN);
        bool host = router->settings.journal.durability_host;
        while (!atomic_load_explicit(&router->helper_stop, memory_order_acquire)) {
                uint64_t again_ns = helper_maintain(helper);
                uint64_t now_ns = clock_monotonic_ns();
                uint64_t wait_ns = host ? ROUTER_SYNC_BACKSTOP_NS : ROUTER_HELPER_IDLE_NS;
                wait_ns = again_ns < wait_ns ? again_ns : wait_ns;
                if (host && helper_sync_due_ns(helper) <= now_ns)
                        helper_sync(helper, now_ns);
                router_credentials_look(router, now_ns);
                uint64_t due_ns = host ? helper_sync_due_ns(helper) : UINT64_MAX;
                if (due_ns < now_ns + wait_ns)
                        wait_ns = due_ns > now_ns ? due_ns - now_ns : 0;
                /* Until control calls (a segment was taken, an event wants to be synced), a sync is done or due, or it
                 * is time to look around. */
                (void)io_loop_turn(helper->loop, wait_ns);
        }
        io_cancel(helper->loop, &helper->called);
        /* What the kernel has in hand must come back first. */
        while (io_loop_pending(helper->loop) > 0)
                (void)io_loop_turn(helper->loop, 20 * CLOCK_NS_PER_MS);
        return NULL;
}
