/* The targets file is lost, in whole or in part: what its copy gives back, and how the rest is counted. */
#include "tests/support/journal_rig.h"

#include <errno.h>

#define TARGETS 3u

static bool is_targets_file(int fd)
{
        char link[64], path[400];
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, path, sizeof(path) - 1);
        const size_t name_bytes = sizeof("/targets") - 1;
        return len > (ssize_t)name_bytes && memcmp(path + len - name_bytes, "/targets", name_bytes) == 0;
}

/* Syncs, or those of the targets file, fail with EIO while it is set. */
static bool syncs_fail, targets_syncs_fail;
int __real_disk_sync(int fd);
int __wrap_disk_sync(int fd);
int __wrap_disk_sync(int fd)
{
        if (!syncs_fail && !(targets_syncs_fail && is_targets_file(fd)))
                return __real_disk_sync(fd);
        errno = EIO;
        return -1;
}

/* So many opens of the copy fail with copy_errno. */
static unsigned copy_fails;
static int copy_errno;
int __real_disk_open(int directory_fd, const char *path, int flags, mode_t mode);
int __wrap_disk_open(int directory_fd, const char *path, int flags, mode_t mode);
int __wrap_disk_open(int directory_fd, const char *path, int flags, mode_t mode)
{
        if (copy_fails == 0 || strcmp(path, "targets.copy") != 0)
                return __real_disk_open(directory_fd, path, flags, mode);
        copy_fails--;
        errno = copy_errno;
        return -1;
}

TestSuite(journal_targets, .init = make_directory, .fini = remove_directory, .timeout = 60);

static const char *const keys[TARGETS] = {"file /a", "firehose b", "cloudwatch c"};

static struct journal *must_open_with(uint64_t retention_bytes, struct journal_recovery *ret_recovery)
{
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 16 * MIB,
                .segments_mapped_max = 4,
                .retention_bytes = retention_bytes,
                .durability = JOURNAL_DURABILITY_HOST,
        };
        return rig_open(&options, ret_recovery);
}

static struct journal *must_open(struct journal_recovery *ret_recovery)
{
        return must_open_with(0, ret_recovery);
}

static void must_register(struct journal *journal, uint16_t first)
{
        struct err err = {.text = ""};
        for (uint16_t i = 0; i < TARGETS; i++) {
                uint16_t target;
                cr_assert_eq(journal_target_register(journal, slice_of_text(keys[i]), &target, &err), ERR_OK, "%s",
                             err.text);
                cr_assert_eq(target, first + i);
        }
}

static void append(struct journal *journal, uint64_t count)
{
        for (uint64_t i = 0; i < count; i++) {
                uint64_t sequence = journal_next_sequence(journal);
                enum err_code code = journal_files_append(journal, sequence, MEAN, TARGETS);
                if (code == ERR_FULL) {
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                        code = journal_files_append(journal, sequence, MEAN, TARGETS);
                }
                cr_assert_eq(code, ERR_OK, "%s", err_name(code));
                journal_publish(journal);
                if (journal_wants_maintenance(journal))
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        }
}

/* Maintenance, where it is wanted, is the caller's. */
static void append_while_it_fails(struct journal *journal, uint64_t count)
{
        for (uint64_t i = 0; i < count; i++) {
                cr_assert_eq(journal_files_append(journal, journal_next_sequence(journal), MEAN, TARGETS), ERR_OK);
                cr_assert_eq(journal_publish(journal), ERR_OK);
        }
}

/* Everything up to now is delivered to a target. */
static void deliver(struct journal *journal, uint16_t target)
{
        uint64_t position, sequence;
        uint64_t waiting = journal_target_count_waiting(journal, target, NULL);
        journal_committed(journal, &position, &sequence);
        journal_target_advance(journal, target, position, sequence, &(struct journal_settled){.delivered = waiting});
}

static struct journal_target_state state_of(struct journal *journal, uint16_t target, uint64_t *ret_waiting)
{
        struct journal_target_state state;
        struct err err = {.text = ""};
        cr_assert_eq(journal_target_audit(journal, target, &state, ret_waiting, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(state.accepted, state.delivered + state.dead_lettered + state.shed + state.expired + *ret_waiting,
                     "target %u: accepted %llu waiting %llu", target, (unsigned long long)state.accepted,
                     (unsigned long long)*ret_waiting);
        return state;
}

static void path_of(const char *name, char out[400])
{
        (void)snprintf(out, 400, "%s/%s", directory, name);
}

/* Zeros instead of what stood there. */
static void wipe(const char *name, off_t from, size_t bytes)
{
        static const uint8_t zeros[4096];
        char path[400];
        path_of(name, path);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        for (size_t done = 0; done < bytes; done += sizeof(zeros)) {
                size_t part = bytes - done < sizeof(zeros) ? bytes - done : sizeof(zeros);
                cr_assert_eq(pwrite(fd, zeros, part, from + (off_t)done), (ssize_t)part);
        }
        (void)close(fd);
}

static void lose(const char *name)
{
        char path[400];
        path_of(name, path);
        cr_assert_eq(unlink(path), 0);
}

/* 1,000 for everybody, the first 600 of them delivered to target 0. */
static void fill(void)
{
        struct journal *journal = must_open(NULL);
        must_register(journal, 0);
        append(journal, 600);
        deliver(journal, 0);
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        append(journal, 400);
        journal_close(journal);
}

static void check_all_is_there(void)
{
        struct journal_recovery recovery;
        struct journal *journal = must_open(&recovery);
        cr_assert_eq(recovery.lost_events, 0);
        cr_assert_gt(recovery.targets_from_copy, 0);
        must_register(journal, 0);
        for (uint16_t target = 0; target < TARGETS; target++) {
                uint64_t waiting, routed = journal_files_routed(1, 1001, target);
                struct journal_target_state state = state_of(journal, target, &waiting);
                cr_assert_str_eq(state.key, keys[target]);
                cr_assert_eq(state.accepted, routed, "target %u: %llu", target, (unsigned long long)state.accepted);
                cr_assert_eq(state.delivered, target == 0 ? 600 : 0);
                cr_assert_eq(waiting, target == 0 ? 400 : routed);
                cr_assert_eq(state.lost, 0);
        }
        journal_close(journal);
        /* And the file is what it was. */
        journal = must_open(&recovery);
        cr_assert_eq(recovery.targets_from_copy, 0);
        cr_assert_eq(recovery.rewritten_segments, 0);
        journal_close(journal);
}

Test(journal_targets, a_lost_file_costs_nothing)
{
        fill();
        lose("targets");
        check_all_is_there();
}

static struct journal *must_open_read_only(void)
{
        const struct journal_options options = {.directory = directory, .read_only = true};
        struct journal *journal = NULL;
        struct err err = {.text = ""};
        cr_assert_eq(journal_open(&options, &journal, NULL, &err), ERR_OK, "%s", err.text);
        return journal;
}

/* The books are what they were, those who only read see all of them, and nothing was written. */
static void check_readers_see_all(const char *how)
{
        struct err err = {.text = ""};
        struct journal *journal = must_open_read_only();
        cr_assert_eq(journal_targets_check(journal, &err), ERR_OK, "%s: %s", how, err.text);
        cr_assert_eq(journal_targets_count(journal), TARGETS, "%s: %u", how, journal_targets_count(journal));
        for (uint16_t target = 0; target < TARGETS; target++) {
                uint64_t waiting, routed = journal_files_routed(1, 1001, target);
                struct journal_target_state state = state_of(journal, target, &waiting);
                cr_assert_str_eq(state.key, keys[target], "%s", how);
                cr_assert_eq(state.accepted, routed, "%s: target %u: %llu", how, target,
                             (unsigned long long)state.accepted);
                cr_assert_eq(state.delivered, target == 0 ? 600 : 0, "%s", how);
                cr_assert_eq(waiting, target == 0 ? 400 : routed, "%s", how);
        }
        journal_close(journal);
}

Test(journal_targets, readers_take_from_the_copy_what_the_file_lacks)
{
        static const struct {
                const char *name;
                off_t at;
                size_t bytes;
        } parts[] = {
                {"header", 0, 64},           {"name", 4096 + 1024 + 512, 16},   {"cursor", 4096 + 128, 128},
                {"counts", 4096 + 320, 128}, {"all of it", 0, 4096 + 3 * 1024},
        };
        char path[400], whole[300];
        fill();
        (void)snprintf(whole, sizeof(whole), "%s-whole", directory);
        journal_files_copy(directory, whole);
        check_readers_see_all("whole");
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
                wipe("targets", parts[i].at, parts[i].bytes);
                check_readers_see_all(parts[i].name);
                journal_files_remove(directory); /* each is missing alone */
                journal_files_copy(whole, directory);
        }
        journal_files_remove(whole);
        path_of("targets", path);
        cr_assert_eq(truncate(path, 0), 0);
        check_readers_see_all("empty");
        lose("targets");
        check_readers_see_all("removed");
        cr_assert_eq(access(path, F_OK), -1, "a reader made it");
        check_all_is_there();
}

Test(journal_targets, readers_say_what_neither_file_has)
{
        struct err err = {.text = ""};
        char path[400];
        fill();
        wipe("targets", 4096 + 1024 + 128, 128);
        wipe("targets.copy", 4096 + 1024 + 128, 128);
        struct journal *journal = must_open_read_only();
        cr_assert_eq(journal_targets_check(journal, &err), ERR_CORRUPT);
        cr_assert_neq(strstr(err.text, "of 1 targets"), NULL, "%s", err.text);
        journal_close(journal);
        path_of("targets.copy", path);
        cr_assert_eq(truncate(path, 4096), 0);
        path_of("targets", path);
        cr_assert_eq(truncate(path, 4096 + 2 * 1024), 0);
        journal = must_open_read_only();
        cr_assert_eq(journal_targets_check(journal, &err), ERR_CORRUPT);
        cr_assert_neq(strstr(err.text, "of 2 targets"), NULL, "%s", err.text);
        journal_close(journal);
        wipe("targets", 0, 4096);
        wipe("targets.copy", 0, 4096);
        journal = must_open_read_only();
        cr_assert_eq(journal_targets_check(journal, &err), ERR_CORRUPT, "both headers");
        journal_close(journal);
        lose("targets.copy");
        cr_assert_eq(truncate(path, 0), 0);
        journal = must_open_read_only();
        cr_assert_eq(journal_targets_check(journal, &err), ERR_CORRUPT);
        cr_assert_neq(strstr(err.text, "neither"), NULL, "%s", err.text);
        cr_assert_eq(journal_targets_count(journal), 0);
        journal_close(journal);
        lose("targets");
        const struct journal_options options = {.directory = directory, .read_only = true};
        cr_assert_eq(journal_open(&options, &journal, NULL, &err), ERR_CORRUPT);
        cr_assert_neq(strstr(err.text, "neither"), NULL, "%s", err.text);
}

/* A copy that cannot be looked at for lack of descriptors, memory or rights is not one that is not there. */
Test(journal_targets, a_copy_that_cannot_be_opened_now_is_waited_for)
{
        static const int lacks[] = {EMFILE, ENFILE, ENOMEM, EACCES};
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 16 * MIB,
                .segments_mapped_max = 4,
        };
        struct journal *journal;
        struct err err = {.text = ""};
        fill();
        lose("targets");
        for (size_t i = 0; i < sizeof(lacks) / sizeof(lacks[0]); i++) {
                copy_errno = lacks[i];
                copy_fails = UINT32_MAX;
                enum err_code code = journal_open(&options, &journal, NULL, &err);
                cr_assert_neq(code, ERR_OK, "%d: numbers that only the copy knows", lacks[i]);
                cr_assert(strstr(err.text, "targets.copy") != NULL && strstr(err.text, strerror(lacks[i])) != NULL,
                          "%s", err.text);
        }
        copy_errno = EMFILE;
        copy_fails = 3;
        check_all_is_there();
        cr_assert_eq(copy_fails, 0);
}

Test(journal_targets, a_copy_that_nobody_needs_refuses_no_start)
{
        uint64_t waiting;
        fill();
        copy_errno = EMFILE;
        copy_fails = UINT32_MAX;
        struct journal *journal = must_open(NULL);
        copy_fails = 0;
        must_register(journal, 0);
        cr_assert_eq(state_of(journal, 0, &waiting).delivered, 600);
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        journal_close(journal);
        lose("targets");
        check_all_is_there();
}

/* Looking whether the file needs its copy changes nothing: that a cursor is an old one is known all the same. */
Test(journal_targets, a_torn_slot_is_told_also_without_the_copy)
{
        char path[400];
        uint64_t version, waiting;
        struct journal_recovery recovery;
        fill();
        path_of("targets", path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        cr_assert_eq(pread(fd, &version, sizeof(version), 4096 + 64), (ssize_t)sizeof(version));
        (void)close(fd);
        cr_assert_gt(version, 1);
        wipe("targets", (off_t)(4096 + 128 + 64 * (version & 1)), 64);
        copy_errno = EMFILE;
        copy_fails = UINT32_MAX;
        struct journal *journal = must_open(&recovery);
        copy_fails = 0;
        cr_assert_eq(recovery.targets_repaired, 1);
        cr_assert_lt(state_of(journal, 0, &waiting).delivered, 600);
        journal_close(journal);
}

Test(journal_targets, each_part_that_only_the_copy_has_waits_for_it)
{
        /* The header, which says how many there are; a name; both slots of a cursor; both of the counts. */
        static const struct {
                off_t at;
                size_t bytes;
        } parts[] = {{0, 64}, {4096 + 1024 + 512, 16}, {4096 + 128, 128}, {4096 + 320, 128}};
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 16 * MIB,
                .segments_mapped_max = 4,
        };
        fill();
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
                struct journal *journal;
                struct err err;
                wipe("targets", parts[i].at, parts[i].bytes);
                copy_errno = EMFILE;
                copy_fails = UINT32_MAX;
                cr_assert_eq(journal_open(&options, &journal, NULL, &err), ERR_SYSTEM, "%zu", i);
                copy_fails = 0;
                if (i == 0)
                        journal_close(must_open(NULL)); /* every line was there all the same */
                else
                        check_all_is_there();
        }
}

Test(journal_targets, an_empty_file_costs_nothing)
{
        char path[400];
        fill();
        path_of("targets", path);
        cr_assert_eq(truncate(path, 0), 0);
        check_all_is_there();
}

Test(journal_targets, a_zeroed_file_costs_nothing)
{
        fill();
        wipe("targets", 0, 4096 + TARGETS * 1024);
        check_all_is_there();
}

Test(journal_targets, a_lost_page_of_lines_costs_nothing)
{
        fill();
        wipe("targets", 4096, 4096);
        check_all_is_there();
}

Test(journal_targets, a_lost_header_is_a_sync_that_may_have_failed)
{
        struct journal_recovery recovery;
        uint64_t waiting;
        fill();
        wipe("targets", 0, 4096);
        struct journal *journal = must_open(&recovery);
        cr_assert_gt(recovery.rewritten_segments, 0);
        must_register(journal, 0);
        cr_assert_eq(state_of(journal, 0, &waiting).delivered, 600);
        journal_close(journal);
}

Test(journal_targets, a_damaged_copy_harms_nothing_and_is_made_anew)
{
        struct journal_recovery recovery;
        for (unsigned round = 0; round < 4; round++) {
                fill();
                if (round == 0)
                        lose("targets.copy");
                else if (round == 1)
                        wipe("targets.copy", 0, 8192);
                else
                        wipe("targets.copy", 4096 + 1024, round == 2 ? 700 : 5);
                struct journal *journal = must_open(&recovery);
                cr_assert_eq(recovery.targets_from_copy, 0);
                cr_assert_eq(recovery.lost_events, 0);
                journal_close(journal);
                lose("targets");
                check_all_is_there();
                journal_files_remove(directory);
                cr_assert_eq(mkdir(directory, 0700), 0);
        }
}

/* Who had the events cannot be known any more: they are counted, and their numbers are nobody's. */
Test(journal_targets, what_nobody_has_a_name_for_is_lost_and_counted)
{
        struct journal_recovery recovery;
        uint64_t waiting, routed = 0;
        for (uint16_t target = 0; target < TARGETS; target++)
                routed += journal_files_routed(1, 1001, target);
        fill();
        lose("targets");
        lose("targets.copy");
        struct journal *journal = must_open(&recovery);
        cr_assert_eq(recovery.lost_events, routed, "%llu", (unsigned long long)recovery.lost_events);
        cr_assert_eq(journal_targets_count(journal), TARGETS);
        must_register(journal, TARGETS);
        for (uint16_t target = 0; target < TARGETS; target++) {
                struct journal_target_state state = state_of(journal, target, &waiting);
                cr_assert_str_eq(state.key, "");
                cr_assert(state.retired);
                cr_assert_eq(state.lost, journal_files_routed(1, 1001, target));
                cr_assert_eq(waiting, 0);
                cr_assert_eq(state_of(journal, (uint16_t)(TARGETS + target), &waiting).accepted, 0);
        }
        journal_close(journal);
        journal = must_open(&recovery);
        cr_assert_eq(recovery.lost_events, 0, "once is enough");
        must_register(journal, TARGETS);
        journal_close(journal);
}

Test(journal_targets, a_line_lost_in_both_files_costs_that_target_and_is_counted)
{
        struct journal_recovery recovery;
        uint64_t waiting, routed = journal_files_routed(1, 1001, 1);
        fill();
        wipe("targets", 4096 + 1024, 4);
        wipe("targets.copy", 4096 + 1024, 4);
        struct journal *journal = must_open(&recovery);
        cr_assert_eq(recovery.lost_events, routed);
        struct journal_target_state state = state_of(journal, 1, &waiting);
        cr_assert_str_eq(state.key, "");
        cr_assert_eq(state.lost, routed);
        cr_assert_eq(state.shed, 0, "lost is not shed");
        cr_assert_eq(waiting, 0);
        cr_assert_eq(state_of(journal, 0, &waiting).delivered, 600);
        cr_assert_eq(waiting, 400);
        uint16_t target;
        cr_assert_eq(journal_target_register(journal, slice_of_text(keys[1]), &target, NULL), ERR_OK);
        cr_assert_eq(target, TARGETS, "its number is in the log");
        journal_close(journal);
}

/* With much that is only kept, a cursor that is torn must not begin with all of it. */
Test(journal_targets, a_torn_cursor_repeats_little_of_what_is_kept)
{
        struct journal_recovery recovery;
        uint64_t waiting, kept;
        struct journal *journal = must_open_with(8 * MIB, NULL);
        must_register(journal, 0);
        for (unsigned i = 0; i < 60; i++) {
                append(journal, 100);
                for (uint16_t target = 0; target < TARGETS; target++)
                        deliver(journal, target);
        }
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        append(journal, 50);
        for (uint16_t target = 0; target < TARGETS; target++)
                deliver(journal, target);
        append(journal, 10);
        kept = journal_committed_position(journal) - journal_oldest_position(journal);
        cr_assert_gt(kept, 3 * MIB);
        journal_close(journal);
        wipe("targets", 4096 + 128, 128); /* both slots of target 0's owner */
        journal = must_open_with(8 * MIB, &recovery);
        must_register(journal, 0);
        struct journal_target_state state = state_of(journal, 0, &waiting);
        cr_assert_eq(waiting, 60, "%llu of %llu", (unsigned long long)waiting, (unsigned long long)state.accepted);
        cr_assert_eq(state.accepted, 6060);
        cr_assert_eq(state_of(journal, 1, &waiting).accepted, 3030);
        cr_assert_eq(waiting, 5);
        journal_close(journal);
}

Test(journal_targets, a_copy_that_cannot_be_written_refuses_nothing_and_is_told)
{
        char path[400];
        struct err err = {.text = ""};
        path_of("targets.copy", path);
        cr_assert_eq(mkdir(path, 0700), 0);
        struct journal *journal = must_open(NULL);
        must_register(journal, 0);
        cr_assert_eq(journal_maintain(journal, &err), ERR_SYSTEM);
        cr_assert(strstr(err.text, path) != NULL, "%s", err.text);
        for (uint64_t i = 0; i < 100; i++)
                cr_assert_eq(journal_files_append(journal, i + 1, MEAN, TARGETS), ERR_OK);
        journal_publish(journal);
        cr_assert_eq(rmdir(path), 0);
        cr_assert_eq(journal_maintain(journal, &err), ERR_OK, "%s", err.text);
        journal_close(journal);
        lose("targets");
        journal = must_open(NULL);
        must_register(journal, 0);
        uint64_t waiting;
        cr_assert_eq(state_of(journal, 0, &waiting).accepted, 100);
        journal_close(journal);
}

Test(journal_targets, retired_ones_stay_so)
{
        struct journal_target_state state;
        fill();
        struct journal *journal = must_open(NULL);
        must_register(journal, 0);
        journal_target_retire(journal, 1);
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        journal_close(journal);
        lose("targets");
        journal = must_open(NULL);
        cr_assert(journal_target_get(journal, 1, &state));
        cr_assert(state.retired);
        cr_assert_str_eq(state.key, keys[1]);
        cr_assert_eq(state.shed, journal_files_routed(1, 1001, 1));
        cr_assert(journal_target_get(journal, 0, &state));
        cr_assert_not(state.retired);
        journal_close(journal);
}

static void append_of(struct journal *journal, unsigned count, uint32_t bytes)
{
        const struct journal_entry entry = {.lane_id = 1, .lane_position = 8, .routes_count = 1, .routes = {0}};
        for (unsigned i = 0; i < count; i++) {
                uint8_t *payload = NULL;
                cr_assert_eq(journal_reserve(journal, bytes, &payload), ERR_OK);
                memset(payload, 0, bytes);
                journal_commit(journal, &entry, bytes);
        }
        cr_assert_eq(journal_publish(journal), ERR_OK);
}

/* A power cut took the log and the targets file back, and not their copy: it speaks of sequences that were used again.
 */
Test(journal_targets, a_copy_that_is_ahead_of_the_log_balances)
{
        char path[400], aside[400];
        uint16_t target;
        uint64_t waiting;
        struct journal *journal = must_open(NULL);
        cr_assert_eq(journal_target_register(journal, slice_of_text(keys[0]), &target, NULL), ERR_OK);
        const uint64_t begin = journal_committed_position(journal);
        append_of(journal, 20, 0); /* 64 bytes each */
        journal_target_advance(journal, target, begin + UINT64_C(15) * 64, 16,
                               &(struct journal_settled){.delivered = 15});
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        journal_close(journal);
        (void)snprintf(aside, sizeof(aside), "%s.copy", directory);
        path_of("targets.copy", path);
        cr_assert_eq(rename(path, aside), 0);
        journal_files_remove(directory);
        cr_assert_eq(mkdir(directory, 0700), 0);

        journal = must_open(NULL);
        cr_assert_eq(journal_target_register(journal, slice_of_text(keys[0]), &target, NULL), ERR_OK);
        append_of(journal, 1, 14 * 64); /* up to the cursor of the copy */
        append_of(journal, 5, 1000);
        journal_close(journal);
        cr_assert_eq(rename(aside, path), 0);
        path_of("targets", path);
        cr_assert_eq(unlink(path), 0);

        journal = must_open(NULL);
        struct journal_target_state state = state_of(journal, target, &waiting);
        cr_assert_eq(state.cursor_sequence, 16);
        cr_assert_eq(waiting, 5);
        journal_close(journal);
}

/* Whoever could not register it does not own it: it must hold nothing, and is live once that succeeds. */
Test(journal_targets, a_register_that_could_not_be_synced_leaves_nothing_live)
{
        struct journal *journal = must_open(NULL);
        struct journal_target_state state;
        uint16_t target = 7;
        must_register(journal, 0);
        journal_target_retire(journal, 1);
        append(journal, 1);
        syncs_fail = true;
        cr_assert_eq(journal_target_register(journal, SLICE("sns d"), &target, NULL), ERR_SYSTEM); /* a new one */
        cr_assert_eq(journal_target_register(journal, slice_of_text(keys[1]), &target, NULL), ERR_SYSTEM);
        cr_assert_eq(journal_target_register(journal, slice_of_text(keys[0]), &target, NULL), ERR_SYSTEM);
        syncs_fail = false;
        cr_assert_eq(target, 7);
        cr_assert(journal_target_get(journal, TARGETS, &state));
        cr_assert(state.retired);
        cr_assert(journal_target_get(journal, 1, &state));
        cr_assert(state.retired, "it was before");
        cr_assert(journal_target_get(journal, 0, &state));
        cr_assert_not(state.retired, "it has an owner from before");
        cr_assert_eq(journal_target_register(journal, SLICE("sns d"), &target, NULL), ERR_OK);
        cr_assert_eq(target, TARGETS);
        cr_assert(journal_target_get(journal, TARGETS, &state));
        cr_assert_not(state.retired);
        journal_close(journal);
}

/* A start serves what waits. What it takes is durable when the names of its targets are, and no cursor frees anything.
 */
Test(journal_targets, a_file_that_cannot_be_synced_refuses_no_start)
{
        struct journal_stats stats;
        struct err err = {.text = ""};
        uint64_t waiting;
        struct journal *journal = must_open(NULL);
        must_register(journal, 0);
        append(journal, 2 * MIB / MEAN);
        cr_assert_eq(journal_sync(journal, NULL), ERR_OK);
        journal_close(journal);

        journal = must_open(NULL);
        const uint64_t before = journal_durable_position(journal);
        targets_syncs_fail = true;
        must_register(journal, 0);
        uint16_t target = 7;
        cr_assert_eq(journal_target_register(journal, SLICE("sns d"), &target, NULL), ERR_OK, "a new one, too");
        cr_assert_eq(target, TARGETS);
        cr_assert_eq(journal_maintain(journal, &err), ERR_SYSTEM);
        cr_assert(strstr(err.text, "targets") != NULL, "%s", err.text);
        for (uint16_t i = 0; i <= TARGETS; i++) {
                cr_assert_eq(state_of(journal, i, &waiting).retired, false);
                deliver(journal, i);
        }
        append_while_it_fails(journal, 100);
        cr_assert_eq(journal_sync(journal, &err), ERR_SYSTEM);
        cr_assert(strstr(err.text, "targets") != NULL, "%s", err.text);
        cr_assert_eq(journal_durable_position(journal), before, "nobody would know whose they are");
        cr_assert_eq(journal_maintain(journal, &err), ERR_SYSTEM);
        journal_get_stats(journal, &stats);
        cr_assert_eq(stats.segments_recycled, 0);

        targets_syncs_fail = false;
        cr_assert_eq(journal_maintain(journal, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(journal_sync(journal, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);

        /* Without maintenance in between the sync sees to it. */
        journal = must_open(NULL);
        targets_syncs_fail = true;
        must_register(journal, 0);
        append_while_it_fails(journal, 1);
        cr_assert_eq(journal_sync(journal, &err), ERR_SYSTEM);
        targets_syncs_fail = false;
        cr_assert_eq(journal_sync(journal, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);
}

/* What could not be written the kernel may drop, and read back from the disk; the next sync succeeds without it. Memory
 * has it all: cursors that freed their segments must not be old ones at the next start. */
Test(journal_targets, what_the_kernel_dropped_is_written_from_memory)
{
        struct journal_recovery recovery;
        struct err err = {.text = ""};
        uint8_t before[TARGETS * 1024];
        char path[400];
        uint64_t waiting;
        struct journal *journal = must_open(NULL);
        must_register(journal, 0);
        append(journal, 100);
        cr_assert_eq(journal_sync(journal, NULL), ERR_OK);
        path_of("targets", path);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        cr_assert_eq(pread(fd, before, sizeof(before), 4096), (ssize_t)sizeof(before));
        append(journal, 8 * MIB / MEAN);
        const uint64_t count = journal_next_sequence(journal);
        for (uint16_t target = 0; target < TARGETS; target++)
                deliver(journal, target);
        targets_syncs_fail = true;
        cr_assert_eq(journal_maintain(journal, &err), ERR_SYSTEM);
        cr_assert_eq(pwrite(fd, before, sizeof(before), 4096), (ssize_t)sizeof(before));
        (void)close(fd);
        targets_syncs_fail = false;
        cr_assert_eq(journal_maintain(journal, &err), ERR_OK, "%s", err.text);
        journal_close(journal); /* a kill leaves no less */
        journal = must_open(&recovery);
        cr_assert_eq(recovery.lost_events, 0, "%llu", (unsigned long long)recovery.lost_events);
        for (uint16_t target = 0; target < TARGETS; target++)
                cr_assert_eq(state_of(journal, target, &waiting).delivered, journal_files_routed(1, count, target));
        journal_close(journal);
}
