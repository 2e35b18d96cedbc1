/* Logs that are given up, as the worker carries it out: log 0 blocks, log 1 is that of a type that is shed. */
#include "io/io.h"

#include "tests/support/egress_rig.h"
#include "tests/support/firehose_peer.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#define BLOCK 0u
#define SHED  1u

static struct egress_rig rig;
static struct firehose_peer peer;
static const struct egress_log logs[] = {{.id = 0}, {.id = 144, .type = SENDRING_OPEN}};
static uint32_t target, next_id;

/* Of dead letters, and of lines with durability host: while there is such a descriptor, a sync takes until it can be
 * read. */
static _Atomic int sync_until_fd = -1;
static _Atomic uint32_t syncs_held;
void __real_io_fdatasync(struct io_loop *loop, struct io_op *op, int fd);
void __wrap_io_fdatasync(struct io_loop *loop, struct io_op *op, int fd);
void __wrap_io_fdatasync(struct io_loop *loop, struct io_op *op, int fd)
{
        if (atomic_load(&sync_until_fd) < 0) {
                __real_io_fdatasync(loop, op, fd);
                return;
        }
        io_poll(loop, op, atomic_load(&sync_until_fd), POLLIN);
        atomic_fetch_add(&syncs_held, 1);
}

/* Of lines, as a mount that hangs has them: while there is such a descriptor, a write begins when it can be read. */
static _Atomic int write_until_fd = -1;
static _Atomic uint32_t writes_held;
static struct {
        struct io_op op; /* first: its address is the write's */
        struct io_loop *loop;
        struct io_op *write;
        int fd;
        const void *buffer;
        size_t bytes;
        uint64_t offset;
} held_write;
void __real_io_write(struct io_loop *loop, struct io_op *op, int fd, const void *buffer, size_t bytes, uint64_t offset);
void __wrap_io_write(struct io_loop *loop, struct io_op *op, int fd, const void *buffer, size_t bytes, uint64_t offset);

static void held_write_goes_on(struct io_op *op, int32_t result, bool more)
{
        (void)op;
        (void)result;
        (void)more;
        __real_io_write(held_write.loop, held_write.write, held_write.fd, held_write.buffer, held_write.bytes,
                        held_write.offset);
}

void __wrap_io_write(struct io_loop *loop, struct io_op *op, int fd, const void *buffer, size_t bytes, uint64_t offset)
{
        if (atomic_load(&write_until_fd) < 0) {
                __real_io_write(loop, op, fd, buffer, bytes, offset);
                return;
        }
        held_write.op.done = held_write_goes_on;
        held_write.loop = loop;
        held_write.write = op;
        held_write.fd = fd;
        held_write.buffer = buffer;
        held_write.bytes = bytes;
        held_write.offset = offset;
        io_poll(loop, &held_write.op, atomic_load(&write_until_fd), POLLIN);
        atomic_fetch_add(&writes_held, 1);
}

static struct firehose_peer_stream *stream(void)
{
        static struct firehose_peer_stream *made; /* of the one peer that this process has */
        if (made == NULL)
                made = firehose_peer_stream(&peer, "stream");
        return made;
}

static void begin(void)
{
        (void)signal(SIGPIPE, SIG_IGN);
        egress_rig_defaults(&rig);
        rig.shards_count = 2;
        rig.logs = logs;
        rig.settings.egress.linger_ms = 5;
        firehose_peer_start(&peer);
        (void)stream();
}

static void open_rig(bool packed)
{
        (void)snprintf(rig.settings.egress.firehose.url, sizeof(rig.settings.egress.firehose.url),
                       "http://127.0.0.1:%u", peer.http.port);
        egress_rig_open(&rig);
        target = egress_rig_add_firehose(&rig, "stream", packed, 0);
        egress_rig_run(&rig);
}

static void end(void)
{
        egress_rig_stop(&rig, 0);
        egress_rig_close(&rig);
        egress_rig_remove(&rig);
        firehose_peer_stop(&peer);
}

static void always(enum firehose_peer_step step)
{
        atomic_store(&stream()->always, (int)step);
}

/* Events until the log has begun its `segments`th segment. Returns the first id; ids rise by one. */
static uint32_t fill(uint32_t log, uint64_t segments)
{
        uint32_t first = next_id;
        while (journal_committed_position(rig.journals[log]) < segments * LIMIT_SEGMENT_BYTES_MIN)
                egress_rig_publish(&rig, log, next_id++, 2000, target);
        egress_rig_offer(&rig, log, true);
        return first;
}

static bool is_through(void)
{
        return !journal_shed_pending(rig.journals[SHED]);
}

/* Announces the oldest closed segment; how long it took to carry that out, in ms. */
static uint64_t shed(uint32_t timeout_ms)
{
        uint64_t begun_ns = clock_monotonic_ns();
        cr_assert_eq(journal_shed_oldest(rig.journals[SHED]), ERR_OK);
        egress_worker_shed(rig.workers[0]);
        while (!is_through()) {
                cr_assert_lt(clock_monotonic_ns() - begun_ns, timeout_ms * CLOCK_NS_PER_MS, "it is still not through");
                clock_sleep_ns(CLOCK_NS_PER_MS / 2);
        }
        return (clock_monotonic_ns() - begun_ns) / CLOCK_NS_PER_MS;
}

static struct journal_target_state state_of(uint32_t log)
{
        return egress_rig_state(&rig, log, target);
}

static uint64_t balanced(uint32_t log)
{
        uint64_t waiting = 0;
        cr_assert(egress_rig_is_balanced(&rig, log, target, &waiting), "log %u", log);
        return waiting;
}

static void wait_failures(uint32_t count)
{
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (atomic_load(&rig.targets[target].row->failures) < count) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
}

Test(worker_shed, a_dead_target_loses_its_oldest_events_of_that_log_only, .timeout = 90)
{
        begin();
        always(FIREHOSE_PEER_RESET);
        open_rig(true);
        uint32_t first = fill(SHED, 4);
        uint32_t block_first = next_id;
        for (uint32_t i = 0; i < 100; i++)
                egress_rig_publish(&rig, BLOCK, next_id++, 100, target);
        wait_failures(2);
        (void)shed(5000);
        uint64_t once = state_of(SHED).shed;
        /* A batch that stands behind one in flight may go with it. */
        cr_assert(once > 300 && once < 900, "a segment of 1 MiB has some 450: %llu", (unsigned long long)once);
        cr_assert_eq(state_of(BLOCK).shed, 0);
        (void)balanced(SHED);
        (void)shed(5000);
        uint64_t twice = state_of(SHED).shed;
        cr_assert_gt(twice, once);
        cr_assert_eq(counters_sum(&rig.counters, COUNTER_egress_shed), twice);
        cr_assert_eq(atomic_load(&rig.targets[target].row->shed[SENDRING_OPEN]), twice);
        /* The segments are free. */
        struct journal_stats before, after;
        journal_get_stats(rig.journals[SHED], &before);
        while (journal_trim(rig.journals[SHED]))
                ;
        journal_get_stats(rig.journals[SHED], &after);
        cr_assert_eq(before.segments - after.segments, 2);
        always(FIREHOSE_PEER_ACCEPT);
        cr_assert(egress_rig_wait_delivered(&rig, target, next_id - first - twice, 20000));
        cr_assert_eq(balanced(SHED), 0);
        cr_assert_eq(balanced(BLOCK), 0);
        for (uint32_t id = first; id < next_id; id++)
                cr_assert_eq(stream()->arrived_ns[id] != 0, id >= first + twice || id >= block_first, "id %u", id);
        cr_assert_eq(stream()->count, next_id - first - twice, "none of them twice");
        end();
}

Test(worker_shed, a_target_that_keeps_up_loses_nothing, .timeout = 90)
{
        begin();
        atomic_store(&stream()->delay_ms, 100);
        rig.settings.egress.linger_ms = 60000;                 /* only what is given up hurries */
        rig.settings.egress.batch_bytes_max = 4 * 1024 * 1024; /* more than there is: all of it is being built */
        open_rig(true);
        (void)fill(SHED, 2);
        cr_assert_leq(shed(10000), 5000);
        cr_assert_eq(state_of(SHED).shed, 0);
        cr_assert_geq(state_of(SHED).cursor_position, journal_shed_before(rig.journals[SHED]));
        end();
}

Test(worker_shed, what_is_in_flight_is_waited_for_until_the_timeout, .timeout = 90)
{
        begin();
        always(FIREHOSE_PEER_SILENT);
        rig.settings.egress.request_timeout_ms = 1500;
        rig.settings.egress.retry_base_ms = 60000; /* after the timeout nothing is sent */
        rig.settings.egress.retry_max_ms = 60000;
        rig.settings.egress.in_flight_max = 1;
        open_rig(true);
        (void)fill(SHED, 4);
        uint64_t took_ms = shed(20000);
        cr_assert_geq(took_ms, 1000, "%llu ms", (unsigned long long)took_ms);
        cr_assert_leq(took_ms, 8000, "%llu ms", (unsigned long long)took_ms);
        cr_assert_gt(state_of(SHED).shed, 300);
        (void)balanced(SHED);
        end();
}

Test(worker_shed, of_a_batch_that_was_partly_taken_the_rest_is_shed, .timeout = 90)
{
        begin();
        firehose_peer_script(stream(), FIREHOSE_PEER_PARTIAL);
        always(FIREHOSE_PEER_REFUSE_ALL);
        rig.settings.egress.in_flight_max = 1;
        open_rig(false);
        (void)fill(SHED, 3);
        wait_failures(0);
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (atomic_load(&rig.targets[target].row->entries_refused) == 0) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        clock_sleep_ns(50 * CLOCK_NS_PER_MS);
        uint32_t taken = stream()->count;
        cr_assert_gt(taken, 0);
        (void)shed(20000);
        cr_assert_eq(stream()->count, taken);
        cr_assert_eq(state_of(SHED).delivered, taken);
        cr_assert_geq(state_of(SHED).shed + taken, 400, "all of the segment, and what else the batch had");
        (void)balanced(SHED);
        end();
}

Test(worker_shed, what_was_shed_stays_so_after_a_kill_and_the_rest_is_delivered, .timeout = 90)
{
        begin();
        always(FIREHOSE_PEER_RESET);
        open_rig(true);
        uint32_t first = fill(SHED, 3);
        wait_failures(1);
        (void)shed(5000);
        uint64_t shed_events = state_of(SHED).shed;
        /* As a SIGKILL leaves it: nothing more is written. */
        egress_rig_stop(&rig, 0);
        egress_rig_close(&rig);
        always(FIREHOSE_PEER_ACCEPT);
        open_rig(true);
        cr_assert(egress_rig_wait_delivered(&rig, target, next_id - first - shed_events, 20000));
        cr_assert_eq(state_of(SHED).shed, shed_events);
        cr_assert_eq(balanced(SHED), 0);
        end();
}

/* Every request fails, and the next one is far away: most likely nothing is in flight. */
static void open_rig_at_rest(uint32_t retry_ms, uint32_t batch_bytes_max)
{
        begin();
        always(FIREHOSE_PEER_RESET);
        rig.settings.egress.retry_base_ms = retry_ms;
        rig.settings.egress.retry_max_ms = retry_ms;
        rig.settings.egress.in_flight_max = 1;
        rig.settings.egress.batch_bytes_max = batch_bytes_max;
        open_rig(true);
}

Test(worker_shed, with_nothing_in_flight_nothing_behind_the_segment_is_shed, .timeout = 90)
{
        open_rig_at_rest(60000, 2 * 1024 * 1024);
        (void)fill(SHED, 4);
        wait_failures(1);
        (void)shed(5000);
        struct journal_target_state state = state_of(SHED);
        uint64_t before = journal_shed_before(rig.journals[SHED]);
        cr_assert_geq(state.cursor_position, before);
        cr_assert_lt(state.cursor_position, before + 32 * 1024, "no more than the ends of segments: %llu",
                     (unsigned long long)(state.cursor_position - before));
        cr_assert_eq(state.shed, state.cursor_sequence - 1);
        (void)balanced(SHED);
        end();
}

static uint32_t dead_letters(void)
{
        char path[400];
        uint32_t lines = 0;
        (void)snprintf(path, sizeof(path), "%s/worker-0-1.ndjson", rig.dead_letters);
        FILE *file = fopen(path, "re");
        for (int c = file == NULL ? EOF : getc(file); c != EOF; c = getc(file))
                lines += c == '\n';
        if (file != NULL)
                (void)fclose(file);
        return lines;
}

/* Control characters: six bytes each in JSON, eight in base64. Two bodies of this size hold what a segment does, and
 * none such an event. */
#define GROWING_BODY_BYTES 1000000
static size_t encode_growing(uint32_t id)
{
        size_t bytes = egress_rig_encode(id, 130000, rig.event, sizeof(rig.event));
        for (size_t i = 0; i + 8 < bytes; i++)
                if (memcmp(rig.event + i, "xxxxxxxx", 8) == 0)
                        for (; rig.event[i] == 'x'; i++)
                                rig.event[i] = 1;
        return bytes;
}

Test(worker_shed, a_dead_letter_is_written_once, .timeout = 90)
{
        open_rig_at_rest(2000, GROWING_BODY_BYTES);
        (void)fill(SHED, 1);
        /* In the second segment, in a batch that reaches there from the first. */
        size_t bytes = encode_growing(next_id++);
        egress_rig_append(&rig, SHED, rig.event, bytes, &target, 1, clock_realtime_ms());
        (void)fill(SHED, 4);
        wait_failures(1);
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (dead_letters() == 0) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        (void)shed(5000);
        always(FIREHOSE_PEER_ACCEPT);
        deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (state_of(SHED).cursor_sequence <= next_id) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(20 * CLOCK_NS_PER_MS);
        }
        cr_assert_eq(dead_letters(), 1);
        struct journal_target_state state = state_of(SHED);
        cr_assert_eq(state.dead_lettered, 1, "%llu", (unsigned long long)state.dead_lettered);
        (void)balanced(SHED);
        end();
}

/* The oldest segment begins with an event whose dead letter takes its time to be written, and is given up meanwhile. */
static void shed_while_a_letter_is_written(bool removed)
{
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        open_rig_at_rest(60000, GROWING_BODY_BYTES);
        atomic_store(&sync_until_fd, eventfd(0, EFD_CLOEXEC));
        cr_assert_geq(atomic_load(&sync_until_fd), 0);
        size_t bytes = encode_growing(next_id++);
        egress_rig_append(&rig, SHED, rig.event, bytes, &target, 1, clock_realtime_ms());
        (void)fill(SHED, 4);
        egress_rig_publish(&rig, BLOCK, next_id++, 100, target);
        wait_failures(1);
        while (atomic_load(&syncs_held) == 0) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        cr_assert_eq(dead_letters(), 1, "on the disk perhaps, and not counted");
        cr_assert_eq(journal_shed_oldest(rig.journals[SHED]), ERR_OK);
        egress_worker_shed(rig.workers[0]);
        clock_sleep_ns(200 * CLOCK_NS_PER_MS);
        struct journal_target_state state = state_of(SHED);
        cr_assert_not(is_through());
        cr_assert_eq(state.cursor_sequence, 1, "nothing is passed over");
        cr_assert_eq(state.shed + state.dead_lettered, 0);

        char path[400];
        (void)snprintf(path, sizeof(path), "%s/worker-0-1.ndjson", rig.dead_letters);
        if (removed)
                cr_assert_eq(unlink(path), 0);
        cr_assert_eq(eventfd_write(atomic_load(&sync_until_fd), 1), 0);
        while (!is_through()) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns, "it is still not through");
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        state = state_of(SHED);
        cr_assert_eq(state.dead_lettered, removed ? 0 : 1, "%llu", (unsigned long long)state.dead_lettered);
        cr_assert_eq(counters_sum(&rig.counters, COUNTER_egress_dead_lettered), state.dead_lettered);
        cr_assert_eq(dead_letters(), state.dead_lettered);
        cr_assert_eq(state.shed + state.dead_lettered, state.cursor_sequence - 1);
        (void)balanced(SHED);
        end();
        (void)close(atomic_load(&sync_until_fd));
}

Test(worker_shed, a_dead_letter_on_its_way_is_waited_for, .timeout = 90)
{
        shed_while_a_letter_is_written(false);
}

/* Not longer than a request: then it is shed, whatever becomes of its letter. */
Test(worker_shed, a_dead_letter_that_hangs_holds_nobody_for_ever, .timeout = 90)
{
        uint64_t deadline_ns = clock_monotonic_ns() + 30 * CLOCK_NS_PER_S;
        begin();
        always(FIREHOSE_PEER_RESET);
        rig.settings.egress.request_timeout_ms = 1500;
        rig.settings.egress.batch_bytes_max = GROWING_BODY_BYTES;
        atomic_store(&sync_until_fd, eventfd(0, EFD_CLOEXEC));
        cr_assert_geq(atomic_load(&sync_until_fd), 0);
        open_rig(true);
        size_t bytes = encode_growing(next_id++);
        egress_rig_append(&rig, SHED, rig.event, bytes, &target, 1, clock_realtime_ms());
        (void)fill(SHED, 2);
        bytes = encode_growing(next_id++); /* in the third segment, and waits for the first one's letter */
        egress_rig_append(&rig, SHED, rig.event, bytes, &target, 1, clock_realtime_ms());
        (void)fill(SHED, 6);
        while (atomic_load(&syncs_held) == 0) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        uint64_t took_ms = shed(20000);
        cr_assert_leq(took_ms, 4000, "the timeout is 1.5 s: %llu ms", (unsigned long long)took_ms);
        cr_assert_gt(state_of(SHED).shed, 300);
        for (uint32_t i = 0; i < 3; i++)
                cr_assert_leq(shed(20000), 1500);
        cr_assert_eq(state_of(SHED).shed, state_of(SHED).cursor_sequence - 1);
        cr_assert_eq(atomic_load(&syncs_held), 1);
        (void)balanced(SHED);
        always(FIREHOSE_PEER_ACCEPT);
        int fd = atomic_exchange(&sync_until_fd, -1);
        cr_assert_eq(eventfd_write(fd, 1), 0);
        while (state_of(SHED).cursor_sequence <= next_id) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(20 * CLOCK_NS_PER_MS);
        }
        cr_assert_eq(state_of(SHED).dead_lettered + counters_sum(&rig.counters, COUNTER_egress_dead_lettered), 0);
        cr_assert_eq(dead_letters(), 1, "it was written all the same");
        cr_assert_eq(balanced(SHED), 0);
        end();
        (void)close(fd);
}

/* Its file goes away under it: then it is none, and its event is shed as the others. */
Test(worker_shed, a_dead_letter_that_fails_on_its_way_is_shed, .timeout = 90)
{
        shed_while_a_letter_is_written(true);
}

/* A target that is opened late, with events of before: the others have carried out already what is announced. */
Test(worker_shed, one_that_is_added_behind_the_announcement_sheds_as_well, .timeout = 90)
{
        uint16_t numbers[2];
        begin();
        open_rig(true);
        for (uint32_t log = 0; log < 2; log++)
                cr_assert_eq(journal_target_register(rig.journals[log], SLICE("firehose late"), &numbers[log], NULL),
                             ERR_OK);
        struct firehose_peer_stream *late = firehose_peer_stream(&peer, "late");
        atomic_store(&late->always, (int)FIREHOSE_PEER_RESET);
        memcpy(rig.targets[1].numbers, numbers, sizeof(numbers));
        while (journal_committed_position(rig.journals[SHED]) < 3 * (uint64_t)LIMIT_SEGMENT_BYTES_MIN)
                egress_rig_publish(&rig, SHED, next_id++, 2000, 1);
        egress_rig_offer(&rig, SHED, true);
        cr_assert_eq(journal_shed_oldest(rig.journals[SHED]), ERR_OK);
        egress_worker_shed(rig.workers[0]);
        uint64_t deadline_ns = clock_monotonic_ns() + 10 * CLOCK_NS_PER_S;
        while (state_of(SHED).cursor_position < journal_shed_before(rig.journals[SHED])) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        clock_sleep_ns(100 * CLOCK_NS_PER_MS);
        cr_assert_not(is_through());
        cr_assert_eq(egress_rig_add_firehose(&rig, "late", true, 0), 1);
        while (!is_through()) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns, "nobody sheds for it");
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        cr_assert_gt(egress_rig_state(&rig, SHED, 1).shed, 300);
        end();
}

/* A file whose disk does not answer any more. */
static void begin_with_a_file_that_hangs(_Atomic int *until_fd, const _Atomic uint32_t *held)
{
        begin();
        rig.settings.journal.durability_host = until_fd == &sync_until_fd;
        rig.settings.egress.request_timeout_ms = 1500;
        egress_rig_open(&rig);
        target = egress_rig_add_file(&rig, "lines", 0);
        atomic_store(until_fd, eventfd(0, EFD_CLOEXEC));
        cr_assert_geq(atomic_load(until_fd), 0);
        egress_rig_run(&rig);
        (void)fill(SHED, 6);
        egress_rig_publish(&rig, BLOCK, next_id++, 100, target);
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (atomic_load(held) == 0) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
}

/* It answers, from now on. */
static void goes_on(_Atomic int *until_fd)
{
        int fd = atomic_exchange(until_fd, -1);
        cr_assert_eq(eventfd_write(fd, 1), 0); /* open until the process ends */
}

static void shed_while_a_file_hangs(_Atomic int *until_fd, const _Atomic uint32_t *held)
{
        begin_with_a_file_that_hangs(until_fd, held);
        uint64_t took_ms = shed(20000);
        cr_assert_leq(took_ms, 4000, "the timeout is 1.5 s: %llu ms", (unsigned long long)took_ms);
        for (uint32_t round = 0; round < 3; round++) {
                took_ms = shed(20000);
                cr_assert_lt(took_ms, 1400, "it is known to hang: %llu ms", (unsigned long long)took_ms);
                (void)fill(SHED, 7 + round);
        }
        uint64_t given_up = state_of(SHED).shed;
        cr_assert(given_up > 1500 && given_up < 3000, "of four segments: %llu", (unsigned long long)given_up);
        cr_assert_eq(atomic_load(held), 1, "nothing else is asked of it");
        cr_assert_eq(state_of(SHED).delivered + state_of(BLOCK).delivered + state_of(BLOCK).shed, 0);
        cr_assert_eq(counters_sum(&rig.counters, COUNTER_egress_shed), given_up);
        cr_assert_eq(counters_sum(&rig.counters, COUNTER_egress_requests_uncertain), 1);
        cr_assert_eq(atomic_load(&rig.targets[target].row->status), COUNTERS_TARGET_RETRYING);
        (void)balanced(SHED);

        /* The disk answers: what was in flight is in the file, as it was, and what had not been given up. */
        goes_on(until_fd);
        cr_assert(egress_rig_wait_delivered(&rig, target, next_id - given_up, 20000));
        cr_assert_eq(state_of(SHED).shed, given_up);
        cr_assert_eq(balanced(SHED) + balanced(BLOCK), 0);
        uint32_t count = 0;
        uint32_t *ids = egress_rig_read_file(&rig, target, &count);
        cr_assert_gt(count, next_id - given_up);
        uint32_t late = count - (uint32_t)(next_id - given_up);
        static uint8_t seen[8192];
        cr_assert_leq(next_id, sizeof(seen));
        for (uint32_t i = 0; i < count; i++) {
                cr_assert_eq(seen[ids[i]]++, 0, "id %u is there twice", ids[i]);
                if (i < late)
                        cr_assert_eq(ids[i], i);
        }
        free(ids);
        end();
}

Test(worker_shed, a_write_that_hangs_holds_nobody_for_ever, .timeout = 90)
{
        shed_while_a_file_hangs(&write_until_fd, &writes_held);
}

Test(worker_shed, a_sync_that_hangs_holds_nobody_for_ever, .timeout = 90)
{
        shed_while_a_file_hangs(&sync_until_fd, &syncs_held);
}

static void wait_for_status(uint32_t status)
{
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (atomic_load(&rig.targets[target].row->status) != status) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns, "it is still not %u", status);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
}

/* Where nothing is to be given up nobody would hear of it. */
Test(worker_shed, a_file_that_hangs_is_told, .timeout = 90)
{
        begin_with_a_file_that_hangs(&write_until_fd, &writes_held);
        cr_assert_eq(atomic_load(&rig.targets[target].row->status), COUNTERS_TARGET_OK);
        wait_for_status(COUNTERS_TARGET_RETRYING);
        cr_assert_str_eq(rig.targets[target].row->last_error, "its file system does not answer");
        goes_on(&write_until_fd);
        wait_for_status(COUNTERS_TARGET_OK);
        cr_assert(egress_rig_wait_delivered(&rig, target, next_id, 20000));
        cr_assert_eq(state_of(SHED).shed, 0);
        end();
}

static void *goes_on_soon(void *unused)
{
        (void)unused;
        clock_sleep_ns(300 * CLOCK_NS_PER_MS);
        goes_on(&write_until_fd);
        return NULL;
}

/* Whoever stops, or lets go of the target, waits for what the kernel has of it. */
Test(worker_shed, a_write_that_was_given_up_ends_before_the_worker_does, .timeout = 90)
{
        pthread_t thread;
        begin_with_a_file_that_hangs(&write_until_fd, &writes_held);
        (void)shed(20000);
        cr_assert_eq(pthread_create(&thread, NULL, goes_on_soon, NULL), 0);
        end();
        cr_assert_eq(pthread_join(thread, NULL), 0);
}

Test(worker_shed, a_target_with_a_write_that_was_given_up_can_be_removed, .timeout = 90)
{
        begin_with_a_file_that_hangs(&write_until_fd, &writes_held);
        (void)shed(20000);
        struct egress_target *removed = rig.targets[target].target;
        cr_assert(egress_worker_remove_target(rig.workers[0], removed));
        clock_sleep_ns(1200 * CLOCK_NS_PER_MS); /* its worker looks twice a second */
        cr_assert_not(egress_target_is_gone(removed));
        goes_on(&write_until_fd);
        uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        while (!egress_target_is_gone(removed)) {
                cr_assert_lt(clock_monotonic_ns(), deadline_ns);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        cr_assert_eq(balanced(SHED) + balanced(BLOCK), 0, "it has delivered what was left");
        egress_target_free(removed);
        end();
}
