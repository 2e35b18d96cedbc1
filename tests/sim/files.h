/* The table of the simulated disk's files: between files.c, which keeps what is in them and what of it is on the disk,
 * and disk.c, which has io/disk.h's calls over it. */
#ifndef SENDRING_TESTS_SIM_FILES_H
#define SENDRING_TESTS_SIM_FILES_H

#include "tests/sim/content.h"
#include "tests/sim/sim.h"

#define SIM_INODES_MAX 256u
#define SIM_PATH_BYTES 256u

struct sim_inode {
        bool used, directory, locked;
        char path[SIM_PATH_BYTES]; /* "": unlinked */
        uint32_t opens;
        uint8_t *bytes, *clean, *durable;
        uint64_t size, durable_size;
        uint64_t high; /* behind the last byte that was ever there */
        uint32_t maps;
        _Atomic uint32_t lost; /* pages of the mappings */
        uint64_t lost_at;
        uint8_t *lost_other; /* of that page: what the mapping shows, or what the file has; `bytes` has the other one */
};

enum sim_change_kind { SIM_CHANGE_LINK = 1, SIM_CHANGE_UNLINK, SIM_CHANGE_RENAME };

extern struct sim_inode sim_inodes[SIM_INODES_MAX];

static inline uint32_t inode_number(const struct sim_inode *inode)
{
        return (uint32_t)(inode - sim_inodes);
}

struct sim_inode *inode_by_path(const char *path);
struct sim_inode *inode_of_map(const void *map);
struct sim_inode *inode_make(const char *path, bool directory);
/* If nobody names it and nobody has it open. */
void inode_forget(struct sim_inode *inode);
void inode_unmapped(struct sim_inode *inode);
/* Between what mappings show and what the file has; every look at the file stands between two of these. */
void inode_swap(struct sim_inode *inode);
bool inode_has_room(const struct sim_inode *inode, uint64_t size);
void inode_resize(struct sim_inode *inode, uint64_t size);
/* Brings what is dirty to the disk; `part`: any of it only, and the kernel forgets the rest. */
void inode_write_back(struct sim_inode *inode, bool part);

/* A change of names; `replaced`: by a rename, or NULL. */
void change_add(enum sim_change_kind kind, const struct sim_inode *inode, const char *from, const char *to,
                const struct sim_inode *replaced);
/* Those so far are on the disk. */
void changes_commit(void);

#endif
