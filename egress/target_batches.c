/* What becomes of a batch: on its way, answered, failed, settled; and of its target by that. Building it, and when it
 * goes, is target.c. */
#include "base/assert.h"
#include "base/clock.h"
#include "egress/service.h"

#include <inttypes.h>
#include <stdio.h>

/* ---------------------------------------------------------------------------------------------- settling */

static void target_free_batch(struct egress_target *target, struct egress_batch *batch)
{
        batch->state = EGRESS_BATCH_FREE;
        batch->next = target->free_batches;
        target->free_batches = batch;
}

void egress_target_unqueue(struct egress_target *target, struct egress_batch *batch)
{
        struct egress_batch **link = &target->queue_first;
        while (*link != batch)
                link = &(*link)->next;
        *link = batch->next;
        if (*link == NULL)
                target->queue_last = link;
        if (target->building[batch->slot] == batch)
                target->building[batch->slot] = NULL;
        if (batch->given_up)
                batch->state = EGRESS_BATCH_GIVEN_UP; /* egress_target_batch_ended_late() frees it */
        else
                target_free_batch(target, batch);
}

static void target_settle_batch(struct egress_target *target, struct egress_batch *batch)
{
        struct egress_worker *worker = target->worker;
        for (uint32_t shard = 0; shard < worker->options.shards_count; shard++) {
                if (!batch->shard[shard].touched)
                        continue;
                journal_target_advance(worker->feeds[shard].journal, target->numbers[shard],
                                       batch->shard[shard].end_position, batch->shard[shard].end_sequence,
                                       &batch->shard[shard].settled);
                /* Now and not when they were taken: what is taken back until then is read again. */
                const struct journal_settled *settled = &batch->shard[shard].settled;
                counter_add(worker->options.counters, COUNTER_egress_delivered, settled->delivered);
                counter_add(worker->options.counters, COUNTER_egress_expired, settled->expired);
                counter_add(worker->options.counters, COUNTER_egress_shed, settled->shed);
        }
        if (batch->events > 0 && target->service->settled != NULL)
                target->service->settled(target, batch);
        egress_target_unqueue(target, batch);
}

/* Whether it must wait: for its answer, or for a batch before it that has events of the same log. `waiting`, by log,
 * says so of those; its own are added when it waits. */
static bool target_batch_waits(const struct egress_target *target, const struct egress_batch *batch, bool *waiting)
{
        const uint32_t logs_count = target->worker->options.shards_count;
        bool waits = batch->state != EGRESS_BATCH_SETTLED;
        for (uint32_t log = 0; log < logs_count && !waits; log++)
                waits = batch->shard[log].touched && waiting[log];
        for (uint32_t log = 0; log < logs_count && waits; log++)
                waiting[log] |= batch->shard[log].touched;
        return waits;
}

void egress_target_settle(struct egress_target *target)
{
        /* A log's cursor moves in its order; only batches of different slots have no log in common. */
        const bool in_order = target->service->mixes || target->worker->slots_count == 1;
        bool waiting[LIMIT_LOGS_MAX] = {false};
        struct egress_batch *next = NULL;
        for (struct egress_batch *batch = target->queue_first; batch != NULL; batch = next) {
                next = batch->next;
                if (in_order && batch->state != EGRESS_BATCH_SETTLED)
                        return;
                if (in_order || !target_batch_waits(target, batch, waiting))
                        target_settle_batch(target, batch);
        }
}

void egress_target_row_add(_Atomic uint64_t *word, uint64_t amount)
{
        /* Relaxed: this thread is the only writer. */
        uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
        atomic_store_explicit(word, now + amount, memory_order_relaxed);
}

static void target_succeeded(struct egress_target *target)
{
        uint32_t failures = target->flow.failures;
        target->unknown_credentials = 0;
        flow_succeeded(&target->flow, target->ended.number);
        target->ended = (struct egress_sent){.number = FLOW_NEVER_SENT};
        if (failures > 0 && target->flow.failures == 0)
                log_info("target delivers again", "target=%s after_failures=%u", target->log_key, failures);
        atomic_store_explicit(&target->row->last_success_ms, clock_realtime_ms(), memory_order_relaxed);
}

uint64_t egress_target_credentials_now(const struct egress_target *target)
{
        /* C2 */
        const struct credentials *now =
                atomic_load_explicit(&target->worker->options.credentials->current, memory_order_acquire);
        return now == NULL ? 0 : now->number;
}

/* A key that the service does not know: once others may have come, and have not, only a person helps. It is asked again
 * after that load, so what was on its way when the key was refused first does not count. */
static enum flow_failure target_failure_unknown(struct egress_target *target)
{
        /* Relaxed: only compared. A load that ends after the failure has seen the files as they were then. */
        uint64_t loads = atomic_load_explicit(&target->worker->options.credentials->loads, memory_order_relaxed);
        if (target->unknown_credentials == target->ended.credentials)
                return loads > target->unknown_loads && flow_is_news(&target->flow, target->ended.number)
                               ? FLOW_REFUSED
                               : FLOW_CREDENTIALS;
        target->unknown_credentials = target->ended.credentials;
        target->unknown_loads = loads;
        return FLOW_CREDENTIALS;
}

static enum flow_failure target_failure(struct egress_target *target, enum err_code code)
{
        /* A no to keys that have been replaced is none to those of now. */
        if (target->ended.credentials != 0 && target->ended.credentials != egress_target_credentials_now(target) &&
            (err_class(code) == ERR_CLASS_REFUSED || code == ERR_CREDENTIALS_UNKNOWN))
                return FLOW_CREDENTIALS;
        if (code == ERR_CREDENTIALS_UNKNOWN)
                return target_failure_unknown(target);
        switch (err_class(code)) {
        case ERR_CLASS_REFUSED:
        case ERR_CLASS_CONFIG:
        case ERR_CLASS_INPUT:
                /* Only the operator can help. Nothing is thrown away. */
                return FLOW_REFUSED;
        case ERR_CLASS_NONE:
        case ERR_CLASS_AGAIN:
        case ERR_CLASS_RETRY:
        case ERR_CLASS_SYSTEM:
        case ERR_CLASS_CORRUPT:
        case ERR_CLASS_BUG:
                break;
        }
        return code == ERR_THROTTLED             ? FLOW_THROTTLED
               : code == ERR_CREDENTIALS_EXPIRED ? FLOW_CREDENTIALS
               : code == ERR_CLOCK_SKEW          ? FLOW_MENDED /* signed anew, with the offset learnt */
                                                 : FLOW_FAILED;
}

/* `share` of a request failed: holds the target back, and says so once in a while; that somebody must act is said at
 * once, whatever was said of the target before. */
static void target_fail(struct egress_target *target, enum err_code code, enum flow_failure failure, double share,
                        const char *text)
{
        struct egress_worker *worker = target->worker;
        const struct egress_sent ended = target->ended;
        const uint64_t now = egress_target_credentials_now(target);
        uint64_t repeats = 0;
        if (failure == FLOW_THROTTLED)
                counter_add(worker->options.counters, COUNTER_egress_requests_throttled, 1);
        /* Others help a target that is parked for want of known ones, too. */
        bool wants = failure == FLOW_CREDENTIALS || code == ERR_CREDENTIALS_UNKNOWN;
        if (wants) /* C1: relaxed; the helper thread looks once a second. */
                atomic_store_explicit(&worker->options.credentials->refresh_wanted, true, memory_order_relaxed);
        bool anew = ended.number > target->asked_anew;
        if (target->remove_at_known && anew && failure == FLOW_REFUSED && err_class(code) == ERR_CLASS_REFUSED)
                target->refused = true;
        bool was_parked = target->flow.parked;
        if (flow_failed(&target->flow, ended.number, failure, share, worker->now_ns, &worker->random)) {
                target->wants_credentials = wants;
                target->failed_credentials = ended.credentials != 0 ? ended.credentials : now;
                if (failure == FLOW_REFUSED && !anew) /* somebody has acted since: does it still say no? */
                        flow_hold_at_most(&target->flow, worker->now_ns);
        }
        target->ended = (struct egress_sent){.number = FLOW_NEVER_SENT};
        bool tell = log_gate_open(&target->failure_gate, worker->now_ns, EGRESS_LOG_INTERVAL_NS, &repeats);
        if (tell || (target->flow.parked && !was_parked)) {
                char quoted[400];
                const char *doing = target->flow.parked
                                            ? "parked: probes until somebody acts; events wait in the journal"
                                            : "tries again";
                log_write(target->flow.parked ? LOG_ERROR : LOG_WARNING, "target failed",
                          "target=%s class=%s error=%s now=\"%s\" in_a_row=%u repeats=%" PRIu64, target->log_key,
                          err_class_name(err_class(code)), log_quote(text, quoted, sizeof(quoted)), doing,
                          target->flow.failures, repeats);
        }
}

static void target_count_failed(struct egress_target *target)
{
        counter_add(target->worker->options.counters, COUNTER_egress_requests_failed, 1);
        egress_target_row_add(&target->row->failures, 1);
        atomic_store_explicit(&target->row->last_failure_ms, clock_realtime_ms(), memory_order_relaxed);
}

/* A request, or a write, failed as a whole. The class decides; the events stay where they are. */
void egress_target_batch_failed(struct egress_target *target, enum err_code code, const char *text)
{
        target_count_failed(target);
        counters_row_set_error(target->row, text);

        target_fail(target, code, target_failure(target, code), 1, text);
}

/* ---------------------------------------------------------------------------------------------- sending */

void egress_target_batch_sending(struct egress_target *target, struct egress_batch *batch)
{
        ASSERT(batch->state == EGRESS_BATCH_READY);
        batch->state = EGRESS_BATCH_SENDING;
        batch->sent.number = flow_begin(&target->flow);
        batch->sent_ns = target->worker->now_ns;
        target->in_flight++;
}

void egress_target_batch_not_sent(struct egress_target *target, struct egress_batch *batch)
{
        ASSERT(batch->state == EGRESS_BATCH_SENDING);
        batch->state = EGRESS_BATCH_READY;
        target->in_flight--;
}

void egress_target_batch_ended(struct egress_target *target, struct egress_batch *batch)
{
        ASSERT(target->in_flight > 0);
        ASSERT(!batch->given_up);
        egress_target_batch_not_sent(target, batch); /* until an answer settles it */
        target->ended = batch->sent;
        target->worker->now_ns = clock_monotonic_ns();
        egress_target_activate(target);
}

void egress_target_batch_done(struct egress_target *target, struct egress_batch *batch)
{
        ASSERT(batch->state == EGRESS_BATCH_READY);
        batch->state = EGRESS_BATCH_SETTLED;
        target_succeeded(target);
        egress_target_settle(target);
}

void egress_target_batch_partly_done(struct egress_target *target)
{
        target_succeeded(target);
}

void egress_target_batch_passed_over(struct egress_target *target, struct egress_batch *batch)
{
        ASSERT(batch->state == EGRESS_BATCH_READY);
        batch->state = EGRESS_BATCH_SETTLED;
        egress_target_settle(target);
}

bool egress_target_batch_hangs(const struct egress_target *target, const struct egress_batch *batch)
{
        const struct egress_worker *worker = target->worker;
        const uint64_t timeout_ns = worker->options.settings->egress.request_timeout_ms * CLOCK_NS_PER_MS;
        return target->service->may_hang && batch->state == EGRESS_BATCH_SENDING &&
               worker->now_ns - batch->sent_ns >= timeout_ns;
}

/* What hangs has not failed, and nothing else would tell of it. */
void egress_target_tell_hanging(struct egress_target *target)
{
        static const char text[] = "its file system does not answer";
        struct egress_worker *worker = target->worker;
        uint64_t repeats = 0;
        bool hangs = false;
        for (const struct egress_batch *batch = target->queue_first; batch != NULL && !hangs; batch = batch->next)
                hangs = egress_target_batch_hangs(target, batch);
        if (hangs != target->hangs)
                egress_target_activate(target); /* its row says so */
        if (hangs && !target->hangs)
                counters_row_set_error(target->row, text);
        else if (!hangs && target->hangs && target->flow.failures == 0)
                log_info("target delivers again", "target=%s", target->log_key);
        target->hangs = hangs;
        if (hangs && log_gate_open(&target->failure_gate, worker->now_ns, EGRESS_LOG_INTERVAL_NS, &repeats))
                log_warning("target hangs",
                            "target=%s error=\"%s\" now=\"its events wait in the journal\" repeats=%" PRIu64,
                            target->log_key, text, repeats);
}

void egress_target_batch_give_up(struct egress_target *target, struct egress_batch *batch, const char *text)
{
        ASSERT(batch->state == EGRESS_BATCH_SENDING);
        ASSERT(!batch->given_up);
        batch->given_up = true;
        target->ended = batch->sent;
        counter_add(target->worker->options.counters, COUNTER_egress_requests_uncertain, 1);
        egress_target_batch_failed(target, ERR_TIMEOUT, text);
}

/* Its failure was told when it was given up, and what it is worth to the flow is old news. */
void egress_target_batch_ended_late(struct egress_target *target, struct egress_batch *batch, enum err_code code,
                                    const char *text)
{
        char quoted[400];
        ASSERT(batch->given_up);
        ASSERT(target->in_flight > 0);
        batch->given_up = false;
        target->in_flight--;
        if (batch->state == EGRESS_BATCH_GIVEN_UP)
                target_free_batch(target, batch);
        log_info("a request that was given up has ended", "target=%s result=%s now=\"%s\"", target->log_key,
                 code == ERR_OK ? "done" : log_quote(text, quoted, sizeof(quoted)),
                 code == ERR_OK ? "its events are delivered, and stay counted as shed"
                                : "its events stay counted as shed");
        target->worker->now_ns = clock_monotonic_ns();
        egress_target_activate(target);
}

/* Where something was accepted the endpoint works: no failure in a row, but it asks for less. Where nothing was, this
 * is what a failed request is, and the entries' code says what is wrong. */
void egress_target_batch_refused(struct egress_target *target, struct egress_batch *batch, uint32_t accepted,
                                 uint32_t refused, enum err_code code, const char *first_error)
{
        struct counters_block *counters = target->worker->options.counters;
        char text[ERR_TEXT_BYTES_MAX];
        counter_add(counters, COUNTER_egress_entries_refused, refused);
        egress_target_row_add(&target->row->entries_refused, refused);
        counters_row_set_error(target->row, first_error);
        if (accepted == 0)
                target_count_failed(target);
        batch->partly_done |= accepted > 0;
        batch->resending = refused;
        enum flow_failure failure = code == ERR_THROTTLED ? FLOW_THROTTLED
                                    : accepted > 0        ? FLOW_FAILED
                                                          : target_failure(target, code);
        (void)snprintf(text, sizeof(text), "HTTP 200, %u of %u records refused: %s", refused, accepted + refused,
                       first_error); /* cut */
        target_fail(target, code, failure, (double)refused / (accepted + refused), text);
}
