/* The control socket of `sendring sink`: lines of text over a unix stream socket, answered by one line each.
 *
 *   set NAME VALUE   changes a fault (tools/sink_fault.h)   -> "ok" or "error: ..."
 *   stats            -> the counters as one JSON object
 *
 * Owned by the main thread; nothing blocks but sink_control_tell(). */
#ifndef SENDRING_TOOLS_SINK_CONTROL_H
#define SENDRING_TOOLS_SINK_CONTROL_H

#include "base/err.h"
#include "tools/sink_fault.h"
#include "tools/sink_state.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>

#define SINK_CONTROL_CLIENTS_MAX    16
#define SINK_CONTROL_LINE_BYTES_MAX 256

struct sink_control_client {
        int fd;
        char line[SINK_CONTROL_LINE_BYTES_MAX];
        size_t line_bytes;
};

struct sink_control {
        const char *path;
        int listen_fd; /* -1: there is no socket */
        struct sink_control_client clients[SINK_CONTROL_CLIENTS_MAX];
        struct sink_faults *faults;
        struct sink_state *state;
};

/* Binds `path` (0600), which must outlive the control; a dead socket file there is replaced. NULL: no socket. */
enum err_code sink_control_open(struct sink_control *control, const char *path, struct sink_faults *faults,
                                struct sink_state *state, struct err *reterr);
void sink_control_close(struct sink_control *control);

/* The descriptors to poll, and what to do after. True when a fault was changed. */
size_t sink_control_poll(const struct sink_control *control, struct pollfd set[SINK_CONTROL_CLIENTS_MAX + 1]);
bool sink_control_run(struct sink_control *control, const struct pollfd *set, size_t set_count);

/* One line, without its newline. Writes the answer, without newline. True when a fault was changed. */
bool sink_control_line(struct sink_control *control, struct slice line, FILE *out);

/* {"requests":1,...} */
void sink_counters_print(const uint64_t counters[SINK_COUNTERS_COUNT], FILE *out);

/* The client: sends one line to a running sink and prints its answer. */
enum err_code sink_control_tell(const char *path, const char *line, FILE *out, struct err *reterr);

#endif
