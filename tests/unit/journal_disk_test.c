/* The journal on a disk that fails: files that cannot be read or written, pages that are gone. Syncs that go wrong:
 * journal_sync_test.c. */
#include "io/disk.h"

#include "tests/support/journal_disk_rig.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

/* Reads of more than reads_spared bytes fail with reads_errno while it is set. */
static bool reads_fail;
static uint64_t reads_spared;
static int reads_errno = EIO;
ssize_t __real_disk_read(int fd, void *to, uint64_t bytes, uint64_t offset);
ssize_t __wrap_disk_read(int fd, void *to, uint64_t bytes, uint64_t offset);
ssize_t __wrap_disk_read(int fd, void *to, uint64_t bytes, uint64_t offset)
{
        if (!reads_fail || bytes <= reads_spared)
                return __real_disk_read(fd, to, bytes, offset);
        errno = reads_errno;
        return -1;
}

/* A directory of which no more than so many names can be read. */
static unsigned names_readable = UINT_MAX;
const char *__real_disk_list_next(struct disk_list *list);
const char *__wrap_disk_list_next(struct disk_list *list);
const char *__wrap_disk_list_next(struct disk_list *list)
{
        if (names_readable == UINT_MAX || names_readable-- > 0)
                return __real_disk_list_next(list);
        names_readable = 0;
        errno = EIO;
        return NULL;
}

/* Segments cannot be looked at while it is set. */
static bool stats_fail;
int __real_disk_stat(int fd, struct stat *ret_status);
int __wrap_disk_stat(int fd, struct stat *ret_status);
int __wrap_disk_stat(int fd, struct stat *ret_status)
{
        int result = __real_disk_stat(fd, ret_status);
        if (!stats_fail || ret_status->st_size != MIB)
                return result;
        errno = EIO;
        return -1;
}

/* Files cannot be opened to be written while it is set. */
static bool writable_opens_fail;
int __real_disk_open(int directory_fd, const char *name, int flags, mode_t mode);
int __wrap_disk_open(int directory_fd, const char *name, int flags, mode_t mode);
int __wrap_disk_open(int directory_fd, const char *name, int flags, mode_t mode)
{
        if (!writable_opens_fail || (flags & O_ACCMODE) == O_RDONLY || strstr(name, ".segment") == NULL)
                return __real_disk_open(directory_fd, name, flags, mode);
        errno = EMFILE;
        return -1;
}

TestSuite(journal_disk, .init = make_directory, .fini = remove_directory, .timeout = 60);

/* ------------------------------------------------------------------------------------------------------ lost pages */

/* Appends one record as a shard does: what could not be kept is appended again. Returns how often that was. */
static uint32_t append_kept(struct journal *journal)
{
        uint32_t again = 0;
        for (;;) {
                cr_assert_lt(again, 10);
                enum err_code code = journal_files_append(journal, 7, MEAN, 1);
                if (code == ERR_OK)
                        code = journal_publish(journal);
                if (code == ERR_OK)
                        return again;
                cr_assert(code == ERR_CORRUPT || code == ERR_FULL, "%s", err_name(code));
                again += code == ERR_CORRUPT;
                (void)journal_maintain(journal, NULL);
        }
}

static uint64_t count_whole(struct journal *journal, uint64_t position, uint64_t *ret_damaged)
{
        struct journal_reader *reader;
        uint64_t whole = 0, limit = journal_committed_position(journal);
        *ret_damaged = 0;
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        for (;;) {
                struct journal_record record;
                enum err_code code = journal_read(reader, position, limit, &record);
                if (code == ERR_EMPTY)
                        break;
                cr_assert(code == ERR_OK || code == ERR_CORRUPT, "%s", err_name(code));
                if (code == ERR_OK)
                        cr_assert(journal_files_check(record.payload, 7, MEAN));
                whole += code == ERR_OK;
                *ret_damaged += code == ERR_CORRUPT;
                position = record.next_position;
        }
        journal_reader_free(reader);
        return whole;
}

static void cut_segment(uint64_t number, off_t bytes)
{
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/%016llx.segment", directory, (unsigned long long)number);
        cr_assert_eq(truncate(path, bytes), 0);
}

Test(journal_disk, a_page_lost_ahead_of_the_writer_costs_no_event)
{
        struct journal_recovery recovery;
        struct journal *journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        uint64_t position = journal_committed_position(journal), damaged;
        for (uint32_t i = 0; i < 100; i++)
                cr_assert_eq(append_kept(journal), 0);
        off_t used = (off_t)(journal_committed_position(journal) % MIB);
        cut_segment(0, (used + 8191) / 4096 * 4096);
        uint32_t again = 0;
        for (uint32_t i = 0; i < 1000; i++)
                again += append_kept(journal);
        cr_assert_eq(again, 1, "%u", again);
        cr_assert_eq(count_whole(journal, position, &damaged), 1100);
        cr_assert_eq(damaged, 0);
        struct journal_stats stats;
        journal_get_stats(journal, &stats);
        cr_assert_eq(stats.segments_given_up, 1);
        uint64_t waiting;
        cr_assert_eq(journal_target_audit(journal, 0, NULL, &waiting, NULL), ERR_OK);
        cr_assert_eq(waiting, 1100);
        journal_close(journal);

        journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        cr_assert_eq(recovery.lost_records, 0);
        cr_assert_eq(recovery.records, 1100);
        struct journal_target_state state;
        cr_assert_eq(journal_target_audit(journal, 0, &state, &waiting, NULL), ERR_OK);
        cr_assert_eq(waiting, 1100);
        cr_assert_eq(state.accepted, 1100);
        journal_close(journal);
}

Test(journal_disk, nothing_stands_behind_a_record_that_is_not_there)
{
        struct journal_recovery recovery;
        struct journal *journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        cr_assert_eq(append_kept(journal), 0);
        uint64_t position = journal_committed_position(journal), damaged;
        cut_segment(0, (off_t)(position % MIB + 8191) / 4096 * 4096);
        /* One visit that comes to the lost page in its middle. */
        enum err_code code = ERR_OK;
        uint32_t taken = 0;
        for (; taken < 1000 && code == ERR_OK; taken++)
                code = journal_files_append(journal, 7, MEAN, 1);
        cr_assert_eq(code, ERR_CORRUPT, "%s", err_name(code));
        cr_assert_lt(journal_last_position(journal), position + 4 * 4096, "record %u", taken);
        /* It is taken back as a whole. */
        cr_assert_eq(journal_committed_position(journal), position);
        cr_assert_eq(append_kept(journal), 0);
        cr_assert_eq(count_whole(journal, 0, &damaged), 2);
        cr_assert_eq(damaged, 0);
        journal_close(journal);
        journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        cr_assert_eq(recovery.records, 2);
        cr_assert_eq(recovery.lost_records, 0);
        journal_close(journal);
}

Test(journal_disk, pages_lost_behind_the_writer_are_told_and_counted)
{
        struct journal_recovery recovery;
        struct journal *journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        uint64_t position = journal_committed_position(journal), damaged;
        for (uint32_t i = 0; i < 100; i++)
                (void)append_kept(journal);
        cut_segment(0, 8192);
        for (uint32_t i = 0; i < 100; i++)
                (void)append_kept(journal);
        uint64_t whole = count_whole(journal, position, &damaged);
        cr_assert_gt(damaged, 0);
        cr_assert_geq(whole, 100, "what came after it is all there");
        cr_assert_lt(whole, 200);
        journal_close(journal);
        journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        cr_assert_geq(recovery.lost_records, 200 - whole);
        cr_assert_leq(recovery.lost_records, 200 - whole + 1, "and at most the one that was appended again");
        cr_assert_eq(recovery.records, whole);
        journal_close(journal);
}

/* Published records in a page that is gone are not on the disk, though every sync succeeds. */
Test(journal_disk, a_segment_that_was_given_up_is_told_by_the_sync_and_holds_up_nothing)
{
        struct err err = {.text = ""};
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
        for (uint32_t i = 0; i < 100; i++)
                (void)append_kept(journal);
        cut_segment(0, 8192);
        for (uint32_t i = 0; i < 100; i++)
                (void)append_kept(journal);
        uint64_t damaged;
        (void)count_whole(journal, journal_durable_position(journal), &damaged); /* looks at every page */
        cr_assert_gt(damaged, 0);
        cr_assert_eq(journal_sync(journal, &err), ERR_CORRUPT);
        cr_assert_lt(journal_durable_position(journal), journal_committed_position(journal));
        cr_assert_eq(journal_sync(journal, &err), ERR_CORRUPT);
        cr_assert(strstr(err.text, "lost") != NULL, "%s", err.text);
        for (uint32_t i = 0; i < 100; i++)
                cr_assert_eq(append_kept(journal), 0);
        cr_assert_eq(journal_sync(journal, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(journal_durable_position(journal), journal_committed_position(journal));
        journal_close(journal);
}

/* What a power cut has left of a record stands behind the end of a segment that a start could not open to write, so
 * that no gap covers it. A sync maps the segment later. */
Test(journal_disk, what_stands_behind_the_end_of_a_segment_that_could_not_be_written_is_nothing)
{
        struct journal_recovery recovery;
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
        for (int i = 0; i < 5; i++)
                (void)append_kept(journal);
        const uint64_t last = journal_committed_position(journal);
        char path[400], command[1200];
        /* The cut takes what the targets files have of it, too. */
        (void)snprintf(command, sizeof(command), "cd %s && cp targets kept.1 && cp targets.copy kept.2", directory);
        cr_assert_eq(system(command), 0);
        (void)append_kept(journal);
        cr_assert_eq(journal_sync(journal, NULL), ERR_OK);
        journal_close(journal);
        (void)snprintf(command, sizeof(command), "cd %s && mv kept.1 targets && mv kept.2 targets.copy", directory);
        cr_assert_eq(system(command), 0);
        (void)snprintf(path, sizeof(path), "%s/%016x.segment", directory, 0);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        cr_assert_eq(pwrite(fd, "torn", 4, (off_t)last + 100), 4);
        (void)close(fd);
        writable_opens_fail = true;
        journal = must_open(JOURNAL_DURABILITY_HOST, &recovery);
        writable_opens_fail = false;
        cr_assert_eq(recovery.records, 5);
        cr_assert_gt(recovery.cut_bytes, 0);
        cr_assert_eq(append_kept(journal), 0);
        cr_assert_gt(journal_committed_position(journal), MIB, "in the next segment");
        struct err err = {0};
        cr_assert_eq(journal_sync(journal, &err), ERR_OK, "%s", err.text);
        uint64_t damaged;
        cr_assert_eq(count_whole(journal, 0, &damaged), 6);
        cr_assert_eq(damaged, 0);
        struct journal_target_state state;
        uint64_t waiting;
        cr_assert_eq(journal_target_audit(journal, 0, &state, &waiting, NULL), ERR_OK);
        cr_assert_eq(waiting, state.accepted);
        journal_close(journal);
}

Test(journal_disk, segments_cut_while_they_wait_are_not_written)
{
        struct journal *journal = must_open(JOURNAL_DURABILITY_PROCESS, NULL);
        uint64_t position = journal_committed_position(journal), damaged;
        (void)append_kept(journal);
        cut_segment(1, 0); /* prepared ahead */
        for (uint32_t i = 0; i < 5 * MIB / MEAN; i++)
                (void)append_kept(journal);
        cr_assert_eq(count_whole(journal, position, &damaged), 5 * MIB / MEAN + 1);
        cr_assert_eq(damaged, 0);
        journal_close(journal);
}

Test(journal_disk, a_log_whose_directory_is_gone_takes_nothing_more)
{
        char elsewhere[300];
        struct err err = {.text = ""};
        struct journal *journal = must_open(JOURNAL_DURABILITY_PROCESS, NULL);
        uint64_t position = journal_committed_position(journal), damaged;
        (void)append_kept(journal);
        (void)snprintf(elsewhere, sizeof(elsewhere), "%s.moved", directory);
        cr_assert(!journal_is_removed(journal));
        cr_assert_eq(rename(directory, elsewhere), 0);
        cr_assert(journal_is_removed(journal));
        cr_assert_eq(journal_files_append(journal, 7, MEAN, 1), ERR_FULL, "before any maintenance");
        cr_assert_eq(journal_maintain(journal, &err), ERR_SYSTEM);
        cr_assert(strstr(err.text, directory) != NULL, "%s", err.text);
        cr_assert_eq(journal_files_append(journal, 7, MEAN, 1), ERR_FULL);
        cr_assert_eq(count_whole(journal, position, &damaged), 1);
        cr_assert_eq(rename(elsewhere, directory), 0);
        cr_assert_eq(journal_maintain(journal, &err), ERR_OK);
        cr_assert_eq(append_kept(journal), 0);
        cr_assert_eq(count_whole(journal, position, &damaged), 2);
        journal_close(journal);
        /* One that is not there is made, and said. */
        struct journal_recovery recovery;
        journal_close(must_open(JOURNAL_DURABILITY_PROCESS, &recovery));
        cr_assert(!recovery.made);
        cr_assert_eq(rename(directory, elsewhere), 0);
        journal_close(must_open(JOURNAL_DURABILITY_PROCESS, &recovery));
        cr_assert(recovery.made);
        journal_files_remove(elsewhere);
}

Test(journal_disk, cursors_and_counts_outlive_their_file)
{
        char path[300];
        struct err err = {.text = ""};
        struct journal_target_state state;
        struct journal_recovery recovery;
        struct journal *journal = must_open(JOURNAL_DURABILITY_PROCESS, NULL);
        append(journal, 100);
        deliver(journal);
        (void)snprintf(path, sizeof(path), "%s/targets", directory);
        cr_assert_eq(truncate(path, 0), 0);
        append(journal, 50); /* the next store finds out */
        enum err_code code = journal_maintain(journal, &err);
        cr_assert_eq(code, ERR_CORRUPT, "%s: %s", err_name(code), err.text);
        cr_assert(strstr(err.text, path) != NULL, "%s", err.text);
        cr_assert_eq(journal_maintain(journal, &err), ERR_OK);
        append(journal, 10);
        cr_assert(journal_target_get(journal, 0, &state));
        cr_assert_eq(state.accepted, 160);
        cr_assert_eq(state.delivered, 100);
        journal_close(journal);
        journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        cr_assert_eq(recovery.targets_rebuilt, 0);
        cr_assert(journal_target_get(journal, 0, &state));
        cr_assert_str_eq(state.key, "file /a");
        cr_assert_eq(state.accepted, 160);
        cr_assert_eq(state.delivered, 100);
        journal_close(journal);
}

/* As long as cursors are in memory only, nothing that they have passed may be overwritten. */
Test(journal_disk, cursors_that_are_on_no_disk_free_nothing)
{
        char path[300];
        struct err err = {.text = ""};
        struct journal_stats stats;
        struct journal *journal = must_open(JOURNAL_DURABILITY_HOST, NULL);
        append(journal, 6 * MIB / MEAN);
        (void)snprintf(path, sizeof(path), "%s/targets", directory);
        cr_assert_eq(truncate(path, 0), 0);
        deliver(journal); /* the store finds out */
        (void)signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {.rlim_cur = 1, .rlim_max = RLIM_INFINITY};
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        for (int i = 0; i < 3; i++)
                cr_assert_neq(journal_maintain(journal, &err), ERR_OK);
        limit.rlim_cur = RLIM_INFINITY;
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        journal_get_stats(journal, &stats);
        cr_assert_geq(stats.segments, 6, "%llu", (unsigned long long)stats.segments);
        cr_assert_eq(journal_maintain(journal, &err), ERR_CORRUPT, "%s", err.text);
        cr_assert_eq(journal_maintain(journal, &err), ERR_OK, "%s", err.text);
        journal_get_stats(journal, &stats);
        cr_assert_leq(stats.segments, 4);
        journal_close(journal);
}

struct storing {
        _Atomic uint8_t *map;
        _Atomic uint64_t stored;
        _Atomic bool stop;
};

static void *store_on(void *context)
{
        struct storing *storing = context;
        while (!atomic_load_explicit(&storing->stop, memory_order_relaxed)) {
                atomic_store_explicit(storing->map, 1, memory_order_relaxed);
                atomic_fetch_add_explicit(&storing->stored, 1, memory_order_release);
        }
        return NULL;
}

/* Of a file that is cut, the page that is put back is lost at the next store: that must be counted, whenever it is. */
Test(journal_disk, a_page_that_is_lost_while_it_is_put_back_is_counted)
{
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/page", directory);
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        cr_assert_geq(fd, 0);
        void *map = disk_map(fd, 4096, true);
        cr_assert_not_null(map);
        struct storing storing = {.map = map};
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, store_on, &storing), 0);
        for (unsigned i = 0; i < 1500; i++) {
                cr_assert_eq(disk_map_again(fd, map, 4096), 0);
                uint64_t then = atomic_load_explicit(&storing.stored, memory_order_acquire);
                while (atomic_load_explicit(&storing.stored, memory_order_acquire) < then + 2)
                        (void)sched_yield();
                cr_assert_gt(atomic_load_explicit(disk_lost(map), memory_order_acquire), 0, "round %u", i);
        }
        atomic_store_explicit(&storing.stop, true, memory_order_relaxed);
        (void)pthread_join(thread, NULL);
        disk_unmap(map, 4096);
        (void)close(fd);
}

/* ------------------------------------------------------------------------------------------------------ start */

Test(journal_disk, files_that_cannot_be_read_refuse_no_start)
{
        char path[400], other[400];
        struct journal_recovery recovery;
        struct journal *journal = must_open(JOURNAL_DURABILITY_PROCESS, NULL);
        uint64_t position = journal_committed_position(journal), damaged;
        for (uint32_t i = 0; i < 3 * MIB / MEAN; i++)
                (void)append_kept(journal);
        uint64_t written = journal_next_sequence(journal) - 1;
        journal_close(journal);
        /* A folder by the name of a segment, a link, and one in the middle of the log that is none any more. */
        (void)snprintf(path, sizeof(path), "%s/00000000000000f0.segment", directory);
        cr_assert_eq(mkdir(path, 0700), 0);
        (void)snprintf(path, sizeof(path), "%s/00000000000000f1.segment", directory);
        cr_assert_eq(symlink("/dev/null", path), 0);
        (void)snprintf(path, sizeof(path), "%s/0000000000000001.segment", directory);
        (void)snprintf(other, sizeof(other), "%s/elsewhere", directory);
        cr_assert_eq(rename(path, other), 0);
        cr_assert_eq(symlink("elsewhere", path), 0);

        journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        cr_assert_geq(recovery.quarantined_segments, 3);
        uint64_t whole = count_whole(journal, position, &damaged);
        cr_assert_eq(whole, recovery.records);
        cr_assert_lt(whole, written);
        cr_assert_eq(recovery.lost_records, written - whole, "%llu of %llu", (unsigned long long)recovery.lost_records,
                     (unsigned long long)(written - whole));
        cr_assert_eq(append_kept(journal), 0);
        journal_close(journal);
}

/* A disk that answers no read for a while takes the log away, but nothing that is done about it removes an event. */
/* What a directory does not tell is not gone: nothing may be counted as settled, or be written in its place. */
Test(journal_disk, a_directory_that_cannot_be_read_to_its_end_changes_nothing)
{
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 16 * MIB,
                .segments_mapped_max = 4,
        };
        struct journal_recovery recovery;
        struct journal_target_state state;
        struct err err = {.text = ""};
        uint64_t waiting;
        struct journal *journal = must_open(JOURNAL_DURABILITY_PROCESS, NULL);
        for (uint32_t i = 0; i < 3 * MIB / MEAN; i++)
                (void)append_kept(journal);
        const uint64_t written = journal_next_sequence(journal) - 1;
        journal_close(journal);
        for (unsigned names = 0; names < 6; names++) {
                names_readable = names;
                cr_assert_eq(journal_open(&options, &journal, NULL, &err), ERR_SYSTEM, "%u names", names);
                cr_assert(strstr(err.text, directory) != NULL && strstr(err.text, strerror(EIO)) != NULL, "%s",
                          err.text);
        }
        names_readable = UINT_MAX;
        journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        cr_assert_eq(recovery.records, written);
        cr_assert_eq(journal_target_audit(journal, 0, &state, &waiting, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(waiting, written, "%llu", (unsigned long long)waiting);
        cr_assert_eq(state.delivered, 0);
        journal_close(journal);
}

/* What a process has no memory for now is no damage. */
Test(journal_disk, segments_that_there_is_no_memory_to_read_are_read_by_the_next_start)
{
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 16 * MIB,
                .segments_mapped_max = 4,
        };
        static const uint64_t spared[] = {0, 4096}; /* the headers, the records */
        struct journal_recovery recovery;
        struct err err = {.text = ""};
        struct journal *journal = must_open(JOURNAL_DURABILITY_PROCESS, NULL);
        for (uint32_t i = 0; i < 3 * MIB / MEAN; i++)
                (void)append_kept(journal);
        const uint64_t written = journal_next_sequence(journal) - 1;
        journal_close(journal);
        reads_errno = ENOMEM;
        for (size_t i = 0; i < sizeof(spared) / sizeof(spared[0]); i++) {
                reads_fail = true;
                reads_spared = spared[i];
                enum err_code code = journal_open(&options, &journal, NULL, &err);
                reads_fail = false;
                cr_assert_eq(code, ERR_MEMORY, "%zu: %s", i, err_name(code));
                cr_assert_neq(strstr(err.text, directory), NULL, "%s", err.text);
        }
        journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        cr_assert_eq(recovery.records, written);
        cr_assert_eq(recovery.lost_records, 0);
        journal_close(journal);
}

/* Nobody knows that they are no segments: they may hold what waits. */
Test(journal_disk, segments_that_could_not_be_looked_at_are_kept)
{
        struct journal_recovery recovery;
        char path[400];
        struct journal *journal = must_open(JOURNAL_DURABILITY_PROCESS, NULL);
        (void)append_kept(journal);
        journal_close(journal);
        stats_fail = true;
        journal = must_open(JOURNAL_DURABILITY_PROCESS, &recovery);
        stats_fail = false;
        journal_close(journal);
        cr_assert_gt(recovery.unreadable_segments, 0);
        cr_assert_eq(recovery.unreadable_segments, recovery.quarantined_segments);
        (void)snprintf(path, sizeof(path), "%s/quarantine", directory);
        DIR *quarantine = opendir(path);
        cr_assert_not_null(quarantine);
        for (struct dirent *entry = readdir(quarantine); entry != NULL; entry = readdir(quarantine))
                cr_assert(entry->d_name[0] == '.' || strstr(entry->d_name, ".kept") != NULL, "%s", entry->d_name);
        (void)closedir(quarantine);
}

Test(journal_disk, segments_that_could_not_be_read_are_never_removed)
{
        const struct journal_options options = {
                .directory = directory,
                .segment_bytes = MIB,
                .size_bytes_max = 40 * MIB,
                .segments_mapped_max = 4,
        };
        char path[400], quarantine[400];
        struct journal_recovery recovery;
        struct journal *journal = NULL;
        uint16_t target;
        cr_assert_eq(journal_open(&options, &journal, NULL, NULL), ERR_OK);
        cr_assert_eq(journal_target_register(journal, SLICE("file /a"), &target, NULL), ERR_OK);
        append(journal, 20 * MIB / MEAN);
        journal_close(journal);
        (void)snprintf(quarantine, sizeof(quarantine), "%s/quarantine", directory);
        uint64_t segments = journal_files_count(directory, ".segment", NULL);
        cr_assert_gt(segments, LIMIT_QUARANTINE_FILES_MAX);
        reads_fail = true;
        cr_assert_eq(journal_open(&options, &journal, &recovery, NULL), ERR_OK);
        reads_fail = false;
        cr_assert_eq(recovery.unreadable_segments, segments);
        cr_assert_eq(recovery.quarantined_segments, segments);
        cr_assert_eq(recovery.quarantine_removed, 0);
        cr_assert_eq(journal_files_count(quarantine, ".kept", NULL), segments);
        cr_assert_eq(recovery.lost_events, 20 * MIB / MEAN);
        cr_assert_eq(recovery.lost_records, 20 * MIB / MEAN);
        append(journal, 10);
        journal_close(journal);
        /* Others of the same numbers do not take their places, and the bound of what may go does not concern them. */
        for (unsigned i = 0; i < 20; i++) {
                (void)snprintf(path, sizeof(path), "%s/%016x.segment", directory, 0xe000 + i);
                (void)close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        }
        cr_assert_eq(journal_open(&options, &journal, &recovery, NULL), ERR_OK);
        cr_assert_eq(recovery.quarantine_removed, 20 - LIMIT_QUARANTINE_FILES_MAX);
        cr_assert_eq(recovery.records, 10);
        journal_close(journal);
        cr_assert_eq(journal_files_count(quarantine, ".kept", NULL), segments);
}

/* The oldest segments are gone, by recovery's hand or another's, and nobody had settled their events. */
static void must_be_lost(enum journal_durability durability, bool removed)
{
        const uint64_t written = 5 * MIB / MEAN;
        struct journal_recovery recovery;
        struct journal_target_state state;
        uint64_t waiting = 0;
        struct journal *journal = must_open(durability, NULL);
        append(journal, written);
        journal_close(journal);
        for (unsigned i = 0; i < 2; i++) {
                const uint8_t zeros[4096] = {0};
                char path[400];
                (void)snprintf(path, sizeof(path), "%s/%016x.segment", directory, i);
                if (removed) {
                        cr_assert_eq(unlink(path), 0);
                        continue;
                }
                int fd = open(path, O_RDWR | O_CLOEXEC);
                cr_assert_eq(pwrite(fd, zeros, sizeof(zeros), 0), (ssize_t)sizeof(zeros));
                cr_assert_eq(pwrite(fd, zeros, sizeof(zeros), MIB - 4096), (ssize_t)sizeof(zeros));
                (void)close(fd);
        }
        journal = must_open(durability, &recovery);
        cr_assert_eq(journal_target_audit(journal, 0, &state, &waiting, NULL), ERR_OK);
        cr_assert_lt(waiting, written);
        cr_assert_eq(state.accepted, waiting);
        cr_assert_eq(state.delivered, 0, "%llu", (unsigned long long)state.delivered);
        cr_assert_eq(state.lost, written - waiting);
        cr_assert_eq(recovery.lost_events, written - waiting);
        cr_assert_eq(recovery.lost_records, written - waiting);
        journal_close(journal);
        journal = must_open(durability, &recovery);
        cr_assert_eq(recovery.lost_events + recovery.lost_records, 0, "once is enough");
        journal_close(journal);
}

Test(journal_disk, segments_that_were_moved_away_are_lost_not_delivered)
{
        must_be_lost(JOURNAL_DURABILITY_PROCESS, false);
}

Test(journal_disk, segments_that_somebody_removed_are_lost_not_delivered)
{
        must_be_lost(JOURNAL_DURABILITY_HOST, true);
}

/* What the operator must mend is said, with the path. */
Test(journal_disk, a_directory_that_is_none_or_not_ours_is_named)
{
        struct journal *journal = NULL;
        struct err err = {.text = ""};
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/file", directory);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        cr_assert_geq(fd, 0);
        (void)close(fd);
        struct journal_options options = {
                .directory = path, .segment_bytes = MIB, .size_bytes_max = 16 * MIB, .segments_mapped_max = 4};
        enum err_code code = journal_open(&options, &journal, NULL, &err);
        cr_assert_neq(code, ERR_OK);
        cr_assert(strstr(err.text, path) != NULL, "%s", err.text);

        options.directory = directory;
        if (geteuid() != 0 || seteuid(65534) < 0)
                cr_skip_test("not root: cannot become somebody else");
        code = journal_open(&options, &journal, NULL, &err);
        cr_assert_eq(seteuid(0), 0);
        cr_assert_eq(code, ERR_PERMISSION, "%s: %s", err_name(code), err.text);
        cr_assert(strstr(err.text, directory) != NULL, "%s", err.text);
}
