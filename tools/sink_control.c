#include "tools/sink_control.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static enum err_code sink_control_address(const char *path, struct sockaddr_un *ret_address, struct err *reterr)
{
        *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
        if (!slice_to_text(slice_of_text(path), ret_address->sun_path, sizeof(ret_address->sun_path)) || path[0] == 0)
                return err_set(reterr, ERR_TOO_BIG, "'%s' cannot name a socket: at most %zu characters", path,
                               sizeof(ret_address->sun_path) - 1);
        return ERR_OK;
}

enum err_code sink_control_open(struct sink_control *control, const char *path, struct sink_faults *faults,
                                struct sink_state *state, struct err *reterr)
{
        *control = (struct sink_control){.path = path, .listen_fd = -1, .faults = faults, .state = state};
        for (int i = 0; i < SINK_CONTROL_CLIENTS_MAX; i++)
                control->clients[i].fd = -1;
        if (path == NULL)
                return ERR_OK;
        struct sockaddr_un address;
        enum err_code code = sink_control_address(path, &address, reterr);
        if (code != ERR_OK)
                return code;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "make a control socket");
        struct stat status;
        bool is_socket = lstat(path, &status) == 0 && S_ISSOCK(status.st_mode);
        if (is_socket && connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 && errno == ECONNREFUSED)
                (void)unlink(path); /* a dead sink's; bind() says when it is still there */
        mode_t mask = umask(0177);
        int bound = bind(fd, (const struct sockaddr *)&address, sizeof(address));
        int bind_errno = errno;
        (void)umask(mask);
        if (bound < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, bind_errno, "bind %s", path);
        else if (listen(fd, 16) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "listen on %s", path);
        if (code != ERR_OK) {
                (void)close(fd);
                return code;
        }
        control->listen_fd = fd;
        return ERR_OK;
}

void sink_control_close(struct sink_control *control)
{
        if (control->listen_fd < 0)
                return;
        for (int i = 0; i < SINK_CONTROL_CLIENTS_MAX; i++)
                if (control->clients[i].fd >= 0)
                        (void)close(control->clients[i].fd);
        (void)close(control->listen_fd);
        (void)unlink(control->path); /* the next start would replace it too */
        control->listen_fd = -1;
}

size_t sink_control_poll(const struct sink_control *control, struct pollfd set[SINK_CONTROL_CLIENTS_MAX + 1])
{
        size_t count = 0;
        if (control->listen_fd < 0)
                return 0;
        set[count++] = (struct pollfd){.fd = control->listen_fd, .events = POLLIN};
        for (int i = 0; i < SINK_CONTROL_CLIENTS_MAX; i++)
                if (control->clients[i].fd >= 0)
                        set[count++] = (struct pollfd){.fd = control->clients[i].fd, .events = POLLIN};
        return count;
}

void sink_counters_print(const uint64_t counters[SINK_COUNTERS_COUNT], FILE *out)
{
        for (int i = 0; i < SINK_COUNTERS_COUNT; i++)
                (void)fprintf(out, "%s\"%s\":%llu", i == 0 ? "{" : ",", sink_counter_name((enum sink_counter)i),
                              (unsigned long long)counters[i]);
        (void)fputc('}', out);
}

bool sink_control_line(struct sink_control *control, struct slice line, FILE *out)
{
        struct err err;
        struct slice rest = slice_trim(line);
        struct slice verb = slice_cut(&rest, ' ');
        rest = slice_trim(rest);
        if (slice_equal(verb, SLICE("stats")) && rest.len == 0) {
                uint64_t counters[SINK_COUNTERS_COUNT];
                for (int i = 0; i < SINK_COUNTERS_COUNT; i++)
                        counters[i] = sink_state_counter(control->state, (enum sink_counter)i);
                sink_counters_print(counters, out);
                return false;
        }
        if (slice_equal(verb, SLICE("latencies")) && rest.len == 0) {
                struct sink_latencies latencies;
                sink_state_take_latencies(control->state, &latencies);
                (void)fprintf(out,
                              "{\"count\":%llu,\"p50_ms\":%u,\"p90_ms\":%u,\"p99_ms\":%u,\"p999_ms\":%u,\"max_ms\":%u,"
                              "\"p50_us\":%u,\"p90_us\":%u,\"p99_us\":%u,\"p999_us\":%u,\"max_us\":%u}",
                              (unsigned long long)latencies.count, latencies.p50_us / 1000, latencies.p90_us / 1000,
                              latencies.p99_us / 1000, latencies.p999_us / 1000, latencies.max_us / 1000,
                              latencies.p50_us, latencies.p90_us, latencies.p99_us, latencies.p999_us,
                              latencies.max_us);
                return false;
        }
        if (slice_equal(verb, SLICE("keys"))) {
                if (sink_faults_set_keys(control->faults, rest, &err) == ERR_OK)
                        (void)fputs("ok", out);
                else
                        (void)fprintf(out, "error: %s", err.text);
                return false;
        }
        if (!slice_equal(verb, SLICE("set"))) {
                (void)fputs("error: say 'set NAME VALUE', 'keys ID SECRET', 'stats' or 'latencies'", out);
                return false;
        }
        struct slice name = slice_cut(&rest, ' ');
        if (sink_faults_set(control->faults, name, slice_trim(rest), &err) != ERR_OK) {
                (void)fprintf(out, "error: %s", err.text);
                return false;
        }
        (void)fputs("ok", out);
        return true;
}

/* Reads what a client sent and answers each whole line. */
static bool sink_control_client_run(struct sink_control *control, struct sink_control_client *client)
{
        bool changed = false;
        ssize_t got = recv(client->fd, client->line + client->line_bytes, sizeof(client->line) - client->line_bytes,
                           MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        if (got > 0) {
                client->line_bytes += (size_t)got;
                struct slice rest = slice_of(client->line, client->line_bytes);
                for (size_t end = slice_find_byte(rest, '\n'); end < rest.len; end = slice_find_byte(rest, '\n')) {
                        char *answer = NULL;
                        size_t answer_bytes = 0;
                        FILE *out = open_memstream(&answer, &answer_bytes);
                        if (out == NULL)
                                break;
                        changed |= sink_control_line(control, slice_head(rest, end), out);
                        (void)fputc('\n', out);
                        bool ok = fclose(out) == 0;
                        /* A client that does not read its answers loses them. */
                        if (ok)
                                (void)send(client->fd, answer, answer_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
                        free(answer);
                        rest = slice_of(rest.ptr + end + 1, rest.len - end - 1);
                }
                if (rest.len > 0)
                        memmove(client->line, rest.ptr, rest.len);
                client->line_bytes = rest.len;
        }
        if (got <= 0 || client->line_bytes == sizeof(client->line)) {
                (void)close(client->fd);
                *client = (struct sink_control_client){.fd = -1};
        }
        return changed;
}

bool sink_control_run(struct sink_control *control, const struct pollfd *set, size_t set_count)
{
        bool changed = false;
        for (size_t i = 0; i < set_count; i++) {
                if (set[i].revents == 0)
                        continue;
                if (set[i].fd == control->listen_fd) {
                        int fd = accept4(control->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                        for (int k = 0; k < SINK_CONTROL_CLIENTS_MAX && fd >= 0; k++) {
                                if (control->clients[k].fd < 0) {
                                        control->clients[k] = (struct sink_control_client){.fd = fd};
                                        fd = -1;
                                }
                        }
                        if (fd >= 0)
                                (void)close(fd); /* too many */
                        continue;
                }
                for (int k = 0; k < SINK_CONTROL_CLIENTS_MAX; k++)
                        if (control->clients[k].fd == set[i].fd)
                                changed |= sink_control_client_run(control, &control->clients[k]);
        }
        return changed;
}

enum err_code sink_control_tell(const char *path, const char *line, FILE *out, struct err *reterr)
{
        struct sockaddr_un address;
        enum err_code code = sink_control_address(path, &address, reterr);
        if (code != ERR_OK)
                return code;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct timeval timeout = {.tv_sec = 5};
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
            connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
                code = err_set_errno(reterr, ERR_CONNECT, errno, "reach a sink at %s", path);
        } else {
                char text[SINK_CONTROL_LINE_BYTES_MAX];
                int len = snprintf(text, sizeof(text), "%s\n", line);
                if (len >= (int)sizeof(text))
                        code = err_set(reterr, ERR_TOO_BIG, "the line is too long");
                else if (send(fd, text, (size_t)len, MSG_NOSIGNAL) != len)
                        code = err_set_errno(reterr, ERR_CONNECT, errno, "send to the sink at %s", path);
                bool ended = false;
                while (code == ERR_OK && !ended) {
                        char answer[1024];
                        ssize_t got = recv(fd, answer, sizeof(answer), 0);
                        if (got <= 0)
                                code = err_set(reterr, ERR_CONNECT, "the sink at %s did not answer", path);
                        else
                                (void)fwrite(answer, 1, (size_t)got, out);
                        ended = got > 0 && answer[got - 1] == '\n';
                        if (ended && got >= 5 && strncmp(answer, "error", 5) == 0)
                                code = err_set(reterr, ERR_SYNTAX, "the sink refused the line");
                }
        }
        if (fd >= 0)
                (void)close(fd);
        return code;
}
