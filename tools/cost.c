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
#define COST_MIB               1048576.0

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

/* What comes into requests, summed over them by how often they are so large. */
struct cost_requests {
        const struct cost_stream *stream;
        double step_bytes, record_events, sent_bytes, events_max; /* of a full record; of an event; of a full request */
        double weight, events, records, billed_bytes;
};

/* Requests that were opened by one event and got `more`, a whole number. */
static void cost_requests_add(struct cost_requests *requests, double more, double weight)
{
        const struct cost_stream *stream = requests->stream;
        double events = fmin(1 + more, requests->events_max);
        double full = floor(events / requests->record_events), rest = events - full * requests->record_events;
        double billed = full * cost_round_up(requests->record_events * requests->sent_bytes, requests->step_bytes) +
                        cost_round_up(rest * requests->sent_bytes, requests->step_bytes);
        if (requests->record_events <= 1)
                billed = events * stream->event_billed_bytes; /* the mean of the rounded, not the rounded mean */
        else if (events <= 1 && requests->sent_bytes == stream->event_bytes)
                billed = stream->event_billed_bytes; /* the same of an event that stayed alone */
        requests->weight += weight;
        requests->events += weight * events;
        requests->records += weight * (full + (rest > 0 ? 1 : 0));
        requests->billed_bytes += weight * billed;
}

/* Of events that come at random, so many come within the linger: a Poisson number of this mean. What rounding up adds
 * is not what it adds to the mean, so all are looked at that are not too rare to count, from the most frequent one on.
 */
static void cost_requests_sum(struct cost_requests *requests, double mean)
{
        const double rare = 1e-12, deviations = 8, most = floor(mean);
        if (mean - deviations * sqrt(mean) > requests->events_max) {
                cost_requests_add(requests, mean, 1); /* all are full */
                return;
        }
        double weight = 1;
        for (double more = most; weight > rare; more++) {
                cost_requests_add(requests, more, weight);
                weight *= mean / (more + 1);
        }
        weight = most > 0 ? most / mean : 0;
        for (double more = most - 1; more >= 0 && weight > rare; more--) {
                cost_requests_add(requests, more, weight);
                weight *= more / mean;
        }
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
        request_events = fmax(1, fmin(request_events, record_events * LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX));
        struct cost_requests requests = {.stream = stream,
                                         .step_bytes = step_bytes,
                                         .record_events = record_events,
                                         .sent_bytes = sent_bytes,
                                         .events_max = request_events};
        cost_requests_sum(&requests, stream->events_per_s * stream->linger_s);
        return (struct cost_packed){
                .events_per_request = requests.events / requests.weight,
                .events_per_record = requests.events / requests.records,
                .sent_bytes = sent_bytes,
                .billed_bytes = requests.billed_bytes / requests.events,
                .records = requests.records / requests.events,
                .requests = requests.weight / requests.events,
        };
}

/* https://docs.aws.amazon.com/firehose/latest/dev/limits.html */
struct cost_quota cost_stream_quota(struct slice region)
{
        bool large = slice_equal(region, SLICE("us-east-1")) || slice_equal(region, SLICE("us-west-2")) ||
                     slice_equal(region, SLICE("eu-west-1"));
        return large ? (struct cost_quota){.bytes = 5 * COST_MIB, .records = 500000, .requests = 2000}
                     : (struct cost_quota){.bytes = COST_MIB, .records = 100000, .requests = 1000};
}

struct cost_quota_share cost_share_of_quota(const struct cost_packed *packed, double events_per_s,
                                            const struct cost_quota *quota)
{
        struct cost_quota_share share = {
                .bytes = packed->sent_bytes * events_per_s / quota->bytes,
                .records = packed->records * events_per_s / quota->records,
                .requests = packed->requests * events_per_s / quota->requests,
                .highest_of = "bytes",
        };
        share.highest = share.bytes;
        if (share.records > share.highest) {
                share.highest = share.records;
                share.highest_of = "records";
        }
        if (share.requests > share.highest) {
                share.highest = share.requests;
                share.highest_of = "requests";
        }
        return share;
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
                return (struct cost_hour){now, (double)(now_ms - begun_ms) / 1000, false, now, before};
        /* One that was started within this hour has read in a file what the one before it had. */
        if (covered_ms <= 0 || covered_ms > COST_MS_PER_HOUR)
                covered_ms = COST_MS_PER_HOUR;
        return (struct cost_hour){before, (double)covered_ms / 1000, true, now, before};
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
