/* The keys that KeyFile members stand for, apart from the sets: each by the path of its file. As text, one a line
 * behind the first, both in hexadecimal:
 *
 *   # sendring-keys 1
 *   <path> <key>
 */
#include "rules/rules_internal.h"

#include <stdlib.h>
#include <sys/random.h>

#define KEYS_HEAD "# sendring-keys 1\n"

/* Never moved: each byte of a key is wiped where it was. */
struct keys_one {
        struct keys_one *next;
        size_t path_bytes, key_bytes;
        uint8_t bytes[]; /* the path, then the key */
};

struct rules_keys {
        struct keys_one *first, *last;
        bool may_be_gone;
        uint32_t gone;
};

struct rules_keys *rules_keys_create(bool may_be_gone)
{
        struct rules_keys *keys = calloc(1, sizeof(*keys));
        if (keys != NULL)
                keys->may_be_gone = may_be_gone;
        return keys;
}

void rules_keys_clear(struct rules_keys *keys)
{
        while (keys->first != NULL) {
                struct keys_one *one = keys->first;
                keys->first = one->next;
                explicit_bzero(one, sizeof(*one) + one->path_bytes + one->key_bytes);
                free(one);
        }
        keys->last = NULL;
        keys->gone = 0;
}

void rules_keys_free(struct rules_keys *keys)
{
        if (keys == NULL)
                return;
        rules_keys_clear(keys);
        free(keys);
}

uint32_t rules_keys_gone(const struct rules_keys *keys)
{
        return keys->gone;
}

static struct keys_one *keys_make(size_t path_bytes, size_t key_bytes)
{
        struct keys_one *one = malloc(sizeof(*one) + path_bytes + key_bytes);
        if (one != NULL)
                *one = (struct keys_one){.path_bytes = path_bytes, .key_bytes = key_bytes};
        return one;
}

static void keys_append(struct rules_keys *keys, struct keys_one *one)
{
        if (keys->last == NULL)
                keys->first = one;
        else
                keys->last->next = one;
        keys->last = one;
}

static struct slice keys_path(const struct keys_one *one)
{
        return slice_of(one->bytes, one->path_bytes);
}

static struct slice keys_key(const struct keys_one *one)
{
        return slice_of(one->bytes + one->path_bytes, one->key_bytes);
}

struct slice rules_keys_find(const struct rules_keys *keys, struct slice path)
{
        for (const struct keys_one *one = keys->first; one != NULL; one = one->next)
                if (slice_equal(keys_path(one), path))
                        return keys_key(one);
        return SLICE_EMPTY;
}

bool rules_keys_add(struct rules_keys *keys, struct slice path, struct slice key)
{
        struct keys_one *one = keys_make(path.len, key.len);
        if (one == NULL)
                return false;
        memcpy(one->bytes, path.ptr, path.len);
        memcpy(one->bytes + path.len, key.ptr, key.len);
        keys_append(keys, one);
        return true;
}

bool rules_keys_replace_gone(struct rules_keys *keys, uint8_t *key, size_t key_bytes)
{
        if (!keys->may_be_gone || getrandom(key, key_bytes, 0) != (ssize_t)key_bytes)
                return false;
        keys->gone++;
        return true;
}

bool rules_keys_are_same(const struct rules_keys *left, const struct rules_keys *right)
{
        const struct keys_one *a = left->first, *b = right->first;
        for (; a != NULL && b != NULL; a = a->next, b = b->next)
                if (!slice_equal(keys_path(a), keys_path(b)) || !slice_equal(keys_key(a), keys_key(b)))
                        return false;
        return a == NULL && b == NULL;
}

/* ---------------------------------------------------------------------------------------------- as text */

bool rules_keys_print(const struct rules_keys *keys, uint8_t **ret_text, size_t *ret_bytes)
{
        size_t bytes = strlen(KEYS_HEAD), used = bytes;
        for (const struct keys_one *one = keys->first; one != NULL; one = one->next)
                bytes += 2 * (one->path_bytes + one->key_bytes) + 2;
        *ret_text = NULL;
        *ret_bytes = 0;
        if (keys->first == NULL)
                return true;
        uint8_t *text = malloc(bytes);
        if (text == NULL)
                return false;
        memcpy(text, KEYS_HEAD, used);
        for (const struct keys_one *one = keys->first; one != NULL; one = one->next) {
                codec_hex_write(keys_path(one), (char *)text + used);
                used += 2 * one->path_bytes;
                text[used++] = ' ';
                codec_hex_write(keys_key(one), (char *)text + used);
                used += 2 * one->key_bytes;
                text[used++] = '\n';
        }
        *ret_text = text;
        *ret_bytes = bytes;
        return true;
}

static int keys_digit(uint8_t letter)
{
        if (letter >= '0' && letter <= '9')
                return letter - '0';
        return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

static bool keys_unhex(struct slice hex, uint8_t *out)
{
        for (size_t i = 0; i + 1 < hex.len; i += 2) {
                int high = keys_digit(hex.ptr[i]), low = keys_digit(hex.ptr[i + 1]);
                if (high < 0 || low < 0)
                        return false;
                out[i / 2] = (uint8_t)(high << 4 | low);
        }
        return hex.len % 2 == 0;
}

enum err_code rules_keys_scan(struct slice text, struct rules_keys *keys)
{
        rules_keys_clear(keys);
        if (!slice_has_prefix(text, SLICE(KEYS_HEAD)))
                return ERR_CORRUPT;
        text = slice_from(text, strlen(KEYS_HEAD));
        enum err_code code = ERR_OK;
        while (text.len > 0 && code == ERR_OK) {
                const bool ended = text.ptr[text.len - 1] == '\n';
                struct slice key = slice_cut(&text, '\n'), path = slice_cut(&key, ' ');
                const size_t key_bytes = key.len / 2;
                if (!ended || path.len == 0 || key_bytes < CODEC_REDACTION_KEY_BYTES_MIN ||
                    key_bytes > CODEC_REDACTION_KEY_BYTES_MAX) {
                        code = ERR_CORRUPT;
                        break;
                }
                struct keys_one *one = keys_make(path.len / 2, key_bytes);
                if (one == NULL) {
                        code = ERR_MEMORY;
                        break;
                }
                keys_append(keys, one);
                if (!keys_unhex(path, one->bytes) || !keys_unhex(key, one->bytes + one->path_bytes))
                        code = ERR_CORRUPT;
        }
        if (code != ERR_OK)
                rules_keys_clear(keys);
        return code;
}
