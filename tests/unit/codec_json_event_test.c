/* Events as JSON: byte for byte the records of aws-facts 1.7 for all ten types; jansson judges the rest. */
#include "codecs/codec.h"
#include "tests/support/codec_events.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>

TestSuite(codec_json_event, .timeout = 30);

static size_t golden_read(enum sendring_event_type type, char *text, size_t text_bytes)
{
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/events/%s.json", TEST_DATA_DIRECTORY, codec_events_names[type]);
        FILE *file = fopen(path, "rb");
        cr_assert_not_null(file, "%s", path);
        size_t bytes = fread(text, 1, text_bytes, file);
        (void)fclose(file); /* read only */
        return bytes;
}

static uint8_t event_bytes[SENDRING_EVENT_BYTES_MAX];
static uint8_t json_bytes[2 * 1024 * 1024];

static void encode(const struct sendring_event *event, struct codec_view *ret_view)
{
        struct err err = {.text = ""};
        size_t bytes = 0;
        cr_assert_eq(codec_event_encode(event, event_bytes, sizeof(event_bytes), &bytes, &err), ERR_OK, "%s", err.text);
        cr_assert_leq(bytes, codec_event_size_max(event));
        cr_assert_eq(codec_view_decode(slice_of(event_bytes, bytes), ret_view, &err), ERR_OK, "%s", err.text);
}

Test(codec_json_event, every_type_equals_its_golden_file)
{
        static char golden[16384];
        for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                struct sendring_event event;
                struct codec_view view;
                codec_events_fill(&event, (enum sendring_event_type)type);
                encode(&event, &view);
                size_t golden_bytes = golden_read((enum sendring_event_type)type, golden, sizeof(golden));
                size_t bytes = codec_json_encode(&view, NULL, json_bytes, sizeof(json_bytes));
                cr_assert(bytes == golden_bytes && memcmp(json_bytes, golden, bytes) == 0,
                          "%s:\n%.*s\nbut expected\n%.*s", codec_events_names[type], (int)bytes,
                          (const char *)json_bytes, (int)golden_bytes, golden);
        }
}
