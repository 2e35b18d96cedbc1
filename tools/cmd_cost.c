/* sendring cost: what a configuration costs at a rate, at AWS and on the host. */
#include "tools/cmd.h"
#include "tools/cost_report.h"
#include "tools/explain.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COST_SETTINGS_DEFAULT "/etc/sendring/sendring.yaml"
#define COST_RATE_MAX         1e9
#define COST_SHARES_MAX       1024u
#define COST_MEASURE_S_MAX    86400u
#define COST_TEXT_OF(number)  #number
#define COST_TEXT(name)       COST_TEXT_OF(name)
#define COST_CPU_TEXT         COST_TEXT(COST_CPU_US_DEFAULT)

static const char cost_help[] =
        "usage: sendring cost (--rate N | --measure SECONDS) [--settings FILE] [--configuration-sets FILE] [--json]\n"
        "                     [--event-size BYTES | --events FILE.ndjson] [--share NAME=PART] [--gzip-ratio N]\n"
        "                     [--series N] [--cpu-per-event-us N] [--prices FILE]\n"
        "\n"
        "Computes what each destination costs a month and a million events in US dollars, with packing and gzip on "
        "and\n"
        "off, and what disk, memory and CPU the host needs. Asks no AWS account and changes nothing.\n"
        "\n"
        "  --rate N                   events a second; k and M stand for thousands and millions\n"
        "  --measure SECONDS          watch the running daemon so long: its rate, sizes, shares, series and CPU\n"
        "  --settings FILE            default: " COST_SETTINGS_DEFAULT "\n"
        "  --configuration-sets FILE  default: the one that the settings name; given without --settings, these are "
        "the\n"
        "                             defaults\n"
        "  --event-size BYTES         of an event's JSON (that of the standard mix)\n"
        "  --events FILE              sample events as SES publishes them, one a line ('-': standard input): their "
        "sizes\n"
        "                             and types, matched by the configuration sets, filters too\n"
        "  --share SET=PART           the configuration set's part of all events, 0 to 1 (all equal parts)\n"
        "  --share SET/DEST=PART      what the filter of a destination lets through (1)\n"
        "  --gzip-ratio N             how many times smaller gzip makes packed records (6.5)\n"
        "  --series N                 series of each CloudWatch target in an hour (its budget)\n"
        "  --cpu-per-event-us N       microseconds of the router's CPU (" COST_CPU_TEXT " of an Intel host)\n"
        "  --prices FILE              YAML or JSON; see sendring-cost(1)\n"
        "  --json                     one JSON object\n"
        "\n"
        "Exit status: 0; 64 wrong usage; 69 --measure finds no running daemon, or no events; 74 a file cannot be "
        "read;\n"
        "78 settings, configuration sets or prices have mistakes.\n";

struct cost_options {
        const char *settings_path, *sets_path, *events_path, *prices_path;
        double rate, event_size, gzip_ratio, series, cpu_us; /* 0: not given */
        double measure_s;
        struct cost_share shares[COST_SHARES_MAX];
        size_t shares_count;
        bool json;
};

enum cost_option {
        OPTION_RATE = 'r',
        OPTION_MEASURE = 'm',
        OPTION_SETTINGS = 's',
        OPTION_SETS = 'c',
        OPTION_SIZE = 'z',
        OPTION_EVENTS = 'e',
        OPTION_SHARE = 'S',
        OPTION_RATIO = 'g',
        OPTION_SERIES = 'n',
        OPTION_CPU = 'u',
        OPTION_PRICES = 'p',
        OPTION_JSON = 'j',
        OPTION_HELP = 'h',
};

static const struct option cost_option_table[] = {{"rate", required_argument, NULL, OPTION_RATE},
                                                  {"measure", required_argument, NULL, OPTION_MEASURE},
                                                  {"settings", required_argument, NULL, OPTION_SETTINGS},
                                                  {"configuration-sets", required_argument, NULL, OPTION_SETS},
                                                  {"event-size", required_argument, NULL, OPTION_SIZE},
                                                  {"events", required_argument, NULL, OPTION_EVENTS},
                                                  {"share", required_argument, NULL, OPTION_SHARE},
                                                  {"gzip-ratio", required_argument, NULL, OPTION_RATIO},
                                                  {"series", required_argument, NULL, OPTION_SERIES},
                                                  {"cpu-per-event-us", required_argument, NULL, OPTION_CPU},
                                                  {"prices", required_argument, NULL, OPTION_PRICES},
                                                  {"json", no_argument, NULL, OPTION_JSON},
                                                  {"help", no_argument, NULL, OPTION_HELP},
                                                  {NULL, 0, NULL, 0}};

/* Digits, at most one point, and k or M where `thousands`. */
static bool cost_number(const char *text, bool thousands, double *ret_number)
{
        size_t digits = strspn(text, "0123456789."), factor = 1;
        char *end;
        if (thousands && digits > 0 && (text[digits] == 'k' || text[digits] == 'M'))
                factor = text[digits] == 'k' ? 1000 : 1000000;
        if (digits == 0 || text[digits + (factor > 1)] != '\0')
                return false;
        double number = strtod(text, &end);
        if (end != text + digits)
                return false;
        *ret_number = number * (double)factor;
        return true;
}

/* CMD_EXIT_OK or CMD_EXIT_USAGE. */
static int cost_option_number(const char *name, const char *text, double min, double max, bool whole,
                              double *ret_number)
{
        double number;
        if (cost_number(text, strcmp(name, "rate") == 0, &number) && number >= min && number <= max &&
            (!whole || number == floor(number))) {
                *ret_number = number;
                return CMD_EXIT_OK;
        }
        (void)fprintf(stderr, "sendring cost: --%s wants %s from %.12g to %.12g, not '%s'\n", name,
                      whole ? "a whole number" : "a number", min, max, text);
        return CMD_EXIT_USAGE;
}

static int cost_option_share(struct cost_options *options, const char *text)
{
        struct slice name = slice_of_text(text);
        const char *sign = strrchr(text, '=');
        struct cost_share share = {.used = false};
        if (sign == NULL || sign == text || !cost_number(sign + 1, false, &share.share) || share.share > 1) {
                (void)fprintf(stderr,
                              "sendring cost: --share wants SET=PART or SET/DESTINATION=PART, a part from 0 to 1, not "
                              "'%s'\n",
                              text);
                return CMD_EXIT_USAGE;
        }
        name = slice_head(name, (size_t)(sign - text));
        share.set = slice_cut(&name, '/');
        share.destination = name;
        for (size_t i = 0; i < options->shares_count; i++) {
                if (!slice_equal(options->shares[i].set, share.set) ||
                    !slice_equal(options->shares[i].destination, share.destination))
                        continue;
                (void)fprintf(stderr, "sendring cost: --share %.*s is given twice\n", (int)(sign - text), text);
                return CMD_EXIT_USAGE;
        }
        if (options->shares_count == COST_SHARES_MAX) {
                (void)fprintf(stderr, "sendring cost: more than %u --share\n", COST_SHARES_MAX);
                return CMD_EXIT_USAGE;
        }
        options->shares[options->shares_count++] = share;
        return CMD_EXIT_OK;
}

static int cost_refuse(const char *why)
{
        (void)fprintf(stderr, "sendring cost: %s; `sendring cost --help` explains\n", why);
        return CMD_EXIT_USAGE;
}

/* What goes together. */
static int cost_options_check(struct cost_options *options)
{
        bool measured = options->measure_s > 0;
        if ((options->rate > 0) == measured)
                return cost_refuse("one of --rate and --measure is needed");
        if (options->event_size > 0 && options->events_path != NULL)
                return cost_refuse("--event-size and --events exclude each other");
        if (options->shares_count > 0 && options->events_path != NULL)
                return cost_refuse("--share and --events exclude each other: the events are matched");
        if (measured && (options->event_size > 0 || options->events_path != NULL || options->shares_count > 0))
                return cost_refuse(
                        "--measure finds out sizes and shares: it excludes --event-size, --events and --share");
        if (options->settings_path == NULL && options->sets_path == NULL)
                options->settings_path = COST_SETTINGS_DEFAULT;
        if (measured && options->settings_path == NULL)
                return cost_refuse("--measure needs the --settings of the daemon");
        return -1;
}

/* -1: go on; else the exit status. */
static int cost_parse(int argc, char **argv, struct cost_options *options)
{
        int status = CMD_EXIT_OK;
        optind = 0; /* argv is not the process's own */
        opterr = 0;
        for (int option;
             status == CMD_EXIT_OK && (option = getopt_long(argc, argv, ":h", cost_option_table, NULL)) != -1;) {
                switch (option) {
                case OPTION_RATE:
                        status = cost_option_number("rate", optarg, 0.001, COST_RATE_MAX, false, &options->rate);
                        break;
                case OPTION_MEASURE:
                        status =
                                cost_option_number("measure", optarg, 1, COST_MEASURE_S_MAX, true, &options->measure_s);
                        break;
                case OPTION_SETTINGS:
                        options->settings_path = optarg;
                        break;
                case OPTION_SETS:
                        options->sets_path = optarg;
                        break;
                case OPTION_SIZE:
                        status = cost_option_number("event-size", optarg, 100, LIMIT_FIREHOSE_RECORD_BYTES_MAX - 1,
                                                    true, &options->event_size);
                        break;
                case OPTION_EVENTS:
                        options->events_path = optarg;
                        break;
                case OPTION_SHARE:
                        status = cost_option_share(options, optarg);
                        break;
                case OPTION_RATIO:
                        status = cost_option_number("gzip-ratio", optarg, 1, 1000, false, &options->gzip_ratio);
                        break;
                case OPTION_SERIES:
                        status = cost_option_number("series", optarg, 1, 1e9, true, &options->series);
                        break;
                case OPTION_CPU:
                        status = cost_option_number("cpu-per-event-us", optarg, 0.001, 1e6, false, &options->cpu_us);
                        break;
                case OPTION_PRICES:
                        options->prices_path = optarg;
                        break;
                case OPTION_JSON:
                        options->json = true;
                        break;
                case OPTION_HELP:
                        (void)fputs(cost_help, stdout);
                        return CMD_EXIT_OK;
                default:
                        return cmd_option_refused("cost", option, cost_option_table, argv);
                }
        }
        if (status != CMD_EXIT_OK)
                return status;
        if (optind < argc) {
                (void)fprintf(stderr, "sendring cost: unexpected argument '%s'; `sendring cost --help` explains\n",
                              argv[optind]);
                return CMD_EXIT_USAGE;
        }
        return cost_options_check(options);
}

/* Without settings: their defaults. */
static int cost_default_settings(struct explain *explain)
{
        struct rules_report report;
        rules_report_init(&report);
        enum err_code code = rules_settings_parse("the defaults", SLICE_EMPTY, &explain->settings, &report);
        explain->has_settings = code == ERR_OK;
        rules_report_release(&report);
        if (code == ERR_OK)
                return CMD_EXIT_OK;
        (void)fprintf(stderr, "sendring cost: out of memory\n"); /* the defaults have no mistakes */
        return CMD_EXIT_IO;
}

static int cost_load_prices(const char *path, struct prices *ret_prices)
{
        struct rules_report report;
        *ret_prices = prices_us_east_1;
        if (path == NULL)
                return CMD_EXIT_OK;
        rules_report_init(&report);
        enum err_code code = rules_prices_load(path, ret_prices, &report);
        rules_report_print(&report, stderr);
        rules_report_release(&report);
        if (code == ERR_MEMORY)
                (void)fprintf(stderr, "sendring cost: out of memory\n");
        return code == ERR_OK ? CMD_EXIT_OK : code == ERR_MEMORY ? CMD_EXIT_IO : CMD_EXIT_CONFIG;
}

static int cost_find_traffic(struct cost_options *options, const struct explain *explain, const struct prices *prices,
                             struct cost_traffic *ret_traffic)
{
        struct cost_samples samples = {.count = 0};
        int status = CMD_EXIT_OK;
        if (options->events_path != NULL) {
                status = cost_samples_read(&samples, options->events_path);
        } else if (!cost_samples_standard(&samples, explain->plan)) {
                (void)fprintf(stderr, "sendring cost: out of memory\n");
                status = CMD_EXIT_IO;
        }
        struct cost_question question = {
                .plan = explain->plan,
                .options = {.account_id = slice_of_text(explain->settings.account_id),
                            .region = slice_of_text(explain->settings.region),
                            .partition = slice_of_text(explain->settings.partition)},
                .samples = &samples,
                .match = options->events_path != NULL,
                .sizes_from = options->events_path != NULL ? COST_SIZES_FILE
                              : options->event_size > 0    ? COST_SIZES_GIVEN
                                                           : COST_SIZES_STANDARD,
                .event_bytes = options->event_size > 0 ? options->event_size + 1 : 0,
                .step_bytes = (double)prices->firehose_step_bytes,
                .shares = options->shares,
                .shares_count = options->shares_count,
        };
        if (status == CMD_EXIT_OK)
                status = cost_traffic_of(&question, ret_traffic);
        cost_samples_release(&samples);
        if (status != CMD_EXIT_OK)
                return status;
        ret_traffic->events_per_s = options->rate;
        if (options->measure_s > 0)
                status = cost_measure(&explain->settings, &question, (uint64_t)options->measure_s, ret_traffic);
        if (status != CMD_EXIT_OK)
                free(ret_traffic->flows);
        return status;
}

static const char *const cost_events_from[] = {
        [COST_SIZES_STANDARD] =
                "the standard mix: Send 40%, Delivery 40%, Open 12%, Click 5%, Bounce 2.5%, Complaint 0.5%",
        [COST_SIZES_GIVEN] = "of the given size, types of the standard mix",
        [COST_SIZES_FILE] = "those of the file",
        [COST_SIZES_JOURNAL] = "sizes of those that came meanwhile, a sample of them where they were many",
};

static int cost_answer(const struct cost_options *options, const struct explain *explain, const struct prices *prices,
                       const struct cost_traffic *traffic)
{
        bool measured = options->measure_s > 0;
        struct cost_report report;
        struct cost_inputs inputs = {
                .plan = explain->plan,
                .settings = &explain->settings,
                .traffic = traffic,
                .prices = prices,
                .measured = measured,
                .gzip_ratio = options->gzip_ratio > 0 ? options->gzip_ratio : COST_GZIP_RATIO_DEFAULT,
                .series = options->series,
                .cpu_us = options->cpu_us > 0   ? options->cpu_us
                          : traffic->cpu_us > 0 ? traffic->cpu_us
                                                : COST_CPU_US_DEFAULT,
                .rate_from = measured ? "measured at the running router" : "as given",
                .events_from = measured && traffic->sizes_from == COST_SIZES_STANDARD
                                       ? "the standard mix, since the journal has none of those that came meanwhile"
                                       : cost_events_from[traffic->sizes_from],
                .shares_from = measured ? "what the journal accepted for each target meanwhile"
                               : options->events_path != NULL
                                       ? "the events matched by the configuration sets, filters too"
                                       : "by the event types of each destination; configuration sets have equal parts "
                                         "unless --share says otherwise; filters are not known: they let everything "
                                         "through unless --share or --events says otherwise",
                .cpu_from = options->cpu_us > 0   ? "as given"
                            : traffic->cpu_us > 0 ? "the router's, measured"
                                                  : "the whole path to one Firehose destination, packed, over TLS, by "
                                                    "bench/path on 2 vCPUs of an Intel Xeon with AVX-512 at 2.6 GHz, "
                                                    "other hosts differ (--cpu-per-event-us); each further destination "
                                                    "adds to it, and at low rates wake-ups do",
        };
        bool ok = cost_report_make(&inputs, &report);
        if (ok) {
                if (options->json)
                        ok = cost_report_print_json(&report);
                else
                        cost_report_print(&report);
                cost_report_release(&report);
        }
        if (!ok)
                (void)fprintf(stderr, "sendring cost: out of memory\n");
        return ok ? CMD_EXIT_OK : CMD_EXIT_IO;
}

int cmd_cost(int argc, char **argv)
{
        struct cost_options *options = calloc(1, sizeof(*options));
        if (options == NULL) {
                (void)fprintf(stderr, "sendring cost: out of memory\n");
                return CMD_EXIT_IO;
        }
        int status = cost_parse(argc, argv, options);
        if (status >= 0) {
                free(options);
                return status;
        }
        struct explain explain;
        struct prices prices;
        struct cost_traffic traffic = {.flows = NULL};
        status = explain_open(&explain, "cost", options->settings_path, options->sets_path);
        if (status == CMD_EXIT_OK && !explain.has_settings)
                status = cost_default_settings(&explain);
        if (status == CMD_EXIT_OK)
                status = cost_load_prices(options->prices_path, &prices);
        if (status == CMD_EXIT_OK)
                status = cost_find_traffic(options, &explain, &prices, &traffic);
        if (status == CMD_EXIT_OK) {
                status = cost_answer(options, &explain, &prices, &traffic);
                free(traffic.flows);
        }
        explain_close(&explain);
        free(options);
        return status;
}
