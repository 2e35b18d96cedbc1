#include "codecs/codec.h"
#include "codecs/simd.h"

#include "base/clock.h"

static const char number_pairs[200] = "0001020304050607080910111213141516171819"
                                      "2021222324252627282930313233343536373839"
                                      "4041424344454647484950515253545556575859"
                                      "6061626364656667686970717273747576777879"
                                      "8081828384858687888990919293949596979899";

#if CODEC_SIMD_X86
/* The sixteen digits of two numbers below 10^8, by dividing all parts at once: multiplications by reciprocals. */
static CODEC_TARGET_AVX2 __m128i number_digits16(uint32_t high, uint32_t low)
{
        /* 1234 5678 | 9012 3456 as four numbers below 10^4, one in each 32 bits. */
        __m128i eights = _mm_set_epi64x((long long)low, (long long)high);
        __m128i upper = _mm_srli_epi64(_mm_mul_epu32(eights, _mm_set1_epi64x(0xd1b71759)), 45); /* / 10,000 */
        __m128i lower = _mm_sub_epi64(eights, _mm_mul_epu32(upper, _mm_set1_epi64x(10000)));
        __m128i fours = _mm_or_si128(upper, _mm_slli_epi64(lower, 32));
        /* Each as two numbers below 100 in 16 bits, then each of those as two digits. */
        __m128i hundreds = _mm_srli_epi32(_mm_mulhi_epu16(fours, _mm_set1_epi32(5243)), 3); /* / 100, below 10^4 */
        __m128i rest = _mm_sub_epi32(fours, _mm_mullo_epi16(hundreds, _mm_set1_epi32(100)));
        __m128i twos = _mm_or_si128(hundreds, _mm_slli_epi32(rest, 16));
        __m128i tens = _mm_mulhi_epu16(twos, _mm_set1_epi16(6554)); /* / 10, below 100 */
        __m128i ones = _mm_sub_epi16(twos, _mm_mullo_epi16(tens, _mm_set1_epi16(10)));
        return _mm_or_si128(tens, _mm_slli_epi16(ones, 8));
}

/* Numbers of 5 to 16 digits. */
static CODEC_TARGET_AVX2 size_t number_write_avx2(uint64_t value, uint8_t *out)
{
        __m128i digits = number_digits16((uint32_t)(value / 100000000), (uint32_t)(value % 100000000));
        unsigned zeros = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(digits, _mm_setzero_si128()));
        unsigned skipped = (unsigned)__builtin_ctz(~zeros);
        uint8_t text[32];
        _mm_storeu_si128((__m128i *)(void *)text, _mm_add_epi8(digits, _mm_set1_epi8('0')));
        memcpy(out, text + skipped, 16 - skipped);
        return 16 - skipped;
}
#endif

size_t codec_u64_write(uint64_t value, uint8_t *out)
{
#if CODEC_SIMD_X86
        if (value >= 100000 && value < UINT64_C(10000000000000000) && codec_simd() >= CODEC_SIMD_AVX2)
                return number_write_avx2(value, out);
#endif
        uint8_t digits[20];
        size_t at = sizeof(digits);
        while (value >= 100) {
                at -= 2;
                memcpy(digits + at, number_pairs + value % 100 * 2, 2);
                value /= 100;
        }
        if (value >= 10) {
                at -= 2;
                memcpy(digits + at, number_pairs + value * 2, 2);
        } else {
                digits[--at] = (uint8_t)('0' + value);
        }
        memcpy(out, digits + at, sizeof(digits) - at);
        return sizeof(digits) - at;
}

#define TIME_MS_MIN INT64_C(-62167219200000) /* 0000-01-01T00:00:00.000Z */
#define TIME_MS_MAX INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */
#define TIME_BYTES  24u

/* A time of the years 0 to 9999: eight numbers below 100 in 16 bits each, as they stand in its text: of the date
 * century, year, month, day, of the time of day hour, minute, second, hundredths; and the thousandths that are left. */
struct time_parts {
        uint64_t date, time;
        uint32_t thousandths;
};

static inline uint64_t time_four(uint32_t first, uint32_t second, uint32_t third, uint32_t fourth)
{
        return first | (uint64_t)second << 16 | (uint64_t)third << 32 | (uint64_t)fourth << 48;
}

/* Years begin in March here, since then what differs, the end of February, comes last; and one era of 400 years earlier
 * than 0000-03-01, so that nothing is negative. A quotient and its remainder come out of one multiplication where the
 * divisor allows it: Neri and Schneider, "Euclidean affine functions and their application to calendar algorithms",
 * 2022. */
static inline struct time_parts time_take_apart(int64_t realtime_ms)
{
        realtime_ms = realtime_ms < TIME_MS_MIN ? TIME_MS_MIN : realtime_ms > TIME_MS_MAX ? TIME_MS_MAX : realtime_ms;
        const uint64_t shifted_ms = (uint64_t)(realtime_ms + (INT64_C(719468) + INT64_C(146097)) * 86400000);
        const uint32_t days = (uint32_t)(shifted_ms / 86400000);
        const uint32_t ms = (uint32_t)(shifted_ms % 86400000);
        const uint32_t quarters = 4 * days + 3;
        const uint64_t years = UINT64_C(2939745) * (quarters % 146097 | 3); /* in 2^-32 of a year */
        const uint32_t day_of_year = (uint32_t)years / 2939745 / 4;
        const uint32_t months = 2141 * day_of_year + 197913; /* in 2^-16 of a month */
        const uint32_t january = day_of_year >= 306;         /* or February: of the next year */
        const uint32_t year = 100 * (quarters / 146097) + (uint32_t)(years >> 32) + january - 400;
        const uint32_t seconds = ms / 1000, minutes = ms / 60000, hours = ms / 3600000;
        const uint32_t hundredths = ms / 10;
        return (struct time_parts){
                .date = time_four(year / 100, year % 100, (months >> 16) - 12 * january, (months & 0xffff) / 2141 + 1),
                .time = time_four(hours, minutes - 60 * hours, seconds - 60 * minutes, hundredths - 100 * seconds),
                .thousandths = ms - 10 * hundredths,
        };
}

#if CODEC_SIMD_X86
/* The sixteen digits of the eight numbers. */
static CODEC_TARGET_AVX2 inline __m128i time_digits(uint64_t date, uint64_t time)
{
        const __m128i twos = _mm_set_epi64x((long long)time, (long long)date);
        const __m128i tens = _mm_mulhi_epu16(twos, _mm_set1_epi16(6554)); /* / 10, below 100 */
        const __m128i ones = _mm_sub_epi16(twos, _mm_mullo_epi16(tens, _mm_set1_epi16(10)));
        return _mm_add_epi8(_mm_or_si128(tens, _mm_slli_epi16(ones, 8)), _mm_set1_epi8('0'));
}

static CODEC_TARGET_AVX2 void time_write_avx2(uint64_t date, uint64_t time, uint8_t *out)
{
        const __m128i digits = time_digits(date, time);
        const __m128i head =
                _mm_shuffle_epi8(digits, _mm_setr_epi8(0, 1, 2, 3, -1, 4, 5, -1, 6, 7, -1, 8, 9, -1, 10, 11));
        const __m128i tail =
                _mm_shuffle_epi8(digits, _mm_setr_epi8(-1, 12, 13, -1, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
        _mm_storeu_si128((__m128i *)(void *)out,
                         _mm_or_si128(head, _mm_setr_epi8(0, 0, 0, 0, '-', 0, 0, '-', 0, 0, 'T', 0, 0, ':', 0, 0)));
        _mm_storel_epi64((__m128i *)(void *)(out + 16),
                         _mm_or_si128(tail, _mm_setr_epi8(':', 0, 0, '.', 0, 0, '0', 'Z', 0, 0, 0, 0, 0, 0, 0, 0)));
}

/* All 24 characters are one register here: digits go between the marks, and one store writes no more than them. */
static CODEC_TARGET_AVX512 void time_write_avx512(uint64_t date, uint64_t time, uint8_t *out)
{
        const __m256i marks =
                _mm256_setr_epi8('0', '0', '0', '0', '-', '0', '0', '-', '0', '0', 'T', '0', '0', ':', '0', '0', ':',
                                 '0', '0', '.', '0', '0', '0', 'Z', 0, 0, 0, 0, 0, 0, 0, 0);
        const __m256i from = _mm256_setr_epi8(0, 1, 2, 3, 0, 4, 5, 0, 6, 7, 0, 8, 9, 0, 10, 11, 0, 12, 13, 0, 14, 15, 0,
                                              0, 0, 0, 0, 0, 0, 0, 0, 0);
        const __mmask32 is_digit = 0x36db6f; /* where marks have a zero, but for the thousandths */
        const __m256i digits = _mm256_castsi128_si256(time_digits(date, time));
        _mm256_mask_storeu_epi8(out, 0xffffff, _mm256_mask_permutexvar_epi8(marks, is_digit, from, digits));
}
#endif

static void time_write_plain(uint64_t date, uint64_t time, uint8_t *out)
{
        static const uint8_t date_at[4] = {0, 2, 5, 8}, time_at[4] = {11, 14, 17, 20};
        memcpy(out, "0000-00-00T00:00:00.000Z", TIME_BYTES);
        for (unsigned i = 0; i < 4; i++, date >>= 16, time >>= 16) {
                memcpy(out + date_at[i], number_pairs + (date & 0xffff) * 2, 2);
                memcpy(out + time_at[i], number_pairs + (time & 0xffff) * 2, 2);
        }
}

size_t codec_time_write(int64_t realtime_ms, uint8_t *out)
{
        const struct time_parts parts = time_take_apart(realtime_ms);
#if CODEC_SIMD_X86
        const enum codec_simd level = codec_simd();
        if (level >= CODEC_SIMD_AVX512)
                time_write_avx512(parts.date, parts.time, out);
        else if (level >= CODEC_SIMD_AVX2)
                time_write_avx2(parts.date, parts.time, out);
        else
#endif
                time_write_plain(parts.date, parts.time, out);
        out[22] = (uint8_t)('0' + parts.thousandths);
        return TIME_BYTES;
}

/* Exactly `count` digits. */
static bool number_digits(struct slice *text, size_t count, uint32_t *ret_value)
{
        uint32_t value = 0;
        if (text->len < count)
                return false;
        for (size_t i = 0; i < count; i++) {
                if (text->ptr[i] < '0' || text->ptr[i] > '9')
                        return false;
                value = value * 10 + (uint32_t)(text->ptr[i] - '0');
        }
        *text = slice_of(text->ptr + count, text->len - count);
        *ret_value = value;
        return true;
}

static bool number_mark(struct slice *text, uint8_t mark)
{
        if (text->len == 0 || text->ptr[0] != mark)
                return false;
        *text = slice_of(text->ptr + 1, text->len - 1);
        return true;
}

/* ".123456789", cut to milliseconds. */
static bool time_parse_fraction(struct slice *text, uint16_t *ret_ms)
{
        uint32_t ms = 0, digits = 0;
        *ret_ms = 0;
        if (!number_mark(text, '.'))
                return true;
        while (digits < 9 && text->len > 0 && text->ptr[0] >= '0' && text->ptr[0] <= '9') {
                if (digits < 3)
                        ms = ms * 10 + (uint32_t)(text->ptr[0] - '0');
                digits++;
                *text = slice_of(text->ptr + 1, text->len - 1);
        }
        for (uint32_t i = digits; i < 3; i++)
                ms *= 10;
        *ret_ms = (uint16_t)ms;
        return digits > 0;
}

/* "Z", "z" or "+hh:mm"; the end of the text behind it. */
static bool time_parse_zone(struct slice text, int64_t *ret_offset_ms)
{
        *ret_offset_ms = 0;
        if (number_mark(&text, 'Z') || number_mark(&text, 'z'))
                return text.len == 0;
        bool west = number_mark(&text, '-');
        uint32_t hours, minutes;
        if (!west && !number_mark(&text, '+'))
                return false;
        if (!number_digits(&text, 2, &hours) || !number_mark(&text, ':') || !number_digits(&text, 2, &minutes))
                return false;
        if (hours > 23 || minutes > 59 || text.len != 0)
                return false;
        int64_t offset = (int64_t)(hours * 60 + minutes) * 60000;
        *ret_offset_ms = west ? -offset : offset;
        return true;
}

static uint32_t time_month_days(uint32_t year, uint32_t month)
{
        static const uint8_t days[13] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        return month == 2 && leap ? 29 : days[month];
}

bool codec_time_parse(struct slice text, int64_t *ret_realtime_ms)
{
        uint32_t year, month, day, hour, minute, second;
        struct clock_civil civil;
        int64_t offset_ms;
        if (!number_digits(&text, 4, &year) || !number_mark(&text, '-') || !number_digits(&text, 2, &month) ||
            !number_mark(&text, '-') || !number_digits(&text, 2, &day))
                return false;
        if (!number_mark(&text, 'T') && !number_mark(&text, 't') && !number_mark(&text, ' '))
                return false;
        if (!number_digits(&text, 2, &hour) || !number_mark(&text, ':') || !number_digits(&text, 2, &minute) ||
            !number_mark(&text, ':') || !number_digits(&text, 2, &second))
                return false;
        if (month < 1 || month > 12 || day < 1 || day > time_month_days(year, month) || hour > 23 || minute > 59 ||
            second > 60) /* 60: a leap second counts as the next second */
                return false;
        if (!time_parse_fraction(&text, &civil.millisecond) || !time_parse_zone(text, &offset_ms))
                return false;
        civil.year = (int32_t)year;
        civil.month = (uint8_t)month;
        civil.day = (uint8_t)day;
        civil.hour = (uint8_t)hour;
        civil.minute = (uint8_t)minute;
        civil.second = (uint8_t)second;
        *ret_realtime_ms = clock_civil_to_ms(&civil) - offset_ms;
        return true;
}

void codec_hex_write(struct slice bytes, char *out)
{
        for (size_t i = 0; i < bytes.len; i++) {
                out[2 * i] = "0123456789abcdef"[bytes.ptr[i] >> 4];
                out[2 * i + 1] = "0123456789abcdef"[bytes.ptr[i] & 15];
        }
}
