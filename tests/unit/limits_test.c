/* Every limit of events, sets and redaction: the most is taken, one more is refused or cut, and said. Those of filters
 * are in pattern_test.c, of CloudWatch in tests/data/config (sets-cloudwatch, good and bad), cloudwatch_test.c and
 * metrics_test.c, of tags in codec_wire_test.c, of Firehose in firehose_test.c. */
#include "base/arena.h"
#include "base/limits.h"
#include "codecs/codec.h"
#include "codecs/codec_internal.h"
#include "codecs/field.h"
#include "codecs/redact.h"
#include "rules/rules.h"
#include "tests/support/codec_events.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

TestSuite(limits, .timeout = 60);

static uint8_t wire[2 * LIMIT_EVENT_BYTES_MAX];
static char filler[2 * LIMIT_EVENT_BYTES_MAX];

static struct sendring_str fill(size_t len)
{
        memset(filler, 'x', sizeof(filler));
        return (struct sendring_str){filler, len};
}

static enum err_code encode(const struct sendring_event *event, size_t room, size_t *ret_bytes, struct err *err)
{
        *err = (struct err){.text = ""};
        return codec_event_encode(event, wire, room, ret_bytes, err);
}

static void expect(const struct sendring_event *event, enum err_code wanted, const char *text)
{
        struct err err;
        struct codec_view view;
        size_t bytes = 0;
        enum err_code code = encode(event, sizeof(wire), &bytes, &err);
        cr_expect_eq(code, wanted, "%s: %s", text, err.text);
        if (wanted != ERR_OK)
                cr_expect_not_null(strstr(err.text, text), "%s", err.text);
        else if (bytes <= LIMIT_EVENT_BYTES_MAX)
                cr_expect_eq(codec_view_decode(slice_of(wire, bytes), &view, &err), ERR_OK, "%s: %s", text, err.text);
}

/* What the manuals, AWS and other tests' messages say in numbers: a change here is one of what is promised. */
Test(limits, numbers_that_are_promised)
{
        cr_expect_eq(LIMIT_TAG_BYTES_MAX, 255);
        cr_expect_eq(LIMIT_TAG_READ_BYTES_MAX, 256);
        cr_expect_eq(LIMIT_HEADERS_BYTES_MAX, 10240);
        cr_expect_eq(LIMIT_DESTINATIONS_PER_SET_MAX, 10);
        cr_expect_eq(LIMIT_FILTER_BYTES_MAX, 65536);
        cr_expect_eq(LIMIT_FILTER_VALUES_MAX, 2048);
        cr_expect_eq(LIMIT_FILTER_PATHS_MAX, 64);
        cr_expect_eq(LIMIT_FILTER_ALTERNATIVES_MAX, 128);
        cr_expect_eq(LIMIT_FILTER_DEPTH_MAX, 12);
        cr_expect_eq(LIMIT_CLOUDWATCH_DATA_PER_CALL_MAX, 1000);
        cr_expect_eq(LIMIT_CLOUDWATCH_CALL_BYTES_MAX, 1000000);
        cr_expect_eq(LIMIT_CLOUDWATCH_NAME_BYTES_MAX, 255);
        cr_expect_eq(LIMIT_CLOUDWATCH_VALUE_BYTES_MAX, 1024);
        cr_expect_eq(LIMIT_CLOUDWATCH_DEFAULT_BYTES_MAX, 255);
        cr_expect_eq(LIMIT_CLOUDWATCH_SERIES_MAX, 10000);
        cr_expect_eq(LIMIT_DIMENSIONS_MAX, 10);
        cr_expect_eq(LIMIT_ROLL_UPS_MAX, 16);
        cr_expect_eq(CODEC_EXTRA_MEMBERS_MAX, 64);
        cr_expect_eq(CODEC_EXTRA_TOTAL_MAX, 1024);
        cr_expect_eq(CODEC_FIELD_LOOKS_MAX, 65536);
}

/* ---------------------------------------------------------------------------------------------- events */

/* An event with unknown members at its end: `count` names of two letters, each with `value` behind it. */
static size_t add_members(size_t bytes, unsigned count, const char *value, size_t value_bytes)
{
        static uint8_t before[2 * LIMIT_EVENT_BYTES_MAX];
        unsigned known = wire[0] & 0x0fu;
        memcpy(before, wire, bytes);
        wire[0] = 0xde;
        wire[1] = (uint8_t)((known + count) >> 8);
        wire[2] = (uint8_t)(known + count);
        memcpy(wire + 3, before + 1, bytes - 1);
        bytes += 2;
        for (unsigned i = 0; i < count; i++) {
                const uint8_t name[3] = {0xa2, (uint8_t)('a' + i / 26), (uint8_t)('a' + i % 26)};
                memcpy(wire + bytes, name, sizeof(name));
                memcpy(wire + bytes + 3, value, value_bytes);
                bytes += 3 + value_bytes;
        }
        return bytes;
}

static enum err_code decode_members(unsigned count, unsigned inner, struct err *err)
{
        static char value[1024];
        struct sendring_event event;
        struct codec_view view;
        size_t bytes = 0, value_bytes = 1;
        value[0] = (char)0xc0;
        if (inner > 0) { /* a map of `inner` members, each nil */
                value[0] = (char)0xde;
                value[1] = 0;
                value[2] = (char)inner;
                value_bytes = 3;
                for (unsigned i = 0; i < inner; i++) {
                        const char member[4] = {(char)0xa2, (char)('a' + i / 26), (char)('a' + i % 26), (char)0xc0};
                        memcpy(value + value_bytes, member, sizeof(member));
                        value_bytes += sizeof(member);
                }
        }
        codec_events_fill(&event, SENDRING_SEND);
        cr_assert_eq(encode(&event, sizeof(wire), &bytes, err), ERR_OK, "%s", err->text);
        bytes = add_members(bytes, count, value, value_bytes);
        return codec_view_decode(slice_of(wire, bytes), &view, err);
}

Test(limits, unknown_members_of_an_event)
{
        struct err err = {.text = ""};
        cr_expect_eq(decode_members(64, 0, &err), ERR_OK, "%s", err.text);
        cr_expect_eq(decode_members(65, 0, &err), ERR_RANGE);
        cr_expect_not_null(strstr(err.text, "too many unknown members"), "%s", err.text);
        cr_expect_eq(decode_members(1, 64, &err), ERR_OK, "%s", err.text);
        cr_expect_eq(decode_members(1, 65, &err), ERR_RANGE);
        cr_expect_not_null(strstr(err.text, "an unknown map has too many members"), "%s", err.text);
        /* All levels together: 16 maps of 63 with their own names are 1,024; 25 of 40 are 1,025. */
        cr_expect_eq(decode_members(16, 63, &err), ERR_OK, "%s", err.text);
        cr_expect_eq(decode_members(25, 40, &err), ERR_RANGE);
}

struct looked {
        uint32_t values;
};

static bool looked_visit(void *context, const struct codec_value *value)
{
        (void)value;
        ((struct looked *)context)->values++;
        return false;
}

/* Each element of a list is a look; what lies behind the budget is not seen, and said. */
Test(limits, looks_at_an_event)
{
        for (uint32_t excess = 0; excess < 2; excess++) {
                struct sendring_event event;
                struct codec_view view;
                struct codec_field field;
                struct codec_field_reader reader;
                struct looked looked = {0};
                struct err err;
                size_t bytes = 0;
                uint32_t elements = 65536 + excess;
                codec_events_fill(&event, SENDRING_SEND);
                cr_assert_eq(encode(&event, sizeof(wire), &bytes, &err), ERR_OK);
                char *list = calloc(1, 5 + elements); /* integers of one byte each: 0 */
                list[0] = (char)0xdd;
                list[2] = (char)(elements >> 16);
                list[3] = (char)(elements >> 8);
                list[4] = (char)elements;
                bytes = add_members(bytes, 1, list, 5 + elements);
                free(list);
                cr_assert_eq(codec_view_decode(slice_of(wire, bytes), &view, &err), ERR_OK, "%s", err.text);
                (void)codec_field_find(SLICE("aa"), &field, NULL);
                codec_field_reader_init(&reader, &view, NULL);
                (void)codec_field_each(&reader, &field, looked_visit, &looked);
                cr_expect_eq(reader.exhausted, excess == 1, "%u elements, %u seen, %u left", elements, looked.values,
                             reader.looks_left);
                cr_expect_eq(looked.values, elements - excess, "%u of %u", looked.values, elements);
        }
}

Test(limits, names_and_ids_of_an_event)
{
        struct sendring_event event;
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.configuration_set = fill(64);
        expect(&event, ERR_OK, "configurationSet");
        event.mail.configuration_set.len++;
        expect(&event, ERR_RANGE, "at most 64 are allowed");
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.message_id = fill(512);
        expect(&event, ERR_OK, "messageId");
        event.mail.message_id.len++;
        expect(&event, ERR_RANGE, "at most 512 are allowed");
}

Test(limits, lists_of_an_event)
{
        static struct sendring_str texts[1025];
        static struct sendring_pair pairs[1025];
        static struct sendring_recipient recipients[1025];
        static struct sendring_topic topics[1025];
        for (size_t i = 0; i < 1025; i++) {
                texts[i] = SENDRING_STR("a");
                pairs[i] = (struct sendring_pair){SENDRING_STR("n"), SENDRING_STR("v")};
                recipients[i].email_address = SENDRING_STR("a");
                topics[i] = (struct sendring_topic){SENDRING_STR("t"), SENDRING_STR("OptIn")};
        }
        for (size_t excess = 0; excess < 2; excess++) {
                struct sendring_event event;
                enum err_code wanted = excess ? ERR_RANGE : ERR_OK;
                const char *text = "at most 1024 are allowed";
                codec_events_fill(&event, SENDRING_SEND);
                event.mail.destination = (struct sendring_strs){texts, 1024 + excess};
                expect(&event, wanted, text);
                codec_events_fill(&event, SENDRING_SEND);
                event.mail.common_headers.to = (struct sendring_strs){texts, 1024 + excess};
                expect(&event, wanted, text);
                codec_events_fill(&event, SENDRING_SEND);
                event.mail.tags = (struct sendring_pairs){pairs, 1024 + excess};
                expect(&event, wanted, text);
                codec_events_fill(&event, SENDRING_DELIVERY);
                event.delivery.recipients = (struct sendring_strs){texts, 1024 + excess};
                expect(&event, wanted, text);
                codec_events_fill(&event, SENDRING_BOUNCE);
                event.bounce.bounced_recipients = (struct sendring_recipients){recipients, 1024 + excess};
                expect(&event, wanted, text);
                codec_events_fill(&event, SENDRING_CLICK);
                event.click.link_tags = (struct sendring_pairs){pairs, 1024 + excess};
                expect(&event, wanted, text);
                codec_events_fill(&event, SENDRING_SUBSCRIPTION);
                event.subscription.old_topic_preferences.topic_subscription_status =
                        (struct sendring_topics){topics, 1000};
                event.subscription.new_topic_preferences.topic_subscription_status =
                        (struct sendring_topics){topics, 24 + excess};
                expect(&event, wanted, "more than 1024 topics");
        }
}

/* ses:tags of a link: as many as there is room for. */
Test(limits, tags_of_a_link)
{
        struct sendring_pair items[2];
        struct err err = {.text = ""};
        size_t count = 0;
        cr_expect_eq(codec_link_tags_parse(SLICE("a:1;b:2"), items, 2, &count, &err), ERR_OK, "%s", err.text);
        cr_expect_eq(count, 2);
        cr_expect_eq(codec_link_tags_parse(SLICE("a:1;b:2;c:3"), items, 2, &count, &err), ERR_RANGE);
}

/* "name: value" and CRLF: 10,240 bytes are kept, and the header that makes it one more is cut. */
Test(limits, headers_of_an_event)
{
        struct sendring_pair headers[2] = {{SENDRING_STR("A"), fill(5000 - 5)}, {SENDRING_STR("B"), fill(5240 - 5)}};
        for (size_t excess = 0; excess < 2; excess++) {
                struct sendring_event event, back;
                struct arena arena;
                struct err err;
                size_t bytes = 0;
                codec_events_fill(&event, SENDRING_SEND);
                headers[1].value.len += excess;
                event.mail.headers = (struct sendring_pairs){headers, 2};
                cr_assert_eq(encode(&event, sizeof(wire), &bytes, &err), ERR_OK, "%s", err.text);
                arena_init(&arena, 0, 0);
                cr_assert_eq(codec_event_decode(slice_of(wire, bytes), &arena, &back, NULL), ERR_OK);
                cr_expect_eq(back.mail.headers.count, 2 - excess);
                cr_expect_eq(back.mail.headers_truncated, (int)excess);
                arena_release(&arena);
        }
}

Test(limits, bytes_of_an_event)
{
        struct sendring_event event;
        struct codec_view view;
        struct err err;
        size_t bytes = 0, spare;
        codec_events_fill(&event, SENDRING_SEND);
        event.mail.common_headers.subject = fill(LIMIT_EVENT_BYTES_MAX / 2);
        cr_assert_eq(encode(&event, sizeof(wire), &bytes, &err), ERR_OK, "%s", err.text);
        spare = LIMIT_EVENT_BYTES_MAX - bytes;
        event.mail.common_headers.subject.len += spare;
        cr_assert_eq(encode(&event, sizeof(wire), &bytes, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(bytes, LIMIT_EVENT_BYTES_MAX);
        cr_expect_eq(codec_view_decode(slice_of(wire, bytes), &view, &err), ERR_OK, "%s", err.text);
        cr_expect_eq(codec_view_decode(slice_of(wire, bytes + 1), &view, &err), ERR_TOO_BIG);
        cr_expect_str_eq(err.text, "131073 bytes, an event has at most 131072");
        event.mail.common_headers.subject.len++;
        cr_expect_eq(encode(&event, sizeof(wire), &bytes, &err), ERR_TOO_BIG);
}

/* ---------------------------------------------------------------------------------------------- configuration */

struct text {
        char *ptr;
        size_t len;
};

static FILE *text_open(struct text *text)
{
        FILE *out = open_memstream(&text->ptr, &text->len);
        cr_assert_not_null(out);
        return out;
}

/* Parses and frees a file of sets; with `excess` it must be refused with one finding that says `text`. */
static void expect_sets(struct text *yaml, FILE *out, int excess, const char *text)
{
        struct rules_report report;
        struct rules_plan *plan = NULL;
        (void)fclose(out);
        rules_report_init(&report);
        enum err_code code = rules_plan_parse("sets.yaml", slice_of(yaml->ptr, yaml->len), NULL, &plan, &report);
        cr_expect_eq(code, excess ? ERR_CONFIG : ERR_OK, "%s: %s", text,
                     report.first == NULL ? "" : report.first->text);
        cr_expect_eq(report.errors, (uint32_t)excess, "%s", text);
        if (excess && report.first != NULL)
                cr_expect_not_null(strstr(report.first->text, text), "%s, not %s", report.first->text, text);
        rules_plan_free(plan);
        rules_report_release(&report);
        free(yaml->ptr);
}

#define DESTINATION "Enabled: true, MatchingEventTypes: [SEND], Sendring: {FileDestination: {Path: /f}"

Test(limits, sets_destinations_and_their_names)
{
        for (int excess = 0; excess < 2; excess++) {
                struct text yaml;
                FILE *out = text_open(&yaml);
                (void)fprintf(out, "ConfigurationSets:\n");
                for (int i = 0; i < 10000 + excess; i++)
                        (void)fprintf(out, "  - ConfigurationSetName: s%d\n", i);
                expect_sets(&yaml, out, excess, "10001 configuration sets; SES allows 10000");

                out = text_open(&yaml);
                (void)fprintf(out, "ConfigurationSets: [{ConfigurationSetName: s, EventDestinations: [");
                for (int i = 0; i < 10 + excess; i++)
                        (void)fprintf(out, "{Name: d%d, " DESTINATION "}},\n", i);
                (void)fprintf(out, "]}]\n");
                expect_sets(&yaml, out, excess, "more than 10 event destinations; SES allows 10 for a set");

                out = text_open(&yaml);
                (void)fprintf(out, "ConfigurationSets: [{ConfigurationSetName: %.*s}]\n", 64 + excess, fill(100).ptr);
                expect_sets(&yaml, out, excess, "Configuration set name cannot exceed 64 characters");

                out = text_open(&yaml);
                (void)fprintf(
                        out,
                        "ConfigurationSets: [{ConfigurationSetName: s, EventDestinations: [{Name: %.*s, " DESTINATION
                        "}}]}]\n",
                        64 + excess, fill(100).ptr);
                expect_sets(&yaml, out, excess, "cannot exceed 64 characters");
        }
}

#define CLOUDWATCH                                                                                    \
        "ConfigurationSets: [{ConfigurationSetName: s, EventDestinations: [{Name: d, Enabled: true, " \
        "MatchingEventTypes: [SEND], CloudWatchDestination: {DimensionConfigurations: "

Test(limits, overflow_values)
{
        for (int excess = 0; excess < 2; excess++) {
                struct text yaml;
                FILE *out = text_open(&yaml);
                (void)fprintf(out,
                              CLOUDWATCH
                              "[{DimensionName: n, DimensionValueSource: MESSAGE_TAG, DefaultDimensionValue: x}]}, "
                              "Sendring: {Namespace: N, OverflowValue: %.*s}}]}]\n",
                              255 + excess, fill(300).ptr);
                expect_sets(&yaml, out, excess, "Sendring.OverflowValue must have 1 to 255 characters, not 256");
        }
}

/* SES's list; the same names as tags are fine, and so are headers beside them. */
Test(limits, headers_that_are_no_dimension)
{
        static const char *const names[] = {"Received",   "To",          "From",        "DKIM-Signature", "CC",
                                            "message-id", "Return-Path", "RETURN-PATH", "mEsSaGe-Id"};
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                for (int refused = 0; refused < 3; refused++) {
                        struct text yaml;
                        FILE *out = text_open(&yaml);
                        (void)fprintf(out,
                                      CLOUDWATCH "[{DimensionName: %s%s, DimensionValueSource: %s, "
                                                 "DefaultDimensionValue: x}]}, Sendring: {Namespace: N}}]}]\n",
                                      refused == 2 ? "X-" : "", names[i],
                                      refused == 0 ? "MESSAGE_TAG" : "EMAIL_HEADER");
                        expect_sets(&yaml, out, refused == 1, "SES does not allow the header");
                }
        }
}

Test(limits, default_sets)
{
        for (int excess = 0; excess < 2; excess++) {
                struct text yaml;
                struct rules_report report;
                struct rules_settings settings;
                FILE *out = text_open(&yaml);
                (void)fprintf(out, "default_configuration_sets:\n");
                for (int i = 0; i < 10000 + excess; i++)
                        (void)fprintf(out, "- {d%d.example: s}\n", i);
                (void)fclose(out);
                rules_report_init(&report);
                enum err_code code = rules_settings_parse("/s.yaml", slice_of(yaml.ptr, yaml.len), &settings, &report);
                cr_expect_eq(code, excess ? ERR_CONFIG : ERR_OK);
                if (excess)
                        cr_expect_not_null(strstr(report.first->text, "10001 domains, at most 10000 are allowed"));
                else
                        rules_settings_release(&settings);
                rules_report_release(&report);
                free(yaml.ptr);
        }
}

Test(limits, bytes_of_a_file)
{
        size_t most = LIMIT_CONFIG_BYTES_MAX;
        static const char head[] = "ConfigurationSets: [{ConfigurationSetName: s}]\n#";
        char *text = mmap(NULL, most + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq((void *)text, MAP_FAILED);
        memset(text, '\n', most + 1);
        memcpy(text, head, sizeof(head) - 1);
        for (size_t excess = 0; excess < 2; excess++) {
                struct rules_report report;
                struct rules_plan *plan = NULL;
                rules_report_init(&report);
                enum err_code code = rules_plan_parse("s", slice_of(text, most + excess), NULL, &plan, &report);
                cr_expect_eq(code, excess ? ERR_CONFIG : ERR_OK);
                if (excess)
                        cr_expect_not_null(strstr(report.first->text, "larger than the 67108864 bytes allowed"));
                rules_plan_free(plan);
                rules_report_release(&report);
        }
        (void)munmap(text, most + 4096);
}

/* ---------------------------------------------------------------------------------------------- redaction */

Test(limits, names_and_keys_of_a_redaction_policy)
{
        static struct codec_redaction redaction;
        struct err err;
        char name[300];
        codec_redaction_init(&redaction);
        for (int i = 0; i < 64; i++) {
                (void)snprintf(name, sizeof(name), "mail.tags.t%d", i);
                cr_assert_eq(codec_redaction_drop(&redaction, slice_of_text(name), &err), ERR_OK, "%s", err.text);
                cr_assert_eq(codec_redaction_allow_header(&redaction, slice_of_text(name), &err), ERR_OK);
        }
        cr_expect_eq(codec_redaction_drop(&redaction, SLICE("mail.tags.x"), &err), ERR_LIMIT);
        cr_expect_eq(codec_redaction_allow_header(&redaction, SLICE("x"), &err), ERR_LIMIT);
        codec_redaction_init(&redaction);
        struct slice longest = slice_of(fill(300).ptr, 256), longer = slice_of(filler, 257);
        cr_expect_eq(codec_redaction_allow_header(&redaction, longest, &err), ERR_OK);
        cr_expect_eq(codec_redaction_allow_header(&redaction, longer, &err), ERR_NAME);
        (void)snprintf(name, sizeof(name), "mail.tags.%.256s", filler);
        cr_expect_eq(codec_redaction_drop(&redaction, slice_of_text(name), &err), ERR_OK);
        (void)snprintf(name, sizeof(name), "mail.tags.%.257s", filler);
        cr_expect_eq(codec_redaction_drop(&redaction, slice_of_text(name), &err), ERR_NAME);
        cr_expect_not_null(strstr(err.text, "must have 1 to 256 bytes"), "%s", err.text);
        /* 4,096 bytes of names, and one more. */
        codec_redaction_init(&redaction);
        for (int i = 0; i < 16; i++)
                cr_assert_eq(codec_redaction_allow_header(&redaction, longest, &err), ERR_OK);
        cr_expect_eq(codec_redaction_allow_header(&redaction, SLICE("x"), &err), ERR_LIMIT);
        cr_expect_str_eq(err.text, "the names of the headers have more than 4096 bytes together");
        static const struct {
                size_t bytes;
                enum err_code code;
        } keys[] = {{15, ERR_RANGE}, {16, ERR_OK}, {4096, ERR_OK}, {4097, ERR_RANGE}};
        (void)fill(4097);
        for (size_t i = 0; i < 4; i++)
                cr_expect_eq(codec_redaction_set_key(&redaction, slice_of(filler, keys[i].bytes), &err), keys[i].code);
}

/* The 4,096th address of an event has a token, the next one is masked. */
Test(limits, tokens_of_an_event)
{
        static struct sendring_str many[1024];
        static char text[4 * LIMIT_EVENT_BYTES_MAX], json[4 * LIMIT_EVENT_BYTES_MAX];
        struct codec_redaction redaction;
        struct sendring_event event;
        struct codec_view view;
        struct err err;
        size_t used = 0, bytes = 0;
        codec_redaction_init(&redaction);
        redaction.addresses = CODEC_ADDRESSES_HMAC;
        cr_assert_eq(codec_redaction_set_key(&redaction, SLICE("0123456789abcdef"), &err), ERR_OK);
        codec_events_fill(&event, SENDRING_SEND);
        /* Where the others stand: mail.source 1, sourceArn none, and 1,024 destinations. */
        for (size_t i = 0; i < 1024; i++)
                many[i] = SENDRING_STR("a@b");
        event.mail.destination = (struct sendring_strs){many, 1024};
        event.mail.headers = (struct sendring_pairs){NULL, 0};
        memset(&event.mail.common_headers, 0, sizeof(event.mail.common_headers));
        for (size_t i = 0; i < CODEC_REDACTION_TOKENS_MAX - 1025 + 1; i++)
                used += (size_t)snprintf(text + used, sizeof(text) - used, "c@d ");
        event.mail.common_headers.subject = (struct sendring_str){text, used};
        cr_assert_eq(encode(&event, sizeof(wire), &bytes, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(codec_view_decode(slice_of(wire, bytes), &view, &err), ERR_OK, "%s", err.text);
        struct codec_json_options options = {.redaction = &redaction};
        size_t len = codec_json_encode(&view, &options, (uint8_t *)json, sizeof(json));
        cr_assert_gt(len, 0);
        size_t masked = 0;
        for (const char *at = json; (at = memmem(at, (size_t)(json + len - at), "***@", 4)) != NULL; at++)
                masked++;
        cr_expect_eq(masked, 1, "%zu", masked);
        cr_expect_not_null(memmem(json, len, "@d ***@d \"", 10), "the last one");
}
