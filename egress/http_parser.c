/* The response parser of http.h: a machine over lines and counted bytes.
 *
 * Lines are gathered in `head` up to their LF and looked at whole, so it does not matter how the input is cut. Status
 * line and fields stay there, because the response's slices point to them; a chunk's size line is taken back once it is
 * read; trailers are appended, checked and ignored.
 */
#include "base/assert.h"
#include "base/limits.h"
#include "egress/http.h"

#include <stdlib.h>

/* A chunk's size line is at most this long even when the head has used up its room. */
#define HTTP_CHUNK_LINE_BYTES_MAX 64u
#define HTTP_CHUNK_DIGITS_MAX     16u
#define HTTP_HEAD_BYTES_MIN       64u
/* Interim answers before the final one; servers send one at most in practice. */
#define HTTP_INTERIM_MAX 8u

enum http_parser_state {
        HTTP_PARSE_STATUS,      /* status line */
        HTTP_PARSE_FIELDS,      /* fields, up to the empty line */
        HTTP_PARSE_COUNTED,     /* body of `left` bytes */
        HTTP_PARSE_UNTIL_CLOSE, /* body up to the end of the connection */
        HTTP_PARSE_CHUNK_SIZE,  /* a chunk's size line */
        HTTP_PARSE_CHUNK_DATA,  /* `left` bytes of a chunk */
        HTTP_PARSE_CHUNK_END,   /* the empty line behind a chunk's data */
        HTTP_PARSE_TRAILERS,    /* fields behind the last chunk */
        HTTP_PARSE_DONE,
        HTTP_PARSE_FAILED, /* `failure` says how */
};

struct http_parser {
        enum http_parser_state state;
        enum err_code failure;
        struct http_response response;

        /* What the fields of this head have said so far. */
        bool version_1_0, close, keep_alive, chunked, content_length_seen;
        uint64_t content_length;
        uint32_t interim_count;

        uint64_t left;          /* of a counted body or a chunk */
        size_t extension_bytes; /* of all chunks' size lines, beyond their digits */
        size_t head_bytes_max, head_len, line_start;
        size_t body_bytes_max, body_len;
        uint8_t *body;
        uint8_t head[]; /* head_bytes_max + HTTP_CHUNK_LINE_BYTES_MAX */
};

size_t http_parser_memory_bytes(size_t head_bytes_max, size_t body_bytes_max)
{
        return sizeof(struct http_parser) + head_bytes_max + HTTP_CHUNK_LINE_BYTES_MAX + body_bytes_max;
}

enum err_code http_parser_create(size_t head_bytes_max, size_t body_bytes_max, struct http_parser **ret_parser)
{
        ASSERT(head_bytes_max >= HTTP_HEAD_BYTES_MIN && head_bytes_max <= LIMIT_HTTP_HEAD_BYTES_MAX);
        ASSERT(body_bytes_max <= LIMIT_HTTP_BODY_BYTES_MAX);
        struct http_parser *parser = malloc(sizeof(*parser) + head_bytes_max + HTTP_CHUNK_LINE_BYTES_MAX);
        uint8_t *body = malloc(body_bytes_max == 0 ? 1 : body_bytes_max);
        if (parser == NULL || body == NULL) {
                free(parser);
                free(body);
                return ERR_MEMORY;
        }
        parser->head_bytes_max = head_bytes_max;
        parser->body_bytes_max = body_bytes_max;
        parser->body = body;
        http_parser_reset(parser);
        *ret_parser = parser;
        return ERR_OK;
}

void http_parser_free(struct http_parser *parser)
{
        if (parser == NULL)
                return;
        free(parser->body);
        free(parser);
}

static void http_parser_reset_head(struct http_parser *parser)
{
        parser->state = HTTP_PARSE_STATUS;
        parser->response = (struct http_response){0};
        parser->version_1_0 = parser->close = parser->keep_alive = parser->chunked = false;
        parser->content_length_seen = false;
        parser->content_length = 0;
        parser->head_len = parser->line_start = 0;
}

void http_parser_reset(struct http_parser *parser)
{
        http_parser_reset_head(parser);
        parser->failure = ERR_OK;
        parser->interim_count = 0;
        parser->left = 0;
        parser->extension_bytes = 0;
        parser->body_len = 0;
}

static bool http_is_digit(uint8_t byte)
{
        return byte >= '0' && byte <= '9';
}

/* tchar of RFC 9110 */
static bool http_is_token_byte(uint8_t byte)
{
        if (http_is_digit(byte) || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z'))
                return true;
        return byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL;
}

/* What a field's value or a reason may hold: no control characters save the tab. */
static bool http_is_text_byte(uint8_t byte)
{
        return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

static bool http_is_text(struct slice text)
{
        for (size_t i = 0; i < text.len; i++) {
                if (!http_is_text_byte(text.ptr[i]))
                        return false;
        }
        return true;
}

static struct slice http_trim_blanks(struct slice s)
{
        while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
                s = slice_from(s, 1);
        while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
                s.len--;
        return s;
}

/* "HTTP/1.x SSS[ reason]" */
static enum err_code http_parse_status(struct http_parser *parser, struct slice line)
{
        if (line.len < 12 || !slice_has_prefix(line, SLICE("HTTP/1.")) || !http_is_digit(line.ptr[7]) ||
            line.ptr[8] != ' ')
                return ERR_PROTOCOL;
        parser->version_1_0 = line.ptr[7] == '0';
        uint64_t status = 0;
        if (!slice_to_u64(slice_of(line.ptr + 9, 3), 599, &status) || status < 100 || status == 101)
                return ERR_PROTOCOL; /* 101: nobody asked for another protocol */
        if (line.len > 12 && (line.ptr[12] != ' ' || !http_is_text(slice_from(line, 13))))
                return ERR_PROTOCOL;
        parser->response.status = (uint16_t)status;
        parser->state = HTTP_PARSE_FIELDS;
        return ERR_OK;
}

static void http_keep_first(struct slice *slot, struct slice value)
{
        if (slot->ptr == NULL)
                *slot = value;
}

/* Digits only, and few enough for 64 bits. */
static bool http_is_number(struct slice value)
{
        uint64_t number = 0;
        return slice_to_u64(value, UINT64_MAX, &number);
}

static enum err_code http_parse_content_length(struct http_parser *parser, struct slice value)
{
        if (value.len == 0)
                return ERR_PROTOCOL;
        uint64_t length = 0;
        if (!slice_to_u64(value, UINT64_MAX, &length)) {
                for (size_t i = 0; i < value.len; i++) {
                        if (!http_is_digit(value.ptr[i]))
                                return ERR_PROTOCOL;
                }
                return ERR_TOO_BIG;
        }
        if (parser->content_length_seen && parser->content_length != length)
                return ERR_PROTOCOL;
        parser->content_length_seen = true;
        parser->content_length = length;
        return ERR_OK;
}

static void http_parse_connection(struct http_parser *parser, struct slice value)
{
        struct slice rest = value;
        while (rest.ptr != NULL) {
                struct slice option = http_trim_blanks(slice_cut(&rest, ','));
                if (slice_equal_ignore_case(option, SLICE("close")))
                        parser->close = true;
                if (slice_equal_ignore_case(option, SLICE("keep-alive")))
                        parser->keep_alive = true;
        }
}

static enum err_code http_parse_field(struct http_parser *parser, struct slice line, bool trailer)
{
        size_t colon = slice_find_byte(line, ':');
        if (colon == 0 || colon == line.len)
                return ERR_PROTOCOL;
        struct slice name = slice_head(line, colon);
        /* A blank before the colon, and a folded line, which begins with one, fail here. */
        for (size_t i = 0; i < name.len; i++) {
                if (!http_is_token_byte(name.ptr[i]))
                        return ERR_PROTOCOL;
        }
        struct slice value = http_trim_blanks(slice_from(line, colon + 1));
        if (!http_is_text(value))
                return ERR_PROTOCOL;
        /* Nothing that matters may come behind the body it would have governed. */
        if (trailer)
                return ERR_OK;
        struct http_response *response = &parser->response;
        if (value.ptr == NULL)
                value.ptr = line.ptr; /* "name:" at the line's end: present and empty */
        if (slice_equal_ignore_case(name, SLICE("content-length")))
                return http_parse_content_length(parser, value);
        if (slice_equal_ignore_case(name, SLICE("transfer-encoding"))) {
                if (parser->chunked || parser->version_1_0 || !slice_equal_ignore_case(value, SLICE("chunked")))
                        return ERR_PROTOCOL;
                parser->chunked = true;
        } else if (slice_equal_ignore_case(name, SLICE("connection"))) {
                http_parse_connection(parser, value);
        } else if (slice_equal_ignore_case(name, SLICE("x-amzn-requestid")) ||
                   slice_equal_ignore_case(name, SLICE("x-amz-request-id"))) {
                http_keep_first(&response->request_id, value);
        } else if (slice_equal_ignore_case(name, SLICE("x-amzn-errortype"))) {
                http_keep_first(&response->error_type, slice_head(value, slice_find_byte(value, ':')));
        } else if (slice_equal_ignore_case(name, SLICE("date"))) {
                http_keep_first(&response->date, value);
        } else if (slice_equal_ignore_case(name, SLICE("x-amz-retry-after"))) {
                if (http_is_number(value))
                        http_keep_first(&response->retry_after_ms, value);
        } else if (slice_equal_ignore_case(name, SLICE("retry-after"))) {
                http_keep_first(&response->retry_after, value);
        } else if (slice_equal_ignore_case(name, SLICE("content-type"))) {
                http_keep_first(&response->content_type, value);
        } else if (slice_equal_ignore_case(name, SLICE("smithy-protocol"))) {
                http_keep_first(&response->smithy_protocol, value);
        }
        return ERR_OK;
}

static void http_parse_done(struct http_parser *parser)
{
        parser->response.body = slice_of(parser->body, parser->body_len);
        parser->state = HTTP_PARSE_DONE;
}

/* The empty line behind the fields: decides how the body ends (RFC 9112, 6.3). */
static enum err_code http_parse_head_end(struct http_parser *parser)
{
        uint16_t status = parser->response.status;
        if (parser->chunked && parser->content_length_seen)
                return ERR_PROTOCOL;
        if (status < 200) {
                if (++parser->interim_count > HTTP_INTERIM_MAX)
                        return ERR_PROTOCOL;
                http_parser_reset_head(parser);
                return ERR_OK;
        }
        parser->response.keep_alive = !parser->close && (!parser->version_1_0 || parser->keep_alive);
        if (status == 204 || status == 304) {
                http_parse_done(parser);
        } else if (parser->chunked) {
                parser->state = HTTP_PARSE_CHUNK_SIZE;
        } else if (parser->content_length_seen) {
                if (parser->content_length > parser->body_bytes_max)
                        return ERR_TOO_BIG;
                parser->left = parser->content_length;
                parser->state = HTTP_PARSE_COUNTED;
                if (parser->left == 0)
                        http_parse_done(parser);
        } else {
                parser->response.keep_alive = false;
                parser->state = HTTP_PARSE_UNTIL_CLOSE;
        }
        return ERR_OK;
}

static int http_hex_value(uint8_t byte)
{
        if (http_is_digit(byte))
                return byte - '0';
        if (byte >= 'a' && byte <= 'f')
                return byte - 'a' + 10;
        if (byte >= 'A' && byte <= 'F')
                return byte - 'A' + 10;
        return -1;
}

/* "HEX[ ;extension]" */
static enum err_code http_parse_chunk_size(struct http_parser *parser, struct slice line)
{
        uint64_t size = 0;
        size_t digits = 0;
        while (digits < line.len && http_hex_value(line.ptr[digits]) >= 0) {
                if (digits == HTTP_CHUNK_DIGITS_MAX)
                        return ERR_TOO_BIG;
                size = size << 4 | (uint64_t)http_hex_value(line.ptr[digits++]);
        }
        struct slice extension = slice_from(line, digits);
        if (digits == 0 || !http_is_text(extension))
                return ERR_PROTOCOL;
        struct slice trimmed = http_trim_blanks(extension);
        if (trimmed.len > 0 && trimmed.ptr[0] != ';')
                return ERR_PROTOCOL;
        /* Else a peer could feed us a megabyte in front of every byte. */
        parser->extension_bytes += extension.len;
        if (parser->extension_bytes > parser->head_bytes_max)
                return ERR_TOO_BIG;
        if (size > parser->body_bytes_max - parser->body_len)
                return ERR_TOO_BIG;
        parser->left = size;
        parser->state = size == 0 ? HTTP_PARSE_TRAILERS : HTTP_PARSE_CHUNK_DATA;
        return ERR_OK;
}

/* A whole line, without its CR LF. */
static enum err_code http_parse_line(struct http_parser *parser, struct slice line)
{
        switch (parser->state) {
        case HTTP_PARSE_STATUS:
                return http_parse_status(parser, line);
        case HTTP_PARSE_FIELDS:
                return line.len == 0 ? http_parse_head_end(parser) : http_parse_field(parser, line, false);
        case HTTP_PARSE_CHUNK_SIZE:
                return http_parse_chunk_size(parser, line);
        case HTTP_PARSE_CHUNK_END:
                parser->state = HTTP_PARSE_CHUNK_SIZE;
                return line.len == 0 ? ERR_OK : ERR_PROTOCOL;
        case HTTP_PARSE_TRAILERS:
                if (line.len > 0)
                        return http_parse_field(parser, line, true);
                http_parse_done(parser);
                return ERR_OK;
        case HTTP_PARSE_COUNTED:
        case HTTP_PARSE_UNTIL_CLOSE:
        case HTTP_PARSE_CHUNK_DATA:
        case HTTP_PARSE_DONE:
        case HTTP_PARSE_FAILED:
                break;
        }
        ASSERT(false); /* not a state of lines */
        return ERR_BUG;
}

/* A status line that cannot become one is refused at its first wrong byte, or a peer that speaks another protocol and
 * then waits would look like a slow one. */
static bool http_status_begins_well(const struct http_parser *parser)
{
        struct slice expected = SLICE("HTTP/1.");
        size_t len = parser->head_len < expected.len ? parser->head_len : expected.len;
        return memcmp(parser->head, expected.ptr, len) == 0;
}

/* Takes bytes up to the line's LF, and looks at the line when it is whole. */
static enum err_code http_gather_line(struct http_parser *parser, struct slice *bytes)
{
        bool of_chunk = parser->state == HTTP_PARSE_CHUNK_SIZE || parser->state == HTTP_PARSE_CHUNK_END;
        size_t end = of_chunk ? parser->line_start + HTTP_CHUNK_LINE_BYTES_MAX : parser->head_bytes_max;
        size_t room = end - parser->head_len;
        size_t at = slice_find_byte(*bytes, '\n');
        bool whole = at < bytes->len;
        size_t take = whole ? at + 1 : bytes->len;
        bool fits = take <= room;
        if (!fits)
                take = room;
        memcpy(parser->head + parser->head_len, bytes->ptr, take);
        parser->head_len += take;
        *bytes = slice_from(*bytes, take);
        if (parser->state == HTTP_PARSE_STATUS && !http_status_begins_well(parser))
                return ERR_PROTOCOL;
        if (!fits)
                return ERR_TOO_BIG;
        if (!whole)
                return ERR_OK;
        struct slice line = slice_of(parser->head + parser->line_start, parser->head_len - parser->line_start);
        if (line.len < 2 || line.ptr[line.len - 2] != '\r')
                return ERR_PROTOCOL;
        line.len -= 2;
        if (of_chunk) {
                parser->head_len = parser->line_start; /* the bytes stay readable below */
        } else {
                parser->line_start = parser->head_len;
        }
        return http_parse_line(parser, line);
}

static void http_gather_body(struct http_parser *parser, struct slice *bytes, size_t take)
{
        memcpy(parser->body + parser->body_len, bytes->ptr, take);
        parser->body_len += take;
        *bytes = slice_from(*bytes, take);
}

/* One step; consumes at least one byte of `bytes`, which is not empty, or fails. */
static enum err_code http_parser_step(struct http_parser *parser, struct slice *bytes)
{
        size_t take = bytes->len;
        switch (parser->state) {
        case HTTP_PARSE_STATUS:
        case HTTP_PARSE_FIELDS:
        case HTTP_PARSE_CHUNK_SIZE:
        case HTTP_PARSE_CHUNK_END:
        case HTTP_PARSE_TRAILERS:
                return http_gather_line(parser, bytes);
        case HTTP_PARSE_COUNTED:
        case HTTP_PARSE_CHUNK_DATA:
                if (take > parser->left)
                        take = (size_t)parser->left;
                http_gather_body(parser, bytes, take);
                parser->left -= take;
                if (parser->left == 0 && parser->state == HTTP_PARSE_COUNTED)
                        http_parse_done(parser);
                else if (parser->left == 0)
                        parser->state = HTTP_PARSE_CHUNK_END;
                return ERR_OK;
        case HTTP_PARSE_UNTIL_CLOSE:
                if (take > parser->body_bytes_max - parser->body_len)
                        return ERR_TOO_BIG;
                http_gather_body(parser, bytes, take);
                return ERR_OK;
        case HTTP_PARSE_DONE:
        case HTTP_PARSE_FAILED:
                break;
        }
        ASSERT(false); /* not a state that takes bytes */
        return ERR_BUG;
}

enum err_code http_parser_feed(struct http_parser *parser, struct slice bytes, size_t *ret_used)
{
        struct slice rest = bytes;
        if (parser->state == HTTP_PARSE_FAILED)
                return parser->failure;
        while (rest.len > 0 && parser->state != HTTP_PARSE_DONE) {
                enum err_code code = http_parser_step(parser, &rest);
                if (code != ERR_OK) {
                        parser->state = HTTP_PARSE_FAILED;
                        parser->failure = code;
                        return code;
                }
        }
        *ret_used = bytes.len - rest.len;
        return parser->state == HTTP_PARSE_DONE ? ERR_OK : ERR_INCOMPLETE;
}

enum err_code http_parser_end(struct http_parser *parser)
{
        if (parser->state == HTTP_PARSE_FAILED)
                return parser->failure;
        if (parser->state == HTTP_PARSE_UNTIL_CLOSE)
                http_parse_done(parser);
        return parser->state == HTTP_PARSE_DONE ? ERR_OK : ERR_RESET;
}

const struct http_response *http_parser_response(const struct http_parser *parser)
{
        ASSERT(parser->state == HTTP_PARSE_DONE);
        return &parser->response;
}
