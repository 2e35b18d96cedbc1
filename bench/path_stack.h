/* The real parts of the whole path, as processes of their own: `sendring sink` over TLS, `sendring run` (keeper and
 * router), `sendring loadgen`; in a temporary directory that goes away with them. */
#ifndef SENDRING_BENCH_PATH_STACK_H
#define SENDRING_BENCH_PATH_STACK_H

#include "base/counters.h"
#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct path_stack_options {
        const char *sendring;  /* the binary */
        const char *directory; /* where to make the temporary directory */
        bool durability_host, gzip;
        bool counted; /* by a CloudWatch destination as well, in periods of 1 s; the sink answers */
};

struct path_stack {
        struct path_stack_options options;
        char directory[PATH_MAX / 2]; /* empty: none */
        char sink_address[64];        /* HOST:PORT */
        pid_t sink, keeper, loadgen;  /* 0: not there */
        pid_t router;
        bool attached; /* counters */
        struct counters counters;
        uint32_t ledgers_count;
};

/* What one loadgen says of itself. */
struct path_stack_load {
        uint64_t published;
        double cpu_s; /* of its processes together */
};

/* What the sink has counted, against every ledger so far. */
struct path_stack_counts {
        uint64_t distinct, missing, duplicates, unexpected;
        uint64_t counted; /* the sum of all metrics */
};

/* Starts sink and router and waits until both are ready. On failure path_stack_stop() must still follow. */
enum err_code path_stack_start(struct path_stack *stack, const struct path_stack_options *options, struct err *reterr);
/* Ends every process, by its pid, and removes the directory. May be called again. `logs`: first shows on stderr what
 * the processes logged last. */
void path_stack_stop(struct path_stack *stack, bool logs);

/* Starts 4 producers of the standard mix; rate 0: as fast as the lanes take them. One at a time. */
enum err_code path_stack_load_start(struct path_stack *stack, uint64_t events, double rate, struct err *reterr);
/* ERR_BUSY while it runs; ERR_SYSTEM when it failed. */
enum err_code path_stack_load_poll(struct path_stack *stack, struct path_stack_load *ret_load, struct err *reterr);
/* The router is the one that was started, and alive. */
enum err_code path_stack_check(struct path_stack *stack, struct err *reterr);
/* When Firehose last answered that all is well, by clock_monotonic_ns(), to the millisecond; 0: never. */
uint64_t path_stack_firehose_last_ns(const struct path_stack *stack);
enum err_code path_stack_count(struct path_stack *stack, struct path_stack_counts *ret_counts, struct err *reterr);
/* 128 or 256: the AES that a TLS client of the sink gets. The sink's order decides, whatever the client's. */
enum err_code path_stack_aes_bits(const struct path_stack *stack, uint32_t *ret_bits, struct err *reterr);

#endif
