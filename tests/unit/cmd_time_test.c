#include "tools/cmd.h"

#include <criterion/criterion.h>

Test(cmd_time, takes_what_people_write, .timeout = 20)
{
        const int64_t now_ms = 1767323045678;
        static const struct {
                const char *text;
                int64_t ms;
        } good[] = {
                {"now", 1767323045678},
                {"0", 0},
                {"1767323045678", 1767323045678},
                {"-0s", 1767323045678},
                {"-1ms", 1767323045677},
                {"-10s", 1767323035678},
                {"-5m", 1767322745678},
                {"-2h", 1767315845678},
                {"-7d", 1766718245678},
                {"2026-01-02T03:04:05.678Z", 1767323045678},
                {"2026-01-02T03:04:05Z", 1767323045000},
                {"2026-01-02T04:04:05+01:00", 1767323045000},
        };
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
                int64_t ms = -1;
                cr_assert(cmd_parse_time(good[i].text, now_ms, &ms), "%s", good[i].text);
                cr_assert_eq(ms, good[i].ms, "%s: %lld", good[i].text, (long long)ms);
        }
        static const char *const bad[] = {"",
                                          "-",
                                          "-h",
                                          "2h",
                                          "+2h",
                                          "-2",
                                          "-2 h",
                                          "-2H",
                                          "-2w",
                                          "--2h",
                                          "-2h ",
                                          "yesterday",
                                          "-1e3s",
                                          "2026-01-02",
                                          "99999999999999999999",
                                          "-99999999999999d"};
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                int64_t ms;
                cr_assert_not(cmd_parse_time(bad[i], now_ms, &ms), "%s", bad[i]);
        }
}
