/* `sendring loadgen --record`: the events that a host's journal still has, merged from its logs in the order in which
 * they were accepted, into a capture (loadgen_capture.h). Reads beside the running router, without a lock. */
#ifndef SENDRING_TOOLS_LOADGEN_RECORD_H
#define SENDRING_TOOLS_LOADGEN_RECORD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct loadgen_record_options {
        const char *settings_path; /* of the daemon: where its journal is */
        const char *capture_path;
        int64_t from_ms, to_ms; /* accepted from then on, and before */
        bool json;
        const volatile sig_atomic_t *stop; /* not 0: ends it, and leaves no file */
};

/* Says on standard output what it has recorded, on standard error what is wrong; returns an exit status. */
int loadgen_record(const struct loadgen_record_options *options);

#endif
