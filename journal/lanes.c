/* The largest lane position per lane id, as the recovery scan found them: a hash with open addressing. */
#include "journal/journal_internal.h"

#include <stdlib.h>

static uint64_t journal_lane_hash(uint64_t lane_id)
{
        /* Lane ids are random; the multiplication guards against ids that a test or another router numbers. */
        return (lane_id * UINT64_C(0x9e3779b97f4a7c15)) >> 20;
}

static struct journal_lane *journal_lanes_line(const struct journal_lanes *lanes, uint64_t lane_id)
{
        uint64_t at = journal_lane_hash(lane_id) & (lanes->capacity - 1);
        while (lanes->lines[at].lane_position != 0 && lanes->lines[at].lane_id != lane_id)
                at = (at + 1) & (lanes->capacity - 1);
        return &lanes->lines[at];
}

static bool journal_lanes_grow(struct journal_lanes *lanes)
{
        uint64_t capacity = lanes->capacity == 0 ? 1024 : lanes->capacity * 2;
        struct journal_lanes larger = {.capacity = capacity, .count = lanes->count};
        larger.lines = calloc(capacity, sizeof(*larger.lines));
        if (larger.lines == NULL)
                return false;
        for (uint64_t i = 0; i < lanes->capacity; i++) {
                if (lanes->lines[i].lane_position != 0)
                        *journal_lanes_line(&larger, lanes->lines[i].lane_id) = lanes->lines[i];
        }
        free(lanes->lines);
        *lanes = larger;
        return true;
}

bool journal_lanes_note(struct journal_lanes *lanes, uint64_t lane_id, uint64_t lane_position)
{
        if (lane_position == 0)
                return true; /* the same as unknown */
        if (lanes->count * 2 >= lanes->capacity && !journal_lanes_grow(lanes))
                return false;
        struct journal_lane *line = journal_lanes_line(lanes, lane_id);
        if (line->lane_position == 0) {
                line->lane_id = lane_id;
                lanes->count++;
        }
        if (lane_position > line->lane_position)
                line->lane_position = lane_position;
        return true;
}

uint64_t journal_lanes_find(const struct journal_lanes *lanes, uint64_t lane_id)
{
        return lanes->capacity == 0 ? 0 : journal_lanes_line(lanes, lane_id)->lane_position;
}
