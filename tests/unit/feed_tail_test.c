/* Following files: rotation by renaming and by copying, restarts at any position, files that only look the same. */
#include "feeds/tail.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char directory[] = "/tmp/feed-tail-XXXXXX", path[256], old[256], older[256], beside[256];

static void begin(void)
{
        cr_assert_not_null(mkdtemp(directory));
        (void)snprintf(path, sizeof(path), "%s/mail.log", directory);
        (void)snprintf(old, sizeof(old), "%s/mail.log.1", directory);
        (void)snprintf(older, sizeof(older), "%s/mail.log.2", directory);
        (void)snprintf(beside, sizeof(beside), "%s/mail.log.checkpoint", directory);
}

static void end(void)
{
        (void)unlink(path);
        (void)unlink(old);
        (void)unlink(older);
        (void)unlink(beside);
        (void)rmdir(directory);
}

TestSuite(feed_tail, .init = begin, .fini = end, .timeout = 60);

static void append(const char *name, const char *text)
{
        FILE *file = fopen(name, "ab");
        cr_assert_not_null(file);
        (void)fputs(text, file);
        (void)fclose(file);
}

/* As if nothing had been written to it for so long. */
static void quiet(const char *name, int seconds)
{
        struct timespec now, times[2];
        (void)clock_gettime(CLOCK_REALTIME, &now);
        now.tv_sec -= seconds;
        times[0] = times[1] = now;
        cr_assert_eq(utimensat(AT_FDCWD, name, times, 0), 0);
}

static struct tail *open_options(const struct tail_options *given)
{
        struct tail_options options = *given;
        options.path = path;
        options.line_bytes_max = 100;
        struct tail *tail = NULL;
        struct err err = {.text = ""};
        cr_assert_eq(tail_open(&options, &tail, &err), ERR_OK, "%s", err.text);
        return tail;
}

static struct tail *open_tail(bool follow, const struct tail_position *position)
{
        return open_options(&(struct tail_options){.follow = follow, .position = position});
}

/* The next line, or what came instead: "(end)", "(nothing)" after `waits` turns of waiting. */
static const char *next(struct tail *tail, int waits)
{
        static char text[300];
        struct slice line;
        struct err err;
        for (;;) {
                switch (tail_next(tail, &line, &err)) {
                case TAIL_LINE:
                        (void)snprintf(text, sizeof(text), "%.*s", SLICE_PRINTF(line));
                        return text;
                case TAIL_LONG:
                        return "(long)";
                case TAIL_WAIT:
                        if (waits-- > 0)
                                break;
                        return "(nothing)";
                case TAIL_END:
                        return "(end)";
                case TAIL_ERROR:
                        return "(error)";
                }
        }
}

Test(feed_tail, a_file_is_read_to_its_end_with_or_without_a_last_newline)
{
        append(path, "a\n\nb");
        struct tail *tail = open_tail(false, NULL);
        cr_assert_str_eq(next(tail, 9), "a");
        cr_assert_str_eq(next(tail, 9), "");
        cr_assert_str_eq(next(tail, 9), "b");
        cr_assert_str_eq(next(tail, 9), "(end)");
        struct tail_position position;
        tail_get_position(tail, &position);
        cr_assert_eq(position.offset, 4);
        cr_assert_eq(position.line, 3);
        tail_close(tail);
}

Test(feed_tail, a_followed_file_may_appear_later_and_its_lines_are_whole)
{
        struct tail *tail = open_tail(true, NULL);
        cr_assert_str_eq(next(tail, 1), "(nothing)");
        append(path, "a\nhal");
        cr_assert_str_eq(next(tail, 5), "a");
        cr_assert_str_eq(next(tail, 2), "(nothing)");
        append(path, "f\n");
        cr_assert_str_eq(next(tail, 5), "half");
        tail_close(tail);
}

Test(feed_tail, a_rotated_file_is_left_only_when_it_is_quiet)
{
        append(path, "a\n");
        struct tail *tail = open_tail(true, NULL);
        cr_assert_str_eq(next(tail, 5), "a");
        cr_assert_eq(rename(path, old), 0);
        append(old, "b\n"); /* its writer has not reopened */
        cr_assert_str_eq(next(tail, 5), "b");
        append(path, "d\n");
        cr_assert_str_eq(next(tail, 5), "(nothing)", "the old file was just written to");
        append(old, "c\n"); /* one of its writers is late */
        cr_assert_str_eq(next(tail, 5), "c");
        cr_assert_str_eq(next(tail, 40), "d");
        tail_close(tail);
}

Test(feed_tail, an_empty_new_file_is_no_reason_to_leave)
{
        append(path, "a\n");
        struct tail *tail = open_tail(true, NULL);
        cr_assert_str_eq(next(tail, 5), "a");
        cr_assert_eq(rename(path, old), 0);
        append(path, "");
        quiet(old, 10);
        cr_assert_str_eq(next(tail, 5), "(nothing)");
        append(old, "b\n");
        cr_assert_str_eq(next(tail, 5), "b");
        tail_close(tail);
}

/* A run that reads the first line, which is "a": where it stopped. */
static struct tail_position read_a(void)
{
        struct tail_position position;
        struct tail *tail = open_tail(true, NULL);
        cr_assert_str_eq(next(tail, 5), "a");
        tail_get_position(tail, &position);
        tail_close(tail);
        return position;
}

Test(feed_tail, a_restart_goes_on_through_every_file_that_was_rotated_away)
{
        append(path, "a\nb\n");
        const struct tail_position position = read_a();
        cr_assert_eq(rename(path, older), 0);
        append(old, "c\n");
        append(path, "d\n");
        quiet(older, 30);
        quiet(old, 20);
        quiet(path, 10);
        struct tail *tail = open_tail(true, &position);
        cr_assert_str_eq(next(tail, 9), "b");
        cr_assert_str_eq(next(tail, 9), "c");
        cr_assert_str_eq(next(tail, 9), "d");
        cr_assert_null(tail_take_notice(tail));
        tail_close(tail);
}

Test(feed_tail, a_position_before_the_first_line_is_one_too)
{
        append(path, "a\n");
        struct tail *tail = open_tail(true, NULL);
        struct tail_position position;
        tail_get_position(tail, &position);
        tail_close(tail);
        cr_assert_eq(rename(path, old), 0);
        append(path, "b\n");
        quiet(old, 10);
        tail = open_tail(true, &position);
        cr_assert_str_eq(next(tail, 9), "a");
        cr_assert_str_eq(next(tail, 9), "b");
        tail_close(tail);
}

Test(feed_tail, a_file_that_is_gone_is_said_and_the_new_one_read)
{
        append(path, "a\n");
        const struct tail_position position = read_a();
        /* Another file under the same inode number: told by its beginning. */
        int fd = open(path, O_WRONLY | O_TRUNC);
        cr_assert_geq(fd, 0);
        (void)close(fd);
        append(path, "x\ny\n");
        struct tail *tail = open_tail(true, &position);
        const char *notice = tail_take_notice(tail);
        cr_assert_not_null(notice);
        cr_assert_not_null(strstr(notice, "missed"), "%s", notice);
        cr_assert_str_eq(next(tail, 5), "x");
        cr_assert_str_eq(next(tail, 5), "y");
        tail_close(tail);
}

Test(feed_tail, a_position_is_kept_until_the_directory_is_there)
{
        char away[280];
        append(path, "a\nb\n");
        const struct tail_position position = read_a();
        struct tail_position kept;
        struct tail *tail = NULL;
        (void)snprintf(away, sizeof(away), "%s-away", directory);
        cr_assert_eq(rename(directory, away), 0);
        for (int i = 0; i < 2; i++) {
                tail = open_tail(true, &position);
                cr_assert_str_eq(next(tail, 1), "(nothing)");
                cr_assert_null(tail_take_notice(tail), "nothing is known to be missed");
                tail_get_position(tail, &kept);
                cr_assert_eq(memcmp(&kept, &position, sizeof(kept)), 0);
                if (i == 0)
                        tail_close(tail); /* stopped before it came */
        }
        cr_assert_eq(rename(away, directory), 0);
        cr_assert_str_eq(next(tail, 5), "b");
        tail_get_position(tail, &kept);
        cr_assert_eq(kept.offset, 4);
        cr_assert_eq(kept.line, 2);
        cr_assert_null(tail_take_notice(tail));
        tail_close(tail);
}

/* Lines that differ from file to file, longer together than what is known of a file's beginning. */
static void append_many(const char *name, const char *what)
{
        char text[32];
        for (int i = 0; i < 100; i++) {
                (void)snprintf(text, sizeof(text), "%s%d\n", what, i);
                append(name, text);
        }
}

static void read_many(struct tail *tail, const char *what)
{
        char text[32];
        for (int i = 0; i < 100; i++) {
                (void)snprintf(text, sizeof(text), "%s%d", what, i);
                cr_assert_str_eq(next(tail, 40), text);
        }
}

Test(feed_tail, a_file_that_was_left_is_not_read_again_although_it_is_written_to)
{
        append_many(path, "a");
        struct tail *tail = open_tail(true, NULL);
        read_many(tail, "a");
        cr_assert_eq(rename(path, old), 0);
        quiet(old, 30);
        append_many(path, "b");
        read_many(tail, "b");
        cr_assert_eq(rename(old, older), 0);
        cr_assert_eq(rename(path, old), 0);
        quiet(old, 20);
        append(older, "its writer never reopened it\n");
        quiet(older, 10);
        append(path, "");
        cr_assert_str_eq(next(tail, 5), "(nothing)");
        append_many(path, "c");
        read_many(tail, "c");
        const char *notice = tail_take_notice(tail);
        cr_assert_not_null(notice);
        cr_assert_not_null(strstr(notice, "29 bytes are missed"), "%s", notice);
        cr_assert_eq(tail_missed_bytes(tail), 29);
        cr_assert_str_eq(next(tail, 5), "(nothing)");
        tail_close(tail);
}

Test(feed_tail, a_file_that_was_left_and_unpacked_again_is_not_read_again)
{
        append_many(path, "a");
        struct tail *tail = open_tail(true, NULL);
        read_many(tail, "a");
        cr_assert_eq(rename(path, beside), 0); /* as if packed: no rotated file is there */
        quiet(beside, 30);
        append_many(path, "b");
        read_many(tail, "b");
        append_many(older, "a");
        cr_assert_eq(rename(path, old), 0);
        quiet(old, 20);
        quiet(older, 10);
        append_many(path, "c");
        read_many(tail, "c");
        cr_assert_null(tail_take_notice(tail));
        cr_assert_str_eq(next(tail, 5), "(nothing)");
        tail_close(tail);
}

Test(feed_tail, a_file_that_gets_its_name_back_goes_on_where_it_was_left)
{
        append_many(path, "a");
        struct tail *tail = open_tail(true, NULL);
        read_many(tail, "a");
        cr_assert_eq(rename(path, older), 0);
        quiet(older, 30);
        append_many(path, "b");
        read_many(tail, "b");
        cr_assert_eq(rename(path, old), 0);
        quiet(old, 20);
        cr_assert_eq(rename(older, path), 0);
        append_many(path, "c");
        read_many(tail, "c");
        struct tail_position position;
        tail_get_position(tail, &position);
        cr_assert_eq(position.line, 200);
        tail_close(tail);
}

Test(feed_tail, a_position_is_found_although_the_device_has_another_number)
{
        for (int i = 0; i < 100; i++)
                append(path, i < 99 ? "abc\n" : "last\n");
        struct tail *tail = open_tail(true, NULL);
        for (int i = 0; i < 99; i++)
                cr_assert_str_eq(next(tail, 5), "abc");
        struct tail_position position;
        tail_get_position(tail, &position);
        tail_close(tail);
        position.device++;
        tail = open_tail(true, &position);
        cr_assert_str_eq(next(tail, 5), "last");
        cr_assert_null(tail_take_notice(tail));
        tail_close(tail);
        position.head_sum++; /* another file with this inode */
        tail = open_tail(true, &position);
        cr_assert_str_eq(next(tail, 5), "abc");
        cr_assert_not_null(tail_take_notice(tail));
        tail_close(tail);
}

Test(feed_tail, a_position_in_a_file_that_is_gone_is_given_up_when_the_followed_one_is_there)
{
        append(path, "a\n");
        struct tail_position position = read_a();
        cr_assert_eq(unlink(path), 0);
        struct tail *tail = open_tail(true, &position);
        cr_assert_str_eq(next(tail, 1), "(nothing)");
        append(path, "x\n");
        cr_assert_str_eq(next(tail, 5), "x");
        cr_assert_not_null(tail_take_notice(tail));
        tail_get_position(tail, &position);
        cr_assert_eq(position.offset, 2);
        tail_close(tail);
}

Test(feed_tail, a_file_cut_short_is_read_from_its_beginning)
{
        append(path, "first line\n");
        struct tail *tail = open_tail(true, NULL);
        cr_assert_str_eq(next(tail, 5), "first line");
        cr_assert_eq(truncate(path, 0), 0);
        append(path, "x\n");
        cr_assert_str_eq(next(tail, 5), "x");
        cr_assert_not_null(tail_take_notice(tail));
        tail_close(tail);
}

Test(feed_tail, a_line_too_long_is_told_once_and_left_out)
{
        char text[200001];
        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        append(path, "a\n");
        append(path, text);
        append(path, "\nb\n");
        struct tail *tail = open_tail(false, NULL);
        cr_assert_str_eq(next(tail, 9), "a");
        cr_assert_str_eq(next(tail, 9), "(long)");
        cr_assert_str_eq(next(tail, 9), "b");
        cr_assert_str_eq(next(tail, 9), "(end)");
        tail_close(tail);
}

Test(feed_tail, a_file_that_cannot_be_read_is_an_error)
{
        struct tail_options options = {.path = directory, .line_bytes_max = 100};
        struct tail *tail = NULL;
        struct err err = {.sys_errno = 0};
        cr_assert_neq(tail_open(&options, &tail, &err), ERR_OK);
        options.path = path;
        cr_assert_neq(tail_open(&options, &tail, &err), ERR_OK);
        cr_assert_eq(err.sys_errno, 2 /* ENOENT */);
}

/* One run that ends, as cron makes them: its lines in one text, each with a newline, and the position for the next. */
static const char *run(struct tail_position *position, bool *ret_notice)
{
        static char text[1000];
        struct tail *tail = open_options(&(struct tail_options){.resumable = true, .position = position});
        text[0] = '\0';
        for (const char *line = next(tail, 40); strcmp(line, "(end)") != 0; line = next(tail, 40)) {
                cr_assert_neq(line[0], '(', "%s", line);
                (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s\n", line);
        }
        bool noticed = tail_take_notice(tail) != NULL;
        if (ret_notice != NULL)
                *ret_notice = noticed;
        tail_get_position(tail, position);
        tail_close(tail);
        return text;
}

Test(feed_tail, runs_that_end_go_on_over_rotations)
{
        struct tail_position position = {.inode = 0};
        append(path, "a\nb\n");
        cr_assert_str_eq(run(&position, NULL), "a\nb\n");
        append(path, "c\n");
        cr_assert_str_eq(run(&position, NULL), "c\n");
        append(path, "d\n");
        cr_assert_eq(rename(path, old), 0);
        quiet(old, 30);
        append(path, "e\n");
        quiet(path, 20);
        cr_assert_str_eq(run(&position, NULL), "d\ne\n");
        append(path, "f\n");
        cr_assert_str_eq(run(&position, NULL), "f\n");
        cr_assert_eq(rename(old, older), 0);
        cr_assert_eq(rename(path, old), 0);
        append(old, "half, and the last of its file");
        quiet(old, 10);
        append(path, "g\n");
        cr_assert_str_eq(run(&position, NULL), "half, and the last of its file\ng\n");
        cr_assert_eq(unlink(older), 0);
        cr_assert_str_eq(run(&position, NULL), "");
}

Test(feed_tail, a_run_that_ends_waits_for_late_writers_and_leaves_an_empty_new_file)
{
        struct tail_position position = {.inode = 0};
        append(path, "a\n");
        cr_assert_str_eq(run(&position, NULL), "a\n");
        cr_assert_eq(rename(path, old), 0);
        cr_assert_str_eq(run(&position, NULL), "", "there is no new file yet");
        append(path, "");
        quiet(old, 30);
        cr_assert_str_eq(run(&position, NULL), "", "who writes may still have the old one");
        append(old, "b\n");
        append(path, "c\n");
        cr_assert_str_eq(run(&position, NULL), "b\nc\n", "it was written to just now: two seconds more");
}

Test(feed_tail, a_rotated_file_that_was_never_read_comes_next_when_the_one_before_is_packed)
{
        struct tail_position position = {.inode = 0};
        bool noticed;
        append(older, "of the day before, and not asked for\n");
        quiet(older, 50);
        append(path, "a\n");
        quiet(path, 40);
        cr_assert_str_eq(run(&position, NULL), "a\n");
        cr_assert_eq(rename(path, beside), 0);
        cr_assert_eq(truncate(beside, 0), 0); /* as if packed */
        append(old, "b\n");
        quiet(old, 30);
        append(path, "c\n");
        quiet(path, 20);
        struct tail_position unknown = position; /* of a checkpoint from before this was kept */
        unknown.changed_ns = 0;
        cr_assert_str_eq(run(&unknown, &noticed), "c\n");
        cr_assert(noticed);
        cr_assert_str_eq(run(&position, &noticed), "b\nc\n");
        cr_assert(noticed);
        cr_assert_str_eq(run(&position, &noticed), "");
        cr_assert_not(noticed);
}

Test(feed_tail, a_copy_that_was_made_before_the_cut_goes_on_where_its_file_was)
{
        struct tail_position position = {.inode = 0};
        bool noticed;
        for (int i = 0; i < 90; i++)
                append(path, "abc\n");
        quiet(path, 40);
        (void)run(&position, NULL);
        for (int i = 0; i < 90; i++)
                append(old, "abc\n");
        append(old, "b\n");
        quiet(old, 30);
        cr_assert_eq(truncate(path, 0), 0);
        append(path, "c\n");
        cr_assert_str_eq(run(&position, &noticed), "b\nc\n");
        cr_assert_not(noticed);
}

Test(feed_tail, a_file_between_is_read_although_the_newest_is_empty)
{
        struct tail_position position = {.inode = 0};
        append(path, "a\n");
        cr_assert_str_eq(run(&position, NULL), "a\n");
        cr_assert_eq(rename(path, older), 0);
        quiet(older, 30);
        append(old, "b\n");
        quiet(old, 20);
        append(path, "");
        cr_assert_str_eq(run(&position, NULL), "b\n");
}

Test(feed_tail, a_run_that_ends_leaves_half_a_line_for_the_next_one)
{
        struct tail_position position = {.inode = 0};
        bool noticed;
        append(path, "a\nhal");
        cr_assert_str_eq(run(&position, &noticed), "a\n");
        cr_assert(noticed);
        cr_assert_eq(position.offset, 2);
        append(path, "f\n");
        cr_assert_str_eq(run(&position, &noticed), "half\n");
        cr_assert_not(noticed);
}

Test(feed_tail, files_whose_names_only_begin_alike_are_not_read)
{
        append(path, "a\n");
        struct tail *tail = open_tail(true, NULL);
        cr_assert_str_eq(next(tail, 5), "a");
        cr_assert_eq(rename(path, old), 0);
        quiet(old, 30);
        append(beside, "no line of this log\n");
        quiet(beside, 20);
        append(path, "b\n");
        cr_assert_str_eq(next(tail, 9), "b");
        append(beside, "nor this, written after it\n");
        cr_assert_str_eq(next(tail, 5), "(nothing)");
        append(path, "c\n");
        cr_assert_str_eq(next(tail, 5), "c");
        tail_close(tail);
}

Test(feed_tail, a_file_known_by_its_beginning_is_found_under_a_name_of_a_person)
{
        append(path, "a\nb\n");
        const struct tail_position position = read_a();
        cr_assert_eq(rename(path, beside), 0);
        quiet(beside, 10);
        append(path, "c\n");
        struct tail *tail = open_tail(true, &position);
        cr_assert_str_eq(next(tail, 9), "b");
        cr_assert_str_eq(next(tail, 9), "c");
        tail_close(tail);
}

Test(feed_tail, rotated_files_are_told_by_their_names)
{
        static const char *const rotated[] = {"",
                                              ".1",
                                              ".10",
                                              "-20261127",
                                              "-20261127-1764201600",
                                              ".2026-11-27",
                                              "_7",
                                              ".old",
                                              ".0",
                                              "-2026-11-27T00:00:00Z"};
        static const char *const others[] = {
                ".checkpoint", ".checkpoint.state", ".info", ".bak", "2", ".", ".1.gz", ".1~", ".1.bak", ".older",
                "-x1"};
        char name[300];
        for (size_t i = 0; i < sizeof(rotated) / sizeof(rotated[0]); i++) {
                (void)snprintf(name, sizeof(name), "%s/../%s%s", directory, path + strlen("/tmp/"), rotated[i]);
                cr_assert(tail_would_read(path, name), "%s", name);
        }
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
                (void)snprintf(name, sizeof(name), "%s%s", path, others[i]);
                cr_assert_not(tail_would_read(path, name), "%s", name);
        }
        cr_assert_not(tail_would_read(path, "/tmp/mail.log.1"), "another directory");
}

Test(feed_tail, a_file_cut_and_grown_beyond_the_position_is_read_from_its_beginning)
{
        append(path, "a\nb\n");
        struct tail *tail = open_tail(true, NULL);
        cr_assert_str_eq(next(tail, 5), "a");
        cr_assert_str_eq(next(tail, 5), "b");
        cr_assert_eq(truncate(path, 0), 0);
        append(path, "c\nd\ne\n");
        cr_assert_str_eq(next(tail, 5), "c");
        const char *notice = tail_take_notice(tail);
        cr_assert_not_null(notice);
        cr_assert_not_null(strstr(notice, "cut short"), "%s", notice);
        cr_assert_str_eq(next(tail, 5), "d");
        cr_assert_str_eq(next(tail, 5), "e");
        /* As long as before. */
        cr_assert_eq(truncate(path, 0), 0);
        append(path, "f\ng\nh\n");
        cr_assert_str_eq(next(tail, 5), "f");
        cr_assert_eq(tail_missed_bytes(tail), 0, "all was read before each cut");
        tail_close(tail);
}

Test(feed_tail, a_file_cut_to_a_part_of_it_is_read_from_its_beginning)
{
        for (int i = 0; i < 100; i++)
                append(path, "abc\n");
        struct tail *tail = open_tail(true, NULL);
        for (int i = 0; i < 100; i++)
                cr_assert_str_eq(next(tail, 5), "abc");
        cr_assert_eq(truncate(path, 300), 0); /* its beginning is the same */
        cr_assert_str_eq(next(tail, 5), "abc");
        cr_assert_not_null(tail_take_notice(tail));
        tail_close(tail);
}

Test(feed_tail, a_cut_tells_what_was_known_to_be_unread)
{
        append(path, "the first line\n");
        for (int i = 0; i < 10000; i++)
                append(path, "one of many more lines\n");
        struct tail *tail = open_tail(true, NULL);
        cr_assert_str_eq(next(tail, 5), "the first line");
        cr_assert_eq(truncate(path, 0), 0);
        for (int i = 0; i < 20000; i++)
                append(path, "what came behind the cut\n");
        const char *notice = NULL;
        for (int i = 0; notice == NULL && i < 10000; i++) {
                (void)next(tail, 5);
                notice = tail_take_notice(tail);
        }
        cr_assert_not_null(notice);
        cr_assert_not_null(strstr(notice, " bytes were not read"), "%s", notice);
        cr_assert_gt(tail_missed_bytes(tail), 0);
        cr_assert_leq(tail_missed_bytes(tail), 230000);
        int lines = 1;
        while (strcmp(next(tail, 1), "what came behind the cut") == 0)
                lines++;
        cr_assert_eq(lines, 20000);
        tail_close(tail);
}

Test(feed_tail, a_writer_that_does_not_append_leaves_a_hole_behind_a_cut)
{
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        cr_assert_eq(write(fd, "a\nb\n", 4), 4);
        struct tail *tail = open_tail(true, NULL);
        cr_assert_str_eq(next(tail, 5), "a");
        cr_assert_str_eq(next(tail, 5), "b");
        for (off_t offset = 200000; offset <= 400000; offset += 200000) {
                cr_assert_eq(truncate(path, 0), 0);
                cr_assert_eq(lseek(fd, offset, SEEK_SET), offset);
                cr_assert_eq(write(fd, "c\nd\n", 4), 4);
                cr_assert_str_eq(next(tail, 9), "c");
                cr_assert_str_eq(next(tail, 5), "d");
        }
        (void)close(fd);
        tail_close(tail);
}

Test(feed_tail, a_pipe_with_a_name_is_read_to_its_end)
{
        int ends[2];
        char name[64];
        struct err err = {.text = ""};
        struct tail *tail = NULL;
        cr_assert_eq(pipe(ends), 0);
        (void)snprintf(name, sizeof(name), "/proc/self/fd/%d", ends[0]);
        struct tail_options options = {.path = name, .line_bytes_max = 100};
        cr_assert_eq(tail_open(&options, &tail, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(write(ends[1], "a\nb", 3), 3);
        cr_assert_str_eq(next(tail, 2), "a");
        cr_assert_str_eq(next(tail, 2), "(nothing)", "it may go on");
        cr_assert_eq(write(ends[1], "\nc", 2), 2);
        (void)close(ends[1]);
        cr_assert_str_eq(next(tail, 2), "b");
        cr_assert_str_eq(next(tail, 2), "c");
        cr_assert_str_eq(next(tail, 2), "(end)");
        tail_close(tail);
        /* There is nothing to go back to. */
        options.follow = true;
        cr_assert_neq(tail_open(&options, &tail, &err), ERR_OK);
        options = (struct tail_options){.path = name, .line_bytes_max = 100, .resumable = true};
        cr_assert_neq(tail_open(&options, &tail, &err), ERR_OK);
        (void)close(ends[0]);
}

Test(feed_tail, a_named_pipe_waits_for_its_writer)
{
        cr_assert_eq(mkfifo(path, 0600), 0);
        struct tail *tail = open_tail(false, NULL);
        cr_assert_str_eq(next(tail, 2), "(nothing)");
        append(path, "a\n");
        cr_assert_str_eq(next(tail, 2), "a");
        cr_assert_str_eq(next(tail, 2), "(end)");
        tail_close(tail);
}
