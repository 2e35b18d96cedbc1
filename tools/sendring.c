/* The `sendring` command: finds the subcommand and calls it. */
#include "sendring/sendring.h"
#include "tools/cmd.h"

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

int main(int argc, char **argv)
{
        if (argc < 2) {
                cmd_usage(stderr);
                return CMD_EXIT_USAGE;
        }
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
