/* Descriptors within a host that is not ours: it may have closed them all, as programs do that become daemons, and have
 * files of its own by the same numbers since. Those are not to be closed, written or read here. */
#include "ring/ring_internal.h"

#include <errno.h>
#include <sys/stat.h>

struct ring_identity ring_identity_of(int fd)
{
        struct stat status;
        struct ring_identity identity = {0};
        int saved_errno = errno;
        if (fd >= 0 && fstat(fd, &status) == 0)
                identity = (struct ring_identity){.device = status.st_dev, .inode = status.st_ino};
        errno = saved_errno;
        return identity;
}

bool ring_is_own(int fd, struct ring_identity identity)
{
        struct ring_identity now = ring_identity_of(fd);
        return fd >= 0 && identity.inode != 0 && now.device == identity.device && now.inode == identity.inode;
}

void ring_own_close(int *fd, struct ring_identity identity)
{
        if (ring_is_own(*fd, identity))
                (void)close(*fd); /* nothing is buffered in it */
        *fd = -1;
}
