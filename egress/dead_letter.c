/* The lines and names of dead letters, for both sides. egress/dead_letters.c appends them. */
#include "egress/dead_letter.h"
#include "base/crc32c.h"

#include "codecs/codec.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* `,"crc32c":"01234567"}` */
#define LINE_TAIL_BYTES 21u

/* ---------------------------------------------------------------------------------------------- names */

/* The next part of *rest, up to '-', as a number without leading zeros, so that a name has one spelling. */
static bool dead_letter_number(struct slice *rest, uint64_t max, uint64_t *ret_number)
{
        struct slice digits = slice_cut(rest, '-');
        return slice_to_u64(digits, max, ret_number) && (digits.len == 1 || digits.ptr[0] != '0');
}

bool dead_letter_id_parse(struct slice text, struct dead_letter_id *ret_id)
{
        uint64_t worker, number, offset;
        if (!dead_letter_number(&text, UINT32_MAX, &worker) || !dead_letter_number(&text, UINT64_MAX, &number) ||
            !dead_letter_number(&text, UINT64_MAX, &offset) || text.ptr != NULL)
                return false;
        *ret_id = (struct dead_letter_id){.worker = (uint32_t)worker, .number = number, .offset = offset};
        return true;
}

void dead_letter_id_write(const struct dead_letter_id *id, char out[DEAD_LETTER_ID_BYTES_MAX])
{
        /* 10 + 20 + 20 digits at most: longer than any that can be, and cut then. */
        (void)snprintf(out, DEAD_LETTER_ID_BYTES_MAX, "%" PRIu32 "-%" PRIu64 "-%" PRIu64, id->worker, id->number,
                       id->offset);
}

bool dead_letter_file_parse(struct slice name, struct slice suffix, uint32_t *ret_worker, uint64_t *ret_number)
{
        static const struct slice prefix = {(const uint8_t *)"worker-", 7};
        uint64_t worker, number;
        if (!slice_has_prefix(name, prefix) || !slice_has_suffix(name, suffix) || name.len < prefix.len + suffix.len)
                return false;
        struct slice numbers = slice_of(name.ptr + prefix.len, name.len - prefix.len - suffix.len);
        if (!dead_letter_number(&numbers, UINT32_MAX, &worker) ||
            !dead_letter_number(&numbers, UINT64_MAX - 1, &number) || numbers.ptr != NULL || number == 0)
                return false;
        *ret_worker = (uint32_t)worker;
        *ret_number = number;
        return true;
}

void dead_letter_file_write(uint32_t worker, uint64_t number, const char *suffix, char out[64])
{
        (void)snprintf(out, 64, "worker-%" PRIu32 "-%" PRIu64 "%s", worker, number, suffix); /* 46 at most */
}

/* ---------------------------------------------------------------------------------------------- one letter */

static bool dead_letter_hex(struct slice text, uint64_t *ret_value)
{
        uint64_t value = 0;
        if (text.len == 0 || text.len > 16)
                return false;
        for (size_t i = 0; i < text.len; i++) {
                uint8_t byte = text.ptr[i];
                if (byte >= '0' && byte <= '9')
                        value = value << 4 | (uint64_t)(byte - '0');
                else if (byte >= 'a' && byte <= 'f')
                        value = value << 4 | (uint64_t)(byte - 'a' + 10);
                else
                        return false;
        }
        *ret_value = value;
        return true;
}

/* The checksum at the end of the line is that of what stands before. */
static bool dead_letter_is_whole(struct slice line, uint32_t *ret_crc)
{
        uint64_t crc;
        if (line.len <= LINE_TAIL_BYTES || line.len > DEAD_LETTER_LINE_BYTES_MAX)
                return false;
        struct slice tail = slice_from(line, line.len - LINE_TAIL_BYTES);
        if (!slice_has_prefix(tail, SLICE(",\"crc32c\":\"")) || !slice_has_suffix(tail, SLICE("\"}")) ||
            !dead_letter_hex(slice_of(tail.ptr + 11, 8), &crc))
                return false;
        *ret_crc = crc32c(0, line.ptr, line.len - LINE_TAIL_BYTES);
        return *ret_crc == (uint32_t)crc;
}

/* A text, unescaped where it lies. */
static bool dead_letter_text(const struct codec_json_reader *reader, struct slice *ret_text)
{
        uint8_t *at = (uint8_t *)(uintptr_t)reader->value.ptr; /* of the caller's line, which may be changed */
        size_t bytes = reader->escaped ? codec_json_unescape(reader->value, at, reader->value.len) : reader->value.len;
        if (bytes == SIZE_MAX)
                return false;
        *ret_text = slice_of(at, bytes);
        return true;
}

enum dead_letter_member {
        ID,
        TIME,
        CAUSE,
        DESTINATION,
        TARGET,
        SET,
        TYPE,
        EVENT_ID,
        ACCEPTED_MS,
        EVENT,
        MSGPACK,
        NONE
};
static const char *const dead_letter_members[NONE] = {
        [ID] = "id",
        [TIME] = "time",
        [CAUSE] = "cause",
        [DESTINATION] = "destination",
        [TARGET] = "target",
        [SET] = "set",
        [TYPE] = "type",
        [EVENT_ID] = "event_id",
        [EVENT] = "event",
        [MSGPACK] = "msgpack",
        [ACCEPTED_MS] = "accepted_ms",
};

static bool dead_letter_event_id(struct slice text, struct dead_letter *letter)
{
        return text.len == 33 && text.ptr[16] == '-' && dead_letter_hex(slice_head(text, 16), &letter->lane_id) &&
               dead_letter_hex(slice_from(text, 17), &letter->lane_position);
}

/* The value of a member that is a text. */
static bool dead_letter_take_text(struct dead_letter *letter, enum dead_letter_member member, struct slice text)
{
        switch (member) {
        case ID:
                return dead_letter_id_parse(text, &letter->id);
        case TIME:
                return codec_time_parse(text, &letter->time_ms);
        case CAUSE:
                letter->cause = text;
                return true;
        case DESTINATION:
                letter->destination = text;
                return true;
        case TARGET:
                letter->target = text;
                return true;
        case SET:
                letter->set = text;
                return text.len <= LIMIT_NAME_BYTES_MAX;
        case TYPE:
                letter->type = codec_event_type_parse(text);
                return letter->type != 0;
        case EVENT_ID:
                return dead_letter_event_id(text, letter);
        case MSGPACK:
                letter->msgpack = text;
                return true;
        case ACCEPTED_MS:
        case EVENT:
        case NONE:
                break;
        }
        return false;
}

/* The value behind a key. False: it is not what it must be. */
static bool dead_letter_value(struct codec_json_reader *reader, enum dead_letter_member member,
                              struct dead_letter *letter)
{
        if (member == NONE)
                return codec_json_skip(reader);
        if (member == EVENT) {
                while (reader->at < reader->text.len && reader->text.ptr[reader->at] != '{' &&
                       reader->text.ptr[reader->at] != 'n')
                        reader->at++;
                size_t from = reader->at;
                if (!codec_json_skip(reader))
                        return false;
                struct slice json = slice_of(reader->text.ptr + from, reader->at - from);
                letter->json = slice_equal(json, SLICE("null")) ? SLICE_EMPTY : json;
                return true;
        }
        enum codec_json_token token = codec_json_next(reader);
        if (token == CODEC_JSON_NULL)
                return member == DESTINATION || member == SET;
        if (member == ACCEPTED_MS) {
                uint64_t number;
                bool negative = slice_has_prefix(reader->value, SLICE("-"));
                if (token != CODEC_JSON_NUMBER ||
                    !slice_to_u64(slice_from(reader->value, negative ? 1 : 0), INT64_MAX, &number))
                        return false;
                letter->accepted_ms = negative ? -(int64_t)number : (int64_t)number;
                return true;
        }
        struct slice text;
        return token == CODEC_JSON_STRING && dead_letter_text(reader, &text) &&
               dead_letter_take_text(letter, member, text);
}

enum err_code dead_letter_parse(uint8_t *line, size_t line_bytes, struct dead_letter *ret_letter, struct err *reterr)
{
        struct dead_letter letter = {.type = 0};
        uint32_t seen = 0;
        if (!dead_letter_is_whole(slice_of(line, line_bytes), &letter.crc))
                return err_set(reterr, ERR_CORRUPT, "its checksum is wrong, or it has none");
        struct codec_json_reader reader;
        codec_json_reader_init(&reader, slice_of(line, line_bytes));
        if (codec_json_next(&reader) != CODEC_JSON_OBJECT_BEGIN)
                return err_set(reterr, ERR_SYNTAX, "it is no JSON object");
        enum codec_json_token token;
        while ((token = codec_json_next(&reader)) == CODEC_JSON_KEY) {
                int member = 0;
                while (member < NONE && !slice_equal(reader.value, slice_of_text(dead_letter_members[member])))
                        member++;
                if (member < NONE && (seen & 1u << member) != 0)
                        return err_set(reterr, ERR_DUPLICATE, "%s is there twice", dead_letter_members[member]);
                if (!dead_letter_value(&reader, (enum dead_letter_member)member, &letter))
                        return err_set(reterr, ERR_TYPE, "%s is not what it must be",
                                       member < NONE ? dead_letter_members[member] : "a member");
                if (member < NONE)
                        seen |= 1u << member;
        }
        if (token != CODEC_JSON_OBJECT_END || codec_json_next(&reader) != CODEC_JSON_END)
                return err_set(reterr, ERR_SYNTAX, "malformed JSON at byte %zu", reader.at);
        for (int member = 0; member < NONE; member++)
                if ((seen & 1u << member) == 0)
                        return err_set(reterr, ERR_MISSING, "it has no %s", dead_letter_members[member]);
        *ret_letter = letter;
        return ERR_OK;
}

bool dead_letter_event(const struct dead_letter *letter, uint8_t *out, struct slice *ret_event)
{
        size_t bytes = codec_base64_decode(letter->msgpack, out, LIMIT_EVENT_BYTES_MAX);
        if (bytes == SIZE_MAX || bytes == 0)
                return false;
        *ret_event = slice_of(out, bytes);
        return true;
}

/* ---------------------------------------------------------------------------------------------- settled */

uint32_t dead_letter_damaged_crc(struct slice line)
{
        return crc32c(0, line.ptr, line.len);
}

/* `{"offset":1532,"crc32c":"89abcdef","what":"replayed"` and then whatever else there is. */
bool dead_letter_settled_parse(struct slice line, struct dead_letter_settled *ret_settled)
{
        struct dead_letter_settled settled;
        uint64_t crc;
        if (!slice_has_prefix(line, SLICE("{\"offset\":")) || !slice_has_suffix(line, SLICE("\"}")))
                return false;
        line = slice_from(line, 10);
        if (!slice_to_u64(slice_cut(&line, ','), UINT64_MAX, &settled.offset) ||
            !slice_has_prefix(line, SLICE("\"crc32c\":\"")) ||
            !dead_letter_hex(slice_head(slice_from(line, 10), 8), &crc) ||
            !slice_has_prefix(slice_from(line, 18), SLICE("\",\"what\":\"")))
                return false;
        line = slice_from(line, 28);
        struct slice what = slice_cut(&line, '"');
        settled.crc = (uint32_t)crc;
        settled.dropped = slice_equal(what, SLICE("dropped"));
        if (!settled.dropped && !slice_equal(what, SLICE("replayed")))
                return false;
        *ret_settled = settled;
        return true;
}

size_t dead_letter_settled_write(const struct dead_letter_settled *settled, const struct dead_letter_id *id,
                                 int64_t time_ms, char out[DEAD_LETTER_SETTLED_BYTES_MAX])
{
        uint8_t time[32];
        char id_text[DEAD_LETTER_ID_BYTES_MAX];
        size_t time_bytes = codec_time_write(time_ms, time);
        dead_letter_id_write(id, id_text);
        int used = snprintf(out, DEAD_LETTER_SETTLED_BYTES_MAX,
                            "{\"offset\":%" PRIu64 ",\"crc32c\":\"%08" PRIx32
                            "\",\"what\":\"%s\",\"id\":\"%s\",\"time\":\"%.*s\"}\n",
                            settled->offset, settled->crc, settled->dropped ? "dropped" : "replayed", id_text,
                            (int)time_bytes, (const char *)time);
        return (size_t)used; /* 152 at most */
}
