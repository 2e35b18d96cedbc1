/* Firehose and CloudWatch as far as load and faults go: what a request holds is counted, the answer is what AWS would
 * say or what a bad day makes of it. That we speak AWS's protocol is judged elsewhere, by moto and botocore. */
#include "base/clock.h"
#include "tests/sim/sim.h"

#include <isa-l/igzip_lib.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIM_RECORD_MAX       (1024u * 1024u) /* as it comes; more than Firehose takes */
#define SIM_RECORD_LINES_MAX (64u * 1024u * 1024u)
#define SIM_GZIP_MIN         18u /* header and end */
#define SIM_CLOCK_OFF_S      (5 * 60)

struct sim_endpoint sim_endpoints[SIM_ENDPOINTS_MAX];
uint32_t sim_endpoints_count;
struct sim_signing sim_signing;

struct sim_endpoint *sim_endpoint_at(uint16_t port)
{
        for (uint32_t i = 0; i < sim_endpoints_count; i++)
                if (sim_endpoints[i].port == port)
                        return &sim_endpoints[i];
        sim_fail("a connection to port %u, where nobody is", (unsigned)port);
}

enum sim_connect sim_endpoint_connect(struct sim_endpoint *endpoint)
{
        if (endpoint->dead)
                return sim_chance(0.5) ? SIM_CONNECT_REFUSED : SIM_CONNECT_HANGS;
        if (sim_chance(endpoint->faults.refuse))
                return SIM_CONNECT_REFUSED;
        return sim_chance(endpoint->faults.hang) ? SIM_CONNECT_HANGS : SIM_CONNECT_OK;
}

bool sim_endpoint_breaks(struct sim_endpoint *endpoint)
{
        return endpoint->dead || sim_chance(endpoint->faults.reset_before);
}

/* ---------------------------------------------------------------------------------------------- answers */

static void answer_text(struct sim_answer *answer, const char *status, const char *fields, const char *body)
{
        static uint64_t requests;
        char *text = NULL;
        int len = asprintf(&text,
                           "HTTP/1.1 %s\r\nx-amzn-RequestId: 00000000-0000-4000-8000-%012llx\r\n"
                           "Content-Type: application/x-amz-json-1.1\r\n%sContent-Length: %zu\r\n\r\n%s",
                           status, (unsigned long long)++requests, fields, strlen(body), body);
        SIM_CHECK(len > 0);
        answer->bytes = (uint8_t *)text;
        answer->len = (size_t)len;
}

static void answer_error(struct sim_answer *answer, const char *status, const char *type)
{
        char body[200];
        (void)snprintf(body, sizeof(body), "{\"__type\":\"%s\",\"message\":\"simulated\"}", type); /* it fits */
        answer_text(answer, status, "", body);
}

/* One whole gzip file, and nothing behind it: what is in it, malloc'ed. */
static struct slice gunzip(struct slice file)
{
        static struct inflate_state inflate;
        uint32_t bytes;
        SIM_CHECK(file.len >= SIM_GZIP_MIN);
        memcpy(&bytes, file.ptr + file.len - sizeof(bytes), sizeof(bytes)); /* its end says how many */
        SIM_CHECK(bytes > 0 && bytes <= SIM_RECORD_LINES_MAX);
        uint8_t *content = malloc(bytes);
        SIM_CHECK(content != NULL);
        isal_inflate_init(&inflate);
        inflate.crc_flag = ISAL_GZIP;
        inflate.next_in = (uint8_t *)(uintptr_t)file.ptr; /* isa-l's parameter is not const; it only reads */
        inflate.avail_in = (uint32_t)file.len;
        inflate.next_out = content;
        inflate.avail_out = bytes;
        int code = isal_inflate(&inflate);
        if (code != ISAL_DECOMP_OK || inflate.block_state != ISAL_BLOCK_FINISH || inflate.avail_in != 0 ||
            inflate.avail_out != 0)
                sim_fail("a record of %zu bytes is no gzip file of %u: code %d, %u and %u bytes left", file.len, bytes,
                         code, inflate.avail_in, inflate.avail_out);
        return slice_of(content, bytes);
}

/* Every id in the lines of one record. */
static void firehose_take_lines(struct sim_endpoint *endpoint, struct slice lines)
{
        static const char field[] = "\"messageId\":\"id-";
        const uint8_t *at = lines.ptr, *end = at + lines.len;
        uint32_t found = 0;
        SIM_CHECK(lines.len > 0 && end[-1] == '\n');
        while ((at = memmem(at, (size_t)(end - at), field, sizeof(field) - 1)) != NULL) {
                at += sizeof(field) - 1;
                unsigned long id = strtoul((const char *)at, NULL, 10);
                SIM_CHECK(id < endpoint->events_max);
                endpoint->received[id]++;
                endpoint->taken_events++;
                found++;
                /* commonHeaders has it again: the rest of the line is the same event. */
                at = memchr(at, '\n', (size_t)(end - at));
                SIM_CHECK(at != NULL);
        }
        SIM_CHECK(found > 0);
}

static void firehose_take(struct sim_endpoint *endpoint, const char *base64, size_t base64_len)
{
        static uint8_t record[SIM_RECORD_MAX];
        SIM_CHECK(base64_len >= 4 && base64_len % 4 == 0 && base64_len / 4 * 3 < sizeof(record));
        int decoded = EVP_DecodeBlock(record, (const unsigned char *)base64, (int)base64_len);
        SIM_CHECK(decoded > 0);
        /* With zeros for the padding. */
        size_t padding = base64[base64_len - 1] != '=' ? 0 : base64[base64_len - 2] != '=' ? 1 : 2;
        struct slice data = slice_of(record, (size_t)decoded - padding);
        bool gzip = data.len > 2 && data.ptr[0] == 0x1f && data.ptr[1] == 0x8b;
        if (gzip ? !endpoint->takes_gzip : !endpoint->takes_plain)
                sim_fail("%s got a record that is %s", endpoint->name, gzip ? "compressed" : "not compressed");
        struct slice lines = gzip ? gunzip(data) : data;
        firehose_take_lines(endpoint, lines);
        if (gzip)
                free((void *)(uintptr_t)lines.ptr); /* gunzip() made it */
}

static void firehose_request(struct sim_endpoint *endpoint, struct slice body, struct sim_answer *answer)
{
        static const char field[] = "\"Data\":\"";
        char *text = NULL;
        size_t text_len = 0;
        uint32_t refused = 0, records = 0;
        bool partial = sim_chance(endpoint->faults.partial);
        bool throttled = sim_chance(0.5);
        FILE *out = open_memstream(&text, &text_len);
        SIM_CHECK(out != NULL);
        const char *at = (const char *)body.ptr, *end = at + body.len;
        while ((at = memmem(at, (size_t)(end - at), field, sizeof(field) - 1)) != NULL) {
                at += sizeof(field) - 1;
                const char *quote = memchr(at, '"', (size_t)(end - at));
                SIM_CHECK(quote != NULL);
                (void)fputs(records == 0 ? "" : ",", out);
                records++;
                if (partial && sim_chance(0.3)) {
                        (void)fprintf(out, "{\"ErrorCode\":\"%s\",\"ErrorMessage\":\"simulated\"}",
                                      throttled ? "ServiceUnavailableException" : "InternalFailure");
                        refused++;
                } else {
                        (void)fputs("{\"RecordId\":\"1\"}", out);
                        firehose_take(endpoint, at, (size_t)(quote - at));
                }
                at = quote;
        }
        SIM_CHECK(records > 0 && records <= 500);
        (void)fclose(out);
        char *whole = NULL;
        SIM_CHECK(asprintf(&whole, "{\"FailedPutCount\":%u,\"Encrypted\":false,\"RequestResponses\":[%s]}", refused,
                           text) > 0);
        answer_text(answer, "200 OK", "", whole);
        free(whole);
        free(text);
}

static void cloudwatch_request(struct sim_endpoint *endpoint, struct slice body, struct sim_answer *answer)
{
        json_t *root = json_loadb((const char *)body.ptr, body.len, 0, NULL);
        json_t *data = json_object_get(root, "MetricData");
        size_t index;
        json_t *datum;
        SIM_CHECK(json_array_size(data) > 0 && json_array_size(data) <= 1000);
        json_array_foreach(data, index, datum)
        {
                json_t *count = json_array_get(json_object_get(datum, "Counts"), 0);
                SIM_CHECK(json_number_value(count) >= 1);
                answer->counted += (uint64_t)json_number_value(count);
        }
        json_decref(root);
        endpoint->counted += answer->counted;
        answer_text(answer, "200 OK", "", "{}");
}

/* An answer that takes nothing. False: none of these. */
static bool refuse(struct sim_endpoint *endpoint, struct sim_answer *answer)
{
        const struct sim_request_faults *faults = &endpoint->faults;
        if (sim_chance(faults->error_500))
                answer_error(answer, "500 Internal Server Error", "InternalFailure");
        else if (sim_chance(faults->error_503_bare))
                answer_text(answer, "503 Service Unavailable", "Retry-After: 1\r\n", "<html>busy</html>");
        else if (sim_chance(faults->throttle))
                answer_error(answer, "400 Bad Request", "ThrottlingException");
        else if (sim_chance(faults->garbage))
                answer_text(answer, "400 Bad Request", "", "\xff\xfe not json at all {{{");
        else if (sim_chance(faults->not_found))
                answer_error(answer, "400 Bad Request", "ResourceNotFoundException");
        else if (sim_chance(faults->denied))
                answer_error(answer, "400 Bad Request", "AccessDeniedException");
        else if (sim_chance(faults->expired_token))
                answer_error(answer, "400 Bad Request", "ExpiredTokenException");
        else if (sim_chance(faults->skew))
                answer_error(answer, "403 Forbidden", "InvalidSignatureException");
        else
                return false;
        return true;
}

/* Of "X-Amz-Date: 20260101T000000Z", as the seconds of its day, which is that of the whole run and of those beside it.
 */
static int64_t signed_at_s(struct slice head)
{
        static const char field[] = "X-Amz-Date: ";
        const char *at = memmem(head.ptr, head.len, field, sizeof(field) - 1);
        unsigned year, month, day, hour, minute, second;
        SIM_CHECK(at != NULL);
        SIM_CHECK(sscanf(at + sizeof(field) - 1, "%4u%2u%2uT%2u%2u%2uZ", &year, &month, &day, &hour, &minute,
                         &second) == 6);
        struct tm parts = {.tm_year = (int)year - 1900,
                           .tm_mon = (int)month - 1,
                           .tm_mday = (int)day,
                           .tm_hour = (int)hour,
                           .tm_min = (int)minute,
                           .tm_sec = (int)second};
        return (int64_t)timegm(&parts);
}

/* Old keys, or a clock that is not ours; as AWS, which says what time it is. */
static bool refuse_signature(struct slice head, struct sim_answer *answer)
{
        static const char field[] = "Credential=AKID";
        if (!sim_signing.checked)
                return false;
        const char *key = memmem(head.ptr, head.len, field, sizeof(field) - 1);
        SIM_CHECK(key != NULL);
        const int64_t now_s = sim_clock_true_ms() / 1000, off_s = signed_at_s(head) - now_s;
        if (off_s < -SIM_CLOCK_OFF_S || off_s > SIM_CLOCK_OFF_S) {
                char date[80];
                struct tm parts;
                SIM_CHECK(gmtime_r(&(time_t){(time_t)now_s}, &parts) != NULL &&
                          strftime(date, sizeof(date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts) > 0);
                answer_text(answer, "400 Bad Request", date,
                            off_s < 0 ? "{\"__type\":\"InvalidSignatureException\",\"message\":\"Signature expired: "
                                        "simulated\"}"
                                      : "{\"__type\":\"InvalidSignatureException\",\"message\":\"Signature not yet "
                                        "current: simulated\"}");
                return true;
        }
        if (strtoul(key + sizeof(field) - 1, NULL, 10) >= sim_signing.key_oldest)
                return false;
        answer_error(answer, "400 Bad Request",
                     sim_signing.says_unknown ? "UnrecognizedClientException" : "ExpiredTokenException");
        return true;
}

void sim_endpoint_request(struct sim_endpoint *endpoint, struct slice head, struct slice body,
                          struct sim_answer *ret_answer)
{
        const struct sim_request_faults *faults = &endpoint->faults;
        endpoint->requests++;
        *ret_answer = (struct sim_answer){.after_ns = sim_below(20 * CLOCK_NS_PER_MS)};
        if (sim_chance(faults->slow))
                ret_answer->after_ns = sim_below(40 * CLOCK_NS_PER_S);
        if (refuse_signature(head, ret_answer) || refuse(endpoint, ret_answer))
                return;
        bool silent = sim_chance(faults->silent);
        if (silent && sim_chance(0.5))
                return; /* not taken either; the connection just stays */
        if (endpoint->service == SIM_FIREHOSE)
                firehose_request(endpoint, body, ret_answer);
        else
                cloudwatch_request(endpoint, body, ret_answer);
        bool lost = sim_chance(faults->reset_after);
        if (silent || lost) {
                free(ret_answer->bytes);
                ret_answer->bytes = NULL;
                ret_answer->len = 0;
                ret_answer->reset = lost;
        } else if (sim_chance(faults->cut_answer)) {
                ret_answer->len = sim_below(ret_answer->len);
                ret_answer->reset = true;
        } else if (sim_chance(faults->twice)) {
                uint8_t *both = realloc(ret_answer->bytes, 2 * ret_answer->len);
                SIM_CHECK(both != NULL);
                memcpy(both + ret_answer->len, both, ret_answer->len);
                ret_answer->bytes = both;
                ret_answer->len *= 2;
                ret_answer->twice = true;
        }
}
