/* The JSON of events for a destination with a redaction policy: json_event.c once more, asking the policy. */
#define JSON_EVENT_REDACTED 1
#include "codecs/json_event.c" /* NOLINT(bugprone-suspicious-include): that is the point */
