/* Both configuration files, and one of prices, from any bytes. Nothing crashes; a plan or settings come out exactly
 * when no error was reported; a plan only names targets that it has. */
#include "base/assert.h"
#include "base/limits.h"
#include "base/prices.h"
#include "rules/rules.h"
#include "tests/support/codec_events.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a plan says about one event, and why. */
struct fuzz_why {
        const struct rules_plan *plan;
        const struct rules_match *match;
        uint32_t count, matched;
};

static void fuzz_explained(void *context, const struct rules_explanation *explanation)
{
        struct fuzz_why *why = context;
        ASSERT(explanation->target_index == RULES_TARGET_NONE ||
               explanation->target_index < rules_plan_targets_count(why->plan));
        ASSERT((explanation->verdict == RULES_VERDICT_FILTER) == (explanation->member.len > 0));
        if (explanation->verdict != RULES_VERDICT_MATCH)
                return;
        ASSERT(why->matched < why->count && why->match->targets[why->matched] == explanation->target_index);
        why->matched++;
}

static void fuzz_each(void *context, struct slice set, struct slice destination, bool enabled, uint16_t mask,
                      uint32_t target_index)
{
        const struct rules_plan *plan = context;
        (void)destination;
        (void)enabled;
        (void)mask;
        ASSERT(target_index == RULES_TARGET_NONE || target_index < rules_plan_targets_count(plan));
        for (int type = 1; type <= 10; type++) {
                static uint8_t encoded[4096];
                struct sendring_event event;
                struct codec_view view;
                size_t bytes;
                codec_events_fill(&event, (enum sendring_event_type)type);
                ASSERT(codec_event_encode(&event, encoded, sizeof(encoded), &bytes, NULL) == ERR_OK);
                ASSERT(codec_view_decode(slice_of(encoded, bytes), &view, NULL) == ERR_OK);
                view.configuration_set = set;
                struct rules_match match;
                uint32_t count = rules_plan_match(plan, &view, NULL, &match);
                ASSERT(match.set_known && count <= LIMIT_DESTINATIONS_PER_SET_MAX);
                struct fuzz_why why = {.plan = plan, .match = &match, .count = count};
                ASSERT(rules_plan_explain(plan, &view, NULL, fuzz_explained, &why));
                ASSERT(why.matched == count);
        }
}

/* What egress sizes its tables and bodies by. */
static void fuzz_target(const struct rules_target *target)
{
        const struct rules_cloudwatch *cloudwatch = target->cloudwatch;
        ASSERT((target->service == RULES_SERVICE_CLOUDWATCH) == (cloudwatch != NULL));
        ASSERT(target->key.len > 0 && target->key.len <= RULES_TARGET_KEY_BYTES_MAX);
        if (cloudwatch == NULL)
                return;
        ASSERT(cloudwatch->dimensions_count >= 1 && cloudwatch->dimensions_count <= RULES_DIMENSIONS_MAX);
        ASSERT(cloudwatch->roll_ups_count >= 1 && cloudwatch->roll_ups_count <= RULES_ROLL_UPS_MAX);
        ASSERT(cloudwatch->series_max >= 1 && cloudwatch->series_max <= LIMIT_CLOUDWATCH_SERIES_MAX);
        ASSERT(cloudwatch->period_s >= 1 && 3600 % cloudwatch->period_s == 0);
        ASSERT(cloudwatch->namespace.len >= 1 && cloudwatch->namespace.len <= LIMIT_CLOUDWATCH_NAME_BYTES_MAX);
        ASSERT(!slice_has_prefix(cloudwatch->namespace, SLICE("AWS/")));
        ASSERT(cloudwatch->overflow_value.len >= 1 &&
               cloudwatch->overflow_value.len <= LIMIT_CLOUDWATCH_DEFAULT_BYTES_MAX);
        for (uint32_t i = 0; i < cloudwatch->roll_ups_count; i++)
                ASSERT(cloudwatch->roll_ups[i] >> cloudwatch->dimensions_count == 0);
        for (uint32_t i = 0; i < cloudwatch->dimensions_count; i++) {
                const struct rules_dimension *dimension = &cloudwatch->dimensions[i];
                ASSERT(dimension->name.len >= 1 && dimension->name.len <= LIMIT_CLOUDWATCH_NAME_BYTES_MAX);
                ASSERT(dimension->default_value.len >= 1 &&
                       dimension->default_value.len <= LIMIT_CLOUDWATCH_DEFAULT_BYTES_MAX);
        }
}

static void fuzz_report(const struct rules_report *report)
{
        uint32_t kept = 0;
        for (const struct rules_finding *finding = report->first; finding != NULL; finding = finding->next) {
                ASSERT(finding->file != NULL && finding->text != NULL);
                kept++;
        }
        ASSERT(kept == report->errors_kept + report->warnings_kept);
}

/* What is read can be multiplied and added up. */
static void fuzz_prices(struct slice text)
{
        struct rules_report report;
        struct prices prices;
        rules_report_init(&report);
        enum err_code code = rules_prices_parse("p", text, &prices, &report);
        ASSERT((code == ERR_OK) == (report.errors == 0));
        fuzz_report(&report);
        if (code == ERR_OK) {
                double before = 0;
                for (double amount = 1; amount < 1e9; amount *= 10) {
                        double usd =
                                price_of(&prices.firehose_gb, amount) + price_of(&prices.cloudwatch_metric, amount);
                        ASSERT(usd >= before && usd < 1e24);
                        before = usd;
                }
                ASSERT(prices.firehose_step_bytes > 0 && prices.cloudwatch_thousand_requests >= 0);
        }
        rules_report_release(&report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        fuzz_prices(slice_of(data, size));
        struct rules_report report;
        struct rules_settings settings;
        struct rules_plan *plan;
        rules_report_init(&report);
        enum err_code code = rules_settings_parse("s", slice_of(data, size), &settings, &report);
        ASSERT((code == ERR_OK) == (report.errors == 0));
        fuzz_report(&report);
        if (code == ERR_OK) {
                ASSERT(settings.router.shards_count >= 1 && settings.router.shards_count <= LIMIT_SHARDS_MAX);
                rules_settings_release(&settings);
        }
        rules_report_release(&report);
        rules_report_init(&report);
        code = rules_plan_parse("c", slice_of(data, size), NULL, &plan, &report);
        ASSERT((code == ERR_OK) == (report.errors == 0) && (code == ERR_OK) == (plan != NULL));
        fuzz_report(&report);
        if (plan != NULL)
                rules_plan_each(plan, fuzz_each, plan);
        for (uint32_t i = 0; plan != NULL && i < rules_plan_targets_count(plan); i++)
                fuzz_target(rules_plan_target(plan, i));
        rules_plan_free(plan);
        rules_report_release(&report);
        return 0;
}
