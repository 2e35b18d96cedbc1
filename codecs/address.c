/* Addresses as headers write them (RFC 5322, 3.4), as far as their domain matters: names, quotes, comments, encoded
 * words, groups and routes are told from it, and what mail programs get wrong is forgiven where it can mean one thing
 * only. Each byte is looked at a bounded number of times. */
#include "codecs/codec_internal.h"

#define ADDRESS_MARK   1u /* means something wherever it stands: " ( = < > @ : , ; */
#define ADDRESS_DOMAIN 2u /* of a domain in any script */
#define ADDRESS_BLANK  4u

/* Bits above per byte. */
static const uint8_t address_bytes[256] = {
        /* clang-format off */
        0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 0, 0, 4, 0, 0, /* 0x00 */
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0x10 */
        4, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 2, 0, /* 0x20 */
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 0, /* 0x30 */
        1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* 0x40 */
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 2, /* 0x50 */
        0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* 0x60 */
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, /* 0x70 */
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
        /* clang-format on */
};

/* Behind the quote that closes the one at `at`; 0: nothing closes it. */
static size_t address_quote_end(struct slice text, size_t at)
{
        for (at++; at < text.len; at++) {
                if (text.ptr[at] == '"')
                        return at + 1;
                at += text.ptr[at] == '\\';
        }
        return 0;
}

/* The same of a comment; comments stand in one another. */
static size_t address_comment_end(struct slice text, size_t at)
{
        size_t open = 0;
        for (; at < text.len; at++) {
                uint8_t byte = text.ptr[at];
                if (byte == '\\')
                        at++;
                else if (byte == '(')
                        open++;
                else if (byte == ')' && --open == 0)
                        return at + 1;
        }
        return 0;
}

/* The same of an encoded word (RFC 2047), "=?charset?Q?text?="; within it '@', ',' and '"' are text. */
static size_t address_word_end(struct slice text, size_t at)
{
        if (text.len - at < 2 || text.ptr[at] != '=' || text.ptr[at + 1] != '?')
                return 0;
        at += 2;
        for (uint32_t marks = 0; at < text.len && (address_bytes[text.ptr[at]] & ADDRESS_BLANK) == 0; at++)
                if (text.ptr[at] == '?' && ++marks == 3)
                        return at + 1 < text.len && text.ptr[at + 1] == '=' ? at + 2 : 0;
        return 0;
}

/* Behind what may stand between '@' and the domain. */
static size_t address_gap_end(struct slice text, size_t at)
{
        while (at < text.len) {
                size_t end = at + 1;
                if (text.ptr[at] == '(')
                        end = address_comment_end(text, at);
                else if ((address_bytes[text.ptr[at]] & ADDRESS_BLANK) == 0)
                        end = 0;
                if (end == 0)
                        break;
                at = end;
        }
        return at;
}

/* Behind the domain that begins at `at`, or "[192.0.2.1]"; `at`: there is none. */
static size_t address_domain_end(struct slice text, size_t at)
{
        size_t end = at;
        bool literal = at < text.len && text.ptr[at] == '[';
        for (end += literal; end < text.len; end++)
                if ((address_bytes[text.ptr[end]] & ADDRESS_DOMAIN) == 0 && !(literal && text.ptr[end] == ':'))
                        break;
        if (literal)
                return end > at + 1 && end < text.len && text.ptr[end] == ']' ? end + 1 : at;
        while (end > at && text.ptr[end - 1] == '.')
                end--;
        return end;
}

struct slice codec_address_domain(struct slice addresses)
{
        struct slice domain = SLICE_EMPTY;
        bool in_angle = false;
        bool quotes_close = true, comments_close = true; /* false: from there on they are bytes like others */
        size_t at = 0, end = 0;
        while (at < addresses.len) {
                uint8_t byte = addresses.ptr[at];
                if ((address_bytes[byte] & ADDRESS_MARK) == 0) {
                        at++;
                        continue;
                }
                end = at + 1;
                if (byte == '"') {
                        quotes_close = quotes_close && (end = address_quote_end(addresses, at)) > 0;
                } else if (byte == '(') {
                        comments_close = comments_close && (end = address_comment_end(addresses, at)) > 0;
                } else if (byte == '=') {
                        end = address_word_end(addresses, at);
                } else if (byte == '@') {
                        size_t from = comments_close ? address_gap_end(addresses, at + 1) : at + 1;
                        end = address_domain_end(addresses, from);
                        domain = slice_of(addresses.ptr + from, end - from);
                } else if (byte == '>' || ((byte == ',' || byte == ';') && !in_angle)) {
                        if (domain.len > 0)
                                break;
                        in_angle = false;
                } else if (byte == '<' || byte == ':') {
                        domain = SLICE_EMPTY; /* it was a name's, a group's or a route's */
                        in_angle |= byte == '<';
                }
                at = end > at ? end : at + 1;
        }
        return domain.len > CODEC_DOMAIN_BYTES_MAX ? SLICE_EMPTY : domain;
}

/* ---------------------------------------------------------------------------------------------- of an event */

struct slice codec_from_domain(const uint8_t *headers, const uint8_t *common_headers, struct slice source_domain)
{
        struct slice domain = SLICE_EMPTY;
        if (headers == NULL && common_headers == NULL)
                return source_domain;
        if (common_headers != NULL && codec_trusted_count(&common_headers) > 0 &&
            *common_headers++ == CODEC_COMMON_FROM)
                for (uint32_t count = codec_trusted_count(&common_headers); count > 0 && domain.len == 0; count--)
                        domain = codec_address_domain(codec_trusted_text(&common_headers));
        for (uint32_t count = headers == NULL ? 0 : codec_trusted_count(&headers); count > 0 && domain.len == 0;
             count -= 2) {
                struct slice name = codec_trusted_text(&headers);
                struct slice value = codec_trusted_text(&headers);
                if (name.len == 4 && slice_equal_ignore_case(name, SLICE("From")))
                        domain = codec_address_domain(value);
        }
        return domain;
}
