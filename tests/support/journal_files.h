/* What the journal's tests share: temporary directories, copies of them, records whose content tells who they are. */
#ifndef SENDRING_TESTS_SUPPORT_JOURNAL_FILES_H
#define SENDRING_TESTS_SUPPORT_JOURNAL_FILES_H

#include "journal/journal.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL_FILES_DIE(what) \
        do {                    \
                perror(what);   \
                abort();        \
        } while (0)

static inline int journal_files_remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
        (void)status;
        (void)type;
        (void)where;
        return remove(path);
}

static inline void journal_files_remove(const char *path)
{
        (void)nftw(path, journal_files_remove_one, 16, FTW_DEPTH | FTW_PHYS); /* best effort */
}

/* A new directory in memory where there is one: the tests write a lot. */
static inline void journal_files_make(char out[256])
{
        (void)snprintf(out, 256, "%s/sendring-journal-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (mkdtemp(out) == NULL)
                JOURNAL_FILES_DIE("mkdtemp");
}

static inline void journal_files_copy_file(int from_fd, int to_fd, const char *name)
{
        static _Thread_local char chunk[1 << 16];
        int in = openat(from_fd, name, O_RDONLY | O_CLOEXEC);
        int out = openat(to_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (in < 0 || out < 0)
                JOURNAL_FILES_DIE(name);
        off_t offset = 0;
        for (;;) {
                ssize_t got = read(in, chunk, sizeof(chunk));
                if (got < 0)
                        JOURNAL_FILES_DIE(name);
                if (got == 0)
                        break;
                /* Zeros become a hole, so that an image costs what it holds. */
                bool zero = chunk[0] == 0 && memcmp(chunk, chunk + 1, (size_t)got - 1) == 0;
                if (!zero && pwrite(out, chunk, (size_t)got, offset) != got)
                        JOURNAL_FILES_DIE(name);
                offset += got;
        }
        if (ftruncate(out, offset) < 0)
                JOURNAL_FILES_DIE(name);
        (void)close(in);
        (void)close(out);
}

/* Copies the files of a journal directory: what a SIGKILL at this instant would leave. */
static inline void journal_files_copy(const char *from, const char *to)
{
        DIR *directory = opendir(from);
        if (directory == NULL)
                JOURNAL_FILES_DIE(from);
        if (mkdir(to, 0700) < 0)
                JOURNAL_FILES_DIE(to);
        int to_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (to_fd < 0)
                JOURNAL_FILES_DIE(to);
        for (struct dirent *line = readdir(directory); line != NULL; line = readdir(directory)) {
                struct stat status;
                if (fstatat(dirfd(directory), line->d_name, &status, 0) == 0 && S_ISREG(status.st_mode))
                        journal_files_copy_file(dirfd(directory), to_fd, line->d_name);
        }
        (void)close(to_fd);
        (void)closedir(directory);
}

/* How many entries of the directory end with `suffix`; the name of the last one in sorted order in `ret_last`. */
static inline unsigned journal_files_count(const char *path, const char *suffix, char ret_last[256])
{
        unsigned count = 0;
        DIR *directory = opendir(path);
        if (ret_last != NULL)
                ret_last[0] = '\0';
        if (directory == NULL)
                return 0;
        for (struct dirent *line = readdir(directory); line != NULL; line = readdir(directory)) {
                size_t len = strlen(line->d_name), suffix_len = strlen(suffix);
                if (len < suffix_len || strcmp(line->d_name + len - suffix_len, suffix) != 0)
                        continue;
                count++;
                if (ret_last != NULL && strcmp(line->d_name, ret_last) > 0)
                        (void)snprintf(ret_last, 256, "%s", line->d_name);
        }
        (void)closedir(directory);
        return count;
}

/* A record's payload is made from its sequence number alone, so that any reader can check it. */
static inline uint32_t journal_files_payload_bytes(uint64_t sequence, uint32_t mean_bytes)
{
        return (uint32_t)((sequence * 2654435761u >> 7) % (2 * (uint64_t)mean_bytes + 1));
}

static inline void journal_files_fill(uint8_t *payload, uint32_t bytes, uint64_t sequence)
{
        uint64_t word = sequence * UINT64_C(0x9e3779b97f4a7c15);
        for (uint32_t i = 0; i < bytes; i++) {
                if (i % 8 == 0)
                        word = word * UINT64_C(6364136223846793005) + 1442695040888963407u;
                payload[i] = (uint8_t)(word >> (8 * (i % 8)));
        }
}

static inline bool journal_files_check(struct slice payload, uint64_t sequence, uint32_t mean_bytes)
{
        static _Thread_local uint8_t expected[LIMIT_RECORD_BYTES_MAX];
        uint32_t bytes = journal_files_payload_bytes(sequence, mean_bytes);
        if (payload.len != bytes)
                return false;
        journal_files_fill(expected, bytes, sequence);
        return memcmp(payload.ptr, expected, bytes) == 0;
}

/* Routes by sequence: target 0 always, 1 for even ones, 2 twice for multiples of three; `targets` of them. */
static inline struct journal_entry journal_files_entry(uint64_t sequence, uint32_t targets)
{
        struct journal_entry entry = {
                .lane_id = 100 + sequence % 3,
                .lane_position = sequence * 8,
                .accepted_ms = 1700000000000 + (int64_t)sequence,
                .event_type = (uint8_t)(sequence % 10),
        };
        if (targets > 0)
                entry.routes[entry.routes_count++] = 0;
        if (targets > 1 && sequence % 2 == 0)
                entry.routes[entry.routes_count++] = 1;
        if (targets > 2 && sequence % 3 == 0) {
                entry.routes[entry.routes_count++] = 2;
                entry.routes[entry.routes_count++] = 2;
        }
        return entry;
}

/* How often those of sequences from..to-1 are routed to a target, when there are three. */
static inline uint64_t journal_files_routed(uint64_t from, uint64_t to, uint32_t target)
{
        if (to <= from)
                return 0;
        uint64_t before = from - 1, last = to - 1;
        return target == 0 ? last - before : target == 1 ? last / 2 - before / 2 : 2 * (last / 3 - before / 3);
}

/* Appends the record that belongs to the next sequence, which the caller knows. Not published. */
static inline enum err_code journal_files_append(struct journal *journal, uint64_t sequence, uint32_t mean_bytes,
                                                 uint32_t targets)
{
        uint8_t *payload;
        uint32_t bytes = journal_files_payload_bytes(sequence, mean_bytes);
        enum err_code code = journal_reserve(journal, bytes, &payload);
        if (code != ERR_OK)
                return code;
        journal_files_fill(payload, bytes, sequence);
        struct journal_entry entry = journal_files_entry(sequence, targets);
        journal_commit(journal, &entry, bytes);
        return ERR_OK;
}

#endif
