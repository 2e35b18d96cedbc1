#include "egress/dead_letter.h"

#include "base/clock.h"
#include "codecs/codec.h"
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

static char directory[256];
static struct io_loop *loop;

static struct dead_letters *letters_open(uint32_t worker, uint64_t bytes_max)
{
        struct err err = {.text = ""};
        struct dead_letters *letters = NULL;
        struct dead_letters_options options = {
                .loop = loop, .directory = directory, .worker = worker, .bytes_max = bytes_max};
        cr_assert_eq(dead_letters_create(&options, &letters, &err), ERR_OK, "%s", err.text);
        return letters;
}

static struct dead_letter example(uint64_t number, struct slice msgpack)
{
        return (struct dead_letter){
                .cause = SLICE("larger than a \"record\""),
                .destination = SLICE("archive"),
                .target = SLICE("firehose arn:aws:firehose:us-east-1:123456789012:deliverystream/m\xc3\xa4il"),
                .set = SLICE("bulk-a"),
                .type = SENDRING_BOUNCE,
                .lane_id = 0xfedcba9876543210,
                .lane_position = number,
                .accepted_ms = 1767323045678,
                .json = SLICE("{\"eventType\":\"Bounce\",\"x\":[1,{\"id\":\"no\"}]}"),
                .msgpack = msgpack,
        };
}

static struct {
        unsigned calls;
        enum err_code code;
        struct err why;
} answer;

static void write_done(void *context, enum err_code code, const struct err *why)
{
        cr_assert_eq(context, &answer);
        answer.calls++;
        answer.code = code;
        answer.why = *why;
}

static enum err_code begin_append(struct dead_letters *letters, const struct dead_letter *letter, struct err *reterr)
{
        unsigned calls = answer.calls;
        enum err_code code = dead_letters_write(letters, letter, write_done, &answer, reterr);
        cr_assert_eq(answer.calls, calls, "done must come from a turn");
        cr_assert_eq(dead_letters_is_busy(letters), code == ERR_OK);
        return code;
}

static enum err_code finish_append(struct dead_letters *letters, struct err *reterr)
{
        unsigned calls = answer.calls;
        while (dead_letters_is_busy(letters))
                (void)io_loop_turn(loop, CLOCK_NS_PER_S);
        cr_assert_eq(answer.calls, calls + 1);
        *reterr = answer.why;
        return answer.code;
}

static enum err_code append_letter(struct dead_letters *letters, const struct dead_letter *letter, struct err *reterr)
{
        enum err_code code = begin_append(letters, letter, reterr);
        return code == ERR_OK ? finish_append(letters, reterr) : code;
}

static void append(struct dead_letters *letters, uint64_t number)
{
        struct err err = {.text = ""};
        uint8_t bytes[40];
        memset(bytes, (int)number, sizeof(bytes));
        struct dead_letter letter = example(number, slice_of(bytes, 1 + number % 39));
        cr_assert_eq(append_letter(letters, &letter, &err), ERR_OK, "%s", err.text);
}

static void path_of(uint32_t worker, uint64_t number, char out[400])
{
        char name[64];
        dead_letter_file_write(worker, number, DEAD_LETTER_LETTERS_SUFFIX, name);
        (void)snprintf(out, 400, "%s/%s", directory, name);
}

/* The whole file, in malloc'ed memory. */
static uint8_t *read_file(uint32_t worker, uint64_t number, size_t *ret_bytes)
{
        char path[400];
        struct stat status;
        path_of(worker, number, path);
        int fd = open(path, O_RDONLY);
        cr_assert(fd >= 0 && fstat(fd, &status) == 0, "%s", path);
        uint8_t *bytes = malloc((size_t)status.st_size + 1);
        cr_assert_eq(read(fd, bytes, (size_t)status.st_size), (ssize_t)status.st_size);
        (void)close(fd);
        *ret_bytes = (size_t)status.st_size;
        return bytes;
}

/* Every line parses, has its own place as its id, and the event_ids count on from *number. */
static void check_file(uint32_t worker, uint64_t file, uint64_t *number)
{
        size_t bytes, at = 0;
        uint8_t *text = read_file(worker, file, &bytes);
        while (at < bytes) {
                struct dead_letter letter;
                struct err err = {.text = ""};
                uint8_t event[LIMIT_EVENT_BYTES_MAX];
                struct slice msgpack;
                size_t len = slice_find_byte(slice_of(text + at, bytes - at), '\n');
                cr_assert_lt(at + len, bytes, "a torn line");
                cr_assert_eq(dead_letter_parse(text + at, len, &letter, &err), ERR_OK, "%s", err.text);
                cr_assert_eq(letter.id.worker, worker);
                cr_assert_eq(letter.id.number, file);
                cr_assert_eq(letter.id.offset, at);
                cr_assert_eq(letter.lane_position, *number);
                struct dead_letter wanted = example(*number, SLICE_EMPTY);
                cr_assert(slice_equal(letter.cause, wanted.cause), "%.*s", SLICE_PRINTF(letter.cause));
                cr_assert(slice_equal(letter.target, wanted.target));
                cr_assert(slice_equal(letter.destination, wanted.destination));
                cr_assert(slice_equal(letter.set, wanted.set));
                cr_assert(slice_equal(letter.json, wanted.json), "%.*s", SLICE_PRINTF(letter.json));
                cr_assert_eq(letter.type, SENDRING_BOUNCE);
                cr_assert_eq(letter.lane_id, wanted.lane_id);
                cr_assert_eq(letter.accepted_ms, wanted.accepted_ms);
                cr_assert(dead_letter_event(&letter, event, &msgpack));
                cr_assert_eq(msgpack.len, 1 + *number % 39);
                for (size_t i = 0; i < msgpack.len; i++)
                        cr_assert_eq(msgpack.ptr[i], (uint8_t)*number);
                (*number)++;
                at += len + 1;
        }
        free(text);
}

static void begin(void)
{
        struct err err = {.text = ""};
        journal_files_make(directory);
        (void)strcat(directory, "/dead-letter");
        cr_assert_eq(io_loop_create(&(struct io_options){.entries = 16}, &loop, &err), ERR_OK, "%s", err.text);
}

static void end(void)
{
        char command[400];
        io_loop_free(loop);
        *strrchr(directory, '/') = '\0';
        (void)snprintf(command, sizeof(command), "rm -rf %s", directory);
        cr_assert_eq(system(command), 0);
}

Test(dead_letter, comes_back_as_it_went_in, .timeout = 30)
{
        begin();
        struct dead_letters *letters = letters_open(3, 0);
        for (uint64_t i = 0; i < 100; i++)
                append(letters, i);
        dead_letters_free(letters);
        letters = letters_open(3, 0); /* goes on in the same file */
        append(letters, 100);
        dead_letters_free(letters);
        uint64_t number = 0;
        check_file(3, 1, &number);
        cr_assert_eq(number, 101);
        end();
}

Test(dead_letter, the_largest_one_fits_its_line, .timeout = 30)
{
        begin();
        struct dead_letters *letters = letters_open(0, 0);
        static uint8_t event[LIMIT_EVENT_BYTES_MAX], json[LIMIT_EVENT_JSON_BYTES_MAX], out[LIMIT_EVENT_BYTES_MAX];
        static char text[600];
        memset(event, 0xff, sizeof(event));
        memset(json, 'x', sizeof(json));
        json[0] = json[sizeof(json) - 1] = '"';
        memcpy(json, "{\"a\":\"", 6);
        json[sizeof(json) - 2] = '"';
        json[sizeof(json) - 1] = '}';
        memset(text, 1, sizeof(text)); /* each grows to six */
        struct dead_letter letter = example(0, slice_of(event, sizeof(event))), parsed;
        letter.json = slice_of(json, sizeof(json));
        letter.cause = letter.target = letter.destination = letter.set = slice_of(text, sizeof(text));
        struct err err = {.text = ""};
        cr_assert_eq(append_letter(letters, &letter, &err), ERR_OK, "%s", err.text);
        dead_letters_free(letters);
        size_t bytes;
        uint8_t *line = read_file(0, 1, &bytes);
        cr_assert_leq(bytes - 1, DEAD_LETTER_LINE_BYTES_MAX);
        struct slice msgpack;
        cr_assert_eq(dead_letter_parse(line, bytes - 1, &parsed, &err), ERR_OK, "%s", err.text);
        cr_assert(dead_letter_event(&parsed, out, &msgpack) && slice_equal(msgpack, letter.msgpack));
        cr_assert(slice_equal(parsed.target, slice_of(text, 511)));
        cr_assert(slice_equal(parsed.cause, slice_of(text, 256)));
        free(line);
        end();
}

Test(dead_letter, members_that_may_be_null_are_empty, .timeout = 30)
{
        begin();
        struct dead_letters *letters = letters_open(0, 0);
        struct dead_letter letter = example(0, SLICE("x")), parsed;
        struct err err = {.text = ""};
        letter.destination = letter.set = letter.json = SLICE_EMPTY;
        letter.accepted_ms = -1;
        cr_assert_eq(append_letter(letters, &letter, &err), ERR_OK, "%s", err.text);
        dead_letters_free(letters);
        size_t bytes;
        uint8_t *line = read_file(0, 1, &bytes);
        cr_assert_eq(dead_letter_parse(line, bytes - 1, &parsed, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(parsed.destination.len + parsed.set.len + parsed.json.len, 0);
        cr_assert_eq(parsed.accepted_ms, -1);
        free(line);
        end();
}

/* Whatever a kill leaves behind the last whole line is cut off by the next append. */
Test(dead_letter, a_torn_line_is_cut_off, .timeout = 60)
{
        begin();
        struct dead_letters *letters = letters_open(0, 0);
        char path[400];
        append(letters, 0);
        dead_letters_free(letters);
        path_of(0, 1, path);
        uint64_t wanted = 1;
        static const size_t torn[] = {1, 20, 4095, 4096, 4097, 100000};
        for (size_t i = 0; i < sizeof(torn) / sizeof(torn[0]); i++) {
                char *garbage = malloc(torn[i]);
                memset(garbage, '{', torn[i]);
                FILE *file = fopen(path, "a");
                cr_assert(file != NULL && fwrite(garbage, 1, torn[i], file) == torn[i] && fclose(file) == 0);
                free(garbage);
                letters = letters_open(0, 0);
                append(letters, wanted++);
                dead_letters_free(letters);
        }
        uint64_t number = 0;
        check_file(0, 1, &number);
        cr_assert_eq(number, wanted);
        /* A file of nothing else. */
        cr_assert_eq(truncate(path, 10), 0);
        letters = letters_open(0, 0);
        append(letters, 0);
        dead_letters_free(letters);
        number = 0;
        check_file(0, 1, &number);
        cr_assert_eq(number, 1);
        end();
}

/* What the disk does not take leaves no trace, and the next try is as good as the first. */
Test(dead_letter, what_cannot_be_written_leaves_nothing, .timeout = 60)
{
        begin();
        struct dead_letters *letters = letters_open(0, 0);
        struct err err = {.text = ""};
        struct rlimit limit, before;
        (void)signal(SIGXFSZ, SIG_IGN);
        append(letters, 0);
        cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur = 700; /* the second line is cut in its middle */
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        struct dead_letter letter = example(1, SLICE("\1\1"));
        enum err_code code = append_letter(letters, &letter, &err);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
        cr_assert_eq(code, ERR_DISK_FULL, "%s", err.text);
        cr_assert_not_null(strstr(err.text, "File too large"), "%s", err.text);
        append(letters, 1);
        dead_letters_free(letters);
        uint64_t number = 0;
        check_file(0, 1, &number);
        cr_assert_eq(number, 2);
        end();
}

/* What is written into a file that nobody can find any more does not count. */
Test(dead_letter, a_file_that_is_removed_takes_no_letter, .timeout = 60)
{
        begin();
        struct dead_letters *letters = letters_open(0, 0);
        struct err err = {.text = ""};
        struct dead_letter letter = example(0, SLICE("\0"));
        char path[400], command[400];
        path_of(0, 1, path);
        append(letters, 0);
        (void)snprintf(command, sizeof(command), "rm -r %s", directory);
        cr_assert_eq(system(command), 0);
        append(letters, 0);
        uint64_t number = 0;
        check_file(0, 1, &number);
        cr_assert_eq(number, 1);
        /* Also when it goes between the write and its end. */
        for (int folder = 0; folder < 2; folder++) {
                letter.msgpack = slice_of((const uint8_t *)"", 1);
                cr_assert_eq(begin_append(letters, &letter, &err), ERR_OK, "%s", err.text);
                cr_assert_eq(folder == 0 ? unlink(path) : system(command), 0);
                cr_assert_eq(finish_append(letters, &err), ERR_SYSTEM);
                cr_assert_not_null(strstr(err.text, "removed"), "%s", err.text);
                append(letters, 0);
                number = 0;
                check_file(0, 1, &number);
                cr_assert_eq(number, 1);
        }
        dead_letters_free(letters);
        end();
}

/* By somebody who wants the room, while it is open. */
Test(dead_letter, a_file_that_is_emptied_has_no_hole, .timeout = 60)
{
        begin();
        struct dead_letters *letters = letters_open(0, 0);
        char path[400];
        path_of(0, 1, path);
        append(letters, 0);
        append(letters, 1);
        cr_assert_eq(truncate(path, 0), 0);
        append(letters, 0);
        append(letters, 1);
        uint64_t number = 0;
        check_file(0, 1, &number);
        cr_assert_eq(number, 2);
        dead_letters_free(letters);
        end();
}

/* Files follow each other; the bound holds until somebody removes one, and never the newest alone. */
Test(dead_letter, files_are_bounded_by_the_oldest_going, .timeout = 60)
{
        begin();
        const uint64_t bytes_max = 4 * 65536;
        struct dead_letters *letters = letters_open(0, bytes_max), *other = letters_open(1, bytes_max);
        struct err err = {.text = ""};
        struct dead_letter letter = example(0, SLICE("x"));
        uint64_t written = 0;
        for (;; written++) {
                letter.lane_position = written;
                enum err_code code = append_letter(letters, &letter, &err);
                if (code != ERR_OK) {
                        cr_assert_eq(code, ERR_LIMIT, "%s", err.text);
                        break;
                }
                cr_assert_lt(written, 10000);
        }
        cr_assert_eq(append_letter(letters, &letter, &err), ERR_LIMIT);
        append(other, 0); /* the other worker's are its own */
        char path[400];
        uint64_t bytes = 0, files = 0;
        struct stat status;
        for (uint64_t number = 1;; number++, files++) {
                path_of(0, number, path);
                if (stat(path, &status) < 0)
                        break;
                cr_assert_leq((uint64_t)status.st_size, bytes_max / 4);
                bytes += (uint64_t)status.st_size;
        }
        cr_assert(files >= 4 && bytes <= bytes_max, "%llu files, %llu bytes", (unsigned long long)files,
                  (unsigned long long)bytes);
        path_of(0, 1, path);
        cr_assert_eq(unlink(path), 0);
        append(letters, written);
        dead_letters_free(letters);
        /* The next router goes on in the newest. */
        letters = letters_open(0, bytes_max);
        append(letters, written + 1);
        path_of(0, 1, path);
        cr_assert_lt(stat(path, &status), 0, "numbers only grow");
        dead_letters_free(letters);
        dead_letters_free(other);
        end();
}

Test(dead_letter, names_have_one_spelling, .timeout = 30)
{
        static const char *const wrong[] = {
                "",        "1",      "1-2",    "1-2-",           "1-2-3-",
                "1-2-3-4", "01-2-3", "1-02-3", "1-2-+3",         "-1-2-3",
                "a-2-3",   "1-2-3 ", "1--3",   "4294967296-1-1", "1-18446744073709551616-0"};
        struct dead_letter_id id;
        char text[DEAD_LETTER_ID_BYTES_MAX];
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
                cr_assert_not(dead_letter_id_parse(slice_of_text(wrong[i]), &id), "%s", wrong[i]);
        cr_assert(dead_letter_id_parse(SLICE("7-12-0"), &id));
        cr_assert(id.worker == 7 && id.number == 12 && id.offset == 0);
        dead_letter_id_write(&id, text);
        cr_assert_str_eq(text, "7-12-0");
        static const char *const names[] = {
                "worker-0.ndjson",    "worker-0-0.ndjson",  "worker-00-1.ndjson", "worker-0-1",
                "worker-0-1-.ndjson", "worker-0-1.ndjson~", "worker--1.ndjson",   ".ndjson"};
        uint32_t worker;
        uint64_t number;
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                cr_assert_not(dead_letter_file_parse(slice_of_text(names[i]), SLICE(DEAD_LETTER_LETTERS_SUFFIX),
                                                     &worker, &number),
                              "%s", names[i]);
        cr_assert(dead_letter_file_parse(SLICE("worker-15-3.settled"), SLICE(DEAD_LETTER_SETTLED_SUFFIX), &worker,
                                         &number));
        cr_assert(worker == 15 && number == 3);
}

Test(dead_letter, what_became_of_one_is_read_as_written, .timeout = 30)
{
        struct dead_letter_settled settled = {.offset = UINT64_MAX, .crc = 0xdeadbeef, .dropped = true}, read;
        struct dead_letter_id id = {.worker = UINT32_MAX, .number = UINT64_MAX, .offset = UINT64_MAX};
        char line[DEAD_LETTER_SETTLED_BYTES_MAX];
        for (int i = 0; i < 2; i++) {
                size_t bytes = dead_letter_settled_write(&settled, &id, INT64_C(253402300799999), line);
                cr_assert(bytes < sizeof(line) && line[bytes - 1] == '\n');
                cr_assert(dead_letter_settled_parse(slice_of(line, bytes - 1), &read));
                cr_assert(read.offset == settled.offset && read.crc == settled.crc && read.dropped == settled.dropped);
                for (size_t cut = 0; cut < bytes - 1; cut++)
                        cr_assert_not(dead_letter_settled_parse(slice_of(line, cut), &read), "%zu bytes", cut);
                settled = (struct dead_letter_settled){.offset = 0};
        }
}

/* Not one flipped bit, and not one missing byte, goes unnoticed. */
Test(dead_letter, damage_is_found, .timeout = 60)
{
        begin();
        struct dead_letters *letters = letters_open(0, 0);
        append(letters, 5);
        dead_letters_free(letters);
        size_t bytes;
        struct dead_letter letter;
        uint8_t *line = read_file(0, 1, &bytes), *copy = malloc(bytes);
        for (size_t i = 0; i + 1 < bytes; i++) {
                memcpy(copy, line, bytes);
                copy[i] ^= (uint8_t)(1u << i % 8);
                cr_assert_neq(dead_letter_parse(copy, bytes - 1, &letter, NULL), ERR_OK, "byte %zu", i);
                memcpy(copy, line, bytes);
                cr_assert_neq(dead_letter_parse(copy, i, &letter, NULL), ERR_OK, "cut at %zu", i);
        }
        free(line);
        free(copy);
        end();
}
