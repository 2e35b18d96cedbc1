/* A house (ring_house.h) whose router is started again and again: the test plays the keeper, which has one lane. */
#ifndef SENDRING_TESTS_RING_KEPT_H
#define SENDRING_TESTS_RING_KEPT_H

#include "ring/ring_internal.h"
#include "tests/support/ring_house.h"

/* The test plays the keeper. */
struct kept {
        int listen_fd, lock_fd;
        int line; /* to the router */
        struct ring_message lane;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
};

static uint64_t journalled_position;

static inline uint64_t house_journalled(void *context, uint64_t lane_id)
{
        struct house *house = context;
        (void)house;
        cr_assert_neq(lane_id, 0);
        return journalled_position;
}

/* Starts a router, handing over what is kept. */
static inline void house_start_kept(struct house *house, struct kept *kept)
{
        struct err err;
        struct ring_message message;
        int pair[2];
        cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        kept->line = pair[0];
        ring_message_init(&message, RING_MESSAGE_LISTENER);
        cr_assert_eq(ring_message_send(kept->line, &message, &kept->listen_fd, 1), ERR_OK);
        if (kept->fds_count > 0) {
                kept->lane.kind = RING_MESSAGE_KEPT;
                cr_assert_eq(ring_message_send(kept->line, &kept->lane, kept->fds, kept->fds_count), ERR_OK);
        }
        ring_message_init(&message, RING_MESSAGE_END);
        cr_assert_eq(ring_message_send(kept->line, &message, NULL, 0), ERR_OK);
        for (int i = 0; i < 2; i++)
                cr_assert_eq(ring_bed_create(&house->beds[i], &err), ERR_OK, "%s", err.text);
        house->lanes_count = 0;
        house->options.keeper_fd = pair[1];
        house->options.lane_journalled = house_journalled;
        cr_assert_eq(ring_server_create(&house->options, &house->server, &err), ERR_OK, "%s", err.text);
}

/* Kills the router, as far as that is possible within one process. */
static inline void house_kill_router(struct house *house, struct kept *kept)
{
        ring_server_free(house->server);
        for (int i = 0; i < 2; i++)
                ring_bed_free(house->beds[i]);
        (void)close(kept->line);
}

static inline void house_open_kept(struct house *house, struct kept *kept, struct ring_producer *producer)
{
        struct err err;
        struct ring_message message;
        memset(kept, 0, sizeof(*kept));
        journalled_position = 0;
        house_open(house, false);
        ring_server_free(house->server);
        for (int i = 0; i < 2; i++)
                ring_bed_free(house->beds[i]);
        cr_assert_eq(ring_listen_open(house->socket_path, 0600, &kept->listen_fd, &kept->lock_fd, &err), ERR_OK);
        house_start_kept(house, kept);
        cr_assert_eq(house_attach(house, producer, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(ring_message_receive(kept->line, &message, kept->fds, &kept->fds_count), ERR_OK);
        cr_assert_eq(message.kind, RING_MESSAGE_KEEP);
        cr_assert_eq(kept->fds_count, 4);
        kept->lane = message;
}

static inline void house_receive_page(struct kept *kept)
{
        struct ring_message message;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        cr_assert_eq(ring_message_receive(kept->line, &message, fds, &fds_count), ERR_OK);
        cr_assert_eq(message.kind, RING_MESSAGE_KEEP_PAGE);
        cr_assert_eq(message.lane_id, kept->lane.lane_id);
        cr_assert_eq(fds_count, 1);
        (void)close(kept->fds[1]);
        kept->fds[1] = fds[0];
}

static inline void house_close_kept(struct house *house, struct kept *kept)
{
        int fds[4] = {kept->listen_fd, kept->lock_fd, kept->line, -1};
        ring_fds_close(kept->fds, kept->fds_count);
        ring_fds_close(fds, 4);
        (void)unlink(house->socket_path);
        house_close(house);
}

#endif
