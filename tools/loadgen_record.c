#include "tools/loadgen_record.h"

#include "codecs/codec.h"
#include "router/router.h"
#include "rules/rules.h"
#include "tools/cmd.h"
#include "tools/journal_log.h"
#include "tools/loadgen_capture.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RECORD_TOLD_MAX 20u

struct record_log {
        char directory[PATH_MAX];
        struct journal_log walk;
        bool ended;
        int64_t accepted_ms; /* of the event that is next */
        struct slice event;  /* in the journal's reader */
};

struct record {
        const struct loadgen_record_options *options;
        struct record_log *logs; /* a shard has one, and one more for each event type that is shed */
        uint32_t logs_count;
        struct loadgen_capture_writer writer;
        uint64_t not_kept; /* nobody wanted them, or they were malformed: only counted in the journal */
        uint64_t replays;  /* of an earlier time: their first time counts */
        uint64_t damaged, recycled;
        uint64_t in_second, peak; /* events of the second that is being written; of the busiest one */
        int64_t second;
        bool write_failed;
};

/* True: an event to record. */
static bool record_take(struct record *record, struct record_log *log, const struct journal_record *from)
{
        struct codec_view view;
        struct slice set;
        int64_t accepted_ms = from->entry.accepted_ms;
        if (accepted_ms < record->options->from_ms || accepted_ms >= record->options->to_ms)
                return false;
        if ((from->entry.flags & JOURNAL_FLAG_REPLAYED) != 0) {
                record->replays++;
                return false;
        }
        if (from->payload.len == 0) {
                record->not_kept++;
                return false;
        }
        /* A tool that copies what is in the journal must not trust it. */
        if (codec_view_split(from->payload, &log->event, &set) != ERR_OK ||
            codec_view_decode(log->event, &view, NULL) != ERR_OK || accepted_ms > LOADGEN_CAPTURE_MS_MAX) {
                record->damaged++;
                return false;
        }
        log->accepted_ms = accepted_ms;
        return true;
}

/* Goes to the log's next event that is to be recorded. */
static enum err_code record_advance(struct record *record, struct record_log *log, struct err *reterr)
{
        while (*record->options->stop == 0) {
                struct journal_record from;
                enum err_code code = journal_log_next(&log->walk, &from, reterr);
                if (code == ERR_EMPTY) {
                        log->ended = true;
                        record->recycled += log->walk.recycled;
                        return ERR_OK;
                }
                if (code == ERR_CORRUPT) {
                        if (record->damaged++ < RECORD_TOLD_MAX)
                                (void)fprintf(stderr, "%s: damaged at position %" PRIu64 "\n", log->directory,
                                              from.position);
                        continue;
                }
                if (code != ERR_OK || record_take(record, log, &from))
                        return code;
        }
        return err_set(reterr, ERR_BUSY, "stopped; nothing is recorded");
}

static enum err_code record_open_logs(struct record *record, const struct rules_settings *settings, struct err *reterr)
{
        for (uint32_t number = 0; number < LIMIT_SHARDS_MAX * RULES_EVENT_TYPES_END; number++) {
                struct router_journal wanted = {.shard = number / RULES_EVENT_TYPES_END,
                                                .type = number % RULES_EVENT_TYPES_END};
                struct record_log *log = &record->logs[record->logs_count];
                struct stat there;
                if (!router_log_directory(settings, &wanted, log->directory, sizeof(log->directory)) ||
                    stat(log->directory, &there) < 0)
                        continue;
                record->logs_count++;
                enum err_code code = journal_log_open(&log->walk, log->directory, reterr);
                if (code == ERR_OK)
                        code = record_advance(record, log, reterr);
                if (code != ERR_OK)
                        return code;
        }
        if (record->logs_count == 0)
                return err_set(reterr, ERR_NOT_FOUND, "there is no journal in %s", settings->journal.directory);
        return ERR_OK;
}

/* The log whose event comes next; of several in the same millisecond that of the first. NULL: there are no more. */
static struct record_log *record_first(struct record *record)
{
        struct record_log *first = NULL;
        for (uint32_t i = 0; i < record->logs_count; i++) {
                struct record_log *log = &record->logs[i];
                if (!log->ended && (first == NULL || log->accepted_ms < first->accepted_ms))
                        first = log;
        }
        return first;
}

static void record_count(struct record *record, int64_t accepted_ms)
{
        if (accepted_ms / 1000 != record->second)
                record->in_second = 0;
        record->second = accepted_ms / 1000;
        if (++record->in_second > record->peak)
                record->peak = record->in_second;
}

static enum err_code record_logs(struct record *record, struct err *reterr)
{
        enum err_code code = ERR_OK;
        for (struct record_log *log = record_first(record); log != NULL && code == ERR_OK; log = record_first(record)) {
                code = loadgen_capture_add(&record->writer, log->accepted_ms, log->event, reterr);
                record->write_failed = code != ERR_OK;
                record_count(record, log->accepted_ms);
                if (code == ERR_OK)
                        code = record_advance(record, log, reterr);
        }
        if (code == ERR_OK && record->writer.events == 0)
                code = err_set(reterr, ERR_EMPTY, "the journal has no events of that time; nothing is recorded");
        return code;
}

static void record_print(const struct record *record)
{
        const struct loadgen_capture_writer *writer = &record->writer;
        double seconds = (double)(writer->last_ms - writer->first_ms) / 1e3;
        uint64_t bytes = writer->records_bytes + LOADGEN_CAPTURE_HEADER_BYTES;
        if (record->options->json) {
                printf("{\"file\":");
                cmd_print_json_text(writer->path, strlen(writer->path));
                printf(",\"events\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"seconds\":%.3f,\"peak\":%" PRIu64
                       ",\"not_kept\":%" PRIu64 ",\"replays\":%" PRIu64 ",\"damaged\":%" PRIu64 ",\"recycled\":%" PRIu64
                       "}\n",
                       writer->events, bytes, seconds, record->peak, record->not_kept, record->replays, record->damaged,
                       record->recycled);
                return;
        }
        printf("recorded %" PRIu64 " events of %.1f s, at most %" PRIu64 " within a second, in %s (%" PRIu64
               " bytes)\n",
               writer->events, seconds, record->peak, writer->path, bytes);
        if (record->not_kept > 0)
                printf("%" PRIu64 " went nowhere when they came: the journal has only their number\n",
                       record->not_kept);
        if (record->replays > 0)
                printf("%" PRIu64 " are replays, and were passed over\n", record->replays);
        if (record->damaged > 0)
                printf("%" PRIu64 " are damaged on the disk\n", record->damaged);
        if (record->recycled > 0)
                printf("%" PRIu64 " records were recycled before they were read\n", record->recycled);
}

static int record_status(const struct record *record, enum err_code code)
{
        if (record->write_failed)
                return CMD_EXIT_IO;
        if (code == ERR_OK)
                return CMD_EXIT_OK;
        return code == ERR_EMPTY || code == ERR_BUSY ? CMD_EXIT_FAILED : CMD_EXIT_UNAVAILABLE;
}

int loadgen_record(const struct loadgen_record_options *options)
{
        struct record record = {.options = options, .second = INT64_MIN};
        struct rules_settings settings;
        struct rules_report report;
        struct err err = {.text = ""};
        rules_report_init(&report);
        enum err_code code = rules_settings_load(options->settings_path, &settings, &report);
        if (code != ERR_OK)
                rules_report_print(&report, stderr);
        rules_report_release(&report);
        if (code != ERR_OK)
                return CMD_EXIT_CONFIG;
        int status = CMD_EXIT_OK;
        record.logs = calloc(LIMIT_LOGS_MAX + 1, sizeof(*record.logs));
        if (record.logs == NULL) {
                status = record_status(&record, err_set(&err, ERR_MEMORY, "out of memory"));
                goto out;
        }
        /* The file first: a journal may take long to read. */
        if (loadgen_capture_create(&record.writer, options->capture_path, &err) != ERR_OK) {
                status = CMD_EXIT_IO;
                goto out;
        }
        code = record_open_logs(&record, &settings, &err);
        if (code == ERR_OK)
                code = record_logs(&record, &err);
        status = record_status(&record, code);
        if (code == ERR_OK && loadgen_capture_finish(&record.writer, &err) != ERR_OK)
                status = CMD_EXIT_IO;
        loadgen_capture_abandon(&record.writer);
        if (status == CMD_EXIT_OK) {
                record_print(&record);
                status = record.damaged + record.recycled > 0 ? CMD_EXIT_FAILED : CMD_EXIT_OK;
        }
out:
        if (err.text[0] != '\0')
                (void)fprintf(stderr, "sendring loadgen: %s\n", err.text);
        for (uint32_t i = 0; i < record.logs_count; i++)
                journal_log_close(&record.logs[i].walk);
        free(record.logs);
        rules_settings_release(&settings);
        return status;
}
