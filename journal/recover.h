/* Inside of recovery: what recover.c (reading), repair.c and quarantine.c share. One thread, during journal_open(). */
#ifndef SENDRING_JOURNAL_RECOVER_H
#define SENDRING_JOURNAL_RECOVER_H

#include "journal/journal_internal.h"

struct recover_file {
        uint64_t number;
        uint64_t file_bytes;
        struct journal_segment_header header;
        uint64_t base_sequence; /* 0: not started, or not known */
        uint64_t end_position;  /* behind the last record */
        bool loss_counted;      /* what is missing before it is no news */
        bool is_foreign;        /* read, and nothing in it says that it ever was a segment */
};

struct recover_hole {
        uint64_t offset, end, next_sequence;
};

struct recover {
        struct journal *journal;
        struct journal_recovery *recovery;
        struct recover_file *files;
        size_t files_count, files_room;
        struct recover_hole *holes; /* of the segment in hand */
        size_t holes_count, holes_room;
        uint8_t *bytes; /* a private copy of the segment in hand */
        uint64_t bytes_room;
        uint64_t expected;   /* sequence of the next record; 0: not known yet */
        uint64_t cut_bytes;  /* at the end of the segment in hand */
        uint64_t open_from;  /* segments from this index up to the one in hand have no end yet */
        uint64_t last_index; /* of the newest segment that the writer has come to */
        bool any;            /* there is one */
        uint32_t routes_end; /* target numbers that records name are below it */
        struct err *reterr;
        uint32_t naps;
        uint64_t skipped_pages;     /* that could not be read, so far */
        bool is_incomplete;         /* files of the log were moved away, or cannot be read */
        uint32_t quarantine_copies; /* by this open */
};

/* ---- recover.c */

/* Reads `bytes`; what is behind the end, or cannot be read by all tries, is zeros. ERR_SYSTEM: the file cannot be read
 * at all. */
enum err_code recover_read(struct recover *recover, int fd, uint8_t *to, uint64_t bytes, uint64_t offset);
enum err_code recover_write(int fd, const void *from, uint64_t bytes, uint64_t offset);
/* Opens the segment of this file number; errno as open() left it. */
enum err_code recover_open(struct recover *recover, uint64_t number, int flags, int *ret_fd);

/* ---- quarantine.c */

/* A file that is no segment of this log leaves it. Unless it is foreign nobody else has what is in it: it is never
 * removed by us. */
void recover_quarantine_move(struct recover *recover, const struct recover_file *file);
/* A segment that lost records is copied before its damage is covered. */
void recover_quarantine_copy(struct recover *recover, const struct recover_file *file);

/* ---- repair.c */

/* Cursors within the gap move to its end. */
void recover_pass_gap(struct recover *recover, size_t index, uint64_t offset, uint64_t end, uint64_t next_sequence);
/* Covers [offset, end) of segment `index` with a gap. */
enum err_code recover_cover(struct recover *recover, size_t index, uint64_t offset, uint64_t end,
                            uint64_t next_sequence);
/* Segment `index` has content whose first sequence is `sequence`: whatever came before it ends here. */
enum err_code recover_begin(struct recover *recover, size_t index, uint64_t sequence);
/* The slots of each target are brought up to the log. `oldest`: where the log begins now. */
enum err_code recover_targets(struct recover *recover, uint64_t oldest, uint64_t oldest_sequence, uint64_t position,
                              uint64_t sequence);
/* Lengths and blocks of the files; durability host: all that was recovered is durable. */
enum err_code recover_lengths(struct recover *recover);

#endif
