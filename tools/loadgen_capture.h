/* Capture files of `sendring loadgen --record`: the events of a host's journal with the times when they were accepted,
 * to be published again by --replay. As secret as the journal: 0600.
 *
 *   header, 64 bytes                               record, at offset 64, and each behind the one before
 *    0  8  "sendrcp1"                               0  u32  bytes of the event, 1 to LIMIT_EVENT_BYTES_MAX
 *    8  u32  64: where records begin                4  u32  CRC-32C of bytes 0-3, 8-15 and the event
 *   12  u32  CRC-32C of bytes 0-11 and 16-63        8  i64  accepted, ms since 1970; not before the record before
 *   16  u64  events                                16       the event as the producer wrote it (docs/formats/event.md)
 *   24  u64  bytes of all records                           zeros up to a multiple of 8
 *   32  i64  accepted, of the first record
 *   40  i64  accepted, of the last record
 *   48  16   zeros
 *
 * All little-endian; CRCs start from 0, as ISA-L's crc32_iscsi. A file is written as FILE.partial and gets its name
 * when it is whole and on the disk, so that what a killed or full disk leaves is never taken for one. */
#ifndef SENDRING_TOOLS_LOADGEN_CAPTURE_H
#define SENDRING_TOOLS_LOADGEN_CAPTURE_H

#include "base/err.h"
#include "base/slice.h"
#include "codecs/codec.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>

#define LOADGEN_CAPTURE_MAGIC        "sendrcp1"
#define LOADGEN_CAPTURE_HEADER_BYTES 64u
#define LOADGEN_CAPTURE_MS_MAX       INT64_C(253402300799999) /* the end of year 9999 */

struct loadgen_capture_header {
        uint8_t magic[8];
        uint32_t header_bytes;
        uint32_t crc;
        uint64_t events;
        uint64_t records_bytes;
        int64_t first_ms, last_ms; /* both 0 when there are no events */
        uint8_t zeros[16];
};
_Static_assert(sizeof(struct loadgen_capture_header) == LOADGEN_CAPTURE_HEADER_BYTES, "drawn above");

struct loadgen_capture_record_header {
        uint32_t event_bytes;
        uint32_t crc;
        int64_t accepted_ms;
};
_Static_assert(sizeof(struct loadgen_capture_record_header) == 16, "drawn above");

/* ---------------------------------------------------------------------------------------------- write */

struct loadgen_capture_writer {
        FILE *file;
        char path[PATH_MAX], partial[PATH_MAX];
        uint64_t events, records_bytes;
        int64_t first_ms, last_ms;
};

/* Begins FILE.partial, which must not be there. ERR_RANGE: the path is too long; ERR_SYSTEM, ERR_PERMISSION. */
enum err_code loadgen_capture_create(struct loadgen_capture_writer *writer, const char *path, struct err *reterr);
/* `event` is valid and has at most LIMIT_EVENT_BYTES_MAX bytes. A time before that of the event before is taken for
 * that one: clocks are set back. */
enum err_code loadgen_capture_add(struct loadgen_capture_writer *writer, int64_t accepted_ms, struct slice event,
                                  struct err *reterr);
/* Writes the header, puts it all on the disk and gives it its name, in the place of a file that has it. */
enum err_code loadgen_capture_finish(struct loadgen_capture_writer *writer, struct err *reterr);
/* Removes FILE.partial. Nothing to do after a finish that succeeded. */
void loadgen_capture_abandon(struct loadgen_capture_writer *writer);

/* ---------------------------------------------------------------------------------------------- read */

struct loadgen_capture {
        struct slice bytes; /* the whole file */
        uint64_t events;
        int64_t first_ms, last_ms;
};

/* Checks the header of a file. Reads only within `bytes`, which must outlive *ret_capture. ERR_CORRUPT, ERR_VERSION,
 * ERR_INCOMPLETE (cut off), with offset and reason. */
enum err_code loadgen_capture_open(struct slice bytes, struct loadgen_capture *ret_capture, struct err *reterr);

struct loadgen_capture_record {
        uint64_t offset; /* of the record in the file */
        int64_t accepted_ms;
        struct slice event;
        struct codec_view view; /* of it */
};

struct loadgen_capture_walk {
        const struct loadgen_capture *capture;
        uint64_t offset, events; /* read so far */
        int64_t last_ms;
};

void loadgen_capture_begin(struct loadgen_capture_walk *walk, const struct loadgen_capture *capture);
/* The next record, with its checksum and its event checked. ERR_EMPTY: that was all. Otherwise the file is damaged from
 * walk->offset on: ERR_CORRUPT, ERR_INCOMPLETE, with offset and reason. */
enum err_code loadgen_capture_next(struct loadgen_capture_walk *walk, struct loadgen_capture_record *ret_record,
                                   struct err *reterr);
/* The event of a record that loadgen_capture_next() has given, by its offset: for those who come back. */
struct slice loadgen_capture_event(const struct loadgen_capture *capture, uint64_t offset);

#endif
