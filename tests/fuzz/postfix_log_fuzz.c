/* Any bytes as a Postfix log.
 *
 * Properties: every event that comes out can be encoded, and is then valid to the router; what is kept stays within its
 * bounds; the saved state loads again and saves to the same bytes. */
#include "base/assert.h"
#include "codecs/codec.h"
#include "feeds/postfix.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_NOW      INT64_C(1795438800000)
#define FUZZ_MESSAGES 20u

static bool fuzz_event(void *context, const struct sendring_event *event)
{
        static uint8_t encoded[SENDRING_EVENT_BYTES_MAX];
        struct codec_view view;
        struct err err;
        size_t bytes;
        (void)context;
        enum err_code code = codec_event_encode(event, encoded, sizeof(encoded), &bytes, &err);
        ASSERT(code == ERR_OK || code == ERR_TOO_BIG);
        if (code == ERR_OK)
                ASSERT(codec_view_decode(slice_of(encoded, bytes), &view, &err) == ERR_OK);
        return true;
}

static struct postfix *fuzz_create(void)
{
        struct postfix_options options = {.messages_max = FUZZ_MESSAGES,
                                          .event = fuzz_event,
                                          .queue_lifetime_ms = 1000,
                                          .delay_interval_ms = 1000};
        struct postfix *postfix = postfix_create(&options);
        if (postfix == NULL)
                abort();
        return postfix;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct postfix *postfix = fuzz_create();
        for (struct slice rest = slice_of(data, size); rest.len > 0;) {
                ASSERT(postfix_line(postfix, slice_cut(&rest, '\n'), FUZZ_NOW) == ERR_OK);
                ASSERT(postfix_messages(postfix) <= FUZZ_MESSAGES);
        }
        struct slice first, second, place;
        struct postfix *again = fuzz_create();
        struct err err;
        ASSERT(postfix_state_save(postfix, SLICE("here"), &first) == ERR_OK);
        ASSERT(postfix_state_load(again, first, &place, &err) == ERR_OK);
        ASSERT(slice_equal(place, SLICE("here")));
        ASSERT(postfix_state_save(again, place, &second) == ERR_OK);
        ASSERT(slice_equal(first, second));
        free((void *)(uintptr_t)first.ptr);
        free((void *)(uintptr_t)second.ptr);
        postfix_free(postfix);
        postfix_free(again);
        return 0;
}
