/* How a file is opened first, by the control thread: on a loop of its own, since the worker's belongs to the worker,
 * for as long as the file system may be waited for. */
#include "base/clock.h"
#include "egress/file_internal.h"

#include <stdlib.h>
#include <string.h>

#define FILE_SINK_LOCK_NAP_NS    (10 * CLOCK_NS_PER_MS)
#define FILE_SINK_LOCK_NAPS_MAX  100u
#define FILE_SINK_OPEN_NS        (2 * CLOCK_NS_PER_S)    /* for a file system to answer */
#define FILE_SINK_OPEN_BESIDE_NS (100 * CLOCK_NS_PER_MS) /* where another one has not, most likely the same */

/* Takes out the one that hangs; NULL: that file is not among them. */
static struct file_sink *file_sink_take_opening(struct file_sink_openings *openings, const char *path)
{
        for (struct file_sink **link = &openings->first; *link != NULL; link = &(*link)->next) {
                struct file_sink *sink = *link;
                if (strcmp(sink->path, path) != 0)
                        continue;
                *link = sink->next;
                return sink;
        }
        return NULL;
}

/* A sink that begins to open its file, on a loop of this thread. */
static enum err_code file_sink_create(const struct file_sink_options *options, struct file_sink **ret_sink,
                                      struct err *reterr)
{
        static const struct io_options loop_options = {.entries = 4};
        const size_t len = strlen(options->path);
        if (len == 0 || len + FILE_SINK_SUFFIX_BYTES_MAX > PATH_MAX)
                return err_set(reterr, ERR_CONFIG, "the path of the file destination is empty or too long");
        struct file_sink *sink = calloc(1, sizeof(*sink));
        if (sink == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory opening %s", options->path);
        enum err_code code = io_loop_create(&loop_options, &sink->loop, reterr);
        if (code != ERR_OK) {
                free(sink);
                return code;
        }
        file_sink_init(sink, options->path);
        sink->options = *options;
        file_sink_begin(sink, FILE_SINK_OPENS);
        *ret_sink = sink;
        return ERR_OK;
}

/* ERR_TIMEOUT: the file system has not answered by then. */
static enum err_code file_sink_open_until(struct file_sink *sink, uint64_t until_ns)
{
        /* The kernel tears down the io_uring of a killed process some time after its death, and with it the last hold
         * on the file and its lock: a restarted router must not take that for a second one. */
        for (unsigned naps = 0;; naps++) {
                while (file_sink_is_busy(sink)) {
                        uint64_t now_ns = clock_monotonic_ns();
                        if (now_ns >= until_ns)
                                return ERR_TIMEOUT;
                        (void)io_loop_turn(sink->loop, until_ns == UINT64_MAX ? IO_FOREVER : until_ns - now_ns);
                }
                if (sink->why.code != ERR_LOCKED || naps == FILE_SINK_LOCK_NAPS_MAX)
                        return sink->why.code;
                clock_sleep_ns(FILE_SINK_LOCK_NAP_NS);
                file_sink_begin(sink, FILE_SINK_OPENS);
        }
}

enum err_code file_sink_open(struct io_loop *loop, const struct file_sink_options *options, struct file_sink **ret_sink,
                             struct err *reterr)
{
        struct file_sink_openings *openings = options->openings;
        struct file_sink *sink = openings == NULL ? NULL : file_sink_take_opening(openings, options->path);
        uint64_t patience_ns = FILE_SINK_OPEN_NS;
        if (openings != NULL && openings->first != NULL)
                patience_ns = FILE_SINK_OPEN_BESIDE_NS;
        enum err_code code = ERR_OK;
        if (sink == NULL)
                code = file_sink_create(options, &sink, reterr);
        else if (io_loop_turn(sink->loop, 0) == 0)
                patience_ns = 0;
        if (code != ERR_OK)
                return code;
        sink->options = *options;
        sink->options.path = sink->path;
        code = file_sink_open_until(sink, openings == NULL ? UINT64_MAX : clock_monotonic_ns() + patience_ns);
        if (openings != NULL && code == ERR_TIMEOUT) {
                sink->next = openings->first;
                openings->first = sink;
                return err_set(reterr, code, "cannot open %s yet: its file system does not answer", sink->told);
        }
        io_loop_free(sink->loop);
        sink->loop = loop;
        if (code == ERR_OK) {
                *ret_sink = sink;
                return ERR_OK;
        }
        if (reterr != NULL)
                *reterr = sink->why;
        file_sink_close(sink);
        return code;
}

void file_sink_openings_release(struct file_sink_openings *openings)
{
        while (openings->first != NULL) {
                struct file_sink *sink = openings->first;
                openings->first = sink->next;
                (void)io_loop_turn(sink->loop, 0); /* it may have ended since */
                if (file_sink_is_busy(sink))
                        continue;
                io_loop_free(sink->loop);
                file_sink_close(sink);
        }
}
