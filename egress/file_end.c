#include "egress/file_end.h"

#include "base/assert.h"
#include "base/limits.h"

#include <string.h>

#define FILE_END_AIR_BYTES (UINT64_C(16) * 1024 * 1024) /* a write is a batch: 4 MiB at most */

_Static_assert(FILE_END_AIR_BYTES > LIMIT_EVENT_JSON_BYTES_MAX, "a batch holds at least one event");

uint64_t file_end_in_the_air(uint64_t end)
{
        return end < FILE_END_AIR_BYTES ? 0 : end - FILE_END_AIR_BYTES;
}

static enum err_code end_want(struct file_end *end, enum file_end_phase phase, uint64_t at, uint64_t bytes_max)
{
        end->phase = phase;
        end->read_at = at;
        end->read_bytes = bytes_max < FILE_END_PIECE_BYTES ? (uint32_t)bytes_max : FILE_END_PIECE_BYTES;
        return ERR_INCOMPLETE;
}

enum err_code file_end_begin(struct file_end *end, uint64_t size)
{
        *end = (struct file_end){.size = size, .line_end = size, .whole_end = size};
        return size == 0 ? ERR_OK : end_want(end, FILE_END_RECOGNISING, 0, 1);
}

static enum err_code end_find_line(struct file_end *end)
{
        const uint64_t bytes = end->line_end < FILE_END_PIECE_BYTES ? end->line_end : FILE_END_PIECE_BYTES;
        if (end->line_end == 0)
                return ERR_OK;
        if (end->whole_end - end->line_end > LIMIT_EVENT_JSON_BYTES_MAX)
                return ERR_TOO_BIG;
        return end_want(end, FILE_END_FINDING_LINE, end->line_end - bytes, bytes);
}

/* A power cut may keep the end of a write and lose its middle, which then reads as NUL bytes; JSON has none. Nothing of
 * what was in the air had been settled: the file ends before the first NUL there. */
static enum err_code end_find_hole(struct file_end *end, const uint8_t *piece)
{
        const uint8_t *hole = memchr(piece, '\0', end->read_bytes);
        const uint64_t next = end->read_at + end->read_bytes;
        if (hole == NULL && next < end->size)
                return end_want(end, FILE_END_FINDING_HOLE, next, end->size - next);
        end->whole_end = end->line_end = hole != NULL ? end->read_at + (uint64_t)(hole - piece) : end->size;
        return end_find_line(end);
}

enum err_code file_end_take(struct file_end *end, const uint8_t *piece)
{
        const uint8_t *newline;
        ASSERT(end->read_at + end->read_bytes <= end->size);
        switch (end->phase) {
        case FILE_END_RECOGNISING:
                /* NUL bytes are what a power cut leaves of a first write. */
                if (piece[0] != '{' && piece[0] != '\0')
                        return ERR_SYNTAX;
                return end_want(end, FILE_END_STEPPING_BACK, file_end_in_the_air(end->size), 1);
        case FILE_END_STEPPING_BACK:
                /* Further back where what was in the air begins within a hole. */
                if (piece[0] == '\0' && end->read_at > 0)
                        return end_want(end, FILE_END_STEPPING_BACK, file_end_in_the_air(end->read_at), 1);
                return end_want(end, FILE_END_FINDING_HOLE, end->read_at, end->size - end->read_at);
        case FILE_END_FINDING_HOLE:
                return end_find_hole(end, piece);
        case FILE_END_FINDING_LINE:
                newline = memrchr(piece, '\n', end->read_bytes);
                end->line_end = newline == NULL ? end->read_at : end->read_at + (uint64_t)(newline - piece) + 1;
                return newline == NULL ? end_find_line(end) : ERR_OK;
        }
        return ERR_BUG;
}
