/* LD_PRELOAD=slow_file.so: open() of $SLOW_FILE does not return for as long as a file $SLOW_FILE.hangs exists, as on a
 * network file system whose server is gone. Everything else is libc's. For system tests. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((visibility("default"))) int open(const char *path, int flags, ...);

int open(const char *path, int flags, ...)
{
        static int (*next)(const char *, int, ...);
        const char *slow = getenv("SLOW_FILE");
        va_list args;
        va_start(args, flags);
        unsigned mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, unsigned) : 0;
        va_end(args);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "open");
        if (slow != NULL && strcmp(path, slow) == 0) {
                char hangs[4096];
                (void)snprintf(hangs, sizeof(hangs), "%s.hangs", slow);
                while (access(hangs, F_OK) == 0)
                        (void)usleep(20000);
        }
        return next(path, flags, mode);
}
