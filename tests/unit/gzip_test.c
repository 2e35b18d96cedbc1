/* gzip files in pieces: whole to somebody else's gunzip, and never larger than was said. */
#include "egress/gzip.h"

#include "base/random.h"
#include "tests/support/alloc_count.h"
#include "tests/support/gunzip.h"

#include <signal.h>
#include <stdlib.h>

TestSuite(gzip, .timeout = 60);

#define ROOM (4u << 20)
static uint8_t plain[ROOM], file[ROOM + 4096], back[ROOM + 1];
static size_t file_len;
static struct gzip_writer *writer;

static void open_writer(void)
{
        struct err err;
        cr_assert_eq(gzip_writer_create(&writer, &err), ERR_OK);
}

static void put(struct slice bytes)
{
        cr_assert_leq(file_len + bytes.len, sizeof(file));
        if (bytes.len > 0)
                memcpy(file + file_len, bytes.ptr, bytes.len);
        file_len += bytes.len;
}

static void add(struct slice bytes)
{
        while (bytes.len > 0)
                put(gzip_writer_add(writer, &bytes));
}

static void end(void)
{
        put(gzip_writer_flush(writer));
        put(gzip_writer_end(writer));
}

static void begin(void)
{
        file_len = 0;
        put(gzip_writer_begin(writer));
}

static void check(size_t bytes)
{
        size_t got = gunzip(slice_of(file, file_len), back, sizeof(back));
        cr_assert_eq(got, bytes, "%zu of %zu bytes come back", got, bytes);
        cr_assert_eq(memcmp(back, plain, bytes), 0);
}

enum kind { TEXT, NOISE, ZEROS, PAIRS, KINDS };

/* PAIRS: noise in which every few bytes repeat ones of long before, which costs more to say than to write again. */
static void fill(enum kind kind, size_t bytes, uint64_t seed)
{
        struct random_state random;
        random_init(&random, seed);
        for (size_t i = 0; i < bytes; i++) {
                switch (kind) {
                case TEXT:
                        plain[i] =
                                (uint8_t)("{\"eventType\":\"Send\",\"mail\":"[i % 26] + (int)random_below(&random, 2));
                        break;
                case NOISE:
                        plain[i] = (uint8_t)random_below(&random, 256);
                        break;
                case PAIRS:
                        plain[i] = i > 30000 && i % 9 < 4 ? plain[i - 29997] : (uint8_t)random_below(&random, 256);
                        break;
                case ZEROS:
                case KINDS:
                        plain[i] = 0;
                        break;
                }
        }
}

Test(gzip, files_come_back_whole_whatever_is_in_them)
{
        static const size_t sizes[] = {0,
                                       1,
                                       100,
                                       GZIP_STORED_BYTES_MAX,
                                       GZIP_STORED_BYTES_MAX + 1,
                                       GZIP_PIECE_BYTES - 1,
                                       GZIP_PIECE_BYTES,
                                       GZIP_PIECE_BYTES + 1,
                                       1024000,
                                       ROOM};
        open_writer();
        for (int kind = 0; kind < KINDS; kind++)
                for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                        fill((enum kind)kind, sizes[i], i + 1);
                        begin();
                        add(slice_of(plain, sizes[i]));
                        end();
                        check(sizes[i]);
                        cr_assert_leq(file_len, GZIP_BYTES_MAX(sizes[i]));
                        if (kind == TEXT && sizes[i] > 1000)
                                cr_assert_lt(file_len, sizes[i] / 2);
                        if (kind == NOISE) /* nothing is gained, so the bound is met to the byte */
                                cr_assert_eq(file_len, GZIP_BYTES_MAX(sizes[i]));
                }
        gzip_writer_free(writer);
}

Test(gzip, what_is_still_to_come_is_never_more_than_said)
{
        struct random_state random;
        random_init(&random, 3);
        open_writer();
        for (int round = 0; round < 60; round++) {
                size_t total = 1 + random_below(&random, 400000), at = 0;
                fill((enum kind)(round % KINDS), total, (uint64_t)round);
                if (round % 3 == 0) /* changes its kind under way, with a history that does not help */
                        fill(NOISE, total / 2, (uint64_t)round);
                begin();
                size_t promised = file_len + gzip_writer_rest_max(writer, total);
                while (at < total) {
                        size_t bytes = 1 + random_below(&random, round % 2 == 0 ? 2000 : 200000);
                        bytes = bytes < total - at ? bytes : total - at;
                        size_t most = file_len + gzip_writer_rest_max(writer, bytes);
                        add(slice_of(plain + at, bytes));
                        at += bytes;
                        cr_assert_leq(file_len + gzip_writer_rest_max(writer, 0), most);
                        if (random_below(&random, 50) == 0) {
                                most = file_len + gzip_writer_rest_max(writer, 0);
                                put(gzip_writer_flush(writer));
                                cr_assert_eq(gzip_writer_waiting(writer), 0);
                                cr_assert_leq(file_len + gzip_writer_rest_max(writer, 0), most);
                                promised += 2 * GZIP_STORED_HEAD_BYTES; /* one more piece */
                        }
                }
                cr_assert_leq(file_len + gzip_writer_rest_max(writer, 0), promised);
                end();
                cr_assert_leq(file_len, promised);
                check(total);
        }
        gzip_writer_free(writer);
}

Test(gzip, pieces_refer_back_to_those_before)
{
        fill(NOISE, 4000, 9);
        memcpy(plain + 4000, plain, 4000);
        open_writer();
        begin();
        add(slice_of(plain, 4000));
        put(gzip_writer_flush(writer)); /* stored, since it is noise; and yet it is there to refer to */
        size_t first = file_len;
        add(slice_of(plain + 4000, 4000));
        end();
        cr_assert_gt(first, 4000);
        cr_assert_lt(file_len - first, 1000, "%zu", file_len - first);
        check(8000);
        gzip_writer_free(writer);
}

Test(gzip, the_same_bytes_give_the_same_file_and_a_begin_forgets)
{
        static uint8_t before[ROOM];
        open_writer();
        fill(TEXT, 300000, 5);
        begin();
        add(slice_of(plain, 300000));
        end();
        size_t before_len = file_len;
        memcpy(before, file, file_len);
        begin();
        add(slice_of(plain + 7, 200001)); /* given up half-way */
        begin();
        for (size_t at = 0; at < 300000; at += 1000)
                add(slice_of(plain + at, 1000));
        end();
        cr_assert_eq(file_len, before_len);
        cr_assert_eq(memcmp(file, before, file_len), 0);
        gzip_writer_free(writer);
        gzip_writer_free(NULL);
}

Test(gzip, files_stand_one_behind_the_other)
{
        open_writer();
        fill(TEXT, 5000, 6);
        begin();
        add(slice_of(plain, 2000));
        end();
        put(gzip_writer_begin(writer));
        add(slice_of(plain + 2000, 3000));
        end();
        check(5000);
        gzip_writer_free(writer);
}

Test(gzip, writing_allocates_nothing)
{
        open_writer();
        fill(PAIRS, 600000, 6);
        uint64_t allocations = alloc_count;
        for (int i = 0; i < 3; i++) {
                begin();
                add(slice_of(plain, 600000));
                end();
        }
        cr_assert_eq(alloc_count, allocations);
        gzip_writer_free(writer);
}

Test(gzip, nothing_may_wait_at_the_end, .signal = SIGABRT)
{
        open_writer();
        begin();
        add(SLICE("x"));
        (void)gzip_writer_end(writer);
}
