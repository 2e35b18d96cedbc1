/* What needs no lane: results, text, the empty event, ids, tags. */
#include "base/slice.h"
#include "codecs/codec.h"
#include "producer/producer_internal.h"

#include <string.h>
#include <sys/random.h>
#include <unistd.h>

const char *sendring_result_text(int result)
{
        switch ((enum sendring_result)result) {
        case SENDRING_OK:
                return "ok";
        case SENDRING_E_FULL:
                return "no room in the lane now";
        case SENDRING_E_DETACHED:
                return "the router is not there";
        case SENDRING_E_TOO_BIG:
                return "the event is too big";
        case SENDRING_E_INVALID:
                return "an argument or a field of the event is wrong";
        case SENDRING_E_DENIED:
                return "the router does not let this user publish";
        case SENDRING_E_TIMEOUT:
                return "the time given ran out";
        case SENDRING_E_SYSTEM:
                return "a system call failed";
        case SENDRING_E_MEMORY:
                return "out of memory";
        case SENDRING_E_FORKED:
                return "the handle belongs to the parent process: open one in this process";
        case SENDRING_E_VERSION:
                return "the router speaks another protocol version: upgrade the older side";
        case SENDRING_E_BUG:
                return "libsendring broke an invariant of its own; the handle is disabled";
        }
        return "unknown result";
}

struct sendring_str sendring_str(const char *text)
{
        return sendring_strn(text, text == NULL ? 0 : strlen(text));
}

void sendring_event_init_sized(struct sendring_event *event, size_t size_bytes, enum sendring_event_type type)
{
        if (event == NULL)
                return;
        if (size_bytes >= sizeof(*event)) {
                codec_event_init(event, type);
                /* Members that only a newer header knows: "not given", should they ever mean something to us. */
                memset((char *)event + sizeof(*event), 0, size_bytes - sizeof(*event));
                event->size = size_bytes;
                return;
        }
        /* Built against an older header: its struct is a prefix of ours. */
        struct sendring_event whole;
        codec_event_init(&whole, type);
        whole.size = size_bytes;
        memcpy(event, &whole, size_bytes);
}

/* Every id of a handle comes from 256 random bits of the kernel; without them (a kernel that is still booting) ids fall
 * back on clock and addresses, which is still different per handle. */
static void message_id_seed(struct random_state *random)
{
        if (getrandom(random->s, sizeof(random->s), GRND_NONBLOCK) == (ssize_t)sizeof(random->s))
                return;
        random_init(random, 0);
        random->s[0] ^= (uint64_t)(uintptr_t)random;
        random->s[1] ^= (uint64_t)getpid();
}

void sendring_message_id(struct sendring *ring, int64_t timestamp_ms, char ret_id[SENDRING_MESSAGE_ID_BYTES])
{
        struct random_state once;
        struct random_state *random = &once;
        if (ring == NULL || (ring->pid_compared && ring->pid != getpid())) {
                message_id_seed(&once);
        } else {
                random = &ring->process->random;
                if (SENDRING_UNLIKELY(!ring->process->seeded)) {
                        message_id_seed(random);
                        ring->process->seeded = true;
                }
        }
        uint64_t high = random_u64(random);
        uint64_t low = random_u64(random);
        codec_message_id_write(timestamp_ms, high, low, ret_id);
}

int sendring_parse_message_tags(struct sendring_str header, struct sendring_pair *items, size_t items_max)
{
        size_t count = 0;
        if (items_max > SENDRING_LIST_ITEMS_MAX)
                items_max = SENDRING_LIST_ITEMS_MAX;
        enum err_code code = codec_message_tags_parse(slice_of(header.ptr, header.len), items, items_max, &count, NULL);
        return code == ERR_OK ? (int)count : SENDRING_E_INVALID;
}

int sendring_parse_configuration_set(struct sendring_str header, struct sendring_str *ret_name)
{
        struct slice name;
        if (codec_configuration_set_parse(slice_of(header.ptr, header.len), &name, NULL) != ERR_OK)
                return SENDRING_E_INVALID;
        *ret_name = sendring_strn((const char *)name.ptr, name.len);
        return SENDRING_OK;
}

int sendring_parse_link_tags(struct sendring_str attribute, struct sendring_pair *items, size_t items_max)
{
        size_t count = 0;
        if (items_max > SENDRING_LIST_ITEMS_MAX)
                items_max = SENDRING_LIST_ITEMS_MAX;
        enum err_code code =
                codec_link_tags_parse(slice_of(attribute.ptr, attribute.len), items, items_max, &count, NULL);
        return code == ERR_OK ? (int)count : SENDRING_E_INVALID;
}

int sendring_feedback_id(struct sendring_pairs tags, struct sendring_str internal_id, struct sendring_str sender_id,
                         char *out, size_t out_bytes)
{
        size_t bytes = 0;
        enum err_code code =
                codec_feedback_id_write(tags, slice_of(internal_id.ptr, internal_id.len),
                                        slice_of(sender_id.ptr, sender_id.len), out, out_bytes, &bytes, NULL);
        if (code != ERR_OK)
                return code == ERR_TOO_BIG ? SENDRING_E_TOO_BIG : SENDRING_E_INVALID;
        return (int)bytes;
}
