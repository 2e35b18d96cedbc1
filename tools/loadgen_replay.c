#include "tools/loadgen_replay.h"

#include "base/clock.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPLAY_LENGTH_S_MAX 1e8

/* ---------------------------------------------------------------------------------------------- plan */

/* The events of one millisecond come evenly within it. `first` is where they begin. */
static void replay_spread(struct loadgen_replay *replay, uint64_t first, uint64_t end, int64_t accepted_ms)
{
        double ms_ns = (double)CLOCK_NS_PER_MS, since_ms = (double)(accepted_ms - replay->capture.first_ms);
        for (uint64_t i = first; i < end; i++) {
                double at_ns = (since_ms + (double)(i - first) / (double)(end - first)) * ms_ns;
                replay->due_ns[i] = replay->options.speed > 0 ? (uint64_t)(at_ns / replay->options.speed) : 0;
        }
}

static enum err_code replay_plan(struct loadgen_replay *replay, struct err *reterr)
{
        struct loadgen_capture_walk walk;
        struct loadgen_capture_record record;
        const struct loadgen_capture *capture = &replay->capture;
        uint64_t first = 0, count = 0; /* of the millisecond; planned so far */
        int64_t last_ms = 0;
        loadgen_capture_begin(&walk, capture);
        for (;;) {
                enum err_code code = loadgen_capture_next(&walk, &record, reterr);
                if (code == ERR_EMPTY)
                        break;
                if (code == ERR_OK && count == capture->events)
                        code = err_set(reterr, ERR_CORRUPT, "offset 16: there are more events than the header says");
                if (code != ERR_OK)
                        return code;
                /* The length of the replay was checked by the header's times. */
                if (record.accepted_ms > capture->last_ms)
                        return err_set(reterr, ERR_CORRUPT,
                                       "offset %" PRIu64 ": later than the header says of the last event",
                                       record.offset);
                if (count > 0 && record.accepted_ms != last_ms) {
                        replay_spread(replay, first, count, last_ms);
                        first = count;
                }
                last_ms = record.accepted_ms;
                uint64_t hash = hash_bytes(1, record.view.message_id) >> 32;
                replay->places[count++] = record.offset << 8 | hash * replay->options.producers_count >> 32;
        }
        replay_spread(replay, first, count, last_ms);
        replay->length_ns = replay->due_ns[count - 1];
        return ERR_OK;
}

enum err_code loadgen_replay_open(const struct loadgen_replay_options *options, struct loadgen_replay *ret_replay,
                                  struct err *reterr)
{
        struct loadgen_replay replay = {.options = *options};
        struct stat status;
        enum err_code code;
        int fd = open(options->path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &status) != 0) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "open");
                goto out;
        }
        if (!S_ISREG(status.st_mode)) {
                code = err_set(reterr, ERR_TYPE, "this is no file");
                goto out;
        }
        void *map = MAP_FAILED;
        if (status.st_size > 0)
                map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (status.st_size > 0 && map == MAP_FAILED) {
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "map");
                goto out;
        }
        replay.bytes = map == MAP_FAILED ? 0 : (size_t)status.st_size;
        code = loadgen_capture_open(slice_of(map, replay.bytes), &replay.capture, reterr);
        const struct loadgen_capture *capture = &replay.capture;
        if (map != MAP_FAILED && code != ERR_OK)
                (void)munmap(map, replay.bytes); /* cannot fail for our own mapping */
        if (code != ERR_OK)
                goto out;
        /* A record takes 24 bytes at least: a count that cannot be costs no memory. */
        if (capture->events == 0)
                code = err_set(reterr, ERR_EMPTY, "there are no events in it");
        else if (capture->events > replay.bytes / 24)
                code = err_set(reterr, ERR_CORRUPT, "offset 16: more events than the file has room for");
        else if (options->speed > 0 &&
                 (double)capture->last_ms - (double)capture->first_ms > REPLAY_LENGTH_S_MAX * 1e3 * options->speed)
                code = err_set(reterr, ERR_RANGE, "at this speed it would take years: raise --speed");
        if (code == ERR_OK) {
                replay.places = malloc(capture->events * sizeof(*replay.places));
                replay.due_ns = malloc(capture->events * sizeof(*replay.due_ns));
                code = replay.places == NULL || replay.due_ns == NULL
                               ? err_set(reterr, ERR_MEMORY, "no memory for the plan of its events")
                               : replay_plan(&replay, reterr);
        }
        if (code == ERR_OK)
                *ret_replay = replay;
        else
                loadgen_replay_close(&replay);
out:
        if (fd >= 0)
                (void)close(fd); /* the mapping stays */
        return code;
}

void loadgen_replay_close(struct loadgen_replay *replay)
{
        free(replay->places);
        free(replay->due_ns);
        if (replay->bytes > 0)
                (void)munmap((void *)(uintptr_t)replay->capture.bytes.ptr, replay->bytes); /* cannot fail: our own */
        *replay = (struct loadgen_replay){.bytes = 0};
}

bool loadgen_replay_next(struct loadgen_replay_cursor *cursor, uint64_t *ret_due_ns, uint64_t *ret_number)
{
        const struct loadgen_replay *replay = cursor->replay;
        while (cursor->at < replay->capture.events && (replay->places[cursor->at] & 255) != cursor->producer)
                cursor->at++;
        if (cursor->at == replay->capture.events)
                return false;
        *ret_due_ns = replay->due_ns[cursor->at];
        *ret_number = cursor->at++;
        return true;
}

/* ---------------------------------------------------------------------------------------------- ids */

/* Bytes of the head of a msgpack text of `len` bytes that ends in front of it. 0: there is none. */
static size_t replay_text_head(const uint8_t *text, size_t room, size_t len)
{
        if (room >= 1 && len < 32 && text[-1] == (0xa0 | len))
                return 1;
        if (room >= 2 && len < 256 && text[-2] == 0xd9 && text[-1] == len)
                return 2;
        if (room >= 3 && len < 65536 && text[-3] == 0xda && text[-2] == len >> 8 && text[-1] == (len & 255))
                return 3;
        if (room >= 5 && text[-5] == 0xdb && text[-4] == (len >> 24 & 255) && text[-3] == (len >> 16 & 255) &&
            text[-2] == (len >> 8 & 255) && text[-1] == (len & 255))
                return 5;
        return 0;
}

size_t loadgen_replay_put_id(const struct codec_view *view, const char id[LOADGEN_ID_BYTES],
                             uint8_t out[LOADGEN_REPLAY_EVENT_BYTES])
{
        struct slice event = view->event, old = view->message_id;
        size_t before = (size_t)(old.ptr - event.ptr);
        size_t head = replay_text_head(old.ptr, before, old.len);
        if (head == 0)
                return 0;
        /* Maps count members, not bytes: the rest stays as it is. */
        uint8_t *at = out;
        memcpy(at, event.ptr, before - head);
        at += before - head;
        *at++ = 0xd9;
        *at++ = LOADGEN_ID_BYTES;
        memcpy(at, id, LOADGEN_ID_BYTES);
        at += LOADGEN_ID_BYTES;
        struct slice behind = slice_from(event, before + old.len);
        if (behind.len > 0)
                memcpy(at, behind.ptr, behind.len);
        return (size_t)(at - out) + behind.len;
}

bool loadgen_replay_event(const struct loadgen_replay *replay, uint64_t number, const struct loadgen_id *id,
                          uint8_t out[LOADGEN_REPLAY_EVENT_BYTES], struct slice *ret_event,
                          enum sendring_event_type *ret_type)
{
        struct codec_view view;
        struct slice event = loadgen_capture_event(&replay->capture, replay->places[number] >> 8);
        char text[LOADGEN_ID_BYTES + 1];
        if (event.len > LIMIT_EVENT_BYTES_MAX || codec_view_decode(event, &view, NULL) != ERR_OK)
                return false;
        switch (replay->options.ids) {
        case LOADGEN_IDS_FRESH:
                codec_message_id_write(replay->capture.first_ms, hash_bytes(replay->options.run_id, view.message_id),
                                       hash_bytes(~(uint64_t)replay->options.run_id, view.message_id), text);
                break;
        case LOADGEN_IDS_COUNTED:
                loadgen_id_format(id, text);
                break;
        case LOADGEN_IDS_KEEP:
                *ret_event = event;
                *ret_type = view.type;
                return true;
        }
        size_t bytes = loadgen_replay_put_id(&view, text, out);
        *ret_event = slice_of(out, bytes);
        *ret_type = view.type;
        return bytes > 0;
}
