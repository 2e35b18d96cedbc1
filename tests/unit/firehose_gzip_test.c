/* PutRecordBatch bodies whose records are gzip files: whole, within every limit, resent as they were. */
#include "base/random.h"
#include "egress/firehose.h"
#include "tests/support/alloc_count.h"
#include "tests/support/gunzip.h"

#include <jansson.h>
#include <stdlib.h>

TestSuite(firehose_gzip, .timeout = 60);

#define RECORD_MAX LIMIT_FIREHOSE_RECORD_BYTES_MAX
#define CALL_MAX   LIMIT_FIREHOSE_CALL_BYTES_MAX
#define EVENTS_MAX LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX
#define PLAIN_MAX  (64u << 20)

static const struct firehose_limits limits_usual = {RECORD_MAX, EVENTS_MAX, LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX,
                                                    UINT64_MAX};

static uint8_t body_bytes[CALL_MAX + FIREHOSE_BODY_SLACK_BYTES];
static struct firehose_body body;
static struct gzip_writer *gzip;
static uint8_t *expected, *unpacked; /* PLAIN_MAX each */
static size_t expected_len;
/* The records of a finished body, decoded. */
static uint8_t raw[CALL_MAX];
static size_t raw_end[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX];

static void open_body(size_t bytes_max)
{
        struct err err;
        if (gzip == NULL) {
                cr_assert_eq(gzip_writer_create(&gzip, &err), ERR_OK);
                expected = malloc(PLAIN_MAX);
                unpacked = malloc(PLAIN_MAX);
        }
        expected_len = 0;
        firehose_body_begin(&body, body_bytes, bytes_max, SLICE("mail-events"), gzip);
        memset(body_bytes + bytes_max, 0x5a, FIREHOSE_BODY_SLACK_BYTES);
}

static void close_all(void)
{
        gzip_writer_free(gzip);
        free(expected);
        free(unpacked);
}

/* Events that differ in some digits, or that cannot be made smaller. */
static struct slice make_event(uint32_t number, size_t bytes, bool noise)
{
        static uint8_t event[RECORD_MAX + 64];
        struct random_state random;
        random_init(&random, number + 1);
        for (size_t i = 0; i < bytes; i++)
                event[i] = noise ? (uint8_t)random_below(&random, 256)
                                 : (uint8_t) "{\"eventType\":\"Delivery\",\"mail\":{\"messageId\":\""[i % 46];
        for (size_t i = 10; !noise && i + 16 < bytes; i += 100)
                (void)snprintf((char *)event + i, 17, "%016llx", (unsigned long long)random_below(&random, UINT64_MAX));
        return slice_of(event, bytes);
}

static enum err_code append(const struct firehose_limits *limits, struct slice event)
{
        enum err_code code = firehose_body_append(&body, limits, event);
        if (code != ERR_OK)
                return code;
        cr_assert_leq(expected_len + event.len + 1, PLAIN_MAX);
        memcpy(expected + expected_len, event.ptr, event.len);
        expected_len += event.len;
        expected[expected_len++] = '\n';
        return ERR_OK;
}

/* The finished body by jansson, codec_base64_decode() (judged elsewhere) and gzip. */
static void check_body(void)
{
        json_error_t error;
        size_t raw_len = 0, i;
        uint32_t events = 0;
        json_t *record;
        cr_assert_leq(body.len, body.bytes_max);
        json_t *root = json_loadb((const char *)body.bytes, body.len, JSON_REJECT_DUPLICATES, &error);
        cr_assert_not_null(root, "%s at %d", error.text, error.position);
        json_t *records = json_object_get(root, "Records");
        cr_assert_eq(json_array_size(records), body.records);
        json_array_foreach(records, i, record)
        {
                const char *data = json_string_value(json_object_get(record, "Data"));
                size_t bytes = codec_base64_decode(slice_of_text(data), raw + raw_len, sizeof(raw) - raw_len);
                cr_assert_eq(bytes, body.index[i].raw_bytes);
                cr_assert_leq(bytes, RECORD_MAX);
                cr_assert(raw[raw_len] == 0x1f && raw[raw_len + 1] == 0x8b);
                raw_end[i] = raw_len += bytes;
                events += body.index[i].events;
        }
        json_decref(root);
        cr_assert_eq(raw_len, body.raw_bytes);
        cr_assert_eq(events, body.events);
        size_t got = gunzip(slice_of(raw, raw_len), unpacked, PLAIN_MAX);
        cr_assert_eq(got, expected_len, "%zu of %zu bytes come back", got, expected_len);
        cr_assert_eq(memcmp(unpacked, expected, expected_len), 0);
        for (size_t k = 0; k < FIREHOSE_BODY_SLACK_BYTES / 2; k++) /* base64 may write 32 bytes of garbage */
                cr_assert_eq(body_bytes[body.bytes_max + 32 + k], 0x5a);
}

static size_t lines_of(struct slice bytes)
{
        size_t lines = 0;
        for (size_t i = 0; i < bytes.len; i++)
                lines += bytes.ptr[i] == '\n';
        return lines;
}

Test(firehose_gzip, a_full_call_has_several_times_the_events)
{
        open_body(CALL_MAX);
        uint32_t events = 0;
        while (append(&limits_usual, make_event(events, 838, false)) == ERR_OK)
                events++;
        firehose_body_finish(&body);
        check_body();
        cr_assert_gt(expected_len, 4 * (size_t)CALL_MAX);
        cr_assert_gt(body.len, CALL_MAX / 100 * 94, "it is full: %zu", body.len);
        for (uint32_t i = 0; i + 1 < body.records; i++)
                cr_assert_gt(body.index[i].raw_bytes, RECORD_MAX / 100 * 95, "record %u: %u", i,
                             body.index[i].raw_bytes);
        cr_assert_eq(body.records, 4);
        /* Each record is a whole file of whole events. */
        for (uint32_t i = 0; i < body.records; i++) {
                size_t begin = i == 0 ? 0 : raw_end[i - 1];
                size_t got = gunzip(slice_of(raw + begin, raw_end[i] - begin), unpacked, PLAIN_MAX);
                cr_assert_neq(got, SIZE_MAX);
                cr_assert_eq(unpacked[got - 1], '\n');
                cr_assert_eq(lines_of(slice_of(unpacked, got)), body.index[i].events);
        }
        close_all();
}

Test(firehose_gzip, bodies_within_all_limits_come_back)
{
        struct random_state random;
        random_init(&random, 11);
        for (int round = 0; round < 80; round++) {
                struct firehose_limits limits = {
                        .record_bytes_max = round % 4 == 0 ? RECORD_MAX : 1500 + (uint32_t)random_below(&random, 60000),
                        .record_events_max = 1 + (uint32_t)random_below(&random, round % 3 == 0 ? 5 : 2000),
                        .records_max = 1 + (uint32_t)random_below(&random, 60),
                        .call_bytes_max = round % 5 == 0 ? 3000 + random_below(&random, 50000) : UINT64_MAX,
                };
                open_body(4096 + random_below(&random, round % 2 == 0 ? 20000 : 300000));
                bool noise = round % 7 == 0;
                enum err_code code;
                uint32_t events = 0;
                while ((code = append(&limits, make_event((uint32_t)round * 100000 + events,
                                                          random_below(&random, 1200), noise))) == ERR_OK)
                        events++;
                cr_assert_eq(code, ERR_FULL);
                cr_assert_gt(events, 0);
                firehose_body_finish(&body);
                check_body();
                cr_assert_leq(body.records, limits.records_max);
                for (uint32_t i = 0; i < body.records; i++) {
                        cr_assert_leq(body.index[i].events, limits.record_events_max);
                        cr_assert_leq(body.index[i].raw_bytes, limits.record_bytes_max);
                }
                if (body.events > 1)
                        cr_assert_leq(body.raw_bytes, limits.call_bytes_max);
        }
        close_all();
}

/* The largest event that the bound lets into a record: noise, so that it meets the bound to the byte. */
#define EVENT_MAX (RECORD_MAX - GZIP_HEADER_BYTES - GZIP_END_BYTES - 16 * GZIP_STORED_HEAD_BYTES - 1)
_Static_assert(GZIP_BYTES_MAX(EVENT_MAX + 1) == RECORD_MAX, "with its newline it fills a record");

Test(firehose_gzip, largest_record_is_exactly_1024000_compressed_bytes)
{
        open_body(CALL_MAX);
        cr_assert_eq(append(&limits_usual, make_event(1, EVENT_MAX + 1, true)), ERR_TOO_BIG);
        cr_assert_eq(append(&limits_usual, make_event(1, EVENT_MAX + 1, false)), ERR_TOO_BIG);
        cr_assert(firehose_body_is_empty(&body));
        cr_assert_eq(append(&limits_usual, make_event(1, EVENT_MAX, true)), ERR_OK);
        cr_assert_eq(append(&limits_usual, make_event(2, 0, false)), ERR_OK);
        firehose_body_finish(&body);
        check_body();
        cr_assert_eq(body.records, 2);
        cr_assert_eq(body.index[0].raw_bytes, 1024000);
        /* Two events that together meet it, and two with a byte more. */
        for (size_t over = 0; over < 2; over++) {
                open_body(CALL_MAX);
                cr_assert_eq(append(&limits_usual, make_event(1, 24000, true)), ERR_OK);
                cr_assert_eq(append(&limits_usual, make_event(2, EVENT_MAX - 24001 + over, true)), ERR_OK);
                firehose_body_finish(&body);
                check_body();
                cr_assert_eq(body.records, 1 + over);
                if (over == 0)
                        cr_assert_eq(body.index[0].raw_bytes, 1024000);
        }
        close_all();
}

Test(firehose_gzip, a_body_ends_within_its_bytes)
{
        /* Noise up to the last byte of the body: at the limit, and one past it. */
        size_t prefix = strlen("{\"DeliveryStreamName\":\"mail-events\",\"Records\":["),
               around = strlen("{\"Data\":\"\"}");
        for (size_t bytes_max = 100000; bytes_max < 100004; bytes_max++) {
                size_t base64_bytes = (bytes_max - prefix - around - strlen("]}")) / 4 * 4;
                size_t fits = base64_bytes / 4 * 3 - GZIP_HEADER_BYTES - GZIP_END_BYTES;
                fits -= (fits / GZIP_STORED_BYTES_MAX + 1) * GZIP_STORED_HEAD_BYTES + 1; /* and the newline */
                open_body(bytes_max);
                cr_assert_eq(append(&limits_usual, make_event(1, fits + 1, true)), ERR_TOO_BIG);
                cr_assert_eq(append(&limits_usual, make_event(1, fits, true)), ERR_OK);
                cr_assert_eq(append(&limits_usual, make_event(2, 0, true)), ERR_FULL);
                firehose_body_finish(&body);
                check_body();
                cr_assert_eq(body.index[0].raw_bytes, base64_bytes / 4 * 3);
        }
        close_all();
}

Test(firehose_gzip, events_a_record_and_records_a_call)
{
        struct firehose_limits limits = {RECORD_MAX, 3, 2, UINT64_MAX};
        open_body(CALL_MAX);
        for (uint32_t i = 0; i < 6; i++)
                cr_assert_eq(append(&limits, make_event(i, 300, false)), ERR_OK);
        cr_assert_eq(append(&limits, make_event(6, 300, false)), ERR_FULL);
        firehose_body_finish(&body);
        check_body();
        cr_assert(body.records == 2 && body.index[0].events == 3 && body.index[1].events == 3);
        close_all();
}

Test(firehose_gzip, what_is_resent_is_what_was_sent)
{
        static uint8_t sent[CALL_MAX];
        static size_t sent_end[LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX];
        static struct firehose_answer answer;
        struct firehose_limits limits = {20000, 200, 40, UINT64_MAX};
        open_body(CALL_MAX);
        uint32_t events = 0;
        while (append(&limits, make_event(events, 700, false)) == ERR_OK)
                events++;
        firehose_body_finish(&body);
        check_body();
        cr_assert_eq(body.records, 40);
        memcpy(sent, raw, body.raw_bytes);
        memcpy(sent_end, raw_end, sizeof(sent_end));
        /* The events of the refused ones, by what was sent, are what gzip must find in the second body. */
        answer.accepted = answer.failed = 0;
        expected_len = 0;
        for (uint32_t i = 0; i < 40; i++) {
                bool refused = i % 3 == 1;
                answer.verdicts[i] = refused ? FIREHOSE_RETRY : FIREHOSE_ACCEPTED;
                answer.accepted += !refused;
                answer.failed += refused;
                size_t begin = i == 0 ? 0 : sent_end[i - 1];
                if (refused)
                        expected_len += gunzip(slice_of(sent + begin, sent_end[i] - begin), expected + expected_len,
                                               PLAIN_MAX - expected_len);
        }
        /* Meanwhile another body is compressed with the same writer. */
        static uint8_t other_bytes[CALL_MAX + FIREHOSE_BODY_SLACK_BYTES];
        static struct firehose_body other;
        firehose_body_begin(&other, other_bytes, CALL_MAX, SLICE("mail-events"), gzip);
        cr_assert_eq(firehose_body_append(&other, &limits, make_event(9, 900, false)), ERR_OK);
        cr_assert_eq(firehose_body_keep_failed(&body, &answer), lines_of(slice_of(expected, expected_len)));
        cr_assert_eq(body.records, answer.failed);
        check_body();
        for (uint32_t i = 0, k = 0; i < 40; i++) {
                size_t begin = i == 0 ? 0 : sent_end[i - 1];
                if (i % 3 != 1)
                        continue;
                size_t raw_begin = k == 0 ? 0 : raw_end[k - 1];
                cr_assert_eq(raw_end[k] - raw_begin, sent_end[i] - begin);
                cr_assert_eq(memcmp(raw + raw_begin, sent + begin, sent_end[i] - begin), 0);
                k++;
        }
        close_all();
}

Test(firehose_gzip, building_allocates_nothing)
{
        open_body(CALL_MAX);
        uint64_t before = alloc_count;
        for (int round = 0; round < 3; round++) {
                firehose_body_begin(&body, body_bytes, CALL_MAX, SLICE("s"), gzip);
                for (uint32_t i = 0; i < 2000; i++)
                        cr_assert_eq(firehose_body_append(&body, &limits_usual, make_event(i, 700, i % 9 == 0)),
                                     ERR_OK);
                firehose_body_finish(&body);
        }
        cr_assert_eq(alloc_count, before);
        close_all();
}
