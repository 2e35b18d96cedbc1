#include "base/arena.h"
#include "base/clock.h"
#include "codecs/codec.h"
#include "sendring/sendring.h"
#include "tests/support/lane_daemon.h"
#include "tests/support/sanitizers.h"
#include "tools/loadgen_events.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------------------- without a lane */

Test(sendring, every_result_has_its_own_text, .timeout = 10)
{
        for (int i = SENDRING_E_BUG; i <= SENDRING_OK; i++)
                for (int j = SENDRING_E_BUG; j < i; j++)
                        cr_assert_str_neq(sendring_result_text(i), sendring_result_text(j));
        cr_assert_str_eq(sendring_result_text(1), "unknown result");
        cr_assert_str_eq(sendring_result_text(-100), "unknown result");
}

Test(sendring, event_init_gives_nothing_for_every_type, .timeout = 10)
{
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                memset(&event, 0xa5, sizeof(event));
                sendring_event_init(&event, (enum sendring_event_type)type);
                cr_assert_eq(event.size, sizeof(event));
                cr_assert_eq((int)event.type, type);
                cr_assert_eq(event.mail.timestamp_ms, SENDRING_NO_TIME);
                cr_assert_null(event.mail.message_id.ptr);
                cr_assert_eq(event.mail.tags.count, 0);
        }
        struct sendring_event event;
        sendring_event_init(&event, SENDRING_DELIVERY);
        cr_assert_eq(event.delivery.timestamp_ms, SENDRING_NO_TIME);
        cr_assert_eq(event.delivery.processing_time_millis, -1);
        sendring_event_init(&event, SENDRING_COMPLAINT);
        cr_assert_eq(event.complaint.arrival_date_ms, SENDRING_NO_TIME);
        sendring_event_init(&event, SENDRING_DELIVERY_DELAY);
        cr_assert_eq(event.delivery_delay.expiration_time_ms, SENDRING_NO_TIME);
        sendring_event_init(NULL, SENDRING_SEND);
}

Test(sendring, event_init_writes_no_byte_behind_the_callers_struct, .timeout = 10)
{
        enum { MOST = sizeof(struct sendring_event) + 64 };
        _Alignas(struct sendring_event) unsigned char bytes[MOST + 1];
        /* An older header has a shorter struct, a newer one a longer. */
        for (size_t size = offsetof(struct sendring_event, mail) + sizeof(struct sendring_mail); size <= MOST; size++) {
                memset(bytes, 0xa5, sizeof(bytes));
                struct sendring_event *event = (struct sendring_event *)(void *)bytes;
                sendring_event_init_sized(event, size, SENDRING_SEND);
                cr_assert_eq(event->size, size);
                cr_assert_eq(bytes[size], 0xa5);
                cr_assert_eq(bytes[size - 1], 0);
        }
}

Test(sendring, tags_are_parsed_or_refused, .timeout = 10)
{
        struct sendring_pair tags[4];
        cr_assert_eq(sendring_parse_message_tags(sendring_str("campaign=april, genre=sci-fi"), tags, 4), 2);
        cr_assert_eq(tags[0].name.len, 8);
        cr_assert_arr_eq(tags[1].value.ptr, "sci-fi", 6);
        cr_assert_eq(sendring_parse_message_tags(sendring_str("a=b,c=d,e=f"), tags, 2), SENDRING_E_INVALID);
        cr_assert_eq(sendring_parse_message_tags(sendring_str("no equals"), tags, 4), SENDRING_E_INVALID);
        cr_assert_eq(sendring_parse_message_tags(sendring_str("ses:x=y"), tags, 4), SENDRING_E_INVALID);
        cr_assert_eq(sendring_parse_link_tags(sendring_str("product:book;genre:fiction;"), tags, 4), 2);
        cr_assert_arr_eq(tags[1].value.ptr, "fiction", 7);
        cr_assert_eq(sendring_parse_link_tags(sendring_str("product"), tags, 4), SENDRING_E_INVALID);
        struct sendring_str set = {NULL, 0};
        cr_assert_eq(sendring_parse_configuration_set(sendring_str(" bulk-a"), &set), SENDRING_OK);
        cr_assert_eq(set.len, 6);
        cr_assert_eq(sendring_parse_configuration_set(sendring_str("bulk a"), &set), SENDRING_E_INVALID);
        char feedback[SENDRING_FEEDBACK_ID_BYTES];
        tags[0] = (struct sendring_pair){SENDRING_STR("ses:feedback-id-a"), SENDRING_STR("a")};
        struct sendring_pairs one = {tags, 1};
        cr_assert_eq(sendring_feedback_id(one, sendring_str("i"), sendring_str("sender"), feedback, sizeof(feedback)),
                     11);
        cr_assert_str_eq(feedback, "a::i:sender");
        cr_assert_eq(sendring_feedback_id(one, sendring_str("i"), sendring_str(NULL), feedback, 99),
                     SENDRING_E_INVALID);
        cr_assert_eq(sendring_feedback_id(one, sendring_str("i"), sendring_str("sender"), feedback, 11),
                     SENDRING_E_TOO_BIG);
}

static void check_id(const char *id, int64_t timestamp_ms)
{
        char start[18];
        (void)snprintf(start, sizeof(start), "0100%012llx-", (unsigned long long)timestamp_ms);
        cr_assert_eq(strlen(id), SENDRING_MESSAGE_ID_BYTES - 1);
        cr_assert_arr_eq(id, start, 17);
        cr_assert_str_eq(id + 53, "-000000");
}

Test(sendring, ids_without_a_handle_differ, .timeout = 10)
{
        char a[SENDRING_MESSAGE_ID_BYTES], b[SENDRING_MESSAGE_ID_BYTES];
        sendring_message_id(NULL, 1767323045678, a);
        sendring_message_id(NULL, 1767323045678, b);
        check_id(a, 1767323045678);
        check_id(b, 1767323045678);
        cr_assert_str_neq(a, b);
}

Test(sendring, open_says_why_it_failed, .timeout = 20)
{
        struct sendring *ring = (struct sendring *)(void *)&ring;
        struct sendring_options options = {.size = sizeof(options), .socket_path = "/nonexistent/x.sock"};
        cr_assert_eq(sendring_open(&options, &ring), SENDRING_E_DETACHED);
        cr_assert_null(ring);
        cr_assert_not_null(strstr(sendring_error(NULL), "/nonexistent/x.sock"), "%s", sendring_error(NULL));

        options.size = 4;
        cr_assert_eq(sendring_open(&options, &ring), SENDRING_E_INVALID);
        char path[200];
        memset(path, 'a', sizeof(path) - 1);
        path[sizeof(path) - 1] = '\0';
        options = (struct sendring_options){.size = sizeof(options), .socket_path = path};
        cr_assert_eq(sendring_open(&options, &ring), SENDRING_E_INVALID);
        cr_assert_eq(sendring_open(&options, NULL), SENDRING_E_INVALID);

        /* A newer header: what it does not set is fine, what it sets is not ignored. */
        struct {
                struct sendring_options options;
                uint64_t new_option;
        } newer = {{.size = sizeof(newer), .socket_path = "/nonexistent/x.sock"}, 0};
        cr_assert_eq(sendring_open(&newer.options, &ring), SENDRING_E_DETACHED);
        newer.new_option = 1;
        cr_assert_eq(sendring_open(&newer.options, &ring), SENDRING_E_INVALID);
}

Test(sendring, null_arguments_are_refused, .timeout = 10)
{
        struct sendring_event event;
        sendring_event_init(&event, SENDRING_SEND);
        cr_assert_eq(sendring_publish(NULL, &event), SENDRING_E_INVALID);
        cr_assert_eq(sendring_publish_many(NULL, &event, 1, NULL), SENDRING_E_INVALID);
        cr_assert_eq(sendring_publish_encoded(NULL, "x", 1), SENDRING_E_INVALID);
        cr_assert_eq(sendring_flush(NULL, 10), SENDRING_E_INVALID);
        sendring_close(NULL);
        struct sendring_stats stats = {.size = sizeof(stats), .published = 7};
        sendring_get_stats(NULL, &stats);
        cr_assert_eq(stats.published, 0);
        sendring_get_stats(NULL, NULL);
}

/* ---------------------------------------------------------------------------------------------- with a real daemon */

static const char *const test_sets[2] = {"set-0", "set-1"};

static struct loadgen_events *make_events(const char *mix, enum loadgen_size size)
{
        struct loadgen_events_options options = {
                .run_id = 1, .size = size, .seed = 5, .sets = test_sets, .sets_count = 2};
        cr_assert(loadgen_mix_parse(mix, options.permille));
        struct loadgen_events *events = loadgen_events_create(&options);
        cr_assert_not_null(events);
        return events;
}

/* What arrived, in order: the index of each loadgen event, and the bytes of the last record. */
struct inbox {
        uint64_t next;
        uint64_t wrong;
        uint64_t repeated;
        uint8_t last[SENDRING_EVENT_BYTES_MAX];
        size_t last_bytes;
};

static void inbox_take(void *context, struct slice record)
{
        struct inbox *inbox = context;
        memcpy(inbox->last, record.ptr, record.len);
        inbox->last_bytes = record.len;
        struct codec_view view;
        if (codec_view_decode(slice_of(inbox->last, record.len), &view, NULL) != ERR_OK || view.message_id.len != 60) {
                inbox->wrong++;
                return;
        }
        uint64_t index = strtoull((const char *)view.message_id.ptr + 41, NULL, 16);
        if (index < inbox->next)
                inbox->repeated++;
        else if (index > inbox->next)
                inbox->wrong++;
        if (index >= inbox->next)
                inbox->next = index + 1;
}

static struct lane_daemon *start_daemon(const char *name, struct inbox **ret_inbox, uint32_t lane_bytes)
{
        static struct lane_daemon daemon;
        static struct inbox inbox;
        memset(&daemon, 0, sizeof(daemon));
        memset(&inbox, 0, sizeof(inbox));
        lane_daemon_socket(&daemon, name);
        daemon.lane_bytes = lane_bytes;
        daemon.take = inbox_take;
        daemon.context = &inbox;
        cr_assert(lane_daemon_start(&daemon));
        *ret_inbox = &inbox;
        return &daemon;
}

static struct sendring *open_ring(const struct lane_daemon *daemon)
{
        struct sendring_options options = {.size = sizeof(options), .socket_path = daemon->socket_path, .name = "test"};
        struct sendring *ring = NULL;
        cr_assert_eq(sendring_open(&options, &ring), SENDRING_OK, "%s", sendring_error(NULL));
        cr_assert_not_null(ring);
        return ring;
}

static int publish_index(struct sendring *ring, struct loadgen_events *events, uint64_t index)
{
        uint32_t set;
        return sendring_publish(ring, loadgen_events_make(events, index, 1767323045678, &set));
}

/* Retries while the lane is full. */
static void publish_surely(struct sendring *ring, struct loadgen_events *events, uint64_t index)
{
        int result;
        while ((result = publish_index(ring, events, index)) == SENDRING_E_FULL)
                clock_nap_ns(100000);
        cr_assert_eq(result, SENDRING_OK, "%s: %s", sendring_result_text(result), sendring_error(ring));
}

static struct sendring_stats get_stats(struct sendring *ring)
{
        struct sendring_stats stats = {.size = sizeof(stats)};
        sendring_get_stats(ring, &stats);
        return stats;
}

Test(sendring, events_arrive_in_order_and_whole, .timeout = 60)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon("order", &inbox, 0);
        struct sendring *ring = open_ring(daemon);
        struct loadgen_events *events = make_events("all", LOADGEN_SIZE_LARGE);
        for (uint64_t i = 0; i < 20000; i++)
                publish_surely(ring, events, i);
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK, "%s", sendring_error(ring));
        cr_assert_eq(atomic_load(&daemon->records), 20000);
        cr_assert_eq(inbox->next, 20000);
        cr_assert_eq(inbox->wrong + inbox->repeated, 0);
        struct sendring_stats stats = get_stats(ring);
        cr_assert_eq(stats.published, 20000);
        cr_assert_eq(stats.used_bytes, 0);
        cr_assert_eq(stats.lane_bytes, 1024 * 1024);

        /* The last record is what the encoder alone makes of the last event. */
        static uint8_t expected[65536];
        size_t expected_bytes = 0;
        uint32_t set;
        const struct sendring_event *event = loadgen_events_make(events, 19999, 1767323045678, &set);
        cr_assert_eq(codec_event_encode(event, expected, sizeof(expected), &expected_bytes, NULL), ERR_OK);
        cr_assert_eq(inbox->last_bytes, expected_bytes);
        cr_assert_arr_eq(inbox->last, expected, expected_bytes);

        cr_assert_eq(sendring_publish_encoded(ring, expected, expected_bytes), SENDRING_OK);
        cr_assert_eq(sendring_publish_encoded(ring, expected, 0), SENDRING_E_INVALID);
        cr_assert_eq(sendring_publish_encoded(ring, NULL, 5), SENDRING_E_INVALID);
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        cr_assert_eq(inbox->repeated, 1);
        loadgen_events_free(events);
        sendring_close(ring);
        lane_daemon_stop(daemon, true);
}

Test(sendring, a_full_lane_says_so_at_once_and_takes_more_later, .timeout = 60)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon("full", &inbox, 65536);
        struct sendring *ring = open_ring(daemon);
        struct loadgen_events *events = make_events("standard", LOADGEN_SIZE_STANDARD);
        atomic_store(&daemon->paused, true);
        uint64_t index = 0;
        int result;
        while ((result = publish_index(ring, events, index)) == SENDRING_OK)
                index++;
        cr_assert_eq(result, SENDRING_E_FULL);
        cr_assert(index > 50 && index < 200, "%llu events in 64 KiB", (unsigned long long)index);
        uint64_t start_ns = clock_monotonic_ns();
        for (int i = 0; i < 1000; i++)
                cr_assert_eq(publish_index(ring, events, index), SENDRING_E_FULL);
        cr_assert_lt(clock_monotonic_ns() - start_ns, 100 * CLOCK_NS_PER_MS);
        cr_assert_eq(get_stats(ring).full, 1001);
        cr_assert_not_null(strstr(sendring_error(ring), "no room"));
        cr_assert_eq(sendring_flush(ring, 0), SENDRING_E_TIMEOUT);
        cr_assert_eq(sendring_flush(ring, 30), SENDRING_E_TIMEOUT);

        atomic_store(&daemon->paused, false);
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        publish_surely(ring, events, index);
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        cr_assert_eq(inbox->next, index + 1);
        cr_assert_eq(inbox->wrong + inbox->repeated, 0);
        loadgen_events_free(events);
        sendring_close(ring);
        lane_daemon_stop(daemon, true);
}

Test(sendring, publish_many_says_how_far_it_came, .timeout = 60)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon("many", &inbox, 65536);
        struct sendring *ring = open_ring(daemon);
        enum { COUNT = 300 };
        static struct sendring_event events[COUNT];
        static char ids[COUNT][SENDRING_MESSAGE_ID_BYTES];
        struct sendring_str to = SENDRING_STR("ana@recipient.example");
        for (unsigned i = 0; i < COUNT; i++) {
                (void)snprintf(ids[i], sizeof(ids[i]), "0100019b7ca98f2e-00000001-0000-4e76-a11d-%012x-000000", i);
                sendring_event_init(&events[i], SENDRING_SEND);
                events[i].mail.timestamp_ms = 1767323045678;
                events[i].mail.message_id = sendring_str(ids[i]);
                events[i].mail.source = SENDRING_STR("news@mail.example.com");
                events[i].mail.destination = (struct sendring_strs){&to, 1};
        }
        size_t published = 99;
        cr_assert_eq(sendring_publish_many(ring, events, 0, &published), SENDRING_OK);
        cr_assert_eq(published, 0);
        cr_assert_eq(sendring_publish_many(ring, NULL, 1, &published), SENDRING_E_INVALID);

        /* An invalid one in the middle: those before it are in, it and the rest are not. */
        events[10].mail.message_id = (struct sendring_str){NULL, 0};
        cr_assert_eq(sendring_publish_many(ring, events, 20, &published), SENDRING_E_INVALID);
        cr_assert_eq(published, 10);
        cr_assert_not_null(strstr(sendring_error(ring), "messageId"), "%s", sendring_error(ring));
        cr_assert_eq(get_stats(ring).invalid, 2); /* this one, and NULL above */
        events[10].mail.message_id = sendring_str(ids[10]);
        cr_assert_eq(sendring_publish_many(ring, events + 10, 10, NULL), SENDRING_OK);
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        cr_assert_eq(inbox->next, 20);

        events[30].size = 8;
        cr_assert_eq(sendring_publish_many(ring, events + 20, 20, &published), SENDRING_E_INVALID);
        cr_assert_eq(published, 10);
        events[30].size = sizeof(events[30]);

        /* More than the lane holds: in turns, without one lost or doubled. */
        atomic_store(&daemon->paused, true);
        size_t done = 30;
        int result = sendring_publish_many(ring, events + done, COUNT - done, &published);
        done += published;
        if (result == SENDRING_OK) { /* all fit: fill up */
                cr_assert_eq(done, COUNT);
        } else {
                cr_assert_eq(result, SENDRING_E_FULL);
        }
        atomic_store(&daemon->paused, false);
        while (done < COUNT) {
                (void)sendring_publish_many(ring, events + done, COUNT - done, &published);
                done += published;
        }
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        cr_assert_eq(inbox->next, COUNT);
        cr_assert_eq(inbox->wrong + inbox->repeated, 0);
        cr_assert_eq(get_stats(ring).published, COUNT);
        sendring_close(ring);
        lane_daemon_stop(daemon, true);
}

Test(sendring, large_events_fit_by_their_size_not_their_bound, .timeout = 60)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon("large", &inbox, 65536);
        struct sendring *ring = open_ring(daemon);
        struct sendring_str to = SENDRING_STR("ana@recipient.example");
        static char text[300000];
        memset(text, 'x', sizeof(text));
        struct sendring_event event;
        sendring_event_init(&event, SENDRING_RENDERING_FAILURE);
        event.mail.timestamp_ms = 1767323045678;
        event.mail.message_id = SENDRING_STR("0100019b7ca98f2e-00000001-0000-4e76-a11d-000000000000-000000");
        event.mail.source = SENDRING_STR("news@mail.example.com");
        event.mail.destination = (struct sendring_strs){&to, 1};
        event.failure.template_name = SENDRING_STR("t");
        /* Up to half the lane, less the record's header. Step through the sizes around the limit of the bound. */
        uint64_t beside = 0;
        for (size_t len = 32000; len < 32768; len++) {
                event.failure.error_message = sendring_strn(text, len);
                size_t bytes = 0;
                static uint8_t out[65536];
                cr_assert_eq(codec_event_encode(&event, out, sizeof(out), &bytes, NULL), ERR_OK);
                int result = sendring_publish(ring, &event);
                cr_assert_eq(result, bytes <= 32760 ? SENDRING_OK : SENDRING_E_TOO_BIG, "%zu bytes: %d %s", bytes,
                             result, sendring_error(ring));
                beside += result == SENDRING_OK && codec_event_size_max(&event) > 32760;
                if (result == SENDRING_OK) {
                        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
                        cr_assert_eq(inbox->last_bytes, bytes);
                        cr_assert_arr_eq(inbox->last, out, bytes);
                }
        }
        cr_assert_gt(beside, 0, "the bound was never larger than the event");
        event.failure.error_message = sendring_strn(text, sizeof(text));
        cr_assert_eq(sendring_publish(ring, &event), SENDRING_E_TOO_BIG);
        event.failure.error_message = sendring_strn(text, SIZE_MAX / 2);
        cr_assert_eq(sendring_publish(ring, &event), SENDRING_E_TOO_BIG);
        cr_assert_eq(sendring_publish_encoded(ring, text, 32761), SENDRING_E_TOO_BIG);
        cr_assert_eq(sendring_publish_encoded(ring, text, SIZE_MAX), SENDRING_E_TOO_BIG);
        event.failure.error_message = SENDRING_STR("short");
        cr_assert_eq(sendring_publish(ring, &event), SENDRING_OK);
        sendring_close(ring);
        lane_daemon_stop(daemon, true);
}

Test(sendring, a_child_is_told_and_harms_nothing, .timeout = 60)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon("fork", &inbox, 0);
        struct sendring *ring = open_ring(daemon);
        struct loadgen_events *events = make_events("standard", LOADGEN_SIZE_STANDARD);
        char id[SENDRING_MESSAGE_ID_BYTES];
        sendring_message_id(ring, 1, id); /* seeded before the fork: the child must not repeat the parent's ids */
        publish_surely(ring, events, 0);
        int pipe_fds[2];
        cr_assert_eq(pipe(pipe_fds), 0);
        pid_t pid = fork();
        if (pid == 0) {
                int status = 0;
                size_t published = 5;
                status |= (publish_index(ring, events, 1) != SENDRING_E_FORKED) << 0;
                status |= (sendring_publish_encoded(ring, "x", 1) != SENDRING_E_FORKED) << 1;
                status |= (sendring_flush(ring, 1000) != SENDRING_E_FORKED) << 2;
                uint32_t set;
                status |= (sendring_publish_many(ring, loadgen_events_make(events, 1, 1, &set), 1, &published) !=
                                   SENDRING_E_FORKED ||
                           published != 0)
                          << 3;
                sendring_message_id(ring, 1, id);
                status |= (write(pipe_fds[1], id, sizeof(id)) != sizeof(id)) << 4;
                status |= (strstr(sendring_error(ring), "parent") == NULL) << 5;
                sendring_close(ring);
                _exit(status);
        }
        cr_assert_gt(pid, 0);
        char child_id[SENDRING_MESSAGE_ID_BYTES];
        cr_assert_eq(read(pipe_fds[0], child_id, sizeof(child_id)), (ssize_t)sizeof(child_id));
        int status = -1;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFEXITED(status), "child ended by %d", status);
        cr_assert_eq(WEXITSTATUS(status), 0, "child's checks: %x", WEXITSTATUS(status));
        sendring_message_id(ring, 1, id);
        cr_assert_str_neq(id, child_id);

        for (uint64_t i = 1; i < 5000; i++)
                publish_surely(ring, events, i);
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        cr_assert_eq(inbox->next, 5000);
        cr_assert_eq(inbox->wrong + inbox->repeated, 0);
        loadgen_events_free(events);
        sendring_close(ring);
        lane_daemon_stop(daemon, true);
}

/* ---- the service goes away and comes back */

static void check_restart(const char *name, bool orderly)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon(name, &inbox, 65536);
        struct sendring *ring = open_ring(daemon);
        struct loadgen_events *events = make_events("standard", LOADGEN_SIZE_STANDARD);
        uint64_t index = 0;
        for (; index < 1000; index++)
                publish_surely(ring, events, index);
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        atomic_store(&daemon->paused, true);
        for (; index < 1040; index++) /* waiting in the lane when the service goes */
                publish_surely(ring, events, index);
        lane_daemon_stop(daemon, orderly);

        /* No service: the calls return at once, whatever they say, and an accepted event counts. */
        uint64_t start_ns = clock_monotonic_ns();
        uint64_t refused = 0;
        while (clock_monotonic_ns() - start_ns < 1200 * CLOCK_NS_PER_MS) {
                uint64_t before_ns = clock_monotonic_ns();
                int result = publish_index(ring, events, index);
                cr_assert_lt(clock_monotonic_ns() - before_ns, 500 * CLOCK_NS_PER_MS);
                if (result == SENDRING_OK) {
                        index++;
                } else {
                        cr_assert(result == SENDRING_E_FULL || result == SENDRING_E_DETACHED);
                        refused++;
                }
                clock_nap_ns(CLOCK_NS_PER_MS);
        }
        cr_assert_gt(refused, 0);
        cr_assert_eq(sendring_flush(ring, 50), SENDRING_E_DETACHED);

        daemon->paused = false;
        cr_assert(lane_daemon_start(daemon));
        start_ns = clock_monotonic_ns();
        int result;
        while ((result = publish_index(ring, events, index)) != SENDRING_OK) {
                cr_assert(result == SENDRING_E_FULL || result == SENDRING_E_DETACHED, "%s", sendring_error(ring));
                cr_assert_lt(clock_monotonic_ns() - start_ns, 5 * CLOCK_NS_PER_S, "%s", sendring_error(ring));
                clock_nap_ns(CLOCK_NS_PER_MS);
        }
        for (index++; index < 4000; index++)
                publish_surely(ring, events, index);
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        cr_assert_eq(inbox->next, 4000);
        cr_assert_eq(inbox->wrong, 0, "lost or out of order");
        cr_assert_eq(inbox->repeated, 0);
        struct sendring_stats stats = get_stats(ring);
        cr_assert_eq(stats.reattached, 1);
        cr_assert_eq(stats.published, 4000);
        loadgen_events_free(events);
        sendring_close(ring);
        lane_daemon_stop(daemon, true);
}

Test(sendring, nothing_is_lost_over_an_orderly_restart_of_the_service, .timeout = 60)
{
        check_restart("orderly", true);
}

Test(sendring, nothing_is_lost_over_a_crash_of_the_service, .timeout = 60)
{
        check_restart("crash", false);
}

Test(sendring, a_slow_producer_notices_a_silent_death_before_the_lane_is_full, .timeout = 60)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon("slow", &inbox, 1024 * 1024);
        struct sendring *ring = open_ring(daemon);
        struct loadgen_events *events = make_events("standard", LOADGEN_SIZE_STANDARD);
        uint64_t index = 0;
        for (; index < 100; index++)
                publish_surely(ring, events, index);
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        lane_daemon_stop(daemon, false);
        cr_assert(lane_daemon_start(daemon));
        uint64_t start_ns = clock_monotonic_ns();
        while (get_stats(ring).reattached == 0) {
                publish_surely(ring, events, index++);
                clock_nap_ns(20 * CLOCK_NS_PER_MS);
                cr_assert_lt(clock_monotonic_ns() - start_ns, 10 * CLOCK_NS_PER_S);
        }
        cr_assert_lt(index, 300);
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        cr_assert_eq(inbox->next, index);
        cr_assert_eq(inbox->wrong + inbox->repeated, 0);
        loadgen_events_free(events);
        sendring_close(ring);
        lane_daemon_stop(daemon, true);
}

Test(sendring, flush_and_close_find_the_new_service, .timeout = 60)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon("closing", &inbox, 0);
        struct sendring *ring = open_ring(daemon);
        struct sendring *other = open_ring(daemon);
        struct loadgen_events *events = make_events("standard", LOADGEN_SIZE_STANDARD);
        atomic_store(&daemon->paused, true);
        publish_surely(ring, events, 0);
        publish_surely(other, events, 1);
        lane_daemon_stop(daemon, false);
        daemon->paused = false;
        cr_assert(lane_daemon_start(daemon));
        cr_assert_eq(sendring_flush(ring, 10000), SENDRING_OK);
        cr_assert_eq(inbox->next, 1);
        sendring_close(other);
        uint64_t start_ns = clock_monotonic_ns();
        while (atomic_load(&daemon->records) < 2 && clock_monotonic_ns() - start_ns < 5 * CLOCK_NS_PER_S)
                clock_nap_ns(CLOCK_NS_PER_MS);
        cr_assert_eq(atomic_load(&daemon->records), 2);
        loadgen_events_free(events);
        sendring_close(ring);
        lane_daemon_stop(daemon, true);
}

Test(sendring, close_leaves_all_to_a_service_of_smaller_lanes, .timeout = 60)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon("smaller", &inbox, 0);
        struct sendring *ring = open_ring(daemon);
        struct loadgen_events *events = make_events("standard", LOADGEN_SIZE_STANDARD);
        atomic_store(&daemon->paused, true);
        uint64_t published = 0;
        while (publish_index(ring, events, published) == SENDRING_OK)
                published++;
        uint64_t used_bytes = get_stats(ring).used_bytes;
        cr_assert_gt(used_bytes, 8 * 65536);
        lane_daemon_stop(daemon, false);
        daemon->paused = false;
        daemon->lane_bytes = 65536;
        daemon->lane_bytes_max = 65536;
        cr_assert(lane_daemon_start(daemon));
        sendring_close(ring);
        uint64_t start_ns = clock_monotonic_ns();
        while (atomic_load(&daemon->records) < published && clock_monotonic_ns() - start_ns < 5 * CLOCK_NS_PER_S)
                clock_nap_ns(CLOCK_NS_PER_MS);
        cr_assert_eq(atomic_load(&daemon->records), published);
        cr_assert_eq(inbox->next, published);
        cr_assert_eq(inbox->wrong + inbox->repeated, 0);
        loadgen_events_free(events);
        lane_daemon_stop(daemon, true);
}

/* ---- what publishing does not do */

#if !SANITIZER_ADDRESS

Test(sendring, publishing_allocates_nothing, .timeout = 60)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon("alloc", &inbox, 0);
        struct sendring *ring = open_ring(daemon);
        struct loadgen_events *events = make_events("standard", LOADGEN_SIZE_STANDARD);
        publish_surely(ring, events, 0);
        struct mallinfo2 before = mallinfo2();
        for (uint64_t i = 1; i < 100000; i++)
                publish_surely(ring, events, i);
        struct mallinfo2 after = mallinfo2();
        cr_assert_eq(before.uordblks, after.uordblks);
        cr_assert_eq(before.fordblks, after.fordblks);
        cr_assert_eq(before.hblkhd, after.hblkhd);
        loadgen_events_free(events);
        sendring_close(ring);
        lane_daemon_stop(daemon, true);
}

#ifdef __x86_64__

/* Any system call but exit_group kills the process from here on. */
static bool forbid_system_calls(void)
{
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 2),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* In a child: attaches, then publishes `count` events, or makes one call of its own, without any system call. */
static int run_forbidden(const char *socket_path, uint64_t count, bool break_the_rule)
{
        pid_t pid = fork();
        if (pid == 0) {
                struct sendring_options options = {.size = sizeof(options), .socket_path = socket_path};
                struct sendring *ring;
                struct loadgen_events *events = make_events("standard", LOADGEN_SIZE_STANDARD);
                if (sendring_open(&options, &ring) != SENDRING_OK || publish_index(ring, events, 0) != SENDRING_OK ||
                    !forbid_system_calls())
                        syscall(SYS_exit_group, 2);
                if (break_the_rule)
                        (void)syscall(SYS_getppid);
                for (uint64_t i = 1; i < count;) {
                        int result = publish_index(ring, events, i);
                        if (result == SENDRING_OK)
                                i++;
                        else if (result != SENDRING_E_FULL)
                                syscall(SYS_exit_group, 3);
                }
                syscall(SYS_exit_group, 0);
        }
        int status = -1;
        return waitpid(pid, &status, 0) == pid ? status : -1;
}

Test(sendring, publishing_makes_no_system_call, .timeout = 120)
{
        struct inbox *inbox;
        struct lane_daemon *daemon = start_daemon("seccomp", &inbox, 0);
        /* The daemon's thread drains without ever sleeping on its bed. The producer is told FULL now and then. */
        int status = run_forbidden(daemon->socket_path, 100000, false);
        cr_assert(WIFEXITED(status), "a system call ended the producer (signal %d)", WTERMSIG(status));
        cr_assert_eq(WEXITSTATUS(status), 0);
        uint64_t start_ns = clock_monotonic_ns();
        while (atomic_load_explicit(&daemon->records, memory_order_acquire) < 100000 &&
               clock_monotonic_ns() - start_ns < 10 * CLOCK_NS_PER_S)
                clock_nap_ns(CLOCK_NS_PER_MS);
        cr_assert_eq(atomic_load(&daemon->records), 100000);
        cr_assert_eq(inbox->wrong + inbox->repeated, 0);

        /* And the trap works. */
        status = run_forbidden(daemon->socket_path, 10, true);
        cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "the filter lets a system call pass");
        lane_daemon_stop(daemon, true);
}
#endif
#endif
