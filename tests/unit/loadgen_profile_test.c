#include "tools/loadgen_profile.h"

#include "base/clock.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define TEST_DURATION_NS (60 * CLOCK_NS_PER_S)
#define TEST_TENTHS      10

struct walked {
        uint64_t events, types[LOADGEN_TYPES_COUNT + 1];
        uint64_t tenths[TEST_TENTHS], of_type[LOADGEN_TYPES_COUNT + 1][TEST_TENTHS];
        uint64_t hash; /* of all times and types */
};

/* All producers of a plan. */
static void walk(const struct loadgen_profile *profile, uint64_t events_count, uint32_t producers_count, uint64_t seed,
                 struct walked *ret_walked)
{
        static struct loadgen_profile_plan plan;
        loadgen_profile_plan(profile, events_count, TEST_DURATION_NS, producers_count, seed, &plan);
        memset(ret_walked, 0, sizeof(*ret_walked));
        for (uint32_t producer = 0; producer < producers_count; producer++) {
                struct loadgen_profile_cursor cursor;
                enum sendring_event_type type;
                uint64_t due_ns, last_ns = 0;
                loadgen_profile_begin(&cursor, &plan, producer);
                while (loadgen_profile_next(&cursor, &due_ns, &type)) {
                        cr_assert_geq(due_ns, last_ns, "%s", profile->name);
                        cr_assert_lt(due_ns, TEST_DURATION_NS, "%s", profile->name);
                        cr_assert(type >= 1 && type <= LOADGEN_TYPES_COUNT);
                        last_ns = due_ns;
                        ret_walked->events++;
                        ret_walked->types[type]++;
                        ret_walked->tenths[due_ns * TEST_TENTHS / TEST_DURATION_NS]++;
                        ret_walked->of_type[type][due_ns * TEST_TENTHS / TEST_DURATION_NS]++;
                        ret_walked->hash = (ret_walked->hash ^ due_ns) * UINT64_C(0x9e3779b97f4a7c15) + type;
                }
        }
}

static const struct loadgen_profile *profile_of(const char *name)
{
        const struct loadgen_profile *profile = loadgen_profile_find(name);
        cr_assert_not_null(profile, "%s", name);
        return profile;
}

Test(loadgen_profile, there_are_four_and_their_shares_are_whole, .timeout = 10)
{
        static const char *const names[] = {"newsletter-burst", "transactional-trickle", "bounce-storm", "open-storm"};
        uint32_t count = 0;
        for (; loadgen_profile_at(count) != NULL; count++) {
                const struct loadgen_profile *profile = loadgen_profile_at(count);
                cr_assert_str_eq(profile->name, names[count]);
                cr_assert_eq(loadgen_profile_find(names[count]), profile);
                uint32_t permille = 0;
                for (unsigned type = 1; type <= LOADGEN_TYPES_COUNT; type++)
                        permille += loadgen_profile_permille(profile, (enum sendring_event_type)type);
                cr_assert_eq(permille, 1000, "%s: %u", profile->name, permille);
                cr_assert(profile->sets_count >= 1 && profile->sets_count <= LOADGEN_SETS_DEFAULT);
                cr_assert(profile->campaigns_count <= LOADGEN_CAMPAIGNS_COUNT);
                cr_assert(profile->tenants_count <= LOADGEN_TENANTS_COUNT);
        }
        cr_assert_eq(count, 4);
        cr_assert_null(loadgen_profile_find("standard"));
}

Test(loadgen_profile, the_rate_comes_to_the_number_of_events_asked_for, .timeout = 60)
{
        struct walked walked;
        for (uint32_t i = 0; loadgen_profile_at(i) != NULL; i++) {
                const struct loadgen_profile *profile = loadgen_profile_at(i);
                static const uint64_t counts[] = {1, 2, 7, 1000, 100003};
                for (uint32_t producers = 1; producers <= 7; producers += 3)
                        for (size_t j = 0; j < sizeof(counts) / sizeof(counts[0]); j++) {
                                walk(profile, counts[j], producers, j + 1, &walked);
                                double off = fabs((double)walked.events - (double)counts[j]);
                                /* Poisson: five standard deviations. */
                                cr_assert(off <= (profile->poisson ? 5 * sqrt((double)counts[j]) : 0),
                                          "%s: %llu events of %llu by %u", profile->name,
                                          (unsigned long long)walked.events, (unsigned long long)counts[j], producers);
                        }
        }
}

Test(loadgen_profile, shares_are_those_of_the_table_whatever_the_seed, .timeout = 60)
{
        struct walked walked;
        for (uint32_t i = 0; loadgen_profile_at(i) != NULL; i++) {
                const struct loadgen_profile *profile = loadgen_profile_at(i);
                for (uint64_t seed = 0; seed < 5; seed++) {
                        walk(profile, 200000, 3, seed, &walked);
                        for (unsigned type = 1; type <= LOADGEN_TYPES_COUNT; type++) {
                                double share = loadgen_profile_permille(profile, (enum sendring_event_type)type) / 1e3;
                                double wanted = share * (double)walked.events;
                                double off = fabs((double)walked.types[type] - wanted);
                                cr_assert(off <= 5 * sqrt(wanted), "%s: %u: %llu, not %.0f", profile->name, type,
                                          (unsigned long long)walked.types[type], wanted);
                        }
                }
        }
}

Test(loadgen_profile, the_seed_decides, .timeout = 60)
{
        struct walked a, b, c;
        for (uint32_t i = 0; loadgen_profile_at(i) != NULL; i++) {
                walk(loadgen_profile_at(i), 1000, 2, 1, &a);
                walk(loadgen_profile_at(i), 1000, 2, 1, &b);
                walk(loadgen_profile_at(i), 1000, 2, 2, &c);
                cr_assert_eq(a.hash, b.hash);
                cr_assert_neq(a.hash, c.hash);
        }
}

Test(loadgen_profile, a_newsletter_is_sent_first_and_opened_for_long, .timeout = 60)
{
        struct walked walked;
        walk(profile_of("newsletter-burst"), 100000, 2, 1, &walked);
        const uint64_t *sends = walked.of_type[SENDRING_SEND], *deliveries = walked.of_type[SENDRING_DELIVERY];
        const uint64_t *opens = walked.of_type[SENDRING_OPEN];
        /* A burst that falls by e each 12 % of the run. */
        cr_assert_gt(sends[0], walked.types[SENDRING_SEND] / 2);
        for (int i = 1; i < 6; i++)
                cr_assert(sends[i] < sends[i - 1] * 6 / 10, "tenth %d: %llu after %llu", i,
                          (unsigned long long)sends[i], (unsigned long long)sends[i - 1]);
        cr_assert_lt(deliveries[0], sends[0] * 95 / 100);
        cr_assert_gt(deliveries[1], sends[1]);
        /* The tail: a quarter of the opens, and hardly any mail, in the second half. */
        cr_assert_gt(opens[5] + opens[6] + opens[7] + opens[8] + opens[9], walked.types[SENDRING_OPEN] / 4);
        cr_assert_lt(sends[5] + sends[6] + sends[7] + sends[8] + sends[9], walked.types[SENDRING_SEND] / 50);
        double peak = loadgen_profile_peak(profile_of("newsletter-burst"));
        cr_assert((double)walked.tenths[0] / 10000 < peak && peak < 10, "%f", peak);
}

Test(loadgen_profile, in_a_bounce_storm_most_mail_fails_from_the_block_on, .timeout = 60)
{
        struct walked walked;
        walk(profile_of("bounce-storm"), 100000, 2, 1, &walked);
        for (int i = 0; i < TEST_TENTHS; i++) {
                uint64_t failed = walked.of_type[SENDRING_BOUNCE][i] + walked.of_type[SENDRING_DELIVERY_DELAY][i];
                uint64_t sent = walked.of_type[SENDRING_SEND][i], delivered = walked.of_type[SENDRING_DELIVERY][i];
                if (i == 0)
                        cr_assert(failed < sent / 20 && delivered > sent * 9 / 10);
                else
                        cr_assert(failed > sent / 2 && delivered < sent * 3 / 10, "tenth %d", i);
        }
        cr_assert_gt(walked.of_type[SENDRING_BOUNCE][1], 2 * walked.of_type[SENDRING_BOUNCE][9]);
}

Test(loadgen_profile, an_open_storm_rises_at_once_and_falls_slowly, .timeout = 60)
{
        struct walked walked;
        walk(profile_of("open-storm"), 100000, 2, 1, &walked);
        cr_assert_gt(walked.types[SENDRING_OPEN] + walked.types[SENDRING_CLICK], 90000);
        cr_assert_gt(walked.tenths[0], 2 * walked.tenths[4]);
        cr_assert_gt(walked.tenths[9], walked.tenths[0] / 50);
        for (int i = 2; i < TEST_TENTHS; i++)
                cr_assert_lt(walked.tenths[i], walked.tenths[i - 1]);
}

/* Independent arrivals: the gaps' standard deviation is their mean, whoever of the producers published. */
Test(loadgen_profile, a_trickle_is_a_poisson_process, .timeout = 60)
{
        enum { PRODUCERS = 3, EVENTS = 30000 };
        static struct loadgen_profile_plan plan;
        static double gaps[EVENTS];
        struct loadgen_profile_cursor cursors[PRODUCERS];
        uint64_t due_ns[PRODUCERS];
        enum sendring_event_type type;
        loadgen_profile_plan(profile_of("transactional-trickle"), 2 * EVENTS, TEST_DURATION_NS, PRODUCERS, 1, &plan);
        for (uint32_t i = 0; i < PRODUCERS; i++) {
                loadgen_profile_begin(&cursors[i], &plan, i);
                cr_assert(loadgen_profile_next(&cursors[i], &due_ns[i], &type));
        }
        double mean = 0, variance = 0;
        uint64_t last_ns = 0;
        for (uint32_t k = 0; k < EVENTS; k++) {
                uint32_t first = 0;
                for (uint32_t i = 1; i < PRODUCERS; i++)
                        first = due_ns[i] < due_ns[first] ? i : first;
                gaps[k] = (double)(due_ns[first] - last_ns);
                mean += gaps[k] / EVENTS;
                last_ns = due_ns[first];
                cr_assert(loadgen_profile_next(&cursors[first], &due_ns[first], &type));
        }
        for (uint32_t k = 0; k < EVENTS; k++)
                variance += (gaps[k] - mean) * (gaps[k] - mean) / EVENTS;
        cr_assert(fabs(mean - 1e6) < 3e4, "%f", mean);
        cr_assert(fabs(sqrt(variance) / mean - 1) < 0.04, "%f", sqrt(variance) / mean);
}
