#include "bench/path_stack.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_SECONDS    30u
#define END_SECONDS      20u
#define COUNT_SECONDS    60u
#define POLL_NS          (5 * CLOCK_NS_PER_MS)
#define CERTIFICATE_DAYS 2
#define LOG_TAIL_BYTES   4000
#define ARGUMENTS_MAX    80

struct stack_path {
        char text[PATH_MAX];
};

static struct stack_path stack_path(const struct path_stack *stack, const char *name)
{
        struct stack_path path;
        (void)snprintf(path.text, sizeof(path.text), "%s/%s", stack->directory, name); /* half of the room is free */
        return path;
}

/* ---------------------------------------------------------------------------------------------- files */

/* One throw-away certificate for 127.0.0.1 that signs itself: the sink's, and the router's CA bundle. */
static enum err_code stack_make_certificate(const struct path_stack *stack, struct err *reterr)
{
        static const struct {
                int nid;
                const char *value;
        } extensions[] = {{NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1"},
                          {NID_basic_constraints, "critical,CA:true"},
                          {NID_ext_key_usage, "serverAuth"}};
        bool ok = false;
        FILE *certificate_file = NULL, *key_file = NULL;
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *certificate = X509_new();
        if (key == NULL || certificate == NULL)
                goto out;
        X509_NAME *name = X509_get_subject_name(certificate);
        ok = X509_set_version(certificate, 2) == 1 &&
             ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate), clock_realtime_ms()) == 1 &&
             X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL &&
             X509_gmtime_adj(X509_getm_notAfter(certificate), CERTIFICATE_DAYS * 86400L) != NULL &&
             X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"sendring bench", -1, -1, 0) ==
                     1 &&
             X509_set_issuer_name(certificate, name) == 1 && X509_set_pubkey(certificate, key) == 1;
        for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]) && ok; i++) {
                X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, extensions[i].nid, extensions[i].value);
                ok = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
                X509_EXTENSION_free(extension);
        }
        certificate_file = fopen(stack_path(stack, "server.pem").text, "we");
        key_file = fopen(stack_path(stack, "server.key").text, "we"); /* in a directory of mode 0700 */
        ok = ok && X509_sign(certificate, key, EVP_sha256()) > 0 && certificate_file != NULL && key_file != NULL &&
             PEM_write_X509(certificate_file, certificate) == 1 &&
             PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL) == 1;
out:
        ok = (certificate_file == NULL || fclose(certificate_file) == 0) && ok;
        ok = (key_file == NULL || fclose(key_file) == 0) && ok;
        X509_free(certificate);
        EVP_PKEY_free(key);
        return ok ? ERR_OK : err_set(reterr, ERR_SYSTEM, "cannot make a certificate in %s", stack->directory);
}

static void stack_write_counting(FILE *sets)
{
        static const char *const dimensions[] = {"ses:configuration-set", "campaign"};
        (void)fprintf(sets, "  - EventDestinationName: cloudwatch\n"
                            "    EventDestination:\n"
                            "      Enabled: true\n"
                            "      MatchingEventTypes: [SEND, DELIVERY, OPEN, CLICK, BOUNCE, COMPLAINT]\n"
                            "      CloudWatchDestination:\n"
                            "        DimensionConfigurations:\n");
        for (size_t i = 0; i < sizeof(dimensions) / sizeof(dimensions[0]); i++)
                (void)fprintf(sets,
                              "        - DimensionName: %s\n"
                              "          DimensionValueSource: MESSAGE_TAG\n"
                              "          DefaultDimensionValue: none\n",
                              dimensions[i]);
        (void)fprintf(sets, "      Sendring: {Period: 1s}\n");
}

static enum err_code stack_write_configuration(const struct path_stack *stack, struct err *reterr)
{
        FILE *sets = fopen(stack_path(stack, "configuration-sets.yaml").text, "we");
        FILE *settings = fopen(stack_path(stack, "sendring.yaml").text, "we");
        bool ok = sets != NULL && settings != NULL;
        if (sets != NULL) {
                (void)fprintf(sets, "ConfigurationSets:\n");
                for (int i = 0; i < 8; i++) {
                        (void)fprintf(sets,
                                      "- ConfigurationSetName: set-%d\n"
                                      "  EventDestinations:\n"
                                      "  - EventDestinationName: firehose\n"
                                      "    EventDestination:\n"
                                      "      Enabled: true\n"
                                      "      MatchingEventTypes: [SEND, DELIVERY, OPEN, CLICK, BOUNCE, COMPLAINT]\n"
                                      "      KinesisFirehoseDestination:\n"
                                      "        IamRoleArn: arn:aws:iam::123456789012:role/sendring\n"
                                      "        DeliveryStreamArn: "
                                      "arn:aws:firehose:us-east-1:123456789012:deliverystream/mail-events\n"
                                      "      Sendring: {Compression: %s}\n",
                                      i, stack->options.gzip ? "gzip" : "none");
                        if (stack->options.counted)
                                stack_write_counting(sets);
                }
                ok = fclose(sets) == 0 && ok;
        }
        if (settings != NULL) {
                (void)fprintf(settings,
                              "state_directory: %s/state\n"
                              "socket_path: %s/sendring.sock\n"
                              "configuration_sets_path: configuration-sets.yaml\n"
                              "region: us-east-1\n"
                              "account_id: \"123456789012\"\n"
                              "journal:\n"
                              "  durability: %s\n"
                              "egress:\n"
                              "  ca_bundle: %s/server.pem\n"
                              "  endpoints:\n"
                              "    firehose: https://%s\n"
                              "    cloudwatch: https://%s\n",
                              stack->directory, stack->directory, stack->options.durability_host ? "host" : "process",
                              stack->directory, stack->sink_address, stack->sink_address);
                ok = fclose(settings) == 0 && ok;
        }
        return ok ? ERR_OK : err_set_errno(reterr, ERR_SYSTEM, errno, "cannot write into %s", stack->directory);
}

static int stack_remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
        (void)status;
        (void)kind;
        (void)walk;
        return remove(path);
}

static void stack_show_log(const struct path_stack *stack, const char *name)
{
        static char text[LOG_TAIL_BYTES + 1];
        FILE *log = fopen(stack_path(stack, name).text, "re");
        if (log == NULL)
                return;
        if (fseek(log, -LOG_TAIL_BYTES, SEEK_END) != 0)
                rewind(log); /* a shorter file */
        size_t bytes = fread(text, 1, LOG_TAIL_BYTES, log);
        text[bytes] = '\0';
        if (bytes > 0)
                (void)fprintf(stderr, "---- %s\n%s", name, text);
        (void)fclose(log);
}

/* ---------------------------------------------------------------------------------------------- processes */

/* stdout goes to NAME.out, stderr to NAME.log. The child gets SIGTERM when this process dies. */
static enum err_code stack_spawn(const struct path_stack *stack, const char *name, const char *const *arguments,
                                 pid_t *ret_pid, struct err *reterr)
{
        struct stack_path out = stack_path(stack, name), log = out;
        strcat(out.text, ".out"); /* names are short, and half of the room is free */
        strcat(log.text, ".log");
        int out_fd = open(out.text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        int log_fd = open(log.text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        pid_t parent = getpid();
        pid_t pid = out_fd < 0 || log_fd < 0 ? -1 : fork();
        if (pid == 0) {
                /* Only what is safe between fork and exec in a process with threads. */
                if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent || dup2(out_fd, STDOUT_FILENO) < 0 ||
                    dup2(log_fd, STDERR_FILENO) < 0)
                        _exit(126);
                (void)execv(arguments[0], (char *const *)(uintptr_t)arguments);
                _exit(127);
        }
        int failed = errno;
        if (out_fd >= 0)
                (void)close(out_fd);
        if (log_fd >= 0)
                (void)close(log_fd);
        if (pid < 0)
                return err_set_errno(reterr, ERR_SYSTEM, failed, "cannot start %s", name);
        *ret_pid = pid;
        return ERR_OK;
}

/* True once the child has ended; *pid is 0 then. */
static bool stack_reap(pid_t *pid, int *ret_status, struct rusage *ret_usage)
{
        pid_t got = wait4(*pid, ret_status, WNOHANG, ret_usage);
        if (got == 0 || (got < 0 && errno == EINTR))
                return false;
        *pid = 0;
        return true;
}

static void stack_end(pid_t *pid)
{
        int status;
        struct rusage usage;
        if (*pid == 0 || kill(*pid, SIGTERM) != 0)
                return;
        uint64_t deadline_ns = clock_monotonic_ns() + END_SECONDS * CLOCK_NS_PER_S;
        while (!stack_reap(pid, &status, &usage)) {
                if (clock_monotonic_ns() > deadline_ns) {
                        (void)kill(*pid, SIGKILL); /* it is our child and not yet reaped */
                        (void)waitpid(*pid, &status, 0);
                        *pid = 0;
                        return;
                }
                clock_nap_ns(POLL_NS);
        }
}

static enum err_code stack_start_sink(struct path_stack *stack, struct err *reterr)
{
        struct stack_path state = stack_path(stack, "sink"), ready = stack_path(stack, "sink.ready");
        struct stack_path certificate = stack_path(stack, "server.pem"), key = stack_path(stack, "server.key");
        const char *const arguments[] = {stack->options.sendring,
                                         "sink",
                                         "--listen",
                                         "127.0.0.1:0",
                                         "--state",
                                         state.text,
                                         "--ready-file",
                                         ready.text,
                                         "--tls-cert",
                                         certificate.text,
                                         "--tls-key",
                                         key.text,
                                         NULL};
        enum err_code code = stack_spawn(stack, "sink", arguments, &stack->sink, reterr);
        uint64_t deadline_ns = clock_monotonic_ns() + READY_SECONDS * CLOCK_NS_PER_S;
        while (code == ERR_OK) {
                int status;
                struct rusage usage;
                FILE *file = fopen(ready.text, "re");
                bool got = file != NULL && fscanf(file, "%63s", stack->sink_address) == 1;
                if (file != NULL)
                        (void)fclose(file);
                if (got)
                        return ERR_OK;
                if (stack_reap(&stack->sink, &status, &usage))
                        return err_set(reterr, ERR_SYSTEM, "the sink ended at once");
                if (clock_monotonic_ns() > deadline_ns)
                        return err_set(reterr, ERR_TIMEOUT, "the sink was not ready within %u s", READY_SECONDS);
                clock_nap_ns(POLL_NS);
        }
        return code;
}

static bool stack_router_is_ready(const struct path_stack *stack)
{
        char line[1024];
        bool ready = false;
        FILE *log = fopen(stack_path(stack, "router.log").text, "re");
        while (log != NULL && !ready && fgets(line, sizeof(line), log) != NULL)
                ready = strstr(line, "msg=\"ready\"") != NULL;
        if (log != NULL)
                (void)fclose(log);
        return ready;
}

static enum err_code stack_start_router(struct path_stack *stack, struct err *reterr)
{
        struct stack_path settings = stack_path(stack, "sendring.yaml");
        const char *const arguments[] = {stack->options.sendring, "run", "--settings", settings.text, NULL};
        enum err_code code = stack_spawn(stack, "router", arguments, &stack->keeper, reterr);
        if (code != ERR_OK)
                return code;
        uint64_t deadline_ns = clock_monotonic_ns() + READY_SECONDS * CLOCK_NS_PER_S;
        while (!stack_router_is_ready(stack)) {
                int status;
                struct rusage usage;
                if (stack_reap(&stack->keeper, &status, &usage))
                        return err_set(reterr, ERR_SYSTEM, "`sendring run` ended at once");
                if (clock_monotonic_ns() > deadline_ns)
                        return err_set(reterr, ERR_TIMEOUT, "the router was not ready within %u s", READY_SECONDS);
                clock_nap_ns(POLL_NS);
        }
        code = counters_attach(stack_path(stack, "state/counters").text, &stack->counters, reterr);
        if (code != ERR_OK)
                return code;
        stack->attached = true;
        stack->router = (pid_t)stack->counters.head->pid;
        return ERR_OK;
}

enum err_code path_stack_start(struct path_stack *stack, const struct path_stack_options *options, struct err *reterr)
{
        *stack = (struct path_stack){.options = *options};
        int used = snprintf(stack->directory, sizeof(stack->directory), "%s/sendring-path-XXXXXX", options->directory);
        if (used < 0 || (size_t)used >= sizeof(stack->directory)) {
                stack->directory[0] = '\0';
                return err_set(reterr, ERR_RANGE, "the path %s is too long", options->directory);
        }
        if (mkdtemp(stack->directory) == NULL) {
                int failed = errno;
                stack->directory[0] = '\0';
                return err_set_errno(reterr, ERR_SYSTEM, failed, "cannot make a directory in %s", options->directory);
        }
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphaned routers come to us; without it they only stay */
        /* For the children: the one key pair that the sink accepts, and nothing else. */
        (void)setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
        (void)setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", 1);
        (void)unsetenv("AWS_SESSION_TOKEN");
        (void)unsetenv("AWS_PROFILE");
        (void)unsetenv("AWS_CA_BUNDLE");
        (void)unsetenv("SENDRING_SOCKET");
        enum err_code code = stack_make_certificate(stack, reterr);
        if (code == ERR_OK)
                code = stack_start_sink(stack, reterr);
        if (code == ERR_OK)
                code = stack_write_configuration(stack, reterr);
        if (code == ERR_OK)
                code = stack_start_router(stack, reterr);
        return code;
}

void path_stack_stop(struct path_stack *stack, bool logs)
{
        if (stack->directory[0] == '\0')
                return;
        stack_end(&stack->loadgen);
        stack_end(&stack->keeper); /* it ends its router */
        /* Unless the keeper had to be killed: then the router, as an orphan, is our child. */
        if (stack->router > 0 && waitpid(stack->router, NULL, WNOHANG) == 0) {
                (void)kill(stack->router, SIGKILL);
                (void)waitpid(stack->router, NULL, 0);
        }
        stack->router = 0;
        stack_end(&stack->sink);
        if (stack->attached)
                counters_release(&stack->counters);
        stack->attached = false;
        if (logs) {
                stack_show_log(stack, "sink.log");
                stack_show_log(stack, "router.log");
                stack_show_log(stack, "loadgen.log");
        }
        if (nftw(stack->directory, stack_remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
                (void)fprintf(stderr, "path: cannot remove %s: %s\n", stack->directory, strerror(errno));
        stack->directory[0] = '\0';
}

enum err_code path_stack_check(struct path_stack *stack, struct err *reterr)
{
        int status;
        struct rusage usage;
        if (stack->sink == 0 || stack_reap(&stack->sink, &status, &usage))
                return err_set(reterr, ERR_SYSTEM, "the sink has ended");
        if (stack->keeper == 0 || stack_reap(&stack->keeper, &status, &usage))
                return err_set(reterr, ERR_SYSTEM, "the keeper has ended");
        if (kill(stack->router, 0) != 0 || (pid_t)stack->counters.head->pid != stack->router)
                return err_set(reterr, ERR_SYSTEM, "the router has ended");
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- load and counts */

static struct stack_path stack_ledger(const struct path_stack *stack, uint32_t index)
{
        char name[32];
        (void)snprintf(name, sizeof(name), "ledger-%u.json", index);
        return stack_path(stack, name);
}

enum err_code path_stack_load_start(struct path_stack *stack, uint64_t events, double rate, struct err *reterr)
{
        struct stack_path socket_path = stack_path(stack, "sendring.sock");
        struct stack_path ledger = stack_ledger(stack, stack->ledgers_count);
        char events_text[32], rate_text[32];
        (void)snprintf(events_text, sizeof(events_text), "%llu", (unsigned long long)events);
        (void)snprintf(rate_text, sizeof(rate_text), "%.0f", rate);
        const char *const arguments[] = {stack->options.sendring,
                                         "loadgen",
                                         "--json",
                                         "--socket",
                                         socket_path.text,
                                         "--producers",
                                         "4",
                                         "--events",
                                         events_text,
                                         "--rate",
                                         rate_text,
                                         "--flush-timeout",
                                         "60000",
                                         "--ledger",
                                         ledger.text,
                                         NULL};
        enum err_code code = stack_spawn(stack, "loadgen", arguments, &stack->loadgen, reterr);
        stack->ledgers_count += code == ERR_OK;
        return code;
}

static double stack_seconds(struct timeval time)
{
        return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

enum err_code path_stack_load_poll(struct path_stack *stack, struct path_stack_load *ret_load, struct err *reterr)
{
        int status = 0;
        struct rusage usage;
        json_int_t published = 0;
        if (!stack_reap(&stack->loadgen, &status, &usage))
                return ERR_BUSY;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return err_set(reterr, ERR_SYSTEM, "loadgen failed, wait status %d", status);
        json_error_t error;
        json_t *root = json_load_file(stack_ledger(stack, stack->ledgers_count - 1).text, 0, &error);
        int unpacked = root == NULL ? -1 : json_unpack(root, "{s:I}", "published", &published);
        json_decref(root);
        if (unpacked != 0)
                return err_set(reterr, ERR_SYNTAX, "loadgen's ledger cannot be read: %s", error.text);
        ret_load->published = (uint64_t)published;
        ret_load->cpu_s = stack_seconds(usage.ru_utime) + stack_seconds(usage.ru_stime); /* with its producers */
        return ERR_OK;
}

uint64_t path_stack_firehose_last_ns(const struct path_stack *stack)
{
        const struct counters *counters = &stack->counters;
        int64_t last_ms = 0;
        for (uint32_t i = 0; i < atomic_load(&counters->head->rows_used); i++)
                if (strncmp(counters->rows[i].key, "firehose ", 9) == 0)
                        last_ms = atomic_load(&counters->rows[i].last_success_ms);
        uint64_t now_ns = clock_monotonic_ns();
        int64_t ago_ms = clock_realtime_ms() - last_ms;
        return last_ms == 0 || ago_ms < 0 ? 0 : now_ns - (uint64_t)ago_ms * CLOCK_NS_PER_MS;
}

/* Of a report of the sink. */
static uint64_t stack_sum_of_metrics(const json_t *report)
{
        double sum = 0;
        size_t i;
        json_t *metric;
        json_array_foreach(json_object_get(report, "metrics"), i, metric) sum +=
                json_number_value(json_object_get(metric, "sum"));
        return (uint64_t)sum;
}

enum err_code path_stack_count(struct path_stack *stack, struct path_stack_counts *ret_counts, struct err *reterr)
{
        struct stack_path state = stack_path(stack, "sink");
        const char *arguments[ARGUMENTS_MAX] = {stack->options.sendring, "sink", "--report", state.text, "--json"};
        struct stack_path *ledgers = calloc(stack->ledgers_count, sizeof(*ledgers));
        if (ledgers == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory");
        size_t used = 5;
        for (uint32_t i = 0; i < stack->ledgers_count && used + 3 <= ARGUMENTS_MAX; i++) {
                ledgers[i] = stack_ledger(stack, i);
                arguments[used++] = "--published";
                arguments[used++] = ledgers[i].text;
        }
        pid_t pid = 0;
        enum err_code code = stack_spawn(stack, "report", arguments, &pid, reterr);
        free(ledgers); /* the child has its own copy */
        int status = 0;
        struct rusage usage;
        uint64_t deadline_ns = clock_monotonic_ns() + COUNT_SECONDS * CLOCK_NS_PER_S;
        while (code == ERR_OK && !stack_reap(&pid, &status, &usage)) {
                if (clock_monotonic_ns() > deadline_ns) {
                        stack_end(&pid);
                        code = err_set(reterr, ERR_TIMEOUT, "the sink's report took over %u s", COUNT_SECONDS);
                }
                clock_nap_ns(POLL_NS);
        }
        if (code != ERR_OK)
                return code;
        json_error_t error;
        json_int_t distinct = 0, missing = 0, duplicates = 0, unexpected = 0;
        json_t *root = json_load_file(stack_path(stack, "report.out").text, 0, &error);
        int unpacked = root == NULL ? -1
                                    : json_unpack(root, "{s:I, s:I, s:I, s:I}", "distinct", &distinct, "missing",
                                                  &missing, "duplicates", &duplicates, "unexpected", &unexpected);
        uint64_t counted = stack_sum_of_metrics(root);
        json_decref(root);
        if (unpacked != 0)
                return err_set(reterr, ERR_SYNTAX, "the sink's report cannot be read, wait status %d", status);
        *ret_counts = (struct path_stack_counts){(uint64_t)distinct, (uint64_t)missing, (uint64_t)duplicates,
                                                 (uint64_t)unexpected, counted};
        return ERR_OK;
}

enum err_code path_stack_aes_bits(const struct path_stack *stack, uint32_t *ret_bits, struct err *reterr)
{
        enum err_code code = ERR_OK;
        SSL *ssl = NULL;
        BIO *bio = NULL;
        SSL_CTX *context = SSL_CTX_new(TLS_client_method());
        if (context != NULL)
                bio = BIO_new_ssl_connect(context);
        if (bio == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory for a TLS connection");
                goto out;
        }
        (void)BIO_set_conn_hostname(bio, stack->sink_address);
        (void)BIO_get_ssl(bio, &ssl);
        if (ssl == NULL || BIO_do_connect(bio) != 1) {
                code = err_set(reterr, ERR_TLS, "cannot connect to the sink");
                goto out;
        }
        const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
        int nid = SSL_CIPHER_get_cipher_nid(cipher);
        if (nid == NID_aes_128_gcm)
                *ret_bits = 128;
        else if (nid == NID_aes_256_gcm)
                *ret_bits = 256;
        else
                code = err_set(reterr, ERR_TLS, "the sink chose %s: the floor is made of AES-GCM",
                               SSL_CIPHER_get_name(cipher));
out:
        BIO_free_all(bio);
        SSL_CTX_free(context);
        return code;
}
