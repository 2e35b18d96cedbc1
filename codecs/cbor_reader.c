/* CBOR as services and their clients write it. One head at a time, with no state but what is left: whoever reads knows
 * the shape that he wants. */
#include "codecs/codec_internal.h"

#define CBOR_DEPTH_MAX 32u

/* Keeps the pointer when nothing is left, so that an empty string at the end has one. */
static struct slice cbor_behind(struct slice bytes, size_t taken)
{
        return slice_of(bytes.ptr + taken, bytes.len - taken);
}

static bool cbor_number(struct slice *rest, uint8_t width_code, uint64_t *ret_number)
{
        static const uint8_t widths[] = {1, 2, 4, 8};
        if (width_code < 24) {
                *ret_number = width_code;
                return true;
        }
        if (width_code > 27 || rest->len < widths[width_code - 24])
                return false;
        uint64_t number = 0;
        for (uint8_t i = 0; i < widths[width_code - 24]; i++)
                number = number << 8 | rest->ptr[i];
        *rest = cbor_behind(*rest, widths[width_code - 24]);
        *ret_number = number;
        return true;
}

/* IEEE 754 of 16 bits: sign, 5 bits of exponent, 10 of fraction. */
static double cbor_half(uint64_t bits)
{
        unsigned exponent = (unsigned)(bits >> 10) & 31;
        double value = (double)(bits & 1023);
        if (exponent == 31) {
                value = (bits & 1023) == 0 ? __builtin_inf() : __builtin_nan("");
        } else {
                if (exponent > 0)
                        value += 1024;
                else
                        exponent = 1;
                for (; exponent > 25; exponent--)
                        value *= 2;
                for (; exponent < 25; exponent++)
                        value /= 2;
        }
        return (bits & 0x8000) != 0 ? -value : value;
}

static double cbor_real(uint8_t width_code, uint64_t bits)
{
        double real;
        if (width_code == 25)
                return cbor_half(bits);
        if (width_code == 26) {
                uint32_t narrow = (uint32_t)bits;
                float single;
                memcpy(&single, &narrow, sizeof(single));
                return single;
        }
        memcpy(&real, &bits, sizeof(real));
        return real;
}

/* The pieces of an indefinite string are definite strings of the same kind. */
static bool cbor_pieces(struct slice *rest, uint8_t major)
{
        while (rest->len > 0) {
                uint8_t head = rest->ptr[0];
                *rest = slice_from(*rest, 1);
                if (head == 0xff)
                        return true;
                uint64_t bytes;
                if (head >> 5 != major || !cbor_number(rest, head & 31, &bytes) || bytes > rest->len)
                        return false;
                *rest = slice_from(*rest, (size_t)bytes);
        }
        return false;
}

enum codec_cbor_kind codec_cbor_next(struct slice *rest, struct codec_cbor_item *ret_item)
{
        *ret_item = (struct codec_cbor_item){.kind = CODEC_CBOR_ERROR};
        if (rest->len == 0)
                return CODEC_CBOR_ERROR;
        uint8_t major = rest->ptr[0] >> 5, width_code = rest->ptr[0] & 31;
        struct slice left = cbor_behind(*rest, 1);
        struct codec_cbor_item item = {.indefinite = width_code == 31};
        if (item.indefinite) {
                if (major == 7)
                        item.kind = CODEC_CBOR_BREAK;
                else if (major < 2 || major > 5)
                        return CODEC_CBOR_ERROR;
        } else if (!cbor_number(&left, width_code, &item.number)) {
                return CODEC_CBOR_ERROR;
        }
        switch (major) {
        case 0:
                item.kind = CODEC_CBOR_UINT;
                break;
        case 1:
                item.kind = CODEC_CBOR_NEGATIVE;
                break;
        case 2:
        case 3:
                item.kind = major == 2 ? CODEC_CBOR_BYTES : CODEC_CBOR_TEXT;
                if (item.indefinite) {
                        if (!cbor_pieces(&left, major))
                                return CODEC_CBOR_ERROR;
                        break;
                }
                if (item.number > left.len)
                        return CODEC_CBOR_ERROR;
                item.text = slice_head(left, (size_t)item.number);
                left = cbor_behind(left, (size_t)item.number);
                break;
        case 4:
        case 5:
                item.kind = major == 4 ? CODEC_CBOR_ARRAY : CODEC_CBOR_MAP;
                break;
        case 6:
                item.kind = CODEC_CBOR_TAG;
                break;
        default:
                if (item.indefinite)
                        break;
                item.kind = width_code >= 25 ? CODEC_CBOR_FLOAT : CODEC_CBOR_SIMPLE;
                if (item.kind == CODEC_CBOR_FLOAT)
                        item.real = cbor_real(width_code, item.number);
                break;
        }
        *rest = left;
        *ret_item = item;
        return item.kind;
}

bool codec_cbor_more(struct slice *rest, struct codec_cbor_item *list)
{
        if (!list->indefinite)
                return list->number > 0 && list->number-- > 0;
        if (rest->len == 0 || rest->ptr[0] != 0xff)
                return true; /* nothing left is the item's error */
        *rest = slice_from(*rest, 1);
        return false;
}

bool codec_cbor_skip(struct slice *rest)
{
        struct codec_cbor_item lists[CBOR_DEPTH_MAX];
        bool has_value[CBOR_DEPTH_MAX]; /* of a map: the key was taken */
        uint32_t depth = 0;
        for (;;) {
                struct codec_cbor_item item;
                switch (codec_cbor_next(rest, &item)) {
                case CODEC_CBOR_ERROR:
                case CODEC_CBOR_BREAK:
                        return false;
                case CODEC_CBOR_ARRAY:
                case CODEC_CBOR_MAP:
                        if (depth == CBOR_DEPTH_MAX)
                                return false;
                        has_value[depth] = false;
                        lists[depth++] = item;
                        break;
                case CODEC_CBOR_TAG:
                        continue; /* its item is what is skipped */
                case CODEC_CBOR_UINT:
                case CODEC_CBOR_NEGATIVE:
                case CODEC_CBOR_BYTES:
                case CODEC_CBOR_TEXT:
                case CODEC_CBOR_FLOAT:
                case CODEC_CBOR_SIMPLE:
                        break;
                }
                /* Up, out of every list that has ended. */
                for (; depth > 0; depth--) {
                        struct codec_cbor_item *list = &lists[depth - 1];
                        if (has_value[depth - 1]) { /* the value of the key just taken */
                                has_value[depth - 1] = false;
                                break;
                        }
                        if (!codec_cbor_more(rest, list))
                                continue;
                        has_value[depth - 1] = list->kind == CODEC_CBOR_MAP;
                        break;
                }
                if (depth == 0)
                        return true;
        }
}
