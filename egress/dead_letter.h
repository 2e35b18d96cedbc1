/* Dead letters: events that a destination can never take, kept with the cause until somebody replays or drops them.
 * docs/formats/dead-letter.md shows a line; this header draws the folder.
 *
 *     worker-<worker>-<number>.ndjson     letters, one a line; its worker of the daemon appends, and does nothing else
 *     worker-<worker>-<number>.settled    which of them were replayed or dropped; written by `sendring dlq`
 *     lock                                flock()ed by the one `sendring dlq` that writes
 *
 * Who may do what, so that daemon and tools need no lock between them:
 *
 *     file                        daemon                        tools
 *     the worker's newest .ndjson appends; cuts off a torn line  read
 *     its older ones              never touches them again      read; removed when every line is settled
 *     .settled                    never looks at them           append under the lock; removed after the letters' file
 *
 * Numbers only grow, and the newest file is never removed: so a file that was older once stays so. A line ends with the
 * CRC-32C of what stands before it: a reader that comes while one is written or cut off finds it wrong, and looks
 * again.
 *
 * A kill while a line is written leaves a torn one, which the next append of that worker cuts off; after the line is
 * whole and before the cursor moved, the event is dead-lettered again: the same event in two letters. */
#ifndef SENDRING_EGRESS_DEAD_LETTER_H
#define SENDRING_EGRESS_DEAD_LETTER_H

#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"
#include "io/io.h"
#include "sendring/sendring.h"

#include <stdbool.h>
#include <stdint.h>

#define DEAD_LETTER_LETTERS_SUFFIX ".ndjson"
#define DEAD_LETTER_SETTLED_SUFFIX ".settled"
/* A file is followed by the next one from here on, or from a quarter of what the worker may keep. */
#define DEAD_LETTER_FILE_BYTES_MAX (16u * 1024u * 1024u)
/* One line: the JSON of the event, its msgpack in base64, and short texts, a byte of which may grow to six. */
#define DEAD_LETTER_HEAD_BYTES_MAX (8u * 1024u)
#define DEAD_LETTER_LINE_BYTES_MAX \
        (LIMIT_EVENT_JSON_BYTES_MAX + (LIMIT_EVENT_BYTES_MAX + 2u) / 3u * 4u + DEAD_LETTER_HEAD_BYTES_MAX)
#define DEAD_LETTER_ID_BYTES_MAX 48u

/* Where a letter is: its name for people is "worker-number-offset" in decimal. */
struct dead_letter_id {
        uint32_t worker;
        uint64_t number, offset; /* of the file; of the line in it */
};
bool dead_letter_id_parse(struct slice text, struct dead_letter_id *ret_id);
void dead_letter_id_write(const struct dead_letter_id *id, char out[DEAD_LETTER_ID_BYTES_MAX]);

struct dead_letter {
        struct dead_letter_id id;
        int64_t time_ms;
        struct slice cause;
        struct slice destination; /* an event destination's name; empty: several names share the target */
        struct slice target;      /* its key */
        struct slice set;         /* the configuration set that the event was routed by; may be empty */
        enum sendring_event_type type;
        uint64_t lane_id, lane_position; /* the event's id */
        int64_t accepted_ms;             /* the first time */
        struct slice json;    /* what would have been sent, redacted where the destination says so; empty: the
                               * service takes no JSON */
        struct slice msgpack; /* the event as the producer wrote it; of a parsed letter in base64 */
        uint32_t crc;         /* of a parsed letter */
};

/* ---------------------------------------------------------------------------------------------- writing: a worker */

struct dead_letters;

struct dead_letters_options {
        struct io_loop *loop;  /* of the worker's thread, which makes all calls but create and free */
        const char *directory; /* copied; made when the first letter comes, the folder above must be there */
        uint32_t worker;
        uint64_t bytes_max; /* of this worker's files together; 0: no bound */
};
/* Allocates all that it will ever need. ERR_MEMORY. */
enum err_code dead_letters_create(const struct dead_letters_options *options, struct dead_letters **ret_letters,
                                  struct err *reterr);
void dead_letters_free(struct dead_letters *letters); /* NULL is allowed; not while busy (asserted) */
uint64_t dead_letters_budget_bytes(void);
/* The folder. */
const char *dead_letters_directory(const struct dead_letters *letters);
/* Appends one letter, whole or not at all: copied, written and synced through the loop, one at a time. `id`, `time_ms`
 * and `crc` are set here. What it returns:
 *
 * ERR_OK     it is on its way: `done` comes exactly once, from io_loop_turn(). Its ERR_OK says that the letter is on
 *            the disk, and in the folder; else it is not, with the reason and a sentence, and can be tried again later;
 * ERR_BUSY   another one is on its way;
 * ERR_LIMIT  bytes_max is reached; ERR_DISK_FULL, ERR_PERMISSION, ERR_SYSTEM: try again later.
 *
 * Names are looked up, made and listed by blocking calls; nothing that waits for a disk to have written is. */
enum err_code dead_letters_write(struct dead_letters *letters, const struct dead_letter *letter,
                                 void (*done)(void *context, enum err_code code, const struct err *why), void *context,
                                 struct err *reterr);
bool dead_letters_is_busy(const struct dead_letters *letters);

/* ---------------------------------------------------------------------------------------------- reading: tools */

/* One line without its newline. Texts are unescaped in place, so `line` is changed; the letter's slices point into it.
 * Hostile input. ERR_CORRUPT: the checksum is wrong, or there is none; others: what is missing or wrong in it. */
enum err_code dead_letter_parse(uint8_t *line, size_t line_bytes, struct dead_letter *ret_letter, struct err *reterr);
/* The event's bytes into `out`, which has LIMIT_EVENT_BYTES_MAX. False: not base64, or too long. */
bool dead_letter_event(const struct dead_letter *letter, uint8_t *out, struct slice *ret_event);

/* The name of a file in the folder. False: it is none of this kind. */
bool dead_letter_file_parse(struct slice name, struct slice suffix, uint32_t *ret_worker, uint64_t *ret_number);
void dead_letter_file_write(uint32_t worker, uint64_t number, const char *suffix, char out[64]);

/* One line of a .settled file, without its newline: which letter, by the checksum as well, and what became of it. A
 * line that is no letter can be dropped, too: its checksum is that of all of it. */
struct dead_letter_settled {
        uint64_t offset;
        uint32_t crc;
        bool dropped; /* else replayed */
};
uint32_t dead_letter_damaged_crc(struct slice line);
bool dead_letter_settled_parse(struct slice line, struct dead_letter_settled *ret_settled);
/* With the newline. Returns its bytes. */
#define DEAD_LETTER_SETTLED_BYTES_MAX 160u
size_t dead_letter_settled_write(const struct dead_letter_settled *settled, const struct dead_letter_id *id,
                                 int64_t time_ms, char out[DEAD_LETTER_SETTLED_BYTES_MAX]);

#endif
