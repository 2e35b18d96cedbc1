/* Time that passes when the simulation says so; a reading costs a little of it, so that loops that wait for it end. */
#include "base/clock.h"

#include "tests/sim/sim.h"

#define SIM_READING_NS 40u
/* 2026-01-01T00:00:00Z: whole minutes, so that periods begin where one expects them. */
#define SIM_REALTIME_MS INT64_C(1767225600000)

static uint64_t sim_clock_ns = CLOCK_NS_PER_S;
static int64_t realtime_offset_ms;

uint64_t sim_now_ns(void)
{
        return sim_clock_ns;
}

void sim_clock_advance(uint64_t duration_ns)
{
        sim_clock_ns += duration_ns;
}

void sim_clock_set(uint64_t now_ns)
{
        if (now_ns > sim_clock_ns)
                sim_clock_ns = now_ns;
}

void sim_clock_set_realtime(int64_t offset_ms)
{
        realtime_offset_ms = offset_ms;
}

int64_t sim_clock_true_ms(void)
{
        return SIM_REALTIME_MS + (int64_t)(sim_clock_ns / CLOCK_NS_PER_MS);
}

/* base/clock.h, by the linker's --wrap. */
uint64_t __wrap_clock_monotonic_ns(void);
int64_t __wrap_clock_realtime_ms(void);
void __wrap_clock_sleep_ns(uint64_t duration_ns);
void __wrap_clock_nap_ns(uint64_t duration_ns);

uint64_t __wrap_clock_monotonic_ns(void)
{
        sim_clock_ns += SIM_READING_NS;
        return sim_clock_ns;
}

int64_t __wrap_clock_realtime_ms(void)
{
        return sim_clock_true_ms() + realtime_offset_ms;
}

void __wrap_clock_sleep_ns(uint64_t duration_ns)
{
        sim_clock_ns += duration_ns;
}

void __wrap_clock_nap_ns(uint64_t duration_ns)
{
        sim_clock_ns += duration_ns;
}
