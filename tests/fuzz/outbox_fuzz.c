/* An outbox file with any bytes: open must neither crash nor believe what cannot be, and leave an outbox that works.
 *
 * Input: one byte of flags, then the file: 128 bytes of header, 80 bytes of the first place, 64 bytes of two chunks,
 * and the bodies. Flags: 1 repair the CRC of the header, 2 those of the bodies, 4 a second log, 8 cut the file behind
 * the input. */
#include "base/assert.h"
#include "egress/outbox.h"

#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATA_BYTES 8192u
#define FILE_BYTES (OUTBOX_HEADER_BYTES + DATA_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t take(uint8_t *file, size_t at, size_t len, const uint8_t *data, size_t size, size_t from)
{
        size_t left = from < size ? size - from : 0;
        memcpy(file + at, data + (left > 0 ? from : 0), left < len ? left : len);
        return from + len;
}

static uint32_t get32(const uint8_t *at)
{
        uint32_t value;
        memcpy(&value, at, sizeof(value));
        return value;
}

static void repair(uint8_t *file, uint8_t flags)
{
        uint32_t chunks = get32(file + 12);
        for (uint32_t i = 0; i < chunks && i < 2 && (flags & 2) != 0; i++) {
                uint8_t *chunk = file + 14208 + 32 * (size_t)i;
                uint64_t offset;
                memcpy(&offset, chunk, sizeof(offset));
                uint32_t bytes = get32(chunk + 8);
                if (offset > FILE_BYTES || bytes > FILE_BYTES - offset)
                        continue;
                uint32_t crc = crc32_iscsi(file + offset, (int)bytes, 0x4f555442u);
                memcpy(chunk + 12, &crc, sizeof(crc));
        }
        if ((flags & 1) != 0 && chunks <= OUTBOX_CHUNKS_MAX) {
                uint32_t crc = crc32_iscsi(file, 28, 0x4f555442u);
                crc = crc32_iscsi(file + 32, 8, crc);
                crc = crc32_iscsi(file + 128, 176 * 80, crc);
                crc = crc32_iscsi(file + 14208, (int)(chunks * 32), crc);
                memcpy(file + 28, &crc, sizeof(crc));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static uint8_t file[FILE_BYTES];
        char path[] = "/dev/shm/sendring-outbox-fuzz-XXXXXX";
        if (size == 0)
                return 0;
        uint8_t flags = data[0];
        memset(file, 0, sizeof(file));
        size_t from = take(file, 0, 128, data, size, 1);
        from = take(file, 128, 80, data, size, from);
        from = take(file, 14208, 64, data, size, from);
        (void)take(file, OUTBOX_HEADER_BYTES, DATA_BYTES, data, size, from);
        repair(file, flags);
        size_t file_bytes = (flags & 8) != 0 && size < FILE_BYTES ? size : FILE_BYTES;
        int fd = mkstemp(path);
        ASSERT(fd >= 0);
        ASSERT(write(fd, file, file_bytes) == (ssize_t)file_bytes);
        ASSERT(close(fd) == 0);

        struct outbox_options options = {path, 0x0807060504030201, (flags & 4) != 0 ? 2 : 1, 2048};
        struct outbox *outbox = NULL;
        struct outbox_found found;
        struct err err = {.text = ""};
        ASSERT(outbox_open(&options, &outbox, &found, &err) == ERR_OK);
        if (outbox_is_sealed(outbox)) {
                volatile uint8_t sum = 0;
                ASSERT(found.dropped == NULL);
                ASSERT(found.chunks > 0 && found.chunks <= OUTBOX_CHUNKS_MAX && found.acknowledged <= found.chunks);
                while (outbox_acknowledged(outbox) < outbox_chunks(outbox)) {
                        struct slice body = outbox_next(outbox, NULL);
                        ASSERT(body.len > 0 && body.len <= FILE_BYTES);
                        for (size_t i = 0; i < body.len; i++)
                                sum = (uint8_t)(sum + body.ptr[i]);
                        outbox_sending(outbox);
                        outbox_acknowledge(outbox);
                }
                outbox_clear(outbox);
        }
        struct outbox_place places[2] = {{.touched = 1, .end_position = 64}};
        size_t room = 0;
        outbox_begin(outbox);
        memset(outbox_room(outbox, &room), 'x', 100);
        ASSERT(room >= 2048);
        outbox_add(outbox, 100, 1, 1, 1);
        outbox_seal(outbox, places, 2);
        outbox_close(outbox);
        ASSERT(outbox_open(&options, &outbox, &found, &err) == ERR_OK);
        ASSERT(outbox_is_sealed(outbox) && found.chunks == 1 && found.acknowledged == 0);
        outbox_remove(outbox);
        return 0;
}
