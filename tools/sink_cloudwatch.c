#include "tools/sink_cloudwatch.h"

#include "base/limits.h"
#include "base/vector.h"
#include "codecs/codec.h"

#include <isa-l/igzip_lib.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CLOUDWATCH_DIMENSIONS_MAX 30u
#define CLOUDWATCH_VALUES_MAX     150u
#define CLOUDWATCH_PAST_S         (INT64_C(14) * 86400)
#define CLOUDWATCH_FUTURE_S       (INT64_C(2) * 3600)
#define CLOUDWATCH_DEPTH_MAX      16u

struct sink_cloudwatch {
        struct inflate_state inflate;
        uint8_t plain[LIMIT_CLOUDWATCH_CALL_BYTES_MAX + 1]; /* one byte more tells a body that is too large */
};

enum err_code sink_cloudwatch_create(struct sink_cloudwatch **ret_cloudwatch, struct err *reterr)
{
        *ret_cloudwatch = malloc(sizeof(**ret_cloudwatch));
        return *ret_cloudwatch == NULL ? err_set(reterr, ERR_MEMORY, "CloudWatch decoder") : ERR_OK;
}

void sink_cloudwatch_free(struct sink_cloudwatch *cloudwatch)
{
        free(cloudwatch);
}

bool sink_cloudwatch_is_cbor(struct slice path, struct slice smithy_protocol, struct slice content_type)
{
        return slice_equal(path, SLICE("/service/GraniteServiceVersion20100801/operation/PutMetricData")) &&
               slice_equal(smithy_protocol, SLICE("rpc-v2-cbor")) &&
               slice_equal_ignore_case(content_type, SLICE("application/cbor"));
}

bool sink_cloudwatch_is_json(struct slice path, struct slice amz_target, struct slice content_type)
{
        return slice_equal(path, SLICE("/")) &&
               slice_equal(amz_target, SLICE("GraniteServiceVersion20100801.PutMetricData")) &&
               slice_equal_ignore_case(content_type, SLICE("application/x-amz-json-1.0"));
}

/* ---------------------------------------------------------------------------------------------- refusals */

/* Codes as the older protocol has them, beside the shapes of the newer ones. Others are the same in both. */
static const struct {
        const char *code, *shape;
} cloudwatch_shapes[] = {
        {"InvalidParameterValue", "InvalidParameterValueException"},
        {"InvalidParameterCombination", "InvalidParameterCombinationException"},
        {"MissingParameter", "MissingRequiredParameterException"},
        {"InternalServiceError", "InternalServiceFault"},
};

static bool cloudwatch_refuse(struct sink_refusal *refusal, const char *name, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
static bool cloudwatch_refuse(struct sink_refusal *refusal, const char *name, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        refusal->status = 400;
        refusal->name = name;
        (void)vsnprintf(refusal->text, sizeof(refusal->text), format, args); /* cut to fit */
        va_end(args);
        return false;
}

static bool cloudwatch_malformed(struct sink_refusal *refusal, const char *what)
{
        return cloudwatch_refuse(refusal, "SerializationException", "%s is not of the type that it should be", what);
}

static uint8_t *cloudwatch_put_cbor(uint8_t *at, const char *text)
{
        size_t len = strlen(text);
        *at++ = 0x79; /* text with a length of two bytes */
        *at++ = (uint8_t)(len >> 8);
        *at++ = (uint8_t)len;
        memcpy(at, text, len);
        return at + len;
}

size_t sink_cloudwatch_refusal(const struct sink_refusal *refusal, bool cbor, uint8_t out[SINK_ANSWER_BYTES_MAX],
                               char fields[160])
{
        struct sink_refusal shaped = *refusal;
        char type[128];
        for (size_t i = 0; i < sizeof(cloudwatch_shapes) / sizeof(cloudwatch_shapes[0]); i++)
                if (strcmp(refusal->name, cloudwatch_shapes[i].code) == 0)
                        shaped.name = cloudwatch_shapes[i].shape;
        (void)snprintf(fields, 160, "x-amzn-query-error: %s;%s\r\n%s", refusal->name,
                       refusal->status >= 500 ? "Receiver" : "Sender",
                       cbor ? "smithy-protocol: rpc-v2-cbor\r\n" : ""); /* names are short */
        (void)snprintf(type, sizeof(type), "com.amazonaws.cloudwatch#%s", shaped.name);
        if (!cbor) {
                shaped.name = type;
                return sink_firehose_refusal(&shaped, out);
        }
        uint8_t *at = out;
        *at++ = 0xa2;
        at = cloudwatch_put_cbor(at, "__type");
        at = cloudwatch_put_cbor(at, type);
        at = cloudwatch_put_cbor(at, "message");
        at = cloudwatch_put_cbor(at, refusal->text);
        return (size_t)(at - out);
}

/* ---------------------------------------------------------------------------------------------- CBOR as JSON */

/* The JSON protocol writes what is no number as these. */
static json_t *cloudwatch_real(double real)
{
        if (isnan(real))
                return json_string("NaN");
        if (isinf(real))
                return json_string(real < 0 ? "-Infinity" : "Infinity");
        return json_real(real);
}

static json_t *cloudwatch_from_cbor(struct slice *rest, unsigned depth);

/* NOLINTNEXTLINE(misc-no-recursion): bounded by `depth` */
static json_t *cloudwatch_list_from_cbor(struct slice *rest, struct codec_cbor_item *list, unsigned depth)
{
        json_t *result = list->kind == CODEC_CBOR_MAP ? json_object() : json_array();
        while (result != NULL && codec_cbor_more(rest, list)) {
                struct codec_cbor_item key = {.text = SLICE_EMPTY};
                if (list->kind == CODEC_CBOR_MAP && codec_cbor_next(rest, &key) != CODEC_CBOR_TEXT) {
                        json_decref(result);
                        return NULL;
                }
                json_t *value = cloudwatch_from_cbor(rest, depth - 1);
                int bad;
                if (list->kind == CODEC_CBOR_ARRAY) {
                        bad = json_array_append_new(result, value);
                } else {
                        char name[256]; /* no member has a longer name, nor a NUL in it */
                        bad = !slice_to_text(key.text, name, sizeof(name)) || json_object_get(result, name) != NULL;
                        if (bad)
                                json_decref(value);
                        else
                                bad = json_object_set_new(result, name, value);
                }
                if (bad != 0) {
                        json_decref(result);
                        return NULL;
                }
        }
        return result;
}

/* NULL: malformed, too deep, text that is not UTF-8, or no memory. */
/* NOLINTNEXTLINE(misc-no-recursion): bounded by `depth` */
static json_t *cloudwatch_from_cbor(struct slice *rest, unsigned depth)
{
        struct codec_cbor_item item;
        if (depth == 0)
                return NULL;
        switch (codec_cbor_next(rest, &item)) {
        case CODEC_CBOR_UINT:
                return item.number > INT64_MAX ? NULL : json_integer((json_int_t)item.number);
        case CODEC_CBOR_NEGATIVE:
                return item.number > INT64_MAX ? NULL : json_integer(-1 - (json_int_t)item.number);
        case CODEC_CBOR_TEXT:
                return item.indefinite ? NULL : json_stringn((const char *)item.text.ptr, item.text.len);
        case CODEC_CBOR_ARRAY:
        case CODEC_CBOR_MAP:
                return cloudwatch_list_from_cbor(rest, &item, depth);
        case CODEC_CBOR_TAG: /* 1: a timestamp */
                return item.number != 1 ? NULL : cloudwatch_from_cbor(rest, depth - 1);
        case CODEC_CBOR_FLOAT:
                return cloudwatch_real(item.real);
        case CODEC_CBOR_SIMPLE:
                return item.number == 20 ? json_false() : item.number == 21 ? json_true() : json_null();
        case CODEC_CBOR_ERROR:
        case CODEC_CBOR_BYTES:
        case CODEC_CBOR_BREAK:
                break;
        }
        return NULL;
}

static json_t *cloudwatch_tree(bool cbor, struct slice body)
{
        if (!cbor)
                return json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
        json_t *root = cloudwatch_from_cbor(&body, CLOUDWATCH_DEPTH_MAX);
        if (body.len == 0)
                return root;
        json_decref(root);
        return NULL;
}

/* ---------------------------------------------------------------------------------------------- texts and numbers */

static bool cloudwatch_is_given(const json_t *value)
{
        return value != NULL && !json_is_null(value);
}

/* A required text of 1..bytes_max bytes of ASCII, something of it to be seen. `where` as AWS names parameters. */
static bool cloudwatch_text(const json_t *value, const char *where, size_t bytes_max, struct sink_refusal *refusal)
{
        if (!cloudwatch_is_given(value))
                return cloudwatch_refuse(refusal, "MissingParameter", "The parameter %s is required.", where);
        if (!json_is_string(value))
                return cloudwatch_malformed(refusal, where);
        struct slice text = slice_of(json_string_value(value), json_string_length(value));
        if (text.len == 0)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The value  for parameter %s is invalid. It must have at least 1 character.",
                                         where);
        if (text.len > bytes_max)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The parameter %s must be shorter than %zu characters.", where, bytes_max + 1);
        bool blank = true;
        for (size_t i = 0; i < text.len; i++) {
                if (text.ptr[i] < ' ' || text.ptr[i] > '~')
                        return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                                 "The parameter %s must contain only ASCII characters.", where);
                blank = blank && text.ptr[i] == ' ';
        }
        if (blank)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The parameter %s must contain at least one non-whitespace character.", where);
        return true;
}

/* The same for names, which may not begin with a colon. */
static bool cloudwatch_name(const json_t *value, const char *where, struct sink_refusal *refusal)
{
        if (!cloudwatch_text(value, where, LIMIT_CLOUDWATCH_NAME_BYTES_MAX, refusal))
                return false;
        if (json_string_value(value)[0] == ':')
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The value %.100s for parameter %s is invalid.", json_string_value(value),
                                         where);
        return true;
}

static bool cloudwatch_number(const json_t *value, const char *where, double *ret_number, struct sink_refusal *refusal)
{
        if (json_is_string(value)) /* what is no number */
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The value %.20s for parameter %s is invalid.", json_string_value(value),
                                         where);
        if (!json_is_number(value))
                return cloudwatch_malformed(refusal, where);
        double number = json_number_value(value);
        if (!(fabs(number) <= ldexp(1, 360)))
                return cloudwatch_refuse(refusal, "InvalidParameterValue", "The value %g for parameter %s is invalid.",
                                         number, where);
        *ret_number = number;
        return true;
}

/* ---------------------------------------------------------------------------------------------- one datum */

#define CLOUDWATCH_WHERE_BYTES 96

static bool cloudwatch_dimensions(const json_t *list, uint32_t place, json_t *ret_dimensions,
                                  struct sink_refusal *refusal)
{
        char where[CLOUDWATCH_WHERE_BYTES];
        size_t i;
        const json_t *dimension;
        if (!cloudwatch_is_given(list))
                return true;
        (void)snprintf(where, sizeof(where), "MetricData.member.%u.Dimensions", place);
        if (!json_is_array(list))
                return cloudwatch_malformed(refusal, where);
        if (json_array_size(list) > CLOUDWATCH_DIMENSIONS_MAX)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The collection %s must not have a size greater than %u.", where,
                                         CLOUDWATCH_DIMENSIONS_MAX);
        json_array_foreach((json_t *)(uintptr_t)list, i, dimension)
        {
                json_t *name = json_object_get(dimension, "Name"), *value = json_object_get(dimension, "Value");
                (void)snprintf(where, sizeof(where), "MetricData.member.%u.Dimensions.member.%zu.Name", place, i + 1);
                if (!cloudwatch_name(name, where, refusal))
                        return false;
                if (json_object_get(ret_dimensions, json_string_value(name)) != NULL)
                        return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                                 "No Metric Datum can have multiple dimensions with the same name");
                (void)snprintf(where, sizeof(where), "MetricData.member.%u.Dimensions.member.%zu.Value", place, i + 1);
                if (!cloudwatch_text(value, where, LIMIT_CLOUDWATCH_VALUE_BYTES_MAX, refusal))
                        return false;
                if (json_object_set(ret_dimensions, json_string_value(name), value) != 0)
                        return cloudwatch_refuse(refusal, "InternalServiceError", "out of memory");
        }
        return true;
}

/* Values with Counts, each 1 when it is not given. */
static bool cloudwatch_values(const json_t *datum, uint32_t place, double *ret_samples, double *ret_sum,
                              struct sink_refusal *refusal)
{
        char where[CLOUDWATCH_WHERE_BYTES];
        const json_t *values = json_object_get(datum, "Values"), *counts = json_object_get(datum, "Counts");
        (void)snprintf(where, sizeof(where), "MetricData.member.%u.Values", place);
        bool has_counts = cloudwatch_is_given(counts);
        if (!json_is_array(values) || (has_counts && !json_is_array(counts)))
                return cloudwatch_malformed(refusal, where);
        if (json_array_size(values) > CLOUDWATCH_VALUES_MAX)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The collection %s must not have a size greater than %u.", where,
                                         CLOUDWATCH_VALUES_MAX);
        if (json_array_size(values) == 0)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The collection %s must not have a size less than 1.", where);
        if (has_counts && json_array_size(counts) != json_array_size(values))
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The parameters MetricData.member.%u.Values and MetricData.member.%u.Counts "
                                         "must be of the same size.",
                                         place, place);
        for (size_t i = 0; i < json_array_size(values); i++) {
                double value, count = 1;
                if (!cloudwatch_number(json_array_get(values, i), where, &value, refusal) ||
                    (has_counts && !cloudwatch_number(json_array_get(counts, i), where, &count, refusal)))
                        return false;
                if (count < 0)
                        return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                                 "The value %g for parameter MetricData.member.%u.Counts is invalid.",
                                                 count, place);
                *ret_samples += count;
                *ret_sum += value * count;
        }
        return true;
}

static bool cloudwatch_statistics(const json_t *statistics, uint32_t place, double *ret_samples, double *ret_sum,
                                  struct sink_refusal *refusal)
{
        static const char *const names[] = {"SampleCount", "Sum", "Minimum", "Maximum"};
        double numbers[4];
        for (size_t i = 0; i < 4; i++) {
                char where[CLOUDWATCH_WHERE_BYTES];
                const json_t *value = json_object_get(statistics, names[i]);
                (void)snprintf(where, sizeof(where), "MetricData.member.%u.StatisticValues.%s", place, names[i]);
                if (!cloudwatch_is_given(value))
                        return cloudwatch_refuse(refusal, "MissingParameter", "The parameter %s is required.", where);
                if (!cloudwatch_number(value, where, &numbers[i], refusal))
                        return false;
        }
        *ret_samples = numbers[0];
        *ret_sum = numbers[1];
        return true;
}

static bool cloudwatch_amount(const json_t *datum, uint32_t place, double *ret_samples, double *ret_sum,
                              struct sink_refusal *refusal)
{
        static const char *const names[] = {"Value", "Values", "StatisticValues"};
        const char *given = NULL;
        for (size_t i = 0; i < 3; i++) {
                if (!cloudwatch_is_given(json_object_get(datum, names[i])))
                        continue;
                if (given != NULL)
                        return cloudwatch_refuse(refusal, "InvalidParameterCombination",
                                                 "The parameters MetricData.member.%u.%s and MetricData.member.%u.%s "
                                                 "are mutually exclusive and you have specified both.",
                                                 place, given, place, names[i]);
                given = names[i];
        }
        if (given == NULL)
                return cloudwatch_refuse(refusal, "MissingParameter",
                                         "At least one of the parameters MetricData.member.%u.Value, "
                                         "MetricData.member.%u.Values, MetricData.member.%u.StatisticValues must be "
                                         "specified.",
                                         place, place, place);
        *ret_samples = *ret_sum = 0;
        if (strcmp(given, "Values") == 0)
                return cloudwatch_values(datum, place, ret_samples, ret_sum, refusal);
        const json_t *value = json_object_get(datum, given);
        if (strcmp(given, "StatisticValues") == 0)
                return cloudwatch_statistics(value, place, ret_samples, ret_sum, refusal);
        char where[CLOUDWATCH_WHERE_BYTES];
        (void)snprintf(where, sizeof(where), "MetricData.member.%u.Value", place);
        *ret_samples = 1;
        return cloudwatch_number(value, where, ret_sum, refusal);
}

static bool cloudwatch_unit_is_valid(const json_t *unit)
{
        static const char *const units[] = {"Seconds",
                                            "Microseconds",
                                            "Milliseconds",
                                            "Bytes",
                                            "Kilobytes",
                                            "Megabytes",
                                            "Gigabytes",
                                            "Terabytes",
                                            "Bits",
                                            "Kilobits",
                                            "Megabits",
                                            "Gigabits",
                                            "Terabits",
                                            "Percent",
                                            "Count",
                                            "Bytes/Second",
                                            "Kilobytes/Second",
                                            "Megabytes/Second",
                                            "Gigabytes/Second",
                                            "Terabytes/Second",
                                            "Bits/Second",
                                            "Kilobits/Second",
                                            "Megabits/Second",
                                            "Gigabits/Second",
                                            "Terabits/Second",
                                            "Count/Second",
                                            "None"};
        if (!cloudwatch_is_given(unit))
                return true;
        for (size_t i = 0; json_is_string(unit) && i < sizeof(units) / sizeof(units[0]); i++)
                if (strcmp(json_string_value(unit), units[i]) == 0)
                        return true;
        return false;
}

static bool cloudwatch_time(const json_t *time, uint32_t place, int64_t now_ms, json_int_t *ret_time_s,
                            struct sink_refusal *refusal)
{
        double seconds = (double)now_ms / 1000;
        char where[CLOUDWATCH_WHERE_BYTES];
        (void)snprintf(where, sizeof(where), "MetricData.member.%u.Timestamp", place);
        if (cloudwatch_is_given(time) && !cloudwatch_number(time, where, &seconds, refusal))
                return false;
        if (seconds < (double)now_ms / 1000 - (double)CLOUDWATCH_PAST_S)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The parameter %s must specify a time within the past two weeks.", where);
        if (seconds > (double)now_ms / 1000 + (double)CLOUDWATCH_FUTURE_S)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The parameter %s must specify a time no more than two hours in the future.",
                                         where);
        *ret_time_s = (json_int_t)seconds;
        return true;
}

/* Appends [metric, dimensions, timestamp, samples, sum]. */
static bool cloudwatch_datum(const json_t *datum, uint32_t place, int64_t now_ms, json_t *data,
                             struct sink_refusal *refusal)
{
        char where[CLOUDWATCH_WHERE_BYTES];
        (void)snprintf(where, sizeof(where), "MetricData.member.%u", place);
        if (!json_is_object(datum))
                return cloudwatch_malformed(refusal, where);
        (void)snprintf(where, sizeof(where), "MetricData.member.%u.MetricName", place);
        json_t *name = json_object_get(datum, "MetricName"), *resolution = json_object_get(datum, "StorageResolution");
        double samples = 0, sum = 0;
        json_int_t time_s = 0;
        if (!cloudwatch_name(name, where, refusal) || !cloudwatch_amount(datum, place, &samples, &sum, refusal) ||
            !cloudwatch_time(json_object_get(datum, "Timestamp"), place, now_ms, &time_s, refusal))
                return false;
        if (!cloudwatch_unit_is_valid(json_object_get(datum, "Unit")))
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The value for parameter MetricData.member.%u.Unit is invalid.", place);
        if (cloudwatch_is_given(resolution) && json_integer_value(resolution) != 1 &&
            json_integer_value(resolution) != 60)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The value for parameter MetricData.member.%u.StorageResolution is invalid.",
                                         place);
        json_t *dimensions = json_object();
        if (dimensions == NULL ||
            !cloudwatch_dimensions(json_object_get(datum, "Dimensions"), place, dimensions, refusal)) {
                json_decref(dimensions);
                return false;
        }
        return json_array_append_new(data, json_pack("[O,o,I,f,f]", name, dimensions, time_s, samples, sum)) == 0 ||
               cloudwatch_refuse(refusal, "InternalServiceError", "out of memory");
}

/* ---------------------------------------------------------------------------------------------- one call */

static bool cloudwatch_check(const json_t *root, int64_t now_ms, json_t *data, struct sink_refusal *refusal)
{
        const json_t *namespace = json_object_get(root, "Namespace"), *list = json_object_get(root, "MetricData"),
                     *datum;
        size_t i;
        if (!json_is_object(root))
                return cloudwatch_malformed(refusal, "The request");
        if (!cloudwatch_name(namespace, "Namespace", refusal))
                return false;
        if (strncmp(json_string_value(namespace), "AWS/", 4) == 0)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The value AWS/ for parameter Namespace is invalid.");
        if (!cloudwatch_is_given(list))
                return cloudwatch_refuse(refusal, "MissingParameter", "The parameter MetricData is required.");
        if (!json_is_array(list))
                return cloudwatch_malformed(refusal, "MetricData");
        if (json_array_size(list) == 0)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The collection MetricData must not have a size less than 1.");
        if (json_array_size(list) > LIMIT_CLOUDWATCH_DATA_PER_CALL_MAX)
                return cloudwatch_refuse(refusal, "InvalidParameterValue",
                                         "The collection MetricData must not have a size greater than %u.",
                                         LIMIT_CLOUDWATCH_DATA_PER_CALL_MAX);
        json_array_foreach((json_t *)(uintptr_t)list, i, datum)
        {
                if (!cloudwatch_datum(datum, (uint32_t)i + 1, now_ms, data, refusal))
                        return false;
        }
        return true;
}

/* False: no gzip file, or it is larger than a body may be (then *ret_plain is that long). */
static bool cloudwatch_unzip(struct sink_cloudwatch *cloudwatch, struct slice body, struct slice *ret_plain)
{
        struct inflate_state *inflate = &cloudwatch->inflate;
        isal_inflate_init(inflate);
        inflate->crc_flag = ISAL_GZIP;
        inflate->next_in = (uint8_t *)(uintptr_t)body.ptr; /* isa-l's parameter is not const; it only reads */
        inflate->avail_in = (uint32_t)body.len;
        inflate->next_out = cloudwatch->plain;
        inflate->avail_out = sizeof(cloudwatch->plain);
        int result = isal_inflate(inflate);
        vector_clear_uppers();
        *ret_plain = slice_of(cloudwatch->plain, inflate->total_out);
        return result == ISAL_DECOMP_OK && (inflate->block_state == ISAL_BLOCK_FINISH || inflate->avail_out == 0);
}

json_t *sink_cloudwatch_parse(struct sink_cloudwatch *cloudwatch, bool cbor, bool gzip, struct slice body,
                              int64_t now_ms, uint32_t *ret_data, struct sink_refusal *ret_refusal)
{
        struct slice plain = body;
        if (gzip && !cloudwatch_unzip(cloudwatch, body, &plain)) {
                (void)cloudwatch_refuse(ret_refusal, "SerializationException", "The body is no gzip file");
                return NULL;
        }
        if (plain.len > LIMIT_CLOUDWATCH_CALL_BYTES_MAX) {
                (void)cloudwatch_refuse(ret_refusal, "RequestEntityTooLarge", "The request is larger than 1 MB.");
                ret_refusal->status = 413;
                return NULL;
        }
        json_t *root = cloudwatch_tree(cbor, plain), *data = json_array(), *call = NULL;
        if (root == NULL || data == NULL)
                (void)cloudwatch_refuse(ret_refusal, "SerializationException", "The request is not valid %s",
                                        cbor ? "CBOR" : "JSON");
        else if (cloudwatch_check(root, now_ms, data, ret_refusal))
                call = json_pack("{s:O,s:O}", "namespace", json_object_get(root, "Namespace"), "data", data);
        *ret_data = (uint32_t)json_array_size(data);
        json_decref(root);
        json_decref(data);
        return call;
}
