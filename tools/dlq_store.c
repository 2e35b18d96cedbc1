#include "tools/dlq_store.h"

#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A line that is being written, or cut off, while it is read: looked at again so often. */
#define DLQ_TRIES  10
#define DLQ_TRY_NS (10 * CLOCK_NS_PER_MS)
/* No file of ours is larger: one file and a line. */
#define DLQ_FILE_BYTES_MAX ((uint64_t)DEAD_LETTER_FILE_BYTES_MAX + DEAD_LETTER_LINE_BYTES_MAX + 1)

struct dlq_file {
        uint32_t worker;
        uint64_t number;
        uint64_t end; /* how much of it there was when it was listed */
        bool newest;  /* of its worker: the daemon may be appending */
};

struct dlq_store {
        char *directory;
        int fd, lock_fd; /* -1: there is no folder; reading */
        struct dlq_file *files;
        size_t files_count, files_room;
        struct dead_letter_settled *settled; /* of the file in hand, by offset */
        size_t settled_count, settled_room;
        uint64_t damaged;
        bool damage_told; /* by a walk that came to its end */
};

/* ---------------------------------------------------------------------------------------------- the folder */

static int dlq_compare_files(const void *left, const void *right)
{
        const struct dlq_file *a = left, *b = right;
        if (a->worker != b->worker)
                return a->worker < b->worker ? -1 : 1;
        return a->number < b->number ? -1 : a->number > b->number;
}

static int dlq_compare_settled(const void *left, const void *right)
{
        const struct dead_letter_settled *a = left, *b = right;
        return a->offset < b->offset ? -1 : a->offset > b->offset;
}

/* Lists the files as they are now. Those that come later are not looked at, nor what is appended later: what is
 * replayed may be dead again at once. None is renamed: nothing is missed that was there. */
static enum err_code dlq_list(struct dlq_store *store, struct err *reterr)
{
        int fd = openat(store->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *directory = fd < 0 ? NULL : fdopendir(fd);
        store->files_count = 0;
        if (directory == NULL) {
                int sys_errno = errno;
                if (fd >= 0)
                        (void)close(fd); /* a directory */
                return err_set_errno(reterr, ERR_SYSTEM, sys_errno, "cannot list %s", store->directory);
        }
        enum err_code code = ERR_OK;
        while (code == ERR_OK) {
                errno = 0;
                struct dirent *entry = readdir(directory);
                if (entry == NULL && errno != 0)
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot list %s", store->directory);
                if (entry == NULL)
                        break;
                struct dlq_file file = {.newest = false};
                struct stat status;
                if (!dead_letter_file_parse(slice_of_text(entry->d_name), SLICE(DEAD_LETTER_LETTERS_SUFFIX),
                                            &file.worker, &file.number))
                        continue;
                /* One that cannot be looked at is reported when it is read, or is gone. */
                if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
                        file.end = UINT64_MAX;
                else
                        file.end = (uint64_t)status.st_size;
                if (store->files_count == store->files_room) {
                        size_t room = store->files_room == 0 ? 64 : store->files_room * 2;
                        struct dlq_file *larger = realloc(store->files, room * sizeof(*larger));
                        if (larger == NULL) {
                                code = err_set(reterr, ERR_MEMORY, "out of memory");
                                break;
                        }
                        store->files = larger;
                        store->files_room = room;
                }
                store->files[store->files_count++] = file;
        }
        (void)closedir(directory); /* was only read */
        if (store->files_count > 1)
                qsort(store->files, store->files_count, sizeof(*store->files), dlq_compare_files);
        for (size_t i = 0; i < store->files_count; i++)
                store->files[i].newest =
                        i + 1 == store->files_count || store->files[i + 1].worker != store->files[i].worker;
        return code;
}

/* Opens a file of the folder for writing. Root's would lock out the folder's owner, whose daemon and tools they serve:
 * it is the owner's, also where an earlier root has made it. One with a second name may be anybody's file that the
 * owner has linked here, and is left alone. */
static int dlq_open_own(const struct dlq_store *store, const char *name, int flags)
{
        struct stat folder, file;
        int fd = openat(store->fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
        if (fd < 0 || geteuid() != 0)
                return fd;
        bool looked = fstat(store->fd, &folder) == 0 && fstat(fd, &file) == 0;
        if (looked && (file.st_uid != 0 || folder.st_uid == 0 || file.st_nlink != 1 || !S_ISREG(file.st_mode)))
                return fd;
        if (looked && fchown(fd, folder.st_uid, folder.st_gid) == 0)
                return fd;
        int sys_errno = errno;
        (void)close(fd); /* nothing was written */
        errno = sys_errno;
        return -1;
}

enum err_code dlq_store_open(const char *directory, bool writing, struct dlq_store **ret_store, struct err *reterr)
{
        struct dlq_store *store = calloc(1, sizeof(*store));
        if (store == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory");
        enum err_code code = ERR_OK;
        store->fd = store->lock_fd = -1;
        store->directory = strdup(directory);
        if (store->directory == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory");
                goto out;
        }
        store->fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (store->fd < 0 && errno != ENOENT)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s", directory);
        if (store->fd < 0)
                goto out;
        if (writing) {
                store->lock_fd = dlq_open_own(store, "lock", 0);
                if (store->lock_fd < 0)
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s/lock", directory);
                else if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0)
                        code = err_set(reterr, ERR_LOCKED, "another sendring dlq is at work in %s: wait for it",
                                       directory);
        }
        if (code == ERR_OK)
                code = dlq_list(store, reterr);
out:
        if (code == ERR_OK)
                *ret_store = store;
        else
                dlq_store_close(store);
        return code;
}

void dlq_store_close(struct dlq_store *store)
{
        if (store == NULL)
                return;
        if (store->lock_fd >= 0)
                (void)close(store->lock_fd); /* releases the lock */
        if (store->fd >= 0)
                (void)close(store->fd); /* a directory */
        free(store->files);
        free(store->settled);
        free(store->directory);
        free(store);
}

uint64_t dlq_store_damaged(const struct dlq_store *store)
{
        return store->damaged;
}

/* ---------------------------------------------------------------------------------------------- reading */

/* From `offset` to its end, in malloc()ed memory, NULL and ERR_OK when the file is gone. */
static enum err_code dlq_read(struct dlq_store *store, const char *name, uint64_t offset, uint8_t **ret_bytes,
                              size_t *ret_len, struct err *reterr)
{
        struct stat status;
        enum err_code code = ERR_OK;
        uint8_t *bytes = NULL;
        size_t len = 0;
        *ret_bytes = NULL;
        *ret_len = 0;
        int fd = openat(store->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT)
                return ERR_OK;
        if (fd < 0 || fstat(fd, &status) < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot read %s/%s", store->directory, name);
        } else if ((uint64_t)status.st_size > DLQ_FILE_BYTES_MAX) {
                code = err_set(reterr, ERR_TOO_BIG, "%s/%s is larger than any file of dead letters", store->directory,
                               name);
        } else if ((uint64_t)status.st_size > offset) {
                len = (size_t)((uint64_t)status.st_size - offset);
                bytes = malloc(len);
                if (bytes == NULL)
                        code = err_set(reterr, ERR_MEMORY, "out of memory");
        }
        size_t done = 0;
        while (code == ERR_OK && done < len) {
                ssize_t got = pread(fd, bytes + done, len - done, (off_t)(offset + done));
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot read %s/%s", store->directory, name);
                if (got <= 0)
                        break; /* it was cut meanwhile */
                done += (size_t)got;
        }
        if (fd >= 0)
                (void)close(fd); /* was only read */
        if (code != ERR_OK) {
                free(bytes);
                return code;
        }
        *ret_bytes = bytes;
        *ret_len = done;
        return ERR_OK;
}

static enum err_code dlq_load_settled(struct dlq_store *store, const struct dlq_file *file, struct err *reterr)
{
        char name[64];
        uint8_t *bytes;
        size_t len;
        dead_letter_file_write(file->worker, file->number, DEAD_LETTER_SETTLED_SUFFIX, name);
        enum err_code code = dlq_read(store, name, 0, &bytes, &len, reterr);
        struct slice rest = slice_of(bytes, len);
        store->settled_count = 0;
        while (code == ERR_OK && rest.len > 0) {
                struct dead_letter_settled settled;
                size_t end = slice_find_byte(rest, '\n');
                /* A torn line marks nothing; what it was for comes again. */
                bool whole = end < rest.len && dead_letter_settled_parse(slice_head(rest, end), &settled);
                rest = slice_from(rest, end + 1);
                if (!whole)
                        continue;
                if (store->settled_count == store->settled_room) {
                        size_t room = store->settled_room == 0 ? 256 : store->settled_room * 2;
                        struct dead_letter_settled *larger = realloc(store->settled, room * sizeof(*larger));
                        if (larger == NULL) {
                                code = err_set(reterr, ERR_MEMORY, "out of memory");
                                break;
                        }
                        store->settled = larger;
                        store->settled_room = room;
                }
                store->settled[store->settled_count++] = settled;
        }
        free(bytes);
        if (store->settled_count > 1)
                qsort(store->settled, store->settled_count, sizeof(*store->settled), dlq_compare_settled);
        return code;
}

static bool dlq_is_settled(const struct dlq_store *store, uint64_t offset, uint32_t crc)
{
        size_t low = 0, high = store->settled_count;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (store->settled[middle].offset < offset)
                        low = middle + 1;
                else
                        high = middle;
        }
        for (; low < store->settled_count && store->settled[low].offset == offset; low++)
                if (store->settled[low].crc == crc)
                        return true;
        return false;
}

/* A file in hand, from `begin` on. */
struct dlq_walk {
        struct dlq_store *store;
        const struct dlq_file *file;
        char name[64];
        uint8_t *bytes;
        size_t len;
        uint64_t begin; /* offset of bytes[0] in the file */
        size_t at;
};

static enum err_code dlq_walk_load(struct dlq_walk *walk, uint64_t offset, struct err *reterr)
{
        free(walk->bytes);
        walk->bytes = NULL;
        walk->len = 0;
        walk->begin = offset;
        walk->at = 0;
        return dlq_read(walk->store, walk->name, offset, &walk->bytes, &walk->len, reterr);
}

/* The next line. ERR_EMPTY: that was the last whole one. *ret_line is a copy that the letter's unescaping leaves alone,
 * the caller's to free. Other errors: with a line, it is no letter, and passed over; without one, the file cannot be
 * read, or memory is out. */
static enum err_code dlq_walk_next(struct dlq_walk *walk, struct dead_letter *ret_letter, uint8_t **ret_line,
                                   size_t *ret_len, struct err *reterr)
{
        enum err_code code = ERR_OK;
        for (int tries = 0;; tries++) {
                struct slice rest = slice_from(slice_of(walk->bytes, walk->len), walk->at);
                size_t end = slice_find_byte(rest, '\n');
                if (rest.len == 0)
                        return ERR_EMPTY;
                /* What the daemon leaves behind ends with a whole line; only in the newest it may have died in one. */
                if (end < rest.len || !walk->file->newest) {
                        uint8_t *line = malloc(end + 1);
                        if (line == NULL)
                                return err_set(reterr, ERR_MEMORY, "out of memory");
                        memcpy(line, rest.ptr, end);
                        if (end < rest.len)
                                code = dead_letter_parse(walk->bytes + walk->at, end, ret_letter, reterr);
                        else
                                code = err_set(reterr, ERR_CORRUPT, "its end is missing");
                        if (code == ERR_OK && (ret_letter->id.worker != walk->file->worker ||
                                               ret_letter->id.number != walk->file->number ||
                                               ret_letter->id.offset != walk->begin + walk->at))
                                code = err_set(reterr, ERR_CORRUPT, "it does not stand where it was written");
                        if (code == ERR_OK || !walk->file->newest || tries == DLQ_TRIES) {
                                walk->at += end + 1;
                                *ret_line = line;
                                *ret_len = end;
                                return code;
                        }
                        free(line);
                } else if (tries == DLQ_TRIES) {
                        /* The daemon died in it, or writes it now. */
                        return ERR_EMPTY;
                }
                /* It may have been read while it was written or cut off. */
                clock_sleep_ns(DLQ_TRY_NS);
                code = dlq_walk_load(walk, walk->begin + walk->at, reterr);
                if (code != ERR_OK)
                        return code; /* not its end: what stands behind is not known */
        }
}

/* Who is told of what is there. Either may be NULL. */
struct dlq_visitor {
        dlq_each *each;
        dlq_each_damaged *damaged;
        void *context;
};

/* A line that is no letter. Returns whether to go on. */
static bool dlq_walk_damaged(struct dlq_walk *walk, const struct dlq_visitor *visitor, const struct dlq_mark *mark,
                             uint64_t bytes, const struct err *why)
{
        struct dlq_store *store = walk->store;
        if (!store->damage_told) {
                store->damaged++;
                (void)fprintf(stderr, "%s/%s: the line at %" PRIu64 ", %" PRIu64 " bytes, is no dead letter: %s\n",
                              store->directory, walk->name, mark->id.offset, bytes, why->text);
        }
        return visitor->damaged == NULL || visitor->damaged(visitor->context, mark, bytes);
}

/* Every line of one file that is not settled; with a visitor, only those that were there when it was listed. *ret_left:
 * those, up to where it stopped. */
static enum err_code dlq_walk_file(struct dlq_store *store, const struct dlq_file *file,
                                   const struct dlq_visitor *visitor, bool *ret_go, uint64_t *ret_left,
                                   struct err *reterr)
{
        struct dlq_walk walk = {.store = store, .file = file};
        dead_letter_file_write(file->worker, file->number, DEAD_LETTER_LETTERS_SUFFIX, walk.name);
        enum err_code code = dlq_load_settled(store, file, reterr);
        if (code == ERR_OK)
                code = dlq_walk_load(&walk, 0, reterr);
        *ret_left = 0;
        while (code == ERR_OK && *ret_go) {
                struct dead_letter letter;
                struct err err = {.text = ""};
                uint8_t *line = NULL;
                size_t line_bytes = 0;
                struct dlq_mark mark = {.id = {.worker = file->worker, .number = file->number}};
                mark.id.offset = walk.begin + walk.at;
                if (visitor != NULL && mark.id.offset >= file->end)
                        break;
                enum err_code one = dlq_walk_next(&walk, &letter, &line, &line_bytes, &err);
                if (line == NULL) {
                        code = one == ERR_EMPTY ? ERR_OK : err_set(reterr, one, "%s", err.text);
                        break;
                }
                mark.crc = one == ERR_OK ? letter.crc : dead_letter_damaged_crc(slice_of(line, line_bytes));
                if (!dlq_is_settled(store, mark.id.offset, mark.crc)) {
                        (*ret_left)++;
                        if (visitor != NULL && one != ERR_OK)
                                *ret_go = dlq_walk_damaged(&walk, visitor, &mark, line_bytes, &err);
                        else if (visitor != NULL && visitor->each != NULL)
                                *ret_go = visitor->each(visitor->context, &letter, slice_of(line, line_bytes));
                }
                free(line);
        }
        free(walk.bytes);
        return code;
}

static enum err_code dlq_store_visit(struct dlq_store *store, const struct dlq_visitor *visitor, struct err *reterr)
{
        enum err_code code = ERR_OK;
        bool go = true;
        for (size_t i = 0; i < store->files_count && code == ERR_OK && go; i++) {
                uint64_t left;
                code = dlq_walk_file(store, &store->files[i], visitor, &go, &left, reterr);
        }
        store->damage_told |= code == ERR_OK && go;
        return code;
}

enum err_code dlq_store_each(struct dlq_store *store, dlq_each *each, void *context, struct err *reterr)
{
        return dlq_store_visit(store, &(struct dlq_visitor){.each = each, .context = context}, reterr);
}

enum err_code dlq_store_each_damaged(struct dlq_store *store, dlq_each_damaged *each, void *context, struct err *reterr)
{
        return dlq_store_visit(store, &(struct dlq_visitor){.damaged = each, .context = context}, reterr);
}

/* ---------------------------------------------------------------------------------------------- settling */

/* Cuts off what a kill has left behind the last whole line. */
static bool dlq_cut_torn(int fd)
{
        struct stat status;
        char byte;
        if (fstat(fd, &status) < 0)
                return false;
        off_t end = status.st_size;
        /* A line is short. */
        while (end > 0 && pread(fd, &byte, 1, end - 1) == 1 && byte != '\n')
                end--;
        return end == status.st_size || ftruncate(fd, end) == 0;
}

static enum err_code dlq_append(struct dlq_store *store, const struct dlq_mark *marks, size_t count, bool dropped,
                                struct err *reterr)
{
        char name[64];
        dead_letter_file_write(marks->id.worker, marks->id.number, DEAD_LETTER_SETTLED_SUFFIX, name);
        char *text = malloc(count * DEAD_LETTER_SETTLED_BYTES_MAX);
        if (text == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory");
        size_t len = 0;
        for (size_t i = 0; i < count; i++) {
                struct dead_letter_settled settled = {
                        .offset = marks[i].id.offset, .crc = marks[i].crc, .dropped = dropped};
                len += dead_letter_settled_write(&settled, &marks[i].id, clock_realtime_ms(), text + len);
        }
        int fd = dlq_open_own(store, name, O_APPEND);
        bool good = fd >= 0 && dlq_cut_torn(fd) && write(fd, text, len) == (ssize_t)len && fdatasync(fd) == 0 &&
                    fsync(store->fd) == 0;
        enum err_code code = good ? ERR_OK
                                  : err_set_errno(reterr, ERR_SYSTEM, errno == 0 ? ENOSPC : errno, "cannot write %s/%s",
                                                  store->directory, name);
        if (fd >= 0)
                (void)close(fd); /* synced, or said to have failed */
        free(text);
        return code;
}

enum err_code dlq_store_settle(struct dlq_store *store, const struct dlq_mark *marks, size_t count, bool dropped,
                               struct err *reterr)
{
        enum err_code code = ERR_OK;
        for (size_t from = 0, to; from < count && code == ERR_OK; from = to) {
                for (to = from + 1; to < count && marks[to].id.worker == marks[from].id.worker &&
                                    marks[to].id.number == marks[from].id.number;)
                        to++;
                errno = 0;
                code = dlq_append(store, marks + from, to - from, dropped, reterr);
        }
        return code;
}

void dlq_store_sweep(struct dlq_store *store)
{
        char name[64];
        struct err err;
        if (store->fd < 0 || store->lock_fd < 0 || dlq_list(store, &err) != ERR_OK)
                return;
        for (size_t i = 0; i < store->files_count; i++) {
                const struct dlq_file *file = &store->files[i];
                uint64_t left = 1;
                bool go = true;
                if (file->newest || dlq_walk_file(store, file, NULL, &go, &left, &err) != ERR_OK || left > 0)
                        continue;
                /* The letters first: a kill in between leaves marks without letters, and never letters without. */
                dead_letter_file_write(file->worker, file->number, DEAD_LETTER_LETTERS_SUFFIX, name);
                if (unlinkat(store->fd, name, 0) < 0)
                        continue; /* the next one tries again */
                dead_letter_file_write(file->worker, file->number, DEAD_LETTER_SETTLED_SUFFIX, name);
                (void)unlinkat(store->fd, name, 0); /* as below */
        }
        /* Marks whose letters are gone. */
        int fd = openat(store->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *directory = fd < 0 ? NULL : fdopendir(fd);
        for (struct dirent *entry = directory == NULL ? NULL : readdir(directory); entry != NULL;
             entry = readdir(directory)) {
                uint32_t worker;
                uint64_t number;
                if (!dead_letter_file_parse(slice_of_text(entry->d_name), SLICE(DEAD_LETTER_SETTLED_SUFFIX), &worker,
                                            &number))
                        continue;
                dead_letter_file_write(worker, number, DEAD_LETTER_LETTERS_SUFFIX, name);
                if (faccessat(store->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
                        (void)unlinkat(store->fd, entry->d_name, 0); /* the next one tries again */
        }
        if (directory != NULL)
                (void)closedir(directory); /* was only read */
        else if (fd >= 0)
                (void)close(fd); /* a directory */
}
