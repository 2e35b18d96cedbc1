#include "egress/series.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/random.h"
#include "egress/outbox.h"
#include "io/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERIES_MAGIC    UINT64_C(0x31657372646e6573) /* "sendrse1" */
#define SERIES_VERSION  1u
#define SERIES_CRC_SEED 0x53455249u

struct series_header {
        uint64_t magic;
        uint32_t version;
        uint32_t records_max;
        uint64_t key_hash;
        uint64_t seed;
        uint32_t crc;
        uint32_t zero[7];
};

struct series_record {
        uint64_t value;
        uint32_t hour;
        uint32_t crc;
};

_Static_assert(offsetof(struct series_header, version) == 8, "drawn in series.h");
_Static_assert(offsetof(struct series_header, records_max) == 12, "drawn in series.h");
_Static_assert(offsetof(struct series_header, key_hash) == 16, "drawn in series.h");
_Static_assert(offsetof(struct series_header, seed) == 24, "drawn in series.h");
_Static_assert(offsetof(struct series_header, crc) == 32, "drawn in series.h");
_Static_assert(sizeof(struct series_header) == 64, "drawn in series.h");
_Static_assert(offsetof(struct series_record, hour) == 8, "drawn in series.h");
_Static_assert(offsetof(struct series_record, crc) == 12, "drawn in series.h");
_Static_assert(sizeof(struct series_record) == 16, "drawn in series.h");

struct series_half {
        struct series_record *records;
        uint32_t count;
        int64_t hour; /* SERIES_NO_HOUR: none */
};

struct series {
        char *path;
        int fd;
        uint64_t bytes;
        struct series_header *header;
        struct series_half halves[2]; /* even hours, odd hours */
};

static uint32_t series_record_crc(const struct series *series, const struct series_record *record)
{
        return crc32c(series->header->crc, record, offsetof(struct series_record, crc));
}

uint64_t series_budget_bytes(uint32_t records_max)
{
        return sizeof(struct series_header) + 2 * (uint64_t)records_max * sizeof(struct series_record);
}

bool series_path(const char *directory, struct slice key, char *out, size_t out_bytes)
{
        int used = snprintf(out, out_bytes, "%s/%016" PRIx64 ".series", directory, outbox_key_hash(key));
        return used > 0 && (size_t)used < out_bytes;
}

/* ---------------------------------------------------------------------------------------------- open */

static enum err_code series_map(struct series *series, bool *ret_was_there, struct err *reterr)
{
        struct stat status;
        series->fd = disk_open(AT_FDCWD, series->path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
        if (series->fd < 0)
                return err_set_errno(reterr, errno == ELOOP ? ERR_CONFIG : ERR_SYSTEM, errno, "cannot open %s",
                                     series->path);
        if (disk_stat(series->fd, &status) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s", series->path);
        if (!S_ISREG(status.st_mode))
                return err_set(reterr, ERR_CONFIG, "%s is no regular file: remove it", series->path);
        *ret_was_there = status.st_size > 0;
        int failed = disk_allocate(series->fd, series->bytes); /* what is there stays */
        if (failed != 0)
                return err_set_errno(reterr, ERR_SYSTEM, failed, "cannot reserve %llu bytes for %s",
                                     (unsigned long long)series->bytes, series->path);
        series->header = disk_map(series->fd, series->bytes, true);
        if (series->header == NULL)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot map %s", series->path);
        (void)disk_populate(series->header, series->bytes); /* page faults less for the worker, where it can be */
        return ERR_OK;
}

/* Why the file is of no use; NULL: it is. */
static const char *series_judge(const struct series_header *header, const struct series_options *options)
{
        if (header->magic != SERIES_MAGIC || header->version != SERIES_VERSION)
                return "it is of another version, or no series file";
        if (header->crc != crc32c(SERIES_CRC_SEED, header, offsetof(struct series_header, crc)))
                return "its header fails the check";
        if (header->key_hash != options->key_hash)
                return "it belongs to another target";
        if (header->records_max != options->records_max)
                return "the budget has changed";
        return NULL;
}

static void series_begin_anew(struct series *series, const struct series_options *options)
{
        struct random_state random;
        memset(series->header, 0, series->bytes);
        random_init(&random, 0);
        *series->header = (struct series_header){
                .magic = SERIES_MAGIC,
                .version = SERIES_VERSION,
                .records_max = options->records_max,
                .key_hash = options->key_hash,
                .seed = random_u64(&random),
        };
        series->header->crc = crc32c(SERIES_CRC_SEED, series->header, offsetof(struct series_header, crc));
}

static bool series_record_counts(const struct series *series, const struct series_record *record, uint32_t parity,
                                 int64_t hour_max)
{
        return record->value != 0 && record->hour <= hour_max && record->hour % 2 == parity &&
               record->crc == series_record_crc(series, record);
}

/* Moves the records of the newest hour to the front and clears the rest. A kill meanwhile loses none of them: what is
 * moved stands twice at most, and one that is read twice is one. */
static void series_read_half(struct series *series, uint32_t parity, const struct series_options *options)
{
        struct series_half *half = &series->halves[parity];
        half->count = 0;
        half->hour = SERIES_NO_HOUR;
        for (uint32_t i = 0; i < options->records_max; i++)
                if (series_record_counts(series, &half->records[i], parity, options->hour_max) &&
                    half->records[i].hour > half->hour)
                        half->hour = half->records[i].hour;
        for (uint32_t i = 0; i < options->records_max; i++)
                if (series_record_counts(series, &half->records[i], parity, options->hour_max) &&
                    half->records[i].hour == half->hour)
                        half->records[half->count++] = half->records[i];
        memset(&half->records[half->count], 0, (options->records_max - half->count) * sizeof(half->records[0]));
}

enum err_code series_open(const struct series_options *options, struct series **ret_series, const char **ret_dropped,
                          struct err *reterr)
{
        bool was_there = false;
        ASSERT(options->records_max > 0 && options->records_max <= SERIES_RECORDS_MAX);
        struct series *series = calloc(1, sizeof(*series));
        if (series == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for %s", options->path);
        series->fd = -1;
        series->bytes = series_budget_bytes(options->records_max);
        series->path = strdup(options->path);
        enum err_code code = series->path != NULL ? series_map(series, &was_there, reterr)
                                                  : err_set(reterr, ERR_MEMORY, "out of memory for %s", options->path);
        if (code != ERR_OK) {
                series_close(series);
                return code;
        }
        const char *dropped = series_judge(series->header, options);
        if (dropped != NULL)
                series_begin_anew(series, options);
        for (uint32_t parity = 0; parity < 2; parity++) {
                series->halves[parity].records =
                        (struct series_record *)(series->header + 1) + parity * (size_t)options->records_max;
                series_read_half(series, parity, options);
        }
        *ret_dropped = was_there ? dropped : NULL;
        *ret_series = series;
        return ERR_OK;
}

void series_close(struct series *series)
{
        if (series == NULL)
                return;
        if (series->header != NULL)
                disk_unmap(series->header, series->bytes); /* our own mapping */
        if (series->fd >= 0)
                (void)disk_close(series->fd); /* written through the mapping */
        free(series->path);
        free(series);
}

void series_remove(struct series *series)
{
        (void)disk_unlink(AT_FDCWD, series->path); /* else the next start removes it */
        series_close(series);
}

/* ---------------------------------------------------------------------------------------------- records */

uint64_t series_seed(const struct series *series)
{
        return series->header->seed;
}

int64_t series_newest_hour(const struct series *series)
{
        int64_t even = series->halves[0].hour, odd = series->halves[1].hour;
        return even > odd ? even : odd;
}

static const struct series_half *series_half_of(const struct series *series, int64_t hour)
{
        return &series->halves[hour & 1];
}

uint32_t series_count(const struct series *series, int64_t hour)
{
        const struct series_half *half = series_half_of(series, hour);
        return hour == half->hour ? half->count : 0;
}

uint64_t series_get(const struct series *series, int64_t hour, uint32_t index)
{
        ASSERT(index < series_count(series, hour));
        return series_half_of(series, hour)->records[index].value;
}

void series_forget_after(struct series *series, int64_t hour_max)
{
        const struct series_options options = {.records_max = series->header->records_max, .hour_max = hour_max};
        for (uint32_t parity = 0; parity < 2; parity++)
                if (series->halves[parity].hour > hour_max)
                        series_read_half(series, parity, &options);
}

void series_add(struct series *series, int64_t hour, uint64_t value)
{
        struct series_half *half = &series->halves[hour & 1];
        ASSERT(value != 0);
        if (hour < 0 || hour > UINT32_MAX || hour < half->hour)
                return;
        if (hour > half->hour) {
                half->hour = hour;
                half->count = 0;
        }
        if (half->count == series->header->records_max)
                return;
        struct series_record record = {.value = value, .hour = (uint32_t)hour};
        record.crc = series_record_crc(series, &record);
        half->records[half->count++] = record;
}
