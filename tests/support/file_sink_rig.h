/* A file sink in a directory of its own, for unit tests: its loop, waiting for what it does, and operations on files
 * that fail or hang. Part of one program: it defines the wraps of io_open, io_stat, io_stat_path, io_truncate, io_read,
 * io_write, io_fdatasync, io_sync_directory and io_rename. */
#ifndef SENDRING_TESTS_FILE_SINK_RIG_H
#define SENDRING_TESTS_FILE_SINK_RIG_H

#include "base/clock.h"
#include "egress/file.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char directory[64];
static char path[96];
static struct io_loop *loop;

/* The operations on files, by the linker's --wrap: the one of number `fails_at` (from 1; 0: none) fails with EBADF, and
 * one may not know how to rename without replacing. */
static unsigned operations, fails_at, syncs;
static char steps[64]; /* what was asked of the file system since it was emptied: a letter each */
static bool renames_blindly;
static bool emptied_before_write; /* by another hand, at the last moment; once */
static int pipe_ends[2];

static inline bool fails_now(char step)
{
        const size_t used = strlen(steps);
        if (used + 1 < sizeof(steps))
                steps[used] = step;
        return ++operations == fails_at;
}

void __real_io_sync_directory(struct io_loop *own, struct io_op *op, int fd);

static inline void fail(struct io_loop *own, struct io_op *op)
{
        __real_io_sync_directory(own, op, -1);
}

#define WRAP(name, step, parameters, arguments)  \
        void __real_##name parameters;           \
        void __wrap_##name parameters;           \
        void __wrap_##name parameters            \
        {                                        \
                if (fails_now(step))             \
                        fail(own, op);           \
                else                             \
                        __real_##name arguments; \
        }
WRAP(io_sync_directory, 'D', (struct io_loop * own, struct io_op *op, int fd), (own, op, fd))
WRAP(io_open, 'o', (struct io_loop * own, struct io_op *op, const char *name, int flags, mode_t mode),
     (own, op, name, flags, mode))
WRAP(io_stat_path, 'l', (struct io_loop * own, struct io_op *op, const char *name, struct statx *status),
     (own, op, name, status))
WRAP(io_truncate, 'T', (struct io_loop * own, struct io_op *op, int fd, uint64_t bytes), (own, op, fd, bytes))
WRAP(io_read, 'r', (struct io_loop * own, struct io_op *op, int fd, void *to, size_t bytes, uint64_t offset),
     (own, op, fd, to, bytes, offset))

void __real_io_write(struct io_loop *own, struct io_op *op, int fd, const void *from, size_t bytes, uint64_t offset);
void __wrap_io_write(struct io_loop *own, struct io_op *op, int fd, const void *from, size_t bytes, uint64_t offset);
void __wrap_io_write(struct io_loop *own, struct io_op *op, int fd, const void *from, size_t bytes, uint64_t offset)
{
        if (emptied_before_write)
                cr_assert_eq(truncate(path, 0), 0);
        emptied_before_write = false;
        if (fails_now('W'))
                fail(own, op);
        else
                __real_io_write(own, op, fd, from, bytes, offset);
}

/* One that hangs until it is let go on. */
static struct {
        bool hangs;
        unsigned count;
        struct io_loop *loop;
        struct io_op *op;
        int fd;
        struct statx *status;
} hanging;

void __real_io_stat(struct io_loop *own, struct io_op *op, int fd, struct statx *status);
void __wrap_io_stat(struct io_loop *own, struct io_op *op, int fd, struct statx *status);
void __wrap_io_stat(struct io_loop *own, struct io_op *op, int fd, struct statx *status)
{
        if (hanging.hangs) {
                hanging.count++;
                hanging.loop = own;
                hanging.op = op;
                hanging.fd = fd;
                hanging.status = status;
        } else if (fails_now('l')) {
                fail(own, op);
        } else {
                __real_io_stat(own, op, fd, status);
        }
}

static inline void go_on(void)
{
        hanging.hangs = false;
        __real_io_stat(hanging.loop, hanging.op, hanging.fd, hanging.status);
}

void __real_io_fdatasync(struct io_loop *own, struct io_op *op, int fd);
void __wrap_io_fdatasync(struct io_loop *own, struct io_op *op, int fd);
void __wrap_io_fdatasync(struct io_loop *own, struct io_op *op, int fd)
{
        syncs++;
        __real_io_fdatasync(own, op, fails_now('S') ? -1 : fd);
}

void __real_io_rename(struct io_loop *own, struct io_op *op, const char *from, const char *to, bool replace);
void __wrap_io_rename(struct io_loop *own, struct io_op *op, const char *from, const char *to, bool replace);
void __wrap_io_rename(struct io_loop *own, struct io_op *op, const char *from, const char *to, bool replace)
{
        if (fails_now('R'))
                fail(own, op);
        else if (renames_blindly && !replace)
                __real_io_sync_directory(own, op, pipe_ends[0]); /* EINVAL */
        else
                __real_io_rename(own, op, from, to, replace);
}

static inline void start(void)
{
        struct err err = {0};
        (void)snprintf(directory, sizeof(directory), "/tmp/sendring-file-XXXXXX");
        cr_assert_not_null(mkdtemp(directory));
        cr_assert_eq(pipe(pipe_ends), 0);
        (void)snprintf(path, sizeof(path), "%s/events.ndjson", directory);
        cr_assert_eq(io_loop_create(&(struct io_options){.entries = 16}, &loop, &err), ERR_OK, "%s", err.text);
}

/* Calls `each` with the name of every file in the directory. */
static inline size_t list(void (*each)(const char *name))
{
        size_t count = 0;
        DIR *files = opendir(directory);
        cr_assert_not_null(files);
        for (struct dirent *entry = readdir(files); entry != NULL; entry = readdir(files)) {
                char name[512];
                if (entry->d_name[0] == '.')
                        continue;
                (void)snprintf(name, sizeof(name), "%s/%s", directory, entry->d_name);
                count++;
                if (each != NULL)
                        each(name);
        }
        (void)closedir(files); /* read only */
        return count;
}

static inline void remove_one(const char *name)
{
        (void)remove(name); /* cleaning up */
}

static inline void stop(void)
{
        io_loop_free(loop);
        (void)list(remove_one);
        (void)remove(directory); /* cleaning up */
}

TestSuite(file_sink, .timeout = 60, .init = start, .fini = stop);

static inline struct file_sink *open_ok(uint64_t rotate_bytes, uint32_t rotate_seconds, bool sync)
{
        struct file_sink_options options = {
                .path = path, .rotate_bytes = rotate_bytes, .rotate_seconds = rotate_seconds, .sync = sync};
        struct file_sink *sink = NULL;
        struct err err = {0};
        cr_assert_eq(file_sink_open(loop, &options, &sink, &err), ERR_OK, "%s", err.text);
        return sink;
}

static inline void close_sink(struct file_sink *sink)
{
        while (!file_sink_stop(sink))
                (void)io_loop_turn(loop, CLOCK_NS_PER_S);
        file_sink_close(sink);
}

static inline enum err_code open_fails(const char *sentence)
{
        struct file_sink_options options = {.path = path};
        struct file_sink *sink = NULL;
        struct err err = {0};
        enum err_code code = file_sink_open(loop, &options, &sink, &err);
        cr_assert_neq(code, ERR_OK);
        cr_assert_null(sink);
        cr_assert_not_null(strstr(err.text, sentence), "%s", err.text);
        return code;
}

static struct {
        unsigned calls;
        enum err_code code;
        struct err why;
} answer;

static inline void write_done(void *context, enum err_code code, const struct err *why)
{
        cr_assert_eq(context, &answer);
        answer.calls++;
        answer.code = code;
        answer.why = *why;
}

static inline enum err_code write_lines(struct file_sink *sink, struct slice lines)
{
        unsigned calls = answer.calls;
        cr_assert_eq(file_sink_write(sink, lines, write_done, &answer), ERR_OK);
        cr_assert_eq(answer.calls, calls, "done must come from a turn");
        cr_assert(file_sink_is_busy(sink));
        cr_assert_eq(file_sink_write(sink, lines, write_done, &answer), ERR_BUSY);
        while (file_sink_is_busy(sink))
                (void)io_loop_turn(loop, CLOCK_NS_PER_S);
        cr_assert_eq(answer.calls, calls + 1);
        return answer.code;
}

static inline void rotate_if_due(struct file_sink *sink)
{
        file_sink_rotate_if_due(sink);
        while (file_sink_is_busy(sink))
                (void)io_loop_turn(loop, CLOCK_NS_PER_S);
}

static inline void write_ok(struct file_sink *sink, const char *lines)
{
        cr_assert_eq(write_lines(sink, slice_of_text(lines)), ERR_OK, "%s", answer.why.text);
}

static inline size_t content(const char *name, char *out, size_t out_bytes)
{
        int fd = open(name, O_RDONLY);
        cr_assert_geq(fd, 0, "%s", name);
        ssize_t got = read(fd, out, out_bytes - 1);
        cr_assert_geq(got, 0);
        cr_assert_eq(close(fd), 0);
        out[got] = '\0';
        return (size_t)got;
}

static inline void holds(const char *name, const char *expected)
{
        static char text[1 << 20];
        (void)content(name, text, sizeof(text));
        cr_assert_str_eq(text, expected);
}

static inline void put(const char *name, const char *bytes, size_t len)
{
        int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
        cr_assert_eq(close(fd), 0);
}

#endif
