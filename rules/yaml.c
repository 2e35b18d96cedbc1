/* YAML to a tree that knows where everything stands. libyaml makes the events; composing is ours, because libyaml's
 * documents neither refuse duplicate keys nor bound what aliases unfold to. */
#include "base/assert.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "rules/rules_internal.h"

#include <yaml.h>

#define YAML_NODES_PER_CHUNK  512u
#define YAML_TEXT_CHUNK_BYTES ((size_t)64 * 1024)
#define YAML_ANCHOR_BUCKETS   256u  /* a power of two */
#define YAML_RECENT_TEXTS     1024u /* 2 to the 10: see yaml_recent_index() */

struct yaml_anchor {
        struct yaml_anchor *next;
        struct slice name;
        const struct rules_yaml_node *node;
        bool complete; /* its end was seen: an alias inside itself would never end */
};

struct yaml_level {
        struct rules_yaml_node *node;
        struct rules_yaml_node **tail;
        struct rules_yaml_node *key; /* of a map: the last key, when its value is still to come */
        struct yaml_anchor *anchor;  /* of the node itself */
};

struct yaml_composer {
        struct rules_reader *reader;
        struct rules_yaml_node *nodes; /* rest of the current chunk */
        uint32_t nodes_left;
        uint8_t *text;
        size_t text_left;
        struct slice recent[YAML_RECENT_TEXTS];
        uint32_t nodes_total; /* aliases written out */
        struct yaml_anchor *anchors[YAML_ANCHOR_BUCKETS];
        uint32_t anchors_count;
        struct yaml_level levels[RULES_YAML_DEPTH_MAX];
        uint32_t depth;
        struct rules_yaml_node *root;
};

static struct rules_yaml_node yaml_position(yaml_mark_t mark)
{
        return (struct rules_yaml_node){.line = (uint32_t)mark.line + 1,
                                        .column = ((uint32_t)mark.column + 1) & RULES_YAML_COLUMN_MASK};
}

static struct rules_yaml_node *yaml_node(struct yaml_composer *composer, yaml_mark_t mark, enum rules_yaml_kind kind)
{
        if (composer->nodes_left == 0) {
                composer->nodes = arena_alloc_array(composer->reader->arena, YAML_NODES_PER_CHUNK,
                                                    sizeof(struct rules_yaml_node));
                if (composer->nodes == NULL) {
                        composer->reader->out_of_memory = true;
                        return NULL;
                }
                composer->nodes_left = YAML_NODES_PER_CHUNK;
        }
        struct rules_yaml_node *node = composer->nodes++;
        composer->nodes_left--;
        node->line = (uint32_t)mark.line + 1;
        node->column = ((uint32_t)mark.column + 1) & RULES_YAML_COLUMN_MASK;
        node->weight = 1;
        node->kind = (unsigned)kind & 3u;
        return node;
}

static struct slice yaml_copy_new(struct yaml_composer *composer, struct slice text)
{
        if (text.len + 1 > YAML_TEXT_CHUNK_BYTES / 8) {
                struct slice copy = arena_copy(composer->reader->arena, text);
                if (copy.ptr == NULL)
                        composer->reader->out_of_memory = true;
                return copy;
        }
        if (composer->text_left < text.len + 1) {
                composer->text = arena_alloc(composer->reader->arena, YAML_TEXT_CHUNK_BYTES);
                if (composer->text == NULL) {
                        composer->text_left = 0;
                        composer->reader->out_of_memory = true;
                        return SLICE_EMPTY;
                }
                composer->text_left = YAML_TEXT_CHUNK_BYTES;
        }
        uint8_t *copy = composer->text;
        if (text.len > 0)
                memcpy(copy, text.ptr, text.len);
        copy[text.len] = '\0';
        composer->text += text.len + 1;
        composer->text_left -= text.len + 1;
        return slice_of(copy, text.len);
}

/* By the length and both ends: cheap, and a collision only costs a copy. */
static size_t yaml_recent_index(struct slice text)
{
        uint64_t head = 0, tail = 0;
        size_t part = text.len < 8 ? text.len : 8;
        memcpy(&head, text.ptr, part);
        memcpy(&tail, text.ptr + text.len - part, part);
        return (size_t)(((head ^ tail * 31) + text.len) * UINT64_C(0x9e3779b97f4a7c15) >> 54);
}

/* Like arena_copy(), but packed, and what was copied a short while ago is not copied again: a file has a million short
 * texts, most of them names of members. */
static struct slice yaml_copy(struct yaml_composer *composer, struct slice text)
{
        struct slice *recent = &composer->recent[yaml_recent_index(text)];
        if (recent->ptr != NULL && slice_equal(*recent, text))
                return *recent;
        *recent = yaml_copy_new(composer, text);
        return *recent;
}

static struct yaml_anchor **yaml_bucket(struct yaml_composer *composer, struct slice name)
{
        uint32_t hash = 2166136261u; /* FNV-1a: bounded in number, so collisions do not matter */
        for (size_t i = 0; i < name.len; i++)
                hash = (hash ^ name.ptr[i]) * 16777619u;
        return &composer->anchors[hash & (YAML_ANCHOR_BUCKETS - 1)];
}

static struct yaml_anchor *yaml_anchor_find(struct yaml_composer *composer, struct slice name)
{
        struct yaml_anchor *anchor = *yaml_bucket(composer, name);
        while (anchor != NULL && !slice_equal(anchor->name, name))
                anchor = anchor->next;
        return anchor;
}

static bool yaml_anchor_add(struct yaml_composer *composer, const yaml_char_t *name, struct rules_yaml_node *node,
                            struct yaml_anchor **ret_anchor)
{
        struct rules_reader *reader = composer->reader;
        *ret_anchor = NULL;
        if (name == NULL)
                return true;
        struct slice text = slice_of_text((const char *)name);
        if (yaml_anchor_find(composer, text) != NULL) {
                rules_error(reader, node, "anchor &%s is already there; give every anchor its own name", name);
                return false;
        }
        if (composer->anchors_count == RULES_YAML_ANCHORS_MAX) {
                rules_error(reader, node, "more than %u anchors in one file", RULES_YAML_ANCHORS_MAX);
                return false;
        }
        struct yaml_anchor *anchor = arena_alloc(reader->arena, sizeof(*anchor));
        struct slice copy = arena_copy(reader->arena, text);
        if (anchor == NULL || copy.ptr == NULL) {
                reader->out_of_memory = true;
                return false;
        }
        struct yaml_anchor **bucket = yaml_bucket(composer, text);
        *anchor = (struct yaml_anchor){.next = *bucket, .name = copy, .node = node};
        *bucket = anchor;
        composer->anchors_count++;
        *ret_anchor = anchor;
        return true;
}

static bool yaml_count(struct yaml_composer *composer, const struct rules_yaml_node *at, uint32_t weight)
{
        if (weight > RULES_YAML_NODES_MAX - composer->nodes_total) {
                rules_error(composer->reader, at, "more than %u values in one file (aliases count as often as used)",
                            RULES_YAML_NODES_MAX);
                return false;
        }
        composer->nodes_total += weight;
        return true;
}

static bool yaml_key_check(struct yaml_composer *composer, const struct yaml_level *level,
                           const struct rules_yaml_node *key)
{
        struct rules_reader *reader = composer->reader;
        if (key->kind != RULES_YAML_SCALAR) {
                rules_error(reader, key, "the name of a member must be a text, not a map or a list");
                return false;
        }
        if (slice_equal(rules_yaml_slice(key), SLICE("<<")) && !key->quoted) {
                rules_error(reader, key,
                            "merge keys ('<<') are not supported; write the members out, or use an alias "
                            "for a whole value");
                return false;
        }
        for (const struct rules_yaml_node *other = level->node->first; other != NULL; other = other->next->next)
                if (slice_equal(rules_yaml_slice(other), rules_yaml_slice(key))) {
                        /* A mistake, but the rest of the file can be read: go on. */
                        rules_error(reader, key, "member %s is already given on line %u",
                                    rules_quote(reader, rules_yaml_slice(key)), other->line);
                        break;
                }
        if (level->node->count == RULES_YAML_MEMBERS_MAX) {
                rules_error(
                        reader, key,
                        "more than %u members in one map; where more are meant (default_configuration_sets), give a "
                        "list of such maps",
                        RULES_YAML_MEMBERS_MAX);
                return false;
        }
        return true;
}

/* Hangs a node, complete or just begun, into the one being composed. */
static bool yaml_attach(struct yaml_composer *composer, struct rules_yaml_node *node)
{
        if (!yaml_count(composer, node, node->weight))
                return false;
        if (composer->depth == 0) {
                composer->root = node;
                return true;
        }
        struct yaml_level *level = &composer->levels[composer->depth - 1];
        if (level->node->kind == RULES_YAML_LIST) {
                *level->tail = node;
                level->tail = &node->next;
                level->node->count++;
                return true;
        }
        if (level->key == NULL) {
                if (!yaml_key_check(composer, level, node))
                        return false;
                level->key = node;
                return true;
        }
        *level->tail = level->key;
        level->key->next = node;
        level->tail = &node->next;
        level->key = NULL;
        level->node->count++;
        return true;
}

static bool yaml_begin(struct yaml_composer *composer, yaml_mark_t mark, enum rules_yaml_kind kind,
                       const yaml_char_t *anchor_name, const yaml_char_t *tag)
{
        struct rules_reader *reader = composer->reader;
        struct rules_yaml_node *node = yaml_node(composer, mark, kind);
        if (node == NULL)
                return false;
        if (tag != NULL) {
                rules_error(reader, node, "tags such as %s are not supported",
                            rules_quote(reader, slice_of_text((const char *)tag)));
                return false;
        }
        if (composer->depth == RULES_YAML_DEPTH_MAX) {
                rules_error(reader, node, "more than %u maps and lists inside one another", RULES_YAML_DEPTH_MAX);
                return false;
        }
        struct yaml_level *level = &composer->levels[composer->depth];
        *level = (struct yaml_level){.node = node, .tail = &node->first};
        if (!yaml_attach(composer, node) || !yaml_anchor_add(composer, anchor_name, node, &level->anchor))
                return false;
        composer->depth++;
        return true;
}

static void yaml_end(struct yaml_composer *composer)
{
        struct yaml_level *level = &composer->levels[--composer->depth];
        if (level->anchor != NULL)
                level->anchor->complete = true;
        if (composer->depth > 0) {
                ASSERT_KNOWN(composer->levels[composer->depth - 1].node != NULL);
                composer->levels[composer->depth - 1].node->weight += level->node->weight;
        }
}

static bool yaml_leaf(struct yaml_composer *composer, struct rules_yaml_node *node)
{
        if (!yaml_attach(composer, node))
                return false;
        if (composer->depth > 0)
                composer->levels[composer->depth - 1].node->weight += node->weight;
        return true;
}

static bool yaml_scalar(struct yaml_composer *composer, const yaml_event_t *event)
{
        struct rules_reader *reader = composer->reader;
        struct rules_yaml_node *node = yaml_node(composer, event->start_mark, RULES_YAML_SCALAR);
        if (node == NULL)
                return false;
        node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        struct slice text = yaml_copy(composer, slice_of(event->data.scalar.value, event->data.scalar.length));
        if (text.ptr == NULL)
                return false;
        node->bytes = text.ptr;
        node->count = (uint32_t)text.len; /* below LIMIT_CONFIG_BYTES_MAX */
        if (event->data.scalar.tag != NULL) {
                rules_error(reader, node, "tags such as %s are not supported; to make a value a text, quote it",
                            rules_quote(reader, slice_of_text((const char *)event->data.scalar.tag)));
                return false;
        }
        struct yaml_anchor *anchor;
        if (!yaml_leaf(composer, node) || !yaml_anchor_add(composer, event->data.scalar.anchor, node, &anchor))
                return false;
        if (anchor != NULL)
                anchor->complete = true;
        return true;
}

static bool yaml_alias(struct yaml_composer *composer, const yaml_event_t *event)
{
        struct rules_reader *reader = composer->reader;
        struct rules_yaml_node at = yaml_position(event->start_mark);
        struct yaml_anchor *anchor = yaml_anchor_find(composer, slice_of_text((const char *)event->data.alias.anchor));
        if (anchor == NULL || !anchor->complete) {
                rules_error(reader, &at,
                            anchor == NULL ? "alias *%s names no anchor above it"
                                           : "alias *%s stands inside the value that it names",
                            event->data.alias.anchor);
                return false;
        }
        struct rules_yaml_node *node = yaml_node(composer, event->start_mark, RULES_YAML_SCALAR);
        if (node == NULL)
                return false;
        *node = *anchor->node;
        node->next = NULL;
        return yaml_leaf(composer, node);
}

static void yaml_syntax_error(struct rules_reader *reader, const yaml_parser_t *parser, struct slice text)
{
        if (parser->error == YAML_MEMORY_ERROR) {
                reader->out_of_memory = true;
                return;
        }
        struct rules_yaml_node at = yaml_position(parser->problem_mark);
        const char *problem = parser->problem == NULL ? "malformed" : parser->problem;
        if (parser->error == YAML_READER_ERROR) {
                /* Readers give an offset only. */
                at = (struct rules_yaml_node){.line = 1, .column = 1};
                for (size_t i = 0; i < parser->problem_offset && i < text.len; i++) {
                        at.column++;
                        if (text.ptr[i] == '\n') {
                                at.line++;
                                at.column = 1;
                        }
                }
                rules_error(reader, &at,
                            "not readable: %s (byte 0x%02x); the file must be UTF-8 text without control "
                            "characters",
                            problem, (unsigned)parser->problem_value & 0xffu);
                return;
        }
        const char *hint = "";
        if (parser->problem_mark.index < text.len && strstr(problem, "cannot start any token") != NULL)
                hint = "; YAML is indented with spaces, not tabs, and texts that begin with @, ` or % need quotes";
        if (parser->context != NULL)
                rules_error(reader, &at, "not valid YAML: %s, %s that begins on line %zu%s", problem, parser->context,
                            parser->context_mark.line + 1, hint);
        else
                rules_error(reader, &at, "not valid YAML: %s%s", problem, hint);
}

/* One event. False: stop. */
static bool yaml_event(struct yaml_composer *composer, const yaml_event_t *event, uint32_t *documents)
{
        switch (event->type) {
        case YAML_NO_EVENT:
        case YAML_STREAM_START_EVENT:
        case YAML_STREAM_END_EVENT:
        case YAML_DOCUMENT_END_EVENT:
                return true;
        case YAML_DOCUMENT_START_EVENT:
                if (++*documents > 1) {
                        struct rules_yaml_node at = yaml_position(event->start_mark);
                        rules_error(composer->reader, &at,
                                    "a second document begins here; one file holds one document");
                        return false;
                }
                return true;
        case YAML_ALIAS_EVENT:
                return yaml_alias(composer, event);
        case YAML_SCALAR_EVENT:
                return yaml_scalar(composer, event);
        case YAML_SEQUENCE_START_EVENT:
                return yaml_begin(composer, event->start_mark, RULES_YAML_LIST, event->data.sequence_start.anchor,
                                  event->data.sequence_start.tag);
        case YAML_MAPPING_START_EVENT:
                return yaml_begin(composer, event->start_mark, RULES_YAML_MAP, event->data.mapping_start.anchor,
                                  event->data.mapping_start.tag);
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT:
                yaml_end(composer);
                return true;
        }
        return true;
}

bool rules_yaml_parse(struct rules_reader *reader, struct slice text, const struct rules_yaml_node **ret_root)
{
        if (text.len > LIMIT_CONFIG_BYTES_MAX) {
                rules_error(reader, NULL, "larger than the %u bytes allowed", LIMIT_CONFIG_BYTES_MAX);
                return false;
        }
        /* A byte order mark says nothing; libyaml, which is told the encoding, would take it for text. */
        if (slice_has_prefix(text, SLICE("\xef\xbb\xbf")))
                text = slice_from(text, 3);
        yaml_parser_t parser;
        if (yaml_parser_initialize(&parser) == 0) {
                reader->out_of_memory = true;
                return false;
        }
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser, text.len == 0 ? (const uint8_t *)"" : text.ptr, text.len);
        struct yaml_composer composer = {.reader = reader};
        uint32_t documents = 0;
        bool good = true, done = false;
        while (good && !done) {
                yaml_event_t event;
                if (yaml_parser_parse(&parser, &event) == 0) {
                        yaml_syntax_error(reader, &parser, text);
                        good = false;
                        break;
                }
                done = event.type == YAML_STREAM_END_EVENT;
                good = yaml_event(&composer, &event, &documents);
                yaml_event_delete(&event);
        }
        yaml_parser_delete(&parser);
        if (good)
                *ret_root = composer.root;
        return good;
}

bool rules_yaml_load(struct rules_reader *reader, const char *path, const struct rules_yaml_node **ret_root)
{
        struct slice text;
        struct err err;
        enum err_code code = file_read(reader->arena, path, LIMIT_CONFIG_BYTES_MAX, &text, &err);
        if (code == ERR_MEMORY)
                reader->out_of_memory = true;
        else if (code != ERR_OK)
                rules_error(reader, NULL, "%s", err.text);
        return code == ERR_OK && rules_yaml_parse(reader, text, ret_root);
}

/* ---------------------------------------------------------------------------------------------- comparing */

bool rules_yaml_equal(const struct rules_yaml_node *a, const struct rules_yaml_node *b)
{
        if (a->kind != b->kind || a->quoted != b->quoted || a->count != b->count)
                return false;
        if (a->kind == RULES_YAML_SCALAR)
                return a->bytes == b->bytes || memcmp(a->bytes, b->bytes, a->count) == 0;
        if (a->first == b->first)
                return true;
        for (a = a->first, b = b->first; a != NULL && b != NULL; a = a->next, b = b->next)
                if (!rules_yaml_equal(a, b)) /* RULES_YAML_DEPTH_MAX deep */
                        return false;
        return a == b;
}

uint64_t rules_yaml_hash(uint64_t seed, const struct rules_yaml_node *node)
{
        uint64_t hash = seed * 31 + (uint64_t)node->count * 8 + node->kind * 2u + node->quoted;
        if (node->kind == RULES_YAML_SCALAR)
                return hash_bytes(hash, rules_yaml_slice(node));
        for (const struct rules_yaml_node *child = node->first; child != NULL; child = child->next)
                hash = rules_yaml_hash(hash, child);
        return hash;
}
