/* All limits in one place: value, unit in the name, why this number, what it costs. Configuration may narrow a limit,
 * never widen it. */
#ifndef SENDRING_BASE_LIMITS_H
#define SENDRING_BASE_LIMITS_H

#include <assert.h>
#include <stdint.h>

/* ---- lanes */
/* One encoded event. SES caps headers at 10 KB and recipients at 50, so real events stay below 16 KiB, and the largest
 * that SES could publish has some 115. No more, since its JSON must fit a Firehose record whatever a producer writes
 * (LIMIT_EVENT_JSON_BYTES_MAX). Mirrors SENDRING_EVENT_BYTES_MAX. */
#define LIMIT_EVENT_BYTES_MAX (128u * 1024u)
/* Smallest and largest data area of a lane; powers of two. 256 KiB is enough at full speed because the consumer zeroes
 * what it took (docs/adr); an event may be at most half a lane. */
#define LIMIT_LANE_BYTES_MIN     (64u * 1024u)
#define LIMIT_LANE_BYTES_MAX     (16u * 1024u * 1024u)
#define LIMIT_LANE_BYTES_DEFAULT (1024u * 1024u)
/* Lanes of one daemon: each costs its data area and 3 fds here (two memfds, a bell), 2 in the keeper, a connection and
 * a pidfd in both. */
#define LIMIT_LANES_MAX 1024u
/* Violations of the lane protocol after which a lane is closed and its pid reported. */
#define LIMIT_LANE_VIOLATIONS_MAX 16u
/* Records in a row that are no events, after which a lane is closed and its pid reported: a producer that sends nothing
 * else. A living one can attach again; what the lane still holds it carries over. */
#define LIMIT_LANE_REJECTED_MAX   65536u
#define LIMIT_LANE_NAME_BYTES_MAX 32u

/* ---- routing */
#define LIMIT_SHARDS_MAX  16u
#define LIMIT_WORKERS_MAX 16u
/* Logs that settings may ask for: one for each shard, one more for each event type that is shed. Each costs every
 * worker 130 KiB. */
#define LIMIT_LOGS_WANTED_MAX 64u
/* Logs of one daemon: every one that there can be, since those of earlier settings are served as well until they are
 * empty. Costs every batch 11 KiB. */
#define LIMIT_LOGS_MAX 176u
/* SES: 10 event destinations per configuration set; 2 spare keep the journal's record header at one cache line. */
#define LIMIT_DESTINATIONS_PER_SET_MAX 10u
#define LIMIT_ROUTES_PER_EVENT_MAX     12u
/* SES: configuration sets per account and region. */
#define LIMIT_CONFIGURATION_SETS_MAX 10000u
/* SES: identities per account and region, each with a default configuration set. */
#define LIMIT_DEFAULT_SETS_MAX 10000u
/* Delivery targets of one daemon over the life of its journal directory; 64 bytes of cursor state each. */
#define LIMIT_TARGETS_MAX        4096u
#define LIMIT_NAME_BYTES_MAX     64u    /* SES: configuration set and event destination names */
#define LIMIT_TAG_BYTES_MAX      255u   /* SES: message tag names and values, by its API: what may be set */
#define LIMIT_TAG_READ_BYTES_MAX 256u   /* the same by its documentation: what others may have set is read */
#define LIMIT_LIST_ITEMS_MAX     1024u  /* mirrors SENDRING_LIST_ITEMS_MAX */
#define LIMIT_HEADERS_BYTES_MAX  10240u /* SES: above 10 KB headersTruncated is true */
#define LIMIT_MSGPACK_DEPTH_MAX  16u    /* nesting of an event; known fields need 6 */

/* ---- filters of event destinations. EventBridge allows a pattern 2,048 characters and 1,000 combinations of $or;
 * these bound what one filter may cost an event. */
#define LIMIT_FILTER_BYTES_MAX        (64u * 1024u) /* texts of one filter together */
#define LIMIT_FILTER_VALUES_MAX       2048u         /* values and operators of one filter */
#define LIMIT_FILTER_PATHS_MAX        64u           /* one bit each while an event is matched */
#define LIMIT_FILTER_ALTERNATIVES_MAX 128u          /* combinations that its $or amount to */
#define LIMIT_FILTER_DEPTH_MAX        12u           /* maps and lists below the filter */

/* ---- journal */
#define LIMIT_SEGMENT_BYTES_MIN     (1024u * 1024u)
#define LIMIT_SEGMENT_BYTES_MAX     (1024u * 1024u * 1024u)
#define LIMIT_SEGMENT_BYTES_DEFAULT (16u * 1024u * 1024u)
/* What damage leaves in quarantine/ of a log for people to look at: the oldest goes first. */
#define LIMIT_QUARANTINE_FILES_MAX 16u
#define LIMIT_QUARANTINE_BYTES_MAX (1024u * 1024u * 1024u)
/* Payload of one record: the largest event, what the router found in it (CODEC_VIEW_STORED_BYTES), and the name of the
 * configuration set that it took for it (LIMIT_NAME_BYTES_MAX); of a replayed event also where it comes from. */
#define LIMIT_RECORD_BYTES_MAX (LIMIT_EVENT_BYTES_MAX + 192u)

/* ---- Firehose: https://docs.aws.amazon.com/firehose/latest/dev/limits.html */
#define LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX 500u
#define LIMIT_FIREHOSE_RECORD_BYTES_MAX     (1000u * 1024u) /* before base64 */
/* Whether the 4 MiB counts base64 text is not said: the whole HTTP body stays below it. */
#define LIMIT_FIREHOSE_CALL_BYTES_MAX (4u * 1024u * 1024u)
/* Packed events per record: the de-aggregation of dynamic partitioning handles 500. */
#define LIMIT_FIREHOSE_EVENTS_PER_RECORD_MAX 500u
/* Of records that are gzip files, where nothing de-aggregates: twice what one of usual events holds. Readers that
 * unpack a whole record need the memory: 14 MB. */
#define LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX 16384u

/* ---- CloudWatch PutMetricData: API_PutMetricData, cloudwatch_limits.html */
#define LIMIT_CLOUDWATCH_DATA_PER_CALL_MAX 1000u
/* Whether 1 MB counts bytes before or after gzip is not said: the body before it stays below. */
#define LIMIT_CLOUDWATCH_CALL_BYTES_MAX    1000000u
#define LIMIT_CLOUDWATCH_NAME_BYTES_MAX    255u  /* namespace, metric and dimension names */
#define LIMIT_CLOUDWATCH_VALUE_BYTES_MAX   1024u /* dimension values that events have */
#define LIMIT_CLOUDWATCH_DEFAULT_BYTES_MAX 255u  /* those in the configuration: SES's limit for defaults */
/* Series that one target may make in an hour: what CloudWatch bills, and what a table has room for. */
#define LIMIT_CLOUDWATCH_SERIES_MAX 10000u
#define LIMIT_DIMENSIONS_MAX        10u /* SES: of one event destination */
#define LIMIT_ROLL_UPS_MAX          16u /* of one destination: each multiplies its series */

/* ---- egress */
/* One event as JSON: a byte may grow to six ("\u0000", ",false"), short lists by the names of their members (60 KiB),
 * and redaction makes 4,096 addresses 32 bytes each. Fits a Firehose record, so that no event is a dead letter for its
 * size. */
#define LIMIT_EVENT_JSON_BYTES_MAX     (LIMIT_EVENT_BYTES_MAX * 6u + (64u + 128u) * 1024u)
#define LIMIT_IN_FLIGHT_PER_TARGET_MAX 64u
#define LIMIT_HTTP_HEAD_BYTES_MAX      (16u * 1024u) /* request or response head */
#define LIMIT_HTTP_BODY_BYTES_MAX                                                           \
        (1024u * 1024u) /* response body: 500 entries of 224-character RecordIds are 119 KB \
                         */

/* ---- the log: what waits for who reads stderr, 192 KiB. A storm of causes is some ten lines a second. */
#define LIMIT_LOG_LINES_MAX      128u
#define LIMIT_LOG_LINE_BYTES_MAX 1536u

/* ---- configuration files */
#define LIMIT_CONFIG_BYTES_MAX      (64u * 1024u * 1024u)
#define LIMIT_CREDENTIALS_BYTES_MAX (1024u * 1024u)

_Static_assert(LIMIT_LOGS_WANTED_MAX <= LIMIT_LOGS_MAX, "what settings ask for is served");
_Static_assert(LIMIT_ROUTES_PER_EVENT_MAX >= LIMIT_DESTINATIONS_PER_SET_MAX,
               "every destination of a set fits a record");
_Static_assert(LIMIT_EVENT_BYTES_MAX <= LIMIT_LANE_BYTES_DEFAULT / 2, "the largest event fits half a default lane");
_Static_assert(LIMIT_EVENT_JSON_BYTES_MAX < LIMIT_FIREHOSE_RECORD_BYTES_MAX, "no event is too large for a record");
_Static_assert(LIMIT_SEGMENT_BYTES_MIN >= 2 * LIMIT_RECORD_BYTES_MAX,
               "a segment holds at least two of the largest events");

#endif
