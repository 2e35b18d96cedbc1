/* Reads what tools/sink_state.c counted, also while it counts. */
#include "base/assert.h"
#include "tools/sink_state_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Maps a file of the state read-only. ERR_EMPTY: there is none, or it is still being made. */
static enum err_code sink_report_map(const char *directory, const char *name, const char magic[8], size_t bytes_min,
                                     const void **ret_memory, size_t *ret_bytes, struct err *reterr)
{
        char path[4096];
        if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
                return err_set(reterr, ERR_TOO_BIG, "the name of the state directory is too long");
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? err_set(reterr, ERR_EMPTY, "%s does not exist", path)
                                       : err_set_errno(reterr, ERR_SYSTEM, errno, "open %s", path);
        struct stat status;
        enum err_code code = ERR_OK;
        void *memory = MAP_FAILED;
        if (fstat(fd, &status) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "stat %s", path);
        else if ((size_t)status.st_size < bytes_min)
                code = err_set(reterr, status.st_size == 0 ? ERR_EMPTY : ERR_CORRUPT, "%s is too short", path);
        else if ((memory = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "map %s", path);
        (void)close(fd); /* the mapping stays */
        if (code != ERR_OK)
                return code;
        const struct sink_file_head *head = memory;
        /* A1: pairs with R1 in sink_state_head(). */
        uint64_t found = atomic_load_explicit(&head->magic, memory_order_acquire);
        if (found == 0)
                code = err_set(reterr, ERR_EMPTY, "%s is being made", path);
        else if (found != sink_state_magic(magic) || head->version != SINK_STATE_VERSION)
                code = err_set(reterr, ERR_CORRUPT, "%s is not a file of this version of the sink", path);
        if (code != ERR_OK) {
                (void)munmap(memory, (size_t)status.st_size);
                return code;
        }
        *ret_memory = memory;
        *ret_bytes = (size_t)status.st_size;
        return ERR_OK;
}

/* Adds up the cells of one producer. */
static void sink_report_scan(const struct sink_seen_head *head, struct sink_seen_report *report)
{
        const _Atomic uint8_t *cells = (const _Atomic uint8_t *)head + SINK_HEAD_BYTES;
        uint64_t bound = atomic_load_explicit(&head->bound, memory_order_relaxed);
        if (bound > (uint64_t)SINK_INDEX_MAX + 1)
                bound = (uint64_t)SINK_INDEX_MAX + 1;
        uint64_t below = 0; /* distinct, under `published` */
        for (uint64_t i = 0; i < bound; i++) {
                uint8_t cell = atomic_load_explicit(&cells[i], memory_order_relaxed);
                if (cell == 0)
                        continue;
                unsigned type = (cell & 0xfu) - 1u;
                report->distinct++;
                report->types[type < SINK_TYPES_COUNT ? type : 0]++;
                report->duplicates += cell >> 4;
                report->duplicated += cell >> 4 != 0;
                report->end = i + 1;
                below += i < report->published;
        }
        report->duplicates += atomic_load_explicit(&head->more, memory_order_relaxed);
        report->unexpected = report->distinct - below;
        report->missing = (report->published == UINT64_MAX ? report->end : report->published) - below;
}

static int sink_report_order(const void *a_, const void *b_)
{
        const struct sink_seen_report *a = a_, *b = b_;
        if (a->run != b->run)
                return a->run < b->run ? -1 : 1;
        return a->producer < b->producer ? -1 : a->producer > b->producer;
}

static struct sink_seen_report *sink_report_add(struct sink_report *report, uint32_t run, uint16_t producer)
{
        struct sink_seen_report *grown =
                reallocarray(report->seen, report->seen_count + 1, sizeof(*report->seen)); /* cold, few */
        if (grown == NULL)
                return NULL;
        report->seen = grown;
        struct sink_seen_report *seen = &grown[report->seen_count++];
        *seen = (struct sink_seen_report){.run = run, .producer = producer, .published = UINT64_MAX};
        return seen;
}

static bool sink_report_name(const char *name, uint32_t *ret_run, uint16_t *ret_producer)
{
        unsigned run, producer;
        int end = 0;
        /* NOLINTNEXTLINE(cert-err34-c): the widths keep it in range */
        if (sscanf(name, "%8x-%4x.seen%n", &run, &producer, &end) != 2 || end != 18 || name[end] != 0)
                return false;
        *ret_run = run;
        *ret_producer = (uint16_t)producer;
        return true;
}

static enum err_code sink_report_producers(const char *directory, const struct sink_published *published,
                                           size_t published_count, struct sink_report *report, struct err *reterr)
{
        enum err_code code = ERR_OK;
        DIR *listing = opendir(directory);
        if (listing == NULL)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "open directory %s", directory);
        for (struct dirent *entry = readdir(listing); entry != NULL && code == ERR_OK; entry = readdir(listing)) {
                uint32_t run;
                uint16_t producer;
                const void *memory;
                size_t bytes;
                if (!sink_report_name(entry->d_name, &run, &producer))
                        continue;
                bool named = published_count == 0;
                for (size_t i = 0; i < published_count && !named; i++)
                        named = published[i].run == run;
                if (!named)
                        continue;
                code = sink_report_map(directory, entry->d_name, SINK_SEEN_MAGIC, SINK_SEEN_FILE_BYTES, &memory, &bytes,
                                       reterr);
                if (code == ERR_EMPTY) {
                        code = ERR_OK;
                        continue;
                }
                if (code != ERR_OK)
                        break;
                struct sink_seen_report *seen = sink_report_add(report, run, producer);
                if (seen == NULL) {
                        code = err_set(reterr, ERR_MEMORY, "report");
                } else {
                        if (published_count > 0)
                                seen->published = 0;
                        for (size_t i = 0; i < published_count; i++)
                                if (published[i].run == run && published[i].producer == producer &&
                                    published[i].published > seen->published)
                                        seen->published = published[i].published;
                        sink_report_scan(memory, seen);
                }
                (void)munmap((void *)(uintptr_t)memory, bytes);
        }
        (void)closedir(listing); /* read only */
        for (size_t i = 0; i < published_count && code == ERR_OK; i++) {
                struct sink_seen_report *known = NULL;
                for (size_t k = 0; k < report->seen_count && known == NULL; k++)
                        if (report->seen[k].run == published[i].run &&
                            report->seen[k].producer == published[i].producer)
                                known = &report->seen[k];
                if (known != NULL) {
                        /* Those that arrived have the largest already. */
                        if (published[i].published > known->published)
                                known->published = known->missing = published[i].published;
                        continue;
                }
                struct sink_seen_report *seen = sink_report_add(report, published[i].run, published[i].producer);
                if (seen == NULL)
                        code = err_set(reterr, ERR_MEMORY, "report");
                else
                        seen->published = seen->missing = published[i].published;
        }
        if (report->seen_count > 0)
                qsort(report->seen, report->seen_count, sizeof(*report->seen), sink_report_order);
        return code;
}

static void sink_report_others(const struct sink_table_head *table, size_t bytes, struct sink_report *report)
{
        const struct sink_table_slot *all = sink_table_slots_const(table);
        uint64_t slots = (bytes - SINK_HEAD_BYTES) / sizeof(*all);
        for (uint64_t i = 0; i < slots; i++) {
                /* A2: pairs with the release in sink_state_see_other(). */
                uint64_t copies = atomic_load_explicit(&all[i].copies, memory_order_acquire);
                if (copies == 0)
                        continue;
                report->other_distinct++;
                report->other_duplicates += copies - 1;
                report->other_types[all[i].type < SINK_TYPES_COUNT ? all[i].type : 0]++;
        }
}

enum err_code sink_report_read(const char *directory, const struct sink_published *published, size_t published_count,
                               struct sink_report *ret_report, struct err *reterr)
{
        struct sink_report report = {0};
        const void *memory;
        size_t bytes;
        enum err_code code = sink_report_map(directory, "totals", SINK_TOTALS_MAGIC, sizeof(struct sink_totals),
                                             &memory, &bytes, reterr);
        if (code != ERR_OK)
                return err_wrap(reterr, "%s is not a sink's state directory", directory);
        const struct sink_totals *totals = memory;
        for (int i = 0; i < SINK_COUNTERS_COUNT; i++)
                report.counters[i] = atomic_load_explicit(&totals->counters[i], memory_order_relaxed);
        (void)munmap((void *)(uintptr_t)memory, bytes);
        code = sink_report_map(directory, "events.table", SINK_TABLE_MAGIC, SINK_HEAD_BYTES, &memory, &bytes, reterr);
        if (code == ERR_OK) {
                sink_report_others(memory, bytes, &report);
                (void)munmap((void *)(uintptr_t)memory, bytes);
        } else if (code == ERR_EMPTY) {
                code = ERR_OK;
        }
        if (code == ERR_OK)
                code = sink_report_producers(directory, published, published_count, &report, reterr);
        if (code != ERR_OK) {
                sink_report_release(&report);
                return code;
        }
        *ret_report = report;
        return ERR_OK;
}

void sink_report_release(struct sink_report *report)
{
        free(report->seen);
        report->seen = NULL;
        report->seen_count = 0;
}
