/* Firehose: what does one request cost beside the floor that its bytes set?
 *
 * Method: events of about 838 bytes of JSON, all different, are packed into bodies of 4 MiB; each body is hashed and
 * signed. The floor does, on the same bytes, what nobody can avoid: one memcpy of the raw bytes, base64 in one go,
 * SHA-256 of as many bytes as the body has. Both alternate in one run, in thread CPU time; median and spread of RUNS
 * rounds. `hash_while_hot` asks whether hashing each 64 KiB right after it was written is cheaper than hashing the
 * finished body. Values are milliseconds of CPU per megabyte (10^6 bytes) of raw events.
 *
 * `sha256_cold` hashes bodies that have left the caches, as those of a router beside its producers have: per megabyte
 * of body; its floor is one body hashed again and again, `sha256_cold_plain` what OpenSSL alone makes of them.
 *
 * `gzip_...`: records that are gzip files, of the events of `sendring loadgen` (about 838 bytes, all different), since
 * what compresses must be like what is sent. The floor: igzip, level 1, of all lines of a record in one go, base64 and
 * SHA-256 of what that gave. Per megabyte of raw events, too. `gzip_level_0` is what igzip's other level costs, beside
 * level 1, both in one go; `gzip_ratio` how many times more bytes the records hold than they have, beside level 0's.
 *
 * Not measured: JSON encoding of the events, the network, TLS.
 *
 * usage: firehose [--json] [--smoke] */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "egress/firehose.h"
#include "base/clock.h"
#include "base/random.h"
#include "bench/figures.h"
#include "egress/sigv4.h"
#include "tools/loadgen_events.h"

#include <isa-l/igzip_lib.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENTS      8192u
#define EVENT_BYTES 838u
#define RUNS_MAX    31u
#define HOT_BYTES   (64u * 1024u)
#define COLD_BYTES  ((size_t)512 << 20) /* more than any cache */
#define COLD_RUNS   5u

static uint8_t events[EVENTS][1024];
static size_t events_len[EVENTS];
static uint8_t raw[LIMIT_FIREHOSE_CALL_BYTES_MAX];
static uint8_t bytes[LIMIT_FIREHOSE_CALL_BYTES_MAX + FIREHOSE_BODY_SLACK_BYTES];
static uint8_t floor_copy[LIMIT_FIREHOSE_CALL_BYTES_MAX];
static uint8_t floor_text[LIMIT_FIREHOSE_CALL_BYTES_MAX + FIREHOSE_BODY_SLACK_BYTES];
static struct firehose_body body;
static const struct firehose_limits limits = {LIMIT_FIREHOSE_RECORD_BYTES_MAX, LIMIT_FIREHOSE_EVENTS_PER_RECORD_MAX,
                                              LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX, UINT64_MAX};

static void bench_make_events(void)
{
        struct random_state random;
        random_init(&random, 20260102);
        for (uint32_t i = 0; i < EVENTS; i++) {
                int used = snprintf(
                        (char *)events[i], sizeof(events[i]),
                        "{\"eventType\":\"Delivery\",\"mail\":{\"timestamp\":\"2026-01-02T03:04:05.678Z\","
                        "\"messageId\":\"0100%012llx-%08llx-0000-4000-8000-%012llx-000000\",\"tags\":{\"campaign\":[\"",
                        (unsigned long long)random_below(&random, UINT64_C(1) << 48),
                        (unsigned long long)random_below(&random, UINT64_C(1) << 32),
                        (unsigned long long)random_below(&random, UINT64_C(1) << 48));
                size_t target = EVENT_BYTES - 64 + random_below(&random, 128);
                while ((size_t)used < target - 6)
                        events[i][used++] = (uint8_t)('a' + random_below(&random, 26));
                memcpy(events[i] + used, "\"]}}}", 5);
                events_len[i] = (size_t)used + 5;
        }
}

static void bench_fill(uint32_t *next, SHA256_CTX *hot)
{
        size_t hashed = 0;
        firehose_body_begin(&body, bytes, LIMIT_FIREHOSE_CALL_BYTES_MAX, SLICE("mail-events"), NULL);
        for (;;) {
                uint32_t i = *next % EVENTS;
                if (firehose_body_append(&body, &limits, slice_of(events[i], events_len[i])) != ERR_OK)
                        break;
                (*next)++;
                if (hot != NULL && body.len - hashed >= HOT_BYTES) {
                        (void)SHA256_Update(hot, bytes + hashed, body.len - hashed);
                        hashed = body.len;
                }
        }
        firehose_body_finish(&body);
        if (hot != NULL)
                (void)SHA256_Update(hot, bytes + hashed, body.len - hashed);
}

static void bench_print(const char *metric, double value, const char *unit, double floor)
{
        if (floor > 0)
                printf("{\"bench\":\"firehose\",\"metric\":\"%s\",\"value\":%.4g,\"unit\":\"%s\",\"floor\":%.4g,"
                       "\"ratio\":%.3g}\n",
                       metric, value, unit, floor, value / floor);
        else
                printf("{\"bench\":\"firehose\",\"metric\":\"%s\",\"value\":%.4g,\"unit\":\"%s\",\"floor\":null,"
                       "\"ratio\":null}\n",
                       metric, value, unit);
}

/* Whether `sigv4_sha256()` keeps up with memory. `cold_bytes` a multiple of a body's. */
static int bench_cold(size_t cold_bytes)
{
        enum { COLD, PLAIN, HOT, METRICS };
        double ms_per_mb[METRICS][COLD_RUNS];
        uint8_t *bodies = malloc(cold_bytes);
        if (bodies == NULL) {
                (void)fprintf(stderr, "no memory for %zu bytes\n", cold_bytes);
                return 1;
        }
        for (size_t at = 0; at < cold_bytes; at += LIMIT_FIREHOSE_CALL_BYTES_MAX)
                memcpy(bodies + at, floor_text, LIMIT_FIREHOSE_CALL_BYTES_MAX);
        uint8_t hash[METRICS][SIGV4_SHA256_BYTES];
        for (unsigned run = 0; run < COLD_RUNS; run++) {
                for (unsigned metric = 0; metric < METRICS; metric++) {
                        uint64_t begun_ns = clock_thread_cpu_ns();
                        for (size_t at = 0; at < cold_bytes; at += LIMIT_FIREHOSE_CALL_BYTES_MAX) {
                                const uint8_t *bytes_at = metric == HOT ? bodies : bodies + at;
                                if (metric == PLAIN)
                                        (void)SHA256(bytes_at, LIMIT_FIREHOSE_CALL_BYTES_MAX, hash[metric]);
                                else
                                        sigv4_sha256(slice_of(bytes_at, LIMIT_FIREHOSE_CALL_BYTES_MAX), hash[metric]);
                        }
                        ms_per_mb[metric][run] = (double)(clock_thread_cpu_ns() - begun_ns) / (double)cold_bytes;
                }
        }
        free(bodies);
        if (memcmp(hash[COLD], hash[PLAIN], SIGV4_SHA256_BYTES) != 0) {
                (void)fprintf(stderr, "the hashes of cold bodies differ\n");
                return 1;
        }
        double hot = figures_median(ms_per_mb[HOT], COLD_RUNS);
        bench_print("sha256_cold", figures_median(ms_per_mb[COLD], COLD_RUNS), "ms/MB", hot);
        bench_print("sha256_cold_plain", figures_median(ms_per_mb[PLAIN], COLD_RUNS), "ms/MB", hot);
        return 0;
}

/* ---------------------------------------------------------------------------------------------- compressed records */

#define GZIP_EVENTS 48000u /* more than one call takes */
#define GZIP_RUNS   15u

struct bench_lines {
        uint8_t *bytes; /* JSON, each with its newline */
        size_t at[GZIP_EVENTS + 1];
};

/* False: out of memory, or the generator and the codecs do not agree. */
static bool bench_make_lines(struct bench_lines *lines)
{
        static const char *const sets[] = {"set-0", "set-1", "set-2", "set-3", "set-4", "set-5", "set-6", "set-7"};
        const struct codec_json_options json = {.account_id = SLICE("123456789012"), .region = SLICE("us-east-1")};
        struct loadgen_events_options options = {.run_id = 1,
                                                 .seed = 1,
                                                 .size = LOADGEN_SIZE_STANDARD,
                                                 .sets = sets,
                                                 .sets_count = LOADGEN_SETS_DEFAULT};
        (void)loadgen_mix_parse("standard", options.permille); /* a name it knows */
        struct loadgen_events *generator = loadgen_events_create(&options);
        lines->bytes = malloc((size_t)GZIP_EVENTS * 2048);
        bool good = generator != NULL && lines->bytes != NULL;
        size_t at = 0;
        for (uint32_t i = 0; i < GZIP_EVENTS && good; i++) {
                uint8_t wire[4096];
                uint32_t set;
                size_t size;
                struct codec_view view;
                struct err err;
                const struct sendring_event *event =
                        loadgen_events_make(generator, i, INT64_C(1767323040000) + i / 50, &set);
                lines->at[i] = at;
                good = codec_event_encode(event, wire, sizeof(wire), &size, &err) == ERR_OK &&
                       codec_view_decode(slice_of(wire, size), &view, &err) == ERR_OK &&
                       (size = codec_json_encode(&view, &json, lines->bytes + at, 2047)) > 0;
                at += size;
                lines->bytes[at++] = '\n';
        }
        lines->at[GZIP_EVENTS] = at;
        loadgen_events_free(generator);
        return good;
}

/* igzip in one go; the gzip file's bytes. */
static size_t bench_igzip(uint32_t level, struct slice plain, uint8_t *out, size_t out_bytes)
{
        static struct isal_zstream stream;
        static uint8_t level_buffer[ISAL_DEF_LVL1_DEFAULT];
        isal_deflate_stateless_init(&stream);
        stream.gzip_flag = IGZIP_GZIP;
        stream.end_of_stream = 1;
        stream.level = level;
        stream.level_buf = level == 0 ? NULL : level_buffer;
        stream.level_buf_size = level == 0 ? 0 : sizeof(level_buffer);
        stream.next_in = (uint8_t *)(uintptr_t)plain.ptr; /* isa-l's parameter is not const; it only reads */
        stream.avail_in = (uint32_t)plain.len;
        stream.next_out = out;
        stream.avail_out = (uint32_t)out_bytes;
        return isal_deflate_stateless(&stream) == COMP_OK ? stream.total_out : 0;
}

/* The lines of the body's records, each in one go, one behind the other in `out`. 0: they do not fit. */
static size_t bench_igzip_records(uint32_t level, const struct bench_lines *lines, uint8_t *out, size_t out_bytes)
{
        uint32_t first = 0;
        size_t used = 0;
        for (uint32_t i = 0; i < body.records; first += body.index[i++].events) {
                struct slice plain = slice_of(lines->bytes + lines->at[first],
                                              lines->at[first + body.index[i].events] - lines->at[first]);
                size_t size = bench_igzip(level, plain, out + used, out_bytes - used);
                if (size == 0)
                        return 0;
                used += size;
        }
        return used;
}

static int bench_gzip(unsigned runs)
{
        enum { BUILD, HASH, TOTAL, IGZIP, IGZIP_0, BASE64, FLOOR, METRICS };
        static double ms_per_mb[METRICS][GZIP_RUNS];
        static struct bench_lines lines;
        static const struct firehose_limits gzip_limits = {LIMIT_FIREHOSE_RECORD_BYTES_MAX,
                                                           LIMIT_FIREHOSE_EVENTS_PER_GZIP_RECORD_MAX,
                                                           LIMIT_FIREHOSE_RECORDS_PER_CALL_MAX, UINT64_MAX};
        struct gzip_writer *writer = NULL;
        struct err err = {.text = "no memory, or no events"};
        if (!bench_make_lines(&lines) || gzip_writer_create(&writer, &err) != ERR_OK) {
                (void)fprintf(stderr, "%s\n", err.text);
                return 1;
        }
        size_t plain_bytes = 0, packed_0_bytes = 0;
        runs = runs < GZIP_RUNS ? runs : GZIP_RUNS;
        for (unsigned run = 0; run < runs + 1; run++) { /* one to warm up */
                double *out[METRICS];
                uint8_t sha256[SIGV4_SHA256_BYTES];
                for (unsigned i = 0; i < METRICS; i++)
                        out[i] = &ms_per_mb[i][run == 0 ? 0 : run - 1];
                uint32_t events_count = 0;
                uint64_t t0 = clock_thread_cpu_ns();
                firehose_body_begin(&body, bytes, LIMIT_FIREHOSE_CALL_BYTES_MAX, SLICE("mail-events"), writer);
                while (events_count < GZIP_EVENTS &&
                       firehose_body_append(&body, &gzip_limits,
                                            slice_of(lines.bytes + lines.at[events_count],
                                                     lines.at[events_count + 1] - lines.at[events_count] - 1)) ==
                               ERR_OK)
                        events_count++;
                firehose_body_finish(&body);
                uint64_t t1 = clock_thread_cpu_ns();
                sigv4_sha256(slice_of(body.bytes, body.len), sha256);
                uint64_t t2 = clock_thread_cpu_ns();
                plain_bytes = lines.at[events_count];

                uint64_t f0 = clock_thread_cpu_ns();
                size_t packed_bytes = bench_igzip_records(1, &lines, floor_copy, sizeof(floor_copy));
                uint64_t f1 = clock_thread_cpu_ns();
                struct codec_base64 base64 = {.waiting_count = 0};
                size_t text_bytes = codec_base64_append(&base64, slice_of(floor_copy, packed_bytes), floor_text);
                text_bytes += codec_base64_finish(&base64, floor_text + text_bytes);
                uint64_t f2 = clock_thread_cpu_ns();
                sigv4_sha256(slice_of(floor_text, text_bytes), sha256);
                uint64_t f3 = clock_thread_cpu_ns();
                packed_0_bytes = bench_igzip_records(0, &lines, floor_copy, sizeof(floor_copy));
                uint64_t f4 = clock_thread_cpu_ns();
                if (packed_bytes == 0 || packed_0_bytes == 0) {
                        (void)fprintf(stderr, "igzip needs more than a call's bytes\n");
                        return 1;
                }
                double per_mb = 1 / (double)plain_bytes; /* nanoseconds a byte are milliseconds a megabyte */
                *out[BUILD] = (double)(t1 - t0) * per_mb;
                *out[HASH] = (double)(t2 - t1) * per_mb;
                *out[TOTAL] = (double)(t2 - t0) * per_mb;
                *out[IGZIP] = (double)(f1 - f0) * per_mb;
                *out[BASE64] = (double)(f2 - f1) * per_mb;
                *out[FLOOR] = (double)(f3 - f0) * per_mb;
                *out[IGZIP_0] = (double)(f4 - f3) * per_mb;
        }
        gzip_writer_free(writer);
        double median[METRICS];
        for (unsigned i = 0; i < METRICS; i++)
                median[i] = figures_median(ms_per_mb[i], runs);
        bench_print("gzip_build_hash", median[TOTAL], "ms/MB", median[FLOOR]);
        bench_print("gzip_body_build", median[BUILD], "ms/MB", median[IGZIP] + median[BASE64]);
        bench_print("gzip_sha256", median[HASH], "ms/MB", 0);
        bench_print("gzip_level_0", median[IGZIP_0], "ms/MB", median[IGZIP]);
        bench_print("gzip_ratio", (double)plain_bytes / (double)body.raw_bytes, "times",
                    (double)plain_bytes / (double)packed_0_bytes);
        bench_print("gzip_events_per_call", body.events, "events", 0);
        free(lines.bytes);
        return 0;
}

int main(int argc, char **argv)
{
        unsigned runs = RUNS_MAX;
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--smoke") == 0) {
                        runs = 3;
                } else if (strcmp(argv[i], "--json") != 0) {
                        (void)fprintf(stderr, "usage: firehose [--json] [--smoke]\n");
                        return 64;
                }
        }
        bench_make_events();
        struct sigv4_signer *signer = NULL;
        struct err err;
        if (sigv4_signer_create(&signer, &err) != ERR_OK) {
                (void)fprintf(stderr, "%s\n", err.text);
                return 1;
        }
        const struct sigv4_credentials credentials = {SLICE("AKIDEXAMPLE"),
                                                      SLICE("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), SLICE_EMPTY};
        const struct sigv4_header headers[] = {
                {SLICE("host"), SLICE("firehose.us-east-1.amazonaws.com")},
                {SLICE("content-type"), SLICE("application/x-amz-json-1.1")},
                {SLICE("x-amz-target"), SLICE("Firehose_20150804.PutRecordBatch")},
        };
        enum { BUILD, HASH, SIGN, TOTAL, HOT, COPY, BASE64, FLOOR_HASH, FLOOR, METRICS };
        static double ms_per_mb[METRICS][RUNS_MAX];
        uint32_t next = 0;
        uint64_t events_total = 0;
        uint8_t work[SIGV4_SHA256_BYTES] = {
                0}; /* so that nothing is optimised away, and as the hash of the work done */
        for (unsigned run = 0; run < runs + 2; run++) { /* two to warm up */
                uint8_t sha256[SIGV4_SHA256_BYTES];
                struct sigv4_signature signature;
                double *out[METRICS];
                for (unsigned i = 0; i < METRICS; i++)
                        out[i] = &ms_per_mb[i][run < 2 ? 0 : run - 2];
                uint32_t first = next;
                uint64_t t0 = clock_thread_cpu_ns();
                bench_fill(&next, NULL);
                uint64_t t1 = clock_thread_cpu_ns();
                sigv4_sha256(slice_of(body.bytes, body.len), sha256);
                uint64_t t2 = clock_thread_cpu_ns();
                const struct sigv4_request request = {.method = SLICE("POST"),
                                                      .path = SLICE("/"),
                                                      .headers = headers,
                                                      .headers_count = 3,
                                                      .body_sha256 = sha256,
                                                      .normalize_path = true,
                                                      .double_encode_path = true};
                if (sigv4_sign(signer, &request, &credentials, SLICE("us-east-1"), SLICE("firehose"),
                               INT64_C(1767323040000) + run, &signature, &err) != ERR_OK) {
                        (void)fprintf(stderr, "%s\n", err.text);
                        return 1;
                }
                uint64_t t3 = clock_thread_cpu_ns();
                events_total += body.events;

                size_t raw_bytes = 0;
                for (uint32_t i = first; i < next; i++) {
                        memcpy(raw + raw_bytes, events[i % EVENTS], events_len[i % EVENTS]);
                        raw_bytes += events_len[i % EVENTS];
                        raw[raw_bytes++] = '\n';
                }
                uint64_t f0 = clock_thread_cpu_ns();
                memcpy(floor_copy, raw, raw_bytes);
                uint64_t f1 = clock_thread_cpu_ns();
                struct codec_base64 base64 = {.waiting_count = 0};
                size_t text_bytes = codec_base64_append(&base64, slice_of(floor_copy, raw_bytes), floor_text);
                text_bytes += codec_base64_finish(&base64, floor_text + text_bytes);
                uint64_t f2 = clock_thread_cpu_ns();
                sigv4_sha256(slice_of(floor_text, text_bytes), work);
                uint64_t f3 = clock_thread_cpu_ns();

                /* The same events again, hashed as they come. */
                SHA256_CTX hot;
                (void)SHA256_Init(&hot);
                uint32_t again = first;
                uint64_t h0 = clock_thread_cpu_ns();
                bench_fill(&again, &hot);
                (void)SHA256_Final(work, &hot);
                uint64_t h1 = clock_thread_cpu_ns();
                if (memcmp(work, sha256, sizeof(work)) != 0) {
                        (void)fprintf(stderr, "the two hashes differ\n");
                        return 1;
                }
                double per_mb = 1e-6 / ((double)raw_bytes * 1e-6);
                *out[BUILD] = (double)(t1 - t0) * per_mb;
                *out[HASH] = (double)(t2 - t1) * per_mb;
                *out[SIGN] = (double)(t3 - t2) * per_mb;
                *out[TOTAL] = (double)(t3 - t0) * per_mb;
                *out[HOT] = (double)(h1 - h0) * per_mb;
                *out[COPY] = (double)(f1 - f0) * per_mb;
                *out[BASE64] = (double)(f2 - f1) * per_mb;
                *out[FLOOR_HASH] = (double)(f3 - f2) * per_mb;
                *out[FLOOR] = (double)(f3 - f0) * per_mb;
        }
        double median[METRICS];
        for (unsigned i = 0; i < METRICS; i++)
                median[i] = figures_median(ms_per_mb[i], runs);
        bench_print("build_hash_sign", median[TOTAL], "ms/MB", median[FLOOR]);
        bench_print("build_hash_sign_low", ms_per_mb[TOTAL][runs / 10], "ms/MB", ms_per_mb[FLOOR][runs / 10]);
        bench_print("build_hash_sign_high", ms_per_mb[TOTAL][runs - 1 - runs / 10], "ms/MB",
                    ms_per_mb[FLOOR][runs - 1 - runs / 10]);
        bench_print("body_build", median[BUILD], "ms/MB", median[COPY] + median[BASE64]);
        bench_print("sha256", median[HASH], "ms/MB", median[FLOOR_HASH]);
        bench_print("sign", median[SIGN], "ms/MB", 0);
        bench_print("hash_while_hot", median[HOT], "ms/MB", median[BUILD] + median[HASH]);
        bench_print("events_built", (double)events_total, "events", 0);
        sigv4_signer_free(signer);
        if (bench_gzip(runs) != 0)
                return 1;
        return bench_cold(runs == RUNS_MAX ? COLD_BYTES : (size_t)4 * LIMIT_FIREHOSE_CALL_BYTES_MAX);
}
