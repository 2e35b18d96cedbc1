#include "base/clock.h"
#include "egress/aws_error.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <stdio.h>

TestSuite(aws_error, .timeout = 20);

/* 2026-01-02T03:04:05Z */
#define NOW_MS   INT64_C(1767323045000)
#define NOW_DATE "Fri, 02 Jan 2026 03:04:05 GMT"

static const struct {
        uint16_t status;
        const char *error_type, *body, *date;
        enum err_code code;
        const char *name, *message;
        int64_t ahead_ms; /* what Date is believed to say, beyond NOW_MS */
} cases[] = {
        /* Names decide, wherever they stand. */
        {400, "", "{\"__type\":\"ResourceNotFoundException\",\"message\":\"Firehose x not found\"}", "", ERR_NOT_FOUND,
         "ResourceNotFoundException", "Firehose x not found", 0},
        {400, "ThrottlingException", "{\"message\":\"Rate exceeded\"}", "", ERR_THROTTLED, "ThrottlingException",
         "Rate exceeded", 0},
        {400, "ThrottlingException:http://internal.amazon.com/coral/", "", "", ERR_THROTTLED, "ThrottlingException",
         "HTTP 400 without an AWS error message", 0},
        {503, "", "{\"__type\":\"com.amazonaws.firehose#ServiceUnavailableException\",\"message\":\"Slow down.\"}", "",
         ERR_THROTTLED, "ServiceUnavailableException", "Slow down.", 0},
        {503, "", "{\"__type\":\"ServiceUnavailableException\",\"Message\":\"Try later\"}", "", ERR_UNAVAILABLE,
         "ServiceUnavailableException", "Try later", 0},
        {500, "", "{\"__type\":\"InternalFailure\"}", "", ERR_UNAVAILABLE, "InternalFailure",
         "HTTP 500 without an AWS error message", 0},
        {500, "ValidationException", "{}", "", ERR_REFUSED, "ValidationException",
         "HTTP 500 without an AWS error message", 0},
        {400, "", "{\"code\":\"AccessDeniedException\",\"message\":\"no\"}", "", ERR_ACCESS_DENIED,
         "AccessDeniedException", "no", 0},
        {400, "", "{\"__type\":\"InvalidSourceException\",\"message\":\"\"}", "", ERR_REFUSED, "InvalidSourceException",
         "HTTP 400 without an AWS error message", 0},
        {400, "", "{\"__type\":\"UnknownOperationException\"}", "", ERR_REFUSED, "UnknownOperationException",
         "HTTP 400 without an AWS error message", 0},
        {400, "", "{\"message\":{\"a\":[1,2]},\"__type\":\"SerializationException\"}", "", ERR_REFUSED,
         "SerializationException", "HTTP 400 without an AWS error message", 0},
        /* Credentials. */
        {400, "", "{\"__type\":\"UnrecognizedClientException\",\"message\":\"The security token is invalid.\"}", "",
         ERR_CREDENTIALS_UNKNOWN, "UnrecognizedClientException", "The security token is invalid.", 0},
        {403, "", "{\"__type\":\"ExpiredTokenException\",\"message\":\"x\"}", "", ERR_CREDENTIALS_EXPIRED,
         "ExpiredTokenException", "x", 0},
        /* The clock, by name, by sentence, by Date. */
        {400, "", "{\"__type\":\"RequestExpired\",\"message\":\"x\"}", "Fri, 02 Jan 2026 03:14:05 GMT", ERR_CLOCK_SKEW,
         "RequestExpired", "x", 600500},
        {403, "", "{\"__type\":\"InvalidSignatureException\",\"message\":\"Signature expired: a is now earlier\"}",
         "Fri, 02 Jan 2026 03:14:05 GMT", ERR_CLOCK_SKEW, "InvalidSignatureException",
         "Signature expired: a is now earlier", 600500},
        {403, "", "{\"__type\":\"InvalidSignatureException\",\"message\":\"Signature not yet current: a\"}",
         "Fri, 02 Jan 2026 02:54:05 GMT", ERR_CLOCK_SKEW, "InvalidSignatureException", "Signature not yet current: a",
         -599500},
        {403, "", "{\"__type\":\"SignatureDoesNotMatch\",\"message\":\"x\"}", "Fri, 02 Jan 2026 03:14:05 GMT",
         ERR_CLOCK_SKEW, "SignatureDoesNotMatch", "x", 600500},
        {403, "", "{\"__type\":\"SignatureDoesNotMatch\",\"message\":\"x\"}", NOW_DATE, ERR_ACCESS_DENIED,
         "SignatureDoesNotMatch", "x", 0},
        {403, "", "{\"__type\":\"RequestTimeTooSkewed\",\"message\":\"x\"}", "", ERR_CLOCK_SKEW, "RequestTimeTooSkewed",
         "x", 0},
        {403, "", "{\"__type\":\"RequestTimeTooSkewed\",\"message\":\"x\"}", "yesterday", ERR_CLOCK_SKEW,
         "RequestTimeTooSkewed", "x", 0},
        /* Nothing but a status. */
        {502, "", "<html><body>Bad Gateway</body></html>", "", ERR_UNAVAILABLE, "",
         "HTTP 502 without an AWS error name", 0},
        {503, "", "", "", ERR_UNAVAILABLE, "", "HTTP 503 without an AWS error name", 0},
        {504, "", "{\"mess", "", ERR_UNAVAILABLE, "", "HTTP 504 without an AWS error name", 0},
        {429, "", "", "", ERR_THROTTLED, "", "HTTP 429 without an AWS error name", 0},
        {413, "", "", "", ERR_REFUSED, "", "HTTP 413 without an AWS error name", 0},
        {408, "", "", "", ERR_UNAVAILABLE, "", "HTTP 408 without an AWS error name", 0},
        {404, "", "<html>", "", ERR_NOT_FOUND, "", "HTTP 404 without an AWS error name", 0},
        {403, "", "", "", ERR_ACCESS_DENIED, "", "HTTP 403 without an AWS error name", 0},
        {401, "", "", "", ERR_ACCESS_DENIED, "", "HTTP 401 without an AWS error name", 0},
        {301, "", "", "", ERR_REFUSED, "", "HTTP 301 without an AWS error name", 0},
        /* Unknown or impossible names. */
        {400, "", "{\"__type\":\"BrandNewException\",\"message\":\"y\"}", "", ERR_REFUSED, "BrandNewException", "y", 0},
        {503, "BrandNewException", "", "", ERR_UNAVAILABLE, "BrandNewException",
         "HTTP 503 without an AWS error message", 0},
        {400, "two words", "{\"__type\":\"a b\",\"code\":\"Throttling\",\"message\":\"a\\u0000b\\nc\\u00e4\"}", "",
         ERR_THROTTLED, "Throttling", "a b c\xc3\xa4", 0},
};

Test(aws_error, name_first_then_status)
{
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct http_response response = {
                        .status = cases[i].status,
                        .error_type = slice_of_text(cases[i].error_type),
                        .date = guard_page_copy(slice_of_text(cases[i].date)),
                        .body = guard_page_copy(slice_of_text(cases[i].body)),
                };
                struct aws_error error;
                memset(&error, 0x5a, sizeof(error));
                aws_error_read(&response, NOW_MS, &error);
                cr_assert_eq(error.code, cases[i].code, "case %zu: %s", i, err_name(error.code));
                cr_assert_str_eq(error.name, cases[i].name, "case %zu: %s", i, error.name);
                cr_assert_str_eq(error.message, cases[i].message, "case %zu: %s", i, error.message);
                int64_t ahead_ms = error.server_ms == 0 ? 0 : error.server_ms - NOW_MS;
                cr_assert_eq(ahead_ms, cases[i].ahead_ms, "case %zu: %lld", i, (long long)ahead_ms);
                cr_assert_eq(error.wish.after_ms, 0);
                enum err_class class_ = err_class(error.code);
                cr_assert(class_ == ERR_CLASS_RETRY || class_ == ERR_CLASS_REFUSED);
        }
}

Test(aws_error, long_names_and_messages_are_cut_safely)
{
        static char body[2000];
        size_t used = (size_t)snprintf(body, sizeof(body), "{\"__type\":\"");
        memset(body + used, 'N', 200);
        used += 200;
        used += (size_t)snprintf(body + used, sizeof(body) - used, "\",\"message\":\"");
        size_t start = used;
        for (size_t shift = 0; shift < 8; shift++) {
                used = start;
                memset(body + used, 'm', 247 + shift);
                used += 247 + shift;
                used += (size_t)snprintf(body + used, sizeof(body) - used, "\\n\\u20ac\xe2\x82\xac\xf0\x9f\x98\x80%s",
                                         "\\\\\\\\tail tail\"}");
                struct http_response response = {.status = 400, .body = slice_of(body, used)};
                struct aws_error error;
                aws_error_read(&response, NOW_MS, &error);
                cr_assert_str_eq(error.name, "");
                cr_assert_geq(strlen(error.message), 240);
                cr_assert_lt(strlen(error.message), sizeof(error.message));
                cr_assert_null(strpbrk(error.message, "\n\r\t\\"));
                /* Whole characters only: a last non-ASCII one is a complete euro sign. */
                size_t len = strlen(error.message);
                if ((uint8_t)error.message[len - 1] >= 0x80)
                        cr_assert_eq(memcmp(error.message + len - 3, "\xe2\x82\xac", 3), 0);
        }
}

Test(aws_error, text_is_cut_between_characters_and_escapes)
{
        static const struct {
                const char *raw;
                size_t room;
                const char *expected;
        } cuts[] = {
                {"abc", 4, "abc"},
                {"abc", 3, "ab"},
                {"abc", 1, ""},
                {"a\xe2\x82\xac", 5, "a\xe2\x82\xac"},
                {"a\xe2\x82\xac!", 5, "a\xe2\x82\xac"},
                {"a\xe2\x82\xac", 4, "a"},
                {"a\xe2\x82\xac", 3, "a"},
                {"a\xf0\x9f\x98\x80", 5, "a"},
                {"a\xf0\x9f\x98\x80", 6, "a\xf0\x9f\x98\x80"},
                {"\xc3\xa4\xc3\xa4", 4, "\xc3\xa4"},
                {"a\\n", 3, "a"},
                {"a\\n", 4, "a "},
                {"a\\u20ac", 7, "a"},
                {"a\\u20ac", 8, "a\xe2\x82\xac"},
                {"a\x7f", 8, "a "},
        };
        for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
                char out[16];
                memset(out, 0x5a, sizeof(out));
                aws_error_text(guard_page_copy(slice_of_text(cuts[i].raw)), out, cuts[i].room);
                cr_assert_str_eq(out, cuts[i].expected, "case %zu: %s", i, out);
                cr_assert_eq(out[cuts[i].room], 0x5a);
        }
}

Test(aws_error, dates)
{
        int64_t ms = 0;
        cr_assert(aws_error_date_parse(SLICE(NOW_DATE), &ms));
        cr_assert_eq(ms, NOW_MS);
        cr_assert(aws_error_date_parse(SLICE(" Tue, 29 Feb 2028 23:59:60 GMT\r\n"), &ms));
        static const char *bad[] = {
                "",
                "Fri, 02 Jan 2026 03:04:05",
                "Fri, 02 Jan 2026 03:04:05 UTC",
                "Fri, 02 Jam 2026 03:04:05 GMT",
                "Fri, 00 Jan 2026 03:04:05 GMT",
                "Fri, 32 Jan 2026 03:04:05 GMT",
                "Fri, 02 Jan 2026 24:04:05 GMT",
                "Fri, 02 Jan 2026 03:4 :05 GMT",
                "Friday, 02-Jan-26 03:04:05 GMT",
                "Fri Jan  2 03:04:05 2026",
        };
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                cr_assert_not(aws_error_date_parse(guard_page_copy(slice_of_text(bad[i])), &ms), "%s", bad[i]);
}

Test(aws_error, a_date_that_nobody_can_mean_moves_no_clock)
{
        static const char *const dates[] = {"Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
                                            "Tue, 31 Dec 2024 23:59:59 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"};
        for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
                struct http_response response = {
                        .status = 403, .error_type = SLICE("RequestTimeTooSkewed"), .date = slice_of_text(dates[i])};
                struct aws_error error;
                aws_error_read(&response, NOW_MS, &error);
                cr_assert_eq(error.code, ERR_CLOCK_SKEW);
                cr_assert_eq(error.server_ms, 0, "%s", dates[i]);
        }
}

Test(aws_error, retry_after_in_each_form_is_bounded)
{
        /* NOW_MS is Fri, 02 Jan 2026 03:04:05 GMT. */
        static const struct {
                const char *ms, *s;
                uint32_t expected;
        } waits[] = {{"", "", 0},
                     {"250", "", 250},
                     {"250", "7", 250},
                     {"", "7", 7000},
                     {"", "61", 60000},
                     {"99999999999", "", 60000},
                     {"x", "2", 2000},
                     {"", "Fri", 0},
                     {"", "18446744073709551615", 0},
                     {"", "Fri, 02 Jan 2026 03:04:06 GMT", 1000},
                     {"", "Fri, 02 Jan 2026 03:05:05 GMT", 60000},
                     {"", "Fri, 02 Jan 2026 03:05:06 GMT", 60000},
                     {"", "Fri, 31 Dec 9999 23:59:59 GMT", 60000},
                     {"", "Fri, 02 Jan 2026 03:04:05 GMT", 0},
                     {"", "Fri, 02 Jan 2026 03:04:04 GMT", 0},
                     {"", "Thu, 01 Jan 1970 00:00:00 GMT", 0},
                     {"", "Friday, 02-Jan-26 03:04:09 GMT", 0},
                     {"", "Fri Jan  2 03:04:09 2026", 0},
                     {"250", "Fri, 02 Jan 2026 03:04:09 GMT", 250}};
        for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
                struct http_response response = {.status = 503,
                                                 .retry_after_ms = slice_of_text(waits[i].ms),
                                                 .retry_after = slice_of_text(waits[i].s)};
                struct aws_error error;
                aws_error_read(&response, NOW_MS, &error);
                cr_assert_eq(error.wish.after_ms, waits[i].expected, "case %zu: %u", i, error.wish.after_ms);
                /* x-amz-retry-after no more than 5 s beyond our own delay, as in the SDKs. */
                bool amazon = waits[i].ms[0] >= '0' && waits[i].ms[0] <= '9';
                cr_assert_eq(error.wish.more_ms_max, amazon ? 5000 : 60000, "case %zu", i);
                response.status = 200; /* and of an answer that has refused entries */
                struct aws_wish wish = aws_error_wish(&response, NOW_MS);
                cr_assert_eq(wish.after_ms, error.wish.after_ms);
                cr_assert_eq(wish.more_ms_max, error.wish.more_ms_max);
        }
        /* A host whose clock is wrong takes the date by that of the service, whatever the error is: by the answer's own
         * Date, unless that cannot be true. */
        static const struct {
                const char *date, *until;
                uint16_t status;
                uint32_t expected;
        } skewed[] = {{"Fri, 02 Jan 2026 03:02:05 GMT", "Fri, 02 Jan 2026 03:02:15 GMT", 503, 10000},
                      {"Fri, 02 Jan 2026 03:06:05 GMT", "Fri, 02 Jan 2026 03:06:08 GMT", 503, 3000},
                      {"Fri, 02 Jan 2026 03:06:05 GMT", "Fri, 02 Jan 2026 03:06:05 GMT", 503, 0},
                      {"Fri, 02 Jan 2026 03:06:05 GMT", "Fri, 02 Jan 2026 03:06:04 GMT", 429, 0},
                      {"Fri, 02 Jan 2026 05:04:05 GMT", "Fri, 02 Jan 2026 05:04:08 GMT", 403, 3000},
                      {"Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 02 Jan 2026 03:04:09 GMT", 503, 4000},
                      {"Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 02 Jan 2026 03:04:09 GMT", 503, 4000},
                      {"never", "Fri, 02 Jan 2026 03:04:09 GMT", 503, 4000}};
        for (size_t i = 0; i < sizeof(skewed) / sizeof(skewed[0]); i++) {
                struct http_response response = {
                        .status = skewed[i].status,
                        .error_type = slice_of_text(skewed[i].status == 403 ? "RequestTimeTooSkewed" : ""),
                        .date = slice_of_text(skewed[i].date),
                        .retry_after = slice_of_text(skewed[i].until)};
                struct aws_error error;
                aws_error_read(&response, NOW_MS, &error);
                cr_expect_eq(error.wish.after_ms, skewed[i].expected, "%s, %s: %u", skewed[i].date, skewed[i].until,
                             error.wish.after_ms);
        }
}
