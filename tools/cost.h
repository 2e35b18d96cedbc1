/* What events cost at a destination, and what they take on the host: arithmetic only, for `sendring cost`. No price is
 * in here (base/prices.h), no file is read. A month is one of 30 days throughout. */
#ifndef SENDRING_TOOLS_COST_H
#define SENDRING_TOOLS_COST_H

#include "base/prices.h"
#include "base/slice.h"

#include <stdint.h>

#define COST_MONTH_S (30.0 * 24 * 3600)

/* ---------------------------------------------------------------------------------------------- Firehose */

/* What goes to one stream, and how it is put into records. */
struct cost_stream {
        double events_per_s;
        double event_bytes;         /* mean of an event's JSON and its newline, above 0 */
        double event_billed_bytes;  /* mean of the same, each event rounded up to the step */
        uint32_t record_events_max; /* 1: packing none */
        double linger_s;            /* how long a request waits for further events */
        double body_bytes_max;      /* of a request, base64 included */
        double gzip_ratio;          /* of packed records; 1: no compression. An event alone is taken as it is */
};

/* Each per event, in the mean; all 0 where nothing comes. */
struct cost_packed {
        double events_per_request, events_per_record;
        double sent_bytes;   /* what Firehose's quota counts: records before base64, compressed */
        double billed_bytes; /* the same, each record rounded up */
        double records, requests;
};

/* Events come at random: the first one opens a request, which then takes what comes within the linger, a Poisson
 * number, or as much as it holds. Its records are full but for the last. */
struct cost_packed cost_pack(const struct cost_stream *stream, double step_bytes);

/* A record of so many bytes as it is billed; 0 for 0. */
double cost_round_up(double bytes, double step_bytes);

/* What a stream takes a second before anybody raises it; all three grow together. */
struct cost_quota {
        double bytes, records, requests;
};
struct cost_quota cost_stream_quota(struct slice region);

/* Parts of a quota, 1 being all of it, and the largest of them: the one that is full first. */
struct cost_quota_share {
        double bytes, records, requests, highest;
        const char *highest_of; /* "bytes", "records" or "requests" */
};
struct cost_quota_share cost_share_of_quota(const struct cost_packed *packed, double events_per_s,
                                            const struct cost_quota *quota);

/* ---------------------------------------------------------------------------------------------- CloudWatch */

struct cost_metrics {
        double events_per_s;
        double roll_ups;   /* series that an event counts in */
        double series_max; /* different series of an hour, at most: the budget and what is beside it */
        double period_s;
};

/* Series that there may be in an hour: no more than there are counts. */
double cost_series(const struct cost_metrics *metrics);
/* PutMetricData requests in a month: one for each 1,000 series of a period; none for a period without an event. */
double cost_metric_requests(const struct cost_metrics *metrics);

/* What a running router has counted: the series of its newest hour so far, and of the one before. */
struct cost_hours {
        int64_t hour; /* the newest, since 1970; below 0: none yet */
        uint32_t series, series_before;
        int64_t started_ms; /* when it was started; before that nothing may have been counted */
};
struct cost_hour {
        double series;           /* 0: none was counted */
        double covered_s;        /* of the hour that they are those of: 3,600 is all of it */
        bool of_before;          /* which is the one before */
        uint32_t so_far, before; /* those of the clock hour that runs, and of the one before it */
};
/* The series of an hour, as well as they are known at `now_ms` of real time: those of the whole hour before, or of this
 * one so far where it has more already. */
struct cost_hour cost_series_of_hours(const struct cost_hours *hours, int64_t now_ms);

/* ---------------------------------------------------------------------------------------------- the host */

/* Of one event in the journal that is encoded in `encoded_bytes`: header, stored view, padding. 0 encoded bytes: nobody
 * wants the event, only its header is kept. */
uint64_t cost_journal_bytes(uint64_t encoded_bytes);
/* The same of many events of many sizes, by the mean of these: padding is half a line. */
double cost_journal_mean_bytes(double encoded_bytes);

/* `amount` per month, as dollars per million events; 0 where there are no events. */
double cost_per_million(double usd_per_month, double events_per_s);

#endif
