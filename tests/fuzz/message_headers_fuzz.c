/* Headers and attributes that mail programs hand over: X-SES-MESSAGE-TAGS, X-SES-CONFIGURATION-SET, ses:tags, From.
 * What is accepted is valid by the rules of tags, points into the input, and makes the same list when it is written
 * again. The domain of a From header is one, and what stands in quotes or comments beside it does not change it. */
#include "base/assert.h"
#include "codecs/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ITEMS 64

typedef enum err_code (*parse_function)(struct slice, struct sendring_pair *, size_t, size_t *, struct err *);

static bool is_inside(struct sendring_str text, const uint8_t *data, size_t size)
{
        return (const uint8_t *)text.ptr >= data && (const uint8_t *)text.ptr + text.len <= data + size;
}

static void check(parse_function parse, char between, char behind, const uint8_t *data, size_t size)
{
        static struct sendring_pair items[ITEMS], again[ITEMS];
        static uint8_t text[ITEMS * 512];
        size_t count = 0, count_again = 0, at = 0;
        struct err err = {.text = ""};
        if (parse(slice_of(data, size), items, ITEMS, &count, &err) != ERR_OK) {
                ASSERT(err.text[0] != '\0');
                return;
        }
        ASSERT(count <= ITEMS);
        for (size_t i = 0; i < count; i++) {
                struct slice name = slice_of(items[i].name.ptr, items[i].name.len);
                struct slice value = slice_of(items[i].value.ptr, items[i].value.len);
                ASSERT(is_inside(items[i].name, data, size) && is_inside(items[i].value, data, size));
                ASSERT(codec_tag_check(name, value, NULL) == ERR_OK);
                memcpy(text + at, name.ptr, name.len);
                text[at + name.len] = (uint8_t)between;
                at += name.len + 1;
                memcpy(text + at, value.ptr, value.len);
                text[at + value.len] = (uint8_t)behind;
                at += value.len + 1;
        }
        ASSERT(parse(slice_of(text, at), again, ITEMS, &count_again, NULL) == ERR_OK);
        ASSERT(count_again == count);
        for (size_t i = 0; i < count; i++)
                ASSERT(slice_equal(slice_of(items[i].value.ptr, items[i].value.len),
                                   slice_of(again[i].value.ptr, again[i].value.len)));
}

static bool is_domain(struct slice domain)
{
        if (domain.len > 2 && domain.ptr[0] == '[' && domain.ptr[domain.len - 1] == ']')
                domain = slice_of(domain.ptr + 1, domain.len - 2);
        for (size_t i = 0; i < domain.len; i++)
                if (domain.ptr[i] <= ' ' || strchr("@<>()[],;\"\\", domain.ptr[i]) != NULL)
                        return false;
        return true;
}

static void check_address(struct slice header)
{
        static uint8_t text[2 * (1 << 16) + 64];
        static const char behind[] = " <a@b.example>, c@d.example";
        struct slice domain = codec_address_domain(header);
        ASSERT(domain.len <= 255 && is_domain(domain));
        if (header.len > (1 << 16))
                return;
        if (domain.len > 0) { /* alone it is the same one */
                ASSERT(domain.ptr > header.ptr && domain.ptr + domain.len <= header.ptr + header.len);
                memcpy(text, "a@", 2);
                memcpy(text + 2, domain.ptr, domain.len);
                ASSERT(slice_equal(codec_address_domain(slice_of(text, 2 + domain.len)), domain));
        }
        /* In a comment none of it counts. */
        size_t used = 0;
        text[used++] = '(';
        for (size_t i = 0; i < header.len; i++) {
                if (header.ptr[i] == '\\' || header.ptr[i] == '(' || header.ptr[i] == ')')
                        text[used++] = '\\';
                text[used++] = header.ptr[i];
        }
        text[used++] = ')';
        memcpy(text + used, behind, sizeof(behind));
        ASSERT(slice_equal(codec_address_domain(slice_of(text, used + sizeof(behind) - 1)), SLICE("b.example")));
        /* And in quotes, as a name. */
        used = 0;
        text[used++] = '"';
        for (size_t i = 0; i < header.len; i++) {
                if (header.ptr[i] == '\\' || header.ptr[i] == '"')
                        text[used++] = '\\';
                text[used++] = header.ptr[i];
        }
        text[used++] = '"';
        memcpy(text + used, behind, sizeof(behind));
        ASSERT(slice_equal(codec_address_domain(slice_of(text, used + sizeof(behind) - 1)), SLICE("b.example")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        check_address(slice_of(data, size));
        check(codec_message_tags_parse, '=', ',', data, size);
        check(codec_link_tags_parse, ':', ';', data, size);
        struct slice name = SLICE_EMPTY;
        if (codec_configuration_set_parse(slice_of(data, size), &name, NULL) == ERR_OK)
                ASSERT(name.len > 0 && name.len <= 64 && name.ptr >= data && name.ptr + name.len <= data + size);
        struct sendring_pair tag = {SENDRING_STR("ses:feedback-id-a"), {(const char *)data, size}};
        char out[SENDRING_FEEDBACK_ID_BYTES];
        size_t bytes = 0, cut = size / 2;
        if (codec_feedback_id_write((struct sendring_pairs){&tag, 1}, slice_of(data, cut),
                                    slice_of(data + cut, size - cut), out, sizeof(out), &bytes, NULL) == ERR_OK) {
                ASSERT(bytes < sizeof(out) && out[bytes] == '\0' && strlen(out) == bytes);
                size_t colons = 0;
                for (size_t i = 0; i < bytes; i++)
                        colons += out[i] == ':';
                ASSERT(colons == 3);
        }
        return 0;
}
