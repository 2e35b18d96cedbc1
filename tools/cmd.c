/* What the subcommands share. */
#include "tools/cmd.h"

#include "base/err.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

const char *cmd_advice(const struct err *err)
{
        return err->code == ERR_PERMISSION ? ": only root and the daemon's own user may" : "";
}

int cmd_unread_status(const struct err *err)
{
        bool unknown =
                err->code == ERR_PERMISSION || (err_class(err->code) == ERR_CLASS_SYSTEM && err->sys_errno != ENOENT);
        return unknown ? CMD_EXIT_IO : CMD_EXIT_UNAVAILABLE;
}

int cmd_option_refused(const char *command, int result, const struct option *options, char **argv)
{
        const struct option *known = options;
        while (known->name != NULL && known->val != optopt)
                known++;
        if (result == ':')
                (void)fprintf(stderr, "sendring %s: %s needs a value", command, argv[optind - 1]);
        else if (optopt == 0) /* a long name that is none, or begins several */
                (void)fprintf(stderr, "sendring %s: unknown option '%s'", command, argv[optind - 1]);
        else if (known->name != NULL) /* a value where none is taken */
                (void)fprintf(stderr, "sendring %s: --%s takes no value", command, known->name);
        else
                (void)fprintf(stderr, "sendring %s: unknown option '-%c'", command, optopt);
        (void)fprintf(stderr, "; `sendring %s --help` lists them\n", command);
        return CMD_EXIT_USAGE;
}
