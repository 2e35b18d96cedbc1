/* The socket on which producers attach. */
#include "ring/ring_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum err_code ring_listen_open(const char *path, unsigned mode, int *ret_listen_fd, int *ret_lock_fd,
                               struct err *reterr)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char lock_path[sizeof(address.sun_path) + 8];
        size_t path_bytes = strlen(path);
        int listen_fd = -1;
        enum err_code code;
        if (path_bytes == 0 || path_bytes >= sizeof(address.sun_path))
                return err_set(reterr, ERR_CONFIG, "socket path \"%s\" must have 1 to %zu bytes", path,
                               sizeof(address.sun_path) - 1);
        memcpy(address.sun_path, path, path_bytes);
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", path); /* fits by its size */
        /* The lock, not the socket, says whether another daemon is alive: a socket file outlives its owner. */
        int lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (lock_fd < 0)
                return err_set_errno(reterr, errno == ENOENT || errno == ENOTDIR ? ERR_CONFIG : ERR_SYSTEM, errno,
                                     "cannot make %s beside the socket: does the folder of socket_path exist?",
                                     lock_path);
        if (flock(lock_fd, LOCK_EX | LOCK_NB) < 0) {
                code = errno == EWOULDBLOCK ? err_set(reterr, ERR_LOCKED,
                                                      "another sendring listens on %s (it holds %s)", path, lock_path)
                                            : err_set_errno(reterr, ERR_SYSTEM, errno, "lock %s", lock_path);
                goto fail;
        }
        struct stat status;
        if (lstat(path, &status) == 0) {
                if (!S_ISSOCK(status.st_mode)) {
                        code = err_set(reterr, ERR_CONFIG, "%s exists and is not a socket: move it away", path);
                        goto fail;
                }
                if (unlink(path) < 0) {
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "remove the stale socket %s", path);
                        goto fail;
                }
        }
        listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        /* fchmod before bind bounds the mode that the new file gets, chmod after it makes it exact whatever the umask
         * is. */
        if (listen_fd < 0 || fchmod(listen_fd, mode) < 0 ||
            bind(listen_fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, mode) < 0 ||
            listen(listen_fd, 256) < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "listen on %s", path);
                goto fail;
        }
        ring_connection_refuse_rights(listen_fd);
        *ret_listen_fd = listen_fd;
        *ret_lock_fd = lock_fd;
        return ERR_OK;
fail:
        if (listen_fd >= 0)
                (void)close(listen_fd); /* nobody was accepted */
        (void)close(lock_fd);           /* gives the lock back */
        return code;
}
