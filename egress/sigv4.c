/* SHA256_Init() and its kin are marked deprecated since OpenSSL 3.0 but are what fits here: EVP_DigestInit_ex2() of 3.0
 * frees and allocates its state for every message, and a worker may not allocate. The code behind both is the same. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "egress/sigv4.h"

#include "base/assert.h"
#include "base/clock.h"
#include "codecs/codec.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#define SIGV4_ALGORITHM          "AWS4-HMAC-SHA256"
#define SIGV4_TERMINATOR         "aws4_request"
#define SIGV4_DATE_BYTES         8u  /* "20260102" */
#define SIGV4_TIME_BYTES         16u /* "20260102T030400Z" */
#define SIGV4_SHA256_BLOCK_BYTES 64u
#define SIGV4_HEX_BYTES          (2u * SIGV4_SHA256_BYTES)
#define SIGV4_STRING_BYTES_MAX   512u
#define SIGV4_SECRET_PREFIX      "AWS4"
#define SIGV4_SECRET_PREFIX_SIZE 4u

/* Algorithm, time and hash lines, and a scope of two names as long as allowed. */
_Static_assert(SIGV4_STRING_BYTES_MAX >
                       20 + 20 + SIGV4_DATE_BYTES + 2 * SIGV4_SCOPE_PART_BYTES_MAX + 20 + SIGV4_HEX_BYTES,
               "the longest string to sign fits");

/* A bounded text with a sticky error, checked once at the end. */
struct sigv4_text {
        uint8_t *bytes;
        size_t room;
        size_t len;
        bool full;
};

/* One query parameter, encoded, in the signer's scratch. */
struct sigv4_parameter {
        struct slice name;
        struct slice value;
};

struct sigv4_signer {
        /* The signing key belongs to these four; one worker talks to one service in one region for a whole day. */
        bool cached;
        uint8_t key[SIGV4_SHA256_BYTES];
        char date[SIGV4_DATE_BYTES + 1];
        uint8_t region[SIGV4_SCOPE_PART_BYTES_MAX];
        uint8_t service[SIGV4_SCOPE_PART_BYTES_MAX];
        uint8_t secret[SIGV4_SECRET_PREFIX_SIZE + SIGV4_SECRET_BYTES_MAX]; /* with "AWS4" before it */
        size_t region_bytes, service_bytes, secret_bytes;

        struct sigv4_parameter parameters[SIGV4_QUERY_PARAMETERS_MAX];
        size_t canonical_bytes;
        size_t string_to_sign_bytes;
        uint8_t string_to_sign[SIGV4_STRING_BYTES_MAX];
        uint8_t canonical[SIGV4_CANONICAL_BYTES_MAX];
        uint8_t scratch[SIGV4_CANONICAL_BYTES_MAX]; /* normalised path, then encoded parameters */
};

/* ---------------------------------------------------------------------------------------------- text */

static void sigv4_put(struct sigv4_text *text, struct slice s)
{
        if (text->full || s.len > text->room - text->len) {
                text->full = true;
                return;
        }
        if (s.len > 0)
                memcpy(text->bytes + text->len, s.ptr, s.len);
        text->len += s.len;
}

static void sigv4_put_byte(struct sigv4_text *text, uint8_t byte)
{
        if (text->full || text->len == text->room) {
                text->full = true;
                return;
        }
        text->bytes[text->len++] = byte;
}

static bool sigv4_is_unreserved(uint8_t byte)
{
        return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
               byte == '-' || byte == '_' || byte == '.' || byte == '~';
}

/* RFC 3986 percent encoding with upper-case digits; `keep_slash` for paths. */
static void sigv4_put_encoded(struct sigv4_text *text, uint8_t byte, bool keep_slash)
{
        static const uint8_t digits[] = "0123456789ABCDEF";
        if (sigv4_is_unreserved(byte) || (keep_slash && byte == '/')) {
                sigv4_put_byte(text, byte);
                return;
        }
        sigv4_put_byte(text, '%');
        sigv4_put_byte(text, digits[byte >> 4]);
        sigv4_put_byte(text, digits[byte & 15]);
}

static uint8_t sigv4_lower(uint8_t byte)
{
        return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
}

static int sigv4_hex_value(uint8_t byte)
{
        if (byte >= '0' && byte <= '9')
                return byte - '0';
        if (byte >= 'a' && byte <= 'f')
                return byte - 'a' + 10;
        if (byte >= 'A' && byte <= 'F')
                return byte - 'A' + 10;
        return -1;
}

static void sigv4_hex(const uint8_t sha256[SIGV4_SHA256_BYTES], char out[SIGV4_HEX_BYTES + 1])
{
        codec_hex_write(slice_of(sha256, SIGV4_SHA256_BYTES), out);
        out[SIGV4_HEX_BYTES] = '\0';
}

static bool sigv4_time_write(int64_t realtime_ms, char out[SIGV4_TIME_BYTES + 1])
{
        /* Years 0000-9999; the civil functions of base/ promise nothing beyond. */
        if (realtime_ms < INT64_C(-62167219200000) || realtime_ms > INT64_C(253402300799999))
                return false;
        struct clock_civil civil;
        clock_civil_from_ms(realtime_ms, &civil);
        unsigned year = (unsigned)civil.year % 10000;
        int len = snprintf(out, SIGV4_TIME_BYTES + 1, "%04u%02u%02uT%02u%02u%02uZ", year, civil.month % 100u,
                           civil.day % 100u, civil.hour % 100u, civil.minute % 100u, civil.second % 100u);
        return len == (int)SIGV4_TIME_BYTES;
}

/* "20260102T030400Z" only. */
static bool sigv4_time_parse(struct slice text, int64_t *ret_realtime_ms)
{
        if (text.len != SIGV4_TIME_BYTES || text.ptr[8] != 'T' || text.ptr[15] != 'Z')
                return false;
        uint64_t year, month, day, hour, minute, second;
        if (!slice_to_u64(slice_of(text.ptr, 4), 9999, &year) || !slice_to_u64(slice_of(text.ptr + 4, 2), 12, &month) ||
            !slice_to_u64(slice_of(text.ptr + 6, 2), 31, &day) || !slice_to_u64(slice_of(text.ptr + 9, 2), 23, &hour) ||
            !slice_to_u64(slice_of(text.ptr + 11, 2), 59, &minute) ||
            !slice_to_u64(slice_of(text.ptr + 13, 2), 60, &second) || month == 0 || day == 0)
                return false;
        *ret_realtime_ms = clock_civil_to_ms(&(struct clock_civil){.year = (int32_t)year,
                                                                   .month = (uint8_t)month,
                                                                   .day = (uint8_t)day,
                                                                   .hour = (uint8_t)hour,
                                                                   .minute = (uint8_t)minute,
                                                                   .second = (uint8_t)second});
        return true;
}

/* ---------------------------------------------------------------------------------------------- canonical form */

/* Writes the path without empty, "." and ".." segments; a trailing slash stays. */
static void sigv4_put_normalized_path(struct sigv4_text *out, struct slice path)
{
        size_t start = out->len;
        struct slice rest = path;
        while (rest.ptr != NULL && !out->full) {
                struct slice segment = slice_cut(&rest, '/');
                if (segment.len == 0 || slice_equal(segment, SLICE(".")))
                        continue;
                if (slice_equal(segment, SLICE(".."))) {
                        while (out->len > start && out->bytes[--out->len] != '/')
                                continue;
                        continue;
                }
                sigv4_put_byte(out, '/');
                sigv4_put(out, segment);
        }
        if (out->len == start || slice_has_suffix(path, SLICE("/")))
                sigv4_put_byte(out, '/');
}

static void sigv4_put_path(struct sigv4_signer *signer, struct sigv4_text *out, const struct sigv4_request *request)
{
        struct slice path = request->path.len == 0 ? SLICE("/") : request->path;
        if (request->normalize_path) {
                struct sigv4_text normal = {.bytes = signer->scratch, .room = sizeof(signer->scratch)};
                sigv4_put_normalized_path(&normal, path);
                out->full = out->full || normal.full;
                path = slice_of(normal.bytes, normal.len);
        }
        if (!request->double_encode_path) {
                sigv4_put(out, path);
                return;
        }
        for (size_t i = 0; i < path.len; i++)
                sigv4_put_encoded(out, path.ptr[i], true);
}

/* Decodes %XX and encodes again, so that every spelling of one parameter is signed alike. A stray '%' stands for
 * itself. */
static struct slice sigv4_put_query_part(struct sigv4_text *out, struct slice part)
{
        size_t start = out->len;
        for (size_t i = 0; i < part.len; i++) {
                uint8_t byte = part.ptr[i];
                if (byte == '%' && part.len - i > 2) {
                        int high = sigv4_hex_value(part.ptr[i + 1]);
                        int low = sigv4_hex_value(part.ptr[i + 2]);
                        if (high >= 0 && low >= 0) {
                                byte = (uint8_t)(high * 16 + low);
                                i += 2;
                        }
                }
                sigv4_put_encoded(out, byte, false);
        }
        return slice_of(out->bytes + start, out->len - start);
}

static int sigv4_compare(struct slice a, struct slice b)
{
        size_t common = a.len < b.len ? a.len : b.len;
        int order = common == 0 ? 0 : memcmp(a.ptr, b.ptr, common);
        if (order != 0)
                return order;
        return a.len < b.len ? -1 : a.len > b.len ? 1 : 0;
}

static void sigv4_put_query(struct sigv4_signer *signer, struct sigv4_text *out, struct slice query)
{
        struct sigv4_text scratch = {.bytes = signer->scratch, .room = sizeof(signer->scratch)};
        struct sigv4_parameter *parameters = signer->parameters;
        size_t count = 0;
        struct slice rest = query;
        while (rest.len > 0) {
                struct slice value = slice_cut(&rest, '&');
                if (value.len == 0)
                        continue;
                if (count == SIGV4_QUERY_PARAMETERS_MAX) {
                        out->full = true;
                        return;
                }
                struct slice name = slice_cut(&value, '=');
                struct sigv4_parameter parameter;
                parameter.name = sigv4_put_query_part(&scratch, name);
                parameter.value = sigv4_put_query_part(&scratch, value);
                size_t at = count++;
                for (; at > 0; at--) {
                        int order = sigv4_compare(parameters[at - 1].name, parameter.name);
                        if (order == 0)
                                order = sigv4_compare(parameters[at - 1].value, parameter.value);
                        if (order <= 0)
                                break;
                        parameters[at] = parameters[at - 1];
                }
                parameters[at] = parameter;
        }
        for (size_t i = 0; i < count; i++) {
                if (i > 0)
                        sigv4_put_byte(out, '&');
                sigv4_put(out, parameters[i].name);
                sigv4_put_byte(out, '=');
                sigv4_put(out, parameters[i].value);
        }
        out->full = out->full || scratch.full;
}

static int sigv4_compare_names(struct slice a, struct slice b)
{
        size_t common = a.len < b.len ? a.len : b.len;
        for (size_t i = 0; i < common; i++) {
                uint8_t left = sigv4_lower(a.ptr[i]);
                uint8_t right = sigv4_lower(b.ptr[i]);
                if (left != right)
                        return left < right ? -1 : 1;
        }
        return a.len < b.len ? -1 : a.len > b.len ? 1 : 0;
}

/* Trimmed, with every run of white space (folded lines included) as one space. */
static void sigv4_put_header_value(struct sigv4_text *out, struct slice value)
{
        value = slice_trim(value);
        bool space = false;
        for (size_t i = 0; i < value.len; i++) {
                uint8_t byte = value.ptr[i];
                if (byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n') {
                        space = true;
                        continue;
                }
                if (space)
                        sigv4_put_byte(out, ' ');
                space = false;
                sigv4_put_byte(out, byte);
        }
}

/* Equal names keep their order: the sort is stable. */
static void sigv4_sort_headers(struct sigv4_header *headers, size_t count)
{
        for (size_t i = 1; i < count; i++) {
                struct sigv4_header header = headers[i];
                size_t at = i;
                for (; at > 0 && sigv4_compare_names(headers[at - 1].name, header.name) > 0; at--)
                        headers[at] = headers[at - 1];
                headers[at] = header;
        }
}

static void sigv4_put_signed_headers(struct sigv4_text *out, const struct sigv4_header *headers, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                if (i > 0 && sigv4_compare_names(headers[i - 1].name, headers[i].name) == 0)
                        continue;
                if (i > 0)
                        sigv4_put_byte(out, ';');
                for (size_t j = 0; j < headers[i].name.len; j++)
                        sigv4_put_byte(out, sigv4_lower(headers[i].name.ptr[j]));
        }
}

/* Writes the canonical request into the signer; `headers` are sorted. */
static enum err_code sigv4_canonicalize(struct sigv4_signer *signer, const struct sigv4_request *request,
                                        const struct sigv4_header *headers, size_t headers_count, struct err *reterr)
{
        struct sigv4_text out = {.bytes = signer->canonical, .room = sizeof(signer->canonical)};
        sigv4_put(&out, request->method);
        sigv4_put_byte(&out, '\n');
        sigv4_put_path(signer, &out, request);
        sigv4_put_byte(&out, '\n');
        sigv4_put_query(signer, &out, request->query);
        sigv4_put_byte(&out, '\n');
        for (size_t i = 0; i < headers_count; i++) {
                if (i > 0 && sigv4_compare_names(headers[i - 1].name, headers[i].name) == 0) {
                        sigv4_put_byte(&out, ',');
                } else {
                        if (i > 0)
                                sigv4_put_byte(&out, '\n');
                        for (size_t j = 0; j < headers[i].name.len; j++)
                                sigv4_put_byte(&out, sigv4_lower(headers[i].name.ptr[j]));
                        sigv4_put_byte(&out, ':');
                }
                sigv4_put_header_value(&out, headers[i].value);
        }
        sigv4_put(&out, SLICE("\n\n"));
        sigv4_put_signed_headers(&out, headers, headers_count);
        sigv4_put_byte(&out, '\n');
        char hex[SIGV4_HEX_BYTES + 1];
        sigv4_hex(request->body_sha256, hex);
        sigv4_put(&out, slice_of(hex, SIGV4_HEX_BYTES));
        signer->canonical_bytes = out.full ? 0 : out.len;
        if (out.full)
                return err_set(reterr, ERR_TOO_BIG,
                               "cannot sign the request: its canonical form exceeds %u bytes or %u query parameters",
                               SIGV4_CANONICAL_BYTES_MAX, SIGV4_QUERY_PARAMETERS_MAX);
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- keys and signature */

#define SIGV4_SHA256_PIECE_BYTES ((size_t)1024)
#define SIGV4_SHA256_AHEAD_BYTES ((size_t)4096)

/* The hash of two pieces in a row. */
static void sigv4_sha256_pair(struct slice first, struct slice second, uint8_t ret_sha256[SIGV4_SHA256_BYTES])
{
        SHA256_CTX context;
        /* Pure arithmetic: each returns 1. */
        (void)SHA256_Init(&context);
        (void)SHA256_Update(&context, first.ptr, first.len);
        (void)SHA256_Update(&context, second.ptr, second.len);
        (void)SHA256_Final(ret_sha256, &context); /* overwrites the context too */
}

void sigv4_sha256(struct slice bytes, uint8_t ret_sha256[SIGV4_SHA256_BYTES])
{
        SHA256_CTX context;
        (void)SHA256_Init(&context);
        /* A body of megabytes has left the caches since it was built, and OpenSSL's loop waits for every line that the
         * processor did not foresee: asked for this much ahead, memory keeps up (1.9 GB/s where it was 1.2). */
        for (struct slice left = bytes; left.len > 0;) {
                struct slice piece =
                        slice_head(left, left.len < SIGV4_SHA256_PIECE_BYTES ? left.len : SIGV4_SHA256_PIECE_BYTES);
                if (left.len >= SIGV4_SHA256_AHEAD_BYTES + SIGV4_SHA256_PIECE_BYTES)
                        for (size_t i = 0; i < SIGV4_SHA256_PIECE_BYTES; i += 64)
                                __builtin_prefetch(left.ptr + SIGV4_SHA256_AHEAD_BYTES + i, 0, 3);
                (void)SHA256_Update(&context, piece.ptr, piece.len);
                left = slice_from(left, piece.len);
        }
        (void)SHA256_Final(ret_sha256, &context);
}

/* HMAC-SHA-256 (RFC 2104); OpenSSL's HMAC() allocates. `ret_mac` may be the key's memory. */
static void sigv4_hmac(struct slice key, struct slice text, uint8_t ret_mac[SIGV4_SHA256_BYTES])
{
        uint8_t pad[SIGV4_SHA256_BLOCK_BYTES] = {0};
        uint8_t inner[SIGV4_SHA256_BYTES];
        if (key.len > sizeof(pad))
                sigv4_sha256(key, pad);
        else
                memcpy(pad, key.ptr, key.len);
        for (size_t i = 0; i < sizeof(pad); i++)
                pad[i] ^= 0x36;
        sigv4_sha256_pair(slice_of(pad, sizeof(pad)), text, inner);
        for (size_t i = 0; i < sizeof(pad); i++)
                pad[i] ^= 0x36 ^ 0x5c;
        sigv4_sha256_pair(slice_of(pad, sizeof(pad)), slice_of(inner, sizeof(inner)), ret_mac);
        OPENSSL_cleanse(pad, sizeof(pad));
}

/* Leaves the signing key of (date, region, service, secret) in signer->key. */
static enum err_code sigv4_key(struct sigv4_signer *signer, struct slice date, struct slice region,
                               struct slice service, struct slice secret, struct err *reterr)
{
        if (region.len > SIGV4_SCOPE_PART_BYTES_MAX || service.len > SIGV4_SCOPE_PART_BYTES_MAX ||
            secret.len > SIGV4_SECRET_BYTES_MAX || date.len != SIGV4_DATE_BYTES)
                return err_set(reterr, ERR_TOO_BIG, "cannot sign: region, service or secret key is too long");
        struct slice cached_secret =
                slice_of(signer->secret + SIGV4_SECRET_PREFIX_SIZE,
                         signer->secret_bytes > 0 ? signer->secret_bytes - SIGV4_SECRET_PREFIX_SIZE : 0);
        if (signer->cached && slice_equal(slice_of(signer->date, SIGV4_DATE_BYTES), date) &&
            slice_equal(slice_of(signer->region, signer->region_bytes), region) &&
            slice_equal(slice_of(signer->service, signer->service_bytes), service) &&
            slice_equal(cached_secret, secret))
                return ERR_OK;
        signer->cached = false;
        memcpy(signer->date, date.ptr, SIGV4_DATE_BYTES);
        signer->region_bytes = region.len;
        memcpy(signer->region, region.ptr, region.len);
        signer->service_bytes = service.len;
        memcpy(signer->service, service.ptr, service.len);
        OPENSSL_cleanse(signer->secret, sizeof(signer->secret));
        signer->secret_bytes = SIGV4_SECRET_PREFIX_SIZE + secret.len;
        memcpy(signer->secret, SIGV4_SECRET_PREFIX, SIGV4_SECRET_PREFIX_SIZE);
        memcpy(signer->secret + SIGV4_SECRET_PREFIX_SIZE, secret.ptr, secret.len);

        sigv4_hmac(slice_of(signer->secret, signer->secret_bytes), date, signer->key);
        struct slice key = slice_of(signer->key, sizeof(signer->key));
        sigv4_hmac(key, region, signer->key);
        sigv4_hmac(key, service, signer->key);
        sigv4_hmac(key, SLICE(SIGV4_TERMINATOR), signer->key);
        signer->cached = true;
        return ERR_OK;
}

/* From the canonical request in the signer to the signature in hex. */
static enum err_code sigv4_signature(struct sigv4_signer *signer, struct slice secret, struct slice region,
                                     struct slice service, const char amz_date[SIGV4_TIME_BYTES + 1],
                                     char ret_hex[SIGV4_HEX_BYTES + 1], struct err *reterr)
{
        struct slice date = slice_of(amz_date, SIGV4_DATE_BYTES);
        enum err_code code = sigv4_key(signer, date, region, service, secret, reterr);
        if (code != ERR_OK)
                return code;
        uint8_t hash[SIGV4_SHA256_BYTES];
        char hex[SIGV4_HEX_BYTES + 1];
        sigv4_sha256(sigv4_canonical_request(signer), hash);
        sigv4_hex(hash, hex);
        struct sigv4_text out = {.bytes = signer->string_to_sign, .room = sizeof(signer->string_to_sign)};
        sigv4_put(&out, SLICE(SIGV4_ALGORITHM "\n"));
        sigv4_put(&out, slice_of(amz_date, SIGV4_TIME_BYTES));
        sigv4_put_byte(&out, '\n');
        sigv4_put(&out, date);
        sigv4_put_byte(&out, '/');
        sigv4_put(&out, region);
        sigv4_put_byte(&out, '/');
        sigv4_put(&out, service);
        sigv4_put(&out, SLICE("/" SIGV4_TERMINATOR "\n"));
        sigv4_put(&out, slice_of(hex, SIGV4_HEX_BYTES));
        ASSERT(!out.full);
        signer->string_to_sign_bytes = out.len;
        sigv4_hmac(slice_of(signer->key, sizeof(signer->key)), sigv4_string_to_sign(signer), hash);
        sigv4_hex(hash, ret_hex);
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- signer */

enum err_code sigv4_signer_create(struct sigv4_signer **ret_signer, struct err *reterr)
{
        struct sigv4_signer *signer = calloc(1, sizeof(*signer));
        if (signer == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for a request signer");
        *ret_signer = signer;
        return ERR_OK;
}

void sigv4_signer_free(struct sigv4_signer *signer)
{
        if (signer == NULL)
                return;
        OPENSSL_cleanse(signer, sizeof(*signer));
        free(signer);
}

struct slice sigv4_canonical_request(const struct sigv4_signer *signer)
{
        return slice_of(signer->canonical, signer->canonical_bytes);
}

struct slice sigv4_string_to_sign(const struct sigv4_signer *signer)
{
        return slice_of(signer->string_to_sign, signer->string_to_sign_bytes);
}

enum err_code sigv4_sign(struct sigv4_signer *signer, const struct sigv4_request *request,
                         const struct sigv4_credentials *credentials, struct slice region, struct slice service,
                         int64_t realtime_ms, struct sigv4_signature *ret_signature, struct err *reterr)
{
        struct sigv4_header headers[SIGV4_HEADERS_MAX];
        char amz_date[SIGV4_TIME_BYTES + 1];
        char hex[SIGV4_HEX_BYTES + 1];
        bool token = credentials->session_token.len > 0;

        if (credentials->access_key_id.len == 0 || credentials->secret_access_key.len == 0 || region.len == 0 ||
            service.len == 0)
                return err_set(reterr, ERR_MISSING, "cannot sign: %s is empty",
                               credentials->access_key_id.len == 0       ? "the access key id"
                               : credentials->secret_access_key.len == 0 ? "the secret access key"
                               : region.len == 0                         ? "the region"
                                                                         : "the service name");
        if (request->headers_count > SIGV4_HEADERS_MAX - 2)
                return err_set(reterr, ERR_TOO_BIG, "cannot sign: %zu headers, at most %u are possible",
                               request->headers_count, SIGV4_HEADERS_MAX - 2);
        if (!sigv4_time_write(realtime_ms, amz_date))
                return err_set(reterr, ERR_RANGE, "cannot sign: the clock is outside years 0-9999");
        size_t count = 0;
        for (size_t i = 0; i < request->headers_count; i++) {
                struct slice name = request->headers[i].name;
                if (slice_equal_ignore_case(name, SLICE("x-amz-date")) ||
                    (token && slice_equal_ignore_case(name, SLICE("x-amz-security-token"))))
                        return err_set(reterr, ERR_DUPLICATE, "cannot sign: the signer adds %.*s itself",
                                       SLICE_PRINTF(name));
                headers[count++] = request->headers[i];
        }
        headers[count++] = (struct sigv4_header){SLICE("x-amz-date"), slice_of(amz_date, SIGV4_TIME_BYTES)};
        if (token)
                headers[count++] = (struct sigv4_header){SLICE("x-amz-security-token"), credentials->session_token};
        sigv4_sort_headers(headers, count);

        enum err_code code = sigv4_canonicalize(signer, request, headers, count, reterr);
        if (code != ERR_OK)
                return code;
        code = sigv4_signature(signer, credentials->secret_access_key, region, service, amz_date, hex, reterr);
        if (code != ERR_OK)
                return code;

        uint8_t authorization[SIGV4_AUTHORIZATION_BYTES_MAX];
        struct sigv4_text out = {.bytes = authorization, .room = sizeof(authorization) - 1};
        sigv4_put(&out, SLICE(SIGV4_ALGORITHM " Credential="));
        sigv4_put(&out, credentials->access_key_id);
        sigv4_put_byte(&out, '/');
        sigv4_put(&out, slice_of(amz_date, SIGV4_DATE_BYTES));
        sigv4_put_byte(&out, '/');
        sigv4_put(&out, region);
        sigv4_put_byte(&out, '/');
        sigv4_put(&out, service);
        sigv4_put(&out, SLICE("/" SIGV4_TERMINATOR ", SignedHeaders="));
        sigv4_put_signed_headers(&out, headers, count);
        sigv4_put(&out, SLICE(", Signature="));
        sigv4_put(&out, slice_of(hex, SIGV4_HEX_BYTES));
        if (out.full)
                return err_set(reterr, ERR_TOO_BIG, "cannot sign: the Authorization header would exceed %u bytes",
                               SIGV4_AUTHORIZATION_BYTES_MAX - 1);
        memcpy(ret_signature->amz_date, amz_date, sizeof(amz_date));
        memcpy(ret_signature->signature_hex, hex, sizeof(hex));
        memcpy(ret_signature->authorization, authorization, out.len);
        ret_signature->authorization[out.len] = '\0';
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- verifier */

enum err_code sigv4_authorization_read(struct slice authorization, struct sigv4_authorization *ret_authorization,
                                       struct err *reterr)
{
        struct slice rest = slice_trim(authorization);
        struct slice algorithm = slice_cut(&rest, ' ');
        if (!slice_equal(algorithm, SLICE(SIGV4_ALGORITHM)))
                return err_set(reterr, ERR_SYNTAX, "Unsupported AWS 'algorithm': '%.*s'.",
                               SLICE_PRINTF(slice_head(algorithm, 64)));
        struct slice credential = SLICE_EMPTY, signed_headers = SLICE_EMPTY, signature = SLICE_EMPTY;
        while (rest.len > 0) {
                struct slice value = slice_trim(slice_cut(&rest, ','));
                struct slice name = slice_cut(&value, '=');
                struct slice *target = slice_equal(name, SLICE("Credential"))      ? &credential
                                       : slice_equal(name, SLICE("SignedHeaders")) ? &signed_headers
                                       : slice_equal(name, SLICE("Signature"))     ? &signature
                                                                                   : NULL;
                if (target == NULL || target->len > 0 || value.len == 0)
                        return err_set(reterr, ERR_SYNTAX,
                                       "'%.*s' not a valid key=value pair (missing equal-sign) in Authorization header",
                                       SLICE_PRINTF(slice_head(name, 64)));
                *target = value;
        }
        if (credential.len == 0 || signed_headers.len == 0 || signature.len == 0)
                return err_set(reterr, ERR_SYNTAX, "%s%s%s",
                               credential.len == 0 ? "Authorization header requires 'Credential' parameter. " : "",
                               signature.len == 0 ? "Authorization header requires 'Signature' parameter. " : "",
                               signed_headers.len == 0 ? "Authorization header requires 'SignedHeaders' parameter. "
                                                       : "");
        struct slice parts[5] = {0};
        struct slice scope = credential;
        size_t count = 0;
        while (count < 5 && scope.ptr != NULL)
                parts[count++] = slice_cut(&scope, '/');
        bool complete = count == 5 && scope.ptr == NULL;
        for (size_t i = 0; i < count; i++)
                complete = complete && parts[i].len > 0;
        if (!complete)
                return err_set(reterr, ERR_SYNTAX,
                               "Credential must have exactly 5 slash-delimited elements, e.g. "
                               "keyid/date/region/service/term, got '%.*s'",
                               SLICE_PRINTF(slice_head(credential, 128)));
        if (!slice_equal(parts[4], SLICE(SIGV4_TERMINATOR)))
                return err_set(reterr, ERR_SYNTAX,
                               "Credential should be scoped with a valid terminator: '" SIGV4_TERMINATOR
                               "', not '%.*s'.",
                               SLICE_PRINTF(slice_head(parts[4], 64)));
        *ret_authorization = (struct sigv4_authorization){
                .access_key_id = parts[0],
                .date = parts[1],
                .region = parts[2],
                .service = parts[3],
                .signed_headers = signed_headers,
                .signature_hex = signature,
        };
        return ERR_OK;
}

static bool sigv4_is_listed(struct slice signed_headers, struct slice name)
{
        struct slice rest = signed_headers;
        while (rest.ptr != NULL)
                if (slice_equal_ignore_case(slice_cut(&rest, ';'), name))
                        return true;
        return false;
}

static bool sigv4_must_be_signed(struct slice name)
{
        return slice_equal_ignore_case(name, SLICE("host")) || slice_equal_ignore_case(name, SLICE("content-type")) ||
               slice_equal_ignore_case(slice_head(name, 6), SLICE("x-amz-"));
}

enum err_code sigv4_verify(struct sigv4_signer *signer, const struct sigv4_request *request, struct slice authorization,
                           struct slice secret_access_key, struct slice expected_access_key_id, int64_t realtime_ms,
                           int64_t skew_ms_max, const char **ret_aws_code, struct err *reterr)
{
        struct sigv4_authorization claim;
        struct sigv4_header headers[SIGV4_HEADERS_MAX];
        size_t count = 0;
        struct slice amz_date = SLICE_EMPTY;
        bool host_signed = false;

        if (slice_trim(authorization).len == 0) {
                *ret_aws_code = "MissingAuthenticationTokenException";
                return err_set(reterr, ERR_ACCESS_DENIED, "Missing Authentication Token");
        }
        if (sigv4_authorization_read(authorization, &claim, reterr) != ERR_OK) {
                *ret_aws_code = "IncompleteSignatureException";
                if (reterr != NULL)
                        reterr->code = ERR_ACCESS_DENIED;
                return ERR_ACCESS_DENIED;
        }
        for (size_t i = 0; i < request->headers_count; i++) {
                struct slice name = request->headers[i].name;
                if (slice_equal_ignore_case(name, SLICE("x-amz-date")))
                        amz_date = slice_trim(request->headers[i].value);
                if (!sigv4_is_listed(claim.signed_headers, name)) {
                        if (!sigv4_must_be_signed(name))
                                continue;
                        *ret_aws_code = "InvalidSignatureException";
                        return err_set(reterr, ERR_ACCESS_DENIED,
                                       "'%.*s' must be a 'SignedHeader' in the AWS Authorization.",
                                       SLICE_PRINTF(slice_head(name, 64)));
                }
                if (count == SIGV4_HEADERS_MAX) {
                        *ret_aws_code = "RequestEntityTooLargeException";
                        return err_set(reterr, ERR_TOO_BIG, "more than %u signed headers", SIGV4_HEADERS_MAX);
                }
                host_signed = host_signed || slice_equal_ignore_case(name, SLICE("host"));
                headers[count++] = request->headers[i];
        }
        int64_t signed_ms;
        char time_text[SIGV4_TIME_BYTES + 1];
        if (!sigv4_time_parse(amz_date, &signed_ms) || !slice_to_text(amz_date, time_text, sizeof(time_text))) {
                *ret_aws_code = "IncompleteSignatureException";
                return err_set(reterr, ERR_ACCESS_DENIED,
                               "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.");
        }
        *ret_aws_code = "InvalidSignatureException";
        if (!host_signed)
                return err_set(reterr, ERR_ACCESS_DENIED, "'Host' must be a 'SignedHeader' in the AWS Authorization.");
        if (!slice_equal(claim.date, slice_head(amz_date, SIGV4_DATE_BYTES)))
                return err_set(reterr, ERR_ACCESS_DENIED,
                               "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from "
                               "HTTP: '%.*s' != '%.*s', from '%s'.",
                               SLICE_PRINTF(slice_head(claim.date, 32)), (int)SIGV4_DATE_BYTES, time_text, time_text);
        if (!slice_equal(claim.access_key_id, expected_access_key_id)) {
                *ret_aws_code = "UnrecognizedClientException";
                return err_set(reterr, ERR_ACCESS_DENIED, "The security token included in the request is invalid.");
        }
        int64_t skew_ms = signed_ms - realtime_ms;
        if (skew_ms > skew_ms_max || skew_ms < -skew_ms_max) {
                char now[SIGV4_TIME_BYTES + 1], border[SIGV4_TIME_BYTES + 1];
                bool early = skew_ms < 0;
                if (!sigv4_time_write(realtime_ms, now) ||
                    !sigv4_time_write(early ? realtime_ms - skew_ms_max : realtime_ms + skew_ms_max, border))
                        return err_set(reterr, ERR_ACCESS_DENIED, "Signature expired: %s", time_text);
                return err_set(reterr, ERR_ACCESS_DENIED, "Signature %s: %s is %s than %s (%s %c %lld min.)",
                               early ? "expired" : "not yet current", time_text, early ? "now earlier" : "still later",
                               border, now, early ? '-' : '+', (long long)(skew_ms_max / 60000));
        }
        sigv4_sort_headers(headers, count);
        char hex[SIGV4_HEX_BYTES + 1];
        enum err_code code = sigv4_canonicalize(signer, request, headers, count, reterr);
        if (code == ERR_OK)
                code = sigv4_signature(signer, secret_access_key, claim.region, claim.service, time_text, hex, reterr);
        if (code == ERR_TOO_BIG)
                *ret_aws_code = "RequestEntityTooLargeException";
        if (code != ERR_OK)
                return code;
        if (claim.signature_hex.len != SIGV4_HEX_BYTES ||
            CRYPTO_memcmp(hex, claim.signature_hex.ptr, SIGV4_HEX_BYTES) != 0)
                return err_set(reterr, ERR_ACCESS_DENIED,
                               "The request signature we calculated does not match the signature you provided. Check "
                               "your AWS Secret Access Key and signing method. Consult the service documentation for "
                               "details.");
        *ret_aws_code = NULL;
        return ERR_OK;
}
