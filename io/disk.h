/* The seam to the disk: what the journal, the outboxes and the file destinations ask of files. Each function is the
 * system call behind its name, with the same answers (-1 and errno unless another is said) and the same rules; none
 * allocates, save disk_list_open(). io/disk_posix.c passes them to the kernel. The simulation (tests/sim) links a disk
 * of its own in its place, which loses what was not synced, tears sectors, runs full and fails where its seed says.
 *
 * Threads: any, as the kernel's. */
#ifndef SENDRING_IO_DISK_H
#define SENDRING_IO_DISK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* `directory_fd` may be AT_FDCWD. O_CLOEXEC is always set. */
int disk_open(int directory_fd, const char *path, int flags, mode_t mode);
int disk_close(int fd);
/* An exclusive lock, without waiting: EWOULDBLOCK when somebody else has it. Goes with the last descriptor. */
int disk_lock(int fd);
int disk_stat(int fd, struct stat *ret_status);
int disk_stat_path(const char *path, struct stat *ret_status); /* of a symbolic link itself */

ssize_t disk_read(int fd, void *to, size_t bytes, uint64_t offset);
ssize_t disk_write(int fd, const void *from, size_t bytes, uint64_t offset);
int disk_truncate(int fd, uint64_t bytes);
/* Whether what is written to it goes to its end, wherever that is by then, and not to an offset. */
int disk_append(int fd, bool appends);
/* Every block of the first `bytes` is there afterwards, so that a store into a mapping finds room. Returns 0 or an
 * errno. */
int disk_allocate(int fd, uint64_t bytes);
/* The range reads as zeros, without its old content being read. Not all file systems can. */
int disk_zero(int fd, uint64_t offset, uint64_t bytes);

/* fdatasync: content and size are on the disk. After a failure the kernel may have dropped what it could not write, and
 * a later call may succeed without it. */
int disk_sync(int fd);
/* fsync of a directory: names made, changed and removed in it are on the disk. 0 also where the file system has no
 * such thing. */
int disk_sync_directory(int directory_fd);

/* MAP_SHARED of the whole file from its beginning; NULL and errno. A read-only mapping is not writable. */
void *disk_map(int fd, uint64_t bytes, bool writable);
void disk_unmap(void *map, uint64_t bytes);
/* A page of a mapping may turn out not to be there: the file was cut behind our back, the disk cannot be read, a file
 * system in trouble takes no more writes. The kernel says so by SIGBUS at a load or a store. For mappings made by
 * disk_map(), and those named to disk_guard(), it does not end the process: the page is replaced by one of zeros that
 * belongs to no file, the access goes on, and the mapping's count of lost pages goes up. Whoever owns the mapping looks
 * at that count before it believes what it read, and before it says that what it wrote is kept. *disk_lost() of a
 * mapping: relaxed loads by any thread; the pointer is valid while it is mapped. */
const _Atomic uint32_t *disk_lost(const void *map);
/* Puts the file's own pages back where some were lost, and counts from 0 again. The mapping is writable; what is stored
 * by others meanwhile may get lost. */
int disk_map_again(int fd, void *map, uint64_t bytes);
/* The same for a mapping made elsewhere; false: no room in the table. Forget it before it is unmapped. */
bool disk_guard(void *map, uint64_t bytes, bool writable);
void disk_guard_forget(const void *map);
/* The pages are present and writable afterwards. EINVAL: this kernel cannot; EFAULT: there is nothing behind them. */
int disk_populate(void *map, uint64_t bytes);
/* They will be read in order: advice. */
void disk_will_read_in_order(void *map, uint64_t bytes);

/* `replace` false: EEXIST when there is one of the new name. */
int disk_rename(int from_directory_fd, const char *from, int to_directory_fd, const char *to, bool replace);
int disk_unlink(int directory_fd, const char *path);
int disk_make_directory(int directory_fd, const char *path);

struct disk_list; /* the names in a directory */
/* NULL and errno. */
struct disk_list *disk_list_open(int directory_fd, const char *path);
/* NULL: that was the last one, and errno is 0; or the others cannot be read, and errno says why. Valid until the next
 * call. "." and ".." are not among them. */
const char *disk_list_next(struct disk_list *list);
void disk_list_close(struct disk_list *list);

#endif
