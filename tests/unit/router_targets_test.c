/* Targets that cannot be opened: they wait, with their events, until they can. */
#include "egress/worker_internal.h"
#include "tests/support/router_rig.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static bool syncs_fail;
static unsigned syncs;
int __real_disk_sync(int fd);
int __wrap_disk_sync(int fd);
int __wrap_disk_sync(int fd)
{
        syncs++;
        return __real_disk_sync(syncs_fail ? -1 : fd);
}

static const char *unread_path; /* the next reading of it fails */
static int unread_errno = EIO;
enum err_code __real_file_read(struct arena *arena, const char *path, size_t max_bytes, struct slice *ret_bytes,
                               struct err *reterr);
enum err_code __wrap_file_read(struct arena *arena, const char *path, size_t max_bytes, struct slice *ret_bytes,
                               struct err *reterr);
enum err_code __wrap_file_read(struct arena *arena, const char *path, size_t max_bytes, struct slice *ret_bytes,
                               struct err *reterr)
{
        if (unread_path == NULL || strcmp(unread_path, path) != 0)
                return __real_file_read(arena, path, max_bytes, ret_bytes, reterr);
        unread_path = NULL;
        return err_set_errno(reterr, ERR_SYSTEM, unread_errno, "cannot read %s", path);
}

static const char *numberless; /* no number is left for a key with this in it */
enum err_code __real_journal_target_register(struct journal *journal, struct slice key, uint16_t *ret_target,
                                             struct err *reterr);
enum err_code __wrap_journal_target_register(struct journal *journal, struct slice key, uint16_t *ret_target,
                                             struct err *reterr);
enum err_code __wrap_journal_target_register(struct journal *journal, struct slice key, uint16_t *ret_target,
                                             struct err *reterr)
{
        if (numberless == NULL || memmem(key.ptr, key.len, numberless, strlen(numberless)) == NULL)
                return __real_journal_target_register(journal, key, ret_target, reterr);
        return err_set(reterr, ERR_LIMIT, "no number left for delivery target %.*s", SLICE_PRINTF(key));
}

static unsigned
        stream_rate; /* a stream with so many records a second is in the sets that are written next; 0: none is */

static const char *file_name = "events.ndjson";
static bool start_is_refused;
static char key_letter; /* the stream's policy has a key of 32 of these; 0: it has no policy */

static void write_sets(bool counted)
{
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/key", rig.directory);
        FILE *key = key_letter == 0 ? NULL : fopen(path, "w");
        for (int i = 0; i < 32 && key != NULL; i++)
                (void)fputc(key_letter, key);
        if (key != NULL) {
                (void)fclose(key);
                cr_assert_eq(chmod(path, 0600), 0);
        }
        FILE *out = fopen(sets_path, "w");
        cr_assert_not_null(out);
        (void)fprintf(out,
                      "ConfigurationSets:\n- ConfigurationSetName: set-0\n  EventDestinations:\n"
                      "  - EventDestinationName: file\n    EventDestination:\n      Enabled: true\n"
                      "      MatchingEventTypes: [SEND]\n      Sendring:\n        FileDestination:\n"
                      "          Path: %s/%s\n",
                      rig.directory, file_name);
        if (stream_rate != 0)
                (void)fprintf(
                        out,
                        "  - EventDestinationName: stream\n    EventDestination:\n      Enabled: true\n"
                        "      MatchingEventTypes: [SEND]\n      KinesisFirehoseDestination:\n"
                        "        DeliveryStreamArn: arn:aws:firehose:us-east-1:123456789012:deliverystream/stream\n"
                        "      Sendring: {Rate: {Records: %u}%s%s%s}\n",
                        stream_rate, key_letter == 0 ? "" : ", Redaction: {Addresses: hmac, KeyFile: ",
                        key_letter == 0 ? "" : rig.directory, key_letter == 0 ? "" : "/key}");
        if (counted)
                (void)fprintf(out, "  - EventDestinationName: metrics\n    EventDestination:\n      Enabled: true\n"
                                   "      MatchingEventTypes: [SEND]\n      CloudWatchDestination:\n"
                                   "        DimensionConfigurations:\n        - DimensionName: ses:configuration-set\n"
                                   "          DimensionValueSource: MESSAGE_TAG\n"
                                   "          DefaultDimensionValue: none\n");
        (void)fclose(out);
}

/* No file may become so long as an outbox: a disk without room. */
static rlim_t full_bytes = 200 * 1024;
static void disk_is_full(bool full)
{
        struct rlimit limit = {.rlim_cur = full ? full_bytes : RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
        (void)signal(SIGXFSZ, SIG_IGN);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Over the journal that is there. */
static void start(bool counted, bool full)
{
        struct err err = {.text = ""};
        egress_rig_defaults(&rig);
        (void)snprintf(rig.settings.egress.cloudwatch.url, sizeof(rig.settings.egress.cloudwatch.url),
                       "http://127.0.0.1:1");
        (void)snprintf(rig.settings.egress.firehose.url, sizeof(rig.settings.egress.firehose.url),
                       "http://127.0.0.1:1");
        router_rig_open();
        write_sets(counted);
        disk_is_full(full);
        cr_assert_eq(router_rig_start(&err) != ERR_OK, start_is_refused, "%s", err.text);
}

static void end(void)
{
        router_rig_close();
        disk_is_full(false);
}

static struct router_target *counting(void)
{
        for (uint32_t i = 0; i < router.targets_count; i++)
                if (strncmp(router.targets[i].key, "cloudwatch", strlen("cloudwatch")) == 0)
                        return &router.targets[i];
        return NULL;
}

static struct router_target *filed(void)
{
        for (uint32_t i = 0; i < router.targets_count; i++)
                if (strstr(router.targets[i].key, "events.ndjson") != NULL)
                        return &router.targets[i];
        cr_assert_fail("no target of the file");
        return NULL;
}

static struct journal_target_state state_of(uint16_t number)
{
        struct journal_target_state state;
        cr_assert(journal_target_get(router.journals[0], number, &state));
        return state;
}

/* An event comes for the target, and waits. Its number in the log. */
static uint16_t wait_for(const struct router_target *target)
{
        uint8_t *payload = NULL;
        const struct journal_entry entry = {
                .lane_id = 1, .lane_position = 8, .routes_count = 1, .routes = {target->numbers[0]}};
        cr_assert_eq(journal_reserve(router.journals[0], 0, &payload), ERR_OK);
        journal_commit(router.journals[0], &entry, 0);
        cr_assert_eq(journal_publish(router.journals[0]), ERR_OK);
        return target->numbers[0];
}

Test(router_targets, what_cannot_be_opened_at_start_waits_and_the_rest_is_served, .timeout = 60)
{
        journal_files_make(rig.directory);
        start(true, true);
        cr_assert_eq(router.targets_count, 2);
        struct router_target *target = counting();
        cr_assert_not_null(target);
        cr_assert_null(target->target);
        cr_assert_not_null(router.targets[target == &router.targets[0] ? 1 : 0].target);
        char error[200];
        counters_row_get_error(target->row, error, sizeof(error));
        cr_assert_eq(atomic_load(&target->row->status), COUNTERS_TARGET_RETRYING);
        cr_assert(strstr(error, "cloudwatch") != NULL, "%s", error);
        router_settle_targets(&router);
        target->again_ns = 0;
        router_settle_targets(&router);
        cr_assert_null(target->target, "still not");
        cr_assert_gt(target->again_ns, 0);

        /* Its events wait, and a router whose sets do not name it any more does not shed them. */
        const uint16_t number = wait_for(target);
        end();
        start(false, true);
        target = counting();
        cr_assert_not_null(target);
        cr_assert_null(target->target);
        cr_assert_eq(target->numbers[0], number);
        cr_assert_not(state_of(number).retired);

        disk_is_full(false);
        target->again_ns = 0;
        router_settle_targets(&router);
        cr_assert_not_null(target->target);
        cr_assert(target->removing, "delivered to its end, then it goes");
        cr_assert_eq(state_of(number).shed, 0);
        end();

        /* Nobody knows how to open it: then it is shed, and counted. */
        journal_files_remove(rig.outboxes);
        start(false, true);
        target = counting();
        cr_assert_not_null(target);
        target->kept = 0;
        target->again_ns = 0;
        router_settle_targets(&router);
        cr_assert_null(counting());
        cr_assert_eq(journal_maintain(router.journals[0], NULL), ERR_OK);
        cr_assert_eq(state_of(number).shed, 1);
        end();
        egress_rig_remove(&rig);
}

/* Not a disk without room: another process has its outbox, say. */
Test(router_targets, one_of_before_is_not_shed_whatever_keeps_it_from_being_opened, .timeout = 60)
{
        journal_files_make(rig.directory);
        start(true, false);
        struct router_target *target = counting();
        cr_assert_not_null(target);
        const uint16_t number = wait_for(target);
        end();

        char path[700];
        DIR *outboxes = opendir(rig.outboxes);
        cr_assert_not_null(outboxes);
        int fd = -1;
        for (struct dirent *file = readdir(outboxes); file != NULL; file = readdir(outboxes)) {
                if (strstr(file->d_name, ".outbox") == NULL)
                        continue;
                (void)snprintf(path, sizeof(path), "%s/%s", rig.outboxes, file->d_name);
                fd = open(path, O_RDWR);
        }
        (void)closedir(outboxes);
        cr_assert_geq(fd, 0);
        cr_assert_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
        start(false, false);
        target = counting();
        cr_assert_not_null(target, "it waits");
        cr_assert_null(target->target);
        cr_assert_not(state_of(number).retired);
        cr_assert_eq(state_of(number).shed, 0);
        (void)close(fd);
        target->again_ns = 0;
        router_settle_targets(&router);
        cr_assert_not_null(target->target);
        cr_assert_eq(state_of(number).shed, 0);
        end();
        egress_rig_remove(&rig);
}

/* A directory in the place of a copy of the sets: it cannot be read, and may be readable a moment later. */
Test(router_targets, nobody_of_before_is_retired_while_a_copy_of_the_sets_cannot_be_read, .timeout = 60)
{
        char copy[700], aside[720];
        journal_files_make(rig.directory);
        start(true, false);
        const uint16_t number = wait_for(counting());
        cr_assert(router_kept_path(&router.settings, router_kept_newest(&router), copy, sizeof(copy)));
        end();
        (void)snprintf(aside, sizeof(aside), "%s/aside", rig.directory);
        cr_assert_eq(rename(copy, aside), 0);
        cr_assert_eq(mkdir(copy, 0700), 0);
        start(false, false);
        cr_assert_null(counting());
        cr_assert_not(state_of(number).retired);
        cr_assert_neq(router.resume_again_ns, 0);

        cr_assert_eq(rmdir(copy), 0);
        cr_assert_eq(rename(aside, copy), 0);
        router.resume_again_ns = 1;
        router_settle_targets(&router);
        cr_assert_not_null(counting());
        cr_assert_not_null(counting()->target);
        cr_assert_eq(state_of(number).shed, 0);
        cr_assert_eq(router.resume_again_ns, 0);
        end();

        /* It belongs to who ran the daemon by hand, say. */
        unread_path = copy;
        unread_errno = EACCES;
        start(false, false);
        cr_assert_null(unread_path);
        cr_assert_null(counting());
        cr_assert_not(state_of(number).retired);
        cr_assert_neq(router.resume_again_ns, 0);
        end();
        egress_rig_remove(&rig);
}

Test(router_targets, a_reload_with_one_that_cannot_be_opened_is_refused, .timeout = 60)
{
        struct shard_plan *plan = NULL;
        struct err err = {.text = ""};
        journal_files_make(rig.directory);
        start(false, true);
        write_sets(true);
        cr_assert_neq(router_load_plan(&router, &plan, &err), ERR_OK);
        cr_assert(strstr(err.text, "cloudwatch") != NULL, "%s", err.text);
        cr_assert_null(counting());
        end();
        egress_rig_remove(&rig);
}

/* Registers others, until there are so many or the disk has no room for one. The disk is then as full as it can be. */
static void take_numbers(uint32_t count)
{
        char path[700], key[32];
        struct stat status;
        enum err_code code = ERR_OK;
        (void)snprintf(path, sizeof(path), "%s/0/targets", rig.directory);
        while (code == ERR_OK && journal_targets_count(router.journals[0]) < count) {
                uint16_t number = 0;
                (void)snprintf(key, sizeof(key), "file of before %u", journal_targets_count(router.journals[0]));
                code = journal_target_register(router.journals[0], slice_of_text(key), &number, NULL);
        }
        cr_assert_eq(stat(path, &status), 0);
        full_bytes = (rlim_t)status.st_size;
}

Test(router_targets, a_start_on_a_full_disk_has_a_number_for_a_new_destination, .timeout = 60)
{
        journal_files_make(rig.directory);
        start(false, false);
        take_numbers(64);
        end();
        start(true, true);
        cr_assert_not_null(counting());
        cr_assert_eq(rules_plan_targets_count(router.plan->plan), 2);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads_refused), 0);
        end();
        egress_rig_remove(&rig);
}

/* Its events could not be counted: what was in force goes on, and what waits is delivered. */
Test(router_targets, a_start_without_room_for_a_number_goes_on_with_the_sets_of_before, .timeout = 60)
{
        journal_files_make(rig.directory);
        start(false, false);
        take_numbers(0);
        disk_is_full(true);
        take_numbers(LIMIT_TARGETS_MAX);
        end();
        disk_is_full(true);
        start(true, true);
        cr_assert_null(counting());
        cr_assert_eq(router.targets_count, 1);
        cr_assert_not_null(router.targets[0].target);
        cr_assert_eq(rules_plan_targets_count(router.plan->plan), 1);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads_refused), 1);
        cr_assert_eq(router.kept_count, 1);

        /* Tried again: still not, which refuses nothing anew; then there is room. */
        for (int i = 0; i < 2; i++) {
                cr_assert_null(counting());
                router_settle_targets(&router);
                cr_assert_not(router.reload_wanted);
                router.sets_again_ns = 1;
                router_settle_targets(&router);
                cr_assert(router.reload_wanted);
                disk_is_full(i == 0);
                router_reload(&router);
        }
        cr_assert_not_null(counting());
        cr_assert_not_null(counting()->target);
        cr_assert_eq(router.sets_again_ns, 0);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads_refused), 1);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads), 1);
        end();
        egress_rig_remove(&rig);
}

/* All were used up, by keys that were replaced each day, say. */
Test(router_targets, a_start_with_no_number_left_goes_on_with_the_sets_of_before, .timeout = 60)
{
        journal_files_make(rig.directory);
        start(false, false);
        end();
        numberless = "cloudwatch";
        start(true, false);
        cr_assert_null(counting());
        cr_assert_not_null(filed()->target);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads_refused), 1);

        /* It does not pass by itself: refused once more, and then when it is asked for. */
        router.sets_again_ns = 1;
        router_settle_targets(&router);
        cr_assert(router.reload_wanted);
        router_reload(&router);
        cr_assert_eq(router.sets_again_ns, 0);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads_refused), 2);
        cr_assert_eq(rules_plan_targets_count(router.plan->plan), 1);
        numberless = NULL;
        router_reload(&router);
        cr_assert_not_null(counting());
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads), 1);
        end();
        egress_rig_remove(&rig);
}

/* Removed, with events that wait, and named again by sets that cannot come into force. */
Test(router_targets, one_that_refused_sets_name_again_is_delivered_as_its_copy_says, .timeout = 60)
{
        char copy[700];
        journal_files_make(rig.directory);
        start(false, false);
        const uint16_t number = wait_for(filed());
        cr_assert(router_kept_path(&router.settings, router_kept_newest(&router), copy, sizeof(copy)));
        file_name = "other.ndjson";
        write_sets(false);
        router_reload(&router);
        cr_assert_eq(router.kept_count, 2);
        end();

        file_name = "events.ndjson";
        numberless = "cloudwatch";
        start(true, false);
        cr_assert_eq(rules_plan_targets_count(router.plan->plan), 1);
        cr_assert_not_null(filed(), "of the sets that are not in force");
        router_settle_targets(&router);
        cr_assert_eq(access(copy, F_OK), 0, "events wait that only it tells how to deliver");
        end();

        numberless = NULL;
        file_name = "other.ndjson";
        start(false, false);
        cr_assert_not(state_of(number).retired);
        cr_assert_eq(state_of(number).shed, 0);
        file_name = "events.ndjson";
        end();
        egress_rig_remove(&rig);
}

static uint32_t rate_of_stream(void)
{
        for (uint32_t i = 0; i < router.targets_count; i++)
                if (strncmp(router.targets[i].key, "firehose", strlen("firehose")) == 0)
                        return (uint32_t)atomic_load(&router.targets[i].row->rate_records);
        return UINT32_MAX; /* there is none */
}

/* What stands before the one that cannot be opened is as before, too. */
Test(router_targets, a_refused_reload_changes_no_rate, .timeout = 60)
{
        journal_files_make(rig.directory);
        stream_rate = 1000;
        start(false, true);
        cr_assert_eq(rate_of_stream(), 1000);
        stream_rate = 5;
        write_sets(true);
        router_reload(&router);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads_refused), 1);
        cr_assert_eq(rate_of_stream(), 1000);

        write_sets(false);
        router_reload(&router);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads), 1);
        cr_assert_eq(rate_of_stream(), 5);
        stream_rate = 0;
        end();
        egress_rig_remove(&rig);
}

/* Its file became a link while the router was away, say. */
Test(router_targets, what_was_in_force_waits_at_a_start_whatever_keeps_it_from_being_opened, .timeout = 60)
{
        char path[700], aside[700];
        journal_files_make(rig.directory);
        stream_rate = 1000;
        start(false, false);
        const uint16_t number = wait_for(filed());
        end();
        (void)snprintf(path, sizeof(path), "%s/events.ndjson", rig.directory);
        (void)snprintf(aside, sizeof(aside), "%s/elsewhere.ndjson", rig.directory);
        (void)unlink(path);
        cr_assert_eq(symlink(aside, path), 0);
        for (int i = 0; i < 2; i++) {
                options.restarted = i == 1; /* by systemd, then by the keeper */
                start(false, false);
                cr_assert_eq(router.targets_count, 2);
                cr_assert_null(filed()->target);
                cr_assert_eq(atomic_load(&filed()->row->status), COUNTERS_TARGET_RETRYING);
                cr_assert_neq(rate_of_stream(), UINT32_MAX);
                cr_assert_not(state_of(number).retired);
                cr_assert_eq(counter_get(&block, COUNTER_control_reloads_refused), 0);
                if (i == 0)
                        end();
        }
        cr_assert_eq(unlink(path), 0);
        filed()->again_ns = 0;
        router_settle_targets(&router);
        cr_assert_not_null(filed()->target);
        cr_assert_eq(state_of(number).shed, 0);
        stream_rate = 0;
        options.restarted = false;
        end();
        egress_rig_remove(&rig);
}

/* What waits for the old one is for the old policy, whatever has become of the file. */
Test(router_targets, a_key_that_was_replaced_or_removed_sheds_nothing, .timeout = 60)
{
        char path[400];
        journal_files_make(rig.directory);
        stream_rate = 1000;
        key_letter = 'a';
        start(false, false);
        const uint16_t plain = wait_for(filed());
        cr_assert_eq(router.targets_count, 2);
        const uint16_t number = wait_for(&router.targets[filed() == &router.targets[0] ? 1 : 0]);
        cr_assert_neq(number, plain);
        end();

        key_letter = 'b';
        start(false, false);
        cr_assert_eq(router.targets_count, 3, "the old, the new, and the file");
        cr_assert_not(state_of(number).retired);
        end();

        /* Neither is named any more, and the key is gone. */
        key_letter = 0;
        stream_rate = 0;
        (void)snprintf(path, sizeof(path), "%s/key", rig.directory);
        cr_assert_eq(unlink(path), 0);
        file_name = "other.ndjson";
        start(false, false);
        cr_assert_eq(router.targets_count, 3);
        cr_assert_eq(filed()->numbers[0], plain);
        cr_assert_not(state_of(plain).retired);
        cr_assert_not(state_of(number).retired);
        cr_assert_eq(state_of(number).shed, 0);
        file_name = "events.ndjson";
        end();
        egress_rig_remove(&rig);
}

/* A reload was refused for a file that is a folder, and what was in force stayed; then the router died. */
Test(router_targets, after_a_crash_sets_that_a_reload_would_refuse_are_refused, .timeout = 60)
{
        journal_files_make(rig.directory);
        stream_rate = 1000;
        start(false, false);
        const uint16_t number = wait_for(filed());
        file_name = "0";
        write_sets(false);
        router_reload(&router);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads_refused), 1);
        end();

        block = (struct counters_block){0};
        options.restarted = true;
        start(true, false);
        cr_assert_eq(counter_get(&block, COUNTER_control_reloads_refused), 1);
        cr_assert_eq(router.sets_again_ns, 0, "not before it is asked for");
        cr_assert_eq(rules_plan_targets_count(router.plan->plan), 2);
        cr_assert_eq(filed()->numbers[0], number);
        cr_assert_not_null(filed()->target);
        cr_assert_not(state_of(number).retired);
        cr_assert_eq(router.kept_count, 1);
        router_settle_targets(&router);
        cr_assert(counting() == NULL || counting()->removing, "only those sets name it");
        end();

        /* Who starts the service is told. */
        options.restarted = false;
        start_is_refused = true;
        start(false, false);
        cr_assert_null(router.plan);
        start_is_refused = false;
        end();
        file_name = "events.ndjson";
        stream_rate = 0;
        egress_rig_remove(&rig);
}

/* No room for the copy of the sets that name a target; there is some before the target is removed. */
Test(router_targets, a_copy_of_the_sets_without_room_is_written_later, .timeout = 60)
{
        char plans[400], aside[400];
        journal_files_make(rig.directory);
        start(false, false);
        (void)snprintf(plans, sizeof(plans), "%s/plans", rig.directory);
        (void)snprintf(aside, sizeof(aside), "%s/aside", rig.directory);
        cr_assert_eq(rename(plans, aside), 0);
        write_sets(true);
        router_reload(&router);
        cr_assert_not_null(counting());
        const uint16_t number = wait_for(counting());
        router.kept_again_ns = 0;
        router_settle_targets(&router);
        cr_assert_eq(rename(aside, plans), 0);
        router.kept_again_ns = 0;
        router_settle_targets(&router);
        end();

        start(false, false);
        cr_assert_not_null(counting(), "it delivers what waits");
        cr_assert_eq(state_of(number).shed, 0);
        cr_assert_not(state_of(number).retired);
        end();
        egress_rig_remove(&rig);
}

/* Its copy would be empty, and a target that only it names could not be opened any more. */
Test(router_targets, sets_that_are_read_at_the_second_try_only_are_not_in_force, .timeout = 60)
{
        struct shard_plan *plan = NULL;
        struct err err = {.text = ""};
        journal_files_make(rig.directory);
        start(false, false);
        write_sets(true);
        unread_path = sets_path;
        cr_assert_eq(router_load_plan(&router, &plan, &err), ERR_SYSTEM);
        cr_assert(strstr(err.text, sets_path) != NULL, "%s", err.text);
        cr_assert_null(counting());
        cr_assert_eq(router.kept_count, 1);
        cr_assert_eq(router_load_plan(&router, &plan, &err), ERR_OK, "%s", err.text);
        cr_assert_not_null(counting());
        cr_assert_eq(router.kept_count, 2);
        router_plan_free(plan);
        end();
        egress_rig_remove(&rig);
}

/* A power cut must not take back that nothing waits, once nobody knows any more how to open the target. */
Test(router_targets, a_copy_of_the_sets_goes_after_the_cursors_are_on_the_disk, .timeout = 60)
{
        journal_files_make(rig.directory);
        start(false, false);
        cr_assert_eq(router_kept_save(&router, SLICE("ConfigurationSets: []\n"), NULL, NULL), ERR_OK);
        cr_assert_eq(router.kept_count, 2);
        router.targets[0].kept = router_kept_newest(&router);
        syncs = 0;
        syncs_fail = true;
        router_kept_forget(&router);
        cr_assert_eq(router.kept_count, 2, "they are not");
        syncs_fail = false;
        router_kept_forget(&router);
        cr_assert_eq(router.kept_count, 1);
        cr_assert_eq(router.kept[0].number, 2);
        cr_assert_eq(syncs, 2, "with durability process, too");
        router_kept_forget(&router);
        cr_assert_eq(syncs, 2, "nothing goes");
        end();
        egress_rig_remove(&rig);
}

/* Stderr goes to a file; what it says, from its begin. */
static int log_fd;

static void log_to_file(void)
{
        FILE *file = tmpfile();
        cr_assert_not_null(file);
        log_fd = fileno(file);
        cr_assert_eq(dup2(log_fd, STDERR_FILENO), STDERR_FILENO);
}

static const char *logged(void)
{
        static char text[1 << 16];
        ssize_t got = pread(log_fd, text, sizeof(text) - 1, 0);
        cr_assert_geq(got, 0);
        text[got] = '\0';
        return text;
}

Test(router_targets, a_copy_of_the_sets_that_is_not_understood_any_more_is_told, .timeout = 60)
{
        char copy[700];
        journal_files_make(rig.directory);
        start(true, false);
        const uint16_t number = wait_for(counting());
        cr_assert(router_kept_path(&router.settings, router_kept_newest(&router), copy, sizeof(copy)));
        end();
        FILE *file = fopen(copy, "w");
        cr_assert_not_null(file);
        (void)fputs("ConfigurationSets: {no: list}\n", file);
        (void)fclose(file);
        log_to_file();
        start(false, false);
        cr_assert_null(counting());
        cr_assert(state_of(number).retired);
        cr_assert_eq(state_of(number).shed, 1);
        const char *line = strstr(logged(), "a copy of the configuration sets is passed over");
        cr_assert_not_null(line, "%s", logged());
        cr_assert_not_null(strstr(line, copy), "%s", line);
        end();
        egress_rig_remove(&rig);
}

/* It is removed, and what it has asked for hangs; the sets name it again, behind one that is new. */
Test(router_targets, a_reload_that_waits_for_one_that_ends_touches_no_other_and_is_told, .timeout = 60)
{
        journal_files_make(rig.directory);
        stream_rate = 1000;
        start(false, false);
        log_to_file();
        cr_assert_eq(router.targets_count, 2);
        struct router_target *ending = &router.targets[filed() == &router.targets[0] ? 1 : 0];
        ending->removing = true;
        atomic_store(&ending->target->life, EGRESS_TARGET_ENDING);
        file_name = "others.ndjson";
        write_sets(false);
        router.reload_wanted = true;
        uint64_t begun_ns = clock_monotonic_ns();
        for (uint32_t i = 0; i < 5; i++) {
                router_reload(&router);
                cr_assert_eq(router.targets_count, 2, "try %u has opened another one", i);
                clock_sleep_ns(CLOCK_NS_PER_MS);
        }
        cr_assert(router.reload_wanted);
        cr_assert_null(strstr(logged(), "a reload waits"), "it takes a moment: %s", logged());
        router.reload_waits_since_ns = begun_ns - 3 * CLOCK_NS_PER_S;
        router_reload(&router);
        router_reload(&router);
        const char *line = strstr(logged(), "a reload waits");
        cr_assert_not_null(line, "%s", logged());
        cr_assert_not_null(strstr(line, "is still being removed"), "%s", line);
        cr_assert_gt(router.reload_again_ns, begun_ns);

        atomic_store(&ending->target->life, EGRESS_TARGET_REMOVED);
        router.reload_again_ns = 0;
        router_reload(&router);
        cr_assert_not(router.reload_wanted);
        cr_assert_eq(router.targets_count, 3);
        stream_rate = 0;
        file_name = "events.ndjson";
        end();
        egress_rig_remove(&rig);
}
