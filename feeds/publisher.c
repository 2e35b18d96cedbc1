#include "feeds/publisher.h"

#include "base/clock.h"
#include "producer/replay.h"

#define PUBLISHER_NAP_MIN_NS (200 * CLOCK_NS_PER_US)
#define PUBLISHER_NAP_MAX_NS (20 * CLOCK_NS_PER_MS)

struct wait {
        struct publisher *publisher;
        uint64_t begun_ns, told_ns, nap_ns;
};

/* One turn of waiting. False: stopped. */
static bool publisher_wait(struct wait *wait, const char *why)
{
        const struct publisher_options *options = &wait->publisher->options;
        uint64_t now_ns = clock_monotonic_ns();
        if (wait->begun_ns == 0) {
                wait->begun_ns = wait->told_ns = now_ns;
                wait->nap_ns = PUBLISHER_NAP_MIN_NS;
        }
        if (*options->stop != 0)
                return false;
        if (now_ns - wait->told_ns >= CLOCK_NS_PER_S && options->waiting != NULL) {
                options->waiting(options->context, why, (now_ns - wait->begun_ns) / CLOCK_NS_PER_MS);
                wait->told_ns = now_ns;
        }
        clock_nap_ns(wait->nap_ns);
        wait->nap_ns = wait->nap_ns * 2 < PUBLISHER_NAP_MAX_NS ? wait->nap_ns * 2 : PUBLISHER_NAP_MAX_NS;
        return *options->stop == 0;
}

static void publisher_waited(struct wait *wait)
{
        if (wait->begun_ns == 0)
                return;
        wait->publisher->counts.waits++;
        wait->publisher->counts.waited_ms += (clock_monotonic_ns() - wait->begun_ns) / CLOCK_NS_PER_MS;
}

static enum err_code publisher_failure(int result)
{
        switch ((enum sendring_result)result) {
        case SENDRING_OK:
                return ERR_OK;
        case SENDRING_E_FULL:
                return ERR_FULL;
        case SENDRING_E_DETACHED:
                return ERR_DETACHED;
        case SENDRING_E_TIMEOUT:
                return ERR_TIMEOUT;
        case SENDRING_E_TOO_BIG:
                return ERR_TOO_BIG;
        case SENDRING_E_INVALID:
                return ERR_RANGE;
        case SENDRING_E_DENIED:
                return ERR_PERMISSION;
        case SENDRING_E_VERSION:
                return ERR_VERSION;
        case SENDRING_E_MEMORY:
                return ERR_MEMORY;
        case SENDRING_E_SYSTEM:
        case SENDRING_E_FORKED:
        case SENDRING_E_BUG:
                return ERR_SYSTEM;
        }
        return ERR_SYSTEM;
}

enum err_code publisher_open(struct publisher *publisher, const struct publisher_options *options, struct err *reterr)
{
        *publisher = (struct publisher){.options = *options};
        struct sendring_options ring = {
                .size = sizeof(ring), .socket_path = options->socket_path, .name = options->name};
        struct wait wait = {.publisher = publisher};
        for (;;) {
                int result = sendring_open(&ring, &publisher->ring);
                if (result == SENDRING_OK)
                        return ERR_OK;
                bool absent = result == SENDRING_E_DETACHED || result == SENDRING_E_TIMEOUT;
                if (!absent || !options->wait)
                        return err_set(reterr, publisher_failure(result), "attach to the router: %s",
                                       sendring_error(NULL));
                if (!publisher_wait(&wait, "the router is not there"))
                        return err_set(reterr, ERR_BUSY, "stopped while waiting for the router");
        }
}

void publisher_close(struct publisher *publisher)
{
        sendring_close(publisher->ring);
        publisher->ring = NULL;
}

/* Exactly one of `event` and `encoded` is given; with the latter perhaps where it comes from. */
static enum err_code publisher_publish(struct publisher *publisher, const struct sendring_event *event,
                                       const struct ring_replay *replay, struct slice encoded, struct err *reterr)
{
        struct wait wait = {.publisher = publisher};
        for (;;) {
                int result = replay != NULL  ? sendring_replay(publisher->ring, replay, encoded)
                             : event != NULL ? sendring_publish(publisher->ring, event)
                                             : sendring_publish_encoded(publisher->ring, encoded.ptr, encoded.len);
                if (result == SENDRING_OK) {
                        publisher_waited(&wait);
                        publisher->counts.published++;
                        return ERR_OK;
                }
                if (result != SENDRING_E_FULL && result != SENDRING_E_DETACHED)
                        return err_set(reterr, publisher_failure(result), "%s", sendring_error(publisher->ring));
                if (!publisher_wait(&wait, result == SENDRING_E_FULL ? "no room in the lane" : "the router is away"))
                        return err_set(reterr, ERR_BUSY, "stopped while waiting for room");
        }
}

enum err_code publisher_event(struct publisher *publisher, const struct sendring_event *event, struct err *reterr)
{
        return publisher_publish(publisher, event, NULL, SLICE_EMPTY, reterr);
}

enum err_code publisher_encoded(struct publisher *publisher, struct slice event, struct err *reterr)
{
        return publisher_publish(publisher, NULL, NULL, event, reterr);
}

enum err_code publisher_replay(struct publisher *publisher, const struct ring_replay *replay, struct slice event,
                               struct err *reterr)
{
        return publisher_publish(publisher, NULL, replay, event, reterr);
}

enum err_code publisher_flush(struct publisher *publisher, uint32_t timeout_ms, struct err *reterr)
{
        int result = sendring_flush(publisher->ring, timeout_ms);
        return result == SENDRING_OK
                       ? ERR_OK
                       : err_set(reterr, publisher_failure(result), "%s", sendring_error(publisher->ring));
}
