/* Copies of configuration-sets.yaml as it was in force: state_directory/plans/<number>.yaml, the largest number newest.
 * They tell what the file itself may not tell any more: how to deliver what waits for a target that no set names now,
 * and what was in force when a router died after somebody had made a mistake in the file. A copy stays as long as it is
 * the newest, or the newest that names a target which still has events. One that finds no room on the disk stays in
 * memory until it does.
 *
 * The first line of a copy, a comment, has the settings that targets are made of: `# sendring-plan 1 <region>
 * <account_id> <partition>`, `-` where there is none. They are in the keys of CloudWatch targets, so that with the
 * settings of today those of yesterday would not be found. Copies of earlier versions have no such line.
 *
 * Beside it lies state_directory/plans/<number>.keys, mode 0600, with the keys of Redaction (rules/keys.c) that the
 * sets were read with; no file when there were none. The files they came from may be replaced or removed at any time,
 * and what waits is for the policy with the old key. Keys are written before their copy and go after it; what is found
 * of them without one is wiped. */
#include "base/file.h"
#include "base/log.h"
#include "io/disk.h"
#include "router/router_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_SUFFIX          ".yaml"
#define KEPT_KEYS_SUFFIX     ".keys"
#define KEPT_KEYS_BYTES_MAX  (256u * 1024u * 1024u)
#define KEPT_HEAD            "# sendring-plan 1 "
#define KEPT_HEAD_BYTES_MAX  128u /* the line, with the longest that settings can say */
#define KEPT_VALUE_BYTES_MAX 32u
#define KEPT_AGAIN_NS        (2 * CLOCK_NS_PER_S)

static bool kept_path(const struct rules_settings *settings, uint64_t number, const char *suffix, char *out,
                      size_t out_bytes)
{
        int used = snprintf(out, out_bytes, "%s/plans/%020" PRIu64 "%s", settings->state_directory, number, suffix);
        return used > 0 && (size_t)used < out_bytes;
}

bool router_kept_path(const struct rules_settings *settings, uint64_t number, char *out, size_t out_bytes)
{
        return kept_path(settings, number, KEPT_SUFFIX, out, out_bytes);
}

static bool kept_number(const char *name, const char *suffix, uint64_t *ret_number)
{
        struct slice text = slice_of_text(name), end = slice_of_text(suffix);
        return slice_has_suffix(text, end) &&
               slice_to_u64(slice_head(text, text.len - end.len), UINT64_MAX - 1, ret_number);
}

bool router_kept_number(const char *name, uint64_t *ret_number)
{
        return kept_number(name, KEPT_SUFFIX, ret_number);
}

/* ---------------------------------------------------------------------------------------------- keys */

static void kept_wipe(uint8_t **bytes, size_t *count)
{
        if (*bytes != NULL)
                explicit_bzero(*bytes, *count);
        free(*bytes);
        *bytes = NULL;
        *count = 0;
}

/* The keys of a copy, which may have none. ERR_CORRUPT: they are damaged. */
static enum err_code kept_read_keys(const struct router *router, uint64_t number, struct rules_keys *keys)
{
        char path[PATH_MAX];
        struct stat status;
        uint8_t *bytes = NULL;
        size_t room = 0, used = 0;
        for (uint32_t i = 0; i < router->kept_count; i++)
                if (router->kept[i].number == number && router->kept[i].keys != NULL)
                        return rules_keys_scan(slice_of(router->kept[i].keys, router->kept[i].keys_bytes), keys);
        rules_keys_clear(keys);
        if (!kept_path(&router->settings, number, KEPT_KEYS_SUFFIX, path, sizeof(path)))
                return ERR_CONFIG;
        int fd = disk_open(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
        if (fd < 0)
                return errno == ENOENT ? ERR_OK : ERR_SYSTEM;
        enum err_code code = ERR_OK;
        if (disk_stat(fd, &status) != 0 || !S_ISREG(status.st_mode))
                code = ERR_SYSTEM;
        else if (status.st_size > (off_t)KEPT_KEYS_BYTES_MAX)
                code = ERR_CORRUPT;
        if (code == ERR_OK) {
                room = (size_t)status.st_size;
                bytes = malloc(room + 1);
                code = bytes == NULL ? ERR_MEMORY : ERR_OK;
        }
        while (code == ERR_OK && used < room) {
                ssize_t got = disk_read(fd, bytes + used, room - used, used);
                if (got < 0 && errno != EINTR)
                        code = ERR_SYSTEM;
                else if (got == 0)
                        room = used;
                else if (got > 0)
                        used += (size_t)got;
        }
        (void)disk_close(fd); /* read only */
        if (code == ERR_OK)
                code = rules_keys_scan(slice_of(bytes, used), keys);
        kept_wipe(&bytes, &used);
        return code;
}

/* Puts zeros in the place of a file's content, where the file system writes in place, and removes it. What stays is
 * found by the next start. */
static void kept_remove_keys(const char *path)
{
        static const uint8_t zeros[4096];
        struct stat status;
        int fd = disk_open(AT_FDCWD, path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK, 0);
        if (fd >= 0) {
                uint64_t at = 0, end = 0;
                if (disk_stat(fd, &status) == 0 && S_ISREG(status.st_mode))
                        end = (uint64_t)status.st_size;
                while (at < end) {
                        size_t bytes = end - at < sizeof(zeros) ? (size_t)(end - at) : sizeof(zeros);
                        ssize_t written = disk_write(fd, zeros, bytes, at);
                        if (written <= 0)
                                break;
                        at += (uint64_t)written;
                }
                (void)disk_sync(fd); /* it is removed all the same */
                (void)disk_close(fd);
        }
        (void)disk_unlink(AT_FDCWD, path); /* as said */
}

static enum err_code kept_read(const struct router *router, uint64_t number, struct arena *arena,
                               struct slice *ret_text, struct err *reterr)
{
        char path[PATH_MAX];
        for (uint32_t i = 0; i < router->kept_count; i++) {
                const struct router_kept *kept = &router->kept[i];
                if (kept->number != number || kept->text == NULL)
                        continue;
                *ret_text = arena_copy(arena, slice_of(kept->text, kept->text_bytes));
                return ret_text->ptr != NULL
                               ? ERR_OK
                               : err_set(reterr, ERR_MEMORY, "out of memory for a copy of the configuration sets");
        }
        if (!router_kept_path(&router->settings, number, path, sizeof(path)))
                return err_set(reterr, ERR_CONFIG, "the path %s is too long", router->settings.state_directory);
        return file_read(arena, path, LIMIT_CONFIG_BYTES_MAX + KEPT_HEAD_BYTES_MAX, ret_text, reterr);
}

static const char *kept_or_none(const char *value)
{
        return value[0] == '\0' ? "-" : value;
}

/* One value of the first line; NULL when it is none of ours. */
static const char *kept_value(struct slice value, struct arena *arena)
{
        if (value.len == 0 || value.len > KEPT_VALUE_BYTES_MAX)
                return NULL;
        return slice_equal(value, SLICE("-")) ? "" : arena_printf(arena, "%.*s", SLICE_PRINTF(value));
}

/* Cuts the first line off *text and puts what it says into *settings, the strings in the arena. A copy without it, or
 * with one of another version, stays as it is: to YAML it is a comment. */
static void kept_cut_head(struct slice *text, struct arena *arena, struct rules_settings *settings)
{
        struct slice rest = *text, line = slice_cut(&rest, '\n');
        if (!slice_has_prefix(line, SLICE(KEPT_HEAD)))
                return;
        struct slice values = slice_from(line, strlen(KEPT_HEAD));
        const char *region = kept_value(slice_cut(&values, ' '), arena);
        const char *account_id = kept_value(slice_cut(&values, ' '), arena);
        const char *partition = kept_value(values, arena);
        if (region == NULL || account_id == NULL || partition == NULL)
                return;
        settings->region = region;
        settings->account_id = account_id;
        settings->partition = partition;
        *text = rest;
}

static int kept_compare(const void *left, const void *right)
{
        uint64_t a = ((const struct router_kept *)left)->number, b = ((const struct router_kept *)right)->number;
        return a < b ? -1 : a > b;
}

static enum err_code kept_add(struct router *router, uint64_t number, struct err *reterr)
{
        struct router_kept *larger = realloc(router->kept, (router->kept_count + 1) * sizeof(*larger));
        if (larger == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for the copies of configuration sets");
        router->kept = larger;
        router->kept[router->kept_count++] = (struct router_kept){.number = number};
        return ERR_OK;
}

static bool kept_has(const struct router *router, uint64_t number)
{
        for (uint32_t i = 0; i < router->kept_count; i++)
                if (router->kept[i].number == number)
                        return true;
        return false;
}

/* Removes what is no copy, nor keys of one: half written, when a router was killed. */
static void kept_sweep(const struct router *router, const char *directory, struct disk_list *list)
{
        for (const char *name = disk_list_next(list); name != NULL; name = disk_list_next(list)) {
                uint64_t number = 0;
                char path[PATH_MAX];
                if (name[0] == '.' || router_kept_number(name, &number) ||
                    (kept_number(name, KEPT_KEYS_SUFFIX, &number) && kept_has(router, number)))
                        continue;
                int used = snprintf(path, sizeof(path), "%s/%s", directory, name);
                if (used > 0 && (size_t)used < sizeof(path))
                        kept_remove_keys(path);
        }
}

enum err_code router_kept_open(struct router *router, struct err *reterr)
{
        char path[PATH_MAX];
        int used = snprintf(path, sizeof(path), "%s/plans", router->settings.state_directory);
        if (used < 0 || (size_t)used >= sizeof(path))
                return err_set(reterr, ERR_CONFIG, "the path %s is too long", router->settings.state_directory);
        enum err_code code = file_make_directory(path, reterr);
        if (code != ERR_OK)
                return code;
        struct disk_list *list = disk_list_open(AT_FDCWD, path);
        if (list == NULL)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot list %s", path);
        const char *name;
        while (code == ERR_OK && (name = disk_list_next(list)) != NULL) {
                uint64_t number = 0;
                if (router_kept_number(name, &number))
                        code = kept_add(router, number, reterr);
        }
        /* What a copy that is not known names would be shed, and its keys would be swept away. */
        if (code == ERR_OK && errno != 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot list %s", path);
        disk_list_close(list);
        list = code == ERR_OK ? disk_list_open(AT_FDCWD, path) : NULL;
        if (list != NULL) {
                kept_sweep(router, path, list);
                disk_list_close(list);
        }
        if (router->kept_count > 0)
                qsort(router->kept, router->kept_count, sizeof(*router->kept), kept_compare);
        return code;
}

uint64_t router_kept_newest(const struct router *router)
{
        return router->kept_count == 0 ? 0 : router->kept[router->kept_count - 1].number;
}

/* For router_kept_write(); takes the keys. False: no memory. */
static bool kept_remember(struct router_kept *kept, struct slice copy, uint8_t **keys, size_t *keys_bytes)
{
        kept->text = malloc(copy.len);
        if (kept->text == NULL)
                return false;
        memcpy(kept->text, copy.ptr, copy.len);
        kept->text_bytes = copy.len;
        kept->keys = *keys;
        kept->keys_bytes = *keys_bytes;
        *keys = NULL;
        *keys_bytes = 0;
        return true;
}

/* First the keys: without them a copy would not say all. */
static enum err_code kept_write(const struct router *router, uint64_t number, struct slice copy, struct slice keys,
                                struct err *reterr)
{
        char path[PATH_MAX];
        enum err_code code = ERR_OK;
        if (!kept_path(&router->settings, number, KEPT_KEYS_SUFFIX, path, sizeof(path)))
                code = err_set(reterr, ERR_CONFIG, "the path %s is too long", router->settings.state_directory);
        else if (keys.len > 0)
                code = file_replace(path, keys, reterr);
        if (code == ERR_OK && router_kept_path(&router->settings, number, path, sizeof(path)))
                code = file_replace(path, copy, reterr);
        return code;
}

/* Whether the newest copy says the same, with the same keys. */
static bool kept_is_newest(const struct router *router, struct slice copy, const struct rules_keys *keys,
                           struct arena *arena)
{
        struct slice newest;
        const uint64_t number = router_kept_newest(router);
        if (router->kept_count == 0 || kept_read(router, number, arena, &newest, NULL) != ERR_OK ||
            !slice_equal(newest, copy))
                return false;
        struct rules_keys *kept = rules_keys_create(false), *none = keys == NULL ? rules_keys_create(false) : NULL;
        const bool same = kept != NULL && (keys != NULL || none != NULL) &&
                          kept_read_keys(router, number, kept) == ERR_OK &&
                          rules_keys_are_same(kept, keys != NULL ? keys : none);
        rules_keys_free(kept);
        rules_keys_free(none);
        return same;
}

enum err_code router_kept_save(struct router *router, struct slice text, const struct rules_keys *keys,
                               struct err *reterr)
{
        const struct rules_settings *settings = &router->settings;
        struct arena arena;
        uint8_t *printed = NULL;
        size_t printed_bytes = 0;
        enum err_code code = ERR_OK;
        arena_init(&arena, 0, 0);
        struct slice head =
                slice_of_text(arena_printf(&arena, KEPT_HEAD "%s %s %s\n", kept_or_none(settings->region),
                                           kept_or_none(settings->account_id), kept_or_none(settings->partition)));
        uint8_t *bytes = head.len == 0 ? NULL : arena_alloc(&arena, head.len + text.len);
        if (bytes == NULL || (keys != NULL && !rules_keys_print(keys, &printed, &printed_bytes))) {
                code = err_set(reterr, ERR_MEMORY, "out of memory for a copy of the configuration sets");
                goto out;
        }
        memcpy(bytes, head.ptr, head.len);
        if (text.len > 0)
                memcpy(bytes + head.len, text.ptr, text.len);
        struct slice copy = slice_of(bytes, head.len + text.len);
        if (kept_is_newest(router, copy, keys, &arena))
                goto out;
        uint64_t number = router_kept_newest(router) + 1;
        code = kept_add(router, number, reterr);
        if (code != ERR_OK)
                goto out;
        code = kept_write(router, number, copy, slice_of(printed, printed_bytes), reterr);
        if (code != ERR_OK && !kept_remember(&router->kept[router->kept_count - 1], copy, &printed, &printed_bytes))
                router->kept_count--;
        router->kept_again_ns = clock_monotonic_ns() + KEPT_AGAIN_NS;
out:
        kept_wipe(&printed, &printed_bytes);
        arena_release(&arena);
        return code;
}

void router_kept_write(struct router *router)
{
        uint64_t now_ns = clock_monotonic_ns();
        if (now_ns < router->kept_again_ns)
                return;
        router->kept_again_ns = now_ns + KEPT_AGAIN_NS;
        for (uint32_t i = 0; i < router->kept_count; i++) {
                struct router_kept *kept = &router->kept[i];
                if (kept->text == NULL)
                        continue;
                if (kept_write(router, kept->number, slice_of(kept->text, kept->text_bytes),
                               slice_of(kept->keys, kept->keys_bytes), NULL) != ERR_OK)
                        return;
                free(kept->text);
                kept->text = NULL;
                kept_wipe(&kept->keys, &kept->keys_bytes);
                log_info("a copy of the configuration sets is kept now", "number=%" PRIu64, kept->number);
        }
}

enum err_code router_kept_parse(struct router *router, uint64_t number, enum router_kept_settings which,
                                struct arena *arena, struct slice *ret_text, struct rules_keys *keys,
                                struct rules_plan **ret_plan)
{
        struct rules_report report;
        struct rules_settings then = router->settings; /* its strings are borrowed */
        enum err_code code = kept_read(router, number, arena, ret_text, NULL);
        if (code == ERR_OK)
                code = kept_read_keys(router, number, keys);
        /* Damaged: as if there were none. */
        if (code != ERR_OK && code != ERR_CORRUPT)
                return code;
        kept_cut_head(ret_text, arena, &then);
        /* The defaults of today may name sets that this copy does not have; they route, and targets are made without.
         */
        then.default_configuration_set = "";
        then.default_configuration_sets_count = 0;
        rules_report_init(&report);
        code = rules_plan_parse_with_keys(router->settings.configuration_sets_path, *ret_text,
                                          which == ROUTER_KEPT_OF_THEN ? &then : &router->settings, keys, ret_plan,
                                          &report);
        rules_report_release(&report); /* what it says was said when the file was new */
        return code;
}

/* The newest, the newest on the disk, and those of targets. */
static bool kept_is_needed(const struct router *router, uint32_t index)
{
        bool newest_written = router->kept[index].text == NULL;
        for (uint32_t i = index + 1; i < router->kept_count; i++)
                newest_written &= router->kept[i].text != NULL;
        bool needed = newest_written || index == router->kept_count - 1;
        for (uint32_t i = 0; i < router->targets_count; i++)
                needed |= router->targets[i].kept == router->kept[index].number;
        return needed;
}

void router_kept_forget(struct router *router)
{
        uint32_t kept = 0, needed = 0;
        for (uint32_t i = 0; i < router->kept_count; i++)
                needed += kept_is_needed(router, i);
        if (needed == router->kept_count)
                return;
        /* First what says that nothing waits any more: a power cut that took it back would leave a target with events
         * that nobody knows how to open. */
        for (uint32_t i = 0; i < router->journals_count; i++)
                if (journal_targets_make_durable(router->journals[i], NULL) != ERR_OK)
                        return; /* the tick comes again */
        const uint32_t count = router->kept_count;
        for (uint32_t i = 0; i < count; i++) {
                char path[PATH_MAX];
                if (kept_is_needed(router, i)) {
                        router->kept[kept++] = router->kept[i];
                        continue;
                }
                /* Also of one that was not written: the failure may have come behind its name. */
                if (router_kept_path(&router->settings, router->kept[i].number, path, sizeof(path)))
                        (void)disk_unlink(AT_FDCWD, path); /* the next start finds it and tries again */
                if (kept_path(&router->settings, router->kept[i].number, KEPT_KEYS_SUFFIX, path, sizeof(path)))
                        kept_remove_keys(path);
                free(router->kept[i].text);
                kept_wipe(&router->kept[i].keys, &router->kept[i].keys_bytes);
        }
        router->kept_count = kept;
}

void router_kept_release(struct router *router)
{
        for (uint32_t i = 0; i < router->kept_count; i++) {
                free(router->kept[i].text);
                kept_wipe(&router->kept[i].keys, &router->kept[i].keys_bytes);
        }
        free(router->kept);
}
