/* The directory of a bench: temporary, and gone however the program exits, so that a full disk is not left full. */
#ifndef SENDRING_BENCH_DIRECTORY_H
#define SENDRING_BENCH_DIRECTORY_H

#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define DIRECTORY_TMPFS_MAGIC 0x01021994

static char directory_made[4096];

static inline bool directory_is_tmpfs(const char *path)
{
        struct statfs file_system;
        return statfs(path, &file_system) == 0 && file_system.f_type == DIRECTORY_TMPFS_MAGIC;
}

/* What is measured there is no disk: said as a note, which scripts/bench shows, or on stderr. */
static inline void directory_tell_tmpfs(const char *bench, const char *path, bool json)
{
        if (!directory_is_tmpfs(path))
                return;
        if (json)
                printf("{\"bench\":\"%s\",\"note\":\"the journal was on a tmpfs, and not on a disk\"}\n", bench);
        else
                (void)fprintf(stderr, "%s: %s is a tmpfs: the journal will not meet a disk\n", bench, path);
}

static inline int directory_remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
        (void)status;
        (void)type;
        (void)where;
        return remove(path);
}

static inline void directory_remove(void)
{
        (void)nftw(directory_made, directory_remove_one, 8, FTW_DEPTH | FTW_PHYS); /* best effort */
}

/* Its path; NULL, with errno, when it cannot be made. One a program. */
static inline const char *directory_make(const char *parent)
{
        (void)snprintf(directory_made, sizeof(directory_made), "%s/sendring-bench-XXXXXX", parent);
        if (mkdtemp(directory_made) == NULL || atexit(directory_remove) != 0)
                return NULL;
        return directory_made;
}

#endif
