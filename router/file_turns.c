/* Two targets of one file: its destination was given another policy, key or EventId, which makes it another target,
 * while events wait for the one of before. Both write the same file, each as it was said when its events were routed,
 * and one of them at a time: first those that no plan names any more, one after the other, each until it has delivered
 * what waits for it, then the one of the plan. So none holds the log for longer than its file does. */
#include "router/router_internal.h"

static struct slice file_path_of(struct slice key)
{
        const struct slice prefix = SLICE("file ");
        if (!slice_has_prefix(key, prefix))
                return SLICE_EMPTY;
        /* What is published stands before the path, and has no slash (rules/sets_published.c). */
        return slice_from(key, slice_find_byte(key, '/'));
}

static bool file_is_same(struct slice key, struct slice other)
{
        const struct slice path = file_path_of(key);
        return path.len > 0 && slice_equal(path, file_path_of(other)) && !slice_equal(key, other);
}

static enum err_code file_is_taken(const char *other, struct err *reterr)
{
        return err_set(reterr, ERR_BUSY, "what waits for target %s is written to the file first", other);
}

/* One of before that is not known yet: targets of earlier plans are opened behind those of the plan. */
static enum err_code file_is_to_be_taken(const struct router *router, struct slice key, struct err *reterr)
{
        for (uint32_t log = 0; log < router->journals_count; log++) {
                struct journal_target_state state;
                for (uint32_t number = 0; journal_target_get(router->journals[log], (uint16_t)number, &state); number++)
                        if (!state.retired && file_is_same(key, slice_of_text(state.key)) && router_state_waits(&state))
                                return file_is_taken(state.key, reterr);
        }
        return ERR_OK;
}

enum err_code router_file_turn(const struct router *router, struct slice key, bool wanted, struct err *reterr)
{
        if (file_path_of(key).len == 0)
                return ERR_OK;
        for (uint32_t i = 0; i < router->targets_count; i++) {
                const struct router_target *other = &router->targets[i];
                /* One that no copy of the sets names is of a plan that came to nothing: it goes. */
                if (file_is_same(key, slice_of_text(other->key)) &&
                    (other->target != NULL || (wanted && other->kept != 0)))
                        return file_is_taken(other->key, reterr);
        }
        return wanted && (router->plan == NULL || router->resume_again_ns != 0)
                       ? file_is_to_be_taken(router, key, reterr)
                       : ERR_OK;
}

enum err_code router_file_may_stay(const struct router *router, const struct router_target *own, struct err *reterr)
{
        for (uint32_t i = 0; i < router->targets_count && own->target != NULL; i++) {
                const struct router_target *other = &router->targets[i];
                if (file_is_same(slice_of_text(own->key), slice_of_text(other->key)) && other->kept != 0)
                        return err_set(reterr, ERR_CONFIG,
                                       "target %s still writes what waited for it, and target %s waits for the file: "
                                       "reload again when that has it (`sendring stat`)",
                                       own->key, other->key);
        }
        return ERR_OK;
}
