/* io/io.h on a network in memory. An operation is a line in a table until it is due; a turn of the loop ends those that
 * are, in an order that the seed shuffles. A socket is two queues of bytes: what the client has sent and the endpoint
 * has yet to read whole, and what the endpoint answered, in pieces with a time each. */
#include "io/io.h"

#include "base/assert.h"
#include "base/clock.h"
#include "io/disk.h"
#include "tests/sim/sim.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define SIM_OPS_MAX     128u
#define SIM_SOCKETS_MAX 64u
#define SIM_SOCKET_BASE 2000000
#define SIM_REQUEST_MAX ((size_t)1024 * 1024)
#define SIM_PIECES_MAX  64u
#define SIM_WIRE_NS     (2 * CLOCK_NS_PER_MS) /* most times, the longest way of a piece */
#define SIM_DISK_NS     CLOCK_NS_PER_MS
#define SIM_HANG_NS     (30 * CLOCK_NS_PER_S)
#define SIM_FILE        "/var/log/sendring/" /* what sim_disk_faults.file_hang is about */

enum sim_kind {
        SIM_NONE,
        SIM_CONNECT,
        SIM_RECV,
        SIM_SEND,
        SIM_TIMER,
        /* on files */
        SIM_OPEN,
        SIM_CLOSE,
        SIM_STAT,
        SIM_RENAME,
        SIM_TRUNCATE,
        SIM_READ,
        SIM_WRITE,
        SIM_SYNC,
        SIM_SYNC_DIRECTORY,
};

struct sim_op {
        struct io_loop *loop;
        struct io_op *op;
        enum sim_kind kind;
        bool cancelled;
        int fd;
        int flags; /* of an open; of a rename: it replaces */
        const char *path, *other_path;
        void *to;
        const void *from;
        size_t bytes;
        uint64_t offset;
        uint64_t due_ns;
};

struct sim_piece {
        uint8_t *bytes;
        size_t len, taken;
        uint64_t due_ns;
};

struct sim_socket {
        bool used, connected, shut, reset, ended; /* ended: no byte follows the pieces */
        enum sim_connect fate;
        struct sim_endpoint *endpoint;
        uint8_t *request;
        size_t request_len;
        struct sim_piece pieces[SIM_PIECES_MAX];
        uint32_t pieces_count, pieces_taken;
        uint64_t counted; /* of the request whose answer is on its way */
};

struct io_loop {
        bool aside; /* its thread waits for it, and does nothing else with it meanwhile: no worker's */
        struct io_op *posted, **posted_last;
};

static struct sim_op ops[SIM_OPS_MAX];
static struct sim_socket sockets[SIM_SOCKETS_MAX];
static uint64_t wish_ns = UINT64_MAX;
static bool sleeps;

uint64_t sim_network_wish_ns(void)
{
        return wish_ns;
}

void sim_network_sleeps(bool wanted)
{
        sleeps = wanted;
}

/* ---------------------------------------------------------------------------------------------- loops */

enum err_code io_loop_create(const struct io_options *options, struct io_loop **ret_loop, struct err *reterr)
{
        (void)options;
        struct io_loop *loop = calloc(1, sizeof(*loop));
        if (loop == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for a loop");
        loop->aside = sleeps;
        loop->posted_last = &loop->posted;
        *ret_loop = loop;
        return ERR_OK;
}

void io_loop_free(struct io_loop *loop)
{
        if (loop == NULL)
                return;
        SIM_CHECK(io_loop_pending(loop) == 0);
        free(loop);
}

void io_loop_wake(struct io_loop *loop)
{
        (void)loop; /* the world turns it anyway */
}

uint32_t io_loop_pending(const struct io_loop *loop)
{
        uint32_t count = 0;
        for (uint32_t i = 0; i < SIM_OPS_MAX; i++)
                count += ops[i].kind != SIM_NONE && ops[i].loop == loop;
        return count;
}

void io_post(struct io_loop *loop, struct io_op *op)
{
        op->next = NULL;
        *loop->posted_last = op;
        loop->posted_last = &op->next;
}

/* ---------------------------------------------------------------------------------------------- operations */

static struct sim_op *submit(struct io_loop *loop, struct io_op *op, enum sim_kind kind, int fd, uint64_t after_ns)
{
        ASSERT(!op->submitted);
        for (uint32_t i = 0; i < SIM_OPS_MAX; i++) {
                if (ops[i].kind != SIM_NONE)
                        continue;
                op->submitted = true;
                ops[i] = (struct sim_op){
                        .loop = loop, .op = op, .kind = kind, .fd = fd, .due_ns = sim_now_ns() + after_ns};
                return &ops[i];
        }
        sim_fail("more than %u operations", SIM_OPS_MAX);
}

/* On a file, whose disk is fast, or hangs for a while. */
static struct sim_op *submit_file(struct io_loop *loop, struct io_op *op, enum sim_kind kind, int fd)
{
        if (!loop->aside && fd >= 0 && sim_disk_is(fd, SIM_FILE) && sim_chance(sim_disk_faults.file_hang))
                return submit(loop, op, kind, fd, UINT64_MAX - sim_now_ns());
        const bool syncs = kind == SIM_SYNC || kind == SIM_SYNC_DIRECTORY;
        return submit(loop, op, kind, fd,
                      sim_below(sim_chance(sim_disk_faults.hang) ? SIM_HANG_NS
                                : syncs                          ? 4 * SIM_DISK_NS
                                                                 : SIM_DISK_NS));
}

static struct sim_socket *socket_of(int fd)
{
        SIM_CHECK(fd >= SIM_SOCKET_BASE && fd < SIM_SOCKET_BASE + (int)SIM_SOCKETS_MAX);
        struct sim_socket *own = &sockets[fd - SIM_SOCKET_BASE];
        SIM_CHECK(own->used);
        return own;
}

int io_socket(int family)
{
        SIM_CHECK(family == AF_INET);
        for (uint32_t i = 0; i < SIM_SOCKETS_MAX; i++) {
                if (sockets[i].used)
                        continue;
                uint8_t *request = sockets[i].request;
                sockets[i] = (struct sim_socket){.used = true, .request = request};
                if (request == NULL)
                        sockets[i].request = malloc(SIM_REQUEST_MAX);
                SIM_CHECK(sockets[i].request != NULL);
                return SIM_SOCKET_BASE + (int)i;
        }
        errno = EMFILE;
        return -1;
}

void io_socket_shutdown(int fd)
{
        socket_of(fd)->shut = true;
}

/* An answer that is not read whole never came: whatever its request had counted may be sent again. */
static void socket_close(struct sim_socket *own)
{
        if (own->endpoint != NULL)
                own->endpoint->ambiguous += own->counted;
        own->counted = 0;
        for (uint32_t i = 0; i < own->pieces_count; i++)
                free(own->pieces[i].bytes);
        own->pieces_count = own->pieces_taken = 0;
        own->used = false;
}

void io_socket_close(int fd)
{
        struct sim_socket *own = socket_of(fd);
        for (uint32_t i = 0; i < SIM_OPS_MAX; i++)
                SIM_CHECK(ops[i].kind == SIM_NONE || ops[i].fd != fd);
        socket_close(own);
}

void io_connect(struct io_loop *loop, struct io_op *op, int fd, const struct sockaddr *address, socklen_t address_bytes)
{
        struct sockaddr_in in;
        SIM_CHECK(address_bytes == sizeof(in));
        memcpy(&in, address, sizeof(in));
        struct sim_socket *own = socket_of(fd);
        own->endpoint = sim_endpoint_at(ntohs(in.sin_port));
        own->fate = sim_endpoint_connect(own->endpoint);
        struct sim_op *line = submit(loop, op, SIM_CONNECT, fd, sim_below(SIM_WIRE_NS));
        if (own->fate == SIM_CONNECT_HANGS)
                line->due_ns = UINT64_MAX;
}

void io_recv(struct io_loop *loop, struct io_op *op, int fd, void *buffer, size_t bytes)
{
        struct sim_op *line = submit(loop, op, SIM_RECV, fd, 0);
        line->to = buffer;
        line->bytes = bytes;
}

void io_send(struct io_loop *loop, struct io_op *op, int fd, const void *buffer, size_t bytes)
{
        struct sim_op *line = submit(loop, op, SIM_SEND, fd, sim_below(SIM_WIRE_NS));
        line->from = buffer;
        line->bytes = bytes;
}

void io_open(struct io_loop *loop, struct io_op *op, const char *path, int flags, mode_t mode)
{
        (void)mode;
        struct sim_op *line = submit_file(loop, op, SIM_OPEN, -1);
        line->path = path;
        line->flags = flags;
}

void io_close(struct io_loop *loop, struct io_op *op, int fd)
{
        (void)submit_file(loop, op, SIM_CLOSE, fd);
}

void io_stat(struct io_loop *loop, struct io_op *op, int fd, struct statx *ret_status)
{
        submit_file(loop, op, SIM_STAT, fd)->to = ret_status;
}

void io_stat_path(struct io_loop *loop, struct io_op *op, const char *path, struct statx *ret_status)
{
        struct sim_op *line = submit_file(loop, op, SIM_STAT, -1);
        line->path = path;
        line->to = ret_status;
}

void io_rename(struct io_loop *loop, struct io_op *op, const char *from, const char *to, bool replace)
{
        struct sim_op *line = submit_file(loop, op, SIM_RENAME, -1);
        line->path = from;
        line->other_path = to;
        line->flags = replace;
}

void io_truncate(struct io_loop *loop, struct io_op *op, int fd, uint64_t bytes)
{
        submit_file(loop, op, SIM_TRUNCATE, fd)->offset = bytes;
}

void io_read(struct io_loop *loop, struct io_op *op, int fd, void *buffer, size_t bytes, uint64_t offset)
{
        struct sim_op *line = submit_file(loop, op, SIM_READ, fd);
        line->to = buffer;
        line->bytes = bytes;
        line->offset = offset;
}

void io_write(struct io_loop *loop, struct io_op *op, int fd, const void *buffer, size_t bytes, uint64_t offset)
{
        struct sim_op *line = submit_file(loop, op, SIM_WRITE, fd);
        line->from = buffer;
        line->bytes = bytes;
        line->offset = offset;
}

void io_fdatasync(struct io_loop *loop, struct io_op *op, int fd)
{
        (void)submit_file(loop, op, SIM_SYNC, fd);
}

void io_sync_directory(struct io_loop *loop, struct io_op *op, int directory_fd)
{
        (void)submit_file(loop, op, SIM_SYNC_DIRECTORY, directory_fd);
}

void io_poll(struct io_loop *loop, struct io_op *op, int fd, short events)
{
        (void)loop;
        (void)op;
        (void)events;
        sim_fail("nothing here polls descriptor %d", fd);
}

void io_timer(struct io_loop *loop, struct io_op *op, uint64_t deadline_monotonic_ns)
{
        submit(loop, op, SIM_TIMER, -1, 0)->due_ns = deadline_monotonic_ns;
}

void io_cancel(struct io_loop *loop, struct io_op *op)
{
        (void)loop;
        for (uint32_t i = 0; i < SIM_OPS_MAX; i++)
                if (ops[i].kind != SIM_NONE && ops[i].op == op)
                        ops[i].cancelled = true;
}

/* ---------------------------------------------------------------------------------------------- the wire */

static void socket_answer(struct sim_socket *own, const struct sim_answer *answer)
{
        uint64_t due_ns = sim_now_ns() + answer->after_ns;
        uint32_t parts = answer->len < 8 ? 1 : 1 + (uint32_t)sim_below(4);
        size_t at = 0;
        /* Between the two, another request may begin. */
        const bool apart = answer->twice && sim_chance(0.5);
        parts += apart;
        own->counted += answer->counted;
        for (uint32_t i = 0; i < parts && answer->len > 0; i++) {
                size_t len = i + 1 == parts    ? answer->len - at
                             : apart && i == 0 ? answer->len / 2
                                               : sim_below(answer->len - at);
                if (len == 0)
                        continue;
                SIM_CHECK(own->pieces_count < SIM_PIECES_MAX);
                struct sim_piece *piece = &own->pieces[own->pieces_count++];
                *piece = (struct sim_piece){.bytes = malloc(len), .len = len};
                SIM_CHECK(piece->bytes != NULL);
                memcpy(piece->bytes, answer->bytes + at, len);
                due_ns += sim_below(SIM_WIRE_NS);
                piece->due_ns = due_ns;
                at += len;
        }
        free(answer->bytes);
        own->ended |= answer->reset;
        if (answer->reset && answer->len == 0)
                own->reset = true;
}

/* The bytes of one send arrive. Returns the result of the send. */
static int32_t socket_arrive(struct sim_socket *own, const uint8_t *bytes, size_t len)
{
        if (own->reset || own->shut)
                return -EPIPE;
        if (sim_endpoint_breaks(own->endpoint)) {
                own->reset = true;
                return sim_chance(0.5) ? -ECONNRESET : (int32_t)(len > 1 ? 1 + sim_below(len - 1) : len);
        }
        SIM_CHECK(own->request_len + len <= SIM_REQUEST_MAX);
        memcpy(own->request + own->request_len, bytes, len);
        own->request_len += len;
        for (;;) {
                static const char field[] = "\r\nContent-Length: ";
                const uint8_t *end = memmem(own->request, own->request_len, "\r\n\r\n", 4);
                if (end == NULL)
                        return (int32_t)len;
                size_t head_len = (size_t)(end - own->request) + 4;
                const uint8_t *at = memmem(own->request, head_len, field, sizeof(field) - 1);
                SIM_CHECK(at != NULL);
                size_t body_len = strtoul((const char *)at + sizeof(field) - 1, NULL, 10);
                if (own->request_len < head_len + body_len)
                        return (int32_t)len;
                struct sim_answer answer = {0};
                sim_endpoint_request(own->endpoint, slice_of(own->request, head_len),
                                     slice_of(own->request + head_len, body_len), &answer);
                socket_answer(own, &answer);
                own->request_len -= head_len + body_len;
                memmove(own->request, own->request + head_len + body_len, own->request_len);
        }
}

/* True: *ret_result is that of the receive. */
static bool socket_receive(struct sim_socket *own, struct sim_op *line, int32_t *ret_result)
{
        if (own->shut) {
                *ret_result = 0;
                return true;
        }
        if (own->pieces_taken < own->pieces_count) {
                struct sim_piece *piece = &own->pieces[own->pieces_taken];
                if (piece->due_ns > sim_now_ns())
                        return false;
                size_t len = piece->len - piece->taken < line->bytes ? piece->len - piece->taken : line->bytes;
                memcpy(line->to, piece->bytes + piece->taken, len);
                piece->taken += len;
                if (piece->taken == piece->len)
                        own->pieces_taken++;
                if (own->pieces_taken == own->pieces_count) {
                        for (uint32_t i = 0; i < own->pieces_count; i++)
                                free(own->pieces[i].bytes);
                        own->pieces_count = own->pieces_taken = 0;
                        if (!own->ended) {
                                /* The answer is there in whole; a kill may come before anybody has taken note of it. */
                                own->endpoint->counted_last = own->counted;
                                own->counted = 0;
                        }
                }
                *ret_result = (int32_t)len;
                return true;
        }
        if (own->reset)
                *ret_result = -ECONNRESET;
        else if (own->ended)
                *ret_result = 0;
        return own->reset || own->ended;
}

/* What a file system makes of an operation that is due; a process that dies may leave the first `bytes` of a write. */
static int32_t file_op_run(const struct sim_op *line, size_t bytes)
{
        switch (line->kind) {
        case SIM_OPEN:
                return sim_disk_io_open(line->path, line->flags);
        case SIM_CLOSE:
                return disk_close(line->fd);
        case SIM_STAT:
                return sim_disk_io_stat(line->fd, line->path, line->to);
        case SIM_RENAME:
                return sim_disk_io_rename(line->path, line->other_path, line->flags != 0);
        case SIM_TRUNCATE:
                return sim_disk_io_truncate(line->fd, line->offset);
        case SIM_READ:
                return sim_disk_io_read(line->fd, line->to, bytes, line->offset);
        case SIM_WRITE:
                return sim_disk_io_write(line->fd, line->from, bytes, line->offset);
        case SIM_SYNC:
                return sim_disk_io_sync(line->fd);
        case SIM_SYNC_DIRECTORY:
                return sim_disk_io_sync_directory(line->fd);
        case SIM_NONE:
        case SIM_CONNECT:
        case SIM_RECV:
        case SIM_SEND:
        case SIM_TIMER:
                break;
        }
        sim_fail("operation %d is on no file", (int)line->kind);
}

/* True: the operation has ended, with *ret_result. */
static bool op_ended(struct sim_op *line, int32_t *ret_result)
{
        uint64_t now_ns = sim_now_ns();
        struct sim_socket *own = line->fd >= SIM_SOCKET_BASE ? socket_of(line->fd) : NULL;
        bool due = line->due_ns <= now_ns;
        /* What has begun on a disk cannot be called back. */
        if (line->cancelled && line->kind < SIM_OPEN && (line->kind != SIM_SEND || sim_chance(0.5))) {
                *ret_result = -ECANCELED;
                return true;
        }
        switch (line->kind) {
        case SIM_CONNECT:
                if (!due)
                        return false;
                *ret_result = own->fate == SIM_CONNECT_OK ? 0 : -ECONNREFUSED;
                own->connected = own->fate == SIM_CONNECT_OK;
                return true;
        case SIM_RECV:
                return socket_receive(own, line, ret_result);
        case SIM_SEND:
                if (due || own->shut)
                        *ret_result = socket_arrive(own, line->from, line->bytes);
                return due || own->shut;
        case SIM_OPEN:
        case SIM_CLOSE:
        case SIM_STAT:
        case SIM_RENAME:
        case SIM_TRUNCATE:
        case SIM_READ:
        case SIM_WRITE:
        case SIM_SYNC:
        case SIM_SYNC_DIRECTORY:
                if (due)
                        *ret_result = file_op_run(line, line->bytes);
                return due;
        case SIM_TIMER:
                *ret_result = -ETIME;
                return due;
        case SIM_NONE:
                break;
        }
        return false;
}

/* `loop` NULL: of the workers'. */
static uint64_t ops_next_ns(const struct io_loop *loop)
{
        uint64_t next_ns = UINT64_MAX;
        for (uint32_t i = 0; i < SIM_OPS_MAX; i++) {
                const struct sim_op *line = &ops[i];
                uint64_t due_ns = line->due_ns;
                if (line->kind == SIM_NONE || (loop != NULL ? line->loop != loop : line->loop->aside))
                        continue;
                if (line->cancelled)
                        return sim_now_ns();
                if (line->kind == SIM_RECV) {
                        const struct sim_socket *own = socket_of(line->fd);
                        bool ready = own->shut || own->reset || own->ended;
                        due_ns = own->pieces_taken < own->pieces_count ? own->pieces[own->pieces_taken].due_ns
                                 : ready                               ? sim_now_ns()
                                                                       : UINT64_MAX;
                }
                next_ns = due_ns < next_ns ? due_ns : next_ns;
        }
        return next_ns;
}

uint64_t sim_network_next_ns(void)
{
        return ops_next_ns(NULL);
}

static uint32_t loop_run_posted(struct io_loop *loop)
{
        uint32_t count = 0;
        struct io_op *op = loop->posted;
        loop->posted = NULL;
        loop->posted_last = &loop->posted;
        while (op != NULL) {
                struct io_op *next = op->next;
                op->done(op, 0, false);
                op = next;
                count++;
        }
        return count;
}

uint32_t io_loop_turn(struct io_loop *loop, uint64_t timeout_ns)
{
        uint64_t now_ns = sim_now_ns();
        const uint64_t until_ns = timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
        wish_ns = until_ns;
        if (sleeps && timeout_ns > 0 && loop->posted == NULL) {
                uint64_t next_ns = ops_next_ns(loop);
                sim_clock_set(next_ns < until_ns ? next_ns : until_ns);
        }
        uint32_t count = loop_run_posted(loop);
        uint32_t first = (uint32_t)sim_below(SIM_OPS_MAX);
        for (uint32_t i = 0; i < SIM_OPS_MAX; i++) {
                struct sim_op *line = &ops[(first + i) % SIM_OPS_MAX];
                int32_t result = 0;
                if (line->kind == SIM_NONE || line->loop != loop || !op_ended(line, &result))
                        continue;
                struct io_op *op = line->op;
                line->kind = SIM_NONE;
                op->submitted = false;
                op->done(op, result, false);
                count++;
        }
        return count;
}

/* What has no end in sight, but for connections that do not come about. */
static bool op_hangs(const struct sim_op *line)
{
        return line->kind >= SIM_OPEN && line->due_ns == UINT64_MAX;
}

bool sim_network_file_hangs(void)
{
        for (uint32_t i = 0; i < SIM_OPS_MAX; i++)
                if (op_hangs(&ops[i]))
                        return true;
        return false;
}

void sim_network_file_answers(void)
{
        for (uint32_t i = 0; i < SIM_OPS_MAX; i++)
                if (op_hangs(&ops[i]))
                        ops[i].due_ns = sim_now_ns();
}

void sim_network_process_ended(void)
{
        for (uint32_t i = 0; i < SIM_OPS_MAX; i++) {
                struct sim_op *line = &ops[i];
                /* What the kernel had begun may be done, in whole or in part; nobody is there to be told. */
                if ((line->kind == SIM_SEND || line->kind >= SIM_OPEN) && sim_chance(0.5)) {
                        size_t bytes =
                                sim_chance(0.5) || line->bytes < 2 ? line->bytes : 1 + sim_below(line->bytes - 1);
                        if (line->kind == SIM_SEND)
                                (void)socket_arrive(socket_of(line->fd), line->from, bytes);
                        else
                                (void)file_op_run(line, bytes); /* also a sync, and that it failed */
                }
                line->kind = SIM_NONE;
        }
        for (uint32_t i = 0; i < SIM_SOCKETS_MAX; i++)
                if (sockets[i].used)
                        socket_close(&sockets[i]);
        for (uint32_t i = 0; i < sim_endpoints_count; i++) {
                sim_endpoints[i].ambiguous += sim_endpoints[i].counted_last;
                sim_endpoints[i].counted_last = 0;
        }
}
