#include "codecs/codec.h"
#include "tools/loadgen.h"
#include "tools/loadgen_id.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- ids */

Test(loadgen_id, format_gives_the_documented_text, .timeout = 10)
{
        struct loadgen_id id = {.timestamp_ms = 0x019b7ca98f2e,
                                .behind_us = 0x2af,
                                .run_id = 0x00c0ffee,
                                .producer = 0x0102,
                                .index = 0xabcdef};
        char text[LOADGEN_ID_BYTES];
        loadgen_id_format(&id, text);
        cr_assert_arr_eq(text, "0100019b7ca98f2e-00c0ffee-0102-4e76-a11d-000000abcdef-0002af", LOADGEN_ID_BYTES);
}

Test(loadgen_id, parse_gives_back_what_format_wrote, .timeout = 10)
{
        for (uint64_t i = 0; i < 64; i++) {
                struct loadgen_id id = {.timestamp_ms = (UINT64_C(1) << i) & LOADGEN_ID_INDEX_MAX,
                                        .behind_us = (uint16_t)(999 - i * 15),
                                        .run_id = (uint32_t)(UINT64_C(0x9e3779b97f4a7c15) >> (i & 31)),
                                        .producer = (uint16_t)(i * 1021),
                                        .index = (UINT64_MAX >> i) & LOADGEN_ID_INDEX_MAX};
                char text[LOADGEN_ID_BYTES];
                loadgen_id_format(&id, text);
                struct loadgen_id back;
                cr_assert(loadgen_id_parse(text, sizeof(text), &back));
                cr_assert_eq(back.timestamp_ms, id.timestamp_ms);
                cr_assert_eq(back.behind_us, id.behind_us);
                cr_assert_eq(back.run_id, id.run_id);
                cr_assert_eq(back.producer, id.producer);
                cr_assert_eq(back.index, id.index);
        }
}

Test(loadgen_id, parse_refuses_every_other_text, .timeout = 10)
{
        static const char good[] = "0100019b7ca98f2e-00c0ffee-0102-4e76-a11d-000000abcdef-000000";
        struct loadgen_id id;
        /* Ends at an unmapped page: a read beyond `len` dies. */
        char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq(pages, MAP_FAILED);
        cr_assert_eq(mprotect(pages + 4096, 4096, PROT_NONE), 0);
        char *text = pages + 4096 - LOADGEN_ID_BYTES;
        memcpy(text, good, LOADGEN_ID_BYTES);
        cr_assert(loadgen_id_parse(text, LOADGEN_ID_BYTES, &id));
        cr_assert_not(loadgen_id_parse(text + 1, LOADGEN_ID_BYTES - 1, &id));
        cr_assert_not(loadgen_id_parse(text, 0, &id));
        for (size_t i = 0; i < LOADGEN_ID_BYTES; i++) {
                /* 'g', and an upper-case digit: no byte may be anything else. */
                for (int j = 0; j < 2; j++) {
                        memcpy(text, good, LOADGEN_ID_BYTES);
                        text[i] = "gA"[j];
                        cr_assert_not(loadgen_id_parse(text, LOADGEN_ID_BYTES, &id), "byte %zu", i);
                }
        }
        memcpy(text, good, LOADGEN_ID_BYTES);
        memcpy(text + LOADGEN_ID_AT_BEHIND, "0003e7", 6);
        cr_assert(loadgen_id_parse(text, LOADGEN_ID_BYTES, &id));
        memcpy(text + LOADGEN_ID_AT_BEHIND, "0003e8", 6); /* a whole millisecond */
        cr_assert_not(loadgen_id_parse(text, LOADGEN_ID_BYTES, &id));
        /* An id as the library makes it. */
        char other[SENDRING_MESSAGE_ID_BYTES];
        codec_message_id_write(1767323045678, 0x4a1f0c527d1e4f0bu, 0x9c552f6f0e3b7a10u, other);
        cr_assert_not(loadgen_id_parse(other, LOADGEN_ID_BYTES, &id));
}

/* ---- histogram */

Test(loadgen_histogram, buckets_are_ordered_and_tight, .timeout = 30)
{
        uint32_t last = 0;
        for (uint64_t value = 0; value < 3000000; value += 1 + value / 1000) {
                uint32_t bucket = loadgen_histogram_bucket(value);
                cr_assert_geq(bucket, last);
                cr_assert_lt(bucket, LOADGEN_HISTOGRAM_BUCKETS);
                uint64_t bound = loadgen_histogram_bucket_max(bucket);
                cr_assert_geq(bound, value);
                cr_assert_leq(bound - value, value / 32);
                last = bucket;
        }
        cr_assert_eq(loadgen_histogram_bucket(UINT64_MAX), LOADGEN_HISTOGRAM_BUCKETS - 1);
        cr_assert_eq(loadgen_histogram_bucket_max(LOADGEN_HISTOGRAM_BUCKETS - 1), UINT64_MAX);
        for (uint32_t bucket = 0; bucket < LOADGEN_HISTOGRAM_BUCKETS; bucket++)
                cr_assert_eq(loadgen_histogram_bucket(loadgen_histogram_bucket_max(bucket)), bucket);
}

Test(loadgen_histogram, percentiles_are_those_of_the_values, .timeout = 10)
{
        struct loadgen_histogram *histogram = calloc(2, sizeof(*histogram));
        cr_assert_not_null(histogram);
        cr_assert_eq(loadgen_histogram_percentile(histogram, 0.5), 0);
        for (uint64_t i = 1; i <= 1000; i++)
                loadgen_histogram_add(&histogram[i & 1], i * 1000);
        loadgen_histogram_merge(&histogram[0], &histogram[1]);
        cr_assert_eq(histogram->count, 1000);
        cr_assert_eq(histogram->max, 1000000);
        for (int i = 1; i < 1000; i++) {
                uint64_t got = loadgen_histogram_percentile(histogram, i / 1000.0);
                cr_assert_geq(got, (uint64_t)i * 1000);
                cr_assert_leq(got, (uint64_t)i * 1000 * 34 / 32);
        }
        cr_assert_eq(loadgen_histogram_percentile(histogram, 1), 1000000);
        free(histogram);
}

/* ---- schedule */

Test(loadgen_due, even_spacing_and_bursts_keep_the_rate, .timeout = 10)
{
        struct loadgen_options options = {0};
        cr_assert_eq(loadgen_due_ns(&options, 1000, 0), 0);
        cr_assert_eq(loadgen_due_ns(&options, 1000, 12345), 12345000);
        options.burst_on_ns = 50 * 1000000;
        options.burst_off_ns = 200 * 1000000;
        uint64_t last = 0;
        for (uint64_t i = 0; i < 10000; i++) {
                uint64_t due = loadgen_due_ns(&options, 100000, i); /* 10,000 events in 1 s: 4 bursts */
                cr_assert_geq(due, last);
                cr_assert_leq(due % 250000000, 50000000);
                last = due;
        }
        cr_assert_eq(loadgen_due_ns(&options, 100000, 2500), 250000000);
        cr_assert_eq(loadgen_due_ns(&options, 100000, 7500), 750000000);
}

/* ---- events */

static const char *const test_sets[8] = {"set-0", "set-1", "set-2", "set-3", "set-4", "set-5", "set-6", "set-7"};

static struct loadgen_events *make_events(const char *mix, enum loadgen_size size, uint64_t seed, uint16_t producer)
{
        struct loadgen_events_options options = {.run_id = 0xfeedbeef,
                                                 .producer = producer,
                                                 .seed = seed,
                                                 .size = size,
                                                 .sets = test_sets,
                                                 .sets_count = 8};
        cr_assert(loadgen_mix_parse(mix, options.permille));
        struct loadgen_events *events = loadgen_events_create(&options);
        cr_assert_not_null(events);
        return events;
}

Test(loadgen_events, names_of_mixes_and_sizes, .timeout = 10)
{
        uint16_t permille[LOADGEN_TYPES_COUNT];
        cr_assert(loadgen_mix_parse("delivery_delay", permille));
        cr_assert_eq(permille[SENDRING_DELIVERY_DELAY - 1], 1000);
        cr_assert(loadgen_mix_parse("all", permille));
        cr_assert_not(loadgen_mix_parse("everything", permille));
        enum loadgen_size size;
        cr_assert(loadgen_size_parse("large", &size));
        cr_assert_eq(size, LOADGEN_SIZE_LARGE);
        cr_assert_not(loadgen_size_parse("", &size));
        cr_assert_null(loadgen_type_name((enum sendring_event_type)0));
        cr_assert_str_eq(loadgen_type_name(SENDRING_CLICK), "click");
}

Test(loadgen_events, the_standard_mix_is_exact_and_ids_count_up, .timeout = 30)
{
        struct loadgen_events *events = make_events("standard", LOADGEN_SIZE_STANDARD, 1, 7);
        uint32_t types[LOADGEN_TYPES_COUNT + 1] = {0}, sets[8] = {0};
        for (uint64_t i = 0; i < 10000; i++) {
                uint32_t set;
                const struct sendring_event *event = loadgen_events_make(events, i, 1767323045678, &set);
                types[event->type]++;
                sets[set]++;
                cr_assert_eq(event->mail.configuration_set.len, 5);
                cr_assert_arr_eq(event->mail.configuration_set.ptr, test_sets[set], 5);
                cr_assert_eq(event->mail.tags.count, 8);
                struct loadgen_id id;
                cr_assert(loadgen_id_parse(event->mail.message_id.ptr, event->mail.message_id.len, &id));
                cr_assert_eq(id.run_id, 0xfeedbeef);
                cr_assert_eq(id.producer, 7);
                cr_assert_eq(id.index, i);
                cr_assert_eq(id.timestamp_ms, (uint64_t)event->mail.timestamp_ms);
        }
        cr_assert_eq(types[SENDRING_SEND], 4000);
        cr_assert_eq(types[SENDRING_DELIVERY], 4000);
        cr_assert_eq(types[SENDRING_OPEN], 1200);
        cr_assert_eq(types[SENDRING_CLICK], 500);
        cr_assert_eq(types[SENDRING_BOUNCE], 250);
        cr_assert_eq(types[SENDRING_COMPLAINT], 50);
        for (int i = 0; i < 8; i++)
                cr_assert(sets[i] > 1000 && sets[i] < 1500, "set %d got %u", i, sets[i]);
        loadgen_events_free(events);
}

Test(loadgen_events, every_type_and_size_encodes_and_is_a_valid_event, .timeout = 30)
{
        static uint8_t out[65536];
        double bytes_mean[3] = {0};
        for (int size = LOADGEN_SIZE_SMALL; size <= LOADGEN_SIZE_LARGE; size++) {
                for (int mix = 0; mix < 2; mix++) {
                        struct loadgen_events *events =
                                make_events(mix == 0 ? "standard" : "all", (enum loadgen_size)size, 3, 0);
                        for (uint64_t i = 0; i < 5000; i++) {
                                uint32_t set;
                                const struct sendring_event *event =
                                        loadgen_events_make(events, i, 1767323045678, &set);
                                size_t bytes = 0;
                                struct err err = {0};
                                cr_assert_eq(codec_event_encode(event, out, sizeof(out), &bytes, &err), ERR_OK, "%s",
                                             err.text);
                                struct codec_view view;
                                cr_assert_eq(codec_view_decode(slice_of(out, bytes), &view, &err), ERR_OK, "%s",
                                             err.text);
                                cr_assert_eq(view.type, event->type);
                                if (mix == 0)
                                        bytes_mean[size] += (double)bytes / 5000;
                        }
                        loadgen_events_free(events);
                }
        }
        cr_assert(bytes_mean[LOADGEN_SIZE_SMALL] < bytes_mean[LOADGEN_SIZE_STANDARD]);
        cr_assert(bytes_mean[LOADGEN_SIZE_STANDARD] < bytes_mean[LOADGEN_SIZE_LARGE]);
}

Test(loadgen_events, json_of_a_standard_event_is_about_800_bytes, .timeout = 30)
{
        static uint8_t out[65536], json[65536];
        double json_mean = 0, packed_mean = 0;
        struct loadgen_events *events = make_events("standard", LOADGEN_SIZE_STANDARD, 3, 0);
        struct codec_json_options options = {
                .account_id = SLICE("123456789012"), .region = SLICE("us-east-1"), .partition = SLICE("aws")};
        for (uint64_t i = 0; i < 5000; i++) {
                uint32_t set;
                size_t bytes = 0;
                struct codec_view view;
                const struct sendring_event *event = loadgen_events_make(events, i, 1767323045678, &set);
                cr_assert_eq(codec_event_encode(event, out, sizeof(out), &bytes, NULL), ERR_OK);
                cr_assert_eq(codec_view_decode(slice_of(out, bytes), &view, NULL), ERR_OK);
                size_t json_bytes = codec_json_encode(&view, &options, json, sizeof(json));
                cr_assert_gt(json_bytes, 0);
                json_mean += (double)json_bytes / 5000;
                packed_mean += (double)bytes / 5000;
        }
        cr_assert(json_mean > 780 && json_mean < 880, "mean %.0f", json_mean);
        cr_assert(packed_mean > 400 && packed_mean < 720, "mean %.0f", packed_mean);
        loadgen_events_free(events);
}

static int compare_text(const void *a, const void *b)
{
        return strcmp(a, b);
}

Test(loadgen_events, recipients_differ_and_the_seed_decides, .timeout = 30)
{
        enum { COUNT = 20000 };
        static char recipients[COUNT][96];
        struct loadgen_events *events = make_events("send", LOADGEN_SIZE_STANDARD, 3, 0);
        struct loadgen_events *same = make_events("send", LOADGEN_SIZE_STANDARD, 3, 0);
        struct loadgen_events *other = make_events("send", LOADGEN_SIZE_STANDARD, 4, 0);
        uint32_t equal = 0;
        for (uint64_t i = 0; i < COUNT; i++) {
                uint32_t set;
                struct sendring_str a = loadgen_events_make(events, i, 1000, &set)->mail.destination.items[0];
                struct sendring_str b = loadgen_events_make(same, i, 1000, &set)->mail.destination.items[0];
                struct sendring_str c = loadgen_events_make(other, i, 1000, &set)->mail.destination.items[0];
                cr_assert_lt(a.len, sizeof(recipients[0]));
                memcpy(recipients[i], a.ptr, a.len);
                cr_assert(a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0);
                equal += a.len == c.len && memcmp(a.ptr, c.ptr, a.len) == 0;
        }
        cr_assert_lt(equal, 10);
        qsort(recipients, COUNT, sizeof(recipients[0]), compare_text);
        uint32_t repeated = 0;
        for (uint32_t i = 1; i < COUNT; i++)
                repeated += strcmp(recipients[i - 1], recipients[i]) == 0;
        cr_assert_lt(repeated, COUNT / 100);
        loadgen_events_free(events);
        loadgen_events_free(same);
        loadgen_events_free(other);
}

/* A storm: whatever its mix, bounces and delays are those of one provider, and say so. */
Test(loadgen_events, of_a_block_have_one_provider_and_its_words, .timeout = 30)
{
        static uint8_t out[65536];
        struct loadgen_events_options options = {.run_id = 1,
                                                 .seed = 3,
                                                 .size = LOADGEN_SIZE_STANDARD,
                                                 .sets = test_sets,
                                                 .sets_count = 8,
                                                 .campaigns_count = 3,
                                                 .tenants_count = 2,
                                                 .blocked = true};
        cr_assert(loadgen_mix_parse("send", options.permille));
        struct loadgen_events *events = loadgen_events_create(&options);
        cr_assert_not_null(events);
        struct slice provider = SLICE_EMPTY;
        uint32_t elsewhere = 0, campaigns = 0, tenants = 0;
        for (uint64_t i = 0; i < 1000; i++) {
                static const enum sendring_event_type types[] = {SENDRING_BOUNCE, SENDRING_DELIVERY_DELAY,
                                                                 SENDRING_SEND};
                uint32_t set;
                size_t bytes = 0;
                const struct sendring_event *event =
                        loadgen_events_make_type(events, i, types[i % 3], 1767323045678, &set);
                cr_assert_eq(event->type, types[i % 3]);
                cr_assert_eq(codec_event_encode(event, out, sizeof(out), &bytes, NULL), ERR_OK);
                static char domain[64];
                struct sendring_str to = event->mail.destination.items[0];
                struct slice address = slice_of(to.ptr, to.len);
                struct slice at = slice_from(address, slice_find_byte(address, '@'));
                if (i == 0) {
                        memcpy(domain, at.ptr, at.len);
                        provider = slice_of(domain, at.len);
                }
                if (event->type == SENDRING_SEND)
                        elsewhere += !slice_equal(at, provider);
                else
                        cr_assert(slice_equal(at, provider));
                if (event->type == SENDRING_BOUNCE) {
                        struct sendring_str status = event->bounce.bounced_recipients.items[0].status;
                        cr_assert(slice_has_prefix(slice_of(status.ptr, status.len), SLICE("5.7.")));
                }
                if (event->type == SENDRING_DELIVERY_DELAY)
                        cr_assert(event->delivery_delay.delay_type.len == strlen("IPFailure") ||
                                  event->delivery_delay.delay_type.len == strlen("SpamDetected"));
                campaigns |= 1u << (event->mail.tags.items[0].value.ptr[event->mail.tags.items[0].value.len - 1] - '0');
                tenants |= 1u << (event->mail.tags.items[1].value.ptr[event->mail.tags.items[1].value.len - 1] - '0');
        }
        cr_assert_gt(elsewhere, 200);
        cr_assert_eq(campaigns, 7);
        cr_assert_eq(tenants, 3);
        loadgen_events_free(events);
}
