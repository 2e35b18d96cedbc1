#include "tools/loadgen_internal.h"

#include "base/clock.h"
#include "base/random.h"
#include "tools/cmd.h"
#include "tools/loadgen_id.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char loadgen_help[] =
        "usage: sendring loadgen [OPTIONS]\n"
        "\n"
        "Publishes events from several producer processes and reports what was published and how long it took.\n"
        "Lateness counts from when an event was due, not from when its turn came; a fast producer sleeps up to 0.5 ms\n"
        "between bunches of events, and its lateness shows that.\n"
        "\n"
        "  --socket PATH          the router's socket ($SENDRING_SOCKET, /run/sendring/sendring.sock)\n"
        "  --producers N          producer processes, 1-256 (4)\n"
        "  --profile NAME         newsletter-burst, transactional-trickle, bounce-storm or open-storm: a load whose "
        "rate\n"
        "                         and mix change over its duration; --list-profiles tells their figures\n"
        "  --rate N               events a second, together; 0: as fast as the lanes take them (0); of a profile: on\n"
        "                         average over its duration\n"
        "  --events N             stop after N events, together; k and M are understood\n"
        "  --duration TIME        stop after it: 90, 90s, 15m, 1.5h (10s, unless --events is given); of a profile: "
        "what\n"
        "                         its curves are laid over\n"
        "  --seconds S            the same in seconds\n"
        "  --mix MIX              standard, all, or one type such as send or delivery_delay (standard)\n"
        "  --size SIZE            small, standard, large (standard: about 800 bytes of JSON)\n"
        "  --sets A,B,...         configuration sets (set-0 to set-7)\n"
        "  --burst ON:OFF         milliseconds: all events of each ON+OFF come within its first ON\n"
        "  --run-id HEX8          the run's id in every message id (random)\n"
        "  --seed N               the same seed gives the same events (1)\n"
        "  --first-producer N     number of the first producer in the ids (0)\n"
        "  --flush-timeout MS     wait so long at the end until the router has everything (10000; 0: do not wait)\n"
        "  --stall-timeout S      give up when nothing is taken for so long (60)\n"
        "  --ledger FILE          write what each producer published, as JSON\n"
        "  --progress             a line on stderr each second, and the seconds in the report\n"
        "  --json                 the report as one JSON object\n"
        "  --list-profiles        what the profiles are, and nothing else\n"
        "\n"
        "A host's own load, recorded and published again:\n"
        "  --record FILE          write the events that a host's journal still has, with their times, into FILE "
        "(0600)\n"
        "  --settings FILE        record: the daemon's settings (/etc/sendring/sendring.yaml)\n"
        "  --from TIME, --to TIME record: accepted from then on, and before: " CMD_TIME_HELP "\n"
        "                         (all; now)\n"
        "  --replay FILE          publish what --record has written, in the pattern in which it came; the events of a\n"
        "                         message keep their order. --duration stops it earlier\n"
        "  --speed N              replay: N times as fast as it was recorded; 0: as fast as the lanes take it (1)\n"
        "  --ids WHICH            replay: fresh: each message gets a new id, keep: as they were, counted: each event "
        "gets\n"
        "                         one of loadgen's own, which sendring sink counts (fresh)\n"
        "\n"
        "For kill tests:\n"
        "  --kill-test            a producer that dies by SIGKILL is no failure, and a router that is away is waited "
        "for\n"
        "  --counts FILE          u64 per producer number, stored after each publish: what a killed producer had\n"
        "                         committed (it may have committed one more)\n"
        "  --kills N              kill a random producer N times and put a new one in its place (implies --kill-test)\n"
        "  --kill-interval MS     between two kills, on average (20)\n"
        "\n"
        "Exit status: 0 all published and flushed, or recorded, or what has no end but its time was stopped; 1 a "
        "producer\n"
        "failed, a signal stopped --events, --profile or --replay before their end, events were too big, or damaged "
        "or\n"
        "recycled before they were recorded; 64 usage; 69 no router, no journal; 74 file error; 78 configuration.\n";

static int loadgen_usage(const char *option, const char *value, const char *wanted)
{
        (void)fprintf(stderr, "sendring loadgen: --%s '%s': %s\n", option, value, wanted);
        return CMD_EXIT_USAGE;
}

static bool parse_number(const char *text, double max, double *ret_value)
{
        char *end = NULL;
        errno = 0;
        double value = strtod(text, &end);
        if (end == text || errno != 0)
                return false;
        if (*end == 'k' || *end == 'K') {
                value *= 1e3;
                end++;
        } else if (*end == 'M') {
                value *= 1e6;
                end++;
        }
        if (*end != '\0' || !(value >= 0) || value > max) /* also refuses NaN */
                return false;
        *ret_value = value;
        return true;
}

/* Seconds, or so many s, m or h. */
static bool parse_duration(const char *text, uint64_t *ret_ns)
{
        char *end = NULL;
        errno = 0;
        double value = strtod(text, &end);
        if (end == text || errno != 0)
                return false;
        if (strcmp(end, "m") == 0)
                value *= 60;
        else if (strcmp(end, "h") == 0)
                value *= 3600;
        else if (*end != '\0' && strcmp(end, "s") != 0)
                return false;
        if (!(value >= 1e-9 && value <= 1e8)) /* also refuses NaN */
                return false;
        *ret_ns = (uint64_t)(value * (double)CLOCK_NS_PER_S);
        return true;
}

static bool parse_ids(const char *text, enum loadgen_ids *ret_ids)
{
        static const char *const names[] = {
                [LOADGEN_IDS_FRESH] = "fresh", [LOADGEN_IDS_KEEP] = "keep", [LOADGEN_IDS_COUNTED] = "counted"};
        for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (strcmp(text, names[i]) == 0) {
                        *ret_ids = (enum loadgen_ids)i;
                        return true;
                }
        return false;
}

static bool parse_sets(struct loadgen *loadgen, const char *text)
{
        free(loadgen->sets_text);
        loadgen->sets_text = strdup(text);
        if (loadgen->sets_text == NULL)
                return false;
        uint32_t count = 0;
        char *rest = loadgen->sets_text;
        for (char *name = strsep(&rest, ","); name != NULL; name = strsep(&rest, ",")) {
                if (*name == '\0' || strlen(name) > 64 || count == LOADGEN_SETS_MAX)
                        return false;
                loadgen->sets[count++] = name;
        }
        loadgen->options.events.sets = loadgen->sets;
        loadgen->options.events.sets_count = count;
        return count > 0;
}

enum {
        OPTION_SOCKET = 256,
        OPTION_PRODUCERS,
        OPTION_RATE,
        OPTION_EVENTS,
        OPTION_SECONDS,
        OPTION_DURATION,
        OPTION_PROFILE,
        OPTION_LIST_PROFILES,
        OPTION_RECORD,
        OPTION_SETTINGS,
        OPTION_FROM,
        OPTION_TO,
        OPTION_REPLAY,
        OPTION_SPEED,
        OPTION_IDS,
        OPTION_MIX,
        OPTION_SIZE,
        OPTION_SETS,
        OPTION_BURST,
        OPTION_RUN_ID,
        OPTION_SEED,
        OPTION_FIRST_PRODUCER,
        OPTION_FLUSH_TIMEOUT,
        OPTION_STALL_TIMEOUT,
        OPTION_LEDGER,
        OPTION_PROGRESS,
        OPTION_JSON,
        OPTION_KILL_TEST,
        OPTION_COUNTS,
        OPTION_KILLS,
        OPTION_KILL_INTERVAL,
        OPTION_HELP,
};

static const struct option loadgen_long_options[] = {
        {"socket", required_argument, NULL, OPTION_SOCKET},
        {"producers", required_argument, NULL, OPTION_PRODUCERS},
        {"rate", required_argument, NULL, OPTION_RATE},
        {"events", required_argument, NULL, OPTION_EVENTS},
        {"seconds", required_argument, NULL, OPTION_SECONDS},
        {"duration", required_argument, NULL, OPTION_DURATION},
        {"profile", required_argument, NULL, OPTION_PROFILE},
        {"list-profiles", no_argument, NULL, OPTION_LIST_PROFILES},
        {"record", required_argument, NULL, OPTION_RECORD},
        {"settings", required_argument, NULL, OPTION_SETTINGS},
        {"from", required_argument, NULL, OPTION_FROM},
        {"to", required_argument, NULL, OPTION_TO},
        {"replay", required_argument, NULL, OPTION_REPLAY},
        {"speed", required_argument, NULL, OPTION_SPEED},
        {"ids", required_argument, NULL, OPTION_IDS},
        {"mix", required_argument, NULL, OPTION_MIX},
        {"size", required_argument, NULL, OPTION_SIZE},
        {"sets", required_argument, NULL, OPTION_SETS},
        {"burst", required_argument, NULL, OPTION_BURST},
        {"run-id", required_argument, NULL, OPTION_RUN_ID},
        {"seed", required_argument, NULL, OPTION_SEED},
        {"first-producer", required_argument, NULL, OPTION_FIRST_PRODUCER},
        {"flush-timeout", required_argument, NULL, OPTION_FLUSH_TIMEOUT},
        {"stall-timeout", required_argument, NULL, OPTION_STALL_TIMEOUT},
        {"ledger", required_argument, NULL, OPTION_LEDGER},
        {"progress", no_argument, NULL, OPTION_PROGRESS},
        {"json", no_argument, NULL, OPTION_JSON},
        {"kill-test", no_argument, NULL, OPTION_KILL_TEST},
        {"counts", required_argument, NULL, OPTION_COUNTS},
        {"kills", required_argument, NULL, OPTION_KILLS},
        {"kill-interval", required_argument, NULL, OPTION_KILL_INTERVAL},
        {"help", no_argument, NULL, OPTION_HELP},
        {NULL, 0, NULL, 0},
};

/* What was given on the command line, where a profile has defaults of its own. */
struct loadgen_given {
        bool rate, duration, mix, size, sets;
        bool of_record, of_replay; /* any of their options, but for these themselves */
};

static int loadgen_refuse(const char *text)
{
        (void)fprintf(stderr, "sendring loadgen: %s\n", text);
        return CMD_EXIT_USAGE;
}

/* Rate, duration and number of events: two of them make the third; what is missing is the profile's. */
static int loadgen_take_profile(struct loadgen *loadgen, const struct loadgen_given *given)
{
        struct loadgen_options *options = &loadgen->options;
        const struct loadgen_profile *profile = options->profile;
        if (given->mix || options->burst_on_ns > 0)
                return loadgen_refuse("a --profile has its own mix and bursts: leave --mix and --burst out");
        if (loadgen->kills_max > 0)
                return loadgen_refuse("--kills is for a steady load: leave --profile out");
        if (given->rate && !(options->rate > 0))
                return loadgen_refuse("a --profile needs a --rate above 0");
        if (given->rate && given->duration && options->events_max > 0)
                return loadgen_refuse("--rate, --duration and --events: any two make the third");
        double rate = given->rate ? options->rate : profile->rate;
        double seconds = given->duration ? (double)options->duration_ns / 1e9 : profile->duration_s;
        double events = (double)options->events_max;
        if (options->events_max == 0)
                events = rate * seconds;
        else if (given->rate)
                seconds = events / rate;
        if (events < 1)
                return loadgen_refuse("that is not one event: raise --rate or --duration");
        if (!(events <= 1e14 && seconds <= 1e8 && seconds >= 1e-6))
                return loadgen_refuse("--rate, --duration and --events do not fit together");
        options->rate = events / seconds;
        options->events_max = 0; /* the plan is the bound */
        options->duration_ns = 0;
        if (!given->size)
                options->events.size = profile->size;
        if (!given->sets)
                options->events.sets_count = profile->sets_count;
        options->events.campaigns_count = profile->campaigns_count;
        options->events.tenants_count = profile->tenants_count;
        options->events.blocked = profile->blocked;
        options->plan = malloc(sizeof(*options->plan));
        if (options->plan == NULL)
                return loadgen_refuse("out of memory");
        loadgen_profile_plan(profile, (uint64_t)(events + 0.5), (uint64_t)(seconds * (double)CLOCK_NS_PER_S),
                             options->producers_count, options->events.seed, options->plan);
        return CMD_EXIT_OK;
}

/* Whether --record and --replay stand beside what they may. */
static int loadgen_check_capture(const struct loadgen *loadgen, const struct loadgen_given *given)
{
        const struct loadgen_options *options = &loadgen->options;
        bool recording = loadgen->record.capture_path != NULL, replaying = loadgen->replay.path != NULL;
        bool invents = options->profile != NULL || given->rate || options->events_max > 0 || given->mix ||
                       given->size || given->sets || options->burst_on_ns > 0 || loadgen->kills_max > 0;
        if (given->of_record && !recording)
                return loadgen_refuse("--settings, --from and --to are for --record");
        if (given->of_replay && !replaying)
                return loadgen_refuse("--speed and --ids are for --replay");
        if (recording && (replaying || invents || given->duration))
                return loadgen_refuse(
                        "--record publishes nothing: only --settings, --from, --to and --json go with it");
        if (recording && loadgen->record.from_ms >= loadgen->record.to_ms)
                return loadgen_refuse("--from must be before --to");
        if (replaying && invents)
                return loadgen_refuse("--replay has its own events and times: scale them by --speed, end them by "
                                      "--duration");
        return CMD_EXIT_OK;
}

void loadgen_options_release(struct loadgen *loadgen)
{
        if (loadgen->options.replay != NULL)
                loadgen_replay_close(loadgen->options.replay);
        free(loadgen->options.replay);
        free(loadgen->options.plan);
        free(loadgen->sets_text);
}

int loadgen_parse(struct loadgen *loadgen, int argc, char **argv)
{
        struct loadgen_options *options = &loadgen->options;
        options->producers_count = 4;
        options->flush_timeout_ms = 10000;
        options->stall_timeout_ns = 60 * CLOCK_NS_PER_S;
        options->events.seed = 1;
        options->events.size = LOADGEN_SIZE_STANDARD;
        loadgen->kill_interval_ns = 20 * CLOCK_NS_PER_MS;
        (void)loadgen_mix_parse("standard", options->events.permille);
        if (!parse_sets(loadgen, "set-0,set-1,set-2,set-3,set-4,set-5,set-6,set-7"))
                return CMD_EXIT_USAGE;
        struct random_state random;
        random_init(&random, 0);
        options->events.run_id = (uint32_t)random_u64(&random);

        struct loadgen_given given = {0};
        const int64_t now_ms = clock_realtime_ms();
        loadgen->record =
                (struct loadgen_record_options){.settings_path = "/etc/sendring/sendring.yaml", .to_ms = now_ms};
        loadgen->replay.speed = 1;
        optind = 1;
        opterr = 0;
        for (;;) {
                int index = 0;
                int option = getopt_long(argc, argv, ":h", loadgen_long_options, &index);
                if (option == -1)
                        break;
                if (option == '?' || option == ':')
                        return cmd_option_refused("loadgen", option, loadgen_long_options, argv);
                const char *name = loadgen_long_options[index].name;
                double number = 0;
                uint64_t run_id = 0;
                char *end = NULL;
                switch (option) {
                case OPTION_SOCKET:
                        options->socket_path = optarg;
                        break;
                case OPTION_PRODUCERS:
                        if (!parse_number(optarg, LOADGEN_PRODUCERS_MAX, &number) || number < 1)
                                return loadgen_usage(name, optarg, "a number from 1 to 256 is wanted");
                        options->producers_count = (uint32_t)number;
                        break;
                case OPTION_RATE:
                        if (!parse_number(optarg, 1e9, &options->rate))
                                return loadgen_usage(name, optarg, "events a second are wanted");
                        given.rate = true;
                        break;
                case OPTION_EVENTS:
                        if (!parse_number(optarg, 1e14, &number) || number < 1)
                                return loadgen_usage(name, optarg, "a number of events is wanted");
                        options->events_max = (uint64_t)number;
                        break;
                case OPTION_SECONDS:
                        if (!parse_number(optarg, 1e8, &number) || !(number >= 1e-9)) /* 0 ns: no end */
                                return loadgen_usage(name, optarg, "seconds are wanted");
                        options->duration_ns = (uint64_t)(number * (double)CLOCK_NS_PER_S);
                        given.duration = true;
                        break;
                case OPTION_DURATION:
                        if (!parse_duration(optarg, &options->duration_ns))
                                return loadgen_usage(name, optarg, "a time such as 90s, 15m or 1.5h is wanted");
                        given.duration = true;
                        break;
                case OPTION_PROFILE:
                        options->profile = loadgen_profile_find(optarg);
                        if (options->profile == NULL)
                                return loadgen_usage(name, optarg, "there is none of that name; see --list-profiles");
                        break;
                case OPTION_RECORD:
                        loadgen->record.capture_path = optarg;
                        break;
                case OPTION_SETTINGS:
                        loadgen->record.settings_path = optarg;
                        given.of_record = true;
                        break;
                case OPTION_FROM:
                case OPTION_TO:
                        if (!cmd_parse_time(optarg, now_ms,
                                            option == OPTION_FROM ? &loadgen->record.from_ms : &loadgen->record.to_ms))
                                return loadgen_usage(name, optarg, CMD_TIME_HELP " is wanted");
                        given.of_record = true;
                        break;
                case OPTION_REPLAY:
                        loadgen->replay.path = optarg;
                        break;
                case OPTION_SPEED:
                        if (!parse_number(optarg, 1e9, &loadgen->replay.speed) ||
                            (loadgen->replay.speed > 0 && loadgen->replay.speed < 1e-6))
                                return loadgen_usage(name, optarg, "a factor from 0.000001 on is wanted, or 0");
                        given.of_replay = true;
                        break;
                case OPTION_IDS:
                        if (!parse_ids(optarg, &loadgen->replay.ids))
                                return loadgen_usage(name, optarg, "fresh, keep or counted is wanted");
                        given.of_replay = true;
                        break;
                case OPTION_LIST_PROFILES:
                        loadgen_profile_list(stdout);
                        return -1;
                case OPTION_MIX:
                        if (!loadgen_mix_parse(optarg, options->events.permille))
                                return loadgen_usage(name, optarg, "standard, all, or an event type is wanted");
                        given.mix = true;
                        break;
                case OPTION_SIZE:
                        if (!loadgen_size_parse(optarg, &options->events.size))
                                return loadgen_usage(name, optarg, "small, standard or large is wanted");
                        given.size = true;
                        break;
                case OPTION_SETS:
                        if (!parse_sets(loadgen, optarg))
                                return loadgen_usage(name, optarg, "1 to 64 names of at most 64 characters are wanted");
                        given.sets = true;
                        break;
                case OPTION_BURST:
                        number = strtod(optarg, &end);
                        if (end == optarg || *end != ':' || !(number > 0 && number <= 1e9))
                                return loadgen_usage(name, optarg, "ON:OFF in milliseconds is wanted");
                        options->burst_on_ns = (uint64_t)(number * (double)CLOCK_NS_PER_MS);
                        if (!parse_number(end + 1, 1e9, &number))
                                return loadgen_usage(name, optarg, "ON:OFF in milliseconds is wanted");
                        options->burst_off_ns = (uint64_t)(number * (double)CLOCK_NS_PER_MS);
                        break;
                case OPTION_RUN_ID:
                        if (strlen(optarg) != 8 || !loadgen_id_read_hex(optarg, 8, &run_id))
                                return loadgen_usage(name, optarg, "8 lower-case hex digits are wanted");
                        options->events.run_id = (uint32_t)run_id;
                        break;
                case OPTION_SEED:
                        options->events.seed = strtoull(optarg, &end, 0);
                        if (end == optarg || *end != '\0')
                                return loadgen_usage(name, optarg, "a number is wanted");
                        break;
                case OPTION_FIRST_PRODUCER:
                        if (!parse_number(optarg, LOADGEN_SLOTS_MAX - 1, &number))
                                return loadgen_usage(name, optarg, "a number from 0 to 65535 is wanted");
                        options->producer_first = (uint32_t)number;
                        break;
                case OPTION_FLUSH_TIMEOUT:
                        if (!parse_number(optarg, 1e9, &number))
                                return loadgen_usage(name, optarg, "milliseconds are wanted");
                        options->flush_timeout_ms = (uint32_t)number;
                        break;
                case OPTION_STALL_TIMEOUT:
                        if (!parse_number(optarg, 1e8, &number) || !(number > 0))
                                return loadgen_usage(name, optarg, "seconds are wanted");
                        options->stall_timeout_ns = (uint64_t)(number * (double)CLOCK_NS_PER_S);
                        break;
                case OPTION_LEDGER:
                        loadgen->ledger_path = optarg;
                        break;
                case OPTION_PROGRESS:
                        loadgen->progress = true;
                        break;
                case OPTION_JSON:
                        loadgen->json = true;
                        break;
                case OPTION_KILL_TEST:
                        loadgen->kill_test = true;
                        break;
                case OPTION_COUNTS:
                        loadgen->counts_path = optarg;
                        break;
                case OPTION_KILLS:
                        if (!parse_number(optarg, LOADGEN_SLOTS_MAX, &number))
                                return loadgen_usage(name, optarg, "a number of kills is wanted");
                        loadgen->kills_max = (uint32_t)number;
                        loadgen->kill_test = true;
                        break;
                case OPTION_KILL_INTERVAL:
                        if (!parse_number(optarg, 1e7, &number) || !(number > 0))
                                return loadgen_usage(name, optarg, "milliseconds are wanted");
                        loadgen->kill_interval_ns = (uint64_t)(number * (double)CLOCK_NS_PER_MS);
                        break;
                case OPTION_HELP:
                case 'h':
                        (void)fputs(loadgen_help, stdout);
                        return -1;
                default:
                        return CMD_EXIT_USAGE;
                }
        }
        if (optind < argc) {
                (void)fprintf(stderr,
                              "sendring loadgen: unexpected argument '%s'; `sendring loadgen --help` explains\n",
                              argv[optind]);
                return CMD_EXIT_USAGE;
        }
        if (options->burst_on_ns > 0 && options->profile == NULL && loadgen->replay.path == NULL &&
            !(options->rate > 0))
                return loadgen_refuse("--burst needs a --rate");
        int status = loadgen_check_capture(loadgen, &given);
        if (status != CMD_EXIT_OK)
                return status;
        loadgen->replay.producers_count = options->producers_count;
        loadgen->replay.run_id = options->events.run_id;
        loadgen->record.json = loadgen->json;
        if (!given.duration && options->events_max == 0 && loadgen->replay.path == NULL)
                options->duration_ns = 10 * CLOCK_NS_PER_S;
        options->patient = loadgen->kill_test;
        loadgen->slots_count = options->producers_count + loadgen->kills_max;
        if (options->producer_first + loadgen->slots_count > LOADGEN_SLOTS_MAX)
                return loadgen_refuse("producer numbers end at 65535");
        return options->profile != NULL ? loadgen_take_profile(loadgen, &given) : CMD_EXIT_OK;
}
