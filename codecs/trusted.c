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
