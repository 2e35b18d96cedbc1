#include "tools/loadgen_capture.h"
#include "tools/loadgen_events.h"
#include "tools/loadgen_replay.h"

#include <criterion/criterion.h>
#include <isa-l/crc.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEST_MS INT64_C(1795438800000)

/* Event `number` of mail `mail`, encoded; `id_bytes` of its message id. */
static size_t encode(uint32_t mail, size_t id_bytes, uint8_t out[65536])
{
        static const char *const sets[1] = {"set-0"};
        struct loadgen_events_options options = {.run_id = 1, .seed = 1, .sets = sets, .sets_count = 1};
        cr_assert(loadgen_mix_parse("delivery", options.permille));
        struct loadgen_events *events = loadgen_events_create(&options);
        cr_assert_not_null(events);
        uint32_t set;
        size_t bytes = 0;
        char id[600];
        struct sendring_event event = *loadgen_events_make(events, mail, TEST_MS, &set);
        memset(id, 'x', sizeof(id));
        int used = snprintf(id, sizeof(id), "%u", mail);
        id[used] = 'x';
        event.mail.message_id = sendring_strn(id, id_bytes);
        cr_assert_eq(codec_event_encode(&event, out, 65536, &bytes, NULL), ERR_OK);
        loadgen_events_free(events);
        return bytes;
}

static void path_of(const char *name, char out[128])
{
        (void)snprintf(out, 128, "/tmp/sendring-capture-%s-%d", name, (int)getpid());
}

/* Events of 7 mails in turns, each `step_ms` after the one before. Returns the file's path. */
static const char *record(const char *name, uint32_t events_count, int64_t step_ms)
{
        static char path[128];
        static uint8_t event[65536];
        struct loadgen_capture_writer writer;
        struct err err = {.text = ""};
        path_of(name, path);
        cr_assert_eq(loadgen_capture_create(&writer, path, &err), ERR_OK, "%s", err.text);
        for (uint32_t i = 0; i < events_count; i++) {
                size_t bytes = encode(i % 7, 20 + i % 7, event);
                cr_assert_eq(loadgen_capture_add(&writer, TEST_MS + (int64_t)i * step_ms, slice_of(event, bytes), &err),
                             ERR_OK);
        }
        cr_assert_eq(loadgen_capture_finish(&writer, &err), ERR_OK, "%s", err.text);
        return path;
}

static struct slice load(const char *path, uint8_t *out, size_t out_bytes)
{
        FILE *file = fopen(path, "rb");
        cr_assert_not_null(file);
        size_t bytes = fread(out, 1, out_bytes, file);
        cr_assert_lt(bytes, out_bytes);
        (void)fclose(file);
        return slice_of(out, bytes);
}

static void repair_header(uint8_t *file)
{
        uint32_t crc = crc32_iscsi(file + 16, 48, crc32_iscsi(file, 12, 0));
        memcpy(file + 12, &crc, sizeof(crc));
}

/* Reads all of a file. ERR_OK: it is whole. */
static enum err_code read_all(struct slice bytes, uint64_t *ret_events, struct err *reterr)
{
        struct loadgen_capture capture;
        struct loadgen_capture_walk walk;
        struct loadgen_capture_record record;
        *ret_events = 0;
        enum err_code code = loadgen_capture_open(bytes, &capture, reterr);
        if (code != ERR_OK)
                return code;
        loadgen_capture_begin(&walk, &capture);
        while ((code = loadgen_capture_next(&walk, &record, reterr)) == ERR_OK)
                (*ret_events)++;
        return code == ERR_EMPTY ? ERR_OK : code;
}

Test(loadgen_capture, what_was_recorded_is_read, .timeout = 30)
{
        static uint8_t file[1 << 20], event[65536];
        const char *path = record("whole", 100, 3);
        struct stat status;
        char partial[160];
        (void)snprintf(partial, sizeof(partial), "%s.partial", path);
        cr_assert_eq(stat(path, &status), 0);
        cr_assert_eq(status.st_mode & 07777, 0600);
        cr_assert_neq(access(partial, F_OK), 0);
        struct slice bytes = load(path, file, sizeof(file));
        struct loadgen_capture capture;
        struct loadgen_capture_walk walk;
        struct loadgen_capture_record record;
        struct err err = {.text = ""};
        cr_assert_eq(loadgen_capture_open(bytes, &capture, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(capture.events, 100);
        cr_assert_eq(capture.first_ms, TEST_MS);
        cr_assert_eq(capture.last_ms, TEST_MS + 99 * 3);
        loadgen_capture_begin(&walk, &capture);
        for (uint32_t i = 0; i < 100; i++) {
                cr_assert_eq(loadgen_capture_next(&walk, &record, &err), ERR_OK, "%s", err.text);
                cr_assert_eq(record.accepted_ms, TEST_MS + (int64_t)i * 3);
                size_t wanted = encode(i % 7, 20 + i % 7, event);
                cr_assert(slice_equal(record.event, slice_of(event, wanted)));
                cr_assert(slice_equal(loadgen_capture_event(&capture, record.offset), record.event));
                cr_assert_eq(record.view.message_id.len, 20 + i % 7);
        }
        cr_assert_eq(loadgen_capture_next(&walk, &record, &err), ERR_EMPTY);
        (void)unlink(path);
}

Test(loadgen_capture, a_file_that_was_cut_off_anywhere_is_refused_and_not_read_beyond, .timeout = 60)
{
        static uint8_t file[1 << 20];
        const char *path = record("cut", 5, 1000);
        struct slice bytes = load(path, file, sizeof(file));
        size_t room = (bytes.len + 4095) / 4096 * 4096;
        uint8_t *pages = mmap(NULL, room + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq(pages, MAP_FAILED);
        cr_assert_eq(mprotect(pages + room, 4096, PROT_NONE), 0);
        for (size_t len = 0; len < bytes.len; len++) {
                /* Ends at an unmapped page; once with the header's count repaired, so that records are looked at. */
                for (int repaired = 0; repaired < (len >= LOADGEN_CAPTURE_HEADER_BYTES ? 2 : 1); repaired++) {
                        uint8_t *at = pages + room - len;
                        memcpy(at, file, len);
                        if (repaired == 1) {
                                uint64_t records_bytes = len - LOADGEN_CAPTURE_HEADER_BYTES;
                                memcpy(at + 24, &records_bytes, sizeof(records_bytes));
                                repair_header(at);
                        }
                        struct err err = {.text = ""};
                        uint64_t events;
                        cr_assert_neq(read_all(slice_of(at, len), &events, &err), ERR_OK, "%zu bytes", len);
                        cr_assert_eq(strncmp(err.text, "offset ", 7), 0, "%zu bytes: %s", len, err.text);
                        if (len >= LOADGEN_CAPTURE_HEADER_BYTES && repaired == 0) {
                                char wanted[32];
                                (void)snprintf(wanted, sizeof(wanted), "offset %zu:", len);
                                cr_assert_eq(strncmp(err.text, wanted, strlen(wanted)), 0, "%s", err.text);
                                cr_assert_eq(err.code, ERR_INCOMPLETE);
                        }
                }
        }
        (void)unlink(path);
}

Test(loadgen_capture, a_byte_that_was_changed_anywhere_is_refused, .timeout = 60)
{
        static uint8_t file[1 << 20];
        const char *path = record("changed", 5, 1);
        struct slice bytes = load(path, file, sizeof(file));
        uint64_t events;
        struct err err = {.text = ""};
        cr_assert_eq(read_all(bytes, &events, &err), ERR_OK);
        uint32_t event_bytes, padded = 0;
        for (size_t i = LOADGEN_CAPTURE_HEADER_BYTES; i < bytes.len; i += 16 + ((event_bytes + 7) & ~7u)) {
                memcpy(&event_bytes, file + i, sizeof(event_bytes));
                padded += event_bytes % 8 != 0;
        }
        cr_assert_gt(padded, 0); /* or the loop below would not try those bytes */
        for (size_t i = 0; i < bytes.len; i++)
                for (int bit = 0; bit < 8; bit++) {
                        file[i] ^= (uint8_t)(1u << bit);
                        err.text[0] = '\0';
                        cr_assert_neq(read_all(bytes, &events, &err), ERR_OK, "byte %zu", i);
                        cr_assert_eq(strncmp(err.text, "offset ", 7), 0, "byte %zu: %s", i, err.text);
                        file[i] ^= (uint8_t)(1u << bit);
                }
        file[bytes.len] = 0;
        cr_assert_eq(read_all(slice_of(file, bytes.len + 1), &events, &err), ERR_CORRUPT);
        (void)unlink(path);
}

/* Headers whose checksum is right. */
Test(loadgen_capture, a_header_that_says_something_else_than_the_records_is_refused, .timeout = 30)
{
        static const struct {
                size_t at;
                int64_t more;
                const char *told;
        } wrong[] = {
                {16, 1, "offset 16: the header says 6 events, and there are 5"},
                {16, -1, "offset 16: the header says 4 events, and there are 5"},
                {32, -1, "offset 32: the header's time of the first event"},
                {32, 1, "offset 32: the header's time of the first event"},
                {40, 1, "offset 40: the header's time of the last event"},
                {24, 8, "offset "},
                {24, -8, "offset "},
        };
        static uint8_t file[1 << 20];
        const char *path = record("header", 5, 1);
        struct slice bytes = load(path, file, sizeof(file));
        uint8_t header[LOADGEN_CAPTURE_HEADER_BYTES];
        memcpy(header, file, sizeof(header));
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
                struct err err = {.text = ""};
                int64_t value;
                uint64_t events;
                memcpy(file, header, sizeof(header));
                memcpy(&value, file + wrong[i].at, sizeof(value));
                value += wrong[i].more;
                memcpy(file + wrong[i].at, &value, sizeof(value));
                repair_header(file);
                cr_assert_neq(read_all(bytes, &events, &err), ERR_OK);
                cr_assert_eq(strncmp(err.text, wrong[i].told, strlen(wrong[i].told)), 0, "%s", err.text);
        }
        (void)unlink(path);
}

Test(loadgen_capture, nothing_is_overwritten_before_it_is_whole, .timeout = 30)
{
        static uint8_t file[1 << 20];
        const char *path = record("old", 2, 1);
        struct loadgen_capture_writer writer, other;
        struct err err = {.text = ""};
        uint64_t events;
        cr_assert_eq(loadgen_capture_create(&writer, path, &err), ERR_OK);
        cr_assert_neq(loadgen_capture_create(&other, path, &err), ERR_OK);
        cr_assert_not_null(strstr(err.text, ".partial is there already"));
        cr_assert_eq(read_all(load(path, file, sizeof(file)), &events, &err), ERR_OK);
        cr_assert_eq(events, 2);
        loadgen_capture_abandon(&writer);
        cr_assert_eq(loadgen_capture_create(&writer, path, &err), ERR_OK);
        cr_assert_eq(loadgen_capture_finish(&writer, &err), ERR_OK);
        cr_assert_eq(read_all(load(path, file, sizeof(file)), &events, &err), ERR_OK);
        cr_assert_eq(events, 0);
        (void)unlink(path);
        cr_assert_neq(loadgen_capture_create(&writer, "/nonexistent/capture", &err), ERR_OK);
        cr_assert_not_null(strstr(err.text, "/nonexistent/capture.partial"));
}

Test(loadgen_capture, a_clock_that_was_set_back_does_not_spoil_the_file, .timeout = 30)
{
        static uint8_t file[1 << 20], event[65536];
        struct loadgen_capture_writer writer;
        struct err err = {.text = ""};
        char path[128];
        uint64_t events;
        path_of("back", path);
        cr_assert_eq(loadgen_capture_create(&writer, path, &err), ERR_OK);
        struct slice encoded = slice_of(event, encode(1, 30, event));
        cr_assert_eq(loadgen_capture_add(&writer, TEST_MS, encoded, &err), ERR_OK);
        cr_assert_eq(loadgen_capture_add(&writer, TEST_MS - 5000, encoded, &err), ERR_OK);
        cr_assert_eq(loadgen_capture_finish(&writer, &err), ERR_OK);
        cr_assert_eq(read_all(load(path, file, sizeof(file)), &events, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(events, 2);
        (void)unlink(path);
}

/* ---- replay */

static void open_replay(const struct loadgen_replay_options *options, struct loadgen_replay *replay)
{
        struct err err = {.text = ""};
        cr_assert_eq(loadgen_replay_open(options, replay, &err), ERR_OK, "%s", err.text);
}

Test(loadgen_replay, keeps_the_pattern_at_the_speed_and_the_order_of_each_mail, .timeout = 30)
{
        static const double speeds[] = {1, 10, 0.5, 0};
        const char *path = record("pattern", 70, 20);
        for (size_t i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++) {
                struct loadgen_replay replay;
                struct loadgen_replay_options options = {.path = path, .speed = speeds[i], .producers_count = 3};
                open_replay(&options, &replay);
                cr_assert_eq(replay.length_ns, speeds[i] > 0 ? (uint64_t)(69 * 20e6 / speeds[i]) : 0);
                bool seen[70] = {false};
                uint32_t producer_of[7] = {99, 99, 99, 99, 99, 99, 99};
                for (uint32_t producer = 0; producer < 3; producer++) {
                        struct loadgen_replay_cursor cursor = {.replay = &replay, .producer = producer};
                        uint64_t due_ns, number, last = 0;
                        while (loadgen_replay_next(&cursor, &due_ns, &number)) {
                                cr_assert(number < 70 && !seen[number] && (last == 0 || number > last));
                                cr_assert_eq(due_ns, speeds[i] > 0 ? (uint64_t)((double)number * 20e6 / speeds[i]) : 0);
                                cr_assert(producer_of[number % 7] == 99 || producer_of[number % 7] == producer);
                                producer_of[number % 7] = producer;
                                seen[number] = true;
                                last = number;
                        }
                }
                for (int number = 0; number < 70; number++)
                        cr_assert(seen[number], "%d", number);
                loadgen_replay_close(&replay);
        }
        (void)unlink(path);
}

Test(loadgen_replay, spreads_what_came_within_a_millisecond, .timeout = 30)
{
        struct loadgen_replay replay;
        const char *path = record("spread", 40, 0);
        struct loadgen_replay_options options = {.path = path, .speed = 2, .producers_count = 1};
        open_replay(&options, &replay);
        for (uint64_t i = 0; i < 40; i++)
                cr_assert_eq(replay.due_ns[i], i * 1000000 / 40 / 2);
        loadgen_replay_close(&replay);
        (void)unlink(path);
}

Test(loadgen_replay, ids_are_fresh_kept_or_counted, .timeout = 30)
{
        static uint8_t out[LOADGEN_REPLAY_EVENT_BYTES];
        const char *path = record("ids", 14, 1);
        char fresh[2][14][60];
        for (uint32_t run = 0; run < 2; run++) {
                struct loadgen_replay replay;
                struct loadgen_replay_options options = {
                        .path = path, .speed = 1, .producers_count = 1, .run_id = 7 + run};
                open_replay(&options, &replay);
                for (uint32_t i = 0; i < 14; i++) {
                        struct slice event;
                        struct codec_view view;
                        struct loadgen_id id;
                        enum sendring_event_type type;
                        cr_assert(loadgen_replay_event(&replay, i, NULL, out, &event, &type));
                        cr_assert_eq(type, SENDRING_DELIVERY);
                        cr_assert_eq(codec_view_decode(event, &view, NULL), ERR_OK);
                        cr_assert_eq(view.message_id.len, 60);
                        memcpy(fresh[run][i], view.message_id.ptr, 60);
                        cr_assert_not(loadgen_id_parse(fresh[run][i], 60, &id));
                        /* One id for a mail, and another for each other. */
                        for (uint32_t j = 0; j < i; j++)
                                cr_assert_eq(memcmp(fresh[run][i], fresh[run][j], 60) == 0, i % 7 == j % 7);
                }
                loadgen_replay_close(&replay);
        }
        for (uint32_t i = 0; i < 14; i++)
                cr_assert_neq(memcmp(fresh[0][i], fresh[1][i], 60), 0);

        static uint8_t wanted[65536];
        struct loadgen_replay replay;
        struct loadgen_replay_options options = {
                .path = path, .speed = 1, .producers_count = 1, .ids = LOADGEN_IDS_KEEP};
        open_replay(&options, &replay);
        for (uint32_t i = 0; i < 14; i++) {
                struct slice event;
                enum sendring_event_type type;
                cr_assert(loadgen_replay_event(&replay, i, NULL, out, &event, &type));
                cr_assert(slice_equal(event, slice_of(wanted, encode(i % 7, 20 + i % 7, wanted))));
        }
        loadgen_replay_close(&replay);
        options.ids = LOADGEN_IDS_COUNTED;
        open_replay(&options, &replay);
        struct loadgen_id id = {.timestamp_ms = 5, .run_id = 6, .producer = 7, .index = 8}, back;
        struct slice event;
        struct codec_view view;
        enum sendring_event_type type;
        cr_assert(loadgen_replay_event(&replay, 3, &id, out, &event, &type));
        cr_assert_eq(codec_view_decode(event, &view, NULL), ERR_OK);
        cr_assert(loadgen_id_parse((const char *)view.message_id.ptr, view.message_id.len, &back));
        cr_assert_eq(back.index, 8);
        cr_assert(back.timestamp_ms == 5 && back.run_id == 6 && back.producer == 7);
        loadgen_replay_close(&replay);
        (void)unlink(path);
}

/* The event but for its id, whatever the length of that. */
Test(loadgen_replay, another_id_changes_nothing_else, .timeout = 30)
{
        static const size_t lengths[] = {1, 31, 32, 60, 255, 256, 512};
        static uint8_t event[65536], same[65536], out[LOADGEN_REPLAY_EVENT_BYTES], back[LOADGEN_REPLAY_EVENT_BYTES];
        char id[LOADGEN_ID_BYTES];
        memset(id, 'n', sizeof(id));
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                struct codec_view view;
                size_t bytes = encode(3, lengths[i], event);
                cr_assert_eq(codec_view_decode(slice_of(event, bytes), &view, NULL), ERR_OK);
                size_t changed = loadgen_replay_put_id(&view, id, out);
                cr_assert_gt(changed, 0);
                cr_assert_eq(codec_view_decode(slice_of(out, changed), &view, NULL), ERR_OK);
                cr_assert(slice_equal(view.message_id, slice_of(id, sizeof(id))));
                /* With the id of another length replaced by the same it is the same event. */
                size_t bytes_same = encode(3, 60, same);
                cr_assert_eq(codec_view_decode(slice_of(same, bytes_same), &view, NULL), ERR_OK);
                cr_assert_eq(loadgen_replay_put_id(&view, id, back), changed);
                cr_assert_arr_eq(out, back, changed);
        }
}

Test(loadgen_replay, refuses_files_that_are_none, .timeout = 30)
{
        struct loadgen_replay replay;
        struct err err = {.text = ""};
        char path[128];
        struct loadgen_replay_options options = {.path = "/nonexistent", .speed = 1, .producers_count = 1};
        cr_assert_eq(loadgen_replay_open(&options, &replay, &err), ERR_SYSTEM);
        options.path = "/tmp";
        cr_assert_neq(loadgen_replay_open(&options, &replay, &err), ERR_OK);
        options.path = record("empty", 0, 0);
        cr_assert_eq(loadgen_replay_open(&options, &replay, &err), ERR_EMPTY);
        (void)unlink(options.path);
        options.path = record("slow", 2, 1000000000);
        options.speed = 1e-3;
        cr_assert_eq(loadgen_replay_open(&options, &replay, &err), ERR_RANGE);
        (void)unlink(options.path);
        /* The header's last time is early, the last record's is far away: what would take a year is not planned. */
        options.path = record("early", 2, 200000000000000);
        options.speed = 1;
        static uint8_t bytes[65536];
        struct slice whole = load(options.path, bytes, sizeof(bytes));
        const int64_t early_ms = TEST_MS;
        memcpy(bytes + 40, &early_ms, sizeof(early_ms));
        repair_header(bytes);
        FILE *early = fopen(options.path, "w");
        cr_assert_not_null(early);
        cr_assert_eq(fwrite(bytes, 1, whole.len, early), whole.len);
        (void)fclose(early);
        cr_assert_eq(loadgen_replay_open(&options, &replay, &err), ERR_CORRUPT);
        cr_assert_not_null(strstr(err.text, "later than the header"), "%s", err.text);
        (void)unlink(options.path);
        path_of("nothing", path);
        FILE *file = fopen(path, "w");
        cr_assert_not_null(file);
        (void)fclose(file);
        options.path = path;
        cr_assert_eq(loadgen_replay_open(&options, &replay, &err), ERR_CORRUPT, "%s", err.text);
        (void)unlink(path);
}
