#include "codecs/redact_text.h"

/* What replaces a local part. */
#define REDACT_MASK "***"

/* One address in a text: [local, separator), a sign, [domain, end). What is hidden begins at `hidden`, in links often
 * before the local part: whether "b-ana=x@y" is an address or a field with one cannot be told. */
struct redact_found {
        const uint8_t *hidden, *local, *separator, *domain, *end;
};

/* The text that addresses are looked for in. */
struct redact_searched {
        const uint8_t *begin, *end;
        const uint8_t *data; /* the first '?' or '#' of a link that has one */
        enum codec_redact_kind kind;
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

static int redact_hex(uint8_t byte)
{
        if (byte >= '0' && byte <= '9')
                return byte - '0';
        byte |= 0x20;
        return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The byte at `at` and how many bytes spell it: "%2f" is '/', and so is "%25252f", in a link in a link in a link. */
static uint8_t redact_spelled(const uint8_t *at, const uint8_t *end, size_t *ret_bytes)
{
        *ret_bytes = 1;
        if (*at != '%')
                return *at;
        const uint8_t *digits = at + 1; /* "%25" is '%' itself */
        while (end - digits >= 4 && digits[0] == '2' && digits[1] == '5')
                digits += 2;
        if (end - digits < 2 || redact_hex(digits[0]) < 0 || redact_hex(digits[1]) < 0)
                return *at;
        *ret_bytes = (size_t)(digits + 2 - at);
        return (uint8_t)(redact_hex(digits[0]) * 16 + redact_hex(digits[1]));
}

size_t redact_spelled_sign(const uint8_t *at, const uint8_t *end)
{
        if (redact_is_wide_sign(at, end))
                return 3;
        if (at == end || *at != '%')
                return 0;
        size_t used = 0, bytes;
        uint8_t wide[3];
        for (size_t i = 0; i < 3 && (size_t)(end - at) > used; i++, used += bytes) {
                wide[i] = redact_spelled(at + used, end, &bytes);
                if (i == 0 && wide[i] == '@')
                        return bytes;
                if (i == 0 ? wide[i] != 0xef : bytes == 1)
                        return 0;
                if (i == 2 && redact_is_wide_sign(wide, wide + 3))
                        return used + bytes;
        }
        return 0;
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

/* What runs into the sign although no address ends so outside quotes ("ana\@", "[ana]@", "ana)@"): from the last space
 * on, if there is a letter or digit near. `separator` where nothing is. The bound keeps many signs from costing more
 * than their number; what has been found is not looked at again. */
#define REDACT_MARKED_BYTES 256
static const uint8_t *redact_marked(const uint8_t *begin, const uint8_t *separator)
{
        const uint8_t *limit = separator - begin < REDACT_MARKED_BYTES ? begin : separator - REDACT_MARKED_BYTES;
        const uint8_t *at = separator;
        while (at > limit && at[-1] > ' ' && !redact_is_alnum(at[-1]))
                at--;
        if (at == limit || at[-1] <= ' ')
                return separator;
        while (at > begin && at[-1] > ' ')
                at--;
        return at;
}

/* Where the local part before the separator begins in prose. */
static const uint8_t *redact_local_in_text(const uint8_t *begin, const uint8_t *separator)
{
        const uint8_t *at = separator;
        if (separator > begin && separator[-1] == '"') {
                const uint8_t *quote = redact_quote(begin, separator);
                if (quote == NULL || quote == begin || quote[-1] != '.')
                        return quote == NULL ? begin : quote;
                at = quote;
        }
        while (at > begin) {
                if (at[-1] == '"' && *at == '.') { /* "ana".b@x: words joined by dots, some of them quoted */
                        const uint8_t *quote = redact_quote(begin, at);
                        at = quote == NULL ? begin : quote;
                } else if (redact_is_local(at[-1]) || at[-1] == '\\') { /* before a byte that it makes plain */
                        at--;
                } else {
                        break;
                }
        }
        /* Quotes and signs that stand before an address in prose are no part of it. */
        const uint8_t *word = at;
        while (word < separator && !redact_is_alnum(*word) && *word != '_' && *word != '"')
                word++;
        return word == separator ? redact_marked(begin, at) : word;
}

/* Names of fields in links that are kept before an address. All others might be the beginning of one:
 * "?ana=x.example@bounce.example", "?bounces-ana=x@bounce.example". */
static bool redact_is_field(struct slice name)
{
        static const char *const names[] = {
                "a",      "addr",   "address",       "cc",         "bcc",      "contact", "e",  "em",
                "email",  "e-mail", "email_address", "from",       "id",       "login",   "m",  "mail",
                "mailto", "r",      "rcpt",          "recipient",  "s",        "sub",     "to", "u",
                "uid",    "url",    "user",          "user_email", "username",
        };
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (slice_equal_ignore_case(name, slice_of_text(names[i])))
                        return true;
        return false;
}

/* Whether a part of a link ends at this byte. In the query and the fragment, '/' and '?' are data. */
static bool redact_ends_part(const struct redact_searched *text, const uint8_t *at)
{
        if (*at == '/' || *at == '?')
                return text->data == NULL || at <= text->data;
        return *at <= ' ' || *at == '&' || *at == ';' || *at == '#';
}

/* What the token of an address in a link is made of, so that it is that of the address alone: what lies behind the last
 * sign, spelled anyhow, that no address has outside quotes, and behind a name and its '='. */
static const uint8_t *redact_token_begin(const uint8_t *hidden, const uint8_t *separator)
{
        const uint8_t *local = hidden;
        size_t bytes;
        bool is_name = true;
        for (const uint8_t *at = hidden; at < separator; at += bytes) {
                uint8_t byte = redact_spelled(at, separator, &bytes);
                if (byte <= ' ' || strchr(":/?&;#,<>()[]\\", byte) != NULL || (byte == '=' && is_name)) {
                        local = at + bytes;
                        is_name = byte != '=';
                } else if (byte == '+' || byte == '-' || byte == '=') {
                        is_name = false; /* of a bounce's address, which has a '=' for the recipient's '@' */
                }
        }
        const uint8_t *word = local;
        for (; word < separator; word += bytes) {
                uint8_t byte = redact_spelled(word, separator, &bytes);
                if (redact_is_alnum(byte) || byte == '_')
                        return word;
        }
        return local == separator ? hidden : local;
}

/* Where a part of the path ends that only '/' divides from the sign ("/S=mueller/G=ana/@x.example"), else the sign. A
 * host is none: "https://x.example/@ana.b" is somebody's page. */
static const uint8_t *redact_behind_slashes(const struct redact_searched *text, const uint8_t *begin,
                                            const uint8_t *separator)
{
        const uint8_t *at = separator;
        while (at > begin && at[-1] == '/' && redact_ends_part(text, at - 1))
                at--;
        const uint8_t *part = at;
        while (at < separator && part > begin && !redact_ends_part(text, part - 1))
                part--;
        bool is_host = part - text->begin >= 2 && part[-1] == '/' && part[-2] == '/';
        return part == at || is_host ? separator : at;
}

/* Links hide from the beginning of the part (of the path, or the field of the query) to the sign, whatever lies
 * between, save for a well-known field's name. */
static const uint8_t *redact_hidden_in_link(const struct redact_searched *text, const uint8_t *begin,
                                            const uint8_t *separator, const uint8_t **ret_local)
{
        const uint8_t *at = separator, *quote = NULL;
        if (separator > begin && separator[-1] == '"')
                quote = redact_quote(begin, separator);
        if (quote != NULL)
                at = quote;
        else if (redact_has_dot(separator + 1, text->end))
                at = redact_behind_slashes(text, begin, separator);
        while (at > begin && !redact_ends_part(text, at - 1))
                at--;
        if (at > begin && memchr("?&;#", at[-1], 4) != NULL) {
                const uint8_t *equals = memchr(at, '=', (size_t)(separator - at));
                if (equals != NULL && redact_is_field(slice_of(at, (size_t)(equals - at))))
                        at = equals + 1;
        }
        struct slice part = slice_of(at, (size_t)(separator - at));
        if (at == text->begin && part.len > 7 && slice_equal_ignore_case(slice_of(at, 7), SLICE("mailto:")))
                at += 7;
        if (at == begin && at > text->begin) /* behind another address, in a list */
                while (at < separator && (*at == ',' || *at == '>'))
                        at++;
        *ret_local = quote != NULL && quote >= at ? quote : redact_token_begin(at, separator);
        return at;
}

static struct redact_searched redact_searched(struct slice text, enum codec_redact_kind kind)
{
        struct redact_searched searched = {.begin = text.ptr, .end = text.ptr + text.len, .kind = kind};
        if (kind == CODEC_REDACT_URL && text.len > 0) {
                size_t question = slice_find_byte(text, '?'), hash = slice_find_byte(text, '#');
                size_t first = question < hash ? question : hash;
                searched.data = first < text.len ? text.ptr + first : NULL;
        }
        return searched;
}

/* Whether a quote, spelled anyhow, stands in [from, to). */
static bool redact_has_quote(const uint8_t *from, const uint8_t *to)
{
        size_t bytes;
        for (; from < to; from += bytes)
                if (redact_spelled(from, to, &bytes) == '"')
                        return true;
        return false;
}

/* The sign that ends a local part whose quotes hold an earlier sign ("ana@b"@x, "ana@b".c@x); NULL: none near. Looks
 * from *looked on, which is within the quotes, and sets it to where it need not look again. */
#define REDACT_QUOTED_BYTES 256
static const uint8_t *redact_sign_behind_quote(const uint8_t *sign, const uint8_t *end, const uint8_t **looked)
{
        const uint8_t *limit = end - sign < REDACT_QUOTED_BYTES ? end : sign + REDACT_QUOTED_BYTES;
        const uint8_t *at = *looked > sign ? *looked : sign;
        bool is_quoted = true;
        uint8_t before = '\0';
        for (size_t bytes; at < limit; at += bytes) {
                uint8_t byte = redact_spelled(at, end, &bytes);
                if (is_quoted) {
                        *looked = at;
                        if (before == '\\')
                                byte = ' '; /* escaped, whatever it is */
                        is_quoted = byte != '"';
                } else if (redact_sign_bytes(at, end) > 0) {
                        return at;
                } else if (byte == '"' && before == '.') {
                        is_quoted = true;
                } else if (before == '"' ? byte != '.' : !redact_is_local(byte)) {
                        return NULL;
                }
                before = byte;
        }
        return NULL;
}

static void redact_local(const struct redact_searched *text, const uint8_t *begin, struct redact_found *found)
{
        if (text->kind == CODEC_REDACT_URL)
                found->hidden = redact_hidden_in_link(text, begin, found->separator, &found->local);
        else
                found->hidden = found->local = redact_local_in_text(begin, found->separator);
}

/* The first address behind `begin`, where the one before it ended. */
static bool redact_find(const struct redact_searched *text, const uint8_t *begin, struct redact_found *ret_found)
{
        const uint8_t *end = text->end;
        const uint8_t *looked = begin;
        bool has_quote = false;
        size_t bytes;
        for (const uint8_t *from = begin, *sign; (sign = redact_sign(from, end, &bytes)) != NULL; from = sign + bytes) {
                struct redact_found found = {.separator = sign};
                redact_local(text, begin, &found);
                has_quote = has_quote || redact_has_quote(from, sign);
                const uint8_t *later = has_quote ? redact_sign_behind_quote(sign, end, &looked) : NULL;
                if (later != NULL) {
                        struct redact_found quoted = {.separator = later};
                        redact_local(text, begin, &quoted);
                        if (quoted.hidden <= found.hidden) {
                                found = quoted;
                                sign = later;
                                bytes = redact_sign_bytes(later, end);
                        }
                }
                if (found.hidden == sign)
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
        struct redact_searched searched = redact_searched(text, CODEC_REDACT_TEXT);
        return text.len > 0 && redact_find(&searched, text.ptr, &found);
}

bool redact_names_have(const struct codec_redaction_names *names, struct slice name)
{
        const uint8_t *text = names->texts;
        for (uint32_t i = 0; i < names->count; text += names->lens[i++])
                if (slice_equal_ignore_case(slice_of(text, names->lens[i]), name))
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
        struct redact_searched searched = redact_searched(text, kind);
        const uint8_t *from = text.ptr, *end = text.ptr + text.len;
        while (from < end && redact_find(&searched, from, &found)) {
                at = json_text_any(out, at, redact_span(from, found.hidden), readable);
                struct slice address = redact_span(found.local, found.end);
                at = redact_write(redaction, out, at, address, redact_span(found.separator, found.end), tokens_left,
                                  readable);
                from = found.end;
        }
        return from < end ? json_text_any(out, at, redact_span(from, end), readable) : at;
}

/* Whether the '>' belongs to a local part: in its quotes ("ana<b>"@x), or directly before the sign. */
static bool redact_is_within(struct slice text, const uint8_t *close)
{
        const uint8_t *end = text.ptr + text.len;
        bool is_quoted = false;
        for (const uint8_t *at = text.ptr; at < close; at++) {
                if (*at == '\\' && is_quoted)
                        at++;
                else if (*at == '"')
                        is_quoted = !is_quoted;
        }
        return (close + 1 < end && close[1] == '@') || (is_quoted && memchr(close, '@', (size_t)(end - close)) != NULL);
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
        if (open != NULL && redact_is_within(text, close))
                return redact_whole(redaction, out, at, address, tokens_left, readable);
        if (open == NULL) {
                bool is_list = slice_find_byte(address, ',') < address.len &&
                               slice_find(address, SLICE("\\,")) == address.len && redact_has_address(address);
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
