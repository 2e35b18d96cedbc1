/* Counting events for CloudWatch: dimensions are resolved as SES does (its developer guide, "Set up a CloudWatch event
 * destination"), and each roll-up's combination of values in each period is a series with a count. A table holds what
 * was counted since it was last cleared, which may be several periods of a backlog: the period is part of a series.
 *
 * A dimension's value is the first of the tag, header or link tag of its name, or its default when there is none or it
 * is empty. Values that CloudWatch would not take (header values: what SES does not take) leave the event out of every
 * roll-up that has this dimension, as SES leaves it out silently; here it is counted.
 *
 * The budget bounds the different series of an hour, for CloudWatch bills each by the hour: when series_max of them are
 * admitted, further ones are counted under the overflow value in every dimension. Those overflow series, one for each
 * metric and roll-up, are beside the budget, and so is the series of a roll-up without dimensions. What is admitted
 * belongs to the hour of the event; of hours older than the one before the newest, all share one budget. With a series
 * file (egress/series.h) it outlives the process.
 *
 * All memory is taken by create. One thread at a time. */
#ifndef SENDRING_EGRESS_METRICS_H
#define SENDRING_EGRESS_METRICS_H

#include "base/err.h"
#include "codecs/codec.h"
#include "rules/rules.h"

#include <stdint.h>

struct metrics_table;
struct series;

/* Copies what it keeps of `cloudwatch`. ERR_MEMORY. */
enum err_code metrics_table_create(const struct rules_cloudwatch *cloudwatch, struct metrics_table **ret_table,
                                   struct err *reterr);
/* What create takes, for the memory budget. */
uint64_t metrics_table_bytes(const struct rules_cloudwatch *cloudwatch);
/* Admits what the file has admitted, and writes into it what is admitted from now on. For an empty table that has not
 * counted yet; the file must live as long as the table. */
void metrics_table_keep(struct metrics_table *table, struct series *series);
/* Records that its file needs for an hour. */
uint32_t metrics_table_records_max(const struct rules_cloudwatch *cloudwatch);
/* The copy: its texts live as long as the table. */
const struct rules_cloudwatch *metrics_table_config(const struct metrics_table *table);
void metrics_table_free(struct metrics_table *table); /* NULL is allowed */
/* All series go; what is admitted in the hour, and the statistics, stay. */
void metrics_table_clear(struct metrics_table *table);

/* Series that a table may hold at once, and bytes of dimension values, each with a quote or a backslash counting twice:
 * bounds for whoever encodes them. */
uint32_t metrics_table_series_max(const struct rules_cloudwatch *cloudwatch);
uint32_t metrics_table_values_bytes_max(const struct rules_cloudwatch *cloudwatch);

/* Counts one event `copies` times, in the period of accepted_ms. `view` as for codec_json_encode(); `options` may be
 * NULL.
 *
 * ERR_FULL  there may be no room for what the event adds: nothing was counted; encode and clear the table first. Never
 *           from an empty table;
 * ERR_NAME  every roll-up has a dimension whose value was refused: there is no metric for this event. */
enum err_code metrics_table_count(struct metrics_table *table, const struct codec_view *view,
                                  const struct codec_json_options *options, int64_t accepted_ms, uint32_t copies);

/* No event can be of a later hour: where one was counted, the clock was wrong and has been set back. What was admitted
 * in such hours is forgotten, else the hours of now would all share the budget of the one before it. Of the hours of
 * now, what the series file still has is admitted. Cheap when there is none. */
void metrics_table_forget_after(struct metrics_table *table, int64_t hour_max);

uint32_t metrics_table_series(const struct metrics_table *table); /* in it now; 0: it is empty */
/* Puts the series into an order that depends on nothing but themselves: by period, metric, roll-up and values. Until
 * the next count. */
void metrics_table_sort(struct metrics_table *table);

/* One series, as PutMetricData wants it. Texts belong to the table, until it is cleared. */
struct metrics_datum {
        struct slice metric; /* "Send" */
        int64_t time_s;      /* start of the period, seconds since 1970 */
        uint64_t count;      /* at least 1 */
        uint32_t dimensions_count;
        struct metrics_dimension {
                struct slice name, value;
        } dimensions[RULES_DIMENSIONS_MAX];
};
/* index < metrics_table_series(), in the order of the last sort. */
void metrics_table_get(const struct metrics_table *table, uint32_t index, struct metrics_datum *ret_datum);

/* Why a value is none. */
enum metrics_refusal {
        METRICS_REFUSED_LENGTH,     /* more than LIMIT_CLOUDWATCH_VALUE_BYTES_MAX bytes */
        METRICS_REFUSED_CHARACTERS, /* not ASCII, or control characters; of headers, what SES does not take */
        METRICS_REFUSED_BLANK,      /* spaces only */
        METRICS_REFUSALS_COUNT
};

struct metrics_stats {
        uint32_t series_max;         /* the budget */
        int64_t hour;                /* the newest one, in hours since 1970; INT64_MIN: none yet */
        uint32_t hour_series;        /* billed in the newest hour: admitted ones, and overflow ones and ones without
                                      * dimensions beside the budget; may be more than series_max */
        uint32_t hour_before_series; /* the same of the hour before it */
        uint64_t events;             /* counted in one roll-up at least; copies are events. Totals since create: */
        uint64_t overflowed;         /* of them, in one roll-up at least under the overflow value */
        uint64_t values_refused;     /* events that were left out of one roll-up at least */
        uint64_t several_values;     /* events with several values of one dimension: the first was taken */
        uint32_t refused_mask;       /* dimensions, by bit, that values_refused came from: to log each once */
        uint32_t refused_why[METRICS_REFUSALS_COUNT]; /* the same by reason */
        uint32_t several_mask;                        /* the same of several_values */
};
void metrics_table_get_stats(const struct metrics_table *table, struct metrics_stats *ret_stats);

#endif
