#include "tools/cost.h"

#include "base/assert.h"
#include "base/limits.h"
#include "codecs/codec.h"

#include <math.h>

/* Of the journal (journal/journal.h): a record's header, and what its size is a multiple of. */
#define COST_RECORD_HEADER_BYTES 64u
#define COST_RECORD_ALIGN_BYTES  64u
/* Of a request beside the base64 of its records (egress/firehose.h): the stream's name, and {"Data":""}, for each. */
#define COST_BODY_HEAD_BYTES   128.0
#define COST_RECORD_HEAD_BYTES 12.0
#define COST_BASE64_GROWTH     (4.0 / 3)

#define COST_MS_PER_HOUR INT64_C(3600000)

double cost_round_up(double bytes, double step_bytes)
{
        ASSERT(step_bytes > 0);
        /* Means and ratios leave a last bit that is no byte. */
        return ceil(bytes / step_bytes - 1e-9) * step_bytes;
}

double cost_per_million(double usd_per_month, double events_per_s)
{
        return events_per_s > 0 ? usd_per_month / (events_per_s * COST_MONTH_S) * 1e6 : 0;
}

/* A request of `events` events, a whole number: what it holds together. */
static struct cost_packed cost_request(const struct cost_stream *stream, double step_bytes, double events,
                                       double record_events, double sent_bytes)
{
        double full = floor(events / record_events), rest = events - full * record_events;
        double billed = full * cost_round_up(record_events * sent_bytes, step_bytes) +
                        cost_round_up(rest * sent_bytes, step_bytes);
        if (record_events <= 1)
                billed = events * stream->event_billed_bytes; /* the mean of the rounded, not the rounded mean */
        return (struct cost_packed){
                .events_per_request = events,
                .sent_bytes = events * sent_bytes,
                .billed_bytes = billed,
                .records = full + (rest > 0 ? 1 : 0),
                .requests = 1,
        };
}

struct cost_packed cost_pack(const struct cost_stream *stream, double step_bytes)
{
        ASSERT(stream->event_bytes > 0 && stream->gzip_ratio >= 1 && stream->record_events_max >= 1);
        if (!(stream->events_per_s > 0))
                return (struct cost_packed){.records = 0};
        double sent_bytes =
                stream->record_events_max > 1 ? stream->event_bytes / stream->gzip_ratio : stream->event_bytes;
        double record_events = floor(LIMIT_FIREHOSE_RECORD_BYTES_MAX / sent_bytes);
        record_events = fmax(1, fmin(record_events, stream->record_events_max));
        double body_bytes = stream->body_bytes_max - COST_BODY_HEAD_BYTES;
        double request_events =
                floor(body_bytes / (COST_BASE64_GROWTH * sent_bytes + COST_RECORD_HEAD_BYTES / record_events));
        request_events = fmin(request_events, record_events * LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX);
        request_events = fmax(1, fmin(request_events, 1 + stream->events_per_s * stream->linger_s));
        /* So many in the mean: some requests have one more than others. */
        double less = floor(request_events), share = request_events - less;
        struct cost_packed a = cost_request(stream, step_bytes, less, record_events, sent_bytes);
        struct cost_packed b = cost_request(stream, step_bytes, less + 1, record_events, sent_bytes);
        double records = a.records + share * (b.records - a.records);
        return (struct cost_packed){
                .events_per_request = request_events,
                .events_per_record = request_events / records,
                .sent_bytes = sent_bytes,
                .billed_bytes = (a.billed_bytes + share * (b.billed_bytes - a.billed_bytes)) / request_events,
                .records = records / request_events,
                .requests = 1 / request_events,
        };
}

double cost_series(const struct cost_metrics *metrics)
{
        return fmin(metrics->series_max, metrics->events_per_s * 3600 * metrics->roll_ups);
}

double cost_metric_requests(const struct cost_metrics *metrics)
{
        ASSERT(metrics->period_s > 0);
        double events = metrics->events_per_s * metrics->period_s;
        double data = fmax(1, fmin(cost_series(metrics), events * metrics->roll_ups));
        double requests = ceil(data / LIMIT_CLOUDWATCH_DATA_PER_CALL_MAX - 1e-9);
        /* Of events that come at random, so many periods have one at least. */
        return COST_MONTH_S / metrics->period_s * requests * (1 - exp(-events));
}

struct cost_hour cost_series_of_hours(const struct cost_hours *hours, int64_t now_ms)
{
        int64_t now_hour = now_ms / COST_MS_PER_HOUR, begun_ms = now_hour * COST_MS_PER_HOUR;
        /* No event was counted in this hour yet, then the newest one is the hour before. */
        uint32_t now = hours->hour >= now_hour ? hours->series : 0;
        uint32_t before = hours->hour >= now_hour       ? hours->series_before
                          : hours->hour == now_hour - 1 ? hours->series
                                                        : 0;
        int64_t covered_ms = begun_ms - hours->started_ms;
        if (before == 0 || now > before)
                return (struct cost_hour){now, (double)(now_ms - begun_ms) / 1000};
        /* One that was started within this hour has read in a file what the one before it had. */
        if (covered_ms <= 0 || covered_ms > COST_MS_PER_HOUR)
                covered_ms = COST_MS_PER_HOUR;
        return (struct cost_hour){before, (double)covered_ms / 1000};
}

uint64_t cost_journal_bytes(uint64_t encoded_bytes)
{
        uint64_t bytes = COST_RECORD_HEADER_BYTES + (encoded_bytes > 0 ? CODEC_VIEW_STORED_BYTES + encoded_bytes : 0);
        return (bytes + COST_RECORD_ALIGN_BYTES - 1) / COST_RECORD_ALIGN_BYTES * COST_RECORD_ALIGN_BYTES;
}

double cost_journal_mean_bytes(double encoded_bytes)
{
        return COST_RECORD_HEADER_BYTES + CODEC_VIEW_STORED_BYTES + encoded_bytes + COST_RECORD_ALIGN_BYTES / 2.0;
}
