/* Who is let in: accepts connections, asks who is at their other end, reads the hello, makes the lane or refuses.
 * Everything that comes from a producer is hostile. */
#include "ring/server_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

/* Honest ones say hello at once; when all places are taken the oldest goes, and when one user has three quarters of
 * them, the oldest of his. More than are accepted in one turn, so that none goes before it was looked at. */
#define RING_HANDSHAKES_PER_USER_MAX 48u
#define RING_ACCEPTS_PER_TURN_MAX    32u
#define RING_GROUPS_MAX              256u
#define RING_SAME_CAUSE_INTERVAL_NS  UINT64_C(60000000000)
#define RING_ACCEPT_PAUSE_NS         UINT64_C(100000000)
_Static_assert(RING_HANDSHAKES_PER_USER_MAX > RING_ACCEPTS_PER_TURN_MAX, "none goes before it was looked at");

static uint64_t ring_lane_id_new(void)
{
        uint64_t id = 0;
        while (id == 0) {
                if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
                        id = 0; /* only before the kernel's pool is ready or by a signal: again */
        }
        return id;
}

static bool ring_server_allows(const struct ring_server *server, int fd, const struct ucred *peer)
{
        const struct ring_server_options *options = &server->options;
        if (peer->uid == 0 || peer->uid == geteuid())
                return true;
        for (size_t i = 0; i < options->allowed_uids_count; i++)
                if (options->allowed_uids[i] == peer->uid)
                        return true;
        if (options->allowed_gids_count == 0)
                return false;
        gid_t groups[RING_GROUPS_MAX + 1];
        socklen_t groups_bytes = RING_GROUPS_MAX * sizeof(groups[0]);
        size_t groups_count = 0;
        /* More groups than fit, or an old kernel: the primary group alone counts. */
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &groups_bytes) == 0)
                groups_count = groups_bytes / sizeof(groups[0]);
        groups[groups_count++] = peer->gid;
        for (size_t i = 0; i < options->allowed_gids_count; i++)
                for (size_t j = 0; j < groups_count; j++)
                        if (options->allowed_gids[i] == groups[j])
                                return true;
        return false;
}

/* Counts it, and tells who it was. */
static void ring_server_refused(struct ring_server *server, const struct ucred *peer, const char *why)
{
        server->stats.refused++;
        if (server->options.connection_refused != NULL && why != NULL)
                server->options.connection_refused(server->options.context, peer->pid, peer->uid, why);
}

/* `why`: NULL where the caller has said it by a line of its own, or where the other end can do nothing for it. */
static void ring_server_refuse(struct ring_server *server, int fd, const struct ucred *peer, enum ring_status status,
                               const char *why)
{
        struct ring_message message;
        ring_message_init(&message, RING_MESSAGE_REFUSED);
        message.status = (uint32_t)status;
        (void)ring_message_send(fd, &message, NULL, 0); /* a courtesy: the end of the connection says the same */
        ring_server_refused(server, peer, why);
}

void ring_handshake_end(struct ring_server *server, struct ring_handshake *handshake)
{
        ring_server_unwatch(server, handshake->fd);
        ring_fds_close(&handshake->pidfd, 1);
        ring_connection_close(&handshake->fd);
}

void ring_handshake_silent(struct ring_server *server, struct ring_handshake *handshake)
{
        ring_server_refused(server, &handshake->peer, "it said no hello in time");
        ring_handshake_end(server, handshake);
}

static uint64_t ring_server_lane_bytes(const struct ring_server *server, uint64_t wish)
{
        uint64_t bytes = LIMIT_LANE_BYTES_MIN;
        if (wish == 0)
                wish = server->options.lane_bytes_default;
        while (bytes < wish && bytes < server->options.lane_bytes_max)
                bytes *= 2;
        return bytes;
}

/* Everything between a good hello and the lane being the shard's. The handshake's fds pass to the lane. */
static enum err_code ring_server_make_lane(struct ring_server *server, struct ring_handshake *handshake,
                                           const struct ring_message *hello, struct err *reterr)
{
        struct ring_lane *lane;
        enum err_code code = ring_lane_create(ring_lane_id_new(), ring_server_lane_bytes(server, hello->lane_bytes),
                                              server->options.durable, &lane, reterr);
        if (code != ERR_OK)
                return code;
        lane->info.pid = handshake->peer.pid;
        lane->info.uid = handshake->peer.uid;
        lane->info.gid = handshake->peer.gid;
        for (size_t i = 0; i < sizeof(lane->info.name) - 1 && hello->name[i] != '\0'; i++) {
                char c = hello->name[i];
                lane->info.name[i] = c > ' ' && c < 0x7f ? c : '?'; /* goes into logs and tables */
        }
        /* Duplicates: the handshake keeps its own until it ends, so that a failure can still be told. */
        lane->connection_fd = fcntl(handshake->fd, F_DUPFD_CLOEXEC, 0);
        if (lane->connection_fd < 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "keep a producer's connection");
                ring_lane_free(lane);
                return code;
        }
        lane->pidfd = handshake->pidfd;
        handshake->pidfd = -1;
        code = ring_server_enlist(server, lane, reterr);
        if (code != ERR_OK) {
                ring_lane_free(lane);
                return code;
        }
        server->unannounced_count++;
        code = ring_server_keep(server, lane);
        if (code != ERR_OK) {
                ring_server_delist(server, lane);
                return err_set(reterr, code, "the keeper does not take a lane: %s", err_text(code));
        }
        struct ring_message message;
        int fds[4] = {lane->data_fd, lane->page_fd, ring_bed_memfd(server->options.beds[lane->shard]), lane->bell_fd};
        ring_message_of_lane(lane, RING_MESSAGE_LANE, &message);
        code = ring_message_send(handshake->fd, &message, fds, 4);
        if (code != ERR_OK) { /* it left, or stuffed its own socket */
                ring_server_drop(server, lane->info.lane_id);
                ring_server_delist(server, lane);
                return err_set(reterr, ERR_RESET, "the producer left during the handshake");
        }
        ring_fds_close(&lane->data_fd, 1);
        ring_fds_close(&lane->page_fd, 1);
        server->stats.attached++;
        ring_server_announce(server, lane);
        ring_server_unwatch(server, handshake->fd);
        ring_fds_close(&handshake->fd, 1); /* the lane has its own */
        return ERR_OK;
}

/* Root and the daemon's own user are trusted with everything. */
static bool ring_server_user_is_full(const struct ring_server *server, const struct ucred *peer)
{
        uint32_t lanes = 0;
        if (server->options.lanes_per_user_max == 0 || peer->uid == 0 || peer->uid == geteuid())
                return false;
        for (uint32_t i = 0; i < LIMIT_LANES_MAX; i++)
                lanes += server->lanes[i] != NULL && server->lanes[i]->info.uid == peer->uid;
        return lanes >= server->options.lanes_per_user_max;
}

void ring_server_hello(struct ring_server *server, struct ring_handshake *handshake)
{
        const struct ucred *peer = &handshake->peer;
        struct ring_message hello;
        struct err err;
        uint64_t repeats;
        bool descriptors;
        memset(&hello, 0, sizeof(hello));
        ssize_t got = ring_connection_peek(handshake->fd, &hello, sizeof(hello), &descriptors);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (!descriptors)
                got = recv(handshake->fd, &hello, sizeof(hello), MSG_DONTWAIT | MSG_TRUNC);
        bool ours = !descriptors && got >= 16 && hello.magic == RING_MAGIC_MESSAGE;
        if (ours && hello.version != RING_VERSION)
                ring_server_refuse(server, handshake->fd, peer, RING_STATUS_VERSION,
                                   "its libsendring speaks another version");
        else if (!ours || got != (ssize_t)sizeof(hello) || hello.kind != RING_MESSAGE_HELLO)
                ring_server_refuse(server, handshake->fd, peer, RING_STATUS_MALFORMED,
                                   descriptors ? "its hello came with descriptors"
                                   : got > 0   ? "its hello is none"
                                               : NULL); /* it left: whoever dies does no harm */
        else if (server->stopping)
                ring_server_refuse(server, handshake->fd, peer, RING_STATUS_BUSY, NULL);
        else if (server->stats.lanes_now >= server->options.lanes_max)
                ring_server_refuse(server, handshake->fd, peer, RING_STATUS_LIMIT, "all lanes are taken");
        else if (ring_server_user_is_full(server, &handshake->peer)) {
                ring_server_refuse(server, handshake->fd, peer, RING_STATUS_USER_LIMIT, NULL);
                if (log_gate_open(&server->user_gate, ring_now_ns(), RING_SAME_CAUSE_INTERVAL_NS, &repeats))
                        log_warning("a user has all the lanes that one may have",
                                    "uid=%u pid=%d lanes_per_user_max=%u repeats=%llu", handshake->peer.uid,
                                    (int)handshake->peer.pid, server->options.lanes_per_user_max,
                                    (unsigned long long)repeats);
        } else {
                enum err_code code = ring_server_make_lane(server, handshake, &hello, &err);
                if (code != ERR_OK && code != ERR_RESET) {
                        ring_server_refuse(server, handshake->fd, peer,
                                           code == ERR_FULL ? RING_STATUS_BUSY : RING_STATUS_SYSTEM, NULL);
                        if (log_gate_open(&server->failed_gate, ring_now_ns(), RING_SAME_CAUSE_INTERVAL_NS, &repeats))
                                log_warning("cannot make a lane", "error=\"%s\" pid=%d repeats=%llu", err.text,
                                            (int)handshake->peer.pid, (unsigned long long)repeats);
                }
        }
        ring_handshake_end(server, handshake);
}

static struct ring_handshake *ring_server_handshake_place(struct ring_server *server, uid_t uid)
{
        struct ring_handshake *oldest = &server->handshakes[0], *oldest_own = NULL, *free_place = NULL;
        uint32_t own = 0;
        for (uint32_t i = 0; i < RING_HANDSHAKES_MAX; i++) {
                struct ring_handshake *handshake = &server->handshakes[i];
                if (handshake->fd < 0) {
                        free_place = handshake;
                        continue;
                }
                if (oldest->fd < 0 || handshake->since_ns < oldest->since_ns)
                        oldest = handshake;
                if (handshake->peer.uid != uid)
                        continue;
                own++;
                if (oldest_own == NULL || handshake->since_ns < oldest_own->since_ns)
                        oldest_own = handshake;
        }
        if (own >= RING_HANDSHAKES_PER_USER_MAX)
                oldest = oldest_own;
        else if (free_place != NULL)
                return free_place;
        ring_handshake_silent(server, oldest);
        return oldest;
}

/* Nobody can be let in: no descriptor or memory is left. Whoever knocks waits there, and the socket stays readable: it
 * would call again at once, for ever. */
static void ring_server_accept_pause(struct ring_server *server, int accept_errno)
{
        uint64_t repeats, now_ns = ring_now_ns();
        ring_server_unwatch(server, server->listen_fd);
        server->accept_again_ns = now_ns + RING_ACCEPT_PAUSE_NS;
        if (log_gate_open(&server->accept_gate, now_ns, RING_SAME_CAUSE_INTERVAL_NS, &repeats))
                log_warning(
                        "cannot let producers in",
                        "errno=%d lanes=%llu now=\"they wait at the socket\" do=\"more descriptors, by LimitNOFILE= or "
                        "ulimit -Hn\" repeats=%llu",
                        accept_errno, (unsigned long long)server->stats.lanes_now, (unsigned long long)repeats);
}

void ring_server_accept_again(struct ring_server *server, uint64_t now_ns)
{
        if (server->accept_again_ns == 0 || now_ns < server->accept_again_ns || server->stopping)
                return;
        /* Where this fails, too, the next turn tries again. */
        if (ring_server_watch(server, server->listen_fd, EPOLLIN, RING_SOURCE_LISTENER, 0, NULL) == ERR_OK)
                server->accept_again_ns = 0;
}

void ring_server_accept(struct ring_server *server)
{
        uint64_t repeats;
        for (uint32_t i = 0; i < RING_ACCEPTS_PER_TURN_MAX; i++) {
                int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd < 0) {
                        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                                ring_server_accept_pause(server, errno);
                        return; /* else nothing waits, or whoever did has left: a socket that still calls is asked again
                                 */
                }
                struct ucred peer;
                socklen_t peer_bytes = sizeof(peer);
                if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_bytes) < 0) {
                        ring_connection_close(&fd);
                        continue;
                }
                if (!ring_server_allows(server, fd, &peer)) {
                        ring_server_refuse(server, fd, &peer, RING_STATUS_DENIED, NULL);
                        ring_connection_close(&fd);
                        if (log_gate_open(&server->denied_gate, ring_now_ns(), RING_SAME_CAUSE_INTERVAL_NS, &repeats))
                                log_warning("a user who is not allowed tried to attach",
                                            "uid=%u gid=%u pid=%d repeats=%llu", peer.uid, peer.gid, (int)peer.pid,
                                            (unsigned long long)repeats);
                        continue;
                }
                struct ring_handshake *handshake = ring_server_handshake_place(server, peer.uid);
                handshake->fd = fd;
                handshake->peer = peer;
                handshake->since_ns = ring_now_ns();
                handshake->pidfd = ring_connection_pidfd(fd, &peer);
                uint32_t index = (uint32_t)(handshake - server->handshakes);
                if (ring_server_watch(server, fd, EPOLLIN, RING_SOURCE_HANDSHAKE, index, NULL) != ERR_OK)
                        ring_handshake_end(server, handshake);
        }
}
