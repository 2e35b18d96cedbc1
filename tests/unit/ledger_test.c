/* `sendring ledger` in a forked process, on a journal whose books are right, and on one where somebody miscounted. */
#include "journal/journal.h"

#include "tests/support/journal_files.h"
#include "tests/support/run_command.h"
#include "tools/cmd.h"

#include <criterion/criterion.h>

#define MIB    (1024u * 1024u)
#define EVENTS 100u

static char root[256], settings[300], output[300];

static void make_state(void)
{
        journal_files_make(root);
        (void)snprintf(settings, sizeof(settings), "%s/sendring.yaml", root);
        (void)snprintf(output, sizeof(output), "%s/output", root);
        FILE *out = fopen(settings, "we");
        cr_assert_not_null(out);
        (void)fprintf(out, "state_directory: %s\nsocket_path: %s/socket\n", root, root);
        cr_assert_eq(fclose(out), 0);
}

static void remove_state(void)
{
        journal_files_remove(root);
}

TestSuite(ledger, .init = make_state, .fini = remove_state, .timeout = 30);

/* A log of EVENTS events, for one target each, of which `passed` are behind the cursor and `delivered` are said to have
 * been delivered. */
static void make_log(uint64_t passed, uint64_t delivered)
{
        char directory[300];
        struct journal *journal = NULL;
        struct err err = {.text = ""};
        uint16_t target;
        (void)snprintf(directory, sizeof(directory), "%s/journal", root);
        journal_files_remove(directory);
        cr_assert_eq(mkdir(directory, 0700), 0);
        (void)snprintf(directory, sizeof(directory), "%s/journal/0", root);
        const struct journal_options options = {
                .directory = directory, .segment_bytes = MIB, .size_bytes_max = 4 * MIB, .segments_mapped_max = 4};
        cr_assert_eq(journal_open(&options, &journal, NULL, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(journal_target_register(journal, SLICE("file /a"), &target, &err), ERR_OK, "%s", err.text);
        uint64_t position = 0, sequence = 0;
        for (uint32_t i = 0; i < EVENTS; i++) {
                if (i == passed)
                        journal_committed(journal, &position, &sequence);
                cr_assert_eq(journal_files_append(journal, journal_next_sequence(journal), 700, 1), ERR_OK);
                cr_assert_eq(journal_publish(journal), ERR_OK);
        }
        if (passed == EVENTS)
                journal_committed(journal, &position, &sequence);
        journal_target_advance(journal, target, position, sequence, &(struct journal_settled){.delivered = delivered});
        journal_close(journal);
}

/* What it said is in the file. */
static int run_ledger(const char *flag)
{
        return run_command(cmd_ledger, "ledger", settings, flag, output);
}

static bool says(const char *text)
{
        char said[8192];
        FILE *file = fopen(output, "re");
        cr_assert_not_null(file);
        size_t bytes = fread(said, 1, sizeof(said) - 1, file);
        (void)fclose(file);
        said[bytes] = '\0';
        return strstr(said, text) != NULL;
}

Test(ledger, books_that_are_right_balance)
{
        make_log(40, 40);
        cr_assert_eq(run_ledger("--check"), CMD_EXIT_OK);
        cr_assert_not(says("file /a"), "nothing to tell");
        cr_assert_eq(run_ledger(NULL), CMD_EXIT_OK);
        cr_assert(says("balanced  file /a") && says("ledger: balanced"));
        cr_assert_eq(run_ledger("--json"), CMD_EXIT_OK);
        cr_assert(
                says("\"accepted\":100,\"delivered\":40,\"dead_lettered\":0,\"shed\":0,\"expired\":0,\"waiting\":60,"));
}

/* No damage explains them: what the shard has counted and what the worker has are no longer the same. */
Test(ledger, a_miscount_of_one_event_is_told_and_fails)
{
        static const struct {
                uint64_t passed, delivered;
                const char *said;
        } cases[] = {
                {40, 39, "accepted 100, but delivered 39 + dead 0 + shed 0 + expired 0 + waiting 60 = 99: 1 missing"},
                {40, 41, "accepted 100, but delivered 41 + dead 0 + shed 0 + expired 0 + waiting 60 = 101: 1 too many"},
                {EVENTS, 99, "= 99: 1 missing"},
                {EVENTS, 101, "= 101: 1 too many"},
        };
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                make_log(cases[i].passed, cases[i].delivered);
                cr_assert_eq(run_ledger("--check"), CMD_EXIT_FAILED, "case %zu", i);
                cr_assert(says(cases[i].said), "case %zu", i);
                cr_assert(says("/journal/0\n"), "it says where");
                cr_assert_eq(run_ledger(NULL), CMD_EXIT_FAILED);
                cr_assert(says("MISMATCH  file /a") && says("ledger: MISMATCH"));
                cr_assert_eq(run_ledger("--json"), CMD_EXIT_FAILED);
                cr_assert(says("{\"balanced\":false,"));
        }
}
