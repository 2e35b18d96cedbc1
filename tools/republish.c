#include "tools/republish.h"

#include "base/clock.h"
#include "router/router.h"
#include "tools/cmd.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Naps are cut so that a signal ends them soon. */
#define REPUBLISH_NAP_NS   (50 * CLOCK_NS_PER_MS)
#define REPUBLISH_FLUSH_MS 250u

volatile sig_atomic_t republish_stop;

static void republish_on_signal(int signal_number)
{
        (void)signal_number;
        republish_stop = 1;
}

void republish_catch_signals(void)
{
        struct sigaction action = {.sa_handler = republish_on_signal}; /* no SA_RESTART: waits end */
        (void)sigemptyset(&action.sa_mask);                            /* cannot fail */
        (void)sigaction(SIGTERM, &action, NULL);                       /* cannot fail: valid signals */
        (void)sigaction(SIGINT, &action, NULL);
        (void)signal(SIGPIPE, SIG_IGN); /* told by ferror() */
}

int republish_load(struct republish *republish, const char *command, const char *settings_path)
{
        struct rules_report report;
        char path[PATH_MAX];
        republish->command = command;
        rules_report_init(&report);
        enum err_code code = rules_settings_load(settings_path, &republish->settings, &report);
        if (code == ERR_OK) {
                bool kept = router_kept_newest_path(&republish->settings, path, sizeof(path));
                code = rules_plan_load(kept ? path : republish->settings.configuration_sets_path, &republish->settings,
                                       &republish->plan, &report);
        }
        if (code != ERR_OK)
                rules_report_print(&report, stderr);
        rules_report_release(&report);
        if (code != ERR_OK)
                return CMD_EXIT_CONFIG;
        republish->json = (struct codec_json_options){
                .account_id = slice_of_text(republish->settings.account_id),
                .region = slice_of_text(republish->settings.region),
                .partition = slice_of_text(republish->settings.partition),
                .configuration_set = slice_of_text(republish->settings.default_configuration_set),
        };
        return CMD_EXIT_OK;
}

static void republish_waiting(void *context, const char *why, uint64_t waited_ms)
{
        const struct republish *republish = context;
        (void)fprintf(stderr, "sendring %s: waiting for %" PRIu64 " s: %s\n", republish->command, waited_ms / 1000,
                      why);
}

int republish_attach(struct republish *republish)
{
        struct err err = {.text = ""};
        struct publisher_options options = {
                .socket_path = republish->settings.socket_path,
                .name = republish->command,
                .stop = &republish_stop,
                .context = republish,
                .waiting = republish_waiting,
        };
        if (publisher_open(&republish->publisher, &options, &err) != ERR_OK) {
                (void)fprintf(stderr, "sendring %s: %s\n", republish->command, err.text);
                return CMD_EXIT_UNAVAILABLE;
        }
        republish->attached = true;
        return CMD_EXIT_OK;
}

void republish_release(struct republish *republish)
{
        if (republish->attached)
                publisher_close(&republish->publisher);
        rules_plan_free(republish->plan);
        rules_settings_release(&republish->settings);
}

uint32_t republish_matches(const struct republish *republish, const struct republish_event *event,
                           struct codec_view *view)
{
        struct rules_match match;
        /* As the shard does it. */
        if (view->configuration_set.len == 0)
                view->configuration_set = event->replay.set;
        if (view->configuration_set.len == 0)
                view->configuration_set = rules_plan_default_set_of(republish->plan, view);
        if (event->replay.destination.len > 0)
                return rules_plan_match_only(republish->plan, view, &republish->json, event->replay.destination,
                                             &match);
        return rules_plan_match(republish->plan, view, &republish->json, &match);
}

struct republish_search {
        const struct rules_plan *plan;
        struct slice wanted;
        bool found;
};

static void republish_look(void *context, struct slice set, struct slice destination, bool enabled,
                           uint16_t event_types_mask, uint32_t target_index)
{
        struct republish_search *search = context;
        (void)set;
        (void)enabled;
        (void)event_types_mask;
        search->found |= slice_equal(destination, search->wanted) ||
                         (target_index != RULES_TARGET_NONE &&
                          slice_equal(rules_plan_target(search->plan, target_index)->key, search->wanted));
}

bool republish_knows_destination(const struct republish *republish, struct slice destination)
{
        struct republish_search search = {.plan = republish->plan, .wanted = destination};
        rules_plan_each(republish->plan, republish_look, &search);
        return search.found;
}

enum err_code republish_publish(struct republish *republish, const struct republish_event *event, struct err *reterr)
{
        uint64_t now_ns = clock_monotonic_ns();
        while (republish->rate > 0 && now_ns < republish->next_ns && republish_stop == 0) {
                uint64_t left_ns = republish->next_ns - now_ns;
                clock_nap_ns(left_ns < REPUBLISH_NAP_NS ? left_ns : REPUBLISH_NAP_NS);
                now_ns = clock_monotonic_ns();
        }
        if (republish_stop != 0)
                return err_set(reterr, ERR_BUSY, "stopped");
        if (republish->rate > 0) {
                /* What was slept too long is made up for, but not what the router had us wait for. */
                uint64_t step_ns = CLOCK_NS_PER_S / republish->rate;
                if (republish->next_ns + CLOCK_NS_PER_S / 10 < now_ns)
                        republish->next_ns = now_ns;
                republish->next_ns += step_ns;
        }
        return publisher_replay(&republish->publisher, &event->replay, event->event, reterr);
}

enum err_code republish_flush(struct republish *republish, struct err *reterr)
{
        /* Journalled it will be: as long as the router is away or behind, it is waited for. */
        uint64_t begun_ns = clock_monotonic_ns(), told_ns = begun_ns;
        for (;;) {
                enum err_code code = publisher_flush(&republish->publisher, REPUBLISH_FLUSH_MS, reterr);
                if (code != ERR_TIMEOUT && code != ERR_DETACHED)
                        return code;
                if (republish_stop != 0)
                        return err_set(reterr, ERR_BUSY, "stopped");
                uint64_t now_ns = clock_monotonic_ns();
                if (now_ns - told_ns >= CLOCK_NS_PER_S) {
                        republish_waiting(republish, "the router has not taken everything yet",
                                          (now_ns - begun_ns) / CLOCK_NS_PER_MS);
                        told_ns = now_ns;
                }
                if (code == ERR_DETACHED)
                        clock_nap_ns(REPUBLISH_NAP_NS); /* else the call itself has waited */
        }
}
