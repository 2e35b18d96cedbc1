/* A series file with any bytes: open must neither crash nor believe what cannot be, and leave a file that works.
 *
 * Input: one byte of flags, then the file. Flags: 1 repair the CRC of the header, 2 those of the records. */
#include "base/assert.h"
#include "egress/metrics.h"
#include "egress/series.h"

#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORDS    ((uint32_t)(2 + 12)) /* metrics_table_records_max() of the table below is checked to be this */
#define FILE_BYTES (64 + 2 * RECORDS * 16)
#define HOUR_MAX   INT64_C(490900)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair(uint8_t *file, uint8_t flags)
{
        uint32_t crc;
        if ((flags & 1) != 0) {
                crc = crc32_iscsi(file, 32, 0x53455249u);
                memcpy(file + 32, &crc, sizeof(crc));
        }
        memcpy(&crc, file + 32, sizeof(crc));
        for (size_t at = 64; at < FILE_BYTES && (flags & 2) != 0; at += 16) {
                uint32_t own = crc32_iscsi(file + at, 12, crc);
                memcpy(file + at + 12, &own, sizeof(own));
        }
}

static void check_hours(const struct series *series)
{
        int64_t newest = series_newest_hour(series);
        ASSERT(newest <= HOUR_MAX && newest >= SERIES_NO_HOUR);
        for (int64_t hour = newest - 1; hour <= newest; hour++) {
                ASSERT(series_count(series, hour) <= RECORDS);
                for (uint32_t i = 0; i < series_count(series, hour) && newest != SERIES_NO_HOUR; i++)
                        ASSERT(series_get(series, hour, i) != 0);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct rules_cloudwatch config = {.namespace = {(const uint8_t *)"X", 1},
                                                       .roll_ups_count = 1,
                                                       .series_max = 3,
                                                       .overflow_value = {(const uint8_t *)"o", 1},
                                                       .period_s = 60};
        static uint8_t file[FILE_BYTES];
        char path[] = "/dev/shm/sendring-series-fuzz-XXXXXX";
        if (size == 0)
                return 0;
        memset(file, 0, sizeof(file));
        memcpy(file, data + 1, size - 1 < sizeof(file) ? size - 1 : sizeof(file));
        repair(file, data[0]);
        int fd = mkstemp(path);
        ASSERT(fd >= 0);
        ASSERT(write(fd, file, sizeof(file)) == (ssize_t)sizeof(file));
        ASSERT(close(fd) == 0);

        ASSERT(metrics_table_records_max(&config) == RECORDS);
        struct series_options options = {path, 0x0807060504030201, RECORDS, HOUR_MAX};
        struct series *series = NULL;
        struct metrics_table *table = NULL;
        const char *dropped = NULL;
        struct err err = {.text = ""};
        ASSERT(series_open(&options, &series, &dropped, &err) == ERR_OK);
        check_hours(series);
        ASSERT(dropped == NULL || series_newest_hour(series) == SERIES_NO_HOUR);
        ASSERT(metrics_table_create(&config, &table, &err) == ERR_OK);
        metrics_table_keep(table, series);
        struct metrics_stats stats;
        metrics_table_get_stats(table, &stats);
        ASSERT(stats.hour_series <= RECORDS);
        metrics_table_free(table);
        uint32_t before = series_count(series, HOUR_MAX);
        series_add(series, HOUR_MAX, 12345);
        series_close(series);
        ASSERT(series_open(&options, &series, &dropped, &err) == ERR_OK);
        ASSERT(dropped == NULL && series_newest_hour(series) == HOUR_MAX);
        ASSERT(series_count(series, HOUR_MAX) == (before < RECORDS ? before + 1 : RECORDS));
        series_remove(series);
        return 0;
}
