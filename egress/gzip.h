/* One gzip file written in pieces, whose size has a bound at any time: for records that may have a limited size and are
 * filled until they are full. By ISA-L's igzip, level 1. No I/O, no allocation after create.
 *
 *   1f 8b 08 00 00000000 00 ff | pieces ... | 03 00 | CRC-32 | bytes     RFC 1952, RFC 1951; numbers little-endian
 *   header                       deflate      an empty last block
 *
 * Bytes wait until a piece is full, or until gzip_writer_flush(). A piece ends at a byte (a sync flush), and refers
 * back to those before it. One that igzip cannot make smaller is written as stored blocks instead, 5 bytes for up to
 * 65,535 each: so no piece is larger than that, whatever is in it. The same bytes added and flushed at the same places
 * give the same file. */
#ifndef SENDRING_EGRESS_GZIP_H
#define SENDRING_EGRESS_GZIP_H

#include "base/err.h"
#include "base/slice.h"

#include <stddef.h>
#include <stdint.h>

#define GZIP_HEADER_BYTES      10u
#define GZIP_END_BYTES         10u
#define GZIP_STORED_BYTES_MAX  65535u /* of one stored block */
#define GZIP_STORED_HEAD_BYTES 5u
#define GZIP_PIECE_BYTES       (2 * GZIP_STORED_BYTES_MAX) /* smaller ones cost more, larger ones gain nothing */
#define GZIP_PIECES_BYTES(bytes) \
        ((bytes) + ((bytes) + GZIP_STORED_BYTES_MAX - 1) / GZIP_STORED_BYTES_MAX * GZIP_STORED_HEAD_BYTES)
/* What a file of `bytes` bytes has at most, when it is flushed at its end only. */
#define GZIP_BYTES_MAX(bytes) (GZIP_HEADER_BYTES + GZIP_PIECES_BYTES(bytes) + GZIP_END_BYTES)

struct gzip_writer; /* one thread at a time */

enum err_code gzip_writer_create(struct gzip_writer **ret_writer, struct err *reterr); /* ERR_MEMORY */
void gzip_writer_free(struct gzip_writer *writer);                                     /* NULL is allowed */
size_t gzip_writer_memory_bytes(void);

/* What the next four return is the file's next bytes, valid until the next call; it may be none. */

/* Begins a file, whatever became of the one before. */
struct slice gzip_writer_begin(struct gzip_writer *writer);
/* Takes bytes from the front of *bytes until a piece is full: call until nothing is left of them. */
struct slice gzip_writer_add(struct gzip_writer *writer, struct slice *bytes);
/* Compresses what waits. Costs some 100 bytes beside those of a full piece. */
struct slice gzip_writer_flush(struct gzip_writer *writer);
/* Ends the file. Nothing may wait (asserted). */
struct slice gzip_writer_end(struct gzip_writer *writer);

/* Bytes that were added and of which nothing is returned yet. */
size_t gzip_writer_waiting(const struct gzip_writer *writer);
/* How many bytes are still to come at most when `more` bytes are added and the file is ended. */
size_t gzip_writer_rest_max(const struct gzip_writer *writer, size_t more);

#endif
