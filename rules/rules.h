/* Rules: configuration sets and event destinations, from text to an immutable plan, and the daemon's settings.
 *
 * configuration-sets.yaml has SESv2's shapes (CreateConfigurationSet and CreateConfigurationSetEventDestination); JSON
 * is accepted, being YAML. Extensions of ours sit under one key, `Sendring`. sendring.yaml has the daemon's settings.
 * Every mistake is reported with file, line and column, what was wrong, and what would be right; all mistakes of a file
 * in one go. A plan is immutable once made: shards and workers share it read-only and swap it at a quiescent point.
 *
 * Loading is cold code for one thread at a time: it reads files, asks the user database, allocates. Nothing that reads
 * a plan or settings allocates, locks or fails.
 */
#ifndef SENDRING_RULES_RULES_H
#define SENDRING_RULES_RULES_H

#include "base/arena.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"
#include "sendring/sendring.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* ---------------------------------------------------------------------------------------------- reports */

enum rules_severity { RULES_WARNING = 0, RULES_ERROR = 1 };

/* One finding: "FILE:LINE:COLUMN: error: unknown member 'MatchingEventType'; did you mean 'MatchingEventTypes'?" */
struct rules_finding {
        struct rules_finding *next;
        enum rules_severity severity;
        const char *file;
        uint32_t line, column; /* from 1; 0: the file as a whole */
        const char *text;
};

/* Findings kept of each severity, so that thousands of warnings cannot hide an error; the rest is only counted. */
#define RULES_FINDINGS_KEPT_MAX 500u

/* One report may take the findings of several files. Within a file they are in the order of their positions. */
struct rules_report {
        struct arena arena;
        struct rules_finding *first, *last;
        uint32_t errors, warnings;           /* all of them */
        uint32_t errors_kept, warnings_kept; /* those in the list */
};
void rules_report_init(struct rules_report *report);
/* The report may be used again after rules_report_init(). */
void rules_report_release(struct rules_report *report);
/* Adds a warning about `file` as a whole. False: out of memory. */
bool rules_report_warn(struct rules_report *report, const char *file, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* As compilers print them, one line each. */
void rules_report_print(const struct rules_report *report, FILE *out);
/* One JSON object a line: {"file","line","column","severity","text"}. */
void rules_report_print_json(const struct rules_report *report, FILE *out);

/* ---------------------------------------------------------------------------------------------- settings:
 * sendring.yaml */

struct rules_endpoint { /* egress.endpoints.*: "https://host:port" or "http://127.0.0.1:port"; empty: AWS's own */
        char url[512];
};

/* What a target may send a second; 0: no limit of its own. */
struct rules_rates {
        uint64_t records;  /* Firehose's records, CloudWatch's data */
        uint64_t bytes;    /* of them: what Firehose counts, before base64; CloudWatch's bodies */
        uint64_t requests; /* calls */
};

struct rules_default_set { /* of default_configuration_sets */
        const char *domain, *set;
};

/* What a full journal does with the events of each type; indexed by enum sendring_event_type. */
#define RULES_EVENT_TYPES_END 11u
struct rules_pressure {
        uint8_t rank[RULES_EVENT_TYPES_END]; /* 0: the most important */
        bool shed[RULES_EVENT_TYPES_END];    /* else producers are told that there is no room */
        uint32_t shed_count;
};
/* "RenderingFailure": the type as a class of events, in settings, in counts and in names of directories. NULL when
 * `type` is none. */
const char *rules_event_class_name(unsigned type);

struct rules_settings {
        struct arena arena;          /* owns every text below */
        const char *state_directory; /* "/var/lib/sendring" */
        const char *socket_path;     /* "/run/sendring/sendring.sock" */
        unsigned socket_mode;        /* 0660 */
        uid_t *allowed_uids;
        size_t allowed_uids_count; /* allow.users (names or numbers) */
        gid_t *allowed_gids;
        size_t allowed_gids_count;             /* allow.groups */
        const char *configuration_sets_path;   /* relative paths are relative to sendring.yaml's folder */
        const char *default_configuration_set; /* for events that name none; NULL: they are unmatched */
        struct rules_default_set *default_configuration_sets; /* before it, by the event's from-domain */
        size_t default_configuration_sets_count;

        const char *region;     /* "": no sourceArn is made, and CloudWatch is refused; the environment is not asked */
        const char *account_id; /* 12 digits, or "" */
        const char *partition;  /* "aws" */

        struct {
                int cores[LIMIT_SHARDS_MAX]; /* CPU numbers, one shard each; -1: not pinned */
                uint32_t shards_count;       /* 1; with `cores` as many as there are */
                uint32_t lane_bytes;         /* 1 MiB; a power of two */
                uint32_t lane_bytes_max;     /* lane_bytes: the most that a producer gets when it wishes for more */
                uint32_t lanes_max;          /* 256 */
                uint32_t lanes_per_user_max; /* 3/4 of lanes_max */
                uint32_t spin_us;            /* 0: busy polling after the last event: costs CPU, saves at most a nap */
                uint32_t nap_us;        /* 1000: then short naps, for up to nap_window_ms, then sleep until woken */
                uint32_t nap_window_ms; /* 10 */
        } router;
        struct {
                const char *directory;          /* state_directory/journal */
                uint32_t segment_bytes;         /* 16 MiB; a power of two */
                uint64_t size_bytes_max;        /* 8 GiB, all shards' together; at least 4 segments each, and 2
                                                 * for each class that is shed */
                uint32_t segments_mapped_max;   /* 12: at least 4; a quarter of them are prepared ahead of the writer */
                uint64_t retention_bytes;       /* 0: of what was delivered, all shards' together, kept for replays */
                uint64_t retention_age;         /* 0: seconds; both 0: nothing is kept. Gives way to what comes */
                bool durability_host;           /* durability: process | host */
                uint32_t sync_interval_ms;      /* 5: grouping of fdatasync */
                struct rules_pressure pressure; /* full, priority */
        } journal;
        struct {
                uint32_t workers_count;      /* 1 */
                uint32_t linger_ms;          /* 100: how long a batch may wait to fill */
                uint32_t batch_bytes_max;    /* 4 MiB: HTTP body */
                uint32_t in_flight_max;      /* 4: batches per target */
                uint32_t connect_timeout_ms; /* 5000 */
                uint32_t request_timeout_ms; /* 30000 */
                uint32_t idle_timeout_ms;    /* 60000: keep-alive */
                uint32_t retry_base_ms, retry_throttle_base_ms,
                        retry_max_ms; /* 50, 1000, 5000: full jitter; the longest is also how long after an outage a
                                         target may take to notice */
                uint32_t retry_budget_percent;  /* 20: of the requests that succeed: what may fail before it is tried
                                                   again at the longest interval only */
                uint64_t event_age_max_s;       /* 0: for ever; older events expire, counted */
                uint64_t dead_letter_bytes_max; /* 1 GiB, all workers' together; 0: no bound. When reached, a target
                                                 * that has another one waits */
                const char *ca_bundle;          /* "" : AWS_CA_BUNDLE, else the system's */
                struct rules_endpoint firehose, cloudwatch;
                struct rules_rates firehose_rates, cloudwatch_rates; /* rates: of each target; none */
        } egress;
        struct {
                const char *profile;                               /* "" : AWS_PROFILE, else default */
                const char *shared_credentials_file, *config_file; /* "" : the SDK's defaults */
        } credentials;
        uint32_t drain_seconds; /* shutdown.drain_seconds: 10 */
        const char *log_level;  /* error | warning | info | debug; info */
};

/* sendring.yaml's keys are the members above: a section (allow, router, journal, egress, credentials, shutdown, log) is
 * a map of that name, the rest is at the top: state_directory, socket_path, socket_mode ("0660"),
 * configuration_sets_path, default_configuration_set, default_configuration_sets ({domain: set}, or a list of such
 * maps), region, account_id, partition; allow: {users, groups}; journal.durability: process | host; journal.full:
 * {TYPE: block | shed}; journal.priority: [[TYPE, TYPE], TYPE]; egress.endpoints: {firehose, cloudwatch}; log: {level}.
 * See sendring.yaml(5).
 *
 * Reads and checks it. Everything has a default; unknown keys are errors with the nearest known key. A plain number is
 * in the unit of its key's name; sizes also take B, KiB, MiB, GiB, times ms, s, m, h. Relative paths become relative to
 * the file's folder. ERR_CONFIG with findings in the report (warnings may also be there with ERR_OK), ERR_MEMORY with
 * none; then *ret_settings holds nothing to release. */
enum err_code rules_settings_load(const char *path, struct rules_settings *ret_settings, struct rules_report *report);
/* The same of bytes in memory; `path` is what the findings name and what relative paths start from. */
enum err_code rules_settings_parse(const char *path, struct slice text, struct rules_settings *ret_settings,
                                   struct rules_report *report);
void rules_settings_release(struct rules_settings *settings);

/* ---------------------------------------------------------------------------------------------- plan:
 * configuration-sets.yaml */

enum rules_service {
        RULES_SERVICE_FIREHOSE = 0,
        RULES_SERVICE_FILE = 1, /* Sendring: {FileDestination: {Path, RotateBytes, RotateSeconds}} */
        RULES_SERVICE_CLOUDWATCH = 2,
        RULES_SERVICE_SNS = 3, /* parsed and checked; publishing comes later: a warning, events are not routed to it */
        RULES_SERVICE_EVENTBRIDGE = 4,
        RULES_SERVICE_PINPOINT = 5, /* ended by AWS on 2026-10-30: accepted with a warning, never routed */
};

const char *rules_service_name(enum rules_service service); /* "firehose", "file", "cloudwatch", ... */

/* The SESv2 name of an event type: "RENDERING_FAILURE". NULL when `type` is none. */
const char *rules_event_type_name(enum sendring_event_type type);

/* A CloudWatch destination: which dimensions an event's metric has, and how counts are gathered and sent. One event
 * is one metric for each roll-up: its name is codec_event_type_metric()'s ("Send", "RenderingFailure"), its
 * dimensions are the roll-up's. */
#define RULES_DIMENSIONS_MAX LIMIT_DIMENSIONS_MAX
#define RULES_ROLL_UPS_MAX   LIMIT_ROLL_UPS_MAX

enum rules_dimension_source { /* DimensionValueSource */
                              RULES_DIMENSION_MESSAGE_TAG = 0,
                              RULES_DIMENSION_EMAIL_HEADER = 1,
                              RULES_DIMENSION_LINK_TAG = 2,
};

struct rules_dimension {
        struct slice name;          /* DimensionName: [A-Za-z0-9_:-]{1,255}, different from the others' */
        struct slice default_value; /* DefaultDimensionValue: [A-Za-z0-9_@.-]{1,255} */
        enum rules_dimension_source source;
};

struct rules_cloudwatch {
        struct slice namespace; /* Sendring: {Namespace: "Sendring/SES"}; never AWS/... */
        struct rules_dimension dimensions[RULES_DIMENSIONS_MAX];
        uint32_t dimensions_count;             /* at least 1 */
        uint16_t roll_ups[RULES_ROLL_UPS_MAX]; /* RollUps: bit = 1 << dimension; all different, 0: no dimensions */
        uint32_t roll_ups_count;               /* at least 1; not given: one, with all dimensions */
        uint32_t series_max;                   /* SeriesMax: 1000: different series in an hour */
        struct slice overflow_value;           /* OverflowValue: "other": every dimension's beyond that */
        uint32_t period_s;                     /* Period: 60; a divisor of an hour */
        bool json;                             /* Protocol: cbor | json */
        bool gzip;                             /* Compression: gzip | none */
        bool resend_ambiguous;                 /* AmbiguousTimeout: resend | skip */
};

/* Series that may be there in one hour when events of `types_count` types are routed to it: the budget, and beside it
 * for each type and roll-up the overflow series or the one without dimensions. */
uint32_t rules_cloudwatch_series(const struct rules_cloudwatch *cloudwatch, uint32_t types_count);
/* What CloudWatch asks for `series` custom metrics that are there in every hour of a month, in US dollars: the list
 * price of us-east-1 in 2026 for the first of an account. */
double rules_cloudwatch_monthly_usd(uint64_t series);

/* Prices other than those of base/prices.h, which stay where the file says none. YAML or JSON:
 *
 *   region: eu-west-1
 *   date: "2026-11-23"
 *   firehose_gb: [{up_to: 512000, usd: 0.031}, {usd: 0.027}]     or one number
 *   firehose_step_bytes: 5KiB
 *   cloudwatch_metric: 0.30                                      or such a list
 *   cloudwatch_thousand_requests: 0.01
 *
 * ERR_CONFIG with findings in the report, ERR_MEMORY with none. */
struct prices;
enum err_code rules_prices_load(const char *path, struct prices *ret_prices, struct rules_report *report);
enum err_code rules_prices_parse(const char *path, struct slice text, struct prices *ret_prices,
                                 struct rules_report *report);

/* What is shared on the wire: destinations with the same service, resource and format are one target. A target that
 * only disabled destinations name is still here (what was accepted for it earlier is still delivered); one that no
 * destination names is not. Text belongs to the plan and has a NUL behind it. */
struct codec_redaction;
struct rules_target {
        uint32_t index;             /* 0.. in this plan */
        enum rules_service service; /* RULES_SERVICE_FIREHOSE, _FILE or _CLOUDWATCH */
        struct slice key;           /* stable over reloads and restarts, at most RULES_TARGET_KEY_BYTES_MAX:
                                       "firehose arn:aws:firehose:us-east-1:123456789012:deliverystream/mail packing=events",
                                       "firehose ... packing=events compression=gzip",
                                       "firehose ... packing=none redaction=0123456789abcdef event-id", "file
                                       /var/log/sendring/events.ndjson", "file event-id /var/...",
                                       "cloudwatch us-east-1 123456789012 dimensions=... namespace=Sendring/SES" */
        struct slice resource;      /* stream name, path, or namespace */
        struct slice arn, region, account_id, partition; /* Firehose, CloudWatch (no arn; the settings'
                                                             region and account, which may be unknown); else empty */
        bool packed; /* Firehose: several newline-ended events in a record (Sendring: {Packing: none} turns it off) */
        bool gzip;   /* Firehose: each record is a gzip file (Sendring: {Compression: gzip}); only when packed */
        uint32_t packed_events_max;              /* Sendring: {PackingEventsMax: 500}; 1 when not packed */
        const struct codec_redaction *redaction; /* Sendring: {Redaction: ...}, codecs/redact.h; NULL: none */
        bool event_id;                           /* Sendring: {EventId: true}: records have a `sendring` member */
        struct rules_rates
                rates; /* Firehose, CloudWatch: Sendring: {Rate: {Records, Bytes, Requests}}, else the settings' */
        bool rates_given;
        struct slice endpoint;   /* Sendring: {Endpoint: "https://..."}; empty: the settings', or AWS's own */
        uint64_t rotate_bytes;   /* file: 0 = never */
        uint32_t rotate_seconds; /* file: 0 = never */
        const struct rules_cloudwatch *cloudwatch; /* CloudWatch; else NULL. Its texts belong to the plan, too */
        struct slice destination;            /* the name that all destinations have which name it; empty: they differ */
        uint32_t destinations_count;         /* that name it */
        uint32_t destinations_enabled_count; /* 0: nothing new will be routed to it */
};
#define RULES_TARGET_KEY_BYTES_MAX 511u
#define RULES_ENDPOINT_BYTES_MAX   511u

struct rules_plan;

/* Reads, checks and compiles. `settings` may be NULL: then there is no default configuration set. ERR_CONFIG with
 * findings in the report (warnings may also be there with ERR_OK), ERR_MEMORY with none; then *ret_plan is NULL. */
enum err_code rules_plan_load(const char *path, const struct rules_settings *settings, struct rules_plan **ret_plan,
                              struct rules_report *report);
/* The same for another host: keys are not read, and the plan, whose keys of targets are not those of there, is only to
 * be looked at. */
enum err_code rules_plan_load_elsewhere(const char *path, const struct rules_settings *settings,
                                        struct rules_plan **ret_plan, struct rules_report *report);
/* rules_plan_load() of bytes in memory; `path` is what the findings name. */
enum err_code rules_plan_parse(const char *path, struct slice text, const struct rules_settings *settings,
                               struct rules_plan **ret_plan, struct rules_report *report);
/* The same with the keys of KeyFile members (Redaction): those that are in `keys`, by the paths of their files, are
 * taken from there, so that sets can be read as they were after a file was replaced or removed; others are read from
 * their files and added. On errors what was added so far stays. `keys` may be NULL. */
struct rules_keys;
enum err_code rules_plan_parse_with_keys(const char *path, struct slice text, const struct rules_settings *settings,
                                         struct rules_keys *keys, struct rules_plan **ret_plan,
                                         struct rules_report *report);
void rules_plan_free(struct rules_plan *plan); /* NULL is allowed */

/* Secrets: in their own memory, which is wiped. `may_be_gone`: a key that can be found nowhere is no mistake; another
 * one, which nobody knows, is in its place, so that the key of no target of before has its fingerprint, and the other
 * destinations are found. NULL: out of memory. */
struct rules_keys *rules_keys_create(bool may_be_gone);
void rules_keys_clear(struct rules_keys *keys);
void rules_keys_free(struct rules_keys *keys); /* NULL is allowed */
/* How many files had none. */
uint32_t rules_keys_gone(const struct rules_keys *keys);
bool rules_keys_are_same(const struct rules_keys *left, const struct rules_keys *right);
/* For a file: *ret_text is malloc'ed, or NULL when there is no key; whoever gets it wipes it. False: out of memory. */
bool rules_keys_print(const struct rules_keys *keys, uint8_t **ret_text, size_t *ret_bytes);
/* Such a text in the place of what was there. ERR_CORRUPT: it is none; ERR_MEMORY; then there are no keys. */
enum err_code rules_keys_scan(struct slice text, struct rules_keys *keys);

uint32_t rules_plan_sets_count(const struct rules_plan *plan);
uint32_t rules_plan_destinations_count(const struct rules_plan *plan);
uint32_t rules_plan_targets_count(const struct rules_plan *plan);
const struct rules_target *rules_plan_target(const struct rules_plan *plan, uint32_t index);
size_t rules_plan_bytes(const struct rules_plan *plan); /* for the memory budget */

/* Which destination goes where, for people: calls back once per destination of every set, in the order of the file. */
#define RULES_TARGET_NONE UINT32_MAX /* parsed and checked, but this version does not publish to its service */
void rules_plan_each(const struct rules_plan *plan,
                     void (*each)(void *context, struct slice set, struct slice destination, bool enabled,
                                  uint16_t event_types_mask /* bit = 1 << sendring_event_type */,
                                  uint32_t target_index),
                     void *context);

/* The name of the set that an event which names none belongs to: that of its from-domain (ASCII letters compared
 * without case), else the default configuration set; empty when there is none. Any number of threads. */
struct slice rules_plan_default_set(const struct rules_plan *plan, struct slice domain);
/* Whether the domain makes a difference. */
bool rules_plan_asks_domain(const struct rules_plan *plan);

struct codec_view;
struct codec_json_options;

/* rules_plan_default_set() for an event that names no set: its From header is read only where that makes a difference.
 */
struct slice rules_plan_default_set_of(const struct rules_plan *plan, const struct codec_view *view);

struct rules_match {
        bool set_known;        /* false only for a name that no set has */
        bool filter_exhausted; /* a filter would have had to look at too much (CODEC_FIELD_LOOKS_MAX): taken as no match
                                */
        uint16_t targets[LIMIT_ROUTES_PER_EVENT_MAX];
};

/* The hot call: one hash look-up by set name, a mask per event type, the filters of those destinations that have one, a
 * copy of target indexes. Returns how many of ret_match->targets were filled: one per enabled, matching destination, in
 * the order of the file, so a target may be there twice. An event that names no set has the default one; where there is
 * none it matches nothing. A type that is no event type matches nothing. Without filters only the view's type and
 * configuration set are read. `options` are those that the event is published with, or NULL. Any number of threads. */
uint32_t rules_plan_match(const struct rules_plan *plan, const struct codec_view *view,
                          const struct codec_json_options *options, struct rules_match *ret_match);

/* The same, narrowed to one destination: those of the event's set with this name, or the first that goes to the target
 * with this key. For replayed events. */
uint32_t rules_plan_match_only(const struct rules_plan *plan, const struct codec_view *view,
                               const struct codec_json_options *options, struct slice destination,
                               struct rules_match *ret_match);

/* ---------------------------------------------------------------------------------------------- why */

enum rules_verdict {
        RULES_VERDICT_MATCH = 0,
        RULES_VERDICT_DISABLED,
        RULES_VERDICT_EVENT_TYPE,    /* not among MatchingEventTypes */
        RULES_VERDICT_FILTER,        /* by `member` */
        RULES_VERDICT_FILTER_LIMIT,  /* the filter would have had to look at too much */
        RULES_VERDICT_NOT_PUBLISHED, /* it matches, but this version does not publish to its service */
};

struct rules_explanation {
        struct slice set, destination;
        uint32_t target_index; /* or RULES_TARGET_NONE */
        bool has_filter;
        enum rules_verdict verdict; /* the first reason why not */
        struct slice member;        /* FILTER: the path of the filter that the event failed by */
};

/* For people: calls back once per destination of the event's set, in the order of the file. False: there is no such
 * set, or none by default. */
bool rules_plan_explain(const struct rules_plan *plan, const struct codec_view *view,
                        const struct codec_json_options *options,
                        void (*each)(void *context, const struct rules_explanation *explanation), void *context);

#endif
