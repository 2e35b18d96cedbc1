/* A capture file with any bytes: nothing crashes or reads outside, what is wrong is told with its offset, and what is
 * read comes out again the same when it is written.
 *
 * Input: one byte of flags, then the file. Flags: 1 the header's sizes and checksum are made right, 2 those of the
 * records too, as far as their lengths lead. */
#include "base/assert.h"
#include "tools/loadgen_capture.h"
#include "tools/loadgen_replay.h"

#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair_records(uint8_t *file, size_t size)
{
        for (size_t at = LOADGEN_CAPTURE_HEADER_BYTES; at < size && size - at >= 16;) {
                uint32_t bytes;
                memcpy(&bytes, file + at, sizeof(bytes));
                if (bytes > size - at - 16)
                        return;
                uint32_t crc = crc32_iscsi(file + at, 4, 0);
                crc = crc32_iscsi(file + at + 8, 8, crc);
                crc = crc32_iscsi(file + at + 16, (int)bytes, crc);
                memcpy(file + at + 4, &crc, sizeof(crc));
                at += 16 + ((bytes + 7) & ~(size_t)7);
        }
}

static void repair_header(uint8_t *file, size_t size)
{
        uint64_t records_bytes = size - LOADGEN_CAPTURE_HEADER_BYTES;
        memcpy(file + 24, &records_bytes, sizeof(records_bytes));
        uint32_t crc = crc32_iscsi(file, 12, 0);
        crc = crc32_iscsi(file + 16, 48, crc);
        memcpy(file + 12, &crc, sizeof(crc));
}

static void check_record(const struct loadgen_capture *capture, const struct loadgen_capture_record *record)
{
        static uint8_t out[LOADGEN_REPLAY_EVENT_BYTES];
        static const char id[] = "0100019b7ca98f2e-4a1f0c52-7d1e-4f0b-9c55-2f6f0e3b7a10-000000";
        struct slice bytes = capture->bytes;
        struct codec_view view;
        ASSERT(record->event.len > 0 && record->event.ptr >= bytes.ptr + 80 &&
               record->event.ptr + record->event.len <= bytes.ptr + bytes.len);
        ASSERT(slice_equal(loadgen_capture_event(capture, record->offset), record->event));
        ASSERT(record->accepted_ms >= capture->first_ms);
        /* With another id it is an event still. */
        size_t changed = loadgen_replay_put_id(&record->view, id, out);
        ASSERT(changed > 0 && changed <= sizeof(out));
        if (changed <= LIMIT_EVENT_BYTES_MAX) {
                ASSERT(codec_view_decode(slice_of(out, changed), &view, NULL) == ERR_OK);
                ASSERT(slice_equal(view.message_id, slice_of(id, LOADGEN_ID_BYTES)) && view.type == record->view.type);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct loadgen_capture capture;
        struct loadgen_capture_walk walk;
        struct loadgen_capture_record record;
        struct err err = {.text = ""};
        if (size == 0)
                return 0;
        uint8_t flags = data[0];
        size_t bytes = size - 1;
        uint8_t *file = malloc(bytes + 1); /* of its size but for one: a read behind it is found */
        ASSERT(file != NULL);
        memcpy(file, data + 1, bytes);
        if ((flags & 2) != 0)
                repair_records(file, bytes);
        if ((flags & 1) != 0 && bytes >= LOADGEN_CAPTURE_HEADER_BYTES)
                repair_header(file, bytes);
        enum err_code code = loadgen_capture_open(slice_of(file, bytes), &capture, &err);
        if (code == ERR_OK) {
                loadgen_capture_begin(&walk, &capture);
                while ((code = loadgen_capture_next(&walk, &record, &err)) == ERR_OK)
                        check_record(&capture, &record);
                ASSERT(walk.events <= bytes / 24);
                if (code == ERR_EMPTY)
                        ASSERT(walk.events == capture.events && walk.offset == bytes && err.text[0] == '\0');
        }
        if (code != ERR_EMPTY)
                ASSERT(strncmp(err.text, "offset ", 7) == 0);
        free(file);
        return 0;
}
