#include "bench/lane_media.h"

#include "ring/ring.h"

#define ALLOW_EXPERIMENTAL_API /* of DPDK 22.11: its zero-copy calls */
#include <errno.h>
#include <fcntl.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <rte_ring_peek_zc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAKE_RECORDS_MAX 64u
#define SOCKET_RECORDS   32u
#define PIPE_READ_BYTES  65536u
#define SLOTS            8u

/* Of whatever medium: each uses its own members. In memory that producers share where they have to. */
struct lane_media_own {
        /* lane */
        struct ring_bed *bed;
        struct ring_server *server;
        struct ring_lane *lanes[LANE_MEDIA_PRODUCERS_MAX];
        uint32_t lanes_count;
        char socket_path[108];
        struct ring_producer lane; /* in a producer */
        /* rte_ring */
        struct rte_ring *rings[LANE_MEDIA_PRODUCERS_MAX];
        uint32_t rings_count;
        size_t ring_bytes;
        /* pipe, sockets */
        int fds[LANE_MEDIA_PRODUCERS_MAX][2]; /* consumer's, producer's */
        uint32_t fds_count;
        /* slots */
        struct lane_media_slots *slots;
        uint64_t slots_sequence; /* records of its side */
        uint64_t slots_taken;    /* as the producer read it last */
        uint8_t out[PIPE_READ_BYTES];
        uint8_t messages[SOCKET_RECORDS][LANE_MEDIA_RECORD_BYTES];
};

_Noreturn void lane_media_die(const char *what, const char *why)
{
        (void)fprintf(stderr, "bench/%s: %s: %s\n", program_invocation_short_name, what, why);
        exit(1);
}

void *lane_media_shared(size_t bytes)
{
        void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                lane_media_die("memory", strerror(errno));
        memset(memory, 0, bytes);
        return memory;
}

void lane_media_rig_init(struct lane_media_rig *rig, uint32_t record_bytes, uint32_t producers)
{
        *rig = (struct lane_media_rig){
                .record_bytes = record_bytes, .producers = producers, .own = calloc(1, sizeof(*rig->own))};
        if (rig->own == NULL)
                lane_media_die("memory", "there is none");
}

void lane_media_rig_release(struct lane_media_rig *rig)
{
        free(rig->own);
}

/* ---------------------------------------------------------------------------------------------- lane */

static void media_lane_ready(void *context, struct ring_lane *lane, uint32_t shard)
{
        struct lane_media_own *own = context;
        (void)shard;
        if (own->lanes_count == LANE_MEDIA_PRODUCERS_MAX)
                lane_media_die("lane", "too many producers");
        own->lanes[own->lanes_count++] = lane;
}

static void media_lane_open(struct lane_media_rig *rig)
{
        struct err err = {0};
        struct lane_media_own *own = rig->own;
        (void)snprintf(own->socket_path, sizeof(own->socket_path), "/tmp/sendring-bench-lane-%d.sock", (int)getpid());
        struct ring_server_options options = {.socket_path = own->socket_path,
                                              .socket_mode = 0600,
                                              .lane_bytes_default = LANE_MEDIA_ROOM_BYTES,
                                              .lane_bytes_max = LANE_MEDIA_ROOM_BYTES,
                                              .lanes_max = LANE_MEDIA_PRODUCERS_MAX,
                                              .keeper_fd = -1,
                                              .beds = &own->bed,
                                              .shards_count = 1,
                                              .lane_ready = media_lane_ready,
                                              .context = own};
        if (ring_bed_create(&own->bed, &err) != ERR_OK || ring_server_create(&options, &own->server, &err) != ERR_OK)
                lane_media_die("lane", err.text);
}

static void media_lane_attach(struct lane_media_rig *rig)
{
        struct err err = {0};
        struct ring_attach_options options = {.socket_path = rig->own->socket_path, .name = "bench"};
        if (ring_producer_attach(&rig->own->lane, &options, &err) != ERR_OK)
                lane_media_die("attach", err.text);
}

static bool media_lane_attached(struct lane_media_rig *rig)
{
        ring_server_turn(rig->own->server);
        return rig->own->lanes_count == rig->producers;
}

static bool media_lane_send(struct lane_media_rig *rig, const uint8_t *record)
{
        uint8_t *payload;
        if (ring_reserve(&rig->own->lane, rig->record_bytes, &payload) != ERR_OK)
                return false;
        memcpy(payload, record, rig->record_bytes);
        return ring_commit(&rig->own->lane, rig->record_bytes) == ERR_OK;
}

static uint32_t media_lane_take(struct lane_media_rig *rig, lane_media_got *got, void *context)
{
        struct lane_media_own *own = rig->own;
        uint32_t count = 0;
        for (uint32_t i = 0; i < own->lanes_count; i++) {
                struct slice record;
                uint64_t position;
                if (ring_visit_begin(own->lanes[i]) == 0)
                        continue;
                while (ring_visit_next(own->lanes[i], &record, &position) != RING_VISIT_NOTHING) {
                        if (record.len != rig->record_bytes)
                                lane_media_die("lane", "a record of another size");
                        memcpy(own->out, record.ptr, rig->record_bytes);
                        got(context, own->out);
                        count++;
                }
                ring_visit_end(own->lanes[i]);
        }
        return count;
}

static void media_lane_close(struct lane_media_rig *rig)
{
        char lock_path[sizeof(rig->own->socket_path) + 8];
        ring_server_free(rig->own->server);
        ring_bed_free(rig->own->bed);
        (void)snprintf(lock_path, sizeof(lock_path), "%s.lock", rig->own->socket_path);
        (void)unlink(lock_path); /* a daemon leaves it for the next one; here there is none */
}

/* ---------------------------------------------------------------------------------------------- rte_ring */

/* Slots of exactly one record, as many as fit: what a ring of fixed records would have at best. */
static void media_rte_open(struct lane_media_rig *rig, unsigned producers_flag, uint32_t rings)
{
        struct lane_media_own *own = rig->own;
        uint32_t slots = 1;
        while (slots * 2 * rig->record_bytes <= LANE_MEDIA_ROOM_BYTES)
                slots *= 2;
        ssize_t bytes = rte_ring_get_memsize_elem(rig->record_bytes, slots);
        if (bytes < 0)
                lane_media_die("rte_ring", "a size that it does not take");
        own->ring_bytes = (size_t)bytes;
        for (own->rings_count = 0; own->rings_count < rings; own->rings_count++) {
                own->rings[own->rings_count] = lane_media_shared(own->ring_bytes);
                if (rte_ring_init(own->rings[own->rings_count], "bench", slots, producers_flag | RING_F_SC_DEQ) != 0)
                        lane_media_die("rte_ring", "cannot be made");
        }
}

static void media_rte_sp_open(struct lane_media_rig *rig)
{
        media_rte_open(rig, RING_F_SP_ENQ, rig->producers);
}

static void media_rte_mp_open(struct lane_media_rig *rig)
{
        media_rte_open(rig, 0, 1);
}

static void media_rte_rts_open(struct lane_media_rig *rig)
{
        media_rte_open(rig, RING_F_MP_RTS_ENQ, 1);
}

static void media_rte_hts_open(struct lane_media_rig *rig)
{
        media_rte_open(rig, RING_F_MP_HTS_ENQ, 1);
}

static bool media_rte_zero_copy_send(struct lane_media_rig *rig, const uint8_t *record)
{
        struct lane_media_own *own = rig->own;
        struct rte_ring *ring = own->rings[own->rings_count == 1 ? 0 : rig->producer];
        struct rte_ring_zc_data room;
        if (rte_ring_enqueue_zc_burst_elem_start(ring, rig->record_bytes, 1, &room, NULL) != 1)
                return false;
        memcpy(room.ptr1, record, rig->record_bytes);
        rte_ring_enqueue_zc_elem_finish(ring, 1);
        return true;
}

static bool media_rte_mp_send(struct lane_media_rig *rig, const uint8_t *record)
{
        return rte_ring_mp_enqueue_elem(rig->own->rings[0], (void *)(uintptr_t)record, rig->record_bytes) == 0;
}

static bool media_rte_rts_send(struct lane_media_rig *rig, const uint8_t *record)
{
        return rte_ring_mp_rts_enqueue_bulk_elem(rig->own->rings[0], record, rig->record_bytes, 1, NULL) == 1;
}

static uint32_t media_rte_take(struct lane_media_rig *rig, lane_media_got *got, void *context)
{
        struct lane_media_own *own = rig->own;
        uint32_t count = 0;
        for (uint32_t i = 0; i < own->rings_count; i++) {
                struct rte_ring_zc_data records;
                uint32_t there = rte_ring_dequeue_zc_burst_elem_start(own->rings[i], rig->record_bytes,
                                                                      TAKE_RECORDS_MAX, &records, NULL);
                if (there == 0)
                        continue;
                for (uint32_t k = 0; k < there; k++) {
                        const uint8_t *from =
                                k < records.n1
                                        ? (const uint8_t *)records.ptr1 + (size_t)k * rig->record_bytes
                                        : (const uint8_t *)records.ptr2 + (size_t)(k - records.n1) * rig->record_bytes;
                        memcpy(own->out, from, rig->record_bytes);
                        got(context, own->out);
                }
                rte_ring_dequeue_zc_elem_finish(own->rings[i], there);
                count += there;
        }
        return count;
}

static void media_rte_close(struct lane_media_rig *rig)
{
        while (rig->own->rings_count > 0)
                (void)munmap(rig->own->rings[--rig->own->rings_count], rig->own->ring_bytes);
}

/* ---------------------------------------------------------------------------------------------- pipe and socket */

static void media_pipe_open(struct lane_media_rig *rig)
{
        struct lane_media_own *own = rig->own;
        if (pipe2(own->fds[0], O_NONBLOCK | O_CLOEXEC) != 0)
                lane_media_die("pipe", strerror(errno));
        own->fds_count = 1;
        (void)fcntl(own->fds[0][1], F_SETPIPE_SZ, LANE_MEDIA_ROOM_BYTES); /* refused: it stays smaller */
}

static bool media_pipe_send(struct lane_media_rig *rig, const uint8_t *record)
{
        /* At most PIPE_BUF bytes: all of them or nothing, whoever else writes. */
        ssize_t wrote = write(rig->own->fds[0][1], record, rig->record_bytes);
        if (wrote < 0 && errno != EAGAIN && errno != EINTR)
                lane_media_die("pipe", strerror(errno));
        return wrote == (ssize_t)rig->record_bytes;
}

static uint32_t media_pipe_take(struct lane_media_rig *rig, lane_media_got *got, void *context)
{
        struct lane_media_own *own = rig->own;
        ssize_t there = read(own->fds[0][0], own->out, sizeof(own->out) / rig->record_bytes * rig->record_bytes);
        if (there <= 0)
                return 0;
        for (ssize_t at = 0; at < there; at += rig->record_bytes)
                got(context, own->out + at);
        return (uint32_t)there / rig->record_bytes;
}

static void media_seqpacket_open(struct lane_media_rig *rig)
{
        struct lane_media_own *own = rig->own;
        const int room_bytes = (int)LANE_MEDIA_ROOM_BYTES;
        for (own->fds_count = 0; own->fds_count < rig->producers; own->fds_count++) {
                int *pair = own->fds[own->fds_count];
                if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
                        lane_media_die("socketpair", strerror(errno));
                /* The kernel gives less where net.core.wmem_max says so. */
                (void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room_bytes, sizeof(room_bytes));
        }
}

static bool media_seqpacket_send(struct lane_media_rig *rig, const uint8_t *record)
{
        ssize_t sent = send(rig->own->fds[rig->producer][1], record, rig->record_bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
                lane_media_die("send", strerror(errno));
        return sent == (ssize_t)rig->record_bytes;
}

static uint32_t media_seqpacket_take(struct lane_media_rig *rig, lane_media_got *got, void *context)
{
        struct lane_media_own *own = rig->own;
        struct iovec vectors[SOCKET_RECORDS];
        struct mmsghdr headers[SOCKET_RECORDS];
        uint32_t count = 0;
        for (uint32_t k = 0; k < SOCKET_RECORDS; k++) {
                vectors[k] = (struct iovec){own->messages[k], LANE_MEDIA_RECORD_BYTES};
                headers[k] = (struct mmsghdr){.msg_hdr = {.msg_iov = &vectors[k], .msg_iovlen = 1}};
        }
        for (uint32_t i = 0; i < own->fds_count; i++) {
                int there = recvmmsg(own->fds[i][0], headers, SOCKET_RECORDS, MSG_DONTWAIT, NULL);
                for (int k = 0; k < there; k++) {
                        if (headers[k].msg_len != rig->record_bytes)
                                lane_media_die("socket", "a record of another size");
                        got(context, own->messages[k]);
                }
                count += there > 0 ? (uint32_t)there : 0;
        }
        return count;
}

static void media_fds_close(struct lane_media_rig *rig)
{
        struct lane_media_own *own = rig->own;
        for (; own->fds_count > 0; own->fds_count--) {
                (void)close(own->fds[own->fds_count - 1][0]);
                (void)close(own->fds[own->fds_count - 1][1]);
        }
}

/* ---------------------------------------------------------------------------------------------- slots */

struct lane_media_slots {
        /* Of the consumer: records taken. Read by the producer only when, by what it read last, no slot is free. */
        _Atomic uint64_t taken;
        uint8_t padding[120];
        struct lane_media_slot {
                _Atomic uint64_t sequence; /* of the record in it, from 1 */
                uint8_t record[LANE_MEDIA_RECORD_BYTES];
                uint8_t padding[120];
        } of[SLOTS];
};

static void media_slots_open(struct lane_media_rig *rig)
{
        rig->own->slots = lane_media_shared(sizeof(*rig->own->slots));
}

static bool media_slots_send(struct lane_media_rig *rig, const uint8_t *record)
{
        struct lane_media_own *own = rig->own;
        struct lane_media_slot *slot = &own->slots->of[own->slots_sequence % SLOTS];
        if (own->slots_sequence - own->slots_taken == SLOTS) {
                own->slots_taken = atomic_load_explicit(&own->slots->taken, memory_order_acquire);
                if (own->slots_sequence - own->slots_taken == SLOTS)
                        return false;
        }
        memcpy(slot->record, record, rig->record_bytes);
        /* Pairs with the acquire in media_slots_take(). */
        atomic_store_explicit(&slot->sequence, ++own->slots_sequence, memory_order_release);
        return true;
}

static uint32_t media_slots_take(struct lane_media_rig *rig, lane_media_got *got, void *context)
{
        struct lane_media_own *own = rig->own;
        struct lane_media_slot *slot = &own->slots->of[own->slots_sequence % SLOTS];
        if (atomic_load_explicit(&slot->sequence, memory_order_acquire) != own->slots_sequence + 1)
                return 0;
        memcpy(own->out, slot->record, rig->record_bytes);
        got(context, own->out);
        /* Pairs with the acquire in media_slots_send(). */
        atomic_store_explicit(&own->slots->taken, ++own->slots_sequence, memory_order_release);
        return 1;
}

static void media_slots_close(struct lane_media_rig *rig)
{
        (void)munmap(rig->own->slots, sizeof(*rig->own->slots));
}

/* ---------------------------------------------------------------------------------------------- all of them */

const struct lane_medium lane_media[LANE_MEDIA] = {
        [LANE_MEDIUM_LANE] = {"lane", media_lane_open, media_lane_attach, media_lane_attached, media_lane_send,
                              media_lane_take, media_lane_close},
        [LANE_MEDIUM_RTE_SP] = {"rte_sp", media_rte_sp_open, NULL, NULL, media_rte_zero_copy_send, media_rte_take,
                                media_rte_close},
        [LANE_MEDIUM_RTE_MP] = {"rte_mp", media_rte_mp_open, NULL, NULL, media_rte_mp_send, media_rte_take,
                                media_rte_close},
        [LANE_MEDIUM_RTE_RTS] = {"rte_rts", media_rte_rts_open, NULL, NULL, media_rte_rts_send, media_rte_take,
                                 media_rte_close},
        [LANE_MEDIUM_RTE_HTS] = {"rte_hts", media_rte_hts_open, NULL, NULL, media_rte_zero_copy_send, media_rte_take,
                                 media_rte_close},
        [LANE_MEDIUM_PIPE] = {"pipe", media_pipe_open, NULL, NULL, media_pipe_send, media_pipe_take, media_fds_close},
        [LANE_MEDIUM_SEQPACKET] = {"seqpacket", media_seqpacket_open, NULL, NULL, media_seqpacket_send,
                                   media_seqpacket_take, media_fds_close},
        [LANE_MEDIUM_SLOTS] = {"slots", media_slots_open, NULL, NULL, media_slots_send, media_slots_take,
                               media_slots_close},
};
