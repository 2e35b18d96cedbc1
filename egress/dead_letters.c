/* A worker's side of the dead letters: appending. What the folder looks like is in egress/dead_letter.h. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/file.h"
#include "codecs/codec.h"
#include "egress/dead_letter.h"
#include "io/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LETTERS_BASE64_SLACK_BYTES 64u
/* How far the end of a file is searched for a whole line's end: no line is longer. */
#define LETTERS_LOOK_BYTES 4096u

struct dead_letters {
        char *directory;
        uint32_t worker;
        uint64_t bytes_max, file_bytes_max;
        int fd; /* of the newest file; -1: not open */
        uint64_t number;
        uint64_t size_bytes;  /* of it: everything before is whole lines */
        uint64_t older_bytes; /* of the others, as they were when they were counted last */
        uint8_t *base64;
        char head[DEAD_LETTER_HEAD_BYTES_MAX];
        char path[4096 + 64];
};

enum err_code dead_letters_create(const struct dead_letters_options *options, struct dead_letters **ret_letters,
                                  struct err *reterr)
{
        struct dead_letters *letters = calloc(1, sizeof(*letters));
        if (letters == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for dead letters");
        letters->fd = -1;
        letters->worker = options->worker;
        letters->bytes_max = options->bytes_max;
        letters->file_bytes_max = DEAD_LETTER_FILE_BYTES_MAX;
        if (letters->bytes_max > 0 && letters->bytes_max / 4 < letters->file_bytes_max)
                letters->file_bytes_max = letters->bytes_max / 4;
        letters->directory = strdup(options->directory);
        letters->base64 = malloc(CODEC_BASE64_SIZE(LIMIT_EVENT_BYTES_MAX) + LETTERS_BASE64_SLACK_BYTES);
        if (letters->directory == NULL || letters->base64 == NULL) {
                dead_letters_free(letters);
                return err_set(reterr, ERR_MEMORY, "out of memory for dead letters");
        }
        *ret_letters = letters;
        return ERR_OK;
}

void dead_letters_free(struct dead_letters *letters)
{
        if (letters == NULL)
                return;
        if (letters->fd >= 0)
                (void)disk_close(letters->fd); /* each letter was written and synced */
        free(letters->directory);
        free(letters->base64);
        free(letters);
}

uint64_t dead_letters_budget_bytes(void)
{
        return sizeof(struct dead_letters) + CODEC_BASE64_SIZE(LIMIT_EVENT_BYTES_MAX) + LETTERS_BASE64_SLACK_BYTES;
}

const char *dead_letters_directory(const struct dead_letters *letters)
{
        return letters->directory;
}

/* ---------------------------------------------------------------------------------------------- files */

static enum err_code letters_path(struct dead_letters *letters, const char *name, struct err *reterr)
{
        int used = snprintf(letters->path, sizeof(letters->path), "%s/%s", letters->directory, name);
        if (used < 0 || (size_t)used >= sizeof(letters->path))
                return err_set(reterr, ERR_CONFIG, "the path %s is too long", letters->directory);
        return ERR_OK;
}

/* Which file is the newest (0: there is none), and what the others amount to. */
static enum err_code letters_count(struct dead_letters *letters, uint64_t *ret_newest, struct err *reterr)
{
        struct disk_list *list = disk_list_open(AT_FDCWD, letters->directory);
        if (list == NULL)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot list %s", letters->directory);
        uint64_t newest = 0, bytes = 0, newest_bytes = 0;
        enum err_code code = ERR_OK;
        for (const char *name = disk_list_next(list); name != NULL && code == ERR_OK; name = disk_list_next(list)) {
                uint32_t worker;
                uint64_t number;
                struct stat status;
                bool is_letters = dead_letter_file_parse(slice_of_text(name), SLICE(DEAD_LETTER_LETTERS_SUFFIX),
                                                         &worker, &number);
                if (!is_letters || worker != letters->worker)
                        continue;
                code = letters_path(letters, name, reterr);
                /* Gone meanwhile: a tool has removed it. */
                if (code != ERR_OK || disk_stat_path(letters->path, &status) < 0)
                        continue;
                bytes += (uint64_t)status.st_size;
                if (number > newest) {
                        newest = number;
                        newest_bytes = (uint64_t)status.st_size;
                }
        }
        disk_list_close(list);
        letters->older_bytes = bytes - newest_bytes;
        *ret_newest = newest;
        return code;
}

/* Cuts off what a kill has left behind the last whole line. */
static enum err_code letters_cut(struct dead_letters *letters, uint64_t size_bytes, struct err *reterr)
{
        uint64_t end = size_bytes;
        uint8_t bytes[LETTERS_LOOK_BYTES];
        while (end > 0) {
                size_t want = end < sizeof(bytes) ? (size_t)end : sizeof(bytes);
                ssize_t got = disk_read(letters->fd, bytes, want, end - want);
                if (got != (ssize_t)want)
                        return err_set_errno(reterr, ERR_SYSTEM, got < 0 ? errno : EIO, "cannot read %s",
                                             letters->path);
                size_t at = want;
                while (at > 0 && bytes[at - 1] != '\n')
                        at--;
                end = end - want + at;
                if (at > 0)
                        break;
        }
        if (end < size_bytes && disk_truncate(letters->fd, end) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot cut off a torn line of %s", letters->path);
        letters->size_bytes = end;
        return ERR_OK;
}

static void letters_close(struct dead_letters *letters)
{
        if (letters->fd >= 0)
                (void)disk_close(letters->fd); /* each letter was written and synced */
        letters->fd = -1;
}

/* Opens file `number`, which must be new when `fresh`. */
static enum err_code letters_open_file(struct dead_letters *letters, uint64_t number, bool fresh, struct err *reterr)
{
        char name[64];
        struct stat status;
        dead_letter_file_write(letters->worker, number, DEAD_LETTER_LETTERS_SUFFIX, name);
        enum err_code code = letters_path(letters, name, reterr);
        if (code != ERR_OK)
                return code;
        int flags = O_RDWR | O_APPEND | O_NOFOLLOW | (fresh ? O_CREAT | O_EXCL : 0);
        letters->fd = disk_open(AT_FDCWD, letters->path, flags, 0600);
        if (letters->fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s", letters->path);
        if (disk_stat(letters->fd, &status) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s", letters->path);
        if (code == ERR_OK)
                code = letters_cut(letters, (uint64_t)status.st_size, reterr);
        /* Its name must be on the disk before a letter in it counts, also where whoever made it could not see to that.
         */
        int directory_fd = code == ERR_OK ? disk_open(AT_FDCWD, letters->directory, O_RDONLY | O_DIRECTORY, 0) : -1;
        if (code == ERR_OK && (directory_fd < 0 || disk_sync_directory(directory_fd) < 0))
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync %s", letters->directory);
        if (directory_fd >= 0)
                (void)disk_close(directory_fd); /* a directory */
        if (code != ERR_OK) {
                letters_close(letters);
                return code;
        }
        letters->number = number;
        return ERR_OK;
}

static enum err_code letters_open(struct dead_letters *letters, struct err *reterr)
{
        uint64_t newest;
        if (letters->fd >= 0)
                return ERR_OK;
        enum err_code code = file_make_directory(letters->directory, reterr);
        if (code == ERR_OK)
                code = letters_count(letters, &newest, reterr);
        if (code != ERR_OK)
                return code;
        return letters_open_file(letters, newest == 0 ? 1 : newest, newest == 0, reterr);
}

/* Room for a line of `line_bytes`: the next file when this one has enough, within what may be kept. */
static enum err_code letters_make_room(struct dead_letters *letters, uint64_t line_bytes, struct err *reterr)
{
        if (letters->size_bytes > 0 && letters->size_bytes + line_bytes > letters->file_bytes_max) {
                uint64_t number = letters->number + 1, older_bytes = letters->older_bytes + letters->size_bytes;
                letters_close(letters);
                enum err_code code = letters_open_file(letters, number, true, reterr);
                if (code != ERR_OK)
                        return code; /* the next try finds what is there */
                letters->older_bytes = older_bytes;
        }
        if (letters->bytes_max == 0 || letters->older_bytes + letters->size_bytes + line_bytes <= letters->bytes_max)
                return ERR_OK;
        uint64_t newest; /* unchanged; tools may have removed older ones */
        enum err_code code = letters_count(letters, &newest, reterr);
        if (code == ERR_OK && letters->older_bytes + letters->size_bytes + line_bytes > letters->bytes_max)
                code = err_set(reterr, ERR_LIMIT,
                               "the dead letters in %s have reached egress.dead_letter_bytes_max: replay or drop some "
                               "with sendring dlq",
                               letters->directory);
        return code;
}

/* ---------------------------------------------------------------------------------------------- one letter */

struct letters_text {
        char *at, *end;
};

static void letters_put(struct letters_text *text, const char *name, struct slice value, bool or_null)
{
        int used = snprintf(text->at, (size_t)(text->end - text->at), ",\"%s\":", name);
        text->at += used;
        if (value.len == 0 && or_null) {
                memcpy(text->at, "null", 4);
                text->at += 4;
                return;
        }
        text->at += codec_json_string(value, (uint8_t *)text->at, (size_t)(text->end - text->at));
}

/* What stands before the event; never more than DEAD_LETTER_HEAD_BYTES_MAX: key 511, destination and set 64 each, cause
 * 256 bytes, any of which may grow to six; the rest is short. */
static size_t letters_head(struct dead_letters *letters, const struct dead_letter *letter)
{
        struct letters_text text = {.at = letters->head, .end = letters->head + sizeof(letters->head)};
        struct dead_letter_id id = {
                .worker = letters->worker, .number = letters->number, .offset = letters->size_bytes};
        char id_text[DEAD_LETTER_ID_BYTES_MAX];
        uint8_t time[32];
        size_t time_bytes = codec_time_write(clock_realtime_ms(), time);
        dead_letter_id_write(&id, id_text);
        text.at += snprintf(text.at, sizeof(letters->head), "{\"id\":\"%s\",\"time\":\"%.*s\"", id_text,
                            (int)time_bytes, (const char *)time);
        letters_put(&text, "cause", slice_head(letter->cause, 256), false);
        letters_put(&text, "destination", slice_head(letter->destination, LIMIT_NAME_BYTES_MAX), true);
        letters_put(&text, "target", slice_head(letter->target, 511), false);
        letters_put(&text, "set", slice_head(letter->set, LIMIT_NAME_BYTES_MAX), true);
        letters_put(&text, "type", slice_of_text(codec_event_type_name(letter->type)), false);
        text.at += snprintf(text.at, (size_t)(text.end - text.at),
                            ",\"event_id\":\"%016" PRIx64 "-%016" PRIx64 "\",\"accepted_ms\":%" PRId64 ",\"event\":",
                            letter->lane_id, letter->lane_position, letter->accepted_ms);
        ASSERT(text.at < text.end);
        return (size_t)(text.at - letters->head);
}
_Static_assert(6 * (511 + 2 * LIMIT_NAME_BYTES_MAX + 256) + 512 < DEAD_LETTER_HEAD_BYTES_MAX, "the head has room");

enum err_code dead_letters_append(struct dead_letters *letters, const struct dead_letter *letter, struct err *reterr)
{
        static const char between[] = ",\"msgpack\":\"";
        ASSERT(letter->msgpack.len <= LIMIT_EVENT_BYTES_MAX);
        enum err_code code = letters_open(letters, reterr);
        if (code != ERR_OK)
                return code;
        struct codec_base64 state = {.waiting_count = 0};
        size_t base64_bytes = codec_base64_append(&state, letter->msgpack, letters->base64);
        base64_bytes += codec_base64_finish(&state, letters->base64 + base64_bytes);
        struct slice json = letter->json.len > 0 ? letter->json : SLICE("null");
        code = letters_make_room(letters, DEAD_LETTER_HEAD_BYTES_MAX + json.len + base64_bytes, reterr);
        if (code != ERR_OK)
                return code;
        char tail[40];
        struct iovec parts[] = {
                {letters->head, letters_head(letters, letter)},
                {(void *)(uintptr_t)json.ptr, json.len},
                {(void *)(uintptr_t)between, sizeof(between) - 1},
                {letters->base64, base64_bytes},
                {(void *)(uintptr_t) "\"", 1},
                {tail, 0},
        };
        const size_t count = sizeof(parts) / sizeof(parts[0]);
        uint32_t crc = 0;
        size_t bytes = 0;
        for (size_t i = 0; i < count - 1; i++) {
                crc = crc32_iscsi(parts[i].iov_base, (int)parts[i].iov_len, crc); /* far below 2 GiB */
                bytes += parts[i].iov_len;
        }
        parts[count - 1].iov_len = (size_t)snprintf(tail, sizeof(tail), ",\"crc32c\":\"%08" PRIx32 "\"}\n", crc);
        bytes += parts[count - 1].iov_len;
        ssize_t wrote = disk_append(letters->fd, parts, (int)count);
        if (wrote == (ssize_t)bytes && disk_sync(letters->fd) == 0) {
                letters->size_bytes += bytes;
                return ERR_OK;
        }
        int failed = wrote >= 0 && (size_t)wrote < bytes ? ENOSPC : errno;
        code = err_set_errno(reterr, ERR_SYSTEM, failed, "cannot write %s", letters->path);
        /* A torn line must not stay; after a failed sync neither must one that is perhaps not on the disk. Opened
         * again, the file is cut behind its last whole line where this does not work. */
        (void)disk_truncate(letters->fd, letters->size_bytes);
        letters_close(letters);
        return code;
}
