/* sendring dlq: the events that a destination can never take. What is replayed goes through a lane like any other event
 * and is accepted anew; it is marked once it is in the journal, so that a kill in between replays it again and never
 * loses it. */
#include "base/clock.h"
#include "tools/cmd.h"
#include "tools/dlq_store.h"
#include "tools/republish.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Replayed and then marked together: so many may come twice after a kill. */
#define DLQ_BATCH    64u
#define DLQ_BATCH_NS (200 * CLOCK_NS_PER_MS)
/* Reasons why one could not be replayed that are said one by one. */
#define DLQ_TOLD_MAX 20u

static const char dlq_help[] =
        "usage: sendring dlq list [FILTERS] [--json]\n"
        "       sendring dlq show ID... [--json]\n"
        "       sendring dlq replay ID... | --all | FILTERS [--destination DESTINATION] [--rate N]\n"
        "       sendring dlq drop ID... | --all | FILTERS | --damaged [--yes]\n"
        "\n"
        "Dead letters: events that a destination can never take, kept with the cause.\n"
        "  list    id, time, destination, type and cause of each\n"
        "  show    one with the whole event\n"
        "  replay  publishes the event again, for the destination that could not take it or for another; it is "
        "accepted\n"
        "          anew, with its event id, and is not listed any more. At least once: killed, it replays up to 64 "
        "again\n"
        "  drop    gives them up\n"
        "\n"
        "  -s, --settings FILE           the daemon's settings (default /etc/sendring/sendring.yaml)\n"
        "      --all                     every dead letter\n"
        "      --damaged                 drop: the lines that are damaged, and no dead letters any more\n"
        "      --refused-by DESTINATION  filter: the event destination's name, or the target as sendring ledger prints "
        "it\n"
        "      --type TYPE               filter: Bounce, RENDERING_FAILURE ...\n"
        "      --set SET                 filter: the configuration set\n"
        "      --since TIME              filter: dead since " CMD_TIME_HELP "\n"
        "      --destination DESTINATION list, drop: as --refused-by; replay: who gets them (a name or a target),\n"
        "                                default the target that could not take them\n"
        "      --rate N                  replay: at most N events a second\n"
        "      --yes                     drop: does not ask\n"
        "  -j, --json                    list: a JSON object a line; show: the line as it is, with the msgpack\n"
        "  -h, --help                    this text\n"
        "\n"
        "Exit status: 0 all well; 1 an ID is not there, one could not be replayed, a line is damaged, or no set in\n"
        "force has the destination; 64 usage; 69 no daemon, none has run, or another sendring dlq is at work; 74 a\n"
        "file cannot be read or written; 78 configuration.\n";

enum dlq_verb { DLQ_LIST, DLQ_SHOW, DLQ_REPLAY, DLQ_DROP };

struct dlq {
        enum dlq_verb verb;
        const char *settings_path;
        bool all, json, yes, damaged;
        struct slice refused_by, destination, set;
        enum sendring_event_type type; /* 0: any */
        bool has_since;
        int64_t since_ms;
        uint64_t rate;
        struct dead_letter_id *ids; /* ids_count of them; 0: by filters */
        bool *ids_found;
        size_t ids_count;

        struct dlq_store *store;
        struct republish republish;
        uint64_t chosen, replayed, dropped, failed, counted;
        uint64_t damaged_bytes;
        bool whole; /* all that is there was looked at */
        struct dlq_mark marks[DLQ_BATCH];
        size_t marks_count;
        uint64_t batch_ns; /* when the first of them was published */
        uint8_t *event;    /* of one letter */
        int status;
};

static int dlq_usage(const char *text)
{
        (void)fprintf(stderr, "sendring dlq: %s; `sendring dlq --help` explains\n", text);
        return CMD_EXIT_USAGE;
}

/* ---------------------------------------------------------------------------------------------- which */

static bool dlq_is_chosen(struct dlq *dlq, const struct dead_letter *letter)
{
        bool by_id = dlq->ids_count == 0;
        for (size_t i = 0; i < dlq->ids_count; i++) {
                const struct dead_letter_id *id = &dlq->ids[i];
                if (id->worker != letter->id.worker || id->number != letter->id.number ||
                    id->offset != letter->id.offset)
                        continue;
                dlq->ids_found[i] = true;
                by_id = true;
        }
        return by_id && (dlq->type == 0 || dlq->type == letter->type) &&
               (dlq->set.len == 0 || slice_equal(dlq->set, letter->set)) &&
               (!dlq->has_since || letter->time_ms >= dlq->since_ms) &&
               (dlq->refused_by.len == 0 || slice_equal(dlq->refused_by, letter->destination) ||
                slice_equal(dlq->refused_by, letter->target));
}

static struct slice dlq_destination_of(const struct dead_letter *letter)
{
        return letter->destination.len > 0 ? letter->destination : letter->target;
}

/* ---------------------------------------------------------------------------------------------- list, show */

static void dlq_print_member(const char *name, struct slice text, bool or_null)
{
        printf(",\"%s\":", name);
        if (text.len == 0 && or_null)
                printf("null");
        else
                cmd_print_json_text((const char *)text.ptr, text.len);
}

/* Whether there is anybody to print for. */
static bool dlq_prints_on(void)
{
        return republish_stop == 0 && ferror(stdout) == 0;
}

static bool dlq_list_one(void *context, const struct dead_letter *letter, struct slice line)
{
        struct dlq *dlq = context;
        char id[DEAD_LETTER_ID_BYTES_MAX];
        uint8_t time[32];
        (void)line;
        if (!dlq_is_chosen(dlq, letter))
                return true;
        size_t time_bytes = codec_time_write(letter->time_ms, time);
        const char *type = codec_event_type_name(letter->type);
        dead_letter_id_write(&letter->id, id);
        if (dlq->json) {
                printf("{\"id\":\"%s\",\"time\":\"%.*s\"", id, (int)time_bytes, (const char *)time);
                dlq_print_member("cause", letter->cause, false);
                dlq_print_member("destination", letter->destination, true);
                dlq_print_member("target", letter->target, false);
                dlq_print_member("set", letter->set, true);
                dlq_print_member("type", slice_of_text(type), false);
                printf(",\"event_id\":\"%016" PRIx64 "-%016" PRIx64 "\",\"accepted_ms\":%" PRId64 "}\n",
                       letter->lane_id, letter->lane_position, letter->accepted_ms);
        } else {
                if (dlq->chosen == 0)
                        printf("%-16s %-24s %-20s %-18s %s\n", "id", "time", "destination", "type", "cause");
                printf("%-16s %-24.*s %-20.*s %-18s %.*s\n", id, (int)time_bytes, (const char *)time,
                       SLICE_PRINTF(dlq_destination_of(letter)), type, SLICE_PRINTF(letter->cause));
        }
        dlq->chosen++;
        return dlq_prints_on();
}

static bool dlq_is_json(struct slice line)
{
        struct codec_json_reader reader;
        enum codec_json_token token;
        codec_json_reader_init(&reader, line);
        do
                token = codec_json_next(&reader);
        while (token != CODEC_JSON_END && token != CODEC_JSON_ERROR);
        return token == CODEC_JSON_END;
}

/* Prints the line in an indented form, without what is for machines. Numbers and texts as they stand: read into values
 * and written again, they would be others. */
static void dlq_print_line(struct slice line)
{
        struct codec_json_reader reader;
        bool first = true, behind_key = true; /* nothing is to be parted from what begins it all */
        codec_json_reader_init(&reader, line);
        for (;;) {
                enum codec_json_token token = codec_json_next(&reader);
                bool opens = token == CODEC_JSON_OBJECT_BEGIN || token == CODEC_JSON_ARRAY_BEGIN;
                bool closes = token == CODEC_JSON_OBJECT_END || token == CODEC_JSON_ARRAY_END;
                bool quoted = token == CODEC_JSON_KEY || token == CODEC_JSON_STRING;
                if (token == CODEC_JSON_END || token == CODEC_JSON_ERROR)
                        break; /* dlq_is_json() */
                if (token == CODEC_JSON_KEY && reader.depth == 1 &&
                    (slice_equal(reader.value, SLICE("msgpack")) || slice_equal(reader.value, SLICE("crc32c")))) {
                        (void)codec_json_skip(&reader); /* as above */
                        continue;
                }
                if (!behind_key && !(closes && first))
                        printf("%s\n%*s", closes || first ? "" : ",", (int)(2 * (reader.depth - (opens ? 1 : 0))), "");
                if (quoted)
                        printf("\"%.*s\"%s", SLICE_PRINTF(reader.value), token == CODEC_JSON_KEY ? ": " : "");
                else if (token == CODEC_JSON_NUMBER)
                        printf("%.*s", SLICE_PRINTF(reader.value));
                else if (opens || closes)
                        (void)putchar(line.ptr[reader.at - 1]);
                else
                        printf("%s", token == CODEC_JSON_NULL ? "null" : token == CODEC_JSON_TRUE ? "true" : "false");
                first = opens;
                behind_key = token == CODEC_JSON_KEY;
        }
        (void)putchar('\n');
}

static bool dlq_show_one(void *context, const struct dead_letter *letter, struct slice line)
{
        struct dlq *dlq = context;
        if (!dlq_is_chosen(dlq, letter))
                return true;
        dlq->chosen++;
        if (!dlq->json && dlq_is_json(line)) {
                dlq_print_line(line);
                return dlq_prints_on();
        }
        if (!dlq->json) {
                char id[DEAD_LETTER_ID_BYTES_MAX];
                dead_letter_id_write(&letter->id, id);
                (void)fprintf(stderr, "%s: its line is no JSON, and shown as it stands\n", id);
                dlq->failed++;
        }
        (void)fwrite(line.ptr, 1, line.len, stdout); /* checked once by ferror() */
        (void)fputc('\n', stdout);
        return dlq_prints_on();
}

/* ---------------------------------------------------------------------------------------------- replay, drop */

/* What was published is in the journal, then it is marked. */
static bool dlq_settle(struct dlq *dlq, bool dropped)
{
        struct err err = {.text = ""};
        if (dlq->marks_count == 0)
                return true;
        enum err_code code = dropped ? ERR_OK : republish_flush(&dlq->republish, &err);
        if (code == ERR_OK) {
                code = dlq_store_settle(dlq->store, dlq->marks, dlq->marks_count, dropped, &err);
                if (code != ERR_OK)
                        dlq->status = CMD_EXIT_IO;
        } else {
                dlq->status = code == ERR_BUSY ? CMD_EXIT_FAILED : CMD_EXIT_UNAVAILABLE;
        }
        if (code != ERR_OK) {
                (void)fprintf(stderr, "sendring dlq: %s; %zu dead letters %s\n", err.text, dlq->marks_count,
                              dropped ? "were not dropped" : "may be in the journal, and will be replayed again");
                return false;
        }
        *(dropped ? &dlq->dropped : &dlq->replayed) += dlq->marks_count;
        dlq->marks_count = 0;
        return true;
}

static void dlq_refuse(struct dlq *dlq, const struct dead_letter *letter, const char *why)
{
        char id[DEAD_LETTER_ID_BYTES_MAX];
        dead_letter_id_write(&letter->id, id);
        if (dlq->failed++ < DLQ_TOLD_MAX)
                (void)fprintf(stderr, "%s: not replayed: %s\n", id, why);
}

static bool dlq_replay_one(void *context, const struct dead_letter *letter, struct slice line)
{
        struct dlq *dlq = context;
        struct codec_view view;
        struct err err = {.text = ""};
        char why[ERR_TEXT_BYTES_MAX + 100];
        (void)line;
        if (!dlq_is_chosen(dlq, letter))
                return republish_stop == 0;
        dlq->chosen++;
        struct republish_event event = {
                .replay = {.lane_id = letter->lane_id,
                           .lane_position = letter->lane_position,
                           .accepted_ms = letter->accepted_ms,
                           .destination = dlq->destination.len > 0 ? dlq->destination : letter->target,
                           .set = letter->set},
        };
        if (!dead_letter_event(letter, dlq->event, &event.event) ||
            codec_view_decode(event.event, &view, &err) != ERR_OK) {
                (void)snprintf(why, sizeof(why), "its msgpack is no event: %s",
                               err.text[0] != '\0' ? err.text : "no base64"); /* fits */
                dlq_refuse(dlq, letter, why);
                return true;
        }
        if (republish_matches(&dlq->republish, &event, &view) == 0) {
                (void)snprintf(why, sizeof(why),
                               "set %.*s sends it to no %.100s now: see sendring explain, or give --destination",
                               SLICE_PRINTF(slice_head(view.configuration_set, 64)),
                               dlq->destination.len > 0 ? (const char *)dlq->destination.ptr
                                                        : "destination with that target"); /* fits */
                dlq_refuse(dlq, letter, why);
                return true;
        }
        enum err_code code = republish_publish(&dlq->republish, &event, &err);
        if (code == ERR_BUSY)
                return false;
        if (code == ERR_TOO_BIG) {
                dlq_refuse(dlq, letter, err.text);
                return true;
        }
        if (code != ERR_OK) {
                (void)fprintf(stderr, "sendring dlq: %s\n", err.text);
                dlq->status = CMD_EXIT_UNAVAILABLE;
                return false;
        }
        uint64_t now_ns = clock_monotonic_ns();
        if (dlq->marks_count == 0)
                dlq->batch_ns = now_ns;
        dlq->marks[dlq->marks_count++] = (struct dlq_mark){.id = letter->id, .crc = letter->crc};
        if (dlq->marks_count < DLQ_BATCH && now_ns - dlq->batch_ns < DLQ_BATCH_NS)
                return true;
        return dlq_settle(dlq, false);
}

static bool dlq_count_one(void *context, const struct dead_letter *letter, struct slice line)
{
        struct dlq *dlq = context;
        (void)line;
        dlq->counted += dlq_is_chosen(dlq, letter);
        return true;
}

static bool dlq_count_damaged(void *context, const struct dlq_mark *mark, uint64_t bytes)
{
        struct dlq *dlq = context;
        (void)mark;
        dlq->counted++;
        dlq->damaged_bytes += bytes;
        return true;
}

static bool dlq_drop_mark(struct dlq *dlq, const struct dlq_mark *mark)
{
        dlq->chosen++;
        dlq->marks[dlq->marks_count++] = *mark;
        return dlq->marks_count < DLQ_BATCH || dlq_settle(dlq, true);
}

static bool dlq_drop_damaged(void *context, const struct dlq_mark *mark, uint64_t bytes)
{
        struct dlq *dlq = context;
        (void)bytes;
        return dlq->chosen < dlq->counted && republish_stop == 0 && dlq_drop_mark(dlq, mark);
}

static bool dlq_drop_one(void *context, const struct dead_letter *letter, struct slice line)
{
        struct dlq *dlq = context;
        (void)line;
        /* Not more than the person was asked about: others may have come since. */
        if (dlq->chosen == dlq->counted || republish_stop != 0)
                return false;
        return !dlq_is_chosen(dlq, letter) ||
               dlq_drop_mark(dlq, &(struct dlq_mark){.id = letter->id, .crc = letter->crc});
}

/* Asks the person. */
static bool dlq_confirm(const struct dlq *dlq)
{
        char answer[16];
        if (dlq->yes || dlq->counted == 0)
                return true;
        printf("Drop %" PRIu64 " %s%s", dlq->counted, dlq->damaged ? "damaged line" : "dead letter",
               dlq->counted == 1 ? "" : "s");
        if (dlq->damaged)
                printf(", %" PRIu64 " bytes,", dlq->damaged_bytes);
        printf(" for good? [y/N] ");
        (void)fflush(stdout); /* a question that cannot be read has no answer */
        return fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

/* ---------------------------------------------------------------------------------------------- the command */

static int dlq_store_failed(enum err_code code, const struct err *err)
{
        (void)fprintf(stderr, "sendring dlq: %s%s\n", err->text, cmd_advice(err));
        return code == ERR_LOCKED ? CMD_EXIT_UNAVAILABLE : CMD_EXIT_IO;
}

static int dlq_carry_out(struct dlq *dlq)
{
        struct err err = {.text = ""};
        enum err_code code = ERR_OK;
        switch (dlq->verb) {
        case DLQ_LIST:
                code = dlq_store_each(dlq->store, dlq_list_one, dlq, &err);
                break;
        case DLQ_SHOW:
                code = dlq_store_each(dlq->store, dlq_show_one, dlq, &err);
                break;
        case DLQ_REPLAY:
                dlq->status = republish_attach(&dlq->republish);
                if (dlq->status != CMD_EXIT_OK)
                        return dlq->status;
                code = dlq_store_each(dlq->store, dlq_replay_one, dlq, &err);
                if (dlq->status == CMD_EXIT_OK)
                        (void)dlq_settle(dlq, false); /* what it says is in the status */
                break;
        case DLQ_DROP:
                code = dlq->damaged ? dlq_store_each_damaged(dlq->store, dlq_count_damaged, dlq, &err)
                                    : dlq_store_each(dlq->store, dlq_count_one, dlq, &err);
                if (code == ERR_OK && !dlq_confirm(dlq)) {
                        printf("nothing was dropped\n");
                        return CMD_EXIT_FAILED;
                }
                if (code == ERR_OK && dlq->counted > 0)
                        code = dlq->damaged ? dlq_store_each_damaged(dlq->store, dlq_drop_damaged, dlq, &err)
                                            : dlq_store_each(dlq->store, dlq_drop_one, dlq, &err);
                if (dlq->status == CMD_EXIT_OK)
                        (void)dlq_settle(dlq, true); /* as above */
                break;
        }
        if (code != ERR_OK)
                return dlq_store_failed(code, &err);
        dlq->whole = dlq->status == CMD_EXIT_OK && dlq_prints_on();
        return dlq->status;
}

static void dlq_tell(const struct dlq *dlq)
{
        const char *stopped = republish_stop != 0 ? "; stopped: the same command goes on" : "";
        if (dlq->verb == DLQ_LIST && !dlq->json && dlq->whole)
                printf("%" PRIu64 " dead letter%s\n", dlq->chosen, dlq->chosen == 1 ? "" : "s");
        if (dlq->verb == DLQ_REPLAY && dlq->republish.attached)
                printf("replayed %" PRIu64 ", not replayed %" PRIu64 "%s\n", dlq->replayed,
                       dlq->failed + dlq->marks_count, stopped);
        if (dlq->verb == DLQ_DROP)
                printf("dropped %" PRIu64 "%s%s\n", dlq->dropped,
                       !dlq->damaged       ? ""
                       : dlq->dropped == 1 ? " damaged line"
                                           : " damaged lines",
                       stopped);
}

/* What nobody can replay, filter or name. Returns whether it is still there. */
static bool dlq_tell_damaged(const struct dlq *dlq)
{
        uint64_t damaged = dlq_store_damaged(dlq->store) - (dlq->damaged ? dlq->dropped : 0);
        if (damaged > 0)
                (void)fprintf(stderr,
                              "sendring dlq: damaged lines: %" PRIu64 "; they keep their files: save what can be "
                              "saved, then `sendring dlq drop --damaged`\n",
                              damaged);
        return damaged > 0;
}

static int dlq_run(struct dlq *dlq)
{
        char directory[PATH_MAX];
        struct err err = {.text = ""};
        bool writing = dlq->verb == DLQ_REPLAY || dlq->verb == DLQ_DROP;
        int status = republish_load(&dlq->republish, "dlq", dlq->settings_path);
        if (status != CMD_EXIT_OK)
                return status;
        dlq->republish.rate = dlq->rate;
        if (dlq->verb == DLQ_REPLAY && dlq->destination.len > 0 &&
            !republish_knows_destination(&dlq->republish, dlq->destination)) {
                (void)fprintf(stderr, "sendring dlq: no configuration set in force has a destination %.*s\n",
                              SLICE_PRINTF(dlq->destination));
                return CMD_EXIT_FAILED;
        }
        const char *state = dlq->republish.settings.state_directory;
        if (access(state, F_OK) < 0 && errno == ENOENT) {
                (void)fprintf(stderr, "sendring dlq: there is no %s: has a daemon run with these settings?\n", state);
                return CMD_EXIT_UNAVAILABLE;
        }
        int used = snprintf(directory, sizeof(directory), "%s/dead-letter", state);
        if (used < 0 || (size_t)used >= sizeof(directory))
                return CMD_EXIT_CONFIG;
        enum err_code code = dlq_store_open(directory, writing, &dlq->store, &err);
        if (code != ERR_OK)
                return dlq_store_failed(code, &err);
        republish_catch_signals();
        status = dlq_carry_out(dlq);
        /* Also what an earlier one has settled, and was killed. */
        if (writing)
                dlq_store_sweep(dlq->store);
        dlq_tell(dlq);
        bool damaged = dlq_tell_damaged(dlq);
        /* Of those behind the place where it ended nobody knows. */
        for (size_t i = 0; i < dlq->ids_count && dlq->whole; i++) {
                char id[DEAD_LETTER_ID_BYTES_MAX];
                if (dlq->ids_found[i])
                        continue;
                dead_letter_id_write(&dlq->ids[i], id);
                (void)fprintf(stderr, "sendring dlq: there is no dead letter %s, or it was replayed or dropped\n", id);
                dlq->failed++;
        }
        if (fflush(stdout) != 0 || ferror(stdout) != 0)
                status = CMD_EXIT_IO;
        if (status == CMD_EXIT_OK && (dlq->failed > 0 || damaged || republish_stop != 0))
                status = CMD_EXIT_FAILED;
        return status;
}

/* The verb and the IDs behind it. */
static int dlq_arguments(struct dlq *dlq, int argc, char **argv)
{
        static const char *const verbs[] = {
                [DLQ_LIST] = "list", [DLQ_SHOW] = "show", [DLQ_REPLAY] = "replay", [DLQ_DROP] = "drop"};
        size_t verb = 0;
        if (argc == 0)
                return dlq_usage("list, show, replay or drop?");
        while (verb < sizeof(verbs) / sizeof(verbs[0]) && strcmp(argv[0], verbs[verb]) != 0)
                verb++;
        if (verb == sizeof(verbs) / sizeof(verbs[0])) {
                (void)fprintf(stderr,
                              "sendring dlq: '%s' is not list, show, replay or drop; `sendring dlq --help` explains\n",
                              argv[0]);
                return CMD_EXIT_USAGE;
        }
        dlq->verb = (enum dlq_verb)verb;
        dlq->ids_count = (size_t)argc - 1;
        dlq->ids = calloc((size_t)argc, sizeof(*dlq->ids));
        dlq->ids_found = calloc((size_t)argc, sizeof(*dlq->ids_found));
        if (dlq->ids == NULL || dlq->ids_found == NULL)
                return CMD_EXIT_IO;
        for (size_t i = 0; i < dlq->ids_count; i++) {
                if (dead_letter_id_parse(slice_of_text(argv[i + 1]), &dlq->ids[i]))
                        continue;
                (void)fprintf(stderr,
                              "sendring dlq: '%s' is no ID of a dead letter, such as 0-1-1532; `sendring dlq --help` "
                              "explains\n",
                              argv[i + 1]);
                return CMD_EXIT_USAGE;
        }
        if (dlq->verb != DLQ_REPLAY && dlq->destination.len > 0) {
                if (dlq->refused_by.len > 0)
                        return dlq_usage("--destination and --refused-by are the same here");
                dlq->refused_by = dlq->destination;
        }
        if (dlq->verb != DLQ_REPLAY && dlq->rate > 0)
                return dlq_usage("--rate is for replay");
        if (dlq->verb != DLQ_DROP && dlq->yes)
                return dlq_usage("--yes is for drop");
        if ((dlq->verb == DLQ_REPLAY || dlq->verb == DLQ_DROP) && dlq->json)
                return dlq_usage("--json is for list and show");
        bool filtered = dlq->refused_by.len > 0 || dlq->type != 0 || dlq->set.len > 0 || dlq->has_since;
        if (dlq->ids_count > 0 && (filtered || dlq->all))
                return dlq_usage("IDs, or --all, or filters");
        if (filtered && dlq->all)
                return dlq_usage("--all, or filters: together they say two things");
        if (dlq->verb != DLQ_DROP && dlq->damaged)
                return dlq_usage("--damaged is for drop");
        if (dlq->damaged && (dlq->all || filtered || dlq->ids_count > 0))
                return dlq_usage("--damaged stands alone: letters are dropped by IDs, --all, or filters");
        if (dlq->verb == DLQ_LIST && dlq->ids_count > 0)
                return dlq_usage("list takes filters; `sendring dlq show` shows one");
        if (dlq->verb == DLQ_SHOW && dlq->ids_count == 0)
                return dlq_usage("show wants the IDs that `sendring dlq list` prints");
        if ((dlq->verb == DLQ_REPLAY || dlq->verb == DLQ_DROP) && dlq->ids_count == 0 && !filtered && !dlq->all &&
            !dlq->damaged)
                return dlq_usage("which ones: IDs, --all, or filters");
        if (dlq->verb == DLQ_DROP && !dlq->yes && isatty(STDIN_FILENO) == 0)
                return dlq_usage("nobody is there to ask: drop wants --yes");
        return CMD_EXIT_OK;
}

int cmd_dlq(int argc, char **argv)
{
        static const struct option options[] = {
                {"settings", required_argument, NULL, 's'},
                {"all", no_argument, NULL, 'A'},
                {"refused-by", required_argument, NULL, 'R'},
                {"type", required_argument, NULL, 'T'},
                {"set", required_argument, NULL, 'S'},
                {"since", required_argument, NULL, 'F'},
                {"destination", required_argument, NULL, 'D'},
                {"rate", required_argument, NULL, 'N'},
                {"yes", no_argument, NULL, 'Y'},
                {"damaged", no_argument, NULL, 'X'},
                {"json", no_argument, NULL, 'j'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        struct dlq dlq = {.settings_path = "/etc/sendring/sendring.yaml"};
        opterr = 0;
        for (int option = getopt_long(argc, argv, ":s:jh", options, NULL); option != -1;
             option = getopt_long(argc, argv, ":s:jh", options, NULL)) {
                switch (option) {
                case 's':
                        dlq.settings_path = optarg;
                        break;
                case 'A':
                        dlq.all = true;
                        break;
                case 'R':
                        dlq.refused_by = slice_of_text(optarg);
                        if (dlq.refused_by.len == 0 || dlq.refused_by.len > RING_REPLAY_DESTINATION_BYTES_MAX)
                                return dlq_usage("--refused-by must have 1 to 511 bytes");
                        break;
                case 'T':
                        dlq.type = codec_event_type_parse(slice_of_text(optarg));
                        if (dlq.type == 0)
                                return dlq_usage("--type must be an event type, such as Bounce");
                        break;
                case 'S':
                        dlq.set = slice_of_text(optarg);
                        if (dlq.set.len == 0 || dlq.set.len > LIMIT_NAME_BYTES_MAX)
                                return dlq_usage("--set must be a configuration set's name, of 1 to 64 bytes");
                        break;
                case 'F':
                        dlq.has_since = true;
                        if (!cmd_parse_time(optarg, clock_realtime_ms(), &dlq.since_ms))
                                return dlq_usage("--since must be " CMD_TIME_HELP);
                        break;
                case 'D':
                        dlq.destination = slice_of_text(optarg);
                        if (dlq.destination.len == 0 || dlq.destination.len > RING_REPLAY_DESTINATION_BYTES_MAX)
                                return dlq_usage("--destination must have 1 to 511 bytes");
                        break;
                case 'N':
                        if (!slice_to_u64(slice_of_text(optarg), 1000000000, &dlq.rate) || dlq.rate == 0)
                                return dlq_usage("--rate must be events a second, 1 or more");
                        break;
                case 'Y':
                        dlq.yes = true;
                        break;
                case 'X':
                        dlq.damaged = true;
                        break;
                case 'j':
                        dlq.json = true;
                        break;
                case 'h':
                        (void)fputs(dlq_help, stdout);
                        return CMD_EXIT_OK;
                default:
                        return cmd_option_refused("dlq", option, options, argv);
                }
        }
        int status = dlq_arguments(&dlq, argc - optind, argv + optind);
        if (status == CMD_EXIT_OK) {
                dlq.event = malloc(LIMIT_EVENT_BYTES_MAX);
                status = dlq.event == NULL ? CMD_EXIT_IO : dlq_run(&dlq);
                republish_release(&dlq.republish);
        }
        dlq_store_close(dlq.store);
        free(dlq.event);
        free(dlq.ids);
        free(dlq.ids_found);
        return status;
}
