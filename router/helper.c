#include "base/clock.h"
#include "base/log.h"
#include "router/router_internal.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Credentials are loaded again this often: files change when somebody rotates keys. */
#define ROUTER_CREDENTIALS_INTERVAL_NS (60 * CLOCK_NS_PER_S)
/* Those that say when they end are loaded again from so long before on, more often. */
#define ROUTER_CREDENTIALS_AHEAD_MS        ((int64_t)5 * 60 * 1000)
#define ROUTER_CREDENTIALS_END_INTERVAL_NS (10 * CLOCK_NS_PER_S)

/* Whether these credentials end soon, or have ended. */
static bool router_credentials_end(const struct credentials *credentials)
{
        return credentials != NULL && credentials->expires_ms - clock_realtime_ms() < ROUTER_CREDENTIALS_AHEAD_MS;
}

/* A source that has nothing newer to give: somebody has to act. The credentials stay in use, since the service has the
 * last word on them. */
static void router_tell_credentials_end(struct router *router, const struct credentials *credentials)
{
        uint64_t repeats = 0;
        if (!router_credentials_end(credentials) ||
            !log_gate_open(&router->credentials_gate, clock_monotonic_ns(), ROUTER_CREDENTIALS_INTERVAL_NS, &repeats))
                return;
        int64_t left_s = (credentials->expires_ms - clock_realtime_ms()) / 1000;
        log_warning("AWS credentials end",
                    "source=\"%s\" seconds_left=%" PRId64
                    " help=\"what comes from the environment stays as it is until "
                    "the service is restarted: use a profile, or none that ends\" repeats=%" PRIu64,
                    credentials->source, left_s > 0 ? left_s : 0, repeats);
}

void router_load_credentials(struct router *router)
{
        struct credentials_options options = {
                .profile = router->settings.credentials.profile,
                .shared_credentials_file = router->settings.credentials.shared_credentials_file,
                .config_file = router->settings.credentials.config_file,
        };
        struct err err = {.text = ""};
        struct credentials *fresh = calloc(1, sizeof(*fresh));
        if (fresh == NULL)
                return;
        /* Relaxed: the flag is only a hint (C1). */
        atomic_store_explicit(&router->credentials.refresh_wanted, false, memory_order_relaxed);
        const struct credentials *now = atomic_load_explicit(&router->credentials.current, memory_order_relaxed);
        enum err_code code = credentials_load(&options, fresh, &err);
        if (code != ERR_OK) {
                char quoted[ERR_TEXT_BYTES_MAX];
                free(fresh);
                if (now == NULL)
                        log_error("no AWS credentials", "error=%s", log_quote(err.text, quoted, sizeof(quoted)));
                else
                        log_warning("cannot load AWS credentials again",
                                    "error=%s now=\"the earlier ones stay in use\"",
                                    log_quote(err.text, quoted, sizeof(quoted)));
                return;
        }
        router_tell_credentials_end(router, fresh);
        if (now != NULL && memcmp(now, fresh, sizeof(*fresh)) == 0) {
                credentials_wipe(fresh);
                free(fresh);
                return;
        }
        log_info("AWS credentials loaded", "source=\"%s\" access_key_id=%.4s...", fresh->source, fresh->access_key_id);
        if (fresh->warning[0] != '\0')
                log_warning("AWS credentials", "warning=\"%s\"", fresh->warning);
        /* C3: pairs with C2 in egress/target.c. A worker may still hold the generation before for the length of a call;
         * the one before that was replaced at least a refresh interval ago. */
        atomic_store_explicit(&router->credentials.current, fresh, memory_order_release);
        if (router->credentials_list[1] != NULL) {
                credentials_wipe(router->credentials_list[1]);
                free(router->credentials_list[1]);
        }
        router->credentials_list[1] = router->credentials_list[0];
        router->credentials_list[0] = fresh;
}

bool router_uses_credentials(const struct router *router)
{
        for (uint32_t i = 0; i < router->targets_count; i++)
                if (router->targets[i].uses_credentials)
                        return true;
        return false;
}

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

void *router_helper(void *argument)
{
        struct router *router = argument;
        (void)pthread_setname_np(pthread_self(), "helper"); /* for top(1) only */
        struct log_gate maintain_gate = {0}, sync_gate = {0};
        uint64_t credentials_ns = clock_monotonic_ns();
        bool host = router->settings.journal.durability_host;
        bool dirty = false;
        while (!atomic_load_explicit(&router->helper_stop, memory_order_acquire)) {
                struct err err = {.text = ""};
                char quoted[ERR_TEXT_BYTES_MAX];
                uint64_t repeats = 0;
                for (uint32_t i = 0; i < router->journals_count; i++) {
                        enum err_code code = journal_maintain(router->journals[i], &err);
                        if (code == ERR_OK)
                                continue;
                        counter_add(router->helper_counters, COUNTER_journal_maintenance_failures, 1);
                        if (!log_gate_open(&maintain_gate, clock_monotonic_ns(), 10 * CLOCK_NS_PER_S, &repeats))
                                continue;
                        if (code == ERR_FULL)
                                log_warning("the journal is full",
                                            "shard=%u now=\"producers are told that there is no room\" "
                                            "help=\"sendring ledger shows which target is behind; "
                                            "journal.size_bytes_max is the limit\" repeats=%" PRIu64,
                                            i, repeats);
                        else
                                log_error("journal maintenance failed", "shard=%u error=%s repeats=%" PRIu64, i,
                                          log_quote(err.text, quoted, sizeof(quoted)), repeats);
                }
                dirty = false;
                for (uint32_t i = 0; host && i < router->journals_count; i++) {
                        struct journal *journal = router->journals[i];
                        if (journal_durable_position(journal) == journal_committed_position(journal))
                                continue;
                        dirty = true;
                        counter_add(router->helper_counters, COUNTER_journal_syncs, 1);
                        if (journal_sync(journal, &err) != ERR_OK &&
                            log_gate_open(&sync_gate, clock_monotonic_ns(), 10 * CLOCK_NS_PER_S, &repeats))
                                log_error("journal sync failed",
                                          "shard=%u error=%s now=\"flushes wait\" repeats=%" PRIu64, i,
                                          log_quote(err.text, quoted, sizeof(quoted)), repeats);
                }
                uint64_t now_ns = clock_monotonic_ns();
                bool wanted = atomic_load_explicit(&router->credentials.refresh_wanted, memory_order_relaxed); /* C1 */
                uint64_t interval_ns = ROUTER_CREDENTIALS_INTERVAL_NS;
                if (wanted)
                        interval_ns = router->credentials.current != NULL ? CLOCK_NS_PER_S : 5 * CLOCK_NS_PER_S;
                else if (router->credentials.current == NULL)
                        interval_ns = UINT64_MAX; /* nobody needs any */
                else if (router_credentials_end(router->credentials.current))
                        interval_ns = ROUTER_CREDENTIALS_END_INTERVAL_NS;
                if (now_ns - credentials_ns >= interval_ns) {
                        router_load_credentials(router);
                        credentials_ns = now_ns;
                }
                /* Until control calls (a segment was taken), a sync is due, or a second is over. */
                int wait_ms = !host ? 1000 : dirty ? (int)router->settings.journal.sync_interval_ms : 20;
                struct pollfd called = {.fd = router->helper_event_fd, .events = POLLIN};
                if (poll(&called, 1, wait_ms) > 0)
                        router_drain_fd(router->helper_event_fd);
        }
        return NULL;
}
