#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum err_code file_read(struct arena *arena, const char *path, size_t max_bytes, struct slice *ret_bytes,
                        struct err *reterr)
{
        /* O_NONBLOCK: opening a FIFO would wait for who writes to it. Regular files do not mind. */
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s", path);
        enum err_code code = ERR_OK;
        struct stat status;
        size_t room = 64 * (size_t)1024;
        size_t len = 0;
        uint8_t *bytes = NULL;
        if (fstat(fd, &status) < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s", path);
                goto out;
        }
        if (!S_ISREG(status.st_mode)) {
                code = S_ISDIR(status.st_mode) ? err_set_errno(reterr, ERR_SYSTEM, EISDIR, "cannot read %s", path)
                                               : err_set(reterr, ERR_SYSTEM, "%s is no regular file", path);
                goto out;
        }
        bytes = malloc(room);
        if (bytes == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory reading %s", path);
                goto out;
        }
        for (;;) {
                ssize_t got = read(fd, bytes + len, room - len);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0) {
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot read %s", path);
                        goto out;
                }
                if (got == 0)
                        break;
                len += (size_t)got;
                if (len > max_bytes) {
                        code = err_set(reterr, ERR_TOO_BIG, "%s is larger than the %zu bytes allowed for it", path,
                                       max_bytes);
                        goto out;
                }
                if (len == room) {
                        uint8_t *larger = realloc(bytes, room * 2);
                        if (larger == NULL) {
                                code = err_set(reterr, ERR_MEMORY, "out of memory reading %s", path);
                                goto out;
                        }
                        bytes = larger;
                        room *= 2;
                }
        }
        *ret_bytes = arena_copy(arena, slice_of(bytes, len));
        if (ret_bytes->ptr == NULL)
                code = err_set(reterr, ERR_MEMORY, "out of memory reading %s", path);
out:
        free(bytes);
        (void)close(fd); /* opened for reading only */
        return code;
}

bool file_directory_of(const char *path, char out[PATH_MAX])
{
        const char *slash = strrchr(path, '/');
        size_t len = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
        if (len >= PATH_MAX)
                return false;
        memcpy(out, path, len);
        if (len == 0)
                out[len++] = '.';
        out[len] = '\0';
        return true;
}

enum err_code file_sync_directory_of(const char *path, struct err *reterr)
{
        char directory[PATH_MAX];
        if (!file_directory_of(path, directory))
                return err_set(reterr, ERR_TOO_BIG, "path %s is too long", path);
        int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open directory %s", directory);
        enum err_code code = ERR_OK;
        if (fsync(fd) < 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync directory %s", directory);
        (void)close(fd); /* a directory: nothing is buffered */
        return code;
}

enum err_code file_replace(const char *path, struct slice bytes, struct err *reterr)
{
        char temporary[PATH_MAX];
        int used = snprintf(temporary, sizeof(temporary), "%s.new.%d", path, (int)getpid());
        if (used < 0 || (size_t)used >= sizeof(temporary))
                return err_set(reterr, ERR_TOO_BIG, "path %s is too long", path);
        /* Of a process of this number that died, or laid there by somebody: its owner and mode are not ours. */
        struct stat there;
        if (lstat(temporary, &there) == 0 && S_ISREG(there.st_mode))
                (void)unlink(temporary); /* what cannot go is found by O_EXCL */
        int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot create %s", temporary);
        enum err_code code = ERR_OK;
        size_t done = 0;
        while (done < bytes.len) {
                ssize_t wrote = write(fd, bytes.ptr + done, bytes.len - done);
                if (wrote < 0 && errno == EINTR)
                        continue;
                if (wrote < 0) {
                        code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot write %s", temporary);
                        goto out;
                }
                done += (size_t)wrote;
        }
        if (fsync(fd) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot sync %s", temporary);
out:
        if (close(fd) < 0 && code == ERR_OK)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot close %s", temporary);
        if (code == ERR_OK && rename(temporary, path) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot rename %s to %s", temporary, path);
        if (code != ERR_OK) {
                (void)unlink(temporary); /* best effort: the old file stands */
                return code;
        }
        return file_sync_directory_of(path, reterr);
}

/* Puts the names that `path` is made of on the disk, its own first. Above a mount point nothing was made by whoever
 * made the directory. A folder that may be entered and not read cannot be synced by us. */
static enum err_code file_sync_names(const char *path, dev_t device, struct err *reterr)
{
        char name[PATH_MAX], directory[PATH_MAX];
        struct stat status;
        memcpy(name, path, strlen(path) + 1);
        while (file_directory_of(name, directory) && strcmp(directory, name) != 0) {
                if (stat(directory, &status) < 0)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s", directory);
                if (status.st_dev != device)
                        break;
                enum err_code code = file_sync_directory_of(name, reterr);
                if (code != ERR_OK && code != ERR_PERMISSION)
                        return code;
                memcpy(name, directory, strlen(directory) + 1);
        }
        return ERR_OK;
}

enum err_code file_make_directory(const char *path, struct err *reterr)
{
        char part[PATH_MAX];
        size_t len = strlen(path);
        if (len == 0 || len >= sizeof(part))
                return err_set(reterr, ERR_CONFIG, "directory name \"%s\" is empty or too long", path);
        for (size_t i = 1; i <= len; i++) {
                if (path[i] != '/' && path[i] != '\0')
                        continue;
                memcpy(part, path, i);
                part[i] = '\0';
                if (mkdir(part, 0700) < 0 && errno != EEXIST)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot create directory %s", part);
        }
        struct stat status;
        if (stat(path, &status) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look at %s", path);
        if (!S_ISDIR(status.st_mode))
                return err_set(reterr, ERR_CONFIG, "%s exists and is not a directory", path);
        /* Also where it was there: whoever made it may have been killed before its name was on the disk. */
        return file_sync_names(path, status.st_dev, reterr);
}
