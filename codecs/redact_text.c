#include "codecs/redact_text.h"

/* What replaces a local part. */
#define REDACT_MASK "***"

/* One address in a text: [local, separator), a sign, [domain, end). */
struct redact_found {
        const uint8_t *local, *separator, *domain, *end;
};

static bool redact_is_alnum(uint8_t byte)
{
        return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') || byte >= 0x80;
}

/* RFC 5322's atext and '.', and every byte of UTF-8: too much of a text is better hidden than too little. */
static bool redact_is_local(uint8_t byte)
{
        return redact_is_alnum(byte) || (byte != '\0' && strchr("!#$%&'*+-/=?^_`{|}~.", byte) != NULL);
}

static bool redact_is_domain(uint8_t byte)
{
        return redact_is_alnum(byte) || byte == '-' || byte == '.' || byte == '_';
}

/* Fullwidth and small '@' (U+FF20, U+FE6B), as East Asian keyboards write it. */
static bool redact_is_wide_sign(const uint8_t *at, const uint8_t *end)
{
        return end - at >= 3 && at[0] == 0xef && ((at[1] == 0xbc && at[2] == 0xa0) || (at[1] == 0xb9 && at[2] == 0xab));
}

size_t redact_spelled_sign(const uint8_t *at, const uint8_t *end)
{
        if (redact_is_wide_sign(at, end))
                return 3;
        if (at == end || *at != '%')
                return 0;
        const uint8_t *digits = at + 1; /* "%25" is '%' itself: a link in a link in a link */
        while (end - digits >= 2 && digits[0] == '2' && digits[1] == '5')
                digits += 2;
        return end - digits >= 2 && digits[0] == '4' && digits[1] == '0' ? (size_t)(digits + 2 - at) : 0;
}

static const uint8_t *redact_domain_end(const uint8_t *domain, const uint8_t *end)
{
        if (domain < end && *domain == '[') { /* [192.0.2.1], [IPv6:2001:db8::1] */
                const uint8_t *close = domain + 1;
                while (close < end && (redact_is_domain(*close) || *close == ':') && !redact_is_wide_sign(close, end))
                        close++;
                if (close < end && *close == ']')
                        return close + 1;
        }
        const uint8_t *at = domain;
        while (at < end && redact_is_domain(*at) && !redact_is_wide_sign(at, end))
                at++;
        while (at > domain && (at[-1] == '.' || at[-1] == '-'))
                at--;
        return at;
}

/* A wide sign stands in prose, too ("at Tokyo"): it is one only before a domain with a dot, which may be wide (U+FF0E).
 */
static bool redact_has_dot(const uint8_t *domain, const uint8_t *end)
{
        const uint8_t *domain_end = redact_domain_end(domain, end);
        size_t bytes = (size_t)(domain_end - domain);
        return memchr(domain, '.', bytes) != NULL || memmem(domain, bytes, "\xef\xbc\x8e", 3) != NULL;
}

/* Bytes of the sign at `at`, 0: there is none. */
static size_t redact_sign_bytes(const uint8_t *at, const uint8_t *end)
{
        if (at < end && *at == '@')
                return 1;
        size_t bytes = redact_spelled_sign(at, end);
        return bytes > 0 && redact_is_wide_sign(at, end) && !redact_has_dot(at + bytes, end) ? 0 : bytes;
}

/* The next sign that begins with `head` and lies before `last`; `last`: there is none. */
static const uint8_t *redact_sign_of(uint8_t head, const uint8_t *from, const uint8_t *last, const uint8_t *end)
{
        for (const uint8_t *at = from; (at = memchr(at, head, (size_t)(last - at))) != NULL; at++)
                if (redact_sign_bytes(at, end) > 0)
                        return at;
        return last;
}

/* The next sign; NULL: none. In steps, so that many of one kind do not mean looking for the others again and again. */
#define REDACT_STEP_BYTES 256
static const uint8_t *redact_sign(const uint8_t *from, const uint8_t *end, size_t *ret_bytes)
{
        while (from < end) {
                size_t step = end - from < REDACT_STEP_BYTES ? (size_t)(end - from) : REDACT_STEP_BYTES;
                const uint8_t *sign = memchr(from, '@', step), *last = sign == NULL ? from + step : sign;
                last = redact_sign_of('%', from, last, end);
                last = redact_sign_of(0xef, from, last, end);
                if (last != from + step) {
                        *ret_bytes = redact_sign_bytes(last, end);
                        return last;
                }
                from += step;
        }
        return NULL;
}

/* "ana b"@x: the opening quote, or NULL. */
static const uint8_t *redact_quote(const uint8_t *begin, const uint8_t *separator)
{
        const uint8_t *at = separator - 1;
        while (at > begin) {
                at--;
                if (*at != '"')
                        continue;
                size_t slashes = 0;
                while (at - slashes > begin && at[-1 - (ptrdiff_t)slashes] == '\\')
                        slashes++;
                if (slashes % 2 == 0)
                        return at;
        }
        return NULL;
}

/* A field's name in a link has no sign of a bounce's address ("bounce+ana=x.example"). */
static bool redact_is_field(const uint8_t *name, const uint8_t *end)
{
        return memchr(name, '+', (size_t)(end - name)) == NULL;
}

static const uint8_t *redact_local(const uint8_t *begin, const uint8_t *separator, enum codec_redact_kind kind)
{
        const uint8_t *at = separator, *equals = NULL;
        if (separator > begin && separator[-1] == '"') {
                const uint8_t *quote = redact_quote(begin, separator);
                return quote == NULL ? begin : quote;
        }
        while (at > begin && redact_is_local(at[-1])) {
                if (kind == CODEC_REDACT_URL && strchr("/?&;#", at[-1]) != NULL)
                        break;
                at--;
                if (*at == '=')
                        equals = at;
        }
        /* The name of a field stays; in paths and in "mailto:" an '=' is the address's own, as in that of a bounce. */
        if (kind == CODEC_REDACT_URL && equals != NULL && at > begin && memchr("?&;#", at[-1], 4) != NULL &&
            redact_is_field(at, equals))
                at = equals + 1;
        /* Quotes and signs that stand before an address in prose are no part of it. */
        while (at < separator && !redact_is_alnum(*at) && *at != '_')
                at++;
        return at == separator && separator > begin && redact_is_local(separator[-1]) ? separator - 1 : at;
}

/* The first address between `begin` and `end`. */
static bool redact_find(const uint8_t *begin, const uint8_t *end, enum codec_redact_kind kind,
                        struct redact_found *ret_found)
{
        size_t bytes;
        for (const uint8_t *from = begin, *sign; (sign = redact_sign(from, end, &bytes)) != NULL; from = sign + bytes) {
                struct redact_found found = {.local = redact_local(begin, sign, kind), .separator = sign};
                if (found.local == sign)
                        continue; /* "@home" */
                found.domain = sign + bytes;
                found.end = redact_domain_end(found.domain, end);
                /* "a@b@c": all but the last part is local. */
                while ((bytes = redact_sign_bytes(found.end, end)) > 0) {
                        found.separator = found.end;
                        found.domain = found.end + bytes;
                        found.end = redact_domain_end(found.domain, end);
                }
                *ret_found = found;
                return true;
        }
        return false;
}

bool redact_has_address(struct slice text)
{
        struct redact_found found;
        return text.len > 0 && redact_find(text.ptr, text.ptr + text.len, CODEC_REDACT_TEXT, &found);
}

bool redact_names_have(const struct codec_redaction_names *names, struct slice name)
{
        for (uint32_t i = 0; i < names->count; i++)
                if (slice_equal_ignore_case(slice_of(names->names[i].text, names->names[i].len), name))
                        return true;
        return false;
}

/* ---------------------------------------------------------------------------------------------- writing */

/* `address` is what the token is made from: the local part, '@' and the domain. */
static uint8_t *redact_write(const struct codec_redaction *redaction, struct json_out *out, uint8_t *at,
                             struct slice address, struct slice behind, uint32_t *tokens_left, const uint8_t *readable)
{
        if (redaction->addresses == CODEC_ADDRESSES_HMAC && *tokens_left > 0) {
                char token[CODEC_REDACTION_TOKEN_BYTES];
                (*tokens_left)--;
                codec_redaction_token(redaction, address, token);
                at = json_bytes(out, at, token, sizeof(token));
                return redaction->domain_dropped ? at : json_text_any(out, at, behind, readable);
        }
        at = JSON_LITERAL(out, at, REDACT_MASK);
        bool bare = redaction->addresses == CODEC_ADDRESSES_HMAC && redaction->domain_dropped;
        return bare ? at : json_text_any(out, at, behind, readable);
}

static struct slice redact_span(const uint8_t *from, const uint8_t *to)
{
        return slice_of(from, (size_t)(to - from));
}

/* An address alone: everything before the last '@' is its local part; without one, or without a domain to the end, all
 * of it is. */
static uint8_t *redact_whole(const struct codec_redaction *redaction, struct json_out *out, uint8_t *at,
                             struct slice text, uint32_t *tokens_left, const uint8_t *readable)
{
        const uint8_t *sign = memrchr(text.ptr, '@', text.len);
        const uint8_t *end = text.ptr + text.len;
        if (sign != NULL && redact_domain_end(sign + 1, end) != end)
                sign = NULL;
        return redact_write(redaction, out, at, text, redact_span(sign == NULL ? end : sign, end), tokens_left,
                            readable);
}

static uint8_t *redact_addresses(const struct codec_redaction *redaction, struct json_out *out, uint8_t *at,
                                 struct slice text, enum codec_redact_kind kind, uint32_t *tokens_left,
                                 const uint8_t *readable)
{
        struct redact_found found;
        const uint8_t *from = text.ptr, *end = text.ptr + text.len;
        while (from < end && redact_find(from, end, kind, &found)) {
                at = json_text_any(out, at, redact_span(from, found.local), readable);
                struct slice address = redact_span(found.local, found.end);
                at = redact_write(redaction, out, at, address, redact_span(found.separator, found.end), tokens_left,
                                  readable);
                from = found.end;
        }
        return from < end ? json_text_any(out, at, redact_span(from, end), readable) : at;
}

uint8_t *redact_text(const struct codec_redaction *redaction, struct json_out *out, uint8_t *at, struct slice text,
                     enum codec_redact_kind kind, uint32_t *tokens_left, const uint8_t *readable)
{
        if (redaction->addresses == CODEC_ADDRESSES_KEEP || text.len == 0)
                return json_text_any(out, at, text, readable);
        if (kind != CODEC_REDACT_ADDRESS)
                return redact_addresses(redaction, out, at, text, kind, tokens_left, readable);
        struct slice address = slice_trim(text);
        if (address.len == 0 || slice_equal(address, SLICE("<>")))
                return json_text_any(out, at, text, readable);
        /* "Name <address>": the name may be an address, too. */
        const uint8_t *close = memrchr(text.ptr, '>', text.len);
        const uint8_t *open = close == NULL ? NULL : memrchr(text.ptr, '<', (size_t)(close - text.ptr));
        if (open == NULL) {
                struct redact_found found;
                bool is_list = slice_find_byte(address, ',') < address.len &&
                               redact_find(address.ptr, address.ptr + address.len, CODEC_REDACT_TEXT, &found);
                return is_list ? redact_addresses(redaction, out, at, text, CODEC_REDACT_TEXT, tokens_left, readable)
                               : redact_whole(redaction, out, at, address, tokens_left, readable);
        }
        at = redact_addresses(redaction, out, at, redact_span(text.ptr, open + 1), CODEC_REDACT_TEXT, tokens_left,
                              readable);
        if (close > open + 1)
                at = redact_whole(redaction, out, at, redact_span(open + 1, close), tokens_left, readable);
        return redact_addresses(redaction, out, at, redact_span(close, text.ptr + text.len), CODEC_REDACT_TEXT,
                                tokens_left, readable);
}

size_t codec_redact_string(const struct codec_redaction *redaction, struct slice text, enum codec_redact_kind kind,
                           uint32_t tokens_max, uint8_t *out, size_t out_bytes)
{
        struct json_out state = {.end = out + out_bytes, .is_short = false};
        uint8_t *at = json_byte(&state, out, '"');
        at = redact_text(redaction, &state, at, text, kind, &tokens_max, text.ptr + text.len);
        at = json_byte(&state, at, '"');
        return state.is_short ? 0 : (size_t)(at - out);
}
