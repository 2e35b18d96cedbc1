#include "base/random.h"
#include "egress/http.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAD_MAX 1024u
#define BODY_MAX 64u

/* The bytes end where an unmapped page begins: one byte read too far ends the test. */
static struct slice guarded(const void *bytes, size_t len, void **ret_mapping)
{
        size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (len + page - 1) / page * page + page;
        uint8_t *mapping = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq(mapping, MAP_FAILED);
        cr_assert_eq(mprotect(mapping + room - page, page, PROT_NONE), 0);
        uint8_t *at = mapping + room - page - len;
        if (len > 0)
                memcpy(at, bytes, len);
        *ret_mapping = mapping;
        return slice_of(at, len);
}

static void unguard(void *mapping, size_t len)
{
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        (void)munmap(mapping, (len + page - 1) / page * page + page);
}

enum cut { CUT_ONCE, CUT_BYTES, CUT_RANDOM };

/* Feeds all of it, then the end of the connection when `closes`. Every piece lies at an unmapped page of its own. */
static enum err_code parse(struct http_parser *parser, struct slice text, enum cut cut, bool closes, size_t *ret_used)
{
        struct random_state random;
        random_init(&random, 7);
        enum err_code code = ERR_INCOMPLETE;
        *ret_used = 0;
        http_parser_reset(parser);
        while (*ret_used < text.len && code == ERR_INCOMPLETE) {
                size_t left = text.len - *ret_used;
                size_t take = cut == CUT_ONCE ? left : cut == CUT_BYTES ? 1 : 1 + random_below(&random, 9);
                void *mapping = NULL;
                struct slice piece = guarded(text.ptr + *ret_used, take < left ? take : left, &mapping);
                size_t used = 0;
                code = http_parser_feed(parser, piece, &used);
                unguard(mapping, piece.len);
                cr_assert(code != ERR_INCOMPLETE || used == piece.len);
                *ret_used += used;
        }
        if (code == ERR_INCOMPLETE && closes)
                code = http_parser_end(parser);
        return code;
}

#define LF "\r\n"

static const struct {
        const char *name, *text;
        bool closes;
        enum err_code code;
        uint16_t status;
        bool keep_alive;
        const char *body;
        size_t left_over; /* bytes behind the response */
} cases[] = {
        {"content-length", "HTTP/1.1 200 OK" LF "Content-Length: 5" LF LF "hello", false, ERR_OK, 200, true, "hello",
         0},
        {"no reason", "HTTP/1.1 204" LF LF, false, ERR_OK, 204, true, "", 0},
        {"empty reason", "HTTP/1.1 200 " LF "content-length:0" LF LF, false, ERR_OK, 200, true, "", 0},
        {"more behind", "HTTP/1.1 200 OK" LF "Content-Length: 1" LF LF "abc", false, ERR_OK, 200, true, "a", 2},
        {"204 has no body", "HTTP/1.1 204 x" LF "Content-Length: 3" LF LF "abc", false, ERR_OK, 204, true, "", 3},
        {"304 has no body", "HTTP/1.1 304 x" LF "Transfer-Encoding: chunked" LF LF, false, ERR_OK, 304, true, "", 0},
        {"connection close", "HTTP/1.1 200 OK" LF "Connection: close" LF "Content-Length: 1" LF LF "x", false, ERR_OK,
         200, false, "x", 0},
        {"close in a list", "HTTP/1.1 200 OK" LF "Connection: foo ,\tClose" LF "Content-Length: 0" LF LF, false, ERR_OK,
         200, false, "", 0},
        {"1.0 closes", "HTTP/1.0 200 OK" LF "Content-Length: 1" LF LF "x", false, ERR_OK, 200, false, "x", 0},
        {"1.0 keeps when it says so", "HTTP/1.0 200 OK" LF "Connection: keep-alive" LF "Content-Length: 1" LF LF "x",
         false, ERR_OK, 200, true, "x", 0},
        {"until close", "HTTP/1.1 200 OK" LF LF "body", true, ERR_OK, 200, false, "body", 0},
        {"until close waits", "HTTP/1.1 200 OK" LF LF "body", false, ERR_INCOMPLETE, 0, false, NULL, 0},
        {"100 is skipped",
         "HTTP/1.1 100 Continue" LF "Content-Length: 7" LF LF "HTTP/1.1 200 OK" LF "Content-Length: 2" LF LF "ok",
         false, ERR_OK, 200, true, "ok", 0},
        {"chunked",
         "HTTP/1.1 200 OK" LF "Transfer-Encoding: Chunked" LF LF "5" LF "hello" LF "6;a=\"b\"" LF " world" LF "0" LF LF,
         false, ERR_OK, 200, true, "hello world", 0},
        {"chunked, trailers, more behind",
         "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "00A" LF "0123456789" LF "0" LF "X-Sum: 1" LF
         "Content-Length: 99" LF LF "HT",
         false, ERR_OK, 200, true, "0123456789", 2},
        {"same length twice", "HTTP/1.1 200 OK" LF "Content-Length: 1" LF "Content-Length: 1" LF LF "x", false, ERR_OK,
         200, true, "x", 0},
        {"empty values and odd blanks", "HTTP/1.1 200 OK" LF "A:" LF "B: \t" LF "Content-Length: \t 1 \t" LF LF "x",
         false, ERR_OK, 200, true, "x", 0},
        {"high bytes in values", "HTTP/1.1 200 \xe9" LF "A: \xff" LF "Content-Length: 0" LF LF, false, ERR_OK, 200,
         true, "", 0},

        {"closed in the head", "HTTP/1.1 200 OK" LF "Content-Le", true, ERR_RESET, 0, false, NULL, 0},
        {"closed before anything", "", true, ERR_RESET, 0, false, NULL, 0},
        {"closed in a counted body", "HTTP/1.1 200 OK" LF "Content-Length: 5" LF LF "hell", true, ERR_RESET, 0, false,
         NULL, 0},
        {"closed in a chunk", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "5" LF "hell", true, ERR_RESET, 0,
         false, NULL, 0},
        {"closed before the last empty line", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "0" LF, true,
         ERR_RESET, 0, false, NULL, 0},

        {"two lengths", "HTTP/1.1 200 OK" LF "Content-Length: 1" LF "Content-Length: 2" LF LF, false, ERR_PROTOCOL, 0,
         false, NULL, 0},
        {"a list of lengths", "HTTP/1.1 200 OK" LF "Content-Length: 1, 1" LF LF, false, ERR_PROTOCOL, 0, false, NULL,
         0},
        {"negative length", "HTTP/1.1 200 OK" LF "Content-Length: -1" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"signed length", "HTTP/1.1 200 OK" LF "Content-Length: +1" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"empty length", "HTTP/1.1 200 OK" LF "Content-Length: " LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"hex length", "HTTP/1.1 200 OK" LF "Content-Length: 0x1" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"length and chunked", "HTTP/1.1 200 OK" LF "Content-Length: 1" LF "Transfer-Encoding: chunked" LF LF, false,
         ERR_PROTOCOL, 0, false, NULL, 0},
        {"chunked twice", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF "Transfer-Encoding: chunked" LF LF,
         false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"gzip coding", "HTTP/1.1 200 OK" LF "Transfer-Encoding: gzip, chunked" LF LF, false, ERR_PROTOCOL, 0, false,
         NULL, 0},
        {"chunked in 1.0", "HTTP/1.0 200 OK" LF "Transfer-Encoding: chunked" LF LF, false, ERR_PROTOCOL, 0, false, NULL,
         0},
        {"folded field", "HTTP/1.1 200 OK" LF "A: b" LF " c" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"folded first line", "HTTP/1.1 200 OK" LF "\tA: b" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"blank before the colon", "HTTP/1.1 200 OK" LF "Content-Length : 1" LF LF "x", false, ERR_PROTOCOL, 0, false,
         NULL, 0},
        {"no colon", "HTTP/1.1 200 OK" LF "what" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"no name", "HTTP/1.1 200 OK" LF ": x" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"bare LF", "HTTP/1.1 200 OK\nA: b" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"bare CR in a value", "HTTP/1.1 200 OK" LF "A: b\rc" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"control in a value", "HTTP/1.1 200 OK" LF "A: b\x01" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"control in the reason", "HTTP/1.1 200 O\x7f" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"another protocol", "220 mail.example.com ESMTP", false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"HTTP/2", "HTTP/2 200" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"version without digit", "HTTP/1.x 200 OK" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"status 99", "HTTP/1.1 099 x" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"status 600", "HTTP/1.1 600 x" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"status of four digits", "HTTP/1.1 2000 x" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"status of two digits", "HTTP/1.1 20" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"101", "HTTP/1.1 101 Switching Protocols" LF LF, false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"nine interim answers",
         "HTTP/1.1 100 C" LF LF "HTTP/1.1 100 C" LF LF "HTTP/1.1 100 C" LF LF "HTTP/1.1 100 C" LF LF
         "HTTP/1.1 100 C" LF LF "HTTP/1.1 100 C" LF LF "HTTP/1.1 100 C" LF LF "HTTP/1.1 100 C" LF LF
         "HTTP/1.1 100 C" LF LF,
         false, ERR_PROTOCOL, 0, false, NULL, 0},
        {"chunk size without digits", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF ";x" LF, false,
         ERR_PROTOCOL, 0, false, NULL, 0},
        {"chunk size with junk", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "5x" LF, false, ERR_PROTOCOL,
         0, false, NULL, 0},
        {"chunk size with a sign", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "+5" LF, false, ERR_PROTOCOL,
         0, false, NULL, 0},
        {"chunk longer than it says", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "2" LF "abc" LF, false,
         ERR_PROTOCOL, 0, false, NULL, 0},
        {"folded trailer", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "0" LF "A: b" LF " c" LF LF, false,
         ERR_PROTOCOL, 0, false, NULL, 0},

        {"length over the limit", "HTTP/1.1 200 OK" LF "Content-Length: 65" LF LF, false, ERR_TOO_BIG, 0, false, NULL,
         0},
        {"length over 64 bits", "HTTP/1.1 200 OK" LF "Content-Length: 18446744073709551616" LF LF, false, ERR_TOO_BIG,
         0, false, NULL, 0},
        {"chunk over the limit", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "41" LF, false, ERR_TOO_BIG, 0,
         false, NULL, 0},
        {"chunk of 64 bits", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "ffffffffffffffff" LF, false,
         ERR_TOO_BIG, 0, false, NULL, 0},
        {"chunk of 17 digits", "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "00000000000000001" LF, false,
         ERR_TOO_BIG, 0, false, NULL, 0},
        {"chunks over the limit together",
         "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF "20" LF "0123456789abcdef0123456789abcdef" LF "21" LF,
         false, ERR_TOO_BIG, 0, false, NULL, 0},
        {"long chunk extension",
         "HTTP/1.1 200 OK" LF "Transfer-Encoding: chunked" LF LF
         "1;0123456789012345678901234567890123456789012345678901234567890123456789" LF,
         false, ERR_TOO_BIG, 0, false, NULL, 0},
};

Test(http_parser, reads_the_same_however_the_input_is_cut, .timeout = 60)
{
        struct http_parser *parser = NULL;
        cr_assert_eq(http_parser_create(HEAD_MAX, BODY_MAX, &parser), ERR_OK);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                for (int cut = CUT_ONCE; cut <= CUT_RANDOM; cut++) {
                        size_t used = 0;
                        struct slice text = slice_of_text(cases[i].text);
                        enum err_code code = parse(parser, text, (enum cut)cut, cases[i].closes, &used);
                        cr_assert_eq(code, cases[i].code, "%s, cut %d: %s", cases[i].name, cut, err_name(code));
                        if (code != ERR_OK)
                                continue;
                        const struct http_response *response = http_parser_response(parser);
                        cr_assert_eq(response->status, cases[i].status, "%s", cases[i].name);
                        cr_assert_eq(response->keep_alive, cases[i].keep_alive, "%s", cases[i].name);
                        cr_assert(slice_equal(response->body, slice_of_text(cases[i].body)), "%s", cases[i].name);
                        cr_assert_eq(text.len - used, cases[i].left_over, "%s", cases[i].name);
                }
        }
        http_parser_free(parser);
}

Test(http_parser, hands_out_what_aws_says_in_fields, .timeout = 10)
{
        struct http_parser *parser = NULL;
        size_t used = 0;
        cr_assert_eq(http_parser_create(HEAD_MAX, BODY_MAX, &parser), ERR_OK);
        struct slice text = SLICE("HTTP/1.1 400 Bad Request" LF "x-amzn-RequestId: abc-1" LF
                                  "X-AMZN-ErrorType: ThrottlingException:http://internal.amazon.com/x/" LF
                                  "Date: Mon, 23 Nov 2026 04:01:11 GMT" LF "x-amz-retry-after: 1500" LF
                                  "Retry-After: 3" LF "Content-Type: application/x-amz-json-1.1" LF
                                  "x-amz-request-id: second" LF "Content-Length: 2" LF LF "{}");
        cr_assert_eq(parse(parser, text, CUT_RANDOM, false, &used), ERR_OK);
        const struct http_response *response = http_parser_response(parser);
        cr_assert(slice_equal(response->request_id, SLICE("abc-1")));
        cr_assert(slice_equal(response->error_type, SLICE("ThrottlingException")));
        cr_assert(slice_equal(response->date, SLICE("Mon, 23 Nov 2026 04:01:11 GMT")));
        cr_assert(slice_equal(response->retry_after_ms, SLICE("1500")));
        cr_assert(slice_equal(response->retry_after, SLICE("3")));
        cr_assert(slice_equal(response->content_type, SLICE("application/x-amz-json-1.1")));

        text = SLICE("HTTP/1.1 503 x" LF "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT" LF "x-amz-retry-after: 1e3" LF
                     "Content-Length: 0" LF LF);
        cr_assert_eq(parse(parser, text, CUT_ONCE, false, &used), ERR_OK);
        response = http_parser_response(parser);
        cr_assert(slice_equal(response->retry_after, SLICE("Wed, 21 Oct 2026 07:28:00 GMT")));
        cr_assert_eq(response->retry_after_ms.len + response->request_id.len, 0);
        http_parser_free(parser);
}

Test(http_parser, a_head_of_exactly_the_limit_passes_and_one_byte_more_does_not, .timeout = 20)
{
        struct http_parser *parser = NULL;
        cr_assert_eq(http_parser_create(HEAD_MAX, BODY_MAX, &parser), ERR_OK);
        for (size_t over = 0; over < 2; over++) {
                for (int cut = CUT_ONCE; cut <= CUT_RANDOM; cut++) {
                        char text[HEAD_MAX + 64];
                        size_t used = 0, head = HEAD_MAX + over;
                        memset(text, 'x', sizeof(text));
                        memcpy(text, "HTTP/1.1 200 OK\r\nA: ", 20);
                        memcpy(text + head - 23, "\r\nContent-Length: 0\r\n\r\n", 23);
                        enum err_code code = parse(parser, slice_of(text, head), (enum cut)cut, false, &used);
                        cr_assert_eq(code, over == 0 ? ERR_OK : ERR_TOO_BIG, "%zu %d %s", over, cut, err_name(code));
                        /* An endless line ends too. */
                        memset(text + 17, 'x', sizeof(text) - 17);
                        cr_assert_eq(parse(parser, slice_of(text, sizeof(text)), (enum cut)cut, false, &used),
                                     ERR_TOO_BIG);
                }
        }
        /* Chunks still work behind a head that leaves room for nothing but the last empty line. */
        char text[HEAD_MAX + 64];
        size_t used = 0, head = HEAD_MAX - 2;
        memset(text, 'x', sizeof(text));
        memcpy(text, "HTTP/1.1 200 OK\r\nA: ", 20);
        memcpy(text + head - 32, "\r\nTransfer-Encoding: chunked\r\n\r\n", 32);
        memcpy(text + head, "3\r\nabc\r\n0\r\n\r\n", 13);
        cr_assert_eq(parse(parser, slice_of(text, head + 13), CUT_RANDOM, false, &used), ERR_OK);
        cr_assert(slice_equal(http_parser_response(parser)->body, SLICE("abc")));
        http_parser_free(parser);
}

Test(http_parser, until_close_is_bounded_too, .timeout = 20)
{
        struct http_parser *parser = NULL;
        cr_assert_eq(http_parser_create(HEAD_MAX, BODY_MAX, &parser), ERR_OK);
        for (int cut = CUT_ONCE; cut <= CUT_RANDOM; cut++) {
                char text[256];
                size_t used = 0;
                memset(text, 'b', sizeof(text));
                memcpy(text, "HTTP/1.1 200 OK\r\n\r\n", 19);
                cr_assert_eq(parse(parser, slice_of(text, 19 + BODY_MAX), (enum cut)cut, true, &used), ERR_OK);
                cr_assert_eq(http_parser_response(parser)->body.len, BODY_MAX);
                cr_assert_eq(parse(parser, slice_of(text, 20 + BODY_MAX), (enum cut)cut, true, &used), ERR_TOO_BIG);
        }
        http_parser_free(parser);
}

Test(http_parser, an_error_stays_until_reset, .timeout = 10)
{
        struct http_parser *parser = NULL;
        size_t used = 0;
        cr_assert_eq(http_parser_create(HEAD_MAX, BODY_MAX, &parser), ERR_OK);
        cr_assert_eq(http_parser_feed(parser, SLICE("SSH-2.0"), &used), ERR_PROTOCOL);
        cr_assert_eq(http_parser_feed(parser, SLICE("HTTP/1.1 204 x\r\n\r\n"), &used), ERR_PROTOCOL);
        cr_assert_eq(http_parser_end(parser), ERR_PROTOCOL);
        http_parser_reset(parser);
        cr_assert_eq(http_parser_feed(parser, SLICE("HTTP/1.1 204 x\r\n\r\n"), &used), ERR_OK);
        http_parser_free(parser);
}

/* ---- URLs */

static const struct {
        const char *text, *host, *port, *path;
        bool tls, ip_literal;
        const char *authority;
} urls[] = {
        {"https://firehose.us-east-1.amazonaws.com", "firehose.us-east-1.amazonaws.com", "443", "/", true, false,
         "firehose.us-east-1.amazonaws.com"},
        {"HTTPS://Example.COM:0443/a/b?c=d", "example.com", "443", "/a/b?c=d", true, false, "example.com"},
        {"http://127.0.0.1:8080", "127.0.0.1", "8080", "/", false, true, "127.0.0.1:8080"},
        {"http://localhost?x", "localhost", "80", "/?x", false, false, "localhost"},
        {"https://[::1]:8443/", "::1", "8443", "/", true, true, "[::1]:8443"},
        {"https://[FD00:EC2::254]", "fd00:ec2::254", "443", "/", true, true, "[fd00:ec2::254]"},
        {"http://my_service:80/", "my_service", "80", "/", false, false, "my_service"},
        {"http://10.example/", "10.example", "80", "/", false, false, "10.example"},
};

static const char *const urls_refused[] = {
        "",
        "example.com",
        "ftp://example.com",
        "https://",
        "https:///x",
        "https://:443",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://example.com:0",
        "https://example.com:65536",
        "https://example.com:",
        "https://example.com:44x",
        "https://example.com:+1",
        "https://exa mple.com",
        "https://example.com/a b",
        "https://example.com/#x",
        "https://[::1",
        "https://[::1]x",
        "https://[127.0.0.1]",
        "https://[::1%eth0]",
        "https://::1",
        "https://example..com",
        "https://.example.com",
        "https://example.com.",
        "https://-a.com",
        "https://a-.com",
        "https://10.1",
        "https://1",
        "https://1.2.3.4.5",
        "https://256.1.1.1",
        "https://example.com\\@evil",
        "https://ex\xc3\xa4mple",
        "https://example.com/\x7f",
        "https://0123456789012345678901234567890123456789012345678901234567890123.com",
};

Test(http_url, reads_host_port_path, .timeout = 10)
{
        for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
                struct http_url url;
                struct err err;
                void *mapping = NULL;
                struct slice text = guarded(urls[i].text, strlen(urls[i].text), &mapping);
                cr_assert_eq(http_url_parse(text, &url, &err), ERR_OK, "%s: %s", urls[i].text, err.text);
                cr_assert_str_eq(url.host, urls[i].host);
                cr_assert_str_eq(url.port, urls[i].port);
                cr_assert_str_eq(url.path, urls[i].path);
                cr_assert_eq(url.tls, urls[i].tls);
                cr_assert_eq(url.ip_literal, urls[i].ip_literal, "%s", urls[i].text);
                char authority[264];
                http_url_authority(&url, authority, sizeof(authority));
                cr_assert_str_eq(authority, urls[i].authority);
                unguard(mapping, text.len);
        }
}

Test(http_url, refuses_what_it_does_not_understand_and_shows_no_password, .timeout = 10)
{
        for (size_t i = 0; i < sizeof(urls_refused) / sizeof(urls_refused[0]); i++) {
                struct http_url url;
                struct err err;
                void *mapping = NULL;
                struct slice text = guarded(urls_refused[i], strlen(urls_refused[i]), &mapping);
                cr_assert_eq(http_url_parse(text, &url, &err), ERR_CONFIG, "%s", urls_refused[i]);
                cr_assert_null(strstr(err.text, "secret"));
                unguard(mapping, text.len);
        }
        /* Lengths at the edge. */
        char text[600];
        struct http_url url;
        for (size_t path = 254; path <= 256; path++) {
                int used = snprintf(text, sizeof(text), "https://a/%0*d", (int)path - 1, 0);
                enum err_code code = http_url_parse(slice_of(text, (size_t)used), &url, NULL);
                cr_assert_eq(code, path <= 255 ? ERR_OK : ERR_CONFIG, "%zu", path);
        }
        for (size_t host = 254; host <= 256; host++) {
                memcpy(text, "https://", 8);
                for (size_t i = 0; i < host; i++)
                        text[8 + i] = i % 50 == 49 && i + 1 < host ? '.' : 'a';
                cr_assert_eq(http_url_parse(slice_of(text, 8 + host), &url, NULL), host <= 255 ? ERR_OK : ERR_CONFIG);
        }
}
