#include "codecs/codec.h"
#include "codecs/json_text.h"

#define JSON_DEPTH_MAX 64u

/* What may come next. */
enum json_state {
        JSON_VALUE,         /* a value: at the start, behind a colon, behind a comma in an array */
        JSON_FIRST_ELEMENT, /* a value or ] */
        JSON_FIRST_KEY,     /* a key or } */
        JSON_KEY,           /* a key: behind a comma in an object */
        JSON_COMMA,         /* a comma or the end of the container, or of the text */
        JSON_FAILED,
};

void codec_json_reader_init(struct codec_json_reader *reader, struct slice text)
{
        *reader = (struct codec_json_reader){.text = text, .state = JSON_VALUE};
}

static enum codec_json_token json_fail(struct codec_json_reader *reader)
{
        reader->state = JSON_FAILED;
        return CODEC_JSON_ERROR;
}

/* The next byte that is no white space; -1 at the end. */
static int json_peek(struct codec_json_reader *reader)
{
        while (reader->at < reader->text.len) {
                uint8_t byte = reader->text.ptr[reader->at];
                if (byte != ' ' && byte != '\t' && byte != '\n' && byte != '\r')
                        return byte;
                reader->at++;
        }
        return -1;
}

static bool json_in_object(const struct codec_json_reader *reader)
{
        return (reader->objects >> (reader->depth - 1) & 1) != 0;
}

static enum codec_json_token json_open(struct codec_json_reader *reader, bool object)
{
        if (reader->depth == JSON_DEPTH_MAX)
                return json_fail(reader);
        uint64_t bit = UINT64_C(1) << reader->depth;
        reader->objects = object ? reader->objects | bit : reader->objects & ~bit;
        reader->depth++;
        reader->at++;
        reader->state = object ? JSON_FIRST_KEY : JSON_FIRST_ELEMENT;
        return object ? CODEC_JSON_OBJECT_BEGIN : CODEC_JSON_ARRAY_BEGIN;
}

static enum codec_json_token json_end(struct codec_json_reader *reader, bool object)
{
        reader->depth--;
        reader->at++;
        reader->state = JSON_COMMA;
        return object ? CODEC_JSON_OBJECT_END : CODEC_JSON_ARRAY_END;
}

static bool json_is_hex(uint8_t byte)
{
        return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f');
}

/* Checks the escape at `at` (behind the backslash) and returns its length, 0 when it is none. */
static size_t json_escape_bytes(struct slice text, size_t at)
{
        if (at >= text.len)
                return 0;
        switch (text.ptr[at]) {
        case '"':
        case '\\':
        case '/':
        case 'b':
        case 'f':
        case 'n':
        case 'r':
        case 't':
                return 1;
        case 'u':
                if (text.len - at < 5)
                        return 0;
                for (size_t i = 1; i < 5; i++)
                        if (!json_is_hex(text.ptr[at + i]))
                                return 0;
                return 5;
        default:
                return 0;
        }
}

/* How many bytes from `at` on are plain ASCII inside a string. */
static size_t json_plain(struct slice text, size_t at)
{
        size_t from = at;
#if JSON_TEXT_SSE2
        for (; text.len - at >= 16; at += 16) {
                unsigned special = json_text_mask(_mm_loadu_si128((const __m128i *)(const void *)(text.ptr + at)));
                if (special != 0)
                        return at - from + (unsigned)__builtin_ctz(special);
        }
#endif
        while (at < text.len && json_text_specials[text.ptr[at]] == 0)
                at++;
        return at - from;
}

static bool json_read_string(struct codec_json_reader *reader)
{
        struct slice text = reader->text;
        size_t start = reader->at + 1, at = start;
        reader->escaped = false;
        for (;;) {
                at += json_plain(text, at);
                if (at == text.len)
                        break;
                uint8_t byte = text.ptr[at];
                size_t bytes = 0, bad;
                if (byte == '"') {
                        reader->value = slice_of(text.ptr + start, at - start);
                        reader->at = at + 1;
                        return true;
                }
                if (byte == '\\') {
                        reader->escaped = true;
                        bytes = json_escape_bytes(text, ++at);
                } else if (byte >= 0x80) {
                        bytes = codec_utf8_sequence(text.ptr + at, text.ptr + text.len, &bad);
                }
                if (bytes == 0)
                        break;
                at += bytes;
        }
        reader->at = at;
        return false;
}

static size_t json_digits(struct slice text, size_t at)
{
        size_t from = at;
        while (at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9')
                at++;
        return at - from;
}

static bool json_read_number(struct codec_json_reader *reader)
{
        struct slice text = reader->text;
        size_t at = reader->at, digits;
        if (text.ptr[at] == '-')
                at++;
        digits = json_digits(text, at);
        if (digits == 0 || (digits > 1 && text.ptr[at] == '0'))
                return false;
        at += digits;
        if (at < text.len && text.ptr[at] == '.') {
                digits = json_digits(text, ++at);
                if (digits == 0)
                        return false;
                at += digits;
        }
        if (at < text.len && (text.ptr[at] | 0x20) == 'e') {
                at++;
                if (at < text.len && (text.ptr[at] == '+' || text.ptr[at] == '-'))
                        at++;
                digits = json_digits(text, at);
                if (digits == 0)
                        return false;
                at += digits;
        }
        reader->value = slice_of(text.ptr + reader->at, at - reader->at);
        reader->at = at;
        return true;
}

static bool json_read_word(struct codec_json_reader *reader, struct slice word)
{
        struct slice rest = slice_of(reader->text.ptr + reader->at, reader->text.len - reader->at);
        if (!slice_has_prefix(rest, word))
                return false;
        reader->at += word.len;
        return true;
}

static enum codec_json_token json_value(struct codec_json_reader *reader, int byte)
{
        enum codec_json_token token = CODEC_JSON_ERROR;
        switch (byte) {
        case '{':
                return json_open(reader, true);
        case '[':
                return json_open(reader, false);
        case '"':
                if (json_read_string(reader))
                        token = CODEC_JSON_STRING;
                break;
        case 't':
                if (json_read_word(reader, SLICE("true")))
                        token = CODEC_JSON_TRUE;
                break;
        case 'f':
                if (json_read_word(reader, SLICE("false")))
                        token = CODEC_JSON_FALSE;
                break;
        case 'n':
                if (json_read_word(reader, SLICE("null")))
                        token = CODEC_JSON_NULL;
                break;
        default:
                if ((byte == '-' || (byte >= '0' && byte <= '9')) && json_read_number(reader))
                        token = CODEC_JSON_NUMBER;
                break;
        }
        if (token == CODEC_JSON_ERROR)
                return json_fail(reader);
        reader->state = JSON_COMMA;
        return token;
}

static enum codec_json_token json_key(struct codec_json_reader *reader, int byte)
{
        if (byte != '"' || !json_read_string(reader))
                return json_fail(reader);
        if (json_peek(reader) != ':')
                return json_fail(reader);
        reader->at++;
        reader->state = JSON_VALUE;
        return CODEC_JSON_KEY;
}

enum codec_json_token codec_json_next(struct codec_json_reader *reader)
{
        int byte = json_peek(reader);
        switch ((enum json_state)reader->state) {
        case JSON_VALUE:
                return json_value(reader, byte);
        case JSON_FIRST_ELEMENT:
                return byte == ']' ? json_end(reader, false) : json_value(reader, byte);
        case JSON_FIRST_KEY:
                return byte == '}' ? json_end(reader, true) : json_key(reader, byte);
        case JSON_KEY:
                return json_key(reader, byte);
        case JSON_COMMA:
                if (reader->depth == 0)
                        return byte < 0 ? CODEC_JSON_END : json_fail(reader);
                if (byte == (json_in_object(reader) ? '}' : ']'))
                        return json_end(reader, json_in_object(reader));
                if (byte != ',')
                        return json_fail(reader);
                reader->at++;
                byte = json_peek(reader);
                return json_in_object(reader) ? json_key(reader, byte) : json_value(reader, byte);
        case JSON_FAILED:
                return CODEC_JSON_ERROR;
        }
        return json_fail(reader);
}

bool codec_json_skip(struct codec_json_reader *reader)
{
        uint32_t depth = reader->depth;
        do {
                enum codec_json_token token = codec_json_next(reader);
                if (token == CODEC_JSON_ERROR || token == CODEC_JSON_END || reader->depth < depth)
                        return false;
        } while (reader->depth > depth || reader->state == JSON_VALUE);
        return true;
}
