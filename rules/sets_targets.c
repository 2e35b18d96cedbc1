/* What the destinations of configuration-sets.yaml name: delivery streams, files and CloudWatch configurations. Those
 * that say the same are one target, and what they may not say differently is a mistake. */
#include "base/assert.h"
#include "base/limits.h"
#include "rules/sets_internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A key of a target is at most RULES_TARGET_KEY_BYTES_MAX: "file ", what is published and a space, and the path. */
#define SETS_PATH_BYTES_MAX (RULES_TARGET_KEY_BYTES_MAX - 5)
#define SETS_NAME_BYTES_MAX 255u /* of one part of a path */
#define SETS_ROTATED_BYTES  21u  /* ".20260102T030405Z-999" (egress/file.c) */

static bool sets_target(struct sets_reader *sets, const struct rules_yaml_node *node, const struct rules_target *wanted,
                        struct rules_target **ret_target, uint32_t *ret_first_line)
{
        enum err_code code = rules_plan_builder_target(sets->builder, wanted, node->line, ret_target, ret_first_line);
        if (code == ERR_MEMORY)
                sets->reader.out_of_memory = true;
        if (code == ERR_LIMIT && !sets->too_many_targets) {
                rules_error(&sets->reader, node, "more than %u different streams, files and CloudWatch configurations",
                            LIMIT_TARGETS_MAX);
                sets->too_many_targets = true;
        }
        return code == ERR_OK;
}

/* What the target has on the wire besides. */
static bool sets_join(struct sets_reader *sets, const struct rules_yaml_node *const *extensions,
                      const struct rules_yaml_node *node, const struct rules_target *wanted, uint32_t first_line,
                      struct rules_target *target)
{
        const struct rules_yaml_node *given =
                extensions[SETS_RATE] != NULL ? extensions[SETS_RATE] : extensions[SETS_ENDPOINT];
        return rules_wire_join(&sets->reader, given != NULL ? given : node, rules_plan_builder_arena(sets->builder),
                               wanted, first_line, target);
}

/* The parts of a key are checked, so that it cannot be longer than its room: an ARN's region, name and so on are. */
static void sets_key_append(struct slice *key, uint8_t *room, struct slice part)
{
        ASSERT(part.len <= RULES_TARGET_KEY_BYTES_MAX - key->len);
        memcpy(room + key->len, part.ptr, part.len);
        key->len += part.len;
}

/* Tells the target what is published; returns that part of the key. */
static struct slice sets_published(const struct sets_reader *sets, struct rules_target *target)
{
        target->event_id = sets->published.event_id;
        target->redaction = sets->published.redacted ? &sets->published.redaction : NULL;
        return slice_of(sets->published.key, sets->published.key_bytes);
}

bool sets_firehose(struct sets_reader *sets, const struct rules_yaml_node *node,
                   const struct rules_yaml_node *const *extensions, uint32_t *ret_target_index)
{
        const struct rules_yaml_node *events_max = extensions[SETS_PACKING_EVENTS_MAX];
        struct rules_reader *reader = &sets->reader;
        static const char *const names[] = {"IamRoleArn", "DeliveryStreamArn"};
        const struct rules_yaml_node *values[COUNT(names)];
        struct rules_target wanted = {.service = RULES_SERVICE_FIREHOSE};
        bool good =
                rules_packing_read(reader, extensions[SETS_PACKING], events_max, extensions[SETS_COMPRESSION], &wanted);
        good = rules_wire_read(reader, extensions[SETS_RATE], extensions[SETS_ENDPOINT],
                               sets->settings == NULL ? NULL : &sets->settings->egress.firehose_rates, &wanted) &&
               good;
        if (!rules_yaml_members(reader, node, "KinesisFirehoseDestination", names, COUNT(names), values))
                return false;
        struct rules_arn role, stream;
        /* Required by SES, which assumes it. Here the daemon's own credentials put the records. */
        if (values[0] != NULL && !rules_yaml_arn(reader, values[0], "IamRoleArn", "iam", "role/",
                                                 "arn:aws:iam::123456789012:role/NAME", &role))
                good = false;
        static const char example[] = "arn:aws:firehose:us-east-1:123456789012:deliverystream/NAME";
        if (values[1] == NULL) {
                rules_error(reader, node, "KinesisFirehoseDestination needs DeliveryStreamArn, like %s", example);
                return false;
        }
        if (!rules_yaml_arn(reader, values[1], "DeliveryStreamArn", "firehose", "deliverystream/", example, &stream))
                return false;
        if (stream.resource.len > 64 || !rules_is_made_of(stream.resource, "_.-")) {
                rules_error(reader, values[1], "stream name %s must be 1 to 64 letters, digits, '_', '.' and '-'",
                            rules_quote(reader, stream.resource));
                return false;
        }
        if (!good)
                return false;
        uint8_t key[RULES_TARGET_KEY_BYTES_MAX];
        wanted.key = slice_of(key, 0);
        sets_key_append(&wanted.key, key, SLICE("firehose "));
        sets_key_append(&wanted.key, key, stream.text);
        sets_key_append(&wanted.key, key, wanted.packed ? SLICE(" packing=events") : SLICE(" packing=none"));
        if (wanted.gzip)
                sets_key_append(&wanted.key, key, SLICE(" compression=gzip"));
        struct slice published = sets_published(sets, &wanted);
        if (published.len > 0) {
                sets_key_append(&wanted.key, key, SLICE(" "));
                sets_key_append(&wanted.key, key, published);
        }
        wanted.arn = stream.text;
        wanted.resource = stream.resource;
        wanted.region = stream.region;
        wanted.account_id = stream.account_id;
        wanted.partition = stream.partition;
        struct rules_target *target;
        uint32_t first_line;
        if (!sets_target(sets, values[1], &wanted, &target, &first_line))
                return false;
        uint32_t other_line = rules_plan_builder_clash_line(sets->builder, target);
        if (other_line != 0) {
                rules_error(reader, extensions[SETS_COMPRESSION] != NULL ? extensions[SETS_COMPRESSION] : values[1],
                            "this stream gets %s records on line %u; who reads its objects cannot tell them apart: say "
                            "the same Sendring.Compression in both places, or give each its own stream",
                            target->gzip ? "uncompressed" : "compressed", other_line);
                return false;
        }
        if (target->packed_events_max != wanted.packed_events_max) {
                rules_error(reader, events_max != NULL ? events_max : values[1],
                            "PackingEventsMax %u differs from the %u for the same stream on line %u; all destinations "
                            "of a stream share its records",
                            wanted.packed_events_max, target->packed_events_max, first_line);
                return false;
        }
        if (!sets_join(sets, extensions, values[1], &wanted, first_line, target))
                return false;
        *ret_target_index = target->index;
        return true;
}

/* The file system could never open a longer name, or rename to it: known here, before events wait for that. */
static bool sets_file_name(struct rules_reader *reader, const struct rules_yaml_node *node, struct slice path,
                           bool rotates)
{
        struct slice rest = path, part = SLICE_EMPTY;
        bool long_part = false;
        while (rest.ptr != NULL) {
                part = slice_cut(&rest, '/');
                long_part |= part.len > SETS_NAME_BYTES_MAX;
        }
        if (long_part)
                rules_error(reader, node, "Path has a part of more than %u bytes, which no file system takes",
                            SETS_NAME_BYTES_MAX);
        else if (rotates && part.len > SETS_NAME_BYTES_MAX - SETS_ROTATED_BYTES)
                rules_error(reader, node,
                            "Path: the name of a file that is rotated has at most %u bytes, since a time and a number "
                            "come behind it, and this one has %zu",
                            SETS_NAME_BYTES_MAX - SETS_ROTATED_BYTES, part.len);
        else
                return true;
        return false;
}

/* The options stand before the path, which may hold any text. Two targets never write one file. */
bool sets_file(struct sets_reader *sets, const struct rules_yaml_node *node, uint32_t *ret_target_index)
{
        struct rules_reader *reader = &sets->reader;
        static const char *const names[] = {"Path", "RotateBytes", "RotateSeconds"};
        const struct rules_yaml_node *values[COUNT(names)];
        if (!rules_yaml_members(reader, node, "FileDestination", names, COUNT(names), values))
                return false;
        bool good = true;
        struct slice path = SLICE_EMPTY;
        uint64_t rotate_bytes = 0, rotate_seconds = 0;
        if (values[0] == NULL) {
                rules_error(reader, node, "FileDestination needs Path, like /var/log/sendring/events.ndjson");
                good = false;
        } else if (!rules_yaml_text(reader, values[0], "Path", 1,
                                    SETS_PATH_BYTES_MAX - sets->published.key_bytes - (sets->published.key_bytes > 0),
                                    &path)) {
                good = false;
        } else if (!rules_is_plain_path(path)) {
                rules_error(reader, values[0],
                            "Path %s must be absolute, without '//', '.', '..' or a slash at its end, so that one file "
                            "has one spelling",
                            rules_quote(reader, path));
                good = false;
        }
        /* 0 turns a limit off; tiny files would make more rotations than events. */
        if (values[1] != NULL && !rules_yaml_quantity(reader, values[1], "RotateBytes", &rules_units_bytes, 0,
                                                      UINT64_C(1) << 40, &rotate_bytes))
                good = false;
        else if (rotate_bytes != 0 && rotate_bytes < 4096) {
                rules_error(reader, values[1], "RotateBytes must be 4KiB to 1024GiB, or 0 for never");
                good = false;
        }
        if (values[2] != NULL && !rules_yaml_quantity(reader, values[2], "RotateSeconds", &rules_units_s, 0,
                                                      UINT64_C(366) * 86400, &rotate_seconds))
                good = false;
        if (!good || !sets_file_name(reader, values[0], path, rotate_bytes != 0 || rotate_seconds != 0))
                return false;
        uint8_t key[RULES_TARGET_KEY_BYTES_MAX];
        struct rules_target wanted = {
                .service = RULES_SERVICE_FILE,
                .key = slice_of(key, 0),
                .resource = path,
                .packed_events_max = 1,
                .rotate_bytes = rotate_bytes,
                .rotate_seconds = (uint32_t)rotate_seconds,
        };
        struct slice published = sets_published(sets, &wanted);
        sets_key_append(&wanted.key, key, SLICE("file "));
        sets_key_append(&wanted.key, key, published);
        if (published.len > 0)
                sets_key_append(&wanted.key, key, SLICE(" "));
        sets_key_append(&wanted.key, key, path);
        struct rules_target *target;
        uint32_t first_line;
        if (!sets_target(sets, values[0], &wanted, &target, &first_line))
                return false;
        uint32_t other_line = rules_plan_builder_clash_line(sets->builder, target);
        if (other_line != 0) {
                rules_error(reader, node, "this file gets other records on line %u; give each its own Path",
                            other_line);
                return false;
        }
        if (target->rotate_bytes != wanted.rotate_bytes || target->rotate_seconds != wanted.rotate_seconds) {
                rules_error(reader, node, "this file is rotated differently on line %u; say the same in both places",
                            first_line);
                return false;
        }
        *ret_target_index = target->index;
        return true;
}

/* CloudWatchDestination names no region and no account: they are the daemon's. */
bool sets_cloudwatch(struct sets_reader *sets, const struct sets_destination *destination,
                     const struct rules_yaml_node *node, const struct rules_yaml_node *const *extensions,
                     uint32_t *ret_target_index)
{
        struct rules_reader *reader = &sets->reader;
        const struct rules_settings *settings = sets->settings;
        struct rules_cloudwatch cloudwatch;
        if (!rules_cloudwatch_read(reader, node, extensions + SETS_CLOUDWATCH_FIRST, &cloudwatch))
                return false;
        if (settings != NULL && settings->region[0] == '\0') {
                if (!destination->enabled)
                        return true; /* it never published anything: there is nothing to deliver */
                rules_error(reader, node,
                            "CloudWatchDestination needs a region, and the settings have none; say `region` in "
                            "sendring.yaml");
                return false;
        }
        char key[RULES_TARGET_KEY_BYTES_MAX + 1];
        struct rules_target wanted = {
                .service = RULES_SERVICE_CLOUDWATCH,
                .resource = cloudwatch.namespace,
                .region = settings == NULL ? SLICE_EMPTY : slice_of_text(settings->region),
                .account_id = settings == NULL ? SLICE_EMPTY : slice_of_text(settings->account_id),
                .partition = settings == NULL ? SLICE("aws") : slice_of_text(settings->partition),
                .packed_events_max = 1,
                .cloudwatch = &cloudwatch,
        };
        if (!rules_wire_read(reader, extensions[SETS_RATE], extensions[SETS_ENDPOINT],
                             settings == NULL ? NULL : &settings->egress.cloudwatch_rates, &wanted))
                return false;
        wanted.key = rules_cloudwatch_key(&wanted, key);
        struct rules_target *target;
        uint32_t first_line;
        if (!sets_target(sets, node, &wanted, &target, &first_line))
                return false;
        if (!rules_cloudwatch_equal(target->cloudwatch, &cloudwatch)) {
                rules_error(reader, node,
                            "this destination and the one on line %u differ, but their keys have the same hash; change "
                            "the order of the dimensions in one of them",
                            first_line);
                return false;
        }
        if (!sets_join(sets, extensions, node, &wanted, first_line, target))
                return false;
        *ret_target_index = target->index;
        return true;
}
