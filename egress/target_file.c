/* The file destination as a service: lines in a buffer, one write at a time. */
#include "egress/service.h"

#include <inttypes.h>
#include <string.h>

/* A batch: at least one of the largest events. */
#define TARGET_LINES_BYTES  ((size_t)LIMIT_EVENT_JSON_BYTES_MAX + 1)
#define TARGET_FILE_BATCHES 3u

_Static_assert(LIMIT_EVENT_JSON_BYTES_MAX > 512 * 1024, "a batch is large enough to be worth a write");

static uint32_t target_file_batches_count(const struct rules_settings *settings)
{
        (void)settings; /* one builds, one is being written, one waits */
        return TARGET_FILE_BATCHES;
}

static size_t target_file_batch_bytes(const struct rules_settings *settings)
{
        (void)settings; /* the largest event decides */
        return TARGET_LINES_BYTES;
}

static uint64_t target_file_budget_bytes(const struct rules_settings *settings, const struct rules_target *spec)
{
        (void)settings;
        (void)spec; /* every file costs the same */
        return file_sink_memory_bytes();
}

static enum err_code target_file_create(struct egress_target *target, struct err *reterr)
{
        struct file_sink_options options = {
                .path = arena_printf(&target->arena, "%.*s", SLICE_PRINTF(target->spec.resource)),
                .rotate_bytes = target->spec.rotate_bytes,
                .rotate_seconds = target->spec.rotate_seconds,
                .sync = target->worker->options.settings->journal.durability_host,
                .openings = &target->worker->file_openings,
        };
        if (options.path == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory");
        return file_sink_open(target->worker->loop, &options, &target->file, reterr);
}

static void target_file_free(struct egress_target *target)
{
        file_sink_close(target->file);
}

static void target_file_begin(struct egress_target *target, struct egress_batch *batch)
{
        (void)target; /* no head, no foot */
        (void)batch;
}

static enum err_code target_file_append(struct egress_target *target, struct egress_batch *batch,
                                        const struct egress_event *event, uint32_t copies)
{
        (void)target;
        (void)copies; /* 1: a batch may be full between two */
        struct slice json = event->json;
        if (json.len + 1 > batch->bytes_max)
                return ERR_TOO_BIG;
        if (json.len + 1 > batch->bytes_max - batch->len)
                return ERR_FULL;
        memcpy(batch->bytes + batch->len, json.ptr, json.len);
        batch->bytes[batch->len + json.len] = '\n';
        batch->len += json.len + 1;
        return ERR_OK;
}

static enum err_code target_file_finish(struct egress_target *target, struct egress_batch *batch)
{
        (void)target;
        batch->paid_records = batch->events;
        batch->paid_bytes = batch->len;
        return ERR_OK;
}

static void target_file_done(void *context, enum err_code code, const struct err *why)
{
        struct egress_batch *batch = context;
        struct egress_target *target = batch->target;
        const char *text = why != NULL ? why->text : err_text(code);
        if (batch->given_up) {
                egress_target_batch_ended_late(target, batch, code, text);
                return;
        }
        egress_target_batch_ended(target, batch);
        if (code == ERR_OK)
                egress_target_batch_done(target, batch);
        else
                egress_target_batch_failed(target, code, text);
}

static enum err_code target_file_send(struct egress_target *target, struct egress_batch *batch)
{
        egress_target_batch_sending(target, batch);
        enum err_code code = file_sink_write(target->file, slice_of(batch->bytes, batch->len), target_file_done, batch);
        if (code != ERR_OK) {
                egress_target_batch_not_sent(target, batch);
                if (code != ERR_BUSY)
                        egress_target_batch_failed(target, code, err_text(code));
        }
        return code;
}

/* A rotation that fails holds up nothing, but the file grows without bound. */
static void target_file_tell_rotation(struct egress_target *target)
{
        struct egress_worker *worker = target->worker;
        struct file_sink_stats stats;
        char quoted[ERR_TEXT_BYTES_MAX + 80];
        uint64_t repeats = 0;
        file_sink_get_stats(target->file, &stats);
        if (stats.rotation_failures == target->rotation_failures)
                return;
        counter_add(worker->options.counters, COUNTER_egress_rotation_failures,
                    stats.rotation_failures - target->rotation_failures);
        target->rotation_failures = stats.rotation_failures;
        if (log_gate_open(&target->rotation_gate, worker->now_ns, EGRESS_LOG_INTERVAL_NS, &repeats))
                log_error("file not rotated",
                          "target=%s error=%s now=\"the old file goes on and grows; tried again with the next write\" "
                          "failures=%" PRIu64 " repeats=%" PRIu64,
                          target->log_key, log_quote(file_sink_rotation_why(target->file), quoted, sizeof(quoted)),
                          stats.rotation_failures, repeats);
}

static void target_file_tick(struct egress_target *target)
{
        target_file_tell_rotation(target);
        file_sink_rotate_if_due(target->file); /* by age, also without an event */
}

static bool target_file_stop(struct egress_target *target)
{
        return file_sink_stop(target->file);
}

const struct egress_service egress_service_file = {
        .name = "file",
        .takes_json = true,
        .one_at_a_time = true, /* one writer */
        .may_hang = true,      /* a mount whose server is gone answers when it is back, or never */
        .too_big = "larger than a batch of lines",
        .batches_count = target_file_batches_count,
        .batch_bytes = target_file_batch_bytes,
        .budget_bytes = target_file_budget_bytes,
        .create = target_file_create,
        .free = target_file_free,
        .begin = target_file_begin,
        .append = target_file_append,
        .finish = target_file_finish,
        .send = target_file_send,
        .tick = target_file_tick,
        .stop = target_file_stop,
};
