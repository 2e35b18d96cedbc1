#include "egress/cloudwatch.h"

#include "base/assert.h"
#include "base/vector.h"
#include "codecs/codec.h"

#include <isa-l/igzip_lib.h>
#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------------------------------------- the request's head */

struct cloudwatch_head cloudwatch_head_of(bool json, bool gzip)
{
        if (json)
                return (struct cloudwatch_head){
                        .path = SLICE("/"),
                        .content_type = SLICE("application/x-amz-json-1.0"),
                        .amz_target = SLICE("GraniteServiceVersion20100801.PutMetricData"),
                        .fields = gzip ? SLICE("content-encoding: gzip\r\n") : SLICE_EMPTY,
                };
        return (struct cloudwatch_head){
                .path = SLICE("/service/GraniteServiceVersion20100801/operation/PutMetricData"),
                .content_type = SLICE("application/cbor"),
                .fields = gzip ? SLICE("accept: application/cbor\r\nsmithy-protocol: rpc-v2-cbor\r\n"
                                       "content-encoding: gzip\r\n")
                               : SLICE("accept: application/cbor\r\nsmithy-protocol: rpc-v2-cbor\r\n"),
        };
}

/* ---------------------------------------------------------------------------------------------- writing */

/* Sticky: what does not fit sets `short_of_room`, checked once at the end. */
struct cloudwatch_out {
        uint8_t *at, *end;
        bool short_of_room;
};

static void out_bytes(struct cloudwatch_out *out, struct slice bytes)
{
        if ((size_t)(out->end - out->at) < bytes.len) {
                out->short_of_room = true;
                return;
        }
        if (bytes.len > 0)
                memcpy(out->at, bytes.ptr, bytes.len);
        out->at += bytes.len;
}

static void out_decimal(struct cloudwatch_out *out, uint64_t value)
{
        uint8_t digits[20];
        out_bytes(out, slice_of(digits, codec_u64_write(value, digits)));
}

/* Of what was checked to need no escapes. */
static void out_json_name(struct cloudwatch_out *out, struct slice name)
{
        out_bytes(out, SLICE("\""));
        out_bytes(out, name);
        out_bytes(out, SLICE("\""));
}

static void out_json_text(struct cloudwatch_out *out, struct slice text)
{
        size_t bytes = codec_json_string(text, out->at, (size_t)(out->end - out->at));
        if (bytes == 0)
                out->short_of_room = true;
        out->at += bytes;
}

enum { CBOR_UINT = 0, CBOR_TEXT = 3, CBOR_ARRAY = 4, CBOR_MAP = 5, CBOR_TAG = 6 };

static void out_cbor_head(struct cloudwatch_out *out, unsigned major, uint64_t value)
{
        uint8_t head[9];
        size_t width = value < 24 ? 0 : value < 1u << 8 ? 1 : value < 1u << 16 ? 2 : value < UINT64_C(1) << 32 ? 4 : 8;
        const uint8_t code = width == 0 ? (uint8_t)value : width == 1 ? 24 : width == 2 ? 25 : width == 4 ? 26 : 27;
        head[0] = (uint8_t)(major << 5 | code);
        for (size_t i = 0; i < width; i++)
                head[1 + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
        out_bytes(out, slice_of(head, 1 + width));
}

static void out_cbor_text(struct cloudwatch_out *out, struct slice text)
{
        out_cbor_head(out, CBOR_TEXT, text.len);
        out_bytes(out, text);
}

static void out_cbor_real(struct cloudwatch_out *out, double real)
{
        uint8_t bytes[9] = {0xfb};
        uint64_t bits;
        memcpy(&bits, &real, sizeof(bits));
        for (size_t i = 0; i < 8; i++)
                bytes[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
        out_bytes(out, slice_of(bytes, sizeof(bytes)));
}

/* ---------------------------------------------------------------------------------------------- data */

static void cloudwatch_datum_json(struct cloudwatch_out *out, const struct metrics_datum *datum, bool first,
                                  bool high_resolution)
{
        out_bytes(out, first ? SLICE("{\"MetricName\":") : SLICE(",{\"MetricName\":"));
        out_json_name(out, datum->metric);
        for (uint32_t i = 0; i < datum->dimensions_count; i++) {
                out_bytes(out, i == 0 ? SLICE(",\"Dimensions\":[{\"Name\":") : SLICE(",{\"Name\":"));
                out_json_name(out, datum->dimensions[i].name);
                out_bytes(out, SLICE(",\"Value\":"));
                out_json_text(out, datum->dimensions[i].value);
                out_bytes(out, i + 1 == datum->dimensions_count ? SLICE("}]") : SLICE("}"));
        }
        out_bytes(out, SLICE(",\"Timestamp\":"));
        out_decimal(out, (uint64_t)datum->time_s);
        out_bytes(out, SLICE(",\"Values\":[1],\"Counts\":["));
        out_decimal(out, datum->count);
        out_bytes(out, SLICE("],\"Unit\":\"Count\""));
        if (high_resolution)
                out_bytes(out, SLICE(",\"StorageResolution\":1"));
        out_bytes(out, SLICE("}"));
}

static void cloudwatch_datum_cbor(struct cloudwatch_out *out, const struct metrics_datum *datum, bool high_resolution)
{
        out_cbor_head(out, CBOR_MAP, 5u + (datum->dimensions_count > 0) + high_resolution);
        out_cbor_text(out, SLICE("MetricName"));
        out_cbor_text(out, datum->metric);
        if (datum->dimensions_count > 0) {
                out_cbor_text(out, SLICE("Dimensions"));
                out_cbor_head(out, CBOR_ARRAY, datum->dimensions_count);
        }
        for (uint32_t i = 0; i < datum->dimensions_count; i++) {
                out_cbor_head(out, CBOR_MAP, 2);
                out_cbor_text(out, SLICE("Name"));
                out_cbor_text(out, datum->dimensions[i].name);
                out_cbor_text(out, SLICE("Value"));
                out_cbor_text(out, datum->dimensions[i].value);
        }
        out_cbor_text(out, SLICE("Timestamp"));
        out_cbor_head(out, CBOR_TAG, 1);
        out_cbor_head(out, CBOR_UINT, (uint64_t)datum->time_s);
        out_cbor_text(out, SLICE("Values"));
        out_cbor_head(out, CBOR_ARRAY, 1);
        out_cbor_real(out, 1);
        out_cbor_text(out, SLICE("Counts"));
        out_cbor_head(out, CBOR_ARRAY, 1);
        out_cbor_real(out, (double)datum->count); /* exact to 2^53 */
        out_cbor_text(out, SLICE("Unit"));
        out_cbor_text(out, SLICE("Count"));
        if (high_resolution) {
                out_cbor_text(out, SLICE("StorageResolution"));
                out_cbor_head(out, CBOR_UINT, 1);
        }
}

/* ---------------------------------------------------------------------------------------------- bodies */

#define CLOUDWATCH_JSON_END         SLICE("]}")
#define CLOUDWATCH_ARRAY_HEAD_BYTES 3u /* of up to 65,535 items */
_Static_assert(LIMIT_CLOUDWATCH_DATA_PER_CALL_MAX <= UINT16_MAX, "the head of the array has room for their number");

void cloudwatch_body_begin(struct cloudwatch_body *body, const struct rules_cloudwatch *cloudwatch, uint8_t *bytes,
                           size_t bytes_max)
{
        ASSERT(bytes_max >= CLOUDWATCH_BODY_BYTES_MIN);
        if (bytes_max > LIMIT_CLOUDWATCH_CALL_BYTES_MAX)
                bytes_max = LIMIT_CLOUDWATCH_CALL_BYTES_MAX;
        *body = (struct cloudwatch_body){
                .bytes = bytes,
                .bytes_max = bytes_max - (cloudwatch->json ? CLOUDWATCH_JSON_END.len : 0),
                .json = cloudwatch->json,
                .high_resolution = cloudwatch->period_s < 60,
        };
        struct cloudwatch_out out = {.at = bytes, .end = bytes + body->bytes_max};
        if (body->json) {
                out_bytes(&out, SLICE("{\"Namespace\":"));
                out_json_name(&out, cloudwatch->namespace);
                out_bytes(&out, SLICE(",\"MetricData\":["));
        } else {
                out_cbor_head(&out, CBOR_MAP, 2);
                out_cbor_text(&out, SLICE("Namespace"));
                out_cbor_text(&out, cloudwatch->namespace);
                out_cbor_text(&out, SLICE("MetricData"));
                out.at += CLOUDWATCH_ARRAY_HEAD_BYTES; /* finish writes it */
        }
        ASSERT(!out.short_of_room);
        body->len = body->data_at = (size_t)(out.at - bytes);
}

enum err_code cloudwatch_body_add(struct cloudwatch_body *body, const struct metrics_datum *datum)
{
        if (body->data == LIMIT_CLOUDWATCH_DATA_PER_CALL_MAX)
                return ERR_FULL;
        struct cloudwatch_out out = {.at = body->bytes + body->len, .end = body->bytes + body->bytes_max};
        if (body->json)
                cloudwatch_datum_json(&out, datum, body->data == 0, body->high_resolution);
        else
                cloudwatch_datum_cbor(&out, datum, body->high_resolution);
        if (out.short_of_room)
                return ERR_FULL;
        body->len = (size_t)(out.at - body->bytes);
        body->data++;
        return ERR_OK;
}

size_t cloudwatch_body_finish(struct cloudwatch_body *body)
{
        ASSERT(body->data > 0);
        if (body->json) {
                memcpy(body->bytes + body->len, CLOUDWATCH_JSON_END.ptr, CLOUDWATCH_JSON_END.len);
                return body->len += CLOUDWATCH_JSON_END.len;
        }
        /* The shortest head, as everybody writes it; a body of fewer data is small, so moving it is cheap. */
        struct cloudwatch_out out = {.at = body->bytes + body->data_at - CLOUDWATCH_ARRAY_HEAD_BYTES,
                                     .end = body->bytes + body->data_at};
        out_cbor_head(&out, CBOR_ARRAY, body->data);
        size_t spare = (size_t)(out.end - out.at);
        if (spare > 0)
                memmove(out.at, out.end, body->len - body->data_at);
        return body->len -= spare;
}

/* Where the number of the next Timestamp in `*rest` is, and what it says; *rest: what is behind it. In JSON the sign
 * that begins the name is not escaped, as it is within a text; in CBOR the tag behind the name is no ASCII, as texts
 * are. */
static bool cloudwatch_next_time(struct slice *rest, bool json, struct slice *ret_number, int64_t *ret_time_s)
{
        struct slice name = json ? SLICE(",\"Timestamp\":") : SLICE("\x69Timestamp\xc1");
        size_t at = slice_find(*rest, name), width = 0;
        uint64_t number = 0;
        if (at == rest->len)
                return false;
        *rest = slice_from(*rest, at + name.len);
        if (json) {
                for (; width < rest->len && rest->ptr[width] >= '0' && rest->ptr[width] <= '9'; width++)
                        number = number * 10 + (uint64_t)(rest->ptr[width] - '0');
        } else if (rest->len > 0 && rest->ptr[0] >= 24 && rest->ptr[0] <= 27) {
                width = (size_t)1 << (rest->ptr[0] - 24);
                *rest = slice_from(*rest, 1);
                for (size_t i = 0; i < width && width <= rest->len; i++)
                        number = number << 8 | rest->ptr[i];
        }
        if (width > rest->len)
                return false; /* not of ours: pages of the file were lost */
        *ret_number = slice_head(*rest, width);
        *ret_time_s = number < INT64_MAX ? (int64_t)number : INT64_MAX;
        *rest = slice_from(*rest, width);
        return true;
}

bool cloudwatch_body_is_ahead(struct slice body, bool json, int64_t after_s)
{
        struct slice number;
        int64_t time_s;
        while (cloudwatch_next_time(&body, json, &number, &time_s))
                if (time_s > after_s)
                        return true;
        return false;
}

uint32_t cloudwatch_body_restamp(uint8_t *bytes, size_t bytes_count, bool json, int64_t after_s, int64_t at_s)
{
        struct slice rest = slice_of(bytes, bytes_count), number;
        int64_t time_s;
        uint32_t restamped = 0;
        ASSERT(at_s >= 0 && at_s <= after_s);
        while (cloudwatch_next_time(&rest, json, &number, &time_s)) {
                if (time_s <= after_s)
                        continue;
                uint8_t *out = bytes + (number.ptr - bytes);
                uint64_t left = (uint64_t)at_s;
                for (size_t i = number.len; i-- > 0; left = json ? left / 10 : left >> 8)
                        out[i] = json ? (left > 0 || i + 1 == number.len ? (uint8_t)('0' + left % 10) : ' ')
                                      : (uint8_t)left;
                restamped++;
        }
        return restamped;
}

enum err_code cloudwatch_body_encode(const struct metrics_table *table, uint32_t from, uint8_t *bytes, size_t bytes_max,
                                     size_t *ret_bytes, uint32_t *ret_taken)
{
        struct cloudwatch_body body;
        uint32_t series = metrics_table_series(table);
        cloudwatch_body_begin(&body, metrics_table_config(table), bytes, bytes_max);
        for (uint32_t i = from; i < series; i++) {
                struct metrics_datum datum;
                metrics_table_get(table, i, &datum);
                if (cloudwatch_body_add(&body, &datum) != ERR_OK)
                        break;
        }
        if (body.data == 0)
                return ERR_FULL;
        *ret_bytes = cloudwatch_body_finish(&body);
        *ret_taken = body.data;
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- bounds */

/* What stands around a namespace, a datum and a dimension, at most: the longer of the two protocols, rounded up. */
#define CLOUDWATCH_PREFIX_BYTES    64u
#define CLOUDWATCH_DATUM_BYTES     192u
#define CLOUDWATCH_DIMENSION_BYTES 32u
_Static_assert(CLOUDWATCH_PREFIX_BYTES + LIMIT_CLOUDWATCH_NAME_BYTES_MAX + CLOUDWATCH_DATUM_BYTES +
                               RULES_DIMENSIONS_MAX * (CLOUDWATCH_DIMENSION_BYTES + LIMIT_CLOUDWATCH_NAME_BYTES_MAX +
                                                       2 * LIMIT_CLOUDWATCH_VALUE_BYTES_MAX) <=
                       CLOUDWATCH_BODY_BYTES_MIN,
               "the largest datum fits the smallest body");

/* A datum of the largest roll-up, without its values. */
static uint64_t cloudwatch_datum_bytes_max(const struct rules_cloudwatch *cloudwatch)
{
        uint64_t most = 0;
        for (uint32_t i = 0; i < cloudwatch->roll_ups_count; i++) {
                uint64_t bytes = CLOUDWATCH_DATUM_BYTES;
                for (uint32_t mask = cloudwatch->roll_ups[i]; mask != 0; mask &= mask - 1)
                        bytes += CLOUDWATCH_DIMENSION_BYTES + cloudwatch->dimensions[__builtin_ctz(mask)].name.len;
                most = bytes > most ? bytes : most;
        }
        return most;
}

/* Data and their values, without what begins and ends a body. */
static uint64_t cloudwatch_data_bytes_max(const struct rules_cloudwatch *cloudwatch)
{
        return metrics_table_series_max(cloudwatch) * cloudwatch_datum_bytes_max(cloudwatch) +
               metrics_table_values_bytes_max(cloudwatch);
}

/* Every body but the last is full of data, or of bytes. */
uint32_t cloudwatch_bodies_max(const struct rules_cloudwatch *cloudwatch)
{
        uint64_t full_bytes = LIMIT_CLOUDWATCH_CALL_BYTES_MAX - CLOUDWATCH_BODY_BYTES_MIN;
        uint64_t bodies = metrics_table_series_max(cloudwatch) / LIMIT_CLOUDWATCH_DATA_PER_CALL_MAX +
                          cloudwatch_data_bytes_max(cloudwatch) / full_bytes + 1;
        ASSERT(bodies <= CLOUDWATCH_BODIES_MAX);
        return (uint32_t)bodies;
}

uint64_t cloudwatch_bodies_bytes_max(const struct rules_cloudwatch *cloudwatch)
{
        return cloudwatch_data_bytes_max(cloudwatch) +
               (uint64_t)cloudwatch_bodies_max(cloudwatch) *
                       (CLOUDWATCH_PREFIX_BYTES + cloudwatch->namespace.len + 64) +
               CLOUDWATCH_BODY_BYTES_MIN; /* the last body begins with at least this room */
}

/* ---------------------------------------------------------------------------------------------- times */

enum err_code cloudwatch_time_of(int64_t accepted_ms, int64_t period_ms, int64_t now_ms, int64_t *ret_ms)
{
        if (accepted_ms < 0 ||
            cloudwatch_is_older(accepted_ms - accepted_ms % period_ms, now_ms, CLOUDWATCH_COUNT_AGE_MS_MAX))
                return ERR_RANGE;
        *ret_ms = accepted_ms > now_ms + CLOUDWATCH_AHEAD_MS_MAX ? now_ms : accepted_ms;
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- compression */

struct cloudwatch_gzip {
        struct isal_zstream stream;
        uint8_t level[ISAL_DEF_LVL1_DEFAULT];
};

enum err_code cloudwatch_gzip_create(struct cloudwatch_gzip **ret_gzip, struct err *reterr)
{
        *ret_gzip = malloc(sizeof(**ret_gzip));
        return *ret_gzip == NULL ? err_set(reterr, ERR_MEMORY, "no memory for compressing CloudWatch requests")
                                 : ERR_OK;
}

void cloudwatch_gzip_free(struct cloudwatch_gzip *gzip)
{
        free(gzip);
}

size_t cloudwatch_gzip_memory_bytes(void)
{
        return sizeof(struct cloudwatch_gzip);
}

/* Stored blocks have 5 bytes for up to 65,535, a gzip file 18; the rest is to be safe. */
size_t cloudwatch_gzip_bytes_max(size_t bytes)
{
        return bytes + bytes / 1024 + 512;
}

size_t cloudwatch_gzip_run(struct cloudwatch_gzip *gzip, struct slice body, uint8_t *out, size_t out_bytes_max)
{
        struct isal_zstream *stream = &gzip->stream;
        ASSERT(body.len <= UINT32_MAX);
        isal_deflate_stateless_init(stream);
        stream->gzip_flag = IGZIP_GZIP;
        stream->end_of_stream = 1;
        stream->level = 1;
        stream->level_buf = gzip->level;
        stream->level_buf_size = sizeof(gzip->level);
        stream->next_in = (uint8_t *)(uintptr_t)body.ptr; /* isa-l's parameter is not const; it only reads */
        stream->avail_in = (uint32_t)body.len;
        stream->next_out = out;
        stream->avail_out = out_bytes_max > UINT32_MAX ? UINT32_MAX : (uint32_t)out_bytes_max;
        int failed = isal_deflate_stateless(stream);
        vector_clear_uppers();
        return failed == COMP_OK ? stream->total_out : 0;
}

/* ---------------------------------------------------------------------------------------------- answers */

/* {"__type": "ns#Code", "message": "...", ...}, as far as it can be read. */
static void cloudwatch_error_cbor(struct slice body, struct slice *ret_name, struct slice *ret_message)
{
        struct codec_cbor_item map, key, value;
        if (codec_cbor_next(&body, &map) != CODEC_CBOR_MAP)
                return;
        while (codec_cbor_more(&body, &map)) {
                if (codec_cbor_next(&body, &key) != CODEC_CBOR_TEXT)
                        return;
                struct slice before = body;
                if (codec_cbor_next(&body, &value) == CODEC_CBOR_TEXT) {
                        if (slice_equal(key.text, SLICE("__type")))
                                *ret_name = value.text;
                        else if (slice_equal_ignore_case(key.text, SLICE("message")))
                                *ret_message = value.text;
                        continue;
                }
                body = before;
                if (!codec_cbor_skip(&body))
                        return;
        }
}

static bool cloudwatch_is_success_body(struct slice body, bool json)
{
        struct codec_cbor_item item;
        struct codec_json_reader reader;
        if (body.len == 0)
                return true;
        if (!json)
                return codec_cbor_next(&body, &item) == CODEC_CBOR_MAP;
        codec_json_reader_init(&reader, body);
        struct codec_json_reader first = reader;
        return codec_json_next(&first) == CODEC_JSON_OBJECT_BEGIN && codec_json_skip(&reader) &&
               codec_json_next(&reader) == CODEC_JSON_END;
}

/* Only the service names AWS's errors. What somebody else's JSON says is known by no list. */
static bool cloudwatch_is_named(const struct http_response *response, bool is_rpc, const struct aws_error *error)
{
        return error->name[0] != '\0' &&
               (is_rpc || response->error_type.len > 0 ||
                aws_error_classify(slice_of_text(error->name), slice_of_text(error->message)) != ERR_OK);
}

enum cloudwatch_verdict cloudwatch_answer_read(const struct http_response *response, bool json, int64_t realtime_ms,
                                               struct aws_error *ret_error)
{
        bool is_rpc = slice_equal(response->smithy_protocol, SLICE("rpc-v2-cbor"));
        if (response->status >= 200 && response->status < 300) {
                if ((json || is_rpc) && cloudwatch_is_success_body(response->body, json))
                        return CLOUDWATCH_TAKEN;
                *ret_error = (struct aws_error){.code = ERR_PROTOCOL};
                (void)snprintf(ret_error->message, sizeof(ret_error->message),
                               "HTTP %u %s: not CloudWatch's answer but that of something before it", response->status,
                               json || is_rpc ? "with a body that is none of PutMetricData"
                                              : "without 'smithy-protocol: rpc-v2-cbor'"); /* short: cannot be cut */
                return CLOUDWATCH_AMBIGUOUS;
        }
        if (json || !is_rpc) {
                aws_error_read(response, realtime_ms, ret_error); /* a front end may speak JSON, too */
        } else {
                struct slice name = SLICE_EMPTY, message = SLICE_EMPTY;
                cloudwatch_error_cbor(response->body, &name, &message);
                aws_error_read_named(response, name, message, realtime_ms, ret_error);
        }
        if (response->status < 500)
                return CLOUDWATCH_NOT_TAKEN;
        if (response->status != 502 && response->status != 504 && cloudwatch_is_named(response, is_rpc, ret_error))
                return CLOUDWATCH_NOT_TAKEN;
        if (err_class(ret_error->code) != ERR_CLASS_RETRY)
                ret_error->code = ERR_UNAVAILABLE; /* it says what a refusal does, but nobody knows who says it */
        return CLOUDWATCH_AMBIGUOUS;
}
