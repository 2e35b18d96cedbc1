/* Fails the 1st, 2nd, 3rd ... call of every family of calls, once and then for ever, until a run sees no failure:
 * start, attach, publish 100 events, deliver them to a file, to a Firehose endpoint and, counted, to CloudWatch,
 * SIGTERM.
 *
 *     faults [--family NAME] [--from N] [--step N] [--most N] [--verbose]
 *
 * Per n two routers, one after the other, on one state directory: the first meets the fault, the second none. The
 * producer is this process and lives through both. Afterwards: the first ended by itself, with no signal and no leak
 * (address sanitizer), and said what was wrong when it did not end well; the second ended well; every event whose
 * publish returned OK is in the file and at the endpoint, and counted; the ledger balances. A crash names its family
 * and n. */
#include "base/clock.h"
#include "journal/journal.h"
#include "router/router.h"
#include "sendring/sendring.h"
#include "tests/faults/wrap.h"
#include "tests/support/cloudwatch_peer.h"
#include "tests/support/firehose_peer.h"
#include "tests/support/journal_files.h"
#include "tests/support/sanitizers.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define FAULTS_EVENTS       100u
#define FAULTS_EXIT_LEAK    98 /* below */
#define FAULTS_PATH         320
#define FAULTS_READY_NS     (20 * CLOCK_NS_PER_S)
#define FAULTS_DELIVERED_NS (20 * CLOCK_NS_PER_S)
#define FAULTS_END_NS       (60 * CLOCK_NS_PER_S)
#define FAULTS_CHANCE_NS    (1500 * CLOCK_NS_PER_MS) /* what a router with a fault gets to deliver */

/* The sanitizers' statuses are none of the router's. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "exitcode=99:handle_segv=1:allocator_may_return_null=1";
}
const char *__lsan_default_options(void);
const char *__lsan_default_options(void)
{
        return "exitcode=98:print_suppressions=0";
}

struct faults {
        char directory[256];
        char settings[FAULTS_PATH], sets[FAULTS_PATH], socket[FAULTS_PATH], file[FAULTS_PATH], log[FAULTS_PATH];
        struct firehose_peer peer;
        struct cloudwatch_peer counts;
        struct fault_plan *plan; /* shared with the process that meets it */
        bool *shared;            /* [FAULTS_EVENTS]: what a producer of its own has published */
        uint32_t leaks;          /* in a row, of one n */
        bool verbose;
        char what[128]; /* family and n, for messages */
};

static void faults_die(const struct faults *faults, const char *what)
{
        char line[1024];
        (void)fprintf(stderr, "faults: FAILED: %s: %s\n", faults->what, what);
        FILE *log = fopen(faults->log, "r");
        while (log != NULL && fgets(line, sizeof(line), log) != NULL)
                (void)fprintf(stderr, "  | %s", line);
        (void)fprintf(stderr, "faults: state kept in %s\n", faults->directory);
        exit(1);
}

static void faults_write_configuration(const struct faults *faults, bool host)
{
        FILE *out = fopen(faults->settings, "w");
        if (out == NULL)
                faults_die(faults, "cannot write the settings");
        (void)fprintf(out,
                      "state_directory: %s/state\nsocket_path: %s\nconfiguration_sets_path: %s\nregion: us-east-1\n"
                      "account_id: \"123456789012\"\nrouter: {lanes_max: 4, lane_bytes: 1MiB}\n"
                      "journal: {segment_bytes: 1MiB, size_bytes_max: 8MiB, segments_mapped_max: 4, durability: %s}\n"
                      "egress: {linger_ms: 1, retry_base_ms: 50, retry_throttle_base_ms: 100, retry_max_ms: 200,  "
                      "endpoints: {firehose: \"http://127.0.0.1:%u\", cloudwatch: \"http://127.0.0.1:%u\"}}\n"
                      "shutdown: {drain_seconds: 3}\n",
                      faults->directory, faults->socket, faults->sets, host ? "host" : "process",
                      faults->peer.http.port, faults->counts.http.port);
        (void)fclose(out);
        out = fopen(faults->sets, "w");
        if (out == NULL)
                faults_die(faults, "cannot write the configuration sets");
        (void)fprintf(
                out,
                "ConfigurationSets:\n- ConfigurationSetName: set-0\n  EventDestinations:\n"
                "  - EventDestinationName: file\n    EventDestination:\n      Enabled: true\n"
                "      MatchingEventTypes: [SEND]\n      Sendring:\n        FileDestination:\n"
                "          Path: %s\n"
                "  - EventDestinationName: firehose\n    EventDestination:\n      Enabled: true\n"
                "      MatchingEventTypes: [SEND]\n      KinesisFirehoseDestination:\n"
                "        IamRoleArn: arn:aws:iam::123456789012:role/sendring\n"
                "        DeliveryStreamArn: arn:aws:firehose:us-east-1:123456789012:deliverystream/events\n"
                "  - EventDestinationName: counts\n    EventDestination:\n      Enabled: true\n"
                "      MatchingEventTypes: [SEND]\n      CloudWatchDestination:\n"
                "        DimensionConfigurations: [{DimensionName: 'ses:configuration-set', DimensionValueSource: "
                "MESSAGE_TAG, DefaultDimensionValue: none}]\n"
                "      Sendring: {Period: 1s, Protocol: json, Compression: none}\n",
                faults->file);
        (void)fclose(out);
}

/* Under the address sanitizer a thread of the peers that begins or ends may hold its allocator's lock: a fork would
 * take that along, and the leak checker of the child wait for it for ever. */
static pid_t faults_fork(void)
{
#if SANITIZER_ADDRESS
        clock_sleep_ns(20 * CLOCK_NS_PER_MS);
#endif
        (void)fflush(NULL);
        return fork();
}

/* A router in a process of its own. */
static pid_t faults_start(struct faults *faults, struct fault_plan *plan)
{
        pid_t pid = faults_fork();
        if (pid < 0)
                faults_die(faults, "cannot fork");
        if (pid > 0)
                return pid;
        int log_fd = open(faults->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (log_fd < 0 || dup2(log_fd, 2) < 0)
                _exit(97);
        (void)close(log_fd);
        (void)alarm(120);
        fault_arm(plan);
        struct router_options options = {.settings_path = faults->settings, .keeper_fd = -1, .version = "faults"};
        int status = router_run(&options);
        fault_arm(NULL);
        exit(status);
}

/* Waits until it has ended. False: it goes on. */
static bool faults_ended(pid_t pid, uint64_t wait_ns, int *ret_status)
{
        uint64_t deadline_ns = clock_monotonic_ns() + wait_ns;
        do {
                if (waitpid(pid, ret_status, WNOHANG) == pid)
                        return true;
                clock_sleep_ns(CLOCK_NS_PER_MS);
        } while (clock_monotonic_ns() < deadline_ns);
        return false;
}

static bool faults_log_has(const struct faults *faults, const char *text)
{
        static char bytes[1 << 16];
        FILE *log = fopen(faults->log, "r");
        if (log == NULL)
                return false;
        size_t got = fread(bytes, 1, sizeof(bytes) - 1, log);
        (void)fclose(log);
        bytes[got] = '\0';
        return strstr(bytes, text) != NULL;
}

/* ---------------------------------------------------------------------------------------------- producing */

static bool faults_publish(struct sendring *ring, uint32_t id)
{
        static const struct sendring_str to = {.ptr = "someone@example.com", .len = 19};
        struct sendring_event event;
        char text[32];
        int used = snprintf(text, sizeof(text), "id-%u", id);
        sendring_event_init(&event, SENDRING_SEND);
        event.mail.message_id = sendring_strn(text, (size_t)used);
        event.mail.source = SENDRING_STR("sender@example.org");
        event.mail.destination.items = &to;
        event.mail.destination.count = 1;
        event.mail.timestamp_ms = clock_realtime_ms();
        event.mail.configuration_set = SENDRING_STR("set-0");
        return sendring_publish(ring, &event) == SENDRING_OK;
}

/* A producer in a process of its own, which meets the fault itself. */
static pid_t faults_start_producer(struct faults *faults)
{
        pid_t pid = faults_fork();
        if (pid < 0)
                faults_die(faults, "cannot fork");
        if (pid > 0)
                return pid;
        (void)alarm(60);
        struct sendring *ring = NULL;
        const struct sendring_options options = {
                .size = sizeof(options), .socket_path = faults->socket, .timeout_ms = 2000};
        fault_arm(faults->plan);
        int code = sendring_open(&options, &ring);
        if (code != SENDRING_OK && strcmp(sendring_error(NULL), "no error") == 0)
                exit(2);
        for (uint32_t id = 0; id < FAULTS_EVENTS && ring != NULL; id++)
                faults->shared[id] = faults_publish(ring, id);
        if (ring != NULL)
                (void)sendring_flush(ring, 2000); /* a fault may keep it */
        sendring_close(ring);
        fault_arm(NULL);
        exit(0);
}

/* ---------------------------------------------------------------------------------------------- looking */

static uint32_t faults_count_file(const struct faults *faults, bool seen[FAULTS_EVENTS])
{
        uint32_t count = 0;
        char *line = NULL;
        size_t room = 0;
        FILE *in = fopen(faults->file, "r");
        memset(seen, 0, FAULTS_EVENTS * sizeof(seen[0]));
        for (ssize_t len; in != NULL && (len = getline(&line, &room, in)) > 0;) {
                if (line[len - 1] != '\n')
                        break; /* it is being written, or cut off again */
                const char *at = strstr(line, "\"messageId\":\"id-");
                uint32_t id = at == NULL ? FAULTS_EVENTS : (uint32_t)strtoul(at + 16, NULL, 10);
                if (id >= FAULTS_EVENTS)
                        faults_die(faults, "the file holds a line that nobody published");
                count += !seen[id];
                seen[id] = true;
        }
        free(line);
        if (in != NULL)
                (void)fclose(in);
        return count;
}

static uint32_t faults_count_peer(struct faults *faults, bool seen[FAULTS_EVENTS])
{
        uint32_t count = 0;
        memset(seen, 0, FAULTS_EVENTS * sizeof(seen[0]));
        (void)pthread_mutex_lock(&faults->peer.lock);
        for (uint32_t i = 0; i < faults->peer.streams[0].count; i++) {
                uint32_t id = faults->peer.streams[0].ids[i];
                count += id < FAULTS_EVENTS && !seen[id];
                if (id < FAULTS_EVENTS)
                        seen[id] = true;
        }
        (void)pthread_mutex_unlock(&faults->peer.lock);
        return count;
}

static bool faults_all_delivered(struct faults *faults, const bool published[FAULTS_EVENTS])
{
        bool in_file[FAULTS_EVENTS], at_peer[FAULTS_EVENTS];
        (void)faults_count_file(faults, in_file);
        (void)faults_count_peer(faults, at_peer);
        for (uint32_t id = 0; id < FAULTS_EVENTS; id++)
                if (published[id] && (!in_file[id] || !at_peer[id]))
                        return false;
        return true;
}

/* All that was published, at least once: a request without an answer may have come twice. */
static void faults_check_counts(struct faults *faults, const bool published[FAULTS_EVENTS])
{
        uint64_t wanted = 0, sum = cloudwatch_peer_sum(&faults->counts);
        char text[96];
        for (uint32_t id = 0; id < FAULTS_EVENTS; id++)
                wanted += published[id];
        (void)snprintf(text, sizeof(text), "CloudWatch has counted %llu of %llu", (unsigned long long)sum,
                       (unsigned long long)wanted);
        if (sum < wanted)
                faults_die(faults, text);
}

/* The equation of the ledger, for every target, from the log itself. */
static void faults_check_ledger(const struct faults *faults)
{
        char directory[FAULTS_PATH];
        struct err err = {.text = ""};
        struct journal *journal = NULL;
        (void)snprintf(directory, sizeof(directory), "%s/state/journal/0", faults->directory);
        const struct journal_options options = {.directory = directory, .read_only = true};
        if (journal_open(&options, &journal, NULL, &err) != ERR_OK)
                faults_die(faults, err.text);
        for (uint32_t target = 0; target < journal_targets_count(journal); target++) {
                struct journal_target_state state;
                uint64_t waiting = 0;
                if (journal_target_audit(journal, (uint16_t)target, &state, &waiting, &err) != ERR_OK)
                        faults_die(faults, err.text);
                if (state.accepted != state.delivered + state.dead_lettered + state.shed + state.expired + waiting)
                        faults_die(faults, "the ledger does not balance");
                if (state.shed + state.dead_lettered + state.expired > 0 && state.key[0] != '(')
                        faults_die(faults, "events were shed, expired or dead-lettered");
        }
        journal_close(journal);
}

/* ---------------------------------------------------------------------------------------------- one n */

/* The leak checker sees threads of this process that the fork did not take along, and warns that it may be wrong then:
 * a leak counts when it comes three times. */
static bool faults_try_again(struct faults *faults, int status)
{
        if (!WIFEXITED(status) || WEXITSTATUS(status) != FAULTS_EXIT_LEAK || faults->leaks == 2) {
                faults->leaks = 0;
                return false;
        }
        faults->leaks++;
        return true;
}

/* A failure while it ended is an end all the same. */
static void faults_check_first(const struct faults *faults, int status)
{
        char text[160];
        if (WIFSIGNALED(status)) {
                (void)snprintf(text, sizeof(text), "the router died of signal %d", WTERMSIG(status));
                faults_die(faults, text);
        }
        int code = WEXITSTATUS(status);
        if (code != 0 && code != 1 && code != 78) {
                (void)snprintf(text, sizeof(text), "the router ended with %d (98: leak, 99: address sanitizer)", code);
                faults_die(faults, text);
        }
        if (code != 0 && !faults_log_has(faults, "level=error") && !faults_log_has(faults, "error:"))
                faults_die(faults, "the router did not say why it ended");
}

static void faults_end(struct faults *faults)
{
        firehose_peer_stop(&faults->peer);
        cloudwatch_peer_stop(&faults->counts);
}

static void faults_begin(struct faults *faults, enum fault_family family, uint64_t nth, bool lasting, const char *note)
{
        (void)snprintf(faults->what, sizeof(faults->what), "%s %s of call %llu%s", fault_family_name(family),
                       lasting ? "failing from" : "failure", (unsigned long long)nth, note);
        journal_files_remove(faults->directory);
        if (mkdir(faults->directory, 0700) < 0)
                faults_die(faults, "cannot make the directory");
        memset(&faults->peer, 0, sizeof(faults->peer));
        memset(&faults->counts, 0, sizeof(faults->counts));
        firehose_peer_start(&faults->peer);
        cloudwatch_peer_start(&faults->counts);
        (void)firehose_peer_stream(&faults->peer, "events");
        faults->plan->family = family;
        faults->plan->nth = nth;
        faults->plan->lasting = lasting;
        atomic_store(&faults->plan->calls, 0);
        atomic_store(&faults->plan->failed, 0);
}

/* The producer meets the fault; the router none. False: no fault was met any more. */
static bool faults_run_producer(struct faults *faults, enum fault_family family, uint64_t nth, bool lasting)
{
        int status = 0;
        faults_begin(faults, family, nth, lasting, " (producer)");
        faults_write_configuration(faults, false);
        memset(faults->shared, 0, FAULTS_EVENTS * sizeof(faults->shared[0]));
        pid_t pid = faults_start(faults, NULL);
        while (!faults_log_has(faults, "msg=\"ready\""))
                if (faults_ended(pid, CLOCK_NS_PER_MS, &status))
                        faults_die(faults, "the router ended");
        pid_t producer = faults_start_producer(faults);
        bool ended = faults_ended(producer, FAULTS_END_NS, &status);
        bool again = ended && faults_try_again(faults, status);
        if (!again && (!ended || !WIFEXITED(status) || WEXITSTATUS(status) != 0))
                faults_die(faults, "the producer did not end well (2: no error text, 98: leak, 99: address sanitizer)");
        uint64_t begun_ns = clock_monotonic_ns();
        while (!faults_all_delivered(faults, faults->shared)) {
                if (clock_monotonic_ns() - begun_ns > FAULTS_DELIVERED_NS)
                        faults_die(faults, "events whose publish returned OK are missing");
                if (faults_ended(pid, CLOCK_NS_PER_MS, &status))
                        faults_die(faults, "the router ended");
        }
        (void)kill(pid, SIGTERM);
        ended = faults_ended(pid, FAULTS_END_NS, &status);
        again |= ended && faults_try_again(faults, status);
        if (again) {
                faults_end(faults);
                return faults_run_producer(faults, family, nth, lasting);
        }
        if (!ended || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
                faults_die(faults, "the router did not end well");
        if (faults->verbose)
                (void)printf("  %s\n", faults->what);
        faults_check_ledger(faults);
        faults_check_counts(faults, faults->shared);
        faults_end(faults);
        return atomic_load(&faults->plan->failed) > 0;
}

/* False: the run met no fault any more. */
static bool faults_run(struct faults *faults, enum fault_family family, uint64_t nth, bool lasting, bool host)
{
        bool published[FAULTS_EVENTS] = {false};
        struct sendring *ring = NULL;
        int status = 0;
        faults_begin(faults, family, nth, lasting, host ? " (durability host)" : "");
        faults_write_configuration(faults, host);

        uint64_t begun_ns = clock_monotonic_ns();
        pid_t pid = faults_start(faults, faults->plan);
        bool over = false;
        const struct sendring_options options = {
                .size = sizeof(options), .socket_path = faults->socket, .timeout_ms = 500};
        while (ring == NULL && !over && clock_monotonic_ns() - begun_ns < FAULTS_CHANCE_NS) {
                over = faults_ended(pid, CLOCK_NS_PER_MS, &status);
                if (!over && access(faults->socket, F_OK) == 0 && sendring_open(&options, &ring) != SENDRING_OK)
                        ring = NULL;
        }
        const uint64_t calls_before = atomic_load(&faults->plan->calls);
        for (uint32_t id = 0; id < FAULTS_EVENTS && ring != NULL; id++)
                published[id] = faults_publish(ring, id);
        /* What no sync has covered is not durable, however long nobody else has noticed. */
        if (ring != NULL && host && lasting && nth <= calls_before + 1 && sendring_flush(ring, 300) == SENDRING_OK)
                faults_die(faults, "a flush returned, and no sync has succeeded since its events were published");
        begun_ns = clock_monotonic_ns();
        while (ring != NULL && !over && clock_monotonic_ns() - begun_ns < FAULTS_CHANCE_NS &&
               !faults_all_delivered(faults, published))
                over = faults_ended(pid, CLOCK_NS_PER_MS, &status);
        if (!over) {
                (void)kill(pid, SIGTERM);
                if (!faults_ended(pid, FAULTS_END_NS, &status)) {
                        (void)kill(pid, SIGKILL);
                        (void)waitpid(pid, &status, 0);
                        faults_die(faults, "the router does not end on SIGTERM");
                }
        }
        if (faults_try_again(faults, status)) {
                sendring_close(ring);
                faults_end(faults);
                return faults_run(faults, family, nth, lasting, host);
        }
        faults_check_first(faults, status);
        bool met = atomic_load(&faults->plan->failed) > 0;
        if (faults->verbose)
                (void)printf("  %s: status %d, %s\n", faults->what, WEXITSTATUS(status),
                             ring != NULL ? "attached" : "-");

        pid = faults_start(faults, NULL);
        begun_ns = clock_monotonic_ns();
        while (!faults_all_delivered(faults, published) && clock_monotonic_ns() - begun_ns < FAULTS_DELIVERED_NS) {
                if (ring != NULL)
                        (void)sendring_flush(ring, 50); /* attaches to the second, and carries what is left to it */
                if (faults_ended(pid, CLOCK_NS_PER_MS, &status))
                        faults_die(faults, "the second router ended");
        }
        if (!faults_all_delivered(faults, published))
                faults_die(faults, "events whose publish returned OK are missing");
        while (!faults_log_has(faults, "msg=\"ready\""))
                if (faults_ended(pid, CLOCK_NS_PER_MS, &status))
                        faults_die(faults, "the second router ended");
        (void)kill(pid, SIGTERM);
        bool ended = faults_ended(pid, FAULTS_END_NS, &status);
        if (ended && faults_try_again(faults, status)) {
                sendring_close(ring);
                faults_end(faults);
                return faults_run(faults, family, nth, lasting, host);
        }
        if (!ended || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
                faults_die(faults, "the second router did not end well");
        sendring_close(ring);
        faults_check_ledger(faults);
        faults_check_counts(faults, published);
        faults_end(faults);
        return met;
}

int main(int argc, char **argv)
{
        static const struct option long_options[] = {
                {"family", required_argument, NULL, 'f'}, {"from", required_argument, NULL, 'n'},
                {"step", required_argument, NULL, 's'},   {"most", required_argument, NULL, 'm'},
                {"verbose", no_argument, NULL, 'v'},      {NULL, 0, NULL, 0},
        };
        static struct faults faults;
        const char *only = NULL;
        uint64_t from = 1, step = 1, most = UINT64_MAX, runs = 0;
        for (int option; (option = getopt_long(argc, argv, "f:n:s:m:v", long_options, NULL)) != -1;) {
                switch (option) {
                case 'f':
                        only = optarg;
                        break;
                case 'n':
                        from = strtoull(optarg, NULL, 10);
                        break;
                case 's':
                        step = strtoull(optarg, NULL, 10);
                        break;
                case 'm':
                        most = strtoull(optarg, NULL, 10);
                        break;
                case 'v':
                        faults.verbose = true;
                        break;
                default:
                        (void)fprintf(stderr,
                                      "usage: faults [--family NAME] [--from N] [--step N] [--most N] [--verbose]\n");
                        return 64;
                }
        }
        if (from == 0 || step == 0)
                return 64;
        (void)setvbuf(stdout, NULL, _IOLBF, 0);
        (void)setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
        (void)setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
        (void)unsetenv("NOTIFY_SOCKET");
        /* The routers' signals: blocked in every thread that they inherit from. */
        sigset_t signals;
        (void)sigemptyset(&signals);
        (void)sigaddset(&signals, SIGTERM);
        (void)sigprocmask(SIG_BLOCK, &signals, NULL);
        journal_files_make(faults.directory);
        (void)snprintf(faults.settings, sizeof(faults.settings), "%s/sendring.yaml", faults.directory);
        (void)snprintf(faults.sets, sizeof(faults.sets), "%s/sets.yaml", faults.directory);
        (void)snprintf(faults.socket, sizeof(faults.socket), "%s/socket", faults.directory);
        (void)snprintf(faults.file, sizeof(faults.file), "%s/events.ndjson", faults.directory);
        (void)snprintf(faults.log, sizeof(faults.log), "%s/log", faults.directory);
        faults.plan = mmap(NULL, sizeof(*faults.plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (faults.plan == MAP_FAILED)
                return 1;
        faults.shared = mmap(NULL, FAULTS_EVENTS * sizeof(faults.shared[0]), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (faults.shared == MAP_FAILED)
                return 1;
        uint64_t begun_ns = clock_monotonic_ns();
        for (int family = FAULT_NONE + 1; family < FAULT_FAMILIES; family++) {
                if (only != NULL && strcmp(only, fault_family_name((enum fault_family)family)) != 0)
                        continue;
                for (int lasting = 0; lasting < 2; lasting++) {
                        uint64_t nth = from, failed = 0;
                        bool host = family == FAULT_SYNC; /* process makes next to none */
                        for (; nth - from < most; nth += step, runs++, failed++)
                                if (!faults_run(&faults, (enum fault_family)family, nth, lasting == 1, host))
                                        break;
                        /* The families that libsendring calls. */
                        bool producer = family == FAULT_MEMORY || family == FAULT_MAP || family == FAULT_HANDLE ||
                                        family == FAULT_CONNECT;
                        for (uint64_t call = from; producer && call - from < most; call += step, runs++, failed++)
                                if (!faults_run_producer(&faults, (enum fault_family)family, call, lasting == 1))
                                        break;
                        (void)printf("faults: %s %s: %llu runs with a failure, last call %llu\n",
                                     fault_family_name((enum fault_family)family), lasting == 1 ? "for ever" : "once",
                                     (unsigned long long)failed, (unsigned long long)nth);
                }
        }
        journal_files_remove(faults.directory);
        (void)printf("faults: ok, %llu runs, %llu s\n", (unsigned long long)runs,
                     (unsigned long long)((clock_monotonic_ns() - begun_ns) / CLOCK_NS_PER_S));
        return 0;
}
