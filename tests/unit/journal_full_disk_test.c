/* The journal on a disk without room. */
#include "tests/support/journal_rig.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

TestSuite(journal_full_disk, .init = make_directory, .fini = remove_directory, .timeout = 60);

/* More than the disk has. */
static struct journal_options large_options(void)
{
        return (struct journal_options){
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 64 * MIB,
                .drain_bytes_max = 2 * MIB,
                .segments_mapped_max = 4,
        };
}

Test(journal_full_disk, a_file_size_limit_is_a_full_disk_not_a_signal)
{
        struct journal_options options = large_options();
        struct journal *journal = rig_open(&options, NULL);
        struct err err;
        rig_register(journal, "file /a");
        (void)signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {.rlim_cur = MIB / 2, .rlim_max = RLIM_INFINITY};
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        uint64_t sequence = 1;
        while (journal_files_append(journal, sequence, MEAN, 1) == ERR_OK)
                sequence++;
        journal_publish(journal);
        cr_assert_eq(journal_maintain(journal, &err), ERR_DISK_FULL, "%s", err.text);
        cr_assert_eq(journal_files_append(journal, sequence, MEAN, 1), ERR_FULL);
        cr_assert_eq(journal_files_count(directory, ".preparing", NULL), 0);
        limit.rlim_cur = RLIM_INFINITY;
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        cr_assert_eq(journal_maintain(journal, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(journal_files_append(journal, sequence, MEAN, 1), ERR_OK);
        journal_publish(journal);
        check_equation(journal);
        journal_close(journal);
}

/* In a child with its own mounts: 0 all checks held, 77 not permitted, else a line number. */
static int on_a_small_disk(void)
{
#define CHECK(condition)                 \
        do {                             \
                if (!(condition))        \
                        return __LINE__; \
        } while (0)
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", directory, "tmpfs", 0, "size=16m") < 0)
                return 77;
        char ballast_path[300];
        (void)snprintf(ballast_path, sizeof(ballast_path), "%s/ballast", directory);
        int ballast = open(ballast_path, O_RDWR | O_CREAT, 0600);
        struct journal_options options = large_options();
        struct journal *journal;
        struct err err;
        /* No room for the first segment. */
        CHECK(posix_fallocate(ballast, 0, 16 * MIB - 64 * 1024) == 0);
        CHECK(journal_open(&options, &journal, NULL, &err) == ERR_DISK_FULL);
        CHECK(ftruncate(ballast, 0) == 0);
        CHECK(journal_open(&options, &journal, NULL, &err) == ERR_OK);
        uint16_t target;
        CHECK(journal_target_register(journal, SLICE("file /a"), &target, &err) == ERR_OK);
        uint64_t sequence = 1;
        for (;;) {
                enum err_code code = journal_files_append(journal, sequence, MEAN, 1);
                if (code == ERR_FULL) {
                        code = journal_maintain(journal, &err);
                        if (code == ERR_DISK_FULL)
                                break;
                        CHECK(code == ERR_OK);
                        continue;
                }
                CHECK(code == ERR_OK);
                sequence++;
        }
        journal_publish(journal);
        CHECK(sequence > 15000);
        CHECK(journal_target_count_waiting(journal, 0, &err) == sequence - 1);
        /* Open again while the disk is full: everything is there. */
        journal_close(journal);
        struct journal_recovery recovery;
        CHECK(journal_open(&options, &journal, &recovery, &err) == ERR_OK);
        CHECK(recovery.records == sequence - 1 && recovery.lost_records == 0);
        uint8_t *payload;
        CHECK(journal_reserve(journal, LIMIT_RECORD_BYTES_MAX, &payload) == ERR_FULL);
        /* Delivered: the full disk needs no new file. */
        uint64_t position, next;
        journal_committed(journal, &position, &next);
        journal_target_advance(journal, 0, position, next, &(struct journal_settled){.delivered = sequence - 1});
        CHECK(journal_maintain(journal, &err) == ERR_OK);
        for (unsigned i = 0; i < 5000; i++, sequence++) {
                if (journal_wants_maintenance(journal))
                        (void)journal_maintain(journal, &err);
                CHECK(journal_files_append(journal, sequence, MEAN, 1) == ERR_OK);
        }
        journal_publish(journal);
        CHECK(journal_target_count_waiting(journal, 0, &err) == 5000);
        journal_close(journal);
        return 0;
#undef CHECK
}

Test(journal_full_disk, a_full_disk_stops_the_append_and_loses_nothing)
{
        pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
                int line = on_a_small_disk();
                _exit(line == 0 || line == 77 ? line : line % 200 + 1 == 77 ? 78 : line % 200 + 1);
        }
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status), "signal %d", WTERMSIG(status));
        if (WEXITSTATUS(status) == 77)
                cr_skip_test("mounting a small tmpfs is not permitted here");
        cr_assert_eq(WEXITSTATUS(status), 0, "check in line %d modulo 200 failed", WEXITSTATUS(status) - 1);
}
