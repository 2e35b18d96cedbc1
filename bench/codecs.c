/* How fast the codecs are, each beside a memcpy of the same bytes in the same run, and beside what a library of others
 * makes of them: msgpack-c's unpacker (which builds objects; it does not know what an event is), jansson's writer (of a
 * tree that was read before), OpenSSL's EVP_EncodeBlock() and EVP_DecodeBlock().
 *
 * Method: 512 different events of the standard mix (Send 40 %, Delivery 40 %, Open 12 %, Click 5 %, Bounce 2.5 %,
 * Complaint 0.5 %; 8 tags, 20 campaigns, 50 tenants, 4 headers, ids, recipients and responses all different; 700
 * bytes), encoded one behind the other as in a lane. A round runs every metric and its floor over all of them, some
 * passes each; the median of the rounds is printed, after one round of warm-up, and the best of them, because a busy
 * sibling of the core costs up to half of the speed. Time is the thread's CPU time. The floor is memcpy, event by
 * event, of the bytes that the codec reads (view) or writes (encode, json_out). Strings are base64 text (json_string)
 * and subjects in Greek, Japanese and English (utf8_string). Not measured: memory that is cold,
 * page faults, other cores.
 *
 * usage: codecs [--rounds N] [--smoke] [--json] [--simd none|avx2|avx512] */
#include "base/clock.h"
#include "base/random.h"
#include "bench/figures.h"
#include "codecs/codec.h"
#include "codecs/simd.h"

#include <jansson.h>
#include <msgpack.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_COUNT   512
#define EVENT_ROOM     2048
#define JSON_ROOM      4096
#define TEXT_ROOM      1024
#define PASSES         8
#define ROUNDS_DEFAULT 31
#define ROUNDS_MAX     1001

struct bench_event {
        struct sendring_event event;
        struct sendring_pair tags[8];
        struct sendring_str destination[1];
        struct sendring_pair headers[4];
        struct sendring_recipient recipient[1];
        char texts[TEXT_ROOM];
        size_t texts_used;
};

static struct bench_event events[EVENTS_COUNT];
static uint8_t wire[EVENTS_COUNT * EVENT_ROOM], copy[EVENTS_COUNT * JSON_ROOM], json[EVENTS_COUNT * JSON_ROOM];
static uint8_t text[CODEC_BASE64_SIZE(sizeof(json)) + 32];
static struct slice encoded[EVENTS_COUNT]; /* in `wire`, 8-aligned as in a lane */
static struct codec_view views[EVENTS_COUNT];
static volatile uint64_t sink; /* keeps results alive */

static __attribute__((format(printf, 2, 3))) struct sendring_str text_make(struct bench_event *bench,
                                                                           const char *format, ...)
{
        va_list args;
        va_start(args, format);
        char *at = bench->texts + bench->texts_used;
        int bytes = vsnprintf(at, sizeof(bench->texts) - bench->texts_used, format, args);
        va_end(args);
        if (bytes < 0 || (size_t)bytes >= sizeof(bench->texts) - bench->texts_used)
                abort();
        bench->texts_used += (size_t)bytes;
        return (struct sendring_str){at, (size_t)bytes};
}

static struct sendring_str id_make(struct bench_event *bench, struct random_state *random, int64_t time_ms)
{
        char id[61];
        codec_message_id_write(time_ms, random_u64(random), random_u64(random), id);
        return text_make(bench, "%s", id);
}

static enum sendring_event_type type_pick(struct random_state *random)
{
        uint64_t per_mille = random_below(random, 1000);
        if (per_mille < 400)
                return SENDRING_SEND;
        if (per_mille < 800)
                return SENDRING_DELIVERY;
        if (per_mille < 920)
                return SENDRING_OPEN;
        if (per_mille < 970)
                return SENDRING_CLICK;
        return per_mille < 995 ? SENDRING_BOUNCE : SENDRING_COMPLAINT;
}

static void event_object(struct bench_event *bench, struct random_state *random, int64_t time_ms)
{
        struct sendring_event *event = &bench->event;
        struct sendring_strs to = {bench->destination, 1};
        unsigned number = (unsigned)random_below(random, 1000000000);
        switch (event->type) {
        case SENDRING_DELIVERY:
                event->delivery.timestamp_ms = time_ms + 900;
                event->delivery.processing_time_millis = 900;
                event->delivery.recipients = to;
                event->delivery.smtp_response = text_make(bench, "250 2.0.0 OK %u x%u-gsmtp", number, number / 7);
                event->delivery.remote_mta_ip = text_make(bench, "203.0.113.%u", number % 250);
                event->delivery.reporting_mta = text_make(bench, "out%u.mail.example.com", number % 16);
                return;
        case SENDRING_BOUNCE:
                bench->recipient[0] = (struct sendring_recipient){
                        .email_address = bench->destination[0],
                        .action = SENDRING_STR("failed"),
                        .status = SENDRING_STR("5.1.1"),
                        .diagnostic_code = text_make(bench, "smtp; 550 5.1.1 <user%u>: user unknown", number),
                };
                event->bounce.feedback_id = id_make(bench, random, time_ms);
                event->bounce.bounce_type = SENDRING_STR("Permanent");
                event->bounce.bounce_sub_type = SENDRING_STR("General");
                event->bounce.bounced_recipients = (struct sendring_recipients){bench->recipient, 1};
                event->bounce.timestamp_ms = time_ms + 1200;
                event->bounce.reporting_mta = text_make(bench, "dns; out%u.mail.example.com", number % 16);
                return;
        case SENDRING_COMPLAINT:
                event->complaint.feedback_id = id_make(bench, random, time_ms);
                event->complaint.complained_recipients = to;
                event->complaint.timestamp_ms = time_ms + 60000;
                event->complaint.complaint_feedback_type = SENDRING_STR("abuse");
                return;
        case SENDRING_OPEN:
                event->open.timestamp_ms = time_ms + 60000;
                event->open.user_agent = SENDRING_STR("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/120.0");
                event->open.ip_address = text_make(bench, "198.51.100.%u", number % 250);
                return;
        case SENDRING_CLICK:
                event->click.timestamp_ms = time_ms + 60000;
                event->click.user_agent = SENDRING_STR("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/120.0");
                event->click.ip_address = text_make(bench, "198.51.100.%u", number % 250);
                event->click.link = text_make(bench, "https://shop.example.com/offer?id=%u&u=%u", number % 977, number);
                return;
        case SENDRING_SEND:
        case SENDRING_RENDERING_FAILURE:
        case SENDRING_REJECT:
        case SENDRING_DELIVERY_DELAY:
        case SENDRING_SUBSCRIPTION:
                return;
        }
}

static void event_make(struct bench_event *bench, struct random_state *random, size_t index)
{
        static const char *const names[8] = {"campaign",     "tenant",  "template",   "region",
                                             "send-attempt", "segment", "ab_variant", "priority"};
        struct sendring_event *event = &bench->event;
        struct sendring_mail *mail = &event->mail;
        int64_t time_ms = INT64_C(1767323045678) + (int64_t)index * 7;
        unsigned user = (unsigned)random_below(random, 10000000);
        codec_event_init(event, type_pick(random));
        for (size_t i = 0; i < 8; i++) {
                static const unsigned values[8] = {20, 50, 30, 6, 3, 12, 2, 4};
                bench->tags[i].name = (struct sendring_str){names[i], strlen(names[i])};
                bench->tags[i].value = text_make(bench, "%.4s-%u", names[i], (unsigned)random_below(random, values[i]));
        }
        mail->configuration_set = text_make(bench, "bulk-set-%u", (unsigned)random_below(random, 8));
        mail->tags = (struct sendring_pairs){bench->tags, 8};
        mail->timestamp_ms = time_ms;
        mail->message_id = id_make(bench, random, time_ms);
        mail->source = SENDRING_STR("news@mail.example.com");
        mail->sending_account_id = SENDRING_STR("123456789012");
        bench->destination[0] = text_make(bench, "user%u@recipient%u.example.com", user, user % 300);
        mail->destination = (struct sendring_strs){bench->destination, 1};
        bench->headers[0] =
                (struct sendring_pair){SENDRING_STR("From"), SENDRING_STR("Example News <news@mail.example.com>")};
        bench->headers[1] = (struct sendring_pair){SENDRING_STR("To"), bench->destination[0]};
        bench->headers[2] =
                (struct sendring_pair){SENDRING_STR("Subject"), text_make(bench, "April offers, number %u", user)};
        bench->headers[3] = (struct sendring_pair){
                SENDRING_STR("List-Unsubscribe"),
                text_make(bench, "<https://u.example.com/unsubscribe?list=weekly&token=%08x%08x&n=%03u>", user * 7,
                          user * 131, user % 300)};
        mail->headers = (struct sendring_pairs){bench->headers, 4};
        mail->operation = SENDRING_STR("SMTP");
        mail->source_ip = SENDRING_STR("192.0.2.10");
        mail->caller_identity = text_make(bench, "mta-%u", user % 4);
        mail->source_tls_version = SENDRING_STR("TLSv1.3");
        mail->outgoing_ip = SENDRING_STR("198.51.100.7");
        event_object(bench, random, time_ms);
}

/* ---------------------------------------------------------------------------------------------- metrics */

enum metric {
        VIEW_NS,
        ENCODE_NS,
        SIZE_NS,
        JSON_OUT_GB_PER_S,
        BASE64_GB_PER_S,
        BASE64_DECODE_GB_PER_S,
        JSON_STRING_GB_PER_S,
        UTF8_STRING_GB_PER_S,
        TIME_NS,
        U64_NS,
        METRICS_COUNT,
};

struct metric_info {
        const char *name, *unit, *peer;
};
static const struct metric_info metric_infos[METRICS_COUNT] = {
        [VIEW_NS] = {"view_ns", "ns", "msgpack-c"},
        [ENCODE_NS] = {"encode_ns", "ns", NULL},
        [SIZE_NS] = {"size_max_ns", "ns", NULL},
        [JSON_OUT_GB_PER_S] = {"json_out_gb_per_s", "GB/s", "jansson"},
        [BASE64_GB_PER_S] = {"base64_gb_per_s", "GB/s", "EVP_EncodeBlock"},
        [BASE64_DECODE_GB_PER_S] = {"base64_decode_gb_per_s", "GB/s", "EVP_DecodeBlock"},
        [JSON_STRING_GB_PER_S] = {"json_string_gb_per_s", "GB/s", "jansson"},
        [UTF8_STRING_GB_PER_S] = {"utf8_string_gb_per_s", "GB/s", "jansson"},
        [TIME_NS] = {"time_ns", "ns", NULL},
        [U64_NS] = {"u64_ns", "ns", NULL},
};

static double values[METRICS_COUNT][ROUNDS_MAX], floors[METRICS_COUNT][ROUNDS_MAX], peers[METRICS_COUNT][ROUNDS_MAX];
static json_t *trees[EVENTS_COUNT]; /* the records, as jansson keeps them */
static json_t *text_trees[2];       /* `text`, and `subjects` */
static char subjects[1 << 16];
static size_t subjects_bytes, subject_ends[EVENTS_COUNT * 4], subjects_count;
static size_t json_total, wire_total;

static uint64_t run_view(void)
{
        uint64_t start = clock_thread_cpu_ns(), sum = 0;
        for (int pass = 0; pass < PASSES; pass++)
                for (size_t i = 0; i < EVENTS_COUNT; i++) {
                        if (codec_view_decode(encoded[i], &views[i], NULL) != ERR_OK)
                                abort();
                        sum += views[i].mail.len;
                }
        sink += sum;
        return clock_thread_cpu_ns() - start;
}

static uint64_t run_size(void)
{
        uint64_t start = clock_thread_cpu_ns(), sum = 0;
        for (int pass = 0; pass < PASSES; pass++)
                for (size_t i = 0; i < EVENTS_COUNT; i++)
                        sum += codec_event_size_max(&events[i].event);
        sink += sum;
        return clock_thread_cpu_ns() - start;
}

static uint64_t run_encode(void)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++) {
                size_t at = 0;
                for (size_t i = 0; i < EVENTS_COUNT; i++) {
                        size_t bytes;
                        if (codec_event_encode(&events[i].event, wire + at, EVENT_ROOM, &bytes, NULL) != ERR_OK)
                                abort();
                        encoded[i] = slice_of(wire + at, bytes);
                        at += (bytes + 15) & ~(size_t)7;
                }
        }
        return clock_thread_cpu_ns() - start;
}

static uint64_t run_wire_copy(void)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++) {
                size_t at = 0;
                for (size_t i = 0; i < EVENTS_COUNT; i++) {
                        memcpy(copy + at, encoded[i].ptr, encoded[i].len);
                        at += (encoded[i].len + 15) & ~(size_t)7;
                }
                sink += copy[at / 2];
        }
        return clock_thread_cpu_ns() - start;
}

static uint64_t run_json(void)
{
        static const struct codec_json_options options = {
                .account_id = {(const uint8_t *)"123456789012", 12},
                .region = {(const uint8_t *)"us-east-1", 9},
        };
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++) {
                size_t at = 0;
                for (size_t i = 0; i < EVENTS_COUNT; i++) {
                        size_t bytes = codec_json_encode(&views[i], &options, json + at, sizeof(json) - at);
                        if (bytes == 0)
                                abort();
                        at += bytes;
                        json[at++] = '\n';
                }
                json_total = at;
        }
        return clock_thread_cpu_ns() - start;
}

/* memcpy of the JSON in pieces of an event's size. */
static uint64_t run_json_copy(void)
{
        size_t piece = json_total / EVENTS_COUNT;
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++) {
                for (size_t at = 0; at + piece <= json_total; at += piece)
                        memcpy(copy + at, json + at, piece);
                sink += copy[json_total / 2];
        }
        return clock_thread_cpu_ns() - start;
}

static uint64_t run_base64(size_t *ret_characters)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++) {
                struct codec_base64 state = {.waiting_count = 0};
                size_t piece = json_total / EVENTS_COUNT, written = 0;
                for (size_t at = 0; at < json_total; at += piece) {
                        size_t bytes = json_total - at < piece ? json_total - at : piece;
                        written += codec_base64_append(&state, slice_of(json + at, bytes), text + written);
                }
                *ret_characters = written + codec_base64_finish(&state, text + written);
        }
        return clock_thread_cpu_ns() - start;
}

static uint64_t run_base64_decode(size_t characters)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++)
                if (codec_base64_decode(slice_of(text, characters), copy, sizeof(copy)) != json_total)
                        abort();
        return clock_thread_cpu_ns() - start;
}

static uint64_t run_json_string(size_t characters)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++)
                if (codec_json_string(slice_of(text, characters), copy, sizeof(copy)) != characters + 2)
                        abort();
        return clock_thread_cpu_ns() - start;
}

static uint64_t run_copy(const uint8_t *from, size_t bytes)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++) {
                memcpy(copy, from, bytes);
                sink += copy[(size_t)pass * 64];
        }
        return clock_thread_cpu_ns() - start;
}

static uint64_t run_utf8(void)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++)
                for (size_t i = 0, from = 0, to = 0; i < subjects_count; from = subject_ends[i++]) {
                        size_t bytes = subject_ends[i] - from;
                        if (codec_json_string(slice_of(subjects + from, bytes), copy + to, sizeof(copy) - to) !=
                            bytes + 2)
                                abort();
                        to += bytes + 3;
                }
        return clock_thread_cpu_ns() - start;
}

static uint64_t run_time(void)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++)
                for (size_t i = 0; i < EVENTS_COUNT; i++)
                        (void)codec_time_write(events[i].event.mail.timestamp_ms + pass * 86400007, copy + i * 24);
        sink += copy[100];
        return clock_thread_cpu_ns() - start;
}

/* Numbers of every length. */
static uint64_t run_u64(void)
{
        uint64_t start = clock_thread_cpu_ns(), sum = 0;
        for (int pass = 0; pass < PASSES; pass++)
                for (size_t i = 0; i < EVENTS_COUNT; i++)
                        sum += codec_u64_write(UINT64_C(0x9e3779b97f4a7c15) * (i + 1) >> (i * 7 % 64), copy + i * 24);
        sink += sum;
        return clock_thread_cpu_ns() - start;
}

/* ---------------------------------------------------------------------------------------------- others */

static uint64_t peer_view(void)
{
        msgpack_unpacked unpacked;
        msgpack_unpacked_init(&unpacked);
        uint64_t start = clock_thread_cpu_ns(), sum = 0;
        for (int pass = 0; pass < PASSES; pass++)
                for (size_t i = 0; i < EVENTS_COUNT; i++) {
                        size_t at = 0;
                        if (msgpack_unpack_next(&unpacked, (const char *)encoded[i].ptr, encoded[i].len, &at) !=
                            MSGPACK_UNPACK_SUCCESS)
                                abort();
                        sum += unpacked.data.via.map.size;
                }
        sink += sum;
        uint64_t ns = clock_thread_cpu_ns() - start;
        msgpack_unpacked_destroy(&unpacked);
        return ns;
}

static uint64_t peer_json(json_t *const *list, size_t count)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++)
                for (size_t i = 0, at = 0; i < count; i++)
                        at += json_dumpb(list[i], (char *)copy + at, sizeof(copy) - at,
                                         JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);
        sink += copy[64];
        return clock_thread_cpu_ns() - start;
}

static uint64_t peer_base64(void)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++) {
                size_t piece = json_total / EVENTS_COUNT / 3 * 3, written = 0;
                for (size_t at = 0; at < json_total; at += piece) {
                        size_t bytes = json_total - at < piece ? json_total - at : piece;
                        written += (size_t)EVP_EncodeBlock(copy + written, json + at, (int)bytes);
                }
                sink += written;
        }
        return clock_thread_cpu_ns() - start;
}

static uint64_t peer_base64_decode(size_t characters)
{
        uint64_t start = clock_thread_cpu_ns();
        for (int pass = 0; pass < PASSES; pass++)
                sink += (uint64_t)EVP_DecodeBlock(copy, text, (int)characters);
        return clock_thread_cpu_ns() - start;
}

/* Reads what was written in the warm-up, so that the others have it too. */
static void peers_prepare(size_t characters)
{
        static const char *const lines[] = {("\xce\x9d\xce\xad\xce\xb1 \xcf\x80\xcf\x81\xce\xbf\xcf\x83\xcf\x86"
                                             "\xce\xbf\xcf\x81\xce\xac"),
                                            ("\xe5\x9b\x9b\xe6\x9c\x88\xe3\x81\xae\xe3\x82\xbb\xe3\x83\xbc"
                                             "\xe3\x83\xab"),
                                            "News for April, and offers until Sunday"};
        const uint8_t *at = json;
        for (size_t i = 0; i < EVENTS_COUNT; i++) {
                const uint8_t *end = memchr(at, '\n', (size_t)(json + json_total - at));
                trees[i] = json_loadb((const char *)at, (size_t)(end - at), 0, NULL);
                if (trees[i] == NULL)
                        abort();
                at = end + 1;
        }
        text_trees[1] = json_array();
        while (subjects_bytes < sizeof(subjects) - 256) { /* of one to three lines */
                size_t from = subjects_bytes, i = subjects_count;
                for (size_t k = 0; k <= i % 3; k++) {
                        size_t bytes = strlen(lines[(i / 3 + k) % 3]);
                        memcpy(subjects + subjects_bytes, lines[(i / 3 + k) % 3], bytes);
                        subjects_bytes += bytes;
                }
                subject_ends[subjects_count++] = subjects_bytes;
                if (json_array_append_new(text_trees[1], json_stringn(subjects + from, subjects_bytes - from)) != 0)
                        abort();
        }
        text_trees[0] = json_stringn((const char *)text, characters);
        if (text_trees[0] == NULL || text_trees[1] == NULL)
                abort();
}

static double per_event(uint64_t ns)
{
        return (double)ns / (PASSES * EVENTS_COUNT);
}

static double gb_per_s(uint64_t ns, size_t bytes)
{
        return (double)bytes * PASSES / (double)ns;
}

static void run_round(size_t round)
{
        size_t characters;
        values[ENCODE_NS][round] = per_event(run_encode());
        values[SIZE_NS][round] = per_event(run_size());
        double wire_copy = per_event(run_wire_copy());
        values[VIEW_NS][round] = per_event(run_view());
        floors[VIEW_NS][round] = floors[ENCODE_NS][round] = floors[SIZE_NS][round] = wire_copy;
        uint64_t ns = run_json();
        values[JSON_OUT_GB_PER_S][round] = gb_per_s(ns, json_total);
        floors[JSON_OUT_GB_PER_S][round] = gb_per_s(run_json_copy(), json_total);
        ns = run_base64(&characters);
        values[BASE64_GB_PER_S][round] = gb_per_s(ns, json_total);
        floors[BASE64_GB_PER_S][round] = floors[JSON_OUT_GB_PER_S][round];
        ns = run_base64_decode(characters);
        values[BASE64_DECODE_GB_PER_S][round] = gb_per_s(ns, characters);
        floors[BASE64_DECODE_GB_PER_S][round] = gb_per_s(run_copy(text, characters), characters);
        ns = run_json_string(characters);
        values[JSON_STRING_GB_PER_S][round] = gb_per_s(ns, characters);
        floors[JSON_STRING_GB_PER_S][round] = floors[BASE64_DECODE_GB_PER_S][round];
        if (trees[0] == NULL)
                peers_prepare(characters);
        values[UTF8_STRING_GB_PER_S][round] = gb_per_s(run_utf8(), subjects_bytes);
        floors[UTF8_STRING_GB_PER_S][round] =
                gb_per_s(run_copy((const uint8_t *)subjects, subjects_bytes), subjects_bytes);
        values[TIME_NS][round] = per_event(run_time());
        values[U64_NS][round] = per_event(run_u64());
        floors[TIME_NS][round] = floors[U64_NS][round] = per_event(run_copy(text, (size_t)EVENTS_COUNT * 24));
        peers[VIEW_NS][round] = per_event(peer_view());
        peers[JSON_OUT_GB_PER_S][round] = gb_per_s(peer_json(trees, EVENTS_COUNT), json_total);
        peers[BASE64_GB_PER_S][round] = gb_per_s(peer_base64(), json_total);
        peers[BASE64_DECODE_GB_PER_S][round] = gb_per_s(peer_base64_decode(characters), characters);
        peers[JSON_STRING_GB_PER_S][round] = gb_per_s(peer_json(&text_trees[0], 1), characters);
        peers[UTF8_STRING_GB_PER_S][round] = gb_per_s(peer_json(&text_trees[1], 1), subjects_bytes);
}

int main(int argc, char **argv)
{
        size_t rounds = ROUNDS_DEFAULT;
        for (int i = 1; i < argc; i++) {
                uint64_t number;
                if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc &&
                    slice_to_u64(slice_of_text(argv[i + 1]), ROUNDS_MAX, &number) && number > 0) {
                        rounds = (size_t)number;
                        i++;
                } else if (strcmp(argv[i], "--simd") == 0 && i + 1 < argc) { /* at most, to compare */
                        i++;
                        codec_simd_limit(strcmp(argv[i], "none") == 0   ? CODEC_SIMD_NONE
                                         : strcmp(argv[i], "avx2") == 0 ? CODEC_SIMD_AVX2
                                                                        : CODEC_SIMD_AVX512);
                } else if (strcmp(argv[i], "--smoke") == 0) {
                        rounds = 3;
                } else if (strcmp(argv[i], "--json") != 0) { /* there is no other form */
                        (void)fprintf(stderr,
                                      "usage: codecs [--rounds N] [--smoke] [--json] [--simd none|avx2|avx512]\n");
                        return 2;
                }
        }
        struct random_state random;
        random_init(&random, 20261123);
        for (size_t i = 0; i < EVENTS_COUNT; i++)
                event_make(&events[i], &random, i);
        run_round(0);
        for (size_t i = 0; i < EVENTS_COUNT; i++)
                wire_total += encoded[i].len;
        for (size_t round = 0; round < rounds; round++)
                run_round(round);
        for (size_t i = 0; i < METRICS_COUNT; i++) {
                double value = figures_median(values[i], rounds), floor = figures_median(floors[i], rounds);
                bool is_rate = metric_infos[i].unit[0] == 'G';
                double best = values[i][is_rate ? rounds - 1 : 0]; /* figures_median() sorted them */
                printf("{\"bench\":\"codecs\",\"metric\":\"%s\",\"value\":%.3f,\"unit\":\"%s\",\"floor\":%.3f,"
                       "\"ratio\":%.3f,\"best\":%.3f,\"rounds\":%zu,\"wire_bytes\":%zu,\"json_bytes\":%zu",
                       metric_infos[i].name, value, metric_infos[i].unit, floor,
                       is_rate ? floor / value : value / floor, best, rounds, wire_total / EVENTS_COUNT,
                       json_total / EVENTS_COUNT);
                if (metric_infos[i].peer != NULL)
                        printf(",\"peer\":\"%s\",\"peer_value\":%.3f", metric_infos[i].peer,
                               figures_median(peers[i], rounds));
                printf("}\n");
        }
        return 0;
}
