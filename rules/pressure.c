/* journal.full and journal.priority of sendring.yaml: which events give way when the journal is full, and in which
 * order. */
#include "codecs/codec.h"
#include "rules/rules_internal.h"

_Static_assert(RULES_EVENT_TYPES_END == CODEC_EVENT_TYPES_COUNT + 1, "one rank and one policy for each event type");

/* Complaint, Bounce > Reject, RenderingFailure, Subscription > DeliveryDelay > Delivery, Send > Click > Open. */
static const uint8_t pressure_ranks[RULES_EVENT_TYPES_END] = {
        [SENDRING_COMPLAINT] = 0,    [SENDRING_BOUNCE] = 0,
        [SENDRING_REJECT] = 1,       [SENDRING_RENDERING_FAILURE] = 1,
        [SENDRING_SUBSCRIPTION] = 1, [SENDRING_DELIVERY_DELAY] = 2,
        [SENDRING_DELIVERY] = 3,     [SENDRING_SEND] = 3,
        [SENDRING_CLICK] = 4,        [SENDRING_OPEN] = 5,
};

const char *rules_event_class_name(unsigned type)
{
        return codec_event_type_metric((enum sendring_event_type)type);
}

/* The type that a node names, in any spelling that SES has for it. 0 and a finding: none. */
static unsigned pressure_type(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what)
{
        struct slice text;
        const char *names[CODEC_EVENT_TYPES_COUNT];
        char joined[256];
        if (!rules_yaml_text(reader, node, what, 1, 64, &text))
                return 0;
        for (unsigned type = 1; type < RULES_EVENT_TYPES_END; type++) {
                names[type - 1] = rules_event_class_name(type);
                if (slice_equal(text, slice_of_text(names[type - 1])))
                        return type;
        }
        unsigned type = (unsigned)codec_event_type_parse(text);
        if (type != 0)
                return type;
        const char *nearest = rules_nearest(text, names, CODEC_EVENT_TYPES_COUNT);
        rules_join(joined, sizeof(joined), names, CODEC_EVENT_TYPES_COUNT);
        if (nearest != NULL)
                rules_error(reader, node, "%s: there is no event type %s; did you mean '%s'?", what,
                            rules_quote(reader, text), nearest);
        else
                rules_error(reader, node, "%s: there is no event type %s; it should be %s", what,
                            rules_quote(reader, text), joined);
        return 0;
}

static void pressure_rank(struct rules_reader *reader, const struct rules_yaml_node *node, uint8_t rank,
                          struct rules_pressure *pressure, uint32_t *seen)
{
        unsigned type = pressure_type(reader, node, "journal.priority");
        if (type == 0)
                return;
        if ((*seen & 1u << type) != 0)
                rules_error(reader, node, "journal.priority: %s is there already", rules_event_class_name(type));
        *seen |= 1u << type;
        pressure->rank[type] = rank;
}

/* A list, the most important first; an item is a type or a list of types of one rank. */
static void pressure_read_priority(struct rules_reader *reader, const struct rules_yaml_node *node,
                                   struct rules_pressure *pressure)
{
        static const char what[] = "journal.priority";
        uint32_t seen = 0;
        uint8_t rank = 0;
        if (!rules_yaml_list(reader, node, what))
                return;
        if (node->count > CODEC_EVENT_TYPES_COUNT) {
                rules_error(reader, node, "%s has %u ranks, and there are %u event types", what, node->count,
                            CODEC_EVENT_TYPES_COUNT);
                return;
        }
        const uint32_t errors = reader->report->errors;
        for (const struct rules_yaml_node *item = node->first; item != NULL; item = item->next, rank++) {
                if (item->kind != RULES_YAML_LIST) {
                        pressure_rank(reader, item, rank, pressure, &seen);
                        continue;
                }
                for (const struct rules_yaml_node *one = item->first; one != NULL; one = one->next)
                        pressure_rank(reader, one, rank, pressure, &seen);
        }
        if (reader->report->errors != errors)
                return;
        const char *missing[CODEC_EVENT_TYPES_COUNT];
        size_t missing_count = 0;
        char joined[256];
        for (unsigned type = 1; type < RULES_EVENT_TYPES_END; type++)
                if ((seen & 1u << type) == 0)
                        missing[missing_count++] = rules_event_class_name(type);
        rules_join(joined, sizeof(joined), missing, missing_count);
        if (missing_count > 0)
                rules_error(reader, node, "%s must say where each event type stands: %s missing", what, joined);
}

static void pressure_read_full(struct rules_reader *reader, const struct rules_yaml_node *node,
                               struct rules_pressure *pressure)
{
        static const char *const policies[] = {"block", "shed"};
        static const char what[] = "journal.full";
        uint32_t seen = 0;
        if (node->kind != RULES_YAML_MAP) {
                rules_error(reader, node, "%s must be a map like {Open: shed, Click: shed}, not %s", what,
                            rules_describe(reader, node));
                return;
        }
        for (const struct rules_yaml_node *key = node->first; key != NULL; key = key->next->next) {
                unsigned type = pressure_type(reader, key, what);
                size_t policy = 0;
                char of[64];
                if (type == 0)
                        continue;
                (void)snprintf(of, sizeof(of), "%s.%s", what, rules_event_class_name(type)); /* short */
                if (!rules_yaml_choice(reader, key->next, of, policies, 2, &policy))
                        continue;
                if ((seen & 1u << type) != 0)
                        rules_error(reader, key, "%s: %s is there already, in another spelling", what,
                                    rules_event_class_name(type));
                seen |= 1u << type;
                pressure->shed[type] = policy == 1;
        }
}

void rules_pressure_read(struct rules_reader *reader, const struct rules_yaml_node *full,
                         const struct rules_yaml_node *priority, struct rules_pressure *ret_pressure)
{
        struct rules_pressure pressure = {.shed_count = 0};
        memcpy(pressure.rank, pressure_ranks, sizeof(pressure.rank));
        if (priority != NULL)
                pressure_read_priority(reader, priority, &pressure);
        if (full != NULL)
                pressure_read_full(reader, full, &pressure);
        /* Room that a shed class gives must never serve a class below it, and blocked classes share one log: so no
         * blocked class stands below a shed one. */
        unsigned low = 0; /* the lowest blocked one */
        for (unsigned type = 1; type < RULES_EVENT_TYPES_END; type++) {
                pressure.shed_count += pressure.shed[type];
                if (!pressure.shed[type] && (low == 0 || pressure.rank[type] > pressure.rank[low]))
                        low = type;
        }
        for (unsigned type = 1; type < RULES_EVENT_TYPES_END; type++)
                if (pressure.shed[type] && low != 0 && pressure.rank[type] < pressure.rank[low])
                        rules_error(reader, full,
                                    "journal.full: %s would be shed to make room for %s, which has a lower priority "
                                    "and blocks; let %s be shed too, or change journal.priority",
                                    rules_event_class_name(type), rules_event_class_name(low),
                                    rules_event_class_name(low));
        *ret_pressure = pressure;
}
