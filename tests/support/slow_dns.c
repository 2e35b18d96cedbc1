/* LD_PRELOAD=slow_dns.so: getaddrinfo() of a name in $SLOW_DNS_NAMES ("good.test,bad.test") gives 127.0.0.1, and for as
 * long as a file $SLOW_DNS_DIRECTORY/NAME exists it does not return. Everything else is libc's. For system tests. */
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
                                                       const struct addrinfo *hints, struct addrinfo **result);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
        static int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
        const char *names = getenv("SLOW_DNS_NAMES"), *directory = getenv("SLOW_DNS_DIRECTORY");
        if (next == NULL)
                *(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
        /* Only names, not what is looked up as a number. */
        int numeric = hints != NULL && (hints->ai_flags & AI_NUMERICHOST) != 0;
        if (node == NULL || names == NULL || directory == NULL || numeric || strstr(names, node) == NULL)
                return next(node, service, hints, result);
        char path[4096];
        (void)snprintf(path, sizeof(path), "%s/%s", directory, node);
        while (access(path, F_OK) == 0)
                (void)usleep(20000);
        return next("127.0.0.1", service, hints, result);
}
