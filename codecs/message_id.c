#include "codecs/codec.h"

static char *message_id_hex(char *out, uint64_t value, unsigned digits)
{
        for (unsigned i = digits; i-- > 0;)
                *out++ = "0123456789abcdef"[(value >> (4 * i)) & 15];
        return out;
}

void codec_message_id_write(int64_t timestamp_ms, uint64_t random_high, uint64_t random_low, char ret_id[61])
{
        /* A version 4, variant 1 UUID: 122 random bits. */
        uint64_t high = (random_high & ~UINT64_C(0xf000)) | UINT64_C(0x4000);
        uint64_t low = (random_low & ~(UINT64_C(3) << 62)) | UINT64_C(2) << 62;
        char *at = ret_id;
        memcpy(at, "0100", 4);
        at = message_id_hex(at + 4, (uint64_t)timestamp_ms, 12);
        *at++ = '-';
        at = message_id_hex(at, high >> 32, 8);
        *at++ = '-';
        at = message_id_hex(at, high >> 16, 4);
        *at++ = '-';
        at = message_id_hex(at, high, 4);
        *at++ = '-';
        at = message_id_hex(at, low >> 48, 4);
        *at++ = '-';
        at = message_id_hex(at, low, 12);
        memcpy(at, "-000000", 8); /* with the NUL */
}
