/* An event pattern from its text: paths are resolved, $or is written out. Cold code. */
#include "rules/pattern_compile.h"
#include "base/limits.h"

#include <stdlib.h>

/* An alternative while it is being made. */
struct pattern_draft {
        const struct pattern_key *keys[LIMIT_FILTER_PATHS_MAX];
        uint32_t keys_count;
};

struct pattern_drafts {
        struct pattern_draft *items;
        uint32_t count;
};

/* ---------------------------------------------------------------------------------------------- paths */

/* Spellings of the API in place of those that events have are the commonest slip. */
static void pattern_check_event_types(struct pattern_compiler *compiler, const struct rules_yaml_node *list)
{
        for (const struct rules_yaml_node *item = list->first; item != NULL; item = item->next) {
                if (item->kind != RULES_YAML_SCALAR)
                        continue;
                enum sendring_event_type type = codec_event_type_parse(rules_yaml_slice(item));
                if (type == 0)
                        rules_warning(compiler->reader, item, "no event has the eventType %s",
                                      rules_describe(compiler->reader, item));
                else if (!slice_equal(rules_yaml_slice(item), slice_of_text(codec_event_type_name(type))))
                        rules_warning(compiler->reader, item, "no event has the eventType %s; it is published as '%s'",
                                      rules_describe(compiler->reader, item), codec_event_type_name(type));
        }
}

static void pattern_check_path(struct pattern_compiler *compiler, const struct rules_yaml_node *name,
                               const struct pattern_key *key, enum codec_field_kind kind,
                               const struct codec_field_hint *hint)
{
        struct rules_reader *reader = compiler->reader;
        const char *path = rules_quote(reader, key->field.path);
        const char *nearest = rules_nearest(hint->part, hint->names, hint->names_count);
        const char *dot = hint->parent.len > 0 ? "." : "";
        char joined[512];
        switch (kind) {
        case CODEC_FIELD_IS_VALUE:
                return;
        case CODEC_FIELD_IS_GROUP:
                rules_join(joined, sizeof(joined), hint->names, hint->names_count);
                rules_warning(reader, name, "%s is a map and never has a value; its members do%s%s", path,
                              hint->names_count > 0 ? ": " : "", hint->names_count > 0 ? joined : "");
                return;
        case CODEC_FIELD_IS_BELOW_VALUE:
                rules_warning(reader, name, "no event has %s: '%.*s%s%.*s' has no members", path,
                              SLICE_PRINTF(hint->parent), dot, SLICE_PRINTF(hint->part));
                return;
        case CODEC_FIELD_IS_UNKNOWN:
                if (slice_equal(hint->part, SLICE("detail")) || slice_equal(hint->part, SLICE("detail-type")))
                        rules_warning(reader, name,
                                      "no event has %s: a filter sees what EventBridge has in detail, so its members "
                                      "stand at the top",
                                      path);
                else if (nearest != NULL)
                        rules_warning(reader, name, "%s is no member that SES publishes; did you mean '%.*s%s%s'?",
                                      path, SLICE_PRINTF(hint->parent), dot, nearest);
                return;
        case CODEC_FIELD_IS_NO_MEMBER:
                if (nearest != NULL)
                        rules_warning(reader, name, "no event has %s; did you mean '%.*s%s%s'?", path,
                                      SLICE_PRINTF(hint->parent), dot, nearest);
                else
                        rules_warning(reader, name, "no event has %s: '%.*s' has no such member", path,
                                      SLICE_PRINTF(hint->parent));
                return;
        }
}

/* Up to where a path may go through a list that other paths go through as well. */
static struct slice pattern_list_path(const struct pattern_key *key, enum codec_field_kind kind)
{
        struct slice path = key->field.path;
        if (key->field.list_bytes > 0)
                return slice_head(path, key->field.list_bytes);
        if (kind == CODEC_FIELD_IS_VALUE)
                return SLICE_EMPTY;
        /* Of unknown members the first one may be a list already. */
        size_t first = slice_has_prefix(path, SLICE("mail.")) ? 5 : 0;
        return slice_head(path, first + slice_find_byte(slice_from(path, first), '.'));
}

static bool pattern_key(struct pattern_compiler *compiler, const struct rules_yaml_node *name,
                        const struct rules_yaml_node *list, struct pattern_drafts *drafts)
{
        struct rules_reader *reader = compiler->reader;
        struct slice path = slice_of(compiler->path, compiler->path_len);
        for (uint32_t i = 0; i < drafts->count; i++)
                for (uint32_t k = 0; k < drafts->items[i].keys_count; k++)
                        if (slice_equal(drafts->items[i].keys[k]->field.path, path)) {
                                rules_error(reader, name, "%s is already there; write all its values in one list",
                                            rules_quote(reader, path));
                                return false;
                        }
        if (list->count == 0) {
                rules_error(reader, list, "%s has an empty list: it would match nothing", rules_quote(reader, path));
                return false;
        }
        if (compiler->pattern->keys_count == LIMIT_FILTER_PATHS_MAX) {
                rules_error(reader, name, "one filter has more than %u members", LIMIT_FILTER_PATHS_MAX);
                return false;
        }
        struct pattern_key *key = pattern_alloc(compiler, compiler->arena, 1, sizeof(*key));
        if (key == NULL || !pattern_copy(compiler, name, path, &path))
                return false;
        struct codec_field_hint hint;
        enum codec_field_kind kind = codec_field_find(path, &key->field, &hint);
        key->list_path = pattern_list_path(key, kind);
        key->index = (uint8_t)compiler->pattern->keys_count++;
        pattern_check_path(compiler, name, key, kind, &hint);
        if (slice_equal(path, SLICE("eventType")))
                pattern_check_event_types(compiler, list);
        bool good = pattern_read_values(compiler, list, key);
        for (uint32_t i = 0; i < drafts->count; i++)
                drafts->items[i].keys[drafts->items[i].keys_count++] = key;
        return good;
}

/* ---------------------------------------------------------------------------------------------- maps */

static bool pattern_map(struct pattern_compiler *compiler, const struct rules_yaml_node *map,
                        struct pattern_drafts *drafts, uint32_t depth);

/* Every draft once for each of the maps. */
static bool pattern_or(struct pattern_compiler *compiler, const struct rules_yaml_node *list,
                       struct pattern_drafts *drafts, uint32_t depth)
{
        struct rules_reader *reader = compiler->reader;
        if (list->kind != RULES_YAML_LIST || list->count < 2) {
                rules_error(reader, list, "$or takes a list of two maps at least, not %s",
                            list->kind == RULES_YAML_LIST ? "fewer" : rules_describe(reader, list));
                return false;
        }
        struct pattern_drafts all = {.count = 0};
        all.items = pattern_alloc(compiler, &compiler->scratch, LIMIT_FILTER_ALTERNATIVES_MAX, sizeof(*all.items));
        struct pattern_draft *items =
                pattern_alloc(compiler, &compiler->scratch, LIMIT_FILTER_ALTERNATIVES_MAX, sizeof(*items));
        if (all.items == NULL || items == NULL)
                return false;
        bool good = true, was_in_or = compiler->in_or;
        compiler->in_or = true;
        for (const struct rules_yaml_node *item = list->first; item != NULL; item = item->next) {
                struct pattern_drafts branch = {.items = items, .count = drafts->count};
                memcpy(items, drafts->items, drafts->count * sizeof(*items));
                if (item->kind != RULES_YAML_MAP) {
                        rules_error(reader, item, "$or takes maps, not %s", rules_describe(reader, item));
                        good = false;
                        continue;
                }
                good = pattern_map(compiler, item, &branch, depth + 2) && good;
                if (branch.count > LIMIT_FILTER_ALTERNATIVES_MAX - all.count) {
                        rules_error(reader, list, "$or amounts to more than %u combinations in one filter",
                                    LIMIT_FILTER_ALTERNATIVES_MAX);
                        compiler->in_or = was_in_or;
                        return false;
                }
                memcpy(all.items + all.count, branch.items, branch.count * sizeof(*items));
                all.count += branch.count;
        }
        compiler->in_or = was_in_or;
        *drafts = all;
        return good;
}

static bool pattern_member(struct pattern_compiler *compiler, const struct rules_yaml_node *name,
                           struct pattern_drafts *drafts, uint32_t depth)
{
        struct rules_reader *reader = compiler->reader;
        const struct rules_yaml_node *value = name->next;
        struct slice text = rules_yaml_slice(name);
        if (slice_equal(text, SLICE("$or")))
                return pattern_or(compiler, value, drafts, depth);
        if (pattern_is_operator(text) && (compiler->in_or || value->kind == RULES_YAML_SCALAR)) {
                rules_error(reader, name, "operator %s stands in a list of values, like [{%.*s: ...}]",
                            rules_quote(reader, text), SLICE_PRINTF(text));
                return false;
        }
        if (text.len == 0) {
                rules_error(reader, name, "a member without a name");
                return false;
        }
        size_t before = compiler->path_len;
        if (text.len + 1 > sizeof(compiler->path) - before) {
                rules_error(reader, name, "a path of more than %zu bytes", sizeof(compiler->path));
                return false;
        }
        if (before > 0)
                compiler->path[compiler->path_len++] = '.';
        memcpy(compiler->path + compiler->path_len, text.ptr, text.len);
        compiler->path_len += text.len;
        bool good = false;
        if (value->kind == RULES_YAML_MAP)
                good = pattern_map(compiler, value, drafts, depth + 1);
        else if (value->kind == RULES_YAML_LIST)
                good = pattern_key(compiler, name, value, drafts);
        else
                rules_error(reader, value, "%s must be a list of values or a map of members, not %s",
                            rules_quote(reader, slice_of(compiler->path, compiler->path_len)),
                            rules_describe(reader, value));
        compiler->path_len = before;
        return good;
}

static bool pattern_map(struct pattern_compiler *compiler, const struct rules_yaml_node *map,
                        struct pattern_drafts *drafts, uint32_t depth)
{
        if (depth > LIMIT_FILTER_DEPTH_MAX) {
                rules_error(compiler->reader, map, "a filter with more than %u maps and lists inside one another",
                            LIMIT_FILTER_DEPTH_MAX);
                return false;
        }
        if (map->kind != RULES_YAML_MAP || map->count == 0) {
                rules_error(compiler->reader, map, "%s must be a map of members%s, not %s",
                            compiler->path_len == 0
                                    ? "a filter"
                                    : rules_quote(compiler->reader, slice_of(compiler->path, compiler->path_len)),
                            compiler->path_len == 0 ? " like {eventType: [Bounce]}" : "",
                            map->kind == RULES_YAML_MAP ? "an empty one" : rules_describe(compiler->reader, map));
                return false;
        }
        bool good = true;
        for (const struct rules_yaml_node *name = map->first; name != NULL; name = name->next->next)
                good = pattern_member(compiler, name, drafts, depth) && good;
        return good;
}

/* ---------------------------------------------------------------------------------------------- all of it */

static int pattern_key_order(const void *a, const void *b)
{
        const struct pattern_key *const *left = a, *const *right = b;
        struct slice x = (*left)->field.path, y = (*right)->field.path;
        int order = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);
        return order != 0 ? order : (x.len > y.len) - (x.len < y.len);
}

/* Keys that share a list stand together, by name; the others before them, those that are found soonest first. */
static bool pattern_alternative(struct pattern_compiler *compiler, struct pattern_draft *draft,
                                struct pattern_alternative *ret_alternative)
{
        const struct pattern_key **keys = pattern_alloc(compiler, compiler->arena, draft->keys_count, sizeof(void *));
        if (keys == NULL)
                return false;
        uint32_t count = 0;
        qsort(draft->keys, draft->keys_count, sizeof(void *), pattern_key_order);
        for (int with_list = 0; with_list < 2; with_list++)
                for (uint32_t i = 0; i < draft->keys_count; i++) {
                        uint32_t others = 0;
                        for (uint32_t k = 0; k < draft->keys_count && draft->keys[i]->list_path.len > 0; k++)
                                others += k != i && slice_equal(draft->keys[k]->list_path, draft->keys[i]->list_path);
                        if (others == 0 && (with_list == 1) == (draft->keys[i]->list_path.len > 0))
                                keys[count++] = draft->keys[i];
                }
        ret_alternative->alone_count = count;
        for (uint32_t i = 0; i < draft->keys_count; i++) {
                bool is_first = draft->keys[i]->list_path.len > 0;
                uint32_t others = 0;
                for (uint32_t k = 0; k < draft->keys_count; k++)
                        if (k != i && slice_equal(draft->keys[k]->list_path, draft->keys[i]->list_path)) {
                                is_first = is_first && k > i;
                                others++;
                        }
                for (uint32_t k = i; is_first && others > 0 && k < draft->keys_count; k++)
                        if (slice_equal(draft->keys[k]->list_path, draft->keys[i]->list_path))
                                keys[count++] = draft->keys[k];
        }
        ret_alternative->keys = keys;
        ret_alternative->keys_count = count;
        return true;
}

bool rules_pattern_compile(struct rules_reader *reader, const struct rules_yaml_node *node, struct arena *arena,
                           const struct rules_pattern **ret_pattern)
{
        struct pattern_compiler compiler = {.reader = reader, .arena = arena};
        bool good = false;
        arena_init(&compiler.scratch, 0, 0);
        compiler.pattern = pattern_alloc(&compiler, arena, 1, sizeof(*compiler.pattern));
        struct pattern_drafts drafts = {.count = 1};
        drafts.items = pattern_alloc(&compiler, &compiler.scratch, 1, sizeof(*drafts.items));
        if (compiler.pattern == NULL || drafts.items == NULL)
                goto out;
        if (!pattern_map(&compiler, node, &drafts, 0))
                goto out;
        struct pattern_alternative *alternatives = pattern_alloc(&compiler, arena, drafts.count, sizeof(*alternatives));
        if (alternatives == NULL)
                goto out;
        for (uint32_t i = 0; i < drafts.count; i++)
                if (!pattern_alternative(&compiler, &drafts.items[i], &alternatives[i]))
                        goto out;
        compiler.pattern->alternatives = alternatives;
        compiler.pattern->alternatives_count = drafts.count;
        *ret_pattern = compiler.pattern;
        good = true;
out:
        if (compiler.locale != (locale_t)0)
                freelocale(compiler.locale);
        arena_release(&compiler.scratch);
        return good;
}
