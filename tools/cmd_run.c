/* sendring run: the daemon. Without --no-keeper this process becomes the keeper, which holds every lane's memory,
 * starts the router as a child, and restarts it when it dies. */
#include "base/log.h"
#include "ring/ring.h"
#include "router/router.h"
#include "rules/rules.h"
#include "sendring/sendring.h"
#include "tools/cmd.h"

#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUN_SETTINGS_PATH "/etc/sendring/sendring.yaml"
#define RUN_TEXT_(x)      #x
#define RUN_TEXT(x)       RUN_TEXT_(x)
#define RUN_VERSION \
        RUN_TEXT(SENDRING_VERSION_MAJOR) "." RUN_TEXT(SENDRING_VERSION_MINOR) "." RUN_TEXT(SENDRING_VERSION_PATCH)

static void run_usage(void)
{
        (void)printf("usage: sendring run [--settings FILE] [--no-keeper]\n\n"
                     "Runs the daemon in the foreground: takes events from producers, routes them by their\n"
                     "configuration sets, delivers them. Logs key=value lines on stderr.\n\n"
                     "  -s, --settings FILE  daemon settings (default " RUN_SETTINGS_PATH ")\n"
                     "      --no-keeper      one process only: events still in lanes are lost when it is killed\n"
                     "  -h, --help           this text\n\n"
                     "Signals: SIGTERM and SIGINT drain within shutdown.drain_seconds and keep the rest in the\n"
                     "journal; SIGHUP reloads configuration-sets.yaml (mistakes keep the old one in force).\n"
                     "Exit status: 0 after a clean stop, 78 when the configuration has mistakes.\n");
}

/* Signals whose default is the death of the process and that are nothing to it: a limit on the size of files is a full
 * disk (EFBIG), and who sends the others means another daemon's logs. For the router as well, which inherits that. */
static void run_ignore_signals(void)
{
        static const int signals[] = {SIGXFSZ, SIGUSR1, SIGUSR2};
        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
                (void)signal(signals[i], SIG_IGN); /* valid ones */
}

static int run_keeper(const char *settings_path)
{
        static char self[PATH_MAX], settings_real[PATH_MAX];
        struct rules_settings settings;
        struct rules_report report;
        rules_report_init(&report);
        log_role_set("keeper");
        enum err_code code = rules_settings_load(settings_path, &settings, &report);
        rules_report_print(&report, stderr);
        rules_report_release(&report);
        if (code != ERR_OK)
                return CMD_EXIT_CONFIG;
        /* The path and not /proc/self/exe: after an upgrade the next router is the new binary. */
        ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
        if (len <= 0) {
                (void)fprintf(stderr, "sendring run: cannot find this program's own path: is /proc mounted?\n");
                rules_settings_release(&settings);
                return CMD_EXIT_UNAVAILABLE;
        }
        self[len] = '\0';
        char *absolute = realpath(settings_path, settings_real);
        char *argv[] = {self, (char *)(uintptr_t) "run", (char *)(uintptr_t) "--settings",
                        absolute != NULL ? absolute : (char *)(uintptr_t)settings_path, NULL};
        struct ring_keeper_options options = {
                .socket_path = settings.socket_path,
                .socket_mode = settings.socket_mode,
                .argv = argv,
        };
        router_notify_starting(&settings);
        (void)log_start(); /* else as any program; behind the findings, which are read at once or not at all */
        int status = ring_keeper_run(&options);
        rules_settings_release(&settings);
        return status;
}

int cmd_run(int argc, char **argv)
{
        static const struct option options[] = {
                {"settings", required_argument, NULL, 's'},
                {"no-keeper", no_argument, NULL, 'K'},
                {"help", no_argument, NULL, 'h'},
                {NULL, 0, NULL, 0},
        };
        const char *settings_path = RUN_SETTINGS_PATH;
        bool keeper = true;
        opterr = 0;
        for (int option = getopt_long(argc, argv, ":s:h", options, NULL); option != -1;
             option = getopt_long(argc, argv, ":s:h", options, NULL)) {
                switch (option) {
                case 's':
                        settings_path = optarg;
                        break;
                case 'K':
                        keeper = false;
                        break;
                case 'h':
                        run_usage();
                        return CMD_EXIT_OK;
                default:
                        return cmd_option_refused("run", option, options, argv);
                }
        }
        if (optind != argc) {
                (void)fprintf(stderr, "sendring run: unexpected argument '%s'; `sendring run --help` explains\n",
                              argv[optind]);
                return CMD_EXIT_USAGE;
        }
        run_ignore_signals();
        const char *keeper_fd_text = getenv("SENDRING_KEEPER_FD");
        uint64_t keeper_fd = 0;
        bool restarted = false;
        if (keeper_fd_text != NULL) {
                if (!slice_to_u64(slice_of_text(keeper_fd_text), INT_MAX, &keeper_fd)) {
                        (void)fprintf(stderr, "sendring run: SENDRING_KEEPER_FD is set by the keeper only; unset it\n");
                        return CMD_EXIT_USAGE;
                }
                restarted = getenv("SENDRING_KEEPER_RESTART") != NULL;
                (void)unsetenv("SENDRING_KEEPER_FD"); /* children are not routers */
                (void)unsetenv("SENDRING_KEEPER_RESTART");
        } else if (keeper) {
                int status = run_keeper(settings_path);
                log_stop(LOG_FLUSH_NS);
                return status;
        }
        struct router_options router = {
                .settings_path = settings_path,
                .keeper_fd = keeper_fd_text != NULL ? (int)keeper_fd : -1,
                .restarted = restarted,
                .version = RUN_VERSION,
        };
        (void)log_start(); /* else threads wait for who reads stderr, as in any program */
        int status = router_run(&router);
        log_stop(LOG_FLUSH_NS);
        return status;
}
