/* Producer threads and a shard thread over lanes that both sides reach through ONE mapping, so that the thread
 * sanitizer sees every access (it is blind between two mappings of one memory). The shard sleeps and is woken all the
 * time, with a timeout so long that a lost wake-up would stop the run; producers flush now and then.
 *
 * Checks: order and content of every record, nothing lost at the end, no lost wake-up, no violation.
 *
 * usage: ring_stress SECONDS */
#include "base/clock.h"
#include "base/random.h"
#include "ring/ring.h"
#include "ring/ring_internal.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define PRODUCERS     3
#define BYTES_MAX     900
#define LOST_SLEEP_NS (10 * CLOCK_NS_PER_S)

struct seat {
        struct ring_lane *lane;
        struct ring_producer producer;
        pthread_t thread;
        uint64_t published; /* read after the thread is joined */
        uint64_t flushes;
        uint64_t next; /* the shard's: number of the next record */
};

static _Atomic bool stop;
static _Atomic uint32_t faults;

static void fault(const char *what)
{
        if (atomic_fetch_add(&faults, 1) < 10)
                fprintf(stderr, "ring_stress: %s\n", what);
}

static void *run_producer(void *context)
{
        struct seat *seat = context;
        struct random_state random;
        uint8_t *payload;
        random_init(&random, 0);
        while (!atomic_load(&stop)) {
                uint64_t bulk = 1 + (random_below(&random, 4) == 0 ? random_below(&random, 16) : 0);
                for (uint64_t i = 0; i < bulk; i++) {
                        uint32_t reserved = 8 + (uint32_t)random_below(&random, BYTES_MAX - 8);
                        enum err_code code = ring_reserve(&seat->producer, reserved, &payload);
                        if (code == ERR_FULL)
                                break;
                        if (code != ERR_OK) {
                                fault("reserve failed");
                                return NULL;
                        }
                        uint32_t length = 8 + (uint32_t)random_below(&random, reserved - 8 + 1);
                        memcpy(payload, &seat->published, 8);
                        memset(payload + 8, (int)(seat->published & 0xff), length - 8);
                        if (ring_stage(&seat->producer, length) != ERR_OK)
                                fault("stage failed");
                        seat->published++;
                }
                if (ring_publish_staged(&seat->producer) != ERR_OK)
                        fault("publish failed");
                if (random_below(&random, 12) == 0) { /* long enough for the shard to fall asleep */
                        if (random_below(&random, 2) == 0) {
                                if (ring_producer_wait(&seat->producer, 8000) != ERR_OK)
                                        fault("flush: a wake-up was lost, or nobody took the records");
                                seat->flushes++;
                        } else {
                                clock_nap_ns(random_below(&random, 2000) * CLOCK_NS_PER_US);
                        }
                }
        }
        return NULL;
}

static bool visit(struct seat *seat)
{
        static uint8_t copy[BYTES_MAX];
        struct slice payload;
        uint64_t position;
        uint64_t number;
        if (ring_visit_begin(seat->lane) == 0)
                return false;
        while (ring_visit_next(seat->lane, &payload, &position)) {
                if (payload.len < 8 || payload.len > sizeof(copy)) {
                        fault("a record has a wrong length");
                        continue;
                }
                memcpy(copy, payload.ptr, payload.len);
                memcpy(&number, copy, 8);
                if (number != seat->next)
                        fault("a record is out of order");
                seat->next = number + 1;
                for (size_t i = 8; i < payload.len; i++) {
                        if (copy[i] != (uint8_t)number) {
                                fault("a record has wrong content");
                                break;
                        }
                }
        }
        ring_visit_end(seat->lane);
        return true;
}

static bool visit_all(struct seat *seats)
{
        bool busy = false;
        for (int i = 0; i < PRODUCERS; i++)
                busy |= visit(&seats[i]);
        return busy;
}

struct shard {
        struct seat *seats;
        struct ring_bed *bed;
        uint64_t sleeps;
        _Atomic bool stop;
};

static void *run_shard(void *context)
{
        struct shard *shard = context;
        while (!atomic_load(&shard->stop)) {
                if (visit_all(shard->seats))
                        continue;
                ring_bed_prepare(shard->bed);
                if (visit_all(shard->seats) || atomic_load(&shard->stop)) {
                        ring_bed_cancel(shard->bed);
                        continue;
                }
                shard->sleeps++;
                if (!ring_bed_wait(shard->bed, LOST_SLEEP_NS))
                        fault("the shard slept to its timeout: a wake-up was lost");
        }
        return NULL;
}

int main(int argc, char **argv)
{
        static struct seat seats[PRODUCERS];
        double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;
        struct shard shard = {.seats = seats};
        struct err err;
        if (ring_bed_create(&shard.bed, &err) != ERR_OK) {
                fprintf(stderr, "ring_stress: %s\n", err.text);
                return 2;
        }
        bool fenced = (ring_bed_page_of(shard.bed)->flags & RING_BED_FENCED) != 0;
        for (int i = 0; i < PRODUCERS; i++) {
                struct seat *seat = &seats[i];
                if (ring_lane_create((uint64_t)i + 1, LIMIT_LANE_BYTES_MIN, false, &seat->lane, &err) != ERR_OK) {
                        fprintf(stderr, "ring_stress: %s\n", err.text);
                        return 2;
                }
                seat->lane->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                if (ring_bed_add_bell(shard.bed, seat->lane->bell_fd, &err) != ERR_OK) {
                        fprintf(stderr, "ring_stress: %s\n", err.text);
                        return 2;
                }
                /* What ring_producer_attach() does, over the daemon's own mappings. The thread sanitizer does not know
                 * membarrier; one of the producers always fences, the others do as the machine allows. */
                int pair[2];
                if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                        return 2;
                seat->producer = (struct ring_producer){
                        .head_page = seat->lane->map,
                        .data = seat->lane->data,
                        .daemon_page = (const uint8_t *)seat->lane->page,
                        .bed_page = (const uint8_t *)ring_bed_page_of(shard.bed),
                        .lane_bytes = seat->lane->lane_bytes,
                        .payload_bytes_max = seat->lane->payload_bytes_max,
                        .fenced = fenced || i == 0 ||
                                  syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) != 0,
                        .connection_fd = pair[0],
                        .bell_fd = seat->lane->bell_fd,
                        .connection_identity = ring_identity_of(pair[0]),
                        .bell_identity = ring_identity_of(seat->lane->bell_fd),
                        .lane_id = (uint64_t)i + 1,
                };
        }
        pthread_t shard_thread;
        int failed = pthread_create(&shard_thread, NULL, run_shard, &shard);
        for (int i = 0; i < PRODUCERS; i++)
                failed |= pthread_create(&seats[i].thread, NULL, run_producer, &seats[i]);
        if (failed != 0)
                return 2;
        clock_sleep_ns((uint64_t)(seconds * 1e9));
        atomic_store(&stop, true);
        uint64_t published = 0;
        uint64_t flushes = 0;
        uint64_t wakeups = 0;
        uint64_t full = 0;
        for (int i = 0; i < PRODUCERS; i++) {
                (void)pthread_join(seats[i].thread, NULL);
                if (ring_producer_wait(&seats[i].producer, 8000) != ERR_OK)
                        fault("the last flush failed");
                published += seats[i].published;
                flushes += seats[i].flushes;
                wakeups += seats[i].producer.wakeups;
                full += seats[i].producer.full;
        }
        atomic_store(&shard.stop, true);
        ring_bed_wake(shard.bed);
        (void)pthread_join(shard_thread, NULL);
        for (int i = 0; i < PRODUCERS; i++) {
                if (seats[i].next != seats[i].published)
                        fault("not every record arrived");
                if (ring_lane_violations(seats[i].lane) != 0)
                        fault("a violation was counted");
                ring_bed_remove_bell(shard.bed, seats[i].lane->bell_fd);
                ring_lane_free(seats[i].lane);
        }
        ring_bed_free(shard.bed);
        printf("ring_stress: %llu records, %llu flushes, %llu sleeps, %llu wake-ups, %llu times full, faults %u\n",
               (unsigned long long)published, (unsigned long long)flushes, (unsigned long long)shard.sleeps,
               (unsigned long long)wakeups, (unsigned long long)full, atomic_load(&faults));
        return atomic_load(&faults) == 0 && shard.sleeps > 0 ? 0 : 1;
}
