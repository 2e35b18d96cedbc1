/* The joined state as bytes and back: what a feed needs to go on after a restart. */
#include "feeds/postfix_internal.h"

#include <stdlib.h>

#define STATE_MAGIC   "sendrpf"
#define STATE_VERSION 3 /* the digit behind it; 1 and 2 are read */

struct state_writer {
        uint8_t *bytes;
        size_t used, room;
        bool out_of_memory;
};

static void state_put(struct state_writer *writer, const void *bytes, size_t len)
{
        if (len == 0 || writer->out_of_memory)
                return;
        if (writer->room - writer->used < len) {
                size_t room = writer->room * 2 + len + 4096;
                uint8_t *larger = realloc(writer->bytes, room);
                if (larger == NULL) {
                        writer->out_of_memory = true;
                        return;
                }
                writer->bytes = larger;
                writer->room = room;
        }
        memcpy(writer->bytes + writer->used, bytes, len);
        writer->used += len;
}

static void state_put_u32(struct state_writer *writer, uint32_t value)
{
        state_put(writer, &value, sizeof(value));
}

static void state_put_time(struct state_writer *writer, int64_t value)
{
        state_put(writer, &value, sizeof(value));
}

static void state_put_text(struct state_writer *writer, struct slice text)
{
        state_put_u32(writer, (uint32_t)text.len); /* bounded by a message's arena */
        state_put(writer, text.ptr, text.len);
}

static void state_put_pairs(struct state_writer *writer, const struct sendring_pair *pairs, uint32_t count)
{
        state_put_u32(writer, count);
        for (uint32_t i = 0; i < count; i++) {
                state_put_text(writer, slice_of(pairs[i].name.ptr, pairs[i].name.len));
                state_put_text(writer, slice_of(pairs[i].value.ptr, pairs[i].value.len));
        }
}

enum state_flag {
        STATE_EXACT = 1,
        STATE_BORN = 2,
        STATE_ACTIVE = 4,
        STATE_NOTIFICATION = 8,
        STATE_SENT = 16,
        STATE_LOCAL = 32,
        STATE_HEADERS_CUT = 64,
        STATE_FROM_SEEN = 128,
        STATE_SUBJECT_SEEN = 256,
        STATE_ATTACHED = 512,
};

/* The texts of a message, in the order of the file. */
#define STATE_TEXTS 7
static void state_texts(struct message *message, struct slice *ret_texts[STATE_TEXTS])
{
        ret_texts[0] = &message->sender;
        ret_texts[1] = &message->client_ip;
        ret_texts[2] = &message->caller_identity;
        ret_texts[3] = &message->operation;
        ret_texts[4] = &message->tls_version;
        ret_texts[5] = &message->from_domain;
        ret_texts[6] = &message->configuration_set;
}

static void state_put_message(struct state_writer *writer, struct message *message)
{
        state_put_text(writer, message->queue_id);
        state_put_time(writer, message->timestamp_ms);
        state_put_time(writer, message->seen_ms);
        uint32_t flags = (message->exact ? STATE_EXACT : 0u) | (message->born ? STATE_BORN : 0u) |
                         (message->active ? STATE_ACTIVE : 0u) | (message->notification ? STATE_NOTIFICATION : 0u) |
                         (message->sent ? STATE_SENT : 0u) | (message->local ? STATE_LOCAL : 0u) |
                         (message->headers_cut ? STATE_HEADERS_CUT : 0u) | (message->from_seen ? STATE_FROM_SEEN : 0u) |
                         (message->subject_seen ? STATE_SUBJECT_SEEN : 0u) | (message->attached ? STATE_ATTACHED : 0u);
        state_put_u32(writer, flags);
        state_put_u32(writer, message->recipients_expected);
        state_put_u32(writer, message->headers_inherited);
        state_put_u32(writer, message->tags_inherited);
        struct slice *texts[STATE_TEXTS];
        state_texts(message, texts);
        for (size_t i = 0; i < STATE_TEXTS; i++)
                state_put_text(writer, *texts[i]);
        state_put_pairs(writer, message->headers, message->headers_count);
        state_put_pairs(writer, message->tags, message->tags_count);
        state_put_u32(writer, message->recipients_count);
        for (uint32_t i = 0; i < message->recipients_count; i++) {
                const struct recipient *recipient = &message->recipients[i];
                state_put_text(writer, recipient->address);
                state_put_u32(writer, (uint32_t)recipient->state | (recipient->from_peer ? 256u : 0u));
                state_put_text(writer, slice_of_text(recipient->dsn));
                state_put_text(writer, slice_of_text(recipient->ip));
                state_put_text(writer, slice_of_text(recipient->delay_type));
                state_put_time(writer, recipient->delay_at_ms);
                state_put_text(writer, slice_of(recipient->text, recipient->text_bytes));
        }
}

static uint64_t state_sum(struct slice bytes)
{
        uint64_t hash = UINT64_C(14695981039346656037);
        for (size_t i = 0; i < bytes.len; i++)
                hash = (hash ^ bytes.ptr[i]) * UINT64_C(1099511628211);
        return hash;
}

enum err_code postfix_state_save(const struct postfix *postfix, struct slice place, struct slice *ret_bytes)
{
        struct state_writer writer = {.bytes = NULL};
        const char version = '0' + STATE_VERSION;
        state_put(&writer, STATE_MAGIC, sizeof(STATE_MAGIC) - 1);
        state_put(&writer, &version, 1);
        state_put_text(&writer, place);
        state_put_u32(&writer, postfix->messages_count);
        for (struct message *message = postfix->oldest[MESSAGES_ALL]; message != NULL;
             message = message->links[MESSAGES_ALL].newer)
                state_put_message(&writer, message);
        uint32_t peers = 0;
        for (uint32_t i = 0; i < POSTFIX_PEERS; i++)
                peers += postfix->peers[i].pid != 0;
        state_put_u32(&writer, peers);
        for (uint32_t i = 0; i < POSTFIX_PEERS; i++) {
                const struct peer *peer = &postfix->peers[i];
                if (peer->pid == 0)
                        continue;
                state_put_u32(&writer, peer->pid);
                state_put_text(&writer, slice_of_text(peer->version));
                state_put_text(&writer, slice_of_text(peer->relay));
                state_put_text(&writer, slice_of_text(peer->queue_id));
        }
        if (!writer.out_of_memory) {
                uint64_t sum = state_sum(slice_of(writer.bytes, writer.used));
                state_put(&writer, &sum, sizeof(sum));
        }
        if (writer.out_of_memory) {
                free(writer.bytes);
                return ERR_MEMORY;
        }
        *ret_bytes = slice_of(writer.bytes, writer.used);
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- back */

struct state_reader {
        struct slice rest;
        int version;
        bool bad;
        bool out_of_memory;
};

static void state_get(struct state_reader *reader, void *out, size_t len)
{
        if (reader->bad || reader->rest.len < len) {
                reader->bad = true;
                memset(out, 0, len);
                return;
        }
        memcpy(out, reader->rest.ptr, len);
        reader->rest = slice_from(reader->rest, len);
}

static uint32_t state_get_u32(struct state_reader *reader)
{
        uint32_t value;
        state_get(reader, &value, sizeof(value));
        return value;
}

static int64_t state_get_time(struct state_reader *reader)
{
        int64_t value;
        state_get(reader, &value, sizeof(value));
        return value;
}

static struct slice state_get_text(struct state_reader *reader)
{
        uint32_t len = state_get_u32(reader);
        if (reader->bad || len > reader->rest.len) {
                reader->bad = true;
                return SLICE_EMPTY;
        }
        struct slice text = slice_head(reader->rest, len);
        reader->rest = slice_from(reader->rest, len);
        return text;
}

static struct slice state_keep_text(struct state_reader *reader, struct message *message)
{
        struct slice text = state_get_text(reader);
        struct slice copy = text.len == 0 ? SLICE_EMPTY : arena_copy(&message->arena, text);
        if (text.len > 0 && copy.ptr == NULL)
                reader->out_of_memory = true;
        return copy;
}

static void state_get_short(struct state_reader *reader, char *out, size_t out_bytes)
{
        if (!slice_to_text(state_get_text(reader), out, out_bytes))
                reader->bad = true;
}

static uint32_t state_get_pairs(struct state_reader *reader, struct message *message, struct sendring_pair *pairs,
                                uint32_t count)
{
        for (uint32_t i = 0; i < count && !reader->bad && !reader->out_of_memory; i++) {
                struct slice name = state_keep_text(reader, message), value = state_keep_text(reader, message);
                pairs[i].name = sendring_strn((const char *)name.ptr, name.len);
                pairs[i].value = sendring_strn((const char *)value.ptr, value.len);
        }
        return count;
}

static void state_get_recipient(struct state_reader *reader, struct message *message)
{
        struct slice address = state_get_text(reader);
        if (reader->bad || address.len == 0) {
                reader->bad = true;
                return;
        }
        bool out_of_memory = false;
        struct recipient *recipient = postfix_recipient(message, address, &out_of_memory);
        if (recipient == NULL) {
                reader->out_of_memory = true;
                return;
        }
        uint32_t state = state_get_u32(reader);
        if ((state & 0xffu) > RECIPIENT_DONE)
                reader->bad = true;
        recipient->state = (enum recipient_state)(state & 0xffu);
        recipient->from_peer = (state & 256u) != 0;
        state_get_short(reader, recipient->dsn, sizeof(recipient->dsn));
        state_get_short(reader, recipient->ip, sizeof(recipient->ip));
        state_get_short(reader, recipient->delay_type, sizeof(recipient->delay_type));
        recipient->delay_at_ms = state_get_time(reader);
        struct slice text = state_get_text(reader);
        if (reader->bad || text.len == 0)
                return;
        free(recipient->text); /* the same address twice: not by our own writer */
        recipient->text_bytes = 0;
        recipient->text = malloc(text.len);
        if (recipient->text == NULL || text.len > POSTFIX_TEXT_BYTES_MAX) {
                reader->out_of_memory = recipient->text == NULL;
                reader->bad = true;
                return;
        }
        memcpy(recipient->text, text.ptr, text.len);
        recipient->text_bytes = (uint32_t)text.len;
}

static void state_get_message(struct state_reader *reader, struct postfix *postfix)
{
        struct slice queue_id = state_get_text(reader);
        if (reader->bad || queue_id.len == 0 || queue_id.len > POSTFIX_QUEUE_ID_MAX ||
            postfix_message_find(postfix, queue_id) != NULL) {
                reader->bad = true;
                return;
        }
        struct message *message = postfix_message_add(postfix, queue_id);
        if (message == NULL) {
                reader->out_of_memory = true;
                return;
        }
        /* What fitted its bound may lie worse here, in another order of blocks: it is let in whatever it takes. */
        message->arena.limit_bytes = 0;
        message->timestamp_ms = state_get_time(reader);
        int64_t seen_ms = reader->version == 1 ? message->timestamp_ms : state_get_time(reader);
        uint32_t flags = state_get_u32(reader);
        message->exact = (flags & STATE_EXACT) != 0;
        message->born = (flags & STATE_BORN) != 0;
        message->active = (flags & STATE_ACTIVE) != 0;
        message->notification = (flags & STATE_NOTIFICATION) != 0;
        message->sent = (flags & STATE_SENT) != 0;
        message->local = (flags & STATE_LOCAL) != 0;
        message->headers_cut = (flags & STATE_HEADERS_CUT) != 0;
        message->from_seen = (flags & STATE_FROM_SEEN) != 0;
        message->subject_seen = (flags & STATE_SUBJECT_SEEN) != 0;
        message->attached = (flags & STATE_ATTACHED) != 0;
        message->recipients_expected = state_get_u32(reader);
        if (reader->version > 1) {
                message->headers_inherited = state_get_u32(reader);
                message->tags_inherited = state_get_u32(reader);
        }
        struct slice *texts[STATE_TEXTS];
        state_texts(message, texts);
        for (size_t i = 0; i < STATE_TEXTS; i++)
                *texts[i] = state_keep_text(reader, message);
        uint32_t count = state_get_u32(reader);
        reader->bad |= count > POSTFIX_HEADERS_MAX;
        if (!reader->bad)
                message->headers_count = state_get_pairs(reader, message, message->headers, count);
        count = state_get_u32(reader);
        reader->bad |= count > POSTFIX_TAGS_MAX;
        if (!reader->bad && count > 0) {
                message->tags = arena_alloc_array(&message->arena, POSTFIX_TAGS_MAX, sizeof(*message->tags));
                if (message->tags == NULL)
                        reader->out_of_memory = true;
                else
                        message->tags_count = state_get_pairs(reader, message, message->tags, count);
        }
        count = state_get_u32(reader);
        reader->bad |= count > POSTFIX_RECIPIENTS_MAX;
        for (uint32_t i = 0; i < count && !reader->bad && !reader->out_of_memory; i++)
                state_get_recipient(reader, message);
        reader->bad |=
                message->headers_inherited > message->headers_count || message->tags_inherited > message->tags_count;
        message->arena.limit_bytes = POSTFIX_MESSAGE_BYTES_MAX;
        postfix_message_seen(postfix, message, seen_ms);
        postfix_message_recount(postfix, message);
}

static void state_get_peer(struct state_reader *reader, struct postfix *postfix)
{
        struct peer peer = {.pid = state_get_u32(reader)};
        state_get_short(reader, peer.version, sizeof(peer.version));
        state_get_short(reader, peer.relay, sizeof(peer.relay));
        if (reader->version >= 3)
                state_get_short(reader, peer.queue_id, sizeof(peer.queue_id));
        if (!reader->bad)
                postfix->peers[peer.pid % POSTFIX_PEERS] = peer;
}

enum err_code postfix_state_load(struct postfix *postfix, struct slice bytes, struct slice *ret_place,
                                 struct err *reterr)
{
        const size_t magic = sizeof(STATE_MAGIC) - 1;
        uint64_t sum;
        if (bytes.len < magic + 1 + 4 + sizeof(sum) || memcmp(bytes.ptr, STATE_MAGIC, magic) != 0)
                return err_set(reterr, ERR_SYNTAX, "not a saved state of sendring feed");
        struct state_reader reader = {.version = bytes.ptr[magic] - '0'};
        if (reader.version < 1 || reader.version > STATE_VERSION)
                return err_set(reterr, ERR_SYNTAX,
                               "the saved state is of another version of sendring feed (%d; %d is known)",
                               reader.version, STATE_VERSION);
        memcpy(&sum, bytes.ptr + bytes.len - sizeof(sum), sizeof(sum));
        if (sum != state_sum(slice_head(bytes, bytes.len - sizeof(sum))))
                return err_set(reterr, ERR_SYNTAX, "the saved state is damaged");
        reader.rest = slice_of(bytes.ptr + magic + 1, bytes.len - magic - 1 - sizeof(sum));
        struct slice place = reader.version == 1 ? SLICE_EMPTY : state_get_text(&reader);
        uint32_t count = state_get_u32(&reader);
        for (uint32_t i = 0; i < count && !reader.bad && !reader.out_of_memory; i++)
                state_get_message(&reader, postfix);
        count = reader.bad || reader.out_of_memory ? 0 : state_get_u32(&reader);
        for (uint32_t i = 0; i < count && !reader.bad; i++)
                state_get_peer(&reader, postfix);
        if (!reader.bad && !reader.out_of_memory && reader.rest.len == 0) {
                *ret_place = place;
                return ERR_OK;
        }
        while (postfix->oldest[MESSAGES_ALL] != NULL)
                postfix_message_drop(postfix, postfix->oldest[MESSAGES_ALL]);
        memset(postfix->peers, 0, sizeof(postfix->peers));
        return reader.out_of_memory ? err_set(reterr, ERR_MEMORY, "out of memory")
                                    : err_set(reterr, ERR_SYNTAX, "the saved state is damaged");
}
