#include "codecs/codec_internal.h"

void codec_trusted_skip(const uint8_t **at)
{
        /* Values still to be skipped; children are added to it, so depth needs no stack. */
        uint64_t values = 1;
        while (values > 0) {
                const uint8_t *p = *at;
                uint8_t head = p[0];
                values--;
                if (head < 0x80 || head >= 0xe0 || head == 0xc0 || head == 0xc2 || head == 0xc3) {
                        *at = p + 1;
                } else if (head < 0x90 || head == 0xde || head == 0xdf) {
                        values += 2 * (uint64_t)codec_trusted_count(at);
                } else if (head < 0xa0 || head == 0xdc || head == 0xdd) {
                        values += codec_trusted_count(at);
                } else if (head < 0xc0 || (head >= 0xd9 && head <= 0xdb)) {
                        (void)codec_trusted_text(at); /* only the step over it is wanted */
                } else if (head == 0xca) {
                        *at = p + 5;
                } else if (head == 0xcb) {
                        *at = p + 9;
                } else {
                        (void)codec_trusted_uint(at); /* the same widths for signed ones */
                }
        }
}

/* The text of `key` in a map of known keys, which begin it in ascending order; empty when it is not there. */
static struct slice trusted_member_text(struct slice map, unsigned key)
{
        const uint8_t *p = map.ptr;
        if (map.len == 0)
                return SLICE_EMPTY;
        for (uint32_t count = codec_trusted_count(&p); count > 0 && *p <= key; count--) {
                if (*p++ == key)
                        return codec_trusted_text(&p);
                codec_trusted_skip(&p);
        }
        return SLICE_EMPTY;
}

struct slice codec_view_from_domain(const struct codec_view *view)
{
        struct slice given = trusted_member_text(view->session, CODEC_SESSION_FROM_DOMAIN), source = SLICE_EMPTY;
        const uint8_t *headers = NULL, *common_headers = NULL, *p = view->mail.ptr;
        if (given.len > 0)
                return given;
        for (uint32_t count = codec_trusted_count(&p); count > 0 && *p <= CODEC_MAIL_COMMON_HEADERS; count--) {
                unsigned key = *p++;
                const uint8_t *value = p;
                if (key == CODEC_MAIL_SOURCE)
                        source = codec_domain_of(codec_trusted_text(&value));
                else if (key == CODEC_MAIL_HEADERS)
                        headers = p;
                else if (key == CODEC_MAIL_COMMON_HEADERS)
                        common_headers = p;
                codec_trusted_skip(&p);
        }
        return codec_from_domain(headers, common_headers, source);
}
