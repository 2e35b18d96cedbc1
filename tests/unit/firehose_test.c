#include "base/random.h"
#include "egress/firehose.h"
#include "tests/support/alloc_count.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

TestSuite(firehose, .timeout = 60);

#define RECORD_MAX LIMIT_FIREHOSE_RECORD_BYTES_MAX
#define CALL_MAX   LIMIT_FIREHOSE_CALL_BYTES_MAX

static const struct firehose_limits limits_packed = {RECORD_MAX, LIMIT_FIREHOSE_EVENTS_PER_RECORD_MAX,
                                                     LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX, UINT64_MAX};
static const struct firehose_limits limits_single = {RECORD_MAX, 1, LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX, UINT64_MAX};

static uint8_t body_bytes[CALL_MAX + FIREHOSE_BODY_SLACK_BYTES];
static struct firehose_body body;
/* What the body must hold, by the test's own account. */
static uint8_t expected_bytes[CALL_MAX];
static size_t expected_len;
static size_t expected_end[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX * LIMIT_FIREHOSE_EVENTS_PER_RECORD_MAX];

/* An event of `bytes` bytes that tells them all apart and holds every byte value JSON text may have. */
static struct slice make_event(uint32_t number, size_t bytes)
{
        static uint8_t event[RECORD_MAX + 16];
        for (size_t i = 0; i < bytes; i++)
                event[i] = (uint8_t)(' ' + (number * 7 + i * 13 + i / 95) % 224);
        return slice_of(event, bytes);
}

/* The oracle: jansson parses the body, and a base64 decoder that is not ours (OpenSSL would do; this is the textbook's
 * table look-up, checked against Python in the system test) gives back the raw bytes. */
static size_t decode_base64(const char *text, size_t len, uint8_t *out)
{
        static const char table[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        cr_assert_eq(len % 4, 0);
        size_t bytes = 0;
        for (size_t i = 0; i < len; i += 4) {
                uint32_t group = 0;
                size_t padding = 0;
                for (size_t j = 0; j < 4; j++) {
                        const char *at = text[i + j] == '=' ? NULL : memchr(table, text[i + j], 64);
                        if (at == NULL) {
                                cr_assert_eq(text[i + j], '=');
                                cr_assert_eq(i + 4, len);
                                padding++;
                        }
                        group = group << 6 | (at == NULL ? 0 : (uint32_t)(at - table));
                }
                out[bytes++] = (uint8_t)(group >> 16);
                if (padding < 2)
                        out[bytes++] = (uint8_t)(group >> 8);
                if (padding < 1)
                        out[bytes++] = (uint8_t)group;
        }
        return bytes;
}

/* Checks the finished body against `records` raw records, one after the other in `raw`. Returns their total size. */
static size_t check_body(const char *stream, uint8_t *raw_out, size_t *ret_records)
{
        json_error_t error;
        cr_assert_leq(body.len, body.bytes_max);
        json_t *root = json_loadb((const char *)body.bytes, body.len, JSON_REJECT_DUPLICATES, &error);
        cr_assert_not_null(root, "%s at %d", error.text, error.position);
        cr_assert_eq(json_object_size(root), 2);
        cr_assert_str_eq(json_string_value(json_object_get(root, "DeliveryStreamName")), stream);
        json_t *records = json_object_get(root, "Records");
        cr_assert_eq(json_array_size(records), body.records);
        size_t total = 0;
        for (size_t i = 0; i < json_array_size(records); i++) {
                json_t *record = json_array_get(records, i);
                cr_assert_eq(json_object_size(record), 1);
                json_t *data = json_object_get(record, "Data");
                size_t bytes = decode_base64(json_string_value(data), json_string_length(data), raw_out + total);
                cr_assert_leq(bytes, RECORD_MAX);
                cr_assert_gt(bytes, 0);
                cr_assert_eq(raw_out[total + bytes - 1], '\n');
                cr_assert_eq(bytes, body.index[i].raw_bytes);
                cr_assert(slice_has_prefix(slice_of(body.bytes + body.index[i].at, body.len - body.index[i].at),
                                           SLICE("{\"Data\":\"")));
                total += bytes;
        }
        cr_assert_eq(total, body.raw_bytes);
        *ret_records = json_array_size(records);
        json_decref(root);
        return total;
}

static uint8_t decoded[CALL_MAX];

Test(firehose, body_of_one_event_is_what_the_documentation_shows)
{
        firehose_body_begin(&body, body_bytes, CALL_MAX, SLICE("mail-events"), NULL);
        cr_assert(firehose_body_is_empty(&body));
        cr_assert_eq(firehose_body_append(&body, &limits_packed, SLICE("{}")), ERR_OK);
        cr_assert_eq(firehose_body_events(&body), 1);
        firehose_body_finish(&body);
        cr_assert(slice_equal(slice_of(body.bytes, body.len),
                              SLICE("{\"DeliveryStreamName\":\"mail-events\",\"Records\":[{\"Data\":\"e30K\"}]}")));
}

Test(firehose, packed_and_single_bodies_decode_to_the_events_in_order)
{
        struct random_state random;
        random_init(&random, 42);
        for (int round = 0; round < 40; round++) {
                struct firehose_limits limits = {
                        .record_bytes_max = round % 4 == 0 ? RECORD_MAX : 1000 + (uint32_t)random_below(&random, 20000),
                        .record_events_max = 1 + (uint32_t)random_below(&random, round % 3 == 0 ? 1 : 40),
                        .records_max = 1 + (uint32_t)random_below(&random, 60),
                        .call_bytes_max = UINT64_MAX,
                };
                size_t bytes_max = 4096 + random_below(&random, 200000);
                firehose_body_begin(&body, body_bytes, bytes_max, SLICE("S.t_r-9"), NULL);
                memset(body_bytes + bytes_max, 0x5a, FIREHOSE_BODY_SLACK_BYTES);
                expected_len = 0;
                uint32_t events = 0;
                for (;;) {
                        struct slice event = make_event((uint32_t)round * 1000 + events, random_below(&random, 998));
                        enum err_code code = firehose_body_append(&body, &limits, event);
                        if (code != ERR_OK) {
                                cr_assert_eq(code, ERR_FULL);
                                break;
                        }
                        memcpy(expected_bytes + expected_len, event.ptr, event.len);
                        expected_len += event.len;
                        expected_bytes[expected_len++] = '\n';
                        events++;
                }
                cr_assert_gt(events, 0);
                firehose_body_finish(&body);
                size_t records;
                cr_assert_eq(check_body("S.t_r-9", decoded, &records), expected_len);
                cr_assert_leq(records, limits.records_max);
                cr_assert_eq(memcmp(decoded, expected_bytes, expected_len), 0);
                cr_assert_eq(firehose_body_events(&body), events);
                uint32_t counted = 0;
                for (size_t i = 0; i < records; i++) {
                        cr_assert_leq(body.index[i].events, limits.record_events_max);
                        cr_assert_leq(body.index[i].raw_bytes, limits.record_bytes_max);
                        counted += body.index[i].events;
                }
                cr_assert_eq(counted, events);
        }
}

Test(firehose, largest_record_is_exactly_1024000_bytes)
{
        firehose_body_begin(&body, body_bytes, CALL_MAX, SLICE("s"), NULL);
        cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(1, 1024000)), ERR_TOO_BIG);
        cr_assert(firehose_body_is_empty(&body));
        cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(1, 1023999)), ERR_OK);
        cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(2, 0)), ERR_OK);
        firehose_body_finish(&body);
        size_t records;
        (void)check_body("s", decoded, &records);
        cr_assert_eq(records, 2);
        cr_assert_eq(body.index[0].raw_bytes, 1024000);
        cr_assert_eq(body.index[1].raw_bytes, 1);

        /* Two events that fill a record to the byte, and two that exceed it by one. */
        for (size_t over = 0; over < 2; over++) {
                firehose_body_begin(&body, body_bytes, CALL_MAX, SLICE("s"), NULL);
                cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(1, 24000)), ERR_OK);
                cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(2, 999998 + over)), ERR_OK);
                firehose_body_finish(&body);
                (void)check_body("s", decoded, &records);
                cr_assert_eq(records, 1 + over);
        }
}

Test(firehose, at_most_500_records_and_500_events_in_one)
{
        firehose_body_begin(&body, body_bytes, CALL_MAX, SLICE("s"), NULL);
        for (uint32_t i = 0; i < 500; i++)
                cr_assert_eq(firehose_body_append(&body, &limits_single, make_event(i, 100)), ERR_OK);
        cr_assert_eq(firehose_body_append(&body, &limits_single, make_event(500, 100)), ERR_FULL);
        cr_assert_eq(firehose_body_events(&body), 500);
        firehose_body_finish(&body);
        size_t records;
        (void)check_body("s", decoded, &records);
        cr_assert_eq(records, 500);

        firehose_body_begin(&body, body_bytes, CALL_MAX, SLICE("s"), NULL);
        for (uint32_t i = 0; i < 501; i++)
                cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(i, 100)), ERR_OK);
        firehose_body_finish(&body);
        (void)check_body("s", decoded, &records);
        cr_assert_eq(records, 2);
        cr_assert_eq(body.index[0].events, 500);
        cr_assert_eq(body.index[1].events, 1);
}

Test(firehose, body_fills_4_mib_to_the_byte_and_never_more)
{
        /* Four full records leave no room for a fifth; three and one cut to measure end exactly at the limit. */
        size_t prefix = strlen("{\"DeliveryStreamName\":\"s\",\"Records\":[");
        size_t overhead = strlen("{\"Data\":\"\"}");
        size_t full = CODEC_BASE64_SIZE((size_t)RECORD_MAX);
        size_t left = CALL_MAX - prefix - 3 * (overhead + full) - 3 - overhead - strlen("]}");
        size_t fits = left / 4 * 3; /* raw bytes of the largest last record */
        for (size_t over = 0; over < 2; over++) {
                firehose_body_begin(&body, body_bytes, CALL_MAX, SLICE("s"), NULL);
                memset(body_bytes + CALL_MAX, 0x5a, FIREHOSE_BODY_SLACK_BYTES);
                for (uint32_t i = 0; i < 3; i++)
                        cr_assert_eq(firehose_body_append(&body, &limits_single, make_event(i, RECORD_MAX - 1)),
                                     ERR_OK);
                enum err_code code = firehose_body_append(&body, &limits_single, make_event(3, fits - 1 + over));
                cr_assert_eq(code, over == 0 ? ERR_OK : ERR_FULL);
                firehose_body_finish(&body);
                size_t records;
                (void)check_body("s", decoded, &records);
                cr_assert_eq(records, over == 0 ? 4 : 3);
                if (over == 0)
                        cr_assert_gt(body.len + 4, CALL_MAX);
        }
        /* A stream name that makes the sum exact. */
        char name[FIREHOSE_STREAM_NAME_BYTES_MAX + 1];
        bool exact = false;
        for (size_t n = 1; n <= 4; n++) {
                memset(name, 's', n);
                name[n] = '\0';
                size_t room = CALL_MAX - (prefix - 1 + n) - 3 * (overhead + full) - 3 - overhead - strlen("]}");
                if (room % 4 != 0)
                        continue;
                firehose_body_begin(&body, body_bytes, CALL_MAX, slice_of_text(name), NULL);
                for (uint32_t i = 0; i < 3; i++)
                        cr_assert_eq(firehose_body_append(&body, &limits_single, make_event(i, RECORD_MAX - 1)),
                                     ERR_OK);
                cr_assert_eq(firehose_body_append(&body, &limits_single, make_event(3, room / 4 * 3)), ERR_FULL);
                cr_assert_eq(firehose_body_append(&body, &limits_single, make_event(3, room / 4 * 3 - 1)), ERR_OK);
                firehose_body_finish(&body);
                size_t records;
                (void)check_body(name, decoded, &records);
                cr_assert_eq(body.len, 4194304);
                exact = true;
        }
        cr_assert(exact);
}

Test(firehose, event_larger_than_an_empty_body_is_too_big_not_full)
{
        firehose_body_begin(&body, body_bytes, 1000, SLICE("s"), NULL);
        cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(1, 900)), ERR_TOO_BIG);
        cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(1, 400)), ERR_OK);
        cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(1, 900)), ERR_FULL);
        cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(1, 400)), ERR_FULL);
        cr_assert_eq(firehose_body_append(&body, &limits_packed, make_event(1, 40)), ERR_OK);
        cr_assert_eq(firehose_body_events(&body), 2);
        firehose_body_finish(&body);
        size_t records;
        (void)check_body("s", decoded, &records);
}

Test(firehose, stream_names)
{
        static const char *good[] = {"a", "A-Z_0.9",
                                     "ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"};
        static const char *bad[] = {"",    "a b",
                                    "a\"", "\xc3\xa4",
                                    "a/b", "sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"};
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
                cr_assert(firehose_stream_name_is_valid(slice_of_text(good[i])), "%s", good[i]);
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                cr_assert_not(firehose_stream_name_is_valid(slice_of_text(bad[i])), "%s", bad[i]);
}

Test(firehose, wrong_stream_name_stops, .signal = SIGABRT)
{
        firehose_body_begin(&body, body_bytes, CALL_MAX, SLICE("a\""), NULL);
}

Test(firehose, empty_body_cannot_be_finished, .signal = SIGABRT)
{
        firehose_body_begin(&body, body_bytes, CALL_MAX, SLICE("s"), NULL);
        firehose_body_finish(&body);
}

/* ---------------------------------------------------------------------------------------------- resend */

Test(firehose, keep_failed_leaves_exactly_the_refused_records)
{
        struct random_state random;
        random_init(&random, 7);
        static struct firehose_answer answer;
        for (int round = 0; round < 60; round++) {
                struct firehose_limits limits = {2000, 1 + (uint32_t)random_below(&random, 8), 500, UINT64_MAX};
                firehose_body_begin(&body, body_bytes, 300000, SLICE("s"), NULL);
                uint32_t events = 0;
                uint32_t wanted = 1 + (uint32_t)random_below(&random, 400);
                while (events < wanted &&
                       firehose_body_append(&body, &limits, make_event(events, random_below(&random, 600))) == ERR_OK)
                        events++;
                firehose_body_finish(&body);
                size_t records;
                size_t total = check_body("s", decoded, &records);
                memcpy(expected_bytes, decoded, total);
                size_t end = 0;
                for (size_t i = 0; i < records; i++)
                        expected_end[i] = end += body.index[i].raw_bytes;
                /* Two resends in a row: the second answer is about what the first left. */
                size_t alive[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX];
                for (size_t i = 0; i < records; i++)
                        alive[i] = i;
                for (int resend = 0; resend < 2 && body.records > 0; resend++) {
                        memset(&answer, 0, sizeof(answer));
                        uint32_t kept_events = 0;
                        size_t kept = 0;
                        uint64_t odds = random_below(&random, 5);
                        for (uint32_t i = 0; i < body.records; i++) {
                                bool fails = random_below(&random, 4) < odds;
                                answer.verdicts[i] = fails ? FIREHOSE_RETRY : FIREHOSE_ACCEPTED;
                                if (!fails) {
                                        answer.accepted++;
                                        continue;
                                }
                                answer.failed++;
                                kept_events += body.index[i].events;
                                alive[kept++] = alive[i];
                        }
                        cr_assert_eq(firehose_body_keep_failed(&body, &answer), kept_events);
                        cr_assert_eq(body.records, kept);
                        cr_assert_eq(firehose_body_events(&body), kept_events);
                        if (kept == 0) {
                                cr_assert_eq(body.len, 0);
                                cr_assert(firehose_body_is_empty(&body));
                                break;
                        }
                        size_t left = check_body("s", decoded, &records);
                        cr_assert_eq(records, kept);
                        size_t at = 0;
                        for (size_t i = 0; i < kept; i++) {
                                size_t begin = alive[i] == 0 ? 0 : expected_end[alive[i] - 1];
                                size_t bytes = expected_end[alive[i]] - begin;
                                cr_assert_eq(memcmp(decoded + at, expected_bytes + begin, bytes), 0);
                                at += bytes;
                        }
                        cr_assert_eq(at, left);
                }
        }
}

/* ---------------------------------------------------------------------------------------------- answers */

static struct firehose_answer answer;

#define OK   "{\"RecordId\":\"r\"}"
#define SLOW "{\"ErrorCode\":\"ServiceUnavailableException\",\"ErrorMessage\":\"Slow down.\"}"
#define FAIL "{\"ErrorMessage\":\"an \\\"inner\\u0022\\nfault\",\"ErrorCode\":\"InternalFailure\"}"

Test(firehose, answers)
{
        static const struct {
                const char *text;
                uint32_t records;
                enum err_code code;
                const char *verdicts; /* one digit a record */
                bool throttled;
                const char *first_error;
        } cases[] = {
                {"{\"FailedPutCount\":0,\"Encrypted\":false,\"RequestResponses\":[" OK "," OK "]}", 2, ERR_OK, "00",
                 false, ""},
                {"{\"RequestResponses\":[" OK "," SLOW "," FAIL "],\"FailedPutCount\":2}", 3, ERR_OK, "021", true,
                 "ServiceUnavailableException: Slow down."},
                {" {\"FailedPutCount\" : 1, \"New\":{\"a\":[1,{}]}, \"RequestResponses\":[" FAIL "]}\n", 1, ERR_OK, "1",
                 false, "InternalFailure: an \"inner\" fault"},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[{\"RecordId\":\"r\",\"ErrorCode\":null,\"ErrorMessage\":"
                 "null,"
                 "\"New\":[1]}]}",
                 1, ERR_OK, "0", false, ""},
                {"{\"FailedPutCount\":1,\"RequestResponses\":[{\"RecordId\":null,\"ErrorCode\":\"ThrottlingException\"}"
                 "]}",
                 1, ERR_OK, "2", true, "ThrottlingException"},
                /* Another number of entries than sent. */
                {"{\"FailedPutCount\":0,\"RequestResponses\":[" OK "]}", 2, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[" OK "," OK "]}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[]}", 1, ERR_PROTOCOL, NULL, false, NULL},
                /* A count that contradicts the entries, none, twice, of another type. */
                {"{\"FailedPutCount\":1,\"RequestResponses\":[" OK "]}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[" SLOW "]}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"RequestResponses\":[" OK "]}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"FailedPutCount\":0,\"RequestResponses\":[" OK "]}", 1, ERR_PROTOCOL, NULL,
                 false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[" OK "],\"RequestResponses\":[" OK "]}", 1, ERR_PROTOCOL,
                 NULL, false, NULL},
                {"{\"FailedPutCount\":\"0\",\"RequestResponses\":[" OK "]}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":-1,\"RequestResponses\":[" OK "]}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":{}}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[1]}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[{}]}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[{\"RecordId\":1}]}", 1, ERR_PROTOCOL, NULL, false, NULL},
                /* No JSON, or not all of it. */
                {"", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"[]", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"<html><body>502 Bad Gateway</body></html>", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[" OK "]", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[" OK "]}}", 1, ERR_PROTOCOL, NULL, false, NULL},
                {"{\"FailedPutCount\":0,\"RequestResponses\":[{\"RecordId\":\"r", 1, ERR_PROTOCOL, NULL, false, NULL},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct slice text = guard_page_copy(slice_of_text(cases[i].text));
                enum err_code code = firehose_answer_read(text, cases[i].records, &answer);
                cr_assert_eq(code, cases[i].code, "case %zu: %s", i, err_name(code));
                if (code != ERR_OK)
                        continue;
                uint32_t failed = 0;
                for (uint32_t j = 0; j < cases[i].records; j++) {
                        cr_assert_eq(answer.verdicts[j], cases[i].verdicts[j] - '0', "case %zu record %u", i, j);
                        failed += answer.verdicts[j] != FIREHOSE_ACCEPTED;
                }
                cr_assert_eq(answer.failed, failed);
                cr_assert_eq(answer.accepted, cases[i].records - failed);
                cr_assert_eq(answer.throttled, cases[i].throttled);
                cr_assert_str_eq(answer.first_error, cases[i].first_error, "case %zu: %s", i, answer.first_error);
        }
}

Test(firehose, every_cut_of_an_answer_is_refused)
{
        static const char whole[] = "{\"FailedPutCount\":1,\"Encrypted\":true,\"RequestResponses\":[" OK "," SLOW "]}";
        cr_assert_eq(firehose_answer_read(slice_of_text(whole), 2, &answer), ERR_OK);
        for (size_t len = 0; len + 1 < sizeof(whole); len++)
                cr_assert_eq(firehose_answer_read(guard_page_copy(slice_of(whole, len)), 2, &answer), ERR_PROTOCOL);
}

Test(firehose, answer_of_500_entries_with_long_record_ids)
{
        static char text[200000];
        int used = snprintf(text, sizeof(text), "{\"FailedPutCount\":250,\"RequestResponses\":[");
        for (int i = 0; i < 500; i++)
                used += i % 2 == 0 ? snprintf(text + used, sizeof(text) - (size_t)used, "%s{\"RecordId\":\"%0224d\"}",
                                              i == 0 ? "" : ",", i)
                                   : snprintf(text + used, sizeof(text) - (size_t)used, "," SLOW);
        used += snprintf(text + used, sizeof(text) - (size_t)used, "]}");
        cr_assert_eq(firehose_answer_read(slice_of(text, (size_t)used), 500, &answer), ERR_OK);
        cr_assert_eq(answer.accepted, 250);
        cr_assert_eq(answer.failed, 250);
        cr_assert(answer.throttled);
}

Test(firehose, building_reading_and_cutting_allocate_nothing)
{
        static const char text[] = "{\"FailedPutCount\":1,\"RequestResponses\":[" OK "," FAIL "]}";
        uint64_t before = alloc_count;
        for (int round = 0; round < 100; round++) {
                struct firehose_limits limits = {2000, 1, 2, UINT64_MAX};
                firehose_body_begin(&body, body_bytes, CALL_MAX, SLICE("s"), NULL);
                while (firehose_body_append(&body, &limits, make_event(1, 700)) == ERR_OK)
                        continue;
                firehose_body_finish(&body);
                cr_assert_eq(firehose_answer_read(slice_of_text(text), 2, &answer), ERR_OK);
                cr_assert_eq(firehose_body_keep_failed(&body, &answer), 1);
        }
        cr_assert_eq(alloc_count, before);
}
