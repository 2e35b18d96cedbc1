/* Rules: configuration sets and event destinations, from text to an immutable plan, and the daemon's settings.
 *
 * configuration-sets.yaml has SESv2's shapes (CreateConfigurationSet and CreateConfigurationSetEventDestination); JSON
 * is accepted, being YAML. Extensions of ours sit under one key, `Sendring`. sendring.yaml has the daemon's settings.
 * Every mistake is reported with file, line and column, what was wrong, and what would be right; all mistakes of a file
 * in one go. A plan is immutable once made: shards and workers share it read-only and swap it at a quiescent point.
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

struct rules_report {
        struct arena arena;
        struct rules_finding *first, **last;
        uint32_t errors, warnings;
};
void rules_report_init(struct rules_report *report);
void rules_report_release(struct rules_report *report);
/* As compilers print them, one line each. */
void rules_report_print(const struct rules_report *report, FILE *out);

/* ---------------------------------------------------------------------------------------------- settings:
 * sendring.yaml */

struct rules_endpoint { /* egress.endpoints.firehose: "https://host:port" or "http://127.0.0.1:port"; empty: AWS's own
                         */
        char url[512];
};

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

        const char *region;     /* "" : from AWS_REGION / AWS_DEFAULT_REGION / the profile */
        const char *account_id; /* 12 digits, or "" */
        const char *partition;  /* "aws" */

        struct {
                int cores[LIMIT_SHARDS_MAX]; /* CPU numbers, one shard each; -1: not pinned */
                uint32_t shards_count;       /* 1 */
                uint32_t lane_bytes;         /* 1 MiB */
                uint32_t lanes_max;          /* 256 */
                uint32_t spin_us;            /* 20: busy polling after the last event */
                uint32_t nap_us;             /* 200: then short naps, for up to nap_window_ms, then sleep until woken */
                uint32_t nap_window_ms;      /* 10 */
        } router;
        struct {
                const char *directory;        /* state_directory/journal */
                uint32_t segment_bytes;       /* 32 MiB */
                uint64_t size_bytes_max;      /* 8 GiB */
                uint32_t segments_mapped_max; /* 6 */
                bool durability_host;         /* durability: process | host */
                uint32_t sync_interval_ms;    /* 5: grouping of fdatasync */
        } journal;
        struct {
                uint32_t workers_count;      /* 1 */
                uint32_t linger_ms;          /* 100: how long a batch may wait to fill */
                uint32_t batch_bytes_max;    /* 4 MiB: HTTP body */
                uint32_t in_flight_max;      /* 4: batches per target */
                uint32_t connect_timeout_ms; /* 5000 */
                uint32_t request_timeout_ms; /* 30000 */
                uint32_t idle_timeout_ms;    /* 60000: keep-alive */
                uint32_t retry_base_ms, retry_throttle_base_ms, retry_max_ms; /* 50, 1000, 20000: full jitter */
                uint64_t event_age_max_s; /* 0: for ever; older events expire, counted */
                const char *ca_bundle;    /* "" : AWS_CA_BUNDLE, else the system's */
                struct rules_endpoint firehose;
        } egress;
        struct {
                const char *profile;                               /* "" : AWS_PROFILE, else default */
                const char *shared_credentials_file, *config_file; /* "" : the SDK's defaults */
        } credentials;
        uint32_t drain_seconds; /* shutdown.drain_seconds: 10 */
        const char *log_level;  /* info */
};

/* Reads and checks sendring.yaml. Everything has a default; unknown keys are errors with the nearest known key. Sizes
 * take KiB, MiB, GiB; times take ms, s. ERR_CONFIG with findings in the report. */
enum err_code rules_settings_load(const char *path, struct rules_settings *ret_settings, struct rules_report *report);
void rules_settings_release(struct rules_settings *settings);

/* ---------------------------------------------------------------------------------------------- plan:
 * configuration-sets.yaml */

enum rules_service {
        RULES_SERVICE_FIREHOSE = 0,
        RULES_SERVICE_FILE = 1, /* Sendring: {FileDestination: {Path, RotateBytes, RotateSeconds}} */
        RULES_SERVICE_CLOUDWATCH =
                2, /* parsed and checked; publishing comes later: a warning, events are not routed to it */
        RULES_SERVICE_SNS = 3,
        RULES_SERVICE_EVENTBRIDGE = 4,
        RULES_SERVICE_PINPOINT = 5, /* ended by AWS on 2026-10-30: accepted with a warning, never routed */
};

/* What is shared on the wire: destinations with the same service, resource and format are one target. */
struct rules_target {
        uint32_t index; /* 0.. in this plan */
        enum rules_service service;
        struct slice key;      /* stable over reloads and restarts: "firehose arn:... packing=events" */
        struct slice resource; /* stream name, or path */
        struct slice arn, region, account_id, partition; /* Firehose */
        bool packed; /* Firehose: several newline-ended events in a record (Sendring: {Packing: none} turns it off) */
        uint32_t packed_events_max; /* Sendring: {PackingEventsMax: 500} */
        uint64_t rotate_bytes;      /* file: 0 = never */
        uint32_t rotate_seconds;
        uint32_t destinations_count; /* that feed it */
};

struct rules_plan;

/* Reads, checks and compiles. 10,000 sets of 10 destinations in under a second. */
enum err_code rules_plan_load(const char *path, const struct rules_settings *settings, struct rules_plan **ret_plan,
                              struct rules_report *report);
void rules_plan_free(struct rules_plan *plan);

uint32_t rules_plan_sets_count(const struct rules_plan *plan);
uint32_t rules_plan_destinations_count(const struct rules_plan *plan);
uint32_t rules_plan_targets_count(const struct rules_plan *plan);
const struct rules_target *rules_plan_target(const struct rules_plan *plan, uint32_t index);
/* Which destination goes where, for people: calls back once per destination of every set. */
void rules_plan_each(const struct rules_plan *plan,
                     void (*each)(void *context, struct slice set, struct slice destination, bool enabled,
                                  uint16_t event_types_mask /* bit = 1 << sendring_event_type */,
                                  uint32_t target_index),
                     void *context);

/* The hot call: one hash look-up by set name, a mask per event type, a copy of target indexes. Returns how many of
 * ret_targets[LIMIT_ROUTES_PER_EVENT_MAX] were filled: one per enabled, matching destination, so a target may be there
 * twice. An empty `set` means the default configuration set. *ret_set_known tells an unknown set from one that matches
 * nothing. */
uint32_t rules_plan_match(const struct rules_plan *plan, struct slice set, enum sendring_event_type type,
                          uint16_t *ret_targets, bool *ret_set_known);

#endif
