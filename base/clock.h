/* Clocks. Monotonic nanoseconds for durations and deadlines, real time in milliseconds for what AWS and people read. */
#ifndef SENDRING_BASE_CLOCK_H
#define SENDRING_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define CLOCK_NS_PER_US UINT64_C(1000)
#define CLOCK_NS_PER_MS UINT64_C(1000000)
#define CLOCK_NS_PER_S  UINT64_C(1000000000)

uint64_t clock_monotonic_ns(void);
/* Milliseconds since 1970-01-01T00:00:00Z, by CLOCK_REALTIME. */
int64_t clock_realtime_ms(void);
/* The same in microseconds, for who compares the clocks of two processes of a host. */
int64_t clock_realtime_us(void);
/* CPU time, user + system, of the whole process and of the calling thread. */
uint64_t clock_process_cpu_ns(void);
uint64_t clock_thread_cpu_ns(void);
/* Sleeps at least `duration_ns`, going on after signals. */
void clock_sleep_ns(uint64_t duration_ns);
/* Sleeps at most `duration_ns`: a signal ends it. */
void clock_nap_ns(uint64_t duration_ns);

/* Civil date in UTC <-> milliseconds, proleptic Gregorian, no locale, no time zone database. */
struct clock_civil {
        int32_t year;       /* 0..9999 */
        uint8_t month, day; /* 1..12, 1..31 */
        uint8_t hour, minute, second;
        uint16_t millisecond;
};
int64_t clock_civil_to_ms(const struct clock_civil *civil);
void clock_civil_from_ms(int64_t realtime_ms, struct clock_civil *ret_civil);

#endif
