/* The copies of configuration-sets.yaml: which are made, found again, and removed. */
#include "router/router_internal.h"
#include "tests/support/journal_files.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static struct router_options options;
static struct rules_keys *keys; /* what a copy is parsed with */

static void kept_begin(struct router *router, char directory[256])
{
        if (keys == NULL)
                keys = rules_keys_create(true);
        cr_assert_not_null(keys);
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
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: []\n"), NULL, NULL), ERR_OK);
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: []\n"), NULL, NULL), ERR_OK);
        cr_assert_eq(router_kept_newest(&router), 1, "the same text is one copy");
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: [ ]\n"), NULL, NULL), ERR_OK);
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
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: [ ]\n"), NULL, NULL), ERR_OK);
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
                cr_assert_eq(router_kept_save(&router, slice_of_text(text), NULL, NULL), ERR_OK);
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
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: [] # 1\n"), NULL, NULL), ERR_OK);
        disk_is_full(true);
        for (unsigned i = 2; i <= 4; i++) {
                char sets[64];
                (void)snprintf(sets, sizeof(sets), "ConfigurationSets: [] # %u\n", i);
                cr_assert_neq(router_kept_save(&router, slice_of_text(sets), NULL, NULL), ERR_OK);
                cr_assert_eq(router_kept_newest(&router), i);
        }
        kept_write_now(&router);
        router.targets = &target;
        router.targets_count = 1;
        router_kept_forget(&router);
        cr_assert_eq(router.kept_count, 3, "the newest on the disk, that of a target, the newest");
        cr_assert(kept_is_there(&router, 1) && !kept_is_there(&router, 2) && !kept_is_there(&router, 4));
        arena_init(&arena, 0, 0);
        cr_assert_eq(router_kept_parse(&router, 2, ROUTER_KEPT_OF_THEN, &arena, &text, keys, &plan), ERR_OK);
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
        cr_assert_eq(router_kept_parse(&router, 4, ROUTER_KEPT_OF_THEN, &arena, &text, keys, &plan), ERR_OK);
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
        cr_assert_neq(router_kept_parse(&router, 0, ROUTER_KEPT_OF_NOW, &arena, &text, keys, &plan), ERR_OK,
                      "there is none");
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: [\n"), NULL, NULL), ERR_OK);
        cr_assert_neq(router_kept_parse(&router, 1, ROUTER_KEPT_OF_NOW, &arena, &text, keys, &plan), ERR_OK);
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets:\n- ConfigurationSetName: a\n"), NULL, NULL),
                     ERR_OK);
        cr_assert_eq(router_kept_parse(&router, 2, ROUTER_KEPT_OF_NOW, &arena, &text, keys, &plan), ERR_OK);
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
        cr_assert_eq(router_kept_parse(router, number, which, &arena, &text, keys, &plan), ERR_OK);
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
        cr_assert_eq(router_kept_save(&router, sets, NULL, NULL), ERR_OK);
        router.settings.region = "cn-north-1";
        router.settings.account_id = "111122223333";
        router.settings.partition = "aws-cn";
        router.settings.default_configuration_set = "of-today"; /* not in this copy */
        kept_expect(&router, 1, ROUTER_KEPT_OF_THEN, "us-east-1", "", "aws");
        router.settings.default_configuration_set = "a";
        kept_expect(&router, 1, ROUTER_KEPT_OF_NOW, "cn-north-1", "111122223333", "aws-cn");
        cr_assert_eq(router_kept_save(&router, sets, NULL, NULL), ERR_OK);
        cr_assert_eq(router_kept_newest(&router), 2, "the same text, and other targets");
        cr_assert_eq(router_kept_save(&router, sets, NULL, NULL), ERR_OK);
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
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: []\n"), NULL, NULL), ERR_OK);
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

/* Sets with two policies of their own keys, one of them twice, and a plain file. */
static struct slice kept_keyed(const char *directory, char text[2048])
{
        int used = snprintf(text, 2048,
                            "ConfigurationSets:\n- ConfigurationSetName: a\n  EventDestinations:\n"
                            "  - {Name: plain, Enabled: true, MatchingEventTypes: [SEND], Sendring: "
                            "{FileDestination: {Path: /nowhere/plain}}}\n");
        for (int i = 0; i < 2; i++)
                used += snprintf(text + used, 2048 - (size_t)used,
                                 "  - {Name: k%d, Enabled: true, MatchingEventTypes: [SEND], Sendring: {Redaction: "
                                 "{Addresses: hmac, KeyFile: %s/key-%d}, FileDestination: {Path: /nowhere/k%d}}}\n",
                                 i, directory, i, i);
        used += snprintf(text + used, 2048 - (size_t)used,
                         "  - {Name: k0-too, Enabled: true, MatchingEventTypes: [OPEN], Sendring: {Redaction: "
                         "{Addresses: hmac, KeyFile: %s/key-0}, FileDestination: {Path: /nowhere/k0}}}\n",
                         directory);
        return slice_of(text, (size_t)used);
}

static void kept_write_key(const char *directory, int number, char letter)
{
        char path[400], key[33] = "";
        (void)snprintf(path, sizeof(path), "%s/key-%d", directory, number);
        (void)unlink(path);
        if (letter == '\0')
                return;
        memset(key, letter, 32);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, key, 32), 32);
        (void)close(fd);
}

/* Parses a copy; the keys of its three targets. */
static void kept_targets(struct router *router, uint64_t number, char ret_keys[3][200])
{
        struct arena arena;
        struct slice text;
        struct rules_plan *plan = NULL;
        arena_init(&arena, 0, 0);
        cr_assert_eq(router_kept_parse(router, number, ROUTER_KEPT_OF_THEN, &arena, &text, keys, &plan), ERR_OK);
        cr_assert_eq(rules_plan_targets_count(plan), 3);
        for (uint32_t i = 0; i < 3; i++)
                (void)snprintf(ret_keys[i], 200, "%.*s", SLICE_PRINTF(rules_plan_target(plan, i)->key));
        rules_plan_free(plan);
        arena_release(&arena);
}

/* As the router does: reads the sets, and keeps them with the keys that they were read with. */
static void kept_save_read(struct router *router, struct slice text)
{
        struct rules_report report;
        struct rules_plan *plan = NULL;
        rules_report_init(&report);
        rules_keys_clear(keys);
        cr_assert_eq(rules_plan_parse_with_keys("sets", text, NULL, keys, &plan, &report), ERR_OK);
        rules_report_release(&report);
        rules_plan_free(plan);
        (void)router_kept_save(router, text, keys, NULL);
}

static void kept_keys_path(const struct router *router, unsigned number, char path[400])
{
        (void)snprintf(path, 400, "%s/plans/%020u.keys", router->settings.state_directory, number);
}

Test(router_kept, a_copy_has_the_keys_it_was_in_force_with)
{
        struct router router;
        char directory[256] = "", text[2048], path[400], then[3][200], seen[3][200];
        struct stat status;
        kept_begin(&router, directory);
        struct slice sets = kept_keyed(directory, text);
        kept_write_key(directory, 0, 'a');
        kept_write_key(directory, 1, 'x');
        kept_save_read(&router, sets);
        kept_save_read(&router, sets);
        cr_assert_eq(router_kept_newest(&router), 1, "the same text and keys are one copy");
        kept_keys_path(&router, 1, path);
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq(status.st_mode & 07777, 0600);
        kept_targets(&router, 1, then);

        /* One is replaced, the other removed. */
        kept_write_key(directory, 0, 'b');
        kept_write_key(directory, 1, '\0');
        kept_targets(&router, 1, seen);
        cr_assert_eq(rules_keys_gone(keys), 0);
        for (int i = 0; i < 3; i++)
                cr_assert_str_eq(seen[i], then[i]);
        kept_write_key(directory, 1, 'x');
        kept_save_read(&router, sets);
        cr_assert_eq(router_kept_newest(&router), 2, "another key is another copy");
        kept_targets(&router, 2, seen);
        cr_assert_str_neq(seen[1], then[1]);
        cr_assert_str_eq(seen[2], then[2]);
        router_kept_release(&router);

        /* The next router; the keys go with the copy, and those without one at once. */
        char orphan[400];
        kept_keys_path(&router, 7, orphan);
        cr_assert_eq(link(path, orphan), 0);
        kept_begin(&router, directory);
        cr_assert_neq(access(orphan, F_OK), 0);
        FILE *other = fopen(path, "r");
        cr_assert_not_null(other);
        for (int byte = fgetc(other); byte != EOF; byte = fgetc(other))
                cr_assert_eq(byte, 0, "wiped, not only removed");
        (void)fclose(other);
        router_kept_forget(&router);
        cr_assert_eq(router.kept_count, 1);
        cr_assert_neq(access(path, F_OK), 0);
        kept_keys_path(&router, 2, path);
        cr_assert_eq(access(path, F_OK), 0);
        router_kept_release(&router);
        journal_files_remove(directory);
}

/* A copy of an earlier version has no keys, and those of another may be damaged: the files are asked. */
Test(router_kept, a_key_that_is_gone_costs_its_own_destination_only)
{
        struct router router;
        struct arena arena;
        struct slice ignored;
        struct rules_plan *plan = NULL;
        char directory[256] = "", text[2048], path[400], then[3][200], seen[3][200];
        kept_begin(&router, directory);
        kept_write_key(directory, 0, 'a');
        kept_write_key(directory, 1, 'x');
        kept_save_read(&router, kept_keyed(directory, text));
        kept_targets(&router, 1, then);
        kept_write_key(directory, 0, '\0');
        kept_keys_path(&router, 1, path);
        static const char *const damages[] = {NULL,
                                              "",
                                              "# sendring-keys 2\n",
                                              "# sendring-keys 1\n2f 61\n",
                                              "# sendring-keys 1\n2f 6161616161616161616161616161616g\n",
                                              "# sendring-keys 1\n2f 61616161616161616161616161616161"};
        for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
                (void)unlink(path);
                FILE *file = damages[i] == NULL ? NULL : fopen(path, "w");
                if (file != NULL) {
                        (void)fputs(damages[i], file);
                        (void)fclose(file);
                }
                kept_targets(&router, 1, seen);
                cr_assert_eq(rules_keys_gone(keys), 1);
                cr_assert_str_eq(seen[0], then[0]);
                cr_assert_str_neq(seen[1], then[1]);
                cr_assert_str_eq(seen[2], then[2]);
        }
        /* It comes into force with all of them, or not at all. */
        struct rules_keys *whole = rules_keys_create(false);
        arena_init(&arena, 0, 0);
        cr_assert_eq(router_kept_parse(&router, 1, ROUTER_KEPT_OF_NOW, &arena, &ignored, whole, &plan), ERR_CONFIG);
        cr_assert_null(plan);
        rules_keys_free(whole);
        arena_release(&arena);
        router_kept_release(&router);
        journal_files_remove(directory);
}

/* Without room both wait in memory, and are written together. */
Test(router_kept, keys_without_room_wait_with_their_copy)
{
        struct router router;
        char directory[256] = "", text[2048], plans[400], aside[400], path[400], then[3][200], seen[3][200];
        kept_begin(&router, directory);
        kept_write_key(directory, 0, 'a');
        kept_write_key(directory, 1, 'x');
        (void)snprintf(plans, sizeof(plans), "%s/plans", directory);
        (void)snprintf(aside, sizeof(aside), "%s/aside", directory);
        cr_assert_eq(rename(plans, aside), 0);
        kept_save_read(&router, kept_keyed(directory, text));
        cr_assert_not_null(router.kept[0].keys);
        kept_targets(&router, 1, then);
        kept_write_key(directory, 0, '\0');
        kept_targets(&router, 1, seen);
        cr_assert_str_eq(seen[1], then[1]);
        cr_assert_eq(rename(aside, plans), 0);
        router.kept_again_ns = 0;
        router_kept_write(&router);
        cr_assert_null(router.kept[0].keys);
        kept_keys_path(&router, 1, path);
        cr_assert_eq(access(path, F_OK), 0);
        kept_targets(&router, 1, seen);
        cr_assert_str_eq(seen[1], then[1]);
        router_kept_release(&router);
        journal_files_remove(directory);
}
