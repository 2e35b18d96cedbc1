/* sendring replay: publishes again what the journal still has. It reads the log beside the running daemon, without a
 * lock: what is recycled under it is noticed and counted, and never taken for an event. Each event goes through a lane
 * and is accepted anew, with its id of before. */
#include "base/clock.h"
#include "codecs/field.h"
#include "router/router.h"
#include "tools/cmd.h"
#include "tools/journal_log.h"
#include "tools/republish.h"

#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLAY_FILTERS_MAX 16u
#define REPLAY_TELL_NS     (2 * CLOCK_NS_PER_S)
#define REPLAY_END_MS      2000u
#define REPLAY_TOLD_MAX    20u

static const char replay_help[] =
        "usage: sendring replay --from TIME [--to TIME] [--set SET] [--type TYPE] [--tag NAME=VALUE]\n"
        "                       [--destination DESTINATION] [--rate N] [--dry-run] [OPTIONS]\n"
        "\n"
        "Publishes again the events that were accepted in a time and that the journal still has: what waits, and what\n"
        "journal.retention_bytes and journal.retention_age keep. Each is accepted anew and goes where the "
        "configuration\n"
        "sets in force send it, with its event id of the first time; a CloudWatch destination counts it once more.\n"
        "\n"
        "      --from TIME, --to TIME     accepted from then on, and before: " CMD_TIME_HELP ";\n"
        "                                 --to: now\n"
        "      --set SET                  of this configuration set; may be repeated: any of them\n"
        "      --type TYPE                of this event type; may be repeated\n"
        "      --tag NAME=VALUE           with this message tag; may be repeated: all of them\n"
        "      --destination DESTINATION  only this one gets them: the name of an event destination, or a target as\n"
        "                                 sendring ledger prints it; else all of the event's set\n"
        "      --rate N                   at most N events a second\n"
        "      --after LOG:SEQUENCE       goes on behind this record, as an earlier run said\n"
        "      --dry-run                  counts, and publishes nothing\n"
        "  -s, --settings FILE            the daemon's settings (default /etc/sendring/sendring.yaml)\n"
        "  -j, --json                     the counts as one JSON object\n"
        "  -h, --help                     this text\n"
        "\n"
        "Stopped, it says how to go on. Killed, it says where it was each 2 s: from there on, at least once.\n"
        "\n"
        "Exit status: 0 all well; 1 stopped, or something was damaged, too big, or recycled before it was read, or no\n"
        "set in force has the destination; 64 usage; 69 no daemon or no journal; 74 the journal cannot be read; 78\n"
        "configuration.\n";

struct replay_tag {
        struct slice text, value;
        struct codec_field field;
};

struct replay_counts {
        uint64_t looked_at; /* records in the time */
        uint64_t matched;   /* by the filters */
        uint64_t published;
        uint64_t nowhere;  /* no destination gets them now */
        uint64_t not_kept; /* nobody wanted them: only counted in the journal */
        uint64_t replays;  /* of an earlier time: their first time counts */
        uint64_t too_big, damaged, recycled;
};

/* A shard has a log, and one more for each event type that is shed. */
#define REPLAY_LOGS (LIMIT_SHARDS_MAX * RULES_EVENT_TYPES_END)
struct replay_place {
        uint32_t log;      /* shard * RULES_EVENT_TYPES_END + type, type 0 being all that have none of their own */
        uint64_t sequence; /* everything up to and including it was looked at; 0: nothing */
};

struct replay {
        const char *settings_path;
        int64_t from_ms, to_ms;
        struct slice sets[REPLAY_FILTERS_MAX];
        struct replay_tag tags[REPLAY_FILTERS_MAX];
        uint32_t sets_count, tags_count;
        uint32_t types; /* bit = 1 << type; 0: all */
        struct slice destination;
        bool dry_run, json;
        bool after_given;
        bool after_unknown;        /* there is no such place: said, and nothing was published */
        struct replay_place after; /* where to begin */

        struct republish republish;
        struct replay_counts counts;
        struct replay_place place, flushed; /* looked at; and in the journal again */
        uint64_t told_ns;
};

/* "0", or "0.Open". */
static const char *replay_log_name(uint32_t log, char out[64])
{
        unsigned type = log % RULES_EVENT_TYPES_END;
        (void)snprintf(out, 64, "%" PRIu32 "%s%s", log / RULES_EVENT_TYPES_END, type == 0 ? "" : ".",
                       type == 0 ? "" : rules_event_class_name(type)); /* short names */
        return out;
}

static int replay_usage(const char *text)
{
        (void)fprintf(stderr, "sendring replay: %s; `sendring replay --help` explains\n", text);
        return CMD_EXIT_USAGE;
}

/* ---------------------------------------------------------------------------------------------- which */

static bool replay_is_value(void *context, const struct codec_value *value)
{
        const struct slice *wanted = context;
        return value->kind == CODEC_VALUE_TEXT && slice_equal(value->text, *wanted);
}

/* `view` has its set. */
static bool replay_is_chosen(const struct replay *replay, const struct codec_view *view)
{
        bool in_set = replay->sets_count == 0;
        for (uint32_t i = 0; i < replay->sets_count; i++)
                in_set |= slice_equal(replay->sets[i], view->configuration_set);
        if (!in_set || (replay->types != 0 && (replay->types & 1u << (unsigned)view->type) == 0))
                return false;
        struct codec_field_reader reader;
        codec_field_reader_init(&reader, view, &replay->republish.json);
        for (uint32_t i = 0; i < replay->tags_count; i++) {
                struct slice wanted = replay->tags[i].value;
                codec_field_reader_renew(&reader);
                reader.exhausted = false;
                if (!codec_field_each(&reader, &replay->tags[i].field, replay_is_value, &wanted) || reader.exhausted)
                        return false;
        }
        return true;
}

/* ---------------------------------------------------------------------------------------------- how far it is */

static void replay_print_quoted(FILE *out, const char *name, struct slice value)
{
        (void)fprintf(out, " %s '", name);
        for (size_t i = 0; i < value.len; i++) {
                if (value.ptr[i] == '\'')
                        (void)fputs("'\\''", out);
                else
                        (void)fputc(value.ptr[i], out);
        }
        (void)fputc('\'', out);
}

/* The command that goes on from `flushed`, with times that do not move. */
static void replay_print_rest(const struct replay *replay)
{
        char name[64];
        (void)fprintf(stderr, "to go on: sendring replay --from %" PRId64 " --to %" PRId64, replay->from_ms,
                      replay->to_ms);
        for (uint32_t i = 0; i < replay->sets_count; i++)
                replay_print_quoted(stderr, "--set", replay->sets[i]);
        for (uint32_t type = 1; type <= CODEC_EVENT_TYPES_COUNT; type++)
                if ((replay->types & 1u << type) != 0)
                        (void)fprintf(stderr, " --type %s", codec_event_type_sesv2((enum sendring_event_type)type));
        for (uint32_t i = 0; i < replay->tags_count; i++)
                replay_print_quoted(stderr, "--tag", replay->tags[i].text);
        if (replay->destination.len > 0)
                replay_print_quoted(stderr, "--destination", replay->destination);
        if (replay->republish.rate > 0)
                (void)fprintf(stderr, " --rate %" PRIu64, replay->republish.rate);
        if (replay->dry_run)
                (void)fputs(" --dry-run", stderr);
        if (replay->json)
                (void)fputs(" --json", stderr);
        replay_print_quoted(stderr, "--settings", slice_of_text(replay->settings_path));
        (void)fprintf(stderr, " --after %s:%" PRIu64 "\n", replay_log_name(replay->flushed.log, name),
                      replay->flushed.sequence);
}

/* Each 2 s: waits until what was published is in the journal, and says so. */
static enum err_code replay_progress(struct replay *replay, struct err *reterr)
{
        uint64_t now_ns = clock_monotonic_ns();
        if (now_ns - replay->told_ns < REPLAY_TELL_NS)
                return ERR_OK;
        if (!replay->dry_run) {
                enum err_code code = republish_flush(&replay->republish, reterr);
                if (code != ERR_OK)
                        return code;
        }
        replay->flushed = replay->place;
        replay->told_ns = clock_monotonic_ns();
        char name[64];
        (void)fprintf(stderr,
                      "sendring replay: %" PRIu64 " events looked at, %" PRIu64 " match, %" PRIu64
                      " published; to go on from here: --after %s:%" PRIu64 "\n",
                      replay->counts.looked_at, replay->counts.matched, replay->counts.published,
                      replay_log_name(replay->flushed.log, name), replay->flushed.sequence);
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- one record */

/* ERR_BUSY: stopped before it. Others end the run. */
static enum err_code replay_record(struct replay *replay, const char *directory, const struct journal_record *record,
                                   struct err *reterr)
{
        struct replay_counts *counts = &replay->counts;
        struct codec_view view;
        struct republish_event event = {
                .replay = {.lane_id = record->origin.lane_id,
                           .lane_position = record->origin.lane_position,
                           .accepted_ms = record->origin.accepted_ms,
                           .destination = replay->destination},
        };
        if (record->entry.accepted_ms < replay->from_ms || record->entry.accepted_ms >= replay->to_ms ||
            (record->entry.flags & JOURNAL_FLAG_REJECTED) != 0)
                return ERR_OK;
        counts->looked_at++;
        if ((record->entry.flags & JOURNAL_FLAG_REPLAYED) != 0) {
                counts->replays++;
                return ERR_OK;
        }
        if (record->payload.len == 0) {
                counts->not_kept++;
                return ERR_OK;
        }
        /* A tool that publishes what is in the journal must not trust it. */
        if (codec_view_split(record->payload, &event.event, &event.replay.set) != ERR_OK ||
            codec_view_decode(event.event, &view, NULL) != ERR_OK || event.replay.set.len > LIMIT_NAME_BYTES_MAX) {
                counts->damaged++;
                return ERR_OK;
        }
        if (view.configuration_set.len == 0)
                view.configuration_set = event.replay.set;
        if (!replay_is_chosen(replay, &view))
                return ERR_OK;
        counts->matched++;
        if (republish_matches(&replay->republish, &event, &view) == 0) {
                counts->nowhere++;
                return ERR_OK;
        }
        if (replay->dry_run) {
                counts->published++;
                return ERR_OK;
        }
        enum err_code code = republish_publish(&replay->republish, &event, reterr);
        if (code == ERR_OK)
                counts->published++;
        if (code != ERR_TOO_BIG)
                return code;
        if (counts->too_big++ < REPLAY_TOLD_MAX)
                (void)fprintf(stderr, "%s: sequence %" PRIu64 ": %s\n", directory, record->sequence, reterr->text);
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- one log */

/* A place behind the end of its log is none that an earlier run named. `last`: the log's newest record, 0: none is
 * there.
 */
static enum err_code replay_check_after(struct replay *replay, uint64_t last, struct err *reterr)
{
        char name[64];
        if (last == 0 || last >= replay->after.sequence)
                return ERR_OK;
        replay->after_unknown = true;
        return err_set(reterr, ERR_NOT_FOUND,
                       "--after: log %s has no record %" PRIu64 ", its last one is %" PRIu64
                       ": give the place that the earlier run said",
                       replay_log_name(replay->after.log, name), replay->after.sequence, last);
}

static enum err_code replay_log(struct replay *replay, uint32_t number, const char *directory, struct err *reterr)
{
        struct journal_log log;
        enum err_code code = journal_log_open(&log, directory, reterr);
        uint64_t behind = number == replay->after.log ? replay->after.sequence : 0, last = 0;
        replay->place = (struct replay_place){.log = number, .sequence = behind};
        while (code == ERR_OK) {
                struct journal_record record;
                code = journal_log_next(&log, &record, reterr);
                if (code == ERR_CORRUPT) {
                        if (replay->counts.damaged++ < REPLAY_TOLD_MAX)
                                (void)fprintf(stderr, "%s: damaged at position %" PRIu64 "\n", directory,
                                              record.position);
                        code = ERR_OK;
                        continue;
                }
                if (code == ERR_OK)
                        last = record.sequence;
                if (code == ERR_OK && record.sequence > behind)
                        code = replay_record(replay, directory, &record, reterr);
                if (code != ERR_OK)
                        break;
                if (record.sequence > behind)
                        replay->place.sequence = record.sequence;
                code = replay_progress(replay, reterr);
                if (code == ERR_OK && republish_stop != 0)
                        code = err_set(reterr, ERR_BUSY, "stopped");
        }
        replay->counts.recycled += log.recycled;
        journal_log_close(&log);
        if (code == ERR_EMPTY)
                code = behind > 0 ? replay_check_after(replay, last, reterr) : ERR_OK;
        return code;
}

/* ---------------------------------------------------------------------------------------------- all of it */

static void replay_print(const struct replay *replay, bool whole)
{
        const struct replay_counts *counts = &replay->counts;
        if (replay->json) {
                printf("{\"looked_at\":%" PRIu64 ",\"matched\":%" PRIu64 ",\"%s\":%" PRIu64 ",\"nowhere\":%" PRIu64
                       ",\"not_kept\":%" PRIu64 ",\"replays\":%" PRIu64 ",\"too_big\":%" PRIu64 ",\"damaged\":%" PRIu64
                       ",\"recycled\":%" PRIu64 ",\"complete\":%s}\n",
                       counts->looked_at, counts->matched, replay->dry_run ? "would_publish" : "published",
                       counts->published, counts->nowhere, counts->not_kept, counts->replays, counts->too_big,
                       counts->damaged, counts->recycled, whole ? "true" : "false");
                return;
        }
        printf("%s %" PRIu64 " of %" PRIu64 " events that match (%" PRIu64 " looked at)\n",
               replay->dry_run ? "would publish" : "published", counts->published, counts->matched, counts->looked_at);
        if (counts->nowhere > 0)
                printf("%" PRIu64 " have no destination now\n", counts->nowhere);
        if (counts->not_kept > 0)
                printf("%" PRIu64 " went nowhere when they came: the journal has only their number\n",
                       counts->not_kept);
        if (counts->replays > 0)
                printf("%" PRIu64 " are replays themselves, and were passed over\n", counts->replays);
        if (counts->too_big > 0)
                printf("%" PRIu64 " are too big for a lane: raise router.lane_bytes_max\n", counts->too_big);
        if (counts->damaged > 0)
                printf("%" PRIu64 " are damaged on the disk\n", counts->damaged);
        if (counts->recycled > 0)
                printf("%" PRIu64 " records were recycled before they were read\n", counts->recycled);
}

/* Whether the journal has this log, and where. ERR_NOT_FOUND: it has not; others: that cannot be told. */
static enum err_code replay_look(const struct replay *replay, uint32_t number, char directory[PATH_MAX],
                                 struct err *reterr)
{
        struct router_journal wanted = {.shard = number / RULES_EVENT_TYPES_END,
                                        .type = number % RULES_EVENT_TYPES_END};
        if (!router_log_directory(&replay->republish.settings, &wanted, directory, PATH_MAX))
                return err_set(reterr, ERR_NOT_FOUND, "the path %s is too long",
                               replay->republish.settings.journal.directory);
        return journal_log_look(directory, reterr);
}

/* Before anything is published. */
static int replay_check_places(const struct replay *replay)
{
        char directory[PATH_MAX], name[64];
        uint32_t logs = 0;
        for (uint32_t number = 0; number < REPLAY_LOGS; number++) {
                struct err err = {.text = ""};
                enum err_code code = replay_look(replay, number, directory, &err);
                if (code != ERR_OK && code != ERR_NOT_FOUND) {
                        (void)fprintf(stderr, "sendring replay: %s%s\n", err.text, cmd_advice(&err));
                        return cmd_unread_status(&err);
                }
                logs += code == ERR_OK;
        }
        if (logs == 0) {
                (void)fprintf(stderr,
                              "sendring replay: there is no journal in %s: has a daemon run with these settings?\n",
                              replay->republish.settings.journal.directory);
                return CMD_EXIT_UNAVAILABLE;
        }
        if (!replay->after_given || replay_look(replay, replay->after.log, directory, NULL) == ERR_OK)
                return CMD_EXIT_OK;
        (void)fprintf(stderr,
                      "sendring replay: --after: there is no log %s in %s: give the place that the earlier run said\n",
                      replay_log_name(replay->after.log, name), replay->republish.settings.journal.directory);
        return CMD_EXIT_USAGE;
}

static int replay_run(struct replay *replay)
{
        int status = republish_load(&replay->republish, "replay", replay->settings_path);
        if (status != CMD_EXIT_OK)
                return status;
        if (replay->destination.len > 0 && !republish_knows_destination(&replay->republish, replay->destination)) {
                (void)fprintf(stderr, "sendring replay: no configuration set in force has a destination %.*s\n",
                              SLICE_PRINTF(replay->destination));
                return CMD_EXIT_FAILED;
        }
        status = replay_check_places(replay);
        if (status != CMD_EXIT_OK)
                return status;
        republish_catch_signals();
        if (!replay->dry_run)
                status = republish_attach(&replay->republish);
        if (status != CMD_EXIT_OK)
                return status;
        struct err err = {.text = ""};
        enum err_code code = ERR_OK;
        replay->told_ns = clock_monotonic_ns();
        replay->place = replay->flushed = replay->after;
        for (uint32_t number = 0; number < REPLAY_LOGS && code == ERR_OK; number++) {
                char directory[PATH_MAX];
                if (number >= replay->after.log && replay_look(replay, number, directory, NULL) == ERR_OK)
                        code = replay_log(replay, number, directory, &err);
        }
        if (replay->after_unknown) {
                (void)fprintf(stderr, "sendring replay: %s\n", err.text);
                return CMD_EXIT_USAGE;
        }
        /* Also when stopped: what was published is most probably in the journal already. */
        bool flushed = replay->dry_run;
        struct err flush_err = {.text = ""};
        if (!flushed && code == ERR_OK)
                flushed = republish_flush(&replay->republish, &flush_err) == ERR_OK;
        else if (!flushed)
                flushed = publisher_flush(&replay->republish.publisher, REPLAY_END_MS, &flush_err) == ERR_OK;
        if (flushed)
                replay->flushed = replay->place;
        replay_print(replay, code == ERR_OK && flushed);
        if (code != ERR_OK || !flushed) {
                bool stopped = republish_stop != 0;
                const struct err *why = code != ERR_OK ? &err : &flush_err;
                (void)fprintf(stderr, "sendring replay: %s%s\n", why->text, cmd_advice(why));
                replay_print_rest(replay);
                return stopped ? CMD_EXIT_FAILED : cmd_unread_status(why);
        }
        const struct replay_counts *counts = &replay->counts;
        return counts->too_big + counts->damaged + counts->recycled > 0 ? CMD_EXIT_FAILED : CMD_EXIT_OK;
}

/* ---------------------------------------------------------------------------------------------- options */

static bool replay_add_tag(struct replay *replay, const char *text, char *room, size_t room_bytes)
{
        struct slice value = slice_of_text(text);
        struct slice name = slice_cut(&value, '=');
        if (name.len == 0 || value.ptr == NULL || replay->tags_count == REPLAY_FILTERS_MAX)
                return false;
        int used = snprintf(room, room_bytes, "mail.tags.%.*s", SLICE_PRINTF(name));
        if (used < 0 || (size_t)used >= room_bytes)
                return false;
        struct replay_tag *tag = &replay->tags[replay->tags_count++];
        tag->text = slice_of_text(text);
        tag->value = value;
        (void)codec_field_find(slice_of_text(room), &tag->field, NULL); /* usable whatever it is */
        return true;
}

static bool replay_after(const char *text, struct replay_place *ret_place)
{
        struct slice sequence = slice_of_text(text), log = slice_cut(&sequence, ':');
        char name[64];
        if (!slice_to_u64(sequence, UINT64_MAX, &ret_place->sequence))
                return false;
        for (ret_place->log = 0; ret_place->log < REPLAY_LOGS; ret_place->log++)
                if (slice_equal(log, slice_of_text(replay_log_name(ret_place->log, name))))
                        return true;
        return false;
}

int cmd_replay(int argc, char **argv)
{
        static const struct option options[] = {
                {"from", required_argument, NULL, 'F'},
                {"to", required_argument, NULL, 'O'},
                {"set", required_argument, NULL, 'S'},
                {"type", required_argument, NULL, 'T'},
                {"tag", required_argument, NULL, 'G'},
                {"destination", required_argument, NULL, 'D'},
                {"rate", required_argument, NULL, 'N'},
                {"after", required_argument, NULL, 'A'},
                {"dry-run", no_argument, NULL, 'Y'},
                {"settings", required_argument, NULL, 's'},
                {"json", no_argument, NULL, 'j'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        static char names[REPLAY_FILTERS_MAX][300];
        const int64_t now_ms = clock_realtime_ms();
        struct replay replay = {.settings_path = "/etc/sendring/sendring.yaml", .to_ms = now_ms};
        enum sendring_event_type type;
        bool from_given = false;
        opterr = 0;
        for (int option = getopt_long(argc, argv, ":s:jh", options, NULL); option != -1;
             option = getopt_long(argc, argv, ":s:jh", options, NULL)) {
                switch (option) {
                case 'F':
                        from_given = true;
                        if (!cmd_parse_time(optarg, now_ms, &replay.from_ms))
                                return replay_usage("--from must be " CMD_TIME_HELP);
                        break;
                case 'O':
                        if (!cmd_parse_time(optarg, now_ms, &replay.to_ms))
                                return replay_usage("--to must be " CMD_TIME_HELP);
                        break;
                case 'S':
                        if (replay.sets_count == REPLAY_FILTERS_MAX)
                                return replay_usage("at most 16 times --set");
                        if (optarg[0] == '\0' || strlen(optarg) > LIMIT_NAME_BYTES_MAX)
                                return replay_usage("--set must be a configuration set's name, of 1 to 64 bytes");
                        replay.sets[replay.sets_count++] = slice_of_text(optarg);
                        break;
                case 'T':
                        type = codec_event_type_parse(slice_of_text(optarg));
                        if (type == 0)
                                return replay_usage("--type must be an event type, such as Bounce");
                        replay.types |= 1u << (unsigned)type;
                        break;
                case 'G':
                        if (replay.tags_count == REPLAY_FILTERS_MAX ||
                            !replay_add_tag(&replay, optarg, names[replay.tags_count], sizeof(names[0])))
                                return replay_usage("--tag must be NAME=VALUE, at most 16 times");
                        break;
                case 'D':
                        replay.destination = slice_of_text(optarg);
                        if (replay.destination.len == 0 || replay.destination.len > RING_REPLAY_DESTINATION_BYTES_MAX)
                                return replay_usage("--destination must have 1 to 511 bytes");
                        break;
                case 'N':
                        if (!slice_to_u64(slice_of_text(optarg), 1000000000, &replay.republish.rate) ||
                            replay.republish.rate == 0)
                                return replay_usage("--rate must be events a second, 1 or more");
                        break;
                case 'A':
                        if (!replay_after(optarg, &replay.after))
                                return replay_usage("--after must be LOG:SEQUENCE, as an earlier run said");
                        replay.after_given = true;
                        break;
                case 'Y':
                        replay.dry_run = true;
                        break;
                case 's':
                        replay.settings_path = optarg;
                        break;
                case 'j':
                        replay.json = true;
                        break;
                case 'h':
                        (void)fputs(replay_help, stdout);
                        return CMD_EXIT_OK;
                default:
                        return cmd_option_refused("replay", option, options, argv);
                }
        }
        if (optind < argc) {
                (void)fprintf(stderr, "sendring replay: unexpected argument '%s'; `sendring replay --help` explains\n",
                              argv[optind]);
                return CMD_EXIT_USAGE;
        }
        if (!from_given)
                return replay_usage("from when on? --from 0 takes everything that is there");
        if (replay.from_ms >= replay.to_ms)
                return replay_usage("--from must be before --to");
        int status = replay_run(&replay);
        republish_release(&replay.republish);
        if ((fflush(stdout) != 0 || ferror(stdout) != 0) && status == CMD_EXIT_OK)
                status = CMD_EXIT_IO;
        return status;
}
