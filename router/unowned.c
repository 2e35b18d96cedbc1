/* A full journal, and targets that no worker has: they wait to be opened, or the copy of the sets that names them
 * cannot be read yet. What the journal has announced as given up (journal_shed_oldest()) is carried out for them here,
 * as egress/shed.c does for the others: else their cursors would hold the log, and nothing more could be given up.
 * Nobody can take their events, so nothing is waited for. Control owns such a target, until it has given it to a
 * worker. */
#include "base/clock.h"
#include "router/router_internal.h"

#include <inttypes.h>

#define UNOWNED_LOG_INTERVAL_NS (30 * CLOCK_NS_PER_S)
/* Logs are read; the control thread has more to do. The rest is done by the next tick. */
#define UNOWNED_TURN_NS (200 * CLOCK_NS_PER_MS)

/* Whose number of a log it is; NULL: nobody's that is known yet. */
static struct router_target *unowned_find(struct router *router, uint32_t log, uint32_t number)
{
        for (uint32_t i = 0; i < router->targets_count; i++)
                if (router->targets[i].numbers[log] == number)
                        return &router->targets[i];
        return NULL;
}

static void unowned_tell(struct router *router, uint32_t log, const char *key, uint64_t events, const struct err *err)
{
        char quoted[4 * (JOURNAL_TARGET_KEY_BYTES_MAX + 1) + 3], why[ERR_TEXT_BYTES_MAX];
        const char *type = rules_event_class_name(router->logs[log].type);
        uint64_t repeats = 0;
        router->unowned_shed_untold += events;
        if ((err == NULL && router->unowned_shed_untold == 0) ||
            !log_gate_open(err == NULL ? &router->unowned_shed_gate : &router->unowned_error_gate, clock_monotonic_ns(),
                           UNOWNED_LOG_INTERVAL_NS, &repeats))
                return;
        (void)log_quote(key, quoted, sizeof(quoted));
        if (err != NULL) {
                log_error("what waits for a target that is not open cannot be shed",
                          "target=%s type=%s error=%s now=\"it holds a full journal, and is tried again\" "
                          "repeats=%" PRIu64,
                          quoted, type, log_quote(err->text, why, sizeof(why)), repeats);
                return;
        }
        log_warning("events are shed",
                    "target=%s type=%s events=%" PRIu64
                    " reason=\"the journal is full, and the target waits to be opened\" "
                    "help=\"sendring stat says why; events are of all such targets; sendring ledger has each one's\"",
                    quoted, type, router->unowned_shed_untold);
        router->unowned_shed_untold = 0;
}

static void unowned_shed(struct router *router, uint32_t log, uint16_t number, uint64_t before)
{
        struct journal *journal = router->journals[log];
        struct journal_target_state state;
        struct err err = {.text = ""};
        uint64_t events, sequence;
        if (!journal_target_get(journal, number, &state) || state.retired || state.cursor_position >= before)
                return;
        struct router_target *target = unowned_find(router, log, number);
        if (target != NULL && target->target != NULL)
                return; /* its worker's */
        if (journal_target_count_before(journal, number, before, &events, &sequence, &err) != ERR_OK) {
                unowned_tell(router, log, state.key, 0, &err);
                return;
        }
        journal_target_advance(journal, number, before, sequence, &(struct journal_settled){.shed = events});
        counter_add(router->own_counters, COUNTER_egress_shed, events);
        if (target != NULL) /* relaxed: the row is control's until a worker has the target */
                atomic_fetch_add_explicit(&target->row->shed[router->logs[log].type], events, memory_order_relaxed);
        unowned_tell(router, log, state.key, events, NULL);
}

void router_shed_unowned(struct router *router)
{
        bool any = router->resume_again_ns != 0;
        for (uint32_t i = 0; i < router->targets_count; i++)
                any |= router->targets[i].target == NULL;
        const uint64_t end_ns = clock_monotonic_ns() + UNOWNED_TURN_NS;
        for (uint32_t log = 0; any && log < router->journals_count; log++) {
                uint64_t before = journal_shed_before(router->journals[log]);
                uint32_t count = before == 0 ? 0 : journal_targets_count(router->journals[log]);
                for (uint32_t number = 0; number < count && clock_monotonic_ns() < end_ns; number++)
                        unowned_shed(router, log, (uint16_t)number, before);
        }
}
