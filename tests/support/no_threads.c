/* LD_PRELOAD=no_threads.so: in a router that the keeper has started again, every thread behind the second is refused,
 * as by TasksMax=, if a file $NO_THREADS exists when it starts. For failed_start.py. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS_MAX 2

static bool short_of_them;
static int threads;

__attribute__((constructor)) static void no_threads_begin(void)
{
        const char *path = getenv("NO_THREADS");
        short_of_them = path != NULL && getenv("SENDRING_KEEPER_RESTART") != NULL && access(path, F_OK) == 0;
}

__attribute__((visibility("default"))) int pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
                                                          void *(*body)(void *), void *argument)
{
        static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
        if (short_of_them && ++threads > THREADS_MAX)
                return EAGAIN;
        return next(ret_thread, attributes, body, argument);
}
