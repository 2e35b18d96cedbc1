/* The AWS credentials, read by a thread of their own: files may lie where reading hangs for as long as it likes, and
 * the helper thread has segments to make.
 *
 * The helper thread says when (it looks around once a second anyway, so this one costs nothing while idle), one load at
 * a time. Everything that the thread touches is here and not in struct router: a thread that hangs in the kernel cannot
 * be stopped, and then keeps this memory for the rest of the process. */
#include "base/clock.h"
#include "base/log.h"
#include "router/router_internal.h"

#include <inttypes.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Credentials are loaded again this often: files change when somebody rotates keys. */
#define ROUTER_CREDENTIALS_INTERVAL_NS     (60 * CLOCK_NS_PER_S)
#define ROUTER_CREDENTIALS_LOG_INTERVAL_NS (30 * CLOCK_NS_PER_S)
/* Those that say when they end are loaded again from so long before on, more often. */
#define ROUTER_CREDENTIALS_AHEAD_MS        ((int64_t)5 * 60 * 1000)
#define ROUTER_CREDENTIALS_END_INTERVAL_NS (10 * CLOCK_NS_PER_S)
/* A load that takes longer is told of; a start and an end wait no longer for one. */
#define ROUTER_CREDENTIALS_SLOW_NS (5 * CLOCK_NS_PER_S)
#define ROUTER_CREDENTIALS_STOP_NS CLOCK_NS_PER_S

struct router_credentials {
        struct egress_credentials shared; /* what workers see */
        char *profile, *shared_credentials_file, *config_file;
        /* Of the thread, while it is busy. */
        struct log_gate end_gate, load_gate;
        struct credentials *list[2]; /* the newest two generations of malloc'ed memory, for leak checkers */
        /* Of the helper thread, and of the start before that runs. */
        struct log_gate slow_gate;
        uint64_t begun_ns;
        /* Between them. C4: `busy` hands everything over: release-stored by whoever ends his part, acquired by the
         * other. */
        _Atomic bool busy;
        _Atomic uint64_t ended_ns; /* of the last load */
        _Atomic bool stop;
        sem_t wanted, ended;
        pthread_t thread;
        bool started;
};

/* Whether these credentials end soon, or have ended. */
static bool router_credentials_end(const struct credentials *credentials)
{
        return credentials->expires_ms - clock_realtime_ms() < ROUTER_CREDENTIALS_AHEAD_MS;
}

/* A source that has nothing newer to give: somebody has to act. The credentials stay in use, since the service has the
 * last word on them. */
static void router_tell_credentials_end(struct router_credentials *own, const struct credentials *credentials)
{
        uint64_t repeats = 0;
        if (!router_credentials_end(credentials) ||
            !log_gate_open(&own->end_gate, clock_monotonic_ns(), ROUTER_CREDENTIALS_INTERVAL_NS, &repeats))
                return;
        int64_t left_s = (credentials->expires_ms - clock_realtime_ms()) / 1000;
        log_warning("AWS credentials end",
                    "source=\"%s\" seconds_left=%" PRId64
                    " help=\"what comes from the environment stays as it is until "
                    "the service is restarted: use a profile, or none that ends\" repeats=%" PRIu64,
                    credentials->source, left_s > 0 ? left_s : 0, repeats);
}

/* Loads them and puts them in force; logs. */
static void router_load_credentials(struct router_credentials *own)
{
        const struct credentials_options options = {
                .profile = own->profile,
                .shared_credentials_file = own->shared_credentials_file,
                .config_file = own->config_file,
        };
        struct err err = {.text = ""};
        struct credentials *fresh = calloc(1, sizeof(*fresh));
        if (fresh == NULL)
                return;
        /* Relaxed: the flag is only a hint (C1). */
        atomic_store_explicit(&own->shared.refresh_wanted, false, memory_order_relaxed);
        const struct credentials *now = atomic_load_explicit(&own->shared.current, memory_order_relaxed);
        enum err_code code = credentials_load(&options, fresh, &err);
        if (code != ERR_OK) {
                char quoted[ERR_TEXT_BYTES_MAX];
                uint64_t repeats = 0;
                free(fresh);
                if (!log_gate_open(&own->load_gate, clock_monotonic_ns(), ROUTER_CREDENTIALS_LOG_INTERVAL_NS, &repeats))
                        return; /* while a service waits for others, it is tried each second */
                if (now == NULL)
                        log_error("no AWS credentials", "error=%s repeats=%" PRIu64,
                                  log_quote(err.text, quoted, sizeof(quoted)), repeats);
                else
                        log_warning("cannot load AWS credentials again",
                                    "error=%s now=\"the earlier ones stay in use\" repeats=%" PRIu64,
                                    log_quote(err.text, quoted, sizeof(quoted)), repeats);
                return;
        }
        router_tell_credentials_end(own, fresh);
        fresh->number = now != NULL ? now->number : 0; /* `now` is alive: this thread replaces them */
        if (now != NULL && memcmp(now, fresh, sizeof(*fresh)) == 0) {
                credentials_wipe(fresh);
                free(fresh);
                return;
        }
        fresh->number++;
        log_info("AWS credentials loaded", "source=\"%s\" access_key_id=%.4s...", fresh->source, fresh->access_key_id);
        if (fresh->warning[0] != '\0')
                log_warning("AWS credentials", "warning=\"%s\"", fresh->warning);
        /* C3: pairs with C2 in egress/target_http.c. A worker may still hold the generation before for the length of a
         * call; the one before that was replaced at least a second ago: router_credentials_look() counts from the end
         * of a load. */
        atomic_store_explicit(&own->shared.current, fresh, memory_order_release);
        if (own->list[1] != NULL) {
                credentials_wipe(own->list[1]);
                free(own->list[1]);
        }
        own->list[1] = own->list[0];
        own->list[0] = fresh;
}

/* ---------------------------------------------------------------------------------------------- the thread */

static void *router_credentials_thread(void *argument)
{
        struct router_credentials *own = argument;
        (void)pthread_setname_np(pthread_self(), "credentials"); /* for top(1) only */
        for (;;) {
                while (sem_wait(&own->wanted) < 0)
                        ; /* only a signal ends it early, and those are the control thread's */
                if (atomic_load_explicit(&own->stop, memory_order_acquire))
                        return NULL;
                router_load_credentials(own);
                /* Relaxed: a number; who compares it reads `current` anew. */
                atomic_fetch_add_explicit(&own->shared.loads, 1, memory_order_relaxed);
                atomic_store_explicit(&own->ended_ns, clock_monotonic_ns(), memory_order_relaxed); /* C4 orders it */
                atomic_store_explicit(&own->busy, false, memory_order_release);                    /* C4 */
                (void)sem_post(&own->ended); /* far from its limit */
        }
}

static void router_credentials_begin(struct router_credentials *own, uint64_t now_ns)
{
        own->begun_ns = now_ns;
        atomic_store_explicit(&own->busy, true, memory_order_release); /* C4 */
        (void)sem_post(&own->wanted);                                  /* far from its limit */
}

/* So long from now, by CLOCK_MONOTONIC. */
static struct timespec router_credentials_until(uint64_t wait_ns)
{
        uint64_t until_ns = clock_monotonic_ns() + wait_ns;
        return (struct timespec){.tv_sec = (time_t)(until_ns / CLOCK_NS_PER_S),
                                 .tv_nsec = (long)(until_ns % CLOCK_NS_PER_S)};
}

static void router_tell_credentials_slow(struct router_credentials *own, uint64_t now_ns)
{
        uint64_t repeats = 0;
        if (!log_gate_open(&own->slow_gate, now_ns, ROUTER_CREDENTIALS_INTERVAL_NS, &repeats))
                return;
        log_error("reading AWS credentials hangs",
                  "seconds=%" PRIu64 " now=\"%s\" help=\"look at the file system of the profile's files\"",
                  (now_ns - own->begun_ns) / CLOCK_NS_PER_S,
                  atomic_load_explicit(&own->shared.current, memory_order_relaxed) != NULL
                          ? "the earlier ones stay in use"
                          : "destinations at AWS wait for them");
}

/* ---------------------------------------------------------------------------------------------- for the router */

enum err_code router_credentials_create(struct router *router, struct err *reterr)
{
        struct router_credentials *own = calloc(1, sizeof(*own));
        if (own == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for AWS credentials");
        own->profile = strdup(router->settings.credentials.profile);
        own->shared_credentials_file = strdup(router->settings.credentials.shared_credentials_file);
        own->config_file = strdup(router->settings.credentials.config_file);
        (void)sem_init(&own->wanted, 0, 0); /* 0 is a valid value */
        (void)sem_init(&own->ended, 0, 0);
        atomic_init(&own->ended_ns, clock_monotonic_ns());
        router->credentials = own;
        if (own->profile == NULL || own->shared_credentials_file == NULL || own->config_file == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for AWS credentials");
        return ERR_OK;
}

struct egress_credentials *router_credentials_shared(struct router *router)
{
        return &router->credentials->shared;
}

enum err_code router_credentials_start(struct router *router, struct err *reterr)
{
        struct router_credentials *own = router->credentials;
        enum err_code code = router_start_thread(&own->thread, router_credentials_thread, own, reterr);
        if (code != ERR_OK)
                return code;
        own->started = true;
        if (!router_uses_credentials(router))
                return ERR_OK;
        router_credentials_begin(own, clock_monotonic_ns());
        const struct timespec until = router_credentials_until(ROUTER_CREDENTIALS_SLOW_NS);
        if (sem_clockwait(&own->ended, CLOCK_MONOTONIC, &until) != 0)
                router_tell_credentials_slow(own, clock_monotonic_ns());
        return ERR_OK;
}

void router_credentials_look(struct router *router, uint64_t now_ns)
{
        struct router_credentials *own = router->credentials;
        if (atomic_load_explicit(&own->busy, memory_order_acquire)) { /* C4 */
                if (now_ns - own->begun_ns >= ROUTER_CREDENTIALS_SLOW_NS)
                        router_tell_credentials_slow(own, now_ns);
                return;
        }
        bool wanted = atomic_load_explicit(&own->shared.refresh_wanted, memory_order_relaxed); /* C1 */
        /* Relaxed, here and below: C4 orders it. */
        const struct credentials *now = atomic_load_explicit(&own->shared.current, memory_order_relaxed);
        uint64_t interval_ns = ROUTER_CREDENTIALS_INTERVAL_NS;
        if (wanted)
                interval_ns = now != NULL ? CLOCK_NS_PER_S : 5 * CLOCK_NS_PER_S;
        else if (now == NULL)
                interval_ns = UINT64_MAX; /* nobody needs any */
        else if (router_credentials_end(now))
                interval_ns = ROUTER_CREDENTIALS_END_INTERVAL_NS;
        uint64_t ended_ns = atomic_load_explicit(&own->ended_ns, memory_order_relaxed);
        if (now_ns < ended_ns || now_ns - ended_ns < interval_ns)
                return;
        router_credentials_begin(own, now_ns);
}

void router_credentials_want(struct router *router)
{
        atomic_store_explicit(&router->credentials->shared.refresh_wanted, true, memory_order_relaxed); /* C1 */
}

void router_credentials_stop(struct router *router)
{
        struct router_credentials *own = router->credentials;
        if (own == NULL || !own->started)
                return;
        const struct timespec until = router_credentials_until(ROUTER_CREDENTIALS_STOP_NS);
        atomic_store_explicit(&own->stop, true, memory_order_release);
        (void)sem_post(&own->wanted); /* far from its limit */
        if (pthread_clockjoin_np(own->thread, NULL, CLOCK_MONOTONIC, &until) == 0) {
                own->started = false;
                return;
        }
        log_warning("reading AWS credentials still hangs", "now=\"ending without\"");
        router->credentials = NULL; /* the thread's, until the process has ended */
}

void router_credentials_free(struct router_credentials *own)
{
        if (own == NULL)
                return;
        for (int i = 0; i < 2; i++) {
                if (own->list[i] == NULL)
                        continue;
                credentials_wipe(own->list[i]);
                free(own->list[i]);
        }
        (void)sem_destroy(&own->wanted); /* nobody waits */
        (void)sem_destroy(&own->ended);
        free(own->profile);
        free(own->shared_credentials_file);
        free(own->config_file);
        free(own);
}

bool router_uses_credentials(const struct router *router)
{
        for (uint32_t i = 0; i < router->targets_count; i++)
                if (router->targets[i].uses_credentials)
                        return true;
        return false;
}
