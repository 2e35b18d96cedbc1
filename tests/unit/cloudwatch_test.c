/* PutMetricData: bodies byte by byte and at their limits, compression, what answers mean. */
#include "base/random.h"
#include "codecs/codec.h"
#include "egress/cloudwatch.h"
#include "tests/support/codec_events.h"

#include <criterion/criterion.h>
#include <isa-l/igzip_lib.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

TestSuite(cloudwatch, .timeout = 60);

static uint8_t body_bytes[LIMIT_CLOUDWATCH_CALL_BYTES_MAX + 64];
static struct cloudwatch_body body;

static const struct rules_cloudwatch config_cbor = {.namespace = {(const uint8_t *)"X", 1}, .period_s = 60};
static const struct rules_cloudwatch config_json = {
        .namespace = {(const uint8_t *)"X", 1}, .period_s = 60, .json = true};

static struct metrics_datum datum_of(uint64_t count)
{
        return (struct metrics_datum){.metric = SLICE("Send"), .time_s = 1767323040, .count = count};
}

static void dimension(struct metrics_datum *datum, struct slice name, struct slice value)
{
        datum->dimensions[datum->dimensions_count].name = name;
        datum->dimensions[datum->dimensions_count++].value = value;
}

static struct slice body_of(const struct rules_cloudwatch *config, const struct metrics_datum *data, uint32_t count)
{
        cloudwatch_body_begin(&body, config, body_bytes, sizeof(body_bytes));
        for (uint32_t i = 0; i < count; i++)
                cr_assert_eq(cloudwatch_body_add(&body, &data[i]), ERR_OK);
        return slice_of(body_bytes, cloudwatch_body_finish(&body));
}

/* ---------------------------------------------------------------------------------------------- times */

Test(cloudwatch, a_time_is_taken_up_to_the_last_millisecond_of_its_limits)
{
        const int64_t now_ms = 1767323045678, hour_ms = 3600000;
        const int64_t oldest_ms = now_ms - CLOUDWATCH_COUNT_AGE_MS_MAX, newest_ms = now_ms + CLOUDWATCH_AHEAD_MS_MAX;
        const int64_t age_max_ms = (INT64_C(14) * 24 - 1) * hour_ms;
        int64_t at_ms = 0;
        cr_assert_eq(CLOUDWATCH_COUNT_AGE_MS_MAX, age_max_ms);
        cr_assert_eq(CLOUDWATCH_AHEAD_MS_MAX, hour_ms);
        /* What was closed in time has ten minutes at least until it is too late to be sent. */
        cr_assert_eq(CLOUDWATCH_CLOSE_AGE_MS_MAX, age_max_ms + hour_ms / 2);
        cr_assert_eq(cloudwatch_send_age_ms_max(30000), age_max_ms + hour_ms - 330000);
        cr_assert_eq(cloudwatch_send_age_ms_max(UINT32_MAX), CLOUDWATCH_CLOSE_AGE_MS_MAX + 600000);
        cr_assert_not(cloudwatch_is_older(oldest_ms, now_ms, CLOUDWATCH_COUNT_AGE_MS_MAX));
        cr_assert(cloudwatch_is_older(oldest_ms - 1, now_ms, CLOUDWATCH_COUNT_AGE_MS_MAX));
        /* The start of the period counts: here a period is a millisecond, then an hour. */
        cr_assert_eq(cloudwatch_time_of(oldest_ms - 1, 1, now_ms, &at_ms), ERR_RANGE);
        cr_assert_eq(cloudwatch_time_of(oldest_ms, 1, now_ms, &at_ms), ERR_OK);
        cr_assert_eq(at_ms, oldest_ms);
        cr_assert_eq(cloudwatch_time_of(oldest_ms + 1, 1, now_ms, &at_ms), ERR_OK);
        cr_assert_eq(at_ms, oldest_ms + 1);
        const int64_t next_ms = oldest_ms - oldest_ms % hour_ms + hour_ms; /* the first period that began in time */
        cr_assert_eq(cloudwatch_time_of(next_ms - 1, hour_ms, now_ms, &at_ms), ERR_RANGE);
        cr_assert_eq(cloudwatch_time_of(next_ms, hour_ms, now_ms, &at_ms), ERR_OK);
        cr_assert_eq(at_ms, next_ms);
        cr_assert_eq(
                cloudwatch_time_of(next_ms - hour_ms, hour_ms, next_ms - hour_ms + CLOUDWATCH_COUNT_AGE_MS_MAX, &at_ms),
                ERR_OK);
        cr_assert_eq(cloudwatch_time_of(next_ms - hour_ms, hour_ms, next_ms - hour_ms + CLOUDWATCH_COUNT_AGE_MS_MAX + 1,
                                        &at_ms),
                     ERR_RANGE);
        /* Ahead: what is further is counted now. */
        cr_assert_eq(cloudwatch_time_of(newest_ms - 1, 60000, now_ms, &at_ms), ERR_OK);
        cr_assert_eq(at_ms, newest_ms - 1);
        cr_assert_eq(cloudwatch_time_of(newest_ms, 60000, now_ms, &at_ms), ERR_OK);
        cr_assert_eq(at_ms, newest_ms);
        cr_assert_eq(cloudwatch_time_of(newest_ms + 1, 60000, now_ms, &at_ms), ERR_OK);
        cr_assert_eq(at_ms, now_ms);
        cr_assert_eq(cloudwatch_time_of(INT64_MAX, 60000, now_ms, &at_ms), ERR_OK);
        cr_assert_eq(at_ms, now_ms);
        cr_assert_eq(cloudwatch_time_of(-1, 60000, now_ms, &at_ms), ERR_RANGE);
}

/* ---------------------------------------------------------------------------------------------- bytes */

/* Written by hand from RFC 8949 and the worked body of AWS's protocol. */
Test(cloudwatch, a_cbor_body_byte_by_byte)
{
        static const char expected[] = "\xa2\x69"
                                       "Namespace"
                                       "\x61"
                                       "X"
                                       "\x6aMetricData\x82"
                                       "\xa6\x6aMetricName\x64Send"
                                       "\x6a"
                                       "Dimensions\x81\xa2\x64Name\x68"
                                       "campaign\x65Value\x65"
                                       "april"
                                       "\x69Timestamp\xc1\x1a\x69\x57\x35\xa0"
                                       "\x66Values\x81\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00"
                                       "\x66"
                                       "Counts\x81\xfb\x40\x42\x80\x00\x00\x00\x00\x00"
                                       "\x64Unit\x65"
                                       "Count"
                                       "\xa5\x6aMetricName\x64Send"
                                       "\x69Timestamp\xc1\x1a\x69\x57\x35\xa0"
                                       "\x66Values\x81\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00"
                                       "\x66"
                                       "Counts\x81\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00"
                                       "\x64Unit\x65"
                                       "Count";
        struct metrics_datum data[2] = {datum_of(37), datum_of(1)};
        dimension(&data[0], SLICE("campaign"), SLICE("april"));
        struct slice got = body_of(&config_cbor, data, 2);
        cr_assert_eq(got.len, sizeof(expected) - 1);
        cr_assert_eq(memcmp(got.ptr, expected, got.len), 0);
}

Test(cloudwatch, a_json_body_byte_by_byte)
{
        static const char expected[] =
                "{\"Namespace\":\"X\",\"MetricData\":[{\"MetricName\":\"Send\",\"Dimensions\":[{\"Name\":\"campaign\","
                "\"Value\":\"april\"},{\"Name\":\"who\",\"Value\":\"a \\\"b\\\\c\"}],\"Timestamp\":1767323040,"
                "\"Values\":[1],\"Counts\":[37],\"Unit\":\"Count\"},{\"MetricName\":\"Send\",\"Timestamp\":1767323040,"
                "\"Values\":[1],\"Counts\":[1],\"Unit\":\"Count\"}]}";
        struct metrics_datum data[2] = {datum_of(37), datum_of(1)};
        dimension(&data[0], SLICE("campaign"), SLICE("april"));
        dimension(&data[0], SLICE("who"), SLICE("a \"b\\c"));
        struct slice got = body_of(&config_json, data, 2);
        cr_assert(slice_equal(got, slice_of_text(expected)), "%.*s", SLICE_PRINTF(got));
}

Test(cloudwatch, periods_below_a_minute_are_of_high_resolution)
{
        struct rules_cloudwatch config = config_json;
        struct metrics_datum datum = datum_of(1);
        for (int json = 0; json < 2; json++) {
                config.json = json == 1;
                config.period_s = 59;
                struct slice got = body_of(&config, &datum, 1);
                struct slice member = json ? SLICE(",\"StorageResolution\":1}]}") : SLICE("\x71StorageResolution\x01");
                cr_assert(slice_has_suffix(got, member));
                config.period_s = 60;
                got = body_of(&config, &datum, 1);
                cr_assert_eq(slice_find(got, SLICE("StorageResolution")), got.len);
        }
}

Test(cloudwatch, heads_name_protocol_and_compression)
{
        struct cloudwatch_head head = cloudwatch_head_of(false, true);
        cr_assert(slice_equal(head.path, SLICE("/service/GraniteServiceVersion20100801/operation/PutMetricData")));
        cr_assert(slice_equal(head.content_type, SLICE("application/cbor")) && head.amz_target.len == 0);
        cr_assert_lt(slice_find(head.fields, SLICE("smithy-protocol: rpc-v2-cbor\r\n")), head.fields.len);
        cr_assert(slice_has_suffix(head.fields, SLICE("content-encoding: gzip\r\n")));
        head = cloudwatch_head_of(false, false);
        cr_assert(slice_has_suffix(head.fields, SLICE("smithy-protocol: rpc-v2-cbor\r\n")));
        head = cloudwatch_head_of(true, false);
        cr_assert(slice_equal(head.path, SLICE("/")) && head.fields.len == 0);
        cr_assert(slice_equal(head.amz_target, SLICE("GraniteServiceVersion20100801.PutMetricData")));
        cr_assert(slice_equal(cloudwatch_head_of(true, true).fields, SLICE("content-encoding: gzip\r\n")));
}

/* ---------------------------------------------------------------------------------------------- reading back */

static double cbor_real(struct slice *rest)
{
        struct codec_cbor_item item;
        cr_assert_eq(codec_cbor_next(rest, &item), CODEC_CBOR_ARRAY);
        cr_assert_eq(item.number, 1);
        cr_assert_eq(codec_cbor_next(rest, &item), CODEC_CBOR_FLOAT);
        return item.real;
}

/* How many data the body has; their counts are added to *ret_sum. The head must be the shortest. */
static uint32_t cbor_read(struct slice rest, struct slice namespace, uint64_t *ret_sum)
{
        struct codec_cbor_item map, list, datum, key, item;
        cr_assert_eq(codec_cbor_next(&rest, &map), CODEC_CBOR_MAP);
        cr_assert(codec_cbor_next(&rest, &key) == CODEC_CBOR_TEXT && codec_cbor_next(&rest, &item) == CODEC_CBOR_TEXT);
        cr_assert(slice_equal(item.text, namespace));
        cr_assert_eq(codec_cbor_next(&rest, &key), CODEC_CBOR_TEXT);
        size_t before = rest.len;
        cr_assert_eq(codec_cbor_next(&rest, &list), CODEC_CBOR_ARRAY);
        uint32_t count = (uint32_t)list.number;
        cr_assert_eq(before - rest.len, count < 24 ? 1 : count < 256 ? 2 : 3);
        while (codec_cbor_more(&rest, &list)) {
                cr_assert_eq(codec_cbor_next(&rest, &datum), CODEC_CBOR_MAP);
                while (codec_cbor_more(&rest, &datum)) {
                        cr_assert_eq(codec_cbor_next(&rest, &key), CODEC_CBOR_TEXT);
                        if (slice_equal(key.text, SLICE("Values")))
                                cr_assert_eq(cbor_real(&rest), 1.0);
                        else if (slice_equal(key.text, SLICE("Counts")))
                                *ret_sum += (uint64_t)cbor_real(&rest);
                        else
                                cr_assert(codec_cbor_skip(&rest));
                }
        }
        cr_assert_eq(rest.len, 0);
        return count;
}

static uint32_t json_read(struct slice text, struct slice namespace, uint64_t *ret_sum)
{
        json_t *root = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
        cr_assert_not_null(root);
        cr_assert(slice_equal(slice_of_text(json_string_value(json_object_get(root, "Namespace"))), namespace));
        json_t *datum, *data = json_object_get(root, "MetricData");
        size_t i;
        json_array_foreach(data, i, datum) *ret_sum +=
                (uint64_t)json_integer_value(json_array_get(json_object_get(datum, "Counts"), 0));
        uint32_t count = (uint32_t)json_array_size(data);
        json_decref(root);
        return count;
}

static uint32_t body_read(bool json, struct slice got, struct slice namespace, uint64_t *ret_sum)
{
        return json ? json_read(got, namespace, ret_sum) : cbor_read(got, namespace, ret_sum);
}

/* ---------------------------------------------------------------------------------------------- the future */

/* Only what is later than the limit, and only times: whatever texts say. */
Test(cloudwatch, data_of_the_future_get_another_time)
{
        enum { NOW_S = 1767323040, AFTER_S = NOW_S + 5400 };
        static const int64_t ahead[] = {AFTER_S + 1,          NOW_S + INT64_C(31536000), UINT32_MAX,
                                        INT64_C(4294967296),  INT64_C(9999999999),       INT64_C(10000000000),
                                        INT64_C(253402300799)};
        for (size_t i = 0; i < 2 * sizeof(ahead) / sizeof(ahead[0]); i++) {
                const struct rules_cloudwatch *config = i % 2 == 1 ? &config_json : &config_cbor;
                static uint8_t out[CLOUDWATCH_BODY_BYTES_MIN];
                struct metrics_datum data[3] = {datum_of(1), datum_of(2), datum_of(3)};
                for (int k = 0; k < 3; k++) {
                        dimension(&data[k], SLICE("Timestamp"), SLICE(",\"Timestamp\":9999999999,"));
                        dimension(&data[k], SLICE("x"), SLICE("iTimestamp"));
                }
                data[1].time_s = AFTER_S;
                data[2].time_s = ahead[i / 2];
                struct slice got = body_of(config, data, 3);
                memcpy(out, got.ptr, got.len);
                cr_assert(cloudwatch_body_is_ahead(got, config->json, AFTER_S));
                cr_assert_not(cloudwatch_body_is_ahead(got, config->json, ahead[i / 2]));
                cr_assert_eq(cloudwatch_body_restamp(out, got.len, config->json, AFTER_S, NOW_S), 1);
                cr_assert_not(cloudwatch_body_is_ahead(slice_of(out, got.len), config->json, AFTER_S));
                /* What another body would say, but for the room of a longer number. */
                size_t bytes = got.len, wide = 0, spare_at = got.len;
                data[2].time_s = NOW_S;
                got = body_of(config, data, 3);
                wide = bytes - got.len;
                for (size_t at = 0; at < got.len && spare_at > got.len; at++)
                        spare_at = out[at] != got.ptr[at] ? at : spare_at;
                if (wide == 0) {
                        cr_assert_eq(memcmp(out, got.ptr, bytes), 0, "%zu", i);
                        continue;
                }
                uint64_t sum = 0;
                cr_assert_eq(wide, config->json ? ahead[i / 2] > INT64_C(99999999999) ? 2 : 1 : 4);
                cr_assert_eq(body_read(config->json, slice_of(out, bytes), SLICE("X"), &sum), 3);
                cr_assert_eq(sum, 6);
                if (config->json) {
                        cr_assert_eq(out[spare_at], ' ');
                        cr_assert_eq(memcmp(out + spare_at + wide, got.ptr + spare_at, got.len - spare_at), 0);
                } else {
                        cr_assert_eq(memcmp(out + spare_at, "\x1b\0\0\0\0", 5), 0);
                        cr_assert_eq(memcmp(out + spare_at + 5, got.ptr + spare_at + 1, got.len - spare_at - 1), 0);
                }
        }
}

/* As they are when pages of the outbox were lost: cut at every byte. */
Test(cloudwatch, times_of_bodies_that_were_cut)
{
        for (int json = 0; json < 2; json++) {
                struct metrics_datum data[2] = {datum_of(1), datum_of(2)};
                struct slice whole = body_of(json ? &config_json : &config_cbor, data, 2);
                for (size_t len = 0; len <= whole.len; len++) {
                        uint8_t *copy = malloc(len + 1);
                        memcpy(copy, whole.ptr, len);
                        cr_assert_leq(cloudwatch_body_restamp(copy, len, json == 1, 100, 99), 2);
                        free(copy);
                }
        }
}

/* ---------------------------------------------------------------------------------------------- limits */

Test(cloudwatch, a_call_has_at_most_1000_data)
{
        static const uint32_t counts[] = {1, 23, 24, 255, 256, 999, 1000};
        for (int json = 0; json < 2; json++)
                for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
                        uint64_t sum = 0;
                        cloudwatch_body_begin(&body, json ? &config_json : &config_cbor, body_bytes,
                                              sizeof(body_bytes));
                        for (uint32_t k = 0; k < counts[i]; k++) {
                                struct metrics_datum datum = datum_of(k + 1);
                                cr_assert_eq(cloudwatch_body_add(&body, &datum), ERR_OK);
                        }
                        if (counts[i] == 1000) {
                                struct metrics_datum datum = datum_of(1);
                                cr_assert_eq(cloudwatch_body_add(&body, &datum), ERR_FULL);
                        }
                        struct slice got = slice_of(body_bytes, cloudwatch_body_finish(&body));
                        cr_assert_eq(body_read(json, got, SLICE("X"), &sum), counts[i]);
                        cr_assert_eq(sum, (uint64_t)counts[i] * (counts[i] + 1) / 2);
                }
}

/* The last value is as long as it may be for exactly 1,000,000 bytes; then one longer. */
Test(cloudwatch, a_call_has_at_most_1000000_bytes)
{
        static char text[256];
        memset(text, 'v', sizeof(text));
        for (int json = 0; json < 2; json++) {
                const struct rules_cloudwatch *config = json ? &config_json : &config_cbor;
                size_t gap = 0;
                for (int round = 0; round < 3; round++) {
                        uint64_t sum = 0;
                        cloudwatch_body_begin(&body, config, body_bytes, sizeof(body_bytes));
                        memset(body_bytes + LIMIT_CLOUDWATCH_CALL_BYTES_MAX, 0x5a, 64);
                        uint32_t count = 0;
                        /* 4 dimensions of 128 bytes and more: room for about 700, and for a last one with a short
                         * value. */
                        while (body.len < LIMIT_CLOUDWATCH_CALL_BYTES_MAX - 2500) {
                                struct metrics_datum datum = datum_of(1);
                                for (int i = 0; i < 10; i++)
                                        dimension(&datum, slice_of(text, 100), slice_of(text, 100));
                                cr_assert_eq(cloudwatch_body_add(&body, &datum), ERR_OK);
                                count++;
                        }
                        for (;;) { /* small ones */
                                struct metrics_datum datum = datum_of(1);
                                if (LIMIT_CLOUDWATCH_CALL_BYTES_MAX - body.len < 2 * 140)
                                        break;
                                cr_assert_eq(cloudwatch_body_add(&body, &datum), ERR_OK);
                                count++;
                        }
                        struct metrics_datum last = datum_of(1);
                        dimension(&last, SLICE("n"), slice_of(text, 30 + gap));
                        enum err_code code = cloudwatch_body_add(&body, &last);
                        cr_assert_eq(code, round == 2 ? ERR_FULL : ERR_OK, "round %d", round);
                        struct slice got = slice_of(body_bytes, cloudwatch_body_finish(&body));
                        cr_assert_eq(body_read(json, got, SLICE("X"), &sum), count + (code == ERR_OK));
                        if (round == 0)
                                gap = LIMIT_CLOUDWATCH_CALL_BYTES_MAX - got.len;
                        else if (round == 1)
                                cr_assert_eq(got.len, LIMIT_CLOUDWATCH_CALL_BYTES_MAX);
                        gap += round == 1;
                        cr_assert_leq(got.len, LIMIT_CLOUDWATCH_CALL_BYTES_MAX);
                        for (size_t i = 0; i < 64; i++)
                                cr_assert_eq(body_bytes[LIMIT_CLOUDWATCH_CALL_BYTES_MAX + i], 0x5a);
                }
        }
}

/* 10 dimensions of 255 and 1,024 bytes, each byte of the values doubled by JSON, in the smallest room there is. */
Test(cloudwatch, the_largest_datum_fits_the_smallest_body)
{
        static char name[255], value[LIMIT_CLOUDWATCH_VALUE_BYTES_MAX];
        memset(name, 'n', sizeof(name));
        memset(value, '"', sizeof(value));
        for (int json = 0; json < 2; json++) {
                struct rules_cloudwatch config = {.namespace = slice_of(name, 255), .period_s = 1, .json = json == 1};
                struct metrics_datum datum = {.metric = SLICE("RenderingFailure"), .time_s = 253402300799};
                uint64_t sum = 0;
                datum.count = UINT64_C(1) << 53;
                for (int i = 0; i < 10; i++)
                        dimension(&datum, slice_of(name, 255), slice_of(value, sizeof(value)));
                cloudwatch_body_begin(&body, &config, body_bytes, CLOUDWATCH_BODY_BYTES_MIN);
                cr_assert_eq(cloudwatch_body_add(&body, &datum), ERR_OK);
                struct slice got = slice_of(body_bytes, cloudwatch_body_finish(&body));
                cr_assert_eq(body_read(json, got, config.namespace, &sum), 1);
                cr_assert_eq(sum, UINT64_C(1) << 53);
        }
}

/* ---------------------------------------------------------------------------------------------- whole tables */

static uint8_t event_bytes[SENDRING_EVENT_BYTES_MAX];

/* Counts one event of each number with tags t0..: "<number>" and then `len` bytes of filler. */
static enum err_code count(struct metrics_table *table, uint32_t number, uint32_t tags_count, size_t len)
{
        static char values[10][256];
        static const char *const names[] = {"t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"};
        struct sendring_pair tags[10];
        for (uint32_t i = 0; i < tags_count; i++) {
                int used = snprintf(values[i], sizeof(values[i]), "%u", number);
                memset(values[i] + used, '.', len);
                tags[i] = (struct sendring_pair){{names[i], 2}, {values[i], (size_t)used + len}};
        }
        struct sendring_event event;
        struct codec_view view;
        struct err err;
        size_t bytes;
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.tags = (struct sendring_pairs){tags, tags_count};
        cr_assert_eq(codec_event_encode(&event, event_bytes, sizeof(event_bytes), &bytes, &err), ERR_OK, "%s",
                     err.text);
        cr_assert_eq(codec_view_decode(slice_of(event_bytes, bytes), &view, &err), ERR_OK);
        return metrics_table_count(table, &view, NULL, INT64_C(1767323040000), number + 1);
}

/* Fills a table until it is full, encodes all of it: every series once, within the bounds that are announced. */
static void check_table(uint32_t series_max, uint32_t dimensions, size_t filler, bool json, uint32_t bodies_min)
{
        static const char *const names[] = {"t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"};
        struct rules_cloudwatch config = {.namespace = SLICE("Sendring/SES"),
                                          .dimensions_count = dimensions,
                                          .roll_ups = {(uint16_t)((1u << dimensions) - 1)},
                                          .roll_ups_count = 1,
                                          .series_max = series_max,
                                          .overflow_value = SLICE("other"),
                                          .period_s = 60,
                                          .json = json};
        for (uint32_t i = 0; i < dimensions; i++)
                config.dimensions[i] =
                        (struct rules_dimension){.name = slice_of_text(names[i]), .default_value = SLICE("none")};
        struct metrics_table *table;
        struct err err;
        cr_assert_eq(metrics_table_create(&config, &table, &err), ERR_OK);
        uint64_t expected = 0;
        uint32_t events = 0;
        while (events < series_max && count(table, events, dimensions, filler) == ERR_OK)
                expected += ++events;
        metrics_table_sort(table);
        uint64_t room = cloudwatch_bodies_bytes_max(&config), sum = 0;
        uint8_t *bytes = malloc(room), *at = bytes;
        uint32_t taken_all = 0, bodies = 0;
        while (taken_all < metrics_table_series(table)) {
                size_t len;
                uint32_t taken;
                cr_assert_eq(cloudwatch_body_encode(table, taken_all, at, room - (size_t)(at - bytes), &len, &taken),
                             ERR_OK);
                cr_assert_leq(len, LIMIT_CLOUDWATCH_CALL_BYTES_MAX);
                cr_assert_eq(body_read(json, slice_of(at, len), config.namespace, &sum), taken);
                taken_all += taken;
                bodies++;
                at += (len + 63) / 64 * 64;
        }
        cr_assert_leq((size_t)(at - bytes), room);
        cr_assert_eq(sum, expected);
        cr_assert(bodies >= bodies_min && bodies <= cloudwatch_bodies_max(&config), "%u bodies of %u", bodies,
                  cloudwatch_bodies_max(&config));
        size_t len;
        uint32_t taken;
        cr_assert_eq(cloudwatch_body_encode(table, taken_all, bytes, room, &len, &taken), ERR_FULL);
        metrics_table_free(table);
        free(bytes);
}

Test(cloudwatch, a_table_becomes_bodies_within_its_bounds)
{
        for (int json = 0; json < 2; json++) {
                check_table(1, 1, 0, json == 1, 1);
                check_table(1000, 2, 10, json == 1, 1);
                check_table(2500, 2, 10, json == 1, 3);
                check_table(10000, 10, 240, json == 1, 4);
        }
}

Test(cloudwatch, the_worst_configuration_has_bounds_too)
{
        static char name[256];
        memset(name, 'n', sizeof(name));
        struct rules_cloudwatch config = {.namespace = slice_of(name, 255),
                                          .dimensions_count = 10,
                                          .roll_ups_count = 16,
                                          .series_max = LIMIT_CLOUDWATCH_SERIES_MAX,
                                          .period_s = 1,
                                          .json = true};
        for (uint32_t i = 0; i < 10; i++)
                config.dimensions[i].name = slice_of(name, 255);
        for (uint32_t i = 0; i < 16; i++)
                config.roll_ups[i] = (uint16_t)(1023 - i);
        cr_assert_leq(cloudwatch_bodies_max(&config), CLOUDWATCH_BODIES_MAX);
        cr_assert_leq(cloudwatch_bodies_bytes_max(&config), 64u << 20);
}

/* ---------------------------------------------------------------------------------------------- compression */

Test(cloudwatch, compressed_bodies_come_back)
{
        static uint8_t packed[2 * sizeof(body_bytes)], back[sizeof(body_bytes)];
        struct cloudwatch_gzip *gzip;
        struct err err;
        struct random_state random;
        random_init(&random, 3);
        cr_assert_eq(cloudwatch_gzip_create(&gzip, &err), ERR_OK);
        static const size_t sizes[] = {1, 100, CLOUDWATCH_GZIP_BYTES_MIN, LIMIT_CLOUDWATCH_CALL_BYTES_MAX};
        for (int noise = 0; noise < 2; noise++)
                for (size_t i = 0; i < 4; i++) {
                        for (size_t k = 0; k < sizes[i]; k++)
                                body_bytes[k] =
                                        noise ? (uint8_t)random_u64(&random) : (uint8_t) "PutMetricData"[k % 13];
                        size_t room = cloudwatch_gzip_bytes_max(sizes[i]);
                        cr_assert_lt(room, sizeof(packed));
                        size_t len = cloudwatch_gzip_run(gzip, slice_of(body_bytes, sizes[i]), packed, room);
                        cr_assert_gt(len, 0);
                        if (!noise && sizes[i] > 10000)
                                cr_assert_lt(len, sizes[i] / 20);
                        struct inflate_state state;
                        isal_inflate_init(&state);
                        state.crc_flag = ISAL_GZIP;
                        state.next_in = packed;
                        state.avail_in = (uint32_t)len;
                        state.next_out = back;
                        state.avail_out = sizeof(back);
                        cr_assert_eq(isal_inflate(&state), ISAL_DECOMP_OK);
                        cr_assert(state.block_state == ISAL_BLOCK_FINISH && state.total_out == sizes[i]);
                        cr_assert_eq(memcmp(back, body_bytes, sizes[i]), 0);
                        cr_assert_eq(cloudwatch_gzip_run(gzip, slice_of(body_bytes, sizes[i]), packed, len / 2), 0);
                }
        cloudwatch_gzip_free(gzip);
        cloudwatch_gzip_free(NULL);
}

/* ---------------------------------------------------------------------------------------------- answers */

#define ERROR_CBOR(type, type_head, message, message_head) \
        "\xa2\x66__type" type_head type "\x67message" message_head message

Test(cloudwatch, answers_mean_what_aws_says)
{
        static const struct {
                const char *body, *protocol;
                uint16_t status;
                bool json;
                enum cloudwatch_verdict verdict;
                enum err_code code;
                const char *name, *message;
        } cases[] = {
                {"", "rpc-v2-cbor", 200, false, CLOUDWATCH_TAKEN, ERR_OK, "", ""},
                {"\xa0", "rpc-v2-cbor", 200, false, CLOUDWATCH_TAKEN, ERR_OK, "", ""},
                {"", "", 200, true, CLOUDWATCH_TAKEN, ERR_OK, "", ""},
                {"{}", "", 200, true, CLOUDWATCH_TAKEN, ERR_OK, "", ""},
                {"<html>", "", 200, false, CLOUDWATCH_AMBIGUOUS, ERR_PROTOCOL, "", NULL},
                {"", "rpc-v1", 200, false, CLOUDWATCH_AMBIGUOUS, ERR_PROTOCOL, "", NULL},
                {ERROR_CBOR("com.amazonaws.cloudwatch#InvalidParameterValueException", "\x78\x37",
                            "The value AWS/ for parameter Namespace is invalid.", "\x78\x32"),
                 "rpc-v2-cbor", 400, false, CLOUDWATCH_NOT_TAKEN, ERR_REFUSED, "InvalidParameterValueException",
                 "The value AWS/ for parameter Namespace is invalid."},
                {ERROR_CBOR("x#Throttling", "\x6c", "Rate exceeded", "\x6d"), "rpc-v2-cbor", 400, false,
                 CLOUDWATCH_NOT_TAKEN, ERR_THROTTLED, "Throttling", "Rate exceeded"},
                {ERROR_CBOR("x#InternalServiceFault", "\x76", "", "\x60"), "rpc-v2-cbor", 500, false,
                 CLOUDWATCH_NOT_TAKEN, ERR_UNAVAILABLE, "InternalServiceFault", NULL},
                /* Pieces, other members first, indefinite. */
                {"\xbf\x61x\x82\x01\xa1\x61y\xf6\x66__type\x6aThrottling\xff", "rpc-v2-cbor", 400, false,
                 CLOUDWATCH_NOT_TAKEN, ERR_THROTTLED, "Throttling", NULL},
                {"\xbf\x66__type", "rpc-v2-cbor", 400, false, CLOUDWATCH_NOT_TAKEN, ERR_REFUSED, "", NULL},
                {"", "rpc-v2-cbor", 413, false, CLOUDWATCH_NOT_TAKEN, ERR_REFUSED, "", NULL},
                {"<html>busy</html>", "", 503, false, CLOUDWATCH_AMBIGUOUS, ERR_UNAVAILABLE, "", NULL},
                {"{\"__type\":\"ExpiredTokenException\",\"message\":\"The security token is expired\"}", "", 403, false,
                 CLOUDWATCH_NOT_TAKEN, ERR_CREDENTIALS_EXPIRED, "ExpiredTokenException",
                 "The security token is expired"},
                {"{\"__type\":\"com.amazonaws.cloudwatch#MissingRequiredParameterException\",\"message\":\"m\"}", "",
                 400, true, CLOUDWATCH_NOT_TAKEN, ERR_REFUSED, "MissingRequiredParameterException", "m"},
                {"{\"__type\":\"InternalServiceError\"}", "", 500, true, CLOUDWATCH_NOT_TAKEN, ERR_UNAVAILABLE,
                 "InternalServiceError", NULL},
                {"{\"__type\":\"Throttling\"}", "", 400, true, CLOUDWATCH_NOT_TAKEN, ERR_THROTTLED, "Throttling", NULL},
                {"", "", 301, true, CLOUDWATCH_NOT_TAKEN, ERR_REFUSED, "", NULL},
                {"", "", 408, true, CLOUDWATCH_NOT_TAKEN, ERR_UNAVAILABLE, "", NULL},
                {"<html>slow down</html>", "", 429, true, CLOUDWATCH_NOT_TAKEN, ERR_THROTTLED, "", NULL},
                {"{\"__type\":\"Throttling\"}", "", 503, true, CLOUDWATCH_NOT_TAKEN, ERR_THROTTLED, "Throttling", NULL},
                /* Successes of somebody else. */
                {"<html>Welcome</html>", "", 200, true, CLOUDWATCH_AMBIGUOUS, ERR_PROTOCOL, "", NULL},
                {"{\"cut", "", 200, true, CLOUDWATCH_AMBIGUOUS, ERR_PROTOCOL, "", NULL},
                {"{} {}", "", 200, true, CLOUDWATCH_AMBIGUOUS, ERR_PROTOCOL, "", NULL},
                {"[]", "", 200, true, CLOUDWATCH_AMBIGUOUS, ERR_PROTOCOL, "", NULL},
                {"{\"Later\":{\"x\":[1]}}", "", 200, true, CLOUDWATCH_TAKEN, ERR_OK, "", ""},
                {"\xbf\xff", "rpc-v2-cbor", 200, false, CLOUDWATCH_TAKEN, ERR_OK, "", ""},
                {"\x80", "rpc-v2-cbor", 200, false, CLOUDWATCH_AMBIGUOUS, ERR_PROTOCOL, "", NULL},
                /* 5xx: a name that is AWS's, or comes as AWS's do, says no; others leave it open. */
                {"", "", 500, true, CLOUDWATCH_AMBIGUOUS, ERR_UNAVAILABLE, "", NULL},
                {"", "rpc-v2-cbor", 500, false, CLOUDWATCH_AMBIGUOUS, ERR_UNAVAILABLE, "", NULL},
                {"{\"message\":\"upstream reset\"}", "", 503, true, CLOUDWATCH_AMBIGUOUS, ERR_UNAVAILABLE, "",
                 "upstream reset"},
                {"{\"code\":\"upstream_reset\"}", "", 503, true, CLOUDWATCH_AMBIGUOUS, ERR_UNAVAILABLE,
                 "upstream_reset", NULL},
                {"\xa1\x66__type\x65x#New", "rpc-v2-cbor", 500, false, CLOUDWATCH_NOT_TAKEN, ERR_UNAVAILABLE, "New",
                 NULL},
                {"{\"__type\":\"ServiceUnavailable\"}", "", 503, false, CLOUDWATCH_NOT_TAKEN, ERR_UNAVAILABLE,
                 "ServiceUnavailable", NULL},
                {"{\"__type\":\"InternalServiceError\"}", "", 502, true, CLOUDWATCH_AMBIGUOUS, ERR_UNAVAILABLE,
                 "InternalServiceError", NULL},
                {"", "", 504, false, CLOUDWATCH_AMBIGUOUS, ERR_UNAVAILABLE, "", NULL},
                {"{\"__type\":\"AccessDeniedException\"}", "", 504, true, CLOUDWATCH_AMBIGUOUS, ERR_UNAVAILABLE,
                 "AccessDeniedException", NULL},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct http_response response = {.status = cases[i].status,
                                                 .smithy_protocol = slice_of_text(cases[i].protocol),
                                                 .body = slice_of_text(cases[i].body)};
                struct aws_error error = {.name = "", .message = ""};
                enum cloudwatch_verdict verdict = cloudwatch_answer_read(&response, cases[i].json, 0, &error);
                cr_assert_eq(verdict, cases[i].verdict, "%zu: %d", i, (int)verdict);
                cr_assert_eq(error.code, cases[i].code, "%zu: %s", i, err_name(error.code));
                cr_assert_str_eq(error.name, cases[i].name, "%zu: %s", i, error.name);
                if (cases[i].message != NULL)
                        cr_assert_str_eq(error.message, cases[i].message);
                else
                        cr_assert_str_not_empty(error.message);
        }
}

/* ---------------------------------------------------------------------------------------------- CBOR */

Test(cloudwatch, cbor_items_are_read)
{
        static const struct {
                const char *bytes;
                size_t len;
                enum codec_cbor_kind kind;
                uint64_t number;
                double real;
                const char *text;
        } cases[] = {
                {"\x00", 1, CODEC_CBOR_UINT, 0, 0, ""},
                {"\x17", 1, CODEC_CBOR_UINT, 23, 0, ""},
                {"\x18\xff", 2, CODEC_CBOR_UINT, 255, 0, ""},
                {"\x19\x01\x00", 3, CODEC_CBOR_UINT, 256, 0, ""},
                {"\x1a\x69\x57\x35\xa0", 5, CODEC_CBOR_UINT, 1767323040, 0, ""},
                {"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", 9, CODEC_CBOR_UINT, UINT64_MAX, 0, ""},
                {"\x20", 1, CODEC_CBOR_NEGATIVE, 0, 0, ""},
                {"\x43\x01\x02\x03", 4, CODEC_CBOR_BYTES, 3, 0, "\x01\x02\x03"},
                {"\x63"
                 "abc",
                 4, CODEC_CBOR_TEXT, 3, 0, "abc"},
                {"\x7f\x61"
                 "a\x61"
                 "b\xff",
                 6, CODEC_CBOR_TEXT, 0, 0, ""},
                {"\x60", 1, CODEC_CBOR_TEXT, 0, 0, ""},
                {"\x83", 1, CODEC_CBOR_ARRAY, 3, 0, ""},
                {"\xbf", 1, CODEC_CBOR_MAP, 0, 0, ""},
                {"\xc1", 1, CODEC_CBOR_TAG, 1, 0, ""},
                {"\xf5", 1, CODEC_CBOR_SIMPLE, 21, 0, ""},
                {"\xf8\x20", 2, CODEC_CBOR_SIMPLE, 32, 0, ""},
                {"\xf9\x3c\x00", 3, CODEC_CBOR_FLOAT, 0x3c00, 1.0, ""},
                {"\xf9\xc4\x00", 3, CODEC_CBOR_FLOAT, 0xc400, -4.0, ""},
                {"\xf9\x7b\xff", 3, CODEC_CBOR_FLOAT, 0x7bff, 65504.0, ""},
                {"\xf9\x00\x01", 3, CODEC_CBOR_FLOAT, 1, 5.960464477539063e-8, ""},
                {"\xfa\x47\xc3\x50\x00", 5, CODEC_CBOR_FLOAT, 0x47c35000, 100000.0, ""},
                {"\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", 9, CODEC_CBOR_FLOAT, UINT64_C(0x3ff199999999999a), 1.1, ""},
                {"\xff", 1, CODEC_CBOR_BREAK, 0, 0, ""},
                {"", 0, CODEC_CBOR_ERROR, 0, 0, ""},
                {"\x18", 1, CODEC_CBOR_ERROR, 0, 0, ""},
                {"\x1c", 1, CODEC_CBOR_ERROR, 0, 0, ""},
                {"\x1f", 1, CODEC_CBOR_ERROR, 0, 0, ""},
                {"\xdf", 1, CODEC_CBOR_ERROR, 0, 0, ""},
                {"\x64"
                 "abc",
                 4, CODEC_CBOR_ERROR, 0, 0, ""},
                {"\x7b\xff\xff\xff\xff\xff\xff\xff\xff", 9, CODEC_CBOR_ERROR, 0, 0, ""},
                {"\x7f\x41"
                 "a\xff",
                 4, CODEC_CBOR_ERROR, 0, 0, ""},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct slice rest = slice_of(cases[i].bytes, cases[i].len);
                struct codec_cbor_item item;
                enum codec_cbor_kind kind = codec_cbor_next(&rest, &item);
                cr_assert_eq(kind, cases[i].kind, "%zu: %d", i, (int)kind);
                cr_assert_eq(item.kind, kind);
                if (kind == CODEC_CBOR_ERROR) {
                        cr_assert_eq(rest.len, cases[i].len);
                        continue;
                }
                cr_assert_eq(rest.len, 0);
                cr_assert_eq(item.number, cases[i].number, "%zu", i);
                cr_assert_eq(item.real, cases[i].real, "%zu: %g", i, item.real);
                cr_assert(slice_equal(item.text, slice_of_text(cases[i].text)));
                if (kind == CODEC_CBOR_TEXT && !item.indefinite)
                        cr_assert_not_null(item.text.ptr); /* also an empty one with nothing behind it */
        }
        struct codec_cbor_item item;
        struct slice infinite = SLICE("\xf9\x7c\x00"), none = SLICE("\xf9\x7e\x00");
        cr_assert(codec_cbor_next(&infinite, &item) == CODEC_CBOR_FLOAT && isinf(item.real));
        cr_assert(codec_cbor_next(&none, &item) == CODEC_CBOR_FLOAT && isnan(item.real));
}

Test(cloudwatch, cbor_values_are_skipped_whole)
{
        const struct {
                struct slice bytes;
                size_t left; /* SIZE_MAX: malformed */
        } cases[] = {
                {SLICE("\x01\x02"), 1},
                {SLICE("\x80\x02"), 1},
                {SLICE("\x82\x01\x82\x02\x03\x04"), 1},
                {SLICE("\xa1\x61x\xa1\x61y\x80\x04"), 1},
                {SLICE("\xa0\x04"), 1},
                {SLICE("\x9f\x01\x9f\xff\xbf\x61x\x01\xff\xff\x04"), 1},
                {SLICE("\xc1\xc1\x81\xc1\x01\x04"), 1},
                {SLICE("\x82\x01"), SIZE_MAX},
                {SLICE("\x9f\x01"), SIZE_MAX},
                {SLICE("\xbf\x61x\xff"), SIZE_MAX}, /* a key without a value */
                {SLICE("\xff"), SIZE_MAX},
                {SLICE("\x81\xff"), SIZE_MAX},
                {SLICE("\xc1"), SIZE_MAX},
                {SLICE("\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x01"), SIZE_MAX},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct slice rest = cases[i].bytes;
                bool good = codec_cbor_skip(&rest);
                cr_assert_eq(good, cases[i].left != SIZE_MAX, "%zu", i);
                if (good)
                        cr_assert_eq(rest.len, cases[i].left, "%zu", i);
        }
        char deep[64];
        memset(deep, '\x81', sizeof(deep));
        deep[32] = '\x01';
        struct slice rest = slice_of(deep, 33);
        cr_assert(codec_cbor_skip(&rest) && rest.len == 0);
        deep[32] = '\x81';
        deep[33] = '\x01';
        rest = slice_of(deep, 34);
        cr_assert_not(codec_cbor_skip(&rest));
}
