#include "codecs/codec.h"
#include "codecs/json_text.h"

size_t codec_json_add_event_id(uint8_t *json, size_t bytes, size_t out_bytes, uint64_t lane_id, uint64_t lane_position,
                               uint64_t sequence)
{
        uint8_t words[2][8], number[20];
        char hex[33];
        uint64_t big[2] = {__builtin_bswap64(lane_id), __builtin_bswap64(lane_position)};
        memcpy(words, big, sizeof(words));
        codec_hex_write(slice_of(words, sizeof(words)), hex);
        struct json_out out = {.end = json + out_bytes, .is_short = false};
        uint8_t *at = json + bytes - 1; /* over the last brace */
        at = JSON_LITERAL(&out, at, ",\"sendring\":{\"eventId\":\"");
        at = json_bytes(&out, at, hex, 16);
        at = json_byte(&out, at, '-');
        at = json_bytes(&out, at, hex + 16, 16);
        at = JSON_LITERAL(&out, at, "\",\"sequence\":");
        at = json_bytes(&out, at, number, codec_u64_write(sequence, number));
        at = JSON_LITERAL(&out, at, "}}");
        return out.is_short ? 0 : (size_t)(at - json);
}
