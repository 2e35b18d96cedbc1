#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "egress/outbox.h"
#include "router/router_internal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A target that cannot be opened is tried again after so long, and told of so often. */
#define ROUTER_TARGET_AGAIN_NS (2 * CLOCK_NS_PER_S)
#define ROUTER_TARGET_TELL_NS  (60 * CLOCK_NS_PER_S)
/* Sets that could not come into force at start: their file is read each time. */
#define ROUTER_SETS_AGAIN_NS (30 * CLOCK_NS_PER_S)

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

/* What becomes of a target that cannot be opened. */
enum router_unopened {
        ROUTER_UNOPENED_FAILS,    /* a reload */
        ROUTER_UNOPENED_MAY_WAIT, /* a start: one whose disk has no room, or hangs, is there all the same, opened later
                                   */
        ROUTER_UNOPENED_WAITS, /* one that was in force before, whatever the reason: its events are there already, and
                                  the others are not to suffer */
};

/* A target that could not be made must not hold the log. One of before, with events that wait, stays: at start, where
 * the daemon refuses to start instead, and when it could not be resumed. */
static void router_unregister(struct router *router, enum router_unopened unopened, uint32_t shards,
                              const uint16_t *numbers)
{
        if (unopened != ROUTER_UNOPENED_FAILS || router->resume_again_ns != 0)
                return;
        for (uint32_t shard = 0; shard < shards; shard++)
                journal_target_retire(router->journals[shard], numbers[shard]);
}

static enum err_code router_register(struct router *router, struct slice key, enum router_unopened unopened,
                                     uint16_t *numbers, struct err *reterr)
{
        for (uint32_t shard = 0; shard < router->journals_count; shard++) {
                enum err_code code = journal_target_register(router->journals[shard], key, &numbers[shard], reterr);
                if (code != ERR_OK) {
                        router_unregister(router, unopened, shard, numbers);
                        return err_wrap(reterr, "journal of shard %u", router->logs[shard].shard);
                }
        }
        return ERR_OK;
}

/* Not the target's fault, and it may pass. */
static bool router_is_of_disk(enum err_code code)
{
        return code == ERR_DISK_FULL || code == ERR_SYSTEM || code == ERR_TIMEOUT;
}

/* Makes the target of an entry, and gives it to its worker. ERR_BUSY: another one has its file. */
static enum err_code router_make_target(struct router *router, struct router_target *own,
                                        const struct rules_target *spec, struct err *reterr)
{
        struct egress_worker *worker = router->workers[own->worker];
        enum err_code code = router_file_turn(router, spec->key, own->wanted, reterr);
        if (code == ERR_OK)
                code = egress_target_create(spec, own->numbers, worker, router->targets_count + 1, own->row,
                                            &own->target, reterr);
        if (code != ERR_OK)
                return err_wrap(reterr, "target %.*s", SLICE_PRINTF(spec->key));
        while (!egress_worker_add_target(worker, own->target))
                clock_sleep_ns(CLOCK_NS_PER_MS); /* the worker empties its inbox each turn */
        return ERR_OK;
}

/* A full disk, for example, has no room for an outbox: what is routed to the target waits in the journal until it can
 * be opened. Whose file another one has says nothing: what keeps the other one is told of that. */
static void router_target_waits(struct router *router, struct router_target *own, const struct err *err)
{
        char quoted[ERR_TEXT_BYTES_MAX];
        uint64_t now_ns = clock_monotonic_ns(), repeats = 0;
        const bool turn = err->code == ERR_BUSY;
        own->target = NULL;
        /* With each tick, where that costs no look into a copy of the sets or the logs. */
        own->again_ns = turn && own->wanted && router->resume_again_ns == 0 ? now_ns : now_ns + ROUTER_TARGET_AGAIN_NS;
        (void)snprintf(own->row->key, sizeof(own->row->key), "%s", own->key); /* the same size */
        atomic_store_explicit(&own->row->status, COUNTERS_TARGET_RETRYING, memory_order_relaxed);
        counters_row_set_error(own->row, err->text);
        if (!turn && log_gate_open(&router->targets_gate, now_ns, ROUTER_TARGET_TELL_NS, &repeats))
                log_error("a target cannot be opened",
                          "error=%s now=\"its events wait in the journal, and it is tried again\" repeats=%" PRIu64,
                          log_quote(err->text, quoted, sizeof(quoted)), repeats);
}

/* Makes the target that a plan names, or finds it; one that waits already is tried again, and goes on waiting.
 * `wanted`: the plan is to come into force. */
static enum err_code router_open_target(struct router *router, const struct rules_target *spec, bool wanted,
                                        enum router_unopened unopened, struct router_target **ret_target,
                                        struct err *reterr)
{
        struct router_target *own = router_find_target(router, spec->key);
        if (own != NULL) {
                own->wanted = wanted;
                if (own->target == NULL && router_make_target(router, own, spec, reterr) != ERR_OK)
                        router_target_waits(router, own, reterr);
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
                .wanted = wanted,
                .fresh = true,
        };
        char quoted[ERR_TEXT_BYTES_MAX];
        enum err_code code = router_register(router, spec->key, unopened, fresh.numbers, reterr);
        router->unregistered |= router_is_of_disk(code) || code == ERR_LIMIT;
        if (code != ERR_OK)
                return code;
        fresh.worker = (uint8_t)(fresh.numbers[0] % router->workers_count);
        fresh.row = router_free_row(router);
        fresh.key = strndup((const char *)spec->key.ptr, spec->key.len);
        if (fresh.row == NULL)
                code = err_set(reterr, ERR_LIMIT, "more than %u delivery targets at a time", LIMIT_TARGETS_MAX);
        else if (fresh.key == NULL)
                code = err_set(reterr, ERR_MEMORY, "out of memory for delivery targets");
        else
                code = router_make_target(router, &fresh, spec, reterr);
        if (fresh.row != NULL && fresh.key != NULL &&
            (code == ERR_BUSY ||
             (unopened == ROUTER_UNOPENED_WAITS ? code != ERR_OK
                                                : router_is_of_disk(code) && unopened != ROUTER_UNOPENED_FAILS))) {
                if (code == ERR_BUSY)
                        log_info("a target waits for its file", "reason=%s now=\"its events wait in the journal\"",
                                 log_quote(reterr->text, quoted, sizeof(quoted)));
                router_target_waits(router, &fresh, reterr);
                code = ERR_OK;
        }
        if (code != ERR_OK) {
                free(fresh.key);
                router_unregister(router, unopened, router->journals_count, fresh.numbers);
                return code;
        }
        router->targets[router->targets_count] = fresh;
        *ret_target = &router->targets[router->targets_count++];
        return ERR_OK;
}

bool router_state_waits(const struct journal_target_state *state)
{
        return state->accepted > state->delivered + state->dead_lettered + state->shed + state->expired;
}

static bool router_waits_for(const struct router *router, struct slice key)
{
        for (uint32_t shard = 0; shard < router->journals_count; shard++) {
                struct journal *journal = router->journals[shard];
                for (uint32_t number = 0; number < journal_targets_count(journal); number++) {
                        struct journal_target_state state;
                        if (journal_target_get(journal, (uint16_t)number, &state) && !state.retired &&
                            slice_equal(slice_of_text(state.key), key) && router_state_waits(&state))
                                return true;
                }
        }
        return false;
}

static const struct rules_target *router_plan_find(const struct rules_plan *plan, const char *key)
{
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++)
                if (slice_equal(rules_plan_target(plan, i)->key, slice_of_text(key)))
                        return rules_plan_target(plan, i);
        return NULL;
}

/* Tries to open a target that waits, as the plan in force says, or the copy that named it last. False: nobody knows any
 * more how. */
static bool router_try_target(struct router *router, struct router_target *own)
{
        struct arena arena;
        struct slice text;
        struct rules_plan *kept = NULL;
        struct rules_keys *keys = NULL;
        struct err err = {.text = ""};
        const struct rules_target *spec = router_plan_find(router->plan->plan, own->key);
        own->wanted = spec != NULL;
        /* Left by sets that came to nothing, say. It would wait for its file, and hold the log, for nothing. */
        if (!own->wanted && !router_waits_for(router, slice_of_text(own->key)))
                return false;
        arena_init(&arena, 0, 0);
        enum err_code code = ERR_OK;
        if (spec == NULL && own->kept != 0) {
                keys = rules_keys_create(true);
                code = keys == NULL
                               ? ERR_MEMORY
                               : router_kept_parse(router, own->kept, ROUTER_KEPT_OF_THEN, &arena, &text, keys, &kept);
                if (code == ERR_OK)
                        spec = router_plan_find(kept, own->key);
                if (code == ERR_OK && spec == NULL && rules_keys_gone(keys) > 0)
                        code = err_set(&err, ERR_SYSTEM, "target %s: its key is not in KeyFile now", own->key);
                else if (code != ERR_OK)
                        (void)err_set(&err, code, "target %s: the copy of the sets that names it cannot be read",
                                      own->key);
        }
        const bool lost = spec == NULL && code == ERR_OK;
        if (spec != NULL)
                code = router_make_target(router, own, spec, &err);
        char quoted[4 * (JOURNAL_TARGET_KEY_BYTES_MAX + 1) + 3];
        (void)log_quote(own->key, quoted, sizeof(quoted));
        if (code != ERR_OK)
                router_target_waits(router, own, &err);
        else if (lost)
                log_warning("a target is in no configuration set any more",
                            "target=%s now=\"what waits for it is shed: nobody knows how to open it\"", quoted);
        else
                log_info("a target is open now", "target=%s now=\"what waits for it is delivered\"", quoted);
        rules_plan_free(kept);
        rules_keys_free(keys);
        arena_release(&arena);
        return !lost;
}

void router_tell_report(const struct rules_report *report)
{
        char *text = NULL;
        size_t bytes = 0;
        FILE *out = open_memstream(&text, &bytes);
        if (out != NULL)
                rules_report_print(report, out);
        if (out != NULL && fclose(out) == 0)
                log_text(text);
        else
                log_error("out of memory for the findings", "errors=%u warnings=%u", report->errors, report->warnings);
        free(text);
}

/* Reads configuration-sets.yaml; *ret_text is what was read, in the arena. With a mistake in the file after a crash,
 * what was in force before; at a start that has no number for one of its targets, that at once. */
static enum err_code router_read_plan(struct router *router, struct arena *arena, struct slice *ret_text,
                                      struct rules_keys *keys, struct rules_plan **ret_plan,
                                      struct rules_report *report, struct err *reterr)
{
        const char *path = router->settings.configuration_sets_path;
        if (router->plan == NULL && router->sets_again_ns != 0)
                return router_kept_parse(router, router_kept_newest(router), ROUTER_KEPT_OF_NOW, arena, ret_text, keys,
                                         ret_plan);
        enum err_code code = file_read(arena, path, LIMIT_CONFIG_BYTES_MAX, ret_text, reterr);
        const bool unread = code != ERR_OK;
        if (!unread) {
                code = rules_plan_parse_with_keys(path, *ret_text, &router->settings, keys, ret_plan, report);
        } else {
                enum err_code again = rules_plan_load(path, &router->settings, ret_plan, report);
                if (again != ERR_OK)
                        code = again; /* the report says what is wrong with it */
                /* A plan of which there would be no copy is none. */
                rules_plan_free(*ret_plan);
                *ret_plan = NULL;
        }
        router_tell_report(report);
        if (code == ERR_OK)
                return ERR_OK;
        if (report->errors > 0)
                (void)err_set(reterr, code, "%s: %u mistake%s, named above", path, report->errors,
                              report->errors == 1 ? "" : "s");
        else if (!unread)
                (void)err_set(reterr, code, "cannot load %s: %s", path, err_text(code));
        if (router->plan != NULL || !router->options->restarted ||
            router_kept_parse(router, router_kept_newest(router), ROUTER_KEPT_OF_NOW, arena, ret_text, keys,
                              ret_plan) != ERR_OK)
                return code;
        counter_add(router->own_counters, COUNTER_control_reloads_refused, 1);
        log_error("configuration refused", "file=%s now=\"what was in force before the crash stays in force\"", path);
        return ERR_OK;
}

/* Before the plan is in force: from then on events are routed by it. */
static void router_keep_plan(struct router *router, struct slice text, const struct rules_keys *keys)
{
        struct err err = {.text = ""};
        char quoted[ERR_TEXT_BYTES_MAX];
        if (router_kept_save(router, text, keys, &err) != ERR_OK)
                log_warning("cannot keep a copy of the configuration sets",
                            "error=%s now=\"tries again; a restart before that works sheds what waits for targets that "
                            "were removed\"",
                            log_quote(err.text, quoted, sizeof(quoted)));
        for (uint32_t i = 0; i < router->targets_count; i++)
                if (router->targets[i].wanted)
                        router->targets[i].kept = router_kept_newest(router);
}

/* As the plan says that is in force now: a target may have been made for one that was refused. */
static void router_set_rates(struct router *router, const struct rules_plan *plan)
{
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++) {
                const struct rules_target *spec = rules_plan_target(plan, i);
                struct router_target *own = router_find_target(router, spec->key);
                if (own != NULL && own->target != NULL)
                        egress_target_set_rates(own->target, &spec->rates);
        }
}

/* What was in force when the router before ended; NULL: nobody knows. */
static struct rules_plan *router_plan_before(struct router *router, struct arena *arena)
{
        struct slice text;
        struct rules_plan *plan = NULL;
        struct rules_keys *keys = router->kept_count == 0 ? NULL : rules_keys_create(false);
        if (keys != NULL)
                (void)router_kept_parse(router, router_kept_newest(router), ROUTER_KEPT_OF_NOW, arena, &text, keys,
                                        &plan); /* NULL then */
        rules_keys_free(keys);
        return plan;
}

/* At start what can be served is; a reload may be refused, and what is in force goes on. */
static enum router_unopened router_unopened_of(const struct router *router, const struct rules_plan *before,
                                               const struct rules_target *spec)
{
        if (router->plan != NULL)
                return ROUTER_UNOPENED_FAILS;
        return before != NULL && router_plan_find(before, (const char *)spec->key.ptr) != NULL
                       ? ROUTER_UNOPENED_WAITS
                       : ROUTER_UNOPENED_MAY_WAIT;
}

/* One that a plan names again at its very end must go first. Before any other is opened for the plan, or kept: what
 * hangs may take its time, and each try would begin and end them anew. */
static enum err_code router_look_for_ending(struct router *router, const struct rules_plan *plan, struct err *reterr)
{
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++) {
                const struct router_target *own = router_find_target(router, rules_plan_target(plan, i)->key);
                if (own != NULL && own->removing && egress_target_is_ending(own->target))
                        return err_set(reterr, ERR_BUSY, "target %s is still being removed", own->key);
        }
        return ERR_OK;
}

/* Reads configuration-sets.yaml and opens its targets. Findings go to stderr. */
enum err_code router_load_plan(struct router *router, struct shard_plan **ret_plan, struct err *reterr)
{
        struct rules_report report;
        struct arena arena;
        struct slice text = SLICE_EMPTY;
        struct rules_plan *before = NULL;
        rules_report_init(&report);
        arena_init(&arena, 0, 0);
        struct shard_plan *plan = calloc(1, sizeof(*plan));
        struct rules_keys *keys = rules_keys_create(false);
        enum err_code code = ERR_OK;
        if (plan == NULL || keys == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory for the plan");
                goto out;
        }
        code = router_read_plan(router, &arena, &text, keys, &plan->plan, &report, reterr);
        if (code == ERR_OK)
                code = router_look_for_ending(router, plan->plan, reterr);
        if (code != ERR_OK)
                goto out;
        uint32_t count = rules_plan_targets_count(plan->plan);
        plan->numbers = calloc(count + 1, sizeof(*plan->numbers));
        plan->workers = calloc(count + 1, sizeof(*plan->workers));
        if (plan->numbers == NULL || plan->workers == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory for the plan");
                goto out;
        }
        if (router->plan == NULL)
                before = router_plan_before(router, &arena);
        router->unregistered = false;
        for (uint32_t i = 0; i < router->targets_count; i++)
                router->targets[i].wanted = false;
        for (uint32_t i = 0; i < count && code == ERR_OK; i++) {
                const struct rules_target *spec = rules_plan_target(plan->plan, i);
                struct router_target *target = NULL;
                code = router_open_target(router, spec, true, router_unopened_of(router, before, spec), &target,
                                          reterr);
                if (code == ERR_OK)
                        code = router_file_may_stay(router, target, reterr);
                if (code != ERR_OK)
                        break;
                /* Named again while it delivers what waits: it stays. */
                if (target->removing && !egress_target_keep(target->target)) {
                        code = err_set(reterr, ERR_BUSY, "target %s is still being removed", target->key);
                        break;
                }
                target->fresh |= target->removing;
                target->removing = false;
                memcpy(plan->numbers[i], target->numbers, sizeof(target->numbers));
                plan->workers[i] = target->worker;
        }
        if (code == ERR_OK)
                router_keep_plan(router, text, keys);
out:
        rules_report_release(&report);
        rules_plan_free(before);
        rules_keys_free(keys);
        arena_release(&arena);
        /* What a plan that came to nothing has opened is let go of again, if the plan in force does not name it. */
        for (uint32_t i = 0; i < router->targets_count; i++) {
                struct router_target *target = &router->targets[i];
                if (code != ERR_OK)
                        target->wanted =
                                router->plan != NULL && router_plan_find(router->plan->plan, target->key) != NULL;
                target->fresh = false;
        }
        if (code != ERR_OK) {
                router_plan_free(plan);
                if (router->plan != NULL)
                        router_set_rates(router, router->plan->plan);
                return code;
        }
        router_set_rates(router, plan->plan);
        *ret_plan = plan;
        return ERR_OK;
}

/* Events of a target without a number could not be counted: its sets are not in force until it has one, as a reload
 * would be refused, and what the journal holds is delivered. */
static void router_sets_wait(struct router *router, const struct err *err)
{
        char quoted[ERR_TEXT_BYTES_MAX];
        uint64_t now_ns = clock_monotonic_ns(), repeats = 0;
        router->sets_again_ns = now_ns + ROUTER_SETS_AGAIN_NS;
        if (log_gate_open(&router->sets_gate, now_ns, ROUTER_TARGET_TELL_NS, &repeats))
                log_error("the configuration sets are not in force",
                          "error=%s now=\"those of before are, and it is tried again\" repeats=%" PRIu64,
                          log_quote(err->text, quoted, sizeof(quoted)), repeats);
}

/* After a crash: a reload refused them, or would have. */
static void router_sets_refused(struct router *router, const struct err *err)
{
        char quoted[ERR_TEXT_BYTES_MAX];
        router->sets_again_ns = 0;
        log_error("configuration refused", "error=%s now=\"what was in force before the crash stays in force\"",
                  log_quote(err->text, quoted, sizeof(quoted)));
}

/* For a target that ends, which takes half a second, or for as long as its file system does not answer. */
static void router_reload_waits(struct router *router, const struct err *err)
{
        char quoted[ERR_TEXT_BYTES_MAX];
        uint64_t now_ns = clock_monotonic_ns(), repeats = 0;
        if (router->reload_waits_since_ns == 0)
                router->reload_waits_since_ns = now_ns;
        if (now_ns - router->reload_waits_since_ns < ROUTER_TARGET_AGAIN_NS)
                return; /* tried again by the tick */
        router->reload_again_ns = now_ns + ROUTER_TARGET_AGAIN_NS;
        if (log_gate_open(&router->reload_gate, now_ns, ROUTER_TARGET_TELL_NS, &repeats))
                log_error("a reload waits",
                          "error=%s now=\"the old configuration stays in force, and it is tried again\" "
                          "help=\"if its file system hangs, give the destination another file\" repeats=%" PRIu64,
                          log_quote(err->text, quoted, sizeof(quoted)), repeats);
}

void router_reload(struct router *router)
{
        /* The last reload is still settling, or what this one waits for has just been looked at: the tick comes again.
         */
        if (router->plan_old != NULL || clock_monotonic_ns() < router->reload_again_ns)
                return;
        struct err err = {.text = ""};
        struct shard_plan *plan = NULL;
        enum err_code code = router_load_plan(router, &plan, &err);
        if (code == ERR_BUSY) {
                router_reload_waits(router, &err);
                return;
        }
        router->reload_wanted = false;
        router->reload_waits_since_ns = 0;
        if (code != ERR_OK && router->sets_again_ns != 0 && router_is_of_disk(code)) {
                router_sets_wait(router, &err);
                return;
        }
        router->sets_again_ns = 0;
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

static void router_resume_fails(struct router *router, const struct err *err)
{
        char quoted[ERR_TEXT_BYTES_MAX];
        uint64_t now_ns = clock_monotonic_ns(), repeats = 0;
        router->resume_again_ns = now_ns + ROUTER_TARGET_AGAIN_NS;
        if (log_gate_open(&router->targets_gate, now_ns, ROUTER_TARGET_TELL_NS, &repeats))
                log_error("targets of before cannot be opened",
                          "error=%s now=\"what waits for them stays in the journal, and it is tried again\" "
                          "repeats=%" PRIu64,
                          log_quote(err->text, quoted, sizeof(quoted)), repeats);
}

/* Opens those targets of a copy that still have events, and tells their workers at once to let them go when they are
 * through. */
static void router_resume_targets_of(struct router *router, const struct rules_plan *plan, uint64_t kept)
{
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++) {
                const struct rules_target *spec = rules_plan_target(plan, i);
                struct router_target *target = router_find_target(router, spec->key);
                struct err err = {.text = ""};
                char quoted[ERR_TEXT_BYTES_MAX];
                if (target != NULL && target->kept == 0) /* opened for sets that came to nothing */
                        target->kept = kept;
                if (target != NULL || !router_waits_for(router, spec->key))
                        continue;
                if (router_open_target(router, spec, false, ROUTER_UNOPENED_WAITS, &target, &err) != ERR_OK) {
                        router_resume_fails(router, &err);
                        continue;
                }
                target->fresh = false;
                target->kept = kept;
                if (target->target == NULL)
                        continue;
                /* At start its inbox has room for both orders of every target there can be; later it is told again. */
                target->removing = egress_worker_remove_target(router->workers[target->worker], target->target);
                log_info("a target is in no configuration set any more",
                         "target=%s now=\"what waits for it is delivered\"",
                         log_quote(target->key, quoted, sizeof(quoted)));
        }
}

/* It was in force, and is not understood any more: rules that became stricter, or damage. Whoever is asked for it needs
 * its place. */
static void router_tell_unparsed(const struct router *router, uint64_t number, enum err_code code)
{
        char path[PATH_MAX], quoted[ERR_TEXT_BYTES_MAX];
        if (router_kept_path(&router->settings, number, path, sizeof(path)))
                log_warning(
                        "a copy of the configuration sets is passed over",
                        "path=%s error=\"%s\" now=\"what waits for targets that only it names is shed, and counted\"",
                        log_quote(path, quoted, sizeof(quoted)), err_text(code));
}

/* A copy of an earlier version, or damage: keys lie with their copies. */
static void router_tell_gone(const struct router *router, uint64_t number, uint32_t gone)
{
        char path[PATH_MAX], quoted[ERR_TEXT_BYTES_MAX];
        if (router_kept_path(&router->settings, number, path, sizeof(path)))
                log_warning("a copy of the configuration sets has destinations whose KeyFile cannot be read any more",
                            "path=%s key_files=%u now=\"what waits for them is shed, and counted; the others of the "
                            "copy are delivered\"",
                            log_quote(path, quoted, sizeof(quoted)), gone);
}

static void router_resume_targets(struct router *router)
{
        uint64_t repeats = 0;
        bool tell = log_gate_open(&router->unparsed_gate, clock_monotonic_ns(), ROUTER_TARGET_TELL_NS, &repeats);
        for (uint32_t i = router->kept_count; i-- > 0;) {
                struct arena arena;
                struct slice text;
                struct rules_plan *plan = NULL;
                struct rules_keys *keys = rules_keys_create(true);
                arena_init(&arena, 0, 0);
                enum err_code code = keys == NULL ? ERR_MEMORY
                                                  : router_kept_parse(router, router->kept[i].number,
                                                                      ROUTER_KEPT_OF_THEN, &arena, &text, keys, &plan);
                if (code == ERR_OK) {
                        router_resume_targets_of(router, plan, router->kept[i].number);
                        if (tell && rules_keys_gone(keys) > 0)
                                router_tell_gone(router, router->kept[i].number, rules_keys_gone(keys));
                } else if (code == ERR_SYSTEM || code == ERR_MEMORY || code == ERR_PERMISSION) {
                        /* It is a copy all the same. */
                        struct err err;
                        (void)err_set(&err, code, "a copy of the configuration sets in %s/plans cannot be read",
                                      router->settings.state_directory);
                        router_resume_fails(router, &err);
                } else if (tell) {
                        router_tell_unparsed(router, router->kept[i].number, code);
                }
                rules_plan_free(plan);
                rules_keys_free(keys);
                arena_release(&arena);
        }
}

/* Targets of earlier plans that this one does not name: what waits for them can go nowhere. */
static void router_retire_unknown(struct router *router)
{
        if (router->resume_again_ns != 0)
                return; /* not known yet which of them can */
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

/* Sheds for targets that nobody has yet, frees an old plan that nobody looks at any more, lets go of targets that the
 * new one does not name, frees those that are gone, sees to the copies of the sets. */
void router_settle_targets(struct router *router)
{
        router_shed_unowned(router);
        if (router->plan_old != NULL) {
                for (uint32_t i = 0; i < router->shards_count; i++)
                        if (shard_plan_seen(router->shards[i]) != router->plan)
                                return;
                router_plan_free(router->plan_old);
                router->plan_old = NULL;
        }
        for (uint32_t i = 0; i < router->targets_count;) {
                struct router_target *target = &router->targets[i];
                bool lost = false; /* nobody knows how to open it */
                if (target->target == NULL && clock_monotonic_ns() >= target->again_ns)
                        lost = !router_try_target(router, target);
                if (!target->wanted && !target->removing && target->target != NULL)
                        target->removing = egress_worker_remove_target(router->workers[target->worker], target->target);
                if (lost || (target->removing && egress_target_is_gone(target->target))) {
                        for (uint32_t shard = 0; shard < router->journals_count; shard++)
                                journal_target_retire(router->journals[shard], target->numbers[shard]);
                        atomic_store_explicit(&target->row->status, COUNTERS_TARGET_UNUSED, memory_order_relaxed);
                        egress_target_free(target->target);
                        free(target->key);
                        router->targets[i] = router->targets[--router->targets_count];
                        continue;
                }
                i++;
        }
        if (router->resume_again_ns != 0 && clock_monotonic_ns() >= router->resume_again_ns) {
                router->resume_again_ns = 0;
                router_resume_targets(router);
                router_retire_unknown(router);
        }
        if (router->sets_again_ns != 0 && clock_monotonic_ns() >= router->sets_again_ns)
                router->reload_wanted = true;
        router_kept_write(router);
        if (router->kept_count > 1 && router->resume_again_ns == 0)
                router_kept_forget(router);
}

static void router_sweep_outboxes(struct router *router)
{
        if (router->resume_again_ns != 0)
                return; /* one of them may be of a target that is still to be opened; the next start finds them */
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

enum err_code router_start_targets(struct router *router, struct err *reterr)
{
        enum err_code code = router_kept_open(router, reterr);
        if (code == ERR_OK)
                code = router_load_plan(router, &router->plan, reterr);
        if (code != ERR_OK && (router->unregistered || router->options->restarted) && router->kept_count > 0) {
                struct err ignored; /* what was wrong first is told */
                const bool passes = router->unregistered;
                router->sets_again_ns = 1;
                if (router_load_plan(router, &router->plan, &ignored) == ERR_OK) {
                        code = ERR_OK;
                        counter_add(router->own_counters, COUNTER_control_reloads_refused, 1);
                        if (passes)
                                router_sets_wait(router, reterr);
                        else
                                router_sets_refused(router, reterr);
                }
        }
        if (code != ERR_OK)
                return code;
        router_resume_targets(router);
        router_retire_unknown(router);
        router_sweep_outboxes(router);
        return ERR_OK;
}
