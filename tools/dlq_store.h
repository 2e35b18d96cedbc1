/* The folder of dead letters as the tools see it, beside a daemon that goes on appending: what is there, what was
 * settled, and settling. egress/dead_letter.h draws it and says who may do what. One thread. */
#ifndef SENDRING_TOOLS_DLQ_STORE_H
#define SENDRING_TOOLS_DLQ_STORE_H

#include "egress/dead_letter.h"

struct dlq_store;

/* With `writing`, for settling: ERR_LOCKED when another one does. Without a folder it is empty. What root makes in the
 * folder belongs to the folder's owner, who can go on. ERR_PERMISSION, ERR_SYSTEM, ERR_MEMORY. */
enum err_code dlq_store_open(const char *directory, bool writing, struct dlq_store **ret_store, struct err *reterr);
void dlq_store_close(struct dlq_store *store); /* NULL is allowed */

/* Calls `each` with every letter that was there when the store was opened and is neither replayed nor dropped, worker
 * by worker, oldest first, until it returns false. `line` is the letter's line as it stands in the file; both are good
 * during the call. What is no letter is said on standard error and counted, the first time. */
typedef bool dlq_each(void *context, const struct dead_letter *letter, struct slice line);
enum err_code dlq_store_each(struct dlq_store *store, dlq_each *each, void *context, struct err *reterr);

struct dlq_mark {
        struct dead_letter_id id;
        uint32_t crc;
};
/* The same with every line that is no letter and was not dropped. `bytes` is its length, without a newline. */
typedef bool dlq_each_damaged(void *context, const struct dlq_mark *mark, uint64_t bytes);
enum err_code dlq_store_each_damaged(struct dlq_store *store, dlq_each_damaged *each, void *context,
                                     struct err *reterr);
/* How many there are, once all were looked at. */
uint64_t dlq_store_damaged(const struct dlq_store *store);

/* Settles them, letters or damaged lines: on the disk when it returns. The marks may be of several files. */
enum err_code dlq_store_settle(struct dlq_store *store, const struct dlq_mark *marks, size_t count, bool dropped,
                               struct err *reterr);
/* Removes files of which everything is settled; what cannot be removed stays for the next. */
void dlq_store_sweep(struct dlq_store *store);

#endif
