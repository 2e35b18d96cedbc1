/* `sendring sink`: the bundled AWS-shaped endpoint for demos, load and fault tests, and the reader of what it counted.
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "tools/cmd.h"
#include "tools/sink_cloudwatch.h"
#include "tools/sink_control.h"
#include "tools/sink_fault.h"
#include "tools/sink_server.h"
#include "tools/sink_state.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define SINK_GRACE_MS    1000
#define SINK_LEDGERS_MAX 1024

struct sink_arguments {
        struct sink_options server;
        char host[64];
        const char *state, *control, *ready_file, *report, *tell;
        const char *ledgers[SINK_LEDGERS_MAX];
        size_t ledgers_count;
        bool progress, json;
        struct sink_faults faults;
};

static void sink_help(FILE *out)
{
        (void)fprintf(
                out, "%s",
                "usage: sendring sink --state DIR [OPTIONS]\n"
                "       sendring sink --report DIR [--published FILE]... [--json]\n"
                "       sendring sink --tell PATH 'LINE'\n"
                "\n"
                "Answers Firehose PutRecordBatch and PutRecord, and CloudWatch PutMetricData (CBOR, JSON), as AWS\n"
                "does, for demos and tests: limits enforced, signatures checked, every event and every metric\n"
                "counted exactly on disk, faults injected on request.\n"
                "\n"
                "  --listen HOST:PORT   numeric address; port 0 takes a free one (default 127.0.0.1:0)\n"
                "  --threads N          server threads (default 1)\n"
                "  --tls-cert FILE --tls-key FILE\n"
                "                       PEM files: answer over TLS (scripts/make-test-certs makes a pair)\n"
                "  --access-key ID --secret-key KEY\n"
                "                       the one key pair that is accepted (default AKIDEXAMPLE and the secret\n"
                "                       of AWS's documentation); the clock may differ by 5 minutes\n"
                "  --no-auth            accept unsigned requests\n"
                "  --stream NAME        the stream that exists; may be repeated (default: every name does)\n"
                "  --state DIR          where the counts live; they survive a SIGKILL of the sink\n"
                "  --store DIR          also append the decoded lines to DIR/<stream>.ndjson\n"
                "  --check-json         read every line as JSON and count those that are none\n"
                "  --control PATH       unix socket for lines such as 'set throttle 0.3' and 'stats'\n"
                "  --ready-file FILE    write HOST:PORT there once connections are accepted\n"
                "  --seed N             repeat the same faults (exactly so with one thread)\n"
                "  --progress           one line a second on stderr\n"
                "\n"
                "Faults, as flags and over --control (`set NAME VALUE`); probabilities from 0 to 1:\n");
#define SINK_FAULT_HELP(name, text, help) (void)fprintf(out, "  --%-18s %s\n", text " P", help);
        SINK_FAULT_TABLE(SINK_FAULT_HELP)
#undef SINK_FAULT_HELP
        (void)fprintf(
                out, "%s",
                "  --latency TIME       every answer waits that long (20ms, 1s)\n"
                "  --down on|off        connections are refused, open ones reset\n"
                "  --blackhole on|off   connections are accepted; nothing is read, nothing is answered\n"
                "\n"
                "  --report DIR         print what was counted, also while a sink runs; status 1 when an event is\n"
                "                       missing: by --published, or by gaps in the numbers of each producer\n"
                "  --published FILE     what `sendring loadgen --ledger FILE` wrote; may be repeated\n"
                "  --json               the report as one JSON object\n"
                "  --tell PATH LINE     send one line to a running sink's --control and print the answer\n");
}

enum sink_option {
        SINK_OPT_HELP = 'h',
        SINK_OPT_LISTEN = 256,
        SINK_OPT_THREADS,
        SINK_OPT_TLS_CERT,
        SINK_OPT_TLS_KEY,
        SINK_OPT_ACCESS_KEY,
        SINK_OPT_SECRET_KEY,
        SINK_OPT_NO_AUTH,
        SINK_OPT_STREAM,
        SINK_OPT_STATE,
        SINK_OPT_STORE,
        SINK_OPT_CHECK_JSON,
        SINK_OPT_CONTROL,
        SINK_OPT_READY_FILE,
        SINK_OPT_SEED,
        SINK_OPT_PROGRESS,
        SINK_OPT_REPORT,
        SINK_OPT_PUBLISHED,
        SINK_OPT_JSON,
        SINK_OPT_TELL,
        SINK_OPT_FAULT,
};

static const struct option sink_option_table[] = {
        {"help", no_argument, NULL, SINK_OPT_HELP},
        {"listen", required_argument, NULL, SINK_OPT_LISTEN},
        {"threads", required_argument, NULL, SINK_OPT_THREADS},
        {"tls-cert", required_argument, NULL, SINK_OPT_TLS_CERT},
        {"tls-key", required_argument, NULL, SINK_OPT_TLS_KEY},
        {"access-key", required_argument, NULL, SINK_OPT_ACCESS_KEY},
        {"secret-key", required_argument, NULL, SINK_OPT_SECRET_KEY},
        {"no-auth", no_argument, NULL, SINK_OPT_NO_AUTH},
        {"stream", required_argument, NULL, SINK_OPT_STREAM},
        {"state", required_argument, NULL, SINK_OPT_STATE},
        {"store", required_argument, NULL, SINK_OPT_STORE},
        {"check-json", no_argument, NULL, SINK_OPT_CHECK_JSON},
        {"control", required_argument, NULL, SINK_OPT_CONTROL},
        {"ready-file", required_argument, NULL, SINK_OPT_READY_FILE},
        {"seed", required_argument, NULL, SINK_OPT_SEED},
        {"progress", no_argument, NULL, SINK_OPT_PROGRESS},
        {"report", required_argument, NULL, SINK_OPT_REPORT},
        {"published", required_argument, NULL, SINK_OPT_PUBLISHED},
        {"json", no_argument, NULL, SINK_OPT_JSON},
        {"tell", required_argument, NULL, SINK_OPT_TELL},
#define SINK_FAULT_OPTION(name, text, help) {text, required_argument, NULL, SINK_OPT_FAULT},
        SINK_FAULT_TABLE(SINK_FAULT_OPTION)
#undef SINK_FAULT_OPTION
                {"latency", required_argument, NULL, SINK_OPT_FAULT},
        {"down", required_argument, NULL, SINK_OPT_FAULT},
        {"blackhole", required_argument, NULL, SINK_OPT_FAULT},
        {NULL, 0, NULL, 0},
};

static bool sink_parse_number(const char *text, uint64_t min, uint64_t max, const char *what, uint64_t *ret_value,
                              struct err *reterr)
{
        if (slice_to_u64(slice_of_text(text), max, ret_value) && *ret_value >= min)
                return true;
        (void)err_set(reterr, ERR_RANGE, "%s '%s': give a number from %llu to %llu", what, text,
                      (unsigned long long)min, (unsigned long long)max);
        return false;
}

static bool sink_parse_listen(struct sink_arguments *arguments, const char *text, struct err *reterr)
{
        uint64_t port;
        const char *colon = strrchr(text, ':');
        struct slice host = colon == NULL ? SLICE_EMPTY : slice_of(text, (size_t)(colon - text));
        if (host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
                host = slice_of(host.ptr + 1, host.len - 2);
        if (colon == NULL || host.len == 0 || !slice_to_text(host, arguments->host, sizeof(arguments->host))) {
                (void)err_set(reterr, ERR_SYNTAX, "--listen '%s': give HOST:PORT", text);
                return false;
        }
        if (!sink_parse_number(colon + 1, 0, 65535, "--listen port", &port, reterr))
                return false;
        arguments->server.port = (uint16_t)port;
        return true;
}

static bool sink_parse_option(struct sink_arguments *arguments, int option, const char *name, const char *value,
                              struct err *reterr)
{
        struct sink_options *server = &arguments->server;
        uint64_t number;
        switch ((enum sink_option)option) {
        case SINK_OPT_HELP:
                return true; /* seen to by the caller */
        case SINK_OPT_LISTEN:
                return sink_parse_listen(arguments, value, reterr);
        case SINK_OPT_THREADS:
                if (!sink_parse_number(value, 1, SINK_THREADS_MAX, "--threads", &number, reterr))
                        return false;
                server->threads = (unsigned)number;
                return true;
        case SINK_OPT_TLS_CERT:
                server->tls_cert = value;
                return true;
        case SINK_OPT_TLS_KEY:
                server->tls_key = value;
                return true;
        case SINK_OPT_ACCESS_KEY:
                server->access_key = value;
                return true;
        case SINK_OPT_SECRET_KEY:
                server->secret_key = value;
                return true;
        case SINK_OPT_NO_AUTH:
                server->auth = false;
                return true;
        case SINK_OPT_STREAM:
                if (server->streams_count == SINK_STREAMS_MAX) {
                        (void)err_set(reterr, ERR_RANGE, "more than %u --stream", SINK_STREAMS_MAX);
                        return false;
                }
                server->streams[server->streams_count++] = value;
                return true;
        case SINK_OPT_STATE:
                arguments->state = value;
                return true;
        case SINK_OPT_STORE:
                server->store = value;
                return true;
        case SINK_OPT_CHECK_JSON:
                server->check_json = true;
                return true;
        case SINK_OPT_CONTROL:
                arguments->control = value;
                return true;
        case SINK_OPT_READY_FILE:
                arguments->ready_file = value;
                return true;
        case SINK_OPT_SEED:
                return sink_parse_number(value, 0, UINT64_MAX, "--seed", &server->seed, reterr);
        case SINK_OPT_PROGRESS:
                arguments->progress = true;
                return true;
        case SINK_OPT_REPORT:
                arguments->report = value;
                return true;
        case SINK_OPT_PUBLISHED:
                if (arguments->ledgers_count == SINK_LEDGERS_MAX) {
                        (void)err_set(reterr, ERR_RANGE, "more than %d --published", SINK_LEDGERS_MAX);
                        return false;
                }
                arguments->ledgers[arguments->ledgers_count++] = value;
                return true;
        case SINK_OPT_JSON:
                arguments->json = true;
                return true;
        case SINK_OPT_TELL:
                arguments->tell = value;
                return true;
        case SINK_OPT_FAULT:
                return sink_faults_set(&arguments->faults, slice_of_text(name), slice_of_text(value), reterr) == ERR_OK;
        }
        return false;
}

/* ---------------------------------------------------------------------------------------------- the report */

struct sink_ledger {
        struct sink_published *producers;
        size_t count;
};

/* {"run_id":"hex8","producers":[{"producer":N,"published":M},...]} */
static enum err_code sink_ledger_read(struct sink_ledger *ledger, const char *path, struct err *reterr)
{
        json_error_t json_error;
        json_t *root = json_load_file(path, 0, &json_error);
        if (root == NULL)
                return err_set(reterr, ERR_SYNTAX, "read %s: %s (line %d)", path, json_error.text, json_error.line);
        const char *run_text = NULL;
        json_t *producers = NULL;
        enum err_code code = ERR_OK;
        char *end = NULL;
        unsigned long run = 0;
        if (json_unpack(root, "{s:s, s:o}", "run_id", &run_text, "producers", &producers) == 0)
                run = strtoul(run_text, &end, 16);
        if (end == NULL || end == run_text || *end != 0 || run > UINT32_MAX || !json_is_array(producers))
                code = err_set(reterr, ERR_SYNTAX, "%s is not a ledger of `sendring loadgen --ledger`", path);
        size_t count = json_array_size(producers);
        if (code == ERR_OK && count > 0) {
                struct sink_published *grown =
                        reallocarray(ledger->producers, ledger->count + count, sizeof(*ledger->producers));
                if (grown == NULL)
                        code = err_set(reterr, ERR_MEMORY, "ledger");
                else
                        ledger->producers = grown;
        }
        for (size_t i = 0; i < count && code == ERR_OK; i++) {
                json_int_t producer, published;
                if (json_unpack(json_array_get(producers, i), "{s:I, s:I}", "producer", &producer, "published",
                                &published) < 0 ||
                    producer < 0 || producer > UINT16_MAX || published < 0)
                        code = err_set(reterr, ERR_SYNTAX, "%s: producer %zu has no number or no published count", path,
                                       i);
                else
                        ledger->producers[ledger->count++] =
                                (struct sink_published){(uint32_t)run, (uint16_t)producer, (uint64_t)published};
        }
        json_decref(root);
        return code;
}

struct sink_sums {
        uint64_t distinct, duplicates, duplicated, missing, unexpected, published;
        uint64_t types[SINK_TYPES_COUNT];
};

static struct sink_sums sink_report_sums(const struct sink_report *report)
{
        struct sink_sums sums = {0};
        for (size_t i = 0; i < report->seen_count; i++) {
                const struct sink_seen_report *seen = &report->seen[i];
                sums.distinct += seen->distinct;
                sums.duplicates += seen->duplicates;
                sums.duplicated += seen->duplicated;
                sums.missing += seen->missing;
                sums.unexpected += seen->unexpected;
                sums.published += seen->published == UINT64_MAX ? 0 : seen->published;
                for (unsigned type = 0; type < SINK_TYPES_COUNT; type++)
                        sums.types[type] += seen->types[type];
        }
        for (unsigned type = 0; type < SINK_TYPES_COUNT; type++)
                sums.types[type] += report->other_types[type];
        return sums;
}

static void sink_report_json(const struct sink_report *report, const struct sink_sums *sums, const json_t *metrics,
                             FILE *out)
{
        (void)fprintf(out,
                      "{\"distinct\":%llu,\"duplicates\":%llu,\"duplicated\":%llu,\"missing\":%llu,\"unexpected\":%llu,"
                      "\"published\":%llu,\"other\":{\"distinct\":%llu,\"duplicates\":%llu},\"types\":{",
                      (unsigned long long)sums->distinct, (unsigned long long)sums->duplicates,
                      (unsigned long long)sums->duplicated, (unsigned long long)sums->missing,
                      (unsigned long long)sums->unexpected, (unsigned long long)sums->published,
                      (unsigned long long)report->other_distinct, (unsigned long long)report->other_duplicates);
        for (unsigned type = 0; type < SINK_TYPES_COUNT; type++)
                (void)fprintf(out, "%s\"%s\":%llu", type == 0 ? "" : ",", sink_type_name(type),
                              (unsigned long long)sums->types[type]);
        (void)fputs("},\"producers\":[", out);
        for (size_t i = 0; i < report->seen_count; i++) {
                const struct sink_seen_report *seen = &report->seen[i];
                (void)fprintf(out,
                              "%s{\"run_id\":\"%08x\",\"producer\":%u,\"distinct\":%llu,\"duplicates\":%llu,"
                              "\"duplicated\":%llu,\"missing\":%llu,\"unexpected\":%llu,\"end\":%llu,\"published\":",
                              i == 0 ? "" : ",", seen->run, seen->producer, (unsigned long long)seen->distinct,
                              (unsigned long long)seen->duplicates, (unsigned long long)seen->duplicated,
                              (unsigned long long)seen->missing, (unsigned long long)seen->unexpected,
                              (unsigned long long)seen->end);
                if (seen->published == UINT64_MAX)
                        (void)fputs("null}", out);
                else
                        (void)fprintf(out, "%llu}", (unsigned long long)seen->published);
        }
        (void)fputs("],\"counters\":", out);
        sink_counters_print(report->counters, out);
        (void)fputs(",\"metrics\":", out);
        (void)json_dumpf(metrics, out, JSON_COMPACT); /* the end of the line says whether all was written */
        (void)fputs("}\n", out);
}

/* Sums of each metric; --json has every series and minute. */
static void sink_report_metrics(const json_t *metrics, FILE *out)
{
        json_t *sums = json_object(), *entry;
        const char *name;
        size_t i;
        json_array_foreach((json_t *)(uintptr_t)metrics, i, entry)
        {
                char key[600];
                (void)snprintf(key, sizeof(key), "%s %s", json_string_value(json_object_get(entry, "namespace")),
                               json_string_value(json_object_get(entry, "metric"))); /* 255 bytes each */
                double sum =
                        json_real_value(json_object_get(sums, key)) + json_real_value(json_object_get(entry, "sum"));
                (void)json_object_set_new(sums, key, json_real(sum)); /* without memory it is not in the list */
        }
        (void)fprintf(out, "CloudWatch metrics: %zu series and times\n", json_array_size(metrics));
        json_object_foreach(sums, name, entry)(void) fprintf(out, "  %s: sum %.17g\n", name, json_real_value(entry));
        json_decref(sums);
}

static void sink_report_text(const struct sink_report *report, const struct sink_sums *sums, const json_t *metrics,
                             FILE *out)
{
        for (size_t i = 0; i < report->seen_count; i++) {
                const struct sink_seen_report *seen = &report->seen[i];
                if (i == 0 || report->seen[i - 1].run != seen->run)
                        (void)fprintf(out, "run %08x\n", seen->run);
                (void)fprintf(out, "  producer %-4u ", seen->producer);
                if (seen->published != UINT64_MAX)
                        (void)fprintf(out, "published %llu ", (unsigned long long)seen->published);
                (void)fprintf(out, "distinct %llu missing %llu duplicates %llu", (unsigned long long)seen->distinct,
                              (unsigned long long)seen->missing, (unsigned long long)seen->duplicates);
                if (seen->unexpected > 0)
                        (void)fprintf(out, " unexpected %llu", (unsigned long long)seen->unexpected);
                (void)fputc('\n', out);
        }
        (void)fprintf(out, "loadgen events: distinct %llu missing %llu duplicates %llu unexpected %llu\n",
                      (unsigned long long)sums->distinct, (unsigned long long)sums->missing,
                      (unsigned long long)sums->duplicates, (unsigned long long)sums->unexpected);
        (void)fprintf(out, "other events: distinct %llu duplicates %llu\n", (unsigned long long)report->other_distinct,
                      (unsigned long long)report->other_duplicates);
        (void)fputs("distinct by type:", out);
        for (unsigned type = 0; type < SINK_TYPES_COUNT; type++)
                if (sums->types[type] > 0)
                        (void)fprintf(out, " %s %llu", sink_type_name(type), (unsigned long long)sums->types[type]);
        (void)fputc('\n', out);
        if (json_array_size(metrics) > 0)
                sink_report_metrics(metrics, out);
        (void)fputs("counters:\n", out);
        for (int i = 0; i < SINK_COUNTERS_COUNT; i++)
                if (report->counters[i] > 0)
                        (void)fprintf(out, "  %-22s %llu\n", sink_counter_name((enum sink_counter)i),
                                      (unsigned long long)report->counters[i]);
}

static int sink_report_main(const struct sink_arguments *arguments)
{
        struct sink_ledger ledger = {0};
        struct sink_report report;
        struct err err;
        enum err_code code = ERR_OK;
        int status = CMD_EXIT_IO;
        for (size_t i = 0; i < arguments->ledgers_count && code == ERR_OK; i++)
                code = sink_ledger_read(&ledger, arguments->ledgers[i], &err);
        if (code == ERR_OK && arguments->ledgers_count > 0 && ledger.count == 0)
                code = err_set(&err, ERR_MISSING, "the ledger names no producer");
        if (code == ERR_OK)
                code = sink_report_read(arguments->report, ledger.producers, ledger.count, &report, &err);
        json_t *metrics = NULL;
        if (code == ERR_OK && (code = sink_metrics_report(arguments->report, &metrics, &err)) != ERR_OK)
                sink_report_release(&report);
        if (code == ERR_OK) {
                struct sink_sums sums = sink_report_sums(&report);
                if (arguments->json)
                        sink_report_json(&report, &sums, metrics, stdout);
                else
                        sink_report_text(&report, &sums, metrics, stdout);
                status = sums.missing > 0 ? CMD_EXIT_FAILED : CMD_EXIT_OK;
                sink_report_release(&report);
                json_decref(metrics);
                if (fflush(stdout) != 0)
                        status = CMD_EXIT_IO;
        } else {
                (void)fprintf(stderr, "sendring sink: %s\n", err.text);
        }
        free(ledger.producers);
        return status;
}

/* ---------------------------------------------------------------------------------------------- serving */

static void sink_progress(const struct sink_state *state, uint64_t last[SINK_COUNTERS_COUNT], double seconds, bool tty)
{
        uint64_t now[SINK_COUNTERS_COUNT];
        for (int i = 0; i < SINK_COUNTERS_COUNT; i++)
                now[i] = sink_state_counter(state, (enum sink_counter)i);
        (void)fprintf(stderr,
                      "%ssink: %.0f events/s %.1f MiB/s %.0f requests/s  stored %llu again %llu refused entries %llu%s",
                      tty ? "\r\033[K" : "", (double)(now[SINK_COUNT_EVENTS] - last[SINK_COUNT_EVENTS]) / seconds,
                      (double)(now[SINK_COUNT_BODY_BYTES] - last[SINK_COUNT_BODY_BYTES]) / seconds / 1048576.0,
                      (double)(now[SINK_COUNT_REQUESTS] - last[SINK_COUNT_REQUESTS]) / seconds,
                      (unsigned long long)now[SINK_COUNT_EVENTS],
                      (unsigned long long)(now[SINK_COUNT_EVENTS] - now[SINK_COUNT_EVENTS_NEW]),
                      (unsigned long long)now[SINK_COUNT_REFUSED_ENTRIES], tty ? "" : "\n");
        memcpy(last, now, sizeof(now));
}

/* Until SIGTERM or SIGINT. */
static void sink_wait(const struct sink_arguments *arguments, struct sink_server *server, struct sink_control *control,
                      struct sink_state *state, int signal_fd)
{
        uint64_t last[SINK_COUNTERS_COUNT];
        bool tty = isatty(STDERR_FILENO) == 1;
        for (int i = 0; i < SINK_COUNTERS_COUNT; i++)
                last[i] = sink_state_counter(state, (enum sink_counter)i);
        uint64_t last_ns = clock_monotonic_ns();
        for (;;) {
                struct pollfd set[SINK_CONTROL_CLIENTS_MAX + 2];
                size_t count = sink_control_poll(control, set);
                set[count] = (struct pollfd){.fd = signal_fd, .events = POLLIN};
                int timeout_ms = -1;
                if (arguments->progress) {
                        uint64_t now_ns = clock_monotonic_ns();
                        if (now_ns - last_ns >= CLOCK_NS_PER_S) {
                                sink_progress(state, last, (double)(now_ns - last_ns) / 1e9, tty);
                                last_ns = now_ns;
                        }
                        timeout_ms = (int)((last_ns + CLOCK_NS_PER_S - now_ns) / CLOCK_NS_PER_MS) + 1;
                        if (last_ns == now_ns)
                                timeout_ms = 1000;
                }
                if (poll(set, (nfds_t)count + 1, timeout_ms) <= 0)
                        continue;
                if (set[count].revents != 0)
                        break;
                if (sink_control_run(control, set, count))
                        sink_server_wake(server);
        }
        if (arguments->progress && tty)
                (void)fputc('\n', stderr);
}

static int sink_serve(struct sink_arguments *arguments)
{
        struct sink_state *state = NULL;
        struct sink_server *server = NULL;
        struct sink_control control = {.listen_fd = -1};
        struct err err;
        sigset_t signals;
        (void)sigemptyset(&signals); /* cannot fail for valid signals */
        (void)sigaddset(&signals, SIGTERM);
        (void)sigaddset(&signals, SIGINT);
        (void)sigprocmask(SIG_BLOCK, &signals, NULL);
        (void)signal(SIGPIPE, SIG_IGN); /* OpenSSL writes to sockets without MSG_NOSIGNAL */
        struct rlimit files;
        if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
                files.rlim_cur = files.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &files); /* fewer connections then */
        }
        int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
        enum err_code code = signal_fd < 0 ? err_set_errno(&err, ERR_SYSTEM, errno, "signalfd") : ERR_OK;
        if (code == ERR_OK)
                code = sink_state_open(&state, arguments->state, &err);
        if (code == ERR_OK)
                code = sink_control_open(&control, arguments->control, &arguments->faults, state, &err);
        if (code == ERR_OK)
                code = sink_server_start(&server, &arguments->server, state, &arguments->faults, &err);
        if (code == ERR_OK) {
                char text[96];
                bool is_v6 = strchr(arguments->host, ':') != NULL;
                int len = snprintf(text, sizeof(text), "%s%s%s:%u\n", is_v6 ? "[" : "", arguments->host,
                                   is_v6 ? "]" : "", sink_server_port(server));
                printf("sink: listening on %s", text);
                if (fflush(stdout) != 0)
                        code = err_set_errno(&err, ERR_SYSTEM, errno, "write to standard output");
                else if (arguments->ready_file != NULL)
                        code = file_replace(arguments->ready_file, slice_of(text, (size_t)len), &err);
        }
        if (code == ERR_OK)
                sink_wait(arguments, server, &control, state, signal_fd);
        else
                (void)fprintf(stderr, "sendring sink: %s\n", err.text);
        sink_server_stop(server, SINK_GRACE_MS);
        sink_control_close(&control);
        sink_state_close(state);
        if (signal_fd >= 0)
                (void)close(signal_fd);
        if (code == ERR_OK)
                return CMD_EXIT_OK;
        return err_class(code) == ERR_CLASS_SYSTEM ? CMD_EXIT_IO : CMD_EXIT_UNAVAILABLE;
}

static int sink_usage_error(const char *text)
{
        (void)fprintf(stderr, "sendring sink: %s; `sendring sink --help` explains\n", text);
        return CMD_EXIT_USAGE;
}

int cmd_sink(int argc, char **argv)
{
        struct sink_arguments arguments = {
                .server = {.threads = 1,
                           .access_key = "AKIDEXAMPLE",
                           .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                           .auth = true},
                .host = "127.0.0.1",
        };
        struct err err = {0};
        optind = 1;
        opterr = 0;
        for (;;) {
                int index = 0;
                int option = getopt_long(argc, argv, ":h", sink_option_table, &index);
                if (option == -1)
                        break;
                if (option == SINK_OPT_HELP) {
                        sink_help(stdout);
                        return CMD_EXIT_OK;
                }
                if (option == '?' || option == ':')
                        return cmd_option_refused("sink", option, sink_option_table, argv);
                if (!sink_parse_option(&arguments, option, sink_option_table[index].name, optarg, &err))
                        return sink_usage_error(err.text);
        }
        arguments.server.host = arguments.host;
        if (arguments.tell != NULL) {
                if (argc - optind != 1)
                        return sink_usage_error("--tell takes one line, in quotes");
                if (sink_control_tell(arguments.tell, argv[optind], stdout, &err) == ERR_OK)
                        return CMD_EXIT_OK;
                (void)fprintf(stderr, "sendring sink: %s\n", err.text);
                return err.code == ERR_SYNTAX ? CMD_EXIT_FAILED : CMD_EXIT_UNAVAILABLE;
        }
        if (optind != argc)
                return sink_usage_error("there are no arguments besides options");
        if (arguments.report != NULL)
                return sink_report_main(&arguments);
        if (arguments.state == NULL)
                return sink_usage_error("--state DIR is needed");
        if ((arguments.server.tls_cert == NULL) != (arguments.server.tls_key == NULL))
                return sink_usage_error("--tls-cert and --tls-key go together");
        return sink_serve(&arguments);
}
