#include "base/arena.h"
#include "base/clock.h"
#include "base/file.h"
#include "egress/sigv4.h"
#include "tests/support/alloc_count.h"
#include "tests/support/guard_page.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>

TestSuite(sigv4, .timeout = 60);

#define T_20260102T030400 INT64_C(1767323040000)

static const struct sigv4_credentials example_credentials = {
        .access_key_id = {(const uint8_t *)"AKIDEXAMPLE", 11},
        .secret_access_key = {(const uint8_t *)"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", 40},
        .session_token = {(const uint8_t *)"TOKENEXAMPLE", 12},
};

static struct sigv4_signer *make_signer(void)
{
        struct sigv4_signer *signer = NULL;
        struct err err = {0};
        cr_assert_eq(sigv4_signer_create(&signer, &err), ERR_OK, "%s", err.text);
        return signer;
}

/* ---------------------------------------------------------------------------------------------- the public suite */

struct suite_request {
        struct slice method, path, query, body;
        struct sigv4_header headers[SIGV4_HEADERS_MAX];
        size_t headers_count;
};

static struct slice suite_file(struct arena *arena, const char *name, const char *file)
{
        struct slice bytes = SLICE_EMPTY;
        struct err err = {0};
        char *path = arena_printf(arena, "%s/sigv4/%s/%s", TEST_DATA_DIRECTORY, name, file);
        cr_assert_eq(file_read(arena, path, 1 << 20, &bytes, &err), ERR_OK, "%s", err.text);
        return bytes;
}

/* The suite's request lines hold raw spaces and end in LF; a line that begins with a space continues the one before. */
static void suite_request_read(struct slice text, struct suite_request *request)
{
        memset(request, 0, sizeof(*request));
        struct slice rest = text;
        struct slice line = slice_cut(&rest, '\n');
        request->method = slice_cut(&line, ' ');
        cr_assert(slice_has_suffix(line, SLICE(" HTTP/1.1")));
        line = slice_head(line, line.len - 9);
        request->path = slice_cut(&line, '?');
        request->query = line;
        while (rest.ptr != NULL) {
                const uint8_t *start = rest.ptr;
                line = slice_cut(&rest, '\n');
                if (line.len == 0)
                        break;
                if (line.ptr[0] == ' ') {
                        cr_assert_gt(request->headers_count, 0);
                        struct sigv4_header *last = &request->headers[request->headers_count - 1];
                        last->value.len = (size_t)(start + line.len - last->value.ptr);
                        continue;
                }
                cr_assert_lt(request->headers_count, SIGV4_HEADERS_MAX);
                struct sigv4_header *header = &request->headers[request->headers_count++];
                header->name = slice_cut(&line, ':');
                header->value = line;
        }
        request->body = rest;
}

static int64_t suite_time(const char *text)
{
        struct clock_civil civil = {0};
        unsigned year, month, day, hour, minute, second;
        cr_assert_eq(sscanf(text, "%u-%u-%uT%u:%u:%uZ", &year, &month, &day, &hour, &minute, &second), 6);
        civil.year = (int32_t)year;
        civil.month = (uint8_t)month;
        civil.day = (uint8_t)day;
        civil.hour = (uint8_t)hour;
        civil.minute = (uint8_t)minute;
        civil.second = (uint8_t)second;
        return clock_civil_to_ms(&civil);
}

static struct slice json_text(json_t *object, const char *key)
{
        return slice_of_text(json_string_value(json_object_get(object, key)));
}

static void suite_case(struct sigv4_signer *signer, const char *name)
{
        struct arena arena;
        arena_init(&arena, 0, 0);
        struct err err = {0};
        struct slice context_text = suite_file(&arena, name, "context.json");
        json_t *context = json_loadb((const char *)context_text.ptr, context_text.len, 0, NULL);
        cr_assert_not_null(context);
        json_t *keys = json_object_get(context, "credentials");
        struct suite_request parsed;
        suite_request_read(suite_file(&arena, name, "request.txt"), &parsed);

        struct sigv4_credentials credentials = {
                .access_key_id = json_text(keys, "access_key_id"),
                .secret_access_key = json_text(keys, "secret_access_key"),
                .session_token = json_text(keys, "token"),
        };
        struct sigv4_header *added = &parsed.headers[parsed.headers_count];
        uint8_t sha256[SIGV4_SHA256_BYTES];
        char sha256_hex[2 * SIGV4_SHA256_BYTES + 1];
        sigv4_sha256(parsed.body, sha256);
        for (size_t i = 0; i < sizeof(sha256); i++)
                (void)snprintf(sha256_hex + 2 * i, 3, "%02x", sha256[i]);
        if (json_is_true(json_object_get(context, "sign_body"))) {
                *added++ = (struct sigv4_header){SLICE("x-amz-content-sha256"), slice_of_text(sha256_hex)};
                parsed.headers_count++;
        }
        bool token_unsigned = json_is_true(json_object_get(context, "omit_session_token"));
        if (token_unsigned)
                credentials.session_token = SLICE_EMPTY;
        struct sigv4_request request = {
                .method = parsed.method,
                .path = parsed.path,
                .query = parsed.query,
                .headers = parsed.headers,
                .headers_count = parsed.headers_count,
                .body_sha256 = sha256,
                .normalize_path = json_is_true(json_object_get(context, "normalize")),
                .double_encode_path = true,
        };
        int64_t now_ms = suite_time(json_string_value(json_object_get(context, "timestamp")));
        struct sigv4_signature signature;
        cr_assert_eq(sigv4_sign(signer, &request, &credentials, json_text(context, "region"),
                                json_text(context, "service"), now_ms, &signature, &err),
                     ERR_OK, "%s: %s", name, err.text);

        struct slice canonical = suite_file(&arena, name, "header-canonical-request.txt");
        cr_assert(slice_equal(sigv4_canonical_request(signer), canonical),
                  "%s: canonical request\n%.*s\nexpected\n%.*s", name, SLICE_PRINTF(sigv4_canonical_request(signer)),
                  SLICE_PRINTF(canonical));
        struct slice string_to_sign = suite_file(&arena, name, "header-string-to-sign.txt");
        cr_assert(slice_equal(sigv4_string_to_sign(signer), string_to_sign), "%s: string to sign\n%.*s", name,
                  SLICE_PRINTF(sigv4_string_to_sign(signer)));
        struct slice expected = suite_file(&arena, name, "header-signature.txt");
        cr_assert(slice_equal(slice_of_text(signature.signature_hex), expected), "%s: signature", name);
        struct slice signed_request = suite_file(&arena, name, "header-signed-request.txt");
        struct slice line = slice_of_text(arena_printf(&arena, "\nAuthorization:%s\n", signature.authorization));
        cr_assert_lt(slice_find(signed_request, line), signed_request.len, "%s: no line%.*s", name, SLICE_PRINTF(line));

        /* What the suite signed, the verifier accepts; every changed byte of the signature it refuses. */
        added = &parsed.headers[parsed.headers_count++];
        *added = (struct sigv4_header){SLICE("X-Amz-Date"), slice_of_text(signature.amz_date)};
        if (credentials.session_token.len > 0)
                parsed.headers[parsed.headers_count++] =
                        (struct sigv4_header){SLICE("X-Amz-Security-Token"), credentials.session_token};
        request.headers_count = parsed.headers_count;
        const char *aws_code = "unset";
        cr_assert_eq(sigv4_verify(signer, &request, slice_of_text(signature.authorization),
                                  credentials.secret_access_key, credentials.access_key_id, now_ms + 1000, 300000,
                                  &aws_code, &err),
                     ERR_OK, "%s: %s", name, err.text);
        cr_assert_null(aws_code);
        size_t last = strlen(signature.authorization) - 1;
        signature.authorization[last] = signature.authorization[last] == '0' ? '1' : '0';
        cr_assert_eq(sigv4_verify(signer, &request, slice_of_text(signature.authorization),
                                  credentials.secret_access_key, credentials.access_key_id, now_ms, 300000, &aws_code,
                                  &err),
                     ERR_ACCESS_DENIED);
        cr_assert_str_eq(aws_code, "InvalidSignatureException");
        json_decref(context);
        arena_release(&arena);
}

Test(sigv4, agrees_with_every_case_of_the_public_suite)
{
        struct sigv4_signer *signer = make_signer();
        DIR *directory = opendir(TEST_DATA_DIRECTORY "/sigv4");
        cr_assert_not_null(directory);
        int cases = 0;
        for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
                if (entry->d_name[0] == '.' || strcmp(entry->d_name, "NOTICE") == 0)
                        continue;
                suite_case(signer, entry->d_name);
                cases++;
        }
        (void)closedir(directory); /* read only */
        cr_assert_eq(cases, 38);
        sigv4_signer_free(signer);
}

/* ---------------------------------------------------------------------------------------------- Firehose */

static const struct sigv4_header firehose_headers[] = {
        {{(const uint8_t *)"Host", 4}, {(const uint8_t *)"firehose.us-east-1.amazonaws.com", 32}},
        {{(const uint8_t *)"Content-Type", 12}, {(const uint8_t *)"application/x-amz-json-1.1", 26}},
        {{(const uint8_t *)"X-Amz-Target", 12}, {(const uint8_t *)"Firehose_20150804.PutRecordBatch", 32}},
};

Test(sigv4, sha256_of_any_length_is_openssls)
{
        /* Around the pieces that are hashed one by one, and the distance that is asked for ahead. */
        static const size_t lengths[] = {0, 1, 63, 64, 1023, 1024, 1025, 5119, 5120, 5121, 6143, 6144, 6145, 65536};
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                static uint8_t bytes[65536];
                for (size_t k = 0; k < lengths[i]; k++)
                        bytes[k] = (uint8_t)(k * 7 + (k >> 8));
                struct slice body = guard_page_copy(slice_of(bytes, lengths[i]));
                uint8_t ours[SIGV4_SHA256_BYTES], theirs[SIGV4_SHA256_BYTES];
                sigv4_sha256(body, ours);
                cr_assert_eq(EVP_Digest(body.ptr, body.len, theirs, NULL, EVP_sha256(), NULL), 1);
                cr_assert_arr_eq(ours, theirs, sizeof(ours), "%zu bytes", lengths[i]);
        }
}

static struct sigv4_request firehose_request(const uint8_t *sha256)
{
        return (struct sigv4_request){
                .method = SLICE("POST"),
                .path = SLICE("/"),
                .headers = firehose_headers,
                .headers_count = 3,
                .body_sha256 = sha256,
                .normalize_path = true,
                .double_encode_path = true,
        };
}

Test(sigv4, signs_put_record_batch_as_botocore_does)
{
        struct sigv4_signer *signer = make_signer();
        uint8_t sha256[SIGV4_SHA256_BYTES];
        sigv4_sha256(SLICE("{\"DeliveryStreamName\":\"mail-events\",\"Records\":[{\"Data\":\"e30K\"}]}"), sha256);
        struct sigv4_request request = firehose_request(sha256);
        struct sigv4_signature signature;
        cr_assert_eq(sigv4_sign(signer, &request, &example_credentials, SLICE("us-east-1"), SLICE("firehose"),
                                T_20260102T030400, &signature, NULL),
                     ERR_OK);
        cr_assert_str_eq(signature.amz_date, "20260102T030400Z");
        cr_assert_str_eq(signature.signature_hex, "6105218ffaa5f4ded06d34f7141f7468dcb3676514e6445e6456d1c9083114b5");
        cr_assert_str_eq(signature.authorization,
                         "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/firehose/aws4_request, "
                         "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, "
                         "Signature=6105218ffaa5f4ded06d34f7141f7468dcb3676514e6445e6456d1c9083114b5");
        sigv4_signer_free(signer);
}

Test(sigv4, cached_key_follows_day_region_service_and_secret)
{
        struct sigv4_signer *signer = make_signer();
        uint8_t sha256[SIGV4_SHA256_BYTES];
        sigv4_sha256(SLICE_EMPTY, sha256);
        struct sigv4_request request = firehose_request(sha256);
        struct sigv4_credentials other = example_credentials;
        other.secret_access_key = SLICE("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEZ");
        struct {
                struct slice region, service;
                const struct sigv4_credentials *credentials;
                int64_t now_ms;
        } uses[] = {
                {SLICE("us-east-1"), SLICE("firehose"), &example_credentials, T_20260102T030400},
                {SLICE("us-east-1"), SLICE("firehose"), &example_credentials, T_20260102T030400 + 86400000},
                {SLICE("us-east-2"), SLICE("firehose"), &example_credentials, T_20260102T030400},
                {SLICE("us-east-1"), SLICE("events"), &example_credentials, T_20260102T030400},
                {SLICE("us-east-1"), SLICE("firehose"), &other, T_20260102T030400},
        };
        char fresh[5][65];
        for (size_t i = 0; i < 5; i++) {
                struct sigv4_signer *single = make_signer();
                struct sigv4_signature signature;
                cr_assert_eq(sigv4_sign(single, &request, uses[i].credentials, uses[i].region, uses[i].service,
                                        uses[i].now_ms, &signature, NULL),
                             ERR_OK);
                memcpy(fresh[i], signature.signature_hex, 65);
                for (size_t j = 0; j < i; j++)
                        cr_assert_str_neq(fresh[i], fresh[j]);
                sigv4_signer_free(single);
        }
        for (size_t round = 0; round < 50; round++) {
                size_t i = (round * 7 + round / 3) % 5;
                struct sigv4_signature signature;
                cr_assert_eq(sigv4_sign(signer, &request, uses[i].credentials, uses[i].region, uses[i].service,
                                        uses[i].now_ms, &signature, NULL),
                             ERR_OK);
                cr_assert_str_eq(signature.signature_hex, fresh[i]);
        }
        sigv4_signer_free(signer);
}

Test(sigv4, signing_allocates_nothing_while_the_key_is_cached)
{
        struct sigv4_signer *signer = make_signer();
        uint8_t sha256[SIGV4_SHA256_BYTES];
        struct sigv4_signature signature;
        struct err err;
        uint64_t before = 0;
        for (int round = 0; round < 1000; round++) {
                if (round == 1)
                        before = alloc_count;
                sigv4_sha256(slice_of(&round, sizeof(round)), sha256);
                struct sigv4_request request = firehose_request(sha256);
                cr_assert_eq(sigv4_sign(signer, &request, &example_credentials, SLICE("us-east-1"), SLICE("firehose"),
                                        T_20260102T030400 + round * 1000, &signature, &err),
                             ERR_OK);
        }
        cr_assert_eq(alloc_count, before, "%llu allocations", (unsigned long long)(alloc_count - before));
        if (ALLOC_COUNT_WORKS)
                cr_assert_gt(before, 0);
        sigv4_signer_free(signer);
}

Test(sigv4, refuses_what_it_cannot_sign)
{
        struct sigv4_signer *signer = make_signer();
        uint8_t sha256[SIGV4_SHA256_BYTES] = {0};
        static struct sigv4_header many[SIGV4_HEADERS_MAX];
        for (size_t i = 0; i < SIGV4_HEADERS_MAX; i++)
                many[i] = (struct sigv4_header){SLICE("a"), SLICE("b")};
        static uint8_t large[SIGV4_CANONICAL_BYTES_MAX];
        memset(large, 'x', sizeof(large));
        struct sigv4_header huge = {SLICE("a"), slice_of(large, sizeof(large))};
        struct sigv4_header date = {SLICE("X-AMZ-DATE"), SLICE("20260102T030400Z")};
        struct sigv4_header token = {SLICE("x-amz-Security-token"), SLICE("t")};
        uint8_t ampersands[2 * SIGV4_QUERY_PARAMETERS_MAX + 2];
        for (size_t i = 0; i < sizeof(ampersands); i++)
                ampersands[i] = i % 2 == 0 ? 'a' : '&';
        struct sigv4_credentials no_key = example_credentials, no_secret = example_credentials;
        no_key.access_key_id = SLICE_EMPTY;
        no_secret.secret_access_key = SLICE_EMPTY;
        struct sigv4_credentials long_secret = example_credentials;
        long_secret.secret_access_key = slice_of(large, SIGV4_SECRET_BYTES_MAX + 1);
        struct sigv4_credentials long_id = example_credentials;
        long_id.access_key_id = slice_of(large, SIGV4_AUTHORIZATION_BYTES_MAX);
        struct {
                enum err_code expected;
                const struct sigv4_header *headers;
                size_t headers_count;
                struct slice path, query;
                const struct sigv4_credentials *credentials;
                struct slice region;
                int64_t now_ms;
        } cases[] = {
                {ERR_OK, many, SIGV4_HEADERS_MAX - 2, SLICE("/"), SLICE("a=b"), &example_credentials, SLICE("r"), 0},
                {ERR_TOO_BIG, many, SIGV4_HEADERS_MAX - 1, SLICE("/"), SLICE(""), &example_credentials, SLICE("r"), 0},
                {ERR_TOO_BIG, &huge, 1, SLICE("/"), SLICE(""), &example_credentials, SLICE("r"), 0},
                {ERR_TOO_BIG, many, 1, slice_of(large, sizeof(large)), SLICE(""), &example_credentials, SLICE("r"), 0},
                {ERR_TOO_BIG, many, 1, SLICE("/"), slice_of(large, sizeof(large)), &example_credentials, SLICE("r"), 0},
                {ERR_TOO_BIG, many, 1, SLICE("/"), slice_of(ampersands, sizeof(ampersands)), &example_credentials,
                 SLICE("r"), 0},
                {ERR_TOO_BIG, many, 1, SLICE("/"), SLICE(""), &example_credentials,
                 slice_of(large, SIGV4_SCOPE_PART_BYTES_MAX + 1), 0},
                {ERR_OK, many, 1, SLICE("/"), SLICE(""), &example_credentials,
                 slice_of(large, SIGV4_SCOPE_PART_BYTES_MAX), 0},
                {ERR_TOO_BIG, many, 1, SLICE("/"), SLICE(""), &long_secret, SLICE("r"), 0},
                {ERR_TOO_BIG, many, 1, SLICE("/"), SLICE(""), &long_id, SLICE("r"), 0},
                {ERR_DUPLICATE, &date, 1, SLICE("/"), SLICE(""), &example_credentials, SLICE("r"), 0},
                {ERR_DUPLICATE, &token, 1, SLICE("/"), SLICE(""), &example_credentials, SLICE("r"), 0},
                {ERR_MISSING, many, 1, SLICE("/"), SLICE(""), &no_key, SLICE("r"), 0},
                {ERR_MISSING, many, 1, SLICE("/"), SLICE(""), &no_secret, SLICE("r"), 0},
                {ERR_MISSING, many, 1, SLICE("/"), SLICE(""), &example_credentials, SLICE(""), 0},
                {ERR_RANGE, many, 1, SLICE("/"), SLICE(""), &example_credentials, SLICE("r"), INT64_MAX},
                {ERR_RANGE, many, 1, SLICE("/"), SLICE(""), &example_credentials, SLICE("r"), INT64_MIN},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct sigv4_request request = firehose_request(sha256);
                request.path = cases[i].path;
                request.query = cases[i].query;
                request.headers = cases[i].headers;
                request.headers_count = cases[i].headers_count;
                struct sigv4_signature signature = {.amz_date = "untouched"};
                struct err err = {0};
                enum err_code code = sigv4_sign(signer, &request, cases[i].credentials, cases[i].region, SLICE("s"),
                                                cases[i].now_ms, &signature, &err);
                cr_assert_eq(code, cases[i].expected, "case %zu: %s %s", i, err_name(code), err.text);
                if (code != ERR_OK) {
                        cr_assert_str_eq(signature.amz_date, "untouched");
                        cr_assert_gt(strlen(err.text), 0);
                }
        }
        sigv4_signer_free(signer);
}

Test(sigv4, canonical_path_and_query)
{
        struct sigv4_signer *signer = make_signer();
        static const struct {
                const char *path, *query, *expected_path, *expected_query;
                bool normalize, encode;
        } cases[] = {
                {"", "", "/", "", true, true},
                {"/a/./b/../c/", "", "/a/c/", "", true, true},
                {"/../../a", "", "/a", "", true, true},
                {"//", "", "/", "", true, true},
                {"/v2/email/a%20b", "", "/v2/email/a%2520b", "", true, true},
                {"/v2/email/a%20b", "", "/v2/email/a%20b", "", true, false},
                {"/a//../b", "", "/a//../b", "", false, true},
                {"/", "b=2&a=1&a=0&=x&c", "/", "=x&a=0&a=1&b=2&c=", true, true},
                {"/", "a=%2f%zz%4&b=+~*", "/", "a=%2F%25zz%254&b=%2B~%2A", true, true},
                {"/", "&&a=1=2&&", "/", "a=1%3D2", true, true},
                {"/", "a-b=1&a=2", "/", "a=2&a-b=1", true, true},
        };
        uint8_t sha256[SIGV4_SHA256_BYTES] = {0};
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct sigv4_request request = firehose_request(sha256);
                request.path = guard_page_copy(slice_of_text(cases[i].path));
                request.query = guard_page_copy(slice_of_text(cases[i].query));
                request.normalize_path = cases[i].normalize;
                request.double_encode_path = cases[i].encode;
                struct sigv4_signature signature;
                cr_assert_eq(
                        sigv4_sign(signer, &request, &example_credentials, SLICE("r"), SLICE("s"), 0, &signature, NULL),
                        ERR_OK);
                struct slice rest = sigv4_canonical_request(signer);
                (void)slice_cut(&rest, '\n'); /* the method */
                struct slice path = slice_cut(&rest, '\n');
                struct slice query = slice_cut(&rest, '\n');
                cr_assert(slice_equal(path, slice_of_text(cases[i].expected_path)), "case %zu: %.*s", i,
                          SLICE_PRINTF(path));
                cr_assert(slice_equal(query, slice_of_text(cases[i].expected_query)), "case %zu: %.*s", i,
                          SLICE_PRINTF(query));
        }
        sigv4_signer_free(signer);
}

/* ---------------------------------------------------------------------------------------------- verifier */

Test(sigv4, verifier_answers_with_the_error_names_of_aws)
{
        struct sigv4_signer *signer = make_signer();
        uint8_t sha256[SIGV4_SHA256_BYTES], other_sha256[SIGV4_SHA256_BYTES];
        sigv4_sha256(SLICE("{}"), sha256);
        sigv4_sha256(SLICE("{ }"), other_sha256);
        struct sigv4_request request = firehose_request(sha256);
        struct sigv4_signature signature;
        cr_assert_eq(sigv4_sign(signer, &request, &example_credentials, SLICE("us-east-1"), SLICE("firehose"),
                                T_20260102T030400, &signature, NULL),
                     ERR_OK);
        const char *good = signature.authorization;
#define SCOPE "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/firehose/aws4_request"
#define LIST  "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
        static const uint8_t nul_date[] = "20260102T0304\0"
                                          "0Z";
        struct {
                const char *what;
                const char *authorization;
                enum { AS_SENT, NO_DATE, OTHER_DATE, BAD_DATE, OTHER_BODY, OTHER_HOST, EXTRA_AMZ, EXTRA_PLAIN } change;
                int64_t now_ms;
                const char *aws_code; /* NULL: accepted */
                const char *sentence; /* part of it */
        } cases[] = {
                {"as sent", good, AS_SENT, T_20260102T030400, NULL, ""},
                {"5 min late", good, AS_SENT, T_20260102T030400 + 300000, NULL, ""},
                {"5 min early", good, AS_SENT, T_20260102T030400 - 300000, NULL, ""},
                {"expired", good, AS_SENT, T_20260102T030400 + 300001, "InvalidSignatureException",
                 "Signature expired: 20260102T030400Z is now earlier than 20260102T030400Z (20260102T030900Z - 5 "
                 "min.)"},
                {"too early", good, AS_SENT, T_20260102T030400 - 301000, "InvalidSignatureException",
                 "Signature not yet current: 20260102T030400Z is still later than 20260102T030359Z (20260102T025859Z + "
                 "5 "
                 "min.)"},
                {"none", "", AS_SENT, T_20260102T030400, "MissingAuthenticationTokenException", "Missing"},
                {"basic", "Basic Zm9vOmJhcg==", AS_SENT, T_20260102T030400, "IncompleteSignatureException", "'Basic'"},
                {"no signature", SCOPE ", SignedHeaders=" LIST, AS_SENT, T_20260102T030400,
                 "IncompleteSignatureException", "requires 'Signature'"},
                {"no credential", "AWS4-HMAC-SHA256 SignedHeaders=" LIST ", Signature=00", AS_SENT, T_20260102T030400,
                 "IncompleteSignatureException", "requires 'Credential'"},
                {"short scope",
                 "AWS4-HMAC-SHA256 Credential=A/20260102/r/aws4_request, SignedHeaders=host, Signature=0", AS_SENT,
                 T_20260102T030400, "IncompleteSignatureException", "exactly 5"},
                {"long scope",
                 "AWS4-HMAC-SHA256 Credential=A/20260102/r/s/aws4_request/x, SignedHeaders=host, Signature=0", AS_SENT,
                 T_20260102T030400, "IncompleteSignatureException", "exactly 5"},
                {"terminator",
                 "AWS4-HMAC-SHA256 Credential=A/20260102/r/s/aws5_request, SignedHeaders=host, Signature=0", AS_SENT,
                 T_20260102T030400, "IncompleteSignatureException", "valid terminator"},
                {"garbage", SCOPE ", foo", AS_SENT, T_20260102T030400, "IncompleteSignatureException", "key=value"},
                {"twice", SCOPE ", Credential=a", AS_SENT, T_20260102T030400, "IncompleteSignatureException", ""},
                {"no date", good, NO_DATE, T_20260102T030400, "IncompleteSignatureException", "'X-Amz-Date'"},
                {"bad date", good, BAD_DATE, T_20260102T030400, "IncompleteSignatureException", "'X-Amz-Date'"},
                {"other day", good, OTHER_DATE, T_20260102T030400, "InvalidSignatureException",
                 "does not match YYYYMMDD"},
                {"other body", good, OTHER_BODY, T_20260102T030400, "InvalidSignatureException", "we calculated"},
                {"other host", good, OTHER_HOST, T_20260102T030400, "InvalidSignatureException", "we calculated"},
                {"unsigned x-amz", good, EXTRA_AMZ, T_20260102T030400, "InvalidSignatureException",
                 "'X-Amz-Extra' must"},
                {"unsigned plain", good, EXTRA_PLAIN, T_20260102T030400, NULL, ""},
                {"short signature", SCOPE ", SignedHeaders=" LIST ", Signature=6105", AS_SENT, T_20260102T030400,
                 "InvalidSignatureException", "we calculated"},
                {"other key",
                 "AWS4-HMAC-SHA256 Credential=AKIDOTHER/20260102/us-east-1/firehose/aws4_request, "
                 "SignedHeaders=" LIST ", Signature=00",
                 AS_SENT, T_20260102T030400, "UnrecognizedClientException", "security token"},
                {"host unsigned",
                 SCOPE ", SignedHeaders=content-type;x-amz-date;x-amz-security-token;x-amz-target, "
                       "Signature=00",
                 AS_SENT, T_20260102T030400, "InvalidSignatureException", "'Host'"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct sigv4_header headers[8];
                memcpy(headers, firehose_headers, sizeof(firehose_headers));
                size_t count = 3;
                struct sigv4_request received = firehose_request(cases[i].change == OTHER_BODY ? other_sha256 : sha256);
                headers[count++] = (struct sigv4_header){SLICE("X-Amz-Security-Token"), SLICE("TOKENEXAMPLE")};
                headers[count++] = (struct sigv4_header){SLICE("User-Agent"), SLICE("x")};
                if (cases[i].change == OTHER_DATE)
                        headers[count++] = (struct sigv4_header){SLICE("X-Amz-Date"), SLICE("20260103T030400Z")};
                else if (cases[i].change == BAD_DATE)
                        headers[count++] = (struct sigv4_header){SLICE("X-Amz-Date"), slice_of(nul_date, 16)};
                else if (cases[i].change != NO_DATE)
                        headers[count++] =
                                (struct sigv4_header){SLICE("X-Amz-Date"), slice_of_text(signature.amz_date)};
                if (cases[i].change == OTHER_HOST)
                        headers[0].value = SLICE("evil.example");
                if (cases[i].change == EXTRA_AMZ)
                        headers[count++] = (struct sigv4_header){SLICE("X-Amz-Extra"), SLICE("1")};
                if (cases[i].change == EXTRA_PLAIN)
                        headers[count++] = (struct sigv4_header){SLICE("X-Other"), SLICE("1")};
                received.headers = headers;
                received.headers_count = count;
                struct err err = {0};
                const char *aws_code = "unset";
                enum err_code code =
                        sigv4_verify(signer, &received, guard_page_copy(slice_of_text(cases[i].authorization)),
                                     example_credentials.secret_access_key, example_credentials.access_key_id,
                                     cases[i].now_ms, 300000, &aws_code, &err);
                if (cases[i].aws_code == NULL) {
                        cr_assert_eq(code, ERR_OK, "%s: %s", cases[i].what, err.text);
                        cr_assert_null(aws_code);
                        continue;
                }
                cr_assert_eq(code, ERR_ACCESS_DENIED, "%s", cases[i].what);
                cr_assert_str_eq(aws_code, cases[i].aws_code, "%s: %s", cases[i].what, aws_code);
                cr_assert_eq(err.code, ERR_ACCESS_DENIED);
                cr_assert_not_null(strstr(err.text, cases[i].sentence), "%s: %s", cases[i].what, err.text);
        }
        sigv4_signer_free(signer);
}
