/* What the attach server's files share: server.c, the lanes, the keeper and the turn; handshake.c, who is let in. */
#ifndef SENDRING_RING_SERVER_INTERNAL_H
#define SENDRING_RING_SERVER_INTERNAL_H

#include "base/log.h"
#include "ring/ring_internal.h"

/* Connections that have not said hello yet (handshake.c). */
#define RING_HANDSHAKES_MAX 64u
enum ring_source {
        RING_SOURCE_LISTENER = 1,
        RING_SOURCE_KICK = 2,
        RING_SOURCE_KEEPER = 3,
        RING_SOURCE_HANDSHAKE = 4,
        RING_SOURCE_LANE = 5,
};

struct ring_handshake {
        int fd;    /* -1: free */
        int pidfd; /* -1: not known */
        struct ucred peer;
        uint64_t since_ns;
};

struct ring_server {
        struct ring_server_options options;
        int epoll_fd;
        int listen_fd;
        int lock_fd;   /* -1: the keeper has it */
        int kick_fd;   /* makes epoll_fd readable when lanes wait to be announced */
        int keeper_fd; /* -1: none, or gone */
        bool stopping;
        struct ring_handshake handshakes[RING_HANDSHAKES_MAX];
        struct ring_lane **lanes; /* LIMIT_LANES_MAX slots, NULL: free */
        uint32_t *shard_lanes;    /* lanes of each shard */
        uint64_t *drops_owed;     /* lane ids that the keeper could not be told yet; LIMIT_LANES_MAX places */
        uint32_t drops_owed_count;
        uint32_t pages_owed_count;
        uint32_t unannounced_count;
        uint64_t accept_again_ns; /* when the listener is watched again; 0: it is */
        struct ring_server_stats stats;
        struct log_gate accept_gate;
        struct log_gate denied_gate;
        struct log_gate failed_gate;
        struct log_gate user_gate;
        char socket_path[128]; /* to remove at the end; "" when the keeper owns it */
};

/* server.c */
enum err_code ring_server_watch(struct ring_server *server, int fd, uint32_t events, enum ring_source source,
                                uint32_t index, struct err *reterr);
void ring_server_unwatch(struct ring_server *server, int fd); /* one that is not watched, and -1, are fine */
void ring_message_of_lane(const struct ring_lane *lane, enum ring_message_kind kind, struct ring_message *ret_message);
/* Hands the lane's memory to the keeper, if there is one; drop takes it back. */
enum err_code ring_server_keep(struct ring_server *server, const struct ring_lane *lane);
void ring_server_drop(struct ring_server *server, uint64_t lane_id);
/* Gives the lane a slot and a shard, and watches its producer; delist undoes that and frees the lane. */
enum err_code ring_server_enlist(struct ring_server *server, struct ring_lane *lane, struct err *reterr);
void ring_server_delist(struct ring_server *server, struct ring_lane *lane);
/* To its shard, now or in the next turn. */
void ring_server_announce(struct ring_server *server, struct ring_lane *lane);

/* handshake.c */
/* Takes what waits at the socket, up to a bound for each turn. Where that finds no descriptor the socket is left alone
 * for a while. */
void ring_server_accept(struct ring_server *server);
/* Watches the socket again when that while is over. */
void ring_server_accept_again(struct ring_server *server, uint64_t now_ns);
/* Reads the hello of one that has become readable; the handshake has ended then, with a lane or refused. */
void ring_server_hello(struct ring_server *server, struct ring_handshake *handshake);
void ring_handshake_end(struct ring_server *server, struct ring_handshake *handshake);
/* Ends one that has said nothing for too long, or while others wait. */
void ring_handshake_silent(struct ring_server *server, struct ring_handshake *handshake);

#endif
