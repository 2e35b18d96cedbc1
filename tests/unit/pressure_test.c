/* A log without room: what is given up for it, and where a full disk is what it lacks. */
#include "router/router_internal.h"

#include "tests/support/journal_files.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/resource.h>

#define MIB  (1024u * 1024u)
#define MEAN 700u

static char root[256];
static struct router router;
static struct counters_block counters;
static uint64_t size_max = 8 * MIB;
static bool apart;          /* the log that is shed is another shard's */
static uint8_t clicks_rank; /* of Clicks, which are shed as well and have a third log; that of Opens is 2. 0: none */

/* Two logs: of one shard (not when `apart`), the second one that of Opens, which are shed; or of two shards. */
static void begin(bool sheds, uint64_t retention_bytes)
{
        journal_files_make(root);
        const uint8_t types[] = {0, sheds ? SENDRING_OPEN : 0, SENDRING_CLICK};
        router = (struct router){.shards_count = sheds && !apart ? 1 : 2,
                                 .journals_count = clicks_rank > 0 ? 3 : 2,
                                 .helper_counters = &counters};
        router.settings.journal.pressure.shed_count = sheds ? router.journals_count - 1 : 0;
        router.settings.journal.pressure.rank[SENDRING_OPEN] = 2;
        router.settings.journal.pressure.shed[SENDRING_OPEN] = sheds;
        router.settings.journal.pressure.rank[SENDRING_CLICK] = clicks_rank;
        router.settings.journal.pressure.shed[SENDRING_CLICK] = clicks_rank > 0;
        for (uint32_t i = 0; i < router.journals_count; i++) {
                char path[300];
                uint16_t target;
                struct err err = {.text = ""};
                (void)snprintf(path, sizeof(path), "%s/%u", root, i);
                router.logs[i] =
                        (struct router_journal){.shard = sheds && !apart ? 0 : i, .type = types[i], .wanted = true};
                struct journal_options options = {
                        .directory = path,
                        .segment_bytes = MIB,
                        .size_bytes_max = size_max,
                        .budget = &router.budgets[router.logs[i].shard],
                        .retention_bytes = retention_bytes,
                        .segments_mapped_max = 8,
                };
                cr_assert_eq(journal_open(&options, &router.journals[i], NULL, &err), ERR_OK, "%s", err.text);
                cr_assert_eq(journal_target_register(router.journals[i], SLICE("file /a"), &target, &err), ERR_OK);
        }
}

static void end(void)
{
        for (uint32_t i = 0; i < router.journals_count; i++)
                journal_close(router.journals[i]);
        journal_files_remove(root);
}

/* Until the log has `segments` closed ones, or is full. */
static void fill(uint32_t log, uint64_t segments)
{
        struct journal *journal = router.journals[log];
        while (journal_committed_position(journal) < segments * MIB) {
                enum err_code code = journal_files_append(journal, journal_next_sequence(journal), MEAN, 1);
                if (code == ERR_FULL && journal_maintain(journal, NULL) != ERR_OK)
                        return;
                cr_assert(code == ERR_OK || code == ERR_FULL);
                cr_assert_eq(journal_publish(journal), ERR_OK);
        }
}

static void deliver(uint32_t log)
{
        uint64_t position, sequence;
        journal_committed(router.journals[log], &position, &sequence);
        journal_target_advance(router.journals[log], 0, position, sequence,
                               &(struct journal_settled){.delivered = sequence - 1});
}

/* No file may become so long as a segment: to the journal, a disk without room. */
static void disk_is_full(bool full)
{
        struct rlimit limit = {.rlim_cur = full ? MIB / 2 : RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
        (void)signal(SIGXFSZ, SIG_IGN);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static uint64_t segments(uint32_t log)
{
        struct journal_stats stats;
        journal_get_stats(router.journals[log], &stats);
        return stats.segments;
}

Test(pressure, a_full_disk_sheds_as_a_full_journal_does, .timeout = 60)
{
        enum router_relief relief;
        struct err err = {.text = ""};
        size_max = 64 * MIB; /* the disk is what it lacks */
        begin(true, 0);
        fill(1, 3);
        disk_is_full(true);
        fill(0, 8);
        cr_assert_eq(router_maintain(&router, 0, &relief, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(relief, ROUTER_RELIEF_COMES);
        cr_assert_eq(journal_room(router.journals[0]), ERR_DISK_FULL);
        cr_assert(journal_shed_pending(router.journals[1]));
        cr_assert_not(journal_shed_pending(router.journals[0]));
        disk_is_full(false);
        end();
}

Test(pressure, on_a_full_disk_every_log_gives_back_what_it_only_keeps, .timeout = 60)
{
        enum router_relief relief;
        struct err err = {.text = ""};
        begin(false, 64 * MIB);
        fill(1, 4);
        deliver(1);
        cr_assert_eq(router_maintain(&router, 1, &relief, &err), ERR_OK);
        uint64_t before = segments(1);
        cr_assert_geq(before, 4);
        fill(0, 9); /* its own limit: the other shard has nothing to do with it */
        cr_assert_eq(router_maintain(&router, 0, &relief, &err), ERR_FULL);
        cr_assert_eq(relief, ROUTER_RELIEF_NONE);
        cr_assert_eq(segments(1), before);
        end();
        begin(false, 64 * MIB);
        fill(1, 4);
        deliver(1);
        disk_is_full(true);
        fill(0, 8);
        cr_assert_eq(router_maintain(&router, 0, &relief, &err), ERR_DISK_FULL);
        cr_assert_leq(segments(1), 2);
        disk_is_full(false);
        cr_assert_eq(router_maintain(&router, 0, &relief, &err), ERR_OK);
        cr_assert_eq(relief, ROUTER_RELIEF_DONE);
        end();
}

/* Files that were made in a watched directory since the last call. */
static uint32_t made(int fd)
{
        _Alignas(struct inotify_event) char events[1 << 16];
        uint32_t count = 0;
        for (ssize_t got = read(fd, events, sizeof(events)); got > 0; got = read(fd, events, sizeof(events))) {
                for (const char *at = events; at < events + got;) {
                        const struct inotify_event *event = (const struct inotify_event *)(const void *)at;
                        count += (event->mask & IN_CREATE) != 0;
                        at += sizeof(*event) + event->len;
                }
        }
        return count;
}

Test(pressure, while_room_comes_a_full_disk_is_left_alone, .timeout = 60)
{
        enum router_relief relief;
        struct err err = {.text = ""};
        char path[300];
        size_max = 64 * MIB; /* the disk is what it lacks */
        begin(true, 0);
        fill(1, 3);
        disk_is_full(true);
        fill(0, 8);
        (void)snprintf(path, sizeof(path), "%s/0", root);
        cr_assert_eq(journal_room(router.journals[0]), ERR_DISK_FULL);
        int fd = inotify_init1(IN_NONBLOCK);
        cr_assert_geq(inotify_add_watch(fd, path, IN_CREATE | IN_DELETE), 0);
        uint32_t looks = 0;
        const uint64_t begun_ns = clock_monotonic_ns();
        for (; looks < 60 || clock_monotonic_ns() - begun_ns < 250 * CLOCK_NS_PER_MS; looks++) {
                cr_assert_eq(router_maintain(&router, 0, &relief, &err), ERR_OK, "%s", err.text);
                cr_assert_eq(relief, ROUTER_RELIEF_COMES);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        uint64_t tries = 1 + (clock_monotonic_ns() - begun_ns) / (100 * CLOCK_NS_PER_MS);
        uint32_t files = made(fd);
        cr_assert(files >= 1 && files <= 2 * tries, "%u files in %u looks", files, looks);
        /* It has come: no time is lost. */
        cr_assert_eq(router_maintain(&router, 0, &relief, &err), ERR_OK);
        deliver(1);
        disk_is_full(false);
        cr_assert_eq(router_maintain(&router, 0, &relief, &err), ERR_OK);
        cr_assert_eq(relief, ROUTER_RELIEF_DONE);
        (void)close(fd);
        end();
}

/* The targets file lost its pages at the same time: that is told, and something is given up all the same. */
Test(pressure, other_trouble_does_not_hide_that_there_is_no_room, .timeout = 60)
{
        enum router_relief relief;
        struct err err = {.text = ""};
        char path[300];
        begin(true, 0);
        fill(1, 3);
        fill(0, 9);
        (void)snprintf(path, sizeof(path), "%s/0/targets", root);
        cr_assert_eq(truncate(path, 0), 0);
        struct journal_target_state state;
        cr_assert(journal_target_get(router.journals[0], 0, &state));
        struct journal_reader *reader = NULL;
        struct journal_record record;
        cr_assert_eq(journal_reader_create(router.journals[0], &reader, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(
                journal_read(reader, state.cursor_position, journal_committed_position(router.journals[0]), &record),
                ERR_OK);
        journal_target_advance(router.journals[0], 0, record.next_position, record.sequence + 1,
                               &(struct journal_settled){.delivered = 1}); /* the store finds out */
        journal_reader_free(reader);
        cr_assert_eq(router_maintain(&router, 0, &relief, &err), ERR_CORRUPT, "%s", err.text);
        cr_assert_eq(relief, ROUTER_RELIEF_COMES);
        cr_assert(journal_shed_pending(router.journals[1]));
        end();
}

/* All of log 0 is passed, and kept for replays. */
static uint64_t keep_all(void)
{
        uint64_t position, sequence;
        for (uint64_t n = 1; n < 40; n++) {
                fill(0, n);
                journal_committed(router.journals[0], &position, &sequence);
                journal_target_advance(router.journals[0], 0, position, sequence,
                                       &(struct journal_settled){
                                               .delivered = journal_target_count_waiting(router.journals[0], 0, NULL)});
        }
        return segments(0);
}

Test(pressure, what_is_kept_gives_way_one_segment_at_a_time, .timeout = 60)
{
        enum router_relief relief;
        struct err err = {.text = ""};
        size_max = 32 * MIB;
        begin(true, 64 * MIB);
        const uint64_t before = keep_all(), own = segments(1);
        cr_assert_geq(before, 28);
        fill(1, 4);
        cr_assert_eq(router_maintain(&router, 1, &relief, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(relief, ROUTER_RELIEF_DONE);
        cr_assert_gt(segments(1), own);
        cr_assert_geq(segments(0) + segments(1), before + own, "%llu and %llu segments, then %llu and %llu",
                      (unsigned long long)before, (unsigned long long)own, (unsigned long long)segments(0),
                      (unsigned long long)segments(1));
        end();
}

/* A shard's part of the journal is its own; the disk is everybody's. */
Test(pressure, on_a_full_disk_other_shards_shed_too, .timeout = 60)
{
        enum router_relief relief;
        struct err err = {.text = ""};
        apart = true;
        begin(true, 0);
        fill(1, 3);
        fill(0, 9);
        cr_assert_eq(router_maintain(&router, 0, &relief, &err), ERR_FULL);
        cr_assert_eq(relief, ROUTER_RELIEF_NONE);
        cr_assert_not(journal_shed_pending(router.journals[1]));
        end();
        size_max = 64 * MIB; /* the disk is what it lacks */
        begin(true, 0);
        fill(1, 3);
        disk_is_full(true);
        fill(0, 8);
        for (uint32_t look = 0; look < 2; look++) {
                cr_assert_eq(router_maintain(&router, 0, &relief, &err), ERR_OK, "%s", err.text);
                cr_assert_eq(relief, ROUTER_RELIEF_COMES);
                cr_assert(journal_shed_pending(router.journals[1]));
        }
        cr_assert_eq(atomic_load(&counters.values[COUNTER_journal_segments_shed]), 1, "one at a time");
        disk_is_full(false);
        end();
}

/* Which of two types goes is what journal.priority says, and not their numbers. */
Test(pressure, the_lowest_type_goes_first_whichever_that_is, .timeout = 60)
{
        static const struct {
                uint8_t clicks_rank;
                uint32_t needy, shed; /* logs */
        } cases[] = {{1, 0, 1}, {3, 0, 2}, {1, 2, 1}, {3, 2, 2}, {1, 1, 1}, {3, 1, 2}};
        size_max = 16 * MIB;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                enum router_relief relief;
                struct err err = {.text = ""};
                const uint32_t needy = cases[i].needy;
                clicks_rank = cases[i].clicks_rank;
                begin(true, 0);
                for (uint32_t log = 0; log < 3; log++)
                        fill(log, 4);
                fill(needy, 32);
                cr_assert_eq(router_maintain(&router, needy, &relief, &err), ERR_OK, "%s", err.text);
                cr_assert_eq(relief, ROUTER_RELIEF_COMES, "case %zu", i);
                for (uint32_t log = 0; log < 3; log++)
                        cr_assert_eq(journal_shed_pending(router.journals[log]), log == cases[i].shed,
                                     "case %zu, log %u", i, log);
                end();
        }
}
