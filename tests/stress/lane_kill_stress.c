/* Real processes killed with SIGKILL at random instants: producers under a living router in the first half of the time,
 * producers and router in the second, with the real keeper between. The router writes what it takes into a log in
 * shared memory, the stand-in for the journal: an entry counts once log_count has moved over it, and the log tells the
 * next router how far each lane was journalled.
 *
 * Checked for every life of a producer: its events are in the log in order, each exactly once, none is garbage, and at
 * least those whose commit returned before the kill are there. One producer is never killed: it must never be detached,
 * and never wait long for room. At the end every lane is drained and closed.
 *
 * usage: lane_kill_stress SECONDS */
#include "base/clock.h"
#include "base/random.h"
#include "ring/ring.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PRODUCERS      6
#define LIVES_MAX      8192
#define LOG_MAX        (8u * 1024u * 1024u)
#define JOURNALLED_MAX 16384 /* twice LIVES_MAX: open addressing */
#define BULK_MAX       8
#define PAYLOAD_MAX    3000
#define LANES_MAX      64
#define FULL_MS_LIMIT  5000 /* of the steady producer: a loaded machine, but no stall */

struct life {
        _Atomic uint64_t committed;
        _Atomic uint64_t full_ns_max;
};

struct entry {
        uint64_t lane_id;
        uint64_t position;
        uint32_t life;
        uint32_t reserved;
        uint64_t sequence;
};

struct shared {
        _Atomic uint32_t stop;
        _Atomic uint32_t slow; /* the router pauses at tender points */
        _Atomic int router_pid;
        _Atomic uint32_t router_starts;
        _Atomic uint32_t lanes_open;
        _Atomic uint32_t turns;
        _Atomic uint64_t garbage;
        _Atomic uint64_t violations;
        _Atomic uint64_t detached;
        _Atomic uint64_t attach_failed;
        _Atomic uint64_t taken_over;
        _Atomic uint64_t wakeups;
        struct life lives[LIVES_MAX];
        /* How far each lane is journalled, as the log says up to `indexed`. */
        struct journalled {
                _Atomic uint64_t lane_id; /* 0: free */
                _Atomic uint64_t position;
        } journalled[JOURNALLED_MAX];
        _Atomic uint64_t indexed;
        _Atomic uint64_t log_count;
        struct entry log[LOG_MAX];
};

struct record_head {
        uint32_t life;
        uint32_t bytes;
        uint64_t sequence;
};

static struct shared *open_shared(const char *path, int flags)
{
        int fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
        if (fd < 0 || ((flags & O_CREAT) != 0 && ftruncate(fd, sizeof(struct shared)) < 0)) {
                perror(path);
                exit(2);
        }
        struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (shared == MAP_FAILED) {
                perror("mmap");
                exit(2);
        }
        (void)close(fd);
        return shared;
}

static uint8_t pattern(const struct record_head *head, size_t i)
{
        return (uint8_t)(head->life * 31u + head->sequence * 7u + i);
}

/* ---------------------------------------------------------------------------------------------- producer */

static uint32_t fill(struct random_state *random, uint8_t *payload, uint32_t life, uint64_t sequence, uint32_t bytes)
{
        struct record_head head = {.life = life, .bytes = bytes, .sequence = sequence};
        memcpy(payload, &head, sizeof(head));
        for (size_t i = sizeof(head); i < bytes; i++)
                payload[i] = pattern(&head, i);
        if (random_below(random, 64) == 0) /* makes it likely to be killed right here */
                clock_nap_ns(random_below(random, 200) * CLOCK_NS_PER_US);
        return bytes;
}

static enum err_code reserve_patiently(struct shared *shared, struct life *life, struct ring_producer *producer,
                                       uint32_t bytes, uint8_t **ret_payload)
{
        uint64_t since_ns = 0;
        for (;;) {
                enum err_code code = ring_reserve(producer, bytes, ret_payload);
                if (code != ERR_FULL)
                        return code;
                if (producer->staged != producer->head)
                        return ERR_FULL; /* publish those first */
                uint64_t now_ns = clock_monotonic_ns();
                if (since_ns == 0)
                        since_ns = now_ns;
                if (now_ns - since_ns > atomic_load(&life->full_ns_max))
                        atomic_store(&life->full_ns_max, now_ns - since_ns);
                if (atomic_load(&shared->stop) && now_ns - since_ns > 20 * CLOCK_NS_PER_S)
                        return ERR_TIMEOUT;
                clock_nap_ns(50 * CLOCK_NS_PER_US);
        }
}

static int run_producer(const char *socket_path, struct shared *shared, uint32_t life_index, bool steady)
{
        struct ring_producer producer;
        struct random_state random;
        struct err err;
        struct life *life = &shared->lives[life_index];
        char name[32];
        (void)snprintf(name, sizeof(name), "life-%u", life_index);
        struct ring_attach_options options = {
                .socket_path = socket_path, .name = name, .lane_bytes = 65536, .timeout_ms = 10000};
        random_init(&random, 0);
        if (ring_producer_attach(&producer, &options, &err) != ERR_OK) {
                if (!atomic_load(&shared->stop)) {
                        fprintf(stderr, "life %u: attach: %s\n", life_index, err.text);
                        atomic_fetch_add(&shared->attach_failed, 1);
                }
                return 1;
        }
        uint64_t sequence = 0;
        enum err_code code = ERR_OK;
        while (!atomic_load(&shared->stop) && code == ERR_OK) {
                uint64_t bulk = random_below(&random, 4) == 0 ? 1 + random_below(&random, BULK_MAX) : 1;
                uint64_t staged = 0;
                while (staged < bulk && code == ERR_OK) {
                        uint8_t *payload;
                        uint32_t bytes = (uint32_t)(sizeof(struct record_head) + random_below(&random, 800));
                        if (random_below(&random, 50) == 0)
                                bytes += (uint32_t)random_below(&random, PAYLOAD_MAX - 900);
                        code = reserve_patiently(shared, life, &producer, bytes, &payload);
                        if (code == ERR_FULL) {
                                code = ERR_OK;
                                break;
                        }
                        if (code != ERR_OK)
                                break;
                        if (random_below(&random, 16) == 0) {
                                ring_discard(&producer);
                                continue;
                        }
                        code = ring_stage(
                                &producer,
                                fill(&random, payload, life_index, sequence + staged,
                                     (uint32_t)(bytes -
                                                random_below(&random, bytes - sizeof(struct record_head) + 1))));
                        staged += code == ERR_OK;
                }
                enum err_code published = ring_publish_staged(&producer);
                if (published != ERR_OK) {
                        code = published;
                        break;
                }
                sequence += staged;
                atomic_store(&life->committed, sequence);
                /* Some 100,000 events a second and process at most: the log must last. */
                if (random_below(&random, 20) == 0)
                        clock_nap_ns(random_below(&random, steady ? 3000 : 1500) * CLOCK_NS_PER_US);
        }
        if (code != ERR_OK) {
                fprintf(stderr, "life %u: %s\n", life_index, err_text(code));
                atomic_fetch_add(&shared->detached, 1);
        } else if (steady) {
                code = ring_producer_wait(&producer, 20000);
                if (code != ERR_OK) {
                        fprintf(stderr, "steady producer: flush: %s\n", err_text(code));
                        atomic_fetch_add(&shared->detached, 1);
                }
                atomic_fetch_add(&shared->wakeups, producer.wakeups);
        }
        ring_producer_detach(&producer);
        return 0;
}

/* ---------------------------------------------------------------------------------------------- router */

struct router {
        struct shared *shared;
        struct ring_lane *lanes[LANES_MAX];
        int lanes_count;
        struct random_state random;
};

static void router_lane_ready(void *context, struct ring_lane *lane, uint32_t shard)
{
        struct router *router = context;
        (void)shard;
        if (router->lanes_count == LANES_MAX)
                abort();
        router->lanes[router->lanes_count++] = lane;
}

static struct journalled *journalled_of(struct shared *shared, uint64_t lane_id)
{
        uint64_t at = lane_id % JOURNALLED_MAX;
        for (;;) {
                struct journalled *journalled = &shared->journalled[at];
                uint64_t owner = atomic_load(&journalled->lane_id);
                if (owner == 0)
                        atomic_store(&journalled->lane_id, lane_id);
                if (owner == 0 || owner == lane_id)
                        return journalled;
                at = (at + 1) % JOURNALLED_MAX;
        }
}

/* Idempotent: a router killed in here leaves it to the next one. */
static void router_index(struct shared *shared)
{
        uint64_t count = atomic_load(&shared->log_count);
        for (uint64_t i = atomic_load(&shared->indexed); i < count; i++)
                atomic_store(&journalled_of(shared, shared->log[i].lane_id)->position, shared->log[i].position);
        atomic_store(&shared->indexed, count);
}

static uint64_t router_lane_journalled(void *context, uint64_t lane_id)
{
        struct router *router = context;
        return atomic_load(&journalled_of(router->shared, lane_id)->position);
}

static void router_pause(struct router *router)
{
        if (atomic_load(&router->shared->slow) && random_below(&router->random, 8) == 0)
                clock_nap_ns(random_below(&router->random, 300) * CLOCK_NS_PER_US);
}

/* Copies, then checks the copy. */
static void router_append(struct router *router, uint64_t index, uint64_t lane_id, struct slice payload,
                          uint64_t position)
{
        static uint8_t copy[PAYLOAD_MAX];
        struct record_head head;
        struct entry *entry = &router->shared->log[index];
        *entry = (struct entry){.lane_id = lane_id, .position = position, .life = LIVES_MAX};
        if (payload.len < sizeof(head) || payload.len > sizeof(copy) || index + 1 >= LOG_MAX) {
                atomic_fetch_add(&router->shared->garbage, 1);
                return;
        }
        memcpy(copy, payload.ptr, payload.len);
        memcpy(&head, copy, sizeof(head));
        bool good = head.bytes == payload.len && head.life < LIVES_MAX;
        for (size_t i = sizeof(head); good && i < payload.len; i++)
                good = copy[i] == pattern(&head, i);
        if (!good) {
                atomic_fetch_add(&router->shared->garbage, 1);
                return;
        }
        entry->life = head.life;
        entry->sequence = head.sequence;
}

/* Returns true when something was taken. */
static bool router_visit(struct router *router, struct ring_lane *lane)
{
        struct shared *shared = router->shared;
        struct ring_lane_info info;
        struct slice payload;
        uint64_t position;
        if (ring_visit_begin(lane) == 0)
                return false;
        ring_lane_get_info(lane, &info);
        uint64_t index = atomic_load(&shared->log_count);
        while (ring_visit_next(lane, &payload, &position)) {
                if (random_below(&router->random, 100) == 0) { /* as if the journal were full */
                        ring_visit_undo(lane);
                        break;
                }
                router_append(router, index++, info.lane_id, payload, position);
        }
        router_pause(router);
        atomic_store(&shared->log_count, index); /* the journal's commit */
        router_pause(router);
        ring_visit_end(lane);
        router_index(shared);
        return true;
}

static bool router_sweep(struct router *router, struct ring_server *server)
{
        bool busy = false;
        for (int i = 0; i < router->lanes_count;) {
                struct ring_lane *lane = router->lanes[i];
                bool orphan = ring_lane_is_orphan(lane);
                bool taken = router_visit(router, lane);
                busy |= taken;
                if (ring_lane_violations(lane) > 0)
                        atomic_fetch_add(&router->shared->violations, 1);
                if (orphan && !taken) {
                        ring_server_lane_close(server, lane);
                        router->lanes[i] = router->lanes[--router->lanes_count];
                        continue;
                }
                i++;
        }
        return busy;
}

static int run_router(struct shared *shared)
{
        static struct router router;
        struct ring_server *server;
        struct ring_bed *bed;
        struct err err;
        const char *keeper = getenv("SENDRING_KEEPER_FD");
        router.shared = shared;
        random_init(&router.random, 0);
        atomic_fetch_add(&shared->router_starts, 1);
        atomic_store(&shared->router_pid, getpid());
        router_index(shared);
        if (keeper == NULL || ring_bed_create(&bed, &err) != ERR_OK)
                return 78;
        struct ring_server_options options = {
                .lane_bytes_default = 65536,
                .lane_bytes_max = 65536,
                .lanes_max = LANES_MAX,
                .keeper_fd = (int)strtol(keeper, NULL, 10),
                .beds = &bed,
                .shards_count = 1,
                .lane_ready = router_lane_ready,
                .lane_journalled = router_lane_journalled,
                .context = &router,
        };
        if (ring_server_create(&options, &server, &err) != ERR_OK) {
                fprintf(stderr, "router: %s\n", err.text);
                return 1;
        }
        struct ring_server_stats stats;
        ring_server_get_stats(server, &stats);
        atomic_fetch_add(&shared->taken_over, stats.taken_over);
        for (;;) {
                ring_server_turn(server);
                bool busy = router_sweep(&router, server);
                ring_server_get_stats(server, &stats);
                atomic_store(&shared->lanes_open, (uint32_t)stats.lanes_now);
                atomic_fetch_add(&shared->turns, 1);
                if (busy)
                        continue;
                ring_bed_prepare(bed);
                if (router_sweep(&router, server))
                        ring_bed_cancel(bed);
                else
                        (void)ring_bed_wait(bed, 2 * CLOCK_NS_PER_MS);
        }
}

/* ---------------------------------------------------------------------------------------------- the killer */

static const char *self = "/proc/self/exe";

static pid_t start(char *const argv[])
{
        pid_t pid = fork();
        if (pid == 0) {
                (void)execv(self, argv);
                _exit(127);
        }
        return pid;
}

static pid_t start_producer(const char *socket_path, const char *shared_path, uint32_t life, bool steady)
{
        char number[16];
        (void)snprintf(number, sizeof(number), "%u", life);
        char *argv[] = {(char *)(uintptr_t) "lane_kill_stress",
                        (char *)(uintptr_t) "producer",
                        (char *)(uintptr_t)socket_path,
                        (char *)(uintptr_t)shared_path,
                        number,
                        (char *)(uintptr_t)(steady ? "steady" : "mortal"),
                        NULL};
        return start(argv);
}

/* Reads the whole log and holds it against what the producers say. Returns the number of faults. */
static int judge(struct shared *shared, uint32_t lives_count)
{
        static uint64_t next[LIVES_MAX];
        int faults = 0;
        uint64_t count = atomic_load(&shared->log_count);
        for (uint64_t i = 0; i < count && faults < 20; i++) {
                const struct entry *entry = &shared->log[i];
                if (entry->life >= lives_count) {
                        fprintf(stderr, "entry %llu: garbage\n", (unsigned long long)i);
                        faults++;
                } else if (entry->sequence != next[entry->life]) {
                        fprintf(stderr, "life %u: event %llu where %llu was due\n", entry->life,
                                (unsigned long long)entry->sequence, (unsigned long long)next[entry->life]);
                        next[entry->life] = entry->sequence + 1;
                        faults++;
                } else {
                        next[entry->life]++;
                }
        }
        for (uint32_t life = 0; life < lives_count && faults < 20; life++) {
                uint64_t committed = atomic_load(&shared->lives[life].committed);
                if (next[life] < committed || next[life] > committed + BULK_MAX) {
                        fprintf(stderr, "life %u: %llu committed, %llu arrived\n", life, (unsigned long long)committed,
                                (unsigned long long)next[life]);
                        faults++;
                }
        }
        return faults;
}

static int expect(bool good, const char *what)
{
        if (!good)
                fprintf(stderr, "lane_kill_stress: %s\n", what);
        return good ? 0 : 1;
}

int main(int argc, char **argv)
{
        if (argc >= 6 && strcmp(argv[1], "producer") == 0)
                return run_producer(argv[2], open_shared(argv[3], 0), (uint32_t)strtoul(argv[4], NULL, 10),
                                    strcmp(argv[5], "steady") == 0);
        if (argc >= 3 && strcmp(argv[1], "router") == 0)
                return run_router(open_shared(argv[2], 0));
        if (argc >= 4 && strcmp(argv[1], "keeper") == 0) {
                char *router_argv[] = {(char *)(uintptr_t)self, (char *)(uintptr_t) "router", argv[3], NULL};
                struct ring_keeper_options options = {
                        .socket_path = argv[2], .socket_mode = 0600, .argv = router_argv, .back_off_step_ms = 1};
                return ring_keeper_run(&options);
        }

        double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;
        char directory[] = "/dev/shm/sendring-kill-XXXXXX";
        char socket_path[64];
        char lock_path[80];
        char shared_path[64];
        if (mkdtemp(directory) == NULL) {
                perror(directory);
                return 2;
        }
        (void)snprintf(socket_path, sizeof(socket_path), "%s/socket", directory);
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", socket_path);
        (void)snprintf(shared_path, sizeof(shared_path), "%s/shared", directory);
        struct shared *shared = open_shared(shared_path, O_CREAT | O_EXCL);
        struct random_state random;
        random_init(&random, 0);

        char *keeper_argv[] = {argv[0], (char *)(uintptr_t) "keeper", socket_path, shared_path, NULL};
        pid_t keeper = start(keeper_argv);
        uint64_t start_ns = clock_monotonic_ns();
        while (atomic_load(&shared->turns) == 0 && clock_monotonic_ns() - start_ns < 20 * CLOCK_NS_PER_S)
                clock_sleep_ns(CLOCK_NS_PER_MS);

        pid_t producers[PRODUCERS];
        uint32_t lives_count = 0;
        for (int i = 0; i < PRODUCERS; i++, lives_count++)
                producers[i] = start_producer(socket_path, shared_path, lives_count, i == 0);
        uint64_t duration_ns = (uint64_t)(seconds * 1e9);
        uint32_t producer_kills = 0;
        uint32_t router_kills = 0;
        uint64_t next_router_kill_ns = 0;
        start_ns = clock_monotonic_ns();
        uint64_t now_ns = start_ns;
        while (now_ns - start_ns < duration_ns && lives_count < LIVES_MAX) {
                clock_sleep_ns((500 + random_below(&random, 8000)) * CLOCK_NS_PER_US);
                now_ns = clock_monotonic_ns();
                size_t victim = 1 + random_below(&random, PRODUCERS - 1);
                (void)kill(producers[victim], SIGKILL);
                (void)waitpid(producers[victim], NULL, 0);
                producer_kills++;
                producers[victim] = start_producer(socket_path, shared_path, lives_count++, false);
                if (now_ns - start_ns < duration_ns / 2)
                        continue;
                if (next_router_kill_ns == 0)
                        atomic_store(&shared->slow, 1);
                if (now_ns >= next_router_kill_ns) {
                        int router = atomic_exchange(&shared->router_pid, 0);
                        if (router > 0) { /* a child of our keeper, alive or not yet reaped when we looked */
                                (void)kill(router, SIGKILL);
                                router_kills++;
                        }
                        next_router_kill_ns = now_ns + random_below(&random, 60) * CLOCK_NS_PER_MS;
                }
        }
        atomic_store(&shared->stop, 1);
        for (int i = 0; i < PRODUCERS; i++)
                (void)waitpid(producers[i], NULL, 0);
        /* The last router drains and closes everything. Two turns, because a number may be an earlier router's. */
        start_ns = clock_monotonic_ns();
        bool drained = false;
        while (!drained && clock_monotonic_ns() - start_ns < 20 * CLOCK_NS_PER_S) {
                uint32_t turns = atomic_load(&shared->turns);
                while (atomic_load(&shared->turns) - turns < 3 && clock_monotonic_ns() - start_ns < 20 * CLOCK_NS_PER_S)
                        clock_sleep_ns(CLOCK_NS_PER_MS);
                drained = atomic_load(&shared->lanes_open) == 0;
        }
        int keeper_status = 0;
        (void)kill(keeper, SIGTERM);
        (void)waitpid(keeper, &keeper_status, 0);

        int faults = judge(shared, lives_count);
        uint64_t full_ms = atomic_load(&shared->lives[0].full_ns_max) / CLOCK_NS_PER_MS;
        faults += expect(drained, "lanes were left open");
        faults += expect(WIFEXITED(keeper_status) && WEXITSTATUS(keeper_status) == 128 + SIGTERM,
                         "the keeper did not end with its router's status");
        faults += expect(atomic_load(&shared->garbage) == 0, "garbage arrived");
        faults += expect(atomic_load(&shared->violations) == 0, "a kill looked like a violation");
        faults += expect(atomic_load(&shared->detached) == 0, "a producer was detached");
        faults += expect(atomic_load(&shared->attach_failed) == 0, "a producer could not attach");
        faults += expect(full_ms < FULL_MS_LIMIT, "the steady producer found its lane full for too long");
        faults += expect(atomic_load(&shared->lives[0].committed) > 0, "the steady producer published nothing");
        printf("lane_kill_stress: %u producers killed, %u routers killed, %u routers started, %llu lanes taken over, "
               "%llu events, steady producer: %llu events, %llu wake-ups, lane full at most %llu ms, faults %d\n",
               producer_kills, router_kills, atomic_load(&shared->router_starts),
               (unsigned long long)atomic_load(&shared->taken_over),
               (unsigned long long)atomic_load(&shared->log_count),
               (unsigned long long)atomic_load(&shared->lives[0].committed),
               (unsigned long long)atomic_load(&shared->wakeups), (unsigned long long)full_ms, faults);
        (void)unlink(shared_path);
        (void)unlink(lock_path);
        (void)unlink(socket_path);
        (void)rmdir(directory);
        return faults == 0 ? 0 : 1;
}
