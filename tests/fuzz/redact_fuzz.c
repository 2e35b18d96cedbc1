/* Any text through a redaction policy: the result is a JSON string, and before every '@' of it, however it is spelled,
 * stands a mask or nothing that could be part of a local part; and a local part that is woven into the input, as the
 * addresses of bounces weave a recipient's into theirs, is nowhere in it. The first byte chooses the kind of text. */
#include "base/assert.h"
#include "base/slice.h"
#include "codecs/redact.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_local(uint8_t byte)
{
        return byte >= 0x80 || (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') ||
               (byte != '\0' && strchr("!#$%&'+-/=?^_`{|}~.\"", byte) != NULL);
}

static bool is_wide(const uint8_t *text, size_t len)
{
        return len >= 3 && (memcmp(text, "\xef\xbc\xa0", 3) == 0 || memcmp(text, "\xef\xb9\xab", 3) == 0);
}

/* Signs by another way than redact_text.c's: "%40" behind any number of "%25", wide ones before a name with a dot. */
static bool is_sign(const uint8_t *text, size_t len)
{
        if (len > 0 && *text == '@')
                return true;
        if (len >= 3 && *text == '%') {
                static const char *const wide[2][3] = {{"EF", "BC", "A0"}, {"EF", "B9", "AB"}};
                size_t i = 1;
                for (int w = 0; w < 2; w++) {
                        size_t at = 0, byte = 0;
                        while (byte < 3 && at < len && text[at] == '%') {
                                at++;
                                while (at + 4 <= len && memcmp(text + at, "25", 2) == 0)
                                        at += 2;
                                if (at + 2 > len || strncasecmp((const char *)text + at, wide[w][byte], 2) != 0)
                                        break;
                                at += 2;
                                byte++;
                        }
                        if (byte == 3)
                                return true;
                }
                while (i + 4 <= len && memcmp(text + i, "25", 2) == 0)
                        i += 2;
                return i + 2 <= len && memcmp(text + i, "40", 2) == 0;
        }
        if (!is_wide(text, len))
                return false;
        bool dot = false;
        for (size_t i = 3; i < len && !is_wide(text + i, len - i); i++) {
                uint8_t byte = text[i];
                bool is_name = byte >= 0x80 || (byte >= '0' && byte <= '9') ||
                               ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') || byte == '_';
                if (dot && is_name)
                        return true;
                dot |= byte == '.';
                if (!is_name && byte != '.' && byte != '-')
                        break;
        }
        return false;
}

/* "zq" between the input's halves, in front of an address: whatever stands around it, if nothing of that ends a part of
 * a link, a word of a text, or what is quoted. */
static void weave(const struct codec_redaction *redaction, struct slice input, enum codec_redact_kind kind)
{
        static uint8_t text[1 << 17], json[1 << 20], plain[1 << 20];
        size_t half = input.len / 2, used = 0, tail = 0;
        if (half > 0) {
                memcpy(text, input.ptr, half);
                used = half;
        }
        /* A quote left open in front of it would make it a text in quotes, the end of one a local part. */
        text[used++] = kind == CODEC_REDACT_URL ? '&' : ' ';
        memcpy(text + used, "b-zq", 4);
        used += 4;
        for (size_t i = half; i < input.len; i++) {
                uint8_t byte = input.ptr[i];
                bool stays = kind == CODEC_REDACT_URL ? byte > ' ' && strchr("&;#/?\"", byte) == NULL
                                                      : is_local(byte) && byte != '"' && byte < 0x80;
                if (stays)
                        text[used + tail++] = byte;
        }
        /* It may be in the input already, perhaps as a domain. */
        if (slice_find(slice_of(text, half), SLICE("zq")) < half ||
            slice_find(slice_of(text + used, tail), SLICE("zq")) < tail)
                return;
        used += tail;
        memcpy(text + used, "@y.example", 10);
        used += 10;
        size_t bytes = codec_redact_string(redaction, slice_of(text, used), kind, 0, json, sizeof(json));
        ASSERT(bytes >= 2);
        size_t len = codec_json_unescape(slice_of(json + 1, bytes - 2), plain, sizeof(plain));
        ASSERT(len != SIZE_MAX);
        ASSERT(slice_find(slice_of(plain, len), SLICE("zq")) == len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static uint8_t json[1 << 20], text[1 << 20], again[1 << 20];
        struct codec_redaction redaction;
        if (size == 0 || size > (1 << 16))
                return 0;
        enum codec_redact_kind kind = (enum codec_redact_kind)(data[0] % 3);
        struct slice input = slice_of(data + 1, size - 1);
        codec_redaction_init(&redaction);
        redaction.addresses = CODEC_ADDRESSES_MASK;
        size_t bytes = codec_redact_string(&redaction, input, kind, 0, json, sizeof(json));
        ASSERT(bytes >= 2);
        size_t len = codec_json_unescape(slice_of(json + 1, bytes - 2), text, sizeof(text));
        ASSERT(len != SIZE_MAX);
        for (size_t i = 1; i < len; i++) {
                if (is_sign(text + i, len - i) && is_local(text[i - 1]))
                        ASSERT(kind == CODEC_REDACT_URL && strchr("/?&;#=", text[i - 1]) != NULL);
        }
        if (kind != CODEC_REDACT_ADDRESS)
                weave(&redaction, input, kind);
        /* Exactly enough room is enough; tokens are what stands there instead. */
        ASSERT(codec_redact_string(&redaction, input, kind, 0, again, bytes) == bytes);
        ASSERT(memcmp(json, again, bytes) == 0);
        ASSERT(codec_redact_string(&redaction, input, kind, 0, again, bytes - 1) == 0);
        ASSERT(codec_redaction_set_key(&redaction, SLICE("0123456789abcdef"), NULL) == ERR_OK);
        redaction.addresses = CODEC_ADDRESSES_HMAC;
        size_t with_tokens = codec_redact_string(&redaction, input, kind, UINT32_MAX, again, sizeof(again));
        ASSERT(with_tokens >= bytes && (with_tokens - bytes) % (CODEC_REDACTION_TOKEN_BYTES - 3) == 0);
        /* Paths of members to drop come from configuration files. */
        struct err err = {.text = ""};
        ASSERT(codec_redaction_drop(&redaction, input, &err) == ERR_OK || err.text[0] != '\0');
        ASSERT(codec_redaction_allow_header(&redaction, input, &err) == ERR_OK || err.text[0] != '\0');
        return 0;
}
