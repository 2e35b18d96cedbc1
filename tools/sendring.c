/* The `sendring` command: finds the subcommand and calls it. */
#include "sendring/sendring.h"
#include "tools/cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct cmd {
        const char *name;
        int (*function)(int argc, char **argv);
        const char *help;
};

static const struct cmd cmd_table[] = {
#define CMD_ROW(name, function, help) {name, function, help},
        CMD_TABLE(CMD_ROW)
#undef CMD_ROW
                {NULL, NULL, NULL},
};

static void cmd_usage(FILE *out)
{
        (void)fprintf(out, "usage: sendring COMMAND [OPTIONS]\n\n"
                           "Event publishing for your own MTAs, as Amazon SES does it.\n\n");
        for (const struct cmd *cmd = cmd_table; cmd->name != NULL; cmd++)
                (void)fprintf(out, "  %-10s %s\n", cmd->name, cmd->help);
        (void)fprintf(out, "\n`sendring COMMAND --help` explains each.\n");
}

/* A closed standard descriptor would be the number of the next file that is opened, and what is printed would go there.
 * Standard output gets one that takes nothing: who prints is told. */
static void cmd_hold_standard_files(void)
{
        for (int fd = 0; fd <= 2; fd++)
                if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
                        (void)open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY); /* the lowest free number: fd */
}

static int cmd_run_named(int argc, char **argv)
{
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
                cmd_usage(stdout);
                return CMD_EXIT_OK;
        }
        if (strcmp(argv[1], "--version") == 0) {
                printf("sendring %d.%d.%d\n", SENDRING_VERSION_MAJOR, SENDRING_VERSION_MINOR, SENDRING_VERSION_PATCH);
                return CMD_EXIT_OK;
        }
        for (const struct cmd *cmd = cmd_table; cmd->name != NULL; cmd++)
                if (strcmp(argv[1], cmd->name) == 0)
                        return cmd->function(argc - 1, argv + 1);
        (void)fprintf(stderr, "sendring: unknown command '%s'; `sendring --help` lists them\n", argv[1]);
        return CMD_EXIT_USAGE;
}

int main(int argc, char **argv)
{
        if (argc < 2) {
                cmd_usage(stderr);
                return CMD_EXIT_USAGE;
        }
        cmd_hold_standard_files();
        int status = cmd_run_named(argc, argv);
        /* Here for all of them: a full disk, a reader that went away. */
        errno = 0;
        if (fflush(stdout) != 0 || ferror(stdout) != 0) {
                (void)fprintf(stderr, "sendring %s: what it printed was not written to standard output whole%s%s\n",
                              argv[1], errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
                if (status == CMD_EXIT_OK)
                        status = CMD_EXIT_IO;
        }
        return status;
}
