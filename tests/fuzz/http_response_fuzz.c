/* The response parser on hostile bytes. First byte: how the rest is cut in the third pass, and whether the connection
 * ends after it. Property: fed at once, byte by byte and in odd pieces, it says the same and reads the same. */
#include "base/assert.h"
#include "egress/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD_MAX 512u
#define BODY_MAX 300u

static void check_inside(struct slice part, size_t max)
{
        uint8_t sum = 0;
        ASSERT(part.len <= max);
        for (size_t i = 0; i < part.len; i++)
                sum = (uint8_t)(sum + part.ptr[i]); /* the sanitizers look at each */
        __asm__ volatile("" : : "r"(sum));
}

static enum err_code run(struct http_parser *parser, struct slice text, size_t piece, bool closes, size_t *ret_used)
{
        enum err_code code = ERR_INCOMPLETE;
        *ret_used = 0;
        http_parser_reset(parser);
        while (*ret_used < text.len && code == ERR_INCOMPLETE) {
                size_t left = text.len - *ret_used, used = 0;
                size_t take = piece == 0 || piece > left ? left : piece;
                code = http_parser_feed(parser, slice_of(text.ptr + *ret_used, take), &used);
                ASSERT(code != ERR_INCOMPLETE || used == take);
                ASSERT(used <= take);
                *ret_used += used;
        }
        if (code == ERR_INCOMPLETE && closes)
                code = http_parser_end(parser);
        ASSERT(code == ERR_OK || code == ERR_INCOMPLETE || code == ERR_PROTOCOL || code == ERR_TOO_BIG ||
               code == ERR_RESET);
        return code;
}

static void check_same(const struct http_response *a, const struct http_response *b)
{
        ASSERT(a->status == b->status);
        ASSERT(a->status >= 200 && a->status <= 599);
        ASSERT(a->keep_alive == b->keep_alive);
        ASSERT(slice_equal(a->request_id, b->request_id));
        ASSERT(slice_equal(a->error_type, b->error_type));
        ASSERT(slice_equal(a->date, b->date));
        ASSERT(slice_equal(a->retry_after_ms, b->retry_after_ms));
        ASSERT(slice_equal(a->retry_after, b->retry_after));
        ASSERT(slice_equal(a->content_type, b->content_type));
        ASSERT(slice_equal(a->body, b->body));
        check_inside(a->body, BODY_MAX);
        check_inside(a->request_id, HEAD_MAX);
        check_inside(a->error_type, HEAD_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct http_parser *parsers[3];
        if (size == 0)
                return 0;
        for (int i = 0; i < 3 && parsers[i] == NULL; i++) {
                if (http_parser_create(HEAD_MAX, BODY_MAX, &parsers[i]) != ERR_OK)
                        abort();
        }
        bool closes = (data[0] & 1) != 0;
        struct slice text = slice_of(data + 1, size - 1);
        const size_t pieces[3] = {0, 1, (size_t)2 + (data[0] >> 1)};
        enum err_code codes[3];
        size_t used[3];
        for (int i = 0; i < 3; i++)
                codes[i] = run(parsers[i], text, pieces[i], closes, &used[i]);
        for (int i = 1; i < 3; i++) {
                ASSERT(codes[i] == codes[0]);
                if (codes[0] != ERR_OK)
                        continue;
                ASSERT(used[i] == used[0]);
                check_same(http_parser_response(parsers[i]), http_parser_response(parsers[0]));
        }
        return 0;
}
