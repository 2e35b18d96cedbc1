#include "tools/sink_http.h"

/* RFC 9110 token characters. */
static bool sink_http_is_token(struct slice s)
{
        for (size_t i = 0; i < s.len; i++) {
                uint8_t c = s.ptr[i];
                bool alnum = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
                if (!alnum && (c == 0 || strchr("!#$%&'*+-.^_`|~", c) == NULL))
                        return false;
        }
        return s.len > 0;
}

/* Header values and targets: no control bytes but a tab. */
static bool sink_http_is_text(struct slice s)
{
        for (size_t i = 0; i < s.len; i++)
                if ((s.ptr[i] < 0x20 && s.ptr[i] != '\t') || s.ptr[i] == 0x7f)
                        return false;
        return true;
}

/* Cuts one line ended by CR LF; false when there is none or when a bare LF ends it. */
static bool sink_http_line(struct slice *rest, struct slice *ret_line)
{
        size_t end = slice_find_byte(*rest, '\n');
        if (end == rest->len || end == 0 || rest->ptr[end - 1] != '\r')
                return false;
        *ret_line = slice_head(*rest, end - 1);
        *rest = slice_from(*rest, end + 1);
        return true;
}

static enum err_code sink_http_request_line(struct slice line, struct sink_http_request *request)
{
        request->method = slice_cut(&line, ' ');
        struct slice target = slice_cut(&line, ' ');
        if (!sink_http_is_token(request->method) || target.len == 0 || !sink_http_is_text(target))
                return ERR_SYNTAX;
        if (slice_equal(line, SLICE("HTTP/1.1")))
                request->keep_alive = true;
        else if (!slice_equal(line, SLICE("HTTP/1.0")))
                return ERR_SYNTAX;
        request->path = slice_cut(&target, '?');
        request->query = target;
        return ERR_OK;
}

/* What a header changes in how the body is read. */
static enum err_code sink_http_apply(struct sink_http_request *request, const struct sink_http_header *header)
{
        if (slice_equal_ignore_case(header->name, SLICE("content-length"))) {
                uint64_t length;
                if (!slice_to_u64(header->value, UINT64_MAX, &length))
                        return ERR_SYNTAX;
                if (request->has_length && length != request->content_length)
                        return ERR_SYNTAX;
                request->has_length = true;
                request->content_length = length;
        } else if (slice_equal_ignore_case(header->name, SLICE("transfer-encoding"))) {
                if (!slice_equal_ignore_case(header->value, SLICE("chunked")) || request->chunked)
                        return ERR_RANGE;
                request->chunked = true;
        } else if (slice_equal_ignore_case(header->name, SLICE("expect"))) {
                request->expects_continue = true;
        } else if (slice_equal_ignore_case(header->name, SLICE("connection"))) {
                struct slice list = header->value;
                while (list.ptr != NULL) {
                        struct slice word = slice_trim(slice_cut(&list, ','));
                        if (slice_equal_ignore_case(word, SLICE("close")))
                                request->keep_alive = false;
                        else if (slice_equal_ignore_case(word, SLICE("keep-alive")))
                                request->keep_alive = true;
                }
        }
        return ERR_OK;
}

enum err_code sink_http_parse(struct slice bytes, struct sink_http_request *ret_request)
{
        size_t end = slice_find(bytes, SLICE("\r\n\r\n"));
        if (end == bytes.len)
                return ERR_INCOMPLETE;
        struct sink_http_request request = {.head_bytes = (uint32_t)(end + 4)};
        struct slice rest = slice_head(bytes, end + 2);
        struct slice line;
        if (end + 4 > UINT32_MAX || !sink_http_line(&rest, &line))
                return ERR_SYNTAX;
        enum err_code code = sink_http_request_line(line, &request);
        while (code == ERR_OK && rest.len > 0) {
                if (request.headers_count == SINK_HTTP_HEADERS_MAX)
                        return ERR_TOO_BIG;
                struct sink_http_header *header = &request.headers[request.headers_count++];
                if (!sink_http_line(&rest, &line))
                        return ERR_SYNTAX;
                size_t colon = slice_find_byte(line, ':');
                if (colon == line.len)
                        return ERR_SYNTAX;
                header->name = slice_head(line, colon);
                header->value = slice_trim(slice_from(line, colon + 1));
                if (!sink_http_is_token(header->name) || !sink_http_is_text(header->value))
                        return ERR_SYNTAX;
                code = sink_http_apply(&request, header);
        }
        if (code != ERR_OK)
                return code;
        if (request.chunked && request.has_length)
                return ERR_SYNTAX;
        *ret_request = request;
        return ERR_OK;
}

struct slice sink_http_header(const struct sink_http_request *request, struct slice name)
{
        for (uint32_t i = 0; i < request->headers_count; i++)
                if (slice_equal_ignore_case(request->headers[i].name, name))
                        return request->headers[i].value;
        return SLICE_EMPTY;
}

enum sink_http_chunk_state {
        SINK_CHUNK_SIZE = 0,
        SINK_CHUNK_EXTENSION,
        SINK_CHUNK_SIZE_LF,
        SINK_CHUNK_DATA,
        SINK_CHUNK_DATA_CR,
        SINK_CHUNK_DATA_LF,
        SINK_CHUNK_TRAILER_START, /* at the first byte of a trailer line */
        SINK_CHUNK_TRAILER,
        SINK_CHUNK_TRAILER_LF,
        SINK_CHUNK_END_LF,
        SINK_CHUNK_DONE,
};

static int sink_http_hex(uint8_t c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte outside chunk data. */
static enum err_code sink_http_chunk_byte(struct sink_http_chunks *chunks, uint8_t c)
{
        int digit;
        if (++chunks->line_bytes > SINK_HTTP_CHUNK_LINE_BYTES_MAX)
                return ERR_SYNTAX;
        switch ((enum sink_http_chunk_state)chunks->state) {
        case SINK_CHUNK_SIZE:
                digit = sink_http_hex(c);
                if (digit >= 0 && chunks->digits < 15) {
                        chunks->left = chunks->left * 16 + (uint64_t)digit;
                        chunks->digits++;
                        return ERR_OK;
                }
                if (digit >= 0 || chunks->digits == 0)
                        return ERR_SYNTAX;
                if (c == '\r')
                        chunks->state = SINK_CHUNK_SIZE_LF;
                else if (c == ';' || c == ' ' || c == '\t')
                        chunks->state = SINK_CHUNK_EXTENSION;
                else
                        return ERR_SYNTAX;
                return ERR_OK;
        case SINK_CHUNK_EXTENSION:
                if (c == '\n')
                        return ERR_SYNTAX;
                if (c == '\r')
                        chunks->state = SINK_CHUNK_SIZE_LF;
                return ERR_OK;
        case SINK_CHUNK_SIZE_LF:
                chunks->state = chunks->left == 0 ? SINK_CHUNK_TRAILER_START : SINK_CHUNK_DATA;
                chunks->line_bytes = 0;
                return c == '\n' ? ERR_OK : ERR_SYNTAX;
        case SINK_CHUNK_DATA_CR:
                chunks->state = SINK_CHUNK_DATA_LF;
                return c == '\r' ? ERR_OK : ERR_SYNTAX;
        case SINK_CHUNK_DATA_LF:
                chunks->state = SINK_CHUNK_SIZE;
                chunks->digits = 0;
                chunks->line_bytes = 0;
                return c == '\n' ? ERR_OK : ERR_SYNTAX;
        case SINK_CHUNK_TRAILER_START:
                if (c == '\n')
                        return ERR_SYNTAX;
                chunks->state = c == '\r' ? SINK_CHUNK_END_LF : SINK_CHUNK_TRAILER;
                return ERR_OK;
        case SINK_CHUNK_TRAILER:
                if (c == '\n')
                        return ERR_SYNTAX;
                if (c == '\r')
                        chunks->state = SINK_CHUNK_TRAILER_LF;
                return ERR_OK;
        case SINK_CHUNK_TRAILER_LF:
                /* line_bytes runs on: all trailers together are bounded. */
                chunks->state = SINK_CHUNK_TRAILER_START;
                return c == '\n' ? ERR_OK : ERR_SYNTAX;
        case SINK_CHUNK_END_LF:
                chunks->state = SINK_CHUNK_DONE;
                return c == '\n' ? ERR_OK : ERR_SYNTAX;
        case SINK_CHUNK_DATA:
        case SINK_CHUNK_DONE:
                break;
        }
        return ERR_SYNTAX;
}

enum err_code sink_http_chunks_take(struct sink_http_chunks *chunks, struct slice *input, uint8_t *out,
                                    size_t out_bytes, size_t *ret_bytes)
{
        size_t copied = 0;
        enum err_code code = ERR_OK;
        while (chunks->state != SINK_CHUNK_DONE) {
                if (input->len == 0) {
                        code = ERR_INCOMPLETE;
                        break;
                }
                if (chunks->state == SINK_CHUNK_DATA) {
                        size_t take = chunks->left < input->len ? (size_t)chunks->left : input->len;
                        if (take > out_bytes - copied) {
                                code = ERR_TOO_BIG;
                                break;
                        }
                        memmove(out + copied, input->ptr, take);
                        copied += take;
                        *input = slice_of(input->ptr + take, input->len - take);
                        chunks->left -= take;
                        if (chunks->left == 0)
                                chunks->state = SINK_CHUNK_DATA_CR;
                        continue;
                }
                code = sink_http_chunk_byte(chunks, input->ptr[0]);
                if (code != ERR_OK)
                        break;
                *input = slice_of(input->ptr + 1, input->len - 1);
        }
        *ret_bytes = copied;
        return code;
}
