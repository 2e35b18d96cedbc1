/* The producer's way in and out: attach, reattach, detach. Linked into other people's programs: no assertion, no log,
 * no malloc, no signal. */
#include "ring/ring_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define RING_ATTACH_TIMEOUT_MS_DEFAULT 2000u
/* Between two tries when a router died in the middle of a handshake. */
#define RING_ATTACH_PAUSE_MS 20

/* The time left, at least 0, for poll(). */
static int ring_left_ms(uint64_t deadline_ns)
{
        uint64_t now_ns = ring_now_ns();
        if (now_ns >= deadline_ns)
                return 0;
        return (int)((deadline_ns - now_ns + 999999) / 1000000);
}

static enum err_code ring_connect(const char *path, uint64_t deadline_ns, int *ret_fd, struct err *reterr)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        size_t path_bytes = strlen(path);
        if (path_bytes == 0 || path_bytes >= sizeof(address.sun_path))
                return err_set(reterr, ERR_CONNECT, "socket path \"%s\" is empty or longer than %zu bytes", path,
                               sizeof(address.sun_path) - 1);
        memcpy(address.sun_path, path, path_bytes);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "make a socket");
        /* connect() waits for room in the backlog; this bounds it. 0 would mean for ever. */
        int left_ms = ring_left_ms(deadline_ns);
        struct timeval timeout = {.tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000 + 1};
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)); /* cannot fail with these values */
        int result;
        do {
                result = connect(fd, (const struct sockaddr *)&address, sizeof(address));
        } while (result < 0 && errno == EINTR && ring_left_ms(deadline_ns) > 0);
        if (result == 0) {
                *ret_fd = fd;
                return ERR_OK;
        }
        int connect_errno = errno;
        (void)close(fd); /* nothing was sent */
        if (connect_errno == EAGAIN || connect_errno == EINTR)
                return err_set(reterr, ERR_TIMEOUT, "the router at %s does not accept connections in time", path);
        if (connect_errno == EACCES || connect_errno == EPERM)
                return err_set_errno(reterr, ERR_PERMISSION, connect_errno,
                                     "user %u may not open the router's socket %s (socket_mode in sendring.yaml)",
                                     (unsigned)geteuid(), path);
        return err_set_errno(reterr, ERR_CONNECT, connect_errno, "connect to the router at %s", path);
}

static enum err_code ring_refusal(const struct ring_message *message, struct err *reterr)
{
        switch ((enum ring_status)message->status) {
        case RING_STATUS_VERSION:
                return err_set(reterr, ERR_VERSION,
                               "the router speaks version %u, this library %u: start this program anew with the "
                               "libsendring that belongs to it",
                               message->version, RING_VERSION);
        case RING_STATUS_DENIED:
                return err_set(reterr, ERR_PERMISSION, "the router does not allow user %u (allow: in sendring.yaml)",
                               (unsigned)geteuid());
        case RING_STATUS_LIMIT:
                return err_set(reterr, ERR_LIMIT, "the router has no lane left (lanes_max in sendring.yaml)");
        case RING_STATUS_USER_LIMIT:
                return err_set(reterr, ERR_LIMIT,
                               "user %u has all the lanes that one user may have (lanes_per_user_max in sendring.yaml)",
                               (unsigned)geteuid());
        case RING_STATUS_BUSY:
                return err_set(reterr, ERR_CONNECT, "the router is shutting down or overloaded");
        case RING_STATUS_SYSTEM:
                return err_set(reterr, ERR_LIMIT, "the router could not make a lane: see its log");
        case RING_STATUS_OK:
        case RING_STATUS_MALFORMED:
                break;
        }
        return err_set(reterr, ERR_PROTOCOL, "the router refused for an unknown reason (%u)", message->status);
}

/* Maps what a lane message brought: data, daemon page, bed, bell. Owns the fds. */
static enum err_code ring_producer_take_lane(struct ring_producer *producer, const struct ring_message *message,
                                             int fds[RING_MESSAGE_FDS_MAX], size_t fds_count, struct err *reterr)
{
        const unsigned seals = F_SEAL_SHRINK | F_SEAL_GROW;
        uint8_t *map = NULL;
        void *page = NULL;
        void *bed_page = NULL;
        enum err_code code = ERR_OK;
        if (fds_count != 4 || !ring_lane_bytes_ok(message->lane_bytes))
                code = err_set(reterr, ERR_PROTOCOL, "the router sent a malformed lane");
        if (code == ERR_OK)
                code = ring_memfd_check(fds[0], message->lane_bytes + RING_PAGE_BYTES, seals, reterr);
        if (code == ERR_OK)
                code = ring_memfd_check(fds[1], RING_PAGE_BYTES, seals, reterr);
        if (code == ERR_OK)
                code = ring_memfd_check(fds[2], RING_PAGE_BYTES, seals, reterr);
        if (code == ERR_OK)
                code = ring_data_map(fds[0], message->lane_bytes, &map, reterr);
        if (code == ERR_OK)
                code = ring_page_map(fds[1], PROT_READ, &page, reterr);
        if (code == ERR_OK)
                code = ring_page_map(fds[2], PROT_READ, &bed_page, reterr);
        if (code == ERR_OK) {
                const struct ring_head_page *head_page = (const struct ring_head_page *)(const void *)map;
                if (head_page->magic != RING_MAGIC_HEAD_PAGE || head_page->lane_id != message->lane_id)
                        code = err_set(reterr, ERR_PROTOCOL, "the router sent memory that is not a lane");
        }
        if (code == ERR_OK) {
                producer->lane_id = message->lane_id;
                producer->lane_bytes = message->lane_bytes;
                producer->payload_bytes_max = ring_payload_bytes_max(message->lane_bytes);
                code = ring_producer_use_pages(producer, page, bed_page, reterr);
        }
        if (code != ERR_OK) {
                ring_data_unmap(map, message->lane_bytes);
                ring_page_unmap(page);
                ring_page_unmap(bed_page);
                ring_fds_close(fds, fds_count);
                return code;
        }
        producer->head_page = map;
        producer->data = map + RING_PAGE_BYTES;
        producer->bell_fd = fds[3];
        producer->bell_identity = ring_identity_of(fds[3]);
        ring_fds_close(fds, 3); /* the mappings keep the memory */
        return ERR_OK;
}

/* One try on one connection. ERR_RESET: the router went away in between, another try may do. */
static enum err_code ring_handshake(struct ring_producer *producer, const struct ring_attach_options *options, int fd,
                                    uint64_t deadline_ns, struct err *reterr)
{
        struct ring_message message;
        int fds[RING_MESSAGE_FDS_MAX];
        size_t fds_count;
        ring_message_init(&message, RING_MESSAGE_HELLO);
        message.lane_bytes = options->lane_bytes;
        if (options->name != NULL) {
                size_t name_bytes = strlen(options->name);
                if (name_bytes > sizeof(message.name) - 1)
                        name_bytes = sizeof(message.name) - 1;
                memcpy(message.name, options->name, name_bytes);
        }
        enum err_code code = ring_message_send(fd, &message, NULL, 0);
        if (code != ERR_OK)
                return code == ERR_DETACHED ? err_set(reterr, ERR_RESET, "the router closed the connection")
                                            : err_set_errno(reterr, ERR_SYSTEM, errno, "send to the router");
        for (;;) {
                struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
                int ready = poll(&poll_fd, 1, ring_left_ms(deadline_ns));
                if (ready < 0 && errno != EINTR)
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "wait for the router");
                code = ring_message_receive(fd, &message, fds, &fds_count);
                if (code != ERR_EMPTY)
                        break;
                if (ring_left_ms(deadline_ns) == 0)
                        return err_set(reterr, ERR_TIMEOUT, "the router at %s did not answer in time",
                                       options->socket_path);
        }
        if (code == ERR_DETACHED)
                return err_set(reterr, ERR_RESET, "the router closed the connection");
        if (code == ERR_VERSION)
                return err_set(reterr, ERR_VERSION,
                               "the router speaks version %u, this library %u: start this program anew with the "
                               "libsendring that belongs to it",
                               message.version, RING_VERSION);
        if (code == ERR_LIMIT)
                return err_set(reterr, ERR_LIMIT, "this process has no descriptors left for a lane (ulimit -n)");
        if (code != ERR_OK)
                return err_set(reterr, ERR_PROTOCOL, "the router's answer is malformed");
        switch (message.kind) {
        case RING_MESSAGE_LANE:
                return ring_producer_take_lane(producer, &message, fds, fds_count, reterr);
        case RING_MESSAGE_PAGE:
                /* A router made the lane, died before it said so, and the next one took it over. */
                ring_fds_close(fds, fds_count);
                return err_set(reterr, ERR_RESET, "the router was restarted");
        case RING_MESSAGE_REFUSED:
                ring_fds_close(fds, fds_count);
                return ring_refusal(&message, reterr);
        default:
                ring_fds_close(fds, fds_count);
                return err_set(reterr, ERR_PROTOCOL, "the router's answer is of an unknown kind (%u)", message.kind);
        }
}

enum err_code ring_producer_attach(struct ring_producer *producer, const struct ring_attach_options *options,
                                   struct err *reterr)
{
        uint32_t timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : RING_ATTACH_TIMEOUT_MS_DEFAULT;
        uint64_t deadline_ns = ring_now_ns() + (uint64_t)timeout_ms * 1000000u;
        int saved_errno = errno;
        enum err_code code;
        for (;;) {
                int fd = -1;
                *producer = (struct ring_producer){.connection_fd = -1, .bell_fd = -1};
                /* Per process and idempotent; where it is refused, this producer fences. */
                producer->fence_always = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) != 0;
                code = ring_connect(options->socket_path, deadline_ns, &fd, reterr);
                if (code == ERR_OK) {
                        code = ring_handshake(producer, options, fd, deadline_ns, reterr);
                        if (code == ERR_OK) {
                                producer->connection_fd = fd;
                                producer->connection_identity = ring_identity_of(fd);
                                break;
                        }
                        (void)close(fd); /* the router sees it end */
                }
                if (code != ERR_RESET || ring_left_ms(deadline_ns) == 0)
                        break;
                (void)poll(NULL, 0, RING_ATTACH_PAUSE_MS); /* an early end does no harm */
        }
        errno = saved_errno;
        return code;
}

static void ring_producer_release(struct ring_producer *producer)
{
        /* A bell looks like any eventfd, epoll set or timer: not where the host has closed the connection, and so what
         * it does not know. */
        if (ring_is_own(producer->connection_fd, producer->connection_identity))
                ring_own_close(&producer->bell_fd, producer->bell_identity);
        ring_own_close(&producer->connection_fd, producer->connection_identity);
        ring_data_unmap(producer->head_page, producer->lane_bytes);
        ring_page_unmap(producer->daemon_page);
        ring_page_unmap(producer->bed_page);
        *producer = (struct ring_producer){.connection_fd = -1, .bell_fd = -1, .detached = true};
}

void ring_producer_detach(struct ring_producer *producer)
{
        int saved_errno = errno;
        /* Not close alone: a forked child may hold the connection too. */
        if (ring_is_own(producer->connection_fd, producer->connection_identity))
                (void)shutdown(producer->connection_fd, SHUT_RDWR); /* it may have ended already */
        ring_producer_release(producer);
        errno = saved_errno;
}

void ring_producer_abandon(struct ring_producer *producer)
{
        int saved_errno = errno;
        ring_producer_release(producer);
        errno = saved_errno;
}

/* 0: none. */
static uint32_t ring_record_payload_bytes(const struct ring_producer *producer, uint64_t position, uint32_t *ret_kind)
{
        uint64_t header;
        memcpy(&header, producer->data + (position & (producer->lane_bytes - 1)), sizeof(header));
        uint32_t payload_bytes = (uint32_t)header;
        *ret_kind = (uint32_t)(header >> 32);
        uint32_t payload_bytes_max = *ret_kind == RING_KIND_EVENT    ? producer->payload_bytes_max
                                     : *ret_kind == RING_KIND_REPLAY ? ring_replay_bytes_max(producer->lane_bytes)
                                                                     : 0;
        return payload_bytes <= payload_bytes_max ? payload_bytes : 0;
}

/* Where the records begin that nobody has taken, as far as this process can know: behind what the last page says, and
 * behind the zeros that a router has left whose page we never got, at the first place from which record follows record
 * up to head. Those are ours, but for a host that writes into our memory. */
static uint64_t ring_carry_begin(const struct ring_producer *producer)
{
        uint64_t position = ring_page_taken((const struct ring_daemon_page *)(const void *)producer->daemon_page,
                                            producer->lane_bytes);
        if ((int64_t)(producer->carried - position) > 0)
                position = producer->carried;
        /* Zeros cost one look each; a bound for bytes that look like headers. */
        uint64_t looks_left = producer->lane_bytes;
        while ((int64_t)(producer->head - position) > 0) {
                uint64_t at = position;
                uint32_t payload_bytes, kind;
                while ((int64_t)(producer->head - at) > 0 && looks_left > 0 &&
                       (payload_bytes = ring_record_payload_bytes(producer, at, &kind)) > 0) {
                        at += ring_record_bytes(payload_bytes);
                        looks_left--;
                }
                if (at == producer->head || looks_left == 0)
                        break;
                position += RING_HEADER_BYTES;
                looks_left--;
        }
        return looks_left > 0 && (int64_t)(producer->head - position) > 0 ? position : producer->head;
}

/* Copies the records from *position on into the staged part of `fresh`; *position moves over them. ERR_LIMIT when they
 * do not all fit there. */
static enum err_code ring_carry_over(const struct ring_producer *producer, uint64_t *position,
                                     struct ring_producer *fresh)
{
        while (*position != producer->head) {
                uint8_t *payload;
                uint32_t kind;
                uint32_t payload_bytes = ring_record_payload_bytes(producer, *position, &kind);
                if (payload_bytes == 0)
                        return ERR_BUG; /* somebody writes into our memory in this very moment */
                enum err_code code = ring_reserve_kind(fresh, kind, payload_bytes, &payload);
                if (code == ERR_FULL || code == ERR_TOO_BIG)
                        return ERR_LIMIT;
                if (code != ERR_OK)
                        return code;
                memcpy(payload, producer->data + (*position & (producer->lane_bytes - 1)) + RING_HEADER_BYTES,
                       payload_bytes);
                code = ring_stage_kind(fresh, kind, payload_bytes);
                if (code != ERR_OK)
                        return code;
                *position += ring_record_bytes(payload_bytes);
        }
        return ERR_OK;
}

/* True when the lane goes on: a router that follows the one which told us to stop has taken it over, and we have the
 * page that it raised RING_ATTENTION_PAGE for, which none does that is ending. Not under an older one: this router
 * may begin behind what we have withdrawn, and what we publish there it would never see. RING_ATTENTION_ROOM: takes
 * that older one, the router's own follows. Where the connection has ended, takes the pages that wait in it: the last
 * one has the tail. */
static bool ring_producer_goes_on(struct ring_producer *producer)
{
        const struct ring_head_page *head_page = (const struct ring_head_page *)(const void *)producer->head_page;
        /* Relaxed: a hint, ring_producer_refresh() acquires. */
        uint32_t attention = atomic_load_explicit(&head_page->attention, memory_order_relaxed);
        uint32_t pages_taken = producer->pages_taken;
        if (attention != RING_ATTENTION_PAGE && attention != RING_ATTENTION_ROOM &&
            !ring_producer_connection_ended(producer))
                return false;
        producer->detached = false;
        if (ring_producer_refresh(producer, NULL) != ERR_OK || producer->left || attention != RING_ATTENTION_PAGE ||
            producer->pages_taken == pages_taken)
                producer->detached = true;
        return !producer->detached;
}

enum err_code ring_producer_reattach(struct ring_producer *producer, const struct ring_attach_options *options,
                                     struct err *reterr)
{
        struct ring_producer fresh;
        if (producer->head_page == NULL)
                return ring_producer_attach(producer, options, reterr);
        if (producer->reserved || producer->staged != producer->head)
                return err_set(reterr, ERR_BUG, "attach again with an open reservation");
        if (ring_producer_goes_on(producer))
                return ERR_OK;
        if (producer->left && !ring_producer_connection_ended(producer))
                return err_set(reterr, ERR_CONNECT, "the router still takes what the lane holds");
        struct ring_attach_options wish = *options;
        /* Room for what comes along, also where the router's default is smaller than it was. */
        if (wish.lane_bytes < producer->lane_bytes && ring_producer_connection_ended(producer) &&
            ring_carry_begin(producer) != producer->head)
                wish.lane_bytes = (uint32_t)producer->lane_bytes;
        const bool ended = ring_producer_connection_ended(producer);
        enum err_code code = ring_producer_attach(&fresh, &wish, reterr);
        if (code != ERR_OK)
                return code;
        /* That may have been another router than at the first look. */
        if (ring_producer_goes_on(producer)) {
                ring_producer_detach(&fresh);
                return ERR_OK;
        }
        if (!ring_producer_connection_ended(producer)) {
                /* It has the old lane as well, and its page came to nothing here (no memory, no descriptor). What it
                 * takes in this moment must not be copied. Told that the producer has left, it drains the lane and
                 * ends the connection; killed meanwhile, with its keeper, it leaves the rest to us. */
                (void)shutdown(producer->connection_fd, SHUT_WR); /* it may have ended already */
                producer->left = true;
                ring_producer_detach(&fresh);
                return err_set(reterr, ERR_CONNECT, "the router still takes what the lane holds");
        }
        if (producer->durable && !ended) {
                /* It may have taken the last of it behind the place up to which the new lane's first flush waits. */
                ring_producer_detach(&fresh);
                return err_set(reterr, ERR_CONNECT, "the router has just ended the old lane");
        }
        uint64_t position = ring_carry_begin(producer);
        code = ring_carry_over(producer, &position, &fresh);
        if (code == ERR_OK) {
                code = ring_publish_staged(&fresh);
        } else if (code == ERR_LIMIT && fresh.staged != fresh.head && ring_publish_staged(&fresh) == ERR_OK) {
                /* router.lane_bytes_max is smaller now. In parts, then: this one is drained as what an exited producer
                 * has left. */
                producer->carried = position;
        }
        if (code != ERR_OK) {
                ring_producer_detach(&fresh);
                return code == ERR_LIMIT ? err_set(reterr, ERR_LIMIT,
                                                   "the new lane is too small for what the old one still holds, which "
                                                   "goes in parts; for a large event raise router.lane_bytes_max")
                                         : err_set(reterr, code, "carry the lane over: %s", err_text(code));
        }
        fresh.wakeups += producer->wakeups;
        fresh.full += producer->full;
        ring_producer_detach(producer);
        *producer = fresh;
        return ERR_OK;
}
