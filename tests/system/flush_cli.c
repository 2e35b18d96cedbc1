/* Publishes and flushes for flush.py: PRODUCERS threads, each ROUNDS times one event and a flush of it. Prints one JSON
 * object: how long a flush took, and how many were made. */
#include "base/clock.h"
#include "sendring/sendring.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define FLUSH_PRODUCERS_MAX 64u
#define FLUSH_ROUNDS_MAX    10000u
#define FLUSH_TIMEOUT_MS    20000u

struct flush_producer {
        const char *socket_path;
        uint32_t index, rounds, failed;
        uint64_t *took_ns; /* [rounds] */
};

static void flush_event(struct sendring_event *event, char id[64], uint32_t producer, uint32_t round)
{
        static const struct sendring_str to = {.ptr = "someone@example.com", .len = 19};
        int64_t now_ms = clock_realtime_ms();
        int used = snprintf(id, 64, "0100019b7ca98f2e-%08x-%08x", producer, round);
        sendring_event_init(event, SENDRING_SEND);
        event->mail.message_id = sendring_strn(id, (size_t)used);
        event->mail.source = SENDRING_STR("sender@example.org");
        event->mail.destination.items = &to;
        event->mail.destination.count = 1;
        event->mail.timestamp_ms = now_ms;
        event->mail.configuration_set = SENDRING_STR("set-0");
}

static void *flush_main(void *argument)
{
        struct flush_producer *own = argument;
        const struct sendring_options options = {
                .size = sizeof(options), .socket_path = own->socket_path, .name = "flush", .timeout_ms = 5000};
        struct sendring *ring = NULL;
        if (sendring_open(&options, &ring) != SENDRING_OK) {
                own->failed = own->rounds;
                return NULL;
        }
        for (uint32_t round = 0; round < own->rounds; round++) {
                struct sendring_event event;
                char id[64];
                flush_event(&event, id, own->index, round);
                uint64_t begun_ns = clock_monotonic_ns();
                if (sendring_publish(ring, &event) != SENDRING_OK ||
                    sendring_flush(ring, FLUSH_TIMEOUT_MS) != SENDRING_OK) {
                        if (own->failed++ == 0)
                                (void)fprintf(stderr, "flush_cli: %s\n", sendring_error(ring));
                }
                own->took_ns[round] = clock_monotonic_ns() - begun_ns;
        }
        sendring_close(ring);
        return NULL;
}

static int flush_compare(const void *left, const void *right)
{
        uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
        return a < b ? -1 : a > b;
}

int main(int argc, char **argv)
{
        static struct flush_producer producers[FLUSH_PRODUCERS_MAX];
        static pthread_t threads[FLUSH_PRODUCERS_MAX];
        unsigned long long count = argc == 4 ? strtoull(argv[2], NULL, 10) : 0,
                           rounds = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
        if (count == 0 || count > FLUSH_PRODUCERS_MAX || rounds == 0 || rounds > FLUSH_ROUNDS_MAX) {
                (void)fprintf(stderr, "usage: flush_cli SOCKET PRODUCERS ROUNDS\n");
                return 64;
        }
        uint64_t *took_ns = calloc(count * rounds, sizeof(*took_ns));
        if (took_ns == NULL)
                return 1;
        for (uint32_t i = 0; i < count; i++) {
                producers[i] = (struct flush_producer){
                        .socket_path = argv[1],
                        .index = i,
                        .rounds = (uint32_t)rounds,
                        .took_ns = took_ns + i * rounds,
                };
                if (pthread_create(&threads[i], NULL, flush_main, &producers[i]) != 0)
                        return 1;
        }
        uint32_t failed = 0;
        for (uint32_t i = 0; i < count; i++) {
                (void)pthread_join(threads[i], NULL); /* a thread of ours, joined once */
                failed += producers[i].failed;
        }
        qsort(took_ns, count * rounds, sizeof(*took_ns), flush_compare);
        (void)printf("{\"flushes\":%llu,\"failed\":%u,\"median_us\":%llu,\"p90_us\":%llu,\"max_us\":%llu}\n",
                     count * rounds, failed, (unsigned long long)(took_ns[count * rounds / 2] / 1000),
                     (unsigned long long)(took_ns[count * rounds * 9 / 10] / 1000),
                     (unsigned long long)(took_ns[count * rounds - 1] / 1000));
        free(took_ns);
        return failed == 0 ? 0 : 1;
}
