/* The targets file and its copy have lines to spare, so that a full disk has numbers for targets that come. */
#include "tests/support/journal_rig.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* The copy cannot be opened. */
static bool copy_fails;
int __real_disk_open(int directory_fd, const char *path, int flags, mode_t mode);
int __wrap_disk_open(int directory_fd, const char *path, int flags, mode_t mode);
int __wrap_disk_open(int directory_fd, const char *path, int flags, mode_t mode)
{
        if (!copy_fails || strcmp(path, "targets.copy") != 0)
                return __real_disk_open(directory_fd, path, flags, mode);
        errno = EACCES;
        return -1;
}

TestSuite(journal_targets_room, .init = make_directory, .fini = remove_directory, .timeout = 60);

static struct journal *must_open(void)
{
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 16 * MIB,
                .segments_mapped_max = 4,
                .durability = JOURNAL_DURABILITY_HOST,
        };
        return rig_open(&options, NULL);
}

static void path_of(const char *name, char out[400])
{
        (void)snprintf(out, 400, "%s/%s", directory, name);
}

static uint64_t bytes_of(const char *name)
{
        char path[400];
        struct stat status;
        path_of(name, path);
        cr_assert_eq(stat(path, &status), 0);
        return (uint64_t)status.st_size;
}

static uint64_t bytes_of_lines(uint64_t lines)
{
        return 4096 + lines * 1024;
}

/* No file may become longer than that: a disk without room. 0: there is some. */
static void disk_is_full_at(uint64_t bytes)
{
        struct rlimit limit = {.rlim_cur = bytes == 0 ? RLIM_INFINITY : bytes, .rlim_max = RLIM_INFINITY};
        (void)signal(SIGXFSZ, SIG_IGN);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Registers more targets, up to `count`. How many there are then. */
static uint32_t take_numbers(struct journal *journal, uint32_t count, enum err_code end)
{
        enum err_code code = ERR_OK;
        while (code == ERR_OK && journal_targets_count(journal) < count) {
                char key[32];
                uint16_t target;
                (void)snprintf(key, sizeof(key), "file /%u", journal_targets_count(journal));
                code = journal_target_register(journal, slice_of_text(key), &target, NULL);
        }
        cr_assert_eq(code, end, "%s", err_name(code));
        return journal_targets_count(journal);
}

Test(journal_targets_room, a_full_disk_has_numbers_for_targets_that_come)
{
        struct journal *journal = must_open();
        cr_assert_eq(take_numbers(journal, 3, ERR_OK), 3);
        disk_is_full_at(bytes_of("targets"));
        const uint32_t count = take_numbers(journal, LIMIT_TARGETS_MAX, ERR_DISK_FULL);
        cr_assert_geq(count, 3 + 64);
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK, "the copy has room for them, too");
        journal_close(journal);
        cr_assert_eq(bytes_of("targets.copy"), bytes_of("targets"));

        /* There is room again: for the next ones as well. */
        journal = must_open();
        cr_assert_eq(journal_targets_count(journal), count);
        disk_is_full_at(0);
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        disk_is_full_at(bytes_of("targets"));
        cr_assert_eq(take_numbers(journal, count + 64, ERR_OK), count + 64);
        disk_is_full_at(0);
        journal_close(journal);
}

/* As they were made before there were spare lines. */
Test(journal_targets_room, a_file_without_a_line_to_spare_is_read_on_a_full_disk)
{
        struct journal *journal = must_open();
        disk_is_full_at(bytes_of_lines(64));
        cr_assert_eq(take_numbers(journal, 65, ERR_DISK_FULL), 64);
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        journal_close(journal);
        cr_assert_eq(bytes_of("targets"), bytes_of_lines(64));
        journal = must_open();
        cr_assert_eq(take_numbers(journal, 65, ERR_DISK_FULL), 64);
        disk_is_full_at(0);
        cr_assert_eq(take_numbers(journal, 65, ERR_OK), 65);
        cr_assert_eq(bytes_of("targets"), bytes_of_lines(192));
        journal_close(journal);
}

/* Else the file would take what the copy needs of a disk that is almost full. */
Test(journal_targets_room, the_file_has_no_lines_to_spare_that_the_copy_lacks)
{
        struct journal *journal = must_open();
        cr_assert_eq(take_numbers(journal, 64, ERR_OK), 64);
        journal_close(journal);
        copy_fails = true;
        journal = must_open();
        cr_assert_eq(take_numbers(journal, 100, ERR_OK), 100);
        (void)journal_maintain(journal, NULL); /* it says so */
        cr_assert_eq(bytes_of("targets"), bytes_of_lines(128));
        copy_fails = false;
        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
        cr_assert_eq(bytes_of("targets"), bytes_of_lines(192));
        journal_close(journal);

        /* Killed between them. */
        char path[400];
        path_of("targets.copy", path);
        cr_assert_eq(truncate(path, (off_t)bytes_of_lines(256)), 0);
        journal = must_open();
        cr_assert_eq(journal_targets_count(journal), 100);
        journal_close(journal);
}
