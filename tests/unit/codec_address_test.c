/* The domain of a From header, as people and programs write it. */
#include "codecs/codec.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>

TestSuite(codec_address, .timeout = 20);

static void expect_domain(const char *text, const char *domain)
{
        struct slice found = codec_address_domain(guard_page_copy(slice_of_text(text)));
        cr_expect(slice_equal(found, slice_of_text(domain)), "%s: %.*s, not %s", text, SLICE_PRINTF(found), domain);
}

Test(codec_address, the_domain_of_the_first_address_is_found)
{
        static const char *const cases[][2] = {
                {"a@b.example", "b.example"},
                {"  a@b.example\r\n", "b.example"},
                {"<a@b.example>", "b.example"},
                {"Name <a@B.Example>", "B.Example"},
                {"Name<a@b.example>", "b.example"},
                {"A B\r\n\t<a@b.example>", "b.example"},
                {"A <a@b.example", "b.example"},
                {"a@b.example>", "b.example"},
                {"a@b.example.", "b.example"},
                {"'a@b.example'", "b.example"},
                {"a @ b.example", "b.example"},
                {"a@[192.0.2.1]", "[192.0.2.1]"},
                {"A <a@[IPv6:2001:db8::1]>", "[IPv6:2001:db8::1]"},
                {"\xc3\xa4@b\xc3\xbc.example", "b\xc3\xbc.example"},
                /* several */
                {"a@b.example, c@d.example", "b.example"},
                {"a@b.example,c@d.example", "b.example"},
                {"A <a@b.example>, C <c@d.example>", "b.example"},
                {"A <a@b.example, C <c@d.example>", "d.example"},
                {"a@b.example; c@d.example", "b.example"},
                {"nobody, c@d.example", "d.example"},
                {"A <>, C <c@d.example>", "d.example"},
                /* names that look like addresses */
                {"x@y.example <a@b.example>", "b.example"},
                {"\"x@y.example\" <a@b.example>", "b.example"},
                {"\"x@y.example, inc\" <a@b.example>", "b.example"},
                {"\"x\\\"@y.example,\" <a@b.example>", "b.example"},
                {"Doe, John <a@b.example>", "b.example"},
                {"\"Doe, John\" <a@b.example>", "b.example"},
                {"\"<x@y.example>\" <a@b.example>", "b.example"},
                {"=?UTF-8?Q?Doe,_John?= <a@b.example>", "b.example"},
                {"=?UTF-8?Q?x@y.example,_z?= <a@b.example>", "b.example"},
                {"=?UTF-8?B?eEB5LmV4YW1wbGU=?= <a@b.example>", "b.example"},
                {"=?UTF-8?Q?<x=40y.example>?= =?x?q?,?= <a@b.example>", "b.example"},
                {"=?a?b <a@b.example>", "b.example"},
                {"=?a?b?c?=@b.example", "b.example"},
                {"O\"Brien <a@b.example>", "b.example"},
                {"A :-( <a@b.example>", "b.example"},
                {"(x@y.example (z, \\) @z)) a@b.example (c@d.example)", "b.example"},
                {"a(x@y.example)@(z@z.example)b.example", "b.example"},
                /* local parts */
                {"\"a@y.example\"@b.example", "b.example"},
                {"\"a, b\"@b.example", "b.example"},
                {"bounce+x=y.example@b.example", "b.example"},
                {"a@y.example@b.example", "b.example"},
                /* groups and routes */
                {"Group: a@b.example, c@d.example;", "b.example"},
                {"Group: A <a@b.example>;", "b.example"},
                {"x@y.example: a@b.example;", "b.example"},
                {"Empty:;, a@b.example", "b.example"},
                {"<@r.example,@s.example:a@b.example>", "b.example"},
                {"@r.example:a@b.example", "b.example"},
                /* none */
                {"", ""},
                {" ", ""},
                {"nobody", ""},
                {"Name <>", ""},
                {"x@y.example <>", ""},
                {"x@y.example <nobody>", ""},
                {"a@", ""},
                {"a@.", ""},
                {"a@,", ""},
                {"@", ""},
                {"a@[192.0.2.1", ""},
                {"a@[x y]", ""},
                {"a@[]", ""},
                {"undisclosed-recipients:;", ""},
                {"x@y.example:;", ""},
                {"\"a@b.example\"", ""},
                {"(a@b.example)", ""},
                {"=?x?q?a@b.example?=", ""},
                {"\"x\\", ""},
                {"(x\\", ""},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                expect_domain(cases[i][0], cases[i][1]);
}

Test(codec_address, a_domain_has_at_most_255_bytes)
{
        char text[300] = "a@";
        memset(text + 2, 'd', 255);
        expect_domain(text, text + 2);
        text[2 + 255] = 'd';
        expect_domain(text, "");
}

/* What opens and is never closed must not be looked for again and again. */
Test(codec_address, hostile_texts_take_linear_time)
{
        static const char *const pieces[] = {"(", "\"", "\\\"", "(\\", "=?", "=?a?", "=?a?q?",
                                             "=", "<@", "@[",   "@a",  ":",  ",",    "a@a ("};
        static char text[2 << 20];
        for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
                size_t bytes = strlen(pieces[i]), used = 0;
                for (; used + bytes <= sizeof(text); used += bytes)
                        memcpy(text + used, pieces[i], bytes);
                cr_expect_leq(codec_address_domain(slice_of(text, used)).len, 255);
        }
}
