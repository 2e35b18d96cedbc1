/* Targets that no worker has yet, or that nobody knows yet: they do not hold a log that is given up. */
#include "egress/worker_internal.h"
#include "tests/support/router_rig.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <sys/resource.h>

/* No file may become so long as an outbox: a disk without room for it. */
static void disk_is_full(bool full)
{
        struct rlimit limit = {.rlim_cur = full ? 200 * 1024 : RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
        (void)signal(SIGXFSZ, SIG_IGN);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The second log is that of Opens, which are shed. `counted`: there is a target, which cannot be opened. */
static void start(bool counted)
{
        static const struct egress_log logs[] = {{.id = 0}, {.id = 144, .type = SENDRING_OPEN}};
        struct err err = {.text = ""};
        journal_files_make(rig.directory);
        egress_rig_defaults(&rig);
        (void)snprintf(rig.settings.egress.cloudwatch.url, sizeof(rig.settings.egress.cloudwatch.url),
                       "http://127.0.0.1:1");
        rig.shards_count = 2;
        rig.logs = logs;
        router_rig_open();
        FILE *out = fopen(sets_path, "w");
        cr_assert_not_null(out);
        (void)fprintf(out, "ConfigurationSets:\n- ConfigurationSetName: set-0\n");
        if (counted)
                (void)fprintf(out, "  EventDestinations:\n  - EventDestinationName: metrics\n    EventDestination:\n"
                                   "      Enabled: true\n      MatchingEventTypes: [SEND]\n"
                                   "      CloudWatchDestination:\n        DimensionConfigurations:\n"
                                   "        - DimensionName: ses:configuration-set\n"
                                   "          DimensionValueSource: MESSAGE_TAG\n"
                                   "          DefaultDimensionValue: none\n");
        (void)fclose(out);
        disk_is_full(true);
        cr_assert_eq(router_rig_start(&err), ERR_OK, "%s", err.text);
        disk_is_full(false);
}

/* Three closed segments of it in the log of Opens. */
static void fill(uint16_t number)
{
        struct journal *journal = router.journals[1];
        while (journal_committed_position(journal) < 3 * LIMIT_SEGMENT_BYTES_MIN) {
                uint8_t *payload = NULL;
                const struct journal_entry entry = {
                        .lane_id = 1, .lane_position = 8, .routes_count = 2, .routes = {number, number}};
                if (journal_reserve(journal, 2000, &payload) != ERR_OK) {
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                        continue;
                }
                memset(payload, 'x', 2000);
                journal_commit(journal, &entry, 2000);
                cr_assert_eq(journal_publish(journal), ERR_OK);
        }
}

/* Announces the oldest segment; the other targets' worker does its part. False: the log is held all the same. */
static bool shed_oldest(void)
{
        struct journal *journal = router.journals[1];
        uint64_t deadline_ns = clock_monotonic_ns() + 3 * CLOCK_NS_PER_S;
        cr_assert_eq(journal_shed_oldest(journal), ERR_OK);
        egress_worker_shed(rig.workers[0]);
        while (journal_shed_pending(journal) && clock_monotonic_ns() < deadline_ns) {
                router_settle_targets(&router);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        return !journal_shed_pending(journal);
}

static uint64_t balanced(uint16_t number)
{
        struct journal_target_state state;
        struct err err = {.text = ""};
        uint64_t waiting = 0;
        cr_assert_eq(journal_target_audit(router.journals[1], number, &state, &waiting, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(state.accepted,
                     state.delivered + state.dead_lettered + state.shed + state.expired + state.lost + waiting);
        return state.shed;
}

Test(router_unowned, one_that_waits_does_not_hold_a_log_that_is_given_up, .timeout = 60)
{
        start(true);
        egress_rig_run(&rig);
        cr_assert_eq(router.targets_count, 1);
        struct router_target *target = &router.targets[0];
        cr_assert_null(target->target);
        target->again_ns = UINT64_MAX;
        uint16_t number = target->numbers[1];
        fill(number);
        cr_assert(shed_oldest());
        uint64_t once = balanced(number);
        cr_assert(once > 800 && once < 1200, "both copies of a segment of 1 MiB: %llu", (unsigned long long)once);
        cr_assert(shed_oldest());
        uint64_t twice = balanced(number);
        cr_assert_gt(twice, once);
        cr_assert_eq(counter_get(&block, COUNTER_egress_shed), twice);
        cr_assert_eq(atomic_load(&target->row->shed[SENDRING_OPEN]), twice);
        struct journal_target_state state;
        cr_assert(journal_target_get(router.journals[1], number, &state));
        cr_assert_eq(state.cursor_position, journal_shed_before(router.journals[1]));
        cr_assert_eq(state.cursor_sequence, twice / 2 + 1);
        cr_assert(journal_target_get(router.journals[0], target->numbers[0], &state));
        cr_assert_eq(state.shed, 0);

        /* Opened at last, it is its worker's, which begins there; control lets go of it. */
        target->again_ns = 0;
        router_settle_targets(&router);
        cr_assert_not_null(target->target);
        cr_assert(journal_target_get(router.journals[1], number, &state));
        cr_assert_eq(state.shed, twice);
        egress_rig_stop(&rig, 0);
        router_rig_close();
        egress_rig_remove(&rig);
}

/* One of an earlier plan that no entry stands for, since the copy of the sets that names it cannot be read yet. */
Test(router_unowned, nor_does_one_that_is_not_known_yet, .timeout = 60)
{
        uint16_t number = 0;
        start(false);
        for (uint32_t log = 0; log < rig.shards_count; log++)
                cr_assert_eq(journal_target_register(router.journals[log], SLICE("cloudwatch x"), &number, NULL),
                             ERR_OK);
        router.resume_again_ns = UINT64_MAX;
        egress_rig_run(&rig);
        fill(number);
        cr_assert(shed_oldest());
        cr_assert_gt(balanced(number), 800);
        egress_rig_stop(&rig, 0);
        router_rig_close();
        egress_rig_remove(&rig);
}
