/* sendring validate: checks sendring.yaml and configuration-sets.yaml without touching a running daemon. */
#include "egress/http.h"
#include "rules/rules.h"
#include "tools/cmd.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define VALIDATE_SETTINGS_DEFAULT "/etc/sendring/sendring.yaml"

static const char validate_help[] =
        "usage: sendring validate [--settings FILE] [--configuration-sets FILE] [--deny-warnings]\n"
        "                         [--elsewhere] [--json]\n"
        "\n"
        "Checks the daemon's settings and the configuration sets and prints every mistake as FILE:LINE:COLUMN, then "
        "what\n"
        "the configuration sets amount to. Changes nothing and asks no daemon.\n"
        "\n"
        "  --settings FILE            default: " VALIDATE_SETTINGS_DEFAULT "\n"
        "  --configuration-sets FILE  default: the one that the settings name; given without --settings, only this "
        "file\n"
        "                             is checked\n"
        "  --deny-warnings            warnings count as mistakes\n"
        "  --elsewhere                the files are for another host: folders, certificates and keys are not looked\n"
        "                             for\n"
        "  --json                     one JSON object a line: the findings, then {\"summary\": ...}\n"
        "\n"
        "Exit status: 0 all is well, 64 wrong usage, 74 out of memory, 78 there are mistakes.\n";

struct validate_counts {
        uint32_t enabled, disabled, not_published;
        uint16_t types[LIMIT_TARGETS_MAX]; /* by target: the types that enabled destinations route to it */
};

static void validate_count(void *context, struct slice set, struct slice destination, bool enabled,
                           uint16_t event_types_mask, uint32_t target_index)
{
        struct validate_counts *counts = context;
        (void)set;
        (void)destination;
        if (target_index == RULES_TARGET_NONE) {
                counts->not_published++;
        } else if (enabled) {
                counts->enabled++;
                counts->types[target_index] |= event_types_mask;
        } else {
                counts->disabled++;
        }
}

/* Series that a CloudWatch target may make; 0 for others. */
static uint32_t validate_series(const struct rules_target *target, const struct validate_counts *counts)
{
        return target->cloudwatch == NULL
                       ? 0
                       : rules_cloudwatch_series(target->cloudwatch,
                                                 (uint32_t)__builtin_popcount(counts->types[target->index]));
}

/* All targets together: the price of one depends on how many there are. */
static uint64_t validate_all_series(const struct rules_plan *plan, const struct validate_counts *counts)
{
        uint64_t series = 0;
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++)
                series += validate_series(rules_plan_target(plan, i), counts);
        return series;
}

static void validate_plan_text(const struct rules_plan *plan, const struct validate_counts *counts)
{
        printf("%u configuration sets, %u event destinations (%u enabled, %u disabled, %u not published yet), %u "
               "targets\n",
               rules_plan_sets_count(plan), rules_plan_destinations_count(plan), counts->enabled, counts->disabled,
               counts->not_published, rules_plan_targets_count(plan));
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++) {
                const struct rules_target *target = rules_plan_target(plan, i);
                uint32_t series = validate_series(target, counts);
                printf("  %.*s: %u destinations, %u enabled", SLICE_PRINTF(target->key), target->destinations_count,
                       target->destinations_enabled_count);
                if (target->cloudwatch != NULL)
                        printf("; at most %u series in an hour, %.2f USD a month", series,
                               rules_cloudwatch_monthly_usd(series));
                printf("\n");
        }
        uint64_t all = validate_all_series(plan, counts);
        if (all > 0)
                printf("CloudWatch: at most %llu series in an hour; if they were there all month, about %.2f USD for "
                       "them (us-east-1's list price, requests and other metrics of the account not counted)\n",
                       (unsigned long long)all, rules_cloudwatch_monthly_usd(all));
}

/* Keys of targets hold printable characters only; quotes and backslashes may be in paths. */
static void validate_json_text(struct slice text)
{
        (void)putchar('"');
        for (size_t i = 0; i < text.len; i++) {
                if (text.ptr[i] == '"' || text.ptr[i] == '\\')
                        (void)putchar('\\');
                (void)putchar(text.ptr[i]);
        }
        (void)putchar('"');
}

static void validate_plan_json(const struct rules_plan *plan, const struct validate_counts *counts)
{
        printf(",\"configuration_sets\":%u,\"event_destinations\":%u,\"enabled\":%u,\"disabled\":%u,"
               "\"not_published\":%u,\"targets\":[",
               rules_plan_sets_count(plan), rules_plan_destinations_count(plan), counts->enabled, counts->disabled,
               counts->not_published);
        for (uint32_t i = 0; i < rules_plan_targets_count(plan); i++) {
                const struct rules_target *target = rules_plan_target(plan, i);
                printf("%s{\"key\":", i == 0 ? "" : ",");
                validate_json_text(target->key);
                printf(",\"destinations\":%u,\"enabled\":%u", target->destinations_count,
                       target->destinations_enabled_count);
                if (target->cloudwatch != NULL)
                        printf(",\"series_max\":%u,\"monthly_usd_max\":%.2f", validate_series(target, counts),
                               rules_cloudwatch_monthly_usd(validate_series(target, counts)));
                printf("}");
        }
        uint64_t all = validate_all_series(plan, counts);
        printf("],\"cloudwatch_series_max\":%llu,\"cloudwatch_monthly_usd_max\":%.2f", (unsigned long long)all,
               rules_cloudwatch_monthly_usd(all));
}

struct validate_options {
        const char *settings_path, *sets_path; /* NULL: not given */
        bool deny_warnings, elsewhere, json;
};

/* -1: go on; else the exit status. */
static int validate_parse(int argc, char **argv, struct validate_options *ret_options)
{
        static const struct option options[] = {{"settings", required_argument, NULL, 's'},
                                                {"configuration-sets", required_argument, NULL, 'c'},
                                                {"deny-warnings", no_argument, NULL, 'w'},
                                                {"elsewhere", no_argument, NULL, 'e'},
                                                {"json", no_argument, NULL, 'j'},
                                                {"help", no_argument, NULL, 'h'},
                                                {NULL, 0, NULL, 0}};
        optind = 0; /* argv is not the process's own */
        opterr = 0;
        for (int option; (option = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
                switch (option) {
                case 's':
                        ret_options->settings_path = optarg;
                        break;
                case 'c':
                        ret_options->sets_path = optarg;
                        break;
                case 'w':
                        ret_options->deny_warnings = true;
                        break;
                case 'e':
                        ret_options->elsewhere = true;
                        break;
                case 'j':
                        ret_options->json = true;
                        break;
                case 'h':
                        (void)fputs(validate_help, stdout);
                        return CMD_EXIT_OK;
                default:
                        return cmd_option_refused("validate", option, options, argv);
                }
        }
        if (optind < argc) {
                (void)fprintf(stderr,
                              "sendring validate: unexpected argument '%s'; `sendring validate --help` explains\n",
                              argv[optind]);
                return CMD_EXIT_USAGE;
        }
        if (ret_options->settings_path == NULL && ret_options->sets_path == NULL)
                ret_options->settings_path = VALIDATE_SETTINGS_DEFAULT;
        return -1;
}

static void validate_print(const struct validate_options *options, const struct rules_report *report,
                           const struct rules_plan *plan, bool bad)
{
        struct validate_counts counts = {.enabled = 0};
        if (plan != NULL)
                rules_plan_each(plan, validate_count, &counts);
        if (options->json) {
                rules_report_print_json(report, stdout);
                printf("{\"summary\":{\"ok\":%s,\"errors\":%u,\"warnings\":%u", bad ? "false" : "true", report->errors,
                       report->warnings);
                if (plan != NULL)
                        validate_plan_json(plan, &counts);
                printf("}}\n");
                return;
        }
        rules_report_print(report, stdout);
        if (plan != NULL)
                validate_plan_text(plan, &counts);
        printf("%s: %u errors, %u warnings\n", bad ? "refused" : "ok", report->errors, report->warnings);
}

/* A folder that the daemon does not make: without it, it would not start. False: out of memory. */
static bool validate_folder(struct rules_report *report, const char *file, const char *what, const char *path)
{
        char folder[PATH_MAX];
        const char *slash = strrchr(path, '/');
        size_t len = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
        struct stat status;
        if (len == 0 || len >= sizeof(folder))
                return true; /* relative to nothing, or refused elsewhere */
        memcpy(folder, path, len);
        folder[len] = '\0';
        bool there = stat(folder, &status) == 0;
        if (!there && errno != ENOENT && errno != ENOTDIR)
                return rules_report_warn(report, file,
                                         "%s %s: cannot look for the folder %s on this host: %s; look as root or as "
                                         "the daemon's own user, or give --elsewhere",
                                         what, path, folder, strerror(errno));
        if (there && S_ISDIR(status.st_mode))
                return true;
        return rules_report_warn(report, file,
                                 "%s %s: there is no folder %s on this host, and without it the daemon does not start; "
                                 "make it, for the daemon's user to write in",
                                 what, path, folder);
}

/* The certificates that the daemon would read at its start. False: out of memory. */
static bool validate_ca_bundle(struct rules_report *report, const char *file, const char *path)
{
        struct http_tls *tls;
        struct stat status;
        struct err err;
        if (path[0] == '\0')
                return true;                                      /* those of the environment or the system */
        if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) /* reading a FIFO would wait */
                return rules_report_warn(report, file,
                                         "egress.ca_bundle %s is no regular file on this host; name a file of PEM "
                                         "certificates",
                                         path);
        enum err_code code = http_tls_create(path, &tls, &err);
        if (code == ERR_OK)
                http_tls_free(tls);
        if (code == ERR_OK || code == ERR_MEMORY)
                return code == ERR_OK;
        return rules_report_warn(report, file,
                                 "egress.ca_bundle: %s; without it the daemon does not start. To look as the daemon, "
                                 "look as root or as its own user; for another host give --elsewhere",
                                 err.text);
}

/* What must be there on this host. False: out of memory. */
static bool validate_host(const char *settings_path, const char *sets_path, const struct rules_settings *settings,
                          const struct rules_plan *plan, struct rules_report *report)
{
        struct stat status;
        bool ok = settings == NULL || validate_folder(report, settings_path, "socket_path", settings->socket_path);
        if (ok && settings != NULL && stat(settings->state_directory, &status) == 0 && !S_ISDIR(status.st_mode))
                ok = rules_report_warn(report, settings_path,
                                       "state_directory %s is no folder on this host, and the daemon does not start; "
                                       "move away what is there",
                                       settings->state_directory);
        if (ok && settings != NULL)
                ok = validate_ca_bundle(report, settings_path, settings->egress.ca_bundle);
        for (uint32_t i = 0; plan != NULL && i < rules_plan_targets_count(plan) && ok; i++) {
                const struct rules_target *target = rules_plan_target(plan, i);
                if (target->service == RULES_SERVICE_FILE) /* a NUL is behind the text */
                        ok = validate_folder(report, sets_path, "FileDestination.Path",
                                             (const char *)target->resource.ptr);
        }
        return ok;
}

int cmd_validate(int argc, char **argv)
{
        struct validate_options options = {0};
        int status = validate_parse(argc, argv, &options);
        if (status >= 0)
                return status;
        struct rules_report report;
        struct rules_settings settings = {0};
        struct rules_plan *plan = NULL;
        enum err_code code = ERR_OK;
        bool has_settings = false;
        rules_report_init(&report);
        if (options.settings_path != NULL) {
                code = rules_settings_load(options.settings_path, &settings, &report);
                has_settings = code == ERR_OK;
        }
        /* Wrong settings do not say where the sets are, but a given file can still be checked. */
        const char *sets_path = options.sets_path;
        if (sets_path == NULL && has_settings)
                sets_path = settings.configuration_sets_path;
        if (sets_path != NULL && code != ERR_MEMORY) {
                enum err_code plan_code = (options.elsewhere ? rules_plan_load_elsewhere : rules_plan_load)(
                        sets_path, has_settings ? &settings : NULL, &plan, &report);
                code = plan_code == ERR_OK ? code : plan_code;
        }
        if (!options.elsewhere && code != ERR_MEMORY &&
            !validate_host(options.settings_path, sets_path, has_settings ? &settings : NULL, plan, &report))
                code = ERR_MEMORY;
        bool bad = code != ERR_OK || (options.deny_warnings && report.warnings > 0);
        status = bad ? CMD_EXIT_CONFIG : CMD_EXIT_OK;
        if (code == ERR_MEMORY) {
                (void)fprintf(stderr, "sendring validate: out of memory\n");
                status = CMD_EXIT_IO;
        } else {
                validate_print(&options, &report, plan, bad);
        }
        rules_plan_free(plan);
        if (has_settings)
                rules_settings_release(&settings);
        rules_report_release(&report);
        return status;
}
