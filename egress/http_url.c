/* URLs of endpoints: scheme, host, port, path. Strict, because a host that two parsers read differently is how requests
 * and their signatures end up at the wrong server. */
#include "base/assert.h"
#include "base/host.h"
#include "egress/http.h"

#include <stdio.h>

_Static_assert(sizeof(((struct http_url *)0)->host) == HOST_BYTES_MAX + 1, "any host and a NUL fit");

static enum err_code http_url_parse_host(struct slice text, struct slice host, bool bracketed, struct http_url *url,
                                         struct err *reterr)
{
        if (!slice_to_text(host, url->host, sizeof(url->host)) || host.len == 0)
                return err_set(reterr, ERR_CONFIG, "URL \"%.*s\": the host is empty or longer than 255 bytes",
                               SLICE_PRINTF(text));
        for (char *at = url->host; *at != '\0'; at++) {
                if (*at >= 'A' && *at <= 'Z')
                        *at = (char)(*at - 'A' + 'a');
        }
        if (bracketed) {
                if (!host_is_ipv6(host))
                        return err_set(reterr, ERR_CONFIG, "URL \"%.*s\": [%s] is not an IPv6 address",
                                       SLICE_PRINTF(text), url->host);
                url->ip_literal = true;
                return ERR_OK;
        }
        url->ip_literal = host_is_ipv4(host);
        if (!url->ip_literal && !host_is_name(host))
                return err_set(
                        reterr, ERR_CONFIG,
                        "URL \"%.*s\": \"%s\" is neither a host name (letters, digits, '-', '_' and single dots) "
                        "nor an IPv4 address; an IPv6 address goes in brackets",
                        SLICE_PRINTF(text), url->host);
        return ERR_OK;
}

enum err_code http_url_parse(struct slice text, struct http_url *ret_url, struct err *reterr)
{
        struct http_url url = {0};
        struct slice https = SLICE("https://"), http = SLICE("http://"), rest;
        for (size_t i = 0; i < text.len; i++) {
                if (text.ptr[i] <= 0x20 || text.ptr[i] >= 0x7f)
                        return err_set(reterr, ERR_CONFIG,
                                       "URL: byte %zu is a space, a control character or not ASCII; encode it as %%XX",
                                       i + 1);
        }
        if (slice_equal_ignore_case(slice_head(text, https.len), https)) {
                url.tls = true;
                rest = slice_from(text, https.len);
        } else if (slice_equal_ignore_case(slice_head(text, http.len), http)) {
                rest = slice_from(text, http.len);
        } else {
                return err_set(reterr, ERR_CONFIG, "URL \"%.*s\": it must begin with https:// (or http://)",
                               SLICE_PRINTF(text));
        }
        if (slice_find_byte(rest, '#') != rest.len)
                return err_set(reterr, ERR_CONFIG, "URL \"%.*s\": a #fragment has no meaning here", SLICE_PRINTF(text));
        size_t authority_len = 0;
        while (authority_len < rest.len && rest.ptr[authority_len] != '/' && rest.ptr[authority_len] != '?')
                authority_len++;
        struct slice authority = slice_head(rest, authority_len);
        struct slice path = slice_from(rest, authority_len);
        /* No text here: what stands before '@' is a password. */
        if (slice_find_byte(authority, '@') != authority.len)
                return err_set(reterr, ERR_CONFIG, "URL: a user name or password before the host is not supported");
        struct slice host, port;
        bool bracketed = authority.len > 0 && authority.ptr[0] == '[';
        bool has_port = false;
        if (bracketed) {
                size_t close = slice_find_byte(authority, ']');
                if (close == authority.len)
                        return err_set(reterr, ERR_CONFIG, "URL \"%.*s\": the bracket is not closed",
                                       SLICE_PRINTF(text));
                host = slice_of(authority.ptr + 1, close - 1);
                struct slice behind = slice_from(authority, close + 1);
                if (behind.len > 0 && behind.ptr[0] != ':')
                        return err_set(reterr, ERR_CONFIG, "URL \"%.*s\": only :port may follow the bracket",
                                       SLICE_PRINTF(text));
                has_port = behind.len > 0;
                port = slice_from(behind, 1);
        } else {
                size_t colon = slice_find_byte(authority, ':');
                has_port = colon != authority.len;
                host = slice_head(authority, colon);
                port = slice_from(authority, colon + 1);
        }
        enum err_code code = http_url_parse_host(text, host, bracketed, &url, reterr);
        if (code != ERR_OK)
                return code;
        uint64_t port_own = url.tls ? 443 : 80;
        uint64_t port_number = port_own;
        if (has_port && (!slice_to_u64(port, 65535, &port_number) || port_number == 0))
                return err_set(reterr, ERR_CONFIG, "URL \"%.*s\": the port must be a number from 1 to 65535",
                               SLICE_PRINTF(text));
        url.port_given = port_number != port_own;
        (void)snprintf(url.port, sizeof(url.port), "%u", (unsigned)port_number); /* five digits at most */
        size_t slash = path.len == 0 || path.ptr[0] == '?' ? 1 : 0;
        if (path.len + slash >= sizeof(url.path))
                return err_set(reterr, ERR_CONFIG, "URL \"%.*s\": the path is longer than 255 bytes",
                               SLICE_PRINTF(text));
        url.path[0] = '/';
        if (path.len > 0)
                memcpy(url.path + slash, path.ptr, path.len);
        *ret_url = url;
        return ERR_OK;
}

void http_url_authority(const struct http_url *url, char *out, size_t out_bytes)
{
        bool brackets = strchr(url->host, ':') != NULL;
        int used = snprintf(out, out_bytes, "%s%s%s%s%s", brackets ? "[" : "", url->host, brackets ? "]" : "",
                            url->port_given ? ":" : "", url->port_given ? url->port : "");
        ASSERT(used > 0 && (size_t)used < out_bytes);
}
