/* The sink's PutMetricData: every limit at its last good value and one past it, in both protocols, and bodies that are
 * none. Bodies are written as trees of the JSON library; the CBOR of one is written here. */
#include "tools/sink_cloudwatch.h"

#include "base/limits.h"

#include <criterion/criterion.h>
#include <isa-l/igzip_lib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

TestSuite(sink_cloudwatch, .timeout = 60);

#define NOW_S  INT64_C(1767323040)
#define NOW_MS (NOW_S * 1000)

static uint8_t room[2u << 20], packed[2u << 20];
static struct sink_refusal refusal;
static uint32_t data_count;

/* ---------------------------------------------------------------------------------------------- writing */

static uint8_t *put_head(uint8_t *at, unsigned major, uint64_t value)
{
        *at++ = (uint8_t)(major << 5 | 27);
        for (int shift = 56; shift >= 0; shift -= 8)
                *at++ = (uint8_t)(value >> shift);
        return at;
}

static uint8_t *put_text(uint8_t *at, const char *text, size_t len)
{
        at = put_head(at, 3, len);
        memcpy(at, text, len);
        return at + len;
}

static uint8_t *put_real(uint8_t *at, double real)
{
        uint64_t bits;
        memcpy(&bits, &real, sizeof(bits));
        *at = 0xfb;
        for (int i = 0; i < 8; i++)
                at[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
        return at + 9;
}

/* What JSON has as texts instead of numbers is a number in CBOR; a time has tag 1. */
static uint8_t *put_cbor(uint8_t *at, json_t *value, bool is_time)
{
        size_t i;
        const char *key;
        json_t *member;
        if (is_time)
                *at++ = 0xc1;
        switch (json_typeof(value)) {
        case JSON_OBJECT:
                at = put_head(at, 5, json_object_size(value));
                json_object_foreach(value, key, member)
                {
                        at = put_text(at, key, strlen(key));
                        at = put_cbor(at, member, strcmp(key, "Timestamp") == 0);
                }
                return at;
        case JSON_ARRAY:
                at = put_head(at, 4, json_array_size(value));
                json_array_foreach(value, i, member) at = put_cbor(at, member, false);
                return at;
        case JSON_STRING:
                if (strcmp(json_string_value(value), "NaN") == 0)
                        return put_real(at, (double)NAN);
                if (strcmp(json_string_value(value), "-Infinity") == 0)
                        return put_real(at, -(double)INFINITY);
                return put_text(at, json_string_value(value), json_string_length(value));
        case JSON_INTEGER:
                return json_integer_value(value) >= 0 ? put_head(at, 0, (uint64_t)json_integer_value(value))
                                                      : put_head(at, 1, (uint64_t)(-1 - json_integer_value(value)));
        case JSON_REAL:
                return put_real(at, json_real_value(value));
        case JSON_TRUE:
        case JSON_FALSE:
        case JSON_NULL:
                *at++ = json_is_true(value) ? 0xf5 : json_is_false(value) ? 0xf4 : 0xf6;
                return at;
        }
        return at;
}

static struct slice write_body(json_t *root, bool cbor)
{
        if (cbor)
                return slice_of(room, (size_t)(put_cbor(room, root, false) - room));
        return slice_of(room, json_dumpb(root, (char *)room, sizeof(room), JSON_COMPACT));
}

static struct slice zip(struct slice body)
{
        struct isal_zstream stream;
        isal_deflate_stateless_init(&stream);
        stream.gzip_flag = IGZIP_GZIP;
        stream.end_of_stream = 1;
        stream.next_in = (uint8_t *)(uintptr_t)body.ptr;
        stream.avail_in = (uint32_t)body.len;
        stream.next_out = packed;
        stream.avail_out = sizeof(packed);
        cr_assert_eq(isal_deflate_stateless(&stream), COMP_OK);
        return slice_of(packed, stream.total_out);
}

/* ---------------------------------------------------------------------------------------------- reading */

/* The body ends where an unmapped page begins. */
static json_t *parse(bool cbor, bool gzip, struct slice body)
{
        static struct sink_cloudwatch *cloudwatch;
        struct err err;
        if (cloudwatch == NULL)
                cr_assert_eq(sink_cloudwatch_create(&cloudwatch, &err), ERR_OK);
        size_t map_bytes = (body.len + 4095) / 4096 * 4096 + 4096;
        uint8_t *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq((void *)map, MAP_FAILED);
        uint8_t *end = map + map_bytes - 4096;
        cr_assert_eq(mprotect(end, 4096, PROT_NONE), 0);
        if (body.len > 0)
                memcpy(end - body.len, body.ptr, body.len);
        memset(&refusal, 0, sizeof(refusal));
        json_t *call = sink_cloudwatch_parse(cloudwatch, cbor, gzip, slice_of(end - body.len, body.len), NOW_MS,
                                             &data_count, &refusal);
        (void)munmap(map, map_bytes);
        return call;
}

/* Takes `root`. `name` NULL: it is accepted. In both protocols, plain and gzip. */
static void expect(const char *what, json_t *root, const char *name)
{
        cr_assert_not_null(root, "%s", what);
        for (int round = 0; round < 4; round++) {
                bool cbor = (round & 1) != 0, gzip = (round & 2) != 0;
                struct slice body = write_body(root, cbor);
                json_t *call = parse(cbor, gzip, gzip ? zip(body) : body);
                if (name == NULL) {
                        cr_assert_not_null(call, "%s, round %d: %s: %s", what, round, refusal.name, refusal.text);
                        cr_assert_eq(json_array_size(json_object_get(call, "data")), data_count);
                        json_decref(call);
                        continue;
                }
                cr_assert_null(call, "%s, round %d", what, round);
                cr_assert_str_eq(refusal.name, name, "%s, round %d: %s: %s", what, round, refusal.name, refusal.text);
                cr_assert_eq(refusal.status, 400);
                cr_assert_str_not_empty(refusal.text);
        }
        json_decref(root);
}

#define INVALID   "InvalidParameterValue"
#define MISSING   "MissingParameter"
#define TOGETHER  "InvalidParameterCombination"
#define MALFORMED "SerializationException"

/* Takes `datum`. */
static json_t *call_of(json_t *datum)
{
        return json_pack("{s:s,s:[o]}", "Namespace", "X", "MetricData", datum);
}

static json_t *datum_of(void)
{
        return json_pack("{s:s,s:i}", "MetricName", "Send", "Value", 1);
}

/* A datum with one member more, or another one of this name; takes `value`. */
static json_t *datum_with(const char *member, json_t *value)
{
        json_t *datum = datum_of();
        cr_assert_eq(json_object_set_new(datum, member, value), 0);
        return datum;
}

static json_t *text_of(size_t len)
{
        static char text[2048];
        memset(text, 'x', sizeof(text));
        return json_stringn(text, len);
}

static json_t *many(size_t count, json_t *value)
{
        json_t *list = json_array();
        for (size_t i = 0; i < count; i++)
                (void)json_array_append(list, value);
        json_decref(value);
        return list;
}

static json_t *dimension_of(json_t *name, json_t *value)
{
        return call_of(datum_with("Dimensions", json_pack("[{s:o,s:o}]", "Name", name, "Value", value)));
}

/* ---------------------------------------------------------------------------------------------- limits */

Test(sink_cloudwatch, names_and_values_at_their_limits)
{
        static const struct {
                size_t bytes;
                const char *name_refused, *value_refused;
        } cases[] = {{0, INVALID, INVALID}, {1, NULL, NULL},       {255, NULL, NULL},
                     {256, INVALID, NULL},  {1024, INVALID, NULL}, {1025, INVALID, INVALID}};
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                size_t len = cases[i].bytes;
                expect("namespace", json_pack("{s:o,s:[o]}", "Namespace", text_of(len), "MetricData", datum_of()),
                       cases[i].name_refused);
                expect("metric", call_of(datum_with("MetricName", text_of(len))), cases[i].name_refused);
                expect("dimension's name", dimension_of(text_of(len), text_of(1)), cases[i].name_refused);
                expect("dimension's value", dimension_of(text_of(1), text_of(len)), cases[i].value_refused);
        }
}

Test(sink_cloudwatch, texts_that_cloudwatch_refuses)
{
        static const struct {
                const char *text, *name_refused, *value_refused;
        } cases[] = {
                {"a b", NULL, NULL},
                {" ", INVALID, INVALID},
                {":x", INVALID, NULL},
                {"x:", NULL, NULL},
                {"caf\xc3\xa9", INVALID, INVALID},
                {"\t", INVALID, INVALID},
                {"x\x7f", INVALID, INVALID},
                {"~", NULL, NULL},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                const char *text = cases[i].text;
                expect(text, json_pack("{s:s,s:[o]}", "Namespace", text, "MetricData", datum_of()),
                       cases[i].name_refused);
                expect(text, call_of(datum_with("MetricName", json_string(text))), cases[i].name_refused);
                expect(text, dimension_of(json_string(text), json_string("v")), cases[i].name_refused);
                expect(text, dimension_of(json_string("n"), json_string(text)), cases[i].value_refused);
        }
        expect("AWS's own", json_pack("{s:s,s:[o]}", "Namespace", "AWS/SES", "MetricData", datum_of()), INVALID);
        expect("no prefix", json_pack("{s:s,s:[o]}", "Namespace", "AWS", "MetricData", datum_of()), NULL);
}

Test(sink_cloudwatch, collections_at_their_limits)
{
        static const size_t data[] = {1, 1000, 0, 1001}, values[] = {1, 150, 0, 151}, dimensions[] = {0, 30, 31};
        for (size_t i = 0; i < 4; i++) {
                expect("data", json_pack("{s:s,s:o}", "Namespace", "X", "MetricData", many(data[i], datum_of())),
                       i < 2 ? NULL : INVALID);
                json_t *datum = json_pack("{s:s,s:o}", "MetricName", "Send", "Values", many(values[i], json_real(1.5)));
                expect("values", call_of(json_deep_copy(datum)), i < 2 ? NULL : INVALID);
                (void)json_object_set_new(datum, "Counts", many(values[i], json_integer(2)));
                expect("values with counts", call_of(datum), i < 2 ? NULL : INVALID);
        }
        for (size_t i = 0; i < 3; i++) {
                json_t *list = json_array();
                for (size_t k = 0; k < dimensions[i]; k++) {
                        char name[24];
                        (void)snprintf(name, sizeof(name), "d%zu", k);
                        (void)json_array_append_new(list, json_pack("{s:s,s:s}", "Name", name, "Value", "v"));
                }
                expect("dimensions", call_of(datum_with("Dimensions", list)), i < 2 ? NULL : INVALID);
        }
        json_t *twice = json_pack("[{s:s,s:s},{s:s,s:s}]", "Name", "d", "Value", "v", "Name", "d", "Value", "w");
        expect("a dimension twice", call_of(datum_with("Dimensions", twice)), INVALID);
}

Test(sink_cloudwatch, times_at_their_limits)
{
        const int64_t past_s = NOW_S - INT64_C(14) * 86400, future_s = NOW_S + INT64_C(2) * 3600;
        const struct {
                int64_t at_s;
                const char *refused;
        } cases[] = {{past_s - 1, INVALID},   {past_s, NULL},       {past_s + 1, NULL},
                     {NOW_S, NULL},           {future_s - 1, NULL}, {future_s, NULL},
                     {future_s + 1, INVALID}, {0, INVALID},         {-1, INVALID}};
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                expect("time", call_of(datum_with("Timestamp", json_integer(cases[i].at_s))), cases[i].refused);
                expect("time", call_of(datum_with("Timestamp", json_real((double)cases[i].at_s))), cases[i].refused);
        }
        expect("no time", call_of(datum_with("Timestamp", json_null())), NULL);
        expect("a date", call_of(datum_with("Timestamp", json_string("2026-01-02"))), INVALID);
}

Test(sink_cloudwatch, numbers_at_their_limits)
{
        const double most = 0x1p360, more = 0x1.0000000000001p360; /* the next one */
        const struct {
                json_t *number;
                const char *refused;
        } cases[] = {
                {json_real(most), NULL},         {json_real(-most), NULL},
                {json_real(more), INVALID},      {json_real(-more), INVALID},
                {json_integer(INT64_MAX), NULL}, {json_integer(INT64_MIN), NULL},
                {json_string("NaN"), INVALID},   {json_string("-Infinity"), INVALID},
                {json_true(), MALFORMED},        {json_array(), MALFORMED},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                expect("value", call_of(datum_with("Value", json_incref(cases[i].number))), cases[i].refused);
                json_t *list = json_pack("[O]", cases[i].number);
                expect("values", call_of(json_pack("{s:s,s:o}", "MetricName", "m", "Values", list)), cases[i].refused);
                json_decref(cases[i].number);
        }
        const struct {
                double count;
                const char *refused;
        } counts[] = {{0, NULL}, {1, NULL}, {most, NULL}, {-1, INVALID}, {more, INVALID}};
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
                expect("count",
                       call_of(json_pack("{s:s,s:[i],s:[f]}", "MetricName", "m", "Values", 1, "Counts",
                                         counts[i].count)),
                       counts[i].refused);
        expect("counts short",
               call_of(json_pack("{s:s,s:[i,i],s:[i]}", "MetricName", "m", "Values", 1, 2, "Counts", 1)), INVALID);
}

Test(sink_cloudwatch, members_that_are_needed_or_exclude_each_other)
{
        json_t *statistics = json_pack("{s:i,s:f,s:i,s:i}", "SampleCount", 3, "Sum", 4.5, "Minimum", 1, "Maximum", 2);
        expect("no namespace", json_pack("{s:[o]}", "MetricData", datum_of()), MISSING);
        expect("no data", json_pack("{s:s}", "Namespace", "X"), MISSING);
        expect("data is null", json_pack("{s:s,s:n}", "Namespace", "X", "MetricData"), MISSING);
        expect("no name", call_of(json_pack("{s:i}", "Value", 1)), MISSING);
        expect("no amount", call_of(json_pack("{s:s}", "MetricName", "m")), MISSING);
        expect("two amounts", call_of(datum_with("Values", json_pack("[i]", 1))), TOGETHER);
        expect("statistics beside", call_of(datum_with("StatisticValues", json_incref(statistics))), TOGETHER);
        expect("statistics", call_of(json_pack("{s:s,s:O}", "MetricName", "m", "StatisticValues", statistics)), NULL);
        static const char *const names[] = {"SampleCount", "Sum", "Minimum", "Maximum"};
        for (size_t i = 0; i < 4; i++) {
                json_t *less = json_copy(statistics);
                (void)json_object_del(less, names[i]);
                expect(names[i], call_of(json_pack("{s:s,s:o}", "MetricName", "m", "StatisticValues", less)), MISSING);
        }
        json_decref(statistics);
        expect("a dimension without a value", call_of(datum_with("Dimensions", json_pack("[{s:s}]", "Name", "n"))),
               MISSING);
        expect("a dimension that is none", call_of(datum_with("Dimensions", json_pack("[i]", 1))), MISSING);
        for (int i = 0; i < 3; i++) { /* of another type */
                static const char *const members[] = {"Dimensions", "MetricName", "Value"};
                expect(members[i], call_of(datum_with(members[i], json_object())), MALFORMED);
        }
        expect("a datum that is none", call_of(json_integer(1)), MALFORMED);
        expect("data that are none", json_pack("{s:s,s:s}", "Namespace", "X", "MetricData", "x"), MALFORMED);
        expect("no map", json_pack("[]"), MALFORMED);
        expect("unit", call_of(datum_with("Unit", json_string("Count"))), NULL);
        expect("unit", call_of(datum_with("Unit", json_string("count"))), INVALID);
        expect("unit", call_of(datum_with("Unit", json_integer(1))), INVALID);
        static const struct {
                int seconds;
                const char *refused;
        } resolutions[] = {{1, NULL}, {60, NULL}, {0, INVALID}, {2, INVALID}, {59, INVALID}, {61, INVALID}};
        for (size_t i = 0; i < sizeof(resolutions) / sizeof(resolutions[0]); i++)
                expect("resolution", call_of(datum_with("StorageResolution", json_integer(resolutions[i].seconds))),
                       resolutions[i].refused);
        expect("a member that nobody knows", call_of(datum_with("Later", json_pack("{s:[i]}", "x", 1))), NULL);
}

Test(sink_cloudwatch, what_is_stored_are_the_sums)
{
        json_t *root = json_pack("{s:s,s:[{s:s,s:[{s:s,s:s}],s:I,s:[f,f],s:[i,i]},{s:s,s:i}]}", "Namespace", "N",
                                 "MetricData", "MetricName", "Send", "Dimensions", "Name", "n", "Value", "v",
                                 "Timestamp", (json_int_t)(NOW_S - 60), "Values", 2.0, 0.5, "Counts", 3, 4,
                                 "MetricName", "Open", "Value", 9);
        json_t *wanted = json_pack("{s:s,s:[[s,{s:s},I,f,f],[s,{},I,f,f]]}", "namespace", "N", "data", "Send", "n", "v",
                                   (json_int_t)(NOW_S - 60), 7.0, 8.0, "Open", (json_int_t)NOW_S, 1.0, 9.0);
        cr_assert(root != NULL && wanted != NULL);
        for (int cbor = 0; cbor < 2; cbor++) {
                json_t *call = parse(cbor == 1, false, write_body(root, cbor == 1));
                cr_assert(json_equal(call, wanted), "%d", cbor);
                cr_assert_eq(data_count, 2);
                json_decref(call);
        }
        json_decref(root);
        json_decref(wanted);
}

/* ---------------------------------------------------------------------------------------------- bodies */

Test(sink_cloudwatch, a_body_of_a_megabyte_and_one_byte_more)
{
        for (int round = 0; round < 8; round++) {
                bool cbor = (round & 1) != 0, gzip = (round & 2) != 0, large = (round & 4) != 0;
                json_t *root = call_of(datum_of());
                (void)json_object_set_new(root, "Pad", json_string(""));
                size_t pad = LIMIT_CLOUDWATCH_CALL_BYTES_MAX + large - write_body(root, cbor).len;
                char *text = malloc(pad);
                memset(text, 'p', pad);
                (void)json_object_set_new(root, "Pad", json_stringn(text, pad));
                struct slice body = write_body(root, cbor);
                cr_assert_eq(body.len, LIMIT_CLOUDWATCH_CALL_BYTES_MAX + large);
                json_t *call = parse(cbor, gzip, gzip ? zip(body) : body);
                cr_assert_eq(call == NULL, large, "round %d: %s", round, refusal.text);
                if (large) {
                        cr_assert_str_eq(refusal.name, "RequestEntityTooLarge");
                        cr_assert_eq(refusal.status, 413);
                }
                json_decref(call);
                json_decref(root);
                free(text);
        }
}

Test(sink_cloudwatch, every_beginning_of_a_body_is_none)
{
        static uint8_t whole[4096];
        for (int round = 0; round < 4; round++) {
                bool cbor = (round & 1) != 0, gzip = (round & 2) != 0;
                json_t *root = dimension_of(json_string("n"), json_string("v"));
                struct slice body = write_body(root, cbor);
                if (gzip)
                        body = zip(body);
                cr_assert_lt(body.len, sizeof(whole));
                memcpy(whole, body.ptr, body.len);
                for (size_t len = 0; len < body.len; len++) {
                        cr_assert_null(parse(cbor, gzip, slice_of(whole, len)), "round %d, %zu bytes", round, len);
                        cr_assert_str_eq(refusal.name, MALFORMED);
                }
                json_t *call = parse(cbor, gzip, slice_of(whole, body.len));
                cr_assert_not_null(call);
                json_decref(call);
                if (!gzip) { /* and something behind it */
                        whole[body.len] = cbor ? 0xf6 : '1';
                        cr_assert_null(parse(cbor, gzip, slice_of(whole, body.len + 1)));
                }
                json_decref(root);
        }
}

#define DATUM_CBOR "\xa2\x6aMetricName\x61m\x65Value\x01"
#define CALL_CBOR  "\x69Namespace\x61X\x6aMetricData\x81" DATUM_CBOR

Test(sink_cloudwatch, cbor_that_is_none_and_cbor_that_is)
{
        const struct {
                struct slice body;
                bool good;
        } cases[] = {
                {SLICE("\xa2" CALL_CBOR), true},
                {SLICE("\xbf" CALL_CBOR "\xff"), true},                      /* indefinite */
                {SLICE("\xa3" CALL_CBOR "\x61z\xc1\xf9\x3c\x00"), true},     /* tag 1, a half float */
                {SLICE("\xa3" CALL_CBOR "\x61z\x9f\xbf\xff\x80\xff"), true}, /* lists that nobody reads */
                {SLICE("\xa3" CALL_CBOR "\x61z\xc2\x01"), false},            /* another tag */
                {SLICE("\xa3" CALL_CBOR "\x61z\x41x"), false},               /* bytes */
                {SLICE("\xa3" CALL_CBOR "\x61z\x7f\x61x\xff"), false},       /* a text in pieces */
                {SLICE("\xa3" CALL_CBOR "\x61z\x62\xc3("), false},           /* no UTF-8 */
                {SLICE("\xa3" CALL_CBOR "\x01\x01"), false},                 /* a key that is no text */
                {SLICE("\xa3" CALL_CBOR "\x69Namespace\x61Y"), false},       /* twice */
                {SLICE("\xa3" CALL_CBOR "\x63"
                       "a\0b\x01"),
                 false},                                                                      /* a NUL in a name */
                {SLICE("\xa3" CALL_CBOR "\x61z\x1b\xff\xff\xff\xff\xff\xff\xff\xff"), false}, /* above int64 */
                {SLICE("\xa3" CALL_CBOR "\x61z\x3b\x7f\xff\xff\xff\xff\xff\xff\xff"), true},  /* its smallest */
                {SLICE("\xa3" CALL_CBOR "\x61z\xff"), false},                                 /* an end of nothing */
                {SLICE("\xa3" CALL_CBOR), false},                                             /* a member too few */
                {SLICE("\xbb\xff\xff\xff\xff\xff\xff\xff\xff"), false},
                {SLICE(""), false},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                json_t *call = parse(true, false, cases[i].body);
                cr_assert_eq(call != NULL, cases[i].good, "case %zu: %s", i, refusal.text);
                if (call == NULL)
                        cr_assert_str_eq(refusal.name, MALFORMED, "case %zu: %s", i, refusal.name);
                json_decref(call);
        }
}

/* The call is the first of 16 levels. */
Test(sink_cloudwatch, cbor_as_deep_as_it_may_be)
{
        for (size_t lists = 13; lists <= 16; lists++) {
                uint8_t bytes[128], *at = bytes;
                const struct slice head = SLICE("\xa3" CALL_CBOR "\x61z");
                memcpy(at, head.ptr, head.len);
                at += head.len;
                memset(at, 0x81, lists);
                at += lists;
                *at++ = 0x01;
                json_t *call = parse(true, false, slice_of(bytes, (size_t)(at - bytes)));
                cr_assert_eq(call != NULL, lists <= 14, "%zu lists", lists);
                json_decref(call);
        }
}

Test(sink_cloudwatch, json_that_is_none)
{
        static const char *const bad[] = {
                "",
                "{",
                "null",
                "[]",
                "{}{}",
                "{\"Namespace\":\"X\",\"Namespace\":\"X\"}",
                "{\"Namespace\":'X'}",
                "{\"a\":NaN}",
                "{\"a\":\"\xff\"}",
                "{\"a\":01}",
        };
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                cr_assert_null(parse(false, false, slice_of_text(bad[i])), "%s", bad[i]);
                cr_assert_str_eq(refusal.name, MALFORMED, "%s: %s", bad[i], refusal.name);
        }
        cr_assert_null(parse(false, true, SLICE("{}"))); /* no gzip file */
        cr_assert_str_eq(refusal.name, MALFORMED);
}

/* ---------------------------------------------------------------------------------------------- heads, answers */

Test(sink_cloudwatch, requests_are_known_by_their_heads)
{
        const struct slice path = SLICE("/service/GraniteServiceVersion20100801/operation/PutMetricData");
        const struct slice rpc = SLICE("rpc-v2-cbor"), cbor = SLICE("application/cbor");
        cr_assert(sink_cloudwatch_is_cbor(path, rpc, cbor));
        cr_assert_not(sink_cloudwatch_is_cbor(SLICE("/"), rpc, cbor));
        cr_assert_not(sink_cloudwatch_is_cbor(path, SLICE_EMPTY, cbor));
        cr_assert_not(sink_cloudwatch_is_cbor(path, rpc, SLICE("application/json")));
        const struct slice target = SLICE("GraniteServiceVersion20100801.PutMetricData");
        const struct slice json = SLICE("application/x-amz-json-1.0");
        cr_assert(sink_cloudwatch_is_json(SLICE("/"), target, json));
        cr_assert_not(sink_cloudwatch_is_json(path, target, json));
        cr_assert_not(sink_cloudwatch_is_json(SLICE("/"), SLICE("Firehose_20150804.PutRecordBatch"), json));
        cr_assert_not(sink_cloudwatch_is_json(SLICE("/"), target, SLICE("application/x-amz-json-1.1")));
}

Test(sink_cloudwatch, refusals_have_the_shape_and_the_old_code)
{
        static uint8_t out[SINK_ANSWER_BYTES_MAX];
        char fields[160];
        struct sink_refusal missing = {.status = 400, .name = "MissingParameter", .text = "why"};
        size_t bytes = sink_cloudwatch_refusal(&missing, false, out, fields);
        cr_assert_str_eq(fields, "x-amzn-query-error: MissingParameter;Sender\r\n");
        json_t *body = json_loadb((const char *)out, bytes, 0, NULL);
        cr_assert_str_eq(json_string_value(json_object_get(body, "__type")),
                         "com.amazonaws.cloudwatch#MissingRequiredParameterException");
        cr_assert_str_eq(json_string_value(json_object_get(body, "message")), "why");
        json_decref(body);
        struct sink_refusal fault = {.status = 500, .name = "InternalServiceError", .text = ""};
        bytes = sink_cloudwatch_refusal(&fault, true, out, fields);
        cr_assert_str_eq(fields,
                         "x-amzn-query-error: InternalServiceError;Receiver\r\nsmithy-protocol: rpc-v2-cbor\r\n");
        const struct slice wanted =
                SLICE("\xa2\x79\x00\x06__type\x79\x00\x2d"
                      "com.amazonaws.cloudwatch#InternalServiceFault\x79\x00\x07message\x79\x00\x00");
        cr_assert(slice_equal(slice_of(out, bytes), wanted));
}
