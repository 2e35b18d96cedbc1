/* The HTTP that the sink reads: heads and chunked bodies, from peers that write whatever they like. */
#include "tools/sink_http.h"

#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

Test(sink_http, heads_are_read_strictly, .timeout = 20)
{
        static const struct {
                const char *text;
                enum err_code code;
        } cases[] = {
                {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", ERR_OK},
                {"POST /?a=b HTTP/1.0\r\n\r\n", ERR_OK},
                {"POST / HTTP/1.1\r\nHost: a\r\n", ERR_INCOMPLETE},
                {"", ERR_INCOMPLETE},
                {"POST / HTTP/1.1\nHost: a\n\n", ERR_INCOMPLETE},
                {"POST / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", ERR_SYNTAX},
                {"POST  / HTTP/1.1\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/2\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/1.1 \r\n\r\n", ERR_SYNTAX},
                {"POST /\r\n\r\n", ERR_SYNTAX},
                {"\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/1.1\r\nNo colon\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/1.1\r\nName : a\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/1.1\r\n: b\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", ERR_OK},
                {"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", ERR_SYNTAX},
                {"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", ERR_OK},
                {"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", ERR_RANGE},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct slice input = guard_page_copy(slice_of_text(cases[i].text));
                struct sink_http_request request;
                cr_assert_eq(sink_http_parse(input, &request), cases[i].code, "case %zu", i);
        }
}

Test(sink_http, a_head_in_pieces_is_incomplete_until_its_last_byte, .timeout = 20)
{
        struct slice text =
                SLICE("POST /p?q HTTP/1.1\r\nHost: h\r\nX-Empty:\r\nConnection: close\r\nContent-Length: 12\r\n\r\n");
        struct sink_http_request request;
        for (size_t len = 0; len < text.len; len++) {
                struct slice input = guard_page_copy(slice_head(text, len));
                cr_assert_eq(sink_http_parse(input, &request), ERR_INCOMPLETE);
        }
        cr_assert_eq(sink_http_parse(text, &request), ERR_OK);
        cr_assert(slice_equal(request.path, SLICE("/p")) && slice_equal(request.query, SLICE("q")));
        cr_assert(slice_equal(sink_http_header(&request, SLICE("HOST")), SLICE("h")));
        cr_assert_eq(sink_http_header(&request, SLICE("x-empty")).len, 0);
        cr_assert_null(sink_http_header(&request, SLICE("none")).ptr);
        cr_assert(request.content_length == 12 && request.head_bytes == text.len && !request.keep_alive);
}

Test(sink_http, more_headers_than_the_table_are_too_big, .timeout = 10)
{
        char text[4096] = "POST / HTTP/1.1\r\n";
        struct sink_http_request request;
        for (unsigned i = 0; i <= SINK_HTTP_HEADERS_MAX; i++) {
                char whole[4096 + 2];
                (void)snprintf(whole, sizeof(whole), "%s\r\n", text);
                cr_assert_eq(sink_http_parse(slice_of_text(whole), &request), ERR_OK, "%u headers", i);
                strcat(text, "A: b\r\n");
        }
        strcat(text, "\r\n");
        cr_assert_eq(sink_http_parse(slice_of_text(text), &request), ERR_TOO_BIG);
}

static enum err_code chunks_all(struct slice input, size_t step, uint8_t *out, size_t out_bytes, size_t *ret_bytes,
                                size_t *ret_left)
{
        struct sink_http_chunks chunks = {0};
        enum err_code code = ERR_INCOMPLETE;
        size_t at = 0, total = 0;
        while (code == ERR_INCOMPLETE && at < input.len) {
                struct slice piece = slice_head(slice_from(input, at), step);
                size_t piece_bytes = piece.len, took = 0;
                code = sink_http_chunks_take(&chunks, &piece, out + total, out_bytes - total, &took);
                total += took;
                at += piece_bytes - piece.len;
        }
        *ret_bytes = total;
        *ret_left = input.len - at;
        return code;
}

Test(sink_http, chunked_bodies_are_the_same_however_they_are_cut, .timeout = 20)
{
        static const struct {
                const char *text, *body;
                enum err_code code;
                size_t left;
        } cases[] = {
                {"4\r\nWiki\r\n5;ext=1\r\npedia\r\n0\r\n\r\nNEXT", "Wikipedia", ERR_OK, 4},
                {"a\r\n0123456789\r\n00\r\nTrailer: x\r\nMore: y\r\n\r\n", "0123456789", ERR_OK, 0},
                {"0\r\n\r\n", "", ERR_OK, 0},
                {"4\r\nWiki\r\n", "Wiki", ERR_INCOMPLETE, 0},
                {"\r\n", "", ERR_SYNTAX, 2},
                {"g\r\n", "", ERR_SYNTAX, 3},
                {"4\nWiki", "", ERR_SYNTAX, 5},
                {"4\r\nWikiX", "Wiki", ERR_SYNTAX, 1},
                {"fffffffffffffffff\r\n", "", ERR_SYNTAX, 4},
                {"3000\r\nx", "", ERR_TOO_BIG, 1},
        };
        uint8_t out[64];
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct slice input = guard_page_copy(slice_of_text(cases[i].text));
                for (size_t step = 1; step <= input.len; step++) {
                        size_t bytes, left;
                        /* Too big shows only when more than the room arrives at once, or in sum. */
                        size_t room = cases[i].code == ERR_TOO_BIG ? 0 : sizeof(out);
                        enum err_code code = chunks_all(input, step, out, room, &bytes, &left);
                        cr_assert_eq(code, cases[i].code, "case %zu step %zu: %d", i, step, (int)code);
                        cr_assert(slice_equal(slice_of(out, bytes), slice_of_text(cases[i].body)));
                        cr_assert_eq(left, cases[i].left, "case %zu step %zu left %zu", i, step, left);
                }
        }
}
