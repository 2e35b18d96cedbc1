/* What `Sendring` may say about the records of a destination that gets them whole. */
#include "rules/rules_internal.h"

bool rules_published_read(struct rules_reader *reader, const struct rules_yaml_node *event_id,
                          const struct rules_yaml_node *redaction, struct rules_published *published)
{
        bool good = true;
        /* The copies of a node share its members. */
        bool same = redaction != NULL && redaction->kind == RULES_YAML_MAP && redaction->count > 0 &&
                    published->redaction_members == redaction->first;
        published->event_id = false;
        if (event_id != NULL && !rules_yaml_bool(reader, event_id, "Sendring.EventId", &published->event_id))
                good = false;
        if (!same) {
                codec_redaction_clear(&published->redaction);
                codec_redaction_init(&published->redaction);
                published->redaction_members = NULL;
                published->redacted = redaction != NULL;
                if (redaction != NULL) {
                        if (!rules_redaction_read(reader, redaction, &published->redaction))
                                return false;
                        codec_redaction_finish(&published->redaction);
                        published->redaction_members = redaction->first;
                }
        }
        /* 10 + 16 + 1 + 8 bytes at most. */
        int used =
                snprintf(published->key, sizeof(published->key), "%s%s%s%s", published->redacted ? "redaction=" : "",
                         published->redacted ? published->redaction.fingerprint : "",
                         published->redacted && published->event_id ? " " : "", published->event_id ? "event-id" : "");
        published->key_bytes = (size_t)used;
        return good;
}

void rules_published_clear(struct rules_published *published)
{
        codec_redaction_clear(&published->redaction);
        *published = (struct rules_published){.event_id = false};
}
