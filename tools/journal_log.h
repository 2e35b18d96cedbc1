/* Walks one log of a journal from its oldest record to where it ended when the walk began, beside the running router
 * and without a lock: what `sendring replay` and `sendring loadgen --record` share. What is recycled under the walk is
 * noticed, counted, and never taken for a record. One thread. */
#ifndef SENDRING_TOOLS_JOURNAL_LOG_H
#define SENDRING_TOOLS_JOURNAL_LOG_H

#include "journal/journal.h"

struct journal_log {
        const char *directory; /* must outlive the walk */
        struct journal *journal;
        struct journal_reader *reader;
        uint64_t position, limit;
        uint64_t expected;    /* sequence of the next record; 0: not known */
        uint64_t recycled;    /* records that were gone before they were read */
        uint32_t failures;    /* fresh views without a record in between */
        bool behind_recycled; /* a fresh view was needed since the last record */
};

/* Whether a log's folder is there. ERR_NOT_FOUND: it is not; ERR_PERMISSION, ERR_SYSTEM: that cannot be told. */
enum err_code journal_log_look(const char *directory, struct err *reterr);

enum err_code journal_log_open(struct journal_log *log, const char *directory, struct err *reterr);
void journal_log_close(struct journal_log *log);
/* The next record; its payload is valid until the next call. ERR_EMPTY: there are no more. ERR_CORRUPT: it is damaged
 * on the disk, at ret_record->position; go on. Others end the walk, with a text. */
enum err_code journal_log_next(struct journal_log *log, struct journal_record *ret_record, struct err *reterr);

#endif
