/* Copies of configuration-sets.yaml as it was in force: state_directory/plans/<number>.yaml, the largest number newest.
 * They tell what the file itself may not tell any more: how to deliver what waits for a target that no set names now,
 * and what was in force when a router died after somebody had made a mistake in the file. A copy stays as long as it is
 * the newest, or the newest that names a target which still has events. */
#include "base/file.h"
#include "base/log.h"
#include "router/router_internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEPT_SUFFIX ".yaml"

static bool kept_path(const struct router *router, uint64_t number, char out[PATH_MAX])
{
        int used =
                snprintf(out, PATH_MAX, "%s/plans/%020" PRIu64 KEPT_SUFFIX, router->settings.state_directory, number);
        return used > 0 && used < PATH_MAX;
}

static enum err_code kept_read(const struct router *router, uint64_t number, struct arena *arena,
                               struct slice *ret_text, struct err *reterr)
{
        char path[PATH_MAX];
        if (!kept_path(router, number, path))
                return err_set(reterr, ERR_CONFIG, "the path %s is too long", router->settings.state_directory);
        return file_read(arena, path, LIMIT_CONFIG_BYTES_MAX, ret_text, reterr);
}

static int kept_compare(const void *left, const void *right)
{
        uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
        return a < b ? -1 : a > b;
}

static enum err_code kept_add(struct router *router, uint64_t number, struct err *reterr)
{
        uint64_t *larger = realloc(router->kept, (router->kept_count + 1) * sizeof(*larger));
        if (larger == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for the copies of configuration sets");
        router->kept = larger;
        router->kept[router->kept_count++] = number;
        return ERR_OK;
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
        DIR *directory = opendir(path);
        if (directory == NULL)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "cannot list %s", path);
        for (const struct dirent *entry = readdir(directory); entry != NULL && code == ERR_OK;
             entry = readdir(directory)) {
                struct slice name = slice_of_text(entry->d_name);
                size_t digits = name.len < strlen(KEPT_SUFFIX) ? 0 : name.len - strlen(KEPT_SUFFIX);
                uint64_t number = 0;
                if (slice_to_u64(slice_of(name.ptr, digits), UINT64_MAX - 1, &number) &&
                    strcmp(entry->d_name + digits, KEPT_SUFFIX) == 0)
                        code = kept_add(router, number, reterr);
                else if (entry->d_name[0] != '.')
                        (void)unlinkat(dirfd(directory), entry->d_name, 0); /* half written, when a router was killed */
        }
        (void)closedir(directory); /* opened for reading only */
        if (router->kept_count > 0)
                qsort(router->kept, router->kept_count, sizeof(*router->kept), kept_compare);
        return code;
}

uint64_t router_kept_newest(const struct router *router)
{
        return router->kept_count == 0 ? 0 : router->kept[router->kept_count - 1];
}

enum err_code router_kept_save(struct router *router, struct slice text, struct err *reterr)
{
        char path[PATH_MAX];
        struct arena arena;
        struct slice newest;
        arena_init(&arena, 0, 0);
        bool same = router->kept_count > 0 &&
                    kept_read(router, router_kept_newest(router), &arena, &newest, NULL) == ERR_OK &&
                    slice_equal(newest, text);
        arena_release(&arena);
        if (same)
                return ERR_OK;
        uint64_t number = router_kept_newest(router) + 1;
        if (!kept_path(router, number, path))
                return err_set(reterr, ERR_CONFIG, "the path %s is too long", router->settings.state_directory);
        enum err_code code = file_replace(path, text, reterr);
        return code == ERR_OK ? kept_add(router, number, reterr) : code;
}

enum err_code router_kept_parse(struct router *router, uint64_t number, struct arena *arena, struct slice *ret_text,
                                struct rules_plan **ret_plan)
{
        struct rules_report report;
        enum err_code code = kept_read(router, number, arena, ret_text, NULL);
        if (code != ERR_OK)
                return code;
        rules_report_init(&report);
        code = rules_plan_parse(router->settings.configuration_sets_path, *ret_text, &router->settings, ret_plan,
                                &report);
        rules_report_release(&report); /* what it says was said when the file was new */
        return code;
}

void router_kept_forget(struct router *router)
{
        uint32_t kept = 0;
        for (uint32_t i = 0; i < router->kept_count; i++) {
                char path[PATH_MAX];
                bool needed = i == router->kept_count - 1;
                for (uint32_t k = 0; k < router->targets_count; k++)
                        needed |= router->targets[k].kept == router->kept[i];
                if (needed)
                        router->kept[kept++] = router->kept[i];
                else if (kept_path(router, router->kept[i], path))
                        (void)unlink(path); /* the next start finds it and tries again */
        }
        router->kept_count = kept;
}
