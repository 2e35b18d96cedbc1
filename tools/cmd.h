/* The `sendring` command: one file per subcommand (cmd_<name>.c), each a main() of its own name. argv[0] is the
 * subcommand's name. Every one answers --help on stdout with status 0; wrong usage is one line on stderr and status 64.
 * What does not get to stdout whole is told by main(), and is status 74 where the command's own was 0.
 * Exit codes follow sysexits.h: 0 ok, 1 the thing asked about is not so, 64 usage, 69 unavailable, 74 input/output, 78
 * configuration. */
#ifndef SENDRING_TOOLS_CMD_H
#define SENDRING_TOOLS_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CMD_EXIT_OK          0
#define CMD_EXIT_FAILED      1
#define CMD_EXIT_USAGE       64
#define CMD_EXIT_UNAVAILABLE 69
#define CMD_EXIT_IO          74
#define CMD_EXIT_CONFIG      78

/* name, function, one line for `sendring --help` */
/* One line each keeps changes apart. */
/* clang-format off */
#define CMD_TABLE(X) \
        X("run", cmd_run, "run the daemon") \
        X("stat", cmd_stat, "show the counters of a running daemon") \
        X("ledger", cmd_ledger, "prove that nothing was lost silently") \
        X("validate", cmd_validate, "check sendring.yaml and configuration-sets.yaml") \
        X("cost", cmd_cost, "what a configuration costs at a rate, at AWS and on the host") \
        X("sink", cmd_sink, "an AWS-shaped endpoint on loopback that counts exactly, for demos and tests") \
        X("loadgen", cmd_loadgen, "publish events from several processes, counted exactly, and time it") \
        X("feed", cmd_feed, "publish what an MTA's log or a file of JSON lines tells") \
        X("decode", cmd_decode, "print encoded events, or the journal, as SES's JSON") \
        X("dlq", cmd_dlq, "list, show, replay or drop the events that a destination can never take") \
        X("replay", cmd_replay, "publish again what the journal still has of a time, a set, a type, a tag") \
        X("explain", cmd_explain, "where one event would go, and why not elsewhere") \
        X("test", cmd_test, "run named events through a configuration and compare") \
        /* end */
/* clang-format on */

#define CMD_DECLARE(name, function, help) int function(int argc, char **argv);
CMD_TABLE(CMD_DECLARE)
#undef CMD_DECLARE

/* Writes `text` to stdout as a JSON string: bytes that are no UTF-8 become U+FFFD. At most 4,096 bytes of it. */
void cmd_print_json_text(const char *text, size_t text_bytes);

/* A moment: RFC 3339 ("2026-11-27T08:00:00Z"), so long ago ("-2h"; ms, s, m, h, d), "now", or milliseconds since 1970.
 */
bool cmd_parse_time(const char *text, int64_t now_ms, int64_t *ret_ms);
#define CMD_TIME_HELP "RFC 3339 as 2026-11-27T08:00:00Z, so long ago as -2h, or milliseconds since 1970"

struct err;

/* What to do about it, to be printed behind its text; often "". */
const char *cmd_advice(const struct err *err);
/* The status for what could not be read: CMD_EXIT_UNAVAILABLE where nothing is there, CMD_EXIT_IO where that cannot be
 * told, or it is there. */
int cmd_unread_status(const struct err *err);

struct option;

/* Says in one line what is wrong with the option that getopt_long() has just returned '?' or ':' for, and returns
 * CMD_EXIT_USAGE. `options` is its table. opterr must be 0 and the short options begin with ':'. */
int cmd_option_refused(const char *command, int result, const struct option *options, char **argv);

#endif
