#include "tools/journal_log.h"

#include <errno.h>
#include <sys/stat.h>

/* A log that is recycled faster than it is read is given up after so many fresh views without a record. */
#define JOURNAL_LOG_OPEN_TRIES 50u

/* A fresh view of what is there now; goes on where it was, or where the log begins. */
static enum err_code journal_log_renew(struct journal_log *log, struct err *reterr)
{
        struct journal_options options = {.directory = log->directory, .read_only = true};
        journal_log_close(log);
        enum err_code code = journal_open(&options, &log->journal, NULL, reterr);
        if (code == ERR_OK)
                code = journal_reader_create(log->journal, &log->reader, reterr);
        if (code != ERR_OK)
                return code;
        uint64_t oldest = journal_oldest_position(log->journal);
        if (log->limit == 0)
                log->limit = journal_committed_position(log->journal); /* what comes later is not asked for */
        if (log->position < oldest)
                log->position = oldest;
        return ERR_OK;
}

enum err_code journal_log_look(const char *directory, struct err *reterr)
{
        struct stat there;
        if (stat(directory, &there) == 0)
                return ERR_OK;
        if (errno == ENOENT)
                return err_set(reterr, ERR_NOT_FOUND, "there is no %s", directory);
        return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot look for the journal %s", directory);
}

enum err_code journal_log_open(struct journal_log *log, const char *directory, struct err *reterr)
{
        *log = (struct journal_log){.directory = directory};
        return journal_log_renew(log, reterr);
}

void journal_log_close(struct journal_log *log)
{
        journal_reader_free(log->reader);
        journal_close(log->journal);
        log->reader = NULL;
        log->journal = NULL;
}

enum err_code journal_log_next(struct journal_log *log, struct journal_record *ret_record, struct err *reterr)
{
        for (;;) {
                enum err_code code = journal_read(log->reader, log->position, log->limit, ret_record);
                if (code == ERR_EMPTY)
                        return code;
                if (code == ERR_CORRUPT) {
                        log->position = ret_record->next_position;
                        log->expected = 0; /* how many it was is not known */
                        return code;
                }
                if (code == ERR_OK) {
                        /* Other numbers that are missing were lost by recovery, which has said so. */
                        if (log->behind_recycled && log->expected != 0 && ret_record->sequence > log->expected)
                                log->recycled += ret_record->sequence - log->expected;
                        log->behind_recycled = false;
                        log->failures = 0;
                        log->position = ret_record->next_position;
                        log->expected = ret_record->sequence + 1;
                        return ERR_OK;
                }
                if (code != ERR_NOT_FOUND || log->failures++ == JOURNAL_LOG_OPEN_TRIES)
                        return err_set(reterr, code, "cannot read the journal %s: %s", log->directory, err_text(code));
                /* Recycled under our eyes: a fresh view knows what is there. */
                log->behind_recycled = true;
                code = journal_log_renew(log, reterr);
                if (code != ERR_OK)
                        return code;
        }
}
