#include "base/slice.h"

static uint8_t slice_lower(uint8_t byte)
{
        return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
}

bool slice_equal_ignore_case(struct slice a, struct slice b)
{
        if (a.len != b.len)
                return false;
        for (size_t i = 0; i < a.len; i++)
                if (slice_lower(a.ptr[i]) != slice_lower(b.ptr[i]))
                        return false;
        return true;
}

static bool slice_is_blank(uint8_t byte)
{
        return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

struct slice slice_trim(struct slice s)
{
        while (s.len > 0 && slice_is_blank(s.ptr[0])) {
                s.ptr++;
                s.len--;
        }
        while (s.len > 0 && slice_is_blank(s.ptr[s.len - 1]))
                s.len--;
        return s;
}

size_t slice_find(struct slice s, struct slice needle)
{
        if (needle.len == 0)
                return 0;
        if (s.len < needle.len)
                return s.len;
        const uint8_t *at = (const uint8_t *)memmem(s.ptr, s.len, needle.ptr, needle.len);
        return at == NULL ? s.len : (size_t)(at - s.ptr);
}

struct slice slice_cut(struct slice *rest, uint8_t separator)
{
        struct slice whole = *rest;
        size_t at = slice_find_byte(whole, separator);
        if (at == whole.len) {
                *rest = SLICE_EMPTY;
                return whole;
        }
        *rest = slice_of(whole.ptr + at + 1, whole.len - at - 1);
        return slice_head(whole, at);
}

bool slice_to_u64(struct slice s, uint64_t max, uint64_t *ret_value)
{
        uint64_t value = 0;
        if (s.len == 0)
                return false;
        for (size_t i = 0; i < s.len; i++) {
                if (s.ptr[i] < '0' || s.ptr[i] > '9')
                        return false;
                uint64_t digit = (uint64_t)(s.ptr[i] - '0');
                if (value > (UINT64_MAX - digit) / 10)
                        return false;
                value = value * 10 + digit;
        }
        if (value > max)
                return false;
        *ret_value = value;
        return true;
}

bool slice_to_text(struct slice s, char *out, size_t out_bytes)
{
        if (out_bytes == 0)
                return false;
        out[0] = '\0';
        if (s.len >= out_bytes || (s.len > 0 && memchr(s.ptr, 0, s.len) != NULL))
                return false;
        if (s.len > 0)
                memcpy(out, s.ptr, s.len);
        out[s.len] = '\0';
        return true;
}
