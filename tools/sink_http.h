/* The receiving side of HTTP/1.1 for `sendring sink`: request heads and chunked bodies. Pure functions over bytes that
 * came from outside; nothing here allocates or keeps state beyond the structs given. Strict where request smuggling
 * would begin (two lengths, folded headers, bare LF), because a test endpoint that is lenient hides a sender's bugs. */
#ifndef SENDRING_TOOLS_SINK_HTTP_H
#define SENDRING_TOOLS_SINK_HTTP_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define SINK_HTTP_HEADERS_MAX 64u

struct sink_http_header {
        struct slice name, value; /* value without outer spaces */
};

/* All slices point into the bytes given to sink_http_parse(). */
struct sink_http_request {
        struct slice method;
        struct slice path;  /* up to '?' */
        struct slice query; /* behind '?' */
        struct sink_http_header headers[SINK_HTTP_HEADERS_MAX];
        uint32_t headers_count;
        uint32_t head_bytes;     /* where the body begins */
        uint64_t content_length; /* 0 when there is none */
        bool has_length, chunked, keep_alive, expects_continue;
};

/* Parses one request head. ERR_INCOMPLETE: no blank line yet; ERR_SYNTAX: answer 400 and close; ERR_TOO_BIG: more than
 * 64 headers (431); ERR_RANGE: a transfer coding other than chunked (501). Reads nothing beyond `bytes`. */
enum err_code sink_http_parse(struct slice bytes, struct sink_http_request *ret_request);

/* The value of the first header of that name in any case; a NULL pointer when there is none. */
struct slice sink_http_header(const struct sink_http_request *request, struct slice name);

/* The chunked decoder. Zero-initialise it. */
struct sink_http_chunks {
        uint64_t left; /* of the current chunk */
        uint8_t state;
        uint8_t digits;
        uint16_t line_bytes; /* of the size line or trailer: bounded */
};
#define SINK_HTTP_CHUNK_LINE_BYTES_MAX 1024u

/* Takes bytes from the front of *input and copies body bytes to `out` (may be the input's own memory when it starts at
 * or before it). ERR_INCOMPLETE: all input taken, more is to come; ERR_OK: the last chunk and its trailers have been
 * taken; ERR_TOO_BIG: the body does not fit `out_bytes`; ERR_SYNTAX. *ret_bytes: copied by this call. */
enum err_code sink_http_chunks_take(struct sink_http_chunks *chunks, struct slice *input, uint8_t *out,
                                    size_t out_bytes, size_t *ret_bytes);

#endif
