#include "tools/sink_firehose.h"

#include "base/assert.h"
#include "base/random.h"
#include "base/vector.h"
#include "codecs/codec.h"

#include <isa-l/igzip_lib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* All decoded records of one call: base64 takes 4 characters for 3 bytes; slack for vector stores behind each record.
 */
#define SINK_DECODED_SLACK_BYTES 64u
#define SINK_DECODED_BYTES \
        (LIMIT_FIREHOSE_CALL_BYTES_MAX / 4u * 3u + LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX * 4u + SINK_DECODED_SLACK_BYTES)

struct sink_gunzip {
        struct inflate_state inflate;
        uint8_t lines[SINK_UNPACKED_BYTES_MAX]; /* pages that nothing was unpacked into cost nothing */
};

enum err_code sink_firehose_create(struct sink_firehose **ret_firehose, struct err *reterr)
{
        struct sink_firehose *firehose = calloc(1, sizeof(*firehose));
        if (firehose != NULL) {
                firehose->memory = malloc(SINK_DECODED_BYTES);
                firehose->gunzip = malloc(sizeof(*firehose->gunzip));
        }
        if (firehose == NULL || firehose->memory == NULL || firehose->gunzip == NULL) {
                sink_firehose_free(firehose);
                return err_set(reterr, ERR_MEMORY, "firehose decoder");
        }
        struct random_state random;
        random_init(&random, 0);
        firehose->record_id_prefix[0] = random_u64(&random);
        firehose->record_id_prefix[1] = random_u64(&random);
        *ret_firehose = firehose;
        return ERR_OK;
}

void sink_firehose_free(struct sink_firehose *firehose)
{
        if (firehose == NULL)
                return;
        free(firehose->gunzip);
        free(firehose->memory);
        free(firehose);
}

bool sink_firehose_operation(struct slice target, enum sink_operation *ret_operation)
{
        if (slice_equal(target, SLICE("Firehose_20150804.PutRecordBatch")))
                *ret_operation = SINK_PUT_RECORD_BATCH;
        else if (slice_equal(target, SLICE("Firehose_20150804.PutRecord")))
                *ret_operation = SINK_PUT_RECORD;
        else
                return false;
        return true;
}

/* ---------------------------------------------------------------------------------------------- reading */

static bool sink_refuse(struct sink_refusal *refusal, const char *name, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
static bool sink_refuse(struct sink_refusal *refusal, const char *name, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        refusal->status = 400;
        refusal->name = name;
        (void)vsnprintf(refusal->text, sizeof(refusal->text), format, args); /* cut to fit */
        va_end(args);
        return false;
}

/* A position in the body. The members around the Data strings are few and short; the strings are found by memchr(), so
 * that a call costs little more than decoding it. Everything is still checked to be JSON. */
struct sink_scan {
        const uint8_t *at, *end;
};

static uint8_t sink_scan_peek(struct sink_scan *scan)
{
        while (scan->at < scan->end &&
               (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t'))
                scan->at++;
        return scan->at < scan->end ? *scan->at : 0;
}

static bool sink_scan_take(struct sink_scan *scan, uint8_t c)
{
        if (sink_scan_peek(scan) != c || scan->at == scan->end)
                return false;
        scan->at++;
        return true;
}

/* A string with its escapes, between the quotes; not yet checked inside. */
static bool sink_scan_string(struct sink_scan *scan, struct slice *ret_text)
{
        if (!sink_scan_take(scan, '"'))
                return false;
        const uint8_t *start = scan->at, *from = start;
        for (;;) {
                const uint8_t *quote = memchr(from, '"', (size_t)(scan->end - from));
                if (quote == NULL)
                        return false;
                const uint8_t *back = quote;
                while (back > start && back[-1] == '\\')
                        back--;
                if ((quote - back) % 2 == 0) {
                        *ret_text = slice_of(start, (size_t)(quote - start));
                        scan->at = quote + 1;
                        return true;
                }
                from = quote + 1;
        }
}

/* Everything but Data: no control bytes, only the escapes JSON has. */
static bool sink_scan_string_is_valid(struct slice text)
{
        for (size_t i = 0; i < text.len; i++) {
                if (text.ptr[i] < 0x20)
                        return false;
                if (text.ptr[i] != '\\')
                        continue;
                i++;
                if (text.ptr[i] == 'u') { /* a backslash is never the last byte: sink_scan_string() saw to it */
                        for (size_t k = 1; k <= 4; k++) {
                                uint8_t c = i + k < text.len ? text.ptr[i + k] : 0;
                                uint8_t low = c | 0x20;
                                if (!((c >= '0' && c <= '9') || (low >= 'a' && low <= 'f')))
                                        return false;
                        }
                        i += 4;
                } else if (text.ptr[i] == 0 || strchr("\"\\/bfnrt", text.ptr[i]) == NULL) {
                        return false;
                }
        }
        return true;
}

static bool sink_scan_key(struct sink_scan *scan, struct slice *ret_key)
{
        return sink_scan_string(scan, ret_key) && sink_scan_string_is_valid(*ret_key) && sink_scan_take(scan, ':');
}

/* Skips a value that no rule of ours names: AWS ignores unknown members. */
static bool sink_scan_skip(struct sink_scan *scan, unsigned depth)
{
        struct slice text;
        uint8_t c = sink_scan_peek(scan);
        if (c == '"')
                return sink_scan_string(scan, &text) && sink_scan_string_is_valid(text);
        if (c == '{' || c == '[') {
                uint8_t close = c == '{' ? '}' : ']';
                if (depth == 0)
                        return false;
                scan->at++;
                if (sink_scan_take(scan, close))
                        return true;
                do {
                        if ((c == '{' && !sink_scan_key(scan, &text)) || !sink_scan_skip(scan, depth - 1))
                                return false;
                } while (sink_scan_take(scan, ','));
                return sink_scan_take(scan, close);
        }
        /* A number or a word: as far as its characters go, then read as JSON by itself. */
        const uint8_t *start = scan->at;
        while (scan->at < scan->end && *scan->at != ',' && *scan->at != '}' && *scan->at != ']' && *scan->at != ' ' &&
               *scan->at != '\n' && *scan->at != '\r' && *scan->at != '\t')
                scan->at++;
        struct codec_json_reader reader;
        codec_json_reader_init(&reader, slice_of(start, (size_t)(scan->at - start)));
        enum codec_json_token token = codec_json_next(&reader);
        return (token == CODEC_JSON_NUMBER || token == CODEC_JSON_TRUE || token == CODEC_JSON_FALSE ||
                token == CODEC_JSON_NULL) &&
               codec_json_next(&reader) == CODEC_JSON_END;
}

#define SINK_SCAN_DEPTH_MAX 60u

enum sink_scan_result { SINK_SCAN_OK, SINK_SCAN_SYNTAX, SINK_SCAN_NO_DATA, SINK_SCAN_TOO_MANY };

/* {"Data":"..."} with any other members. */
static enum sink_scan_result sink_scan_record(struct sink_scan *scan, struct sink_firehose *firehose)
{
        bool found = false;
        struct slice key, text = SLICE_EMPTY;
        if (!sink_scan_take(scan, '{'))
                return SINK_SCAN_SYNTAX;
        if (!sink_scan_take(scan, '}')) {
                do {
                        if (!sink_scan_key(scan, &key))
                                return SINK_SCAN_SYNTAX;
                        if (slice_equal(key, SLICE("Data")) && sink_scan_peek(scan) == '"') {
                                if (found || !sink_scan_string(scan, &text))
                                        return SINK_SCAN_SYNTAX;
                                found = true;
                        } else if (!sink_scan_skip(scan, SINK_SCAN_DEPTH_MAX)) {
                                return SINK_SCAN_SYNTAX;
                        }
                } while (sink_scan_take(scan, ','));
                if (!sink_scan_take(scan, '}'))
                        return SINK_SCAN_SYNTAX;
        }
        if (!found)
                return SINK_SCAN_NO_DATA;
        if (firehose->records_count == LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX)
                return SINK_SCAN_TOO_MANY;
        firehose->text[firehose->records_count++] = text;
        return SINK_SCAN_OK;
}

static enum sink_scan_result sink_scan_records(struct sink_scan *scan, struct sink_firehose *firehose)
{
        if (!sink_scan_take(scan, '['))
                return SINK_SCAN_SYNTAX;
        if (sink_scan_take(scan, ']'))
                return SINK_SCAN_OK;
        do {
                enum sink_scan_result result = sink_scan_record(scan, firehose);
                if (result != SINK_SCAN_OK)
                        return result;
        } while (sink_scan_take(scan, ','));
        return sink_scan_take(scan, ']') ? SINK_SCAN_OK : SINK_SCAN_SYNTAX;
}

static enum sink_scan_result sink_scan_body(struct sink_firehose *firehose, enum sink_operation operation,
                                            struct slice body, bool *ret_has_records)
{
        struct slice records_key = operation == SINK_PUT_RECORD ? SLICE("Record") : SLICE("Records");
        struct sink_scan scan = {body.ptr, body.ptr + body.len};
        struct slice key;
        if (body.len == 0 || !sink_scan_take(&scan, '{'))
                return SINK_SCAN_SYNTAX;
        if (!sink_scan_take(&scan, '}')) {
                do {
                        if (!sink_scan_key(&scan, &key))
                                return SINK_SCAN_SYNTAX;
                        if (slice_equal(key, SLICE("DeliveryStreamName")) && sink_scan_peek(&scan) == '"') {
                                if (firehose->stream.ptr != NULL || !sink_scan_string(&scan, &firehose->stream) ||
                                    !sink_scan_string_is_valid(firehose->stream))
                                        return SINK_SCAN_SYNTAX;
                        } else if (slice_equal(key, records_key) && sink_scan_peek(&scan) != 'n') {
                                if (*ret_has_records)
                                        return SINK_SCAN_SYNTAX;
                                *ret_has_records = true;
                                enum sink_scan_result result = operation == SINK_PUT_RECORD
                                                                       ? sink_scan_record(&scan, firehose)
                                                                       : sink_scan_records(&scan, firehose);
                                if (result != SINK_SCAN_OK)
                                        return result;
                        } else if (!sink_scan_skip(&scan, SINK_SCAN_DEPTH_MAX)) {
                                return SINK_SCAN_SYNTAX;
                        }
                } while (sink_scan_take(&scan, ','));
                if (!sink_scan_take(&scan, '}'))
                        return SINK_SCAN_SYNTAX;
        }
        return sink_scan_peek(&scan) == 0 && scan.at == scan.end ? SINK_SCAN_OK : SINK_SCAN_SYNTAX;
}

static bool sink_firehose_stream_is_valid(struct slice stream)
{
        for (size_t i = 0; i < stream.len; i++) {
                uint8_t c = stream.ptr[i];
                if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
                      c == '.' || c == '-'))
                        return false;
        }
        return true;
}

/* Decodes every record: a malformed one refuses the call, so nothing may be stored before the last is decoded. */
static bool sink_firehose_decode(struct sink_firehose *firehose, enum sink_operation operation,
                                 struct sink_refusal *refusal)
{
        size_t used = 0;
        for (uint32_t i = 0; i < firehose->records_count; i++) {
                struct slice text = firehose->text[i];
                uint8_t *out = firehose->memory + used;
                size_t room = SINK_DECODED_BYTES - SINK_DECODED_SLACK_BYTES - used;
                size_t bytes = text.len == 0 ? 0 : codec_base64_decode(text, out, room);
                if (bytes == SIZE_MAX && memchr(text.ptr, '\\', text.len) != NULL) {
                        /* Some encoders write / as \/: decode the escapes in place, into this call's own body. */
                        uint8_t *raw = (uint8_t *)(uintptr_t)text.ptr;
                        size_t plain =
                                sink_scan_string_is_valid(text) ? codec_json_unescape(text, raw, text.len) : SIZE_MAX;
                        if (plain != SIZE_MAX)
                                bytes = plain == 0 ? 0 : codec_base64_decode(slice_of(raw, plain), out, room);
                }
                if (bytes == SIZE_MAX)
                        return sink_refuse(refusal, "SerializationException", "Data of record %u is not valid base64",
                                           i + 1);
                if (bytes > LIMIT_FIREHOSE_RECORD_BYTES_MAX) {
                        char where[32];
                        (void)snprintf(where, sizeof(where),
                                       operation == SINK_PUT_RECORD ? "record.data" : "records.%u.member.data", i + 1);
                        return sink_refuse(refusal, "ValidationException",
                                           "1 validation error detected: Value at '%s' failed to satisfy constraint: "
                                           "Member must have length less than or equal to %u",
                                           where, LIMIT_FIREHOSE_RECORD_BYTES_MAX);
                }
                firehose->data[i] = slice_of(out, bytes);
                used += bytes;
        }
        return true;
}

bool sink_firehose_parse(struct sink_firehose *firehose, enum sink_operation operation, struct slice body,
                         struct sink_refusal *ret_refusal)
{
        firehose->stream = SLICE_EMPTY;
        firehose->records_count = 0;
        if (body.len > LIMIT_FIREHOSE_CALL_BYTES_MAX)
                return sink_refuse(ret_refusal, "InvalidArgumentException", "Records size exceeds 4 MB limit");
        bool has_records = false;
        const char *records = operation == SINK_PUT_RECORD ? "record" : "records";
        switch (sink_scan_body(firehose, operation, body, &has_records)) {
        case SINK_SCAN_OK:
                break;
        case SINK_SCAN_SYNTAX:
                return sink_refuse(ret_refusal, "SerializationException",
                                   "The request is not valid JSON of this operation");
        case SINK_SCAN_NO_DATA:
                return sink_refuse(ret_refusal, "ValidationException",
                                   "1 validation error detected: Value null at '%s%s' failed to satisfy constraint: "
                                   "Member must not be null",
                                   records, operation == SINK_PUT_RECORD ? ".data" : ".member.data");
        case SINK_SCAN_TOO_MANY:
                return sink_refuse(ret_refusal, "ValidationException",
                                   "1 validation error detected: Value at 'records' failed to satisfy constraint: "
                                   "Member must have length less than or equal to %u",
                                   LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX);
        }
        if (firehose->stream.ptr == NULL)
                return sink_refuse(ret_refusal, "ValidationException",
                                   "1 validation error detected: Value null at 'deliveryStreamName' failed to satisfy "
                                   "constraint: Member must not be null");
        if (firehose->stream.len < 1 || firehose->stream.len > 64)
                return sink_refuse(ret_refusal, "ValidationException",
                                   "1 validation error detected: Value at 'deliveryStreamName' failed to satisfy "
                                   "constraint: Member must have length %s than or equal to %u",
                                   firehose->stream.len < 1 ? "greater" : "less", firehose->stream.len < 1 ? 1u : 64u);
        if (!sink_firehose_stream_is_valid(firehose->stream))
                return sink_refuse(ret_refusal, "ValidationException",
                                   "1 validation error detected: Value at 'deliveryStreamName' failed to satisfy "
                                   "constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+");
        if (!has_records)
                return sink_refuse(ret_refusal, "ValidationException",
                                   "1 validation error detected: Value null at '%s' failed to satisfy constraint: "
                                   "Member must not be null",
                                   records);
        if (firehose->records_count == 0)
                return sink_refuse(ret_refusal, "ValidationException",
                                   "1 validation error detected: Value '[]' at 'records' failed to satisfy "
                                   "constraint: Member must have length greater than or equal to 1");
        return sink_firehose_decode(firehose, operation, ret_refusal);
}

/* ---------------------------------------------------------------------------------------------- compressed records */

bool sink_firehose_is_gzip(struct slice record)
{
        return record.len >= 2 && record.ptr[0] == 0x1f && record.ptr[1] == 0x8b;
}

bool sink_firehose_unpack(struct sink_firehose *firehose, struct slice record, struct slice *ret_lines)
{
        struct inflate_state *inflate = &firehose->gunzip->inflate;
        size_t bytes = 0;
        ASSERT(record.len <= LIMIT_FIREHOSE_RECORD_BYTES_MAX);
        while (record.len > 0) {
                isal_inflate_init(inflate);
                inflate->crc_flag = ISAL_GZIP;                       /* its checksum and length, too */
                inflate->next_in = (uint8_t *)(uintptr_t)record.ptr; /* isa-l's parameter is not const; it only reads */
                inflate->avail_in = (uint32_t)record.len;
                inflate->next_out = firehose->gunzip->lines + bytes;
                inflate->avail_out = (uint32_t)(SINK_UNPACKED_BYTES_MAX - bytes);
                int result = isal_inflate(inflate);
                vector_clear_uppers();
                if (result != ISAL_DECOMP_OK || inflate->block_state != ISAL_BLOCK_FINISH)
                        return false;
                bytes += inflate->total_out;
                record = slice_of(inflate->next_in, inflate->avail_in);
        }
        *ret_lines = slice_of(firehose->gunzip->lines, bytes);
        return true;
}

/* ---------------------------------------------------------------------------------------------- answers */

#define SINK_RECORD_ID_BYTES 224u

static uint8_t *sink_put(uint8_t *out, const char *text)
{
        size_t len = strlen(text);
        memcpy(out, text, len);
        return out + len;
}

/* 224 characters of base64's alphabet, as AWS's are; unique by a counter behind 128 random bits of this thread. */
static uint8_t *sink_put_record_id(struct sink_firehose *firehose, uint8_t *out)
{
        static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        uint64_t words[3] = {firehose->record_id_next++, firehose->record_id_prefix[0], firehose->record_id_prefix[1]};
        for (unsigned i = 0; i < 33; i++) {
                out[i] = (uint8_t)alphabet[words[i / 11] & 63];
                words[i / 11] >>= 6;
        }
        for (unsigned filled = 33; filled < SINK_RECORD_ID_BYTES; filled *= 2)
                memcpy(out + filled, out, filled * 2 <= SINK_RECORD_ID_BYTES ? filled : SINK_RECORD_ID_BYTES - filled);
        return out + SINK_RECORD_ID_BYTES;
}

size_t sink_firehose_answer(struct sink_firehose *firehose, enum sink_operation operation,
                            const enum sink_entry *entries, uint8_t out[SINK_ANSWER_BYTES_MAX])
{
        uint8_t *at = out;
        if (operation == SINK_PUT_RECORD) {
                at = sink_put(at, "{\"Encrypted\":false,\"RecordId\":\"");
                at = sink_put_record_id(firehose, at);
                at = sink_put(at, "\"}");
                return (size_t)(at - out);
        }
        uint32_t failed = 0;
        for (uint32_t i = 0; i < firehose->records_count; i++)
                failed += entries[i] != SINK_ENTRY_STORED;
        at = sink_put(at, "{\"Encrypted\":false,\"FailedPutCount\":");
        at += codec_u64_write(failed, at);
        at = sink_put(at, ",\"RequestResponses\":[");
        for (uint32_t i = 0; i < firehose->records_count; i++) {
                if (i > 0)
                        *at++ = ',';
                switch (entries[i]) {
                case SINK_ENTRY_STORED:
                        at = sink_put(at, "{\"RecordId\":\"");
                        at = sink_put_record_id(firehose, at);
                        at = sink_put(at, "\"}");
                        break;
                case SINK_ENTRY_UNAVAILABLE:
                        at = sink_put(
                                at, "{\"ErrorCode\":\"ServiceUnavailableException\",\"ErrorMessage\":\"Slow down.\"}");
                        break;
                case SINK_ENTRY_FAILURE:
                        at = sink_put(
                                at,
                                "{\"ErrorCode\":\"InternalFailure\",\"ErrorMessage\":\"Internal service failure.\"}");
                        break;
                }
        }
        at = sink_put(at, "]}");
        ASSERT((size_t)(at - out) <= SINK_ANSWER_BYTES_MAX);
        return (size_t)(at - out);
}

size_t sink_firehose_refusal(const struct sink_refusal *refusal, uint8_t out[SINK_ANSWER_BYTES_MAX])
{
        uint8_t *at = sink_put(out, "{\"__type\":\"");
        at = sink_put(at, refusal->name);
        *at++ = '"';
        if (refusal->text[0] != 0) {
                at = sink_put(at, ",\"message\":");
                at += codec_json_string(slice_of_text(refusal->text), at, sizeof(refusal->text) * 6 + 2);
        }
        *at++ = '}';
        return (size_t)(at - out);
}

_Static_assert(LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX *(SINK_RECORD_ID_BYTES + 32u) + 256u <= SINK_ANSWER_BYTES_MAX,
               "the largest answer fits");
