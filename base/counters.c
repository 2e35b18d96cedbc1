#include "base/counters.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNTERS_MAGIC "SRCOUNT8"

const struct counter_info counter_table[COUNTERS_COUNT] = {
#define COUNTER(name, unit, module, help) {#name, unit, module, help},
#include "base/counters.def"
#undef COUNTER
};

static uint64_t counters_round(uint64_t bytes)
{
        return (bytes + 4095) / 4096 * 4096;
}

/* Where the parts lie, and how large it is. */
static void counters_layout(struct counters *counters, uint32_t blocks_count, uint32_t rows_max,
                            uint64_t *ret_blocks_offset, uint64_t *ret_rows_offset)
{
        *ret_blocks_offset = counters_round(sizeof(struct counters_head));
        *ret_rows_offset = counters_round(*ret_blocks_offset + (uint64_t)blocks_count * sizeof(struct counters_block));
        counters->file_bytes =
                counters_round(*ret_rows_offset + (uint64_t)rows_max * sizeof(struct counters_target_row));
}

/* Empty where /proc does not say. */
static void counters_boot_id(char ret_id[static 40])
{
        memset(ret_id, 0, 40);
        int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return;
        if (read(fd, ret_id, 36) != 36)
                memset(ret_id, 0, 40);
        (void)close(fd); /* read-only */
}

static void counters_begin(struct counters *counters, uint8_t *map, uint32_t blocks_count, uint32_t rows_max,
                           const char *version)
{
        uint64_t blocks_offset, rows_offset;
        counters_layout(counters, blocks_count, rows_max, &blocks_offset, &rows_offset);
        counters->head = (struct counters_head *)(void *)map;
        counters->blocks = (struct counters_block *)(void *)(map + blocks_offset);
        counters->rows = (struct counters_target_row *)(void *)(map + rows_offset);
        counters->head->counters_count = COUNTERS_COUNT;
        counters->head->blocks_count = blocks_count;
        counters->head->rows_max = rows_max;
        counters->head->pid = (uint32_t)getpid();
        counters->head->started_ms = clock_realtime_ms();
        counters->head->blocks_offset = blocks_offset;
        counters->head->rows_offset = rows_offset;
        counters->head->file_bytes = counters->file_bytes;
        counters_boot_id(counters->head->boot_id);
        counters_tell_alive(counters);
        (void)snprintf(counters->head->version, sizeof(counters->head->version), "%s",
                       version); /* cut, for show only */
        memcpy(counters->head->magic, COUNTERS_MAGIC, sizeof(counters->head->magic));
}

uint64_t counters_bytes(uint32_t blocks_count, uint32_t rows_max)
{
        struct counters counters;
        uint64_t blocks_offset, rows_offset;
        counters_layout(&counters, blocks_count, rows_max, &blocks_offset, &rows_offset);
        return counters.file_bytes;
}

enum err_code counters_create_in_memory(uint32_t blocks_count, uint32_t rows_max, const char *version,
                                        struct counters *ret_counters, struct err *reterr)
{
        struct counters counters = {.fd = -1};
        uint64_t blocks_offset, rows_offset;
        counters_layout(&counters, blocks_count, rows_max, &blocks_offset, &rows_offset);
        uint8_t *map = mmap(NULL, counters.file_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot map memory for the counters");
        counters_begin(&counters, map, blocks_count, rows_max, version);
        *ret_counters = counters;
        return ERR_OK;
}

enum err_code counters_create(const char *path, uint32_t blocks_count, uint32_t rows_max, const char *version,
                              struct counters *ret_counters, struct err *reterr)
{
        struct counters counters = {.fd = -1};
        uint64_t blocks_offset, rows_offset;
        counters_layout(&counters, blocks_count, rows_max, &blocks_offset, &rows_offset);

        /* A new file each time, put in place whole: a reader of the old page keeps a consistent, if stale, one, and
         * there is no moment without a page. */
        char fresh[PATH_MAX];
        int used = snprintf(fresh, sizeof(fresh), "%s.new", path);
        if (used < 0 || (size_t)used >= sizeof(fresh))
                return err_set(reterr, ERR_CONFIG, "path %s is too long", path);
        (void)unlink(fresh); /* of a daemon that was killed just here */
        counters.fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (counters.fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot create the counters page %s", fresh);
        int failed = posix_fallocate(counters.fd, 0, (off_t)counters.file_bytes);
        if (failed != 0) {
                (void)close(counters.fd); /* nothing was written */
                return err_set_errno(reterr, ERR_SYSTEM, failed, "cannot allocate the counters page %s", path);
        }
        uint8_t *map = mmap(NULL, counters.file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, counters.fd, 0);
        if (map == MAP_FAILED) {
                enum err_code code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot map the counters page %s", path);
                (void)close(counters.fd); /* nothing was written */
                return code;
        }
        counters_begin(&counters, map, blocks_count, rows_max, version);
        if (rename(fresh, path) < 0) {
                enum err_code code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot rename %s to %s", fresh, path);
                (void)unlink(fresh); /* best effort */
                counters_release(&counters);
                return code;
        }
        *ret_counters = counters;
        return ERR_OK;
}

enum err_code counters_attach(const char *path, struct counters *ret_counters, struct err *reterr)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open the counters page %s", path);
        struct stat status;
        enum err_code code = ERR_OK;
        uint8_t *map = MAP_FAILED;
        if (fstat(fd, &status) < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s", path);
                goto out;
        }
        if ((uint64_t)status.st_size < sizeof(struct counters_head)) {
                code = err_set(reterr, ERR_CORRUPT, "%s is too short for a counters page", path);
                goto out;
        }
        map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot map %s", path);
                goto out;
        }
        struct counters_head *head = (struct counters_head *)(void *)map;
        uint64_t file_bytes = (uint64_t)status.st_size;
        if (memcmp(head->magic, COUNTERS_MAGIC, sizeof(head->magic)) != 0 || head->file_bytes != file_bytes ||
            head->counters_count != COUNTERS_COUNT || head->blocks_offset > file_bytes ||
            head->rows_offset > file_bytes ||
            (uint64_t)head->blocks_count * sizeof(struct counters_block) > file_bytes - head->blocks_offset ||
            (uint64_t)head->rows_max * sizeof(struct counters_target_row) > file_bytes - head->rows_offset) {
                code = err_set(reterr, ERR_VERSION,
                               "%s was not written by this version of sendring: use the daemon's own binary", path);
                goto out;
        }
        *ret_counters = (struct counters){
                .head = head,
                .blocks = (struct counters_block *)(void *)(map + head->blocks_offset),
                .rows = (struct counters_target_row *)(void *)(map + head->rows_offset),
                .file_bytes = file_bytes,
                .fd = fd,
        };
        return ERR_OK;
out:
        if (map != MAP_FAILED)
                (void)munmap(map, (size_t)status.st_size); /* read-only */
        (void)close(fd);                                   /* read-only */
        return code;
}

void counters_release(struct counters *counters)
{
        if (counters->head == NULL)
                return;
        (void)munmap(counters->head, counters->file_bytes); /* the file keeps what was stored */
        if (counters->fd >= 0)
                (void)close(counters->fd); /* written through the mapping */
        *counters = (struct counters){.fd = -1};
}

/* It may be late by so much. */
#define COUNTERS_SILENT_NS_MAX (3 * CLOCK_NS_PER_S)

void counters_tell_alive(struct counters *counters)
{
        /* Relaxed: numbers. */
        atomic_store_explicit(&counters->head->alive_ms, clock_realtime_ms(), memory_order_relaxed);
        atomic_store_explicit(&counters->head->alive_ns, clock_monotonic_ns(), memory_order_relaxed);
}

bool counters_is_alive(const struct counters *counters)
{
        char boot_id[40];
        counters_boot_id(boot_id);
        if (memcmp(boot_id, counters->head->boot_id, sizeof(boot_id)) != 0)
                return false; /* its clock was another one */
        /* Relaxed: a number. It may be newer than our look at the clock. */
        uint64_t alive_ns = atomic_load_explicit(&counters->head->alive_ns, memory_order_relaxed);
        uint64_t now_ns = clock_monotonic_ns();
        return now_ns <= alive_ns || now_ns - alive_ns <= COUNTERS_SILENT_NS_MAX;
}

uint64_t counters_sum(const struct counters *counters, enum counter counter)
{
        uint64_t sum = 0;
        for (uint32_t i = 0; i < counters->head->blocks_count; i++)
                sum += counter_get(&counters->blocks[i], counter);
        return sum;
}

uint64_t counters_max(const struct counters *counters, enum counter counter)
{
        uint64_t max = 0;
        for (uint32_t i = 0; i < counters->head->blocks_count; i++) {
                uint64_t value = counter_get(&counters->blocks[i], counter);
                if (value > max)
                        max = value;
        }
        return max;
}

void counters_row_set_error(struct counters_target_row *row, const char *text)
{
        /* A sequence lock with one writer: odd while the text changes. */
        uint32_t version = atomic_load_explicit(&row->text_version, memory_order_relaxed);
        atomic_store_explicit(&row->text_version, version + 1, memory_order_release);
        (void)snprintf(row->last_error, sizeof(row->last_error), "%s", text);
        atomic_store_explicit(&row->text_version, version + 2, memory_order_release);
}

void counters_row_get_error(const struct counters_target_row *row, char *ret_text, size_t text_bytes)
{
        for (int i = 0; i < 100; i++) {
                uint32_t before = atomic_load_explicit(&row->text_version, memory_order_acquire);
                (void)snprintf(ret_text, text_bytes, "%.*s", (int)sizeof(row->last_error) - 1, row->last_error);
                uint32_t after = atomic_load_explicit(&row->text_version, memory_order_acquire);
                if (before == after && before % 2 == 0)
                        return;
        }
}

const char *counters_target_status_name(uint32_t status)
{
        switch ((enum counters_target_status)status) {
        case COUNTERS_TARGET_UNUSED:
                return "unused";
        case COUNTERS_TARGET_OK:
                return "ok";
        case COUNTERS_TARGET_RETRYING:
                return "retrying";
        case COUNTERS_TARGET_PARKED:
                return "parked";
        case COUNTERS_TARGET_REMOVED:
                return "removed";
        case COUNTERS_TARGET_HELD:
                return "held";
        }
        return "unknown";
}
