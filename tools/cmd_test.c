/* sendring test: named events with what a configuration should make of them, for the repository that the configuration
 * lives in. */
#include "tools/cmd.h"
#include "tools/explain.h"

#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char test_help[] =
        "usage: sendring test [--settings FILE] [--configuration-sets FILE] [--json] FIXTURES.json...\n"
        "\n"
        "Runs named events through a configuration and compares where they would go. A file of fixtures is\n"
        "\n"
        "  {\"settings\": \"sendring.yaml\", \"configuration-sets\": \"configuration-sets.yaml\",\n"
        "   \"fixtures\": [{\"name\": \"hard bounces are kept\", \"event\": {...}, \"set\": \"bulk-a\",\n"
        "                 \"destinations\": [\"archive\"],\n"
        "                 \"dimensions\": {\"metrics\": [{\"metric\": \"Bounce\", \"dimensions\": {\"campaign\": "
        "\"april\"}}]},\n"
        "                 \"published\": {\"archive\": {...}}}]}\n"
        "\n"
        "with paths from the file's own folder. A fixture needs a name and an event, as SES publishes it; `set` is as "
        "if "
        "the\n"
        "event named it. Of `destinations` (all that match), `dimensions` and `published`, by destination, what is "
        "given "
        "is\n"
        "compared: published JSON by value, or as a text byte by byte; null: not published, not counted. What differs "
        "is\n"
        "shown, - wanted and + seen, with the reason. Members of the event that would not be sent are named.\n"
        "\n"
        "  --settings FILE            in place of the one that the fixtures name\n"
        "  --configuration-sets FILE  likewise\n"
        "  --json                     one JSON object for each fixture\n"
        "\n"
        "Exit status: 0 all are as wanted; 1 some differ; 64 wrong usage; 74 a file cannot be read or is no such "
        "JSON;\n"
        "78 the configuration has mistakes.\n";

struct test_options {
        const char *settings_path, *sets_path;
        bool json;
        uint32_t passed, failed;
};

/* ---------------------------------------------------------------------------------------------- differences */

/* `nothing` stands for a value that is NULL. */
static void test_line(json_t *differences, char mark, const char *path, const json_t *value, const char *nothing)
{
        char *text = value == NULL ? strdup(nothing) : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        (void)json_array_append_new(differences, json_sprintf("%c %s: %s", mark, path, text != NULL ? text : "?"));
        free(text);
}

/* What differs between two values, down to the members. */
static void test_diff(json_t *differences, const char *path, const json_t *wanted, const json_t *seen)
{
        const char *name;
        json_t *inner;
        if (wanted != NULL && seen != NULL && json_equal(wanted, seen))
                return;
        if (json_is_object(wanted) && json_is_object(seen)) {
                json_object_foreach((json_t *)(uintptr_t)wanted, name, inner)
                {
                        json_t *below = json_sprintf("%s.%s", path, name);
                        test_diff(differences, json_string_value(below), inner, json_object_get(seen, name));
                        json_decref(below);
                }
                json_object_foreach((json_t *)(uintptr_t)seen, name, inner)
                {
                        json_t *below = json_sprintf("%s.%s", path, name);
                        if (json_object_get(wanted, name) == NULL)
                                test_line(differences, '+', json_string_value(below), inner, "");
                        json_decref(below);
                }
                return;
        }
        if (json_is_array(wanted) && json_is_array(seen)) {
                size_t most = json_array_size(wanted) > json_array_size(seen) ? json_array_size(wanted)
                                                                              : json_array_size(seen);
                for (size_t i = 0; i < most; i++) {
                        json_t *below = json_sprintf("%s[%zu]", path, i);
                        test_diff(differences, json_string_value(below), json_array_get(wanted, i),
                                  json_array_get(seen, i));
                        json_decref(below);
                }
                return;
        }
        if (wanted != NULL)
                test_line(differences, '-', path, wanted, "");
        if (seen != NULL)
                test_line(differences, '+', path, seen, "");
}

static int test_name_order(const void *a, const void *b)
{
        const char *const *left = a, *const *right = b;
        return strcmp(*left, *right);
}

/* The names of `list` (texts, or destinations that match) as a sorted list of texts. */
static json_t *test_names(const json_t *list)
{
        const char *names[256];
        size_t count = 0, i;
        const json_t *one;
        json_t *sorted = json_array();
        json_array_foreach(list, i, one)
        {
                const char *name = json_string_value(json_is_object(one) ? json_object_get(one, "name") : one);
                if (name != NULL && count < 256 &&
                    (!json_is_object(one) || json_is_true(json_object_get(one, "match"))))
                        names[count++] = name;
        }
        qsort(names, count, sizeof(names[0]), test_name_order);
        for (i = 0; i < count; i++)
                (void)json_array_append_new(sorted, json_string(names[i]));
        return sorted;
}

static const json_t *test_destination(const json_t *result, const char *name)
{
        size_t i;
        const json_t *one;
        json_array_foreach(json_object_get(result, "destinations"), i, one)
        {
                if (strcmp(json_string_value(json_object_get(one, "name")), name) == 0)
                        return one;
        }
        return NULL;
}

/* "name: why", with the explanation's reason. */
static void test_reason(json_t *differences, const char *name, const json_t *destination)
{
        (void)json_array_append_new(differences,
                                    json_sprintf("  %s: %s", name,
                                                 destination == NULL
                                                         ? "the set has no such destination"
                                                         : json_string_value(json_object_get(destination, "reason"))));
}

/* Of each destination that `wanted` names: its `member`, a published JSON or its metrics. null wants that there is
 * none, which `nothing` says. */
static void test_by_destination(json_t *differences, const char *what, const char *member, const char *nothing,
                                const json_t *wanted, const json_t *result)
{
        const char *name;
        json_t *inner;
        json_object_foreach((json_t *)(uintptr_t)wanted, name, inner)
        {
                const json_t *destination = test_destination(result, name);
                json_t *seen = json_incref(json_object_get(destination, member));
                json_t *path = json_sprintf("%s.%s", what, name);
                if (json_is_string(seen) && !json_is_string(inner)) {
                        json_t *parsed = json_loads(json_string_value(seen), 0, NULL);
                        json_decref(seen);
                        seen = parsed;
                }
                bool wants_none = json_is_null(inner);
                if (seen != NULL && !wants_none) {
                        test_diff(differences, json_string_value(path), inner, seen);
                } else if (seen != NULL || !wants_none) {
                        test_line(differences, '-', json_string_value(path), wants_none ? NULL : inner, nothing);
                        test_line(differences, '+', json_string_value(path), seen, nothing);
                        if (seen == NULL)
                                test_reason(differences, name, destination);
                }
                json_decref(path);
                json_decref(seen);
        }
}

/* ---------------------------------------------------------------------------------------------- fixtures */

/* What differs; a new list. */
static json_t *test_compare(const json_t *fixture, const json_t *result)
{
        json_t *differences = json_array();
        const json_t *wanted = json_object_get(fixture, "destinations");
        if (wanted != NULL) {
                json_t *names = test_names(wanted), *seen = test_names(json_object_get(result, "destinations"));
                test_diff(differences, "destinations", names, seen);
                if (!json_equal(names, seen)) {
                        /* Why not, for those that were wanted. */
                        size_t i;
                        const json_t *name;
                        json_array_foreach(names, i, name)
                        {
                                const json_t *one = test_destination(result, json_string_value(name));
                                if (!json_is_true(json_object_get(one, "match")))
                                        test_reason(differences, json_string_value(name), one);
                        }
                }
                json_decref(names);
                json_decref(seen);
        }
        test_by_destination(differences, "dimensions", "metrics", "not counted", json_object_get(fixture, "dimensions"),
                            result);
        test_by_destination(differences, "published", "published", "not published",
                            json_object_get(fixture, "published"), result);
        return differences;
}

static void test_fixture(const struct explain *explain, struct test_options *options, const json_t *fixture)
{
        const char *name = json_string_value(json_object_get(fixture, "name"));
        char *event = json_dumps(json_object_get(fixture, "event"), JSON_COMPACT), *why = NULL;
        json_t *result = explain_event(explain, slice_of_text(event),
                                       slice_of_text(json_string_value(json_object_get(fixture, "set"))), &why);
        json_t *differences = result != NULL ? test_compare(fixture, result) : json_array();
        if (result == NULL)
                (void)json_array_append_new(differences, json_sprintf("  no event: %s", why));
        bool good = json_array_size(differences) == 0;
        options->passed += good;
        options->failed += !good;
        if (options->json) {
                json_t *line = json_pack("{s:s,s:b,s:O}", "name", name, "ok", good, "differences", differences);
                if (json_object_get(result, "dropped") != NULL)
                        (void)json_object_set(line, "dropped", json_object_get(result, "dropped"));
                (void)json_dumpf(line, stdout, JSON_COMPACT);
                printf("\n");
                json_decref(line);
        } else {
                size_t i;
                const json_t *difference;
                char *dropped = explain_dropped_text(result);
                printf("%s %s\n", good ? "ok  " : "FAIL", name);
                if (dropped != NULL)
                        printf("     %s\n", dropped);
                free(dropped);
                json_array_foreach(differences, i, difference) printf("     %s\n", json_string_value(difference));
        }
        json_decref(differences);
        json_decref(result);
        free(event);
        free(why);
}

static bool test_is_list_of_texts(const json_t *list)
{
        size_t i;
        const json_t *one;
        json_array_foreach(list, i, one) if (!json_is_string(one)) return false;
        return json_is_array(list);
}

/* NULL: it is a file of fixtures; else why not. A fixture that wants nothing would always be as wanted. */
static const char *test_check(const json_t *root)
{
        size_t i;
        const char *name;
        json_t *inner;
        const json_t *fixture;
        if (!json_is_object(root) || !json_is_array(json_object_get(root, "fixtures")))
                return "it must be an object with a list `fixtures`";
        json_object_foreach((json_t *)(uintptr_t)root, name, inner)
        {
                bool is_path = strcmp(name, "settings") == 0 || strcmp(name, "configuration-sets") == 0;
                if (!is_path && strcmp(name, "fixtures") != 0)
                        return "it has a member that is none of settings, configuration-sets and fixtures";
                if (is_path && !json_is_string(inner))
                        return "settings and configuration-sets are texts";
        }
        if (json_array_size(json_object_get(root, "fixtures")) == 0)
                return "it has no fixtures";
        json_array_foreach(json_object_get(root, "fixtures"), i, fixture)
        {
                if (!json_is_string(json_object_get(fixture, "name")) ||
                    !json_is_object(json_object_get(fixture, "event")))
                        return "every fixture needs a name and an event";
                json_object_foreach((json_t *)(uintptr_t)fixture, name, inner)
                {
                        bool good = strcmp(name, "destinations") == 0 ? test_is_list_of_texts(inner)
                                    : strcmp(name, "dimensions") == 0 || strcmp(name, "published") == 0 ||
                                                    strcmp(name, "event") == 0
                                            ? json_is_object(inner)
                                            : (strcmp(name, "name") == 0 || strcmp(name, "set") == 0) &&
                                                      json_is_string(inner);
                        if (!good)
                                return "a fixture has name, event, set, destinations (a list of names), dimensions "
                                       "and published (objects)";
                }
                if (json_object_get(fixture, "destinations") == NULL &&
                    json_object_size(json_object_get(fixture, "dimensions")) == 0 &&
                    json_object_size(json_object_get(fixture, "published")) == 0)
                        return "every fixture needs something to compare: destinations, dimensions or published";
        }
        return NULL;
}

/* `given`, or the path that the file names, from its own folder; NULL: neither. To be freed. */
static char *test_path(const char *given, const char *file, const json_t *root, const char *member)
{
        const char *named = json_string_value(json_object_get(root, member));
        char *path = NULL, *copy;
        if (given != NULL || named == NULL)
                return given == NULL ? NULL : strdup(given);
        copy = strdup(file);
        if (copy == NULL ||
            asprintf(&path, "%s%s%s", named[0] == '/' ? "" : dirname(copy), named[0] == '/' ? "" : "/", named) < 0)
                path = NULL;
        free(copy);
        return path;
}

static int test_file(struct test_options *options, const char *file)
{
        size_t bytes = 0;
        json_error_t error;
        char *text = explain_read("test", file, &bytes);
        if (text == NULL)
                return CMD_EXIT_IO;
        json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
        const char *why = root == NULL ? NULL : test_check(root);
        int status = CMD_EXIT_OK;
        free(text);
        if (root == NULL)
                (void)fprintf(stderr, "%s:%d:%d: %s\n", file, error.line, error.column, error.text);
        else if (why != NULL)
                (void)fprintf(stderr, "sendring test: %s is no file of fixtures: %s; `sendring test --help` has one\n",
                              file, why);
        if (root == NULL || why != NULL) {
                json_decref(root);
                return CMD_EXIT_IO;
        }
        struct explain explain = {.command = "test"};
        char *settings = test_path(options->settings_path, file, root, "settings");
        char *sets = test_path(options->sets_path, file, root, "configuration-sets");
        if (settings == NULL && sets == NULL) {
                (void)fprintf(stderr, "sendring test: %s names neither settings nor configuration-sets\n", file);
                status = CMD_EXIT_USAGE;
        } else {
                status = explain_open(&explain, "test", settings, sets);
        }
        if (status == CMD_EXIT_OK) {
                size_t i;
                const json_t *fixture;
                json_array_foreach(json_object_get(root, "fixtures"), i, fixture)
                        test_fixture(&explain, options, fixture);
        }
        explain_close(&explain);
        free(settings);
        free(sets);
        json_decref(root);
        return status;
}

int cmd_test(int argc, char **argv)
{
        static const struct option options[] = {{"settings", required_argument, NULL, 's'},
                                                {"configuration-sets", required_argument, NULL, 'c'},
                                                {"json", no_argument, NULL, 'j'},
                                                {"help", no_argument, NULL, 'h'},
                                                {NULL, 0, NULL, 0}};
        struct test_options given = {.json = false};
        optind = 0; /* argv is not the process's own */
        opterr = 0;
        for (int option; (option = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
                switch (option) {
                case 's':
                        given.settings_path = optarg;
                        break;
                case 'c':
                        given.sets_path = optarg;
                        break;
                case 'j':
                        given.json = true;
                        break;
                case 'h':
                        (void)fputs(test_help, stdout);
                        return CMD_EXIT_OK;
                default:
                        return cmd_option_refused("test", option, options, argv);
                }
        }
        if (optind == argc) {
                (void)fprintf(stderr, "sendring test: a FIXTURES.json is needed; `sendring test --help` explains\n");
                return CMD_EXIT_USAGE;
        }
        for (int i = optind; i < argc; i++) {
                int status = test_file(&given, argv[i]);
                if (status != CMD_EXIT_OK)
                        return status;
        }
        if (!given.json)
                printf("%u as wanted, %u not\n", given.passed, given.failed);
        return given.failed == 0 ? CMD_EXIT_OK : CMD_EXIT_FAILED;
}
