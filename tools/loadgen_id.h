/* The ids of `sendring loadgen`: SES's shape, and in it who made the event, so that any endpoint counts loss and
 * duplicates exactly.
 *
 *     0100 mmmmmmmmmmmm - RRRRRRRR - PPPP - 4e76 - a11d - iiiiiiiiiiii - uuuuuu
 *          |              |          |                    |              |
 *          |              |          |                    |              microseconds behind that time, below 1000
 *          |              |          |                    index of the event within its producer, 12 hex digits
 *          |              |          number of the producer within the run, 4 hex digits
 *          |              id of the run, 8 hex digits
 *          mail.timestamp in milliseconds, 12 hex digits
 *
 * (without the spaces; 60 characters, lower case). A producer uses the indexes 0, 1, 2, ... without holes, one for each
 * event whose publish succeeded: after a run in which it published N events, exactly 0..N-1 must have arrived. A
 * producer killed by SIGKILL may have committed one event more than it could tell.
 *
 * "4e76" and "a11d" are fixed: a parser that finds anything else has an id that is not of loadgen.
 */
#ifndef SENDRING_TOOLS_LOADGEN_ID_H
#define SENDRING_TOOLS_LOADGEN_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LOADGEN_ID_BYTES     60 /* without a NUL */
#define LOADGEN_ID_INDEX_MAX UINT64_C(0xffffffffffff)

/* Where the parts begin. */
#define LOADGEN_ID_AT_TIME     4
#define LOADGEN_ID_AT_RUN      17
#define LOADGEN_ID_AT_PRODUCER 26
#define LOADGEN_ID_AT_MARK     31
#define LOADGEN_ID_AT_INDEX    41
#define LOADGEN_ID_AT_BEHIND   54
#define LOADGEN_ID_MARK        "4e76-a11d-"

struct loadgen_id {
        uint64_t timestamp_ms;
        uint16_t behind_us; /* 0..999: the time is so much later */
        uint32_t run_id;
        uint16_t producer;
        uint64_t index; /* 0..LOADGEN_ID_INDEX_MAX */
};

static inline void loadgen_id_write_hex(char *out, uint64_t value, size_t digits)
{
        for (size_t i = digits; i > 0; i--, value >>= 4)
                out[i - 1] = "0123456789abcdef"[value & 15];
}

static inline bool loadgen_id_read_hex(const char *text, size_t digits, uint64_t *ret_value)
{
        uint64_t value = 0;
        for (size_t i = 0; i < digits; i++) {
                char c = text[i];
                uint64_t digit;
                if (c >= '0' && c <= '9')
                        digit = (uint64_t)(c - '0');
                else if (c >= 'a' && c <= 'f')
                        digit = (uint64_t)(c - 'a') + 10;
                else
                        return false;
                value = value << 4 | digit;
        }
        *ret_value = value;
        return true;
}

/* Writes LOADGEN_ID_BYTES characters, no NUL. Bits of the time and the index above their 48 are dropped. */
static inline void loadgen_id_format(const struct loadgen_id *id, char out[LOADGEN_ID_BYTES])
{
        memcpy(out, "0100............-........-....-4e76-a11d-............-000000", LOADGEN_ID_BYTES);
        loadgen_id_write_hex(out + LOADGEN_ID_AT_TIME, id->timestamp_ms, 12);
        loadgen_id_write_hex(out + LOADGEN_ID_AT_RUN, id->run_id, 8);
        loadgen_id_write_hex(out + LOADGEN_ID_AT_PRODUCER, id->producer, 4);
        loadgen_id_write_hex(out + LOADGEN_ID_AT_INDEX, id->index, 12);
        loadgen_id_write_hex(out + LOADGEN_ID_AT_BEHIND, id->behind_us, 6);
}

/* True, with *ret_id set, for an id of loadgen; false for any other text. Reads exactly `len` bytes. */
static inline bool loadgen_id_parse(const char *text, size_t len, struct loadgen_id *ret_id)
{
        uint64_t time, run, producer, index, behind;
        if (len != LOADGEN_ID_BYTES || memcmp(text, "0100", 4) != 0 || text[LOADGEN_ID_AT_RUN - 1] != '-' ||
            text[LOADGEN_ID_AT_PRODUCER - 1] != '-' || text[LOADGEN_ID_AT_MARK - 1] != '-' ||
            memcmp(text + LOADGEN_ID_AT_MARK, LOADGEN_ID_MARK, sizeof(LOADGEN_ID_MARK) - 1) != 0 ||
            text[LOADGEN_ID_AT_BEHIND - 1] != '-')
                return false;
        if (!loadgen_id_read_hex(text + LOADGEN_ID_AT_TIME, 12, &time) ||
            !loadgen_id_read_hex(text + LOADGEN_ID_AT_RUN, 8, &run) ||
            !loadgen_id_read_hex(text + LOADGEN_ID_AT_PRODUCER, 4, &producer) ||
            !loadgen_id_read_hex(text + LOADGEN_ID_AT_INDEX, 12, &index) ||
            !loadgen_id_read_hex(text + LOADGEN_ID_AT_BEHIND, 6, &behind) || behind > 999)
                return false;
        *ret_id = (struct loadgen_id){.timestamp_ms = time,
                                      .behind_us = (uint16_t)behind,
                                      .run_id = (uint32_t)run,
                                      .producer = (uint16_t)producer,
                                      .index = index};
        return true;
}

#endif
