/* When a line was written, and when a message came. */
#include "feeds/postfix_internal.h"

#include "codecs/codec.h"

#include <time.h>

/* "Nov 23 04:45:37" in the local zone; the year is the last one in which that time is not after the reference, but
 * for a day's grace. */
static bool postfix_time_traditional(struct postfix *postfix, struct slice stamp, int64_t reference_ms, int64_t *ret_ms)
{
        static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        if (stamp.len != 15)
                return false;
        if (memcmp(postfix->stamp, stamp.ptr, 15) == 0 && reference_ms - postfix->stamp_reference_ms < DAY_MS &&
            reference_ms >= postfix->stamp_reference_ms) {
                *ret_ms = postfix->stamp_ms;
                return true;
        }
        struct tm civil = {.tm_isdst = -1, .tm_mon = -1};
        for (int i = 0; i < 12; i++)
                if (memcmp(months + (size_t)i * 3, stamp.ptr, 3) == 0)
                        civil.tm_mon = i;
        uint64_t day, hour, minute, second;
        struct slice day_text = slice_trim(slice_of(stamp.ptr + 4, 2));
        if (civil.tm_mon < 0 || stamp.ptr[9] != ':' || stamp.ptr[12] != ':' || !slice_to_u64(day_text, 31, &day) ||
            day == 0 || !slice_to_u64(slice_of(stamp.ptr + 7, 2), 23, &hour) ||
            !slice_to_u64(slice_of(stamp.ptr + 10, 2), 59, &minute) ||
            !slice_to_u64(slice_of(stamp.ptr + 13, 2), 60, &second))
                return false;
        civil.tm_mday = (int)day;
        civil.tm_hour = (int)hour;
        civil.tm_min = (int)minute;
        civil.tm_sec = second == 60 ? 59 : (int)second; /* a leap second: its day is not over */
        time_t reference = (time_t)(reference_ms / 1000);
        struct tm now;
        if (localtime_r(&reference, &now) == NULL)
                return false;
        /* Feb 29 needs up to 8 years back; others at most one. Clocks may be a little apart: a day's grace, which may
         * reach into the next year. */
        for (int back = -1; back < 9; back++) {
                struct tm try = civil;
                try.tm_year = now.tm_year - back;
                time_t time = mktime(&try);
                if (try.tm_mday != (int)day || time == (time_t)-1)
                        continue;
                if ((int64_t)time * 1000 > reference_ms + DAY_MS)
                        continue;
                memcpy(postfix->stamp, stamp.ptr, 15);
                postfix->stamp_ms = (int64_t)time * 1000;
                postfix->stamp_reference_ms = reference_ms;
                *ret_ms = postfix->stamp_ms;
                return true;
        }
        return false;
}

bool postfix_time(struct postfix *postfix, struct slice stamp, int64_t reference_ms, int64_t *ret_ms)
{
        if (stamp.len > 0 && stamp.ptr[0] >= '0' && stamp.ptr[0] <= '9') {
                if (codec_time_parse(stamp, ret_ms))
                        return *ret_ms >= 0;
                /* journalctl -o short-iso: "+0000" without a colon. */
                char text[48];
                if (stamp.len < 6 || stamp.len + 2 > sizeof(text) ||
                    (stamp.ptr[stamp.len - 5] != '+' && stamp.ptr[stamp.len - 5] != '-'))
                        return false;
                size_t head = stamp.len - 2;
                memcpy(text, stamp.ptr, head);
                text[head] = ':';
                memcpy(text + head + 1, stamp.ptr + head, 2);
                return codec_time_parse(slice_of(text, stamp.len + 1), ret_ms) && *ret_ms >= 0;
        }
        return postfix_time_traditional(postfix, stamp, reference_ms, ret_ms) && *ret_ms >= 0;
}

/* A long queue id begins with the time of arrival: seconds, then 4 digits of microseconds, in base 52, up to the last
 * "z". */
bool postfix_queue_id_time(struct slice queue_id, int64_t *ret_ms)
{
        static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
        size_t end = queue_id.len;
        while (end > 0 && queue_id.ptr[end - 1] != 'z')
                end--;
        if (end < 11 || end > 13)
                return false;
        end--;
        uint64_t parts[2] = {0, 0};
        for (size_t i = 0; i < end; i++) {
                const char *digit = memchr(digits, queue_id.ptr[i], sizeof(digits) - 1);
                if (digit == NULL)
                        return false;
                uint64_t *part = &parts[i + 4 >= end];
                *part = *part * 52 + (uint64_t)(digit - digits);
        }
        if (parts[1] >= 1000000)
                return false;
        *ret_ms = (int64_t)(parts[0] * 1000 + parts[1] / 1000);
        return true;
}
