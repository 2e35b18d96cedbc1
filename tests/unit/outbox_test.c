/* The outbox: what is sent from it and in which order; what every instant of a kill leaves; files that are damaged, cut
 * or somebody else's. */
#include "egress/outbox.h"

#include "tests/support/journal_files.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA_BYTES (64u * 1024u)
#define SHARDS     2u
#define KEY_HASH   UINT64_C(0x1122334455667788)

static char root[256];

static void make_root(void)
{
        journal_files_make(root);
}

static void remove_root(void)
{
        journal_files_remove(root);
}

TestSuite(outbox, .init = make_root, .fini = remove_root, .timeout = 60);

static const char *path_of(const char *name)
{
        static char paths[2][512];
        static unsigned turn;
        char *path = paths[turn++ % 2];
        (void)snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
        return path;
}

static struct outbox *open_as(const char *name, uint64_t key_hash, uint32_t shards_count, uint64_t data_bytes,
                              struct outbox_found *ret_found)
{
        struct outbox_options options = {path_of(name), key_hash, shards_count, data_bytes};
        struct outbox *outbox = NULL;
        struct err err = {.text = ""};
        enum err_code code = outbox_open(&options, &outbox, ret_found, &err);
        cr_assert_eq(code, ERR_OK, "%s: %s", err_name(code), err.text);
        return outbox;
}

static struct outbox *must_open(const char *name, struct outbox_found *ret_found)
{
        return open_as(name, KEY_HASH, SHARDS, DATA_BYTES, ret_found);
}

/* Bytes of body `index`: its size and content tell which it is. */
static size_t body_bytes(uint32_t index)
{
        return 100 + 37 * (size_t)index;
}

static void write_period(struct outbox *outbox, uint32_t chunks)
{
        struct outbox_place places[SHARDS] = {
                {1, 64, 1, 640, 11, {.delivered = 9, .shed = 1}, 77},
                {0},
        };
        outbox_begin(outbox);
        for (uint32_t i = 0; i < chunks; i++) {
                size_t room = 0;
                uint8_t *at = outbox_room(outbox, &room);
                cr_assert_geq(room, body_bytes(i));
                memset(at, 'a' + (int)i, body_bytes(i));
                outbox_add(outbox, body_bytes(i), 10 + i, 1000 + i, 1767323040000 + i);
        }
        outbox_seal(outbox, places, 1767323045678);
}

static void check_next(const struct outbox *outbox, uint32_t index)
{
        uint32_t data = 0;
        struct slice body = outbox_next(outbox, &data);
        cr_assert_eq(body.len, body_bytes(index));
        cr_assert_eq(body.ptr[0], 'a' + (int)index);
        cr_assert_eq(body.ptr[body.len - 1], 'a' + (int)index);
        cr_assert_eq(data, 10 + index);
        cr_assert_eq(outbox_next_counts(outbox), 1000 + index);
        cr_assert_eq(outbox_next_oldest_ms(outbox), 1767323040000 + index);
}

/* ---------------------------------------------------------------------------------------------- kills */

/* A copy of the file is taken at every labelled instant, as a kill there would leave it. */
static struct {
        bool watching;
        uint32_t images;
        struct {
                const char *label;
                uint32_t acknowledged; /* by then, as far as the test had been told */
        } image[64];
        uint32_t acknowledged;
} kills;

void outbox_test_step(const char *label);

static void copy_file(const char *from, const char *to)
{
        uint8_t bytes[4096];
        int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        cr_assert(in >= 0 && out >= 0);
        for (ssize_t got = read(in, bytes, sizeof(bytes)); got > 0; got = read(in, bytes, sizeof(bytes)))
                cr_assert_eq(write(out, bytes, (size_t)got), got);
        (void)close(in);
        (void)close(out);
}

void outbox_test_step(const char *label)
{
        if (!kills.watching)
                return;
        char name[32];
        cr_assert_lt(kills.images, 64);
        kills.image[kills.images].label = label;
        kills.image[kills.images].acknowledged = kills.acknowledged;
        (void)snprintf(name, sizeof(name), "image-%u", kills.images++);
        copy_file(path_of("live"), path_of(name));
}

Test(outbox, a_kill_at_any_instant_leaves_what_the_header_says)
{
        enum { CHUNKS = 3 };
        struct outbox *outbox = must_open("live", NULL);
        kills.watching = true;
        write_period(outbox, CHUNKS);
        for (uint32_t i = 0; i < CHUNKS; i++) {
                outbox_sending(outbox);
                if (i == 1) { /* refused once, then taken */
                        outbox_not_taken(outbox);
                        outbox_sending(outbox);
                }
                kills.acknowledged = i + 1;
                outbox_acknowledge(outbox);
        }
        outbox_clear(outbox);
        kills.watching = false;
        outbox_close(outbox);

        unsigned sealed = 0, empty = 0, in_flight = 0;
        for (uint32_t i = 0; i < kills.images; i++) {
                char name[32];
                struct outbox_found found;
                const char *label = kills.image[i].label;
                (void)snprintf(name, sizeof(name), "image-%u", i);
                outbox = must_open(name, &found);
                cr_assert_null(found.dropped, "%s: %s", label, found.dropped);
                bool is_sealed = strcmp(label, "sealed") == 0 || strcmp(label, "sending") == 0 ||
                                 strcmp(label, "not-taken") == 0 || strcmp(label, "acknowledged") == 0;
                cr_assert_eq(outbox_is_sealed(outbox), is_sealed, "%s", label);
                if (is_sealed) {
                        sealed++;
                        in_flight += found.in_flight;
                        cr_assert_eq(found.chunks, CHUNKS);
                        cr_assert_eq(found.acknowledged, kills.image[i].acknowledged, "%s", label);
                        cr_assert_eq(found.in_flight, strcmp(label, "sending") == 0, "%s", label);
                        cr_assert_eq(outbox_places(outbox)[0].end_position, 640);
                        cr_assert_eq(outbox_places(outbox)[0].settled.shed, 1);
                        cr_assert_eq(outbox_places(outbox)[1].touched, 0);
                        cr_assert_eq(outbox_closed_ms(outbox), 1767323045678);
                        cr_assert_eq(outbox_places(outbox)[0].begin_delivered, 77);
                        for (uint32_t k = found.acknowledged; k < CHUNKS; k++) {
                                check_next(outbox, k);
                                outbox_acknowledge(outbox);
                        }
                } else {
                        empty++;
                        write_period(outbox, 2); /* usable at once */
                }
                outbox_close(outbox);
        }
        cr_assert_eq(sealed, 1 + 4 + 1 + 3);
        cr_assert_eq(in_flight, 4);
        cr_assert_geq(empty, 1 + 2 * CHUNKS + 3 + 1);
}

/* A kill at each instant of it: the bit of a chunk that was not passed over after all means nothing. */
Test(outbox, a_chunk_that_is_given_up_is_remembered)
{
        struct outbox *outbox = must_open("live", NULL);
        write_period(outbox, 3);
        outbox_sending(outbox);
        outbox_acknowledge(outbox);
        kills.watching = true;
        outbox_give_up(outbox);
        kills.watching = false;
        cr_assert_eq(outbox_given_up_counts(outbox), 1001);
        outbox_close(outbox);
        cr_assert_eq(kills.images, 2);
        for (uint32_t i = 0; i < 2; i++) {
                char name[32];
                struct outbox_found found;
                (void)snprintf(name, sizeof(name), "image-%u", i);
                outbox = must_open(name, &found);
                cr_assert_null(found.dropped);
                cr_assert_eq(found.acknowledged, 1 + i);
                cr_assert_eq(outbox_given_up_counts(outbox), i == 0 ? 0 : 1001);
                while (outbox_acknowledged(outbox) < 3) {
                        outbox_sending(outbox);
                        outbox_acknowledge(outbox);
                }
                cr_assert_eq(outbox_given_up_counts(outbox), i == 0 ? 0 : 1001);
                outbox_clear(outbox);
                write_period(outbox, 1);
                outbox_acknowledge(outbox);
                cr_assert_eq(outbox_given_up_counts(outbox), 0);
                outbox_close(outbox);
        }
}

/* ---------------------------------------------------------------------------------------------- syncs */

static uint32_t directory_syncs, directory_syncs_that_fail;

int __real_disk_sync_directory(int directory_fd);
int __wrap_disk_sync_directory(int directory_fd);
int __wrap_disk_sync_directory(int directory_fd)
{
        directory_syncs++;
        if (directory_syncs_that_fail > 0) {
                directory_syncs_that_fail--;
                errno = EIO;
                return -1;
        }
        return __real_disk_sync_directory(directory_fd);
}

Test(outbox, its_name_is_on_the_disk_when_it_is_open)
{
        struct outbox *outbox = NULL;
        for (uint32_t opens = 1; opens <= 2; opens++) { /* it is made, it was there */
                outbox = must_open("name", NULL);
                cr_assert_eq(directory_syncs, opens);
                write_period(outbox, 1);
                int fd = outbox_sync_begin(outbox); /* the worker: no system call */
                cr_assert_eq(directory_syncs, opens);
                cr_assert_eq(outbox_sync_end(outbox, fdatasync(fd)), ERR_OK);
                outbox_clear(outbox);
                outbox_close(outbox);
        }
        directory_syncs_that_fail = 2;
        outbox = must_open("another", NULL);
        write_period(outbox, 1);
        cr_assert_lt(outbox_sync_begin(outbox), 0); /* not before it has a name */
        int fd = outbox_sync_begin(outbox);
        cr_assert_geq(fd, 0);
        cr_assert_eq(directory_syncs, 5);
        cr_assert_eq(outbox_sync_end(outbox, fdatasync(fd)), ERR_OK);
        cr_assert_geq(outbox_sync_begin(outbox), 0);
        cr_assert_eq(directory_syncs, 5);
        cr_assert_eq(outbox_sync_end(outbox, -EIO), ERR_SYSTEM);
        outbox_close(outbox);
}

Test(outbox, a_sync_of_a_file_that_was_cut_keeps_nothing)
{
        struct outbox *outbox = must_open("cut", NULL);
        write_period(outbox, 2);
        cr_assert_not(outbox_has_lost_pages(outbox));
        cr_assert_eq(truncate(path_of("cut"), 0), 0);
        int fd = outbox_sync_begin(outbox); /* touches what it has */
        cr_assert_eq(outbox_sync_end(outbox, fdatasync(fd)), ERR_CORRUPT);
        cr_assert(outbox_has_lost_pages(outbox));
        outbox_close(outbox);
}

/* ---------------------------------------------------------------------------------------------- damage */

static void spoil(const char *name, off_t at, uint8_t with)
{
        uint8_t byte;
        int fd = open(path_of(name), O_RDWR);
        cr_assert_eq(pread(fd, &byte, 1, at), 1);
        byte ^= with;
        cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
        (void)close(fd);
}

/* The kernel could not write a page, dropped it, and reads back what the disk has. */
Test(outbox, what_is_not_as_it_was_written_is_not_sent)
{
        struct outbox *outbox = must_open("dropped", NULL);
        write_period(outbox, 2);
        cr_assert(outbox_next_is_whole(outbox));
        spoil("dropped", OUTBOX_HEADER_BYTES + 5, 1);
        cr_assert_not(outbox_has_lost_pages(outbox));
        cr_assert_not(outbox_next_is_whole(outbox));
        spoil("dropped", OUTBOX_HEADER_BYTES + 5, 1);
        spoil("dropped", OUTBOX_HEADER_BYTES + 129, 1); /* of the second one: 100 bytes, rounded up */
        cr_assert(outbox_next_is_whole(outbox));
        outbox_acknowledge(outbox);
        cr_assert_not(outbox_next_is_whole(outbox));
        outbox_close(outbox);
}

Test(outbox, every_damaged_byte_drops_the_period_and_the_outbox_goes_on)
{
        struct outbox_found found;
        struct outbox *outbox = must_open("good", NULL);
        write_period(outbox, 2);
        outbox_close(outbox);
        off_t end = (off_t)(OUTBOX_HEADER_BYTES + 128 + body_bytes(1));
        unsigned dropped = 0;
        for (off_t at = 0; at < end; at++) {
                bool counted = at < 40 || (at >= 64 && at < 72) || (at >= 128 && at < 128 + 176 * 80) ||
                               (at >= 14208 && at < 14208 + 2 * 32) ||
                               (at >= OUTBOX_HEADER_BYTES && at < (off_t)(OUTBOX_HEADER_BYTES + body_bytes(0))) ||
                               at >= OUTBOX_HEADER_BYTES + 128;
                if (!counted)
                        continue;
                copy_file(path_of("good"), path_of("bad"));
                spoil("bad", at, 0x41);
                outbox = must_open("bad", &found);
                cr_assert_not(outbox_is_sealed(outbox), "byte %lld", (long long)at);
                cr_assert_not_null(found.dropped, "byte %lld", (long long)at);
                dropped++;
                outbox_close(outbox);
        }
        cr_assert_gt(dropped, 1000);
        outbox = must_open("bad", &found);
        cr_assert_null(found.dropped); /* once */
        write_period(outbox, 1);
        check_next(outbox, 0);
        outbox_close(outbox);
}

/* As a router of version 2 has left it: with one log a shard, its CRC right. */
Test(outbox, a_period_of_another_version_is_counted_again)
{
        struct outbox_found found;
        struct outbox *outbox = must_open("version", NULL);
        write_period(outbox, 3);
        outbox_sending(outbox);
        outbox_acknowledge(outbox);
        outbox_close(outbox);
        static uint8_t header[OUTBOX_HEADER_BYTES];
        int fd = open(path_of("version"), O_RDWR);
        cr_assert_eq(pread(fd, header, sizeof(header), 0), (ssize_t)sizeof(header));
        header[8] = 2;
        uint32_t crc = crc32_iscsi(header, 28, 0x4f555442u);
        crc = crc32_iscsi(header + 32, 16, crc);
        crc = crc32_iscsi(header + 128, 16 * 72, crc);
        crc = crc32_iscsi(header + 1280, 3 * 24, crc);
        memcpy(header + 28, &crc, sizeof(crc));
        cr_assert_eq(pwrite(fd, header, sizeof(header), 0), (ssize_t)sizeof(header));
        (void)close(fd);
        outbox = must_open("version", &found);
        cr_assert_not(outbox_is_sealed(outbox));
        cr_assert_str_eq(found.dropped, "it is of another version, or no outbox");
        cr_assert_eq(found.acknowledged, 1); /* doubled by counting again: told */
        write_period(outbox, 2);             /* of this version */
        outbox_close(outbox);
        outbox = must_open("version", &found);
        cr_assert_null(found.dropped);
        cr_assert(outbox_is_sealed(outbox));
        outbox_close(outbox);
}

Test(outbox, a_progress_that_cannot_be_is_not_believed)
{
        static const uint64_t bad[] = {3, 2 | UINT64_C(1) << 32, UINT64_C(1) << 34, UINT64_MAX, UINT32_MAX};
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                struct outbox_found found;
                struct outbox *outbox = must_open("progress", NULL);
                outbox_clear(outbox);
                write_period(outbox, 2);
                outbox_close(outbox);
                int fd = open(path_of("progress"), O_RDWR);
                cr_assert_eq(pwrite(fd, &bad[i], 8, 72), 8);
                (void)close(fd);
                outbox = must_open("progress", &found);
                cr_assert_not(outbox_is_sealed(outbox));
                cr_assert_str_eq(found.dropped, "its progress makes no sense");
                outbox_close(outbox);
        }
}

Test(outbox, a_file_that_was_cut_is_no_period)
{
        static const off_t sizes[] = {0, 1, 63, 71, 72, 100, 16383, 16384, 16484, 16611};
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                struct outbox_found found;
                struct outbox *outbox = must_open("cut", NULL);
                outbox_clear(outbox);
                write_period(outbox, 2);
                outbox_close(outbox);
                cr_assert_eq(truncate(path_of("cut"), sizes[i]), 0);
                outbox = must_open("cut", &found);
                cr_assert_not(outbox_is_sealed(outbox), "cut at %lld", (long long)sizes[i]);
                outbox_close(outbox);
        }
}

Test(outbox, another_targets_period_is_not_taken)
{
        struct outbox_found found;
        struct outbox *outbox = must_open("other", NULL);
        write_period(outbox, 1);
        outbox_close(outbox);
        copy_file(path_of("other"), path_of("other-2"));
        outbox = open_as("other", KEY_HASH + 1, SHARDS, DATA_BYTES, &found);
        cr_assert_str_eq(found.dropped, "it belongs to another target");
        outbox_close(outbox);
        outbox_close(open_as("other-2", KEY_HASH, SHARDS, DATA_BYTES, &found));
        cr_assert_null(found.dropped);
        const uint32_t unknown = 5;
        struct outbox_options options = {path_of("other-2"), KEY_HASH, 1, DATA_BYTES, &unknown};
        cr_assert_eq(outbox_open(&options, &outbox, &found, NULL), ERR_OK);
        cr_assert_str_eq(found.dropped, "a log that it counts is no more");
        outbox_close(outbox);
}

Test(outbox, places_follow_their_logs)
{
        struct outbox_found found;
        const uint32_t before[] = {0, 1, 144}, after[] = {0, 144, 1, 160};
        struct outbox_options options = {path_of("logs"), KEY_HASH, 3, DATA_BYTES, before};
        struct outbox_place places[3] = {
                [1] = {.touched = 1, .end_position = 64}, [2] = {.touched = 1, .end_position = 128}};
        struct outbox *outbox = NULL;
        size_t room;
        cr_assert_eq(outbox_open(&options, &outbox, NULL, NULL), ERR_OK);
        outbox_begin(outbox);
        memset(outbox_room(outbox, &room), 'x', 100);
        outbox_add(outbox, 100, 1, 1, 1);
        outbox_seal(outbox, places, 1);
        cr_assert_not(outbox_moved_before(outbox));
        outbox_sending(outbox);
        outbox_move_before(outbox);
        outbox_close(outbox);
        options.shards_count = 4;
        options.log_ids = after;
        cr_assert_eq(outbox_open(&options, &outbox, &found, NULL), ERR_OK);
        cr_assert_null(found.dropped);
        cr_assert(found.in_flight && outbox_moved_before(outbox));
        cr_assert_eq(outbox_places(outbox)[0].touched, 0);
        cr_assert_eq(outbox_places(outbox)[1].end_position, 128);
        cr_assert_eq(outbox_places(outbox)[2].end_position, 64);
        cr_assert_eq(outbox_places(outbox)[3].touched, 0);
        outbox_close(outbox);
}

Test(outbox, a_file_of_another_size_keeps_its_period)
{
        struct outbox_found found;
        struct outbox *outbox = must_open("size", NULL);
        write_period(outbox, 3);
        outbox_sending(outbox);
        outbox_close(outbox);
        outbox = open_as("size", KEY_HASH, SHARDS, 64, &found); /* wants less than is there */
        cr_assert_null(found.dropped);
        cr_assert(outbox_in_flight(outbox));
        check_next(outbox, 0);
        outbox_close(outbox);
        outbox = open_as("size", KEY_HASH, SHARDS, 4 * DATA_BYTES, &found);
        cr_assert_null(found.dropped);
        outbox_acknowledge(outbox);
        check_next(outbox, 1);
        outbox_close(outbox);
}

Test(outbox, one_process_at_a_time_and_only_regular_files)
{
        struct err err = {.text = ""};
        struct outbox *second = NULL, *outbox = must_open("locked", NULL);
        struct outbox_options options = {path_of("locked"), KEY_HASH, SHARDS, DATA_BYTES};
        cr_assert_eq(outbox_open(&options, &second, NULL, &err), ERR_LOCKED);
        struct stat status;
        cr_assert_eq(stat(path_of("locked"), &status), 0);
        cr_assert_eq(status.st_mode & 0777, 0600);
        cr_assert_eq((uint64_t)status.st_size, outbox_budget_bytes(DATA_BYTES));
        outbox_remove(outbox);
        cr_assert_lt(stat(path_of("locked"), &status), 0);
        cr_assert_eq(symlink("/etc/passwd", path_of("link")), 0);
        options.path = path_of("link");
        cr_assert_eq(outbox_open(&options, &second, NULL, &err), ERR_CONFIG);
        cr_assert_eq(mkdir(path_of("folder"), 0700), 0);
        options.path = path_of("folder");
        cr_assert_neq(outbox_open(&options, &second, NULL, &err), ERR_OK);
        cr_assert_neq(err.text[0], '\0');
}

Test(outbox, the_room_is_what_was_asked_for)
{
        struct outbox *outbox = open_as("room", KEY_HASH, SHARDS, 300, NULL);
        size_t room = 0;
        outbox_begin(outbox);
        (void)outbox_room(outbox, &room);
        cr_assert_eq(room, 320);
        memset(outbox_room(outbox, &room), 'a', 100);
        outbox_add(outbox, 100, 10, UINT64_C(1) << 40, 1);
        (void)outbox_room(outbox, &room);
        cr_assert_eq(room, 320 - 128);
        outbox_close(outbox);
}
