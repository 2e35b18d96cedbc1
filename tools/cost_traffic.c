#include "tools/cost_traffic.h"

#include "feeds/jsonl.h"
#include "tools/cmd.h"
#include "tools/cost.h"
#include "tools/explain.h"
#include "tools/loadgen_events.h"

#include <stdio.h>
#include <stdlib.h>

#define COST_TYPES_END RULES_EVENT_TYPES_END
/* Of a router that has been running for a while: what the numbers of an event id look like. */
#define COST_LANE_ID       UINT64_C(0xa1b2c3d4e5f60718)
#define COST_LANE_POSITION (UINT64_C(1) << 40)
#define COST_SEQUENCE      UINT64_C(1000000000)

/* ---------------------------------------------------------------------------------------------- samples */

void cost_samples_release(struct cost_samples *samples)
{
        arena_release(&samples->arena);
        free(samples->encoded);
        *samples = (struct cost_samples){.count = 0};
}

struct cost_set_names {
        const char *names[LOADGEN_SETS_MAX];
        uint32_t count;
};

static void cost_first_sets(void *context, struct slice set, struct slice destination, bool enabled, uint16_t mask,
                            uint32_t target)
{
        struct cost_set_names *sets = context;
        (void)destination;
        (void)enabled;
        (void)mask;
        (void)target;
        if (sets->count == 0 ||
            (sets->count < LOADGEN_SETS_MAX && !slice_equal(set, slice_of_text(sets->names[sets->count - 1]))))
                sets->names[sets->count++] = (const char *)set.ptr; /* a NUL is behind the plan's texts */
}

bool cost_samples_standard(struct cost_samples *samples, const struct rules_plan *plan)
{
        struct cost_set_names sets = {.names = {"default"}};
        rules_plan_each(plan, cost_first_sets, &sets);
        struct loadgen_events_options options = {
                .seed = 1,
                .size = LOADGEN_SIZE_STANDARD,
                .sets = sets.names,
                .sets_count = sets.count > 0 ? sets.count : 1,
        };
        (void)loadgen_mix_parse("standard", options.permille); /* it knows it */
        arena_init(&samples->arena, 0, 0);
        samples->count = 0;
        samples->encoded = calloc(COST_SAMPLES_STANDARD, sizeof(samples->encoded[0]));
        struct loadgen_events *events = loadgen_events_create(&options);
        uint8_t *room = malloc(LIMIT_EVENT_BYTES_MAX);
        bool ok = samples->encoded != NULL && events != NULL && room != NULL;
        for (uint32_t i = 0; i < COST_SAMPLES_STANDARD && ok; i++) {
                uint32_t set;
                size_t bytes;
                const struct sendring_event *event = loadgen_events_make(events, i, INT64_C(1767323045678), &set);
                ok = codec_event_encode(event, room, LIMIT_EVENT_BYTES_MAX, &bytes, NULL) == ERR_OK;
                if (ok)
                        samples->encoded[samples->count] = arena_copy(&samples->arena, slice_of(room, bytes));
                ok = ok && samples->encoded[samples->count++].ptr != NULL;
        }
        free(room);
        loadgen_events_free(events);
        return ok;
}

int cost_samples_read(struct cost_samples *samples, const char *path)
{
        size_t bytes = 0;
        arena_init(&samples->arena, 0, 0);
        samples->count = 0;
        char *text = explain_read("cost", path, &bytes);
        if (text == NULL)
                return CMD_EXIT_IO;
        struct slice rest = slice_of(text, bytes);
        uint32_t room = 0, line = 0;
        int status = CMD_EXIT_OK;
        while (rest.len > 0 && status == CMD_EXIT_OK) {
                struct jsonl_event event;
                struct err err = {.text = ""};
                struct slice one = slice_trim(slice_cut(&rest, '\n'));
                line++;
                if (one.len == 0)
                        continue;
                if (samples->count == room) {
                        room = room == 0 ? 1024 : 2 * room;
                        struct slice *more = room > COST_SAMPLES_MAX * 2
                                                     ? NULL
                                                     : realloc(samples->encoded, room * sizeof(samples->encoded[0]));
                        if (more == NULL) {
                                (void)fprintf(stderr, "sendring cost: %s has more events than fit: a sample will do\n",
                                              path);
                                status = CMD_EXIT_IO;
                                break;
                        }
                        samples->encoded = more;
                }
                if (jsonl_parse(one, &samples->arena, &event, &err) != ERR_OK) {
                        (void)fprintf(stderr, "sendring cost: %s, line %u: %s\n", path, line, err.text);
                        status = CMD_EXIT_IO;
                        break;
                }
                samples->encoded[samples->count++] = event.encoded;
        }
        free(text);
        if (status == CMD_EXIT_OK && samples->count == 0) {
                (void)fprintf(stderr, "sendring cost: %s has no event\n", path);
                status = CMD_EXIT_IO;
        }
        return status;
}

/* ---------------------------------------------------------------------------------------------- sizes */

/* Sums over events, by type. */
struct cost_sizes {
        double events[COST_TYPES_END], bytes[COST_TYPES_END], billed[COST_TYPES_END];
};

const char *cost_sizes_from_name(enum cost_sizes_from from)
{
        static const char *const names[] = {[COST_SIZES_STANDARD] = "standard_mix",
                                            [COST_SIZES_GIVEN] = "given",
                                            [COST_SIZES_FILE] = "file",
                                            [COST_SIZES_JOURNAL] = "journal",
                                            [COST_SIZES_OTHERS] = "other_events"};
        return names[from];
}

size_t cost_json_bytes(const struct codec_json_options *as, const struct codec_view *view,
                       const struct rules_target *target)
{
        struct codec_json_options options = *as;
        if (target != NULL) {
                options.redaction = target->redaction;
                options.event_id = target->event_id;
        }
        size_t room = codec_json_size_max(view, &options) + CODEC_JSON_EVENT_ID_BYTES;
        uint8_t *json = malloc(room);
        if (json == NULL)
                return 0;
        size_t bytes = codec_json_encode(view, &options, json, room);
        if (target != NULL && target->event_id)
                bytes = codec_json_add_event_id(json, bytes, room, COST_LANE_ID, COST_LANE_POSITION, COST_SEQUENCE);
        free(json);
        return bytes + 1;
}

static bool cost_view(const struct cost_question *question, uint32_t index, struct codec_view *ret_view)
{
        return codec_view_decode(question->samples->encoded[index], ret_view, NULL) == ERR_OK;
}

static void cost_size_add(const struct cost_question *question, struct cost_sizes *sizes, unsigned type, double bytes)
{
        if (question->event_bytes > 0)
                bytes = question->event_bytes;
        sizes->events[type]++;
        sizes->bytes[type] += bytes;
        sizes->billed[type] += cost_round_up(bytes, question->step_bytes);
}

/* Of all samples, as one target gets them. */
static bool cost_sizes_of(const struct cost_question *question, const struct rules_target *target,
                          struct cost_sizes *ret_sizes)
{
        *ret_sizes = (struct cost_sizes){.events = {0}};
        for (uint32_t i = 0; i < question->samples->count; i++) {
                struct codec_view view;
                if (!cost_view(question, i, &view))
                        return false;
                size_t bytes = cost_json_bytes(&question->options, &view, target);
                if (bytes == 0)
                        return false;
                cost_size_add(question, ret_sizes, view.type, (double)bytes);
        }
        return true;
}

static bool cost_is_plain(const struct rules_target *target)
{
        return target->redaction == NULL && !target->event_id;
}

/* ---------------------------------------------------------------------------------------------- shares by the sets */

struct cost_weights {
        const struct cost_question *question;
        const struct cost_sizes *sizes;    /* of the samples: how many of each type */
        double (*by_type)[COST_TYPES_END]; /* [target]: copies for each event that comes */
        double plain_share;                /* of a set that --share does not name */
        struct slice set;                  /* the one that is being looked at */
        double set_share;
        uint16_t set_mask; /* types that a destination of it wants */
        double unmatched;
};

/* The one that names it; NULL: none. */
static struct cost_share *cost_share_of(const struct cost_question *question, struct slice set,
                                        struct slice destination)
{
        for (size_t i = 0; i < question->shares_count; i++)
                if (slice_equal(question->shares[i].set, set) &&
                    slice_equal(question->shares[i].destination, destination))
                        return &question->shares[i];
        return NULL;
}

static double cost_type_share(const struct cost_weights *weights, unsigned type)
{
        return weights->sizes->events[type] / weights->question->samples->count;
}

static void cost_set_end(struct cost_weights *weights)
{
        for (unsigned type = 1; type < COST_TYPES_END; type++)
                if ((weights->set_mask & (1u << type)) != 0)
                        weights->unmatched -= weights->set_share * cost_type_share(weights, type);
        weights->set_mask = 0;
}

static void cost_weigh(void *context, struct slice set, struct slice destination, bool enabled, uint16_t mask,
                       uint32_t target)
{
        struct cost_weights *weights = context;
        if (!slice_equal(set, weights->set)) {
                cost_set_end(weights);
                struct cost_share *given = cost_share_of(weights->question, set, SLICE_EMPTY);
                if (given != NULL)
                        given->used = true;
                weights->set = set;
                weights->set_share = given != NULL ? given->share : weights->plain_share;
        }
        struct cost_share *filter = cost_share_of(weights->question, set, destination);
        if (filter != NULL)
                filter->used = true;
        if (!enabled || target == RULES_TARGET_NONE)
                return;
        /* What filters let through of different destinations may be the same events or others: all count as wanted. */
        weights->set_mask |= mask;
        for (unsigned type = 1; type < COST_TYPES_END; type++)
                if ((mask & (1u << type)) != 0)
                        weights->by_type[target][type] += weights->set_share * cost_type_share(weights, type) *
                                                          (filter != NULL ? filter->share : 1);
}

static int cost_shares_check(const struct cost_question *question)
{
        for (size_t i = 0; i < question->shares_count; i++) {
                const struct cost_share *share = &question->shares[i];
                if (share->used)
                        continue;
                if (share->destination.len == 0)
                        (void)fprintf(stderr,
                                      "sendring cost: --share %.*s: there is no such configuration set with event "
                                      "destinations; a destination is named SET/DESTINATION\n",
                                      SLICE_PRINTF(share->set));
                else
                        (void)fprintf(stderr,
                                      "sendring cost: --share %.*s/%.*s: no configuration set %.*s has an event "
                                      "destination %.*s\n",
                                      SLICE_PRINTF(share->set), SLICE_PRINTF(share->destination),
                                      SLICE_PRINTF(share->set), SLICE_PRINTF(share->destination));
                return CMD_EXIT_USAGE;
        }
        return CMD_EXIT_OK;
}

/* Sets that nobody gave a share have equal parts of the rest. */
static int cost_weigh_all(struct cost_weights *weights)
{
        const struct cost_question *question = weights->question;
        double given = 0;
        uint32_t sets = rules_plan_sets_count(question->plan);
        for (size_t i = 0; i < question->shares_count; i++) {
                if (question->shares[i].destination.len > 0)
                        continue;
                given += question->shares[i].share;
                sets -= sets > 0;
        }
        if (given > 1 + 1e-9) {
                (void)fprintf(stderr,
                              "sendring cost: --share: the configuration sets' shares add up to %g: at most 1\n",
                              given);
                return CMD_EXIT_USAGE;
        }
        weights->plain_share = sets > 0 && given < 1 ? (1 - given) / sets : 0;
        weights->unmatched = 1;
        rules_plan_each(question->plan, cost_weigh, weights);
        cost_set_end(weights);
        return cost_shares_check(question);
}

static bool cost_flows_of(const struct cost_weights *weights, struct cost_flow *flows)
{
        const struct cost_question *question = weights->question;
        for (uint32_t i = 0; i < rules_plan_targets_count(question->plan); i++) {
                const struct rules_target *target = rules_plan_target(question->plan, i);
                struct cost_sizes own;
                bool plain = cost_is_plain(target);
                if (!plain && !cost_sizes_of(question, target, &own))
                        return false;
                const struct cost_sizes *sizes = plain ? weights->sizes : &own;
                double bytes = 0, billed = 0, share = 0;
                for (unsigned type = 1; type < COST_TYPES_END; type++) {
                        double weight = weights->by_type[i][type];
                        if (weight <= 0)
                                continue;
                        share += weight;
                        bytes += weight * sizes->bytes[type] / sizes->events[type];
                        billed += weight * sizes->billed[type] / sizes->events[type];
                }
                flows[i].share = share;
                flows[i].event_bytes = share > 0 ? bytes / share : 0;
                flows[i].event_billed_bytes = share > 0 ? billed / share : 0;
        }
        return true;
}

/* ---------------------------------------------------------------------------------------------- shares by the events
 */

/* As a shard does it. Returns 0: out of memory; else 1, or 2 when nobody wants the event. */
static int cost_match(const struct cost_question *question, struct codec_view *view, struct cost_flow *flows)
{
        struct rules_match match;
        if (view->configuration_set.len == 0)
                view->configuration_set = rules_plan_default_set_of(question->plan, view);
        uint32_t count = rules_plan_match(question->plan, view, &question->options, &match);
        for (uint32_t i = 0; i < count; i++) {
                struct cost_flow *flow = &flows[match.targets[i]];
                size_t bytes =
                        cost_json_bytes(&question->options, view, rules_plan_target(question->plan, match.targets[i]));
                if (bytes == 0)
                        return 0;
                double own = question->event_bytes > 0 ? question->event_bytes : (double)bytes;
                flow->share++;
                flow->event_bytes += own;
                flow->event_billed_bytes += cost_round_up(own, question->step_bytes);
        }
        return count > 0 ? 1 : 2;
}

static bool cost_match_all(const struct cost_question *question, struct cost_flow *flows, double *ret_unmatched)
{
        double unmatched = 0;
        for (uint32_t i = 0; i < question->samples->count; i++) {
                struct codec_view view;
                int matched = cost_view(question, i, &view) ? cost_match(question, &view, flows) : 0;
                if (matched == 0)
                        return false;
                unmatched += matched == 2;
        }
        for (uint32_t i = 0; i < rules_plan_targets_count(question->plan); i++) {
                if (flows[i].share <= 0)
                        continue;
                flows[i].event_bytes /= flows[i].share;
                flows[i].event_billed_bytes /= flows[i].share;
                flows[i].share /= question->samples->count;
        }
        *ret_unmatched = unmatched / question->samples->count;
        return true;
}

/* ---------------------------------------------------------------------------------------------- both */

/* Of an event that somebody wants. */
static double cost_journal_mean(const struct cost_question *question, double factor)
{
        double bytes = 0;
        for (uint32_t i = 0; i < question->samples->count; i++)
                bytes += (double)cost_journal_bytes((uint64_t)((double)question->samples->encoded[i].len * factor));
        return bytes / question->samples->count;
}

int cost_traffic_of(const struct cost_question *question, struct cost_traffic *ret_traffic)
{
        const uint32_t targets = rules_plan_targets_count(question->plan);
        struct cost_traffic traffic = {.flows = calloc(targets + 1, sizeof(traffic.flows[0]))};
        struct cost_sizes sizes;
        struct cost_weights weights = {.question = question, .sizes = &sizes, .unmatched = 0};
        weights.by_type = calloc(targets + 1, sizeof(weights.by_type[0]));
        int status = CMD_EXIT_OK;
        bool ok = traffic.flows != NULL && weights.by_type != NULL && cost_sizes_of(question, NULL, &sizes);
        double json = 0, encoded = 0;
        for (unsigned type = 1; type < COST_TYPES_END && ok; type++)
                json += sizes.bytes[type] / question->samples->count;
        for (uint32_t i = 0; i < question->samples->count && ok; i++)
                encoded += (double)question->samples->encoded[i].len / question->samples->count;
        /* An event of another size is that much larger in the journal as well. */
        double factor = 1;
        if (question->event_bytes > 0 && ok) {
                struct cost_question as_they_are = *question;
                struct cost_sizes own;
                as_they_are.event_bytes = 0;
                ok = cost_sizes_of(&as_they_are, NULL, &own);
                double bytes = 0;
                for (unsigned type = 1; type < COST_TYPES_END && ok; type++)
                        bytes += own.bytes[type] / question->samples->count;
                factor = ok ? question->event_bytes / bytes : 1;
        }
        traffic.event_bytes = json;
        traffic.encoded_bytes = encoded * factor;
        if (ok && question->match) {
                ok = cost_match_all(question, traffic.flows, &traffic.unmatched);
        } else if (ok) {
                status = cost_weigh_all(&weights);
                ok = status != CMD_EXIT_OK || cost_flows_of(&weights, traffic.flows);
                traffic.unmatched = weights.unmatched > 1e-9 ? weights.unmatched : 0;
        }
        traffic.sizes_from = question->sizes_from;
        for (uint32_t i = 0; i < targets && ok; i++)
                traffic.flows[i].sizes_from = question->sizes_from;
        if (ok)
                traffic.journal_bytes = (1 - traffic.unmatched) * cost_journal_mean(question, factor) +
                                        traffic.unmatched * (double)cost_journal_bytes(0);
        free(weights.by_type);
        if (!ok) {
                (void)fprintf(stderr, "sendring cost: out of memory\n");
                status = CMD_EXIT_IO;
        }
        if (status == CMD_EXIT_OK)
                *ret_traffic = traffic;
        else
                free(traffic.flows);
        return status;
}
