/* What kills and power cuts leave: the directory is copied at every labelled step of every protocol and opened; files
 * are damaged in many ways, and every record that is still whole must be found. */
#include "base/random.h"
#include "journal/journal.h"

#include "tests/support/journal_files.h"

#include <criterion/criterion.h>
#include <inttypes.h>

#define MIB (1024u * 1024u)

static char root[256];

static void make_root(void)
{
        journal_files_make(root);
}

static void remove_root(void)
{
        journal_files_remove(root);
}

TestSuite(journal_crash, .init = make_root, .fini = remove_root, .timeout = 120);

static const char *path_of(const char *name)
{
        static char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", root, name);
        return path;
}

static struct journal *must_open(const char *name, uint64_t segments, struct journal_recovery *ret_recovery)
{
        struct journal_options options = {
                .directory = path_of(name),
                .segment_bytes = MIB,
                .size_bytes_max = segments * MIB,
                .segments_mapped_max = 4,
        };
        struct journal *journal;
        struct err err;
        enum err_code code = journal_open(&options, &journal, ret_recovery, &err);
        cr_assert_eq(code, ERR_OK, "%s: %s", err_name(code), err.text);
        return journal;
}

/* ------------------------------------------------------------------------------------------------------ kills */

#define TARGETS    3u
#define MEAN_LARGE 60000u

/* What has been done, as the test knows it. */
static struct {
        bool watching;
        uint64_t committed; /* records whose header is whole */
        unsigned images;
        struct journal_target_state before[TARGETS], after[TARGETS]; /* owner's counts around the step */
        bool retired;                                                /* the last target is, or is about to be */
        const char *labels[64];
        unsigned times[64];
        unsigned labels_count;
} now;

static void check_image(const char *label)
{
        struct journal_recovery recovery;
        struct journal_options options = {
                .directory = path_of("image"),
                .segment_bytes = MIB,
                .size_bytes_max = 16ull * MIB,
                .segments_mapped_max = 4,
        };
        struct journal *journal;
        struct err err;
        cr_assert_eq(journal_open(&options, &journal, &recovery, &err), ERR_OK, "at %s: %s", label, err.text);
        cr_assert_eq(journal_next_sequence(journal), now.committed + 1, "at %s: %" PRIu64 " instead of %" PRIu64, label,
                     journal_next_sequence(journal), now.committed + 1);
        cr_assert_eq(recovery.lost_records, 0, "at %s", label);
        cr_assert_eq(recovery.quarantined_segments, 0, "at %s", label);
        cr_assert_eq(recovery.targets_repaired, 0, "at %s", label);
        cr_assert_eq(recovery.targets_rebuilt, 0, "at %s", label);
        for (uint16_t target = 0; target < journal_targets_count(journal); target++) {
                struct journal_target_state state;
                uint64_t waiting;
                cr_assert_eq(journal_target_audit(journal, target, &state, &waiting, &err), ERR_OK, "at %s: %s", label,
                             err.text);
                uint64_t settled = state.delivered + state.dead_lettered + state.shed + state.expired;
                cr_assert_eq(state.accepted, settled + waiting, "at %s, target %u", label, target);
                if (target >= TARGETS)
                        continue;
                cr_assert_eq(state.accepted, journal_files_routed(1, now.committed + 1, target), "at %s, target %u",
                             label, target);
                /* Retired, with nothing that waits; or what it missed waits for it, and none of it was lost. */
                cr_assert(!state.retired || waiting == 0, "at %s, target %u", label, target);
                if (now.retired && target == 2)
                        continue;
                const struct journal_target_state *before = &now.before[target], *after = &now.after[target];
                uint64_t settled_before = before->delivered + before->shed,
                         settled_after = after->delivered + after->shed;
                cr_assert(settled == settled_before || settled == settled_after, "at %s, target %u", label, target);
        }
        /* Everything that no cursor has passed can be read, and the log goes on. */
        struct journal_target_state state;
        if (journal_target_get(journal, 0, &state)) {
                struct journal_reader *reader;
                struct journal_record record;
                uint64_t sequence = state.cursor_sequence, position = state.cursor_position;
                cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
                while (journal_read(reader, position, journal_committed_position(journal), &record) == ERR_OK) {
                        cr_assert_eq(record.sequence, sequence, "at %s", label);
                        cr_assert(journal_files_check(record.payload, sequence, MEAN_LARGE), "at %s", label);
                        position = record.next_position;
                        sequence++;
                }
                cr_assert_eq(sequence, now.committed + 1, "at %s", label);
                journal_reader_free(reader);
        }
        for (uint64_t sequence = now.committed + 1; sequence < now.committed + 3; sequence++) {
                enum err_code code =
                        journal_files_append(journal, sequence, MEAN_LARGE, journal_targets_count(journal));
                cr_assert_eq(code, ERR_OK, "at %s", label);
        }
        journal_close(journal);
        journal = must_open("image", 16, &recovery);
        cr_assert_eq(journal_next_sequence(journal), now.committed + 3, "at %s", label);
        cr_assert_eq(recovery.lost_records, 0, "at %s", label);
        journal_close(journal);
}

void journal_test_step(const char *label);
void journal_test_step(const char *label)
{
        if (!now.watching)
                return;
        if (strcmp(label, "record-committed") == 0)
                now.committed++;
        unsigned at = 0;
        while (at < now.labels_count && strcmp(now.labels[at], label) != 0)
                at++;
        if (at == now.labels_count)
                now.labels[now.labels_count++] = label;
        /* Every step of the rare ones; fewer of those that come with every record or word. */
        unsigned times = now.times[at]++;
        if (times > 20 && times % (strcmp(label, "slot-word") == 0 ? 31 : 5) != 0)
                return;
        now.watching = false;
        char image[512];
        (void)snprintf(image, sizeof(image), "%s/image", root);
        journal_files_copy(path_of("log"), image);
        check_image(label);
        journal_files_remove(image);
        now.images++;
        now.watching = true;
}

/* The next move of a target's owner, and both states it may leave. */
static void settle(struct journal *journal, uint16_t target, uint64_t position, uint64_t sequence, uint64_t delivered)
{
        now.after[target].delivered = now.before[target].delivered + delivered;
        journal_target_advance(journal, target, position, sequence, &(struct journal_settled){.delivered = delivered});
        now.before[target] = now.after[target];
}

Test(journal_crash, a_kill_at_any_step_loses_nothing_and_counts_exactly)
{
        static const char *const keys[] = {"file /a", "firehose b", "sns c"};
        memset(&now, 0, sizeof(now));
        now.watching = true;
        struct journal *journal = must_open("log", 5, NULL);
        uint16_t target;
        for (uint16_t i = 0; i < TARGETS; i++)
                cr_assert_eq(journal_target_register(journal, slice_of_text(keys[i]), &target, NULL), ERR_OK);
        for (uint64_t sequence = 1; sequence <= 150; sequence++) {
                enum err_code code = journal_files_append(journal, sequence, MEAN_LARGE, TARGETS);
                while (code == ERR_FULL) {
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                        code = journal_files_append(journal, sequence, MEAN_LARGE, TARGETS);
                }
                cr_assert_eq(code, ERR_OK);
                if (sequence % 4 == 0)
                        journal_publish(journal);
                if (sequence % 12 == 0) {
                        uint64_t position, next;
                        journal_committed(journal, &position, &next);
                        for (uint16_t i = 0; i < 2; i++)
                                settle(journal, i, position, next, journal_files_routed(next - 12, next, i));
                }
                if (sequence % 12 == 0 && sequence < 60)
                        settle(journal, 2, journal_committed_position(journal), sequence + 1,
                               journal_files_routed(sequence - 11, sequence + 1, 2));
                if (sequence == 60) {
                        now.after[2].shed += journal_files_routed(49, 61, 2);
                        now.retired = true;
                        journal_target_retire(journal, 2);
                        now.before[2] = now.after[2];
                }
                if (journal_wants_maintenance(journal))
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                if (sequence == 100) {
                        now.after[2].shed = journal_files_routed(1, 101, 2) - now.after[2].delivered;
                        cr_assert_eq(journal_target_register(journal, slice_of_text(keys[2]), &target, NULL), ERR_OK);
                        now.retired = false;
                        now.before[2] = now.after[2];
                }
                if (sequence % 12 == 0 && sequence > 100)
                        settle(journal, 2, journal_committed_position(journal), sequence + 1,
                               journal_files_routed(sequence == 108 ? 101 : sequence - 11, sequence + 1, 2));
        }
        struct journal_stats stats;
        journal_get_stats(journal, &stats);
        cr_assert_gt(stats.segments_recycled, 3);
        now.watching = false;
        journal_close(journal);
        static const char *const expected[] = {
                "file-created",          "file-allocated",    "file-renamed",       "header-written-once",
                "header-written-twice",  "recycle-begun",     "recycle-written",    "payload-written",
                "header-but-first-word", "record-committed",  "end-gap-written",    "start-block-half",
                "segment-started",       "slot-word",         "owner-slot-written", "owner-slot-active",
                "shard-slot-written",    "shard-slot-active", "target-written",     "target-counted",
                "target-retired",        "target-shed",       "published",
        };
        for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
                bool seen = false;
                for (unsigned j = 0; j < now.labels_count; j++)
                        seen = seen || strcmp(now.labels[j], expected[i]) == 0;
                cr_expect(seen, "no image was taken at %s", expected[i]);
        }
        cr_assert_gt(now.images, 300);
        printf("%u images at %u labels\n", now.images, now.labels_count);
}

/* ------------------------------------------------------------------------------------------------------ damage */

#define MEAN_SMALL   700u
#define RECORDS      9000u
#define SEGMENTS_MAX 16u
#define HEADER_BYTES 64u

struct whereabouts {
        unsigned file;
        uint64_t offset, bytes; /* header and payload, without padding */
};

static struct whereabouts where[RECORDS + 1]; /* by sequence */
static uint64_t bases[SEGMENTS_MAX];
static unsigned files_count;
static uint8_t *original[SEGMENTS_MAX], *damaged[SEGMENTS_MAX];
static size_t damaged_bytes[SEGMENTS_MAX];

static void image_path(const char *name, unsigned file, char out[600])
{
        (void)snprintf(out, 600, "%s/%s/%016x.segment", root, name, file);
}

static void load_files(const char *name, uint8_t **files, size_t *ret_bytes)
{
        for (unsigned file = 0; file < files_count; file++) {
                char path[600];
                image_path(name, file, path);
                int fd = open(path, O_RDONLY);
                if (files[file] == NULL)
                        files[file] = malloc(MIB);
                memset(files[file], 0, MIB);
                ssize_t got = read(fd, files[file], MIB);
                cr_assert_geq(got, 0);
                if (ret_bytes != NULL)
                        ret_bytes[file] = (size_t)got;
                (void)close(fd);
        }
}

/* A log of RECORDS records in several segments, closed; where each record lies. */
static void make_log(uint32_t targets)
{
        static const char *const keys[] = {"file /a", "firehose b", "sns c"};
        struct journal *journal = must_open("log", 64, NULL);
        uint16_t target;
        for (uint32_t i = 0; i < targets; i++)
                cr_assert_eq(journal_target_register(journal, slice_of_text(keys[i]), &target, NULL), ERR_OK);
        for (uint64_t sequence = 1; sequence <= RECORDS; sequence++) {
                if (journal_wants_maintenance(journal))
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                cr_assert_eq(journal_files_append(journal, sequence, MEAN_SMALL, targets), ERR_OK);
                uint64_t position = journal_last_position(journal);
                where[sequence] = (struct whereabouts){
                        .file = (unsigned)(position / MIB), /* new files, in order */
                        .offset = position % MIB,
                        .bytes = HEADER_BYTES + journal_files_payload_bytes(sequence, MEAN_SMALL),
                };
        }
        journal_publish(journal);
        journal_close(journal);
        files_count = where[RECORDS].file + 1;
        cr_assert_geq(files_count, 5);
        cr_assert_leq(files_count, SEGMENTS_MAX);
        load_files("log", original, NULL);
        for (unsigned file = 0; file < files_count; file++)
                memcpy(&bases[file], original[file] + 24, 8);
}

static bool same(unsigned file, uint64_t offset, uint64_t bytes)
{
        return memcmp(original[file] + offset, damaged[file] + offset, bytes) == 0;
}

/* By comparison with what was written, not by any checksum. */
static bool still_whole(uint64_t sequence)
{
        const struct whereabouts *at = &where[sequence];
        bool header = same(at->file, 0, HEADER_BYTES);
        bool copy = same(at->file, MIB - 4096, HEADER_BYTES) && damaged_bytes[at->file] == MIB;
        return (header || copy) && same(at->file, at->offset, at->bytes);
}

/* Opens the damaged image and requires exactly the whole records; then again, and nothing may change. */
static void check_damaged(const char *what, uint32_t targets)
{
        load_files("image", damaged, damaged_bytes);
        uint64_t expected_count = 0, expected_bytes = 0, first = 0, last = 0;
        for (uint64_t sequence = 1; sequence <= RECORDS; sequence++) {
                if (!still_whole(sequence))
                        continue;
                expected_count++;
                expected_bytes += (where[sequence].bytes + 63) / 64 * 64;
                first = first == 0 ? sequence : first;
                last = sequence;
        }
        struct journal_recovery recovery;
        struct journal *journal = NULL;
        for (unsigned round = 0; round < 2; round++) {
                struct journal_reader *reader;
                struct journal_record record;
                struct journal_target_state oldest = {0};
                uint64_t count = 0, sequence = 1;
                journal = must_open("image", 64, &recovery);
                (void)journal_target_get(journal, 0, &oldest); /* zeros when the log has no target */
                uint64_t position = oldest.cursor_position;
                cr_assert_eq(recovery.records, expected_count, "%s, round %u: %" PRIu64 " of %" PRIu64 " whole records",
                             what, round, recovery.records, expected_count);
                cr_assert_eq(recovery.bytes, expected_bytes, "%s", what);
                cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
                enum err_code code;
                while ((code = journal_read(reader, position, journal_committed_position(journal), &record)) ==
                       ERR_OK) {
                        cr_assert_geq(record.sequence, sequence, "%s", what);
                        cr_assert(still_whole(record.sequence), "%s", what);
                        cr_assert(journal_files_check(record.payload, record.sequence, MEAN_SMALL), "%s", what);
                        sequence = record.sequence + 1;
                        position = record.next_position;
                        count++;
                }
                cr_assert_eq(code, ERR_EMPTY, "%s: %s", what, err_name(code));
                cr_assert_eq(count, expected_count, "%s, round %u", what, round);
                journal_reader_free(reader);
                if (round == 0) {
                        /* A start block says where the log began, or where its file is gone a target's cursor; a
                         * target's counts say where it ended. */
                        bool file_gone = !same(0, 0, 64) && !(damaged_bytes[0] == MIB && same(0, MIB - 4096, 64));
                        uint64_t begin = (same(0, 64, 16) && same(0, 0, 64)) || (file_gone && targets > 0) ? 1 : first;
                        uint64_t end = targets > 0 ? RECORDS : last;
                        uint64_t lost = expected_count == 0 ? end : end + 1 - begin - expected_count;
                        if (expected_count > 0)
                                cr_assert_eq(recovery.lost_records, lost, "%s: %" PRIu64 " lost, not %" PRIu64, what,
                                             recovery.lost_records, lost);
                        if (expected_count > 0 && targets > 0)
                                cr_assert_eq(journal_next_sequence(journal), RECORDS + 1, "%s", what);
                } else {
                        cr_assert_eq(recovery.lost_records, 0, "%s: the second open counts them again", what);
                        cr_assert_eq(recovery.quarantined_segments, 0, "%s", what);
                }
                cr_assert_eq(recovery.quarantine_failures, 0, "%s", what);
                if (round == 0)
                        journal_close(journal);
        }
        /* The log goes on. */
        uint64_t next = journal_next_sequence(journal);
        for (uint64_t sequence = next; sequence < next + 2000; sequence++) {
                if (journal_wants_maintenance(journal))
                        cr_assert_eq(journal_maintain(journal, NULL), ERR_OK);
                cr_assert_eq(journal_files_append(journal, sequence, MEAN_SMALL, targets), ERR_OK, "%s", what);
        }
        journal_close(journal);
        journal = must_open("image", 64, &recovery);
        cr_assert_eq(recovery.records, expected_count + 2000, "%s", what);
        cr_assert_eq(recovery.lost_records, 0, "%s", what);
        cr_assert_eq(journal_next_sequence(journal), next + 2000, "%s", what);
        journal_close(journal);
}

enum damage { FLIP_BIT, ZERO_LINE, ZERO_PAGE, ZERO_SECTOR, OLD_PAGE, RANDOM_PAGE, CUT, DAMAGES };

static void damage_once(struct random_state *random, enum damage damage, unsigned file)
{
        char path[600];
        image_path("image", file, path);
        int fd = open(path, O_RDWR);
        uint8_t page[4096] = {0};
        uint64_t at = random_below(random, MIB);
        if (damage == CUT) {
                cr_assert_eq(ftruncate(fd, (off_t)at), 0);
        } else if (damage == FLIP_BIT) {
                cr_assert_eq(pread(fd, page, 1, (off_t)at), 1);
                page[0] ^= (uint8_t)(1u << random_below(random, 8));
                cr_assert_eq(pwrite(fd, page, 1, (off_t)at), 1);
        } else {
                size_t bytes = damage == ZERO_LINE ? 64 : damage == ZERO_SECTOR ? 512 : 4096;
                if (damage == RANDOM_PAGE) {
                        for (size_t i = 0; i < sizeof(page); i++)
                                page[i] = (uint8_t)random_u64(random);
                }
                /* What the page held before its segment was recycled: bytes of another segment. */
                if (damage == OLD_PAGE)
                        memcpy(page, original[(file + 1) % files_count] + at / bytes * bytes, bytes);
                cr_assert_eq(pwrite(fd, page, bytes, (off_t)(at / bytes * bytes)), (ssize_t)bytes);
        }
        (void)close(fd);
}

Test(journal_crash, every_whole_record_survives_damage_and_losses_are_counted, .timeout = 300)
{
        char image[512];
        struct random_state random;
        random_init(&random, 20240601);
        make_log(3);
        (void)snprintf(image, sizeof(image), "%s/image", root);
        unsigned quarantines = 0;
        for (unsigned trial = 0; trial < 60; trial++) {
                enum damage damage = (enum damage)(trial % DAMAGES);
                char what[64];
                journal_files_copy(path_of("log"), image);
                uint64_t times = 1 + random_below(&random, 6);
                for (uint64_t i = 0; i < times; i++) {
                        /* A cut file may lose both of its headers; one cut is enough. */
                        if (damage == CUT && i > 0)
                                break;
                        damage_once(&random, damage, (unsigned)random_below(&random, files_count));
                }
                (void)snprintf(what, sizeof(what), "trial %u, damage %u", trial, damage);
                check_damaged(what, 3);
                char quarantine[600];
                (void)snprintf(quarantine, sizeof(quarantine), "%s/quarantine", image);
                quarantines += access(quarantine, F_OK) == 0;
                journal_files_remove(image);
        }
        cr_assert_gt(quarantines, 20);
}

Test(journal_crash, either_header_and_either_end_of_a_segment_may_go, .timeout = 300)
{
        make_log(3);
        char image[512];
        (void)snprintf(image, sizeof(image), "%s/image", root);
        for (unsigned file = 0; file < files_count; file++) {
                for (unsigned side = 0; side < 3; side++) {
                        char path[600], what[64];
                        uint8_t page[4096] = {0};
                        journal_files_copy(path_of("log"), image);
                        image_path("image", file, path);
                        int fd = open(path, O_RDWR);
                        if (side == 0 || side == 2)
                                cr_assert_eq(pwrite(fd, page, sizeof(page), 0), sizeof(page));
                        if (side == 1 || side == 2)
                                cr_assert_eq(pwrite(fd, page, sizeof(page), MIB - 4096), sizeof(page));
                        (void)close(fd);
                        (void)snprintf(what, sizeof(what), "file %u, side %u", file, side);
                        check_damaged(what, 3);
                        journal_files_remove(image);
                }
        }
}

Test(journal_crash, a_missing_segment_is_a_counted_loss)
{
        make_log(3);
        char image[512], path[600];
        (void)snprintf(image, sizeof(image), "%s/image", root);
        journal_files_copy(path_of("log"), image);
        image_path("image", 2, path);
        cr_assert_eq(unlink(path), 0);
        uint64_t gone = 0;
        for (uint64_t sequence = 1; sequence <= RECORDS; sequence++)
                gone += where[sequence].file == 2;
        struct journal_recovery recovery;
        struct journal *journal = must_open("image", 64, &recovery);
        cr_assert_eq(recovery.lost_records, gone);
        cr_assert_eq(recovery.records, RECORDS - gone);
        struct journal_target_state state;
        uint64_t waiting;
        cr_assert_eq(journal_target_audit(journal, 0, &state, &waiting, NULL), ERR_OK);
        cr_assert_eq(state.accepted, RECORDS - gone, "the equation holds");
        cr_assert_eq(state.lost, gone, "and the loss shows");
        cr_assert_geq(recovery.lost_events, gone, "a copy for each target");
        cr_assert_eq(waiting, RECORDS - gone);
        journal_close(journal);
        journal = must_open("image", 64, &recovery);
        cr_assert(journal_target_get(journal, 0, &state));
        cr_assert_eq(state.lost, gone, "for good, and once");
        cr_assert_eq(state.accepted, RECORDS - gone);
        cr_assert_eq(recovery.lost_events, 0);
        journal_close(journal);
}

Test(journal_crash, a_lost_tail_is_not_appended_over_what_a_cursor_has_settled)
{
        make_log(1);
        struct journal *journal = must_open("log", 64, NULL);
        journal_target_advance(journal, 0, journal_committed_position(journal), RECORDS + 1,
                               &(struct journal_settled){.delivered = RECORDS});
        journal_close(journal);
        char path[600];
        image_path("log", where[RECORDS].file, path);
        uint8_t line[64] = {0};
        int fd = open(path, O_RDWR);
        for (uint64_t sequence = RECORDS - 9; sequence <= RECORDS; sequence++)
                cr_assert_eq(pwrite(fd, line, sizeof(line), (off_t)where[sequence].offset), sizeof(line));
        (void)close(fd);
        struct journal_recovery recovery;
        journal = must_open("log", 64, &recovery);
        cr_assert_eq(recovery.lost_records, 10);
        cr_assert_eq(journal_next_sequence(journal), RECORDS + 1);
        cr_assert_eq(journal_files_append(journal, RECORDS + 1, MEAN_SMALL, 1), ERR_OK);
        journal_publish(journal);
        cr_assert_eq(journal_target_count_waiting(journal, 0, NULL), 1, "the new event is not taken for a settled one");
        struct journal_target_state state;
        cr_assert(journal_target_get(journal, 0, &state));
        cr_assert_eq(state.accepted, RECORDS + 1);
        cr_assert_eq(state.delivered, RECORDS);
        journal_close(journal);
        journal = must_open("log", 64, &recovery);
        cr_assert_eq(recovery.lost_records, 0);
        cr_assert_eq(journal_next_sequence(journal), RECORDS + 2);
        journal_close(journal);
}

/* Offsets by the drawing of the targets file. */
#define TARGET_AT(number) (4096 + (off_t)(number)*1024)
#define OWNER_ACTIVE      64
#define OWNER_SLOTS       128
#define SHARD_ACTIVE      256
#define SHARD_SLOTS       320

/* What the copy gives back is tests/unit/journal_targets_test.c's. */
static void without_copy(const char *image)
{
        char path[600];
        (void)snprintf(path, sizeof(path), "%s/targets.copy", image);
        cr_assert_eq(unlink(path), 0);
}

Test(journal_crash, torn_slots_fall_back_or_are_rebuilt_from_the_log)
{
        make_log(3);
        struct journal *journal = must_open("log", 64, NULL);
        struct journal_reader *reader;
        struct journal_record record;
        uint64_t position = 0, settled[3] = {0};
        cr_assert_eq(journal_reader_create(journal, &reader, NULL), ERR_OK);
        for (uint64_t sequence = 1; sequence <= 4000; sequence++) {
                cr_assert_eq(journal_read(reader, position, journal_committed_position(journal), &record), ERR_OK);
                for (unsigned i = 0; i < record.entry.routes_count; i++)
                        settled[record.entry.routes[i]]++;
                position = record.next_position;
                if (sequence % 2000 != 0)
                        continue;
                for (uint16_t target = 0; target < 3; target++) {
                        journal_target_advance(journal, target, position, sequence + 1,
                                               &(struct journal_settled){.delivered = settled[target]});
                        settled[target] = 0;
                }
        }
        journal_reader_free(reader);
        journal_close(journal);
        char image[512], path[600];
        (void)snprintf(image, sizeof(image), "%s/log", root);
        without_copy(image);
        (void)snprintf(image, sizeof(image), "%s/image", root);
        (void)snprintf(path, sizeof(path), "%s/targets", image);
        for (unsigned trial = 0; trial < 8; trial++) {
                bool owner_active = trial & 1, owner_both = trial & 2, shard_both = trial & 4;
                journal_files_copy(path_of("log"), image);
                int fd = open(path, O_RDWR);
                uint8_t entry[1024], junk[32];
                memset(junk, 0xa5, sizeof(junk));
                off_t at = TARGET_AT(1);
                cr_assert_eq(pread(fd, entry, sizeof(entry), at), sizeof(entry));
                uint64_t owner_version;
                memcpy(&owner_version, entry + OWNER_ACTIVE, 8);
                for (uint64_t slot = 0; slot < 2; slot++) {
                        if (owner_both || (owner_active && slot == (owner_version & 1)))
                                cr_assert_eq(pwrite(fd, junk, sizeof(junk), at + OWNER_SLOTS + (off_t)slot * 64 + 8),
                                             sizeof(junk));
                        if (shard_both)
                                cr_assert_eq(pwrite(fd, junk, sizeof(junk), at + SHARD_SLOTS + (off_t)slot * 64 + 8),
                                             sizeof(junk));
                }
                (void)close(fd);
                struct journal_recovery recovery;
                journal = must_open("image", 64, &recovery);
                cr_assert_eq(recovery.targets_repaired, owner_active && !owner_both, "trial %u", trial);
                cr_assert_eq(recovery.targets_rebuilt, owner_both || shard_both, "trial %u", trial);
                for (uint16_t target = 0; target < 3; target++) {
                        struct journal_target_state state;
                        uint64_t waiting, all = journal_files_routed(1, RECORDS + 1, target);
                        cr_assert_eq(journal_target_audit(journal, target, &state, &waiting, NULL), ERR_OK);
                        cr_assert_eq(state.accepted, state.delivered + waiting, "trial %u, target %u", trial, target);
                        cr_assert_eq(state.accepted, all, "trial %u, target %u", trial, target);
                        uint64_t cursor = target != 1 || (!owner_active && !owner_both) ? 4001 : owner_both ? 1 : 2001;
                        cr_assert_eq(state.cursor_sequence, cursor, "trial %u, target %u", trial, target);
                }
                journal_close(journal);
                journal = must_open("image", 64, &recovery);
                cr_assert_eq(recovery.targets_repaired + recovery.targets_rebuilt, 0, "trial %u", trial);
                journal_close(journal);
                journal_files_remove(image);
        }
}

Test(journal_crash, damaged_identities_and_headers_of_targets_lose_names_not_numbers)
{
        make_log(3);
        char path[600];
        (void)snprintf(path, sizeof(path), "%s/log", root);
        without_copy(path);
        (void)snprintf(path, sizeof(path), "%s/log/targets", root);
        uint8_t zero[4096] = {0};
        int fd = open(path, O_RDWR);
        cr_assert_eq(pwrite(fd, zero, sizeof(zero), 0), sizeof(zero));
        cr_assert_eq(pwrite(fd, zero, 16, TARGET_AT(1)), 16);
        (void)close(fd);
        struct journal *journal = must_open("log", 64, NULL);
        cr_assert_eq(journal_targets_count(journal), 3);
        struct journal_target_state state;
        cr_assert(journal_target_get(journal, 1, &state));
        cr_assert_str_eq(state.key, "");
        cr_assert(state.retired);
        uint16_t target;
        cr_assert_eq(journal_target_register(journal, SLICE("sns c"), &target, NULL), ERR_OK);
        cr_assert_eq(target, 2);
        cr_assert_eq(journal_target_register(journal, SLICE("firehose b"), &target, NULL), ERR_OK);
        cr_assert_eq(target, 3);
        journal_close(journal);
}

Test(journal_crash, foreign_and_doubled_files_are_moved_away)
{
        make_log(1);
        char from[600], to[600], image[512];
        (void)snprintf(image, sizeof(image), "%s/log", root);
        image_path("log", 1, from);
        (void)snprintf(to, sizeof(to), "%s/00000000000000ff.segment", image);
        cr_assert_eq(link(from, to), 0);
        (void)snprintf(to, sizeof(to), "%s/00000000000000fe.segment", image);
        int fd = open(to, O_RDWR | O_CREAT, 0600);
        cr_assert_eq(write(fd, "hello", 5), 5);
        (void)close(fd);
        (void)snprintf(to, sizeof(to), "%s/00000000000000fd.preparing", image);
        (void)close(open(to, O_RDWR | O_CREAT, 0600));
        struct journal_recovery recovery;
        struct journal *journal = must_open("log", 64, &recovery);
        cr_assert_eq(recovery.quarantined_segments, 2);
        cr_assert_eq(recovery.records, RECORDS);
        cr_assert_eq(recovery.lost_records, 0);
        cr_assert_eq(journal_files_count(image, ".preparing", NULL), 0);
        journal_close(journal);
}

/* What is kept for people is bounded, and the newest stays. */
Test(journal_crash, quarantine_is_bounded)
{
        char image[512], quarantine[600], last[256], path[700];
        struct journal_recovery recovery;
        make_log(1);
        (void)snprintf(image, sizeof(image), "%s/log", root);
        (void)snprintf(quarantine, sizeof(quarantine), "%s/quarantine", image);
        for (unsigned round = 0; round < 3; round++) {
                for (unsigned i = 0; i < 20; i++) {
                        (void)snprintf(path, sizeof(path), "%s/%016x.segment", image, 0xe000 + round * 20 + i);
                        (void)close(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
                }
                struct journal *journal = must_open("log", 64, &recovery);
                cr_assert_eq(recovery.quarantined_segments, 20);
                cr_assert_eq(recovery.quarantine_removed, round == 0 ? 4 : 20);
                cr_assert_eq(recovery.records, RECORDS);
                journal_close(journal);
                cr_assert_eq(journal_files_count(quarantine, "", last), LIMIT_QUARANTINE_FILES_MAX + 2, ". and ..");
        }
}

/* A start that cannot cover what it finds is followed by others that find it again. */
Test(journal_crash, the_same_damage_is_copied_once)
{
        char from[600], image[512], quarantine[600];
        struct journal_recovery recovery;
        make_log(1);
        image_path("log", 1, from);
        (void)snprintf(image, sizeof(image), "%s/log", root);
        (void)snprintf(quarantine, sizeof(quarantine), "%s/quarantine", image);
        for (unsigned round = 0; round < 3; round++) {
                int fd = open(from, O_RDWR | O_CLOEXEC);
                uint8_t junk[64] = {1};
                cr_assert_geq(fd, 0);
                cr_assert_eq(pwrite(fd, junk, sizeof(junk), 4096 + 64 * round), sizeof(junk));
                (void)close(fd);
                journal_close(must_open("log", 64, &recovery));
                cr_assert_eq(recovery.quarantined_segments, round == 0 ? 1 : 0);
                cr_assert_eq(recovery.quarantine_failures, 0);
        }
        cr_assert_eq(journal_files_count(quarantine, "", NULL), 1 + 2);
}

/* A producer chooses payloads. One that looks like the records of this very log must not be taken for one when the
 * record around it is damaged. */
Test(journal_crash, a_payload_that_imitates_records_is_never_one)
{
        struct journal *journal = must_open("log", 64, NULL);
        cr_assert_eq(journal_files_append(journal, 1, MEAN_SMALL, 0), ERR_OK);
        journal_publish(journal);
        uint8_t *payload;
        cr_assert_eq(journal_reserve(journal, 64000, &payload), ERR_OK);
        uint64_t evil_position = journal_committed_position(journal);
        /* Record headers with every plausible sequence, each right under every seed that is a small number. */
        for (uint32_t i = 0; i < 1000; i++) {
                uint8_t *header = payload + (size_t)i * 64;
                uint64_t sequence = 2 + i % 4;
                memset(header, 0, 64);
                memcpy(header + 8, &sequence, 8);
                uint32_t crc = i / 4;
                for (size_t at = 4; at < 64; at++) {
                        crc ^= header[at];
                        for (unsigned bit = 0; bit < 8; bit++)
                                crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
                }
                memcpy(header, &crc, 4);
        }
        struct journal_entry entry = {.lane_id = 1, .lane_position = 1};
        journal_commit(journal, &entry, 64000);
        cr_assert_eq(journal_files_append(journal, 3, MEAN_SMALL, 0), ERR_OK);
        journal_publish(journal);
        journal_close(journal);
        char path[600];
        image_path("log", 0, path);
        int fd = open(path, O_RDWR);
        cr_assert_eq(pwrite(fd, "\xff\xff", 2, (off_t)evil_position), 2);
        (void)close(fd);
        struct journal_recovery recovery;
        journal = must_open("log", 64, &recovery);
        cr_assert_eq(recovery.records, 2);
        cr_assert_eq(recovery.lost_records, 1);
        cr_assert_eq(journal_next_sequence(journal), 4);
        journal_close(journal);
}

/* A file that was to be the next segment, could not be synced, and not be removed either: the next one to be made has
 * its positions, and holds records. */
Test(journal_crash, a_segment_that_failed_before_it_began_takes_nothing_from_the_one_that_did)
{
        make_log(1);
        char path[600];
        uint8_t header[64];
        image_path("log", files_count - 1, path);
        int fd = open(path, O_RDONLY);
        cr_assert_eq(pread(fd, header, sizeof(header), 0), sizeof(header));
        (void)close(fd);
        /* Of the oldest file, which is not needed any more; magic, version, seed, number, base, bytes; CRC at 60. */
        image_path("log", 0, path);
        fd = open(path, O_RDWR | O_TRUNC);
        cr_assert_eq(ftruncate(fd, MIB), 0);
        memset(header + 16, 0, 8);
        uint32_t crc = 0;
        for (size_t at = 0; at < 60; at++) {
                crc ^= header[at];
                for (unsigned bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
        }
        memcpy(header + 60, &crc, 4);
        cr_assert_eq(pwrite(fd, header, sizeof(header), 0), sizeof(header));
        cr_assert_eq(pwrite(fd, header, sizeof(header), MIB - 4096), sizeof(header));
        (void)close(fd);
        struct journal_recovery recovery;
        struct journal *journal = must_open("log", 64, &recovery);
        cr_assert_eq(recovery.quarantined_segments, 1, "the empty one");
        cr_assert_eq(recovery.lost_records, 0);
        cr_assert_eq(journal_next_sequence(journal), RECORDS + 1);
        journal_close(journal);
}
