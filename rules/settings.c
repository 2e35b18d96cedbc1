/* sendring.yaml: one table row per key with its default and bounds, then the few keys that need more, then the
 * relations between keys. */
#include "base/limits.h"
#include "rules/rules_internal.h"

#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <stddef.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum settings_section { TOP, ALLOW, ROUTER, JOURNAL, EGRESS, CREDENTIALS, SHUTDOWN, LOG, SECTIONS_COUNT };
static const char *const settings_sections[SECTIONS_COUNT] = {NULL,     "allow",       "router",   "journal",
                                                              "egress", "credentials", "shutdown", "log"};

enum settings_kind {
        KIND_U32,
        KIND_U64,
        KIND_TEXT,  /* min..max bytes */
        KIND_PATH,  /* relative to the file's folder */
        KIND_OTHER, /* by its own function */
};

struct settings_key {
        enum settings_section section;
        const char *name;
        enum settings_kind kind;
        size_t offset; /* in struct rules_settings */
        const struct rules_units *units;
        uint64_t min, max, plain; /* `plain`: the default */
        const char *text;         /* the default of texts and paths; NULL stays NULL */
};

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* The key of a member with the same name in its section. */
#define U32(section, group, member, units, min, max, plain)                                                           \
        {                                                                                                             \
                section, #member, KIND_U32, offsetof(struct rules_settings, group member), &rules_units_##units, min, \
                        max, plain, NULL                                                                              \
        }
#define U64(section, group, member, units, min, max, plain)                                                           \
        {                                                                                                             \
                section, #member, KIND_U64, offsetof(struct rules_settings, group member), &rules_units_##units, min, \
                        max, plain, NULL                                                                              \
        }
#define TEXT(section, group, member, min, max, text)                                                                \
        {                                                                                                           \
                section, #member, KIND_TEXT, offsetof(struct rules_settings, group member), NULL, min, max, 0, text \
        }
#define PATH(section, group, member, text)                                                                         \
        {                                                                                                          \
                section, #member, KIND_PATH, offsetof(struct rules_settings, group member), NULL, 1, 4095, 0, text \
        }
#define OTHER(section, name)                                      \
        {                                                         \
                section, name, KIND_OTHER, 0, NULL, 0, 0, 0, NULL \
        }
#define TOP_ /* members that are in no section's struct */

/* A body of this size holds the largest record, base64 of 1,000 KiB, and its JSON around it. */
#define SETTINGS_BATCH_BYTES_WHOLE (1536 * KIB)
/* Where something on the way takes no larger requests. */
#define SETTINGS_BATCH_BYTES_MIN (256 * KIB)

static const struct settings_key settings_keys[] = {
        PATH(TOP, TOP_, state_directory, "/var/lib/sendring"),
        PATH(TOP, TOP_, socket_path, "/run/sendring/sendring.sock"),
        OTHER(TOP, "socket_mode"),
        PATH(TOP, TOP_, configuration_sets_path, "configuration-sets.yaml"),
        TEXT(TOP, TOP_, default_configuration_set, 1, LIMIT_NAME_BYTES_MAX, NULL),
        OTHER(TOP, "default_configuration_sets"),
        TEXT(TOP, TOP_, region, 0, 32, ""),
        TEXT(TOP, TOP_, account_id, 0, 12, ""),
        TEXT(TOP, TOP_, partition, 1, 32, "aws"),
        OTHER(ALLOW, "users"),
        OTHER(ALLOW, "groups"),
        OTHER(ROUTER, "cores"),
        U32(ROUTER, router., shards_count, none, 1, LIMIT_SHARDS_MAX, 1),
        U32(ROUTER, router., lane_bytes, bytes, LIMIT_LANE_BYTES_MIN, LIMIT_LANE_BYTES_MAX, LIMIT_LANE_BYTES_DEFAULT),
        U32(ROUTER, router., lane_bytes_max, bytes, LIMIT_LANE_BYTES_MIN, LIMIT_LANE_BYTES_MAX, 0),
        U32(ROUTER, router., lanes_max, none, 1, LIMIT_LANES_MAX, 256),
        U32(ROUTER, router., lanes_per_user_max, none, 1, LIMIT_LANES_MAX, 0),
        U32(ROUTER, router., spin_us, us, 0, 1000000, 0),
        U32(ROUTER, router., nap_us, us, 10, 1000000, 1000),
        U32(ROUTER, router., nap_window_ms, ms, 0, 60000, 10),
        PATH(JOURNAL, journal., directory, NULL),
        U32(JOURNAL, journal., segment_bytes, bytes, LIMIT_SEGMENT_BYTES_MIN, LIMIT_SEGMENT_BYTES_MAX,
            LIMIT_SEGMENT_BYTES_DEFAULT),
        U64(JOURNAL, journal., size_bytes_max, bytes, 4 * MIB, 64 * 1024 * GIB, 8 * GIB),
        U32(JOURNAL, journal., segments_mapped_max, none, 4, 1024, 12),
        U64(JOURNAL, journal., retention_bytes, bytes, 0, 64 * 1024 * GIB, 0),
        U64(JOURNAL, journal., retention_age, s, 0, UINT64_C(366) * 86400, 0),
        OTHER(JOURNAL, "durability"),
        OTHER(JOURNAL, "full"),
        OTHER(JOURNAL, "priority"),
        U32(JOURNAL, journal., sync_interval_ms, ms, 1, 10000, 5),
        U32(EGRESS, egress., workers_count, none, 1, LIMIT_WORKERS_MAX, 1),
        U32(EGRESS, egress., linger_ms, ms, 0, 900000, 100),
        U32(EGRESS, egress., batch_bytes_max, bytes, SETTINGS_BATCH_BYTES_MIN, LIMIT_FIREHOSE_CALL_BYTES_MAX,
            LIMIT_FIREHOSE_CALL_BYTES_MAX),
        U32(EGRESS, egress., in_flight_max, none, 1, LIMIT_IN_FLIGHT_PER_TARGET_MAX, 4),
        U32(EGRESS, egress., connect_timeout_ms, ms, 10, 300000, 5000),
        U32(EGRESS, egress., request_timeout_ms, ms, 100, 900000, 30000),
        U32(EGRESS, egress., idle_timeout_ms, ms, 100, 3600000, 60000),
        U32(EGRESS, egress., retry_base_ms, ms, 1, 600000, 50),
        U32(EGRESS, egress., retry_throttle_base_ms, ms, 1, 600000, 1000),
        U32(EGRESS, egress., retry_max_ms, ms, 1, 3600000, 5000),
        U32(EGRESS, egress., retry_budget_percent, none, 1, 100, 20),
        U64(EGRESS, egress., event_age_max_s, s, 0, UINT64_C(366) * 86400, 0),
        U64(EGRESS, egress., dead_letter_bytes_max, bytes, 0, 64 * 1024 * GIB, GIB),
        PATH(EGRESS, egress., ca_bundle, ""),
        OTHER(EGRESS, "endpoints"),
        OTHER(EGRESS, "rates"),
        TEXT(CREDENTIALS, credentials., profile, 1, 255, ""),
        PATH(CREDENTIALS, credentials., shared_credentials_file, ""),
        PATH(CREDENTIALS, credentials., config_file, ""),
        U32(SHUTDOWN, TOP_, drain_seconds, s, 0, 3600, 10),
        OTHER(LOG, "level"),
};
#define SETTINGS_KEYS COUNT(settings_keys)

struct settings_reader {
        struct rules_reader reader;
        struct rules_settings *settings;
        struct slice folder;                                 /* of the file, with its last slash; empty: here */
        const struct rules_yaml_node *values[SETTINGS_KEYS]; /* NULL: not given */
};

static const struct rules_yaml_node *settings_value(const struct settings_reader *reader, enum settings_section section,
                                                    const char *name)
{
        for (size_t i = 0; i < SETTINGS_KEYS; i++)
                if (settings_keys[i].section == section && strcmp(settings_keys[i].name, name) == 0)
                        return reader->values[i];
        return NULL;
}

static const char *settings_copy(struct settings_reader *reader, struct slice text)
{
        struct slice copy = arena_copy(&reader->settings->arena, text);
        if (copy.ptr == NULL) {
                reader->reader.out_of_memory = true;
                return "";
        }
        return (const char *)copy.ptr;
}

/* Relative paths start at the file's folder; an empty one stays empty. */
static const char *settings_path(struct settings_reader *reader, struct slice path)
{
        if (path.len == 0 || path.ptr[0] == '/' || reader->folder.len == 0)
                return settings_copy(reader, path);
        char *joined =
                arena_printf(&reader->settings->arena, "%.*s%.*s", SLICE_PRINTF(reader->folder), SLICE_PRINTF(path));
        if (joined == NULL)
                reader->reader.out_of_memory = true;
        return joined == NULL ? "" : joined;
}

/* ---------------------------------------------------------------------------------------------- from the table */

static void settings_store(struct settings_reader *reader, const struct settings_key *key, uint64_t number,
                           const char *text)
{
        uint8_t *at = (uint8_t *)reader->settings + key->offset;
        switch (key->kind) {
        case KIND_U32: {
                uint32_t small = (uint32_t)number; /* within the row's bounds */
                memcpy(at, &small, sizeof(small));
                break;
        }
        case KIND_U64:
                memcpy(at, &number, sizeof(number));
                break;
        case KIND_TEXT:
        case KIND_PATH:
                memcpy(at, &text, sizeof(text));
                break;
        case KIND_OTHER:
                break;
        }
}

static void settings_default(struct settings_reader *reader, const struct settings_key *key)
{
        const char *text = key->text;
        if (key->kind == KIND_PATH && text != NULL)
                text = settings_path(reader, slice_of_text(text));
        settings_store(reader, key, key->plain, text);
}

static void settings_key_read(struct settings_reader *reader, const struct settings_key *key,
                              const struct rules_yaml_node *node)
{
        char what[64];
        struct slice text = SLICE_EMPTY;
        uint64_t number = 0;
        const char *section = settings_sections[key->section];
        (void)snprintf(what, sizeof(what), "%s%s%s", section == NULL ? "" : section, section == NULL ? "" : ".",
                       key->name); /* names of the table: short */
        if (key->kind == KIND_U32 || key->kind == KIND_U64) {
                if (rules_yaml_quantity(&reader->reader, node, what, key->units, key->min, key->max, &number))
                        settings_store(reader, key, number, NULL);
        } else if (key->kind == KIND_TEXT || key->kind == KIND_PATH) {
                if (rules_yaml_text(&reader->reader, node, what, key->min, key->max, &text))
                        settings_store(reader, key, 0,
                                       key->kind == KIND_PATH ? settings_path(reader, text)
                                                              : settings_copy(reader, text));
        }
}

/* ---------------------------------------------------------------------------------------------- keys with a mind */

static void settings_socket_mode(struct settings_reader *reader, const struct rules_yaml_node *node)
{
        struct slice text;
        unsigned mode = 0;
        if (!rules_yaml_text(&reader->reader, node, "socket_mode", 1, 16, &text))
                return;
        bool good = (text.len == 4 && text.ptr[0] == '0') || text.len == 3;
        for (size_t i = 0; good && i < text.len; i++) {
                good = text.ptr[i] >= '0' && text.ptr[i] <= '7';
                mode = mode * 8 + (unsigned)(text.ptr[i] - '0');
        }
        if (!good) {
                rules_error(&reader->reader, node, "socket_mode must be octal digits such as \"0660\", not %s",
                            rules_describe(&reader->reader, node));
                return;
        }
        reader->settings->socket_mode = mode;
}

/* A name of the user or group database, or a number. */
static bool settings_id(struct settings_reader *reader, const struct rules_yaml_node *node, bool is_user,
                        uint32_t *ret_id)
{
        struct slice text;
        uint64_t number;
        if (!rules_yaml_text(&reader->reader, node, is_user ? "allow.users" : "allow.groups", 1, 255, &text))
                return false;
        if (!node->quoted && slice_to_u64(text, UINT32_MAX - 1, &number)) {
                *ret_id = (uint32_t)number;
                return true;
        }
        const char *name = (const char *)text.ptr; /* NUL behind it */
        if (is_user) {
                const struct passwd *user = getpwnam(name);
                if (user != NULL) {
                        *ret_id = user->pw_uid;
                        return true;
                }
        } else {
                const struct group *group = getgrnam(name);
                if (group != NULL) {
                        *ret_id = group->gr_gid;
                        return true;
                }
        }
        rules_error(&reader->reader, node,
                    "there is no %s %s on this host; give a name that `getent %s` knows, or a number",
                    is_user ? "user" : "group", rules_quote(&reader->reader, text), is_user ? "passwd" : "group");
        return false;
}

static void settings_ids(struct settings_reader *reader, const struct rules_yaml_node *node, bool is_user)
{
        _Static_assert(sizeof(uid_t) == sizeof(uint32_t) && sizeof(gid_t) == sizeof(uint32_t), "one array serves both");
        if (node == NULL || !rules_yaml_list(&reader->reader, node, is_user ? "allow.users" : "allow.groups"))
                return;
        uint32_t *ids = arena_alloc_array(&reader->settings->arena, node->count, sizeof(*ids));
        if (ids == NULL) {
                reader->reader.out_of_memory = true;
                return;
        }
        size_t count = 0;
        for (const struct rules_yaml_node *item = node->first; item != NULL; item = item->next)
                count += settings_id(reader, item, is_user, &ids[count]);
        if (is_user) {
                reader->settings->allowed_uids = (uid_t *)ids;
                reader->settings->allowed_uids_count = count;
        } else {
                reader->settings->allowed_gids = (gid_t *)ids;
                reader->settings->allowed_gids_count = count;
        }
}

static void settings_cores(struct settings_reader *reader, const struct rules_yaml_node *node)
{
        struct rules_settings *settings = reader->settings;
        const struct rules_yaml_node *shards = settings_value(reader, ROUTER, "shards_count");
        for (size_t i = 0; i < LIMIT_SHARDS_MAX; i++)
                settings->router.cores[i] = -1;
        if (node == NULL || !rules_yaml_list(&reader->reader, node, "router.cores"))
                return;
        if (node->count == 0 || node->count > LIMIT_SHARDS_MAX) {
                rules_error(&reader->reader, node,
                            "router.cores must list 1 to %u CPU numbers, not %u; without pinning "
                            "leave it out and give router.shards_count",
                            LIMIT_SHARDS_MAX, node->count);
                return;
        }
        if (shards != NULL && settings->router.shards_count != node->count)
                rules_error(&reader->reader, shards,
                            "router.shards_count is %u, but router.cores lists %u; give one of "
                            "them",
                            settings->router.shards_count, node->count);
        cpu_set_t online;
        bool is_online_known = sched_getaffinity(0, sizeof(online), &online) == 0;
        uint32_t count = 0;
        for (const struct rules_yaml_node *item = node->first; item != NULL; item = item->next) {
                uint64_t cpu;
                if (!rules_yaml_quantity(&reader->reader, item, "a CPU number of router.cores", &rules_units_none, 0,
                                         CPU_SETSIZE - 1, &cpu))
                        continue;
                if (is_online_known && !CPU_ISSET((size_t)cpu, &online))
                        rules_warning(
                                &reader->reader, item,
                                "CPU %u is not online here, or not for this process; its shard would not be pinned",
                                (unsigned)cpu);
                for (uint32_t i = 0; i < count; i++)
                        if (settings->router.cores[i] == (int)cpu)
                                rules_warning(&reader->reader, item,
                                              "CPU %u is listed twice: two shards would share it", (unsigned)cpu);
                settings->router.cores[count++] = (int)cpu;
        }
        settings->router.shards_count = node->count;
}

/* One map of domains; adds to what is there, for which there is room. */
static void settings_default_map(struct settings_reader *reader, const struct rules_yaml_node *map,
                                 struct rules_defaults *seen)
{
        static const char what[] = "default_configuration_sets";
        struct rules_reader *rules = &reader->reader;
        struct rules_settings *settings = reader->settings;
        if (map->kind != RULES_YAML_MAP) {
                rules_error(rules, map,
                            "%s must be a map like {mail.example.com: bulk-a}, or a list of such maps, not %s", what,
                            rules_describe(rules, map));
                return;
        }
        for (const struct rules_yaml_node *key = map->first; key != NULL; key = key->next->next) {
                struct slice domain, set;
                if (!rules_yaml_text(rules, key, "a domain of default_configuration_sets", 1, 253, &domain) ||
                    !rules_yaml_text(rules, key->next, what, 1, LIMIT_NAME_BYTES_MAX, &set))
                        continue;
                if (!rules_is_made_of(domain, "-._") || slice_has_prefix(domain, SLICE(".")) ||
                    slice_has_suffix(domain, SLICE("."))) {
                        rules_error(
                                rules, key,
                                "%s: %s is no domain; it should be like mail.example.com (names in other scripts as "
                                "xn--...)",
                                what, rules_quote(rules, domain));
                        continue;
                }
                if (!rules_is_made_of(set, "_-")) {
                        rules_error(rules, key->next, "%s: the set %s must be letters, digits, '_' and '-'", what,
                                    rules_quote(rules, set));
                        continue;
                }
                if (!rules_defaults_add(seen, domain, set)) {
                        rules_error(rules, key, "%s: %s is there already (case does not count)", what,
                                    rules_quote(rules, domain));
                        continue;
                }
                settings->default_configuration_sets[settings->default_configuration_sets_count++] =
                        (struct rules_default_set){settings_copy(reader, domain), settings_copy(reader, set)};
        }
}

static void settings_default_sets(struct settings_reader *reader, const struct rules_yaml_node *node)
{
        if (node == NULL)
                return;
        bool is_list = node->kind == RULES_YAML_LIST;
        size_t count = is_list ? 0 : node->count;
        for (const struct rules_yaml_node *map = is_list ? node->first : NULL; map != NULL; map = map->next)
                count += map->kind == RULES_YAML_MAP ? map->count : 0;
        if (count > LIMIT_DEFAULT_SETS_MAX) {
                rules_error(&reader->reader, node, "default_configuration_sets: %zu domains, at most %u are allowed",
                            count, LIMIT_DEFAULT_SETS_MAX);
                return;
        }
        reader->settings->default_configuration_sets = arena_alloc_array(
                &reader->settings->arena, count + 1, sizeof(*reader->settings->default_configuration_sets));
        struct rules_defaults *seen = rules_defaults_create(reader->reader.arena, count);
        if (reader->settings->default_configuration_sets == NULL || seen == NULL) {
                reader->reader.out_of_memory = true;
                return;
        }
        if (!is_list)
                settings_default_map(reader, node, seen);
        for (const struct rules_yaml_node *map = is_list ? node->first : NULL; map != NULL; map = map->next)
                settings_default_map(reader, map, seen);
}

static void settings_endpoints(struct settings_reader *reader, const struct rules_yaml_node *node)
{
        static const char *const names[] = {"firehose", "cloudwatch"};
        struct rules_endpoint *const endpoints[] = {&reader->settings->egress.firehose,
                                                    &reader->settings->egress.cloudwatch};
        _Static_assert(COUNT(names) == COUNT(endpoints), "one name for each endpoint");
        const struct rules_yaml_node *values[COUNT(names)];
        if (node == NULL || !rules_yaml_members(&reader->reader, node, "egress.endpoints", names, COUNT(names), values))
                return;
        for (size_t i = 0; i < COUNT(names); i++) {
                char what[64];
                struct slice url;
                (void)snprintf(what, sizeof(what), "egress.endpoints.%s", names[i]); /* short */
                if (values[i] == NULL ||
                    !rules_yaml_text(&reader->reader, values[i], what, 1, sizeof(endpoints[i]->url) - 1, &url))
                        continue;
                const char *wrong = rules_url_wrong(url);
                if (wrong != NULL)
                        rules_error(&reader->reader, values[i],
                                    "%s: %s: %s; it should be like https://host:8443 or http://127.0.0.1:4573", what,
                                    rules_quote(&reader->reader, url), wrong);
                else
                        (void)slice_to_text(url, endpoints[i]->url, sizeof(endpoints[i]->url)); /* measured above */
        }
}

static void settings_rates(struct settings_reader *reader, const struct rules_yaml_node *node)
{
        static const char *const names[] = {"firehose", "cloudwatch"};
        static const char *const members[] = {"records", "bytes", "requests"};
        struct rules_rates *const rates[] = {&reader->settings->egress.firehose_rates,
                                             &reader->settings->egress.cloudwatch_rates};
        _Static_assert(COUNT(names) == COUNT(rates), "one name for each service");
        const struct rules_yaml_node *values[COUNT(names)];
        if (node == NULL || !rules_yaml_members(&reader->reader, node, "egress.rates", names, COUNT(names), values))
                return;
        for (size_t i = 0; i < COUNT(names); i++) {
                char what[64];
                (void)snprintf(what, sizeof(what), "egress.rates.%s", names[i]); /* short */
                if (values[i] != NULL) /* else no limit; what is wrong was said */
                        (void)rules_rates_read(&reader->reader, values[i], what, members, rates[i]);
        }
}

static void settings_choices(struct settings_reader *reader)
{
        static const char *const durabilities[] = {"process", "host"};
        static const char *const levels[] = {"error", "warning", "info", "debug"};
        const struct rules_yaml_node *node = settings_value(reader, JOURNAL, "durability");
        size_t index = 0;
        if (node != NULL &&
            rules_yaml_choice(&reader->reader, node, "journal.durability", durabilities, COUNT(durabilities), &index))
                reader->settings->journal.durability_host = index == 1;
        reader->settings->log_level = "info";
        node = settings_value(reader, LOG, "level");
        if (node != NULL && rules_yaml_choice(&reader->reader, node, "log.level", levels, COUNT(levels), &index))
                reader->settings->log_level = levels[index];
}

/* ---------------------------------------------------------------------------------------------- patterns, relations */

static void settings_patterns(struct settings_reader *reader)
{
        const struct rules_settings *settings = reader->settings;
        struct rules_reader *rules = &reader->reader;
        struct slice set = slice_of_text(settings->default_configuration_set);
        struct slice region = slice_of_text(settings->region);
        struct slice account = slice_of_text(settings->account_id);
        if (!rules_is_made_of(set, "_-"))
                rules_error(rules, settings_value(reader, TOP, "default_configuration_set"),
                            "default_configuration_set %s must be letters, digits, '_' and '-'",
                            rules_quote(rules, set));
        if (region.len > 0 && !rules_is_region(region))
                rules_error(rules, settings_value(reader, TOP, "region"), "region must be like us-east-1, not %s",
                            rules_quote(rules, region));
        if (account.len > 0 && !rules_is_account_id(account))
                rules_error(rules, settings_value(reader, TOP, "account_id"), "account_id must be 12 digits, not %s",
                            rules_quote(rules, account));
        if (!rules_is_partition(slice_of_text(settings->partition)))
                rules_error(rules, settings_value(reader, TOP, "partition"),
                            "partition must be aws, aws-cn or aws-us-gov, not %s",
                            rules_quote(rules, slice_of_text(settings->partition)));
        if (slice_has_suffix(slice_of_text(settings->socket_path), SLICE("/")))
                rules_error(rules, settings_value(reader, TOP, "socket_path"),
                            "socket_path must name a socket, not a folder");
        /* sun_path of struct sockaddr_un, with its NUL. */
        if (strlen(settings->socket_path) > 107)
                rules_error(rules, settings_value(reader, TOP, "socket_path"),
                            "socket_path has %zu characters with its folder; a socket's path has 107 at most",
                            strlen(settings->socket_path));
}

static bool settings_is_power_of_two(uint32_t value)
{
        return (value & (value - 1)) == 0;
}

static void settings_lane_relations(struct settings_reader *reader)
{
        struct rules_reader *rules = &reader->reader;
        struct rules_settings *settings = reader->settings;
        const struct rules_yaml_node *lane = settings_value(reader, ROUTER, "lane_bytes");
        const struct rules_yaml_node *lane_max = settings_value(reader, ROUTER, "lane_bytes_max");
        if (settings->router.lane_bytes_max == 0)
                settings->router.lane_bytes_max = settings->router.lane_bytes;
        if (settings->router.lanes_per_user_max == 0)
                settings->router.lanes_per_user_max = settings->router.lanes_max - settings->router.lanes_max / 4;
        if (!settings_is_power_of_two(settings->router.lane_bytes))
                rules_error(rules, lane, "router.lane_bytes must be a power of two, such as 512KiB or 1MiB, not %s",
                            rules_quantity_text(rules, &rules_units_bytes, settings->router.lane_bytes));
        else if (lane_max != NULL && !settings_is_power_of_two(settings->router.lane_bytes_max))
                rules_error(rules, lane_max, "router.lane_bytes_max must be a power of two, such as 4MiB, not %s",
                            rules_quantity_text(rules, &rules_units_bytes, settings->router.lane_bytes_max));
        else if (settings->router.lane_bytes_max < settings->router.lane_bytes)
                rules_error(rules, lane_max, "router.lane_bytes_max is smaller than router.lane_bytes, %s",
                            rules_quantity_text(rules, &rules_units_bytes, settings->router.lane_bytes));
        else if (settings->router.lane_bytes / 2 < LIMIT_EVENT_BYTES_MAX)
                rules_warning(rules, lane,
                              "an event may take half a lane: with router.lane_bytes %s, events over %s are refused as "
                              "too big; 256KiB takes the largest there are",
                              rules_quantity_text(rules, &rules_units_bytes, settings->router.lane_bytes),
                              rules_quantity_text(rules, &rules_units_bytes, settings->router.lane_bytes / 2));
}

/* Who is allowed must be able to open the socket, too; who made it and root can. Groups may well be those of the
 * socket, which is not known here: with a mode that was thought about they are not doubted. */
static void settings_allow_relations(struct settings_reader *reader)
{
        const struct rules_settings *settings = reader->settings;
        const struct rules_yaml_node *mode = settings_value(reader, TOP, "socket_mode");
        if ((settings->socket_mode & 02) != 0)
                return;
        const struct rules_yaml_node *doubted = NULL;
        if (settings->allowed_uids_count > 0)
                doubted = settings_value(reader, ALLOW, "users");
        else if (settings->allowed_gids_count > 0 && mode == NULL)
                doubted = settings_value(reader, ALLOW, "groups");
        if (doubted != NULL)
                rules_warning(&reader->reader, doubted,
                              "with socket_mode \"%04o\" only the daemon's user and group can open the socket: whoever "
                              "else is allowed needs socket_mode: \"0666\" (`allow` still decides who gets a lane)",
                              settings->socket_mode);
}

/* Files of dead letters are a quarter of a worker's part, and one letter may have 1.2 MiB. */
#define SETTINGS_DEAD_LETTER_BYTES_MIN (16 * MIB)

static void settings_dead_letter_relations(struct settings_reader *reader)
{
        struct rules_settings *settings = reader->settings;
        uint64_t least = SETTINGS_DEAD_LETTER_BYTES_MIN * settings->egress.workers_count;
        if (settings->egress.dead_letter_bytes_max != 0 && settings->egress.dead_letter_bytes_max < least)
                rules_error(&reader->reader, settings_value(reader, EGRESS, "dead_letter_bytes_max"),
                            "egress.dead_letter_bytes_max must be at least 16MiB for each worker: %s, or 0",
                            rules_quantity_text(&reader->reader, &rules_units_bytes, least));
}

static void settings_batch_relations(struct settings_reader *reader)
{
        const uint32_t bytes = reader->settings->egress.batch_bytes_max;
        if (bytes < SETTINGS_BATCH_BYTES_WHOLE)
                rules_warning(&reader->reader, settings_value(reader, EGRESS, "batch_bytes_max"),
                              "with egress.batch_bytes_max %s, events of more than some %s of JSON fit no request and "
                              "become dead letters; 1536KiB takes the largest there are",
                              rules_quantity_text(&reader->reader, &rules_units_bytes, bytes),
                              rules_quantity_text(&reader->reader, &rules_units_bytes, bytes / 4 * 3));
}

static void settings_relations(struct settings_reader *reader)
{
        struct rules_reader *rules = &reader->reader;
        struct rules_settings *settings = reader->settings;
        const struct rules_yaml_node *size = settings_value(reader, JOURNAL, "size_bytes_max");
        const struct rules_yaml_node *segment = settings_value(reader, JOURNAL, "segment_bytes");
        const struct rules_yaml_node *shards = settings_value(reader, ROUTER, "shards_count");
        /* Each shard's log gets an equal part. */
        const uint32_t shed = settings->journal.pressure.shed_count;
        const uint32_t logs = settings->router.shards_count * (1 + shed);
        const uint64_t segments_min = 4 + 2 * (uint64_t)shed;
        uint64_t size_min = segments_min * settings->journal.segment_bytes * settings->router.shards_count;
        settings_lane_relations(reader);
        settings_allow_relations(reader);
        settings_dead_letter_relations(reader);
        settings_batch_relations(reader);
        if (!settings_is_power_of_two(settings->journal.segment_bytes))
                rules_error(rules, segment,
                            "journal.segment_bytes must be a power of two, such as 16MiB or 32MiB, not %s",
                            rules_quantity_text(rules, &rules_units_bytes, settings->journal.segment_bytes));
        else if (settings->journal.size_bytes_max < size_min)
                rules_error(rules,
                            size != NULL      ? size
                            : segment != NULL ? segment
                                              : shards,
                            "journal.size_bytes_max must be at least 4 segments for each shard%s: %s with "
                            "journal.segment_bytes %s and %u shard%s",
                            shed == 0 ? "" : " and 2 more for each event type that is shed",
                            rules_quantity_text(rules, &rules_units_bytes, size_min),
                            rules_quantity_text(rules, &rules_units_bytes, settings->journal.segment_bytes),
                            settings->router.shards_count, settings->router.shards_count == 1 ? "" : "s");
        if (logs > LIMIT_LOGS_WANTED_MAX)
                rules_error(rules, settings_value(reader, JOURNAL, "full"),
                            "journal.full: with %u shards and %u event types that are shed, the journal would have %u "
                            "logs; at most %u",
                            settings->router.shards_count, shed, logs, LIMIT_LOGS_WANTED_MAX);
        if (settings->journal.retention_bytes > settings->journal.size_bytes_max)
                rules_warning(rules, settings_value(reader, JOURNAL, "retention_bytes"),
                              "journal.retention_bytes is more than journal.size_bytes_max, %s: so much is never kept",
                              rules_quantity_text(rules, &rules_units_bytes, settings->journal.size_bytes_max));
        const uint32_t bases[] = {settings->egress.retry_base_ms, settings->egress.retry_throttle_base_ms};
        const char *const names[] = {"retry_base_ms", "retry_throttle_base_ms"};
        const struct rules_yaml_node *longest = settings_value(reader, EGRESS, "retry_max_ms");
        for (size_t i = 0; i < COUNT(bases); i++) {
                const struct rules_yaml_node *base = settings_value(reader, EGRESS, names[i]);
                if (bases[i] > settings->egress.retry_max_ms)
                        rules_error(rules, base != NULL ? base : longest,
                                    "egress.%s (%ums) must not be longer than egress.retry_max_ms (%ums)", names[i],
                                    bases[i], settings->egress.retry_max_ms);
        }
        if (settings->egress.connect_timeout_ms > settings->egress.request_timeout_ms)
                rules_warning(rules, settings_value(reader, EGRESS, "connect_timeout_ms"),
                              "egress.connect_timeout_ms is longer than egress.request_timeout_ms (%ums)",
                              settings->egress.request_timeout_ms);
}

/* ---------------------------------------------------------------------------------------------- the whole file */

/* Sorts the values of the document into reader->values. */
static void settings_collect(struct settings_reader *reader, const struct rules_yaml_node *root)
{
        const char *names[SETTINGS_KEYS + SECTIONS_COUNT];
        const struct rules_yaml_node *values[SETTINGS_KEYS + SECTIONS_COUNT];
        const struct rules_yaml_node *sections[SECTIONS_COUNT] = {[TOP] = root};
        for (int section = TOP; section < SECTIONS_COUNT; section++) {
                size_t count = 0;
                if (sections[section] == NULL)
                        continue;
                for (size_t i = 0; i < SETTINGS_KEYS; i++)
                        if ((int)settings_keys[i].section == section)
                                names[count++] = settings_keys[i].name;
                size_t keys_count = count;
                for (int other = TOP + 1; section == TOP && other < SECTIONS_COUNT; other++)
                        names[count++] = settings_sections[other];
                const char *what = section == TOP ? "the settings" : settings_sections[section];
                if (!rules_yaml_members(&reader->reader, sections[section], what, names, count, values))
                        continue;
                size_t at = 0;
                for (size_t i = 0; i < SETTINGS_KEYS; i++)
                        if ((int)settings_keys[i].section == section)
                                reader->values[i] = values[at++];
                for (; at < count; at++)
                        sections[at - keys_count + 1] = values[at];
        }
}

static void settings_interpret(struct settings_reader *reader)
{
        struct rules_settings *settings = reader->settings;
        for (size_t i = 0; i < SETTINGS_KEYS; i++) {
                settings_default(reader, &settings_keys[i]);
                if (reader->values[i] != NULL)
                        settings_key_read(reader, &settings_keys[i], reader->values[i]);
        }
        settings->socket_mode = 0660;
        if (settings_value(reader, TOP, "socket_mode") != NULL)
                settings_socket_mode(reader, settings_value(reader, TOP, "socket_mode"));
        settings_default_sets(reader, settings_value(reader, TOP, "default_configuration_sets"));
        settings_ids(reader, settings_value(reader, ALLOW, "users"), true);
        settings_ids(reader, settings_value(reader, ALLOW, "groups"), false);
        settings_cores(reader, settings_value(reader, ROUTER, "cores"));
        settings_endpoints(reader, settings_value(reader, EGRESS, "endpoints"));
        settings_rates(reader, settings_value(reader, EGRESS, "rates"));
        settings_choices(reader);
        rules_pressure_read(&reader->reader, settings_value(reader, JOURNAL, "full"),
                            settings_value(reader, JOURNAL, "priority"), &settings->journal.pressure);
        if (settings->journal.directory == NULL) {
                settings->journal.directory = arena_printf(&settings->arena, "%s/journal", settings->state_directory);
                reader->reader.out_of_memory |= settings->journal.directory == NULL;
        }
        if (reader->reader.out_of_memory)
                return;
        settings_patterns(reader);
        settings_relations(reader);
}

/* The file's text is read from `path` when `text` is NULL. */
static enum err_code settings_read(const char *path, const struct slice *text, struct rules_settings *ret_settings,
                                   struct rules_report *report)
{
        struct arena arena;
        arena_init(&arena, 0, 0);
        struct rules_settings settings = {.log_level = "info"};
        arena_init(&settings.arena, (size_t)4 * 1024, 0);
        struct settings_reader reader = {.settings = &settings};
        enum err_code code = ERR_MEMORY;
        const char *slash = strrchr(path, '/');
        if (slash != NULL)
                reader.folder = slice_of(path, (size_t)(slash - path) + 1);
        if (!rules_reader_begin(&reader.reader, path, &arena, report))
                goto out;
        const struct rules_yaml_node *root = NULL;
        if (text == NULL ? rules_yaml_load(&reader.reader, path, &root)
                         : rules_yaml_parse(&reader.reader, *text, &root)) {
                /* An empty file, or one of comments only, is all defaults. */
                if (!rules_yaml_is_null(root))
                        settings_collect(&reader, root);
                settings_interpret(&reader);
        }
        code = rules_reader_end(&reader.reader);
out:
        arena_release(&arena);
        if (code == ERR_OK)
                *ret_settings = settings;
        else
                rules_settings_release(&settings);
        return code;
}

enum err_code rules_settings_load(const char *path, struct rules_settings *ret_settings, struct rules_report *report)
{
        return settings_read(path, NULL, ret_settings, report);
}

enum err_code rules_settings_parse(const char *path, struct slice text, struct rules_settings *ret_settings,
                                   struct rules_report *report)
{
        return settings_read(path, &text, ret_settings, report);
}

void rules_settings_release(struct rules_settings *settings)
{
        arena_release(&settings->arena);
        *settings = (struct rules_settings){0};
}
