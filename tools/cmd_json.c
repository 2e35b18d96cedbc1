#include "codecs/codec.h"
#include "tools/cmd.h"

#include <stdio.h>

#define JSON_TEXT_BYTES_MAX 4096u

void cmd_print_json_text(const char *text, size_t text_bytes)
{
        uint8_t out[6 * JSON_TEXT_BYTES_MAX + 2]; /* every byte may grow to six */
        if (text_bytes > JSON_TEXT_BYTES_MAX)
                text_bytes = JSON_TEXT_BYTES_MAX;
        size_t bytes = codec_json_string(slice_of(text, text_bytes), out, sizeof(out));
        (void)fwrite(out, 1, bytes, stdout); /* as every printf here: a reader that went away ends us */
}
