/* Power cuts under a log, at random: the journal's real code on real files, in memory where there is such a file
 * system, and beside them what a disk would have of each. A seed says what is appended, delivered, synced and asked
 * for; then the process ends as by a kill, or the power goes, and the next start must go on.
 *
 * This is not tests/sim, which has the rest of the router, time and network, and ends the process between any two basic
 * blocks: a seed there writes some megabytes. Here whole segments go by the dozen, more than may be mapped, between two
 * syncs, over starts with another durability, limit or size of segments: what stands in a log in such numbers.
 *
 * disk.c stands between io/disk.h and the kernel: it keeps what each file had when it was last synced, and which names
 * were made, changed and removed since their directory was. A cut makes of that any mix, page by page, some of them
 * torn at a sector; of the names the last ones may be as before. Now and then the kernel writes everything by itself,
 * as it does. A sync may fail: then nothing of the file came to the disk (that its pages are clean afterwards all the
 * same tests/sim has).
 *
 * What must hold, after each start and at random instants: it opens; every target's ledger balances; no payload is
 * another's; with durability host, of the records that a flush has covered no cursor has passed one that was not
 * delivered, and all others are there. In the end everything is delivered, and as much can be appended as there is
 * room for. */
#ifndef SENDRING_TESTS_CUTS_CUTS_H
#define SENDRING_TESTS_CUTS_CUTS_H

#include "base/random.h"

#include <stdbool.h>

extern struct random_state cuts_random;
/* Of a hundred. */
bool cuts_chance(unsigned percent);
/* Says what is wrong and ends this seed. */
void cuts_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* With --trace. */
void cuts_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- disk.c */

/* `directory` will be the log's; `aside`, which exists, holds what the disk has. */
void cuts_disk_begin(const char *directory, const char *aside);
/* The kernel has written all there is. */
void cuts_disk_write_back(void);
/* The power goes: of what was not synced, `kept_percent` of the pages and names are there. Nobody has the log open. */
void cuts_disk_cut(unsigned kept_percent);
/* Each sync fails with EIO so often. */
extern unsigned cuts_sync_fails_percent;

#endif
