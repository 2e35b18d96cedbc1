/* What SES reads from a message and writes into one: X-SES-CONFIGURATION-SET, the ses:tags attribute of links, the
 * Feedback-ID header. Compiled into libsendring: libc only, nothing that allocates, logs or aborts. */
#include "base/limits.h"
#include "codecs/codec.h"
#include "codecs/tag.h"

enum err_code codec_configuration_set_parse(struct slice header, struct slice *ret_name, struct err *reterr)
{
        struct slice name = slice_trim(header);
        if (name.len == 0)
                return err_set(reterr, ERR_NAME, "X-SES-CONFIGURATION-SET: the name of a set is missing");
        if (name.len > LIMIT_NAME_BYTES_MAX)
                return err_set(reterr, ERR_NAME, "Configuration set name cannot exceed %u characters.",
                               LIMIT_NAME_BYTES_MAX);
        if (!codec_tag_bytes_are(name, CODEC_TAG_NAME))
                return err_set(reterr, ERR_NAME,
                               "Invalid configuration set name <%.*s>: only alphanumeric ASCII characters, '_', and "
                               "'-' are allowed.",
                               SLICE_PRINTF(name));
        *ret_name = name;
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- links */

enum err_code codec_link_tags_parse(struct slice attribute, struct sendring_pair *items, size_t items_max,
                                    size_t *ret_count, struct err *reterr)
{
        size_t count = 0;
        struct slice rest = slice_trim(attribute);
        while (rest.len > 0) {
                struct slice part = slice_trim(slice_cut(&rest, ';'));
                rest = slice_trim(rest);
                size_t colon = slice_find_byte(part, ':');
                if (colon == part.len)
                        return err_set(reterr, ERR_SYNTAX, "ses:tags: tag %zu is not name:value", count + 1);
                struct slice name = slice_trim(slice_head(part, colon));
                struct slice value = slice_trim(slice_from(part, colon + 1));
                enum err_code code = codec_link_tag_check(name, value, reterr);
                if (code != ERR_OK) {
                        (void)err_wrap(reterr, "ses:tags: tag %zu", count + 1); /* the code is at hand */
                        return code;
                }
                if (count == items_max)
                        return err_set(reterr, ERR_RANGE, "ses:tags: more than %zu tags", items_max);
                items[count++] = (struct sendring_pair){
                        .name = {(const char *)name.ptr, name.len},
                        .value = {(const char *)value.ptr, value.len},
                };
        }
        *ret_count = count;
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- Feedback-ID */

#define FEEDBACK_FIELDS 4

/* A field must not end the header, nor itself: visible ASCII without ':'. */
static bool feedback_is_field(struct slice text)
{
        for (size_t i = 0; i < text.len; i++)
                if (text.ptr[i] <= ' ' || text.ptr[i] >= 0x7f || text.ptr[i] == ':')
                        return false;
        return text.len <= SENDRING_FEEDBACK_FIELD_BYTES_MAX;
}

/* The value of ses:feedback-id-a or -b; empty when there is none. Given twice, the first one counts. */
static enum err_code feedback_tag(struct sendring_pairs tags, char letter, struct slice *ret_value, struct err *reterr)
{
        *ret_value = SLICE_EMPTY;
        for (size_t i = 0; i < tags.count && ret_value->len == 0; i++) {
                struct slice name = slice_of(tags.items[i].name.ptr, tags.items[i].name.len);
                struct slice value = slice_of(tags.items[i].value.ptr, tags.items[i].value.len);
                if (!codec_tag_is_feedback_id(name.ptr, name.len) || name.ptr[name.len - 1] != (uint8_t)letter)
                        continue;
                enum err_code code = codec_tag_check(name, value, reterr);
                if (code != ERR_OK) {
                        (void)err_wrap(reterr, "%.*s", SLICE_PRINTF(name)); /* the code is at hand */
                        return code;
                }
                *ret_value = value;
        }
        return ERR_OK;
}

enum err_code codec_feedback_id_write(struct sendring_pairs tags, struct slice internal_id, struct slice sender_id,
                                      char *out, size_t out_bytes, size_t *ret_bytes, struct err *reterr)
{
        struct slice fields[FEEDBACK_FIELDS] = {SLICE_EMPTY, SLICE_EMPTY, internal_id, sender_id};
        for (int i = 0; i < 2; i++) {
                enum err_code code = feedback_tag(tags, "ab"[i], &fields[i], reterr);
                if (code != ERR_OK)
                        return code;
        }
        if (!feedback_is_field(internal_id))
                return err_set(reterr, ERR_NAME, "Feedback-ID: the internal id must be visible ASCII without ':'");
        if (sender_id.len == 0 || !feedback_is_field(sender_id))
                return err_set(reterr, ERR_NAME, "Feedback-ID: the sender id must be there, visible ASCII without ':'");
        size_t bytes = FEEDBACK_FIELDS - 1;
        for (int i = 0; i < FEEDBACK_FIELDS; i++)
                bytes += fields[i].len;
        if (bytes + 1 > out_bytes)
                return err_set(reterr, ERR_TOO_BIG, "Feedback-ID: %zu bytes do not fit into %zu", bytes + 1, out_bytes);
        char *at = out;
        for (int i = 0; i < FEEDBACK_FIELDS; i++) {
                if (fields[i].len > 0)
                        memcpy(at, fields[i].ptr, fields[i].len);
                at += fields[i].len;
                *at++ = i < FEEDBACK_FIELDS - 1 ? ':' : '\0';
        }
        *ret_bytes = bytes;
        return ERR_OK;
}
