/* Signs requests for sigv4_botocore.py: one JSON object a line on stdin, one a line on stdout. */
#include "egress/sigv4.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static struct slice text_of(json_t *value)
{
        return slice_of(json_string_value(value), json_string_length(value));
}

static struct slice member(json_t *object, const char *key)
{
        return text_of(json_object_get(object, key));
}

int main(void)
{
        struct sigv4_signer *signer = NULL;
        struct err err = {0};
        if (sigv4_signer_create(&signer, &err) != ERR_OK) {
                (void)fprintf(stderr, "%s\n", err.text);
                return 1;
        }
        char *line = NULL;
        size_t room = 0;
        ssize_t got;
        while ((got = getline(&line, &room, stdin)) > 0) {
                json_t *input = json_loadb(line, (size_t)got, 0, NULL);
                if (input == NULL) {
                        (void)fprintf(stderr, "not JSON: %s", line);
                        return 1;
                }
                struct sigv4_header headers[SIGV4_HEADERS_MAX];
                size_t headers_count = 0;
                size_t index;
                json_t *pair;
                json_array_foreach(json_object_get(input, "headers"), index, pair)
                {
                        if (headers_count == SIGV4_HEADERS_MAX)
                                return 1;
                        headers[headers_count++] = (struct sigv4_header){text_of(json_array_get(pair, 0)),
                                                                         text_of(json_array_get(pair, 1))};
                }
                uint8_t sha256[SIGV4_SHA256_BYTES];
                sigv4_sha256(member(input, "body"), sha256);
                struct sigv4_request request = {
                        .method = member(input, "method"),
                        .path = member(input, "path"),
                        .query = member(input, "query"),
                        .headers = headers,
                        .headers_count = headers_count,
                        .body_sha256 = sha256,
                        .normalize_path = true,
                        .double_encode_path = true,
                };
                struct sigv4_credentials credentials = {
                        .access_key_id = member(input, "access_key"),
                        .secret_access_key = member(input, "secret_key"),
                        .session_token = member(input, "token"),
                };
                struct sigv4_signature signature;
                enum err_code code =
                        sigv4_sign(signer, &request, &credentials, member(input, "region"), member(input, "service"),
                                   json_integer_value(json_object_get(input, "time")) * 1000, &signature, &err);
                if (code != ERR_OK) {
                        (void)fprintf(stderr, "%s\n", err.text);
                        return 1;
                }
                struct slice canonical = sigv4_canonical_request(signer);
                json_t *output =
                        json_pack("{s:s,s:s,s:s%}", "authorization", signature.authorization, "amz_date",
                                  signature.amz_date, "canonical_request", (const char *)canonical.ptr, canonical.len);
                if (output == NULL || json_dumpf(output, stdout, JSON_COMPACT) != 0 || putchar('\n') == EOF)
                        return 1;
                json_decref(output);
                json_decref(input);
        }
        free(line);
        sigv4_signer_free(signer);
        return fflush(stdout) == 0 ? 0 : 1;
}
