/* The messages that are known: found by queue id, bounded by number, bytes and time. */
#include "feeds/postfix_internal.h"

#include "base/assert.h"

#include <stdlib.h>

/* Of a message that was only begun nothing will come any more after so long and so many lines. The lines are for logs
 * of several hosts, whose clocks and zones may be hours apart. */
#define BARE_QUIET_MS    INT64_C(3600000)
#define BARE_QUIET_LINES 10000u
/* Behind maximal_queue_lifetime, where it is not told: Postfix's default. */
#define QUEUE_LIFETIME_MS (5 * DAY_MS)

uint64_t postfix_hash(uint64_t seed, struct slice bytes)
{
        uint64_t hash = UINT64_C(14695981039346656037) ^ seed;
        for (size_t i = 0; i < bytes.len; i++)
                hash = (hash ^ bytes.ptr[i]) * UINT64_C(1099511628211);
        return hash;
}

static struct message **postfix_bucket(struct postfix *postfix, struct slice queue_id)
{
        uint64_t hash = postfix_hash(0, queue_id);
        return &postfix->buckets[(hash ^ hash >> 32) & (postfix->buckets_count - 1)];
}

struct message *postfix_message_find(struct postfix *postfix, struct slice queue_id)
{
        struct message *message = *postfix_bucket(postfix, queue_id);
        while (message != NULL && !slice_equal(message->queue_id, queue_id))
                message = message->hash_next;
        return message;
}

static void postfix_unlink(struct postfix *postfix, struct message *message, enum message_list list)
{
        struct message_links *links = &message->links[list];
        if (links->newer != NULL)
                links->newer->links[list].older = links->older;
        else
                postfix->newest[list] = links->older;
        if (links->older != NULL)
                links->older->links[list].newer = links->newer;
        else
                postfix->oldest[list] = links->newer;
        *links = (struct message_links){NULL, NULL};
}

static void postfix_link_newest(struct postfix *postfix, struct message *message, enum message_list list)
{
        message->links[list].older = postfix->newest[list];
        if (postfix->newest[list] != NULL)
                postfix->newest[list]->links[list].newer = message;
        else
                postfix->oldest[list] = message;
        postfix->newest[list] = message;
}

/* Nothing but its client is known: so it stays when the mail never came. */
static bool postfix_message_is_bare(const struct message *message)
{
        return !message->active && message->headers_count == 0 && message->recipients_count == 0;
}

void postfix_message_seen(struct postfix *postfix, struct message *message, int64_t seen_ms)
{
        postfix_unlink(postfix, message, MESSAGES_ALL);
        postfix_link_newest(postfix, message, MESSAGES_ALL);
        if (message->bare)
                postfix_unlink(postfix, message, MESSAGES_BARE);
        message->bare = postfix_message_is_bare(message);
        if (message->bare)
                postfix_link_newest(postfix, message, MESSAGES_BARE);
        message->seen_ms = seen_ms;
        message->seen_line = postfix->counts.lines;
}

void postfix_message_recount(struct postfix *postfix, struct message *message)
{
        uint64_t bytes =
                sizeof(*message) + message->arena.allocated_bytes + message->recipients_room * sizeof(struct recipient);
        for (uint32_t i = 0; i < message->recipients_count; i++)
                bytes += message->recipients[i].text_bytes;
        postfix->bytes += bytes - message->bytes;
        message->bytes = bytes;
}

struct message *postfix_message_add(struct postfix *postfix, struct slice queue_id)
{
        struct message *message = calloc(1, sizeof(*message));
        if (message == NULL)
                return NULL;
        arena_init(&message->arena, 512, POSTFIX_MESSAGE_BYTES_MAX);
        message->queue_id = arena_copy(&message->arena, queue_id);
        if (message->queue_id.ptr == NULL) {
                free(message);
                return NULL;
        }
        struct message **bucket = postfix_bucket(postfix, queue_id);
        message->hash_next = *bucket;
        *bucket = message;
        postfix_link_newest(postfix, message, MESSAGES_ALL);
        postfix->messages_count++;
        postfix_message_recount(postfix, message);
        return message;
}

void postfix_message_drop(struct postfix *postfix, struct message *message)
{
        struct message **at = postfix_bucket(postfix, message->queue_id);
        while (*at != message)
                at = &(*at)->hash_next;
        *at = message->hash_next;
        postfix_unlink(postfix, message, MESSAGES_ALL);
        if (message->bare)
                postfix_unlink(postfix, message, MESSAGES_BARE);
        postfix->messages_count--;
        postfix->bytes -= message->bytes;
        for (uint32_t i = 0; i < message->recipients_count; i++)
                free(message->recipients[i].text);
        free(message->recipients);
        arena_release(&message->arena);
        free(message);
}

struct recipient *postfix_recipient(struct message *message, struct slice address, bool *ret_memory)
{
        for (uint32_t i = 0; i < message->recipients_count; i++)
                if (slice_equal(message->recipients[i].address, address))
                        return &message->recipients[i];
        if (message->recipients_count == POSTFIX_RECIPIENTS_MAX)
                return NULL;
        if (message->recipients_count == message->recipients_room) {
                uint32_t room = message->recipients_room == 0 ? 1 : message->recipients_room * 2;
                struct recipient *larger = realloc(message->recipients, room * sizeof(*larger));
                if (larger == NULL) {
                        *ret_memory = true;
                        return NULL;
                }
                message->recipients = larger;
                message->recipients_room = room;
        }
        struct slice copy = arena_copy(&message->arena, address);
        if (copy.ptr == NULL)
                return NULL;
        struct recipient *recipient = &message->recipients[message->recipients_count++];
        *recipient = (struct recipient){.address = copy};
        return recipient;
}

struct postfix *postfix_create(const struct postfix_options *options)
{
        struct postfix *postfix = calloc(1, sizeof(*postfix));
        if (postfix == NULL)
                return NULL;
        postfix->options = *options;
        if (postfix->options.syslog_name.len == 0)
                postfix->options.syslog_name = SLICE("postfix");
        if (postfix->options.messages_max == 0)
                postfix->options.messages_max = POSTFIX_MESSAGES_MAX_DEFAULT;
        if (postfix->options.state_bytes_max == 0)
                postfix->options.state_bytes_max = UINT64_C(4096) * postfix->options.messages_max;
        postfix->buckets_count = 64;
        while (postfix->buckets_count < postfix->options.messages_max && postfix->buckets_count < 1u << 20)
                postfix->buckets_count *= 2;
        postfix->buckets = calloc(postfix->buckets_count, sizeof(struct message *));
        if (postfix->buckets == NULL) {
                free(postfix);
                return NULL;
        }
        return postfix;
}

void postfix_free(struct postfix *postfix)
{
        if (postfix == NULL)
                return;
        while (postfix->oldest[MESSAGES_ALL] != NULL)
                postfix_message_drop(postfix, postfix->oldest[MESSAGES_ALL]);
        free(postfix->buckets);
        free(postfix);
}

const struct postfix_counts *postfix_get_counts(const struct postfix *postfix)
{
        return &postfix->counts;
}

uint32_t postfix_messages(const struct postfix *postfix)
{
        return postfix->messages_count;
}

uint64_t postfix_state_bytes(const struct postfix *postfix)
{
        return postfix->bytes;
}

/* ---------------------------------------------------------------------------------------------- forgetting */

/* The one seen longest ago; NULL where that is the line's own. */
static struct message *postfix_oldest(const struct line *line, enum message_list list)
{
        struct message *oldest = line->postfix->oldest[list];
        return oldest == line->message ? NULL : oldest;
}

/* Drops *message, the oldest of a list, and moves on to the next one. What its last line left open is told first. */
static enum err_code postfix_forget(const struct line *line, enum message_list list, struct message **message,
                                    uint64_t *count)
{
        const struct message *gone = *message;
        struct line last = *line;
        last.message = *message;
        last.queue_id = (*message)->queue_id;
        enum err_code code = postfix_finish(&last);
        if (code != ERR_OK)
                return code;
        postfix_message_drop(line->postfix, *message);
        (*count)++;
        ASSERT_KNOWN(line->postfix->oldest[list] != gone);
        *message = postfix_oldest(line, list);
        return ERR_OK;
}

enum err_code postfix_make_room(struct line *line)
{
        struct postfix *postfix = line->postfix;
        const struct postfix_options *options = &postfix->options;
        int64_t lifetime_ms = options->queue_lifetime_ms > 0 ? options->queue_lifetime_ms : QUEUE_LIFETIME_MS;
        enum err_code code = ERR_OK;
        struct message *bare = postfix_oldest(line, MESSAGES_BARE);
        while (code == ERR_OK && bare != NULL && line->log_ms - bare->seen_ms > BARE_QUIET_MS &&
               postfix->counts.lines - bare->seen_line > BARE_QUIET_LINES)
                code = postfix_forget(line, MESSAGES_BARE, &bare, &postfix->counts.broken_off);
        struct message *oldest = postfix_oldest(line, MESSAGES_ALL);
        while (code == ERR_OK && oldest != NULL && line->log_ms - oldest->seen_ms > lifetime_ms + DAY_MS)
                code = postfix_forget(line, MESSAGES_ALL, &oldest, &postfix->counts.aged);
        while (code == ERR_OK && oldest != NULL &&
               (postfix->messages_count > options->messages_max || postfix->bytes > options->state_bytes_max))
                code = postfix_forget(line, MESSAGES_ALL, &oldest, &postfix->counts.evicted);
        return code;
}
