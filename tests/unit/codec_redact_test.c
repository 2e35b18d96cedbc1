/* Redaction: what a policy must hide is nowhere in the record, and what it does not name is as without it. */
#include "base/random.h"
#include "codecs/redact.h"
#include "tests/support/codec_events.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

TestSuite(codec_redact, .timeout = 60);

static uint8_t event_bytes[SENDRING_EVENT_BYTES_MAX];
static uint8_t json_bytes[3 * 1024 * 1024], plain_bytes[3 * 1024 * 1024];

static const char key_text[] = "0123456789abcdef0123456789abcdef";

static void policy(struct codec_redaction *redaction, enum codec_redact_addresses addresses, bool domain_dropped)
{
        codec_redaction_init(redaction);
        redaction->addresses = addresses;
        redaction->domain_dropped = domain_dropped;
        cr_assert_eq(codec_redaction_set_key(redaction, slice_of_text(key_text), NULL), ERR_OK);
}

static void decode(const struct sendring_event *event, struct codec_view *ret_view)
{
        struct err err = {.text = ""};
        size_t bytes = 0;
        /* As others may have published it: a tag of a link with an address. */
        cr_assert_eq(codec_event_encode_read(event, event_bytes, sizeof(event_bytes), &bytes, &err), ERR_OK, "%s",
                     err.text);
        cr_assert_eq(codec_view_decode(slice_of(event_bytes, bytes), ret_view, &err), ERR_OK, "%s", err.text);
}

static struct slice publish(const struct sendring_event *event, const struct codec_redaction *redaction)
{
        struct codec_view view;
        decode(event, &view);
        struct codec_json_options options = {.redaction = redaction};
        size_t bytes = codec_json_encode(&view, &options, json_bytes, sizeof(json_bytes));
        cr_assert_gt(bytes, 0);
        cr_assert_leq(bytes, codec_json_size_max(&view, &options));
        return slice_of(json_bytes, bytes);
}

/* ---------------------------------------------------------------------------------------------- texts */

struct text_case {
        enum codec_redact_kind kind;
        const char *text, *masked;
};

static const struct text_case text_cases[] = {
        {CODEC_REDACT_TEXT, "", ""},
        {CODEC_REDACT_TEXT, "no address here", "no address here"},
        {CODEC_REDACT_TEXT, "ana@x.example", "***@x.example"},
        {CODEC_REDACT_TEXT, "smtp; 550 5.1.1 <ana.b+c@x.example>: unknown", "smtp; 550 5.1.1 <***@x.example>: unknown"},
        {CODEC_REDACT_TEXT, "to=ana@x.example, cc=(bob@y.example)", "***@x.example, cc=(***@y.example)"},
        {CODEC_REDACT_TEXT, "End of ana@x.example. Next", "End of ***@x.example. Next"},
        {CODEC_REDACT_TEXT, "'ana@x.example'", "'***@x.example'"},
        {CODEC_REDACT_TEXT, "\"ana \\\" b\"@x.example!", "***@x.example!"},
        {CODEC_REDACT_TEXT, "ana@[192.0.2.1] said", "***@[192.0.2.1] said"},
        {CODEC_REDACT_TEXT, "a@b@c.example", "***@c.example"},
        {CODEC_REDACT_TEXT, "a@, b@ c", "***@, ***@ c"},
        {CODEC_REDACT_TEXT, "@home and @", "@home and @"},
        {CODEC_REDACT_TEXT, "\xd0\xb0\xd0\xbd\xd0\xb0@x.example", "***@x.example"},
        {CODEC_REDACT_TEXT, "bounce+ana=rcpt.example@mail.example", "***@mail.example"},
        {CODEC_REDACT_TEXT, "ana@x.example\r\n\tbob@y.example", "***@x.example\\r\\n\\t***@y.example"},
        {CODEC_REDACT_URL, "https://x.example/a?email=ana@y.example&b=1",
         "https://x.example/a?email=***@y.example&b=1"},
        {CODEC_REDACT_URL, "https://x.example/u/ana%40y.example/off", "https://x.example/u/***%40y.example/off"},
        {CODEC_REDACT_URL, "https://x.example/?r=b+ana=z.example@y.example", "https://x.example/?r=***@y.example"},
        {CODEC_REDACT_URL, "mailto:ana@y.example", "mailto:***@y.example"},
        /* An address of a bounce tells the recipient. */
        {CODEC_REDACT_URL, "mailto:b+ana=z.example@y.example", "mailto:***@y.example"},
        {CODEC_REDACT_URL, "https://x.example/u/b+ana=z.example@y.example/", "https://x.example/u/***@y.example/"},
        {CODEC_REDACT_URL, "https://x.example/?b+ana=z.example@y.example", "https://x.example/?***@y.example"},
        {CODEC_REDACT_URL, "https://x.example/?a=1;e=ana@y.example", "https://x.example/?a=1;e=***@y.example"},
        {CODEC_REDACT_URL, "ana=z.example@y.example", "***@y.example"},
        {CODEC_REDACT_TEXT, "<b+ana=z.example@y.example>", "<***@y.example>"},
        {CODEC_REDACT_TEXT, "b+ana=z.example, no address", "b+ana=z.example, no address"},
        /* So do all that look like a field with an address in it, whatever joins the words and however that is spelled.
         */
        {CODEC_REDACT_URL, "/?bounces-ana=z@y.example", "/?***@y.example"},
        {CODEC_REDACT_URL, "/?bounces-ana%3Dz@y.example", "/?***@y.example"},
        {CODEC_REDACT_URL, "/?bounces-ana%253dz%40y.example", "/?***%40y.example"},
        {CODEC_REDACT_URL, "/?bounce%2Bana=z.example@y.example", "/?***@y.example"},
        {CODEC_REDACT_URL, "/?bounce%252bana=z.example@y.example", "/?***@y.example"},
        {CODEC_REDACT_URL, "/?ana=z.example@y.example", "/?***@y.example"},
        {CODEC_REDACT_URL, "/?a=1&ana.b=z.example@y.example&b=2", "/?a=1&***@y.example&b=2"},
        {CODEC_REDACT_URL, "/?a=1&amp;ana_b=z.example@y.example", "/?a=1&amp;***@y.example"},
        {CODEC_REDACT_URL, "/#ana=z.example@y.example", "/#***@y.example"},
        {CODEC_REDACT_URL, "/?SRS0=HHH=TT=z.example=ana@y.example", "/?***@y.example"},
        {CODEC_REDACT_URL, "/?prvs=4321abc=ana@y.example", "/?***@y.example"},
        {CODEC_REDACT_URL, "/?email=b-ana=z@y.example", "/?email=***@y.example"},
        {CODEC_REDACT_URL, "/?E-Mail=b%2Dana%3Dz@y.example", "/?E-Mail=***@y.example"},
        {CODEC_REDACT_URL, "/?x%5Bemail%5D=ana@y.example", "/?***@y.example"},
        {CODEC_REDACT_URL, "/u/bounces-ana%3Dz@y.example/b", "/u/***@y.example/b"},
        /* In the query, '/' and '?' are data, and a part may have any other byte, too. */
        {CODEC_REDACT_URL, "/?u=https://z.example/u/ana@y.example", "/?u=***@y.example"},
        {CODEC_REDACT_URL, "/?e=ana/b?c@y.example#d/e", "/?e=***@y.example#d/e"},
        {CODEC_REDACT_URL, "/?e=ana:b,c(d)\xe2\x82\xac@y.example", "/?e=***@y.example"},
        {CODEC_REDACT_URL, "/?e=Ana+B<ana@y.example>&b=1", "/?e=***@y.example>&b=1"},
        {CODEC_REDACT_URL, "/?to=ana@x.example,bob@y.example", "/?to=***@x.example,***@y.example"},
        {CODEC_REDACT_URL, "/?to=ana%40x.example%2Cbob%40y.example", "/?to=***%40x.example***%40y.example"},
        {CODEC_REDACT_URL, "/?e=b+\"ana b\"@y.example", "/?e=***@y.example"},
        {CODEC_REDACT_URL, "/?e=%61na%2Fb%26c%40y.example", "/?e=***%40y.example"},
        {CODEC_REDACT_URL, "/?u=%2Fa%3Femail%3Dana%40y.example%26b=1", "/?u=***%40y.example%26b=1"},
        {CODEC_REDACT_URL, "https://ana:secret@y.example/a", "https://***@y.example/a"},
        {CODEC_REDACT_URL, "MAILTO:b-ana=z@y.example?cc=bob@z.example", "MAILTO:***@y.example?cc=***@z.example"},
        {CODEC_REDACT_URL, "/?e=ana%EF%BC%A0y.example", "/?e=***%EF%BC%A0y.example"},
        {CODEC_REDACT_URL, "/?e=ana%25ef%25b9%25aby.example", "/?e=***%25ef%25b9%25aby.example"},
        {CODEC_REDACT_URL, "/?e=%EF%BC%A1 %EF%BC %EF%BC%A", "/?e=%EF%BC%A1 %EF%BC %EF%BC%A"},
        {CODEC_REDACT_URL, "/@home/?a=1&b=@home&@", "/@home/?a=1&***@home&@"},
        {CODEC_REDACT_TEXT, "<bounces-ana=z@y.example>", "<***@y.example>"},
        {CODEC_REDACT_TEXT, "<https://x.example/?bounce%2Bana%3Dz%40y.example>", "<https://***%40y.example>"},
        {CODEC_REDACT_TEXT, "say \"ana\".b.\"c d\"@x.example", "say ***@x.example"},
        /* What runs into the sign is hidden back to the last space, whatever it is. */
        {CODEC_REDACT_TEXT, "550 ana\\@x.example unknown", "550 ***@x.example unknown"},
        {CODEC_REDACT_TEXT, "550 [ana]@x.example unknown", "550 ***@x.example unknown"},
        {CODEC_REDACT_TEXT, "550 ana)@x.example unknown", "550 ***@x.example unknown"},
        {CODEC_REDACT_TEXT, "ana)@x.example", "***@x.example"},
        {CODEC_REDACT_TEXT, "(ana>)@x.example", "***@x.example"},
        {CODEC_REDACT_TEXT, "ana):,;@x.example", "***@x.example"},
        {CODEC_REDACT_TEXT, "ana)-@x.example", "***@x.example"},
        {CODEC_REDACT_TEXT, "ana\\%40x.example", "***%40x.example"},
        {CODEC_REDACT_TEXT, "ana\\.b@x.example", "***@x.example"},
        {CODEC_REDACT_TEXT, "[ana]@x.example (bob)@y.example", "***@x.example ***@y.example"},
        {CODEC_REDACT_TEXT, "see (@home) [@x.example, ana @x.example", "see (@home) [@x.example, ana @x.example"},
        {CODEC_REDACT_TEXT, "<!#!@x.example>", "<***@x.example>"},
        /* A sign in the quotes of a local part. */
        {CODEC_REDACT_TEXT, "\"ana@mueller\"@x.example", "***@x.example"},
        {CODEC_REDACT_TEXT, "\"Ana Mueller@home office\"@x.example", "***@x.example"},
        {CODEC_REDACT_TEXT, "<\"ana m@x\"@y.example>", "<***@y.example>"},
        {CODEC_REDACT_TEXT, "5\" \"ana @ m\\\"@x\"@y.example", "5\\\" ***@y.example"},
        {CODEC_REDACT_TEXT, "b.\"ana@m\".c.\"d e\"@y.example!", "***@y.example!"},
        {CODEC_REDACT_TEXT, "\"ana@m\"%40y.example", "***%40y.example"},
        {CODEC_REDACT_TEXT, "\"Ana\" <ana@x.example>, \"bob\"@y.example", "\\\"Ana\\\" <***@x.example>, ***@y.example"},
        {CODEC_REDACT_TEXT, "say \"ana@x.example\", bob@y.example", "say \\\"***@x.example\\\", ***@y.example"},
        {CODEC_REDACT_URL, "/?e=%22ana%40mueller%22%40y.example", "/?e=***%40y.example"},
        {CODEC_REDACT_URL, "/?e=%2522ana%2540m%2522%2540y.example", "/?e=***%2540y.example"},
        {CODEC_REDACT_URL, "/?e=\"ana&m@b\"@y.example&b=1", "/?e=***@y.example&b=1"},
        {CODEC_REDACT_ADDRESS, "\"ana<b>\"@x.example", "***@x.example"},
        {CODEC_REDACT_ADDRESS, "\"ana<b>, c\"@x.example", "***@x.example"},
        {CODEC_REDACT_ADDRESS, "ana<b>@x.example", "***@x.example"},
        {CODEC_REDACT_ADDRESS, "Ana <ana@x.example>, bob@y.example", "Ana <***@x.example>, ***@y.example"},
        {CODEC_REDACT_ADDRESS, "Mueller\\, ana@x.example", "***@x.example"},
        /* The fragment is one part, and '/' before a sign ends none. */
        {CODEC_REDACT_URL, "http://x/#u=ana/b@x.example", "http://x/#u=***@x.example"},
        {CODEC_REDACT_URL, "http://x/#!/mail/S=mueller/G=ana/@gw.example", "http://x/#***@gw.example"},
        {CODEC_REDACT_URL, "http://x/#a?b/c@gw.example", "http://x/#***@gw.example"},
        {CODEC_REDACT_URL, "http://x/u/G=ana/@gw.example/b", "http://x/u/***@gw.example/b"},
        {CODEC_REDACT_URL, "http://x.example/@ana.b/c", "http://x.example/@ana.b/c"},
        {CODEC_REDACT_URL, "http://x.example/p/@ana/c", "http://x.example/p/@ana/c"},
        /* A link in a link. */
        {CODEC_REDACT_URL, "https://x.example/?u=/a/ana%2540y.example", "https://x.example/?u=***%2540y.example"},
        {CODEC_REDACT_URL, "https://x.example/?u=ana%2540y.example%26b=1",
         "https://x.example/?u=***%2540y.example%26b=1"},
        {CODEC_REDACT_URL, "/?u=ana%252525252540y.example", "/?u=***%252525252540y.example"},
        {CODEC_REDACT_TEXT, "ana%2540y.example", "***%2540y.example"},
        {CODEC_REDACT_TEXT, "a%2540b%40c.example", "***%40c.example"},
        {CODEC_REDACT_TEXT, "ana%2541y.example %25 %254 %25", "ana%2541y.example %25 %254 %25"},
        {CODEC_REDACT_ADDRESS, "ana%2540y.example", "***"},
        /* Wide signs. */
        {CODEC_REDACT_TEXT, "an ana\xef\xbc\xa0x.example!", "an ***\xef\xbc\xa0x.example!"},
        {CODEC_REDACT_TEXT, "ana\xef\xb9\xabx.example", "***\xef\xb9\xabx.example"},
        {CODEC_REDACT_TEXT, "\xef\xbd\x81\xef\xbc\xa0\xef\xbd\x98\xef\xbc\x8e\xef\xbd\x99",
         "***\xef\xbc\xa0\xef\xbd\x98\xef\xbc\x8e\xef\xbd\x99"},
        {CODEC_REDACT_TEXT, "ana\xef\xbc\xa0[192.0.2.1]", "***\xef\xbc\xa0[192.0.2.1]"},
        {CODEC_REDACT_TEXT, "a\xef\xbc\xa0 ana@b\xef\xbc\xa0x.example", "a\xef\xbc\xa0 ***\xef\xbc\xa0x.example"},
        {CODEC_REDACT_TEXT, "ana@b\xef\xbc\xa0x", "***@b\xef\xbc\xa0x"},
        {CODEC_REDACT_TEXT,
         "ana\xef\xbc\xa0"
         "b@x",
         "***@x"},
        {CODEC_REDACT_TEXT, "\xe7\x94\xb0\xe4\xb8\xad\xef\xbc\xa0\xe6\x9d\xb1\xe4\xba\xac.",
         "\xe7\x94\xb0\xe4\xb8\xad\xef\xbc\xa0\xe6\x9d\xb1\xe4\xba\xac."}, /* someone, at Tokyo */
        {CODEC_REDACT_TEXT, "\xef\xbc\xa0x.example", "\xef\xbc\xa0x.example"},
        {CODEC_REDACT_TEXT, "\xef\xbc\x81 \xef\xbc", "\xef\xbc\x81 \xef\xbf\xbd"},
        {CODEC_REDACT_ADDRESS, "Ana <ana\xef\xbc\xa0x.example>", "Ana <***>"},
        {CODEC_REDACT_ADDRESS, "ana\xef\xbc\xa0x.example, bob@y.example", "***\xef\xbc\xa0x.example, ***@y.example"},
        {CODEC_REDACT_ADDRESS, "ana@x.example", "***@x.example"},
        {CODEC_REDACT_ADDRESS, "ana", "***"},
        {CODEC_REDACT_ADDRESS, "<>", "<>"},
        {CODEC_REDACT_ADDRESS, "Ana <ana@x.example>", "Ana <***@x.example>"},
        {CODEC_REDACT_ADDRESS, "\"ana@x.example\" <ana@x.example>", "\\\"***@x.example\\\" <***@x.example>"},
        {CODEC_REDACT_ADDRESS, "Ana <ana>", "Ana <***>"},
        {CODEC_REDACT_ADDRESS, "a b@x.example", "***@x.example"},
        {CODEC_REDACT_ADDRESS, "ana@x.example, bob@y.example", "***@x.example, ***@y.example"},
};

/* Without the quotes, in json_bytes. */
static size_t redact(const struct codec_redaction *redaction, const char *text, enum codec_redact_kind kind,
                     uint32_t tokens)
{
        struct slice guarded = guard_page_copy(slice_of_text(text));
        size_t bytes = codec_redact_string(redaction, guarded, kind, tokens, json_bytes, sizeof(json_bytes));
        cr_assert_geq(bytes, 2);
        memmove(json_bytes, json_bytes + 1, bytes - 2);
        return bytes - 2;
}

Test(codec_redact, addresses_are_found_wherever_they_stand)
{
        struct codec_redaction redaction;
        policy(&redaction, CODEC_ADDRESSES_MASK, false);
        for (size_t i = 0; i < sizeof(text_cases) / sizeof(text_cases[0]); i++) {
                size_t bytes = redact(&redaction, text_cases[i].text, text_cases[i].kind, 0);
                cr_expect(slice_equal(slice_of(json_bytes, bytes), slice_of_text(text_cases[i].masked)),
                          "%s became %.*s", text_cases[i].text, (int)bytes, (const char *)json_bytes);
        }
}

static void hmac_by_openssl(const char *address, char ret_token[33])
{
        uint8_t mac[EVP_MAX_MD_SIZE];
        unsigned mac_bytes = 0;
        cr_assert_not_null(HMAC(EVP_sha256(), key_text, (int)strlen(key_text), (const uint8_t *)address,
                                strlen(address), mac, &mac_bytes));
        codec_hex_write(slice_of(mac, 16), ret_token);
        ret_token[32] = '\0';
}

Test(codec_redact, tokens_are_openssls_hmac_of_the_small_letters)
{
        static const char *const forms[][2] = {
                {"ana.b@x.example", "ana.b@x.example"},
                {"Ana.B@X.Example", "ana.b@x.example"},
                {"\"Ana B\"@x.example", "\"ana b\"@x.example"},
        };
        struct codec_redaction kept, dropped;
        policy(&kept, CODEC_ADDRESSES_HMAC, false);
        policy(&dropped, CODEC_ADDRESSES_HMAC, true);
        for (size_t i = 0; i < 3; i++) {
                char token[33], expected[128];
                hmac_by_openssl(forms[i][1], token);
                for (int kind = CODEC_REDACT_TEXT; kind <= CODEC_REDACT_URL; kind++) {
                        size_t bytes = redact(&kept, forms[i][0], (enum codec_redact_kind)kind, 8);
                        (void)snprintf(expected, sizeof(expected), "%s@%s", token, strchr(forms[i][0], '@') + 1);
                        cr_expect(slice_equal(slice_of(json_bytes, bytes), slice_of_text(expected)), "%.*s, not %s",
                                  (int)bytes, (const char *)json_bytes, expected);
                        bytes = redact(&dropped, forms[i][0], (enum codec_redact_kind)kind, 8);
                        cr_expect(slice_equal(slice_of(json_bytes, bytes), slice_of_text(token)));
                }
        }
        char token[33];
        hmac_by_openssl("ana@y.example", token);
        size_t bytes = redact(&dropped, "/u/ana%40y.example/ bob@z.example", CODEC_REDACT_URL, 1);
        cr_assert_eq(bytes, 3 + 32 + 5);
        cr_assert(slice_equal(slice_of(json_bytes + 3, 32), slice_of(token, 32)), "%%40 stands for the sign");
        cr_assert_arr_eq(json_bytes + 35, "/ ***", 5, "out of tokens: masked, and the domain stays away");
        /* In links, one address has one token however deep it stands; behind a field's name, too, that is hidden with
         * it. */
        static const char *const links[] = {"/?e=ana@y.example",
                                            "/?uid2=ana@y.example",
                                            "/?x%5Bemail%5D=Ana%40y.example",
                                            "/?u=%2Fa%3Femail%3Dana%40y.example",
                                            "/?u=https://x.example/ana@y.example",
                                            "/?u=%252Fa%253Femail%253Dana%2540y.example",
                                            "mailto:ana@y.example",
                                            "/?e=Ana+B+<ana@y.example"};
        for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
                bytes = redact(&dropped, links[i], CODEC_REDACT_URL, 1);
                cr_assert_geq(bytes, 32);
                cr_expect(slice_equal(slice_of(json_bytes + bytes - 32, 32), slice_of(token, 32)), "%s", links[i]);
        }
        hmac_by_openssl("b-ana=z.example@y.example", token);
        bytes = redact(&dropped, "/?b-ana=z.example@y.example", CODEC_REDACT_URL, 1);
        cr_expect(slice_equal(slice_of(json_bytes + 2, bytes - 2), slice_of(token, 32)), "that of a bounce");
        hmac_by_openssl("ana@y.example", token);
        static const char *const spelled[] = {"Ana%40y.example",          "ana%2540y.example",
                                              "ana%252540Y.example",      "ana\xef\xbc\xa0y.example",
                                              "ana\xef\xb9\xaby.example", "ana%EF%BC%A0y.example"};
        for (size_t i = 0; i < sizeof(spelled) / sizeof(spelled[0]); i++) {
                bytes = redact(&dropped, spelled[i], CODEC_REDACT_TEXT, 1);
                cr_expect(slice_equal(slice_of(json_bytes, bytes), slice_of(token, 32)), "%s", spelled[i]);
        }
}

Test(codec_redact, keys_are_bounded_and_tell_policies_apart)
{
        static const char longest[CODEC_REDACTION_KEY_BYTES_MAX + 1] = "k";
        struct codec_redaction one, other;
        cr_assert_eq(codec_redaction_set_key(&one, slice_of(longest, 15), NULL), ERR_RANGE);
        cr_assert_eq(codec_redaction_set_key(&one, slice_of(longest, sizeof(longest)), NULL), ERR_RANGE);
        policy(&one, CODEC_ADDRESSES_HMAC, false);
        policy(&other, CODEC_ADDRESSES_HMAC, false);
        codec_redaction_finish(&one);
        codec_redaction_finish(&other);
        cr_assert_str_eq(one.fingerprint, other.fingerprint);
        cr_assert_eq(codec_redaction_set_key(&other, slice_of(longest, sizeof(longest) - 1), NULL), ERR_OK);
        codec_redaction_finish(&other);
        cr_assert_str_neq(one.fingerprint, other.fingerprint);
        policy(&other, CODEC_ADDRESSES_HMAC, true);
        codec_redaction_finish(&other);
        cr_assert_str_neq(one.fingerprint, other.fingerprint);
        policy(&other, CODEC_ADDRESSES_HMAC, false);
        cr_assert_eq(codec_redaction_drop(&other, SLICE("mail.headers"), NULL), ERR_OK);
        codec_redaction_finish(&other);
        cr_assert_str_neq(one.fingerprint, other.fingerprint);
        codec_redaction_clear(&other);
        for (size_t i = 0; i < sizeof(other); i++)
                cr_assert_eq(((const uint8_t *)&other)[i], 0);
}

/* ---------------------------------------------------------------------------------------------- whole events */

Test(codec_redact, a_policy_without_rules_changes_nothing)
{
        struct codec_redaction redaction;
        codec_redaction_init(&redaction);
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                struct codec_view view;
                codec_events_fill(&event, (enum sendring_event_type)type);
                decode(&event, &view);
                size_t bytes = codec_json_encode(&view, NULL, plain_bytes, sizeof(plain_bytes));
                struct slice json = publish(&event, &redaction);
                cr_expect(slice_equal(json, slice_of(plain_bytes, bytes)), "%.*s", SLICE_PRINTF(json));
        }
}

/* Random texts around addresses whose local parts all hold "zq", which nothing else does. */
struct maker {
        struct random_state random;
        char texts[256][200];
        uint32_t used;
};

/* The shape with each '#' replaced by the next of the values. */
static struct sendring_str make(struct maker *maker, const char *shape, const char *const *values)
{
        char *text = maker->texts[maker->used++];
        size_t used = 0;
        for (; *shape != '\0'; shape++) {
                const char *piece = *shape == '#' ? *values++ : shape;
                size_t bytes = *shape == '#' ? strlen(piece) : 1;
                memcpy(text + used, piece, bytes);
                used += bytes;
        }
        return (struct sendring_str){text, used};
}

static struct sendring_str make_address(struct maker *maker)
{
        static const char *const shapes[] = {"zq%u@x.example",
                                             "A.zq%u+tag@X.Example",
                                             "\"a zq%u\"@x.example",
                                             "zq%u@[192.0.2.7]",
                                             "o'zq%u@y.example",
                                             "\xc3\xa4zq%u@x.example",
                                             "v+zq%u=z.example@m.example",
                                             "zq%u\xef\xbc\xa0x.example"};
        char number[16];
        (void)snprintf(number, sizeof(number), "%u", (unsigned)random_below(&maker->random, 100));
        const char *values[] = {number};
        return make(maker, shapes[random_below(&maker->random, 8)], values);
}

static struct sendring_str make_text(struct maker *maker)
{
        static const char *const shapes[] = {"smtp; 550 5.1.1 <#>: user unknown",
                                             "#",
                                             "Ana Example <#>",
                                             "(#) \xe2\x82\xac \\ \"quoted\" #,#",
                                             "rcpt=#; id\t7",
                                             "no one"};
        const char *values[3];
        for (size_t i = 0; i < 3; i++) {
                struct sendring_str address = make_address(maker);
                maker->texts[maker->used - 1][address.len] = '\0';
                values[i] = address.ptr;
        }
        return make(maker, shapes[random_below(&maker->random, 6)], values);
}

/* An event of this type with addresses in every place that takes a text. */
static void make_event(struct maker *maker, struct sendring_event *event, enum sendring_event_type type)
{
        static struct sendring_str lists[8][3];
        static struct sendring_pair headers[4], tags[2], link_tags[1];
        static struct sendring_recipient recipients[2];
        static struct sendring_topic topics[1];
        maker->used = 0;
        codec_events_fill(event, type);
        for (size_t i = 0; i < 8; i++)
                for (size_t j = 0; j < 3; j++)
                        lists[i][j] = i < 2 || j == 0 ? make_address(maker) : make_text(maker);
        static const char *const names[] = {"To", "X-Original-To", "List-Unsubscribe", "Subject"};
        for (size_t i = 0; i < 4; i++)
                headers[i] = (struct sendring_pair){{names[i], strlen(names[i])}, make_text(maker)};
        tags[0] = (struct sendring_pair){SENDRING_STR("user"), SENDRING_STR("zq1@x.example")};
        tags[1] = (struct sendring_pair){SENDRING_STR("user"), SENDRING_STR("zq2@y.example")};
        link_tags[0] = tags[0];
        topics[0] = (struct sendring_topic){make_text(maker), SENDRING_STR("OptIn")};
        for (size_t i = 0; i < 2; i++)
                recipients[i] = (struct sendring_recipient){make_address(maker), SENDRING_STR("failed"),
                                                            SENDRING_STR("5.1.1"), make_text(maker)};
        struct sendring_mail *mail = &event->mail;
        mail->source = make_address(maker);
        mail->source_arn = SENDRING_STR("arn:aws:ses:us-east-1:123456789012:identity/zq3@x.example");
        mail->destination = (struct sendring_strs){lists[0], 3};
        mail->headers = (struct sendring_pairs){headers, 4};
        mail->tags = (struct sendring_pairs){tags, 2};
        mail->common_headers.from = (struct sendring_strs){lists[2], 3};
        mail->common_headers.to = (struct sendring_strs){lists[3], 3};
        mail->common_headers.cc = (struct sendring_strs){lists[4], 3};
        mail->common_headers.bcc = (struct sendring_strs){lists[5], 3};
        mail->common_headers.reply_to = (struct sendring_strs){lists[6], 3};
        mail->common_headers.subject = make_text(maker);
        mail->common_headers.date = make_text(maker);
        mail->caller_identity = make_address(maker);
        mail->operation = make_text(maker);
        struct sendring_strs to = {lists[1], 3};
        if (type == SENDRING_RENDERING_FAILURE)
                event->failure.template_name = event->failure.error_message = make_text(maker);
        if (type == SENDRING_REJECT)
                event->reject.reason = make_text(maker);
        if (type == SENDRING_DELIVERY) {
                event->delivery.recipients = to;
                event->delivery.smtp_response = make_text(maker);
                event->delivery.reporting_mta = make_text(maker);
        }
        if (type == SENDRING_BOUNCE) {
                event->bounce.bounced_recipients = (struct sendring_recipients){recipients, 2};
                event->bounce.reporting_mta = make_text(maker);
        }
        if (type == SENDRING_COMPLAINT) {
                event->complaint.complained_recipients = to;
                event->complaint.user_agent = make_text(maker);
        }
        if (type == SENDRING_DELIVERY_DELAY)
                event->delivery_delay.delayed_recipients = (struct sendring_recipients){recipients, 2};
        if (type == SENDRING_SUBSCRIPTION) {
                event->subscription.contact_list = event->subscription.source = make_text(maker);
                event->subscription.new_topic_preferences.topic_subscription_status =
                        (struct sendring_topics){topics, 1};
        }
        if (type == SENDRING_OPEN)
                event->open.user_agent = make_text(maker);
        if (type == SENDRING_CLICK) {
                event->click.link = SENDRING_STR(
                        "https://x.example/a/zq4@x.example?u=zq5%40y.example&v=zq6@z.example&w=zq7%2540z.example"
                        "&b-zq8=z.example@y.example&b%2Dzq9%3Dz.example%40y.example&zq=y@z.example");
                event->click.user_agent = make_text(maker);
                event->click.link_tags = (struct sendring_pairs){link_tags, 1};
        }
}

Test(codec_redact, no_address_survives_anywhere_in_any_type)
{
        static struct maker maker;
        struct codec_redaction policies[3];
        policy(&policies[0], CODEC_ADDRESSES_MASK, false);
        policy(&policies[1], CODEC_ADDRESSES_HMAC, false);
        policy(&policies[2], CODEC_ADDRESSES_HMAC, true);
        random_init(&maker.random, 20261127);
        for (int round = 0; round < 500; round++)
                for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++)
                        for (size_t i = 0; i < 3; i++) {
                                struct sendring_event event;
                                make_event(&maker, &event, (enum sendring_event_type)type);
                                struct slice json = publish(&event, &policies[i]);
                                cr_assert_eq(slice_find(json, SLICE("zq")), json.len, "%.*s", SLICE_PRINTF(json));
                                json_error_t error;
                                json_t *root =
                                        json_loadb((const char *)json.ptr, json.len, JSON_REJECT_DUPLICATES, &error);
                                cr_assert_not_null(root, "%s: %.*s", error.text, SLICE_PRINTF(json));
                                const char *id =
                                        json_string_value(json_object_get(json_object_get(root, "mail"), "messageId"));
                                cr_assert_str_eq(id, CODEC_EVENTS_ID, "ids stay");
                                json_decref(root);
                        }
}

Test(codec_redact, exact_room_is_enough_and_less_is_not)
{
        static struct maker maker;
        struct codec_redaction redaction;
        policy(&redaction, CODEC_ADDRESSES_HMAC, false);
        random_init(&maker.random, 7);
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                struct codec_view view;
                make_event(&maker, &event, (enum sendring_event_type)type);
                size_t need = publish(&event, &redaction).len;
                decode(&event, &view);
                struct codec_json_options options = {.redaction = &redaction};
                memcpy(plain_bytes, json_bytes, need);
                struct slice room = guard_page_copy(slice_of(plain_bytes, need));
                for (size_t len = 0; len < need; len += 1 + len / 50)
                        cr_assert_eq(
                                codec_json_encode(&view, &options, (uint8_t *)(uintptr_t)room.ptr + (need - len), len),
                                0);
                cr_assert_eq(codec_json_encode(&view, &options, (uint8_t *)(uintptr_t)room.ptr, need), need);
        }
}

/* ---------------------------------------------------------------------------------------------- drops and lists */

static json_t *published(const struct sendring_event *event, const struct codec_redaction *redaction)
{
        struct slice json = publish(event, redaction);
        json_t *root = json_loadb((const char *)json.ptr, json.len, JSON_REJECT_DUPLICATES, NULL);
        cr_assert_not_null(root, "%.*s", SLICE_PRINTF(json));
        return root;
}

/* Removes the members at the path, through every element of lists. Returns how many there were. */
static size_t remove_path(json_t *value, const char *path)
{
        char part[64];
        size_t bytes = strcspn(path, "."), removed = 0, index;
        json_t *item;
        if (json_is_array(value)) {
                json_array_foreach(value, index, item) removed += remove_path(item, path);
                return removed;
        }
        memcpy(part, path, bytes);
        part[bytes] = '\0';
        if (path[bytes] == '\0')
                return json_object_del(value, part) == 0;
        item = json_object_get(value, part);
        return item == NULL ? 0 : remove_path(item, path + bytes + 1);
}

static const struct {
        enum sendring_event_type type;
        const char *path;
} drop_cases[] = {
        {SENDRING_SEND, "mail.timestamp"},
        {SENDRING_SEND, "mail.source"},
        {SENDRING_SEND, "mail.sourceArn"},
        {SENDRING_SEND, "mail.sendingAccountId"},
        {SENDRING_SEND, "mail.destination"},
        {SENDRING_SEND, "mail.headersTruncated"},
        {SENDRING_SEND, "mail.headers"},
        {SENDRING_SEND, "mail.commonHeaders"},
        {SENDRING_SEND, "mail.tags"},
        {SENDRING_SEND, "mail.commonHeaders.subject"},
        {SENDRING_SEND, "mail.commonHeaders.to"},
        {SENDRING_SEND, "mail.commonHeaders.messageId"},
        {SENDRING_SEND, "mail.tags.ses:source-ip"},
        {SENDRING_SEND, "mail.tags.ses:configuration-set"},
        {SENDRING_SEND, "mail.tags.campaign"},
        {SENDRING_RENDERING_FAILURE, "failure.errorMessage"},
        {SENDRING_REJECT, "reject.reason"},
        {SENDRING_DELIVERY, "delivery.smtpResponse"},
        {SENDRING_DELIVERY, "delivery.recipients"},
        {SENDRING_DELIVERY, "mail.tags.ses:outgoing-ip"},
        {SENDRING_BOUNCE, "bounce.bouncedRecipients"},
        {SENDRING_BOUNCE, "bounce.bouncedRecipients.diagnosticCode"},
        {SENDRING_BOUNCE, "bounce.remoteMtaIp"},
        {SENDRING_COMPLAINT, "complaint.complaintSubType"},
        {SENDRING_COMPLAINT, "complaint.complainedRecipients"},
        {SENDRING_DELIVERY_DELAY, "deliveryDelay.delayedRecipients.status"},
        {SENDRING_SUBSCRIPTION, "subscription.oldTopicPreferences"},
        {SENDRING_OPEN, "open.userAgent"},
        {SENDRING_OPEN, "open.ipAddress"},
        {SENDRING_CLICK, "click.ipAddress"},
        {SENDRING_CLICK, "click.link"},
        {SENDRING_CLICK, "click.linkTags"},
};

Test(codec_redact, a_dropped_member_is_gone_and_nothing_else)
{
        for (size_t i = 0; i < sizeof(drop_cases) / sizeof(drop_cases[0]); i++) {
                struct codec_redaction redaction;
                struct sendring_event event;
                struct err err = {.text = ""};
                codec_redaction_init(&redaction);
                cr_assert_eq(codec_redaction_drop(&redaction, slice_of_text(drop_cases[i].path), &err), ERR_OK, "%s",
                             err.text);
                codec_events_fill(&event, drop_cases[i].type);
                json_t *expected = published(&event, NULL), *is = published(&event, &redaction);
                cr_assert_gt(remove_path(expected, drop_cases[i].path), 0, "%s", drop_cases[i].path);
                cr_expect(json_equal(expected, is), "%s: %.600s", drop_cases[i].path, (const char *)json_bytes);
                json_decref(expected);
                json_decref(is);
        }
        static const char *const bad[] = {"",
                                          "mail",
                                          "eventType",
                                          "click",
                                          "mail.",
                                          "mail.subject",
                                          "mail.messageId",
                                          "mail.headers.Subject",
                                          "mail.commonHeaders.x",
                                          "mail.tags.",
                                          "open.link",
                                          "send.x",
                                          "bounce.bouncedRecipients.emailAddress",
                                          "bounce.feedbackId.x",
                                          "complaint.complainedRecipients.emailAddress"};
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                struct codec_redaction redaction;
                struct err err = {.text = ""};
                codec_redaction_init(&redaction);
                cr_expect_neq(codec_redaction_drop(&redaction, slice_of_text(bad[i]), &err), ERR_OK, "%s", bad[i]);
                cr_expect_gt(strlen(err.text), 10);
        }
}

Test(codec_redact, only_listed_headers_are_published)
{
        struct codec_redaction redaction;
        struct sendring_event event;
        codec_redaction_init(&redaction);
        cr_assert_eq(codec_redaction_allow_header(&redaction, SLICE("mime-VERSION"), NULL), ERR_OK);
        cr_assert_eq(codec_redaction_allow_header(&redaction, SLICE("to"), NULL), ERR_OK);
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.common_headers.date = SENDRING_STR("d");
        json_t *root = published(&event, &redaction), *mail = json_object_get(root, "mail");
        char *headers = json_dumps(json_object_get(mail, "headers"), JSON_COMPACT);
        char *common = json_dumps(json_object_get(mail, "commonHeaders"), JSON_COMPACT);
        cr_expect_str_eq(headers,
                         "[{\"name\":\"To\",\"value\":\"ana@recipient.example.com\"},{\"name\":\"MIME-Version\","
                         "\"value\":\"1.0\"}]");
        cr_expect_str_eq(common, "{\"to\":[\"ana@recipient.example.com\"],\"messageId\":\"" CODEC_EVENTS_ID "\"}");
        free(headers);
        free(common);
        json_decref(root);
        struct err err;
        codec_redaction_init(&redaction);
        for (int i = 0; i < 64; i++)
                cr_assert_eq(codec_redaction_allow_header(&redaction, SLICE("X"), &err), ERR_OK);
        cr_assert_eq(codec_redaction_allow_header(&redaction, SLICE("X"), &err), ERR_LIMIT);
        cr_assert_eq(codec_redaction_allow_header(&redaction, SLICE(""), &err), ERR_NAME);
}

/* What stands alone in a header of addresses is a local part, even without a sign; in any other it is a word. */
Test(codec_redact, headers_of_addresses_are_hidden_without_a_sign)
{
        static const char *const names[] = {"From",   "To",          "Cc",           "Bcc",           "Reply-To",
                                            "Sender", "Return-Path", "Delivered-To", "X-Original-To", "Errors-To"};
        for (size_t i = 0; i <= sizeof(names) / sizeof(names[0]); i++) {
                bool is_address = i < sizeof(names) / sizeof(names[0]);
                struct sendring_event event;
                struct codec_redaction redaction;
                const char *name = is_address ? names[i] : "X-Errors-To";
                struct sendring_pair header = {{name, strlen(name)}, SENDRING_STR("zqlocal")};
                codec_events_fill(&event, SENDRING_SEND);
                event.mail.headers = (struct sendring_pairs){&header, 1};
                policy(&redaction, CODEC_ADDRESSES_MASK, false);
                struct slice json = publish(&event, &redaction);
                cr_expect_eq(slice_find(json, SLICE("zqlocal")) == json.len, is_address, "%s", name);
        }
}

/* As long as a tag's name may be. */
Test(codec_redact, a_tag_with_the_longest_name_is_dropped)
{
        static char path[11 + 255] = "mail.tags.";
        struct sendring_event event;
        struct codec_redaction redaction;
        struct sendring_pair tags[2] = {{.name = {path + 10, 255}, .value = SENDRING_STR("zqvalue")},
                                        {.name = {path + 10, 254}, .value = SENDRING_STR("other")}};
        memset(path + 10, 'n', 255);
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.tags = (struct sendring_pairs){tags, 2};
        codec_redaction_init(&redaction);
        cr_assert_eq(codec_redaction_drop(&redaction, slice_of(path, 265), NULL), ERR_OK);
        struct slice json = publish(&event, &redaction);
        cr_expect_eq(slice_find(json, SLICE("zqvalue")), json.len);
        cr_expect_lt(slice_find(json, SLICE("other")), json.len);
}

Test(codec_redact, unknown_members_are_redacted_or_dropped)
{
        static const char bytes[] =
                "\x85\x00\x01\x01\x01\x05\x85\x01\x01\x02\xa3zq@\x05\xa1i\x06\x91\xa2zq\xa1m\xa4zq@x"
                "\xa1t\x82\xa3w@x\xa3zq@\xa1v\x91\xa5zq@yy\xa4zq@b\x01";
        struct codec_redaction redaction;
        struct codec_view view;
        struct codec_json_options options = {.redaction = &redaction};
        struct err err = {.text = ""};
        policy(&redaction, CODEC_ADDRESSES_MASK, false);
        cr_assert_eq(codec_view_decode(slice_of(bytes, sizeof(bytes) - 1), &view, &err), ERR_OK, "%s", err.text);
        size_t len = codec_json_encode(&view, &options, json_bytes, sizeof(json_bytes));
        static const char *const expected[] = {
                "{\"eventType\":\"Send\",\"mail\":{\"timestamp\":\"1970-01-01T00:00:00.001Z\",\"source\":\"***@\","
                "\"messageId\":\"i\",\"destination\":[\"***\"],\"headersTruncated\":false,\"tags\":{},\"m\":\"***@x\"},"
                "\"send\":{},\"t\":{\"v\":[\"***@yy\"]}}",
                "{\"eventType\":\"Send\",\"mail\":{\"timestamp\":\"1970-01-01T00:00:00.001Z\",\"source\":\"***@\","
                "\"messageId\":\"i\",\"destination\":[\"***\"],\"headersTruncated\":false,\"tags\":{}},\"send\":{}}"};
        cr_expect(slice_equal(slice_of(json_bytes, len), slice_of_text(expected[0])), "%.*s", (int)len,
                  (const char *)json_bytes);
        cr_assert_eq(codec_redaction_drop(&redaction, SLICE("*"), NULL), ERR_OK);
        cr_assert_eq(codec_redaction_drop(&redaction, SLICE("mail.*"), NULL), ERR_OK);
        len = codec_json_encode(&view, &options, json_bytes, sizeof(json_bytes));
        cr_expect(slice_equal(slice_of(json_bytes, len), slice_of_text(expected[1])), "%.*s", (int)len,
                  (const char *)json_bytes);
}

/* The bound must hold where addresses are shortest, and time must not grow with the square of the text. */
Test(codec_redact, the_size_bound_holds_with_the_shortest_addresses, .timeout = 20)
{
        static char text[SENDRING_EVENT_BYTES_MAX];
        static const char *const pieces[] = {"a@ ",
                                             "a%40 ",
                                             "\x01@",
                                             "\"@",
                                             "\" @ @ @ @",
                                             "\"a@b\"@",
                                             "@",
                                             "%40",
                                             "a@[",
                                             "!@",
                                             "<a@>,",
                                             "a%2540 ",
                                             "%25",
                                             "\xef\xbc\xa0",
                                             "a\xef\xbc\xa0.",
                                             "a\xef\xbc\xa0xy"};
        for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
                struct codec_redaction redaction;
                struct sendring_event event;
                size_t used = 0, bytes = strlen(pieces[i]);
                policy(&redaction, i % 2 == 0 ? CODEC_ADDRESSES_HMAC : CODEC_ADDRESSES_MASK, false);
                for (; used + bytes < sizeof(text) - 2000; used += bytes)
                        memcpy(text + used, pieces[i], bytes);
                codec_events_fill(&event, SENDRING_SEND);
                event.mail.common_headers.subject = (struct sendring_str){text, used};
                cr_assert_gt(publish(&event, &redaction).len, 0);
        }
}
