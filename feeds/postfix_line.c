#include "feeds/postfix_line.h"

/* cleanup(8) logs at most so many bytes of "NAME: VALUE". */
#define POSTFIX_HEADER_BYTES_LOGGED 200u

static bool line_is_digit(uint8_t byte)
{
        return byte >= '0' && byte <= '9';
}

/* Index of the last `needle`, or s.len. */
static size_t line_find_last(struct slice s, struct slice needle)
{
        if (needle.len > s.len)
                return s.len;
        for (size_t at = s.len - needle.len + 1; at-- > 0;)
                if (memcmp(s.ptr + at, needle.ptr, needle.len) == 0)
                        return at;
        return s.len;
}

/* ---------------------------------------------------------------------------------------------- the line */

bool postfix_syslog_parse(struct slice line, struct postfix_syslog *ret_syslog)
{
        struct postfix_syslog syslog = {.pid = 0};
        struct slice rest = line;
        if (rest.len == 0)
                return false;
        if (line_is_digit(rest.ptr[0])) {
                syslog.stamp = slice_cut(&rest, ' ');
        } else {
                /* "Nov  3 04:45:37 " */
                if (rest.len < 16 || rest.ptr[3] != ' ' || rest.ptr[6] != ' ' || rest.ptr[15] != ' ')
                        return false;
                syslog.stamp = slice_head(rest, 15);
                rest = slice_from(rest, 16);
        }
        syslog.host = slice_cut(&rest, ' ');
        size_t colon = slice_find(rest, SLICE(": "));
        if (syslog.host.len == 0 || colon == rest.len)
                return false;
        syslog.tag = slice_head(rest, colon);
        syslog.text = slice_from(rest, colon + 2);
        size_t bracket = slice_find_byte(syslog.tag, '[');
        if (bracket < syslog.tag.len && syslog.tag.ptr[syslog.tag.len - 1] == ']') {
                uint64_t pid;
                if (slice_to_u64(slice_of(syslog.tag.ptr + bracket + 1, syslog.tag.len - bracket - 2), UINT32_MAX,
                                 &pid))
                        syslog.pid = (uint32_t)pid;
                syslog.tag = slice_head(syslog.tag, bracket);
        }
        if (syslog.tag.len == 0 || slice_find_byte(syslog.tag, ' ') < syslog.tag.len)
                return false;
        *ret_syslog = syslog;
        return true;
}

struct slice postfix_program(struct slice tag)
{
        size_t slash = line_find_last(tag, SLICE("/"));
        return slash == tag.len ? tag : slice_from(tag, slash + 1);
}

bool postfix_queue_id(struct slice text, struct slice *ret_queue_id, struct slice *ret_rest)
{
        size_t colon = slice_find_byte(slice_head(text, 64), ':');
        if (colon < 5 || colon + 1 >= text.len || text.ptr[colon] != ':' || text.ptr[colon + 1] != ' ')
                return false;
        /* Short ids are hexadecimal; long ones leave out the vowels, so that words of the log are none. */
        bool is_short = true, is_long = colon >= 10;
        for (size_t i = 0; i < colon; i++) {
                uint8_t byte = text.ptr[i];
                bool is_letter = (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');
                bool is_vowel = memchr("AEIOUaeiou", byte, 10) != NULL;
                is_short &= line_is_digit(byte) || (byte >= 'A' && byte <= 'F');
                is_long &= line_is_digit(byte) || (is_letter && !is_vowel);
        }
        if (!is_short && !is_long)
                return false;
        *ret_queue_id = slice_head(text, colon);
        *ret_rest = slice_from(text, colon + 2);
        return true;
}

/* ---------------------------------------------------------------------------------------------- outcomes */

bool postfix_address(struct slice text, size_t *at, struct slice *ret_address)
{
        size_t i = *at;
        if (i >= text.len || text.ptr[i] != '<')
                return false;
        size_t begin = ++i;
        if (i < text.len && text.ptr[i] == '"') {
                for (i++; i < text.len && text.ptr[i] != '"'; i++)
                        if (text.ptr[i] == '\\')
                                i++;
                if (i >= text.len)
                        return false;
        }
        while (i < text.len && text.ptr[i] != '>')
                i++;
        if (i >= text.len)
                return false;
        *ret_address = slice_of(text.ptr + begin, i - begin);
        *at = i + 1;
        return true;
}

/* Seconds with a fraction, to ms. */
static bool line_seconds(struct slice text, int64_t *ret_ms)
{
        struct slice rest = text;
        uint64_t seconds, fraction = 0;
        if (!slice_to_u64(slice_cut(&rest, '.'), UINT32_MAX, &seconds))
                return false;
        if (rest.len > 0) {
                rest = slice_head(rest, 3);
                if (!slice_to_u64(rest, 999, &fraction))
                        return false;
                for (size_t i = rest.len; i < 3; i++)
                        fraction *= 10;
        }
        *ret_ms = (int64_t)(seconds * 1000 + fraction);
        return true;
}

static bool line_is_status_code(struct slice code)
{
        struct slice rest = code;
        for (int i = 0; i < 3; i++) {
                uint64_t value;
                if (!slice_to_u64(slice_cut(&rest, '.'), 999, &value))
                        return false;
        }
        return rest.ptr == NULL;
}

bool postfix_outcome_parse(struct slice text, struct postfix_outcome *ret_outcome)
{
        struct postfix_outcome outcome = {.delay_ms = -1};
        size_t at = 3;
        if (!slice_has_prefix(text, SLICE("to=<")) || !postfix_address(text, &at, &outcome.to))
                return false;
        if (slice_has_prefix(slice_from(text, at), SLICE(", orig_to=<"))) {
                struct slice original;
                at += 10;
                if (!postfix_address(text, &at, &original))
                        return false;
        }
        struct slice rest = slice_from(text, at);
        if (!slice_has_prefix(rest, SLICE(", relay=")))
                return false;
        rest = slice_from(rest, 8);
        /* Postfix writes these fields in this order, and none before the text is the peer's: the first of each is it.
         */
        size_t end = slice_find(rest, SLICE(", delay="));
        if (end == rest.len)
                return false;
        outcome.relay = slice_head(rest, end);
        outcome.relay = slice_head(outcome.relay, slice_find(outcome.relay, SLICE(", ")));
        rest = slice_from(rest, end + 8);
        end = slice_find(rest, SLICE(", delays="));
        if (end == rest.len || !line_seconds(slice_head(rest, end), &outcome.delay_ms))
                return false;
        rest = slice_from(rest, end + 9);
        end = slice_find(rest, SLICE(", dsn="));
        if (end == rest.len)
                return false;
        rest = slice_from(rest, end + 6);
        end = slice_find(rest, SLICE(", status="));
        if (end == rest.len || !line_is_status_code(slice_head(rest, end)))
                return false;
        outcome.dsn = slice_head(rest, end);
        rest = slice_from(rest, end + 9);
        end = slice_find(rest, SLICE(" ("));
        outcome.status = slice_head(rest, end);
        if (outcome.status.len == 0 || slice_find_byte(outcome.status, ' ') < outcome.status.len)
                return false;
        if (end < rest.len) {
                outcome.text = slice_from(rest, end + 2);
                if (slice_has_suffix(outcome.text, SLICE(")")))
                        outcome.text.len--;
        }
        *ret_outcome = outcome;
        return true;
}

struct slice postfix_relay_ip(struct slice relay)
{
        size_t open = slice_find_byte(relay, '[');
        size_t close = slice_find_byte(relay, ']');
        if (open >= close || close == relay.len)
                return SLICE_EMPTY;
        struct slice address = slice_of(relay.ptr + open + 1, close - open - 1);
        if (slice_has_prefix(address, SLICE("IPv6:")))
                address = slice_from(address, 5);
        /* A unix socket's path may stand there. */
        return slice_find_byte(address, '/') < address.len ? SLICE_EMPTY : address;
}

bool postfix_peer_reply(struct slice text, struct slice *ret_reply)
{
        /* error(8) repeats what stopped the destination. */
        if (slice_has_prefix(text, SLICE("delivery temporarily suspended: ")))
                text = slice_from(text, sizeof("delivery temporarily suspended: ") - 1);
        if (!slice_has_prefix(text, SLICE("host ")))
                return false;
        /* No host name contains a space, so that the first is Postfix's own. */
        size_t said = slice_find_byte(slice_from(text, 5), ' ') + 5;
        size_t skip;
        if (slice_has_prefix(slice_from(text, said), SLICE(" said: ")))
                skip = sizeof(" said: ") - 1;
        else if (slice_has_prefix(slice_from(text, said), SLICE(" refused to talk to me: ")))
                skip = sizeof(" refused to talk to me: ") - 1;
        else
                return false;
        struct slice reply = slice_from(text, said + skip);
        size_t end = line_find_last(reply, SLICE(" (in reply to "));
        *ret_reply = slice_head(reply, end);
        return true;
}

/* ---------------------------------------------------------------------------------------------- headers */

bool postfix_header_parse(struct slice text, struct postfix_header *ret_header)
{
        size_t end = slice_find(text, SLICE(": header "));
        if (end == text.len || slice_find_byte(slice_head(text, end), ' ') < end)
                return false;
        struct postfix_header header = {.action = slice_head(text, end)};
        struct slice rest = slice_from(text, end + 9);
        /* Header and sender are both chosen by the client: the last "; from=<" is Postfix's, unless the sender's own
         * quoted address has one, which can only make the value longer. */
        size_t tail = line_find_last(rest, SLICE("; from=<"));
        if (tail == rest.len) {
                /* Without an envelope yet. */
                tail = line_find_last(rest, SLICE(";"));
                if (tail == rest.len)
                        return false;
        }
        size_t from = line_find_last(slice_head(rest, tail), SLICE(" from "));
        if (from == tail)
                return false;
        struct slice line = slice_head(rest, from);
        size_t colon = slice_find_byte(line, ':');
        if (colon == 0 || colon == line.len)
                return false;
        header.name = slice_trim(slice_head(line, colon));
        header.value = slice_trim(slice_from(line, colon + 1));
        header.cut = line.len >= POSTFIX_HEADER_BYTES_LOGGED;
        if (header.name.len == 0)
                return false;
        *ret_header = header;
        return true;
}

bool postfix_refusal_parse(struct slice text, struct postfix_refusal *ret_refusal)
{
        struct postfix_refusal refusal = {.reply = SLICE_EMPTY};
        size_t colon = slice_find(text, SLICE(": "));
        if (colon == text.len)
                return false;
        struct slice rest = slice_from(text, colon + 2);
        size_t from = slice_find(rest, SLICE(" from "));
        if (from == rest.len)
                return false;
        refusal.stage = slice_head(rest, from);
        rest = slice_from(rest, from + 6);
        colon = slice_find(rest, SLICE(": "));
        size_t tail = line_find_last(rest, SLICE("; from=<"));
        if (colon == rest.len || tail == rest.len || colon + 2 > tail)
                return false;
        refusal.client = slice_head(rest, colon);
        refusal.reply = slice_of(rest.ptr + colon + 2, tail - colon - 2);
        size_t at = tail + 7;
        if (!postfix_address(rest, &at, &refusal.from) || !slice_has_prefix(slice_from(rest, at), SLICE(" to=<")))
                return false;
        at += 4;
        if (!postfix_address(rest, &at, &refusal.to))
                return false;
        *ret_refusal = refusal;
        return true;
}
