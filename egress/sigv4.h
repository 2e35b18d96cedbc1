/* AWS Signature Version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
 * The signing key is cached per day, region, service and secret; after that a request costs the SHA-256 of its body,
 * two short ones and one HMAC. No allocation per request. One thread per struct sigv4_signer. */
#ifndef SENDRING_EGRESS_SIGV4_H
#define SENDRING_EGRESS_SIGV4_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct sigv4_credentials {
        struct slice access_key_id, secret_access_key, session_token; /* token may be empty */
};

struct sigv4_header {
        struct slice name; /* any case */
        struct slice value;
};

struct sigv4_request {
        struct slice method; /* "POST" */
        struct slice path;   /* as on the wire; "" is "/" */
        struct slice query;  /* raw, without '?' */
        const struct sigv4_header
                *headers;           /* those to sign, host included; x-amz-date and token are added by the signer */
        size_t headers_count;       /* at most 64 */
        const uint8_t *body_sha256; /* 32 bytes */
        bool normalize_path;        /* remove dot segments (every service but S3) */
        bool double_encode_path;    /* every service but S3 */
};

#define SIGV4_AUTHORIZATION_BYTES_MAX 2048
struct sigv4_signature {
        char amz_date[17]; /* "20260102T030400Z" */
        char authorization[SIGV4_AUTHORIZATION_BYTES_MAX];
        char signature_hex[65];
};

struct sigv4_signer; /* OpenSSL contexts and the cached key */
enum err_code sigv4_signer_create(struct sigv4_signer **ret_signer, struct err *reterr);
void sigv4_signer_free(struct sigv4_signer *signer);

/* ERR_TOO_BIG: more headers, or longer ones, than fit the signer's buffers. */
enum err_code sigv4_sign(struct sigv4_signer *signer, const struct sigv4_request *request,
                         const struct sigv4_credentials *credentials, struct slice region, struct slice service,
                         int64_t realtime_ms, struct sigv4_signature *ret_signature, struct err *reterr);
/* What was signed, for tests and for a person who compares: valid until the next sign. */
struct slice sigv4_canonical_request(const struct sigv4_signer *signer);
struct slice sigv4_string_to_sign(const struct sigv4_signer *signer);

/* The other side, for `sendring sink`: recomputes the signature of a received request from its Authorization header.
 * ERR_ACCESS_DENIED with AWS's own error name in *ret_aws_code ("SignatureDoesNotMatch", "IncompleteSignature",
 * "RequestExpired", ...). */
enum err_code sigv4_verify(struct sigv4_signer *signer, const struct sigv4_request *request /* all headers received */,
                           struct slice authorization, struct slice secret_access_key,
                           struct slice expected_access_key_id, int64_t realtime_ms, int64_t skew_ms_max,
                           const char **ret_aws_code, struct err *reterr);

#endif
