/* sendring explain: where one event would go, and why not elsewhere. */
#include "tools/cmd.h"
#include "tools/explain.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPLAIN_SETTINGS_DEFAULT "/etc/sendring/sendring.yaml"

static const char explain_help[] =
        "usage: sendring explain [--settings FILE] [--configuration-sets FILE] [--set NAME] [--json] EVENT.json\n"
        "\n"
        "Says what the configuration makes of an event, given as SES publishes it ('-': standard input): the "
        "configuration\n"
        "set, each of its event destinations with match or the first reason why not, the metrics it counts in, and "
        "the\n"
        "bytes that would be sent. Asks no daemon and sends nothing.\n"
        "\n"
        "  --settings FILE            default: " EXPLAIN_SETTINGS_DEFAULT "\n"
        "  --configuration-sets FILE  default: the one that the settings name; given without --settings, there are no\n"
        "                             settings: no default set, account and region\n"
        "  --set NAME                 as if the event named this configuration set\n"
        "  --json                     one JSON object\n"
        "\n"
        "Exit status: 0 some destination matches; 1 none does; 64 wrong usage; 74 the event cannot be read or is "
        "none;\n"
        "78 the configuration has mistakes.\n";

struct explain_options {
        const char *settings_path, *sets_path, *set, *event_path;
        bool json;
};

/* -1: go on; else the exit status. */
static int explain_parse(int argc, char **argv, struct explain_options *ret_options)
{
        static const struct option options[] = {
                {"settings", required_argument, NULL, 's'}, {"configuration-sets", required_argument, NULL, 'c'},
                {"set", required_argument, NULL, 'n'},      {"json", no_argument, NULL, 'j'},
                {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0}};
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
                case 'n':
                        ret_options->set = optarg;
                        break;
                case 'j':
                        ret_options->json = true;
                        break;
                case 'h':
                        (void)fputs(explain_help, stdout);
                        return CMD_EXIT_OK;
                default:
                        return cmd_option_refused("explain", option, options, argv);
                }
        }
        if (argc - optind != 1) {
                (void)fprintf(
                        stderr,
                        "sendring explain: one EVENT.json is needed, or '-'; `sendring explain --help` explains\n");
                return CMD_EXIT_USAGE;
        }
        ret_options->event_path = argv[optind];
        if (ret_options->settings_path == NULL && ret_options->sets_path == NULL)
                ret_options->settings_path = EXPLAIN_SETTINGS_DEFAULT;
        return -1;
}

/* Those of the destinations that get the same bytes are named before them, once. */
static void explain_print_published(const json_t *destinations)
{
        for (size_t i = 0; i < json_array_size(destinations); i++) {
                const json_t *one = json_array_get(destinations, i);
                const char *published = json_string_value(json_object_get(one, "published"));
                bool seen = false;
                for (size_t k = 0; k < i && published != NULL; k++) {
                        const char *other =
                                json_string_value(json_object_get(json_array_get(destinations, k), "published"));
                        seen |= other != NULL && strcmp(other, published) == 0;
                }
                if (published == NULL || seen)
                        continue;
                printf("\n%zu bytes for", strlen(published));
                for (size_t k = i; k < json_array_size(destinations); k++) {
                        const json_t *other = json_array_get(destinations, k);
                        const char *same = json_string_value(json_object_get(other, "published"));
                        if (same != NULL && strcmp(same, published) == 0)
                                printf(" %s%s%s", json_string_value(json_object_get(other, "name")),
                                       json_is_true(json_object_get(other, "eventId")) ? " (and a sendring member)"
                                                                                       : "",
                                       json_object_get(other, "compression") != NULL ? " (in a gzip file with others)"
                                                                                     : "");
                }
                printf(":\n%s\n", published);
        }
}

static void explain_print_metrics(const json_t *metrics, const json_t *refused)
{
        size_t i;
        const char *name;
        json_t *value;
        const json_t *metric;
        json_array_foreach(metrics, i, metric)
        {
                char *dimensions = json_dumps(json_object_get(metric, "dimensions"), JSON_COMPACT);
                printf("      %s %s\n", json_string_value(json_object_get(metric, "metric")),
                       dimensions != NULL ? dimensions : "?");
                free(dimensions);
        }
        json_object_foreach((json_t *)(uintptr_t)refused, name, value)
        {
                char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
                printf("      no metric with dimension %s: CloudWatch, or SES for a header, does not take its value "
                       "%s\n",
                       name, text != NULL ? text : "?");
                free(text);
        }
}

static void explain_print(const json_t *result)
{
        const json_t *destinations = json_object_get(result, "destinations"), *destination;
        const char *set = json_string_value(json_object_get(result, "configurationSet"));
        const char *from = json_string_value(json_object_get(result, "configurationSetFrom"));
        size_t i;
        printf("event: %s\n", json_string_value(json_object_get(result, "eventType")));
        if (set == NULL)
                printf("configuration set: none is named, and there is no default one: the event is unmatched\n");
        else
                printf("configuration set: %s (%s)%s\n", set,
                       strcmp(from, "event") == 0     ? "the event names it"
                       : strcmp(from, "default") == 0 ? "the default one"
                                                      : "--set",
                       json_is_true(json_object_get(result, "known")) ? "" : ": there is none of that name");
        char *dropped = explain_dropped_text(result);
        if (dropped != NULL)
                printf("%s\n", dropped);
        free(dropped);
        json_array_foreach(destinations, i, destination)
        {
                const char *target = json_string_value(json_object_get(destination, "target"));
                bool match = json_is_true(json_object_get(destination, "match"));
                printf("  %s%s%s: %s%s\n", json_string_value(json_object_get(destination, "name")),
                       target != NULL ? " -> " : "", target != NULL ? target : "",
                       match ? "" : "no: ", json_string_value(json_object_get(destination, "reason")));
                explain_print_metrics(json_object_get(destination, "metrics"), json_object_get(destination, "refused"));
        }
        explain_print_published(destinations);
}

int cmd_explain(int argc, char **argv)
{
        struct explain_options options = {.json = false};
        int status = explain_parse(argc, argv, &options);
        if (status >= 0)
                return status;
        struct explain explain;
        size_t bytes = 0;
        char *text = NULL, *why = NULL;
        status = explain_open(&explain, "explain", options.settings_path, options.sets_path);
        if (status == CMD_EXIT_OK && (text = explain_read("explain", options.event_path, &bytes)) == NULL)
                status = CMD_EXIT_IO;
        if (status == CMD_EXIT_OK) {
                json_t *result = explain_event(&explain, slice_of(text, bytes), slice_of_text(options.set), &why);
                if (result == NULL) {
                        (void)fprintf(stderr, "sendring explain: %s: %s\n", options.event_path, why);
                        status = CMD_EXIT_IO;
                } else {
                        size_t i;
                        const json_t *one;
                        bool any = false;
                        json_array_foreach(json_object_get(result, "destinations"), i, one) any |=
                                json_is_true(json_object_get(one, "match"));
                        if (options.json) {
                                (void)json_dumpf(result, stdout, JSON_COMPACT);
                                printf("\n");
                        } else {
                                explain_print(result);
                        }
                        status = any ? CMD_EXIT_OK : CMD_EXIT_FAILED;
                }
                json_decref(result);
                free(why);
        }
        free(text);
        explain_close(&explain);
        return status;
}
