/* Lines of dead letters and of what became of them, with any bytes: nothing crashes, and what parses lies inside the
 * line and is what it says.
 *
 * Input: one byte of flags, then the line. Flags: 1 a line of a .settled file; 2 put the right checksum behind it. */
#include "base/assert.h"
#include "egress/dead_letter.h"

#include "codecs/codec.h"

#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_inside(struct slice part, const uint8_t *line, size_t bytes)
{
        return part.len == 0 || (part.ptr >= line && part.ptr + part.len <= line + bytes);
}

static void settled(struct slice line)
{
        struct dead_letter_settled read, again;
        char text[DEAD_LETTER_SETTLED_BYTES_MAX];
        if (!dead_letter_settled_parse(line, &read))
                return;
        struct dead_letter_id id = {.worker = 1, .number = 1, .offset = read.offset};
        size_t bytes = dead_letter_settled_write(&read, &id, 0, text);
        ASSERT(bytes < sizeof(text) && dead_letter_settled_parse(slice_of(text, bytes - 1), &again));
        ASSERT(again.offset == read.offset && again.crc == read.crc && again.dropped == read.dropped);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static uint8_t out[LIMIT_EVENT_BYTES_MAX];
        struct dead_letter letter;
        struct slice event;
        struct err err = {.text = ""};
        if (size == 0)
                return 0;
        uint8_t flags = data[0];
        size_t bytes = size - 1;
        if ((flags & 1) != 0) {
                settled(slice_of(data + 1, bytes));
                return 0;
        }
        uint8_t *line = malloc(bytes + 32); /* of its size: a read behind it is found */
        ASSERT(line != NULL);
        memcpy(line, data + 1, bytes);
        if ((flags & 2) != 0) {
                uint32_t crc = crc32_iscsi(line, (int)bytes, 0);
                bytes += (size_t)snprintf((char *)line + bytes, 32, ",\"crc32c\":\"%08x\"}", crc);
        }
        if (dead_letter_parse(line, bytes, &letter, &err) == ERR_OK) {
                ASSERT(lies_inside(letter.cause, line, bytes) && lies_inside(letter.destination, line, bytes));
                ASSERT(lies_inside(letter.target, line, bytes) && lies_inside(letter.set, line, bytes));
                ASSERT(lies_inside(letter.json, line, bytes) && lies_inside(letter.msgpack, line, bytes));
                ASSERT(codec_event_type_name(letter.type) != NULL);
                ASSERT(letter.set.len <= LIMIT_NAME_BYTES_MAX);
                if (dead_letter_event(&letter, out, &event))
                        ASSERT(event.len >= 1 && event.len <= LIMIT_EVENT_BYTES_MAX);
        } else {
                ASSERT(err.text[0] != '\0');
        }
        free(line);
        return 0;
}
