/* The floor of the whole path: what the bytes of an event cost when nothing but the unavoidable is done with them.
 *
 * Events of the generator that `sendring loadgen` uses, encoded and decoded beforehand, go in pieces that stay in the
 * second-level cache through memcpy of each event (lane to journal), CRC-32C of the copy (ISA-L), JSON, with gzip
 * igzip, base64 of the lines into a body, SHA-256 of the text. When a body is whole, and only then could its request be
 * signed, it goes in pieces through AES-GCM in records of 16 KiB and send() over loopback TCP to a thread that reads.
 * A body has 3,750 events: 4 MiB of base64; with gzip it is a seventh of that, where a request of the router has as
 * many events more. Only the calling thread's CPU time counts. */
#ifndef SENDRING_BENCH_PATH_FLOOR_H
#define SENDRING_BENCH_PATH_FLOOR_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum path_floor_part {
        PATH_FLOOR_MEMCPY,
        PATH_FLOOR_CRC32C,
        PATH_FLOOR_JSON,
        PATH_FLOOR_GZIP, /* 0 without */
        PATH_FLOOR_BASE64,
        PATH_FLOOR_SHA256,
        PATH_FLOOR_AES_GCM,
        PATH_FLOOR_SEND,
        PATH_FLOOR_PARTS,
};

struct path_floor;

/* `aes_bits`: 128 or 256. Starts the reading thread. `gzip`: the lines are compressed by igzip, level 1, before base64,
 * in one stream a body that is flushed behind each piece and never ended: trailers are not in the floor. */
enum err_code path_floor_create(uint32_t aes_bits, bool gzip, struct path_floor **ret_floor, struct err *reterr);
void path_floor_free(struct path_floor *floor); /* NULL is fine */
/* Nanoseconds of CPU per event, by part. */
enum err_code path_floor_round(struct path_floor *floor, double ret_ns[PATH_FLOOR_PARTS], struct err *reterr);
/* Means per event. */
double path_floor_wire_bytes(const struct path_floor *floor);
double path_floor_json_bytes(const struct path_floor *floor);

#endif
