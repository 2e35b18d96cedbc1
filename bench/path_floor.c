#include "bench/path_floor.h"

#include "base/clock.h"
#include "base/vector.h"
#include "codecs/codec.h"
#include "tools/loadgen_events.h"

#include <arpa/inet.h>
#include <errno.h>
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCKS           6u
#define BLOCK_EVENTS     3750u /* of about 838 bytes of JSON: 4 MiB of base64, without gzip one full request */
#define EVENTS           (BLOCKS * BLOCK_EVENTS)
#define PIECE_EVENTS     125u  /* 102 KiB of JSON: with all it comes from and turns into 400 KiB, a level-2 cache */
#define WIRE_ROOM        2048u /* of one event; the generator's stay far below */
#define JSON_ROOM        4096u
#define JSON_PIECE_BYTES ((size_t)PIECE_EVENTS * JSON_ROOM)
#define TEXT_BLOCK_BYTES ((size_t)BLOCK_EVENTS * 2048) /* an event of 1,500 bytes would still fit */
#define TLS_RECORD_BYTES 16384u
#define TLS_HEADER_BYTES 5u
#define TLS_TAG_BYTES    16u
#define TLS_IV_BYTES     12u
/* A record's header, its hidden type byte and its tag. */
#define TLS_OVERHEAD_BYTES (TLS_HEADER_BYTES + 1 + TLS_TAG_BYTES)
#define SENT_BYTES         (SEND_PIECE_RECORDS * (TLS_RECORD_BYTES + TLS_OVERHEAD_BYTES))
#define SEND_PIECE_RECORDS 15u /* what 256 KiB of ciphertext have room for: a send of the router */
#define READ_BYTES         ((size_t)256 * 1024)

struct path_floor {
        uint8_t *wire; /* the events, 8-aligned as in a lane */
        size_t wire_bytes, wire_sum, json_sum;
        struct slice events[EVENTS];
        struct codec_view views[EVENTS];
        uint8_t *journal; /* as large as wire */
        uint8_t *json, *text, *sent;
        bool gzip;
        uint8_t *packed; /* JSON_PIECE_BYTES */
        struct isal_zstream stream;
        uint8_t level[ISAL_DEF_LVL1_DEFAULT];
        uint64_t crc_sum; /* keeps the checksums alive */
        EVP_MD *sha256;
        EVP_MD_CTX *sha256_context;
        EVP_CIPHER_CTX *cipher_context;
        uint64_t records;
        int send_fd, read_fd;
        pthread_t reader;
        bool reading;
};

/* ---------------------------------------------------------------------------------------------- the peer */

static void *path_floor_read(void *argument)
{
        const struct path_floor *floor = argument;
        uint8_t *bytes = malloc(READ_BYTES);
        while (bytes != NULL) {
                ssize_t got = recv(floor->read_fd, bytes, READ_BYTES, 0);
                if (got == 0 || (got < 0 && errno != EINTR))
                        break;
        }
        free(bytes);
        return NULL;
}

static enum err_code path_floor_connect(struct path_floor *floor, struct err *reterr)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        socklen_t address_bytes = sizeof(address);
        enum err_code code = ERR_OK;
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        floor->send_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (listener < 0 || floor->send_fd < 0 ||
            bind(listener, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0 ||
            getsockname(listener, (struct sockaddr *)&address, &address_bytes) < 0 ||
            connect(floor->send_fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
            (floor->read_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
                code = err_set_errno(reterr, ERR_SYSTEM, errno, "cannot connect over loopback");
        if (listener >= 0)
                (void)close(listener);
        if (code != ERR_OK)
                return code;
        int failed = pthread_create(&floor->reader, NULL, path_floor_read, floor);
        if (failed != 0)
                return err_set_errno(reterr, ERR_SYSTEM, failed, "cannot start the reading thread");
        floor->reading = true;
        return ERR_OK;
}

/* ---------------------------------------------------------------------------------------------- life */

static enum err_code path_floor_make_events(struct path_floor *floor, struct err *reterr)
{
        static const char *const sets[LOADGEN_SETS_DEFAULT] = {"set-0", "set-1", "set-2", "set-3",
                                                               "set-4", "set-5", "set-6", "set-7"};
        struct loadgen_events_options options = {.run_id = 1,
                                                 .seed = 1,
                                                 .size = LOADGEN_SIZE_STANDARD,
                                                 .sets = sets,
                                                 .sets_count = LOADGEN_SETS_DEFAULT};
        (void)loadgen_mix_parse("standard", options.permille); /* a name it knows */
        struct loadgen_events *generator = loadgen_events_create(&options);
        if (generator == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for events");
        enum err_code code = ERR_OK;
        int64_t now_ms = clock_realtime_ms();
        for (uint32_t i = 0; i < EVENTS && code == ERR_OK; i++) {
                uint32_t set;
                size_t bytes = 0;
                const struct sendring_event *event = loadgen_events_make(generator, i, now_ms, &set);
                uint8_t *at = floor->wire + floor->wire_bytes;
                code = codec_event_encode(event, at, WIRE_ROOM, &bytes, reterr);
                if (code != ERR_OK)
                        break;
                floor->events[i] = slice_of(at, bytes);
                uint8_t *copy = floor->journal + floor->wire_bytes;
                memcpy(copy, at, bytes); /* what every round copies there again */
                floor->wire_sum += bytes;
                floor->wire_bytes += (bytes + 15) & ~(size_t)7; /* a header, and padded */
                code = codec_view_decode(slice_of(copy, bytes), &floor->views[i], reterr);
        }
        loadgen_events_free(generator);
        return code;
}

enum err_code path_floor_create(uint32_t aes_bits, bool gzip, struct path_floor **ret_floor, struct err *reterr)
{
        struct path_floor *floor = calloc(1, sizeof(*floor));
        if (floor == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for the floor");
        static const uint8_t key[32] = {7};
        enum err_code code = ERR_OK;
        floor->send_fd = floor->read_fd = -1;
        floor->gzip = gzip;
        floor->wire = malloc((size_t)EVENTS * WIRE_ROOM);
        floor->journal = malloc((size_t)EVENTS * WIRE_ROOM);
        floor->json = malloc(JSON_PIECE_BYTES);
        floor->packed = malloc(JSON_PIECE_BYTES);
        floor->text = malloc(TEXT_BLOCK_BYTES);
        floor->sent = malloc(SENT_BYTES);
        floor->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
        floor->sha256_context = EVP_MD_CTX_new();
        floor->cipher_context = EVP_CIPHER_CTX_new();
        if (floor->wire == NULL || floor->journal == NULL || floor->json == NULL || floor->packed == NULL ||
            floor->text == NULL || floor->sent == NULL || floor->sha256 == NULL || floor->sha256_context == NULL ||
            floor->cipher_context == NULL ||
            EVP_EncryptInit_ex(floor->cipher_context, aes_bits == 256 ? EVP_aes_256_gcm() : EVP_aes_128_gcm(), NULL,
                               key, NULL) != 1)
                code = err_set(reterr, ERR_MEMORY, "out of memory for the floor");
        if (code == ERR_OK)
                code = path_floor_make_events(floor, reterr);
        if (code == ERR_OK)
                code = path_floor_connect(floor, reterr);
        if (code != ERR_OK) {
                path_floor_free(floor);
                return code;
        }
        *ret_floor = floor;
        return ERR_OK;
}

void path_floor_free(struct path_floor *floor)
{
        if (floor == NULL)
                return;
        if (floor->send_fd >= 0)
                (void)close(floor->send_fd); /* ends the reader */
        if (floor->reading)
                (void)pthread_join(floor->reader, NULL);
        if (floor->read_fd >= 0)
                (void)close(floor->read_fd);
        EVP_CIPHER_CTX_free(floor->cipher_context);
        EVP_MD_CTX_free(floor->sha256_context);
        EVP_MD_free(floor->sha256);
        free(floor->sent);
        free(floor->text);
        free(floor->packed);
        free(floor->json);
        free(floor->journal);
        free(floor->wire);
        free(floor);
}

double path_floor_wire_bytes(const struct path_floor *floor)
{
        return (double)floor->wire_sum / EVENTS;
}

double path_floor_json_bytes(const struct path_floor *floor)
{
        return (double)floor->json_sum / EVENTS;
}

/* ---------------------------------------------------------------------------------------------- one block */

struct path_floor_stopwatch {
        uint64_t at_ns;
        uint64_t ns[PATH_FLOOR_PARTS];
};

static void path_floor_lap(struct path_floor_stopwatch *stopwatch, enum path_floor_part part)
{
        uint64_t now_ns = clock_thread_cpu_ns();
        stopwatch->ns[part] += now_ns - stopwatch->at_ns;
        stopwatch->at_ns = now_ns;
}

static uint8_t *path_floor_copy_of(const struct path_floor *floor, uint32_t event)
{
        return floor->journal + (floor->events[event].ptr - floor->wire);
}

/* Lines of JSON. Returns their bytes, 0 when there is not the room. */
static size_t path_floor_json(struct path_floor *floor, uint32_t first)
{
        const struct codec_json_options options = {.account_id = SLICE("123456789012"), .region = SLICE("us-east-1")};
        size_t at = 0;
        for (uint32_t i = first; i < first + PIECE_EVENTS; i++) {
                size_t bytes = codec_json_encode(&floor->views[i], &options, floor->json + at, JSON_ROOM - 1);
                if (bytes == 0)
                        return 0;
                at += bytes;
                floor->json[at++] = '\n';
        }
        return at;
}

/* TLS 1.3 records of at most SEND_PIECE_RECORDS * TLS_RECORD_BYTES of text. Returns their bytes, 0 when OpenSSL failed.
 */
static size_t path_floor_encrypt(struct path_floor *floor, struct slice text)
{
        EVP_CIPHER_CTX *context = floor->cipher_context;
        uint8_t *out = floor->sent;
        for (size_t at = 0; at < text.len; at += TLS_RECORD_BYTES) {
                static const uint8_t type = 23;
                size_t bytes = text.len - at < TLS_RECORD_BYTES ? text.len - at : TLS_RECORD_BYTES;
                size_t inner = bytes + 1 + TLS_TAG_BYTES;
                uint8_t iv[TLS_IV_BYTES] = {0};
                int written;
                floor->records++;
                memcpy(iv, &floor->records, sizeof(floor->records));
                const uint8_t header[TLS_HEADER_BYTES] = {23, 3, 3, (uint8_t)(inner >> 8), (uint8_t)inner};
                memcpy(out, header, sizeof(header));
                out += sizeof(header);
                if (EVP_EncryptInit_ex(context, NULL, NULL, NULL, iv) != 1 ||
                    EVP_EncryptUpdate(context, NULL, &written, header, sizeof(header)) != 1 ||
                    EVP_EncryptUpdate(context, out, &written, text.ptr + at, (int)bytes) != 1 ||
                    EVP_EncryptUpdate(context, out + bytes, &written, &type, 1) != 1 ||
                    EVP_EncryptFinal_ex(context, out + bytes + 1, &written) != 1 ||
                    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, (int)TLS_TAG_BYTES, out + bytes + 1) != 1)
                        return 0;
                out += inner;
        }
        return (size_t)(out - floor->sent);
}

static bool path_floor_send(const struct path_floor *floor, size_t bytes)
{
        for (size_t at = 0; at < bytes;) {
                ssize_t sent = send(floor->send_fd, floor->sent + at, bytes - at, MSG_NOSIGNAL);
                if (sent < 0 && errno != EINTR)
                        return false;
                at += sent > 0 ? (size_t)sent : 0;
        }
        return true;
}

/* The lines, or with compression what the block's stream has of them, flushed. Empty: igzip failed. */
static struct slice path_floor_pack(struct path_floor *floor, size_t json_bytes)
{
        struct isal_zstream *stream = &floor->stream;
        if (!floor->gzip)
                return slice_of(floor->json, json_bytes);
        stream->next_in = floor->json;
        stream->avail_in = (uint32_t)json_bytes;
        stream->next_out = floor->packed;
        stream->avail_out = JSON_PIECE_BYTES;
        int failed = isal_deflate(stream);
        vector_clear_uppers();
        return failed == COMP_OK && stream->avail_in == 0
                       ? slice_of(floor->packed, JSON_PIECE_BYTES - stream->avail_out)
                       : SLICE_EMPTY;
}

/* Events into the body `floor->text`, whose hash goes on. Adds to *text_bytes. */
static bool path_floor_build(struct path_floor *floor, struct path_floor_stopwatch *stopwatch, uint32_t first,
                             struct codec_base64 *base64, size_t *text_bytes)
{
        for (uint32_t i = first; i < first + PIECE_EVENTS; i++)
                memcpy(path_floor_copy_of(floor, i), floor->events[i].ptr, floor->events[i].len);
        path_floor_lap(stopwatch, PATH_FLOOR_MEMCPY);
        for (uint32_t i = first; i < first + PIECE_EVENTS; i++)
                floor->crc_sum += crc32_iscsi(path_floor_copy_of(floor, i), (int)floor->events[i].len, 0);
        vector_clear_uppers();
        path_floor_lap(stopwatch, PATH_FLOOR_CRC32C);
        size_t json_bytes = path_floor_json(floor, first);
        path_floor_lap(stopwatch, PATH_FLOOR_JSON);
        if (json_bytes == 0 || TEXT_BLOCK_BYTES - *text_bytes < CODEC_BASE64_SIZE(json_bytes) + 64)
                return false;
        struct slice lines = path_floor_pack(floor, json_bytes);
        path_floor_lap(stopwatch, PATH_FLOOR_GZIP);
        uint8_t *text = floor->text + *text_bytes;
        size_t written = codec_base64_append(base64, lines, text);
        path_floor_lap(stopwatch, PATH_FLOOR_BASE64);
        bool hashed = EVP_DigestUpdate(floor->sha256_context, text, written) == 1;
        path_floor_lap(stopwatch, PATH_FLOOR_SHA256);
        *text_bytes += written;
        floor->json_sum += json_bytes - PIECE_EVENTS; /* without the line ends */
        return hashed && lines.len > 0;
}

/* Adds the block's nanoseconds. */
static bool path_floor_block(struct path_floor *floor, struct path_floor_stopwatch *stopwatch, uint32_t first)
{
        uint8_t hash[EVP_MAX_MD_SIZE];
        struct codec_base64 base64 = {.waiting_count = 0};
        size_t text_bytes = 0;
        bool ok = EVP_DigestInit_ex(floor->sha256_context, floor->sha256, NULL) == 1;
        isal_deflate_init(&floor->stream);
        floor->stream.gzip_flag = IGZIP_GZIP;
        floor->stream.flush = SYNC_FLUSH;
        floor->stream.level = 1;
        floor->stream.level_buf = floor->level;
        floor->stream.level_buf_size = sizeof(floor->level);
        stopwatch->at_ns = clock_thread_cpu_ns();
        for (uint32_t piece = 0; piece < BLOCK_EVENTS && ok; piece += PIECE_EVENTS)
                ok = path_floor_build(floor, stopwatch, first + piece, &base64, &text_bytes);
        ok = ok && EVP_DigestFinal_ex(floor->sha256_context, hash, NULL) == 1;
        path_floor_lap(stopwatch, PATH_FLOOR_SHA256);
        text_bytes += codec_base64_finish(&base64, floor->text + text_bytes); /* 4 bytes at most, not hashed */
        const size_t piece_bytes = (size_t)SEND_PIECE_RECORDS * TLS_RECORD_BYTES;
        for (size_t at = 0; at < text_bytes && ok; at += piece_bytes) {
                size_t bytes = text_bytes - at < piece_bytes ? text_bytes - at : piece_bytes;
                size_t sent_bytes = path_floor_encrypt(floor, slice_of(floor->text + at, bytes));
                path_floor_lap(stopwatch, PATH_FLOOR_AES_GCM);
                ok = sent_bytes > 0 && path_floor_send(floor, sent_bytes);
                path_floor_lap(stopwatch, PATH_FLOOR_SEND);
        }
        return ok;
}

enum err_code path_floor_round(struct path_floor *floor, double ret_ns[PATH_FLOOR_PARTS], struct err *reterr)
{
        struct path_floor_stopwatch stopwatch = {0};
        floor->json_sum = 0;
        for (uint32_t block = 0; block < BLOCKS; block++)
                if (!path_floor_block(floor, &stopwatch, block * BLOCK_EVENTS))
                        return err_set_errno(reterr, ERR_SYSTEM, errno, "the floor could not be measured");
        for (int part = 0; part < PATH_FLOOR_PARTS; part++)
                ret_ns[part] = (double)stopwatch.ns[part] / EVENTS;
        return ERR_OK;
}
