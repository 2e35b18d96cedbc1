/* The keeper: holds every lane's descriptors over the router's death. Small on purpose: it maps nothing, talks to no
 * producer, and believes a router's messages only as far as it has checked them. */
#include "ring/ring_internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define RING_EXIT_CONFIG         78 /* sysexits.h EX_CONFIG: starting again would not help */
#define RING_BACK_OFF_STEP_MS    100
#define RING_BACK_OFF_NS_MAX     (5 * CLOCK_NS_PER_S)
#define RING_GOOD_LIFE_NS        CLOCK_NS_PER_S
#define RING_SAME_CAUSE_NS       (60 * CLOCK_NS_PER_S)
#define RING_KEEPER_MESSAGES_MAX 256 /* of one router before signals are looked at again */
#define RING_LAST_STARTS_MAX     3   /* of routers that shall only drain */
/* How long the kernel may take for a process that has ended, or was killed, of a service that ends. */
#define RING_END_NS (5 * CLOCK_NS_PER_S)

struct ring_kept {
        struct ring_message message; /* as it goes to the next router */
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
};

enum ring_hand_over {
        RING_HAND_OVER_LISTENER,
        RING_HAND_OVER_LANES,
        RING_HAND_OVER_END,
        RING_HAND_OVER_DONE,
};

struct ring_keeper {
        const struct ring_keeper_options *options;
        int listen_fd;
        int lock_fd;
        int signal_fd;
        sigset_t old_signals;

        pid_t router;  /* 0: none runs */
        int router_fd; /* -1: none, or it closed its end */
        uint64_t started_ns;
        uint64_t start_at_ns; /* when the next router may start */
        uint32_t failures;    /* in a row */
        struct log_gate ignored_gate;
        struct log_gate missed_gate;
        bool ready;      /* the router said so */
        bool ever_ready; /* one of them did */
        bool ending;     /* SIGTERM or SIGINT came */
        bool at_once;    /* a second one came */
        uint64_t end_ns; /* not 0: when the service ends though the kernel has not let its router go */
        uint32_t last_starts;

        enum ring_hand_over hand_over;
        size_t handed; /* lanes already sent. A sane router sends nothing before it has seen the end, so they stay put.
                        */
        size_t lanes_count;
        struct ring_kept lanes[LIMIT_LANES_MAX];
};

/* ---------------------------------------------------------------------------------------------- lanes */

static struct ring_kept *ring_keeper_find(struct ring_keeper *keeper, uint64_t lane_id)
{
        for (size_t i = 0; i < keeper->lanes_count; i++)
                if (keeper->lanes[i].message.lane_id == lane_id)
                        return &keeper->lanes[i];
        return NULL;
}

static void ring_keeper_drop(struct ring_keeper *keeper, struct ring_kept *kept)
{
        ring_connection_close(&kept->fds[2]);
        ring_fds_close(kept->fds, kept->fds_count);
        *kept = keeper->lanes[--keeper->lanes_count];
}

/* One message of the router. What is not exactly as it should be is thrown away. */
static void ring_keeper_take(struct ring_keeper *keeper, const struct ring_message *message,
                             int fds[RING_MESSAGE_FDS_MAX], size_t fds_count)
{
        struct ring_kept *kept = ring_keeper_find(keeper, message->lane_id);
        if (message->kind == RING_MESSAGE_KEEP && kept == NULL && fds_count >= 3 &&
            ring_lane_bytes_ok(message->lane_bytes) && keeper->lanes_count < LIMIT_LANES_MAX) {
                kept = &keeper->lanes[keeper->lanes_count++];
                kept->message = *message;
                kept->message.kind = RING_MESSAGE_KEPT;
                kept->message.name[sizeof(kept->message.name) - 1] = '\0';
                memcpy(kept->fds, fds, fds_count * sizeof(fds[0]));
                kept->fds_count = fds_count;
                return;
        }
        if (message->kind == RING_MESSAGE_KEEP_PAGE && kept != NULL && fds_count == 1) {
                (void)close(kept->fds[1]); /* the page of an earlier router */
                kept->fds[1] = fds[0];
                return;
        }
        if (message->kind == RING_MESSAGE_DROP && kept != NULL && fds_count == 0) {
                ring_keeper_drop(keeper, kept);
                return;
        }
        if (message->kind == RING_MESSAGE_READY && fds_count == 0) {
                keeper->ready = true;
                keeper->ever_ready = true;
                if (keeper->ending && keeper->router > 0)
                        (void)kill(keeper->router, SIGTERM); /* ours and not reaped: it cannot fail */
                return;
        }
        ring_fds_close(fds, fds_count);
        uint64_t repeats;
        if (log_gate_open(&keeper->ignored_gate, clock_monotonic_ns(), RING_SAME_CAUSE_NS, &repeats))
                log_warning("the keeper ignores a message of the router", "kind=%u repeats=%llu", message->kind,
                            (unsigned long long)repeats);
}

/* The descriptors of a message did not fit in here. */
static void ring_keeper_missed(struct ring_keeper *keeper, const struct ring_message *message)
{
        uint64_t repeats;
        if (log_gate_open(&keeper->missed_gate, clock_monotonic_ns(), RING_SAME_CAUSE_NS, &repeats))
                log_error("the keeper has no descriptors left",
                          "lane=%016llx lanes=%zu now=\"%s\" do=\"more of them, by LimitNOFILE= or ulimit -Hn\" "
                          "repeats=%llu",
                          (unsigned long long)message->lane_id, keeper->lanes_count,
                          message->kind == RING_MESSAGE_KEEP ? "that lane ends with this router"
                                                             : "the next router begins with an older page",
                          (unsigned long long)repeats);
}

/* Everything that the router has sent so far, up to a bound. False: nothing is left, or its end is closed. */
static bool ring_keeper_read(struct ring_keeper *keeper)
{
        struct ring_message message;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        for (int i = 0; i < RING_KEEPER_MESSAGES_MAX; i++) {
                enum err_code code = ring_message_receive(keeper->router_fd, &message, fds, &fds_count);
                if (code == ERR_OK) {
                        ring_keeper_take(keeper, &message, fds, fds_count);
                } else if (code == ERR_LIMIT) {
                        ring_keeper_missed(keeper, &message);
                } else if (code == ERR_EMPTY) {
                        return false;
                } else if (code != ERR_PROTOCOL && code != ERR_VERSION) { /* those two: already thrown away */
                        (void)close(keeper->router_fd);                   /* the other end is gone */
                        keeper->router_fd = -1;
                        keeper->hand_over = RING_HAND_OVER_DONE;
                        return false;
                }
        }
        return true;
}

/* Goes on with the hand-over as far as the socket takes it. */
static void ring_keeper_hand_over(struct ring_keeper *keeper)
{
        struct ring_message message;
        enum err_code code = ERR_OK;
        while (keeper->router_fd >= 0 && code == ERR_OK) {
                switch (keeper->hand_over) {
                case RING_HAND_OVER_LISTENER:
                        ring_message_init(&message, RING_MESSAGE_LISTENER);
                        code = ring_message_send(keeper->router_fd, &message, &keeper->listen_fd, 1);
                        if (code == ERR_OK) {
                                keeper->hand_over = RING_HAND_OVER_LANES;
                                keeper->handed = 0;
                        }
                        break;
                case RING_HAND_OVER_LANES:
                        if (keeper->handed >= keeper->lanes_count) {
                                keeper->hand_over = RING_HAND_OVER_END;
                                break;
                        }
                        code = ring_message_send(keeper->router_fd, &keeper->lanes[keeper->handed].message,
                                                 keeper->lanes[keeper->handed].fds,
                                                 keeper->lanes[keeper->handed].fds_count);
                        if (code == ERR_OK)
                                keeper->handed++;
                        break;
                case RING_HAND_OVER_END:
                        ring_message_init(&message, RING_MESSAGE_END);
                        message.count = (uint32_t)keeper->handed;
                        code = ring_message_send(keeper->router_fd, &message, NULL, 0);
                        if (code == ERR_OK)
                                keeper->hand_over = RING_HAND_OVER_DONE;
                        break;
                case RING_HAND_OVER_DONE:
                        return;
                }
        }
        if (code == ERR_DETACHED)
                keeper->hand_over = RING_HAND_OVER_DONE; /* it has died: its end is noticed by reading */
}

/* ---------------------------------------------------------------------------------------------- the router */

/* In the child: never returns. */
static _Noreturn void ring_keeper_exec(const struct ring_keeper *keeper, int router_end)
{
        char number[16];
        /* Told to reload before it listens to that, a router shall not die of it: it reads it when it does. */
        sigset_t signals = keeper->old_signals;
        (void)sigaddset(&signals, SIGHUP); /* a valid one */
        /* Its own process group: Ctrl-C at a terminal reaches the keeper alone, which passes it on once. */
        (void)setpgid(0, 0);
        (void)fcntl(router_end, F_SETFD, 0); /* the only descriptor that crosses the exec */
        (void)snprintf(number, sizeof(number), "%d", router_end);
        bool told = !keeper->ever_ready || setenv("SENDRING_KEEPER_RESTART", "1", 1) == 0;
        if (told && setenv("SENDRING_KEEPER_FD", number, 1) == 0 && sigprocmask(SIG_SETMASK, &signals, NULL) == 0)
                (void)execvp(keeper->options->argv[0], keeper->options->argv);
        log_error("cannot start the router", "program=%s errno=%d", keeper->options->argv[0], errno);
        _exit(127);
}

static void ring_keeper_failed(struct ring_keeper *keeper, uint64_t now_ns)
{
        uint32_t step_ms = keeper->options->back_off_step_ms;
        uint64_t back_off_ns = keeper->failures * (step_ms != 0 ? step_ms : RING_BACK_OFF_STEP_MS) * CLOCK_NS_PER_MS;
        if (back_off_ns > RING_BACK_OFF_NS_MAX)
                back_off_ns = RING_BACK_OFF_NS_MAX;
        keeper->start_at_ns = now_ns + back_off_ns;
        if (keeper->failures < 1000)
                keeper->failures++;
}

static void ring_keeper_start(struct ring_keeper *keeper)
{
        int ends[2];
        uint64_t now_ns = clock_monotonic_ns();
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
                log_error("cannot make a socket pair for the router", "errno=%d", errno);
                ring_keeper_failed(keeper, now_ns);
                return;
        }
        pid_t child = fork();
        if (child == 0)
                ring_keeper_exec(keeper, ends[1]);
        (void)close(ends[1]); /* the router's */
        if (child < 0) {
                (void)close(ends[0]); /* nobody is there */
                log_error("cannot fork the router", "errno=%d", errno);
                ring_keeper_failed(keeper, now_ns);
                return;
        }
        keeper->router = child;
        keeper->ready = false;
        keeper->router_fd = ends[0];
        keeper->started_ns = now_ns;
        keeper->hand_over = RING_HAND_OVER_LISTENER;
}

/* The service shall end and this router is gone: did it leave lanes to be drained by another one? */
static bool ring_keeper_drains_again(struct ring_keeper *keeper, bool by_signal, int status)
{
        if (keeper->lanes_count == 0)
                return false;
        if (keeper->ready && !by_signal && status != RING_EXIT_LANES_LEFT) {
                /* One that ends by itself has drained, and has said what it could not take or keep. */
                if (status != 0)
                        log_error("the router ended with a loss: its last lines say of what", "status=%d lanes=%zu",
                                  status, keeper->lanes_count);
                return false;
        }
        if (!keeper->at_once && (by_signal || status != RING_EXIT_CONFIG) &&
            keeper->last_starts++ < RING_LAST_STARTS_MAX)
                return true;
        log_error("the lanes were not drained", "lanes=%zu lost=\"what exited producers have left in them\"",
                  keeper->lanes_count);
        return false;
}

/* The router has been reaped. Returns true when the service ends, with its status. */
static bool ring_keeper_router_died(struct ring_keeper *keeper, int wait_status, int *ret_exit_status)
{
        uint64_t now_ns = clock_monotonic_ns();
        bool by_signal = WIFSIGNALED(wait_status);
        int status = by_signal ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
        keeper->router = 0;
        /* What it sent before it died counts: lanes whose producers were told so. */
        while (keeper->router_fd >= 0 && ring_keeper_read(keeper))
                ;
        if (keeper->router_fd >= 0) {
                (void)close(keeper->router_fd); /* everything was read */
                keeper->router_fd = -1;
        }
        bool ends = keeper->ending ? !ring_keeper_drains_again(keeper, by_signal, status)
                                   : !by_signal && (status == 0 || (status == RING_EXIT_CONFIG && !keeper->ever_ready));
        if (ends) {
                *ret_exit_status = status;
                return true;
        }
        if (now_ns - keeper->started_ns >= RING_GOOD_LIFE_NS)
                keeper->failures = 0;
        ring_keeper_failed(keeper, now_ns);
        if (!by_signal && status == RING_EXIT_CONFIG)
                log_error("the configuration has mistakes",
                          "lanes=%zu now=\"events wait in their lanes until they are mended\"", keeper->lanes_count);
        log_warning("the router died and is started again", "%s=%d lanes=%zu back_off_ms=%llu",
                    by_signal ? "signal" : "status", by_signal ? WTERMSIG(wait_status) : status, keeper->lanes_count,
                    (unsigned long long)((keeper->start_at_ns - now_ns) / CLOCK_NS_PER_MS));
        return false;
}

/* Returns true when the service ends. */
static bool ring_keeper_signal(struct ring_keeper *keeper, int *ret_exit_status)
{
        struct signalfd_siginfo info;
        while (read(keeper->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
                int wait_status;
                if (info.ssi_signo == SIGCHLD) {
                        if (keeper->router > 0 && waitpid(keeper->router, &wait_status, WNOHANG) == keeper->router &&
                            ring_keeper_router_died(keeper, wait_status, ret_exit_status))
                                return true;
                        continue;
                }
                if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
                        keeper->at_once = keeper->ending;
                        keeper->ending = true;
                        keeper->start_at_ns = 0;
                        /* Before it is ready it would just die, and the lanes with us. */
                        if (!keeper->ready && keeper->lanes_count > 0 && !keeper->at_once)
                                continue;
                }
                if (keeper->router > 0) /* ours and not reaped: it cannot fail */
                        (void)kill(keeper->router, keeper->at_once ? SIGKILL : (int)info.ssi_signo);
        }
        if (!keeper->ending || keeper->router != 0 || (keeper->lanes_count > 0 && !keeper->at_once))
                return false;
        *ret_exit_status = keeper->lanes_count > 0 ? 1 : 0;
        return true;
}

/* Returns true when the service ends without seeing the end of its router: that has closed all that the next service
 * needs, or was killed, but a thread of it is in a call to a file system that hangs. */
static bool ring_keeper_waits_no_longer(struct ring_keeper *keeper, int *ret_exit_status)
{
        uint64_t now_ns = clock_monotonic_ns();
        if (!keeper->ending || keeper->router == 0 || (keeper->router_fd >= 0 && !keeper->at_once)) {
                keeper->end_ns = 0;
                return false;
        }
        if (keeper->end_ns == 0)
                keeper->end_ns = now_ns + RING_END_NS;
        if (now_ns < keeper->end_ns)
                return false;
        log_error("the kernel does not let the router go",
                  "pid=%d help=\"a file system that it uses hangs; it is gone when that answers\"",
                  (int)keeper->router);
        *ret_exit_status = 1;
        return true;
}

/* How long to sleep: until a router may start, or for a hand-over that the kernel holds up for want of in-flight
 * descriptors (then the socket counts as writable all the time). */
static int ring_keeper_timeout_ms(const struct ring_keeper *keeper)
{
        if (keeper->router != 0 && keeper->end_ns == 0)
                return keeper->hand_over == RING_HAND_OVER_DONE ? -1 : 20;
        uint64_t now_ns = clock_monotonic_ns();
        if (keeper->router != 0)
                return now_ns >= keeper->end_ns ? 0 : (int)((keeper->end_ns - now_ns) / CLOCK_NS_PER_MS) + 1;
        return now_ns >= keeper->start_at_ns ? 0 : (int)((keeper->start_at_ns - now_ns) / CLOCK_NS_PER_MS) + 1;
}

static int ring_keeper_loop(struct ring_keeper *keeper)
{
        int exit_status = 0;
        for (;;) {
                if (keeper->router == 0 && clock_monotonic_ns() >= keeper->start_at_ns)
                        ring_keeper_start(keeper);
                struct pollfd poll_fds[2] = {{.fd = keeper->signal_fd, .events = POLLIN},
                                             {.fd = keeper->router_fd, .events = POLLIN}};
                if (keeper->router_fd >= 0)
                        ring_keeper_hand_over(keeper);
                (void)poll(poll_fds, 2, ring_keeper_timeout_ms(keeper)); /* whatever it says, we look everywhere */
                if (keeper->router_fd >= 0)
                        (void)ring_keeper_read(keeper); /* more waits: poll() returns at once */
                if (ring_keeper_signal(keeper, &exit_status) || ring_keeper_waits_no_longer(keeper, &exit_status))
                        return exit_status;
        }
}

int ring_keeper_run(const struct ring_keeper_options *options)
{
        struct err err;
        sigset_t signals;
        int exit_status = 1;
        struct rlimit limit;
        struct ring_keeper *keeper = calloc(1, sizeof(*keeper));
        if (keeper == NULL) {
                log_error("no memory for the keeper", "%s", "");
                return 1;
        }
        keeper->options = options;
        keeper->router_fd = -1;
        keeper->signal_fd = -1;
        keeper->listen_fd = -1;
        keeper->lock_fd = -1;
        /* Each lane is four descriptors here, and the router inherits the limit, by which it bounds the lanes. */
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
                limit.rlim_cur = limit.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &limit); /* fewer lanes, then: the router says so */
        }
        if (ring_listen_open(options->socket_path, options->socket_mode, &keeper->listen_fd, &keeper->lock_fd, &err) !=
            ERR_OK) {
                log_error("the keeper cannot listen", "error=\"%s\"", err.text);
                free(keeper);
                return err_class(err.code) == ERR_CLASS_CONFIG ? RING_EXIT_CONFIG : 1;
        }
        (void)sigemptyset(&signals); /* these cannot fail with valid signal numbers */
        (void)sigaddset(&signals, SIGTERM);
        (void)sigaddset(&signals, SIGINT);
        (void)sigaddset(&signals, SIGHUP);
        (void)sigaddset(&signals, SIGCHLD);
        /* Who has started us may ignore it, and that is inherited: the kernel would say nothing of a router's death,
         * and give its number to others. */
        (void)signal(SIGCHLD, SIG_DFL);
        (void)sigprocmask(SIG_BLOCK, &signals, &keeper->old_signals);
        keeper->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        if (keeper->signal_fd < 0)
                log_error("the keeper cannot receive signals", "errno=%d", errno);
        else
                exit_status = ring_keeper_loop(keeper);
        while (keeper->lanes_count > 0)
                ring_keeper_drop(keeper, &keeper->lanes[keeper->lanes_count - 1]);
        (void)unlink(options->socket_path); /* while the lock is held; a stale one does no harm */
        int fds[4] = {keeper->listen_fd, keeper->lock_fd, keeper->signal_fd, keeper->router_fd};
        ring_fds_close(fds, 4);
        free(keeper);
        return exit_status;
}
