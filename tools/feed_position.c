#include "tools/feed_position.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

struct slice feed_position_write(const struct tail_position *position, char out[FEED_POSITION_BYTES_MAX])
{
        int used = snprintf(out, FEED_POSITION_BYTES_MAX,
                            "{\"device\":%" PRIu64 ",\"inode\":%" PRIu64 ",\"offset\":%" PRIu64 ",\"line\":%" PRIu64
                            ",\"head_bytes\":%" PRIu64 ",\"head_sum\":\"%016" PRIx64 "\",\"changed_ns\":%" PRIu64 "}\n",
                            position->device, position->inode, position->offset, position->line, position->head_bytes,
                            position->head_sum, position->changed_ns);
        return slice_of(out, (size_t)used); /* fits: seven numbers of 20 digits at most */
}

bool feed_position_read(struct slice text, struct tail_position *ret_position)
{
        json_t *root = json_loadb((const char *)text.ptr, text.len, 0, NULL);
        json_int_t device, inode, offset, line, head_bytes, changed_ns = 0;
        const char *head_sum;
        uint64_t sum = 0;
        bool good = json_unpack(root, "{s:I,s:I,s:I,s:I,s:I,s:s,s?I}", "device", &device, "inode", &inode, "offset",
                                &offset, "line", &line, "head_bytes", &head_bytes, "head_sum", &head_sum, "changed_ns",
                                &changed_ns) == 0;
        if (good) {
                char *end = NULL;
                errno = 0;
                sum = strtoull(head_sum, &end, 16);
                good = errno == 0 && *end == '\0' && offset >= 0 && line >= 0 && head_bytes >= 0 && changed_ns >= 0;
        }
        json_decref(root);
        if (good)
                *ret_position = (struct tail_position){(uint64_t)device,    (uint64_t)inode,      (uint64_t)offset,
                                                       (uint64_t)line,      (uint64_t)head_bytes, sum,
                                                       (uint64_t)changed_ns};
        return good;
}
