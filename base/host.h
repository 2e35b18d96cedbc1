/* Hosts in URLs: what the configuration allows and what is connected to are checked by the same rule, so that what
 * `sendring validate` takes is not refused by `sendring run`. */
#ifndef SENDRING_BASE_HOST_H
#define SENDRING_BASE_HOST_H

#include "base/slice.h"

#include <stdbool.h>

#define HOST_BYTES_MAX       255u
#define HOST_LABEL_BYTES_MAX 63u /* RFC 1035 */

/* Letters, digits, '-' and '_' (containers' names have it) in labels of 1..63 bytes, between single dots; no label
 * begins or ends with '-', and the last has more than digits: getaddrinfo() would take "10.1" as the address 10.0.0.1.
 */
bool host_is_name(struct slice text);
/* Four decimal numbers: 192.0.2.1. */
bool host_is_ipv4(struct slice text);
/* Without the brackets that a URL has around it, and without a zone. */
bool host_is_ipv6(struct slice text);

#endif
