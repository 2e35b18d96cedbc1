/* Copies of configuration-sets.yaml as it was in force: state_directory/plans/<number>.yaml, the largest number newest.
 * They tell what the file itself may not tell any more: how to deliver what waits for a target that no set names now,
 * and what was in force when a router died after somebody had made a mistake in the file. A copy stays as long as it is
 * the newest, or the newest that names a target which still has events. One that finds no room on the disk stays in
 * memory until it does.
 *
 * The first line of a copy, a comment, has the settings that targets are made of: `# sendring-plan 1 <region>
 * <account_id> <partition>`, `-` where there is none. They are in the keys of CloudWatch targets, so that with the
 * settings of today those of yesterday would not be found. Copies of earlier versions have no such line. */
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
#define KEPT_HEAD            "# sendring-plan 1 "
#define KEPT_HEAD_BYTES_MAX  128u /* the line, with the longest that settings can say */
#define KEPT_VALUE_BYTES_MAX 32u
#define KEPT_AGAIN_NS        (2 * CLOCK_NS_PER_S)

bool router_kept_path(const struct rules_settings *settings, uint64_t number, char *out, size_t out_bytes)
{
        int used = snprintf(out, out_bytes, "%s/plans/%020" PRIu64 KEPT_SUFFIX, settings->state_directory, number);
        return used > 0 && (size_t)used < out_bytes;
}

bool router_kept_number(const char *name, uint64_t *ret_number)
{
        struct slice text = slice_of_text(name);
        return slice_has_suffix(text, SLICE(KEPT_SUFFIX)) &&
               slice_to_u64(slice_head(text, text.len - strlen(KEPT_SUFFIX)), UINT64_MAX - 1, ret_number);
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

/* What stays is found by the next start. */
static void kept_remove(const char *directory, const char *name)
{
        char path[PATH_MAX];
        int used = snprintf(path, sizeof(path), "%s/%s", directory, name);
        if (used > 0 && (size_t)used < sizeof(path))
                (void)disk_unlink(AT_FDCWD, path); /* as said */
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
        for (const char *name = disk_list_next(list); name != NULL && code == ERR_OK; name = disk_list_next(list)) {
                uint64_t number = 0;
                if (router_kept_number(name, &number))
                        code = kept_add(router, number, reterr);
                else if (name[0] != '.')
                        kept_remove(path, name); /* half written, when a router was killed */
        }
        disk_list_close(list);
        if (router->kept_count > 0)
                qsort(router->kept, router->kept_count, sizeof(*router->kept), kept_compare);
        return code;
}

uint64_t router_kept_newest(const struct router *router)
{
        return router->kept_count == 0 ? 0 : router->kept[router->kept_count - 1].number;
}

/* For router_kept_write(). False: no memory. */
static bool kept_remember(struct router_kept *kept, struct slice copy)
{
        kept->text = malloc(copy.len);
        if (kept->text == NULL)
                return false;
        memcpy(kept->text, copy.ptr, copy.len);
        kept->text_bytes = copy.len;
        return true;
}

enum err_code router_kept_save(struct router *router, struct slice text, struct err *reterr)
{
        const struct rules_settings *settings = &router->settings;
        char path[PATH_MAX];
        struct arena arena;
        struct slice newest;
        enum err_code code = ERR_OK;
        arena_init(&arena, 0, 0);
        struct slice head =
                slice_of_text(arena_printf(&arena, KEPT_HEAD "%s %s %s\n", kept_or_none(settings->region),
                                           kept_or_none(settings->account_id), kept_or_none(settings->partition)));
        uint8_t *bytes = head.len == 0 ? NULL : arena_alloc(&arena, head.len + text.len);
        if (bytes == NULL) {
                code = err_set(reterr, ERR_MEMORY, "out of memory for a copy of the configuration sets");
                goto out;
        }
        memcpy(bytes, head.ptr, head.len);
        if (text.len > 0)
                memcpy(bytes + head.len, text.ptr, text.len);
        struct slice copy = slice_of(bytes, head.len + text.len);
        if (router->kept_count > 0 && kept_read(router, router_kept_newest(router), &arena, &newest, NULL) == ERR_OK &&
            slice_equal(newest, copy))
                goto out;
        uint64_t number = router_kept_newest(router) + 1;
        if (!router_kept_path(settings, number, path, sizeof(path)))
                code = err_set(reterr, ERR_CONFIG, "the path %s is too long", settings->state_directory);
        else
                code = kept_add(router, number, reterr);
        if (code != ERR_OK)
                goto out;
        code = file_replace(path, copy, reterr);
        if (code != ERR_OK && !kept_remember(&router->kept[router->kept_count - 1], copy))
                router->kept_count--;
        router->kept_again_ns = clock_monotonic_ns() + KEPT_AGAIN_NS;
out:
        arena_release(&arena);
        return code;
}

void router_kept_write(struct router *router)
{
        char path[PATH_MAX];
        uint64_t now_ns = clock_monotonic_ns();
        if (now_ns < router->kept_again_ns)
                return;
        router->kept_again_ns = now_ns + KEPT_AGAIN_NS;
        for (uint32_t i = 0; i < router->kept_count; i++) {
                struct router_kept *kept = &router->kept[i];
                if (kept->text == NULL)
                        continue;
                if (!router_kept_path(&router->settings, kept->number, path, sizeof(path)) ||
                    file_replace(path, slice_of(kept->text, kept->text_bytes), NULL) != ERR_OK)
                        return;
                free(kept->text);
                kept->text = NULL;
                log_info("a copy of the configuration sets is kept now", "number=%" PRIu64, kept->number);
        }
}

enum err_code router_kept_parse(struct router *router, uint64_t number, enum router_kept_settings which,
                                struct arena *arena, struct slice *ret_text, struct rules_plan **ret_plan)
{
        struct rules_report report;
        struct rules_settings then = router->settings; /* its strings are borrowed */
        enum err_code code = kept_read(router, number, arena, ret_text, NULL);
        if (code != ERR_OK)
                return code;
        kept_cut_head(ret_text, arena, &then);
        /* The defaults of today may name sets that this copy does not have; they route, and targets are made without.
         */
        then.default_configuration_set = "";
        then.default_configuration_sets_count = 0;
        rules_report_init(&report);
        code = rules_plan_parse(router->settings.configuration_sets_path, *ret_text,
                                which == ROUTER_KEPT_OF_THEN ? &then : &router->settings, ret_plan, &report);
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
                free(router->kept[i].text);
        }
        router->kept_count = kept;
}

void router_kept_release(struct router *router)
{
        for (uint32_t i = 0; i < router->kept_count; i++)
                free(router->kept[i].text);
        free(router->kept);
}
