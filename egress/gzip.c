#include "egress/gzip.h"

#include "base/assert.h"
#include "base/vector.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>

/* Room for more than is of use: when igzip has some left it has written all. A sync flush of nothing has 5 bytes. */
#define GZIP_SPARE_BYTES 64u

struct gzip_writer {
        struct isal_zstream stream;
        uint32_t crc, bytes; /* of what is compressed; RFC 1952 has the latter modulo 2^32, too */
        size_t waiting;
        uint8_t end[GZIP_END_BYTES];
        uint8_t level[ISAL_DEF_LVL1_DEFAULT];
        uint8_t piece[GZIP_PIECE_BYTES];
        uint8_t out[GZIP_PIECES_BYTES(GZIP_PIECE_BYTES) + GZIP_SPARE_BYTES];
};

enum err_code gzip_writer_create(struct gzip_writer **ret_writer, struct err *reterr)
{
        struct gzip_writer *writer = malloc(sizeof(*writer));
        if (writer == NULL)
                return err_set(reterr, ERR_MEMORY, "no memory for compressing records");
        isal_deflate_init(&writer->stream);
        writer->stream.level = 1;
        writer->stream.level_buf = writer->level;
        writer->stream.level_buf_size = sizeof(writer->level);
        writer->waiting = 0;
        *ret_writer = writer;
        return ERR_OK;
}

void gzip_writer_free(struct gzip_writer *writer)
{
        free(writer);
}

size_t gzip_writer_memory_bytes(void)
{
        return sizeof(struct gzip_writer);
}

struct slice gzip_writer_begin(struct gzip_writer *writer)
{
        static const uint8_t header[GZIP_HEADER_BYTES] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff};
        isal_deflate_reset(&writer->stream); /* keeps the level's buffer */
        writer->stream.gzip_flag = IGZIP_DEFLATE;
        writer->stream.flush = SYNC_FLUSH;
        writer->crc = 0;
        writer->bytes = 0;
        writer->waiting = 0;
        return slice_of(header, sizeof(header));
}

static struct slice gzip_store(struct gzip_writer *writer)
{
        uint8_t *out = writer->out;
        for (size_t at = 0; at < writer->waiting;) {
                size_t left = writer->waiting - at;
                uint32_t bytes = (uint32_t)(left < GZIP_STORED_BYTES_MAX ? left : GZIP_STORED_BYTES_MAX);
                const uint8_t head[GZIP_STORED_HEAD_BYTES] = {0, (uint8_t)bytes, (uint8_t)(bytes >> 8), (uint8_t)~bytes,
                                                              (uint8_t)(~bytes >> 8)};
                memcpy(out, head, sizeof(head));
                memcpy(out + sizeof(head), writer->piece + at, bytes);
                out += sizeof(head) + bytes;
                at += bytes;
        }
        return slice_of(writer->out, (size_t)(out - writer->out));
}

struct slice gzip_writer_flush(struct gzip_writer *writer)
{
        struct isal_zstream *stream = &writer->stream;
        size_t stored_bytes = GZIP_PIECES_BYTES(writer->waiting);
        if (writer->waiting == 0)
                return SLICE_EMPTY;
        writer->crc = crc32_gzip_refl(writer->crc, writer->piece, writer->waiting);
        vector_clear_uppers();
        writer->bytes += (uint32_t)writer->waiting;
        stream->next_in = writer->piece;
        stream->avail_in = (uint32_t)writer->waiting;
        size_t bytes = 0;
        do {
                /* Over what is of no use any more; but what igzip has read it refers back to, so it must read all. */
                stream->next_out = writer->out;
                stream->avail_out = (uint32_t)(stored_bytes + GZIP_SPARE_BYTES);
                int failed = isal_deflate(stream);
                ASSERT(failed == COMP_OK); /* it fails for parameters only */
                bytes += stored_bytes + GZIP_SPARE_BYTES - stream->avail_out;
        } while (stream->avail_out == 0);
        vector_clear_uppers();
        ASSERT(stream->avail_in == 0);
        struct slice result = bytes <= stored_bytes ? slice_of(writer->out, bytes) : gzip_store(writer);
        writer->waiting = 0;
        ASSERT(result.len <= stored_bytes);
        return result;
}

struct slice gzip_writer_add(struct gzip_writer *writer, struct slice *bytes)
{
        size_t room = GZIP_PIECE_BYTES - writer->waiting;
        size_t taken = bytes->len < room ? bytes->len : room;
        memcpy(writer->piece + writer->waiting, bytes->ptr, taken);
        writer->waiting += taken;
        *bytes = slice_of(bytes->ptr + taken, bytes->len - taken);
        return writer->waiting == GZIP_PIECE_BYTES ? gzip_writer_flush(writer) : SLICE_EMPTY;
}

static void gzip_put_u32(uint8_t *out, uint32_t value)
{
        for (unsigned i = 0; i < 4; i++)
                out[i] = (uint8_t)(value >> (8 * i));
}

struct slice gzip_writer_end(struct gzip_writer *writer)
{
        ASSERT(writer->waiting == 0);
        writer->end[0] = 3; /* the last block, of fixed codes: 110, and 0000000 ends it */
        writer->end[1] = 0;
        gzip_put_u32(writer->end + 2, writer->crc);
        gzip_put_u32(writer->end + 6, writer->bytes);
        return slice_of(writer->end, sizeof(writer->end));
}

size_t gzip_writer_waiting(const struct gzip_writer *writer)
{
        return writer->waiting;
}

size_t gzip_writer_rest_max(const struct gzip_writer *writer, size_t more)
{
        return GZIP_PIECES_BYTES(writer->waiting + more) + GZIP_END_BYTES;
}
