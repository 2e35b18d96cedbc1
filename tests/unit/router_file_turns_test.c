/* A file whose destination gets another policy, key or EventId while events wait: two targets have one path. */
#include "egress/worker_internal.h"
#include "tests/support/router_rig.h"

#include <criterion/criterion.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(router_file_turns, .timeout = 60);

enum policy { PLAIN, IDS, DROPS };

static bool policy_is(const char *key, enum policy policy)
{
        const enum policy own = strstr(key, "event-id") != NULL     ? IDS
                                : strstr(key, "redaction=") != NULL ? DROPS
                                                                    : PLAIN;
        return strstr(key, "events.ndjson") != NULL && own == policy;
}

/* One file. `broken`: and one that cannot be opened. */
static void write_sets(enum policy policy, bool broken)
{
        static const char *const said[] = {"", "EventId: true, ", "Redaction: {Drop: [mail.tags]}, "};
        FILE *out = fopen(sets_path, "w");
        cr_assert_not_null(out);
        (void)fprintf(out,
                      "ConfigurationSets:\n- ConfigurationSetName: set-0\n  EventDestinations:\n"
                      "  - EventDestinationName: file\n    EventDestination:\n      Enabled: true\n"
                      "      MatchingEventTypes: [SEND]\n      Sendring: {%sFileDestination: "
                      "{Path: %s/events.ndjson}}\n",
                      said[policy], rig.directory);
        if (broken)
                (void)fprintf(out,
                              "  - EventDestinationName: folder\n    EventDestination:\n      Enabled: true\n"
                              "      MatchingEventTypes: [SEND]\n      Sendring: {FileDestination: {Path: %s/0}}\n",
                              rig.directory);
        (void)fclose(out);
}

/* Over the journal that is there. */
static void start_with(enum policy policy, bool broken)
{
        struct err err = {.text = ""};
        egress_rig_defaults(&rig);
        router_rig_open();
        write_sets(policy, broken);
        cr_assert_eq(router_rig_start(&err), ERR_OK, "%s", err.text);
}

static void start(enum policy policy)
{
        start_with(policy, false);
}

static void reload(enum policy policy, bool broken, bool taken)
{
        const uint64_t refused = counter_get(&block, COUNTER_control_reloads_refused);
        write_sets(policy, broken);
        router_reload(&router);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads_refused), refused + !taken);
}

/* NULL: there is none. */
static struct router_target *target_of(enum policy policy)
{
        for (uint32_t i = 0; i < router.targets_count; i++)
                if (policy_is(router.targets[i].key, policy))
                        return &router.targets[i];
        return NULL;
}

static uint32_t published;
static void publish(enum policy policy)
{
        const struct router_target *target = target_of(policy);
        cr_assert_not_null(target);
        rig.targets[0].numbers[0] = target->numbers[0];
        egress_rig_publish(&rig, 0, published++, 0, 0);
}

static struct journal_target_state state_of(enum policy policy)
{
        struct journal_target_state state;
        for (uint16_t number = 0; journal_target_get(rig.journals[0], number, &state); number++)
                if (policy_is(state.key, policy))
                        return state;
        cr_assert_fail("the journal knows no such target");
        return state;
}

/* The worker and the control thread go on until the only target left is the one of the sets, and has delivered all. */
static void settle(enum policy policy)
{
        const uint64_t deadline_ns = clock_monotonic_ns() + 20 * CLOCK_NS_PER_S;
        for (;;) {
                const struct router_target *target = target_of(policy);
                struct journal_target_state state;
                rig.workers[0]->tick_ns = 0; /* no turn waits, */
                for (uint32_t i = 0; i < router.targets_count; i++)
                        router.targets[i].again_ns = 0; /* and nothing is tried later */
                egress_worker_shed(rig.workers[0]);
                (void)egress_worker_turn(rig.workers[0]);
                router_settle_targets(&router);
                if (router.targets_count == 1 && target != NULL && target->target != NULL &&
                    journal_target_get(rig.journals[0], target->numbers[0], &state) &&
                    state.delivered == state.accepted)
                        return;
                cr_assert_lt(clock_monotonic_ns(), deadline_ns, "%u targets, the file waits", router.targets_count);
        }
}

/* Of `count` lines, all whole, how many tell their event's id; each event is there once. */
static uint32_t lines_with_ids(uint32_t count)
{
        char path[400], *line = NULL;
        size_t room = 0;
        uint32_t lines = 0, with = 0;
        bool seen[64] = {false};
        (void)snprintf(path, sizeof(path), "%s/events.ndjson", rig.directory);
        FILE *file = fopen(path, "re");
        cr_assert_not_null(file);
        for (ssize_t len = getline(&line, &room, file); len > 0; len = getline(&line, &room, file)) {
                const char *at = strstr(line, "\"messageId\":\"id-");
                cr_assert(at != NULL && line[len - 1] == '\n', "%s", line);
                const unsigned long id = strtoul(at + 16, NULL, 10);
                cr_assert(id < 64 && !seen[id], "%lu is there again", id);
                seen[id] = true;
                lines++;
                with += strstr(line, "\"sendring\":{") != NULL;
        }
        free(line);
        (void)fclose(file);
        cr_assert_eq(lines, count);
        return with;
}

static void nothing_is_shed(void)
{
        cr_assert_eq(state_of(PLAIN).shed, 0);
        cr_assert_eq(state_of(IDS).shed, 0);
}

/* Else the one of the sets has it, and the other one's events hold the log for ever. */
Test(router_file_turns, at_a_start_what_waits_for_the_policy_of_before_is_written_first)
{
        journal_files_make(rig.directory);
        start(PLAIN);
        for (int i = 0; i < 3; i++)
                publish(PLAIN);
        router_rig_close();

        start(IDS);
        cr_assert_not_null(target_of(PLAIN));
        cr_assert_not_null(target_of(PLAIN)->target);
        cr_assert_not_null(target_of(IDS));
        cr_assert_null(target_of(IDS)->target);
        for (int i = 0; i < 2; i++)
                publish(IDS);
        settle(IDS);
        cr_assert(state_of(PLAIN).retired);
        nothing_is_shed();
        cr_assert_eq(lines_with_ids(5), 2);
        router_rig_close();
        egress_rig_remove(&rig);
}

/* A folder in its place, say: whoever is tried first when that has passed must not be the one of the sets. */
Test(router_file_turns, nor_does_it_lose_its_turn_when_the_file_cannot_be_opened)
{
        char path[400], aside[400];
        journal_files_make(rig.directory);
        start(PLAIN);
        publish(PLAIN);
        router_rig_close();
        (void)snprintf(path, sizeof(path), "%s/events.ndjson", rig.directory);
        (void)snprintf(aside, sizeof(aside), "%s/aside", rig.directory);
        cr_assert_eq(rename(path, aside), 0);
        cr_assert_eq(mkdir(path, 0700), 0);
        start(IDS);
        publish(IDS);
        cr_assert_null(target_of(PLAIN)->target);
        cr_assert_eq(rmdir(path), 0);
        cr_assert_eq(rename(aside, path), 0);
        router_settle_targets(&router);
        cr_assert_null(target_of(IDS)->target);
        settle(IDS);
        nothing_is_shed();
        cr_assert_eq(lines_with_ids(2), 1);
        router_rig_close();
        egress_rig_remove(&rig);
}

Test(router_file_turns, a_reload_may_change_the_policy)
{
        journal_files_make(rig.directory);
        start(PLAIN);
        publish(PLAIN);
        reload(IDS, false, true);
        cr_assert_null(target_of(IDS)->target);
        publish(IDS);
        publish(PLAIN); /* a shard that has not seen the new plan */
        settle(IDS);
        nothing_is_shed();
        cr_assert_eq(lines_with_ids(3), 1);

        /* Nothing waits. */
        reload(PLAIN, false, true);
        publish(PLAIN);
        settle(PLAIN);
        nothing_is_shed();
        cr_assert_eq(lines_with_ids(4), 1);
        router_rig_close();
        egress_rig_remove(&rig);
}

/* There and back while the first still writes: the other's events could never come to the file. */
Test(router_file_turns, a_reload_back_waits_until_the_file_has_changed_hands)
{
        journal_files_make(rig.directory);
        start(PLAIN);
        publish(PLAIN);
        reload(IDS, false, true);
        publish(IDS);
        router_settle_targets(&router);
        cr_assert(target_of(PLAIN)->removing);
        reload(PLAIN, false, false);
        settle(IDS);
        reload(PLAIN, false, true);
        publish(PLAIN);
        settle(PLAIN);
        nothing_is_shed();
        cr_assert_eq(lines_with_ids(3), 1);
        router_rig_close();

        /* A start may come at any time. */
        start(IDS);
        publish(IDS);
        router_rig_close();
        start(PLAIN);
        publish(PLAIN);
        router_rig_close();
        start(IDS);
        cr_assert_null(target_of(IDS)->target);
        settle(IDS);
        nothing_is_shed();
        cr_assert_eq(lines_with_ids(5), 2);
        router_rig_close();
        egress_rig_remove(&rig);
}

/* Another one in the middle that never had the file: what waits for it is written second. */
Test(router_file_turns, who_has_never_had_the_file_has_it_before_the_one_of_the_sets)
{
        journal_files_make(rig.directory);
        start(PLAIN);
        publish(PLAIN);
        reload(IDS, false, true);
        publish(IDS);
        router_settle_targets(&router);
        reload(DROPS, false, true);
        publish(DROPS);
        router_settle_targets(&router);
        for (int i = 0; i < 2; i++) {
                cr_assert_not_null(target_of(PLAIN)->target);
                cr_assert_null(target_of(IDS)->target);
                cr_assert_null(target_of(DROPS)->target);
                target_of(IDS)->again_ns = 0;
                router_settle_targets(&router);
        }
        settle(DROPS);
        nothing_is_shed();
        cr_assert_eq(lines_with_ids(3), 1);
        router_rig_close();
        egress_rig_remove(&rig);
}

/* The plan in force keeps the file, and nothing is left of the one that was not to be. */
Test(router_file_turns, a_refused_reload_leaves_the_file_to_whom_it_had)
{
        journal_files_make(rig.directory);
        start(PLAIN);
        publish(PLAIN);
        reload(IDS, true, false);
        publish(PLAIN);
        settle(PLAIN);
        cr_assert(state_of(IDS).retired);
        nothing_is_shed();
        cr_assert_eq(lines_with_ids(2), 0);
        router_rig_close();
        egress_rig_remove(&rig);
}

/* As the reload was: whether or not something waits, the plan of before has its file at last. */
Test(router_file_turns, sets_refused_after_a_crash_leave_the_file_to_whom_it_had)
{
        journal_files_make(rig.directory);
        start(PLAIN);
        router_rig_close();
        options.restarted = true;
        for (int waits = 0; waits < 2; waits++) {
                start_with(IDS, true);
                cr_assert_eq(rules_plan_targets_count(router.plan->plan), 1);
                settle(PLAIN);
                publish(PLAIN);
                router_rig_close();
        }
        start(PLAIN);
        settle(PLAIN);
        cr_assert(state_of(IDS).retired);
        nothing_is_shed();
        cr_assert_eq(lines_with_ids(2), 0);
        router_rig_close();
        egress_rig_remove(&rig);
}

/* It would hold the log from where it came. */
Test(router_file_turns, who_has_nothing_to_write_waits_for_no_file)
{
        journal_files_make(rig.directory);
        start(PLAIN);
        publish(PLAIN);
        reload(IDS, false, true);
        router_settle_targets(&router);
        reload(DROPS, false, true);
        target_of(IDS)->again_ns = 0;
        router_settle_targets(&router);
        cr_assert_null(target_of(IDS));
        cr_assert(state_of(IDS).retired);
        cr_assert_not_null(target_of(PLAIN)->target);
        settle(DROPS);
        nothing_is_shed();
        cr_assert_eq(lines_with_ids(1), 0);
        router_rig_close();
        egress_rig_remove(&rig);
}
