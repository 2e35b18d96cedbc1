#include "egress/firehose.h"

#include "base/assert.h"

#include <stdio.h>

#define FIREHOSE_RECORD_BEGIN "{\"Data\":\""
#define FIREHOSE_RECORD_END   "\"}"
#define FIREHOSE_BODY_END     "]}"

#define FIREHOSE_TEXT_BYTES(literal) (sizeof(literal) - 1)

/* Prefix, one record and the end of the body beside the base64 of the largest record. */
_Static_assert(FIREHOSE_BODY_BYTES_MIN >= CODEC_BASE64_SIZE(LIMIT_FIREHOSE_RECORD_BYTES_MAX) +
                                                  FIREHOSE_TEXT_BYTES("{\"DeliveryStreamName\":\"\",\"Records\":[]}") +
                                                  FIREHOSE_STREAM_NAME_BYTES_MAX +
                                                  FIREHOSE_TEXT_BYTES(FIREHOSE_RECORD_BEGIN FIREHOSE_RECORD_END),
               "the smallest body holds the largest record");
_Static_assert(GZIP_BYTES_MAX(LIMIT_EVENT_JSON_BYTES_MAX + 1) <= LIMIT_FIREHOSE_RECORD_BYTES_MAX,
               "the largest event and its newline are no more than a record, plain or compressed");
_Static_assert(LIMIT_FIREHOSE_CALL_BYTES_MAX <= UINT32_MAX, "offsets in a body have 32 bits");

bool firehose_stream_name_is_valid(struct slice stream_name)
{
        if (stream_name.len == 0 || stream_name.len > FIREHOSE_STREAM_NAME_BYTES_MAX)
                return false;
        for (size_t i = 0; i < stream_name.len; i++) {
                uint8_t byte = stream_name.ptr[i];
                if (!((byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
                      byte == '_' || byte == '.' || byte == '-'))
                        return false;
        }
        return true;
}

/* ---------------------------------------------------------------------------------------------- body */

static void firehose_put(struct firehose_body *body, struct slice text)
{
        memcpy(body->bytes + body->len, text.ptr, text.len);
        body->len += text.len;
}

void firehose_body_begin(struct firehose_body *body, uint8_t *bytes, size_t bytes_max, struct slice stream_name,
                         struct gzip_writer *gzip)
{
        ASSERT(firehose_stream_name_is_valid(stream_name));
        ASSERT(bytes_max >= 256);
        ASSERT(bytes_max <= LIMIT_FIREHOSE_CALL_BYTES_MAX);
        body->bytes = bytes;
        body->bytes_max = bytes_max;
        body->len = 0;
        body->gzip = gzip;
        body->records = 0;
        body->record_open = false;
        body->finished = false;
        body->record_raw_bytes = 0;
        body->record_events = 0;
        body->raw_bytes = 0;
        body->events = 0;
        body->base64 = (struct codec_base64){0};
        firehose_put(body, SLICE("{\"DeliveryStreamName\":\""));
        firehose_put(body, stream_name);
        firehose_put(body, SLICE("\",\"Records\":["));
}

/* Where a record of `raw_bytes` that begins at `at` ends, its closing brace included. */
static size_t firehose_record_end(size_t at, size_t raw_bytes)
{
        return at + FIREHOSE_TEXT_BYTES(FIREHOSE_RECORD_BEGIN) + CODEC_BASE64_SIZE(raw_bytes) +
               FIREHOSE_TEXT_BYTES(FIREHOSE_RECORD_END);
}

/* More bytes of the open record. */
static void firehose_record_put(struct firehose_body *body, struct slice raw)
{
        body->len += codec_base64_append(&body->base64, raw, body->bytes + body->len);
        body->record_raw_bytes += (uint32_t)raw.len;
        body->raw_bytes += raw.len;
}

static void firehose_record_put_event(struct firehose_body *body, struct slice text)
{
        if (body->gzip == NULL) {
                firehose_record_put(body, text);
                return;
        }
        while (text.len > 0)
                firehose_record_put(body, gzip_writer_add(body->gzip, &text));
}

/* What waits is in the body, and its size known. */
static void firehose_record_flush(struct firehose_body *body)
{
        if (body->gzip != NULL)
                firehose_record_put(body, gzip_writer_flush(body->gzip));
}

static void firehose_record_close(struct firehose_body *body)
{
        struct firehose_record *record = &body->index[body->records];
        firehose_record_flush(body);
        if (body->gzip != NULL)
                firehose_record_put(body, gzip_writer_end(body->gzip));
        body->len += codec_base64_finish(&body->base64, body->bytes + body->len);
        firehose_put(body, SLICE(FIREHOSE_RECORD_END));
        record->raw_bytes = body->record_raw_bytes;
        record->events = body->record_events;
        ASSERT(body->len == firehose_record_end(record->at, record->raw_bytes));
        ASSERT(record->raw_bytes <= LIMIT_FIREHOSE_RECORD_BYTES_MAX);
        body->records++;
        body->record_open = false;
}

static void firehose_record_open(struct firehose_body *body)
{
        if (body->records > 0)
                firehose_put(body, SLICE(","));
        body->index[body->records].at = (uint32_t)body->len;
        firehose_put(body, SLICE(FIREHOSE_RECORD_BEGIN));
        body->record_open = true;
        body->record_raw_bytes = 0;
        body->record_events = 0;
        body->base64 = (struct codec_base64){0};
        if (body->gzip != NULL)
                firehose_record_put(body, gzip_writer_begin(body->gzip));
}

/* How many bytes the open record still gets at most, when `more` bytes of events are added and it is closed. */
static size_t firehose_record_rest_max(const struct firehose_body *body, size_t more)
{
        return body->gzip == NULL ? more : gzip_writer_rest_max(body->gzip, more);
}

static size_t firehose_body_room(const struct firehose_body *body)
{
        return body->bytes_max - FIREHOSE_TEXT_BYTES(FIREHOSE_BODY_END);
}

enum firehose_fit { FIREHOSE_FITS, FIREHOSE_RECORD_FULL, FIREHOSE_CALL_FULL };

/* Whether the open record may have an event of this size, too. */
static enum firehose_fit firehose_record_fit(const struct firehose_body *body, const struct firehose_limits *limits,
                                             size_t event_bytes)
{
        size_t rest_bytes = firehose_record_rest_max(body, event_bytes);
        size_t record_bytes = body->record_raw_bytes + rest_bytes;
        if (body->record_events >= limits->record_events_max || record_bytes > limits->record_bytes_max)
                return FIREHOSE_RECORD_FULL;
        if (body->raw_bytes + rest_bytes > limits->call_bytes_max ||
            firehose_record_end(body->index[body->records].at, record_bytes) > firehose_body_room(body))
                return FIREHOSE_CALL_FULL;
        return FIREHOSE_FITS;
}

/* Compressing less than this share of what a record or call may have gains nothing: 3 %. */
#define FIREHOSE_FLUSH_SHARE 32u

/* Whether what waits is worth being compressed, so that more may fit. */
static bool firehose_record_may_shrink(const struct firehose_body *body, const struct firehose_limits *limits)
{
        if (body->gzip == NULL || body->record_events >= limits->record_events_max)
                return false;
        uint64_t most = body->bytes_max < limits->record_bytes_max ? body->bytes_max : limits->record_bytes_max;
        if (most > limits->call_bytes_max)
                most = limits->call_bytes_max;
        return gzip_writer_waiting(body->gzip) > most / FIREHOSE_FLUSH_SHARE;
}

/* Closes the open record and opens another that has room for an event. */
static enum err_code firehose_record_next(struct firehose_body *body, const struct firehose_limits *limits,
                                          size_t event_bytes)
{
        uint32_t records = body->records + (body->record_open ? 1 : 0);
        size_t at = body->len, raw_bytes = body->gzip == NULL ? event_bytes : GZIP_BYTES_MAX(event_bytes);
        uint64_t call_bytes = body->raw_bytes + raw_bytes;
        if (body->record_open) {
                firehose_record_flush(body);
                size_t rest_bytes = firehose_record_rest_max(body, 0);
                at = firehose_record_end(body->index[body->records].at, body->record_raw_bytes + rest_bytes);
                call_bytes = body->raw_bytes + rest_bytes + raw_bytes;
        }
        if (records > 0)
                at += 1; /* the comma */
        if (firehose_record_end(at, raw_bytes) > firehose_body_room(body))
                return records == 0 ? ERR_TOO_BIG : ERR_FULL;
        if (records >= limits->records_max || (records > 0 && call_bytes > limits->call_bytes_max))
                return ERR_FULL;
        if (body->record_open)
                firehose_record_close(body);
        firehose_record_open(body);
        return ERR_OK;
}

enum err_code firehose_body_append(struct firehose_body *body, const struct firehose_limits *limits, struct slice json)
{
        ASSERT(!body->finished);
        ASSERT(limits->record_bytes_max <= LIMIT_FIREHOSE_RECORD_BYTES_MAX);
        ASSERT(limits->record_events_max <=
               (body->gzip == NULL ? LIMIT_FIREHOSE_EVENTS_PER_RECORD_MAX : LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX));
        ASSERT(limits->records_max <= LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX);

        size_t event_bytes = json.len + 1;
        if ((body->gzip == NULL ? event_bytes : GZIP_BYTES_MAX(event_bytes)) > limits->record_bytes_max)
                return ERR_TOO_BIG;
        enum firehose_fit fit =
                body->record_open ? firehose_record_fit(body, limits, event_bytes) : FIREHOSE_RECORD_FULL;
        if (fit != FIREHOSE_FITS && body->record_open && firehose_record_may_shrink(body, limits)) {
                firehose_record_flush(body);
                fit = firehose_record_fit(body, limits, event_bytes);
        }
        if (fit == FIREHOSE_CALL_FULL)
                return ERR_FULL; /* another record would need more room, not less */
        if (fit == FIREHOSE_RECORD_FULL) {
                enum err_code code = firehose_record_next(body, limits, event_bytes);
                if (code != ERR_OK)
                        return code;
        }
        firehose_record_put_event(body, json);
        firehose_record_put_event(body, SLICE("\n"));
        body->record_events++;
        body->events++;
        ASSERT_SLOW(body->len <= body->bytes_max);
        return ERR_OK;
}

void firehose_body_finish(struct firehose_body *body)
{
        ASSERT(!body->finished);
        ASSERT(body->events > 0);
        if (body->record_open)
                firehose_record_close(body);
        firehose_put(body, SLICE(FIREHOSE_BODY_END));
        ASSERT(body->len <= body->bytes_max);
        body->finished = true;
}

bool firehose_body_is_empty(const struct firehose_body *body)
{
        return body->events == 0;
}

uint32_t firehose_body_events(const struct firehose_body *body)
{
        return body->events;
}

uint32_t firehose_body_keep_failed(struct firehose_body *body, const struct firehose_answer *answer)
{
        ASSERT(body->finished);
        ASSERT(answer->accepted + answer->failed == body->records);
        uint32_t kept = 0;
        body->len = body->records == 0 ? 0 : body->index[0].at;
        body->raw_bytes = 0;
        body->events = 0;
        for (uint32_t i = 0; i < body->records; i++) {
                if (answer->verdicts[i] == FIREHOSE_ACCEPTED)
                        continue;
                struct firehose_record record = body->index[i];
                size_t bytes = firehose_record_end(record.at, record.raw_bytes) - record.at;
                if (kept > 0)
                        body->bytes[body->len++] = ',';
                /* Records only move towards the front, so what is not yet looked at is never overwritten. */
                ASSERT(body->len <= record.at);
                if (body->len < record.at)
                        memmove(body->bytes + body->len, body->bytes + record.at, bytes);
                record.at = (uint32_t)body->len;
                body->index[kept++] = record;
                body->len += bytes;
                body->raw_bytes += record.raw_bytes;
                body->events += record.events;
        }
        body->records = kept;
        if (kept == 0)
                body->len = 0;
        else
                firehose_put(body, SLICE(FIREHOSE_BODY_END));
        return body->events;
}

/* ---------------------------------------------------------------------------------------------- answer */

/* One element of RequestResponses. Its opening brace is read. */
static enum err_code firehose_answer_entry(struct codec_json_reader *reader, struct firehose_answer *answer,
                                           uint32_t index)
{
        struct slice error_code = SLICE_EMPTY, error_message = SLICE_EMPTY;
        bool record_id = false, failed = false;
        enum codec_json_token token;
        while ((token = codec_json_next(reader)) == CODEC_JSON_KEY) {
                struct slice key = reader->value;
                bool is_id = slice_equal(key, SLICE("RecordId"));
                bool is_code = slice_equal(key, SLICE("ErrorCode"));
                if (!is_id && !is_code && !slice_equal(key, SLICE("ErrorMessage"))) {
                        if (!codec_json_skip(reader))
                                return ERR_PROTOCOL;
                        continue;
                }
                token = codec_json_next(reader);
                if (token == CODEC_JSON_NULL)
                        continue;
                if (token != CODEC_JSON_STRING)
                        return ERR_PROTOCOL;
                if (is_id) {
                        record_id = true;
                } else if (is_code) {
                        failed = true;
                        error_code = reader->value;
                } else {
                        error_message = reader->value;
                }
        }
        if (token != CODEC_JSON_OBJECT_END || (!failed && !record_id))
                return ERR_PROTOCOL;
        if (!failed) {
                answer->verdicts[index] = FIREHOSE_ACCEPTED;
                answer->accepted++;
                return ERR_OK;
        }
        /* "ServiceUnavailableException" on an entry says that the stream's throughput is exceeded. */
        enum err_code code = aws_error_classify(error_code, error_message);
        bool throttled = code == ERR_THROTTLED || slice_equal(error_code, SLICE("ServiceUnavailableException"));
        if (answer->failed == 0) {
                answer->first_code = code == ERR_OK ? ERR_UNAVAILABLE : code;
                char name[48];
                char message[72];
                aws_error_text(error_code, name, sizeof(name));
                aws_error_text(error_message, message, sizeof(message));
                int used = snprintf(answer->first_error, sizeof(answer->first_error), "%s%s%s", name,
                                    message[0] == '\0' ? "" : ": ", message);
                ASSERT(used >= 0 && used < (int)sizeof(answer->first_error));
        }
        answer->verdicts[index] = throttled ? FIREHOSE_RETRY_THROTTLED : FIREHOSE_RETRY;
        answer->throttled = answer->throttled || throttled;
        answer->failed++;
        return ERR_OK;
}

enum err_code firehose_answer_read(struct slice response_body, uint32_t records_sent,
                                   struct firehose_answer *ret_answer)
{
        ASSERT(records_sent <= LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX);
        ret_answer->accepted = 0;
        ret_answer->failed = 0;
        ret_answer->throttled = false;
        ret_answer->first_code = ERR_OK;
        ret_answer->first_error[0] = '\0';
        bool counted = false, listed = false;
        uint64_t failed_put_count = 0;
        struct codec_json_reader reader;
        codec_json_reader_init(&reader, response_body);
        if (codec_json_next(&reader) != CODEC_JSON_OBJECT_BEGIN)
                return ERR_PROTOCOL;
        enum codec_json_token token;
        while ((token = codec_json_next(&reader)) == CODEC_JSON_KEY) {
                struct slice key = reader.value;
                if (slice_equal(key, SLICE("FailedPutCount"))) {
                        if (counted || codec_json_next(&reader) != CODEC_JSON_NUMBER ||
                            !slice_to_u64(reader.value, records_sent, &failed_put_count))
                                return ERR_PROTOCOL;
                        counted = true;
                } else if (slice_equal(key, SLICE("RequestResponses"))) {
                        if (listed || codec_json_next(&reader) != CODEC_JSON_ARRAY_BEGIN)
                                return ERR_PROTOCOL;
                        listed = true;
                        uint32_t index = 0;
                        while ((token = codec_json_next(&reader)) == CODEC_JSON_OBJECT_BEGIN) {
                                if (index == records_sent)
                                        return ERR_PROTOCOL;
                                enum err_code code = firehose_answer_entry(&reader, ret_answer, index++);
                                if (code != ERR_OK)
                                        return code;
                        }
                        if (token != CODEC_JSON_ARRAY_END || index != records_sent)
                                return ERR_PROTOCOL;
                } else if (!codec_json_skip(&reader)) {
                        return ERR_PROTOCOL;
                }
        }
        if (token != CODEC_JSON_OBJECT_END || codec_json_next(&reader) != CODEC_JSON_END)
                return ERR_PROTOCOL;
        if (!counted || !listed || failed_put_count != ret_answer->failed)
                return ERR_PROTOCOL;
        return ERR_OK;
}
