/* What `Sendring` may say about the records of a destination that gets them whole. */
#include "rules/rules_internal.h"

bool rules_published_read(struct rules_reader *reader, const struct rules_yaml_node *event_id,
                          struct rules_published *ret_published)
{
        *ret_published = (struct rules_published){.event_id = false};
        if (event_id != NULL && !rules_yaml_bool(reader, event_id, "Sendring.EventId", &ret_published->event_id))
                return false;
        int used = snprintf(ret_published->text, sizeof(ret_published->text), "%s",
                            ret_published->event_id ? "event-id" : "");
        ret_published->key = slice_of(ret_published->text, (size_t)used);
        return true;
}

void rules_published_use(const struct rules_published *published, struct rules_target *target)
{
        target->event_id = published->event_id;
}
