/* Both configuration files from any bytes. Nothing crashes; a plan or settings come out exactly when no error was
 * reported; a plan only names targets that it has. */
#include "base/assert.h"
#include "rules/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_each(void *context, struct slice set, struct slice destination, bool enabled, uint16_t mask,
                      uint32_t target_index)
{
        const struct rules_plan *plan = context;
        (void)destination;
        ASSERT(target_index == RULES_TARGET_NONE || target_index < rules_plan_targets_count(plan));
        for (int type = 1; type <= 10; type++) {
                uint16_t targets[LIMIT_ROUTES_PER_EVENT_MAX];
                bool known, found = false;
                uint32_t count = rules_plan_match(plan, set, (enum sendring_event_type)type, targets, &known);
                ASSERT(known && count <= LIMIT_DESTINATIONS_PER_SET_MAX);
                for (uint32_t i = 0; i < count; i++)
                        found |= targets[i] == target_index;
                if (enabled && (mask & (1u << type)) != 0 && target_index != RULES_TARGET_NONE)
                        ASSERT(found);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
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
        rules_plan_free(plan);
        rules_report_release(&report);
        return 0;
}
