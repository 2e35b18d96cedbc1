/* Messages with file descriptors over SOCK_SEQPACKET sockets. Used by both sides: no assertion, no log, no malloc. */
#include "ring/ring_internal.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

union ring_control {
        char bytes[CMSG_SPACE(sizeof(int) * RING_MESSAGE_FDS_MAX)];
        struct cmsghdr align;
};

void ring_message_init(struct ring_message *message, enum ring_message_kind kind)
{
        *message = (struct ring_message){.magic = RING_MAGIC_MESSAGE, .version = RING_VERSION, .kind = (uint16_t)kind};
}

void ring_fds_close(int *fds, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                if (fds[i] >= 0)
                        (void)close(fds[i]); /* nothing was written through it */
                fds[i] = -1;
        }
}

enum err_code ring_message_send(int socket_fd, const struct ring_message *message, const int *fds, size_t fds_count)
{
        union ring_control control;
        struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof(*message)};
        struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
        if (fds_count > RING_MESSAGE_FDS_MAX)
                return ERR_BUG;
        if (fds_count > 0) {
                memset(&control, 0, sizeof(control));
                header.msg_control = control.bytes;
                header.msg_controllen = CMSG_SPACE(sizeof(int) * fds_count);
                struct cmsghdr *part_header = CMSG_FIRSTHDR(&header);
                part_header->cmsg_level = SOL_SOCKET;
                part_header->cmsg_type = SCM_RIGHTS;
                part_header->cmsg_len = CMSG_LEN(sizeof(int) * fds_count);
                memcpy(CMSG_DATA(part_header), fds, sizeof(int) * fds_count);
        }
        ssize_t sent;
        do {
                sent = sendmsg(socket_fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        } while (sent < 0 && errno == EINTR);
        if (sent == (ssize_t)sizeof(*message))
                return ERR_OK;
        if (sent >= 0)
                return ERR_BUG; /* a packet is sent whole or not at all */
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS)
                return ERR_FULL;
        if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN || errno == ECONNREFUSED)
                return ERR_DETACHED;
        return ERR_SYSTEM;
}

/* Takes the fds out of a received header; what did come is in fds also where something was lost. */
static size_t ring_control_take(struct msghdr *header, int fds[RING_MESSAGE_FDS_MAX])
{
        size_t count = 0;
        for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL; part = CMSG_NXTHDR(header, part)) {
                if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t part_count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < part_count && count < RING_MESSAGE_FDS_MAX; i++)
                        memcpy(&fds[count++], CMSG_DATA(part) + i * sizeof(int), sizeof(int));
        }
        return count;
}

/* What a received message is. `whole` says that it was not cut, `fit` the same of its descriptors. */
static enum err_code ring_message_judge(const struct ring_message *message, ssize_t got, bool whole, bool fit,
                                        size_t fds_count)
{
        if (got == 0 && fds_count == 0)
                return ERR_DETACHED; /* an empty packet would look the same: nobody of ours sends one */
        if (got < 16 || message->magic != RING_MAGIC_MESSAGE)
                return ERR_PROTOCOL;
        if (message->version != RING_VERSION)
                return ERR_VERSION;
        if (!whole || got != (ssize_t)sizeof(*message))
                return ERR_PROTOCOL;
        if (fit)
                return ERR_OK;
        return fds_count < RING_MESSAGE_FDS_MAX ? ERR_LIMIT : ERR_PROTOCOL; /* too few places here; too many sent */
}

static enum err_code ring_message_take(int socket_fd, int flags, struct ring_message *ret_message,
                                       int fds[RING_MESSAGE_FDS_MAX], size_t *ret_fds_count)
{
        union ring_control control;
        struct ring_message message;
        struct iovec part = {.iov_base = &message, .iov_len = sizeof(message)};
        struct msghdr header = {.msg_iov = &part,
                                .msg_iovlen = 1,
                                .msg_control = control.bytes,
                                .msg_controllen = sizeof(control.bytes)};
        ssize_t got;
        *ret_fds_count = 0;
        memset(&message, 0, sizeof(message));
        memset(&control, 0, sizeof(control));
        do {
                got = recvmsg(socket_fd, &header, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        } while (got < 0 && errno == EINTR);
        if (got < 0) {
                if (errno == EAGAIN || errno == EWOULDBLOCK)
                        return ERR_EMPTY;
                return errno == ECONNRESET || errno == ENOTCONN || errno == EPIPE ? ERR_DETACHED : ERR_SYSTEM;
        }
        size_t fds_count = ring_control_take(&header, fds);
        enum err_code code = ring_message_judge(&message, got, (header.msg_flags & MSG_TRUNC) == 0,
                                                (header.msg_flags & MSG_CTRUNC) == 0, fds_count);
        if (code == ERR_OK)
                *ret_fds_count = fds_count;
        else
                ring_fds_close(fds, fds_count);
        if (code == ERR_OK || code == ERR_VERSION || code == ERR_LIMIT)
                *ret_message = message;
        return code;
}

enum err_code ring_message_receive(int socket_fd, struct ring_message *ret_message, int fds[RING_MESSAGE_FDS_MAX],
                                   size_t *ret_fds_count)
{
        return ring_message_take(socket_fd, 0, ret_message, fds, ret_fds_count);
}

enum err_code ring_message_receive_whole(int socket_fd, struct ring_message *ret_message, int fds[RING_MESSAGE_FDS_MAX],
                                         size_t *ret_fds_count)
{
        enum err_code code = ring_message_take(socket_fd, MSG_PEEK, ret_message, fds, ret_fds_count);
        if (code == ERR_OK || code == ERR_PROTOCOL || code == ERR_VERSION) {
                /* A look opens descriptors as well: those stay, and the message goes with its own. Not the other way
                 * round, or another thread could have the places in between. */
                ssize_t ignored = recv(socket_fd, NULL, 0, MSG_DONTWAIT);
                (void)ignored;
        }
        return code;
}
