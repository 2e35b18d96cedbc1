/* `sendring decode`: encoded events back into SES's JSON, from files of concatenated events or from a router's journal,
 * read beside the running router without a lock. */
#include "base/clock.h"
#include "base/limits.h"
#include "codecs/codec.h"
#include "journal/journal.h"
#include "router/router.h"
#include "rules/rules.h"
#include "tools/cmd.h"
#include "tools/journal_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DECODE_POLL_NS    (500 * CLOCK_NS_PER_MS)
#define DECODE_OPEN_TRIES 50

struct decode {
        bool journal, follow;
        const char *settings_path, *journal_path;
        uint64_t limit; /* UINT64_MAX: none */
        uint64_t printed, malformed;
        bool out_of_room; /* standard output is gone */
        struct rules_settings settings;
        bool settings_loaded;
        struct codec_json_options json_options;
        uint8_t *json; /* of one event */
};

static volatile sig_atomic_t decode_stop;

static void decode_on_signal(int signal_number)
{
        (void)signal_number;
        decode_stop = 1;
}

static const char decode_help[] =
        "usage: sendring decode [--from msgpack] [OPTIONS] [FILE...]\n"
        "       sendring decode --from journal [--settings FILE | --journal DIRECTORY] [OPTIONS]\n"
        "\n"
        "Prints events as SES's JSON, one a line.\n"
        "  msgpack  FILEs (default: standard input) hold encoded events, one behind the other\n"
        "  journal  the router's journal, beside a running router or without one; an object for each record:\n"
        "           shard, sequence, lane, accepted, type, routes (the delivery targets), replayed, event\n"
        "           (null where no destination wants it: then it is only counted)\n"
        "\n"
        "  --settings FILE      the daemon's settings: where the journal is, and the account for sourceArn\n"
        "                       (journal: /etc/sendring/sendring.yaml; msgpack: none)\n"
        "  --journal DIRECTORY  the journal itself: one shard's directory, or that with all of them\n"
        "  --limit N            stop after N events\n"
        "  --follow             journal: go on as events arrive\n"
        "\n"
        "Exit status: 0 all well; 1 something was malformed (named on standard error), the rest is printed; 64 usage;\n"
        "69 no journal; 74 a file or the journal cannot be read; 78 configuration.\n";

/* The end of one printed line. False: enough. */
static bool decode_printed(struct decode *decode)
{
        decode->printed++;
        if (ferror(stdout) != 0)
                decode->out_of_room = true;
        return decode->printed < decode->limit && !decode->out_of_room && decode_stop == 0;
}

/* ---------------------------------------------------------------------------------------------- msgpack */

/* Bytes of the head of a msgpack value, and what follows it: `ret_bytes` of content, `ret_values` values. 0: there is
 * no such first byte. More than `s.len`: the head is cut. */
static size_t decode_head(struct slice s, uint64_t *ret_bytes, uint64_t *ret_values)
{
        /* Of 0xc0..0xdf: bytes of the number that follows, what it counts, and how much there is anyway. */
        static const struct {
                uint8_t width;
                char counts; /* b bytes, v values, p pairs, - nothing, ! no such byte */
                uint8_t bytes;
        } heads[32] = {
                {0, '-', 0},  {0, '!', 0}, {0, '-', 0}, {0, '-', 0}, {1, 'b', 0}, {2, 'b', 0}, {4, 'b', 0}, {1, 'b', 1},
                {2, 'b', 1},  {4, 'b', 1}, {0, '-', 4}, {0, '-', 8}, {0, '-', 1}, {0, '-', 2}, {0, '-', 4}, {0, '-', 8},
                {0, '-', 1},  {0, '-', 2}, {0, '-', 4}, {0, '-', 8}, {0, '-', 2}, {0, '-', 3}, {0, '-', 5}, {0, '-', 9},
                {0, '-', 17}, {1, 'b', 0}, {2, 'b', 0}, {4, 'b', 0}, {2, 'v', 0}, {4, 'v', 0}, {2, 'p', 0}, {4, 'p', 0},
        };
        uint8_t tag = s.ptr[0];
        *ret_bytes = *ret_values = 0;
        if (tag < 0x80 || tag >= 0xe0)
                return 1;
        if (tag < 0x90) {
                *ret_values = (uint64_t)(tag & 0x0f) * 2;
                return 1;
        }
        if (tag < 0xa0) {
                *ret_values = tag & 0x0f;
                return 1;
        }
        if (tag < 0xc0) {
                *ret_bytes = tag & 0x1f;
                return 1;
        }
        size_t width = heads[tag - 0xc0].width;
        char counts = heads[tag - 0xc0].counts;
        if (counts == '!')
                return 0;
        if (s.len < 1 + width)
                return 1 + width;
        uint64_t number = 0;
        for (size_t i = 0; i < width; i++)
                number = number << 8 | s.ptr[1 + i];
        *ret_bytes = heads[tag - 0xc0].bytes + (counts == 'b' ? number : 0);
        *ret_values = counts == 'v' ? number : counts == 'p' ? number * 2 : 0;
        return 1 + width;
}

/* Finds the end of the first value. No recursion: it only counts the values that are still to come, which nesting
 * cannot make more than the bytes that hold them. ERR_INCOMPLETE: more bytes are needed; ERR_TOO_BIG: above the largest
 * event; ERR_SYNTAX: there is no such first byte, at *ret_bytes. */
static enum err_code decode_skip(struct slice s, size_t *ret_bytes)
{
        uint64_t values = 1;
        size_t at = 0;
        while (values > 0) {
                *ret_bytes = at;
                if (at > LIMIT_EVENT_BYTES_MAX || values > LIMIT_EVENT_BYTES_MAX)
                        return ERR_TOO_BIG;
                if (at >= s.len)
                        return ERR_INCOMPLETE;
                uint64_t bytes, more;
                size_t head = decode_head(slice_from(s, at), &bytes, &more);
                if (head == 0)
                        return ERR_SYNTAX;
                if (bytes > LIMIT_EVENT_BYTES_MAX || more > LIMIT_EVENT_BYTES_MAX)
                        return ERR_TOO_BIG;
                at += head + (size_t)bytes;
                values += more - 1;
        }
        *ret_bytes = at;
        if (at > LIMIT_EVENT_BYTES_MAX)
                return ERR_TOO_BIG;
        return at > s.len ? ERR_INCOMPLETE : ERR_OK;
}

static bool decode_event(struct decode *decode, const char *name, uint64_t offset, struct slice event)
{
        struct codec_view view;
        struct err err = {.text = ""};
        if (codec_view_decode(event, &view, &err) != ERR_OK) {
                decode->malformed++;
                (void)fprintf(stderr, "%s: event at offset %" PRIu64 ": %s\n", name, offset, err.text);
                return decode_stop == 0;
        }
        size_t bytes = codec_json_encode(&view, &decode->json_options, decode->json, LIMIT_EVENT_JSON_BYTES_MAX);
        (void)fwrite(decode->json, 1, bytes, stdout); /* checked once by ferror() */
        (void)fputc('\n', stdout);
        return decode_printed(decode);
}

/* One file. *ret_go: whether the next one is wanted. */
static int decode_file(struct decode *decode, const char *name, int fd, bool *ret_go)
{
        /* An event and what was read behind it. */
        size_t room = 2 * (size_t)LIMIT_EVENT_BYTES_MAX, begin = 0, end = 0;
        uint8_t *buffer = malloc(room);
        uint64_t offset = 0; /* of buffer[begin] */
        int status = CMD_EXIT_OK;
        bool ended = false;
        *ret_go = true;
        if (buffer == NULL)
                return CMD_EXIT_IO;
        for (;;) {
                size_t bytes;
                struct slice rest = slice_of(buffer + begin, end - begin);
                enum err_code code = rest.len == 0 ? ERR_INCOMPLETE : decode_skip(rest, &bytes);
                if (code == ERR_OK) {
                        *ret_go = decode_event(decode, name, offset, slice_head(rest, bytes));
                        begin += bytes;
                        offset += bytes;
                        if (!*ret_go)
                                break;
                        continue;
                }
                if (code != ERR_INCOMPLETE) {
                        decode->malformed++;
                        (void)fprintf(stderr,
                                      "%s: event at offset %" PRIu64 ": offset %zu: %s; the rest of the file is "
                                      "not read\n",
                                      name, offset, bytes,
                                      code == ERR_TOO_BIG ? "longer than any event" : "no msgpack value begins so");
                        break;
                }
                if (ended) {
                        if (rest.len > 0) {
                                decode->malformed++;
                                (void)fprintf(stderr,
                                              "%s: event at offset %" PRIu64 ": the file ends within it, after "
                                              "%zu bytes\n",
                                              name, offset, rest.len);
                        }
                        break;
                }
                if (begin > 0)
                        memmove(buffer, buffer + begin, end - begin);
                end -= begin;
                begin = 0;
                ssize_t got = read(fd, buffer + end, room - end);
                if (got < 0 && errno == EINTR && decode_stop == 0)
                        continue;
                if (got < 0) {
                        (void)fprintf(stderr, "sendring decode: read %s: %s\n", name, strerror(errno));
                        status = CMD_EXIT_IO;
                        break;
                }
                ended = got == 0;
                end += (size_t)got;
        }
        free(buffer);
        return status;
}

static int decode_files(struct decode *decode, char *const *paths, int paths_count)
{
        int status = CMD_EXIT_OK;
        bool go = decode->limit > 0;
        for (int i = 0; i < paths_count && go; i++) {
                bool is_stdin = strcmp(paths[i], "-") == 0;
                int fd = is_stdin ? STDIN_FILENO : open(paths[i], O_RDONLY | O_CLOEXEC);
                int one = CMD_EXIT_IO;
                if (fd < 0)
                        (void)fprintf(stderr, "sendring decode: open %s: %s\n", paths[i], strerror(errno));
                else
                        one = decode_file(decode, is_stdin ? "(stdin)" : paths[i], fd, &go);
                if (fd > STDIN_FILENO)
                        (void)close(fd); /* was only read */
                if (one != CMD_EXIT_OK)
                        status = one;
        }
        return status;
}

/* ---------------------------------------------------------------------------------------------- journal */

/* One log; a shard has more than one when event types are shed. */
struct decode_shard {
        uint32_t number;
        char directory[PATH_MAX];
        uint64_t position, sequence; /* of the next record; sequence 0: none read yet */
        bool damaged;                /* between the last record that was read and `position` */
};

static void decode_put_text(struct decode *decode, const char *text)
{
        size_t len = strlen(text);
        size_t bytes = codec_json_string(slice_of_text(text), decode->json, len * 6 + 2);
        (void)fwrite(decode->json, 1, bytes, stdout); /* checked once by ferror() */
}

static bool decode_record(struct decode *decode, const struct decode_shard *shard, struct journal *journal,
                          const struct journal_record *record)
{
        uint8_t accepted[32];
        size_t accepted_bytes = codec_time_write(record->entry.accepted_ms, accepted);
        bool replayed = (record->entry.flags & JOURNAL_FLAG_REPLAYED) != 0;
        const char *type = codec_event_type_name((enum sendring_event_type)record->entry.event_type);
        bool rejected = (record->entry.flags & JOURNAL_FLAG_REJECTED) != 0;
        printf("{\"shard\":%u,\"sequence\":%" PRIu64 ",\"lane\":%" PRIu64 ",\"accepted\":\"%.*s\",\"type\":",
               shard->number, record->sequence, record->entry.lane_id, (int)accepted_bytes, (const char *)accepted);
        if (type == NULL || rejected)
                printf("null");
        else
                decode_put_text(decode, type);
        printf(",\"routes\":[");
        for (unsigned i = 0; i < record->entry.routes_count; i++) {
                struct journal_target_state state;
                printf(i == 0 ? "" : ",");
                if (journal_target_get(journal, record->entry.routes[i], &state))
                        decode_put_text(decode, state.key);
                else
                        printf("%u", record->entry.routes[i]);
        }
        printf("],");
        if (replayed) {
                accepted_bytes = codec_time_write(record->origin.accepted_ms, accepted);
                printf("\"replayed\":{\"event_id\":\"%016" PRIx64 "-%016" PRIx64 "\",\"accepted\":\"%.*s\"},",
                       record->origin.lane_id, record->origin.lane_position, (int)accepted_bytes,
                       (const char *)accepted);
        }
        printf("\"event\":");
        struct codec_view view;
        struct err err = {.text = ""};
        /* The router's findings lie in front of the event (router/shard.h). They are looked for again here: a tool that
         * shows what is in the journal must not trust it. */
        struct slice event = SLICE_EMPTY, set = SLICE_EMPTY;
        (void)codec_view_split(record->payload, &event, &set); /* a wrong one leaves an empty event, which is refused */
        if (rejected) {
                printf("null,\"rejected\":true");
        } else if (record->payload.len == 0) {
                printf("null"); /* nobody wants it: only counted */
        } else if (codec_view_decode(event, &view, &err) != ERR_OK) {
                decode->malformed++;
                (void)fprintf(stderr, "shard %u: sequence %" PRIu64 ": %s\n", shard->number, record->sequence,
                              err.text);
                printf("null,\"malformed\":true");
        } else {
                if (view.configuration_set.len == 0)
                        view.configuration_set = set; /* the router's choice */
                size_t bytes =
                        codec_json_encode(&view, &decode->json_options, decode->json, LIMIT_EVENT_JSON_BYTES_MAX);
                (void)fwrite(decode->json, 1, bytes, stdout); /* checked once by ferror() */
        }
        printf("}\n");
        return decode_printed(decode);
}

/* Where the log begins now: the smallest base position in the headers of its segments (drawn in journal/journal.h).
 * What is recycled is not there any more, and a reader must not ask for it. */
static uint64_t decode_oldest(const char *directory)
{
        uint64_t oldest = UINT64_MAX;
        DIR *list = opendir(directory);
        for (struct dirent *entry = list == NULL ? NULL : readdir(list); entry != NULL; entry = readdir(list)) {
                uint8_t header[64];
                uint64_t base;
                if (!slice_has_suffix(slice_of_text(entry->d_name), SLICE(".segment")))
                        continue;
                int fd = openat(dirfd(list), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
                ssize_t got = fd < 0 ? -1 : pread(fd, header, sizeof(header), 0);
                if (fd >= 0)
                        (void)close(fd); /* was only read */
                if (got != (ssize_t)sizeof(header) || memcmp(header, "sendrjs1", 8) != 0)
                        continue;
                memcpy(&base, header + 24, sizeof(base));
                if (base < oldest)
                        oldest = base;
        }
        if (list != NULL)
                (void)closedir(list); /* was only read */
        return oldest == UINT64_MAX ? 0 : oldest;
}

/* What is in the shard's log from its position on. *ret_go: whether more is wanted. A fresh view each time: segments
 * come and go under it. */
static enum err_code decode_shard(struct decode *decode, struct decode_shard *shard, bool *ret_go, struct err *reterr)
{
        struct journal_options options = {.directory = shard->directory, .read_only = true};
        struct journal *journal = NULL;
        struct journal_reader *reader = NULL;
        uint64_t limit, next_sequence;
        enum err_code code = journal_open(&options, &journal, NULL, reterr);
        if (code != ERR_OK)
                return code;
        journal_committed(journal, &limit, &next_sequence);
        uint64_t oldest = decode_oldest(shard->directory);
        if (shard->position < oldest)
                shard->position = oldest;
        code = journal_reader_create(journal, &reader, reterr);
        while (code == ERR_OK && *ret_go) {
                struct journal_record record;
                enum err_code read = journal_read(reader, shard->position, limit, &record);
                if (read == ERR_EMPTY)
                        break;
                if (read == ERR_CORRUPT) {
                        decode->malformed++;
                        (void)fprintf(stderr, "shard %u: damaged at position %" PRIu64 "\n", shard->number,
                                      record.position);
                        shard->position = record.next_position;
                        shard->damaged = true;
                        continue;
                }
                if (read != ERR_OK) {
                        code = err_set(reterr, read, "read the journal %s: %s", shard->directory, err_text(read));
                        break;
                }
                if (shard->sequence != 0 && record.sequence > shard->sequence)
                        (void)fprintf(stderr, "shard %u: %" PRIu64 " records %s\n", shard->number,
                                      record.sequence - shard->sequence,
                                      shard->damaged ? "cannot be read for the damage"
                                                     : "were recycled before they were read");
                shard->damaged = false;
                shard->position = record.next_position;
                shard->sequence = record.sequence + 1;
                *ret_go = decode_record(decode, shard, journal, &record);
        }
        journal_reader_free(reader);
        journal_close(journal);
        return code;
}

/* How many there are; of none *ret_why says more where that cannot be told. */
static uint32_t decode_find_shards(const struct decode *decode, struct decode_shard *shards, struct err *ret_why)
{
        uint32_t count = 0;
        struct stat status;
        char directory[PATH_MAX + 16];
        if (decode->journal_path != NULL) {
                (void)snprintf(directory, sizeof(directory), "%s/targets", decode->journal_path);
                if (stat(directory, &status) == 0) {
                        (void)snprintf(shards[0].directory, sizeof(shards[0].directory), "%s", decode->journal_path);
                        return 1;
                }
        }
        const char *journal = decode->journal_path != NULL ? decode->journal_path : decode->settings.journal.directory;
        for (uint32_t i = 0; i < LIMIT_SHARDS_MAX * RULES_EVENT_TYPES_END && count < LIMIT_LOGS_MAX; i++) {
                struct decode_shard *shard = &shards[count];
                const unsigned type = i % RULES_EVENT_TYPES_END; /* 0: the log of all types that have none */
                shard->number = i / RULES_EVENT_TYPES_END;
                int used = snprintf(shard->directory, sizeof(shard->directory), "%s/%u%s%s", journal, shard->number,
                                    type == 0 ? "" : ".", type == 0 ? "" : rules_event_class_name(type));
                if (used < 0 || (size_t)used >= sizeof(shard->directory))
                        continue;
                struct err err = {.text = ""};
                enum err_code code = journal_log_look(shard->directory, &err);
                if (code == ERR_OK)
                        count++;
                else if (code != ERR_NOT_FOUND && ret_why->code == ERR_OK)
                        *ret_why = err; /* the others are no better */
        }
        return count;
}

static int decode_journal(struct decode *decode)
{
        struct decode_shard *shards = calloc(LIMIT_LOGS_MAX + 1, sizeof(*shards));
        if (shards == NULL)
                return CMD_EXIT_IO;
        struct err why = {.text = ""};
        uint32_t count = decode_find_shards(decode, shards, &why);
        int status = CMD_EXIT_OK;
        if (count == 0 && why.code != ERR_OK) {
                (void)fprintf(stderr, "sendring decode: %s%s\n", why.text, cmd_advice(&why));
                status = cmd_unread_status(&why);
        } else if (count == 0) {
                (void)fprintf(stderr, "sendring decode: there is no journal in %s: has a daemon run with it?\n",
                              decode->journal_path != NULL ? decode->journal_path : decode->settings.journal.directory);
                status = CMD_EXIT_UNAVAILABLE;
        }
        bool go = decode->limit > 0;
        uint32_t failures = 0;
        while (status == CMD_EXIT_OK && go) {
                uint64_t printed = decode->printed;
                bool again = false;
                for (uint32_t i = 0; i < count && go && status == CMD_EXIT_OK; i++) {
                        struct err err = {.text = ""};
                        enum err_code code = decode_shard(decode, &shards[i], &go, &err);
                        /* Recycled under our eyes: a fresh view knows what is there. */
                        bool moved = code == ERR_NOT_FOUND || (code != ERR_OK && err.sys_errno == ENOENT);
                        if (moved && failures++ < DECODE_OPEN_TRIES) {
                                again = true;
                        } else if (code != ERR_OK) {
                                (void)fprintf(stderr, "sendring decode: %s%s\n", err.text, cmd_advice(&err));
                                status = cmd_unread_status(&err);
                        } else {
                                failures = 0;
                        }
                }
                (void)fflush(stdout); /* checked by ferror() */
                if (decode_stop != 0 || (!decode->follow && !again))
                        break;
                if (decode->printed == printed)
                        clock_nap_ns(DECODE_POLL_NS);
        }
        free(shards);
        return status;
}

/* ---------------------------------------------------------------------------------------------- options */

static int decode_load_settings(struct decode *decode)
{
        if (decode->settings_path == NULL && (!decode->journal || decode->journal_path != NULL))
                return CMD_EXIT_OK;
        struct rules_report report;
        rules_report_init(&report);
        enum err_code code = rules_settings_load(decode->settings_path != NULL ? decode->settings_path
                                                                               : "/etc/sendring/sendring.yaml",
                                                 &decode->settings, &report);
        if (code != ERR_OK)
                rules_report_print(&report, stderr);
        rules_report_release(&report);
        if (code != ERR_OK)
                return CMD_EXIT_CONFIG;
        decode->settings_loaded = true;
        decode->json_options = (struct codec_json_options){
                .account_id = slice_of_text(decode->settings.account_id),
                .region = slice_of_text(decode->settings.region),
                .partition = slice_of_text(decode->settings.partition),
                .configuration_set = slice_of_text(decode->settings.default_configuration_set),
        };
        return CMD_EXIT_OK;
}

static int decode_run(struct decode *decode, char *const *paths, int paths_count)
{
        int status = decode_load_settings(decode);
        if (status != CMD_EXIT_OK)
                return status;
        decode->json = malloc(LIMIT_EVENT_JSON_BYTES_MAX);
        if (decode->json == NULL)
                return CMD_EXIT_IO;
        struct sigaction action = {.sa_handler = decode_on_signal}; /* no SA_RESTART: waits end */
        (void)sigemptyset(&action.sa_mask);                         /* cannot fail */
        (void)sigaction(SIGTERM, &action, NULL);                    /* cannot fail: valid signals */
        (void)sigaction(SIGINT, &action, NULL);
        (void)signal(SIGPIPE, SIG_IGN); /* told by ferror() */
        status = decode->journal ? decode_journal(decode) : decode_files(decode, paths, paths_count);
        if (fflush(stdout) != 0 || decode->out_of_room)
                status = CMD_EXIT_IO;
        else if (status == CMD_EXIT_OK && decode->malformed > 0)
                status = CMD_EXIT_FAILED;
        if (decode->malformed > 0)
                (void)fprintf(stderr, "sendring decode: %" PRIu64 " printed, %" PRIu64 " malformed\n", decode->printed,
                              decode->malformed);
        return status;
}

static int decode_usage(const char *text)
{
        (void)fprintf(stderr, "sendring decode: %s; --help explains\n", text);
        return CMD_EXIT_USAGE;
}

int cmd_decode(int argc, char **argv)
{
        static const struct option options[] = {
                {"from", required_argument, NULL, 'F'},
                {"settings", required_argument, NULL, 's'},
                {"journal", required_argument, NULL, 'J'},
                {"limit", required_argument, NULL, 'n'},
                {"follow", no_argument, NULL, 'f'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        static char standard_input[] = "-";
        static char *only_standard_input[] = {standard_input};
        struct decode decode = {.limit = UINT64_MAX};
        bool from_given = false;
        opterr = 0;
        for (int option = getopt_long(argc, argv, ":s:n:fh", options, NULL); option != -1;
             option = getopt_long(argc, argv, ":s:n:fh", options, NULL)) {
                switch (option) {
                case 'F':
                        from_given = true;
                        decode.journal = strcmp(optarg, "journal") == 0;
                        if (!decode.journal && strcmp(optarg, "msgpack") != 0)
                                return decode_usage("--from must be msgpack or journal");
                        break;
                case 's':
                        decode.settings_path = optarg;
                        break;
                case 'J':
                        decode.journal_path = optarg;
                        break;
                case 'n':
                        if (!slice_to_u64(slice_of_text(optarg), UINT64_MAX, &decode.limit))
                                return decode_usage("--limit must be a whole number");
                        break;
                case 'f':
                        decode.follow = true;
                        break;
                case 'h':
                        (void)fputs(decode_help, stdout);
                        return CMD_EXIT_OK;
                default:
                        return cmd_option_refused("decode", option, options, argv);
                }
        }
        if (decode.journal_path != NULL && !from_given)
                decode.journal = true;
        if (decode.journal && optind < argc)
                return decode_usage("a journal is named by --settings or --journal");
        if (!decode.journal && (decode.follow || decode.journal_path != NULL))
                return decode_usage("--follow and --journal are for --from journal");
        char **paths = optind < argc ? argv + optind : only_standard_input;
        int status = decode_run(&decode, paths, optind < argc ? argc - optind : 1);
        free(decode.json);
        if (decode.settings_loaded)
                rules_settings_release(&decode.settings);
        return status;
}
