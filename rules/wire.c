/* What a target's requests have on the wire: where they go (Endpoint), and how fast (Rate). Destinations of one target
 * share both. */
#include "base/host.h"
#include "rules/rules_internal.h"

#include <arpa/inet.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---------------------------------------------------------------------------------------------- where */

static bool wire_is_loopback(struct slice host)
{
        char text[64];
        struct in_addr address;
        if (slice_equal(host, SLICE("localhost")) || slice_equal(host, SLICE("[::1]")))
                return true;
        return slice_to_text(host, text, sizeof(text)) && inet_pton(AF_INET, text, &address) == 1 &&
               ntohl(address.s_addr) >> 24 == 127;
}

const char *rules_url_wrong(struct slice url)
{
        bool is_https = slice_has_prefix(url, SLICE("https://"));
        if (!is_https && !slice_has_prefix(url, SLICE("http://")))
                return "it does not begin with https:// or http://";
        struct slice host = slice_from(url, is_https ? 8 : 7);
        if (slice_has_suffix(host, SLICE("/")))
                host.len--;
        size_t end = host.len > 0 && host.ptr[0] == '[' ? slice_find_byte(host, ']') : slice_find_byte(host, ':');
        if (end < host.len && host.ptr[end] == ']')
                end++;
        struct slice port = slice_from(host, end);
        host = slice_head(host, end);
        bool is_bracketed = host.len > 1 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
        if (is_bracketed ? !host_is_ipv6(slice_of(host.ptr + 1, host.len - 2))
                         : !host_is_ipv4(host) && !host_is_name(host))
                return "its host is not a name or an address (no user, path or query is allowed)";
        uint64_t number;
        if (port.len > 0 && (port.ptr[0] != ':' || !slice_to_u64(slice_from(port, 1), 65535, &number) || number == 0))
                return "its port is not 1 to 65535";
        if (!is_https && !wire_is_loopback(host))
                return "http:// is allowed to this host itself only; use https://";
        return NULL;
}

/* ---------------------------------------------------------------------------------------------- how fast */

bool rules_rates_read(struct rules_reader *reader, const struct rules_yaml_node *node, const char *what,
                      const char *const members[RULES_RATES_COUNT], struct rules_rates *rates)
{
        static const struct {
                const struct rules_units *units;
                uint64_t max;
        } kinds[RULES_RATES_COUNT] = {
                {&rules_units_none, 1000000000}, {&rules_units_bytes, UINT64_C(1) << 40}, {&rules_units_none, 1000000}};
        uint64_t *const numbers[RULES_RATES_COUNT] = {&rates->records, &rates->bytes, &rates->requests};
        const struct rules_yaml_node *values[RULES_RATES_COUNT];
        if (!rules_yaml_members(reader, node, what, members, RULES_RATES_COUNT, values))
                return false;
        bool good = true;
        for (size_t i = 0; i < RULES_RATES_COUNT; i++) {
                char name[96];
                (void)snprintf(name, sizeof(name), "%s.%s", what, members[i]); /* names of ours: short */
                if (values[i] != NULL &&
                    !rules_yaml_quantity(reader, values[i], name, kinds[i].units, 0, kinds[i].max, numbers[i]))
                        good = false;
        }
        /* A request is at most 250 ms of it, and an event in a request of its own must not take for ever. */
        if (good && rates->bytes > 0 && rates->bytes < RULES_RATE_BYTES_MIN) {
                rules_error(reader, values[1], "%s.%s is less than 4KiB a second; 0 is no limit", what, members[1]);
                good = false;
        }
        return good;
}

/* ---------------------------------------------------------------------------------------------- of a destination */

bool rules_wire_read(struct rules_reader *reader, const struct rules_yaml_node *rate,
                     const struct rules_yaml_node *endpoint, const struct rules_rates *defaults,
                     struct rules_target *target)
{
        static const char *const members[RULES_RATES_COUNT] = {"Records", "Bytes", "Requests"};
        bool good = true;
        if (defaults != NULL)
                target->rates = *defaults;
        target->rates_given = rate != NULL;
        if (rate != NULL && !rules_rates_read(reader, rate, "Sendring.Rate", members, &target->rates))
                good = false;
        if (endpoint == NULL)
                return good;
        if (!rules_yaml_text(reader, endpoint, "Sendring.Endpoint", 1, RULES_ENDPOINT_BYTES_MAX, &target->endpoint))
                return false;
        const char *wrong = rules_url_wrong(target->endpoint);
        if (wrong == NULL)
                return good;
        rules_error(reader, endpoint,
                    "Sendring.Endpoint: %s: %s; it should be like https://host:8443 or http://127.0.0.1:4573",
                    rules_quote(reader, target->endpoint), wrong);
        return false;
}

bool rules_wire_join(struct rules_reader *reader, const struct rules_yaml_node *node, struct arena *arena,
                     const struct rules_target *wanted, uint32_t first_line, struct rules_target *target)
{
        const char *differs = NULL;
        if (wanted->rates_given && target->rates_given &&
            (wanted->rates.records != target->rates.records || wanted->rates.bytes != target->rates.bytes ||
             wanted->rates.requests != target->rates.requests))
                differs = "Rate";
        if (wanted->endpoint.len > 0 && target->endpoint.len > 0 && !slice_equal(wanted->endpoint, target->endpoint))
                differs = "Endpoint";
        if (differs != NULL) {
                rules_error(reader, node,
                            "Sendring.%s differs from that of another destination of the same target, which is first "
                            "named on line %u; all of them share its requests: say it once, or the same everywhere",
                            differs, first_line);
                return false;
        }
        if (wanted->rates_given) {
                target->rates = wanted->rates;
                target->rates_given = true;
        }
        if (wanted->endpoint.len > 0 && target->endpoint.len == 0) {
                target->endpoint = arena_copy(arena, wanted->endpoint);
                reader->out_of_memory |= target->endpoint.ptr == NULL;
        }
        return !reader->out_of_memory;
}
