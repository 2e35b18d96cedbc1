/* Numbers and IP addresses as Event Ruler reads them. */
#include "rules/pattern.h"

#include <stdlib.h>

/* ---------------------------------------------------------------------------------------------- numbers */

/* A decimal number as digits without zeros at either end, and where the point is: 0.DIGITS times ten to `point`. Two
 * numbers are equal when these are. */
struct number_decimal {
        char digits[32];
        uint32_t count;
        int64_t point;
        bool is_negative, is_long; /* more digits than there is room for: no double has so many */
};

static bool number_is_digit(struct slice text, size_t at)
{
        return at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9';
}

static void number_digit(struct number_decimal *decimal, uint8_t digit, bool behind_point)
{
        if (decimal->count == 0 && digit == '0') {
                decimal->point -= behind_point;
                return;
        }
        if (decimal->count < sizeof(decimal->digits))
                decimal->digits[decimal->count++] = (char)digit;
        else
                decimal->is_long |= digit != '0';
        decimal->point += !behind_point;
}

/* False: not a JSON number. */
static bool number_read(struct slice text, struct number_decimal *decimal)
{
        size_t at = 0;
        *decimal = (struct number_decimal){.count = 0};
        if (text.len > 0 && text.ptr[0] == '-') {
                decimal->is_negative = true;
                at++;
        }
        if (!number_is_digit(text, at) || (text.ptr[at] == '0' && number_is_digit(text, at + 1)))
                return false;
        for (; number_is_digit(text, at); at++)
                number_digit(decimal, text.ptr[at], false);
        if (at < text.len && text.ptr[at] == '.') {
                at++;
                if (!number_is_digit(text, at))
                        return false;
                for (; number_is_digit(text, at); at++)
                        number_digit(decimal, text.ptr[at], true);
        }
        int64_t exponent = 0;
        if (at < text.len && (text.ptr[at] | 0x20) == 'e') {
                at++;
                bool is_negative = at < text.len && text.ptr[at] == '-';
                if (at < text.len && (text.ptr[at] == '-' || text.ptr[at] == '+'))
                        at++;
                if (!number_is_digit(text, at))
                        return false;
                for (; number_is_digit(text, at); at++)
                        if (exponent < 1000000)
                                exponent = exponent * 10 + (text.ptr[at] - '0');
                exponent = is_negative ? -exponent : exponent;
        }
        while (decimal->count > 0 && decimal->digits[decimal->count - 1] == '0')
                decimal->count--;
        if (decimal->count == 0)
                decimal->point = exponent = 0;
        decimal->point += exponent;
        return at == text.len;
}

/* The shortest digits that read back as the same double. */
static void number_of_double(double number, struct number_decimal *decimal)
{
        char text[40];
        for (int digits = 14; digits <= 16; digits++) {
                (void)snprintf(text, sizeof(text), "%.*e", digits, number);
                if (strtod(text, NULL) == number)
                        break;
        }
        for (char *at = text; *at != '\0'; at++)
                if (*at == ',')
                        *at = '.';                       /* a host's locale */
        (void)number_read(slice_of_text(text), decimal); /* printf() writes numbers */
}

bool rules_number_parse(struct slice text, double *ret_number, bool *ret_is_comparable)
{
        struct number_decimal decimal, shortest;
        char copy[400];
        if (!number_read(text, &decimal))
                return false;
        *ret_number = 0;
        *ret_is_comparable = false;
        if (!slice_to_text(text, copy, sizeof(copy)) || decimal.is_long)
                return true;
        double number = strtod(copy, NULL);
        if (!(number >= -1.7976931348623157e308 && number <= 1.7976931348623157e308))
                return true;
        number_of_double(number, &shortest);
        *ret_number = number;
        *ret_is_comparable = decimal.count == shortest.count && decimal.point == shortest.point &&
                             memcmp(decimal.digits, shortest.digits, decimal.count) == 0;
        return true;
}

bool rules_integer_is_comparable(uint64_t magnitude)
{
        if (magnitude <= UINT64_C(1) << 53)
                return true;
        uint8_t digits[20];
        double number;
        bool is_comparable;
        return rules_number_parse(slice_of(digits, codec_u64_write(magnitude, digits)), &number, &is_comparable) &&
               is_comparable;
}

/* ---------------------------------------------------------------------------------------------- addresses */

static uint32_t address_parse_4(struct slice text, uint8_t ret_address[16])
{
        uint32_t parts = 0;
        if (text.len > 15)
                return 0;
        for (size_t at = 0; parts < 4; at++) {
                uint32_t value = 0;
                size_t from = at;
                for (; number_is_digit(text, at); at++)
                        value = value * 10 + (uint32_t)(text.ptr[at] - '0');
                if (at == from || value > 255)
                        return 0;
                ret_address[parts++] = (uint8_t)value;
                if (parts == 4)
                        return at == text.len ? 4 : 0;
                if (at == text.len || text.ptr[at] != '.')
                        return 0;
        }
        return 0;
}

static int address_hex(uint8_t byte)
{
        if (byte >= '0' && byte <= '9')
                return byte - '0';
        byte |= 0x20;
        return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static uint32_t address_parse_16(struct slice text, uint8_t ret_address[16])
{
        uint8_t address[16] = {0};
        uint32_t used = 0, value = 0, gap = UINT32_MAX;
        bool has_digit = false;
        size_t at = 0;
        if (text.len < 2 || (text.ptr[0] == ':' && text.ptr[1] != ':'))
                return 0;
        at += text.ptr[0] == ':';
        for (; at < text.len; at++) {
                int digit = address_hex(text.ptr[at]);
                if (digit >= 0) {
                        value = value << 4 | (uint32_t)digit;
                        has_digit = true;
                        if (value > 0xffff)
                                return 0;
                        continue;
                }
                if (text.ptr[at] != ':')
                        return 0;
                if (!has_digit) {
                        if (gap != UINT32_MAX)
                                return 0;
                        gap = used;
                        continue;
                }
                if (at + 1 == text.len || used + 2 > 16)
                        return 0;
                address[used++] = (uint8_t)(value >> 8);
                address[used++] = (uint8_t)value;
                has_digit = false;
                value = 0;
        }
        if (has_digit) {
                if (used + 2 > 16)
                        return 0;
                address[used++] = (uint8_t)(value >> 8);
                address[used++] = (uint8_t)value;
        }
        if (gap == UINT32_MAX ? used != 16 : used == 16)
                return 0;
        memset(ret_address, 0, 16);
        if (gap == UINT32_MAX)
                gap = used;
        memcpy(ret_address, address, gap);
        memcpy(ret_address + 16 - (used - gap), address + gap, used - gap);
        static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        if (memcmp(ret_address, mapped, sizeof(mapped)) != 0)
                return 16;
        memmove(ret_address, ret_address + 12, 4);
        return 4;
}

uint32_t rules_address_parse(struct slice text, uint8_t ret_address[16])
{
        if (text.len < 2 || text.len > 64)
                return 0;
        return slice_find_byte(text, ':') < text.len ? address_parse_16(text, ret_address)
                                                     : address_parse_4(text, ret_address);
}
