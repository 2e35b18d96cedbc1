/* Host names to addresses, on threads of their own, because getaddrinfo() blocks: one for each name, so that a name
 * server that does not answer for one delays no other, up to HTTP_RESOLVE_THREADS_MAX.
 *
 * Entries are shared by all clients of the same host and port and live while one is attached. Everything here is
 * guarded by one lock, held for moments only; getaddrinfo() runs outside of it on copies that do not change. Threads
 * are started when names are attached and then stay for the life of the process: they cannot be stopped within a
 * look-up, and asleep they cost nothing.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "egress/http_internal.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* Younger addresses are used as they are; older ones are used and looked up again; very old ones are waited for. */
#define HTTP_RESOLVE_FRESH_NS  (30 * CLOCK_NS_PER_S)
#define HTTP_RESOLVE_USABLE_NS (300 * CLOCK_NS_PER_S)
/* Endpoints are few: services by regions. Beyond, names share. */
#define HTTP_RESOLVE_THREADS_MAX 32u

struct http_resolver_entry {
        struct http_resolver_entry *next;
        char host[256], port[8];
        uint32_t clients;
        bool wanted;         /* a look-up is asked for */
        bool busy;           /* the thread is at it, outside the lock: the entry must stay */
        uint64_t fetched_ns; /* 0: never */
        struct http_addresses addresses;
        int failure;       /* of the last look-up: EAI_*, 0 when it went well */
        int failure_errno; /* for EAI_SYSTEM */
        struct http_resolve_waiter *waiters;
};

static struct {
        pthread_mutex_t lock;
        pthread_cond_t wanted;
        uint32_t threads, names; /* started, attached now */
        struct http_resolver_entry *entries;
} http_resolver = {.lock = PTHREAD_MUTEX_INITIALIZER, .wanted = PTHREAD_COND_INITIALIZER};

static void http_resolve_take(const struct addrinfo *list, struct http_addresses *addresses)
{
        *addresses = (struct http_addresses){0};
        for (const struct addrinfo *at = list; at != NULL && addresses->count < HTTP_ADDRESSES_MAX; at = at->ai_next) {
                if (at->ai_addrlen > sizeof(addresses->storage[0]))
                        continue;
                memcpy(&addresses->storage[addresses->count], at->ai_addr, at->ai_addrlen);
                addresses->bytes[addresses->count++] = at->ai_addrlen;
        }
}

bool http_resolve_literal(const char *host, const char *port, struct http_addresses *ret_addresses)
{
        struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
        struct addrinfo *list = NULL;
        if (getaddrinfo(host, port, &hints, &list) != 0)
                return false;
        http_resolve_take(list, ret_addresses);
        freeaddrinfo(list);
        return ret_addresses->count > 0;
}

static void http_resolve_unlink(struct http_resolver_entry *entry)
{
        struct http_resolver_entry **at = &http_resolver.entries;
        while (*at != entry)
                at = &(*at)->next;
        *at = entry->next;
        http_resolver.names--;
        free(entry);
}

/* Locked. The look-up of a busy entry has ended. */
static void http_resolve_store(struct http_resolver_entry *entry, int result, int sys_errno, struct addrinfo *list)
{
        entry->busy = false;
        entry->failure = result;
        entry->failure_errno = sys_errno;
        if (result == 0) {
                http_resolve_take(list, &entry->addresses);
                entry->fetched_ns = clock_monotonic_ns();
                freeaddrinfo(list);
        }
        while (entry->waiters != NULL) {
                struct http_resolve_waiter *waiter = entry->waiters;
                entry->waiters = waiter->next;
                waiter->next = NULL;
                io_post(waiter->loop, &waiter->op);
        }
        if (entry->clients == 0)
                http_resolve_unlink(entry);
}

static void *http_resolver_main(void *unused)
{
        (void)unused;
        (void)pthread_setname_np(pthread_self(), "resolver"); /* only a name */
        (void)pthread_mutex_lock(&http_resolver.lock);        /* cannot fail: a plain mutex, not held */
        for (;;) {
                struct http_resolver_entry *entry = http_resolver.entries;
                while (entry != NULL && !entry->wanted)
                        entry = entry->next;
                if (entry == NULL) {
                        (void)pthread_cond_wait(&http_resolver.wanted, &http_resolver.lock); /* cannot fail either */
                        continue;
                }
                entry->wanted = false;
                entry->busy = true;
                (void)pthread_mutex_unlock(&http_resolver.lock);
                struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
                struct addrinfo *list = NULL;
                int result = getaddrinfo(entry->host, entry->port, &hints, &list);
                int sys_errno = errno;
                (void)pthread_mutex_lock(&http_resolver.lock);
                http_resolve_store(entry, result, sys_errno, list);
        }
        return NULL;
}

/* Locked. A thread for one more name; where there is none to be had, names share those that there are. */
static enum err_code http_resolver_start(struct err *reterr)
{
        if (http_resolver.threads > http_resolver.names || http_resolver.threads == HTTP_RESOLVE_THREADS_MAX)
                return ERR_OK;
        /* Signals are the main thread's. */
        sigset_t all, before;
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        pthread_t thread;
        int result = pthread_create(&thread, NULL, http_resolver_main, NULL);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (result != 0 && http_resolver.threads > 0)
                return ERR_OK;
        if (result != 0)
                return err_set_errno(reterr, ERR_SYSTEM, result, "cannot start the thread that resolves host names");
        (void)pthread_detach(thread);
        http_resolver.threads++;
        return ERR_OK;
}

enum err_code http_resolve_attach(const char *host, const char *port, struct http_resolver_entry **ret_entry,
                                  struct err *reterr)
{
        (void)pthread_mutex_lock(&http_resolver.lock);
        enum err_code code = ERR_OK;
        struct http_resolver_entry *entry = http_resolver.entries;
        while (entry != NULL && (strcmp(entry->host, host) != 0 || strcmp(entry->port, port) != 0))
                entry = entry->next;
        if (entry == NULL) {
                code = http_resolver_start(reterr);
                if (code != ERR_OK)
                        goto out;
                entry = calloc(1, sizeof(*entry));
                if (entry == NULL) {
                        code = err_set(reterr, ERR_MEMORY, "out of memory for host %s", host);
                        goto out;
                }
                ASSERT(slice_to_text(slice_of_text(host), entry->host, sizeof(entry->host)));
                ASSERT(slice_to_text(slice_of_text(port), entry->port, sizeof(entry->port)));
                entry->next = http_resolver.entries;
                http_resolver.entries = entry;
                http_resolver.names++;
        }
        entry->clients++;
        *ret_entry = entry;
out:
        (void)pthread_mutex_unlock(&http_resolver.lock);
        return code;
}

void http_resolve_detach(struct http_resolver_entry *entry)
{
        if (entry == NULL)
                return;
        (void)pthread_mutex_lock(&http_resolver.lock);
        ASSERT(entry->clients > 0);
        entry->clients--;
        if (entry->clients == 0 && !entry->busy)
                http_resolve_unlink(entry);
        (void)pthread_mutex_unlock(&http_resolver.lock);
}

enum err_code http_resolve_get(struct http_resolver_entry *entry, struct http_resolve_waiter *waiter,
                               struct http_addresses *ret_addresses)
{
        enum err_code code = ERR_OK;
        (void)pthread_mutex_lock(&http_resolver.lock);
        uint64_t age = entry->fetched_ns == 0 ? UINT64_MAX : clock_monotonic_ns() - entry->fetched_ns;
        if (age > HTTP_RESOLVE_FRESH_NS && !entry->busy && !entry->wanted) {
                entry->wanted = true;
                (void)pthread_cond_signal(&http_resolver.wanted);
        }
        if (age <= HTTP_RESOLVE_USABLE_NS) {
                *ret_addresses = entry->addresses;
        } else {
                waiter->next = entry->waiters;
                entry->waiters = waiter;
                code = ERR_INCOMPLETE;
        }
        (void)pthread_mutex_unlock(&http_resolver.lock);
        return code;
}

enum err_code http_resolve_result(struct http_resolver_entry *entry, struct http_addresses *ret_addresses,
                                  struct err *reterr)
{
        enum err_code code = ERR_OK;
        (void)pthread_mutex_lock(&http_resolver.lock);
        if (entry->addresses.count > 0) {
                *ret_addresses = entry->addresses;
        } else if (entry->failure == EAI_SYSTEM) {
                code = err_set_errno(reterr, ERR_RESOLVE, entry->failure_errno, "cannot resolve host name %s",
                                     entry->host);
        } else {
                code = err_set(reterr, ERR_RESOLVE,
                               "cannot resolve host name %s: %s; check the name and this host's "
                               "DNS",
                               entry->host, gai_strerror(entry->failure));
        }
        (void)pthread_mutex_unlock(&http_resolver.lock);
        return code;
}

bool http_resolve_cancel(struct http_resolver_entry *entry, struct http_resolve_waiter *waiter)
{
        bool found = false;
        (void)pthread_mutex_lock(&http_resolver.lock);
        for (struct http_resolve_waiter **at = &entry->waiters; *at != NULL && !found;) {
                found = *at == waiter;
                if (found) {
                        *at = waiter->next;
                        waiter->next = NULL;
                } else {
                        at = &(*at)->next;
                }
        }
        (void)pthread_mutex_unlock(&http_resolver.lock);
        return found;
}
