#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "egress/outbox.h"
#include "router/router_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void router_plan_free(struct shard_plan *plan)
{
        if (plan == NULL)
                return;
        rules_plan_free(plan->plan);
        free(plan->numbers);
        free(plan->workers);
        free(plan);
}

struct router_target *router_find_target(struct router *router, struct slice key)
{
        for (uint32_t i = 0; i < router->targets_count; i++)
                if (slice_equal(slice_of_text(router->targets[i].key), key))
                        return &router->targets[i];
        return NULL;
}

static struct counters_target_row *router_free_row(struct router *router)
{
        uint32_t used = atomic_load_explicit(&router->counters.head->rows_used, memory_order_relaxed);
        for (uint32_t i = 0; i < used; i++) {
                struct counters_target_row *row = &router->counters.rows[i];
                bool taken = false;
                for (uint32_t k = 0; k < router->targets_count; k++)
                        taken |= router->targets[k].row == row;
                if (!taken) {
                        memset(row, 0, sizeof(*row));
                        return row;
                }
        }
        if (used == router->counters.head->rows_max)
                return NULL;
        atomic_store_explicit(&router->counters.head->rows_used, used + 1, memory_order_release);
        return &router->counters.rows[used];
}

/* A target that could not be made must not hold the log. At start it may be one of before, with events that wait: there
 * the daemon refuses to start instead. */
static void router_unregister(struct router *router, uint32_t shards, const uint16_t *numbers)
{
        for (uint32_t shard = 0; shard < shards && router->plan != NULL; shard++)
                journal_target_retire(router->journals[shard], numbers[shard]);
}

static enum err_code router_register(struct router *router, struct slice key, uint16_t *numbers, struct err *reterr)
{
        for (uint32_t shard = 0; shard < router->journals_count; shard++) {
                enum err_code code = journal_target_register(router->journals[shard], key, &numbers[shard], reterr);
                if (code != ERR_OK) {
                        router_unregister(router, shard, numbers);
                        return err_wrap(reterr, "journal of shard %u", router->logs[shard].shard);
                }
        }
        return ERR_OK;
}

/* Makes the target that a plan names, or finds it. */
static enum err_code router_open_target(struct router *router, const struct rules_target *spec,
                                        struct router_target **ret_target, struct err *reterr)
{
        struct router_target *own = router_find_target(router, spec->key);
        if (own != NULL) {
                egress_target_set_rates(own->target, &spec->rates);
                *ret_target = own;
                return ERR_OK;
        }
        if (router->targets_count == router->targets_room) {
                uint32_t room = router->targets_room == 0 ? 16 : router->targets_room * 2;
                struct router_target *larger = realloc(router->targets, room * sizeof(*larger));
                if (larger == NULL)
                        return err_set(reterr, ERR_MEMORY, "out of memory for delivery targets");
                router->targets = larger;
                router->targets_room = room;
        }
        struct router_target fresh = {
                .budget_bytes = egress_target_budget_bytes(&router->settings, spec),
                .uses_credentials = spec->service != RULES_SERVICE_FILE,
                .fresh = true,
        };
        enum err_code code = router_register(router, spec->key, fresh.numbers, reterr);
        if (code != ERR_OK)
                return code;
        fresh.worker = (uint8_t)(fresh.numbers[0] % router->workers_count);
        struct egress_worker *worker = router->workers[fresh.worker];
        fresh.row = router_free_row(router);
        fresh.key = strndup((const char *)spec->key.ptr, spec->key.len);
        if (fresh.row == NULL)
                code = err_set(reterr, ERR_LIMIT, "more than %u delivery targets at a time", LIMIT_TARGETS_MAX);
        else if (fresh.key == NULL)
                code = err_set(reterr, ERR_MEMORY, "out of memory for delivery targets");
        else
                code = egress_target_create(spec, fresh.numbers, worker, router->targets_count + 1, fresh.row,
                                            &fresh.target, reterr);
        if (code != ERR_OK) {
                free(fresh.key);
                router_unregister(router, router->journals_count, fresh.numbers);
                return err_wrap(reterr, "target %.*s", SLICE_PRINTF(spec->key));
        }
        while (!egress_worker_add_target(worker, fresh.target))
                clock_sleep_ns(CLOCK_NS_PER_MS); /* the worker empties its inbox each turn */
        router->targets[router->targets_count] = fresh;
        *ret_target = &router->targets[router->targets_count++];
        return ERR_OK;
}

/* Reads configuration-sets.yaml; *ret_text is what was read, in the arena. With a mistake in the file after a crash,
 * what was in force before. */
static enum err_code router_read_plan(struct router *router, struct arena *arena, struct slice *ret_text,
                                      struct rules_plan **ret_plan, struct rules_report *report, struct err *reterr)
{
        const char *path = router->settings.configuration_sets_path;
        enum err_code code = file_read(arena, path, LIMIT_CONFIG_BYTES_MAX, ret_text, NULL);
        if (code == ERR_OK)
                code = rules_plan_parse(path, *ret_text, &router->settings, ret_plan, report);
        else
                code = rules_plan_load(path, &router->settings, ret_plan, report); /* says what is wrong with it */
        rules_report_print(report, stderr);
        if (code == ERR_OK)
                return ERR_OK;
        if (report->errors > 0)
                (void)err_set(reterr, code, "%s: %u mistake%s, named above", path, report->errors,
                              report->errors == 1 ? "" : "s");
        else
                (void)err_set(reterr, code, "cannot load %s: %s", path, err_text(code));
        if (router->plan != NULL || !router->options->restarted ||
            router_kept_parse(router, router_kept_newest(router), ROUTER_KEPT_OF_NOW, arena, ret_text, ret_plan) !=
                    ERR_OK)
                return code;
        counter_add(router->own_counters, COUNTER_control_reloads_refused, 1);
        log_error("configuration refused", "file=%s now=\"what was in force before the crash stays in force\"", path);
        return ERR_OK;
}

/* Before the plan is in force: from then on events are routed by it. */
static void router_keep_plan(struct router *router, struct slice text)
{
        struct err err = {.text = ""};
        char quoted[ERR_TEXT_BYTES_MAX];
        if (router_kept_save(router, text, &err) != ERR_OK)
                log_warning("cannot keep a copy of the configuration sets",
                            "error=%s now=\"what waits for a target that is removed later is shed by a restart\"",
                            log_quote(err.text, quoted, sizeof(quoted)));
        for (uint32_t i = 0; i < router->targets_count; i++)
                if (router->targets[i].wanted)
                        router->targets[i].kept = router_kept_newest(router);
}

/* Reads configuration-sets.yaml and opens its targets. Findings go to stderr. */
enum err_code router_load_plan(struct router *router, struct shard_plan **ret_plan, struct err *reterr)
{
        struct rules_report report;
        struct arena arena;
        struct slice text = SLICE_EMPTY;
        rules_report_init(&report);
        arena_init(&arena, 0, 0);
        struct shard_plan *plan = calloc(1, sizeof(*plan));
        enum err_code code = ERR_OK;
        if (plan == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory for the plan");
                goto out;
        }
        code = router_read_plan(router, &arena, &text, &plan->plan, &report, reterr);
        if (code != ERR_OK)
                goto out;
        uint32_t count = rules_plan_targets_count(plan->plan);
        plan->numbers = calloc(count + 1, sizeof(*plan->numbers));
        plan->workers = calloc(count + 1, sizeof(*plan->workers));
        if (plan->numbers == NULL || plan->workers == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory for the plan");
                goto out;
        }
        for (uint32_t i = 0; i < router->targets_count; i++)
                router->targets[i].wanted = false;
        for (uint32_t i = 0; i < count && code == ERR_OK; i++) {
                struct router_target *target = NULL;
                code = router_open_target(router, rules_plan_target(plan->plan, i), &target, reterr);
                if (code != ERR_OK)
                        break;
                /* Named again while it delivers what waits: it stays. At its very end it must go first. */
                if (target->removing && !egress_target_keep(target->target)) {
                        code = err_set(reterr, ERR_BUSY, "target %s is still being removed", target->key);
                        break;
                }
                target->fresh |= target->removing;
                target->removing = false;
                target->wanted = true;
                memcpy(plan->numbers[i], target->numbers, sizeof(target->numbers));
                plan->workers[i] = target->worker;
        }
        if (code == ERR_OK)
                router_keep_plan(router, text);
out:
        rules_report_release(&report);
        arena_release(&arena);
        /* What a plan that came to nothing has opened is let go of again; the rest is in the plan in force. */
        for (uint32_t i = 0; i < router->targets_count; i++) {
                if (code != ERR_OK)
                        router->targets[i].wanted = !router->targets[i].fresh;
                router->targets[i].fresh = false;
        }
        if (code != ERR_OK) {
                router_plan_free(plan);
                return code;
        }
        *ret_plan = plan;
        return ERR_OK;
}

void router_reload(struct router *router)
{
        if (router->plan_old != NULL)
                return; /* the last reload is still settling: the tick comes again */
        struct err err = {.text = ""};
        struct shard_plan *plan = NULL;
        enum err_code code = router_load_plan(router, &plan, &err);
        if (code == ERR_BUSY)
                return; /* tried again by the tick */
        router->reload_wanted = false;
        if (code != ERR_OK) {
                char quoted[ERR_TEXT_BYTES_MAX];
                counter_add(router->own_counters, COUNTER_control_reloads_refused, 1);
                log_error("reload refused", "error=%s now=\"the old configuration stays in force\"",
                          log_quote(err.text, quoted, sizeof(quoted)));
                return;
        }
        router->plan_old = router->plan;
        router->plan = plan;
        for (uint32_t i = 0; i < router->shards_count; i++)
                shard_set_plan(router->shards[i], plan);
        counter_add(router->own_counters, COUNTER_control_reloads, 1);
        log_info("reloaded", "configuration_sets=%u destinations=%u targets=%u", rules_plan_sets_count(plan->plan),
                 rules_plan_destinations_count(plan->plan), rules_plan_targets_count(plan->plan));
}

/* Frees an old plan that nobody looks at any more, lets go of targets that the new one does not name, frees those that
 * are gone. */
void router_settle_targets(struct router *router)
{
        if (router->plan_old != NULL) {
                for (uint32_t i = 0; i < router->shards_count; i++)
                        if (shard_plan_seen(router->shards[i]) != router->plan)
                                return;
                router_plan_free(router->plan_old);
                router->plan_old = NULL;
        }
        for (uint32_t i = 0; i < router->targets_count;) {
                struct router_target *target = &router->targets[i];
                if (!target->wanted && !target->removing)
                        target->removing = egress_worker_remove_target(router->workers[target->worker], target->target);
                if (target->removing && egress_target_is_gone(target->target)) {
                        for (uint32_t shard = 0; shard < router->journals_count; shard++)
                                journal_target_retire(router->journals[shard], target->numbers[shard]);
                        egress_target_free(target->target);
                        free(target->key);
                        router->targets[i] = router->targets[--router->targets_count];
                        continue;
                }
                i++;
        }
        if (router->kept_count > 1)
                router_kept_forget(router);
}

static bool router_waits_for(const struct router *router, struct slice key)
{
        for (uint32_t shard = 0; shard < router->journals_count; shard++) {
                struct journal *journal = router->journals[shard];
                for (uint32_t number = 0; number < journal_targets_count(journal); number++) {
                        struct journal_target_state state;
                        if (journal_target_get(journal, (uint16_t)number, &state) && !state.retired &&
                            slice_equal(slice_of_text(state.key), key) &&
                            state.accepted > state.delivered + state.dead_lettered + state.shed + state.expired)
                                return true;
                }
        }
        return false;
}

/* Opens those targets of a copy that still have events, and tells their workers at once to let them go when they are
 * through. */
static void router_resume_targets_of(struct router *router, const struct rules_plan *plan, uint64_t kept)
{
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++) {
                const struct rules_target *spec = rules_plan_target(plan, i);
                struct router_target *target = NULL;
                struct err err = {.text = ""};
                char quoted[ERR_TEXT_BYTES_MAX];
                if (router_find_target(router, spec->key) != NULL || !router_waits_for(router, spec->key))
                        continue;
                if (router_open_target(router, spec, &target, &err) != ERR_OK) {
                        log_error("a target of before cannot be opened", "error=%s now=\"what waits for it is shed\"",
                                  log_quote(err.text, quoted, sizeof(quoted)));
                        continue;
                }
                target->fresh = false;
                target->kept = kept;
                /* The worker does not run yet, and its inbox has room for both orders of every target there can be. */
                target->removing = egress_worker_remove_target(router->workers[target->worker], target->target);
                log_info("a target is in no configuration set any more",
                         "target=%s now=\"what waits for it is delivered\"",
                         log_quote(target->key, quoted, sizeof(quoted)));
        }
}

void router_resume_targets(struct router *router)
{
        for (uint32_t i = router->kept_count; i-- > 0;) {
                struct arena arena;
                struct slice text;
                struct rules_plan *plan = NULL;
                arena_init(&arena, 0, 0);
                if (router_kept_parse(router, router->kept[i], ROUTER_KEPT_OF_THEN, &arena, &text, &plan) == ERR_OK)
                        router_resume_targets_of(router, plan, router->kept[i]);
                rules_plan_free(plan);
                arena_release(&arena);
        }
}

/* Targets of earlier plans that this one does not name: what waits for them can go nowhere. */
void router_retire_unknown(struct router *router)
{
        for (uint32_t shard = 0; shard < router->journals_count; shard++) {
                struct journal *journal = router->journals[shard];
                for (uint32_t number = 0; number < journal_targets_count(journal); number++) {
                        struct journal_target_state state;
                        if (!journal_target_get(journal, (uint16_t)number, &state) || state.retired)
                                continue;
                        bool ours =
                                number == router->target_unmatched[shard] || number == router->target_rejected[shard];
                        for (uint32_t i = 0; i < router->targets_count; i++)
                                ours |= router->targets[i].numbers[shard] == number;
                        if (ours)
                                continue;
                        uint64_t settled = state.delivered + state.dead_lettered + state.shed + state.expired;
                        journal_target_retire(journal, (uint16_t)number);
                        char quoted[2 * sizeof(state.key)];
                        if (state.accepted > settled)
                                log_warning("a target is in no configuration set any more",
                                            "target=%s shed_events=%" PRIu64,
                                            log_quote(state.key, quoted, sizeof(quoted)), state.accepted - settled);
                }
        }
}

void router_sweep_outboxes(struct router *router)
{
        struct slice *keys = calloc(router->targets_count + 1, sizeof(*keys));
        if (keys == NULL)
                return; /* they only take room: the next start tries again */
        for (uint32_t i = 0; i < router->targets_count; i++)
                keys[i] = slice_of_text(router->targets[i].key);
        uint32_t removed = outbox_sweep(router->outbox_directory, keys, router->targets_count);
        free(keys);
        if (removed > 0)
                log_info("outboxes removed", "count=%u reason=\"no configuration set names their targets\"", removed);
}
