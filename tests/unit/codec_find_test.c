/* Looking texts up by their published names: whatever the JSON of an event publishes is found, and nothing else. */
#include "codecs/codec.h"
#include "tests/support/codec_events.h"

#include <criterion/criterion.h>
#include <jansson.h>

TestSuite(codec_find, .timeout = 30);

static uint8_t event_bytes[SENDRING_EVENT_BYTES_MAX];
static uint8_t json_bytes[64 * 1024];

static void encode(const struct sendring_event *event, struct codec_view *ret_view)
{
        struct err err = {.text = ""};
        size_t bytes = 0;
        cr_assert_eq(codec_event_encode(event, event_bytes, sizeof(event_bytes), &bytes, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(codec_view_decode(slice_of(event_bytes, bytes), ret_view, &err), ERR_OK, "%s", err.text);
}

static struct codec_found find(const struct codec_view *view, const struct codec_json_options *options,
                               enum codec_source source, const char *name)
{
        struct codec_wanted wanted;
        struct codec_found found;
        codec_wanted_init(&wanted, source, slice_of_text(name));
        codec_view_find(view, options, &wanted, 1, &found);
        return found;
}

static void expect(const struct codec_view *view, enum codec_source source, const char *name, const char *value,
                   uint32_t count)
{
        struct codec_found found = find(view, NULL, source, name);
        cr_assert_eq(found.count, count, "%s: %u", name, found.count);
        cr_assert_eq(found.value.ptr == NULL, value == NULL, "%s", name);
        cr_assert(slice_equal(found.value, slice_of_text(value)), "%s: %.*s", name, SLICE_PRINTF(found.value));
}

/* {"name": ["first", ...]} of the record. */
static size_t expect_lists(const struct codec_view *view, const struct codec_json_options *options,
                           enum codec_source source, json_t *lists)
{
        const char *name;
        json_t *values;
        json_object_foreach(lists, name, values)
        {
                struct codec_found found = find(view, options, source, name);
                cr_assert_eq(found.count, json_array_size(values), "%s", name);
                cr_assert(slice_equal(found.value, slice_of_text(json_string_value(json_array_get(values, 0)))),
                          "%s: %.*s", name, SLICE_PRINTF(found.value));
        }
        return json_object_size(lists);
}

Test(codec_find, what_is_published_is_found_under_its_name)
{
        static const char *const all[] = {
                "ses:operation",       "ses:configuration-set",   "ses:source-ip", "ses:from-domain",
                "ses:caller-identity", "ses:source-tls-version",  "campaign",      "genre",
                "ses:outgoing-ip",     "ses:outgoing-tls-version"};
        static const struct codec_json_options options = {.configuration_set = {(const uint8_t *)"fallback", 8}};
        for (int round = 0; round < 4; round++)
                for (int type = SENDRING_SEND; type <= SENDRING_CLICK; type++) {
                        struct sendring_event event;
                        struct codec_view view;
                        codec_events_fill(&event, (enum sendring_event_type)type);
                        if (round & 1)
                                event.mail.configuration_set = event.mail.from_domain = (struct sendring_str){NULL, 0};
                        if (round & 2)
                                event.mail.operation = event.mail.outgoing_ip = (struct sendring_str){NULL, 0};
                        encode(&event, &view);
                        size_t bytes = codec_json_encode(&view, &options, json_bytes, sizeof(json_bytes));
                        json_t *root = json_loadb((const char *)json_bytes, bytes, JSON_REJECT_DUPLICATES, NULL);
                        json_t *mail = json_object_get(root, "mail"), *tags = json_object_get(mail, "tags");
                        cr_assert_geq(expect_lists(&view, &options, CODEC_SOURCE_TAG, tags), 1);
                        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
                                if (json_object_get(tags, all[i]) == NULL)
                                        cr_assert_null(find(&view, &options, CODEC_SOURCE_TAG, all[i]).value.ptr, "%s",
                                                       all[i]);
                        size_t i;
                        json_t *header;
                        json_array_foreach(json_object_get(mail, "headers"), i, header)
                        {
                                struct codec_found found = find(&view, &options, CODEC_SOURCE_HEADER,
                                                                json_string_value(json_object_get(header, "name")));
                                cr_assert(slice_equal(found.value, slice_of_text(json_string_value(
                                                                           json_object_get(header, "value")))));
                        }
                        json_t *link_tags = json_object_get(json_object_get(root, "click"), "linkTags");
                        if (type == SENDRING_CLICK)
                                cr_assert_eq(expect_lists(&view, &options, CODEC_SOURCE_LINK_TAG, link_tags), 2);
                        json_decref(root);
                }
}

Test(codec_find, names_are_those_of_their_list_only)
{
        struct sendring_event event;
        struct codec_view view;
        codec_events_fill(&event, SENDRING_CLICK);
        event.mail.headers = (struct sendring_pairs)CODEC_EVENTS_LIST(codec_events_headers);
        encode(&event, &view);
        expect(&view, CODEC_SOURCE_TAG, "genre", "sci-fi", 1);
        expect(&view, CODEC_SOURCE_LINK_TAG, "genre", "fiction", 1);
        expect(&view, CODEC_SOURCE_LINK_TAG, "campaign", NULL, 0);
        expect(&view, CODEC_SOURCE_LINK_TAG, "ses:operation", NULL, 0);
        expect(&view, CODEC_SOURCE_TAG, "product", NULL, 0);
        expect(&view, CODEC_SOURCE_TAG, "Campaign", NULL, 0); /* tags tell letters' cases apart, headers do not */
        expect(&view, CODEC_SOURCE_HEADER, "subject", "April offers", 1);
        expect(&view, CODEC_SOURCE_HEADER, "MIME-VERSION", "1.0", 1);
        expect(&view, CODEC_SOURCE_HEADER, "campaign", NULL, 0);
        expect(&view, CODEC_SOURCE_TAG, "", NULL, 0);
        codec_events_fill(&event, SENDRING_OPEN); /* an open has no link */
        encode(&event, &view);
        expect(&view, CODEC_SOURCE_LINK_TAG, "genre", NULL, 0);
}

Test(codec_find, the_first_of_several_values_and_many_wanted_at_once)
{
        static const struct sendring_pair tags[] = {
                {CODEC_EVENTS_TEXT("a"), CODEC_EVENTS_TEXT("1")},
                {CODEC_EVENTS_TEXT("b"), CODEC_EVENTS_TEXT("2")},
                {CODEC_EVENTS_TEXT("a"), CODEC_EVENTS_TEXT("3")},
        };
        static const struct sendring_pair headers[] = {
                {CODEC_EVENTS_TEXT("X-A"), CODEC_EVENTS_TEXT("first")},
                {CODEC_EVENTS_TEXT("x-a"), CODEC_EVENTS_TEXT("second")},
                {CODEC_EVENTS_TEXT("X-Empty"), CODEC_EVENTS_TEXT("")},
        };
        static const char *const names[] = {"a", "X-a", "b", "ses:operation", "a", "none", "X-EMPTY"};
        static const enum codec_source sources[] = {CODEC_SOURCE_TAG,   CODEC_SOURCE_HEADER, CODEC_SOURCE_TAG,
                                                    CODEC_SOURCE_TAG,   CODEC_SOURCE_TAG,    CODEC_SOURCE_TAG,
                                                    CODEC_SOURCE_HEADER};
        static const char *const values[] = {"1", "first", "2", "SendRawEmail", "1", NULL, ""};
        static const uint32_t counts[] = {2, 2, 1, 1, 2, 0, 1};
        struct sendring_event event;
        struct codec_view view;
        struct codec_wanted wanted[7];
        struct codec_found found[7];
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.tags = (struct sendring_pairs)CODEC_EVENTS_LIST(tags);
        event.mail.headers = (struct sendring_pairs)CODEC_EVENTS_LIST(headers);
        encode(&event, &view);
        for (size_t i = 0; i < 7; i++)
                codec_wanted_init(&wanted[i], sources[i], slice_of_text(names[i]));
        codec_view_find(&view, NULL, wanted, 7, found);
        for (size_t i = 0; i < 7; i++) {
                cr_assert(slice_equal(found[i].value, slice_of_text(values[i])) && found[i].count == counts[i], "%s",
                          names[i]);
                cr_assert_eq(found[i].value.ptr == NULL, values[i] == NULL);
        }
}
