/* The command line of `sendring feed`. */
#include "base/clock.h"
#include "tools/cmd.h"
#include "tools/feed.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char feed_help[] =
        "usage: sendring feed --from jsonl|postfix [OPTIONS] [FILE...]\n"
        "\n"
        "Publishes what FILEs (default: standard input, \"-\") tell, line by line:\n"
        "  jsonl    one SES event record a line, as Firehose gets them from SES\n"
        "  postfix  Postfix's log (docs/postfix.md)\n"
        "\n"
        "Waits when the router has no room, and reports what it cannot read: nothing is dropped silently.\n"
        "\n"
        "  --follow               go on as FILE grows, over rotation\n"
        "  --from-end             with --follow and without a checkpoint: only what comes\n"
        "  --checkpoint FILE      keep the position there and go on from it after a restart (at least once)\n"
        "  --checkpoint-interval S  seconds between two (1)\n"
        "  --socket PATH          the router's socket ($SENDRING_SOCKET, /run/sendring/sendring.sock)\n"
        "  --samples N            lines not understood that are shown (3)\n"
        "  --progress             a line on standard error each second; SIGUSR1 asks for one\n"
        "  --json                 the summary as one JSON object on standard output\n"
        "\n"
        "Postfix:\n"
        "  --state FILE           what is known of messages on their way (CHECKPOINT.state)\n"
        "  --configuration-set NAME  of messages that name none\n"
        "  --profile ses|strict   an unknown mailbox is Permanent/General or Permanent/NoEmail (ses)\n"
        "  --hostname NAME        myhostname, for reportingMTA (the name in the log)\n"
        "  --syslog-name NAME     beginning of the programs' tags (postfix)\n"
        "  --delay-interval S     repeat a DeliveryDelay after S seconds (0: only when its type changes)\n"
        "  --queue-lifetime S     maximal_queue_lifetime, for expirationTime (432000; 0: leave it out)\n"
        "  --local-deliveries     local, virtual, pipe and discard are deliveries, too\n"
        "  --local-relay TEXT     outcomes whose relay= begins so are none (a content filter); repeat at will\n"
        "  --messages N           messages on their way that are remembered (200000)\n"
        "\n"
        "Exit status: 0 all published; 1 some lines were not understood or missed, or stopped before the end; 64 "
        "usage;\n"
        "69 no router, or another feed with this checkpoint; 74 a file cannot be read or written; 78 a checkpoint that "
        "is none.\n";

static int feed_usage(const char *option, const char *value, const char *wanted)
{
        if (value[0] == '\0')
                (void)fprintf(stderr, "sendring feed: --%s: %s\n", option, wanted);
        else
                (void)fprintf(stderr, "sendring feed: --%s '%s': %s\n", option, value, wanted);
        return CMD_EXIT_USAGE;
}

enum feed_option {
        OPTION_FROM = 256,
        OPTION_FOLLOW,
        OPTION_FROM_END,
        OPTION_CHECKPOINT,
        OPTION_CHECKPOINT_INTERVAL,
        OPTION_SOCKET,
        OPTION_SAMPLES,
        OPTION_PROGRESS,
        OPTION_JSON,
        OPTION_STATE,
        OPTION_SET,
        OPTION_PROFILE,
        OPTION_HOSTNAME,
        OPTION_SYSLOG_NAME,
        OPTION_DELAY_INTERVAL,
        OPTION_QUEUE_LIFETIME,
        OPTION_LOCAL_DELIVERIES,
        OPTION_LOCAL_RELAY,
        OPTION_MESSAGES,
        OPTION_HELP,
};

static const struct option feed_options[] = {
        {"from", required_argument, NULL, OPTION_FROM},
        {"follow", no_argument, NULL, OPTION_FOLLOW},
        {"from-end", no_argument, NULL, OPTION_FROM_END},
        {"checkpoint", required_argument, NULL, OPTION_CHECKPOINT},
        {"checkpoint-interval", required_argument, NULL, OPTION_CHECKPOINT_INTERVAL},
        {"socket", required_argument, NULL, OPTION_SOCKET},
        {"samples", required_argument, NULL, OPTION_SAMPLES},
        {"progress", no_argument, NULL, OPTION_PROGRESS},
        {"json", no_argument, NULL, OPTION_JSON},
        {"state", required_argument, NULL, OPTION_STATE},
        {"configuration-set", required_argument, NULL, OPTION_SET},
        {"profile", required_argument, NULL, OPTION_PROFILE},
        {"hostname", required_argument, NULL, OPTION_HOSTNAME},
        {"syslog-name", required_argument, NULL, OPTION_SYSLOG_NAME},
        {"delay-interval", required_argument, NULL, OPTION_DELAY_INTERVAL},
        {"queue-lifetime", required_argument, NULL, OPTION_QUEUE_LIFETIME},
        {"local-deliveries", no_argument, NULL, OPTION_LOCAL_DELIVERIES},
        {"local-relay", required_argument, NULL, OPTION_LOCAL_RELAY},
        {"messages", required_argument, NULL, OPTION_MESSAGES},
        {"help", no_argument, NULL, OPTION_HELP},
        {NULL, 0, NULL, 0},
};

static bool feed_number(const char *text, uint64_t max, uint64_t *ret_value)
{
        return slice_to_u64(slice_of_text(text), max, ret_value);
}

/* Status to end with, or -1 to go on. */
static int feed_option_number(struct feed *feed, int option, const char *name, const char *value)
{
        uint64_t number;
        struct postfix_options *postfix = &feed->postfix_options;
        if (!feed_number(value, 1000000000, &number))
                return feed_usage(name, value, "a whole number is wanted");
        if (option == OPTION_CHECKPOINT_INTERVAL)
                feed->checkpoint_interval_ns = number * CLOCK_NS_PER_S;
        else if (option == OPTION_SAMPLES)
                feed->samples_max = (uint32_t)number;
        else if (option == OPTION_DELAY_INTERVAL)
                postfix->delay_interval_ms = (int64_t)number * 1000;
        else if (option == OPTION_QUEUE_LIFETIME)
                postfix->queue_lifetime_ms = (int64_t)number * 1000;
        else if (number >= 1 && number <= 10000000)
                postfix->messages_max = (uint32_t)number;
        else
                return feed_usage(name, value, "1 to 10000000");
        return -1;
}

static int feed_option_postfix(struct feed *feed, int option, const char *value)
{
        struct postfix_options *postfix = &feed->postfix_options;
        switch (option) {
        case OPTION_SET:
                postfix->configuration_set = slice_of_text(value);
                if (postfix->configuration_set.len == 0 || postfix->configuration_set.len > 64 ||
                    strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(value))
                        return feed_usage("configuration-set", value, "1 to 64 of A-Z a-z 0-9 _ -");
                return -1;
        case OPTION_PROFILE:
                return classify_profile_parse(value, &postfix->profile) ? -1
                                                                        : feed_usage("profile", value, "ses or strict");
        case OPTION_HOSTNAME:
                postfix->reporting_mta = slice_of_text(value);
                return -1;
        case OPTION_SYSLOG_NAME:
                postfix->syslog_name = slice_of_text(value);
                return -1;
        case OPTION_LOCAL_DELIVERIES:
                postfix->local_deliveries = true;
                return -1;
        default:
                if (postfix->local_relays_count == POSTFIX_LOCAL_RELAYS_MAX)
                        return feed_usage("local-relay", value, "there are too many");
                postfix->local_relays[postfix->local_relays_count++] = slice_of_text(value);
                return -1;
        }
}

static int feed_option(struct feed *feed, int option)
{
        switch (option) {
        case OPTION_FROM:
                if (strcmp(optarg, "jsonl") == 0)
                        feed->from = FEED_JSONL;
                else if (strcmp(optarg, "postfix") == 0)
                        feed->from = FEED_POSTFIX;
                else
                        return feed_usage("from", optarg, "jsonl or postfix");
                return -1;
        case OPTION_FOLLOW:
                feed->follow = true;
                return -1;
        case OPTION_FROM_END:
                feed->from_end = true;
                return -1;
        case OPTION_CHECKPOINT:
                feed->checkpoint_path = optarg;
                return -1;
        case OPTION_SOCKET:
                feed->socket_path = optarg;
                return -1;
        case OPTION_STATE:
                feed->state_path = optarg;
                return -1;
        case OPTION_PROGRESS:
                feed->progress = true;
                return -1;
        case OPTION_JSON:
                feed->json = true;
                return -1;
        case OPTION_CHECKPOINT_INTERVAL:
                return feed_option_number(feed, option, "checkpoint-interval", optarg);
        case OPTION_SAMPLES:
                return feed_option_number(feed, option, "samples", optarg);
        case OPTION_DELAY_INTERVAL:
                return feed_option_number(feed, option, "delay-interval", optarg);
        case OPTION_QUEUE_LIFETIME:
                return feed_option_number(feed, option, "queue-lifetime", optarg);
        case OPTION_MESSAGES:
                return feed_option_number(feed, option, "messages", optarg);
        case OPTION_SET:
        case OPTION_PROFILE:
        case OPTION_HOSTNAME:
        case OPTION_SYSLOG_NAME:
        case OPTION_LOCAL_DELIVERIES:
        case OPTION_LOCAL_RELAY:
                return feed_option_postfix(feed, option, optarg);
        case OPTION_HELP:
        case 'h':
                (void)fputs(feed_help, stdout);
                return CMD_EXIT_OK;
        default:
                return CMD_EXIT_USAGE; /* the table has no other */
        }
}

static int feed_check(struct feed *feed, char **paths, int paths_count)
{
        bool is_stdin = paths_count == 1 && strcmp(paths[0], "-") == 0;
        if (feed->from == FEED_NONE)
                return feed_usage("from", "", "jsonl or postfix is needed; --help explains");
        if (feed->follow && (paths_count != 1 || is_stdin))
                return feed_usage("follow", "", "one file is needed");
        if (feed->checkpoint_path != NULL && (paths_count != 1 || is_stdin))
                return feed_usage("checkpoint", feed->checkpoint_path, "one file is needed");
        if (feed->state_path != NULL && feed->checkpoint_path == NULL)
                return feed_usage("state", feed->state_path, "only together with --checkpoint");
        if (feed->from == FEED_POSTFIX && feed->checkpoint_path != NULL && feed->state_path == NULL) {
                int used = snprintf(feed->state_path_made, sizeof(feed->state_path_made), "%s.state",
                                    feed->checkpoint_path);
                if (used < 0 || (size_t)used >= sizeof(feed->state_path_made))
                        return feed_usage("checkpoint", feed->checkpoint_path, "the path is too long");
                feed->state_path = feed->state_path_made;
        }
        /* They are written beside it, and would be read as its lines. */
        static const char refused[] = "it would be read as a part of FILE, by its name; give it another";
        if (feed->checkpoint_path != NULL && tail_would_read(paths[0], feed->checkpoint_path))
                return feed_usage("checkpoint", feed->checkpoint_path, refused);
        if (feed->state_path != NULL && tail_would_read(paths[0], feed->state_path))
                return feed_usage("state", feed->state_path, refused);
        return -1;
}

int cmd_feed(int argc, char **argv)
{
        static char standard_input[] = "-";
        static char *only_standard_input[] = {standard_input};
        struct feed *feed = feed_create();
        if (feed == NULL)
                return CMD_EXIT_IO;
        int status = -1;
        opterr = 0;
        while (status < 0) {
                int option = getopt_long(argc, argv, ":h", feed_options, NULL);
                if (option == -1)
                        break;
                status = option == '?' || option == ':' ? cmd_option_refused("feed", option, feed_options, argv)
                                                        : feed_option(feed, option);
        }
        char **paths = optind < argc ? argv + optind : only_standard_input;
        int paths_count = optind < argc ? argc - optind : 1;
        if (status < 0)
                status = feed_check(feed, paths, paths_count);
        if (status < 0)
                status = feed_run(feed, paths, paths_count);
        feed_free(feed);
        return status;
}
