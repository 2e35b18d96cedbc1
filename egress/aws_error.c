#include "egress/aws_error.h"

#include "base/assert.h"
#include "base/clock.h"
#include "codecs/codec.h"

#include <stdio.h>

/* A wrong signature is put down to the clock when Date differs from ours by more than this: AWS allows 5 minutes. */
#define AWS_ERROR_SKEW_MS (INT64_C(4) * 60 * 1000)
/* Of a Date that is to be believed: 2025 to 2100. */
#define AWS_ERROR_DATE_MS_MIN INT64_C(1735689600000)
#define AWS_ERROR_DATE_MS_MAX INT64_C(4102444800000)

/* ---------------------------------------------------------------------------------------------- names */

static const struct {
        const char *name;
        enum err_code code;
} aws_error_names[] = {
        /* Throttling: the SDKs' list (SDKs reference guide, "Retry behavior"). */
        {"Throttling", ERR_THROTTLED},
        {"ThrottlingException", ERR_THROTTLED},
        {"ThrottledException", ERR_THROTTLED},
        {"Throttled", ERR_THROTTLED},
        {"RequestThrottledException", ERR_THROTTLED},
        {"RequestThrottled", ERR_THROTTLED},
        {"TooManyRequestsException", ERR_THROTTLED},
        {"ProvisionedThroughputExceededException", ERR_THROTTLED},
        {"TransactionInProgressException", ERR_THROTTLED},
        {"RequestLimitExceeded", ERR_THROTTLED},
        {"BandwidthLimitExceeded", ERR_THROTTLED},
        {"LimitExceededException", ERR_THROTTLED},
        {"SlowDown", ERR_THROTTLED},
        {"PriorRequestNotComplete", ERR_THROTTLED},
        {"EC2ThrottledException", ERR_THROTTLED},
        /* Transient. */
        {"ServiceUnavailable", ERR_UNAVAILABLE},
        {"ServiceUnavailableException", ERR_UNAVAILABLE},
        {"InternalFailure", ERR_UNAVAILABLE},
        {"InternalFailureException", ERR_UNAVAILABLE},
        {"InternalError", ERR_UNAVAILABLE},
        {"InternalServerError", ERR_UNAVAILABLE},
        {"InternalServiceError", ERR_UNAVAILABLE},
        {"InternalServerException", ERR_UNAVAILABLE},
        {"InternalServiceFault", ERR_UNAVAILABLE},
        {"InternalException", ERR_UNAVAILABLE},
        {"RequestTimeout", ERR_UNAVAILABLE},
        {"RequestTimeoutException", ERR_UNAVAILABLE},
        {"IDPCommunicationError", ERR_UNAVAILABLE},
        {"RequestAbortedException", ERR_UNAVAILABLE},
        /* The clock. */
        {"RequestExpired", ERR_CLOCK_SKEW},
        {"RequestTimeTooSkewed", ERR_CLOCK_SKEW},
        {"RequestInTheFuture", ERR_CLOCK_SKEW},
        /* Credentials that a refresh may mend. */
        {"ExpiredToken", ERR_CREDENTIALS_EXPIRED},
        {"ExpiredTokenException", ERR_CREDENTIALS_EXPIRED},
        {"TokenRefreshRequired", ERR_CREDENTIALS_EXPIRED},
        {"UnrecognizedClientException", ERR_CREDENTIALS_UNKNOWN},
        {"UnrecognizedClient", ERR_CREDENTIALS_UNKNOWN},
        {"InvalidClientTokenId", ERR_CREDENTIALS_UNKNOWN},
        {"InvalidClientTokenIdException", ERR_CREDENTIALS_UNKNOWN},
        /* Nothing but a person mends these. */
        {"AccessDenied", ERR_ACCESS_DENIED},
        {"AccessDeniedException", ERR_ACCESS_DENIED},
        {"NotAuthorized", ERR_ACCESS_DENIED},
        {"UnauthorizedOperation", ERR_ACCESS_DENIED},
        {"AuthorizationError", ERR_ACCESS_DENIED},
        {"OptInRequired", ERR_ACCESS_DENIED},
        {"MissingAuthenticationToken", ERR_ACCESS_DENIED},
        {"MissingAuthenticationTokenException", ERR_ACCESS_DENIED},
        {"IncompleteSignature", ERR_ACCESS_DENIED},
        {"IncompleteSignatureException", ERR_ACCESS_DENIED},
        {"InvalidSignature", ERR_ACCESS_DENIED},
        {"InvalidSignatureException", ERR_ACCESS_DENIED},
        {"SignatureDoesNotMatch", ERR_ACCESS_DENIED},
        {"ResourceNotFoundException", ERR_NOT_FOUND},
        {"ResourceNotFound", ERR_NOT_FOUND},
        {"NotFound", ERR_NOT_FOUND},
        {"ValidationError", ERR_REFUSED},
        {"ValidationException", ERR_REFUSED},
        {"SerializationException", ERR_REFUSED},
        {"MalformedQueryString", ERR_REFUSED},
        {"UnknownOperationException", ERR_REFUSED},
        {"InvalidAction", ERR_REFUSED},
        {"InvalidArgumentException", ERR_REFUSED},
        {"InvalidSourceException", ERR_REFUSED},
        {"InvalidKMSResourceException", ERR_REFUSED},
        {"RequestEntityTooLargeException", ERR_REFUSED},
        /* CloudWatch, as shapes and as the codes of its older protocol. */
        {"InvalidParameterValueException", ERR_REFUSED},
        {"InvalidParameterValue", ERR_REFUSED},
        {"MissingRequiredParameterException", ERR_REFUSED},
        {"MissingParameter", ERR_REFUSED},
        {"InvalidParameterCombinationException", ERR_REFUSED},
        {"InvalidParameterCombination", ERR_REFUSED},
};

static bool aws_error_has(struct slice text, struct slice part)
{
        return slice_find(text, part) < text.len;
}

static bool aws_error_is_signature(struct slice name)
{
        return slice_equal(name, SLICE("InvalidSignatureException")) || slice_equal(name, SLICE("InvalidSignature")) ||
               slice_equal(name, SLICE("SignatureDoesNotMatch"));
}

enum err_code aws_error_classify(struct slice name, struct slice message)
{
        enum err_code code = ERR_OK;
        for (size_t i = 0; i < sizeof(aws_error_names) / sizeof(aws_error_names[0]); i++)
                if (slice_equal(name, slice_of_text(aws_error_names[i].name))) {
                        code = aws_error_names[i].code;
                        break;
                }
        if (aws_error_is_signature(name) && (aws_error_has(message, SLICE("Signature expired")) ||
                                             aws_error_has(message, SLICE("Signature not yet current"))))
                return ERR_CLOCK_SKEW;
        /* Firehose and S3 say so when they mean "too fast". */
        if (code == ERR_UNAVAILABLE &&
            (aws_error_has(message, SLICE("Slow down")) || aws_error_has(message, SLICE("slow down"))))
                return ERR_THROTTLED;
        return code;
}

static enum err_code aws_error_by_status(uint16_t status)
{
        switch (status) {
        case 401:
        case 403:
                return ERR_ACCESS_DENIED;
        case 404:
                return ERR_NOT_FOUND;
        case 408:
                return ERR_UNAVAILABLE;
        case 429:
                return ERR_THROTTLED;
        default:
                return status >= 500 ? ERR_UNAVAILABLE : ERR_REFUSED;
        }
}

/* ---------------------------------------------------------------------------------------------- texts */

/* Ends a text after `bytes`, or before the last character where it was `cut` within one; control bytes become spaces.
 */
static void aws_error_clean(char *out, size_t bytes, bool cut)
{
        if (cut) {
                /* Not in the middle of a character: drop a lead byte that has not all of its continuation bytes. */
                size_t end = bytes;
                while (end > 0 && bytes - end < 3 && ((uint8_t)out[end - 1] & 0xc0) == 0x80)
                        end--;
                uint8_t lead = end > 0 ? (uint8_t)out[end - 1] : 0;
                size_t wanted = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 0;
                if (bytes - end + 1 < wanted)
                        bytes = end - 1;
        }
        for (size_t i = 0; i < bytes; i++)
                if ((uint8_t)out[i] < 0x20 || out[i] == 0x7f)
                        out[i] = ' ';
        out[bytes] = '\0';
}

void aws_error_text(struct slice raw, char *out, size_t out_bytes)
{
        ASSERT(out_bytes > 0);
        out[0] = '\0';
        if (raw.len == 0)
                return;
        /* Decoding never lengthens a string, so a raw text cut to the room fits; cut it between two escapes. */
        size_t len = 0;
        while (len < raw.len) {
                size_t unit = raw.ptr[len] != '\\' ? 1 : raw.len - len > 1 && raw.ptr[len + 1] == 'u' ? 6 : 2;
                if (unit > raw.len - len || len + unit > out_bytes - 1)
                        break;
                len += unit;
        }
        bool cut = len < raw.len;
        size_t bytes = codec_json_unescape(slice_head(raw, len), (uint8_t *)out, out_bytes - 1);
        if (bytes > out_bytes - 1)
                bytes = 0;
        aws_error_clean(out, bytes, cut);
}

/* The same of a text that is as it is. */
static void aws_error_plain(struct slice text, char *out, size_t out_bytes)
{
        size_t bytes = text.len < out_bytes - 1 ? text.len : out_bytes - 1;
        if (bytes > 0)
                memcpy(out, text.ptr, bytes);
        aws_error_clean(out, bytes, bytes < text.len);
}

/* "com.amazonaws.firehose#ServiceUnavailableException:http://..." -> "ServiceUnavailableException"; nothing when what
 * remains is no name. */
static struct slice aws_error_name_cut(struct slice text)
{
        size_t hash = slice_find_byte(text, '#');
        if (hash < text.len)
                text = slice_from(text, hash + 1);
        text = slice_trim(slice_head(text, slice_find_byte(text, ':')));
        if (text.len >= sizeof(((struct aws_error *)NULL)->name))
                return SLICE_EMPTY;
        for (size_t i = 0; i < text.len; i++) {
                uint8_t byte = text.ptr[i];
                if (!((byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
                      byte == '.' || byte == '_' || byte == '-'))
                        return SLICE_EMPTY;
        }
        return text;
}

/* Takes name and message from a JSON body, as far as it can be read. */
static void aws_error_body(struct slice body, struct slice *ret_name, struct slice *ret_message)
{
        struct slice type = SLICE_EMPTY, code = SLICE_EMPTY;
        struct codec_json_reader reader;
        codec_json_reader_init(&reader, body);
        if (codec_json_next(&reader) != CODEC_JSON_OBJECT_BEGIN)
                return;
        while (codec_json_next(&reader) == CODEC_JSON_KEY) {
                struct slice key = reader.value;
                struct slice *target = NULL;
                if (slice_equal(key, SLICE("__type")))
                        target = &type;
                else if (slice_equal_ignore_case(key, SLICE("code")))
                        target = &code;
                else if (slice_equal_ignore_case(key, SLICE("message")))
                        target = ret_message;
                if (target == NULL) {
                        if (!codec_json_skip(&reader))
                                break;
                        continue;
                }
                struct codec_json_reader before = reader;
                if (codec_json_next(&reader) == CODEC_JSON_STRING) {
                        *target = reader.value;
                } else {
                        /* Not a text: take the reader back and step over the whole value. */
                        reader = before;
                        if (!codec_json_skip(&reader))
                                break;
                }
        }
        *ret_name = aws_error_name_cut(type);
        if (ret_name->len == 0)
                *ret_name = aws_error_name_cut(code);
}

bool aws_error_date_parse(struct slice text, int64_t *ret_realtime_ms)
{
        static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        /* "Tue, 18 Aug 2026 11:22:18 GMT": the one form that servers may send since RFC 7231. */
        text = slice_trim(text);
        if (text.len != 29 || text.ptr[3] != ',' || text.ptr[4] != ' ' || text.ptr[7] != ' ' || text.ptr[11] != ' ' ||
            text.ptr[16] != ' ' || text.ptr[19] != ':' || text.ptr[22] != ':' ||
            !slice_equal(slice_from(text, 25), SLICE(" GMT")))
                return false;
        unsigned month = 0;
        while (month < 12 && memcmp(months + (size_t)month * 3, text.ptr + 8, 3) != 0)
                month++;
        uint64_t day, year, hour, minute, second;
        if (month == 12 || !slice_to_u64(slice_of(text.ptr + 5, 2), 31, &day) || day == 0 ||
            !slice_to_u64(slice_of(text.ptr + 12, 4), 9999, &year) ||
            !slice_to_u64(slice_of(text.ptr + 17, 2), 23, &hour) ||
            !slice_to_u64(slice_of(text.ptr + 20, 2), 59, &minute) ||
            !slice_to_u64(slice_of(text.ptr + 23, 2), 60, &second))
                return false;
        *ret_realtime_ms = clock_civil_to_ms(&(struct clock_civil){.year = (int32_t)year,
                                                                   .month = (uint8_t)(month + 1),
                                                                   .day = (uint8_t)day,
                                                                   .hour = (uint8_t)hour,
                                                                   .minute = (uint8_t)minute,
                                                                   .second = (uint8_t)second});
        return true;
}

/* Whether Date is to be believed. */
static bool aws_error_server_ms(const struct http_response *response, int64_t *ret_server_ms)
{
        int64_t server_ms;
        if (!aws_error_date_parse(response->date, &server_ms) || server_ms < AWS_ERROR_DATE_MS_MIN ||
            server_ms >= AWS_ERROR_DATE_MS_MAX)
                return false;
        *ret_server_ms = server_ms;
        return true;
}

/* `server_ms`: the time by the clock that wrote the answer. */
static struct aws_wish aws_wish_read(const struct http_response *response, int64_t server_ms)
{
        struct aws_wish wish = {.more_ms_max = AWS_WISH_MORE_MS_MAX};
        uint64_t after_ms = 0;
        int64_t until_ms;
        if (!slice_to_u64(response->retry_after_ms, UINT64_MAX, &after_ms)) {
                wish.more_ms_max = AWS_WISH_MS_MAX;
                if (slice_to_u64(response->retry_after, UINT64_MAX / 1000, &after_ms))
                        after_ms *= 1000;
                else if (aws_error_date_parse(response->retry_after, &until_ms) && until_ms > server_ms)
                        after_ms = (uint64_t)(until_ms - server_ms);
                else
                        after_ms = 0;
        }
        wish.after_ms = after_ms > AWS_WISH_MS_MAX ? AWS_WISH_MS_MAX : (uint32_t)after_ms;
        return wish;
}

struct aws_wish aws_error_wish(const struct http_response *response, int64_t realtime_ms)
{
        int64_t server_ms = realtime_ms;
        (void)aws_error_server_ms(response, &server_ms); /* else ours is the best there is */
        return aws_wish_read(response, server_ms);
}

/* ret_error->message is there. */
static void aws_error_judge(const struct http_response *response, struct slice name, int64_t realtime_ms,
                            struct aws_error *ret_error)
{
        struct slice header_name = aws_error_name_cut(response->error_type);
        if (header_name.len > 0)
                name = header_name;

        bool fits = slice_to_text(name, ret_error->name, sizeof(ret_error->name));
        ASSERT(fits);
        enum err_code code = aws_error_classify(name, slice_of_text(ret_error->message));
        int64_t server_ms = realtime_ms;
        bool dated = aws_error_server_ms(response, &server_ms);
        int64_t offset_ms = server_ms - realtime_ms;
        if (aws_error_is_signature(name) && (offset_ms > AWS_ERROR_SKEW_MS || offset_ms < -AWS_ERROR_SKEW_MS))
                code = ERR_CLOCK_SKEW;
        ret_error->code = code == ERR_OK ? aws_error_by_status(response->status) : code;
        if (ret_error->code == ERR_CLOCK_SKEW && dated)
                ret_error->server_ms = server_ms + 500; /* Date has whole seconds: half a second is its mean error */
        if (ret_error->message[0] == '\0')
                (void)snprintf(ret_error->message, sizeof(ret_error->message), "HTTP %u without an AWS error %s",
                               response->status, name.len == 0 ? "name" : "message"); /* short: cannot be cut */

        ret_error->wish = aws_wish_read(response, server_ms);
}

void aws_error_read(const struct http_response *response, int64_t realtime_ms, struct aws_error *ret_error)
{
        struct slice name = SLICE_EMPTY, message = SLICE_EMPTY;
        *ret_error = (struct aws_error){0};
        aws_error_body(response->body, &name, &message);
        aws_error_text(message, ret_error->message, sizeof(ret_error->message));
        aws_error_judge(response, name, realtime_ms, ret_error);
}

void aws_error_read_named(const struct http_response *response, struct slice name, struct slice message,
                          int64_t realtime_ms, struct aws_error *ret_error)
{
        *ret_error = (struct aws_error){0};
        aws_error_plain(message, ret_error->message, sizeof(ret_error->message));
        aws_error_judge(response, aws_error_name_cut(name), realtime_ms, ret_error);
}
