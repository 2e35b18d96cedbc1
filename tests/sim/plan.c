/* configuration-sets.yaml as it may be during a seed, and where each version sends what. */
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>

#define BIT(sink) (uint8_t)(1u << SINK_##sink)
/* Malformed events have no set, and nobody knows the one of SET_UNKNOWN. */
static const uint8_t plan_routes[SIM_PLANS_COUNT][SET_ALL + 1] = {
        {BIT(ALPHA), BIT(BETA) | BIT(CLOUDWATCH), BIT(FILE) | BIT(ALPHA),
         BIT(ALPHA) | BIT(BETA) | BIT(FILE) | BIT(CLOUDWATCH)},
        /* Without beta. */
        {BIT(ALPHA), BIT(CLOUDWATCH), BIT(FILE) | BIT(ALPHA), BIT(ALPHA) | BIT(FILE) | BIT(CLOUDWATCH)},
        /* With gamma. */
        {BIT(ALPHA) | BIT(GAMMA), BIT(BETA) | BIT(CLOUDWATCH), BIT(FILE) | BIT(ALPHA),
         BIT(ALPHA) | BIT(BETA) | BIT(FILE) | BIT(CLOUDWATCH) | BIT(GAMMA)},
        /* Without CloudWatch, and Opens do not go to the file. */
        {BIT(ALPHA), BIT(BETA), BIT(FILE) | BIT(ALPHA), BIT(ALPHA) | BIT(BETA) | BIT(FILE)},
};
#define PLAN_WITHOUT_OPENS 3u

uint8_t sim_plan_sinks(uint32_t plan, enum world_set set, bool open)
{
        if (set > SET_ALL)
                return 0;
        uint8_t sinks = plan_routes[plan][set];
        if (world.hardship == HARDSHIP_HUNG_FILE && !open)
                sinks &= (uint8_t)~BIT(FILE);
        return plan == PLAN_WITHOUT_OPENS && open ? sinks & (uint8_t)~BIT(FILE) : sinks;
}

/* What goes into a record. */
static void plan_put_packing(FILE *out, enum world_sink sink)
{
        if (sink != world.gzip) {
                (void)fputs(sink == SINK_BETA ? "Packing: none, " : "", out);
                return;
        }
        (void)fprintf(out, "Compression: %s, ", world.gzip_now ? "gzip" : "none");
        if (world.gzip_events_max > 0)
                (void)fprintf(out, "PackingEventsMax: %u, ", world.gzip_events_max);
}

static void plan_put_destination(FILE *out, uint32_t plan, enum world_sink sink)
{
        static const char *const names[] = {"alpha", "beta", "file", "gamma", "cw"};
        static const unsigned ports[] = {
                [SINK_ALPHA] = WORLD_PORT, [SINK_BETA] = WORLD_PORT + 1, [SINK_GAMMA] = WORLD_PORT + 3};
        (void)fprintf(out, "{EventDestinationName: %s, EventDestination: {Enabled: true, MatchingEventTypes: [%s], ",
                      names[sink],
                      sink != SINK_FILE                      ? "SEND, OPEN"
                      : world.hardship == HARDSHIP_HUNG_FILE ? "OPEN"
                      : plan == PLAN_WITHOUT_OPENS           ? "SEND"
                                                             : "SEND, OPEN");
        switch (sink) {
        case SINK_FILE:
                (void)fprintf(out, "Sendring: {%sFileDestination: {Path: " WORLD_FILE ", RotateBytes: 64KiB}}",
                              world.file_ids_now ? "EventId: true, " : "");
                break;
        case SINK_CLOUDWATCH:
                (void)fprintf(out,
                              "CloudWatchDestination: {DimensionConfigurations: [{DimensionName: "
                              "'ses:configuration-set', DimensionValueSource: MESSAGE_TAG, DefaultDimensionValue: "
                              "none}]}, Sendring: {Period: 1s, Protocol: json, Compression: none, AmbiguousTimeout: "
                              "%s}",
                              world.skips_ambiguous ? "skip" : "resend");
                break;
        case SINK_ALPHA:
        case SINK_BETA:
        case SINK_GAMMA:
                (void)fprintf(out,
                              "KinesisFirehoseDestination: {IamRoleArn: 'arn:aws:iam::123456789012:role/r', "
                              "DeliveryStreamArn: 'arn:aws:firehose:us-east-1:123456789012:deliverystream/%s'}, "
                              "Sendring: {",
                              names[sink]);
                plan_put_packing(out, sink);
                (void)fprintf(out, "Endpoint: 'http://127.0.0.1:%u'}", ports[sink]);
                break;
        case SINKS_COUNT:
                break;
        }
        (void)fputs("}}", out);
}

const char *sim_plan_text(uint32_t plan)
{
        static char *text;
        size_t len = 0;
        free(text);
        FILE *out = open_memstream(&text, &len);
        SIM_CHECK(out != NULL);
        (void)fputs("ConfigurationSets:\n", out);
        for (unsigned set = 0; set <= SET_ALL; set++) {
                const char *between = "";
                (void)fprintf(out, "- ConfigurationSetName: set-%u\n  EventDestinations: [", set);
                for (unsigned sink = 0; sink < SINKS_COUNT; sink++) {
                        if ((plan_routes[plan][set] >> sink & 1) == 0)
                                continue;
                        (void)fputs(between, out);
                        plan_put_destination(out, plan, (enum world_sink)sink);
                        between = ", ";
                }
                (void)fputs("]\n", out);
        }
        (void)fclose(out);
        return text;
}
