#include "base/limits.h"
#include "base/random.h"
#include "egress/file_end.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(file_end, .timeout = 60);

#define MIB ((size_t)1024 * 1024)

/* Reads what is asked for, and counts. */
static enum err_code find(const uint8_t *file, size_t size, struct file_end *end, unsigned *ret_pieces)
{
        enum err_code code = file_end_begin(end, size);
        for (*ret_pieces = 0; code == ERR_INCOMPLETE; (*ret_pieces)++) {
                cr_assert(end->read_bytes > 0 && end->read_bytes <= FILE_END_PIECE_BYTES);
                cr_assert(end->read_at < size && end->read_bytes <= size - end->read_at);
                uint8_t *piece = malloc(end->read_bytes); /* no byte more, for the address sanitizer */
                cr_assert_not_null(piece);
                memcpy(piece, file + end->read_at, end->read_bytes);
                code = file_end_take(end, piece);
                free(piece);
        }
        return code;
}

static size_t end_of(const uint8_t *file, size_t size)
{
        struct file_end end;
        unsigned pieces;
        cr_assert_eq(find(file, size, &end, &pieces), ERR_OK);
        cr_assert_leq(end.line_end, size);
        return end.line_end;
}

/* Lines of 100 bytes. */
static uint8_t *make(size_t size)
{
        uint8_t *file = malloc(size);
        cr_assert_not_null(file);
        memset(file, 'x', size);
        for (size_t at = 0; at < size; at += 100) {
                file[at] = '{';
                if (at + 99 < size)
                        file[at + 99] = '\n';
        }
        return file;
}

Test(file_end, is_behind_the_last_whole_line)
{
        static const size_t sizes[] = {1, 99, 100, 101, 16383, 16384, 16385, 16400, 40000, 100099, 3 * MIB};
        cr_assert_eq(end_of((const uint8_t *)"", 0), 0);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                uint8_t *file = make(sizes[i]);
                cr_assert_eq(end_of(file, sizes[i]), sizes[i] / 100 * 100, "%zu", sizes[i]);
                free(file);
        }
}

Test(file_end, is_before_the_first_line_with_a_hole)
{
        static const struct {
                size_t from, to, expected;
        } holes[] = {
                {99, 100, 0},
                {100, 101, 100},
                {4 * MIB, 4 * MIB + 4096, 4 * MIB / 100 * 100},
                {8 * MIB - 1, 8 * MIB, (8 * MIB - 1) / 100 * 100},
                {0, 8 * MIB, 0},
        };
        const size_t size = 8 * MIB;
        for (size_t i = 0; i < sizeof(holes) / sizeof(holes[0]); i++) {
                uint8_t *file = make(size);
                memset(file + holes[i].from, 0, holes[i].to - holes[i].from);
                cr_assert_eq(end_of(file, size), holes[i].expected, "hole %zu", i);
                free(file);
        }
}

/* What is older than any write was settled: it is not read again; further back only from within a hole. */
Test(file_end, looks_no_further_back_than_it_must)
{
        const size_t size = 48 * MIB, air = file_end_in_the_air(size);
        struct file_end end;
        unsigned pieces;
        uint8_t *file = make(size);
        cr_assert_eq(air, 32 * MIB);
        file[air - 1] = '\0';
        cr_assert_eq(find(file, size, &end, &pieces), ERR_OK);
        cr_assert_eq(end.line_end, size / 100 * 100);
        cr_assert_lt(pieces, 16 * MIB / FILE_END_PIECE_BYTES + 10);
        file[air] = '\0';
        cr_assert_eq(end_of(file, size), (air - 1) / 100 * 100);
        free(file);
}

Test(file_end, tells_what_is_no_file_of_ours)
{
        struct file_end end;
        unsigned pieces;
        const size_t size = LIMIT_EVENT_JSON_BYTES_MAX + 100000;
        cr_assert_eq(find((const uint8_t *)"root:x:0:0\n", 11, &end, &pieces), ERR_SYNTAX);
        cr_assert_eq(pieces, 1);
        uint8_t *file = calloc(1, size);
        cr_assert_not_null(file);
        memset(file, 'x', size);
        file[0] = '{';
        cr_assert_eq(find(file, size, &end, &pieces), ERR_TOO_BIG);
        free(file);
}

/* By brute force. */
Test(file_end, agrees_with_a_plain_search)
{
        struct random_state random;
        random_init(&random, 7);
        for (unsigned round = 0; round < 2000; round++) {
                static const char letters[] = {'x', 'x', 'x', 'x', 'x', '\n', '{', '\0'};
                const size_t size = 1 + random_below(&random, round % 10 == 0 ? 60000 : 60);
                const uint64_t of = round % 2 == 0 ? sizeof(letters) : sizeof(letters) - 1;
                uint8_t *file = malloc(size);
                cr_assert_not_null(file);
                for (size_t i = 0; i < size; i++)
                        file[i] = (uint8_t)letters[random_below(&random, of)];
                file[0] = round % 3 == 0 ? '\0' : '{';
                const uint8_t *hole = memchr(file, '\0', size);
                size_t expected = hole != NULL ? (size_t)(hole - file) : size;
                while (expected > 0 && file[expected - 1] != '\n')
                        expected--;
                cr_assert_eq(end_of(file, size), expected, "round %u", round);
                free(file);
        }
}
