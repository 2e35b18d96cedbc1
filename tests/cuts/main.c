/* Runs seeds, each in a process of its own; says which failed and how to run one again. cuts.h says what they are. */
#include "journal/journal.h"
#include "tests/cuts/cuts.h"
#include "tests/support/journal_files.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/random.h>
#include <sys/wait.h>

#define MIB         (1024u * 1024u)
#define MEAN        1500u /* bytes of a payload */
#define TARGETS     2u
#define RECORDS_MAX (1u << 20)
#define SEED_S      120 /* a seed that takes longer hangs */

struct random_state cuts_random;
static bool trace;

/* The log of this seed's process. */
static struct journal_options options;
static struct journal *journal;
static uint64_t flushed_sequence;          /* durability host: records below it are on the disk */
static uint64_t settled_sequence[TARGETS]; /* below it all was delivered, or nothing promised */

static bool there[RECORDS_MAX]; /* by sequence: in the log when it was last looked at, or appended since */

bool cuts_chance(unsigned percent)
{
        return percent > 0 && random_below(&cuts_random, 100) < percent;
}

void cuts_fail(const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        (void)fprintf(stderr, "cuts: ");
        (void)vfprintf(stderr, format, arguments);
        (void)fprintf(stderr, "\n");
        va_end(arguments);
        _exit(1);
}

void cuts_note(const char *format, ...)
{
        va_list arguments;
        if (!trace)
                return;
        va_start(arguments, format);
        (void)vfprintf(stderr, format, arguments);
        (void)fprintf(stderr, "\n");
        va_end(arguments);
}

/* The seeds of segments: by the seed as well. */
ssize_t getrandom(void *buffer, size_t bytes, unsigned flags)
{
        uint8_t *to = buffer;
        (void)flags;
        for (size_t i = 0; i < bytes; i++)
                to[i] = (uint8_t)random_u64(&cuts_random);
        return (ssize_t)bytes;
}

/* ------------------------------------------------------------------------------------------------------ the log */

static void note_there(uint64_t sequence)
{
        if (sequence >= RECORDS_MAX)
                cuts_fail("more than %u records", RECORDS_MAX);
        there[sequence] = true;
}

static void note_gone(uint16_t target, uint64_t sequence)
{
        if (there[sequence] && sequence < flushed_sequence)
                cuts_fail("target %u: record %llu was flushed, and is gone", target, (unsigned long long)sequence);
        there[sequence] = false;
}

static void check_balance(const char *when)
{
        for (uint16_t target = 0; target < TARGETS; target++) {
                struct journal_target_state state;
                uint64_t waiting;
                struct err err = {.text = ""};
                if (journal_target_audit(journal, target, &state, &waiting, &err) != ERR_OK)
                        cuts_fail("%s: %s", when, err.text);
                if (state.accepted != state.delivered + waiting)
                        cuts_fail("%s: target %u accepted %llu, delivered %llu, waiting %llu, lost %llu", when, target,
                                  (unsigned long long)state.accepted, (unsigned long long)state.delivered,
                                  (unsigned long long)waiting, (unsigned long long)state.lost);
        }
}

/* Reads on from `position`: the next record that was kept, or 0. */
static uint64_t read_sequence(struct journal_reader *reader, uint64_t *position)
{
        for (;;) {
                struct journal_record record;
                enum err_code code = journal_read(reader, *position, journal_committed_position(journal), &record);
                if (code == ERR_EMPTY)
                        return 0;
                if (code != ERR_OK && code != ERR_CORRUPT)
                        cuts_fail("read: %s", err_name(code));
                *position = record.next_position;
                if (code == ERR_OK)
                        return record.sequence;
        }
}

/* Of what a flush has covered all is there, from each cursor on, and no cursor has passed any of it that was not
 * delivered. */
static void check_promises(void)
{
        for (uint16_t target = 0; target < TARGETS; target++) {
                struct journal_target_state state;
                struct journal_reader *reader;
                if (!journal_target_get(journal, target, &state) ||
                    journal_reader_create(journal, &reader, NULL) != ERR_OK)
                        cuts_fail("no target or reader");
                uint64_t sequence = flushed_sequence == 0 ? state.cursor_sequence : settled_sequence[target];
                settled_sequence[target] = sequence;
                for (; sequence < state.cursor_sequence && sequence < flushed_sequence; sequence++)
                        if (there[sequence])
                                cuts_fail("target %u: its cursor stands at %llu, and %llu was never delivered", target,
                                          (unsigned long long)state.cursor_sequence, (unsigned long long)sequence);
                uint64_t expected = state.cursor_sequence, position = state.cursor_position;
                while ((sequence = read_sequence(reader, &position)) != 0) {
                        for (; expected < sequence; expected++)
                                note_gone(target, expected);
                        note_there(sequence);
                        expected = sequence + 1;
                }
                for (; expected < RECORDS_MAX; expected++)
                        note_gone(target, expected);
                journal_reader_free(reader);
        }
}

static void start(void)
{
        static const char *const keys[TARGETS] = {"file /a", "file /b"};
        struct err err = {.text = ""};
        struct journal_recovery recovery;
        enum err_code code = journal_open(&options, &journal, &recovery, &err);
        /* A log of which there is nothing yet cannot be made by a disk that makes nothing durable. */
        for (unsigned tries = 0; code != ERR_OK && cuts_sync_fails_percent > 0 && tries < 100; tries++)
                code = journal_open(&options, &journal, &recovery, &err);
        if (code != ERR_OK)
                cuts_fail("the log does not open: %s", err.text);
        cuts_note(
                "start: %s, %u mapped, segments of %u, at most %llu, %u%% of syncs fail: records %llu lost %llu, next "
                "%llu at %llu, durable %llu",
                options.durability == JOURNAL_DURABILITY_HOST ? "host" : "process", options.segments_mapped_max,
                options.segment_bytes, (unsigned long long)options.size_bytes_max, cuts_sync_fails_percent,
                (unsigned long long)recovery.records, (unsigned long long)recovery.lost_records,
                (unsigned long long)journal_next_sequence(journal),
                (unsigned long long)journal_committed_position(journal),
                (unsigned long long)journal_durable_position(journal));
        for (uint16_t i = 0; i < TARGETS; i++) {
                uint16_t target;
                if (journal_target_register(journal, slice_of_text(keys[i]), &target, &err) != ERR_OK)
                        cuts_fail("no target: %s", err.text);
                if (target != i)
                        cuts_fail("target %s has number %u", keys[i], target);
        }
        check_balance("after the start");
        check_promises();
}

/* Appends until `bytes` more are in the log; false: it is full. */
static bool append(uint64_t bytes)
{
        const uint64_t until = journal_committed_position(journal) + bytes;
        unsigned failures = 0;
        while (journal_committed_position(journal) < until) {
                const uint64_t sequence = journal_next_sequence(journal);
                enum err_code code = journal_files_append(journal, sequence, MEAN, TARGETS);
                if (code == ERR_FULL) {
                        enum err_code maintained = journal_maintain(journal, NULL);
                        if (maintained != ERR_OK && ++failures > (cuts_sync_fails_percent > 0 ? 40 : 3))
                                return false;
                        continue;
                }
                if (code != ERR_OK || journal_publish(journal) != ERR_OK)
                        cuts_fail("append: %s", err_name(code));
                note_there(sequence);
                if (journal_wants_maintenance(journal))
                        (void)journal_maintain(journal, NULL); /* a full log says so when it is appended to */
        }
        return true;
}

/* At most so many records are delivered to a target. */
static void deliver(uint16_t target, uint64_t records_max)
{
        struct journal_target_state state;
        struct journal_reader *reader;
        if (!journal_target_get(journal, target, &state) || journal_reader_create(journal, &reader, NULL) != ERR_OK)
                cuts_fail("no target or reader");
        uint64_t position = state.cursor_position, sequence = state.cursor_sequence;
        const uint64_t limit = journal_committed_position(journal);
        struct journal_settled settled = {0};
        for (uint64_t count = 0; count < records_max; count++) {
                struct journal_record record;
                enum err_code code = journal_read(reader, position, limit, &record);
                if (code == ERR_EMPTY) {
                        position = limit;
                        sequence = journal_next_sequence(journal);
                        break;
                }
                if (code != ERR_OK && code != ERR_CORRUPT)
                        cuts_fail("read: %s", err_name(code));
                position = record.next_position;
                if (code == ERR_CORRUPT)
                        continue;
                if (!journal_files_check(record.payload, record.sequence, MEAN))
                        cuts_fail("the payload of record %llu is not its own", (unsigned long long)record.sequence);
                for (unsigned i = 0; i < record.entry.routes_count; i++)
                        settled.delivered += record.entry.routes[i] == target;
                sequence = record.sequence + 1;
        }
        journal_reader_free(reader);
        journal_target_advance(journal, target, position, sequence, &settled);
        if (sequence > settled_sequence[target])
                settled_sequence[target] = sequence;
}

static void deliver_all(void)
{
        for (uint16_t target = 0; target < TARGETS; target++)
                deliver(target, UINT64_MAX);
}

/* ------------------------------------------------------------------------------------------------------ a seed */

static void choose_sizes(void)
{
        static const uint32_t mapped[] = {4, 4, 4, 12};
        options.segments_mapped_max = mapped[random_below(&cuts_random, sizeof(mapped) / sizeof(mapped[0]))];
        options.segment_bytes = cuts_chance(90) ? MIB : 2 * MIB;
        options.size_bytes_max = (12 + random_below(&cuts_random, 24)) * MIB;
        options.retention_bytes = cuts_chance(70) ? 0 : options.size_bytes_max / 2;
        options.durability = cuts_chance(70) ? JOURNAL_DURABILITY_HOST : JOURNAL_DURABILITY_PROCESS;
}

static void live(void)
{
        static const unsigned often[] = {0, 0, 0, 40};
        const uint64_t steps = 2 + random_below(&cuts_random, 5);
        const unsigned flush_percent = often[random_below(&cuts_random, 4)];
        const unsigned write_back_percent = often[random_below(&cuts_random, 4)];
        for (uint64_t step = 0; step < steps; step++) {
                (void)append(1 + random_below(&cuts_random, 8 * MIB)); /* it may be full */
                for (uint16_t target = 0; target < TARGETS; target++)
                        if (cuts_chance(50))
                                deliver(target, random_below(&cuts_random, 4000));
                if (cuts_chance(25))
                        deliver_all();
                (void)journal_maintain(journal, NULL);
                const uint64_t sequence = journal_next_sequence(journal);
                if (options.durability == JOURNAL_DURABILITY_HOST && cuts_chance(flush_percent) &&
                    journal_sync(journal, NULL) == ERR_OK)
                        flushed_sequence = sequence;
                cuts_note("step: next %llu at %llu, delivered before %llu and %llu, flushed before %llu",
                          (unsigned long long)sequence, (unsigned long long)journal_committed_position(journal),
                          (unsigned long long)settled_sequence[0], (unsigned long long)settled_sequence[1],
                          (unsigned long long)flushed_sequence);
                if (cuts_chance(write_back_percent))
                        cuts_disk_write_back();
                check_balance("while it runs");
        }
}

/* The process ends, by itself or with the machine. */
static void end(void)
{
        static const unsigned kept[] = {0, 0, 0, 50, 97};
        journal_close(journal);
        if (options.durability == JOURNAL_DURABILITY_PROCESS)
                flushed_sequence = 0; /* what is overwritten now was not passed by cursors that are on the disk */
        if (cuts_chance(20))
                return;
        const unsigned percent = kept[random_below(&cuts_random, sizeof(kept) / sizeof(kept[0]))];
        cuts_note("power cut: %u%% of what was not synced is there", percent);
        cuts_disk_cut(percent);
}

static void run_seed(uint64_t seed, const char *directory, const char *aside)
{
        (void)alarm(SEED_S);
        random_init(&cuts_random, seed * 2 + 1);
        cuts_disk_begin(directory, aside);
        options = (struct journal_options){.directory = directory};
        choose_sizes();
        const uint64_t rounds = 2 + random_below(&cuts_random, 4);
        for (uint64_t round = 0; round < rounds; round++) {
                cuts_sync_fails_percent = round > 0 && cuts_chance(15) ? 30 : 0;
                start();
                if (round == 0)
                        cuts_disk_write_back(); /* the targets keep their numbers, which the records name */
                live();
                end();
                if (cuts_chance(40))
                        choose_sizes();
        }
        cuts_sync_fails_percent = 0;
        start();
        deliver_all();
        if (!append(2 * MIB))
                cuts_fail("all is delivered, and nothing can be appended");
        check_balance("at the end");
        deliver_all();
        for (uint16_t target = 0; target < TARGETS; target++) {
                struct journal_target_state state;
                if (!journal_target_get(journal, target, &state) || state.accepted != state.delivered)
                        cuts_fail("target %u: accepted %llu, delivered %llu", target,
                                  (unsigned long long)state.accepted, (unsigned long long)state.delivered);
        }
        journal_close(journal);
        _exit(0);
}

/* ------------------------------------------------------------------------------------------------------ all of them */

static uint64_t number(const char *text, const char *option)
{
        uint64_t value;
        if (!slice_to_u64(slice_of_text(text), UINT64_MAX, &value)) {
                (void)fprintf(stderr, "cuts: %s wants a number, not \"%s\"\n", option, text);
                exit(64);
        }
        return value;
}

int main(int argc, char **argv)
{
        static const struct option known[] = {
                {"seeds", required_argument, NULL, 'n'}, {"base-seed", required_argument, NULL, 'b'},
                {"seed", required_argument, NULL, 's'},  {"trace", no_argument, NULL, 'T'},
                {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0},
        };
        uint64_t base_seed = 1, seeds = 500, failed = 0;
        for (int c; (c = getopt_long(argc, argv, "h", known, NULL)) != -1;) {
                switch (c) {
                case 'n':
                        seeds = number(optarg, "--seeds");
                        break;
                case 'b':
                        base_seed = number(optarg, "--base-seed");
                        break;
                case 's':
                        base_seed = number(optarg, "--seed");
                        seeds = 1;
                        break;
                case 'T':
                        trace = true;
                        break;
                case 'h':
                        printf("usage: cuts [--seeds N] [--base-seed S]\n"
                               "       cuts --seed S [--trace]\n\n"
                               "Runs N seeds from S on (500 from 1): a log that is written, delivered, synced, killed\n"
                               "and cut off from its power at random must open, balance, and have what was flushed.\n");
                        return 0;
                default:
                        return 64;
                }
        }
        if (optind < argc) {
                (void)fprintf(stderr, "cuts: wrong arguments; --help tells\n");
                return 64;
        }
        for (uint64_t seed = base_seed; seed < base_seed + seeds; seed++) {
                char directory[256], aside[256];
                journal_files_make(directory);
                journal_files_make(aside);
                pid_t pid = fork();
                if (pid == 0)
                        run_seed(seed, directory, aside);
                int status = 0;
                if (pid < 0 || waitpid(pid, &status, 0) != pid)
                        JOURNAL_FILES_DIE("fork");
                journal_files_remove(directory);
                journal_files_remove(aside);
                if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                        continue;
                failed++;
                printf("cuts: seed %llu FAILED%s%s; again: cuts --seed %llu\n", (unsigned long long)seed,
                       WIFSIGNALED(status) ? ": ended by signal " : "",
                       WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "", (unsigned long long)seed);
                (void)fflush(stdout);
        }
        printf("cuts: seeds %llu failed %llu\n", (unsigned long long)seeds, (unsigned long long)failed);
        return failed == 0 ? 0 : 1;
}
