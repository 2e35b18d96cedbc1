/* Where a file of lines ends, when whoever wrote it may have been killed, or its host have lost power, in the middle of
 * a write: what must be read for that, and what follows from what was read. No I/O of its own.
 *
 *     lines ... | lines that were in the air, perhaps with holes | part of a line
 *               ^ line_end: behind the last whole line before any damage
 */
#ifndef SENDRING_EGRESS_FILE_END_H
#define SENDRING_EGRESS_FILE_END_H

#include "base/err.h"

#include <stdint.h>

#define FILE_END_PIECE_BYTES (16u * 1024u)

enum file_end_phase {
        FILE_END_RECOGNISING,   /* a file of ours, by its first byte? */
        FILE_END_STEPPING_BACK, /* until before a hole */
        FILE_END_FINDING_HOLE,
        FILE_END_FINDING_LINE,
};

struct file_end {
        uint64_t size;
        uint64_t line_end;
        /* Wanted: these bytes of the file, at most FILE_END_PIECE_BYTES. */
        uint64_t read_at;
        uint32_t read_bytes;
        /* private */
        enum file_end_phase phase;
        uint64_t whole_end; /* where damage begins */
};

/* ERR_OK          line_end is known, at most `size`;
 * ERR_INCOMPLETE  read read_bytes at read_at, and give them to file_end_take(). */
enum err_code file_end_begin(struct file_end *end, uint64_t size);
/* The same, and:
 * ERR_SYNTAX   it does not begin as lines of JSON objects do;
 * ERR_TOO_BIG  it ends in a line longer than any event. */
enum err_code file_end_take(struct file_end *end, const uint8_t *piece);

/* What may be damaged in a file that ends at `end`: all from here on, since no write is longer. */
uint64_t file_end_in_the_air(uint64_t end);

#endif
