/* Sendring: {Redaction: {...}} of a destination: what its records do not tell (codecs/redact.h). */
#include "rules/rules_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of a key file: longer is too long. */
#define REDACTION_READ_BYTES (CODEC_REDACTION_KEY_BYTES_MAX + 3)
#define COUNT(array)         (sizeof(array) / sizeof((array)[0]))

#define REDACTION_MEMBER_BYTES_MAX (sizeof("mail.tags.") - 1 + CODEC_REDACTION_NAME_BYTES_MAX) /* mail.tags.NAME */

/* What is wrong with the file, or NULL. */
static const char *redaction_key_wrong(int fd)
{
        struct stat info;
        if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
                return "it is no regular file";
        if ((info.st_mode & 077) != 0)
                return "others may use it: chmod 600";
        if (info.st_uid != 0 && geteuid() != 0 && info.st_uid != geteuid()) /* root looks for the daemon's user, too */
                return "it belongs neither to root nor to the user of this process";
        return NULL;
}

/* For files of another host: a key that is another one where the path is. */
static enum err_code redaction_key_elsewhere(struct codec_redaction *redaction, struct slice path, struct err *reterr)
{
        uint8_t bytes[CODEC_REDACTION_KEY_BYTES_MAX] = {0};
        memcpy(bytes, path.ptr, path.len); /* 4095 at most */
        size_t len = path.len < CODEC_REDACTION_KEY_BYTES_MIN ? CODEC_REDACTION_KEY_BYTES_MIN : path.len;
        return codec_redaction_set_key(redaction, slice_of(bytes, len), reterr);
}

/* Reads what the file holds, without a line end behind it, into `bytes`. What is wrong, or NULL. */
static const char *redaction_key_read(struct slice path, uint8_t bytes[REDACTION_READ_BYTES], struct slice *ret_key,
                                      bool *ret_opened)
{
        /* A pipe must not stop the daemon, nor a link lead elsewhere. */
        int fd = open((const char *)path.ptr, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        *ret_opened = fd >= 0;
        if (fd < 0)
                return strerror(errno);
        const char *wrong = redaction_key_wrong(fd);
        ssize_t got = wrong == NULL ? read(fd, bytes, REDACTION_READ_BYTES) : 0;
        if (got < 0)
                wrong = strerror(errno);
        (void)close(fd); /* read only */
        *ret_key = slice_of(bytes, got > 0 ? (size_t)got : 0);
        while (ret_key->len > 0 && (ret_key->ptr[ret_key->len - 1] == '\n' || ret_key->ptr[ret_key->len - 1] == '\r'))
                ret_key->len--;
        return wrong;
}

/* The key: the one that is given for the path, or the file's. Keys are said in no message. */
static bool redaction_key(struct rules_reader *reader, const struct rules_yaml_node *node,
                          struct codec_redaction *redaction)
{
        uint8_t bytes[REDACTION_READ_BYTES];
        struct slice path, key = SLICE_EMPTY;
        struct err err = {.text = ""};
        if (!rules_yaml_text(reader, node, "Redaction.KeyFile", 1, 4095, &path))
                return false;
        if (path.ptr[0] != '/') {
                rules_error(reader, node, "Redaction.KeyFile %s must be absolute", rules_quote(reader, path));
                return false;
        }
        if (reader->elsewhere) {
                bool set = redaction_key_elsewhere(redaction, path, &err) == ERR_OK;
                if (!set)
                        rules_error(reader, node, "Redaction.KeyFile %s: %s", rules_quote(reader, path), err.text);
                return set;
        }
        if (reader->keys != NULL)
                key = rules_keys_find(reader->keys, path);
        const bool given = key.len > 0;
        bool opened = true;
        const char *wrong = given ? NULL : redaction_key_read(path, bytes, &key, &opened);
        if (wrong == NULL && codec_redaction_set_key(redaction, key, &err) != ERR_OK)
                wrong = err.text;
        if (wrong == NULL && !given && reader->keys != NULL)
                reader->out_of_memory |= !rules_keys_add(reader->keys, path, key);
        if (wrong != NULL && reader->keys != NULL &&
            rules_keys_replace_gone(reader->keys, bytes, CODEC_REDACTION_KEY_BYTES_MIN) &&
            codec_redaction_set_key(redaction, slice_of(bytes, CODEC_REDACTION_KEY_BYTES_MIN), NULL) == ERR_OK) {
                wrong = NULL;
                /* Who shares the file shares it, too: else two targets would write what is one. */
                reader->out_of_memory |=
                        !rules_keys_add(reader->keys, path, slice_of(bytes, CODEC_REDACTION_KEY_BYTES_MIN));
        }
        explicit_bzero(bytes, sizeof(bytes));
        if (wrong != NULL)
                rules_error(reader, node, "Redaction.KeyFile %s%s: %s", rules_quote(reader, path),
                            opened ? "" : " cannot be opened", wrong);
        return wrong == NULL;
}

/* A list of names, each given to `add`. */
static bool redaction_names(struct rules_reader *reader, const struct rules_yaml_node *list, const char *what,
                            uint32_t bytes_max,
                            enum err_code (*add)(struct codec_redaction *, struct slice, struct err *),
                            struct codec_redaction *redaction)
{
        bool good = true;
        if (!rules_yaml_list(reader, list, what))
                return false;
        for (const struct rules_yaml_node *item = list->first; item != NULL; item = item->next) {
                struct slice name;
                struct err err = {.text = ""};
                if (!rules_yaml_text(reader, item, what, 1, bytes_max, &name)) {
                        good = false;
                } else if (add(redaction, name, &err) != ERR_OK) {
                        rules_error(reader, item, "%s: %s", what, err.text);
                        good = false;
                }
        }
        return good;
}

bool rules_redaction_read(struct rules_reader *reader, const struct rules_yaml_node *node,
                          struct codec_redaction *redaction)
{
        enum { ADDRESSES, KEY_FILE, DOMAIN, DROP, HEADERS };
        static const char *const names[] = {"Addresses", "KeyFile", "Domain", "Drop", "Headers"};
        static const char *const addresses[] = {"keep", "mask", "hmac"}; /* as enum codec_redact_addresses */
        static const char *const domains[] = {"keep", "drop"};
        const struct rules_yaml_node *values[COUNT(names)];
        size_t index = 0, domain = 0;
        if (!rules_yaml_members(reader, node, "Redaction", names, COUNT(names), values))
                return false;
        bool good = true;
        if (values[ADDRESSES] != NULL &&
            !rules_yaml_choice(reader, values[ADDRESSES], "Redaction.Addresses", addresses, COUNT(addresses), &index))
                good = false;
        if (values[DOMAIN] != NULL &&
            !rules_yaml_choice(reader, values[DOMAIN], "Redaction.Domain", domains, COUNT(domains), &domain))
                good = false;
        redaction->addresses = (enum codec_redact_addresses)index;
        redaction->domain_dropped = domain == 1;
        for (size_t i = KEY_FILE; i <= DOMAIN && good; i++)
                if (values[i] != NULL && redaction->addresses != CODEC_ADDRESSES_HMAC) {
                        rules_error(reader, values[i], "Redaction.%s belongs to Addresses: hmac", names[i]);
                        good = false;
                }
        if (good && redaction->addresses == CODEC_ADDRESSES_HMAC && values[KEY_FILE] == NULL) {
                rules_error(reader, node,
                            "Redaction: Addresses: hmac needs KeyFile, a file with mode 600 that holds %u to %u bytes",
                            CODEC_REDACTION_KEY_BYTES_MIN, CODEC_REDACTION_KEY_BYTES_MAX);
                good = false;
        }
        if (good && values[KEY_FILE] != NULL)
                good = redaction_key(reader, values[KEY_FILE], redaction);
        if (values[DROP] != NULL)
                good = redaction_names(reader, values[DROP], "Redaction.Drop", REDACTION_MEMBER_BYTES_MAX,
                                       codec_redaction_drop, redaction) &&
                       good;
        if (values[HEADERS] != NULL) {
                redaction->headers_limited = true; /* an empty list allows none */
                good = redaction_names(reader, values[HEADERS], "Redaction.Headers", CODEC_REDACTION_NAME_BYTES_MAX,
                                       codec_redaction_allow_header, redaction) &&
                       good;
        }
        return good;
}
