#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum log_level log_level_now = LOG_INFO;
static const char *log_role;

static const char *const log_level_names[] = {"error", "warning", "info", "debug"};

void log_level_set(enum log_level level)
{
        log_level_now = level;
}

bool log_level_parse(const char *text, enum log_level *ret_level)
{
        for (int i = 0; i < 4; i++) {
                if (strcmp(text, log_level_names[i]) == 0) {
                        *ret_level = (enum log_level)i;
                        return true;
                }
        }
        return false;
}

void log_role_set(const char *role)
{
        log_role = role;
}

void log_write(enum log_level level, const char *message, const char *fields, ...)
{
        if (level > log_level_now)
                return;
        char line[1536];
        size_t room = sizeof(line) - 1; /* the last byte is the newline's */
        int used = snprintf(line, room, "level=%s%s%s msg=\"%s\"", log_level_names[level], log_role ? " role=" : "",
                            log_role ? log_role : "", message);
        size_t len = used < 0 ? 0 : (size_t)used < room ? (size_t)used : room - 1;
        if (fields[0] != '\0' && len + 2 < room) {
                line[len++] = ' ';
                va_list args;
                va_start(args, fields);
                used = vsnprintf(line + len, room - len, fields, args);
                va_end(args);
                if (used > 0)
                        len += (size_t)used < room - len ? (size_t)used : room - len - 1;
        }
        line[len++] = '\n';
        ssize_t written = write(STDERR_FILENO, line, len);
        (void)written; /* there is nowhere left to say that stderr is gone */
}

bool log_gate_open(struct log_gate *gate, uint64_t now_ns, uint64_t interval_ns, uint64_t *ret_repeats)
{
        if (gate->last_ns != 0 && now_ns - gate->last_ns < interval_ns) {
                gate->repeats++;
                return false;
        }
        *ret_repeats = gate->repeats;
        gate->repeats = 0;
        gate->last_ns = now_ns == 0 ? 1 : now_ns;
        return true;
}

const char *log_quote(const char *text, char *out, size_t out_bytes)
{
        size_t len = 0;
        if (out_bytes < 8)
                return "\"\"";
        out[len++] = '"';
        for (; *text != '\0' && len + 6 < out_bytes; text++) {
                unsigned char byte = (unsigned char)*text;
                if (byte == '"' || byte == '\\') {
                        out[len++] = '\\';
                        out[len++] = (char)byte;
                } else if (byte < 0x20 || byte == 0x7f) {
                        len += (size_t)snprintf(out + len, out_bytes - len, "\\x%02x", byte);
                } else {
                        out[len++] = (char)byte;
                }
        }
        out[len++] = '"';
        out[len] = '\0';
        return out;
}
