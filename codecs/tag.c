#include "codecs/tag.h"

#include "base/limits.h"
#include "codecs/codec.h"

#define N (CODEC_TAG_NAME | CODEC_TAG_VALUE)
#define V CODEC_TAG_VALUE

const uint8_t codec_tag_bytes[256] = {
        ['0'] = N, ['1'] = N, ['2'] = N, ['3'] = N, ['4'] = N, ['5'] = N, ['6'] = N, ['7'] = N, ['8'] = N, ['9'] = N,
        ['A'] = N, ['B'] = N, ['C'] = N, ['D'] = N, ['E'] = N, ['F'] = N, ['G'] = N, ['H'] = N, ['I'] = N, ['J'] = N,
        ['K'] = N, ['L'] = N, ['M'] = N, ['N'] = N, ['O'] = N, ['P'] = N, ['Q'] = N, ['R'] = N, ['S'] = N, ['T'] = N,
        ['U'] = N, ['V'] = N, ['W'] = N, ['X'] = N, ['Y'] = N, ['Z'] = N, ['a'] = N, ['b'] = N, ['c'] = N, ['d'] = N,
        ['e'] = N, ['f'] = N, ['g'] = N, ['h'] = N, ['i'] = N, ['j'] = N, ['k'] = N, ['l'] = N, ['m'] = N, ['n'] = N,
        ['o'] = N, ['p'] = N, ['q'] = N, ['r'] = N, ['s'] = N, ['t'] = N, ['u'] = N, ['v'] = N, ['w'] = N, ['x'] = N,
        ['y'] = N, ['z'] = N, ['_'] = N, ['-'] = N, ['.'] = V, ['@'] = V,
};

bool codec_tag_is_feedback_id(const uint8_t *name, size_t name_bytes)
{
        return name_bytes == 17 && memcmp(name, "ses:feedback-id-", 16) == 0 && (name[16] == 'a' || name[16] == 'b');
}

bool codec_tag_bytes_are(struct slice text, uint8_t kind)
{
        for (size_t i = 0; i < text.len; i++)
                if ((codec_tag_bytes[text.ptr[i]] & kind) == 0)
                        return false;
        return true;
}

/* The texts are AWS's as recorded, its two spaces included: programs look for them. */
enum err_code codec_tag_check_within(struct slice name, struct slice value, uint32_t bytes_max, struct err *reterr)
{
        if (name.len == 0)
                return err_set(reterr, ERR_NAME, "The tag name must be specified.");
        if (name.len > bytes_max)
                return err_set(reterr, ERR_NAME, "Tag name cannot exceed %u characters.", bytes_max);
        if (!codec_tag_bytes_are(name, CODEC_TAG_NAME) && !codec_tag_is_feedback_id(name.ptr, name.len))
                return err_set(reterr, ERR_NAME,
                               "Invalid tag name <%.*s>: only alphanumeric ASCII characters, '_',  '-' are allowed.",
                               SLICE_PRINTF(name));
        if (value.len == 0)
                return err_set(reterr, ERR_NAME, "The tag value must be specified.");
        if (value.len > bytes_max)
                return err_set(reterr, ERR_NAME, "Tag value cannot exceed %u characters.", bytes_max);
        if (!codec_tag_bytes_are(value, CODEC_TAG_VALUE))
                return err_set(reterr, ERR_NAME,
                               "Invalid tag value <%.*s>: only alphanumeric ASCII characters, '_',  '-' , '.', '@' are "
                               "allowed.",
                               SLICE_PRINTF(value));
        return ERR_OK;
}

enum err_code codec_link_tag_check(struct slice name, struct slice value, struct err *reterr)
{
        enum err_code code = codec_tag_check(name, value, reterr);
        if (code == ERR_OK && !codec_tag_bytes_are(name, CODEC_TAG_NAME))
                code = err_set(reterr, ERR_NAME,
                               "Invalid tag name <%.*s>: only alphanumeric ASCII characters, '_',  '-' are allowed.",
                               SLICE_PRINTF(name));
        if (code == ERR_OK && !codec_tag_bytes_are(value, CODEC_TAG_NAME))
                code = err_set(reterr, ERR_NAME,
                               "Invalid tag value <%.*s>: only alphanumeric ASCII characters, '_',  '-' are allowed.",
                               SLICE_PRINTF(value));
        return code;
}

enum err_code codec_tag_check(struct slice name, struct slice value, struct err *reterr)
{
        return codec_tag_check_within(name, value, LIMIT_TAG_BYTES_MAX, reterr);
}

enum err_code codec_message_tags_parse(struct slice header, struct sendring_pair *items, size_t items_max,
                                       size_t *ret_count, struct err *reterr)
{
        size_t count = 0;
        struct slice rest = slice_trim(header);
        while (rest.len > 0) {
                struct slice part = slice_trim(slice_cut(&rest, ','));
                rest = slice_trim(rest);
                if (part.len == 0) {
                        if (rest.len == 0 && count > 0)
                                break; /* a comma at the end does no harm */
                        return err_set(reterr, ERR_NAME, "X-SES-MESSAGE-TAGS: tag %zu is empty", count + 1);
                }
                size_t equals = slice_find_byte(part, '=');
                if (equals == part.len)
                        return err_set(reterr, ERR_SYNTAX, "X-SES-MESSAGE-TAGS: tag %zu has no '='", count + 1);
                struct slice name = slice_trim(slice_head(part, equals));
                struct slice value = slice_trim(slice_from(part, equals + 1));
                enum err_code code = codec_tag_check(name, value, reterr);
                if (code != ERR_OK) {
                        (void)err_wrap(reterr, "X-SES-MESSAGE-TAGS: tag %zu", count + 1); /* the code is at hand */
                        return code;
                }
                if (count == items_max)
                        return err_set(reterr, ERR_RANGE, "X-SES-MESSAGE-TAGS: more than %zu tags", items_max);
                items[count++] = (struct sendring_pair){
                        .name = {(const char *)name.ptr, name.len},
                        .value = {(const char *)value.ptr, value.len},
                };
        }
        *ret_count = count;
        return ERR_OK;
}
