/* The attach server: lanes of producers, their deaths, the line to the keeper; handshake.c lets them in. One thread,
 * never blocks after creation. Everything that comes from a producer is hostile. */
#include "ring/server_internal.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define RING_HANDSHAKE_NS      UINT64_C(2000000000)
#define RING_KEEPER_TIMEOUT_NS UINT64_C(10000000000)

/* Of each lane, in the keeper: data, page, connection, pidfd. As many in the router while a page is owed: page,
 * connection, pidfd, bell. And what all the rest needs: those who have not said hello yet, the journal, connections to
 * endpoints. */
#define RING_LANE_FDS      4u
#define RING_OTHER_FDS_MAX (2u * RING_HANDSHAKES_MAX + 64u)

/* What is watched of a producer's connection. While a page is owed, also each message that the producer takes out of
 * it: by edges, because there is room in it all the time. */
#define RING_CONNECTION_EVENTS      EPOLLRDHUP
#define RING_CONNECTION_EVENTS_OWED (EPOLLRDHUP | EPOLLOUT | EPOLLET)

/* ---------------------------------------------------------------------------------------------- small things */

enum err_code ring_server_watch(struct ring_server *server, int fd, uint32_t events, enum ring_source source,
                                uint32_t index, struct err *reterr)
{
        struct epoll_event event = {.events = events, .data.u64 = (uint64_t)source << 32 | index};
        if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "watch a file descriptor");
        return ERR_OK;
}

void ring_server_unwatch(struct ring_server *server, int fd)
{
        if (fd >= 0)
                (void)epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, fd, NULL); /* not watched: nothing to do */
}

/* ---------------------------------------------------------------------------------------------- the keeper */

static void ring_server_keeper_lost(struct ring_server *server)
{
        if (server->keeper_fd < 0)
                return;
        ring_server_unwatch(server, server->keeper_fd);
        (void)close(server->keeper_fd); /* its other end is gone */
        server->keeper_fd = -1;
        server->drops_owed_count = 0;
        log_error("the keeper has died: lanes end with this router", "%s", "");
}

void ring_message_of_lane(const struct ring_lane *lane, enum ring_message_kind kind, struct ring_message *ret_message)
{
        ring_message_init(ret_message, kind);
        ret_message->lane_id = lane->info.lane_id;
        ret_message->lane_bytes = lane->lane_bytes;
        ret_message->pid = lane->info.pid;
        ret_message->uid = lane->info.uid;
        ret_message->gid = lane->info.gid;
        memcpy(ret_message->name, lane->info.name, sizeof(ret_message->name));
}

/* The keeper must have the lane before anybody writes into it. ERR_FULL: the keeper does not read now. */
enum err_code ring_server_keep(struct ring_server *server, const struct ring_lane *lane)
{
        if (server->keeper_fd < 0)
                return ERR_OK;
        struct ring_message message;
        int fds[4] = {lane->data_fd, lane->page_fd, lane->connection_fd, lane->pidfd};
        ring_message_of_lane(lane, RING_MESSAGE_KEEP, &message);
        enum err_code code = ring_message_send(server->keeper_fd, &message, fds, lane->pidfd >= 0 ? 4 : 3);
        if (code == ERR_DETACHED) {
                ring_server_keeper_lost(server);
                return ERR_OK;
        }
        return code;
}

void ring_server_drop(struct ring_server *server, uint64_t lane_id)
{
        struct ring_message message;
        if (server->keeper_fd < 0)
                return;
        ring_message_init(&message, RING_MESSAGE_DROP);
        message.lane_id = lane_id;
        enum err_code code = ring_message_send(server->keeper_fd, &message, NULL, 0);
        if (code == ERR_DETACHED)
                ring_server_keeper_lost(server);
        else if (code != ERR_OK && server->drops_owed_count < LIMIT_LANES_MAX)
                server->drops_owed[server->drops_owed_count++] = lane_id;
}

static void ring_server_pay_drops(struct ring_server *server)
{
        uint32_t count = server->drops_owed_count;
        server->drops_owed_count = 0;
        for (uint32_t i = 0; i < count; i++)
                ring_server_drop(server, server->drops_owed[i]);
}

/* ---------------------------------------------------------------------------------------------- lanes */

static uint32_t ring_server_choose_shard(const struct ring_server *server)
{
        uint32_t shard = 0;
        for (uint32_t i = 1; i < server->options.shards_count; i++)
                if (server->shard_lanes[i] < server->shard_lanes[shard])
                        shard = i;
        return shard;
}

static void ring_server_orphan(struct ring_server *server, struct ring_lane *lane)
{
        ring_server_unwatch(server, lane->pidfd);
        ring_server_unwatch(server, lane->connection_fd);
        if (ring_lane_is_orphan(lane))
                return;
        /* Release: pairs with the acquire in ring_lane_is_orphan(). */
        atomic_store_explicit(&lane->orphan, true, memory_order_release);
        server->stats.orphaned++;
        /* It may have been killed between its publish and the bell. */
        if (lane->announced)
                ring_bed_wake(server->options.beds[lane->shard]);
}

/* Something happened to a producer: asked anew, because the slot may have changed hands since the event was queued. */
static void ring_server_lane_event(struct ring_server *server, struct ring_lane *lane)
{
        struct pollfd poll_fds[2] = {{.fd = lane->connection_fd, .events = POLLRDHUP},
                                     {.fd = lane->pidfd, .events = POLLIN}};
        if (poll(poll_fds, 2, 0) <= 0) /* a negative fd is left out */
                return;
        if ((poll_fds[0].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0 || (poll_fds[1].revents & POLLIN) != 0)
                ring_server_orphan(server, lane);
}

/* Gives the lane a slot, a shard, a bell, and watches its producer. On failure the lane is untouched, save fds that are
 * closed with it. */
enum err_code ring_server_enlist(struct ring_server *server, struct ring_lane *lane, struct err *reterr)
{
        uint32_t slot = 0;
        while (slot < LIMIT_LANES_MAX && server->lanes[slot] != NULL)
                slot++;
        if (slot == LIMIT_LANES_MAX)
                return err_set(reterr, ERR_LIMIT, "all %u lanes are in use", LIMIT_LANES_MAX);
        lane->slot = slot;
        lane->shard = ring_server_choose_shard(server);
        lane->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (lane->bell_fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "make a bell");
        struct ring_bed *bed = server->options.beds[lane->shard];
        enum err_code code = ring_bed_add_bell(bed, lane->bell_fd, reterr);
        if (code != ERR_OK)
                return code;
        code = ring_server_watch(server, lane->connection_fd, RING_CONNECTION_EVENTS, RING_SOURCE_LANE, slot, reterr);
        if (code == ERR_OK && lane->pidfd >= 0)
                code = ring_server_watch(server, lane->pidfd, EPOLLIN, RING_SOURCE_LANE, slot, reterr);
        if (code != ERR_OK) {
                ring_server_unwatch(server, lane->connection_fd);
                ring_bed_remove_bell(bed, lane->bell_fd);
                return code;
        }
        server->lanes[slot] = lane;
        server->shard_lanes[lane->shard]++;
        server->stats.lanes_now++;
        return ERR_OK;
}

/* The reverse of ring_server_enlist(), and the end of the lane. Does not touch the connection itself, which the keeper
 * may go on holding. */
void ring_server_delist(struct ring_server *server, struct ring_lane *lane)
{
        ring_server_unwatch(server, lane->pidfd);
        ring_server_unwatch(server, lane->connection_fd);
        ring_bed_remove_bell(server->options.beds[lane->shard], lane->bell_fd);
        if (lane->page_owed)
                server->pages_owed_count--;
        if (!lane->announced)
                server->unannounced_count--;
        server->lanes[lane->slot] = NULL;
        server->shard_lanes[lane->shard]--;
        server->stats.lanes_now--;
        ring_lane_free(lane);
}

void ring_server_announce(struct ring_server *server, struct ring_lane *lane)
{
        ASSERT(!lane->announced);
        lane->announced = true;
        server->unannounced_count--;
        server->options.lane_ready(server->options.context, lane, lane->shard);
        /* The shard may sleep, and what the lane holds was published before its bell was ours. */
        ring_bed_wake(server->options.beds[lane->shard]);
}

static void ring_server_watch_unread(struct ring_server *server, const struct ring_lane *lane, uint32_t events)
{
        struct epoll_event event = {.events = events, .data.u64 = (uint64_t)RING_SOURCE_LANE << 32 | lane->slot};
        /* An orphan is not watched any more. Where it fails, the next turn notices. */
        (void)epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, lane->connection_fd, &event);
}

/* Sends a taken-over lane's producer its new page, unless one of an earlier router still waits in its connection: then
 * that one has to be taken first, and a later turn tries again. The descriptors that wait in all connections together
 * count against those that our user may have on their way (RLIMIT_NOFILE, then ETOOMANYREFS for the keeper, too), and
 * most producers are idle over many restarts. The socket is asked and not attention, which the producer can write.
 * True: attention was raised. */
static bool ring_server_offer_page(struct ring_server *server, struct ring_lane *lane)
{
        struct ring_message message;
        int fds[3] = {lane->page_fd, ring_bed_memfd(server->options.beds[lane->shard]), lane->bell_fd};
        bool told = lane->old_page == NULL;
        ring_message_init(&message, RING_MESSAGE_PAGE);
        message.lane_id = lane->info.lane_id;
        enum err_code code = ring_connection_is_unread(lane->connection_fd)
                                     ? ERR_FULL
                                     : ring_message_send(lane->connection_fd, &message, fds, 3);
        if (code == ERR_FULL && told)
                return false;
        /* Release, after the message: pairs with the exchange in ring_producer_refresh(). Also when there was no room
         * for it, by another value: the producer makes some, but no lane that was told to end goes on under the older
         * page that it finds. seq_cst against the producer's store of head, see `sleeping` in layout.h. */
        atomic_store_explicit(&lane->head_page->attention, code == ERR_FULL ? RING_ATTENTION_ROOM : RING_ATTENTION_PAGE,
                              memory_order_seq_cst);
        if (!told) {
                (void)ring_futex_wake(&lane->old_page->progress); /* a flush may sleep on the old page */
                ring_page_unmap(lane->old_page);
                lane->old_page = NULL;
        }
        if (code == ERR_FULL)
                return true;
        ring_server_watch_unread(server, lane, RING_CONNECTION_EVENTS);
        if (code != ERR_OK)
                ring_server_orphan(server, lane); /* the producer has left */
        lane->page_owed = false;
        server->pages_owed_count--;
        ring_fds_close(&lane->page_fd, 1);
        return true;
}

static void ring_server_pay_pages(struct ring_server *server)
{
        uint32_t owed = server->pages_owed_count;
        bool told = false;
        for (uint32_t i = 0; i < LIMIT_LANES_MAX && owed > 0; i++) {
                if (server->lanes[i] == NULL || !server->lanes[i]->page_owed)
                        continue;
                owed--;
                told |= ring_server_offer_page(server, server->lanes[i]);
        }
        if (!told)
                return;
        /* A publish that did not see attention looked at the old bed and rang nobody: it is visible from here on, and
         * the shards look once more. */
        ring_membarrier();
        for (uint32_t i = 0; i < server->options.shards_count; i++)
                ring_bed_wake(server->options.beds[i]);
}

void ring_server_lane_close(struct ring_server *server, struct ring_lane *lane)
{
        /* Whatever the producer still does, nobody will look. Attention makes its next publish notice. */
        atomic_store_explicit(&lane->head_page->attention, RING_ATTENTION_ENDING, memory_order_seq_cst);
        /* Not close alone: the keeper holds the connection too. */
        (void)shutdown(lane->connection_fd, SHUT_RDWR); /* it may have ended already */
        ring_server_drop(server, lane->info.lane_id);
        server->stats.closed++;
        ring_server_delist(server, lane);
}

/* ---------------------------------------------------------------------------------------------- life */

/* Takes over one lane that the keeper sent. Owns the fds. */
static enum err_code ring_server_adopt(struct ring_server *server, const struct ring_message *message, int *fds,
                                       size_t fds_count, struct err *reterr)
{
        struct ring_lane *lane;
        if (fds_count < 3) {
                ring_fds_close(fds, fds_count);
                return err_set(reterr, ERR_PROTOCOL, "the keeper sent a lane without its descriptors");
        }
        uint64_t journalled = server->options.lane_journalled == NULL
                                      ? 0
                                      : server->options.lane_journalled(server->options.context, message->lane_id);
        enum err_code code = ring_lane_adopt(message->lane_id, message->lane_bytes, server->options.durable, fds[0],
                                             fds[1], journalled, &lane, reterr);
        if (code != ERR_OK) {
                ring_fds_close(fds + 2, fds_count - 2);
                return code;
        }
        lane->connection_fd = fds[2];
        lane->pidfd = fds_count > 3 ? fds[3] : -1;
        lane->info.pid = message->pid;
        lane->info.uid = message->uid;
        lane->info.gid = message->gid;
        memcpy(lane->info.name, message->name, sizeof(lane->info.name) - 1);
        code = ring_server_enlist(server, lane, reterr);
        if (code != ERR_OK) {
                ring_lane_free(lane);
                return code;
        }
        ring_fds_close(&lane->data_fd, 1);
        ring_server_watch_unread(server, lane, RING_CONNECTION_EVENTS_OWED);
        lane->page_owed = true;
        server->pages_owed_count++;
        server->unannounced_count++;
        server->stats.taken_over++;
        return ERR_OK;
}

static enum err_code ring_server_keeper_poll(const struct ring_server *server, short events, uint64_t deadline_ns,
                                             struct err *reterr)
{
        struct pollfd poll_fd = {.fd = server->keeper_fd, .events = events};
        uint64_t now_ns = ring_now_ns();
        if (now_ns >= deadline_ns)
                return err_set(reterr, ERR_TIMEOUT, "the keeper did not hand its lanes over in time");
        /* A signal or a timeout: the caller looks again and comes back. Naps, because a full socket between us may also
         * mean that too many descriptors are in flight, and then it counts as writable. */
        uint64_t left_ms = (deadline_ns - now_ns) / 1000000 + 1;
        (void)poll(&poll_fd, 1, left_ms > 100 ? 100 : (int)left_ms);
        return ERR_OK;
}

/* Receives the keeper's socket and lanes, and gives it our new pages before anything is read under them. */
static enum err_code ring_server_take_over(struct ring_server *server, struct err *reterr)
{
        struct ring_message message;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        uint64_t deadline_ns = ring_now_ns() + RING_KEEPER_TIMEOUT_NS;
        for (;;) {
                enum err_code code = ring_message_receive(server->keeper_fd, &message, fds, &fds_count);
                if (code == ERR_EMPTY) {
                        code = ring_server_keeper_poll(server, POLLIN, deadline_ns, reterr);
                        if (code != ERR_OK)
                                return code;
                        continue;
                }
                if (code == ERR_LIMIT)
                        return err_set(reterr, code,
                                       "too few descriptors for the lanes that the keeper holds: more of them, by "
                                       "LimitNOFILE= or ulimit -Hn");
                if (code == ERR_VERSION)
                        return err_set(
                                reterr, ERR_VERSION,
                                "the running keeper holds lanes of version %u, and this program knows version %u: "
                                "put the earlier program back and end the whole service with it, which drains "
                                "them; then start this one (sendring-run(1), Upgrading)",
                                message.version, RING_VERSION);
                if (code != ERR_OK)
                        return err_set(reterr, code, "read from the keeper: %s", err_text(code));
                if (message.kind == RING_MESSAGE_LISTENER && fds_count == 1 && server->listen_fd < 0) {
                        server->listen_fd = fds[0];
                } else if (message.kind == RING_MESSAGE_KEPT) {
                        uint64_t lane_id = message.lane_id;
                        code = ring_server_adopt(server, &message, fds, fds_count, reterr);
                        if (code != ERR_OK)
                                return err_wrap(reterr, "take over lane %016llx", (unsigned long long)lane_id);
                } else if (message.kind == RING_MESSAGE_END) {
                        break;
                } else {
                        ring_fds_close(fds, fds_count);
                        return err_set(reterr, ERR_PROTOCOL, "unexpected message %u from the keeper", message.kind);
                }
        }
        if (server->listen_fd < 0)
                return err_set(reterr, ERR_PROTOCOL, "the keeper sent no listening socket");
        for (uint32_t i = 0; i < LIMIT_LANES_MAX; i++) {
                struct ring_lane *lane = server->lanes[i];
                if (lane == NULL)
                        continue;
                ring_message_init(&message, RING_MESSAGE_KEEP_PAGE);
                message.lane_id = lane->info.lane_id;
                for (;;) {
                        enum err_code code = ring_message_send(server->keeper_fd, &message, &lane->page_fd, 1);
                        if (code == ERR_OK)
                                break;
                        if (code != ERR_FULL)
                                return err_set(reterr, code, "send to the keeper: %s", err_text(code));
                        code = ring_server_keeper_poll(server, POLLOUT, deadline_ns, reterr);
                        if (code != ERR_OK)
                                return code;
                }
        }
        return ERR_OK;
}

/* No more lanes than keeper and router have descriptors for: one that the keeper cannot hold ends with its router, and
 * one that the next router cannot take keeps it from starting at all. */
static void ring_server_fit_lanes(struct ring_server *server)
{
        struct ring_server_options *options = &server->options;
        struct rlimit limit;
        if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
                return;
        if (limit.rlim_cur < limit.rlim_max) { /* with a keeper it was done there */
                limit.rlim_cur = limit.rlim_max;
                if (setrlimit(RLIMIT_NOFILE, &limit) != 0 && getrlimit(RLIMIT_NOFILE, &limit) != 0)
                        return;
        }
        uint64_t have = limit.rlim_cur;
        uint64_t fit = have > RING_OTHER_FDS_MAX ? (have - RING_OTHER_FDS_MAX) / RING_LANE_FDS : 0;
        if (fit >= options->lanes_max)
                return;
        fit = fit > 0 ? fit : 1;
        log_warning(
                "fewer lanes than lanes_max: too few descriptors",
                "lanes=%llu lanes_max=%u descriptors=%llu needed=%u do=\"more of them, by LimitNOFILE= or ulimit -Hn\"",
                (unsigned long long)fit, options->lanes_max, (unsigned long long)have,
                RING_OTHER_FDS_MAX + RING_LANE_FDS * options->lanes_max);
        /* The same share for one user. */
        uint64_t share = fit * options->lanes_per_user_max / options->lanes_max;
        if (options->lanes_per_user_max > 0)
                options->lanes_per_user_max = share > 0 ? (uint32_t)share : 1;
        options->lanes_max = (uint32_t)fit;
}

static bool ring_server_options_ok(const struct ring_server_options *options)
{
        return options->shards_count > 0 && options->shards_count <= LIMIT_SHARDS_MAX && options->beds != NULL &&
               options->lane_ready != NULL && options->lanes_max > 0 && options->lanes_max <= LIMIT_LANES_MAX &&
               options->lane_bytes_max >= LIMIT_LANE_BYTES_MIN && options->lane_bytes_max <= LIMIT_LANE_BYTES_MAX &&
               options->lane_bytes_default <= options->lane_bytes_max &&
               (options->keeper_fd >= 0 || options->socket_path != NULL);
}

enum err_code ring_server_create(const struct ring_server_options *options, struct ring_server **ret_server,
                                 struct err *reterr)
{
        enum err_code code;
        uint64_t one = 1;
        ASSERT(ring_server_options_ok(options));
        struct ring_server *server = calloc(1, sizeof(*server));
        if (server == NULL)
                return err_set(reterr, ERR_MEMORY, "no memory for the attach server");
        server->options = *options;
        ring_server_fit_lanes(server);
        server->listen_fd = -1;
        server->lock_fd = -1;
        server->kick_fd = -1;
        server->keeper_fd = options->keeper_fd;
        for (uint32_t i = 0; i < RING_HANDSHAKES_MAX; i++)
                server->handshakes[i] = (struct ring_handshake){.fd = -1, .pidfd = -1};
        server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        server->lanes = calloc(LIMIT_LANES_MAX, sizeof(struct ring_lane *));
        server->shard_lanes = calloc(options->shards_count, sizeof(uint32_t));
        server->drops_owed = calloc(LIMIT_LANES_MAX, sizeof(uint64_t));
        if (server->lanes == NULL || server->shard_lanes == NULL || server->drops_owed == NULL) {
                code = err_set(reterr, ERR_MEMORY, "no memory for the attach server");
                goto fail;
        }
        server->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (server->epoll_fd < 0 || server->kick_fd < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "make the attach server's epoll set");
                goto fail;
        }
        if (server->keeper_fd >= 0) {
                (void)fcntl(server->keeper_fd, F_SETFD, FD_CLOEXEC); /* came over exec; a bad fd fails just below */
                code = ring_server_take_over(server, reterr);
                if (code == ERR_OK)
                        code = ring_server_watch(server, server->keeper_fd, EPOLLIN | EPOLLRDHUP, RING_SOURCE_KEEPER, 0,
                                                 reterr);
        } else {
                code = ring_listen_open(options->socket_path, options->socket_mode, &server->listen_fd,
                                        &server->lock_fd, reterr);
                if (code == ERR_OK)
                        memcpy(server->socket_path, options->socket_path, strlen(options->socket_path) + 1);
        }
        if (code == ERR_OK)
                code = ring_server_watch(server, server->listen_fd, EPOLLIN, RING_SOURCE_LISTENER, 0, reterr);
        if (code == ERR_OK)
                code = ring_server_watch(server, server->kick_fd, EPOLLIN, RING_SOURCE_KICK, 0, reterr);
        if (code == ERR_OK && server->unannounced_count > 0 && write(server->kick_fd, &one, sizeof(one)) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "write to an eventfd");
        if (code != ERR_OK)
                goto fail;
        *ret_server = server;
        return ERR_OK;
fail:
        ring_server_free(server);
        return code;
}

void ring_server_ready(struct ring_server *server)
{
        struct ring_message message;
        if (server->keeper_fd < 0)
                return;
        ring_message_init(&message, RING_MESSAGE_READY);
        uint64_t deadline_ns = ring_now_ns() + RING_KEEPER_TIMEOUT_NS;
        for (;;) {
                enum err_code code = ring_message_send(server->keeper_fd, &message, NULL, 0);
                if (code == ERR_DETACHED)
                        ring_server_keeper_lost(server);
                /* A full socket is emptied in no time: the keeper does little else. */
                if (code != ERR_FULL || ring_server_keeper_poll(server, POLLOUT, deadline_ns, NULL) != ERR_OK)
                        return;
        }
}

int ring_server_fd(const struct ring_server *server)
{
        return server->epoll_fd;
}

static void ring_server_announce_all(struct ring_server *server)
{
        uint64_t ignored;
        ssize_t got = read(server->kick_fd, &ignored, sizeof(ignored)); /* empty is fine */
        (void)got;
        for (uint32_t i = 0; i < LIMIT_LANES_MAX && server->unannounced_count > 0; i++)
                if (server->lanes[i] != NULL && !server->lanes[i]->announced)
                        ring_server_announce(server, server->lanes[i]);
}

/* The keeper says nothing after the hand-over; readable means its end. */
static void ring_server_keeper_event(struct ring_server *server)
{
        struct ring_message message;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        enum err_code code = ring_message_receive(server->keeper_fd, &message, fds, &fds_count);
        if (code == ERR_OK)
                ring_fds_close(fds, fds_count);
        else if (code == ERR_DETACHED || code == ERR_SYSTEM)
                ring_server_keeper_lost(server);
}

void ring_server_turn(struct ring_server *server)
{
        struct epoll_event events[64];
        int count = epoll_wait(server->epoll_fd, events, 64, 0);
        for (int i = 0; i < count; i++) {
                uint32_t index = (uint32_t)events[i].data.u64;
                switch ((enum ring_source)(events[i].data.u64 >> 32)) {
                case RING_SOURCE_LISTENER:
                        if (!server->stopping)
                                ring_server_accept(server);
                        break;
                case RING_SOURCE_KICK:
                        ring_server_announce_all(server);
                        break;
                case RING_SOURCE_KEEPER:
                        if (server->keeper_fd >= 0)
                                ring_server_keeper_event(server);
                        break;
                case RING_SOURCE_HANDSHAKE:
                        /* Its place may have been given to another connection in this very turn; then this reads that
                         * one, which does no harm. */
                        if (server->handshakes[index].fd >= 0)
                                ring_server_hello(server, &server->handshakes[index]);
                        break;
                case RING_SOURCE_LANE:
                        /* As above, but an orphan is for ever: look at this very lane. */
                        if (server->lanes[index] != NULL)
                                ring_server_lane_event(server, server->lanes[index]);
                        break;
                }
        }
        uint64_t now_ns = ring_now_ns();
        for (uint32_t i = 0; i < RING_HANDSHAKES_MAX; i++) {
                struct ring_handshake *handshake = &server->handshakes[i];
                if (handshake->fd >= 0 && now_ns - handshake->since_ns > RING_HANDSHAKE_NS)
                        ring_handshake_silent(server, handshake);
        }
        ring_server_accept_again(server, now_ns);
        if (server->pages_owed_count > 0 && !server->stopping)
                ring_server_pay_pages(server);
        if (server->drops_owed_count > 0)
                ring_server_pay_drops(server);
}

void ring_server_stop(struct ring_server *server)
{
        if (server->stopping)
                return;
        server->stopping = true;
        ring_server_unwatch(server, server->listen_fd);
        for (uint32_t i = 0; i < LIMIT_LANES_MAX; i++) {
                struct ring_lane *lane = server->lanes[i];
                if (lane == NULL)
                        continue;
                /* Relaxed: it only keeps a count clean. */
                atomic_store_explicit(&lane->ending, true, memory_order_relaxed);
                atomic_store_explicit(&lane->head_page->attention, RING_ATTENTION_ENDING, memory_order_seq_cst);
        }
        /* From here on a publish either sees the flag, or its head is visible to the drain that follows. */
        ring_membarrier();
}

void ring_server_each_lane(const struct ring_server *server, void (*each)(void *context, const struct ring_lane *lane),
                           void *context)
{
        for (uint32_t i = 0; i < LIMIT_LANES_MAX; i++)
                if (server->lanes[i] != NULL)
                        each(context, server->lanes[i]);
}

void ring_server_free(struct ring_server *server)
{
        if (server == NULL)
                return;
        for (uint32_t i = 0; server->lanes != NULL && i < LIMIT_LANES_MAX; i++) {
                struct ring_lane *lane = server->lanes[i];
                if (lane == NULL)
                        continue;
                if (server->keeper_fd < 0 && lane->announced)
                        (void)shutdown(lane->connection_fd, SHUT_RDWR); /* a forked child of ours may hold it */
                ring_server_delist(server, lane);
        }
        for (uint32_t i = 0; i < RING_HANDSHAKES_MAX; i++)
                if (server->handshakes[i].fd >= 0)
                        ring_handshake_end(server, &server->handshakes[i]);
        /* While the lock is held. */
        if (server->socket_path[0] != '\0')
                (void)unlink(server->socket_path); /* a stale one does no harm */
        int fds[5] = {server->epoll_fd, server->listen_fd, server->kick_fd, server->keeper_fd, server->lock_fd};
        ring_fds_close(fds, 5);
        free(server->lanes);
        free(server->shard_lanes);
        free(server->drops_owed);
        free(server);
}

bool ring_server_keeper_gone(const struct ring_server *server)
{
        return server->keeper_fd < 0;
}

void ring_server_get_stats(const struct ring_server *server, struct ring_server_stats *ret_stats)
{
        *ret_stats = server->stats;
}
