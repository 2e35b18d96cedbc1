#include "tools/loadgen_capture.h"

#include "base/crc32c.h"
#include "base/file.h"
#include "base/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint32_t capture_header_crc(const struct loadgen_capture_header *header)
{
        const size_t behind = offsetof(struct loadgen_capture_header, events);
        uint32_t crc = crc32c(0, header, offsetof(struct loadgen_capture_header, crc));
        return crc32c(crc, (const uint8_t *)header + behind, sizeof(*header) - behind);
}

static uint32_t capture_record_crc(const struct loadgen_capture_record_header *header, const uint8_t *event)
{
        uint32_t crc = crc32c(0, &header->event_bytes, sizeof(header->event_bytes));
        crc = crc32c(crc, &header->accepted_ms, sizeof(header->accepted_ms));
        return crc32c(crc, event, header->event_bytes);
}

static uint64_t capture_padding(uint64_t bytes)
{
        return -bytes & 7;
}

/* ---------------------------------------------------------------------------------------------- write */

static enum err_code capture_write(struct loadgen_capture_writer *writer, const void *bytes, size_t len,
                                   struct err *reterr)
{
        if (len > 0 && fwrite(bytes, 1, len, writer->file) != len)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "write %s", writer->partial);
        return ERR_OK;
}

enum err_code loadgen_capture_create(struct loadgen_capture_writer *writer, const char *path, struct err *reterr)
{
        static const uint8_t zeros[LOADGEN_CAPTURE_HEADER_BYTES];
        *writer = (struct loadgen_capture_writer){.file = NULL};
        int used = snprintf(writer->partial, sizeof(writer->partial), "%s.partial", path);
        if (used < 0 || (size_t)used >= sizeof(writer->partial))
                return err_set(reterr, ERR_RANGE, "%s: the path is too long", path);
        memcpy(writer->path, path, (size_t)used - strlen(".partial"));
        int fd = open(writer->partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EEXIST)
                return err_set(reterr, ERR_SYSTEM,
                               "%s is there already: another --record writes it, or one was killed: remove it then",
                               writer->partial);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "create %s", writer->partial);
        writer->file = fdopen(fd, "w");
        if (writer->file == NULL) {
                enum err_code code = err_set_errno(reterr, ERR_MEMORY, errno, "open %s", writer->partial);
                (void)close(fd);
                (void)unlink(writer->partial);
                return code;
        }
        /* The header comes last: until then it is none. */
        enum err_code code = capture_write(writer, zeros, sizeof(zeros), reterr);
        if (code != ERR_OK)
                loadgen_capture_abandon(writer);
        return code;
}

enum err_code loadgen_capture_add(struct loadgen_capture_writer *writer, int64_t accepted_ms, struct slice event,
                                  struct err *reterr)
{
        static const uint8_t zeros[8];
        if (writer->events == 0)
                writer->first_ms = accepted_ms;
        else if (accepted_ms < writer->last_ms)
                accepted_ms = writer->last_ms;
        struct loadgen_capture_record_header header = {.event_bytes = (uint32_t)event.len, .accepted_ms = accepted_ms};
        header.crc = capture_record_crc(&header, event.ptr);
        enum err_code code = capture_write(writer, &header, sizeof(header), reterr);
        if (code == ERR_OK)
                code = capture_write(writer, event.ptr, event.len, reterr);
        if (code == ERR_OK)
                code = capture_write(writer, zeros, capture_padding(event.len), reterr);
        if (code != ERR_OK)
                return code;
        writer->last_ms = accepted_ms;
        writer->records_bytes += sizeof(header) + event.len + capture_padding(event.len);
        writer->events++;
        return ERR_OK;
}

enum err_code loadgen_capture_finish(struct loadgen_capture_writer *writer, struct err *reterr)
{
        struct loadgen_capture_header header = {.header_bytes = LOADGEN_CAPTURE_HEADER_BYTES,
                                                .events = writer->events,
                                                .records_bytes = writer->records_bytes,
                                                .first_ms = writer->first_ms,
                                                .last_ms = writer->last_ms};
        memcpy(header.magic, LOADGEN_CAPTURE_MAGIC, sizeof(header.magic));
        header.crc = capture_header_crc(&header);
        enum err_code code = ERR_OK;
        if (fseeko(writer->file, 0, SEEK_SET) != 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "write %s", writer->partial);
        if (code == ERR_OK)
                code = capture_write(writer, &header, sizeof(header), reterr);
        if (code == ERR_OK && (fflush(writer->file) != 0 || fsync(fileno(writer->file)) != 0))
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "write %s", writer->partial);
        if (code == ERR_OK && rename(writer->partial, writer->path) != 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "rename %s to %s", writer->partial, writer->path);
        if (code != ERR_OK) {
                loadgen_capture_abandon(writer);
                return code;
        }
        (void)fclose(writer->file); /* all of it is on the disk */
        writer->file = NULL;
        return file_sync_directory_of(writer->path, reterr);
}

void loadgen_capture_abandon(struct loadgen_capture_writer *writer)
{
        if (writer->file == NULL)
                return;
        (void)fclose(writer->file); /* it goes anyway */
        (void)unlink(writer->partial);
        writer->file = NULL;
}

/* ---------------------------------------------------------------------------------------------- read */

enum err_code loadgen_capture_open(struct slice bytes, struct loadgen_capture *ret_capture, struct err *reterr)
{
        struct loadgen_capture_header header;
        struct slice magic = SLICE(LOADGEN_CAPTURE_MAGIC);
        if (!slice_has_prefix(bytes, slice_head(magic, bytes.len < 7 ? bytes.len : 7)) || bytes.len == 0)
                return err_set(reterr, ERR_CORRUPT, "offset 0: this is no capture of sendring loadgen --record");
        if (bytes.len < sizeof(header))
                return err_set(reterr, ERR_INCOMPLETE,
                               "offset %zu: the file ends within its header of %zu bytes: it was cut off", bytes.len,
                               sizeof(header));
        memcpy(&header, bytes.ptr, sizeof(header));
        if (memcmp(header.magic, magic.ptr, magic.len) != 0)
                return err_set(reterr, ERR_VERSION, "offset 7: a capture of another version of sendring");
        if (header.crc != capture_header_crc(&header) || header.header_bytes != sizeof(header))
                return err_set(reterr, ERR_CORRUPT, "offset 12: the header's checksum is wrong: the file is damaged");
        if (header.records_bytes > bytes.len - sizeof(header))
                return err_set(reterr, ERR_INCOMPLETE,
                               "offset %zu: the file ends here, %" PRIu64
                               " bytes before the end of its last record: it was cut off",
                               bytes.len, header.records_bytes - (bytes.len - sizeof(header)));
        if (header.records_bytes < bytes.len - sizeof(header))
                return err_set(reterr, ERR_CORRUPT,
                               "offset %" PRIu64 ": the last record ends here, and %" PRIu64 " more bytes follow",
                               sizeof(header) + header.records_bytes,
                               bytes.len - sizeof(header) - header.records_bytes);
        *ret_capture = (struct loadgen_capture){
                .bytes = bytes, .events = header.events, .first_ms = header.first_ms, .last_ms = header.last_ms};
        return ERR_OK;
}

void loadgen_capture_begin(struct loadgen_capture_walk *walk, const struct loadgen_capture *capture)
{
        *walk = (struct loadgen_capture_walk){
                .capture = capture, .offset = LOADGEN_CAPTURE_HEADER_BYTES, .last_ms = capture->first_ms};
}

/* What the header says of all records, once they are read. */
static enum err_code capture_end(const struct loadgen_capture_walk *walk, struct err *reterr)
{
        const struct loadgen_capture *capture = walk->capture;
        if (walk->events != capture->events)
                return err_set(reterr, ERR_CORRUPT,
                               "offset 16: the header says %" PRIu64 " events, and there are %" PRIu64, capture->events,
                               walk->events);
        if (walk->last_ms != capture->last_ms)
                return err_set(reterr, ERR_CORRUPT,
                               "offset 40: the header's time of the last event is not that event's");
        return ERR_EMPTY;
}

enum err_code loadgen_capture_next(struct loadgen_capture_walk *walk, struct loadgen_capture_record *ret_record,
                                   struct err *reterr)
{
        static const uint8_t zeros[8];
        const struct loadgen_capture *capture = walk->capture;
        struct loadgen_capture_record_header header;
        struct err why = {.text = ""};
        struct slice rest = slice_from(capture->bytes, walk->offset);
        if (rest.len == 0)
                return capture_end(walk, reterr);
        if (rest.len < sizeof(header))
                return err_set(reterr, ERR_INCOMPLETE, "offset %" PRIu64 ": the file ends within a record's header",
                               walk->offset);
        memcpy(&header, rest.ptr, sizeof(header));
        struct slice behind = slice_from(rest, sizeof(header));
        uint64_t padding = capture_padding(header.event_bytes);
        if (header.event_bytes == 0 || header.event_bytes > LIMIT_EVENT_BYTES_MAX)
                return err_set(reterr, ERR_CORRUPT, "offset %" PRIu64 ": no event has %u bytes: the file is damaged",
                               walk->offset, header.event_bytes);
        if (behind.len < header.event_bytes + padding)
                return err_set(reterr, ERR_INCOMPLETE,
                               "offset %" PRIu64 ": the file ends within an event of %u bytes, of which it has %zu",
                               walk->offset, header.event_bytes, behind.len);
        if (header.crc != capture_record_crc(&header, behind.ptr) ||
            !slice_equal(slice_head(slice_from(behind, header.event_bytes), padding), slice_of(zeros, padding)))
                return err_set(reterr, ERR_CORRUPT,
                               "offset %" PRIu64 ": a record's checksum is wrong: the file is damaged", walk->offset);
        if (header.accepted_ms < 0 || header.accepted_ms > LOADGEN_CAPTURE_MS_MAX)
                return err_set(reterr, ERR_CORRUPT, "offset %" PRIu64 ": a time that cannot be", walk->offset);
        if (walk->events == 0 && header.accepted_ms != capture->first_ms)
                return err_set(reterr, ERR_CORRUPT,
                               "offset 32: the header's time of the first event is not that event's");
        if (header.accepted_ms < walk->last_ms)
                return err_set(reterr, ERR_CORRUPT, "offset %" PRIu64 ": time goes backwards", walk->offset);
        struct loadgen_capture_record record = {.offset = walk->offset,
                                                .accepted_ms = header.accepted_ms,
                                                .event = slice_head(behind, header.event_bytes)};
        if (codec_view_decode(record.event, &record.view, &why) != ERR_OK)
                return err_set(reterr, ERR_CORRUPT, "offset %" PRIu64 ": the event is malformed: %s",
                               walk->offset + sizeof(header), why.text);
        walk->offset += sizeof(header) + header.event_bytes + padding;
        walk->last_ms = header.accepted_ms;
        walk->events++;
        *ret_record = record;
        return ERR_OK;
}

struct slice loadgen_capture_event(const struct loadgen_capture *capture, uint64_t offset)
{
        struct loadgen_capture_record_header header;
        struct slice rest = slice_from(capture->bytes, offset);
        if (rest.len < sizeof(header))
                return SLICE_EMPTY;
        memcpy(&header, rest.ptr, sizeof(header));
        /* Bounded once more: the file may have been changed since. */
        return slice_head(slice_from(rest, sizeof(header)), header.event_bytes);
}
