/* A lane whose events go into several logs: a kill at any labelled step leaves a prefix of them, and the largest lane
 * position in any of the logs says where it ends. So the next router takes every event once. */
#include "base/random.h"
#include "journal/journal.h"

#include "tests/support/journal_files.h"

#include <criterion/criterion.h>

#define MIB           (1024u * 1024u)
#define LOGS          3u
#define LANE          77u
#define POSITION_STEP 8u

static char root[256];
static bool watching;
static bool cut;           /* a page is gone: the numbers of records that were taken back are no loss */
static uint64_t committed; /* as the test knows it: one more may be there */
static unsigned images, torn;

/* What a log's files hold is looked at when they may have changed: those of the log that is worked on at every step,
 * those of the one before once more. */
static uint32_t worked_on;
static struct {
        bool known;
        uint64_t records, position;
} looked_at[LOGS];

void journal_test_step(const char *label);

static const char *path_of(const char *what, uint32_t log)
{
        static char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s-%u", root, what, log);
        return path;
}

static struct journal *must_open(const char *path, struct journal_recovery *ret_recovery)
{
        struct journal_options options = {
                .directory = path, .segment_bytes = MIB, .size_bytes_max = 8 * MIB, .segments_mapped_max = 4};
        struct journal *journal = NULL;
        struct err err;
        cr_assert_eq(journal_open(&options, &journal, ret_recovery, &err), ERR_OK, "%s", err.text);
        return journal;
}

static void work_on(uint32_t log)
{
        looked_at[worked_on].known = looked_at[log].known = false;
        worked_on = log;
}

static void forget_all(void)
{
        for (uint32_t log = 0; log < LOGS; log++)
                looked_at[log].known = false;
}

static void look_at(uint32_t log, const char *label)
{
        struct journal_recovery recovery;
        char image[512], log_path[512];
        (void)snprintf(image, sizeof(image), "%s", path_of("image", log));
        (void)snprintf(log_path, sizeof(log_path), "%s", path_of("log", log));
        journal_files_copy(log_path, image);
        struct journal *journal = must_open(image, &recovery);
        looked_at[log].records = recovery.records;
        looked_at[log].position = journal_lane_position(journal, LANE);
        looked_at[log].known = log != worked_on;
        if (!cut)
                cr_assert_eq(recovery.lost_records, 0, "at %s", label);
        journal_close(journal);
        journal_files_remove(image);
}

void journal_test_step(const char *label)
{
        uint64_t records = 0, position = 0;
        if (!watching)
                return;
        watching = false;
        for (uint32_t log = 0; log < LOGS; log++) {
                if (!looked_at[log].known)
                        look_at(log, label);
                records += looked_at[log].records;
                position = looked_at[log].position > position ? looked_at[log].position : position;
        }
        cr_assert_eq(position, records * POSITION_STEP, "at %s: %llu records up to %llu", label,
                     (unsigned long long)records, (unsigned long long)position);
        if (!cut)
                cr_assert(records == committed || records == committed + 1, "at %s", label);
        torn += records != committed;
        images++;
        watching = true;
}

Test(journal_logs_crash, a_kill_between_commits_leaves_a_prefix_of_the_lane, .timeout = 120)
{
        struct journal *journals[LOGS];
        struct random_state random;
        uint16_t target;
        random_init(&random, 20261127);
        journal_files_make(root);
        for (uint32_t log = 0; log < LOGS; log++) {
                journals[log] = must_open(path_of("log", log), NULL);
                cr_assert_eq(journal_target_register(journals[log], SLICE("file /a"), &target, NULL), ERR_OK);
        }
        for (unsigned visit = 0; visit < 12; visit++) {
                bool touched[LOGS] = {false};
                watching = visit % 3 == 2;
                forget_all();
                for (unsigned event = 0; event < 10; event++) {
                        uint32_t log = (uint32_t)(random_unit(&random) * LOGS);
                        work_on(log);
                        uint8_t *payload = NULL;
                        struct journal_entry entry = {
                                .lane_id = LANE, .lane_position = (committed + 1) * POSITION_STEP, .routes_count = 1};
                        enum err_code code = journal_reserve(journals[log], 60000, &payload);
                        if (code == ERR_FULL && journal_maintain(journals[log], NULL) == ERR_OK)
                                code = journal_reserve(journals[log], 60000, &payload);
                        cr_assert_eq(code, ERR_OK);
                        journal_files_fill(payload, 60000, committed);
                        journal_commit(journals[log], &entry, 60000);
                        committed++;
                        touched[log] = true;
                }
                for (uint32_t log = 0; log < LOGS; log++) {
                        if (!touched[log])
                                continue;
                        work_on(log);
                        cr_assert_eq(journal_publish(journals[log]), ERR_OK);
                }
        }
        watching = false;
        cr_assert_gt(images, 100);
        cr_assert_gt(torn, 0, "some were taken behind a commit");
        for (uint32_t log = 0; log < LOGS; log++)
                journal_close(journals[log]);
        journal_files_remove(root);
}

/* As a shard does it: whoever goes to another log looks first whether the one before is there. */
static enum err_code append_one(struct journal *journals[LOGS], uint32_t log, uint32_t *last, uint64_t position)
{
        uint8_t *payload = NULL;
        struct journal_entry entry = {.lane_id = LANE, .lane_position = position, .routes_count = 1};
        work_on(*last);
        enum err_code code = log == *last ? ERR_OK : journal_keep(journals[*last]);
        if (code != ERR_OK)
                return code;
        *last = log;
        work_on(log);
        code = journal_reserve(journals[log], 3000, &payload);
        if (code == ERR_FULL && journal_maintain(journals[log], NULL) == ERR_OK)
                code = journal_reserve(journals[log], 3000, &payload);
        if (code != ERR_OK)
                return code;
        journal_files_fill(payload, 3000, position);
        journal_commit(journals[log], &entry, 3000);
        return ERR_OK;
}

/* A page of one log goes in the middle of a visit: what is left of it, at whatever step of taking the rest back, is a
 * beginning of the lane, and the next visit goes on in other segments. */
Test(journal_logs_crash, a_page_lost_in_one_log_leaves_a_prefix_of_the_lane, .timeout = 120)
{
        struct random_state random;
        uint16_t target;
        unsigned kept = 0, refused = 0;
        random_init(&random, 4);
        for (unsigned round = 0; round < 9; round++) {
                struct journal *journals[LOGS];
                char path[600];
                uint32_t last = 0;
                enum err_code code = ERR_OK;
                journal_files_make(root);
                for (uint32_t log = 0; log < LOGS; log++) {
                        journals[log] = must_open(path_of("log", log), NULL);
                        cr_assert_eq(journal_target_register(journals[log], SLICE("file /a"), &target, NULL), ERR_OK);
                }
                (void)snprintf(path, sizeof(path), "%s/0000000000000000.segment", path_of("log", round % LOGS));
                cr_assert_eq(truncate(path, (off_t)(4096 * (3 + round / LOGS))), 0);
                cut = watching = true;
                forget_all();
                uint64_t position = 0;
                while (code == ERR_OK && position < 40 * POSITION_STEP) {
                        position += POSITION_STEP;
                        code = append_one(journals, (uint32_t)(random_unit(&random) * LOGS), &last, position);
                }
                refused += code == ERR_CORRUPT;
                for (uint32_t log = 0; log < LOGS; log++) {
                        work_on(log);
                        refused += journal_publish(journals[log]) == ERR_CORRUPT;
                }
                watching = cut = false;
                uint64_t records = 0, largest = 0;
                for (uint32_t log = 0; log < LOGS; log++) {
                        struct journal_target_state state;
                        uint64_t waiting = 0;
                        cr_assert_eq(journal_target_audit(journals[log], target, &state, &waiting, NULL), ERR_OK);
                        cr_assert_eq(state.accepted, waiting, "what was kept was counted");
                        records += state.accepted;
                        journal_close(journals[log]);
                        journals[log] = must_open(path_of("log", log), NULL);
                        uint64_t own = journal_lane_position(journals[log], LANE);
                        largest = own > largest ? own : largest;
                        cr_assert_eq(journal_target_audit(journals[log], target, &state, &waiting, NULL), ERR_OK);
                        cr_assert_eq(state.lost, 0);
                        journal_close(journals[log]);
                }
                cr_assert_eq(largest, records * POSITION_STEP);
                cr_assert_lt(records, 40);
                kept += records > 0;
                journal_files_remove(root);
        }
        cr_assert_eq(refused, 9);
        cr_assert_gt(kept, 5, "some of the visits had kept something");
}
