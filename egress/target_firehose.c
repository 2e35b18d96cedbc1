/* Firehose as a service: PutRecordBatch, of which exactly the refused records are sent again. */
#include "egress/service.h"

static uint32_t target_firehose_batches_count(const struct rules_settings *settings)
{
        return settings->egress.in_flight_max + 1; /* one builds while the others are in flight */
}

static size_t target_firehose_batch_bytes(const struct rules_settings *settings)
{
        return settings->egress.batch_bytes_max;
}

static uint64_t target_firehose_budget_bytes(const struct rules_settings *settings, const struct rules_target *spec)
{
        uint64_t gzip_bytes =
                spec->gzip ? (1 + (uint64_t)settings->journal.pressure.shed_count) * gzip_writer_memory_bytes() : 0;
        return egress_target_http_budget_bytes(settings, 0) + gzip_bytes;
}

static enum err_code target_firehose_create(struct egress_target *target, struct err *reterr)
{
        target->firehose = (struct firehose_limits){
                .record_bytes_max = LIMIT_FIREHOSE_RECORD_BYTES_MAX,
                .record_events_max = target->spec.packed ? target->spec.packed_events_max : 1,
                .records_max = LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX,
        };
        /* As many batches may be building. */
        for (uint32_t slot = 0; target->spec.gzip && slot < target->worker->slots_count; slot++) {
                enum err_code code = gzip_writer_create(&target->gzip[slot], reterr);
                if (code != ERR_OK)
                        return code;
        }
        return egress_target_http_create(target, "firehose", target->worker->options.settings->egress.firehose.url, 0,
                                         0, reterr);
}

static void target_firehose_free(struct egress_target *target)
{
        for (uint32_t slot = 0; slot < EGRESS_SLOTS_MAX; slot++)
                gzip_writer_free(target->gzip[slot]);
        egress_target_http_free(target);
}

static void target_firehose_begin(struct egress_target *target, struct egress_batch *batch)
{
        firehose_body_begin(&batch->firehose, batch->bytes, batch->bytes_max, target->spec.resource,
                            target->gzip[batch->slot]);
}

static enum err_code target_firehose_append(struct egress_target *target, struct egress_batch *batch,
                                            const struct egress_event *event, uint32_t copies)
{
        (void)copies; /* 1: a body may be full between two */
        struct firehose_limits limits = target->firehose;
        /* With a rate, a request is no larger than what may go in a moment: the service's own bucket would overflow. */
        uint64_t records_max = flow_request_records_max(&target->flow);
        if (limits.records_max > records_max)
                limits.records_max = (uint32_t)records_max;
        limits.call_bytes_max = flow_request_bytes_max(&target->flow);
        return firehose_body_append(&batch->firehose, &limits, event->json);
}

static enum err_code target_firehose_finish(struct egress_target *target, struct egress_batch *batch)
{
        (void)target;
        firehose_body_finish(&batch->firehose);
        batch->len = batch->firehose.len;
        return ERR_OK;
}

static void target_firehose_done(struct http_exchange *exchange, enum err_code code,
                                 const struct http_response *response, bool maybe_sent, const struct err *why)
{
        struct egress_batch *batch = exchange->context;
        struct egress_target *target = batch->target;
        struct firehose_answer answer;
        egress_target_batch_ended(target, batch);
        if (code != ERR_OK) {
                egress_target_http_unanswered(target, code, maybe_sent, why);
                return;
        }
        if (response->status != 200) {
                egress_target_http_error(target, response);
                return;
        }
        if (firehose_answer_read(response->body, batch->firehose.records, &answer) != ERR_OK) {
                counter_add(target->worker->options.counters, COUNTER_egress_requests_uncertain, 1);
                egress_target_batch_failed(target, ERR_PROTOCOL,
                                           "status 200 with a body that is no PutRecordBatch answer");
                return;
        }
        if (answer.failed == 0) {
                egress_target_batch_done(target, batch);
                return;
        }
        /* Some records were refused: they alone go again. */
        batch->events = firehose_body_keep_failed(&batch->firehose, &answer);
        batch->len = batch->firehose.len;
        struct aws_wish wish = aws_error_wish(response, egress_target_http_clock_ms(target));
        egress_target_batch_refused(target, batch, answer.accepted, answer.failed,
                                    answer.throttled ? ERR_THROTTLED : answer.first_code, answer.first_error);
        egress_target_http_wish(target, &wish);
}

static enum err_code target_firehose_send(struct egress_target *target, struct egress_batch *batch)
{
        batch->paid_records = batch->firehose.records;
        batch->paid_bytes = batch->firehose.raw_bytes;
        struct egress_request request = {
                .signing_name = SLICE("firehose"),
                .path = slice_of_text(target->url.path),
                .content_type = SLICE("application/x-amz-json-1.1"),
                .amz_target = SLICE("Firehose_20150804.PutRecordBatch"),
                .body = slice_of(batch->bytes, batch->len),
                .done = target_firehose_done,
        };
        enum err_code code = egress_target_http_send(target, batch, &request);
        if (code == ERR_OK)
                counter_add(target->worker->options.counters, COUNTER_egress_entries, batch->firehose.records);
        return code;
}

const struct egress_service egress_service_firehose = {
        .name = "firehose",
        .takes_json = true,
        .too_big = "larger than a Firehose record (1,000 KiB) or a request (egress.batch_bytes_max)",
        .slack_bytes = FIREHOSE_BODY_SLACK_BYTES,
        .batches_count = target_firehose_batches_count,
        .batch_bytes = target_firehose_batch_bytes,
        .budget_bytes = target_firehose_budget_bytes,
        .create = target_firehose_create,
        .free = target_firehose_free,
        .begin = target_firehose_begin,
        .append = target_firehose_append,
        .finish = target_firehose_finish,
        .send = target_firehose_send,
        .stop = egress_target_http_stop,
};
