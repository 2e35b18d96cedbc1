/* When credentials are loaded again: by a clock that the test gives. */
#include "base/clock.h"
#include "base/log.h"
#include "router/router_internal.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct router router;
static struct router_target target = {.uses_credentials = true};

static void set_keys(const char *id, int64_t left_s)
{
        char text[40];
        struct tm parts;
        const time_t at = time(NULL) + (time_t)left_s;
        cr_assert_not_null(gmtime_r(&at, &parts));
        cr_assert_gt(strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts), 0);
        cr_assert_eq(setenv("AWS_ACCESS_KEY_ID", id, 1), 0);
        cr_assert_eq(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        cr_assert_eq(setenv("AWS_CREDENTIAL_EXPIRATION", text, 1), 0);
}

/* With keys that end then; they are loaded. */
static void begin(int64_t left_s)
{
        log_level_set(LOG_ERROR);
        router = (struct router){.targets = &target, .targets_count = 1};
        router.settings.credentials.profile = "";
        router.settings.credentials.shared_credentials_file = "";
        router.settings.credentials.config_file = "";
        set_keys("AKIDFIRST", left_s);
        cr_assert_eq(router_credentials_create(&router, NULL), ERR_OK);
        cr_assert_eq(router_credentials_start(&router, NULL), ERR_OK);
}

static void end(void)
{
        router_credentials_stop(&router);
        router_credentials_free(router.credentials);
}

/* Looks as the helper thread does, so long after now; whether keys other than the first are in force then. */
static bool are_new_after(uint64_t seconds)
{
        struct egress_credentials *shared = router_credentials_shared(&router);
        const uint64_t loads = atomic_load(&shared->loads);
        router_credentials_look(&router, clock_monotonic_ns() + seconds * CLOCK_NS_PER_S);
        for (uint32_t i = 0; i < 200 && atomic_load(&shared->loads) == loads; i++)
                clock_nap_ns(CLOCK_NS_PER_MS);
        return strcmp(atomic_load(&shared->current)->access_key_id, "AKIDFIRST") != 0;
}

Test(router_credentials, those_that_end_soon_are_loaded_again_before_they_do, .timeout = 30)
{
        begin(290);
        set_keys("AKIDSECOND", 3600);
        cr_assert_not(are_new_after(9));
        cr_assert(are_new_after(11), "five minutes before their end, every ten seconds");
        end();
}

Test(router_credentials, others_once_a_minute, .timeout = 30)
{
        begin(3600);
        set_keys("AKIDSECOND", 7200);
        cr_assert_not(are_new_after(59));
        cr_assert(are_new_after(61));
        cr_assert_eq(atomic_load(&router_credentials_shared(&router)->current)->number, 2);
        end();
}

Test(router_credentials, those_that_a_service_refused_are_loaded_each_second, .timeout = 30)
{
        begin(3600);
        set_keys("AKIDSECOND", 7200);
        router_credentials_want(&router);
        cr_assert_not(are_new_after(0));
        cr_assert(are_new_after(2));
        end();
}
