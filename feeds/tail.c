#include "feeds/tail.h"

#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAIL_READ_BYTES 65536u
#define TAIL_WAIT_MS    100
/* A rotated file is left when it was quiet for so long: daemons change over one by one. */
#define TAIL_QUIET_MS 2000
/* ... or after so long anyway. */
#define TAIL_CHANGE_MS_MAX 60000
/* Rotated files that were read to their end and are known as such: as many as rotation keeps, at most. */
#define TAIL_PASSED_MAX 64u

struct tail {
        struct tail_options options;
        char path[PATH_MAX];
        int fd;      /* -1: the followed file is not there yet */
        bool stream; /* standard input, a pipe, a terminal: there is no position in it */
        struct stat status;
        struct tail_position position; /* but for its head */
        struct tail_position wanted;   /* to go on from, as long as nothing is open; inode 0: there is none */
        uint8_t head[TAIL_HEAD_BYTES]; /* the file's beginning, as far as it was read */
        size_t head_len;
        uint8_t *buffer;
        size_t room, begin, end; /* buffer[begin..end) is not given out yet */
        size_t scanned;          /* of it without a newline */
        bool skipping;           /* in the rest of a line that is too long */
        bool ended;              /* end of a file that nobody appends to */
        bool last;               /* it is not the followed one any more, and quiet: read it to its end */
        struct tail_position passed[TAIL_PASSED_MAX]; /* where files were left in this run; the newest ones */
        uint32_t passed_count;
        uint64_t other_ns; /* since when the name belongs to another file; 0: it does not */
        char notice[512], taken[512];
        uint64_t missed_bytes; /* by cuts, and in files that passed[] has no more; as far as is known */
        uint64_t passed_missed[TAIL_PASSED_MAX]; /* what was written to those of passed[] since */
};

static bool tail_is_stdin(const struct tail *tail)
{
        return strcmp(tail->path, "-") == 0;
}

/* ---------------------------------------------------------------------------------------------- which file */

static uint64_t tail_sum(const uint8_t *bytes, size_t len)
{
        uint64_t hash = UINT64_C(14695981039346656037);
        for (size_t i = 0; i < len; i++)
                hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
        return hash;
}

/* The sum over the first `want` bytes; false when the file has fewer. */
static bool tail_head_sum(int fd, uint64_t want, uint64_t *ret_sum)
{
        uint8_t head[TAIL_HEAD_BYTES];
        if (want > sizeof(head))
                return false;
        ssize_t got = want == 0 ? 0 : pread(fd, head, (size_t)want, 0);
        if (got != (ssize_t)want)
                return false;
        *ret_sum = tail_sum(head, (size_t)want);
        return true;
}

static bool tail_has_head(const char *path, const struct tail_position *position)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        uint64_t sum = 0;
        bool same = fd >= 0 && tail_head_sum(fd, position->head_bytes, &sum) && sum == position->head_sum;
        if (fd >= 0)
                (void)close(fd); /* was only read */
        return same;
}

static bool tail_same_file(const struct stat *a, const struct stat *b)
{
        return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool tail_is_compressed(const char *name)
{
        static const char *const ends[] = {".gz", ".bz2", ".xz", ".zst", ".lz4"};
        size_t len = strlen(name);
        for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
                if (len > strlen(ends[i]) && strcmp(name + len - strlen(ends[i]), ends[i]) == 0)
                        return true;
        return false;
}

static bool tail_before(const struct timespec *a, const struct timespec *b)
{
        return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

/* The directory of `path`, with its slash, and the name in it; NULL when that is too long. */
static const char *tail_split(const char *path, char ret_directory[PATH_MAX])
{
        const char *slash = strrchr(path, '/');
        int used = slash == NULL ? snprintf(ret_directory, PATH_MAX, "./")
                                 : snprintf(ret_directory, PATH_MAX, "%.*s", (int)(slash - path + 1), path);
        if (used < 0 || used >= PATH_MAX)
                return NULL;
        return slash == NULL ? path : slash + 1;
}

/* `name` itself, or what rotation makes of it: a number, a date or a time behind it (mail.log.1, mail.log-20261127), or
 * ".old". Not mail.info beside mail, nor a copy that a person made, nor a checkpoint: these are no past of this log. */
static bool tail_is_rotated_name(const char *candidate, const char *name)
{
        size_t len = strlen(name);
        if (strncmp(candidate, name, len) != 0)
                return false;
        const char *rest = candidate + len;
        if (*rest == '\0' || strcmp(rest, ".old") == 0)
                return true;
        return (*rest == '.' || *rest == '-' || *rest == '_') && rest[1] >= '0' && rest[1] <= '9' &&
               rest[strspn(rest, "0123456789.-_:+TZ")] == '\0';
}

bool tail_would_read(const char *followed, const char *path)
{
        char followed_directory[PATH_MAX], directory[PATH_MAX];
        struct stat followed_status, status;
        const char *followed_name = tail_split(followed, followed_directory);
        const char *name = tail_split(path, directory);
        if (followed_name == NULL || name == NULL || !tail_is_rotated_name(name, followed_name))
                return false;
        return stat(followed_directory, &followed_status) == 0 && stat(directory, &status) == 0 &&
               tail_same_file(&followed_status, &status);
}

/* Calls for each regular file beside the followed one, itself included, whose name says that it was rotated away from
 * it; with `any_name` for all whose names begin with its name. */
typedef bool tail_visit(void *context, const char *path, const struct stat *status); /* false: enough */

static void tail_each_sibling(const struct tail *tail, bool any_name, tail_visit *visit, void *context)
{
        char directory[PATH_MAX], path[PATH_MAX];
        const char *name = tail_split(tail->path, directory);
        if (name == NULL)
                return;
        DIR *list = opendir(directory);
        if (list == NULL)
                return;
        for (struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
                struct stat status;
                if (any_name ? strncmp(entry->d_name, name, strlen(name)) != 0 || tail_is_compressed(entry->d_name)
                             : !tail_is_rotated_name(entry->d_name, name))
                        continue;
                int used = snprintf(path, sizeof(path), "%s%s", directory, entry->d_name);
                if (used < 0 || (size_t)used >= sizeof(path) || stat(path, &status) < 0 || !S_ISREG(status.st_mode))
                        continue;
                if (!visit(context, path, &status))
                        break;
        }
        (void)closedir(list); /* was only read */
}

/* Whether the file is the one of the position. A device may have another number after each boot: a whole beginning
 * tells without it. */
static bool tail_is_of(const char *path, const struct stat *status, const struct tail_position *position)
{
        if ((uint64_t)status->st_ino != position->inode ||
            ((uint64_t)status->st_dev != position->device && position->head_bytes < TAIL_HEAD_BYTES))
                return false;
        return tail_has_head(path, position);
}

/* Where the file was left in this run, or NULL. A packed one that somebody unpacked again is another file with the same
 * beginning, and exactly as long. */
static const struct tail_position *tail_find_passed(const struct tail *tail, const char *path,
                                                    const struct stat *status)
{
        uint32_t count = tail->passed_count < TAIL_PASSED_MAX ? tail->passed_count : TAIL_PASSED_MAX;
        for (uint32_t i = 0; i < count; i++) {
                const struct tail_position *passed = &tail->passed[i];
                if ((uint64_t)status->st_size < passed->offset)
                        continue;
                bool copy = passed->head_bytes == TAIL_HEAD_BYTES && (uint64_t)status->st_size == passed->offset;
                if (tail_is_of(path, status, passed) || (copy && tail_has_head(path, passed)))
                        return passed;
        }
        return NULL;
}

struct tail_search {
        const struct tail *tail;
        const struct tail_position *position; /* looked for */
        const struct stat *after; /* or: the oldest with bytes in it that was changed after this one, and not passed */
        char path[PATH_MAX];
        struct stat status;
        bool found;
        char written_path[300]; /* a passed one that was written to since */
        const struct tail_position *written;
        uint64_t written_bytes;
};

static bool tail_search_visit(void *context, const char *path, const struct stat *status)
{
        struct tail_search *search = context;
        if (search->position != NULL) {
                if (!tail_is_of(path, status, search->position))
                        return true;
        } else {
                if (status->st_size == 0 || tail_same_file(status, search->after) ||
                    !tail_before(&search->after->st_mtim, &status->st_mtim))
                        return true;
                const struct tail_position *passed = tail_find_passed(search->tail, path, status);
                if (passed != NULL && (uint64_t)status->st_size > passed->offset) {
                        (void)snprintf(search->written_path, sizeof(search->written_path), "%s", path);
                        search->written = passed;
                        search->written_bytes = (uint64_t)status->st_size - passed->offset;
                }
                if (passed != NULL || (search->found && !tail_before(&status->st_mtim, &search->status.st_mtim)))
                        return true;
        }
        search->found = true;
        search->status = *status;
        (void)snprintf(search->path, sizeof(search->path), "%s", path); /* the same size */
        return search->position == NULL;
}

/* Reads the open file, whose status is known, from `offset` on. */
static void tail_begin(struct tail *tail, uint64_t offset)
{
        tail->begin = tail->end = tail->scanned = 0;
        tail->skipping = tail->ended = tail->last = false;
        tail->other_ns = 0;
        tail->position = (struct tail_position){
                .device = (uint64_t)tail->status.st_dev,
                .inode = (uint64_t)tail->status.st_ino,
                .offset = offset,
        };
        ssize_t got =
                offset == 0 ? 0 : pread(tail->fd, tail->head, offset < TAIL_HEAD_BYTES ? offset : TAIL_HEAD_BYTES, 0);
        tail->head_len = got < 0 ? 0 : (size_t)got; /* then it is known by its inode alone */
}

static enum err_code tail_open_file(struct tail *tail, const char *path, uint64_t offset, struct err *reterr)
{
        struct stat status;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "open %s", path);
        enum err_code code = ERR_OK;
        /* A pipe has only its beginning. */
        if (fstat(fd, &status) < 0 || (offset > 0 && lseek(fd, (off_t)offset, SEEK_SET) < 0))
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "read %s", path);
        else if (S_ISDIR(status.st_mode))
                code = err_set_errno(reterr, ERR_SYSTEM, EISDIR, "read %s", path);
        else if (!S_ISREG(status.st_mode) && (tail->options.follow || tail->options.resumable))
                code = err_set(reterr, ERR_SYSTEM, "%s is no regular file: it has no position to go on from", path);
        if (code != ERR_OK) {
                (void)close(fd); /* nothing was written */
                return code;
        }
        if (tail->fd >= 0)
                (void)close(tail->fd); /* was only read */
        tail->fd = fd;
        tail->status = status;
        tail->stream = !S_ISREG(status.st_mode);
        tail_begin(tail, offset);
        return ERR_OK;
}

static enum err_code tail_open_position(struct tail *tail, const struct tail_search *search, struct err *reterr)
{
        uint64_t offset = tail->wanted.offset;
        if (offset > (uint64_t)search->status.st_size) {
                (void)snprintf(tail->notice, sizeof(tail->notice), "%.300s was cut short: reading from its beginning",
                               search->path);
                offset = 0;
        }
        enum err_code code = tail_open_file(tail, search->path, offset, reterr);
        if (code == ERR_OK && offset > 0)
                tail->position.line = tail->wanted.line;
        return code;
}

/* Where the position says, or else at the beginning. ERR_OK and nothing open: the followed file is not there yet. Its
 * directory may be on a disk that is mounted later, so the position is looked for until it is. */
static enum err_code tail_open_first(struct tail *tail, struct err *reterr)
{
        struct tail_search search = {.tail = tail, .position = &tail->wanted};
        struct stat named, since = {.st_ino = 0}; /* no file's */
        struct tail_search later = {.tail = tail, .after = &since};
        struct err err = {.sys_errno = 0};
        enum err_code code = ERR_OK;
        /* Looked at before the search: what comes in between is for the next look. */
        bool there = stat(tail->path, &named) == 0 || errno != ENOENT;
        if (tail->wanted.inode != 0) /* with its beginning it is known under any name, else it may be another one */
                tail_each_sibling(tail, tail->wanted.head_bytes > 0, tail_search_visit, &search);
        bool begin = !search.found && (there || !tail->options.follow);
        if (begin && tail->wanted.inode != 0 && tail->wanted.changed_ns != 0) {
                since.st_mtim.tv_sec = (time_t)(tail->wanted.changed_ns / CLOCK_NS_PER_S);
                since.st_mtim.tv_nsec = (long)(tail->wanted.changed_ns % CLOCK_NS_PER_S);
                tail_each_sibling(tail, false, tail_search_visit, &later);
                /* copytruncate: the copy has what was not read. */
                if (later.found && tail->wanted.head_bytes == TAIL_HEAD_BYTES &&
                    tail->wanted.offset <= (uint64_t)later.status.st_size && tail_has_head(later.path, &tail->wanted))
                        search = later;
        }
        if (search.found)
                code = tail_open_position(tail, &search, &err);
        else if (begin)
                code = tail_open_file(tail, later.found ? later.path : tail->path, 0, &err);
        if (code != ERR_OK && tail->options.follow && err.sys_errno == ENOENT)
                code = ERR_OK; /* awaited */
        if (code != ERR_OK && reterr != NULL)
                *reterr = err;
        if (tail->fd < 0 || code != ERR_OK)
                return code;
        if (tail->wanted.inode != 0 && !search.found)
                (void)snprintf(tail->notice, sizeof(tail->notice),
                               "the file read last (inode %llu) is gone or compressed: lines that were not read from "
                               "it are missed; going on with %.300s",
                               (unsigned long long)tail->wanted.inode, later.found ? later.path : tail->path);
        tail->wanted.inode = 0;
        return ERR_OK;
}

enum err_code tail_open(const struct tail_options *options, struct tail **ret_tail, struct err *reterr)
{
        struct tail *tail = calloc(1, sizeof(*tail));
        if (tail == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory");
        tail->options = *options;
        tail->fd = -1;
        tail->room = options->line_bytes_max + TAIL_READ_BYTES;
        tail->buffer = malloc(tail->room);
        int used = snprintf(tail->path, sizeof(tail->path), "%s", options->path);
        enum err_code code = ERR_OK;
        if (tail->buffer == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory");
        } else if (used < 0 || (size_t)used >= sizeof(tail->path)) {
                code = err_set(reterr, ERR_TOO_BIG, "the path is too long");
        } else if (tail_is_stdin(tail)) {
                tail->fd = STDIN_FILENO;
                tail->stream = true;
                tail->options.follow = tail->options.resumable = false;
        } else {
                if (options->position != NULL)
                        tail->wanted = *options->position;
                bool fresh = tail->wanted.inode == 0;
                code = tail_open_first(tail, reterr);
                if (code == ERR_OK && tail->fd >= 0 && fresh && options->from_end && options->follow)
                        code = tail_open_file(tail, tail->path, (uint64_t)tail->status.st_size, reterr);
        }
        if (code != ERR_OK) {
                tail_close(tail);
                return code;
        }
        *ret_tail = tail;
        return ERR_OK;
}

void tail_close(struct tail *tail)
{
        if (tail == NULL)
                return;
        if (tail->fd > STDIN_FILENO)
                (void)close(tail->fd); /* was only read */
        free(tail->buffer);
        free(tail);
}

/* ---------------------------------------------------------------------------------------------- lines */

/* Gives out buffer[begin..begin+len), which ends behind a newline unless it is the file's last. */
static enum tail_result tail_give(struct tail *tail, size_t len, bool newline, struct slice *ret_line)
{
        struct slice line = slice_of(tail->buffer + tail->begin, newline ? len - 1 : len);
        bool was_skipping = tail->skipping;
        tail->begin += len;
        tail->scanned = 0;
        tail->skipping = false;
        tail->position.offset += len;
        tail->position.line++;
        if (was_skipping)
                return TAIL_WAIT; /* the end of a line that was told before */
        *ret_line = line;
        return line.len > tail->options.line_bytes_max ? TAIL_LONG : TAIL_LINE;
}

/* From the buffer: a line, or TAIL_WAIT when there is no whole one. */
static enum tail_result tail_buffered(struct tail *tail, struct slice *ret_line)
{
        for (;;) {
                /* Behind a cut, who writes without O_APPEND goes on where he was: there is a hole before it. */
                for (; !tail->skipping && tail->begin < tail->end && tail->buffer[tail->begin] == '\0'; tail->begin++)
                        tail->position.offset++;
                size_t have = tail->end - tail->begin;
                uint8_t *newline = have == tail->scanned ? NULL
                                                         : memchr(tail->buffer + tail->begin + tail->scanned, '\n',
                                                                  have - tail->scanned);
                if (newline != NULL) {
                        enum tail_result result =
                                tail_give(tail, (size_t)(newline - tail->buffer) - tail->begin + 1, true, ret_line);
                        if (result != TAIL_WAIT)
                                return result;
                        continue;
                }
                tail->scanned = have;
                if (have <= tail->options.line_bytes_max)
                        return TAIL_WAIT;
                /* Too long: its beginning is told once, the rest is left out as it comes. A restart in between takes
                 * the rest for a line of its own. */
                bool told = tail->skipping;
                *ret_line = slice_of(tail->buffer + tail->begin, have);
                tail->skipping = true;
                tail->begin += have;
                tail->position.offset += have;
                tail->scanned = 0;
                return told ? TAIL_WAIT : TAIL_LONG;
        }
}

/* The offset up to which the file is in the buffer, or was. */
static uint64_t tail_read_to(const struct tail *tail)
{
        return tail->position.offset + (tail->end - tail->begin);
}

/* Reads more. 1: got some; 0: nothing now or the end; -1: failed. */
static int tail_fill(struct tail *tail, struct err *reterr)
{
        if (tail->begin > 0) {
                memmove(tail->buffer, tail->buffer + tail->begin, tail->end - tail->begin);
                tail->end -= tail->begin;
                tail->begin = 0;
        }
        if (tail->stream) {
                struct pollfd ready = {.fd = tail->fd, .events = POLLIN};
                int count = poll(&ready, 1, TAIL_WAIT_MS);
                if (count == 0 || (count < 0 && errno == EINTR))
                        return 0;
        }
        ssize_t got = read(tail->fd, tail->buffer + tail->end, tail->room - tail->end);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (got < 0) {
                (void)err_set_errno(reterr, ERR_SYSTEM, errno, "read %s", tail->path); /* told by the result */
                return -1;
        }
        if (got == 0) {
                tail->ended = true;
                return 0;
        }
        tail->ended = false;
        if (!tail->stream && tail->head_len < TAIL_HEAD_BYTES && tail_read_to(tail) == tail->head_len) {
                size_t more = TAIL_HEAD_BYTES - tail->head_len;
                if (more > (size_t)got)
                        more = (size_t)got;
                memcpy(tail->head + tail->head_len, tail->buffer + tail->end, more);
                tail->head_len += more;
        }
        tail->end += (size_t)got;
        return 1;
}

/* Whether the file was cut short since it was read last. What came behind the cut may reach beyond the position
 * before anybody looks, so its beginning tells, too. */
static bool tail_is_cut(struct tail *tail)
{
        uint8_t head[TAIL_HEAD_BYTES];
        uint64_t known = (uint64_t)tail->status.st_size, read_to = tail_read_to(tail);
        if (fstat(tail->fd, &tail->status) < 0)
                return false;
        ssize_t got = pread(tail->fd, head, tail->head_len, 0);
        if ((uint64_t)tail->status.st_size >= read_to &&
            (got < 0 || ((size_t)got == tail->head_len && memcmp(head, tail->head, tail->head_len) == 0)))
                return false;
        int used = snprintf(tail->notice, sizeof(tail->notice), "%.300s was cut short: reading from its beginning",
                            tail->path);
        if (known <= read_to)
                return true;
        tail->missed_bytes += known - read_to;
        (void)snprintf(tail->notice + used, sizeof(tail->notice) - (size_t)used,
                       "; at least %llu bytes were not read before, and are missed",
                       (unsigned long long)(known - read_to));
        return true;
}

/* Everything of the current file was given out: on to the next one. */
static enum tail_result tail_next_file(struct tail *tail, struct err *reterr)
{
        struct tail_search search = {.tail = tail, .after = &tail->status};
        if (fstat(tail->fd, &tail->status) < 0) {
                (void)err_set_errno(reterr, ERR_SYSTEM, errno, "read %s", tail->path); /* told by the result */
                return TAIL_ERROR;
        }
        if (tail->head_len > 0) { /* else nothing was read from it */
                const uint32_t slot = tail->passed_count++ % TAIL_PASSED_MAX;
                tail_get_position(tail, &tail->passed[slot]);
                tail->missed_bytes += tail->passed_missed[slot];
                tail->passed_missed[slot] = 0;
        }
        tail_each_sibling(tail, false, tail_search_visit, &search);
        if (search.written != NULL) {
                tail->passed_missed[search.written - tail->passed] = search.written_bytes;
                (void)snprintf(tail->notice, sizeof(tail->notice),
                               "%s was still written to after it was rotated and left: %llu bytes are missed",
                               search.written_path, (unsigned long long)search.written_bytes);
        }
        if (search.found)
                return tail_open_file(tail, search.path, 0, reterr) == ERR_OK ? TAIL_WAIT : TAIL_ERROR;
        /* One that was left may have got the followed name back: it goes on where it was left. */
        struct stat named;
        const struct tail_position *passed =
                stat(tail->path, &named) == 0 ? tail_find_passed(tail, tail->path, &named) : NULL;
        bool known = passed != NULL && passed->head_bytes == TAIL_HEAD_BYTES; /* else it may be a new one */
        if (tail_open_file(tail, tail->path, known ? passed->offset : 0, reterr) != ERR_OK)
                return TAIL_ERROR;
        if (known) {
                tail->position.line = passed->line;
                tail->passed_missed[passed - tail->passed] = 0;
        }
        return TAIL_WAIT;
}

/* Whether writers have moved on from the current file: the one that has its name now, or one between, has bytes. */
static bool tail_is_succeeded(const struct tail *tail, const struct stat *named)
{
        struct tail_search search = {.tail = tail, .after = &tail->status};
        if (named->st_size == 0)
                tail_each_sibling(tail, false, tail_search_visit, &search);
        return named->st_size > 0 || search.found;
}

/* At the end of a file that is gone back to, now or by the next run: rotated away, or just quiet. */
static enum tail_result tail_idle(struct tail *tail, struct slice *ret_line, struct err *reterr)
{
        struct stat named;
        bool other = stat(tail->path, &named) == 0 && !tail_same_file(&named, &tail->status);
        if (other && tail->last) {
                /* Read to its end after its writer had moved on. */
                if (tail->end > tail->begin)
                        return tail_give(tail, tail->end - tail->begin, false, ret_line);
                return tail_next_file(tail, reterr);
        }
        if (other && tail_is_succeeded(tail, &named)) {
                int64_t changed_ms =
                        (int64_t)tail->status.st_mtim.tv_sec * 1000 + tail->status.st_mtim.tv_nsec / 1000000;
                uint64_t now_ns = clock_monotonic_ns();
                if (tail->other_ns == 0)
                        tail->other_ns = now_ns;
                uint64_t since_ms = (now_ns - tail->other_ns) / CLOCK_NS_PER_MS;
                if (clock_realtime_ms() - changed_ms >= TAIL_QUIET_MS || since_ms >= TAIL_CHANGE_MS_MAX) {
                        if (since_ms >= TAIL_CHANGE_MS_MAX)
                                (void)snprintf(tail->notice, sizeof(tail->notice),
                                               "%.300s was rotated, but its old file is still written to: what comes "
                                               "there now is missed",
                                               tail->path);
                        tail->last = true; /* once more to its end, then on */
                        return TAIL_WAIT;
                }
        } else if (!tail->options.follow) {
                if (tail->end > tail->begin && !tail->skipping)
                        (void)snprintf(tail->notice, sizeof(tail->notice),
                                       "%.300s ends within a line: that is left for the next run", tail->path);
                return TAIL_END;
        }
        clock_nap_ns((uint64_t)TAIL_WAIT_MS * CLOCK_NS_PER_MS);
        return TAIL_WAIT;
}

enum tail_result tail_next(struct tail *tail, struct slice *ret_line, struct err *reterr)
{
        if (tail->fd < 0) {
                if (tail_open_first(tail, reterr) != ERR_OK)
                        return TAIL_ERROR;
                if (tail->fd < 0)
                        clock_nap_ns((uint64_t)TAIL_WAIT_MS * CLOCK_NS_PER_MS);
                return TAIL_WAIT; /* so that the position can be noted before the first line */
        }
        enum tail_result result = tail_buffered(tail, ret_line);
        if (result != TAIL_WAIT)
                return result;
        bool returned_to = tail->options.follow || tail->options.resumable;
        if (returned_to && tail_is_cut(tail)) {
                if (lseek(tail->fd, 0, SEEK_SET) < 0) {
                        (void)err_set_errno(reterr, ERR_SYSTEM, errno, "read %s", tail->path); /* told by the result */
                        return TAIL_ERROR;
                }
                tail_begin(tail, 0);
        }
        int got = tail_fill(tail, reterr);
        if (got < 0)
                return TAIL_ERROR;
        if (got > 0) {
                result = tail_buffered(tail, ret_line);
                return result;
        }
        if (!tail->ended)
                return TAIL_WAIT;
        if (returned_to)
                return tail_idle(tail, ret_line, reterr);
        if (tail->end > tail->begin) {
                result = tail_give(tail, tail->end - tail->begin, false, ret_line);
                return result == TAIL_WAIT ? TAIL_END : result;
        }
        return TAIL_END;
}

void tail_get_position(const struct tail *tail, struct tail_position *ret_position)
{
        if (tail->wanted.inode != 0) {
                *ret_position = tail->wanted; /* nothing was read since */
                return;
        }
        *ret_position = tail->position;
        if (tail->fd >= 0 && !tail->stream)
                ret_position->changed_ns =
                        (uint64_t)tail->status.st_mtim.tv_sec * CLOCK_NS_PER_S + (uint64_t)tail->status.st_mtim.tv_nsec;
        ret_position->head_bytes =
                tail->position.offset < tail->head_len ? tail->position.offset : (uint64_t)tail->head_len;
        ret_position->head_sum = tail_sum(tail->head, (size_t)ret_position->head_bytes);
}

int64_t tail_reference_ms(const struct tail *tail)
{
        if (tail->options.follow || tail->stream || tail->fd < 0)
                return clock_realtime_ms();
        return (int64_t)tail->status.st_mtim.tv_sec * 1000 + tail->status.st_mtim.tv_nsec / 1000000;
}

uint64_t tail_missed_bytes(const struct tail *tail)
{
        uint64_t bytes = tail->missed_bytes;
        for (uint32_t i = 0; i < TAIL_PASSED_MAX; i++)
                bytes += tail->passed_missed[i];
        return bytes;
}

const char *tail_take_notice(struct tail *tail)
{
        if (tail->notice[0] == '\0')
                return NULL;
        memcpy(tail->taken, tail->notice, sizeof(tail->taken));
        tail->notice[0] = '\0';
        return tail->taken;
}
