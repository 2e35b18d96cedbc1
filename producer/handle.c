/* The handle: opening, noticing that the service has gone, attaching again, closing, telling what went wrong. */
#include "base/clock.h"
#include "base/limits.h"
#include "producer/producer_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SENDRING_SOCKET_DEFAULT    "/run/sendring/sendring.sock"
#define SENDRING_ATTACH_MS_DEFAULT 2000u
#define SENDRING_LOOK_INTERVAL_NS  (500 * CLOCK_NS_PER_MS) /* "at most twice a second" */
#define SENDRING_OPTIONS_BYTES_MIN (offsetof(struct sendring_options, timeout_ms) + sizeof(uint32_t))

_Static_assert(SENDRING_EVENT_BYTES_MAX == LIMIT_EVENT_BYTES_MAX, "the header promises what the limits say");
_Static_assert(SENDRING_LIST_ITEMS_MAX == LIMIT_LIST_ITEMS_MAX, "the header promises what the limits say");

/* Text of the last failed sendring_open() of this thread: there is no handle that could keep it. */
static _Thread_local char sendring_open_error[ERR_TEXT_BYTES_MAX];

int sendring_fail(struct sendring *ring, int result, const char *text)
{
        ring->error = text;
        switch ((enum sendring_result)result) {
        case SENDRING_E_FULL:
                ring->full++;
                break;
        case SENDRING_E_TOO_BIG:
        case SENDRING_E_INVALID:
                ring->invalid++;
                break;
        case SENDRING_E_BUG:
                ring->state = SENDRING_STATE_BROKEN;
                break;
        case SENDRING_OK:
        case SENDRING_E_DETACHED:
        case SENDRING_E_DENIED:
        case SENDRING_E_TIMEOUT:
        case SENDRING_E_SYSTEM:
        case SENDRING_E_MEMORY:
        case SENDRING_E_FORKED:
        case SENDRING_E_VERSION:
                break;
        }
        return result;
}

/* A few codes have a public twin; the rest goes by its class. */
static int result_of_code(enum err_code code)
{
        if (code == ERR_OK)
                return SENDRING_OK;
        if (code == ERR_FULL)
                return SENDRING_E_FULL;
        if (code == ERR_TOO_BIG)
                return SENDRING_E_TOO_BIG;
        if (code == ERR_CONNECT || code == ERR_DETACHED || code == ERR_RESET)
                return SENDRING_E_DETACHED;
        if (code == ERR_PERMISSION || code == ERR_ACCESS_DENIED || code == ERR_REFUSED)
                return SENDRING_E_DENIED;
        if (code == ERR_VERSION)
                return SENDRING_E_VERSION;
        if (code == ERR_TIMEOUT)
                return SENDRING_E_TIMEOUT;
        if (code == ERR_MEMORY)
                return SENDRING_E_MEMORY;
        if (err_class(code) == ERR_CLASS_INPUT)
                return SENDRING_E_INVALID;
        if (err_class(code) == ERR_CLASS_BUG)
                return SENDRING_E_BUG;
        return SENDRING_E_SYSTEM;
}

int sendring_fail_code(struct sendring *ring, enum err_code code)
{
        const char *text = ring->failure.code == code ? ring->failure.text : err_text(code);
        return sendring_fail(ring, result_of_code(code), text);
}

/* ---------------------------------------------------------------------------------------------- attaching */

static struct ring_attach_options handle_attach_options(const struct sendring *ring, uint32_t timeout_ms)
{
        return (struct ring_attach_options){
                .socket_path = ring->socket_path,
                .name = ring->name,
                .lane_bytes = ring->lane_bytes_wish,
                .timeout_ms = timeout_ms,
        };
}

/* Attaches to the service that is there now; ring/ carries over what the old one had not taken. At most twice a second,
 * so that a publish without a router stays cheap. */
static bool handle_reattach(struct sendring *ring)
{
        uint64_t now_ns = clock_monotonic_ns();
        if (ring->attach_tried_ns != 0 && now_ns - ring->attach_tried_ns < SENDRING_LOOK_INTERVAL_NS)
                return false;
        ring->attach_tried_ns = now_ns;
        struct ring_attach_options options = handle_attach_options(ring, SENDRING_REATTACH_MS_MAX);
        ring->failure.code = ERR_OK;
        enum err_code code = ring_producer_reattach(&ring->producer, &options, &ring->failure);
        if (code != ERR_OK) {
                ring->error = ring->failure.code == code ? ring->failure.text : err_text(code);
                return false;
        }
        ring->state = SENDRING_STATE_ATTACHED;
        ring->reattached++;
        ring->used_seen = 0;
        ring->stalled_ns = 0;
        return true;
}

bool sendring_detached(struct sendring *ring)
{
        ring->state = SENDRING_STATE_DETACHED;
        ring->error = "the router is not there; trying again twice a second";
        return handle_reattach(ring);
}

static bool handle_forked(const struct sendring *ring)
{
        return ring->process->alive != 1 || (ring->pid_compared && ring->pid != getpid());
}

int sendring_enter_slow(struct sendring *ring)
{
        if (ring == NULL)
                return SENDRING_E_INVALID;
        if (handle_forked(ring))
                return sendring_fail(ring, SENDRING_E_FORKED, sendring_result_text(SENDRING_E_FORKED));
        switch (ring->state) {
        case SENDRING_STATE_ATTACHED:
                return SENDRING_OK;
        case SENDRING_STATE_DETACHED:
                return handle_reattach(ring) ? SENDRING_OK : SENDRING_E_DETACHED;
        case SENDRING_STATE_BROKEN:
                break;
        }
        return sendring_fail(ring, SENDRING_E_BUG, sendring_result_text(SENDRING_E_BUG));
}

/* Asks the connection: two system calls. False, with the state changed, when the service has gone. */
static bool handle_look(struct sendring *ring)
{
        if (ring_producer_refresh(&ring->producer, NULL) != ERR_DETACHED)
                return true;
        ring->state = SENDRING_STATE_DETACHED;
        ring->error = "the router is not there; trying again twice a second";
        return false;
}

/* A service that was killed as a whole says nothing, and a lane that nobody drains takes a slow producer hours to fill.
 * So the bytes waiting are looked at every few publishes, and when they have not become fewer for half a second the
 * connection is asked. While the router drains, that is one load every few publishes and no system call. */
void sendring_watch(struct sendring *ring)
{
        uint64_t used_bytes = ring_producer_used_bytes(&ring->producer);
        bool drained = used_bytes == 0 || used_bytes < ring->used_seen;
        ring->used_seen = used_bytes;
        if (drained) {
                ring->stalled_ns = 0;
                return;
        }
        uint64_t now_ns = clock_monotonic_ns();
        if (ring->stalled_ns == 0) {
                ring->stalled_ns = now_ns;
        } else if (now_ns - ring->stalled_ns >= SENDRING_LOOK_INTERVAL_NS) {
                ring->stalled_ns = now_ns;
                (void)handle_look(ring); /* the state tells */
        }
}

/* ---------------------------------------------------------------------------------------------- opening */

static int open_fail(int result, const char *text)
{
        (void)snprintf(sendring_open_error, sizeof(sendring_open_error), "%s", text);
        return result;
}

static bool open_copy_options(const struct sendring_options *given, struct sendring_options *ret_options)
{
        memset(ret_options, 0, sizeof(*ret_options));
        if (given == NULL)
                return true;
        if (given->size < SENDRING_OPTIONS_BYTES_MIN)
                return false;
        size_t known = given->size < sizeof(*ret_options) ? given->size : sizeof(*ret_options);
        memcpy(ret_options, given, known);
        /* Options of a newer header may stay unset; one that is set and not known must not be ignored. */
        for (size_t i = known; i < given->size; i++)
                if (((const unsigned char *)given)[i] != 0)
                        return false;
        return true;
}

static struct sendring_process *process_create(bool *ret_wiped)
{
        long page_bytes = sysconf(_SC_PAGESIZE);
        void *page = mmap(NULL, (size_t)page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
                return NULL;
        *ret_wiped = madvise(page, (size_t)page_bytes, MADV_WIPEONFORK) == 0;
        return page;
}

static void process_free(struct sendring_process *process)
{
        if (process != NULL)
                (void)munmap(process, (size_t)sysconf(_SC_PAGESIZE)); /* cannot fail on a page of ours */
}

static void handle_free(struct sendring *ring)
{
        process_free(ring->process);
        free(ring->scratch);
        free(ring);
}

int sendring_open(const struct sendring_options *options, struct sendring **ret_ring)
{
        if (ret_ring == NULL)
                return open_fail(SENDRING_E_INVALID, "sendring_open: ret_ring is NULL");
        *ret_ring = NULL;
        struct sendring_options given;
        if (!open_copy_options(options, &given))
                return open_fail(SENDRING_E_INVALID,
                                 "sendring_open: options.size is wrong, or sets an option that this library is too "
                                 "old for");
        const char *socket_path = given.socket_path;
        if (socket_path == NULL)
                socket_path = secure_getenv("SENDRING_SOCKET"); /* mail programs may be setgid */
        if (socket_path == NULL || socket_path[0] == '\0')
                socket_path = SENDRING_SOCKET_DEFAULT;

        struct sendring *ring = calloc(1, sizeof(*ring));
        if (ring == NULL)
                return open_fail(SENDRING_E_MEMORY, "sendring_open: out of memory");
        int result = SENDRING_E_MEMORY;
        if (strlen(socket_path) >= sizeof(ring->socket_path)) {
                result = SENDRING_E_INVALID;
                (void)open_fail(result, "sendring_open: the socket path is longer than 107 bytes");
                goto out;
        }
        (void)snprintf(ring->socket_path, sizeof(ring->socket_path), "%s", socket_path);
        /* Cut to what the router keeps. */
        (void)snprintf(ring->name, sizeof(ring->name), "%s",
                       given.name != NULL ? given.name : program_invocation_short_name);
        ring->lane_bytes_wish = given.lane_bytes;
        ring->pid = getpid();
        ring->error = "no error";
        bool wiped = false;
        ring->process = process_create(&wiped);
        ring->scratch = malloc(SENDRING_EVENT_BYTES_MAX);
        if (ring->process == NULL || ring->scratch == NULL) {
                (void)open_fail(result, "sendring_open: out of memory");
                goto out;
        }
        ring->process->alive = 1;
        ring->pid_compared = !wiped;

        struct ring_attach_options attach =
                handle_attach_options(ring, given.timeout_ms != 0 ? given.timeout_ms : SENDRING_ATTACH_MS_DEFAULT);
        enum err_code code = ring_producer_attach(&ring->producer, &attach, &ring->failure);
        if (code != ERR_OK) {
                result = result_of_code(code);
                if (result == SENDRING_E_INVALID || result == SENDRING_E_BUG)
                        result = SENDRING_E_SYSTEM; /* nothing that the caller gave */
                (void)open_fail(result, ring->failure.code == code ? ring->failure.text : err_text(code));
                goto out;
        }
        *ret_ring = ring;
        return SENDRING_OK;
out:
        handle_free(ring);
        return result;
}

void sendring_close(struct sendring *ring)
{
        if (ring == NULL)
                return;
        if (handle_forked(ring)) {
                ring_producer_abandon(&ring->producer);
                handle_free(ring);
                return;
        }
        /* What waits in the lane of a service that has gone would go with the mapping: one last attempt, or as many as
         * it takes parts to go over into smaller lanes. */
        if (ring->state != SENDRING_STATE_BROKEN && ring_producer_used_bytes(&ring->producer) > 0 &&
            (ring->state == SENDRING_STATE_DETACHED || !handle_look(ring))) {
                uint64_t carried;
                do {
                        carried = ring->producer.carried;
                        ring->attach_tried_ns = 0;
                } while (!sendring_detached(ring) && ring->producer.carried != carried);
        }
        ring_producer_detach(&ring->producer);
        handle_free(ring);
}

/* ---------------------------------------------------------------------------------------------- flushing, telling */

/* Between two looks while a flush waits for a service that is not there. */
#define SENDRING_FLUSH_NAP_NS (20 * CLOCK_NS_PER_MS)

int sendring_flush(struct sendring *ring, uint32_t timeout_ms)
{
        uint64_t deadline_ns = clock_monotonic_ns() + timeout_ms * CLOCK_NS_PER_MS;
        for (;;) {
                int result = sendring_enter(ring);
                if (result != SENDRING_OK && result != SENDRING_E_DETACHED)
                        return result;
                uint64_t now_ns = clock_monotonic_ns();
                uint64_t left_ns = now_ns < deadline_ns ? deadline_ns - now_ns : 0;
                if (result == SENDRING_OK) {
                        enum err_code code = ring_producer_wait(&ring->producer, (uint32_t)(left_ns / CLOCK_NS_PER_MS));
                        if (code == ERR_OK)
                                return SENDRING_OK;
                        if (code == ERR_TIMEOUT)
                                return sendring_fail(ring, SENDRING_E_TIMEOUT,
                                                     "the router has not taken everything yet");
                        if (code != ERR_DETACHED)
                                return sendring_fail_code(ring, code);
                        if (sendring_detached(ring))
                                continue; /* attached anew, at most twice a second: wait there */
                        result = SENDRING_E_DETACHED;
                }
                if (left_ns == 0)
                        return result;
                clock_nap_ns(left_ns < SENDRING_FLUSH_NAP_NS ? left_ns : SENDRING_FLUSH_NAP_NS);
        }
}

const char *sendring_error(struct sendring *ring)
{
        if (ring == NULL)
                return sendring_open_error[0] != '\0' ? sendring_open_error : "no error";
        return ring->error;
}

void sendring_get_stats(struct sendring *ring, struct sendring_stats *ret_stats)
{
        if (ret_stats == NULL || ret_stats->size < sizeof(ret_stats->size))
                return;
        struct sendring_stats stats = {.size = ret_stats->size};
        if (ring != NULL) {
                stats.published = ring->published;
                stats.full = ring->full;
                stats.invalid = ring->invalid;
                stats.wakeups = ring->producer.wakeups;
                stats.reattached = ring->reattached;
                stats.lane_bytes = ring->producer.lane_bytes;
                stats.used_bytes = ring_producer_used_bytes(&ring->producer);
        }
        size_t known = ret_stats->size < sizeof(stats) ? ret_stats->size : sizeof(stats);
        size_t size = ret_stats->size;
        memcpy(ret_stats, &stats, known);
        memset((char *)ret_stats + known, 0, size - known);
}
