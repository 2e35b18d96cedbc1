#include "base/clock.h"

#include <errno.h>
#include <time.h>

static uint64_t clock_read_ns(clockid_t id)
{
        struct timespec now;
        (void)clock_gettime(id, &now); /* cannot fail for these clocks and a valid pointer */
        return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t clock_monotonic_ns(void)
{
        return clock_read_ns(CLOCK_MONOTONIC);
}

int64_t clock_realtime_ms(void)
{
        return (int64_t)(clock_read_ns(CLOCK_REALTIME) / CLOCK_NS_PER_MS);
}

int64_t clock_realtime_us(void)
{
        return (int64_t)(clock_read_ns(CLOCK_REALTIME) / CLOCK_NS_PER_US);
}

uint64_t clock_process_cpu_ns(void)
{
        return clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t clock_thread_cpu_ns(void)
{
        return clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
}

void clock_sleep_ns(uint64_t duration_ns)
{
        struct timespec left = {
                .tv_sec = (time_t)(duration_ns / CLOCK_NS_PER_S),
                .tv_nsec = (long)(duration_ns % CLOCK_NS_PER_S),
        };
        while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
                ;
}

void clock_nap_ns(uint64_t duration_ns)
{
        struct timespec left = {
                .tv_sec = (time_t)(duration_ns / CLOCK_NS_PER_S),
                .tv_nsec = (long)(duration_ns % CLOCK_NS_PER_S),
        };
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &left, NULL); /* an early end is allowed */
}

/* Days from 1970-01-01, by the era method (400-year cycles that begin on 1 March). */
static int64_t clock_days_from_civil(int64_t year, unsigned month, unsigned day)
{
        year -= month <= 2;
        int64_t era = (year >= 0 ? year : year - 399) / 400;
        int64_t year_of_era = year - era * 400;
        int64_t day_of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + (int64_t)day - 1;
        int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        return era * 146097 + day_of_era - 719468;
}

int64_t clock_civil_to_ms(const struct clock_civil *civil)
{
        int64_t days = clock_days_from_civil(civil->year, civil->month, civil->day);
        int64_t seconds = days * 86400 + civil->hour * 3600 + civil->minute * 60 + civil->second;
        return seconds * 1000 + civil->millisecond;
}

void clock_civil_from_ms(int64_t realtime_ms, struct clock_civil *ret_civil)
{
        int64_t seconds = realtime_ms / 1000;
        int64_t millisecond = realtime_ms % 1000;
        if (millisecond < 0) {
                millisecond += 1000;
                seconds--;
        }
        int64_t days = seconds / 86400;
        int64_t second_of_day = seconds % 86400;
        if (second_of_day < 0) {
                second_of_day += 86400;
                days--;
        }
        int64_t shifted = days + 719468;
        int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
        int64_t day_of_era = shifted - era * 146097;
        int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
        int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        int64_t month_shifted = (5 * day_of_year + 2) / 153;
        int64_t month = month_shifted < 10 ? month_shifted + 3 : month_shifted - 9;
        *ret_civil = (struct clock_civil){
                .year = (int32_t)(year_of_era + era * 400 + (month <= 2)),
                .month = (uint8_t)month,
                .day = (uint8_t)(day_of_year - (153 * month_shifted + 2) / 5 + 1),
                .hour = (uint8_t)(second_of_day / 3600),
                .minute = (uint8_t)(second_of_day / 60 % 60),
                .second = (uint8_t)(second_of_day % 60),
                .millisecond = (uint16_t)millisecond,
        };
}
