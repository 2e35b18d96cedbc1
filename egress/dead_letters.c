/* A worker's side of the dead letters: appending. What the folder looks like is in egress/dead_letter.h.
 *
 * Files are looked at, made and opened at once; what may take a disk's time goes through the worker's loop:
 *
 *     [the folder's own name is synced] [the names in it are] the line is written, then synced
 *
 * the first two where a file was opened or made since they were done last. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "codecs/codec.h"
#include "egress/dead_letter.h"
#include "io/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LETTERS_BASE64_SLACK_BYTES 64u
/* How far the end of a file is searched for a whole line's end: no line is longer. */
#define LETTERS_LOOK_BYTES 4096u
/* More than the names of the last two members and the checksum. */
#define LETTERS_TAIL_BYTES 64u

enum letters_state {
        LETTERS_IDLE,
        LETTERS_SYNCING_FOLDER, /* its name in the one above, or the names in it */
        LETTERS_WRITING,
        LETTERS_SYNCING,
        LETTERS_FAILED, /* before anything was written: `done` is posted */
};

struct dead_letters {
        struct io_op op; /* first: done callbacks get the letters from it */
        struct io_loop *loop;
        enum letters_state state;
        void (*done)(void *context, enum err_code code, const struct err *why);
        void *context;
        struct err why;
        char *directory;
        uint32_t worker;
        uint64_t bytes_max, file_bytes_max;
        int fd;                        /* of the newest file; -1: not open */
        int folder_fd;                 /* while it is synced, else -1 */
        dev_t device;                  /* of fd */
        ino_t inode;                   /* of fd */
        bool folder_named, file_named; /* their names are on the disk */
        uint64_t number;
        uint64_t size_bytes;  /* of it: everything before is whole lines */
        uint64_t older_bytes; /* of the others, as they were when they were counted last */
        uint8_t *line;        /* in flight */
        size_t line_bytes, line_written;
        char path[4096 + 64]; /* of fd */
        char other_path[4096 + 64];
};

_Static_assert(offsetof(struct dead_letters, op) == 0, "the op's address is the letters'");

enum err_code dead_letters_create(const struct dead_letters_options *options, struct dead_letters **ret_letters,
                                  struct err *reterr)
{
        struct dead_letters *letters = calloc(1, sizeof(*letters));
        if (letters == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for dead letters");
        letters->fd = letters->folder_fd = -1;
        letters->loop = options->loop;
        letters->worker = options->worker;
        letters->bytes_max = options->bytes_max;
        letters->file_bytes_max = DEAD_LETTER_FILE_BYTES_MAX;
        if (letters->bytes_max > 0 && letters->bytes_max / 4 < letters->file_bytes_max)
                letters->file_bytes_max = letters->bytes_max / 4;
        letters->directory = strdup(options->directory);
        letters->line = malloc(DEAD_LETTER_LINE_BYTES_MAX + LETTERS_BASE64_SLACK_BYTES);
        if (letters->directory == NULL || letters->line == NULL) {
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
        ASSERT(letters->state == LETTERS_IDLE);
        if (letters->fd >= 0)
                (void)disk_close(letters->fd); /* each letter was written and synced */
        free(letters->directory);
        free(letters->line);
        free(letters);
}

uint64_t dead_letters_budget_bytes(void)
{
        return sizeof(struct dead_letters) + DEAD_LETTER_LINE_BYTES_MAX + LETTERS_BASE64_SLACK_BYTES;
}

const char *dead_letters_directory(const struct dead_letters *letters)
{
        return letters->directory;
}

/* ---------------------------------------------------------------------------------------------- files */

static enum err_code letters_path(const struct dead_letters *letters, const char *name, char out[sizeof(letters->path)],
                                  struct err *reterr)
{
        int used = snprintf(out, sizeof(letters->path), "%s/%s", letters->directory, name);
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
        const char *name;
        while (code == ERR_OK && (name = disk_list_next(list)) != NULL) {
                uint32_t worker;
                uint64_t number;
                struct stat status;
                bool is_letters = dead_letter_file_parse(slice_of_text(name), SLICE(DEAD_LETTER_LETTERS_SUFFIX),
                                                         &worker, &number);
                if (!is_letters || worker != letters->worker)
                        continue;
                code = letters_path(letters, name, letters->other_path, reterr);
                /* Gone meanwhile: a tool has removed it. */
                if (code != ERR_OK || disk_stat_path(letters->other_path, &status) < 0)
                        continue;
                bytes += (uint64_t)status.st_size;
                if (number > newest) {
                        newest = number;
                        newest_bytes = (uint64_t)status.st_size;
                }
        }
        /* What is taken for the newest must be: tools may remove the others. */
        if (code == ERR_OK && errno != 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot list %s", letters->directory);
        disk_list_close(list);
        if (code != ERR_OK)
                return code;
        letters->older_bytes = bytes - newest_bytes;
        *ret_newest = newest;
        return ERR_OK;
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

/* Opens file `number`, which must be new when `fresh`. Its name must be on the disk before a letter in it counts, also
 * where whoever made it could not see to that. */
static enum err_code letters_open_file(struct dead_letters *letters, uint64_t number, bool fresh, struct err *reterr)
{
        char name[64];
        struct stat status;
        dead_letter_file_write(letters->worker, number, DEAD_LETTER_LETTERS_SUFFIX, name);
        enum err_code code = letters_path(letters, name, letters->path, reterr);
        if (code != ERR_OK)
                return code;
        int flags = O_RDWR | O_NOFOLLOW | (fresh ? O_CREAT | O_EXCL : 0);
        letters->fd = disk_open(AT_FDCWD, letters->path, flags, 0600);
        if (letters->fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s", letters->path);
        if (disk_stat(letters->fd, &status) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s", letters->path);
        if (code == ERR_OK)
                code = letters_cut(letters, (uint64_t)status.st_size, reterr);
        if (code != ERR_OK) {
                letters_close(letters);
                return code;
        }
        letters->device = status.st_dev;
        letters->inode = status.st_ino;
        letters->file_named = false;
        letters->number = number;
        return ERR_OK;
}

/* Somebody may have removed it, or the folder: what is written into it then, no tool will ever see. */
static bool letters_is_there(const struct dead_letters *letters, uint64_t *ret_size_bytes)
{
        struct stat now;
        if (disk_stat_path(letters->path, &now) < 0 || now.st_dev != letters->device || now.st_ino != letters->inode)
                return false;
        *ret_size_bytes = (uint64_t)now.st_size;
        return true;
}

static enum err_code letters_open(struct dead_letters *letters, struct err *reterr)
{
        uint64_t newest, size_bytes;
        /* One that was emptied meanwhile is looked at anew: a line behind a hole would be none. */
        if (letters->fd >= 0 && letters_is_there(letters, &size_bytes) && size_bytes == letters->size_bytes)
                return ERR_OK;
        letters_close(letters);
        letters->folder_named = false;
        if (disk_make_directory(AT_FDCWD, letters->directory) < 0 && errno != EEXIST)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot create directory %s", letters->directory);
        enum err_code code = letters_count(letters, &newest, reterr);
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
static size_t letters_head(const struct dead_letters *letters, const struct dead_letter *letter, char *head)
{
        struct letters_text text = {.at = head, .end = head + DEAD_LETTER_HEAD_BYTES_MAX};
        struct dead_letter_id id = {
                .worker = letters->worker, .number = letters->number, .offset = letters->size_bytes};
        char id_text[DEAD_LETTER_ID_BYTES_MAX];
        uint8_t time[32];
        size_t time_bytes = codec_time_write(clock_realtime_ms(), time);
        dead_letter_id_write(&id, id_text);
        text.at += snprintf(text.at, DEAD_LETTER_HEAD_BYTES_MAX, "{\"id\":\"%s\",\"time\":\"%.*s\"", id_text,
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
        return (size_t)(text.at - head);
}
_Static_assert(6 * (511 + 2 * LIMIT_NAME_BYTES_MAX + 256) + 512 + LETTERS_TAIL_BYTES < DEAD_LETTER_HEAD_BYTES_MAX,
               "the head has room, and so has what stands behind the event");

/* The whole line. */
static void letters_compose(struct dead_letters *letters, const struct dead_letter *letter)
{
        static const char between[] = ",\"msgpack\":\"";
        struct slice json = letter->json.len > 0 ? letter->json : SLICE("null");
        struct codec_base64 state = {.waiting_count = 0};
        uint8_t *at = letters->line;
        at += letters_head(letters, letter, (char *)at);
        memcpy(at, json.ptr, json.len);
        at += json.len;
        memcpy(at, between, sizeof(between) - 1);
        at += sizeof(between) - 1;
        at += codec_base64_append(&state, letter->msgpack, at);
        at += codec_base64_finish(&state, at);
        *at++ = '"';
        uint32_t crc = crc32c(0, letters->line, (size_t)(at - letters->line));
        at += snprintf((char *)at, LETTERS_TAIL_BYTES, ",\"crc32c\":\"%08" PRIx32 "\"}\n", crc);
        letters->line_bytes = (size_t)(at - letters->line);
        letters->line_written = 0;
        ASSERT(letters->line_bytes <= DEAD_LETTER_LINE_BYTES_MAX);
}

/* ---------------------------------------------------------------------------------------------- on its way */

static void letters_finish(struct dead_letters *letters, enum err_code code)
{
        letters->state = LETTERS_IDLE;
        letters->done(letters->context, code, &letters->why); /* the last access: it may write another */
}

/* A torn line must not stay; after a failed sync neither must one that is perhaps not on the disk. Opened again, the
 * file is cut behind its last whole line where this does not work. */
static void letters_fail(struct dead_letters *letters, enum err_code code)
{
        (void)disk_truncate(letters->fd, letters->size_bytes);
        letters_close(letters);
        letters_finish(letters, code);
}

static void letters_fail_errno(struct dead_letters *letters, const char *what, const char *path, int error)
{
        letters_fail(letters, err_set_errno(&letters->why, ERR_SYSTEM, error, "cannot %s %s", what, path));
}

static void letters_next(struct dead_letters *letters);

static void letters_folder_done(struct io_op *op, int32_t result, bool more)
{
        struct dead_letters *letters = (struct dead_letters *)op;
        ASSERT(letters->state == LETTERS_SYNCING_FOLDER);
        ASSERT(!more);
        (void)disk_close(letters->folder_fd); /* a directory: nothing is buffered */
        letters->folder_fd = -1;
        if (io_sync_directory_failed(result) && result != -EINTR) {
                letters_fail_errno(letters, "sync", letters->folder_named ? letters->directory : letters->other_path,
                                   -result);
                return;
        }
        if (result != -EINTR) {
                letters->file_named = letters->folder_named;
                letters->folder_named = true;
        }
        letters_next(letters);
}

static void letters_posted(struct io_op *op, int32_t result, bool more)
{
        struct dead_letters *letters = (struct dead_letters *)op;
        ASSERT(letters->state == LETTERS_FAILED);
        (void)result;
        (void)more;
        letters_fail(letters, letters->why.code);
}

/* Syncs the folder that has the name in question. */
static void letters_sync_folder(struct dead_letters *letters)
{
        const char *path = letters->directory;
        if (!letters->folder_named) {
                (void)file_directory_of(path, letters->other_path); /* it fits: a file in it did */
                path = letters->other_path;
        }
        letters->folder_fd = disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
        if (letters->folder_fd < 0) {
                (void)err_set_errno(&letters->why, ERR_SYSTEM, errno, "cannot open directory %s", path);
                letters->state = LETTERS_FAILED;
                letters->op.done = letters_posted;
                io_post(letters->loop, &letters->op);
                return;
        }
        letters->state = LETTERS_SYNCING_FOLDER;
        letters->op.done = letters_folder_done;
        io_sync_directory(letters->loop, &letters->op, letters->folder_fd);
}

static void letters_synced(struct io_op *op, int32_t result, bool more)
{
        struct dead_letters *letters = (struct dead_letters *)op;
        uint64_t size_bytes;
        ASSERT(letters->state == LETTERS_SYNCING);
        ASSERT(!more);
        if (result == -EINTR) {
                io_fdatasync(letters->loop, &letters->op, letters->fd);
        } else if (result < 0) {
                letters_fail_errno(letters, "sync", letters->path, -result);
        } else if (!letters_is_there(letters, &size_bytes)) {
                letters_fail(letters,
                             err_set(&letters->why, ERR_SYSTEM, "%s was removed while it was written", letters->path));
        } else {
                letters->size_bytes += letters->line_bytes;
                letters_finish(letters, ERR_OK);
        }
}

static void letters_wrote(struct io_op *op, int32_t result, bool more)
{
        struct dead_letters *letters = (struct dead_letters *)op;
        ASSERT(letters->state == LETTERS_WRITING);
        ASSERT(!more);
        if (result <= 0 && result != -EINTR) {
                letters_fail_errno(letters, "write", letters->path, result == 0 ? EIO : -result);
                return;
        }
        letters->line_written += result > 0 ? (size_t)result : 0;
        ASSERT(letters->line_written <= letters->line_bytes);
        letters_next(letters);
}

/* The next step of the line in flight. */
static void letters_next(struct dead_letters *letters)
{
        if (!letters->folder_named || !letters->file_named) {
                letters_sync_folder(letters);
        } else if (letters->line_written < letters->line_bytes) {
                letters->state = LETTERS_WRITING;
                letters->op.done = letters_wrote;
                io_write(letters->loop, &letters->op, letters->fd, letters->line + letters->line_written,
                         letters->line_bytes - letters->line_written, letters->size_bytes + letters->line_written);
        } else {
                letters->state = LETTERS_SYNCING;
                letters->op.done = letters_synced;
                io_fdatasync(letters->loop, &letters->op, letters->fd);
        }
}

enum err_code dead_letters_write(struct dead_letters *letters, const struct dead_letter *letter,
                                 void (*done)(void *context, enum err_code code, const struct err *why), void *context,
                                 struct err *reterr)
{
        ASSERT(letter->msgpack.len <= LIMIT_EVENT_BYTES_MAX);
        ASSERT(letter->json.len <= LIMIT_EVENT_JSON_BYTES_MAX);
        if (letters->state != LETTERS_IDLE)
                return err_set(reterr, ERR_BUSY, "another dead letter is being written");
        enum err_code code = letters_open(letters, reterr);
        if (code != ERR_OK)
                return code;
        const uint64_t base64_bytes = CODEC_BASE64_SIZE(letter->msgpack.len);
        code = letters_make_room(letters, DEAD_LETTER_HEAD_BYTES_MAX + letter->json.len + base64_bytes, reterr);
        if (code != ERR_OK)
                return code;
        letters_compose(letters, letter);
        letters->why = (struct err){0};
        letters->done = done;
        letters->context = context;
        letters_next(letters);
        return ERR_OK;
}

bool dead_letters_is_busy(const struct dead_letters *letters)
{
        return letters->state != LETTERS_IDLE;
}
