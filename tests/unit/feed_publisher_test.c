/* The feeds' way of publishing, against real lanes: it waits where a mail path would go on, and ends when told to. */
#include "codecs/codec.h"
#include "feeds/publisher.h"
#include "tests/support/lane_daemon.h"

#include <criterion/criterion.h>

static volatile sig_atomic_t stopped;
static _Atomic uint32_t told;
static const char *told_why;
static uint64_t told_ms;

static void waiting(void *context, const char *why, uint64_t waited_ms)
{
        cr_assert_eq(context, &stopped);
        told_why = why;
        told_ms = waited_ms;
        atomic_fetch_add(&told, 1);
}

static struct publisher_options options_of(const struct lane_daemon *daemon, bool wait)
{
        return (struct publisher_options){.socket_path = daemon->socket_path,
                                          .name = "test",
                                          .wait = wait,
                                          .stop = &stopped,
                                          .context = (void *)(uintptr_t)&stopped,
                                          .waiting = waiting};
}

static struct sendring_event event_of(const char *id)
{
        static const struct sendring_str recipient = {"a@b.example", 11};
        struct sendring_event event;
        sendring_event_init(&event, SENDRING_SEND);
        event.mail.message_id = sendring_str(id);
        event.mail.timestamp_ms = INT64_C(1795438800000);
        event.mail.source = SENDRING_STR("news@mail.example");
        event.mail.destination = (struct sendring_strs){&recipient, 1};
        return event;
}

/* Another thread that does one thing a little later. */
struct act {
        pthread_t thread;
        struct lane_daemon *daemon;
        void (*act)(struct lane_daemon *daemon);
        uint64_t after_ns;
};

static void *act_main(void *argument)
{
        struct act *act = argument;
        clock_nap_ns(act->after_ns);
        act->act(act->daemon);
        return NULL;
}

static void act_later(struct act *act, struct lane_daemon *daemon, uint64_t after_ms,
                      void (*what)(struct lane_daemon *))
{
        *act = (struct act){.daemon = daemon, .act = what, .after_ns = after_ms * CLOCK_NS_PER_MS};
        cr_assert_eq(pthread_create(&act->thread, NULL, act_main, act), 0);
}

static void daemon_comes(struct lane_daemon *daemon)
{
        cr_assert(lane_daemon_start(daemon));
}

static void daemon_goes_on(struct lane_daemon *daemon)
{
        atomic_store(&daemon->paused, false);
}

static void stop_asked(struct lane_daemon *daemon)
{
        (void)daemon;
        stopped = 1;
}

Test(feed_publisher, without_a_router_it_says_so_or_waits, .timeout = 60)
{
        struct lane_daemon daemon = {0};
        struct publisher publisher;
        struct act act;
        struct err err;
        lane_daemon_socket(&daemon, "publisher-open");
        struct publisher_options options = options_of(&daemon, false);
        cr_assert_eq(publisher_open(&publisher, &options, &err), ERR_DETACHED);
        cr_assert_not_null(strstr(err.text, "attach to the router"), "%s", err.text);

        options.wait = true;
        act_later(&act, &daemon, 50, stop_asked);
        cr_assert_eq(publisher_open(&publisher, &options, &err), ERR_BUSY);
        cr_assert_not_null(strstr(err.text, "stopped while waiting for the router"), "%s", err.text);
        cr_assert_eq(pthread_join(act.thread, NULL), 0);

        stopped = 0;
        act_later(&act, &daemon, 1300, daemon_comes);
        cr_assert_eq(publisher_open(&publisher, &options, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(pthread_join(act.thread, NULL), 0);
        cr_assert_geq(atomic_load(&told), 1, "told once a second");
        cr_assert_str_eq(told_why, "the router is not there");
        cr_assert(told_ms >= 1000 && told_ms < 30000, "%llu", (unsigned long long)told_ms);
        publisher_close(&publisher);
        lane_daemon_stop(&daemon, true);
}

Test(feed_publisher, what_is_published_is_counted_and_taken, .timeout = 60)
{
        struct lane_daemon daemon = {0};
        struct publisher publisher;
        struct err err;
        lane_daemon_socket(&daemon, "publisher-count");
        cr_assert(lane_daemon_start(&daemon));
        struct publisher_options options = options_of(&daemon, false);
        cr_assert_eq(publisher_open(&publisher, &options, &err), ERR_OK, "%s", err.text);
        struct sendring_event event = event_of("one");
        cr_assert_eq(publisher_event(&publisher, &event, &err), ERR_OK, "%s", err.text);
        static uint8_t encoded[SENDRING_EVENT_BYTES_MAX + 1];
        size_t bytes;
        event = event_of("two");
        cr_assert_eq(codec_event_encode(&event, encoded, SENDRING_EVENT_BYTES_MAX, &bytes, &err), ERR_OK);
        cr_assert_eq(publisher_encoded(&publisher, slice_of(encoded, bytes), &err), ERR_OK, "%s", err.text);
        /* What will never be taken is told at once, and not counted. */
        event.mail.message_id = SENDRING_STR("");
        cr_assert_eq(publisher_event(&publisher, &event, &err), ERR_RANGE, "%s", err.text);
        cr_assert_eq(publisher_encoded(&publisher, slice_of(encoded, sizeof(encoded)), &err), ERR_TOO_BIG, "%s",
                     err.text);
        cr_assert_eq(publisher_flush(&publisher, 10000, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(atomic_load(&daemon.records), 2);
        cr_assert_eq(publisher.counts.published, 2);
        cr_assert_eq(publisher.counts.waits, 0);
        publisher_close(&publisher);
        cr_assert_null(publisher.ring);
        lane_daemon_stop(&daemon, true);
}

Test(feed_publisher, a_full_lane_is_waited_for, .timeout = 60)
{
        struct lane_daemon daemon = {.lane_bytes = 64 * 1024};
        struct publisher publisher;
        struct act act;
        struct err err;
        lane_daemon_socket(&daemon, "publisher-full");
        atomic_store(&daemon.paused, true);
        cr_assert(lane_daemon_start(&daemon));
        struct publisher_options options = options_of(&daemon, false);
        cr_assert_eq(publisher_open(&publisher, &options, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(publisher_flush(&publisher, 50, &err), ERR_OK, "nothing to flush");
        struct sendring_event event = event_of("one of many");
        act_later(&act, &daemon, 1300, daemon_goes_on);
        for (uint32_t i = 0; i < 2000; i++)
                cr_assert_eq(publisher_event(&publisher, &event, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(pthread_join(act.thread, NULL), 0);
        cr_assert_eq(publisher_flush(&publisher, 10000, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(atomic_load(&daemon.records), 2000);
        cr_assert_eq(publisher.counts.published, 2000);
        cr_assert_geq(publisher.counts.waits, 1);
        cr_assert_geq(publisher.counts.waited_ms, 500);
        cr_assert_geq(atomic_load(&told), 1);
        cr_assert_str_eq(told_why, "no room in the lane");

        /* Stopped while it waits: that event is not published, and not counted. */
        atomic_store(&daemon.paused, true);
        act_later(&act, &daemon, 200, stop_asked);
        enum err_code code = ERR_OK;
        uint64_t published = 2000;
        for (; code == ERR_OK; published += code == ERR_OK)
                code = publisher_event(&publisher, &event, &err);
        cr_assert_eq(code, ERR_BUSY);
        cr_assert_not_null(strstr(err.text, "stopped while waiting for room"), "%s", err.text);
        cr_assert_eq(publisher.counts.published, published);
        cr_assert_eq(publisher_flush(&publisher, 50, &err), ERR_TIMEOUT, "nobody drains");
        cr_assert_eq(pthread_join(act.thread, NULL), 0);
        atomic_store(&daemon.paused, false);
        cr_assert_eq(publisher_flush(&publisher, 10000, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(atomic_load(&daemon.records), published);
        publisher_close(&publisher);
        lane_daemon_stop(&daemon, true);
}

Test(feed_publisher, a_router_that_goes_away_is_waited_for, .timeout = 60)
{
        struct lane_daemon daemon = {.lane_bytes = 64 * 1024};
        struct publisher publisher;
        struct act act;
        struct err err;
        lane_daemon_socket(&daemon, "publisher-away");
        cr_assert(lane_daemon_start(&daemon));
        struct publisher_options options = options_of(&daemon, true);
        cr_assert_eq(publisher_open(&publisher, &options, &err), ERR_OK, "%s", err.text);
        struct sendring_event event = event_of("one of many");
        for (uint32_t i = 0; i < 100; i++)
                cr_assert_eq(publisher_event(&publisher, &event, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(publisher_flush(&publisher, 10000, &err), ERR_OK, "%s", err.text);
        lane_daemon_stop(&daemon, true);
        act_later(&act, &daemon, 1300, daemon_comes);
        for (uint32_t i = 0; i < 2000; i++)
                cr_assert_eq(publisher_event(&publisher, &event, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(pthread_join(act.thread, NULL), 0);
        cr_assert_eq(publisher_flush(&publisher, 10000, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(atomic_load(&daemon.records), 2100);
        cr_assert_eq(publisher.counts.published, 2100);
        cr_assert_str_eq(told_why, "the router is away");
        publisher_close(&publisher);
        lane_daemon_stop(&daemon, true);
}
