/* usage: pattern_verdicts EVENTS.jsonl [--published] <PATTERNS
 * What our filters say: for each line of standard input, a pattern, one line: a digit 0 or 1 for each event, or "error"
 * and why it is no pattern. With --published: the events as they are published, one a line, and nothing else. */
#include "tests/support/pattern_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int verdicts_published(const struct pattern_cases *cases)
{
        for (uint32_t i = 0; i < cases->events_count; i++) {
                size_t room = codec_json_size_max(&cases->events[i], &pattern_cases_options);
                uint8_t *json = malloc(room);
                if (json == NULL)
                        return 1;
                size_t bytes = codec_json_encode(&cases->events[i], &pattern_cases_options, json, room);
                printf("%.*s\n", (int)bytes, (const char *)json);
                free(json);
        }
        return 0;
}

int main(int argc, char **argv)
{
        static struct pattern_cases cases;
        if (argc < 2 || !pattern_cases_load(&cases, argv[1]))
                return 64;
        if (argc > 2 && strcmp(argv[2], "--published") == 0)
                return verdicts_published(&cases);
        char *line = NULL;
        size_t room = 0;
        for (ssize_t bytes; (bytes = getline(&line, &room, stdin)) > 0;) {
                struct arena arena;
                struct rules_report report;
                arena_init(&arena, 0, 0);
                rules_report_init(&report);
                struct slice text = slice_of(line, (size_t)bytes - (line[bytes - 1] == '\n'));
                const struct rules_pattern *pattern = pattern_cases_compile(text, &arena, &report);
                if (pattern == NULL) {
                        const struct rules_finding *finding = report.first;
                        while (finding->severity != RULES_ERROR)
                                finding = finding->next;
                        printf("error %s\n", finding->text);
                } else {
                        for (uint32_t i = 0; i < cases.events_count; i++)
                                (void)putchar(pattern_cases_match(pattern, &cases.events[i]) ? '1' : '0');
                        (void)putchar('\n');
                }
                rules_report_release(&report);
                arena_release(&arena);
        }
        free(line);
        arena_release(&cases.arena);
        return 0;
}
