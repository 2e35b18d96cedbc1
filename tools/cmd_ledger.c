/* sendring ledger: proves that nothing was lost silently. For every delivery target
 *
 *     accepted = delivered + dead-lettered + shed + expired + waiting
 *
 * where `accepted` was counted by the shards as they journalled, the settled counts by the workers as they moved their
 * cursors, and `waiting` is counted here, record by record, from the journal itself. Works beside a running daemon and
 * without one. */
#include "base/clock.h"
#include "journal/journal.h"
#include "router/router.h"
#include "rules/rules.h"
#include "tools/cmd.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Beside a running daemon the log may be recycled while it is counted: then it is counted again, this often. */
#define LEDGER_TRIES  50
#define LEDGER_TRY_NS (20 * CLOCK_NS_PER_MS)

struct ledger_row {
        char key[512];
        uint64_t accepted, delivered, dead_lettered, shed, expired, waiting, lost;
        uint64_t shed_of[RULES_EVENT_TYPES_END]; /* of `shed`, by event type; 0: of types that have no log of their own
                                                  */
        bool balanced;
        bool live; /* in a log that the settings ask for, or in one of earlier ones that still holds events of it */
};

struct ledger {
        struct ledger_row *rows;
        uint32_t rows_count;
        uint64_t unmatched, rejected;
        bool balanced;
        bool complete; /* every log that the settings ask for, with all of its targets */
};

static void ledger_usage(void)
{
        (void)printf("usage: sendring ledger [--settings FILE] [--check | --json]\n\n"
                     "For every delivery target: events accepted = delivered + dead-lettered + shed +\n"
                     "expired + waiting. What waits is counted from the journal itself.\n\n"
                     "  -s, --settings FILE  the daemon's settings (default /etc/sendring/sendring.yaml)\n"
                     "  -c, --check          only what does not balance; for scripts and monitors\n"
                     "  -j, --json           one JSON object\n"
                     "  -h, --help           this text\n\n"
                     "Exit status: 0 when every line balances, 1 when one does not, or the books are incomplete,\n"
                     "64 for a mistake in the command line, 69 without a journal, 74 when it cannot be read,\n"
                     "78 for a mistake in the settings.\n");
}

/* What does not add up, for a person. */
static void ledger_tell(const char *directory, const char *key, const struct journal_target_state *state,
                        uint64_t waiting, uint64_t known)
{
        bool missing = known < state->accepted;
        (void)fprintf(stderr,
                      "sendring ledger: %s: accepted %" PRIu64 ", but delivered %" PRIu64 " + dead %" PRIu64
                      " + shed %" PRIu64 " + expired %" PRIu64 " + waiting %" PRIu64 " = %" PRIu64 ": %" PRIu64
                      " %s, in %s\n",
                      key, state->accepted, state->delivered, state->dead_lettered, state->shed, state->expired,
                      waiting, known, missing ? state->accepted - known : known - state->accepted,
                      missing ? "missing" : "too many", directory);
}

/* One target of one log, added to its row. */
static enum err_code ledger_add(struct ledger *ledger, struct ledger_row *row, struct journal *journal,
                                const char *directory, uint16_t target, const struct router_journal *log,
                                struct err *reterr)
{
        struct journal_target_state state;
        uint64_t waiting = 0;
        enum err_code code = ERR_OK;
        for (int i = 0; i < LEDGER_TRIES; i++) {
                /* Counted up to what the shard had counted: exact also while events arrive. A cursor that overtakes the
                 * count lets the log be recycled under it: then again. */
                code = journal_target_audit(journal, target, &state, &waiting, reterr);
                if (code == ERR_OK)
                        break;
                clock_sleep_ns(LEDGER_TRY_NS);
        }
        if (code != ERR_OK)
                return err_wrap(reterr, "target %s", row->key);
        row->accepted += state.accepted;
        row->delivered += state.delivered;
        row->dead_lettered += state.dead_lettered;
        row->shed += state.shed;
        row->shed_of[log->type] += state.shed;
        row->expired += state.expired;
        row->lost += state.lost;
        row->waiting += waiting;
        /* Nobody retires the targets of an emptied log: it is not opened any more. */
        row->live |= !state.retired && (log->wanted || waiting > 0);
        /* Each log by itself: what one lacks, another may have too many of. */
        uint64_t known = state.delivered + state.dead_lettered + state.shed + state.expired + waiting;
        if (known != state.accepted)
                ledger_tell(directory, row->key, &state, waiting, known);
        row->balanced &= known == state.accepted;
        ledger->balanced &= row->balanced;
        return ERR_OK;
}

static struct ledger_row *ledger_row_of(struct ledger *ledger, const char *key)
{
        for (uint32_t i = 0; i < ledger->rows_count; i++)
                if (strcmp(ledger->rows[i].key, key) == 0)
                        return &ledger->rows[i];
        struct ledger_row *larger = realloc(ledger->rows, (ledger->rows_count + 1) * sizeof(*larger));
        if (larger == NULL)
                return NULL;
        ledger->rows = larger;
        struct ledger_row *row = &ledger->rows[ledger->rows_count++];
        *row = (struct ledger_row){.balanced = true};
        (void)snprintf(row->key, sizeof(row->key), "%s", key); /* the same size */
        return row;
}

/* Again where a daemon that is starting may not be through with the files, or recycles what is being read. */
static enum err_code ledger_open(const char *directory, struct journal **ret_journal, enum err_code *ret_complete,
                                 struct err *ret_lack, struct err *reterr)
{
        const struct journal_options options = {.directory = directory, .read_only = true};
        enum err_code code = ERR_OK;
        for (int i = 0; i < LEDGER_TRIES; i++) {
                if (i > 0)
                        clock_sleep_ns(LEDGER_TRY_NS);
                *ret_complete = ERR_OK;
                code = journal_open(&options, ret_journal, NULL, reterr);
                if (code == ERR_NOT_FOUND || code == ERR_CORRUPT)
                        continue;
                if (code != ERR_OK)
                        return code;
                *ret_complete = journal_targets_check(*ret_journal, ret_lack);
                if (*ret_complete == ERR_OK || i + 1 == LEDGER_TRIES)
                        return ERR_OK;
                journal_close(*ret_journal);
        }
        return code;
}

static enum err_code ledger_read(struct ledger *ledger, const char *directory, const struct router_journal *log,
                                 struct err *reterr)
{
        struct journal *journal = NULL;
        struct err lack = {.text = ""};
        enum err_code complete;
        enum err_code code = ledger_open(directory, &journal, &complete, &lack, reterr);
        if (code != ERR_OK)
                return code;
        if (complete != ERR_OK) {
                (void)fprintf(stderr, "sendring ledger: %s\n", lack.text);
                ledger->complete = false;
        }
        for (uint32_t target = 0; target < journal_targets_count(journal); target++) {
                struct journal_target_state state;
                if (!journal_target_get(journal, (uint16_t)target, &state))
                        continue;
                if (state.key[0] == '\0')
                        continue; /* nobody's: its name is lost */
                if (strcmp(state.key, ROUTER_TARGET_UNMATCHED) == 0) {
                        ledger->unmatched += state.accepted;
                        continue;
                }
                if (strcmp(state.key, ROUTER_TARGET_REJECTED) == 0) {
                        ledger->rejected += state.accepted;
                        continue;
                }
                struct ledger_row *row = ledger_row_of(ledger, state.key);
                if (row == NULL) {
                        code = err_set(reterr, ERR_MEMORY, "out of memory");
                        break;
                }
                code = ledger_add(ledger, row, journal, directory, (uint16_t)target, log, reterr);
                if (code != ERR_OK)
                        break;
        }
        journal_close(journal);
        return code;
}

static void ledger_print(const struct ledger *ledger)
{
        printf("%12s %12s %8s %8s %8s %12s  %-9s target\n", "accepted", "delivered", "dead", "shed", "expired",
               "waiting", "");
        for (uint32_t i = 0; i < ledger->rows_count; i++) {
                const struct ledger_row *row = &ledger->rows[i];
                printf("%12" PRIu64 " %12" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64 " %12" PRIu64 "  %-9s %s%s\n",
                       row->accepted, row->delivered, row->dead_lettered, row->shed, row->expired, row->waiting,
                       row->balanced ? "balanced" : "MISMATCH", row->key, row->live ? "" : " (removed)");
                for (unsigned type = 1; type < RULES_EVENT_TYPES_END; type++)
                        if (row->shed_of[type] > 0)
                                printf("%35s %8" PRIu64 "  %s\n", "shed", row->shed_of[type],
                                       rules_event_class_name(type));
        }
        printf("unmatched %" PRIu64 " (no enabled event destination wanted them), rejected %" PRIu64 " (malformed)\n",
               ledger->unmatched, ledger->rejected);
        for (uint32_t i = 0; i < ledger->rows_count; i++)
                if (ledger->rows[i].lost > 0)
                        printf("lost %" PRIu64
                               " (by a damaged disk or a power cut, before they were settled; not among the "
                               "accepted): %s\n",
                               ledger->rows[i].lost, ledger->rows[i].key);
        printf("ledger: %s\n", !ledger->complete ? "INCOMPLETE" : ledger->balanced ? "balanced" : "MISMATCH");
}

static void ledger_print_json(const struct ledger *ledger)
{
        printf("{\"balanced\":%s,\"complete\":%s,\"unmatched\":%" PRIu64 ",\"rejected\":%" PRIu64 ",\"targets\":[",
               ledger->balanced && ledger->complete ? "true" : "false", ledger->complete ? "true" : "false",
               ledger->unmatched, ledger->rejected);
        for (uint32_t i = 0; i < ledger->rows_count; i++) {
                const struct ledger_row *row = &ledger->rows[i];
                printf("%s{\"target\":", i == 0 ? "" : ",");
                cmd_print_json_text(row->key, strlen(row->key));
                printf(",\"accepted\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"dead_lettered\":%" PRIu64
                       ",\"shed\":%" PRIu64 ",\"expired\":%" PRIu64 ",\"waiting\":%" PRIu64 ",\"lost\":%" PRIu64
                       ",\"balanced\":%s,\"removed\":%s,\"shed_by_type\":{",
                       row->accepted, row->delivered, row->dead_lettered, row->shed, row->expired, row->waiting,
                       row->lost, row->balanced ? "true" : "false", row->live ? "false" : "true");
                bool first = true;
                for (unsigned type = 1; type < RULES_EVENT_TYPES_END; type++) {
                        if (row->shed_of[type] == 0)
                                continue;
                        printf("%s\"%s\":%" PRIu64, first ? "" : ",", rules_event_class_name(type), row->shed_of[type]);
                        first = false;
                }
                printf("}}");
        }
        printf("]}\n");
}

/* Whether this log's directory is there. */
static bool ledger_has(const char *directory)
{
        return access(directory, F_OK) == 0 || errno != ENOENT;
}

/* Reads every log that is there; one that is asked for and missing is said. Returns the command's status. */
static int ledger_read_all(struct ledger *ledger, const struct rules_settings *settings)
{
        /* Logs of earlier settings count as well. */
        struct router_journal logs[LIMIT_LOGS_MAX];
        const uint32_t logs_count = router_logs_list(settings, true, logs);
        char directory[PATH_MAX];
        uint32_t found = 0;
        for (uint32_t i = 0; i < logs_count; i++) {
                if (!router_log_directory(settings, &logs[i], directory, sizeof(directory)))
                        return CMD_EXIT_CONFIG;
                found += ledger_has(directory);
        }
        if (found == 0) {
                (void)fprintf(stderr,
                              "sendring ledger: there is no journal in %s: has a daemon run with these settings?\n",
                              settings->journal.directory);
                return CMD_EXIT_UNAVAILABLE;
        }
        for (uint32_t i = 0; i < logs_count; i++) {
                struct err err = {.text = ""};
                (void)router_log_directory(settings, &logs[i], directory, sizeof(directory)); /* it fits, as before */
                if (!ledger_has(directory)) {
                        if (logs[i].wanted)
                                (void)fprintf(stderr,
                                              "sendring ledger: the log %s is missing, and what it has counted: it was "
                                              "removed, or no daemon has started with these settings yet\n",
                                              directory);
                        ledger->complete &= !logs[i].wanted;
                        continue;
                }
                enum err_code code = ledger_read(ledger, directory, &logs[i], &err);
                if (code == ERR_OK)
                        continue;
                (void)fprintf(stderr, "sendring ledger: %s%s\n", err.text, cmd_advice(&err));
                if (code != ERR_CORRUPT)
                        return cmd_unread_status(&err);
                ledger->complete = false; /* the others are told all the same */
        }
        return CMD_EXIT_OK;
}

int cmd_ledger(int argc, char **argv)
{
        static const struct option options[] = {
                {"settings", required_argument, NULL, 's'},
                {"check", no_argument, NULL, 'c'},
                {"json", no_argument, NULL, 'j'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        const char *settings_path = "/etc/sendring/sendring.yaml";
        bool json = false, check = false;
        opterr = 0;
        for (int option = getopt_long(argc, argv, ":s:cjh", options, NULL); option != -1;
             option = getopt_long(argc, argv, ":s:cjh", options, NULL)) {
                switch (option) {
                case 's':
                        settings_path = optarg;
                        break;
                case 'c':
                        check = true;
                        break;
                case 'j':
                        json = true;
                        break;
                case 'h':
                        ledger_usage();
                        return CMD_EXIT_OK;
                default:
                        return cmd_option_refused("ledger", option, options, argv);
                }
        }
        if (optind != argc) {
                (void)fprintf(stderr, "sendring ledger: unexpected argument '%s'; `sendring ledger --help` explains\n",
                              argv[optind]);
                return CMD_EXIT_USAGE;
        }
        struct rules_settings settings;
        struct rules_report report;
        rules_report_init(&report);
        enum err_code code = rules_settings_load(settings_path, &settings, &report);
        if (code != ERR_OK)
                rules_report_print(&report, stderr);
        rules_report_release(&report);
        if (code != ERR_OK)
                return CMD_EXIT_CONFIG;
        struct ledger ledger = {.balanced = true, .complete = true};
        int status = ledger_read_all(&ledger, &settings);
        if (status == CMD_EXIT_OK) {
                if (json)
                        ledger_print_json(&ledger);
                else if (!check) /* what does not balance has been told; the status says the rest */
                        ledger_print(&ledger);
                status = ledger.balanced && ledger.complete ? CMD_EXIT_OK : CMD_EXIT_FAILED;
        }
        free(ledger.rows);
        rules_settings_release(&settings);
        return status;
}
