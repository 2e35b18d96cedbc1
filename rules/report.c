/* Findings: collecting, ordering, printing. */
#include "base/assert.h"
#include "rules/rules_internal.h"

#include <stdarg.h>
#include <stdlib.h>

void rules_report_init(struct rules_report *report)
{
        *report = (struct rules_report){0};
        arena_init(&report->arena, (size_t)16 * 1024, 0);
}

void rules_report_release(struct rules_report *report)
{
        arena_release(&report->arena);
        *report = (struct rules_report){0};
}

static const char *report_severity_name(enum rules_severity severity)
{
        return severity == RULES_ERROR ? "error" : "warning";
}

void rules_report_print(const struct rules_report *report, FILE *out)
{
        for (const struct rules_finding *finding = report->first; finding != NULL; finding = finding->next) {
                if (finding->line == 0)
                        (void)fprintf(out, "%s: %s: %s\n", finding->file, report_severity_name(finding->severity),
                                      finding->text);
                else
                        (void)fprintf(out, "%s:%u:%u: %s: %s\n", finding->file, finding->line, finding->column,
                                      report_severity_name(finding->severity), finding->text);
        }
        if (report->errors > report->errors_kept || report->warnings > report->warnings_kept)
                (void)fprintf(out, "... and %u more errors, %u more warnings\n", report->errors - report->errors_kept,
                              report->warnings - report->warnings_kept);
}

static void report_json_text(FILE *out, const char *text)
{
        (void)fputc('"', out);
        for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
                if (*at == '"' || *at == '\\')
                        (void)fprintf(out, "\\%c", *at);
                else if (*at < 0x20)
                        (void)fprintf(out, "\\u%04x", *at);
                else
                        (void)fputc(*at, out);
        }
        (void)fputc('"', out);
}

void rules_report_print_json(const struct rules_report *report, FILE *out)
{
        for (const struct rules_finding *finding = report->first; finding != NULL; finding = finding->next) {
                (void)fputs("{\"file\":", out);
                report_json_text(out, finding->file);
                (void)fprintf(out, ",\"line\":%u,\"column\":%u,\"severity\":\"%s\",\"text\":", finding->line,
                              finding->column, report_severity_name(finding->severity));
                report_json_text(out, finding->text);
                (void)fputs("}\n", out);
        }
}

bool rules_reader_begin(struct rules_reader *reader, const char *file, struct arena *arena, struct rules_report *report)
{
        *reader = (struct rules_reader){
                .report = report,
                .file = arena_copy_text(&report->arena, file),
                .arena = arena,
                .errors_before = report->errors,
                .before = report->last,
        };
        return reader->file != NULL;
}

struct report_ranked {
        struct rules_finding *finding;
        uint32_t rank;
};

static int report_compare(const void *a, const void *b)
{
        const struct report_ranked *left = a, *right = b;
        if (left->finding->line != right->finding->line)
                return left->finding->line < right->finding->line ? -1 : 1;
        if (left->finding->column != right->finding->column)
                return left->finding->column < right->finding->column ? -1 : 1;
        return left->rank < right->rank ? -1 : 1;
}

static void report_forget(struct rules_report *report, enum rules_severity severity)
{
        if (severity == RULES_ERROR) {
                report->errors--;
                report->errors_kept--;
        } else {
                report->warnings--;
                report->warnings_kept--;
        }
}

static void report_sort(struct rules_reader *reader)
{
        struct rules_report *report = reader->report;
        struct rules_finding **head = reader->before == NULL ? &report->first : &reader->before->next;
        uint32_t count = 0; /* each severity is kept up to its bound */
        struct report_ranked ranked[2 * RULES_FINDINGS_KEPT_MAX];
        for (struct rules_finding *finding = *head; finding != NULL; finding = finding->next) {
                ASSERT(count < 2 * RULES_FINDINGS_KEPT_MAX);
                ranked[count] = (struct report_ranked){finding, count};
                count++;
        }
        if (count == 0)
                return;
        qsort(ranked, count, sizeof(ranked[0]), report_compare);
        /* What an alias repeats is one mistake. */
        struct rules_finding *last = NULL;
        for (uint32_t i = 0; i < count; i++) {
                struct rules_finding *finding = ranked[i].finding;
                if (last != NULL && last->line == finding->line && last->column == finding->column &&
                    last->severity == finding->severity && strcmp(last->text, finding->text) == 0) {
                        report_forget(report, finding->severity);
                        continue;
                }
                ASSERT_KNOWN(head != NULL);
                *head = finding;
                head = &finding->next;
                last = finding;
        }
        *head = NULL;
        report->last = last;
}

enum err_code rules_reader_end(struct rules_reader *reader)
{
        report_sort(reader);
        if (reader->out_of_memory)
                return ERR_MEMORY;
        return reader->report->errors > reader->errors_before ? ERR_CONFIG : ERR_OK;
}

__attribute__((format(printf, 4, 0))) static void report_add(struct rules_reader *reader, enum rules_severity severity,
                                                             const struct rules_yaml_node *node, const char *format,
                                                             va_list args)
{
        struct rules_report *report = reader->report;
        uint32_t *kept = severity == RULES_ERROR ? &report->errors_kept : &report->warnings_kept;
        if (severity == RULES_ERROR)
                report->errors++;
        else
                report->warnings++;
        if (*kept == RULES_FINDINGS_KEPT_MAX)
                return;
        char text[2048];
        (void)vsnprintf(text, sizeof(text), format, args); /* a longer sentence is cut */
        struct rules_finding *finding = arena_alloc(&report->arena, sizeof(*finding));
        char *copy = arena_copy_text(&report->arena, text);
        if (finding == NULL || copy == NULL) {
                reader->out_of_memory = true;
                return;
        }
        *finding = (struct rules_finding){
                .severity = severity,
                .file = reader->file,
                .line = node == NULL ? 0 : node->line,
                .column = node == NULL ? 0 : node->column,
                .text = copy,
        };
        if (report->last == NULL)
                report->first = finding;
        else
                report->last->next = finding;
        report->last = finding;
        (*kept)++;
}

void rules_error(struct rules_reader *reader, const struct rules_yaml_node *node, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        report_add(reader, RULES_ERROR, node, format, args);
        va_end(args);
}

void rules_warning(struct rules_reader *reader, const struct rules_yaml_node *node, const char *format, ...)
{
        va_list args;
        va_start(args, format);
        report_add(reader, RULES_WARNING, node, format, args);
        va_end(args);
}

bool rules_report_warn(struct rules_report *report, const char *file, const char *format, ...)
{
        struct rules_reader reader = {.report = report, .file = arena_copy_text(&report->arena, file)};
        if (reader.file == NULL)
                return false;
        va_list args;
        va_start(args, format);
        report_add(&reader, RULES_WARNING, NULL, format, args);
        va_end(args);
        return !reader.out_of_memory;
}

const char *rules_quote(struct rules_reader *reader, struct slice text)
{
        char quoted[80 * 4 + 8];
        size_t used = 0;
        quoted[used++] = '\'';
        struct slice head = slice_head(text, 80);
        /* Not in the middle of a UTF-8 sequence. */
        while (head.len > 0 && head.len < text.len && (text.ptr[head.len] & 0xc0) == 0x80)
                head.len--;
        for (size_t i = 0; i < head.len; i++) {
                if (head.ptr[i] < 0x20 || head.ptr[i] == 0x7f)
                        used += (size_t)snprintf(quoted + used, 5, "\\x%02x", head.ptr[i]);
                else
                        quoted[used++] = (char)head.ptr[i];
        }
        if (head.len < text.len) {
                memcpy(quoted + used, "...", 3);
                used += 3;
        }
        quoted[used++] = '\'';
        struct slice copy = arena_copy(&reader->report->arena, slice_of(quoted, used));
        if (copy.ptr == NULL) {
                reader->out_of_memory = true;
                return "?";
        }
        return (const char *)copy.ptr;
}
