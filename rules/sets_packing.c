/* What stands beside a KinesisFirehoseDestination under `Sendring`: how its records are made of events. */
#include "base/limits.h"
#include "rules/rules_internal.h"

bool rules_packing_read(struct rules_reader *reader, const struct rules_yaml_node *packing,
                        const struct rules_yaml_node *events_max, const struct rules_yaml_node *compression,
                        struct rules_target *target)
{
        static const char *const packings[] = {"events", "none"}, *const compressions[] = {"none", "gzip"};
        size_t packing_index = 0, compression_index = 0;
        bool good =
                packing == NULL || rules_yaml_choice(reader, packing, "Sendring.Packing", packings, 2, &packing_index);
        if (compression != NULL &&
            !rules_yaml_choice(reader, compression, "Sendring.Compression", compressions, 2, &compression_index))
                good = false;
        target->packed = packing_index == 0;
        target->gzip = compression_index == 1;
        const uint64_t most =
                target->gzip ? LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX : LIMIT_FIREHOSE_EVENTS_PER_RECORD_MAX;
        uint64_t count = most;
        if (events_max != NULL &&
            !rules_yaml_quantity(reader, events_max, "Sendring.PackingEventsMax", &rules_units_none, 1, most, &count))
                good = false;
        if (good && !target->packed && events_max != NULL) {
                rules_error(reader, events_max,
                            "Sendring.PackingEventsMax says nothing with Packing: none; leave it out");
                good = false;
        }
        if (good && !target->packed && target->gzip) {
                rules_error(reader, compression,
                            "Sendring.Compression: gzip needs packed records: with Packing: none every event would be "
                            "a gzip file of its own, hardly smaller than the event; leave out one of the two");
                good = false;
        }
        target->packed_events_max = target->packed ? (uint32_t)count : 1;
        return good;
}
