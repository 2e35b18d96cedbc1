/* Whatever a file of lines holds, its end is where a plain search finds it, and nothing is read that is not in it. */
#include "base/assert.h"
#include "egress/file_end.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct file_end end;
        enum err_code code = file_end_begin(&end, size);
        while (code == ERR_INCOMPLETE) {
                ASSERT(end.read_bytes > 0 && end.read_bytes <= FILE_END_PIECE_BYTES);
                ASSERT(end.read_at < size && end.read_bytes <= size - end.read_at);
                uint8_t *piece = malloc(end.read_bytes); /* of its size, so that a read beyond it is seen */
                ASSERT(piece != NULL);
                memcpy(piece, data + end.read_at, end.read_bytes);
                code = file_end_take(&end, piece);
                free(piece);
        }
        const uint8_t *hole = size > 0 ? memchr(data, '\0', size) : NULL;
        size_t expected = hole != NULL ? (size_t)(hole - data) : size;
        while (expected > 0 && data[expected - 1] != '\n')
                expected--;
        if (size > 0 && data[0] != '{' && data[0] != '\0')
                ASSERT(code == ERR_SYNTAX);
        else if (code != ERR_TOO_BIG) /* inputs are seldom so large */
                ASSERT(code == ERR_OK && end.line_end == expected);
        return 0;
}
