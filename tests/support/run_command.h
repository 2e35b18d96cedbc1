/* A command of `sendring` in a forked process, with what it says in a file. */
#ifndef SENDRING_TESTS_SUPPORT_RUN_COMMAND_H
#define SENDRING_TESTS_SUPPORT_RUN_COMMAND_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* `NAME --settings SETTINGS [FLAG]`; flag: or NULL. Returns its exit status. */
static inline int run_command(int (*command)(int argc, char **argv), const char *name, const char *settings,
                              const char *flag, const char *output)
{
        int status = -1;
        pid_t pid = fork();
        if (pid == 0) {
                int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
                if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
                        _exit(98);
                char option[] = "--settings";
                char *argv[] = {(char *)(uintptr_t)name, option, (char *)(uintptr_t)settings, (char *)(uintptr_t)flag,
                                NULL};
                status = command(flag != NULL ? 4 : 3, argv);
                (void)fflush(stdout);
                _exit(status);
        }
        cr_assert_gt(pid, 0);
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert(WIFEXITED(status));
        return WEXITSTATUS(status);
}

#endif
