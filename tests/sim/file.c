/* base/file.h by the linker's --wrap: whole files, through the seam to the disk and with its faults. */
#include "base/file.h"

#include "io/disk.h"
#include "tests/sim/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define FILE_PATH_BYTES 256u

/* mkdir -p. */
enum err_code __wrap_file_make_directory(const char *path, struct err *reterr);
enum err_code __wrap_file_make_directory(const char *path, struct err *reterr)
{
        char part[FILE_PATH_BYTES];
        size_t len = strlen(path);
        SIM_CHECK(len > 0 && len < sizeof(part));
        for (size_t i = 1; i <= len; i++) {
                if (path[i] != '/' && path[i] != '\0')
                        continue;
                memcpy(part, path, i);
                part[i] = '\0';
                if (disk_make_directory(AT_FDCWD, part) < 0 && errno != EEXIST)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot create directory %s", part);
        }
        return ERR_OK;
}

enum err_code __wrap_file_read(struct arena *arena, const char *path, size_t max_bytes, struct slice *ret_bytes,
                               struct err *reterr);
enum err_code __wrap_file_replace(const char *path, struct slice bytes, struct err *reterr);
static uint64_t replace_failures;

enum err_code __wrap_file_read(struct arena *arena, const char *path, size_t max_bytes, struct slice *ret_bytes,
                               struct err *reterr)
{
        struct stat status;
        int fd = disk_open(AT_FDCWD, path, O_RDONLY, 0);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot open %s", path);
        SIM_CHECK(disk_stat(fd, &status) == 0 && (uint64_t)status.st_size <= max_bytes);
        uint8_t *bytes = arena_alloc(arena, (size_t)status.st_size + 1);
        SIM_CHECK(bytes != NULL);
        ssize_t got = disk_read(fd, bytes, (size_t)status.st_size, 0);
        (void)disk_close(fd); /* opened for reading only */
        if (got != status.st_size)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot read %s", path);
        *ret_bytes = slice_of(bytes, (size_t)got);
        return ERR_OK;
}

enum err_code __wrap_file_replace(const char *path, struct slice bytes, struct err *reterr)
{
        char fresh[FILE_PATH_BYTES], directory[FILE_PATH_BYTES];
        SIM_CHECK(snprintf(fresh, sizeof(fresh), "%s.new", path) < (int)sizeof(fresh));
        (void)snprintf(directory, sizeof(directory), "%.*s", (int)(strrchr(path, '/') - path), path); /* shorter */
        int fd = disk_open(AT_FDCWD, fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        bool done = fd >= 0;
        for (uint64_t at = 0; at < bytes.len && done;) {
                ssize_t wrote = disk_write(fd, bytes.ptr + at, bytes.len - at, at);
                done = wrote > 0;
                at += done ? (uint64_t)wrote : 0;
        }
        done = done && disk_sync(fd) == 0;
        if (fd >= 0)
                (void)disk_close(fd); /* synced, or given up */
        done = done && disk_rename(AT_FDCWD, fresh, AT_FDCWD, path, true) == 0;
        int directory_fd = done ? disk_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0) : -1;
        done = directory_fd >= 0 && disk_sync_directory(directory_fd) == 0;
        if (directory_fd >= 0)
                (void)disk_close(directory_fd); /* a directory */
        replace_failures += !done;
        return done ? ERR_OK : err_set_errno(reterr, ERR_SYSTEM, errno, "cannot replace %s", path);
}

uint64_t sim_file_replace_failures(void)
{
        return replace_failures;
}
