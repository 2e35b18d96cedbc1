/* The daemon's lane reader on hostile memory. The input is a script that a malicious producer might follow: it moves
 * head, scribbles into the records and into its head page, between and within visits. The lane is mapped between guard
 * pages as in the daemon, so that a read outside it ends the program.
 *
 * Properties: every record lies within the double mapping, is 8-aligned, has 1 to payload_bytes_max bytes, ends at or
 * before the head that was loaded; positions only grow; a visit takes no more than the lane holds; the tail equals the
 * position after each visit; a broken lane offers nothing. */
#include "base/limits.h"
#include "ring/ring.h"
#include "ring/ring_internal.h"

#include <stdlib.h>

#define REQUIRE(condition)        \
        do {                      \
                if (!(condition)) \
                        abort();  \
        } while (0)

struct script {
        const uint8_t *at;
        size_t left;
};

static uint64_t script_take(struct script *script, size_t bytes)
{
        uint64_t value = 0;
        if (bytes > script->left)
                bytes = script->left;
        memcpy(&value, script->at, bytes);
        script->at += bytes;
        script->left -= bytes;
        return value;
}

static void lane_reset(struct ring_lane *lane, uint64_t cursor)
{
        memset(lane->data, 0, (size_t)lane->lane_bytes);
        memset((uint8_t *)lane->head_page, 0, sizeof(*lane->head_page));
        lane->visiting = false;
        lane->visit_over = false;
        lane->bad_head_seen = false;
        lane->cursor = cursor;
        lane->read = cursor;
        lane->last = cursor;
        atomic_store(&lane->violations, 0);
        atomic_store(&lane->skipped_bytes, 0);
        atomic_store(&lane->position, cursor);
        atomic_store(&lane->page->tail, cursor);
        atomic_store(&lane->head_page->head, cursor);
}

/* One act of the producer. */
static void act(struct ring_lane *lane, struct script *script)
{
        uint64_t what = script_take(script, 1);
        uint64_t head = atomic_load(&lane->head_page->head);
        switch (what & 7) {
        case 0:
                atomic_store(&lane->head_page->head, script_take(script, 8));
                break;
        case 1:
                atomic_store(&lane->head_page->head, head + 8 * script_take(script, 1));
                break;
        case 2:
                atomic_store(&lane->head_page->head, head + 8 * script_take(script, 2));
                break;
        case 3: { /* a record as an honest producer writes it */
                uint64_t payload_bytes = 1 + script_take(script, 1);
                uint64_t kind = (what & 8) != 0 ? RING_KIND_REPLAY : RING_KIND_EVENT;
                uint64_t header = kind << 32 | payload_bytes;
                memcpy(lane->data + (head & lane->mask & ~UINT64_C(7)), &header, 8);
                if (kind == RING_KIND_REPLAY) {
                        uint64_t lengths = script_take(script, 4);
                        memcpy(lane->data + ((head + 32) & lane->mask & ~UINT64_C(7)), &lengths, 8);
                }
                atomic_store(&lane->head_page->head, head + ring_record_bytes((uint32_t)payload_bytes));
                break;
        }
        case 4: { /* any header at the reader */
                uint64_t header = script_take(script, 8);
                memcpy(lane->data + (lane->read & lane->mask & ~UINT64_C(7)), &header, 8);
                break;
        }
        case 5: { /* any bytes anywhere */
                uint64_t offset = script_take(script, 2) & lane->mask;
                uint64_t bytes = script_take(script, 8);
                memcpy(lane->data + offset, &bytes, 8);
                break;
        }
        case 6: { /* the largest records, and some that are too large */
                uint64_t header =
                        (uint64_t)RING_KIND_EVENT << 32 | (lane->payload_bytes_max + 16 - script_take(script, 1));
                memcpy(lane->data + (head & lane->mask & ~UINT64_C(7)), &header, 8);
                atomic_store(&lane->head_page->head, head + ring_record_bytes((uint32_t)header));
                break;
        }
        default: { /* its head page */
                uint64_t offset = script_take(script, 2) % (RING_PAGE_BYTES - 8);
                uint64_t bytes = script_take(script, 8);
                memcpy((uint8_t *)lane->head_page + offset, &bytes, 8);
                break;
        }
        }
}

static void visit(struct ring_lane *lane, struct script *script)
{
        static uint8_t copy[LIMIT_EVENT_BYTES_MAX + 1024];
        static struct ring_replayed replayed;
        uint64_t before = ring_lane_position(lane);
        bool broken = ring_lane_is_broken(lane);
        uint64_t how = script_take(script, 1);
        uint64_t ready =
                (how & 1) != 0 ? ring_visit_begin_budget(lane, script_take(script, 3)) : ring_visit_begin(lane);
        struct slice payload;
        uint64_t position;
        uint64_t last = before;
        REQUIRE(ready <= lane->lane_bytes);
        REQUIRE(!broken || ready == 0);
        enum ring_visit kind;
        while (ready > 0 && (kind = ring_visit_next(lane, &payload, &position)) != RING_VISIT_NOTHING) {
                struct slice event = SLICE_EMPTY;
                REQUIRE(payload.len >= 1 && (payload.len <= lane->payload_bytes_max || kind == RING_VISIT_REPLAY));
                REQUIRE(payload.len <= ring_replay_bytes_max(lane->lane_bytes));
                if (kind == RING_VISIT_REPLAY && ring_replay_read(payload, &replayed, &event)) {
                        REQUIRE(event.ptr > payload.ptr && event.ptr + event.len == payload.ptr + payload.len);
                        REQUIRE(event.len >= 1 && event.len <= LIMIT_EVENT_BYTES_MAX);
                        REQUIRE(replayed.destination_bytes <= sizeof(replayed.destination));
                        REQUIRE(replayed.set_bytes <= sizeof(replayed.set));
                }
                REQUIRE(payload.ptr >= lane->data + RING_HEADER_BYTES);
                REQUIRE(payload.ptr + payload.len <= lane->data + 2 * lane->lane_bytes);
                REQUIRE(((uintptr_t)payload.ptr & 7) == 0);
                REQUIRE(position - last == ring_record_bytes((uint32_t)payload.len));
                REQUIRE(position - before <= ready);
                memcpy(copy, payload.ptr, payload.len);
                if ((how & 2) != 0)
                        act(lane, script);
                if ((how & 4) != 0 && (script_take(script, 1) & 7) == 0) {
                        ring_visit_undo(lane);
                        REQUIRE(!ring_visit_next(lane, &payload, &position));
                        break;
                }
                last = position;
        }
        ring_visit_end(lane);
        REQUIRE(ring_lane_position(lane) - before <= ready);
        REQUIRE(atomic_load(&lane->page->tail) == ring_lane_position(lane));
        REQUIRE((ring_lane_position(lane) & 7) == 0);
        if (ring_lane_violations(lane) == 0)
                REQUIRE(ring_lane_position(lane) == last);
        struct ring_lane_counts counts;
        ring_lane_get_counts(lane, &counts);
        REQUIRE(counts.waiting_bytes <= lane->lane_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct ring_lane *lane;
        struct script script = {.at = data, .left = size};
        if (lane == NULL && ring_lane_create(1, LIMIT_LANE_BYTES_MIN, false, &lane, NULL) != ERR_OK)
                abort();
        lane_reset(lane, script_take(&script, 8) & ~UINT64_C(7));
        while (script.left > 0) {
                uint64_t acts = script_take(&script, 1) & 15;
                for (uint64_t i = 0; i < acts; i++)
                        act(lane, &script);
                visit(lane, &script);
        }
        return 0;
}
