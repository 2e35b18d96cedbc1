/* A judge of gzip files that is not ours: Debian's gzip, which every host has. */
#ifndef SENDRING_TESTS_GUNZIP_H
#define SENDRING_TESTS_GUNZIP_H

#include "base/slice.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

/* What `gzip -dc` makes of the files one behind the other in `bytes`; SIZE_MAX when it refuses them, or they are larger
 * than `out_bytes`. */
static size_t gunzip(struct slice bytes, uint8_t *out, size_t out_bytes)
{
        char path[] = "/tmp/gunzip.XXXXXX", command[64];
        int fd = mkstemp(path);
        cr_assert_geq(fd, 0);
        for (size_t at = 0; at < bytes.len;) {
                ssize_t written = write(fd, bytes.ptr + at, bytes.len - at);
                cr_assert_gt(written, 0);
                at += (size_t)written;
        }
        (void)close(fd);
        (void)snprintf(command, sizeof(command), "exec gzip -dcq < %s 2>&1", path); /* a short name */
        FILE *pipe = popen(command, "re");
        cr_assert_not_null(pipe);
        size_t got = fread(out, 1, out_bytes, pipe);
        bool whole = fgetc(pipe) == EOF;
        int status = pclose(pipe);
        (void)unlink(path);
        return status == 0 && whole ? got : SIZE_MAX;
}

#endif
