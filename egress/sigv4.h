/* AWS Signature Version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
 *
 * The signing key is cached per day, region, service and secret; after that a request costs the SHA-256 of its body,
 * two short ones and one HMAC, and allocates nothing. One thread per struct sigv4_signer.
 *
 * What is signed, byte for byte:
 *
 *   canonical request                          string to sign
 *   -----------------                          --------------
 *   METHOD \n                                  AWS4-HMAC-SHA256 \n
 *   path \n                                    20260102T030400Z \n
 *   query \n                                   20260102/us-east-1/firehose/aws4_request \n
 *   name:value \n     (each header, sorted)    hex(SHA-256(canonical request))
 *   \n
 *   name;name;name \n
 *   hex(SHA-256(body))
 */
#ifndef SENDRING_EGRESS_SIGV4_H
#define SENDRING_EGRESS_SIGV4_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIGV4_SHA256_BYTES            32u
#define SIGV4_HEADERS_MAX             64u /* signed ones, x-amz-date and the token included */
#define SIGV4_QUERY_PARAMETERS_MAX    128u
#define SIGV4_CANONICAL_BYTES_MAX     (64u * 1024u) /* four times the largest request head */
#define SIGV4_AUTHORIZATION_BYTES_MAX 2048u
#define SIGV4_SECRET_BYTES_MAX        255u /* as credentials.h holds it; AWS's are 40 */
#define SIGV4_SCOPE_PART_BYTES_MAX    63u  /* region or service name */

struct sigv4_credentials {
        struct slice access_key_id, secret_access_key, session_token; /* token may be empty */
};

struct sigv4_header {
        struct slice name;  /* any case */
        struct slice value; /* as on the wire; trimmed and folded here. Equal names are joined by "," in this order */
};

struct sigv4_request {
        struct slice method; /* "POST" */
        struct slice path;   /* as on the wire; "" is "/" */
        struct slice query;  /* raw, without '?' */
        const struct sigv4_header
                *headers; /* those to sign, host included; x-amz-date and token come from the signer */
        size_t headers_count;
        const uint8_t *body_sha256; /* SIGV4_SHA256_BYTES */
        bool normalize_path;        /* remove dot segments (every service but S3) */
        bool double_encode_path;    /* encode the wire's path once more (every service but S3) */
};

struct sigv4_signature {
        char amz_date[17]; /* "20260102T030400Z": send it as X-Amz-Date, and the token as X-Amz-Security-Token */
        char authorization[SIGV4_AUTHORIZATION_BYTES_MAX];
        char signature_hex[65];
};

struct sigv4_signer; /* buffers and the cached key; about 140 KiB */
enum err_code sigv4_signer_create(struct sigv4_signer **ret_signer, struct err *reterr);
/* Overwrites the key. NULL is allowed. */
void sigv4_signer_free(struct sigv4_signer *signer);

/* SHA-256 of a body, for sigv4_request.body_sha256. */
void sigv4_sha256(struct slice bytes, uint8_t ret_sha256[SIGV4_SHA256_BYTES]);

/* `realtime_ms` is our clock plus the offset learned from the endpoint. On failure *ret_signature is untouched.
 *
 * ERR_TOO_BIG   more headers or parameters, or longer ones, than the limits above;
 * ERR_DUPLICATE x-amz-date or (with a token) x-amz-security-token are among request->headers;
 * ERR_RANGE     a time outside years 0-9999;
 * ERR_MISSING   access key id, secret, region or service is empty. */
enum err_code sigv4_sign(struct sigv4_signer *signer, const struct sigv4_request *request,
                         const struct sigv4_credentials *credentials, struct slice region, struct slice service,
                         int64_t realtime_ms, struct sigv4_signature *ret_signature, struct err *reterr);
/* What was signed or verified last, for tests and for a person who compares: valid until the next call. */
struct slice sigv4_canonical_request(const struct sigv4_signer *signer);
struct slice sigv4_string_to_sign(const struct sigv4_signer *signer);

/* The parts of an Authorization header; slices point into it. */
struct sigv4_authorization {
        struct slice access_key_id, date, region, service, signed_headers, signature_hex;
};
/* ERR_SYNTAX with AWS's sentence ("Authorization header requires 'Credential' parameter. ..."). */
enum err_code sigv4_authorization_read(struct slice authorization, struct sigv4_authorization *ret_authorization,
                                       struct err *reterr);

/* The other side, for `sendring sink`: recomputes the signature of a received request from its Authorization header and
 * compares in constant time. `request->headers` are all headers received; host, content-type and every x-amz-* among
 * them must be signed. Region and service are taken from the header: compare them by sigv4_authorization_read() where
 * they matter.
 *
 * ERR_ACCESS_DENIED with the error name of AWS's JSON services in *ret_aws_code (a literal) and AWS's sentence in
 * *reterr; *ret_aws_code is NULL after ERR_OK:
 *
 *   MissingAuthenticationTokenException  no Authorization header
 *   IncompleteSignatureException         Authorization malformed, or no x-amz-date
 *   UnrecognizedClientException          another access key id than expected
 *   InvalidSignatureException            wrong scope or signature; a header that must be signed is not; or the time is
 *                                        off by more than `skew_ms_max` ("Signature expired: ...")
 *
 * ERR_TOO_BIG with "RequestEntityTooLargeException" when the request exceeds the limits above. */
enum err_code sigv4_verify(struct sigv4_signer *signer, const struct sigv4_request *request, struct slice authorization,
                           struct slice secret_access_key, struct slice expected_access_key_id, int64_t realtime_ms,
                           int64_t skew_ms_max, const char **ret_aws_code, struct err *reterr);

#endif
