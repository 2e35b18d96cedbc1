#include "codecs/codec.h"
#include "tools/cmd.h"

bool cmd_parse_time(const char *text, int64_t now_ms, int64_t *ret_ms)
{
        static const struct {
                const char *name;
                uint64_t ms;
        } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
        /* Up to the end of year 9999, as everything that is printed. */
        const uint64_t ms_max = UINT64_C(253402300799999);
        struct slice whole = slice_of_text(text);
        uint64_t number;
        if (slice_to_u64(whole, ms_max, &number)) {
                *ret_ms = (int64_t)number;
                return true;
        }
        if (slice_equal(whole, SLICE("now"))) {
                *ret_ms = now_ms;
                return true;
        }
        if (!slice_has_prefix(whole, SLICE("-")))
                return codec_time_parse(whole, ret_ms);
        struct slice ago = slice_from(whole, 1);
        size_t digits = 0;
        while (digits < ago.len && ago.ptr[digits] >= '0' && ago.ptr[digits] <= '9')
                digits++;
        if (!slice_to_u64(slice_head(ago, digits), ms_max, &number))
                return false;
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
                if (!slice_equal(slice_from(ago, digits), slice_of_text(units[i].name)))
                        continue;
                if (number > ms_max / units[i].ms)
                        return false;
                *ret_ms = now_ms - (int64_t)(number * units[i].ms);
                return true;
        }
        return false;
}
