#include "base/clock.h"
#include "codecs/codec.h"
#include "egress/gzip.h"
#include "tools/loadgen_id.h"
#include "tools/sink_control.h"
#include "tools/sink_fault.h"
#include "tools/sink_firehose.h"
#include "tools/sink_state.h"

#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------------------- Firehose */

static struct sink_firehose *firehose_create(void)
{
        struct sink_firehose *firehose;
        cr_assert_eq(sink_firehose_create(&firehose, NULL), ERR_OK);
        return firehose;
}

/* "" when accepted, else the error's name. */
static const char *firehose_try(struct sink_firehose *firehose, enum sink_operation operation, const char *body,
                                struct sink_refusal *refusal)
{
        struct slice input = guard_page_copy(slice_of_text(body));
        bool ok = sink_firehose_parse(firehose, operation, input, refusal);
        return ok ? "" : refusal->name;
}

#define BATCH(records) "{\"DeliveryStreamName\":\"s\",\"Records\":" records "}"
#define SERIALIZATION  "SerializationException"
#define VALIDATION     "ValidationException"
#define CHARACTERS_64  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

Test(sink_firehose, bodies_are_accepted_or_refused_with_awss_names, .timeout = 20)
{
        static const struct {
                const char *body, *name;
        } cases[] = {
                {BATCH("[{\"Data\":\"e30K\"}]"), ""},
                {BATCH("[{\"Data\":\"\"}]"), ""},
                {BATCH("[{\"Data\":\"/+8=\"},{\"Data\":\"\\/+8=\"}]"), ""},
                {BATCH("[{\"Data\":\"\\u0065\\u00330K\"}]"), ""},
                {" {\n\"Records\" : [ {\"Data\" : \"e30K\" } ,\t{\"x\":[1,{\"y\":null}],\"Data\":\"e30K\"}]\r,"
                 "\"New\":{\"a\":\"\\\"}\"},\"DeliveryStreamName\":\"A_.-9\"} ",
                 ""},
                {BATCH("[{\"Data\":\"e30\"}]"), SERIALIZATION},
                {BATCH("[{\"Data\":\"e3 K\"}]"), SERIALIZATION},
                {BATCH("[{\"Data\":\"e30=e30=\"}]"), SERIALIZATION},
                {BATCH("[{\"Data\":\"e30K\"},{\"Data\":\"*\"}]"), SERIALIZATION},
                {BATCH("[{\"Data\":\"e30K\",\"Data\":\"e30K\"}]"), SERIALIZATION},
                {BATCH("[{\"Data\":\"e30K\"}],\"Records\":[{\"Data\":\"e30K\"}]"), SERIALIZATION},
                {BATCH("[{\"Data\":\"e30K\"}"), SERIALIZATION},
                {BATCH("[{\"Data\":\"e30K\"},]"), SERIALIZATION},
                {BATCH("[{\"Data\":\"e30K}]"), SERIALIZATION},
                {BATCH("[{\"Data\":\"e30K\"}]") "x", SERIALIZATION},
                {BATCH("[{\"Data\":\"e30K\"}]") ",", SERIALIZATION},
                {BATCH("[{\"Data\":\"e30K\\\"}]"), SERIALIZATION},
                {BATCH("{\"Data\":\"e30K\"}"), SERIALIZATION},
                {BATCH("[\"e30K\"]"), SERIALIZATION},
                {"[]", SERIALIZATION},
                {"", SERIALIZATION},
                {"null", SERIALIZATION},
                {"{\"DeliveryStreamName\":\"s\",\"New\":tru,\"Records\":[{\"Data\":\"e30K\"}]}", SERIALIZATION},
                {"{\"DeliveryStreamName\":\"s\",\"New\":\"\\x\",\"Records\":[{\"Data\":\"e30K\"}]}", SERIALIZATION},
                {BATCH("[]"), VALIDATION},
                {BATCH("[{}]"), VALIDATION},
                {BATCH("null"), VALIDATION},
                {BATCH("[{\"Data\":null}]"), VALIDATION},
                {"{\"Records\":[{\"Data\":\"e30K\"}]}", VALIDATION},
                {"{\"DeliveryStreamName\":\"s\"}", VALIDATION},
                {"{\"DeliveryStreamName\":\"\",\"Records\":[{\"Data\":\"e30K\"}]}", VALIDATION},
                {"{\"DeliveryStreamName\":\"a/b\",\"Records\":[{\"Data\":\"e30K\"}]}", VALIDATION},
                {"{\"DeliveryStreamName\":\"" CHARACTERS_64 "\",\"Records\":[{\"Data\":\"e30K\"}]}", ""},
                {"{\"DeliveryStreamName\":\"" CHARACTERS_64 "ab\",\"Records\":[{\"Data\":\"e30K\"}]}", VALIDATION},
        };
        struct sink_firehose *firehose = firehose_create();
        struct sink_refusal refusal;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                cr_assert_str_eq(firehose_try(firehose, SINK_PUT_RECORD_BATCH, cases[i].body, &refusal), cases[i].name,
                                 "case %zu: %s", i, cases[i].body);
        cr_assert_str_eq(firehose_try(firehose, SINK_PUT_RECORD,
                                      "{\"DeliveryStreamName\":\"s\",\"Record\":{\"Data\":\"e30K\"}}", &refusal),
                         "");
        cr_assert(slice_equal(firehose->data[0], SLICE("{}\n")));
        cr_assert_str_eq(firehose_try(firehose, SINK_PUT_RECORD, BATCH("[{\"Data\":\"e30K\"}]"), &refusal), VALIDATION);
        sink_firehose_free(firehose);
}

/* A batch body whose records hold `bytes[i]` bytes each. */
static char *firehose_body(const size_t *bytes, size_t count, size_t *ret_bytes)
{
        size_t size = 128;
        for (size_t i = 0; i < count; i++)
                size += bytes[i] / 3 * 4 + 32;
        char *body = malloc(size);
        cr_assert_not_null(body);
        size_t at = (size_t)snprintf(body, size, "{\"DeliveryStreamName\":\"s\",\"Records\":[");
        for (size_t i = 0; i < count; i++) {
                at += (size_t)snprintf(body + at, size - at, "%s{\"Data\":\"", i == 0 ? "" : ",");
                memset(body + at, 'A', bytes[i] / 3 * 4);
                at += bytes[i] / 3 * 4;
                at += (size_t)snprintf(body + at, size - at, "%s\"}",
                                       bytes[i] % 3 == 0 ? "" : (bytes[i] % 3 == 1 ? "AA==" : "AAA="));
        }
        at += (size_t)snprintf(body + at, size - at, "]}");
        *ret_bytes = at;
        return body;
}

Test(sink_firehose, limits_hold_to_the_byte, .timeout = 20)
{
        static size_t sizes[501];
        struct sink_firehose *firehose = firehose_create();
        struct sink_refusal refusal;
        size_t len;
        for (size_t i = 0; i < 501; i++)
                sizes[i] = i % 5;
        for (size_t count = 499; count <= 501; count++) {
                char *body = firehose_body(sizes, count, &len);
                cr_assert_eq(sink_firehose_parse(firehose, SINK_PUT_RECORD_BATCH, slice_of(body, len), &refusal),
                             count <= 500);
                if (count <= 500)
                        for (size_t i = 0; i < count; i++)
                                cr_assert_eq(firehose->data[i].len, sizes[i]);
                free(body);
        }
        cr_assert_str_eq(refusal.name, VALIDATION);
        for (size_t bytes = LIMIT_FIREHOSE_RECORD_BYTES_MAX - 2; bytes <= LIMIT_FIREHOSE_RECORD_BYTES_MAX + 2;
             bytes++) {
                char *body = firehose_body(&bytes, 1, &len);
                cr_assert_eq(sink_firehose_parse(firehose, SINK_PUT_RECORD_BATCH, slice_of(body, len), &refusal),
                             bytes <= LIMIT_FIREHOSE_RECORD_BYTES_MAX);
                free(body);
        }
        cr_assert_str_eq(refusal.name, VALIDATION);
        /* Four records fill the call to the byte; unknown members and spaces count too. */
        const size_t four[4] = {786000, 786000, 786000, 780000};
        char *body = firehose_body(four, 4, &len);
        cr_assert_lt(len, LIMIT_FIREHOSE_CALL_BYTES_MAX);
        body = realloc(body, LIMIT_FIREHOSE_CALL_BYTES_MAX + 1);
        memset(body + len, ' ', LIMIT_FIREHOSE_CALL_BYTES_MAX + 1 - len);
        cr_assert(sink_firehose_parse(firehose, SINK_PUT_RECORD_BATCH, slice_of(body, LIMIT_FIREHOSE_CALL_BYTES_MAX),
                                      &refusal));
        cr_assert_not(sink_firehose_parse(firehose, SINK_PUT_RECORD_BATCH,
                                          slice_of(body, LIMIT_FIREHOSE_CALL_BYTES_MAX + 1), &refusal));
        cr_assert_str_eq(refusal.name, "InvalidArgumentException");
        free(body);
        sink_firehose_free(firehose);
}

/* Made by Python's gzip, of "{}\n" and of "[]\n". */
static const uint8_t gzip_files[] = {0x1f, 0x8b, 8,    0,    0, 0, 0,    0,    2,    3,    0xab, 0xae, 0xe5, 2, 0, 0x06,
                                     0xb0, 0xa1, 0xdd, 3,    0, 0, 0,    0x1f, 0x8b, 8,    0,    0,    0,    0, 0, 2,
                                     3,    0x8b, 0x8e, 0xe5, 2, 0, 0x44, 0xd2, 0x68, 0x70, 3,    0,    0,    0};
#define GZIP_FILE_BYTES (sizeof(gzip_files) / 2)

static bool unpacks(struct sink_firehose *firehose, struct slice record, struct slice *ret_lines)
{
        struct slice input = guard_page_copy(record);
        bool whole = sink_firehose_unpack(firehose, input, ret_lines);
        return whole;
}

Test(sink_firehose, compressed_records_are_unpacked_whole_or_not_at_all, .timeout = 20)
{
        struct sink_firehose *firehose = firehose_create();
        struct slice lines;
        cr_assert(sink_firehose_is_gzip(slice_of(gzip_files, 2)));
        cr_assert_not(sink_firehose_is_gzip(slice_of(gzip_files, 1)));
        cr_assert_not(sink_firehose_is_gzip(SLICE("{}\n")));
        cr_assert(unpacks(firehose, slice_of(gzip_files, GZIP_FILE_BYTES), &lines));
        cr_assert(slice_equal(lines, SLICE("{}\n")));
        cr_assert(unpacks(firehose, slice_of(gzip_files, sizeof(gzip_files)), &lines));
        cr_assert(slice_equal(lines, SLICE("{}\n[]\n")));
        for (size_t cut = 2; cut < sizeof(gzip_files); cut++)
                cr_expect(cut == GZIP_FILE_BYTES || !unpacks(firehose, slice_of(gzip_files, cut), &lines), "%zu", cut);
        for (size_t at = 15; at < GZIP_FILE_BYTES; at++) { /* its checksum and its length */
                uint8_t wrong[sizeof(gzip_files)];
                memcpy(wrong, gzip_files, sizeof(wrong));
                wrong[at] ^= 0x10;
                cr_expect_not(unpacks(firehose, slice_of(wrong, sizeof(wrong)), &lines), "%zu", at);
        }
        uint8_t more[GZIP_FILE_BYTES + 1] = {0};
        memcpy(more, gzip_files, GZIP_FILE_BYTES);
        cr_assert_not(unpacks(firehose, slice_of(more, sizeof(more)), &lines));
        sink_firehose_free(firehose);
}

Test(sink_firehose, a_record_is_unpacked_up_to_64_mib, .timeout = 20)
{
        static uint8_t record[LIMIT_FIREHOSE_RECORD_BYTES_MAX], zeros[65536];
        struct sink_firehose *firehose = firehose_create();
        struct gzip_writer *writer;
        cr_assert_eq(gzip_writer_create(&writer, NULL), ERR_OK);
        for (size_t over = 0; over < 2; over++) {
                size_t len = 0;
                struct slice out = gzip_writer_begin(writer), lines;
                for (size_t left = SINK_UNPACKED_BYTES_MAX + over; true;) {
                        cr_assert_leq(len + out.len, sizeof(record));
                        if (out.len > 0)
                                memcpy(record + len, out.ptr, out.len);
                        len += out.len;
                        if (left == 0)
                                break;
                        struct slice more = slice_of(zeros, left < sizeof(zeros) ? left : sizeof(zeros));
                        left -= more.len;
                        out = gzip_writer_add(writer, &more);
                        if (more.len > 0) /* a piece was full within it: the rest again */
                                left += more.len;
                }
                out = gzip_writer_flush(writer);
                if (out.len > 0)
                        memcpy(record + len, out.ptr, out.len);
                len += out.len;
                out = gzip_writer_end(writer);
                memcpy(record + len, out.ptr, out.len);
                len += out.len;
                cr_assert_eq(sink_firehose_unpack(firehose, slice_of(record, len), &lines), over == 0);
                if (over == 0)
                        cr_assert_eq(lines.len, SINK_UNPACKED_BYTES_MAX);
        }
        gzip_writer_free(writer);
        sink_firehose_free(firehose);
}

Test(sink_firehose, answers_have_awss_shape_and_unique_record_ids, .timeout = 20)
{
        static size_t sizes[500];
        static uint8_t out[SINK_ANSWER_BYTES_MAX];
        enum sink_entry entries[500];
        struct sink_firehose *firehose = firehose_create();
        struct sink_refusal refusal;
        json_t *ids = json_object();
        size_t len;
        char *body = firehose_body(sizes, 500, &len);
        for (int round = 0; round < 5; round++) {
                cr_assert(sink_firehose_parse(firehose, SINK_PUT_RECORD_BATCH, slice_of(body, len), &refusal));
                for (size_t i = 0; i < 500; i++)
                        entries[i] = i % 7 == 3 ? SINK_ENTRY_FAILURE
                                                : (i % 7 == 5 ? SINK_ENTRY_UNAVAILABLE : SINK_ENTRY_STORED);
                size_t bytes = sink_firehose_answer(firehose, SINK_PUT_RECORD_BATCH, entries, out);
                json_t *answer = json_loadb((const char *)out, bytes, 0, NULL);
                cr_assert_not_null(answer);
                json_t *list = json_object_get(answer, "RequestResponses");
                cr_assert_eq(json_array_size(list), 500);
                json_int_t failed = 0;
                for (size_t i = 0; i < 500; i++) {
                        json_t *entry = json_array_get(list, i);
                        const char *id = json_string_value(json_object_get(entry, "RecordId"));
                        const char *error = json_string_value(json_object_get(entry, "ErrorCode"));
                        cr_assert_eq(id == NULL, entries[i] != SINK_ENTRY_STORED);
                        cr_assert_eq(error != NULL, entries[i] != SINK_ENTRY_STORED);
                        if (id != NULL) {
                                cr_assert_eq(strlen(id), 224);
                                cr_assert_null(json_object_get(ids, id));
                                (void)json_object_set_new(ids, id, json_true());
                        } else {
                                failed++;
                                cr_assert_str_eq(error, entries[i] == SINK_ENTRY_FAILURE
                                                                ? "InternalFailure"
                                                                : "ServiceUnavailableException");
                        }
                }
                cr_assert_eq(json_integer_value(json_object_get(answer, "FailedPutCount")), failed);
                cr_assert(json_is_false(json_object_get(answer, "Encrypted")));
                json_decref(answer);
        }
        free(body);
        json_decref(ids);
        sink_firehose_free(firehose);
}

/* ---------------------------------------------------------------------------------------------- counting */

struct counting {
        char directory[64];
        struct sink_state *state;
        struct sink_state_thread thread;
};

static void counting_open(struct counting *counting)
{
        struct err err = {0};
        memset(&counting->thread, 0, sizeof(counting->thread));
        cr_assert_eq(sink_state_open(&counting->state, counting->directory, &err), ERR_OK, "%s", err.text);
}

static void counting_begin(struct counting *counting)
{
        (void)snprintf(counting->directory, sizeof(counting->directory), "/tmp/sendring-sink-XXXXXX");
        cr_assert_not_null(mkdtemp(counting->directory));
        counting_open(counting);
}

static void counting_end(struct counting *counting)
{
        char command[128];
        sink_state_close(counting->state);
        (void)snprintf(command, sizeof(command), "rm -rf %s", counting->directory);
        cr_assert_eq(system(command), 0);
}

static size_t event_line(char *out, size_t out_bytes, const char *type, uint32_t run, uint16_t producer, uint64_t index)
{
        char id[LOADGEN_ID_BYTES + 1] = {0};
        const struct loadgen_id fields = {.timestamp_ms = 1, .run_id = run, .producer = producer, .index = index};
        loadgen_id_format(&fields, id);
        return (size_t)snprintf(out, out_bytes, "{\"eventType\":\"%s\",\"mail\":{\"messageId\":\"%s\"}}\n", type, id);
}

static void store_event(struct counting *counting, const char *type, uint32_t run, uint16_t producer, uint64_t index)
{
        char line[256];
        size_t len = event_line(line, sizeof(line), type, run, producer, index);
        cr_assert_eq(sink_state_store(counting->state, &counting->thread, slice_of(line, len), len), 1);
}

static struct sink_report report_of(const struct counting *counting, const struct sink_published *published,
                                    size_t count)
{
        struct sink_report report;
        struct err err = {0};
        cr_assert_eq(sink_report_read(counting->directory, published, count, &report, &err), ERR_OK, "%s", err.text);
        return report;
}

Test(sink_state, lines_give_type_and_id_wherever_they_stand, .timeout = 10)
{
        unsigned type;
        struct slice id =
                sink_line_id(SLICE("{\"eventType\":\"Rendering Failure\",\"mail\":{\"messageId\":\"abc\"}}"), &type);
        cr_assert(slice_equal(id, SLICE("abc")) && type == SENDRING_RENDERING_FAILURE);
        id = sink_line_id(
                SLICE("{\"x\":\"\\\"messageId\\\":\\\"no\\\"\",\"messageId\":\"yes\",\"eventType\":\"Open\"}"), &type);
        cr_assert(slice_equal(id, SLICE("yes")) && type == SENDRING_OPEN);
        id = sink_line_id(SLICE("{\"eventType\":\"Opened\"}"), &type);
        cr_assert(id.len == 0 && type == 0);
        static const char *const cut[] = {"{", "{\"eventType\":\"", "{\"eventType\":\"Send", "\"messageId\":\"", "x"};
        for (size_t i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
                struct slice input = guard_page_copy(slice_of_text(cut[i]));
                cr_assert_eq(sink_line_id(input, &type).len, 0);
                cr_assert_eq(type, 0);
        }
}

Test(sink_state, counts_distinct_duplicates_and_gaps, .timeout = 30)
{
        struct counting counting;
        counting_begin(&counting);
        for (uint64_t i = 0; i < 1000; i++)
                if (i != 17 && i != 500)
                        store_event(&counting, i % 2 == 0 ? "Send" : "Delivery", 0xabc, 3, i);
        for (int copy = 0; copy < 40; copy++) /* far beyond the 15 that fit a cell */
                store_event(&counting, "Send", 0xabc, 3, 8);
        store_event(&counting, "Click", 0xabc, 0xffff, 0);
        struct sink_report report = report_of(&counting, NULL, 0);
        cr_assert_eq(report.seen_count, 2);
        const struct sink_seen_report *seen = &report.seen[0];
        cr_assert(seen->run == 0xabc && seen->producer == 3);
        cr_assert(seen->distinct == 998 && seen->missing == 2 && seen->end == 1000);
        cr_assert(seen->duplicates == 40 && seen->duplicated == 1);
        cr_assert(seen->types[SENDRING_SEND] == 499 && seen->types[SENDRING_DELIVERY] == 499);
        cr_assert_eq(report.seen[1].types[SENDRING_CLICK], 1);
        sink_report_release(&report);

        /* Across a restart. */
        sink_state_flush(counting.state, &counting.thread);
        sink_state_close(counting.state);
        counting_open(&counting);
        store_event(&counting, "Bounce", 0xabc, 3, 17);
        store_event(&counting, "Bounce", 0xabc, 3, 17);
        const struct sink_published ledger[] = {{0xabc, 3, 1001}, {0xabc, 4, 5}, {0xdef, 0, 0}};
        report = report_of(&counting, ledger, 3);
        cr_assert_eq(report.seen_count, 4); /* 3, 4, ffff of abc; 0 of def */
        cr_assert(report.seen[0].missing == 2 && report.seen[0].duplicates == 41 && report.seen[0].unexpected == 0);
        cr_assert(report.seen[1].missing == 5 && report.seen[1].distinct == 0);
        cr_assert(report.seen[2].missing == 0 && report.seen[2].unexpected == 1);
        cr_assert(report.seen[3].missing == 0 && report.seen[3].run == 0xdef);
        cr_assert_eq(report.counters[SINK_COUNT_EVENTS], 998 + 40 + 1);
        cr_assert_eq(report.counters[SINK_COUNT_EVENTS_NEW], 999);
        sink_report_release(&report);
        const struct sink_published twice[] = {{0xabc, 3, 10}, {0xabc, 3, 1001}, {0xabc, 4, 5}, {0xabc, 4, 9}};
        report = report_of(&counting, twice, 4);
        cr_assert(report.seen[0].missing == 2 && report.seen[1].missing == 9);
        sink_report_release(&report);
        const struct sink_published other_run = {0xdef, 0, 1};
        report = report_of(&counting, &other_run, 1);
        cr_assert(report.seen_count == 1 && report.seen[0].missing == 1);
        sink_report_release(&report);
        counting_end(&counting);
}

/* A Send event that was made at this time, by the clock of the sink. */
static void store_send(struct counting *counting, int64_t made_us, uint32_t index)
{
        char line[256], id_text[LOADGEN_ID_BYTES + 1] = "";
        struct loadgen_id id = {.timestamp_ms = (uint64_t)(made_us / 1000),
                                .behind_us = (uint16_t)(made_us % 1000),
                                .run_id = 7,
                                .producer = 1,
                                .index = index};
        loadgen_id_format(&id, id_text);
        int len = snprintf(line, sizeof(line), "{\"eventType\":\"Send\",\"mail\":{\"messageId\":\"%s\"}}\n", id_text);
        (void)sink_state_store(counting->state, &counting->thread, slice_of(line, (size_t)len), (size_t)len);
}

Test(sink_state, latencies_are_told_in_microseconds, .timeout = 30)
{
        static const struct {
                int64_t took_us;
                uint32_t step_us;
        } cases[] = {{0, 10}, {770, 10}, {123450, 10}, {998000, 10}, {1500000, 1000}, {59990000, 1000}};
        struct counting counting;
        struct sink_latencies latencies;
        counting_begin(&counting);
        for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                int64_t begun_us = clock_realtime_us();
                store_send(&counting, begun_us - cases[i].took_us, i);
                int64_t more_us = clock_realtime_us() - begun_us;
                sink_state_take_latencies(counting.state, &latencies);
                cr_assert_eq(latencies.count, 1);
                cr_assert((int64_t)latencies.max_us > cases[i].took_us - cases[i].step_us &&
                                  (int64_t)latencies.max_us <= cases[i].took_us + more_us,
                          "%lld us: %u, the clock moved by %lld", (long long)cases[i].took_us, latencies.max_us,
                          (long long)more_us);
        }
        /* More than a minute is a minute, and an event of the future has taken no time. */
        store_send(&counting, clock_realtime_us() - 3600000000, 100);
        sink_state_take_latencies(counting.state, &latencies);
        cr_assert_eq(latencies.max_us, 60000000);
        store_send(&counting, clock_realtime_us() + 3600000000, 101);
        sink_state_take_latencies(counting.state, &latencies);
        cr_assert(latencies.count == 1 && latencies.max_us == 0);
        counting_end(&counting);
}

Test(sink_state, latencies_are_those_of_first_sends, .timeout = 30)
{
        struct counting counting;
        struct sink_latencies latencies;
        counting_begin(&counting);
        int64_t now_ms = clock_realtime_ms();
        for (uint32_t i = 0; i < 2000; i++) { /* 0 to 1,999 ms ago, and every second one again */
                char line[256], id_text[LOADGEN_ID_BYTES + 1] = "";
                struct loadgen_id id = {.timestamp_ms = (uint64_t)(now_ms - i), .run_id = 7, .producer = 1, .index = i};
                loadgen_id_format(&id, id_text);
                int len = snprintf(line, sizeof(line), "{\"eventType\":\"Send\",\"mail\":{\"messageId\":\"%s\"}}\n",
                                   id_text);
                for (uint32_t copy = 0; copy <= i % 2; copy++)
                        (void)sink_state_store(counting.state, &counting.thread, slice_of(line, (size_t)len),
                                               (size_t)len);
        }
        store_event(&counting, "Delivery", 7, 1, 5000); /* its id's time is the mail's */
        sink_state_take_latencies(counting.state, &latencies);
        uint32_t late_ms = (uint32_t)(clock_realtime_ms() - now_ms); /* this loop's own time */
        cr_assert_eq(latencies.count, 2000);
        const uint32_t p50_ms = latencies.p50_us / 1000, p99_ms = latencies.p99_us / 1000;
        const uint32_t max_ms = latencies.max_us / 1000;
        cr_assert(p50_ms >= 999 && p50_ms <= 1000 + late_ms, "%u", p50_ms);
        cr_assert(p99_ms >= 1979 && p99_ms <= 1980 + late_ms, "%u", p99_ms);
        cr_assert(max_ms >= 1999 && max_ms <= 2000 + late_ms, "%u", max_ms);
        sink_state_take_latencies(counting.state, &latencies);
        cr_assert(latencies.count == 0 && latencies.max_us == 0, "they are forgotten");
        counting_end(&counting);
}

Test(sink_state, the_largest_index_counts_and_larger_ones_go_by_hash, .timeout = 30)
{
        struct counting counting;
        counting_begin(&counting);
        store_event(&counting, "Send", 1, 1, 5);
        store_event(&counting, "Send", 1, 1, SINK_INDEX_MAX);
        store_event(&counting, "Send", 1, 1, LOADGEN_ID_INDEX_MAX);
        store_event(&counting, "Send", 1, 1, LOADGEN_ID_INDEX_MAX);
        struct sink_report report = report_of(&counting, NULL, 0);
        cr_assert(report.seen[0].distinct == 1 && report.seen[0].end == 6);
        cr_assert(report.other_distinct == 2 && report.other_duplicates == 1);
        cr_assert_eq(report.other_types[SENDRING_SEND], 2);
        sink_report_release(&report);
        counting_end(&counting);
}

Test(sink_state, other_events_stay_exact_while_the_table_grows, .timeout = 60)
{
        struct counting counting;
        counting_begin(&counting);
        const unsigned events = 200000; /* the first table has 65,536 slots */
        char line[128];
        for (unsigned i = 0; i < events; i++) {
                int len = snprintf(line, sizeof(line), "{\"eventType\":\"Open\",\"n\":%u}\n", i);
                (void)sink_state_store(counting.state, &counting.thread, slice_of(line, (size_t)len), (size_t)len);
                if (i % 10 == 0)
                        (void)sink_state_store(counting.state, &counting.thread, slice_of(line, (size_t)len - 1),
                                               (size_t)len - 1);
        }
        sink_state_flush(counting.state, &counting.thread);
        sink_state_close(counting.state);
        counting_open(&counting);
        (void)sink_state_store(counting.state, &counting.thread, SLICE("{\"eventType\":\"Open\",\"n\":7}"),
                               SLICE("{\"eventType\":\"Open\",\"n\":7}").len);
        struct sink_report report = report_of(&counting, NULL, 0);
        cr_assert(report.other_distinct == events && report.other_duplicates == events / 10 + 1);
        cr_assert_eq(report.other_types[SENDRING_OPEN], events);
        cr_assert_eq(report.counters[SINK_COUNT_UNENDED_RECORDS], events / 10);
        cr_assert_eq(report.counters[SINK_COUNT_MALFORMED_LINES], events + events / 10); /* no messageId */
        sink_report_release(&report);
        counting_end(&counting);
}

Test(sink_state, a_record_holds_many_lines_and_empty_ones_are_none, .timeout = 10)
{
        struct counting counting;
        counting_begin(&counting);
        cr_assert_eq(
                sink_state_store(counting.state, &counting.thread, SLICE("a\n\nb\r\n\nc"), SLICE("a\n\nb\r\n\nc").len),
                3);
        cr_assert_eq(sink_state_store(counting.state, &counting.thread, SLICE(""), SLICE("").len), 0);
        cr_assert_eq(sink_state_store(counting.state, &counting.thread, SLICE("\n\n\n"), SLICE("\n\n\n").len), 0);
        struct sink_report report = report_of(&counting, NULL, 0);
        cr_assert_eq(report.other_distinct, 3);
        sink_report_release(&report);
        counting_end(&counting);
}

Test(sink_state, two_sinks_cannot_count_in_one_directory, .timeout = 10)
{
        struct counting counting;
        struct sink_state *second;
        counting_begin(&counting);
        cr_assert_eq(sink_state_open(&second, counting.directory, NULL), ERR_BUSY);
        counting_end(&counting);
        cr_assert_eq(sink_state_open(&second, "/proc/sendring", NULL), ERR_SYSTEM);
}

Test(sink_state, foreign_files_are_refused, .timeout = 10)
{
        struct counting counting;
        char path[128];
        counting_begin(&counting);
        sink_state_close(counting.state);
        counting.state = NULL;
        (void)snprintf(path, sizeof(path), "%s/events.table", counting.directory);
        FILE *file = fopen(path, "r+");
        cr_assert_not_null(file);
        (void)fputs("SRSINKE9", file);
        (void)fclose(file);
        cr_assert_eq(sink_state_open(&counting.state, counting.directory, NULL), ERR_CORRUPT);
        struct sink_report report;
        cr_assert_eq(sink_report_read(counting.directory, NULL, 0, &report, NULL), ERR_CORRUPT);
        counting.state = NULL;
        counting_end(&counting);
}

/* A child stores events and tells after each one; it is killed at some moment. Whatever it told must be there, and at
 * most one event more: the one under way. */
Test(sink_state, a_kill_at_any_moment_loses_no_told_event, .timeout = 120)
{
        struct counting counting;
        counting_begin(&counting);
        _Atomic uint64_t *told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq((void *)told, MAP_FAILED);
        uint64_t kills_inside = 0, other_before = 0;
        for (unsigned round = 0; round < 60; round++) {
                sink_state_close(counting.state);
                counting.state = NULL;
                atomic_store_explicit(told, 0, memory_order_relaxed);
                pid_t child = fork();
                cr_assert_geq(child, 0);
                if (child == 0) {
                        counting_open(&counting);
                        for (uint64_t i = 0;; i++) {
                                char line[256];
                                size_t len = event_line(line, sizeof(line), "Send", round, 1, i);
                                (void)sink_state_store(counting.state, &counting.thread, slice_of(line, len), len);
                                len = (size_t)snprintf(line, sizeof(line),
                                                       "{\"eventType\":\"Open\",\"n\":\"%u-%llu\"}\n", round,
                                                       (unsigned long long)i);
                                (void)sink_state_store(counting.state, &counting.thread, slice_of(line, len), len);
                                atomic_store_explicit(told, i + 1, memory_order_relaxed);
                        }
                }
                while (atomic_load_explicit(told, memory_order_relaxed) < 1 + round * 50)
                        clock_sleep_ns(10 * CLOCK_NS_PER_US);
                cr_assert_eq(kill(child, SIGKILL), 0);
                cr_assert_eq(waitpid(child, NULL, 0), child);
                counting_open(&counting);
                uint64_t told_now = atomic_load_explicit(told, memory_order_relaxed);
                const struct sink_published all = {round, 1, told_now};
                struct sink_report report = report_of(&counting, &all, 1);
                cr_assert_eq(report.seen[0].missing, 0);
                cr_assert_eq(report.seen[0].duplicates, 0);
                cr_assert_leq(report.seen[0].unexpected, 1);
                uint64_t others = report.other_distinct - other_before;
                cr_assert(others >= told_now && others <= told_now + 1);
                cr_assert_eq(report.other_duplicates, 0);
                kills_inside += report.seen[0].unexpected;
                other_before = report.other_distinct;
                sink_report_release(&report);
        }
        cr_log_info("%llu kills between storing and telling", (unsigned long long)kills_inside);
        (void)munmap((void *)told, 4096);
        counting_end(&counting);
}

/* ---------------------------------------------------------------------------------------------- faults, control */

Test(sink_fault, settings_are_checked, .timeout = 10)
{
        struct sink_faults faults = {0};
        static const struct {
                const char *name, *value;
                bool ok;
        } cases[] = {
                {"throttle", "0.3", true},
                {"throttle", "1", true},
                {"throttle", "1.1", false},
                {"throttle", "-0", false},
                {"throttle", "", false},
                {"throttle", "0.3x", false},
                {"latency", "20ms", true},
                {"latency", "1.5s", true},
                {"latency", "20", false},
                {"latency", "601s", false},
                {"latency", "0", true},
                {"latency", "ms", false},
                {"down", "on", true},
                {"down", "off", true},
                {"down", "1", false},
                {"Throttle", "0.1", false},
                {"", "", false},
                {"reset_after", ".5", true},
                {"partial", "nan", false},
                {"partial", "0x1p-3", true},
                {"blackhole", "on", true},
                {"blackhole", "0.5", false},
                {"stall_bytes", "1", true},
                {"endless", "0.5", true},
                {"endless", "on", false},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                cr_assert_eq(sink_faults_set(&faults, slice_of_text(cases[i].name), slice_of_text(cases[i].value),
                                             NULL) == ERR_OK,
                             cases[i].ok, "%s %s", cases[i].name, cases[i].value);
        cr_assert_eq(atomic_load_explicit(&faults.latency_ns, memory_order_relaxed), 0);
        cr_assert(atomic_load(&faults.blackhole) && !atomic_load(&faults.down));
}

Test(sink_fault, draws_follow_the_probability_and_the_seed, .timeout = 10)
{
        struct sink_faults faults = {0};
        struct random_state a, b;
        random_init(&a, 7);
        random_init(&b, 7);
        cr_assert_eq(sink_faults_set(&faults, SLICE("partial"), SLICE("0.25"), NULL), ERR_OK);
        cr_assert_eq(sink_faults_set(&faults, SLICE("stall"), SLICE("1"), NULL), ERR_OK);
        unsigned hits = 0;
        for (int i = 0; i < 100000; i++) {
                bool hit = sink_fault_draw(&faults, SINK_FAULT_PARTIAL, &a);
                cr_assert_eq(hit, sink_fault_draw(&faults, SINK_FAULT_PARTIAL, &b));
                hits += hit;
                cr_assert_not(sink_fault_draw(&faults, SINK_FAULT_RESET, &a));
                if (i % 100 == 0) {
                        cr_assert(sink_fault_draw(&faults, SINK_FAULT_STALL, &a));
                        cr_assert(sink_fault_draw(&faults, SINK_FAULT_STALL, &b));
                }
        }
        cr_assert(hits > 24000 && hits < 26000, "%u", hits);
}

Test(sink_control, lines_are_answered, .timeout = 10)
{
        struct counting counting;
        struct sink_faults faults = {0};
        struct sink_control control;
        counting_begin(&counting);
        counting.thread.tally[SINK_COUNT_EVENTS] = 5;
        sink_state_flush(counting.state, &counting.thread);
        cr_assert_eq(sink_control_open(&control, NULL, &faults, counting.state, NULL), ERR_OK);
        static const struct {
                const char *line, *answer;
                bool changed;
        } cases[] = {
                {"set throttle 0.5", "ok", true},
                {" set  down on\r", "ok", true},
                {"set down on\r", "ok", true},
                {"set down", "error: down '': give on or off", false},
                {"", "error: say", false},
                {"stats x", "error: say", false},
                {"latencies x", "error: say", false},
                {"keys A", "error: give an access key id", false},
                {"keys  A", "error: give an access key id", false},
                {"keys A b", "ok", false},
                {"latencies",
                 "{\"count\":0,\"p50_ms\":0,\"p90_ms\":0,\"p99_ms\":0,\"p999_ms\":0,\"max_ms\":0,"
                 "\"p50_us\":0,\"p90_us\":0,\"p99_us\":0,\"p999_us\":0,\"max_us\":0}",
                 false},
                {"stats", "{\"requests\":0,", false},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char answer[2048] = {0};
                FILE *out = fmemopen(answer, sizeof(answer), "w");
                cr_assert_eq(sink_control_line(&control, slice_of_text(cases[i].line), out), cases[i].changed,
                             "case %zu", i);
                (void)fclose(out);
                cr_assert_eq(strncmp(answer, cases[i].answer, strlen(cases[i].answer)), 0, "case %zu: %s", i, answer);
                if (strcmp(cases[i].line, "stats") == 0) {
                        json_t *stats = json_loads(answer, 0, NULL);
                        cr_assert_eq(json_integer_value(json_object_get(stats, "events")), 5);
                        json_decref(stats);
                }
        }
        sink_control_close(&control);
        free((void *)atomic_load(&faults.keys)); /* whoever sets them leaves them to who may still read */
        counting_end(&counting);
}
