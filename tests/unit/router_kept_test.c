/* The copies of configuration-sets.yaml: which are made, found again, and removed. */
#include "router/router_internal.h"
#include "tests/support/journal_files.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static struct router_options options;

static void kept_begin(struct router *router, char directory[256])
{
        if (directory[0] == '\0')
                journal_files_make(directory);
        *router = (struct router){.options = &options};
        router->settings.state_directory = directory;
        router->settings.configuration_sets_path = "/nowhere/configuration-sets.yaml";
        router->settings.default_configuration_set = NULL;
        router->settings.region = "us-east-1";
        router->settings.account_id = "";
        router->settings.partition = "aws";
        cr_assert_eq(router_kept_open(router, NULL), ERR_OK);
}

static bool kept_is_there(const struct router *router, unsigned number)
{
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/plans/%020u.yaml", router->settings.state_directory, number);
        return access(path, F_OK) == 0;
}

Test(router_kept, only_what_is_new_is_copied)
{
        struct router router;
        char directory[256] = "";
        kept_begin(&router, directory);
        cr_assert_eq(router_kept_newest(&router), 0);
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: []\n"), NULL), ERR_OK);
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: []\n"), NULL), ERR_OK);
        cr_assert_eq(router_kept_newest(&router), 1, "the same text is one copy");
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: [ ]\n"), NULL), ERR_OK);
        cr_assert_eq(router_kept_newest(&router), 2);
        router_kept_release(&router);
        /* A router that was killed while it wrote the third. */
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/plans/%020u.yaml.new.4711", directory, 3);
        FILE *half = fopen(path, "w");
        cr_assert_not_null(half);
        (void)fclose(half);
        kept_begin(&router, directory);
        cr_assert_eq(router_kept_newest(&router), 2);
        cr_assert_eq(router.kept_count, 2);
        cr_assert_neq(access(path, F_OK), 0, "what is half is removed");
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: [ ]\n"), NULL), ERR_OK);
        cr_assert_eq(router_kept_newest(&router), 2, "the same over a restart");
        char newest[400], expected[400];
        cr_assert(router_kept_newest_path(&router.settings, newest, sizeof(newest)), "for tools");
        cr_assert(router_kept_path(&router.settings, 2, expected, sizeof(expected)));
        cr_assert_str_eq(newest, expected);
        cr_assert_not(router_kept_newest_path(&router.settings, newest, strlen(expected)), "without room");
        router_kept_release(&router);
        journal_files_remove(directory);
}

Test(router_kept, a_copy_stays_while_a_target_needs_it)
{
        struct router router;
        char directory[256] = "";
        struct router_target targets[2] = {{.kept = 2}, {.kept = 4}};
        kept_begin(&router, directory);
        for (int i = 0; i < 4; i++) {
                char text[64];
                (void)snprintf(text, sizeof(text), "ConfigurationSets: [] # %d\n", i);
                cr_assert_eq(router_kept_save(&router, slice_of_text(text), NULL), ERR_OK);
        }
        router.targets = targets;
        router.targets_count = 2;
        router_kept_forget(&router);
        cr_assert(!kept_is_there(&router, 1) && kept_is_there(&router, 2) && !kept_is_there(&router, 3) &&
                  kept_is_there(&router, 4));
        router.targets_count = 0;
        router_kept_forget(&router);
        cr_assert(!kept_is_there(&router, 2) && kept_is_there(&router, 4), "the newest stays");
        cr_assert_eq(router_kept_newest(&router), 4);
        router_kept_release(&router);
        journal_files_remove(directory);
}

static void disk_is_full(bool full)
{
        struct rlimit limit = {.rlim_cur = full ? 1 : RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
        (void)signal(SIGXFSZ, SIG_IGN);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void kept_write_now(struct router *router)
{
        router->kept_again_ns = 0;
        router_kept_write(router);
}

Test(router_kept, what_finds_no_room_waits_for_it)
{
        struct router router;
        struct arena arena;
        struct slice text;
        struct rules_plan *plan = NULL;
        char directory[256] = "";
        struct router_target target = {.kept = 2};
        kept_begin(&router, directory);
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: [] # 1\n"), NULL), ERR_OK);
        disk_is_full(true);
        for (unsigned i = 2; i <= 4; i++) {
                char sets[64];
                (void)snprintf(sets, sizeof(sets), "ConfigurationSets: [] # %u\n", i);
                cr_assert_neq(router_kept_save(&router, slice_of_text(sets), NULL), ERR_OK);
                cr_assert_eq(router_kept_newest(&router), i);
        }
        kept_write_now(&router);
        router.targets = &target;
        router.targets_count = 1;
        router_kept_forget(&router);
        cr_assert_eq(router.kept_count, 3, "the newest on the disk, that of a target, the newest");
        cr_assert(kept_is_there(&router, 1) && !kept_is_there(&router, 2) && !kept_is_there(&router, 4));
        arena_init(&arena, 0, 0);
        cr_assert_eq(router_kept_parse(&router, 2, ROUTER_KEPT_OF_THEN, &arena, &text, &plan), ERR_OK);
        cr_assert(slice_equal(text, SLICE("ConfigurationSets: [] # 2\n")));
        rules_plan_free(plan);

        disk_is_full(false);
        router_kept_write(&router);
        cr_assert_not(kept_is_there(&router, 2), "not so soon again");
        kept_write_now(&router);
        router_kept_forget(&router);
        cr_assert_eq(router.kept_count, 2);
        cr_assert(!kept_is_there(&router, 1) && kept_is_there(&router, 2) && !kept_is_there(&router, 3) &&
                  kept_is_there(&router, 4));
        router_kept_release(&router);
        kept_begin(&router, directory);
        cr_assert_eq(router_kept_newest(&router), 4);
        cr_assert_eq(router_kept_parse(&router, 4, ROUTER_KEPT_OF_THEN, &arena, &text, &plan), ERR_OK);
        cr_assert(slice_equal(text, SLICE("ConfigurationSets: [] # 4\n")));
        rules_plan_free(plan);
        arena_release(&arena);
        router_kept_release(&router);
        journal_files_remove(directory);
}

Test(router_kept, a_damaged_copy_is_no_plan)
{
        struct router router;
        struct arena arena;
        struct slice text;
        struct rules_plan *plan = NULL;
        char directory[256] = "";
        kept_begin(&router, directory);
        arena_init(&arena, 0, 0);
        cr_assert_neq(router_kept_parse(&router, 0, ROUTER_KEPT_OF_NOW, &arena, &text, &plan), ERR_OK, "there is none");
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: [\n"), NULL), ERR_OK);
        cr_assert_neq(router_kept_parse(&router, 1, ROUTER_KEPT_OF_NOW, &arena, &text, &plan), ERR_OK);
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets:\n- ConfigurationSetName: a\n"), NULL), ERR_OK);
        cr_assert_eq(router_kept_parse(&router, 2, ROUTER_KEPT_OF_NOW, &arena, &text, &plan), ERR_OK);
        cr_assert_eq(rules_plan_sets_count(plan), 1);
        rules_plan_free(plan);
        arena_release(&arena);
        router_kept_release(&router);
        journal_files_remove(directory);
}

static const char kept_cloudwatch[] =
        "ConfigurationSets:\n"
        "- ConfigurationSetName: a\n"
        "  EventDestinations:\n"
        "  - EventDestinationName: cw\n"
        "    EventDestination: {Enabled: true, MatchingEventTypes: [SEND], CloudWatchDestination:\n"
        "      {DimensionConfigurations: [{DimensionName: d, DimensionValueSource: MESSAGE_TAG,\n"
        "        DefaultDimensionValue: none}]}, Sendring: {Namespace: n}}\n";

static void kept_expect(struct router *router, uint64_t number, enum router_kept_settings which, const char *region,
                        const char *account_id, const char *partition)
{
        struct arena arena;
        struct slice text;
        struct rules_plan *plan = NULL;
        char start[128];
        arena_init(&arena, 0, 0);
        cr_assert_eq(router_kept_parse(router, number, which, &arena, &text, &plan), ERR_OK);
        cr_assert(slice_has_suffix(text, slice_of_text(kept_cloudwatch)));
        cr_assert_eq(rules_plan_targets_count(plan), 1);
        const struct rules_target *target = rules_plan_target(plan, 0);
        (void)snprintf(start, sizeof(start), "cloudwatch %s %s ", region, account_id[0] == '\0' ? "-" : account_id);
        cr_assert(slice_has_prefix(target->key, slice_of_text(start)), "%.*s", SLICE_PRINTF(target->key));
        cr_assert(slice_equal(target->region, slice_of_text(region)), "requests are signed and sent by it");
        cr_assert(slice_equal(target->account_id, slice_of_text(account_id)));
        cr_assert(slice_equal(target->partition, slice_of_text(partition)));
        rules_plan_free(plan);
        arena_release(&arena);
}

Test(router_kept, targets_are_those_of_the_settings_then)
{
        struct router router;
        struct slice sets = slice_of_text(kept_cloudwatch);
        char directory[256] = "";
        kept_begin(&router, directory);
        cr_assert_eq(router_kept_save(&router, sets, NULL), ERR_OK);
        router.settings.region = "cn-north-1";
        router.settings.account_id = "111122223333";
        router.settings.partition = "aws-cn";
        router.settings.default_configuration_set = "of-today"; /* not in this copy */
        kept_expect(&router, 1, ROUTER_KEPT_OF_THEN, "us-east-1", "", "aws");
        router.settings.default_configuration_set = "a";
        kept_expect(&router, 1, ROUTER_KEPT_OF_NOW, "cn-north-1", "111122223333", "aws-cn");
        cr_assert_eq(router_kept_save(&router, sets, NULL), ERR_OK);
        cr_assert_eq(router_kept_newest(&router), 2, "the same text, and other targets");
        cr_assert_eq(router_kept_save(&router, sets, NULL), ERR_OK);
        cr_assert_eq(router_kept_newest(&router), 2);
        router.settings.region = "us-east-1";
        kept_expect(&router, 2, ROUTER_KEPT_OF_THEN, "cn-north-1", "111122223333", "aws-cn");
        router_kept_release(&router);
        journal_files_remove(directory);
}

/* Of versions before, or after, or damaged. */
Test(router_kept, a_copy_without_settings_is_read_with_those_of_now)
{
        static const char *const heads[] = {
                "",
                "# sendring-plan 2 eu-west-1 - aws\n",
                "# sendring-plan 1 eu-west-1 -\n",
                "# sendring-plan 1 eu-west-1 - an-absurdly-long-partition-of-no-cloud\n",
                "# sendring-plan 1  - aws\n",
        };
        struct router router;
        char directory[256] = "";
        kept_begin(&router, directory);
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: []\n"), NULL), ERR_OK);
        for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
                char path[400];
                (void)snprintf(path, sizeof(path), "%s/plans/%020u.yaml", directory, 1);
                FILE *file = fopen(path, "w");
                cr_assert_not_null(file);
                (void)fprintf(file, "%s%s", heads[i], kept_cloudwatch);
                cr_assert_eq(fclose(file), 0);
                kept_expect(&router, 1, ROUTER_KEPT_OF_THEN, "us-east-1", "", "aws");
        }
        router_kept_release(&router);
        journal_files_remove(directory);
}
